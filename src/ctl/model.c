/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/model.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

struct model {
	struct model_parts parts;
	struct model_port *port[PORTS_MAX]; /* in the order they were added */
	unsigned n_ports;
	unsigned ageing_s, mtu;
	struct log_limit limit; /* what API clients can cause */
	struct event *tick, *attention;
};

/* Look after the ports that asked for it. */
static void attend_marked(struct model *m)
{
	for (unsigned i = 0; i < m->n_ports; i++) {
		struct port *p = m->port[i]->port;

		if (atomic_exchange_explicit(&p->attention, false, memory_order_acquire))
			p->ops->attend(p);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct model *m = arg;

	(void)fd, (void)what;
	fwd_age(m->parts.fwd);
	workers_balance(m->parts.workers);
	/* A mark that this very thread made (a frame of our own found a broken ring) wakes nobody. */
	attend_marked(m);
}

static void on_attention(evutil_socket_t fd, short what, void *arg)
{
	struct model *m = arg;
	uint64_t n;

	(void)what;
	if (read(fd, &n, sizeof(n)) < 0) /* somebody else's mark was taken with the last one */
		return;
	attend_marked(m);
}

struct model *model_new(const struct model_parts *parts)
{
	static const struct timeval second = {.tv_sec = 1};
	struct model *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->parts = *parts;
	m->mtu = CONF_MTU_DEFAULT;
	m->tick = event_new(parts->events, -1, EV_PERSIST, on_tick, m);
	m->attention = event_new(parts->events, parts->attention_fd, EV_READ | EV_PERSIST, on_attention, m);
	if (!m->tick || !m->attention || event_add(m->tick, &second) < 0 || event_add(m->attention, NULL) < 0) {
		model_free(m);
		return NULL;
	}
	return m;
}

static void take_down(struct model *m, struct model_port *mp)
{
	unsigned i = 0;

	while (m->port[i] != mp)
		i++;
	m->n_ports--;
	memmove(&m->port[i], &m->port[i + 1], (m->n_ports - i) * sizeof(m->port[0]));
	fwd_port_remove(m->parts.fwd, mp->port);
	mp->port->ops->free(mp->port);
	log_limited(&m->limit, LOG_INFO, "%s: removed", mp->conf.name);
}

void model_free(struct model *m)
{
	if (!m)
		return;
	while (m->n_ports) {
		struct model_port *last = m->port[m->n_ports - 1];

		take_down(m, last);
		free(last);
	}
	if (m->tick)
		event_free(m->tick);
	if (m->attention)
		event_free(m->attention);
	free(m);
}

/* Join and start; a step that fails takes back the ones before it. */
static int join(struct model *m, struct port *p, const struct port_conf *c, struct err *e)
{
	int rc = fwd_port_add(m->parts.fwd, p, &c->fwd, e);

	if (rc < 0)
		return rc;
	if (!p->ops->start)
		return 0;
	rc = p->ops->start(p, e);
	if (rc < 0)
		fwd_port_remove(m->parts.fwd, p);
	return rc;
}

static int check_new(const struct model *m, const struct port_conf *c, struct err *e)
{
	for (unsigned i = 0; i < m->n_ports; i++) {
		int rc = conf_port_clash(c, &m->port[i]->conf, e);

		if (rc < 0)
			return rc;
	}
	if (m->n_ports == PORTS_MAX)
		return err_set(e, -ENOSPC, "name", "remove a port first", "the switch has its %d ports", PORTS_MAX);
	return 0;
}

/* What forwarding reads of the port itself. */
static void set_policy(struct port *p, const struct port_conf *c)
{
	atomic_store_explicit(&p->coalesce, c->coalesce, memory_order_relaxed);
	atomic_store_explicit(&p->tell_too_big, c->too_big_reply, memory_order_relaxed);
}

static int add(struct model *m, struct model_port *mp, struct err *e)
{
	int rc;

	mp->port = m->parts.kinds[mp->conf.kind].make(&mp->conf, m->parts.host, e);
	if (!mp->port)
		return e->code < 0 ? e->code : -EIO;
	set_policy(mp->port, &mp->conf);
	rc = join(m, mp->port, &mp->conf, e);
	if (rc < 0) {
		mp->port->ops->free(mp->port);
		return rc;
	}
	m->port[m->n_ports++] = mp;
	log_limited(&m->limit, LOG_INFO, "%s: added", mp->conf.name);
	return 0;
}

int model_port_add(struct model *m, const struct port_conf *c, struct err *e)
{
	struct model_port *mp;
	int rc = check_new(m, c, e);

	if (rc < 0)
		return rc;
	mp = malloc(sizeof(*mp));
	if (!mp)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*mp = (struct model_port){.conf = *c};
	rc = add(m, mp, e);
	if (rc < 0)
		free(mp);
	return rc;
}

int model_port_set(struct model *m, struct model_port *mp, const struct port_conf *c, struct err *e)
{
	struct port *p = mp->port;
	int rc;

	for (unsigned i = 0; i < m->n_ports; i++)
		if (m->port[i] != mp && (rc = conf_port_clash(c, &m->port[i]->conf, e)) < 0)
			return rc;
	if (c->mtu != mp->conf.mtu && (rc = p->ops->set_mtu(p, c->mtu, e)) < 0)
		return rc;
	rc = fwd_port_set(m->parts.fwd, p, &c->fwd, e);
	if (rc < 0) {
		if (c->mtu != mp->conf.mtu && p->ops->set_mtu(p, mp->conf.mtu, NULL) < 0)
			log_error("%s: cannot go back to MTU %u", mp->conf.name, mp->conf.mtu);
		return rc;
	}
	set_policy(p, c);
	mp->conf = *c;
	return 0;
}

void model_port_remove(struct model *m, struct model_port *mp)
{
	const struct port_kind *kind = &m->parts.kinds[mp->conf.kind];

	take_down(m, mp);
	if (kind->forget)
		kind->forget(mp->conf.name);
	free(mp);
}

struct model_port *model_port_find(struct model *m, const char *name)
{
	for (unsigned i = 0; i < m->n_ports; i++)
		if (!strcmp(m->port[i]->conf.name, name))
			return m->port[i];
	return NULL;
}

struct model_port *model_port_at(struct model *m, unsigned i)
{
	return i < m->n_ports ? m->port[i] : NULL;
}

unsigned model_ports(const struct model *m)
{
	return m->n_ports;
}

void model_set_ageing(struct model *m, unsigned ageing_s)
{
	m->ageing_s = ageing_s;
	fwd_set_ageing(m->parts.fwd, ageing_s);
}

unsigned model_ageing(const struct model *m)
{
	return m->ageing_s;
}

void model_set_mtu(struct model *m, unsigned mtu)
{
	m->mtu = mtu;
}

unsigned model_mtu(const struct model *m)
{
	return m->mtu;
}

struct fwd *model_fwd(struct model *m)
{
	return m->parts.fwd;
}

struct workers *model_workers(struct model *m)
{
	return m->parts.workers;
}
