/* SPDX-License-Identifier: Apache-2.0 */
/* The device side of a packed ring (virtio 1.2, 2.8). What is promised is in virtq.h, what survives in journal.h.
 *
 * One array of descriptors: the driver makes them available, and we write used ones over the first descriptor of each
 * chain, in the same order. Two flag bits, compared with a counter that flips with each lap, say whose one is.
 */
#include "virtq/virtq_priv.h"

/* What is to be used is written down before anything of it is seen. Program order is enough (journal.h). */
static void keep_order(void)
{
	__asm__ volatile("" ::: "memory");
}

static inline unsigned pos_of(uint16_t at)
{
	return at & PACKED_POS;
}

/* @n descriptors on from @at. */
static inline uint16_t advance(const struct virtq *vq, uint16_t at, unsigned n)
{
	unsigned pos = pos_of(at) + n;

	if (pos < vq->size)
		return (uint16_t)(at + n);
	return (uint16_t)((pos - vq->size) | (~at & PACKED_WRAP));
}

/* virtio 1.2, 2.8.1: available if AVAIL is our wrap counter and USED is not. */
static bool is_available(unsigned flags, uint16_t at)
{
	bool wrap = at & PACKED_WRAP;

	return !!(flags & VRING_PACKED_DESC_F_AVAIL) == wrap && !!(flags & VRING_PACKED_DESC_F_USED) != wrap;
}

static uint16_t used_flags(uint16_t at, uint32_t written)
{
	unsigned flags = at & PACKED_WRAP ? VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED : 0;

	return (uint16_t)(written ? flags | VRING_DESC_F_WRITE : flags);
}

unsigned packed_look(struct virtq *vq)
{
	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return 0;
	return is_available(__atomic_load_n(&vq->ring[pos_of(vq->avail_at)].flags, __ATOMIC_ACQUIRE), vq->avail_at);
}

/* One read of the descriptor at @at into @d, flags first. */
static void read_desc(const struct virtq *vq, uint16_t at, struct vring_packed_desc *d)
{
	const struct vring_packed_desc *from = &vq->ring[pos_of(at)];
	uint64_t w = desc_word(&from->len);

	d->len = word_len(w);
	d->id = (uint16_t)(w >> 32);
	d->flags = (uint16_t)(w >> 48);
	d->addr = __atomic_load_n(&from->addr, __ATOMIC_RELAXED);
}

/* A list of descriptors, one behind the other, or a table. The last one has the id (2.8.6). */
static bool walk_list(struct walk *w, struct vring_packed_desc d)
{
	struct virtq *vq = w->vq;
	struct virtq_chain *c = w->chain;

	for (unsigned seen = 0; seen < vq->size; seen++) {
		c->end = advance(vq, c->end, 1);
		c->id = d.id;
		if (d.flags & VRING_DESC_F_INDIRECT)
			return walk_table(w, (gpa_t){d.addr}, d.len, d.flags, false);
		if (unlikely(!walk_buffer(w, (gpa_t){d.addr}, d.len, d.flags)))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		/* The driver makes the first one available when all are written (2.8.21), so this one is. */
		read_desc(vq, c->end, &d);
	}
	return virtq_fail(vq, VIRTQ_FAULT_LOOP);
}

static bool fetch_list(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b,
		       const struct vring_packed_desc *d)
{
	struct virtq_chain *c = &b->chain[b->n];
	struct walk w = {.vq = vq, .batch = b, .chain = c, .want_write = wanted_flag(dir), .mixed = dir == VIRTQ_MIXED};
	unsigned n_spans = b->n_spans;

	c->end = c->at;
	c->n_spans = c->n_readable = 0;
	c->len = 0;
	if (unlikely(!walk_list(&w, *d))) {
		b->n_spans = n_spans;
		return false;
	}
	if (!w.want_write)
		c->n_readable = c->n_spans;
	return true;
}

#define KIND_FLAGS (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)

/* Fetch the chain that begins with @d, one buffer or many. */
static bool fetch_any(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b,
		      const struct vring_packed_desc *d)
{
	struct virtq_chain *c = &b->chain[b->n];

	c->at = vq->avail_at;
	c->seq = vq->fetched;
	if (!fetch_list(vq, dir, b, d))
		return false;
	b->n++;
	vq->fetched++;
	vq->avail_at = c->end;
	return true;
}

#define WHOSE_FLAGS (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)

/* Fetch the usual chains, one buffer in one region, as many as there is room for and up to the first that is not of that
 * kind, or not there. */
static force_inline void fetch_plain(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b,
				     struct gmem_window *w)
{
	/* Copies, because for all the compiler knows each store below might change them. */
	const struct gmem *mem = vq->mem;
	struct virtq_chain *c = &b->chain[b->n];
	struct gspan *s = &b->span[b->n_spans];
	struct gmem_window window = *w;
	uint16_t at = vq->avail_at, seq = vq->fetched;
	unsigned i, n = min_u32(b->max - b->n, b->max_spans - b->n_spans);
	/* available, and neither chained nor a table nor of the other direction */
	unsigned wanted = wanted_flag(dir) | (at & PACKED_WRAP ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED);

	for (i = 0; i < n; i++, c++, s++, seq++) {
		struct vring_packed_desc d;

		read_desc(vq, at, &d);
		if ((d.flags & (KIND_FLAGS | WHOSE_FLAGS)) != wanted ||
		    unlikely(!gmem_span_whole(mem, &window, (gpa_t){d.addr}, d.len, s)))
			break;
		prefetch_buffer(s, dir);
		prefetch_read(&vq->ring[pos_of(advance(vq, at, vq->desc_ahead))]);
		c->seq = seq;
		c->id = d.id;
		c->n_spans = 1;
		c->n_readable = dir != VIRTQ_WRITABLE;
		c->len = d.len;
		c->at = at;
		at = advance(vq, at, 1);
		if (unlikely((c->at ^ at) & PACKED_WRAP))
			wanted ^= WHOSE_FLAGS;
		c->end = at;
	}
	b->n += i;
	b->n_spans += i;
	vq->fetched = seq;
	vq->avail_at = at;
	*w = window;
}

static force_inline unsigned fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	struct gmem_window w = {0};
	unsigned before = b->n;

	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return 0;
	for (;;) {
		struct vring_packed_desc d;

		fetch_plain(vq, dir, b, &w);
		if (!batch_has_room(b))
			break;
		read_desc(vq, vq->avail_at, &d);
		if (!is_available(d.flags, vq->avail_at) || !fetch_any(vq, dir, b, &d))
			break;
	}
	return b->n - before;
}

unsigned packed_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	return dir == VIRTQ_READABLE   ? fetch(vq, VIRTQ_READABLE, b)
	       : dir == VIRTQ_WRITABLE ? fetch(vq, VIRTQ_WRITABLE, b)
				       : fetch(vq, VIRTQ_MIXED, b);
}

static void log_ring(const struct virtq *vq, unsigned pos)
{
	if (unlikely(vq->log_used))
		gmem_dirty(vq->mem, (gpa_t){vq->used_log.v + pos * sizeof(vq->ring[0])}, sizeof(vq->ring[0]));
}

/* Length, id and flags in one store: whoever sees the flags sees the rest. */
static inline void put_used(struct virtq *vq, const struct virtq_journal_entry *u, int order)
{
	unsigned pos = pos_of(u->at);
	uint64_t w = u->len | (uint64_t)u->id << 32 | (uint64_t)used_flags(u->at, u->len) << 48;

	if (order == __ATOMIC_RELEASE)
		__atomic_store_n((uint64_t *)&vq->ring[pos].len, w, __ATOMIC_RELEASE);
	else
		__atomic_store_n((uint64_t *)&vq->ring[pos].len, w, __ATOMIC_RELAXED);
	log_ring(vq, pos);
}

/* Write what the intent says. The driver reads in order, so with the first one all become visible. */
static void carry_out(struct virtq *vq)
{
	struct virtq_journal *j = vq->journal;

	for (unsigned i = 1; i < j->n; i++)
		put_used(vq, &j->used[i], __ATOMIC_RELAXED);
	put_used(vq, &j->used[0], __ATOMIC_RELEASE);
}

static void settle(struct virtq *vq, uint16_t to)
{
	struct virtq_journal *j = vq->journal;

	vq->laps += (vq->used_at ^ to) >> 15;
	vq->used_at = to;
	keep_order();
	j->at = to;
	keep_order();
	j->n = 0;
	keep_order();
}

/* The journal's entries [0 .. n) are filled: publish them; the ring then stands at @to. */
static void publish_entries(struct virtq *vq, unsigned n, uint16_t to)
{
	struct virtq_journal *j = vq->journal;

	j->to = to;
	keep_order();
	j->n = (uint16_t)n;
	keep_order();
	carry_out(vq);
	settle(vq, to);
}

void packed_replay(struct virtq *vq)
{
	const struct virtq_journal *j = vq->journal;
	const struct virtq_journal_entry *first = &j->used[0];

	if (j->n == 0)
		return;
	/* The driver cannot have touched any of them before it has seen the first one used. */
	if (is_available(__atomic_load_n(&vq->ring[pos_of(first->at)].flags, __ATOMIC_ACQUIRE), first->at))
		carry_out(vq);
	settle(vq, j->to);
}

/* How many of the pending chains from @seq on, @n at most, make up whole frames? */
static unsigned whole_frames(const struct virtq *vq, uint16_t seq, unsigned n)
{
	unsigned fit = n < VIRTQ_JOURNAL_ENTRIES ? n : VIRTQ_JOURNAL_ENTRIES;

	while (fit > 1 && vq->pending[(seq + fit - 1) & vq->pending_mask].more)
		fit--;
	return fit;
}

void packed_publish(struct virtq *vq, uint16_t until)
{
	uint16_t seq = vq->published;

	while (seq != until) {
		unsigned n = whole_frames(vq, seq, (uint16_t)(until - seq));

		for (unsigned i = 0; i < n; i++) {
			const struct virtq_pending *p = &vq->pending[(seq + i) & vq->pending_mask];

			vq->journal->used[i] = (struct virtq_journal_entry){.at = p->at, .id = p->id, .len = p->len};
		}
		seq = (uint16_t)(seq + n);
		publish_entries(vq, n, vq->pending[(seq - 1) & vq->pending_mask].end);
	}
}

/* virtio 1.2, 2.8.10: in order, one used descriptor at the beginning of a batch, with the last one's id, stands for all
 * of it. */
void packed_return(struct virtq *vq, const struct virtq_chain *c, unsigned n)
{
	unsigned entries = vq->in_order ? 1 : n;

	while (n) {
		unsigned k = entries < VIRTQ_JOURNAL_ENTRIES ? entries : VIRTQ_JOURNAL_ENTRIES;
		unsigned chains = vq->in_order ? n : k;

		for (unsigned i = 0; i < k; i++)
			vq->journal->used[i] = (struct virtq_journal_entry){.at = c[i].at, .id = c[i].id};
		if (vq->in_order)
			vq->journal->used[0].id = c[n - 1].id;
		publish_entries(vq, k, c[chains - 1].end);
		c += chains;
		n -= chains;
		entries -= k;
	}
}

static void log_event(const struct virtq *vq)
{
	if (unlikely(vq->log_used))
		gmem_dirty(vq->mem, vq->event_log, sizeof(*vq->device));
}

bool packed_notify_on(struct virtq *vq)
{
	uint16_t flags = VRING_PACKED_EVENT_ENABLE;

	if (vq->event_idx) {
		__atomic_store_n(&vq->device->off_wrap, vq->avail_at, __ATOMIC_RELAXED);
		flags = VRING_PACKED_EVENT_DESC;
	}
	__atomic_store_n(&vq->device->flags, flags, __ATOMIC_RELEASE);
	log_event(vq);
	/* Our wish must be visible before the ring is looked at again, or both sides could go to sleep. */
	atomic_thread_fence(memory_order_seq_cst);
	return packed_look(vq) > 0;
}

void packed_notify_off(struct virtq *vq)
{
	__atomic_store_n(&vq->device->flags, VRING_PACKED_EVENT_DISABLE, __ATOMIC_RELAXED);
	log_event(vq);
}

/* Descriptors from @from to @to, which has passed the ring's end once at most. Behind @from in its lap: far more. */
static unsigned distance(const struct virtq *vq, uint16_t from, uint16_t to)
{
	unsigned lap = (from ^ to) & PACKED_WRAP ? vq->size : 0;

	return pos_of(to) + lap - pos_of(from);
}

/* virtio 1.2, 2.8.10.1: interrupt if the descriptor the driver names was used since the last decision. */
bool packed_wants_interrupt(const struct virtq *vq)
{
	uint16_t flags = __atomic_load_n(&vq->driver->flags, __ATOMIC_ACQUIRE), event;

	if (flags != VRING_PACKED_EVENT_DESC || !vq->event_idx)
		return flags != VRING_PACKED_EVENT_DISABLE;
	event = __atomic_load_n(&vq->driver->off_wrap, __ATOMIC_RELAXED);
	/* A driver that polls may go on for laps between two decisions. Positions do not tell how many, so rather once too
	 * often. */
	if (!vq->signalled_valid || pos_of(event) >= vq->size || vq->laps > 1)
		return true;
	return distance(vq, vq->signalled_at, event) < distance(vq, vq->signalled_at, vq->used_at);
}
