/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>

#include "base/base.h"

/* vhost-user messages over a Unix socket (QEMU docs/interop/vhost-user.rst), for either end. Written independently of
 * src/vhost, so that one does not hide the other's mistakes. */

enum front_request {
	FRONT_GET_FEATURES = 1,
	FRONT_SET_FEATURES = 2,
	FRONT_SET_OWNER = 3,
	FRONT_SET_MEM_TABLE = 5,
	FRONT_SET_VRING_NUM = 8,
	FRONT_SET_VRING_ADDR = 9,
	FRONT_SET_VRING_BASE = 10,
	FRONT_GET_VRING_BASE = 11,
	FRONT_SET_VRING_KICK = 12,
	FRONT_SET_VRING_CALL = 13,
	FRONT_SET_VRING_ERR = 14,
	FRONT_GET_PROTOCOL_FEATURES = 15,
	FRONT_SET_PROTOCOL_FEATURES = 16,
	FRONT_GET_QUEUE_NUM = 17,
	FRONT_SET_VRING_ENABLE = 18,
	FRONT_GET_INFLIGHT_FD = 31,
	FRONT_SET_INFLIGHT_FD = 32,
};

/* Protocol feature bits. */
#define FRONT_PF_MQ             (UINT64_C(1) << 0)
#define FRONT_PF_REPLY_ACK      (UINT64_C(1) << 3)
#define FRONT_PF_INFLIGHT_SHMFD (UINT64_C(1) << 12)

#define FRONT_MSG_VERSION    0x1u
#define FRONT_MSG_REPLY      0x4u
#define FRONT_MSG_NEED_REPLY 0x8u

#define FRONT_REGIONS_MAX 8

struct front_region {
	uint64_t gpa, size, uva, mmap_offset;
};

struct front_state {
	uint32_t index, num;
};

struct front_addr {
	uint32_t index, flags;
	uint64_t desc, used, avail, log;
};

struct front_in_flight {
	uint64_t mmap_size, mmap_offset;
	uint16_t queues, queue_size;
};

struct front_msg {
	uint32_t request, flags, size; /* size: of the payload, bytes */
	union {
		uint64_t u64;
		struct front_state state;
		struct front_addr addr;
		struct front_in_flight in_flight;
		struct {
			uint32_t n, padding;
			struct front_region region[FRONT_REGIONS_MAX];
		} table;
	} p;
	/* beside it */
	int fd[FRONT_REGIONS_MAX];
	unsigned n_fds;
};
#define FRONT_MSG_HEAD 12 /* bytes of it on the wire */
static_assert(offsetof(struct front_msg, p) == 16, "the header and its padding");

/* Send header and payload; @m->fd go along and stay the caller's. 0 or a negative errno. */
int front_msg_send(int sock, const struct front_msg *m) must_check;
/* Receive one message; @m->fd are the caller's then. -ECONNRESET: the other end has closed. -EAGAIN: the socket's
 * receive timeout. -EPROTO: not a message that fits. */
int front_msg_recv(int sock, struct front_msg *m) must_check;
