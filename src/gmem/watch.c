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

static struct {
	_Atomic uintptr_t start; /* 0: free */
	_Atomic size_t bytes;
	atomic_bool faulted;
} watch[WATCH_MAX];
static _Atomic unsigned watch_top; /* slots at and above it were never used */
static _Atomic unsigned faults;

int watch_add(void *map, size_t map_bytes, unsigned *slot)
{
	unsigned top = atomic_load(&watch_top);

	for (unsigned i = 0; i < WATCH_MAX; i++) {
		if (atomic_load(&watch[i].start))
			continue;
		atomic_store(&watch[i].bytes, map_bytes);
		atomic_store(&watch[i].faulted, false);
		atomic_store(&watch[i].start, (uintptr_t)map);
		if (i >= top)
			atomic_store(&watch_top, i + 1);
		*slot = i;
		return 0;
	}
	return -ENOSPC;
}

void watch_remove(unsigned slot)
{
	atomic_store(&watch[slot].start, 0);
}

bool watch_faulted(unsigned slot)
{
	return atomic_load_explicit(&watch[slot].faulted, memory_order_relaxed);
}

unsigned gmem_fault_count(void)
{
	return atomic_load_explicit(&faults, memory_order_relaxed);
}

static bool cover(uintptr_t address)
{
	unsigned top = atomic_load(&watch_top);

	for (unsigned i = 0; i < top; i++) {
		uintptr_t start = atomic_load(&watch[i].start);
		size_t bytes = atomic_load(&watch[i].bytes);

		if (!start || address - start >= bytes)
			continue;
		if (mmap((void *)start, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
			 -1, 0) == MAP_FAILED)
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
	if (!cover((uintptr_t)info->si_addr))
		signal(sig, SIG_DFL); /* returning repeats the access, and now it is fatal */
	errno = saved_errno;
}

int gmem_sigbus_install(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}
