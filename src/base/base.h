/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

#define CACHE_LINE    64
#define cache_aligned __attribute__((aligned(CACHE_LINE)))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define force_inline           inline __attribute__((always_inline))
#define must_check             __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Start to load the cache line at @p for reading / for writing. */
static inline void prefetch_read(const void *p)
{
	__builtin_prefetch(p);
}

static inline void prefetch_write(const void *p)
{
#if defined(__x86_64__)
	/* The compiler takes this instruction only for machines it knows to have it; those that do not, ignore it. Without
	 * it the line comes shared, and the store has to ask for it once more. */
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/* A hint to the core that this is a spin loop. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}
