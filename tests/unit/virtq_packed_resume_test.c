/* SPDX-License-Identifier: Apache-2.0 */
/* A packed ring whose flued was killed: wherever that was, the next one goes on so that the driver sees each buffer used
 * exactly once. */
#include <errno.h>

#include "virtq_bench.h"

#define SIZE_MAX_HERE 300
#define CHAINS_MAX    64

/* What outlives a flued: guest memory and the journal. */
struct kept {
	struct vring_packed_desc ring[SIZE_MAX_HERE];
	struct virtq_journal journal;
};

struct life {
	struct bench b;
	struct virtq_journal journal;
	unsigned n, descs; /* chains in a batch, and their descriptors */
	bool in_order;     /* or published as a receiveq's are */
	unsigned offered;  /* chains in all; number i has the id i % PACKED_IDS */
	unsigned taken;
};

static int start_flued(struct life *l, uint16_t base)
{
	struct virtq_conf c = packed_conf(&l->b.p);
	struct err e = {0};

	c.in_order = l->in_order;
	c.journal = &l->journal;
	c.base = base;
	l->b.vq = aligned_alloc(CACHE_LINE, sizeof(*l->b.vq));
	expect(l->b.vq, "memory");
	l->b.done = 0;
	return virtq_start(l->b.vq, &c, &e);
}

static void begin(struct life *l, uint16_t size, uint16_t start)
{
	ram_init(&l->b.ram, PART, 2);
	packed_init(&l->b.p, &l->b.ram, size, start);
	l->b.p.in_order = l->in_order;
	assert_int_equal(start_flued(l, start), 0);
}

/* Killed: what was only in its memory is gone. */
static void restart(struct life *l, uint16_t base)
{
	driver_stop(l->b.vq);
	assert_int_equal(start_flued(l, base), 0);
}

static void offer_batch(struct life *l)
{
	for (unsigned i = 0; i < l->n; i++, l->offered++)
		for (unsigned k = 0; k < l->descs; k++)
			packed_put(&l->b.p, BUFFER, 10, k < l->descs - 1 ? NEXT : 0, l->offered % PACKED_IDS);
	packed_show(&l->b.p);
}

/* Serve what is there; returns how many chains that were. */
static unsigned serve(struct life *l)
{
	struct virtq_chain chain[2 * CHAINS_MAX];
	unsigned n = 0;

	for (; n < ARRAY_SIZE(chain) && fetch(&l->b, VIRTQ_READABLE); n++) {
		chain[n] = l->b.chain;
		if (!l->in_order)
			complete_chain(&l->b, 0);
	}
	if (l->in_order)
		virtq_return(l->b.vq, chain, n);
	else
		publish(&l->b);
	return n;
}

static void take_all(struct life *l)
{
	struct vring_used_elem e = {0};

	for (; packed_take(&l->b.p, &e); l->taken++)
		assert_int_equal(e.id, l->taken % PACKED_IDS);
}

static void keep(const struct life *l, struct kept *k)
{
	memcpy(k->ring, l->b.p.ring, 16 * (size_t)l->b.p.size);
	k->journal = l->journal;
}

/* As the batch's publishing is written: the journal's entries and `to`, `n`, the ring's descriptors from the second one
 * on and then the first, `at`, `n` again. Put what is kept back to where it was after @stores of these. */
static void rewind_to(struct life *l, const struct kept *before, const struct kept *after, unsigned stores)
{
	unsigned n = l->in_order ? 1 : l->n;
	uint16_t first = before->journal.at;

	memcpy(l->b.p.ring, before->ring, 16 * (size_t)l->b.p.size);
	l->journal = before->journal;
	memcpy(l->journal.used, after->journal.used, sizeof(l->journal.used));
	l->journal.to = after->journal.to;
	if (stores > 0)
		l->journal.n = (uint16_t)n;
	for (unsigned i = 1; i <= n && i < stores; i++) {
		unsigned at = packed_on(&l->b.p, first, i % n * l->descs) & PACKED_POS;

		l->b.p.ring[at] = after->ring[at];
	}
	if (stores > n + 1)
		l->journal.at = after->journal.at;
	if (stores > n + 2)
		l->journal.n = 0;
}

/* Kill after @stores; the driver looks at once or only later, and all goes on. */
static void kill_after(struct life *l, uint16_t size, uint16_t start, unsigned stores, bool driver_looks)
{
	unsigned seen = stores > (l->in_order ? 1 : l->n) ? l->n : 0;
	static struct kept before, after;

	l->offered = l->taken = 0;
	memset(&l->journal, 0, sizeof(l->journal));
	begin(l, size, start);
	offer_batch(l);
	keep(l, &before);
	assert_int_equal(serve(l), l->n);
	keep(l, &after);
	rewind_to(l, &before, &after, stores);
	if (driver_looks) {
		take_all(l);
		assert_int_equal(l->taken, seen);
	}
	if (driver_looks && seen)
		offer_batch(l); /* over the descriptors that were used, if the ring is short */
	restart(l, start);
	for (unsigned round = 0; round < 3; round++) {
		serve(l);
		take_all(l);
		if (l->taken != l->offered || virtq_fault_get(l->b.vq) != VIRTQ_FAULT_NONE)
			fail_msg(
				"ring of %u from 0x%x, %u chains of %u, %s, killed after %u stores: %u of %u came back",
				size, start, l->n, l->descs, l->in_order ? "in order" : "one by one", stores, l->taken,
				l->offered);
		assert_int_equal(virtq_base(l->b.vq), (uint32_t)l->b.p.next << 16 | l->b.p.next);
		offer_batch(l);
	}
	close_bench(&l->b);
}

static void each_buffer_is_used_once_wherever_flued_was_killed(void **state)
{
	static const struct {
		uint16_t size, start;
		unsigned n, descs;
	} row[] = {
		{1, PACKED_START, 1, 1},
		{1, 0, 1, 1},
		{3, PACKED_START, 1, 1},
		{3, PACKED_START, 3, 1},
		{3, 0, 3, 1},
		{3, 1, 3, 1},
		{3, 2 | PACKED_WRAP, 3, 1},
		{7, PACKED_START, 3, 2},
		{7, 5, 3, 2},
		{7, 6 | PACKED_WRAP, 2, 3},
		{7, 0, 1, 7},
		{7, 4 | PACKED_WRAP, 1, 7},
		{8, 4, 4, 1},
		{300, PACKED_START, 50, 6},
		{300, 280, 50, 1},
		{300, 250 | PACKED_WRAP, 50, 1},
		{300, 0, 10, 3},
	};

	(void)state;
	for (size_t i = 0; i < 4 * ARRAY_SIZE(row); i++) {
		struct life l = {.n = row[i / 4].n, .descs = row[i / 4].descs, .in_order = i & 1};
		unsigned n = l.in_order ? 1 : l.n;

		for (unsigned stores = 0; stores <= n + 3; stores++)
			kill_after(&l, row[i / 4].size, row[i / 4].start, stores, i & 2);
	}
}

/* What was fetched only is as if it had not been. */
static void what_was_not_published_comes_again(void **state)
{
	struct life l = {.n = 3, .descs = 2};

	(void)state;
	begin(&l, 7, 4);
	offer_batch(&l);
	assert_true(fetch(&l.b, VIRTQ_READABLE));
	complete_chain(&l.b, 0);
	publish(&l.b);
	assert_true(fetch(&l.b, VIRTQ_READABLE));
	complete_chain(&l.b, 0);
	assert_true(fetch(&l.b, VIRTQ_READABLE));
	restart(&l, 4);
	assert_int_equal(serve(&l), 2);
	take_all(&l);
	assert_int_equal(l.taken, 3);
	close_bench(&l.b);
}

/* ---- where a ring begins ---- */

static void a_ring_begins_where_the_journal_or_the_front_end_says(void **state)
{
	/* In a ring of 7 that looks used up to @ring (NEW: no driver has used it). */
#define NEW PACKED_START
	static const struct {
		uint16_t ring, base;
		struct virtq_journal j;
		uint16_t at;
		const char *why;
	} row[] = {
		{NEW, NEW, {0}, NEW, "a new ring, no journal"},
		{5, 5, {0}, 5, "from another host"},
		{5, 5, {.at = 3}, 5, "a journal of a ring that was stopped in order"},
		{5, 5, {.at = 3, .n = 1, .used = {{3, 0, 0}}}, 5, "the same with an intent: not carried out"},
		{5, 1, {.live = 1, .at = 5}, 5, "a live journal knows better than a stale base"},
		{5 | PACKED_WRAP, 5, {.live = 1, .at = 5 | PACKED_WRAP}, 5 | PACKED_WRAP, "in the other lap too"},
		{NEW, NEW, {.live = 1, .at = 5}, NEW, "a new driver's ring after a live journal"},
		{NEW, NEW, {.live = 1, .at = 5, .n = 1, .used = {{5, 0, 0}}}, NEW, "and its intent is forgotten"},
		{NEW, 3, {.live = 1, .at = NEW}, NEW, "an even number of laps: a stale base is not believed"},
		{5, 2, {.live = 1, .at = 7}, 2, "a journal outside the ring"},
		{5, 2, {.live = 2, .at = 4}, 2, "a journal of nonsense"},
		{5, 2, {.live = 1, .at = 4, .n = 300}, 2, "an impossible intent"},
		{5, 2, {.live = 1, .at = 4, .n = 1, .to = 5, .used = {{8, 0, 0}}}, 2, "an intent outside the ring"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct vring_packed_desc before[7];
		struct life l = {.journal = row[i].j};

		ram_init(&l.b.ram, PART, 2);
		packed_init(&l.b.p, &l.b.ram, 7, row[i].ring);
		memcpy(before, l.b.p.ring, sizeof(before));
		assert_int_equal(start_flued(&l, row[i].base), 0);
		if (virtq_base(l.b.vq) != ((uint32_t)row[i].at << 16 | row[i].at))
			fail_msg("%s: 0x%x", row[i].why, virtq_base(l.b.vq));
		assert_memory_equal(l.b.p.ring, before, sizeof(before));
		assert_int_equal(l.journal.live, 1);
		assert_int_equal(l.journal.at, row[i].at);
		assert_int_equal(l.journal.n, 0);
		close_bench(&l.b);
	}
}

static void a_base_outside_the_ring_is_refused_and_leaves_the_journal(void **state)
{
	struct life l = {.journal = {.live = 1, .at = 5, .n = 1, .to = 6, .used = {{5, 0, 0}}}};
	struct virtq_journal before = l.journal;

	(void)state;
	ram_init(&l.b.ram, PART, 2);
	packed_init(&l.b.p, &l.b.ram, 7, 5);
	assert_int_equal(start_flued(&l, 7), -EINVAL);
	assert_memory_equal(&l.journal, &before, sizeof(before));
	assert_null(l.b.vq->pending);
	close_bench(&l.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_buffer_is_used_once_wherever_flued_was_killed),
		cmocka_unit_test(what_was_not_published_comes_again),
		cmocka_unit_test(a_ring_begins_where_the_journal_or_the_front_end_says),
		cmocka_unit_test(a_base_outside_the_ring_is_refused_and_leaves_the_journal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
