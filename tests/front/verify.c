/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/time.h"
#include "front/verify_flow.h"

/* Two guests that send to each other and check every frame, through a switch that may die at any moment.
 *
 * Each is a front end of its own. When the switch is gone both say what came of the frames so far, wait for its
 * successor with memory and rings as they are, and go on. Events are lines of JSON on standard output:
 *   flowing   frames go through both ways, for the first time or again
 *   down      the back end is gone; what happened since the last such event
 *   end       standard input was closed: all frames on their way have arrived; the same, for the rest
 *   stuck     nothing moves, though the back end is there; the same
 *   failed    why this is no use any more: a stuck ring, a buffer completed that was not there; status 1 */

#define FLOWING_FRAMES 300 /* this many in each direction, and the back end works */
#define ROUNDS         64  /* between looks at anything but the rings */
#define SETTLE_MS      500 /* nothing arrives any more: the rest is missing */
#define NS_PER_MS      UINT64_C(1000000)

struct verify {
	struct front_conf conf[2];
	uint32_t least;
	unsigned window, stuck_ms;

	struct front *front[2];
	struct flow flow[2];        /* flow[i] is from front[i] to the other */
	struct flow_counts told[2]; /* as of the last report */
	uint64_t resumed[2];        /* received by then */
	unsigned interval;
	bool flowing;
	uint64_t progress[2], progress_ns[2]; /* frames that had moved, and when that number last changed */
};

static const char usage[] =
	"usage: verify --connect PATH --listen PATH [OPTION]...\n"
	"Two vhost-user front ends send numbered frames to each other until standard input ends, check each, and "
	"outlive\n"
	"their back end. --connect, --listen: two in any combination.\n"
	"  --least N, --most N    bytes of a frame (60, 60)\n"
	"  --piece N              bytes of a buffer (as long as the longest frame)\n"
	"  --ring N               entries of each ring (256)\n"
	"  --window N             frames on their way in each direction at most (what a ring has room for)\n"
	"  --stuck-ms N           no progress for so long is a failure (10000)\n"
	"  --packed, --mergeable, --indirect, --event-idx, --in-order    features, required\n";

static void failed(const struct verify *v, const char *why)
{
	printf("{\"event\": \"failed\", \"interval\": %u, \"why\": \"%s\"}\n", v->interval, why);
	exit(1);
}

static void print_flow(const struct flow *f, struct flow_counts *told)
{
	const struct flow_counts now = f->count;

	printf("{\"sent\": %" PRIu64 ", \"completed\": %" PRIu64 ", \"received\": %" PRIu64 ", \"duplicates\": %" PRIu64
	       ", \"reordered\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"dropped\": %" PRIu64 ", \"corrupt\": %" PRIu64
	       ", \"waiting\": %" PRIu64 ", \"ahead\": %" PRIu64 "}",
	       now.sent - told->sent, now.completed - told->completed, now.received - told->received,
	       now.duplicates - told->duplicates, now.reordered - told->reordered, now.lost - told->lost,
	       now.dropped - told->dropped, now.corrupt - told->corrupt, flow_waiting(f), flow_ahead(f));
	*told = now;
}

static void report(struct verify *v, const char *event)
{
	printf("{\"event\": \"%s\", \"interval\": %u, \"flows\": [", event, v->interval++);
	print_flow(&v->flow[0], &v->told[0]);
	printf(", ");
	print_flow(&v->flow[1], &v->told[1]);
	printf("]}\n");
	fflush(stdout);
}

static void look_for_faults(const struct verify *v)
{
	for (unsigned i = 0; i < 2; i++) {
		if (front_queue_stats(v->flow[i].tx).faults > 0)
			failed(v, i == 0 ? "a bad buffer came back to sender 0" : "a bad buffer came back to sender 1");
		if (front_queue_stats(v->flow[i].rx).faults > 0)
			failed(v, i == 0 ? "a bad buffer came to receiver 1" : "a bad buffer came to receiver 0");
	}
}

/* Frames arrive, or are completed, in each direction. */
static void look_for_progress(struct verify *v)
{
	const uint64_t now = time_now_ns();

	for (unsigned i = 0; i < 2; i++) {
		const struct flow_counts *c = &v->flow[i].count;
		const uint64_t progress = c->received + c->duplicates + c->corrupt + c->completed;

		if (progress != v->progress[i]) {
			v->progress[i] = progress;
			v->progress_ns[i] = now;
		} else if (now - v->progress_ns[i] > v->stuck_ms * NS_PER_MS) {
			report(v, "stuck");
			failed(v, i == 0 ? "nothing moves from 0 to 1" : "nothing moves from 1 to 0");
		}
	}
}

static void look_for_flow(struct verify *v)
{
	if (v->flowing)
		return;
	for (unsigned i = 0; i < 2; i++)
		if (v->flow[i].count.received - v->resumed[i] < FLOWING_FRAMES)
			return;
	printf("{\"event\": \"flowing\", \"interval\": %u}\n", v->interval);
	fflush(stdout);
	v->flowing = true;
}

/* The back end is there, for the first time or again. */
static void begin(struct verify *v)
{
	for (unsigned i = 0; i < 2; i++) {
		v->resumed[i] = v->flow[i].count.received;
		v->progress_ns[i] = time_now_ns();
	}
	v->flowing = false;
}

static void start(struct verify *v)
{
	struct err e = {0};

	for (unsigned i = 0; i < 2; i++) {
		v->front[i] = front_new(&v->conf[i], &e);
		if (v->front[i] == NULL || front_connect(v->front[i], &e) < 0)
			failed(v, e.text);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct flow *f = &v->flow[i];

		f->tx = front_tx_queue(v->front[i], 0);
		f->rx = front_rx_queue(v->front[1 - i], 0);
		f->least = v->least;
		f->most = v->conf[0].frame_bytes;
		if (flow_init(f, (uint8_t)i, min_u32(v->window, front_rx_frames(f->rx))) < 0)
			failed(v, "no memory");
	}
	begin(v);
}

/* The socket of a back end that is just dying may take a connection that nobody serves. */
static int reconnect(struct front *f, struct err *e)
{
	int r;

	do
		r = front_reconnect(f, e);
	while (r == -ECONNRESET || r == -EPIPE);
	return r;
}

static void restart(struct verify *v)
{
	struct err e = {0};

	for (unsigned i = 0; i < 2; i++)
		front_hang_up(v->front[i]);
	for (unsigned i = 0; i < 2; i++)
		flow_died(&v->flow[i]);
	look_for_faults(v);
	report(v, "down");
	for (unsigned i = 0; i < 2; i++)
		if (reconnect(v->front[i], &e) < 0)
			failed(v, e.text);
	begin(v);
}

static bool back_end_gone(const struct verify *v)
{
	return front_lost(v->front[0]) || front_lost(v->front[1]);
}

static bool told_to_end(void)
{
	struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&p, 1, 0) > 0;
}

/* Both ways once. When there was nothing to do the switch may need our processor. */
static void move(struct verify *v)
{
	flow_send(&v->flow[0]);
	flow_send(&v->flow[1]);
	if (flow_receive(&v->flow[0]) + flow_receive(&v->flow[1]) == 0)
		sched_yield();
}

static void run(struct verify *v)
{
	while (!told_to_end()) {
		for (unsigned n = 0; n < ROUNDS; n++)
			move(v);
		look_for_faults(v);
		look_for_progress(v);
		look_for_flow(v);
		if (back_end_gone(v))
			restart(v);
	}
}

/* What is on its way arrives; what does not is missing. */
static void settle(struct verify *v)
{
	uint64_t quiet_since = time_now_ns();

	while (!(flow_idle(&v->flow[0]) && flow_idle(&v->flow[1])) &&
	       time_now_ns() - quiet_since < SETTLE_MS * NS_PER_MS) {
		for (unsigned i = 0; i < 2; i++) {
			v->flow[i].window = 0;
			flow_send(&v->flow[i]);
			if (flow_receive(&v->flow[i]) > 0)
				quiet_since = time_now_ns();
		}
	}
	for (unsigned i = 0; i < 2; i++)
		flow_end(&v->flow[i]);
	look_for_faults(v);
}

static void finish(struct verify *v)
{
	for (unsigned i = 0; i < 2; i++) {
		flow_fini(&v->flow[i]);
		front_free(v->front[i]);
	}
}

static const struct option options[] = {
	{"connect", required_argument, NULL, 'c'}, {"listen", required_argument, NULL, 'l'},
	{"least", required_argument, NULL, 'm'},   {"most", required_argument, NULL, 'M'},
	{"piece", required_argument, NULL, 'p'},   {"ring", required_argument, NULL, 'r'},
	{"window", required_argument, NULL, 'w'},  {"stuck-ms", required_argument, NULL, 's'},
	{"packed", no_argument, NULL, 'P'},        {"mergeable", no_argument, NULL, 'R'},
	{"indirect", no_argument, NULL, 'I'},      {"event-idx", no_argument, NULL, 'E'},
	{"in-order", no_argument, NULL, 'O'},      {NULL, 0, NULL, 0},
};

static void misused(void)
{
	fputs(usage, stderr);
	exit(2);
}

static unsigned number(const char *text)
{
	char *end;
	const unsigned long n = strtoul(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n > 1000000)
		misused();
	return (unsigned)n;
}

static void add_front(struct verify *v, const char *path, bool listen)
{
	const unsigned i = v->conf[0].path == NULL ? 0 : 1;

	if (v->conf[i].path != NULL)
		misused();
	v->conf[i].path = path;
	v->conf[i].listen = listen;
}

static uint64_t feature(int option)
{
	switch (option) {
	case 'P':
		return FRONT_F_RING_PACKED;
	case 'R':
		return FRONT_F_MRG_RXBUF;
	case 'I':
		return FRONT_F_INDIRECT_DESC;
	case 'E':
		return FRONT_F_EVENT_IDX;
	case 'O':
		return FRONT_F_IN_ORDER;
	default:
		misused();
		return 0;
	}
}

static void set_option(struct verify *v, struct front_conf *both, int option)
{
	switch (option) {
	case 'c':
	case 'l':
		add_front(v, optarg, option == 'l');
		break;
	case 'm':
		v->least = number(optarg);
		break;
	case 'M':
		both->frame_bytes = number(optarg);
		break;
	case 'p':
		both->piece_bytes = number(optarg);
		break;
	case 'r':
		both->ring_size = number(optarg);
		break;
	case 'w':
		v->window = number(optarg);
		break;
	case 's':
		v->stuck_ms = number(optarg);
		break;
	default:
		both->required |= feature(option);
	}
}

static void read_options(struct verify *v, int argc, char **argv)
{
	struct front_conf both = {.frame_bytes = FLOW_MIN, .strict = true, .timeout_ms = 20000};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		set_option(v, &both, option);
	if (optind != argc || v->conf[1].path == NULL || v->least < FLOW_MIN || both.frame_bytes < v->least ||
	    both.frame_bytes > FLOW_MAX)
		misused();
	for (unsigned i = 0; i < 2; i++) {
		both.path = v->conf[i].path;
		both.listen = v->conf[i].listen;
		v->conf[i] = both;
	}
}

int main(int argc, char **argv)
{
	static struct verify v = {.least = FLOW_MIN, .window = UINT32_MAX, .stuck_ms = 10000};

	read_options(&v, argc, argv);
	start(&v);
	run(&v);
	settle(&v);
	report(&v, "end");
	finish(&v);
	return 0;
}
