/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/port.h"
#include "vhost/vhost.h"

/* What a guest's driver agreed to of checksums, segmentation and MTU, and why not to the rest: details for
 * `flue port show`. Nothing as long as its driver has not said. Control thread. */
void guest_offload_info(const struct vhost_state *s, unsigned mtu, struct port_info *info);
