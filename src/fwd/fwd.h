/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "port/port.h"
#include "wire/eth.h"

/* Forwarding: MAC learning per VLAN, access and trunk ports, spoof guard, flooding (IEEE 802.1Q, without spanning tree).
 *
 * Threads: control adds, changes and removes ports and ages the table; what workers read (the port table) is immutable
 *          and published through RCU. Workers learn and look up, several at once, without waiting for each other.
 */
struct fwd;

#define VLANS_N     4096
#define VID_MAX     4094
#define VID_DEFAULT 1 /* of an access port that says nothing */

#define VLAN_SET_BYTES (VLANS_N / 8) /* a set of VLANs: bit vid & 7 of byte vid / 8 */

/* How a port takes part. */
struct fwd_port_conf {
	bool trunk;
	uint16_t vid;                    /* access: its VLAN; trunk: its native VLAN, or 0 for none */
	uint8_t allowed[VLAN_SET_BYTES]; /* trunk: VLANs it carries, the native one included */
	bool has_mac; /* a MAC was configured: it belongs to this port and is not learned elsewhere */
	struct mac mac;
	bool spoof_guard; /* only that MAC may send; needs has_mac */
};

/* The answer of a lookup (design D15): where a frame goes. Today always a local port. */
typedef struct {
	uint32_t v;
} dest_t;

struct fwd_conf {
	unsigned fdb_entries; /* bound of the table; rounded up to a power of two */
	unsigned ageing_s;    /* a learned address is forgotten after this long without a frame from it; 0: never */
};
#define FDB_ENTRIES_DEFAULT  16384
#define FDB_ENTRIES_MAX      (1u << 20)
#define FDB_AGEING_S_DEFAULT 300

/* NULL: no memory. */
struct fwd *fwd_new(const struct fwd_conf *conf);
/* All ports must have been removed, all workers be gone. */
void fwd_free(struct fwd *f);

/* ---- control thread ---- */

/* Join @p to the switch; sets p->id. -ENOSPC: PORTS_MAX reached; -EEXIST: the MAC belongs to another port. */
int fwd_port_add(struct fwd *f, struct port *p, const struct fwd_port_conf *conf, struct err *e) must_check;
/* New settings for a port of the switch; what was learned behind it in VLANs it left is forgotten. */
int fwd_port_set(struct fwd *f, struct port *p, const struct fwd_port_conf *conf, struct err *e) must_check;
/* Take it out. When this returns no worker sends to it any more. */
void fwd_port_remove(struct fwd *f, struct port *p);
/* p->up changed: forget what was learned behind a port that went down. */
void fwd_link_changed(struct fwd *f, struct port *p);

/* Forget addresses older than the ageing time; call about once a second. */
void fwd_age(struct fwd *f);
/* Forget everything learned. Returns how many. */
unsigned fwd_fdb_flush(struct fwd *f);
void fwd_set_ageing(struct fwd *f, unsigned ageing_s);

struct fdb_entry {
	struct mac mac;
	uint16_t vid;
	const struct port *port;
	bool is_static; /* configured for the port, in every VLAN of it; vid is 0 then */
	unsigned age_s; /* since the last frame from it */
};
/* Call @each for every entry, in no order; it must not change the switch. */
void fwd_fdb_walk(struct fwd *f, void (*each)(void *arg, const struct fdb_entry *e), void *arg);

struct fwd_stats {
	unsigned entries, capacity;
	uint64_t learned, aged, moved;
	uint64_t full; /* addresses not learned because the table (or the port's share of it) was full */
};
void fwd_stats_get(const struct fwd *f, struct fwd_stats *s);

/* ---- workers (fwd_hot.c) ---- */

struct port_set {
	uint64_t bits[PORTS_MAX / 64];
};

/* Where frames with this source and destination went the last time. Believed only while nothing has changed that could
 * send them elsewhere: `stamp` is then the same. Known sources and unicast destinations only. */
struct fwd_memo {
	uint64_t src; /* port it came from << 48 | MAC */
	uint64_t dst; /* VLAN << 48 | MAC */
	uint64_t stamp;
	uint16_t to;
};
#define FWD_MEMOS 256 /* a power of two; 8 KiB of which only those of flows now active are in the cache */

/* Pieces of the frames merged for one port: two of each frame that a kernel's port lends. */
#define FWD_MERGED_PIECES (2 * FRAME_BATCH)

/* Senders behind a port that were told, in this second, that a frame was too long. */
struct fwd_told {
	uint32_t second;
	uint32_t n;
};

/* A worker's own: what a batch leaves to do, and to tell; and what is remembered from batch to batch. */
struct fwd_work {
	struct port_set touched; /* a bit is added for each port that was sent to and must be published and flushed */
	uint64_t decided_cycles; /* when it was clear where every frame goes; copying came after */
	struct fwd_memo memo[FWD_MEMOS];
	unsigned asked_left;     /* segments that frames of this batch may still ask for, of us, a kernel or a guest */
	unsigned cuts_left;      /* frames that this batch may still be cut into, here */
	struct frame_batch room; /* for what frames are cut into */
	struct wire_piece merged[FWD_MERGED_PIECES]; /* bodies of frames that were merged */
	struct fwd_told told[PORTS_MAX];
};

/* Check, learn, look up and deliver every frame of @b, which @in has received. Called by the worker in a read-side
 * section (or by control itself). Hot. */
void fwd_process(struct fwd *f, struct port *in, struct frame_batch *b, unsigned worker, struct fwd_work *work);

/* The port with @id as published to workers, or NULL. For publishing and flushing what fwd_process() touched. */
struct port *fwd_port(struct fwd *f, unsigned id);
