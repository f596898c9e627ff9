/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "worker/worker.h"

/* Private to worker*.c. */

/* A receive queue as its worker sees it.
 * AWAKE:  polled in every round. After spin_ns without a frame it asks for a wake-up (rx_sleep) and goes to sleep.
 * ASLEEP: not touched until its poll descriptor reports something. */
struct work_queue {
	/* constant */
	struct port *port;
	unsigned q;
	int poll_fd; /* -1: never sleeps */
	/* the worker; others read (relaxed) */
	_Atomic bool awake;
	uint64_t busy_ns; /* time of the last round that found a frame here */
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
	_Atomic uint64_t busy_rounds, frames, sleeps;
	struct port_set touched;
	struct frame_batch batch;
};

struct workers {
	unsigned n;
	uint64_t spin_ns;
	int attention_fd;
	struct worker *w[WORKERS_MAX];
};

/* Poll one queue once: receive, forward, return. How many frames were taken, dropped ones too. Hot (worker_hot.c). */
unsigned worker_poll(struct worker *w, struct work_queue *wq);
