/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <string.h>
#include <sys/types.h>

#include "base/base.h"
#include "base/copy.h"
#include "base/err.h"

/* Guest memory: the only place where an address given by a guest or a front end becomes a pointer, and the only one
 * that writes into guest memory, so that every write can be logged for live migration.
 *
 * Thread:  a struct gmem is changed by the control thread, and only while no worker uses it (its rings are stopped).
 *          Workers translate, read, write and mark dirty.
 * Trust:   regions and log come from the front end, addresses from the guest; both may lie. Memory may be rewritten
 *          by the guest at any time: what must be believed is copied out first.
 * Faults:  a region's file may be truncated under us. The SIGBUS that follows is answered by mapping zero pages over
 *          the whole region and marking it; the access goes on harmlessly, and gmem_faulted() tells.
 */

typedef struct {
	uint64_t v;
} gpa_t; /* guest-physical address: what descriptors hold */

typedef struct {
	uint64_t v;
} uva_t; /* address in the front end's own address space: where SET_VRING_ADDR says the rings are */

/* vhost-user "Memory regions description"; sizes in bytes. */
struct gmem_region_conf {
	gpa_t gpa;
	uint64_t size_bytes;
	uva_t uva;
	uint64_t mmap_offset_bytes; /* of the region's first byte in its file */
};

/* Enough for every DIMM slot of QEMU and KVM's own limit of 509 slots; answered to GET_MAX_MEM_SLOTS. */
#define GMEM_REGIONS_MAX 509

struct gmem_region {
	gpa_t gpa;
	uint64_t size_bytes;
	uint8_t *base; /* of gpa */
	uva_t uva;
	/* for unmapping and for the SIGBUS handler */
	void *map;
	size_t map_bytes;
	unsigned watch; /* slot in the table the SIGBUS handler reads */
};

/* The dirty log (vhost-user, "Migration"): one bit for each 4 KiB page of guest-physical memory, from address 0. */
#define GMEM_LOG_PAGE_BITS 12
struct gmem_log {
	_Atomic uint8_t *bits; /* NULL: none mapped */
	uint64_t size_bytes;
	void *map;
	size_t map_bytes;
	unsigned watch;
	bool on; /* VHOST_F_LOG_ALL is among the acknowledged features */
};

struct gmem {
	/* control thread, rings stopped */
	unsigned n_regions;
	struct gmem_region *region[GMEM_REGIONS_MAX]; /* by ascending gpa, no overlaps */
	struct gmem_log log;
};

/* A piece of guest memory that is contiguous for us. Valid until the batch it was fetched for is returned. */
struct gspan {
	uint8_t *p;
	uint32_t len;
	gpa_t gpa;
};

struct gmem *gmem_new(void);
/* Unmaps everything. NULL is allowed. */
void gmem_free(struct gmem *m);

/* Map one region. @fd stays the caller's (it may be closed at once: the mapping lives on).
 * -EINVAL: size 0, an end that wraps, an overlap in guest-physical or in user addresses, or a file that is shorter
 * than offset + size; -ENOSPC: GMEM_REGIONS_MAX; -EEXIST: exactly this region is mapped already; or mmap's error. */
int gmem_add(struct gmem *m, const struct gmem_region_conf *conf, int fd, struct err *e) must_check;

/* Unmap the region whose gpa, uva and size are @conf's (vhost-user REM_MEM_REG). -ENOENT: no such region. */
int gmem_remove(struct gmem *m, const struct gmem_region_conf *conf, struct err *e) must_check;

/* Use @size_bytes of @fd from @offset_bytes as dirty log in place of the one before. @fd stays the caller's.
 * -EINVAL: size 0, wrap, or file too short. gmem_log_drop() ends logging and unmaps. */
int gmem_log_set(struct gmem *m, int fd, uint64_t size_bytes, uint64_t offset_bytes, struct err *e) must_check;
void gmem_log_drop(struct gmem *m);

/* Was a region's (or the log's) file truncated under us? Any thread, cheap enough for once a batch. */
bool gmem_faulted(const struct gmem *m);

/* How many truncations there were since the start, in all maps: when it grows, somebody should ask gmem_faulted(). */
unsigned gmem_fault_count(void);

/* Install the SIGBUS handler; once, at start, before any worker runs. A SIGBUS that no region explains gets the
 * default action (core dump). */
int gmem_sigbus_install(void) must_check;

/* The pointer for @len bytes at @uva, or NULL unless all of them lie in one region. For rings, control thread.
 * @gpa (may be NULL) gets the guest-physical address. */
void *gmem_uva(const struct gmem *m, uva_t uva, uint64_t len, gpa_t *gpa);

/* Translate the beginning of [gpa, gpa + len): out->len is as much of it as lies in one region (at least 1).
 * False if @gpa is in no region, or len is 0. A buffer that crosses regions takes one call for each. Hot. */
static inline bool gmem_span(const struct gmem *m, gpa_t gpa, uint32_t len, struct gspan *out);

/* The region of the last address, kept at hand by whoever translates many in a row: {0} to begin with. */
struct gmem_window {
	uint64_t gpa, size_bytes;
	uint8_t *base;
};

/* Translate all of [gpa, gpa + len), which must lie in one region. False: it does not, or len is 0; then take
 * gmem_span(). Hot. */
static inline bool gmem_span_whole(const struct gmem *m, struct gmem_window *w, gpa_t gpa, uint32_t len,
				   struct gspan *out);

/* Mark @len bytes at @gpa dirty. Pages past the end of the log are ignored. Hot. */
static inline void gmem_dirty(const struct gmem *m, gpa_t gpa, uint64_t len);

/* Copy @len bytes to the front of *dst (len <= dst->len), mark them dirty and move *dst past them. Hot. */
static inline void gmem_write(const struct gmem *m, struct gspan *dst, const void *src, uint32_t len);

/* ---- inline halves ---- */

/* The slow part of gmem_span(): binary search. */
const struct gmem_region *gmem_find(const struct gmem *m, gpa_t gpa);
/* The slow part of gmem_dirty(): atomic OR into the log. */
void gmem_log_mark(const struct gmem_log *log, gpa_t gpa, uint64_t len);

static inline bool gmem_region_has(const struct gmem_region *r, gpa_t gpa)
{
	return gpa.v - r->gpa.v < r->size_bytes;
}

static inline bool gmem_span(const struct gmem *m, gpa_t gpa, uint32_t len, struct gspan *out)
{
	const struct gmem_region *r;
	uint64_t off, room;

	if (unlikely(len == 0 || m->n_regions == 0))
		return false;
	r = m->region[m->n_regions - 1]; /* most memory of most guests is in the last region */
	if (unlikely(!gmem_region_has(r, gpa))) {
		r = gmem_find(m, gpa);
		if (!r)
			return false;
	}
	off = gpa.v - r->gpa.v;
	room = r->size_bytes - off;
	*out = (struct gspan){.p = r->base + off, .len = room < len ? (uint32_t)room : len, .gpa = gpa};
	return true;
}

/* The slow part: have @w show the region of @gpa. False: there is none. */
bool gmem_window_move(const struct gmem *m, struct gmem_window *w, gpa_t gpa);

static inline bool gmem_span_whole(const struct gmem *m, struct gmem_window *w, gpa_t gpa, uint32_t len,
				   struct gspan *out)
{
	uint64_t off = gpa.v - w->gpa;

	if (unlikely(off >= w->size_bytes)) {
		if (!gmem_window_move(m, w, gpa))
			return false;
		off = gpa.v - w->gpa;
	}
	if (unlikely((uint64_t)len - 1 >= w->size_bytes - off))
		return false;
	out->p = w->base + off;
	out->len = len;
	out->gpa = gpa;
	return true;
}

static inline void gmem_dirty(const struct gmem *m, gpa_t gpa, uint64_t len)
{
	if (unlikely(m->log.on))
		gmem_log_mark(&m->log, gpa, len);
}

static inline void gmem_write(const struct gmem *m, struct gspan *dst, const void *src, uint32_t len)
{
	copy_bytes(dst->p, src, len);
	gmem_dirty(m, dst->gpa, len);
	dst->p += len;
	dst->len -= len;
	dst->gpa.v += len;
}
