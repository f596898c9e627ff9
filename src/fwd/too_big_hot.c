/* SPDX-License-Identifier: Apache-2.0 */
/* Path MTU discovery across a switch: who sends a packet that is too long for the port it goes to is told by ICMP, in the
 * name of its destination, because a switch has no address (wire/icmp.h). Bounded, for any guest can cause it.
 */
#include "fwd/pass.h"
#include "wire/icmp.h"

#define TOLD_PER_S 100 /* answers to one port, by each worker: many flows can learn, and nobody is flooded */

/* The answers that went to @p->in in this second. */
static uint32_t *told(const struct pass *p)
{
	struct fwd_told *t = &p->work->told[p->in->id];
	uint32_t now_s = (uint32_t)p->stamp;

	if (t->second != now_s)
		*t = (struct fwd_told){.second = now_s};
	return &t->n;
}

void pass_tell_too_big(const struct pass *p, const struct frame *f, uint32_t mtu)
{
	uint8_t answer[FRAME_HEAD_MAX + 64]; /* what is quoted is in the head, and headers go before it */
	struct wire_piece rest;
	struct frame *a = &p->work->room.f[0];

	if (!atomic_load_explicit(&p->in->tell_too_big, memory_order_relaxed) || *told(p) >= TOLD_PER_S)
		return;
	a->len = icmp_too_big(answer, sizeof(answer), f->data, f->head_len, f->len, mtu);
	if (a->len == 0 || a->len > port_bytes_max(p->in))
		return;
	++*told(p); /* not before: what nobody is told of must not use up what others need */
	a->head_len = min_u32(a->len, FRAME_HEAD_MAX);
	memcpy(frame_head_begin(a), answer, a->head_len);
	rest = (struct wire_piece){.p = answer + a->head_len, .len = a->len - a->head_len};
	a->body = &rest;
	a->n_body = rest.len > 0;
	a->vlan = f->vlan;
	a->pcp = f->pcp;
	pass_hand_over(p, p->in, &a, 1);
	p->work->touched.bits[p->in->id / 64] |= UINT64_C(1) << (p->in->id % 64);
}
