/* SPDX-License-Identifier: Apache-2.0 */
#include "virtq/journal.h"

static bool is_position(uint16_t at, unsigned size)
{
	return (at & 0x7fffu) < size;
}

bool virtq_journal_valid(const struct virtq_journal *j, unsigned size)
{
	if (j->live > 1 || j->n > VIRTQ_JOURNAL_ENTRIES || !is_position(j->at, size) || !is_position(j->to, size))
		return false;
	for (unsigned i = 0; i < j->n; i++)
		if (!is_position(j->used[i].at, size))
			return false;
	return true;
}
