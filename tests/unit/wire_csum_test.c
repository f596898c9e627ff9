/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/csum.h"
#include "wire_frames.h"

static uint16_t sum_of(const void *data, size_t bytes)
{
	struct csum c = {0};

	csum_add(&c, data, bytes);
	return csum_seed(&c);
}

/* 0 and 0xffff are the same number in ones' complement; only a sum of nothing but zeros is 0. */
static void known_sums_come_out(void **state)
{
	static const struct {
		const char *hex;
		uint16_t sum;
		const char *why;
	} row[] = {
		{"", 0, "nothing"},
		{"00", 0, "a zero byte"},
		{"01", 0x0100, "an odd byte is the upper half of its word"},
		{"0001f203f4f5f6f7", 0xddf2, "the example of RFC 1071, section 3"},
		{"450000730000400040110000c0a80001c0a800c7", 0x479e, "an IPv4 header whose checksum is b861"},
		{"ffff", 0xffff, "all ones stay all ones"},
		{"ffffffff", 0xffff, "however many"},
		{"ffff0001", 0x0001, "the carry goes around"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		uint8_t data[64];
		uint32_t n = unhex(row[i].hex, data);

		if (sum_of(data, n) != row[i].sum)
			fail_msg("%s: %04x", row[i].why, sum_of(data, n));
	}
}

static void checksums_of_real_frames_verify(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *s = &samples[i];
		uint8_t f[128], *ip = f + 14;
		uint32_t bytes = unhex(s->hex, f);
		uint32_t l4_bytes = bytes - s->l4_off;
		struct csum c;

		assert_int_equal(bytes, s->bytes);
		if (s->ip_version == 4) {
			assert_true(csum_ip4_ok(ip, 20));
			c = csum_pseudo4(ip + 12, ip + 16, (uint8_t)s->proto, l4_bytes);
		} else {
			c = csum_pseudo6(ip + 8, ip + 24, (uint8_t)s->proto, l4_bytes);
		}
		csum_add(&c, f + s->l4_off, l4_bytes);
		if (csum_seed(&c) != 0xffff || csum_done(&c) != 0)
			fail_msg("%s: %04x", s->name, csum_seed(&c));
	}
}

static void every_length_at_every_alignment_agrees_with_the_slow_sum(void **state)
{
	uint8_t data[400];

	(void)state;
	rnd_fill(data, sizeof(data));
	for (uint32_t at = 0; at < 16; at++)
		for (uint32_t n = 0; n + at <= 330; n++)
			assert_int_equal(sum_of(data + at, n), slow_sum(0, data + at, n));
}

static void nothing_behind_the_data_is_read(void **state)
{
	uint8_t data[300];

	(void)state;
	rnd_fill(data, sizeof(data));
	for (uint32_t n = 0; n <= sizeof(data); n++)
		assert_int_equal(sum_of(copy_at_the_edge(data, n), n), slow_sum(0, data, n));
}

static void every_split_in_two_gives_the_same_sum(void **state)
{
	uint8_t data[200];

	(void)state;
	rnd_fill(data, sizeof(data));
	for (uint32_t n = 0; n <= sizeof(data); n++)
		for (uint32_t cut = 0; cut <= n; cut++) {
			struct csum c = {0};

			csum_add(&c, data, cut);
			csum_add(&c, data + cut, n - cut);
			if (csum_seed(&c) != slow_sum(0, data, n))
				fail_msg("%u bytes cut at %u", n, cut);
		}
}

static void every_split_in_three_gives_the_same_sum(void **state)
{
	uint8_t data[72];

	(void)state;
	rnd_fill(data, sizeof(data));
	for (uint32_t cut = 0; cut <= sizeof(data); cut++)
		for (uint32_t cut2 = cut; cut2 <= sizeof(data); cut2++) {
			struct csum c = {0};

			csum_add(&c, data, cut);
			csum_add(&c, data + cut, cut2 - cut);
			csum_add(&c, data + cut2, sizeof(data) - cut2);
			if (csum_seed(&c) != slow_sum(0, data, sizeof(data)))
				fail_msg("cut at %u and %u", cut, cut2);
		}
}

static void random_pieces_behind_a_pseudo_header_give_the_same_sum(void **state)
{
	static uint8_t data[40 + FRAME_MAX];

	(void)state;
	rnd_fill(data, sizeof(data));
	for (unsigned round = 0; round < 300; round++) {
		uint32_t n = rnd_below(FRAME_MAX), off = 0;
		uint8_t proto = (uint8_t)rnd();
		bool v4 = rnd() & 1;
		struct csum c =
			v4 ? csum_pseudo4(data + 12, data + 16, proto, n) : csum_pseudo6(data + 8, data + 24, proto, n);

		while (off < n) {
			uint32_t bytes = 1 + rnd_below(round & 1 ? 50 : 5000);

			bytes = min_u32(bytes, n - off);
			csum_add(&c, data + 40 + off, bytes);
			off += bytes;
		}
		assert_int_equal(csum_seed(&c), slow_l4_sum(v4 ? 4 : 6, data, proto, data + 40, n));
		assert_int_equal(csum_done(&c), (uint16_t)~csum_seed(&c));
	}
}

static void a_copy_is_exact_and_summed(void **state)
{
	uint8_t data[700], out[800];

	(void)state;
	rnd_fill(data, sizeof(data));
	for (uint32_t n = 0; n <= 650; n++) {
		uint32_t at = 1 + n % 40, cut = n ? rnd_below(n) : 0;
		struct csum c = {0};

		memset(out, 0xa5, sizeof(out));
		csum_copy(&c, out + at, copy_at_the_edge(data, n), cut);
		csum_copy(&c, out + at + cut, at_the_edge(n) + cut, n - cut);
		assert_int_equal(csum_seed(&c), slow_sum(0, data, n));
		assert_memory_equal(out + at, data, n);
		for (uint32_t i = 0; i < sizeof(out); i++)
			if ((i < at || i >= at + n) && out[i] != 0xa5)
				fail_msg("%u bytes: byte %u is touched", n, i);
	}
}

static void words_are_added_as_the_bytes_they_are(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 1000; round++) {
		struct csum c = {0};
		uint8_t data[6];

		rnd_fill(data, sizeof(data));
		csum_add16(&c, be16_get(data));
		csum_add32(&c, be32_get(data + 2));
		assert_int_equal(csum_seed(&c), slow_sum(0, data, sizeof(data)));
	}
}

static void carries_are_never_lost(void **state)
{
	size_t bytes = 64 << 20;
	uint8_t *data = malloc(bytes);
	struct csum c = {0};

	(void)state;
	assert_non_null(data);
	memset(data, 0xff, bytes);
	assert_int_equal(sum_of(data, bytes), 0xffff);
	data[bytes - 1] = 0xfe; /* all ones is zero: what remains is the last word, less one */
	assert_int_equal(sum_of(data, bytes), 0xfffe);
	free(data);

	for (unsigned i = 0; i < 1000001; i++)
		csum_add(&c, "\xff", 1);
	assert_int_equal(csum_seed(&c), 0xff00);
}

static void an_ip4_header_gets_its_checksum(void **state)
{
	uint8_t ip[60];

	(void)state;
	unhex("45000073000040004011ffffc0a80001c0a800c7", ip); /* whatever was in the field before */
	assert_false(csum_ip4_ok(ip, 20));
	csum_ip4_set(ip, 20);
	assert_int_equal(be16_get(ip + 10), 0xb861);
	assert_true(csum_ip4_ok(ip, 20));
	for (uint32_t ihl_bytes = 20; ihl_bytes <= 60; ihl_bytes += 4) {
		rnd_fill(ip, sizeof(ip));
		csum_ip4_set(ip, ihl_bytes);
		assert_int_equal(slow_sum(0, ip, ihl_bytes), 0xffff);
		assert_true(csum_ip4_ok(ip, ihl_bytes));
		ip[rnd_below(ihl_bytes)] ^= 0x10;
		assert_false(csum_ip4_ok(ip, ihl_bytes));
	}
}

static void an_update_equals_a_new_checksum(void **state)
{
	(void)state;
	assert_int_equal(csum_update16(0xdd2f, 0x5555, 0x3285), 0); /* RFC 1624, section 4 */
	for (unsigned round = 0; round < 20000; round++) {
		uint8_t data[8];
		uint16_t before, from, to = (uint16_t)rnd();

		rnd_fill(data, sizeof(data));
		before = (uint16_t)~slow_sum(0, data, sizeof(data));
		from = be16_get(data + 2);
		be16_put(data + 2, to);
		assert_int_equal(csum_update16(before, from, to), (uint16_t)~slow_sum(0, data, sizeof(data)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_sums_come_out),
		cmocka_unit_test(checksums_of_real_frames_verify),
		cmocka_unit_test(every_length_at_every_alignment_agrees_with_the_slow_sum),
		cmocka_unit_test(nothing_behind_the_data_is_read),
		cmocka_unit_test(every_split_in_two_gives_the_same_sum),
		cmocka_unit_test(every_split_in_three_gives_the_same_sum),
		cmocka_unit_test(random_pieces_behind_a_pseudo_header_give_the_same_sum),
		cmocka_unit_test(a_copy_is_exact_and_summed),
		cmocka_unit_test(words_are_added_as_the_bytes_they_are),
		cmocka_unit_test(carries_are_never_lost),
		cmocka_unit_test(an_ip4_header_gets_its_checksum),
		cmocka_unit_test(an_update_equals_a_new_checksum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
