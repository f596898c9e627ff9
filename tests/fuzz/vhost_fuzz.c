/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile front end: any messages, with any descriptors, through the socket and the receive path that real ones use.
 *
 * Input: a byte of set-up (SETUP_*), then records: request, shape (SHAPE_*), size of the payload (16 bits,
 * little-endian), payload. The guest's memory starts at address 0 in both address spaces, so that small numbers are
 * good addresses.
 * Checked besides memory errors: rings run and halt in turns and lie in mapped memory; what runs while it may not, what
 * still runs at the end, and descriptors that are left over.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "vhost/vhost.h"
#include "vhost/vhost_wire.h"

#define MEMORY_BYTES 0x40000
#define RECORDS_MAX  64

enum {
	SETUP_FRONT_END = 0x03,  /* modulo VHOST_FRONT_END_N */
	SETUP_NEGOTIATED = 0x04, /* everything offered is agreed on, and there is memory */
	SETUP_RINGS = 0x08,      /* and both rings run */
	SETUP_PROMISED = 0x10,   /* an earlier flued offered less, under a guest that is still there */
};

enum {
	SHAPE_FDS = 0x07,    /* how many descriptors */
	SHAPE_MEMORY = 0x08, /* of guest memory; else eventfds */
	SHAPE_NEED_REPLY = 0x10,
	SHAPE_CUT = 0x20,   /* the size in the header is the record's, but half of the payload is sent */
	SHAPE_FLAGS = 0x40, /* flags are the request's byte: any */
	SHAPE_ALONE = 0x80, /* header and payload travel apart */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct {
	struct event_base *base;
	char path[64];
	int mem_fd, event_fd, sock;
	bool connected, running[VHOST_RINGS_MAX], enabled[VHOST_RINGS_MAX];
	struct virtq_journal journal[VHOST_RINGS_MAX];
	struct vhost_saved saved;
} z;

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

/* ---- the owner ---- */

static void on_connected(void *owner)
{
	(void)owner;
	check(!z.connected, "connected twice");
	z.connected = true;
}

static void on_disconnected(void *owner, const char *reason)
{
	(void)owner;
	(void)reason;
	check(z.connected, "disconnected twice");
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		check(!z.running[i] && !z.enabled[i], "a ring outlives its connection");
	z.connected = false;
}

static int on_ring_run(void *owner, unsigned ring, struct virtq *vq, int kick_fd, struct err *e)
{
	const volatile uint8_t *end[] = {(uint8_t *)(vq->desc + vq->size), (uint8_t *)&vq->avail->ring[vq->size + 1],
					 (uint8_t *)&vq->used->ring[vq->size] + 2};
	unsigned sum = vq->desc[0].flags + vq->avail->idx + vq->used->idx;

	(void)owner;
	(void)e;
	check(z.connected && !z.running[ring], "a ring runs out of turn");
	check(kick_fd < 0 || write(kick_fd, &(uint64_t){1}, 8) == 8, "a kick descriptor that is closed");
	for (unsigned i = 0; i < ARRAY_SIZE(end); i++)
		sum += end[i][-1]; /* unmapped: SIGSEGV */
	z.running[ring] = true;
	return sum == 0xdead ? -EIO : 0;
}

static void on_ring_halt(void *owner, unsigned ring)
{
	(void)owner;
	check(z.running[ring], "a ring halts that does not run");
	z.running[ring] = false;
}

static void on_ring_enable(void *owner, unsigned ring, bool enabled)
{
	(void)owner;
	check(z.enabled[ring] != enabled, "told what was known");
	z.enabled[ring] = enabled;
}

static void on_features(void *owner, uint64_t features)
{
	(void)owner;
	check(features == vhost_features_sound(features), "a feature without what it needs");
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		check(!z.running[i], "features change under a running ring");
}

static int on_mtu(void *owner, unsigned mtu)
{
	(void)owner;
	return mtu > 9000;
}

static void on_announce(void *owner, struct mac mac)
{
	(void)owner;
	check(!mac_is_multicast(mac), "a group is announced");
}

static void on_quiesce(void *owner)
{
	(void)owner;
}

static void on_save(void *owner)
{
	(void)owner;
	check(z.saved.agreed.bound <= 1 && z.saved.agreed.offered, "nothing to keep");
}

static const struct vhost_ops ops = {
	.connected = on_connected,
	.disconnected = on_disconnected,
	.ring_run = on_ring_run,
	.ring_halt = on_ring_halt,
	.ring_enable = on_ring_enable,
	.features = on_features,
	.mtu = on_mtu,
	.announce = on_announce,
	.quiesce = on_quiesce,
	.save = on_save,
};

/* ---- the front end ---- */

static void turn(void)
{
	uint8_t replies[4096];

	for (int i = 0; i < 3; i++)
		event_base_loop(z.base, EVLOOP_NONBLOCK);
	while (recv(z.sock, replies, sizeof(replies), MSG_DONTWAIT) > 0)
		;
}

static void send_bytes(const void *bytes, size_t len, int fd, unsigned n_fds)
{
	union {
		char room[CMSG_SPACE(SHAPE_FDS * sizeof(int))];
		struct cmsghdr head;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.head = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
		for (unsigned i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &fd, sizeof(fd));
	}
	if (sendmsg(z.sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return; /* it has hung up on us */
	turn();
}

static void send_message(uint32_t request, uint8_t shape, const void *payload, uint32_t bytes)
{
	struct {
		struct vhost_wire_header h;
		uint8_t payload[4096];
	} m = {.h = {request, VHOST_FLAG_VERSION | (shape & SHAPE_NEED_REPLY ? VHOST_FLAG_NEED_REPLY : 0), bytes}};
	int fd = shape & SHAPE_MEMORY ? z.mem_fd : z.event_fd;
	uint32_t send = shape & SHAPE_CUT ? bytes / 2 : bytes;

	if (shape & SHAPE_FLAGS)
		m.h.flags = request;
	memcpy(m.payload, payload, bytes);
	if (shape & SHAPE_ALONE) {
		send_bytes(&m.h, sizeof(m.h), fd, shape & SHAPE_FDS);
		send_bytes(m.payload, send, -1, 0);
	} else {
		send_bytes(&m, sizeof(m.h) + send, fd, shape & SHAPE_FDS);
	}
}

static void negotiate(void)
{
	struct vhost_wire_mem_table t = {.n = 1, .region[0] = {.size = MEMORY_BYTES}};
	uint64_t protocol = 0x1a03f, features = UINT64_C(0x178638008);

	send_message(VHOST_SET_PROTOCOL_FEATURES, 0, &protocol, 8);
	send_message(VHOST_SET_FEATURES, 0, &features, 8);
	send_message(VHOST_SET_MEM_TABLE, SHAPE_MEMORY | 1, &t, VHOST_TABLE_HEAD_BYTES + sizeof(t.region[0]));
}

static void run_rings(void)
{
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t at = i * 0x4000, index = i;

		send_message(VHOST_SET_VRING_NUM, 0, &(struct vhost_wire_state){i, 256}, 8);
		send_message(VHOST_SET_VRING_ADDR, 0, &(struct vhost_wire_addr){i, 0, at, at + 0x1000, at + 0x2000, at},
			     40);
		send_message(VHOST_SET_VRING_CALL, 1, &index, 8);
		send_message(VHOST_SET_VRING_KICK, 1, &index, 8);
		send_message(VHOST_SET_VRING_ENABLE, 0, &(struct vhost_wire_state){i, 1}, 8);
	}
}

static void play(const uint8_t *data, size_t len)
{
	for (int i = 0; i < RECORDS_MAX && len >= 4; i++) {
		uint32_t bytes = data[2] | (uint32_t)(data[3] & 0x0f) << 8;

		if (bytes > len - 4)
			bytes = (uint32_t)(len - 4);
		send_message(data[0], data[1], data + 4, bytes);
		data += 4 + bytes;
		len -= 4 + bytes;
	}
}

static bool front_end_connect(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, z.path, sizeof(z.path));
	z.sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (z.sock < 0 || connect(z.sock, (const struct sockaddr *)&a, sizeof(a)) < 0)
		return false;
	turn();
	return true;
}

/* The lowest descriptor that is free: it moves if one is lost. */
static int lowest_free(void)
{
	int fd = dup(z.event_fd);

	close(fd);
	return fd;
}

static void remember(uint8_t setup, struct vhost_conf *conf)
{
	memset(z.journal, setup & SETUP_PROMISED, sizeof(z.journal)); /* live, too */
	z.saved = (struct vhost_saved){.journal = z.journal};
	if (setup & SETUP_PROMISED)
		z.saved.agreed = (struct vhost_agreed){.offered = UINT64_C(0x178008000),
						       .protocol_offered = 0x803f,
						       .front_end = conf->front_end,
						       .peer_pid = (uint32_t)getpid(),
						       .bound = 1};
	conf->saved = &z.saved;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct vhost_conf conf = {.role = VHOST_LISTEN, .pairs = 2, .mtu = 1500, .mac.b = {0x52}};
	int before = lowest_free();
	struct err e = {0};
	struct vhost *v;

	if (len == 0)
		return 0;
	conf.front_end = (enum vhost_front_end)((data[0] & SETUP_FRONT_END) % VHOST_FRONT_END_N);
	memcpy(conf.path, z.path, sizeof(z.path));
	remember(data[0], &conf);
	v = vhost_new(&conf, z.base, &ops, NULL, &e);
	check(v && front_end_connect(), e.text);
	if (data[0] & SETUP_NEGOTIATED)
		negotiate();
	if (data[0] & SETUP_RINGS)
		run_rings();
	play(data + 1, len - 1);
	close(z.sock);
	if (len % 2)
		event_base_loop(z.base, EVLOOP_NONBLOCK); /* else it is freed while connected */
	vhost_free(v);
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		check(!z.running[i] && !z.enabled[i], "a ring outlives its device");
	z.connected = false;
	check(lowest_free() == before, "a descriptor is left over");
	return 0;
}

static void clean_up(void)
{
	char *slash = strrchr(z.path, '/');

	*slash = '\0';
	rmdir(z.path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char dir[] = "/tmp/vhost-fuzz-XXXXXX";

	(void)argc;
	(void)argv;
	log_set_level(LOG_ERROR);
	if (!mkdtemp(dir))
		return -1;
	snprintf(z.path, sizeof(z.path), "%s/s", dir);
	atexit(clean_up);
	z.base = event_base_new();
	z.mem_fd = memfd_create("guest", MFD_CLOEXEC);
	z.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return z.base && z.event_fd >= 0 && ftruncate(z.mem_fd, MEMORY_BYTES) == 0 ? 0 : -1;
}
