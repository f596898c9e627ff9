/* SPDX-License-Identifier: Apache-2.0 */
/* Frames to a guest: one copy, from where the sender put them into the buffers of a receiveq.
 *
 * Thread:  any worker; a queue is locked for one batch.
 * Trust:   buffers were translated by virtq; their contents never matter here, they are only written.
 * Order:   a frame's buffers are completed after all of it was copied, and the batch is published at once. A frame that
 *          does not fit gives back what it fetched: nothing of it becomes visible.
 */
#include "port/guest_priv.h"

#define FRAME_CHAINS_MAX 1024 /* buffers for one frame; more only if a guest posts buffers of less than 65 bytes */
#define FRAME_PIECES_MAX                                                                                               \
	2048 /* pieces of them: or one that posts single bytes would hold up all who share its worker */

/* Writing one frame: the buffers fetched for it so far, and where the next byte goes. */
struct delivery {
	struct virtq *vq;
	bool mergeable;
	struct gspan *spans; /* pieces of the buffer being filled */
	unsigned next_span, n_spans;
	struct gspan hdr[NET_HDR_LONG]; /* where the header goes: it is written last (num_buffers) */
	unsigned n_hdr;
	unsigned n_chains;
	unsigned n_pieces;         /* in all of them */
	struct virtq_chain *chain; /* .len becomes the bytes written */
};

/* Fetch one more buffer. */
static bool next_buffer(struct delivery *d)
{
	struct virtq_chain *c = &d->chain[d->n_chains];

	if (unlikely(d->n_chains == FRAME_CHAINS_MAX) || (d->n_chains > 0 && !d->mergeable))
		return false;
	if (!virtq_fetch(d->vq, VIRTQ_WRITABLE, c, d->spans, VIRTQ_CHAIN_SPANS))
		return false;
	d->n_spans = c->n_spans;
	d->next_span = 0;
	c->len = 0;
	d->n_chains++;
	d->n_pieces += c->n_spans;
	return likely(d->n_pieces <= FRAME_PIECES_MAX);
}

/* The piece to write to, or NULL if there are no more buffers. */
static struct gspan *room(struct delivery *d)
{
	for (;;) {
		while (d->next_span < d->n_spans) {
			if (d->spans[d->next_span].len)
				return &d->spans[d->next_span];
			d->next_span++;
		}
		if (!next_buffer(d))
			return NULL;
	}
}

/* Set aside the first @len bytes of the first buffer for the header. */
static bool reserve_header(struct delivery *d, uint32_t len)
{
	if (!next_buffer(d))
		return false;
	for (d->n_hdr = 0; len; d->n_hdr++) {
		struct gspan *s, *h = &d->hdr[d->n_hdr];

		if (unlikely(d->next_span == d->n_spans)) {
			virtq_break(d->vq, VIRTQ_FAULT_EMPTY);
			return false;
		}
		s = &d->spans[d->next_span];
		*h = *s;
		h->len = min_u32(len, s->len);
		s->p += h->len;
		s->gpa.v += h->len;
		s->len -= h->len;
		len -= h->len;
		d->chain[0].len += h->len;
		if (s->len == 0)
			d->next_span++;
	}
	return true;
}

static bool put(struct delivery *d, const uint8_t *src, uint32_t len)
{
	while (len) {
		struct gspan *s = room(d);
		uint32_t part;

		if (!s)
			return false;
		part = min_u32(len, s->len);
		gmem_write(d->vq->mem, s, src, part);
		src += part;
		len -= part;
		d->chain[d->n_chains - 1].len += part;
	}
	return true;
}

static void write_header(struct delivery *d, uint32_t hdr_bytes)
{
	struct net_hdr hdr = {.num_buffers = (uint16_t)d->n_chains};
	const uint8_t *src = (const uint8_t *)&hdr;

	for (unsigned i = 0; i < d->n_hdr && hdr_bytes; i++) {
		uint32_t part = d->hdr[i].len;

		gmem_write(d->vq->mem, &d->hdr[i], src, part);
		src += part;
		hdr_bytes -= part;
	}
}

static bool put_frame(struct delivery *d, const struct frame *f, uint32_t hdr_bytes)
{
	if (!reserve_header(d, hdr_bytes) || !put(d, f->data, f->head_len))
		return false;
	for (unsigned i = 0; i < f->n_body; i++)
		if (!put(d, f->body[i].p, f->body[i].len))
			return false;
	write_header(d, hdr_bytes);
	for (unsigned i = 0; i < d->n_chains; i++)
		virtq_complete(d->vq, &d->chain[i], d->chain[i].len);
	return true;
}

/* Why put_frame() failed. */
static enum drop_reason why(const struct delivery *d)
{
	if (virtq_fault_get(d->vq) != VIRTQ_FAULT_NONE)
		return DROP_BROKEN;
	return !d->mergeable && d->n_chains ? DROP_TOO_BIG : DROP_QUEUE_FULL;
}

static void deliver(struct guest *g, struct guest_tx *q, const struct frame *f, unsigned worker)
{
	struct port_counters *counts = &g->port.counters[worker];
	struct gspan spans[VIRTQ_CHAIN_SPANS];
	struct virtq_chain chain[FRAME_CHAINS_MAX];
	struct delivery d;

	/* Member by member: the arrays are large and need no initial value. */
	d.vq = q->vq;
	d.mergeable = q->mergeable;
	d.spans = spans;
	d.next_span = d.n_spans = d.n_hdr = d.n_chains = d.n_pieces = 0;
	d.chain = chain;
	if (likely(put_frame(&d, f, q->hdr_bytes))) {
		count(&counts->tx_frames, 1);
		count(&counts->tx_bytes, f->len);
		return;
	}
	count(&counts->drop[why(&d)], 1);
	virtq_unfetch(q->vq, d.n_chains);
}

/* Frames for one queue, in order. @of[i] says which queue frame i is for. */
static void send_to(struct guest *g, struct guest_tx *q, struct frame *const *f, const uint8_t *of, unsigned index,
		    unsigned n, unsigned worker)
{
	spin_lock(&q->lock);
	for (unsigned i = 0; i < n; i++)
		if (of[i] == index)
			deliver(g, q, f[i], worker);
	virtq_publish(q->vq);
	if (unlikely(virtq_fault_get(q->vq) != VIRTQ_FAULT_NONE))
		port_attention(&g->port);
	spin_unlock(&q->lock);
}

void guest_tx_frames(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	struct guest *g = guest_of(p);
	struct guest_tx_set *set = atomic_load_explicit(&g->tx_set, memory_order_acquire);
	uint8_t of[FRAME_BATCH] = {0};
	uint16_t wanted = 0;

	if (unlikely(set->n == 0)) {
		port_drop(p, worker, DROP_PORT_DOWN, n);
		return;
	}
	/* virtio 1.2, 5.1.6.5.5: frames of a flow go to one queue, the same for both directions. */
	for (unsigned i = 0; i < n; i++) {
		if (set->n > 1)
			of[i] = (uint8_t)(frame_hash(f[i]) % set->n);
		wanted |= (uint16_t)(1u << of[i]);
	}
	for (unsigned k = 0; k < set->n; k++)
		if (wanted & 1u << k)
			send_to(g, set->q[k], f, of, k, n, worker);
}
