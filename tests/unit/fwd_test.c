/* SPDX-License-Identifier: Apache-2.0 */
/* Learning, looking up and delivering, in one VLAN. */
#include <errno.h>

#include "fwd_rig.h"

#define A UINT64_C(0x02000000000a)
#define B UINT64_C(0x02000000000b)
#define C UINT64_C(0x02000000000c)
#define X UINT64_C(0x0200000000ff) /* nobody */

/* ---- learning ---- */

static void unknown_stations_are_searched_everywhere_and_known_ones_are_not(void **state)
{
	(void)state;
	plain_switch_up(4);
	assert_int_equal(send(0, B, A), 0xe);
	assert_int_equal(send(1, A, B), 0x1);
	assert_int_equal(send(0, B, A), 0x2);
	assert_int_equal(send(2, A, C), 0x1);
	assert_int_equal(send(3, X, X - 1), 0x7);
	assert_int_equal(stats().entries, 4);
	assert_int_equal(stats().learned, 4);
	assert_int_equal(all_drops(), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(fake[i]->port.counters[WORKER].tx_flooded, i ? 1 + (i < 3) : 1);
	switch_down();
}

static void groups_are_flooded_and_counted(void **state)
{
	(void)state;
	plain_switch_up(3);
	assert_int_equal(send(0, BROADCAST, A), 0x6);
	assert_int_equal(send(0, 0x01005e000001, A), 0x6);
	assert_int_equal(send(0, 0x333300000001, A), 0x6);
	assert_int_equal(send(1, BROADCAST, B), 0x5);
	assert_int_equal(fake[0]->port.counters[WORKER].rx_broadcast, 1);
	assert_int_equal(fake[0]->port.counters[WORKER].rx_multicast, 2);
	assert_int_equal(fake[1]->port.counters[WORKER].rx_broadcast, 1);
	assert_int_equal(fake[2]->port.counters[WORKER].tx_flooded, 4);
	switch_down();
}

/* IEEE 802.1Q 8.6.3 */
static void what_bridges_keep_to_themselves_is_not_forwarded(void **state)
{
	(void)state;
	plain_switch_up(2);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(send(0, 0x0180c2000000 + i, A), 0);
	assert_int_equal(drops(0, DROP_LINK_LOCAL), 16);
	assert_int_equal(fake[0]->port.counters[WORKER].rx_multicast, 0);
	assert_int_equal(send(0, 0x0180c2000010, A), 0x2);
	assert_int_equal(send(0, 0x0180c1ffffff, A), 0x2);
	assert_int_equal(all_drops(), 16);
	switch_down();
}

static void impossible_sources_are_dropped_and_not_learned(void **state)
{
	(void)state;
	plain_switch_up(2);
	assert_int_equal(send(0, B, 0), 0);
	assert_int_equal(send(0, B, BROADCAST), 0);
	assert_int_equal(send(0, B, 0x030000000001), 0);
	assert_int_equal(drops(0, DROP_BAD_SOURCE), 3);
	assert_int_equal(stats().entries, 0);
	switch_down();
}

static void a_station_that_moves_is_followed(void **state)
{
	(void)state;
	plain_switch_up(3);
	send(0, X, A);
	assert_int_equal(send(2, A, C), 0x1);
	send(1, X, A);
	assert_int_equal(send(2, A, C), 0x2);
	send(1, X, A);
	assert_int_equal(stats().moved, 1);
	assert_int_equal(stats().entries, 2);
	switch_down();
}

static void what_is_behind_the_same_port_is_not_sent_back(void **state)
{
	(void)state;
	plain_switch_up(3);
	send(0, X, A);
	assert_int_equal(send(0, A, B), 0);
	assert_int_equal(drops(0, DROP_SAME_PORT), 1);
	assert_int_equal(send(0, A, A), 0);
	assert_int_equal(drops(0, DROP_SAME_PORT), 2);
	switch_down();
}

static void a_frame_for_nobody_is_a_drop(void **state)
{
	(void)state;
	plain_switch_up(2);
	fake[1]->port.up = false;
	fwd_link_changed(sw, &fake[1]->port);
	assert_int_equal(send(0, X, A), 0);
	assert_int_equal(send(0, BROADCAST, A), 0);
	assert_int_equal(drops(0, DROP_NO_DESTINATION), 2);
	assert_int_equal(all_drops(), 2);
	switch_down();
}

/* ---- forgetting ---- */

static void addresses_age_unless_they_are_heard_again(void **state)
{
	uint32_t now;

	(void)state;
	plain_switch_up(3);
	fwd_set_ageing(sw, 100);
	fwd_age(sw);
	now = sw->fdb.now_s;
	/* fwd_age() sets the clock to the real time: so we learn in the past. */
	sw->fdb.now_s = now - 102;
	send(0, X, A);
	send(1, X, B);
	sw->fdb.now_s = now - 50;
	send(1, X, B);
	fwd_age(sw);
	assert_int_equal(stats().entries, 1);
	assert_int_equal(stats().aged, 1);
	assert_int_equal(send(2, A, C), 0x3);
	assert_int_equal(send(2, B, C), 0x2);

	fwd_set_ageing(sw, 0); /* never */
	sw->fdb.now_s = now - 100000;
	send(0, X, A);
	fwd_age(sw);
	assert_int_equal(send(2, A, C), 0x1);
	switch_down();
}

static void flushing_forgets_everything_learned(void **state)
{
	(void)state;
	plain_switch_up(3);
	send(0, X, A);
	send(1, X, B);
	assert_int_equal(fwd_fdb_flush(sw), 2);
	assert_int_equal(fwd_fdb_flush(sw), 0);
	assert_int_equal(stats().entries, 0);
	assert_int_equal(send(2, A, C), 0x3);
	switch_down();
}

static void a_port_that_goes_down_is_forgotten_and_skipped(void **state)
{
	(void)state;
	plain_switch_up(3);
	send(0, X, A);
	send(1, X, B);
	fake[0]->port.up = false;
	assert_int_equal(send(2, A, C), 0); /* between the fall and the news of it */
	assert_int_equal(drops(0, DROP_PORT_DOWN), 1);
	fwd_link_changed(sw, &fake[0]->port);
	assert_int_equal(stats().entries, 2);
	assert_int_equal(send(2, A, C), 0x2); /* unknown now: to who is up */
	assert_int_equal(send(2, B, C), 0x2);
	fake[0]->port.up = true;
	fwd_link_changed(sw, &fake[0]->port);
	assert_int_equal(stats().entries, 2);
	assert_int_equal(send(2, A, C), 0x3);
	assert_int_equal(all_drops(), 1);
	switch_down();
}

/* ---- bounds ---- */

static void the_table_is_bounded_and_so_is_a_ports_share(void **state)
{
	unsigned learned;

	(void)state;
	plain_switch_up(3);
	assert_int_equal(stats().capacity, 64);
	for (unsigned i = 0; i < 1000; i++)
		send(0, X, UINT64_C(0x020000010000) + i);
	learned = stats().entries;
	assert_in_range(learned, 20, 32); /* half of 64, less what found no place */
	assert_int_equal(stats().learned + stats().full, 1000);

	for (unsigned i = 0; i < 20; i++)
		send(1, X, UINT64_C(0x020000020000) + i);
	assert_in_range(stats().entries, learned + 15, learned + 20); /* another port still finds place */
	for (unsigned i = 0; i < 1000; i++) {
		send(1, X, UINT64_C(0x020000030000) + i);
		send(2, X, UINT64_C(0x020000040000) + i);
	}
	assert_in_range(stats().entries, 50, 64);
	/* A full table still forwards, and still knows whom it knew. */
	assert_int_equal(send(2, UINT64_C(0x020000010000), C), 0x1);
	learned = stats().entries;
	assert_int_equal(fwd_fdb_flush(sw), learned);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(sw->fdb.of_port[i], 0);
	switch_down();
}

/* The keys that fill one place of the table must not be to be had by calculation: whoever could choose his addresses so
 * would keep a neighbour's from being learned, and get his frames by flooding. */
static void nobody_can_choose_addresses_that_collide(void **state)
{
	unsigned lost = 0;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		plain_switch_up(3);
		/* Addresses that share both places with A if places come from key * 0x9e3779b97f4a7c15 alone. */
		for (uint64_t i = 1, n = 0; n < 16; i++) {
			uint64_t mac = (A + (i << 20)) & UINT64_C(0xfeffffffffff);
			uint64_t h = fdb_key(1, mac) * UINT64_C(0x9e3779b97f4a7c15);
			uint64_t a = fdb_key(1, A) * UINT64_C(0x9e3779b97f4a7c15);

			h ^= h >> 29;
			a ^= a >> 29;
			if (((h >> 32 ^ a >> 32) & 31) || ((h ^ a) & 31))
				continue;
			send(0, X, mac);
			n++;
		}
		send(1, X, A);
		lost += send(2, A, C) != 0x2;
		switch_down();
	}
	assert_in_range(lost, 0, 3); /* by chance it may happen */
}

/* ---- delivery ---- */

static void frames_to_one_port_keep_their_order(void **state)
{
	(void)state;
	plain_switch_up(3);
	send(1, X, B);
	send(2, X, C);
	new_batch();
	for (uint32_t i = 0; i < FRAME_BATCH; i++) {
		static const uint64_t dst[] = {B, BROADCAST, C, X, B, 0x0180c2000000, B, A};

		put(dst[i % 8], A, UNTAGGED, i);
	}
	process(0);
	assert_int_equal(fake[0]->n, 0);
	for (unsigned p = 1; p < 3; p++) {
		uint32_t last = 0;

		assert_int_equal(fake[p]->n, p == 1 ? 8 * 5 : 8 * 3);
		for (unsigned i = 0; i < fake[p]->n; i++) {
			uint32_t mark = be32_get(fake[p]->got[i].bytes + 14);

			assert_true(i == 0 || mark > last);
			last = mark;
		}
	}
	assert_int_equal(drops(0, DROP_LINK_LOCAL), 8);
	assert_int_equal(drops(0, DROP_SAME_PORT), 8);
	assert_int_equal(all_drops(), 16);
	switch_down();
}

static void long_frames_pass_whole_and_only_where_they_fit(void **state)
{
	uint8_t body[1600];
	struct frame *f;

	(void)state;
	plain_switch_up(4);
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(i * 31);
	fake[1]->port.mtu = 1499;
	fake[2]->port.mtu = 9000;
	new_batch();
	f = put(BROADCAST, A, UNTAGGED, 1);
	batch.spans[0] = (struct wire_piece){body, 1000};
	batch.spans[1] = (struct wire_piece){body + 1000, 1514 - 60 - 1000};
	f->body = batch.spans;
	f->n_body = 2;
	f->len = 1514;
	process(0);
	assert_int_equal(fake[1]->n, 0);
	assert_int_equal(drops(1, DROP_TOO_BIG), 1);
	for (unsigned p = 2; p < 4; p++) {
		assert_int_equal(fake[p]->n, 1);
		assert_int_equal(fake[p]->got[0].len, 1514);
		assert_memory_equal(fake[p]->got[0].bytes + 60, body, 1514 - 60);
	}
	assert_int_equal(all_drops(), 1);
	switch_down();
}

static void ports_that_were_sent_to_are_told_to_flush(void **state)
{
	(void)state;
	plain_switch_up(4);
	send(1, X, B);
	send(2, X, C);
	new_batch();
	put(B, A, UNTAGGED, 0);
	process(0);
	assert_int_equal(work.touched.bits[0], 1 << 1);
	put(C, A, UNTAGGED, 0); /* what was asked before stays asked */
	process(0);
	assert_int_equal(work.touched.bits[0], 1 << 1 | 1 << 2);
	switch_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_stations_are_searched_everywhere_and_known_ones_are_not),
		cmocka_unit_test(groups_are_flooded_and_counted),
		cmocka_unit_test(what_bridges_keep_to_themselves_is_not_forwarded),
		cmocka_unit_test(impossible_sources_are_dropped_and_not_learned),
		cmocka_unit_test(a_station_that_moves_is_followed),
		cmocka_unit_test(what_is_behind_the_same_port_is_not_sent_back),
		cmocka_unit_test(a_frame_for_nobody_is_a_drop),
		cmocka_unit_test(addresses_age_unless_they_are_heard_again),
		cmocka_unit_test(flushing_forgets_everything_learned),
		cmocka_unit_test(a_port_that_goes_down_is_forgotten_and_skipped),
		cmocka_unit_test(the_table_is_bounded_and_so_is_a_ports_share),
		cmocka_unit_test(nobody_can_choose_addresses_that_collide),
		cmocka_unit_test(frames_to_one_port_keep_their_order),
		cmocka_unit_test(long_frames_pass_whole_and_only_where_they_fit),
		cmocka_unit_test(ports_that_were_sent_to_are_told_to_flush),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
