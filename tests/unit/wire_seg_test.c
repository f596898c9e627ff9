/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/l4.h"
#include "wire/seg.h"
#include "wire_frames.h"

#define ETH4 "ee3a822d057d d68b695fd769 0800 "
#define ETH6 "ee3a822d057d d68b695fd769 86dd "
#define IP4  "c0000201 c0000202 "
#define IP6  "20010db8000000000000000000000001 20010db8000000000000000000000002 "
#define OPTS "0000 0101080aca976e626e32bfeb"

/* The next segment as a whole frame, completed in both ways; 0 if there is none. */
static uint32_t take(struct seg *s, const uint8_t *frame, uint8_t *out)
{
	uint32_t head_len, off, len;
	struct wire_piece payload;
	struct csum c = {0};
	uint8_t other[256];

	if (!seg_next(s, out, &head_len, &off, &len))
		return 0;
	memcpy(other, out, head_len);
	payload = (struct wire_piece){frame + off, len};
	assert_int_equal(l4_csum_finish(other, head_len, &payload, 1, s->csum_start, s->csum_offset), 0);
	csum_copy(&c, out + head_len, frame + off, len);
	seg_finish(s, out, &c);
	assert_memory_equal(out, other, head_len);
	return head_len + len;
}

/* What Linux 6.18 made in software of frames given to a packet socket with these requests. Sequence numbers and IP ids
 * wrap, and all flags that matter are set. The payload is 1, 8, 15, ... */
static const struct {
	const char *why;
	enum seg_kind kind;
	uint32_t gso_bytes, payload_bytes;
	const char *head;
	const char *segment[4];
} linux_cut[] = {
	{"TCP over IPv4",
	 SEG_TCP4,
	 16,
	 40,
	 ETH4 "4500005cffff40004006b698" IP4 "90280050fffffff8f19886bb80d9003f8452" OPTS,
	 {ETH4 "45000044ffff40004006b6b0" IP4 "90280050fffffff8f19886bb80d0003ff002" OPTS
	       "01080f161d242b323940474e555c636a",
	  ETH4 "45000044000040004006b6b0" IP4 "9028005000000008f19886bb8050003f6cf0" OPTS
	       "71787f868d949ba2a9b0b7bec5ccd3da",
	  ETH4 "4500003c000140004006b6b7" IP4 "9028005000000018f19886bb8059003fa835" OPTS "e1e8eff6fd040b12"}},
	{"TCP over IPv6, odd segments",
	 SEG_TCP6,
	 15,
	 40,
	 ETH6 "60076e6500480640" IP6 "90280050fffffff8f19886bb80d9003f5bc3" OPTS,
	 {ETH6 "60076e65002f0640" IP6 "90280050fffffff8f19886bb80d0003f18fd" OPTS "01080f161d242b323940474e555c63",
	  ETH6 "60076e65002f0640" IP6 "9028005000000007f19886bb8050003fce8c" OPTS "6a71787f868d949ba2a9b0b7bec5cc",
	  ETH6 "60076e65002a0640" IP6 "9028005000000016f19886bb8059003ffce9" OPTS "d3dae1e8eff6fd040b12"}},
	{"UDP over IPv4, odd segments",
	 SEG_UDP,
	 13,
	 40,
	 ETH4 "45000044ffff40004011b6a5" IP4 "e474000700308445",
	 {ETH4 "45000029ffff40004011b6c0" IP4 "e474000700156941 01080f161d242b323940474e55",
	  ETH4 "45000029000040004011b6c0" IP4 "e47400070015ea1c 5c636a71787f868d949ba2a9b0",
	  ETH4 "45000029000140004011b6bf" IP4 "e474000700156bf9 b7bec5ccd3dae1e8eff6fd040b",
	  ETH4 "4500001d000240004011b6ca" IP4 "e47400070009855c 12"}},
	{"UDP over IPv6, a last byte alone",
	 SEG_UDP,
	 16,
	 33,
	 ETH6 "60076e6500291140" IP6 "e474000700295baf",
	 {ETH6 "60076e6500181140" IP6 "e474000700182e04 01080f161d242b323940474e555c636a",
	  ETH6 "60076e6500181140" IP6 "e47400070018aa80 71787f868d949ba2a9b0b7bec5ccd3da",
	  ETH6 "60076e6500091140" IP6 "e47400070009deea e1"}},
};

static void frames_are_cut_as_linux_cuts_them(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(linux_cut); i++) {
		uint8_t f[256], out[256], expected[256];
		uint32_t head_len = unhex(linux_cut[i].head, f);
		uint32_t n = head_len, got;
		struct seg s;

		for (uint32_t k = 0; k < linux_cut[i].payload_bytes; k++)
			f[n++] = (uint8_t)(k * 7 + 1);
		assert_int_equal(seg_begin(&s, f, head_len, n, linux_cut[i].kind, linux_cut[i].gso_bytes), 0);
		for (unsigned k = 0; k < 4 && linux_cut[i].segment[k]; k++) {
			got = take(&s, f, out);
			if (got != unhex(linux_cut[i].segment[k], expected) || memcmp(out, expected, got) != 0)
				fail_msg("%s: segment %u", linux_cut[i].why, k);
		}
		assert_int_equal(take(&s, f, out), 0);
		assert_int_equal(take(&s, f, out), 0);
	}
}

/* What there is to vary in a long frame. */
struct shape {
	unsigned tags, version, ip_extra; /* IPv4: words of options; IPv6: extension headers */
	bool udp;
	unsigned tcp_options; /* words */
	uint8_t flags;
	uint16_t urgent;
};

/* A frame of this shape; lengths, checksums and seed hold anything. */
struct made {
	uint32_t l3_off, l4_off, head_bytes, bytes;
	enum seg_kind kind;
	uint8_t f[FRAME_MAX];
};

static uint32_t make_ip4(const struct shape *h, uint8_t *ip)
{
	uint32_t extra_bytes = h->ip_extra * 4;

	ip[0] = (uint8_t)(0x45 + h->ip_extra);
	ip[6] = 0x40;
	ip[7] = 0;
	ip[9] = h->udp ? 17 : 6;
	for (unsigned i = 0; i < extra_bytes; i++)
		ip[20 + i] = 1; /* no operation */
	return 20 + extra_bytes;
}

static uint32_t make_ip6(const struct shape *h, uint8_t *ip)
{
	static const uint8_t padding[8] = {0, 0, 1, 4}; /* destination options with nothing in them */
	uint8_t *next = ip + 6;
	uint32_t n = 40;

	ip[0] = 0x60;
	for (unsigned i = 0; i < h->ip_extra; i++, n += 8) {
		*next = 60;
		memcpy(ip + n, padding, sizeof(padding));
		next = ip + n;
	}
	*next = h->udp ? 17 : 6;
	return n;
}

static void make(const struct shape *h, uint32_t payload_bytes, struct made *m)
{
	uint8_t *l4;

	rnd_fill(m->f, 256);
	for (size_t i = 0; i < h->tags; i++)
		be16_put(m->f + 12 + 4 * i, i + 1 < h->tags ? 0x88a8 : 0x8100);
	m->l3_off = 14 + 4 * h->tags;
	be16_put(m->f + m->l3_off - 2, h->version == 4 ? 0x0800 : 0x86dd);
	m->l4_off = m->l3_off;
	m->l4_off += h->version == 4 ? make_ip4(h, m->f + m->l3_off) : make_ip6(h, m->f + m->l3_off);
	l4 = m->f + m->l4_off;
	m->head_bytes = m->l4_off + 8;
	m->kind = SEG_UDP;
	if (!h->udp) {
		m->head_bytes = m->l4_off + 20 + 4 * h->tcp_options;
		m->kind = h->version == 4 ? SEG_TCP4 : SEG_TCP6;
		l4[12] = (uint8_t)((5 + h->tcp_options) << 4);
		l4[13] = h->flags;
		be16_put(l4 + 18, h->urgent);
	}
	m->bytes = m->head_bytes + payload_bytes;
	rnd_fill(m->f + m->head_bytes, payload_bytes);
}

/* What a receiver would look at in segment @index, @bytes at @p. */
static void check_ip(const struct shape *h, const struct made *m, const uint8_t *p, uint32_t bytes, uint32_t index)
{
	const uint8_t *ip = p + m->l3_off, *was = m->f + m->l3_off;

	assert_memory_equal(p, m->f, m->l3_off);
	if (h->version == 4) {
		assert_int_equal(be16_get(ip + 2), bytes - m->l3_off);
		assert_int_equal(be16_get(ip + 4), (uint16_t)(be16_get(was + 4) + index));
		assert_int_equal(slow_sum(0, ip, m->l4_off - m->l3_off), 0xffff);
		assert_memory_equal(ip, was, 2);
		assert_memory_equal(ip + 6, was + 6, 4);
		assert_memory_equal(ip + 12, was + 12, m->l4_off - m->l3_off - 12);
	} else {
		assert_int_equal(be16_get(ip + 4), bytes - m->l3_off - 40);
		assert_memory_equal(ip, was, 4);
		assert_memory_equal(ip + 6, was + 6, m->l4_off - m->l3_off - 6);
	}
	assert_int_equal(slow_l4_sum(h->version, ip, h->udp ? 17 : 6, p + m->l4_off, bytes - m->l4_off), 0xffff);
}

static void check_tcp(const struct shape *h, const struct made *m, const uint8_t *p, uint32_t done, bool is_last)
{
	const uint8_t *tcp = p + m->l4_off, *was = m->f + m->l4_off;
	uint8_t flags = h->flags;
	uint16_t urgent = h->urgent;

	if (!is_last)
		flags &= (uint8_t)~0x09; /* FIN, PSH */
	if (done)
		flags &= 0x7f; /* CWR */
	if (flags & 0x20 && done) {
		urgent = (uint16_t)(h->urgent > done ? h->urgent - done : 0);
		flags &= (uint8_t)(urgent ? 0xff : ~0x20);
	}
	assert_int_equal(be32_get(tcp + 4), be32_get(was + 4) + done);
	assert_int_equal(tcp[13], flags);
	assert_int_equal(be16_get(tcp + 18), urgent);
	assert_memory_equal(tcp, was, 4);
	assert_memory_equal(tcp + 8, was + 8, 5);
	assert_memory_equal(tcp + 14, was + 14, 2);
	assert_memory_equal(tcp + 20, was + 20, m->head_bytes - m->l4_off - 20);
}

/* Cut the frame up and put it together again. */
static void check_cut(const struct shape *h, uint32_t payload_bytes, uint32_t gso_bytes)
{
	static struct made m;
	static uint8_t p[FRAME_MAX];
	uint32_t done = 0, index = 0, bytes;
	const uint8_t *head;
	struct seg s;

	make(h, payload_bytes, &m);
	head = copy_at_the_edge(m.f, m.head_bytes);
	assert_int_equal(seg_begin(&s, head, m.head_bytes, m.bytes, m.kind, gso_bytes), 0);
	assert_int_equal(s.head_bytes, m.head_bytes);
	assert_int_equal(s.csum_start, m.l4_off);
	while ((bytes = take(&s, m.f, p))) {
		uint32_t len = bytes - m.head_bytes;
		bool is_last = done + len == payload_bytes;

		assert_true(is_last ? len <= gso_bytes : len == gso_bytes);
		assert_memory_equal(p + m.head_bytes, m.f + m.head_bytes + done, len);
		check_ip(h, &m, p, bytes, index++);
		if (h->udp)
			assert_int_equal(be16_get(p + m.l4_off + 4), 8 + len);
		else
			check_tcp(h, &m, p, done, is_last);
		done += len;
	}
	assert_int_equal(done, payload_bytes);
	assert_int_equal(index, s.count);
	assert_int_equal(index, payload_bytes ? (payload_bytes + gso_bytes - 1) / gso_bytes : 1);
}

static struct shape random_shape(void)
{
	struct shape h = {.tags = rnd_below(3), .version = rnd() & 1 ? 4 : 6, .udp = rnd() & 1};

	h.ip_extra = rnd() & 1 ? 0 : rnd_below(h.version == 4 ? 11 : 4);
	h.tcp_options = rnd_below(11);
	h.flags = (uint8_t)(rnd() & ~6u); /* neither SYN nor RST */
	h.urgent = (uint16_t)(rnd() & 1 ? rnd_below(5000) : rnd());
	return h;
}

static void frames_of_every_shape_come_together_again(void **state)
{
	static const struct {
		uint32_t payload_bytes, gso_bytes;
	} size[] = {{0, 1448},    {1, 1},       {1, 1448},     {1448, 1448},  {1449, 1448}, {2896, 1448},
		    {5000, 1447}, {8000, 8960}, {65000, 1448}, {64000, 8948}, {64000, 8},   {300, 1}};

	(void)state;
	for (unsigned version = 4; version <= 6; version += 2)
		for (unsigned udp = 0; udp < 2; udp++)
			for (unsigned tags = 0; tags < 3; tags++)
				for (size_t i = 0; i < ARRAY_SIZE(size); i++)
					check_cut(&(struct shape){.tags = tags,
								  .version = version,
								  .udp = udp,
								  .flags = 0xd9,
								  .tcp_options = 3},
						  size[i].payload_bytes, size[i].gso_bytes);
}

static void random_frames_come_together_again(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		struct shape h = random_shape();

		check_cut(&h, rnd_below(round & 7 ? 4000 : 65000), 8 + rnd_below(round & 1 ? 100 : 9000));
	}
}

/* Between seg_next() and l4_csum_finish() a segment is a frame that needs its checksum: the field must hold what a
 * kernel or a guest that completes it expects there. */
static void segments_carry_the_seed_of_their_checksum(void **state)
{
	static struct made m;

	(void)state;
	for (unsigned round = 0; round < 500; round++) {
		struct shape h = random_shape();
		uint32_t head_len, off, len;
		uint8_t p[256];
		struct seg s;

		make(&h, 3000, &m);
		assert_int_equal(seg_begin(&s, m.f, 256, m.bytes, m.kind, 700), 0);
		while (seg_next(&s, p, &head_len, &off, &len)) {
			uint8_t l4_bytes[4];

			be32_put(l4_bytes, head_len - m.l4_off + len);
			assert_int_equal(
				be16_get(p + s.csum_start + s.csum_offset),
				slow_sum(slow_l4_sum(h.version, p + m.l3_off, h.udp ? 17 : 6, NULL, 0), l4_bytes, 4));
		}
	}
}

/* 0 means in UDP that there is no checksum, and nothing special in TCP. */
static void a_checksum_of_zero_is_sent_as_all_ones_in_udp_only(void **state)
{
	static struct made m;
	uint8_t p[FRAME_MAX];

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		struct shape h = {.version = i & 1 ? 4 : 6, .udp = i & 2, .flags = 0x10};
		uint32_t field;
		struct seg s;

		make(&h, 200, &m);
		field = m.l4_off + (h.udp ? 6 : 16);
		be16_put(m.f + m.head_bytes, 0);
		assert_int_equal(seg_begin(&s, m.f, m.head_bytes, m.bytes, m.kind, 100), 0);
		take(&s, m.f, p);
		be16_put(m.f + m.head_bytes, be16_get(p + field)); /* what the rest lacks to add up to nothing */
		assert_int_equal(seg_begin(&s, m.f, m.head_bytes, m.bytes, m.kind, 100), 0);
		take(&s, m.f, p);
		assert_int_equal(be16_get(p + field), h.udp ? 0xffff : 0);
	}
}

static void the_whole_frame_is_made_right_for_whoever_cuts_it(void **state)
{
	static struct made m;
	static uint8_t p[FRAME_MAX];

	(void)state;
	for (unsigned round = 0; round < 2000; round++) {
		struct shape h = random_shape();
		uint32_t payload_bytes = rnd_below(round & 7 ? 4000 : 60000);
		struct seg s;

		make(&h, payload_bytes, &m);
		assert_int_equal(seg_begin(&s, m.f, m.head_bytes, m.bytes, m.kind, 1448), 0);
		memcpy(p, m.f, m.bytes);
		assert_int_equal(seg_whole(&s, p), 0);
		assert_int_equal(l4_csum_finish(p, m.bytes, NULL, 0, s.csum_start, s.csum_offset), 0);
		check_ip(&h, &m, p, m.bytes, 0);
		if (h.udp)
			assert_int_equal(be16_get(p + m.l4_off + 4), 8 + payload_bytes);
		else
			check_tcp(&h, &m, p, 0, true);
		assert_memory_equal(p + m.head_bytes, m.f + m.head_bytes, payload_bytes);
	}
}

static void the_whole_frame_gets_the_seed_that_linux_expects(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(linux_cut); i++) {
		uint8_t f[256] = {0}, right[256];
		uint32_t n = unhex(linux_cut[i].head, f);
		struct seg s;

		memcpy(right, f, n);
		be16_put(f + (f[14] >> 4 == 4 ? 16 : 18), 0); /* lengths and checksums are left to the NIC by some */
		if (f[14] >> 4 == 4)
			be16_put(f + 24, 0);
		assert_int_equal(seg_begin(&s, f, n, n + linux_cut[i].payload_bytes, linux_cut[i].kind, 16), 0);
		be16_put(f + s.csum_start + s.csum_offset, 0x1234);
		assert_int_equal(seg_whole(&s, f), 0);
		assert_memory_equal(f, right, n);
	}
}

static void a_frame_longer_than_ip_can_say_is_only_cut(void **state)
{
	struct shape h = {.version = 4, .flags = 0x10};
	static struct made m;
	uint8_t p[256];
	struct seg s;

	(void)state;
	make(&h, 65495, &m);
	assert_int_equal(seg_begin(&s, m.f, m.head_bytes, m.bytes, m.kind, 1448), 0);
	assert_int_equal(seg_whole(&s, p), 0);
	assert_int_equal(be16_get(p + 16), 65535);
	assert_int_equal(seg_begin(&s, m.f, m.head_bytes, m.bytes + 1, m.kind, 1448), 0);
	assert_int_equal(seg_whole(&s, p), -EMSGSIZE);
	check_cut(&h, 68000, 1448);
}

static const struct {
	const char *why;
	struct shape h;
	enum seg_kind kind;
	uint32_t payload_bytes, gso_bytes;
	uint32_t head_short;   /* bytes missing from the head */
	uint16_t l3_at, l3_to; /* a byte changed, counted from IP or L4, unless at is 0 */
	uint16_t l4_at, l4_to;
	int result;
} attempts[] = {
	{"TCP over IPv4", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0, 0, 0, 0},
	{"TCP over IPv6", {.version = 6}, SEG_TCP6, 3000, 1448, 0, 0, 0, 0, 0, 0},
	{"UDP over IPv6", {.version = 6, .udp = true}, SEG_UDP, 3000, 1448, 0, 0, 0, 0, 0, 0},
	{"a GSO size of 0", {.version = 4}, SEG_TCP4, 3000, 0, 0, 0, 0, 0, 0, -EINVAL},
	{"8,192 segments", {.version = 4}, SEG_TCP4, 8192, 1, 0, 0, 0, 0, 0, 0},
	{"8,193 segments", {.version = 4}, SEG_TCP4, 8193, 1, 0, 0, 0, 0, 0, -EINVAL},
	{"the other IP", {.version = 4}, SEG_TCP6, 3000, 1448, 0, 0, 0, 0, 0, -EINVAL},
	{"the other IP still", {.version = 6}, SEG_TCP4, 3000, 1448, 0, 0, 0, 0, 0, -EINVAL},
	{"TCP as UDP", {.version = 4}, SEG_UDP, 3000, 1448, 0, 0, 0, 0, 0, -EINVAL},
	{"UDP as TCP", {.version = 4, .udp = true}, SEG_TCP4, 3000, 1448, 0, 0, 0, 0, 0, -EINVAL},
	{"a kind that there is not", {.version = 4}, (enum seg_kind)77, 3000, 1448, 0, 0, 0, 0, 0, -EINVAL},
	{"a head without the last option",
	 {.version = 4, .tcp_options = 3},
	 SEG_TCP4,
	 3000,
	 1448,
	 1,
	 0,
	 0,
	 0,
	 0,
	 -EINVAL},
	{"a head that ends in the TCP header", {.version = 4}, SEG_TCP4, 3000, 1448, 7, 0, 0, 0, 0, -EINVAL},
	{"a head that ends in the IP header", {.version = 6}, SEG_TCP6, 3000, 1448, 30, 0, 0, 0, 0, -EINVAL},
	{"no head", {.version = 4}, SEG_TCP4, 3000, 1448, 54, 0, 0, 0, 0, -EINVAL},
	{"not IPv4 after all", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0x65, 0, 0, -EINVAL},
	{"an IPv4 header of 16 bytes", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0x44, 0, 0, -EINVAL},
	{"one of 60 that hides TCP", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0x4f, 0, 0, -EINVAL},
	{"a first fragment", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 6, 0x20, 0, 0, -EINVAL},
	{"a later fragment", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 7, 0x01, 0, 0, -EINVAL},
	{"a source route", {.version = 4, .ip_extra = 1}, SEG_TCP4, 3000, 1448, 0, 20, 131, 0, 0, -EINVAL},
	{"an IPv6 fragment", {.version = 6, .ip_extra = 1}, SEG_TCP6, 3000, 1448, 0, 6, 44, 0, 0, -EINVAL},
	{"an IPv6 routing header", {.version = 6, .ip_extra = 1}, SEG_TCP6, 3000, 1448, 0, 6, 43, 0, 0, -EINVAL},
	{"a TCP header of 16 bytes", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0, 12, 0x40, -EINVAL},
	{"a TCP header longer than the head", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0, 12, 0x60, -EINVAL},
	{"a SYN", {.version = 4}, SEG_TCP4, 3000, 1448, 0, 0, 0, 13, 0x02, -EINVAL},
	{"a RST", {.version = 6}, SEG_TCP6, 3000, 1448, 0, 0, 0, 13, 0x14, -EINVAL},
	{"a SYN with data in one piece", {.version = 4}, SEG_TCP4, 1448, 1448, 0, 0, 0, 13, 0x02, 0},
	{"a segment of 65,536 bytes", {.version = 4}, SEG_TCP4, 65536 - 40, 65535, 0, 0, 0, 0, 0, -EINVAL},
	{"a segment of 65,535 bytes", {.version = 4}, SEG_TCP4, 65535 - 40, 65535, 0, 0, 0, 0, 0, 0},
	{"IPv6 does not count its header", {.version = 6}, SEG_TCP6, 65535 - 20, 65535, 0, 0, 0, 0, 0, 0},
	{"but what is behind it", {.version = 6}, SEG_TCP6, 65536 - 20, 65535, 0, 0, 0, 0, 0, -EINVAL},
};

static void what_cannot_be_cut_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
		static struct made m;
		uint32_t head_len;
		struct seg s;
		int result;

		make(&attempts[i].h, attempts[i].payload_bytes, &m);
		if (attempts[i].l3_at || attempts[i].l3_to)
			m.f[m.l3_off + attempts[i].l3_at] = (uint8_t)attempts[i].l3_to;
		if (attempts[i].l4_at)
			m.f[m.l4_off + attempts[i].l4_at] = (uint8_t)attempts[i].l4_to;
		head_len = m.head_bytes - attempts[i].head_short;
		result = seg_begin(&s, copy_at_the_edge(m.f, head_len), head_len, m.bytes, attempts[i].kind,
				   attempts[i].gso_bytes);
		if (result != attempts[i].result)
			fail_msg("%s: %d", attempts[i].why, result);
	}
}

static void a_head_longer_than_its_frame_is_refused(void **state)
{
	static struct made m;
	struct seg s;

	(void)state;
	make(&(struct shape){.version = 4}, 0, &m);
	assert_int_equal(seg_begin(&s, m.f, m.head_bytes, m.head_bytes, SEG_TCP4, 1), 0);
	assert_int_equal(seg_begin(&s, m.f, m.head_bytes + 1, m.head_bytes, SEG_TCP4, 1), -EINVAL);
}

static void nothing_behind_head_or_frame_is_touched_whatever_it_says(void **state)
{
	unsigned accepted = 0;

	(void)state;
	for (unsigned round = 0; round < 100000; round++) {
		static struct made m;
		struct shape h = random_shape();
		uint32_t head_len, out_len, off, len, end, count = 0;
		uint8_t p[256];
		struct seg s;

		make(&h, rnd_below(300), &m);
		for (unsigned hits = rnd_below(4); hits; hits--)
			m.f[rnd_below(m.head_bytes)] = (uint8_t)rnd();
		head_len = rnd() & 1 ? m.head_bytes : rnd_below(min_u32(m.bytes, 200) + 1);
		if (seg_begin(&s, copy_at_the_edge(m.f, head_len), head_len, m.bytes, (enum seg_kind)rnd_below(3),
			      rnd_below(99)))
			continue;
		accepted++;
		for (end = s.head_bytes; seg_next(&s, p, &out_len, &off, &len); end += len, count++) {
			assert_true(out_len == s.head_bytes && out_len <= head_len);
			assert_int_equal(off, end);
		}
		assert_int_equal(end, m.bytes);
		assert_int_equal(count, s.count);
	}
	assert_true(accepted > 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_cut_as_linux_cuts_them),
		cmocka_unit_test(frames_of_every_shape_come_together_again),
		cmocka_unit_test(random_frames_come_together_again),
		cmocka_unit_test(segments_carry_the_seed_of_their_checksum),
		cmocka_unit_test(a_checksum_of_zero_is_sent_as_all_ones_in_udp_only),
		cmocka_unit_test(the_whole_frame_is_made_right_for_whoever_cuts_it),
		cmocka_unit_test(the_whole_frame_gets_the_seed_that_linux_expects),
		cmocka_unit_test(a_frame_longer_than_ip_can_say_is_only_cut),
		cmocka_unit_test(what_cannot_be_cut_is_refused),
		cmocka_unit_test(a_head_longer_than_its_frame_is_refused),
		cmocka_unit_test(nothing_behind_head_or_frame_is_touched_whatever_it_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
