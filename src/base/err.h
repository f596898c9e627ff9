/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* Why a request failed, in words for the person who made it: what is wrong, and what to do. Filled at the place that
 * knows; the caller passes it on to the API's answer, the log or the terminal. Caller's storage; {0} means "no error". */
struct err {
	int code;         /* negative errno, or 0 */
	char field[64];   /* the field at fault, as the user wrote it ("mtu", "ports[2].mac"), or "" */
	char text[256];   /* what and why, no newline */
	char remedy[256]; /* what to do, or "" */
};

/* Fill @e and return @code (a negative errno), so that callers write `return err_set(e, -EINVAL, "mtu", ...)`.
 * @field and @remedy may be NULL. @e may be NULL: then only the code is returned. */
int err_set(struct err *e, int code, const char *field, const char *remedy, const char *fmt, ...) printf_like(5, 6);
