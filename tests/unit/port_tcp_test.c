/* SPDX-License-Identifier: Apache-2.0 */
/* Two hosts with Linux's own TCP, which hands down frames of 64 KiB with unfinished checksums, and the test between them
 * as the switch: what one kernel port yields the other sends. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/wait.h>

#include "port/packet.h"
#include "port/tap.h"
#include "port_station.h"

#define TCP_BYTES (24u << 20)
#define TCP_PORT  5000

struct link {
	struct port *in, *out;
	unsigned frames, longest, unfinished;
};

/* ---- the hosts: child processes in namespaces of their own ---- */

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at * 31 >> 5);
}

static socklen_t address(int family, unsigned host_id, struct sockaddr_storage *sa)
{
	struct sockaddr_in *in4 = (void *)sa;
	struct sockaddr_in6 *in6 = (void *)sa;

	memset(sa, 0, sizeof(*sa));
	sa->ss_family = (sa_family_t)family;
	if (family == AF_INET) {
		in4->sin_port = htons(TCP_PORT);
		in4->sin_addr.s_addr = htonl(0xc6336400 + host_id);
		return sizeof(*in4);
	}
	in6->sin6_port = htons(TCP_PORT);
	memcpy(&in6->sin6_addr, "\x20\x01\x0d\xb8", 4);
	in6->sin6_addr.s6_addr[15] = (uint8_t)host_id;
	return sizeof(*in6);
}

static int run_server(int family)
{
	static uint8_t buf[1 << 16];
	struct sockaddr_storage sa;
	socklen_t size = address(family, 2, &sa);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), conn;
	uint32_t at = 0;
	ssize_t n;

	if (bind(fd, (struct sockaddr *)&sa, size) || listen(fd, 1))
		return 10;
	conn = accept(fd, NULL, NULL);
	while ((n = read(conn, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			if (buf[i] != pattern(at++))
				return 11;
	return n < 0 || at != TCP_BYTES || write(conn, "k", 1) != 1 ? 12 : 0;
}

static int run_client(int family)
{
	static uint8_t buf[1 << 18];
	struct sockaddr_storage sa;
	socklen_t size = address(family, 2, &sa);
	int fd = -1;

	for (unsigned try = 0; fd < 0 && try < 50; try++) { /* the server may not listen yet */
		fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&sa, size)) {
			close(fd);
			fd = -1;
			usleep(100000);
		}
	}
	for (uint32_t at = 0; at < TCP_BYTES;) {
		ssize_t n;

		for (uint32_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(at + i);
		n = write(fd, buf, min_u32(sizeof(buf), TCP_BYTES - at));
		if (n <= 0)
			return 21;
		at += (uint32_t)n;
	}
	return shutdown(fd, SHUT_WR) || read(fd, buf, 1) != 1 || buf[0] != 'k' ? 22 : 0;
}

/* A host whose interface will be @ifname; its child process runs as soon as host_go() is called. */
struct peer {
	pid_t pid;
	int go;
};

static void host_fork(struct peer *h, unsigned id, const char *ifname, int family, int (*run)(int family))
{
	int ready[2], go[2];
	char c;

	assert_int_equal(pipe(ready) | pipe(go), 0);
	h->pid = fork();
	if (h->pid == 0) {
		if (unshare(CLONE_NEWNET) || write(ready[1], "r", 1) != 1 || read(go[0], &c, 1) != 1)
			_exit(1);
		alarm(60);
		if (sh("ip link set lo up; ip addr add 198.51.100.%u/24 dev %s && "
		       "ip addr add 2001:db8::%u/64 dev %s nodad && ip link set %s up",
		       id, ifname, id, ifname, ifname))
			_exit(2);
		_exit(run(family));
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	h->go = go[1];
	must("ip link set %s netns %d", ifname, h->pid);
}

static void host_go(struct peer *h)
{
	assert_int_equal(write(h->go, "g", 1), 1);
	close(h->go);
}

static bool has_ended(struct peer *h)
{
	int status;

	if (h->pid == 0)
		return true;
	if (waitpid(h->pid, &status, WNOHANG) != h->pid)
		return false;
	h->pid = 0;
	assert_int_equal(status, 0);
	return true;
}

/* ---- the switch ---- */

static void pass_on(void *arg, struct frame *f)
{
	static uint8_t whole[FRAME_LONGEST];
	struct link *l = arg;
	uint32_t len = flatten(f, whole);
	uint16_t type = be16_get(whole + 12);

	assert_true((f->off.gso_type ? f->off.hdr_len + f->off.gso_size : len) <= 1514);
	if (len > l->longest)
		l->longest = len;
	if (f->off.flags & NET_HDR_F_NEEDS_CSUM)
		l->unfinished++;
	else if ((type == ETH_P_IP4 && whole[23] == IPPROTO_TCP) || (type == ETH_P_IP6 && whole[20] == IPPROTO_TCP))
		assert_checksums(whole, len);
	l->frames++;
	l->out->ops->tx(l->out, &f, 1, WORKER);
}

static void switch_once(struct link *l)
{
	port_poll(l->in, pass_on, l);
	port_flush(l->out);
	event_base_loop(host.events, EVLOOP_NONBLOCK);
}

static struct port *open_packet(const char *ifname)
{
	struct packet_conf conf = {.name = ifname, .ifname = ifname, .mtu = 1500};
	struct err e = {0};
	struct port *p = packet_new(&conf, &port_host, &e);

	if (!p || p->ops->start(p, &e))
		give_up(&e);
	return p;
}

static struct port *open_tap(const char *ifname)
{
	struct tap_conf conf = {.name = ifname, .ifname = ifname, .mtu = 1500};
	struct err e = {0};
	struct port *p = tap_new(&conf, &port_host, &e);

	if (!p || p->ops->start(p, &e))
		give_up(&e);
	return p;
}

/* A port whose interface, for the host, is "host" and the number. */
static struct port *open_side(bool is_tap, unsigned number)
{
	char ifname[IFNAMSIZ];

	snprintf(ifname, sizeof(ifname), "%s%u", is_tap ? "host" : "port", number);
	if (is_tap)
		return open_tap(ifname);
	must("ip link add port%u type veth peer name host%u && ip link set port%u up", number, number, number);
	return open_packet(ifname);
}

static void transfer(int family, bool from_tap, bool to_tap)
{
	struct peer client, server;
	uint64_t end_ns = time_now_ns() + 60 * NS_PER_S;
	struct link there, back;

	host_begin();
	host.port = open_side(from_tap, 1);
	host.second = open_side(to_tap, 2);
	there = (struct link){.in = host.port, .out = host.second};
	back = (struct link){.in = host.second, .out = host.port};
	host_fork(&client, 1, "host1", family, run_client);
	host_fork(&server, 2, "host2", family, run_server);
	host_go(&server);
	host_go(&client);
	for (bool done = false; !done && time_now_ns() < end_ns;) {
		for (unsigned i = 0; i < 100; i++) {
			switch_once(&there);
			switch_once(&back);
		}
		done = has_ended(&client);
		done = has_ended(&server) && done;
	}
	assert_int_equal(client.pid | server.pid, 0);
	assert_true(there.longest > 10 * 1460); /* or it was a test of nothing */
	assert_true(there.frames < TCP_BYTES / 1460);
	assert_true(there.unfinished > 0 && back.unfinished > 0);
	print_message("%u frames there, of %u bytes at most; %u back; %u lost\n", there.frames, there.longest,
		      back.frames, (unsigned)(all_drops(host.port) + all_drops(host.second)));
	host_end();
}

static int unplug(void **state)
{
	host_clean(state);
	sh("ip link del port1 2>/dev/null; ip link del port2 2>/dev/null");
	return 0;
}

static void tcp_over_ipv4_between_packet_ports(void **state)
{
	(void)state;
	transfer(AF_INET, false, false);
}

static void tcp_over_ipv6_between_packet_ports(void **state)
{
	(void)state;
	transfer(AF_INET6, false, false);
}

static void tcp_over_ipv4_from_packet_to_tap(void **state)
{
	(void)state;
	transfer(AF_INET, false, true);
}

static void tcp_over_ipv6_from_tap_to_packet(void **state)
{
	(void)state;
	transfer(AF_INET6, true, false);
}

static void tcp_over_ipv4_between_taps(void **state)
{
	(void)state;
	transfer(AF_INET, true, true);
}

static void tcp_over_ipv6_between_taps(void **state)
{
	(void)state;
	transfer(AF_INET6, true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(tcp_over_ipv4_between_packet_ports, unplug),
		cmocka_unit_test_teardown(tcp_over_ipv6_between_packet_ports, unplug),
		cmocka_unit_test_teardown(tcp_over_ipv4_from_packet_to_tap, unplug),
		cmocka_unit_test_teardown(tcp_over_ipv6_from_tap_to_packet, unplug),
		cmocka_unit_test_teardown(tcp_over_ipv4_between_taps, unplug),
		cmocka_unit_test_teardown(tcp_over_ipv6_between_taps, unplug),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
