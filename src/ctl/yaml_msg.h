/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <cyaml/cyaml.h>
#include <stdarg.h>

#include "base/base.h"
#include "base/err.h"

/* What libcyaml says when a file does not fit the schema, gathered from its log and put into our words. Its log is one
 * line with what is wrong, then the way there, the innermost part first. */
struct yaml_msg {
	const cyaml_schema_field_t *top; /* keys of the whole file, to name those that would have been right */
	char what[128];
	char path[64];
	bool in_path; /* the way has begun */
};

/* libcyaml's log function; its context is a struct yaml_msg. */
void yaml_msg_log(cyaml_log_t level, void *msg, const char *fmt, va_list ap) printf_like(3, 0);

/* Fill @e; e->field is the path. Returns -EINVAL, or -ENOMEM. */
int yaml_msg_err(const struct yaml_msg *msg, cyaml_err_t failed, struct err *e);
