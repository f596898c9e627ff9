/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "front/front.h"

/* Private to the front end: its rings. */

/* Split rings: virtio 1.2, 2.7.5, 2.7.6, 2.7.8. */
struct front_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct front_avail {
	uint16_t flags, idx;
	uint16_t ring[]; /* and used_event */
};

struct front_used_elem {
	uint32_t id, len;
};

struct front_used {
	uint16_t flags, idx;
	struct front_used_elem ring[]; /* and avail_event */
};

#define FRONT_DESC_NEXT          1u
#define FRONT_DESC_WRITE         2u
#define FRONT_DESC_INDIRECT      4u
#define FRONT_AVAIL_NO_INTERRUPT 1u
#define FRONT_USED_NO_NOTIFY     1u

/* Packed rings: virtio 1.2, 2.8.13, 2.8.14. */
struct front_packed {
	uint64_t addr;
	uint32_t len;
	uint16_t id, flags;
};

struct front_event {
	uint16_t off_wrap; /* position, wrap counter in bit 15 */
	uint16_t flags;
};

#define FRONT_PACKED_AVAIL  (1u << 7)
#define FRONT_PACKED_USED   (1u << 15)
#define FRONT_EVENT_ENABLE  0u
#define FRONT_EVENT_DISABLE 1u
#define FRONT_EVENT_DESC    2u

/* A place in a packed ring. */
struct front_pos {
	uint16_t i;
	bool wrap;
};

struct front_queue {
	/* constant while connected */
	bool packed, transmit, event_idx, in_order, indirect;
	uint16_t size;        /* of the ring; a power of two */
	uint16_t slots;       /* buffers: a frame each, or with MRG_RXBUF a piece of one */
	uint16_t chain;       /* descriptors a slot may need in memory */
	uint16_t step;        /* from one slot's id to the next one's */
	uint32_t id_bytes;    /* from one id's buffer to the next id's */
	uint32_t piece_bytes; /* one descriptor's buffer */
	uint32_t frame_bytes;
	bool mergeable; /* received frames may take several slots */
	uint8_t *mem;   /* guest memory, and its guest-physical address */
	uint64_t gpa;
	uint8_t *buffers;
	union {
		struct front_desc *desc;
		struct front_packed *pdesc;
	};
	union {
		struct front_avail *avail;
		struct front_event *driver_event;
	};
	union {
		struct front_used *used;
		struct front_event *device_event;
	};
	struct front_desc *tables; /* indirect ones, chain entries for each slot */
	int kick_fd, call_fd;

	/* the thread that drives it */
	uint16_t avail_idx;                          /* split: next to publish */
	uint16_t used_idx;                           /* split: next to look at */
	uint16_t back_idx;                           /* split, receiving: next to give back */
	struct front_pos avail_at, used_at, back_at; /* packed: the same */
	uint16_t unreturned;                         /* packed, receiving: entries between back and used */
	uint16_t quiet_idx;                          /* split, EVENT_IDX: used_event when it was last pushed away */
	bool armed;
	uint16_t *free_id;   /* transmitting: a FIFO of size entries */
	uint16_t *posted_id; /* transmitting in order: the same */
	uint16_t free_in, free_out, posted_in, posted_out;
	uint32_t *len;    /* by id: header and frame, as the descriptors say */
	uint16_t *pieces; /* by id: descriptors in use */
	bool *out;        /* conf.strict: by id, the back end has it */
	uint32_t base;    /* SET_VRING_BASE of this connection */
	struct front_stats stats;
} cache_aligned;

static inline uint8_t *front_buffer(const struct front_queue *q, unsigned id)
{
	return q->buffers + (size_t)id * q->id_bytes;
}

static inline uint64_t front_gpa(const struct front_queue *q, const void *p)
{
	return q->gpa + (uint64_t)((const uint8_t *)p - q->mem);
}

static inline bool front_id_ok(const struct front_queue *q, uint32_t id)
{
	return id < (uint32_t)q->slots * q->step && (q->step == 1 || id % q->step == 0);
}

static inline void front_hand_out(struct front_queue *q, uint32_t id)
{
	if (q->out != NULL)
		q->out[id] = true;
}

/* False if the back end returns what it cannot have. */
static inline bool front_take_back(struct front_queue *q, uint32_t id)
{
	if (!front_id_ok(q, id) || (q->out != NULL && !q->out[id]))
		return false;
	if (q->out != NULL)
		q->out[id] = false;
	return true;
}

static inline uint16_t front_pieces(const struct front_queue *q, uint32_t bytes)
{
	return (uint16_t)(bytes <= q->piece_bytes ? 1 : (bytes + q->piece_bytes - 1) / q->piece_bytes);
}

static inline void front_free_push(struct front_queue *q, uint16_t id)
{
	q->free_id[q->free_in++ & (q->size - 1)] = id;
}

static inline uint16_t front_num_buffers(const uint8_t *buffer)
{
	uint16_t n;

	__builtin_memcpy(&n, buffer + 10, sizeof(n));
	return n == 0 ? 1 : n;
}

/* The whole front end. */
struct front {
	struct front_conf conf;
	char path[108];
	int sock, listen_fd; /* -1: none */
	uint64_t features;
	bool was_connected;

	int mem_fd;
	uint8_t *mem;
	size_t mem_bytes;
	int in_flight_fd; /* -1: none */
	uint64_t in_flight_size, in_flight_offset;

	/* what of the memory goes to rings and to buffers */
	uint32_t
		piece_bytes; /* an odd number of cache lines: or all buffers' headers meet in a few sets of the cache */
	uint16_t chain;      /* pieces of the longest frame */
	size_t ring_area;    /* bytes for each ring: descriptors, indirect tables, driver's and device's part */
	struct front_queue queue[2 * FRONT_PAIRS_MAX]; /* as vhost-user counts: even: receive */
};

#define FRONT_GPA UINT64_C(0x40000000)

static inline unsigned front_rings(const struct front *f)
{
	return 2 * f->conf.pairs;
}

/* Give each queue its shape and its place, for the features negotiated, and empty rings. */
void front_layout(struct front *f);

/* The queue is not to be trusted any more. */
void front_fault(struct front_queue *q);
void front_kick(struct front_queue *q);
/* Describe @bytes at @buffer with descriptors @first.. of a split table; returns how many. */
uint16_t front_describe(const struct front_queue *q, struct front_desc *first, uint16_t index, const uint8_t *buffer,
			uint32_t bytes, uint16_t flags);

/* Both kinds of ring: empty it and post receive buffers; take back transmitted ones; publish claimed ones; receive;
 * return; ask for calls; copy a received frame's further pieces (from the second) to @to. */
struct front_ring_ops {
	void (*reset)(struct front_queue *q);
	void (*reap)(struct front_queue *q);
	void (*post)(struct front_queue *q, const struct front_frame *frame, unsigned n);
	unsigned (*burst)(struct front_queue *q, struct front_frame *frame, unsigned max);
	void (*giveback)(struct front_queue *q);
	bool (*arm)(struct front_queue *q, bool on);
	/* Buffer and length of the piece @i of a received frame. */
	const uint8_t *(*piece)(const struct front_queue *q, const struct front_frame *frame, unsigned i,
				uint32_t *len);
};
extern const struct front_ring_ops front_split_ops, front_packed_ops;
