/* SPDX-License-Identifier: Apache-2.0 */
#include "virtq/journal.h"

#define AT_MASK 0x7fff /* the entry, without the wrap counter */

static bool entries_valid(const struct virtq_journal *j, unsigned size)
{
	for (unsigned i = 0; i < j->n; i++)
		if ((j->used[i].at & AT_MASK) >= size)
			return false;
	return true;
}

bool virtq_journal_valid(const struct virtq_journal *j, unsigned size)
{
	if (j->live > 1 || j->reserved[0] || j->reserved[1] || j->reserved[2] || (j->at & AT_MASK) >= size)
		return false;
	if (j->n == 0)
		return true; /* what is left of an intent that was carried out does not matter */
	return j->n <= VIRTQ_JOURNAL_ENTRIES && j->n <= size && (j->to & AT_MASK) < size && entries_valid(j, size);
}
