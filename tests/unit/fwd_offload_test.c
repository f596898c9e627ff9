/* SPDX-License-Identifier: Apache-2.0 */
/* Frames with work left undone, to ports that do it and ports that do not. */
#include "fwd/finish.h"
#include "fwd_rig.h"
#include "port/offload.h"
#include "wire/csum.h"
#include "wire_frames.h"

#define A       UINT64_C(0x520000000001)
#define B       UINT64_C(0x520000000002)
#define HEAD4   (14u + 20 + 32) /* with TCP timestamps */
#define SEQ     0xfffff000u     /* wraps in the middle */
#define IP_ID   0xfff0
#define IN      0
#define OUT     1
#define TCP_OFF (14 + 20)
#define TCP     6
#define UDP     17
#define ACK     0x10
#define PSH     0x08

static uint8_t payload[66000];

static void put_ip4(uint8_t *ip, uint32_t bytes, uint8_t proto)
{
	memset(ip, 0, 20);
	ip[0] = 0x45;
	be16_put(ip + 2, (uint16_t)bytes);
	be16_put(ip + 4, IP_ID);
	ip[8] = 64;
	ip[9] = proto;
	memcpy(ip + 12, "\x0a\0\0\1\x0a\0\0\2", 8);
	csum_ip4_set(ip, 20);
}

static void put_l4(uint8_t *l4, uint8_t proto, uint32_t n)
{
	memset(l4, 0, 32);
	be16_put(l4, 4000);
	be16_put(l4 + 2, 80);
	if (proto == UDP) {
		be16_put(l4 + 4, (uint16_t)(8 + n));
		return;
	}
	be32_put(l4 + 4, SEQ);
	l4[12] = 8 << 4;
	l4[13] = ACK | PSH;
	memcpy(l4 + 20, "\1\1\x08\x0a\0\0\0\1\0\0\0\2", 12);
}

/* A frame of @n payload bytes in pieces of @piece, taken as if a guest had sent it so. */
static struct frame *put_long(uint64_t dst, uint8_t proto, uint32_t n, uint16_t gso_size, uint32_t piece)
{
	struct frame *f = put(dst, A, UNTAGGED, 0);
	uint32_t head = proto == UDP ? 14 + 20 + 8 : HEAD4, at = min_u32(n, FRAME_HEAD_MAX - head);
	struct net_hdr h = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = TCP_OFF, .gso_size = gso_size};

	h.csum_offset = proto == UDP ? 6 : 16;
	if (gso_size)
		h.gso_type = proto == UDP ? NET_HDR_GSO_UDP_L4 : NET_HDR_GSO_TCPV4;
	be16_put(f->data + 12, ETH_P_IP4);
	put_ip4(f->data + 14, head - 14 + n, proto);
	put_l4(f->data + TCP_OFF, proto, n);
	memcpy(f->data + head, payload, at);
	f->len = head + n;
	f->head_len = head + at;
	f->body = &batch.spans[batch.n_spans];
	for (; at < n; at += min_u32(piece, n - at), f->n_body++)
		batch.spans[batch.n_spans++] = (struct wire_piece){payload + at, min_u32(piece, n - at)};
	assert_int_equal(offload_take(f, &h, OFFLOAD_ALL), DROP_N);
	return f;
}

/* Frame @i that port @k got is the next piece of the payload, in a right frame; returns its length. */
static uint32_t check_segment(unsigned k, unsigned i, uint32_t at, bool finished)
{
	const uint8_t *p = fake[k]->got[i].bytes, *tcp = p + TCP_OFF;
	uint32_t n = fake[k]->got[i].len - HEAD4;

	assert_int_equal(be16_get(p + 14 + 2), fake[k]->got[i].len - 14);
	assert_int_equal(be16_get(p + 14 + 4), (uint16_t)(IP_ID + i));
	assert_int_equal(slow_sum(0, p + 14, 20), 0xffff);
	assert_true(be32_get(tcp + 4) == SEQ + at);
	assert_memory_equal(p + HEAD4, payload + at, n);
	assert_int_equal(fake[k]->got[i].off.gso_type, NET_HDR_GSO_NONE);
	assert_int_equal(fake[k]->got[i].off.flags, finished ? NET_HDR_F_DATA_VALID : NET_HDR_F_NEEDS_CSUM);
	if (finished)
		assert_int_equal(slow_l4_sum(4, p + 14, TCP, tcp, HEAD4 - TCP_OFF + n), 0xffff);
	else
		assert_int_equal(fake[k]->got[i].off.csum_start, TCP_OFF);
	return n;
}

/* Port @k got @n bytes of payload, whole and in order, cut at @size. */
static void check_cut(unsigned k, uint32_t n, uint32_t size, bool finished)
{
	uint32_t at = 0;

	assert_int_equal(fake[k]->n, (n + size - 1) / size);
	for (unsigned i = 0; i < fake[k]->n; i++) {
		uint32_t bytes = check_segment(k, i, at, finished);

		assert_int_equal(bytes, min_u32(size, n - at));
		assert_int_equal(fake[k]->got[i].bytes[TCP_OFF + 13] & PSH, at + bytes == n ? PSH : 0);
		at += bytes;
	}
	assert_int_equal(at, n);
}

static void begin(uint32_t takes)
{
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 7 + i / 256);
	plain_switch_up(4);
	assert_int_equal(send(OUT, A, B), 1 << 0 | 1 << 2 | 1 << 3); /* B is learned */
	fake[OUT]->port.takes = takes;
	new_batch();
}

static void who_takes_super_frames_gets_them_whole(void **state)
{
	(void)state;
	begin(OFFLOAD_ALL);
	put_long(B, TCP, 64000, 1448, 4096);
	process(IN);
	assert_int_equal(fake[OUT]->n, 1);
	assert_int_equal(fake[OUT]->got[0].len, HEAD4 + 64000);
	assert_int_equal(fake[OUT]->got[0].off.gso_type, NET_HDR_GSO_TCPV4);
	assert_int_equal(fake[OUT]->got[0].off.gso_size, 1448);
	assert_int_equal(fake[OUT]->got[0].off.hdr_len, HEAD4);
	switch_down();
}

static void others_get_segments_with_what_they_do_not_take_done(void **state)
{
	static const uint32_t takes[] = {0, OFFLOAD_CSUM, OFFLOAD_CSUM | OFFLOAD_TSO6 | OFFLOAD_USO4};
	static const uint32_t piece[] = {65536, 4096, 1448, 1000, 97};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(takes); i++)
		for (unsigned k = 0; k < ARRAY_SIZE(piece); k++) {
			begin(takes[i]);
			put_long(B, TCP, 64001, 1448, piece[k]);
			process(IN);
			check_cut(OUT, 64001, 1448, takes[i] == 0);
			switch_down();
		}
}

static void payload_in_crumbs_is_cut_right(void **state)
{
	(void)state;
	for (uint32_t gso_size = 60; gso_size < 70; gso_size++) {
		begin(0);
		put_long(B, TCP, 1900, (uint16_t)gso_size, 1);
		process(IN);
		check_cut(OUT, 1900, gso_size, true);
		switch_down();
	}
}

static void a_checksum_is_completed_for_who_does_not(void **state)
{
	(void)state;
	for (int takes = 0; takes < 2; takes++) {
		begin(takes ? OFFLOAD_CSUM : 0);
		put_long(B, TCP, 900, 0, 100);
		process(IN);
		check_cut(OUT, 900, 900, !takes);
		switch_down();
	}
}

static void tcp_is_cut_to_a_smaller_mtu_and_datagrams_are_not(void **state)
{
	(void)state;
	for (int udp = 0; udp < 2; udp++) {
		begin(OFFLOAD_ALL);
		put_long(B, udp ? UDP : TCP, 40000, 8000, 4096);
		process(IN);
		if (udp)
			assert_int_equal(fake[OUT]->n, 0);
		else
			check_cut(OUT, 40000, 1500 + 14 - HEAD4, false);
		assert_int_equal(drops(OUT, DROP_TOO_BIG), udp);
		switch_down();
	}
}

static void an_mtu_without_room_for_payload_drops(void **state)
{
	(void)state;
	begin(0);
	fake[OUT]->port.mtu = HEAD4 - 14 + CUT_PAYLOAD_MIN - 1;
	put_long(B, TCP, 400, 100, 4096);
	process(IN);
	assert_int_equal(drops(OUT, DROP_TOO_BIG), 1);
	new_batch();
	fake[OUT]->port.mtu++;
	put_long(B, TCP, 400, 100, 4096);
	process(IN);
	check_cut(OUT, 400, CUT_PAYLOAD_MIN, true);
	switch_down();
}

/* Each gets what it takes, in the order it was sent, with frames before and after. */
static void a_flood_is_cut_for_some(void **state)
{
	(void)state;
	begin(0);
	fake[2]->port.takes = OFFLOAD_ALL;
	put(BROADCAST, A, UNTAGGED, 1);
	put_long(BROADCAST, TCP, 5000, 1000, 700);
	put(BROADCAST, A, UNTAGGED, 2);
	process(IN);
	assert_int_equal(fake[2]->n, 3);
	assert_int_equal(fake[2]->got[1].len, HEAD4 + 5000);
	for (unsigned k = 1; k < 4; k += 2) {
		assert_int_equal(fake[k]->n, 7);
		assert_int_equal(be32_get(fake[k]->got[0].bytes + 14), 1);
		assert_int_equal(be32_get(fake[k]->got[6].bytes + 14), 2);
		for (unsigned i = 1; i < 6; i++)
			assert_memory_equal(fake[k]->got[i].bytes + HEAD4, payload + (i - 1) * 1000, 1000);
	}
	switch_down();
}

static void segments_are_tagged_on_a_trunk(void **state)
{
	struct fwd_port_conf conf[] = {access_to(10), trunk_of(0, 10, 0, 0)};

	(void)state;
	switch_up(conf, 2);
	new_batch();
	put_long(BROADCAST, TCP, 3000, 1000, 4096);
	process(0);
	assert_int_equal(fake[1]->n, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(fake[1]->got[i].len, HEAD4 + 4 + 1000);
		assert_int_equal(be16_get(fake[1]->got[i].bytes + 14), 10);
		assert_memory_equal(fake[1]->got[i].bytes + HEAD4 + 4, payload + i * 1000, 1000);
	}
	switch_down();
}

/* 64 frames of a thousand segments: a sender of crumbs has its share of a batch, and no more. */
static void crumbs_are_bounded(void **state)
{
	(void)state;
	/* whoever cuts them: a kernel does it in our thread */
	for (unsigned whole = 0; whole < 2; whole++) {
		begin(whole ? OFFLOAD_ALL : 0);
		for (unsigned i = 0; i < FRAME_BATCH; i++)
			put_long(B, TCP, 8000, 8, 8000);
		process(IN);
		assert_int_equal(fake[OUT]->port.counters[WORKER].tx_frames, CUTS_MAX / 1000 * (whole ? 1 : 1000));
		assert_int_equal(drops(IN, DROP_BAD_OFFLOAD), FRAME_BATCH - CUTS_MAX / 1000);
		switch_down();
	}
}

/* What several ports do not take whole is cut for each of them. */
static void crumbs_of_a_flood_are_bounded(void **state)
{
	uint64_t sent = 0, dropped = 0;

	(void)state;
	begin(0);
	for (unsigned i = 0; i < 8; i++)
		put_long(BROADCAST, TCP, 8000, 8, 8000);
	for (unsigned k = 0; k < 4; k++) /* what went there before */
		sent -= fake[k]->port.counters[WORKER].tx_frames;
	process(IN);
	for (unsigned k = 0; k < 4; k++) {
		sent += fake[k]->port.counters[WORKER].tx_frames;
		dropped += drops(k, DROP_QUEUE_FULL);
	}
	assert_int_equal(sent, CUTS_MAX / 1000 * 1000);
	assert_int_equal(dropped, 3 * 8 - CUTS_MAX / 1000);
	switch_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_takes_super_frames_gets_them_whole),
		cmocka_unit_test(others_get_segments_with_what_they_do_not_take_done),
		cmocka_unit_test(payload_in_crumbs_is_cut_right),
		cmocka_unit_test(a_checksum_is_completed_for_who_does_not),
		cmocka_unit_test(tcp_is_cut_to_a_smaller_mtu_and_datagrams_are_not),
		cmocka_unit_test(an_mtu_without_room_for_payload_drops),
		cmocka_unit_test(a_flood_is_cut_for_some),
		cmocka_unit_test(segments_are_tagged_on_a_trunk),
		cmocka_unit_test(crumbs_are_bounded),
		cmocka_unit_test(crumbs_of_a_flood_are_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
