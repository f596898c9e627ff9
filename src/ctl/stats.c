/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/stats.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
	struct timespec cpu;
	char line[128], *resident;

	*s = (struct process_stats){.fds = open_fds()};
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
		s->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && (resident = strchr(line, ' '))) /* the second number, in pages */
		s->rss_bytes = strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
	fclose(f);
}
