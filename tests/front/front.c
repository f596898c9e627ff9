/* SPDX-License-Identifier: Apache-2.0 */
#include "front/front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "front/front_priv.h"

/* Memory, the shape of the queues, and what both kinds of ring have in common. */

#define PAGE 4096u

static size_t page_up(size_t n)
{
	return (n + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static const struct front_ring_ops *ops(const struct front_queue *q)
{
	return q->packed ? &front_packed_ops : &front_split_ops;
}

static uint32_t odd_lines(uint32_t bytes)
{
	return ((bytes + CACHE_LINE - 1) / CACHE_LINE | 1u) * CACHE_LINE;
}

static void set_defaults(struct front *f, const struct front_conf *conf)
{
	struct front_conf *c = &f->conf;
	uint32_t longest;

	*c = *conf;
	c->path = f->path;
	c->pairs = c->pairs ? c->pairs : 1;
	c->ring_size = c->ring_size ? c->ring_size : 256;
	c->frame_bytes = c->frame_bytes ? c->frame_bytes : 1514;
	c->timeout_ms = c->timeout_ms ? c->timeout_ms : 5000;
	c->required |= FRONT_F_VERSION_1 | (c->pairs > 1 ? FRONT_F_MQ : 0);
	c->wanted |= FRONT_F_PROTOCOL;
	longest = c->frame_bytes + FRONT_HEADER_BYTES;
	f->piece_bytes = odd_lines(c->piece_bytes ? c->piece_bytes : longest);
	f->chain = (uint16_t)((longest + f->piece_bytes - 1) / f->piece_bytes);
}

static int check(const struct front *f, const struct front_conf *conf, struct err *e)
{
	const struct front_conf *c = &f->conf;

	if (strlen(conf->path) >= sizeof(f->path))
		return err_set(e, -ENAMETOOLONG, "path", NULL, "%s is too long for a socket", conf->path);
	if (c->pairs > FRONT_PAIRS_MAX)
		return err_set(e, -EINVAL, "pairs", NULL, "%u queue pairs, at most %d", c->pairs, FRONT_PAIRS_MAX);
	if (c->ring_size > 32768 || (c->ring_size & (c->ring_size - 1)) != 0 || f->chain > c->ring_size)
		return err_set(e, -EINVAL, "ring_size", NULL, "a ring of %u for frames of %u pieces", c->ring_size,
			       f->chain);
	return 0;
}

/* All rings lie before all buffers. */
static int make_memory(struct front *f, struct err *e)
{
	const size_t n = f->conf.ring_size, rings = front_rings(f);

	f->ring_area = page_up(16 * n) + page_up(16 * n * f->chain) + page_up(6 + 2 * n) + page_up(6 + 8 * n);
	f->mem_bytes = page_up(rings * (f->ring_area + n * f->piece_bytes * f->chain));
	f->mem_fd = memfd_create("front", MFD_CLOEXEC);
	if (f->mem_fd < 0 || ftruncate(f->mem_fd, (off_t)f->mem_bytes) < 0)
		return err_set(e, -errno, NULL, NULL, "guest memory: %s", strerror(errno));
	f->mem = mmap(NULL, f->mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->mem_fd, 0);
	if (f->mem == MAP_FAILED) {
		f->mem = NULL;
		return err_set(e, -errno, NULL, NULL, "guest memory: %s", strerror(errno));
	}
	return 0;
}

static int make_queue(struct front *f, struct front_queue *q, struct err *e)
{
	const size_t n = f->conf.ring_size;

	q->mem = f->mem;
	q->gpa = FRONT_GPA;
	q->size = (uint16_t)n;
	q->free_id = calloc(n, sizeof(*q->free_id));
	q->posted_id = calloc(n, sizeof(*q->posted_id));
	q->pieces = calloc(n, sizeof(*q->pieces));
	q->len = calloc(n, sizeof(*q->len));
	q->out = f->conf.strict ? calloc(n, sizeof(*q->out)) : NULL;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!q->free_id || !q->posted_id || !q->pieces || !q->len || (f->conf.strict && !q->out) || q->kick_fd < 0 ||
	    q->call_fd < 0)
		return err_set(e, -ENOMEM, NULL, NULL, "a queue: %s", strerror(errno));
	return 0;
}

static int make_queues(struct front *f, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; i < front_rings(f) && r == 0; i++)
		r = make_queue(f, &f->queue[i], e);
	return r;
}

static struct front *new_empty(void)
{
	struct front *f = aligned_alloc(CACHE_LINE, sizeof(*f));

	if (f == NULL)
		return NULL;
	memset(f, 0, sizeof(*f));
	f->sock = f->listen_fd = f->mem_fd = f->in_flight_fd = -1;
	for (unsigned i = 0; i < ARRAY_SIZE(f->queue); i++)
		f->queue[i].kick_fd = f->queue[i].call_fd = -1;
	return f;
}

struct front *front_new(const struct front_conf *conf, struct err *e)
{
	struct front *f = new_empty();

	if (f == NULL) {
		err_set(e, -ENOMEM, NULL, NULL, "no memory");
		return NULL;
	}
	set_defaults(f, conf);
	if (check(f, conf, e) < 0 || make_memory(f, e) < 0 || make_queues(f, e) < 0) {
		front_free(f);
		return NULL;
	}
	memcpy(f->path, conf->path, strlen(conf->path) + 1);
	return f;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void free_queue(struct front_queue *q)
{
	close_fd(q->kick_fd);
	close_fd(q->call_fd);
	free(q->free_id);
	free(q->posted_id);
	free(q->pieces);
	free(q->len);
	free(q->out);
}

void front_free(struct front *f)
{
	if (f == NULL)
		return;
	front_hang_up(f);
	if (f->listen_fd >= 0)
		unlink(f->path);
	close_fd(f->listen_fd);
	for (unsigned i = 0; i < ARRAY_SIZE(f->queue); i++)
		free_queue(&f->queue[i]);
	if (f->mem != NULL)
		munmap(f->mem, f->mem_bytes);
	close_fd(f->mem_fd);
	close_fd(f->in_flight_fd);
	free(f);
}

static void place(struct front *f, struct front_queue *q, unsigned ring)
{
	const size_t n = q->size;
	uint8_t *at = f->mem + ring * f->ring_area;

	memset(at, 0, f->ring_area);
	q->desc = (void *)at;
	at += page_up(16 * n);
	q->tables = (void *)at;
	at += page_up(16 * n * f->chain);
	q->avail = (void *)at;
	at += page_up(6 + 2 * n);
	q->used = (void *)at;
	q->buffers = f->mem + page_up(front_rings(f) * f->ring_area) + ring * n * f->piece_bytes * f->chain;
}

static void shape(const struct front *f, struct front_queue *q)
{
	const bool split = !(f->features & FRONT_F_RING_PACKED);

	q->packed = !split;
	q->event_idx = f->features & FRONT_F_EVENT_IDX;
	q->in_order = f->features & FRONT_F_IN_ORDER;
	q->mergeable = !q->transmit && (f->features & FRONT_F_MRG_RXBUF);
	q->indirect = q->transmit && f->chain > 1 && (f->features & FRONT_F_INDIRECT_DESC);
	q->chain = q->mergeable ? 1 : f->chain;
	q->slots = (uint16_t)(q->indirect ? q->size : q->size / q->chain);
	q->step = split && !q->indirect ? q->chain : 1; /* an id is the head's place in the table, or free to choose */
	q->piece_bytes = f->piece_bytes;
	q->frame_bytes = f->conf.frame_bytes;
	q->id_bytes = q->piece_bytes * q->chain / q->step;
}

void front_layout(struct front *f)
{
	for (unsigned i = 0; i < front_rings(f); i++) {
		struct front_queue *q = &f->queue[i];

		q->transmit = i & 1;
		q->free_in = q->free_out = q->posted_in = q->posted_out = 0;
		q->armed = false;
		q->stats = (struct front_stats){0};
		q->base = f->features & FRONT_F_RING_PACKED ? 0x80008000u : 0; /* both wrap counters start at 1 */
		if (q->out != NULL)
			memset(q->out, 0, q->size * sizeof(*q->out));
		shape(f, q);
		place(f, q, i);
		ops(q)->reset(q);
	}
}

uint16_t front_describe(const struct front_queue *q, struct front_desc *first, uint16_t index, const uint8_t *buffer,
			uint32_t bytes, uint16_t flags)
{
	const uint16_t n = front_pieces(q, bytes);
	uint64_t gpa = front_gpa(q, buffer);

	for (uint16_t i = 0; i < n; i++, gpa += q->piece_bytes) {
		/* a packed ring's table has no links: 2.8.7 */
		const bool link = i + 1 < n && !q->packed;

		first[i].addr = gpa;
		first[i].len = min_u32(bytes - i * q->piece_bytes, q->piece_bytes);
		first[i].flags = (uint16_t)(flags | (link ? FRONT_DESC_NEXT : 0));
		first[i].next = link ? (uint16_t)(index + i + 1) : 0;
	}
	return n;
}

void front_fault(struct front_queue *q)
{
	q->stats.faults++;
}

void front_kick(struct front_queue *q)
{
	const uint64_t one = 1;

	q->stats.kicks++;
	if (write(q->kick_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: it is full of kicks */
}

uint64_t front_features(const struct front *f)
{
	return f->features;
}

uint8_t *front_memory(const struct front *f, size_t *bytes)
{
	*bytes = f->mem_bytes;
	return f->mem;
}

struct front_queue *front_rx_queue(struct front *f, unsigned pair)
{
	return &f->queue[2 * pair];
}

struct front_queue *front_tx_queue(struct front *f, unsigned pair)
{
	return &f->queue[2 * pair + 1];
}

unsigned front_tx_slots(const struct front_queue *q)
{
	return q->slots;
}

static struct front_frame frame_of(const struct front_queue *q, uint16_t id)
{
	return (struct front_frame){
		.bytes = front_buffer(q, id) + FRONT_HEADER_BYTES,
		.len = q->len[id] ? q->len[id] - FRONT_HEADER_BYTES : q->frame_bytes,
		.id = id,
	};
}

struct front_frame front_tx_slot(const struct front_queue *q, unsigned i)
{
	return frame_of(q, (uint16_t)(i * q->step));
}

unsigned front_tx_claim(struct front_queue *q, struct front_frame *frame, unsigned max)
{
	unsigned n;

	ops(q)->reap(q);
	n = min_u32((uint16_t)(q->free_in - q->free_out), max);
	for (unsigned i = 0; i < n; i++) {
		frame[i] = frame_of(q, q->free_id[(uint16_t)(q->free_out + i) & (q->size - 1)]);
		__builtin_prefetch(frame[i].bytes, 1);
	}
	return n;
}

void front_tx_post(struct front_queue *q, const struct front_frame *frame, unsigned n)
{
	if (n == 0)
		return;
	q->free_out = (uint16_t)(q->free_out + n);
	ops(q)->post(q, frame, n);
}

unsigned front_tx_pending(const struct front_queue *q)
{
	return (unsigned)q->slots - (uint16_t)(q->free_in - q->free_out);
}

unsigned front_rx_frames(const struct front_queue *q)
{
	return q->mergeable ? q->slots / front_pieces(q, q->frame_bytes + FRONT_HEADER_BYTES) : q->slots;
}

unsigned front_rx_burst(struct front_queue *q, struct front_frame *frame, unsigned max)
{
	return ops(q)->burst(q, frame, max);
}

void front_rx_return(struct front_queue *q)
{
	ops(q)->giveback(q);
}

static uint32_t append(uint8_t *to, uint32_t at, uint32_t max, const uint8_t *from, uint32_t len)
{
	const uint32_t n = min_u32(len, max - at);

	memcpy(to + at, from, n);
	return at + n;
}

uint32_t front_rx_copy(const struct front_queue *q, const struct front_frame *frame, void *to, uint32_t max)
{
	uint32_t n = append(to, 0, max, frame->bytes, frame->first_len);

	for (unsigned i = 1; i < frame->pieces; i++) {
		uint32_t len;
		const uint8_t *from = ops(q)->piece(q, frame, i, &len);

		n = append(to, n, max, from, len);
	}
	return n;
}

bool front_arm(struct front_queue *q, bool on)
{
	return ops(q)->arm(q, on);
}

int front_call_fd(const struct front_queue *q)
{
	return q->call_fd;
}

void front_call_clear(struct front_queue *q)
{
	uint64_t n;

	if (read(q->call_fd, &n, sizeof(n)) < 0)
		return; /* EAGAIN: there was no call */
}

struct front_stats front_queue_stats(const struct front_queue *q)
{
	return q->stats;
}
