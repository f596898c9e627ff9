/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "bench/bare.h"
#include "bench/cycles.h"

/* Frames are moved in batches of up to 64. While there are fewer than 32 the loop waits for more, 2 us at most: a batch
 * costs the guest as much as a frame does. Buffers are fetched ahead of the copy, and used entries that say already what
 * they should are not written again. */

#define BATCH    64
#define WAIT_FOR 32
#define WAIT_NS  2000
#define AHEAD    8 /* frames between fetching and copying */

struct copy {
	const uint8_t *from;
	uint8_t *to;
	uint32_t len;
	uint16_t from_id, to_id;
};

/* One direction. */
struct lane {
	struct bare_port *src, *dst;
	struct bare_ring *tx, *rx;
	uint64_t waiting_since; /* ns; 0: not waiting */
	struct copy batch[BATCH];
};

static uint16_t ready(const struct bare_ring *r)
{
	return (uint16_t)(__atomic_load_n(&r->avail->idx, __ATOMIC_ACQUIRE) - r->next);
}

static uint16_t head(const struct bare_ring *r, unsigned i)
{
	return r->avail->ring[(uint16_t)(r->next + i) & (r->size - 1)];
}

static void fetch_descriptors(struct lane *l, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		l->batch[i].from_id = head(l->tx, i);
		l->batch[i].to_id = head(l->rx, i);
		prefetch_read(&l->tx->desc[l->batch[i].from_id]);
		prefetch_read(&l->rx->desc[l->batch[i].to_id]);
	}
}

static void prepare(struct lane *l, struct copy *c)
{
	const struct front_desc *from = &l->tx->desc[c->from_id], *to = &l->rx->desc[c->to_id];

	c->from = l->src->mem + (from->addr - l->src->gpa);
	c->to = l->dst->mem + (to->addr - l->dst->gpa);
	c->len = from->len;
	for (unsigned at = 0; at < 256 && at < c->len; at += CACHE_LINE) {
		prefetch_read(c->from + at);
		prefetch_write(c->to + at);
	}
}

static void copy_one(const struct copy *c)
{
	const uint16_t one = 1;

	memcpy(c->to, c->from, c->len);
	memcpy(c->to + 10, &one, sizeof(one)); /* num_buffers */
}

static void complete(struct bare_ring *r, unsigned i, uint32_t id, uint32_t len)
{
	struct front_used_elem *e = &r->used->ring[(uint16_t)(r->next + i) & (r->size - 1)];

	if (e->id != id || e->len != len)
		*e = (struct front_used_elem){id, len};
}

static void publish(struct bare_ring *r, unsigned n)
{
	const uint64_t one = 1;

	r->next = (uint16_t)(r->next + n);
	__atomic_store_n(&r->used->idx, r->next, __ATOMIC_RELEASE);
	atomic_thread_fence(memory_order_seq_cst);
	if (!(r->avail->flags & FRONT_AVAIL_NO_INTERRUPT) && write(r->call_fd, &one, sizeof(one)) < 0)
		return; /* it is full of calls */
}

static void move(struct lane *l, unsigned n)
{
	fetch_descriptors(l, n);
	for (unsigned i = 0; i < n + AHEAD; i++) {
		if (i < n)
			prepare(l, &l->batch[i]);
		if (i < AHEAD)
			continue;
		copy_one(&l->batch[i - AHEAD]);
	}
	for (unsigned i = 0; i < n; i++) {
		complete(l->tx, i, l->batch[i].from_id, 0);
		complete(l->rx, i, l->batch[i].to_id, l->batch[i].len);
	}
	publish(l->rx, n);
	publish(l->tx, n);
}

/* Wait for more? */
static bool patient(struct lane *l, unsigned n)
{
	uint64_t now;

	if (n >= WAIT_FOR)
		return false;
	now = time_now_ns();
	if (l->waiting_since == 0)
		l->waiting_since = now;
	return now - l->waiting_since < WAIT_NS;
}

static void poll_lane(struct lane *l, struct bare_counts *c)
{
	const uint64_t began = cycles();
	unsigned n = ready(l->tx);

	if (n == 0 || patient(l, n))
		return;
	l->waiting_since = 0;
	n = min_u32(min_u32(n, ready(l->rx)), BATCH);
	if (n == 0)
		return;
	move(l, n);
	/* one writer: no need for an atomic addition */
	atomic_store_explicit(&c->frames, c->frames + n, memory_order_relaxed);
	atomic_store_explicit(&c->polls, c->polls + 1, memory_order_relaxed);
	atomic_store_explicit(&c->busy, c->busy + cycles() - began, memory_order_relaxed);
}

static struct lane lane_of(struct bare_port *src, struct bare_port *dst)
{
	return (struct lane){.src = src, .dst = dst, .tx = &src->ring[1], .rx = &dst->ring[0]};
}

void bare_loop(struct bare_port port[2], struct bare_counts *counts, const _Atomic bool *stop)
{
	struct lane there = lane_of(&port[0], &port[1]), back = lane_of(&port[1], &port[0]);

	for (unsigned i = 0; i < 2; i++)
		for (unsigned j = 0; j < 2; j++)
			port[i].ring[j].used->flags = FRONT_USED_NO_NOTIFY;
	while (!atomic_load_explicit(stop, memory_order_relaxed)) {
		poll_lane(&there, counts);
		poll_lane(&back, counts);
	}
}
