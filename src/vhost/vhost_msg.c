/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of vhost-user: one table says what each must look like, and everything a table can check is checked
 * here, before its handler runs. Handlers look at values only. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

/* Where the payload names a ring. */
enum ring_field {
	RING_NONE,
	RING_STATE, /* a u32 at the beginning: vring state and address descriptions */
	RING_FD,    /* bits 0-7 of a u64, bit 8 set if no descriptor comes along */
};

struct request {
	const char *name;
	uint16_t bytes_min, bytes_max; /* of the payload */
	uint8_t fds_min, fds_max;
	enum ring_field ring;
	bool replies;   /* has a reply of its own, so REPLY_ACK changes nothing */
	uint64_t needs; /* FEATURE() of the protocol feature that must be negotiated, or 0 */
	vhost_handler *handle;
};

/* Payloads, from least to most bytes. */
#define EMPTY  0, 0
#define U64    sizeof(uint64_t), sizeof(uint64_t)
#define STATE  sizeof(struct vhost_wire_state), sizeof(struct vhost_wire_state)
#define ADDR   sizeof(struct vhost_wire_addr), sizeof(struct vhost_wire_addr)
#define TABLE  VHOST_TABLE_HEAD_BYTES, sizeof(struct vhost_wire_mem_table)
#define REGION sizeof(struct vhost_wire_mem_reg), sizeof(struct vhost_wire_mem_reg)
#define LOG    sizeof(struct vhost_wire_log), sizeof(struct vhost_wire_log)
#define CONFIG VHOST_CONFIG_HEAD_BYTES, sizeof(struct vhost_wire_config)

/* Descriptors, from fewest to most. */
#define NO_FD     0, 0
#define ONE_FD    1, 1
#define MAYBE_FD  0, 1
#define TABLE_FDS 0, VHOST_FDS_MAX

#define ACK    false /* replied to if asked for */
#define ANSWER true

#define NEEDS(feature) FEATURE(VHOST_PF_##feature)
#define ROW(number, name, bytes, fds, ring, reply, needs)                                                              \
	[VHOST_##number] = {#number, bytes, fds, ring, reply, needs, vhost_##name}

/* clang-format off */
static const struct request requests[] = {
	ROW(GET_FEATURES, get_features, EMPTY, NO_FD, RING_NONE, ANSWER, 0),
	ROW(SET_FEATURES, set_features, U64, NO_FD, RING_NONE, ACK, 0),
	ROW(SET_OWNER, set_owner, EMPTY, NO_FD, RING_NONE, ACK, 0),
	ROW(RESET_OWNER, reset_owner, EMPTY, NO_FD, RING_NONE, ACK, 0),
	ROW(SET_MEM_TABLE, set_mem_table, TABLE, TABLE_FDS, RING_NONE, ACK, 0),
	ROW(SET_LOG_BASE, set_log_base, LOG, ONE_FD, RING_NONE, ANSWER, NEEDS(LOG_SHMFD)),
	ROW(SET_LOG_FD, set_log_fd, EMPTY, ONE_FD, RING_NONE, ACK, 0),
	ROW(SET_VRING_NUM, set_vring_num, STATE, NO_FD, RING_STATE, ACK, 0),
	ROW(SET_VRING_ADDR, set_vring_addr, ADDR, NO_FD, RING_STATE, ACK, 0),
	ROW(SET_VRING_BASE, set_vring_base, STATE, NO_FD, RING_STATE, ACK, 0),
	ROW(GET_VRING_BASE, get_vring_base, STATE, NO_FD, RING_STATE, ANSWER, 0),
	ROW(SET_VRING_KICK, set_vring_kick, U64, MAYBE_FD, RING_FD, ACK, 0),
	ROW(SET_VRING_CALL, set_vring_call, U64, MAYBE_FD, RING_FD, ACK, 0),
	ROW(SET_VRING_ERR, set_vring_err, U64, MAYBE_FD, RING_FD, ACK, 0),
	ROW(GET_PROTOCOL_FEATURES, get_protocol_features, EMPTY, NO_FD, RING_NONE, ANSWER, 0),
	ROW(SET_PROTOCOL_FEATURES, set_protocol_features, U64, NO_FD, RING_NONE, ACK, 0),
	ROW(GET_QUEUE_NUM, get_queue_num, EMPTY, NO_FD, RING_NONE, ANSWER, 0),
	ROW(SET_VRING_ENABLE, set_vring_enable, STATE, NO_FD, RING_STATE, ACK, 0),
	ROW(SEND_RARP, send_rarp, U64, NO_FD, RING_NONE, ACK, NEEDS(RARP)),
	ROW(NET_SET_MTU, net_set_mtu, U64, NO_FD, RING_NONE, ACK, NEEDS(NET_MTU)),
	ROW(SET_BACKEND_REQ_FD, set_backend_req_fd, EMPTY, ONE_FD, RING_NONE, ACK, NEEDS(BACKEND_REQ)),
	ROW(GET_CONFIG, get_config, CONFIG, NO_FD, RING_NONE, ANSWER, NEEDS(CONFIG)),
	ROW(SET_CONFIG, set_config, CONFIG, NO_FD, RING_NONE, ACK, NEEDS(CONFIG)),
	ROW(RESET_DEVICE, reset_device, EMPTY, NO_FD, RING_NONE, ACK, NEEDS(RESET_DEVICE)),
	ROW(GET_MAX_MEM_SLOTS, get_max_mem_slots, EMPTY, NO_FD, RING_NONE, ANSWER, NEEDS(CONFIGURE_MEM_SLOTS)),
	ROW(ADD_MEM_REG, add_mem_reg, REGION, ONE_FD, RING_NONE, ACK, NEEDS(CONFIGURE_MEM_SLOTS)),
	/* "For compatibility with existing incorrect implementations": a descriptor here is closed and ignored. */
	ROW(REM_MEM_REG, rem_mem_reg, REGION, MAYBE_FD, RING_NONE, ACK, NEEDS(CONFIGURE_MEM_SLOTS)),
	ROW(SET_STATUS, set_status, U64, NO_FD, RING_NONE, ACK, NEEDS(STATUS)),
	ROW(GET_STATUS, get_status, EMPTY, NO_FD, RING_NONE, ANSWER, NEEDS(STATUS)),
};
/* clang-format on */

static const struct request *find(uint32_t number)
{
	return number < ARRAY_SIZE(requests) && requests[number].name ? &requests[number] : NULL;
}

const char *vhost_msg_name(uint32_t request, char text[32])
{
	const struct request *q = find(request);

	if (q)
		return q->name;
	snprintf(text, 32, "request %" PRIu32, request);
	return text;
}

static int check_size(const struct request *q, uint32_t size, struct err *e)
{
	if (size >= q->bytes_min && size <= q->bytes_max)
		return 0;
	if (q->bytes_min == q->bytes_max)
		return err_set(e, -EPROTO, NULL, NULL, "a payload of %" PRIu32 " bytes, %u are due", size,
			       q->bytes_min);
	return err_set(e, -EPROTO, NULL, NULL, "a payload of %" PRIu32 " bytes, %u to %u are due", size, q->bytes_min,
		       q->bytes_max);
}

static int unnegotiated(const struct vhost *v, const struct request *q, struct err *e)
{
	if (q->needs != NEEDS(CONFIG))
		return err_set(e, -EPROTO, NULL, NULL, "its protocol feature was not negotiated");
	/* What happens when another front end connects than the port was made for. */
	return err_set(e, -EPROTO, NULL, NULL,
		       "its protocol feature was not negotiated: is the port's front_end (%s) right?",
		       vhost_front_end_name(v->conf.front_end));
}

static int check_header(const struct vhost *v, const struct vhost_msg *m, struct err *e)
{
	const struct request *q = find(m->h.request);
	uint32_t version = m->h.flags & VHOST_FLAG_VERSION_MASK;

	if (version != VHOST_FLAG_VERSION)
		return err_set(e, -EPROTO, NULL, NULL, "version %" PRIu32 " of the protocol, only 1 exists", version);
	if (m->h.flags & VHOST_FLAG_REPLY)
		return err_set(e, -EPROTO, NULL, NULL, "a reply, though nothing was asked");
	if (!q)
		return err_set(e, -EOPNOTSUPP, NULL, NULL, "not supported, and not negotiated");
	if (q->needs & ~v->protocol_features)
		return unnegotiated(v, q, e);
	return check_size(q, m->h.size, e);
}

/* Put the request's name before the text, so that whoever reads it knows what the front end did. */
static int named(const struct vhost_msg *m, int code, struct err *e)
{
	char text[sizeof(e->text)], number[32];

	memcpy(text, e->text, sizeof(text));
	return err_set(e, code, NULL, NULL, "%s: %.200s", vhost_msg_name(m->h.request, number), text);
}

int vhost_msg_check_header(const struct vhost *v, const struct vhost_msg *m, struct err *e)
{
	int rc = check_header(v, m, e);

	return rc < 0 ? named(m, rc, e) : 0;
}

/* Descriptors: as many as the table says; where a bit says there is none, none. */
static int check_fds(const struct request *q, const struct vhost_msg *m, struct err *e)
{
	unsigned min = q->fds_min, max = q->fds_max;

	if (q->ring == RING_FD)
		min = max = m->p.u64 & VHOST_VRING_NO_FD ? 0 : 1;
	if (m->n_fds >= min && m->n_fds <= max)
		return 0;
	if (min == max)
		return err_set(e, -EPROTO, NULL, NULL, "%u descriptors, %u are due", m->n_fds, min);
	return err_set(e, -EPROTO, NULL, NULL, "%u descriptors, %u to %u are due", m->n_fds, min, max);
}

static int check_ring(const struct vhost *v, const struct request *q, struct vhost_msg *m, struct err *e)
{
	unsigned index;

	if (q->ring == RING_NONE)
		return 0;
	index = q->ring == RING_STATE ? m->p.state.index : (unsigned)(m->p.u64 & VHOST_VRING_INDEX_MASK);
	if (index >= vhost_n_rings(v))
		return err_set(e, -EPROTO, NULL, NULL, "ring %u of %u", index, vhost_n_rings(v));
	/* virtio 1.2, 5.1.2: without VIRTIO_NET_F_MQ there is one pair, and the control queue comes right behind it. */
	if (v->conf.front_end == VHOST_CROSVM && index == 2 && vhost_acked(v, VIRTIO_NET_F_CTRL_VQ) &&
	    !vhost_acked(v, VIRTIO_NET_F_MQ))
		index = 2 * v->conf.pairs;
	m->ring = index;
	return 0;
}

/* "If back-end detects some error ...": a refusal is told only to those who asked for it by NEED_REPLY; what a front
 * end sets together with REPLY_ACK itself is replied to as well. */
static int acknowledge(const struct vhost *v, struct vhost_msg *m, bool refused, struct err *e)
{
	int rc;

	if (!(m->h.flags & VHOST_FLAG_NEED_REPLY) || !vhost_negotiated(v, VHOST_PF_REPLY_ACK))
		return 0;
	m->p.u64 = refused ? 1 : 0;
	rc = vhost_io_send(v->sock_fd, m, sizeof(m->p.u64));
	return rc < 0 ? err_set(e, rc, NULL, NULL, "its reply cannot be sent: %s", strerror(-rc)) : 0;
}

static int handle(struct vhost *v, const struct request *q, struct vhost_msg *m, struct err *e)
{
	int rc;

	if ((rc = check_fds(q, m, e)) < 0 || (rc = check_ring(v, q, m, e)) < 0)
		return rc;
	rc = q->handle(v, m, e);
	if (rc < 0)
		return rc;
	if (rc == VHOST_REFUSED)
		log_limited(&v->log_limit, LOG_WARN, "%s: %s refused: %s", v->conf.path, q->name, e->text);
	if (!q->replies)
		return acknowledge(v, m, rc == VHOST_REFUSED, e);
	rc = vhost_io_send(v->sock_fd, m, m->reply_bytes);
	return rc < 0 ? err_set(e, rc, NULL, NULL, "its reply cannot be sent: %s", strerror(-rc)) : 0;
}

int vhost_msg_handle(struct vhost *v, struct vhost_msg *m, struct err *e)
{
	int rc = handle(v, find(m->h.request), m, e);

	return rc < 0 ? named(m, rc, e) : 0;
}

int vhost_msg_take_fd(struct vhost_msg *m, unsigned i)
{
	int fd = m->fd[i];

	m->fd[i] = -1;
	return fd;
}

void vhost_msg_reset(struct vhost_msg *m)
{
	for (unsigned i = 0; i < m->n_fds; i++)
		if (m->fd[i] >= 0)
			close(m->fd[i]);
	m->n_fds = 0;
	m->got_bytes = 0;
	m->reply_bytes = 0;
}
