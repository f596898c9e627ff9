/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/hist.h"

#include <stdio.h>

#define SUB (UINT64_C(1) << HIST_SUB_BITS)

static unsigned bucket_of(uint64_t ns)
{
	const unsigned top = 63u - (unsigned)__builtin_clzll(ns | 1);

	if (ns < SUB)
		return (unsigned)ns;
	return ((top - HIST_SUB_BITS + 1) << HIST_SUB_BITS) + (unsigned)((ns >> (top - HIST_SUB_BITS)) & (SUB - 1));
}

static uint64_t start_of(unsigned bucket)
{
	const unsigned octave = bucket >> HIST_SUB_BITS;

	if (octave == 0)
		return bucket;
	return (SUB + (bucket & (SUB - 1))) << (octave - 1);
}

void hist_add(struct hist *h, uint64_t ns)
{
	h->count[bucket_of(ns)]++;
	h->n++;
}

uint64_t hist_at(const struct hist *h, double fraction)
{
	const double wanted = fraction * (double)h->n;
	double seen = 0;

	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->count[i];
		if (h->count[i] > 0 && seen >= wanted)
			return start_of(i);
	}
	return 0;
}

static double us(const struct hist *h, double fraction)
{
	return (double)hist_at(h, fraction) / 1000;
}

void hist_print(const struct hist *h)
{
	printf("{\"n\": %llu, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}", (unsigned long long)h->n,
	       us(h, .5), us(h, .99), us(h, .999));
}
