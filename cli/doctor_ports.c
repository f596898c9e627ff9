/* SPDX-License-Identifier: Apache-2.0 */
/* What flued says of its ports, held against the host. */
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"

#define REMEDY_BYTES 192 /* the longest name of a namespace, of an interface, and a command */

/* ---- guests ---- */

static void check_guest_socket(struct doctor *d, const char *name, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		finding(d, FAIL, "remove the port and add it again", "%s: its socket %s is gone: %s", name, path,
			strerror(errno));
	else if (!(st.st_mode & (S_IWGRP | S_IWOTH)))
		finding(d, WARN,
			"if QEMU runs as another user, make the port with group=GROUP (libvirt's QEMU is in kvm)",
			"%s: only flued's own user may connect to %s", name, path);
}

#define SHARE "give the VM memory that is a file, shared: memory-backend-memfd,share=on (flue qemu shows it)"

/* The driver runs and yet the VM lent no memory: it has none that can be lent. */
static void check_starting(struct doctor *d, const char *name, const json_t *detail)
{
	bool driver_runs = strtoull(text_of(detail, "features"), NULL, 16) != 0;

	if (driver_runs && strncmp(text_of(detail, "memory"), "0 MiB", 5) == 0)
		finding(d, FAIL, SHARE, "%s: the guest's driver runs, but its memory cannot be reached", name);
	else
		finding(d, WARN, "wait for the guest to boot; else see what its console says",
			"%s: a hypervisor is connected, but the guest's driver has not started", name);
}

/* Memory that is a file, but private to the VM, looks to us like a guest that never does anything. */
static void check_up(struct doctor *d, const char *name, const json_t *counters)
{
	if (number_of(counters, "rx_frames") == 0 && number_of(counters, "tx_frames") == 0)
		finding(d, WARN, SHARE ", or see whether its interface is up",
			"%s: up, but not one frame came from the guest or could be given to it", name);
	else
		finding(d, FINE, NULL, "%s: up", name);
}

void check_guest_port(struct doctor *d, const json_t *port)
{
	const char *name = text_of(port, "name"), *state = text_of(port, "state"), *path = text_of(port, "socket");
	bool listens = strcmp(text_of(port, "role"), "listen") == 0;

	if (listens)
		check_guest_socket(d, name, path);
	if (strcmp(state, "up") == 0)
		check_up(d, name, json_object_get(port, "counters"));
	else if (strcmp(state, "broken") == 0)
		finding(d, FAIL, "restart the guest; if it happens again, its driver or hypervisor is at fault",
			"%s: broken: %s", name, text_of(port, "reason"));
	else if (strcmp(state, "starting") == 0)
		check_starting(d, name, json_object_get(port, "detail"));
	else
		finding(d, WARN,
			listens ? "start the guest: flue qemu shows how" : "start the hypervisor: it must listen there",
			"%s: nobody is connected at %s", name, path);
}

/* ---- interfaces ---- */

/* A socket in the interface's namespace; our own thread comes back from there. -1 with errno. */
static int socket_in(const char *netns)
{
	char path[128];
	int own, other, fd;

	if (!*netns)
		return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(path, sizeof(path), "/var/run/netns/%s", netns);
	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	other = open(path, O_RDONLY | O_CLOEXEC);
	fd = own >= 0 && other >= 0 && setns(other, CLONE_NEWNET) == 0 ? socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
								       : -1;
	if (fd >= 0 && setns(own, CLONE_NEWNET) < 0) {
		close(fd);
		fd = -1;
	}
	if (own >= 0)
		close(own);
	if (other >= 0)
		close(other);
	return fd;
}

/* A command about the interface, to be run where it is. Returns @text. */
static const char *in_netns(const char *netns, char *text, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static const char *in_netns(const char *netns, char *text, size_t size, const char *fmt, ...)
{
	size_t n = *netns ? (size_t)snprintf(text, size, "ip netns exec %s ", netns) : 0;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, size - n, fmt, ap);
	va_end(ap);
	return text;
}

static bool ethtool_flag(int fd, struct ifreq *r, uint32_t command, uint32_t bit)
{
	struct ethtool_value v = {.cmd = command};

	r->ifr_data = (void *)&v;
	return ioctl(fd, SIOCETHTOOL, r) == 0 && (v.data & bit);
}

static void check_offloads(struct doctor *d, const char *name, const char *netns, int fd, struct ifreq *r)
{
	char remedy[REMEDY_BYTES];

	if (ethtool_flag(fd, r, ETHTOOL_GFLAGS, ETH_FLAG_LRO))
		finding(d, WARN, in_netns(netns, remedy, sizeof(remedy), "ethtool -K %s lro off", r->ifr_name),
			"%s: %s merges frames it receives (LRO), which must not be forwarded", name, r->ifr_name);
	if (ethtool_flag(fd, r, ETHTOOL_GGRO, ~0u))
		finding(d, WARN, in_netns(netns, remedy, sizeof(remedy), "ethtool -K %s gro off", r->ifr_name),
			"%s: %s merges frames (GRO) and the switch cuts them again: correct, but twice the work", name,
			r->ifr_name);
}

static void check_interface(struct doctor *d, const json_t *port, int fd)
{
	const char *name = text_of(port, "name"), *state = text_of(port, "state");
	const char *netns = text_of(port, "netns");
	long mtu = (long)number_of(port, "mtu");
	char remedy[REMEDY_BYTES];
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", text_of(port, "ifname"));
	if (ioctl(fd, SIOCGIFMTU, &r) < 0) {
		finding(d, FAIL, "create the interface, or remove the port", "%s: interface %s: %s", name, r.ifr_name,
			strerror(errno));
		return;
	}
	if (r.ifr_mtu < mtu)
		finding(d, FAIL, in_netns(netns, remedy, sizeof(remedy), "ip link set %s mtu %ld", r.ifr_name, mtu),
			"%s: MTU %ld asked, but %s carries %d", name, mtu, r.ifr_name, r.ifr_mtu);
	if (strcmp(state, "up") == 0)
		finding(d, FINE, NULL, "%s: up on %s", name, r.ifr_name);
	else
		finding(d, WARN, in_netns(netns, remedy, sizeof(remedy), "ip link set %s up", r.ifr_name), "%s: %s%s%s",
			name, state, *text_of(port, "reason") ? ": " : "", text_of(port, "reason"));
	if (strcmp(text_of(port, "kind"), "packet") == 0)
		check_offloads(d, name, netns, fd, &r);
}

void check_kernel_port(struct doctor *d, const json_t *port)
{
	const char *netns = text_of(port, "netns");
	int fd = socket_in(netns);

	if (fd < 0) {
		finding(d, WARN, "run doctor with sudo", "%s: namespace %s: %s", text_of(port, "name"), netns,
			strerror(errno));
		return;
	}
	check_interface(d, port, fd);
	close(fd);
}

/* Frames that fit their sender's port and not their receiver's are dropped; guests take that for a lossy network. */
void check_mtus(struct doctor *d, const json_t *ports)
{
	json_t *p, *smallest = NULL, *largest = NULL;
	size_t i;

	json_array_foreach (ports, i, p) {
		if (!smallest || number_of(p, "mtu") < number_of(smallest, "mtu"))
			smallest = p;
		if (!largest || number_of(p, "mtu") > number_of(largest, "mtu"))
			largest = p;
	}
	if (!smallest)
		return;
	if (number_of(smallest, "mtu") == number_of(largest, "mtu"))
		finding(d, FINE, NULL, "all ports have MTU %s", number_text(number_of(smallest, "mtu")));
	else
		finding(d, WARN, "give ports that talk to each other the same MTU: flue port set NAME mtu=...",
			"%s has MTU %s and %s has %s: longer frames to the latter are dropped (too_big)",
			text_of(largest, "name"), number_text(number_of(largest, "mtu")), text_of(smallest, "name"),
			number_text(number_of(smallest, "mtu")));
}
