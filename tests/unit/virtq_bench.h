/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One ring with a driver at its one end and the device side at the other. For use inside of cmocka tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "driver.h"
#include "driver_packed.h"

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

/* Guest memory of two parts of 1 MiB each, a ring of 8 in the first one, and some bytes at BUFFER. */
#define PART   UINT64_C(0x100000)
#define BUFFER (RAM_GPA + 0x80000)
#define TABLE  (RAM_GPA + 0x90000) /* for indirect tables */
#define BORDER (RAM_GPA + PART)
#define END    (RAM_GPA + 2 * PART)

struct bench {
	struct ram ram;
	struct driver d;        /* of a split ring */
	struct packed_driver p; /* or of a packed one */
	struct virtq *vq;
	struct gspan span[VIRTQ_CHAIN_SPANS + 8];
	struct virtq_chain chain;
	uint16_t done; /* sequence number behind the last completed chain */
};

static inline void open_bench(struct bench *b, uint16_t size, uint16_t start)
{
	struct virtq_conf c;

	ram_init(&b->ram, PART, 2);
	driver_init(&b->d, &b->ram, size, start);
	c = driver_conf(&b->d);
	c.indirect = true;
	b->vq = driver_start(&c);
	b->done = start;
}

static inline void open_packed_bench(struct bench *b, uint16_t size, uint16_t start)
{
	struct virtq_conf c;

	ram_init(&b->ram, PART, 2);
	packed_init(&b->p, &b->ram, size, start);
	c = packed_conf(&b->p);
	c.indirect = true;
	b->vq = driver_start(&c);
	b->done = 0;
}

static inline void close_bench(struct bench *b)
{
	driver_stop(b->vq);
	ram_fini(&b->ram);
}

/* Fetch one chain, to b->chain and b->span. */
static inline bool fetch(struct bench *b, enum virtq_direction dir)
{
	struct virtq_batch one = {.chain = &b->chain, .max = 1, .span = b->span, .max_spans = VIRTQ_CHAIN_SPANS};

	return virtq_fetch(b->vq, dir, &one) == 1;
}

/* The chain that fetch() has brought is done. */
static inline void complete_chain(struct bench *b, uint32_t written_bytes)
{
	virtq_complete(b->vq, &b->chain, written_bytes, false);
	b->done = (uint16_t)(b->chain.seq + 1);
}

/* @n more are done, whatever they are. */
static inline void complete(struct bench *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		virtq_complete(b->vq, &(struct virtq_chain){.seq = b->done++}, 0, false);
}

static inline void publish(struct bench *b)
{
	virtq_publish(b->vq, b->done);
}
