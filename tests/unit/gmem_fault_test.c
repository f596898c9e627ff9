/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka has handlers of its own while a test runs: each test installs ours again. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "gmem_files.h"

/* ---- files that are truncated under us ---- */

static void a_truncated_region_becomes_zero_pages(void **state)
{
	static const struct {
		uint64_t left; /* of 64 KiB */
		uint64_t touch;
	} row[] = {{0, 0}, {0, 64 * KIB - 1}, {32 * KIB, 40 * KIB}, {4096, 4096}};

	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0);
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct gmem *m = new_map(), *neighbour = new_map();
		unsigned before = gmem_fault_count();
		int fd = add_new(m, MIB, 64 * KIB);
		struct gspan s;

		close(add_new(m, 4 * MIB, 64 * KIB));
		close(add_new(neighbour, MIB, 64 * KIB));
		memset(pointer_to(m, MIB), 0xaa, 64 * KIB);
		memset(pointer_to(m, 4 * MIB), 0xbb, 64 * KIB);
		memset(pointer_to(neighbour, MIB), 0xcc, 64 * KIB);
		assert_int_equal(ftruncate(fd, (off_t)row[i].left), 0);
		assert_false(gmem_faulted(m)); /* nobody has touched it yet */

		s = span_at(m, MIB + row[i].touch, 1);
		gmem_write(m, &s, "x", 1);
		assert_true(gmem_faulted(m));
		assert_int_equal(gmem_fault_count() - before, 1);
		for (uint64_t k = 0; k < 64 * KIB; k++)
			assert_int_equal(pointer_to(m, MIB)[k], k == row[i].touch ? 'x' : 0);
		assert_int_equal(gmem_fault_count() - before, 1);

		assert_false(gmem_faulted(neighbour));
		assert_int_equal(*pointer_to(m, 4 * MIB), 0xbb);
		assert_int_equal(*pointer_to(neighbour, MIB), 0xcc);
		close(fd);
		gmem_free(m);
		gmem_free(neighbour);
	}
	assert_int_equal(count_mappings(), 0);
}

static void reading_what_was_truncated_gives_zeros(void **state)
{
	struct gmem *m = new_map();
	int fd = add_new(m, 0, 64 * KIB);
	uint8_t copy[100], zero[100] = {0};

	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0);
	memset(pointer_to(m, 0), 0xaa, 64 * KIB);
	assert_int_equal(ftruncate(fd, 0), 0);
	memcpy(copy, pointer_to(m, 60 * KIB), sizeof(copy));
	assert_memory_equal(copy, zero, sizeof(copy));
	assert_true(gmem_faulted(m));
	close(fd);
	gmem_free(m);
}

static void a_truncated_log_counts_as_well(void **state)
{
	struct gmem *m = new_map();
	int fd = new_file(64 * KIB);
	struct err e;

	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0);
	assert_int_equal(gmem_log_set(m, fd, 64 * KIB, 0, &e), 0);
	m->log.on = true;
	assert_int_equal(ftruncate(fd, 0), 0);
	gmem_dirty(m, (gpa_t){UINT64_C(1) << 30}, 4096);
	assert_true(gmem_faulted(m));
	gmem_log_drop(m);
	assert_false(gmem_faulted(m));
	close(fd);
	gmem_free(m);
}

static void what_comes_after_a_fault_is_not_blamed_for_it(void **state)
{
	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0);
	for (int i = 0; i < 3; i++) {
		struct gmem *m = new_map();
		int fd = add_new(m, 0, 4096);

		assert_false(gmem_faulted(m));
		assert_int_equal(ftruncate(fd, 0), 0);
		*pointer_to(m, 0) = 1;
		assert_true(gmem_faulted(m));
		gmem_free(m);
		close(fd);
	}
}

#define TOUCHERS 3
#define TOUCHED  200 /* maps for each of them */

struct toucher {
	struct gmem *map[TOUCHED];
	atomic_bool done;
	unsigned wrong;
};

static void *touch_truncated_maps(void *arg)
{
	struct toucher *t = arg;

	for (unsigned i = 0; i < TOUCHED; i++) {
		uint8_t *p = pointer_to(t->map[i], 0);

		p[0] = 1;
		p[16 * KIB - 1] = 2;
		t->wrong += p[0] != 1 || p[16 * KIB - 1] != 2 || !gmem_faulted(t->map[i]);
	}
	atomic_store(&t->done, true);
	return NULL;
}

/* A bystander's memory of some size, filled; and its end, when it still must be so. */
static struct gmem *new_bystander(unsigned i)
{
	uint64_t bytes = 4 * KIB * (1 + i * 37 % 64);
	struct gmem *m = new_map();

	close(add_new(m, 0, bytes));
	memset(pointer_to(m, 0), 0xdd, bytes);
	return m;
}

static void end_bystander(struct gmem *m)
{
	uint64_t bytes = m->region[0]->size_bytes;

	assert_false(gmem_faulted(m));
	for (uint64_t k = 0; k < bytes; k += 1024)
		assert_int_equal(pointer_to(m, 0)[k], 0xdd);
	gmem_free(m);
}

static void faults_of_several_threads_hit_nobody_else(void **state)
{
	static struct toucher toucher[TOUCHERS];
	struct gmem *bystander[8] = {NULL};
	pthread_t thread[TOUCHERS];
	unsigned before = gmem_fault_count(), n = 0;
	bool all_done = false;

	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0);
	for (unsigned t = 0; t < TOUCHERS; t++)
		for (unsigned i = 0; i < TOUCHED; i++) {
			int fd;

			toucher[t].map[i] = new_map();
			fd = add_new(toucher[t].map[i], 0, 16 * KIB);
			assert_int_equal(ftruncate(fd, 0), 0);
			close(fd);
		}
	for (unsigned t = 0; t < TOUCHERS; t++)
		assert_int_equal(pthread_create(&thread[t], NULL, touch_truncated_maps, &toucher[t]), 0);
	/* meanwhile other guests' memory comes and goes */
	while (!all_done) {
		struct gmem **slot = &bystander[n % ARRAY_SIZE(bystander)];

		if (*slot)
			end_bystander(*slot);
		*slot = new_bystander(n++);
		all_done = true;
		for (unsigned t = 0; t < TOUCHERS; t++)
			all_done &= atomic_load(&toucher[t].done);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bystander); i++)
		if (bystander[i])
			end_bystander(bystander[i]);
	for (unsigned t = 0; t < TOUCHERS; t++) {
		pthread_join(thread[t], NULL);
		assert_int_equal(toucher[t].wrong, 0);
		for (unsigned i = 0; i < TOUCHED; i++)
			gmem_free(toucher[t].map[i]);
	}
	assert_int_equal(gmem_fault_count() - before, TOUCHERS * TOUCHED);
	assert_int_equal(count_mappings(), 0);
}

/* How a child process ends that does @what. */
static int signal_of_child(void (*what)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit none = {0};

		setrlimit(RLIMIT_CORE, &none);
		what();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch_foreign_file(void)
{
	int fd = memfd_create(FILE_NAME, MFD_CLOEXEC);
	volatile uint8_t *p;

	if (ftruncate(fd, 4096) < 0)
		_exit(1);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ftruncate(fd, 0) < 0)
		_exit(1);
	*p = 1;
}

static void touch_memory_that_was_given_back(void)
{
	struct gmem *m = new_map();
	volatile uint8_t *p;
	int fd = add_new(m, 0, 4096);

	p = pointer_to(m, 0);
	gmem_free(m);
	if (mmap((void *)p, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    ftruncate(fd, 0) < 0)
		_exit(1);
	*p = 1;
}

static void send_itself_a_signal(void)
{
	kill(getpid(), SIGBUS);
}

static void nothing_is_mapped_over_what_is_not_a_guests(void **state)
{
	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0);
	assert_int_equal(signal_of_child(touch_foreign_file), SIGBUS);
	assert_int_equal(signal_of_child(touch_memory_that_was_given_back), SIGBUS);
	assert_int_equal(signal_of_child(send_itself_a_signal), SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_truncated_region_becomes_zero_pages),
		cmocka_unit_test(reading_what_was_truncated_gives_zeros),
		cmocka_unit_test(a_truncated_log_counts_as_well),
		cmocka_unit_test(what_comes_after_a_fault_is_not_blamed_for_it),
		cmocka_unit_test(faults_of_several_threads_hit_nobody_else),
		cmocka_unit_test(nothing_is_mapped_over_what_is_not_a_guests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
