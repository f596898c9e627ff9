/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <linux/if_packet.h>

#include "base/log.h"
#include "base/spin.h"
#include "port/netif.h"
#include "port/offload.h"
#include "port/packet.h"
#include "port/port.h"

/* Private to packet*.c. What the port is made of: see packet.c. */

/* Frames longer than their slot (segmentation left to others) come through the socket, into these. */
#define PACKET_LONG_N     4
#define PACKET_LONG_BYTES (size_t)(66 * 1024) /* 64 KiB of IP, Ethernet header, tags */

/* Where the kernel looks for the frame in a slot to be sent (packet_mmap.rst). */
#define PACKET_TX_DATA_OFF (uint32_t) TPACKET_ALIGN(sizeof(struct tpacket2_hdr))

/* Slots shared with the kernel. Slot i begins at map + i * slot_bytes. */
struct packet_ring {
	uint8_t *map;
	size_t map_bytes;
	uint32_t slot_bytes;
	uint32_t n;
};

static inline struct tpacket2_hdr *packet_slot(const struct packet_ring *r, uint32_t i)
{
	return (struct tpacket2_hdr *)(r->map + (size_t)i * r->slot_bytes);
}

/* Slots change hands by their status word. */
static inline uint32_t packet_status(const struct tpacket2_hdr *slot)
{
	return __atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE);
}

static inline void packet_set_status(struct tpacket2_hdr *slot, uint32_t status)
{
	__atomic_store_n(&slot->tp_status, status, __ATOMIC_RELEASE);
}

static inline uint32_t packet_after(const struct packet_ring *r, uint32_t i)
{
	return i + 1 == r->n ? 0 : i + 1;
}

struct packet_rx {
	/* constant */
	int fd;
	struct packet_ring ring;
	uint8_t *longs; /* PACKET_LONG_N buffers of PACKET_LONG_BYTES */
	/* the worker that owns the queue */
	uint32_t next;               /* slot to look at */
	uint32_t n_lent;             /* slots before `next` whose frames are in the batch */
	uint32_t long_next, n_longs; /* buffer to fill next, and how many before it hold something */
};

struct packet_tx {
	/* constant */
	cache_aligned struct packet_ring ring;
	int fd;
	int long_fd; /* for frames to be cut, which do not go through the ring */
	/* control */
	_Atomic uint32_t frame_max; /* longest frame that the interface, and a slot, take, a tag included */
	/* workers and control, under `lock` */
	uint64_t stuck_ns; /* since when the kernel took nothing; 0: it did */
	uint32_t head;     /* slot to fill next */
	uint32_t tail;     /* oldest slot the kernel has not been seen to take; [tail, head) is filled */
	struct spin lock;
	bool may_wait;        /* somebody polls, so frames may wait in the ring while the interface is busy */
	bool longs_wait;      /* frames to be cut may still be in the queueing discipline */
	_Atomic bool backlog; /* frames wait to be tried again */
	/* one worker at a time is in the kernel for this ring */
	struct spin in_kernel;
	_Atomic bool wanted; /* frames were added since it went there */
};

struct packet {
	struct port port;
	/* constant */
	const struct port_host *host;
	/* control swaps while no worker is near */
	struct packet_rx *rx;
	struct packet_tx *tx;
	/* control */
	struct offload_deal offloads;
	struct netif netif;
	struct event *timer;
	bool queued;          /* the queue was given to a worker */
	unsigned seen_mtu;    /* of the interface */
	uint64_t seen_frames; /* received when it was last looked for a stuck ring */
	bool suspect;         /* it may be one */
	char reason[160];
	struct log_limit log;
};

static inline struct packet *packet_of(const struct port *p)
{
	return container_of(p, struct packet, port);
}

/* packet_ring.c: sockets and rings for frames of @mtu, in the namespace this thread acts in, not bound yet. On
 * failure *rx or *tx is NULL and *e says why. Control thread. */
int packet_rx_open(struct packet_rx **rx, unsigned mtu, struct err *e) must_check;
int packet_tx_open(struct packet_tx **tx, unsigned mtu, struct err *e) must_check;
/* Begin with interface @index, or go on with it: it was deleted and made again. 0 or negative errno. */
int packet_rx_bind(struct packet_rx *rx, int index) must_check;
int packet_tx_bind(struct packet_tx *tx, int index) must_check;
/* The longest frame a slot takes. */
uint32_t packet_tx_slot_max(const struct packet_tx *tx);
/* Would a ring for this MTU be the same? */
bool packet_ring_suits(const struct packet_ring *r, unsigned mtu);
/* Frames the kernel dropped since the last call, for want of slots. */
uint32_t packet_rx_lost(struct packet_rx *rx);
void packet_rx_close(struct packet_rx *rx);
void packet_tx_close(struct packet_tx *tx);

/* packet_rx.c: operations of the port. */
unsigned packet_rx_poll(struct port *p, unsigned q, struct frame_batch *b, unsigned worker);
void packet_rx_done(struct port *p, unsigned q);
bool packet_rx_sleep(struct port *p, unsigned q);
void packet_rx_wake(struct port *p, unsigned q);

/* packet_tx.c: operations of the port. */
void packet_tx_frames(struct port *p, struct frame *const *f, unsigned n, unsigned worker);
void packet_tx_flush(struct port *p, unsigned worker);
/* May frames wait in the ring from now on? False if some do already (and @wait is false): keep polling. */
bool packet_tx_let_wait(struct packet_tx *tx, bool wait);
