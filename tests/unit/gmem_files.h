/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Guest memory for tests: memory files with a name that /proc/self/maps shows, and maps of them. For use inside of
 * cmocka tests. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "gmem/gmem.h"

#define KIB       UINT64_C(1024)
#define MIB       (1024 * KIB)
#define PAGE      UINT64_C(4096)
#define FILE_NAME "gmem-test"

static inline int new_file(uint64_t bytes)
{
	int fd = memfd_create(FILE_NAME, MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

static inline struct gmem *new_map(void)
{
	struct gmem *m = gmem_new();

	assert_non_null(m);
	return m;
}

static inline struct gmem_region_conf conf_of(uint64_t gpa, uint64_t size, uint64_t uva, uint64_t offset)
{
	return (struct gmem_region_conf){.gpa.v = gpa, .size_bytes = size, .uva.v = uva, .mmap_offset_bytes = offset};
}

/* Add a region that must be accepted. */
static inline void add(struct gmem *m, int fd, uint64_t gpa, uint64_t size, uint64_t uva, uint64_t offset)
{
	struct gmem_region_conf c = conf_of(gpa, size, uva, offset);
	struct err e = {0};

	if (gmem_add(m, &c, fd, &e) < 0)
		fail_msg("region at 0x%" PRIx64 ": %s", gpa, e.text);
}

/* A map with one region of @size bytes of a new file, which is returned. */
static inline int add_new(struct gmem *m, uint64_t gpa, uint64_t size)
{
	int fd = new_file(size);

	add(m, fd, gpa, size, gpa + (UINT64_C(1) << 40), 0);
	return fd;
}

/* Mappings of memory files of this test that the process has just now. */
static inline unsigned count_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "/memfd:" FILE_NAME) != NULL;
	fclose(f);
	return n;
}

/* The beginning of [gpa, gpa + len), which must be mapped. */
static inline struct gspan span_at(const struct gmem *m, uint64_t gpa, uint32_t len)
{
	struct gspan s;

	if (!gmem_span(m, (gpa_t){gpa}, len, &s)) {
		fail_msg("nothing is mapped at 0x%" PRIx64, gpa);
		abort();
	}
	return s;
}

static inline uint8_t *pointer_to(const struct gmem *m, uint64_t gpa)
{
	return span_at(m, gpa, 1).p;
}
