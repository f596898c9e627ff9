/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void conf_init(struct conf *c)
{
	*c = (struct conf){
		.switch_name = "default",
		.mtu = CONF_MTU_DEFAULT,
		.fwd = {.fdb_entries = FDB_ENTRIES_DEFAULT, .ageing_s = FDB_AGEING_S_DEFAULT},
		.workers = {.spin_us = WORKER_SPIN_US_DEFAULT, .gather_us = WORKER_GATHER_US_DEFAULT},
		.api = {.mode = 0660},
	};
}

void conf_fini(struct conf *c)
{
	free(c->port);
	c->port = NULL;
	c->n_ports = 0;
}

/* One for two CPUs, or for each that was named. */
static unsigned choose_number(const struct conf *c, const cpu_set_t *allowed)
{
	unsigned n = (unsigned)CPU_COUNT(allowed) / 2;

	if (c->n_cpus)
		return c->n_cpus;
	return n < 1 ? 1 : min_u32(n, 4);
}

static bool has_cpu(const int *cpu, unsigned n, int wanted)
{
	for (unsigned i = 0; i < n; i++)
		if (cpu[i] == wanted)
			return true;
	return false;
}

/* The last ones: interrupts and what else runs on a host gather on the first. */
static void choose_cpus(struct conf *c, const cpu_set_t *allowed)
{
	int *cpu = c->workers.cpu;
	unsigned n = c->n_cpus;

	for (int i = CPU_SETSIZE - 1; i >= 0 && n < WORKERS_MAX; i--)
		if (CPU_ISSET(i, allowed) && !has_cpu(cpu, c->n_cpus, i))
			cpu[n++] = i;
	while (n < WORKERS_MAX)
		cpu[n++] = -1;
}

static int check_cpu(const struct workers_conf *w, unsigned i, const cpu_set_t *allowed, struct err *e)
{
	char field[32];

	snprintf(field, sizeof(field), "workers.cpus[%u]", i);
	if (w->cpu[i] >= CPU_SETSIZE || !CPU_ISSET(w->cpu[i], allowed))
		return err_set(e, -EINVAL, field, "name CPUs that `taskset -cp $$` shows, or leave `cpus` out",
			       "flued may not run on CPU %d", w->cpu[i]);
	for (unsigned j = 0; j < i; j++)
		if (w->cpu[j] == w->cpu[i])
			return err_set(e, -EINVAL, field, "name each CPU once", "CPU %d is there twice", w->cpu[i]);
	return 0;
}

int conf_workers(struct conf *c, const cpu_set_t *allowed, struct err *e)
{
	for (unsigned i = 0; i < c->n_cpus; i++) {
		int rc = check_cpu(&c->workers, i, allowed, e);

		if (rc < 0)
			return rc;
	}
	if (c->workers.n == 0)
		c->workers.n = choose_number(c, allowed);
	choose_cpus(c, allowed);
	return 0;
}

/* Reads a VID at *@p and moves *@p behind it. 0: there is none. */
static unsigned vid_read(const char **p)
{
	unsigned v = 0;

	while (**p >= '0' && **p <= '9' && v <= VID_MAX)
		v = v * 10 + (unsigned)(*(*p)++ - '0');
	return v <= VID_MAX ? v : 0;
}

static const char *skip_spaces(const char *p)
{
	while (*p == ' ')
		p++;
	return p;
}

int vlans_parse(const char *text, uint8_t set[VLANS_N / 8], struct err *e)
{
	const char *p = skip_spaces(text);

	memset(set, 0, VLANS_N / 8);
	for (;;) {
		unsigned first = vid_read(&p), last = first;

		if (*p == '-') {
			p++;
			last = vid_read(&p);
		}
		if (!first || !last || last < first)
			break;
		for (unsigned v = first; v <= last; v++)
			set[v / 8] |= (uint8_t)(1u << (v & 7));
		p = skip_spaces(p);
		if (!*p)
			return 0;
		if (*p != ',')
			break;
		p = skip_spaces(p + 1);
	}
	return err_set(e, -EINVAL, "trunk", "write numbers from 1 to 4094 and ranges of them, like \"10,20-30\"",
		       "'%.40s' is not a list of VLANs", text);
}

static bool has_vlan(const uint8_t *set, unsigned vid)
{
	return set[vid / 8] & 1u << (vid & 7);
}

void vlans_format(const uint8_t set[VLANS_N / 8], char text[VLANS_TEXT_BYTES])
{
	size_t at = 0;

	text[0] = 0;
	for (unsigned first = 1; first <= VID_MAX; first++) {
		unsigned last = first;

		if (!has_vlan(set, first))
			continue;
		while (last < VID_MAX && has_vlan(set, last + 1))
			last++;
		at += (size_t)snprintf(text + at, VLANS_TEXT_BYTES - at, "%s%u", at ? "," : "", first);
		if (last > first)
			at += (size_t)snprintf(text + at, VLANS_TEXT_BYTES - at, "-%u", last);
		first = last;
	}
}
