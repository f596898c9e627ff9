/* SPDX-License-Identifier: Apache-2.0 */
/* Interfaces and namespaces.
 *
 * The rtnetlink socket is only an alarm: its messages are thrown away, and what is asked afterwards is the truth. So
 * messages lost in a storm do no harm, and nothing is parsed.
 *
 * A socket belongs to the namespace it was opened in; therefore only opening needs to go there.
 */
#include "port/netif.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NETNS_DIR "/var/run/netns/" /* where `ip netns` keeps them */

int netif_name_check(const char *ifname, struct err *e)
{
	size_t len = strlen(ifname);

	if (len == 0 || len >= IFNAMSIZ)
		return err_set(e, -EINVAL, "ifname", "choose a name of 1 to 15 characters",
			       "the interface name \"%.64s\" has %zu characters", ifname, len);
	if (!strcmp(ifname, ".") || !strcmp(ifname, ".."))
		return err_set(e, -EINVAL, "ifname", "choose another name", "an interface cannot be named \"%s\"",
			       ifname);
	for (size_t i = 0; i < len; i++)
		if (!isgraph((unsigned char)ifname[i]) || strchr("/:%", ifname[i]))
			return err_set(e, -EINVAL, "ifname", "use letters, digits, '.', '_' and '-'",
				       "the interface name \"%s\" has a character that Linux does not allow", ifname);
	return 0;
}

static int netns_name_check(const char *netns, struct err *e)
{
	if (strlen(netns) < NETNS_NAME_MAX && !strchr(netns, '/') && strcmp(netns, ".") && strcmp(netns, ".."))
		return 0;
	return err_set(e, -EINVAL, "netns", "give the name of a namespace as `ip netns list` shows it",
		       "\"%.64s\" cannot be the name of a network namespace", netns);
}

static int netns_open(const char *netns, struct err *e)
{
	char path[sizeof(NETNS_DIR) + NETNS_NAME_MAX];
	char remedy[NETNS_NAME_MAX + 40];
	int fd;

	snprintf(path, sizeof(path), NETNS_DIR "%s", netns);
	snprintf(remedy, sizeof(remedy), "create it with `ip netns add %s`", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return err_set(e, -ENOENT, "netns", remedy, "there is no network namespace %s", netns);
	return err_set(e, -errno, "netns", NULL, "cannot open the network namespace %s: %s", netns, strerror(errno));
}

int netns_enter(const char *netns, int *own, struct err *e)
{
	int fd, err = 0;

	*own = -1;
	if (!netns || !*netns)
		return 0;
	if (netns_name_check(netns, e))
		return -EINVAL;
	fd = netns_open(netns, e);
	if (fd < 0)
		return fd;
	*own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (*own < 0 || setns(fd, CLONE_NEWNET))
		err = err_set(e, -errno, "netns", "flued needs CAP_SYS_ADMIN to enter a namespace",
			      "cannot enter the network namespace %s: %s", netns, strerror(errno));
	close(fd);
	if (err && *own >= 0) {
		close(*own);
		*own = -1;
	}
	return err;
}

void netns_leave(int own)
{
	int err;

	if (own < 0)
		return;
	err = setns(own, CLONE_NEWNET);
	/* What was allowed a moment ago, and now to our own namespace: nobody can take that back. */
	assert(err == 0);
	(void)err;
	close(own);
}

int netif_open(struct netif *n, const char *ifname, const char *netns, struct err *e)
{
	struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
	int err;

	*n = (struct netif){.fd = -1};
	snprintf(n->name, sizeof(n->name), "%s", ifname);
	snprintf(n->netns, sizeof(n->netns), "%s", netns ? netns : "");
	n->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (n->fd >= 0 && !bind(n->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	err = err_set(e, -errno, "ifname", NULL, "cannot watch network interfaces: %s", strerror(errno));
	netif_close(n);
	return err;
}

static void on_netlink(evutil_socket_t fd, short what, void *arg)
{
	struct netif *n = arg;
	char discard[4096];

	(void)what;
	/* ENOBUFS says that messages were lost, which is no different from having read them. */
	while (recv(fd, discard, sizeof(discard), MSG_DONTWAIT | MSG_TRUNC) >= 0 || errno == ENOBUFS)
		;
	n->changed(n->arg);
}

int netif_watch(struct netif *n, struct event_base *events, void (*changed)(void *arg), void *arg)
{
	n->changed = changed;
	n->arg = arg;
	n->event = event_new(events, n->fd, EV_READ | EV_PERSIST, on_netlink, n);
	return n->event && !event_add(n->event, NULL) ? 0 : -ENOMEM;
}

void netif_close(struct netif *n)
{
	if (n->event)
		event_free(n->event);
	if (n->fd >= 0)
		close(n->fd);
	n->event = NULL;
	n->fd = -1;
}

static struct ifreq request(const struct netif_state *s)
{
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, s->name, sizeof(ifr.ifr_name));
	return ifr;
}

/* Name and index: see struct netif_state. */
static bool find(const struct netif *n, struct netif_state *s)
{
	struct ifreq ifr = {.ifr_ifindex = n->index};

	*s = (struct netif_state){0};
	memcpy(s->name, n->name, sizeof(s->name));
	if (n->index && !ioctl(n->fd, SIOCGIFNAME, &ifr)) {
		memcpy(s->name, ifr.ifr_name, sizeof(s->name));
		s->index = n->index;
		return true;
	}
	ifr = request(s);
	if (ioctl(n->fd, SIOCGIFINDEX, &ifr))
		return false;
	s->index = ifr.ifr_ifindex;
	return true;
}

void netif_query(const struct netif *n, struct netif_state *s)
{
	struct ifreq ifr;

	if (!find(n, s))
		return;
	ifr = request(s);
	if (!ioctl(n->fd, SIOCGIFFLAGS, &ifr)) {
		s->up = ifr.ifr_flags & IFF_UP;
		s->carrier = ifr.ifr_flags & IFF_RUNNING;
	}
	ifr = request(s);
	if (!ioctl(n->fd, SIOCGIFHWADDR, &ifr))
		s->ethernet = ifr.ifr_hwaddr.sa_family == ARPHRD_ETHER;
	ifr = request(s);
	if (!ioctl(n->fd, SIOCGIFMTU, &ifr))
		s->mtu = (unsigned)ifr.ifr_mtu;
}

int netif_set_mtu(const struct netif *n, unsigned mtu)
{
	struct netif_state s;
	struct ifreq ifr;

	if (!find(n, &s))
		return -ENODEV;
	ifr = request(&s);
	ifr.ifr_mtu = (int)mtu;
	return ioctl(n->fd, SIOCSIFMTU, &ifr) ? -errno : 0;
}

int netif_set_up(const struct netif *n)
{
	struct netif_state s;
	struct ifreq ifr;

	if (!find(n, &s))
		return -ENODEV;
	ifr = request(&s);
	if (ioctl(n->fd, SIOCGIFFLAGS, &ifr))
		return -errno;
	ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
	return ioctl(n->fd, SIOCSIFFLAGS, &ifr) ? -errno : 0;
}

int netif_check_mtu(const struct netif *n, const struct netif_state *s, unsigned mtu, struct err *e)
{
	char ip[NETIF_IP_BYTES], remedy[NETIF_IP_BYTES + IFNAMSIZ + 48];

	if (s->mtu >= mtu)
		return 0;
	snprintf(remedy, sizeof(remedy), "raise it with `%s link set %s mtu %u`", netif_ip(n, ip), s->name, mtu);
	return err_set(e, -EINVAL, "mtu", remedy, "MTU %u asked, but interface %s carries %u", mtu, s->name, s->mtu);
}

const char *netif_ip(const struct netif *n, char text[NETIF_IP_BYTES])
{
	snprintf(text, NETIF_IP_BYTES, "%s%s", n->netns[0] ? "ip -n " : "ip", n->netns);
	return text;
}

bool netif_usable(const struct netif *n, const struct netif_state *s, char *reason, size_t size)
{
	char ip[NETIF_IP_BYTES];

	if (!s->index)
		snprintf(reason, size, "interface %s does not exist any more", n->name);
	else if (!s->up)
		snprintf(reason, size, "interface %s is down: bring it up with `%s link set %s up`", s->name,
			 netif_ip(n, ip), s->name);
	else if (!s->carrier)
		snprintf(reason, size, "interface %s has no carrier: its cable or its other end is down", s->name);
	else
		return true;
	return false;
}

void netif_info(const struct netif *n, struct port_info *info)
{
	struct netif_state s;

	netif_query(n, &s);
	port_info_add(info, "interface", "%s", s.name);
	if (n->netns[0])
		port_info_add(info, "namespace", "%s", n->netns);
	if (s.index)
		port_info_add(info, "interface_mtu", "%u", s.mtu);
}
