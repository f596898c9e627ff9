/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "vhost/vhost.h"
#include "vhost/vhost_wire.h"

/* For the tests of vhost: a device with an owner that writes down what it is told, a front end at the other end of its
 * socket that says what the test wants, and a little guest memory. One thread: the device's loop turns while the front
 * end waits. Failures are cmocka's. */

#define FRONT_GPA   UINT64_C(0x40000000)
#define FRONT_UVA   UINT64_C(0x7f0000000000)
#define FRONT_BYTES UINT64_C(0x200000) /* of guest memory, one region */

struct front {
	struct event_base *base;
	struct vhost *v;
	char dir[64];
	struct vhost_conf conf;
	int sock; /* the front end's end; -1: none */

	/* guest memory */
	int mem_fd;
	uint8_t *mem;

	/* what the owner was told since it was last looked at, "; " between */
	char told[4096];
	unsigned mtu_max;                  /* the owner refuses more */
	bool ring_run_fails;               /* the owner cannot serve a ring */
	struct virtq *vq[VHOST_RINGS_MAX]; /* running ones */
	int kick_fd[VHOST_RINGS_MAX];      /* of running ones */
	uint64_t features;
	unsigned saves; /* how often it was to keep conf.saved */
};

/* A device that listens (or connects) at a path of its own, and nobody connected. @pairs queue pairs, MTU 1500,
 * MAC 52:54:00:00:00:01. */
void front_start(struct front *f, enum vhost_front_end kind, enum vhost_role role, unsigned pairs);
/* The device is freed and made again, of f->conf as it is now: flued was stopped and started. */
void front_restart(struct front *f);
/* Frees everything. The device's told text is not looked at. */
void front_stop(struct front *f);

/* Connect, and let the device accept. */
void front_connect(struct front *f);
/* Close our end, and let the device notice. */
void front_hang_up(struct front *f);
/* Connect, and send SET_OWNER, SET_PROTOCOL_FEATURES and SET_FEATURES with what the device offers (not LOG_ALL). */
void front_negotiate(struct front *f);
/* Let the device do what there is to do. */
void front_turn(struct front *f);
/* The same for @ms. */
void front_wait(struct front *f, long ms);

/* Bytes as they are, @n_fds descriptors with the first one. The device has seen them when this returns. */
void front_bytes(struct front *f, const void *bytes, size_t len, const int *fd, unsigned n_fds);
/* A message. @flags without the version. */
void front_send(struct front *f, enum vhost_request r, uint32_t flags, const void *payload, uint32_t bytes,
		const int *fd, unsigned n_fds);
void front_plain(struct front *f, enum vhost_request r);
void front_u64(struct front *f, enum vhost_request r, uint64_t v);
void front_state(struct front *f, enum vhost_request r, uint32_t index, uint32_t num);
/* SET_VRING_KICK, _CALL, _ERR; -1: the "no descriptor" bit. @fd stays the caller's. */
void front_vring_fd(struct front *f, enum vhost_request r, uint32_t index, int fd);
void front_addr(struct front *f, const struct vhost_wire_addr *a);
/* SET_MEM_TABLE with the one region there is. */
void front_table(struct front *f);
struct vhost_wire_region front_region(void);
/* Where ring @i lies in guest memory: 256 entries; log at the used ring's guest-physical address. */
struct vhost_wire_addr front_ring_addr(unsigned i);
struct vring_used *front_used(struct front *f, unsigned i);
/* NUM, ADDR, CALL and KICK for ring @i with eventfds; those are returned if the pointers are not NULL, else closed. */
void front_ring(struct front *f, unsigned i, int *kick, int *call);

/* The reply to @r: its payload's size, at most @max bytes of it are copied. Fails if there is none. */
uint32_t front_reply(struct front *f, enum vhost_request r, void *payload, uint32_t max);
uint64_t front_reply_u64(struct front *f, enum vhost_request r);
/* Nothing has been sent to us. */
void front_no_reply(struct front *f);
/* Has the device closed the connection? (Unread replies are thrown away.) */
bool front_closed(struct front *f);

/* What the owner was told since the last time is exactly @text. */
void front_told(struct front *f, const char *text);
/* The same, without looking. */
void front_forget(struct front *f);
/* The owner was told of a disconnection whose reason contains @part; nothing else is looked at. */
void front_blamed(struct front *f, const char *part);

/* What an eventfd counts, reset by this. */
uint64_t front_count(int eventfd);
/* Descriptors this process has open. */
unsigned front_open_fds(void);
int front_eventfd(void);
