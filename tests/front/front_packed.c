/* SPDX-License-Identifier: Apache-2.0 */
#include "front/front_priv.h"

#include <stdatomic.h>

/* The driver of a packed ring (virtio 1.2, 2.8). A burst becomes visible by its first descriptor, which is written
 * last. */

static struct front_packed *entry(const struct front_queue *q, struct front_pos at)
{
	return &q->pdesc[at.i];
}

static void advance(const struct front_queue *q, struct front_pos *at, unsigned n)
{
	const unsigned i = at->i + n;

	at->wrap ^= i >= q->size;
	at->i = (uint16_t)(i & (q->size - 1u));
}

/* Has the device used the descriptor there? */
static bool used(const struct front_queue *q, struct front_pos at)
{
	const uint16_t flags = __atomic_load_n(&entry(q, at)->flags, __ATOMIC_ACQUIRE);
	const bool is_avail = flags & FRONT_PACKED_AVAIL, is_used = flags & FRONT_PACKED_USED;

	return is_avail == is_used && is_used == at.wrap && q->stats.faults == 0;
}

static uint16_t avail_flags(const struct front_queue *q)
{
	return q->avail_at.wrap ? FRONT_PACKED_AVAIL : FRONT_PACKED_USED;
}

/* What is being published: its first descriptor's flags are held back. */
struct batch {
	struct front_packed *first;
	uint16_t flags;
	uint16_t n; /* descriptors */
};

static void put(struct front_queue *q, struct batch *b, struct front_packed d)
{
	struct front_packed *to = entry(q, q->avail_at);
	const uint16_t flags = (uint16_t)(d.flags | avail_flags(q));

	to->addr = d.addr;
	to->len = d.len;
	to->id = d.id;
	if (b->first == NULL) {
		b->first = to;
		b->flags = flags;
	} else {
		__atomic_store_n(&to->flags, flags, __ATOMIC_RELEASE);
	}
	b->n++;
	advance(q, &q->avail_at, 1);
}

static void put_slot(struct front_queue *q, struct batch *b, uint16_t id, uint32_t bytes, uint16_t direction)
{
	const uint64_t gpa = front_gpa(q, front_buffer(q, id));
	const uint16_t n = front_pieces(q, bytes);

	q->pieces[id] = n;
	front_hand_out(q, id);
	for (uint16_t i = 0; i < n; i++) {
		const uint32_t offset = i * q->piece_bytes;
		const uint16_t next = i + 1 < n ? FRONT_DESC_NEXT : 0;

		put(q, b,
		    (struct front_packed){gpa + offset, min_u32(bytes - offset, q->piece_bytes), id,
					  (uint16_t)(direction | next)});
	}
}

static void put_indirect(struct front_queue *q, struct batch *b, uint16_t id, uint32_t bytes)
{
	struct front_desc *table = &q->tables[(size_t)id * q->chain];
	const uint16_t n = q->len[id] == bytes ? front_pieces(q, bytes)
					       : front_describe(q, table, 0, front_buffer(q, id), bytes, 0);

	q->len[id] = bytes;
	q->pieces[id] = 1;
	front_hand_out(q, id);
	put(q, b, (struct front_packed){front_gpa(q, table), n * 16u, id, FRONT_DESC_INDIRECT});
}

static bool kick_wanted(const struct front_queue *q, uint16_t n)
{
	const uint16_t flags = __atomic_load_n(&q->device_event->flags, __ATOMIC_RELAXED);
	const uint16_t off_wrap = __atomic_load_n(&q->device_event->off_wrap, __ATOMIC_RELAXED);
	unsigned event = off_wrap & 0x7fffu;

	if (flags != FRONT_EVENT_DESC)
		return flags == FRONT_EVENT_ENABLE;
	if ((off_wrap >> 15) != q->avail_at.wrap)
		event -= q->size;
	return (uint16_t)(q->avail_at.i - event - 1) < n;
}

static void publish(struct front_queue *q, const struct batch *b)
{
	if (b->n == 0)
		return;
	__atomic_store_n(&b->first->flags, b->flags, __ATOMIC_RELEASE);
	atomic_thread_fence(memory_order_seq_cst);
	if (kick_wanted(q, b->n))
		front_kick(q);
}

static void reset(struct front_queue *q)
{
	struct batch b = {0};

	q->avail_at = q->used_at = q->back_at = (struct front_pos){0, true};
	q->unreturned = 0;
	q->driver_event->flags = FRONT_EVENT_DISABLE;
	for (uint16_t id = 0; id < q->slots; id++) {
		q->len[id] = 0;
		if (q->transmit)
			front_free_push(q, id);
		else
			put_slot(q, &b, id, q->chain * q->piece_bytes, FRONT_DESC_WRITE);
	}
	if (b.n > 0)
		b.first->flags = b.flags;
}

static void free_next(struct front_queue *q, uint16_t id)
{
	if (!front_take_back(q, id))
		return front_fault(q);
	advance(q, &q->used_at, q->pieces[id]);
	front_free_push(q, id);
}

/* With IN_ORDER one used descriptor may stand for all buffers up to its own (2.8.9). */
static void reap_up_to(struct front_queue *q, uint16_t id)
{
	uint16_t done;

	do {
		if (q->posted_out == q->posted_in)
			return front_fault(q);
		done = q->posted_id[q->posted_out++ & (q->size - 1)];
		free_next(q, done);
	} while (done != id && q->stats.faults == 0);
}

static void reap(struct front_queue *q)
{
	while (front_tx_pending(q) > 0 && used(q, q->used_at)) {
		const uint16_t id = entry(q, q->used_at)->id;

		if (!front_id_ok(q, id))
			front_fault(q);
		else if (q->in_order)
			reap_up_to(q, id);
		else
			free_next(q, id);
	}
}

static void post(struct front_queue *q, const struct front_frame *frame, unsigned n)
{
	struct batch b = {0};

	for (unsigned i = 0; i < n; i++) {
		const uint16_t id = frame[i].id;

		if (q->indirect)
			put_indirect(q, &b, id, frame[i].len + FRONT_HEADER_BYTES);
		else
			put_slot(q, &b, id, frame[i].len + FRONT_HEADER_BYTES, 0);
		if (q->in_order)
			q->posted_id[q->posted_in++ & (q->size - 1)] = id;
	}
	publish(q, &b);
}

/* How many are used, up to @max; their buffers will soon be read. */
static unsigned prefetch(struct front_queue *q, unsigned max)
{
	struct front_pos at = q->used_at;
	unsigned n = 0;

	while (n < max && n < q->slots && used(q, at)) {
		const uint16_t id = entry(q, at)->id;

		if (!front_id_ok(q, id) || entry(q, at)->len > (uint32_t)q->chain * q->piece_bytes)
			return front_fault(q), 0;
		__builtin_prefetch(front_buffer(q, id));
		advance(q, &at, q->chain);
		n++;
	}
	return n;
}

static bool take_back(struct front_queue *q, unsigned pieces)
{
	struct front_pos at = q->used_at;

	for (unsigned i = 0; i < pieces; i++) {
		if (!front_take_back(q, entry(q, at)->id))
			return front_fault(q), false;
		advance(q, &at, q->chain);
	}
	return true;
}

/* The frame at used_at; false if not all of it is there. */
static bool take(struct front_queue *q, struct front_frame *f, unsigned left)
{
	const struct front_packed *d = entry(q, q->used_at);
	struct front_pos at = q->used_at;

	if (d->len < FRONT_HEADER_BYTES)
		return front_fault(q), false;
	f->id = d->id;
	f->at = at.i;
	f->bytes = front_buffer(q, d->id) + FRONT_HEADER_BYTES;
	f->len = f->first_len = d->len - FRONT_HEADER_BYTES;
	f->pieces = q->mergeable ? front_num_buffers(front_buffer(q, d->id)) : 1;
	if (f->pieces > left)
		return false;
	for (uint16_t i = 1; i < f->pieces; i++) {
		advance(q, &at, 1);
		f->len += entry(q, at)->len;
	}
	return take_back(q, f->pieces);
}

static unsigned burst(struct front_queue *q, struct front_frame *frame, unsigned max)
{
	/* the last of the frames may have several pieces */
	unsigned left = prefetch(q, q->mergeable ? max + (q->frame_bytes / q->piece_bytes) : max), n = 0;

	while (n < max && left > 0 && take(q, &frame[n], left)) {
		advance(q, &q->used_at, (unsigned)frame[n].pieces * q->chain);
		q->unreturned = (uint16_t)(q->unreturned + frame[n].pieces);
		left -= frame[n].pieces;
		n++;
	}
	return n;
}

static void giveback(struct front_queue *q)
{
	struct batch b = {0};

	for (; q->unreturned > 0; q->unreturned--) {
		const uint16_t id = entry(q, q->back_at)->id;

		advance(q, &q->back_at, q->chain);
		put_slot(q, &b, id, q->chain * q->piece_bytes, FRONT_DESC_WRITE);
	}
	publish(q, &b);
}

static bool arm(struct front_queue *q, bool on)
{
	q->armed = on;
	__atomic_store_n(&q->driver_event->flags, on ? FRONT_EVENT_ENABLE : FRONT_EVENT_DISABLE, __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_seq_cst);
	return used(q, q->used_at);
}

static const uint8_t *piece(const struct front_queue *q, const struct front_frame *frame, unsigned i, uint32_t *len)
{
	const struct front_packed *d = &q->pdesc[(frame->at + i) & (q->size - 1u)];

	*len = d->len;
	return front_buffer(q, d->id);
}

const struct front_ring_ops front_packed_ops = {
	.reset = reset,
	.reap = reap,
	.post = post,
	.burst = burst,
	.giveback = giveback,
	.arm = arm,
	.piece = piece,
};
