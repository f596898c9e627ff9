/* SPDX-License-Identifier: Apache-2.0 */
/* Frames to the interface: copied into slots of the ring, and handed over with one system call for a batch. A checksum
 * that was left undone is completed in the slot, where the frame is in one piece and in the cache.
 *
 * Thread: any worker. Slots are filled under `lock`. In the kernel is one worker at a time (`in_kernel`); whoever comes
 *         meanwhile leaves word (`wanted`) and goes on: the one in there looks again when it comes out.
 *
 * The queueing discipline is bypassed, so a busy interface shows at once: the kernel stops at the first frame it could
 * not place and leaves it and all behind it in the ring. If somebody polls this port they stay, and are tried again with
 * the next poll, for WAIT_NS at most; if nobody does they are dropped, for nobody would come back for them.
 *
 * Frames to be cut go by a socket of their own, one call for each, after all that is in the ring; who sends one is in the
 * kernel meanwhile. They do pass the queueing discipline, because only behind it the kernel cuts for an interface that
 * cannot. As long as such frames wait there (a shaper, a busy interface), all others go the same way, one call for each,
 * so that none overtakes.
 *
 * Invariant: slots [tail, head) are filled. The kernel's own position is never behind the tail, and it is the tail
 *            whenever nobody is in the kernel: frames are taken back by setting the head to it.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/time.h"
#include "port/kernel_frame.h"
#include "port/packet_priv.h"
#include "wire/l4.h"

#define WAIT_NS (2000 * NS_PER_US) /* a NIC makes room within microseconds, or is not working */

static uint8_t *data_of(struct tpacket2_hdr *slot)
{
	return (uint8_t *)slot + PACKET_TX_DATA_OFF;
}

static void copy_frame(uint8_t *dst, const struct frame *f)
{
	memcpy(dst, f->data, f->head_len);
	dst += f->head_len;
	for (unsigned i = 0; i < f->n_body; i++) {
		memcpy(dst, f->body[i].p, f->body[i].len);
		dst += f->body[i].len;
	}
}

/* Complete the checksum of the copy @p of @f. False: what the frame says of it is not true. */
static bool finish(uint8_t *p, const struct frame *f)
{
	struct wire_piece rest = {.p = p + f->head_len, .len = f->len - f->head_len};
	uint32_t tag = frame_tag_bytes(f);

	return !(f->off.flags & NET_HDR_F_NEEDS_CSUM) ||
	       !l4_csum_finish(p + tag, f->head_len - tag, &rest, 1, f->off.csum_start - tag, f->off.csum_offset);
}

/* DROP_N: it is in the ring. Locked. */
static enum drop_reason fill(struct packet_tx *tx, const struct frame *f)
{
	struct tpacket2_hdr *slot = packet_slot(&tx->ring, tx->head);

	if (packet_status(slot) != TP_STATUS_AVAILABLE || packet_after(&tx->ring, tx->head) == tx->tail)
		return DROP_KERNEL_FULL;
	copy_frame(data_of(slot), f);
	if (unlikely(!finish(data_of(slot), f)))
		return DROP_BAD_OFFLOAD;
	slot->tp_len = f->len;
	packet_set_status(slot, TP_STATUS_SEND_REQUEST);
	tx->head = packet_after(&tx->ring, tx->head);
	return DROP_N;
}

/* Take back all frames the kernel has not taken. Returns how many. Locked, nobody in the kernel. */
static uint32_t take_back(struct packet_tx *tx)
{
	uint32_t n = 0;

	for (uint32_t i = tx->tail; i != tx->head; i = packet_after(&tx->ring, i), n++)
		packet_set_status(packet_slot(&tx->ring, i), TP_STATUS_AVAILABLE);
	tx->head = tx->tail;
	return n;
}

/* Remove the frame at the tail, which the kernel refuses and will not step over: those behind it move up. Rare: frames
 * too long for the interface are not put here. Locked, nobody in the kernel. */
static void remove_first(struct packet_tx *tx)
{
	struct tpacket2_hdr *to = packet_slot(&tx->ring, tx->tail);

	for (uint32_t i = packet_after(&tx->ring, tx->tail); i != tx->head; i = packet_after(&tx->ring, i)) {
		struct tpacket2_hdr *from = packet_slot(&tx->ring, i);

		memcpy(data_of(to), data_of(from), from->tp_len);
		to->tp_len = from->tp_len;
		packet_set_status(to, TP_STATUS_SEND_REQUEST);
		to = from;
	}
	packet_set_status(to, TP_STATUS_AVAILABLE);
	tx->head = (tx->head + tx->ring.n - 1) % tx->ring.n;
}

/* Step over what the kernel has taken, and count it. Returns whether there was any. Locked. */
static bool collect(struct packet_tx *tx, struct port_counters *counts)
{
	uint64_t frames = 0, bytes = 0;

	while (tx->tail != tx->head) {
		const struct tpacket2_hdr *slot = packet_slot(&tx->ring, tx->tail);
		uint32_t status = packet_status(slot);

		if (status == TP_STATUS_SEND_REQUEST || status == TP_STATUS_WRONG_FORMAT)
			break;
		frames++;
		bytes += slot->tp_len;
		tx->tail = packet_after(&tx->ring, tx->tail);
	}
	count(&counts->tx_frames, frames);
	count(&counts->tx_bytes, bytes);
	return frames > 0;
}

/* The interface is busy: let the frames wait, or give up. Locked, nobody in the kernel. */
static void wait_or_drop(struct packet_tx *tx, bool progress, struct port_counters *counts)
{
	uint64_t now_ns = time_now_ns();

	if (progress || tx->stuck_ns == 0)
		tx->stuck_ns = now_ns;
	if (tx->may_wait && now_ns - tx->stuck_ns < WAIT_NS) {
		atomic_store_explicit(&tx->backlog, true, memory_order_relaxed);
		return;
	}
	count(&counts->drop[DROP_KERNEL_FULL], take_back(tx));
}

static bool is_busy(int err)
{
	return err == 0 || err == ENOBUFS || err == EAGAIN || err == ENOMEM || err == EINTR;
}

/* What became of the frames in [tail, limit), which the kernel has looked at; @err: what it said. True: go there again.
 * Locked, nobody in the kernel. */
static bool settle(struct packet *k, uint32_t limit, int err, struct port_counters *counts)
{
	struct packet_tx *tx = k->tx;
	bool is_left, progress;

	is_left =
		packet_status(packet_slot(&tx->ring, (limit + tx->ring.n - 1) % tx->ring.n)) == TP_STATUS_SEND_REQUEST;
	progress = collect(tx, counts);
	atomic_store_explicit(&tx->backlog, false, memory_order_relaxed);
	if (tx->tail != tx->head && packet_status(packet_slot(&tx->ring, tx->tail)) == TP_STATUS_WRONG_FORMAT) {
		count(&counts->drop[DROP_KERNEL_REFUSED], 1);
		remove_first(tx);
		return tx->tail != tx->head;
	}
	if (is_left && is_busy(err)) {
		wait_or_drop(tx, progress, counts);
	} else if (is_left) {
		count(&counts->drop[DROP_KERNEL_REFUSED], take_back(tx));
		if (atomic_load_explicit(&k->port.up, memory_order_relaxed))
			port_attention(&k->port);
	} else {
		tx->stuck_ns = 0;
	}
	return false;
}

/* One visit. True: come again. Nobody else is in the kernel. */
static bool visit(struct packet *k, struct port_counters *counts)
{
	struct packet_tx *tx = k->tx;
	uint32_t limit;
	bool again, is_empty;
	int err;

	spin_lock(&tx->lock);
	limit = tx->head;
	is_empty = tx->tail == tx->head;
	spin_unlock(&tx->lock);
	if (is_empty)
		return false;
	err = sendto(tx->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
	spin_lock(&tx->lock);
	again = settle(k, limit, err, counts);
	spin_unlock(&tx->lock);
	return again;
}

void packet_tx_flush(struct port *p, unsigned worker)
{
	struct packet *k = packet_of(p);
	struct packet_tx *tx = k->tx;

	atomic_store(&tx->wanted, true);
	do {
		if (!spin_try(&tx->in_kernel))
			return;
		atomic_store(&tx->wanted, false);
		while (visit(k, &p->counters[worker]))
			;
		spin_unlock(&tx->in_kernel);
		/* Either this sees the word that was left, or who left it sees the lock open. */
		atomic_thread_fence(memory_order_seq_cst);
	} while (atomic_load(&tx->wanted));
}

/* The kernel said no to one frame. */
static enum drop_reason refusal(struct packet *k, int err)
{
	if (is_busy(err))
		return DROP_KERNEL_FULL;
	/* EINVAL is about the frame: UDP in more segments than Linux cuts. */
	if (err != EINVAL && atomic_load_explicit(&k->port.up, memory_order_relaxed))
		port_attention(&k->port);
	return DROP_KERNEL_REFUSED;
}

/* Send a frame that is to be cut, behind all that is in the ring. DROP_N: it went. Nobody else is in the kernel. */
static enum drop_reason send_behind(struct packet *k, const struct frame *f, struct port_counters *counts)
{
	while (visit(k, counts))
		;
	if (atomic_load_explicit(&k->tx->backlog, memory_order_relaxed))
		return DROP_KERNEL_FULL;
	if (kernel_frame_write(k->tx->long_fd, f) < 0)
		return refusal(k, errno);
	count(&counts->tx_frames, 1);
	count(&counts->tx_bytes, f->len);
	return DROP_N;
}

/* With the lock held, which is let go meanwhile. */
static enum drop_reason send_long(struct packet *k, const struct frame *f, unsigned worker)
{
	struct packet_tx *tx = k->tx;
	enum drop_reason reason;

	spin_unlock(&tx->lock);
	spin_lock(&tx->in_kernel);
	reason = send_behind(k, f, &k->port.counters[worker]);
	spin_unlock(&tx->in_kernel);
	atomic_thread_fence(memory_order_seq_cst); /* as in packet_tx_flush() */
	if (atomic_load(&tx->wanted))
		packet_tx_flush(&k->port, worker);
	spin_lock(&tx->lock);
	return reason;
}

/* Would the interface refuse it? What is not cut and four bytes too long the kernel lets pass if it has a tag. */
static bool is_too_long(const struct frame *f, uint32_t frame_max)
{
	if (f->off.gso_type == NET_HDR_GSO_NONE)
		return f->len > frame_max;
	if (be16_get(f->data + ETH_TYPE_OFF) != ETH_P_VLAN)
		frame_max -= VLAN_TAG_BYTES;
	return min_u32(f->len, (uint32_t)f->off.hdr_len + f->off.gso_size) > frame_max;
}

/* With the lock held, which is let go when the ring is full: once for a batch (@flushed). */
static enum drop_reason send_short(struct packet *k, const struct frame *f, unsigned worker, bool *flushed)
{
	enum drop_reason reason = fill(k->tx, f);

	if (likely(reason != DROP_KERNEL_FULL) || *flushed)
		return reason;
	*flushed = true;
	spin_unlock(&k->tx->lock);
	packet_tx_flush(&k->port, worker);
	spin_lock(&k->tx->lock);
	return fill(k->tx, f);
}

/* Has the kernel frames to be cut that it has not sent yet? Locked. */
static bool longs_are_waiting(const struct packet_tx *tx)
{
	int bytes = 0;

	return tx->longs_wait && ioctl(tx->long_fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static enum drop_reason send_one(struct packet *k, struct frame *f, unsigned worker, bool *flushed)
{
	enum drop_reason reason;

	if (likely(f->off.gso_type == NET_HDR_GSO_NONE && !k->tx->longs_wait))
		return send_short(k, f, worker, flushed);
	reason = send_long(k, f, worker);
	k->tx->longs_wait |= reason == DROP_N;
	return reason;
}

void packet_tx_frames(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	struct packet *k = packet_of(p);
	uint32_t frame_max = atomic_load_explicit(&k->tx->frame_max, memory_order_relaxed);
	bool flushed = false;

	spin_lock(&k->tx->lock);
	k->tx->longs_wait = longs_are_waiting(k->tx);
	for (unsigned i = 0; i < n; i++) {
		enum drop_reason reason = DROP_KERNEL_REFUSED;

		if (likely(!is_too_long(f[i], frame_max)))
			reason = send_one(k, f[i], worker, &flushed);
		if (unlikely(reason != DROP_N))
			port_drop(p, worker, reason, 1);
	}
	spin_unlock(&k->tx->lock);
}

bool packet_tx_let_wait(struct packet_tx *tx, bool wait)
{
	bool ok;

	spin_lock(&tx->lock);
	ok = wait || !atomic_load_explicit(&tx->backlog, memory_order_relaxed);
	if (ok)
		tx->may_wait = wait;
	spin_unlock(&tx->lock);
	return ok;
}
