/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a worker, and its queues as control gives and takes them.
 *
 * A round: poll every queue that is awake; interrupt and kick who was sent to; put to sleep what has been quiet for long
 * enough; pick up what epoll reports: at once when nothing is awake (then waiting for it), else every POLL_EVERY_NS.
 *
 * Grace periods (liburcu, QSBR): a worker is quiescent between rounds and offline while it waits, so control's
 * synchronize_rcu() takes one round at most, and no time at all with sleeping workers. All a worker uses of ports,
 * queues and tables it looks up anew in each round.
 */
#include "worker/worker.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include <urcu-qsbr.h>

#include "base/log.h"
#include "base/time.h"
#include "gmem/gmem.h"
#include "worker/worker_priv.h"

#define EVENTS_AT_ONCE 64
#define POLL_EVERY_NS  (10 * NS_PER_US) /* how late a sleeping queue may be noticed while others keep us busy */

/* ---- the worker's thread ---- */

static void wake_queue(struct work_queue *wq, uint64_t now_ns)
{
	if (wq->awake)
		return;
	wq->port->ops->rx_wake(wq->port, wq->q);
	wq->awake = true;
	wq->busy_ns = now_ns;
}

/* Fetch what epoll reports, waiting if @wait. Edge-triggered: descriptors need not be read to be armed again. */
static void pick_up(struct worker *w, bool wait)
{
	struct epoll_event event[EVENTS_AT_ONCE];
	uint64_t n_wakes;
	int n;

	if (wait) {
		count(&w->sleeps, 1);
		rcu_thread_offline();
		n = epoll_wait(w->epoll_fd, event, EVENTS_AT_ONCE, -1);
		rcu_thread_online();
		/* The list may have changed, and queues been freed, while we were offline: the events name none of
		 * them for certain. All that still are there get a look. */
		if (n > 0) {
			struct work_list *list = atomic_load_explicit(&w->list, memory_order_acquire);
			uint64_t now_ns = time_now_ns();

			for (unsigned i = 0; i < list->n; i++)
				for (int k = 0; k < n; k++)
					if (event[k].data.ptr == list->queue[i])
						wake_queue(list->queue[i], now_ns);
		}
	} else {
		n = epoll_wait(w->epoll_fd, event, EVENTS_AT_ONCE, 0);
		for (int k = 0; k < n; k++)
			if (event[k].data.ptr)
				wake_queue(event[k].data.ptr, time_now_ns());
	}
	for (int k = 0; k < n; k++)
		if (!event[k].data.ptr && read(w->wake_fd, &n_wakes, sizeof(n_wakes)) < 0)
			continue; /* nobody but us reads it: it was empty */
}

static void flush_touched(struct worker *w)
{
	for (unsigned i = 0; i < PORTS_MAX / 64; i++) {
		while (w->touched.bits[i]) {
			unsigned id = i * 64 + (unsigned)__builtin_ctzll(w->touched.bits[i]);
			struct port *p = fwd_port(w->fwd, id);

			w->touched.bits[i] &= w->touched.bits[i] - 1;
			if (p && p->ops->tx_flush)
				p->ops->tx_flush(p, w->index);
		}
	}
}

/* One pass over the queues that are awake. Returns how many still are. */
static unsigned poll_queues(struct worker *w, struct work_list *list, uint64_t now_ns)
{
	unsigned awake = 0, frames = 0;

	for (unsigned i = 0; i < list->n; i++) {
		struct work_queue *wq = list->queue[i];
		const struct port_ops *ops = wq->port->ops;
		unsigned n;

		if (!wq->awake)
			continue;
		n = worker_poll(w, wq);
		if (n) {
			frames += n;
			wq->busy_ns = now_ns;
			flush_touched(w);
			if (ops->rx_flush)
				ops->rx_flush(wq->port, wq->q);
		} else if (now_ns - wq->busy_ns >= w->group->spin_ns && wq->poll_fd >= 0 &&
			   !ops->rx_sleep(wq->port, wq->q)) {
			wq->awake = false;
			continue;
		}
		awake++;
	}
	count(&w->rounds, 1);
	count(&w->busy_rounds, frames > 0);
	return awake;
}

static void call_control(struct worker *w)
{
	uint64_t one = 1;

	if (write(w->group->attention_fd, &one, sizeof(one)) < 0)
		return; /* its counter is full: control will look */
}

/* Some guest's memory was truncated: control must find out whose. Perhaps it is one that we only send to. */
static void look_for_faults(struct worker *w, unsigned *seen)
{
	unsigned now = gmem_fault_count();

	if (likely(now == *seen))
		return;
	*seen = now;
	for (unsigned id = 0; id < PORTS_MAX; id++) {
		struct port *p = fwd_port(w->fwd, id);

		if (p)
			port_attention(p);
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	uint64_t now_ns = 0, looked_ns = 0;
	unsigned faults_seen = 0;

	rcu_register_thread();
	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		struct work_list *list = atomic_load_explicit(&w->list, memory_order_acquire);
		unsigned awake;

		now_ns = time_now_ns();
		awake = poll_queues(w, list, now_ns);
		look_for_faults(w, &faults_seen);
		if (unlikely(port_attention_pending()))
			call_control(w);
		rcu_quiescent_state();
		if (awake == 0) {
			pick_up(w, true);
		} else if (now_ns - looked_ns >= POLL_EVERY_NS) {
			pick_up(w, false);
			looked_ns = now_ns;
		}
	}
	rcu_unregister_thread();
	return NULL;
}

/* ---- control ---- */

void workers_quiesce(void)
{
	synchronize_rcu();
}

static void kick(struct worker *w)
{
	uint64_t one = 1;

	if (write(w->wake_fd, &one, sizeof(one)) < 0)
		log_error("worker %u cannot be woken: %s", w->index, strerror(errno));
}

static void pin(struct worker *w)
{
	char name[16];
	cpu_set_t set;

	snprintf(name, sizeof(name), "worker%u", w->index);
	pthread_setname_np(w->thread, name);
	if (w->cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((size_t)w->cpu, &set);
	if (pthread_setaffinity_np(w->thread, sizeof(set), &set))
		log_warn("worker %u could not be pinned to CPU %d; it runs anywhere", w->index, w->cpu);
}

static void worker_free(struct worker *w)
{
	if (!w)
		return;
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	free(w->list);
	free(w);
}

static int worker_open(struct worker *w)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	w->list = calloc(1, sizeof(struct work_list));
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!w->list)
		return -ENOMEM;
	if (w->epoll_fd < 0 || w->wake_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &event) < 0)
		return -errno;
	return -pthread_create(&w->thread, NULL, worker_main, w);
}

static struct worker *worker_new(struct workers *group, unsigned index, int cpu, struct fwd *fwd, struct err *e)
{
	struct worker *w = aligned_alloc(CACHE_LINE, (sizeof(*w) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	int rc;

	if (!w) {
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		return NULL;
	}
	memset(w, 0, sizeof(*w));
	w->index = index;
	w->cpu = cpu;
	w->group = group;
	w->fwd = fwd;
	rc = worker_open(w);
	if (rc < 0) {
		err_set(e, rc, "workers", NULL, "worker %u cannot be started: %s", index, strerror(-rc));
		worker_free(w);
		return NULL;
	}
	pin(w);
	return w;
}

struct workers *workers_new(const struct workers_conf *conf, struct fwd *fwd, int attention_fd, struct err *e)
{
	struct workers *group = calloc(1, sizeof(*group));

	if (!group) {
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		return NULL;
	}
	group->spin_ns = conf->spin_us * NS_PER_US;
	group->attention_fd = attention_fd;
	for (; group->n < conf->n; group->n++) {
		group->w[group->n] = worker_new(group, group->n, conf->cpu[group->n], fwd, e);
		if (!group->w[group->n]) {
			workers_free(group);
			return NULL;
		}
	}
	return group;
}

void workers_free(struct workers *group)
{
	if (!group)
		return;
	for (unsigned i = 0; i < group->n; i++) {
		atomic_store(&group->w[i]->stop, true);
		kick(group->w[i]);
		pthread_join(group->w[i]->thread, NULL);
		worker_free(group->w[i]);
	}
	free(group);
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

	kick(w);
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
	struct work_queue *wq = malloc(sizeof(*wq));
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = wq};
	struct work_list *list;

	if (!wq)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*wq = (struct work_queue){.port = p, .q = q, .poll_fd = poll_fd, .awake = true, .busy_ns = time_now_ns()};
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
		kick(w);
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

unsigned workers_count(const struct workers *group)
{
	return group->n;
}

static uint64_t thread_cpu_ns(pthread_t thread)
{
	struct timespec ts;
	clockid_t clock;

	if (pthread_getcpuclockid(thread, &clock) || clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void workers_stats(const struct workers *group, unsigned i, struct worker_stats *s)
{
	struct worker *w = group->w[i];

	*s = (struct worker_stats){
		.cpu = w->cpu,
		.queues = w->list->n,
		.rounds = w->rounds,
		.busy_rounds = w->busy_rounds,
		.frames = w->frames,
		.sleeps = w->sleeps,
		.cpu_ns = thread_cpu_ns(w->thread),
	};
	for (unsigned k = 0; k < w->list->n; k++)
		s->awake += w->list->queue[k]->awake;
}
