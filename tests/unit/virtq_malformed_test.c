/* SPDX-License-Identifier: Apache-2.0 */
/* What is malformed breaks its ring, in a way that can be told, and nothing else. */
#include "virtq_bench.h"

static void jump_ahead(struct driver *d)
{
	d->next += 9;
	driver_show(d);
}

static void go_back(struct driver *d)
{
	d->next--;
	driver_show(d);
}

static void name_a_head_behind_the_table(struct driver *d)
{
	driver_offer(d, 8);
}

static void name_the_highest_head(struct driver *d)
{
	driver_offer(d, 65535);
}

static void point_behind_the_table(struct driver *d)
{
	driver_desc(d, 0, BUFFER, 10, NEXT, 8);
	driver_offer(d, 0);
}

static void point_behind_an_indirect_table(struct driver *d)
{
	driver_indirect(d, TABLE, 0, BUFFER, 10, NEXT, 2);
	driver_offer_buffer(d, 0, TABLE, 32, INDIRECT);
}

static void point_to_itself(struct driver *d)
{
	driver_desc(d, 3, BUFFER, 10, NEXT, 3);
	driver_offer(d, 3);
}

static void point_in_a_circle(struct driver *d)
{
	for (unsigned i = 0; i < 8; i++)
		driver_desc(d, i, BUFFER, 10, NEXT, (i + 1) % 8);
	driver_offer(d, 5);
}

static void point_in_a_circle_in_a_table(struct driver *d)
{
	driver_indirect(d, TABLE, 0, BUFFER, 10, NEXT, 1);
	driver_indirect(d, TABLE, 1, BUFFER, 10, NEXT, 0);
	driver_offer_buffer(d, 0, TABLE, 32, INDIRECT);
}

static void nest_a_table(struct driver *d)
{
	driver_indirect(d, TABLE, 0, TABLE, 16, INDIRECT, 0);
	driver_offer_buffer(d, 0, TABLE, 16, INDIRECT);
}

static void go_on_behind_a_table(struct driver *d)
{
	driver_indirect(d, TABLE, 0, BUFFER, 10, 0, 0);
	driver_desc(d, 1, BUFFER, 10, 0, 0);
	driver_desc(d, 0, TABLE, 16, INDIRECT | NEXT, 1);
	driver_offer(d, 0);
}

static void give_an_empty_table(struct driver *d)
{
	driver_offer_buffer(d, 0, TABLE, 0, INDIRECT);
}

static void give_a_table_of_half_an_entry(struct driver *d)
{
	driver_offer_buffer(d, 0, TABLE, 8, INDIRECT);
}

static void give_a_table_and_a_half(struct driver *d)
{
	driver_indirect(d, TABLE, 0, BUFFER, 10, 0, 0);
	driver_offer_buffer(d, 0, TABLE, 24, INDIRECT);
}

static void give_a_table_longer_than_the_ring(struct driver *d)
{
	driver_indirect(d, TABLE, 0, BUFFER, 10, 0, 0);
	driver_offer_buffer(d, 0, TABLE, 9 * 16, INDIRECT);
}

static void give_a_table_of_4_gib(struct driver *d)
{
	driver_indirect(d, TABLE, 0, BUFFER, 10, 0, 0);
	driver_offer_buffer(d, 0, TABLE, 0xfffffff0, INDIRECT);
}

static void lend_what_is_no_memory(struct driver *d)
{
	driver_offer_buffer(d, 0, RAM_GPA - 1, 10, 0);
}

static void lend_a_byte_too_many(struct driver *d)
{
	driver_offer_buffer(d, 0, END - 10, 11, 0);
}

static void lend_what_wraps_around(struct driver *d)
{
	driver_offer_buffer(d, 0, UINT64_MAX - 3, 100, 0);
}

static void put_the_table_nowhere(struct driver *d)
{
	driver_offer_buffer(d, 0, END, 16, INDIRECT);
}

static void put_half_the_table_nowhere(struct driver *d)
{
	driver_indirect(d, END - 16, 0, BUFFER, 10, NEXT, 1);
	driver_offer_buffer(d, 0, END - 16, 32, INDIRECT);
}

static void lend_a_writable_buffer(struct driver *d)
{
	driver_offer_buffer(d, 0, BUFFER, 10, WRITE);
}

static void turn_writable(struct driver *d)
{
	driver_desc(d, 0, BUFFER, 10, NEXT, 1);
	driver_desc(d, 1, BUFFER, 10, WRITE, 0);
	driver_offer(d, 0);
}

static void lend_nothing(struct driver *d)
{
	driver_offer_buffer(d, 0, BUFFER, 0, 0);
}

static void lend_nothing_at_the_end(struct driver *d)
{
	driver_desc(d, 0, BUFFER, 10, NEXT, 1);
	driver_desc(d, 1, BUFFER, 0, 0, 0);
	driver_offer(d, 0);
}

static void malformed_rings_are_told_apart_and_stay_broken(void **state)
{
	static const struct {
		void (*build)(struct driver *d);
		enum virtq_fault fault;
	} row[] = {
		{jump_ahead, VIRTQ_FAULT_AVAIL_INDEX},
		{go_back, VIRTQ_FAULT_AVAIL_INDEX},
		{name_a_head_behind_the_table, VIRTQ_FAULT_HEAD},
		{name_the_highest_head, VIRTQ_FAULT_HEAD},
		{point_behind_the_table, VIRTQ_FAULT_NEXT},
		{point_behind_an_indirect_table, VIRTQ_FAULT_NEXT},
		{point_to_itself, VIRTQ_FAULT_LOOP},
		{point_in_a_circle, VIRTQ_FAULT_LOOP},
		{point_in_a_circle_in_a_table, VIRTQ_FAULT_LOOP},
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
		{turn_writable, VIRTQ_FAULT_DIRECTION},
		{lend_nothing, VIRTQ_FAULT_EMPTY},
		{lend_nothing_at_the_end, VIRTQ_FAULT_EMPTY},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct bench b;

		open_bench(&b, 8, 100);
		row[i].build(&b.d);
		assert_false(fetch(&b, VIRTQ_READABLE));
		if (virtq_fault_get(b.vq) != row[i].fault)
			fail_msg("row %zu: %s instead of %s", i, virtq_fault_text(virtq_fault_get(b.vq)),
				 virtq_fault_text(row[i].fault));

		/* A driver that repents, and one that goes on, change nothing. */
		b.d.next = 100;
		driver_offer_buffer(&b.d, 0, BUFFER, 10, 0);
		assert_false(fetch(&b, VIRTQ_READABLE));
		assert_false(virtq_notify_on(b.vq));
		jump_ahead(&b.d);
		assert_false(fetch(&b, VIRTQ_READABLE));
		virtq_break(b.vq, VIRTQ_FAULT_TRUNCATED);
		assert_int_equal(virtq_fault_get(b.vq), row[i].fault);
		assert_int_equal(b.d.used->idx, 100);
		close_bench(&b);
	}
}

static void a_chain_must_fit_into_its_pieces_and_32_bits(void **state)
{
	struct ram big;
	struct bench b;

	(void)state;
	open_bench(&b, 8, 0);
	for (unsigned i = 0; i < 4; i++)
		driver_desc(&b.d, i, BORDER - 1, 2, i < 3 ? NEXT : 0, i + 1);
	driver_put(&b.d, 0);
	driver_put(&b.d, 0);
	driver_show(&b.d);
	assert_true(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(b.chain.n_spans, 8);
	/* a second one is not begun when the longest chain might not fit: it waits for the next batch */
	assert_int_equal(virtq_fetch(b.vq, VIRTQ_READABLE,
				     &(struct virtq_batch){.chain = &b.chain,
							   .max = 1,
							   .span = b.span,
							   .n_spans = 1,
							   .max_spans = VIRTQ_CHAIN_SPANS}),
			 0);
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_NONE);
	assert_true(fetch(&b, VIRTQ_READABLE));
	close_bench(&b);

	/* 3 GiB, of which nothing is touched */
	open_bench(&b, 8, 0);
	ram_init(&big, UINT64_C(3) << 30, 1);
	b.vq->mem = big.gmem;
	driver_desc(&b.d, 0, RAM_GPA, 0xc0000000, NEXT, 1);
	driver_desc(&b.d, 1, RAM_GPA, 0x3fffffff, 0, 0);
	driver_put(&b.d, 0);
	driver_show(&b.d);
	assert_true(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(b.chain.len, UINT32_MAX);
	driver_desc(&b.d, 1, RAM_GPA, 0x40000000, 0, 0);
	driver_offer(&b.d, 0);
	assert_false(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_LENGTH);
	ram_fini(&big);
	close_bench(&b);
}

static void tables_are_refused_unless_negotiated(void **state)
{
	struct bench b;

	(void)state;
	open_bench(&b, 8, 0);
	b.vq->indirect = false;
	driver_indirect(&b.d, TABLE, 0, BUFFER, 10, 0, 0);
	driver_offer_buffer(&b.d, 0, TABLE, 16, INDIRECT);
	assert_false(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_INDIRECT_UNASKED);
	close_bench(&b);
}

/* A ring of the greatest size with the longest loop there can be: the fetch ends, and after as many pieces as it was
 * lent. */
static void work_for_one_chain_is_bounded(void **state)
{
	struct bench b;

	(void)state;
	ram_init(&b.ram, 4 * PART, 1);
	driver_init(&b.d, &b.ram, VIRTQ_SIZE_MAX, 0);
	{
		struct virtq_conf c = driver_conf(&b.d);

		b.vq = driver_start(&c);
	}
	for (unsigned i = 0; i < VIRTQ_SIZE_MAX; i++)
		driver_desc(&b.d, i, RAM_GPA, 1, NEXT, (i + 1) % VIRTQ_SIZE_MAX);
	driver_offer(&b.d, 0);
	assert_false(fetch(&b, VIRTQ_READABLE));
	assert_int_equal(virtq_fault_get(b.vq), VIRTQ_FAULT_PIECES);
	assert_int_equal(b.chain.n_spans, VIRTQ_CHAIN_SPANS);
	close_bench(&b);
}

static void each_fault_has_a_text_of_its_own(void **state)
{
	(void)state;
	for (int f = 0; f < VIRTQ_FAULT_N; f++) {
		assert_non_null(virtq_fault_text((enum virtq_fault)f));
		for (int g = 0; g < f; g++)
			assert_string_not_equal(virtq_fault_text((enum virtq_fault)f),
						virtq_fault_text((enum virtq_fault)g));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(malformed_rings_are_told_apart_and_stay_broken),
		cmocka_unit_test(a_chain_must_fit_into_its_pieces_and_32_bits),
		cmocka_unit_test(tables_are_refused_unless_negotiated),
		cmocka_unit_test(work_for_one_chain_is_bounded),
		cmocka_unit_test(each_fault_has_a_text_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
