/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/base.h"
#include "gmem/gmem.h"
#include "virtq/journal.h"

/* A virtqueue seen from the device (virtio 1.2, section 2.7 "Split Virtqueues").
 *
 * Life:    control fills a struct virtq_conf and calls virtq_start(); from then on the worker that serves the ring owns
 *          it (for a receiveq, under the port's lock), until control has stopped it and waited for the workers.
 * Trust:   the ring is guest memory and may change under us. Each descriptor is copied once and only the copy is
 *          looked at. Work for one chain is bounded by the ring's size. A malformed ring sets `fault`, and from then on
 *          nothing more is fetched: the control thread sees to the rest.
 * Order:   chains are completed in the order they were fetched; so used->idx alone tells where a ring stands.
 * Invariant: last_avail - used (mod 2^16) == chains fetched and not yet completed.
 */

#define VIRTQ_SIZE_MAX    32768 /* virtio 1.2, 2.7 */
#define VIRTQ_CHAIN_SPANS 1088  /* pieces in one chain: a full 1,024-entry table and room for crossings of regions */

/* What is wrong with a ring; the texts (virtq_fault_text()) are shown to users. */
enum virtq_fault {
	VIRTQ_FAULT_NONE,
	VIRTQ_FAULT_AVAIL_INDEX,      /* avail->idx is further ahead than the ring is long, or went back */
	VIRTQ_FAULT_HEAD,             /* avail->ring names a descriptor outside the table */
	VIRTQ_FAULT_NEXT,             /* so does a descriptor's next */
	VIRTQ_FAULT_LOOP,             /* a chain has more descriptors than its table */
	VIRTQ_FAULT_INDIRECT_NESTED,  /* an indirect descriptor inside an indirect table, or with NEXT */
	VIRTQ_FAULT_INDIRECT_SIZE,    /* an indirect table's length is 0, no multiple of 16, or over the ring's size */
	VIRTQ_FAULT_INDIRECT_UNASKED, /* VIRTIO_F_INDIRECT_DESC was not negotiated */
	VIRTQ_FAULT_UNMAPPED,         /* a buffer or a table is not in guest memory */
	VIRTQ_FAULT_DIRECTION,        /* a device-writable buffer where a readable one is due, or the reverse */
	VIRTQ_FAULT_EMPTY,            /* a buffer of length 0, or a chain too short for the virtio-net header */
	VIRTQ_FAULT_PIECES,           /* more pieces than VIRTQ_CHAIN_SPANS */
	VIRTQ_FAULT_LENGTH,           /* a chain longer than 4 GiB */
	VIRTQ_FAULT_TRUNCATED,        /* the memory behind the guest was truncated */
	VIRTQ_FAULT_N
};
const char *virtq_fault_text(enum virtq_fault f);

/* Layout in guest memory: virtio 1.2, 2.7.5, 2.7.6, 2.7.8. All little-endian. */
struct vring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};
#define VRING_DESC_F_NEXT     1
#define VRING_DESC_F_WRITE    2
#define VRING_DESC_F_INDIRECT 4

struct vring_avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[]; /* and used_event behind it */
};
#define VRING_AVAIL_F_NO_INTERRUPT 1

struct vring_used_elem {
	uint32_t id;
	uint32_t len;
};
struct vring_used {
	uint16_t flags;
	uint16_t idx;
	struct vring_used_elem ring[]; /* and avail_event behind it */
};
#define VRING_USED_F_NO_NOTIFY 1

struct virtq_conf {
	struct gmem *mem;
	uint16_t size;           /* entries: a power of two, at most VIRTQ_SIZE_MAX */
	uva_t desc, avail, used; /* as in SET_VRING_ADDR */
	bool log_used;           /* VHOST_VRING_F_LOG: mark writes to the used ring at used_log */
	gpa_t used_log;
	bool event_idx;                /* VIRTIO_F_EVENT_IDX */
	bool indirect;                 /* VIRTIO_F_INDIRECT_DESC */
	int call_fd;                   /* eventfd that interrupts the guest, or -1; stays the caller's */
	struct virtq_journal *journal; /* where the ring stands, for the next flued; unchecked; NULL: not kept */
};

struct virtq {
	/* set at start, constant while running */
	struct gmem *mem;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	gpa_t used_log;
	uint16_t size;
	bool log_used, event_idx, indirect;

	/* control writes, workers read; see virtq_set_call() */
	_Atomic int call_fd;

	/* the owning worker */
	cache_aligned uint16_t last_avail; /* next entry of the avail ring to fetch */
	uint16_t avail_idx;                /* avail->idx as last read: entries up to it may be fetched */
	uint16_t used_idx;                 /* next entry of the used ring to fill */
	uint16_t published_idx;            /* used->idx as the guest sees it; others look: virtq_unsignalled() */
	uint16_t signalled_idx;            /* used->idx at the last interrupt decision; as well */
	bool signalled_valid;              /* false: no decision yet, so interrupt */

	/* worker writes, control reads */
	_Atomic enum virtq_fault fault;
};

/* One fetched chain. */
struct virtq_chain {
	uint16_t head;       /* to complete it with */
	uint16_t n_spans;    /* pieces written to the caller's array */
	uint16_t n_readable; /* of these, the first ones: device-readable */
	uint32_t len;        /* bytes in all of them */
};

/* MIXED: readable pieces, then writable ones, as commands have them. */
enum virtq_direction { VIRTQ_READABLE, VIRTQ_WRITABLE, VIRTQ_MIXED };

/* ---- control thread (virtq.c) ---- */

/* Check @c and make @vq ready to be served, resuming at used->idx (design D14: whatever base the front end sends; net
 * completes in order, so nothing between used->idx and avail->idx has been seen by the guest as done).
 * -EINVAL: size, alignment (virtio 1.2, 2.7: 16, 2, 4 bytes) or an address outside guest memory. */
int virtq_start(struct virtq *vq, const struct virtq_conf *c, struct err *e) must_check;

/* The base to answer GET_VRING_BASE with: the next avail entry to fetch. The ring must be stopped. */
uint16_t virtq_base(const struct virtq *vq);

/* Use another call eventfd (-1: none) and return the old one, which may be closed after the next grace period. The new
 * one must be signalled once, so that no interrupt is lost in between. */
int virtq_set_call(struct virtq *vq, int call_fd);

/* Should the guest be interrupted for what was published since the last time this was asked, and on which eventfd?
 * Returns it, or -1 (suppressed: virtio 1.2, 2.7.7; nothing published; no call fd). Owning worker. */
int virtq_interrupt(struct virtq *vq);

/* Is there something that virtq_interrupt() has not been asked about? For looking before taking a lock: to whoever has
 * published, the answer is never too late. Any worker. */
static inline bool virtq_unsignalled(const struct virtq *vq)
{
	return __atomic_load_n(&vq->published_idx, __ATOMIC_RELAXED) !=
	       __atomic_load_n(&vq->signalled_idx, __ATOMIC_RELAXED);
}

/* ---- the worker that owns the ring (split_hot.c) ---- */

/* Chains that are ready to be fetched. Looks at avail->idx only if none are known, so an empty poll is one load. */
unsigned virtq_ready(struct virtq *vq);

/* Fetch the next chain: copy and check its descriptors and write its pieces (VIRTQ_CHAIN_SPANS at most) to @spans.
 * All must have the direction @dir. False if none is ready or the ring is malformed (vq->fault then says how). */
bool virtq_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_chain *c, struct gspan *spans,
		 unsigned max_spans);

/* Give back the last @n fetched chains, as if they had not been fetched; they must not have been completed. */
void virtq_unfetch(struct virtq *vq, unsigned n);

/* Put a chain into the used ring, @written_bytes of it having been written. Not visible before virtq_publish(). */
void virtq_complete(struct virtq *vq, const struct virtq_chain *c, uint32_t written_bytes);

/* Show the guest everything completed so far: one store of used->idx. */
void virtq_publish(struct virtq *vq);

/* Ask the guest for a notification when it adds the next chain. True: one has been added meanwhile, so poll on. */
bool virtq_notify_on(struct virtq *vq);
/* Ask it not to notify: we are polling. */
void virtq_notify_off(struct virtq *vq);

/* The ring is unusable for reason @f, found by the user of the ring (the first fault stays). */
void virtq_break(struct virtq *vq, enum virtq_fault f);

static inline enum virtq_fault virtq_fault_get(const struct virtq *vq)
{
	return atomic_load_explicit(&((struct virtq *)vq)->fault, memory_order_relaxed);
}
