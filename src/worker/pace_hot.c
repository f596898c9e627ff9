/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/pace.h"

/* How fast `spin` follows: a share of the budget to begin anew with, and one below which it is nothing. */
#define SPIN_BEGIN 8
#define SPIN_LEAST 64

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void pace_init(struct pace *p, const struct pace_conf *c, uint64_t now)
{
	*p = (struct pace){
		.quiet_from = now,
		.watch_from = now,
		.spin = c->spin,
		.polled_at = now,
		.poll_at = now,
		.streak_needed = GATHER_STREAK,
	};
}

static void adapt_spin(struct pace *p, const struct pace_conf *c, uint64_t quiet)
{
	if (quiet <= c->spin + c->wake) {
		uint64_t more = 2 * p->spin;

		p->spin = min_u64(more > c->spin / SPIN_BEGIN ? more : c->spin / SPIN_BEGIN, c->spin);
		return;
	}
	p->spin /= 4;
	if (p->spin < c->spin / SPIN_LEAST)
		p->spin = 0;
}

static void begin_streak(struct pace *p, uint64_t began)
{
	p->streak = p->streak_frames = 0;
	p->streak_from = began;
}

/* The streak is over: does its rate promise a batch that is worth it, and larger than what polls bring by themselves? */
static void consider(struct pace *p, const struct pace_conf *c, uint64_t began)
{
	uint64_t time = pace_since(p->streak_from, began) + 1;
	uint64_t promised = c->gather * p->streak_frames / time;

	if (promised >= GATHER_WORTH && promised * p->streak >= 2 * (uint64_t)p->streak_frames) {
		p->gathering = true;
		p->rate_time = time;
		p->rate_frames = p->streak_frames;
		p->wait = min_u64(c->gather, GATHER_ENOUGH * time / p->streak_frames);
	}
	begin_streak(p, began);
}

static void at_once(struct pace *p, const struct pace_conf *c, unsigned n, uint64_t began)
{
	if (n >= GATHER_ENOUGH || pace_since(p->polled_at, began) > c->gather) {
		begin_streak(p, began);
		return;
	}
	p->streak++;
	p->streak_frames += n;
	if (p->streak >= p->streak_needed)
		consider(p, c, began);
}

static void in_vain(struct pace *p)
{
	p->gathering = false;
	if (p->streak_needed < GATHER_STREAK_MAX)
		p->streak_needed *= 2;
}

/* At least three quarters of what was promised for the time that has passed. */
static void judge(struct pace *p, unsigned n, uint64_t began)
{
	uint64_t waited = pace_since(p->polled_at, began);

	if (n >= GATHER_ENOUGH || n * p->rate_time * 4 >= waited * p->rate_frames * 3)
		p->streak_needed = GATHER_STREAK;
	else
		in_vain(p);
}

void pace_found(struct pace *p, const struct pace_conf *c, unsigned n, uint64_t began, uint64_t now)
{
	adapt_spin(p, c, pace_since(p->quiet_from, began));
	if (!p->gathering)
		at_once(p, c, n, began);
	else if (c->gather == 0)
		p->gathering = false;
	else
		judge(p, n, began);
	p->waited = p->gathering && n < GATHER_PLENTY;
	p->poll_at = p->waited ? began + min_u64(p->wait, c->gather) : began;
	p->polled_at = began;
	p->quiet_from = p->watch_from = now;
}

void pace_found_none(struct pace *p)
{
	if (unlikely(p->gathering && p->waited))
		in_vain(p);
}
