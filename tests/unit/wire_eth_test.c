/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/eth.h"

static void addresses_are_read_strictly(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t value;
	} row[] = {
		{"52:54:00:12:34:56", 0, 0x525400123456},
		{"00:00:00:00:00:00", 0, 0},
		{"ff:ff:ff:ff:ff:ff", 0, 0xffffffffffff},
		{"aB:Cd:eF:01:23:89", 0, 0xabcdef012389},
		{"", -EINVAL, 0},
		{"52:54:00:12:34", -EINVAL, 0},
		{"52:54:00:12:34:5", -EINVAL, 0},
		{"52:54:00:12:34:567", -EINVAL, 0},
		{"52:54:00:12:34:56 ", -EINVAL, 0},
		{" 52:54:00:12:34:56", -EINVAL, 0},
		{"52:54:00:12:34:56:78", -EINVAL, 0},
		{"52-54-00-12-34-56", -EINVAL, 0},
		{"52:54:00:12:34-56", -EINVAL, 0},
		{"525400123456", -EINVAL, 0},
		{"5254.0012.3456", -EINVAL, 0},
		{"5g:54:00:12:34:56", -EINVAL, 0},
		{"52:54:00:12:34:5:", -EINVAL, 0},
		{"+2:54:00:12:34:56", -EINVAL, 0},
		{"0x:54:00:12:34:56", -EINVAL, 0},
		{"5:254:00:12:34:56", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct mac m = mac_from_u64(0x020304050607);
		int result = mac_parse(row[i].text, &m);

		if (result != row[i].result)
			fail_msg("\"%s\": %d", row[i].text, result);
		assert_int_equal(mac_u64(m), result ? 0x020304050607 : row[i].value);
	}
}

static void addresses_are_written_in_lower_case(void **state)
{
	char text[MAC_TEXT_BYTES];

	(void)state;
	assert_string_equal(mac_format(mac_from_u64(0xABCDEF012389), text), "ab:cd:ef:01:23:89");
	assert_string_equal(mac_format(mac_from_u64(0), text), "00:00:00:00:00:00");
}

static void what_is_written_is_read_back(void **state)
{
	(void)state;
	for (uint64_t bit = 0; bit < 48; bit++) {
		char text[MAC_TEXT_BYTES];
		struct mac m;

		assert_int_equal(mac_parse(mac_format(mac_from_u64(UINT64_C(1) << bit), text), &m), 0);
		assert_int_equal(mac_u64(m), UINT64_C(1) << bit);
	}
}

static void the_number_has_the_first_byte_on_top(void **state)
{
	const struct mac m = {{1, 2, 3, 4, 5, 6}};

	(void)state;
	assert_int_equal(mac_u64(m), 0x010203040506);
	assert_memory_equal(mac_from_u64(UINT64_C(0xffff010203040506)).b, m.b, 6);
}

static void kinds_of_addresses_are_told_apart(void **state)
{
	static const struct {
		uint64_t value;
		bool multicast, broadcast, zero;
	} row[] = {
		{0x525400123456, false, false, false},
		{0x0180c2000000, true, false, false},
		{0x333300000001, true, false, false},
		{0xffffffffffff, true, true, false},
		{0xffffffffff7f, true, false, false},
		{0, false, false, true},
		{1, false, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct mac m = mac_from_u64(row[i].value);

		assert_int_equal(mac_is_multicast(m), row[i].multicast);
		assert_int_equal(mac_is_broadcast(m), row[i].broadcast);
		assert_int_equal(mac_is_zero(m), row[i].zero);
		assert_true(mac_equal(m, m));
		assert_false(mac_equal(m, mac_from_u64(row[i].value ^ 0x800000000000)));
		assert_false(mac_equal(m, mac_from_u64(row[i].value ^ 1)));
	}
}

static void a_frame_shows_its_addresses(void **state)
{
	static const uint8_t head[ETH_HEAD_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x86, 0xdd};

	(void)state;
	assert_int_equal(mac_u64(eth_dst(head)), 0x010203040506);
	assert_int_equal(mac_u64(eth_src(head)), 0x0708090a0b0c);
	assert_int_equal(be16_get(head + ETH_TYPE_OFF), ETH_P_IP6);
}

static void numbers_are_big_endian_at_any_address(void **state)
{
	static const uint8_t wire[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	(void)state;
	for (unsigned at = 0; at < 8; at++) {
		uint8_t room[16] = {0};

		be64_put(room + at, UINT64_C(0x0102030405060708));
		assert_memory_equal(room + at, wire, 8);
		assert_int_equal(be64_get(room + at), UINT64_C(0x0102030405060708));
		assert_int_equal(be32_get(room + at), 0x01020304);
		assert_int_equal(be16_get(room + at), 0x0102);
		be32_put(room + at, 0x05060708);
		assert_memory_equal(room + at, wire + 4, 4);
		be16_put(room + at, 0x0304);
		assert_memory_equal(room + at, wire + 2, 2);
		assert_memory_equal(room + at + 4, wire + 4, 4);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_read_strictly),
		cmocka_unit_test(addresses_are_written_in_lower_case),
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(the_number_has_the_first_byte_on_top),
		cmocka_unit_test(kinds_of_addresses_are_told_apart),
		cmocka_unit_test(a_frame_shows_its_addresses),
		cmocka_unit_test(numbers_are_big_endian_at_any_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
