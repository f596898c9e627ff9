/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "base/base.h"
#include "base/err.h"
#include "port/drop.h"
#include "port/frame.h"

/* A port: whatever frames come from and go to. All kinds look the same to forwarding and to the workers.
 * rx and tx are meant from the switch's side, here and in everything users see.
 *
 * Threads: `ops` is split by thread. A port is made, changed and freed by the control thread; workers may touch it from
 *          the moment its queues are given to them, and until control has taken it out of every published table and
 *          waited for a grace period (synchronize_rcu).
 */

#define PORTS_MAX        256         /* local ports; a port's id is below it */
#define PORT_NAME_MAX    32          /* with the final zero */
#define PORT_QUEUES_MAX  16          /* queue pairs of a port */
#define WORKERS_MAX      16          /* counters and scratch are per worker */
#define COUNTERS_CONTROL WORKERS_MAX /* the control thread's own slot (injected frames) */

struct port;

/* One worker's counts for one port; that worker writes, everybody reads (relaxed). Bytes are without FCS and tag as
 * the port sees the frame. A frame is counted as received even if it is dropped later. */
struct port_counters {
	_Atomic uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
	_Atomic uint64_t rx_broadcast, rx_multicast;
	_Atomic uint64_t tx_flooded; /* of tx_frames: sent here because the destination was unknown or a group */
	_Atomic uint64_t drop[DROP_N];
} cache_aligned;

static inline void count(_Atomic uint64_t *c, uint64_t n)
{
	/* one writer: no locked instruction needed */
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Link of a port, shown to users by the names in port_state_name(). */
enum port_state {
	PORT_WAITING,  /* no front end has connected yet (listening, or retrying) */
	PORT_STARTING, /* connected; the guest's driver has not started its queues */
	PORT_UP,       /* frames flow */
	PORT_DOWN,     /* the network interface is down or gone */
	PORT_BROKEN,   /* the other side broke the rules; reason says how; a reconnect heals it */
	PORT_STATE_N
};
const char *port_state_name(enum port_state s);

/* What a port says of itself, for `flue port show`. */
#define PORT_DETAILS_MAX 24
struct port_info {
	enum port_state state;
	char reason[160]; /* of the last break, also after it was healed; or "" */
	struct {
		char key[32];
		char value[512];    /* a list of reasons fits */
	} detail[PORT_DETAILS_MAX]; /* what only this kind knows: socket, features, interface */
	unsigned n_details;
};
void port_info_add(struct port_info *info, const char *key, const char *fmt, ...) printf_like(3, 4);

/* A const table for each kind of port. */
struct port_ops {
	const char *kind; /* "guest", "tap", "packet" */

	/* -- the worker that owns queue @q: hot -- */

	/* Append up to FRAME_BATCH - b->n received frames to @b; their bodies stay valid until rx_done(). Each frame is
	 * at least an Ethernet header long and has all of min(len, FRAME_HEAD_MAX) bytes in its head. Frames that are
	 * dropped here are counted here; so are received frames and bytes. Returns the number taken, dropped ones too. */
	unsigned (*rx)(struct port *p, unsigned q, struct frame_batch *b, unsigned worker);
	/* Return everything rx() lent since the last call. */
	void (*rx_done)(struct port *p, unsigned q);
	/* Ask to be woken (through the queue's poll descriptor) when something arrives. True: something has arrived
	 * meanwhile, go on polling. */
	bool (*rx_sleep)(struct port *p, unsigned q);
	/* Polling again: no more notifications, please. */
	void (*rx_wake)(struct port *p, unsigned q);

	/* -- any worker, several at once: hot -- */

	/* Takes every frame whatever happens: what cannot go is dropped and counted here under a named reason. Frames
	 * are as the wire should see them (tagged if need be). Copies what it keeps. */
	void (*tx)(struct port *p, struct frame *const *f, unsigned n, unsigned worker);

	/* Make visible to the receiver what tx() took since the last call. Once for each port that a batch went to, after
	 * the sender's rx_done() and before any flush: whoever is killed in between has a sender who will not send those
	 * frames again, and a receiver who never saw them, so nothing comes twice. NULL: tx() did it. */
	void (*tx_publish)(struct port *p, unsigned worker);

	/* -- workers, after a batch: may make system calls -- */

	/* Tell the sender what rx_done() gave back (interrupt the guest). The worker that owns @q. May be NULL. */
	void (*rx_flush)(struct port *p, unsigned q);
	/* Tell the receiver what tx() gave it (interrupt the guest, kick the kernel): once for all calls of tx() since the
	 * last flush. Any worker, several at once. May be NULL. */
	void (*tx_flush)(struct port *p, unsigned worker);

	/* -- control thread -- */

	/* The port has joined the switch: begin to serve. NULL: the port begins by itself, when its front end connects.
	 * On failure it serves nothing and can be freed. */
	int (*start)(struct port *p, struct err *e);
	/* Some worker called port_attention(): look after it (a broken ring, a vanished interface). */
	void (*attend)(struct port *p);
	void (*info)(const struct port *p, struct port_info *info);
	/* Change the MTU while running. */
	int (*set_mtu)(struct port *p, unsigned mtu, struct err *e);
	/* Stop everything, wait for the workers, free. The port is in no published table any more. */
	void (*free)(struct port *p);
};

struct port {
	/* constant */
	const struct port_ops *ops;
	char name[PORT_NAME_MAX];
	uint16_t id; /* index in the switch's table; set when it joins the switch */

	/* control writes, workers read (relaxed) */
	_Atomic uint32_t mtu;   /* bytes of payload behind the Ethernet header (and tag) */
	_Atomic uint32_t takes; /* OFFLOAD_*: what tx() may be given undone; forwarding does the rest before */
	_Atomic bool coalesce;  /* segments that came from here may be merged for a receiver that takes long frames */
	_Atomic bool tell_too_big; /* who sends from here what a receiver's MTU is too small for is told by ICMP */
	_Atomic bool up;           /* may be sent to; false: forwarding skips it, unicast is dropped as port_down */

	/* worker sets, control clears: see port_attention() */
	_Atomic bool attention;

	/* [worker], the last one is the control thread's */
	struct port_counters counters[WORKERS_MAX + 1];
};

/* Set @p's flag and remember that some port wants control's attention; port_attention_fd() tells control (the worker
 * writes it after its batch). Any worker. */
void port_attention(struct port *p);

/* For workers: must the control thread be woken? Clears the mark. */
bool port_attention_pending(void);

static inline void port_drop(struct port *p, unsigned worker, enum drop_reason r, uint64_t n)
{
	count(&p->counters[worker].drop[r], n);
}

/* The largest frame, without a tag, that may be sent to this port. */
static inline uint32_t port_bytes_max(const struct port *p)
{
	return atomic_load_explicit(&((struct port *)p)->mtu, memory_order_relaxed) + ETH_HEAD_BYTES;
}

/* Sum of all workers' counts, [drop reason] included. Control thread. */
struct port_totals {
	uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, rx_broadcast, rx_multicast, tx_flooded;
	uint64_t drop[DROP_N];
};
void port_totals(const struct port *p, struct port_totals *t);

/* ---- the services that a port's control half uses, given by the program (main) ---- */

/* Give receive queue @q of @p to a worker; @poll_fd (or -1: the queue must be polled without end) becomes readable
 * when something arrives after rx_sleep(). And take it away: returns when no worker touches the queue. */
struct port_host {
	int (*queue_add)(struct port *p, unsigned q, int poll_fd, struct err *e);
	void (*queue_remove)(struct port *p, unsigned q);
	/* Wait until every worker has finished what it was doing when this was called (synchronize_rcu). */
	void (*quiesce)(void);
	/* p->up or a MAC binding changed: forwarding forgets what it learned behind a port that went down. */
	void (*link_changed)(struct port *p);
	/* Send a frame of our own into the switch as if @p had received it (announcements). Copied before return. */
	void (*inject)(struct port *p, const void *frame, uint32_t len);
	struct event_base *events; /* libevent's, of the control thread */
};
