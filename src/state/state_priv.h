/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/log.h"
#include "state/state.h"
#include "state/state_layout.h"

/* Private to state. The file's records are read once, at start, and then only written: what is believed is here. */
struct state_port {
	struct vhost_saved saved;    /* journal: in the file */
	char name[STATE_NAME_BYTES]; /* "": free */
	uint64_t number;             /* of the newest record in the file; 0: there is none */
	unsigned next;               /* which of the two records is written next */
	bool taken;                  /* by a port that is there */
	bool expected;               /* it will be */
};

struct state {
	const char *path;
	int fd;
	struct state_file *file; /* the mapping */
	unsigned watch;          /* its slot, for SIGBUS */
	bool loss_told;
	struct log_limit limit;
	struct state_port port[STATE_PORTS]; /* [i] is file->slot[i] */
};

/* ---- state_file.c: a whole file ---- */

/* Open or begin the file at s->path, map it, and read its records into s->port. */
int state_file_open(struct state *s, struct err *e) must_check;
/* What the above made, even if it has failed half-way. */
void state_file_close(struct state *s);
/* Make slot @i as if it had never been used, without its pages. */
void state_file_wipe(struct state *s, unsigned i);
