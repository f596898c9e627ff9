/* SPDX-License-Identifier: Apache-2.0 */
/* Who is told that a frame was too long, and how often. What is said: wire_icmp_test.c. */
#include "fwd_rig.h"
#include "wire_frames.h"

#define A   UINT64_C(0x520000000001)
#define B   UINT64_C(0x520000000002)
#define IN  0
#define OUT 1

/* An IPv4 frame of @bytes with a body of zeros. */
static struct frame *put_ip(uint64_t dst, int tci, uint32_t bytes)
{
	static const uint8_t zeros[2000];
	struct frame *f = put(dst, A, tci, 0);
	uint8_t *type = f->data + (tci == UNTAGGED ? 12 : 16), *ip = type + 2;

	be16_put(type, ETH_P_IP4);
	memcpy(ip, "\x45\0\0\0\0\0\x40\0\x40\x11\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	be16_put(ip + 2, (uint16_t)(bytes - (uint32_t)(ip - f->data)));
	be16_put(ip + 10, (uint16_t)~slow_sum(0, ip, 20));
	f->head_len = 60;
	f->body = &batch.spans[batch.n_spans];
	f->n_body = 1;
	batch.spans[batch.n_spans++] = (struct wire_piece){zeros, bytes - 60};
	f->len = bytes;
	return f;
}

static void begin(void)
{
	plain_switch_up(3);
	send(OUT, A, B);
	fake[IN]->port.tell_too_big = true;
	new_batch();
}

static void the_sender_of_a_long_frame_is_told_the_mtu(void **state)
{
	const uint8_t *p;

	(void)state;
	begin();
	put_ip(B, UNTAGGED, 1514);
	put_ip(B, UNTAGGED, 1515);
	process(IN);
	assert_int_equal(fake[OUT]->n, 1);
	assert_int_equal(drops(OUT, DROP_TOO_BIG), 1);
	assert_int_equal(fake[IN]->n, 1);
	p = fake[IN]->got[0].bytes;
	assert_true(mac_u64_at(p) == A && mac_u64_at(p + 6) == B);
	assert_memory_equal(p + 14 + 20, "\3\4", 2);
	assert_int_equal(be16_get(p + 14 + 20 + 6), 1500);
	assert_true(work.touched.bits[0] >> IN & 1);
	switch_down();
}

static void nobody_is_told_who_does_not_want_it_or_floods(void **state)
{
	(void)state;
	for (int flood = 0; flood < 2; flood++) {
		begin();
		fake[IN]->port.tell_too_big = flood;
		put_ip(flood ? BROADCAST : B, UNTAGGED, 1515);
		process(IN);
		assert_int_equal(fake[IN]->n, 0);
		assert_int_equal(drops(OUT, DROP_TOO_BIG), 1);
		switch_down();
	}
}

static void answers_are_limited_in_each_second(void **state)
{
	unsigned n = 0;

	(void)state;
	begin();
	for (unsigned second = 0; second < 2; second++) {
		atomic_store(&sw->fdb.now_s, 100 + second);
		for (unsigned i = 0; i < 3; i++) {
			batch.n = batch.n_spans = 0;
			for (unsigned k = 0; k < FRAME_BATCH; k++)
				put_ip(B, UNTAGGED, 1515);
			process(IN);
		}
		assert_int_equal(fake[IN]->n - n, 100);
		n = fake[IN]->n;
	}
	switch_down();
}

/* Or whoever is behind the same port, and sends what is no IP, could keep others from being told. */
static void what_is_not_answered_does_not_count(void **state)
{
	(void)state;
	begin();
	for (unsigned i = 0; i < 2; i++) {
		batch.n = batch.n_spans = 0;
		for (unsigned k = 0; k < FRAME_BATCH; k++)
			be16_put(put_ip(B, UNTAGGED, 1515)->data + 12, 0x88b5);
		process(IN);
	}
	batch.n = batch.n_spans = 0;
	put_ip(B, UNTAGGED, 1515);
	process(IN);
	assert_int_equal(fake[IN]->n, 1);
	switch_down();
}

static void an_answer_fits_the_senders_mtu(void **state)
{
	(void)state;
	begin();
	fake[IN]->port.mtu = FRAME_MTU_MIN;
	put_ip(B, UNTAGGED, 1515);
	process(IN);
	for (unsigned i = 0; i < fake[IN]->n; i++)
		assert_in_range(fake[IN]->got[i].len, 0, FRAME_MTU_MIN + 14);
	switch_down();
}

static void the_answer_comes_by_the_vlan_of_the_question(void **state)
{
	struct fwd_port_conf conf[] = {trunk_of(0, 10, 11, 0), access_to(11)};

	(void)state;
	switch_up(conf, 2);
	send(1, A, B);
	fake[0]->port.tell_too_big = true;
	new_batch();
	put_ip(B, 0x6000 | 11, 1519);
	process(0);
	assert_int_equal(fake[0]->n, 1);
	assert_int_equal(be16_get(fake[0]->got[0].bytes + 14), 0x6000 | 11);
	switch_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sender_of_a_long_frame_is_told_the_mtu),
		cmocka_unit_test(nobody_is_told_who_does_not_want_it_or_floods),
		cmocka_unit_test(answers_are_limited_in_each_second),
		cmocka_unit_test(what_is_not_answered_does_not_count),
		cmocka_unit_test(an_answer_fits_the_senders_mtu),
		cmocka_unit_test(the_answer_comes_by_the_vlan_of_the_question),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
