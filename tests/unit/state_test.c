/* SPDX-License-Identifier: Apache-2.0 */
/* The state file: what comes back, who has a slot, what it costs. */
#include "gmem/gmem.h"
#include "state_rig.h"

/* ---- keeping ---- */

static void a_new_file_is_empty_and_ours_alone(void **state)
{
	struct stat st;

	(void)state;
	open_it();
	expect("vm1", 0);
	assert_return_code(stat(path, &st), errno);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, sizeof(struct state_file));
	assert_false(exists(bad));
}

static void what_was_kept_comes_back(void **state)
{
	(void)state;
	leave_two();
	open_it();
	expect("vm1", 11);
	expect("vm2", 22);
	expect("vm3", 0);
	for (unsigned n = 1; n < 6; n++) { /* whichever of the two records is the newer */
		state_port_release(s, agree("vm1", n));
		expect("vm1", n);
		reopen();
		expect("vm1", n);
	}
	assert_false(exists(bad));
}

static void what_was_not_saved_does_not(void **state)
{
	(void)state;
	leave_two();
	open_it();
	state_port(s, "vm1", 1)->agreed.acked = 99;
	reopen();
	expect("vm1", 11);
}

static void a_port_that_is_forgotten_begins_anew(void **state)
{
	(void)state;
	open_it();
	state_port_release(s, agree("vm1", 11));
	agree("vm2", 22);
	state_port_forget(s, "vm1");
	state_port_forget(s, "nobody");
	expect("vm1", 0);
	reopen();
	expect("vm1", 0);
	expect("vm2", 22);
}

static void a_port_that_agreed_to_nothing_takes_no_slot(void **state)
{
	char name[STATE_NAME_BYTES];

	(void)state;
	open_it();
	state_port_release(s, agree("vm1", 11));
	for (unsigned i = 0; i < 2 * STATE_PORTS; i++) {
		snprintf(name, sizeof(name), "none%u", i);
		state_port_release(s, state_port(s, name, 1));
	}
	reopen();
	expect("vm1", 11);
}

static void without_a_file_ports_work(void **state)
{
	(void)state;
	assert_null(state_port(NULL, "vm1", 1));
	state_expect(NULL, "vm1");
	state_port_forget(NULL, "vm1");
	state_close(NULL);
}

/* ---- a full table ---- */

static void fill(void)
{
	char name[STATE_NAME_BYTES];

	for (unsigned i = 0; i < STATE_PORTS; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		agree(name, i + 1);
	}
}

static void one_port_too_many_works_without(void **state)
{
	(void)state;
	open_it();
	fill();
	assert_null(state_port(s, "more", 1));
	reopen();
	expect("p0", 1);
	expect("p255", 256);
}

static void a_port_that_is_gone_makes_room_if_there_is_none(void **state)
{
	(void)state;
	open_it();
	fill();
	reopen();
	state_expect(s, "p0");
	state_expect(s, "more"); /* new, so there is nothing to expect */
	assert_agreed(state_port(s, "p1", 1), 2);
	agree("more", 1000); /* p2's: p0's is expected, p1's taken */
	reopen();
	expect("p0", 1);
	expect("p1", 2);
	expect("more", 1000);
	expect("p3", 4);
	expect("p255", 256);
}

static void a_slot_that_was_another_s_is_empty(void **state)
{
	struct vhost_saved *saved;

	(void)state;
	open_it();
	fill();
	reopen();
	saved = state_port(s, "more", 16);
	assert_agreed(saved, 0);
	for (unsigned i = 0; i < VHOST_RINGS_MAX; i++)
		assert_int_equal(saved->journal[i].live | saved->journal[i].at, 0);
}

/* ---- what it costs, and running out ---- */

static size_t pages_bytes(void)
{
	struct stat st;

	assert_return_code(stat(path, &st), errno);
	return (size_t)st.st_blocks * 512;
}

static void a_port_with_one_pair_takes_at_most_16_kib(void **state)
{
	size_t before;
	struct vhost_saved *saved;

	(void)state;
	open_it();
	before = pages_bytes();
	saved = agree("vm1", 1);
	for (unsigned i = 0; i < 3; i++)
		memset(&saved->journal[i], 0xff, sizeof(saved->journal[i]));
	assert_in_range(pages_bytes() - before, 1, 16384);
	state_port_release(s, saved);
	reopen();
	assert_in_range(pages_bytes() - before, 1, 16384); /* a look makes no pages */
	state_port_forget(s, "vm1");
	assert_int_equal(pages_bytes(), before);
}

static void a_file_that_is_truncated_under_us_keeps_nothing_and_harms_nobody(void **state)
{
	struct vhost_saved *saved;

	(void)state;
	assert_return_code(gmem_sigbus_install(), errno); /* cmocka has one of its own outside a test */
	open_it();
	saved = agree("vm1", 1);
	cut_to(0);
	saved->journal[0].at = 5;
	saved->journal[1].used[255].len = 5;
	state_port_save(s, saved);
	assert_null(state_port(s, "vm2", 1));
	assert_agreed(saved, 1);
	state_port_release(s, saved);
	state_port_forget(s, "vm1");
	reopen();
	expect("vm1", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(a_new_file_is_empty_and_ours_alone),
		WITH_DIR(what_was_kept_comes_back),
		WITH_DIR(what_was_not_saved_does_not),
		WITH_DIR(a_port_that_is_forgotten_begins_anew),
		WITH_DIR(a_port_that_agreed_to_nothing_takes_no_slot),
		WITH_DIR(without_a_file_ports_work),
		WITH_DIR(one_port_too_many_works_without),
		WITH_DIR(a_port_that_is_gone_makes_room_if_there_is_none),
		WITH_DIR(a_slot_that_was_another_s_is_empty),
		WITH_DIR(a_port_with_one_pair_takes_at_most_16_kib),
		WITH_DIR(a_file_that_is_truncated_under_us_keeps_nothing_and_harms_nobody),
	};

	return rig_run(tests);
}
