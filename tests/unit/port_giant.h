/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/offload.h"
#include "port_station.h"

/* Frames with work left undone, and a station that sends and receives them with the header that says so. */

/* Long frames as a local TCP or UDP hands them to its interface. */
struct giant {
	const char *what;
	unsigned ip_version, proto;
	uint8_t gso_type;
	uint32_t tag, payload, gso_size;
};

static const struct giant giants[] __attribute__((unused)) = {
	{"64 KiB of TCP over IPv4", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0, 65440, 1448},
	{"with a tag", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0x8100200a, 65440, 1448},
	{"over IPv6", 6, IPPROTO_TCP, NET_HDR_GSO_TCPV6, 0, 65440, 1428},
	{"over IPv6 with a tag", 6, IPPROTO_TCP, NET_HDR_GSO_TCPV6, 0x81000001, 30001, 1428},
	{"with ECN", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4 | NET_HDR_GSO_ECN, 0, 20000, 1448},
	{"in many small segments", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0, 60000, 200},
	{"in segments within a head", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0, 5000, 50},
	{"small enough for a slot", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0, 1700, 500},
	{"just too long for a slot", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0, 1919, 1448},
	{"one finished but for its checksum", 4, IPPROTO_TCP, NET_HDR_GSO_NONE, 0, 1001, 2000},
	{"that with a tag", 4, IPPROTO_UDP, NET_HDR_GSO_NONE, 0x8100200a, 1001, 2000},
	{"that over IPv6", 6, IPPROTO_TCP, NET_HDR_GSO_NONE, 0x8100200a, 1000, 2000},
	{"UDP over IPv4", 4, IPPROTO_UDP, NET_HDR_GSO_UDP_L4, 0, 60000, 1472},
	{"UDP over IPv6 with a tag", 6, IPPROTO_UDP, NET_HDR_GSO_UDP_L4, 0x8100000a, 60000, 1452},
};

/* struct net_hdr as the kernel has it. */
struct net_hdr_short {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
_Static_assert(sizeof(struct net_hdr_short) == NET_HDR_SHORT, "without num_buffers");

struct giant_frame {
	struct net_hdr_short hdr;
	uint8_t bytes[FRAME_LONGEST];
} __attribute__((packed));

/* Returns the length of the frame. Sequence numbers and the payload begin at @seq. */
static inline uint32_t make_giant(struct giant_frame *out, const struct giant *g, uint32_t seq)
{
	uint32_t l3 = g->tag ? 18 : 14, l4 = l3 + (g->ip_version == 4 ? 20 : 40);
	uint32_t head = l4 + (g->proto == IPPROTO_TCP ? 32 : 8), l4_bytes = head - l4 + g->payload;
	uint8_t *b = out->bytes, *ip = b + l3, pseudo[8] = {0};
	static const uint8_t ip4[20] = {0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 0, 0, 0, 198, 51, 100, 2, 198, 51, 100, 1};
	static const uint8_t ip6[40] = {
		0x60, [7] = 64, [8] = 0x20, 0x01, 0x0d, 0xb8, [23] = 2, [24] = 0x20, 0x01, 0x0d, 0xb8, [39] = 1};
	uint16_t seed;

	memset(b, 0, head);
	make_frame(b, l3, g->tag);
	be16_put(ip - 2, g->ip_version == 4 ? ETH_P_IP4 : ETH_P_IP6);
	if (g->ip_version == 4) {
		memcpy(ip, ip4, sizeof(ip4));
		ip[9] = (uint8_t)g->proto;
		be16_put(ip + 2, (uint16_t)(20 + l4_bytes));
		be16_put(ip + 10, (uint16_t)~slow_sum(0, ip, 20));
	} else {
		memcpy(ip, ip6, sizeof(ip6));
		ip[6] = (uint8_t)g->proto;
		be16_put(ip + 4, (uint16_t)l4_bytes);
	}
	be16_put(b + l4, 1234);
	be16_put(b + l4 + 2, 80);
	if (g->proto == IPPROTO_TCP) {
		be32_put(b + l4 + 4, seq);
		be16_put(b + l4 + 12, 0x8018 | (g->gso_type & NET_HDR_GSO_ECN ? 0x80 : 0)); /* ACK, PSH, CWR */
		memset(b + l4 + 20, 1, 12);                                                 /* NOPs */
	} else {
		be16_put(b + l4 + 4, (uint16_t)l4_bytes);
	}
	be32_put(pseudo, l4_bytes);
	pseudo[7] = (uint8_t)g->proto;
	seed = slow_sum(0, g->ip_version == 4 ? ip + 12 : ip + 8, g->ip_version == 4 ? 8 : 32);
	be16_put(b + l4 + (g->proto == IPPROTO_TCP ? 16 : 6), slow_sum(seed, pseudo, 8));
	for (uint32_t i = 0; i < g->payload; i++)
		b[head + i] = (uint8_t)((seq + i) * 7 >> 3);
	out->hdr = (struct net_hdr_short){
		.flags = NET_HDR_F_NEEDS_CSUM,
		.gso_type = g->gso_type,
		.gso_size = (uint16_t)(g->gso_type ? g->gso_size : 0),
		.hdr_len = (uint16_t)head,
		.csum_start = (uint16_t)l4,
		.csum_offset = g->proto == IPPROTO_TCP ? 16 : 6,
	};
	return head + g->payload;
}

/* What the port must say of it. */
static inline struct frame_offload giant_offload(const struct giant_frame *f, const struct giant *g)
{
	return (struct frame_offload){
		.flags = NET_HDR_F_NEEDS_CSUM,
		.gso_type = f->hdr.gso_type,
		.gso_size = f->hdr.gso_size,
		.hdr_len = g->gso_type ? f->hdr.hdr_len : 0,
		.csum_start = f->hdr.csum_start,
		.csum_offset = f->hdr.csum_offset,
		.is_ip6 = g->gso_type && g->ip_version == 6,
	};
}

/* Let the raw socket @fd speak the header. */
static inline int giant_station(int fd)
{
	int one = 1, bytes = 16 << 20;

	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)), 0);
	return fd;
}

static inline void send_giant(int station, const struct giant *g, uint32_t seq)
{
	static struct giant_frame giant;
	size_t len = sizeof(giant.hdr) + make_giant(&giant, g, seq);

	if (write(station, &giant, len) != (ssize_t)len)
		fail_msg("the kernel does not take %s: %s", g->what, strerror(errno));
}

/* The next frame; 0: none within @wait_ms. */
static inline uint32_t receive_giant(int station, struct giant_frame *out, int wait_ms)
{
	struct pollfd pfd = {.fd = station, .events = POLLIN};
	ssize_t len = 0;
	bool tagged;

	while (len <= 0 && poll(&pfd, 1, wait_ms) > 0)
		len = station_read(station, &out->hdr, sizeof(out->hdr), out->bytes, &tagged);
	if (len > 0 && tagged)
		out->hdr.csum_start = (uint16_t)(out->hdr.csum_start + 4);
	return len > 0 ? (uint32_t)len : 0;
}

/* The last frame that came and how many there were. */
struct kept {
	unsigned n;
	uint32_t len;
	struct frame_offload off;
	uint8_t bytes[FRAME_LONGEST];
};

static inline void keep(void *arg, struct frame *f)
{
	struct kept *k = arg;

	k->len = flatten(f, k->bytes);
	k->off = f->off;
	k->n++;
}

static inline void assert_same_offload(const struct frame_offload *a, const struct frame_offload *b)
{
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->gso_type, b->gso_type);
	assert_int_equal(a->gso_size, b->gso_size);
	assert_int_equal(a->hdr_len, b->hdr_len);
	assert_int_equal(a->csum_start, b->csum_start);
	assert_int_equal(a->csum_offset, b->csum_offset);
	assert_int_equal(a->is_ip6, b->is_ip6);
}

/* Every giant goes from the station into the port whole, byte for byte, with what is left to do. */
static inline void giants_come_in(struct port *p, int station)
{
	static struct giant_frame sent;
	static struct kept kept;

	for (unsigned i = 0; i < ARRAY_SIZE(giants); i++) {
		uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;
		uint32_t len = make_giant(&sent, &giants[i], i);
		struct frame_offload want = giant_offload(&sent, &giants[i]);

		print_message("in: %s\n", giants[i].what);
		send_giant(station, &giants[i], i);
		for (kept.n = 0; kept.n == 0 && time_now_ns() < end_ns;)
			port_poll(p, keep, &kept);
		poll_until_quiet(p, keep, &kept);
		assert_int_equal(kept.n, 1);
		assert_int_equal(kept.len, len);
		assert_memory_equal(kept.bytes, sent.bytes, len);
		assert_same_offload(&kept.off, &want);
	}
}

static inline void assert_same_header(const struct giant_frame *got, const struct giant_frame *want)
{
	assert_int_equal(got->hdr.flags & NET_HDR_F_NEEDS_CSUM, want->hdr.flags);
	assert_int_equal(got->hdr.gso_type, want->hdr.gso_type);
	assert_int_equal(got->hdr.gso_size, want->hdr.gso_size);
	assert_int_equal(got->hdr.csum_start, want->hdr.csum_start);
	assert_int_equal(got->hdr.csum_offset, want->hdr.csum_offset);
}

/* Every giant goes out of the port whole, if it is one to be cut. Others come @finished, or as they are. */
static inline void giants_go_out(struct port *p, int station, bool finished)
{
	static const unsigned pieces[] = {1, 17, 1023, 1500};
	static struct giant_frame sent, got;

	for (unsigned i = 0; i < ARRAY_SIZE(giants) * ARRAY_SIZE(pieces); i++) {
		const struct giant *g = &giants[i / ARRAY_SIZE(pieces)];
		uint32_t len = make_giant(&sent, g, i);
		struct frame_offload off = giant_offload(&sent, g);

		if (i % ARRAY_SIZE(pieces) == 0)
			print_message("out: %s\n", g->what);
		port_send_undone(p, sent.bytes, len, pieces[i % ARRAY_SIZE(pieces)], &off);
		port_flush(p);
		assert_int_equal(receive_giant(station, &got, WAIT_S * 1000), len);
		if (finished && !g->gso_type) {
			assert_checksums(got.bytes, len);
			assert_int_equal(got.hdr.flags & NET_HDR_F_NEEDS_CSUM, 0);
			memcpy(got.bytes + off.csum_start + off.csum_offset,
			       sent.bytes + off.csum_start + off.csum_offset, 2);
		} else {
			assert_same_header(&got, &sent);
		}
		assert_memory_equal(got.bytes, sent.bytes, len);
	}
	assert_int_equal(receive_giant(station, &got, 0), 0);
}

/* What Linux does not cut (more than UDP_MAX_SEGMENTS, 128) is refused, and nobody need look after the interface. */
static inline void crumbs_are_refused(struct port *p, int station)
{
	static const struct giant g = {"", 4, IPPROTO_UDP, NET_HDR_GSO_UDP_L4, 0, 60000, 200};
	static struct giant_frame sent, got;
	uint32_t len = make_giant(&sent, &g, 0);
	struct frame_offload off = giant_offload(&sent, &g);

	port_send_undone(p, sent.bytes, len, 1, &off);
	port_flush(p);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	assert_false(atomic_load(&p->attention));
	assert_int_equal(receive_giant(station, &got, 20), 0);
}
