/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/bare.h"
#include "front/front_msg.h"

/* As little of vhost-user's back end as the load generator needs: one region of memory, one queue pair, split rings. */

bool bare_listen(struct bare_port *p)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", p->path);
	p->sock = -1;
	p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(p->path);
	if (p->listen_fd >= 0 && bind(p->listen_fd, (const struct sockaddr *)&a, sizeof(a)) == 0 &&
	    listen(p->listen_fd, 1) == 0)
		return true;
	fprintf(stderr, "bare: %s: %s\n", p->path, strerror(errno));
	return false;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void unmap(struct bare_port *p)
{
	if (p->mem != NULL)
		munmap(p->mem, p->mem_bytes);
	p->mem = NULL;
}

void bare_accept(struct bare_port *p)
{
	const struct bare_ring none = {.kick_fd = -1, .call_fd = -1};

	p->sock = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	p->ring[0] = p->ring[1] = none;
}

static void reset(struct bare_port *p)
{
	close_fd(&p->sock);
	unmap(p);
	for (unsigned i = 0; i < 2; i++) {
		close_fd(&p->ring[i].kick_fd);
		close_fd(&p->ring[i].call_fd);
		p->ring[i].enabled = false;
	}
}

static bool complete(const struct bare_ring *r)
{
	return r->enabled && r->used != NULL && r->size > 0 && r->kick_fd >= 0;
}

bool bare_ready(const struct bare_port *p)
{
	return p->sock >= 0 && p->mem != NULL && complete(&p->ring[0]) && complete(&p->ring[1]);
}

static int map(struct bare_port *p, const struct front_msg *m)
{
	const struct front_region *r = &m->p.table.region[0];

	if (m->p.table.n != 1 || m->n_fds != 1)
		return -EPROTO;
	unmap(p);
	p->mem = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd[0], (off_t)r->mmap_offset);
	if (p->mem == MAP_FAILED) {
		p->mem = NULL;
		return -errno;
	}
	p->mem_bytes = r->size;
	p->gpa = r->gpa;
	p->uva = r->uva;
	return 0;
}

static void *at(const struct bare_port *p, uint64_t uva)
{
	return p->mem + (uva - p->uva);
}

static int set_addr(struct bare_port *p, const struct front_addr *a)
{
	struct bare_ring *r = &p->ring[a->index & 1];

	if (p->mem == NULL)
		return -EPROTO;
	r->desc = at(p, a->desc);
	r->avail = at(p, a->avail);
	r->used = at(p, a->used);
	return 0;
}

static int answer(const struct bare_port *p, struct front_msg *m, uint64_t v)
{
	m->p.u64 = v;
	m->size = sizeof(v);
	m->flags = FRONT_MSG_VERSION | FRONT_MSG_REPLY;
	return front_msg_send(p->sock, m);
}

static int set_fd(int *place, struct front_msg *m)
{
	close_fd(place);
	*place = m->n_fds == 1 ? m->fd[0] : -1;
	m->n_fds = 0; /* taken */
	return 0;
}

static int set_ring(struct bare_port *p, struct front_msg *m)
{
	struct bare_ring *r = &p->ring[m->p.state.index & 1];

	switch (m->request) {
	case FRONT_SET_VRING_NUM:
		r->size = (uint16_t)m->p.state.num;
		return 0;
	case FRONT_SET_VRING_BASE:
		r->next = (uint16_t)m->p.state.num;
		return 0;
	case FRONT_SET_VRING_ENABLE:
		r->enabled = m->p.state.num != 0;
		return 0;
	case FRONT_SET_VRING_KICK:
		return set_fd(&r->kick_fd, m);
	case FRONT_SET_VRING_CALL:
		return set_fd(&r->call_fd, m);
	default:
		return 0;
	}
}

static int obey(struct bare_port *p, struct front_msg *m)
{
	switch (m->request) {
	case FRONT_GET_FEATURES:
		return answer(p, m, FRONT_F_VERSION_1 | FRONT_F_PROTOCOL);
	case FRONT_GET_PROTOCOL_FEATURES:
		return answer(p, m, 0);
	case FRONT_SET_MEM_TABLE:
		return map(p, m);
	case FRONT_SET_VRING_ADDR:
		return set_addr(p, &m->p.addr);
	default:
		return set_ring(p, m);
	}
}

bool bare_handle(struct bare_port *p)
{
	struct front_msg m;
	int r = front_msg_recv(p->sock, &m);

	if (r == 0) {
		r = obey(p, &m);
		for (unsigned i = 0; i < m.n_fds; i++)
			close(m.fd[i]);
	}
	if (r < 0)
		reset(p);
	return r == 0;
}

bool bare_harmless(const struct bare_port *p)
{
	uint32_t request = 0;

	return recv(p->sock, &request, sizeof(request), MSG_PEEK) == sizeof(request) && request == FRONT_GET_FEATURES;
}
