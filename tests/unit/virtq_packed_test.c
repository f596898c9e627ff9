/* SPDX-License-Identifier: Apache-2.0 */
/* Packed rings: what the driver built is what the device sees, and the reverse. */
#include <errno.h>
#include <pthread.h>

#include "virtq_bench.h"

#define LAST(size) ((uint16_t)((size)-1))

/* Positions from which a list of any length crosses the ring's end in either kind of lap, and one from which it does
 * not. */
static uint16_t start_of(unsigned variant, uint16_t size)
{
	return variant == 0 ? PACKED_START : variant == 1 ? (uint16_t)(LAST(size) | PACKED_WRAP) : LAST(size);
}

/* ---- well-formed chains ---- */

/* Do the pieces from @first on join up to @len bytes from @gpa on? Returns how many pieces that takes. */
static unsigned check_pieces(const struct bench *b, unsigned first, uint64_t gpa, uint32_t len)
{
	unsigned i = first;

	for (; len; i++) {
		assert_true(i < b->chain.n_spans);
		assert_int_equal(b->span[i].gpa.v, gpa);
		assert_in_range(b->span[i].len, 1, len);
		*(uint8_t *)ram_at(&b->ram, gpa) ^= 0xff;
		assert_int_equal(*b->span[i].p, *(uint8_t *)ram_at(&b->ram, gpa));
		gpa += b->span[i].len;
		len -= b->span[i].len;
	}
	return i - first;
}

/* Buffer @k of a chain is at BUFFER + 1000 * k and has 100 + k bytes. */
static void build_chain(struct packed_driver *p, unsigned n_direct, unsigned n_indirect, unsigned flags)
{
	for (unsigned k = 0; k < n_direct; k++)
		packed_put(p, BUFFER + UINT64_C(1000) * k, 100 + k, flags | (k == n_direct + n_indirect - 1 ? 0 : NEXT),
			   77);
	for (unsigned k = n_direct; k < n_direct + n_indirect; k++)
		/* virtio 1.2, 2.8.8: NEXT, as ids, means nothing in a table */
		packed_indirect(p, TABLE, k - n_direct, BUFFER + UINT64_C(1000) * k, 100 + k,
				flags | (k % 2 ? NEXT : 0));
	if (n_indirect)
		packed_put(p, TABLE, 16 * n_indirect, INDIRECT, 77);
	packed_show(p);
}

static void check_chain(struct bench *b, uint16_t start, unsigned n_direct, unsigned n_indirect, bool writable)
{
	unsigned n = n_direct + n_indirect, at = 0;

	assert_int_equal(b->chain.id, 77);
	assert_int_equal(b->chain.at, start);
	assert_int_equal(b->chain.end, b->p.next);
	assert_int_equal(b->chain.n_spans, n);
	assert_int_equal(b->chain.n_readable, writable ? 0 : n);
	assert_int_equal(b->chain.len, 100u * n + n * (n - 1u) / 2);
	for (unsigned k = 0; k < n; k++)
		at += check_pieces(b, at, BUFFER + UINT64_C(1000) * k, 100 + k);
}

static void chains_arrive_as_the_driver_built_them(void **state)
{
	static const struct {
		unsigned n_direct, n_indirect; /* descriptors before the table, and in it */
		const char *why;
	} row[] = {
		{1, 0, "one descriptor"},
		{2, 0, "two"},
		{7, 0, "as many as 7 has"},
		{8, 0, "as many as 8 has"},
		{0, 1, "a table of one"},
		{0, 3, "of as many as 3 has"},
		{0, 8, "of 8"},
		{3, 4, "a table after direct descriptors"},
		{6, 7, "all that 7 can"},
	};
	static const uint16_t size[] = {3, 7, 8, 300};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row) * ARRAY_SIZE(size) * 3 * 2; i++) {
		unsigned r = (unsigned)(i % ARRAY_SIZE(row)), n_direct = row[r].n_direct,
			 n_indirect = row[r].n_indirect;
		uint16_t n = size[i / ARRAY_SIZE(row) % ARRAY_SIZE(size)];
		unsigned rest = (unsigned)(i / ARRAY_SIZE(row) / ARRAY_SIZE(size));
		bool writable = rest & 1;
		struct bench b;

		if (n_direct + !!n_indirect > n || n_indirect > n)
			continue;
		open_packed_bench(&b, n, start_of(rest / 2, n));
		assert_int_equal(virtq_ready(b.vq), 0);
		build_chain(&b.p, n_direct, n_indirect, writable ? WRITE : 0);
		assert_int_equal(virtq_ready(b.vq), 1);
		if (!fetch(&b, writable ? VIRTQ_WRITABLE : VIRTQ_READABLE))
			fail_msg("%s, ring of %u: %s", row[r].why, n, virtq_fault_text(virtq_fault_get(b.vq)));
		check_chain(&b, start_of(rest / 2, n), n_direct, n_indirect, writable);
		assert_int_equal(virtq_ready(b.vq), 0);
		assert_false(fetch(&b, VIRTQ_READABLE));
		assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
		close_bench(&b);
	}
}

static void nothing_of_a_list_is_fetched_before_its_first_descriptor_is_shown(void **state)
{
	struct bench b;

	(void)state;
	open_packed_bench(&b, 7, 6);
	packed_put(&b.p, BUFFER, 10, NEXT, 5);
	packed_put(&b.p, BUFFER, 20, 0, 5);
	packed_put(&b.p, BUFFER, 30, 0, 6);
	assert_int_equal(virtq_ready(b.vq), 0);
	assert_false(fetch(&b, VIRTQ_READABLE));
	packed_show(&b.p);
	assert_true(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(b.chain.len, 30);
	assert_true(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(b.chain.id, 6);
	close_bench(&b);
}

/* The id of a list is in its last descriptor (virtio 1.2, 2.8.6). */
static void the_last_descriptor_has_the_id(void **state)
{
	struct vring_used_elem e = {0};
	struct bench b;

	(void)state;
	open_packed_bench(&b, 8, PACKED_START);
	packed_put(&b.p, BUFFER, 10, NEXT, 1);
	packed_put(&b.p, BUFFER, 10, NEXT, 2);
	packed_put(&b.p, BUFFER, 10, 0, 3);
	packed_show(&b.p);
	assert_true(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(b.chain.id, 3);
	complete_chain(&b, 0);
	publish(&b);
	assert_true(packed_take(&b.p, &e));
	assert_int_equal(e.id, 3);
	assert_int_equal(b.p.taken, 3 | PACKED_WRAP);
	close_bench(&b);
}

static void buffers_and_tables_may_cross_regions(void **state)
{
	static const struct {
		uint64_t table, buffer;
		uint32_t len;
		unsigned pieces;
		const char *why;
	} row[] = {
		{0, BORDER - 1, 1, 1, "up to the border"},
		{0, BORDER, 100, 1, "from the border on"},
		{0, BORDER - 1, 2, 2, "across it by a byte"},
		{0, BORDER - 700, 1500, 2, "a frame across it"},
		{0, END - 1, 1, 1, "the last byte of memory"},
		{BORDER - 16, BUFFER, 10, 1, "a table across the border, between entries"},
		{BORDER - 8, BORDER - 5, 10, 2, "inside the first entry"},
		{BORDER - 31, BORDER - 5, 10, 2, "inside the second entry"},
		{END - 32, BUFFER, 10, 1, "a table up to the last byte"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct bench b;

		open_packed_bench(&b, 7, 6);
		if (row[i].table) {
			packed_indirect(&b.p, row[i].table, 0, BUFFER, 7, 0);
			packed_indirect(&b.p, row[i].table, 1, row[i].buffer, row[i].len, 0);
			packed_offer(&b.p, row[i].table, 32, INDIRECT, 0);
		} else {
			packed_put(&b.p, BUFFER, 7, NEXT, 0);
			packed_put(&b.p, row[i].buffer, row[i].len, 0, 0);
			packed_show(&b.p);
		}
		if (!fetch(&b, VIRTQ_READABLE) || b.chain.n_spans != 1 + row[i].pieces || b.chain.len != 7 + row[i].len)
			fail_msg("%s: %u pieces, %u bytes, %s", row[i].why, b.chain.n_spans, b.chain.len,
				 virtq_fault_text(virtq_fault_get(b.vq)));
		check_pieces(&b, 0, BUFFER, 7);
		check_pieces(&b, 1, row[i].buffer, row[i].len);
		close_bench(&b);
	}
}

static void directions_are_checked(void **state)
{
	static const struct {
		const char *parts;
		bool table;
		enum virtq_direction dir;
		enum virtq_fault fault;
		unsigned n_readable;
	} row[] = {
		{"rw", false, VIRTQ_MIXED, VIRTQ_FAULT_NONE, 1},
		{"rrww", true, VIRTQ_MIXED, VIRTQ_FAULT_NONE, 2},
		{"r", false, VIRTQ_MIXED, VIRTQ_FAULT_NONE, 1},
		{"w", false, VIRTQ_MIXED, VIRTQ_FAULT_NONE, 0},
		{"w", true, VIRTQ_MIXED, VIRTQ_FAULT_NONE, 0},
		{"rwr", false, VIRTQ_MIXED, VIRTQ_FAULT_DIRECTION, 0},
		{"wr", true, VIRTQ_MIXED, VIRTQ_FAULT_DIRECTION, 0},
		{"w", false, VIRTQ_READABLE, VIRTQ_FAULT_DIRECTION, 0},
		{"rw", false, VIRTQ_READABLE, VIRTQ_FAULT_DIRECTION, 0},
		{"r", false, VIRTQ_WRITABLE, VIRTQ_FAULT_DIRECTION, 0},
		{"wr", false, VIRTQ_WRITABLE, VIRTQ_FAULT_DIRECTION, 0},
		{"wr", true, VIRTQ_WRITABLE, VIRTQ_FAULT_DIRECTION, 0},
		{"r", true, VIRTQ_WRITABLE, VIRTQ_FAULT_DIRECTION, 0},
		/* in a sender's table DPDK marks the header as writable: it is read all the same */
		{"wr", true, VIRTQ_READABLE, VIRTQ_FAULT_NONE, 2},
		{"w", true, VIRTQ_READABLE, VIRTQ_FAULT_NONE, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		unsigned n = (unsigned)strlen(row[i].parts);
		struct bench b;

		open_packed_bench(&b, 7, 5);
		for (unsigned k = 0; k < n; k++) {
			unsigned flags = row[i].parts[k] == 'w' ? WRITE : 0;

			if (row[i].table)
				packed_indirect(&b.p, TABLE, k, BUFFER, 8, flags);
			else
				packed_put(&b.p, BUFFER, 8, flags | (k < n - 1 ? NEXT : 0), 0);
		}
		if (row[i].table)
			packed_put(&b.p, TABLE, 16 * n, INDIRECT | (i % 2 ? WRITE : 0), 0);
		packed_show(&b.p);
		if (fetch(&b, row[i].dir) != (row[i].fault == VIRTQ_FAULT_NONE) ||
		    virtq_fault_get(b.vq) != row[i].fault)
			fail_msg("row %zu: %s", i, virtq_fault_text(virtq_fault_get(b.vq)));
		if (row[i].fault == VIRTQ_FAULT_NONE) {
			assert_int_equal(b.chain.n_spans, n);
			assert_int_equal(b.chain.n_readable, row[i].n_readable);
		}
		close_bench(&b);
	}
}

/* ---- laps ---- */

struct journey {
	struct bench b;
	unsigned random;
	unsigned offered, taken; /* chains; number i has i % PACKED_IDS as its id and 1000 + i % 1000 bytes written */
	unsigned in_flight;      /* descriptors */
};

static unsigned any_below(struct journey *j, unsigned n)
{
	j->random = j->random * 1664525 + 1013904223;
	return (j->random >> 8) % n;
}

static void offer_some(struct journey *j)
{
	uint16_t size = j->b.p.size;

	for (unsigned room = size - j->in_flight; room && any_below(j, 4); room = size - j->in_flight) {
		unsigned n = 1 + any_below(j, room < 4 ? room : 4);

		for (unsigned k = 0; k < n; k++)
			packed_put(&j->b.p, BUFFER, 100, WRITE | (k < n - 1 ? NEXT : 0), j->offered % PACKED_IDS);
		j->in_flight += n;
		j->offered++;
	}
	packed_show(&j->b.p);
}

/* Fetch some, give some of them back, complete the others. */
static void serve_some(struct journey *j)
{
	struct virtq_chain chain[16];
	struct virtq_batch batch = {.chain = chain, .max = 1 + any_below(j, 16), .span = j->b.span};

	batch.max_spans = ARRAY_SIZE(j->b.span);
	for (unsigned n = 1; n && batch.n < batch.max;)
		n = virtq_fetch(j->b.vq, VIRTQ_WRITABLE, &batch);
	if (batch.n)
		virtq_unfetch(j->b.vq, &batch, any_below(j, batch.n + 1));
	for (unsigned i = 0; i < batch.n; i++) {
		virtq_complete(j->b.vq, &chain[i], 1000 + j->b.done % 1000, false);
		j->b.done++;
	}
	if (any_below(j, 3))
		publish(&j->b);
}

static void take_some(struct journey *j)
{
	struct vring_used_elem e = {0};

	while (any_below(j, 8) && packed_take(&j->b.p, &e)) {
		assert_int_equal(e.id, j->taken % PACKED_IDS);
		assert_int_equal(e.len, 1000 + (uint16_t)j->taken % 1000);
		j->in_flight -= j->b.p.n_desc[e.id];
		j->taken++;
	}
}

static void chains_go_round_and_round(void **state)
{
	static const uint16_t size[] = {1, 2, 3, 7, 8, 16, 17, 300};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(size); i++) {
		struct journey j = {.random = (unsigned)i};

		open_packed_bench(&j.b, size[i], PACKED_START);
		/* over 65535 chains, so that sequence numbers wrap as well */
		while (j.taken < 70000) {
			offer_some(&j);
			serve_some(&j);
			take_some(&j);
			assert_int_equal(virtq_fault_get(j.b.vq), VIRTQ_FAULT_NONE);
		}
		close_bench(&j.b);
	}
}

static void a_position_is_told_for_both_directions(void **state)
{
	struct bench b;

	(void)state;
	open_packed_bench(&b, 3, 2);
	assert_int_equal(virtq_base(b.vq), 0x00020002);
	for (unsigned i = 0; i < 3; i++)
		packed_offer(&b.p, BUFFER, 10, 0, i);
	assert_true(fetch(&b, VIRTQ_READABLE));
	complete_chain(&b, 0);
	assert_true(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_base(b.vq), 0x00028001);
	publish(&b);
	assert_int_equal(virtq_base(b.vq), 0x80008001);
	close_bench(&b);
}

/* ---- frames in several buffers ---- */

struct watched {
	struct bench b;
	unsigned frames, chains; /* in a round; of each frame */
	unsigned rounds;
	_Atomic unsigned start, done;
	atomic_bool torn;
};

#define WATCHED_BUFFERS 200000 /* in all rounds */

/* Is the descriptor @n on used? */
static bool is_used_on(struct packed_driver *p, unsigned n)
{
	struct packed_driver at = {.size = p->size, .ring = p->ring, .taken = packed_on(p, p->taken, n)};

	return packed_is_used(&at);
}

/* Look at one frame after another, as drivers do: as soon as its first buffer is used, the others are. */
static void watch_round(struct watched *w)
{
	for (unsigned i = 0; i < w->frames * w->chains; i += w->chains) {
		while (!is_used_on(&w->b.p, i))
			wait_a_turn();
		if (!is_used_on(&w->b.p, i + w->chains - 1) || !is_used_on(&w->b.p, i + w->chains / 2))
			atomic_store(&w->torn, true);
	}
}

static void *watch_frames(void *arg)
{
	struct watched *w = arg;
	struct vring_used_elem e;

	for (unsigned round = 1; round <= w->rounds; round++) {
		while (atomic_load(&w->start) < round)
			wait_a_turn();
		watch_round(w);
		for (unsigned i = 0; i < w->frames * w->chains; i++)
			while (!packed_take(&w->b.p, &e))
				wait_a_turn();
		atomic_store(&w->done, round);
	}
	return NULL;
}

static void serve_watched(struct watched *w, unsigned round)
{
	for (unsigned i = 0; i < w->frames * w->chains; i++)
		packed_put(&w->b.p, BUFFER, 100, WRITE, i);
	packed_show(&w->b.p);
	for (unsigned i = 0; i < w->frames * w->chains; i++) {
		assert_true(fetch(&w->b, VIRTQ_WRITABLE));
		virtq_complete(w->b.vq, &w->b.chain, 100, (i + 1) % w->chains != 0);
	}
	w->b.done = (uint16_t)(w->b.done + w->frames * w->chains);
	atomic_store(&w->start, round);
	publish(&w->b);
	while (atomic_load(&w->done) < round)
		wait_a_turn();
}

static void the_driver_sees_whole_frames_only(void **state)
{
	/* the journal holds 256 entries: in the last rows what is published does not fit into it at once */
	static const struct {
		uint16_t size;
		unsigned frames, chains;
	} row[] = {{3, 1, 2}, {7, 1, 7}, {300, 3, 45}, {300, 2, 150}, {512, 3, 170}, {257, 1, 256}, {512, 2, 256}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct watched w = {.frames = row[i].frames, .chains = row[i].chains};
		pthread_t thread;

		w.rounds = WATCHED_BUFFERS / (w.frames * w.chains);
		open_packed_bench(&w.b, row[i].size, PACKED_START);
		assert_int_equal(pthread_create(&thread, NULL, watch_frames, &w), 0);
		for (unsigned round = 1; round <= w.rounds; round++)
			serve_watched(&w, round);
		pthread_join(thread, NULL);
		if (atomic_load(&w.torn))
			fail_msg("%u frames of %u buffers: a part was seen", row[i].frames, row[i].chains);
		close_bench(&w.b);
	}
}

static void what_is_completed_shows_when_it_is_published(void **state)
{
	struct vring_used_elem e = {0};
	struct vring_packed_desc before[7];
	struct bench b;

	(void)state;
	open_packed_bench(&b, 7, 5);
	for (unsigned i = 0; i < 7; i++)
		packed_put(&b.p, BUFFER, 10, WRITE, i);
	packed_show(&b.p);
	memcpy(before, b.p.ring, sizeof(before));
	for (unsigned i = 0; i < 7; i++) {
		assert_true(fetch(&b, VIRTQ_WRITABLE));
		complete_chain(&b, i);
	}
	assert_memory_equal(b.p.ring, before, sizeof(before));
	virtq_publish(b.vq, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(packed_take(&b.p, &e));
		assert_int_equal(e.id, i);
		assert_int_equal(e.len, i);
	}
	assert_false(packed_take(&b.p, &e));
	memcpy(before, b.p.ring, sizeof(before));
	virtq_publish(b.vq, 3); /* nothing new, nothing written */
	assert_memory_equal(b.p.ring, before, sizeof(before));
	publish(&b);
	for (unsigned i = 3; i < 7; i++) {
		assert_true(packed_take(&b.p, &e));
		assert_int_equal(e.id, i);
	}
	close_bench(&b);
}

/* ---- transmitqs: what is returned together ---- */

static unsigned differences(const struct vring_packed_desc *a, const struct vring_packed_desc *b, unsigned n)
{
	unsigned changed = 0;

	for (unsigned i = 0; i < n; i++)
		changed += memcmp(&a[i], &b[i], sizeof(a[i])) != 0;
	return changed;
}

static void open_returning(struct bench *b, bool in_order, uint16_t size, uint16_t start)
{
	struct virtq_conf c;

	open_packed_bench(b, size, start);
	driver_stop(b->vq);
	b->p.in_order = in_order;
	c = packed_conf(&b->p);
	b->vq = driver_start(&c);
}

static void chains_are_returned_one_by_one_or_in_order(void **state)
{
	/* @n chains of @descs descriptors each */
	static const struct {
		uint16_t size, start;
		unsigned n, descs;
	} row[] = {
		{3, PACKED_START, 3, 1},
		{3, 2, 3, 1},
		{7, 6 | PACKED_WRAP, 2, 3},
		{7, 3, 1, 7},
		{300, 299, 64, 4},
		{1, 0, 1, 1},
		{300, 7 | PACKED_WRAP, 1, 1},
		{512, 300, 512, 1},
		{257, PACKED_START, 257, 1},
		{512, PACKED_START, 256, 2},
	};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(row); i++) {
		unsigned r = (unsigned)i / 2, n = row[r].n;
		bool in_order = i % 2;
		struct vring_packed_desc before[512];
		struct virtq_chain chain[512];
		struct vring_used_elem e = {0};
		struct bench b;

		open_returning(&b, in_order, row[r].size, row[r].start);
		for (unsigned lap = 0; lap < 5; lap++) {
			for (unsigned k = 0; k < n * row[r].descs; k++)
				packed_put(&b.p, BUFFER, 10, (k + 1) % row[r].descs ? NEXT : 0, k / row[r].descs);
			packed_show(&b.p);
			for (unsigned k = 0; k < n; k++, chain[k - 1] = b.chain)
				assert_true(fetch(&b, VIRTQ_READABLE));
			memcpy(before, b.p.ring, 16 * (size_t)row[r].size);
			virtq_return(b.vq, chain, n);
			assert_int_equal(differences(before, b.p.ring, row[r].size), in_order ? 1 : n);
			for (unsigned k = 0; k < n; k++) {
				assert_true(packed_take(&b.p, &e));
				assert_int_equal(e.id, k);
				assert_int_equal(e.len, 0);
			}
			assert_false(packed_take(&b.p, &e));
			assert_int_equal(virtq_base(b.vq), (uint32_t)b.p.next << 16 | b.p.next);
		}
		close_bench(&b);
	}
}

/* ---- start ---- */

static void rings_are_checked_before_they_start(void **state)
{
	/* Memory of 64 KiB. */
	static const struct {
		uint64_t size;
		uint64_t ring, driver, device; /* offsets in memory */
		uint16_t base;
		bool good;
		const char *why;
	} row[] = {
		{8, 0, 0x1000, 0x2000, PACKED_START, true, "a good one"},
		{1, 0, 0x1000, 0x2000, 0, true, "of one entry"},
		{3, 0, 0x1000, 0x2000, 2, true, "no power of two, at its end"},
		{300, 0, 0x2000, 0x3000, 299 | PACKED_WRAP, true, "the same of 300"},
		{0, 0, 0x1000, 0x2000, 0, false, "no entries"},
		{32769, 0, 0x1000, 0x2000, 0, false, "more than there may be"},
		{32768, 0, 0x1000, 0x2000, 0, false, "allowed, but longer than memory"},
		{8, 8, 0x1000, 0x2000, 0, false, "descriptors not aligned to 16"},
		{8, 0, 0x1002, 0x2000, 0, false, "the driver's events not aligned to 4"},
		{8, 0, 0x1004, 0x2000, 0, true, "but that is enough"},
		{8, 0, 0x1000, 0x2002, 0, false, "the device's events not aligned to 4"},
		{8, 0x10000 - 8 * 16, 0x1000, 0x2000, 0, true, "descriptors at the end of memory"},
		{8, 0x10000 - 7 * 16, 0x1000, 0x2000, 0, false, "and one too far"},
		{8, 0, 0x10000 - 4, 0x2000, 0, true, "the driver's events at the end"},
		{8, 0, 0x10000, 0x2000, 0, false, "and behind it"},
		{8, 0, 0x1000, 0x10000 - 4, 0, true, "the device's events at the end"},
		{8, 0, 0x1000, 0x10000, 0, false, "and behind it"},
		{8, 0, 0x1000, 0x2000, 7, true, "a base inside"},
		{8, 0, 0x1000, 0x2000, 8, false, "a base behind the ring"},
		{8, 0, 0x1000, 0x2000, 8 | PACKED_WRAP, false, "the same, wrapped"},
		{3, 0, 0x1000, 0x2000, 0x7fff, false, "a base far outside"},
	};
	struct ram r;

	(void)state;
	ram_init(&r, 0x10000, 1);
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct virtq_conf c = {
			.mem = r.gmem,
			.size = (uint16_t)row[i].size,
			.packed = true,
			.desc.v = RAM_UVA + row[i].ring,
			.avail.v = RAM_UVA + row[i].driver,
			.used.v = RAM_UVA + row[i].device,
			.base = row[i].base,
		};
		cache_aligned struct virtq vq;
		struct err e = {0};
		int rc = virtq_start(&vq, &c, &e);

		if (rc != (row[i].good ? 0 : -EINVAL) || (rc && !e.text[0]))
			fail_msg("%s: %d %s", row[i].why, rc, e.text);
		if (rc == 0)
			virtq_stop(&vq);
	}
	ram_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_arrive_as_the_driver_built_them),
		cmocka_unit_test(nothing_of_a_list_is_fetched_before_its_first_descriptor_is_shown),
		cmocka_unit_test(the_last_descriptor_has_the_id),
		cmocka_unit_test(buffers_and_tables_may_cross_regions),
		cmocka_unit_test(directions_are_checked),
		cmocka_unit_test(chains_go_round_and_round),
		cmocka_unit_test(a_position_is_told_for_both_directions),
		cmocka_unit_test(the_driver_sees_whole_frames_only),
		cmocka_unit_test(what_is_completed_shows_when_it_is_published),
		cmocka_unit_test(chains_are_returned_one_by_one_or_in_order),
		cmocka_unit_test(rings_are_checked_before_they_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
