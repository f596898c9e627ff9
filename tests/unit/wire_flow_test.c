/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/eth.h"
#include "wire/flow.h"
#include "wire_frames.h"

/* Parts of frames, in hexadecimal. */
#define MACS             "525400000002 525400000001"
#define IP4(frag, proto) "0800 4500 0030 0000" frag "40" proto "0000 c0000201 c0000202"
#define IP6(next)        "86dd 60000000 0040" next "40 20010db8000000000000000000000001 20010db8000000000000000000000002"
#define TCP              "1234 0050 00000001 00000002 5010 ffff 0000 0000"
#define UDP              "1234 0035 001c 0000"
#define SCTP             "1234 0035 00000001 00000000"

struct view_row {
	const char *why;
	const char *hex;
	unsigned ethertype, n_tags, version, l3_off, l4_off, proto;
	const char *marks; /* f: fragment, r: routed, b: bad */
	unsigned ip_bytes;
};

static const struct view_row views[] = {
	{"plain IPv4 TCP", MACS IP4("0000", "06") TCP, 0x0800, 0, 4, 14, 34, 6, "", 48},
	{"don't fragment is no fragment", MACS IP4("4000", "06") TCP, 0x0800, 0, 4, 14, 34, 6, "", 48},
	{"plain IPv4 UDP", MACS IP4("0000", "11") UDP, 0x0800, 0, 4, 14, 34, 17, "", 48},
	{"plain IPv6 TCP", MACS IP6("06") TCP, 0x86dd, 0, 6, 14, 54, 6, "", 104},
	{"ARP", MACS "0806 0001080006040001", 0x0806, 0, 0, 14, 0, 0, "", 0},
	{"an 802.3 length", MACS "0026 424203", 0x0026, 0, 0, 14, 0, 0, "", 0},
	{"one tag", MACS "8100 6064" IP4("0000", "06") TCP, 0x0800, 1, 4, 18, 38, 6, "", 48},
	{"a service and a customer tag", MACS "88a8 6064 8100 0005" IP6("11") UDP, 0x86dd, 2, 6, 22, 62, 17, "", 104},
	{"a third tag is payload", MACS "8100 6064 8100 0005 8100 0006" IP4("0000", "06") TCP, 0x8100, 2, 0, 22, 0, 0,
	 "", 0},
	{"nothing behind the Ethernet header", MACS "1234", 0x1234, 0, 0, 14, 0, 0, "", 0},

	{"ICMP needs nothing in the head", MACS IP4("0000", "01"), 0x0800, 0, 4, 14, 34, 1, "", 48},
	{"SCTP has ports", MACS IP4("0000", "84") SCTP, 0x0800, 0, 4, 14, 34, 132, "", 48},
	{"SCTP cut", MACS IP4("0000", "84") "1234003500000001000000", 0x0800, 0, 4, 14, 0, 132, "b", 48},
	{"options move the L4 header",
	 MACS "0800 4700 0038 0000 0000 40 06 0000 c0000201 c0000202 0101010101010100" TCP, 0x0800, 0, 4, 14, 42, 6, "",
	 56},
	{"a loose source route", MACS "0800 4700 0038 0000 0000 40 06 0000 c0000201 c0000202 01 830704 c0000203" TCP,
	 0x0800, 0, 4, 14, 42, 6, "r", 56},
	{"a strict one behind another option",
	 MACS "0800 4800 003c 0000 0000 40 06 0000 c0000201 c0000202 94040000 890704 c0000203 00" TCP, 0x0800, 0, 4, 14,
	 46, 6, "r", 60},
	{"options behind the end mean nothing",
	 MACS "0800 4700 0038 0000 0000 40 06 0000 c0000201 c0000202 00 830704 c0000203" TCP, 0x0800, 0, 4, 14, 42, 6,
	 "", 56},
	{"an option of length 0 ends the search",
	 MACS "0800 4700 0038 0000 0000 40 06 0000 c0000201 c0000202 9400 830704000000" TCP, 0x0800, 0, 4, 14, 42, 6,
	 "", 56},

	{"a first fragment", MACS IP4("2000", "06") TCP, 0x0800, 0, 4, 14, 34, 6, "f", 48},
	{"a later fragment", MACS IP4("2001", "06") TCP, 0x0800, 0, 4, 14, 0, 6, "f", 48},
	{"the last fragment", MACS IP4("1fff", "11") UDP, 0x0800, 0, 4, 14, 0, 17, "f", 48},
	{"a tiny first fragment", MACS IP4("2000", "06") "1234005000000001", 0x0800, 0, 4, 14, 0, 6, "fb", 48},

	{"version 6 in IPv4", MACS "0800 6500 0030 0000 0000 40 06 0000 c0000201 c0000202" TCP, 0x0800, 0, 0, 14, 0, 0,
	 "b", 0},
	{"a header of 16 bytes", MACS "0800 4400 0030 0000 0000 40 06 0000 c0000201 c0000202" TCP, 0x0800, 0, 0, 14, 0,
	 0, "b", 0},
	{"a header of 60 bytes that are not there", MACS "0800 4f00 0030 0000 0000 40 06 0000 c0000201 c0000202" TCP,
	 0x0800, 0, 4, 14, 0, 6, "b", 48},
	{"half an IPv4 header", MACS "0800 4500 0030 0000 0000 40 06", 0x0800, 0, 0, 14, 0, 0, "b", 0},
	{"half a TCP header", MACS IP4("0000", "06") "12340050000000010000", 0x0800, 0, 4, 14, 0, 6, "b", 48},
	{"version 4 in IPv6",
	 MACS "86dd 40000000 0040 06 40 20010db8000000000000000000000001 20010db8000000000000000000000002" TCP, 0x86dd,
	 0, 0, 14, 0, 0, "b", 0},
	{"half an IPv6 header", MACS "86dd 60000000 0040 06 40 20010db8", 0x86dd, 0, 0, 14, 0, 0, "b", 0},

	{"hop-by-hop and destination options", MACS IP6("00") "3c00000000000000 0601 0000000000000000000000000000" TCP,
	 0x86dd, 0, 6, 14, 78, 6, "", 104},
	{"a routing header with segments left",
	 MACS IP6("2b") "0602 0001 00000000 20010db8000000000000000000000003" TCP, 0x86dd, 0, 6, 14, 78, 6, "r", 104},
	{"a routing header that is done", MACS IP6("2b") "0602 0000 00000000 20010db8000000000000000000000003" TCP,
	 0x86dd, 0, 6, 14, 78, 6, "", 104},
	{"an IPv6 first fragment", MACS IP6("2c") "0600 0001 00000007" TCP, 0x86dd, 0, 6, 14, 62, 6, "f", 104},
	{"an IPv6 later fragment", MACS IP6("2c") "0600 0009 00000007" TCP, 0x86dd, 0, 6, 14, 0, 6, "f", 104},
	{"an IPv6 last fragment", MACS IP6("2c") "0600 0008 00000007" TCP, 0x86dd, 0, 6, 14, 0, 6, "f", 104},
	{"an atomic fragment (RFC 6946)", MACS IP6("2c") "0600 0000 00000007" TCP, 0x86dd, 0, 6, 14, 62, 6, "", 104},
	{"ESP ends the walk", MACS IP6("32") "00000001 00000001", 0x86dd, 0, 6, 14, 54, 50, "", 104},
	{"AH ends the walk", MACS IP6("33") "0604000000000001" TCP, 0x86dd, 0, 6, 14, 54, 51, "", 104},
	{"no next header", MACS IP6("3b"), 0x86dd, 0, 6, 14, 54, 59, "", 104},
	{"an extension header cut", MACS IP6("00") "06000000000000", 0x86dd, 0, 6, 14, 0, 0, "b", 104},
	{"one that is longer than the head", MACS IP6("00") "06ff000000000000" TCP, 0x86dd, 0, 6, 14, 0, 6, "b", 104},
	{"one that jumps to where another should be", MACS IP6("00") "3cff000000000000" TCP, 0x86dd, 0, 6, 14, 0, 60,
	 "b", 104},
	{"eight extension headers",
	 MACS IP6("3c") "3c00000000000000 3c00000000000000 3c00000000000000 3c00000000000000 3c00000000000000 "
			"3c00000000000000 3c00000000000000 0600000000000000" TCP,
	 0x86dd, 0, 6, 14, 118, 6, "", 104},
	{"nine extension headers",
	 MACS IP6("3c") "3c00000000000000 3c00000000000000 3c00000000000000 3c00000000000000 3c00000000000000 "
			"3c00000000000000 3c00000000000000 3c00000000000000 0600000000000000" TCP,
	 0x86dd, 0, 6, 14, 0, 60, "b", 104},
};

static const char *marks_of(const struct wire_view *v, char text[4])
{
	char *p = text;

	if (v->is_fragment)
		*p++ = 'f';
	if (v->is_routed)
		*p++ = 'r';
	if (v->is_bad)
		*p++ = 'b';
	*p = 0;
	return text;
}

static void headers_are_found(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
		const struct view_row *r = &views[i];
		uint8_t f[256];
		uint32_t n = unhex(r->hex, f);
		struct wire_view v;
		char text[4];

		assert_int_equal(wire_parse(&v, copy_at_the_edge(f, n), n), 0);
		if (v.ethertype != r->ethertype || v.n_tags != r->n_tags || v.ip_version != r->version ||
		    v.l3_off != r->l3_off || v.l4_off != r->l4_off || v.l4_proto != r->proto ||
		    v.ip_bytes != r->ip_bytes || strcmp(marks_of(&v, text), r->marks) != 0)
			fail_msg("%s: type %04x, %u tags, IPv%u at %u, protocol %u at %u, marks \"%s\", claims %u",
				 r->why, v.ethertype, v.n_tags, v.ip_version, v.l3_off, v.l4_proto, v.l4_off, text,
				 v.ip_bytes);
	}
}

static void the_outermost_tag_is_told(void **state)
{
	uint8_t f[64];
	uint32_t n = unhex(MACS "88a8 6064 8100 0005 0806 0001", f);
	struct wire_view v;

	(void)state;
	assert_int_equal(wire_parse(&v, f, n), 0);
	assert_int_equal(v.vlan_tpid, ETH_P_QINQ);
	assert_int_equal(v.vlan_tci, 0x6064);
	assert_int_equal(v.vlan_tci & VLAN_VID_MASK, 100);
	assert_int_equal(v.ethertype, ETH_P_ARP);
}

static void less_than_an_ethernet_header_is_refused(void **state)
{
	static const struct wire_view zero;
	uint8_t f[64];

	(void)state;
	unhex(MACS "8100 6064 8100 0005 0800", f);
	for (uint32_t n = 0; n <= 21; n++) {
		struct wire_view v;

		memset(&v, 0xff, sizeof(v));
		assert_int_equal(wire_parse(&v, copy_at_the_edge(f, n), n), -EINVAL);
		assert_memory_equal(&v, &zero, sizeof(v));
		assert_int_equal(wire_flow_hash(copy_at_the_edge(f, n), n), 0);
	}
}

/* What must be true of any view of any bytes. */
static void check_invariants(const struct wire_view *v, uint32_t n)
{
	assert_true(v->l3_off >= 14 && v->l3_off <= 22 && v->l3_off <= n);
	assert_int_equal(v->l3_off, 14 + 4 * v->n_tags);
	if (v->ip_version)
		assert_true(v->l3_off + (v->ip_version == 4 ? 20u : 40u) <= n);
	if (v->is_bad)
		assert_int_equal(v->l4_off, 0);
	if (v->l4_off) {
		assert_true(v->ip_version == 4 || v->ip_version == 6);
		assert_true(v->l4_off >= v->l3_off + (v->ip_version == 4 ? 20 : 40) && v->l4_off <= n);
		if (v->l4_proto == 6)
			assert_true(v->l4_off + 20u <= n);
		if (v->l4_proto == 17)
			assert_true(v->l4_off + 8u <= n);
	}
}

static void look_at(const uint8_t *f, uint32_t n)
{
	const uint8_t *head = copy_at_the_edge(f, n);
	struct wire_view v;

	wire_flow_hash(head, n);
	if (wire_parse(&v, head, n))
		return;
	check_invariants(&v, n);
	assert_int_equal(wire_view_hash(&v, head), wire_flow_hash(head, n));
}

static void nothing_behind_the_head_is_read_wherever_it_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
		uint8_t f[256];
		uint32_t bytes = unhex(views[i].hex, f);

		for (uint32_t n = 0; n <= bytes; n++)
			look_at(f, n);
	}
}

static void nothing_behind_the_head_is_read_whatever_it_says(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		uint8_t f[256];
		uint32_t n = unhex(views[round % ARRAY_SIZE(views)].hex, f);

		for (unsigned hits = rnd_below(6); hits; hits--)
			f[12 + rnd_below(n - 12)] = (uint8_t)rnd();
		look_at(f, rnd() & 3 ? n : rnd_below(n + 1));
	}
}

static uint32_t hash_of(const char *hex)
{
	uint8_t f[256];
	uint32_t n = unhex(hex, f);

	return wire_flow_hash(f, n);
}

static void swap(uint8_t *a, uint8_t *b, size_t bytes)
{
	for (; bytes; bytes--, a++, b++) {
		uint8_t t = *a;

		*a = *b;
		*b = t;
	}
}

/* The frame that the other end would send. */
static void turn_around(uint8_t *f, const struct wire_view *v)
{
	bool ports = v->l4_off && (v->l4_proto == 6 || v->l4_proto == 17 || v->l4_proto == 132);

	swap(f, f + 6, 6);
	if (v->ip_version == 4)
		swap(f + v->l3_off + 12, f + v->l3_off + 16, 4);
	if (v->ip_version == 6)
		swap(f + v->l3_off + 8, f + v->l3_off + 24, 16);
	if (ports)
		swap(f + v->l4_off, f + v->l4_off + 2, 2);
}

static void both_directions_have_one_hash(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
		uint8_t f[256];
		uint32_t n = unhex(views[i].hex, f);
		uint32_t hash = wire_flow_hash(f, n);
		struct wire_view v;

		assert_int_equal(wire_parse(&v, f, n), 0);
		turn_around(f, &v);
		if (wire_flow_hash(f, n) != hash)
			fail_msg("%s", views[i].why);
	}
}

static void real_answers_have_the_hash_of_their_question(void **state)
{
	(void)state;
	assert_int_equal(hash_of(samples[1].hex), hash_of(samples[0].hex));
	assert_int_equal(hash_of(samples[2].hex), hash_of(samples[0].hex));
	assert_int_equal(hash_of(samples[6].hex), hash_of(samples[5].hex));
	assert_int_equal(hash_of(samples[7].hex), hash_of(samples[5].hex));
	assert_int_not_equal(hash_of(samples[0].hex), hash_of(samples[5].hex));
}

static void what_is_not_the_flow_does_not_matter(void **state)
{
	static const struct {
		const char *a, *b, *why;
	} same[] = {
		{MACS IP4("0000", "06") TCP, MACS "8100 6064" IP4("0000", "06") TCP, "a tag"},
		{MACS IP4("0000", "06") TCP, "0a0000000002 0a0000000001" IP4("0000", "06") TCP, "MACs"},
		{MACS IP4("0000", "06") TCP, MACS IP4("4000", "06") "12340050 99999999 99999999 5018 1111 2222 0000",
		 "sequence numbers and flags"},
		{MACS IP6("11") UDP, MACS IP6("00") "1100000000000000" UDP, "extension headers"},
		{MACS IP4("2000", "11") UDP, MACS IP4("2001", "11") "01020304 05060708", "which fragment it is"},
		{MACS IP4("2000", "06") TCP, MACS IP4("0001", "06") "00", "how much is in a fragment"},
		{MACS IP6("2c") "0600 0001 00000007" TCP, MACS IP6("2c") "1100 0008 00000007 00",
		 "which IPv6 fragment"},
		{MACS "0806 0001", MACS "88cc 02", "what is not IP"},
	};
	static const struct {
		const char *a, *b, *why;
	} other[] = {
		{MACS IP4("0000", "06") TCP, MACS IP4("0000", "11") TCP, "protocol"},
		{MACS IP4("0000", "06") TCP, MACS IP4("0000", "06") "1235 0050 00000001 00000002 5010ffff00000000",
		 "port"},
		{MACS IP4("0000", "06") TCP, MACS IP4("0000", "06") "0050 1234 00000001 00000002 5010ffff00000000",
		 "ports exchanged without the addresses"},
		{MACS IP4("0000", "11") UDP, MACS IP4("2000", "11") UDP, "a fragment has no ports"},
		{MACS "0806 0001", "525400000003 525400000001 0806 0001", "another station"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		if (hash_of(same[i].a) != hash_of(same[i].b))
			fail_msg("%s makes a difference", same[i].why);
	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		if (hash_of(other[i].a) == hash_of(other[i].b))
			fail_msg("%s makes no difference", other[i].why);
}

/* @set writes the i-th flow into a frame. Every 6 bits of the hash, wherever taken, must spread the flows like chance:
 * the chi-square of 63 degrees of freedom is above 130 once in a million. */
static void check_spread(const char *what, const char *hex, void (*set)(uint8_t *f, uint32_t i))
{
	enum { FLOWS = 8192, BINS = 64 };
	uint8_t f[256];
	uint32_t n = unhex(hex, f);

	for (unsigned shift = 0; shift + 6 <= 32; shift++) {
		unsigned bin[BINS] = {0};
		double chi2 = 0, mean = (double)FLOWS / BINS;

		for (uint32_t i = 0; i < FLOWS; i++) {
			set(f, i);
			bin[wire_flow_hash(f, n) >> shift & (BINS - 1)]++;
		}
		for (unsigned b = 0; b < BINS; b++)
			chi2 += (bin[b] - mean) * (bin[b] - mean) / mean;
		if (chi2 > 130)
			fail_msg("%s: bits from %u: chi-square %.0f", what, shift, chi2);
	}
}

static void set_client_port(uint8_t *f, uint32_t i)
{
	be16_put(f + 34, (uint16_t)(32768 + i));
}

static void set_client_port_in_steps(uint8_t *f, uint32_t i)
{
	be16_put(f + 34, (uint16_t)(i * 8));
}

static void set_neighbours(uint8_t *f, uint32_t i)
{
	be32_put(f + 26, 0x0a000000 + i);
	be32_put(f + 30, 0x0a000001 + i);
}

static void set_port_against_address(uint8_t *f, uint32_t i)
{
	be32_put(f + 26, 0x0a000000 + i);
	be16_put(f + 34, (uint16_t)(40000 - i));
}

static void set_ip6_client(uint8_t *f, uint32_t i)
{
	be32_put(f + 34, i << 8);
}

static void set_ip6_port(uint8_t *f, uint32_t i)
{
	be16_put(f + 54, (uint16_t)i);
}

static void set_mac(uint8_t *f, uint32_t i)
{
	be32_put(f + 8, i);
}

static void flows_are_spread_evenly(void **state)
{
	(void)state;
	check_spread("client ports in a row", MACS IP4("0000", "06") TCP, set_client_port);
	check_spread("client ports in steps", MACS IP4("0000", "11") UDP, set_client_port_in_steps);
	check_spread("neighbours", MACS IP4("0000", "01"), set_neighbours);
	check_spread("hosts up, ports down", MACS IP4("0000", "06") TCP, set_port_against_address);
	check_spread("IPv6 hosts", MACS IP6("06") TCP, set_ip6_client);
	check_spread("IPv6 ports", MACS IP6("11") UDP, set_ip6_port);
	check_spread("stations", MACS "0806", set_mac);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_are_found),
		cmocka_unit_test(the_outermost_tag_is_told),
		cmocka_unit_test(less_than_an_ethernet_header_is_refused),
		cmocka_unit_test(nothing_behind_the_head_is_read_wherever_it_ends),
		cmocka_unit_test(nothing_behind_the_head_is_read_whatever_it_says),
		cmocka_unit_test(both_directions_have_one_hash),
		cmocka_unit_test(real_answers_have_the_hash_of_their_question),
		cmocka_unit_test(what_is_not_the_flow_does_not_matter),
		cmocka_unit_test(flows_are_spread_evenly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
