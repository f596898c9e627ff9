/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "vhost/vhost.h"

/* The state file: what the next flued must know of each guest's port if this one dies now (design D14). The names of the
 * ports, what was agreed with their front ends, and where their packed rings stand.
 *
 * Thread: control; the journals belong to whom journal.h says, while the port has its slot.
 * Life:   kept when flued ends, in order or not: an upgrade is a stop and a start. A port that the operator deletes is
 *         forgotten. Ports that are not there any more keep their slots as long as there are free ones: who made them
 *         through the API makes them again.
 * Trust:  the file may have been damaged, by a full disk or by hand: nothing in it is believed without a check sum, but
 *         for the journals (virtq_journal_valid()). flued starts whatever it finds.
 */

#define STATE_PORTS      256 /* as many as a switch can have */
#define STATE_NAME_BYTES 32  /* of a port, with the final zero */

struct state;

/* Open the file at @path, or begin a new one: if there is none, if it was written before the machine was booted (then
 * its guests are gone), or if it cannot be read; that one is set aside as "@path.bad", with a line in the log.
 * One at a time (the run directory's lock). NULL: *e says why there can be no state file; flued can do without. */
struct state *state_open(const char *path, struct err *e);
/* Everything is kept. No worker uses a journal any more. NULL is allowed. */
void state_close(struct state *s);

/* A port of this name is going to be added: its slot, if it has one, is not given to another. */
void state_expect(struct state *s, const char *name);

/* The slot of port @name with room for the rings of @pairs queue pairs (and a control queue): the one it had, or an
 * empty one. It is the caller's until state_port_release(). NULL: @s is NULL, STATE_PORTS others have theirs, or there is
 * no room in the file system (logged): the port works without. */
struct vhost_saved *state_port(struct state *s, const char *name, unsigned pairs);
/* Keep saved->agreed. Done when this returns; a flued that dies in it leaves what was there before. */
void state_port_save(struct state *s, const struct vhost_saved *saved);
/* The port goes, its slot stays for the next time; unless nothing was ever agreed. */
void state_port_release(struct state *s, struct vhost_saved *saved);
/* Port @name was deleted (and its slot released): it will begin anew if it comes again. */
void state_port_forget(struct state *s, const char *name);
