/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: what a good one means, and the exact words about each kind of bad one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/conf.h"
#include "ctl/conf_offload.h"

#define RUN_DIR "/run/flue"
#define KNOWN_PORT                                                                                                     \
	"the keys here are name, kind, mac, vlan, trunk, native, mtu, spoof_guard, offloads_off, too_big_reply, "      \
	"socket, group, role, queues, front_end, ifname, netns, coalesce"

static int parse(const char *text, struct conf *c, unsigned *line, struct err *e)
{
	*e = (struct err){0};
	conf_init(c);
	return conf_yaml_parse(c, text, strlen(text), RUN_DIR, line, e);
}

/* As a person sees it: "LINE: FIELD: TEXT: REMEDY". */
static void sentence(const struct err *e, unsigned line, char *text, size_t size)
{
	snprintf(text, size, "%u: %s%s%s%s%s", line, e->field, e->field[0] ? ": " : "", e->text,
		 e->remedy[0] ? ": " : "", e->remedy);
}

static void bad_files_are_refused_in_these_words(void **state)
{
	static const struct {
		const char *yaml, *says;
	} row[] = {
		/* the shape */
		{"ports: [",
		 "2: this is not YAML: did not find expected node content: see flue.yaml(5) for an example"},
		{"switch:\n\tname: x\n", "2: this is not YAML: found character that cannot start any token: "
					 "see flue.yaml(5) for an example"},
		{"a: b: c\n", "1: this is not YAML: mapping values are not allowed in this context: see flue.yaml(5) "
			      "for an example"},
		{"switch: {name: a}\n---\nports: []\n",
		 "2: the file holds more than one document: remove the line `---`"},
		{"- a\n", "1: must have keys and values: write lines like `key: value`"},
		{"text", "1: must have keys and values: write lines like `key: value`"},
		{"switch: x\n", "1: switch: must have keys and values: write lines like `key: value`"},
		{"switch:\n", "1: switch: must have keys and values: write lines like `key: value`"},
		{"\nports: {name: a}\n", "2: ports: must be a list: write entries that begin with a dash, or []"},
		{"ports:\n  - name: a\n    mac: [1]\n",
		 "3: ports[0].mac: must be a single value: write it on one line, without brackets and dashes"},
		{"ports:\n- name: a\n- name: b\n  mtu: 9000\n  mtu: 1500\n",
		 "5: ports[1].mtu: is there twice: keep one of them"},
		{"workers:\n  cpus: [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,\n    16]\n",
		 "2: workers.cpus: has more than 16 entries: take some out"},
		{"switch: &s {name: a}\napi: *s\n", "2: api: an alias is not allowed: write the value out"},
		/* keys */
		{"switches: 1\n", "1: switches: unknown key: the keys here are switch, workers, api, ports"},
		{"switch:\n  name: a\n  aging_s: 5\n",
		 "3: switch.aging_s: unknown key: the keys here are name, mtu, ageing_s, fdb_entries"},
		{"switch: {mtu: 67}\n", "1: switch.mtu: 67 is out of range: write a number from 68 to 9216"},
		{"switch: {mtu: 9217}\n", "1: switch.mtu: 9217 is out of range: write a number from 68 to 9216"},
		{"workers: {cpu: [1]}\n", "1: workers.cpu: unknown key: the keys here are cpus, n, spin_us, gather_us"},
		{"api: {path: a}\n", "1: api.path: unknown key: the keys here are socket, mode, group"},
		{"ports:\n  - name: a\n\n    mtuu: 5\n", "4: ports[0].mtuu: unknown key: " KNOWN_PORT},
		/* switch, workers, api */
		{"switch: {ageing_s: -1}\n", "1: switch.ageing_s: '-1' is not a number: write digits only"},
		{"switch: {ageing_s: 1000001}\n",
		 "1: switch.ageing_s: 1000001 is out of range: write a number from 0 to 1000000"},
		{"switch: {ageing_s: 99999999999999999999}\n",
		 "1: switch.ageing_s: '99999999999999999999' is not a number: write digits only"},
		{"switch:\n  fdb_entries: 16k\n", "2: switch.fdb_entries: '16k' is not a number: write digits only"},
		{"switch:\n  fdb_entries: 63\n",
		 "2: switch.fdb_entries: 63 is out of range: write a number from 64 to 1048576"},
		{"switch: {name: ''}\n", "1: switch.name: '' is not a name: write 1 to 31 bytes"},
		{"workers:\n  spin_us: 1000001\n",
		 "2: workers.spin_us: 1000001 is out of range: write a number from 0 to 1000000"},
		{"workers: {n: 0}\n", "1: workers.n: 0 is out of range: write a number from 1 to 16"},
		{"workers:\n  gather_us: 1001\n",
		 "2: workers.gather_us: 1001 is out of range: write a number from 0 to 1000"},
		{"workers:\n  cpus:\n  - 1\n  - x\n", "4: workers.cpus[1]: 'x' is not a number: write digits only"},
		{"api: {mode: \"0888\"}\n",
		 "1: api.mode: '0888' is not a file mode: write it as chmod takes it, like \"0660\""},
		{"api: {mode: \"4755\"}\n",
		 "1: api.mode: '4755' is not a file mode: write it as chmod takes it, like \"0660\""},
		{"api: {group: }\n",
		 "1: api.group: '' is not the name of a group: write the name of a group, as in /etc/group"},
		{"api: {socket: ''}\n",
		 "1: api.socket: '' is not a path for a Unix socket: write a path of 1 to 107 bytes"},
		/* ports */
		{"ports: [{}]\n", "1: ports[0].name: is missing: give each port a name, like vm1"},
		{"ports:\n- kind: tap\n- name: b\n", "2: ports[0].name: is missing: give each port a name, like vm1"},
		{"ports: [{name: a b}]\n",
		 "1: ports[0].name: 'a b' is not a name for a port: use 1 to 31 letters, digits, dots, dashes and "
		 "underscores, and begin with a letter or digit"},
		{"ports: [{name: a, kind: veth}]\n",
		 "1: ports[0].kind: 'veth' is not a kind of port: write guest, tap or packet"},
		{"ports:\n- name: a\n- name: b\n- name: c\n  mac: xx\n",
		 "5: ports[2].mac: 'xx' is not a MAC address: write six hex pairs, like 52:54:00:12:34:56"},
		{"ports: [{name: a, mac: }]\n",
		 "1: ports[0].mac: '' is not a MAC address: write six hex pairs, like 52:54:00:12:34:56"},
		{"ports: [{name: a, mac: 01:00:5e:00:00:01}]\n",
		 "1: ports[0].mac: 01:00:5e:00:00:01 is not the address of one station: use an address whose first "
		 "byte "
		 "is even, like 52:54:00:12:34:56"},
		{"ports: [{name: a, vlan: 4095}]\n",
		 "1: ports[0].vlan: 4095 is not a VLAN: write a number from 1 to 4094"},
		{"ports: [{name: a, vlan: ten}]\n", "1: ports[0].vlan: 'ten' is not a number: write digits only"},
		{"ports: [{name: a, trunk: 10-5}]\n",
		 "1: ports[0].trunk: '10-5' is not a list of VLANs: write numbers from 1 to 4094 and ranges of them, "
		 "like \"10,20-30\""},
		{"ports: [{name: a, vlan: 10, trunk: 10}]\n",
		 "1: ports[0].trunk: `vlan` is given too: keep one of them: `vlan` for an access port, `trunk` for a "
		 "trunk"},
		{"ports: [{name: a, native: 10}]\n",
		 "1: ports[0].native: only a trunk has a native VLAN: give `vlan` for an access port, or `trunk` too"},
		{"ports: [{name: a, native: 10, trunk: 11-20}]\n",
		 "1: ports[0].native: the native VLAN 10 is not one of the trunk's: add it to `trunk`, or choose "
		 "another "
		 "`native`"},
		{"ports: [{name: a, mtu: 67}]\n", "1: ports[0].mtu: 67 is not an MTU: write a number from 68 to 65535"},
		{"ports: [{name: a, mtu: 65536}]\n",
		 "1: ports[0].mtu: 65536 is not an MTU: write a number from 68 to 65535"},
		{"ports: [{name: a, kind: tap, mtu: 9217}]\n",
		 "1: ports[0].mtu: 9217 is not an MTU for a port of kind tap: write a number from 68 to 9216: an "
		 "interface carries no more"},
		{"ports: [{name: a, offloads_off: csum gso}]\n",
		 "1: ports[0].offloads_off: 'gso' is not an offload of a port of kind guest: the words are all csum "
		 "tso4 "
		 "tso6 ecn uso uso4 uso6 guest_csum guest_tso4 guest_tso6 guest_ecn guest_uso guest_uso4 guest_uso6 "
		 "mrg_rxbuf mtu"},
		{"ports: [{name: a, coalesce: true}]\n",
		 "1: ports[0].coalesce: a port of kind guest does not have this: leave it out, or choose another kind"},
		{"ports: [{name: a, spoof_guard: maybe}]\n",
		 "1: ports[0].spoof_guard: 'maybe' is neither yes nor no: write true or false"},
		{"ports: [{name: a, spoof_guard: true}]\n",
		 "1: ports[0].spoof_guard: the spoof guard needs to know the port's MAC: give `mac` too, or leave the "
		 "guard off"},
		{"ports: [{name: a, socket: vm1.sock}]\n",
		 "1: ports[0].socket: 'vm1.sock' is not an absolute path: write the whole path, beginning with /"},
		{"ports: [{name: a, role: server}]\n",
		 "1: ports[0].role: 'server' is not a role: write listen (the VM's program connects) or connect (it "
		 "listens)"},
		{"ports: [{name: a, queues: 0}]\n",
		 "1: ports[0].queues: 0 is not a number of queue pairs: write a number from 1 to 16"},
		{"ports: [{name: a, queues: 17}]\n",
		 "1: ports[0].queues: 17 is not a number of queue pairs: write a number from 1 to 16"},
		{"ports: [{name: a, front_end: xen}]\n",
		 "1: ports[0].front_end: 'xen' is not a front end that is known here: write qemu, cloud-hypervisor or "
		 "crosvm"},
		{"ports: [{name: a, ifname: eth0}]\n",
		 "1: ports[0].ifname: a port of kind guest does not have this: leave it out, or choose another kind"},
		{"ports: [{name: a, kind: tap, queues: 2}]\n",
		 "1: ports[0].queues: a port of kind tap does not have this: leave it out, or choose another kind"},
		{"ports: [{name: a, kind: tap, ifname: a/b}]\n",
		 "1: ports[0].ifname: 'a/b' is not a name for an interface: use 1 to 15 characters without space, "
		 "slash, "
		 "colon or percent"},
		{"ports: [{name: a-name-of-16-byte, kind: packet}]\n",
		 "1: ports[0].ifname: a-name-of-16-byte is too long for the name of an interface: give `ifname`"},
		{"ports: [{name: a, kind: tap, netns: /run/netns/blue}]\n",
		 "1: ports[0].netns: '/run/netns/blue' is not a name of a network namespace: write a name that "
		 "`ip netns list` shows, not a path"},
		/* one beside the other */
		{"ports:\n- name: a\n- name: b\n- name: a\n",
		 "4: ports[2].name: there is a port a already (ports[0], line 2): give each port a name of its own"},
		{"ports:\n- name: a\n  mac: 52:54:00:00:00:01\n- name: b\n  mac: 52:54:00:00:00:01\n",
		 "5: ports[1].mac: 52:54:00:00:00:01 belongs to port a (ports[0], line 2): give each port a MAC of its "
		 "own"},
		{"ports:\n- name: a\n- name: b\n  socket: /run/flue/a.sock\n",
		 "4: ports[1].socket: /run/flue/a.sock belongs to port a (ports[0], line 2): give each port a socket "
		 "of "
		 "its own"},
		{"ports:\n- {name: a, kind: tap, ifname: t0}\n- {name: t0, kind: packet}\n",
		 "3: ports[1].ifname: t0 belongs to port a (ports[0], line 2): give each port an interface of its own"},
	};
	char says[800];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct conf c;
		struct err e;
		unsigned line;

		if (parse(row[i].yaml, &c, &line, &e) == 0)
			fail_msg("accepted: %s", row[i].yaml);
		sentence(&e, line, says, sizeof(says));
		if (strcmp(says, row[i].says))
			fail_msg("%s\nsays   %s\nshould %s", row[i].yaml, says, row[i].says);
		conf_fini(&c);
	}
}

static void an_empty_file_means_the_defaults(void **state)
{
	static const char *const empty[] = {"", "\n", "# nothing but a remark\n", "{}", "ports: []", "switch: {}"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(empty); i++) {
		struct conf c;
		struct err e;
		unsigned line;

		if (parse(empty[i], &c, &line, &e) < 0)
			fail_msg("'%s' is refused: %s", empty[i], e.text);
		assert_int_equal(c.n_ports, 0);
		assert_string_equal(c.switch_name, "default");
		assert_int_equal(c.fwd.ageing_s, 300);
		assert_int_equal(c.fwd.fdb_entries, 16384);
		assert_int_equal(c.workers.n, 0);
		assert_int_equal(c.workers.spin_us, 20);
		assert_int_equal(c.workers.gather_us, 2);
		assert_string_equal(c.api.socket, "");
		assert_int_equal(c.api.mode, 0660);
		conf_fini(&c);
	}
}

static void load(const char *text, struct conf *c)
{
	unsigned line;
	struct err e;

	if (parse(text, c, &line, &e) < 0)
		fail_msg("refused: line %u: %s: %s", line, e.field, e.text);
}

static void every_key_arrives(void **state)
{
	struct conf c;
	char mac[MAC_TEXT_BYTES];

	(void)state;
	load("switch: {name: blue, mtu: 4000, ageing_s: 0, fdb_entries: 64}\n"
	     "workers: {cpus: [3, 0], n: 7, spin_us: 0, gather_us: 1000}\n"
	     "api: {socket: /tmp/x.sock, mode: \"0600\", group: kvm}\n"
	     "ports:\n"
	     "  - {name: vm1, mac: 52:54:00:00:00:0A, vlan: 10, mtu: 9000, spoof_guard: false, socket: /s, role: "
	     "connect,\n"
	     "     queues: 16, front_end: cloud-hypervisor, offloads_off: \"tso4, guest_csum\", too_big_reply: false}\n"
	     "  - {name: t, kind: tap, trunk: \"10,20-30\", native: 10, ifname: tap0, netns: blue, coalesce: false,\n"
	     "     offloads_off: all}\n"
	     "  - {name: eth1, kind: packet}\n",
	     &c);
	assert_string_equal(c.switch_name, "blue");
	assert_int_equal(c.mtu, 4000);
	assert_int_equal(c.fwd.ageing_s, 0);
	assert_int_equal(c.fwd.fdb_entries, 64);
	assert_int_equal(c.n_cpus, 2);
	assert_int_equal(c.workers.n, 7);
	assert_int_equal(c.workers.cpu[0], 3);
	assert_int_equal(c.workers.cpu[1], 0);
	assert_int_equal(c.workers.spin_us, 0);
	assert_int_equal(c.workers.gather_us, 1000);
	assert_string_equal(c.api.socket, "/tmp/x.sock");
	assert_int_equal(c.api.mode, 0600);
	assert_string_equal(c.api.group, "kvm");
	assert_int_equal(c.n_ports, 3);

	assert_string_equal(c.port[0].name, "vm1");
	assert_int_equal(c.port[0].kind, CONF_GUEST);
	assert_string_equal(mac_format(c.port[0].fwd.mac, mac), "52:54:00:00:00:0a");
	assert_false(c.port[0].fwd.trunk);
	assert_int_equal(c.port[0].fwd.vid, 10);
	assert_int_equal(c.port[0].mtu, 9000);
	assert_false(c.port[0].fwd.spoof_guard);
	assert_string_equal(c.port[0].socket, "/s");
	assert_int_equal(c.port[0].role, VHOST_CONNECT);
	assert_int_equal(c.port[0].queues, 16);
	assert_int_equal(c.port[0].front_end, VHOST_CLOUD_HYPERVISOR);
	assert_int_equal(c.port[0].offloads_off, OFFLOAD_TSO4 | OFF_TO_GUEST(OFFLOAD_CSUM));
	assert_false(c.port[0].too_big_reply);

	assert_int_equal(c.port[1].kind, CONF_TAP);
	assert_true(c.port[1].fwd.trunk);
	assert_int_equal(c.port[1].fwd.vid, 10);
	assert_string_equal(c.port[1].ifname, "tap0");
	assert_string_equal(c.port[1].netns, "blue");
	assert_int_equal(c.port[1].offloads_off, OFFLOAD_ALL);
	assert_false(c.port[1].coalesce);
	assert_int_equal(c.port[1].mtu, 4000);

	assert_int_equal(c.port[2].kind, CONF_PACKET);
	assert_string_equal(c.port[2].ifname, "eth1");
	assert_string_equal(c.port[2].netns, "");
	assert_int_equal(c.port[2].offloads_off, 0);
	assert_true(c.port[2].coalesce && c.port[2].too_big_reply);
	conf_fini(&c);
}

static void a_port_with_a_name_only_is_a_guest_that_listens(void **state)
{
	struct conf c;

	(void)state;
	load("ports: [{name: vm1}, {name: vm2, mac: 52:54:00:00:00:01}]", &c);
	assert_int_equal(c.port[0].kind, CONF_GUEST);
	assert_int_equal(c.port[0].fwd.vid, VID_DEFAULT);
	assert_false(c.port[0].fwd.has_mac);
	assert_false(c.port[0].fwd.spoof_guard);
	assert_int_equal(c.port[0].mtu, 1500);
	assert_string_equal(c.port[0].socket, RUN_DIR "/vm1.sock");
	assert_int_equal(c.port[0].role, VHOST_LISTEN);
	assert_int_equal(c.port[0].queues, 4);
	assert_int_equal(c.port[0].front_end, VHOST_QEMU);
	assert_int_equal(c.port[0].offloads_off, 0);
	assert_true(c.port[0].too_big_reply);
	assert_false(c.port[0].coalesce);
	/* a MAC to guard */
	assert_true(c.port[1].fwd.spoof_guard);
	conf_fini(&c);
}

static void a_file_that_is_not_there_or_too_large_is_named(void **state)
{
	char path[] = "/tmp/flue-conf-XXXXXX";
	int fd = mkstemp(path);
	struct conf c;
	struct err e = {0};
	unsigned line;

	(void)state;
	assert_true(fd >= 0);
	conf_init(&c);
	assert_int_equal(ftruncate(fd, CONF_FILE_MAX + 1), 0);
	assert_int_equal(conf_yaml_load(&c, path, RUN_DIR, &line, &e), -EFBIG);
	assert_int_equal(ftruncate(fd, 1), 0);
	assert_int_equal(conf_yaml_load(&c, path, RUN_DIR, &line, &e), -EINVAL);
	assert_string_equal(e.text, "the file has a zero byte in it");
	close(fd);
	unlink(path);
	assert_int_equal(conf_yaml_load(&c, path, RUN_DIR, &line, &e), -ENOENT);
	assert_string_equal(e.text, "cannot be opened: No such file or directory");
	assert_int_equal(conf_yaml_load(&c, "/", RUN_DIR, &line, &e), -EIO);
	conf_fini(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_files_are_refused_in_these_words),
		cmocka_unit_test(an_empty_file_means_the_defaults),
		cmocka_unit_test(every_key_arrives),
		cmocka_unit_test(a_port_with_a_name_only_is_a_guest_that_listens),
		cmocka_unit_test(a_file_that_is_not_there_or_too_large_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
