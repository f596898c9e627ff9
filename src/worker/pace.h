/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* How often a receive queue is polled, and for how long it is watched when nothing comes (design D12). It knows no queue
 * and no clock: it is told what polls found and when. Times are in any one unit; the worker's is cycles.
 *
 * Watching: a queue is watched after its last frame for `spin`, then it may sleep. `spin` follows what it earned: frames
 * that come within the budget make it grow up to the budget, a longer silence makes it shrink, down to nothing for a
 * queue that ticks slowly.
 *
 * Gathering: frames taken as they come, a few at a time, bounce the ring's cache lines between us and the sender, and
 * make both slower. Two states:
 *   AT ONCE    polled in every round. A streak of thin polls close to each other shows a rate; if the rate promises a
 *              batch that is worth waiting for, and larger than what polls bring now: GATHERING.
 *   GATHERING  after a poll, no other until as many frames as are enough should be there, or `gather` has passed. A
 *              poll that then finds clearly fewer than the rate promised, or nothing, ends it: the sender slowed down,
 *              or was waiting for us. Each time in vain doubles the streak that is asked for next time.
 * So a lone frame, or one that answers the last, waits for nothing but a trial now and then.
 *
 * Thread: the queue's worker.
 */

#define GATHER_ENOUGH     32   /* frames that make a poll cheap enough */
#define GATHER_PLENTY     64   /* so many that more are there already */
#define GATHER_WORTH      4    /* fewer would not pay for the delay */
#define GATHER_STREAK     8    /* thin polls that show a rate... */
#define GATHER_STREAK_MAX 4096 /* ...and this many after a few trials in vain */

struct pace_conf {
	uint64_t spin;   /* budget */
	uint64_t wake;   /* what a wake-up takes from the sender's call to our poll: no silence of the sender's */
	uint64_t gather; /* the longest wait; 0: never */
};

struct pace {
	uint64_t quiet_from; /* end of the last poll that found a frame */
	uint64_t watch_from; /* the same, or a later wake-up */
	uint64_t spin;
	uint64_t polled_at; /* begin of the last poll that found a frame */
	uint64_t poll_at;   /* not before then */
	/* AT ONCE: the thin polls that came close after each other */
	uint64_t streak_from;
	uint32_t streak, streak_frames, streak_needed;
	/* GATHERING */
	bool gathering;
	bool waited; /* poll_at is later than at once */
	uint64_t wait;
	uint64_t rate_time; /* the rate: rate_frames in rate_time */
	uint32_t rate_frames;
};

/* Begins with the whole budget. */
void pace_init(struct pace *p, const struct pace_conf *c, uint64_t now);

/* A poll that began at @began found @n > 0 frames, which have been dealt with by @now. Hot. */
void pace_found(struct pace *p, const struct pace_conf *c, unsigned n, uint64_t began, uint64_t now);
/* A poll found nothing. Hot. */
void pace_found_none(struct pace *p);

/* The queue was woken: it is to be polled at once. */
static inline void pace_woken(struct pace *p, uint64_t now)
{
	p->watch_from = p->poll_at = now;
}

static inline bool pace_may_poll(const struct pace *p, uint64_t now)
{
	return (int64_t)(now - p->poll_at) >= 0;
}

/* Clocks of two cores may differ a little, when a queue moves. */
static inline uint64_t pace_since(uint64_t then, uint64_t now)
{
	return (int64_t)(now - then) > 0 ? now - then : 0;
}

/* After a poll that found nothing: has it been watched for long enough? */
static inline bool pace_may_sleep(const struct pace *p, const struct pace_conf *c, uint64_t now)
{
	return pace_since(p->watch_from, now) >= (p->spin < c->spin ? p->spin : c->spin);
}
