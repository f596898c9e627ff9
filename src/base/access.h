/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

/* Who may use a socket file of ours: give @path to @group ("": leave it with flued's own) and @mode. Call it between
 * bind() and listen(): nobody can connect before. On failure *e names @field. */
#define GROUP_NAME_MAX 33 /* with the final zero */
int access_set(const char *path, mode_t mode, const char *group, const char *field, struct err *e) must_check;
