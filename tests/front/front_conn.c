/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "front/front_msg.h"
#include "front/front_priv.h"

/* The connection: opening it, and the messages that start and stop the rings. */

#define RETRY_MS 5

static struct sockaddr_un address(const struct front *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, f->path, strnlen(f->path, sizeof(a.sun_path) - 1));
	return a;
}

static int listen_there(struct front *f, struct err *e)
{
	const struct sockaddr_un a = address(f);

	if (f->listen_fd >= 0)
		return 0;
	unlink(f->path);
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->listen_fd < 0 || bind(f->listen_fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(f->listen_fd, 1) < 0)
		return err_set(e, -errno, "path", NULL, "%s: %s", f->path, strerror(errno));
	return 0;
}

static int accept_one(struct front *f, struct err *e)
{
	struct pollfd p;

	if (listen_there(f, e) < 0)
		return e ? e->code : -EIO;
	p = (struct pollfd){.fd = f->listen_fd, .events = POLLIN};
	if (poll(&p, 1, (int)f->conf.timeout_ms) <= 0)
		return err_set(e, -ETIMEDOUT, "path", NULL, "%s: no back end came", f->path);
	return accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
}

static int dial(struct front *f, struct err *e)
{
	const uint64_t deadline = time_now_ns() + f->conf.timeout_ms * UINT64_C(1000000);
	const struct timespec pause = {0, RETRY_MS * 1000000L};
	const struct sockaddr_un a = address(f);
	int fd = -1;

	do {
		if (fd >= 0) {
			close(fd);
			nanosleep(&pause, NULL);
		}
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
	} while (fd >= 0 && time_now_ns() < deadline);
	if (fd >= 0)
		close(fd);
	return err_set(e, -ETIMEDOUT, "path", NULL, "%s: %s", f->path, strerror(errno));
}

static int open_connection(struct front *f, struct err *e)
{
	const struct timeval t = {f->conf.timeout_ms / 1000, (f->conf.timeout_ms % 1000) * 1000L};

	front_hang_up(f);
	f->sock = f->conf.listen ? accept_one(f, e) : dial(f, e);
	if (f->sock < 0)
		return f->sock;
	if (setsockopt(f->sock, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0)
		return err_set(e, -errno, NULL, NULL, "SO_RCVTIMEO: %s", strerror(errno));
	return 0;
}

static int failed(struct err *e, int code, uint32_t request)
{
	return err_set(e, code, NULL, NULL, "vhost-user request %u: %s", request, strerror(-code));
}

static int send_msg(struct front *f, struct front_msg *m, struct err *e)
{
	int r;

	m->flags |= FRONT_MSG_VERSION;
	r = front_msg_send(f->sock, m);
	return r < 0 ? failed(e, r, m->request) : 0;
}

/* Send, and receive the reply into @m. */
static int ask(struct front *f, struct front_msg *m, struct err *e)
{
	const uint32_t request = m->request;
	int r = send_msg(f, m, e);

	if (r < 0)
		return r;
	r = front_msg_recv(f->sock, m);
	if (r == 0 && m->request != request)
		r = -EPROTO;
	return r < 0 ? failed(e, r, request) : 0;
}

static int get_u64(struct front *f, uint32_t request, uint64_t *v, struct err *e)
{
	struct front_msg m = {.request = request};
	const int r = ask(f, &m, e);

	*v = m.p.u64;
	return r;
}

static int set_u64(struct front *f, uint32_t request, uint64_t v, struct err *e)
{
	struct front_msg m = {.request = request, .size = sizeof(v), .p.u64 = v};

	return send_msg(f, &m, e);
}

static int set_state(struct front *f, uint32_t request, unsigned ring, uint32_t num, struct err *e)
{
	struct front_msg m = {.request = request, .size = sizeof(m.p.state), .p.state = {ring, num}};

	return send_msg(f, &m, e);
}

static int set_fd(struct front *f, uint32_t request, unsigned ring, int fd, struct err *e)
{
	struct front_msg m = {.request = request, .size = sizeof(m.p.u64), .p.u64 = ring, .fd = {fd}, .n_fds = 1};

	return send_msg(f, &m, e);
}

static int choose_features(struct front *f, uint64_t offered, struct err *e)
{
	const uint64_t missing = f->conf.required & ~offered;
	const uint64_t chosen = offered & (f->conf.required | f->conf.wanted);

	if (missing)
		return err_set(e, -ENOTSUP, "features", NULL, "the back end does not offer 0x%llx",
			       (unsigned long long)missing);
	if (f->was_connected && chosen != f->features)
		return err_set(e, -ENOTSUP, "features", NULL, "the back end offers other features than before");
	f->features = chosen;
	return 0;
}

static int choose_protocol(struct front *f, uint64_t *chosen, struct err *e)
{
	const uint64_t wanted = FRONT_PF_MQ | FRONT_PF_REPLY_ACK | (f->conf.in_flight ? FRONT_PF_INFLIGHT_SHMFD : 0);
	uint64_t offered = 0, queues = 1;
	int r = 0;

	*chosen = 0;
	if (f->features & FRONT_F_PROTOCOL) {
		r = get_u64(f, FRONT_GET_PROTOCOL_FEATURES, &offered, e);
		*chosen = offered & wanted;
		if (r == 0)
			r = set_u64(f, FRONT_SET_PROTOCOL_FEATURES, *chosen, e);
	}
	if (r == 0 && (*chosen & FRONT_PF_MQ))
		r = get_u64(f, FRONT_GET_QUEUE_NUM, &queues, e);
	if (r == 0 && queues < f->conf.pairs)
		return err_set(e, -ENOTSUP, "pairs", NULL, "the back end has %llu queue pairs",
			       (unsigned long long)queues);
	if (r == 0 && f->conf.in_flight && !(*chosen & FRONT_PF_INFLIGHT_SHMFD))
		return err_set(e, -ENOTSUP, "in_flight", NULL, "the back end keeps no notes (INFLIGHT_SHMFD)");
	return r;
}

static int send_memory(struct front *f, uint64_t protocol, struct err *e)
{
	struct front_msg m = {
		.request = FRONT_SET_MEM_TABLE,
		.size = 8 + sizeof(struct front_region),
		.p.table = {.n = 1, .region = {{FRONT_GPA, f->mem_bytes, (uint64_t)(uintptr_t)f->mem, 0}}},
		.fd = {f->mem_fd},
		.n_fds = 1,
	};
	int r;

	if (!(protocol & FRONT_PF_REPLY_ACK))
		return send_msg(f, &m, e);
	m.flags = FRONT_MSG_NEED_REPLY;
	r = ask(f, &m, e);
	return r < 0 || m.p.u64 == 0 ? r : err_set(e, -EIO, NULL, NULL, "the back end refused our memory");
}

/* The back end's notes live in a file that it makes once and that we hand to each of its successors. */
static int share_in_flight(struct front *f, struct err *e)
{
	const struct front_in_flight shape = {f->in_flight_size, f->in_flight_offset, (uint16_t)front_rings(f),
					      (uint16_t)f->conf.ring_size};
	struct front_msg m = {.request = FRONT_GET_INFLIGHT_FD, .size = sizeof(shape), .p.in_flight = shape};

	if (f->in_flight_fd < 0) {
		if (ask(f, &m, e) < 0)
			return e ? e->code : -EIO;
		if (m.n_fds != 1)
			return err_set(e, -EPROTO, NULL, NULL, "GET_INFLIGHT_FD without a descriptor");
		f->in_flight_fd = m.fd[0];
		f->in_flight_size = m.p.in_flight.mmap_size;
		f->in_flight_offset = m.p.in_flight.mmap_offset;
	}
	m = (struct front_msg){.request = FRONT_SET_INFLIGHT_FD, .size = sizeof(shape), .p.in_flight = shape};
	m.p.in_flight.mmap_size = f->in_flight_size;
	m.p.in_flight.mmap_offset = f->in_flight_offset;
	m.fd[0] = f->in_flight_fd;
	m.n_fds = 1;
	return send_msg(f, &m, e);
}

static uint64_t uva(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static int start_ring(struct front *f, unsigned i, struct err *e)
{
	const struct front_queue *q = &f->queue[i];
	struct front_msg m = {
		.request = FRONT_SET_VRING_ADDR,
		.size = sizeof(m.p.addr),
		.p.addr = {.index = i, .desc = uva(q->desc), .used = uva(q->used), .avail = uva(q->avail)},
	};
	int r = set_state(f, FRONT_SET_VRING_NUM, i, q->size, e);

	if (r == 0)
		r = set_state(f, FRONT_SET_VRING_BASE, i, q->base, e);
	if (r == 0)
		r = send_msg(f, &m, e);
	if (r == 0)
		r = set_fd(f, FRONT_SET_VRING_CALL, i, q->call_fd, e);
	if (r == 0)
		r = set_fd(f, FRONT_SET_VRING_KICK, i, q->kick_fd, e);
	return r;
}

/* Enabled first: what is in a transmit ring that is started but not enabled is thrown away. */
static int start_rings(struct front *f, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < front_rings(f) && r == 0 && (f->features & FRONT_F_PROTOCOL); i++)
		r = set_state(f, FRONT_SET_VRING_ENABLE, i, 1, e);
	for (unsigned i = 0; i < front_rings(f) && r == 0; i++)
		r = start_ring(f, i, e);
	return r;
}

/* Everything up to the rings' start. */
static int negotiate(struct front *f, uint64_t *protocol, struct err *e)
{
	uint64_t offered;
	struct front_msg owner = {.request = FRONT_SET_OWNER};
	int r = get_u64(f, FRONT_GET_FEATURES, &offered, e);

	if (r == 0)
		r = choose_features(f, offered, e);
	if (r == 0)
		r = choose_protocol(f, protocol, e);
	if (r == 0)
		r = send_msg(f, &owner, e);
	if (r == 0)
		r = set_u64(f, FRONT_SET_FEATURES, f->features, e);
	return r;
}

/* A reply to a harmless question says that all before it has been dealt with. */
static int settle(struct front *f, struct err *e)
{
	uint64_t ignored;

	return get_u64(f, FRONT_GET_FEATURES, &ignored, e);
}

static int bring_up(struct front *f, bool fresh, struct err *e)
{
	uint64_t protocol;
	int r = open_connection(f, e);

	if (r == 0)
		r = negotiate(f, &protocol, e);
	if (r == 0 && fresh)
		front_layout(f);
	if (r == 0 && f->conf.in_flight)
		r = share_in_flight(f, e);
	if (r == 0)
		r = send_memory(f, protocol, e);
	if (r == 0)
		r = start_rings(f, e);
	if (r == 0)
		r = settle(f, e);
	if (r < 0)
		front_hang_up(f);
	return r;
}

int front_connect(struct front *f, struct err *e)
{
	int r;

	f->was_connected = false;
	if (f->in_flight_fd >= 0)
		close(f->in_flight_fd);
	f->in_flight_fd = -1;
	r = bring_up(f, true, e);
	f->was_connected = r == 0;
	return r;
}

int front_reconnect(struct front *f, struct err *e)
{
	if (!f->was_connected)
		return err_set(e, -ENOTCONN, NULL, NULL, "there was no connection before");
	for (unsigned i = 0; i < front_rings(f); i++)
		if (!f->queue[i].packed)
			f->queue[i].base = __atomic_load_n(&f->queue[i].used->idx, __ATOMIC_ACQUIRE);
	return bring_up(f, false, e);
}

int front_stop(struct front *f, struct err *e)
{
	for (unsigned i = 0; i < front_rings(f); i++) {
		struct front_msg m = {
			.request = FRONT_GET_VRING_BASE, .size = sizeof(m.p.state), .p.state = {.index = i}};
		const int r = ask(f, &m, e);

		if (r < 0)
			return r;
		f->queue[i].base = m.p.state.num;
	}
	return 0;
}

void front_hang_up(struct front *f)
{
	if (f->sock >= 0)
		close(f->sock);
	f->sock = -1;
}

bool front_lost(const struct front *f)
{
	struct pollfd p = {.fd = f->sock, .events = POLLIN | POLLRDHUP};

	return f->sock < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP | POLLERR)));
}
