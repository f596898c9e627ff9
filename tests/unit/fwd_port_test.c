/* SPDX-License-Identifier: Apache-2.0 */
/* Ports join, change and leave; whose a MAC is. */
#include <errno.h>

#include "fwd_rig.h"

#define A UINT64_C(0x02000000000a)
#define B UINT64_C(0x02000000000b)
#define C UINT64_C(0x02000000000c)
#define X UINT64_C(0x0200000000ff)

/* ---- owners ---- */

static void the_spoof_guard_lets_one_address_through(void **state)
{
	struct fwd_port_conf guarded = with_mac(access_to(1), A), conf[] = {guarded, access_to(1)};

	(void)state;
	conf[0].spoof_guard = true;
	switch_up(conf, 2);
	assert_int_equal(send(0, BROADCAST, A), 0x2);
	assert_int_equal(send(0, BROADCAST, B), 0);
	assert_int_equal(send(0, BROADCAST, A ^ 1), 0);
	assert_int_equal(drops(0, DROP_MAC_SPOOFED), 2);
	assert_int_equal(stats().entries, 0);
	assert_int_equal(send(1, BROADCAST, B), 0x1); /* the guard is this port's alone */
	switch_down();
}

static void a_configured_address_is_its_ports_alone(void **state)
{
	struct fwd_port_conf conf[] = {with_mac(access_to(1), A), access_to(1), access_to(1)};

	(void)state;
	switch_up(conf, 3);
	assert_int_equal(send(1, A, B), 0x1); /* known without a frame from it */
	assert_int_equal(send(1, BROADCAST, A), 0);
	assert_int_equal(drops(1, DROP_MAC_TAKEN), 1);
	assert_int_equal(send(2, A, C), 0x1);
	assert_int_equal(stats().entries, 2);         /* B and C */
	assert_int_equal(send(0, BROADCAST, A), 0x6); /* it may use it, and is not learned */
	assert_int_equal(send(0, BROADCAST, X), 0x6); /* and others as well: there is no guard */
	assert_int_equal(stats().entries, 3);
	switch_down();
}

static void an_owner_is_found_in_its_own_vlans_only(void **state)
{
	struct fwd_port_conf conf[] = {with_mac(access_to(10), A), access_to(10), access_to(20), access_to(20)};

	(void)state;
	switch_up(conf, 4);
	assert_int_equal(send(1, A, B), 0x1);
	assert_int_equal(send(2, A, C), 0x8); /* in VLAN 20 it is unknown */
	assert_int_equal(send(3, BROADCAST, A), 0);
	assert_int_equal(drops(3, DROP_MAC_TAKEN), 1); /* but nobody else may use it anywhere */
	switch_down();
}

/* After a migration the guest may be at work behind an uplink. */
static void a_port_that_is_down_owns_nothing(void **state)
{
	struct fwd_port_conf conf[] = {with_mac(access_to(1), A), access_to(1), access_to(1)};

	(void)state;
	switch_up(conf, 3);
	fake[0]->port.up = false;
	fwd_link_changed(sw, &fake[0]->port);
	assert_int_equal(send(1, BROADCAST, A), 0x4);
	assert_int_equal(send(2, A, C), 0x2);
	fake[0]->port.up = true;
	fwd_link_changed(sw, &fake[0]->port);
	assert_int_equal(send(2, A, C), 0x1);
	assert_int_equal(send(1, BROADCAST, A), 0);
	assert_int_equal(drops(1, DROP_MAC_TAKEN), 1);
	switch_down();
}

static void as_many_owners_as_ports_are_told_apart(void **state)
{
	struct fwd_port_conf conf = access_to(1);
	struct port *owner[PORTS_MAX - 1];
	struct err e;

	(void)state;
	switch_up(&conf, 1);
	for (unsigned i = 0; i < PORTS_MAX - 1; i++) {
		owner[i] = &fake_new("owner")->port;
		conf = with_mac(access_to(1), A + UINT64_C(0x10000) * i);
		assert_int_equal(fwd_port_add(sw, owner[i], &conf, &e), 0);
	}
	for (unsigned i = 0; i < PORTS_MAX - 1; i++) {
		send(0, A + UINT64_C(0x10000) * i, X);
		assert_int_equal(((struct fake *)owner[i])->n, 1);
		send(0, A + UINT64_C(0x10000) * i + 1, X);
		assert_int_equal(((struct fake *)owner[i])->n, 2); /* flooded */
		for (unsigned k = 0; k < PORTS_MAX - 1; k++)
			((struct fake *)owner[k])->n = 0;
	}
	for (unsigned i = 0; i < PORTS_MAX - 1; i++) {
		fwd_port_remove(sw, owner[i]);
		free(owner[i]);
	}
	switch_down();
}

/* ---- joining and leaving ---- */

static void settings_are_checked(void **state)
{
	struct fwd_port_conf guard = access_to(1), taken = with_mac(access_to(1), A), own = with_mac(access_to(1), B);
	struct {
		struct fwd_port_conf conf;
		int rc;
		const char *field;
	} row[] = {
		{access_to(1), 0, ""},
		{own, 0, ""},
		{taken, -EEXIST, "mac"},
		{with_mac(access_to(1), BROADCAST), -EINVAL, "mac"},
		{with_mac(access_to(1), UINT64_C(0x010000000001)), -EINVAL, "mac"},
		{with_mac(access_to(1), 0), -EINVAL, "mac"},
		{guard, -EINVAL, "spoof_guard"},
	};
	struct fwd_port_conf conf[] = {taken, own};
	struct fake *other = fake_new("other");

	(void)state;
	switch_up(conf, 2);
	row[6].conf.spoof_guard = true;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct err e = {0};

		if (fwd_port_set(sw, &fake[1]->port, &row[i].conf, &e) != row[i].rc ||
		    strcmp(e.field, row[i].field) != 0)
			fail_msg("set, row %zu: \"%s\" at \"%s\"", i, e.text, e.field);
		if (row[i].rc && !e.remedy[0])
			fail_msg("row %zu: no remedy", i);
		if (i == 1)
			row[i].rc = -EEXIST, row[i].field = "mac"; /* for another port it is taken */
		e = (struct err){0};
		if (i == 0)
			continue;
		if (fwd_port_add(sw, &other->port, &row[i].conf, &e) != row[i].rc || strcmp(e.field, row[i].field) != 0)
			fail_msg("add, row %zu: \"%s\" at \"%s\"", i, e.text, e.field);
	}
	assert_int_equal(sw->table->n, 2); /* what was refused changed nothing */
	free(other);
	switch_down();
}

static void there_are_as_many_ports_as_promised(void **state)
{
	static struct fake *many[PORTS_MAX + 1];
	struct fwd_port_conf conf = access_to(1);
	struct err e = {0};

	(void)state;
	switch_up(&conf, 0);
	for (unsigned i = 0; i <= PORTS_MAX; i++)
		many[i] = fake_new("many");
	for (unsigned i = 0; i < PORTS_MAX; i++) {
		assert_int_equal(fwd_port_add(sw, &many[i]->port, &conf, &e), 0);
		assert_int_equal(many[i]->port.id, i);
	}
	assert_int_equal(fwd_port_add(sw, &many[PORTS_MAX]->port, &conf, &e), -ENOSPC);
	assert_true(e.remedy[0]);
	fwd_port_remove(sw, &many[77]->port);
	assert_null(fwd_port(sw, 77));
	assert_int_equal(fwd_port_add(sw, &many[PORTS_MAX]->port, &conf, &e), 0);
	assert_int_equal(many[PORTS_MAX]->port.id, 77); /* its place is free again */
	assert_ptr_equal(fwd_port(sw, 77), &many[PORTS_MAX]->port);
	for (unsigned i = 0; i <= PORTS_MAX; i++) {
		if (i != 77)
			fwd_port_remove(sw, &many[i]->port);
		free(many[i]);
	}
	switch_down();
}

static void a_port_that_left_is_forgotten_and_gets_nothing(void **state)
{
	(void)state;
	plain_switch_up(3);
	send(0, X, A);
	send(1, X, B);
	fwd_port_remove(sw, &fake[0]->port);
	assert_int_equal(stats().entries, 1);
	assert_int_equal(send(1, A, B), 0x4);
	assert_int_equal(send(1, BROADCAST, B), 0x4);
	assert_int_equal(send(0, BROADCAST, A), 0); /* a worker may still have a batch of it */
	assert_int_equal(drops(0, DROP_NO_DESTINATION), 1);
	assert_int_equal(stats().entries, 1);
	fwd_link_changed(sw, &fake[0]->port); /* late news */
	assert_int_equal(sw->table->n, 2);
	switch_down();
}

static void a_port_that_left_a_vlan_is_forgotten_there(void **state)
{
	struct fwd_port_conf conf[] = {trunk_of(0, 10, 20, 0), trunk_of(0, 10, 20, 0), trunk_of(0, 10, 20, 0)};
	struct fwd_port_conf only_20 = trunk_of(0, 20, 0, 0);
	struct err e;

	(void)state;
	switch_up(conf, 3);
	send_tagged(0, X, A, 10);
	send_tagged(0, X, A, 20);
	send_tagged(1, X, B, 10);
	assert_int_equal(fwd_port_set(sw, &fake[0]->port, &only_20, &e), 0);
	assert_int_equal(stats().entries, 2);
	assert_int_equal(send_tagged(1, A, B, 10), 0x4);
	assert_int_equal(send_tagged(1, A, B, 20), 0x1);
	switch_down();
}

/* The table is published first and what was learned is forgotten after: in between, an answer may be stale. */
static void stale_answers_lead_nowhere(void **state)
{
	struct fwd_port_conf conf[] = {access_to(10), access_to(20), access_to(10)};

	(void)state;
	switch_up(conf, 3);
	fdb_learn(&sw->fdb, fdb_key(10, B), (dest_t){fake[1]->port.id}); /* in VLAN 10 no more */
	assert_int_equal(send(0, B, A), 0x4);
	fdb_learn(&sw->fdb, fdb_key(10, X), (dest_t){99}); /* no port any more */
	assert_int_equal(send(0, X, A), 0x4);
	/* in a batch with a flooded one, too */
	new_batch();
	put(X, A, UNTAGGED, 1);
	put(BROADCAST, A, UNTAGGED, 2);
	put(B, A, UNTAGGED, 3);
	process(0);
	assert_int_equal(fake[1]->n, 0);
	assert_int_equal(fake[2]->n, 3);
	assert_int_equal(all_drops(), 0);
	switch_down();
}

/* ---- telling ---- */

struct seen {
	unsigned n, n_static;
	uint64_t macs; /* their sum */
	struct fdb_entry last;
};

static void see(void *arg, const struct fdb_entry *e)
{
	struct seen *s = arg;

	s->n++;
	s->n_static += e->is_static;
	s->macs += mac_u64(e->mac);
	if (!e->is_static)
		s->last = *e;
}

static void the_walk_tells_what_was_learned_and_what_was_configured(void **state)
{
	struct fwd_port_conf conf[] = {with_mac(access_to(1), A), access_to(7), with_mac(access_to(7), C)};
	struct seen s = {0};

	(void)state;
	switch_up(conf, 3);
	fake[2]->port.up = false;
	fwd_link_changed(sw, &fake[2]->port);
	sw->fdb.now_s -= 40;
	send(1, X, B);
	sw->fdb.now_s += 40;
	fwd_fdb_walk(sw, see, &s);
	assert_int_equal(s.n, 2);
	assert_int_equal(s.n_static, 1);
	assert_int_equal(s.macs, A + B);
	assert_int_equal(s.last.vid, 7);
	assert_int_equal(s.last.age_s, 40);
	assert_ptr_equal(s.last.port, &fake[1]->port);
	switch_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_spoof_guard_lets_one_address_through),
		cmocka_unit_test(a_configured_address_is_its_ports_alone),
		cmocka_unit_test(an_owner_is_found_in_its_own_vlans_only),
		cmocka_unit_test(a_port_that_is_down_owns_nothing),
		cmocka_unit_test(as_many_owners_as_ports_are_told_apart),
		cmocka_unit_test(settings_are_checked),
		cmocka_unit_test(there_are_as_many_ports_as_promised),
		cmocka_unit_test(a_port_that_left_is_forgotten_and_gets_nothing),
		cmocka_unit_test(a_port_that_left_a_vlan_is_forgotten_there),
		cmocka_unit_test(stale_answers_lead_nowhere),
		cmocka_unit_test(the_walk_tells_what_was_learned_and_what_was_configured),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
