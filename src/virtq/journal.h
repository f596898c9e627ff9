/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>

#include "base/base.h"

/* Where a packed ring stands, in memory that outlives a killed flued (design D14).
 *
 * A split ring tells by itself how far its device has got (used->idx). A packed ring does not, and a batch becomes
 * visible by writing many descriptors: so the position is written down here, and before a batch is published, all that
 * will be written (the intent). Whoever starts the ring next finishes an intent that was not carried out.
 *
 * Thread:  the worker that publishes (under the queue's lock for a receiveq); control while the ring is stopped.
 * Order:   the file's pages survive the process, not the machine, so program order is all that is needed.
 * Trust:   read back from a file: virtq_journal_valid() before use.
 */
#define VIRTQ_JOURNAL_ENTRIES 256 /* most used descriptors published at once, and buffers of one frame */

struct virtq_journal_entry {
	uint16_t at; /* position: entry in bits 0 to 14, wrap counter in bit 15 (as in SET_VRING_BASE) */
	uint16_t id;
	uint32_t len;
};

struct virtq_journal {
	uint32_t live; /* 1: the ring was not stopped in order: its position is `at`, not the front end's base */
	uint16_t at;   /* where the ring stands */
	uint16_t n;    /* entries of the intent; 0: none */
	uint16_t to;   /* where the ring stands once it is carried out */
	uint16_t reserved[3];
	struct virtq_journal_entry used[VIRTQ_JOURNAL_ENTRIES];
};
static_assert(sizeof(struct virtq_journal) == 16 + 8 * VIRTQ_JOURNAL_ENTRIES, "part of the state file's layout");

/* May this be what a ring of @size entries left behind? */
bool virtq_journal_valid(const struct virtq_journal *j, unsigned size);
