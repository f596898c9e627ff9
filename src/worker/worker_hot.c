/* SPDX-License-Identifier: Apache-2.0 */
/* One poll of one queue, with its time told apart by stages: each stage ends with one reading of the clock, which is the
 * beginning of the next.
 */
#include "worker/worker_priv.h"

static void publish_touched(struct worker *w)
{
	for (unsigned i = 0; i < PORTS_MAX / 64; i++)
		for (uint64_t bits = w->work.touched.bits[i]; bits; bits &= bits - 1) {
			struct port *p = fwd_port(w->group->fwd, i * 64 + (unsigned)__builtin_ctzll(bits));

			if (p && p->ops->tx_publish)
				p->ops->tx_publish(p, w->index);
		}
}

/* fwd_process() read the clock between its two halves. */
static void forward(struct worker *w, struct port *in)
{
	uint64_t began = w->lap_at, spent, lookup;

	fwd_process(w->group->fwd, in, &w->batch, w->index, &w->work);
	spent = lap(w);
	lookup = w->work.decided_cycles - began;
	if (unlikely(lookup > spent))
		lookup = spent;
	count(&w->stage[STAGE_LOOKUP], lookup);
	count(&w->stage[STAGE_COPY], spent - lookup);
	count(&w->frames, w->batch.n);
}

unsigned worker_poll(struct worker *w, struct work_queue *wq)
{
	const struct port_ops *ops = wq->port->ops;
	unsigned n;

	w->batch.n = w->batch.n_spans = 0;
	n = ops->rx(wq->port, wq->q, &w->batch, w->index);
	count(&wq->polls, 1);
	if (n == 0) {
		ops->rx_done(wq->port, wq->q);
		lap_to(w, STAGE_EMPTY);
		count(&w->empty_polls, 1);
		return 0;
	}
	lap_to(w, STAGE_RECEIVE);
	if (w->batch.n)
		forward(w, wq->port);
	ops->rx_done(wq->port, wq->q);
	publish_touched(w);
	lap_to(w, STAGE_COMPLETION);
	count(&w->busy_polls, 1);
	count(&wq->busy_polls, 1);
	count(&wq->frames, n);
	return n;
}
