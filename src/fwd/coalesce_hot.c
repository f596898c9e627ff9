/* SPDX-License-Identifier: Apache-2.0 */
#include "fwd/coalesce.h"

#include "wire/csum.h"
#include "wire/merge.h"

#define RUNS_N 16 /* looked for at once; a power of two */
#define NO_ONE 0xff

/* A run that can still grow, and the frames in it. */
struct open_run {
	struct merge_run run;
	uint8_t first, last; /* in the list; first is NO_ONE: there is no run */
	bool verified;       /* the first one's checksum is known to be good */
};

/* All of it: run by run where it ends, and the frames of each, which follow each other by next[]. */
struct merging {
	struct frame **list;
	uint32_t takes;
	struct wire_piece *room;
	unsigned n_pieces, n_promised; /* used, and to be used when all runs have ended */
	struct open_run open[RUNS_N];
	uint8_t next[FRAME_BATCH]; /* of the same run; NO_ONE: the last one */
	bool gone[FRAME_BATCH];    /* it is part of another now */
};

/* ---- what may be merged ---- */

static bool csum_is_good(const struct frame *f, const struct merge_seg *m)
{
	uint32_t l4_bytes = m->hdr_bytes - m->tcp_off + (uint32_t)m->payload_bytes;
	const uint8_t *ip = f->data + ETH_HEAD_BYTES;
	struct csum c;

	if (f->off.flags)
		return true; /* verified by who gave it to us, or not complete yet */
	if (m->tcp_off == ETH_HEAD_BYTES + IP4_HEAD_MIN)
		c = csum_pseudo4(ip + IP4_SRC_OFF, ip + IP4_DST_OFF, IPPROTO_TCP, l4_bytes);
	else
		c = csum_pseudo6(ip + IP6_SRC_OFF, ip + IP6_DST_OFF, IPPROTO_TCP, l4_bytes);
	csum_add(&c, f->data + m->tcp_off, f->head_len - m->tcp_off);
	for (unsigned i = 0; i < f->n_body; i++)
		csum_add(&c, f->body[i].p, f->body[i].len);
	return csum_seed(&c) == 0xffff;
}

/* May this segment begin a run, or join one? */
static bool may_take_part(const struct merging *g, const struct frame *f, const struct merge_seg *m)
{
	uint32_t needs = m->tcp_off == ETH_HEAD_BYTES + IP4_HEAD_MIN ? OFFLOAD_TSO4 : OFFLOAD_TSO6;

	return f->off.gso_type == NET_HDR_GSO_NONE && !(needs & ~g->takes);
}

/* ---- runs ---- */

static void lend(struct merging *g, const uint8_t *p, uint32_t len)
{
	if (len)
		g->room[g->n_pieces++] = (struct wire_piece){.p = p, .len = len};
}

/* The bodies of a run's frames one after the other, each but the first with what of it is in its head. */
static void join_bodies(struct merging *g, const struct open_run *r)
{
	struct frame *f = g->list[r->first];
	unsigned begin = g->n_pieces;

	for (unsigned i = r->first; i != NO_ONE; i = g->next[i]) {
		const struct frame *part = g->list[i];

		if (part != f)
			lend(g, part->data + r->run.first.hdr_bytes, part->head_len - r->run.first.hdr_bytes);
		for (unsigned k = 0; k < part->n_body; k++)
			lend(g, part->body[k].p, part->body[k].len);
	}
	f->body = &g->room[begin];
	f->n_body = (uint16_t)(g->n_pieces - begin);
}

/* The run has ended. If it is more than a frame, make it one. */
static void end_run(struct merging *g, struct open_run *r)
{
	struct frame *f;

	if (r->first == NO_ONE || r->run.count == 1) {
		r->first = NO_ONE;
		return;
	}
	f = g->list[r->first];
	join_bodies(g, r);
	merge_finish(&r->run, f->data);
	f->len = merge_frame_bytes(&r->run);
	f->off = (struct frame_offload){
		.flags = NET_HDR_F_NEEDS_CSUM,
		.gso_type = merge_is_ip6(&r->run) ? NET_HDR_GSO_TCPV6 : NET_HDR_GSO_TCPV4,
		.gso_size = merge_gso_bytes(&r->run),
		.hdr_len = r->run.first.hdr_bytes,
		.csum_start = r->run.first.tcp_off,
		.csum_offset = TCP_CSUM_OFF,
		.is_ip6 = merge_is_ip6(&r->run),
	};
	r->first = NO_ONE;
}

static void begin_run(struct merging *g, struct open_run *r, const struct merge_seg *m, unsigned i)
{
	end_run(g, r);
	if (m->is_data && merge_begin(&r->run, m)) {
		r->first = r->last = (uint8_t)i;
		r->verified = false;
	}
}

/* Segment @i fits behind the last one of the run: is there room for it, and are the checksums good? */
static bool may_join(const struct merging *g, struct open_run *r, const struct merge_seg *m, unsigned i,
		     unsigned pieces)
{
	if (g->n_promised + pieces > FWD_MERGED_PIECES)
		return false;
	r->verified = r->verified || csum_is_good(g->list[r->first], &r->run.first);
	return r->verified && csum_is_good(g->list[i], m);
}

/* Pieces that the body of the run grows by. */
static unsigned pieces_for(const struct merging *g, const struct open_run *r, unsigned i, bool is_second)
{
	return g->list[i]->n_body + 1u + (is_second ? g->list[r->first]->n_body : 0u);
}

static void join(struct merging *g, struct open_run *r, const struct merge_run *before, const struct merge_seg *m,
		 unsigned i)
{
	unsigned pieces = pieces_for(g, r, i, before->count == 1);

	if (!may_join(g, r, m, i, pieces)) {
		r->run = *before;
		begin_run(g, r, m, i);
		return;
	}
	g->n_promised += pieces;
	g->next[r->last] = (uint8_t)i;
	g->next[i] = NO_ONE;
	g->gone[i] = true;
	r->last = (uint8_t)i;
	if (r->run.is_closed)
		end_run(g, r);
}

static bool is_of_vlan(const struct frame *a, const struct frame *b)
{
	return a->vlan == b->vlan && a->pcp == b->pcp;
}

/* Show segment @i to the run in its place. A run that was there for another flow makes way. */
static void add(struct merging *g, const struct merge_seg *m, unsigned i)
{
	struct open_run *r = &g->open[merge_key(m) / (UINT32_MAX / RUNS_N + 1)];
	struct merge_run before;
	enum merge_answer a = MERGE_MISFIT;

	if (r->first == NO_ONE) {
		begin_run(g, r, m, i);
		return;
	}
	before = r->run;
	if (is_of_vlan(g->list[r->first], g->list[i]))
		a = merge_try(&r->run, m);
	if (a == MERGE_APPENDED)
		join(g, r, &before, m, i);
	else if (a == MERGE_MISFIT || m->is_data)
		begin_run(g, r, m, i);
}

static void end_all(struct merging *g)
{
	for (unsigned k = 0; k < RUNS_N; k++)
		end_run(g, &g->open[k]);
}

static unsigned leave_out_gone(const struct merging *g, unsigned n)
{
	unsigned left = 0;

	for (unsigned i = 0; i < n; i++)
		if (!g->gone[i])
			g->list[left++] = g->list[i];
	return left;
}

unsigned coalesce(struct frame **list, unsigned n, uint32_t takes, struct wire_piece room[FWD_MERGED_PIECES])
{
	struct merging g = {.list = list, .takes = takes, .room = room};
	struct merge_seg m;

	if (!(takes & (OFFLOAD_TSO4 | OFFLOAD_TSO6)))
		return n;
	for (unsigned k = 0; k < RUNS_N; k++)
		g.open[k].first = NO_ONE;
	for (unsigned i = 0; i < n; i++) {
		enum merge_look look = merge_look(&m, list[i]->data, list[i]->head_len, list[i]->len);

		if (likely(look == MERGE_NOTHING))
			continue;
		if (look == MERGE_ENDS_ALL) {
			end_all(&g);
			continue;
		}
		m.is_data &= may_take_part(&g, list[i], &m);
		g.next[i] = NO_ONE;
		add(&g, &m, i);
	}
	end_all(&g);
	return leave_out_gone(&g, n);
}
