/* SPDX-License-Identifier: Apache-2.0 */
/* A port's keys as JSON: made, changed, compared. (The same rules from YAML: ctl_yaml_test.c.) */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctl/conf_json.h"

#define RUN_DIR "/run/flue"

static json_t *read_json(const char *text)
{
	json_error_t why;
	json_t *j = json_loads(text, JSON_DECODE_ANY, &why);

	if (!j)
		fail_msg("the test's own JSON is wrong: %s: %s", text, why.text);
	return j;
}

static int make(const char *text, struct port_conf *c, struct err *e)
{
	json_t *j = read_json(text);
	struct port_keys keys;
	int rc;

	*e = (struct err){0};
	rc = conf_json_keys(j, &keys, e);
	if (rc == 0)
		rc = conf_port_make(c, &keys, RUN_DIR, CONF_MTU_DEFAULT, e);
	json_decref(j);
	return rc;
}

static struct port_conf made(const char *text)
{
	struct port_conf c;
	struct err e;

	if (make(text, &c, &e) < 0)
		fail_msg("%s is refused: %s: %s", text, e.field, e.text);
	return c;
}

static int change(struct port_conf *c, const char *text, struct err *e)
{
	json_t *j = read_json(text);
	struct port_keys keys;
	int rc;

	*e = (struct err){0};
	rc = conf_json_keys(j, &keys, e);
	if (rc == 0)
		rc = conf_port_change(c, &keys, e);
	json_decref(j);
	return rc;
}

static void expect(const char *json, int rc, const struct err *e, int code, const char *says)
{
	char text[700];

	snprintf(text, sizeof(text), "%s: %s: %s", e->field, e->text, e->remedy);
	if (rc != code || strcmp(text, says))
		fail_msg("%s\nis %d, should be %d\nsays   %s\nshould %s", json, rc, code, text, says);
}

static void values_of_the_wrong_type_are_refused(void **state)
{
	static const struct {
		const char *json, *says;
	} row[] = {
		{"[]", ": this is not a JSON object: send an object, like {\"name\": \"vm1\"}"},
		{"\"vm1\"", ": this is not a JSON object: send an object, like {\"name\": \"vm1\"}"},
		{"{}", "name: is missing: give each port a name, like vm1"},
		{"{\"name\": 1}", "name: must be a text: write it in quotes"},
		{"{\"name\": null}", "name: must be a text: write it in quotes"},
		{"{\"name\": [\"a\"]}", "name: must be a text: write it in quotes"},
		{"{\"name\": \"a\", \"mtu\": \"1500\"}", "mtu: must be a whole number: write digits, without quotes"},
		{"{\"name\": \"a\", \"mtu\": 1500.0}", "mtu: must be a whole number: write digits, without quotes"},
		{"{\"name\": \"a\", \"mtu\": null}", "mtu: must be a whole number: write digits, without quotes"},
		{"{\"name\": \"a\", \"mtu\": {}}", "mtu: must be a whole number: write digits, without quotes"},
		{"{\"name\": \"a\", \"mtu\": -9223372036854775808}",
		 "mtu: -9223372036854775808 is not an MTU: write a number from 68 to 65535"},
		{"{\"name\": \"a\", \"vlan\": 0}", "vlan: 0 is not a VLAN: write a number from 1 to 4094"},
		{"{\"name\": \"a\", \"trunk\": 10}", "trunk: must be a text: write it in quotes"},
		{"{\"name\": \"a\", \"spoof_guard\": 1}",
		 "spoof_guard: must be yes or no: write true or false, without quotes"},
		{"{\"name\": \"a\", \"spoof_guard\": \"true\"}",
		 "spoof_guard: must be yes or no: write true or false, without quotes"},
		{"{\"name\": \"a\", \"state\": \"up\"}",
		 "state: unknown key: the keys of a port are name, kind, mac, vlan, trunk, native, mtu, spoof_guard, "
		 "offloads_off, too_big_reply, socket, group, role, queues, front_end, ifname, netns, coalesce"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct port_conf c;
		struct err e;
		int rc = make(row[i].json, &c, &e);

		expect(row[i].json, rc, &e, -EINVAL, row[i].says);
	}
}

static void names_and_paths_have_their_limits(void **state)
{
	static const struct {
		const char *json;
		bool good;
	} row[] = {
		{"{\"name\": \"a\"}", true},
		{"{\"name\": \"0.A_b-c\"}", true},
		{"{\"name\": \"abcdefghijklmnopqrstuvwxyz01234\"}", true},   /* 31 */
		{"{\"name\": \"abcdefghijklmnopqrstuvwxyz012345\"}", false}, /* 32 */
		{"{\"name\": \"\"}", false},
		{"{\"name\": \".hidden\"}", false},
		{"{\"name\": \"-option\"}", false},
		{"{\"name\": \"..\"}", false},
		{"{\"name\": \"a/b\"}", false},
		{"{\"name\": \"a b\"}", false},
		{"{\"name\": \"a\\n\"}", false},
		{"{\"name\": \"\xc3\xa4\"}", false},
		{"{\"name\": \"a\", \"socket\": \"/a b\"}", true},
		{"{\"name\": \"a\", \"socket\": \"/a\\tb\"}", false},
		{"{\"name\": \"a\", \"socket\": \"\"}", false},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"ifname\": \"fifteen-letters\"}", true},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"ifname\": \"sixteen--letters\"}", false},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"ifname\": \"..\"}", false},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"ifname\": \"tap%d\"}", false},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"netns\": \"blue\"}", true},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"netns\": \"../blue\"}", false},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"netns\": \"\"}", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct port_conf c;
		struct err e;

		if ((make(row[i].json, &c, &e) == 0) != row[i].good)
			fail_msg("%s: %s", row[i].json, row[i].good ? e.text : "accepted");
	}
}

static void a_socket_path_holds_107_bytes(void **state)
{
	char path[120], json[200];
	struct port_conf c;
	struct err e;

	(void)state;
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	for (int len = 107; len <= 108; len++) {
		snprintf(json, sizeof(json), "{\"name\": \"a\", \"socket\": \"%.*s\"}", len, path);
		assert_int_equal(make(json, &c, &e), len == 107 ? 0 : -EINVAL);
	}
	assert_string_equal(e.text, "the path is longer than the 107 bytes that a Unix socket may have");
}

static void a_run_directory_too_long_for_sockets_is_named(void **state)
{
	struct port_keys keys = {.v[PORT_KEY_name] = {.type = VALUE_TEXT, .text = "vm1"}};
	struct err e = {0};
	struct port_conf c;
	char dir[120];

	(void)state;
	memset(dir, 'd', sizeof(dir) - 1);
	dir[0] = '/';
	dir[sizeof(dir) - 1] = 0;
	assert_int_equal(conf_port_make(&c, &keys, dir, CONF_MTU_DEFAULT, &e), -EINVAL);
	assert_string_equal(e.field, "socket");
	assert_string_equal(e.remedy, "give a shorter path as `socket`");
}

static void lists_of_vlans_are_read_and_written(void **state)
{
	static const struct {
		const char *in, *out; /* NULL: refused */
	} row[] = {
		{"1", "1"},
		{"4094", "4094"},
		{"10,20-30", "10,20-30"},
		{" 10 , 20-30 ", "10,20-30"},
		{"30,10,20", "10,20,30"},
		{"1,2,3", "1-3"},
		{"10-20,15-25", "10-25"},
		{"5-5", "5"},
		{"1-4094", "1-4094"},
		{"0010", "10"},
		{"", NULL},
		{",", NULL},
		{"10,", NULL},
		{"0", NULL},
		{"4095", NULL},
		{"99999999999999999999", NULL},
		{"10-", NULL},
		{"-10", NULL},
		{"20-10", NULL},
		{"10-20-30", NULL},
		{"10 20", NULL},
		{"ten", NULL},
		{"10;20", NULL},
	};
	static char text[VLANS_TEXT_BYTES];
	uint8_t set[VLANS_N / 8];
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		int rc = vlans_parse(row[i].in, set, &e);

		if ((rc == 0) != (row[i].out != NULL))
			fail_msg("'%s' is %d", row[i].in, rc);
		if (rc < 0)
			continue;
		vlans_format(set, text);
		assert_string_equal(text, row[i].out);
	}
}

static void the_longest_list_of_vlans_fits_its_text(void **state)
{
	static char text[VLANS_TEXT_BYTES];
	uint8_t set[VLANS_N / 8] = {0}, again[VLANS_N / 8];
	struct err e;

	(void)state;
	for (unsigned v = 1; v <= VID_MAX; v++)
		if (v % 3)
			set[v / 8] |= (uint8_t)(1u << (v & 7));
	vlans_format(set, text);
	assert_true(strlen(text) < sizeof(text) - 16);
	assert_int_equal(vlans_parse(text, again, &e), 0);
	assert_memory_equal(set, again, sizeof(set));
}

static void a_port_comes_back_as_it_was_written(void **state)
{
	static const char *const row[] = {
		"{\"name\":\"vm1\",\"kind\":\"guest\",\"mac\":null,\"vlan\":1,\"mtu\":1500,\"spoof_guard\":false,"
		"\"offloads_off\":\"\",\"too_big_reply\":true,\"socket\":\"/run/flue/"
		"vm1.sock\",\"role\":\"listen\",\"queues\":4,\"front_end\":\"qemu\"}",
		"{\"name\":\"vm2\",\"kind\":\"guest\",\"mac\":\"52:54:00:00:00:01\",\"trunk\":\"10,20-30\",\"native\":"
		"10,"
		"\"mtu\":9000,\"spoof_guard\":true,\"offloads_off\":\"all mrg_rxbuf "
		"mtu\",\"too_big_reply\":false,\"socket\":\"/s\",\"role\":\"connect\",\"queues\":1,\"front_end\":"
		"\"crosvm\"}",
		"{\"name\":\"t\",\"kind\":\"tap\",\"mac\":null,\"trunk\":\"5\",\"mtu\":1500,\"spoof_guard\":false,"
		"\"offloads_off\":\"tso6 "
		"uso4\",\"too_big_reply\":true,\"ifname\":\"tap0\",\"netns\":\"blue\",\"coalesce\":false}",
		("{\"name\":\"p\",\"kind\":\"packet\",\"mac\":null,\"vlan\":4094,\"mtu\":68,\"spoof_guard\":false,"
		 "\"offloads_off\":\"\",\"too_big_reply\":true,\"ifname\":\"eth1\",\"coalesce\":true}"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		json_t *in = read_json(row[i]), *out;
		struct port_conf c;
		char *text;

		json_object_del(in, strstr(row[i], "\"mac\":null") ? "mac" : "");
		text = json_dumps(in, JSON_COMPACT);
		c = made(text);
		free(text);
		json_decref(in);
		out = conf_json_port(&c);
		text = json_dumps(out, JSON_COMPACT);
		assert_string_equal(text, row[i]);
		free(text);
		json_decref(out);
	}
}

#define GUARDED "{\"name\": \"a\", \"mac\": \"52:54:00:00:00:01\"}"
#define PLAIN   "{\"name\": \"a\"}"
#define ACCESS  "{\"name\": \"a\", \"vlan\": 10}"
#define TRUNK   "{\"name\": \"a\", \"trunk\": \"10-20\", \"native\": 10}"

static void changes_keep_what_they_do_not_name(void **state)
{
	static const struct {
		const char *before, *change, *now; /* now: "MAC guard vlans mtu" */
	} row[] = {
		{PLAIN, "{}", "- off 1 1500"},
		{PLAIN, "{\"mtu\": 9000}", "- off 1 9000"},
		{PLAIN, "{\"mac\": \"52:54:00:00:00:01\"}", "52:54:00:00:00:01 on 1 1500"},
		{PLAIN, "{\"mac\": \"52:54:00:00:00:01\", \"spoof_guard\": false}", "52:54:00:00:00:01 off 1 1500"},
		{GUARDED, "{\"mac\": null}", "- off 1 1500"},
		{GUARDED, "{\"spoof_guard\": false}", "52:54:00:00:00:01 off 1 1500"},
		{GUARDED, "{\"mac\": \"52:54:00:00:00:02\"}", "52:54:00:00:00:02 on 1 1500"},
		{ACCESS, "{\"vlan\": 20}", "- off 20 1500"},
		{ACCESS, "{\"trunk\": \"5-6\"}", "- off trunk 5-6 native 0 1500"},
		{ACCESS, "{\"trunk\": \"5-6\", \"native\": 5}", "- off trunk 5-6 native 5 1500"},
		{TRUNK, "{\"trunk\": \"10-30\"}", "- off trunk 10-30 native 10 1500"},
		{TRUNK, "{\"native\": 20}", "- off trunk 10-20 native 20 1500"},
		{TRUNK, "{\"native\": null}", "- off trunk 10-20 native 0 1500"},
		{TRUNK, "{\"vlan\": 7}", "- off 7 1500"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct port_conf c = made(row[i].before);
		static char trunk[VLANS_TEXT_BYTES];
		char vlans[100], now[200], mac[MAC_TEXT_BYTES];
		struct err e;

		if (change(&c, row[i].change, &e) < 0)
			fail_msg("%s is refused: %s", row[i].change, e.text);
		vlans_format(c.fwd.allowed, trunk);
		snprintf(vlans, sizeof(vlans), c.fwd.trunk ? "trunk %.40s native %u" : "%.40s%u",
			 c.fwd.trunk ? trunk : "", c.fwd.vid);
		snprintf(now, sizeof(now), "%s %s %s %u", c.fwd.has_mac ? mac_format(c.fwd.mac, mac) : "-",
			 c.fwd.spoof_guard ? "on" : "off", vlans, c.mtu);
		if (strcmp(now, row[i].now))
			fail_msg("%s, then %s\nis     %s\nshould %s", row[i].before, row[i].change, now, row[i].now);
	}
}

static void changes_that_cannot_be_leave_the_port_alone(void **state)
{
	static const char delete_and_add[] = "cannot change while the port exists: delete the port and add it again";
	static const struct {
		const char *before, *change;
		int code;
		const char *says; /* NULL: delete_and_add, of the key that is its own JSON name */
	} row[] = {
		{PLAIN, "{\"name\": \"b\"}", -EBUSY, "name"},
		{PLAIN, "{\"kind\": \"tap\"}", -EBUSY, "kind"},
		{PLAIN, "{\"socket\": \"/s\"}", -EBUSY, "socket"},
		{PLAIN, "{\"role\": \"connect\"}", -EBUSY, "role"},
		{PLAIN, "{\"queues\": 2}", -EBUSY, "queues"},
		{PLAIN, "{\"front_end\": \"crosvm\"}", -EBUSY, "front_end"},
		{PLAIN, "{\"ifname\": \"eth0\"}", -EBUSY, "ifname"},
		{PLAIN, "{\"netns\": \"blue\"}", -EBUSY, "netns"},
		{PLAIN, "{\"offloads_off\": \"\"}", -EBUSY, "offloads_off"},
		{PLAIN, "{\"mtu\": 9000, \"vlan\": 5000}", -EINVAL,
		 "vlan: 5000 is not a VLAN: write a number from 1 to 4094"},
		{PLAIN, "{\"native\": 5}", -EINVAL,
		 "native: only a trunk has a native VLAN: give `vlan` for an access port, or `trunk` too"},
		{PLAIN, "{\"spoof_guard\": true}", -EINVAL,
		 "spoof_guard: the spoof guard needs to know the port's MAC: give `mac` too, or leave the guard off"},
		{GUARDED, "{\"mac\": null, \"spoof_guard\": true}", -EINVAL,
		 "spoof_guard: the spoof guard needs to know the port's MAC: give `mac` too, or leave the guard off"},
		{TRUNK, "{\"trunk\": \"11-20\"}", -EINVAL,
		 "trunk: the native VLAN 10 is not one of the trunk's: add it to `trunk`, or choose another `native`"},
		{TRUNK, "{\"vlan\": 5, \"trunk\": \"10\"}", -EINVAL,
		 "trunk: `vlan` is given too: keep one of them: `vlan` for an access port, `trunk` for a trunk"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct port_conf c = made(row[i].before), before = c;
		char says[200];
		struct err e;
		int rc = change(&c, row[i].change, &e);

		snprintf(says, sizeof(says), row[i].code == -EBUSY ? "%s: %s" : "%s%.0s", row[i].says, delete_and_add);
		expect(row[i].change, rc, &e, row[i].code, says);
		assert_memory_equal(&c, &before, sizeof(c));
	}
}

static void ports_that_cannot_be_neighbours_are_told(void **state)
{
	static const struct {
		const char *one, *other, *says; /* NULL: they can */
	} row[] = {
		{"{\"name\": \"a\"}", "{\"name\": \"b\"}", NULL},
		{"{\"name\": \"a\"}", "{\"name\": \"A\"}", NULL},
		{"{\"name\": \"a\"}", "{\"name\": \"a\", \"kind\": \"tap\"}",
		 "name: there is a port a already: give each port a name of its own"},
		{GUARDED, "{\"name\": \"b\", \"mac\": \"52:54:00:00:00:01\"}",
		 "mac: 52:54:00:00:00:01 belongs to port b: give each port a MAC of its own"},
		{GUARDED, "{\"name\": \"b\", \"mac\": \"52:54:00:00:00:02\"}", NULL},
		{"{\"name\": \"a\", \"socket\": \"/run/flue/b.sock\"}", "{\"name\": \"b\"}",
		 "socket: /run/flue/b.sock belongs to port b: give each port a socket of its own"},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"ifname\": \"b\"}", "{\"name\": \"b\", \"kind\": \"packet\"}",
		 "ifname: b belongs to port b: give each port an interface of its own"},
		{"{\"name\": \"a\", \"kind\": \"tap\", \"ifname\": \"b\", \"netns\": \"blue\"}",
		 "{\"name\": \"b\", \"kind\": \"tap\"}", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct port_conf one = made(row[i].one), other = made(row[i].other);
		struct err e = {0};
		int rc = conf_port_clash(&one, &other, &e);

		if (row[i].says)
			expect(row[i].one, rc, &e, -EEXIST, row[i].says);
		else
			assert_int_equal(rc, 0);
	}
}

static void a_guest_without_a_mac_gets_one_of_its_own(void **state)
{
	struct port_conf a = made("{\"name\": \"vm1\"}"), again = made("{\"name\": \"vm1\"}");
	struct port_conf b = made("{\"name\": \"vm2\"}"), given = made(GUARDED);

	(void)state;
	assert_true(mac_equal(a.mac, again.mac));
	assert_false(mac_equal(a.mac, b.mac));
	assert_int_equal(a.mac.b[0], 0x02); /* locally administered, one station */
	assert_false(a.fwd.has_mac);
	assert_true(mac_equal(given.mac, given.fwd.mac));
}

static void workers_are_placed_on_allowed_cpus(void **state)
{
	static const struct {
		const char *allowed; /* CPUs, a character each: '1' is allowed */
		const char *workers; /* where they are to be */
	} row[] = {
		{"1", "0"},     {"11", "1"},          {"111", "2"},
		{"1111", "32"}, {"11111111", "7654"}, {"1111111111", "9876"},
		{"0110", "2"},  {"1010101", "64"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct conf c = {0};
		struct err e = {0};
		cpu_set_t allowed;
		char at[WORKERS_MAX + 1] = "";

		CPU_ZERO(&allowed);
		for (int cpu = 0; row[i].allowed[cpu]; cpu++)
			if (row[i].allowed[cpu] == '1')
				CPU_SET(cpu, &allowed);
		assert_int_equal(conf_workers(&c, &allowed, &e), 0);
		for (unsigned k = 0; k < c.workers.n; k++)
			at[k] = (char)('0' + c.workers.cpu[k]);
		assert_string_equal(at, row[i].workers);
	}
}

static void workers_that_come_later_have_cpus_too(void **state)
{
	struct conf c = {.n_cpus = 2, .workers = {.cpu = {2, 0}}};
	struct err e = {0};
	cpu_set_t allowed;

	(void)state;
	CPU_ZERO(&allowed);
	for (unsigned cpu = 0; cpu < 5; cpu++)
		CPU_SET(cpu, &allowed);
	assert_int_equal(conf_workers(&c, &allowed, &e), 0);
	assert_int_equal(c.workers.n, 2);
	assert_memory_equal(c.workers.cpu, ((int[]){2, 0, 4, 3, 1, -1, -1}), 7 * sizeof(int));
	assert_int_equal(c.workers.cpu[WORKERS_MAX - 1], -1);

	c.workers.n = 7; /* said in so many words */
	assert_int_equal(conf_workers(&c, &allowed, &e), 0);
	assert_int_equal(c.workers.n, 7);
}

static void cpus_that_cannot_be_are_refused(void **state)
{
	struct conf c = {.n_cpus = 2, .workers = {.cpu = {1, 3}}};
	struct err e = {0};
	cpu_set_t allowed;

	(void)state;
	CPU_ZERO(&allowed);
	CPU_SET(1, &allowed);
	CPU_SET(2, &allowed);
	assert_int_equal(conf_workers(&c, &allowed, &e), -EINVAL);
	assert_string_equal(e.field, "workers.cpus[1]");
	assert_string_equal(e.text, "flued may not run on CPU 3");
	c.workers.cpu[1] = 1;
	assert_int_equal(conf_workers(&c, &allowed, &e), -EINVAL);
	assert_string_equal(e.text, "CPU 1 is there twice");
	c.workers.cpu[1] = 2;
	assert_int_equal(conf_workers(&c, &allowed, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_of_the_wrong_type_are_refused),
		cmocka_unit_test(names_and_paths_have_their_limits),
		cmocka_unit_test(a_socket_path_holds_107_bytes),
		cmocka_unit_test(a_run_directory_too_long_for_sockets_is_named),
		cmocka_unit_test(lists_of_vlans_are_read_and_written),
		cmocka_unit_test(the_longest_list_of_vlans_fits_its_text),
		cmocka_unit_test(a_port_comes_back_as_it_was_written),
		cmocka_unit_test(changes_keep_what_they_do_not_name),
		cmocka_unit_test(changes_that_cannot_be_leave_the_port_alone),
		cmocka_unit_test(ports_that_cannot_be_neighbours_are_told),
		cmocka_unit_test(a_guest_without_a_mac_gets_one_of_its_own),
		cmocka_unit_test(workers_are_placed_on_allowed_cpus),
		cmocka_unit_test(workers_that_come_later_have_cpus_too),
		cmocka_unit_test(cpus_that_cannot_be_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
