/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* A histogram of nanoseconds: 32 buckets for each power of two, so that a percentile is off by 3 % at most. */
#define HIST_SUB_BITS 5
#define HIST_BUCKETS  ((64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
	uint64_t n;
	uint32_t count[HIST_BUCKETS];
};

void hist_add(struct hist *h, uint64_t ns);
/* The value below which @fraction of all lie; 0 if there is none. */
uint64_t hist_at(const struct hist *h, double fraction);
/* As JSON: {"n": , "p50_us": , "p99_us": , "p999_us": }. */
void hist_print(const struct hist *h);
