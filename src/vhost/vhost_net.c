/* SPDX-License-Identifier: Apache-2.0 */
/* The network device: configuration space, MTU, announcements, and our channel to the front end. */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

#define MTU_MIN 68    /* RFC 791 */
#define MTU_MAX 65535 /* virtio 1.2, 5.1.4 */

int vhost_send_rarp(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct mac mac;

	/* "The first 6 bytes of the payload contain the mac address of the guest" */
	memcpy(mac.b, m->p.bytes, sizeof(mac.b));
	if (mac_is_multicast(mac) || mac_is_zero(mac)) {
		err_set(e, -EINVAL, NULL, NULL, "not a guest's address");
		return VHOST_REFUSED;
	}
	v->ops->announce(v->owner, mac);
	return 0;
}

int vhost_net_set_mtu(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	uint64_t mtu = m->p.u64;

	if (mtu >= MTU_MIN && mtu <= MTU_MAX && v->ops->mtu(v->owner, (unsigned)mtu) == 0)
		return 0;
	err_set(e, -EINVAL, NULL, NULL, "an MTU of %" PRIu64 ", the port's is %u", mtu, v->conf.mtu);
	return VHOST_REFUSED;
}

/* The whole space; what lies behind the fields we have reads as zero. */
static void config_space(const struct vhost *v, uint8_t space[VHOST_CONFIG_MAX])
{
	struct vhost_net_config c = {
		.status = htole16(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = htole16((uint16_t)v->conf.pairs),
		.mtu = htole16((uint16_t)v->conf.mtu),
		.speed = htole32(VIRTIO_NET_SPEED_UNKNOWN),
		.duplex = VIRTIO_NET_DUPLEX_UNKNOWN,
	};

	memcpy(c.mac, v->conf.mac.b, sizeof(c.mac));
	memset(space, 0, VHOST_CONFIG_MAX);
	memcpy(space, &c, sizeof(c));
}

static bool config_range_fits(const struct vhost_wire_config *c)
{
	return c->size > 0 && c->size <= VHOST_CONFIG_MAX && c->offset <= VHOST_CONFIG_MAX - c->size;
}

int vhost_get_config(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	struct vhost_wire_config *c = &m->p.config;
	uint8_t space[VHOST_CONFIG_MAX];

	if (m->h.size != VHOST_CONFIG_HEAD_BYTES && m->h.size != VHOST_CONFIG_HEAD_BYTES + c->size)
		return err_set(e, -EPROTO, NULL, NULL, "%" PRIu32 " bytes asked in a payload of %" PRIu32, c->size,
			       m->h.size);
	if (!config_range_fits(c)) {
		err_set(e, -EINVAL, NULL, NULL, "%" PRIu32 " bytes at %" PRIu32 " do not exist", c->size, c->offset);
		m->reply_bytes = 0; /* "zero length of payload to indicate an error" */
		return VHOST_REFUSED;
	}
	config_space(v, space);
	memcpy(c->bytes, space + c->offset, c->size);
	m->reply_bytes = VHOST_CONFIG_HEAD_BYTES + c->size;
	return 0;
}

/* Nothing in it can be written (virtio 1.2, 5.1.4); a write that changes nothing is no harm. */
int vhost_set_config(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	const struct vhost_wire_config *c = &m->p.config;
	uint8_t space[VHOST_CONFIG_MAX];

	if (m->h.size != VHOST_CONFIG_HEAD_BYTES + c->size || !config_range_fits(c))
		return err_set(e, -EPROTO, NULL, NULL, "%" PRIu32 " bytes at %" PRIu32 " in a payload of %" PRIu32,
			       c->size, c->offset, m->h.size);
	config_space(v, space);
	if (memcmp(space + c->offset, c->bytes, c->size) == 0)
		return 0;
	err_set(e, -EROFS, NULL, NULL, "the configuration space is read-only");
	return VHOST_REFUSED;
}

static bool is_stream_socket(int fd)
{
	int type;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

int vhost_set_backend_req_fd(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	if (!is_stream_socket(m->fd[0]))
		return err_set(e, -ENOTSOCK, NULL, NULL, "the descriptor is no stream socket");
	if (v->backend_fd >= 0)
		close(v->backend_fd);
	v->backend_fd = vhost_msg_take_fd(m, 0);
	return 0;
}

static bool any_ring_runs(const struct vhost *v)
{
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		if (v->ring[i].running)
			return true;
	return false;
}

void vhost_config_tell(struct vhost *v)
{
	struct vhost_wire_header h = {.request = VHOST_BACKEND_CONFIG_CHANGE_MSG, .flags = VHOST_FLAG_VERSION};

	/* A device whose rings are all stopped is suspended ("Suspended device state"): it sends no messages. */
	if (!v->config_untold || v->backend_fd < 0 || !vhost_negotiated(v, VHOST_PF_CONFIG) || !any_ring_runs(v))
		return;
	v->config_untold = false;
	/* No reply is asked for; if the front end does not listen, it keeps the configuration it has. */
	if (send(v->backend_fd, &h, sizeof(h), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(h))
		log_limited(&v->log_limit, LOG_WARN, "%s: the front end could not be told of the new MTU",
			    v->conf.path);
}
