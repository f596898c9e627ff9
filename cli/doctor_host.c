/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of the host without asking flued. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "doctor.h"

#define FILES_WANTED  4096          /* a guest with four queue pairs holds some 30 descriptors */
#define MEMORY_WANTED (256ul << 20) /* what a guest of any use needs beside the host's own */

static void check_device(struct doctor *d, const char *path, enum verdict if_missing, const char *what,
			 const char *remedy)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		finding(d, FINE, NULL, "%s can be opened: %s", path, what);
		return;
	}
	finding(d, if_missing, remedy, "%s: %s, so no %s", path, strerror(errno), what);
}

void check_devices(struct doctor *d)
{
	check_device(
		d, "/dev/kvm", WARN, "hardware virtualization for guests",
		"load kvm_intel or kvm_amd, enable it in the firmware, join group kvm; guests run emulated meanwhile");
	check_device(d, "/dev/net/tun", WARN, "tap ports", "modprobe tun, and run flued with CAP_NET_ADMIN");
	if (geteuid() != 0)
		finding(d, WARN, "run doctor with sudo",
			"not running as root: permissions are this user's, not flued's");
}

/* The first number behind @key in a file of /proc, or -1. */
static long proc_number(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[256], *end;
	long n = -1;

	while (f && n < 0 && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		n = strtol(line + strlen(key), &end, 10);
		if (end == line + strlen(key))
			n = -1;
	}
	if (f)
		fclose(f);
	return n;
}

void check_memory(struct doctor *d)
{
	long free_kib = proc_number("/proc/meminfo", "MemAvailable:");
	long overcommit = proc_number("/proc/sys/vm/overcommit_memory", "");

	if (free_kib >= 0 && (unsigned long)free_kib * 1024 < MEMORY_WANTED)
		finding(d, WARN, "stop something, or give the host more memory", "only %s of memory are free",
			bytes_text((double)free_kib * 1024));
	else
		finding(d, FINE, NULL, "%s of memory are free; hugepages are not needed",
			bytes_text((double)free_kib * 1024));
	if (overcommit == 2)
		finding(d, WARN, "sysctl vm.overcommit_memory=0",
			"strict memory accounting: each guest's memory counts twice, for QEMU and for flued");
}

/* A soft limit of process @pid (0: our own), as /proc/PID/limits shows it; -1: unlimited or unknown. */
static long limit_of(long pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), pid ? "/proc/%ld/limits" : "/proc/self/limits", pid);
	return proc_number(path, name);
}

void check_limits(struct doctor *d, long pid)
{
	long files = limit_of(pid, "Max open files"), locked = limit_of(pid, "Max locked memory");
	const char *whose = pid ? "flued" : "this shell";

	if (files >= 0 && files < FILES_WANTED)
		finding(d, WARN, "LimitNOFILE=65536 in flued's unit, or `ulimit -n` before it starts",
			"%s may open %ld files: enough for some %ld guests", whose, files, files / 30);
	else
		finding(d, FINE, NULL, "%s may open enough files for its guests", whose);
	if (locked >= 0)
		finding(d, FINE, NULL, "locked memory is limited to %s for %s: no port needs more today",
			bytes_text((double)locked), whose);
}
