/* SPDX-License-Identifier: Apache-2.0 */
#include "port/offload.h"

#include <stdio.h>

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
