/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that a guest receives. */
#include "guest_rig.h"
#include "port/guest_priv.h"

#define BUFFERS_MAX 1024

/* A buffer that was offered, as a chain of pieces. */
struct buffer {
	unsigned n;
	uint32_t piece[RIG_RING];
	uint64_t gpa[RIG_RING];
};

/* Frames as forwarding hands them over: a head, and a body in pieces. */
struct frames {
	unsigned n;
	struct frame f[FRAME_BATCH], *list[FRAME_BATCH];
	struct wire_piece span[FRAME_BATCH][8];
};

static void add_frame(struct frames *s, const uint8_t *bytes, uint32_t len, uint32_t body_piece)
{
	struct frame *f = &s->f[s->n];
	uint32_t at = min_u32(len, FRAME_HEAD_MAX);

	f->len = len;
	f->head_len = at;
	memcpy(frame_head_begin(f), bytes, at);
	f->body = s->span[s->n];
	for (f->n_body = 0; at < len; f->n_body++) {
		uint32_t part = f->n_body == 7 ? len - at : min_u32(body_piece, len - at);

		s->span[s->n][f->n_body] = (struct wire_piece){bytes + at, part};
		at += part;
	}
	s->list[s->n] = f;
	s->n++;
}

static void send_frames(struct rig *r, struct frames *s)
{
	r->port->ops->tx(r->port, s->list, s->n, RIG_WORKER);
	r->port->ops->tx_publish(r->port, RIG_WORKER);
}

static void send_one(struct rig *r, const uint8_t *bytes, uint32_t len)
{
	static struct frames s;

	s.n = 0;
	add_frame(&s, bytes, len, 1000);
	send_frames(r, &s);
}

/* Post a buffer of @bytes, cut up, with head @head of receiveq @q. */
static void post(struct rig *r, unsigned q, unsigned head, uint32_t bytes, const uint32_t cut[CUTS_MAX], bool indirect,
		 struct buffer *b)
{
	b->n = cut_up(cut, bytes, b->piece, RIG_RING);
	expect(b->n <= RIG_RING, "a buffer of so many pieces");
	rig_offer(r, RECEIVEQ(q), head, b->piece, b->n, VRING_DESC_F_WRITE, indirect, b->gpa);
}

/* Collect what was written to a buffer, @len bytes of it; the rest of it and what is around must be untouched. */
static void collect(const struct rig *r, const struct buffer *b, uint32_t len, uint8_t *to)
{
	for (unsigned i = 0; i < b->n; i++) {
		uint32_t part = min_u32(len, b->piece[i]);

		ram_read(&r->ram, b->gpa[i], to, part);
		assert_true(rig_is_untouched(r, b->gpa[i] - 1, 1));
		assert_true(rig_is_untouched(r, b->gpa[i] + part, b->piece[i] - part + 1));
		to += part;
		len -= part;
	}
	assert_int_equal(len, 0);
}

/* Take the next frame from receiveq @q, whose buffers are @b by head: check its header, and that all its buffers but the
 * last are full; returns its length. */
static uint32_t take_frame(struct rig *r, unsigned q, const struct buffer *b, uint8_t *frame)
{
	static uint8_t bytes[NET_HDR_LONG + RIG_FRAME + 4096];
	uint32_t hdr_bytes = rig_hdr_bytes(r), got = 0;
	struct net_hdr hdr = {.num_buffers = 1};
	struct vring_used_elem e = {0};

	for (unsigned i = 0; i < hdr.num_buffers; i++) {
		uint32_t room = 0;

		assert_true(rig_take(r, RECEIVEQ(q), &e));
		assert_in_range(e.id, 0, BUFFERS_MAX - 1);
		for (unsigned k = 0; k < b[e.id].n; k++)
			room += b[e.id].piece[k];
		collect(r, &b[e.id], e.len, bytes + got);
		got += e.len;
		if (i == 0) {
			assert_true(got >= hdr_bytes);
			memcpy(&hdr, bytes, hdr_bytes);
			assert_true(hdr.num_buffers >= 1);
		}
		if (i + 1u < hdr.num_buffers)
			assert_int_equal(e.len, room);
	}
	/* virtio 1.2, 5.1.6.4.1: nothing was offloaded */
	assert_true(hdr.flags == 0 && hdr.gso_type == 0 && hdr.hdr_len == 0 && hdr.gso_size == 0 &&
		    hdr.csum_start == 0 && hdr.csum_offset == 0);
	memcpy(frame, bytes + hdr_bytes, got - hdr_bytes);
	return got - hdr_bytes;
}

static const uint32_t whole[CUTS_MAX] = {0};

/* ---- byte for byte ---- */

static void frames_fill_buffers_byte_for_byte(void **state)
{
	static const uint32_t len[] = {14, 60, 128, 129, 1514, 9014, 65550};
	static const uint32_t size[] = {12, 13, 26, 65, 128, 1526, 4096, 66000};
	static const uint32_t cuts[][CUTS_MAX] = {
		{0},        {12, 0},      {10, 0}, {1, 1, 1, 1, 1, 1, 1, 0},         {5, 6, 7, 0},
		{11, 2, 0}, {12, 128, 0}, {1, 0},  {64, 64, 64, 64, 64, 64, 64, 64}, {3, 3, 3, 3, 3, 3, 3, 3},
	};
	static uint8_t frame[RIG_FRAME], got[RIG_FRAME];
	static struct buffer b[BUFFERS_MAX];

	(void)state;
	for (unsigned variant = 0; variant < 8; variant++) {
		bool mergeable = variant & 1, indirect = variant & 2;
		struct rig *r = rig_up_of(variant & 4, mergeable, mergeable, 1);
		uint32_t hdr_bytes = rig_hdr_bytes(r);

		for (size_t i = 0; i < ARRAY_SIZE(len) * ARRAY_SIZE(size) * ARRAY_SIZE(cuts); i++) {
			uint32_t bytes = len[i % ARRAY_SIZE(len)], room = size[i / ARRAY_SIZE(len) % ARRAY_SIZE(size)];
			const uint32_t *cut = cuts[i / ARRAY_SIZE(len) / ARRAY_SIZE(size)];
			unsigned need = (hdr_bytes + bytes + room - 1) / room, per = cut_up(cut, room, NULL, 0);

			if (per > RIG_RING || need > RIG_RING || (!indirect && need * per > RIG_RING) ||
			    (!mergeable && need > 1) || need * per > 2048 ||
			    (uint64_t)need * per * 20 + need * room > 3 << 20)
				continue;
			rig_clear_buffers(r);
			for (unsigned k = 0; k < need; k++)
				post(r, 0, indirect ? k : k * per, room, cut, indirect, &b[indirect ? k : k * per]);
			fill(frame, bytes, (unsigned)i);
			send_one(r, frame, bytes);
			if (take_frame(r, 0, b, got) != bytes || memcmp(got, frame, bytes) != 0)
				fail_msg("%u bytes into %u buffers of %u, variant %u", bytes, need, room, variant);
			assert_int_equal(r->vq[RECEIVEQ(0)]->fetched, r->vq[RECEIVEQ(0)]->published);
		}
		assert_int_equal(rig_all_drops(r), 0);
		rig_free(r);
	}
}

static void the_body_is_copied_from_all_its_pieces(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	static uint8_t frame[3000], got[RIG_FRAME];
	static struct buffer b[BUFFERS_MAX];
	struct frames s = {0};

	(void)state;
	fill(frame, sizeof(frame), 7);
	for (unsigned i = 0; i < 20; i++)
		post(r, 0, i, 1000, whole, false, &b[i]);
	for (uint32_t piece = 1; piece < 1000; piece *= 7)
		add_frame(&s, frame, sizeof(frame), piece);
	send_frames(r, &s);
	for (unsigned i = 0; i < s.n; i++) {
		assert_int_equal(take_frame(r, 0, b, got), sizeof(frame));
		assert_memory_equal(got, frame, sizeof(frame));
	}
	assert_int_equal(r->port->counters[RIG_WORKER].tx_frames, s.n);
	assert_int_equal(r->port->counters[RIG_WORKER].tx_bytes, s.n * sizeof(frame));
	rig_free(r);
}

static void a_batch_keeps_its_order(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	static struct buffer b[BUFFERS_MAX];
	static struct frames s;
	uint8_t got[RIG_FRAME];

	(void)state;
	s.n = 0;
	for (unsigned i = 0; i < FRAME_BATCH; i++) {
		uint8_t frame[60] = {(uint8_t)i};

		post(r, 0, i, 1526, whole, false, &b[i]);
		add_frame(&s, frame, sizeof(frame), 1000);
	}
	send_frames(r, &s);
	for (unsigned i = 0; i < FRAME_BATCH; i++) {
		assert_int_equal(take_frame(r, 0, b, got), 60);
		assert_int_equal(got[0], i);
	}
	rig_free(r);
}

/* ---- what does not fit ---- */

/* Buffers that can be fetched still: fetches them all. */
static unsigned buffers_left(struct rig *r)
{
	static struct virtq_chain chain[RIG_RING];
	static struct gspan span[VIRTQ_CHAIN_SPANS];
	unsigned n = 0;

	for (;; n++) {
		struct virtq_batch b = {.chain = chain, .max = 1, .span = span, .max_spans = VIRTQ_CHAIN_SPANS};

		if (!virtq_fetch(r->vq[RECEIVEQ(0)], VIRTQ_WRITABLE, &b))
			return n;
	}
}

static void what_does_not_fit_is_dropped_and_costs_no_buffer(void **state)
{
	/* Into @n buffers of @size goes a frame of @len, or it does not; then one of 60 bytes, which needs one buffer. */
	static const struct {
		bool mergeable;
		unsigned n;
		uint32_t size, len;
		enum drop_reason reason; /* DROP_N: it fits */
	} row[] = {
		{false, 1, 1524, 1514, DROP_N},
		{false, 1, 1523, 1514, DROP_TOO_BIG},
		{false, 9, 1523, 1514, DROP_TOO_BIG}, /* more buffers do not help */
		{false, 0, 1524, 60, DROP_QUEUE_FULL},
		{false, 1, 70, 60, DROP_N},
		{true, 1, 1526, 1514, DROP_N},
		{true, 1, 1525, 1514, DROP_QUEUE_FULL},
		{true, 2, 1525, 1514, DROP_N},
		{true, 5, 300, 1500, DROP_QUEUE_FULL},
		{true, 6, 300, 1500, DROP_N},
		{true, 0, 1526, 60, DROP_QUEUE_FULL},
		{true, 200, 300, 65550, DROP_QUEUE_FULL},
	};
	static uint8_t frame[RIG_FRAME], got[RIG_FRAME];
	static struct buffer b[BUFFERS_MAX];

	(void)state;
	for (size_t turn = 0; turn < 2 * ARRAY_SIZE(row); turn++) {
		size_t i = turn / 2;
		struct rig *r = rig_up_of(turn % 2, row[i].mergeable, row[i].mergeable, 1);
		bool dropped = row[i].reason != DROP_N;

		for (unsigned k = 0; k < row[i].n; k++)
			post(r, 0, k, row[i].size, whole, false, &b[k]);
		fill(frame, row[i].len, 3);
		send_one(r, frame, row[i].len);
		if (rig_all_drops(r) != dropped || (dropped && rig_drops(r, row[i].reason) != 1) ||
		    r->port->counters[RIG_WORKER].tx_frames != !dropped)
			fail_msg("row %zu: %u drops", i, (unsigned)rig_all_drops(r));
		assert_int_equal(virtq_fault_get(r->vq[RECEIVEQ(0)]), VIRTQ_FAULT_NONE);
		if (dropped && row[i].n) {
			/* The buffers are all there: nothing of the long frame shows, and the short one gets the first. */
			rig_clear_buffers(r);
			fill(frame, 60, 4);
			send_one(r, frame, 60);
			assert_int_equal(take_frame(r, 0, b, got), 60);
			assert_memory_equal(got, frame, 60);
			assert_int_equal(buffers_left(r), row[i].n - 1);
		}
		rig_free(r);
	}
}

static void a_buffer_without_room_for_the_header_breaks_the_ring(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		bool mergeable = variant & 1;
		struct rig *r = rig_up_of(variant & 2, mergeable, mergeable, 1);
		static struct buffer b[BUFFERS_MAX];
		uint8_t frame[60] = {0};
		struct vring_used_elem e = {0};
		static struct frames s;

		post(r, 0, 0, mergeable ? 11 : 9, whole, false, &b[0]);
		post(r, 0, 1, 1526, whole, false, &b[1]);
		s.n = 0;
		for (int i = 0; i < 3; i++)
			add_frame(&s, frame, sizeof(frame), 1000);
		send_frames(r, &s);
		assert_int_equal(rig_drops(r, DROP_BROKEN), 3);
		assert_int_equal(rig_all_drops(r), 3);
		assert_false(rig_take(r, RECEIVEQ(0), &e));
		assert_true(r->port->attention);
		r->port->ops->attend(r->port);
		assert_string_equal(asked.reason,
				    "receiveq 0: a buffer is empty or too short for the virtio-net header");
		rig_free(r);
	}
}

static void a_malformed_ring_shows_only_frames_that_are_whole(void **state)
{
	static uint8_t frame[1514], got[RIG_FRAME];
	static struct buffer b[BUFFERS_MAX];
	static struct frames s;

	(void)state;
	fill(frame, sizeof(frame), 1);
	for (int packed = 0; packed < 2; packed++) {
		struct rig *r = rig_up_of(packed, true, true, 1);
		struct vring_used_elem e = {0};

		post(r, 0, 0, 1526, whole, false, &b[0]);
		post(r, 0, 1, 500, whole, false, &b[1]);
		rig_offer_buffer(r, RECEIVEQ(0), 2, RAM_GPA, 2000, 0); /* not writable */
		s.n = 0;
		for (int i = 0; i < 4; i++)
			add_frame(&s, frame, sizeof(frame), 1000);
		send_frames(r, &s);
		assert_int_equal(rig_drops(r, DROP_BROKEN), 3);
		assert_int_equal(take_frame(r, 0, b, got), sizeof(frame));
		assert_memory_equal(got, frame, sizeof(frame));
		assert_false(rig_take(r, RECEIVEQ(0), &e));
		assert_true(r->port->attention);
		rig_free(r);
	}
}

/* Looking up pieces costs more than copying: a guest must not make others pay for buffers of single bytes. */
static void a_frame_is_not_spread_over_any_number_of_pieces(void **state)
{
	static const struct {
		uint32_t len;
		bool fits;
	} row[] = {{1514, true}, {2020, true}, {2280, true}, {2290, false}, {60000, false}, {60, true}};
	static const uint32_t bytes[CUTS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1};
	static uint8_t frame[RIG_FRAME], got[RIG_FRAME];
	static struct buffer b[BUFFERS_MAX];

	(void)state;
	for (size_t turn = 0; turn < 2 * ARRAY_SIZE(row); turn++) {
		struct rig *r = rig_up_of(turn % 2, true, true, 1);
		size_t i = turn / 2;

		for (unsigned k = 0; k < RIG_RING; k++)
			post(r, 0, k, 255, bytes, true, &b[k]);
		fill(frame, row[i].len, 9);
		send_one(r, frame, row[i].len);
		assert_int_equal(rig_drops(r, DROP_QUEUE_FULL), !row[i].fits);
		if (row[i].fits) {
			assert_int_equal(take_frame(r, 0, b, got), row[i].len);
			assert_memory_equal(got, frame, row[i].len);
		} else {
			assert_int_equal(buffers_left(r), RIG_RING);
		}
		assert_int_equal(virtq_fault_get(r->vq[RECEIVEQ(0)]), VIRTQ_FAULT_NONE);
		rig_free(r);
	}
}

/* ---- which queue ---- */

/* An IPv4 and UDP frame of flow @i, there or back. */
static void flow_frame(uint8_t frame[60], unsigned i, bool back)
{
	uint8_t a[6] = {10, 0, 0, 1, (uint8_t)(i >> 8), (uint8_t)i}, b[6] = {10, 0, 0, 2, 0, 53};

	memset(frame, 0, 60);
	memcpy(frame, back ? "\x52\x54\0\0\0\1" : "\x52\x54\0\0\0\2", 6);
	memcpy(frame + 6, back ? "\x52\x54\0\0\0\2" : "\x52\x54\0\0\0\1", 6);
	be16_put(frame + 12, ETH_P_IP4);
	frame[14] = 0x45;
	be16_put(frame + 16, 46);
	frame[23] = 17;
	memcpy(frame + 26, back ? b : a, 4);
	memcpy(frame + 30, back ? a : b, 4);
	memcpy(frame + 34, back ? b + 4 : a + 4, 2);
	memcpy(frame + 36, back ? a + 4 : b + 4, 2);
	be16_put(frame + 38, 26);
}

/* Which queue did the last frame go to? */
static unsigned queue_of_last(struct rig *r)
{
	unsigned found = RIG_PAIRS;
	struct vring_used_elem e = {0};

	for (unsigned k = 0; k < RIG_PAIRS; k++)
		while (driver_take(&r->d[RECEIVEQ(k)], &e)) {
			assert_int_equal(found, RIG_PAIRS);
			found = k;
		}
	assert_in_range(found, 0, RIG_PAIRS - 1);
	return found;
}

static void post_everywhere(struct rig *r)
{
	static struct buffer b[BUFFERS_MAX];

	for (unsigned k = 0; k < RIG_PAIRS; k++)
		while ((uint16_t)(r->d[RECEIVEQ(k)].next - r->d[RECEIVEQ(k)].taken) < RIG_RING / 2)
			post(r, k, r->d[RECEIVEQ(k)].next % RIG_RING, 128, whole, false, &b[0]);
}

static void a_flow_stays_in_its_queue_and_both_directions_agree(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);
	unsigned in_queue[RIG_PAIRS] = {0};
	uint8_t frame[60];

	(void)state;
	for (unsigned i = 0; i < 400; i++) {
		unsigned k;

		post_everywhere(r);
		flow_frame(frame, i, false);
		send_one(r, frame, sizeof(frame));
		k = queue_of_last(r);
		in_queue[k]++;
		frame[59] = (uint8_t)i; /* another frame of the same flow */
		send_one(r, frame, sizeof(frame));
		assert_int_equal(queue_of_last(r), k);
		flow_frame(frame, i, true);
		send_one(r, frame, sizeof(frame));
		assert_int_equal(queue_of_last(r), k);
	}
	for (unsigned k = 0; k < RIG_PAIRS; k++)
		assert_in_range(in_queue[k], 50, 150); /* 100 each on average */
	assert_int_equal(rig_all_drops(r), 0);
	rig_free(r);
}

static void a_tag_does_not_change_the_queue(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);
	static struct frames s;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		uint8_t frame[60];
		unsigned k;

		post_everywhere(r);
		flow_frame(frame, i, false);
		send_one(r, frame, sizeof(frame));
		k = queue_of_last(r);
		s.n = 0;
		add_frame(&s, frame, sizeof(frame), 1000);
		frame_push_tag(&s.f[0], 7);
		send_frames(r, &s);
		assert_int_equal(queue_of_last(r), k);
	}
	rig_free(r);
}

static void only_queues_that_run_and_are_enabled_get_frames(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);
	bool used[RIG_PAIRS] = {false};
	uint8_t frame[60];

	(void)state;
	rig_halt(r, RECEIVEQ(1));
	guest_ring_enable(r->guest, RECEIVEQ(2), false);
	for (unsigned i = 0; i < 100; i++) {
		flow_frame(frame, i, false);
		post_everywhere(r);
		send_one(r, frame, sizeof(frame));
		used[queue_of_last(r)] = true;
	}
	assert_true(used[0] && !used[1] && !used[2] && used[3]);
	rig_halt(r, RECEIVEQ(0));
	assert_true(r->port->up);
	rig_halt(r, RECEIVEQ(3));
	assert_false(r->port->up);
	send_one(r, frame, sizeof(frame));
	assert_int_equal(rig_drops(r, DROP_PORT_DOWN), 1);
	guest_ring_enable(r->guest, RECEIVEQ(2), true);
	assert_true(r->port->up);
	send_one(r, frame, sizeof(frame));
	assert_int_equal(queue_of_last(r), 2);
	assert_int_equal(rig_all_drops(r), 1);
	rig_free(r);
}

/* ---- telling the guest, and the migration ---- */

static void the_guest_is_interrupted_once_for_a_batch_and_for_its_queues_only(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);
	static struct frames s;
	int call[RIG_PAIRS];
	uint64_t n = 0;
	unsigned hit;

	(void)state;
	post_everywhere(r);
	for (unsigned k = 0; k < RIG_PAIRS; k++) {
		call[k] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		virtq_set_call(r->vq[RECEIVEQ(k)], call[k]);
	}
	s.n = 0;
	for (unsigned i = 0; i < 10; i++) {
		uint8_t frame[60];

		flow_frame(frame, 5, i % 2);
		add_frame(&s, frame, sizeof(frame), 1000);
	}
	send_frames(r, &s);
	for (unsigned k = 0; k < RIG_PAIRS; k++)
		assert_int_equal(read(call[k], &n, sizeof(n)), -1); /* not before the flush */
	r->port->ops->tx_flush(r->port, RIG_WORKER);
	r->port->ops->tx_flush(r->port, RIG_WORKER);
	for (hit = 0; hit < RIG_PAIRS && read(call[hit], &n, sizeof(n)) < 0; hit++)
		;
	assert_in_range(hit, 0, RIG_PAIRS - 1);
	assert_int_equal(n, 1);
	for (unsigned k = 0; k < RIG_PAIRS; k++) {
		assert_int_equal(read(call[k], &n, sizeof(n)), -1);
		close(call[k]);
	}
	rig_free(r);
}

/* Its frames were published before it left, and nobody would tell the guest of them after. */
static void a_queue_that_is_disabled_is_flushed_first(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);
	int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint8_t frame[60];
	uint64_t n = 0;
	unsigned k;

	(void)state;
	post_everywhere(r);
	flow_frame(frame, 1, false);
	send_one(r, frame, sizeof(frame));
	k = queue_of_last(r);
	virtq_set_call(r->vq[RECEIVEQ(k)], call);
	guest_ring_enable(r->guest, RECEIVEQ(k), false);
	r->port->ops->tx_flush(r->port, RIG_WORKER);
	assert_int_equal(read(call, &n, sizeof(n)), sizeof(n));
	close(call);
	rig_free(r);
}

static void check_log(bool packed)
{
	struct rig *r = rig_up_of(packed, true, true, 1);
	const uint64_t log_bytes = (RAM_GPA + 2 * RIG_PART) / 4096 / 8;
	int fd = memfd_create("log", MFD_CLOEXEC);
	static const uint32_t cut[CUTS_MAX] = {12, 2000, 0};
	static uint8_t frame[9014], before[2 * RIG_PART];
	struct buffer b[4];
	uint8_t *log;
	struct err e;

	fill(frame, sizeof(frame), 1);
	for (unsigned i = 0; i < 4; i++) {
		r->ram.used_bytes += 5000;
		post(r, 0, 8 * i, 3500, cut, false, &b[i]);
	}
	rig_halt(r, RECEIVEQ(0));
	expect(ftruncate(fd, (off_t)log_bytes) == 0, "log");
	assert_int_equal(gmem_log_set(r->ram.gmem, fd, log_bytes, 0, &e), 0);
	r->ram.gmem->log.on = true;
	assert_int_equal(rig_run(r, RECEIVEQ(0), -1), 0);
	r->vq[RECEIVEQ(0)]->log_used = true;
	if (!packed)
		r->vq[RECEIVEQ(0)]->used_log.v = r->d[RECEIVEQ(0)].used_gpa;
	log = mmap(NULL, log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(log != MAP_FAILED, "log");
	memset(log, 0, log_bytes);

	ram_read(&r->ram, RAM_GPA, before, sizeof(before));
	send_one(r, frame, sizeof(frame));
	assert_int_equal(rig_all_drops(r), 0);
	for (uint64_t page = 0; page < log_bytes * 8; page++) {
		bool marked = log[page / 8] >> page % 8 & 1, changed = false;

		if (page * 4096 >= RAM_GPA)
			changed = memcmp(ram_at(&r->ram, page * 4096), before + (page * 4096 - RAM_GPA), 4096) != 0;
		if (marked != changed)
			fail_msg("page %u is %schanged and %smarked", (unsigned)(page - RAM_GPA / 4096),
				 changed ? "" : "not ", marked ? "" : "not ");
	}
	munmap(log, log_bytes);
	close(fd);
	rig_free(r);
}

static void everything_written_is_in_the_migrations_log(void **state)
{
	(void)state;
	check_log(false);
	check_log(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_fill_buffers_byte_for_byte),
		cmocka_unit_test(the_body_is_copied_from_all_its_pieces),
		cmocka_unit_test(a_batch_keeps_its_order),
		cmocka_unit_test(what_does_not_fit_is_dropped_and_costs_no_buffer),
		cmocka_unit_test(a_buffer_without_room_for_the_header_breaks_the_ring),
		cmocka_unit_test(a_malformed_ring_shows_only_frames_that_are_whole),
		cmocka_unit_test(a_frame_is_not_spread_over_any_number_of_pieces),
		cmocka_unit_test(a_flow_stays_in_its_queue_and_both_directions_agree),
		cmocka_unit_test(a_tag_does_not_change_the_queue),
		cmocka_unit_test(only_queues_that_run_and_are_enabled_get_frames),
		cmocka_unit_test(the_guest_is_interrupted_once_for_a_batch_and_for_its_queues_only),
		cmocka_unit_test(a_queue_that_is_disabled_is_flushed_first),
		cmocka_unit_test(everything_written_is_in_the_migrations_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
