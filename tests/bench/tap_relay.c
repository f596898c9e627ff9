/* SPDX-License-Identifier: Apache-2.0 */
/* The program `tap_relay IFNAME IFNAME`: two taps with virtio-net headers and all offloads, and between them the least that
 * can be done: what is read from one is written to the other, header and frame as they are. What a switch costs beside
 * that is its own.
 *
 * The interfaces are made in the namespace it is started in; whoever starts it moves them to where they are used, when
 * the line "ready" has come. The end of standard input ends it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BUFFER_BYTES (10 + 14 + 8 + (1 << 16)) /* header, Ethernet, tags, 64 KiB of IP */
#define BATCH        32                        /* then it is the other's turn */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20 /* Linux 6.2 */
#define TUN_F_USO6 0x40
#endif
#define TCP_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)

static int tap_open(const char *ifname)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	if (fd >= 0 && !ioctl(fd, TUNSETIFF, &ifr) &&
	    (!ioctl(fd, TUNSETOFFLOAD, TCP_OFFLOADS | TUN_F_USO4 | TUN_F_USO6) ||
	     !ioctl(fd, TUNSETOFFLOAD, TCP_OFFLOADS)))
		return fd;
	fprintf(stderr, "tap_relay: %s: %s\n", ifname, strerror(errno));
	return -1;
}

/* Frames the receiver's kernel refuses, because its interface is down, are lost. */
static void relay(int from, int to)
{
	static uint8_t buffer[BUFFER_BYTES];
	ssize_t len;

	for (unsigned i = 0; i < BATCH && (len = read(from, buffer, sizeof(buffer))) > 0; i++)
		if (write(to, buffer, (size_t)len) < 0)
			return;
}

int main(int argc, char **argv)
{
	struct pollfd p[3] = {{.fd = STDIN_FILENO, .events = POLLIN}};
	char discard[64];

	if (argc != 3) {
		fprintf(stderr, "usage: tap_relay IFNAME IFNAME\n");
		return 2;
	}
	for (int i = 1; i <= 2; i++) {
		p[i] = (struct pollfd){.fd = tap_open(argv[i]), .events = POLLIN};
		if (p[i].fd < 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	while (poll(p, 3, -1) >= 0) {
		if (p[0].revents && read(STDIN_FILENO, discard, sizeof(discard)) <= 0)
			return 0;
		if (p[1].revents)
			relay(p[1].fd, p[2].fd);
		if (p[2].revents)
			relay(p[2].fd, p[1].fd);
	}
	return 1;
}
