/* SPDX-License-Identifier: Apache-2.0 */
/* The packet port's control half: making it, following its interface, changing its MTU.
 *
 *   packet_ring.c   sockets and the rings shared with the kernel
 *   packet_rx.c     frames from the interface, as long as they come
 *   packet_tx.c     frames to the interface
 *
 * The interface may go down, lose its cable, be deleted and be made again under the same name: the port follows. It is
 * down as long as nothing could go out, and says why.
 *
 * The host's own stack keeps working on the interface beside the switch. What it sends there is not seen by the switch
 * (PACKET_IGNORE_OUTGOING): the switch sees the wire.
 *
 * A stuck ring: Linux (6.18 too) marks a slot as taken before it finds that it cannot describe a frame's offload in a
 * virtio-net header (SCTP, or UDP as IP fragments; from a local stack or somebody else's guest only), drops the frame and
 * forgets the mark. The slot is never used again, nor is any behind it. So frames that are lost while the ring is empty
 * and stays so mean that it must be made anew.
 */
#include "port/packet.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "port/packet_priv.h"

#define LOOK_MS        1000 /* how often the kernel is asked for what it dropped */
#define LOOK_CLOSER_MS 50   /* when the ring may be stuck: is it empty all that time? */

/* Everything the kernel keeps for the interface we have is gone with it; begin again with its namesake. */
static void follow(struct packet *k, int index)
{
	int err = packet_rx_bind(k->rx, index);

	if (!err)
		err = packet_tx_bind(k->tx, index);
	if (err)
		snprintf(k->reason, sizeof(k->reason), "cannot open the new interface %s: %s", k->netif.name,
			 strerror(-err));
	else
		k->netif.index = index;
}

static void note_mtu(struct packet *k, const struct netif_state *s)
{
	char ip[NETIF_IP_BYTES];

	if (s->mtu == k->seen_mtu)
		return;
	k->seen_mtu = s->mtu;
	atomic_store_explicit(&k->tx->frame_max,
			      min_u32(s->mtu + ETH_HEAD_BYTES + VLAN_TAG_BYTES, packet_tx_slot_max(k->tx)),
			      memory_order_relaxed);
	if (s->mtu < k->port.mtu)
		log_limited(&k->log, LOG_WARN,
			    "%s: interface %s carries only MTU %u now, longer frames are dropped: raise it with "
			    "`%s link set %s mtu %u`",
			    k->port.name, s->name, s->mtu, netif_ip(&k->netif, ip), s->name, k->port.mtu);
}

/* Bring port.up into line with the interface. */
static void check_link(struct packet *k)
{
	bool was_up = k->port.up, up;
	struct netif_state s;

	netif_query(&k->netif, &s);
	if (s.index && s.index != k->netif.index)
		follow(k, s.index);
	if (s.index)
		note_mtu(k, &s);
	up = netif_usable(&k->netif, &s, k->reason, sizeof(k->reason)) && s.index == k->netif.index;
	if (up == was_up)
		return;
	atomic_store_explicit(&k->port.up, up, memory_order_relaxed);
	k->host->link_changed(&k->port);
	if (up)
		log_limited(&k->log, LOG_INFO, "%s: up, interface %s", k->port.name, s.name);
	else
		log_limited(&k->log, LOG_WARN, "%s: down: %s", k->port.name, k->reason);
}

static void on_link_change(void *arg)
{
	check_link(arg);
}

/* Returns how many there were since the last call. */
static uint32_t count_lost(struct packet *k)
{
	uint32_t n = packet_rx_lost(k->rx);

	count(&k->port.counters[COUNTERS_CONTROL].drop[DROP_KERNEL_LOST], n);
	return n;
}

static void packet_attend(struct port *p)
{
	check_link(packet_of(p));
	count_lost(packet_of(p));
}

static void packet_info(const struct port *p, struct port_info *info)
{
	const struct packet *k = packet_of(p);

	info->state = p->up ? PORT_UP : PORT_DOWN;
	snprintf(info->reason, sizeof(info->reason), "%s", k->reason);
	netif_info(&k->netif, info);
	offload_info(&k->offloads, info);
	port_info_add(info, "rx_slots", "%u", k->rx->ring.n);
	port_info_add(info, "tx_slots", "%u", k->tx->ring.n);
}

/* Give the queue to a worker. */
static int serve(struct packet *k, struct err *e)
{
	int err;

	packet_tx_let_wait(k->tx, true); /* it starts awake */
	err = k->host->queue_add(&k->port, 0, k->rx->fd, e);
	k->queued = !err;
	return err;
}

static int open_rings(struct packet_rx **rx, struct packet_tx **tx, unsigned mtu, struct err *e)
{
	int err = packet_rx_open(rx, mtu, e);

	if (err)
		return err;
	err = packet_tx_open(tx, mtu, e);
	if (err) {
		packet_rx_close(*rx);
		*rx = NULL;
	}
	return err;
}

/* Put new rings in the place of the old ones. The port is down for that moment, and no worker touches it: so no frame is
 * received twice, and those in the old rings are lost. */
static void swap_rings(struct packet *k, struct packet_rx *rx, struct packet_tx *tx)
{
	struct packet_rx *old_rx = k->rx;
	struct packet_tx *old_tx = k->tx;
	bool was_up = k->port.up;
	int err;

	atomic_store_explicit(&k->port.up, false, memory_order_relaxed);
	if (k->queued)
		k->host->queue_remove(&k->port, 0);
	k->host->quiesce();
	count_lost(k);
	k->rx = rx;
	k->tx = tx;
	err = packet_rx_bind(rx, k->netif.index);
	if (!err)
		err = packet_tx_bind(tx, k->netif.index);
	if (err)
		k->netif.index = 0; /* gone meanwhile; check_link() follows when it comes back */
	packet_rx_close(old_rx);
	packet_tx_close(old_tx);
	k->seen_mtu = 0;
	atomic_store_explicit(&k->port.up, was_up && !err, memory_order_relaxed);
}

static int new_rings(struct packet *k, unsigned mtu, struct err *e)
{
	struct packet_rx *rx;
	struct packet_tx *tx;
	int own, err;

	err = netns_enter(k->netif.netns, &own, e);
	if (err)
		return err;
	err = open_rings(&rx, &tx, mtu, e);
	netns_leave(own);
	if (err)
		return err;
	swap_rings(k, rx, tx);
	if (!k->queued)
		return 0;
	check_link(k);
	return serve(k, e);
}

static bool is_empty(const struct packet_ring *r)
{
	for (uint32_t i = 0; i < r->n; i++)
		if (packet_status(packet_slot(r, i)) != TP_STATUS_KERNEL)
			return false;
	return true;
}

/* Frames were lost, none came, and there is room: see the head of this file. */
static bool is_stuck(struct packet *k, uint32_t lost)
{
	struct port_totals t;
	bool came;

	port_totals(&k->port, &t);
	came = t.rx_frames != k->seen_frames;
	k->seen_frames = t.rx_frames;
	k->suspect = lost && is_empty(&k->rx->ring);
	return k->suspect && !came;
}

static void unstick(struct packet *k)
{
	struct err e = {0};

	if (new_rings(k, k->port.mtu, &e))
		log_limited(&k->log, LOG_ERROR, "%s: the ring of interface %s is stuck: %s", k->port.name,
			    k->netif.name, e.text);
	else
		log_limited(
			&k->log, LOG_WARN,
			"%s: the ring of interface %s was stuck and is new now; frames were lost: its sender uses an "
			"offload which Linux cannot pass on, turn it off there with `ethtool -K`",
			k->port.name, k->netif.name);
}

static int arm(struct packet *k)
{
	unsigned ms = k->suspect ? LOOK_CLOSER_MS : LOOK_MS;
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (long)(ms % 1000) * 1000};

	return event_add(k->timer, &tv) ? -ENOMEM : 0;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct packet *k = arg;

	(void)fd;
	(void)what;
	if (is_stuck(k, count_lost(k)))
		unstick(k);
	if (arm(k))
		log_limited(&k->log, LOG_ERROR, "%s: no memory for a timer", k->port.name);
}

static int watch(struct packet *k)
{
	k->timer = event_new(k->host->events, -1, 0, on_timer, k);
	if (!k->timer || arm(k))
		return -ENOMEM;
	return netif_watch(&k->netif, k->host->events, on_link_change, k);
}

static int packet_start(struct port *p, struct err *e)
{
	struct packet *k = packet_of(p);
	int err = watch(k);

	if (err)
		return err_set(e, err, NULL, NULL, "no memory to watch interface %s", k->netif.name);
	err = serve(k, e);
	if (!err)
		check_link(k);
	return err;
}

static int packet_set_mtu(struct port *p, unsigned mtu, struct err *e)
{
	struct packet *k = packet_of(p);
	struct netif_state s;
	int err;

	netif_query(&k->netif, &s);
	if (!s.index)
		return err_set(e, -ENODEV, "mtu", "make it again, or delete the port", "interface %s does not exist",
			       k->netif.name);
	err = netif_check_mtu(&k->netif, &s, mtu, e);
	if (!err && !packet_ring_suits(&k->rx->ring, mtu))
		err = new_rings(k, mtu, e);
	if (!err)
		atomic_store_explicit(&p->mtu, mtu, memory_order_relaxed);
	return err;
}

static void packet_free(struct port *p)
{
	struct packet *k = packet_of(p);

	if (k->queued)
		k->host->queue_remove(p, 0);
	k->host->quiesce();
	if (k->timer)
		event_free(k->timer);
	netif_close(&k->netif);
	packet_rx_close(k->rx);
	packet_tx_close(k->tx);
	free(k);
}

static const struct port_ops packet_ops = {
	.kind = "packet",
	.rx = packet_rx_poll,
	.rx_done = packet_rx_done,
	.rx_sleep = packet_rx_sleep,
	.rx_wake = packet_rx_wake,
	.tx = packet_tx_frames,
	.tx_flush = packet_tx_flush,
	.start = packet_start,
	.attend = packet_attend,
	.info = packet_info,
	.set_mtu = packet_set_mtu,
	.free = packet_free,
};

static int check_interface(const struct netif *n, const struct netif_state *s, unsigned mtu, struct err *e)
{
	char ip[NETIF_IP_BYTES], remedy[NETIF_IP_BYTES + 64];

	if (!s->index) {
		snprintf(remedy, sizeof(remedy), "`%s link` shows which there are", netif_ip(n, ip));
		return err_set(e, -ENODEV, "ifname", remedy, "there is no interface %s%s%s", n->name,
			       n->netns[0] ? " in the namespace " : "", n->netns);
	}
	if (!s->ethernet)
		return err_set(e, -EINVAL, "ifname", "choose another interface",
			       "interface %s is not an Ethernet interface", n->name);
	return netif_check_mtu(n, s, mtu, e);
}

/* In the namespace already. */
static int open_interface(struct packet *k, const struct packet_conf *conf, struct err *e)
{
	struct netif_state s;
	int err = netif_open(&k->netif, conf->ifname, conf->netns, e);

	if (err)
		return err;
	netif_query(&k->netif, &s);
	err = check_interface(&k->netif, &s, conf->mtu, e);
	if (!err)
		err = open_rings(&k->rx, &k->tx, conf->mtu, e);
	if (err)
		return err;
	k->netif.index = s.index;
	err = packet_rx_bind(k->rx, s.index);
	if (!err)
		err = packet_tx_bind(k->tx, s.index);
	if (err)
		return err_set(e, err, "ifname", NULL, "cannot open interface %s: %s", conf->ifname, strerror(-err));
	return 0;
}

/* Is this Linux @major.@minor, or newer? */
static bool linux_is(unsigned long major, unsigned long minor)
{
	unsigned long here;
	struct utsname u;
	char *end;

	if (uname(&u))
		return false;
	here = strtoul(u.release, &end, 10);
	return here > major || (here == major && *end == '.' && strtoul(end + 1, NULL, 10) >= minor);
}

/* What the kernel does for frames from a packet socket, if the interface does not. UDP to be cut it takes since 6.2, and
 * there is no other way to ask. */
static uint32_t kernel_offloads(void)
{
	return linux_is(6, 2) ? OFFLOAD_ALL : OFFLOAD_ALL & ~(uint32_t)(OFFLOAD_USO4 | OFFLOAD_USO6);
}

static void choose_offloads(struct packet *k, uint32_t off)
{
	struct offload_deal *d = &k->offloads;

	d->off = off;
	d->asked = offload_closed(OFFLOAD_ALL & ~off);
	d->agreed = d->asked & kernel_offloads();
	k->port.takes = d->agreed;
}

struct port *packet_new(const struct packet_conf *conf, const struct port_host *host, struct err *e)
{
	struct packet *k;
	int own, err;

	if (netif_name_check(conf->ifname, e) || netns_enter(conf->netns, &own, e))
		return NULL;
	k = aligned_alloc(_Alignof(struct packet), sizeof(*k));
	if (k) {
		*k = (struct packet){.port = {.ops = &packet_ops, .mtu = conf->mtu}, .host = host, .netif.fd = -1};
		snprintf(k->port.name, sizeof(k->port.name), "%s", conf->name);
		choose_offloads(k, conf->offloads_off);
		err = open_interface(k, conf, e);
	} else {
		err = err_set(e, -ENOMEM, NULL, NULL, "no memory for port %s", conf->name);
	}
	netns_leave(own);
	if (err && k)
		packet_free(&k->port);
	return err ? NULL : &k->port;
}
