/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <net/if.h>
#include <sched.h>
#include <sys/types.h>

#include "base/access.h"
#include "base/base.h"
#include "base/err.h"
#include "fwd/fwd.h"
#include "port/port.h"
#include "vhost/vhost.h"
#include "worker/worker.h"

/* What the operator asked for, checked. A configuration file (conf_yaml.c) and an API request (conf_json.c) are both
 * first read as keys and values, and become a configuration by the one set of rules in conf_port.c.
 *
 * Thread: control. Nothing here touches the network or the switch.
 */

#define CONF_PATH_MAX        108        /* of a Unix socket, with the final zero */
#define CONF_NETNS_MAX       64         /* name of a network namespace, with the final zero */
#define CONF_FILE_MAX        (1u << 20) /* bytes of a configuration file: a few times PORTS_MAX ports with every key */
#define CONF_AGEING_S_MAX    1000000    /* IEEE 802.1Q, 8.8.3 */
#define CONF_FDB_ENTRIES_MIN 64
#define CONF_MTU_DEFAULT     1500
#define CONF_WIRE_MTU_MAX    9216 /* of a port that is an interface: what NICs and switches carry at most */

enum conf_kind { CONF_GUEST, CONF_TAP, CONF_PACKET, CONF_KIND_N };
const char *conf_kind_name(enum conf_kind k); /* "guest", "tap", "packet" */

const char *conf_role_name(enum vhost_role r); /* "listen", "connect" */

/* A port that may be made: every field is valid, defaults are filled in. */
struct port_conf {
	char name[PORT_NAME_MAX];
	enum conf_kind kind;
	struct fwd_port_conf fwd;
	unsigned mtu;
	uint32_t offloads_off; /* OFF_* (conf_offload.h) */
	bool too_big_reply;

	/* CONF_GUEST */
	struct mac mac; /* of the guest: the configured one, or one made from the port's name */
	char socket[CONF_PATH_MAX];
	char group[GROUP_NAME_MAX]; /* who may connect to it, beside root; "": nobody */
	enum vhost_role role;
	enum vhost_front_end front_end;
	unsigned queues; /* pairs */

	/* CONF_TAP, CONF_PACKET */
	char ifname[IFNAMSIZ];
	char netns[CONF_NETNS_MAX]; /* "": flued's own */
	bool coalesce;
};

struct conf {
	char switch_name[PORT_NAME_MAX];
	unsigned mtu; /* of ports that do not say */
	struct fwd_conf fwd;
	struct workers_conf workers; /* not yet complete: see conf_workers() */
	unsigned n_cpus;             /* of workers.cpu[], that were named */
	struct {
		char socket[CONF_PATH_MAX]; /* "": the run directory's api.sock */
		mode_t mode;
		char group[GROUP_NAME_MAX]; /* "": flued's own */
	} api;
	struct port_conf *port; /* [n_ports] */
	unsigned n_ports;
};

/* ---- keys and values, not yet checked ---- */

enum port_key {
#define KEY(name, type, kinds, change) PORT_KEY_##name,
#include "ctl/port_keys.def"
#undef KEY
	PORT_KEY_N
};

enum value_type {
	VALUE_UNSET,
	VALUE_NONE, /* JSON's null: take it away */
	VALUE_TEXT,
	VALUE_NUMBER,
	VALUE_FLAG,
	VALUE_OTHER, /* what no key may be: a fraction, a list */
};

struct value {
	enum value_type type;
	union {
		const char *text; /* borrowed from the document */
		int64_t number;
		bool flag;
	};
};

struct port_keys {
	struct value v[PORT_KEY_N];
};

struct port_key_info {
	const char *name;
	enum value_type type;
	unsigned kinds; /* bit of each enum conf_kind that has it */
	bool live;      /* may change while the port runs */
};
extern const struct port_key_info port_key_info[PORT_KEY_N];

/* ---- conf_port.c: the rules ---- */

/* @keys as a new port; its guest socket is in @run_dir and its MTU @mtu unless it says otherwise. On failure e->field is
 * the key. */
int conf_port_make(struct port_conf *c, const struct port_keys *keys, const char *run_dir, unsigned mtu,
		   struct err *e) must_check;

/* Change @c as @keys say; keys that are not set stay. -EBUSY: a key that cannot change while the port runs.
 * On failure *c is unchanged. */
int conf_port_change(struct port_conf *c, const struct port_keys *keys, struct err *e) must_check;

/* Can @c and @other be ports of one switch? -EEXIST: they share a name, a MAC, a socket or an interface. */
int conf_port_clash(const struct port_conf *c, const struct port_conf *other, struct err *e) must_check;

/* ---- conf.c ---- */

/* Everything by default: no ports. conf_fini() frees what it owns. */
void conf_init(struct conf *c);
void conf_fini(struct conf *c);

/* Complete c->workers: how many, if that was not said, and a CPU of @allowed for each that may ever be: first those that
 * were named, which are checked, then the others, then none. */
int conf_workers(struct conf *c, const cpu_set_t *allowed, struct err *e) must_check;

/* A list of VLANs, like "10,20-30", as one bit for each, and back. -EINVAL: *e says what is wrong with `trunk`. */
int vlans_parse(const char *text, uint8_t set[VLANS_N / 8], struct err *e) must_check;
#define VLANS_TEXT_BYTES ((size_t)4 * VLANS_N) /* the longest: "1-2,4-5,...", ten bytes for each three VLANs */
void vlans_format(const uint8_t set[VLANS_N / 8], char text[VLANS_TEXT_BYTES]);

/* ---- conf_yaml.c ---- */

/* Read the file at @path into @c, which conf_init() has prepared. On failure *e says what, and *line where (0: nowhere
 * in particular); *c is to be freed all the same. */
int conf_yaml_load(struct conf *c, const char *path, const char *run_dir, unsigned *line, struct err *e) must_check;
/* Where the file says something about @field, for an error that shows later; 0: the file cannot be read any more. */
unsigned conf_yaml_line(const char *path, const char *field);
/* The same as conf_yaml_load() for a text in memory; the file's half of the above. */
int conf_yaml_parse(struct conf *c, const char *text, size_t len, const char *run_dir, unsigned *line,
		    struct err *e) must_check;
