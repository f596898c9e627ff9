/* SPDX-License-Identifier: Apache-2.0 */
/* Tap: frames by read and write, one system call for each, which is what the kernel offers here.
 *
 * No virtio-net header is asked for: the kernel then completes checksums and cuts long frames before we read them, and
 * it puts VLAN tags back where they were.
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
#include "port/netif.h"

#define TAP_BATCH  32   /* frames in one go: read in that order they are still in the cache when delivered */
#define TAP_PIECES 1024 /* of one writev(); IOV_MAX */
#define TWO_TAGS   (2 * VLAN_TAG_BYTES)

struct tap {
	struct port port;
	/* constant */
	const struct port_host *host;
	int fd;
	/* control; constant while a worker has the queue */
	uint8_t *bodies;     /* TAP_BATCH buffers for what does not fit into a frame's head */
	uint32_t body_bytes; /* size of each; a frame that fills its buffer was cut short */
	/* the worker that owns the queue */
	unsigned n_lent; /* of bodies */
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
static bool read_frame(struct tap *t, struct frame *f, uint8_t *body)
{
	struct iovec iov[2] = {{frame_head_begin(f), FRAME_HEAD_MAX}, {body, t->body_bytes}};
	ssize_t len = readv(t->fd, iov, ARRAY_SIZE(iov));

	t->drained = len < 0;
	if (len < 0) {
		if (errno != EAGAIN)
			complain(t);
		return false;
	}
	f->len = (uint32_t)len;
	f->head_len = min_u32(f->len, FRAME_HEAD_MAX);
	return true;
}

/* Take the frame just read at b->f[b->n] into the batch, or drop it. */
static void receive(struct tap *t, struct frame_batch *b, const uint8_t *body, unsigned worker)
{
	struct port_counters *counts = &t->port.counters[worker];
	struct frame *f = &b->f[b->n];

	count(&counts->rx_frames, 1);
	count(&counts->rx_bytes, f->len);
	if (unlikely(f->len < ETH_HEAD_BYTES)) {
		count(&counts->drop[DROP_TOO_SHORT], 1);
		return;
	}
	if (unlikely(f->len == FRAME_HEAD_MAX + t->body_bytes)) {
		count(&counts->drop[DROP_TOO_BIG], 1);
		return;
	}
	b->n++;
	f->body = &b->spans[b->n_spans];
	f->n_body = f->len > f->head_len;
	if (f->n_body) {
		b->spans[b->n_spans++] = (struct frame_span){.p = body, .len = f->len - f->head_len};
		t->n_lent++;
	}
}

static unsigned tap_rx(struct port *p, unsigned q, struct frame_batch *b, unsigned worker)
{
	struct tap *t = tap_of(p);
	unsigned before = b->n;

	(void)q;
	while (b->n < FRAME_BATCH && b->n_spans < ARRAY_SIZE(b->spans) && t->n_lent < TAP_BATCH) {
		uint8_t *body = t->bodies + (size_t)t->n_lent * t->body_bytes;

		if (!read_frame(t, &b->f[b->n], body))
			break;
		receive(t, b, body, worker);
	}
	return b->n - before;
}

static void tap_rx_done(struct port *p, unsigned q)
{
	(void)q;
	tap_of(p)->n_lent = 0;
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

/* More pieces than writev() takes: only from a guest that cuts its frames to crumbs. */
static __attribute__((noinline)) ssize_t write_crumbs(int fd, const struct frame *f)
{
	uint8_t whole[FRAME_BYTES_MAX + VLAN_TAG_BYTES];
	uint32_t len = f->head_len;

	if (f->len > sizeof(whole)) {
		errno = EMSGSIZE;
		return -1;
	}
	memcpy(whole, f->data, len);
	for (unsigned i = 0; i < f->n_body; i++) {
		memcpy(whole + len, f->body[i].p, f->body[i].len);
		len += f->body[i].len;
	}
	return write(fd, whole, len);
}

static ssize_t write_frame(int fd, const struct frame *f)
{
	struct iovec iov[TAP_PIECES];

	if (unlikely(f->n_body >= TAP_PIECES))
		return write_crumbs(fd, f);
	iov[0] = (struct iovec){.iov_base = f->data, .iov_len = f->head_len};
	for (unsigned i = 0; i < f->n_body; i++)
		iov[i + 1] = (struct iovec){.iov_base = (void *)f->body[i].p, .iov_len = f->body[i].len};
	return writev(fd, iov, f->n_body + 1);
}

static void tap_tx(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	struct port_counters *counts = &p->counters[worker];
	struct tap *t = tap_of(p);

	for (unsigned i = 0; i < n; i++) {
		if (likely(write_frame(t->fd, f[i]) >= 0)) {
			count(&counts->tx_frames, 1);
			count(&counts->tx_bytes, f[i]->len);
		} else if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) {
			count(&counts->drop[DROP_KERNEL_FULL], 1);
		} else {
			count(&counts->drop[DROP_KERNEL_REFUSED], 1);
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
	if (t->moved)
		port_info_add(info, "moved", "the interface was moved to another namespace; its state is not known");
}

/* Buffers for this MTU. NULL: no memory. */
static uint8_t *bodies_new(unsigned mtu, uint32_t *body_bytes)
{
	uint32_t longest = mtu + ETH_HEAD_BYTES + TWO_TAGS;

	*body_bytes = longest > FRAME_HEAD_MAX ? longest - FRAME_HEAD_MAX + 1 : 1;
	return malloc((size_t)*body_bytes * TAP_BATCH);
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
	struct tap *t = tap_of(p);
	uint32_t body_bytes;
	uint8_t *bodies = bodies_new(mtu, &body_bytes);
	int err;

	if (!bodies)
		return err_set(e, -ENOMEM, "mtu", NULL, "no memory for frames of this size");
	err = apply_mtu(&t->netif, mtu, e);
	if (err) {
		free(bodies);
		return err;
	}
	if (t->queued)
		t->host->queue_remove(p, 0);
	free(t->bodies);
	t->bodies = bodies;
	t->body_bytes = body_bytes;
	t->drained = false;
	atomic_store_explicit(&p->mtu, mtu, memory_order_relaxed);
	if (!t->queued)
		return 0;
	err = t->host->queue_add(p, 0, t->fd, e);
	t->queued = !err;
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
	free(t->bodies);
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

static int open_tun(struct tap *t, struct err *e)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | (short)IFF_TUN_EXCL};

	t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0)
		return err_set(e, -errno, "kind", "load the driver with `modprobe tun`", "cannot open /dev/net/tun: %s",
			       strerror(errno));
	memcpy(ifr.ifr_name, t->netif.name, sizeof(ifr.ifr_name));
	return ioctl(t->fd, TUNSETIFF, &ifr) ? open_error(&t->netif, -errno, e) : 0;
}

/* In the namespace already. */
static int make_interface(struct tap *t, const struct tap_conf *conf, struct err *e)
{
	struct netif_state s;
	int err = netif_open(&t->netif, conf->ifname, conf->netns, e);

	if (!err)
		err = open_tun(t, e);
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
		t->bodies = bodies_new(conf->mtu, &t->body_bytes);
	}
	if (t && t->bodies)
		err = make_interface(t, conf, e);
	else
		err = err_set(e, -ENOMEM, NULL, NULL, "no memory for port %s", conf->name);
	netns_leave(own);
	if (err && t)
		tap_free(&t->port);
	return err ? NULL : &t->port;
}
