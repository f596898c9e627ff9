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
#define MTU_USUAL    1500
#define WIRE_MTU_MAX 9216        /* what NICs and switches carry at most */
#define FEATURE_MTU  (1ull << 3) /* VIRTIO_NET_F_MTU */

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

/* A driver that did not ask for the MTU goes by the usual one, whatever the port's is. */
static void check_guest_mtu(struct doctor *d, const char *name, const json_t *port)
{
	long mtu = (long)number_of(port, "mtu");
	bool told = strtoull(text_of(json_object_get(port, "detail"), "features"), NULL, 16) & FEATURE_MTU;
	char remedy[REMEDY_BYTES];

	if (told || mtu == MTU_USUAL)
		return;
	snprintf(remedy, sizeof(remedy), "set it in the guest: ip link set dev IFNAME mtu %ld", mtu);
	finding(d, WARN, remedy, "%s: its MTU is %ld, but the guest's driver was not told (flue port show %s)", name,
		mtu, name);
}

void check_guest_port(struct doctor *d, const json_t *port)
{
	const char *name = text_of(port, "name"), *state = text_of(port, "state"), *path = text_of(port, "socket");
	bool listens = strcmp(text_of(port, "role"), "listen") == 0;

	if (listens)
		check_guest_socket(d, name, path);
	if (strcmp(state, "up") == 0) {
		check_up(d, name, json_object_get(port, "counters"));
		check_guest_mtu(d, name, port);
	} else if (strcmp(state, "broken") == 0)
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

/* Drivers that say of a frame they have merged how to cut it again; of others the kernel drops such frames before they
 * reach a packet socket. What the kernel itself merges (GRO) is passed on as it is. */
static bool merges_in_full_view(int fd, struct ifreq *r)
{
	static const char *const good[] = {"virtio_net", "vmxnet3"};
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};

	r->ifr_data = (void *)&info;
	if (ioctl(fd, SIOCETHTOOL, r) < 0)
		return false;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (strcmp(info.driver, good[i]) == 0)
			return true;
	return false;
}

static void check_lro(struct doctor *d, const char *name, const char *netns, int fd, struct ifreq *r)
{
	char remedy[REMEDY_BYTES];

	if (ethtool_flag(fd, r, ETHTOOL_GFLAGS, ETH_FLAG_LRO) && !merges_in_full_view(fd, r))
		finding(d, WARN, in_netns(netns, remedy, sizeof(remedy), "ethtool -K %s lro off", r->ifr_name),
			"%s: %s merges frames it receives in hardware (LRO), and its driver may not say how to cut "
			"them "
			"again: those are lost",
			name, r->ifr_name);
}

/* Frames that are longer than either of them do not pass. */
static void check_interface_mtu(struct doctor *d, const char *name, const char *netns, long mtu, const struct ifreq *r)
{
	char remedy[REMEDY_BYTES];

	if (r->ifr_mtu < mtu) {
		finding(d, FAIL, in_netns(netns, remedy, sizeof(remedy), "ip link set %s mtu %ld", r->ifr_name, mtu),
			"%s: MTU %ld asked, but %s carries %d", name, mtu, r->ifr_name, r->ifr_mtu);
	} else if (r->ifr_mtu > mtu && mtu < WIRE_MTU_MAX) {
		snprintf(remedy, sizeof(remedy), "flue port set %s mtu=%d", name,
			 r->ifr_mtu < WIRE_MTU_MAX ? r->ifr_mtu : WIRE_MTU_MAX);
		finding(d, WARN, remedy,
			"%s: %s carries %d, but the port's MTU is %ld: longer frames are not sent there", name,
			r->ifr_name, r->ifr_mtu, mtu);
	}
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
	check_interface_mtu(d, name, netns, mtu, &r);
	if (strcmp(state, "up") == 0)
		finding(d, FINE, NULL, "%s: up on %s", name, r.ifr_name);
	else
		finding(d, WARN, in_netns(netns, remedy, sizeof(remedy), "ip link set %s up", r.ifr_name), "%s: %s%s%s",
			name, state, *text_of(port, "reason") ? ": " : "", text_of(port, "reason"));
	if (strcmp(text_of(port, "kind"), "packet") == 0)
		check_lro(d, name, netns, fd, &r);
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

static bool is_guest(const json_t *port)
{
	return strcmp(text_of(port, "kind"), "guest") == 0;
}

/* No wire carries what this guest may send. */
static void check_wire(struct doctor *d, const json_t *ports)
{
	bool wired = false;
	json_t *p;
	size_t i;

	json_array_foreach (ports, i, p)
		wired |= !is_guest(p);
	json_array_foreach (ports, i, p)
		if (wired && is_guest(p) && number_of(p, "mtu") > WIRE_MTU_MAX)
			finding(d, WARN,
				"if it is to reach the network outside: flue port set NAME mtu=9000, as the wire has "
				"it",
				"%s: its MTU is %s, and no interface carries more than %d", text_of(p, "name"),
				number_text(number_of(p, "mtu")), WIRE_MTU_MAX);
}

/* Frames that fit their sender's port and not their receiver's are dropped; guests that do not hear of it take that for a
 * lossy network. */
static void compare(struct doctor *d, const json_t *large, const json_t *small)
{
	bool told = json_is_true(json_object_get(large, "too_big_reply"));

	finding(d, WARN, "give ports that talk to each other the same MTU: flue port set NAME mtu=...",
		"%s has MTU %s and %s has %s: longer frames to the latter are dropped (too_big)%s",
		text_of(large, "name"), number_text(number_of(large, "mtu")), text_of(small, "name"),
		number_text(number_of(small, "mtu")),
		told ? ", and IP senders are told" : ", and nobody is told (too_big_reply is off)");
}

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
		compare(d, largest, smallest);
	check_wire(d, ports);
}
