/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver built is what the device sees, and the reverse. */
#include <errno.h>

#include "virtq_bench.h"

/* ---- well-formed chains ---- */

/* Do the pieces join up to @len bytes from @gpa on, and point to them? Returns how many pieces that takes. */
static unsigned check_pieces(const struct bench *b, unsigned first, uint64_t gpa, uint32_t len)
{
	unsigned i = first;

	for (; len; i++) {
		assert_true(i < b->chain.n_spans);
		assert_int_equal(b->span[i].gpa.v, gpa);
		assert_in_range(b->span[i].len, 1, len);
		/* the test's mapping and virtq's are different ones of the same memory */
		*(uint8_t *)ram_at(&b->ram, gpa) ^= 0xff;
		assert_int_equal(*b->span[i].p, *(uint8_t *)ram_at(&b->ram, gpa));
		gpa += b->span[i].len;
		len -= b->span[i].len;
	}
	return i - first;
}

static void chains_arrive_as_the_driver_built_them(void **state)
{
	static const struct {
		unsigned n_direct, n_indirect; /* descriptors before the table, and in it */
		const char *why;
	} row[] = {
		{1, 0, "one descriptor"},          {2, 0, "two"},
		{8, 0, "all of the table"},        {0, 1, "a table of one"},
		{0, 8, "as long as the ring"},     {3, 4, "a table after direct descriptors"},
		{7, 8, "as much as there can be"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		for (int writable = 0; writable < 2; writable++) {
			unsigned n_direct = row[i].n_direct, n_indirect = row[i].n_indirect;
			unsigned dir = writable ? WRITE : 0, n = n_direct + n_indirect, at = 0;
			struct bench b;

			open_bench(&b, 8, 0);
			/* from the last entry of the descriptor table backwards: order is by NEXT, not by place */
			for (unsigned k = 0; k < n_direct; k++)
				driver_desc(&b.d, 7 - k, BUFFER + UINT64_C(1000) * k, 100u + k,
					    k == n - 1 ? dir : dir | NEXT, 6 - k);
			if (n_indirect)
				driver_desc(&b.d, 7 - n_direct, TABLE, 16u * n_indirect, INDIRECT, 0);
			for (unsigned k = 0; k < n_indirect; k++)
				driver_indirect(&b.d, TABLE, k ? n_indirect - k : 0,
						BUFFER + UINT64_C(1000) * (n_direct + k), 100u + n_direct + k,
						k == n_indirect - 1 ? dir : dir | NEXT, n_indirect - 1 - k);
			driver_offer(&b.d, 7);
			assert_int_equal(virtq_ready(b.vq), 1);
			if (!fetch(&b, writable ? VIRTQ_WRITABLE : VIRTQ_READABLE))
				fail_msg("%s: %s", row[i].why, virtq_fault_text(virtq_fault_get(b.vq)));
			assert_int_equal(b.chain.id, 7);
			assert_int_equal(b.chain.n_spans, n);
			assert_int_equal(b.chain.n_readable, writable ? 0 : n);
			assert_int_equal(b.chain.len, 100u * n + n * (n - 1u) / 2);
			for (unsigned k = 0; k < n; k++)
				at += check_pieces(&b, at, BUFFER + UINT64_C(1000) * k, 100 + k);
			assert_int_equal(virtq_ready(b.vq), 0);
			assert_false(fetch(&b, VIRTQ_READABLE));
			assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
			close_bench(&b);
		}
}

/* virtio 1.2, 2.7.5.3.2: the device ignores the write flag of a descriptor that refers to a table. */
static void the_write_flag_of_a_table_means_nothing(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 8, 0);
	driver_indirect(&b.d, TABLE, 0, BUFFER, 10, 0, 0);
	driver_offer_buffer(&b.d, 0, TABLE, 16, INDIRECT | WRITE);
	assert_true(fetch(&b, VIRTQ_READABLE));
	driver_indirect(&b.d, TABLE, 0, BUFFER, 10, WRITE, 0);
	driver_offer_buffer(&b.d, 0, TABLE, 16, INDIRECT);
	assert_true(fetch(&b, VIRTQ_WRITABLE));
	close_bench(&b);
}

static void commands_have_a_readable_and_a_writable_part(void **state)
{
	static const struct {
		const char *parts;
		enum virtq_fault fault;
		unsigned n_readable;
	} row[] = {
		{"rw", VIRTQ_FAULT_NONE, 1},       {"rrw", VIRTQ_FAULT_NONE, 2},     {"rrww", VIRTQ_FAULT_NONE, 2},
		{"r", VIRTQ_FAULT_NONE, 1},        {"rr", VIRTQ_FAULT_NONE, 2},      {"w", VIRTQ_FAULT_NONE, 0},
		{"rwr", VIRTQ_FAULT_DIRECTION, 0}, {"wr", VIRTQ_FAULT_DIRECTION, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		for (int indirect = 0; indirect < 2; indirect++) {
			unsigned n = (unsigned)strlen(row[i].parts);
			struct bench b;

			open_bench(&b, 8, 0);
			for (unsigned k = 0; k < n; k++) {
				unsigned flags = (row[i].parts[k] == 'w' ? WRITE : 0) | (k < n - 1 ? NEXT : 0);

				if (indirect)
					driver_indirect(&b.d, TABLE, k, BUFFER, 8, flags, k + 1);
				else
					driver_desc(&b.d, k, BUFFER, 8, flags, k + 1);
			}
			if (indirect)
				driver_desc(&b.d, 0, TABLE, 16u * n, INDIRECT, 0);
			driver_offer(&b.d, 0);
			if (fetch(&b, VIRTQ_MIXED) != (row[i].fault == VIRTQ_FAULT_NONE) ||
			    virtq_fault_get(b.vq) != row[i].fault)
				fail_msg("%s: %s", row[i].parts, virtq_fault_text(virtq_fault_get(b.vq)));
			if (row[i].fault == VIRTQ_FAULT_NONE) {
				assert_int_equal(b.chain.n_spans, n);
				assert_int_equal(b.chain.n_readable, row[i].n_readable);
			}
			close_bench(&b);
		}
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

		open_bench(&b, 8, 0);
		if (row[i].table) {
			driver_indirect(&b.d, row[i].table, 0, BUFFER, 7, NEXT, 1);
			driver_indirect(&b.d, row[i].table, 1, row[i].buffer, row[i].len, 0, 0);
			driver_desc(&b.d, 0, row[i].table, 32, INDIRECT, 0);
		} else {
			driver_desc(&b.d, 0, BUFFER, 7, NEXT, 1);
			driver_desc(&b.d, 1, row[i].buffer, row[i].len, 0, 0);
		}
		driver_offer(&b.d, 0);
		if (!fetch(&b, VIRTQ_READABLE) || b.chain.n_spans != 1 + row[i].pieces || b.chain.len != 7 + row[i].len)
			fail_msg("%s: %u pieces, %u bytes, %s", row[i].why, b.chain.n_spans, b.chain.len,
				 virtq_fault_text(virtq_fault_get(b.vq)));
		check_pieces(&b, 0, BUFFER, 7);
		check_pieces(&b, 1, row[i].buffer, row[i].len);
		close_bench(&b);
	}
}

/* ---- indices ---- */

static void the_available_index_is_believed_within_the_rings_size(void **state)
{
	static const struct {
		uint16_t start, idx;
		int ready; /* -1: a fault */
	} row[] = {
		{0, 0, 0},     {0, 1, 1},      {0, 8, 8},          {0, 9, -1},        {0, 65535, -1},
		{100, 99, -1}, {100, 108, 8},  {100, 109, -1},     {65535, 65535, 0}, {65535, 0, 1},
		{65535, 7, 8}, {65535, 8, -1}, {65535, 65534, -1}, {32768, 0, -1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct bench b;
		unsigned ready;

		open_bench(&b, 8, row[i].start);
		b.d.next = row[i].idx;
		driver_show(&b.d);
		ready = virtq_ready(b.vq);
		if ((virtq_fault_get(b.vq) == VIRTQ_FAULT_AVAIL_INDEX) != (row[i].ready < 0) ||
		    (row[i].ready >= 0 && ready != (unsigned)row[i].ready))
			fail_msg("from %u to %u: %u ready", row[i].start, row[i].idx, ready);
		close_bench(&b);
	}
}

static void a_ring_resumes_where_its_used_index_stands(void **state)
{
	struct vring_used_elem e = {0};
	struct bench b;
	struct virtq_conf c;

	(void)state;
	open_bench(&b, 8, 65533);
	driver_desc(&b.d, 5, BUFFER, 10, 0, 0);
	for (int i = 0; i < 6; i++)
		driver_put(&b.d, 5);
	driver_show(&b.d);
	for (int i = 0; i < 4; i++)
		assert_true(fetch(&b, VIRTQ_READABLE));
	b.chain.seq = 65533; /* the first one is done */
	complete_chain(&b, 0);
	publish(&b);
	assert_int_equal(virtq_base(b.vq), 1); /* the next to fetch: 65533 + 4 */

	/* three were fetched and never completed: they come again */
	c = driver_conf(&b.d);
	driver_stop(b.vq);
	b.vq = driver_start(&c);
	assert_int_equal(virtq_base(b.vq), 65534);
	assert_int_equal(virtq_ready(b.vq), 5);
	for (int i = 0; i < 5; i++) {
		assert_true(fetch(&b, VIRTQ_READABLE));
		complete_chain(&b, 0);
	}
	publish(&b);
	for (int i = 0; i < 6; i++) {
		assert_true(driver_take(&b.d, &e));
		assert_int_equal(e.id, 5);
	}
	assert_false(driver_take(&b.d, &e));
	close_bench(&b);
}

static void what_is_unfetched_comes_again(void **state)
{
	struct virtq_chain chain[3];
	struct virtq_batch three = {.chain = chain, .max = 3};
	struct bench b;

	(void)state;
	open_bench(&b, 8, 65535);
	three.span = b.span;
	three.max_spans = VIRTQ_CHAIN_SPANS + 2;
	for (unsigned i = 0; i < 4; i++) {
		driver_desc(&b.d, i, BUFFER + i, 10, 0, 0);
		driver_put(&b.d, i);
	}
	driver_show(&b.d);
	assert_int_equal(virtq_fetch(b.vq, VIRTQ_READABLE, &three), 3);
	virtq_unfetch(b.vq, &three, 2);
	assert_int_equal(three.n, 1);
	assert_int_equal(three.n_spans, 1);
	assert_int_equal(virtq_ready(b.vq), 3);
	for (unsigned i = 1; i < 4; i++) {
		assert_true(fetch(&b, VIRTQ_READABLE));
		assert_int_equal(b.chain.id, i);
	}
	assert_false(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
	close_bench(&b);
}

static void what_is_completed_shows_when_it_is_published(void **state)
{
	struct vring_used_elem e = {0};
	uint16_t expected = 65530;
	struct bench b;

	(void)state;
	open_bench(&b, 8, 65530);
	for (unsigned i = 0; i < 8; i++)
		driver_desc(&b.d, i, BUFFER, 10, WRITE, 0);
	/* 1 to 8 at a time, over the ring's end and over 65535 */
	for (unsigned round = 0; round < 40; round++) {
		unsigned n = 1 + round % 8;

		for (unsigned i = 0; i < n; i++)
			driver_put(&b.d, 7 - i);
		driver_show(&b.d);
		for (unsigned i = 0; i < n; i++) {
			assert_true(fetch(&b, VIRTQ_WRITABLE));
			complete_chain(&b, 100 * round + i);
		}
		assert_int_equal(b.d.used->idx, expected);
		publish(&b);
		expected = (uint16_t)(expected + n);
		assert_int_equal(b.d.used->idx, expected);
		for (unsigned i = 0; i < n; i++) {
			assert_true(driver_take(&b.d, &e));
			assert_int_equal(e.id, 7 - i);
			assert_int_equal(e.len, 100 * round + i);
		}
		/* nothing new: used->idx is not written again */
		b.d.used->idx = 4711;
		publish(&b);
		assert_int_equal(b.d.used->idx, 4711);
		b.d.used->idx = expected;
	}
	close_bench(&b);
}

/* ---- start ---- */

static void rings_are_checked_before_they_start(void **state)
{
	/* Differences to a good ring of 8 whose parts are 4 KiB apart, in memory of 64 KiB. */
	static const struct {
		uint64_t size;
		uint64_t desc, avail, used; /* offsets in memory */
		bool good;
		const char *why;
	} row[] = {
		{8, 0, 0x1000, 0x2000, true, "a good one"},
		{1, 0, 0x1000, 0x2000, true, "of one entry"},
		{0, 0, 0x1000, 0x2000, false, "no entries"},
		{3, 0, 0x1000, 0x2000, false, "no power of two"},
		{65535, 0, 0x1000, 0x2000, false, "the largest number"},
		{32768, 0, 0x1000, 0x2000, false, "allowed, but longer than memory"},
		{8, 8, 0x1000, 0x2000, false, "descriptors not aligned to 16"},
		{8, 0, 0x1001, 0x2000, false, "avail not aligned to 2"},
		{8, 0, 0x1002, 0x2000, true, "but that is enough"},
		{8, 0, 0x1000, 0x2002, false, "used not aligned to 4"},
		{8, 0, 0x1000, 0x2004, true, "but that is enough"},
		{8, 0x10000 - 8 * 16, 0x1000, 0x2000, true, "descriptors at the end of memory"},
		{8, 0x10000 - 8 * 16 + 16, 0x1000, 0x2000, false, "and one too far"},
		{8, 0, 0x10000 - 22, 0x2000, true, "avail with used_event at the end"},
		{8, 0, 0x10000 - 20, 0x2000, false, "without room for used_event"},
		{8, 0, 0x1000, 0x10000 - 72, true, "used at the end"},
		{8, 0, 0x1000, 0x10000 - 68, false, "without room for avail_event"},
		{8, 0x10000, 0x1000, 0x2000, false, "descriptors outside"},
		{8, UINT64_MAX - 15, 0x1000, 0x2000, false, "right before the beginning"},
	};
	struct ram r;

	(void)state;
	ram_init(&r, 0x10000, 1);
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct virtq_conf c = {
			.mem = r.gmem,
			.size = (uint16_t)row[i].size,
			.desc.v = RAM_UVA + row[i].desc,
			.avail.v = RAM_UVA + row[i].avail,
			.used.v = RAM_UVA + row[i].used,
		};
		cache_aligned struct virtq vq;
		struct err e = {0};
		int rc = virtq_start(&vq, &c, &e);

		if (rc != (row[i].good ? 0 : -EINVAL) || (rc && !e.text[0]))
			fail_msg("%s: %d %s", row[i].why, rc, e.text);
	}
	ram_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chains_arrive_as_the_driver_built_them),
		cmocka_unit_test(the_write_flag_of_a_table_means_nothing),
		cmocka_unit_test(commands_have_a_readable_and_a_writable_part),
		cmocka_unit_test(buffers_and_tables_may_cross_regions),
		cmocka_unit_test(the_available_index_is_believed_within_the_rings_size),
		cmocka_unit_test(a_ring_resumes_where_its_used_index_stands),
		cmocka_unit_test(what_is_unfetched_comes_again),
		cmocka_unit_test(what_is_completed_shows_when_it_is_published),
		cmocka_unit_test(rings_are_checked_before_they_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
