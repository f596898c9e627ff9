/* SPDX-License-Identifier: Apache-2.0 */
/* Frames with work left undone, from a guest and to one. */
#include "guest_rig.h"
#include "port/guest_priv.h"
#include "wire/csum.h"
#include "wire_frames.h"

#define IP      14
#define TCP_OFF (IP + 20)
#define HEAD    (TCP_OFF + 20)
#define TCP     6
#define UDP     17
#define BYTES   3000 /* of payload */
#define PAD     9    /* Ethernet padding, which no checksum covers */

/* A TCP or UDP packet of @n bytes of payload whose checksum is a seed, and @pad bytes behind it. Returns its length. */
static uint32_t make_packet(uint8_t *p, uint8_t proto, uint32_t n, uint32_t pad)
{
	struct csum c;

	rnd_fill(p, HEAD + n + pad);
	memcpy(p + 12, "\x08\0", 2);
	memcpy(p + IP, "\x45\0\0\0\0\1\x40\0\x40\0\0\0\x0a\0\0\1\x0a\0\0\2", 20);
	be16_put(p + IP + 2, (uint16_t)(HEAD - IP + n));
	p[IP + 9] = proto;
	csum_ip4_set(p + IP, 20);
	if (proto == TCP) {
		p[TCP_OFF + 12] = 5 << 4;
		p[TCP_OFF + 13] = 0x10;
	} else {
		be16_put(p + TCP_OFF + 4, (uint16_t)(20 + n));
	}
	c = csum_pseudo4(p + IP + 12, p + IP + 16, proto, 20 + n);
	be16_put(p + TCP_OFF + (proto == TCP ? 16 : 6), csum_seed(&c));
	return HEAD + n + pad;
}

static struct rig *rig_with(uint32_t may_leave, uint32_t takes, bool mrg_rxbuf)
{
	struct rig *r = rig_up(mrg_rxbuf, true, 1);

	for (unsigned i = 0; i < 2; i++)
		rig_halt(r, i);
	guest_features(r->guest,
		       &(struct guest_agreed){
			       .mrg_rxbuf = mrg_rxbuf, .long_header = true, .may_leave = may_leave, .takes = takes});
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(rig_run(r, i, -1), 0);
		guest_ring_enable(r->guest, i, true);
	}
	return r;
}

/* Send @p to the guest, whose buffers are of @size bytes, and collect header and frame from them. @tci: of a tag that is
 * pushed before it; 0: none. Returns its length. */
static uint32_t deliver_tagged(struct rig *r, const uint8_t *p, uint32_t len, struct frame_offload off, uint32_t size,
			       uint16_t tci, struct net_hdr *hdr, uint8_t *got)
{
	static struct frame f;
	struct frame *list[] = {&f};
	static uint8_t bytes[RIG_FRAME];
	struct wire_piece body[2] = {{p + FRAME_HEAD_MAX, 501}, {p + FRAME_HEAD_MAX + 501, len - FRAME_HEAD_MAX - 501}};
	struct vring_used_elem e;
	uint64_t gpa[8];
	uint32_t n = 0;

	for (unsigned i = 0; i < 8; i++)
		rig_offer(r, RECEIVEQ(0), i, &size, 1, VRING_DESC_F_WRITE, false, &gpa[i]);
	memcpy(frame_head_begin(&f), p, FRAME_HEAD_MAX);
	f.len = len;
	f.head_len = FRAME_HEAD_MAX;
	f.body = body;
	f.n_body = 2;
	f.off = off;
	if (tci)
		frame_push_tag(&f, tci);
	r->port->ops->tx(r->port, list, 1, RIG_WORKER);
	r->port->ops->tx_publish(r->port, RIG_WORKER);
	while (rig_take(r, RECEIVEQ(0), &e)) {
		ram_read(&r->ram, gpa[e.id], bytes + n, e.len);
		n += e.len;
	}
	assert_int_equal(n, NET_HDR_LONG + f.len);
	memcpy(hdr, bytes, NET_HDR_LONG);
	memcpy(got, bytes + NET_HDR_LONG, f.len);
	return f.len;
}

static uint32_t deliver(struct rig *r, const uint8_t *p, uint32_t len, struct frame_offload off, uint32_t size,
			struct net_hdr *hdr, uint8_t *got)
{
	return deliver_tagged(r, p, len, off, size, 0, hdr, got);
}

/* Whatever the buffers are, who does not take frames without a checksum gets it, and the frame is else the same. */
static void a_guest_gets_whole_checksums_if_it_wants_them(void **state)
{
	static const uint32_t size[] = {4096, 1526, 600};
	static uint8_t p[RIG_FRAME], got[RIG_FRAME];

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		uint8_t proto = i % 2 ? UDP : TCP;
		bool known = i / 2 % 2; /* where the payload begins, and that it is all there is */
		uint32_t pad = known ? 0 : PAD, at = TCP_OFF + (proto == TCP ? 16 : 6);
		struct rig *r = rig_with(OFFLOAD_ALL, 0, true);
		struct frame_offload off = {.flags = NET_HDR_F_NEEDS_CSUM,
					    .hdr_len = known ? HEAD : 0,
					    .csum_start = TCP_OFF,
					    .csum_offset = (uint16_t)(at - TCP_OFF)};
		uint32_t len = make_packet(p, proto, BYTES, pad);
		struct net_hdr hdr;

		assert_int_equal(r->port->takes, OFFLOAD_CSUM); /* the port does it */
		deliver(r, p, len, off, size[i / 4], &hdr, got);
		assert_int_equal(hdr.flags, 0);
		assert_int_equal(hdr.gso_type, 0);
		assert_int_equal(hdr.csum_start, 0);
		assert_int_equal(slow_l4_sum(4, got + IP, proto, got + TCP_OFF, HEAD - TCP_OFF + BYTES), 0xffff);
		memcpy(got + at, p + at, 2);
		assert_memory_equal(got, p, len);
		rig_free(r);
	}
}

/* A trunk puts its tag before the two that a frame may have had from its sender, whose checksum was checked without. */
static void a_third_tag_does_not_hide_a_checksum(void **state)
{
	static const uint8_t tags[] = {0x88, 0xa8, 0, 7, 0x81, 0, 0, 8};
	static uint8_t p[RIG_FRAME], got[RIG_FRAME];
	static const uint32_t size[] = {4096, 600};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(size); i++) {
		struct rig *r = rig_with(0, 0, true);
		uint32_t len = make_packet(p, TCP, BYTES, 0) + sizeof(tags);
		struct net_hdr hdr;

		memmove(p + 12 + sizeof(tags), p + 12, len - 12 - sizeof(tags));
		memcpy(p + 12, tags, sizeof(tags));
		deliver_tagged(r, p, len,
			       (struct frame_offload){.flags = NET_HDR_F_NEEDS_CSUM,
						      .csum_start = TCP_OFF + sizeof(tags),
						      .csum_offset = 16},
			       size[i], 100, &hdr, got);
		assert_int_equal(hdr.flags, 0);
		assert_memory_equal(got, p, 12);
		assert_memory_equal(got + 12, "\x81\0\0\x64\x88\xa8\0\x07\x81\0\0\x08\x08\0", 14);
		memmove(got, got + 12, len - 8); /* where it would be without tags */
		assert_int_equal(slow_l4_sum(4, got + IP, TCP, got + TCP_OFF, HEAD - TCP_OFF + BYTES), 0xffff);
		rig_free(r);
	}
}

/* RFC 768: a sum of zero is sent as ones, for zero says that there is none. */
static void no_udp_checksum_is_zero(void **state)
{
	static uint8_t p[RIG_FRAME], got[RIG_FRAME];
	struct rig *r = rig_with(OFFLOAD_ALL, 0, true);
	uint32_t len = make_packet(p, UDP, BYTES, 0);
	struct net_hdr hdr;
	uint16_t sum;

	(void)state;
	be16_put(p + HEAD, 0);
	sum = slow_l4_sum(4, p + IP, UDP, p + TCP_OFF, HEAD - TCP_OFF + BYTES);
	/* without the seed, and so that the rest makes 0xffff */
	sum = slow_sum(sum, (uint8_t[]){(uint8_t)~p[TCP_OFF + 6], (uint8_t)~p[TCP_OFF + 7]}, 2);
	be16_put(p + HEAD, (uint16_t)~sum);
	deliver(r, p, len,
		(struct frame_offload){
			.flags = NET_HDR_F_NEEDS_CSUM, .hdr_len = HEAD, .csum_start = TCP_OFF, .csum_offset = 6},
		4096, &hdr, got);
	assert_int_equal(be16_get(got + TCP_OFF + 6), 0xffff);
	rig_free(r);
}

static void a_guest_is_told_what_is_left_to_do(void **state)
{
	static const uint32_t size[] = {4096, 600};
	static uint8_t p[RIG_FRAME], got[RIG_FRAME];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(size); i++) {
		struct rig *r = rig_with(0, OFFLOAD_CSUM | OFFLOAD_TSO4, true);
		uint32_t len = make_packet(p, TCP, BYTES, 0);
		struct frame_offload off = {.flags = NET_HDR_F_NEEDS_CSUM,
					    .gso_type = NET_HDR_GSO_TCPV4,
					    .gso_size = 1000,
					    .hdr_len = HEAD,
					    .csum_start = TCP_OFF,
					    .csum_offset = 16};
		struct net_hdr hdr;

		assert_int_equal(r->port->takes, OFFLOAD_CSUM | OFFLOAD_TSO4);
		deliver(r, p, len, off, size[i], &hdr, got);
		assert_int_equal(hdr.num_buffers, i ? 6 : 1);
		assert_int_equal(hdr.flags, NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(hdr.gso_type, NET_HDR_GSO_TCPV4);
		assert_int_equal(hdr.gso_size, 1000);
		assert_int_equal(hdr.hdr_len, HEAD);
		assert_int_equal(hdr.csum_start, TCP_OFF);
		assert_int_equal(hdr.csum_offset, 16);
		assert_memory_equal(got, p, len);
		rig_free(r);
	}
}

/* virtio 1.2, 5.1.6.4.1: DATA_VALID only with GUEST_CSUM. */
static void a_good_checksum_is_told_to_who_understands(void **state)
{
	static uint8_t p[RIG_FRAME], got[RIG_FRAME];

	(void)state;
	for (unsigned takes = 0; takes < 2; takes++) {
		struct rig *r = rig_with(0, takes ? OFFLOAD_CSUM : 0, true);
		uint32_t len = make_packet(p, TCP, BYTES, 0);
		struct net_hdr hdr;

		deliver(r, p, len, (struct frame_offload){.flags = NET_HDR_F_DATA_VALID}, 4096, &hdr, got);
		assert_int_equal(hdr.flags, takes ? NET_HDR_F_DATA_VALID : 0);
		assert_memory_equal(got, p, len);
		rig_free(r);
	}
}

/* Receive one frame with this header; why it was dropped, or DROP_N. */
static enum drop_reason receive(struct rig *r, struct net_hdr hdr, const uint8_t *p, uint32_t len)
{
	uint32_t piece[] = {NET_HDR_LONG + len};
	uint64_t gpa;

	rig_offer(r, TRANSMITQ(0), 1, piece, 1, 0, false, &gpa);
	ram_write(&r->ram, gpa, &hdr, sizeof(hdr));
	ram_write(&r->ram, gpa + NET_HDR_LONG, p, len);
	r->batch.n = r->batch.n_spans = 0;
	assert_int_equal(r->port->ops->rx(r->port, 0, &r->batch, RIG_WORKER), 1);
	if (r->batch.n)
		return DROP_N;
	assert_int_equal(r->batch.n_spans, 0);
	assert_int_equal(rig_drops(r, DROP_BAD_OFFLOAD), 1);
	return DROP_BAD_OFFLOAD;
}

/* A header like Linux's, one field of it changed, with one thing not agreed. */
static void a_header_that_lies_drops_the_frame(void **state)
{
	static const struct net_hdr fine = {.flags = 1,
					    .gso_type = NET_HDR_GSO_TCPV4,
					    .hdr_len = HEAD,
					    .gso_size = 1000,
					    .csum_start = TCP_OFF,
					    .csum_offset = 16};
	struct {
		const char *what;
		struct net_hdr h;
		uint32_t not_agreed;
		bool is_fine;
	} row[] = {
		{"as it should be", fine, 0, true},
		{"a header length that is not believed", fine, 0, true},
		{"a segment longer than the frame: no segmentation", fine, 0, true},
		{"no segmentation", fine, 0, true},
		{"not agreed: checksum", fine, OFFLOAD_CSUM, false},
		{"not agreed: segmentation", fine, OFFLOAD_TSO4, false},
		{"not agreed: ECN", fine, OFFLOAD_ECN, false},
		{"segments of nothing", fine, 0, false},
		{"segmentation without a checksum", fine, 0, false},
		{"the other family", fine, 0, false},
		{"a type that is none", fine, 0, false},
		{"a checksum past the frame", fine, 0, false},
		{"a field past the frame", fine, 0, false},
		{"a checksum in the IP header", fine, 0, false},
	};
	static uint8_t p[RIG_FRAME];

	(void)state;
	row[1].h.hdr_len = 0xffff;
	row[2].h.gso_size = 0xffff;
	row[3].h.gso_type = 0;
	row[6].h.gso_type |= NET_HDR_GSO_ECN;
	row[7].h.gso_size = 0;
	row[8].h.flags = 0;
	row[9].h.gso_type = NET_HDR_GSO_TCPV6;
	row[10].h.gso_type = 3; /* UFO, which nobody offers */
	for (unsigned i = 11; i < ARRAY_SIZE(row); i++)
		row[i].h.gso_type = 0;
	row[11].h.csum_start = HEAD + BYTES;
	row[12].h.csum_offset = HEAD + BYTES - TCP_OFF - 1;
	row[13].h.csum_start = IP;
	row[13].h.csum_offset = 10;
	for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
		struct rig *r = rig_with(OFFLOAD_ALL & ~row[i].not_agreed, 0, true);
		uint32_t len = make_packet(p, TCP, BYTES, 0);

		if ((receive(r, row[i].h, p, len) == DROP_N) != row[i].is_fine)
			fail_msg("%s", row[i].what);
		r->port->ops->rx_done(r->port, 0);
		rig_free(r);
	}
}

/* What Linux leaves for others to compute is computed here, whoever does the rest. */
static void a_head_is_put_right(void **state)
{
	static uint8_t p[RIG_FRAME];
	struct rig *r = rig_with(OFFLOAD_ALL, 0, true);
	uint32_t len = make_packet(p, TCP, BYTES, 0);
	struct net_hdr h = {
		.flags = 1, .gso_type = NET_HDR_GSO_TCPV4, .gso_size = 1000, .csum_start = 2, .csum_offset = 1};
	const struct frame *f = &r->batch.f[0];
	uint8_t right[HEAD];

	(void)state;
	memcpy(right, p, HEAD);
	memset(p + IP + 2, 0, 2);       /* length */
	memset(p + IP + 10, 0x55, 2);   /* checksum */
	memset(p + TCP_OFF + 16, 9, 2); /* seed */
	assert_int_equal(receive(r, h, p, len), DROP_N);
	assert_memory_equal(f->data, right, HEAD);
	assert_int_equal(f->off.hdr_len, HEAD);
	assert_int_equal(f->off.csum_start, TCP_OFF);
	assert_int_equal(f->off.csum_offset, 16);
	r->port->ops->rx_done(r->port, 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_gets_whole_checksums_if_it_wants_them),
		cmocka_unit_test(a_third_tag_does_not_hide_a_checksum),
		cmocka_unit_test(no_udp_checksum_is_zero),
		cmocka_unit_test(a_guest_is_told_what_is_left_to_do),
		cmocka_unit_test(a_good_checksum_is_told_to_who_understands),
		cmocka_unit_test(a_header_that_lies_drops_the_frame),
		cmocka_unit_test(a_head_is_put_right),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
