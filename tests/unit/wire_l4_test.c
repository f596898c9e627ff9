/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/l4.h"
#include "wire_frames.h"

static uint32_t csum_offset_of(const struct sample *s)
{
	return s->proto == 6 ? 16 : 6;
}

/* A real frame as a guest hands it over: the field holds anything. Returns its length. */
static uint32_t unfinish(const struct sample *s, uint8_t *f)
{
	uint32_t n = unhex(s->hex, f);

	be16_put(f + s->l4_off + csum_offset_of(s), (uint16_t)rnd());
	return n;
}

static void real_frames_are_completed_however_they_are_cut(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		uint32_t start = s->l4_off, offset = csum_offset_of(s);
		uint8_t whole[128];

		unhex(s->hex, whole);
		for (uint32_t cut = start + (s->proto == 6 ? 20 : 8); cut <= s->bytes; cut++)
			for (uint32_t cut2 = cut; cut2 <= s->bytes; cut2++) {
				uint8_t f[128];
				uint32_t n = unfinish(s, f);
				const struct wire_piece rest[] = {{f + cut, cut2 - cut}, {f + cut2, n - cut2}};

				assert_int_equal(l4_csum_check(f, cut, n, start, offset), 0);
				assert_int_equal(l4_csum_finish(f, cut, rest, 2, start, offset), 0);
				if (memcmp(f, whole, n) != 0)
					fail_msg("%s, cut at %u and %u", s->name, cut, cut2);
			}
	}
}

static void a_frame_in_single_bytes_is_completed(void **state)
{
	const struct sample *s = &samples[7];
	struct wire_piece rest[128];
	uint8_t f[128], whole[128];
	uint32_t n = unfinish(s, f);

	(void)state;
	unhex(s->hex, whole);
	for (uint32_t i = 74; i < n; i++)
		rest[i - 74] = (struct wire_piece){f + i, 1};
	assert_int_equal(l4_csum_finish(f, 74, rest, n - 74, 54, 16), 0);
	assert_memory_equal(f, whole, n);
}

static void ethernet_padding_is_not_summed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		uint8_t f[256], whole[128];
		uint32_t n = unfinish(s, f);
		struct wire_piece rest = {f + n - 2, 2 + 37};

		unhex(s->hex, whole);
		memset(f + n, 0xab, 60);
		assert_int_equal(l4_csum_finish(f, n - 2, &rest, 1, s->l4_off, csum_offset_of(s)), 0);
		assert_memory_equal(f, whole, n);
		unfinish(s, f);
		assert_int_equal(l4_csum_finish(f, n + 15, NULL, 0, s->l4_off, csum_offset_of(s)), 0);
		assert_memory_equal(f, whole, n);
	}
}

static void a_tagged_frame_is_completed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		uint8_t f[256], whole[128];
		uint32_t n = unfinish(s, f);

		unhex(s->hex, whole);
		memmove(f + 16, f + 12, n - 12);
		be32_put(f + 12, 0x81000064);
		assert_int_equal(l4_csum_finish(f, n + 4, NULL, 0, s->l4_off + 4, csum_offset_of(s)), 0);
		assert_memory_equal(f + 16, whole + 12, n - 12);
	}
}

/* Change the last two bytes of the payload so that the checksum comes out as 0. */
static void aim_at_zero(const struct sample *s, uint8_t *f, uint32_t n)
{
	uint16_t sum;

	be16_put(f + s->l4_off + csum_offset_of(s), 0);
	be16_put(f + n - 2, 0);
	sum = slow_l4_sum(s->ip_version, f + 14, (uint8_t)s->proto, f + s->l4_off, n - s->l4_off);
	be16_put(f + n - 2, (uint16_t)~sum);
}

static void a_checksum_of_zero_is_sent_as_all_ones_in_udp_only(void **state)
{
	static const struct {
		unsigned sample;
		uint16_t field;
	} row[] = {{0, 0}, {5, 0}, {3, 0xffff}, {8, 0xffff}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		const struct sample *s = &samples[row[i].sample];
		uint8_t f[128];
		uint32_t n = unhex(s->hex, f);

		aim_at_zero(s, f, n);
		assert_int_equal(l4_csum_finish(f, n, NULL, 0, s->l4_off, csum_offset_of(s)), 0);
		assert_int_equal(be16_get(f + s->l4_off + csum_offset_of(s)), row[i].field);
	}
}

/* What a NIC does with a seed: sum from csum_start on, the field included. */
static uint16_t complete_as_nic(const uint8_t *f, uint32_t start, uint32_t n)
{
	return (uint16_t)~slow_sum(0, f + start, n - start);
}

static void the_seed_is_what_whoever_completes_it_needs(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		uint32_t field = s->l4_off + csum_offset_of(s);
		uint8_t f[256], whole[128];
		uint32_t n = unfinish(s, f);

		unhex(s->hex, whole);
		memset(f + n, 0xab, 60); /* padding does not count */
		assert_int_equal(l4_csum_seed(f, n, n + 60, s->l4_off, csum_offset_of(s)), 0);
		be16_put(f + field, complete_as_nic(f, s->l4_off, n));
		assert_memory_equal(f, whole, n);
	}
}

static void the_seed_needs_only_the_head(void **state)
{
	const struct sample *s = &samples[6];
	uint8_t f[128], head[128];
	uint32_t n = unfinish(s, f);

	(void)state;
	memcpy(head, f, 74);
	assert_int_equal(l4_csum_seed(memcpy(at_the_edge(74), f, 74), 74, n, 54, 16), 0);
	assert_int_equal(l4_csum_seed(f, n, n, 54, 16), 0);
	assert_memory_equal(at_the_edge(74), f, 74);
	assert_memory_not_equal(head, f, 74);
}

/* Where the headers do not tell: inside a tunnel, in other protocols, behind a source route. */
static void a_seed_that_only_the_sender_knows_stays(void **state)
{
	static const struct {
		unsigned sample;
		uint32_t start, offset;
		uint16_t at, to;
	} row[] = {{3, 42, 10, 0, 0}, {1, 34, 2, 22, 0x4001}, {6, 62, 16, 20, 0x2b40}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		uint8_t f[128], before[128];
		uint32_t n = unhex(samples[row[i].sample].hex, f);

		if (row[i].at)
			be16_put(f + row[i].at, row[i].to);
		if (row[i].to == 0x2b40) /* a routing header with a segment left, and TCP behind it */
			be64_put(f + 54, 0x0600000100000000);
		be16_put(f + row[i].start + row[i].offset, 0x1234);
		memcpy(before, f, n);
		assert_int_equal(l4_csum_seed(f, n, n, row[i].start, row[i].offset), 0);
		assert_memory_equal(f, before, n);
	}
}

/* What Linux sends through a VXLAN device: the outer UDP has no checksum, the inner TCP is left to do. */
static void a_frame_inside_a_tunnel_is_completed_with_the_senders_seed(void **state)
{
	uint8_t f[256], outer[50], inner[128];
	uint32_t n = 50;

	(void)state;
	unhex("525400000002 525400000001 0800"
	      "4500 006d 0000 0000 40 11 0000 0a000001 0a000002"
	      "c000 12b5 0059 0000 0800000000000700",
	      outer);
	memcpy(f, outer, 50);
	n += unhex(samples[1].hex, f + n);
	unhex(samples[1].hex, inner);
	be16_put(f + 16, (uint16_t)(n - 14));
	be16_put(outer + 16, (uint16_t)(n - 14));
	be16_put(f + 50 + 34 + 16, slow_l4_sum(4, f + 50 + 14, 6, NULL, 0)); /* without the length ... */
	be16_put(f + 50 + 34 + 16,
		 slow_sum(be16_get(f + 50 + 34 + 16), (const uint8_t[]){0, 39}, 2)); /* ... and with */

	assert_int_equal(l4_csum_finish(f, n, NULL, 0, 50 + 34, 16), 0);
	assert_memory_equal(f, outer, 50);
	assert_memory_equal(f + 50, inner, samples[1].bytes);
}

static void the_destination_of_a_source_route_is_the_senders_to_know(void **state)
{
	uint8_t f[256];
	uint32_t n = unhex("525400000002 525400000001 86dd 60000000 0034 2b 40"
			   "20010db8000000000000000000000001 20010db8000000000000000000000002"
			   "0602 0001 00000000 20010db8000000000000000000000003"
			   "1234 0050 00000001 00000002 5010 ffff 0000 0000 6f646421 21212121",
			   f);
	uint8_t real[40];

	(void)state;
	memcpy(real, f + 14, 40);
	real[39] = 3; /* the header as the final destination will see it */
	be16_put(f + 78 + 16, slow_l4_sum(6, real, 6, NULL, 0));
	be16_put(f + 78 + 16, slow_sum(be16_get(f + 78 + 16), (const uint8_t[]){0, 28}, 2));
	assert_int_equal(l4_csum_finish(f, n, NULL, 0, 78, 16), 0);
	assert_int_equal(slow_l4_sum(6, real, 6, f + 78, 28), 0xffff);
}

/* One change to a good frame at a time, and what becomes of it. */
static const struct {
	unsigned sample;
	uint32_t start, offset;
	uint32_t head_len, frame_len; /* 0: the whole frame */
	uint16_t at, to;              /* 16 bits changed, unless at is 0 */
	int result;
	const char *why;
} requests[] = {
	{1, 34, 16, 0, 0, 0, 0, 0, "as it should be"},
	{1, 34, 16, 54, 0, 0, 0, 0, "the head ends with the TCP header"},
	{1, 34, 16, 52, 0, 0, 0, -EINVAL, "the head ends within the TCP header"},
	{1, 34, 16, 13, 0, 0, 0, -EINVAL, "not even an Ethernet header"},
	{1, 34, 16, 0, 72, 0, 0, -EINVAL, "a head longer than the frame"},
	{1, 73, 16, 0, 0, 0, 0, -EINVAL, "csum_start at the end"},
	{1, 74, 0, 0, 0, 0, 0, -EINVAL, "csum_start beyond the end"},
	{1, 65535, 65535, 0, 0, 0, 0, -EINVAL, "both as far as they go"},
	{1, 0xffffffff, 17, 0, 0, 0, 0, -EINVAL, "a sum that wraps"},
	{1, 34, 0xffffffff, 0, 0, 0, 0, -EINVAL, "another"},
	{1, 34, 38, 0, 0, 0, 0, -EINVAL, "a field that ends one byte beyond"},
	{1, 0, 0, 0, 0, 0, 0, -EINVAL, "the destination MAC"},
	{1, 14, 16, 0, 0, 0, 0, -EINVAL, "the IP destination"},
	{1, 14, 36, 0, 0, 0, 0, -EINVAL, "the right field, from the wrong start"},
	{1, 50, 0, 0, 0, 0, 0, -EINVAL, "the right field, from a later start"},
	{3, 0xfffffff0, 46, 0, 0, 0, 0, -EINVAL, "a sum that wraps to the IP destination"},
	{3, 42, 0xfffffff4, 0, 0, 0, 0, -EINVAL, "the other way around"},
	{1, 34, 0, 0, 0, 0, 0, -EINVAL, "the source port"},
	{1, 34, 6, 0, 0, 0, 0, -EINVAL, "where UDP has it"},
	{1, 54, 0, 0, 0, 0, 0, -EINVAL, "TCP's options"},
	{3, 34, 6, 0, 0, 0, 0, 0, "UDP as it should be"},
	{3, 34, 16, 0, 0, 0, 0, -EINVAL, "where TCP has it"},
	{3, 34, 2, 0, 0, 0, 0, -EINVAL, "the destination port"},
	{3, 41, 0, 0, 0, 0, 0, -EINVAL, "between header and payload"},
	{3, 42, 10, 0, 0, 0, 0, 0, "the last word of a payload, as in a tunnel"},
	{3, 42, 11, 0, 0, 0, 0, -EINVAL, "one byte further"},
	{1, 34, 16, 0, 0, 12, 0x0806, -EINVAL, "not IP"},
	{1, 34, 16, 0, 0, 14, 0x6500, -EINVAL, "not IPv4"},
	{1, 34, 16, 0, 0, 14, 0x4600, -EINVAL, "options where the L4 header should be"},
	{1, 34, 16, 0, 0, 20, 0x2000, -EINVAL, "a first fragment"},
	{1, 34, 16, 0, 0, 20, 0x0001, -EINVAL, "a later fragment"},
	{1, 34, 16, 0, 0, 16, 60, -EINVAL, "claims a byte more than there is"},
	{1, 34, 16, 0, 0, 16, 37, -EINVAL, "claims too little for the field"},
	{1, 34, 16, 0, 0, 16, 38, 0, "claims just enough"},
	{1, 34, 16, 0, 0, 16, 0, -EINVAL, "claims nothing"},
	{1, 34, 16, 0, 0, 22, 0x4084, -EINVAL, "SCTP"},
	{1, 34, 0, 0, 0, 22, 0x4084, -EINVAL, "SCTP's source port"},
	{1, 34, 2, 0, 0, 22, 0x4001, 0, "ICMP"},
	{1, 33, 2, 0, 0, 22, 0x4001, -EINVAL, "ICMP, too early"},
	{6, 54, 16, 0, 0, 0, 0, 0, "IPv6 as it should be"},
	{6, 53, 17, 0, 0, 0, 0, -EINVAL, "the last byte of its header"},
	{6, 54, 16, 0, 0, 18, 40, -EINVAL, "IPv6 claims a byte more"},
	{6, 54, 16, 0, 0, 20, 0x2c40, -EINVAL, "a fragment header that TCP is read as"},
};

static void frames_that_do_not_fit_their_request_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		uint8_t f[128], before[128];
		uint32_t n = unhex(samples[requests[i].sample].hex, f);
		uint32_t head_len = requests[i].head_len ? requests[i].head_len : n;
		struct wire_piece rest = {f + head_len, n - head_len};
		int checked, seeded, finished;

		if (requests[i].at)
			be16_put(f + requests[i].at, requests[i].to);
		memcpy(before, f, sizeof(f));
		checked = l4_csum_check(f, head_len, requests[i].frame_len ? requests[i].frame_len : n,
					requests[i].start, requests[i].offset);
		seeded = l4_csum_seed(f, head_len, requests[i].frame_len ? requests[i].frame_len : n, requests[i].start,
				      requests[i].offset);
		if (seeded != checked || (seeded && memcmp(f, before, sizeof(f)) != 0))
			fail_msg("%s: seed %d", requests[i].why, seeded);
		memcpy(f, before, sizeof(f));
		finished = l4_csum_finish(f, head_len, &rest, 1, requests[i].start, requests[i].offset);
		if (checked != requests[i].result || (!requests[i].frame_len && finished != requests[i].result))
			fail_msg("%s: check %d, finish %d", requests[i].why, checked, finished);
		if (finished)
			assert_memory_equal(f, before, sizeof(f));
	}
}

/* Whatever is asked of whatever frame: either refused and left alone, or one field behind the headers is written. */
static void nothing_else_is_ever_written(void **state)
{
	unsigned accepted = 0;

	(void)state;
	for (unsigned round = 0; round < 300000; round++) {
		const struct sample *s = &samples[round % ARRAY_SIZE(samples)];
		uint8_t f[128], *head;
		uint32_t n = unhex(s->hex, f), head_len, start, field;
		struct wire_piece rest;

		for (unsigned hits = rnd_below(4); hits; hits--)
			f[rnd_below(n)] = (uint8_t)rnd();
		head_len = rnd() & 1 ? n : rnd_below(n + 1);
		start = rnd() & 1 ? s->l4_off : rnd_below(n + 8);
		field = rnd() & 1 ? csum_offset_of(s) : rnd_below(n + 8);
		rest = (struct wire_piece){f + head_len, n - head_len};
		head = at_the_edge(head_len);
		memcpy(head, f, head_len);
		if (l4_csum_finish(head, head_len, &rest, 1, start, field)) {
			assert_memory_equal(head, f, head_len);
			continue;
		}
		accepted++;
		field += start;
		assert_true(start >= 34 && field + 2 <= head_len);
		assert_memory_equal(head, f, field);
		assert_memory_equal(head + field + 2, f + field + 2, head_len - field - 2);
	}
	assert_true(accepted > 30000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_frames_are_completed_however_they_are_cut),
		cmocka_unit_test(a_frame_in_single_bytes_is_completed),
		cmocka_unit_test(ethernet_padding_is_not_summed),
		cmocka_unit_test(a_tagged_frame_is_completed),
		cmocka_unit_test(a_checksum_of_zero_is_sent_as_all_ones_in_udp_only),
		cmocka_unit_test(the_seed_is_what_whoever_completes_it_needs),
		cmocka_unit_test(the_seed_needs_only_the_head),
		cmocka_unit_test(a_seed_that_only_the_sender_knows_stays),
		cmocka_unit_test(a_frame_inside_a_tunnel_is_completed_with_the_senders_seed),
		cmocka_unit_test(the_destination_of_a_source_route_is_the_senders_to_know),
		cmocka_unit_test(frames_that_do_not_fit_their_request_are_refused),
		cmocka_unit_test(nothing_else_is_ever_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
