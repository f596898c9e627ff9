/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The driver's side of a packed ring (virtio 1.2, 2.8) in a test's memory. Of src/virtq it uses the layouts only. */
#include "driver.h"

#define PACKED_IDS 512 /* buffers have ids below this */

struct packed_driver {
	struct ram *ram;
	uint16_t size;
	bool in_order; /* one used descriptor may stand for several buffers */
	uint64_t ring_gpa, driver_gpa, device_gpa;
	struct vring_packed_desc *ring;
	struct vring_packed_event *driver, *device;
	uint16_t next;  /* position of the next descriptor to write */
	uint16_t taken; /* position of the next used descriptor to look for */
	/* of what is written and not shown: the first one's position, and its flags, which it does not have yet */
	bool holds;
	uint16_t held_at, held_flags;
	uint16_t run;                /* descriptors of the chain that is being written */
	uint16_t n_desc[PACKED_IDS]; /* by id: of its chain */
	/* in order: ids as they were made available, and the batch of used ones that is being taken */
	uint16_t order[PACKED_IDS];
	unsigned first, last; /* of order, ever growing */
	bool in_batch;
	struct vring_used_elem batch;
};

/* @n entries on from @at, a lap at most; wrap counter included. */
static inline uint16_t packed_on(const struct packed_driver *d, uint16_t at, unsigned n)
{
	unsigned pos = (at & PACKED_POS) + n;

	return (uint16_t)(pos < d->size ? at + n : (pos - d->size) | (~at & PACKED_WRAP));
}

/* A ring of @size where both sides stand at @start, as it is when all before has been used, in this lap or the last. */
static inline void packed_init(struct packed_driver *d, struct ram *r, uint16_t size, uint16_t start)
{
	*d = (struct packed_driver){.ram = r, .size = size, .next = start, .taken = start};
	d->ring_gpa = ram_alloc(r, 16 * (uint64_t)size, 16);
	d->driver_gpa = ram_alloc(r, 4, 4);
	d->device_gpa = ram_alloc(r, 4, 4);
	d->ring = ram_at(r, d->ring_gpa);
	d->driver = ram_at(r, d->driver_gpa);
	d->device = ram_at(r, d->device_gpa);
	memset(d->ring, 0, 16 * (size_t)size);
	*d->driver = *d->device = (struct vring_packed_event){0};
	for (unsigned i = 0; i < size; i++) {
		bool wrap = i < (start & PACKED_POS) ? start & PACKED_WRAP : !(start & PACKED_WRAP);

		d->ring[i].flags = wrap ? VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED : 0;
	}
}

/* What the front end would say of it; features are the caller's to add. */
static inline struct virtq_conf packed_conf(const struct packed_driver *d)
{
	return (struct virtq_conf){
		.mem = d->ram->gmem,
		.size = d->size,
		.desc.v = d->ring_gpa - RAM_GPA + RAM_UVA,
		.avail.v = d->driver_gpa - RAM_GPA + RAM_UVA,
		.used.v = d->device_gpa - RAM_GPA + RAM_UVA,
		.packed = true,
		.in_order = d->in_order,
		.base = d->taken,
		.call_fd = -1,
	};
}

static inline uint16_t packed_avail_flags(uint16_t at)
{
	return at & PACKED_WRAP ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
}

/* Write the next descriptor. The first of those that are not shown yet gets its flags when they are: the device reads
 * in order, so it sees none of the others before (virtio 1.2, 2.8.21). */
static inline void packed_put(struct packed_driver *d, uint64_t gpa, uint32_t len, unsigned flags, unsigned id)
{
	struct vring_packed_desc *to = &d->ring[d->next & PACKED_POS];
	uint16_t shown = (uint16_t)(flags | packed_avail_flags(d->next));

	to->addr = gpa;
	to->len = len;
	to->id = (uint16_t)id;
	if (d->holds)
		to->flags = shown;
	else
		d->held_at = d->next, d->held_flags = shown;
	d->holds = true;
	d->next = packed_on(d, d->next, 1);
	d->run++;
	if (flags & VRING_DESC_F_NEXT)
		return;
	d->n_desc[id % PACKED_IDS] = d->run;
	d->order[d->last++ % PACKED_IDS] = (uint16_t)id;
	d->run = 0;
}

/* Entry @i of an indirect table. */
static inline void packed_indirect(const struct packed_driver *d, uint64_t table, unsigned i, uint64_t gpa,
				   uint32_t len, unsigned flags)
{
	struct vring_packed_desc e = {.addr = gpa, .len = len, .id = 9999, .flags = (uint16_t)flags};

	ram_write(d->ram, table + i * sizeof(e), &e, sizeof(e));
}

static inline void packed_show(struct packed_driver *d)
{
	if (d->holds)
		__atomic_store_n(&d->ring[d->held_at & PACKED_POS].flags, d->held_flags, __ATOMIC_RELEASE);
	d->holds = false;
}

static inline void packed_offer(struct packed_driver *d, uint64_t gpa, uint32_t len, unsigned flags, unsigned id)
{
	packed_put(d, gpa, len, flags, id);
	packed_show(d);
}

/* virtio 1.2, 2.8.1: used if both bits are the wrap counter. */
static inline bool packed_is_used(const struct packed_driver *d)
{
	unsigned flags = __atomic_load_n(&d->ring[d->taken & PACKED_POS].flags, __ATOMIC_ACQUIRE);
	bool wrap = d->taken & PACKED_WRAP;

	return !!(flags & VRING_PACKED_DESC_F_AVAIL) == wrap && !!(flags & VRING_PACKED_DESC_F_USED) == wrap;
}

static inline bool packed_take_one(struct packed_driver *d, struct vring_used_elem *e)
{
	const struct vring_packed_desc *from = &d->ring[d->taken & PACKED_POS];

	if (!packed_is_used(d))
		return false;
	e->id = from->id;
	e->len = from->flags & VRING_DESC_F_WRITE ? from->len : 0; /* 2.8.15: reserved without WRITE */
	return true;
}

static inline void packed_skip(struct packed_driver *d, unsigned id)
{
	d->taken = packed_on(d, d->taken, d->n_desc[id % PACKED_IDS]);
	d->first++;
}

/* The next used buffer, if there is one. In order, one used descriptor is all up to the one it names (2.8.10). */
static inline bool packed_take(struct packed_driver *d, struct vring_used_elem *e)
{
	if (!d->in_order) {
		if (!packed_take_one(d, e))
			return false;
		packed_skip(d, e->id);
		return true;
	}
	if (!d->in_batch && !packed_take_one(d, &d->batch))
		return false;
	*e = (struct vring_used_elem){.id = d->order[d->first % PACKED_IDS]};
	d->in_batch = e->id != d->batch.id;
	if (!d->in_batch)
		e->len = d->batch.len;
	expect(d->first != d->last, "a used buffer that was never made available");
	packed_skip(d, e->id);
	return true;
}

/* virtio 1.2, 2.8.10.1: is the descriptor @event among those from @from on, @n of them? */
static inline bool packed_passed(const struct packed_driver *d, uint16_t from, unsigned n, uint16_t event)
{
	for (; n; n--, from = packed_on(d, from, 1))
		if (from == event)
			return true;
	return false;
}

/* Must the driver notify after having made @n descriptors from @from on available? */
static inline bool packed_must_kick(const struct packed_driver *d, uint16_t from, unsigned n)
{
	uint32_t event;

	atomic_thread_fence(memory_order_seq_cst);
	event = __atomic_load_n((const uint32_t *)(const void *)d->device, __ATOMIC_RELAXED);
	switch (event >> 16) {
	case VRING_PACKED_EVENT_ENABLE:
		return true;
	case VRING_PACKED_EVENT_DESC:
		return packed_passed(d, from, n, (uint16_t)event);
	default:
		return false;
	}
}

/* Ask for an interrupt: @flags, and when DESC the position. */
static inline void packed_ask(const struct packed_driver *d, uint16_t flags, uint16_t off_wrap)
{
	__atomic_store_n(&d->driver->off_wrap, off_wrap, __ATOMIC_RELAXED);
	__atomic_store_n(&d->driver->flags, flags, __ATOMIC_RELEASE);
}
