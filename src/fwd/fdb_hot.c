/* SPDX-License-Identifier: Apache-2.0 */
/* Looking up and learning addresses; any worker. How it stays correct without a lock is told in fdb.h. */
#include "fwd/fdb.h"

/* Two independent bucket numbers. Multiplying carries each bit of the key upwards only, hence twice, with the upper half
 * folded down between. */
static void buckets_of(const struct fdb *t, uint64_t key, struct fdb_bucket *b[2])
{
	uint64_t h = (key ^ t->secret[0]) * t->secret[1];

	h = (h ^ h >> 32) * t->secret[2];
	b[0] = &t->bucket[(uint32_t)(h >> 42) & t->mask]; /* 20 bits of mask at most: FDB_ENTRIES_MAX */
	b[1] = &t->bucket[(uint32_t)(h >> 20) & t->mask];
}

static struct fdb_slot *find(const struct fdb *t, uint64_t key)
{
	struct fdb_bucket *b[2];

	buckets_of(t, key, b);
	for (int k = 0; k < 2; k++)
		for (int i = 0; i < FDB_WAYS; i++)
			if (atomic_load_explicit(&b[k]->slot[i].key, memory_order_acquire) == key)
				return &b[k]->slot[i];
	return NULL;
}

bool fdb_lookup(const struct fdb *t, uint64_t key, dest_t *d)
{
	struct fdb_slot *s = find(t, key);
	uint64_t value;

	if (!s)
		return false;
	value = atomic_load_explicit(&s->value, memory_order_acquire);
	if (unlikely(atomic_load_explicit(&s->key, memory_order_relaxed) != key))
		return false; /* forgotten just now */
	*d = fdb_dest(value);
	return true;
}

static struct fdb_slot *find_empty(const struct fdb *t, uint64_t key)
{
	struct fdb_bucket *b[2];

	buckets_of(t, key, b);
	for (int i = 0; i < FDB_WAYS; i++)
		for (int k = 0; k < 2; k++)
			if (atomic_load_explicit(&b[k]->slot[i].key, memory_order_relaxed) == 0)
				return &b[k]->slot[i];
	return NULL;
}

static uint64_t value_of(const struct fdb *t, dest_t d)
{
	return (uint64_t)d.v << 32 | atomic_load_explicit(&t->now_s, memory_order_relaxed);
}

static void add_one(_Atomic uint64_t *c)
{
	atomic_fetch_add_explicit(c, 1, memory_order_relaxed);
}

/* Under the lock: @key is in the table, at another destination. */
static void move(struct fdb *t, struct fdb_slot *s, dest_t d)
{
	dest_t old = fdb_dest(atomic_load_explicit(&s->value, memory_order_relaxed));

	if (old.v == d.v)
		return;
	t->of_port[old.v]--;
	t->of_port[d.v]++;
	atomic_store_explicit(&s->value, value_of(t, d), memory_order_release);
	fdb_lose(t);
	add_one(&t->moved);
}

/* Under the lock: @key is not in the table. False: there is no room for it. */
static bool insert(struct fdb *t, uint64_t key, dest_t d)
{
	struct fdb_slot *s = NULL;

	if (atomic_load_explicit(&t->entries, memory_order_relaxed) < t->capacity && t->of_port[d.v] < t->port_share)
		s = find_empty(t, key);
	if (!s) {
		add_one(&t->full);
		return false;
	}
	fdb_account(t, d, 1);
	atomic_store_explicit(&s->value, value_of(t, d), memory_order_release);
	atomic_store_explicit(&s->key, key, memory_order_release);
	add_one(&t->learned);
	return true;
}

/* The lock was taken, and is given back. */
static bool learn_locked(struct fdb *t, uint64_t key, dest_t d)
{
	struct fdb_slot *s = find(t, key);
	bool learned = true;

	if (s)
		move(t, s, d);
	else
		learned = insert(t, key, d);
	spin_unlock(&t->lock);
	return learned;
}

bool fdb_learn(struct fdb *t, uint64_t key, dest_t d)
{
	struct fdb_slot *s = find(t, key);

	if (likely(s)) {
		uint64_t seen = atomic_load_explicit(&s->value, memory_order_acquire), now = value_of(t, d);

		if (seen == now && atomic_load_explicit(&s->key, memory_order_relaxed) == key)
			return true;
		if (fdb_dest(seen).v == d.v && atomic_load_explicit(&s->key, memory_order_relaxed) == key)
			return atomic_compare_exchange_strong_explicit(&s->value, &seen, now, memory_order_release,
								       memory_order_relaxed);
	}
	return spin_try(&t->lock) && learn_locked(t, key, d);
}
