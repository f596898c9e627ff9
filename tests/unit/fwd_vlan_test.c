/* SPDX-License-Identifier: Apache-2.0 */
/* VLANs: who gets what, with which tag (IEEE 802.1Q 6.9, 8.6). */
#include "fwd_rig.h"

#define A UINT64_C(0x02000000000a)
#define B UINT64_C(0x02000000000b)
#define C UINT64_C(0x02000000000c)
#define X UINT64_C(0x0200000000ff)

#define PCP(n) ((n) << 13)
#define DEI    0x1000

/* Port 0: access 10; 1: access 20; 2: trunk 10 and 20, native 30; 3: trunk 20 and 40, no native; 4: access 30. */
static void mixed_switch_up(void)
{
	struct fwd_port_conf conf[] = {
		access_to(10), access_to(20), trunk_of(30, 10, 20, 0), trunk_of(0, 20, 40, 0), access_to(30),
	};

	switch_up(conf, ARRAY_SIZE(conf));
}

/* What port @p got: not a frame at all (NOTHING), one without a tag, or a TCI. */
#define NOTHING (-2)
static int tag_got(unsigned p)
{
	const uint8_t *bytes = fake[p]->got[0].bytes;

	if (fake[p]->n == 0)
		return NOTHING;
	assert_int_equal(fake[p]->n, 1);
	if (be16_get(bytes + 12) != ETH_P_VLAN) {
		assert_int_equal(fake[p]->got[0].len, 60);
		assert_int_equal(be32_get(bytes + 14), 0x12345678);
		return UNTAGGED;
	}
	assert_int_equal(fake[p]->got[0].len, 64);
	assert_int_equal(be16_get(bytes + 16), 0x88b6);
	assert_int_equal(be32_get(bytes + 18), 0x12345678);
	return be16_get(bytes + 14);
}

static void each_port_gets_its_vlans_with_the_right_tags(void **state)
{
	static const struct {
		unsigned in;
		int tci;
		int got[5];
		enum drop_reason reason; /* DROP_N: none */
		const char *why;
	} row[] = {
		{0, UNTAGGED, {NOTHING, NOTHING, 10, NOTHING, NOTHING}, DROP_N, "access 10, untagged"},
		{0, 0, {NOTHING, NOTHING, 10, NOTHING, NOTHING}, DROP_N, "access 10, a tag without a VLAN"},
		{0, PCP(5) | DEI, {NOTHING, NOTHING, PCP(5) | DEI | 10, NOTHING, NOTHING}, DROP_N, "with a priority"},
		{0, 10, {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_VLAN_TAGGED, "access 10, tagged 10"},
		{0, 20, {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_VLAN_TAGGED, "access 10, tagged 20"},
		{1, UNTAGGED, {NOTHING, NOTHING, 20, 20, NOTHING}, DROP_N, "access 20, untagged"},
		{2,
		 UNTAGGED,
		 {NOTHING, NOTHING, NOTHING, NOTHING, UNTAGGED},
		 DROP_N,
		 "trunk, untagged: its native VLAN"},
		{2, PCP(7), {NOTHING, NOTHING, NOTHING, NOTHING, UNTAGGED}, DROP_N, "trunk, priority only: as well"},
		{2, 30, {NOTHING, NOTHING, NOTHING, NOTHING, UNTAGGED}, DROP_N, "trunk, its native VLAN tagged"},
		{2, 10, {UNTAGGED, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_N, "trunk, tagged 10"},
		{2,
		 PCP(3) | 20,
		 {NOTHING, UNTAGGED, NOTHING, PCP(3) | 20, NOTHING},
		 DROP_N,
		 "trunk to access and trunk"},
		{2, 40, {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_VLAN_DENIED, "trunk, a VLAN it has not"},
		{2, 4095, {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_VLAN_DENIED, "the VID that is none"},
		{3, UNTAGGED, {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_VLAN_UNTAGGED, "no native VLAN"},
		{3,
		 PCP(1),
		 {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING},
		 DROP_VLAN_UNTAGGED,
		 "priority only, no native"},
		{3, DEI | 20, {NOTHING, UNTAGGED, DEI | 20, NOTHING, NOTHING}, DROP_N, "trunk, tagged 20"},
		{3, 40, {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING}, DROP_NO_DESTINATION, "nobody else has it"},
		{4, UNTAGGED, {NOTHING, NOTHING, UNTAGGED, NOTHING, NOTHING}, DROP_N, "access 30 to its native trunk"},
		{4, PCP(6), {NOTHING, NOTHING, UNTAGGED, NOTHING, NOTHING}, DROP_N, "untagged, the priority is lost"},
	};

	(void)state;
	mixed_switch_up();
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		uint64_t before = all_drops();

		send_tagged(row[i].in, BROADCAST, A, row[i].tci);
		for (unsigned p = 0; p < 5; p++)
			if (tag_got(p) != row[i].got[p])
				fail_msg("%s: port %u got %d", row[i].why, p, tag_got(p));
		if (all_drops() - before != (row[i].reason != DROP_N))
			fail_msg("%s: %u drops", row[i].why, (unsigned)(all_drops() - before));
		if (row[i].reason != DROP_N)
			assert_true(drops(row[i].in, row[i].reason) > 0);
		/* The frame is as it was received, without its tag. */
		assert_int_equal(be16_get(batch.f[0].data + 12), 0x88b6);
		assert_false(batch.f[0].tagged);
		fwd_fdb_flush(sw);
	}
	switch_down();
}

static void vid_4095_is_no_vlan(void **state)
{
	struct fwd_port_conf conf[] = {trunk_of(0, 1, 4094, 4095), trunk_of(0, 1, 4094, 4095)};

	(void)state;
	switch_up(conf, 2);
	assert_int_equal(send_tagged(0, BROADCAST, A, 4094), 0x2);
	assert_int_equal(send_tagged(0, BROADCAST, A, 4095), 0);
	assert_int_equal(drops(0, DROP_VLAN_DENIED), 1);
	switch_down();
}

static void vlans_learn_apart(void **state)
{
	struct fwd_port_conf conf[] = {trunk_of(0, 10, 20, 0), trunk_of(0, 10, 20, 0), trunk_of(0, 10, 20, 0)};

	(void)state;
	switch_up(conf, 3);
	send_tagged(0, X, A, 10);
	send_tagged(1, X, A, 20);
	assert_int_equal(stats().entries, 2);
	assert_int_equal(send_tagged(2, A, B, 10), 0x1);
	assert_int_equal(send_tagged(2, A, B, 20), 0x2);
	assert_int_equal(stats().moved, 0);
	switch_down();
}

static void known_stations_are_reached_with_the_right_tag(void **state)
{
	(void)state;
	mixed_switch_up();
	send_tagged(3, X, C, 20);
	send_tagged(1, X, B, UNTAGGED);
	send_tagged(2, C, A, PCP(2) | 20);
	assert_int_equal(tag_got(3), PCP(2) | 20);
	assert_int_equal(tag_got(1), NOTHING);
	send_tagged(2, B, A, PCP(2) | 20);
	assert_int_equal(tag_got(1), UNTAGGED);
	send_tagged(1, A, B, PCP(4));
	assert_int_equal(tag_got(2), PCP(4) | 20);
	switch_down();
}

static void a_second_tag_is_payload(void **state)
{
	struct frame *f;

	(void)state;
	mixed_switch_up();
	/* 802.1Q in 802.1Q: the outer one decides, the inner one goes through */
	new_batch();
	f = put(BROADCAST, A, 20, 1);
	be16_put(f->data + 16, ETH_P_VLAN);
	be16_put(f->data + 18, 999);
	process(2);
	assert_int_equal(fake[1]->n, 1);
	assert_int_equal(be16_get(fake[1]->got[0].bytes + 12), ETH_P_VLAN);
	assert_int_equal(be16_get(fake[1]->got[0].bytes + 14), 999);
	/* 802.1ad is no tag of ours */
	new_batch();
	f = put(BROADCAST, A, 10, 1);
	be16_put(f->data + 12, ETH_P_QINQ);
	process(0);
	assert_int_equal(be16_get(fake[2]->got[0].bytes + 12), ETH_P_VLAN);
	assert_int_equal(be16_get(fake[2]->got[0].bytes + 14), 10);
	assert_int_equal(be16_get(fake[2]->got[0].bytes + 16), ETH_P_QINQ);
	switch_down();
}

static void a_tag_that_is_cut_off_is_no_frame(void **state)
{
	(void)state;
	mixed_switch_up();
	for (uint32_t len = 14; len <= 18; len++) {
		struct frame *f;

		new_batch();
		f = put(BROADCAST, A, 20, 1);
		f->len = f->head_len = len;
		process(2);
		assert_int_equal(fake[1]->n, len == 18);
		if (len == 18)
			assert_int_equal(fake[1]->got[0].len, 14);
	}
	assert_int_equal(drops(2, DROP_TOO_SHORT), 4);
	switch_down();
}

static void a_tag_does_not_count_against_the_mtu(void **state)
{
	static const struct {
		uint32_t len; /* untagged */
		bool fits;
	} row[] = {{1514, true}, {1515, false}};

	(void)state;
	mixed_switch_up();
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		static uint8_t body[1600];
		struct frame *f;

		new_batch();
		f = put(BROADCAST, A, UNTAGGED, 1);
		f->len = row[i].len;
		batch.spans[0] = (struct wire_piece){body, row[i].len - f->head_len};
		f->body = batch.spans;
		f->n_body = 1;
		process(0);
		assert_int_equal(fake[2]->n, row[i].fits);
		assert_int_equal(drops(2, DROP_TOO_BIG), !row[i].fits);
		if (row[i].fits)
			assert_int_equal(fake[2]->got[0].len, row[i].len + 4);
	}
	switch_down();
}

static void offsets_of_offloads_move_with_the_tag(void **state)
{
	struct frame *f;

	(void)state;
	mixed_switch_up();
	new_batch();
	f = put(BROADCAST, A, 20, 1);
	fake[1]->port.takes = fake[3]->port.takes = OFFLOAD_CSUM;
	f->off = (struct frame_offload){.flags = 1, .hdr_len = 58, .csum_start = 38, .csum_offset = 16};
	process(2);
	assert_int_equal(fake[1]->got[0].off.csum_start, 34); /* untagged */
	assert_int_equal(fake[1]->got[0].off.hdr_len, 54);
	assert_int_equal(fake[1]->got[0].off.csum_offset, 16);
	assert_int_equal(fake[3]->got[0].off.csum_start, 38); /* tagged */
	assert_int_equal(fake[3]->got[0].off.hdr_len, 58);
	switch_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_port_gets_its_vlans_with_the_right_tags),
		cmocka_unit_test(vid_4095_is_no_vlan),
		cmocka_unit_test(vlans_learn_apart),
		cmocka_unit_test(known_stations_are_reached_with_the_right_tag),
		cmocka_unit_test(a_second_tag_is_payload),
		cmocka_unit_test(a_tag_that_is_cut_off_is_no_frame),
		cmocka_unit_test(a_tag_does_not_count_against_the_mtu),
		cmocka_unit_test(offsets_of_offloads_move_with_the_tag),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
