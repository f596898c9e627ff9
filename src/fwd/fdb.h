/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/spin.h"
#include "fwd/fwd.h"

/* The table of learned addresses: (VLAN, MAC) -> destination. Private to fwd.
 *
 * Two candidate buckets of four entries for each key, one cache line each. Workers look up and refresh without a lock;
 * inserting, moving to another port and forgetting are done under one lock, which workers only try: who does not get
 * it learns from the next frame.
 *
 * An entry is two words. Whoever changes one under the lock clears the key, stores the value, then the new key; a
 * reader takes key, value, key, and believes the value only if the key stayed. A refresh swaps the value only if it
 * still is the one it has seen, so it cannot touch an entry that was given to another key meanwhile.
 */
struct fdb_slot {
	_Atomic uint64_t key;   /* fdb_key(); 0: empty */
	_Atomic uint64_t value; /* destination in the upper half, second of the last frame in the lower */
};

#define FDB_WAYS 4
struct fdb_bucket {
	struct fdb_slot slot[FDB_WAYS];
} cache_aligned;

struct fdb {
	/* constant */
	struct fdb_bucket *bucket;
	uint32_t mask;
	unsigned capacity;   /* entries, a power of two; there are twice as many slots */
	unsigned port_share; /* no port may hold more, so that one guest cannot push all others out */
	uint64_t secret
		[3]; /* of the hash: or a guest could fill a neighbour's buckets, and get what is sent to it by flooding */
	/* seldom written, read with each batch */
	_Atomic uint32_t now_s; /* control: the clock of ageing */
	_Atomic uint32_t lost;  /* under the lock: entries moved or forgotten, counted after it was done */
	/* under the lock; not beside what every lookup reads, as a guest that sends from ever new addresses takes it often */
	cache_aligned struct spin lock;
	_Atomic unsigned entries; /* read by others (relaxed) */
	unsigned of_port[PORTS_MAX];
	/* statistics, relaxed */
	_Atomic uint64_t learned, aged, moved, full;
};

static inline uint64_t fdb_key(uint16_t vid, uint64_t mac)
{
	return UINT64_C(1) << 63 | (uint64_t)vid << 48 | mac;
}

static inline uint16_t fdb_key_vid(uint64_t key)
{
	return (key >> 48) & 0xfff;
}

static inline dest_t fdb_dest(uint64_t value)
{
	return (dest_t){(uint32_t)(value >> 32)};
}

/* Under the lock: @n entries more (or less) at @d. */
static inline void fdb_account(struct fdb *t, dest_t d, int n)
{
	atomic_store_explicit(&t->entries, atomic_load_explicit(&t->entries, memory_order_relaxed) + (unsigned)n,
			      memory_order_relaxed);
	t->of_port[d.v] += (unsigned)n;
}

/* Under the lock: an entry does not say any more what it said. */
static inline void fdb_lose(struct fdb *t)
{
	atomic_fetch_add_explicit(&t->lost, 1, memory_order_release);
}

/* ---- control (fdb.c) ---- */

/* -ENOMEM, or what getrandom() says. */
int fdb_init(struct fdb *t, unsigned entries) must_check;
void fdb_fini(struct fdb *t);
/* Forget every entry for which @victim says so; returns how many. */
unsigned fdb_forget(struct fdb *t, bool (*victim)(const void *arg, uint64_t key, uint64_t value), const void *arg);

/* ---- workers (fdb_hot.c) ---- */

bool fdb_lookup(const struct fdb *t, uint64_t key, dest_t *d);
/* A frame came from @key at @d: learn, move, or refresh. True: it is in the table, at @d, in this second. */
bool fdb_learn(struct fdb *t, uint64_t key, dest_t d);
