/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from a guest: chains of its transmitq become borrowed frames.
 *
 * Thread:  the worker that owns the queue.
 * Trust:   the chain's descriptors were copied and translated by virtq; the bytes are the guest's and may change until
 *          the batch is returned. The virtio-net header and the first FRAME_HEAD_MAX bytes are copied here, once, and
 *          nobody looks at the originals again.
 * Invariant: lent[0 .. n_lent) are the chains of this batch, in order, whether they gave a frame or not.
 */
#include "port/guest_priv.h"

/* The pieces of a chain, eaten from the front. */
struct cursor {
	struct gspan *s;
	unsigned n;
};

/* Copy the next @len bytes (there are that many) to @dst. */
static void take(struct cursor *c, uint8_t *dst, uint32_t len)
{
	while (len) {
		uint32_t part = min_u32(len, c->s->len);

		memcpy(dst, c->s->p, part);
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

/* No offload is on offer, so a driver must not ask for one (virtio 1.2, 5.1.6.2.1). Flags that do not ask for anything
 * are ignored, and so are the other fields (5.1.6.2.2). */
static bool header_is_plain(const struct net_hdr *h)
{
	return !(h->flags & NET_HDR_F_NEEDS_CSUM) && h->gso_type == NET_HDR_GSO_NONE;
}

/* Make the next frame of the batch from a chain's pieces; @len bytes of frame follow the header. */
static void make_frame(struct frame_batch *b, struct cursor *c, uint32_t len)
{
	struct frame *f = &b->f[b->n++];

	f->len = len;
	f->head_len = min_u32(len, FRAME_HEAD_MAX);
	take(c, frame_head_begin(f), f->head_len);
	f->body = &b->spans[b->n_spans];
	f->n_body = (uint16_t)c->n;
	for (unsigned i = 0; i < c->n; i++)
		b->spans[b->n_spans++] = (struct frame_span){.p = c->s[i].p, .len = c->s[i].len};
}

/* Look at one fetched chain: a frame, or a counted drop. */
static void receive(struct guest *g, struct guest_rx *q, struct frame_batch *b, const struct virtq_chain *chain,
		    struct gspan *spans, unsigned worker)
{
	struct port_counters *counts = &g->port.counters[worker];
	struct cursor c = {.s = spans, .n = chain->n_spans};
	struct net_hdr hdr = {0};
	uint32_t len = chain->len - q->hdr_bytes;

	take(&c, (uint8_t *)&hdr, q->hdr_bytes);
	count(&counts->rx_frames, 1);
	count(&counts->rx_bytes, len);
	if (unlikely(!atomic_load_explicit(&q->enabled, memory_order_relaxed)))
		count(&counts->drop[DROP_QUEUE_DISABLED], 1);
	else if (unlikely(len < ETH_HEAD_BYTES))
		count(&counts->drop[DROP_TOO_SHORT], 1);
	else if (unlikely(len > FRAME_BYTES_MAX))
		count(&counts->drop[DROP_TOO_BIG], 1);
	else if (unlikely(!header_is_plain(&hdr)))
		count(&counts->drop[DROP_BAD_OFFLOAD], 1);
	else
		make_frame(b, &c, len);
}

unsigned guest_rx_poll(struct port *p, unsigned queue, struct frame_batch *b, unsigned worker)
{
	struct guest *g = guest_of(p);
	struct guest_rx *q = &g->rx[queue];
	struct gspan spans[VIRTQ_CHAIN_SPANS];

	q->n_lent = 0;
	while (b->n < FRAME_BATCH && q->n_lent < FRAME_BATCH &&
	       ARRAY_SIZE(b->spans) - b->n_spans >= VIRTQ_CHAIN_SPANS) {
		struct virtq_chain *chain = &q->lent[q->n_lent];

		if (!virtq_fetch(q->vq, VIRTQ_READABLE, chain, spans, VIRTQ_CHAIN_SPANS))
			break;
		if (unlikely(chain->len < q->hdr_bytes)) {
			virtq_break(q->vq, VIRTQ_FAULT_EMPTY);
			break;
		}
		q->n_lent++;
		receive(g, q, b, chain, spans, worker);
	}
	if (unlikely(virtq_fault_get(q->vq) != VIRTQ_FAULT_NONE))
		port_attention(p);
	return q->n_lent;
}

void guest_rx_done(struct port *p, unsigned queue)
{
	struct guest_rx *q = &guest_of(p)->rx[queue];

	for (unsigned i = 0; i < q->n_lent; i++)
		virtq_complete(q->vq, &q->lent[i], 0);
	q->n_lent = 0;
	virtq_publish(q->vq);
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
