/* SPDX-License-Identifier: Apache-2.0 */
/* Ports are made and unmade in the right order, and completely, whichever step fails; with real forwarding and a real
 * worker, and a kind of port that writes down what is done to it.
 */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "ctl/model.h"

struct spy {
	struct port port;
};

static struct {
	struct event_base *events;
	struct fwd *fwd;
	struct workers *workers;
	int attention_fd;
	struct model *model;
	char story[256]; /* what was done to the port */
	int make_fails, start_fails, set_mtu_fails;
} world;

static void tell(const char *what)
{
	snprintf(world.story + strlen(world.story), sizeof(world.story) - strlen(world.story), "%s ", what);
}

static int spy_start(struct port *p, struct err *e)
{
	/* it has joined the switch */
	assert_ptr_equal(fwd_port(world.fwd, p->id), p);
	tell("start");
	return world.start_fails ? err_set(e, world.start_fails, "ifname", "fix it", "cannot start") : 0;
}

static void spy_attend(struct port *p)
{
	(void)p;
	tell("attend");
}

static void spy_info(const struct port *p, struct port_info *info)
{
	(void)p;
	info->state = PORT_UP;
}

static int spy_set_mtu(struct port *p, unsigned mtu, struct err *e)
{
	char text[32];

	snprintf(text, sizeof(text), "mtu=%u", mtu);
	tell(text);
	if (world.set_mtu_fails)
		return err_set(e, world.set_mtu_fails, "mtu", "choose less", "too much");
	atomic_store(&p->mtu, mtu);
	return 0;
}

static void spy_free(struct port *p)
{
	/* it has left the switch */
	for (unsigned id = 0; id < PORTS_MAX; id++)
		assert_ptr_not_equal(fwd_port(world.fwd, id), p);
	tell("free");
	free(container_of(p, struct spy, port));
}

static const struct port_ops spy_ops = {
	.kind = "guest",
	.start = spy_start,
	.attend = spy_attend,
	.info = spy_info,
	.set_mtu = spy_set_mtu,
	.free = spy_free,
};

static struct port *spy_make(const struct port_conf *conf, const struct port_host *host, struct err *e)
{
	struct spy *s;

	(void)host;
	tell("make");
	if (world.make_fails) {
		err_set(e, world.make_fails, "socket", "fix it", "cannot make it");
		return NULL;
	}
	s = aligned_alloc(CACHE_LINE, sizeof(*s));
	assert_non_null(s);
	memset(s, 0, sizeof(*s));
	s->port.ops = &spy_ops;
	memcpy(s->port.name, conf->name, sizeof(s->port.name));
	atomic_store(&s->port.mtu, conf->mtu);
	return &s->port;
}

static void spy_forget(const char *name)
{
	tell(strcmp(name, "a") ? "forget-other" : "forget");
}

static int begin(void **state)
{
	static const struct port_kind kinds[CONF_KIND_N] = {
		{.make = spy_make, .forget = spy_forget}, {.make = spy_make}, {.make = spy_make}};
	static const struct workers_conf one = {.n = 1, .cpu = {-1}, .spin_us = 20};
	struct err e = {0};

	(void)state;
	log_set_level(LOG_ERROR);
	memset(&world, 0, sizeof(world));
	world.events = event_base_new();
	world.fwd = fwd_new(&(struct fwd_conf){.fdb_entries = 64, .ageing_s = 300});
	world.attention_fd = eventfd(0, EFD_NONBLOCK);
	world.workers = workers_new(&one, world.fwd, world.attention_fd, &e);
	world.model = world.workers ? model_new(&(struct model_parts){
					      .fwd = world.fwd,
					      .workers = world.workers,
					      .kinds = kinds,
					      .attention_fd = world.attention_fd,
					      .events = world.events,
				      })
				    : NULL;
	return world.model ? 0 : -1;
}

static int end(void **state)
{
	(void)state;
	model_free(world.model);
	workers_free(world.workers);
	fwd_free(world.fwd);
	close(world.attention_fd);
	event_base_free(world.events);
	return 0;
}

static struct port_conf conf(const char *name)
{
	struct port_conf c = {.mtu = 1500, .fwd.vid = VID_DEFAULT};

	snprintf(c.name, sizeof(c.name), "%s", name);
	snprintf(c.socket, sizeof(c.socket), "/%s", name);
	return c;
}

static int add(const char *name, struct err *e)
{
	struct port_conf c = conf(name);

	*e = (struct err){0};
	return model_port_add(world.model, &c, e);
}

static void a_port_joins_before_it_starts_and_leaves_before_it_is_freed(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	assert_int_equal(model_ports(world.model), 1);
	model_port_remove(world.model, model_port_find(world.model, "a"));
	assert_int_equal(model_ports(world.model), 0);
	assert_null(model_port_find(world.model, "a"));
	assert_string_equal(world.story, "make start free forget ");
}

static void a_port_that_goes_with_the_switch_is_not_forgotten(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	model_free(world.model);
	world.model = NULL;
	assert_string_equal(world.story, "make start free ");
}

static void a_failing_step_takes_back_the_ones_before(void **state)
{
	struct fwd_port_conf taken = {.vid = 1, .has_mac = true, .mac = {{0x52, 0x54, 0, 0, 0, 1}}};
	struct port_conf c = conf("b");
	struct spy *other;
	struct err e;

	(void)state;
	world.make_fails = -ENODEV;
	assert_int_equal(add("a", &e), -ENODEV);
	assert_string_equal(e.text, "cannot make it");
	world.make_fails = 0;

	world.start_fails = -EPERM;
	assert_int_equal(add("a", &e), -EPERM);
	assert_string_equal(e.text, "cannot start");
	world.start_fails = 0;
	assert_string_equal(world.story, "make make start free ");
	assert_int_equal(model_ports(world.model), 0);

	/* forwarding refuses: somebody unknown to the model has the MAC */
	other = (struct spy *)spy_make(&c, NULL, &e);
	assert_int_equal(fwd_port_add(world.fwd, &other->port, &taken, &e), 0);
	world.story[0] = 0;
	c.fwd = taken;
	assert_int_equal(model_port_add(world.model, &c, &e), -EEXIST);
	assert_string_equal(world.story, "make free ");
	fwd_port_remove(world.fwd, &other->port);
	spy_free(&other->port);

	/* and nothing of it stays in the way */
	assert_int_equal(add("a", &e), 0);
}

static void a_clash_is_found_before_anything_is_made(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	world.story[0] = 0;
	assert_int_equal(add("a", &e), -EEXIST);
	assert_string_equal(e.field, "name");
	assert_string_equal(world.story, "");
}

static void the_switch_takes_its_ports_and_no_more(void **state)
{
	char name[16];
	struct err e;

	(void)state;
	for (unsigned i = 0; i < PORTS_MAX; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		assert_int_equal(add(name, &e), 0);
	}
	assert_int_equal(add("one-more", &e), -ENOSPC);
	assert_string_equal(e.text, "the switch has its 256 ports");
	model_port_remove(world.model, model_port_find(world.model, "p7"));
	assert_string_equal(model_port_at(world.model, 7)->conf.name, "p8"); /* the order stays */
	assert_int_equal(add("one-more", &e), 0);
	assert_string_equal(model_port_at(world.model, 255)->conf.name, "one-more");
	assert_null(model_port_at(world.model, 256));
}

static void new_settings_are_in_force_or_the_old_ones_are(void **state)
{
	struct model_port *a;
	struct port_conf c;
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	assert_int_equal(add("b", &e), 0);
	a = model_port_find(world.model, "a");
	world.story[0] = 0;

	c = a->conf;
	c.mtu = 9000;
	assert_int_equal(model_port_set(world.model, a, &c, &e), 0);
	assert_int_equal(a->conf.mtu, 9000);
	assert_int_equal(atomic_load(&a->port->mtu), 9000);

	world.set_mtu_fails = -ERANGE;
	c.mtu = 9001;
	c.fwd.vid = 5;
	assert_int_equal(model_port_set(world.model, a, &c, &e), -ERANGE);
	assert_int_equal(a->conf.mtu, 9000);
	assert_int_equal(a->conf.fwd.vid, 1);
	world.set_mtu_fails = 0;

	/* forwarding refuses (a guard without MAC): the MTU goes back */
	c.fwd.spoof_guard = true;
	assert_int_equal(model_port_set(world.model, a, &c, &e), -EINVAL);
	assert_int_equal(atomic_load(&a->port->mtu), 9000);
	assert_string_equal(world.story, "mtu=9000 mtu=9001 mtu=9001 mtu=9000 ");

	/* a MAC that is the neighbour's */
	c = model_port_find(world.model, "b")->conf;
	c.fwd.has_mac = true;
	c.fwd.mac = (struct mac){{0x52, 0x54, 0, 0, 0, 1}};
	assert_int_equal(model_port_set(world.model, model_port_find(world.model, "b"), &c, &e), 0);
	c = a->conf;
	c.fwd.has_mac = true;
	c.fwd.mac = (struct mac){{0x52, 0x54, 0, 0, 0, 1}};
	assert_int_equal(model_port_set(world.model, a, &c, &e), -EEXIST);
	assert_false(a->conf.fwd.has_mac);
}

static void what_forwarding_reads_of_a_port_follows_its_settings(void **state)
{
	struct port_conf c;
	struct model_port *p;
	struct err e = {0};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool coalesce = i & 1, reply = i & 2;

		c = (struct port_conf){
			.name = "p", .mtu = 1500, .fwd.vid = 1, .coalesce = coalesce, .too_big_reply = reply};
		snprintf(c.socket, sizeof(c.socket), "/p");
		assert_int_equal(model_port_add(world.model, &c, &e), 0);
		p = model_port_find(world.model, "p");
		assert_int_equal(atomic_load(&p->port->coalesce), coalesce);
		assert_int_equal(atomic_load(&p->port->tell_too_big), reply);
		c.coalesce = !coalesce;
		c.too_big_reply = !reply;
		assert_int_equal(model_port_set(world.model, p, &c, &e), 0);
		assert_int_equal(atomic_load(&p->port->coalesce), !coalesce);
		assert_int_equal(atomic_load(&p->port->tell_too_big), !reply);
		/* a guard without MAC: refused, and nothing has changed */
		c.coalesce = coalesce;
		c.fwd.spoof_guard = true;
		assert_int_equal(model_port_set(world.model, p, &c, &e), -EINVAL);
		assert_int_equal(atomic_load(&p->port->coalesce), !coalesce);
		model_port_remove(world.model, p);
	}
}

static void a_port_that_asks_is_attended(void **state)
{
	uint64_t one = 1;
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	assert_int_equal(add("b", &e), 0);
	world.story[0] = 0;
	port_attention(model_port_find(world.model, "b")->port);
	assert_true(port_attention_pending());
	assert_int_equal(write(world.attention_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(event_base_loop(world.events, EVLOOP_ONCE), 0);
	assert_string_equal(world.story, "attend ");
	/* and once only */
	assert_int_equal(write(world.attention_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(event_base_loop(world.events, EVLOOP_ONCE), 0);
	assert_string_equal(world.story, "attend ");
}

static void a_port_that_asks_without_waking_anybody_is_attended_within_the_second(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	world.story[0] = 0;
	port_attention(model_port_find(world.model, "a")->port);
	assert_int_equal(event_base_loop(world.events, EVLOOP_ONCE), 0); /* the next event is the tick */
	assert_string_equal(world.story, "attend ");
}

static void the_end_takes_every_port_along(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(add("a", &e), 0);
	assert_int_equal(add("b", &e), 0);
	world.story[0] = 0;
	model_free(world.model);
	world.model = NULL;
	assert_string_equal(world.story, "free free ");
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_WORLD(a_port_joins_before_it_starts_and_leaves_before_it_is_freed),
		WITH_WORLD(a_port_that_goes_with_the_switch_is_not_forgotten),
		WITH_WORLD(a_failing_step_takes_back_the_ones_before),
		WITH_WORLD(a_clash_is_found_before_anything_is_made),
		WITH_WORLD(the_switch_takes_its_ports_and_no_more),
		WITH_WORLD(new_settings_are_in_force_or_the_old_ones_are),
		WITH_WORLD(what_forwarding_reads_of_a_port_follows_its_settings),
		WITH_WORLD(a_port_that_asks_is_attended),
		WITH_WORLD(a_port_that_asks_without_waking_anybody_is_attended_within_the_second),
		WITH_WORLD(the_end_takes_every_port_along),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
