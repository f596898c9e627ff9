/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <string.h>

#include "wire/l4.h"
#include "wire/merge.h"
#include "wire/seg.h"

/* A batch of frames put through receive coalescing as forwarding does it, and what must hold afterwards. For tests and
 * the fuzzer. */

#define MERGER_FRAMES     64
#define MERGER_FRAME_MAX  2048
#define MERGER_HEAD_MAX   128
#define MERGER_MERGED_MAX 70000

struct merger_frame {
	uint32_t len;
	unsigned run; /* index of the first frame of the run it is part of; its own if it is alone */
	uint8_t f[MERGER_FRAME_MAX];
};

struct merger {
	unsigned n;
	struct merger_frame in[MERGER_FRAMES];
	struct merge_run run[MERGER_FRAMES]; /* begun by the frame of this index, if count > 0 */
	bool open[MERGER_FRAMES];
};

static inline uint32_t merger_head_len(const struct merger_frame *f)
{
	return min_u32(f->len, MERGER_HEAD_MAX);
}

/* Show frame @i to all open runs. True: it was appended to one. */
static inline bool merger_offer(struct merger *g, unsigned i, const struct merge_seg *m)
{
	for (unsigned k = 0; k < i; k++) {
		enum merge_answer answer = g->open[k] ? merge_try(&g->run[k], m) : MERGE_OTHER;

		if (answer == MERGE_OTHER)
			continue;
		g->open[k] = !g->run[k].is_closed;
		if (answer == MERGE_APPENDED)
			g->in[i].run = k;
		return answer == MERGE_APPENDED;
	}
	return false;
}

static inline void merger_run(struct merger *g)
{
	memset(g->open, 0, sizeof(g->open));
	for (unsigned i = 0; i < g->n; i++) {
		struct merge_seg m;
		enum merge_look look = merge_look(&m, g->in[i].f, merger_head_len(&g->in[i]), g->in[i].len);

		g->in[i].run = i;
		g->run[i].count = 0;
		if (look == MERGE_ENDS_ALL)
			memset(g->open, 0, sizeof(g->open));
		if (look == MERGE_SEGMENT && !merger_offer(g, i, &m) && m.is_data)
			g->open[i] = merge_begin(&g->run[i], &m);
	}
}

/* The merged frame that began with frame @k, whole, to @out. Returns its length. */
static inline uint32_t merger_join(const struct merger *g, unsigned k, uint8_t *out)
{
	const struct merge_run *run = &g->run[k];
	uint32_t hdr_bytes = run->first.hdr_bytes, n = hdr_bytes;

	memcpy(out, g->in[k].f, hdr_bytes);
	merge_finish(run, out);
	for (unsigned i = k; i < g->n; i++) {
		if (g->in[i].run != k)
			continue;
		memcpy(out + n, g->in[i].f + hdr_bytes, g->in[i].len - hdr_bytes);
		n += g->in[i].len - hdr_bytes;
	}
	return n;
}

/* Is the next segment of @s, completed, the frame @f byte by byte? */
static inline bool merger_same(struct seg *s, const uint8_t *merged, const struct merger_frame *f)
{
	uint8_t head[MERGER_HEAD_MAX];
	uint32_t head_len, off, len;
	struct wire_piece payload;

	if (!seg_next(s, head, &head_len, &off, &len) || head_len + len != f->len)
		return false;
	payload = (struct wire_piece){merged + off, len};
	return l4_csum_finish(head, head_len, &payload, 1, s->csum_start, s->csum_offset) == 0 &&
	       memcmp(head, f->f, head_len) == 0 && memcmp(merged + off, f->f + head_len, len) == 0;
}

/* Cut the run of frame @k again. What does not hold, or NULL. */
static inline const char *merger_check_run(const struct merger *g, unsigned k)
{
	static uint8_t merged[MERGER_MERGED_MAX], whole[MERGER_HEAD_MAX];
	const struct merge_run *run = &g->run[k];
	uint32_t len = merger_join(g, k, merged);
	struct seg s;

	if (len != merge_frame_bytes(run))
		return "the length of a merged frame";
	if (seg_begin(&s, merged, run->first.hdr_bytes, len, merge_is_ip6(run) ? SEG_TCP6 : SEG_TCP4,
		      merge_gso_bytes(run)) < 0)
		return "a merged frame can be cut";
	if (s.count != run->count || seg_whole(&s, whole) < 0 || memcmp(whole, merged, run->first.hdr_bytes) != 0)
		return "the head of a merged frame is right for whoever cuts it";
	for (unsigned i = k; i < g->n; i++)
		if (g->in[i].run == k && !merger_same(&s, merged, &g->in[i]))
			return "cutting gives the same segments";
	return NULL;
}

/* TCP, or IPv6 with an extension header, behind which it may be. */
static inline bool merger_maybe_tcp(const struct merger_frame *f)
{
	if (be16_get(f->f + 12) == ETH_P_IP4)
		return f->f[23] == 6;
	return f->f[20] == 6 || f->f[20] == 0 || f->f[20] == 43 || f->f[20] == 44 || f->f[20] == 60;
}

/* Of one flow, in one direction? */
static inline bool merger_same_flow(const struct merger_frame *a, const struct merger_frame *b)
{
	bool is_ip4 = be16_get(a->f + 12) == ETH_P_IP4;
	uint32_t ends = is_ip4 ? 38 : 58;

	if (a->len < ends || b->len < ends || be16_get(a->f + 12) != be16_get(b->f + 12))
		return false;
	if (!merger_maybe_tcp(a) || !merger_maybe_tcp(b))
		return false;
	return memcmp(a->f + (is_ip4 ? 26 : 22), b->f + (is_ip4 ? 26 : 22), is_ip4 ? 12 : 36) == 0;
}

/* Does frame @i, merged with what came before frame @j, overtake it? */
static inline bool merger_overtakes(const struct merger *g, unsigned i, unsigned j)
{
	unsigned run_i = g->in[i].run, run_j = g->in[j].run;

	return run_i < run_j && merger_same_flow(&g->in[i], &g->in[j]);
}

/* What does not hold of all that merger_run() did, or NULL. */
static inline const char *merger_check(const struct merger *g)
{
	const char *wrong;

	for (unsigned j = 0; j < g->n; j++) {
		for (unsigned i = j + 1; i < g->n; i++)
			if (merger_overtakes(g, i, j))
				return "nothing overtakes what is of its flow";
		if (g->in[j].run != j || g->run[j].count < 2)
			continue;
		wrong = merger_check_run(g, j);
		if (wrong)
			return wrong;
	}
	return NULL;
}
