/* SPDX-License-Identifier: Apache-2.0 */
/* Frames for one port: merged, completed or cut as it takes them, tagged as it wants them.
 *
 * Thread:  as fwd_hot.c.
 * Order:   as in the list. Segments of a frame take its place; a merged frame stands where its first segment stood.
 */
#include <errno.h>

#include "fwd/coalesce.h"
#include "fwd/finish.h"
#include "fwd/pass.h"

/* On a trunk, all but the native VLAN is sent tagged. */
static bool leaves_tagged(const struct fwd_port_conf *c, const struct frame *f)
{
	return c->trunk && f->vlan != c->vid;
}

/* Frames for one port, as it should see them. */
void pass_hand_over(const struct pass *p, struct port *out, struct frame *const *list, unsigned n)
{
	const struct fwd_port_conf *c = &p->t->conf[out->id];

	for (unsigned i = 0; c->trunk && i < n; i++)
		if (leaves_tagged(c, list[i]))
			frame_push_tag(list[i], list[i]->pcp | list[i]->vlan);
	out->ops->tx(out, list, n, p->worker);
	for (unsigned i = 0; c->trunk && i < n; i++)
		if (list[i]->tagged)
			frame_pop_tag(list[i]);
}

/* Can @out be given @f as it is? */
static inline bool is_ready(const struct port *out, const struct frame *f, uint32_t bytes_max)
{
	if (likely(!f->off.flags))
		return f->len <= bytes_max;
	return frame_longest(f) <= bytes_max &&
	       !(frame_needs(f) & ~atomic_load_explicit(&((struct port *)out)->takes, memory_order_relaxed));
}

/* Do for @out what it does not do with a super-frame: cut it, and send it. */
static enum drop_reason send_cut(const struct pass *p, struct port *out, const struct frame *f, uint32_t bytes_max)
{
	bool csum = !(atomic_load_explicit(&out->takes, memory_order_relaxed) & OFFLOAD_CSUM);
	struct frame_batch *room = &p->work->room;
	struct frame *list[FRAME_BATCH];
	struct cut c;
	int err = cut_begin(&c, f, bytes_max);

	if (err)
		return err == -EMSGSIZE ? DROP_TOO_BIG : DROP_BAD_OFFLOAD;
	if (c.seg.count > p->work->cuts_left)
		return DROP_QUEUE_FULL;
	p->work->cuts_left -= c.seg.count;
	for (unsigned n; (n = cut_next(&c, room, csum));) {
		for (unsigned i = 0; i < n; i++)
			list[i] = &room->f[i];
		pass_hand_over(p, out, list, n);
	}
	return DROP_N;
}

/* Some frames cannot be sent as they are: finish them or drop them, in order. */
static __attribute__((noinline)) void send_unready(const struct pass *p, struct port *out, struct frame *const *list,
						   unsigned n, uint32_t bytes_max, bool only)
{
	unsigned begin = 0;

	for (unsigned i = 0; i < n; i++) {
		struct frame *f = list[i];
		enum drop_reason r = f->len > bytes_max ? DROP_TOO_BIG : DROP_BAD_OFFLOAD;

		if (is_ready(out, f, bytes_max))
			continue;
		if (f->off.gso_type == NET_HDR_GSO_NONE && f->len <= bytes_max && finish_csum(f) == 0)
			continue;
		if (i > begin)
			pass_hand_over(p, out, list + begin, i - begin);
		begin = i + 1;
		if (f->off.gso_type != NET_HDR_GSO_NONE)
			r = send_cut(p, out, f, bytes_max);
		if (r != DROP_N)
			port_drop(out, p->worker, r, 1);
		if (r == DROP_TOO_BIG && only)
			pass_tell_too_big(p, f, bytes_max - ETH_HEAD_BYTES);
	}
	if (n > begin)
		pass_hand_over(p, out, list + begin, n - begin);
}

void pass_send(const struct pass *p, unsigned id, struct frame **list, unsigned n, bool only)
{
	struct port *out = p->t->port[id];
	uint32_t bytes_max = port_bytes_max(out);
	bool ready = true;

	if (!atomic_load_explicit(&out->up, memory_order_relaxed)) {
		port_drop(out, p->worker, DROP_PORT_DOWN, n);
		return;
	}
	if (only && n > 1 && atomic_load_explicit(&p->in->coalesce, memory_order_relaxed))
		n = coalesce(list, n, atomic_load_explicit(&out->takes, memory_order_relaxed), p->work->merged);
	for (unsigned i = 0; i < n; i++)
		ready &= is_ready(out, list[i], bytes_max);
	if (likely(ready))
		pass_hand_over(p, out, list, n);
	else
		send_unready(p, out, list, n, bytes_max, only);
	p->work->touched.bits[id / 64] |= UINT64_C(1) << (id % 64);
}
