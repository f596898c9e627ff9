/* SPDX-License-Identifier: Apache-2.0 */
/* Joins a guest's port (frames), its vhost-user device (protocol) and its slot in the state file, which know nothing of
 * each other: one object made of them, and the tables that translate. Control thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ctl/conf.h"
#include "ctl/conf_offload.h"
#include "main/guest_offload.h"
#include "main/resume.h"
#include "main/wire.h"
#include "port/guest.h"
#include "state/state.h"
#include "vhost/vhost.h"

struct guest_wire {
	struct guest *guest;
	struct vhost *vhost;
	const struct port_host *host;
	struct state *state;
	struct vhost_saved *saved; /* NULL: nothing is kept */
	struct log_limit limit;    /* what the front end can cause */
};

static const char *name_of(const struct guest_wire *w)
{
	return guest_port(w->guest)->name;
}

/* ---- from the device to the port ---- */

static void on_connected(void *owner)
{
	struct guest_wire *w = owner;

	log_limited(&w->limit, LOG_INFO, "%s: a front end has connected", name_of(w));
	guest_connected(w->guest);
}

static void on_disconnected(void *owner, const char *reason)
{
	struct guest_wire *w = owner;

	if (reason)
		log_limited(&w->limit, LOG_WARN, "%s: broken: %s", name_of(w), reason);
	else
		log_limited(&w->limit, LOG_INFO, "%s: the front end has disconnected", name_of(w));
	guest_disconnected(w->guest, reason);
}

static int on_ring_run(void *owner, unsigned ring, struct virtq *vq, int kick_fd, struct err *e)
{
	return guest_ring_run(((struct guest_wire *)owner)->guest, ring, vq, kick_fd, e);
}

static void on_ring_halt(void *owner, unsigned ring)
{
	guest_ring_halt(((struct guest_wire *)owner)->guest, ring);
}

static void on_ring_enable(void *owner, unsigned ring, bool enabled)
{
	guest_ring_enable(((struct guest_wire *)owner)->guest, ring, enabled);
}

/* Virtio feature bits, and what they let be left undone: from the guest (virtio 1.2, 5.1.3, VIRTIO_NET_F_HOST_*), and
 * to it (GUEST_*). */
static const struct offload_bit {
	unsigned from_guest, to_guest;
	uint32_t offload;
} offload_bits[] = {
	{VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, OFFLOAD_CSUM},
	{VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4, OFFLOAD_TSO4},
	{VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6, OFFLOAD_TSO6},
	{VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_GUEST_ECN, OFFLOAD_ECN},
	{VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO4, OFFLOAD_USO4},
	{VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO6, OFFLOAD_USO6},
};

/* All others need the checksum (5.1.3.1). */
static uint32_t if_csum(uint32_t offloads)
{
	return offloads & OFFLOAD_CSUM ? offloads : 0;
}

static void on_features(void *owner, uint64_t features)
{
	struct guest_agreed a = {.mrg_rxbuf = features & FEATURE(VIRTIO_NET_F_MRG_RXBUF)};

	a.long_header = a.mrg_rxbuf || features & FEATURE(VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < ARRAY_SIZE(offload_bits); i++) {
		const struct offload_bit *b = &offload_bits[i];

		a.may_leave |= features & FEATURE(b->from_guest) ? b->offload : 0;
		a.takes |= features & FEATURE(b->to_guest) ? b->offload : 0;
	}
	a.may_leave = if_csum(a.may_leave);
	a.takes = if_csum(a.takes);
	guest_features(((struct guest_wire *)owner)->guest, &a);
}

static int on_mtu(void *owner, unsigned mtu)
{
	return guest_check_mtu(((struct guest_wire *)owner)->guest, mtu);
}

static void on_announce(void *owner, struct mac mac)
{
	guest_announce(((struct guest_wire *)owner)->guest, mac);
}

static void on_quiesce(void *owner)
{
	((struct guest_wire *)owner)->host->quiesce();
}

static void on_save(void *owner)
{
	struct guest_wire *w = owner;

	state_port_save(w->state, w->saved);
}

static const struct vhost_ops vhost_ops = {
	.connected = on_connected,
	.disconnected = on_disconnected,
	.ring_run = on_ring_run,
	.ring_halt = on_ring_halt,
	.ring_enable = on_ring_enable,
	.features = on_features,
	.mtu = on_mtu,
	.announce = on_announce,
	.quiesce = on_quiesce,
	.save = on_save,
};

/* ---- from the port to the device ---- */

static void link_fail(void *arg, const char *reason)
{
	vhost_fail(((struct guest_wire *)arg)->vhost, reason);
}

static void link_info(void *arg, struct port_info *info)
{
	const struct guest_wire *w = arg;
	struct vhost_state s;

	vhost_state_get(w->vhost, &s);
	port_info_add(info, "connections", "%" PRIu64, s.connects);
	if (!s.connected)
		return;
	port_info_add(info, "features", "0x%" PRIx64, s.features);
	port_info_add(info, "protocol_features", "0x%" PRIx64, s.protocol_features);
	guest_offload_info(&s, guest_port(w->guest)->mtu, info);
	port_info_add(info, "rings", "%u running, %u enabled", s.rings_running, s.rings_enabled);
	port_info_add(info, "memory", "%" PRIu64 " MiB in %u regions", s.memory_bytes >> 20, s.n_regions);
	port_info_add(info, "dirty_log", "%s", s.logging ? "on" : "off");
}

static void link_set_mtu(void *arg, unsigned mtu)
{
	vhost_set_mtu(((struct guest_wire *)arg)->vhost, mtu);
}

static const struct gmem *link_memory(void *arg)
{
	return vhost_memory(((struct guest_wire *)arg)->vhost);
}

static void release(struct guest_wire *w)
{
	if (w->saved)
		state_port_release(w->state, w->saved);
	free(w);
}

static void link_free(void *arg)
{
	struct guest_wire *w = arg;

	resume_settled(guest_port(w->guest));
	vhost_free(w->vhost);
	release(w);
}

/* Was a guest at work here when flued ended, and is it still there to come back? */
static bool will_return(const struct vhost_agreed *a)
{
	return a->bound && (a->peer_pid == 0 || kill((pid_t)a->peer_pid, 0) == 0 || errno == EPERM);
}

struct port *guest_wire_new(const struct port_conf *c, const struct port_host *host, struct state *state, struct err *e)
{
	struct vhost_conf conf = {
		.role = c->role,
		.front_end = c->front_end,
		.pairs = c->queues,
		.mtu = c->mtu,
		.never = offloads_never(c->offloads_off),
		.mac = c->mac,
	};
	struct guest_wire *w = calloc(1, sizeof(*w));

	if (!w || !(w->guest = guest_new(c->name, c->mtu, c->queues, host))) {
		free(w);
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		return NULL;
	}
	w->host = host;
	w->state = state;
	w->saved = conf.saved = state_port(state, c->name, c->queues);
	snprintf(conf.path, sizeof(conf.path), "%s", c->socket);
	snprintf(conf.group, sizeof(conf.group), "%s", c->group);
	w->vhost = vhost_new(&conf, host->events, &vhost_ops, w, e);
	if (!w->vhost) {
		guest_port(w->guest)->ops->free(guest_port(w->guest));
		release(w);
		return NULL;
	}
	guest_set_link(w->guest, &(struct guest_link){
					 .arg = w,
					 .fail = link_fail,
					 .info = link_info,
					 .set_mtu = link_set_mtu,
					 .memory = link_memory,
					 .free = link_free,
				 });
	if (w->saved && will_return(&w->saved->agreed))
		resume_expect(guest_port(w->guest));
	return guest_port(w->guest);
}
