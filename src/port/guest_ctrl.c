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

#include "port/guest_priv.h"

enum { CTRL_OK = 0, CTRL_ERR = 1 };
enum { CLASS_RX = 0, CLASS_MAC = 1, CLASS_ANNOUNCE = 3, CLASS_MQ = 4 };
enum { RX_NOBCAST = 5, MAC_TABLE_SET = 0, MAC_ADDR_SET = 1, ANNOUNCE_ACK = 0, MQ_PAIRS_SET = 0 };

#define COMMAND_MAX     4096 /* class, command, and the largest argument we take: a table of some 600 addresses */
#define COMMANDS_A_TURN 64   /* and then a pause, so that a guest cannot keep this thread to itself */
#define PAUSE_US        1000
#define POLL_US         10000

struct guest_ctrl {
	struct guest *g;
	struct virtq *vq;
	uint16_t done;       /* sequence number behind the last command that was executed */
	struct event *kick;  /* NULL: the driver does not kick, so we look every POLL_US */
	struct event *again; /* timer: the next turn */
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
	g->ctrl_pairs = pairs; /* published at the end of the turn, before the guest sees that the command is done */
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
	struct virtq_batch b = {.chain = &chain, .max = 1, .span = spans, .max_spans = VIRTQ_CHAIN_SPANS};
	uint8_t answer;

	if (!virtq_fetch(c->vq, VIRTQ_MIXED, &b))
		return false;
	if (chain.n_readable == chain.n_spans) {
		virtq_break(c->vq, VIRTQ_FAULT_DIRECTION); /* nowhere to put the answer */
		return false;
	}
	answer = execute(c->g, cmd, copy_command(cmd, spans, chain.n_readable));
	gmem_write(c->vq->mem, &spans[chain.n_readable], &answer, 1);
	virtq_complete(c->vq, &chain, 1, false);
	c->done = (uint16_t)(chain.seq + 1);
	return true;
}

static void pause_for(struct guest_ctrl *c, long us)
{
	event_add(c->again, &(struct timeval){.tv_usec = us});
}

static void turn(struct guest_ctrl *c)
{
	unsigned pairs = c->g->ctrl_pairs;
	bool more;

	for (int i = 0; i < COMMANDS_A_TURN && serve_one(c); i++)
		;
	/* virtio 1.2, 5.1.6.5.5.2: no frame goes to another queue once the driver knows that the command was done. */
	if (c->g->ctrl_pairs != pairs)
		guest_publish_tx(c->g);
	virtq_publish(c->vq, c->done);
	guest_interrupt(virtq_interrupt(c->vq));
	more = virtq_notify_on(c->vq);
	if (virtq_fault_get(c->vq) != VIRTQ_FAULT_NONE)
		c->g->port.ops->attend(&c->g->port); /* frees c */
	else if (more)
		pause_for(c, PAUSE_US);
	else if (!c->kick)
		pause_for(c, POLL_US);
}

/* Edge-triggered, and the descriptor is not read: it is the front end's, and reading it might block. */
static void on_event(evutil_socket_t fd, short what, void *ctrl)
{
	(void)fd;
	(void)what;
	turn(ctrl);
}

static void ctrl_free(struct guest_ctrl *c)
{
	if (c->kick)
		event_free(c->kick);
	if (c->again)
		event_free(c->again);
	free(c);
}

static int listen_for_kicks(struct guest_ctrl *c, int kick_fd)
{
	struct event_base *events = c->g->host->events;

	c->again = event_new(events, -1, 0, on_event, c);
	if (!c->again)
		return -ENOMEM;
	if (kick_fd < 0)
		return 0;
	c->kick = event_new(events, kick_fd, EV_READ | EV_ET | EV_PERSIST, on_event, c);
	return c->kick && event_add(c->kick, NULL) == 0 ? 0 : -ENOMEM;
}

/* Does the driver begin with this ring? */
static bool is_new(const struct virtq *vq)
{
	return vq->packed ? vq->used_at == PACKED_START : vq->published == 0;
}

int guest_ctrl_run(struct guest *g, struct virtq *vq, int kick_fd, struct err *e)
{
	struct guest_ctrl *c = calloc(1, sizeof(*c));

	if (c)
		*c = (struct guest_ctrl){.g = g, .vq = vq, .done = vq->published};
	if (!c || listen_for_kicks(c, kick_fd) < 0) {
		if (c)
			ctrl_free(c);
		return err_set(e, -ENOMEM, NULL, NULL, "the control queue cannot be watched");
	}
	g->ctrl = c;
	g->ctrl_vq = vq;
	/* virtio 1.2, 5.1.6.5.5.2: one pair until the driver asks for more. A ring that has been used before goes on after a
	 * pause, and what was asked on it holds. */
	if (g->ctrl_pairs == 0 || is_new(vq))
		g->ctrl_pairs = 1;
	guest_publish_tx(g);
	event_active(c->again, EV_TIMEOUT, 0); /* commands may be waiting */
	return 0;
}

void guest_ctrl_halt(struct guest *g)
{
	if (!g->ctrl)
		return;
	ctrl_free(g->ctrl);
	g->ctrl = NULL;
	g->ctrl_vq = NULL;
}
