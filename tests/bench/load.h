/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "bench/hist.h"
#include "front/front.h"

/* The load generator: ports of a switch, each a front end of its own, driven by one thread. Ports work in pairs: 0 with
 * 1, 2 with 3. A stream is what one transmit queue sends to the partner. */

#define LOAD_PORTS_MAX    64
#define LOAD_BURST        32
#define LOAD_SIZE_MIN     60
#define LOAD_SIZE_MAX     65549  /* an IPv4 packet of 65,535 bytes, and its Ethernet header */
#define LOAD_SIZE_IMIX    0      /* 60, 590 and 1514 bytes, 7 : 4 : 1 */
#define LOAD_STREAM_HELLO 0xffff /* of frames that only introduce their sender */

struct load_conf {
	const char *path[LOAD_PORTS_MAX];
	unsigned ports;
	bool listen;
	unsigned size; /* of a frame, without FCS; or LOAD_SIZE_IMIX */
	unsigned gso;  /* nonzero: frames are TCP, to be cut into segments of so much payload by whoever needs that */
	unsigned pairs, ring, piece;
	unsigned flight; /* frames on their way in each direction, at most; over all queues of a port */
	uint64_t required, wanted;
	bool check;        /* whole frames, not only length and tag */
	bool marks;        /* standard input says when to report, and its end when to end */
	double seconds;    /* without marks */
	double pace;       /* frames a second over all streams; 0: as many as come round. Nonzero measures latency. */
	unsigned gap_us;   /* idle time before each frame of pingpong */
	int cpu, peer_cpu; /* to run on; -1: anywhere. The peer is the other thread of mode eventfd. */
};

/* A frame carries this behind its headers: if those are of UDP, in the first cache line of its buffer, with the
 * addresses. */
struct load_tag {
	uint32_t seq;
	uint16_t stream;
	uint16_t len_low; /* of the frame */
};
#define LOAD_UDP_AT      42
#define LOAD_TCP_AT      66 /* with timestamps, as Linux sends it */
#define LOAD_TIME_OFF    8  /* behind the tag, in paced frames: when they were sent, nanoseconds */
#define LOAD_TRAILER_OFF 16 /* what is behind it follows from the place */

static inline unsigned load_tag_at(const struct load_conf *c)
{
	return c->gso ? LOAD_TCP_AT : LOAD_UDP_AT;
}

struct load_stream {
	struct front_queue *tx;
	uint32_t sent;     /* sequence number of the next one */
	uint32_t expected; /* by the receiver */
	uint32_t credit;   /* frames that may be sent now */
	uint32_t seen_at;  /* `expected` when the loss timer looked last */
};

struct load_counts {
	uint64_t sent, received, bytes;
	uint64_t lost;  /* never came */
	uint64_t late;  /* came after being given up, or twice */
	uint64_t stray; /* not for this port: flooded ones */
	uint64_t bad;   /* wrong length or contents */
};

struct load {
	struct load_conf conf;
	struct front *port[LOAD_PORTS_MAX];
	struct load_stream stream[LOAD_PORTS_MAX * FRONT_PAIRS_MAX];
	uint8_t *expected; /* what a frame looks like behind its tag, longest first */
	struct load_counts counts;
	struct hist latency;
};

static inline unsigned load_streams(const struct load *l)
{
	return l->conf.ports * l->conf.pairs;
}

static inline unsigned load_partner(const struct load *l, unsigned stream)
{
	return (stream / l->conf.pairs) ^ 1u;
}

/* Frames (load_frame.c) */
unsigned load_longest(const struct load_conf *c);
/* Fill all transmit slots: headers, payload, lengths. */
int load_prepare(struct load *l) must_check;
/* Mark a frame as the stream's next one. */
void load_stamp(const struct load *l, unsigned stream, struct front_frame *f, uint32_t seq, uint64_t now);
/* Is it a frame of ours, whole? Copies its tag. */
bool load_intact(const struct load *l, const struct front_queue *rx, const struct front_frame *f, struct load_tag *tag);
void load_frame_fini(struct load *l);

/* Ports (load_port.c). False: standard error says why. */
bool load_open(struct load *l);
/* Have the switch learn every port's address. */
bool load_introduce(struct load *l);
void load_close(struct load *l);

/* Modes (load_rate.c, load_ping.c); exit status. */
int load_rate(struct load *l);
int load_pingpong(struct load *l);
int load_eventfd(const struct load_conf *c);
bool load_pin(int cpu);
