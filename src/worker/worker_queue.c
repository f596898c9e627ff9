/* SPDX-License-Identifier: Apache-2.0 */
/* Queues as control gives them to workers and takes them back: each change publishes a new list. Control thread. */
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

static struct work_list *list_with(const struct work_list *old, struct work_queue *wq)
{
	struct work_list *list = malloc(sizeof(*list) + (old->n + 1) * sizeof(list->queue[0]));

	if (!list)
		return NULL;
	memcpy(list->queue, old->queue, old->n * sizeof(list->queue[0]));
	list->queue[old->n] = wq;
	list->n = old->n + 1;
	return list;
}

static void publish(struct worker *w, struct work_list *list)
{
	struct work_list *old = atomic_exchange(&w->list, list);

	worker_kick(w);
	synchronize_rcu();
	free(old);
}

static struct worker *least_loaded(struct workers *group)
{
	struct worker *best = group->w[0];

	for (unsigned i = 1; i < group->n; i++)
		if (group->w[i]->list->n < best->list->n)
			best = group->w[i];
	return best;
}

int workers_queue_add(struct workers *group, struct port *p, unsigned q, int poll_fd, struct err *e)
{
	struct worker *w = least_loaded(group);
	struct work_queue *wq = aligned_alloc(_Alignof(struct work_queue), sizeof(*wq));
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = wq};
	struct work_list *list;

	if (!wq)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*wq = (struct work_queue){.port = p, .q = q, .poll_fd = poll_fd, .awake = true, .busy_at = cycles_now()};
	list = list_with(w->list, wq);
	if (!list || (poll_fd >= 0 && epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, poll_fd, &event) < 0)) {
		int rc = list ? -errno : -ENOMEM;

		free(list);
		free(wq);
		return err_set(e, rc, NULL, NULL, "queue %u of %s cannot be watched: %s", q, p->name, strerror(-rc));
	}
	publish(w, list);
	return 0;
}

static void take_out(struct worker *w, unsigned at)
{
	struct work_list *old = w->list, *list = malloc(sizeof(*list) + old->n * sizeof(list->queue[0]));
	struct work_queue *wq = old->queue[at];

	if (wq->poll_fd >= 0)
		epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, wq->poll_fd, NULL);
	if (!list) {
		/* Even without memory a queue must stop. The worker sees it at both places, or at one, for a moment. */
		old->queue[at] = old->queue[old->n - 1];
		atomic_thread_fence(memory_order_release);
		old->n--;
		worker_kick(w);
		synchronize_rcu();
	} else {
		list->n = old->n - 1;
		memcpy(list->queue, old->queue, at * sizeof(list->queue[0]));
		memcpy(list->queue + at, old->queue + at + 1, (list->n - at) * sizeof(list->queue[0]));
		publish(w, list);
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
