/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "fwd/fdb.h"
#include "fwd/fwd.h"

/* What workers know of the ports: immutable once published. Private to fwd. */

/* MACs that were configured, of ports that are up: open addressing, at most a quarter full. */
#define OWNERS_SLOTS (4 * PORTS_MAX)
struct owner {
	uint64_t mac; /* 0: empty; no port owns address zero */
	uint16_t port;
};

struct fwd_table {
	uint32_t version; /* counts tables */
	unsigned n;       /* ports in id[] */
	uint16_t id[PORTS_MAX];
	struct port *port[PORTS_MAX]; /* by id; NULL: none, and then not in id[] */
	struct fwd_port_conf conf[PORTS_MAX];
	struct owner owner[OWNERS_SLOTS];
};

struct fwd {
	struct fwd_table *_Atomic table;
	struct fwd_table
		*spare; /* control: the next one, so that no change, and no removal above all, can lack memory */
	struct fdb fdb;
	unsigned ageing_s; /* control */
};

/* Changes whenever a decision made before might not be made again: with the table @t, when a learned address moves or is
 * forgotten, and every second, so that addresses in use are seen and do not age. That an address is learned changes no
 * decision that is remembered. To be read before addresses are looked up. Hot. */
static inline uint64_t fwd_stamp(const struct fwd *f, const struct fwd_table *t)
{
	uint32_t lost = atomic_load_explicit(&((struct fdb *)&f->fdb)->lost, memory_order_acquire);
	uint32_t now_s = atomic_load_explicit(&((struct fdb *)&f->fdb)->now_s, memory_order_relaxed);

	return (uint64_t)(t->version + lost) << 32 | now_s;
}

static inline unsigned owner_slot(uint64_t mac)
{
	return (unsigned)((mac * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % OWNERS_SLOTS;
}

/* The port that @mac was configured for, or -1. Hot. */
static inline int owner_of(const struct fwd_table *t, uint64_t mac)
{
	for (unsigned i = owner_slot(mac); t->owner[i].mac; i = (i + 1) % OWNERS_SLOTS)
		if (t->owner[i].mac == mac)
			return t->owner[i].port;
	return -1;
}

/* Does the port carry frames of VLAN @vid? Hot. */
static inline bool carries(const struct fwd_port_conf *c, uint16_t vid)
{
	return c->trunk ? c->allowed[vid / 8] >> (vid % 8) & 1 : c->vid == vid;
}
