/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* Log lines of the control thread, to standard error, one line each (a newline in the text becomes a space).
 * Workers never log. What guests, peers or API clients can cause goes through log_limited(). */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVEL_N };

/* Show lines up to @level; start value LOG_INFO. */
void log_set_level(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* At most LOG_BURST lines in LOG_WINDOW_S seconds for one @limit; what was held back is counted and the count is told
 * with the next line that passes. One struct for each source of noise (a port), zero-initialised, owned by its user. */
#define LOG_BURST    5
#define LOG_WINDOW_S 10
struct log_limit {
	uint64_t window_start_ns;
	uint32_t passed;
	uint32_t held_back;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *fmt, ...) printf_like(3, 4);
