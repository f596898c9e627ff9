/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "ctl/conf.h"
#include "ctl/model.h"
#include "port/port.h"

/* The one place that knows all parts, and joins them (control thread). */

/* Forwarding, workers and model as @conf says, without the ports. NULL: *e says why. Once in a process. */
struct event_base;
struct model *wire_new(const struct conf *conf, struct event_base *events, struct err *e);
/* Take everything down, ports first. */
void wire_free(struct model *m);

/* Make a port of kind guest: a guest's rings and its vhost-user device (guest_wire.c). */
struct port *guest_wire_new(const struct port_conf *c, const struct port_host *host, struct err *e);
