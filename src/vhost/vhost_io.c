/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over one connection. A message is put together from however many pieces it arrives in; nothing here waits.
 * Descriptors are taken with CLOEXEC and belong to the message until a handler takes them, so every way out closes
 * them. */
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

/* Messages handled before other work of the control thread has its turn. */
#define MESSAGES_A_TURN 8

/* Keep the descriptors of one control message, or close those that are too many. */
static int keep_fds(struct vhost_msg *m, const struct cmsghdr *c)
{
	unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		if (m->n_fds < VHOST_FDS_MAX) {
			m->fd[m->n_fds++] = fd;
			continue;
		}
		close(fd);
		rc = -EMFILE;
	}
	return rc;
}

/* Receive up to @len bytes. Returns how many, 0 at the end of the stream, or a negative errno; -EMFILE: descriptors
 * came along that did not fit, here or into our table of open files, and are gone. */
static ssize_t receive(int fd, struct vhost_msg *m, void *to, size_t len)
{
	union {
		char bytes[CMSG_SPACE(VHOST_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = to, .iov_len = len};
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	int rc = 0;

	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && keep_fds(m, c) < 0)
			rc = -EMFILE;
	if (rc < 0 || (mh.msg_flags & (MSG_CTRUNC | MSG_TRUNC)))
		return -EMFILE;
	return n;
}

/* Receive more of the message. As receive(), and 0 bytes wanted is not asked for. */
static ssize_t receive_more(int fd, struct vhost_msg *m)
{
	uint32_t head = sizeof(m->h);
	ssize_t n;

	if (m->got_bytes < head)
		n = receive(fd, m, (uint8_t *)&m->h + m->got_bytes, head - m->got_bytes);
	else
		n = receive(fd, m, m->p.bytes + (m->got_bytes - head), head + m->h.size - m->got_bytes);
	if (n > 0)
		m->got_bytes += (uint32_t)n;
	return n;
}

static void end_of_stream(struct vhost *v, const struct vhost_msg *m)
{
	char reason[96], number[32];

	if (m->got_bytes == 0) {
		vhost_end(v, NULL);
		return;
	}
	if (m->got_bytes < sizeof(m->h))
		snprintf(reason, sizeof(reason), "the connection ended inside a message's header");
	else
		snprintf(reason, sizeof(reason), "%s: the connection ended inside the message",
			 vhost_msg_name(m->h.request, number));
	vhost_end(v, reason);
}

/* A front end that was killed with messages or replies under way: an end like any other. */
static bool is_hang_up(int code)
{
	return code == -ECONNRESET || code == -EPIPE;
}

static void receive_failed(struct vhost *v, int code)
{
	char reason[96];

	if (code == -EMFILE)
		snprintf(reason, sizeof(reason), "more than %d descriptors with one message, or we have too many open",
			 VHOST_FDS_MAX);
	else
		snprintf(reason, sizeof(reason), "receiving failed: %s", strerror(-code));
	vhost_end(v, is_hang_up(code) ? NULL : reason);
}

/* One piece of a message, and the message if that was its last. True: there may be more to do. */
static bool step(struct vhost *v)
{
	struct vhost_msg *m = &v->msg;
	struct err e = {0};
	ssize_t n = receive_more(v->sock_fd, m);
	int rc;

	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n == 0)
		end_of_stream(v, m);
	if (n < 0)
		receive_failed(v, (int)n);
	if (n <= 0)
		return false;

	if (m->got_bytes < sizeof(m->h))
		return true;
	if (m->got_bytes == sizeof(m->h) && vhost_msg_check_header(v, m, &e) < 0) {
		vhost_end(v, e.text);
		return false;
	}
	if (m->got_bytes < sizeof(m->h) + m->h.size)
		return true;
	rc = vhost_msg_handle(v, m, &e);
	if (rc < 0) {
		vhost_end(v, is_hang_up(rc) ? NULL : e.text);
		return false;
	}
	vhost_msg_reset(m);
	return true;
}

void vhost_io_readable(int fd, short what, void *vhost)
{
	(void)fd;
	(void)what;
	/* A message takes two pieces, header and payload; what is left wakes us again. */
	for (unsigned i = 0; i < 2 * MESSAGES_A_TURN && step(vhost); i++)
		;
}

int vhost_io_send(int fd, struct vhost_msg *m, uint32_t bytes)
{
	struct iovec iov[2] = {{&m->h, sizeof(m->h)}, {&m->p, bytes}};
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;

	m->h.flags = VHOST_FLAG_VERSION | VHOST_FLAG_REPLY;
	m->h.size = bytes;
	do
		n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == sizeof(m->h) + bytes ? 0 : -EAGAIN;
}
