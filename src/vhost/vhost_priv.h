/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "base/log.h"
#include "vhost/vhost.h"
#include "vhost/vhost_wire.h"

/* Private to vhost: one device, its connection and its rings. Everything here belongs to the control thread, except a
 * ring's vq, which belongs to its worker while the ring runs. */

/* Ring states ("Ring states" in the specification). A ring is
 *   ready    once it has everything it needs (vhost_ring.c: missing());
 *   running  while somebody serves it: started as soon as it is ready, halted by GET_VRING_BASE, and for the moment in
 *            which something it depends on changes;
 *   enabled  by SET_VRING_ENABLE, or by SET_FEATURES without VHOST_USER_F_PROTOCOL_FEATURES; independent of the rest.
 */
struct vhost_ring {
	struct virtq vq; /* valid while running */
	uint16_t num;    /* entries; 0: not told yet */
	uint32_t base;   /* where it stood when it was halted, or SET_VRING_BASE's word */
	bool has_base;   /* one of the two has happened */
	bool has_run;    /* on this connection */
	bool told;       /* GET_VRING_BASE was answered on this connection: SET_VRING_BASE is believed from now on */
	uva_t desc, avail, used;
	gpa_t used_log;
	bool log_used;
	bool has_addr, has_kick, has_call; /* kick and call may be set to "no descriptor" */
	bool enabled, running;
	int kick_fd, call_fd, err_fd; /* ours; -1: none */
};

/* One message, while it arrives and while it is handled. */
struct vhost_msg {
	struct vhost_wire_header h;
	union vhost_wire_payload p;
	uint32_t got_bytes; /* of header and payload */
	unsigned n_fds;
	int fd[VHOST_FDS_MAX]; /* closed after the message unless taken: see vhost_msg_take_fd() */

	unsigned ring;        /* for handlers of requests about one ring: checked, below vhost_n_rings() */
	uint32_t reply_bytes; /* by handlers of requests with a reply of their own: how much of p is the reply */
};

struct vhost {
	/* constant after vhost_new(), but for conf.mtu */
	struct vhost_conf conf;
	struct event_base *base;
	const struct vhost_ops *ops;
	void *owner;

	/* the socket (vhost_sock.c) */
	int listen_fd;  /* -1 in the connecting role */
	dev_t file_dev; /* of the socket file we made, so that we remove no other */
	ino_t file_ino;
	struct event *accept_event; /* listening role */
	struct event *pause_event;  /* timer: the next attempt to connect, or to accept again */
	int connect_errno;          /* what the last attempt to connect said, to log a change only */
	uint64_t connects;
	struct log_limit log_limit;

	/* the connection; sock_fd is -1 and the rest is empty when there is none */
	int sock_fd;
	struct event *sock_event;
	struct vhost_msg msg;
	struct gmem *mem;
	uint64_t offered, protocol_offered; /* for as long as it lasts: vhost_saved_begin() */
	uint64_t features;
	uint64_t protocol_features;
	bool features_set;  /* SET_FEATURES has been seen */
	bool config_untold; /* the configuration space has changed, and the front end does not know */
	uint8_t status;
	int backend_fd; /* SET_BACKEND_REQ_FD; -1: none */
	struct vhost_ring ring[VHOST_RINGS_MAX];
};

/* Rings the front end may name: the control queue only where it is forwarded to us. */
static inline unsigned vhost_n_rings(const struct vhost *v)
{
	return 2 * v->conf.pairs + (v->conf.front_end == VHOST_CROSVM ? 1 : 0);
}

static inline bool vhost_negotiated(const struct vhost *v, unsigned protocol_bit)
{
	return v->protocol_features & FEATURE(protocol_bit);
}

static inline bool vhost_acked(const struct vhost *v, unsigned feature_bit)
{
	return v->features & FEATURE(feature_bit);
}

/* ---- vhost_sock.c: both roles ---- */

int vhost_sock_open(struct vhost *v, struct err *e) must_check;
void vhost_sock_close(struct vhost *v);
/* Nothing more is heard from this front end; after a modest pause, or at once, the next one may come. */
void vhost_sock_drop(struct vhost *v, bool pause);

/* ---- vhost_io.c: messages on a connection ---- */

/* Receive what is there and handle each complete message; ends the connection if need be. A libevent callback. */
void vhost_io_readable(int fd, short what, void *vhost);
/* Send @m's header and the first @bytes of its payload. -EAGAIN: the peer does not read; or another negative errno. */
int vhost_io_send(int fd, struct vhost_msg *m, uint32_t bytes) must_check;
/* Close the descriptors that nobody took, and be ready for the next message. */
void vhost_msg_reset(struct vhost_msg *m);
/* The message's descriptor @i becomes the caller's. */
int vhost_msg_take_fd(struct vhost_msg *m, unsigned i);

/* ---- vhost_msg.c: the table of requests ---- */

/* What to do after a message, apart from 0 and a negative errno (which ends the connection). */
#define VHOST_REFUSED 1 /* well-formed, but we do not do it: the front end is told if it asked */

/* Check a header as soon as it has arrived: before its payload is waited for. */
int vhost_msg_check_header(const struct vhost *v, const struct vhost_msg *m, struct err *e) must_check;
/* Check and handle a complete message, and reply. Negative: the connection must end; e->text names the request. */
int vhost_msg_handle(struct vhost *v, struct vhost_msg *m, struct err *e) must_check;
/* "SET_VRING_NUM", or "request 77". */
const char *vhost_msg_name(uint32_t request, char text[32]);

/* ---- vhost.c ---- */

/* A front end is there / has gone. @reason: NULL, or what it did wrong. */
int vhost_begin(struct vhost *v, struct err *e) must_check;
void vhost_end(struct vhost *v, const char *reason);

/* ---- vhost_saved.c: what is kept for the next flued, and what the last one kept ---- */

/* A front end is there: decide what it is offered. */
void vhost_saved_begin(struct vhost *v);
/* Features were acknowledged. */
void vhost_saved_update(struct vhost *v);
/* The device was reset: no guest uses it. */
void vhost_saved_reset(struct vhost *v);
/* The connection ends; the rings have not been halted yet. */
void vhost_saved_end(struct vhost *v);
/* For ring @i; NULL if nothing is kept. */
struct virtq_journal *vhost_saved_journal(const struct vhost *v, unsigned i);

/* ---- vhost_ring.c: what rings do ---- */

void vhost_ring_init(struct vhost_ring *r);
/* Run ring @i if it is ready and does not run yet. Negative: the front end asked for the impossible. */
int vhost_ring_try(struct vhost *v, unsigned i, struct err *e) must_check;
void vhost_ring_halt(struct vhost *v, unsigned i);
/* The same for all rings. */
int vhost_rings_try(struct vhost *v, struct err *e) must_check;
void vhost_rings_halt(struct vhost *v);
void vhost_ring_enable(struct vhost *v, unsigned i, bool enabled);
void vhost_rings_enable(struct vhost *v, bool enabled);
/* Halt and disable every ring and forget all that was said of it. */
void vhost_rings_reset(struct vhost *v);
/* Are all three parts of the ring in mapped memory? */
bool vhost_ring_mapped(const struct vhost *v, const struct vhost_ring *r);
/* Add one to an eventfd; no effect for -1. */
void vhost_signal(int fd);

/* ---- handlers; each in the file its comment names. 0, VHOST_REFUSED or a negative errno with e->text filled ---- */

typedef int vhost_handler(struct vhost *v, struct vhost_msg *m, struct err *e);

/* vhost_feature.c: what was agreed. The first two: all that this build could offer to a front end like this one. */
uint64_t vhost_features_known(const struct vhost *v);
uint64_t vhost_protocol_known(const struct vhost *v);
vhost_handler vhost_get_features, vhost_set_features, vhost_get_protocol_features, vhost_set_protocol_features;
vhost_handler vhost_set_owner, vhost_reset_owner, vhost_reset_device, vhost_get_queue_num;
vhost_handler vhost_set_status, vhost_get_status;

/* vhost_mem.c: guest memory and the dirty log */
vhost_handler vhost_set_mem_table, vhost_add_mem_reg, vhost_rem_mem_reg, vhost_get_max_mem_slots;
vhost_handler vhost_set_log_base, vhost_set_log_fd;

/* vhost_vring.c: what is said of a ring */
vhost_handler vhost_set_vring_num, vhost_set_vring_addr, vhost_set_vring_base, vhost_get_vring_base;
vhost_handler vhost_set_vring_kick, vhost_set_vring_call, vhost_set_vring_err, vhost_set_vring_enable;

/* vhost_net.c: the network device */
vhost_handler vhost_send_rarp, vhost_net_set_mtu, vhost_get_config, vhost_set_config, vhost_set_backend_req_fd;
/* Tell the front end that the configuration has changed, if it has and if it may be told now. */
void vhost_config_tell(struct vhost *v);
