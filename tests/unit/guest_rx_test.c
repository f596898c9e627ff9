/* SPDX-License-Identifier: Apache-2.0 */
/* Frames that a guest sends. */
#include "guest_rig.h"
#include "port/guest_priv.h"

/* Offer a frame with its virtio-net header, cut up. Returns false if that takes more pieces than a ring can hold. */
static bool offer_frame(struct rig *r, unsigned q, unsigned head, const struct net_hdr *hdr, const uint8_t *frame,
			uint32_t len, const uint32_t cut[CUTS_MAX], bool indirect)
{
	static uint8_t bytes[NET_HDR_LONG + RIG_FRAME + 8];
	uint32_t hdr_bytes = rig_hdr_bytes(r), piece[RIG_RING], done = 0;
	uint64_t gpa[RIG_RING];
	unsigned n = cut_up(cut, hdr_bytes + len, piece, RIG_RING);

	if (n > RIG_RING || len > RIG_FRAME)
		return false;
	memcpy(bytes, hdr, hdr_bytes);
	memcpy(bytes + hdr_bytes, frame, len);
	rig_offer(r, TRANSMITQ(q), head, piece, n, 0, indirect, gpa);
	for (unsigned i = 0; i < n; done += piece[i++])
		ram_write(&r->ram, gpa[i], bytes + done, piece[i]);
	return true;
}

static unsigned receive(struct rig *r, unsigned q)
{
	r->batch.n = r->batch.n_spans = 0;
	return r->port->ops->rx(r->port, q, &r->batch, RIG_WORKER);
}

static bool frame_is(const struct frame *f, const uint8_t *bytes, uint32_t len)
{
	uint32_t at = f->head_len;

	if (f->len != len || f->head_len != min_u32(len, FRAME_HEAD_MAX) || memcmp(f->data, bytes, f->head_len) != 0)
		return false;
	for (unsigned i = 0; i < f->n_body; at += f->body[i++].len)
		if (f->body[i].len == 0 || f->body[i].len > len - at ||
		    memcmp(f->body[i].p, bytes + at, f->body[i].len) != 0)
			return false;
	return at == len;
}

static const uint32_t cuts[][CUTS_MAX] = {
	{0},                /* all in one piece */
	{10, 0},            /* the short header, and the frame */
	{12, 0},            /* the long header, and the frame */
	{12, 14, 0},        /* and the Ethernet header */
	{1, 0},             /* the header in two pieces */
	{1, 1, 1, 1, 1, 0}, /* in many */
	{11, 1, 0},         /* between short and long */
	{11, 2, 0},         /* the header's last byte with the frame's first */
	{9, 20, 100, 0},    /* pieces that end nowhere in particular */
	{139, 1, 1, 0},     /* near the end of the head (12 + 128) */
	{140, 0},
	{141, 0},
	{12, 128, 0},
	{1, 1, 1, 1, 1, 1, 1, 1}, /* bytes */
	{7, 7, 7, 7, 7, 7, 7, 7},
	{64, 64, 64, 64, 64, 64, 64, 64},
	{12, 1448, 4096, 4096, 4096, 4096, 4096, 4096},
};

static void frames_arrive_byte_for_byte_however_they_are_cut_up(void **state)
{
	static const uint32_t len[] = {14, 15, 60, 127, 128, 129, 130, 1514, 9014, 65550};
	static uint8_t frame[RIG_FRAME];
	const struct net_hdr hdr = {0};

	(void)state;
	for (unsigned variant = 0; variant < 8; variant++) {
		struct rig *r = rig_up_of(variant & 4, false, variant & 1, 1);
		bool indirect = variant & 2;

		for (size_t i = 0; i < ARRAY_SIZE(len); i++)
			for (size_t k = 0; k < ARRAY_SIZE(cuts); k++) {
				struct vring_used_elem e = {0};

				rig_clear_buffers(r);
				fill(frame, len[i], (unsigned)(i + k));
				if (!offer_frame(r, 0, 0, &hdr, frame, len[i], cuts[k], indirect))
					continue;
				assert_int_equal(receive(r, 0), 1);
				assert_int_equal(r->batch.n, 1);
				if (!frame_is(&r->batch.f[0], frame, len[i]))
					fail_msg("%u bytes, cut %zu, variant %u", len[i], k, variant);
				assert_false(rig_take(r, TRANSMITQ(0), &e)); /* still lent */
				r->port->ops->rx_done(r->port, 0);
				assert_true(rig_take(r, TRANSMITQ(0), &e));
				assert_int_equal(e.id, 0);
				assert_int_equal(e.len, 0);
			}
		assert_int_equal(rig_all_drops(r), 0);
		rig_free(r);
	}
}

static void the_head_is_a_copy_and_the_body_is_not(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	const struct net_hdr hdr = {0};
	uint8_t frame[1514], changed[1514];

	(void)state;
	fill(frame, sizeof(frame), 1);
	fill(changed, sizeof(changed), 2);
	assert_true(offer_frame(r, 0, 0, &hdr, frame, sizeof(frame), cuts[2], false));
	assert_int_equal(receive(r, 0), 1);
	ram_write(&r->ram, r->d[TRANSMITQ(0)].desc[1].addr, changed, sizeof(changed));
	assert_memory_equal(r->batch.f[0].data, frame, FRAME_HEAD_MAX);
	assert_int_equal(r->batch.f[0].n_body, 1);
	assert_memory_equal(r->batch.f[0].body[0].p, changed + FRAME_HEAD_MAX, sizeof(changed) - FRAME_HEAD_MAX);
	r->port->ops->rx_done(r->port, 0);
	rig_free(r);
}

static void what_is_no_frame_is_dropped_under_its_name(void **state)
{
	static const struct {
		uint32_t len;
		struct net_hdr hdr;
		bool disabled;
		enum drop_reason reason; /* DROP_N: it is a frame */
		const char *why;
	} row[] = {
		{14, {0}, false, DROP_N, "the shortest frame"},
		{13, {0}, false, DROP_TOO_SHORT, "a byte less"},
		{0, {0}, false, DROP_TOO_SHORT, "nothing but a header"},
		{FRAME_BYTES_MAX, {0}, false, DROP_N, "the longest frame"},
		{FRAME_BYTES_MAX + 1, {0}, false, DROP_TOO_BIG, "a byte more"},
		{60, {.flags = 1}, false, DROP_BAD_OFFLOAD, "a checksum to complete"},
		{60, {.gso_type = 1}, false, DROP_BAD_OFFLOAD, "segmentation"},
		{60, {.gso_type = 0x80}, false, DROP_BAD_OFFLOAD, "segmentation with ECN"},
		{60, {.flags = 0xfe}, false, DROP_N, "flags that mean nothing to us (virtio 1.2, 5.1.6.2.2)"},
		{60,
		 {.hdr_len = 9, .gso_size = 9, .csum_start = 9, .csum_offset = 9, .num_buffers = 9},
		 false,
		 DROP_N,
		 "fields that mean nothing without flags"},
		{60, {0}, true, DROP_QUEUE_DISABLED, "a disabled queue"},
		{13, {.flags = 1}, true, DROP_QUEUE_DISABLED, "a disabled queue, whatever else is wrong"},
	};
	static uint8_t frame[RIG_FRAME];

	(void)state;
	for (size_t turn = 0; turn < 2 * ARRAY_SIZE(row); turn++) {
		struct rig *r = rig_up_of(turn % 2, true, true, 1);
		size_t i = turn / 2;
		struct vring_used_elem e = {0};

		guest_ring_enable(r->guest, TRANSMITQ(0), !row[i].disabled);
		assert_true(offer_frame(r, 0, 5, &row[i].hdr, frame, row[i].len, cuts[0], false));
		assert_int_equal(receive(r, 0), 1); /* taken, dropped or not */
		if (r->batch.n != (row[i].reason == DROP_N) ||
		    (row[i].reason != DROP_N && rig_drops(r, row[i].reason) != 1) ||
		    rig_all_drops(r) != (row[i].reason != DROP_N))
			fail_msg("%s: %u frames, %u drops", row[i].why, r->batch.n, (unsigned)rig_all_drops(r));
		assert_int_equal(r->port->counters[RIG_WORKER].rx_frames, 1);
		assert_int_equal(r->port->counters[RIG_WORKER].rx_bytes, row[i].len);
		r->port->ops->rx_done(r->port, 0);
		assert_true(rig_take(r, TRANSMITQ(0), &e));
		assert_int_equal(e.id, 5);
		assert_false(r->port->attention);
		rig_free(r);
	}
}

static void a_chain_without_a_whole_header_breaks_the_ring(void **state)
{
	(void)state;
	for (int long_header = 0; long_header < 2; long_header++)
		for (int missing = 0; missing < 2; missing++) {
			struct rig *r = rig_up(false, long_header, 1);
			uint32_t piece = (long_header ? NET_HDR_LONG : NET_HDR_SHORT) - missing;
			uint64_t gpa;

			rig_offer(r, TRANSMITQ(0), 0, &piece, 1, 0, false, &gpa);
			memset(ram_at(&r->ram, gpa), 0, piece);
			assert_int_equal(receive(r, 0), 1 - missing);
			assert_int_equal(virtq_fault_get(r->vq[TRANSMITQ(0)]),
					 missing ? VIRTQ_FAULT_EMPTY : VIRTQ_FAULT_NONE);
			assert_int_equal(r->port->attention, missing);
			rig_free(r);
		}
}

static void a_malformed_ring_gives_what_came_before_and_asks_for_attention(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	const struct net_hdr hdr = {0};
	uint8_t frame[60] = {0};
	struct vring_used_elem e = {0};

	(void)state;
	assert_true(offer_frame(r, 0, 0, &hdr, frame, sizeof(frame), cuts[0], false));
	driver_offer_buffer(&r->d[TRANSMITQ(0)], 1, RAM_GPA, 100, VRING_DESC_F_WRITE);
	assert_true(offer_frame(r, 0, 2, &hdr, frame, sizeof(frame), cuts[0], false));
	assert_int_equal(receive(r, 0), 1);
	assert_true(r->port->attention);
	r->port->ops->rx_done(r->port, 0);
	assert_true(rig_take(r, TRANSMITQ(0), &e));
	assert_false(rig_take(r, TRANSMITQ(0), &e));
	assert_int_equal(receive(r, 0), 0);
	assert_false(r->port->ops->rx_sleep(r->port, 0)); /* nothing to stay awake for */
	r->port->ops->attend(r->port);
	assert_int_equal(asked.fails, 1);
	assert_string_equal(asked.reason, "transmitq 0: a buffer has the wrong direction");
	rig_free(r);
}

static void batches_are_bounded_in_frames(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	const struct net_hdr hdr = {0};
	unsigned left = 200, next = 0;

	(void)state;
	for (unsigned i = 0; i < left; i++) {
		uint8_t frame[60] = {(uint8_t)i};

		assert_true(offer_frame(r, 0, i, &hdr, frame, sizeof(frame), cuts[0], false));
	}
	for (unsigned want = FRAME_BATCH; left; left -= want) {
		want = min_u32(FRAME_BATCH, left);
		assert_int_equal(receive(r, 0), want);
		assert_int_equal(r->batch.n, want);
		for (unsigned i = 0; i < want; i++)
			assert_int_equal(r->batch.f[i].data[0], next++);
		r->port->ops->rx_done(r->port, 0);
	}
	assert_int_equal(receive(r, 0), 0);
	assert_int_equal(r->d[TRANSMITQ(0)].used->idx, (uint16_t)(r->d[TRANSMITQ(0)].taken + 200));
	rig_free(r);
}

static void batches_are_bounded_in_pieces(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	const struct net_hdr hdr = {0};
	static uint8_t frame[240];
	unsigned got = 0, rounds = 0;

	(void)state;
	/* 252 pieces each, of which the head takes 128 + 12 and 112 are left for the body */
	for (unsigned i = 0; i < 50; i++) {
		fill(frame, sizeof(frame), i);
		assert_true(offer_frame(r, 0, i, &hdr, frame, sizeof(frame), cuts[13], true));
	}
	for (; got < 50; rounds++) {
		unsigned n = receive(r, 0);

		assert_in_range(n, 1, 50 - got);
		assert_in_range(r->batch.n_spans, 1, ARRAY_SIZE(r->batch.spans));
		for (unsigned i = 0; i < n; i++) {
			fill(frame, sizeof(frame), got++);
			assert_true(frame_is(&r->batch.f[i], frame, sizeof(frame)));
		}
		r->port->ops->rx_done(r->port, 0);
	}
	assert_true(rounds > 1);
	rig_free(r);
}

static void a_queue_sleeps_when_it_is_empty_and_wakes_by_notification(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	struct driver *d = &r->d[TRANSMITQ(0)];
	const struct net_hdr hdr = {0};
	uint8_t frame[60] = {0};
	uint16_t old = d->next;

	(void)state;
	assert_false(driver_must_kick(d, old, false)); /* polled from the start */
	assert_false(r->port->ops->rx_sleep(r->port, 0));
	assert_true(offer_frame(r, 0, 0, &hdr, frame, sizeof(frame), cuts[0], false));
	assert_true(driver_must_kick(d, old, false));
	r->port->ops->rx_wake(r->port, 0);
	assert_false(driver_must_kick(d, old, false));
	assert_true(r->port->ops->rx_sleep(r->port, 0)); /* no: there is a frame */
	assert_false(driver_must_kick(d, old, false));   /* and polls on, so nobody must tell it */
	assert_int_equal(receive(r, 0), 1);
	r->port->ops->rx_done(r->port, 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_byte_for_byte_however_they_are_cut_up),
		cmocka_unit_test(the_head_is_a_copy_and_the_body_is_not),
		cmocka_unit_test(what_is_no_frame_is_dropped_under_its_name),
		cmocka_unit_test(a_chain_without_a_whole_header_breaks_the_ring),
		cmocka_unit_test(a_malformed_ring_gives_what_came_before_and_asks_for_attention),
		cmocka_unit_test(batches_are_bounded_in_frames),
		cmocka_unit_test(batches_are_bounded_in_pieces),
		cmocka_unit_test(a_queue_sleeps_when_it_is_empty_and_wakes_by_notification),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
