/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fwd/table.h"

/* One batch on its way. Private to fwd. */
struct pass {
	struct fwd *f;
	const struct fwd_table *t;
	struct port *in;
	const struct fwd_port_conf *in_conf;
	unsigned worker;
	struct fwd_work *work;
	uint64_t stamp;
};

/* Send frames to the port @id, in order, as it takes them; what it cannot get is dropped there. @only: they go nowhere
 * else, so they may be merged, and their sender may be told that one is too long. Hot. */
void pass_send(const struct pass *p, unsigned id, struct frame **list, unsigned n, bool only);

/* Tell the sender of @f that it is too long for a port with this @mtu. Hot. */
void pass_tell_too_big(const struct pass *p, const struct frame *f, uint32_t mtu);

/* Frames for one port, as it should see them: tagged, if need be. Hot. */
void pass_hand_over(const struct pass *p, struct port *out, struct frame *const *list, unsigned n);
