/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>

#include "gmem_files.h"

#define TOP UINT64_MAX

/* ---- the dirty log ---- */

#define LOG_OFFSET 4100 /* not at a page's beginning */
#define LOG_BYTES  6    /* 48 pages: 192 KiB of guest-physical memory */

/* The whole file around the log. */
static const uint8_t *set_log(struct gmem *m)
{
	int fd = new_file(12 * KIB);
	uint8_t *file = mmap(NULL, 12 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct err e = {0};

	assert_ptr_not_equal(file, MAP_FAILED);
	if (gmem_log_set(m, fd, LOG_BYTES, LOG_OFFSET, &e) < 0)
		fail_msg("%s", e.text);
	close(fd);
	return file;
}

static void only_the_pages_written_are_marked(void **state)
{
	static const struct {
		uint64_t gpa, len;
		uint64_t pages; /* bit for bit the log, as a number */
		const char *why;
	} row[] = {
		{0, 1, 1, "the first byte"},
		{PAGE - 1, 1, 1, "the last byte of a page"},
		{PAGE - 1, 2, 3, "two pages"},
		{PAGE, PAGE, 2, "exactly one page"},
		{PAGE, PAGE + 1, 6, "a page and a byte"},
		{7 * PAGE, 2 * PAGE, 3 << 7, "across a byte of the log"},
		{0, 48 * PAGE, 0xffffffffffff, "all of the log"},
		{47 * PAGE, PAGE, UINT64_C(1) << 47, "its last page"},
		{47 * PAGE, 2 * PAGE, UINT64_C(1) << 47, "and one behind it"},
		{48 * PAGE, PAGE, 0, "right behind the log"},
		{UINT64_C(1) << 40, PAGE, 0, "far behind it"},
		{TOP, 1, 0, "the highest address"},
		{TOP - 10, 100, 0, "a length that wraps around"},
		{2 * PAGE, 0, 0, "no bytes"},
		{0, UINT64_C(1) << 32, 0xffffffffffff, "more than the log covers"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct gmem *m = new_map();
		const uint8_t *file = set_log(m);
		uint8_t want[12 * KIB] = {0};

		memcpy(want + LOG_OFFSET, &row[i].pages, LOG_BYTES);
		m->log.on = true;
		for (int twice = 0; twice < 2; twice++) {
			gmem_dirty(m, (gpa_t){row[i].gpa}, row[i].len);
			if (memcmp(file, want, sizeof(want)) != 0)
				fail_msg("%s", row[i].why);
		}
		munmap((void *)file, 12 * KIB);
		gmem_free(m);
	}
	assert_int_equal(count_mappings(), 0);
}

static void nothing_is_marked_while_logging_is_off(void **state)
{
	struct gmem *m = new_map();
	const uint8_t *file = set_log(m);
	uint8_t zero[12 * KIB] = {0};

	(void)state;
	gmem_dirty(m, (gpa_t){0}, 64 * KIB);
	assert_memory_equal(file, zero, sizeof(zero));
	m->log.on = true;
	gmem_log_drop(m);
	gmem_dirty(m, (gpa_t){0}, 64 * KIB); /* on, but there is no log */
	assert_memory_equal(file, zero, sizeof(zero));
	munmap((void *)file, 12 * KIB);
	gmem_free(m);
	assert_int_equal(count_mappings(), 0);
}

static void writing_copies_marks_and_moves_on(void **state)
{
	struct gmem *m = new_map();
	const uint8_t *file = set_log(m);
	struct gspan s;
	uint8_t *p;

	(void)state;
	close(add_new(m, 0, 64 * KIB));
	m->log.on = true;
	s = span_at(m, 2 * PAGE - 3, 10);
	p = s.p;
	gmem_write(m, &s, "abc", 3);
	assert_int_equal(file[LOG_OFFSET], 1 << 1);
	gmem_write(m, &s, "defghij", 7);
	assert_int_equal(file[LOG_OFFSET], 3 << 1);
	assert_memory_equal(p, "abcdefghij", 10);
	assert_ptr_equal(s.p, p + 10);
	assert_int_equal(s.len, 0);
	assert_int_equal(s.gpa.v, 2 * PAGE + 7);
	munmap((void *)file, 12 * KIB);
	gmem_free(m);
}

static void a_log_is_replaced_and_checked_like_a_region(void **state)
{
	struct gmem *m = new_map();
	const uint8_t *old = set_log(m), *new = set_log(m);
	struct err e = {0};
	int fd = new_file(PAGE);

	(void)state;
	m->log.on = true;
	assert_int_equal(gmem_log_set(m, fd, 0, 0, &e), -EINVAL);
	assert_int_equal(gmem_log_set(m, fd, PAGE + 1, 0, &e), -EINVAL);
	assert_int_equal(gmem_log_set(m, fd, 1, PAGE, &e), -EINVAL);
	assert_int_equal(gmem_log_set(m, fd, TOP, 1, &e), -EINVAL);
	assert_int_equal(gmem_log_set(m, -1, 1, 0, &e), -EBADF);
	gmem_dirty(m, (gpa_t){0}, 1);
	assert_int_equal(old[LOG_OFFSET], 0);
	assert_int_equal(new[LOG_OFFSET], 1); /* what failed has left it alone */
	munmap((void *)old, 12 * KIB);
	munmap((void *)new, 12 * KIB);
	assert_int_equal(count_mappings(), 1);
	close(fd);
	gmem_free(m);
	assert_int_equal(count_mappings(), 0);
}

#define MARKED_PAGES 4096
#define MARK_ROUNDS  2000

/* The other one of two threads that begin each round together. */
struct marker {
	struct gmem *m;
	_Atomic unsigned start, done; /* rounds */
};

static void mark_every_second_page(const struct gmem *m, uint64_t first)
{
	for (uint64_t page = first; page < MARKED_PAGES; page += 2)
		gmem_dirty(m, (gpa_t){page << GMEM_LOG_PAGE_BITS}, 1);
}

static void *mark_odd_pages(void *arg)
{
	struct marker *k = arg;

	for (unsigned round = 1; round <= MARK_ROUNDS; round++) {
		while (atomic_load(&k->start) < round)
			cpu_relax();
		mark_every_second_page(k->m, 1);
		atomic_store(&k->done, round);
	}
	return NULL;
}

static void marks_of_two_threads_in_one_byte_are_both_kept(void **state)
{
	struct marker k = {.m = new_map()};
	int fd = new_file(MARKED_PAGES / 8);
	uint8_t *log = mmap(NULL, MARKED_PAGES / 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	pthread_t thread;
	struct err e;

	(void)state;
	assert_int_equal(gmem_log_set(k.m, fd, MARKED_PAGES / 8, 0, &e), 0);
	k.m->log.on = true;
	assert_int_equal(pthread_create(&thread, NULL, mark_odd_pages, &k), 0);
	for (unsigned round = 1; round <= MARK_ROUNDS; round++) {
		memset(log, 0, MARKED_PAGES / 8);
		atomic_store(&k.start, round);
		mark_every_second_page(k.m, 0);
		while (atomic_load(&k.done) < round)
			cpu_relax();
		for (unsigned i = 0; i < MARKED_PAGES / 8; i++)
			if (log[i] != 0xff)
				fail_msg("round %u, byte %u: 0x%x", round, i, log[i]);
	}
	pthread_join(thread, NULL);
	munmap(log, MARKED_PAGES / 8);
	close(fd);
	gmem_free(k.m);
}

/* A migration reads and clears the log while we write: it must find each write, or its mark the next time. */
struct migration {
	struct gmem *m;
	struct gspan page;
	_Atomic uint8_t *log;
	_Atomic unsigned start, done; /* rounds */
};

#define MIGRATION_ROUNDS 1000000

static void *write_in_each_round(void *arg)
{
	struct migration *g = arg;

	for (unsigned round = 1; round <= MIGRATION_ROUNDS; round++) {
		struct gspan at = g->page;

		while (atomic_load(&g->start) < round)
			cpu_relax();
		gmem_write(g->m, &at, &round, sizeof(round));
		atomic_store(&g->done, round);
	}
	return NULL;
}

static void no_write_is_lost_between_two_readings_of_the_log(void **state)
{
	struct migration g = {.m = new_map()};
	int fd = new_file(PAGE);
	pthread_t thread;
	struct err e;

	(void)state;
	close(add_new(g.m, 0, PAGE));
	assert_int_equal(gmem_log_set(g.m, fd, 8, 0, &e), 0);
	g.m->log.on = true;
	g.page = span_at(g.m, 0, sizeof(unsigned));
	g.log = g.m->log.bits;
	assert_int_equal(pthread_create(&thread, NULL, write_in_each_round, &g), 0);
	for (unsigned round = 1; round <= MIGRATION_ROUNDS; round++) {
		unsigned seen;

		atomic_store(g.log, 1); /* marked by a write before */
		atomic_store(&g.start, round);
		atomic_exchange(g.log, 0);
		seen = __atomic_load_n((unsigned *)g.page.p, __ATOMIC_RELAXED);
		while (atomic_load(&g.done) < round)
			cpu_relax();
		if (seen != round && atomic_load(g.log) == 0)
			fail_msg("round %u: the page was copied without the write, and it is not marked", round);
	}
	pthread_join(thread, NULL);
	close(fd);
	gmem_free(g.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_pages_written_are_marked),
		cmocka_unit_test(nothing_is_marked_while_logging_is_off),
		cmocka_unit_test(writing_copies_marks_and_moves_on),
		cmocka_unit_test(a_log_is_replaced_and_checked_like_a_region),
		cmocka_unit_test(marks_of_two_threads_in_one_byte_are_both_kept),
		cmocka_unit_test(no_write_is_lost_between_two_readings_of_the_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
