/* SPDX-License-Identifier: Apache-2.0 */
/* The device side of a split ring (virtio 1.2, 2.7). What is promised is in virtq.h. */
#include "virtq/virtq_priv.h"

#define DESC_AHEAD 16 /* descriptors are loaded so many chains ahead: four cache lines */

/* Learn how far the guest has got. A jump by more than the ring's size cannot come from a driver that works. */
static unsigned look(struct virtq *vq)
{
	uint16_t idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);

	if (unlikely((uint16_t)(idx - vq->fetched) > vq->size)) {
		virtq_break(vq, VIRTQ_FAULT_AVAIL_INDEX);
		return 0;
	}
	vq->avail_idx = idx;
	return (uint16_t)(idx - vq->fetched);
}

unsigned split_look(struct virtq *vq)
{
	unsigned known = (uint16_t)(vq->avail_idx - vq->fetched);

	if (known)
		return known;
	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return 0;
	return look(vq);
}

/* One read of a descriptor into @d. */
static inline void read_desc(const struct vring_desc *from, struct vring_desc *d)
{
	uint64_t w = desc_word(&from->len);

	d->len = word_len(w);
	d->flags = (uint16_t)(w >> 32);
	d->next = (uint16_t)(w >> 48);
	d->addr = __atomic_load_n(&from->addr, __ATOMIC_RELAXED);
}

static bool walk_chain(struct walk *w, struct vring_desc d)
{
	struct virtq *vq = w->vq;

	for (unsigned seen = 0; seen < vq->size; seen++) {
		/* Linux and DPDK only ever send a table as the whole chain; after a direct part the specification allows
		 * it too (2.7.5.3.1 forbids only NEXT in the referring descriptor). */
		if (d.flags & VRING_DESC_F_INDIRECT)
			return walk_table(w, (gpa_t){d.addr}, d.len, d.flags, true);
		if (unlikely(!walk_buffer(w, (gpa_t){d.addr}, d.len, d.flags)))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (unlikely(d.next >= vq->size))
			return virtq_fail(vq, VIRTQ_FAULT_NEXT);
		read_desc(&vq->desc[d.next], &d);
	}
	return virtq_fail(vq, VIRTQ_FAULT_LOOP);
}

/* The long way: chains of several buffers, tables, buffers across regions, and everything that is wrong. */
static bool fetch_chain(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b, const struct vring_desc *d)
{
	struct virtq_chain *c = &b->chain[b->n];
	struct walk w = {.vq = vq, .batch = b, .chain = c, .want_write = wanted_flag(dir), .mixed = dir == VIRTQ_MIXED};
	unsigned n_spans = b->n_spans;

	c->n_spans = c->n_readable = 0;
	c->len = 0;
	if (unlikely(!walk_chain(&w, *d))) {
		b->n_spans = n_spans;
		return false;
	}
	if (!w.want_write)
		c->n_readable = c->n_spans;
	return true;
}

/* Fetch the next chain, whatever it is like. */
static bool fetch_any(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	struct virtq_chain *c = &b->chain[b->n];
	uint16_t head = __atomic_load_n(&vq->avail->ring[vq->fetched & (vq->size - 1u)], __ATOMIC_RELAXED);
	struct vring_desc d;

	if (unlikely(head >= vq->size))
		return virtq_fail(vq, VIRTQ_FAULT_HEAD);
	read_desc(&vq->desc[head], &d);
	c->id = head;
	c->seq = vq->fetched;
	if (!fetch_chain(vq, dir, b, &d))
		return false;
	b->n++;
	vq->fetched++;
	return true;
}

/* Fetch the usual chains, one buffer in one region, @n at most and up to the first that is not of that kind. */
static force_inline unsigned fetch_plain(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b, unsigned n,
					 struct gmem_window *w)
{
	/* Copies, because for all the compiler knows each store below might change them. */
	const struct vring_desc *desc = vq->desc;
	const uint16_t *ring = vq->avail->ring;
	const struct gmem *mem = vq->mem;
	struct virtq_chain *c = &b->chain[b->n];
	struct gspan *s = &b->span[b->n_spans];
	struct gmem_window window = *w;
	unsigned i, at = vq->fetched, mask = vq->size - 1u;

	n = min_u32(n, b->max_spans - b->n_spans);
	for (i = 0; i < n; i++, at++, c++, s++) {
		uint16_t head = __atomic_load_n(&ring[at & mask], __ATOMIC_RELAXED);
		struct vring_desc d;

		/* What lies ahead is not yet looked at, so not yet believed: any place in the table may be loaded. */
		prefetch_read(&desc[ring[(at + DESC_AHEAD) & mask] & mask]);
		if (unlikely(head > mask))
			break;
		read_desc(&desc[head], &d);
		if (unlikely(d.flags != wanted_flag(dir)) ||
		    unlikely(!gmem_span_whole(mem, &window, (gpa_t){d.addr}, d.len, s)))
			break;
		prefetch_buffer(s, dir);
		c->seq = (uint16_t)at;
		c->id = head;
		c->n_spans = 1;
		c->n_readable = dir != VIRTQ_WRITABLE;
		c->len = d.len;
	}
	*w = window;
	b->n += i;
	b->n_spans += i;
	vq->fetched = (uint16_t)(vq->fetched + i);
	return i;
}

static force_inline unsigned fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	unsigned n = min_u32(split_look(vq), b->max - b->n), before = b->n;
	struct gmem_window w = {0};

	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return 0;
	while (n) {
		n -= fetch_plain(vq, dir, b, n, &w);
		if (likely(n == 0) || !batch_has_room(b) || !fetch_any(vq, dir, b))
			break;
		n--;
	}
	return b->n - before;
}

unsigned split_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	return dir == VIRTQ_READABLE   ? fetch(vq, VIRTQ_READABLE, b)
	       : dir == VIRTQ_WRITABLE ? fetch(vq, VIRTQ_WRITABLE, b)
				       : fetch(vq, VIRTQ_MIXED, b);
}

void split_publish(struct virtq *vq, uint16_t until)
{
	__atomic_store_n(&vq->used->idx, until, __ATOMIC_RELEASE);
	split_log_used(vq, offsetof(struct vring_used, idx), sizeof(vq->used->idx));
}

void split_return(struct virtq *vq, const struct virtq_chain *c, unsigned n)
{
	/* virtio 1.2, 2.7.9: in order, the entry at the beginning of a batch, with the last one's id, stands for all. */
	if (vq->in_order)
		split_put_used(vq, c[0].seq, c[n - 1].id, 0);
	else
		for (unsigned i = 0; i < n; i++)
			split_put_used(vq, c[i].seq, c[i].id, 0);
	split_publish(vq, (uint16_t)(c[0].seq + n));
}

/* avail_event sits behind the last entry of the used ring (virtio 1.2, 2.7.8). */
static uint16_t *avail_event(struct virtq *vq)
{
	return (uint16_t *)&vq->used->ring[vq->size];
}

bool split_notify_on(struct virtq *vq)
{
	if (vq->event_idx) {
		__atomic_store_n(avail_event(vq), vq->fetched, __ATOMIC_RELAXED);
		split_log_used(vq, offsetof(struct vring_used, ring) + vq->size * sizeof(struct vring_used_elem), 2);
	} else {
		__atomic_store_n(&vq->used->flags, 0, __ATOMIC_RELAXED);
		split_log_used(vq, offsetof(struct vring_used, flags), 2);
	}
	/* Our wish must be visible before avail->idx is read again, or both sides could go to sleep. */
	atomic_thread_fence(memory_order_seq_cst);
	return look(vq) > 0;
}

void split_notify_off(struct virtq *vq)
{
	if (vq->event_idx)
		return; /* avail_event stays behind: no notification until it is moved */
	__atomic_store_n(&vq->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	split_log_used(vq, offsetof(struct vring_used, flags), 2);
}

/* virtio 1.2, 2.7.7.2: with EVENT_IDX, interrupt if used_event lies in what was published since the last decision. */
bool split_wants_interrupt(const struct virtq *vq)
{
	uint16_t event, from = vq->signalled, to = vq->published;

	if (!vq->event_idx)
		return !(__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
	event = __atomic_load_n(&vq->avail->ring[vq->size], __ATOMIC_RELAXED);
	return !vq->signalled_valid || (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}
