/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>

#include "ctl/conf.h"

/* A port's keys as the API writes them. Control thread. */

/* Read @object's members; texts are borrowed from it. -EINVAL: it is no object, or has a member that is not a key. */
int conf_json_keys(const json_t *object, struct port_keys *keys, struct err *e) must_check;

/* @c as an object with the same keys, those that do not apply left out. NULL: no memory. */
json_t *conf_json_port(const struct port_conf *c);
