/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"

/* A vhost-user front end that is a polling guest: memory, a connection, virtio-net rings, and a driver for them.
 *
 * For load generators and for tests that need a guest without a virtual machine. The driver does as little as a driver
 * can: buffers are posted beforehand and stay where they are, descriptors that are already right are not written again,
 * and a burst is published with one store.
 *
 * Life:    front_new(), front_connect(), queues used, [the back end dies, front_reconnect(), ...], front_free().
 * Thread:  set-up by one thread; then each queue belongs to one thread, whichever.
 * Trust:   the back end is believed, except that ids and lengths it writes are checked before they are followed:
 *          a broken one is counted (front_queue_faults) and the queue then yields nothing.
 */

#define FRONT_PAIRS_MAX    8
#define FRONT_HEADER_BYTES 12 /* struct virtio_net_hdr_v1, before each frame */

/* Virtio feature bits (virtio 1.2, sections 5.1.3 and 6). */
#define FRONT_F_CSUM          (UINT64_C(1) << 0)
#define FRONT_F_GUEST_CSUM    (UINT64_C(1) << 1)
#define FRONT_F_GUEST_TSO4    (UINT64_C(1) << 7)
#define FRONT_F_HOST_TSO4     (UINT64_C(1) << 11)
#define FRONT_F_MRG_RXBUF     (UINT64_C(1) << 15)
#define FRONT_F_MQ            (UINT64_C(1) << 22)
#define FRONT_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define FRONT_F_EVENT_IDX     (UINT64_C(1) << 29)
#define FRONT_F_PROTOCOL      (UINT64_C(1) << 30) /* VHOST_USER_F_PROTOCOL_FEATURES */
#define FRONT_F_VERSION_1     (UINT64_C(1) << 32)
#define FRONT_F_RING_PACKED   (UINT64_C(1) << 34)
#define FRONT_F_IN_ORDER      (UINT64_C(1) << 35)

struct front_conf {
	const char *path;     /* of the Unix socket; copied */
	bool listen;          /* wait there for the back end, instead of connecting to it */
	unsigned pairs;       /* queue pairs; 0 means 1 */
	unsigned ring_size;   /* of each ring, a power of two; 0 means 256 */
	unsigned frame_bytes; /* the longest frame, without virtio-net header; 0 means 1514 */
	unsigned piece_bytes; /* one buffer, header included; 0: as long as the longest frame needs. Rounded up. */
	uint64_t required;    /* FRONT_F_*: connecting fails if one is not offered. VERSION_1 always is. */
	uint64_t wanted;      /* taken if offered */
	bool in_flight;       /* have the back end keep its notes in our memory (GET_INFLIGHT_FD), required then */
	bool strict;          /* a buffer completed that the back end does not have is a fault */
	unsigned timeout_ms;  /* for the connection and for each reply; 0 means 5000 */
};

struct front;
struct front_queue;

/* Memory and rings, no connection yet. NULL: *e says why. */
struct front *front_new(const struct front_conf *conf, struct err *e);
void front_free(struct front *f); /* NULL is allowed */

/* Connect, negotiate, and start with empty rings: receive buffers are posted, every transmit slot is free. Retries
 * until the timeout while nobody answers at the path. 0 or a negative errno; *e says what was missing. */
int front_connect(struct front *f, struct err *e) must_check;
/* The back end died or hung up: connect to its successor with memory and rings as they are, as a guest's front end does.
 * The features must be the same. Split rings start at used->idx; packed ones at the base of the connection before, as
 * QEMU sends it, so that the back end needs its own notes (conf.in_flight). */
int front_reconnect(struct front *f, struct err *e) must_check;
/* Stop all rings (GET_VRING_BASE) and remember where they stood; front_reconnect() continues there. */
int front_stop(struct front *f, struct err *e) must_check;
/* Close the connection without a word. */
void front_hang_up(struct front *f);
/* Has the back end closed the connection? */
bool front_lost(const struct front *f);

uint64_t front_features(const struct front *f); /* negotiated, FRONT_F_* */
uint8_t *front_memory(const struct front *f, size_t *bytes);
struct front_queue *front_rx_queue(struct front *f, unsigned pair);
struct front_queue *front_tx_queue(struct front *f, unsigned pair);

/* A frame in a buffer. What does not fit into the first piece is in others: contiguous in memory when we transmit, and
 * when we receive without MRG_RXBUF; anywhere with it (front_rx_copy). */
struct front_frame {
	uint8_t *bytes;     /* behind the virtio-net header */
	uint32_t len;       /* without virtio-net header */
	uint32_t first_len; /* received: as much of it is in the first piece */
	uint16_t id;        /* of the slot */
	uint16_t pieces;    /* descriptors */
	uint16_t at;        /* received: position in the used ring */
};

/* Transmitting. Slots keep their contents and lengths; what is free is lent, filled and posted in the same order. */
unsigned front_tx_slots(const struct front_queue *q);
struct front_frame front_tx_slot(const struct front_queue *q, unsigned i);
/* Take back what the back end is done with, and show up to @max free slots. They stay free until they are posted. */
unsigned front_tx_claim(struct front_queue *q, struct front_frame *frame, unsigned max);
/* Send the first @n of the claimed ones, each with its len (conf.frame_bytes at most). Kicks if the back end asks. */
void front_tx_post(struct front_queue *q, const struct front_frame *frame, unsigned n);
/* Posted and not yet taken back (as of the last claim). */
unsigned front_tx_pending(const struct front_queue *q);

/* How many of the longest frames its buffers hold: more on their way may be dropped. */
unsigned front_rx_frames(const struct front_queue *q);
/* Receiving: up to @max frames; they may be looked at until front_rx_return(), which gives all of them back. */
unsigned front_rx_burst(struct front_queue *q, struct front_frame *frame, unsigned max);
void front_rx_return(struct front_queue *q);
/* All pieces of a received frame, @max bytes at most; returns how many. */
uint32_t front_rx_copy(const struct front_queue *q, const struct front_frame *frame, void *to, uint32_t max);

/* Sleeping. front_arm(q, true) asks for a call when something is used, false (as at the start) for none. Returns true if
 * something is there already: then do not sleep. */
bool front_arm(struct front_queue *q, bool on);
int front_call_fd(const struct front_queue *q); /* eventfd, nonblocking */
void front_call_clear(struct front_queue *q);

struct front_stats {
	uint64_t kicks;  /* written to the eventfd */
	uint64_t faults; /* ids or lengths that cannot be */
};
struct front_stats front_queue_stats(const struct front_queue *q);
