/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* The table of foreign memory that the SIGBUS handler looks an address up in; private to gmem, and to state, whose file
 * may be truncated like a guest's.
 * Slots are taken and given back by the control thread, read by the handler on whatever thread faulted. */
#define WATCH_MAX 8192 /* PORTS_MAX guests with 32 regions each on average */

/* -ENOSPC: no slot is free. */
int watch_add(void *map, size_t map_bytes, unsigned *slot) must_check;
void watch_remove(unsigned slot);
bool watch_faulted(unsigned slot);
