/* SPDX-License-Identifier: Apache-2.0 */
#include "port/packet_priv.h"
#include "port_veth.h"

static void an_interface_that_is_down_refuses_and_recovers(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	struct port_info info;

	(void)state;
	must("ip link set near down");
	/* before control has noticed: */
	send_numbered(p, 1);
	port_flush(p);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	assert_true(atomic_load(&p->attention));
	p->ops->attend(p);
	assert_false(atomic_load(&p->up));
	info = info_of(p);
	assert_int_equal(info.state, PORT_DOWN);
	assert_non_null(strstr(info.reason, "ip link set near up"));
	assert_int_equal(host.n_link_changes, 2);
	must("ip link set near up");
	await_link(p, true);
	assert_int_equal(info_of(p).state, PORT_UP);
	assert_non_null(strstr(info_of(p).reason, "is down")); /* of the last break */
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	close(station);
	host_end();
}

static void a_lost_carrier_is_noticed(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station;

	(void)state;
	far_switch(false);
	await_link(p, false);
	assert_non_null(strstr(info_of(p).reason, "carrier"));
	far_switch(true);
	await_link(p, true);
	station = far_station("far");
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	close(station);
	host_end();
}

static void long_frames_come_in_after_the_interface_was_down(void **state)
{
	struct port *p = open_port(9000, 1500);
	int station = far_station("far");

	(void)state;
	must("ip link set near down");
	await_link(p, false);
	must("ip link set near up");
	await_link(p, true);
	shapes_come_in(p, station, 9000); /* though the socket keeps an error for its next reader */
	close(station);
	host_end();
}

static void a_deleted_interface_is_followed_when_it_comes_back(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station;

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		uint64_t refused = drops(p, DROP_KERNEL_REFUSED);

		must("ip link del near");
		send_numbered(p, 1);
		port_flush(p);
		assert_int_equal(drops(p, DROP_KERNEL_REFUSED), refused + 1);
		await_link(p, false);
		assert_non_null(strstr(info_of(p).reason, "does not exist"));
		inbox_reset(ETH_P_TEST);
		inbox_await(p, 0);
		plug(1500);
		await_link(p, true);
		station = far_station("far");
		shapes_come_in(p, station, 1500);
		shapes_go_out(p, station, 1500);
		close(station);
	}
	host_end();
}

static void a_renamed_interface_goes_on(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");

	(void)state;
	must("ip link set near down && ip link set near name fluren && ip link set fluren up");
	p->ops->attend(p);
	assert_string_equal(info_of(p).detail[0].value, "fluren");
	await_link(p, true);
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	close(station);
	host_end();
	must("ip link del fluren");
}

static void the_mtu_changes_while_it_runs(void **state)
{
	struct port *p = open_port(9000, 1500);
	int station = far_station("far");
	struct err e = {0};

	(void)state;
	shapes_come_in(p, station, 1500);
	assert_int_equal(p->ops->set_mtu(p, 9000, &e), 0);
	assert_int_equal(atomic_load(&p->mtu), 9000);
	assert_int_equal(host.n_added, 2);
	assert_true(host.n_quiesced > 0);
	assert_true(atomic_load(&p->up));
	shapes_come_in(p, station, 9000);
	shapes_go_out(p, station, 9000);
	assert_int_equal(p->ops->set_mtu(p, 1400, &e), 0);
	shapes_come_in(p, station, 9000);
	shapes_go_out(p, station, 1400);
	assert_int_equal(p->ops->set_mtu(p, 1450, &e), 0); /* rings of the same kind: they stay */
	assert_int_equal(host.n_added, 3);
	assert_int_equal(p->ops->set_mtu(p, 9001, &e), -EINVAL);
	assert_string_equal(e.remedy, "raise it with `ip link set near mtu 9001`");
	assert_int_equal(atomic_load(&p->mtu), 1450);
	shapes_come_in(p, station, 1450);
	shapes_go_out(p, station, 1450);
	close(station);
	host_end();
}

static void a_frame_longer_than_a_slot_does_not_leave_it(void **state)
{
	static uint8_t frame[9014];
	struct port *p = open_port(9000, 1500);
	const struct packet_ring *ring = &packet_of(p)->tx->ring;
	const uint8_t *next = (const uint8_t *)packet_slot(ring, 1);

	(void)state;
	/* so it can be for a moment, when the MTU has just become less */
	port_send(p, frame, make_frame(frame, sizeof(frame), 0), 1);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	for (uint32_t i = 0; i < ring->slot_bytes; i++)
		assert_int_equal(next[i], 0);
	host_end();
}

static void it_can_be_in_a_namespace(void **state)
{
	struct packet_conf conf = {.name = "p", .ifname = "far", .netns = net_far, .mtu = 1500};
	struct err e = {0};
	struct port *p;
	int station;

	(void)state;
	plug(9000);
	p = start(packet_new(&conf, host_begin(), &e), &e);
	station = station_open("near");
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	assert_int_equal(p->ops->set_mtu(p, 9000, &e), 0);
	shapes_come_in(p, station, 9000);
	shapes_go_out(p, station, 9000);
	must("ip -n %s link set far down", net_far);
	await_link(p, false);
	assert_non_null(strstr(info_of(p).reason, "ip -n "));
	close(station);
	host_end();
}

static void the_interface_is_promiscuous_as_long_as_the_port_exists(void **state)
{
	(void)state;
	open_port(1500, 1500);
	must("ip -d link show near | grep -q 'promiscuity [1-9]'");
	host_end();
	must("ip -d link show near | grep -q 'promiscuity 0'");
}

static void impossible_settings_are_refused_with_reasons(void **state)
{
	static const struct {
		struct packet_conf conf;
		int code;
		const char *field, *says, *remedy;
	} bad[] = {
		{{.name = "p", .ifname = "fluno", .mtu = 1500}, -ENODEV, "ifname", "fluno", "ip link"},
		{{.name = "p", .ifname = "near", .mtu = 9000},
		 -EINVAL,
		 "mtu",
		 "MTU 9000 asked, but interface near carries 1500",
		 "raise it with `ip link set near mtu 9000`"},
		{{.name = "p", .ifname = "lo", .mtu = 1500}, -EINVAL, "ifname", "lo is not an Ethernet", "choose"},
		{{.name = "p", .ifname = "far", .netns = net_far, .mtu = 1501},
		 -EINVAL,
		 "mtu",
		 "far carries 1500",
		 "`ip -n flue-test"},
		{{.name = "p", .ifname = "near", .netns = net_far, .mtu = 1500},
		 -ENODEV,
		 "ifname",
		 "in the namespace flue-test",
		 "`ip -n flue-test"},
		{{.name = "p", .ifname = "near", .netns = "no-such", .mtu = 1500},
		 -ENOENT,
		 "netns",
		 "no-such",
		 "ip netns add no-such"},
		{{.name = "p", .ifname = "seventeencharacte", .mtu = 1500}, -EINVAL, "ifname", "17", "15"},
	};

	(void)state;
	plug(1500);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = {0};

		assert_null(packet_new(&bad[i].conf, host_begin(), &e));
		host_end();
		if (e.code != bad[i].code || strcmp(e.field, bad[i].field) || !strstr(e.text, bad[i].says) ||
		    !strstr(e.remedy, bad[i].remedy))
			fail_msg("case %u: %d %s: %s (%s)", i, e.code, e.field, e.text, e.remedy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		veth_test(an_interface_that_is_down_refuses_and_recovers),
		veth_test(a_lost_carrier_is_noticed),
		veth_test(long_frames_come_in_after_the_interface_was_down),
		veth_test(a_deleted_interface_is_followed_when_it_comes_back),
		veth_test(a_renamed_interface_goes_on),
		veth_test(the_mtu_changes_while_it_runs),
		veth_test(a_frame_longer_than_a_slot_does_not_leave_it),
		veth_test(it_can_be_in_a_namespace),
		veth_test(the_interface_is_promiscuous_as_long_as_the_port_exists),
		veth_test(impossible_settings_are_refused_with_reasons),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
