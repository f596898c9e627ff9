/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* Which queue should move from one worker to another, seeing what each took of late? Pure. Loads are in thousandths of
 * a core. Moving costs a little and disturbs caches, and loads are noisy: so only a worker that has much to do gives
 * one away, to one that has clearly less, and only if the busiest of the two is clearly better off then. */

#define BALANCE_BUSY 300 /* a worker below this is left alone */
#define BALANCE_GAP  200 /* between the busiest and the idlest */
#define BALANCE_GAIN 100 /* by which the larger of both loads must fall: no move can be worth taking back */

struct balance_queue {
	unsigned worker;
	unsigned load;
};

/* The queue of @q[@n], on @workers workers, that should move, and where to; false: none. At most one at a time. */
bool balance_plan(const struct balance_queue *q, unsigned n, unsigned workers, unsigned *queue, unsigned *to);
