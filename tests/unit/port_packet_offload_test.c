/* SPDX-License-Identifier: Apache-2.0 */
/* What Linux leaves to its interfaces: checksums to finish, long frames to cut. */
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "port/packet_priv.h"
#include "port_giant.h"
#include "port_veth.h"
#include "wire/l4.h"
#include "wire/seg.h"

static void unfinished_checksums_of_local_sockets_are_told(void **state)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc6336401)};
	const struct frame_offload want = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	struct port *p = open_port(1500, 1500);
	uint8_t data[1001];
	int fd;

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
		assert_same_offload(&inbox.f[inbox.n - 1].off, &want);
		assert_memory_equal(inbox.f[inbox.n - 1].bytes + 42, data, len);
		assert_int_equal(l4_csum_finish(inbox.f[inbox.n - 1].bytes, 42 + len, NULL, 0, 34, 6), 0);
		assert_checksums(inbox.f[inbox.n - 1].bytes, 42 + len);
	}
	close(fd);
	host_end();
}

/* Merging frames (GRO) the kernel verifies them. */
static void a_checksum_the_kernel_has_verified_is_told(void **state)
{
	static const struct giant g = {"", 4, IPPROTO_TCP, NET_HDR_GSO_NONE, 0, 1000, 0};
	static struct giant_frame sent;
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	uint32_t len = make_giant(&sent, &g, 0);
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;
	static struct kept kept;

	(void)state;
	must("ethtool -K near gro on && ip netns exec %s ethtool -K far tso off >/dev/null", net_far);
	assert_int_equal(l4_csum_finish(sent.bytes, len, NULL, 0, 34, 16), 0);
	for (kept.n = 0; kept.n == 0 && time_now_ns() < end_ns;) {
		station_send(station, sent.bytes, len);
		poll_until_quiet(p, keep, &kept);
	}
	assert_int_equal(kept.len, len);
	assert_int_equal(kept.off.flags, NET_HDR_F_DATA_VALID);
	sent.bytes[len - 1] ^= 1;
	station_send(station, sent.bytes, len);
	poll_until_quiet(p, keep, &kept);
	assert_int_equal(kept.off.flags, 0);
	close(station);
	host_end();
}

static int far_giant_station(void)
{
	return giant_station(far_station("far"));
}

static void giants_come_in_whole(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();

	(void)state;
	giants_come_in(p, station);
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

static void giants_go_out_whole(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();

	(void)state;
	giants_go_out(p, station, true);
	assert_int_equal(all_drops(p), 0);
	crumbs_are_refused(p, station);
	close(station);
	host_end();
}

static void what_the_interface_cannot_do_the_kernel_does(void **state)
{
	static const struct giant g = {"", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, 0, 20000, 1448};
	static struct giant_frame sent, got;
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();
	uint32_t len = make_giant(&sent, &g, 0);
	struct frame_offload off = giant_offload(&sent, &g);

	(void)state;
	must("ethtool -K near tso off gso off tx off >/dev/null");
	port_send_undone(p, sent.bytes, len, 1, &off);
	for (uint32_t done = 0; done < g.payload; done += g.gso_size) {
		len = receive_giant(station, &got, WAIT_S * 1000);
		assert_int_equal(len, 66 + min_u32(g.gso_size, g.payload - done));
		assert_int_equal(be32_get(got.bytes + 38), done);
		assert_checksums(got.bytes, len);
		assert_memory_equal(got.bytes + 66, sent.bytes + 66 + done, len - 66);
	}
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

/* Short frames and giants take different ways, and must not overtake each other. */
/* @held: by a queueing discipline, as a shaper or a busy NIC does. */
static void send_in_turn_and_compare(bool held)
{
	static struct giant_frame sent, got;
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();
	uint32_t len = make_giant(&sent, &giants[0], 0);
	struct frame_offload off = giant_offload(&sent, &giants[0]);
	struct port_totals t;

	if (held)
		must("tc qdisc replace dev near root tbf rate 1gbit burst 70000 latency 100ms mtu 66000");
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < round; i++)
			send_numbered(p, i);
		port_send_undone(p, sent.bytes, len, 1, &off);
		send_numbered(p, round);
		port_flush(p);
		for (unsigned i = 0; i <= round + 1; i++) {
			uint32_t n = receive_giant(station, &got, WAIT_S * 1000);

			assert_int_equal(n, i == round ? len : 200);
			if (i != round)
				assert_int_equal(be32_get(got.bytes + 14), min_u32(i, round));
		}
	}
	port_totals(p, &t);
	assert_int_equal(t.tx_frames, 20 + 190 + 20);
	assert_int_equal(t.tx_bytes, 20 * len + 210 * 200);
	close(station);
	host_end();
}

static void giants_and_others_keep_their_order(void **state)
{
	(void)state;
	send_in_turn_and_compare(false);
}

static void giants_that_are_held_are_not_overtaken(void **state)
{
	(void)state;
	send_in_turn_and_compare(true);
}

static void giants_of_segments_too_long_for_the_interface_are_refused(void **state)
{
	static const struct {
		uint32_t tag, gso_size;
		bool fits;
	} cases[] = {{0, 1448, true}, {0, 1449, false}, {0x8100000a, 1448, true}, {0x8100000a, 1449, false}};
	static struct giant_frame sent, got;
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct giant g = {"", 4, IPPROTO_TCP, NET_HDR_GSO_TCPV4, cases[i].tag, 5000, cases[i].gso_size};
		uint32_t len = make_giant(&sent, &g, i);
		struct frame_offload off = giant_offload(&sent, &g);
		uint64_t refused = drops(p, DROP_KERNEL_REFUSED);

		port_send_undone(p, sent.bytes, len, 1, &off);
		send_numbered(p, i);
		port_flush(p);
		if (cases[i].fits)
			assert_int_equal(receive_giant(station, &got, WAIT_S * 1000), len);
		assert_int_equal(receive_giant(station, &got, WAIT_S * 1000), 200);
		assert_int_equal(drops(p, DROP_KERNEL_REFUSED) - refused, !cases[i].fits);
	}
	close(station);
	host_end();
}

static void giants_find_an_interface_that_is_down_or_gone(void **state)
{
	static struct giant_frame sent;
	struct port *p = open_port(1500, 1500);
	uint32_t len = make_giant(&sent, &giants[0], 0);
	struct frame_offload off = giant_offload(&sent, &giants[0]);
	int station;

	(void)state;
	must("ip link set near down");
	port_send_undone(p, sent.bytes, len, 1, &off);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	assert_true(atomic_load(&p->attention));
	p->ops->attend(p);
	assert_false(atomic_load(&p->up));
	must("ip link del near");
	await_link(p, false);
	plug(1500);
	await_link(p, true);
	station = far_giant_station();
	giants_go_out(p, station, true);
	close(station);
	host_end();
}

static void giants_do_not_pass_what_waits(void **state)
{
	static struct giant_frame sent, got;
	struct port *p = open_port(1500, 1500);
	uint32_t len = make_giant(&sent, &giants[0], 0);
	struct frame_offload off = giant_offload(&sent, &giants[0]);
	int station;

	(void)state;
	p->ops->rx_wake(p, 0);
	far_switch(false); /* busy: see port_packet_tx_test.c */
	send_numbered(p, 0);
	port_send_undone(p, sent.bytes, len, 1, &off);
	assert_int_equal(drops(p, DROP_KERNEL_FULL), 1);
	assert_true(atomic_load(&packet_of(p)->tx->backlog));
	host_end();
	must("ip link del near");
	/* nor if the interface has just become ready */
	p = open_port(1500, 1500);
	station = far_giant_station();
	atomic_store(&packet_of(p)->tx->backlog, true);
	port_send_undone(p, sent.bytes, len, 1, &off);
	assert_int_equal(drops(p, DROP_KERNEL_FULL), 1);
	assert_int_equal(receive_giant(station, &got, 20), 0);
	close(station);
	host_end();
}

static void a_checksum_that_cannot_be_completed_is_not_sent(void **state)
{
	const struct frame_offload off = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = 14, .csum_offset = 2};
	static struct giant_frame sent;
	static uint8_t got[FRAME_LONGEST];
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");

	(void)state;
	port_send_undone(p, sent.bytes, make_giant(&sent, &giants[9], 0), 1, &off);
	send_numbered(p, 0);
	port_flush(p);
	assert_int_equal(drops(p, DROP_BAD_OFFLOAD), 1);
	assert_int_equal(station_receive(station, got, WAIT_S * 1000), 200);
	close(station);
	host_end();
}

/* A trunk puts its tag before the two that a frame may have had from its sender, whose checksum was checked without. */
static void a_third_tag_does_not_hide_a_checksum(void **state)
{
	static const struct giant g = {"", 4, IPPROTO_TCP, NET_HDR_GSO_NONE, 0, 1000, 0};
	static const uint8_t tags[] = {0x88, 0xa8, 0, 7, 0x81, 0, 0, 8};
	static struct giant_frame plain, got;
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();
	uint32_t len = make_giant(&plain, &g, 0);
	struct frame f, *one = &f;
	struct wire_piece body = {plain.bytes + FRAME_HEAD_MAX - sizeof(tags),
				  len - (uint32_t)(FRAME_HEAD_MAX - sizeof(tags))};
	uint8_t *head = frame_head_begin(&f);

	(void)state;
	memcpy(head, plain.bytes, 12);
	memcpy(head + 12, tags, sizeof(tags));
	memcpy(head + 12 + sizeof(tags), plain.bytes + 12, FRAME_HEAD_MAX - 12 - sizeof(tags));
	f.len = len + sizeof(tags);
	f.head_len = FRAME_HEAD_MAX;
	f.body = &body;
	f.n_body = 1;
	f.off = (struct frame_offload){
		.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = 34 + sizeof(tags), .csum_offset = 16};
	frame_push_tag(&f, 100);
	p->ops->tx(p, &one, 1, WORKER);
	port_flush(p);
	assert_int_equal(drops(p, DROP_BAD_OFFLOAD), 0);
	assert_int_equal(receive_giant(station, &got, WAIT_S * 1000), f.len);
	assert_int_equal(l4_csum_finish(plain.bytes, len, NULL, 0, 34, 16), 0);
	assert_memory_equal(got.bytes + f.len - (len - 14), plain.bytes + 14, len - 14);
	close(station);
	host_end();
}

static void what_is_switched_off_is_not_taken(void **state)
{
	static const struct {
		uint32_t off, takes;
		const char *shown, *missing;
	} cases[] = {
		{0, OFFLOAD_ALL, "csum tso4 tso6 ecn uso4 uso6", ""},
		{OFFLOAD_TSO4, OFFLOAD_ALL & ~OFFLOAD_TSO4, "csum tso6 ecn uso4 uso6", "tso4: switched off"},
		{OFFLOAD_TSO4 | OFFLOAD_TSO6, OFFLOAD_CSUM | OFFLOAD_USO4 | OFFLOAD_USO6, "csum uso4 uso6",
		 "tso4 tso6: switched off; ecn: need what is switched off"},
		{OFFLOAD_CSUM, 0, "none", "csum: switched off; tso4 tso6 ecn uso4 uso6: need what is switched off"},
	};

	(void)state;
	plug(1500);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct packet_conf conf = {.name = "p", .ifname = "near", .mtu = 1500, .offloads_off = cases[i].off};
		struct err e = {0};
		struct port *p = start(packet_new(&conf, host_begin(), &e), &e);
		struct port_info info = info_of(p);

		assert_int_equal(atomic_load(&p->takes), cases[i].takes);
		assert_string_equal(detail_of(&info, "offloads"), cases[i].shown);
		assert_string_equal(detail_of(&info, "offloads_missing"), cases[i].missing);
		host_end();
	}
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

/* The frame is the giant with this number. */
static void assert_giant(const struct giant *g, uint32_t seq, const uint8_t *b, uint32_t len)
{
	static struct giant_frame want;

	assert_int_equal(len, make_giant(&want, g, seq));
	assert_memory_equal(b, want.bytes, len);
}

static uint8_t jumbo[3][9014];

/* Giant, three jumbo frames, giant. */
static void take_mixture(void *arg, struct frame *f)
{
	static uint8_t b[FRAME_LONGEST];
	unsigned *n = arg;
	uint32_t len = flatten(f, b);

	if (*n % 4 == 0)
		assert_giant(&giants[0], *n, b, len);
	else
		assert_memory_equal(b, jumbo[*n - 1], 9014 - *n);
	++*n;
}

static void long_frames_of_one_batch_do_not_share_a_buffer(void **state)
{
	struct port *p = open_port(9000, 1500);
	int station = far_giant_station();
	unsigned n = 0;

	(void)state;
	send_giant(station, &giants[0], 0);
	for (unsigned i = 0; i < ARRAY_SIZE(jumbo); i++)
		send_jumbo(station, jumbo[i], 9013 - i);
	send_giant(station, &giants[0], 4);
	assert_int_equal(port_poll(p, take_mixture, &n), PACKET_LONG_N);
	assert_int_equal(port_poll(p, take_mixture, &n), 1);
	close(station);
	host_end();
}

static void a_long_frame_left_behind_is_not_taken_for_another(void **state)
{
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

struct flood {
	unsigned whole, small;
	uint32_t seq; /* of the last giant */
};

static void take_flood(void *arg, struct frame *f)
{
	static uint8_t b[FRAME_LONGEST];
	struct flood *fl = arg;
	uint32_t len = flatten(f, b);

	if (be16_get(b + 12) == ETH_P_TEST) {
		fl->small++;
		return;
	}
	assert_true(fl->whole == 0 || be32_get(b + 38) > fl->seq);
	fl->seq = be32_get(b + 38);
	assert_giant(&giants[0], fl->seq, b, len);
	fl->whole++;
}

static void giants_that_find_no_room_are_lost_whole(void **state)
{
	enum { N = 200 };
	struct port *p = open_port(1500, 1500);
	struct flood flood = {0};
	int station = far_giant_station();
	uint8_t small[10 + 60] = {0};

	(void)state;
	make_frame(small + 10, 60, 0);
	for (uint32_t i = 0; i < N; i++) {
		send_giant(station, &giants[0], i);
		station_send(station, small, sizeof(small));
	}
	poll_until_quiet(p, take_flood, &flood);
	p->ops->attend(p);
	assert_int_equal(flood.small, N);
	assert_true(flood.whole > 0 && flood.whole < N);
	assert_int_equal(flood.whole + drops(p, DROP_KERNEL_LOST), N);
	/* and it goes on as if nothing had been */
	send_giant(station, &giants[0], N);
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

#define NET_HDR_GSO_UFO 3 /* UDP in IP fragments: of the standard, but not ours */

static void giants_that_cannot_be_cut_are_dropped_and_do_no_harm(void **state)
{
	static const struct giant fragments = {"", 4, IPPROTO_UDP, NET_HDR_GSO_UFO, 0, 8000, 1480};
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

/* What the port says is left to do, can be done; and the kernel can be given the frame. */
static void do_what_is_left(void *arg, struct frame *f)
{
	static uint8_t b[FRAME_LONGEST];
	unsigned *n_giants = arg;
	uint32_t len = flatten(f, b);
	struct seg seg;

	if (f->off.gso_type) {
		enum seg_kind kind = f->off.gso_type == NET_HDR_GSO_UDP_L4                       ? SEG_UDP
				     : (f->off.gso_type & ~NET_HDR_GSO_ECN) == NET_HDR_GSO_TCPV4 ? SEG_TCP4
												 : SEG_TCP6;

		assert_int_equal(f->off.flags, NET_HDR_F_NEEDS_CSUM);
		assert_true(f->off.hdr_len < f->head_len && len > (uint32_t)f->off.hdr_len + f->off.gso_size);
		assert_int_equal(seg_begin(&seg, b, f->head_len, len, kind, f->off.gso_size), 0);
		assert_int_equal(seg.head_bytes, f->off.hdr_len);
		++*n_giants;
	} else if (f->off.flags & NET_HDR_F_NEEDS_CSUM) {
		assert_int_equal(l4_csum_finish(b, len, NULL, 0, f->off.csum_start, f->off.csum_offset), 0);
	}
	host.port->ops->tx(host.port, &f, 1, WORKER);
}

/* Somebody at the other end of the cable asks for anything. */
static void spoil(struct giant_frame *g)
{
	static const uint8_t types[] = {0, 1, 4, 5, 0x81, 0x84, 0x85, 2, 0xff};

	switch (rnd_below(8)) {
	case 0:
		g->hdr.flags = (uint8_t)rnd_below(8);
		break;
	case 1:
		g->hdr.gso_type = types[rnd_below(ARRAY_SIZE(types))];
		break;
	case 2:
		g->hdr.gso_size = (uint16_t)(rnd_below(2) ? rnd() : rnd_below(20));
		break;
	case 3:
		g->hdr.hdr_len = (uint16_t)rnd_below(300);
		break;
	case 4:
		g->hdr.csum_start = (uint16_t)rnd_below(100);
		break;
	case 5:
		g->hdr.csum_offset = (uint16_t)rnd_below(100);
		break;
	default:
		g->bytes[12 + rnd_below(60)] = (uint8_t)rnd();
	}
}

static void no_header_whatsoever_does_harm(void **state)
{
	static struct giant_frame giant;
	struct port *p = open_port(1500, 1500);
	int station = far_giant_station();
	unsigned n_giants = 0;

	(void)state;
	for (unsigned i = 0; i < 5000; i++) {
		struct giant g = giants[rnd_below(ARRAY_SIZE(giants))];
		uint32_t len;

		g.payload = rnd_below(i % 10 ? 4000 : g.payload) + 1;
		len = make_giant(&giant, &g, i);
		for (unsigned k = rnd_below(3); k > 0; k--)
			spoil(&giant);
		if (write(station, &giant, sizeof(giant.hdr) + len) < 0)
			continue; /* the kernel sees through some */
		port_poll(p, do_what_is_left, &n_giants);
		port_flush(p);
		event_base_loop(host.events, EVLOOP_NONBLOCK);
	}
	print_message("%u were fine, %u not\n", n_giants, (unsigned)drops(p, DROP_BAD_OFFLOAD));
	assert_true(n_giants > 500 && drops(p, DROP_BAD_OFFLOAD) > 100);
	assert_true(atomic_load(&p->up));
	giants_come_in(p, station);
	close(station);
	host_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		veth_test(unfinished_checksums_of_local_sockets_are_told),
		veth_test(a_checksum_the_kernel_has_verified_is_told),
		veth_test(giants_come_in_whole),
		veth_test(giants_go_out_whole),
		veth_test(what_the_interface_cannot_do_the_kernel_does),
		veth_test(giants_and_others_keep_their_order),
		veth_test(giants_that_are_held_are_not_overtaken),
		veth_test(giants_of_segments_too_long_for_the_interface_are_refused),
		veth_test(giants_find_an_interface_that_is_down_or_gone),
		veth_test(giants_do_not_pass_what_waits),
		veth_test(a_checksum_that_cannot_be_completed_is_not_sent),
		veth_test(a_third_tag_does_not_hide_a_checksum),
		veth_test(what_is_switched_off_is_not_taken),
		veth_test(long_frames_of_one_batch_do_not_share_a_buffer),
		veth_test(a_long_frame_left_behind_is_not_taken_for_another),
		veth_test(giants_that_find_no_room_are_lost_whole),
		veth_test(no_header_whatsoever_does_harm),
		veth_test(giants_that_cannot_be_cut_are_dropped_and_do_no_harm),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
