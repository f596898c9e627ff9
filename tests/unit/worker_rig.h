/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A switch with workers, and ports that only these tests have. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/time.h"
#include "worker/worker.h"

#define QUEUES_MAX 4
#define PATIENCE_S 20
#define MS         (1000 * NS_PER_US)

/* A port with receive queues that are counters: frames that a source has put there. All their frames go to the address
 * SINK. What workers do is written down; whatever they must not do is counted as a fault. */
struct source {
	struct port port;
	struct source_queue {
		int fd;
		_Atomic uint64_t pending, taken, polls;
		atomic_bool armed;   /* whoever adds frames must write fd */
		atomic_bool present; /* given to the workers */
		atomic_bool busy;    /* in a call: two workers at once would be a fault */
		unsigned lent;
	} q[QUEUES_MAX];
	_Atomic uint64_t received, rx_flushes, tx_flushes, faults;
	atomic_bool asks_for_attention;
};

/* In which order a worker calls: what it took and did not return, what it sent and did not publish. */
static _Thread_local unsigned lent_now, unpublished_now;

#define SINK UINT64_C(0x020000000099)

static inline void enter(struct source *s, struct source_queue *q)
{
	if (!atomic_load(&q->present) || atomic_exchange(&q->busy, true))
		atomic_fetch_add(&s->faults, 1);
}

static inline void leave(struct source_queue *q)
{
	atomic_store(&q->busy, false);
}

static inline unsigned source_rx(struct port *p, unsigned index, struct frame_batch *b, unsigned worker)
{
	struct source *s = (struct source *)p;
	struct source_queue *q = &s->q[index];
	uint64_t n = atomic_load(&q->pending);

	enter(s, q);
	atomic_fetch_add(&q->polls, 1);
	if (atomic_load(&s->asks_for_attention))
		port_attention(p);
	if (n > FRAME_BATCH)
		n = FRAME_BATCH;
	for (uint64_t i = 0; i < n; i++) {
		struct frame *f = &b->f[b->n++];
		uint8_t *bytes = frame_head_begin(f);

		memset(bytes, 0, 60);
		memcpy(bytes, mac_from_u64(SINK).b, 6);
		memcpy(bytes + 6, mac_from_u64(UINT64_C(0x020000000000) + p->id).b, 6);
		f->len = f->head_len = 60;
		f->body = NULL;
		f->n_body = 0;
	}
	count(&p->counters[worker].rx_frames, n);
	q->lent = lent_now = (unsigned)n;
	leave(q);
	return (unsigned)n;
}

static inline void source_rx_done(struct port *p, unsigned index)
{
	struct source_queue *q = &((struct source *)p)->q[index];

	enter((struct source *)p, q);
	atomic_fetch_add(&q->taken, q->lent);
	atomic_fetch_sub(&q->pending, q->lent);
	q->lent = lent_now = 0;
	leave(q);
}

static inline bool source_rx_sleep(struct port *p, unsigned index)
{
	struct source_queue *q = &((struct source *)p)->q[index];
	bool more;

	enter((struct source *)p, q);
	atomic_store(&q->armed, true);
	more = atomic_load(&q->pending) > 0;
	leave(q);
	return more;
}

static inline void source_rx_wake(struct port *p, unsigned index)
{
	struct source_queue *q = &((struct source *)p)->q[index];

	enter((struct source *)p, q);
	atomic_store(&q->armed, false);
	leave(q);
}

static inline void source_tx(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	(void)f;
	(void)worker;
	unpublished_now += n;
	atomic_fetch_add(&((struct source *)p)->received, n);
}

/* After the sender has its buffers back, and before anybody is told. */
static inline void source_tx_publish(struct port *p, unsigned worker)
{
	(void)worker;
	if (lent_now || !unpublished_now)
		atomic_fetch_add(&((struct source *)p)->faults, 1);
	unpublished_now = 0;
}

static inline void source_rx_flush(struct port *p, unsigned index)
{
	enter((struct source *)p, &((struct source *)p)->q[index]);
	if (unpublished_now)
		atomic_fetch_add(&((struct source *)p)->faults, 1);
	atomic_fetch_add(&((struct source *)p)->rx_flushes, 1);
	leave(&((struct source *)p)->q[index]);
}

static inline void source_tx_flush(struct port *p, unsigned worker)
{
	(void)worker;
	if (unpublished_now)
		atomic_fetch_add(&((struct source *)p)->faults, 1);
	atomic_fetch_add(&((struct source *)p)->tx_flushes, 1);
}

static const struct port_ops source_ops = {
	.kind = "source",
	.rx = source_rx,
	.rx_done = source_rx_done,
	.rx_sleep = source_rx_sleep,
	.rx_wake = source_rx_wake,
	.tx = source_tx,
	.tx_publish = source_tx_publish,
	.rx_flush = source_rx_flush,
	.tx_flush = source_tx_flush,
};

/* ---- a switch with workers ---- */

#define SOURCES 3 /* and the last one is the sink */

static struct fwd *sw;
static struct workers *workers;
static int attention_fd;
static struct source *source[SOURCES];

static inline void up(unsigned n_workers, unsigned spin_us)
{
	struct workers_conf conf = {.n = n_workers, .spin_us = spin_us, .gather_us = 2};
	struct err e = {0};

	for (unsigned i = 0; i < WORKERS_MAX; i++)
		conf.cpu[i] = -1;
	sw = fwd_new(&(struct fwd_conf){.fdb_entries = 64});
	attention_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(sw && attention_fd >= 0);
	workers = workers_new(&conf, sw, attention_fd, &e);
	if (!workers)
		fail_msg("%s", e.text);
	for (unsigned i = 0; i < SOURCES; i++) {
		struct fwd_port_conf port_conf = {.vid = 1, .has_mac = i == SOURCES - 1, .mac = mac_from_u64(SINK)};

		source[i] = aligned_alloc(CACHE_LINE, (sizeof(*source[i]) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
		assert_non_null(source[i]);
		memset(source[i], 0, sizeof(*source[i]));
		source[i]->port.ops = &source_ops;
		source[i]->port.mtu = 1500;
		source[i]->port.up = true;
		for (unsigned k = 0; k < QUEUES_MAX; k++)
			source[i]->q[k].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(fwd_port_add(sw, &source[i]->port, &port_conf, &e), 0);
	}
}

static inline int give(unsigned i, unsigned q, int fd)
{
	struct err e;

	atomic_store(&source[i]->q[q].present, true);
	return workers_queue_add(workers, &source[i]->port, q, fd, &e);
}

static inline void take_back(unsigned i, unsigned q)
{
	workers_queue_remove(workers, &source[i]->port, q);
	atomic_store(&source[i]->q[q].present, false);
}

static inline void down(void)
{
	for (unsigned i = 0; i < SOURCES; i++) {
		for (unsigned q = 0; q < QUEUES_MAX; q++) {
			take_back(i, q);
			close(source[i]->q[q].fd);
		}
		fwd_port_remove(sw, &source[i]->port);
		assert_int_equal(source[i]->faults, 0);
		free(source[i]);
	}
	workers_free(workers);
	fwd_free(sw);
	close(attention_fd);
}

/* Frames appear in a queue, and the other side does what a driver or a kernel does. */
static inline void add(struct source_queue *q, uint64_t n)
{
	uint64_t one = 1;

	atomic_fetch_add(&q->pending, n);
	if (atomic_load(&q->armed) && write(q->fd, &one, sizeof(one)) < 0)
		abort();
}

static inline bool comes_true(bool (*condition)(uint64_t), uint64_t arg)
{
	for (uint64_t end = time_now_ns() + PATIENCE_S * NS_PER_S; time_now_ns() < end;) {
		if (condition(arg))
			return true;
		usleep(100);
	}
	return false;
}

static inline bool sink_got(uint64_t n)
{
	return atomic_load(&source[SOURCES - 1]->received) == n;
}

/* Does the sink get @n frames in the end? False: some came, and then none for long. */
static inline bool sink_gets(uint64_t n)
{
	uint64_t got = 0, end = 0;

	while (got < n) {
		uint64_t now = atomic_load(&source[SOURCES - 1]->received);

		if (now != got || !end)
			end = time_now_ns() + PATIENCE_S * NS_PER_S;
		else if (time_now_ns() > end)
			return false;
		got = now;
		usleep(100);
	}
	return got == n;
}

static inline bool polled_more_than(uint64_t polls)
{
	return atomic_load(&source[0]->q[0].polls) > polls;
}

static inline bool all_asleep(uint64_t unused)
{
	(void)unused;
	for (unsigned i = 0; i < workers_count(workers); i++) {
		struct worker_stats s;

		workers_stats(workers, i, &s);
		if (s.awake || !s.sleeps)
			return false;
	}
	return true;
}

static inline uint64_t total_cpu_ns(void)
{
	uint64_t ns = 0;

	for (unsigned i = 0; i < workers_count(workers); i++) {
		struct worker_stats s;

		workers_stats(workers, i, &s);
		ns += s.cpu_ns;
	}
	return ns;
}

/* ---- threads that send ---- */

#define FEEDS 10000

struct feeder {
	struct source_queue *q;
	unsigned seed;
};

/* Adds frames, mostly when the queue is about to fall asleep. */
static inline void *feed(void *arg)
{
	struct feeder *f = arg;

	for (unsigned i = 0; i < FEEDS; i++) {
		unsigned pause = (f->seed = f->seed * 1103515245u + 12345u) >> 8;

		add(f->q, 1);
		if (pause % 4 == 0)
			while (atomic_load(&f->q->pending))
				sched_yield();
		for (pause %= 256; pause; pause--)
			cpu_relax();
	}
	return NULL;
}

static inline void *feed_until_told(void *arg)
{
	atomic_bool *stop = arg;

	for (unsigned i = 0; !atomic_load(stop); i++) {
		struct source_queue *q = &source[i % 2]->q[i / 2 % QUEUES_MAX];

		if (atomic_load(&q->pending) < 200)
			add(q, 1 + i % 70);
		sched_yield();
	}
	return NULL;
}

static inline uint64_t total_taken(void)
{
	uint64_t n = 0;

	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			n += atomic_load(&source[s]->q[q].taken);
	return n;
}
