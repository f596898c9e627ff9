/* SPDX-License-Identifier: Apache-2.0 */
/* The slots of the state file: who has one, and what is kept in it.
 *
 * A write to a page that the file does not have yet would need room in the file system at a moment when nothing can be
 * done about it (SIGBUS): so a port's pages are made when it takes its slot. If the file is truncated under us all the
 * same, gmem's handler puts zero pages in its place; nothing is kept from then on, which is said once.
 */
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gmem/watch.h"
#include "state/state_priv.h"

struct state *state_open(const char *path, struct err *e)
{
	struct state *s = calloc(1, sizeof(*s));

	if (s)
		s->fd = -1;
	if (!s || !(s->path = strdup(path)))
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	else if (state_file_open(s, e) == 0)
		return s;
	state_close(s);
	return NULL;
}

void state_close(struct state *s)
{
	if (!s)
		return;
	state_file_close(s);
	free((char *)s->path);
	free(s);
}

/* Has the file been truncated? */
static bool is_lost(struct state *s)
{
	if (!watch_faulted(s->watch))
		return false;
	if (!s->loss_told)
		log_error("%s was truncated: nothing is kept any more, until flued is started anew", s->path);
	return s->loss_told = true;
}

/* ---- slots ---- */

static unsigned index_of(const struct state *s, const struct state_port *p)
{
	return (unsigned)(p - s->port);
}

static struct state_port *find(struct state *s, const char *name)
{
	for (unsigned i = 0; i < STATE_PORTS; i++)
		if (!strcmp(s->port[i].name, name))
			return &s->port[i];
	return NULL;
}

/* As if it had never been used. */
static void empty(struct state *s, struct state_port *p)
{
	state_file_wipe(s, index_of(s, p));
	*p = (struct state_port){.saved.journal = p->saved.journal};
}

/* A slot for a port that has none; it may be one of a port that is not there. */
static struct state_port *find_room(struct state *s)
{
	struct state_port *p = find(s, "");

	if (p)
		return p;
	for (unsigned i = 0; i < STATE_PORTS; i++)
		if (!s->port[i].taken && !s->port[i].expected) {
			empty(s, &s->port[i]);
			return &s->port[i];
		}
	return NULL;
}

static int make_pages(struct state *s, const struct state_port *p, unsigned pairs)
{
	size_t rings = 2 * (size_t)pairs + 1, from = offsetof(struct state_file, slot[index_of(s, p)]);
	int rc;

	do
		rc = posix_fallocate(s->fd, (off_t)from, (off_t)offsetof(struct state_slot, journal[rings]));
	while (rc == EINTR);
	return -rc;
}

void state_expect(struct state *s, const char *name)
{
	struct state_port *p = s ? find(s, name) : NULL;

	if (p)
		p->expected = true;
}

struct vhost_saved *state_port(struct state *s, const char *name, unsigned pairs)
{
	struct state_port *p;
	int rc = -ENOSPC;

	if (!s || is_lost(s))
		return NULL;
	p = find(s, name);
	if (!p)
		p = find_room(s);
	if (!p || (rc = make_pages(s, p, pairs)) < 0) {
		log_limited(&s->limit, LOG_WARN,
			    "%s: no room for port %s, its guest may lose its link if flued dies: %s", s->path, name,
			    strerror(-rc));
		return NULL;
	}
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->taken = true;
	p->expected = false;
	return &p->saved;
}

void state_port_save(struct state *s, const struct vhost_saved *saved)
{
	struct state_port *p = container_of(saved, struct state_port, saved);
	struct state_record r = {.number = p->number + 1, .agreed = saved->agreed};

	memcpy(r.name, p->name, sizeof(r.name));
	r.crc = state_record_crc(&r);
	s->file->slot[index_of(s, p)].record[p->next] = r;
	if (is_lost(s))
		return;
	p->number++;
	p->next = !p->next;
}

void state_port_release(struct state *s, struct vhost_saved *saved)
{
	struct state_port *p = container_of(saved, struct state_port, saved);

	p->taken = false;
	if (!p->number)
		empty(s, p);
}

void state_port_forget(struct state *s, const char *name)
{
	struct state_port *p = s ? find(s, name) : NULL;

	if (p)
		empty(s, p);
}
