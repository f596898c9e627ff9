/* SPDX-License-Identifier: Apache-2.0 */
/* The loop of a worker.
 *
 * A round: poll every queue that is awake; interrupt and kick who was sent to; put to sleep what has been quiet for long
 * enough; pick up what epoll reports: at once when nothing is awake (then waiting for it), else every LOOK_EVERY_US, and
 * not at all while nobody sleeps.
 *
 * Grace periods (liburcu, QSBR): a worker is quiescent between rounds and offline while it waits, so control's
 * synchronize_rcu() takes one round at most, and no time at all with sleeping workers. All a worker uses of ports,
 * queues and tables it looks up anew in each round.
 */
#include <sys/epoll.h>
#include <unistd.h>
#include <urcu-qsbr.h>

#include "gmem/gmem.h"
#include "worker/worker_priv.h"

#define EVENTS_AT_ONCE 64

static void wake_queue(struct worker *w, struct work_queue *wq)
{
	if (wq->awake)
		return;
	wq->port->ops->rx_wake(wq->port, wq->q);
	wq->awake = true;
	pace_woken(&wq->pace, w->lap_at);
}

/* The events name no queue for certain when the list may have changed, and queues been freed, since they were asked
 * for: all that still are there get a look. */
static void wake_reported(struct worker *w, const struct epoll_event *event, int n)
{
	struct work_list *list = atomic_load_explicit(&w->list, memory_order_acquire);

	for (unsigned i = 0; i < list->n; i++)
		for (int k = 0; k < n; k++)
			if (event[k].data.ptr == list->queue[i])
				wake_queue(w, list->queue[i]);
}

/* Edge-triggered: queues' descriptors need not be read to be armed again. */
static void read_wake_fd(struct worker *w, const struct epoll_event *event, int n)
{
	uint64_t wakes;

	for (int k = 0; k < n; k++)
		if (!event[k].data.ptr && read(w->wake_fd, &wakes, sizeof(wakes)) < 0)
			continue; /* nobody but us reads it: it was empty */
}

static void look(struct worker *w)
{
	struct epoll_event event[EVENTS_AT_ONCE];
	int n = epoll_wait(w->epoll_fd, event, EVENTS_AT_ONCE, 0);

	wake_reported(w, event, n);
	read_wake_fd(w, event, n);
	lap_to(w, STAGE_EMPTY);
}

/* Until somebody has something for us, or control wants us: no time limit. */
static void sleep_until_called(struct worker *w)
{
	struct epoll_event event[EVENTS_AT_ONCE];
	int n;

	lap_to(w, STAGE_EMPTY);
	count(&w->sleeps, 1);
	atomic_store_explicit(&w->asleep_since, w->lap_at, memory_order_relaxed);
	rcu_thread_offline();
	n = epoll_wait(w->epoll_fd, event, EVENTS_AT_ONCE, -1);
	rcu_thread_online();
	count(&w->asleep, lap(w));
	atomic_store_explicit(&w->asleep_since, 0, memory_order_relaxed);
	wake_reported(w, event, n);
	read_wake_fd(w, event, n);
}

static void flush_touched(struct worker *w)
{
	for (unsigned i = 0; i < PORTS_MAX / 64; i++) {
		while (w->work.touched.bits[i]) {
			unsigned id = i * 64 + (unsigned)__builtin_ctzll(w->work.touched.bits[i]);
			struct port *p = fwd_port(w->group->fwd, id);

			w->work.touched.bits[i] &= w->work.touched.bits[i] - 1;
			if (p && p->ops->tx_flush)
				p->ops->tx_flush(p, w->index);
		}
	}
}

static unsigned serve(struct worker *w, struct work_queue *wq)
{
	uint64_t began = w->lap_at;
	unsigned n = worker_poll(w, wq);

	if (n == 0) {
		pace_found_none(&wq->pace);
		return 0;
	}
	flush_touched(w);
	if (wq->port->ops->rx_flush)
		wq->port->ops->rx_flush(wq->port, wq->q);
	lap_to(w, STAGE_NOTIFICATION);
	pace_found(&wq->pace, &w->pace, n, began, w->lap_at);
	count(&wq->busy_cycles, w->lap_at - began);
	return n;
}

static bool falls_asleep(const struct worker *w, struct work_queue *wq)
{
	if (wq->poll_fd < 0 || !pace_may_sleep(&wq->pace, &w->pace, w->lap_at) ||
	    wq->port->ops->rx_sleep(wq->port, wq->q))
		return false;
	wq->awake = false;
	return true;
}

static void let_time_pass(struct worker *w)
{
	cpu_relax();
	lap_to(w, STAGE_EMPTY);
}

/* Settings may change at any time; within a round they do not. */
static void read_settings(struct worker *w)
{
	w->pace = (struct pace_conf){
		.spin = atomic_load_explicit(&w->group->spin_cycles, memory_order_relaxed),
		.wake = w->group->wake_cycles,
		.gather = atomic_load_explicit(&w->group->gather_cycles, memory_order_relaxed),
	};
}

/* One pass over the queues that are awake. Returns how many still are. */
static unsigned poll_queues(struct worker *w, struct work_list *list)
{
	unsigned awake = 0, polled = 0, frames = 0;

	read_settings(w);
	for (unsigned i = 0; i < list->n; i++) {
		struct work_queue *wq = list->queue[i];
		unsigned n;

		if (!wq->awake)
			continue;
		awake++;
		if (!pace_may_poll(&wq->pace, w->lap_at))
			continue;
		n = serve(w, wq);
		polled++;
		frames += n;
		if (n == 0 && falls_asleep(w, wq))
			awake--;
	}
	if (polled == 0) /* everybody is gathering */
		let_time_pass(w);
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
		struct port *p = fwd_port(w->group->fwd, id);

		if (p)
			port_attention(p);
	}
}

static uint64_t own_cpu_ns(void)
{
	struct timespec ts;

	return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts) < 0 ? 0
							       : (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void *worker_main(void *arg)
{
	struct worker *w = arg;
	unsigned faults_seen = 0;
	uint64_t looked_at;

	rcu_register_thread();
	looked_at = w->lap_at = cycles_now();
	while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
		struct work_list *list = atomic_load_explicit(&w->list, memory_order_acquire);
		unsigned awake = poll_queues(w, list);
		bool somebody_sleeps = awake < list->n;

		look_for_faults(w, &faults_seen);
		if (unlikely(port_attention_pending()))
			call_control(w);
		rcu_quiescent_state(); /* `list` may be gone from here on */
		if (awake == 0) {
			sleep_until_called(w);
		} else if (somebody_sleeps && w->lap_at - looked_at >= w->group->look_cycles) {
			looked_at = w->lap_at;
			look(w);
		}
	}
	rcu_unregister_thread();
	w->cpu_ns_before += own_cpu_ns();
	return NULL;
}
