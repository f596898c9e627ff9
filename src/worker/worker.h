/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "fwd/fwd.h"
#include "port/port.h"

/* Workers: pinned threads that take batches from the queues they own, have them forwarded, and return them. A queue
 * that stays empty for spin_us is put to sleep (its notification armed); a worker without a queue awake sleeps in
 * epoll_wait (design D12).
 *
 * Thread: everything here is called by the control thread.
 */
struct workers;

struct workers_conf {
	unsigned n;           /* 1 .. WORKERS_MAX */
	int cpu[WORKERS_MAX]; /* to pin to; -1: not pinned */
	unsigned spin_us;     /* an empty queue is polled this long before it sleeps */
};
#define WORKER_SPIN_US_DEFAULT 20
#define WORKER_SPIN_US_MAX     1000000

/* Start the threads. @attention_fd (an eventfd) is written when some port asked for attention. NULL: *e says why. */
struct workers *workers_new(const struct workers_conf *conf, struct fwd *fwd, int attention_fd, struct err *e);
/* Stop and join. All queues must have been removed. */
void workers_free(struct workers *group);

/* Give receive queue @q of @p to the worker with the fewest queues. @poll_fd as in struct port_host. */
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
