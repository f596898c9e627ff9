/* SPDX-License-Identifier: Apache-2.0 */
/* Workers as threads: started, pinned, ended, counted. Control thread. */
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

#include "base/log.h"
#include "base/time.h"
#include "worker/worker_priv.h"

#define LOOK_EVERY_US 10 /* how late a sleeping queue may be noticed while others keep its worker busy */
#define WAKE_US       5  /* from a sender's kick to our poll, about */

const char *work_stage_name(enum work_stage s)
{
	static const char *const name[STAGE_N] = {
		[STAGE_RECEIVE] = "receive",
		[STAGE_LOOKUP] = "lookup",
		[STAGE_COPY] = "copy",
		[STAGE_COMPLETION] = "completion",
		[STAGE_NOTIFICATION] = "notification",
		[STAGE_EMPTY] = "empty",
	};

	return name[s];
}

void worker_kick(struct worker *w)
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

static int open_fds(struct worker *w)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};

	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->epoll_fd < 0 || w->wake_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &event) < 0)
		return -errno;
	return 0;
}

static void close_fds(struct worker *w)
{
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
}

static int worker_start(struct worker *w)
{
	int rc = open_fds(w);

	w->stop = false;
	if (rc == 0)
		rc = -pthread_create(&w->thread, NULL, worker_main, w);
	if (rc < 0) {
		close_fds(w);
		return rc;
	}
	pin(w);
	return 0;
}

static void worker_stop(struct worker *w)
{
	atomic_store(&w->stop, true);
	worker_kick(w);
	pthread_join(w->thread, NULL);
	close_fds(w);
}

static struct worker *worker_new(struct workers *group, unsigned index)
{
	struct worker *w = aligned_alloc(_Alignof(struct worker), sizeof(*w));

	if (!w)
		return NULL;
	memset(w, 0, sizeof(*w));
	w->index = index;
	w->cpu = group->cpu[index];
	w->group = group;
	w->list = calloc(1, sizeof(struct work_list));
	if (w->list)
		return w;
	free(w);
	return NULL;
}

static void worker_free(struct worker *w)
{
	if (!w)
		return;
	free(w->list);
	free(w);
}

/* A worker that was there before goes on counting where it ended. */
static int start_another(struct workers *group, struct err *e)
{
	unsigned i = group->n;
	int rc = -ENOMEM;

	if (!group->w[i])
		group->w[i] = worker_new(group, i);
	if (group->w[i])
		rc = worker_start(group->w[i]);
	if (rc < 0)
		return err_set(e, rc, "workers", NULL, "worker %u cannot be started: %s", i, strerror(-rc));
	group->n++;
	return 0;
}

/* The last one; its queues go to the others. */
static int stop_one(struct workers *group, struct err *e)
{
	unsigned i = group->n - 1;
	int rc = workers_empty(group, i);

	if (rc < 0)
		return err_set(e, rc, "workers", NULL, "the queues of worker %u cannot be moved: %s", i, strerror(-rc));
	group->n--;
	worker_stop(group->w[i]);
	return 0;
}

int workers_set_count(struct workers *group, unsigned n, struct err *e)
{
	int rc = 0;

	while (rc == 0 && group->n < n)
		rc = start_another(group, e);
	while (rc == 0 && group->n > n)
		rc = stop_one(group, e);
	if (rc == 0)
		workers_even_out(group);
	return rc;
}

void workers_set_pace(struct workers *group, unsigned spin_us, unsigned gather_us)
{
	group->spin_us = spin_us;
	group->gather_us = gather_us;
	atomic_store_explicit(&group->spin_cycles, cycles_of_ns(spin_us * NS_PER_US), memory_order_relaxed);
	atomic_store_explicit(&group->gather_cycles, cycles_of_ns(gather_us * NS_PER_US), memory_order_relaxed);
}

void workers_pace(const struct workers *group, unsigned *spin_us, unsigned *gather_us)
{
	*spin_us = group->spin_us;
	*gather_us = group->gather_us;
}

struct workers *workers_new(const struct workers_conf *conf, struct fwd *fwd, int attention_fd, struct err *e)
{
	struct workers *group = malloc(sizeof(*group));

	if (!group) {
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		return NULL;
	}
	cycles_init();
	*group = (struct workers){
		.fwd = fwd,
		.attention_fd = attention_fd,
		.wake_cycles = cycles_of_ns(WAKE_US * NS_PER_US),
		.look_cycles = cycles_of_ns(LOOK_EVERY_US * NS_PER_US),
		.balanced_at = cycles_now(),
	};
	memcpy(group->cpu, conf->cpu, sizeof(group->cpu));
	workers_set_pace(group, conf->spin_us, conf->gather_us);
	if (workers_set_count(group, conf->n, e) < 0) {
		workers_free(group);
		return NULL;
	}
	return group;
}

void workers_free(struct workers *group)
{
	if (!group)
		return;
	while (group->n)
		worker_stop(group->w[--group->n]);
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		worker_free(group->w[i]);
	free(group);
}

unsigned workers_count(const struct workers *group)
{
	return group->n;
}

uint64_t workers_moves(const struct workers *group)
{
	return group->moves;
}

static uint64_t thread_cpu_ns(pthread_t thread)
{
	struct timespec ts;
	clockid_t clock;

	if (pthread_getcpuclockid(thread, &clock) || clock_gettime(clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t asleep_cycles(const struct worker *w)
{
	uint64_t since = atomic_load_explicit(&w->asleep_since, memory_order_relaxed), now = cycles_now();

	return w->asleep + (since && now > since ? now - since : 0);
}

void workers_stats(const struct workers *group, unsigned i, struct worker_stats *s)
{
	struct worker *w = group->w[i];

	*s = (struct worker_stats){
		.cpu = w->cpu,
		.queues = w->list->n,
		.rounds = w->rounds,
		.busy_rounds = w->busy_rounds,
		.busy_polls = w->busy_polls,
		.empty_polls = w->empty_polls,
		.frames = w->frames,
		.sleeps = w->sleeps,
		.asleep_cycles = asleep_cycles(w),
		.cpu_ns = w->cpu_ns_before + thread_cpu_ns(w->thread),
	};
	for (unsigned k = 0; k < STAGE_N; k++)
		s->stage_cycles[k] = w->stage[k];
	for (unsigned k = 0; k < w->list->n; k++)
		s->awake += w->list->queue[k]->awake;
}

bool workers_queue_stats(const struct workers *group, unsigned i, unsigned k, struct work_queue_stats *s)
{
	const struct work_list *list = group->w[i]->list;
	const struct work_queue *wq = k < list->n ? list->queue[k] : NULL;

	if (!wq)
		return false;
	*s = (struct work_queue_stats){
		.port = wq->port,
		.q = wq->q,
		.awake = wq->awake,
		.polls = wq->polls,
		.busy_polls = wq->busy_polls,
		.frames = wq->frames,
		.busy_cycles = wq->busy_cycles,
	};
	return true;
}
