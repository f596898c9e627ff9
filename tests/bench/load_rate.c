/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "bench/cycles.h"
#include "bench/load.h"

/* Mode rate: every stream keeps its share of frames on their way. What has arrived may be sent again; what does not
 * arrive for a while is given up, and its place too. With conf.pace frames leave by the clock, and say when. */

#define LOOK_EVERY    64                      /* rounds between two looks at the clock */
#define STDIN_NS      (1000 * NS_PER_US)      /* between two looks at standard input */
#define LOSS_NS       (50 * 1000 * NS_PER_US) /* without progress: what is missing is lost */
#define WARM_UP_S     0.3
#define SEND_AT_LEAST 16 /* frames at once, unless fewer are allowed on their way */

struct rate {
	struct load *l;
	uint32_t batch; /* send no fewer */
	uint64_t now;   /* as of the last look */
	uint64_t began, began_cycles, marked, looked, loss_looked;
	double due;     /* paced: frames that should have left */
	uint64_t paced; /* and have */
	struct load_counts at_mark;
	bool warm, over;
};

static void count_frame(struct rate *r, struct load_tag tag, const struct front_frame *f)
{
	struct load *l = r->l;
	struct load_stream *s = &l->stream[tag.stream];
	const uint32_t ahead = tag.seq - s->expected;

	if (ahead >= UINT32_C(1) << 31) {
		l->counts.late++;
		return;
	}
	l->counts.lost += ahead;
	l->counts.received++;
	l->counts.bytes += f->len;
	s->expected += ahead + 1;
	s->credit += ahead + 1;
	if (l->conf.pace > 0) {
		uint64_t sent_at;

		memcpy(&sent_at, f->bytes + load_tag_at(&l->conf) + LOAD_TIME_OFF, sizeof(sent_at));
		hist_add(&l->latency, r->now - sent_at);
	}
}

static void receive(struct rate *r, unsigned port, struct front_queue *rx)
{
	struct front_frame f[LOAD_BURST];
	struct load *l = r->l;
	const unsigned n = front_rx_burst(rx, f, LOAD_BURST);

	if (n > 0 && l->conf.pace > 0)
		r->now = time_now_ns();
	for (unsigned i = 0; i < n; i++) {
		struct load_tag tag;

		if (!load_intact(l, rx, &f[i], &tag))
			l->counts.bad++;
		else if (tag.stream == LOAD_STREAM_HELLO || load_partner(l, tag.stream) != port)
			l->counts.stray++;
		else
			count_frame(r, tag, &f[i]);
	}
	if (n > 0)
		front_rx_return(rx);
}

/* How many may leave now. */
static uint32_t allowed(struct rate *r, const struct load_stream *s)
{
	if (r->l->conf.pace > 0) {
		const double due = r->due - (double)r->paced;

		return due < 1 ? 0 : min_u32(min_u32((uint32_t)due, s->credit), LOAD_BURST);
	}
	return s->credit < r->batch ? 0 : min_u32(s->credit, LOAD_BURST);
}

static void transmit(struct rate *r, unsigned stream)
{
	struct load_stream *s = &r->l->stream[stream];
	struct front_frame f[LOAD_BURST];
	const uint32_t wanted = allowed(r, s);
	unsigned n;

	if (wanted == 0)
		return;
	n = front_tx_claim(s->tx, f, wanted);
	for (unsigned i = 0; i < n; i++)
		load_stamp(r->l, stream, &f[i], s->sent + i, r->l->conf.pace > 0 ? r->now : 0);
	front_tx_post(s->tx, f, n);
	s->sent += n;
	s->credit -= n;
	r->l->counts.sent += n;
	r->paced += n;
}

static void give_up_lost(struct load *l)
{
	for (unsigned i = 0; i < load_streams(l); i++) {
		struct load_stream *s = &l->stream[i];

		if (s->expected == s->seen_at && s->sent != s->expected) {
			l->counts.lost += s->sent - s->expected;
			s->credit += s->sent - s->expected;
			s->expected = s->sent;
		}
		s->seen_at = s->expected;
	}
}

static double clock_hz(const struct rate *r)
{
	return (double)(cycles() - r->began_cycles) * NS_PER_S / (double)(time_now_ns() - r->began);
}

/* What has happened since the last mark, as one line of JSON; @say: print it. */
static void mark(struct rate *r, bool say)
{
	const struct load_counts *c = &r->l->counts, *then = &r->at_mark;
	const double seconds = (double)(r->now - r->marked) / NS_PER_S;
	const double frames = (double)(c->received - then->received);

	if (say) {
		printf("{\"seconds\": %.6f, \"frames\": %.0f, \"fps\": %.1f, \"gbps\": %.4f, \"sent\": %llu, "
		       "\"lost\": %llu, \"late\": %llu, \"stray\": %llu, \"bad\": %llu, \"hz\": %.0f, \"latency\": ",
		       seconds, frames, frames / seconds, (double)(c->bytes - then->bytes) * 8 / seconds / 1e9,
		       (unsigned long long)(c->sent - then->sent), (unsigned long long)(c->lost - then->lost),
		       (unsigned long long)(c->late - then->late), (unsigned long long)(c->stray - then->stray),
		       (unsigned long long)(c->bad - then->bad), clock_hz(r));
		hist_print(&r->l->latency);
		printf("}\n");
		fflush(stdout);
	}
	r->marked = r->now;
	r->at_mark = *c;
	memset(&r->l->latency, 0, sizeof(r->l->latency));
}

/* A line is a mark; the end is the end. */
static void obey_stdin(struct rate *r)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
	char line[64];
	ssize_t n;

	if (poll(&p, 1, 0) <= 0)
		return;
	n = read(STDIN_FILENO, line, sizeof(line));
	if (n <= 0)
		r->over = true;
	else
		mark(r, true);
}

static void obey_clock(struct rate *r)
{
	const double seconds = (double)(r->now - r->marked) / NS_PER_S;

	if (!r->warm && seconds >= WARM_UP_S) {
		r->warm = true;
		mark(r, false);
	} else if (r->warm && seconds >= r->l->conf.seconds) {
		mark(r, true);
		r->over = true;
	}
}

static void look(struct rate *r)
{
	r->now = time_now_ns();
	if (r->now - r->loss_looked >= LOSS_NS) {
		r->loss_looked = r->now;
		give_up_lost(r->l);
	}
	if (r->now - r->looked < STDIN_NS)
		return;
	r->looked = r->now;
	if (r->l->conf.marks)
		obey_stdin(r);
	else
		obey_clock(r);
}

/* Frames that could not leave in time are not made up for: a pause of ours is not the switch's. */
static void keep_pace(struct rate *r)
{
	const double most = 4.0 * LOAD_BURST;

	r->now = time_now_ns();
	r->due = (double)(r->now - r->began) / NS_PER_S * r->l->conf.pace;
	if (r->due - (double)r->paced > most)
		r->paced = (uint64_t)(r->due - most);
}

static void one_round(struct rate *r)
{
	const unsigned pairs = r->l->conf.pairs;

	for (unsigned s = 0; s < load_streams(r->l); s++) {
		const unsigned port = s / pairs;

		receive(r, port, front_rx_queue(r->l->port[port], s % pairs));
		if (r->l->conf.pace > 0)
			keep_pace(r);
		transmit(r, s);
	}
}

int load_rate(struct load *l)
{
	struct rate r = {.l = l, .now = time_now_ns()};

	r.began_cycles = cycles();
	r.began = r.marked = r.looked = r.loss_looked = r.now;
	r.batch = min_u32(SEND_AT_LEAST, l->stream[0].credit / 4 + 1);
	if (l->conf.marks) {
		printf("{\"ready\": true}\n");
		fflush(stdout);
	}
	for (unsigned i = 0; !r.over; i++) {
		one_round(&r);
		if (i % LOOK_EVERY == 0)
			look(&r);
	}
	return 0;
}
