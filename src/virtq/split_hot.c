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

/* Which chain is the @i-th from here? */
static uint16_t head_at(const struct virtq *vq, unsigned i)
{
	return __atomic_load_n(&vq->avail->ring[(vq->fetched + i) & (vq->size - 1u)], __ATOMIC_RELAXED);
}

/* One read of a descriptor into @d. */
static void read_desc(const struct virtq *vq, unsigned i, struct vring_desc *d)
{
	uint64_t w = desc_word(&vq->desc[i].len);

	d->len = word_len(w);
	d->flags = (uint16_t)(w >> 32);
	d->next = (uint16_t)(w >> 48);
	d->addr = __atomic_load_n(&vq->desc[i].addr, __ATOMIC_RELAXED);
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
		read_desc(vq, d.next, &d);
	}
	return virtq_fail(vq, VIRTQ_FAULT_LOOP);
}

/* The long way: chains of several buffers, tables, buffers across regions, and everything that is wrong. */
static bool fetch_chain(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b, const struct vring_desc *d)
{
	struct virtq_chain *c = &b->chain[b->n];
	struct walk w = {
		.vq = vq, .batch = b, .chain = c, .want_write = wanted_flag(dir), .mixed = dir == VIRTQ_MIXED};
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

/* Fetch the chain with @head. */
static bool fetch_one(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b, uint16_t head)
{
	struct virtq_chain *c = &b->chain[b->n];
	struct vring_desc d;

	if (unlikely(head >= vq->size))
		return virtq_fail(vq, VIRTQ_FAULT_HEAD);
	read_desc(vq, head, &d);
	c->id = head;
	c->seq = vq->fetched;
	if (unlikely(d.flags != wanted_flag(dir)) || unlikely(!batch_add_buffer(vq, b, dir, (gpa_t){d.addr}, d.len)))
		if (!fetch_chain(vq, dir, b, &d))
			return false;
	b->n++;
	vq->fetched++;
	return true;
}

unsigned split_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	unsigned n = split_look(vq), before = b->n;

	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return 0;
	for (; n && batch_has_room(b); n--) {
		/* Not yet looked at, so not yet believed: any place in the table may be loaded early. */
		if (n > DESC_AHEAD)
			__builtin_prefetch(&vq->desc[head_at(vq, DESC_AHEAD) & (vq->size - 1)]);
		if (unlikely(!fetch_one(vq, dir, b, head_at(vq, 0))))
			break;
	}
	return b->n - before;
}

static void log_used(const struct virtq *vq, uint64_t offset, uint64_t len)
{
	if (unlikely(vq->log_used))
		gmem_dirty(vq->mem, (gpa_t){vq->used_log.v + offset}, len);
}

static void put_used(struct virtq *vq, uint16_t at, uint32_t id, uint32_t len)
{
	unsigned slot = at & (vq->size - 1u);

	vq->used->ring[slot] = (struct vring_used_elem){.id = id, .len = len};
	log_used(vq, offsetof(struct vring_used, ring) + slot * sizeof(struct vring_used_elem),
		 sizeof(struct vring_used_elem));
}

/* The chain's number in the order of fetching is its place in the used ring. */
void split_complete(struct virtq *vq, const struct virtq_chain *c, uint32_t written_bytes)
{
	put_used(vq, c->seq, c->id, written_bytes);
}

void split_publish(struct virtq *vq, uint16_t upto)
{
	__atomic_store_n(&vq->used->idx, upto, __ATOMIC_RELEASE);
	log_used(vq, offsetof(struct vring_used, idx), sizeof(vq->used->idx));
}

void split_return(struct virtq *vq, const struct virtq_chain *c, unsigned n)
{
	/* virtio 1.2, 2.7.9: in order, the entry at the beginning of a batch, with the last one's id, stands for all. */
	if (vq->in_order)
		put_used(vq, c[0].seq, c[n - 1].id, 0);
	else
		for (unsigned i = 0; i < n; i++)
			put_used(vq, c[i].seq, c[i].id, 0);
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
		log_used(vq, offsetof(struct vring_used, ring) + vq->size * sizeof(struct vring_used_elem), 2);
	} else {
		__atomic_store_n(&vq->used->flags, 0, __ATOMIC_RELAXED);
		log_used(vq, offsetof(struct vring_used, flags), 2);
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
	log_used(vq, offsetof(struct vring_used, flags), 2);
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
