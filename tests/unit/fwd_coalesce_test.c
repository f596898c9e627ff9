/* SPDX-License-Identifier: Apache-2.0 */
/* Segments from a wire, to a port that takes super-frames. What may be merged is wire_merge_test.c's. */
#include "fwd/coalesce.h"
#include "fwd_rig.h"
#include "wire/csum.h"
#include "wire_frames.h"

#define A       UINT64_C(0x520000000001)
#define B       UINT64_C(0x520000000002)
#define IP      14
#define TCP_OFF (IP + 20)
#define HEAD    (TCP_OFF + 20)
#define MSS     1000
#define TCP     6
#define ACK     0x10
#define WIRE    0
#define OUT     1

static uint8_t payload[FRAME_BATCH * MSS];

/* Segment @k of flow @flow, @n bytes long, its body in pieces of @piece, with its checksum complete. */
static struct frame *put_segment(uint16_t flow, unsigned k, uint32_t n, uint32_t piece)
{
	struct frame *f = put(B, A, UNTAGGED, 0);
	uint32_t at = min_u32(n, FRAME_HEAD_MAX - HEAD);
	uint8_t *ip = f->data + IP, *tcp = f->data + TCP_OFF;
	const uint8_t *from = payload + (size_t)k * MSS;
	struct csum c;

	be16_put(f->data + 12, ETH_P_IP4);
	memset(ip, 0, 40);
	memcpy(ip, "\x45\0\0\0\0\0\x40\0\x40\x06\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	be16_put(ip + 2, (uint16_t)(40 + n));
	be16_put(ip + 4, (uint16_t)(100 + k));
	csum_ip4_set(ip, 20);
	be16_put(tcp, flow);
	be16_put(tcp + 2, 80);
	be32_put(tcp + 4, k * MSS);
	tcp[12] = 5 << 4;
	tcp[13] = ACK;
	c = csum_pseudo4(ip + 12, ip + 16, TCP, 20 + n);
	csum_add(&c, tcp, 20);
	csum_add(&c, from, n);
	be16_put(tcp + 16, csum_done(&c));
	memcpy(f->data + HEAD, from, at);
	f->len = HEAD + n;
	f->head_len = HEAD + at;
	f->body = &batch.spans[batch.n_spans];
	for (; at < n; at += min_u32(piece, n - at), f->n_body++)
		batch.spans[batch.n_spans++] = (struct wire_piece){from + at, min_u32(piece, n - at)};
	return f;
}

static void begin(void)
{
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 13 + i / 251);
	plain_switch_up(3);
	assert_int_equal(send(OUT, A, B), 1 << 0 | 1 << 2); /* B is learned */
	fake[WIRE]->port.coalesce = true;
	fake[OUT]->port.takes = OFFLOAD_ALL;
	new_batch();
}

/* Frame @i that OUT got is @n bytes of payload from segment @k on, in one frame of @count segments. */
static void check(unsigned i, unsigned k, uint32_t n, unsigned count)
{
	const struct frame_offload *off = &fake[OUT]->got[i].off;

	assert_true(i < fake[OUT]->n);
	assert_int_equal(fake[OUT]->got[i].len, HEAD + n);
	assert_int_equal(be16_get(fake[OUT]->got[i].bytes + IP + 2), 40 + n);
	assert_int_equal(off->gso_type, count > 1 ? NET_HDR_GSO_TCPV4 : NET_HDR_GSO_NONE);
	if (count > 1) {
		assert_int_equal(off->flags, NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(off->gso_size, MSS);
		assert_int_equal(off->hdr_len, HEAD);
		assert_int_equal(off->csum_start, TCP_OFF);
		assert_int_equal(off->csum_offset, 16);
	}
	assert_memory_equal(fake[OUT]->got[i].bytes + HEAD, payload + (size_t)k * MSS, n);
}

static void segments_become_one_frame(void **state)
{
	(void)state;
	for (uint32_t piece = 100; piece <= MSS; piece += 450) {
		begin();
		put_segment(1, 0, MSS, piece);
		put_segment(1, 1, MSS, piece);
		put_segment(1, 2, 500, piece);
		process(WIRE);
		assert_int_equal(fake[OUT]->n, 1);
		check(0, 0, 2 * MSS + 500, 3);
		switch_down();
	}
}

static void only_from_a_port_that_says_so_and_to_one_that_takes_it(void **state)
{
	(void)state;
	for (int why = 0; why < 3; why++) {
		begin();
		if (why == 0)
			fake[WIRE]->port.coalesce = false;
		else
			fake[OUT]->port.takes = why == 1 ? OFFLOAD_CSUM : OFFLOAD_CSUM | OFFLOAD_TSO6;
		for (unsigned k = 0; k < 3; k++)
			put_segment(1, k, MSS, MSS);
		process(WIRE);
		assert_int_equal(fake[OUT]->n, 3);
		for (unsigned k = 0; k < 3; k++)
			check(k, k, MSS, 1);
		switch_down();
	}
}

static void flows_are_merged_apart_and_other_frames_stay_where_they_are(void **state)
{
	(void)state;
	begin();
	put_segment(1, 0, MSS, MSS);
	put_segment(2, 5, MSS, MSS);
	put(B, A, UNTAGGED, 77);
	put_segment(2, 6, MSS, MSS);
	put_segment(1, 1, MSS, MSS);
	process(WIRE);
	assert_int_equal(fake[OUT]->n, 3);
	check(0, 0, 2 * MSS, 2);
	check(1, 5, 2 * MSS, 2);
	assert_int_equal(be32_get(fake[OUT]->got[2].bytes + 14), 77);
	switch_down();
}

static void a_full_batch_of_many_flows_arrives_whole(void **state)
{
	unsigned next[5] = {0};
	uint64_t bytes = 0;

	(void)state;
	begin();
	for (unsigned i = 0; i < FRAME_BATCH; i++) {
		unsigned flow = i * i % 5;

		put_segment((uint16_t)(1 + flow), next[flow]++, MSS, MSS);
	}
	process(WIRE);
	assert_in_range(fake[OUT]->n, 1, 16);
	for (unsigned i = 0; i < fake[OUT]->n; i++)
		bytes += fake[OUT]->got[i].len - HEAD;
	assert_int_equal(bytes, FRAME_BATCH * MSS);
	switch_down();
}

static void what_is_not_in_order_is_not_merged_over(void **state)
{
	(void)state;
	begin();
	put_segment(1, 0, MSS, MSS);
	put_segment(1, 2, MSS, MSS); /* ends the run of 0, and begins its own */
	put_segment(1, 1, MSS, MSS);
	put_segment(1, 2, MSS, MSS);
	process(WIRE);
	assert_int_equal(fake[OUT]->n, 3);
	check(0, 0, MSS, 1);
	check(1, 2, MSS, 1);
	check(2, 1, 2 * MSS, 2);
	switch_down();
}

/* Cutting gives good checksums, so a bad one must not get in: neither as the first nor as a later one. */
static void a_bad_checksum_stays_alone_and_bad(void **state)
{
	(void)state;
	for (unsigned bad = 0; bad < 4; bad++) {
		uint16_t csum = 0;

		begin();
		for (unsigned k = 0; k < 4; k++) {
			struct frame *f = put_segment(1, k, MSS, MSS);

			if (k != bad)
				continue;
			csum = be16_get(f->data + TCP_OFF + 16) ^ 0x0100;
			be16_put(f->data + TCP_OFF + 16, csum);
		}
		process(WIRE);
		for (unsigned i = 0, k = 0; i < fake[OUT]->n; k += (fake[OUT]->got[i++].len - HEAD) / MSS) {
			if (k == bad)
				assert_int_equal(be16_get(fake[OUT]->got[i].bytes + TCP_OFF + 16), csum);
			check(i, k, fake[OUT]->got[i].len - HEAD, (fake[OUT]->got[i].len - HEAD) / MSS);
			assert_true(k == bad || k > bad || k + (fake[OUT]->got[i].len - HEAD) / MSS <= bad);
			assert_true(k != bad || fake[OUT]->got[i].len == HEAD + MSS);
		}
		switch_down();
	}
}

static void a_checksum_that_was_verified_is_not_looked_at(void **state)
{
	(void)state;
	for (unsigned flags = NET_HDR_F_NEEDS_CSUM; flags <= NET_HDR_F_DATA_VALID; flags++) {
		begin();
		for (unsigned k = 0; k < 2; k++) {
			struct frame *f = put_segment(1, k, MSS, MSS);

			be16_put(f->data + TCP_OFF + 16, 0x1234);
			f->off = (struct frame_offload){
				.flags = (uint8_t)flags, .csum_start = TCP_OFF, .csum_offset = 16};
		}
		process(WIRE);
		assert_int_equal(fake[OUT]->n, 1);
		check(0, 0, 2 * MSS, 2);
		switch_down();
	}
}

static void vlans_and_priorities_are_not_mixed(void **state)
{
	static const uint16_t tci[][2] = {{10, 11}, {10, 10 | 0x2000}};
	struct fwd_port_conf conf[] = {trunk_of(0, 10, 11, 0), trunk_of(0, 10, 11, 0)};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(tci); i++) {
		switch_up(conf, 2);
		for (unsigned k = 0; k < 2; k++)
			send_tagged(1, A, B, tci[i][k]);
		fake[0]->port.coalesce = true;
		fake[1]->port.takes = OFFLOAD_ALL;
		new_batch();
		for (unsigned k = 0; k < 2; k++) {
			struct frame *f = put_segment(1, k, MSS, MSS);

			frame_push_tag(f, tci[i][k]);
			f->tagged = false;
		}
		process(0);
		assert_int_equal(fake[1]->n, 2);
		switch_down();
	}
}

static void a_super_frame_ends_a_run(void **state)
{
	struct frame *f;

	(void)state;
	begin();
	put_segment(1, 0, MSS, MSS);
	f = put_segment(1, 1, 2 * MSS, 2 * MSS);
	f->off = (struct frame_offload){.flags = NET_HDR_F_NEEDS_CSUM,
					.gso_type = NET_HDR_GSO_TCPV4,
					.gso_size = MSS,
					.hdr_len = HEAD,
					.csum_start = TCP_OFF,
					.csum_offset = 16};
	put_segment(1, 3, MSS, MSS);
	process(WIRE);
	assert_int_equal(fake[OUT]->n, 3);
	check(0, 0, MSS, 1);
	check(1, 1, 2 * MSS, 2);
	check(2, 3, MSS, 1);
	switch_down();
}

/* More pieces than there is room for: the rest stays as it is. */
static void room_for_pieces_is_bounded(void **state)
{
	uint64_t bytes = 0;

	(void)state;
	begin();
	for (unsigned k = 0; k < 20; k++)
		put_segment(1, k, MSS, 20);
	process(WIRE);
	assert_in_range(fake[OUT]->n, 2, 20);
	for (unsigned i = 0; i < fake[OUT]->n; i++)
		bytes += fake[OUT]->got[i].len - HEAD;
	assert_int_equal(bytes, 20 * MSS);
	switch_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_become_one_frame),
		cmocka_unit_test(only_from_a_port_that_says_so_and_to_one_that_takes_it),
		cmocka_unit_test(flows_are_merged_apart_and_other_frames_stay_where_they_are),
		cmocka_unit_test(a_full_batch_of_many_flows_arrives_whole),
		cmocka_unit_test(what_is_not_in_order_is_not_merged_over),
		cmocka_unit_test(a_bad_checksum_stays_alone_and_bad),
		cmocka_unit_test(a_checksum_that_was_verified_is_not_looked_at),
		cmocka_unit_test(vlans_and_priorities_are_not_mixed),
		cmocka_unit_test(a_super_frame_ends_a_run),
		cmocka_unit_test(room_for_pieces_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
