/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A guest for tests: its memory, and the driver's side of a split ring in it (virtio 1.2, 2.7). Of src/virtq it uses the
 * layouts only. For use inside of cmocka tests, or wherever a failed assumption may end the program. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gmem/gmem.h"
#include "virtq/virtq.h"

/* One turn of waiting for another thread: where there are fewer processors than threads, it must come to run. */
static inline void wait_a_turn(void)
{
	static _Thread_local unsigned turns;

	if (++turns % 256)
		cpu_relax();
	else
		sched_yield();
}

#define RAM_GPA UINT64_C(0x40000000)
#define RAM_UVA UINT64_C(0x7f0000000000)

/* What cannot fail here ends the program. */
static inline void expect(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

/* Memory of @n_parts regions that follow each other for the guest, but lie in the file in the reverse order: what
 * crosses from one to the next is in two pieces for us. */
struct ram {
	struct gmem *gmem;
	int fd;
	uint8_t *p;
	uint64_t part_bytes, used_bytes;
	unsigned n_parts;
};

static inline void ram_init(struct ram *r, uint64_t part_bytes, unsigned n_parts)
{
	uint64_t bytes = part_bytes * n_parts;
	struct err e = {0};

	*r = (struct ram){.part_bytes = part_bytes, .n_parts = n_parts, .gmem = gmem_new()};
	r->fd = memfd_create("ram", MFD_CLOEXEC);
	expect(r->gmem && r->fd >= 0 && ftruncate(r->fd, (off_t)bytes) == 0, "memory file");
	r->p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	expect(r->p != MAP_FAILED, "mmap");
	for (unsigned i = 0; i < n_parts; i++) {
		struct gmem_region_conf c = {
			.gpa.v = RAM_GPA + i * part_bytes,
			.size_bytes = part_bytes,
			.uva.v = RAM_UVA + i * part_bytes,
			.mmap_offset_bytes = (n_parts - 1 - i) * part_bytes,
		};

		expect(gmem_add(r->gmem, &c, r->fd, &e) == 0, e.text);
	}
}

static inline void ram_fini(struct ram *r)
{
	gmem_free(r->gmem);
	munmap(r->p, r->part_bytes * r->n_parts);
	close(r->fd);
}

/* The test's own pointer to guest address @gpa. */
static inline void *ram_at(const struct ram *r, uint64_t gpa)
{
	uint64_t off = gpa - RAM_GPA;

	return r->p + (r->n_parts - 1 - off / r->part_bytes) * r->part_bytes + off % r->part_bytes;
}

/* How much of @bytes at @gpa lies in one part. */
static inline uint64_t ram_part(const struct ram *r, uint64_t gpa, uint64_t bytes)
{
	uint64_t room = r->part_bytes - (gpa - RAM_GPA) % r->part_bytes;

	return bytes < room ? bytes : room;
}

/* Copy to and from guest memory, across parts. */
static inline void ram_write(const struct ram *r, uint64_t gpa, const void *src, uint64_t bytes)
{
	for (uint64_t done = 0, n; done < bytes; done += n) {
		n = ram_part(r, gpa + done, bytes - done);
		memcpy(ram_at(r, gpa + done), (const uint8_t *)src + done, n);
	}
}

static inline void ram_read(const struct ram *r, uint64_t gpa, void *dst, uint64_t bytes)
{
	for (uint64_t done = 0, n; done < bytes; done += n) {
		n = ram_part(r, gpa + done, bytes - done);
		memcpy((uint8_t *)dst + done, ram_at(r, gpa + done), n);
	}
}

/* The address of @bytes that nothing else uses, in the first part. */
static inline uint64_t ram_alloc(struct ram *r, uint64_t bytes, uint64_t align)
{
	uint64_t at = (r->used_bytes + align - 1) & ~(align - 1);

	r->used_bytes = at + bytes;
	expect(r->used_bytes <= r->part_bytes, "the test's memory is too small");
	return RAM_GPA + at;
}

struct driver {
	struct ram *ram;
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next;  /* of the avail ring, shown or not */
	uint16_t taken; /* entries of the used ring */
};

/* Lay out a ring of @size entries, where both indices stand at @start. */
static inline void driver_init(struct driver *d, struct ram *r, uint16_t size, uint16_t start)
{
	*d = (struct driver){.ram = r, .size = size, .next = start, .taken = start};
	d->desc_gpa = ram_alloc(r, 16 * (uint64_t)size, 16);
	d->avail_gpa = ram_alloc(r, 6 + 2 * (uint64_t)size, 2);
	d->used_gpa = ram_alloc(r, 6 + 8 * (uint64_t)size, 4);
	d->desc = ram_at(r, d->desc_gpa);
	d->avail = ram_at(r, d->avail_gpa);
	d->used = ram_at(r, d->used_gpa);
	d->avail->idx = d->used->idx = start;
}

/* What the front end would say of it; features are the caller's to add. */
static inline struct virtq_conf driver_conf(const struct driver *d)
{
	return (struct virtq_conf){
		.mem = d->ram->gmem,
		.size = d->size,
		.desc.v = d->desc_gpa - RAM_GPA + RAM_UVA,
		.avail.v = d->avail_gpa - RAM_GPA + RAM_UVA,
		.used.v = d->used_gpa - RAM_GPA + RAM_UVA,
		.call_fd = -1,
	};
}

static inline struct virtq *driver_start(const struct virtq_conf *c)
{
	struct virtq *vq = aligned_alloc(CACHE_LINE, sizeof(*vq));
	struct err e = {0};

	expect(vq && virtq_start(vq, c, &e) == 0, e.text);
	return vq;
}

static inline void driver_stop(struct virtq *vq)
{
	virtq_stop(vq);
	free(vq);
}

static inline void driver_desc(struct driver *d, unsigned i, uint64_t gpa, uint32_t len, unsigned flags, unsigned next)
{
	d->desc[i] = (struct vring_desc){gpa, len, (uint16_t)flags, (uint16_t)next};
}

/* Entry @i of an indirect table. */
static inline void driver_indirect(struct driver *d, uint64_t table, unsigned i, uint64_t gpa, uint32_t len,
				   unsigned flags, unsigned next)
{
	struct vring_desc e = {gpa, len, (uint16_t)flags, (uint16_t)next};

	ram_write(d->ram, table + i * sizeof(e), &e, sizeof(e));
}

/* Put a chain into the avail ring without showing it, and show everything put so far. */
static inline void driver_put(struct driver *d, unsigned head)
{
	d->avail->ring[d->next++ & (d->size - 1)] = (uint16_t)head;
}

static inline void driver_show(struct driver *d)
{
	__atomic_store_n(&d->avail->idx, d->next, __ATOMIC_RELEASE);
}

static inline void driver_offer(struct driver *d, unsigned head)
{
	driver_put(d, head);
	driver_show(d);
}

/* Offer one buffer, described by entry @i. */
static inline void driver_offer_buffer(struct driver *d, unsigned i, uint64_t gpa, uint32_t len, unsigned flags)
{
	driver_desc(d, i, gpa, len, flags, 0);
	driver_offer(d, i);
}

/* The next used entry, if there is one. */
static inline bool driver_take(struct driver *d, struct vring_used_elem *e)
{
	if (__atomic_load_n(&d->used->idx, __ATOMIC_ACQUIRE) == d->taken)
		return false;
	*e = d->used->ring[d->taken++ & (d->size - 1)];
	return true;
}

/* virtio 1.2, 2.7.6 and 2.7.8: behind the last entries. */
static inline uint16_t *driver_used_event(const struct driver *d)
{
	return &d->avail->ring[d->size];
}

static inline uint16_t *driver_avail_event(const struct driver *d)
{
	return (uint16_t *)&d->used->ring[d->size];
}

/* virtio 1.2, 2.7.10: must the driver notify after having moved avail->idx from @old to d->next? */
static inline bool driver_must_kick(const struct driver *d, uint16_t old, bool event_idx)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (!event_idx)
		return !(__atomic_load_n(&d->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
	return (uint16_t)(d->next - __atomic_load_n(driver_avail_event(d), __ATOMIC_RELAXED) - 1) <
	       (uint16_t)(d->next - old);
}
