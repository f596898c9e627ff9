/* SPDX-License-Identifier: Apache-2.0 */
/* doctor: look the host and the switch over, and say what to do. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"

static const char *const verdict_name[] = {[FINE] = "ok", [WARN] = "warn", [FAIL] = "FAIL"};

void finding(struct doctor *d, enum verdict v, const char *remedy, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	json_array_append_new(d->findings, json_pack("{s:s, s:o, s:s}", "verdict", verdict_name[v], "what",
						     json_vsprintf(fmt, ap), "remedy", remedy ? remedy : ""));
	va_end(ap);
	d->failed |= v == FAIL;
}

/* Who else may use the API socket: QEMU under another user needs the guests' sockets, people need this one. */
static void check_socket(struct doctor *d, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return;
	if (st.st_mode & S_IWOTH)
		finding(d, WARN, "set `api: {mode: \"0660\", group: ...}` in flued's configuration",
			"%s: every user of this host may change the switch", path);
	else
		finding(d, FINE, NULL, "%s: only its owner and group may change the switch", path);
}

static void check_workers(struct doctor *d, const json_t *status)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	size_t n = json_array_size(json_object_get(status, "workers"));

	if ((long)n >= cpus && cpus > 1)
		finding(d, WARN, "name fewer CPUs under `workers: {cpus: [...]}`",
			"%zu workers on %ld CPUs leave none to the guests when traffic is heavy", n, cpus);
	else
		finding(d, FINE, NULL, "workers: %zu, CPUs: %ld", n, cpus);
}

static void check_ports(struct doctor *d, const json_t *ports)
{
	json_t *p;
	size_t i;

	json_array_foreach (ports, i, p) {
		if (strcmp(text_of(p, "kind"), "guest") == 0)
			check_guest_port(d, p);
		else
			check_kernel_port(d, p);
	}
	check_mtus(d, ports);
}

static void check_switch(const struct cli *cli, struct doctor *d)
{
	long code;
	json_t *status = api_try(cli, "GET", "/v1/status", NULL, &code);
	json_t *ports = status ? api_try(cli, "GET", "/v1/ports", NULL, &code) : NULL;

	if (!status) {
		finding(d, WARN, "start it (flued), or name its socket with --api",
			"flued does not answer at %s: its ports were not looked at", cli->api);
		check_limits(d, 0);
		return;
	}
	check_socket(d, cli->api);
	check_limits(d, (long)number_of(status, "pid"));
	check_workers(d, status);
	check_ports(d, json_object_get(ports, "ports"));
	json_decref(status);
	json_decref(ports);
}

static void print_findings(const json_t *findings)
{
	json_t *f;
	size_t i;

	json_array_foreach (findings, i, f) {
		printf("%-5s %s\n", text_of(f, "verdict"), text_of(f, "what"));
		if (*text_of(f, "remedy"))
			printf("      -> %s\n", text_of(f, "remedy"));
	}
}

int cmd_doctor(const struct cli *cli, int argc, char **argv)
{
	struct doctor d = {0};

	(void)argv;
	if (argc != 1) {
		complain(NULL, "usage: flue doctor");
		return EXIT_USAGE;
	}
	d.findings = json_array();
	check_devices(&d);
	check_memory(&d);
	check_switch(cli, &d);
	if (cli->json)
		print_json(d.findings);
	else
		print_findings(d.findings);
	json_decref(d.findings);
	return d.failed ? EXIT_FAILED : EXIT_OK;
}
