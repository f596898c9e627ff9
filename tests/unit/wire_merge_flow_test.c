/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire_tcp.h"

/* Cut a long frame of random headers as a sender's NIC would, and see whether merging undoes it. */
static void what_was_cut_comes_together_again(void **state)
{
	static struct merger g;
	static struct merger_frame f;
	static uint8_t merged[MERGER_MERGED_MAX];

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		struct flow h = {.version = round & 1 ? 4 : 6, .port = rnd() & 0xffff, .option_words = rnd_below(11)};
		uint32_t head_len, off, len, head_bytes = tcp_off(h.version) + 20 + 4 * h.option_words;
		struct seg s;

		h.seq = rnd();
		h.id = (uint16_t)rnd();
		h.window = (uint16_t)rnd();
		h.tos = (uint8_t)rnd();
		h.flags = (uint8_t)(ACK | (rnd() & 0x48));
		emit(&h, &f, 2 + rnd_below(1700));
		assert_int_equal(seg_begin(&s, f.f, head_bytes, f.len, h.version == 4 ? SEG_TCP4 : SEG_TCP6,
					   f.len / 40 + rnd_below(f.len)),
				 0);
		for (g.n = 0; seg_next(&s, g.in[g.n].f, &head_len, &off, &len); g.n++) {
			memcpy(g.in[g.n].f + head_len, f.f + off, len);
			g.in[g.n].len = head_len + len;
			finish(h.version, &g.in[g.n]);
		}
		merger_run(&g);
		assert_null(merger_check(&g));
		if (s.count == 1)
			continue;
		assert_int_equal(g.run[0].count, s.count);
		assert_int_equal(merger_join(&g, 0, merged), f.len);
		assert_int_equal(seg_whole(&s, f.f), 0);
		assert_memory_equal(merged, f.f, f.len);
	}
}

/* What a flow does next: mostly more of the same. */
static void emit_something(struct flow *h, struct merger_frame *f)
{
	struct flow before = *h;
	unsigned what = rnd_below(40);

	h->flags = what == 0 ? 0x11 : what == 1 ? PSH : what == 2 ? ACK | 0x40 : what == 3 ? 0x90 : ACK;
	h->window = (uint16_t)(h->window + (what == 4));
	h->tos = (uint8_t)(what == 5 ? 3 : 0);
	h->id = (uint16_t)(h->id + (what == 6 ? 7 : 0));
	emit(h, f, what == 7 ? 0 : what == 8 ? 1 + rnd_below(1200) : 700);
	if (what == 9) /* the next one is sent again */
		*h = before;
	if (what == 10) { /* a fragment */
		f->f[20] = h->version == 4 ? 0x20 : 44;
		finish(h->version, f);
	}
}

/* Of neighbours, some arrive in the other order. */
static void reorder(struct merger *g)
{
	static struct merger_frame f;

	for (unsigned swaps = rnd_below(3); swaps; swaps--) {
		unsigned i = rnd_below(g->n - 1);

		f = g->in[i];
		g->in[i] = g->in[i + 1];
		g->in[i + 1] = f;
	}
}

static void mixed_flows_keep_their_bytes_and_their_order(void **state)
{
	unsigned merged = 0;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		static struct merger g;
		struct flow h[4];
		unsigned flows = 1 + rnd_below(4);

		for (unsigned k = 0; k < flows; k++) {
			h[k] = flow_of(rnd() & 1 ? 4 : 6);
			h[k].port = 1000 + k;
			h[k].seq = rnd();
			h[k].id = (uint16_t)rnd();
		}
		for (g.n = 0; g.n < 40; g.n++)
			emit_something(&h[rnd_below(flows)], &g.in[g.n]);
		reorder(&g);
		merger_run(&g);
		if (merger_check(&g))
			fail_msg("round %u: %s", round, merger_check(&g));
		for (unsigned i = 0; i < g.n; i++)
			merged += g.in[i].run != i;
	}
	assert_true(merged > 40000); /* of 120,000 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_cut_comes_together_again),
		cmocka_unit_test(mixed_flows_keep_their_bytes_and_their_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
