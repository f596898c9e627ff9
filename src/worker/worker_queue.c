/* SPDX-License-Identifier: Apache-2.0 */
/* Queues as control gives them to workers, moves them and takes them back: each change publishes a new list, and waits
 * until the worker has seen it. Control thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <urcu-qsbr.h>

#include "worker/worker_priv.h"

void workers_quiesce(void)
{
	synchronize_rcu();
}

static struct work_list *list_new(unsigned n)
{
	struct work_list *list = malloc(sizeof(*list) + n * sizeof(list->queue[0]));

	if (list)
		list->n = n;
	return list;
}

static struct work_list *list_with(const struct work_list *old, struct work_queue *wq)
{
	struct work_list *list = list_new(old->n + 1);

	if (!list)
		return NULL;
	memcpy(list->queue, old->queue, old->n * sizeof(list->queue[0]));
	list->queue[old->n] = wq;
	return list;
}

static struct work_list *list_without(const struct work_list *old, unsigned at)
{
	struct work_list *list = list_new(old->n - 1);

	if (!list)
		return NULL;
	memcpy(list->queue, old->queue, at * sizeof(list->queue[0]));
	memcpy(list->queue + at, old->queue + at + 1, (list->n - at) * sizeof(list->queue[0]));
	return list;
}

static void publish(struct worker *w, struct work_list *list)
{
	struct work_list *old = atomic_exchange(&w->list, list);

	worker_kick(w);
	synchronize_rcu();
	free(old);
}

unsigned worker_queues_of(const struct work_list *list, const struct port *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < list->n; i++)
		n += list->queue[i]->port == p;
	return n;
}

/* A guest with several queue pairs wants them on several cores; then the fewest queues. */
static bool is_better(const struct worker *a, const struct worker *b, const struct port *p)
{
	unsigned of_a = worker_queues_of(a->list, p), of_b = worker_queues_of(b->list, p);

	return of_a != of_b ? of_a < of_b : a->list->n < b->list->n;
}

struct worker *workers_choose(const struct workers *group, unsigned n, const struct port *p)
{
	struct worker *best = group->w[0];

	for (unsigned i = 1; i < n; i++)
		if (is_better(group->w[i], best, p))
			best = group->w[i];
	return best;
}

static int watch(const struct worker *w, int how, struct work_queue *wq)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = wq};

	return wq->poll_fd < 0 || epoll_ctl(w->epoll_fd, how, wq->poll_fd, &event) == 0 ? 0 : -errno;
}

static int give(struct worker *w, struct work_queue *wq)
{
	struct work_list *list = list_with(w->list, wq);
	int rc = list ? watch(w, EPOLL_CTL_ADD, wq) : -ENOMEM;

	if (rc < 0) {
		free(list);
		return rc;
	}
	publish(w, list);
	return 0;
}

int workers_queue_add(struct workers *group, struct port *p, unsigned q, int poll_fd, struct err *e)
{
	struct work_queue *wq = aligned_alloc(_Alignof(struct work_queue), sizeof(*wq));
	int rc;

	if (!wq)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*wq = (struct work_queue){.port = p, .q = q, .poll_fd = poll_fd, .awake = true};
	pace_init(&wq->pace, &(struct pace_conf){.spin = group->spin_cycles}, cycles_now());
	rc = give(workers_choose(group, group->n, p), wq);
	if (rc < 0) {
		free(wq);
		return err_set(e, rc, NULL, NULL, "queue %u of %s cannot be watched: %s", q, p->name, strerror(-rc));
	}
	return 0;
}

int worker_queue_move(struct worker *from, unsigned at, struct worker *to)
{
	struct work_queue *wq = from->list->queue[at];
	struct work_list *less = list_without(from->list, at), *more = list_with(to->list, wq);
	int rc = less && more ? watch(to, EPOLL_CTL_ADD, wq) : -ENOMEM;

	if (rc < 0) {
		free(less);
		free(more);
		return rc;
	}
	publish(from, less);
	(void)watch(from, EPOLL_CTL_DEL, wq);
	publish(to, more);
	/* What was reported before the queue was in either's list was taken for somebody else's: report it again. The
	 * descriptor still says so, because nobody reads it but the one who takes the frames. It cannot fail: it is there. */
	(void)watch(to, EPOLL_CTL_MOD, wq);
	return 0;
}

static void take_out(struct worker *w, unsigned at)
{
	struct work_list *old = w->list, *list = list_without(old, at);
	struct work_queue *wq = old->queue[at];

	(void)watch(w, EPOLL_CTL_DEL, wq);
	if (list) {
		publish(w, list);
	} else {
		/* Even without memory a queue must stop. The worker sees it at both places, or at one, for a moment. */
		old->queue[at] = old->queue[old->n - 1];
		atomic_thread_fence(memory_order_release);
		old->n--;
		worker_kick(w);
		synchronize_rcu();
	}
	free(wq);
}

void workers_queue_remove(struct workers *group, struct port *p, unsigned q)
{
	for (unsigned i = 0; i < group->n; i++)
		for (unsigned k = 0; k < group->w[i]->list->n; k++)
			if (group->w[i]->list->queue[k]->port == p && group->w[i]->list->queue[k]->q == q) {
				take_out(group->w[i], k);
				return;
			}
}
