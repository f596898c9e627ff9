/* SPDX-License-Identifier: Apache-2.0 */
/* The control half of a guest's port: rings come and go, and forwarding is told. What is promised is in guest.h.
 *
 * A receiveq takes part (is in tx_set) while it runs and is enabled. A transmitq is polled while it runs; while it is
 * disabled its frames are dropped (vhost-user, "Ring states").
 */
#include "port/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "port/guest_priv.h"
#include "wire/eth.h"

static struct guest_tx_set no_receiveqs;

/* Does receiveq @k take part? The guest may have asked for fewer pairs than the front end enabled. */
static bool takes_part(const struct guest *g, unsigned k)
{
	return g->tx[k].running && g->tx[k].enabled && (!g->ctrl_pairs || k < g->ctrl_pairs);
}

void guest_interrupt(int call_fd)
{
	uint64_t one = 1;

	/* A full eventfd counter means that the guest has enough to notice already. */
	if (call_fd >= 0 && write(call_fd, &one, sizeof(one)) < 0)
		return;
}

/* Tell the guest what was put into these receiveqs. It is decided under the lock, and told after it: nobody should wait
 * for a system call. The descriptor stays open until the next grace period. */
static void flush(const struct guest_tx_set *set)
{
	for (unsigned k = 0; k < set->n; k++) {
		struct guest_tx *q = set->q[k];
		int call_fd;

		if (!virtq_unsignalled(q->vq))
			continue;
		spin_lock(&q->lock);
		call_fd = virtq_interrupt(q->vq);
		spin_unlock(&q->lock);
		guest_interrupt(call_fd);
	}
}

static bool is_in(const struct guest_tx_set *set, const struct guest_tx *q)
{
	for (unsigned k = 0; k < set->n; k++)
		if (set->q[k] == q)
			return true;
	return false;
}

static void settle_leaving(const struct guest_tx_set *old, const struct guest_tx_set *set)
{
	struct guest_tx_set leaving = {0};

	for (unsigned k = 0; k < old->n; k++)
		if (!is_in(set, old->q[k]))
			leaving.q[leaving.n++] = old->q[k];
	guest_tx_settle(&leaving);
}

void guest_publish_tx(struct guest *g)
{
	struct guest_tx_set *old = g->tx_set, *set = calloc(1, sizeof(*set));
	bool was_up = g->port.up;

	if (!set)
		set = &no_receiveqs; /* no memory: the guest receives nothing, and says it is not up */
	for (unsigned k = 0; set != &no_receiveqs && k < g->pairs; k++)
		if (takes_part(g, k))
			set->q[set->n++] = &g->tx[k];
	atomic_store_explicit(&g->tx_set, set, memory_order_release);
	g->port.up = set->n > 0;
	g->host->quiesce();
	/* Workers publish and flush the new set only: what they put into a queue that is leaving, the guest gets now.
	 * In one that stays, a worker may be at work again: it publishes by itself. */
	settle_leaving(old, set);
	flush(old);
	if (old != &no_receiveqs)
		free(old);
	if (was_up != g->port.up)
		g->host->link_changed(&g->port);
}

void guest_connected(struct guest *g)
{
	g->connected = true;
	g->broken = false;
	g->ctrl_pairs = 0;
}

void guest_disconnected(struct guest *g, const char *reason)
{
	g->connected = false;
	g->broken = reason != NULL;
	if (reason)
		snprintf(g->reason, sizeof(g->reason), "%s", reason);
}

void guest_features(struct guest *g, const struct guest_agreed *agreed)
{
	g->agreed = *agreed;
	/* A checksum that the guest does not take is completed here, while the frame is copied. */
	atomic_store_explicit(&g->port.takes, agreed->takes | OFFLOAD_CSUM, memory_order_relaxed);
}

static uint8_t hdr_bytes(const struct guest *g)
{
	return g->agreed.long_header ? NET_HDR_LONG : NET_HDR_SHORT;
}

static int run_receiveq(struct guest *g, unsigned k, struct virtq *vq)
{
	struct guest_tx *q = &g->tx[k];

	q->hdr_bytes = hdr_bytes(g);
	q->mergeable = g->agreed.mrg_rxbuf;
	q->csum = g->agreed.takes & OFFLOAD_CSUM;
	q->vq = vq;
	q->n_open = 0;
	q->running = true;
	/* We never wait for receive buffers: a frame that finds none is dropped. So, no notifications. */
	virtq_notify_off(vq);
	guest_publish_tx(g);
	return 0;
}

static int run_transmitq(struct guest *g, unsigned k, struct virtq *vq, int kick_fd, struct err *e)
{
	struct guest_rx *q = &g->rx[k];
	int rc;

	q->hdr_bytes = hdr_bytes(g);
	q->may_leave = (uint8_t)g->agreed.may_leave;
	q->n_lent = 0;
	q->vq = vq;
	virtq_notify_off(vq);
	rc = g->host->queue_add(&g->port, k, kick_fd, e);
	if (rc < 0)
		q->vq = NULL;
	return rc;
}

int guest_ring_run(struct guest *g, unsigned ring, struct virtq *vq, int kick_fd, struct err *e)
{
	if (ring == 2 * g->pairs)
		return guest_ctrl_run(g, vq, kick_fd, e);
	if (ring % 2 == 0)
		return run_receiveq(g, ring / 2, vq);
	return run_transmitq(g, ring / 2, vq, kick_fd, e);
}

void guest_ring_halt(struct guest *g, unsigned ring)
{
	if (ring == 2 * g->pairs) {
		guest_ctrl_halt(g);
	} else if (ring % 2 == 0) {
		if (!g->tx[ring / 2].running)
			return;
		g->tx[ring / 2].running = false;
		guest_publish_tx(g);
		g->tx[ring / 2].vq = NULL; /* not before workers have left it */
	} else {
		g->host->queue_remove(&g->port, ring / 2);
		g->rx[ring / 2].vq = NULL;
	}
}

void guest_ring_enable(struct guest *g, unsigned ring, bool enabled)
{
	if (ring >= 2 * g->pairs)
		return; /* the control queue is served whenever it runs */
	if (ring % 2) {
		g->rx[ring / 2].enabled = enabled;
	} else if (g->tx[ring / 2].enabled != enabled) {
		g->tx[ring / 2].enabled = enabled;
		guest_publish_tx(g);
	}
}

void guest_announce(struct guest *g, struct mac mac)
{
	/* RFC 903: "reverse ARP" request, sender and target hardware address @mac, as every hypervisor sends it after a
	 * migration; switches learn the sender's new place from it. */
	uint8_t frame[ETH_FRAME_MIN] = {0};

	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac.b, 6);
	be16_put(frame + 12, ETH_P_RARP);
	be16_put(frame + 14, 1); /* hardware: Ethernet */
	be16_put(frame + 16, ETH_P_IP4);
	frame[18] = 6;
	frame[19] = 4;
	be16_put(frame + 20, 3); /* request reverse */
	memcpy(frame + 22, mac.b, 6);
	memcpy(frame + 32, mac.b, 6);
	g->host->inject(&g->port, frame, sizeof(frame));
}

int guest_check_mtu(const struct guest *g, unsigned mtu)
{
	return mtu >= FRAME_MTU_MIN && mtu <= g->port.mtu ? 0 : -EINVAL;
}

/* ---- port operations, control thread ---- */

/* If the ring is at fault, end the connection and say why. */
static bool fail_if_broken(struct guest *g, const char *kind, unsigned k, const struct virtq *vq)
{
	enum virtq_fault f = vq ? virtq_fault_get(vq) : VIRTQ_FAULT_NONE;
	char reason[sizeof(g->reason)];

	if (f == VIRTQ_FAULT_NONE)
		return false;
	snprintf(reason, sizeof(reason), "%s %u: %s", kind, k, virtq_fault_text(f));
	g->link.fail(g->link.arg, reason);
	return true;
}

static void guest_attend(struct port *p)
{
	struct guest *g = guest_of(p);
	const struct gmem *m = g->link.memory(g->link.arg);

	/* Zero pages in place of a ring look like any fault; say what came first. */
	if (m && gmem_faulted(m)) {
		g->link.fail(g->link.arg, virtq_fault_text(VIRTQ_FAULT_TRUNCATED));
		return;
	}
	for (unsigned k = 0; k < g->pairs; k++)
		if (fail_if_broken(g, "transmitq", k, g->rx[k].vq) || fail_if_broken(g, "receiveq", k, g->tx[k].vq))
			return;
	fail_if_broken(g, "control queue", 0, g->ctrl_vq);
}

static void guest_rx_flush(struct port *p, unsigned q)
{
	guest_interrupt(virtq_interrupt(guest_of(p)->rx[q].vq));
}

static void guest_tx_flush(struct port *p, unsigned worker)
{
	(void)worker;
	flush(atomic_load_explicit(&guest_of(p)->tx_set, memory_order_acquire));
}

static enum port_state state_of(const struct guest *g)
{
	if (g->broken)
		return PORT_BROKEN;
	if (!g->connected)
		return PORT_WAITING;
	return g->port.up ? PORT_UP : PORT_STARTING;
}

static void guest_info(const struct port *p, struct port_info *info)
{
	const struct guest *g = guest_of(p);
	struct guest_tx_set *set = g->tx_set;

	info->state = state_of(g);
	snprintf(info->reason, sizeof(info->reason), "%s", g->reason);
	port_info_add(info, "queue_pairs", "%u of %u", set->n, g->pairs);
	g->link.info(g->link.arg, info);
}

static int guest_set_mtu(struct port *p, unsigned mtu, struct err *e)
{
	struct guest *g = guest_of(p);

	(void)e;
	p->mtu = mtu;
	g->link.set_mtu(g->link.arg, mtu);
	return 0;
}

static void guest_free(struct port *p)
{
	struct guest *g = guest_of(p);

	if (g->link.free)
		g->link.free(g->link.arg);
	g->host->quiesce();
	if (g->tx_set != &no_receiveqs)
		free(g->tx_set);
	free(g);
}

static const struct port_ops guest_ops = {
	.kind = "guest",
	.rx = guest_rx_poll,
	.rx_done = guest_rx_done,
	.rx_sleep = guest_rx_sleep,
	.rx_wake = guest_rx_wake,
	.tx = guest_tx_frames,
	.tx_publish = guest_tx_publish,
	.rx_flush = guest_rx_flush,
	.tx_flush = guest_tx_flush,
	.attend = guest_attend,
	.info = guest_info,
	.set_mtu = guest_set_mtu,
	.free = guest_free,
};

struct guest *guest_new(const char *name, unsigned mtu, unsigned pairs, const struct port_host *host)
{
	struct guest *g = aligned_alloc(CACHE_LINE, (sizeof(*g) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));

	if (!g)
		return NULL;
	memset(g, 0, sizeof(*g));
	g->port.ops = &guest_ops;
	snprintf(g->port.name, sizeof(g->port.name), "%s", name);
	g->port.mtu = mtu;
	g->pairs = pairs;
	g->host = host;
	g->agreed.long_header = true;
	g->tx_set = &no_receiveqs;
	return g;
}

struct port *guest_port(struct guest *g)
{
	return &g->port;
}

void guest_set_link(struct guest *g, const struct guest_link *link)
{
	g->link = *link;
}
