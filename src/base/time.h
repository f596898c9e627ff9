/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <time.h>

#include "base/base.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_US UINT64_C(1000)

/* Monotonic nanoseconds; served by the vDSO, no system call. */
static inline uint64_t time_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}
