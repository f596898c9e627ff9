/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/cycles.h"
#include "base/err.h"
#include "base/log.h"
#include "base/time.h"

/* ---- errors ---- */

static void an_error_says_where_why_and_what_to_do(void **state)
{
	struct err e = {0};

	(void)state;
	assert_int_equal(err_set(&e, -EINVAL, "mtu", "choose less", "%d is too much", 70000), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.field, "mtu");
	assert_string_equal(e.text, "70000 is too much");
	assert_string_equal(e.remedy, "choose less");
	assert_int_equal(err_set(&e, -EIO, NULL, NULL, "plain"), -EIO); /* nothing of the last one is left */
	assert_string_equal(e.field, "");
	assert_string_equal(e.remedy, "");
	assert_int_equal(err_set(NULL, -EIO, "x", "y", "%s", "z"), -EIO);
}

static void long_errors_are_cut(void **state)
{
	char text[1000];
	struct err e;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	err_set(&e, -EIO, text, text, "%s", text);
	assert_int_equal(strlen(e.field), sizeof(e.field) - 1);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_int_equal(strlen(e.remedy), sizeof(e.remedy) - 1);
}

/* ---- the log ---- */

static int saved_stderr, log_pipe[2];

static int catch_stderr(void **state)
{
	(void)state;
	saved_stderr = dup(STDERR_FILENO);
	if (saved_stderr < 0 || pipe2(log_pipe, O_NONBLOCK) < 0)
		return -1;
	return dup2(log_pipe[1], STDERR_FILENO) < 0 ? -1 : 0;
}

static int release_stderr(void **state)
{
	(void)state;
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(log_pipe[0]);
	close(log_pipe[1]);
	log_set_level(LOG_INFO);
	return 0;
}

/* What was logged since the last time. */
static const char *logged(void)
{
	static char text[8192];
	ssize_t n = read(log_pipe[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return text;
}

static unsigned lines_logged(void)
{
	unsigned n = 0;

	for (const char *p = logged(); *p; p++)
		n += *p == '\n';
	return n;
}

static void a_message_is_one_line(void **state)
{
	(void)state;
	log_warn("port %s: %s", "vm1", "first\nsecond\r\nthird");
	assert_string_equal(logged(), "flued: warning: port vm1: first second  third\n");
}

static void lines_above_the_level_are_not_shown(void **state)
{
	(void)state;
	log_debug("quiet");
	assert_string_equal(logged(), "");
	log_set_level(LOG_DEBUG);
	log_debug("loud");
	assert_string_equal(logged(), "flued: debug: loud\n");
	log_set_level(LOG_ERROR);
	log_warn("quiet");
	assert_string_equal(logged(), "");
	log_error("loud");
	assert_string_equal(logged(), "flued: error: loud\n");
}

static void noise_is_held_back_and_counted(void **state)
{
	struct log_limit limit = {0}, other = {0};

	(void)state;
	for (int i = 0; i < 100; i++)
		log_limited(&limit, LOG_INFO, "again");
	assert_int_equal(lines_logged(), LOG_BURST);
	log_limited(&other, LOG_INFO, "somebody else");
	assert_int_equal(lines_logged(), 1);

	limit.window_start_ns -= (LOG_WINDOW_S + 1) * NS_PER_S; /* time goes by */
	log_limited(&limit, LOG_INFO, "later");
	assert_string_equal(logged(), "flued: info: 95 similar lines were held back\nflued: info: later\n");
	limit.window_start_ns -= (LOG_WINDOW_S + 1) * NS_PER_S;
	log_limited(&limit, LOG_INFO, "much later");
	assert_string_equal(logged(), "flued: info: much later\n"); /* nothing was held back meanwhile */
}

static void cycles_are_a_clock(void **state)
{
	uint64_t began_ns, began, ns, cycles;

	(void)state;
	cycles_init();
	assert_in_range(cycles_hz(), 1000 * 1000, UINT64_C(10000000000));
	assert_int_equal(cycles_of_ns(NS_PER_S), cycles_hz());
	assert_int_equal(cycles_to_ns(3 * cycles_hz()), 3 * NS_PER_S);
	began_ns = time_now_ns();
	began = cycles_now();
	usleep(20000);
	ns = time_now_ns() - began_ns;
	cycles = cycles_now() - began;
	/* somebody else may have had the core between two readings, for a while */
	assert_in_range(cycles_to_ns(cycles), ns / 2, 2 * ns);
}

/* ---- checksums ---- */

static void crc32c_is_castagnoli(void **state)
{
	uint8_t zeros[32] = {0}, ones[32], up[32]; /* RFC 3720, B.4 */

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	for (unsigned i = 0; i < sizeof(up); i++)
		up[i] = (uint8_t)i;
	assert_int_equal(crc32c(zeros, sizeof(zeros)), 0x8a9136aa);
	assert_int_equal(crc32c(ones, sizeof(ones)), 0x62a8ab43);
	assert_int_equal(crc32c(up, sizeof(up)), 0x46dd794e);
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c("", 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_says_where_why_and_what_to_do),
		cmocka_unit_test(long_errors_are_cut),
		cmocka_unit_test(cycles_are_a_clock),
		cmocka_unit_test_setup_teardown(a_message_is_one_line, catch_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(lines_above_the_level_are_not_shown, catch_stderr, release_stderr),
		cmocka_unit_test_setup_teardown(noise_is_held_back_and_counted, catch_stderr, release_stderr),
		cmocka_unit_test(crc32c_is_castagnoli),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
