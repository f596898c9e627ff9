/* SPDX-License-Identifier: Apache-2.0 */
/* The control half of a virtqueue: checking what the front end says, and where a ring goes on. */
#include "virtq/virtq.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "virtq/virtq_priv.h"

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

/* Translate one of the three areas (virtio 1.2, 2.7 and 2.8.10: sizes and alignments). */
static int area(const struct virtq_conf *c, uva_t uva, uint64_t bytes, unsigned align, const char *what, void **p,
		gpa_t *gpa, struct err *e)
{
	if (uva.v % align)
		return err_set(e, -EINVAL, NULL, NULL, "%s at 0x%" PRIx64 " is not aligned to %u", what, uva.v, align);
	*p = gmem_uva(c->mem, uva, bytes, gpa);
	if (!*p || (uintptr_t)*p % align)
		return err_set(e, -EINVAL, NULL, NULL, "%s at 0x%" PRIx64 " is outside the guest's memory", what,
			       uva.v);
	return 0;
}

static int start_split(struct virtq *vq, const struct virtq_conf *c, struct err *e)
{
	void *desc = NULL, *avail = NULL, *used = NULL;
	uint16_t at;
	int rc;

	if (c->size & (c->size - 1))
		return err_set(e, -EINVAL, NULL, NULL, "ring size %u is not a power of two", c->size);
	if ((rc = area(c, c->desc, UINT64_C(16) * c->size, 16, "the descriptor table", &desc, NULL, e)) < 0 ||
	    (rc = area(c, c->avail, 6 + UINT64_C(2) * c->size, 2, "the available ring", &avail, NULL, e)) < 0 ||
	    (rc = area(c, c->used, 6 + UINT64_C(8) * c->size, 4, "the used ring", &used, NULL, e)) < 0)
		return rc;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->used_log = c->used_log;
	at = __atomic_load_n(&vq->used->idx, __ATOMIC_RELAXED);
	vq->fetched = vq->avail_idx = vq->published = vq->signalled = at;
	return 0;
}

static unsigned flags_at(const struct virtq *vq, unsigned at)
{
	return __atomic_load_n(&vq->ring[at & PACKED_POS].flags, __ATOMIC_RELAXED);
}

/* Is the intent's first descriptor available, but not the ring's first one? So it is if the intent goes over the ring's
 * end and all of it is carried out but that. A driver fills a new ring from its beginning. */
static bool is_half_carried_out(const struct virtq *vq)
{
	return vq->journal->n && flags_at(vq, vq->journal->used[0].at) & VRING_PACKED_DESC_F_AVAIL &&
	       !(flags_at(vq, 0) & VRING_PACKED_DESC_F_AVAIL);
}

/* Is this a new driver's ring, of which nothing was used? Then no descriptor has the USED bit set. In one that has been
 * used, some have it: used or made available, in a lap with one wrap counter or with the other. All but one that has just
 * come to the end of an even lap: but that stands where a new one does. */
static bool is_new_ring(const struct virtq *vq)
{
	for (unsigned i = 0; i < vq->size; i++)
		if (flags_at(vq, i) & VRING_PACKED_DESC_F_USED)
			return false;
	return !is_half_carried_out(vq);
}

/* Where the ring stands: what a killed (or cut off) flued has left, or what the front end says. */
static int choose_position(struct virtq *vq, const struct virtq_conf *c, struct err *e)
{
	struct virtq_journal *j = vq->journal;
	bool live = j->live == 1 && virtq_journal_valid(j, c->size);

	if ((c->base & PACKED_POS) >= c->size)
		return err_set(e, -EINVAL, NULL, NULL, "base %u is outside a ring of %u", c->base & PACKED_POS,
			       c->size);
	if (live && !is_new_ring(vq)) {
		packed_replay(vq);
	} else {
		/* A front end that was not asked for its base since the ring ran last does not know it. */
		j->at = live ? PACKED_START : c->base;
		j->n = 0;
	}
	memset(j->reserved, 0, sizeof(j->reserved)); /* it may have been anything */
	j->live = 1;
	vq->avail_at = vq->used_at = vq->signalled_at = j->at;
	return 0;
}

#define PACKED_AHEAD 16 /* four cache lines */

/* Memory of ours: completed chains, one for each that can be fetched, and a journal if nobody keeps one for us. */
static int allocate(struct virtq *vq, const struct virtq_conf *c)
{
	size_t n = 1;

	while (n < c->size)
		n *= 2;
	vq->pending_mask = (uint16_t)(n - 1);
	vq->pending = calloc(1, n * sizeof(vq->pending[0]) + (c->journal ? 0 : sizeof(*c->journal)));
	if (!vq->pending)
		return -ENOMEM;
	vq->journal = c->journal ? c->journal : (struct virtq_journal *)(vq->pending + n);
	return 0;
}

static int start_packed(struct virtq *vq, const struct virtq_conf *c, struct err *e)
{
	void *ring = NULL, *driver = NULL, *device = NULL;
	int rc;

	if ((rc = area(c, c->desc, UINT64_C(16) * c->size, 16, "the descriptor ring", &ring, &vq->used_log, e)) < 0 ||
	    (rc = area(c, c->avail, 4, 4, "the driver's event structure", &driver, NULL, e)) < 0 ||
	    (rc = area(c, c->used, 4, 4, "the device's event structure", &device, &vq->event_log, e)) < 0)
		return rc;
	vq->ring = ring;
	vq->driver = driver;
	vq->device = device;
	vq->desc_ahead = (uint16_t)(PACKED_AHEAD % c->size);
	if (allocate(vq, c) < 0)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	rc = choose_position(vq, c, e);
	if (rc < 0)
		virtq_stop(vq);
	return rc;
}

int virtq_start(struct virtq *vq, const struct virtq_conf *c, struct err *e)
{
	if (c->size == 0 || c->size > VIRTQ_SIZE_MAX)
		return err_set(e, -EINVAL, NULL, NULL, "ring size %u is not from 1 to %d", c->size, VIRTQ_SIZE_MAX);
	*vq = (struct virtq){
		.mem = c->mem,
		.size = c->size,
		.packed = c->packed,
		.in_order = c->in_order,
		.log_used = c->log_used,
		.event_idx = c->event_idx,
		.indirect = c->indirect,
		.call_fd = c->call_fd,
	};
	return c->packed ? start_packed(vq, c, e) : start_split(vq, c, e);
}

void virtq_stop(struct virtq *vq)
{
	free(vq->pending);
	vq->pending = NULL;
	vq->journal = NULL;
}

uint32_t virtq_base(const struct virtq *vq)
{
	return vq->packed ? (uint32_t)vq->used_at << 16 | vq->avail_at : vq->fetched;
}

int virtq_set_call(struct virtq *vq, int call_fd)
{
	return atomic_exchange(&vq->call_fd, call_fd);
}
