/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/spin.h"
#include "port/guest.h"
#include "port/offload.h"

/* Private to guest*.c. */

/* The guest's transmitq: one worker receives from it. */
struct guest_rx {
	/* control writes while halted */
	struct virtq *vq; /* NULL: halted */
	_Atomic bool enabled;
	uint8_t hdr_bytes;
	uint8_t may_leave; /* OFFLOAD_*: undone in frames of the guest */
	/* the owning worker */
	cache_aligned unsigned n_lent;
	struct virtq_chain lent[FRAME_BATCH];
};

/* Buffers of a receiveq that one worker has reserved and fills. */
struct guest_reservation {
	uint16_t end; /* sequence number of the chain behind the last one */
	uint8_t worker;
	bool filled;
};

/* Reservations open at once. Neighbours of one worker are one, so this many are there only if one worker is held up
 * while others take turns; then frames are dropped, as by a full queue. */
#define GUEST_RESERVATIONS_MAX 32

/* The guest's receiveq: any worker may send to it. It reserves buffers under the lock, fills them without it, and
 * publishes under it again what is filled up to the first reservation that is not (design D3). */
struct guest_tx {
	/* control writes while halted */
	struct virtq *vq; /* NULL: halted */
	uint8_t hdr_bytes;
	bool mergeable;
	bool csum;             /* the guest takes frames without a checksum, and is told of those with a good one */
	bool running, enabled; /* control only */
	/* workers, under the lock */
	cache_aligned struct spin lock;
	unsigned n_open; /* read without it as a hint */
	struct guest_reservation open[GUEST_RESERVATIONS_MAX];
};

/* The receiveqs that may be filled: running and enabled. Immutable; published through guest.tx_set. */
struct guest_tx_set {
	unsigned n;
	struct guest_tx *q[PORT_QUEUES_MAX];
};

struct guest {
	struct port port;
	/* constant after guest_set_link() */
	struct guest_link link;
	const struct port_host *host;
	unsigned pairs;
	/* control */
	bool connected, broken;
	struct guest_agreed agreed;
	char reason[160];
	struct guest_ctrl *ctrl;
	struct virtq *ctrl_vq; /* NULL: halted */
	unsigned ctrl_pairs;   /* pairs the guest asked for through its control queue; 0: it has none */
	/* control publishes, workers read */
	struct guest_tx_set *_Atomic tx_set;
	struct guest_rx rx[PORT_QUEUES_MAX];
	struct guest_tx tx[PORT_QUEUES_MAX];
};

static inline struct guest *guest_of(const struct port *p)
{
	return container_of(p, struct guest, port);
}

/* guest_rx_hot.c */
unsigned guest_rx_poll(struct port *p, unsigned q, struct frame_batch *b, unsigned worker);
void guest_rx_done(struct port *p, unsigned q);
bool guest_rx_sleep(struct port *p, unsigned q);
void guest_rx_wake(struct port *p, unsigned q);
/* guest_tx_hot.c */
void guest_tx_frames(struct port *p, struct frame *const *f, unsigned n, unsigned worker);
void guest_tx_publish(struct port *p, unsigned worker);
/* No worker uses the receiveqs of @set any more: publish everything that was put into them. Control. */
void guest_tx_settle(const struct guest_tx_set *set);

/* guest_ctrl.c: the control queue (virtio 1.2, 5.1.6.5), for front ends that forward it. Control thread. */
int guest_ctrl_run(struct guest *g, struct virtq *vq, int kick_fd, struct err *e);
void guest_ctrl_halt(struct guest *g);
/* guest.c: the pairs that take part changed. */
void guest_publish_tx(struct guest *g);
/* guest.c: signal what virtq_interrupt() returned. */
void guest_interrupt(int call_fd);
