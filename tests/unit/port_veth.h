/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/ioctl.h>

#include "port/packet.h"
#include "port_station.h"

/* A packet port on "near", whose peer "far" is in the other namespace. */
static inline void plug(unsigned mtu)
{
	must("ip link add near mtu %u type veth peer name far mtu %u netns %s", mtu, mtu, net_far);
	must("ip link set near up && ip -n %s link set far up", net_far);
}

static inline struct port *open_port(unsigned interface_mtu, unsigned mtu)
{
	struct packet_conf conf = {.name = "p", .ifname = "near", .mtu = mtu};
	struct err e = {0};

	plug(interface_mtu);
	return start(packet_new(&conf, host_begin(), &e), &e);
}

static inline int close_port(void **state)
{
	(void)state;
	host_clean(state);
	sh("ip link del near 2>/dev/null");
	return 0;
}
#define veth_test(f) cmocka_unit_test_teardown(f, close_port)

/* A frame of 200 bytes that can be told from others. */
static inline void send_numbered(struct port *p, unsigned n)
{
	uint8_t frame[200];

	make_frame(frame, sizeof(frame), 0);
	be32_put(frame + 14, n);
	port_send(p, frame, sizeof(frame), 1);
}

/* The other end of the cable; quick, unlike `ip`. */
static inline void far_switch(bool up)
{
	struct ifreq ifr = {.ifr_name = "far"};
	int fd;

	far_enter();
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
	far_leave();
}
