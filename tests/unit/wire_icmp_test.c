/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/csum.h"
#include "wire/eth.h"
#include "wire/icmp.h"
#include "wire_frames.h"

/* Packets of 3,000 bytes, as far as they are in the head, and the answers, computed by hand. */
#define UDP4                                                                                                           \
	"525400000002 525400000001 0800 45000bb8123440004011 98fd c0000201 c0000202 "                                  \
	"1234 0035 0ba4 beef 66697273746279746573"
#define TCP6                                                                                                           \
	"525400000002 525400000001 86dd 60076e65 0b90 06 40 "                                                          \
	"20010db8000000000000000000000001 20010db8000000000000000000000002 "                                           \
	"90280050 00000001 f19886bb 5010 003f 1234 0000 616263"
#define IP4_ENDS     "c0000201 c0000202 "
#define IP6_ENDS     "20010db8000000000000000000000001 20010db8000000000000000000000002 "
#define FRAME_BYTES4 (14 + 3000)
#define FRAME_BYTES6 (14 + 40 + 2960)

static const struct {
	const char *packet, *answer;
	uint32_t frame_len, mtu;
} known[] = {
	{UDP4,
	 "525400000001 525400000002 0800 45c00042000040004001 b5f7 c0000202 c0000201 "
	 "0304 edfb 0000 05dc 45000bb8123440004011 98fd c0000201 c0000202 "
	 "1234 0035 0ba4 beef 66697273746279746573",
	 FRAME_BYTES4, 1500},
	{TCP6,
	 "525400000001 525400000002 86dd 60000000 0047 3a 40 "
	 "20010db8000000000000000000000002 20010db8000000000000000000000001 "
	 "0200 31a3 00000500 60076e65 0b90 06 40 "
	 "20010db8000000000000000000000001 20010db8000000000000000000000002 "
	 "90280050 00000001 f19886bb 5010 003f 1234 0000 616263",
	 FRAME_BYTES6, 1280},
};

static void answers_are_as_computed_by_hand(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		uint8_t head[128], expected[256], out[256];
		uint32_t head_len = unhex(known[i].packet, head), n = unhex(known[i].answer, expected);

		assert_int_equal(icmp_too_big(out, sizeof(out), copy_at_the_edge(head, head_len), head_len,
					      known[i].frame_len, known[i].mtu),
				 n);
		assert_memory_equal(out, expected, n);
	}
}

static uint32_t answer_to(const char *packet, uint32_t head_len, uint32_t frame_len, uint8_t *out, uint32_t out_size)
{
	uint8_t head[4000];

	memset(head, 0x5a, sizeof(head));
	unhex(packet, head);
	return icmp_too_big(out, out_size, head, head_len, frame_len, 1400);
}

static void answers_are_no_longer_than_their_protocol_wants(void **state)
{
	uint8_t out[2000];

	(void)state;
	assert_int_equal(answer_to(UDP4, 3014, 3014, out, sizeof(out)), 14 + 576);
	assert_int_equal(be16_get(out + 16), 576);
	assert_int_equal(answer_to(TCP6, 3014, 3014, out, sizeof(out)), ICMP_ANSWER_MAX);
	assert_int_equal(be16_get(out + 18), 1280 - 40);
	assert_int_equal(slow_l4_sum(6, out + 14, 58, out + 54, 1240), 0xffff);
}

static void answers_fit_into_the_room_there_is(void **state)
{
	(void)state;
	for (uint32_t room = 0; room < 200; room++) {
		uint32_t n4 = answer_to(UDP4, 128, FRAME_BYTES4, at_the_edge(room), room);
		uint32_t n6 = answer_to(TCP6, 128, FRAME_BYTES6, at_the_edge(room), room);

		/* two IP headers, ICMP's, and 8 bytes of L4 */
		assert_int_equal(n4, room < 14 + 20 + 8 + 28 ? 0 : min_u32(room, 14 + 20 + 8 + 114));
		assert_int_equal(n6, room < 14 + 40 + 8 + 48 ? 0 : min_u32(room, 14 + 40 + 8 + 114));
	}
}

static void tagged_frames_are_not_answered(void **state)
{
	uint8_t head[128], out[256];
	uint32_t n = unhex(UDP4, head);

	(void)state;
	memmove(head + 16, head + 12, n - 12);
	assert_int_not_equal(icmp_too_big(out, sizeof(out), memmove(head + 4, head, 12), n, FRAME_BYTES4, 1500), 0);
	unhex("525400000002 525400000001 81000001", head);
	assert_int_equal(icmp_too_big(out, sizeof(out), head, n + 4, FRAME_BYTES4 + 4, 1500), 0);
}

static void padding_is_not_quoted(void **state)
{
	uint8_t head[256], out[256];

	(void)state;
	memset(head, 0, sizeof(head));
	unhex(UDP4, head);
	be16_put(head + 16, 100);
	csum_ip4_set(head + 14, 20);
	assert_int_equal(icmp_too_big(out, sizeof(out), head, 200, 200, 90), 14 + 28 + 100);
}

/* A byte or two of a packet changed, and whether it is answered still. */
static const struct {
	const char *why;
	unsigned version;
	uint32_t at; /* from the first byte of the frame */
	const char *to;
	uint32_t mtu;
	bool answered;
} packets[] = {
	{"UDP", 4, 0, "", 1500, true},
	{"TCP over IPv6", 6, 0, "", 1500, true},
	{"with DF", 4, 20, "40", 1500, true},
	{"without DF, which we do not cut either", 4, 20, "00", 1500, true},
	{"a first fragment", 4, 20, "20", 1500, true},
	{"a later fragment", 4, 20, "0001", 1500, false},
	{"the last fragment", 4, 20, "1fff", 1500, false},
	{"a first fragment over IPv6", 6, 20, "2c 40 " IP6_ENDS "11000001", 1500, true},
	{"a later fragment over IPv6", 6, 20, "2c 40 " IP6_ENDS "11000008", 1500, false},
	{"within the MTU", 4, 0, "", 3000, false},
	{"a byte too long", 4, 0, "", 2999, true},
	{"within the MTU over IPv6", 6, 0, "", 3000, false},
	{"a byte too long over IPv6", 6, 0, "", 2999, true},
	{"less than any host believes", 4, 0, "", 67, false},
	{"the least of IPv4", 4, 0, "", 68, true},
	{"less than IPv6 needs", 6, 0, "", 1279, false},
	{"the least of IPv6", 6, 0, "", 1280, true},
	{"ARP", 4, 12, "0806", 1500, false},
	{"802.3", 4, 12, "0400", 1500, false},
	{"not IPv4", 4, 14, "65", 1500, false},
	{"not IPv6", 6, 14, "40", 1500, false},
	{"a header of 16 bytes", 4, 14, "44", 1500, false},
	{"options beyond the head", 4, 14, "4f", 1500, false},
	{"longer than its frame", 4, 16, "0bb9", 1500, false},
	{"longer than its frame over IPv6", 6, 18, "0b91", 1500, false},
	{"to a group's MAC", 4, 0, "01005e000001", 1500, false},
	{"to all", 4, 0, "ffffffffffff", 1500, false},
	{"to no MAC", 4, 0, "000000000000", 1500, false},
	{"from a group's MAC", 6, 6, "333300000001", 1500, false},
	{"from no MAC", 6, 6, "000000000000", 1500, false},
	{"from no address", 4, 26, "00000000", 1500, false},
	{"from this network", 4, 26, "00000001", 1500, false},
	{"from a loopback address", 4, 26, "7f000001", 1500, false},
	{"from a group", 4, 26, "e0000001", 1500, false},
	{"from a broadcast", 4, 26, "ffffffff", 1500, false},
	{"to no address", 4, 30, "00000000", 1500, false},
	{"to a loopback address", 4, 30, "7f000001", 1500, false},
	{"to a group", 4, 30, "e0000001", 1500, false},
	{"to a reserved address", 4, 30, "f0000001", 1500, false},
	{"to the broadcast", 4, 30, "ffffffff", 1500, false},
	{"the last of addresses", 4, 30, "dfffffff", 1500, true},
	{"from no address over IPv6", 6, 22, "00000000000000000000000000000000", 1500, false},
	{"from ::1", 6, 22, "00000000000000000000000000000001", 1500, false},
	{"from ::2", 6, 22, "00000000000000000000000000000002", 1500, true},
	{"from a group over IPv6", 6, 22, "ff02", 1500, false},
	{"to no address over IPv6", 6, 38, "00000000000000000000000000000000", 1500, false},
	{"to ::1", 6, 38, "00000000000000000000000000000001", 1500, false},
	{"to a group over IPv6", 6, 38, "ff02", 1500, false},
	{"link-local", 6, 22, "fe80", 1500, true},
	{"ICMP", 4, 23, "01 0000 " IP4_ENDS "08", 1500, true},
	{"an echo's reply", 4, 23, "01 0000 " IP4_ENDS "00", 1500, true},
	{"a time stamp", 4, 23, "01 0000 " IP4_ENDS "0d", 1500, true},
	{"its reply", 4, 23, "01 0000 " IP4_ENDS "0e", 1500, true},
	{"unreachable", 4, 23, "01 0000 " IP4_ENDS "03", 1500, false},
	{"source quench", 4, 23, "01 0000 " IP4_ENDS "04", 1500, false},
	{"redirect", 4, 23, "01 0000 " IP4_ENDS "05", 1500, false},
	{"time exceeded", 4, 23, "01 0000 " IP4_ENDS "0b", 1500, false},
	{"parameter problem", 4, 23, "01 0000 " IP4_ENDS "0c", 1500, false},
	{"an ICMP nobody knows", 4, 23, "01 0000 " IP4_ENDS "2a", 1500, false},
	{"ICMPv6 echo", 6, 20, "3a 40 " IP6_ENDS "80", 1500, true},
	{"its errors begin", 6, 20, "3a 40 " IP6_ENDS "00", 1500, false},
	{"too big itself", 6, 20, "3a 40 " IP6_ENDS "02", 1500, false},
	{"its errors end", 6, 20, "3a 40 " IP6_ENDS "7f", 1500, false},
	{"redirect over IPv6", 6, 20, "3a 40 " IP6_ENDS "89", 1500, false},
};

static void only_what_rfcs_allow_is_answered(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
		uint32_t frame_len = packets[i].version == 4 ? FRAME_BYTES4 : FRAME_BYTES6;
		uint8_t head[128] = {0}, out[256];

		unhex(packets[i].version == 4 ? UDP4 : TCP6, head);
		unhex(packets[i].to, head + packets[i].at);
		if (packets[i].version == 4 && head[14] == 0x45)
			csum_ip4_set(head + 14, 20);
		if ((icmp_too_big(out, sizeof(out), head, packets[i].version == 4 ? 72 : 96, frame_len,
				  packets[i].mtu) != 0) != packets[i].answered)
			fail_msg("%s (IPv%u)", packets[i].why, packets[i].version);
	}
}

static void a_wrong_checksum_or_a_short_head_is_not_answered(void **state)
{
	uint8_t head[128], out[256];
	uint32_t n = unhex(UDP4, head);

	(void)state;
	assert_int_not_equal(icmp_too_big(out, sizeof(out), head, 42, FRAME_BYTES4, 1500), 0);
	assert_int_equal(icmp_too_big(out, sizeof(out), head, 41, FRAME_BYTES4, 1500), 0);
	assert_int_equal(icmp_too_big(out, sizeof(out), head, 13, FRAME_BYTES4, 1500), 0);
	assert_int_equal(icmp_too_big(out, sizeof(out), head, n, 10, 1500), 0); /* a frame shorter than its head */
	head[24] ^= 1;
	assert_int_equal(icmp_too_big(out, sizeof(out), head, n, FRAME_BYTES4, 1500), 0);
}

/* Whatever comes in: what goes out is sound, and never an answer to an answer. */
static void check_answer(const uint8_t *head, const uint8_t *out, uint32_t n)
{
	uint8_t again[ICMP_ANSWER_MAX];
	bool is_ip4 = be16_get(out + 12) == ETH_P_IP4;
	uint32_t l4 = is_ip4 ? 34 : 54;

	assert_memory_equal(out, head + 6, 6);
	assert_memory_equal(out + 6, head, 6);
	assert_memory_equal(out + l4 + 8, head + 14, n - l4 - 8);
	if (is_ip4) {
		assert_int_equal(slow_sum(0, out + 14, 20), 0xffff);
		assert_int_equal(slow_sum(0, out + l4, n - l4), 0xffff);
	} else {
		assert_int_equal(slow_l4_sum(6, out + 14, 58, out + l4, n - l4), 0xffff);
	}
	assert_int_equal(icmp_too_big(again, sizeof(again), out, n, n, 68), 0);
}

static void any_answer_is_sound(void **state)
{
	unsigned answers = 0;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		uint8_t head[128], out[ICMP_ANSWER_MAX];
		uint32_t n, bytes = unhex(known[round & 1].packet, head), head_len = rnd() & 1 ? bytes : rnd_below(128);

		rnd_fill(head + bytes, sizeof(head) - bytes);
		for (unsigned hits = rnd_below(4); hits; hits--)
			head[rnd_below(bytes)] = (uint8_t)rnd();
		if (!(round & 1) && rnd() & 1)
			csum_ip4_set(head + 14, 20);
		n = icmp_too_big(out, sizeof(out), copy_at_the_edge(head, head_len), head_len, 3014,
				 1280 + rnd_below(2000));
		if (n) {
			check_answer(head, out, n);
			answers++;
		}
	}
	assert_true(answers > 20000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_as_computed_by_hand),
		cmocka_unit_test(answers_are_no_longer_than_their_protocol_wants),
		cmocka_unit_test(answers_fit_into_the_room_there_is),
		cmocka_unit_test(tagged_frames_are_not_answered),
		cmocka_unit_test(padding_is_not_quoted),
		cmocka_unit_test(only_what_rfcs_allow_is_answered),
		cmocka_unit_test(a_wrong_checksum_or_a_short_head_is_not_answered),
		cmocka_unit_test(any_answer_is_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
