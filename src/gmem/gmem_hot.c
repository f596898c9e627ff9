/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of translation and logging that are too long to inline. Workers. */
#include "gmem/gmem.h"

const struct gmem_region *gmem_find(const struct gmem *m, gpa_t gpa)
{
	unsigned low = 0, high = m->n_regions;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		const struct gmem_region *r = m->region[mid];

		if (gmem_region_has(r, gpa))
			return r;
		if (gpa.v < r->gpa.v)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

bool gmem_window_move(const struct gmem *m, struct gmem_window *w, gpa_t gpa)
{
	const struct gmem_region *r = gmem_find(m, gpa);

	if (!r)
		return false;
	*w = (struct gmem_window){.gpa = r->gpa.v, .size_bytes = r->size_bytes, .base = r->base};
	return true;
}

void gmem_log_mark(const struct gmem_log *log, gpa_t gpa, uint64_t len)
{
	uint64_t page, last;

	if (!log->bits || len == 0)
		return;
	page = gpa.v >> GMEM_LOG_PAGE_BITS;
	last = (gpa.v + len - 1) >> GMEM_LOG_PAGE_BITS;
	/* The data must be visible before we look for the mark. Otherwise a migration may take the mark away and copy the
	 * page before our data gets there, while what we saw was the mark it took. */
	atomic_thread_fence(memory_order_seq_cst);
	for (; page <= last && page / 8 < log->size_bytes; page++) {
		_Atomic uint8_t *byte = &log->bits[page / 8];
		uint8_t bit = (uint8_t)(1u << (page % 8));

		/* Pages are written many times between two passes of the migration: look before the locked OR. */
		if (!(atomic_load_explicit(byte, memory_order_relaxed) & bit))
			atomic_fetch_or_explicit(byte, bit, memory_order_release);
	}
}
