/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept for the next flued (design D14), and what the last one kept.
 *
 * A promise binds as long as a guest uses it: from SET_FEATURES until the connection ends with every ring stopped in
 * order, or the device is reset. It holds for the front end it was made to, known by its process (SO_PEERCRED): a front end that
 * was killed and started anew brings a new guest. While it binds, a front end that comes back is offered the same
 * features, even if this flued knows more, or is to offer less (conf.never): a running guest cannot give them back. And
 * the journals tell where packed rings stand. When it does not, all that this flued knows and may offer is offered, and
 * journals are void.
 */
#include <inttypes.h>
#include <sys/socket.h>

#include "vhost/vhost_priv.h"

/* 0 if it cannot be told: a process of another PID namespace. */
static uint32_t peer_pid(const struct vhost *v)
{
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(v->sock_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return 0;
	return (uint32_t)peer.pid;
}

static bool binds(const struct vhost *v, const struct vhost_agreed *a)
{
	return a->bound && a->front_end == (uint32_t)v->conf.front_end && a->peer_pid == peer_pid(v);
}

/* Offer what was promised, of all that we know. What cannot be kept is said: the guest may not find its device again. */
static void keep_promise(struct vhost *v, const struct vhost_agreed *a)
{
	uint64_t lost = a->offered & ~v->offered, lost_protocol = a->protocol_offered & ~v->protocol_offered;
	uint64_t unwanted = a->offered & v->offered & v->conf.never;

	v->offered = vhost_features_sound(v->offered & a->offered);
	v->protocol_offered &= a->protocol_offered;
	if (unwanted)
		log_limited(
			&v->log_limit, LOG_INFO,
			"%s: features 0x%" PRIx64
			" are switched off, but were offered to this guest: they are off when its VM is started anew",
			v->conf.path, unwanted);
	if (lost || lost_protocol)
		log_limited(&v->log_limit, LOG_WARN,
			    "%s: features 0x%" PRIx64 " and protocol features 0x%" PRIx64
			    " were offered to this guest and are no longer there (it uses 0x%" PRIx64 " and 0x%" PRIx64
			    " of them): restart it if it does not connect",
			    v->conf.path, lost, lost_protocol, lost & a->acked, lost_protocol & a->protocol_acked);
	if (a->pairs > v->conf.pairs)
		log_limited(&v->log_limit, LOG_WARN,
			    "%s: this guest was offered %" PRIu32
			    " queue pairs, now there are %u: restart it if it does not connect",
			    v->conf.path, a->pairs, v->conf.pairs);
}

static void void_journals(struct vhost *v)
{
	for (unsigned i = 0; i < vhost_n_rings(v); i++) {
		v->conf.saved->journal[i].live = 0;
		v->conf.saved->journal[i].n = 0;
	}
}

void vhost_saved_begin(struct vhost *v)
{
	struct vhost_agreed *a = v->conf.saved ? &v->conf.saved->agreed : NULL;

	bool promised = a && binds(v, a);

	v->offered = vhost_features_known(v);
	v->protocol_offered = vhost_protocol_known(v);
	if (promised)
		keep_promise(v, a);
	else
		v->offered = vhost_features_sound(v->offered & ~v->conf.never);
	if (a && !promised) {
		*a = (struct vhost_agreed){.front_end = v->conf.front_end, .peer_pid = peer_pid(v)};
		void_journals(v);
	}
	if (!a)
		return;
	a->offered = v->offered;
	a->protocol_offered = v->protocol_offered;
	a->pairs = v->conf.pairs;
	v->ops->save(v->owner);
}

void vhost_saved_update(struct vhost *v)
{
	struct vhost_agreed *a = v->conf.saved ? &v->conf.saved->agreed : NULL;

	if (!a)
		return;
	/* Before SET_FEATURES this may be a guest that comes back: what it used still counts. */
	if (v->features_set) {
		a->bound = 1;
		a->acked = v->features;
	}
	a->protocol_acked = v->protocol_features;
	v->ops->save(v->owner);
}

static void release(struct vhost *v)
{
	v->conf.saved->agreed.bound = 0;
	v->ops->save(v->owner);
}

void vhost_saved_reset(struct vhost *v)
{
	if (!v->conf.saved)
		return;
	void_journals(v);
	release(v);
}

void vhost_saved_end(struct vhost *v)
{
	if (!v->conf.saved)
		return;
	for (unsigned i = 0; i < vhost_n_rings(v); i++)
		if (v->ring[i].told && !v->ring[i].running)
			v->conf.saved->journal[i].live = 0;
	/* A ring that does not run may be live: its guest has come back and left before it was started. */
	for (unsigned i = 0; i < vhost_n_rings(v); i++)
		if (v->ring[i].running || v->conf.saved->journal[i].live)
			return;
	release(v);
}

struct virtq_journal *vhost_saved_journal(const struct vhost *v, unsigned i)
{
	return v->conf.saved ? &v->conf.saved->journal[i] : NULL;
}
