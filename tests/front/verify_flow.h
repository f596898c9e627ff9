/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "front/front.h"

/* One direction between two front ends: numbered frames, whose length and contents follow from the number, sent by one
 * and checked completely by the other.
 *
 * A frame that does not arrive before a later one is missing. It is lost if the back end had it in its hands when it
 * died: it was completed to its sender, or the next back end finds written down that it was to be, does that and goes
 * on behind it. Else it is dropped. A frame that the next back end shows to the receiver, because it finds that written
 * down, is neither.
 */

struct flow_counts {
	uint64_t sent;       /* posted */
	uint64_t completed;  /* and taken back by the sender */
	uint64_t received;   /* each frame once */
	uint64_t duplicates; /* received again */
	uint64_t reordered;  /* received behind a later one, and counted as missing then */
	uint64_t lost, dropped;
	uint64_t corrupt; /* not what was sent, or never sent */
};

struct flow {
	/* constant */
	struct front_queue *tx, *rx;
	uint8_t direction;
	uint32_t least, most; /* bytes of a frame */
	uint32_t window;      /* frames on their way at most; no more than the receiver has room for */

	uint64_t low;   /* all below are received or missing */
	uint64_t dead;  /* all below were completed when the last back end died */
	bool orphaned;  /* and nothing has arrived since */
	uint64_t *seen; /* bits: the last FLOW_SEEN frames, by number: received */
	struct flow_counts count;
};

#define FLOW_MIN  60
#define FLOW_MAX  9014
#define FLOW_SEEN 65536 /* far more than can be on their way */

/* @tx, @rx, @least and @most are set. 0 or a negative errno. */
int flow_init(struct flow *f, uint8_t direction, unsigned window) must_check;
void flow_fini(struct flow *f);
/* Send what the window allows. */
void flow_send(struct flow *f);
/* Receive and check what is there; how many frames. */
unsigned flow_receive(struct flow *f);
/* The back end is dead: receive what it has left. */
void flow_died(struct flow *f);
/* Nothing comes any more: what has not arrived is missing. */
void flow_end(struct flow *f);
/* Sent and not completed. */
uint64_t flow_waiting(const struct flow *f);
/* Received and not completed: the back end may send them again. */
uint64_t flow_ahead(const struct flow *f);
/* Has everything arrived that was sent? */
bool flow_idle(const struct flow *f);
