/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "bench/load.h"

/* Opening the ports, and making them known to the switch. */

#define HELLO_EVERY_NS   (20 * 1000 * NS_PER_US)
#define HELLO_TIMEOUT_NS (15 * NS_PER_S)

bool load_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return true;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) == 0)
		return true;
	perror("load: sched_setaffinity");
	return false;
}

static bool open_port(struct load *l, unsigned i)
{
	const struct load_conf *c = &l->conf;
	const struct front_conf conf = {
		.path = c->path[i],
		.listen = c->listen,
		.pairs = c->pairs,
		.ring_size = c->ring,
		.frame_bytes = load_longest(c),
		.piece_bytes = c->piece,
		.required = c->required,
		.wanted = c->wanted,
		.timeout_ms = 20000,
	};
	struct err e = {0};

	l->port[i] = front_new(&conf, &e);
	if (l->port[i] != NULL && front_connect(l->port[i], &e) == 0)
		return true;
	fprintf(stderr, "load: %s: %s\n", conf.path, e.text);
	return false;
}

/* No more frames on their way than the partner's buffers hold, whatever queue the switch picks. */
static void open_streams(struct load *l)
{
	const unsigned pairs = l->conf.pairs;

	for (unsigned s = 0; s < load_streams(l); s++) {
		const struct front_queue *rx = front_rx_queue(l->port[load_partner(l, s)], 0);
		const unsigned most = min_u32(l->conf.flight, front_rx_frames(rx)) / pairs;

		l->stream[s].tx = front_tx_queue(l->port[s / pairs], s % pairs);
		l->stream[s].credit = min_u32(most, front_tx_slots(l->stream[s].tx));
	}
}

bool load_open(struct load *l)
{
	for (unsigned i = 0; i < l->conf.ports; i++)
		if (!open_port(l, i))
			return false;
	open_streams(l);
	return load_prepare(l) == 0;
}

void load_close(struct load *l)
{
	for (unsigned i = 0; i < l->conf.ports; i++)
		front_free(l->port[i]);
	load_frame_fini(l);
}

static void say_hello(struct load *l, unsigned port)
{
	const struct load_tag tag = {.seq = port, .stream = LOAD_STREAM_HELLO};
	struct front_queue *tx = l->stream[port * l->conf.pairs].tx;
	struct front_frame f;

	if (front_tx_claim(tx, &f, 1) == 0)
		return;
	memcpy(f.bytes + load_tag_at(&l->conf), &tag, sizeof(tag));
	front_tx_post(tx, &f, 1);
}

/* Has the partner's introduction come to @port? */
static bool heard(struct load *l, unsigned port)
{
	struct front_frame f[LOAD_BURST];
	bool found = false;

	for (unsigned pair = 0; pair < l->conf.pairs; pair++) {
		struct front_queue *rx = front_rx_queue(l->port[port], pair);
		const unsigned n = front_rx_burst(rx, f, LOAD_BURST);

		for (unsigned i = 0; i < n; i++) {
			struct load_tag tag;

			if (load_intact(l, rx, &f[i], &tag) && tag.stream == LOAD_STREAM_HELLO &&
			    tag.seq == (port ^ 1u))
				found = true;
		}
		front_rx_return(rx);
	}
	return found;
}

/* Say hello once to each that has heard nothing, and listen for a while; how many are still deaf. */
static unsigned introduce_round(struct load *l, bool *known)
{
	const uint64_t until = time_now_ns() + HELLO_EVERY_NS;
	unsigned deaf = 0;

	for (unsigned i = 0; i < l->conf.ports; i++)
		if (!known[i ^ 1u])
			say_hello(l, i);
	while (time_now_ns() < until)
		for (unsigned i = 0; i < l->conf.ports; i++)
			known[i] |= heard(l, i);
	for (unsigned i = 0; i < l->conf.ports; i++)
		deaf += !known[i];
	return deaf;
}

bool load_introduce(struct load *l)
{
	const uint64_t deadline = time_now_ns() + HELLO_TIMEOUT_NS;
	bool known[LOAD_PORTS_MAX] = {0};
	unsigned deaf;

	do
		deaf = introduce_round(l, known);
	while (deaf > 0 && time_now_ns() < deadline);
	if (deaf > 0)
		fprintf(stderr, "load: nothing came to %u of %u ports\n", deaf, l->conf.ports);
	return deaf == 0;
}
