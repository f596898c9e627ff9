/* SPDX-License-Identifier: Apache-2.0 */
/* Workers and queues: who is polled, who sleeps, who is woken, and that nothing is touched after it was taken away. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
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

#define SINK UINT64_C(0x020000000099)

static void enter(struct source *s, struct source_queue *q)
{
	if (!atomic_load(&q->present) || atomic_exchange(&q->busy, true))
		atomic_fetch_add(&s->faults, 1);
}

static void leave(struct source_queue *q)
{
	atomic_store(&q->busy, false);
}

static unsigned source_rx(struct port *p, unsigned index, struct frame_batch *b, unsigned worker)
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
	q->lent = (unsigned)n;
	leave(q);
	return (unsigned)n;
}

static void source_rx_done(struct port *p, unsigned index)
{
	struct source_queue *q = &((struct source *)p)->q[index];

	enter((struct source *)p, q);
	atomic_fetch_sub(&q->pending, q->lent);
	atomic_fetch_add(&q->taken, q->lent);
	q->lent = 0;
	leave(q);
}

static bool source_rx_sleep(struct port *p, unsigned index)
{
	struct source_queue *q = &((struct source *)p)->q[index];
	bool more;

	enter((struct source *)p, q);
	atomic_store(&q->armed, true);
	more = atomic_load(&q->pending) > 0;
	leave(q);
	return more;
}

static void source_rx_wake(struct port *p, unsigned index)
{
	struct source_queue *q = &((struct source *)p)->q[index];

	enter((struct source *)p, q);
	atomic_store(&q->armed, false);
	leave(q);
}

static void source_tx(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	(void)f;
	(void)worker;
	atomic_fetch_add(&((struct source *)p)->received, n);
}

static void source_rx_flush(struct port *p, unsigned index)
{
	enter((struct source *)p, &((struct source *)p)->q[index]);
	atomic_fetch_add(&((struct source *)p)->rx_flushes, 1);
	leave(&((struct source *)p)->q[index]);
}

static void source_tx_flush(struct port *p, unsigned worker)
{
	(void)worker;
	atomic_fetch_add(&((struct source *)p)->tx_flushes, 1);
}

static const struct port_ops source_ops = {
	.kind = "source",
	.rx = source_rx,
	.rx_done = source_rx_done,
	.rx_sleep = source_rx_sleep,
	.rx_wake = source_rx_wake,
	.tx = source_tx,
	.rx_flush = source_rx_flush,
	.tx_flush = source_tx_flush,
};

/* ---- a switch with workers ---- */

#define SOURCES 3 /* and the last one is the sink */

static struct fwd *sw;
static struct workers *workers;
static int attention_fd;
static struct source *source[SOURCES];

static void up(unsigned n_workers, unsigned spin_us)
{
	struct workers_conf conf = {.n = n_workers, .spin_us = spin_us};
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

static int give(unsigned i, unsigned q, int fd)
{
	struct err e;

	atomic_store(&source[i]->q[q].present, true);
	return workers_queue_add(workers, &source[i]->port, q, fd, &e);
}

static void take_back(unsigned i, unsigned q)
{
	workers_queue_remove(workers, &source[i]->port, q);
	atomic_store(&source[i]->q[q].present, false);
}

static void down(void)
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
static void add(struct source_queue *q, uint64_t n)
{
	uint64_t one = 1;

	atomic_fetch_add(&q->pending, n);
	if (atomic_load(&q->armed) && write(q->fd, &one, sizeof(one)) < 0)
		abort();
}

static bool comes_true(bool (*condition)(uint64_t), uint64_t arg)
{
	for (uint64_t end = time_now_ns() + PATIENCE_S * NS_PER_S; time_now_ns() < end;) {
		if (condition(arg))
			return true;
		usleep(100);
	}
	return false;
}

static bool sink_got(uint64_t n)
{
	return atomic_load(&source[SOURCES - 1]->received) == n;
}

/* Does the sink get @n frames in the end? False: some came, and then none for long. */
static bool sink_gets(uint64_t n)
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

static bool polled_more_than(uint64_t polls)
{
	return atomic_load(&source[0]->q[0].polls) > polls;
}

static bool all_asleep(uint64_t unused)
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

static uint64_t total_cpu_ns(void)
{
	uint64_t ns = 0;

	for (unsigned i = 0; i < workers_count(workers); i++) {
		struct worker_stats s;

		workers_stats(workers, i, &s);
		ns += s.cpu_ns;
	}
	return ns;
}

/* ---- tests ---- */

static void frames_are_forwarded_returned_and_told_of(void **state)
{
	struct worker_stats s;

	(void)state;
	up(1, 20);
	assert_int_equal(give(0, 0, source[0]->q[0].fd), 0);
	add(&source[0]->q[0], 1000);
	assert_true(comes_true(sink_got, 1000));
	assert_true(comes_true(all_asleep, 0));
	assert_int_equal(source[0]->q[0].pending, 0);
	assert_in_range(source[0]->rx_flushes, 1000 / FRAME_BATCH, 1000);
	assert_in_range(source[SOURCES - 1]->tx_flushes, 1000 / FRAME_BATCH, 1000);
	workers_stats(workers, 0, &s);
	assert_int_equal(s.frames, 1000);
	assert_int_equal(s.queues, 1);
	assert_in_range(s.busy_rounds, 1000 / FRAME_BATCH, 1000);
	assert_true(s.rounds >= s.busy_rounds);
	down();
}

static void nothing_to_do_costs_nothing(void **state)
{
	uint64_t polls, cpu_ns;

	(void)state;
	up(2, 20);
	for (unsigned i = 0; i < SOURCES; i++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			assert_int_equal(give(i, q, source[i]->q[q].fd), 0);
	assert_true(comes_true(all_asleep, 0));
	polls = source[1]->q[1].polls;
	cpu_ns = total_cpu_ns();
	usleep(100000);
	assert_int_equal(source[1]->q[1].polls, polls);
	assert_in_range(total_cpu_ns() - cpu_ns, 0, MS);

	/* One of them wakes, and the others sleep on. */
	add(&source[0]->q[1], 5);
	assert_true(comes_true(sink_got, 5));
	assert_true(comes_true(all_asleep, 0));
	assert_int_equal(source[1]->q[1].polls, polls);
	down();
}

static void a_queue_that_cannot_wake_us_is_never_left_alone(void **state)
{
	struct worker_stats s;

	(void)state;
	up(1, 20);
	assert_int_equal(give(0, 0, -1), 0);
	assert_int_equal(give(1, 0, source[1]->q[0].fd), 0);
	for (int i = 0; i < 5; i++) {
		usleep(1000);
		assert_true(comes_true(polled_more_than, source[0]->q[0].polls));
	}
	workers_stats(workers, 0, &s);
	assert_int_equal(s.awake, 1); /* the other one sleeps, and wakes although the worker does not wait for it */
	add(&source[1]->q[0], 3);
	assert_true(comes_true(sink_got, 3));
	down();
}

static void queues_are_shared_out_evenly(void **state)
{
	struct worker_stats s;

	(void)state;
	up(3, 20);
	for (unsigned i = 0; i < SOURCES; i++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			assert_int_equal(give(i, q, source[i]->q[q].fd), 0);
	for (unsigned i = 0; i < 3; i++) {
		workers_stats(workers, i, &s);
		assert_int_equal(s.queues, SOURCES * QUEUES_MAX / 3);
	}
	down();
}

static void a_queue_that_cannot_be_watched_is_refused(void **state)
{
	struct err e = {0};
	FILE *file = tmpfile();
	struct worker_stats s;

	(void)state;
	assert_non_null(file);
	up(1, 20);
	assert_int_equal(workers_queue_add(workers, &source[0]->port, 0, 999999, &e), -EBADF);
	assert_true(e.text[0]);
	assert_int_equal(workers_queue_add(workers, &source[0]->port, 0, fileno(file), &e), -EPERM);
	workers_stats(workers, 0, &s);
	assert_int_equal(s.queues, 0);
	workers_queue_remove(workers, &source[0]->port, 0); /* nobody has it */
	fclose(file);
	down();
}

/* ---- no wake-up is lost ---- */

#define FEEDS 10000

struct feeder {
	struct source_queue *q;
	unsigned seed;
};

/* Adds frames, mostly when the queue is about to fall asleep. */
static void *feed(void *arg)
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

static void no_frame_waits_for_ever(void **state)
{
	static const unsigned spin_us[] = {0, 1, 20};

	(void)state;
	for (size_t k = 0; k < ARRAY_SIZE(spin_us); k++) {
		struct feeder feeder[2];
		pthread_t thread[2];

		up(1 + k % 2, spin_us[k]);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(give(i, 0, source[i]->q[0].fd), 0);
			feeder[i] = (struct feeder){&source[i]->q[0], i};
			assert_int_equal(pthread_create(&thread[i], NULL, feed, &feeder[i]), 0);
		}
		if (!sink_gets(2 * FEEDS))
			fail_msg("%u frames came of %u", (unsigned)source[SOURCES - 1]->received, 2 * FEEDS);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(thread[i], NULL);
		down();
	}
}

/* ---- queues come and go ---- */

#define CHANGES 400 /* and more until so many frames have gone through */
#define ENOUGH  5000

static void *feed_until_told(void *arg)
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

static uint64_t total_taken(void)
{
	uint64_t n = 0;

	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			n += atomic_load(&source[s]->q[q].taken);
	return n;
}

static void no_worker_touches_what_was_taken_back(void **state)
{
	atomic_bool stop = false;
	uint64_t end = time_now_ns() + PATIENCE_S * NS_PER_S;
	pthread_t thread;

	(void)state;
	up(2, 5);
	assert_int_equal(pthread_create(&thread, NULL, feed_until_told, &stop), 0);
	for (unsigned i = 0; i < CHANGES || (total_taken() < ENOUGH && time_now_ns() < end); i++) {
		unsigned s = i * 7 % 2, q = i * 5 / 2 % QUEUES_MAX;

		if (atomic_load(&source[s]->q[q].present))
			take_back(s, q); /* from here on a call would be counted as a fault */
		else
			assert_int_equal(give(s, q, i % 11 ? source[s]->q[q].fd : -1), 0);
		if (i % 40 == 39) { /* the whole port leaves and comes back */
			struct fwd_port_conf conf = {.vid = 1};
			struct err e;

			for (unsigned k = 0; k < QUEUES_MAX; k++)
				take_back(s, k);
			fwd_port_remove(sw, &source[s]->port);
			assert_int_equal(fwd_port_add(sw, &source[s]->port, &conf, &e), 0);
		}
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	/* What is still there is served to the end. */
	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++) {
			take_back(s, q);
			assert_int_equal(give(s, q, source[s]->q[q].fd), 0);
		}
	assert_true(comes_true(all_asleep, 0));
	for (unsigned s = 0; s < 2; s++)
		for (unsigned q = 0; q < QUEUES_MAX; q++)
			assert_int_equal(source[s]->q[q].pending, 0);
	assert_true(total_taken() >= ENOUGH);
	assert_int_equal(source[SOURCES - 1]->received, total_taken());
	down();
}

/* ---- attention ---- */

static bool attention_came(void)
{
	struct pollfd p = {.fd = attention_fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, PATIENCE_S * 1000) == 1 && read(attention_fd, &n, sizeof(n)) == sizeof(n);
}

static void a_port_that_wants_attention_gets_it(void **state)
{
	(void)state;
	up(2, 20);
	assert_int_equal(give(0, 0, source[0]->q[0].fd), 0);
	assert_int_equal(give(1, 0, source[1]->q[0].fd), 0);
	for (int i = 0; i < 100; i++) {
		struct source *s = source[i % 2];

		assert_true(comes_true(all_asleep, 0));
		atomic_store(&s->asks_for_attention, true);
		add(&s->q[0], 1);
		for (bool told = false; !told;) { /* of an earlier round first, perhaps */
			assert_true(attention_came());
			told = atomic_exchange(&s->port.attention, false);
		}
		assert_false(source[1 - i % 2]->port.attention);
		atomic_store(&s->asks_for_attention, false);
		assert_true(comes_true(all_asleep, 0));
		s->port.attention = false;
	}
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_forwarded_returned_and_told_of),
		cmocka_unit_test(nothing_to_do_costs_nothing),
		cmocka_unit_test(a_queue_that_cannot_wake_us_is_never_left_alone),
		cmocka_unit_test(queues_are_shared_out_evenly),
		cmocka_unit_test(a_queue_that_cannot_be_watched_is_refused),
		cmocka_unit_test(no_frame_waits_for_ever),
		cmocka_unit_test(no_worker_touches_what_was_taken_back),
		cmocka_unit_test(a_port_that_wants_attention_gets_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
