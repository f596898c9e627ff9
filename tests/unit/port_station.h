/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <linux/if_packet.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "port_net.h"

/* A station on the wire: a raw socket that sends and receives frames as they are, and what every port must do with it. */

/* A raw socket on @ifname in the namespace we are in. */
static inline int station_open(const char *ifname)
{
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htobe16(0x0003)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, bytes = 32 << 20;
	struct packet_mreq member = {.mr_type = PACKET_MR_PROMISC};

	assert_true(fd >= 0);
	addr.sll_ifindex = member.mr_ifindex = (int)if_nametoindex(ifname);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &member, sizeof(member)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline int far_station(const char *ifname)
{
	int fd;

	far_enter();
	fd = station_open(ifname);
	far_leave();
	return fd;
}

static inline void station_send(int fd, const uint8_t *bytes, uint32_t len)
{
	assert_int_equal(write(fd, bytes, len), len);
}

/* Read one frame, with its tag put back, and before it @hdr_bytes of header to @hdr. Not positive: there was none, or an
 * error that was told with poll(). */
static inline ssize_t station_read(int fd, void *hdr, size_t hdr_bytes, uint8_t *out, bool *tagged)
{
	_Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct iovec iov[2] = {{hdr, hdr_bytes}, {out + 4, FRAME_LONGEST - 4}};
	struct msghdr msg = {
		.msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t len = recvmsg(fd, &msg, 0) - (ssize_t)hdr_bytes;
	struct cmsghdr *c = len < 0 ? NULL : CMSG_FIRSTHDR(&msg);
	struct tpacket_auxdata aux;

	if (!c)
		return -1;
	memcpy(&aux, CMSG_DATA(c), sizeof(aux));
	memmove(out, out + 4, 12);
	*tagged = aux.tp_status & TP_STATUS_VLAN_VALID;
	if (*tagged) {
		be32_put(out + 12, (uint32_t)aux.tp_vlan_tpid << 16 | aux.tp_vlan_tci);
		return len + 4;
	}
	memmove(out + 12, out + 16, (size_t)len - 12);
	return len;
}

/* The next frame of EtherType ETH_P_TEST; 0: none within @wait_ms. */
static inline uint32_t station_receive(int fd, uint8_t *out, int wait_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	while (poll(&pfd, 1, wait_ms) > 0) {
		bool tagged;
		ssize_t len = station_read(fd, NULL, 0, out, &tagged);

		if (len > 0 && be16_get(out + (tagged ? 16 : 12)) == ETH_P_TEST)
			return (uint32_t)len;
	}
	return 0;
}

/* The sizes and tags that are tried in both directions. */
static const struct {
	uint32_t len, tag;
	const char *what;
} shapes[] __attribute__((unused)) = {
	{60, 0, "the shortest frame"},
	{61, 0, "an odd length"},
	{64, 0x8100000a, "a tag"},
	{64, 0x8100e000, "a priority tag"},
	{127, 0, "one less than a head"},
	{128, 0, "a head exactly"},
	{129, 0, "a byte of body"},
	{132, 0x8100000a, "a tagged head"},
	{590, 0x88a80123, "a service tag"},
	{1514, 0, "the Ethernet maximum"},
	{1518, 0x8100500a, "the tagged maximum"},
	{2047, 0, "a byte less than a slot"},
	{4097, 0, "more than a page"},
	{9014, 0, "a jumbo frame"},
	{9018, 0x8100000a, "a tagged jumbo frame"},
};

/* Does this shape fit the MTU? */
static inline bool shape_fits(unsigned i, unsigned mtu)
{
	return shapes[i].len <= mtu + (shapes[i].tag ? 18 : 14);
}

/* Every shape that fits goes from the station into the port, byte for byte, in order. */
static inline void shapes_come_in(struct port *p, int station, unsigned mtu)
{
	static uint8_t sent[ARRAY_SIZE(shapes)][9100];
	unsigned n = 0, at = 0;

	inbox_reset(ETH_P_TEST);
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		if (!shape_fits(i, mtu))
			continue;
		make_frame(sent[i], shapes[i].len, shapes[i].tag);
		station_send(station, sent[i], shapes[i].len);
		n++;
	}
	inbox_await(p, n);
	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		if (!shape_fits(i, mtu))
			continue;
		if (inbox.f[at].len != shapes[i].len || memcmp(inbox.f[at].bytes, sent[i], shapes[i].len))
			fail_msg("rx: %s (%u bytes) arrived differently", shapes[i].what, shapes[i].len);
		assert_int_equal(inbox.f[at].off.flags | inbox.f[at].off.gso_type, 0);
		at++;
	}
}

/* And out of the port. */
static inline void shapes_go_out(struct port *p, int station, unsigned mtu)
{
	static const unsigned pieces[] = {1, 2, 7};
	static uint8_t sent[9100], got[FRAME_LONGEST];

	for (unsigned i = 0; i < ARRAY_SIZE(shapes); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(pieces) && shape_fits(i, mtu); k++) {
			make_frame(sent, shapes[i].len, shapes[i].tag);
			port_send(p, sent, shapes[i].len, pieces[k]);
			port_flush(p);
			if (station_receive(station, got, WAIT_S * 1000) != shapes[i].len ||
			    memcmp(got, sent, shapes[i].len))
				fail_msg("tx: %s (%u bytes, %u pieces) arrived differently", shapes[i].what,
					 shapes[i].len, pieces[k]);
		}
	}
	assert_int_equal(station_receive(station, got, 0), 0);
}

/* Is every checksum in this IPv4 or IPv6 frame right? TCP and UDP, no extension headers, at most one tag. */
static inline void assert_checksums(const uint8_t *b, uint32_t len)
{
	uint32_t l3 = be16_get(b + 12) == ETH_P_VLAN ? 18 : 14;
	const uint8_t *ip = b + l3;
	bool is_v4 = ip[0] >> 4 == 4;
	uint32_t l4 = is_v4 ? (ip[0] & 15) * 4u : 40, ip_len = is_v4 ? be16_get(ip + 2) : 40u + be16_get(ip + 4);

	assert_true(l3 + ip_len <= len);
	if (is_v4)
		assert_int_equal(slow_sum(0, ip, l4), 0xffff);
	assert_int_equal(slow_l4_sum(is_v4 ? 4 : 6, ip, is_v4 ? ip[9] : ip[6], ip + l4, ip_len - l4), 0xffff);
}

/* Does the port, asleep after it found nothing, make its descriptor readable when a frame comes? */
static inline void wakes_from_sleep(struct port *p, int station)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	uint8_t frame[60];

	assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, host.poll_fd, &event), 0);
	for (unsigned round = 0; round < 3; round++) {
		/* a batch can be full, or the kernel late: then the port does not sleep yet */
		do {
			inbox_reset(ETH_P_TEST);
			while (port_poll(p, inbox_add, &inbox))
				;
			assert_true(time_now_ns() < end_ns);
		} while (p->ops->rx_sleep(p, 0));
		while (epoll_wait(epoll_fd, &event, 1, 0) > 0)
			; /* edges of what was taken while awake */
		station_send(station, frame, make_frame(frame, sizeof(frame), 0));
		assert_int_equal(epoll_wait(epoll_fd, &event, 1, WAIT_S * 1000), 1);
		p->ops->rx_wake(p, 0);
		assert_true(p->ops->rx_sleep(p, 0)); /* there is something now */
		inbox_reset(ETH_P_TEST);
		inbox_await(p, 1);
	}
	close(epoll_fd);
}
