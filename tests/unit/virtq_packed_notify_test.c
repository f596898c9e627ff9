/* SPDX-License-Identifier: Apache-2.0 */
/* Packed rings: who is woken when, what the migration's log says, and what breaks a ring. */
#include <pthread.h>

#include "virtq_bench.h"

#define PAGE UINT64_C(4096)
#define ON   VRING_PACKED_EVENT_ENABLE
#define OFF  VRING_PACKED_EVENT_DISABLE
#define DESC VRING_PACKED_EVENT_DESC

/* One buffer goes through the ring. */
static void pass_one(struct bench *b)
{
	struct vring_used_elem e = {0};

	packed_offer(&b->p, BUFFER, 10, 0, 0);
	assert_true(fetch(b, VIRTQ_READABLE));
	complete_chain(b, 0);
	publish(b);
	assert_true(packed_take(&b->p, &e));
}

/* ---- what the device asks of the driver ---- */

static void a_sleeping_device_is_notified_and_a_polling_one_is_not(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct bench b;

		open_packed_bench(&b, 3, 2);
		b.vq->event_idx = event_idx;
		for (unsigned i = 0; i < 20; i++) {
			uint16_t from = b.p.next;

			virtq_notify_off(b.vq);
			packed_offer(&b.p, BUFFER, 10, 0, 0);
			assert_false(packed_must_kick(&b.p, from, 1));
			assert_true(virtq_notify_on(b.vq)); /* one came before we could sleep */
			assert_true(fetch(&b, VIRTQ_READABLE));
			complete_chain(&b, 0);
			assert_false(virtq_notify_on(b.vq));
			from = b.p.next;
			packed_offer(&b.p, BUFFER, 10, 0, 1);
			assert_true(packed_must_kick(&b.p, from, 1));
			assert_int_equal(virtq_ready(b.vq), 1);
			assert_true(fetch(&b, VIRTQ_READABLE));
			complete_chain(&b, 0);
			publish(&b);
		}
		assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
		close_bench(&b);
	}
}

static void wishes_are_written_as_the_driver_reads_them(void **state)
{
	struct bench b;

	(void)state;
	open_packed_bench(&b, 3, 2);
	virtq_notify_off(b.vq);
	assert_int_equal(b.p.device->flags, OFF);
	assert_false(virtq_notify_on(b.vq));
	assert_int_equal(b.p.device->flags, ON);
	b.vq->event_idx = true;
	assert_false(virtq_notify_on(b.vq));
	assert_int_equal(b.p.device->flags, DESC);
	assert_int_equal(b.p.device->off_wrap, 2);
	pass_one(&b);
	assert_false(virtq_notify_on(b.vq));
	assert_int_equal(b.p.device->off_wrap, PACKED_WRAP);
	virtq_notify_off(b.vq);
	assert_int_equal(b.p.device->flags, OFF);
	close_bench(&b);
}

/* ---- what the driver asks of the device ---- */

#define W PACKED_WRAP

static void the_driver_is_interrupted_when_it_asked_to_be(void **state)
{
	/* In a ring of 7: a decision was made at @from; then @n more go through, one by one. */
	static const struct {
		bool event_idx;
		uint16_t from;
		unsigned n;
		uint16_t flags, event;
		bool interrupts;
		const char *why;
	} row[] = {
		{false, W | 1, 1, ON, 0, true, "always"},
		{false, W | 1, 5, OFF, W | 1, false, "never"},
		{false, W | 1, 1, DESC, 6, true, "a wish that was not negotiated"},
		{false, W | 1, 1, 3, 6, true, "a wish that means nothing"},
		{false, W | 1, 0, ON, 0, false, "nothing new"},
		{true, W | 1, 0, ON, 0, false, "nothing new"},
		{true, W | 1, 0, DESC, W | 1, false, "nothing new"},
		{true, W | 1, 1, ON, 0, true, "always, though EVENT_IDX"},
		{true, W | 1, 7, OFF, W | 2, false, "never, though EVENT_IDX"},
		{true, W | 1, 3, DESC, W | 0, false, "passed before"},
		{true, W | 1, 3, DESC, W | 1, true, "the first of them"},
		{true, W | 1, 3, DESC, W | 3, true, "the last of them"},
		{true, W | 1, 3, DESC, W | 4, false, "the one after"},
		{true, W | 1, 3, DESC, 1, false, "in the next lap"},
		{true, W | 5, 4, DESC, W | 4, false, "passed before, at the end"},
		{true, W | 5, 4, DESC, W | 5, true, "the first, at the end"},
		{true, W | 5, 4, DESC, W | 6, true, "the ring's last"},
		{true, W | 5, 4, DESC, 0, true, "the ring's first, in the next lap"},
		{true, W | 5, 4, DESC, W | 0, false, "the same, in this lap: long ago"},
		{true, W | 5, 4, DESC, 1, true, "the last, behind the end"},
		{true, W | 5, 4, DESC, 2, false, "the one after, behind the end"},
		{true, 5, 4, DESC, W | 1, true, "the last, and wrapping back"},
		{true, 5, 4, DESC, W | 2, false, "the one after, and wrapping back"},
		{true, 5, 2, DESC, W | 0, false, "up to the ring's end"},
		{true, 0, 7, DESC, 6, true, "a whole lap: the last"},
		{true, 0, 7, DESC, 0, true, "a whole lap: the first"},
		{true, 3, 7, DESC, W | 2, true, "a whole lap across the end"},
		{true, 3, 7, DESC, W | 3, false, "the one after a whole lap"},
		{true, W | 1, 1, DESC, W | 7, true, "outside the ring: rather too many"},
		{true, W | 1, 1, DESC, 0x7fff, true, "far outside"},
		/* A driver that polls can go on for laps between two decisions, and fall asleep then. */
		{true, W | 1, 13, DESC, 6, true, "nearly two laps: the last"},
		{true, W | 1, 14, DESC, W | 0, true, "two laps: the last"},
		{true, W | 1, 15, DESC, W | 1, true, "more than two laps: the last"},
		{true, W | 1, 15, DESC, W | 0, true, "more than two laps: the one before"},
		{true, W | 1, 16, DESC, W | 0, true, "more than two laps: two before"},
		{true, W | 1, 22, DESC, W | 6, true, "three laps: the last but one"},
	};

	static const struct packed_driver seven = {.size = 7};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct bench b;

		/* one before it, for the first decision */
		open_packed_bench(&b, 7, packed_on(&seven, (uint16_t)(row[i].from ^ W), 6));
		b.vq->event_idx = row[i].event_idx;
		assert_int_equal(virtq_set_call(b.vq, 77), -1);
		pass_one(&b);
		assert_int_equal(b.p.taken, row[i].from);
		packed_ask(&b.p, DESC, row[i].from);
		assert_int_equal(virtq_interrupt(b.vq), 77); /* the first time: whatever was missed before we started */
		packed_ask(&b.p, row[i].flags, row[i].event);
		for (unsigned k = 0; k < row[i].n; k++)
			pass_one(&b);
		if (virtq_interrupt(b.vq) != (row[i].interrupts ? 77 : -1))
			fail_msg("%s", row[i].why);
		assert_int_equal(virtq_interrupt(b.vq), -1); /* decided */
		close_bench(&b);
	}
}

/* ---- aimed at the moment of falling asleep ---- */

#define MOMENTS 300000

struct moment {
	struct bench b;
	bool event_idx;
	_Atomic unsigned start, done; /* rounds */
	bool driver_acts;             /* it kicks, or sees the buffer it wanted to sleep for */
};

static void begin_moments(struct moment *m, bool event_idx)
{
	*m = (struct moment){.event_idx = event_idx};
	open_packed_bench(&m->b, 7, 3);
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
		uint16_t from = m->b.p.next;

		await_round(&m->start, round);
		packed_offer(&m->b.p, BUFFER, 10, 0, 0);
		m->driver_acts = packed_must_kick(&m->b.p, from, 1);
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
			complete_chain(&m.b, 0);
			publish(&m.b);
		}
		pthread_join(thread, NULL);
		close_bench(&m.b);
	}
}

static void *wait_in_each_round(void *arg)
{
	struct moment *m = arg;
	struct packed_driver *p = &m->b.p;

	for (unsigned round = 1; round <= MOMENTS; round++) {
		await_round(&m->start, round);
		packed_ask(p, m->event_idx ? DESC : ON, p->taken);
		atomic_thread_fence(memory_order_seq_cst);
		m->driver_acts = packed_is_used(p);
		atomic_store(&m->done, round);
	}
	return NULL;
}

static void a_buffer_is_seen_or_interrupted_for(void **state)
{
	(void)state;
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		struct vring_used_elem e = {0};
		struct moment m;
		pthread_t thread;

		begin_moments(&m, event_idx);
		packed_ask(&m.b.p, OFF, 0);
		assert_int_equal(pthread_create(&thread, NULL, wait_in_each_round, &m), 0);
		for (unsigned round = 1; round <= MOMENTS; round++) {
			bool interrupts;

			packed_offer(&m.b.p, BUFFER, 10, 0, 0);
			assert_true(fetch(&m.b, VIRTQ_READABLE));
			complete_chain(&m.b, 0);
			atomic_store(&m.start, round);
			publish(&m.b);
			interrupts = virtq_interrupt(m.b.vq) == 77;
			await_round(&m.done, round);
			if (!interrupts && !m.driver_acts)
				fail_msg("round %u: the driver would sleep, and is not interrupted", round);
			assert_true(packed_take(&m.b.p, &e));
			packed_ask(&m.b.p, OFF, 0);
		}
		pthread_join(thread, NULL);
		close_bench(&m.b);
	}
}

/* ---- the log of a migration ---- */

enum step { COMPLETE, PUBLISH, PUBLISH_MANY, RETURN_MANY, RETURN_IN_ORDER, NOTIFY_ON, NOTIFY_OFF };
#define MANY 260

static void take_step(struct bench *b, enum step step)
{
	unsigned n = step == COMPLETE || step == PUBLISH ? 1 : step < NOTIFY_ON ? MANY : 0;
	struct virtq_chain chain[MANY];

	for (unsigned i = 0; i < n; i++)
		packed_put(&b->p, BUFFER, 10, 0, i);
	packed_show(&b->p);
	for (unsigned i = 0; i < n; i++, chain[i - 1] = b->chain) {
		assert_true(fetch(b, VIRTQ_READABLE));
		complete_chain(b, 0);
	}
	if (step == PUBLISH || step == PUBLISH_MANY)
		publish(b);
	b->vq->in_order = step == RETURN_IN_ORDER;
	if (step == RETURN_MANY || step == RETURN_IN_ORDER)
		virtq_return(b->vq, chain, n);
	if (step == NOTIFY_ON)
		virtq_notify_on(b->vq);
	if (step == NOTIFY_OFF)
		virtq_notify_off(b->vq);
}

static void writes_are_logged(void **state)
{
	/* A ring of 300 descriptors, 4,800 bytes, of which the log is told that it begins at @at; the events are told to be
	 * on page 2. */
	static const struct {
		uint64_t at;
		uint16_t start;
		bool log_used, on;
		enum step step;
		uint16_t pages;
	} row[] = {
		{10 * PAGE, PACKED_START, true, true, COMPLETE, 0},
		{10 * PAGE, PACKED_START, true, true, PUBLISH, 1 << 10},
		{10 * PAGE - 16, PACKED_START, true, true, PUBLISH, 1 << 9},
		{10 * PAGE - 8, PACKED_START, true, true, PUBLISH, 1 << 9 | 1 << 10},
		{10 * PAGE, 255, true, true, PUBLISH, 1 << 10},
		{10 * PAGE, 256, true, true, PUBLISH, 1 << 11},
		{10 * PAGE, 299, true, true, PUBLISH, 1 << 11},
		{10 * PAGE, PACKED_START, true, true, PUBLISH_MANY, 1 << 10 | 1 << 11},
		{10 * PAGE, PACKED_START, true, true, RETURN_MANY, 1 << 10 | 1 << 11},
		{10 * PAGE, PACKED_START, true, true, RETURN_IN_ORDER, 1 << 10},
		{10 * PAGE, PACKED_START, true, true, NOTIFY_ON, 1 << 2},
		{10 * PAGE, PACKED_START, true, true, NOTIFY_OFF, 1 << 2},
		{10 * PAGE, PACKED_START, false, true, PUBLISH, 0},
		{10 * PAGE, PACKED_START, false, true, NOTIFY_ON, 0},
		{10 * PAGE, PACKED_START, true, false, PUBLISH, 0},
		{UINT64_C(1) << 40, PACKED_START, true, true, PUBLISH, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		int fd = memfd_create("log", MFD_CLOEXEC);
		struct err e = {0};
		struct bench b;
		uint16_t pages;

		open_packed_bench(&b, 300, row[i].start);
		expect(ftruncate(fd, sizeof(pages)) == 0, "log");
		assert_int_equal(gmem_log_set(b.ram.gmem, fd, sizeof(pages), 0, &e), 0);
		b.ram.gmem->log.on = row[i].on;
		b.vq->log_used = row[i].log_used;
		b.vq->used_log.v = row[i].at;
		b.vq->event_log.v = 2 * PAGE;
		take_step(&b, row[i].step);
		assert_int_equal(pread(fd, &pages, sizeof(pages), 0), sizeof(pages));
		if (pages != row[i].pages)
			fail_msg("row %zu: pages 0x%x instead of 0x%x", i, pages, row[i].pages);
		close(fd);
		close_bench(&b);
	}
}

/* A front end says where a split ring's used ring is for the log; of a packed ring we know it ourselves. */
static void the_log_is_told_where_the_ring_and_the_events_are(void **state)
{
	struct bench b;

	(void)state;
	open_packed_bench(&b, 7, 0);
	assert_int_equal(b.vq->used_log.v, b.p.ring_gpa);
	assert_int_equal(b.vq->event_log.v, b.p.device_gpa);
	close_bench(&b);
}

/* ---- malformed ---- */

static void link_them_all(struct packed_driver *p)
{
	for (unsigned i = 0; i < 7; i++)
		packed_put(p, BUFFER, 10, NEXT, 0);
	packed_show(p);
}

static void link_without_an_end(struct packed_driver *p)
{
	for (unsigned i = 0; i < 7; i++)
		p->ring[i] = (struct vring_packed_desc){BUFFER, 10, 0, NEXT};
	p->ring[5].flags = (uint16_t)(NEXT | packed_avail_flags(5));
}

static void nest_a_table(struct packed_driver *p)
{
	packed_indirect(p, TABLE, 0, BUFFER, 10, 0);
	packed_indirect(p, TABLE, 1, TABLE, 16, INDIRECT);
	packed_offer(p, TABLE, 32, INDIRECT, 0);
}

static void go_on_behind_a_table(struct packed_driver *p)
{
	packed_indirect(p, TABLE, 0, BUFFER, 10, 0);
	packed_put(p, TABLE, 16, INDIRECT | NEXT, 0);
	packed_put(p, BUFFER, 10, 0, 0);
	packed_show(p);
}

static void give_a_table(struct packed_driver *p, uint32_t len)
{
	for (unsigned i = 0; i < 8; i++)
		packed_indirect(p, TABLE, i, BUFFER, 10, 0);
	packed_offer(p, TABLE, len, INDIRECT, 0);
}

static void give_an_empty_table(struct packed_driver *p)
{
	give_a_table(p, 0);
}

static void give_a_table_of_half_an_entry(struct packed_driver *p)
{
	give_a_table(p, 8);
}

static void give_a_table_and_a_half(struct packed_driver *p)
{
	give_a_table(p, 24);
}

static void give_a_table_longer_than_the_ring(struct packed_driver *p)
{
	give_a_table(p, 8 * 16);
}

static void give_a_table_of_4_gib(struct packed_driver *p)
{
	give_a_table(p, 0xfffffff0);
}

static void lend_what_is_no_memory(struct packed_driver *p)
{
	packed_offer(p, RAM_GPA - 1, 10, 0, 0);
}

static void lend_a_byte_too_many(struct packed_driver *p)
{
	packed_offer(p, END - 10, 11, 0, 0);
}

static void lend_what_wraps_around(struct packed_driver *p)
{
	packed_offer(p, UINT64_MAX - 3, 100, 0, 0);
}

static void put_the_table_nowhere(struct packed_driver *p)
{
	packed_offer(p, END, 16, INDIRECT, 0);
}

static void put_half_the_table_nowhere(struct packed_driver *p)
{
	packed_indirect(p, END - 16, 0, BUFFER, 10, 0);
	packed_offer(p, END - 16, 32, INDIRECT, 0);
}

static void lend_a_writable_buffer(struct packed_driver *p)
{
	packed_offer(p, BUFFER, 10, WRITE, 0);
}

static void turn_writable_across_the_end(struct packed_driver *p)
{
	packed_put(p, BUFFER, 10, NEXT, 0);
	packed_put(p, BUFFER, 10, NEXT, 0);
	packed_put(p, BUFFER, 10, WRITE, 0);
	packed_show(p);
}

static void lend_nothing(struct packed_driver *p)
{
	packed_offer(p, BUFFER, 0, 0, 0);
}

static void lend_nothing_in_a_table(struct packed_driver *p)
{
	packed_indirect(p, TABLE, 0, BUFFER, 10, 0);
	packed_indirect(p, TABLE, 1, BUFFER, 0, 0);
	packed_offer(p, TABLE, 32, INDIRECT, 0);
}

static void malformed_rings_are_told_apart_and_stay_broken(void **state)
{
	static const struct {
		void (*build)(struct packed_driver *p);
		enum virtq_fault fault;
	} row[] = {
		{link_them_all, VIRTQ_FAULT_LOOP},
		{link_without_an_end, VIRTQ_FAULT_LOOP},
		{nest_a_table, VIRTQ_FAULT_INDIRECT_NESTED},
		{go_on_behind_a_table, VIRTQ_FAULT_INDIRECT_NESTED},
		{give_an_empty_table, VIRTQ_FAULT_INDIRECT_SIZE},
		{give_a_table_of_half_an_entry, VIRTQ_FAULT_INDIRECT_SIZE},
		{give_a_table_and_a_half, VIRTQ_FAULT_INDIRECT_SIZE},
		{give_a_table_longer_than_the_ring, VIRTQ_FAULT_INDIRECT_SIZE},
		{give_a_table_of_4_gib, VIRTQ_FAULT_INDIRECT_SIZE},
		{lend_what_is_no_memory, VIRTQ_FAULT_UNMAPPED},
		{lend_a_byte_too_many, VIRTQ_FAULT_UNMAPPED},
		{lend_what_wraps_around, VIRTQ_FAULT_UNMAPPED},
		{put_the_table_nowhere, VIRTQ_FAULT_UNMAPPED},
		{put_half_the_table_nowhere, VIRTQ_FAULT_UNMAPPED},
		{lend_a_writable_buffer, VIRTQ_FAULT_DIRECTION},
		{turn_writable_across_the_end, VIRTQ_FAULT_DIRECTION},
		{lend_nothing, VIRTQ_FAULT_EMPTY},
		{lend_nothing_in_a_table, VIRTQ_FAULT_EMPTY},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct vring_packed_desc before[7];
		struct bench b;

		open_packed_bench(&b, 7, 5);
		row[i].build(&b.p);
		memcpy(before, b.p.ring, sizeof(before));
		assert_false(fetch(&b, VIRTQ_READABLE));
		if (virtq_fault_get(b.vq) != row[i].fault)
			fail_msg("row %zu: %s instead of %s", i, virtq_fault_text(virtq_fault_get(b.vq)),
				 virtq_fault_text(row[i].fault));
		assert_memory_equal(b.p.ring, before, sizeof(before));

		/* A driver that repents changes nothing. */
		b.p.next = 5;
		packed_offer(&b.p, BUFFER, 10, 0, 0);
		assert_int_equal(virtq_ready(b.vq), 0);
		assert_false(fetch(&b, VIRTQ_READABLE));
		assert_false(virtq_notify_on(b.vq));
		virtq_break(b.vq, VIRTQ_FAULT_TRUNCATED);
		assert_int_equal(virtq_fault_get(b.vq), row[i].fault);
		close_bench(&b);
	}
}

static void tables_are_refused_unless_negotiated(void **state)
{
	struct bench b;

	(void)state;
	open_packed_bench(&b, 7, 5);
	b.vq->indirect = false;
	give_a_table(&b.p, 16);
	assert_false(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_INDIRECT_UNASKED);
	close_bench(&b);
}

static void work_for_one_chain_is_bounded(void **state)
{
	struct bench b;

	(void)state;
	open_packed_bench(&b, VIRTQ_SIZE_MAX, 5);
	for (unsigned i = 0; i < VIRTQ_SIZE_MAX; i++)
		packed_put(&b.p, BUFFER, 1, NEXT, 0);
	packed_show(&b.p);
	assert_false(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_PIECES);
	assert_int_equal(b.chain.n_spans, VIRTQ_CHAIN_SPANS);
	close_bench(&b);
}

static void chains_longer_than_4_gib_are_refused(void **state)
{
	struct ram big;
	struct bench b;

	(void)state;
	open_packed_bench(&b, 7, 5);
	ram_init(&big, UINT64_C(3) << 30, 1); /* of which nothing is touched */
	b.vq->mem = big.gmem;
	for (int byte = 0; byte < 2; byte++) {
		packed_put(&b.p, RAM_GPA, 0xc0000000, NEXT, 0);
		packed_put(&b.p, RAM_GPA, 0x3fffffff + byte, 0, 0);
		packed_show(&b.p);
		assert_int_equal(fetch(&b, VIRTQ_READABLE), !byte);
	}
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_LENGTH);
	ram_fini(&big);
	close_bench(&b);
}

/* A driver can make its ring look available for ever, whoever has what is in it: each batch ends all the same. */
static void a_ring_that_is_always_available_ends_with_the_batch(void **state)
{
	struct virtq_chain chain[64];
	struct bench b;

	(void)state;
	open_packed_bench(&b, 3, PACKED_START);
	for (unsigned round = 0; round < 3000; round++) {
		struct virtq_batch batch = {.chain = chain, .max = 1, .span = b.span, .max_spans = VIRTQ_CHAIN_SPANS};

		for (unsigned i = 0; i < 3; i++)
			packed_put(&b.p, BUFFER, 10, 0, i);
		packed_show(&b.p);
		assert_int_equal(virtq_fetch(b.vq, VIRTQ_READABLE, &batch), 1);
		b.p.next = b.vq->avail_at;
		if (round % 3 == 2)
			virtq_return(b.vq, chain, 1);
	}
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
	close_bench(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sleeping_device_is_notified_and_a_polling_one_is_not),
		cmocka_unit_test(wishes_are_written_as_the_driver_reads_them),
		cmocka_unit_test(the_driver_is_interrupted_when_it_asked_to_be),
		cmocka_unit_test(a_chain_is_seen_or_kicked_for),
		cmocka_unit_test(a_buffer_is_seen_or_interrupted_for),
		cmocka_unit_test(writes_are_logged),
		cmocka_unit_test(the_log_is_told_where_the_ring_and_the_events_are),
		cmocka_unit_test(malformed_rings_are_told_apart_and_stay_broken),
		cmocka_unit_test(tables_are_refused_unless_negotiated),
		cmocka_unit_test(work_for_one_chain_is_bounded),
		cmocka_unit_test(chains_longer_than_4_gib_are_refused),
		cmocka_unit_test(a_ring_that_is_always_available_ends_with_the_batch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
