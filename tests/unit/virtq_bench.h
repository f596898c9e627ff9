/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One ring with a driver at its one end and the device side at the other. For use inside of cmocka tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "driver.h"

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
	struct driver d;
	struct virtq *vq;
	struct gspan span[VIRTQ_CHAIN_SPANS];
	struct virtq_chain chain;
};

static inline void open_bench(struct bench *b, uint16_t size, uint16_t start)
{
	struct virtq_conf c;

	ram_init(&b->ram, PART, 2);
	driver_init(&b->d, &b->ram, size, start);
	c = driver_conf(&b->d);
	c.indirect = true;
	b->vq = driver_start(&c);
}

static inline void close_bench(struct bench *b)
{
	free(b->vq);
	ram_fini(&b->ram);
}

static inline bool fetch(struct bench *b, enum virtq_direction dir)
{
	return virtq_fetch(b->vq, dir, &b->chain, b->span, VIRTQ_CHAIN_SPANS);
}
