/* SPDX-License-Identifier: Apache-2.0 */
#include "main/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ctl/conf_offload.h"
#include "gmem/gmem.h"
#include "main/resume.h"
#include "port/packet.h"
#include "port/tap.h"
#include "state/state.h"

/* The parts of this process; ports' callbacks have no other way to find them. */
static struct {
	struct fwd *fwd;
	struct workers *workers;
	struct state *state; /* or NULL */
	int attention_fd;
	struct port_host host;
	struct frame_batch batch; /* of frames the control thread sends */
	struct fwd_work work;
} parts = {.attention_fd = -1};

/* ---- the kinds of ports ---- */

static struct port *guest_make(const struct port_conf *c, const struct port_host *host, struct err *e)
{
	return guest_wire_new(c, host, parts.state, e);
}

static void guest_forget(const char *name)
{
	state_port_forget(parts.state, name);
}

static struct port *tap_make(const struct port_conf *c, const struct port_host *host, struct err *e)
{
	return tap_new(
		&(struct tap_conf){
			.name = c->name,
			.ifname = c->ifname,
			.netns = c->netns,
			.mtu = c->mtu,
			.offloads_off = offloads_unused(c->offloads_off),
		},
		host, e);
}

static struct port *packet_make(const struct port_conf *c, const struct port_host *host, struct err *e)
{
	return packet_new(
		&(struct packet_conf){
			.name = c->name,
			.ifname = c->ifname,
			.netns = c->netns,
			.mtu = c->mtu,
			.offloads_off = offloads_unused(c->offloads_off),
		},
		host, e);
}

static const struct port_kind kinds[CONF_KIND_N] = {
	[CONF_GUEST] = {.make = guest_make, .forget = guest_forget},
	[CONF_TAP] = {.make = tap_make},
	[CONF_PACKET] = {.make = packet_make},
};
static_assert(STATE_PORTS >= PORTS_MAX && STATE_NAME_BYTES >= PORT_NAME_MAX, "each port can have a slot");

/* ---- what ports ask of the rest ---- */

static int give_to_workers(struct port *p, unsigned q, int poll_fd, struct err *e)
{
	return workers_queue_add(parts.workers, p, q, poll_fd, e);
}

static int host_queue_add(struct port *p, unsigned q, int poll_fd, struct err *e)
{
	return resume_hold(p, q, poll_fd) ? 0 : give_to_workers(p, q, poll_fd, e);
}

static void host_queue_remove(struct port *p, unsigned q)
{
	if (!resume_drop(p, q))
		workers_queue_remove(parts.workers, p, q);
}

static void host_link_changed(struct port *p)
{
	fwd_link_changed(parts.fwd, p);
	if (p->up)
		resume_settled(p);
}

static void publish_and_flush(const struct port_set *touched)
{
	for (unsigned id = 0; id < PORTS_MAX; id++) {
		struct port *p = touched->bits[id / 64] & UINT64_C(1) << id % 64 ? fwd_port(parts.fwd, id) : NULL;

		if (p && p->ops->tx_publish)
			p->ops->tx_publish(p, COUNTERS_CONTROL);
		if (p && p->ops->tx_flush)
			p->ops->tx_flush(p, COUNTERS_CONTROL);
	}
}

static void host_inject(struct port *p, const void *frame, uint32_t len)
{
	struct frame_batch *b = &parts.batch;
	struct frame *f = &b->f[0];
	struct fwd_work *work = &parts.work;

	b->n = 1;
	b->n_spans = 0;
	f->len = len;
	f->head_len = min_u32(len, FRAME_HEAD_MAX);
	memcpy(frame_head_begin(f), frame, f->head_len);
	f->body = b->spans;
	f->n_body = 0;
	if (len > f->head_len) {
		b->spans[b->n_spans++] =
			(struct wire_piece){.p = (const uint8_t *)frame + f->head_len, .len = len - f->head_len};
		f->n_body = 1;
	}
	fwd_process(parts.fwd, p, b, COUNTERS_CONTROL, work);
	publish_and_flush(&work->touched);
	work->touched = (struct port_set){0};
}

/* ---- up and down ---- */

static int start_parts(const struct conf *c, struct event_base *events, struct err *e)
{
	if (gmem_sigbus_install() < 0)
		return err_set(e, -errno, NULL, NULL, "cannot handle SIGBUS: %s", strerror(errno));
	parts.host = (struct port_host){
		.queue_add = host_queue_add,
		.queue_remove = host_queue_remove,
		.quiesce = workers_quiesce,
		.link_changed = host_link_changed,
		.inject = host_inject,
		.events = events,
	};
	parts.fwd = fwd_new(&c->fwd);
	if (!parts.fwd)
		return err_set(e, -ENOMEM, "switch.fdb_entries", "choose fewer", "out of memory for %u addresses",
			       c->fwd.fdb_entries);
	parts.attention_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (parts.attention_fd < 0)
		return err_set(e, -errno, NULL, NULL, "cannot make an eventfd: %s", strerror(errno));
	parts.workers = workers_new(&c->workers, parts.fwd, parts.attention_fd, e);
	return parts.workers ? resume_init(events, give_to_workers, e) : e->code;
}

static void stop_parts(void)
{
	resume_fini();
	if (parts.workers)
		workers_free(parts.workers);
	if (parts.attention_fd >= 0)
		close(parts.attention_fd);
	fwd_free(parts.fwd);
}

struct model *wire_new(const struct conf *c, struct state *state, struct event_base *events, struct err *e)
{
	struct model *m = NULL;

	parts.state = state;
	if (start_parts(c, events, e) == 0) {
		m = model_new(&(struct model_parts){
			.fwd = parts.fwd,
			.workers = parts.workers,
			.host = &parts.host,
			.kinds = kinds,
			.attention_fd = parts.attention_fd,
			.events = events,
		});
		if (!m)
			err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	}
	if (m) {
		model_set_ageing(m, c->fwd.ageing_s);
		model_set_mtu(m, c->mtu);
	} else {
		stop_parts();
	}
	return m;
}

void wire_free(struct model *m)
{
	resume_fini(); /* what is held stays in the guests' rings */
	model_free(m);
	stop_parts();
}
