/* SPDX-License-Identifier: Apache-2.0 */
/* The control queue of a guest whose front end forwards it. */
#include "guest_rig.h"
#include "port/guest_priv.h"

#define OK            0
#define ERR           1
#define COMMAND_BYTES 8192

/* Everything but the control queue is up; the control queue runs, and is kicked by @kick_fd. */
static struct rig *ctrl_up(int kick_fd)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);

	assert_int_equal(rig_run(r, CONTROLQ, kick_fd), 0);
	return r;
}

static void turn(void)
{
	assert_true(event_base_loop(rig_host.events, EVLOOP_NONBLOCK) >= 0);
}

/* Turns until the driver gets a used entry back. */
static struct vring_used_elem await_used(struct rig *r)
{
	struct vring_used_elem e = {0};

	for (int i = 0; i < 1000; i++) {
		if (driver_take(&r->d[CONTROLQ], &e))
			return e;
		usleep(100);
		turn();
	}
	fail_msg("no answer");
	return e;
}

/* Offer a command, its readable part cut up, and one byte for the answer behind it. */
static void offer_command(struct rig *r, unsigned head, const uint8_t *command, uint32_t len,
			  const uint32_t cut[CUTS_MAX], uint32_t answer_bytes, uint64_t *answer)
{
	struct driver *d = &r->d[CONTROLQ];
	uint32_t piece[RIG_RING];
	unsigned n = cut_up(cut, len, piece, RIG_RING - 1);
	uint64_t at = ram_alloc(&r->ram, len + answer_bytes + 1, 1);

	ram_write(&r->ram, at, command, len);
	for (unsigned i = 0; i < n; at += piece[i++])
		driver_desc(d, head + i, at, piece[i], VRING_DESC_F_NEXT, head + i + 1);
	driver_desc(d, head + n, at, answer_bytes, VRING_DESC_F_WRITE, 0);
	*answer = at;
	driver_offer(d, head);
}

static const uint32_t whole[CUTS_MAX] = {0};

static void commands_are_checked_and_answered(void **state)
{
	static const struct {
		uint8_t command[40];
		uint32_t len;
		uint8_t answer;
		const char *why;
	} row[] = {
		{{0, 0, 1}, 3, OK, "promiscuous"},
		{{0, 1, 0}, 3, OK, "all multicast"},
		{{0, 5, 1}, 3, OK, "no broadcast"},
		{{0, 6, 1}, 3, ERR, "no such receive mode"},
		{{0, 0, 2}, 3, ERR, "neither on nor off"},
		{{0, 0}, 2, ERR, "no argument"},
		{{0, 0, 1, 0}, 4, ERR, "an argument too long"},
		{{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10, OK, "two empty tables"},
		{{1, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0}, 16, OK, "one address"},
		{{1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 3, 4, 5, 6, 7}, 16, OK, "one group"},
		{{1, 0, 1, 0, 0, 0, 2, 3, 4, 5, 6, 7}, 12, ERR, "the second table missing"},
		{{1, 0, 2, 0, 0, 0, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0}, 16, ERR, "fewer addresses than said"},
		{{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 11, ERR, "something behind the tables"},
		{{1, 0, 0xab, 0xaa, 0xaa, 0x2a, 0, 0, 0, 0, 0, 0}, 12, ERR, "6 times which is 2"},
		{{1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 10, ERR, "the largest number"},
		{{1, 1, 2, 3, 4, 5, 6, 7}, 8, ERR, "another address: not on offer"},
		{{2, 0, 1, 0}, 4, ERR, "VLAN filters: not on offer"},
		{{3, 0}, 2, OK, "announced"},
		{{3, 1}, 2, ERR, "no such announcement"},
		{{4, 0, 1, 0}, 4, OK, "one pair"},
		{{4, 0, RIG_PAIRS, 0}, 4, OK, "all pairs"},
		{{4, 0, RIG_PAIRS + 1, 0}, 4, ERR, "one more than there are"},
		{{4, 0, 0, 0}, 4, ERR, "no pair"},
		{{4, 0, 1, 1}, 4, ERR, "257 pairs"},
		{{4, 0, 1}, 3, ERR, "half a number"},
		{{4, 1, 1, 0}, 4, ERR, "receive side scaling: not on offer"},
		{{5, 0, 0}, 3, ERR, "offloads: not on offer"},
		{{255, 255}, 2, ERR, "no such class"},
		{{0}, 1, ERR, "half a command"},
	};
	static const uint32_t cuts[][CUTS_MAX] = {{0}, {1, 0}, {2, 0}, {1, 1, 0}, {1, 1, 1, 1, 1, 1, 1, 1}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		for (size_t k = 0; k < ARRAY_SIZE(cuts); k++) {
			struct rig *r = ctrl_up(-1);
			struct vring_used_elem e;
			uint64_t answer;

			offer_command(r, 3, row[i].command, row[i].len, cuts[k], 1, &answer);
			e = await_used(r);
			if (*(uint8_t *)ram_at(&r->ram, answer) != row[i].answer || e.id != 3 || e.len != 1)
				fail_msg("%s: answer %u, cut %zu", row[i].why, *(uint8_t *)ram_at(&r->ram, answer), k);
			rig_free(r);
		}
}

static void long_commands_are_refused_and_long_answers_get_one_byte(void **state)
{
	static uint8_t command[COMMAND_BYTES] = {1, 0};
	struct rig *r = ctrl_up(-1);
	struct vring_used_elem e;
	uint64_t answer;

	(void)state;
	for (uint32_t len = 4090; len < COMMAND_BYTES; len += len < 4102 ? 6 : 1000) {
		static const uint32_t cuts[][CUTS_MAX] = {{0}, {3000, 0}, {4096, 0}, {2000, 2000, 2000, 0}};
		/* two tables, as many addresses as fit */
		uint32_t n = (len - 10) / 6;

		memset(command + 2, 0, sizeof(command) - 2);
		memcpy(command + 2, &n, sizeof(n));
		for (size_t k = 0; k < ARRAY_SIZE(cuts); k++) {
			offer_command(r, 0, command, 10 + 6 * n, cuts[k], 100, &answer);
			e = await_used(r);
			assert_int_equal(e.len, 1);
			assert_int_equal(*(uint8_t *)ram_at(&r->ram, answer), 10 + 6 * n <= 4096 ? OK : ERR);
			assert_true(rig_is_untouched(r, answer + 1, 99));
		}
	}
	assert_int_equal(asked.fails, 0);
	rig_free(r);
}

static void a_command_without_room_for_an_answer_breaks_the_ring(void **state)
{
	struct rig *r = ctrl_up(-1);

	(void)state;
	driver_offer_buffer(&r->d[CONTROLQ], 0, RAM_GPA + r->ram.used_bytes, 3, 0);
	for (int i = 0; i < 1000 && !asked.fails; i++) {
		usleep(100);
		turn();
	}
	assert_string_equal(asked.reason, "control queue 0: a buffer has the wrong direction");
	rig_free(r);
}

/* Which receiveqs get frames? One bit each. */
static unsigned queues_in_use(struct rig *r)
{
	unsigned in_use = 0;

	for (unsigned i = 0; i < 100; i++) {
		uint8_t bytes[60] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, (uint8_t)i};
		struct frame f = {.len = sizeof(bytes), .head_len = sizeof(bytes)};
		struct frame *list = &f;
		struct vring_used_elem e;

		memcpy(frame_head_begin(&f), bytes, sizeof(bytes));
		for (unsigned k = 0; k < RIG_PAIRS; k++)
			if (r->d[RECEIVEQ(k)].next == r->d[RECEIVEQ(k)].taken)
				driver_offer_buffer(&r->d[RECEIVEQ(k)], 0, RAM_GPA + RIG_PART, 100, VRING_DESC_F_WRITE);
		r->port->ops->tx(r->port, &list, 1, RIG_WORKER);
		r->port->ops->tx_publish(r->port, RIG_WORKER);
		for (unsigned k = 0; k < RIG_PAIRS; k++)
			if (driver_take(&r->d[RECEIVEQ(k)], &e))
				in_use |= 1u << k;
	}
	return in_use;
}

static void set_pairs(struct rig *r, uint8_t pairs)
{
	uint64_t answer;

	offer_command(r, 0, (uint8_t[]){4, 0, pairs, 0}, 4, whole, 1, &answer);
	await_used(r);
}

/* virtio 1.2, 5.1.6.5.5: one pair until the driver says otherwise, and again after a reset. */
static void only_the_pairs_that_the_driver_set_are_used(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);

	(void)state;
	assert_int_equal(queues_in_use(r), 0xf); /* no control queue: the front end's word counts alone */
	assert_int_equal(rig_run(r, CONTROLQ, -1), 0);
	assert_int_equal(queues_in_use(r), 0x1);
	set_pairs(r, 3);
	assert_int_equal(queues_in_use(r), 0x7);
	set_pairs(r, 200);
	assert_int_equal(queues_in_use(r), 0x7);
	guest_ring_enable(r->guest, RECEIVEQ(1), false);
	assert_int_equal(queues_in_use(r), 0x5);
	guest_ring_enable(r->guest, RECEIVEQ(1), true);

	/* Halted for a moment by the front end: the driver knows nothing of it. */
	rig_halt(r, CONTROLQ);
	assert_int_equal(queues_in_use(r), 0x7);
	assert_int_equal(rig_run(r, CONTROLQ, -1), 0);
	assert_int_equal(queues_in_use(r), 0x7);
	/* Reset by the driver: the ring begins anew. */
	rig_halt(r, CONTROLQ);
	driver_init(&r->d[CONTROLQ], &r->ram, RIG_RING, 0);
	r->d[CONTROLQ].avail->flags = r->d[CONTROLQ].used->flags = 0;
	assert_int_equal(rig_run(r, CONTROLQ, -1), 0);
	assert_int_equal(queues_in_use(r), 0x1);
	set_pairs(r, 2);
	assert_int_equal(queues_in_use(r), 0x3);
	/* Another front end, in the middle of things: what was asked of the one before is not known. */
	rig_halt(r, CONTROLQ);
	guest_disconnected(r->guest, NULL);
	guest_connected(r->guest);
	assert_int_equal(rig_run(r, CONTROLQ, -1), 0);
	assert_int_equal(queues_in_use(r), 0x1);
	rig_free(r);
}

static void a_driver_that_kicks_is_served_and_interrupted(void **state)
{
	/* Blocking descriptors, as some front ends pass them: nothing here may wait on one. */
	int kick = eventfd(0, EFD_CLOEXEC), call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct rig *r = ctrl_up(kick);
	uint64_t n = 1, answer;
	struct vring_used_elem e;

	(void)state;
	alarm(20);
	virtq_set_call(r->vq[CONTROLQ], call);
	turn();
	assert_int_equal(read(call, &n, sizeof(n)), -1);
	for (int i = 0; i < 3; i++) {
		uint16_t old = r->d[CONTROLQ].next;

		offer_command(r, 0, (uint8_t[]){3, 0}, 2, whole, 1, &answer);
		assert_true(driver_must_kick(&r->d[CONTROLQ], old, false));
		turn();
		assert_false(driver_take(&r->d[CONTROLQ], &e)); /* it has not kicked yet */
		n = 1;
		assert_int_equal(write(kick, &n, sizeof(n)), sizeof(n));
		turn();
		assert_true(driver_take(&r->d[CONTROLQ], &e));
		assert_int_equal(read(call, &n, sizeof(n)), sizeof(n));
		assert_int_equal(n, 1);
	}
	/* a counter that is full is no reason to stop listening */
	n = UINT64_MAX - 1;
	assert_int_equal(write(call, &n, sizeof(n)), sizeof(n));
	for (int i = 0; i < 2; i++) {
		uint16_t old = r->d[CONTROLQ].next;

		offer_command(r, 0, (uint8_t[]){3, 0}, 2, whole, 1, &answer);
		assert_true(driver_must_kick(&r->d[CONTROLQ], old, false));
		n = 1;
		assert_int_equal(write(kick, &n, sizeof(n)), sizeof(n));
		turn();
		assert_true(driver_take(&r->d[CONTROLQ], &e));
	}
	alarm(0);
	rig_free(r);
	close(kick);
	close(call);
}

/* With EVENT_IDX a driver kicks only if the device has asked for it again. */
static void a_full_counter_does_not_silence_event_idx(void **state)
{
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct rig *r = ctrl_up(kick);
	uint64_t n = UINT64_MAX - 1, answer;
	struct vring_used_elem e;

	(void)state;
	r->vq[CONTROLQ]->event_idx = true;
	virtq_set_call(r->vq[CONTROLQ], call);
	assert_int_equal(write(call, &n, sizeof(n)), sizeof(n));
	turn();
	for (int i = 0; i < 3; i++) {
		uint16_t old = r->d[CONTROLQ].next;

		*driver_used_event(&r->d[CONTROLQ]) = old;
		offer_command(r, 0, (uint8_t[]){3, 0}, 2, whole, 1, &answer);
		assert_true(driver_must_kick(&r->d[CONTROLQ], old, true));
		n = 1;
		assert_int_equal(write(kick, &n, sizeof(n)), sizeof(n));
		turn();
		assert_true(driver_take(&r->d[CONTROLQ], &e));
	}
	rig_free(r);
	close(kick);
	close(call);
}

static void many_commands_leave_the_thread_time_for_others(void **state)
{
	int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct rig *r = ctrl_up(kick);
	struct vring_used_elem e;
	uint64_t n = 1, answer;
	unsigned done = 0, quiesces;

	(void)state;
	turn();
	for (unsigned i = 0; i < 80; i++) /* one pair and two in turn: each one is a change */
		offer_command(r, 3 * i, (uint8_t[]){4, 0, (uint8_t)(1 + i % 2), 0}, 4, whole, 1, &answer);
	quiesces = asked.quiesces;
	assert_int_equal(write(kick, &n, sizeof(n)), sizeof(n));
	turn();
	while (driver_take(&r->d[CONTROLQ], &e))
		done++;
	assert_in_range(done, 1, 64);
	assert_true(asked.quiesces - quiesces <= 2); /* nobody waits for the workers once for each command */
	while (done < 80) {
		await_used(r); /* the rest, without another kick */
		done++;
	}
	assert_int_equal(queues_in_use(r), 0x3);
	rig_free(r);
	close(kick);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_checked_and_answered),
		cmocka_unit_test(long_commands_are_refused_and_long_answers_get_one_byte),
		cmocka_unit_test(a_command_without_room_for_an_answer_breaks_the_ring),
		cmocka_unit_test(only_the_pairs_that_the_driver_set_are_used),
		cmocka_unit_test(a_driver_that_kicks_is_served_and_interrupted),
		cmocka_unit_test(a_full_counter_does_not_silence_event_idx),
		cmocka_unit_test(many_commands_leave_the_thread_time_for_others),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
