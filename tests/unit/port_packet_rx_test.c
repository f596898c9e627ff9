/* SPDX-License-Identifier: Apache-2.0 */
#include "port/packet_priv.h"
#include "port_veth.h"

static void frames_of_all_sizes_pass_both_ways(void **state)
{
	static const unsigned mtus[] = {68, 1500, 4000, 9000};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(mtus); i++) {
		struct port *p = open_port(mtus[i], mtus[i]);
		int station = far_station("far");

		shapes_come_in(p, station, mtus[i]);
		shapes_go_out(p, station, mtus[i]);
		assert_int_equal(all_drops(p), 0);
		close(station);
		host_end();
		must("ip link del near");
	}
}

static void frames_longer_than_a_slot_come_in_whole_and_in_order(void **state)
{
	struct port *p = open_port(9000, 1500);
	int station = far_station("far");

	(void)state;
	for (unsigned round = 0; round < 5; round++)
		shapes_come_in(p, station, 9000);
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

static uint8_t longest[65549], longest_in[FRAME_LONGEST];

static void take_longest(void *arg, struct frame *f)
{
	unsigned *n = arg;

	*n += flatten(f, longest_in) == sizeof(longest) && !memcmp(longest_in, longest, sizeof(longest));
}

static void the_longest_frames_pass_both_ways(void **state)
{
	struct port *p = open_port(65535, 65535);
	int station = far_station("far");
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;
	unsigned n = 0;

	(void)state;
	make_frame(longest, sizeof(longest), 0);
	station_send(station, longest, sizeof(longest));
	while (n == 0 && time_now_ns() < end_ns)
		port_poll(p, take_longest, &n);
	assert_int_equal(n, 1);
	port_send(p, longest, sizeof(longest), 3);
	port_flush(p);
	assert_int_equal(station_receive(station, longest_in, WAIT_S * 1000), sizeof(longest));
	assert_memory_equal(longest_in, longest, sizeof(longest));
	close(station);
	host_end();
}

static void memory_is_bounded_whatever_the_mtu(void **state)
{
	static const unsigned mtus[] = {68, 1500, 1800, 3900, 4100, 9000, 20000, 65535};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(mtus); i++) {
		struct packet_rx *rx;
		struct packet_tx *tx;
		struct err e = {0};

		assert_int_equal(packet_rx_open(&rx, mtus[i], &e), 0);
		assert_int_equal(packet_tx_open(&tx, mtus[i], &e), 0);
		assert_true(rx->ring.map_bytes + tx->ring.map_bytes + PACKET_LONG_N * PACKET_LONG_BYTES < 8 << 20);
		assert_true(rx->ring.n >= 32 && tx->ring.n >= 16);
		assert_true(rx->ring.slot_bytes >= mtus[i] + 18 + 76 && rx->ring.slot_bytes == tx->ring.slot_bytes);
		packet_rx_close(rx);
		packet_tx_close(tx);
	}
}

static void a_sleeping_port_is_woken_by_the_next_frame(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");

	(void)state;
	wakes_from_sleep(p, station);
	close(station);
	host_end();
}

static void count_test_frame(void *arg, struct frame *f)
{
	*(unsigned *)arg += be16_get(f->data + 12) == ETH_P_TEST;
}

static void frames_without_a_slot_are_counted_as_lost(void **state)
{
	enum { N = 1500 };
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	uint8_t frame[60];
	unsigned n = 0;

	(void)state;
	make_frame(frame, sizeof(frame), 0);
	for (unsigned i = 0; i < N; i++)
		station_send(station, frame, sizeof(frame));
	p->ops->attend(p);
	poll_until_quiet(p, count_test_frame, &n);
	assert_int_equal(n, packet_of(p)->rx->ring.n);
	assert_int_equal(n + drops(p, DROP_KERNEL_LOST), N);
	close(station);
	host_end();
}

static void what_goes_out_does_not_come_back(void **state)
{
	struct port *p = open_port(1500, 1500);
	int host_station = station_open("near");
	uint8_t frame[60];

	(void)state;
	inbox_reset(ETH_P_TEST);
	port_send(p, frame, make_frame(frame, sizeof(frame), 0), 1);
	port_flush(p);
	station_send(host_station, frame, sizeof(frame)); /* nor does what the host sends */
	inbox_await(p, 0);
	close(host_station);
	host_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		veth_test(frames_of_all_sizes_pass_both_ways),
		veth_test(frames_longer_than_a_slot_come_in_whole_and_in_order),
		veth_test(the_longest_frames_pass_both_ways),
		veth_test(memory_is_bounded_whatever_the_mtu),
		veth_test(a_sleeping_port_is_woken_by_the_next_frame),
		veth_test(frames_without_a_slot_are_counted_as_lost),
		veth_test(what_goes_out_does_not_come_back),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
