/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "gmem_files.h"

#define TOP UINT64_MAX

/* ---- mapping ---- */

static void regions_are_checked_before_they_are_mapped(void **state)
{
	/* Beside one region of 64 KiB at guest address 1 MiB, user address 16 MiB; the file has 1 MiB. */
	static const struct {
		struct gmem_region_conf conf;
		int rc;
		const char *why;
	} row[] = {
		{{{0}, 0, {0}, 0}, -EINVAL, "no bytes"},
		{{{MIB}, 0, {16 * MIB}, 0}, -EINVAL, "no bytes, where another region is"},
		{{{0}, 64 * KIB, {0}, MIB - 64 * KIB}, 0, "the last bytes of the file"},
		{{{0}, 64 * KIB, {0}, MIB - 64 * KIB + 1}, -EINVAL, "one byte behind the file"},
		{{{0}, MIB + 1, {0}, 0}, -EINVAL, "longer than the file"},
		{{{0}, 1, {0}, MIB}, -EINVAL, "begins at the file's end"},
		{{{0}, 64 * KIB, {0}, TOP - 1}, -EINVAL, "offset and size wrap around"},
		{{{0}, TOP, {0}, 4096}, -EINVAL, "size and offset wrap around"},
		{{{0}, TOP / 2, {0}, TOP / 2}, -EINVAL, "beyond what a file can be"},
		{{{TOP - 4096}, 8 * KIB, {0}, 0}, -EINVAL, "guest addresses wrap around"},
		{{{0}, 8 * KIB, {TOP - 4096}, 0}, -EINVAL, "user addresses wrap around"},
		{{{TOP - 4096}, 4096, {0}, 0}, 0, "up to the last guest address but one"},
		{{{TOP - 4095}, 4096, {0}, 0}, -EINVAL, "an end that is 2^64, which wraps"},
		{{{MIB}, 64 * KIB, {16 * MIB}, 0}, -EEXIST, "the same region again"},
		{{{MIB}, 64 * KIB, {16 * MIB}, 4096}, -EEXIST, "the same place, elsewhere in the file"},
		{{{MIB + 64 * KIB - 1}, 1, {0}, 0}, -EINVAL, "on the last byte, guest addresses"},
		{{{0}, 1, {16 * MIB + 64 * KIB - 1}, 0}, -EINVAL, "on the last byte, user addresses"},
		{{{0}, MIB, {MIB}, 0}, 0, "right before, guest addresses"},
		{{{1}, MIB, {MIB}, 0}, -EINVAL, "into the first byte, guest addresses"},
		{{{0}, MIB, {15 * MIB + 1}, 0}, -EINVAL, "into the first byte, user addresses"},
		{{{MIB + 64 * KIB}, 4096, {16 * MIB + 64 * KIB}, 0}, 0, "right behind, both"},
		{{{0}, MIB, {16 * MIB - 4096}, 0}, -EINVAL, "all around it, user addresses"},
		{{{MIB + 4096}, 4096, {0}, 0}, -EINVAL, "inside it, guest addresses"},
	};
	int fd = new_file(MIB);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct gmem *m = new_map();
		struct err e = {0};
		int rc;

		add(m, fd, MIB, 64 * KIB, 16 * MIB, 0);
		rc = gmem_add(m, &row[i].conf, fd, &e);
		if (rc != row[i].rc || m->n_regions != (rc ? 1 : 2) || (rc && !e.text[0]))
			fail_msg("%s: %d \"%s\", %u regions", row[i].why, rc, e.text, m->n_regions);
		gmem_free(m);
	}
	close(fd);
	assert_int_equal(count_mappings(), 0);
}

static void files_that_cannot_be_mapped_are_refused(void **state)
{
	struct gmem_region_conf c = conf_of(0, 4096, 0, 0);
	struct gmem *m = new_map();
	struct err e = {0};
	int fd = new_file(4096), pipe_fd[2];
	char path[32];
	int read_only;

	(void)state;
	assert_int_equal(gmem_add(m, &c, -1, &e), -EBADF);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(gmem_add(m, &c, pipe_fd[0], &e), -EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(read_only >= 0);
	assert_int_equal(gmem_add(m, &c, read_only, &e), -EACCES);
	assert_int_equal(m->n_regions, 0);
	close(read_only);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(fd);
	gmem_free(m);
}

static void bytes_at_any_offset_of_the_file_are_found(void **state)
{
	static const uint64_t offset[] = {0, 1, 4095, 4096, 4097, 12345, 64 * KIB, 100 * KIB + 13};
	int fd = new_file(256 * KIB);
	uint8_t *file = mmap(NULL, 256 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	(void)state;
	assert_ptr_not_equal(file, MAP_FAILED);
	for (size_t i = 0; i < 256 * KIB; i++)
		file[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < ARRAY_SIZE(offset); i++) {
		struct gmem *m = new_map();
		struct gspan s;

		add(m, fd, MIB, 8193, 5 * MIB, offset[i]);
		s = span_at(m, MIB, 8193);
		assert_int_equal(s.len, 8193);
		assert_memory_equal(s.p, file + offset[i], 8193);
		assert_ptr_equal(gmem_uva(m, (uva_t){5 * MIB}, 8193, NULL), s.p);
		gmem_free(m);
	}
	munmap(file, 256 * KIB);
	close(fd);
}

static void the_descriptor_may_be_closed_after_mapping(void **state)
{
	struct gmem *m = new_map();
	int fd = add_new(m, 0, 8 * KIB);
	int duplicate = dup(fd);
	char seen[5];

	(void)state;
	close(fd);
	memcpy(pointer_to(m, 4096), "hello", 5);
	assert_int_equal(pread(duplicate, seen, 5, 4096), 5);
	assert_memory_equal(seen, "hello", 5);
	gmem_free(m);
	close(duplicate);
}

static void an_empty_map_has_nothing(void **state)
{
	struct gmem *m = new_map();
	struct gspan s = {0};

	(void)state;
	assert_false(gmem_span(m, (gpa_t){0}, 1, &s));
	assert_null(gmem_uva(m, (uva_t){0}, 1, NULL));
	assert_false(gmem_faulted(m));
	gmem_free(m);
	gmem_free(NULL);
}

/* ---- translating ---- */

/* Three regions: [1 MiB, +64 KiB), adjacent to it [+64 KiB, +128 KiB), and after a gap [+256 KiB, +260 KiB). */
#define FIRST  MIB
#define SECOND (MIB + 64 * KIB)
#define GAP    (MIB + 128 * KIB)
#define THIRD  (MIB + 256 * KIB)
#define END    (MIB + 260 * KIB)

static struct gmem *three_regions(void)
{
	struct gmem *m = new_map();
	int fd = new_file(256 * KIB);

	/* not in the order of their addresses, and user addresses in the reverse order */
	add(m, fd, THIRD, 4 * KIB, 10 * MIB, 192 * KIB);
	add(m, fd, FIRST, 64 * KIB, 20 * MIB, 0);
	add(m, fd, SECOND, 64 * KIB, 15 * MIB, 128 * KIB);
	close(fd);
	return m;
}

static void buffers_are_split_where_regions_end(void **state)
{
	static const struct {
		uint64_t gpa;
		uint32_t len;
		uint32_t piece[3]; /* as gmem_span() gives them one after the other; 0: it refuses */
		const char *why;
	} row[] = {
		{FIRST, 1, {1}, "the first byte"},
		{FIRST, 64 * KIB, {64 * KIB}, "the whole region"},
		{FIRST, 64 * KIB + 1, {64 * KIB, 1}, "one byte into the next"},
		{SECOND - 1, 1, {1}, "the last byte"},
		{SECOND - 1, 2, {1, 1}, "across the border"},
		{FIRST + 100, 128 * KIB - 100, {64 * KIB - 100, 64 * KIB}, "both to the end"},
		{FIRST, 128 * KIB + 1, {64 * KIB, 64 * KIB, 0}, "into the gap"},
		{FIRST - 1, 2, {0}, "begins before all"},
		{GAP, 1, {0}, "in the gap"},
		{THIRD - 1, 2, {0}, "begins in the gap"},
		{THIRD, 4 * KIB, {4 * KIB}, "the last region"},
		{END - 1, UINT32_MAX, {1, 0}, "far beyond the last byte"},
		{END, 1, {0}, "behind all"},
		{0, 1, {0}, "address 0"},
		{TOP, 1, {0}, "the highest address"},
		{TOP - 10, 100, {0}, "a length that wraps"},
		{FIRST, 0, {0}, "no bytes"},
		{THIRD, 0, {0}, "no bytes, in the last region"},
	};
	struct gmem *m = three_regions();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		uint64_t at = row[i].gpa;
		uint32_t left = row[i].len;

		for (unsigned k = 0; k < 3 && (k == 0 || left); k++) {
			struct gspan s = {0};
			bool found = gmem_span(m, (gpa_t){at}, left, &s);

			if (found != (row[i].piece[k] != 0) || (found && (s.len != row[i].piece[k] || s.gpa.v != at)))
				fail_msg("%s: piece %u: %u bytes", row[i].why, k, found ? s.len : 0);
			if (!found)
				break;
			at += s.len;
			left -= s.len;
		}
	}
	gmem_free(m);
}

static void user_addresses_translate_whole_or_not_at_all(void **state)
{
	static const struct {
		uint64_t uva, len;
		uint64_t gpa; /* 0: refused */
	} row[] = {
		{20 * MIB, 64 * KIB, FIRST},
		{20 * MIB, 64 * KIB + 1, 0},
		{20 * MIB + 64 * KIB - 1, 1, SECOND - 1},
		{20 * MIB + 64 * KIB - 1, 2, 0},
		{20 * MIB + 64 * KIB, 1, 0},
		{20 * MIB - 1, 2, 0},
		{15 * MIB + 7, 100, SECOND + 7},
		{10 * MIB, 4 * KIB, THIRD},
		{10 * MIB, UINT64_MAX, 0},
		{10 * MIB + 1, UINT64_MAX, 0},
		{0, 1, 0},
		{TOP, 1, 0},
	};
	struct gmem *m = three_regions();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		gpa_t gpa = {0};
		uint8_t *p = gmem_uva(m, (uva_t){row[i].uva}, row[i].len, &gpa);

		if (gpa.v != row[i].gpa || (p != NULL) != (row[i].gpa != 0))
			fail_msg("row %zu: guest address 0x%" PRIx64, i, gpa.v);
		if (p)
			assert_ptr_equal(p, pointer_to(m, gpa.v));
	}
	gmem_free(m);
}

/* The @i-th of GMEM_REGIONS_MAX regions with gaps between them, in an order that jumps about (200 and 509 have no common
 * divisor). */
static struct gmem_region_conf one_of_many(unsigned i)
{
	uint64_t k = (uint64_t)i * 200 % GMEM_REGIONS_MAX;

	return conf_of(k * 12 * KIB + 4 * KIB, 8 * KIB, k * MIB, k * 4 * KIB);
}

static void as_many_regions_as_promised_are_found_again(void **state)
{
	struct gmem *m = new_map();
	int fd = new_file(4 * KIB * (GMEM_REGIONS_MAX + 1));
	struct gmem_region_conf c;
	struct gspan s = {0};
	struct err e;

	(void)state;
	for (unsigned i = 0; i < GMEM_REGIONS_MAX; i++) {
		c = one_of_many(i);
		add(m, fd, c.gpa.v, c.size_bytes, c.uva.v, c.mmap_offset_bytes);
	}
	c = conf_of(1000 * MIB, 4096, 1000 * MIB, 0);
	assert_int_equal(gmem_add(m, &c, fd, &e), -ENOSPC);
	for (unsigned i = 0; i < GMEM_REGIONS_MAX; i++) {
		c = one_of_many(i);
		assert_false(gmem_span(m, (gpa_t){c.gpa.v - 1}, 1, &s));
		assert_true(gmem_span(m, c.gpa, 100 * KIB, &s));
		assert_int_equal(s.len, 8 * KIB);
		assert_ptr_equal(s.p, gmem_uva(m, c.uva, 8 * KIB, NULL));
		assert_false(gmem_span(m, (gpa_t){c.gpa.v + 8 * KIB}, 1, &s));
	}
	gmem_free(m);
	close(fd);
	assert_int_equal(count_mappings(), 0);
}

static void regions_are_removed_by_place_and_size(void **state)
{
	struct gmem *m = three_regions();
	struct gmem_region_conf near_miss[] = {
		conf_of(SECOND, 64 * KIB, 15 * MIB + 1, 0), conf_of(SECOND, 64 * KIB - 1, 15 * MIB, 0),
		conf_of(SECOND + 1, 64 * KIB, 15 * MIB, 0), conf_of(SECOND, 64 * KIB, 20 * MIB, 0),
		conf_of(GAP, 64 * KIB, 15 * MIB, 0),
	};
	struct gmem_region_conf second = conf_of(SECOND, 64 * KIB, 15 * MIB, 0);
	struct gspan s = {0};
	struct err e;
	int fd;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(near_miss); i++)
		assert_int_equal(gmem_remove(m, &near_miss[i], &e), -ENOENT);
	assert_int_equal(count_mappings(), 3);

	assert_int_equal(gmem_remove(m, &second, &e), 0);
	assert_int_equal(count_mappings(), 2);
	assert_int_equal(gmem_remove(m, &second, &e), -ENOENT);
	assert_false(gmem_span(m, (gpa_t){SECOND}, 1, &s));
	assert_null(gmem_uva(m, (uva_t){15 * MIB}, 1, NULL));
	assert_true(gmem_span(m, (gpa_t){FIRST}, 1, &s));
	assert_true(gmem_span(m, (gpa_t){THIRD}, 1, &s));

	fd = new_file(64 * KIB);
	assert_int_equal(gmem_add(m, &second, fd, &e), 0); /* its place is free again */
	close(fd);
	gmem_free(m);
	assert_int_equal(count_mappings(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_are_checked_before_they_are_mapped),
		cmocka_unit_test(files_that_cannot_be_mapped_are_refused),
		cmocka_unit_test(bytes_at_any_offset_of_the_file_are_found),
		cmocka_unit_test(the_descriptor_may_be_closed_after_mapping),
		cmocka_unit_test(an_empty_map_has_nothing),
		cmocka_unit_test(buffers_are_split_where_regions_end),
		cmocka_unit_test(user_addresses_translate_whole_or_not_at_all),
		cmocka_unit_test(as_many_regions_as_promised_are_found_again),
		cmocka_unit_test(regions_are_removed_by_place_and_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
