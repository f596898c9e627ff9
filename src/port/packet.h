/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/port.h"

/* A port of kind "packet": an existing network interface (a NIC, one end of a veth pair) plugged into the switch through
 * packet sockets. The interface is put into promiscuous mode as long as the port exists, and is left alone otherwise.
 *
 * Thread: control.
 */
struct packet_conf {
	const char *name;
	const char *ifname;
	const char *netns;     /* where the interface is (a name of `ip netns`); "" or NULL: our own */
	unsigned mtu;          /* FRAME_MTU_MIN .. FRAME_MTU_MAX; the interface must carry as much */
	uint32_t offloads_off; /* OFFLOAD_*: the port takes nothing undone that needs these */
};

/* Open the interface. The port serves once its `start` was called. NULL: *e says why; -ENODEV if there is no such
 * interface, -EINVAL if it is not Ethernet or its MTU is less than the port's. */
struct port *packet_new(const struct packet_conf *conf, const struct port_host *host, struct err *e);
