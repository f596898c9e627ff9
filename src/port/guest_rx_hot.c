/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from a guest: chains of its transmitq become borrowed frames.
 *
 * Thread:  the worker that owns the queue.
 * Trust:   the chain's descriptors were copied and translated by virtq; the bytes are the guest's and may change until
 *          the batch is returned. The virtio-net header and the first FRAME_HEAD_MAX bytes are copied here, once, and
 *          nobody looks at the originals again.
 * Invariant: lent[0 .. n_lent) are the chains of this batch, in order, whether they gave a frame or not.
 */
#include "base/copy.h"
#include "port/guest_priv.h"

#define RX_SPANS 2048 /* as many as a frame batch can hold */
_Static_assert(RX_SPANS <= ARRAY_SIZE(((struct frame_batch *)0)->spans), "pieces of a batch fit");

/* The pieces of a chain, eaten from the front. */
struct cursor {
	struct gspan *s;
	unsigned n;
};

/* Copy the next @len bytes (there are that many) to @dst. */
static inline void take(struct cursor *c, uint8_t *dst, uint32_t len)
{
	while (len) {
		uint32_t part = min_u32(len, c->s->len);

		copy_bytes(dst, c->s->p, part);
		dst += part;
		len -= part;
		c->s->p += part;
		c->s->len -= part;
		if (c->s->len == 0) {
			c->s++;
			c->n--;
		}
	}
}

/* Make the next frame of the batch from a chain's pieces; @len bytes of frame follow the header. */
static inline void make_frame(struct frame_batch *b, struct cursor *c, uint32_t len)
{
	struct frame *f = &b->f[b->n++];

	f->len = len;
	f->head_len = min_u32(len, FRAME_HEAD_MAX);
	take(c, frame_head_begin(f), f->head_len);
	f->body = &b->spans[b->n_spans];
	f->n_body = (uint16_t)c->n;
	for (unsigned i = 0; i < c->n; i++)
		b->spans[b->n_spans++] = (struct wire_piece){.p = c->s[i].p, .len = c->s[i].len};
}

/* Bytes after the header: may they be a frame? */
static inline enum drop_reason check_length(uint32_t len)
{
	if (unlikely(len < ETH_HEAD_BYTES))
		return DROP_TOO_SHORT;
	return likely(len <= FRAME_BYTES_MAX) ? DROP_N : DROP_TOO_BIG;
}

/* The frame just made comes with work left to do; take it back if it is not right. */
static __attribute__((noinline)) enum drop_reason take_offload(struct frame_batch *b, const struct net_hdr *h,
							       uint32_t agreed)
{
	struct frame *f = &b->f[b->n - 1];
	enum drop_reason r = offload_take(f, h, agreed);

	if (r != DROP_N) {
		b->n--;
		b->n_spans = (unsigned)(f->body - b->spans);
	}
	return r;
}

/* The usual chain is one piece: make_frame() without the cursor. @p: behind the header. */
static inline void make_frame_of_piece(struct frame_batch *b, const uint8_t *p, uint32_t len)
{
	struct frame *f = &b->f[b->n++];
	uint8_t *to = frame_head_begin(f);

	f->len = len;
	f->body = &b->spans[b->n_spans];
	f->n_body = len > FRAME_HEAD_MAX;
	if (len <= FRAME_HEAD_MAX) {
		f->head_len = len;
		copy_short(to, p, len);
		return;
	}
	f->head_len = FRAME_HEAD_MAX;
	memcpy(to, p, FRAME_HEAD_MAX);
	b->spans[b->n_spans++] = (struct wire_piece){.p = p + FRAME_HEAD_MAX, .len = len - FRAME_HEAD_MAX};
}

/* Look at one fetched chain: a frame (DROP_N), or why it is dropped. */
static inline enum drop_reason receive(const struct guest_rx *q, struct frame_batch *b, const struct virtq_chain *chain,
				       struct gspan *spans)
{
	struct cursor c = {.s = spans, .n = chain->n_spans};
	uint32_t hdr_bytes = q->hdr_bytes, len = chain->len - hdr_bytes;
	enum drop_reason r = check_length(len);
	struct net_hdr hdr = {0};

	if (unlikely(r != DROP_N))
		return r;
	if (likely(chain->n_spans == 1)) {
		memcpy(&hdr, spans->p, NET_HDR_SHORT);
		make_frame_of_piece(b, spans->p + hdr_bytes, len);
	} else {
		take(&c, (uint8_t *)&hdr, hdr_bytes);
		make_frame(b, &c, len);
	}
	return likely(net_hdr_is_plain(&hdr)) ? DROP_N : take_offload(b, &hdr, q->may_leave);
}

/* Look at the fetched chains; returns how many of them there are before one without room for a header. */
static unsigned receive_all(struct guest_rx *q, struct frame_batch *b, struct virtq_batch *fetched,
			    struct port_counters *counts)
{
	bool enabled = atomic_load_explicit(&q->enabled, memory_order_relaxed);
	uint32_t hdr_bytes = q->hdr_bytes;
	struct gspan *span = fetched->span;
	uint64_t bytes = 0;
	unsigned i;

	for (i = 0; i < fetched->n; i++) {
		const struct virtq_chain *chain = &q->lent[i];
		enum drop_reason r = DROP_QUEUE_DISABLED;

		if (unlikely(chain->len < hdr_bytes))
			break;
		bytes += chain->len - hdr_bytes;
		if (likely(enabled))
			r = receive(q, b, chain, span);
		if (unlikely(r != DROP_N))
			count(&counts->drop[r], 1);
		span += chain->n_spans;
	}
	count(&counts->rx_frames, i);
	count(&counts->rx_bytes, bytes);
	return i;
}

unsigned guest_rx_poll(struct port *p, unsigned queue, struct frame_batch *b, unsigned worker)
{
	struct guest *g = guest_of(p);
	struct guest_rx *q = &g->rx[queue];
	struct gspan spans[RX_SPANS];
	struct virtq_batch fetched = {
		.chain = q->lent, .max = FRAME_BATCH - b->n, .span = spans, .max_spans = RX_SPANS - b->n_spans};

	q->n_lent = 0;
	if (virtq_fetch(q->vq, VIRTQ_READABLE, &fetched)) {
		q->n_lent = receive_all(q, b, &fetched, &g->port.counters[worker]);
		if (unlikely(q->n_lent < fetched.n)) {
			virtq_break(q->vq, VIRTQ_FAULT_EMPTY);
			virtq_unfetch(q->vq, &fetched, fetched.n - q->n_lent);
		}
	}
	if (unlikely(virtq_fault_get(q->vq) != VIRTQ_FAULT_NONE))
		port_attention(p);
	return q->n_lent;
}

void guest_rx_done(struct port *p, unsigned queue)
{
	struct guest_rx *q = &guest_of(p)->rx[queue];

	virtq_return(q->vq, q->lent, q->n_lent);
	q->n_lent = 0;
}

bool guest_rx_sleep(struct port *p, unsigned queue)
{
	struct guest_rx *q = &guest_of(p)->rx[queue];
	bool more = virtq_notify_on(q->vq);

	if (more)
		virtq_notify_off(q->vq); /* we stay awake */
	if (unlikely(virtq_fault_get(q->vq) != VIRTQ_FAULT_NONE))
		port_attention(p);
	return more;
}

void guest_rx_wake(struct port *p, unsigned queue)
{
	virtq_notify_off(guest_of(p)->rx[queue].vq);
}
