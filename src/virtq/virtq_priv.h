/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "virtq/virtq.h"

/* Private to virtq: what both layouts share, and the halves that virtq_hot.c chooses from. */

/* Rings are little-endian and read in place. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Flue runs on little-endian machines only");

/* A descriptor's second half, read in one piece: the guest may rewrite it between two reads. */
static inline uint64_t desc_word(const void *second_half)
{
	return __atomic_load_n((const uint64_t *)second_half, __ATOMIC_ACQUIRE);
}

static inline uint32_t word_len(uint64_t w)
{
	return (uint32_t)w;
}

/* A chain being fetched. */
struct walk {
	struct virtq *vq;
	struct virtq_batch *batch;
	struct virtq_chain *chain;
	uint16_t want_write; /* VRING_DESC_F_WRITE or 0 */
	bool mixed;          /* writable ones may follow the readable ones */
};

static inline uint16_t wanted_flag(enum virtq_direction dir)
{
	return dir == VIRTQ_WRITABLE ? VRING_DESC_F_WRITE : 0;
}

/* Note that the ring is malformed. Always false. */
static inline bool virtq_fail(struct virtq *vq, enum virtq_fault f)
{
	virtq_break(vq, f);
	return false;
}

/* Start to load the lines of a buffer that are used at once: the header and the beginning of the frame. */
static force_inline void prefetch_buffer(const struct gspan *s, enum virtq_direction dir)
{
	if (dir == VIRTQ_WRITABLE) {
		prefetch_write(s->p);
		prefetch_write(s->p + CACHE_LINE);
	} else {
		prefetch_read(s->p);
		prefetch_read(s->p + CACHE_LINE);
	}
}

/* May a chain of any length be added? */
static inline bool batch_has_room(const struct virtq_batch *b)
{
	return b->n < b->max && b->max_spans - b->n_spans >= VIRTQ_CHAIN_SPANS;
}

/* chain_hot.c: translate the buffer [gpa, gpa + len) with @flags / all buffers of the indirect table there. @linked:
 * its entries are chained by NEXT (split), not one after another (packed). False: a fault was noted. */
bool walk_buffer(struct walk *w, gpa_t gpa, uint32_t len, uint16_t flags);
bool walk_table(struct walk *w, gpa_t gpa, uint32_t len, uint16_t flags, bool linked);

/* split_hot.c */
unsigned split_look(struct virtq *vq);
unsigned split_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b);
void split_publish(struct virtq *vq, uint16_t until);
void split_return(struct virtq *vq, const struct virtq_chain *c, unsigned n);
bool split_notify_on(struct virtq *vq);
void split_notify_off(struct virtq *vq);
bool split_wants_interrupt(const struct virtq *vq);

/* packed_hot.c */
unsigned packed_look(struct virtq *vq);
unsigned packed_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b);
void packed_publish(struct virtq *vq, uint16_t until);
void packed_return(struct virtq *vq, const struct virtq_chain *c, unsigned n);
bool packed_notify_on(struct virtq *vq);
void packed_notify_off(struct virtq *vq);
bool packed_wants_interrupt(const struct virtq *vq);
/* Finish what the journal's intent says, if it was not carried out. Control, before the ring is served. */
void packed_replay(struct virtq *vq);
