/* SPDX-License-Identifier: Apache-2.0 */
/* From a batch of received frames to calls of tx: check, learn, look up, deliver.
 *
 * Thread:  the worker that received the batch, or control for frames of our own.
 * Trust:   only heads are looked at, which are copies; a frame is at least ETH_HEAD_BYTES long (port_ops.rx).
 * Order:   frames to one port leave in the order they came, unicast and flooded ones alike.
 */
#include "base/cycles.h"
#include "fwd/finish.h"
#include "fwd/pass.h"

/* Where a frame goes: a port's id, or one of these. */
#define TO_SENT    0xfffd /* it is on its way */
#define TO_FLOOD   0xfffe
#define TO_NOWHERE 0xffff

static uint16_t drop(const struct pass *p, enum drop_reason r)
{
	port_drop(p->in, p->worker, r, 1);
	return TO_NOWHERE;
}

/* Take the tag off and find out the frame's VLAN (IEEE 802.1Q 6.9). DROP_N: fine. */
static enum drop_reason classify_vlan(const struct fwd_port_conf *c, struct frame *f)
{
	uint16_t tci = 0, vid;

	if (be16_get(f->data + ETH_TYPE_OFF) == ETH_P_VLAN) {
		if (f->head_len < ETH_HEAD_BYTES + VLAN_TAG_BYTES)
			return DROP_TOO_SHORT;
		tci = be16_get(f->data + ETH_HEAD_BYTES);
		frame_pop_tag(f);
	}
	f->pcp = tci & (VLAN_PCP_MASK | VLAN_DEI_MASK);
	vid = tci & VLAN_VID_MASK;
	if (vid == VLAN_VID_NONE) { /* untagged, or tagged with a priority only */
		if (c->vid == 0)
			return DROP_VLAN_UNTAGGED;
		f->vlan = c->vid;
		return DROP_N;
	}
	if (!c->trunk)
		return DROP_VLAN_TAGGED;
	if (vid > VID_MAX || !carries(c, vid))
		return DROP_VLAN_DENIED;
	f->vlan = vid;
	return DROP_N;
}

/* May this frame come from this port? DROP_N: yes; *known: its source is known to be here, for this second. */
static enum drop_reason check_source(const struct pass *p, const struct frame *f, uint64_t src, bool *known)
{
	int owner;

	if (unlikely(src == 0 || f->data[6] & 1))
		return DROP_BAD_SOURCE;
	if (p->in_conf->spoof_guard && src != mac_u64(p->in_conf->mac))
		return DROP_MAC_SPOOFED;
	owner = owner_of(p->t, src);
	if (owner >= 0 && owner != p->in->id)
		return DROP_MAC_TAKEN;
	*known = owner >= 0 || fdb_learn(&p->f->fdb, fdb_key(f->vlan, src), (dest_t){p->in->id});
	return DROP_N;
}

/* Group addresses that bridges keep to themselves: IEEE 802.1Q 8.6.3, table 8-1. */
#define LINK_LOCAL_GROUP UINT64_C(0x0180c2000000)

static uint16_t to_group(const struct pass *p, uint64_t dst)
{
	struct port_counters *c = &p->in->counters[p->worker];

	if ((dst & ~UINT64_C(0xf)) == LINK_LOCAL_GROUP)
		return drop(p, DROP_LINK_LOCAL);
	count(dst == UINT64_C(0xffffffffffff) ? &c->rx_broadcast : &c->rx_multicast, 1);
	return TO_FLOOD;
}

/* Is @d in VLAN @vid, now? What was learned may be older than the table: it is forgotten only after the table was
 * published. */
static bool is_member(const struct fwd_table *t, dest_t d, uint16_t vid)
{
	return t->port[d.v] && carries(&t->conf[d.v], vid);
}

static uint16_t look_up(const struct pass *p, uint16_t vid, uint64_t dst)
{
	int owner = owner_of(p->t, dst);
	dest_t d;

	if (owner >= 0 && carries(&p->t->conf[owner], vid))
		d.v = (uint32_t)owner;
	else if (!fdb_lookup(&p->f->fdb, fdb_key(vid, dst), &d) || unlikely(!is_member(p->t, d, vid)))
		return TO_FLOOD;
	if (unlikely(d.v == p->in->id))
		return drop(p, DROP_SAME_PORT);
	return (uint16_t)d.v;
}

/* The way of a frame whose VLAN is known, from the tables. */
static uint16_t find_way(const struct pass *p, struct frame *f, uint64_t src, uint64_t dst, struct fwd_memo *memo)
{
	bool known = false;
	enum drop_reason r = check_source(p, f, src, &known);
	uint16_t to;

	if (unlikely(r != DROP_N))
		return drop(p, r);
	if (f->data[0] & 1)
		return to_group(p, dst);
	to = look_up(p, f->vlan, dst);
	if (known && to < PORTS_MAX)
		*memo = (struct fwd_memo){
			.src = (uint64_t)p->in->id << 48 | src,
			.dst = (uint64_t)f->vlan << 48 | dst,
			.stamp = p->stamp,
			.to = to,
		};
	return to;
}

static inline unsigned memo_slot(uint64_t src, uint64_t dst)
{
	return (unsigned)(((src * 31 ^ dst) * UINT64_C(0x9e3779b97f4a7c15)) >> 32) % FWD_MEMOS;
}

/* The way of one frame; drops are counted at the port it came from. */
static inline uint16_t decide(const struct pass *p, struct frame *f)
{
	enum drop_reason r = classify_vlan(p->in_conf, f);
	struct fwd_memo *memo;
	uint64_t dst, src;

	if (unlikely(r != DROP_N))
		return drop(p, r);
	dst = mac_u64_at(f->data);
	src = mac_u64_at(f->data + 6);
	memo = &p->work->memo[memo_slot(src, dst)];
	if (likely(memo->src == ((uint64_t)p->in->id << 48 | src) && memo->dst == ((uint64_t)f->vlan << 48 | dst) &&
		   memo->stamp == p->stamp))
		return memo->to;
	return find_way(p, f, src, dst, memo);
}

/* All frames of the batch have one destination each: collect and send those with the same. */
static void deliver_unicast(const struct pass *p, struct frame_batch *b, uint16_t *to)
{
	struct frame *list[FRAME_BATCH];
	unsigned sent = 0, n_all = b->n;

	for (unsigned i = 0; sent < n_all; i++) {
		unsigned n = 0, id = to[i];

		if (id == TO_SENT)
			continue;
		for (unsigned j = i; j < n_all; j++)
			if (to[j] == id) {
				list[n++] = &b->f[j];
				to[j] = TO_SENT;
			}
		sent += n;
		if (id != TO_NOWHERE)
			pass_send(p, id, list, n, true);
	}
}

/* A super-frame is dropped that asks for more segments than the batch has left: a kernel that is given it whole cuts it in
 * this thread, and those who share it wait. */
static __attribute__((noinline)) uint16_t if_affordable(const struct pass *p, const struct frame *f, uint16_t to)
{
	unsigned segments = (f->len - f->off.hdr_len - 1) / f->off.gso_size + 1;

	if (to == TO_NOWHERE)
		return to;
	if (segments > p->work->asked_left)
		return drop(p, DROP_BAD_OFFLOAD);
	p->work->asked_left -= segments;
	return to;
}

static bool floods_to(const struct pass *p, unsigned id, const struct frame *f)
{
	return id != p->in->id && carries(&p->t->conf[id], f->vlan) &&
	       atomic_load_explicit(&p->t->port[id]->up, memory_order_relaxed);
}

/* Some frames are flooded: go port by port, so that each port sees its frames in order. */
static void deliver_flooded(const struct pass *p, struct frame_batch *b, const uint16_t *to)
{
	struct frame *list[FRAME_BATCH];
	bool sent[FRAME_BATCH] = {false};

	for (unsigned k = 0; k < p->t->n; k++) {
		unsigned n = 0, flooded = 0, id = p->t->id[k];

		for (unsigned i = 0; i < b->n; i++) {
			bool flood = to[i] == TO_FLOOD && floods_to(p, id, &b->f[i]);

			if (to[i] != id && !flood)
				continue;
			flooded += flood;
			sent[i] = true;
			list[n++] = &b->f[i];
		}
		count(&p->t->port[id]->counters[p->worker].tx_flooded, flooded);
		if (n)
			pass_send(p, id, list, n, false);
	}
	for (unsigned i = 0; i < b->n; i++)
		if (to[i] == TO_FLOOD && !sent[i])
			drop(p, DROP_NO_DESTINATION);
}

void fwd_process(struct fwd *f, struct port *in, struct frame_batch *b, unsigned worker, struct fwd_work *work)
{
	const struct fwd_table *t = atomic_load_explicit(&f->table, memory_order_acquire);
	struct pass p = {
		.f = f,
		.t = t,
		.in = in,
		.in_conf = &t->conf[in->id],
		.worker = worker,
		.work = work,
		.stamp = fwd_stamp(f, t),
	};
	uint16_t to[FRAME_BATCH] = {0};
	bool flood = false;

	if (unlikely(t->port[in->id] != in)) {
		work->decided_cycles = cycles_now();
		port_drop(in, worker, DROP_NO_DESTINATION, b->n);
		return; /* it is leaving the switch */
	}
	work->asked_left = work->cuts_left = CUTS_MAX;
	for (unsigned i = 0; i < b->n; i++) {
		to[i] = decide(&p, &b->f[i]);
		if (unlikely(b->f[i].off.gso_type != NET_HDR_GSO_NONE))
			to[i] = if_affordable(&p, &b->f[i], to[i]);
		flood |= to[i] == TO_FLOOD;
	}
	work->decided_cycles = cycles_now();
	if (likely(!flood))
		deliver_unicast(&p, b, to);
	else
		deliver_flooded(&p, b, to);
}

struct port *fwd_port(struct fwd *f, unsigned id)
{
	return atomic_load_explicit(&f->table, memory_order_acquire)->port[id];
}
