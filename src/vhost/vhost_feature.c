/* SPDX-License-Identifier: Apache-2.0 */
/* What both sides agreed on, and the device as a whole. */
#include <errno.h>
#include <inttypes.h>

#include "vhost/vhost_priv.h"

static int reply_u64(struct vhost_msg *m, uint64_t v)
{
	m->p.u64 = v;
	m->reply_bytes = sizeof(m->p.u64);
	return 0;
}

/* CONFIG is for front ends that ask us for the configuration space; QEMU has its own and warns about it. */
static bool asks_for_config(const struct vhost *v)
{
	return v->conf.front_end != VHOST_QEMU;
}

#define GUEST_SEGMENTS                                                                                                 \
	(FEATURE(VIRTIO_NET_F_GUEST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO6) | FEATURE(VIRTIO_NET_F_GUEST_USO4) |      \
	 FEATURE(VIRTIO_NET_F_GUEST_USO6))
#define HOST_SEGMENTS                                                                                                  \
	(FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6) | FEATURE(VIRTIO_NET_F_HOST_USO))

/* CTRL_GUEST_OFFLOADS is not among them: most front ends answer that command themselves, and we would not know
 * (docs/decisions/0008). */
#define OFFLOADS                                                                                                       \
	(FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) | GUEST_SEGMENTS |                              \
	 FEATURE(VIRTIO_NET_F_GUEST_ECN) | HOST_SEGMENTS | FEATURE(VIRTIO_NET_F_HOST_ECN))

uint64_t vhost_features_known(const struct vhost *v)
{
	uint64_t f = FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_ANY_LAYOUT) | FEATURE(VIRTIO_F_INDIRECT_DESC) |
		     FEATURE(VIRTIO_F_EVENT_IDX) | FEATURE(VIRTIO_F_RING_PACKED) | FEATURE(VIRTIO_F_IN_ORDER) |
		     FEATURE(VHOST_USER_F_PROTOCOL_FEATURES) | FEATURE(VHOST_F_LOG_ALL) |
		     FEATURE(VIRTIO_NET_F_MRG_RXBUF) | FEATURE(VIRTIO_NET_F_MTU) | FEATURE(VIRTIO_NET_F_STATUS) |
		     FEATURE(VIRTIO_NET_F_CTRL_VQ) | FEATURE(VIRTIO_NET_F_CTRL_RX) | FEATURE(VIRTIO_NET_F_MQ) |
		     FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE) | OFFLOADS;

	return asks_for_config(v) ? f | FEATURE(VIRTIO_NET_F_MAC) : f;
}

/* virtio 1.2, 5.1.3.1. The order matters: ECN asks for what may have gone with the checksum. */
static const struct {
	uint64_t features, need; /* one bit of @need */
	const char *words;
} needs[] = {
	{GUEST_SEGMENTS, FEATURE(VIRTIO_NET_F_GUEST_CSUM), "guest_csum"},
	{FEATURE(VIRTIO_NET_F_GUEST_ECN), FEATURE(VIRTIO_NET_F_GUEST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO6),
	 "guest_tso4 or guest_tso6"},
	{HOST_SEGMENTS, FEATURE(VIRTIO_NET_F_CSUM), "csum"},
	{FEATURE(VIRTIO_NET_F_HOST_ECN), FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6),
	 "tso4 or tso6"},
};

uint64_t vhost_features_sound(uint64_t features)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if (!(features & needs[i].need))
			features &= ~needs[i].features;
	return features;
}

const char *vhost_feature_needs(unsigned bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++)
		if (needs[i].features & FEATURE(bit))
			return needs[i].words;
	return NULL;
}

uint64_t vhost_protocol_known(const struct vhost *v)
{
	uint64_t f = FEATURE(VHOST_PF_MQ) | FEATURE(VHOST_PF_LOG_SHMFD) | FEATURE(VHOST_PF_RARP) |
		     FEATURE(VHOST_PF_REPLY_ACK) | FEATURE(VHOST_PF_NET_MTU) | FEATURE(VHOST_PF_BACKEND_REQ) |
		     FEATURE(VHOST_PF_RESET_DEVICE) | FEATURE(VHOST_PF_CONFIGURE_MEM_SLOTS) | FEATURE(VHOST_PF_STATUS);

	return asks_for_config(v) ? f | FEATURE(VHOST_PF_CONFIG) : f;
}

int vhost_get_features(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)e;
	return reply_u64(m, v->offered);
}

static int check_bits(uint64_t asked, uint64_t offered, struct err *e)
{
	uint64_t extra = asked & ~offered;

	if (!extra)
		return 0;
	return err_set(e, -EINVAL, NULL, NULL, "bit %d was not offered", __builtin_ctzll(extra));
}

/* Rings are halted: put @features into force. */
static void adopt(struct vhost *v, uint64_t features)
{
	v->features = features;
	v->features_set = true;
	if (v->mem->log.on && !vhost_acked(v, VHOST_F_LOG_ALL))
		gmem_log_drop(v->mem); /* a migration has ended; the next one brings a log of its own */
	v->mem->log.on = vhost_acked(v, VHOST_F_LOG_ALL);
	vhost_saved_update(v);
	v->ops->features(v->owner, vhost_features_sound(features));
}

/* QEMU repeats this for every queue pair, while the first ones run already. */
int vhost_set_features(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	uint64_t features = m->p.u64;
	int rc = check_bits(features, v->offered, e);

	if (rc < 0)
		return rc;
	if (!v->features_set || features != v->features) {
		vhost_rings_halt(v);
		adopt(v, features);
	}
	/* "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state." */
	if (!vhost_acked(v, VHOST_USER_F_PROTOCOL_FEATURES))
		vhost_rings_enable(v, true);
	return vhost_rings_try(v, e);
}

int vhost_get_protocol_features(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)e;
	return reply_u64(m, v->protocol_offered);
}

int vhost_set_protocol_features(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	uint64_t features = m->p.u64;
	int rc = check_bits(features, v->protocol_offered, e);

	if (rc < 0)
		return rc;
	v->protocol_features = features;
	vhost_saved_update(v);
	return 0;
}

int vhost_set_owner(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)v;
	(void)m;
	(void)e;
	return 0;
}

/* "It is recommended that back-ends either ignore this message, or use it to disable all rings." */
int vhost_reset_owner(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)m;
	(void)e;
	vhost_rings_enable(v, false);
	return 0;
}

/* The device is as new. The connection is not: memory, its log, protocol features and the back end's channel stay, for
 * front ends do not send them again. */
int vhost_reset_device(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)m;
	(void)e;
	vhost_rings_reset(v);
	v->status = 0;
	v->features_set = false;
	vhost_saved_reset(v);
	return 0;
}

/* QEMU and those like it count queue pairs, cloud-hypervisor compares it with its rings, and crosvm makes exactly as
 * many rings, the control queue included. */
int vhost_get_queue_num(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)e;
	return reply_u64(m, v->conf.front_end == VHOST_QEMU ? v->conf.pairs : vhost_n_rings(v));
}

int vhost_set_status(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	if (m->p.u64 > UINT8_MAX)
		return err_set(e, -EINVAL, NULL, NULL, "0x%" PRIx64 " is no device status", m->p.u64);
	/* Told, not acted on: front ends stop rings one by one, by GET_VRING_BASE, before or after they send a 0. */
	v->status = (uint8_t)m->p.u64;
	return 0;
}

int vhost_get_status(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	(void)e;
	return reply_u64(m, v->status);
}
