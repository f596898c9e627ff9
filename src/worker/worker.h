/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "fwd/fwd.h"
#include "port/port.h"

/* Workers: pinned threads that take batches from the queues they own, have them forwarded, and return them. A queue
 * that stays empty is put to sleep (its notification armed), after spin_us or sooner if watching it for so long does
 * not pay; a worker without a queue awake sleeps in epoll_wait (design D12).
 *
 * Thread: everything here is called by the control thread.
 */
struct workers;

struct workers_conf {
	unsigned n;           /* to start with, 1 .. WORKERS_MAX */
	int cpu[WORKERS_MAX]; /* to pin to, also those who come later; -1: not pinned */
	unsigned spin_us;     /* an empty queue is polled this long at most before it sleeps */
	unsigned gather_us;   /* under load a queue is left alone this long at most, for a batch to gather; 0: never */
};
#define WORKER_SPIN_US_DEFAULT   20
#define WORKER_SPIN_US_MAX       1000000
#define WORKER_GATHER_US_DEFAULT 2
#define WORKER_GATHER_US_MAX     1000

/* Start the threads. @attention_fd (an eventfd) is written when some port asked for attention. NULL: *e says why. */
struct workers *workers_new(const struct workers_conf *conf, struct fwd *fwd, int attention_fd, struct err *e);
/* Stop and join. All queues must have been removed. */
void workers_free(struct workers *group);

/* As many workers as this, 1 .. WORKERS_MAX; only queues that move are stopped, for a moment. On failure there are as many
 * as could be started, and all queues are served. */
int workers_set_count(struct workers *group, unsigned n, struct err *e) must_check;
/* From the next round of each worker on. */
void workers_set_pace(struct workers *group, unsigned spin_us, unsigned gather_us);
void workers_pace(const struct workers *group, unsigned *spin_us, unsigned *gather_us);
/* See what queues took since the last call, and move one if that helps. About once a second. */
void workers_balance(struct workers *group);
/* How many were moved that way. */
uint64_t workers_moves(const struct workers *group);

/* Give receive queue @q of @p to a worker: the one with the fewest queues of @p, then of all. @poll_fd as in struct
 * port_host. */
int workers_queue_add(struct workers *group, struct port *p, unsigned q, int poll_fd, struct err *e);
/* Take it back: no worker touches it when this returns. No effect if nobody has it. */
void workers_queue_remove(struct workers *group, struct port *p, unsigned q);
/* Wait for a grace period: everything unpublished before is used by nobody after. */
void workers_quiesce(void);

/* Where a worker's time goes. */
enum work_stage {
	STAGE_RECEIVE,      /* rx: chains or slots become frames */
	STAGE_LOOKUP,       /* check, learn, decide */
	STAGE_COPY,         /* tx */
	STAGE_COMPLETION,   /* rx_done and tx_publish */
	STAGE_NOTIFICATION, /* rx_flush and tx_flush */
	STAGE_EMPTY,        /* looking for work where there was none */
	STAGE_N
};
const char *work_stage_name(enum work_stage s);

struct worker_stats {
	int cpu;
	unsigned queues, awake; /* owned; of these not asleep */
	uint64_t rounds;        /* passes over the queues that are awake */
	uint64_t busy_rounds;   /* of these with at least one frame */
	uint64_t busy_polls;    /* of one queue, that found at least one frame */
	uint64_t empty_polls;
	uint64_t frames;
	uint64_t sleeps;                /* times in epoll_wait without a time limit */
	uint64_t stage_cycles[STAGE_N]; /* see cycles_hz() */
	uint64_t asleep_cycles;         /* time that no stage was charged with */
	uint64_t cpu_ns;                /* CPU time of the thread */
};
unsigned workers_count(const struct workers *group);
void workers_stats(const struct workers *group, unsigned i, struct worker_stats *s);

/* What one receive queue took, since it was given to the workers. */
struct work_queue_stats {
	const struct port *port;
	unsigned q;
	bool awake;
	uint64_t polls, busy_polls;
	uint64_t frames;      /* taken, dropped ones too */
	uint64_t busy_cycles; /* of busy polls, from receiving to notification */
};
/* Queue number @k of worker @i; false: it has no more. */
bool workers_queue_stats(const struct workers *group, unsigned i, unsigned k, struct work_queue_stats *s);
