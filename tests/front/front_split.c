/* SPDX-License-Identifier: Apache-2.0 */
#include "front/front_priv.h"

#include <stdatomic.h>
#include <string.h>

/* The driver of a split ring (virtio 1.2, 2.7). Stores that would change nothing are left out: as long as the back end
 * completes in order, the available ring and the descriptors stay as they are, clean in both cores' caches. */

#define QUIET_SPAN 0x4000 /* used_event is pushed away again after so many: it must not come round */

static struct front_used_elem *elem(const struct front_queue *q, uint16_t idx)
{
	return &q->used->ring[idx & (q->size - 1)];
}

static uint16_t *used_event(const struct front_queue *q)
{
	return &q->avail->ring[q->size];
}

static uint16_t avail_event(const struct front_queue *q)
{
	return __atomic_load_n((const uint16_t *)&q->used->ring[q->size], __ATOMIC_RELAXED);
}

static uint16_t used_count(const struct front_queue *q)
{
	const uint16_t n = (uint16_t)(__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) - q->used_idx);

	return q->stats.faults ? 0 : n;
}

static void push_event_away(struct front_queue *q)
{
	__atomic_store_n(used_event(q), (uint16_t)(q->used_idx - 1), __ATOMIC_RELAXED);
	q->quiet_idx = q->used_idx;
}

static void stay_quiet(struct front_queue *q)
{
	if (q->event_idx && !q->armed && (uint16_t)(q->used_idx - q->quiet_idx) >= QUIET_SPAN)
		push_event_away(q);
}

static void offer(struct front_queue *q, uint16_t id)
{
	uint16_t *entry = &q->avail->ring[q->avail_idx++ & (q->size - 1)];

	if (*entry != id)
		*entry = id;
	front_hand_out(q, id);
}

static bool kick_wanted(const struct front_queue *q, uint16_t n)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (q->event_idx)
		return (uint16_t)(q->avail_idx - avail_event(q) - 1) < n;
	return (__atomic_load_n(&q->used->flags, __ATOMIC_RELAXED) & FRONT_USED_NO_NOTIFY) == 0;
}

static void publish(struct front_queue *q, uint16_t n)
{
	__atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
	if (kick_wanted(q, n))
		front_kick(q);
}

static void describe_slot(struct front_queue *q, uint16_t id, uint32_t bytes)
{
	struct front_desc *table = &q->tables[(size_t)id * q->chain];

	if (q->indirect) {
		const uint16_t n = front_describe(q, table, 0, front_buffer(q, id), bytes, 0);

		q->desc[id] = (struct front_desc){front_gpa(q, table), n * 16u, FRONT_DESC_INDIRECT, 0};
	} else {
		front_describe(q, &q->desc[id], id, front_buffer(q, id), bytes, q->transmit ? 0 : FRONT_DESC_WRITE);
	}
	q->len[id] = bytes;
}

static void reset(struct front_queue *q)
{
	q->avail_idx = q->used_idx = q->back_idx = q->quiet_idx = 0;
	q->avail->flags = FRONT_AVAIL_NO_INTERRUPT;
	for (unsigned i = 0; i < q->slots; i++) {
		const uint16_t id = (uint16_t)(i * q->step);

		describe_slot(q, id, q->transmit ? q->frame_bytes + FRONT_HEADER_BYTES : q->chain * q->piece_bytes);
		if (q->transmit)
			front_free_push(q, id);
		else
			offer(q, id);
	}
	q->avail->idx = q->avail_idx;
	push_event_away(q);
}

static void reap(struct front_queue *q)
{
	const uint16_t n = used_count(q);

	if (n > q->size)
		front_fault(q);
	for (uint16_t i = 0; i < n && q->stats.faults == 0; i++) {
		const uint32_t id =
			q->in_order ? q->posted_id[q->posted_out++ & (q->size - 1)] : elem(q, q->used_idx)->id;

		if (!front_take_back(q, id))
			return front_fault(q);
		front_free_push(q, (uint16_t)id);
		q->used_idx++;
	}
	stay_quiet(q);
}

static void post(struct front_queue *q, const struct front_frame *frame, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const uint16_t id = frame[i].id;

		if (q->len[id] != frame[i].len + FRONT_HEADER_BYTES)
			describe_slot(q, id, frame[i].len + FRONT_HEADER_BYTES);
		offer(q, id);
		if (q->in_order)
			q->posted_id[q->posted_in++ & (q->size - 1)] = id;
	}
	publish(q, (uint16_t)n);
}

static void prefetch(const struct front_queue *q, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		const uint32_t id = elem(q, (uint16_t)(q->used_idx + i))->id;

		if (front_id_ok(q, id))
			__builtin_prefetch(front_buffer(q, id));
	}
}

/* Bytes that the back end says to have written to slot @idx; sets *ok to false if that cannot be. */
static uint32_t written(const struct front_queue *q, uint16_t idx, bool *ok)
{
	const struct front_used_elem e = *elem(q, idx);

	*ok = *ok && front_id_ok(q, e.id) && e.len <= (uint32_t)q->chain * q->piece_bytes;
	return e.len;
}

/* The frame at used_idx; false if there is none, or not all of it. */
static bool take(struct front_queue *q, struct front_frame *f, uint16_t left)
{
	bool ok = true;
	uint32_t bytes = written(q, q->used_idx, &ok);

	if (!ok || bytes < FRONT_HEADER_BYTES)
		return front_fault(q), false;
	f->id = (uint16_t)elem(q, q->used_idx)->id;
	f->at = q->used_idx;
	f->bytes = front_buffer(q, f->id) + FRONT_HEADER_BYTES;
	f->first_len = bytes - FRONT_HEADER_BYTES;
	f->pieces = q->mergeable ? front_num_buffers(front_buffer(q, f->id)) : 1;
	if (f->pieces > left)
		return false;
	for (uint16_t i = 1; i < f->pieces; i++)
		bytes += written(q, (uint16_t)(q->used_idx + i), &ok);
	f->len = bytes - FRONT_HEADER_BYTES;
	for (uint16_t i = 0; i < f->pieces; i++)
		ok = ok && front_take_back(q, elem(q, (uint16_t)(q->used_idx + i))->id);
	if (!ok)
		front_fault(q);
	return ok;
}

static unsigned burst(struct front_queue *q, struct front_frame *frame, unsigned max)
{
	uint16_t left = used_count(q);
	unsigned n = 0;

	if (left > q->size)
		return front_fault(q), 0;
	prefetch(q, (uint16_t)min_u32(left, max));
	while (n < max && left > 0 && take(q, &frame[n], left)) {
		q->used_idx = (uint16_t)(q->used_idx + frame[n].pieces);
		left = (uint16_t)(left - frame[n].pieces);
		n++;
	}
	return n;
}

static void giveback(struct front_queue *q)
{
	const uint16_t n = (uint16_t)(q->used_idx - q->back_idx);

	if (n == 0)
		return;
	while (q->back_idx != q->used_idx)
		offer(q, (uint16_t)elem(q, q->back_idx++)->id);
	publish(q, n);
	stay_quiet(q);
}

static bool arm(struct front_queue *q, bool on)
{
	q->armed = on;
	__atomic_store_n(&q->avail->flags, on ? 0 : FRONT_AVAIL_NO_INTERRUPT, __ATOMIC_RELAXED);
	if (on)
		__atomic_store_n(used_event(q), q->used_idx, __ATOMIC_RELAXED);
	else
		push_event_away(q);
	atomic_thread_fence(memory_order_seq_cst);
	return used_count(q) > 0;
}

static const uint8_t *piece(const struct front_queue *q, const struct front_frame *frame, unsigned i, uint32_t *len)
{
	const struct front_used_elem *e = elem(q, (uint16_t)(frame->at + i));

	*len = e->len;
	return front_buffer(q, e->id);
}

const struct front_ring_ops front_split_ops = {
	.reset = reset,
	.reap = reap,
	.post = post,
	.burst = burst,
	.giveback = giveback,
	.arm = arm,
	.piece = piece,
};
