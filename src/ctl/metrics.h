/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "ctl/model.h"

/* Prometheus' text format, version 0.0.4. Control thread. */
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct evbuffer;

/* Everything the switch counts, appended to @out. */
void metrics_write(struct evbuffer *out, struct model *m, const char *switch_name);

/* @text as the value of a label: backslash, quote and newline escaped; cut to what fits @out, never within an escape. */
void metrics_escape(const char *text, char *out, size_t size);
