/* SPDX-License-Identifier: Apache-2.0 */
/* The address table under several threads that learn, move, look up and forget at once. To be run under the thread
 * sanitizer as well. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fwd/fdb.h"

#define THREADS   3
#define KEYS      200 /* more than there is room for */
#define ENTRIES   64
#define PLACES    16     /* a key has one place among these, and one among the next PLACES */
#define STEPS     100000 /* of each thread, and more until the table has seen enough */
#define STEPS_MAX 200000000

struct race {
	struct fdb *t;
	unsigned seed;
	atomic_bool *stop;
	uint64_t wrong, found;
};

static uint64_t key_of(unsigned i)
{
	return fdb_key((uint16_t)(1 + i % 3), UINT64_C(0x020000000000) + i);
}

static dest_t place_of(unsigned i, bool second)
{
	return (dest_t){i % PLACES + (second ? PLACES : 0)};
}

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245u + 12345u;
	return *seed >> 8;
}

static bool is_enough(const struct fdb *t)
{
	return atomic_load_explicit(&((struct fdb *)t)->learned, memory_order_relaxed) > 5000 &&
	       atomic_load_explicit(&((struct fdb *)t)->moved, memory_order_relaxed) > 500;
}

static void *learn_and_look_up(void *arg)
{
	struct race *r = arg;

	for (unsigned step = 0; step < STEPS || (!is_enough(r->t) && step < STEPS_MAX); step++) {
		unsigned i = next_random(&r->seed) % KEYS;
		dest_t d;

		fdb_learn(r->t, key_of(i), place_of(i, next_random(&r->seed) % 8 == 0));
		i = next_random(&r->seed) % KEYS;
		if (!fdb_lookup(r->t, key_of(i), &d))
			continue;
		r->found++;
		r->wrong += d.v != place_of(i, false).v && d.v != place_of(i, true).v;
	}
	return NULL;
}

static bool one_in_five(const void *arg, uint64_t key, uint64_t value)
{
	(void)value;
	return key % 5 == *(const unsigned *)arg;
}

static bool all(const void *arg, uint64_t key, uint64_t value)
{
	(void)arg;
	(void)key;
	(void)value;
	return true;
}

static void *forget_again_and_again(void *arg)
{
	struct race *r = arg;

	for (unsigned i = 0; !atomic_load(r->stop); i++) {
		unsigned rest = i % 5;

		atomic_fetch_add_explicit(&r->t->now_s, 1, memory_order_relaxed); /* and time goes on */
		fdb_forget(r->t, i % 10 == 9 ? all : one_in_five, &rest);
		sched_yield();
	}
	return NULL;
}

/* What must hold whenever nobody is at work: no key twice, each at a place of its own, and the accounts agree. */
static void check_table(const struct fdb *t)
{
	unsigned of_port[PORTS_MAX] = {0}, entries = 0, copies[KEYS] = {0};

	for (uint32_t b = 0; b <= t->mask; b++)
		for (unsigned s = 0; s < FDB_WAYS; s++) {
			uint64_t key = t->bucket[b].slot[s].key, value = t->bucket[b].slot[s].value;
			unsigned i;

			if (!key)
				continue;
			for (i = 0; i < KEYS && key_of(i) != key; i++)
				;
			assert_in_range(i, 0, KEYS - 1);
			assert_int_equal(copies[i]++, 0);
			assert_true(fdb_dest(value).v == place_of(i, false).v ||
				    fdb_dest(value).v == place_of(i, true).v);
			of_port[fdb_dest(value).v]++;
			entries++;
		}
	assert_int_equal(t->entries, entries);
	assert_in_range(entries, 0, t->capacity);
	assert_memory_equal(t->of_port, of_port, sizeof(of_port));
}

static void the_table_stays_sound_whoever_uses_it(void **state)
{
	struct fdb *t = aligned_alloc(CACHE_LINE, sizeof(*t));
	struct race race[THREADS + 1];
	pthread_t thread[THREADS + 1];
	uint64_t found = 0;
	atomic_bool stop = false;

	(void)state;
	assert_non_null(t);
	assert_int_equal(fdb_init(t, ENTRIES), 0);
	for (unsigned i = 0; i <= THREADS; i++) {
		race[i] = (struct race){.t = t, .seed = 4711 * i, .stop = &stop};
		assert_int_equal(pthread_create(&thread[i], NULL,
						i < THREADS ? learn_and_look_up : forget_again_and_again, &race[i]),
				 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(race[i].wrong, 0);
		found += race[i].found;
	}
	atomic_store(&stop, true);
	pthread_join(thread[THREADS], NULL);
	assert_true(found > 0 && is_enough(t));
	check_table(t);

	/* And it still works. */
	fdb_forget(t, all, NULL);
	check_table(t);
	assert_int_equal(t->entries, 0);
	for (unsigned i = 0; i < ENTRIES / 4; i++) {
		dest_t d = {0};

		fdb_learn(t, key_of(i), place_of(i, false));
		assert_true(fdb_lookup(t, key_of(i), &d));
		assert_int_equal(d.v, place_of(i, false).v);
	}
	fdb_fini(t);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_stays_sound_whoever_uses_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
