/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/time.h"

/* The core's own clock, for what happens too often to ask the kernel's: it counts at one rate whatever the core does
 * (x86-64: invariant TSC; arm64: the generic timer), and the same on all cores of a host. */

/* One instruction, not ordered with what is around it: a difference may be off by some ten cycles. */
static inline uint64_t cycles_now(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t v;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
	return v;
#else
	return time_now_ns();
#endif
}

/* Find out the rate, which takes about 2 ms the first time. One thread, before the functions below are used. */
void cycles_init(void);
/* Cycles in a second. */
uint64_t cycles_hz(void);

uint64_t cycles_of_ns(uint64_t ns);
uint64_t cycles_to_ns(uint64_t cycles);
