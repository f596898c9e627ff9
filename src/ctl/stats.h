/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* What flued itself uses. */
struct process_stats {
	double cpu_s; /* all threads, user and system */
	uint64_t rss_bytes;
	unsigned fds; /* open ones */
};
void process_stats(struct process_stats *s);
