/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "state/state_layout.h"

/* For the tests of the state file: a directory for each, flued's life and death, ports that agree to numbers. */

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, start, stop)
#define rig_run(tests) (log_set_level(LOG_ERROR), cmocka_run_group_tests(tests, NULL, NULL))

static char dir[64], path[96], bad[96];
static struct state *s;

static inline int start(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/state-test-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/flued.state", dir);
	snprintf(bad, sizeof(bad), "%s/flued.state.bad", dir);
	s = NULL;
	return 0;
}

static inline int stop(void **state)
{
	(void)state;
	state_close(s);
	unlink(path);
	unlink(bad);
	rmdir(path);
	rmdir(bad);
	return rmdir(dir);
}

static inline void open_it(void)
{
	struct err e = {0};

	s = state_open(path, &e);
	if (!s)
		fail_msg("state_open: %s", e.text);
}

/* This flued ends, and the next one begins. */
static inline void reopen(void)
{
	state_close(s);
	open_it();
}

static inline bool exists(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

static inline struct vhost_agreed agreement(unsigned n)
{
	return (struct vhost_agreed){.offered = UINT64_C(1) << 32 | n,
				     .acked = n,
				     .protocol_offered = 2 * n,
				     .protocol_acked = 3 * n,
				     .pairs = 1,
				     .peer_pid = n,
				     .bound = 1};
}

static inline void assert_agreed(const struct vhost_saved *saved, unsigned n)
{
	struct vhost_agreed a = n ? agreement(n) : (struct vhost_agreed){0};

	assert_non_null(saved);
	assert_memory_equal(&saved->agreed, &a, sizeof(a));
}

/* Port @name agrees to what number @n stands for, and its ring 1 is at @n. */
static inline struct vhost_saved *agree(const char *name, unsigned n)
{
	struct vhost_saved *saved = state_port(s, name, 1);

	assert_non_null(saved);
	saved->agreed = agreement(n);
	saved->journal[1].live = 1;
	saved->journal[1].at = (uint16_t)n;
	state_port_save(s, saved);
	return saved;
}

static inline void expect(const char *name, unsigned n)
{
	struct vhost_saved *saved = state_port(s, name, 1);

	assert_agreed(saved, n);
	assert_int_equal(saved->journal[1].live, n != 0);
	assert_int_equal(saved->journal[1].at, n);
	state_port_release(s, saved);
}

/* Two ports in slots 0 and 1, and flued has ended. */
static inline void leave_two(void)
{
	open_it();
	agree("vm1", 11);
	agree("vm2", 21);
	agree("vm2", 22); /* twice: both of its records are in use */
	state_close(s);
	s = NULL;
}

static inline void cut_to(off_t bytes)
{
	assert_return_code(truncate(path, bytes), errno);
}
