/* SPDX-License-Identifier: Apache-2.0 */
/* The map of one guest's memory, built by the control thread. What is promised is in gmem.h. */
#include "gmem/gmem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gmem/watch.h"

struct gmem *gmem_new(void)
{
	return calloc(1, sizeof(struct gmem));
}

/* Map @size_bytes of @fd from @offset_bytes; mmap wants its offset page-aligned, callers do not care. */
static int map_file(int fd, uint64_t offset_bytes, uint64_t size_bytes, void **map, size_t *map_bytes, uint8_t **first,
		    struct err *e)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t end, skip;
	struct stat st;

	if (size_bytes == 0 || __builtin_add_overflow(offset_bytes, size_bytes, &end) || end > INT64_MAX)
		return err_set(e, -EINVAL, NULL, NULL, "%" PRIu64 " bytes from offset %" PRIu64 " is no valid range",
			       size_bytes, offset_bytes);
	if (fstat(fd, &st) < 0)
		return err_set(e, -errno, NULL, NULL, "the memory file cannot be examined: %s", strerror(errno));
	/* A mapping past the end of the file would raise SIGBUS at the first access. */
	if ((uint64_t)st.st_size < end)
		return err_set(e, -EINVAL, NULL, NULL,
			       "%" PRIu64 " bytes from offset %" PRIu64 " exceed their file of %" PRIu64 " bytes",
			       size_bytes, offset_bytes, (uint64_t)st.st_size);
	/* Huge pages are mapped whole. Elsewhere a block may be of any size. */
	if ((uint64_t)st.st_blksize > page && __builtin_popcountll((uint64_t)st.st_blksize) == 1)
		page = (uint64_t)st.st_blksize;
	skip = offset_bytes & (page - 1);
	*map_bytes = (size_t)((skip + size_bytes + page - 1) & ~(page - 1));
	*map = mmap(NULL, *map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		    (off_t)(offset_bytes - skip));
	if (*map == MAP_FAILED)
		return err_set(e, -errno, NULL, NULL, "mmap of %" PRIu64 " bytes: %s", size_bytes, strerror(errno));
	madvise(*map, *map_bytes, MADV_DONTDUMP); /* guests' memory has no place in our core files */
	*first = (uint8_t *)*map + skip;
	return 0;
}

static bool ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

static int check_place(const struct gmem *m, const struct gmem_region_conf *c, struct err *e)
{
	uint64_t end;

	if (__builtin_add_overflow(c->gpa.v, c->size_bytes, &end) ||
	    __builtin_add_overflow(c->uva.v, c->size_bytes, &end))
		return err_set(e, -EINVAL, NULL, NULL, "region at 0x%" PRIx64 " wraps around", c->gpa.v);
	for (unsigned i = 0; i < m->n_regions; i++) {
		const struct gmem_region *r = m->region[i];

		if (r->gpa.v == c->gpa.v && r->uva.v == c->uva.v && r->size_bytes == c->size_bytes)
			return err_set(e, -EEXIST, NULL, NULL, "region at 0x%" PRIx64 " is mapped already", c->gpa.v);
		if (ranges_overlap(r->gpa.v, r->size_bytes, c->gpa.v, c->size_bytes) ||
		    ranges_overlap(r->uva.v, r->size_bytes, c->uva.v, c->size_bytes))
			return err_set(e, -EINVAL, NULL, NULL, "region at 0x%" PRIx64 " overlaps the one at 0x%" PRIx64,
				       c->gpa.v, r->gpa.v);
	}
	if (m->n_regions == GMEM_REGIONS_MAX)
		return err_set(e, -ENOSPC, NULL, NULL, "more than %d memory regions", GMEM_REGIONS_MAX);
	return 0;
}

static void insert_sorted(struct gmem *m, struct gmem_region *r)
{
	unsigned i = m->n_regions++;

	for (; i > 0 && m->region[i - 1]->gpa.v > r->gpa.v; i--)
		m->region[i] = m->region[i - 1];
	m->region[i] = r;
}

int gmem_add(struct gmem *m, const struct gmem_region_conf *c, int fd, struct err *e)
{
	struct gmem_region *r;
	int rc = check_place(m, c, e);

	if (rc < 0)
		return rc;
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*r = (struct gmem_region){.gpa = c->gpa, .uva = c->uva, .size_bytes = c->size_bytes};
	rc = map_file(fd, c->mmap_offset_bytes, c->size_bytes, &r->map, &r->map_bytes, &r->base, e);
	if (rc < 0)
		goto free_region;
	rc = watch_add(r->map, r->map_bytes, &r->watch);
	if (rc < 0) {
		err_set(e, rc, NULL, NULL, "too many memory regions in all ports together (%d)", WATCH_MAX);
		goto unmap;
	}
	insert_sorted(m, r);
	return 0;
unmap:
	munmap(r->map, r->map_bytes);
free_region:
	free(r);
	return rc;
}

static void region_free(struct gmem_region *r)
{
	watch_remove(r->watch);
	munmap(r->map, r->map_bytes);
	free(r);
}

int gmem_remove(struct gmem *m, const struct gmem_region_conf *c, struct err *e)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		struct gmem_region *r = m->region[i];

		if (r->gpa.v != c->gpa.v || r->uva.v != c->uva.v || r->size_bytes != c->size_bytes)
			continue;
		region_free(r);
		m->n_regions--;
		for (; i < m->n_regions; i++)
			m->region[i] = m->region[i + 1];
		return 0;
	}
	return err_set(e, -ENOENT, NULL, NULL, "no region at 0x%" PRIx64 " of %" PRIu64 " bytes", c->gpa.v,
		       c->size_bytes);
}

int gmem_log_set(struct gmem *m, int fd, uint64_t size_bytes, uint64_t offset_bytes, struct err *e)
{
	struct gmem_log log = {.on = m->log.on};
	uint8_t *first = NULL;
	int rc = map_file(fd, offset_bytes, size_bytes, &log.map, &log.map_bytes, &first, e);

	if (rc < 0)
		return rc;
	rc = watch_add(log.map, log.map_bytes, &log.watch);
	if (rc < 0) {
		munmap(log.map, log.map_bytes);
		return err_set(e, rc, NULL, NULL, "too many memory regions in all ports together (%d)", WATCH_MAX);
	}
	log.bits = (_Atomic uint8_t *)first;
	log.size_bytes = size_bytes;
	gmem_log_drop(m);
	m->log = log;
	return 0;
}

void gmem_log_drop(struct gmem *m)
{
	if (m->log.map) {
		watch_remove(m->log.watch);
		munmap(m->log.map, m->log.map_bytes);
	}
	m->log = (struct gmem_log){.on = m->log.on};
}

void gmem_free(struct gmem *m)
{
	if (!m)
		return;
	gmem_log_drop(m);
	for (unsigned i = 0; i < m->n_regions; i++)
		region_free(m->region[i]);
	free(m);
}

bool gmem_faulted(const struct gmem *m)
{
	for (unsigned i = 0; i < m->n_regions; i++)
		if (watch_faulted(m->region[i]->watch))
			return true;
	return m->log.map && watch_faulted(m->log.watch);
}

void *gmem_uva(const struct gmem *m, uva_t uva, uint64_t len, gpa_t *gpa)
{
	for (unsigned i = 0; i < m->n_regions; i++) {
		const struct gmem_region *r = m->region[i];
		uint64_t off = uva.v - r->uva.v;

		if (off >= r->size_bytes || len > r->size_bytes - off)
			continue;
		if (gpa)
			gpa->v = r->gpa.v + off;
		return r->base + off;
	}
	return NULL;
}
