/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "front/front_priv.h"

/* The bare loop: two ports joined back to back, one copy for each frame, and nothing else: no switching, no check of
 * anything the guest wrote. The practical limit of what a switch on one core can do. Split rings only. */

struct bare_ring {
	const struct front_desc *desc;
	const struct front_avail *avail;
	struct front_used *used;
	uint16_t size, next;  /* entry to look at; used as far */
	int kick_fd, call_fd; /* -1: none */
	bool enabled;
};

struct bare_port {
	const char *path;
	int listen_fd, sock; /* -1: none */
	uint8_t *mem;        /* of the guest, as mapped here */
	size_t mem_bytes;
	uint64_t gpa, uva;        /* of its first byte, for the guest and for its front end */
	struct bare_ring ring[2]; /* 0: receiveq, 1: transmitq */
};

struct bare_counts {
	_Atomic uint64_t frames;
	_Atomic uint64_t busy;  /* cycles of polls that moved frames */
	_Atomic uint64_t polls; /* that moved frames */
};

/* Copy between the two ports until *stop. */
void bare_loop(struct bare_port port[2], struct bare_counts *counts, const _Atomic bool *stop);

/* The connection (bare_port.c). A port is ready when both rings are complete and enabled, in whatever order that came. */
bool bare_listen(struct bare_port *p);
void bare_accept(struct bare_port *p);
bool bare_ready(const struct bare_port *p);
/* Handle one message; the loop must not run, unless bare_harmless() said so. False: it closed, the port is reset. */
bool bare_handle(struct bare_port *p);
/* Is the next message one that changes nothing? */
bool bare_harmless(const struct bare_port *p);
