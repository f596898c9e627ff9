/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Named drop reasons (design D13); one table, drop.def, makes the enum, the names and the metrics. */
enum drop_reason {
#define DROP(symbol, name, meaning) DROP_##symbol,
#include "port/drop.def"
#undef DROP
	DROP_N
};

const char *drop_name(enum drop_reason r);
const char *drop_meaning(enum drop_reason r);
