/* SPDX-License-Identifier: Apache-2.0 */
/* Chains that are not just one buffer, for both layouts: from descriptors (checked copies) to pieces of guest memory. */
#include "virtq/virtq_priv.h"

/* A change of direction: allowed once, to writable (virtio 1.2, 2.7.4.2: readable elements come first). */
static bool turn(struct walk *w)
{
	if (!w->mixed || w->want_write)
		return virtq_fail(w->vq, VIRTQ_FAULT_DIRECTION);
	w->want_write = VRING_DESC_F_WRITE;
	w->chain->n_readable = w->chain->n_spans;
	return true;
}

bool walk_buffer(struct walk *w, gpa_t gpa, uint32_t len, uint16_t flags)
{
	struct virtq_batch *b = w->batch;

	if (unlikely((flags & VRING_DESC_F_WRITE) != w->want_write) && !turn(w))
		return false;
	if (unlikely(len == 0))
		return virtq_fail(w->vq, VIRTQ_FAULT_EMPTY);
	if (unlikely(__builtin_add_overflow(w->chain->len, len, &w->chain->len)))
		return virtq_fail(w->vq, VIRTQ_FAULT_LENGTH);
	while (len) {
		struct gspan *s = &b->span[b->n_spans];

		if (unlikely(w->chain->n_spans == VIRTQ_CHAIN_SPANS))
			return virtq_fail(w->vq, VIRTQ_FAULT_PIECES);
		if (unlikely(!gmem_span(w->vq->mem, gpa, len, s)))
			return virtq_fail(w->vq, VIRTQ_FAULT_UNMAPPED);
		b->n_spans++;
		w->chain->n_spans++;
		gpa.v += s->len;
		len -= s->len;
	}
	return true;
}

/* Copy entry @i of a table; it may cross regions. Both layouts have address and length at the same places. */
static bool read_entry(const struct gmem *m, gpa_t table, unsigned i, struct vring_desc *d)
{
	uint32_t got = 0;

	while (got < sizeof(*d)) {
		struct gspan s;

		if (!gmem_span(m, (gpa_t){table.v + i * sizeof(*d) + got}, (uint32_t)sizeof(*d) - got, &s))
			return false;
		memcpy((char *)d + got, s.p, s.len);
		got += s.len;
	}
	/* One copy: the compiler must not read guest memory again when the copy is looked at. */
	__asm__ volatile("" : "+m"(*d));
	return true;
}

/* virtio 1.2, 2.7.5.3: split: chained by NEXT inside the table, no further indirection. */
static bool walk_linked(struct walk *w, gpa_t table, unsigned n)
{
	unsigned i = 0;

	for (unsigned seen = 0; seen < n; seen++) {
		struct vring_desc d;

		if (unlikely(!read_entry(w->vq->mem, table, i, &d)))
			return virtq_fail(w->vq, VIRTQ_FAULT_UNMAPPED);
		if (unlikely(d.flags & VRING_DESC_F_INDIRECT))
			return virtq_fail(w->vq, VIRTQ_FAULT_INDIRECT_NESTED);
		if (unlikely(!walk_buffer(w, (gpa_t){d.addr}, d.len, d.flags)))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		if (unlikely(d.next >= n))
			return virtq_fail(w->vq, VIRTQ_FAULT_NEXT);
		i = d.next;
	}
	return virtq_fail(w->vq, VIRTQ_FAULT_LOOP);
}

/* Of a table in a packed ring: what an entry's flags say of its direction. DPDK (22.11 and its neighbours) marks the
 * header of a frame it sends as writable there. Where everything is to be read, reading it does no harm. */
static uint16_t direction_in_table(const struct walk *w, uint16_t flags)
{
	return w->mixed || w->want_write ? flags : 0;
}

/* virtio 1.2, 2.8.8: packed: all entries, one after another; of the flags only WRITE counts. A nested table is refused
 * all the same: who builds one expects something else. */
static bool walk_array(struct walk *w, gpa_t table, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct vring_packed_desc d;

		if (unlikely(!read_entry(w->vq->mem, table, i, (struct vring_desc *)&d)))
			return virtq_fail(w->vq, VIRTQ_FAULT_UNMAPPED);
		if (unlikely(d.flags & VRING_DESC_F_INDIRECT))
			return virtq_fail(w->vq, VIRTQ_FAULT_INDIRECT_NESTED);
		if (unlikely(!walk_buffer(w, (gpa_t){d.addr}, d.len, direction_in_table(w, d.flags))))
			return false;
	}
	return true;
}

bool walk_table(struct walk *w, gpa_t gpa, uint32_t len, uint16_t flags, bool linked)
{
	unsigned n = len / (unsigned)sizeof(struct vring_desc);

	if (unlikely(!w->vq->indirect))
		return virtq_fail(w->vq, VIRTQ_FAULT_INDIRECT_UNASKED);
	if (unlikely(flags & VRING_DESC_F_NEXT))
		return virtq_fail(w->vq, VIRTQ_FAULT_INDIRECT_NESTED);
	if (unlikely(n == 0 || len % sizeof(struct vring_desc) || n > w->vq->size))
		return virtq_fail(w->vq, VIRTQ_FAULT_INDIRECT_SIZE);
	return linked ? walk_linked(w, gpa, n) : walk_array(w, gpa, n);
}
