/* SPDX-License-Identifier: Apache-2.0 */
/* One device: its life, the coming and going of front ends, and what its owner may ask of it. */
#include "vhost/vhost.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

const char *vhost_front_end_name(enum vhost_front_end f)
{
	static const char *const name[VHOST_FRONT_END_N] = {
		[VHOST_QEMU] = "qemu",
		[VHOST_CLOUD_HYPERVISOR] = "cloud-hypervisor",
		[VHOST_CROSVM] = "crosvm",
	};
	return name[f];
}

struct vhost *vhost_new(const struct vhost_conf *conf, struct event_base *base, const struct vhost_ops *ops,
			void *owner, struct err *e)
{
	struct vhost *v;

	if (conf->pairs == 0 || conf->pairs > VHOST_PAIRS_MAX) {
		err_set(e, -EINVAL, "queues", NULL, "%u queue pairs: 1 to %d are possible", conf->pairs,
			VHOST_PAIRS_MAX);
		return NULL;
	}
	/* A ring's vq is aligned to cache lines, which calloc() does not promise. */
	v = aligned_alloc(CACHE_LINE, sizeof(*v));
	if (!v) {
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		return NULL;
	}
	*v = (struct vhost){.conf = *conf,
			    .base = base,
			    .ops = ops,
			    .owner = owner,
			    .listen_fd = -1,
			    .sock_fd = -1,
			    .backend_fd = -1};
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		vhost_ring_init(&v->ring[i]);
	if (vhost_sock_open(v, e) < 0) {
		vhost_sock_close(v);
		free(v);
		return NULL;
	}
	return v;
}

int vhost_begin(struct vhost *v, struct err *e)
{
	v->mem = gmem_new();
	if (!v->mem)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	v->connects++;
	vhost_saved_begin(v);
	v->ops->connected(v->owner);
	return 0;
}

/* Give back everything the front end lent, once nobody uses it any more. */
static void forget(struct vhost *v)
{
	gmem_free(v->mem);
	v->mem = NULL;
	vhost_msg_reset(&v->msg);
	if (v->backend_fd >= 0)
		close(v->backend_fd);
	v->backend_fd = -1;
	v->offered = v->protocol_offered = 0;
	v->features = v->protocol_features = 0;
	v->features_set = false;
	v->config_untold = false;
	v->status = 0;
}

void vhost_end(struct vhost *v, const char *reason)
{
	vhost_saved_end(v);
	vhost_rings_reset(v);
	v->ops->disconnected(v->owner, reason);
	forget(v);
	vhost_sock_drop(v, reason != NULL);
}

void vhost_free(struct vhost *v)
{
	if (!v)
		return;
	if (v->sock_fd >= 0) {
		vhost_saved_end(v);
		vhost_rings_reset(v);
		forget(v);
		vhost_sock_drop(v, false);
	}
	vhost_sock_close(v);
	free(v);
}

void vhost_fail(struct vhost *v, const char *reason)
{
	if (v->sock_fd < 0)
		return;
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		vhost_signal(v->ring[i].err_fd);
	vhost_end(v, reason);
}

void vhost_set_mtu(struct vhost *v, unsigned mtu)
{
	if (mtu == v->conf.mtu)
		return;
	v->conf.mtu = mtu;
	v->config_untold = v->sock_fd >= 0;
	vhost_config_tell(v);
}

void vhost_state_get(const struct vhost *v, struct vhost_state *s)
{
	*s = (struct vhost_state){
		.connected = v->sock_fd >= 0,
		.connects = v->connects,
		.features_set = v->features_set,
		.known = vhost_features_known(v),
		.never = v->conf.never,
		.offered = v->offered,
		.features = v->features,
		.protocol_features = v->protocol_features,
		.status = v->status,
	};
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++) {
		s->rings_running += v->ring[i].running;
		s->rings_enabled += v->ring[i].enabled;
	}
	if (!v->mem)
		return;
	s->n_regions = v->mem->n_regions;
	for (unsigned i = 0; i < v->mem->n_regions; i++)
		s->memory_bytes += v->mem->region[i]->size_bytes;
	s->logging = v->mem->log.on && v->mem->log.bits;
}

const struct gmem *vhost_memory(const struct vhost *v)
{
	return v->mem;
}
