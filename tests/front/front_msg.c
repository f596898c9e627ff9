/* SPDX-License-Identifier: Apache-2.0 */
#include "front/front_msg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The three words of the header are 12 bytes on the wire, but the payload's alignment puts a hole behind them here: so
 * they travel as two pieces. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * FRONT_REGIONS_MAX)];
};

static void attach_fds(struct msghdr *h, union control *c, const struct front_msg *m)
{
	const size_t bytes = sizeof(int) * m->n_fds;
	struct cmsghdr *cmsg;

	if (m->n_fds == 0)
		return;
	memset(c, 0, sizeof(*c));
	h->msg_control = c->bytes;
	h->msg_controllen = CMSG_SPACE(bytes);
	cmsg = CMSG_FIRSTHDR(h);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(cmsg), m->fd, bytes);
}

int front_msg_send(int sock, const struct front_msg *m)
{
	struct iovec iov[2] = {{(void *)m, FRONT_MSG_HEAD}, {(void *)&m->p, m->size}};
	struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
	union control c;
	ssize_t n;

	attach_fds(&h, &c, m);
	do
		n = sendmsg(sock, &h, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return (size_t)n == FRONT_MSG_HEAD + m->size ? 0 : -EPROTO;
}

static void take_fds(struct msghdr *h, struct front_msg *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(h);

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	m->n_fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(m->fd, CMSG_DATA(c), sizeof(int) * m->n_fds);
}

static int recv_head(int sock, struct front_msg *m)
{
	struct iovec iov = {m, FRONT_MSG_HEAD};
	union control c;
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof(c.bytes)};
	ssize_t n;

	do
		n = recvmsg(sock, &h, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	take_fds(&h, m);
	if (n == 0)
		return -ECONNRESET;
	return n == FRONT_MSG_HEAD ? 0 : -EPROTO;
}

int front_msg_recv(int sock, struct front_msg *m)
{
	ssize_t n;
	int r;

	memset(m, 0, sizeof(*m));
	r = recv_head(sock, m);
	if (r == 0 && m->size > sizeof(m->p))
		r = -EPROTO;
	if (r < 0 || m->size == 0)
		return r;
	do
		n = recv(sock, &m->p, m->size, MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == m->size ? 0 : -ECONNRESET;
}
