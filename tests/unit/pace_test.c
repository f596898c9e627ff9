/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of polling, played against senders of several kinds in a time of our own (in nanoseconds). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/pace.h"

#define US 1000

static const struct pace_conf usual = {.spin = 20 * US, .wake = 5 * US, .gather = 2 * US};
static const struct pace_conf eager = {.spin = 20 * US, .wake = 5 * US, .gather = 0};

/* ---- watching ---- */

struct silence {
	uint64_t quiet_us;
	uint64_t spin_us; /* what it leaves, in whole microseconds */
};

static void play_silences(const struct pace_conf *c, const struct silence *row, size_t n)
{
	uint64_t now = 1000 * US;
	struct pace p;

	pace_init(&p, c, now);
	for (size_t i = 0; i < n; i++) {
		now += row[i].quiet_us * US;
		pace_found(&p, c, 1, now, now + US);
		now += US;
		if (p.spin / US != row[i].spin_us)
			fail_msg("row %zu: watched for %u us", i, (unsigned)(p.spin / US));
	}
}

static void watching_follows_what_it_earned(void **state)
{
	static const struct silence kept[] = {{1, 20}, {19, 20}, {20, 20}, {24, 20}};
	/* a ticking queue is not watched at all in the end, and one that talks again soon is */
	static const struct silence ticks[] = {{100, 5}, {10000, 1}, {100, 0}, {1000, 0}, {10, 2},
					       {10, 5},  {5, 10},    {20, 20}, {1, 20},   {26, 5}};

	(void)state;
	play_silences(&usual, kept, ARRAY_SIZE(kept));
	play_silences(&usual, ticks, ARRAY_SIZE(ticks));
}

static void the_budget_is_a_bound_and_may_change(void **state)
{
	struct pace_conf none = {.spin = 0, .wake = 5 * US}, more = {.spin = 80 * US, .wake = 5 * US};
	struct pace p;

	(void)state;
	pace_init(&p, &usual, 0);
	assert_false(pace_may_sleep(&p, &usual, 20 * US - 1));
	assert_true(pace_may_sleep(&p, &usual, 20 * US));
	assert_true(pace_may_sleep(&p, &none, 1));
	assert_false(pace_may_sleep(&p, &more, 19 * US)); /* it must earn more first */
	pace_found(&p, &more, 1, 10 * US, 10 * US);
	pace_found(&p, &more, 1, 20 * US, 20 * US);
	assert_false(pace_may_sleep(&p, &more, 20 * US + 79 * US));
	pace_woken(&p, 1000 * US); /* a wake-up for nothing is no reason to stay up */
	assert_true(pace_may_sleep(&p, &none, 1000 * US));
}

/* ---- gathering: a sender, a poller, and what polls cost ---- */

#define EMPTY_POLL 50
#define BUSY_POLL  60
#define PER_FRAME  25

struct play {
	struct pace p;
	struct pace_conf c;
	uint64_t now;
	uint64_t busy_polls, frames, delays; /* polls that were put off */
	uint64_t longest;                    /* between a poll that found something and the next poll */
};

static void play_init(struct play *y, const struct pace_conf *c)
{
	*y = (struct play){.c = *c, .now = 1000 * US};
	pace_init(&y->p, c, y->now);
}

/* Poll once, as soon as the pace allows; @ready frames wait at a time. */
static unsigned play_poll(struct play *y, unsigned (*ready)(void *sender, uint64_t now), void *sender)
{
	uint64_t last = y->p.polled_at, began;
	unsigned n;

	y->delays += !pace_may_poll(&y->p, y->now);
	while (!pace_may_poll(&y->p, y->now))
		y->now += 10;
	began = y->now;
	if (y->busy_polls && began - last > y->longest)
		y->longest = began - last;
	n = ready(sender, began);
	if (n == 0) {
		y->now += EMPTY_POLL;
		pace_found_none(&y->p);
		return 0;
	}
	n = n < GATHER_PLENTY ? n : GATHER_PLENTY;
	y->now += BUSY_POLL + PER_FRAME * n;
	y->busy_polls++;
	y->frames += n;
	pace_found(&y->p, &y->c, n, began, y->now);
	return n;
}

/* A steady sender: a burst of so many frames each period. */
struct steady {
	uint64_t period, began;
	unsigned burst;
	uint64_t taken;
};

static unsigned steady_ready(void *arg, uint64_t now)
{
	struct steady *s = arg;
	uint64_t made = (now - s->began) / s->period * s->burst;
	unsigned n = (unsigned)(made - s->taken);

	n = n < GATHER_PLENTY ? n : GATHER_PLENTY;
	s->taken += n;
	return n;
}

static void play_steady(struct play *y, uint64_t period, unsigned burst, uint64_t frames)
{
	struct steady s = {.period = period, .burst = burst, .began = y->now};

	while (s.taken < frames)
		play_poll(y, steady_ready, &s);
}

static void a_flood_is_taken_in_batches(void **state)
{
	static const uint64_t period_ns[] = {60, 100, 150, 250, 400};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(period_ns); i++) {
		struct play with, without;

		play_init(&with, &usual);
		play_init(&without, &eager);
		play_steady(&with, period_ns[i], 1, 100000);
		play_steady(&without, period_ns[i], 1, 100000);
		assert_int_equal(without.delays, 0);
		/* as many as come in the time, and no longer than allowed */
		assert_true(with.frames / with.busy_polls >=
			    min_u32(GATHER_ENOUGH, 2 * US / (uint32_t)period_ns[i]) - 1);
		assert_true(with.busy_polls * 2 < without.busy_polls);
		assert_true(with.longest <= 2 * US + 10);
		/* and when it is over, the next frame after the silence is taken at once */
		with.now += 10 * US;
		with.delays = 0;
		play_steady(&with, 5 * US, 1, 100);
		assert_in_range(with.delays, 0, 1);
	}
}

static void thin_traffic_and_whole_batches_wait_for_nothing(void **state)
{
	static const struct {
		uint64_t period;
		unsigned burst;
	} row[] = {{600, 1},    {1 * US, 1},  {2 * US, 1},  {20 * US, 1},
		   {3 * US, 4}, {5 * US, 32}, {1 * US, 32}, {1500, 16}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct play y;

		play_init(&y, &usual);
		play_steady(&y, row[i].period, row[i].burst, 20000);
		if (y.delays)
			fail_msg("row %zu: %u polls waited", i, (unsigned)y.delays);
	}
}

/* A sender that answers: each burst comes some time after all of the last was taken. */
struct asker {
	uint64_t think, next_at;
	unsigned burst;
};

static unsigned asker_ready(void *arg, uint64_t now)
{
	struct asker *a = arg;

	if (now < a->next_at)
		return 0;
	a->next_at = now + BUSY_POLL + PER_FRAME * a->burst + a->think;
	return a->burst;
}

static uint64_t play_asker(const struct pace_conf *c, uint64_t think, unsigned burst)
{
	struct asker a = {.think = think, .burst = burst};
	struct play y;
	uint64_t began;

	play_init(&y, c);
	began = y.now;
	while (y.busy_polls < 20000)
		play_poll(&y, asker_ready, &a);
	return y.now - began;
}

static void who_waits_for_an_answer_gets_it_as_soon_as_ever(void **state)
{
	static const uint64_t think_ns[] = {0, 30, 100, 300, 1000, 1900, 5000};
	static const unsigned burst[] = {1, 2, 4, 8};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(think_ns); i++)
		for (size_t k = 0; k < ARRAY_SIZE(burst); k++) {
			uint64_t with = play_asker(&usual, think_ns[i], burst[k]);
			uint64_t without = play_asker(&eager, think_ns[i], burst[k]);

			if (with > without + without / 50)
				fail_msg("%u frames, %u ns later: %u us became %u us", burst[k], (unsigned)think_ns[i],
					 (unsigned)(without / US), (unsigned)(with / US));
		}
}

static void it_can_be_switched_off_on_the_way(void **state)
{
	struct play y;

	(void)state;
	play_init(&y, &usual);
	play_steady(&y, 100, 1, 10000);
	assert_true(y.delays > 100);
	y.c.gather = 0;
	play_steady(&y, 100, 1, 100);
	y.delays = 0;
	play_steady(&y, 100, 1, 10000);
	assert_int_equal(y.delays, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(watching_follows_what_it_earned),
		cmocka_unit_test(the_budget_is_a_bound_and_may_change),
		cmocka_unit_test(a_flood_is_taken_in_batches),
		cmocka_unit_test(thin_traffic_and_whole_batches_wait_for_nothing),
		cmocka_unit_test(who_waits_for_an_answer_gets_it_as_soon_as_ever),
		cmocka_unit_test(it_can_be_switched_off_on_the_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
