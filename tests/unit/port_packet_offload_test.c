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

int main(void)
{
	const struct CMUnitTest tests[] = {
		veth_test(unfinished_checksums_of_local_sockets_are_told),
		veth_test(giants_come_in_whole),
		veth_test(giants_go_out_whole),
		veth_test(long_frames_of_one_batch_do_not_share_a_buffer),
		veth_test(a_long_frame_left_behind_is_not_taken_for_another),
		veth_test(giants_that_find_no_room_are_lost_whole),
		veth_test(giants_that_cannot_be_cut_are_dropped_and_do_no_harm),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
