/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire_tcp.h"

enum origin { ETH, IP, TCP };

/* One change to the second of two segments that would merge: bits of one byte exchanged. */
struct change {
	const char *why;
	unsigned version;
	enum origin from;
	uint32_t at;
	uint8_t bits;
	enum merge_answer answer;
};

static const struct change changes[] = {
	{"nothing", 4, ETH, 0, 0, MERGE_APPENDED},
	{"nothing", 6, ETH, 0, 0, MERGE_APPENDED},
	{"PSH", 4, TCP, 13, 0x08, MERGE_APPENDED},
	{"PSH", 6, TCP, 13, 0x08, MERGE_APPENDED},
	{"destination MAC, first byte", 4, ETH, 0, 2, MERGE_MISFIT},
	{"destination MAC, last byte", 4, ETH, 5, 1, MERGE_MISFIT},
	{"source MAC, first byte", 4, ETH, 6, 2, MERGE_MISFIT},
	{"source MAC, last byte", 6, ETH, 11, 1, MERGE_MISFIT},
	{"type of service", 4, IP, 1, 0x10, MERGE_MISFIT},
	{"congestion experienced", 4, IP, 1, 3, MERGE_MISFIT},
	{"IP id", 4, IP, 5, 1, MERGE_MISFIT},
	{"IP id, upper half", 4, IP, 4, 1, MERGE_MISFIT},
	{"DF", 4, IP, 6, 0x40, MERGE_MISFIT},
	{"the reserved bit", 4, IP, 6, 0x80, MERGE_MISFIT},
	{"TTL", 4, IP, 8, 1, MERGE_MISFIT},
	{"IPv4 source", 4, IP, 15, 1, MERGE_OTHER},
	{"IPv4 destination", 4, IP, 16, 1, MERGE_OTHER},
	{"traffic class", 6, IP, 0, 1, MERGE_MISFIT},
	{"congestion experienced", 6, IP, 1, 0x30, MERGE_MISFIT},
	{"flow label", 6, IP, 3, 1, MERGE_MISFIT},
	{"hop limit", 6, IP, 7, 1, MERGE_MISFIT},
	{"IPv6 source, first half", 6, IP, 8, 1, MERGE_OTHER},
	{"IPv6 source, second half", 6, IP, 23, 1, MERGE_OTHER},
	{"IPv6 destination, first half", 6, IP, 24, 1, MERGE_OTHER},
	{"IPv6 destination, second half", 6, IP, 39, 1, MERGE_OTHER},
	{"source port", 4, TCP, 1, 1, MERGE_OTHER},
	{"destination port", 6, TCP, 2, 1, MERGE_OTHER},
	{"sequence number, too far", 4, TCP, 7, 1, MERGE_MISFIT},
	{"sequence number, way off", 6, TCP, 4, 0x80, MERGE_MISFIT},
	{"acknowledgement", 4, TCP, 11, 1, MERGE_MISFIT},
	{"acknowledgement, upper half", 6, TCP, 8, 1, MERGE_MISFIT},
	{"header length", 4, TCP, 12, 0x10, MERGE_MISFIT},
	{"header length beyond the frame", 4, TCP, 12, 0xc0, MERGE_MISFIT},
	{"a reserved flag", 4, TCP, 12, 0x01, MERGE_MISFIT},
	{"FIN", 4, TCP, 13, 0x01, MERGE_MISFIT},
	{"SYN", 4, TCP, 13, 0x02, MERGE_MISFIT},
	{"RST", 6, TCP, 13, 0x04, MERGE_MISFIT},
	{"no ACK", 6, TCP, 13, 0x10, MERGE_MISFIT},
	{"URG", 4, TCP, 13, 0x20, MERGE_MISFIT},
	{"ECE", 4, TCP, 13, 0x40, MERGE_MISFIT},
	{"CWR", 6, TCP, 13, 0x80, MERGE_MISFIT},
	{"window", 4, TCP, 15, 1, MERGE_MISFIT},
	{"window, upper half", 6, TCP, 14, 1, MERGE_MISFIT},
	{"urgent pointer without URG", 4, TCP, 19, 1, MERGE_MISFIT},
	{"first option", 4, TCP, 20, 1, MERGE_MISFIT},
	{"last byte of the options", 6, TCP, 31, 1, MERGE_MISFIT},
};

static void only_what_cutting_restores_is_merged(void **state)
{
	static struct merger_frame f[2];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		const struct change *c = &changes[i];
		struct flow h = flow_of(c->version);
		uint32_t from = c->from == ETH ? 0 : c->from == IP ? 14 : tcp_off(c->version);
		struct merge_seg a, b;
		struct merge_run run;

		emit(&h, &f[0], 1000);
		emit(&h, &f[1], 1000);
		f[1].f[from + c->at] ^= c->bits;
		finish(c->version, &f[1]);
		assert_int_equal(look_at(&a, &f[0]), MERGE_SEGMENT);
		assert_int_equal(look_at(&b, &f[1]), MERGE_SEGMENT);
		assert_true(merge_begin(&run, &a));
		if (merge_try(&run, &b) != c->answer || run.is_closed != (c->answer == MERGE_MISFIT || c->bits == 8))
			fail_msg("%s (IPv%u)", c->why, c->version);
		if (run.is_closed)
			assert_int_equal(merge_try(&run, &b), MERGE_MISFIT);
	}
}

/* The same changes in both: what may not be in a run at all is not in its first frame either. */
static void what_may_not_join_may_not_begin(void **state)
{
	static const uint8_t flags[] = {0x11, 0x12, 0x14, 0x00, 0x30, 0x90};
	static struct merger_frame f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct flow h = flow_of(i & 1 ? 4 : 6);
		struct merge_seg m;

		h.flags = flags[i];
		emit(&h, &f, 1000);
		assert_int_equal(look_at(&m, &f), MERGE_SEGMENT);
		assert_false(m.is_data);
	}
}

static void a_flow_with_ece_is_merged(void **state)
{
	static struct merger g;
	struct flow h = flow_of(4);

	(void)state;
	h.flags = ACK | 0x40;
	for (g.n = 0; g.n < 3; g.n++)
		emit(&h, &g.in[g.n], 500);
	merger_run(&g);
	assert_int_equal(g.run[0].count, 3);
	assert_null(merger_check(&g));
}

/* Bytes of a good segment changed, and what it is then taken for. */
static const struct {
	const char *why;
	unsigned version;
	enum origin from;
	uint32_t at;
	uint16_t to;
	int payload, longer; /* bytes of payload; bytes that the frame is longer than that */
	uint32_t head_len;   /* 0: as it is */
	enum merge_look look;
	bool is_data;
} looks[] = {
	{"a segment", 4, ETH, 0, 0, 100, 0, 0, MERGE_SEGMENT, true},
	{"a segment", 6, ETH, 0, 0, 100, 0, 0, MERGE_SEGMENT, true},
	{"one byte", 4, ETH, 0, 0, 1, 0, 0, MERGE_SEGMENT, true},
	{"the options end with the head", 4, ETH, 0, 0, 100, 0, 66, MERGE_SEGMENT, true},
	{"the options do not end in the head", 4, ETH, 0, 0, 100, 0, 65, MERGE_SEGMENT, false},
	{"the options do not end in the head", 6, ETH, 0, 0, 100, 0, 85, MERGE_SEGMENT, false},
	{"a pure ACK", 4, ETH, 0, 0, 0, 0, 0, MERGE_SEGMENT, false},
	{"a pure ACK", 6, ETH, 0, 0, 0, 0, 0, MERGE_SEGMENT, false},
	{"a padded one", 4, ETH, 0, 0, 0, 6, 0, MERGE_SEGMENT, false},
	{"a padded byte", 4, ETH, 0, 0, 1, 5, 0, MERGE_SEGMENT, false},
	{"padding", 6, ETH, 0, 0, 100, 1, 0, MERGE_SEGMENT, false},
	{"an end that is missing", 6, ETH, 0, 0, 100, -1, 0, MERGE_SEGMENT, false},
	{"an end that is missing", 4, ETH, 0, 0, 100, -1, 0, MERGE_SEGMENT, false},
	{"a TCP header of 16 bytes", 4, TCP, 12, 0x4010, 100, 0, 0, MERGE_SEGMENT, false},
	{"a TCP header beyond the packet", 6, TCP, 12, 0xf010, 10, 0, 0, MERGE_SEGMENT, false},
	{"ARP", 4, ETH, 12, 0x0806, 100, 0, 0, MERGE_NOTHING, false},
	{"a tag", 6, ETH, 12, 0x8100, 100, 0, 0, MERGE_NOTHING, false},
	{"UDP over IPv4", 4, IP, 8, 0x4011, 100, 0, 0, MERGE_NOTHING, false},
	{"ICMP", 4, IP, 8, 0x4001, 100, 0, 0, MERGE_NOTHING, false},
	{"UDP over IPv6", 6, IP, 6, 0x1140, 100, 0, 0, MERGE_NOTHING, false},
	{"ICMPv6", 6, IP, 6, 0x3a40, 100, 0, 0, MERGE_NOTHING, false},
	{"no whole IP header", 4, ETH, 0, 0, 100, 0, 33, MERGE_NOTHING, false},
	{"not IPv4", 4, IP, 0, 0x6500, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"IPv4 options", 4, IP, 0, 0x4600, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"a first fragment", 4, IP, 6, 0x2000, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"a last fragment", 4, IP, 6, 0x0001, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"a short last fragment", 4, IP, 6, 0x0001, 0, -24, 0, MERGE_ENDS_ALL, false},
	{"no whole TCP header over IPv4", 4, ETH, 0, 0, 100, 0, 53, MERGE_ENDS_ALL, false},
	{"no whole TCP header over IPv6", 6, ETH, 0, 0, 100, 0, 73, MERGE_ENDS_ALL, false},
	{"a head within the IPv6 header", 6, ETH, 0, 0, 100, 0, 34, MERGE_ENDS_ALL, false},
	{"not IPv6", 6, IP, 0, 0x4000, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"hop-by-hop options", 6, IP, 6, 0x0040, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"a routing header", 6, IP, 6, 0x2b40, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"an IPv6 fragment", 6, IP, 6, 0x2c40, 100, 0, 0, MERGE_ENDS_ALL, false},
	{"destination options", 6, IP, 6, 0x3c40, 100, 0, 0, MERGE_ENDS_ALL, false},
};

static void each_frame_is_taken_for_what_it_is(void **state)
{
	static struct merger_frame f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++) {
		struct flow h = flow_of(looks[i].version);
		uint32_t from = looks[i].from == ETH ? 0 : looks[i].from == IP ? 14 : tcp_off(looks[i].version);
		struct merge_seg m = {.is_data = false};
		enum merge_look look;
		uint32_t head_len;

		emit(&h, &f, (uint32_t)looks[i].payload);
		if (looks[i].at || looks[i].to)
			be16_put(f.f + from + looks[i].at, looks[i].to);
		finish(looks[i].version, &f);
		f.len += (uint32_t)looks[i].longer;
		head_len = looks[i].head_len ? looks[i].head_len : merger_head_len(&f);
		look = merge_look(&m, copy_at_the_edge(f.f, head_len), head_len, f.len);
		if (look != looks[i].look || (look == MERGE_SEGMENT && m.is_data != looks[i].is_data))
			fail_msg("%s (IPv%u): %d %d", looks[i].why, looks[i].version, look, m.is_data);
	}
}

static void a_wrong_ip4_checksum_keeps_a_frame_out(void **state)
{
	static struct merger_frame f[2];

	(void)state;
	for (unsigned wrong = 0; wrong < 2; wrong++) {
		struct flow h = flow_of(4);
		struct merge_seg a, b;
		struct merge_run run;

		emit(&h, &f[0], 1000);
		emit(&h, &f[1], 1000);
		f[wrong].f[24] ^= 0x10;
		assert_int_equal(look_at(&a, &f[0]), MERGE_SEGMENT);
		assert_int_equal(look_at(&b, &f[1]), MERGE_SEGMENT);
		assert_true(merge_begin(&run, &a));
		assert_int_equal(merge_try(&run, &b), MERGE_MISFIT);
	}
}

/* 0xffff is worth as much as 0 in a checksum, but is not what cutting makes. */
static void an_ip4_checksum_of_all_ones_is_not_merged(void **state)
{
	static struct merger_frame f[2];
	struct flow h = flow_of(4);
	struct merge_seg a, b;
	struct merge_run run;

	(void)state;
	emit(&h, &f[0], 1000);
	for (unsigned id = 0; id < 0x10000; id++) {
		be16_put(f[0].f + 18, (uint16_t)id);
		csum_ip4_set(f[0].f + 14, 20);
		if (be16_get(f[0].f + 24) == 0)
			break;
	}
	assert_int_equal(be16_get(f[0].f + 24), 0);
	h.id = (uint16_t)(be16_get(f[0].f + 18) + 1);
	emit(&h, &f[1], 1000);
	look_at(&b, &f[1]);
	look_at(&a, &f[0]);
	assert_true(merge_begin(&run, &a));
	assert_int_equal(merge_try(&run, &b), MERGE_APPENDED);
	be16_put(f[0].f + 24, 0xffff);
	assert_true(merge_begin(&run, &a));
	assert_int_equal(merge_try(&run, &b), MERGE_MISFIT);
}

/* The sizes of segments that follow each other, and how many of them the first run takes. */
static const struct {
	const char *why;
	uint32_t bytes[5];
	unsigned psh; /* index of the segment that has it; 9: none */
	unsigned count;
	bool is_closed;
} rows[] = {
	{"all alike", {1000, 1000, 1000, 1000, 1000}, 9, 5, false},
	{"the last is short", {1000, 1000, 1000, 1000, 1}, 9, 5, true},
	{"a short one is the last", {1000, 1000, 999, 1000, 1000}, 9, 3, true},
	{"a longer one", {1000, 1000, 1001, 1000, 1000}, 9, 2, true},
	{"longer at once", {1000, 1001, 1001, 1000, 1000}, 9, 1, true},
	{"PSH is the last", {1000, 1000, 1000, 1000, 1000}, 2, 3, true},
	{"PSH at the end", {1000, 1000, 1000, 1000, 1000}, 4, 5, true},
	{"PSH begins no run", {1000, 1000, 1000, 1000, 1000}, 0, 0, true},
};

static void sizes_and_psh_end_a_run(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (unsigned version = 4; version <= 6; version += 2) {
			static struct merger g;
			struct flow h = flow_of(version);

			for (g.n = 0; g.n < 5; g.n++) {
				h.flags = g.n == rows[i].psh ? PSH : ACK;
				emit(&h, &g.in[g.n], rows[i].bytes[g.n]);
			}
			merger_run(&g);
			if (g.run[0].count != rows[i].count || g.open[0] == rows[i].is_closed)
				fail_msg("%s: %u", rows[i].why, g.run[0].count);
			if (merger_check(&g))
				fail_msg("%s: %s", rows[i].why, merger_check(&g));
		}
}

static void a_closed_run_takes_nothing_more(void **state)
{
	static const uint32_t bytes[] = {1000, 500, 500};
	static struct merger_frame f[3];
	struct flow h = flow_of(6);
	struct merge_seg m[3];
	struct merge_run run;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		emit(&h, &f[i], bytes[i]);
		look_at(&m[i], &f[i]);
	}
	assert_true(merge_begin(&run, &m[0]));
	assert_int_equal(merge_try(&run, &m[1]), MERGE_APPENDED);
	assert_true(run.is_closed);
	assert_int_equal(merge_try(&run, &m[2]), MERGE_MISFIT);
	assert_int_equal(run.count, 2);
}

/* A run at its limit: one byte more of payload in @first would be too much for the last. */
static void check_longest(unsigned version, uint32_t last_bytes, enum merge_answer answer)
{
	static struct merger_frame f[2];
	struct flow h = flow_of(version);
	struct merge_seg a, b;
	struct merge_run run;

	emit(&h, &f[0], 1960);
	look_at(&a, &f[0]);
	assert_true(merge_begin(&run, &a));
	for (unsigned i = 1; i < 33; i++) {
		emit(&h, &f[1], 1960);
		look_at(&b, &f[1]);
		assert_int_equal(merge_try(&run, &b), MERGE_APPENDED);
	}
	emit(&h, &f[1], last_bytes);
	look_at(&b, &f[1]);
	assert_int_equal(merge_try(&run, &b), answer);
	merge_finish(&run, f[0].f);
	if (answer == MERGE_APPENDED)
		assert_int_equal(merge_frame_bytes(&run), 14 + 65535);
}

static void a_run_is_no_longer_than_ip_can_say(void **state)
{
	(void)state;
	check_longest(4, 65535 - 52 - 33 * 1960, MERGE_APPENDED);
	check_longest(4, 65535 - 52 - 33 * 1960 + 1, MERGE_MISFIT);
	check_longest(6, 65535 - 72 - 33 * 1960, MERGE_APPENDED);
	check_longest(6, 65535 - 72 - 33 * 1960 + 1, MERGE_MISFIT);
}

static void a_run_has_no_more_segments_than_can_be_cut(void **state)
{
	static struct merger_frame f[2];
	struct flow h = flow_of(6);
	struct merge_seg a, b;
	struct merge_run run;

	(void)state;
	emit(&h, &f[0], 1);
	look_at(&a, &f[0]);
	assert_true(merge_begin(&run, &a));
	for (unsigned i = 1; i <= SEG_COUNT_MAX; i++) {
		emit(&h, &f[1], 1);
		look_at(&b, &f[1]);
		assert_int_equal(merge_try(&run, &b), i < SEG_COUNT_MAX ? MERGE_APPENDED : MERGE_MISFIT);
	}
}

static void versions_are_different_flows(void **state)
{
	static struct merger_frame f[2];
	struct flow h4 = flow_of(4), h6 = flow_of(6);
	struct merge_seg a, b;
	struct merge_run run;

	(void)state;
	emit(&h4, &f[0], 1000);
	emit(&h6, &f[1], 1000);
	memcpy(f[1].f + 26, f[0].f + 26, 12); /* the same bytes where IPv4 has its addresses */
	look_at(&a, &f[0]);
	look_at(&b, &f[1]);
	assert_true(merge_begin(&run, &a));
	assert_false(merge_is_ip6(&run));
	assert_int_equal(merge_try(&run, &b), MERGE_OTHER);
	assert_true(merge_begin(&run, &b));
	assert_true(merge_is_ip6(&run));
	assert_int_equal(merge_try(&run, &a), MERGE_OTHER);
}

/* The caller takes is_data back, of a frame that has still to be cut, or whose checksum is not known to be good. */
static void what_the_caller_keeps_out_ends_the_run(void **state)
{
	static struct merger_frame f[2];
	struct flow h = flow_of(4);
	struct merge_seg a, b;
	struct merge_run run;

	(void)state;
	emit(&h, &f[0], 1000);
	emit(&h, &f[1], 1000);
	look_at(&a, &f[0]);
	look_at(&b, &f[1]);
	assert_true(merge_begin(&run, &a));
	b.is_data = false;
	assert_int_equal(merge_try(&run, &b), MERGE_MISFIT);
	assert_true(run.is_closed);
}

static void a_flow_has_one_key_and_others_have_others(void **state)
{
	static struct merger_frame f;
	unsigned hits[16] = {0};

	(void)state;
	for (unsigned version = 4; version <= 6; version += 2)
		for (unsigned port = 1000; port < 1800; port++) {
			struct flow h = flow_of(version);
			struct merge_seg m;
			uint32_t key;

			h.port = port;
			emit(&h, &f, 1000);
			look_at(&m, &f);
			key = merge_key(&m);
			emit(&h, &f, 10);
			look_at(&m, &f);
			assert_int_equal(merge_key(&m), key);
			hits[key >> 28]++;
		}
	for (unsigned i = 0; i < 16; i++)
		assert_in_range(hits[i], 50, 150);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_cutting_restores_is_merged),
		cmocka_unit_test(what_may_not_join_may_not_begin),
		cmocka_unit_test(a_flow_with_ece_is_merged),
		cmocka_unit_test(each_frame_is_taken_for_what_it_is),
		cmocka_unit_test(a_wrong_ip4_checksum_keeps_a_frame_out),
		cmocka_unit_test(an_ip4_checksum_of_all_ones_is_not_merged),
		cmocka_unit_test(sizes_and_psh_end_a_run),
		cmocka_unit_test(a_closed_run_takes_nothing_more),
		cmocka_unit_test(a_run_is_no_longer_than_ip_can_say),
		cmocka_unit_test(a_run_has_no_more_segments_than_can_be_cut),
		cmocka_unit_test(versions_are_different_flows),
		cmocka_unit_test(what_the_caller_keeps_out_ends_the_run),
		cmocka_unit_test(a_flow_has_one_key_and_others_have_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
