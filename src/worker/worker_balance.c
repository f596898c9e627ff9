/* SPDX-License-Identifier: Apache-2.0 */
/* Queues follow the load, and the number of workers. Control thread. */
#include <limits.h>
#include <stdlib.h>

#include "worker/balance.h"
#include "worker/worker_priv.h"

#define CANDIDATES 64 /* a choice among so many is good enough; each is compared with whole lists */

/* Cycles that @wq kept its worker busy since this was last asked. */
static uint64_t busy_since(struct work_queue *wq)
{
	uint64_t busy = atomic_load_explicit(&wq->busy_cycles, memory_order_relaxed), n = busy - wq->counted;

	wq->counted = busy;
	return n;
}

static unsigned queues_in(const struct workers *group)
{
	unsigned n = 0;

	for (unsigned i = 0; i < group->n; i++)
		n += group->w[i]->list->n;
	return n;
}

static void measure(const struct workers *group, uint64_t cycles, struct balance_queue *q)
{
	for (unsigned i = 0; i < group->n; i++)
		for (unsigned k = 0; k < group->w[i]->list->n; k++)
			*q++ = (struct balance_queue){
				.worker = i,
				.load = (unsigned)(busy_since(group->w[i]->list->queue[k]) * 1000 / cycles),
			};
}

/* @queue counts through the lists of all workers, as measure() did. */
static void move(struct workers *group, unsigned queue, unsigned to)
{
	unsigned from = 0;

	for (; queue >= group->w[from]->list->n; from++)
		queue -= group->w[from]->list->n;
	if (worker_queue_move(group->w[from], queue, group->w[to]) == 0)
		group->moves++;
}

void workers_balance(struct workers *group)
{
	uint64_t now = cycles_now(), cycles = now - group->balanced_at + 1;
	unsigned n = queues_in(group), queue = 0, to = 0;
	struct balance_queue *q;

	group->balanced_at = now;
	q = n ? malloc(n * sizeof(*q)) : NULL;
	if (!q)
		return; /* next time */
	measure(group, cycles, q);
	if (balance_plan(q, n, group->n, &queue, &to))
		move(group, queue, to);
	free(q);
}

/* The one whose port would be spread best by it. */
static unsigned choose_queue(const struct work_list *from, const struct work_list *to)
{
	unsigned first = from->n > CANDIDATES ? from->n - CANDIDATES : 0, best = first;
	int best_gain = INT_MIN;

	for (unsigned k = first; k < from->n; k++) {
		const struct port *p = from->queue[k]->port;
		int gain = (int)worker_queues_of(from, p) - (int)worker_queues_of(to, p);

		if (gain > best_gain) {
			best_gain = gain;
			best = k;
		}
	}
	return best;
}

void workers_even_out(struct workers *group)
{
	struct worker *most, *least;

	do {
		most = least = group->w[0];
		for (unsigned i = 1; i < group->n; i++) {
			most = group->w[i]->list->n > most->list->n ? group->w[i] : most;
			least = group->w[i]->list->n < least->list->n ? group->w[i] : least;
		}
	} while (most->list->n > least->list->n + 1 &&
		 worker_queue_move(most, choose_queue(most->list, least->list), least) == 0);
}

int workers_empty(struct workers *group, unsigned i)
{
	struct worker *w = group->w[i];
	int rc = 0;

	while (rc == 0 && w->list->n)
		rc = worker_queue_move(w, 0, workers_choose(group, i, w->list->queue[0]->port));
	return rc;
}
