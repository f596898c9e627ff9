/* SPDX-License-Identifier: Apache-2.0 */
/* What may be read back from a journal, and what may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "virtq/journal.h"

#define WRAP 0x8000

static const struct row {
	const char *what;
	unsigned size;
	struct virtq_journal j;
	bool valid;
} rows[] = {
	{"never written", 256, {0}, true},
	{"at the last entry, wrapped", 256, {.live = 1, .at = WRAP | 255}, true},
	{"the smallest ring", 1, {.live = 1, .at = WRAP}, true},
	{"the largest ring", 32768, {.live = 1, .at = 32767}, true},
	{"at behind the ring", 256, {.at = 256}, false},
	{"at behind the ring, wrapped", 256, {.at = WRAP | 256}, false},
	{"no ring", 0, {0}, false},
	{"live is neither", 256, {.live = 2}, false},
	{"reserved is used", 256, {.reserved = {0, 0, 1}}, false},
	{"an intent", 256, {.live = 1, .n = 2, .to = WRAP, .used = {{254, 7, 60}, {255, 9, 1}}}, true},
	{"its ids and lengths are anything", 256, {.n = 1, .used = {{1, 0xffff, UINT32_MAX}}}, true},
	{"an entry behind the ring", 256, {.n = 2, .used = {{255, 0, 0}, {256, 0, 0}}}, false},
	{"an entry behind the ring, wrapped", 256, {.n = 1, .used = {{WRAP | 256, 0, 0}}}, false},
	{"an entry with a wrap counter", 256, {.n = 1, .used = {{WRAP | 1, 0, 0}}}, true},
	{"to behind the ring", 256, {.n = 1, .to = WRAP | 256}, false},
	{"as many as there can be", 256, {.n = VIRTQ_JOURNAL_ENTRIES}, true},
	{"more than there can be", 32768, {.n = VIRTQ_JOURNAL_ENTRIES + 1}, false},
	{"far more", 32768, {.n = UINT16_MAX}, false},
	{"more than the ring has", 8, {.n = 9}, false},
	{"what is left of an intent", 256, {.n = 0, .to = 999, .used = {{999, 0, 0}}}, true},
};

static void each_journal_is_judged(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (virtq_journal_valid(&rows[i].j, rows[i].size) != rows[i].valid)
			fail_msg("%s: not %s", rows[i].what, rows[i].valid ? "valid" : "refused");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_journal_is_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
