/* SPDX-License-Identifier: Apache-2.0 */
/* Which offloads a guest is offered, and which count as agreed. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "vhost_front.h"

#define F(name)    FEATURE(VIRTIO_NET_F_##name)
#define TO_GUEST   (F(GUEST_CSUM) | F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_ECN) | F(GUEST_USO4) | F(GUEST_USO6))
#define FROM_GUEST (F(CSUM) | F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN) | F(HOST_USO))
#define ASKABLE    (TO_GUEST | FROM_GUEST | F(MRG_RXBUF) | F(MTU))

/* Without the first, the second mean nothing (virtio 1.2, 5.1.3.1). */
static const struct {
	uint64_t gone, with_it;
} need[] = {
	{F(GUEST_CSUM), TO_GUEST},
	{F(GUEST_TSO4), F(GUEST_TSO4)},
	{F(GUEST_TSO4) | F(GUEST_TSO6), F(GUEST_TSO4) | F(GUEST_TSO6) | F(GUEST_ECN)},
	{F(GUEST_USO4) | F(GUEST_USO6) | F(GUEST_ECN), F(GUEST_USO4) | F(GUEST_USO6) | F(GUEST_ECN)},
	{F(CSUM), FROM_GUEST},
	{F(HOST_TSO6), F(HOST_TSO6)},
	{F(HOST_TSO4) | F(HOST_TSO6), F(HOST_TSO4) | F(HOST_TSO6) | F(HOST_ECN)},
	{F(HOST_USO), F(HOST_USO)},
	{F(MRG_RXBUF), F(MRG_RXBUF)},
	{F(MTU), F(MTU)},
	{0, 0},
};

static uint64_t offer(struct front *f)
{
	front_plain(f, VHOST_GET_FEATURES);
	return front_reply_u64(f, VHOST_GET_FEATURES);
}

static void what_is_never_offered_takes_with_it_what_needs_it(void **state)
{
	struct front f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(need); i++) {
		front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
		f.conf.never = need[i].gone;
		front_restart(&f);
		front_connect(&f);
		if ((offer(&f) & ASKABLE) != (ASKABLE & ~need[i].with_it))
			fail_msg("without 0x%" PRIx64 " the offer is 0x%" PRIx64, need[i].gone, offer(&f) & ASKABLE);
		front_stop(&f);
	}
}

static void what_lacks_its_need_is_not_agreed_and_no_offence(void **state)
{
	struct front f;
	uint64_t all;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	all = offer(&f) & ~FEATURE(VHOST_F_LOG_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(need); i++) {
		struct vhost_state s;

		front_u64(&f, VHOST_SET_FEATURES, all & ~need[i].gone);
		assert_int_equal(f.features & ASKABLE, ASKABLE & ~need[i].with_it);
		vhost_state_get(f.v, &s);
		assert_true(s.connected && s.features_set);
		assert_int_equal(s.features, all & ~need[i].gone); /* as it was said */
	}
	front_stop(&f);
}

static void each_need_is_named(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t dependent = (TO_GUEST | FROM_GUEST) & ~(F(CSUM) | F(GUEST_CSUM));

		assert_int_equal(vhost_feature_needs(bit) != NULL, (dependent & FEATURE(bit)) != 0);
	}
	assert_string_equal(vhost_feature_needs(VIRTIO_NET_F_GUEST_USO6), "guest_csum");
	assert_string_equal(vhost_feature_needs(VIRTIO_NET_F_HOST_ECN), "tso4 or tso6");
}

/* It cannot give back what it uses; its front end would not connect again. */
static void a_running_guest_keeps_what_it_was_promised(void **state)
{
	struct virtq_journal journal[VHOST_RINGS_MAX] = {0};
	struct vhost_saved saved = {.journal = journal};
	struct front f;
	uint64_t all;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	f.conf.saved = &saved;
	front_restart(&f);
	front_connect(&f);
	all = offer(&f);
	front_u64(&f, VHOST_SET_FEATURES, all & ~FEATURE(VHOST_F_LOG_ALL));
	front_table(&f);
	front_ring(&f, 0, NULL, NULL);
	f.conf.never = TO_GUEST | F(MTU);
	front_restart(&f);
	front_connect(&f);
	assert_int_equal(offer(&f), all);

	saved.agreed.bound = 0; /* its VM was started anew */
	front_hang_up(&f);
	front_connect(&f);
	assert_int_equal(offer(&f), all & ~(TO_GUEST | F(MTU)));
	front_stop(&f);
}

/* Two flueds that offered one of the two things that ECN needs each: what is left of both must be sound, too. */
static void a_promise_is_kept_as_far_as_it_is_sound(void **state)
{
	struct virtq_journal journal[VHOST_RINGS_MAX] = {0};
	struct vhost_saved saved = {.journal = journal};
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	f.conf.saved = &saved;
	front_restart(&f);
	saved.agreed = (struct vhost_agreed){
		.offered = FEATURE(VIRTIO_F_VERSION_1) | F(GUEST_ECN) | F(GUEST_CSUM) | F(HOST_USO),
		.pairs = 1,
		.front_end = VHOST_QEMU,
		.peer_pid = (uint32_t)getpid(),
		.bound = 1,
	};
	front_connect(&f);
	assert_int_equal(offer(&f), FEATURE(VIRTIO_F_VERSION_1) | F(GUEST_CSUM));
	front_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_never_offered_takes_with_it_what_needs_it),
		cmocka_unit_test(what_lacks_its_need_is_not_agreed_and_no_offence),
		cmocka_unit_test(each_need_is_named),
		cmocka_unit_test(a_running_guest_keeps_what_it_was_promised),
		cmocka_unit_test(a_promise_is_kept_as_far_as_it_is_sound),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
