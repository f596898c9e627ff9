/* SPDX-License-Identifier: Apache-2.0 */
/* Who is woken when, and what the migration's log says of the used ring. */
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "virtq_bench.h"

#define PAGE UINT64_C(4096)

/* ---- what the device asks of the driver ---- */

static void a_sleeping_device_is_notified_and_a_polling_one_is_not(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct bench b;

		open_bench(&b, 8, 65530);
		b.vq->event_idx = event_idx;
		for (unsigned i = 0; i < 20; i++) {
			uint16_t old = b.d.next;

			virtq_notify_off(b.vq);
			if (i >= 1 || !event_idx) { /* with event_idx the first wish is still the memory's zero */
				driver_offer_buffer(&b.d, 0, BUFFER, 10, 0);
				assert_false(driver_must_kick(&b.d, old, event_idx));
				assert_true(virtq_notify_on(b.vq)); /* one came before we could sleep */
				assert_true(fetch(&b, VIRTQ_READABLE));
				complete(&b, 1);
			}
			assert_false(virtq_notify_on(b.vq));
			old = b.d.next;
			driver_offer_buffer(&b.d, 0, BUFFER, 10, 0);
			assert_true(driver_must_kick(&b.d, old, event_idx));
			assert_int_equal(virtq_ready(b.vq), 1);
			assert_true(fetch(&b, VIRTQ_READABLE));
			complete(&b, 1);
			publish(&b);
		}
		assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
		close_bench(&b);
	}
}

static void each_way_of_asking_leaves_the_other_alone(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 8, 0);
	*driver_avail_event(&b.d) = 4711;
	virtq_notify_off(b.vq);
	assert_int_equal(b.d.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtq_notify_on(b.vq));
	assert_int_equal(b.d.used->flags, 0);
	assert_int_equal(*driver_avail_event(&b.d), 4711);

	/* virtio 1.2, 2.7.10.1: with EVENT_IDX the device leaves flags 0 */
	b.vq->event_idx = true;
	virtq_notify_off(b.vq);
	assert_int_equal(b.d.used->flags, 0);
	assert_false(virtq_notify_on(b.vq));
	assert_int_equal(b.d.used->flags, 0);
	assert_int_equal(*driver_avail_event(&b.d), 0);
	close_bench(&b);
}

/* ---- what the driver asks of the device ---- */

static void the_driver_is_interrupted_when_it_asked_to_be(void **state)
{
	/* A decision was made at index @from; then @n more are published. */
	static const struct {
		bool event_idx;
		uint16_t from;
		unsigned n;
		uint16_t used_event, flags;
		bool interrupts;
		const char *why;
	} row[] = {
		{false, 1, 1, 0, 0, true, "no wish: always"},
		{false, 1, 1, 1, 0, true, "used_event means nothing without EVENT_IDX"},
		{false, 1, 5, 1, 1, false, "suppressed by the flag"},
		{false, 1, 1, 1, 2, true, "other flags mean nothing"},
		{false, 1, 0, 1, 0, false, "nothing new"},
		{true, 1, 0, 1, 0, false, "nothing new"},
		{true, 1, 1, 1, 1, true, "the flag means nothing with EVENT_IDX"},
		{true, 1, 3, 0, 0, false, "passed before"},
		{true, 1, 3, 1, 0, true, "the first of them"},
		{true, 1, 3, 3, 0, true, "the last of them"},
		{true, 1, 3, 4, 0, false, "the one after"},
		{true, 1, 3, 65535, 0, false, "far ahead, or behind"},
		{true, 65534, 4, 65533, 0, false, "passed before, at the wrap"},
		{true, 65534, 4, 65534, 0, true, "the first, at the wrap"},
		{true, 65534, 4, 65535, 0, true, "right before 0"},
		{true, 65534, 4, 0, 0, true, "right behind 65535"},
		{true, 65534, 4, 1, 0, true, "the last, at the wrap"},
		{true, 65534, 4, 2, 0, false, "the one after, at the wrap"},
		{true, 65534, 2, 0, 0, false, "up to 65535, asked for 0"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct bench b;

		open_bench(&b, 8, (uint16_t)(row[i].from - 1));
		b.vq->event_idx = row[i].event_idx;
		assert_int_equal(virtq_set_call(b.vq, 77), -1);
		complete(&b, 1);
		publish(&b);
		assert_int_equal(virtq_interrupt(b.vq), 77); /* the first time: whatever was missed before we started */
		*driver_used_event(&b.d) = row[i].used_event;
		b.d.avail->flags = row[i].flags;
		for (unsigned k = 0; k < row[i].n; k++) { /* several batches before one decision */
			complete(&b, 1);
			publish(&b);
		}
		if (virtq_interrupt(b.vq) != (row[i].interrupts ? 77 : -1))
			fail_msg("%s", row[i].why);
		assert_int_equal(virtq_interrupt(b.vq), -1); /* decided */
		close_bench(&b);
	}
}

static void only_what_is_published_interrupts(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 8, 0);
	assert_int_equal(virtq_set_call(b.vq, 77), -1);
	assert_int_equal(virtq_interrupt(b.vq), -1);
	complete(&b, 1);
	assert_int_equal(virtq_interrupt(b.vq), -1);
	publish(&b);
	assert_int_equal(virtq_interrupt(b.vq), 77);
	close_bench(&b);
}

static void the_call_descriptor_may_change_at_any_time(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 8, 0);
	assert_int_equal(virtq_set_call(b.vq, 5), -1);
	assert_int_equal(virtq_set_call(b.vq, -1), 5);
	complete(&b, 1);
	publish(&b);
	assert_int_equal(virtq_interrupt(b.vq), -1); /* nobody to tell */
	assert_int_equal(virtq_set_call(b.vq, 6), -1);
	complete(&b, 1);
	publish(&b);
	assert_int_equal(virtq_interrupt(b.vq), 6);
	close_bench(&b);
}

/* ---- neither side sleeps for ever ---- */

#define EXCHANGES   20000
#define PATIENCE_MS 10000

struct exchange {
	struct bench b;
	bool event_idx;
	unsigned depth; /* chains in flight, at most */
	int kick_fd, call_fd;
	unsigned sleeps;
	atomic_bool stuck;
};

static bool await(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n;

	return poll(&p, 1, PATIENCE_MS) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

static void wake(int fd)
{
	uint64_t one = 1;

	expect(write(fd, &one, sizeof(one)) == sizeof(one), "eventfd");
}

/* The driver asks to be interrupted for the next used entry; true: there is one already. */
static bool driver_arm(struct exchange *x)
{
	struct driver *d = &x->b.d;

	if (x->event_idx)
		__atomic_store_n(driver_used_event(d), d->taken, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&d->avail->flags, 0, __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_seq_cst);
	return __atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) != d->taken;
}

static void *drive(void *arg)
{
	struct exchange *x = arg;
	struct driver *d = &x->b.d;
	struct vring_used_elem e;

	for (unsigned sent = 0, back = 0; back < EXCHANGES && !atomic_load(&x->stuck);) {
		uint16_t old = d->next;

		while (sent < EXCHANGES && sent - back < x->depth) {
			driver_put(d, 0);
			sent++;
		}
		driver_show(d);
		if (d->next != old && driver_must_kick(d, old, x->event_idx))
			wake(x->kick_fd);
		for (unsigned spin = 0;
		     spin < sent % 64 && d->taken == __atomic_load_n(&d->used->idx, __ATOMIC_RELAXED); spin++)
			wait_a_turn();
		if (d->taken == __atomic_load_n(&d->used->idx, __ATOMIC_RELAXED) && !driver_arm(x) &&
		    !await(x->call_fd))
			atomic_store(&x->stuck, true);
		if (!x->event_idx)
			__atomic_store_n(&d->avail->flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
		while (driver_take(d, &e))
			back++;
	}
	return NULL;
}

static void serve(struct exchange *x)
{
	unsigned done = 0;

	while (done < EXCHANGES && !atomic_load(&x->stuck)) {
		int call;

		for (; fetch(&x->b, VIRTQ_READABLE); done++)
			complete_chain(&x->b, 0);
		publish(&x->b);
		call = virtq_interrupt(x->b.vq);
		if (call >= 0)
			wake(call);
		for (unsigned spin = 0; spin < done % 57 && !virtq_ready(x->b.vq); spin++)
			wait_a_turn();
		if (done == EXCHANGES || virtq_ready(x->b.vq) || virtq_notify_on(x->b.vq))
			continue;
		x->sleeps++;
		if (!await(x->kick_fd))
			atomic_store(&x->stuck, true);
		virtq_notify_off(x->b.vq);
	}
}

static void neither_side_sleeps_while_the_other_waits(void **state)
{
	static const unsigned depth[] = {1, 2, 8};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(depth); i++) {
		struct exchange x = {.event_idx = i % 2, .depth = depth[i / 2]};
		pthread_t thread;

		open_bench(&x.b, 8, 65000);
		driver_desc(&x.b.d, 0, BUFFER, 10, 0, 0);
		x.b.vq->event_idx = x.event_idx;
		x.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		x.call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		expect(x.kick_fd >= 0 && x.call_fd >= 0, "eventfd");
		virtq_set_call(x.b.vq, x.call_fd);
		assert_int_equal(pthread_create(&thread, NULL, drive, &x), 0);
		serve(&x);
		pthread_join(thread, NULL);
		if (atomic_load(&x.stuck))
			fail_msg("%s, %u in flight: a wake-up was lost", x.event_idx ? "EVENT_IDX" : "flags", x.depth);
		assert_int_equal(virtq_fault_get(x.b.vq), VIRTQ_FAULT_NONE);
		assert_true(x.sleeps > 0);
		close(x.kick_fd);
		close(x.call_fd);
		close_bench(&x.b);
	}
}

/* ---- the same, aimed at the moment of falling asleep ---- */

#define MOMENTS 300000

struct moment {
	struct bench b;
	bool event_idx;
	_Atomic unsigned start, done; /* rounds */
	bool driver_acts;             /* it kicks, or sees the entry it wanted to sleep for */
};

static void begin_moments(struct moment *m, bool event_idx)
{
	*m = (struct moment){.event_idx = event_idx};
	open_bench(&m->b, 8, 0);
	driver_desc(&m->b.d, 0, BUFFER, 10, 0, 0);
	m->b.vq->event_idx = event_idx;
	virtq_set_call(m->b.vq, 77);
}

static void await_round(_Atomic unsigned *rounds, unsigned round)
{
	while (atomic_load(rounds) < round)
		wait_a_turn();
}

static void *offer_in_each_round(void *arg)
{
	struct moment *m = arg;

	for (unsigned round = 1; round <= MOMENTS; round++) {
		uint16_t old = m->b.d.next;

		await_round(&m->start, round);
		driver_offer(&m->b.d, 0);
		m->driver_acts = driver_must_kick(&m->b.d, old, m->event_idx);
		atomic_store(&m->done, round);
	}
	return NULL;
}

static void a_chain_is_seen_or_kicked_for(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct moment m;
		pthread_t thread;

		begin_moments(&m, event_idx);
		assert_false(virtq_notify_on(m.b.vq)); /* asks for 0, so that EVENT_IDX is one behind from now on */
		assert_int_equal(pthread_create(&thread, NULL, offer_in_each_round, &m), 0);
		for (unsigned round = 1; round <= MOMENTS; round++) {
			bool more;

			virtq_notify_off(m.b.vq);
			atomic_store(&m.start, round);
			more = virtq_notify_on(m.b.vq);
			await_round(&m.done, round);
			if (!more && !m.driver_acts)
				fail_msg("round %u: the device would sleep, and the driver does not kick", round);
			assert_true(fetch(&m.b, VIRTQ_READABLE));
			complete(&m.b, 1);
			publish(&m.b);
		}
		pthread_join(thread, NULL);
		close_bench(&m.b);
	}
}

static void *wait_in_each_round(void *arg)
{
	struct moment *m = arg;
	struct driver *d = &m->b.d;

	for (unsigned round = 1; round <= MOMENTS; round++) {
		await_round(&m->start, round);
		if (m->event_idx)
			__atomic_store_n(driver_used_event(d), d->taken, __ATOMIC_RELAXED);
		else
			__atomic_store_n(&d->avail->flags, 0, __ATOMIC_RELAXED);
		atomic_thread_fence(memory_order_seq_cst);
		m->driver_acts = __atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) != d->taken;
		atomic_store(&m->done, round);
	}
	return NULL;
}

static void an_entry_is_seen_or_interrupted_for(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct vring_used_elem e = {0};
		struct moment m;
		pthread_t thread;

		begin_moments(&m, event_idx);
		*driver_used_event(&m.b.d) = 0xffff;
		m.b.d.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		assert_int_equal(pthread_create(&thread, NULL, wait_in_each_round, &m), 0);
		for (unsigned round = 1; round <= MOMENTS; round++) {
			bool interrupts;

			complete(&m.b, 1);
			atomic_store(&m.start, round);
			publish(&m.b);
			interrupts = virtq_interrupt(m.b.vq) == 77;
			await_round(&m.done, round);
			if (!interrupts && !m.driver_acts)
				fail_msg("round %u: the driver would sleep, and is not interrupted", round);
			assert_true(driver_take(&m.b.d, &e));
			m.b.d.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
		}
		pthread_join(thread, NULL);
		close_bench(&m.b);
	}
}

/* ---- the log of a migration ---- */

enum step { COMPLETE, COMPLETE_LAST, PUBLISH, PUBLISH_NOTHING, NOTIFY_ON, NOTIFY_OFF };

static void take(struct bench *b, enum step step)
{
	switch (step) {
	case COMPLETE:
	case COMPLETE_LAST:
		complete(b, 1);
		break;
	case PUBLISH:
		b->vq->log_used = false;
		complete(b, 1);
		b->vq->log_used = true;
		publish(b);
		break;
	case PUBLISH_NOTHING:
		publish(b);
		break;
	case NOTIFY_ON:
		virtq_notify_on(b->vq);
		break;
	case NOTIFY_OFF:
		virtq_notify_off(b->vq);
		break;
	}
}

static void writes_to_the_used_ring_are_logged(void **state)
{
	/* A ring of 512: flags and index at 0, entries from 4, avail_event at 4 + 4096. The log is told that it begins at
	 * @at, which is not where it is. */
	static const struct {
		uint64_t at;
		bool log_used, on, event_idx;
		enum step step;
		uint16_t pages;
	} row[] = {
		{10 * PAGE - 4, true, true, false, COMPLETE, 1 << 10},
		{10 * PAGE - 8, true, true, false, COMPLETE, 1 << 9 | 1 << 10},
		{10 * PAGE - 4, true, true, false, COMPLETE_LAST, 1 << 10},
		{10 * PAGE, true, true, false, COMPLETE_LAST, 1 << 10 | 1 << 11},
		{10 * PAGE - 4, true, true, false, PUBLISH, 1 << 9},
		{10 * PAGE - 3, true, true, false, PUBLISH, 1 << 9 | 1 << 10},
		{10 * PAGE - 2, true, true, false, PUBLISH, 1 << 10},
		{10 * PAGE - 4, true, true, false, PUBLISH_NOTHING, 0},
		{10 * PAGE - 4, true, true, false, NOTIFY_ON, 1 << 9},
		{10 * PAGE - 4, true, true, true, NOTIFY_ON, 1 << 11},
		{10 * PAGE - 5, true, true, true, NOTIFY_ON, 1 << 10 | 1 << 11},
		{10 * PAGE - 4, true, true, false, NOTIFY_OFF, 1 << 9},
		{10 * PAGE - 4, true, true, true, NOTIFY_OFF, 0},
		{10 * PAGE - 4, false, true, false, COMPLETE, 0},
		{10 * PAGE - 4, true, false, false, COMPLETE, 0},
		{UINT64_MAX, true, true, false, COMPLETE, 1 << 0}, /* an address that wraps around lands somewhere */
		{UINT64_C(1) << 40, true, true, false, COMPLETE, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		int fd = memfd_create("log", MFD_CLOEXEC);
		struct err e = {0};
		struct bench b;
		uint16_t pages;

		open_bench(&b, 512, row[i].step == COMPLETE_LAST ? 511 : 0);
		expect(ftruncate(fd, sizeof(pages)) == 0, "log");
		assert_int_equal(gmem_log_set(b.ram.gmem, fd, sizeof(pages), 0, &e), 0);
		b.ram.gmem->log.on = row[i].on;
		b.vq->log_used = row[i].log_used;
		b.vq->used_log.v = row[i].at;
		b.vq->event_idx = row[i].event_idx;
		memset(b.d.used->ring, 0xff,
		       512 * sizeof(b.d.used->ring[0])); /* an entry that is right is not written */
		take(&b, row[i].step);
		assert_int_equal(pread(fd, &pages, sizeof(pages), 0), sizeof(pages));
		if (pages != row[i].pages)
			fail_msg("row %zu: pages 0x%x instead of 0x%x", i, pages, row[i].pages);
		close(fd);
		close_bench(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sleeping_device_is_notified_and_a_polling_one_is_not),
		cmocka_unit_test(each_way_of_asking_leaves_the_other_alone),
		cmocka_unit_test(the_driver_is_interrupted_when_it_asked_to_be),
		cmocka_unit_test(only_what_is_published_interrupts),
		cmocka_unit_test(the_call_descriptor_may_change_at_any_time),
		cmocka_unit_test(neither_side_sleeps_while_the_other_waits),
		cmocka_unit_test(a_chain_is_seen_or_kicked_for),
		cmocka_unit_test(an_entry_is_seen_or_interrupted_for),
		cmocka_unit_test(writes_to_the_used_ring_are_logged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
