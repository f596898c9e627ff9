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
	cycles_init();
	group->spin_cycles = cycles_of_ns(conf->spin_us * NS_PER_US);
	group->look_cycles = cycles_of_ns(LOOK_EVERY_US * NS_PER_US);
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
		worker_kick(group->w[i]);
		pthread_join(group->w[i]->thread, NULL);
		worker_free(group->w[i]);
	}
	free(group);
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
		.cpu_ns = thread_cpu_ns(w->thread),
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
