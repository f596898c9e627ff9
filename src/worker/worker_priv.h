/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/cycles.h"
#include "worker/worker.h"

/* Private to src/worker. Times are in cycles (base/cycles.h) unless their name says otherwise. */

/* A receive queue as its worker sees it.
 * AWAKE:  polled in every round. After spin_cycles without a frame it asks for a wake-up (rx_sleep) and goes to sleep.
 * ASLEEP: not touched until its poll descriptor reports something. */
struct work_queue {
	/* constant */
	struct port *port;
	unsigned q;
	int poll_fd; /* -1: never sleeps */
	/* the worker; others read (relaxed) */
	cache_aligned _Atomic bool awake;
	uint64_t busy_at; /* when a frame was last found here */
	_Atomic uint64_t polls, busy_polls, frames, busy_cycles;
};

/* The queues of a worker: immutable, published by control. */
struct work_list {
	unsigned n;
	struct work_queue *queue[];
};

struct worker {
	/* constant */
	unsigned index;
	int cpu;
	struct workers *group;
	struct fwd *fwd;
	pthread_t thread;
	int epoll_fd;
	int wake_fd; /* eventfd: look at the list, or at `stop` */
	/* control publishes */
	struct work_list *_Atomic list;
	_Atomic bool stop;
	/* the worker; control reads (relaxed) */
	cache_aligned _Atomic uint64_t rounds;
	_Atomic uint64_t busy_rounds, busy_polls, empty_polls, frames, sleeps;
	_Atomic uint64_t stage[STAGE_N]; /* cycles spent */
	_Atomic uint64_t asleep;         /* cycles in sleeps that have ended */
	_Atomic uint64_t asleep_since;   /* 0: is not asleep */
	uint64_t lap_at;                 /* the end of the last stage */
	struct fwd_work work;
	struct frame_batch batch;
};

struct workers {
	unsigned n;
	uint64_t spin_cycles;
	uint64_t look_cycles; /* how often a busy worker asks epoll about those who sleep */
	int attention_fd;
	struct worker *w[WORKERS_MAX];
};

/* The time since the last lap ends here, and begins anew. Returns it. */
static inline uint64_t lap(struct worker *w)
{
	uint64_t now = cycles_now(), spent = now - w->lap_at;

	if (unlikely((int64_t)spent < 0)) /* moved to a core whose clock is some cycles behind */
		spent = 0;
	w->lap_at = now;
	return spent;
}

/* Charge the time since the last lap to @s. */
static inline void lap_to(struct worker *w, enum work_stage s)
{
	count(&w->stage[s], lap(w));
}

/* ---- worker_hot.c ---- */

/* Poll one queue once: receive, forward, return, publish. How many frames were taken, dropped ones too; what the batch
 * touched (w->work) is to be flushed then. The time is charged. */
unsigned worker_poll(struct worker *w, struct work_queue *wq);

/* ---- worker_loop.c ---- */

/* The thread; @arg is its struct worker. */
void *worker_main(void *arg);

/* ---- worker.c: for control ---- */

/* Make it look at its list, or at `stop`. */
void worker_kick(struct worker *w);
