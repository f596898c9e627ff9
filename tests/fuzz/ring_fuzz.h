/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the fuzzers of both kinds of rings share: a guest's port in fenced memory, the program around it, the device at
 * work, and a thread that rewrites what the guest may write. Each fuzzer has its driver, and its list of actions. */
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "../unit/driver.h"
#include "port/guest.h"

#define PART        UINT64_C(0x20000)
#define RING        32
#define RINGS       3 /* receiveq, transmitq, control queue */
#define TABLE_BYTES (16 * 64)
#define FRAME_BYTES 9014

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ram ram;
static struct virtq *vq[RINGS];
static int kick_fd;
static uint64_t table_gpa;
static struct guest *guest;
static struct port *port;
static struct frame_batch batch;
static atomic_bool rewrite;
static atomic_uint rewriting;

/* ---- the program around the port ---- */

static int queue_add(struct port *p, unsigned q, int poll_fd, struct err *e)
{
	(void)p, (void)q, (void)poll_fd, (void)e;
	return 0;
}

static void queue_remove(struct port *p, unsigned q)
{
	(void)p, (void)q;
}

static void quiesce(void)
{
}

static void link_changed(struct port *p)
{
	(void)p;
}

static struct port_host host = {
	.queue_add = queue_add, .queue_remove = queue_remove, .quiesce = quiesce, .link_changed = link_changed};

static void fail(void *arg, const char *reason)
{
	(void)arg;
	expect(reason && *reason, "a break has a reason");
}

static const struct gmem *memory(void *arg)
{
	(void)arg;
	return ram.gmem;
}

/* ---- the guest's other processor ---- */

/* The fuzzer's: a word that the guest may rewrite at any time. */
uint16_t *some_word(uint32_t random);

static void *rewrite_rings(void *unused)
{
	uint32_t random = 1;

	(void)unused;
	for (;;) {
		if (!atomic_load_explicit(&rewrite, memory_order_relaxed)) {
			atomic_store(&rewriting, 0);
			while (!atomic_load(&rewrite))
				usleep(20);
		}
		atomic_store_explicit(&rewriting, 1, memory_order_relaxed);
		random = random * 1664525 + 1013904223;
		/* flags and small numbers, mostly: other values end the ring's life at once */
		if (random & 0x80)
			*some_word(random >> 8) ^= (uint16_t)(1u << (random >> 4 & 7));
		else
			*some_word(random >> 8) = (uint16_t)(random >> 16 & 31);
	}
	return NULL;
}

static void stop_rewriting(void)
{
	atomic_store(&rewrite, false);
	while (atomic_load(&rewriting))
		cpu_relax();
}

/* ---- start and restart ---- */

/* Make the pages beside a mapping inaccessible, if nothing is there. */
static void fence(const struct gmem_region *r)
{
	mmap((uint8_t *)r->map - PART, PART, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	mmap((uint8_t *)r->map + r->map_bytes, PART, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
	     0);
}

static void run_ring(unsigned i, const struct virtq_conf *c)
{
	struct err e;

	vq[i] = driver_start(c);
	expect(guest_ring_run(guest, i, vq[i], i == 2 ? kick_fd : -1, &e) == 0, "run");
	guest_ring_enable(guest, i, true);
}

static void stop_ring(unsigned i)
{
	guest_ring_halt(guest, i);
	driver_stop(vq[i]);
}

/* A log that ends in the middle of memory. */
static void make_log(void)
{
	uint64_t bytes = (RAM_GPA + PART) / 4096 / 8;
	int fd = memfd_create("log", MFD_CLOEXEC);
	struct err e;

	expect(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0, "log");
	expect(gmem_log_set(ram.gmem, fd, bytes, 0, &e) == 0, e.text);
	close(fd);
}

static void make_memory(void)
{
	ram_init(&ram, PART, 2);
	make_log();
	for (unsigned i = 0; i < 2; i++)
		fence(ram.gmem->region[i]);
	table_gpa = ram_alloc(&ram, TABLE_BYTES, 16);
}

/* When the rings are laid out. */
static void make_port(void)
{
	pthread_t thread;

	host.events = event_base_new();
	kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	expect(host.events && kick_fd >= 0, "events");
	guest = guest_new("fuzz", FRAME_BYTES - 14, 1, &host);
	expect(guest, "port");
	guest_set_link(guest, &(struct guest_link){.fail = fail, .memory = memory});
	port = guest_port(guest);
	expect(pthread_create(&thread, NULL, rewrite_rings, NULL) == 0, "thread");
}

/* ---- the device at work ---- */

static bool is_in_guest(const uint8_t *p, uint32_t len)
{
	for (unsigned i = 0; i < ram.gmem->n_regions; i++) {
		const struct gmem_region *r = ram.gmem->region[i];

		if (p >= r->base && p < r->base + r->size_bytes)
			return len <= (uint64_t)(r->base + r->size_bytes - p);
	}
	return false;
}

/* What a guest leaves undone lies within its frame, whatever it wrote (port/frame.h). */
static void check_offload(const struct frame *f)
{
	const struct frame_offload *off = &f->off;

	expect(off->gso_type == NET_HDR_GSO_NONE || off->flags == NET_HDR_F_NEEDS_CSUM,
	       "segmentation without checksum");
	expect(off->hdr_len <= f->head_len, "length of a header");
	if (off->flags & NET_HDR_F_NEEDS_CSUM)
		expect(off->csum_start >= ETH_HEAD_BYTES && off->csum_start + off->csum_offset + 2u <= f->head_len,
		       "place of a checksum");
	if (off->gso_type != NET_HDR_GSO_NONE)
		expect(off->gso_size && off->hdr_len && (uint32_t)off->hdr_len + off->gso_size < f->len, "segments");
}

static void check_frame(const struct frame *f)
{
	uint64_t len = f->head_len;

	check_offload(f);

	expect(f->len >= ETH_HEAD_BYTES && f->len <= FRAME_BYTES_MAX, "length of a frame");
	expect(f->head_len == min_u32(f->len, FRAME_HEAD_MAX), "length of a head");
	expect(f->data == f->room + FRAME_ROOM_TAG, "place of a head");
	expect(f->body >= batch.spans && f->body + f->n_body <= batch.spans + batch.n_spans, "place of a body");
	for (unsigned i = 0; i < f->n_body; len += f->body[i++].len)
		expect(f->body[i].len && is_in_guest(f->body[i].p, f->body[i].len), "body");
	expect(len == f->len, "head and body");
}

static void receive(void)
{
	unsigned sum = 0;

	batch.n = batch.n_spans = 0;
	expect(port->ops->rx(port, 0, &batch, 0) <= FRAME_BATCH, "taken");
	expect(batch.n <= FRAME_BATCH && batch.n_spans <= ARRAY_SIZE(batch.spans), "batch");
	for (unsigned i = 0; i < batch.n; i++) {
		check_frame(&batch.f[i]);
		for (unsigned k = 0; k < batch.f[i].n_body; k++) /* and it can be read */
			sum += batch.f[i].body[k].p[batch.f[i].body[k].len - 1];
	}
	__asm__ volatile("" ::"r"(sum));
	port->ops->rx_done(port, 0);
	port->ops->rx_flush(port, 0);
}

/* @how: the number of frames, which worker sends them, and whether it is held up before they are published. */
static void transmit(unsigned how, uint32_t len)
{
	static const uint8_t body[FRAME_BYTES];
	static struct frame frame[FRAME_BATCH];
	struct frame *list[FRAME_BATCH];
	struct wire_piece span = {.p = body};
	unsigned n = 1 + how % FRAME_BATCH, worker = how >> 6 & 1;

	len = ETH_HEAD_BYTES + len % (FRAME_BYTES - ETH_HEAD_BYTES + 1);
	for (unsigned i = 0; i < n; i++) {
		struct frame *f = list[i] = &frame[i];

		memset(frame_head_begin(f), 0x5a, FRAME_HEAD_MAX);
		f->len = len;
		f->head_len = min_u32(len, FRAME_HEAD_MAX);
		span.len = len - f->head_len;
		f->body = &span;
		f->n_body = span.len > 0;
		if (how & 1 && f->head_len >= 54)
			f->off = (struct frame_offload){
				.flags = NET_HDR_F_NEEDS_CSUM, .hdr_len = 54, .csum_start = 34, .csum_offset = 16};
	}
	port->ops->tx(port, list, n, worker);
	if (how & 128)
		return;
	port->ops->tx_publish(port, worker);
	port->ops->tx_flush(port, worker);
}

static void command(void)
{
	uint64_t one = 1;

	expect(write(kick_fd, &one, sizeof(one)) == sizeof(one), "kick");
	event_base_loop(host.events, EVLOOP_NONBLOCK);
}

/* ---- the input ---- */

struct input {
	const uint8_t *p;
	size_t left;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (; bytes && in->left; bytes--, in->left--)
		v = v << 8 | *in->p++;
	return v;
}

/* Mostly somewhere in memory, and often near a border; sometimes anywhere. */
static uint64_t take_gpa(struct input *in)
{
	switch (take(in, 1) % 8) {
	case 0:
		return (uint64_t)take(in, 4) << 32 | take(in, 4);
	case 1:
		return RAM_GPA + PART - 64 + take(in, 1) % 128;
	case 2:
		return RAM_GPA + 2 * PART - 64 + take(in, 1) % 128;
	case 3:
		return table_gpa + take(in, 1);
	default:
		return RAM_GPA + 4 * (uint64_t)take(in, 2);
	}
}

static uint32_t take_len(struct input *in)
{
	static const uint32_t usual[] = {0,   1,   10,   12,   13,   26,    60,    64,
					 128, 140, 1514, 1526, 9026, 65562, 65536, 0xfffffff0};
	uint32_t i = take(in, 1);

	return i < 200 ? usual[i % ARRAY_SIZE(usual)] : take(in, 2);
}
