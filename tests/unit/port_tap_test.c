/* SPDX-License-Identifier: Apache-2.0 */
#include "port/tap.h"

#include <arpa/inet.h>
#include <sys/ioctl.h>

#include "port_giant.h"
#include "wire/l4.h"

static struct port *open_tap(unsigned mtu)
{
	struct tap_conf conf = {.name = "t", .ifname = "flutap", .mtu = mtu};
	struct err e = {0};

	return start(tap_new(&conf, host_begin(), &e), &e);
}

static struct err refusal(const struct tap_conf *conf)
{
	struct err e = {0};

	assert_null(tap_new(conf, host_begin(), &e));
	host_end();
	return e;
}

static void frames_of_all_sizes_pass_both_ways(void **state)
{
	struct port *p = open_tap(9000);
	int station = station_open("flutap");
	struct port_totals t;

	(void)state;
	shapes_come_in(p, station, 9000);
	shapes_go_out(p, station, 9000);
	port_totals(p, &t);
	assert_int_equal(t.tx_frames, 3 * ARRAY_SIZE(shapes));
	assert_true(t.rx_frames >= ARRAY_SIZE(shapes)); /* the kernel may say something too */
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

static void more_frames_than_a_batch_keep_their_order(void **state)
{
	enum { N = 300 };
	static uint8_t sent[N][1514];
	struct port *p = open_tap(1500);
	int station = station_open("flutap");

	(void)state;
	inbox_reset(ETH_P_TEST);
	for (unsigned i = 0; i < N; i++)
		station_send(station, sent[i], make_frame(sent[i], i % 3 ? 1514 : 60 + i, 0));
	assert_in_range(port_poll(p, inbox_add, &inbox), FRAME_BATCH / 2, FRAME_BATCH);
	assert_true(p->ops->rx_sleep(p, 0)); /* there are more */
	inbox_await(p, N);
	for (unsigned i = 0; i < N; i++)
		assert_memory_equal(inbox.f[i].bytes, sent[i], inbox.f[i].len);
	close(station);
	host_end();
}

static void a_frame_in_thousands_of_pieces_goes_out_whole(void **state)
{
	static uint8_t sent[9014], got[FRAME_LONGEST];
	struct port *p = open_tap(9000);
	int station = station_open("flutap");

	(void)state;
	for (unsigned pieces = 1022; pieces <= 1026; pieces++) {
		port_send(p, sent, make_frame(sent, sizeof(sent), 0), pieces);
		assert_int_equal(station_receive(station, got, WAIT_S * 1000), sizeof(sent));
		assert_memory_equal(got, sent, sizeof(sent));
	}
	close(station);
	host_end();
}

static void a_sleeping_port_is_woken_by_the_next_frame(void **state)
{
	struct port *p = open_tap(1500);
	int station = station_open("flutap");

	(void)state;
	wakes_from_sleep(p, station);
	close(station);
	host_end();
}

static void unfinished_checksums_of_local_sockets_are_told(void **state)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(0xc6336402)};
	const struct frame_offload want = {.flags = NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
	uint8_t data[1000];
	struct port *p = open_tap(1500);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	must("ip addr add 198.51.100.1/24 dev flutap");
	must("ip neigh add 198.51.100.2 lladdr 02:00:00:00:00:02 dev flutap");
	inbox_reset(ETH_P_IP4);
	rnd_fill(data, sizeof(data));
	assert_int_equal(sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&to, sizeof(to)), sizeof(data));
	inbox_await(p, 1);
	assert_int_equal(inbox.f[0].len, 14 + 20 + 8 + sizeof(data));
	assert_same_offload(&inbox.f[0].off, &want);
	assert_memory_equal(inbox.f[0].bytes + 42, data, sizeof(data));
	assert_int_equal(l4_csum_finish(inbox.f[0].bytes, inbox.f[0].len, NULL, 0, 34, 6), 0);
	assert_checksums(inbox.f[0].bytes, inbox.f[0].len);
	close(fd);
	host_end();
}

static struct port *open_tap_without(uint32_t off)
{
	struct tap_conf conf = {.name = "t", .ifname = "flutap", .mtu = 1500, .offloads_off = off};
	struct err e = {0};

	return start(tap_new(&conf, host_begin(), &e), &e);
}

static void giants_pass_both_ways_whole(void **state)
{
	struct port *p = open_tap(1500);
	int station = giant_station(station_open("flutap"));

	(void)state;
	giants_come_in(p, station);
	giants_go_out(p, station, false);
	assert_int_equal(all_drops(p), 0);
	crumbs_are_refused(p, station);
	close(station);
	host_end();
}

static void many_giants_come_in_order(void **state)
{
	enum { N = 100 };
	static struct giant_frame want;
	struct port *p = open_tap(1500);
	int station = giant_station(station_open("flutap"));
	static struct kept kept;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < N; i++)
		send_giant(station, &giants[i % 2], i);
	while (n < N) {
		unsigned got;

		batch.n = batch.n_spans = 0;
		got = p->ops->rx(p, 0, &batch, WORKER);
		assert_in_range(got, 1, 32);
		for (unsigned i = 0; i < got; i++, n++) { /* all of a batch are there at once */
			keep(&kept, &batch.f[i]);
			assert_int_equal(kept.len, make_giant(&want, &giants[n % 2], n));
			assert_memory_equal(kept.bytes, want.bytes, kept.len);
		}
		p->ops->rx_done(p, 0);
	}
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED 1 /* its shadow is memory, too */
#else
#define IS_SANITIZED 0
#endif

static unsigned long resident_kib(void)
{
	unsigned long size = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &size, &pages), 2);
	fclose(f);
	return pages * 4;
}

static void ignore(void *arg, struct frame *f)
{
	(void)arg;
	(void)f;
}

static void small_frames_need_little_memory(void **state)
{
	const unsigned long little_kib = IS_SANITIZED ? 2000 : 80;
	static uint8_t frame[1514];
	struct port *p = open_tap(1500);
	int station = station_open("flutap");
	unsigned long before_kib;

	(void)state;
	make_frame(frame, sizeof(frame), 0);
	station_send(station, frame, sizeof(frame));
	poll_until_quiet(p, ignore, NULL);
	before_kib = resident_kib();
	for (unsigned i = 0; i < 300; i++)
		station_send(station, frame, sizeof(frame));
	poll_until_quiet(p, ignore, NULL);
	assert_true(resident_kib() < before_kib + little_kib); /* 32 of them at once */
	close(station);
	host_end();
}

static void what_is_switched_off_the_kernel_does(void **state)
{
	const struct giant *g = &giants[0];
	struct port *p = open_tap_without(OFFLOAD_TSO4);
	int station = giant_station(station_open("flutap"));
	unsigned n = (g->payload + g->gso_size - 1) / g->gso_size;

	(void)state;
	inbox_reset(ETH_P_IP4);
	send_giant(station, g, 0);
	inbox_await(p, n);
	assert_int_equal(inbox.f[0].len, 66 + g->gso_size);
	assert_int_equal(inbox.f[0].off.gso_type, 0);
	host_end();
	close(station);
	p = open_tap_without(OFFLOAD_CSUM);
	station = giant_station(station_open("flutap"));
	inbox_reset(ETH_P_IP4);
	send_giant(station, g, 0);
	inbox_await(p, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(inbox.f[i].off.flags, 0);
		assert_checksums(inbox.f[i].bytes, inbox.f[i].len);
	}
	close(station);
	host_end();
}

static void what_is_agreed_is_shown(void **state)
{
	static const struct {
		uint32_t off, takes;
		const char *shown, *missing;
	} cases[] = {
		{0, OFFLOAD_ALL, "csum tso4 tso6 ecn uso4 uso6", ""},
		{OFFLOAD_TSO6, OFFLOAD_ALL & ~OFFLOAD_TSO6, "csum tso4 ecn uso4 uso6", "tso6: switched off"},
		{OFFLOAD_USO6, OFFLOAD_ALL & ~(OFFLOAD_USO4 | OFFLOAD_USO6), "csum tso4 tso6 ecn",
		 "uso6: switched off; uso4: need what is switched off"},
		{OFFLOAD_CSUM, 0, "none", "csum: switched off; tso4 tso6 ecn uso4 uso6: need what is switched off"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct port *p = open_tap_without(cases[i].off);
		struct port_info info = info_of(p);

		assert_int_equal(atomic_load(&p->takes), cases[i].takes);
		assert_string_equal(detail_of(&info, "offloads"), cases[i].shown);
		assert_string_equal(detail_of(&info, "offloads_missing"), cases[i].missing);
		host_end();
	}
}

static void the_mtu_changes_while_it_runs(void **state)
{
	struct port *p = open_tap(1500);
	int station = station_open("flutap");
	struct err e = {0};

	(void)state;
	shapes_come_in(p, station, 1500);
	assert_int_equal(p->ops->set_mtu(p, 9000, &e), 0);
	assert_int_equal(atomic_load(&p->mtu), 9000);
	must("ip -o link show flutap | grep -q ' mtu 9000 '");
	assert_int_equal(host.n_added, 1); /* its worker need not know */
	shapes_come_in(p, station, 9000);
	shapes_go_out(p, station, 9000);
	assert_int_equal(p->ops->set_mtu(p, 68, &e), 0);
	shapes_come_in(p, station, 68);
	assert_int_equal(p->ops->set_mtu(p, 65535, &e), -EINVAL); /* the kernel's limit is 65521 */
	assert_string_equal(e.field, "mtu");
	assert_int_equal(atomic_load(&p->mtu), 68);
	close(station);
	host_end();
}

static void frames_longer_than_the_mtu_come_in_whole(void **state)
{
	struct port *p = open_tap(1500);
	int station = station_open("flutap");

	(void)state;
	must("ip link set flutap mtu 9000"); /* somebody else's idea; whom it is for decides */
	shapes_come_in(p, station, 9000);
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

static void an_interface_switched_off_is_down_until_switched_on(void **state)
{
	struct port *p = open_tap(1500);
	uint8_t frame[60];
	int station;

	(void)state;
	must("ip link set flutap down");
	/* before control has noticed: */
	port_send(p, frame, make_frame(frame, sizeof(frame), 0), 1);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	assert_true(atomic_load(&p->attention));
	p->ops->attend(p);
	assert_false(atomic_load(&p->up));
	assert_int_equal(info_of(p).state, PORT_DOWN);
	assert_non_null(strstr(info_of(p).reason, "ip link set flutap up"));
	assert_int_equal(host.n_link_changes, 2);
	must("ip link set flutap up");
	await_link(p, true);
	assert_int_equal(info_of(p).state, PORT_UP);
	station = station_open("flutap");
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	close(station);
	host_end();
}

static void a_deleted_interface_is_down_and_does_no_harm(void **state)
{
	struct port *p = open_tap(1500);
	uint8_t frame[60];

	(void)state;
	must("ip link del flutap");
	await_link(p, false);
	assert_non_null(strstr(info_of(p).reason, "deleted"));
	port_send(p, frame, make_frame(frame, sizeof(frame), 0), 1);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	inbox_reset(ETH_P_TEST);
	assert_int_equal(port_poll(p, inbox_add, &inbox), 0);
	assert_false(p->ops->rx_sleep(p, 0));
	host_end();
}

static void an_interface_moved_away_or_renamed_goes_on(void **state)
{
	struct port *p = open_tap(1500);
	struct port_info info;
	int station;

	(void)state;
	must("ip link set flutap down && ip link set flutap name fluren && ip link set fluren up");
	p->ops->attend(p);
	assert_true(atomic_load(&p->up));
	assert_string_equal(info_of(p).detail[0].value, "fluren");
	must("ip link set fluren netns %s && ip -n %s link set fluren up", net_far, net_far);
	p->ops->attend(p);
	assert_true(atomic_load(&p->up));
	info = info_of(p);
	assert_string_equal(detail_of(&info, "moved"),
			    "the interface was moved to another namespace; its state is not known");
	station = far_station("fluren");
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	close(station);
	host_end();
}

static void it_can_be_made_in_a_namespace(void **state)
{
	struct tap_conf conf = {.name = "t", .ifname = "flutap", .netns = net_far, .mtu = 1500};
	struct err e = {0};
	struct port *p;
	int station;

	(void)state;
	p = start(tap_new(&conf, host_begin(), &e), &e);
	assert_int_equal(if_nametoindex("flutap"), 0);
	station = far_station("flutap");
	shapes_come_in(p, station, 1500);
	shapes_go_out(p, station, 1500);
	must("ip -n %s link set flutap down", net_far);
	await_link(p, false);
	assert_non_null(strstr(info_of(p).reason, net_far));
	close(station);
	host_end();
	assert_int_not_equal(sh("ip -n %s link show flutap >/dev/null 2>&1", net_far), 0);
}

static void it_goes_with_its_port(void **state)
{
	(void)state;
	open_tap(1500);
	assert_int_not_equal(if_nametoindex("flutap"), 0);
	host_end();
	assert_int_equal(if_nametoindex("flutap"), 0);
}

static void impossible_settings_are_refused_with_reasons(void **state)
{
	static const struct {
		struct tap_conf conf;
		int code;
		const char *field, *says;
	} bad[] = {
		{{.name = "t", .ifname = "", .mtu = 1500}, -EINVAL, "ifname", "0 characters"},
		{{.name = "t", .ifname = "sixteencharacter", .mtu = 1500}, -EINVAL, "ifname", "16 characters"},
		{{.name = "t", .ifname = "a/b", .mtu = 1500}, -EINVAL, "ifname", "a/b"},
		{{.name = "t", .ifname = "a b", .mtu = 1500}, -EINVAL, "ifname", "a b"},
		{{.name = "t", .ifname = "tap%d", .mtu = 1500}, -EINVAL, "ifname", "tap%d"},
		{{.name = "t", .ifname = "..", .mtu = 1500}, -EINVAL, "ifname", ".."},
		{{.name = "t", .ifname = "lo", .mtu = 1500}, -EEXIST, "ifname", "lo"},
		{{.name = "t", .ifname = "x", .netns = "no-such", .mtu = 1500}, -ENOENT, "netns", "no-such"},
		{{.name = "t", .ifname = "x", .netns = "../x", .mtu = 1500}, -EINVAL, "netns", "../x"},
		{{.name = "t", .ifname = "x", .mtu = 65535}, -EINVAL, "mtu", "65535"},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err e = refusal(&bad[i].conf);

		if (e.code != bad[i].code || strcmp(e.field, bad[i].field) || !strstr(e.text, bad[i].says) ||
		    !e.remedy[0])
			fail_msg("case %u: %d %s: %s (%s)", i, e.code, e.field, e.text, e.remedy);
	}
	assert_int_equal(if_nametoindex("x"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		net_test(frames_of_all_sizes_pass_both_ways),
		net_test(more_frames_than_a_batch_keep_their_order),
		net_test(a_frame_in_thousands_of_pieces_goes_out_whole),
		net_test(a_sleeping_port_is_woken_by_the_next_frame),
		net_test(unfinished_checksums_of_local_sockets_are_told),
		net_test(giants_pass_both_ways_whole),
		net_test(many_giants_come_in_order),
		net_test(small_frames_need_little_memory),
		net_test(what_is_switched_off_the_kernel_does),
		net_test(what_is_agreed_is_shown),
		net_test(the_mtu_changes_while_it_runs),
		net_test(frames_longer_than_the_mtu_come_in_whole),
		net_test(an_interface_switched_off_is_down_until_switched_on),
		net_test(a_deleted_interface_is_down_and_does_no_harm),
		net_test(an_interface_moved_away_or_renamed_goes_on),
		net_test(it_can_be_made_in_a_namespace),
		net_test(it_goes_with_its_port),
		net_test(impossible_settings_are_refused_with_reasons),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
