/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from the interface: slots of the ring become borrowed frames.
 *
 * Thread: the worker that owns the queue. An empty poll is a look at one status word.
 * Trust:  the kernel and what it says of a frame; what is in a frame comes from anywhere and is checked by src/wire.
 *
 * The kernel shows frames of this host's own stack, and those a NIC has merged (GRO, LRO), as they are: checksums
 * unfinished, up to 64 KiB long, with a header that says so. Guests are not offered to take such frames, so they are
 * finished and cut here, in place. That is also why GRO and LRO are left as the administrator has them: a merged frame
 * comes with what is needed to cut it again.
 *
 * A frame longer than its slot waits in the socket's queue; the slot says so (TP_STATUS_COPY), slots and queue are in the
 * same order, and what is read is checked against the length in the slot.
 *
 * Invariant: the slots of this batch are the n_lent before `next`. The frame being cut lives in slot `next` or in a long
 *            buffer, and is returned with its last segment.
 */
#include <errno.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>

#include "port/packet_priv.h"
#include "wire/l4.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* virtio 1.2, 5.1.6; newer than some systems' headers */
#endif

#define FINE            DROP_N /* no reason to drop */
#define LONG_ERRORS_MAX 4

/* A frame in one piece which may be written, with 4 bytes before it. */
struct taken {
	uint8_t *p;
	uint32_t len;
	bool is_long;
	struct virtio_net_hdr hdr; /* in the machine's byte order */
};

static void advance(struct packet_rx *rx)
{
	rx->next = packet_after(&rx->ring, rx->next);
	rx->n_lent++;
}

static bool has_room(const struct frame_batch *b)
{
	return b->n < FRAME_BATCH && b->n_spans < ARRAY_SIZE(b->spans);
}

/* Read the next long frame, of @len bytes. More than one read: an error that the socket had kept (ENETDOWN) is told
 * first, and a frame of another length belongs to a slot that failed before. */
static enum drop_reason take_long(struct packet_rx *rx, uint32_t len, struct taken *t)
{
	uint8_t *buf = rx->longs + rx->long_next * PACKET_LONG_BYTES;
	struct iovec iov[2] = {{&t->hdr, sizeof(t->hdr)}, {buf + VLAN_TAG_BYTES, PACKET_LONG_BYTES - VLAN_TAG_BYTES}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov)};
	unsigned errors = 0;
	ssize_t got;

	do
		got = recvmsg(rx->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
	while (got < 0 ? errno != EAGAIN && ++errors < LONG_ERRORS_MAX : got != (ssize_t)(len + sizeof(t->hdr)));
	if (got < 0)
		return DROP_KERNEL_LOST;
	if (len > PACKET_LONG_BYTES - VLAN_TAG_BYTES)
		return DROP_TOO_BIG;
	t->p = buf + VLAN_TAG_BYTES;
	t->is_long = true;
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

	t->is_long = false;
	t->len = slot->tp_len;
	if (unlikely(status & TP_STATUS_COPY)) {
		reason = take_long(rx, slot->tp_len, t);
	} else if (unlikely(slot->tp_snaplen < slot->tp_len)) {
		reason = DROP_KERNEL_LOST;
	} else {
		t->p = (uint8_t *)slot + slot->tp_mac;
		memcpy(&t->hdr, t->p - sizeof(t->hdr), sizeof(t->hdr));
	}
	if (reason == FINE && unlikely(t->len < ETH_HEAD_BYTES))
		reason = DROP_TOO_SHORT;
	if (reason == FINE && status & TP_STATUS_VLAN_VALID)
		put_tag(t, slot, status);
	return reason;
}

static enum drop_reason begin_cut(struct packet_rx *rx, const struct taken *t)
{
	enum seg_kind kind;

	switch (t->hdr.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_TCPV4:
		kind = SEG_TCP4;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		kind = SEG_TCP6;
		break;
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		kind = SEG_UDP;
		break;
	default:
		return DROP_BAD_OFFLOAD;
	}
	if (seg_begin(&rx->seg, t->p, t->len, t->len, kind, t->hdr.gso_size) || rx->seg.head_bytes > FRAME_HEAD_MAX)
		return DROP_BAD_OFFLOAD;
	rx->cut = t->p;
	rx->cut_is_long = t->is_long;
	rx->cutting = true;
	return FINE;
}

/* Borrow @len bytes at @p as the body of the frame. */
static void put_body(struct frame_batch *b, struct frame *f, const uint8_t *p, uint32_t len)
{
	f->body = &b->spans[b->n_spans];
	f->n_body = len > 0;
	if (len)
		b->spans[b->n_spans++] = (struct frame_span){.p = p, .len = len};
}

static void put_frame(struct frame_batch *b, const struct taken *t)
{
	struct frame *f = &b->f[b->n++];

	f->len = t->len;
	f->head_len = min_u32(t->len, FRAME_HEAD_MAX);
	memcpy(frame_head_begin(f), t->p, f->head_len);
	put_body(b, f, t->p + f->head_len, t->len - f->head_len);
}

/* The next segment of the frame being cut. */
static void put_segment(struct packet_rx *rx, struct frame_batch *b, struct port_counters *counts)
{
	struct frame *f = &b->f[b->n];
	uint8_t *head = frame_head_begin(f);
	uint32_t head_len, off, len, part;

	if (!seg_next(&rx->seg, head, &head_len, &off, &len))
		return;
	part = min_u32(len, FRAME_HEAD_MAX - head_len);
	memcpy(head + head_len, rx->cut + off, part);
	f->head_len = head_len + part;
	f->len = head_len + len;
	count(&counts->rx_frames, 1);
	count(&counts->rx_bytes, f->len);
	if (l4_csum_finish(head, f->head_len, &(struct wire_piece){.p = rx->cut + off + part, .len = len - part}, 1,
			   rx->seg.csum_start, rx->seg.csum_offset)) {
		count(&counts->drop[DROP_BAD_OFFLOAD], 1);
		return;
	}
	put_body(b, f, rx->cut + off + part, len - part);
	b->n++;
}

static void cut(struct packet_rx *rx, struct frame_batch *b, struct port_counters *counts)
{
	while (rx->seg.done < rx->seg.count && has_room(b))
		put_segment(rx, b, counts);
	if (rx->seg.done == rx->seg.count) {
		rx->cutting = false;
		advance(rx);
	}
}

static void receive(struct packet_rx *rx, const struct tpacket2_hdr *slot, uint32_t status, struct frame_batch *b,
		    struct port_counters *counts)
{
	enum drop_reason reason;
	struct taken t;

	reason = take(rx, slot, status, &t);
	if (reason == FINE && t.hdr.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		reason = begin_cut(rx, &t);
		if (reason == FINE)
			return;
	}
	if (reason == FINE && unlikely(t.len > FRAME_BYTES_MAX))
		reason = DROP_TOO_BIG;
	if (reason == FINE && t.hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
	    l4_csum_finish(t.p, t.len, NULL, 0, t.hdr.csum_start, t.hdr.csum_offset))
		reason = DROP_BAD_OFFLOAD;
	count(&counts->rx_frames, 1);
	count(&counts->rx_bytes, t.len);
	if (reason == FINE)
		put_frame(b, &t);
	else
		count(&counts->drop[reason], 1);
	advance(rx);
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
		uint32_t status;

		if (rx->cutting) {
			cut(rx, b, &p->counters[worker]);
			continue;
		}
		status = packet_status(slot);
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
	rx->n_longs = rx->cutting && rx->cut_is_long;
}

/* The kernel makes an edge (EPOLLET) for each frame it puts into a slot, so looking at the slot once more is enough. */
bool packet_rx_sleep(struct port *p, unsigned q)
{
	struct packet *k = packet_of(p);
	struct packet_rx *rx = k->rx;

	(void)q;
	return rx->cutting || packet_status(packet_slot(&rx->ring, rx->next)) & TP_STATUS_USER ||
	       !packet_tx_let_wait(k->tx, false);
}

void packet_rx_wake(struct port *p, unsigned q)
{
	(void)q;
	packet_tx_let_wait(packet_of(p)->tx, true);
}
