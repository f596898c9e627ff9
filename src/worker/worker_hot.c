/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/worker_priv.h"

unsigned worker_poll(struct worker *w, struct work_queue *wq)
{
	const struct port_ops *ops = wq->port->ops;
	unsigned n;

	w->batch.n = w->batch.n_spans = 0;
	n = ops->rx(wq->port, wq->q, &w->batch, w->index);
	if (w->batch.n) {
		fwd_process(w->fwd, wq->port, &w->batch, w->index, &w->touched);
		count(&w->frames, w->batch.n);
	}
	ops->rx_done(wq->port, wq->q);
	return n;
}
