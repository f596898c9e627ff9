/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/port.h"
#include "virtq/virtq.h"

/* The guest's port: virtio-net rings on one side (virtio 1.2, 5.1), frames on the other. Which rings there are, and
 * when they run, it is told by whoever speaks vhost-user to the front end (wired up in main).
 *
 * Thread: all functions here run on the control thread; the hot halves are guest_rx_hot.c and guest_tx_hot.c.
 */
struct guest;

/* The other end of the wiring: the vhost-user device behind this port. */
struct guest_link {
	void *arg;
	void (*fail)(void *arg, const char *reason);     /* the guest broke the rules: end the connection */
	void (*info)(void *arg, struct port_info *info); /* add details for users */
	void (*set_mtu)(void *arg, unsigned mtu);
	const struct gmem *(*memory)(void *arg); /* NULL if there is none */
	void (*free)(void *arg);                 /* close it; rings are halted in the course of this */
};

/* A port of kind "guest" with @pairs queue pairs, all halted. NULL: no memory. */
struct guest *guest_new(const char *name, unsigned mtu, unsigned pairs, const struct port_host *host);
struct port *guest_port(struct guest *g);
/* Before the port joins the switch. */
void guest_set_link(struct guest *g, const struct guest_link *link);

/* What happened on the link; the rules are those of vhost_ops. Rings: 2k = receiveq k (we tx into it), 2k + 1 =
 * transmitq k (we rx from it), 2 * pairs = the control queue. */
void guest_connected(struct guest *g);
void guest_disconnected(struct guest *g, const char *reason);
/* What follows from the virtio features that were acknowledged. */
struct guest_agreed {
	bool mrg_rxbuf;     /* several buffers for a frame (virtio 1.2, 5.1.6.3.1) */
	bool long_header;   /* of 12 rather than 10 bytes (5.1.6.1) */
	uint32_t may_leave; /* OFFLOAD_*: what the guest may leave undone in what it sends (5.1.6.2) */
	uint32_t takes;     /* OFFLOAD_*: what may be left undone in what it receives (5.1.6.3) */
};
/* Its rings are halted. */
void guest_features(struct guest *g, const struct guest_agreed *agreed);
int guest_ring_run(struct guest *g, unsigned ring, struct virtq *vq, int kick_fd, struct err *e);
void guest_ring_halt(struct guest *g, unsigned ring);
void guest_ring_enable(struct guest *g, unsigned ring, bool enabled);
/* Tell the switch, and the network behind its uplinks, that @mac is here now (a RARP broadcast, as QEMU sends it). */
void guest_announce(struct guest *g, struct mac mac);
/* The front end asks for this MTU; -EINVAL if it is above the port's. */
int guest_check_mtu(const struct guest *g, unsigned mtu);
