/* SPDX-License-Identifier: Apache-2.0 */
/* What a device keeps for the next flued, and what it makes of what the last one kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "vhost_front.h"

#define FEWER          (FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VHOST_USER_F_PROTOCOL_FEATURES) | FEATURE(VIRTIO_NET_F_MTU))
#define FEWER_PROTOCOL FEATURE(VHOST_PF_REPLY_ACK)
#define PAIRS          2

static struct front f;
static struct virtq_journal journal[VHOST_RINGS_MAX];
static struct vhost_saved saved;
static uint64_t all, all_protocol; /* what is offered to a front end that nothing was promised to */

static void ask(uint64_t *features, uint64_t *protocol)
{
	front_plain(&f, VHOST_GET_FEATURES);
	*features = front_reply_u64(&f, VHOST_GET_FEATURES);
	front_plain(&f, VHOST_GET_PROTOCOL_FEATURES);
	*protocol = front_reply_u64(&f, VHOST_GET_PROTOCOL_FEATURES);
}

static int start(void **state)
{
	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, PAIRS);
	front_connect(&f);
	ask(&all, &all_protocol);
	memset(journal, 0, sizeof(journal));
	saved = (struct vhost_saved){.journal = journal};
	f.conf.saved = &saved;
	front_restart(&f);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	front_stop(&f);
	return 0;
}

/* An earlier flued promised this process fewer features, and its guest uses them. */
static void promise_fewer(void)
{
	saved.agreed = (struct vhost_agreed){
		.offered = FEWER,
		.acked = FEWER,
		.protocol_offered = FEWER_PROTOCOL,
		.protocol_acked = FEWER_PROTOCOL,
		.pairs = PAIRS,
		.front_end = VHOST_QEMU,
		.peer_pid = (uint32_t)getpid(),
		.bound = 1,
	};
	front_restart(&f);
}

static void expect_offer(uint64_t features, uint64_t protocol)
{
	uint64_t got, got_protocol;

	ask(&got, &got_protocol);
	assert_int_equal(got, features);
	assert_int_equal(got_protocol, protocol);
	assert_int_equal(saved.agreed.offered, features);
	assert_int_equal(saved.agreed.protocol_offered, protocol);
}

static void run_ring_0(void)
{
	front_table(&f);
	front_ring(&f, 0, NULL, NULL);
	assert_non_null(f.vq[0]);
}

/* ---- keeping ---- */

static void what_is_agreed_is_kept(void **state)
{
	(void)state;
	front_connect(&f);
	expect_offer(all, all_protocol);
	assert_int_equal(saved.agreed.pairs, PAIRS);
	assert_int_equal(saved.agreed.front_end, VHOST_QEMU);
	assert_int_equal(saved.agreed.peer_pid, getpid());
	assert_int_equal(saved.agreed.bound, 0);
	assert_int_equal(f.saves, 1);
	front_u64(&f, VHOST_SET_PROTOCOL_FEATURES, FEWER_PROTOCOL);
	assert_int_equal(saved.agreed.bound, 0);
	front_u64(&f, VHOST_SET_FEATURES, FEWER);
	assert_int_equal(saved.agreed.acked, FEWER);
	assert_int_equal(saved.agreed.protocol_acked, FEWER_PROTOCOL);
	assert_int_equal(saved.agreed.bound, 1);
	assert_int_equal(f.saves, 3);
}

/* ---- promises ---- */

static void a_promise_is_kept(void **state)
{
	(void)state;
	promise_fewer();
	front_connect(&f);
	expect_offer(FEWER, FEWER_PROTOCOL);
	front_u64(&f, VHOST_SET_FEATURES, FEWER | FEATURE(VIRTIO_F_EVENT_IDX));
	front_blamed(&f, "bit 29 was not offered");
}

static void a_feature_that_is_gone_is_not_offered(void **state)
{
	(void)state;
	promise_fewer();
	saved.agreed.offered |= FEATURE(63);
	saved.agreed.protocol_offered |= FEATURE(63);
	front_connect(&f);
	expect_offer(FEWER, FEWER_PROTOCOL);
}

static void the_promise_outlives_a_flued_that_was_stopped_under_its_guest(void **state)
{
	(void)state;
	promise_fewer();
	front_connect(&f);
	front_u64(&f, VHOST_SET_FEATURES, FEWER);
	run_ring_0();
	front_restart(&f);
	front_connect(&f);
	expect_offer(FEWER, FEWER_PROTOCOL);
}

static void a_live_journal_binds_before_its_ring_runs(void **state)
{
	(void)state;
	promise_fewer();
	journal[1].live = 1;
	front_connect(&f);
	front_u64(&f, VHOST_SET_PROTOCOL_FEATURES, FEWER_PROTOCOL);
	front_hang_up(&f);
	front_connect(&f);
	expect_offer(FEWER, FEWER_PROTOCOL);
	assert_int_equal(saved.agreed.acked, FEWER);
	assert_int_equal(journal[1].live, 1);
}

/* ---- and their end ---- */

static void a_device_that_was_stopped_is_offered_everything(void **state)
{
	(void)state;
	promise_fewer();
	front_connect(&f);
	front_u64(&f, VHOST_SET_FEATURES, FEWER);
	run_ring_0();
	front_state(&f, VHOST_GET_VRING_BASE, 0, 0);
	front_hang_up(&f);
	assert_int_equal(saved.agreed.bound, 0);
	front_connect(&f);
	expect_offer(all, all_protocol);
}

static void a_device_that_was_reset_is_offered_everything(void **state)
{
	(void)state;
	promise_fewer();
	saved.agreed.protocol_offered |= FEATURE(VHOST_PF_RESET_DEVICE);
	journal[0].live = 1;
	front_connect(&f);
	front_u64(&f, VHOST_SET_PROTOCOL_FEATURES, FEATURE(VHOST_PF_RESET_DEVICE));
	front_plain(&f, VHOST_RESET_DEVICE);
	assert_int_equal(saved.agreed.bound, 0);
	assert_int_equal(journal[0].live, 0);
	front_hang_up(&f);
	front_connect(&f);
	expect_offer(all, all_protocol);
}

/* Each makes a front end that the promise was not made to. */
static void other_process(void)
{
	saved.agreed.peer_pid++;
}
static void other_kind(void)
{
	saved.agreed.front_end = VHOST_CROSVM;
}
static void nobody(void)
{
	saved.agreed.bound = 0;
}

static void another_front_end_is_offered_everything_and_its_rings_begin_anew(void **state)
{
	static void (*const made[])(void) = {other_process, other_kind, nobody};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		promise_fewer();
		for (unsigned k = 0; k < VHOST_RINGS_MAX; k++)
			journal[k] = (struct virtq_journal){.live = 1, .at = 7, .n = 1};
		made[i]();
		front_connect(&f);
		expect_offer(all, all_protocol);
		assert_int_equal(saved.agreed.acked, 0);
		for (unsigned k = 0; k < VHOST_RINGS_MAX; k++) /* the others are not this device's */
			assert_int_equal(journal[k].live + journal[k].n, k < 2 * PAIRS ? 0 : 2);
	}
}

#define ON_DEVICE(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DEVICE(what_is_agreed_is_kept),
		ON_DEVICE(a_promise_is_kept),
		ON_DEVICE(a_feature_that_is_gone_is_not_offered),
		ON_DEVICE(the_promise_outlives_a_flued_that_was_stopped_under_its_guest),
		ON_DEVICE(a_live_journal_binds_before_its_ring_runs),
		ON_DEVICE(a_device_that_was_stopped_is_offered_everything),
		ON_DEVICE(a_device_that_was_reset_is_offered_everything),
		ON_DEVICE(another_front_end_is_offered_everything_and_its_rings_begin_anew),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
