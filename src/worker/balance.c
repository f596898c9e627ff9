/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/balance.h"

#include "port/port.h"

static unsigned larger(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

bool balance_plan(const struct balance_queue *q, unsigned n, unsigned workers, unsigned *queue, unsigned *to)
{
	unsigned load[WORKERS_MAX] = {0}, busiest = 0, idlest = 0, best;

	for (unsigned i = 0; i < n; i++)
		load[q[i].worker] += q[i].load;
	for (unsigned w = 1; w < workers; w++) {
		busiest = load[w] > load[busiest] ? w : busiest;
		idlest = load[w] < load[idlest] ? w : idlest;
	}
	if (load[busiest] < BALANCE_BUSY || load[busiest] - load[idlest] < BALANCE_GAP)
		return false;
	best = load[busiest] - BALANCE_GAIN + 1;
	*to = idlest;
	for (unsigned i = 0; i < n; i++) {
		unsigned then = larger(load[busiest] - q[i].load, load[idlest] + q[i].load);

		if (q[i].worker == busiest && then < best) {
			best = then;
			*queue = i;
		}
	}
	return best <= load[busiest] - BALANCE_GAIN;
}
