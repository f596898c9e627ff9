/* SPDX-License-Identifier: Apache-2.0 */
/* What rings do. A ring runs as soon as nothing it needs is missing. Whatever changes under a running ring is changed
 * while it is halted for a moment; it goes on where it was (virtq_start).
 *
 * Invariant: while a ring runs, its owner knows (ring_run was called and ring_halt was not), its vq is valid, and
 * nothing its vq refers to changes. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

void vhost_ring_init(struct vhost_ring *r)
{
	*r = (struct vhost_ring){.kick_fd = -1, .call_fd = -1, .err_fd = -1};
}

void vhost_signal(int fd)
{
	uint64_t one = 1;

	/* A counter that is full has been signalled; a descriptor that is broken is the front end's own affair. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

bool vhost_ring_mapped(const struct vhost *v, const struct vhost_ring *r)
{
	bool packed = vhost_acked(v, VIRTIO_F_RING_PACKED);

	/* virtio 1.2, 2.7: sizes with used_event and avail_event; 2.8.10: two event structures */
	return gmem_uva(v->mem, r->desc, UINT64_C(16) * r->num, NULL) &&
	       gmem_uva(v->mem, r->avail, packed ? 4 : 6 + UINT64_C(2) * r->num, NULL) &&
	       gmem_uva(v->mem, r->used, packed ? 4 : 6 + UINT64_C(8) * r->num, NULL);
}

/* With dirty logging on, a write before the log is there would be lost: the rings wait for SET_LOG_BASE. QEMU sends it
 * last when it starts a device in the middle of a migration. */
static bool log_missing(const struct vhost *v)
{
	return v->mem->log.on && !v->mem->log.bits && vhost_negotiated(v, VHOST_PF_LOG_SHMFD);
}

static bool missing(const struct vhost *v, const struct vhost_ring *r)
{
	return !v->features_set || !r->num || !r->has_addr || !r->has_kick || !r->has_call || log_missing(v) ||
	       !vhost_ring_mapped(v, r);
}

int vhost_ring_try(struct vhost *v, unsigned i, struct err *e)
{
	struct vhost_ring *r = &v->ring[i];
	struct virtq_conf c = {
		.mem = v->mem,
		.size = r->num,
		.desc = r->desc,
		.avail = r->avail,
		.used = r->used,
		.log_used = r->log_used,
		.used_log = r->used_log,
		.packed = vhost_acked(v, VIRTIO_F_RING_PACKED),
		.in_order = vhost_acked(v, VIRTIO_F_IN_ORDER),
		.base = (uint16_t)(r->has_base ? r->base : PACKED_START),
		.event_idx = vhost_acked(v, VIRTIO_F_EVENT_IDX),
		.indirect = vhost_acked(v, VIRTIO_F_INDIRECT_DESC),
		.call_fd = r->call_fd,
		.journal = vhost_saved_journal(v, i),
	};
	int rc;

	if (r->running || missing(v, r))
		return 0;
	rc = virtq_start(&r->vq, &c, e);
	if (rc < 0)
		return rc;
	rc = v->ops->ring_run(v->owner, i, &r->vq, r->kick_fd, e);
	if (rc < 0) {
		virtq_stop(&r->vq);
		return rc;
	}
	r->running = r->has_run = true;
	/* What was completed before, by us or by a flued that was killed, may not have been told to the guest. */
	vhost_signal(r->call_fd);
	vhost_config_tell(v);
	return 0;
}

void vhost_ring_halt(struct vhost *v, unsigned i)
{
	struct vhost_ring *r = &v->ring[i];

	if (!r->running)
		return;
	v->ops->ring_halt(v->owner, i);
	r->base = virtq_base(&r->vq);
	r->has_base = true;
	r->running = false;
	virtq_stop(&r->vq);
}

int vhost_rings_try(struct vhost *v, struct err *e)
{
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		int rc = vhost_ring_try(v, i, e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

void vhost_rings_halt(struct vhost *v)
{
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		vhost_ring_halt(v, i);
}

void vhost_ring_enable(struct vhost *v, unsigned i, bool enabled)
{
	if (v->ring[i].enabled == enabled)
		return;
	v->ring[i].enabled = enabled;
	v->ops->ring_enable(v->owner, i, enabled);
}

void vhost_rings_enable(struct vhost *v, bool enabled)
{
	for (unsigned i = 0; i < vhost_n_rings(v); i++)
		vhost_ring_enable(v, i, enabled);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void vhost_rings_reset(struct vhost *v)
{
	vhost_rings_halt(v);
	vhost_rings_enable(v, false);
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		close_fd(v->ring[i].kick_fd);
		close_fd(v->ring[i].call_fd);
		close_fd(v->ring[i].err_fd);
		vhost_ring_init(&v->ring[i]);
	}
}
