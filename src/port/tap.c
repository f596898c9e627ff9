/* SPDX-License-Identifier: Apache-2.0 */
/* Tap: frames by read and write, one system call for each, which is what the kernel offers here.
 *
 * Each frame has a virtio-net header before it, and the kernel was told what may be left undone (TUNSETOFFLOAD). So TCP's
 * frames of 64 KiB come and go whole, uncut and without their checksum: one system call instead of 45. What was not agreed
 * the kernel does before we read. It puts VLAN tags back where they were.
 *
 * Memory: the bodies of a batch lie behind each other in an arena which has room for the longest frames. Small frames never
 *         get far in it, so the rest of it is never touched and costs nothing; and what is touched stays in the cache.
 *
 * Thread:  rx on the worker that owns the queue, tx on any (the kernel takes writes from several at once); the rest on
 *          control.
 * Trust:   the kernel. Somebody with CAP_NET_ADMIN may change, move or delete the interface at any time.
 * Sleep:   the worker waits for an edge (EPOLLET). The kernel makes one after each frame it queues, so a read that found
 *          nothing (EAGAIN) is followed by an edge, and anything short of that must not sleep.
 */
#include "port/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "port/kernel_frame.h"
#include "port/netif.h"

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20 /* Linux 6.2; newer than some systems' headers */
#define TUN_F_USO6 0x40
#endif

#define TAP_BATCH  32 /* frames in one go: read in that order they are still in the cache when delivered */
#define BODY_MAX   (FRAME_BYTES_MAX - FRAME_HEAD_MAX + 1) /* a frame that fills it was cut short */
#define ARENA_FULL (256u << 10)                           /* a batch that got so far is long enough */
#define ARENA_MAX  (ARENA_FULL + BODY_MAX)

struct tap {
	struct port port;
	/* constant */
	const struct port_host *host;
	int fd;
	uint8_t *arena; /* ARENA_MAX bytes, for what does not fit into a frame's head */
	struct offload_deal offloads;
	/* the worker that owns the queue */
	uint32_t arena_used;
	unsigned n_lent; /* bodies in it */
	bool drained;    /* the last read found nothing */
	/* control */
	struct netif netif;
	bool queued; /* the queue was given to a worker */
	bool moved;  /* out of the namespace where it was made */
	char reason[160];
	struct log_limit log;
};

static struct tap *tap_of(const struct port *p)
{
	return container_of(p, struct tap, port);
}

/* ---- workers ---- */

/* The kernel said something other than "not now". Control will find out what; once is enough. */
static void complain(struct tap *t)
{
	if (atomic_load_explicit(&t->port.up, memory_order_relaxed))
		port_attention(&t->port);
}

/* Read the next frame. False: there is none. */
static bool read_frame(struct tap *t, struct frame *f, struct net_hdr *h)
{
	struct iovec iov[3] = {
		{h, NET_HDR_SHORT},
		{frame_head_begin(f), FRAME_HEAD_MAX},
		{t->arena + t->arena_used, BODY_MAX},
	};
	ssize_t len = readv(t->fd, iov, ARRAY_SIZE(iov));

	t->drained = len < 0;
	if (len < 0) {
		if (errno != EAGAIN)
			complain(t);
		return false;
	}
	f->len = len > NET_HDR_SHORT ? (uint32_t)len - NET_HDR_SHORT : 0;
	f->head_len = min_u32(f->len, FRAME_HEAD_MAX);
	return true;
}

/* What is wrong with the frame just read? DROP_N: nothing. */
static enum drop_reason check(struct frame *f, const struct net_hdr *h)
{
	if (unlikely(f->len < ETH_HEAD_BYTES))
		return DROP_TOO_SHORT;
	if (unlikely(f->len > FRAME_BYTES_MAX))
		return DROP_TOO_BIG;
	return kernel_frame_take(f, h);
}

/* Take the frame just read at b->f[b->n] into the batch, or drop it. */
static void receive(struct tap *t, struct frame_batch *b, const struct net_hdr *h, unsigned worker)
{
	struct port_counters *counts = &t->port.counters[worker];
	struct frame *f = &b->f[b->n];
	uint32_t body_len = f->len - f->head_len;
	enum drop_reason reason = check(f, h);

	count(&counts->rx_frames, 1);
	count(&counts->rx_bytes, f->len);
	if (unlikely(reason != DROP_N)) {
		count(&counts->drop[reason], 1);
		return;
	}
	b->n++;
	f->body = &b->spans[b->n_spans];
	f->n_body = body_len > 0;
	if (body_len) {
		b->spans[b->n_spans++] = (struct wire_piece){.p = t->arena + t->arena_used, .len = body_len};
		t->arena_used += (body_len + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
		t->n_lent++;
	}
}

static bool has_room(const struct tap *t, const struct frame_batch *b)
{
	return b->n < FRAME_BATCH && b->n_spans < ARRAY_SIZE(b->spans) && t->n_lent < TAP_BATCH &&
	       t->arena_used <= ARENA_FULL;
}

static unsigned tap_rx(struct port *p, unsigned q, struct frame_batch *b, unsigned worker)
{
	struct tap *t = tap_of(p);
	unsigned before = b->n;
	struct net_hdr h;

	(void)q;
	while (has_room(t, b) && read_frame(t, &b->f[b->n], &h))
		receive(t, b, &h, worker);
	return b->n - before;
}

static void tap_rx_done(struct port *p, unsigned q)
{
	struct tap *t = tap_of(p);

	(void)q;
	t->n_lent = 0;
	t->arena_used = 0;
}

static bool tap_rx_sleep(struct port *p, unsigned q)
{
	(void)q;
	return !tap_of(p)->drained;
}

static void tap_rx_wake(struct port *p, unsigned q)
{
	(void)q;
	tap_of(p)->drained = false;
}

static void tap_tx(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	struct port_counters *counts = &p->counters[worker];
	struct tap *t = tap_of(p);

	for (unsigned i = 0; i < n; i++) {
		if (likely(kernel_frame_write(t->fd, f[i]) >= 0)) {
			count(&counts->tx_frames, 1);
			count(&counts->tx_bytes, f[i]->len);
		} else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
			count(&counts->drop[DROP_KERNEL_FULL], 1);
		} else {
			count(&counts->drop[DROP_KERNEL_REFUSED], 1);
			if (errno != EINVAL) /* which is about the frame: UDP in more segments than Linux cuts */
				complain(t);
		}
	}
}

/* ---- control ---- */

/* The interface is not where we made it. False: it is gone. */
static bool find_elsewhere(struct tap *t)
{
	struct ifreq ifr = {0};

	t->moved = !ioctl(t->fd, TUNGETIFF, &ifr);
	if (!t->moved)
		snprintf(t->reason, sizeof(t->reason), "interface %s was deleted: delete the port and add it again",
			 t->netif.name);
	return t->moved;
}

/* Bring port.up into line with the interface. An interface that was moved to another namespace is not watched any more;
 * it counts as up, and if it is not the kernel refuses frames. */
static void check_link(struct tap *t)
{
	struct netif_state s;
	bool was_up = t->port.up, up;

	netif_query(&t->netif, &s);
	t->moved = false;
	if (s.index && s.index == t->netif.index)
		up = netif_usable(&t->netif, &s, t->reason, sizeof(t->reason));
	else
		up = find_elsewhere(t);
	if (up == was_up)
		return;
	atomic_store_explicit(&t->port.up, up, memory_order_relaxed);
	t->host->link_changed(&t->port);
	if (up)
		log_limited(&t->log, LOG_INFO, "%s: up, interface %s", t->port.name, s.name);
	else
		log_limited(&t->log, LOG_WARN, "%s: down: %s", t->port.name, t->reason);
}

static void on_link_change(void *arg)
{
	check_link(arg);
}

static int tap_start(struct port *p, struct err *e)
{
	struct tap *t = tap_of(p);
	int err = netif_watch(&t->netif, t->host->events, on_link_change, t);

	if (err)
		return err_set(e, err, NULL, NULL, "no memory to watch interface %s", t->netif.name);
	err = t->host->queue_add(p, 0, t->fd, e);
	if (err)
		return err;
	t->queued = true;
	check_link(t);
	return 0;
}

static void tap_attend(struct port *p)
{
	check_link(tap_of(p));
}

static void tap_info(const struct port *p, struct port_info *info)
{
	const struct tap *t = tap_of(p);

	info->state = p->up ? PORT_UP : PORT_DOWN;
	snprintf(info->reason, sizeof(info->reason), "%s", t->reason);
	netif_info(&t->netif, info);
	offload_info(&t->offloads, info);
	if (t->moved)
		port_info_add(info, "moved", "the interface was moved to another namespace; its state is not known");
}

static int apply_mtu(const struct netif *n, unsigned mtu, struct err *e)
{
	int err = netif_set_mtu(n, mtu);

	if (err == -EINVAL)
		return err_set(e, err, "mtu", "choose an MTU of 68 to 65521",
			       "the kernel does not give interface %s an MTU of %u", n->name, mtu);
	if (err)
		return err_set(e, err, "mtu", NULL, "cannot set the MTU of interface %s: %s", n->name, strerror(-err));
	return 0;
}

static int tap_set_mtu(struct port *p, unsigned mtu, struct err *e)
{
	int err = apply_mtu(&tap_of(p)->netif, mtu, e);

	if (!err)
		atomic_store_explicit(&p->mtu, mtu, memory_order_relaxed);
	return err;
}

static void tap_free(struct port *p)
{
	struct tap *t = tap_of(p);

	if (t->queued)
		t->host->queue_remove(p, 0);
	t->host->quiesce();
	netif_close(&t->netif);
	if (t->fd >= 0)
		close(t->fd);
	free(t->arena);
	free(t);
}

static const struct port_ops tap_ops = {
	.kind = "tap",
	.rx = tap_rx,
	.rx_done = tap_rx_done,
	.rx_sleep = tap_rx_sleep,
	.rx_wake = tap_rx_wake,
	.tx = tap_tx,
	.start = tap_start,
	.attend = tap_attend,
	.info = tap_info,
	.set_mtu = tap_set_mtu,
	.free = tap_free,
};

static int open_error(const struct netif *n, int err, struct err *e)
{
	char remedy[2 * IFNAMSIZ + NETIF_IP_BYTES + 64], ip[NETIF_IP_BYTES];

	if (err == -EBUSY) {
		snprintf(remedy, sizeof(remedy), "choose another name, or delete it with `%s link del %s`",
			 netif_ip(n, ip), n->name);
		return err_set(e, -EEXIST, "ifname", remedy, "there is an interface %s already", n->name);
	}
	if (err == -EPERM || err == -EACCES)
		return err_set(e, err, "ifname", "run flued as root, or give it CAP_NET_ADMIN",
			       "not allowed to make interface %s", n->name);
	return err_set(e, err, "ifname", NULL, "cannot make interface %s: %s", n->name, strerror(-err));
}

/* In the kernel's terms. */
static unsigned tun_offloads(uint32_t set)
{
	return (set & OFFLOAD_CSUM ? TUN_F_CSUM : 0) | (set & OFFLOAD_TSO4 ? TUN_F_TSO4 : 0) |
	       (set & OFFLOAD_TSO6 ? TUN_F_TSO6 : 0) | (set & OFFLOAD_ECN ? TUN_F_TSO_ECN : 0) |
	       (set & OFFLOAD_USO4 ? TUN_F_USO4 : 0) | (set & OFFLOAD_USO6 ? TUN_F_USO6 : 0);
}

/* Linux knows the two only together. */
static uint32_t without_half_of_uso(uint32_t set)
{
	const uint32_t uso = OFFLOAD_USO4 | OFFLOAD_USO6;

	return (set & uso) == uso ? set : set & ~uso;
}

/* Agree on the header, and on what may be left undone: as much as this kernel knows. What a kernel cuts for its own
 * receivers is what it would leave to us, so it is the same in both directions. */
static int agree(struct tap *t, uint32_t off)
{
	int header_bytes = NET_HDR_SHORT;
	struct offload_deal *d = &t->offloads;

	d->off = off;
	d->asked = d->agreed = without_half_of_uso(offload_closed(OFFLOAD_ALL & ~off));
	if (ioctl(t->fd, TUNSETVNETHDRSZ, &header_bytes))
		return -errno;
	if (ioctl(t->fd, TUNSETOFFLOAD, tun_offloads(d->agreed))) {
		d->agreed &= ~(uint32_t)(OFFLOAD_USO4 | OFFLOAD_USO6); /* Linux 6.2 */
		if (ioctl(t->fd, TUNSETOFFLOAD, tun_offloads(d->agreed)))
			return -errno;
	}
	t->port.takes = d->agreed;
	return 0;
}

static int open_tun(struct tap *t, const struct tap_conf *conf, struct err *e)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (short)IFF_TUN_EXCL};
	int err;

	t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0)
		return err_set(e, -errno, "kind", "load the driver with `modprobe tun`", "cannot open /dev/net/tun: %s",
			       strerror(errno));
	memcpy(ifr.ifr_name, t->netif.name, sizeof(ifr.ifr_name));
	if (ioctl(t->fd, TUNSETIFF, &ifr))
		return open_error(&t->netif, -errno, e);
	err = agree(t, conf->offloads_off);
	return err ? open_error(&t->netif, err, e) : 0;
}

/* In the namespace already. */
static int make_interface(struct tap *t, const struct tap_conf *conf, struct err *e)
{
	struct netif_state s;
	int err = netif_open(&t->netif, conf->ifname, conf->netns, e);

	if (!err)
		err = open_tun(t, conf, e);
	if (err)
		return err;
	netif_query(&t->netif, &s);
	t->netif.index = s.index;
	err = apply_mtu(&t->netif, conf->mtu, e);
	if (err)
		return err;
	err = netif_set_up(&t->netif);
	if (err)
		return err_set(e, err, "ifname", NULL, "cannot bring up interface %s: %s", conf->ifname,
			       strerror(-err));
	return 0;
}

struct port *tap_new(const struct tap_conf *conf, const struct port_host *host, struct err *e)
{
	struct tap *t;
	int own, err;

	if (netif_name_check(conf->ifname, e) || netns_enter(conf->netns, &own, e))
		return NULL;
	t = aligned_alloc(_Alignof(struct tap), sizeof(*t));
	if (t) {
		*t = (struct tap){.port = {.ops = &tap_ops, .mtu = conf->mtu}, .host = host, .fd = -1, .netif.fd = -1};
		snprintf(t->port.name, sizeof(t->port.name), "%s", conf->name);
		t->arena = malloc(ARENA_MAX);
	}
	if (t && t->arena)
		err = make_interface(t, conf, e);
	else
		err = err_set(e, -ENOMEM, NULL, NULL, "no memory for port %s", conf->name);
	netns_leave(own);
	if (err && t)
		tap_free(&t->port);
	return err ? NULL : &t->port;
}
