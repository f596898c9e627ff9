/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/time.h"

/* A clock that costs little: the time stamp counter, or nanoseconds where there is none. */
static inline uint64_t cycles(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	return time_now_ns();
#endif
}
