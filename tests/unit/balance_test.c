/* SPDX-License-Identifier: Apache-2.0 */
/* Which queue moves, for what loads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/balance.h"

#define QUEUES 6
#define NONE   -1

static const struct {
	const char *what;
	unsigned workers;
	struct balance_queue q[QUEUES]; /* of queues that are not there: no load */
	int queue;                      /* that moves */
	unsigned to;
} row[] = {
	{"nothing to do", 2, {{0, 0}, {0, 0}}, NONE, 0},
	{"one worker", 1, {{0, 500}, {0, 500}}, NONE, 0},
	{"two that work hard beside one that idles", 2, {{0, 500}, {0, 500}}, 0, 1},
	{"one queue fills its worker: no move helps", 2, {{0, 1000}, {1, 10}}, NONE, 0},
	{"it can be freed of its neighbour, though", 2, {{0, 800}, {0, 200}, {1, 10}}, 1, 1},
	{"the one that comes closest to even", 2, {{0, 600}, {0, 400}, {0, 0}, {1, 100}}, 1, 1},
	{"to the idlest, from the busiest", 4, {{0, 300}, {1, 400}, {1, 300}, {2, 50}, {3, 200}}, 2, 2},
	{"little work stays where it is", 2, {{0, 150}, {0, 149}}, NONE, 0},
	{"a small difference too", 2, {{0, 300}, {0, 290}, {1, 400}}, NONE, 0},
	{"and one that is not worth it", 2, {{0, 510}, {0, 90}, {1, 300}}, NONE, 0},
	{"a neighbour that is nearly as busy would not thank us", 2, {{0, 700}, {0, 299}, {1, 650}}, NONE, 0},
};

static void the_right_queue_moves(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		unsigned queue = QUEUES, to = 0;
		bool moves = balance_plan(row[i].q, QUEUES, row[i].workers, &queue, &to);

		if (moves != (row[i].queue != NONE) || (moves && (queue != (unsigned)row[i].queue || to != row[i].to)))
			fail_msg("%s: queue %u to worker %u", row[i].what, moves ? queue : 99, to);
	}
}

/* Whatever the loads, if they stay what they are: it comes to rest, and every move made the larger load smaller. */
static void it_comes_to_rest(void **state)
{
	unsigned seed = 1;

	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		unsigned workers = 1 + round % 5, queue, to, moves = 0;
		struct balance_queue q[QUEUES];

		for (unsigned i = 0; i < QUEUES; i++) {
			seed = seed * 1103515245u + 12345u;
			q[i] = (struct balance_queue){.worker = seed >> 8 & 0xff, .load = seed >> 16 & 0x3ff};
			q[i].worker %= workers;
		}
		while (balance_plan(q, QUEUES, workers, &queue, &to)) {
			assert_true(queue < QUEUES && to < workers && to != q[queue].worker);
			q[queue].worker = to;
			assert_true(++moves <= 3 * QUEUES);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_right_queue_moves),
		cmocka_unit_test(it_comes_to_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
