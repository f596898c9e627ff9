/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/port.h"
#include "virtq/virtq.h"

/* The guest's port: virtio-net rings on one side (virtio 1.2, 5.1), frames on the other. Which rings there are, and
 * when they run, is told by whoever speaks vhost-user (see main/guest_wire.c).
 *
 * Thread: all functions here run on the control thread; the hot half is in guest_rx_hot.c and guest_tx_hot.c.
 */
struct guest;

/* A port of kind "guest" with @pairs queue pairs, all halted. NULL: no memory. */
struct guest *guest_new(const char *name, unsigned mtu, unsigned pairs, const struct port_host *host);
struct port *guest_port(struct guest *g);
