/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/time.h"
#include "port/port.h"
#include "wire_frames.h"

/* What the tests of kernel ports share: namespaces with real interfaces, and a stand-in for the program around a port.
 * port_station.h has the other end of the wire.
 *
 * The test itself moves into a namespace of its own; `net_far` names another, as `ip netns` does, for the other end.
 */
#define WORKER        1      /* who we are when we play a worker */
#define ETH_P_TEST    0x88b5 /* IEEE 802: for experiments */
#define WAIT_S        5      /* for what must come */
#define QUIET_NS      (10000 * NS_PER_US)
#define FRAME_LONGEST 70000

static char net_far[32] __attribute__((unused));

static inline __attribute__((format(printf, 1, 2))) int sh(const char *fmt, ...)
{
	char cmd[512], *argv[] = {"/bin/sh", "-c", cmd, NULL};
	int status = -1;
	va_list ap;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
		return -1;
	return waitpid(pid, &status, 0) == pid ? status : -1;
}
#define must(...) assert_int_equal(sh(__VA_ARGS__), 0)

/* Group setup: the two namespaces, without the chatter of IPv6. */
static inline int net_begin(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		fprintf(stderr, "these tests make network interfaces: run them as root\n");
		return -1;
	}
	snprintf(net_far, sizeof(net_far), "flue-test-%d", getpid());
	if (sh("ip netns add %s", net_far) || unshare(CLONE_NEWNET))
		return -1;
	return sh("ip link set lo up; ip -n %s link set lo up", net_far) ||
	       sh("echo 1 | tee /proc/sys/net/ipv6/conf/default/disable_ipv6 >/dev/null") ||
	       sh("ip netns exec %s sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'", net_far);
}

static inline int net_end(void **state)
{
	(void)state;
	return sh("ip netns del %s", net_far);
}

/* Open something in the other namespace: far_enter(); ...; far_leave(). */
static int far_own __attribute__((unused));

static inline void far_enter(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/var/run/netns/%s", net_far);
	far_own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(far_own >= 0 && fd >= 0);
	assert_int_equal(setns(fd, CLONE_NEWNET), 0);
	close(fd);
}

static inline void far_leave(void)
{
	assert_int_equal(setns(far_own, CLONE_NEWNET), 0);
	close(far_own);
}

/* ---- the program around a port ---- */

static struct {
	struct event_base *events;
	struct port *port;   /* the one under test */
	struct port *second; /* to pass frames on to */
	int poll_fd;
	unsigned n_added, n_removed, n_quiesced, n_link_changes;
} host __attribute__((unused));

static int host_queue_add(struct port *p, unsigned q, int poll_fd, struct err *e)
{
	(void)e;
	(void)p;
	assert_int_equal(q, 0);
	host.poll_fd = poll_fd;
	host.n_added++;
	return 0;
}

static void host_queue_remove(struct port *p, unsigned q)
{
	(void)p;
	assert_int_equal(q, 0);
	host.n_removed++;
	host.poll_fd = -1;
}

static void host_quiesce(void)
{
	host.n_quiesced++;
}

static void host_link_changed(struct port *p)
{
	(void)p;
	host.n_link_changes++;
}

static void host_inject(struct port *p, const void *frame, uint32_t len)
{
	(void)p;
	(void)frame;
	(void)len;
	fail_msg("kernel ports inject nothing");
}

static struct port_host port_host = {
	.queue_add = host_queue_add,
	.queue_remove = host_queue_remove,
	.quiesce = host_quiesce,
	.link_changed = host_link_changed,
	.inject = host_inject,
};

static inline const struct port_host *host_begin(void)
{
	memset(&host, 0, sizeof(host));
	host.events = event_base_new();
	assert_non_null(host.events);
	port_host.events = host.events;
	host.poll_fd = -1;
	return &port_host;
}

static inline void host_end(void)
{
	struct port *p = host.port, *second = host.second;

	host.port = host.second = NULL;
	if (p)
		p->ops->free(p);
	if (second)
		second->ops->free(second);
	event_base_free(host.events);
	assert_int_equal(host.n_added, host.n_removed);
}

/* Teardown of a test that failed half way. */
static inline int host_clean(void **state)
{
	(void)state;
	if (host.port)
		host.port->ops->free(host.port);
	if (host.second)
		host.second->ops->free(host.second);
	host.port = host.second = NULL;
	return 0;
}
#define net_test(f) cmocka_unit_test_teardown(f, host_clean)

/* Let control look at its events until the port is up, or down, as expected. */
static inline void await_link(struct port *p, bool up)
{
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;

	while (atomic_load(&p->up) != up && time_now_ns() < end_ns) {
		event_base_loop(host.events, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	if (atomic_load(&p->up) != up)
		fail_msg("the port does not go %s", up ? "up" : "down");
}

static inline _Noreturn void give_up(const struct err *e)
{
	fail_msg("%s", e->text);
	abort(); /* which is not reached, but tells the compiler */
}

/* A new port begins to serve. @e: why there is none. */
static inline struct port *start(struct port *p, struct err *e)
{
	if (!p)
		give_up(e);
	*(host.port ? &host.second : &host.port) = p;
	assert_false(atomic_load(&p->up));
	if (p->ops->start(p, e))
		give_up(e);
	await_link(p, true);
	return p;
}

static inline struct port_info info_of(struct port *p)
{
	struct port_info info = {0};

	p->ops->info(p, &info);
	return info;
}

/* The value of a detail; "" if it is not there. */
static inline const char *detail_of(const struct port_info *info, const char *key)
{
	for (unsigned i = 0; i < info->n_details; i++)
		if (!strcmp(info->detail[i].key, key))
			return info->detail[i].value;
	return "";
}

static inline uint64_t drops(struct port *p, enum drop_reason r)
{
	struct port_totals t;

	port_totals(p, &t);
	return t.drop[r];
}

static inline uint64_t all_drops(struct port *p)
{
	struct port_totals t;
	uint64_t n = 0;

	port_totals(p, &t);
	for (unsigned r = 0; r < DROP_N; r++)
		n += t.drop[r];
	return n;
}

/* ---- frames at the port ---- */

/* The whole frame, checked for what every frame must hold. Returns its length. */
static inline uint32_t flatten(const struct frame *f, uint8_t *out)
{
	uint32_t len = f->head_len;

	assert_true(f->len >= ETH_HEAD_BYTES);
	assert_int_equal(f->head_len, min_u32(f->len, FRAME_HEAD_MAX));
	memcpy(out, f->data, f->head_len);
	for (unsigned i = 0; i < f->n_body; i++) {
		memcpy(out + len, f->body[i].p, f->body[i].len);
		len += f->body[i].len;
	}
	assert_int_equal(len, f->len);
	return len;
}

static struct frame_batch batch __attribute__((unused));

/* Poll once and give each frame to @each; then return them. */
static inline unsigned port_poll(struct port *p, void (*each)(void *arg, struct frame *f), void *arg)
{
	unsigned n;

	batch.n = batch.n_spans = 0;
	n = p->ops->rx(p, 0, &batch, WORKER);
	assert_int_equal(n, batch.n);
	for (unsigned i = 0; i < n; i++)
		each(arg, &batch.f[i]);
	p->ops->rx_done(p, 0);
	return n;
}

/* Poll until nothing has come for a while. */
static inline void poll_until_quiet(struct port *p, void (*each)(void *arg, struct frame *f), void *arg)
{
	uint64_t end_ns = time_now_ns() + QUIET_NS;

	while (time_now_ns() < end_ns)
		if (port_poll(p, each, arg))
			end_ns = time_now_ns() + QUIET_NS;
}

/* Frames of one EtherType (behind a tag, if any), in the order of their arrival; others are noise of the kernel. */
struct inbox {
	uint16_t ethertype;
	unsigned n, max;
	struct {
		uint32_t len;
		struct frame_offload off;
		uint8_t bytes[9100];
	} f[600];
};
static struct inbox inbox __attribute__((unused));

static inline void inbox_add(void *arg, struct frame *f)
{
	static uint8_t whole[FRAME_LONGEST];
	struct inbox *in = arg;
	uint32_t len = flatten(f, whole);
	uint16_t type = be16_get(whole + 12);

	if (type == ETH_P_VLAN || type == ETH_P_QINQ)
		type = be16_get(whole + 16);
	if (type != in->ethertype)
		return;
	assert_true(in->n < ARRAY_SIZE(in->f) && len <= sizeof(in->f[0].bytes));
	memcpy(in->f[in->n].bytes, whole, len);
	in->f[in->n].off = f->off;
	in->f[in->n++].len = len;
}

static inline void inbox_reset(uint16_t ethertype)
{
	inbox.n = 0;
	inbox.ethertype = ethertype;
}

/* Poll until @n frames have come, and then a little, for those that should not. */
static inline void inbox_await(struct port *p, unsigned n)
{
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;

	while (inbox.n < n && time_now_ns() < end_ns)
		port_poll(p, inbox_add, &inbox);
	poll_until_quiet(p, inbox_add, &inbox);
	assert_int_equal(inbox.n, n);
}

/* Send through the port a frame of these bytes, its body in @pieces pieces, of which @off is left to do. */
static inline void port_send_undone(struct port *p, const uint8_t *bytes, uint32_t len, unsigned pieces,
				    const struct frame_offload *off)
{
	static struct wire_piece spans[2048];
	struct frame f, *one = &f;
	uint32_t at;

	f.len = len;
	f.head_len = min_u32(len, FRAME_HEAD_MAX);
	memcpy(frame_head_begin(&f), bytes, f.head_len);
	f.off = *off;
	f.body = spans;
	f.n_body = 0;
	at = f.head_len;
	for (unsigned left = pieces; left > 0 && at < len; left--) {
		uint32_t part = (len - at + left - 1) / left;

		spans[f.n_body++] = (struct wire_piece){.p = bytes + at, .len = part};
		at += part;
	}
	p->ops->tx(p, &one, 1, WORKER);
}

static inline void port_send(struct port *p, const uint8_t *bytes, uint32_t len, unsigned pieces)
{
	port_send_undone(p, bytes, len, pieces, &(struct frame_offload){0});
}

static inline void port_flush(struct port *p)
{
	if (p->ops->tx_flush)
		p->ops->tx_flush(p, WORKER);
}

/* A test frame: numbered, of random bytes; @tag: 0, or TPID << 16 | TCI. */
static inline uint32_t make_frame(uint8_t *out, uint32_t len, uint32_t tag)
{
	static const uint8_t macs[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};

	rnd_fill(out, len);
	memcpy(out, macs, sizeof(macs));
	if (tag)
		be32_put(out + 12, tag);
	be16_put(out + (tag ? 16 : 12), ETH_P_TEST);
	return len;
}
