/* SPDX-License-Identifier: Apache-2.0 */
#include "port/offload.h"

#include <stdio.h>

#include "port/port.h"

const char *offload_names(uint32_t set, char *text, size_t size)
{
	static const struct {
		uint32_t bit;
		const char *name;
	} names[] = {
		{OFFLOAD_CSUM, "csum"}, {OFFLOAD_TSO4, "tso4"}, {OFFLOAD_TSO6, "tso6"},
		{OFFLOAD_ECN, "ecn"},   {OFFLOAD_USO4, "uso4"}, {OFFLOAD_USO6, "uso6"},
	};
	size_t at = 0;

	text[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(names) && at < size; i++)
		if (set & names[i].bit)
			at += (size_t)snprintf(text + at, size - at, "%s%s", at ? " " : "", names[i].name);
	return text;
}

uint32_t offload_closed(uint32_t set)
{
	if (!(set & OFFLOAD_CSUM))
		return 0;
	return set & (OFFLOAD_TSO4 | OFFLOAD_TSO6) ? set : set & ~(uint32_t)OFFLOAD_ECN;
}

/* "; tso4 ecn: why" behind what is at @text already. */
static void add_reason(char *text, size_t size, uint32_t set, const char *why)
{
	char names[OFFLOAD_NAMES_MAX];
	size_t at = strlen(text);

	if (set)
		snprintf(text + at, size - at, "%s%s: %s", at ? "; " : "", offload_names(set, names, sizeof(names)),
			 why);
}

void offload_info(const struct offload_deal *d, struct port_info *info)
{
	char names[OFFLOAD_NAMES_MAX], reasons[128] = "";

	offload_names(d->agreed, names, sizeof(names));
	port_info_add(info, "offloads", "%s", names[0] ? names : "none");
	add_reason(reasons, sizeof(reasons), d->off, "switched off");
	add_reason(reasons, sizeof(reasons), OFFLOAD_ALL & ~d->off & ~d->asked, "need what is switched off");
	add_reason(reasons, sizeof(reasons), d->asked & ~d->agreed, "this kernel does not know them");
	if (reasons[0])
		port_info_add(info, "offloads_missing", "%s", reasons);
}
