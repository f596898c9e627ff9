/* SPDX-License-Identifier: Apache-2.0 */
/* Workers and queues: who is polled, who sleeps, who is woken, and that nothing is touched after it was taken away. */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker_rig.h"

static void frames_are_forwarded_returned_and_told_of(void **state)
{
	struct worker_stats s;

	(void)state;
	up(1, 20);
	assert_int_equal(give(0, 0, source[0]->q[0].fd), 0);
	add(&source[0]->q[0], 1000);
	assert_true(comes_true(sink_got, 1000));
	assert_true(comes_true(all_asleep, 0));
	assert_int_equal(source[0]->q[0].pending, 0);
	assert_in_range(source[0]->rx_flushes, 1000 / FRAME_BATCH, 1000);
	assert_in_range(source[SOURCES - 1]->tx_flushes, 1000 / FRAME_BATCH, 1000);
	workers_stats(workers, 0, &s);
	assert_int_equal(s.frames, 1000);
	assert_int_equal(s.queues, 1);
	assert_in_range(s.busy_rounds, 1000 / FRAME_BATCH, 1000);
	assert_true(s.rounds >= s.busy_rounds);
	down();
}

static void nothing_to_do_costs_nothing(void **state)
{
	uint64_t polls, cpu_ns;

	(void)state;
	up(2, 20);
	for (unsigned i = 0; i < SOURCES; i++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			assert_int_equal(give(i, q, source[i]->q[q].fd), 0);
	assert_true(comes_true(all_asleep, 0));
	polls = source[1]->q[1].polls;
	cpu_ns = total_cpu_ns();
	usleep(100000);
	assert_int_equal(source[1]->q[1].polls, polls);
	assert_in_range(total_cpu_ns() - cpu_ns, 0, MS);

	/* One of them wakes, and the others sleep on. */
	add(&source[0]->q[1], 5);
	assert_true(comes_true(sink_got, 5));
	assert_true(comes_true(all_asleep, 0));
	assert_int_equal(source[1]->q[1].polls, polls);
	down();
}

static void a_queue_that_cannot_wake_us_is_never_left_alone(void **state)
{
	struct worker_stats s;

	(void)state;
	up(1, 20);
	assert_int_equal(give(0, 0, -1), 0);
	assert_int_equal(give(1, 0, source[1]->q[0].fd), 0);
	for (int i = 0; i < 5; i++) {
		usleep(1000);
		assert_true(comes_true(polled_more_than, source[0]->q[0].polls));
	}
	workers_stats(workers, 0, &s);
	assert_int_equal(s.awake, 1); /* the other one sleeps, and wakes although the worker does not wait for it */
	add(&source[1]->q[0], 3);
	assert_true(comes_true(sink_got, 3));
	down();
}

static void queues_are_shared_out_evenly(void **state)
{
	struct worker_stats s;

	(void)state;
	up(3, 20);
	for (unsigned i = 0; i < SOURCES; i++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			assert_int_equal(give(i, q, source[i]->q[q].fd), 0);
	for (unsigned i = 0; i < 3; i++) {
		workers_stats(workers, i, &s);
		assert_int_equal(s.queues, SOURCES * QUEUES_MAX / 3);
	}
	down();
}

static void a_queue_that_cannot_be_watched_is_refused(void **state)
{
	struct err e = {0};
	FILE *file = tmpfile();
	struct worker_stats s;

	(void)state;
	assert_non_null(file);
	up(1, 20);
	assert_int_equal(workers_queue_add(workers, &source[0]->port, 0, 999999, &e), -EBADF);
	assert_true(e.text[0]);
	assert_int_equal(workers_queue_add(workers, &source[0]->port, 0, fileno(file), &e), -EPERM);
	workers_stats(workers, 0, &s);
	assert_int_equal(s.queues, 0);
	workers_queue_remove(workers, &source[0]->port, 0); /* nobody has it */
	fclose(file);
	down();
}

/* ---- no wake-up is lost ---- */

static void no_frame_waits_for_ever(void **state)
{
	static const unsigned spin_us[] = {0, 1, 20};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(spin_us); k++) {
		struct feeder feeder[2];
		pthread_t thread[2];

		up(1 + k % 2, spin_us[k]);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(give(i, 0, source[i]->q[0].fd), 0);
			feeder[i] = (struct feeder){&source[i]->q[0], i};
			assert_int_equal(pthread_create(&thread[i], NULL, feed, &feeder[i]), 0);
		}
		if (!sink_gets(2 * FEEDS))
			fail_msg("%u frames came of %u", (unsigned)source[SOURCES - 1]->received, 2 * FEEDS);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(thread[i], NULL);
		down();
	}
}

/* ---- queues come and go ---- */

#define CHANGES 400 /* and more until so many frames have gone through */
#define ENOUGH  5000

static void no_worker_touches_what_was_taken_back(void **state)
{
	atomic_bool stop = false;
	uint64_t end = time_now_ns() + PATIENCE_S * NS_PER_S;
	pthread_t thread;

	(void)state;
	up(2, 5);
	assert_int_equal(pthread_create(&thread, NULL, feed_until_told, &stop), 0);
	for (unsigned i = 0; i < CHANGES || (total_taken() < ENOUGH && time_now_ns() < end); i++) {
		unsigned s = i * 7 % 2, q = i * 5 / 2 % QUEUES_MAX;

		if (atomic_load(&source[s]->q[q].present))
			take_back(s, q); /* from here on a call would be counted as a fault */
		else
			assert_int_equal(give(s, q, i % 11 ? source[s]->q[q].fd : -1), 0);
		if (i % 40 == 39) { /* the whole port leaves and comes back */
			struct fwd_port_conf conf = {.vid = 1};
			struct err e;

			for (unsigned k = 0; k < QUEUES_MAX; k++)
				take_back(s, k);
			fwd_port_remove(sw, &source[s]->port);
			assert_int_equal(fwd_port_add(sw, &source[s]->port, &conf, &e), 0);
		}
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	/* What is still there is served to the end. */
	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++) {
			take_back(s, q);
			assert_int_equal(give(s, q, source[s]->q[q].fd), 0);
		}
	assert_true(comes_true(all_asleep, 0));
	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			assert_int_equal(source[s]->q[q].pending, 0);
	assert_true(total_taken() >= ENOUGH);
	assert_int_equal(source[SOURCES - 1]->received, total_taken());
	down();
}

/* ---- attention ---- */

static bool attention_came(void)
{
	struct pollfd p = {.fd = attention_fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, PATIENCE_S * 1000) == 1 && read(attention_fd, &n, sizeof(n)) == sizeof(n);
}

static void a_port_that_wants_attention_gets_it(void **state)
{
	(void)state;
	up(2, 20);
	assert_int_equal(give(0, 0, source[0]->q[0].fd), 0);
	assert_int_equal(give(1, 0, source[1]->q[0].fd), 0);
	for (int i = 0; i < 100; i++) {
		struct source *s = source[i % 2];

		assert_true(comes_true(all_asleep, 0));
		atomic_store(&s->asks_for_attention, true);
		add(&s->q[0], 1);
		for (bool told = false; !told;) { /* of an earlier round first, perhaps */
			assert_true(attention_came());
			told = atomic_exchange(&s->port.attention, false);
		}
		assert_false(source[1 - i % 2]->port.attention);
		atomic_store(&s->asks_for_attention, false);
		assert_true(comes_true(all_asleep, 0));
		s->port.attention = false;
	}
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_forwarded_returned_and_told_of),
		cmocka_unit_test(nothing_to_do_costs_nothing),
		cmocka_unit_test(a_queue_that_cannot_wake_us_is_never_left_alone),
		cmocka_unit_test(queues_are_shared_out_evenly),
		cmocka_unit_test(a_queue_that_cannot_be_watched_is_refused),
		cmocka_unit_test(no_frame_waits_for_ever),
		cmocka_unit_test(no_worker_touches_what_was_taken_back),
		cmocka_unit_test(a_port_that_wants_attention_gets_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
