/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "ctl/conf.h"
#include "ctl/model.h"
#include "port/port.h"

/* The one place that knows all parts, and joins them (control thread). */

/* Forwarding, workers and model as @conf says, without the ports. @state: where guests' ports keep what the next flued
 * must know, NULL: nowhere; the caller's until wire_free(). NULL: *e says why. Once in a process. */
struct event_base;
struct state;
struct model *wire_new(const struct conf *conf, struct state *state, struct event_base *events, struct err *e);
/* Take everything down, ports first. */
void wire_free(struct model *m);

/* Make a port of kind guest: a guest's rings, its vhost-user device, and its slot in @state (guest_wire.c). */
struct port *guest_wire_new(const struct port_conf *c, const struct port_host *host, struct state *state,
			    struct err *e);
