/* SPDX-License-Identifier: Apache-2.0 */
/* The socket in both roles: who gets in, when, and what becomes of the file. */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/time.h"
#include "vhost_front.h"

static struct sockaddr_un address(const struct front *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, f->conf.path, sizeof(a.sun_path));
	return a;
}

static int bound_socket(const struct front *f)
{
	struct sockaddr_un a = address(f);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static bool exists(const struct front *f)
{
	struct stat st;

	return lstat(f->conf.path, &st) == 0;
}

/* Another device at the same path; owned by nobody, so nothing may be told. */
static struct vhost *another(const struct front *f, struct err *e)
{
	static const struct vhost_ops none = {0};

	*e = (struct err){0};
	return vhost_new(&f->conf, f->base, &none, NULL, e);
}

static bool served(struct front *f)
{
	uint64_t v;

	front_plain(f, VHOST_GET_FEATURES);
	if (recv(f->sock, &v, sizeof(v), MSG_DONTWAIT | MSG_PEEK) != sizeof(v))
		return false;
	front_reply_u64(f, VHOST_GET_FEATURES);
	return true;
}

/* ---- listening ---- */

static void a_stale_socket_file_is_replaced(void **state)
{
	struct front f;
	struct err e;
	struct vhost *v;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	vhost_free(f.v);
	close(bound_socket(&f)); /* the file stays, nobody answers */
	assert_true(exists(&f));
	f.v = v = another(&f, &e);
	if (!v)
		fail_msg("%s", e.text);
	front_stop(&f);
}

static void a_socket_that_somebody_serves_is_left_alone(void **state)
{
	struct front f;
	struct err e;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	assert_null(another(&f, &e));
	assert_int_equal(e.code, -EADDRINUSE);
	assert_string_equal(e.field, "socket");
	assert_non_null(strstr(e.text, "in use by another program"));
	front_turn(&f); /* the probe came and went */
	front_forget(&f);
	front_connect(&f);
	assert_true(served(&f));
	front_stop(&f);
}

static void a_file_that_is_no_socket_is_left_alone(void **state)
{
	struct front f;
	struct err e;
	FILE *file;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	vhost_free(f.v);
	f.v = NULL;
	file = fopen(f.conf.path, "w");
	assert_non_null(file);
	fclose(file);
	assert_null(another(&f, &e));
	assert_int_equal(e.code, -EEXIST);
	assert_non_null(strstr(e.text, "is no socket"));
	assert_true(exists(&f));
	front_stop(&f);
}

static void impossible_settings_are_refused(void **state)
{
	struct front f;
	struct err e;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	f.conf.pairs = 0;
	assert_null(another(&f, &e));
	assert_string_equal(e.field, "queues");
	f.conf.pairs = VHOST_PAIRS_MAX + 1;
	assert_null(another(&f, &e));
	assert_string_equal(e.field, "queues");
	f.conf.pairs = 1;
	f.conf.path[0] = '\0';
	assert_null(another(&f, &e));
	assert_int_equal(e.code, -EINVAL);
	memset(f.conf.path, 'x', sizeof(f.conf.path)); /* no end */
	assert_null(another(&f, &e));
	assert_int_equal(e.code, -EINVAL);
	snprintf(f.conf.path, sizeof(f.conf.path), "%s/none/s", f.dir);
	assert_null(another(&f, &e));
	assert_int_equal(e.code, -ENOENT);
	snprintf(f.conf.path, sizeof(f.conf.path), "%s/s", f.dir);
	front_stop(&f);
}

static void the_socket_file_goes_with_its_device(void **state)
{
	struct front f;
	int other;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	assert_true(exists(&f));
	vhost_free(f.v);
	assert_false(exists(&f));

	/* unless somebody put another one in its place */
	struct err e;

	f.v = another(&f, &e);
	assert_non_null(f.v);
	unlink(f.conf.path);
	other = bound_socket(&f);
	vhost_free(f.v);
	f.v = NULL;
	assert_true(exists(&f));
	close(other);
	front_stop(&f);
}

static void a_second_front_end_is_turned_away(void **state)
{
	struct front f;
	int first;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	first = f.sock;
	front_connect(&f);
	assert_true(front_closed(&f));
	close(f.sock);
	f.sock = first;
	assert_true(served(&f));
	front_told(&f, "connected");
	front_stop(&f);
}

static void a_front_end_that_has_gone_unheard_makes_way(void **state)
{
	/* More words than one turn listens to, with and without replies: the newcomer is seen before the end. */
	static const enum vhost_request last_words[] = {VHOST_SET_OWNER, VHOST_GET_FEATURES};
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	for (size_t i = 0; i < ARRAY_SIZE(last_words); i++) {
		struct vhost_wire_header h[100];

		for (size_t k = 0; k < ARRAY_SIZE(h); k++)
			h[k] = (struct vhost_wire_header){last_words[i], 1, 0};
		front_connect(&f);
		assert_int_equal(send(f.sock, h, sizeof(h), 0), sizeof(h));
		close(f.sock);
		front_connect(&f);
		assert_true(served(&f));
		front_told(&f, "connected; disconnected; connected"); /* nobody was turned away, or made to wait */
		front_hang_up(&f);
		front_forget(&f);
	}
	front_stop(&f);
}

static void after_a_broken_rule_the_next_one_waits_a_moment(void **state)
{
	struct vhost_state s;
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	front_u64(&f, VHOST_GET_FEATURES, 0);
	front_blamed(&f, "GET_FEATURES");
	close(f.sock);
	front_connect(&f); /* into the backlog */
	front_told(&f, "");
	front_wait(&f, VHOST_RETRY_MS + 100);
	front_told(&f, "connected");
	assert_true(served(&f));
	vhost_state_get(f.v, &s);
	assert_int_equal(s.connects, 2);
	front_stop(&f);
}

static void after_an_ordinary_end_the_next_one_is_served_at_once(void **state)
{
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	for (int i = 0; i < 10; i++) {
		front_connect(&f);
		assert_true(served(&f));
		front_hang_up(&f);
		front_told(&f, "connected; disconnected");
	}
	front_stop(&f);
}

/* ---- connecting ---- */

/* Let the device connect to @listener within a second. */
static void accept_device(struct front *f, int listener)
{
	f->sock = -1;
	for (int ms = 0; ms < 1000 && f->sock < 0; ms += 20) {
		front_wait(f, 20);
		f->sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	}
	assert_true(f->sock >= 0);
	front_turn(f);
}

static void a_missing_front_end_is_tried_again_until_it_comes(void **state)
{
	struct front f;
	int listener;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_CONNECT, 1);
	front_wait(&f, 2L * VHOST_RETRY_MS); /* no such file */
	listener = bound_socket(&f);
	front_wait(&f, 2L * VHOST_RETRY_MS); /* nobody listens */
	front_told(&f, "");
	assert_int_equal(listen(listener, 4), 0);
	accept_device(&f, listener);
	assert_true(served(&f));

	front_hang_up(&f); /* a restart of the front end */
	front_told(&f, "connected; disconnected");
	accept_device(&f, listener);
	assert_true(served(&f));
	front_u64(&f, VHOST_GET_FEATURES, 0); /* a broken rule */
	front_blamed(&f, "GET_FEATURES");
	close(f.sock);
	accept_device(&f, listener);
	assert_true(served(&f));
	close(listener);
	front_stop(&f);
}

static void a_front_end_that_hangs_up_at_once_costs_little(void **state)
{
	uint64_t start_ns = time_now_ns(), attempts;
	struct vhost_state s;
	struct front f;
	int listener, fd;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_CONNECT, 1);
	listener = bound_socket(&f);
	assert_int_equal(listen(listener, 4), 0);
	for (int ms = 0; ms < 5 * VHOST_RETRY_MS; ms += 5) {
		front_wait(&f, 5);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			close(fd);
	}
	attempts = (time_now_ns() - start_ns) / (VHOST_RETRY_MS * NS_PER_S / 1000) + 1;
	vhost_state_get(f.v, &s);
	assert_in_range(s.connects, 2, attempts);
	close(listener);
	front_stop(&f);
}

static void a_device_that_connects_leaves_the_file_alone(void **state)
{
	struct front f;
	int listener;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_CONNECT, 1);
	listener = bound_socket(&f);
	vhost_free(f.v);
	f.v = NULL;
	assert_true(exists(&f));
	close(listener);
	front_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stale_socket_file_is_replaced),
		cmocka_unit_test(a_socket_that_somebody_serves_is_left_alone),
		cmocka_unit_test(a_file_that_is_no_socket_is_left_alone),
		cmocka_unit_test(impossible_settings_are_refused),
		cmocka_unit_test(the_socket_file_goes_with_its_device),
		cmocka_unit_test(a_second_front_end_is_turned_away),
		cmocka_unit_test(a_front_end_that_has_gone_unheard_makes_way),
		cmocka_unit_test(after_a_broken_rule_the_next_one_waits_a_moment),
		cmocka_unit_test(after_an_ordinary_end_the_next_one_is_served_at_once),
		cmocka_unit_test(a_missing_front_end_is_tried_again_until_it_comes),
		cmocka_unit_test(a_front_end_that_hangs_up_at_once_costs_little),
		cmocka_unit_test(a_device_that_connects_leaves_the_file_alone),
	};
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
