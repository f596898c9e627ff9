/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "state/state.h"

/* What the state file looks like; private to state, its tests and its fuzzer. In the machine's own byte order: the file
 * does not leave it. A change of layout is a new STATE_VERSION.
 *
 * The file is sparse. A slot begins on a page of its own and the journals lie in the order of the rings, so a port with
 * one queue pair takes two pages.
 */
#define STATE_MAGIC   "FlueStat"
#define STATE_VERSION 1
#define STATE_PAGE    4096

struct state_header {
	char magic[8];
	uint32_t version;
	uint32_t file_bytes;
	char boot[40]; /* /proc/sys/kernel/random/boot_id */
	uint32_t reserved;
	uint32_t crc; /* of all before it */
};

/* A slot has two; written in turns, so that one is always whole. The one with a good CRC and the higher number counts. */
struct state_record {
	uint64_t number;
	char name[STATE_NAME_BYTES]; /* not empty */
	struct vhost_agreed agreed;
	uint32_t reserved;
	uint32_t crc; /* of all before it */
};

struct state_slot {
	struct state_record record[2];
	struct virtq_journal journal[VHOST_RINGS_MAX];
} __attribute__((aligned(STATE_PAGE)));

struct state_file {
	struct state_header header;
	struct state_slot slot[STATE_PORTS];
};

static_assert(sizeof(struct state_header) == 64, "layout");
static_assert(sizeof(struct state_record) == 96, "layout");
static_assert(VHOST_RINGS_MAX == 33, "layout");
static_assert(offsetof(struct state_slot, journal) == 192, "layout");
static_assert(sizeof(struct state_slot) == (size_t)17 * STATE_PAGE, "layout");
static_assert(sizeof(struct state_file) == STATE_PAGE + STATE_PORTS * sizeof(struct state_slot), "layout");
static_assert(offsetof(struct state_slot, journal[3]) <= (size_t)4 * STATE_PAGE, "a port with one queue pair");

uint32_t state_header_crc(const struct state_header *h);
uint32_t state_record_crc(const struct state_record *r);
