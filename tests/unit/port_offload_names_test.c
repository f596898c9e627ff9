/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "port/offload.h"

static void a_set_of_offloads_has_names(void **state)
{
	static const struct {
		uint32_t set;
		const char *names;
	} cases[] = {
		{0, ""},
		{OFFLOAD_CSUM, "csum"},
		{OFFLOAD_TSO4 | OFFLOAD_TSO6, "tso4 tso6"},
		{OFFLOAD_ECN | OFFLOAD_USO4, "ecn uso4"},
		{OFFLOAD_USO6, "uso6"},
		{OFFLOAD_ALL, "csum tso4 tso6 ecn uso4 uso6"},
	};
	char text[OFFLOAD_NAMES_MAX];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(offload_names(cases[i].set, text, sizeof(text)), cases[i].names);
	assert_string_equal(offload_names(OFFLOAD_ALL, text, 7), "csum t"); /* as much as there is room for */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_set_of_offloads_has_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
