/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A guest's port with rings in memory of the test, and a program around it that writes down what it is asked to do. For
 * use inside of cmocka tests, one rig at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <event2/event.h>
#include <sys/eventfd.h>

#include "driver.h"
#include "driver_packed.h"
#include "port/guest_priv.h"

#define RIG_PAIRS    4
#define RIG_RING     256 /* entries of each ring */
#define RIG_PART     UINT64_C(0x400000)
#define RIG_WORKER   3     /* whoever calls: counters go to its slot */
#define RIG_GAP      0xee  /* what lies between the buffers */
#define RIG_FRAME    65600 /* room for any frame */
#define RECEIVEQ(k)  (2 * (k))
#define TRANSMITQ(k) (2 * (k) + 1)
#define CONTROLQ     (2 * RIG_PAIRS)

struct rig {
	struct ram ram;
	uint64_t rings_bytes; /* of ram: what is behind is for buffers */
	struct guest *guest;
	struct port *port;
	bool packed;                        /* rings are of that kind */
	struct driver d[2 * RIG_PAIRS + 1]; /* split */
	struct packed_driver p[2 * RIG_PAIRS + 1];
	struct virtq *vq[2 * RIG_PAIRS + 1]; /* NULL: halted */
	struct frame_batch batch;
};

/* What the program around the port was asked for. */
static struct {
	unsigned quiesces, link_changes, fails, mtu;
	char reason[256];
	uint32_t injected_bytes;
	uint8_t injected[256];
	struct {
		bool given;
		int poll_fd;
	} queue[RIG_PAIRS];
	int refuse_queues;        /* a negative errno: queue_add fails */
	void (*on_quiesce)(void); /* what workers did up to now may be looked at */
} asked;

static inline int rig_queue_add(struct port *p, unsigned q, int poll_fd, struct err *e)
{
	(void)p;
	if (asked.refuse_queues)
		return err_set(e, asked.refuse_queues, NULL, NULL, "refused");
	asked.queue[q].given = true;
	asked.queue[q].poll_fd = poll_fd;
	return 0;
}

static inline void rig_queue_remove(struct port *p, unsigned q)
{
	(void)p;
	asked.queue[q].given = false;
}

static inline void rig_quiesce(void)
{
	asked.quiesces++;
	if (asked.on_quiesce)
		asked.on_quiesce();
}

static inline void rig_link_changed(struct port *p)
{
	(void)p;
	asked.link_changes++;
}

static inline void rig_inject(struct port *p, const void *frame, uint32_t len)
{
	(void)p;
	asked.injected_bytes = len;
	memcpy(asked.injected, frame, len);
}

static struct port_host rig_host = {
	.queue_add = rig_queue_add,
	.queue_remove = rig_queue_remove,
	.quiesce = rig_quiesce,
	.link_changed = rig_link_changed,
	.inject = rig_inject,
};

static inline void rig_fail(void *arg, const char *reason)
{
	(void)arg;
	asked.fails++;
	snprintf(asked.reason, sizeof(asked.reason), "%s", reason);
}

static inline void rig_info(void *arg, struct port_info *info)
{
	(void)arg;
	port_info_add(info, "asked", "the link");
}

static inline void rig_set_mtu(void *arg, unsigned mtu)
{
	(void)arg;
	asked.mtu = mtu;
}

static inline const struct gmem *rig_memory(void *arg)
{
	return ((struct rig *)arg)->ram.gmem;
}

/* Both kinds of rings have the same numbers; only those that rig_run() starts are used. A packed one begins near its
 * end. */
static inline void rig_lay_out(struct rig *r, unsigned ring)
{
	driver_init(&r->d[ring], &r->ram, RIG_RING, (uint16_t)(65535 - 10 * ring));
	r->d[ring].avail->flags = r->d[ring].used->flags = 0;
	packed_init(&r->p[ring], &r->ram, RIG_RING, (uint16_t)(RIG_RING - 3 - ring));
}

static inline struct rig *rig_new_of(bool packed)
{
	struct rig *r = calloc(1, sizeof(*r));

	expect(r, "memory");
	r->packed = packed;
	memset(&asked, 0, sizeof(asked));
	ram_init(&r->ram, RIG_PART, 2);
	memset(r->ram.p, RIG_GAP, 2 * RIG_PART);
	for (unsigned i = 0; i <= CONTROLQ; i++)
		rig_lay_out(r, i);
	r->rings_bytes = r->ram.used_bytes;
	rig_host.events = event_base_new();
	r->guest = guest_new("vm1", 1500, RIG_PAIRS, &rig_host);
	expect(r->guest && rig_host.events, "port");
	guest_set_link(
		r->guest,
		&(struct guest_link){
			.arg = r, .fail = rig_fail, .info = rig_info, .set_mtu = rig_set_mtu, .memory = rig_memory});
	r->port = guest_port(r->guest);
	return r;
}

static inline struct rig *rig_new(void)
{
	return rig_new_of(false);
}

/* The front end starts a ring where its driver stands. */
static inline int rig_run(struct rig *r, unsigned ring, int kick_fd)
{
	struct virtq_conf c = r->packed ? packed_conf(&r->p[ring]) : driver_conf(&r->d[ring]);
	struct err e = {0};

	c.indirect = true;
	r->vq[ring] = driver_start(&c);
	return guest_ring_run(r->guest, ring, r->vq[ring], kick_fd, &e);
}

static inline void rig_halt(struct rig *r, unsigned ring)
{
	guest_ring_halt(r->guest, ring);
	driver_stop(r->vq[ring]);
	r->vq[ring] = NULL;
}

static inline void rig_free(struct rig *r)
{
	for (unsigned i = 0; i <= CONTROLQ; i++)
		if (r->vq[i])
			rig_halt(r, i);
	r->port->ops->free(r->port);
	event_base_free(rig_host.events);
	ram_fini(&r->ram);
	free(r);
}

/* Negotiated as said, and @pairs pairs running and enabled. */
static inline struct rig *rig_up_of(bool packed, bool mrg_rxbuf, bool long_header, unsigned pairs)
{
	struct rig *r = rig_new_of(packed);

	guest_connected(r->guest);
	guest_features(r->guest, &(struct guest_agreed){.mrg_rxbuf = mrg_rxbuf, .long_header = long_header});
	for (unsigned i = 0; i < 2 * pairs; i++) {
		assert_int_equal(rig_run(r, i, -1), 0);
		guest_ring_enable(r->guest, i, true);
	}
	return r;
}

static inline struct rig *rig_up(bool mrg_rxbuf, bool long_header, unsigned pairs)
{
	return rig_up_of(false, mrg_rxbuf, long_header, pairs);
}

/* Of the virtio-net header. */
static inline uint32_t rig_hdr_bytes(const struct rig *r)
{
	return guest_of(r->port)->agreed.long_header ? NET_HDR_LONG : NET_HDR_SHORT;
}

/* The next used buffer of a ring, if there is one. */
static inline bool rig_take(struct rig *r, unsigned ring, struct vring_used_elem *e)
{
	return r->packed ? packed_take(&r->p[ring], e) : driver_take(&r->d[ring], e);
}

/* Offer one buffer with the head (or id) @head. */
static inline void rig_offer_buffer(struct rig *r, unsigned ring, unsigned head, uint64_t gpa, uint32_t len,
				    unsigned flags)
{
	if (r->packed)
		packed_offer(&r->p[ring], gpa, len, flags, head);
	else
		driver_offer_buffer(&r->d[ring], head, gpa, len, flags);
}

/* Forget all buffers: what is allocated next begins behind the rings again, and nothing else is there. */
static inline void rig_clear_buffers(struct rig *r)
{
	for (uint64_t at = r->rings_bytes; at < 2 * RIG_PART; at += 4096 - at % 4096) {
		uint64_t end = at + 4096 - at % 4096;

		memset(ram_at(&r->ram, RAM_GPA + at), RIG_GAP, end - at);
	}
	r->ram.used_bytes = r->rings_bytes;
}

static inline uint64_t rig_drops(const struct rig *r, enum drop_reason reason)
{
	return r->port->counters[RIG_WORKER].drop[reason];
}

static inline uint64_t rig_all_drops(const struct rig *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < DROP_N; i++)
		n += rig_drops(r, (enum drop_reason)i);
	return n;
}

/* How to cut @bytes into pieces: the sizes in @cut up to a 0, which stands for the rest; without a 0 the last one is
 * repeated. Returns how many; at most @max are written. */
#define CUTS_MAX 8
static inline unsigned cut_up(const uint32_t cut[CUTS_MAX], uint32_t bytes, uint32_t *piece, unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; bytes; i += i < CUTS_MAX - 1) {
		uint32_t size = cut[i] && cut[i] < bytes ? cut[i] : bytes;

		if (n < max)
			piece[n] = size;
		n++;
		bytes -= size;
	}
	return n;
}

/* Descriptor @i of @n, in a table or in the ring. */
static inline void rig_describe(struct rig *r, unsigned ring, unsigned head, unsigned i, unsigned n, uint64_t table,
				uint64_t gpa, uint32_t len, unsigned flags)
{
	unsigned next = i < n - 1 ? VRING_DESC_F_NEXT : 0;

	if (table && r->packed)
		packed_indirect(&r->p[ring], table, i, gpa, len, flags);
	else if (table)
		driver_indirect(&r->d[ring], table, i, gpa, len, flags | next, i + 1);
	else if (r->packed)
		packed_put(&r->p[ring], gpa, len, flags | next, head);
	else
		driver_desc(&r->d[ring], head + i, gpa, len, flags | next, head + i + 1);
}

/* Offer a chain of buffers of the sizes @piece, each somewhere else, and tell where. */
static inline void rig_offer(struct rig *r, unsigned ring, unsigned head, const uint32_t *piece, unsigned n,
			     unsigned flags, bool indirect, uint64_t *gpa)
{
	uint64_t table = indirect ? ram_alloc(&r->ram, 16 * (uint64_t)n, 16) : 0;

	for (unsigned i = 0; i < n; i++) {
		gpa[i] = ram_alloc(&r->ram, piece[i] + 3u, 1) + 1;
		rig_describe(r, ring, head, i, n, table, gpa[i], piece[i], flags);
	}
	if (indirect)
		rig_offer_buffer(r, ring, head, table, 16 * n, VRING_DESC_F_INDIRECT);
	else if (r->packed)
		packed_show(&r->p[ring]);
	else
		driver_offer(&r->d[ring], head);
}

/* Is everything around a buffer as it was? */
static inline bool rig_is_untouched(const struct rig *r, uint64_t gpa, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++)
		if (*(uint8_t *)ram_at(&r->ram, gpa + i) != RIG_GAP)
			return false;
	return true;
}

/* Bytes that tell their place, different for each @seed. */
static inline void fill(uint8_t *p, size_t bytes, unsigned seed)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)((i + seed) * 2654435761u >> 13);
}
