/* SPDX-License-Identifier: Apache-2.0 */
/* The device side of a split ring (virtio 1.2, 2.7). What is promised is in virtq.h. Owning worker only. */
#include "virtq/virtq.h"

/* Ring fields are little-endian; Flue runs on little-endian machines only. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "split rings are read in place");

void virtq_break(struct virtq *vq, enum virtq_fault f)
{
	if (virtq_fault_get(vq) == VIRTQ_FAULT_NONE)
		atomic_store_explicit(&vq->fault, f, memory_order_relaxed);
}

static bool fail(struct virtq *vq, enum virtq_fault f)
{
	virtq_break(vq, f);
	return false;
}

/* Learn how far the guest has got. A jump by more than the ring's size cannot come from a driver that works. */
static unsigned look(struct virtq *vq)
{
	uint16_t idx = __atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE);

	if (unlikely((uint16_t)(idx - vq->last_avail) > vq->size)) {
		fail(vq, VIRTQ_FAULT_AVAIL_INDEX);
		return 0;
	}
	vq->avail_idx = idx;
	return (uint16_t)(idx - vq->last_avail);
}

unsigned virtq_ready(struct virtq *vq)
{
	unsigned known = (uint16_t)(vq->avail_idx - vq->last_avail);

	if (known)
		return known;
	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return 0;
	return look(vq);
}

/* A chain being fetched. */
struct walk {
	struct virtq *vq;
	struct virtq_chain *chain;
	struct gspan *spans;
	unsigned max_spans;
	uint16_t want_write; /* VRING_DESC_F_WRITE or 0 */
	bool mixed;          /* writable ones may follow the readable ones */
};

/* A change of direction: allowed once, to writable (virtio 1.2, 2.7.4.2: readable elements come first). */
static bool turn(struct walk *w)
{
	if (!w->mixed || w->want_write)
		return fail(w->vq, VIRTQ_FAULT_DIRECTION);
	w->want_write = VRING_DESC_F_WRITE;
	w->chain->n_readable = w->chain->n_spans;
	return true;
}

/* Translate one buffer descriptor (a checked copy) into pieces. */
static bool take_buffer(struct walk *w, const struct vring_desc *d)
{
	gpa_t at = {d->addr};
	uint32_t left = d->len;

	if (unlikely((d->flags & VRING_DESC_F_WRITE) != w->want_write) && !turn(w))
		return false;
	if (unlikely(left == 0))
		return fail(w->vq, VIRTQ_FAULT_EMPTY);
	if (unlikely(__builtin_add_overflow(w->chain->len, left, &w->chain->len)))
		return fail(w->vq, VIRTQ_FAULT_LENGTH);
	while (left) {
		struct gspan *s = &w->spans[w->chain->n_spans];

		if (unlikely(w->chain->n_spans == w->max_spans))
			return fail(w->vq, VIRTQ_FAULT_PIECES);
		if (unlikely(!gmem_span(w->vq->mem, at, left, s)))
			return fail(w->vq, VIRTQ_FAULT_UNMAPPED);
		w->chain->n_spans++;
		at.v += s->len;
		left -= s->len;
	}
	return true;
}

/* Copy entry @i of an indirect table that starts at @table; it may cross regions. */
static bool read_indirect(const struct gmem *m, gpa_t table, unsigned i, struct vring_desc *d)
{
	uint32_t got = 0;

	while (got < sizeof(*d)) {
		struct gspan s;

		if (!gmem_span(m, (gpa_t){table.v + i * sizeof(*d) + got}, (uint32_t)sizeof(*d) - got, &s))
			return false;
		memcpy((char *)d + got, s.p, s.len);
		got += s.len;
	}
	__asm__ volatile("" : "+m"(*d)); /* as in take_chain() */
	return true;
}

/* virtio 1.2, 2.7.5.3: the table is one flat array, chained by NEXT inside it, no further indirection. */
static bool take_indirect(struct walk *w, const struct vring_desc *table)
{
	unsigned n = table->len / (unsigned)sizeof(struct vring_desc), i = 0;

	if (unlikely(!w->vq->indirect))
		return fail(w->vq, VIRTQ_FAULT_INDIRECT_UNASKED);
	if (unlikely(table->flags & VRING_DESC_F_NEXT))
		return fail(w->vq, VIRTQ_FAULT_INDIRECT_NESTED);
	if (unlikely(n == 0 || table->len % sizeof(struct vring_desc) || n > w->vq->size))
		return fail(w->vq, VIRTQ_FAULT_INDIRECT_SIZE);
	for (unsigned seen = 0; seen < n; seen++) {
		struct vring_desc d;

		if (unlikely(!read_indirect(w->vq->mem, (gpa_t){table->addr}, i, &d)))
			return fail(w->vq, VIRTQ_FAULT_UNMAPPED);
		if (unlikely(d.flags & VRING_DESC_F_INDIRECT))
			return fail(w->vq, VIRTQ_FAULT_INDIRECT_NESTED);
		if (unlikely(!take_buffer(w, &d)))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (unlikely(d.next >= n))
			return fail(w->vq, VIRTQ_FAULT_NEXT);
		i = d.next;
	}
	return fail(w->vq, VIRTQ_FAULT_LOOP);
}

static bool take_chain(struct walk *w, uint16_t head)
{
	struct virtq *vq = w->vq;
	uint16_t i = head;

	for (unsigned seen = 0; seen < vq->size; seen++) {
		struct vring_desc d;

		/* One copy, through a compiler barrier: the guest may rewrite the entry between two reads. */
		memcpy(&d, &vq->desc[i], sizeof(d));
		__asm__ volatile("" : "+m"(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			/* Linux and DPDK only ever send a table as the whole chain; after a direct part the
			 * specification allows it too (2.7.5.3.1 forbids only NEXT in the referring descriptor). */
			return take_indirect(w, &d);
		}
		if (unlikely(!take_buffer(w, &d)))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (unlikely(d.next >= vq->size))
			return fail(vq, VIRTQ_FAULT_NEXT);
		i = d.next;
	}
	return fail(vq, VIRTQ_FAULT_LOOP);
}

bool virtq_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_chain *c, struct gspan *spans,
		 unsigned max_spans)
{
	struct walk w = {
		.vq = vq,
		.chain = c,
		.spans = spans,
		.max_spans = max_spans,
		.want_write = dir == VIRTQ_WRITABLE ? VRING_DESC_F_WRITE : 0,
		.mixed = dir == VIRTQ_MIXED,
	};

	if (!virtq_ready(vq) || unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return false;
	*c = (struct virtq_chain){
		.head = __atomic_load_n(&vq->avail->ring[vq->last_avail & (vq->size - 1)], __ATOMIC_RELAXED),
	};
	if (unlikely(c->head >= vq->size))
		return fail(vq, VIRTQ_FAULT_HEAD);
	if (unlikely(!take_chain(&w, c->head)))
		return false;
	if (!w.want_write)
		c->n_readable = c->n_spans;
	vq->last_avail++;
	return true;
}

void virtq_unfetch(struct virtq *vq, unsigned n)
{
	vq->last_avail = (uint16_t)(vq->last_avail - n);
}

static void log_used(const struct virtq *vq, uint64_t offset, uint64_t len)
{
	if (unlikely(vq->log_used))
		gmem_dirty(vq->mem, (gpa_t){vq->used_log.v + offset}, len);
}

void virtq_complete(struct virtq *vq, const struct virtq_chain *c, uint32_t written_bytes)
{
	unsigned slot = vq->used_idx & (vq->size - 1);

	vq->used->ring[slot] = (struct vring_used_elem){.id = c->head, .len = written_bytes};
	log_used(vq, offsetof(struct vring_used, ring) + slot * sizeof(struct vring_used_elem),
		 sizeof(struct vring_used_elem));
	vq->used_idx++;
}

void virtq_publish(struct virtq *vq)
{
	if (vq->published_idx == vq->used_idx)
		return;
	__atomic_store_n(&vq->used->idx, vq->used_idx, __ATOMIC_RELEASE);
	log_used(vq, offsetof(struct vring_used, idx), sizeof(vq->used->idx));
	__atomic_store_n(&vq->published_idx, vq->used_idx, __ATOMIC_RELAXED);
}

/* avail_event sits behind the last entry of the used ring (virtio 1.2, 2.7.8). */
static uint16_t *avail_event(struct virtq *vq)
{
	return (uint16_t *)&vq->used->ring[vq->size];
}

bool virtq_notify_on(struct virtq *vq)
{
	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return false;
	if (vq->event_idx) {
		__atomic_store_n(avail_event(vq), vq->last_avail, __ATOMIC_RELAXED);
		log_used(vq, offsetof(struct vring_used, ring) + vq->size * sizeof(struct vring_used_elem), 2);
	} else {
		__atomic_store_n(&vq->used->flags, 0, __ATOMIC_RELAXED);
		log_used(vq, offsetof(struct vring_used, flags), 2);
	}
	/* Our wish must be visible before avail->idx is read again, or both sides could go to sleep. */
	atomic_thread_fence(memory_order_seq_cst);
	return look(vq) > 0;
}

void virtq_notify_off(struct virtq *vq)
{
	if (vq->event_idx)
		return; /* avail_event stays behind last_avail: no notification until it is moved */
	__atomic_store_n(&vq->used->flags, VRING_USED_F_NO_NOTIFY, __ATOMIC_RELAXED);
	log_used(vq, offsetof(struct vring_used, flags), 2);
}
