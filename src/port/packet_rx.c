/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from the interface: slots of the ring become borrowed frames.
 *
 * Thread: the worker that owns the queue. An empty poll is a look at one status word.
 * Trust:  the kernel and what it says of a frame; what is in a frame comes from anywhere and is checked by src/wire.
 *
 * The kernel shows frames of this host's own stack, and those a NIC has merged (GRO, LRO), as they are: checksums
 * unfinished, up to 64 KiB long, with a header that says so. They go on like that; forwarding finishes and cuts them for
 * receivers that cannot. That is also why GRO and LRO are left as the administrator has them: a merged frame comes with
 * what is needed to cut it again.
 *
 * A frame longer than its slot waits in the socket's queue; the slot says so (TP_STATUS_COPY), slots and queue are in the
 * same order, and what is read is checked against the length in the slot.
 *
 * Invariant: the slots of this batch are the n_lent before `next`.
 */
#include <errno.h>
#include <sys/socket.h>

#include "port/kernel_frame.h"
#include "port/packet_priv.h"

#define FINE            DROP_N /* no reason to drop */
#define LONG_ERRORS_MAX 4

/* A frame in one piece which may be written, with 4 bytes before it. */
struct taken {
	uint8_t *p;
	uint32_t len;
	struct net_hdr hdr; /* without num_buffers */
};

static bool has_room(const struct frame_batch *b)
{
	return b->n < FRAME_BATCH && b->n_spans < ARRAY_SIZE(b->spans);
}

/* Read the next long frame, of @len bytes. More than one read: an error that the socket had kept (ENETDOWN) is told
 * first, and a frame of another length belongs to a slot that failed before. */
static enum drop_reason take_long(struct packet_rx *rx, uint32_t len, struct taken *t)
{
	uint8_t *buf = rx->longs + rx->long_next * PACKET_LONG_BYTES;
	struct iovec iov[2] = {{&t->hdr, NET_HDR_SHORT}, {buf + VLAN_TAG_BYTES, PACKET_LONG_BYTES - VLAN_TAG_BYTES}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov)};
	unsigned errors = 0;
	ssize_t got;

	do
		got = recvmsg(rx->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
	while (got < 0 ? errno != EAGAIN && ++errors < LONG_ERRORS_MAX : got != (ssize_t)len + NET_HDR_SHORT);
	if (got < 0)
		return DROP_KERNEL_LOST;
	if (len > PACKET_LONG_BYTES - VLAN_TAG_BYTES)
		return DROP_TOO_BIG;
	t->p = buf + VLAN_TAG_BYTES;
	rx->long_next = (rx->long_next + 1) % PACKET_LONG_N;
	rx->n_longs++;
	return FINE;
}

/* Put back the tag which the kernel has taken out; the header before the frame was read already. */
static void put_tag(struct taken *t, const struct tpacket2_hdr *slot, uint32_t status)
{
	uint16_t tpid = status & TP_STATUS_VLAN_TPID_VALID ? slot->tp_vlan_tpid : ETH_P_VLAN;

	t->p -= VLAN_TAG_BYTES;
	t->len += VLAN_TAG_BYTES;
	memmove(t->p, t->p + VLAN_TAG_BYTES, ETH_TYPE_OFF);
	be16_put(t->p + ETH_TYPE_OFF, tpid);
	be16_put(t->p + ETH_TYPE_OFF + 2, slot->tp_vlan_tci);
	t->hdr.csum_start = (uint16_t)(t->hdr.csum_start + VLAN_TAG_BYTES);
}

static enum drop_reason take(struct packet_rx *rx, const struct tpacket2_hdr *slot, uint32_t status, struct taken *t)
{
	enum drop_reason reason = FINE;

	t->len = slot->tp_len;
	if (unlikely(status & TP_STATUS_COPY)) {
		reason = take_long(rx, slot->tp_len, t);
	} else if (unlikely(slot->tp_snaplen < slot->tp_len)) {
		reason = DROP_KERNEL_LOST;
	} else {
		t->p = (uint8_t *)slot + slot->tp_mac;
		memcpy(&t->hdr, t->p - NET_HDR_SHORT, NET_HDR_SHORT);
	}
	if (reason == FINE && unlikely(t->len < ETH_HEAD_BYTES))
		reason = DROP_TOO_SHORT;
	if (reason == FINE && status & TP_STATUS_VLAN_VALID)
		put_tag(t, slot, status);
	if (reason == FINE && unlikely(t->len > FRAME_BYTES_MAX))
		reason = DROP_TOO_BIG;
	return reason;
}

/* Put what was taken into the batch, unless its header lies. */
static enum drop_reason put_frame(struct frame_batch *b, const struct taken *t)
{
	struct frame *f = &b->f[b->n];
	enum drop_reason reason;

	f->len = t->len;
	f->head_len = min_u32(t->len, FRAME_HEAD_MAX);
	memcpy(frame_head_begin(f), t->p, f->head_len);
	reason = kernel_frame_take(f, &t->hdr);
	if (unlikely(reason != FINE))
		return reason;
	b->n++;
	f->body = &b->spans[b->n_spans];
	f->n_body = f->len > f->head_len;
	if (f->n_body)
		b->spans[b->n_spans++] = (struct wire_piece){.p = t->p + f->head_len, .len = f->len - f->head_len};
	return FINE;
}

static void receive(struct packet_rx *rx, const struct tpacket2_hdr *slot, uint32_t status, struct frame_batch *b,
		    struct port_counters *counts)
{
	enum drop_reason reason;
	struct taken t;

	reason = take(rx, slot, status, &t);
	if (reason == FINE)
		reason = put_frame(b, &t);
	count(&counts->rx_frames, 1);
	count(&counts->rx_bytes, t.len);
	if (unlikely(reason != FINE))
		count(&counts->drop[reason], 1);
	rx->next = packet_after(&rx->ring, rx->next);
	rx->n_lent++;
}

unsigned packet_rx_poll(struct port *p, unsigned q, struct frame_batch *b, unsigned worker)
{
	struct packet *k = packet_of(p);
	struct packet_rx *rx = k->rx;
	unsigned before = b->n;

	(void)q;
	if (unlikely(atomic_load_explicit(&k->tx->backlog, memory_order_relaxed)))
		packet_tx_flush(p, worker);
	while (has_room(b) && rx->n_lent < rx->ring.n) {
		const struct tpacket2_hdr *slot = packet_slot(&rx->ring, rx->next);
		uint32_t status = packet_status(slot);

		if (!(status & TP_STATUS_USER) || (status & TP_STATUS_COPY && rx->n_longs == PACKET_LONG_N))
			break;
		receive(rx, slot, status, b, &p->counters[worker]);
	}
	return b->n - before;
}

void packet_rx_done(struct port *p, unsigned q)
{
	struct packet_rx *rx = packet_of(p)->rx;
	uint32_t i = (rx->next + rx->ring.n - rx->n_lent) % rx->ring.n;

	(void)q;
	for (; rx->n_lent; rx->n_lent--) {
		packet_set_status(packet_slot(&rx->ring, i), TP_STATUS_KERNEL);
		i = packet_after(&rx->ring, i);
	}
	rx->n_longs = 0;
}

/* The kernel makes an edge (EPOLLET) for each frame it puts into a slot, so looking at the slot once more is enough. */
bool packet_rx_sleep(struct port *p, unsigned q)
{
	struct packet *k = packet_of(p);
	struct packet_rx *rx = k->rx;

	(void)q;
	return packet_status(packet_slot(&rx->ring, rx->next)) & TP_STATUS_USER || !packet_tx_let_wait(k->tx, false);
}

void packet_rx_wake(struct port *p, unsigned q)
{
	(void)q;
	packet_tx_let_wait(packet_of(p)->tx, true);
}
