/* SPDX-License-Identifier: Apache-2.0 */
/* What Linux leaves to its interfaces: checksums to finish, long frames to cut. */
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <sys/ioctl.h>

#include "port/packet_priv.h"
#include "port_veth.h"

static void checksums_of_local_sockets_are_completed(void **state)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc6336401)};
	uint8_t data[1001], unfinished[2000];
	struct port *p = open_port(1500, 1500);
	int fd, witness = station_open("near");
	const uint8_t *ip = unfinished + 14;

	(void)state;
	must("ip -n %s addr add 198.51.100.2/24 dev far", net_far);
	must("ip -n %s neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev far", net_far);
	far_enter();
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	far_leave();
	inbox_reset(ETH_P_IP4);
	rnd_fill(data, sizeof(data));
	for (unsigned len = 1; len <= sizeof(data); len += 100) {
		assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&to, sizeof(to)), len);
		inbox_await(p, inbox.n + 1);
		assert_int_equal(inbox.f[inbox.n - 1].len, 42 + len);
		assert_checksums(inbox.f[inbox.n - 1].bytes, inbox.f[inbox.n - 1].len);
		assert_memory_equal(inbox.f[inbox.n - 1].bytes + 42, data, len);
		/* and the kernel did not do it for us */
		assert_int_equal(read(witness, unfinished, sizeof(unfinished)), 42 + len);
		assert_int_not_equal(slow_l4_sum(4, ip, 17, ip + 20, 8 + len), 0xffff);
	}
	close(fd);
	close(witness);
	host_end();
}

/* Long frames as a local TCP or UDP hands them to its interface. */
struct giant {
	const char *what;
	unsigned ip_version, proto;
	uint8_t gso_type;
	uint32_t tag, payload, gso_size;
};

static const struct giant giants[] = {
	{"64 KiB of TCP over IPv4", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0, 65440, 1448},
	{"with a tag", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0x8100200a, 65440, 1448},
	{"over IPv6", 6, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV6, 0, 65440, 1428},
	{"over IPv6 with a tag", 6, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV6, 0x81000001, 30001, 1428},
	{"with ECN", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, 0, 20000, 1448},
	{"in many small segments", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0, 60000, 200},
	{"in segments within a head", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0, 5000, 50},
	{"small enough for a slot", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0, 1700, 500},
	{"just too long for a slot", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0, 1919, 1448},
	{"one finished but for its checksum", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_NONE, 0, 1001, 2000},
	{"that with a tag", 4, IPPROTO_UDP, VIRTIO_NET_HDR_GSO_NONE, 0x8100200a, 1001, 2000},
	{"that over IPv6", 6, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_NONE, 0x8100200a, 1000, 2000},
	{"UDP over IPv4", 4, IPPROTO_UDP, 5, 0, 60000, 1472},
	{"UDP over IPv6 with a tag", 6, IPPROTO_UDP, 5, 0x8100000a, 60000, 1452},
};

struct giant_frame {
	struct virtio_net_hdr hdr;
	uint8_t bytes[FRAME_LONGEST];
} __attribute__((packed));

/* Returns the length of the frame. Sequence numbers and the payload begin at @seq. */
static uint32_t make_giant(struct giant_frame *out, const struct giant *g, uint32_t seq)
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
		be16_put(b + l4 + 12, 0x8018 | (g->gso_type & VIRTIO_NET_HDR_GSO_ECN ? 0x80 : 0)); /* ACK, PSH, CWR */
		memset(b + l4 + 20, 1, 12);                                                        /* NOPs */
	} else {
		be16_put(b + l4 + 4, (uint16_t)l4_bytes);
	}
	be32_put(pseudo, l4_bytes);
	pseudo[7] = (uint8_t)g->proto;
	seed = slow_sum(0, g->ip_version == 4 ? ip + 12 : ip + 8, g->ip_version == 4 ? 8 : 32);
	be16_put(b + l4 + (g->proto == IPPROTO_TCP ? 16 : 6), slow_sum(seed, pseudo, 8));
	for (uint32_t i = 0; i < g->payload; i++)
		b[head + i] = (uint8_t)((seq + i) * 7 >> 3);
	out->hdr = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = g->gso_type,
		.gso_size = (uint16_t)(g->gso_type ? g->gso_size : 0),
		.hdr_len = (uint16_t)head,
		.csum_start = (uint16_t)l4,
		.csum_offset = g->proto == IPPROTO_TCP ? 16 : 6,
	};
	return head + g->payload;
}

static int far_giant_station(void)
{
	int one = 1, bytes = 16 << 20, fd = far_station("far");

	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)), 0);
	return fd;
}

static void send_giant(int station, const struct giant *g, uint32_t seq)
{
	static struct giant_frame giant;
	size_t len = sizeof(giant.hdr) + make_giant(&giant, g, seq);

	if (write(station, &giant, len) != (ssize_t)len)
		fail_msg("the kernel does not take %s: %s", g->what, strerror(errno));
}

/* The segment @i of @n in the inbox is what it must be; returns its payload bytes. */
static uint32_t check_segment(const struct giant *g, uint32_t seq, uint32_t done, bool is_last, const uint8_t *b,
			      uint32_t len)
{
	uint32_t l3 = g->tag ? 18 : 14, l4 = l3 + (g->ip_version == 4 ? 20 : 40);
	uint32_t head = l4 + (g->proto == IPPROTO_TCP ? 32 : 8), want = min_u32(g->gso_size, g->payload - done);

	if (g->tag)
		assert_int_equal(be32_get(b + 12), g->tag);
	assert_int_equal(len, head + want);
	assert_checksums(b, len);
	if (g->proto == IPPROTO_TCP) {
		uint16_t cwr = g->gso_type & VIRTIO_NET_HDR_GSO_ECN && done == 0 ? 0x80 : 0;

		assert_int_equal(be32_get(b + l4 + 4), seq + done);
		assert_int_equal(be16_get(b + l4 + 12), 0x8010 | cwr | (is_last ? 8 : 0));
	} else {
		assert_int_equal(be16_get(b + l4 + 4), 8 + want);
	}
	for (uint32_t i = 0; i < want; i++)
		if (b[head + i] != (uint8_t)((seq + done + i) * 7 >> 3))
			fail_msg("payload differs at byte %u", done + i);
	return want;
}

static void giants_come_in_as_segments(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(giants); i++) {
		const struct giant *g = &giants[i];
		unsigned n = (g->payload + g->gso_size - 1) / g->gso_size;
		uint32_t done = 0, seq = 0x7fff0000u + i * 100000;
		uint16_t id = 7;

		print_message("%s\n", g->what);
		inbox_reset(g->ip_version == 4 ? ETH_P_IP4 : ETH_P_IP6);
		if (g->tag)
			inbox.ethertype = (uint16_t)(g->ip_version == 4 ? ETH_P_IP4 : ETH_P_IP6);
		send_giant(station, g, seq);
		inbox_await(p, n);
		for (unsigned k = 0; k < n; k++) {
			const uint8_t *b = inbox.f[k].bytes;

			done += check_segment(g, seq, done, k + 1 == n, b, inbox.f[k].len);
			if (g->ip_version == 4)
				assert_int_equal(be16_get(b + (g->tag ? 22 : 18)), id++);
		}
		assert_int_equal(done, g->payload);
		if (g->gso_type)
			assert_int_equal(packet_of(p)->rx->seg.count, n); /* and the kernel did not do it for us */
	}
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

/* Other frames, as long as the interface of the sender allows. */
static void send_jumbo(int station, uint8_t *frame, uint32_t len)
{
	static uint8_t out[10 + 9014];

	make_frame(frame, len, 0);
	be16_put(frame + 12, ETH_P_IP4);
	memcpy(out + 10, frame, len);
	station_send(station, out, 10 + len);
}

static void long_frames_of_one_batch_do_not_share_a_buffer(void **state)
{
	enum { N_SEGMENTS = FRAME_BATCH + 1, N_JUMBO = PACKET_LONG_N - 1, N = 2 * N_SEGMENTS + N_JUMBO };
	/* One segment more than a batch: its last is in one batch with the jumbo frames and the next giant. */
	static const struct giant g = {"", 4, IPPROTO_TCP, VIRTIO_NET_HDR_GSO_TCPV4, 0, 1000 * N_SEGMENTS, 1000};
	static uint8_t jumbo[N_JUMBO][9014];
	struct port *p = open_port(9000, 1500);
	int station = far_giant_station();
	const uint32_t second = 1000003; /* payloads differ */
	uint32_t done[2] = {0};

	(void)state;
	inbox_reset(ETH_P_IP4);
	send_giant(station, &g, 0);
	for (unsigned i = 0; i < N_JUMBO; i++)
		send_jumbo(station, jumbo[i], 9014 - i);
	send_giant(station, &g, second);
	inbox_await(p, N);
	for (unsigned i = 0; i < N; i++) {
		unsigned of = i > N_SEGMENTS, jumbo_index = i - N_SEGMENTS;

		if (i >= N_SEGMENTS && jumbo_index < N_JUMBO)
			assert_memory_equal(inbox.f[i].bytes, jumbo[jumbo_index], 9014 - jumbo_index);
		else
			done[of] += check_segment(&g, of * second, done[of], done[of] + 1000 == g.payload,
						  inbox.f[i].bytes, inbox.f[i].len);
	}
	close(station);
	host_end();
}

static void a_long_frame_left_behind_is_not_taken_for_another(void **state)
{
	static uint8_t jumbo[3][9014];
	struct port *p = open_port(9000, 1500);
	int station = far_giant_station();

	(void)state;
	inbox_reset(ETH_P_IP4);
	for (unsigned i = 0; i < 3; i++)
		send_jumbo(station, jumbo[i], 9014 - i);
	/* as if the second had been too much for the socket's queue, but it is in there */
	packet_slot(&packet_of(p)->rx->ring, 1)->tp_status &= ~(uint32_t)TP_STATUS_COPY;
	inbox_await(p, 2);
	assert_int_equal(drops(p, DROP_KERNEL_LOST), 1);
	assert_memory_equal(inbox.f[0].bytes, jumbo[0], 9014);
	assert_memory_equal(inbox.f[1].bytes, jumbo[2], 9012);
	close(station);
	host_end();
}

/* Takes segments of giants[0], each giant's seq telling which it was. */
struct flood {
	uint32_t seq_step;
	unsigned whole, small;
	uint32_t done; /* of the giant that is coming */
	uint32_t seq;
};

static void take_flood(void *arg, struct frame *f)
{
	static uint8_t b[FRAME_LONGEST];
	struct flood *fl = arg;
	uint32_t len = flatten(f, b);

	if (be16_get(b + 12) == ETH_P_TEST) {
		fl->small++;
		assert_int_equal(fl->done, 0); /* not between segments */
		return;
	}
	if (fl->done == 0) {
		fl->seq = be32_get(b + 38);
		assert_int_equal(fl->seq % fl->seq_step, 0);
	}
	fl->done += check_segment(&giants[0], fl->seq, fl->done, fl->done + 1448 >= giants[0].payload, b, len);
	if (fl->done == giants[0].payload) {
		fl->done = 0;
		fl->whole++;
	}
}

static void giants_that_find_no_room_are_lost_whole(void **state)
{
	enum { N = 200 };
	struct port *p = open_port(1500, 1500);
	struct flood flood = {.seq_step = 100000};
	int station = far_giant_station();
	uint8_t small[10 + 60] = {0};

	(void)state;
	make_frame(small + 10, 60, 0);
	for (uint32_t i = 0; i < N; i++) {
		send_giant(station, &giants[0], i * flood.seq_step);
		station_send(station, small, sizeof(small));
	}
	poll_until_quiet(p, take_flood, &flood);
	p->ops->attend(p);
	assert_int_equal(flood.done, 0);
	assert_int_equal(flood.small, N);
	assert_true(flood.whole > 0 && flood.whole < N);
	assert_int_equal(flood.whole + drops(p, DROP_KERNEL_LOST), N);
	/* and it goes on as if nothing had been */
	send_giant(station, &giants[0], 0);
	poll_until_quiet(p, take_flood, &flood);
	assert_int_equal(flood.whole + drops(p, DROP_KERNEL_LOST), N + 1);
	close(station);
	host_end();
}

/* The interface of the port is a tap, and who holds its other end passes on what came from a guest. */
static int tap_station(void)
{
	struct ifreq ifr = {.ifr_name = "near", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
	must("ip link set near up");
	return fd;
}

static void giants_that_cannot_be_cut_are_dropped_and_do_no_harm(void **state)
{
	static const struct giant fragments = {"", 4, IPPROTO_UDP, VIRTIO_NET_HDR_GSO_UDP, 0, 8000, 1480};
	struct packet_conf conf = {.name = "p", .ifname = "near", .mtu = 1500};
	int station = tap_station();
	struct err e = {0};
	struct port *p = start(packet_new(&conf, host_begin(), &e), &e);
	uint8_t small[10 + 60] = {0};

	(void)state;
	make_frame(small + 10, 60, 0);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;

		inbox_reset(ETH_P_TEST);
		send_giant(station, &fragments, 0);
		/* some kernels' rings get stuck by it: then it takes a while, but not for ever */
		while (inbox.n == 0 && time_now_ns() < end_ns) {
			station_send(station, small, sizeof(small));
			event_base_loop(host.events, EVLOOP_NONBLOCK);
			poll_until_quiet(p, inbox_add, &inbox);
		}
		assert_int_not_equal(inbox.n, 0);
		assert_true(atomic_load(&p->up));
		p->ops->attend(p);
		assert_true(drops(p, DROP_BAD_OFFLOAD) + drops(p, DROP_KERNEL_LOST) > i);
	}
	assert_true(host.n_link_changes == 1); /* never down */
	close(station);
	host_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		veth_test(checksums_of_local_sockets_are_completed),
		veth_test(giants_come_in_as_segments),
		veth_test(long_frames_of_one_batch_do_not_share_a_buffer),
		veth_test(a_long_frame_left_behind_is_not_taken_for_another),
		veth_test(giants_that_find_no_room_are_lost_whole),
		veth_test(giants_that_cannot_be_cut_are_dropped_and_do_no_harm),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
