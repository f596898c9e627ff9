/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "ctl/conf.h"
#include "fwd/fwd.h"
#include "port/port.h"
#include "worker/worker.h"

/* The switch as users see it: named ports with their configuration, made and unmade in the right order. What ports can be
 * is told by a table of kinds, so nothing here knows a guest from an interface.
 *
 * Thread: control.
 */
struct model;

/* How to make a port of one kind. The port is idle; it serves once it has joined the switch and was started. */
struct port_kind {
	struct port *(*make)(const struct port_conf *conf, const struct port_host *host, struct err *e);
	/* The port was removed for good, not because flued ends: forget what is kept of it. May be NULL. */
	void (*forget)(const char *name);
};

struct model_parts {
	struct fwd *fwd;
	struct workers *workers;
	const struct port_host *host;
	const struct port_kind *kinds; /* [CONF_KIND_N] */
	int attention_fd;              /* the eventfd given to the workers */
	struct event_base *events;
};

/* @parts are borrowed, until model_free(). NULL: no memory. */
struct model *model_new(const struct model_parts *parts);
/* Takes all ports down; the next flued may take them up again. NULL is allowed. */
void model_free(struct model *m);

struct model_port {
	struct port_conf conf;
	struct port *port;
};

/* Make a port and let it serve; *c is copied. On failure nothing has changed: -EEXIST: it would share a name, a MAC, a
 * socket or an interface with another; -ENOSPC: PORTS_MAX; else what its kind says. */
int model_port_add(struct model *m, const struct port_conf *c, struct err *e) must_check;
/* Give it new settings, of those that can change. On failure the old ones are in force. */
int model_port_set(struct model *m, struct model_port *p, const struct port_conf *c, struct err *e) must_check;
/* For good: the next port of this name begins anew. */
void model_port_remove(struct model *m, struct model_port *p);

/* NULL: there is none of that name. */
struct model_port *model_port_find(struct model *m, const char *name);
/* Ports in the order they were added: the @i-th, or NULL behind the last. */
struct model_port *model_port_at(struct model *m, unsigned i);
unsigned model_ports(const struct model *m);

/* Seconds; 0: never. */
void model_set_ageing(struct model *m, unsigned ageing_s);
unsigned model_ageing(const struct model *m);
/* The MTU of ports added from now on that do not say. */
void model_set_mtu(struct model *m, unsigned mtu);
unsigned model_mtu(const struct model *m);

struct fwd *model_fwd(struct model *m);
struct workers *model_workers(struct model *m);
