/* SPDX-License-Identifier: Apache-2.0 */
/* Frames to a guest: one copy, from where the sender put them into the buffers of a receiveq.
 *
 * Steps:   reserve (fetch buffers for some frames, under the queue's lock), fill them (without it), and, when the whole
 *          batch is done, publish: what is filled, in the order it was reserved, whoever filled it.
 * Thread:  any worker.
 * Trust:   buffers were translated by virtq; their contents never matter here, they are only written.
 * Order:   all buffers of a frame are published at once. A frame that does not fit takes no buffer.
 */
#include "base/copy.h"
#include "port/guest_priv.h"
#include "wire/csum.h"
#include "wire/ip.h"

#define FILL_CHAINS VIRTQ_JOURNAL_ENTRIES /* buffers for one frame, and reserved at once */
#define FILL_SPANS                                                                                                     \
	(2048 +                                                                                                        \
	 VIRTQ_CHAIN_SPANS) /* pieces of them: or one that posts single bytes would hold up all who share its worker */

/* Pieces for all frames of a batch; 64 frames of 64 KiB take fewer from a guest with buffers of 1,500 bytes. */
#define BATCH_PIECES_MAX 4096

/* A reservation while it is made and filled. Frame i of the list gets the next n[i] chains; none: it is dropped. */
struct fill {
	struct virtq_batch batch;
	unsigned used;   /* chains that frames got, of batch.n */
	unsigned pieces; /* looked up so far, for all reservations of the batch */
	uint16_t n[FRAME_BATCH];
	struct virtq_chain chain[FILL_CHAINS];
	struct gspan span[FILL_SPANS];
};

/* ---- reserve: under the lock ---- */

/* Have chain @i in the batch, fetching up to @ahead if need be. */
static inline bool have_chain(struct virtq *vq, struct fill *fill, unsigned i, unsigned ahead)
{
	if (likely(i < fill->batch.n))
		return true;
	fill->batch.max = min_u32(i + ahead, FILL_CHAINS);
	return virtq_fetch(vq, VIRTQ_WRITABLE, &fill->batch) > 0;
}

/* May a frame be put off until the next reservation, because this one is full? */
static bool is_full(const struct fill *fill)
{
	return fill->batch.n == FILL_CHAINS || fill->batch.max_spans - fill->batch.n_spans < VIRTQ_CHAIN_SPANS;
}

#define PUT_OFF ((enum drop_reason)(DROP_N + 1))

/* Find the buffers for a frame of @bytes, header included: *n of them. DROP_N: there they are. @left: frames to come,
 * this one included. */
static inline enum drop_reason find_buffers(const struct guest_tx *q, struct fill *fill, uint32_t bytes, unsigned left,
					    unsigned *n)
{
	uint64_t room = 0;

	for (*n = 0; room < bytes; ++*n) {
		if (*n && !q->mergeable)
			return DROP_TOO_BIG;
		if (unlikely(!have_chain(q->vq, fill, fill->used + *n, left))) {
			if (virtq_fault_get(q->vq) != VIRTQ_FAULT_NONE)
				return DROP_BROKEN;
			return fill->used && is_full(fill) ? PUT_OFF : DROP_QUEUE_FULL;
		}
		room += fill->chain[fill->used + *n].len;
		if (unlikely(room < q->hdr_bytes)) { /* the header must fit into the first one */
			virtq_break(q->vq, VIRTQ_FAULT_EMPTY);
			return DROP_BROKEN;
		}
	}
	return DROP_N;
}

/* Enter what was reserved. */
static void open_reservation(struct guest_tx *q, unsigned worker)
{
	unsigned n = q->n_open;

	if (n == 0 || q->open[n - 1].worker != worker)
		n++;
	q->open[n - 1] = (struct guest_reservation){.end = q->vq->fetched, .worker = (uint8_t)worker};
	__atomic_store_n(&q->n_open, n, __ATOMIC_RELAXED);
}

/* Is there a place for a reservation of @worker? */
static bool may_reserve(const struct guest_tx *q, unsigned worker)
{
	return q->n_open < GUEST_RESERVATIONS_MAX || q->open[q->n_open - 1].worker == worker;
}

/* The usual case: one buffer for each frame. Reserves for the first frames, up to one that needs more. */
static unsigned reserve_plain(const struct guest_tx *q, struct fill *fill, struct frame *const *f, unsigned n)
{
	unsigned i;

	fill->batch.max = n;
	n = virtq_fetch(q->vq, VIRTQ_WRITABLE, &fill->batch);
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): f[0 .. n) are set, by spread() too */
	for (i = 0; i < n && fill->chain[i].len >= q->hdr_bytes + f[i]->len; i++)
		fill->n[i] = 1;
	fill->used = i;
	return i;
}

/* Reserve for the first frames of the list, as many as will do; returns how many were considered. */
static unsigned reserve(struct guest_tx *q, struct fill *fill, struct frame *const *f, unsigned n, unsigned worker,
			struct port_counters *counts)
{
	unsigned i = reserve_plain(q, fill, f, n);

	for (; i < n; i++) {
		unsigned chains;
		enum drop_reason r = find_buffers(q, fill, q->hdr_bytes + f[i]->len, n - i, &chains);

		if (unlikely(r == PUT_OFF))
			break;
		if (unlikely(r != DROP_N)) {
			count(&counts->drop[r], 1);
			chains = 0;
		}
		fill->n[i] = (uint16_t)chains;
		fill->used += chains;
	}
	fill->pieces += fill->batch.n_spans;
	virtq_unfetch(q->vq, &fill->batch, fill->batch.n - fill->used);
	if (fill->used)
		open_reservation(q, worker);
	return i;
}

/* ---- fill: without it ---- */

/* Where the next byte goes: pieces of the chains, chain by chain. */
struct cursor {
	struct virtq *vq;
	struct virtq_chain *chain;
	struct gspan *span;
	unsigned spans_left; /* of the chain */
	uint32_t written;    /* to the chain */
	unsigned chains_left;
};

static void next_chain(struct cursor *c)
{
	virtq_complete(c->vq, c->chain, c->written, true);
	c->chain++;
	c->chains_left--;
	c->spans_left = c->chain->n_spans;
	c->written = 0;
}

static inline void put(struct cursor *c, const uint8_t *src, uint32_t len)
{
	while (len) {
		uint32_t part = min_u32(len, c->span->len);

		gmem_write(c->vq->mem, c->span, src, part);
		c->written += part;
		src += part;
		len -= part;
		if (c->span->len)
			return;
		c->span++;
		if (--c->spans_left == 0 && c->chains_left > 1)
			next_chain(c);
	}
}

static inline void put_frame(struct cursor *c, const struct frame *f, const struct guest_tx *q)
{
	struct net_hdr hdr;

	offload_put(f, q->csum, &hdr);
	hdr.num_buffers = (uint16_t)c->chains_left;
	put(c, (const uint8_t *)&hdr, q->hdr_bytes);
	put(c, f->data, f->head_len);
	for (unsigned i = 0; i < f->n_body; i++)
		put(c, f->body[i].p, f->body[i].len);
	virtq_complete(c->vq, c->chain, c->written, false);
}

/* The header before a frame that is finished, in a buffer of one piece. */
static force_inline void put_plain_header(const struct guest_tx *q, uint8_t *to)
{
	static const struct net_hdr plain = {.num_buffers = 1};

	memcpy(to, &plain, NET_HDR_SHORT);
	if (likely(q->hdr_bytes == NET_HDR_LONG))
		memcpy(to + NET_HDR_SHORT, &plain.num_buffers, sizeof(plain.num_buffers));
}

static __attribute__((noinline)) void put_header(const struct guest_tx *q, uint8_t *to, const struct frame *f)
{
	struct net_hdr hdr;

	offload_put(f, q->csum, &hdr);
	memcpy(to, &hdr, q->hdr_bytes);
}

/* The usual case of put_frame(): one buffer in one piece. */
static force_inline void put_whole(const struct guest_tx *q, const struct virtq_chain *chain, const struct gspan *s,
				   const struct frame *f)
{
	uint32_t hdr_bytes = q->hdr_bytes;
	uint8_t *to = s->p + hdr_bytes;

	if (likely(!f->off.flags))
		put_plain_header(q, s->p);
	else
		put_header(q, s->p, f);
	if (likely(f->head_len <= COPY_SHORT_MAX))
		copy_short(to, f->data, f->head_len);
	else /* with a tag */
		memcpy(to, f->data, f->head_len);
	to += f->head_len;
	for (unsigned i = 0; i < f->n_body; i++) {
		copy_bytes(to, f->body[i].p, f->body[i].len);
		to += f->body[i].len;
	}
	gmem_dirty(q->vq->mem, s->gpa, hdr_bytes + f->len);
	virtq_complete(q->vq, chain, hdr_bytes + f->len, false);
}

/* ---- for a guest that does not complete checksums ---- */

static inline bool lacks_csum(const struct guest_tx *q, const struct frame *f)
{
	return f->off.flags & NET_HDR_F_NEEDS_CSUM && !q->csum;
}

/* put_whole(), summing what is copied: little more than the copy. The frame's end is that of its payload. */
static __attribute__((noinline)) void put_summed(const struct guest_tx *q, const struct virtq_chain *chain,
						 const struct gspan *s, const struct frame *f)
{
	uint8_t *frame = s->p + q->hdr_bytes, *to = frame + f->head_len;
	struct csum c = {0};
	uint16_t sum;

	put_plain_header(q, s->p);
	csum_add(&c, f->data + f->off.csum_start, f->head_len - f->off.csum_start); /* the seed, too */
	memcpy(frame, f->data, f->head_len);
	for (unsigned i = 0; i < f->n_body; i++) {
		csum_copy(&c, to, f->body[i].p, f->body[i].len);
		to += f->body[i].len;
	}
	sum = csum_done(&c);
	if (sum == 0 && f->off.csum_offset == UDP_CSUM_OFF) /* RFC 768 */
		sum = 0xffff;
	be16_put(frame + f->off.csum_start + f->off.csum_offset, sum);
	gmem_dirty(q->vq->mem, s->gpa, q->hdr_bytes + f->len);
	virtq_complete(q->vq, chain, q->hdr_bytes + f->len, false);
}

/* Where it cannot be done while copying. It was checked that it can be done (offload_take). */
static __attribute__((noinline)) void complete_csum(struct frame *f)
{
	uint32_t tag = frame_tag_bytes(f);

	if (l4_csum_finish(f->data + tag, f->head_len - tag, f->body, f->n_body, f->off.csum_start - tag,
			   f->off.csum_offset) == 0)
		f->off = (struct frame_offload){.flags = NET_HDR_F_DATA_VALID};
}

static void fill_frames(const struct guest_tx *q, struct fill *fill, struct frame *const *f, unsigned n,
			struct port_counters *counts)
{
	struct virtq_chain *chain = fill->chain;
	struct gspan *span = fill->span;
	uint64_t bytes = 0, frames = 0;

	for (unsigned i = 0; i < n; i++) {
		bool whole;

		if (unlikely(fill->n[i] == 0))
			continue;
		frames++;
		bytes += f[i]->len;
		whole = fill->n[i] == 1 && chain->n_spans == 1;
		if (unlikely(lacks_csum(q, f[i]))) {
			if (whole && f[i]->off.hdr_len) {
				put_summed(q, chain++, span++, f[i]);
				continue;
			}
			complete_csum(f[i]);
		}
		if (likely(whole)) {
			put_whole(q, chain++, span++, f[i]);
			continue;
		}
		put_frame(&(struct cursor){.vq = q->vq,
					   .chain = chain,
					   .span = span,
					   .spans_left = chain->n_spans,
					   .chains_left = fill->n[i]},
			  f[i], q);
		for (unsigned k = 0; k < fill->n[i]; k++)
			span += (chain++)->n_spans;
	}
	count(&counts->tx_frames, frames);
	count(&counts->tx_bytes, bytes);
}

/* ---- and both ---- */

/* Frames for one queue, in order. A guest whose buffers are crumbs gets no more than its share of the worker. */
static void send_to(struct guest *g, struct guest_tx *q, struct frame *const *f, unsigned n, unsigned worker)
{
	struct port_counters *counts = &g->port.counters[worker];
	struct fill fill;

	/* Member by member: the arrays are large and need no initial value. */
	fill.batch = (struct virtq_batch){.chain = fill.chain, .span = fill.span, .max_spans = FILL_SPANS};
	fill.pieces = 0;
	while (n) {
		unsigned k = n;

		fill.batch.n = fill.batch.n_spans = fill.used = 0;
		spin_lock(&q->lock);
		if (likely(may_reserve(q, worker) && fill.pieces < BATCH_PIECES_MAX))
			k = reserve(q, &fill, f, n, worker, counts);
		else
			count(&counts->drop[DROP_QUEUE_FULL], n);
		spin_unlock(&q->lock);
		if (fill.used)
			fill_frames(q, &fill, f, k, counts);
		f += k;
		n -= k;
	}
	if (unlikely(virtq_fault_get(q->vq) != VIRTQ_FAULT_NONE))
		port_attention(&g->port);
}

/* virtio 1.2, 5.1.6.5.5: frames of a flow go to one queue, the same for both directions. */
static void spread(struct guest *g, const struct guest_tx_set *set, struct frame *const *f, unsigned n, unsigned worker)
{
	uint8_t of[FRAME_BATCH];
	uint32_t wanted = 0;

	for (unsigned i = 0; i < n; i++) {
		of[i] = (uint8_t)(frame_hash(f[i]) % set->n);
		wanted |= 1u << of[i];
	}
	for (; wanted; wanted &= wanted - 1) {
		unsigned k = (unsigned)__builtin_ctz(wanted), m = 0;
		struct frame *list[FRAME_BATCH];

		for (unsigned i = 0; i < n; i++)
			if (of[i] == k)
				list[m++] = f[i];
		send_to(g, set->q[k], list, m, worker);
	}
}

void guest_tx_frames(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	struct guest *g = guest_of(p);
	const struct guest_tx_set *set = atomic_load_explicit(&g->tx_set, memory_order_acquire);

	if (likely(set->n == 1))
		send_to(g, set->q[0], f, n, worker);
	else if (set->n)
		spread(g, set, f, n, worker);
	else
		port_drop(p, worker, DROP_PORT_DOWN, n);
}

/* ---- publish ---- */

/* Under the lock: show the guest what is filled, up to the first reservation that is not. */
static void publish(struct guest_tx *q)
{
	unsigned n = 0;

	while (n < q->n_open && q->open[n].filled)
		n++;
	if (n == 0)
		return;
	virtq_publish(q->vq, q->open[n - 1].end);
	memmove(q->open, q->open + n, (q->n_open - n) * sizeof(q->open[0]));
	__atomic_store_n(&q->n_open, q->n_open - n, __ATOMIC_RELAXED);
}

void guest_tx_publish(struct port *p, unsigned worker)
{
	const struct guest_tx_set *set = atomic_load_explicit(&guest_of(p)->tx_set, memory_order_acquire);

	for (unsigned k = 0; k < set->n; k++) {
		struct guest_tx *q = set->q[k];

		if (__atomic_load_n(&q->n_open, __ATOMIC_RELAXED) == 0)
			continue; /* whoever has reserved here sees it */
		spin_lock(&q->lock);
		for (unsigned i = 0; i < q->n_open; i++)
			q->open[i].filled |= q->open[i].worker == worker;
		publish(q);
		spin_unlock(&q->lock);
	}
}

void guest_tx_settle(const struct guest_tx_set *set)
{
	for (unsigned k = 0; k < set->n; k++) {
		struct guest_tx *q = set->q[k];

		spin_lock(&q->lock);
		for (unsigned i = 0; i < q->n_open; i++)
			q->open[i].filled = true;
		publish(q);
		spin_unlock(&q->lock);
	}
}
