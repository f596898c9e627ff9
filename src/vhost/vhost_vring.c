/* SPDX-License-Identifier: Apache-2.0 */
/* What the front end says of one ring: size, place, descriptors, whether it is enabled. m->ring has been checked. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

int vhost_set_vring_num(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_ring *r = &v->ring[m->ring];
	uint32_t num = m->p.state.num;
	/* virtio 1.2, 2.8.10.1: of packed rings any size is allowed */
	bool packed = vhost_acked(v, VIRTIO_F_RING_PACKED);

	if (num == 0 || num > VIRTQ_SIZE_MAX || (!packed && num & (num - 1)))
		return err_set(e, -EINVAL, NULL, NULL, "%" PRIu32 " is not %s up to %d", num,
			       packed ? "a ring size" : "a power of two", VIRTQ_SIZE_MAX);
	if (num == r->num)
		return 0;
	if (r->running)
		return err_set(e, -EBUSY, NULL, NULL, "ring %u runs with %u entries, it cannot get %" PRIu32, m->ring,
			       r->num, num);
	r->num = (uint16_t)num;
	return vhost_ring_try(v, m->ring, e);
}

static int check_addr(const struct vhost *v, const struct vhost_ring *r, unsigned i, struct err *e)
{
	/* virtio 1.2, 2.7: alignment of the three parts */
	if (r->desc.v % 16 || r->avail.v % 2 || r->used.v % 4)
		return err_set(e, -EINVAL, NULL, NULL, "ring %u is not aligned to 16, 2 and 4 bytes", i);
	/* Before the memory is known nothing can be said; the ring will wait for it. */
	if (v->mem->n_regions && r->num && !vhost_ring_mapped(v, r))
		return err_set(e, -EFAULT, NULL, NULL, "ring %u is outside the guest's memory", i);
	return 0;
}

int vhost_set_vring_addr(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_ring *r = &v->ring[m->ring];
	const struct vhost_wire_addr *a = &m->p.addr;
	int rc;

	vhost_ring_halt(v, m->ring);
	r->desc.v = a->desc;
	r->avail.v = a->avail;
	r->used.v = a->used;
	r->used_log.v = a->log;
	r->log_used = a->flags & VHOST_ADDR_LOG;
	r->has_addr = true;
	rc = check_addr(v, r, m->ring, e);
	return rc < 0 ? rc : vhost_ring_try(v, m->ring, e);
}

int vhost_set_vring_base(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_ring *r = &v->ring[m->ring];

	/* Not where a split ring starts: that is used->idx. Some front ends send the index of the newest available entry
	 * instead, and what lies between would be lost. For packed rings see virtq_start(). */
	if (m->p.state.num > UINT16_MAX && !vhost_acked(v, VIRTIO_F_RING_PACKED))
		return err_set(e, -EINVAL, NULL, NULL, "%" PRIu32 " is no index of a split ring", m->p.state.num);
	if (r->running)
		return 0;
	r->base = m->p.state.num;
	r->has_base = true;
	/* It may have gone on elsewhere, or back to a snapshot. Not before: who is killed with the answer on its way still
	 * needs the journal. */
	if (r->told && vhost_saved_journal(v, m->ring))
		vhost_saved_journal(v, m->ring)->live = 0;
	return 0;
}

/* Make @fd (-1: none) the one in *slot and close the one before. */
static void replace(int *slot, int fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

int vhost_get_vring_base(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_ring *r = &v->ring[m->ring];
	const struct virtq_journal *j = vhost_saved_journal(v, m->ring);

	(void)e;
	vhost_ring_halt(v, m->ring);
	/* It came back, and stops the ring before we could start it: the journal knows better than the front end. */
	if (!r->has_run && j && j->live && virtq_journal_valid(j, r->num))
		r->base = (uint32_t)j->at << 16 | j->at;
	r->told = true;
	replace(&r->kick_fd, -1);
	replace(&r->call_fd, -1);
	r->has_kick = r->has_call = false;
	m->p.state.num = r->base;
	m->reply_bytes = sizeof(m->p.state);
	return 0;
}

/* Is @fd something that workers can signal or drain without being stopped by it? Anything else, say a file in a file
 * system that a user process serves, could hold up a worker for good, and with it every other guest. */
static bool is_event(int fd)
{
	char path[32], target[32];
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return false;
	if (S_ISFIFO(st.st_mode))
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return true; /* no /proc to ask */
	target[n] = '\0';
	return strcmp(target, "anon_inode:[eventfd]") == 0;
}

/* Take the message's descriptor, if it has one, into *fd. */
static int take_event(struct vhost_msg *m, int *fd, struct err *e)
{
	int flags;

	*fd = -1;
	if (m->n_fds == 0)
		return 0;
	if (!is_event(m->fd[0]))
		return err_set(e, -EINVAL, NULL, NULL, "the descriptor is neither eventfd nor pipe");
	flags = fcntl(m->fd[0], F_GETFL);
	if (flags < 0 || fcntl(m->fd[0], F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(e, -errno, NULL, NULL, "the descriptor cannot be made non-blocking: %s",
			       strerror(errno));
	*fd = vhost_msg_take_fd(m, 0);
	return 0;
}

int vhost_set_vring_kick(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_ring *r = &v->ring[m->ring];
	int fd, rc = take_event(m, &fd, e);

	if (rc < 0)
		return rc;
	vhost_ring_halt(v, m->ring);
	replace(&r->kick_fd, fd);
	r->has_kick = true;
	return vhost_ring_try(v, m->ring, e);
}

/* This comes at any time: some front ends exchange the descriptor to mask and unmask an interrupt. */
int vhost_set_vring_call(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_ring *r = &v->ring[m->ring];
	int fd, rc = take_event(m, &fd, e);

	if (rc < 0)
		return rc;
	if (r->running) {
		virtq_set_call(&r->vq, fd);
		/* An interrupt that went to the old one may never reach the guest; one too many does no harm. */
		vhost_signal(fd);
		v->ops->quiesce(v->owner);
	}
	replace(&r->call_fd, fd);
	r->has_call = true;
	return vhost_ring_try(v, m->ring, e);
}

int vhost_set_vring_err(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	int fd, rc = take_event(m, &fd, e);

	if (rc < 0)
		return rc;
	replace(&v->ring[m->ring].err_fd, fd);
	return 0;
}

int vhost_set_vring_enable(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	if (m->p.state.num > 1)
		return err_set(e, -EINVAL, NULL, NULL, "%" PRIu32 " is neither 0 nor 1", m->p.state.num);
	vhost_ring_enable(v, m->ring, m->p.state.num);
	return 0;
}
