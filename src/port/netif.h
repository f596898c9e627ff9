/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <net/if.h>

#include "base/base.h"
#include "base/err.h"
#include "port/port.h"

/* A network interface of the kernel, as the ports of kind tap and packet need it: its name, its namespace, what state it
 * is in, and to be told when that changes.
 *
 * Thread: control only.
 */

#define NETNS_NAME_MAX 64 /* with the final zero */

struct event;

struct netif {
	char name[IFNAMSIZ];
	char netns[NETNS_NAME_MAX]; /* "": our own */
	int index;                  /* as last seen; 0: not seen yet */
	int fd;                     /* rtnetlink in the interface's namespace; requests about it go through it too */
	struct event *event;
	void (*changed)(void *arg);
	void *arg;
};

/* Of the interface with the last seen index, under whatever name it has now; if that is gone, of the one that has the
 * name. */
struct netif_state {
	int index; /* 0: there is no such interface */
	bool up;   /* switched on by the administrator */
	bool carrier;
	bool ethernet;
	unsigned mtu;
	char name[IFNAMSIZ]; /* now */
};

/* Is @ifname a name that an interface can have? -EINVAL: no, *e (field "ifname") says why. */
int netif_name_check(const char *ifname, struct err *e) must_check;

/* Let this thread act in the namespace @netns (a name of `ip netns`; "" or NULL: stay) until netns_leave(*own). */
int netns_enter(const char *netns, int *own, struct err *e) must_check;
void netns_leave(int own);

/* Watch the interface @ifname, which may or may not exist, in the namespace this thread acts in now; @netns is for
 * messages. Names must have been checked. */
int netif_open(struct netif *n, const char *ifname, const char *netns, struct err *e) must_check;
/* Call @changed(@arg) whenever something about some interface in this namespace may have changed. */
int netif_watch(struct netif *n, struct event_base *events, void (*changed)(void *arg), void *arg) must_check;
void netif_close(struct netif *n);

void netif_query(const struct netif *n, struct netif_state *s);
/* 0 or negative errno. */
int netif_set_mtu(const struct netif *n, unsigned mtu) must_check;
int netif_set_up(const struct netif *n) must_check;

/* Can an interface in this state carry @mtu? -EINVAL: no, *e says why. */
int netif_check_mtu(const struct netif *n, const struct netif_state *s, unsigned mtu, struct err *e) must_check;

/* "ip" or "ip -n NETNS": how a command for the user begins. Returns @text. */
#define NETIF_IP_BYTES (NETNS_NAME_MAX + 8)
const char *netif_ip(const struct netif *n, char text[NETIF_IP_BYTES]);

/* Is it in order for a port to say "up"? If not, write why to @reason, and what would help. @s: just queried. */
bool netif_usable(const struct netif *n, const struct netif_state *s, char *reason, size_t size);

/* The details about @n that every port with an interface shows. */
void netif_info(const struct netif *n, struct port_info *info);
