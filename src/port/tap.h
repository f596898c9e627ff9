/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/port.h"

/* A port of kind "tap": an Ethernet interface of the host (or of one of its namespaces) plugged into the switch. The
 * interface is made with the port and goes with it.
 *
 * Thread: control.
 */
struct tap_conf {
	const char *name;
	const char *ifname;    /* of the interface to make */
	const char *netns;     /* make it in this namespace (a name of `ip netns`); "" or NULL: our own */
	unsigned mtu;          /* FRAME_MTU_MIN .. FRAME_MTU_MAX; the kernel may have a lower limit */
	uint32_t offloads_off; /* OFFLOAD_*: not to be used, in neither direction */
};

/* Make the interface, up and with its MTU. The port serves once its `start` was called. NULL: *e says why; -EEXIST if
 * there is an interface of that name. */
struct port *tap_new(const struct tap_conf *conf, const struct port_host *host, struct err *e);
