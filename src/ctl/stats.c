/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/stats.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", ".." and the directory itself */
}

void process_stats(struct process_stats *s)
{
	FILE *f = fopen("/proc/self/statm", "re");
	uint64_t resident = 0;
	struct timespec cpu;

	*s = (struct process_stats){.fds = open_fds()};
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
		s->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
	if (!f)
		return;
	if (fscanf(f, "%*u %" SCNu64, &resident) == 1)
		s->rss_bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
	fclose(f);
}
