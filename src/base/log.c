/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

static enum log_level shown = LOG_INFO;

void log_set_level(enum log_level level)
{
	shown = level;
}

static void printf_like(2, 0) emit(enum log_level level, const char *fmt, va_list ap)
{
	static const char *const name[LOG_LEVEL_N] = {"error", "warning", "info", "debug"};
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, ap);
	for (char *p = line; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	fprintf(stderr, "flued: %s: %s\n", name[level], line);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > shown)
		return;
	va_start(ap, fmt);
	emit(level, fmt, ap);
	va_end(ap);
}

void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...)
{
	uint64_t now_ns = time_now_ns();
	va_list ap;

	if (level > shown)
		return;
	if (now_ns - limit->window_start_ns > LOG_WINDOW_S * NS_PER_S) {
		if (limit->held_back)
			log_line(level, "%u similar lines were held back", limit->held_back);
		*limit = (struct log_limit){.window_start_ns = now_ns};
	}
	if (limit->passed == LOG_BURST) {
		limit->held_back++;
		return;
	}
	limit->passed++;
	va_start(ap, fmt);
	emit(level, fmt, ap);
	va_end(ap);
}
