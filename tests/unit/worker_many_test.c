/* SPDX-License-Identifier: Apache-2.0 */
/* Several workers: who gets which queue, queues that move, workers that come and go, and fairness between queues. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker_rig.h"

#define ENDLESS (UINT64_C(1) << 40) /* frames: more than any test takes */

static void set_count(unsigned n)
{
	struct err e = {0};

	if (workers_set_count(workers, n, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(workers_count(workers), n);
}

/* Worker of queue @q of source @i; *s is what it counts. */
static unsigned worker_of(unsigned i, unsigned q, struct work_queue_stats *s)
{
	for (unsigned w = 0; w < workers_count(workers); w++)
		for (unsigned k = 0; workers_queue_stats(workers, w, k, s); k++)
			if (s->port == &source[i]->port && s->q == q)
				return w;
	fail_msg("nobody has queue %u of source %u", q, i);
	return 0;
}

static unsigned place(unsigned i, unsigned q)
{
	struct work_queue_stats s;

	assert_int_equal(give(i, q, source[i]->q[q].fd), 0);
	return worker_of(i, q, &s);
}

static unsigned queues_in_all(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < workers_count(workers); i++) {
		struct worker_stats s;

		workers_stats(workers, i, &s);
		n += s.queues;
	}
	return n;
}

static void the_pairs_of_a_port_go_to_different_workers(void **state)
{
	(void)state;
	up(2, 20);
	assert_int_equal(place(0, 0), 0);
	assert_int_equal(place(1, 0), 1);
	assert_int_equal(place(1, 1), 0); /* both have one, and 1 has one of this port */
	assert_int_equal(place(1, 2), 1);
	assert_int_equal(place(0, 1), 1);
	take_back(1, 0);
	take_back(1, 2);
	assert_int_equal(place(0, 2), 1); /* both have one of this port, and 1 has fewer */
	down();
}

static void queues_are_shared_out_anew_when_workers_come_and_go(void **state)
{
	static const unsigned n[] = {4, 2, 3, 1, WORKERS_MAX, 1};
	struct worker_stats s;

	(void)state;
	up(1, 20);
	for (unsigned i = 0; i < SOURCES; i++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			place(i, q);
	for (size_t k = 0; k < ARRAY_SIZE(n); k++) {
		set_count(n[k]);
		for (unsigned i = 0; i < n[k]; i++) {
			workers_stats(workers, i, &s);
			assert_in_range(s.queues, SOURCES * QUEUES_MAX / n[k], SOURCES * QUEUES_MAX / n[k] + 1);
		}
	}
	down();
}

/* Whatever sleeps when it moves wakes at its new place, for what came before, meanwhile and after. */
static void a_queue_that_moves_asleep_is_woken(void **state)
{
	uint64_t sent = 0;

	(void)state;
	up(1, 0);
	place(0, 0);
	place(1, 0);
	for (unsigned i = 0; i < 300; i++) {
		assert_true(comes_true(all_asleep, 0));
		set_count(2 - i % 2);
		if (i % 3)
			assert_true(comes_true(all_asleep, 0));
		add(&source[0]->q[0], 1);
		add(&source[1]->q[0], 1);
		sent += 2;
		assert_true(comes_true(sink_got, sent));
	}
	down();
}

static void no_wake_up_is_lost_on_the_way(void **state)
{
	struct feeder feeder[2];
	pthread_t thread[2];
	unsigned n = 0;

	(void)state;
	up(1, 0);
	for (unsigned i = 0; i < 2; i++) {
		place(i, 0);
		feeder[i] = (struct feeder){&source[i]->q[0], i};
		assert_int_equal(pthread_create(&thread[i], NULL, feed, &feeder[i]), 0);
	}
	for (uint64_t end = time_now_ns() + PATIENCE_S * NS_PER_S; time_now_ns() < end && !sink_got(2 * FEEDS);)
		set_count(1 + n++ % 3);
	if (!sink_gets(2 * FEEDS))
		fail_msg("%u frames came of %u", (unsigned)source[SOURCES - 1]->received, 2 * FEEDS);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_true(n > 3);
	down();
}

static bool nothing_pends(uint64_t unused)
{
	(void)unused;
	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			if (atomic_load(&source[s]->q[q].pending))
				return false;
	return true;
}

static void workers_come_and_go_under_load(void **state)
{
	atomic_bool stop = false;
	struct port_totals t;
	uint64_t rx = 0;
	pthread_t thread;

	(void)state;
	up(2, 5);
	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			place(s, q);
	assert_int_equal(pthread_create(&thread, NULL, feed_until_told, &stop), 0);
	for (unsigned i = 0; i < 200; i++) {
		set_count(1 + i * 7 % 5);
		workers_set_pace(workers, i % 3 * 10, i % 2 * 2);
		workers_balance(workers);
		assert_int_equal(queues_in_all(), 2 * QUEUES_MAX);
		usleep(1000);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_true(comes_true(nothing_pends, 0)); /* whoever was told of it is perhaps just getting up */
	for (unsigned s = 0; s < 2; s++) {
		port_totals(&source[s]->port, &t);
		rx += t.rx_frames;
	}
	assert_int_equal(source[SOURCES - 1]->received, total_taken());
	assert_int_equal(rx, total_taken()); /* the slots of workers that went still count */
	down();
}

static void a_worker_goes_on_counting_where_it_ended(void **state)
{
	struct worker_stats before, after;

	(void)state;
	up(2, 20);
	place(0, 0);
	place(0, 1);
	add(&source[0]->q[0], 100);
	add(&source[0]->q[1], 100);
	assert_true(comes_true(sink_got, 200));
	assert_true(comes_true(all_asleep, 0));
	workers_stats(workers, 1, &before);
	assert_int_equal(before.frames, 100);
	set_count(1);
	add(&source[0]->q[0], 100);
	add(&source[0]->q[1], 100);
	assert_true(comes_true(sink_got, 400));
	set_count(2);
	assert_true(comes_true(all_asleep, 0));
	workers_stats(workers, 1, &after);
	assert_int_equal(after.frames, 100);
	assert_true(after.cpu_ns >= before.cpu_ns && after.asleep_cycles > before.asleep_cycles);
	workers_stats(workers, 0, &after);
	assert_int_equal(after.frames, 300);
	down();
}

static void load_is_shared_out_and_then_left_alone(void **state)
{
	struct work_queue_stats s;

	(void)state;
	up(2, 20);
	assert_int_equal(place(0, 0), 0);
	assert_int_equal(place(0, 1), 1);
	assert_int_equal(place(1, 0), 0);
	assert_int_equal(place(1, 1), 1);
	workers_balance(workers);
	usleep(100000);
	workers_balance(workers);
	assert_int_equal(workers_moves(workers), 0);
	atomic_store(&source[0]->q[0].pending, ENDLESS);
	atomic_store(&source[1]->q[0].pending, ENDLESS);
	add(&source[0]->q[0], 1);
	add(&source[1]->q[0], 1);
	for (int i = 0; i < 10; i++) { /* both on worker 0, then one on each */
		usleep(100000);
		workers_balance(workers);
	}
	assert_int_equal(workers_moves(workers), 1);
	assert_int_not_equal(worker_of(0, 0, &s), worker_of(1, 0, &s));
	down();
}

/* One floods, and the other has a frame now and then: it gets through at once, and both are polled as often. */
static void a_flood_takes_no_more_than_its_turn(void **state)
{
	struct work_queue_stats flood[2], modest[2];
	uint64_t polls[2];

	(void)state;
	up(1, 1000000);
	place(0, 0);
	place(1, 0);
	atomic_store(&source[0]->q[0].pending, ENDLESS);
	worker_of(0, 0, &flood[0]);
	worker_of(1, 0, &modest[0]);
	for (uint64_t i = 1; i <= 2000; i++) {
		add(&source[1]->q[0], 1);
		while (atomic_load(&source[1]->q[0].taken) < i)
			sched_yield();
	}
	worker_of(0, 0, &flood[1]);
	worker_of(1, 0, &modest[1]);
	assert_int_equal(modest[1].frames - modest[0].frames, 2000);
	assert_in_range(modest[1].busy_polls - modest[0].busy_polls, 2000, 2000);
	polls[0] = flood[1].polls - flood[0].polls;
	polls[1] = modest[1].polls - modest[0].polls;
	assert_in_range(polls[1], polls[0] - polls[0] / 20 - 2, polls[0] + polls[0] / 20 + 2);
	assert_in_range(flood[1].frames - flood[0].frames, (polls[0] - 2) * FRAME_BATCH, (polls[0] + 2) * FRAME_BATCH);
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_pairs_of_a_port_go_to_different_workers),
		cmocka_unit_test(queues_are_shared_out_anew_when_workers_come_and_go),
		cmocka_unit_test(a_queue_that_moves_asleep_is_woken),
		cmocka_unit_test(no_wake_up_is_lost_on_the_way),
		cmocka_unit_test(workers_come_and_go_under_load),
		cmocka_unit_test(a_worker_goes_on_counting_where_it_ended),
		cmocka_unit_test(load_is_shared_out_and_then_left_alone),
		cmocka_unit_test(a_flood_takes_no_more_than_its_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
