/* SPDX-License-Identifier: Apache-2.0 */
/* The control half of forwarding: the port table is copied, changed and published; addresses are aged and forgotten. */
#include "fwd/fwd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>

#include "base/time.h"
#include "fwd/table.h"

static uint32_t clock_s(void)
{
	return (uint32_t)(time_now_ns() / NS_PER_S);
}

struct fwd *fwd_new(const struct fwd_conf *conf)
{
	struct fwd *f = aligned_alloc(CACHE_LINE, (sizeof(*f) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));

	if (!f)
		return NULL;
	memset(f, 0, sizeof(*f));
	f->table = calloc(1, sizeof(struct fwd_table));
	f->spare = calloc(1, sizeof(struct fwd_table));
	if (!f->table || !f->spare || fdb_init(&f->fdb, conf->fdb_entries) < 0) {
		free(f->spare);
		free(f->table);
		free(f);
		return NULL;
	}
	f->ageing_s = conf->ageing_s;
	f->fdb.now_s = clock_s();
	return f;
}

void fwd_free(struct fwd *f)
{
	if (!f)
		return;
	fdb_fini(&f->fdb);
	free(f->spare);
	free(f->table);
	free(f);
}

/* A copy of the table to change and publish. */
static struct fwd_table *copy_table(struct fwd *f)
{
	memcpy(f->spare, f->table, sizeof(*f->spare));
	return f->spare;
}

static void add_owner(struct fwd_table *t, uint64_t mac, uint16_t id)
{
	unsigned i = owner_slot(mac);

	while (t->owner[i].mac)
		i = (i + 1) % OWNERS_SLOTS;
	t->owner[i] = (struct owner){.mac = mac, .port = id};
}

/* What follows from port[] and conf[]: the list of ids, and who owns which MAC. A port that is down owns nothing: its
 * guest may be at work elsewhere by now. */
static void complete_table(struct fwd_table *t)
{
	t->n = 0;
	memset(t->owner, 0, sizeof(t->owner));
	for (unsigned id = 0; id < PORTS_MAX; id++) {
		if (!t->port[id])
			continue;
		t->id[t->n++] = (uint16_t)id;
		if (t->conf[id].has_mac && t->port[id]->up)
			add_owner(t, mac_u64(t->conf[id].mac), (uint16_t)id);
	}
}

/* The copy becomes the table. When this returns nobody uses the one before. */
static void publish(struct fwd *f)
{
	struct fwd_table *old = f->table;

	complete_table(f->spare);
	f->spare->version = old->version + 1;
	atomic_store_explicit(&f->table, f->spare, memory_order_release);
	synchronize_rcu();
	f->spare = old;
}

static int check_conf(const struct fwd *f, const struct port *p, const struct fwd_port_conf *c, struct err *e)
{
	char text[MAC_TEXT_BYTES];

	if (c->spoof_guard && !c->has_mac)
		return err_set(e, -EINVAL, "spoof_guard", "configure `mac` too, or leave the guard off",
			       "the spoof guard needs to know the port's MAC");
	if (!c->has_mac)
		return 0;
	if (mac_is_multicast(c->mac) || mac_is_zero(c->mac))
		return err_set(e, -EINVAL, "mac", "use an address whose first byte is even, like 52:54:00:12:34:56",
			       "%s is not the address of one station", mac_format(c->mac, text));
	for (unsigned id = 0; id < PORTS_MAX; id++) {
		const struct port *other = f->table->port[id];

		if (other && other != p && f->table->conf[id].has_mac && mac_equal(f->table->conf[id].mac, c->mac))
			return err_set(e, -EEXIST, "mac", "give each port a MAC of its own", "%s belongs to port %s",
				       mac_format(c->mac, text), other->name);
	}
	return 0;
}

int fwd_port_add(struct fwd *f, struct port *p, const struct fwd_port_conf *conf, struct err *e)
{
	struct fwd_table *t;
	unsigned id = 0;
	int rc = check_conf(f, p, conf, e);

	if (rc < 0)
		return rc;
	while (id < PORTS_MAX && f->table->port[id])
		id++;
	if (id == PORTS_MAX)
		return err_set(e, -ENOSPC, "name", "remove a port first", "the switch has its %d ports", PORTS_MAX);
	t = copy_table(f);
	p->id = (uint16_t)id;
	t->port[id] = p;
	t->conf[id] = *conf;
	publish(f);
	return 0;
}

static bool is_behind(const void *arg, uint64_t key, uint64_t value)
{
	(void)key;
	return fdb_dest(value).v == ((const struct port *)arg)->id;
}

struct left_vlans {
	uint16_t port;
	const struct fwd_port_conf *conf;
};

static bool in_left_vlan(const void *arg, uint64_t key, uint64_t value)
{
	const struct left_vlans *l = arg;

	return fdb_dest(value).v == l->port && !carries(l->conf, fdb_key_vid(key));
}

int fwd_port_set(struct fwd *f, struct port *p, const struct fwd_port_conf *conf, struct err *e)
{
	struct fwd_table *t;
	int rc = check_conf(f, p, conf, e);

	if (rc < 0)
		return rc;
	t = copy_table(f);
	t->conf[p->id] = *conf;
	publish(f);
	fdb_forget(&f->fdb, in_left_vlan, &(struct left_vlans){.port = p->id, .conf = conf});
	return 0;
}

void fwd_port_remove(struct fwd *f, struct port *p)
{
	copy_table(f)->port[p->id] = NULL;
	publish(f);
	fdb_forget(&f->fdb, is_behind, p);
}

void fwd_link_changed(struct fwd *f, struct port *p)
{
	if (f->table->port[p->id] != p)
		return; /* not (or no longer) in the switch */
	copy_table(f);
	publish(f);
	if (!p->up)
		fdb_forget(&f->fdb, is_behind, p);
}

struct too_old {
	uint32_t now_s, ageing_s;
};

static bool is_too_old(const void *arg, uint64_t key, uint64_t value)
{
	const struct too_old *o = arg;

	(void)key;
	return o->now_s - (uint32_t)value > o->ageing_s;
}

void fwd_age(struct fwd *f)
{
	struct too_old o = {.now_s = clock_s(), .ageing_s = f->ageing_s};

	f->fdb.now_s = o.now_s;
	if (f->ageing_s)
		f->fdb.aged += fdb_forget(&f->fdb, is_too_old, &o);
}

static bool any(const void *arg, uint64_t key, uint64_t value)
{
	(void)arg, (void)key, (void)value;
	return true;
}

unsigned fwd_fdb_flush(struct fwd *f)
{
	return fdb_forget(&f->fdb, any, NULL);
}

void fwd_set_ageing(struct fwd *f, unsigned ageing_s)
{
	f->ageing_s = ageing_s;
}

static void walk_learned(struct fwd *f, void (*each)(void *arg, const struct fdb_entry *e), void *arg)
{
	for (uint32_t b = 0; b <= f->fdb.mask; b++)
		for (int i = 0; i < FDB_WAYS; i++) {
			uint64_t key = f->fdb.bucket[b].slot[i].key, value = f->fdb.bucket[b].slot[i].value;
			const struct port *p = f->table->port[fdb_dest(value).v];

			if (key && p)
				each(arg, &(struct fdb_entry){
						  .mac = mac_from_u64(key),
						  .vid = fdb_key_vid(key),
						  .port = p,
						  .age_s = f->fdb.now_s - (uint32_t)value,
					  });
		}
}

void fwd_fdb_walk(struct fwd *f, void (*each)(void *arg, const struct fdb_entry *e), void *arg)
{
	for (unsigned i = 0; i < OWNERS_SLOTS; i++) {
		const struct owner *o = &f->table->owner[i];

		if (o->mac)
			each(arg, &(struct fdb_entry){
					  .mac = mac_from_u64(o->mac),
					  .port = f->table->port[o->port],
					  .is_static = true,
				  });
	}
	walk_learned(f, each, arg);
}

void fwd_stats_get(const struct fwd *f, struct fwd_stats *s)
{
	*s = (struct fwd_stats){
		.entries = f->fdb.entries,
		.capacity = f->fdb.capacity,
		.learned = f->fdb.learned,
		.aged = f->fdb.aged,
		.moved = f->fdb.moved,
		.full = f->fdb.full,
	};
}
