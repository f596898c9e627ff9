/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/base.h"
#include "gmem/gmem.h"
#include "virtq/journal.h"

/* A virtqueue seen from the device: split (virtio 1.2, section 2.7) or packed (2.8). Users see no difference.
 *
 * Life:    control fills a struct virtq_conf and calls virtq_start(); from then on workers own the ring, until control
 *          has stopped it, waited for them, and called virtq_stop().
 * Steps:   a chain is fetched, completed, and published. Fetching and publishing are for one worker at a time (the owner
 *          of a transmitq; for a receiveq, under the port's lock); completing is for whoever fetched the chain, so that
 *          several workers can fill what they have fetched at the same time.
 * Trust:   the ring is guest memory and may change under us. Each descriptor is copied once and only the copy is
 *          looked at. Work for one chain is bounded by the ring's size. A malformed ring sets `fault`, and from then on
 *          nothing more is fetched: the control thread sees to the rest.
 * Order:   chains are published in the order they were fetched. So where a ring stands is one number: used->idx for a
 *          split ring, the journal's position for a packed one.
 */

#define VIRTQ_SIZE_MAX    32768 /* virtio 1.2, 2.7 and 2.8.10.1 */
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

/* Layouts in guest memory, all little-endian. Split: virtio 1.2, 2.7.5, 2.7.6, 2.7.8. */
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

/* Packed: virtio 1.2, 2.8.13 and 2.8.14. Flags NEXT, WRITE and INDIRECT are those of split rings. */
struct vring_packed_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t id;
	uint16_t flags;
};
#define VRING_PACKED_DESC_F_AVAIL (1u << 7)
#define VRING_PACKED_DESC_F_USED  (1u << 15)

struct vring_packed_event {
	uint16_t off_wrap;
	uint16_t flags;
};
enum { VRING_PACKED_EVENT_ENABLE, VRING_PACKED_EVENT_DISABLE, VRING_PACKED_EVENT_DESC };

/* A position in a packed ring: entry in bits 0 to 14, wrap counter in bit 15. In vhost-user's base for packed rings the
 * lower half is the next descriptor to fetch, the upper half the next one to use. */
#define PACKED_WRAP  0x8000u
#define PACKED_POS   0x7fffu
#define PACKED_START PACKED_WRAP /* virtio 1.2, 2.8.1: both wrap counters begin as 1 */

struct virtq_conf {
	struct gmem *mem;
	uint16_t size; /* entries, at most VIRTQ_SIZE_MAX; of a split ring: a power of two */
	uva_t desc, avail,
		used;   /* as in SET_VRING_ADDR; packed: descriptor ring, driver's and device's event structure */
	bool log_used;  /* VHOST_VRING_F_LOG: mark what we write into the ring */
	gpa_t used_log; /* split: where the used ring is for the log */
	bool packed;    /* VIRTIO_F_RING_PACKED */
	bool in_order;  /* VIRTIO_F_IN_ORDER: one used entry may stand for a batch */
	bool event_idx; /* VIRTIO_F_EVENT_IDX */
	bool indirect;  /* VIRTIO_F_INDIRECT_DESC */
	uint16_t base;  /* packed: the position to start at, if the journal knows of none */
	struct virtq_journal *journal; /* packed: outlives us; NULL: nothing does */
	int call_fd;                   /* eventfd that interrupts the guest, or -1; stays the caller's */
};

/* A completed chain of a packed ring that is not published yet. */
struct virtq_pending {
	uint16_t at;  /* position of its first descriptor */
	uint16_t end; /* position behind its last one */
	uint16_t id;
	bool more; /* to be published together with the next */
	uint32_t len;
};

struct virtq {
	/* set at start, constant while running */
	struct gmem *mem;
	union {
		struct { /* split */
			struct vring_desc *desc;
			struct vring_avail *avail;
			struct vring_used *used;
		};
		struct { /* packed */
			struct vring_packed_desc *ring;
			struct vring_packed_event *driver, *device;
		};
	};
	gpa_t used_log;  /* of used; or of ring */
	gpa_t event_log; /* packed: of device */
	uint16_t size;
	bool packed, in_order, log_used, event_idx, indirect;
	uint16_t desc_ahead; /* packed: so many descriptors ahead are loaded */
	uint16_t pending_mask;
	struct virtq_pending *pending; /* packed: by sequence number */
	struct virtq_journal *journal; /* packed: never NULL */

	/* control writes, workers read; see virtq_set_call() */
	_Atomic int call_fd;

	/* whoever fetches */
	cache_aligned uint16_t fetched; /* sequence number of the next chain to fetch; split: also its place in avail */
	uint16_t avail_idx;             /* split: avail->idx as last read: entries up to it may be fetched */
	uint16_t avail_at;              /* packed: position of the next chain to fetch */
	/* whoever publishes */
	uint16_t published;    /* chains shown to the guest, as a sequence number; others look: virtq_unsignalled() */
	uint16_t used_at;      /* packed: position of the next descriptor to use */
	uint16_t signalled;    /* `published` at the last interrupt decision */
	uint16_t signalled_at; /* packed: used_at then */
	uint16_t laps;         /* packed: how often used_at has passed the ring's end since then */
	bool signalled_valid;  /* false: no decision yet, so interrupt */

	/* worker writes, control reads */
	_Atomic enum virtq_fault fault;
};

/* One fetched chain. */
struct virtq_chain {
	uint16_t seq;        /* counts chains of this ring, mod 2^16 */
	uint16_t id;         /* what the guest knows it by; split: its head */
	uint16_t n_spans;    /* its pieces */
	uint16_t n_readable; /* of these, the first ones: device-readable */
	uint32_t len;        /* bytes in all of them */
	uint16_t at, end;    /* packed: positions of its first descriptor and behind its last */
};

/* Chains fetched together, in storage of the caller. Pieces lie one after another, chain by chain. */
struct virtq_batch {
	struct virtq_chain *chain;
	unsigned n, max;
	struct gspan *span;
	unsigned n_spans, max_spans; /* an empty batch has room for VIRTQ_CHAIN_SPANS at least */
};

/* MIXED: readable pieces, then writable ones, as commands have them. */
enum virtq_direction { VIRTQ_READABLE, VIRTQ_WRITABLE, VIRTQ_MIXED };

/* ---- control thread (virtq.c) ---- */

/* Check @c and make @vq ready to be served.
 *
 * A split ring resumes at used->idx, whatever base the front end sends: net completes in order, so nothing between
 * used->idx and avail->idx has been seen by the guest as done (design D14). A packed ring resumes where the journal
 * says, if it is live; an intent that was not carried out is carried out first. But a ring in which nothing was used
 * yet (a new driver's) starts at its beginning. Without a live journal: at @c->base.
 * -EINVAL: size, alignment (virtio 1.2, 2.7: 16, 2, 4 bytes; 2.8.10: 16, 4, 4) or an address outside guest memory;
 * -ENOMEM. */
int virtq_start(struct virtq *vq, const struct virtq_conf *c, struct err *e) must_check;

/* The opposite: nobody uses @vq any more. Chains that are not published are as if they had never been fetched. The
 * journal stays as it is; who has told the front end the base clears its `live`. */
void virtq_stop(struct virtq *vq);

/* The base to answer GET_VRING_BASE with, once everything fetched is published. Split: the next avail entry to fetch;
 * packed: that position, and the used one in the upper half. */
uint32_t virtq_base(const struct virtq *vq);

/* Use another call eventfd (-1: none) and return the old one, which may be closed after the next grace period. The new
 * one must be signalled once, so that no interrupt is lost in between. */
int virtq_set_call(struct virtq *vq, int call_fd);

/* ---- workers ---- */

/* Are chains ready to be fetched? How many (packed: whether). Looks at the ring only if none are known, so an empty
 * poll is one load. */
unsigned virtq_ready(struct virtq *vq);

/* Fetch chains until @b is full: copy and check their descriptors. All must have the direction @dir. Returns how many
 * were added; what stops it is an empty ring, a full batch, or a malformed chain (vq->fault then says how). */
unsigned virtq_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b);

/* Give back the last @n chains of @b, as if they had not been fetched; they must be the last of the ring. */
void virtq_unfetch(struct virtq *vq, struct virtq_batch *b, unsigned n);

/* @c is done, @written_bytes of it having been written. Not visible before it is published. @more: it and the next
 * become visible at once (a frame in several buffers), at most VIRTQ_JOURNAL_ENTRIES in a packed ring. */
static inline void virtq_complete(struct virtq *vq, const struct virtq_chain *c, uint32_t written_bytes, bool more);

/* Show the guest all chains before sequence number @until; all must be completed. */
void virtq_publish(struct virtq *vq, uint16_t until);

/* Complete and publish the chains @c[0 .. n): all that is fetched, nothing written to them. For transmitqs. */
void virtq_return(struct virtq *vq, const struct virtq_chain *c, unsigned n);

/* Ask the guest for a notification when it adds the next chain. True: one has been added meanwhile, so poll on. */
bool virtq_notify_on(struct virtq *vq);
/* Ask it not to notify: we are polling. */
void virtq_notify_off(struct virtq *vq);

/* Should the guest be interrupted for what was published since the last time this was asked, and on which eventfd?
 * Returns it, or -1 (suppressed: virtio 1.2, 2.7.7, 2.8.7; nothing published; no call fd). As publishing. */
int virtq_interrupt(struct virtq *vq);

/* Is there something that virtq_interrupt() has not been asked about? For looking before taking a lock: to whoever has
 * published, the answer is never too late. Any worker. */
static inline bool virtq_unsignalled(const struct virtq *vq)
{
	return __atomic_load_n(&vq->published, __ATOMIC_RELAXED) != __atomic_load_n(&vq->signalled, __ATOMIC_RELAXED);
}

/* The ring is unusable for reason @f, found by the user of the ring (the first fault stays). */
void virtq_break(struct virtq *vq, enum virtq_fault f);

static inline enum virtq_fault virtq_fault_get(const struct virtq *vq)
{
	return atomic_load_explicit(&((struct virtq *)vq)->fault, memory_order_relaxed);
}

/* ---- inline halves ---- */

static inline void split_log_used(const struct virtq *vq, uint64_t offset, uint64_t len)
{
	if (unlikely(vq->log_used))
		gmem_dirty(vq->mem, (gpa_t){vq->used_log.v + offset}, len);
}

static inline void split_put_used(struct virtq *vq, uint16_t at, uint32_t id, uint32_t len)
{
	unsigned slot = at & (vq->size - 1u);

	vq->used->ring[slot] = (struct vring_used_elem){.id = id, .len = len};
	split_log_used(vq, offsetof(struct vring_used, ring) + slot * sizeof(struct vring_used_elem),
		       sizeof(struct vring_used_elem));
}

static inline void virtq_complete(struct virtq *vq, const struct virtq_chain *c, uint32_t written_bytes, bool more)
{
	/* A chain's number in the order of fetching is its place in a split ring's used ring. */
	if (!vq->packed)
		split_put_used(vq, c->seq, c->id, written_bytes);
	else
		vq->pending[c->seq & vq->pending_mask] = (struct virtq_pending){
			.at = c->at, .end = c->end, .id = c->id, .more = more, .len = written_bytes};
}
