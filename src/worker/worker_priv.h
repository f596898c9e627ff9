/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/cycles.h"
#include "worker/pace.h"
#include "worker/worker.h"

/* Private to src/worker. Times are in cycles (base/cycles.h) unless their name says otherwise. */

/* A receive queue as its worker sees it.
 * AWAKE:  polled in every round that its pace allows. When it was quiet for long enough it asks for a wake-up
 *         (rx_sleep) and goes to sleep.
 * ASLEEP: not touched until its poll descriptor reports something. */
struct work_queue {
	/* constant */
	struct port *port;
	unsigned q;
	int poll_fd; /* -1: never sleeps */
	/* the worker; others read (relaxed) */
	cache_aligned _Atomic bool awake;
	struct pace pace;
	_Atomic uint64_t polls, busy_polls, frames, busy_cycles;
	/* control */
	uint64_t counted; /* of busy_cycles, when the load was last looked at */
};

/* The queues of a worker: immutable, published by control. */
struct work_list {
	unsigned n;
	struct work_queue *queue[];
};

/* Its counters are never set back: when fewer workers are asked for its thread ends, and they wait here for the next
 * one. */
struct worker {
	/* constant */
	unsigned index;
	int cpu;
	struct workers *group;
	/* constant while the thread runs */
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
	uint64_t cpu_ns_before;          /* of threads that have ended */
	uint64_t lap_at;                 /* the end of the last stage */
	struct pace_conf pace;           /* as of this round */
	struct fwd_work work;
	struct frame_batch batch;
};

struct workers {
	/* control */
	unsigned n; /* that run: the first ones of w[] */
	int cpu[WORKERS_MAX];
	unsigned spin_us, gather_us;
	uint64_t balanced_at;
	uint64_t moves; /* of queues, for balance */
	struct worker *w[WORKERS_MAX];
	/* control writes, workers read (relaxed) */
	_Atomic uint64_t spin_cycles, gather_cycles;
	/* constant */
	struct fwd *fwd;
	uint64_t wake_cycles;
	uint64_t look_cycles; /* how often a busy worker asks epoll about those who sleep */
	int attention_fd;
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

/* ---- for control ---- */

/* How many of @list are queues of @p. */
unsigned worker_queues_of(const struct work_list *list, const struct port *p);
/* The best of the first @n workers for another queue of @p. */
struct worker *workers_choose(const struct workers *group, unsigned n, const struct port *p);
/* Queue number @at goes on where it was, awake or asleep, with another worker. On failure nothing has changed. */
int worker_queue_move(struct worker *from, unsigned at, struct worker *to) must_check;
/* Move queues until all workers have as many, or memory is short. */
void workers_even_out(struct workers *group);
/* Move all queues of worker @i to those before it. */
int workers_empty(struct workers *group, unsigned i) must_check;

/* Make it look at its list, or at `stop`. */
void worker_kick(struct worker *w);
