/* SPDX-License-Identifier: Apache-2.0 */
/* What a ring's users call: one decision between the two layouts for each batch. */
#include "virtq/virtq_priv.h"

void virtq_break(struct virtq *vq, enum virtq_fault f)
{
	if (virtq_fault_get(vq) == VIRTQ_FAULT_NONE)
		atomic_store_explicit(&vq->fault, f, memory_order_relaxed);
}

unsigned virtq_ready(struct virtq *vq)
{
	return vq->packed ? packed_look(vq) : split_look(vq);
}

unsigned virtq_fetch(struct virtq *vq, enum virtq_direction dir, struct virtq_batch *b)
{
	return vq->packed ? packed_fetch(vq, dir, b) : split_fetch(vq, dir, b);
}

void virtq_unfetch(struct virtq *vq, struct virtq_batch *b, unsigned n)
{
	if (n == 0)
		return;
	for (unsigned i = 0; i < n; i++)
		b->n_spans -= b->chain[--b->n].n_spans;
	vq->fetched = b->chain[b->n].seq;
	if (vq->packed)
		vq->avail_at = b->chain[b->n].at;
}

void virtq_publish(struct virtq *vq, uint16_t until)
{
	if (vq->published == until)
		return;
	if (vq->packed)
		packed_publish(vq, until);
	else
		split_publish(vq, until);
	__atomic_store_n(&vq->published, until, __ATOMIC_RELAXED);
}

void virtq_return(struct virtq *vq, const struct virtq_chain *c, unsigned n)
{
	if (n == 0)
		return;
	if (vq->packed)
		packed_return(vq, c, n);
	else
		split_return(vq, c, n);
	__atomic_store_n(&vq->published, (uint16_t)(c[0].seq + n), __ATOMIC_RELAXED);
}

bool virtq_notify_on(struct virtq *vq)
{
	if (unlikely(virtq_fault_get(vq) != VIRTQ_FAULT_NONE))
		return false;
	return vq->packed ? packed_notify_on(vq) : split_notify_on(vq);
}

void virtq_notify_off(struct virtq *vq)
{
	if (vq->packed)
		packed_notify_off(vq);
	else
		split_notify_off(vq);
}

int virtq_interrupt(struct virtq *vq)
{
	bool wants;

	if (vq->signalled == vq->published)
		return -1;
	/* What was published must be visible before the guest's wish is read, or both sides could go to sleep. */
	atomic_thread_fence(memory_order_seq_cst);
	wants = vq->packed ? packed_wants_interrupt(vq) : split_wants_interrupt(vq);
	__atomic_store_n(&vq->signalled, vq->published, __ATOMIC_RELAXED);
	vq->signalled_at = vq->used_at;
	vq->laps = 0;
	vq->signalled_valid = true;
	return wants ? atomic_load_explicit(&vq->call_fd, memory_order_acquire) : -1;
}
