/* SPDX-License-Identifier: Apache-2.0 */
/* The control half of the address table. */
#include "fwd/fdb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static unsigned power_of_two_above(unsigned n)
{
	unsigned p = 16;

	while (p < n)
		p *= 2;
	return p;
}

int fdb_init(struct fdb *t, unsigned entries)
{
	unsigned capacity = power_of_two_above(entries), n_buckets = 2 * capacity / FDB_WAYS;

	*t = (struct fdb){.capacity = capacity, .port_share = capacity / 2, .mask = n_buckets - 1};
	if (getrandom(t->secret, sizeof(t->secret), 0) != sizeof(t->secret))
		return -errno;
	t->secret[1] |= 1; /* multipliers: an even one would lose bits */
	t->secret[2] |= 1;
	t->bucket = aligned_alloc(CACHE_LINE, n_buckets * sizeof(*t->bucket));
	if (!t->bucket)
		return -ENOMEM;
	memset(t->bucket, 0, n_buckets * sizeof(*t->bucket));
	return 0;
}

void fdb_fini(struct fdb *t)
{
	free(t->bucket);
}

unsigned fdb_forget(struct fdb *t, bool (*victim)(const void *arg, uint64_t key, uint64_t value), const void *arg)
{
	unsigned n = 0;

	for (uint32_t b = 0; b <= t->mask; b++) {
		/* The lock is held for one bucket at a time: workers that want to learn meanwhile get their turn. */
		spin_lock(&t->lock);
		for (int i = 0; i < FDB_WAYS; i++) {
			struct fdb_slot *s = &t->bucket[b].slot[i];
			uint64_t key = atomic_load_explicit(&s->key, memory_order_relaxed);
			uint64_t value = atomic_load_explicit(&s->value, memory_order_relaxed);

			if (!key || !victim(arg, key, value))
				continue;
			atomic_store_explicit(&s->key, 0, memory_order_release);
			fdb_account(t, fdb_dest(value), -1);
			fdb_lose(t);
			n++;
		}
		spin_unlock(&t->lock);
	}
	return n;
}
