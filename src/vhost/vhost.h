/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>

#include "base/access.h"
#include "base/base.h"
#include "base/err.h"
#include "gmem/gmem.h"
#include "virtq/virtq.h"
#include "wire/eth.h"

/* The vhost-user protocol, back-end side (QEMU docs/interop/vhost-user.rst), for one virtio-net device.
 *
 * Thread:  control (libevent) only. Workers see nothing of this but the struct virtq of a ring that runs.
 * Trust:   the front end may send anything. A message that breaks the rules closes the connection with a reason, frees
 *          what it had lent, and harms no other device; a new connection starts clean.
 * Layers:  vhost_sock.c  the socket: listening or connecting, receiving whole messages with their descriptors
 *          vhost_msg.c   one table of requests (sizes, descriptors, reply, handler) and its checks
 *          vhost_*.c     one function for each request
 *          upwards       struct vhost_ops: rings run and halt, the connection comes and goes
 */

/* Virtio feature bits (virtio 1.2, 5.1.3 and 6). */
enum {
	VIRTIO_NET_F_CSUM = 0,
	VIRTIO_NET_F_GUEST_CSUM = 1,
	VIRTIO_NET_F_MTU = 3,
	VIRTIO_NET_F_MAC = 5,
	VIRTIO_NET_F_GUEST_TSO4 = 7,
	VIRTIO_NET_F_GUEST_TSO6 = 8,
	VIRTIO_NET_F_GUEST_ECN = 9,
	VIRTIO_NET_F_HOST_TSO4 = 11,
	VIRTIO_NET_F_HOST_TSO6 = 12,
	VIRTIO_NET_F_HOST_ECN = 13,
	VIRTIO_NET_F_MRG_RXBUF = 15,
	VIRTIO_NET_F_STATUS = 16,
	VIRTIO_NET_F_CTRL_VQ = 17,
	VIRTIO_NET_F_CTRL_RX = 18,
	VIRTIO_NET_F_GUEST_ANNOUNCE = 21,
	VIRTIO_NET_F_MQ = 22,
	VHOST_F_LOG_ALL = 26,
	VIRTIO_F_ANY_LAYOUT = 27,
	VIRTIO_F_INDIRECT_DESC = 28,
	VIRTIO_F_EVENT_IDX = 29,
	VHOST_USER_F_PROTOCOL_FEATURES = 30,
	VIRTIO_F_VERSION_1 = 32,
	VIRTIO_F_RING_PACKED = 34,
	VIRTIO_F_IN_ORDER = 35,
	VIRTIO_NET_F_GUEST_USO4 = 54,
	VIRTIO_NET_F_GUEST_USO6 = 55,
	VIRTIO_NET_F_HOST_USO = 56,
};
#define FEATURE(bit) (UINT64_C(1) << (bit))

/* @features without those that mean nothing, because another bit that they need is not there (virtio 1.2, 5.1.3.1). */
uint64_t vhost_features_sound(uint64_t features);
/* What a feature needs, in the words of the port key `offloads_off` ("guest_csum"); NULL: nothing. */
const char *vhost_feature_needs(unsigned bit);

/* vhost-user protocol feature bits ("Protocol features" in the specification). */
enum {
	VHOST_PF_MQ = 0,
	VHOST_PF_LOG_SHMFD = 1,
	VHOST_PF_RARP = 2,
	VHOST_PF_REPLY_ACK = 3,
	VHOST_PF_NET_MTU = 4,
	VHOST_PF_BACKEND_REQ = 5,
	VHOST_PF_CONFIG = 9,
	VHOST_PF_BACKEND_SEND_FD = 10,
	VHOST_PF_RESET_DEVICE = 13,
	VHOST_PF_CONFIGURE_MEM_SLOTS = 15,
	VHOST_PF_STATUS = 16,
};

/* Who connects: they disagree on what some messages mean (the differences are listed in docs/front-ends.md). */
enum vhost_front_end {
	VHOST_QEMU,             /* and everything that behaves like it: DPDK's virtio-user, libvirt */
	VHOST_CLOUD_HYPERVISOR, /* GET_QUEUE_NUM in rings, not pairs; wants CONFIG */
	VHOST_CROSVM, /* GET_QUEUE_NUM counts all rings, the control queue too, which is forwarded to us; requires CONFIG */
	VHOST_FRONT_END_N
};
const char *vhost_front_end_name(enum vhost_front_end f); /* "qemu", "cloud-hypervisor", "crosvm" */

enum vhost_role { VHOST_LISTEN, VHOST_CONNECT };

#define VHOST_PAIRS_MAX 16
#define VHOST_RINGS_MAX (2 * VHOST_PAIRS_MAX + 1) /* and the control queue */
#define VHOST_RETRY_MS  200 /* connecting role: between two attempts, for ever; both: after a broken rule */

/* What a front end was promised and what it agreed to, for the next flued (design D14): a front end takes a back end
 * that was restarted only if that offers what the guest uses. Plain, part of the state file's layout. */
struct vhost_agreed {
	uint64_t offered, acked;                   /* FEATURE() bits; nothing is offered as long as nobody asked */
	uint64_t protocol_offered, protocol_acked; /* FEATURE() bits of the protocol */
	uint32_t pairs;
	uint32_t front_end; /* enum vhost_front_end */
	uint32_t peer_pid;  /* the process that connected; 0: unknown */
	uint32_t bound;     /* 1: a guest uses this; else the next front end is promised what there is then */
};
static_assert(sizeof(struct vhost_agreed) == 48, "part of the state file's layout");

/* Where it is kept, with the place for the journals of this device's rings (2 * pairs + 1; virtq checks them). */
struct vhost_saved {
	struct vhost_agreed agreed; /* control; ops->save() keeps it */
	struct virtq_journal *journal;
};

struct vhost_conf {
	char path[108];             /* of the Unix socket */
	char group[GROUP_NAME_MAX]; /* listening role: who may connect, beside flued's user; "": nobody */
	enum vhost_role role;
	enum vhost_front_end front_end;
	unsigned pairs;            /* queue pairs offered */
	unsigned mtu;              /* VIRTIO_NET_F_MTU; bytes */
	uint64_t never;            /* FEATURE() bits that are not offered, though we know them; a promise goes before */
	struct mac mac;            /* for front ends that ask us (CONFIG); always valid */
	struct vhost_saved *saved; /* of an earlier life, and for the next one; the owner's. NULL: nothing is kept */
};

struct vhost;

/* What the owner of the device is told. Rings: even = receiveq (we fill it), odd = transmitq, 2 * pairs = control
 * queue (crosvm only, whatever its number is for the guest). A ring runs while it has memory, addresses, size, kick and
 * call; it may run disabled: then nothing may be put into a receiveq, and a transmitq is emptied to nowhere ("Ring
 * states"). */
struct vhost_ops {
	void (*connected)(void *owner);
	/* The connection has ended, every ring was halted before, memory will be unmapped on return. @reason is NULL if
	 * the front end just closed it, else what it did wrong. */
	void (*disconnected)(void *owner, const char *reason);
	/* Start to serve. @vq has been started (virtq_start) and stays valid until ring_halt() returns. @kick_fd is -1
	 * if the ring must be polled; it stays vhost's. */
	int (*ring_run)(void *owner, unsigned ring, struct virtq *vq, int kick_fd, struct err *e);
	/* Stop to serve: when this returns, no worker touches the ring. */
	void (*ring_halt)(void *owner, unsigned ring);
	/* Every ring starts disabled, and is disabled again before `disconnected`; only changes are told. */
	void (*ring_enable)(void *owner, unsigned ring, bool enabled);
	/* Negotiation is done: FEATURE() bits as acknowledged, without those that lack what they need
	 * (vhost_features_sound). Called before the first ring_run and when they change. */
	void (*features)(void *owner, uint64_t features);
	/* VHOST_USER_NET_SET_MTU; nonzero refuses it. */
	int (*mtu)(void *owner, unsigned mtu);
	/* VHOST_USER_SEND_RARP: announce @mac on the guest's behalf. */
	void (*announce)(void *owner, struct mac mac);
	/* Wait until no worker uses what was published before (a call descriptor about to be closed). */
	void (*quiesce)(void *owner);
	/* conf.saved->agreed has changed: keep it. Not called without conf.saved. */
	void (*save)(void *owner);
};

/* Open the socket and serve it from @base's loop until vhost_free(). In the listening role a stale socket file is
 * replaced (one that answers is not: -EADDRINUSE); in the connecting role a missing peer is no error.
 * @owner is passed to @ops. NULL: *e says why. */
struct event_base;
struct vhost *vhost_new(const struct vhost_conf *conf, struct event_base *base, const struct vhost_ops *ops,
			void *owner, struct err *e);

/* Halt the rings, close everything, remove the socket file. No `disconnected` call. NULL is allowed. */
void vhost_free(struct vhost *v);

/* The owner found the guest at fault (a malformed ring, truncated memory): end the connection with @reason, signal the
 * ring's error eventfd if there is one. Leads to ops->disconnected(reason). Not to be called from inside an op. */
void vhost_fail(struct vhost *v, const char *reason);

/* The MTU offered from now on; the front end is told (BACKEND_CONFIG_CHANGE_MSG) if it negotiated CONFIG and
 * BACKEND_REQ. */
void vhost_set_mtu(struct vhost *v, unsigned mtu);

/* For `flue port show`. */
struct vhost_state {
	bool connected;
	uint64_t connects;          /* connections so far */
	bool features_set;          /* the guest's driver, or its firmware, has acknowledged features */
	uint64_t known, never;      /* virtio: all that could be offered, and what is not to be */
	uint64_t offered;           /* to this front end */
	uint64_t features;          /* virtio, acknowledged */
	uint64_t protocol_features; /* acknowledged */
	unsigned rings_running, rings_enabled;
	unsigned n_regions;
	uint64_t memory_bytes;
	bool logging;   /* dirty log on */
	uint8_t status; /* virtio device status as told by SET_STATUS, 0 if never */
};
void vhost_state_get(const struct vhost *v, struct vhost_state *s);
/* The guest's memory, for truncation checks; NULL when not connected. */
const struct gmem *vhost_memory(const struct vhost *v);
