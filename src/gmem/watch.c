/* SPDX-License-Identifier: Apache-2.0 */
/* SIGBUS: a guest's memory file was truncated while we have it mapped.
 *
 * The handler runs on the thread that touched the missing page. It covers the whole mapping with zero pages, sets the
 * slot's mark and returns; the access is repeated by the processor and goes through. The worker finds the mark after
 * its batch. mmap() is not on POSIX's list of async-signal-safe functions, but on Linux it is a bare system call, and
 * the interrupted code is a load or store into foreign memory, never the inside of a libc function with locks (memcpy
 * has none).
 */
#include "gmem/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "gmem/gmem.h"

/* Control gives a free slot its range, then makes the generation odd; the handler believes a range only if the slot had
 * one odd generation before and after reading it. Half of one range and half of another would cover a third one's. */
static struct {
	_Atomic unsigned generation; /* even: free */
	_Atomic uintptr_t start;
	_Atomic size_t bytes;
	atomic_bool faulted;
} watch[WATCH_MAX];
static _Atomic unsigned watch_top; /* slots at and above it were never used */
static _Atomic unsigned faults;

int watch_add(void *map, size_t map_bytes, unsigned *slot)
{
	unsigned top = atomic_load(&watch_top);

	for (unsigned i = 0; i < WATCH_MAX; i++) {
		if (atomic_load(&watch[i].generation) % 2)
			continue;
		atomic_store(&watch[i].start, (uintptr_t)map);
		atomic_store(&watch[i].bytes, map_bytes);
		atomic_store(&watch[i].faulted, false);
		atomic_fetch_add(&watch[i].generation, 1);
		if (i >= top)
			atomic_store(&watch_top, i + 1);
		*slot = i;
		return 0;
	}
	return -ENOSPC;
}

void watch_remove(unsigned slot)
{
	atomic_fetch_add(&watch[slot].generation, 1);
}

bool watch_faulted(unsigned slot)
{
	return atomic_load_explicit(&watch[slot].faulted, memory_order_relaxed);
}

unsigned gmem_fault_count(void)
{
	return atomic_load_explicit(&faults, memory_order_relaxed);
}

/* Does slot @i hold the mapping that @address is in? Gives its range. */
static bool is_in(unsigned i, uintptr_t address, uintptr_t *start, size_t *bytes)
{
	unsigned generation = atomic_load(&watch[i].generation);

	*start = atomic_load(&watch[i].start);
	*bytes = atomic_load(&watch[i].bytes);
	return generation % 2 && atomic_load(&watch[i].generation) == generation && address - *start < *bytes;
}

static bool cover(uintptr_t address)
{
	unsigned top = atomic_load(&watch_top);

	for (unsigned i = 0; i < top; i++) {
		uintptr_t start;
		size_t bytes;

		if (!is_in(i, address, &start, &bytes))
			continue;
		if (mmap((void *)start, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
			return false;
		atomic_store(&watch[i].faulted, true);
		atomic_fetch_add(&faults, 1);
		return true;
	}
	return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)context;
	/* A signal that somebody sent (si_code <= 0) has no address. Raised again it waits until we return. */
	if (info->si_code <= 0 || !cover((uintptr_t)info->si_addr)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
	errno = saved_errno;
}

int gmem_sigbus_install(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}
