/* SPDX-License-Identifier: Apache-2.0 */
/* The control queue of virtio-net (virtio 1.2, 5.1.6.5), for front ends that forward it (crosvm). Others answer it
 * themselves, and we see only what follows from it: SET_VRING_ENABLE.
 *
 * Thread:  control. Commands are rare and small.
 * Trust:   the guest's. A command is copied before it is looked at; one we do not know, or with an impossible argument,
 *          is answered VIRTIO_NET_ERR, as the specification wants it.
 */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "port/guest_priv.h"

enum { CTRL_OK = 0, CTRL_ERR = 1 };
enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_ANNOUNCE = 3, CLASS_MQ = 4 };
enum { RX_NOBCAST = 5, MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, ANNOUNCE_ACK = 0, MQ_PAIRS_SET = 0 };

#define COMMAND_MAX 4096 /* class, command, and the largest argument we take: a table of some 600 addresses */
#define COMMANDS_PER_KICK 64

struct guest_ctrl {
	struct guest *g;
	struct virtq *vq;
	struct event *kick;
};

/* The device may receive more than was asked for (virtio 1.2, 5.1.6.5.1.1: filtering is best effort): a switch port gets
 * frames for its address, and floods, in any case. So receive modes and MAC tables need no action, only checking. */
static uint8_t set_rx_mode(uint8_t command, const uint8_t *arg, uint32_t len)
{
	return command <= RX_NOBCAST && len == 1 && arg[0] <= 1 ? CTRL_OK : CTRL_ERR;
}

/* Two tables, each a 32-bit count and that many addresses (5.1.6.5.2). */
static uint8_t set_mac_table(const uint8_t *arg, uint32_t len)
{
	for (int table = 0; table < 2; table++) {
		uint32_t n;

		if (len < sizeof(n))
			return CTRL_ERR;
		memcpy(&n, arg, sizeof(n));
		len -= (uint32_t)sizeof(n);
		if (n > len / 6)
			return CTRL_ERR;
		arg += sizeof(n) + (size_t)n * 6;
		len -= n * 6;
	}
	return len == 0 ? CTRL_OK : CTRL_ERR;
}

static uint8_t set_pairs(struct guest *g, const uint8_t *arg, uint32_t len)
{
	uint16_t pairs;

	if (len != sizeof(pairs))
		return CTRL_ERR;
	memcpy(&pairs, arg, sizeof(pairs));
	if (pairs == 0 || pairs > g->pairs)
		return CTRL_ERR;
	g->ctrl_pairs = pairs;
	guest_publish_tx(g);
	return CTRL_OK;
}

static uint8_t execute(struct guest *g, const uint8_t *cmd, uint32_t len)
{
	const uint8_t *arg = cmd + 2;

	if (len < 2)
		return CTRL_ERR;
	len -= 2;
	switch (cmd[0]) {
	case CLASS_RX:
		return set_rx_mode(cmd[1], arg, len);
	case CLASS_MAC:
		return cmd[1] == MAC_TABLE_SET ? set_mac_table(arg, len) : CTRL_ERR;
	case CLASS_ANNOUNCE:
		return cmd[1] == ANNOUNCE_ACK ? CTRL_OK : CTRL_ERR;
	case CLASS_MQ:
		return cmd[1] == MQ_PAIRS_SET ? set_pairs(g, arg, len) : CTRL_ERR;
	}
	return CTRL_ERR;
}

/* Copy a command out of its pieces. Longer than any we know: 0, which no command is. */
static uint32_t copy_command(uint8_t cmd[COMMAND_MAX], const struct gspan *spans, unsigned n)
{
	uint32_t len = 0;

	for (unsigned i = 0; i < n; i++) {
		if (spans[i].len > COMMAND_MAX - len)
			return 0;
		memcpy(cmd + len, spans[i].p, spans[i].len);
		len += spans[i].len;
	}
	return len;
}

/* A command is a readable part (class, command, argument) and one writable byte for the answer. */
static bool serve_one(struct guest_ctrl *c)
{
	uint8_t cmd[COMMAND_MAX];
	struct virtq_chain chain;
	struct gspan spans[VIRTQ_CHAIN_SPANS];
	uint8_t answer;

	if (!virtq_fetch(c->vq, VIRTQ_MIXED, &chain, spans, VIRTQ_CHAIN_SPANS))
		return false;
	if (chain.n_readable == chain.n_spans) {
		virtq_break(c->vq, VIRTQ_FAULT_DIRECTION); /* nowhere to put the answer */
		return false;
	}
	answer = execute(c->g, cmd, copy_command(cmd, spans, chain.n_readable));
	gmem_write(c->vq->mem, &spans[chain.n_readable], &answer, 1);
	virtq_complete(c->vq, &chain, 1);
	return true;
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
	struct guest_ctrl *c = arg;
	uint64_t n, one = 1;
	int call;

	(void)what;
	if (fd >= 0 && read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return;
	/* Bounded, so that a guest cannot keep this thread to itself; the rest comes with the next turn. */
	for (int i = 0; i < COMMANDS_PER_KICK; i++)
		if (!serve_one(c))
			break;
	virtq_publish(c->vq);
	call = virtq_interrupt(c->vq);
	if (call >= 0 && write(call, &one, sizeof(one)) < 0)
		return; /* the counter is full: the guest has enough to notice */
	if (virtq_notify_on(c->vq))
		event_active(c->kick, EV_READ, 0);
	if (virtq_fault_get(c->vq) != VIRTQ_FAULT_NONE)
		c->g->port.ops->attend(&c->g->port); /* frees c */
}

int guest_ctrl_run(struct guest *g, struct virtq *vq, int kick_fd, struct err *e)
{
	struct guest_ctrl *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*c = (struct guest_ctrl){.g = g, .vq = vq};
	c->kick = event_new(g->host->events, kick_fd, kick_fd < 0 ? EV_PERSIST : EV_READ | EV_PERSIST, on_kick, c);
	if (!c->kick || event_add(c->kick, kick_fd < 0 ? &(struct timeval){.tv_usec = 10000} : NULL) < 0) {
		if (c->kick)
			event_free(c->kick);
		free(c);
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	}
	g->ctrl = c;
	g->ctrl_vq = vq;
	event_active(c->kick, EV_READ, 0); /* commands may be waiting */
	return 0;
}

void guest_ctrl_halt(struct guest *g)
{
	if (!g->ctrl)
		return;
	event_free(g->ctrl->kick);
	free(g->ctrl);
	g->ctrl = NULL;
	g->ctrl_vq = NULL;
}
