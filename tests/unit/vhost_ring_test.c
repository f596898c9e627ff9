/* SPDX-License-Identifier: Apache-2.0 */
/* When rings run, and what happens to them when something changes under them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "vhost_front.h"

#define MIB UINT64_C(0x100000)

static struct front f;

static int start(void **state)
{
	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 2);
	front_negotiate(&f);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	front_stop(&f);
	return 0;
}

/* Ring 0 runs; its descriptors are the caller's if asked for. */
static void run_ring_0(int *kick, int *call)
{
	front_table(&f);
	front_ring(&f, 0, kick, call);
	front_told(&f, "run 0");
}

static void region_message(enum vhost_request r, struct vhost_wire_region region)
{
	struct vhost_wire_mem_reg m = {.region = region};

	front_send(&f, r, VHOST_FLAG_NEED_REPLY, &m, sizeof(m), &f.mem_fd, r == VHOST_ADD_MEM_REG);
	assert_int_equal(front_reply_u64(&f, r), 0);
}

static void set_log(int fd, uint64_t size, uint64_t offset)
{
	struct vhost_wire_log log = {size, offset};

	front_send(&f, VHOST_SET_LOG_BASE, 0, &log, sizeof(log), &fd, 1);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_LOG_BASE), 0);
}

static struct vhost_state look(void)
{
	struct vhost_state s;

	vhost_state_get(f.v, &s);
	return s;
}

/* ---- what a ring needs ---- */

enum need { NEED_FEATURES, NEED_MEMORY, NEED_NUM, NEED_ADDR, NEED_KICK, NEED_CALL, NEED_N };

static void provide(struct front *g, enum need what)
{
	struct vhost_wire_addr a = front_ring_addr(0);

	switch (what) {
	case NEED_FEATURES:
		front_u64(g, VHOST_SET_FEATURES, FEATURE(VHOST_USER_F_PROTOCOL_FEATURES));
		return;
	case NEED_MEMORY:
		front_table(g);
		return;
	case NEED_NUM:
		front_state(g, VHOST_SET_VRING_NUM, 0, 256);
		return;
	case NEED_ADDR:
		front_addr(g, &a);
		return;
	case NEED_KICK:
		front_vring_fd(g, VHOST_SET_VRING_KICK, 0, -1);
		return;
	default:
		front_vring_fd(g, VHOST_SET_VRING_CALL, 0, -1);
	}
}

static void in_this_order(const enum need order[NEED_N])
{
	struct front g;
	struct vhost_state s;

	front_start(&g, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&g);
	front_told(&g, "connected");
	for (int i = 0; i < NEED_N; i++) {
		vhost_state_get(g.v, &s);
		assert_int_equal(s.rings_running, 0);
		provide(&g, order[i]);
	}
	vhost_state_get(g.v, &s);
	assert_int_equal(s.rings_running, 1);
	front_stop(&g);
}

#define ORDERS 720 /* of six things */

/* Order number @k: its digits in the factorial number system choose among what is left. */
static void nth_order(unsigned k, enum need order[NEED_N])
{
	for (unsigned i = 0; i < NEED_N; i++)
		order[i] = (enum need)i;
	for (unsigned left = NEED_N; left > 1; k /= left, left--) {
		unsigned pick = k % left;
		enum need last = order[left - 1];

		order[left - 1] = order[pick];
		order[pick] = last;
	}
}

static void a_ring_runs_once_nothing_is_missing_whatever_came_last(void **state)
{
	enum need order[NEED_N];

	(void)state;
	for (unsigned k = 0; k < ORDERS; k++) {
		nth_order(k, order);
		in_this_order(order);
	}
}

static void enabling_is_a_state_of_its_own(void **state)
{
	(void)state;
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 1);
	front_told(&f, "enable 0");
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 1);
	run_ring_0(NULL, NULL);
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 0);
	front_told(&f, "disable 0");
	assert_int_equal(look().rings_running, 1);
	front_state(&f, VHOST_SET_VRING_ENABLE, 3, 1);
	front_plain(&f, VHOST_RESET_OWNER);
	front_told(&f, "enable 3; disable 3");
	assert_int_equal(look().rings_running, 1);
}

static void without_protocol_features_rings_start_enabled(void **state)
{
	(void)state;
	front_u64(&f, VHOST_SET_FEATURES, FEATURE(VIRTIO_F_VERSION_1));
	front_told(&f, "features; enable 0; enable 1; enable 2; enable 3");
	front_hang_up(&f);
	front_told(&f, "disable 0; disable 1; disable 2; disable 3; disconnected");
}

static void features_said_again_disturb_nothing(void **state)
{
	(void)state;
	run_ring_0(NULL, NULL);
	front_u64(&f, VHOST_SET_FEATURES, f.features);
	front_told(&f, "");
	front_u64(&f, VHOST_SET_FEATURES, f.features & ~FEATURE(VIRTIO_F_EVENT_IDX));
	front_told(&f, "halt 0; features; run 0");
	assert_false(f.vq[0]->event_idx);
	assert_true(f.vq[0]->indirect);
}

static void an_owner_that_cannot_serve_a_ring_ends_the_connection(void **state)
{
	(void)state;
	f.ring_run_fails = true;
	front_table(&f);
	front_ring(&f, 1, NULL, NULL);
	front_blamed(&f, "SET_VRING_KICK: nobody has time");
}

/* ---- stopping and resuming ---- */

static void get_vring_base_halts_and_tells_where_the_ring_stands(void **state)
{
	struct vhost_wire_state s = {.index = 0};

	(void)state;
	front_used(&f, 0)->idx = 77;
	front_state(&f, VHOST_SET_VRING_BASE, 0, 500); /* what some front ends believe; the used index knows better */
	run_ring_0(NULL, NULL);
	assert_int_equal(f.vq[0]->fetched, 77);
	front_state(&f, VHOST_SET_VRING_BASE, 0, 600);
	front_state(&f, VHOST_GET_VRING_BASE, 0, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_VRING_BASE, &s, sizeof(s)), sizeof(s));
	assert_int_equal(s.index, 0);
	assert_int_equal(s.num, 77);
	front_told(&f, "halt 0");

	/* kick and call are gone, so it takes both to run again */
	front_vring_fd(&f, VHOST_SET_VRING_KICK, 0, -1);
	front_told(&f, "");
	front_vring_fd(&f, VHOST_SET_VRING_CALL, 0, -1);
	front_told(&f, "run 0");

	/* a ring that never ran stands where the front end said */
	front_state(&f, VHOST_SET_VRING_BASE, 3, 1234);
	front_state(&f, VHOST_GET_VRING_BASE, 3, 0);
	front_reply(&f, VHOST_GET_VRING_BASE, &s, sizeof(s));
	assert_int_equal(s.index, 3);
	assert_int_equal(s.num, 1234);
}

static void descriptors_do_not_reach_programs_we_start(void **state)
{
	(void)state;
	run_ring_0(NULL, NULL);
	assert_true(fcntl(f.kick_fd[0], F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(f.vq[0]->call_fd, F_GETFD) & FD_CLOEXEC);
}

static void a_running_ring_keeps_its_size(void **state)
{
	(void)state;
	run_ring_0(NULL, NULL);
	front_state(&f, VHOST_SET_VRING_NUM, 0, 256);
	front_told(&f, "");
	front_state(&f, VHOST_SET_VRING_NUM, 0, 512);
	front_blamed(&f, "SET_VRING_NUM: ring 0 runs with 256 entries, it cannot get 512");
}

static void a_ring_that_starts_interrupts_once(void **state)
{
	int call;

	(void)state;
	run_ring_0(NULL, &call);
	assert_int_equal(front_count(call), 1); /* for what was completed before, but not told */
	close(call);
}

static void another_call_descriptor_loses_no_interrupt(void **state)
{
	int call = front_eventfd();
	unsigned before;

	(void)state;
	run_ring_0(NULL, NULL);
	before = front_open_fds();
	front_vring_fd(&f, VHOST_SET_VRING_CALL, 0, call);
	front_told(&f, "quiesce");
	assert_int_equal(front_count(call), 1);
	assert_true(f.vq[0]->call_fd >= 0);
	assert_int_equal(front_open_fds(), before); /* the old one is closed */
	front_vring_fd(&f, VHOST_SET_VRING_CALL, 0, -1);
	front_told(&f, "quiesce");
	assert_int_equal(f.vq[0]->call_fd, -1);
	assert_int_equal(front_open_fds(), before - 1);
	close(call);
}

static void descriptors_that_would_wait_are_made_not_to(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC), pipe_end[2];

	(void)state;
	assert_int_equal(pipe(pipe_end), 0);
	front_vring_fd(&f, VHOST_SET_VRING_CALL, 0, fd);
	front_vring_fd(&f, VHOST_SET_VRING_ERR, 0, pipe_end[1]);
	front_told(&f, "");
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(pipe_end[1], F_GETFL) & O_NONBLOCK);
	close(fd);
	close(pipe_end[0]);
	close(pipe_end[1]);
}

static void another_kick_descriptor_restarts_the_ring_where_it_was(void **state)
{
	int kick = front_eventfd();
	unsigned before;

	(void)state;
	run_ring_0(NULL, NULL);
	before = front_open_fds();
	front_used(&f, 0)->idx = 9;
	front_vring_fd(&f, VHOST_SET_VRING_KICK, 0, kick);
	front_told(&f, "halt 0; run 0");
	assert_int_equal(f.vq[0]->fetched, 9);
	assert_int_equal(front_open_fds(), before);
	eventfd_write(kick, 1);
	assert_int_equal(front_count(f.kick_fd[0]), 1); /* the owner has the new one */
	front_vring_fd(&f, VHOST_SET_VRING_KICK, 0, -1);
	front_told(&f, "halt 0; run 0");
	assert_int_equal(f.kick_fd[0], -1); /* to be polled */
	close(kick);
}

static void a_reset_forgets_the_device_but_not_the_connection(void **state)
{
	struct vhost_state s;

	(void)state;
	run_ring_0(NULL, NULL);
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 1);
	front_u64(&f, VHOST_SET_STATUS, 15);
	front_forget(&f);
	front_plain(&f, VHOST_RESET_DEVICE);
	front_told(&f, "halt 0; disable 0");
	s = look();
	assert_int_equal(s.status, 0);
	assert_int_equal(s.n_regions, 1);
	assert_true(s.protocol_features & FEATURE(VHOST_PF_REPLY_ACK));
	front_ring(&f, 0, NULL, NULL);
	front_told(&f, ""); /* features are agreed anew */
	front_u64(&f, VHOST_SET_FEATURES, f.features);
	front_told(&f, "features; run 0");
}

/* ---- memory ---- */

static void a_new_table_replaces_the_memory_under_running_rings(void **state)
{
	struct vhost_wire_mem_table t = {.n = 1, .region[0] = front_region()};

	(void)state;
	run_ring_0(NULL, NULL);
	front_table(&f);
	front_told(&f, "halt 0; run 0");
	assert_int_equal(look().n_regions, 1);

	t.region[0].uva += 64 * MIB; /* the ring is nowhere now: it waits */
	front_send(&f, VHOST_SET_MEM_TABLE, 0, &t, 40, &f.mem_fd, 1);
	front_told(&f, "halt 0");
	front_vring_fd(&f, VHOST_SET_VRING_CALL, 0, -1);
	front_told(&f, "");
	front_table(&f);
	front_told(&f, "run 0");
}

static void regions_come_and_go_under_running_rings(void **state)
{
	struct vhost_wire_region first = front_region(), second = front_region(), whole = front_region();

	(void)state;
	first.size = second.size = MIB;
	second.gpa += MIB;
	second.uva += MIB;
	second.mmap_offset += MIB;
	region_message(VHOST_ADD_MEM_REG, first);
	front_ring(&f, 0, NULL, NULL);
	front_told(&f, "run 0");
	region_message(VHOST_ADD_MEM_REG, second);
	front_told(&f, "halt 0; run 0");
	region_message(VHOST_ADD_MEM_REG, second); /* QEMU 7.2 says it for every pair */
	front_told(&f, "halt 0; run 0");
	assert_int_equal(look().memory_bytes, 2 * MIB);

	region_message(VHOST_REM_MEM_REG, first);
	front_told(&f, "halt 0");
	region_message(VHOST_REM_MEM_REG, first); /* and this too */
	region_message(VHOST_REM_MEM_REG, second);
	assert_int_equal(look().n_regions, 0);
	front_told(&f, "");
	region_message(VHOST_ADD_MEM_REG, whole);
	front_told(&f, "run 0");
}

static void a_stray_descriptor_of_rem_mem_reg_is_closed(void **state)
{
	struct vhost_wire_mem_reg m = {.region = front_region()};
	unsigned before;

	(void)state;
	front_table(&f);
	before = front_open_fds();
	front_send(&f, VHOST_REM_MEM_REG, 0, &m, sizeof(m), &f.mem_fd, 1);
	assert_int_equal(look().n_regions, 0);
	assert_int_equal(front_open_fds(), before);
	front_told(&f, "");
}

static void as_many_regions_as_we_say_can_be_added(void **state)
{
	struct vhost_wire_region r = {.size = 4096};

	(void)state;
	for (unsigned i = 0; i < GMEM_REGIONS_MAX; i++) {
		r.gpa = r.uva = FRONT_UVA + i * UINT64_C(8192);
		region_message(VHOST_ADD_MEM_REG, r);
	}
	assert_int_equal(look().n_regions, GMEM_REGIONS_MAX);
}

/* ---- the dirty log ---- */

static void logging_starts_and_ends_under_running_rings(void **state)
{
	struct vhost_wire_addr a = front_ring_addr(0);
	uint64_t quiet = f.features;

	(void)state;
	run_ring_0(NULL, NULL);
	set_log(f.mem_fd, 4096, MIB);
	front_told(&f, "halt 0; run 0");
	assert_false(look().logging);
	front_u64(&f, VHOST_SET_FEATURES, quiet | FEATURE(VHOST_F_LOG_ALL));
	front_told(&f, "halt 0; features; run 0");
	assert_true(look().logging);
	assert_false(f.vq[0]->log_used);
	a.flags = VHOST_ADDR_LOG;
	front_addr(&f, &a);
	front_told(&f, "halt 0; run 0");
	assert_true(f.vq[0]->log_used);
	assert_int_equal(f.vq[0]->used_log.v, a.log);
	set_log(f.mem_fd, 8192, MIB); /* another one in its place */
	front_told(&f, "halt 0; run 0");
	gmem_dirty(vhost_memory(f.v), (gpa_t){3 << 12}, 1);
	assert_int_equal(f.mem[MIB], 1 << 3);
	front_u64(&f, VHOST_SET_FEATURES, quiet);
	front_told(&f, "halt 0; features; run 0");
	assert_false(look().logging);
}

static void with_logging_on_no_ring_runs_before_there_is_a_log(void **state)
{
	uint64_t quiet = f.features;

	(void)state;
	front_u64(&f, VHOST_SET_FEATURES, quiet | FEATURE(VHOST_F_LOG_ALL));
	front_told(&f, "features");
	front_table(&f);
	front_ring(&f, 0, NULL, NULL);
	front_told(&f, "");
	set_log(f.mem_fd, 4096, MIB);
	front_told(&f, "run 0");
	/* The log belonged to that migration: the next one waits for its own. */
	front_u64(&f, VHOST_SET_FEATURES, quiet);
	front_u64(&f, VHOST_SET_FEATURES, quiet | FEATURE(VHOST_F_LOG_ALL));
	front_told(&f, "halt 0; features; run 0; halt 0; features");
	set_log(f.mem_fd, 4096, MIB);
	front_told(&f, "run 0");
}

static void a_log_descriptor_is_taken_and_closed(void **state)
{
	int fd = front_eventfd();
	unsigned before = front_open_fds();

	(void)state;
	front_send(&f, VHOST_SET_LOG_FD, VHOST_FLAG_NEED_REPLY, NULL, 0, &fd, 1);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_LOG_FD), 0);
	assert_int_equal(front_open_fds(), before);
	close(fd);
}

/* ---- the end ---- */

static void a_failure_is_signalled_and_ends_the_connection(void **state)
{
	int error = front_eventfd();

	(void)state;
	run_ring_0(NULL, NULL);
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 1);
	front_vring_fd(&f, VHOST_SET_VRING_ERR, 0, error);
	front_forget(&f);
	vhost_fail(f.v, "ring 0: a descriptor chain loops");
	assert_int_equal(front_count(error), 1);
	front_told(&f, "halt 0; disable 0; disconnected: ring 0: a descriptor chain loops");
	assert_true(front_closed(&f));
	assert_null(vhost_memory(f.v));
	vhost_fail(f.v, "nobody is there any more");
	front_told(&f, "");
	close(error);
}

/* How often this process has the guest's memory mapped. */
static unsigned mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "memfd:guest") != NULL;
	fclose(maps);
	return n;
}

static void everything_lent_is_given_back_at_the_end(void **state)
{
	int error = front_eventfd();
	unsigned before;

	(void)state;
	front_hang_up(&f);
	before = front_open_fds();
	front_forget(&f);
	front_negotiate(&f);
	run_ring_0(NULL, NULL);
	front_ring(&f, 1, NULL, NULL);
	front_vring_fd(&f, VHOST_SET_VRING_ERR, 1, error);
	set_log(f.mem_fd, 4096, MIB);
	front_forget(&f);
	assert_int_equal(mappings(), 3); /* ours, the device's, its log */
	front_hang_up(&f);
	assert_int_equal(mappings(), 1);
	front_told(&f, "halt 0; halt 1; disconnected");
	assert_int_equal(front_open_fds(), before);
	assert_null(vhost_memory(f.v));
	assert_int_equal(look().features | look().protocol_features | look().rings_running, 0);
	close(error);
}

static void a_device_that_is_freed_halts_its_rings_without_a_word(void **state)
{
	struct front g;

	(void)state;
	front_start(&g, VHOST_QEMU, VHOST_LISTEN, 1);
	front_negotiate(&g);
	front_table(&g);
	front_ring(&g, 1, NULL, NULL);
	front_told(&g, "run 1");
	front_stop(&g);
	front_told(&g, "halt 1");
}

#define ON_CONNECTION(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_runs_once_nothing_is_missing_whatever_came_last),
		ON_CONNECTION(enabling_is_a_state_of_its_own),
		ON_CONNECTION(without_protocol_features_rings_start_enabled),
		ON_CONNECTION(features_said_again_disturb_nothing),
		ON_CONNECTION(an_owner_that_cannot_serve_a_ring_ends_the_connection),
		ON_CONNECTION(get_vring_base_halts_and_tells_where_the_ring_stands),
		ON_CONNECTION(descriptors_do_not_reach_programs_we_start),
		ON_CONNECTION(a_running_ring_keeps_its_size),
		ON_CONNECTION(a_ring_that_starts_interrupts_once),
		ON_CONNECTION(another_call_descriptor_loses_no_interrupt),
		ON_CONNECTION(descriptors_that_would_wait_are_made_not_to),
		ON_CONNECTION(another_kick_descriptor_restarts_the_ring_where_it_was),
		ON_CONNECTION(a_reset_forgets_the_device_but_not_the_connection),
		ON_CONNECTION(a_new_table_replaces_the_memory_under_running_rings),
		ON_CONNECTION(regions_come_and_go_under_running_rings),
		ON_CONNECTION(a_stray_descriptor_of_rem_mem_reg_is_closed),
		ON_CONNECTION(as_many_regions_as_we_say_can_be_added),
		ON_CONNECTION(logging_starts_and_ends_under_running_rings),
		ON_CONNECTION(with_logging_on_no_ring_runs_before_there_is_a_log),
		ON_CONNECTION(a_log_descriptor_is_taken_and_closed),
		ON_CONNECTION(a_failure_is_signalled_and_ends_the_connection),
		ON_CONNECTION(everything_lent_is_given_back_at_the_end),
		cmocka_unit_test(a_device_that_is_freed_halts_its_rings_without_a_word),
	};
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
