/* SPDX-License-Identifier: Apache-2.0 */
/* The control half of a virtqueue: checking what the front end says, and the decision to interrupt. */
#include "virtq/virtq.h"

#include <errno.h>
#include <inttypes.h>

const char *virtq_fault_text(enum virtq_fault f)
{
	static const char *const text[VIRTQ_FAULT_N] = {
		[VIRTQ_FAULT_NONE] = "no fault",
		[VIRTQ_FAULT_AVAIL_INDEX] = "the available index jumped by more than the ring's size",
		[VIRTQ_FAULT_HEAD] = "the available ring names a descriptor outside the table",
		[VIRTQ_FAULT_NEXT] = "a descriptor's next is outside the table",
		[VIRTQ_FAULT_LOOP] = "a descriptor chain loops",
		[VIRTQ_FAULT_INDIRECT_NESTED] = "an indirect descriptor is nested or chained",
		[VIRTQ_FAULT_INDIRECT_SIZE] = "an indirect table has an impossible size",
		[VIRTQ_FAULT_INDIRECT_UNASKED] = "an indirect descriptor, which was not negotiated",
		[VIRTQ_FAULT_UNMAPPED] = "a buffer is outside the guest's memory",
		[VIRTQ_FAULT_DIRECTION] = "a buffer has the wrong direction",
		[VIRTQ_FAULT_EMPTY] = "a buffer is empty or too short for the virtio-net header",
		[VIRTQ_FAULT_PIECES] = "a chain has too many pieces",
		[VIRTQ_FAULT_LENGTH] = "a chain is longer than 4 GiB",
		[VIRTQ_FAULT_TRUNCATED] = "the guest's memory file was truncated",
	};
	return text[f];
}

/* Translate one of the three areas (virtio 1.2, 2.7: sizes and alignments). */
static int area(const struct virtq_conf *c, uva_t uva, uint64_t bytes, unsigned align, const char *what, void **p,
		struct err *e)
{
	if (uva.v % align)
		return err_set(e, -EINVAL, NULL, NULL, "%s at 0x%" PRIx64 " is not aligned to %u", what, uva.v, align);
	*p = gmem_uva(c->mem, uva, bytes, NULL);
	if (!*p || (uintptr_t)*p % align)
		return err_set(e, -EINVAL, NULL, NULL, "%s at 0x%" PRIx64 " is outside the guest's memory", what,
			       uva.v);
	return 0;
}

int virtq_start(struct virtq *vq, const struct virtq_conf *c, struct err *e)
{
	void *desc = NULL, *avail = NULL, *used = NULL;
	uint16_t at;
	int rc;

	if (c->size == 0 || (c->size & (c->size - 1)) || c->size > VIRTQ_SIZE_MAX)
		return err_set(e, -EINVAL, NULL, NULL, "ring size %u is not a power of two up to %d", c->size,
			       VIRTQ_SIZE_MAX);
	if ((rc = area(c, c->desc, UINT64_C(16) * c->size, 16, "the descriptor table", &desc, e)) < 0 ||
	    (rc = area(c, c->avail, 6 + UINT64_C(2) * c->size, 2, "the available ring", &avail, e)) < 0 ||
	    (rc = area(c, c->used, 6 + UINT64_C(8) * c->size, 4, "the used ring", &used, e)) < 0)
		return rc;

	at = __atomic_load_n(&((struct vring_used *)used)->idx, __ATOMIC_RELAXED);
	*vq = (struct virtq){
		.mem = c->mem,
		.desc = desc,
		.avail = avail,
		.used = used,
		.used_log = c->used_log,
		.size = c->size,
		.log_used = c->log_used,
		.event_idx = c->event_idx,
		.indirect = c->indirect,
		.call_fd = c->call_fd,
		.last_avail = at,
		.avail_idx = at,
		.used_idx = at,
		.published_idx = at,
		.signalled_idx = at,
	};
	return 0;
}

uint16_t virtq_base(const struct virtq *vq)
{
	return vq->last_avail;
}

int virtq_set_call(struct virtq *vq, int call_fd)
{
	return atomic_exchange(&vq->call_fd, call_fd);
}

/* virtio 1.2, 2.7.7.2: with EVENT_IDX, interrupt if used_event lies in what was published since the last decision. */
static bool wants_interrupt(struct virtq *vq, uint16_t from, uint16_t to)
{
	uint16_t event;

	if (!vq->event_idx)
		return !(__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
	event = __atomic_load_n(&vq->avail->ring[vq->size], __ATOMIC_RELAXED);
	return !vq->signalled_valid || (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

int virtq_interrupt(struct virtq *vq)
{
	uint16_t from = vq->signalled_idx, to = vq->published_idx;
	bool wants;

	if (from == to)
		return -1;
	/* used->idx must be visible before the guest's wish is read, or both sides could go to sleep. */
	atomic_thread_fence(memory_order_seq_cst);
	wants = wants_interrupt(vq, from, to);
	__atomic_store_n(&vq->signalled_idx, to, __ATOMIC_RELAXED);
	vq->signalled_valid = true;
	return wants ? atomic_load_explicit(&vq->call_fd, memory_order_acquire) : -1;
}
