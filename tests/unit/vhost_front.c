/* SPDX-License-Identifier: Apache-2.0 */
#include "vhost_front.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the owner ---- */

/* Note "@what@detail". */
static void tell(struct front *f, const char *what, const char *detail)
{
	size_t at = strlen(f->told);

	snprintf(f->told + at, sizeof(f->told) - at, "%s%s%s", at ? "; " : "", what, detail);
}

static void tell_number(struct front *f, const char *what, unsigned n)
{
	char text[16];

	snprintf(text, sizeof(text), " %u", n);
	tell(f, what, text);
}

static void on_connected(void *owner)
{
	tell(owner, "connected", "");
}

static void on_disconnected(void *owner, const char *reason)
{
	tell(owner, reason ? "disconnected: " : "disconnected", reason ? reason : "");
}

static int on_ring_run(void *owner, unsigned ring, struct virtq *vq, int kick_fd, struct err *e)
{
	struct front *f = owner;

	if (f->ring_run_fails)
		return err_set(e, -ENOMEM, NULL, NULL, "nobody has time");
	assert_null(f->vq[ring]);
	tell_number(f, "run", ring);
	f->vq[ring] = vq;
	f->kick_fd[ring] = kick_fd;
	return 0;
}

static void on_ring_halt(void *owner, unsigned ring)
{
	struct front *f = owner;

	assert_non_null(f->vq[ring]);
	tell_number(f, "halt", ring);
	f->vq[ring] = NULL;
}

static void on_ring_enable(void *owner, unsigned ring, bool enabled)
{
	tell_number(owner, enabled ? "enable" : "disable", ring);
}

static void on_features(void *owner, uint64_t features)
{
	struct front *f = owner;

	tell(f, "features", "");
	f->features = features;
}

static int on_mtu(void *owner, unsigned mtu)
{
	struct front *f = owner;

	tell_number(f, "mtu", mtu);
	return mtu > f->mtu_max;
}

static void on_announce(void *owner, struct mac mac)
{
	char text[MAC_TEXT_BYTES];

	tell(owner, "announce ", mac_format(mac, text));
}

static void on_quiesce(void *owner)
{
	tell(owner, "quiesce", "");
}

static void on_save(void *owner)
{
	((struct front *)owner)->saves++;
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

/* ---- set-up ---- */

void front_start(struct front *f, enum vhost_front_end kind, enum vhost_role role, unsigned pairs)
{
	struct err e = {0};

	*f = (struct front){.sock = -1, .mtu_max = 9000};
	snprintf(f->dir, sizeof(f->dir), "/tmp/vhost-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->conf = (struct vhost_conf){
		.role = role, .front_end = kind, .pairs = pairs, .mtu = 1500, .mac.b = {0x52, 0x54, 0, 0, 0, 1}};
	snprintf(f->conf.path, sizeof(f->conf.path), "%s/s", f->dir);
	f->mem_fd = memfd_create("guest", MFD_CLOEXEC);
	assert_true(f->mem_fd >= 0);
	assert_return_code(ftruncate(f->mem_fd, FRONT_BYTES), errno);
	f->mem = mmap(NULL, FRONT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, f->mem_fd, 0);
	assert_true(f->mem != MAP_FAILED);
	f->base = event_base_new();
	assert_non_null(f->base);
	f->v = vhost_new(&f->conf, f->base, &ops, f, &e);
	if (!f->v)
		fail_msg("vhost_new: %s", e.text);
}

void front_restart(struct front *f)
{
	struct err e = {0};

	vhost_free(f->v);
	if (f->sock >= 0)
		close(f->sock);
	f->sock = -1;
	f->v = vhost_new(&f->conf, f->base, &ops, f, &e);
	if (!f->v)
		fail_msg("vhost_new: %s", e.text);
	front_forget(f);
}

void front_stop(struct front *f)
{
	vhost_free(f->v);
	event_base_free(f->base);
	if (f->sock >= 0)
		close(f->sock);
	munmap(f->mem, FRONT_BYTES);
	close(f->mem_fd);
	unlink(f->conf.path);
	assert_return_code(rmdir(f->dir), errno);
}

void front_turn(struct front *f)
{
	for (int i = 0; i < 32; i++)
		event_base_loop(f->base, EVLOOP_NONBLOCK);
}

void front_wait(struct front *f, long ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	event_base_loopexit(f->base, &tv);
	event_base_dispatch(f->base);
}

void front_connect(struct front *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, f->conf.path, sizeof(a.sun_path));
	f->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(f->sock >= 0);
	assert_return_code(connect(f->sock, (struct sockaddr *)&a, sizeof(a)), errno);
	front_turn(f);
}

void front_hang_up(struct front *f)
{
	close(f->sock);
	f->sock = -1;
	front_turn(f);
}

void front_negotiate(struct front *f)
{
	uint64_t features, protocol;

	front_connect(f);
	front_plain(f, VHOST_SET_OWNER);
	front_plain(f, VHOST_GET_FEATURES);
	features = front_reply_u64(f, VHOST_GET_FEATURES);
	front_plain(f, VHOST_GET_PROTOCOL_FEATURES);
	protocol = front_reply_u64(f, VHOST_GET_PROTOCOL_FEATURES);
	front_u64(f, VHOST_SET_PROTOCOL_FEATURES, protocol);
	features &= ~(FEATURE(VHOST_F_LOG_ALL) | FEATURE(VIRTIO_F_RING_PACKED) | FEATURE(VIRTIO_F_IN_ORDER));
	front_u64(f, VHOST_SET_FEATURES, features);
	front_told(f, "connected; features");
}

/* ---- sending ---- */

void front_bytes(struct front *f, const void *bytes, size_t len, const int *fd, unsigned n_fds)
{
	union {
		char room[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	memset(&control, 0, sizeof(control));
	if (n_fds) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
		memcpy(CMSG_DATA(&control.align), fd, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(f->sock, &mh, MSG_NOSIGNAL), len);
	front_turn(f);
}

void front_send(struct front *f, enum vhost_request r, uint32_t flags, const void *payload, uint32_t bytes,
		const int *fd, unsigned n_fds)
{
	struct {
		struct vhost_wire_header h;
		uint8_t payload[sizeof(union vhost_wire_payload)];
	} m = {.h = {.request = r, .flags = VHOST_FLAG_VERSION | flags, .size = bytes}};

	assert_true(bytes <= sizeof(m.payload));
	if (bytes)
		memcpy(m.payload, payload, bytes);
	front_bytes(f, &m, sizeof(m.h) + bytes, fd, n_fds);
}

void front_plain(struct front *f, enum vhost_request r)
{
	front_send(f, r, 0, NULL, 0, NULL, 0);
}

void front_u64(struct front *f, enum vhost_request r, uint64_t v)
{
	front_send(f, r, 0, &v, sizeof(v), NULL, 0);
}

void front_state(struct front *f, enum vhost_request r, uint32_t index, uint32_t num)
{
	struct vhost_wire_state s = {index, num};

	front_send(f, r, 0, &s, sizeof(s), NULL, 0);
}

void front_vring_fd(struct front *f, enum vhost_request r, uint32_t index, int fd)
{
	uint64_t v = index | (fd < 0 ? VHOST_VRING_NO_FD : 0);

	front_send(f, r, 0, &v, sizeof(v), &fd, fd < 0 ? 0 : 1);
}

void front_addr(struct front *f, const struct vhost_wire_addr *a)
{
	front_send(f, VHOST_SET_VRING_ADDR, 0, a, sizeof(*a), NULL, 0);
}

struct vhost_wire_region front_region(void)
{
	return (struct vhost_wire_region){.gpa = FRONT_GPA, .size = FRONT_BYTES, .uva = FRONT_UVA};
}

void front_table(struct front *f)
{
	struct vhost_wire_mem_table t = {.n = 1, .region[0] = front_region()};

	front_send(f, VHOST_SET_MEM_TABLE, 0, &t, VHOST_TABLE_HEAD_BYTES + sizeof(t.region[0]), &f->mem_fd, 1);
}

#define RING_STRIDE UINT64_C(0x4000)
#define AVAIL_OFF   UINT64_C(0x1000)
#define USED_OFF    UINT64_C(0x2000)

struct vhost_wire_addr front_ring_addr(unsigned i)
{
	uint64_t at = FRONT_UVA + i * RING_STRIDE;

	return (struct vhost_wire_addr){.index = i,
					.desc = at,
					.avail = at + AVAIL_OFF,
					.used = at + USED_OFF,
					.log = FRONT_GPA + i * RING_STRIDE + USED_OFF};
}

struct vring_used *front_used(struct front *f, unsigned i)
{
	return (struct vring_used *)(f->mem + i * RING_STRIDE + USED_OFF);
}

int front_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

static void keep_or_close(int fd, int *keep)
{
	if (keep)
		*keep = fd;
	else
		close(fd);
}

void front_ring(struct front *f, unsigned i, int *kick, int *call)
{
	struct vhost_wire_addr a = front_ring_addr(i);
	int k = front_eventfd(), c = front_eventfd();

	front_state(f, VHOST_SET_VRING_NUM, i, 256);
	front_addr(f, &a);
	front_vring_fd(f, VHOST_SET_VRING_CALL, i, c);
	front_vring_fd(f, VHOST_SET_VRING_KICK, i, k);
	keep_or_close(k, kick);
	keep_or_close(c, call);
}

/* ---- receiving ---- */

uint32_t front_reply(struct front *f, enum vhost_request r, void *payload, uint32_t max)
{
	struct vhost_wire_header h;
	uint8_t bytes[sizeof(union vhost_wire_payload)];

	assert_int_equal(recv(f->sock, &h, sizeof(h), MSG_DONTWAIT), sizeof(h));
	assert_int_equal(h.request, r);
	assert_int_equal(h.flags, VHOST_FLAG_VERSION | VHOST_FLAG_REPLY);
	assert_true(h.size <= sizeof(bytes));
	if (h.size)
		assert_int_equal(recv(f->sock, bytes, h.size, MSG_DONTWAIT), h.size);
	memcpy(payload, bytes, h.size < max ? h.size : max);
	return h.size;
}

uint64_t front_reply_u64(struct front *f, enum vhost_request r)
{
	uint64_t v = 0;

	assert_int_equal(front_reply(f, r, &v, sizeof(v)), sizeof(v));
	return v;
}

void front_no_reply(struct front *f)
{
	char c;

	assert_int_equal(recv(f->sock, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

bool front_closed(struct front *f)
{
	char bytes[256];
	ssize_t n;

	do
		n = recv(f->sock, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || errno == ECONNRESET;
}

/* ---- what the owner was told ---- */

void front_forget(struct front *f)
{
	f->told[0] = '\0';
}

void front_told(struct front *f, const char *text)
{
	if (strcmp(f->told, text) != 0)
		fail_msg("told \"%s\", due was \"%s\"", f->told, text);
	front_forget(f);
}

void front_blamed(struct front *f, const char *part)
{
	const char *at = strstr(f->told, "disconnected: ");

	if (!at || !strstr(at, part))
		fail_msg("told \"%s\", due was a reason with \"%s\"", f->told, part);
	front_forget(f);
}

uint64_t front_count(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

unsigned front_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}
