/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/time.h"
#include "bench/load.h"

/* Modes pingpong and eventfd: how long one frame takes when nothing else goes on. The receiver sleeps in poll() on its
 * call eventfd, the sender kicks if the switch asks for it: what a guest's interrupts and kicks come down to. Mode
 * eventfd does the same without a switch: another thread wakes, and wakes us. */

#define LOST_MS 200

static void pause_us(unsigned us)
{
	const struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};

	nanosleep(&t, NULL);
}

/* Take all frames; is the one from @stream with @seq among them? */
static bool take(struct load *l, struct front_queue *rx, unsigned stream, uint32_t seq)
{
	struct front_frame f[LOAD_BURST];
	const unsigned n = front_rx_burst(rx, f, LOAD_BURST);
	bool found = false;

	for (unsigned i = 0; i < n; i++) {
		struct load_tag tag;

		if (!load_intact(l, rx, &f[i], &tag))
			l->counts.bad++;
		else if (tag.stream == stream && tag.seq == seq)
			found = true;
		else
			l->counts.stray++;
	}
	if (n > 0)
		front_rx_return(rx);
	return found;
}

/* Sleep until the frame is there; false: it is lost. */
static bool await_frame(struct load *l, struct front_queue *rx, unsigned stream, uint32_t seq)
{
	struct pollfd p = {.fd = front_call_fd(rx), .events = POLLIN};

	for (;;) {
		if (take(l, rx, stream, seq))
			return true;
		if (front_arm(rx, true))
			continue;
		if (poll(&p, 1, LOST_MS) == 0)
			return take(l, rx, stream, seq);
		front_call_clear(rx);
	}
}

static void ping(struct load *l, unsigned stream)
{
	struct load_stream *s = &l->stream[stream];
	struct front_queue *rx = front_rx_queue(l->port[load_partner(l, stream)], 0);
	struct front_frame f;
	uint64_t began;

	take(l, rx, LOAD_STREAM_HELLO, 0);
	front_arm(rx, true);
	began = time_now_ns();
	if (front_tx_claim(s->tx, &f, 1) == 0) {
		l->counts.lost++;
		return;
	}
	load_stamp(l, stream, &f, s->sent, 0);
	front_tx_post(s->tx, &f, 1);
	l->counts.sent++;
	if (await_frame(l, rx, stream, s->sent++)) {
		hist_add(&l->latency, time_now_ns() - began);
		l->counts.received++;
	} else {
		l->counts.lost++;
	}
}

static int report(const struct hist *h, const struct load_counts *c)
{
	printf("{\"frames\": %llu, \"lost\": %llu, \"stray\": %llu, \"bad\": %llu, \"latency\": ",
	       (unsigned long long)c->received, (unsigned long long)c->lost, (unsigned long long)c->stray,
	       (unsigned long long)c->bad);
	hist_print(h);
	printf("}\n");
	return 0;
}

int load_pingpong(struct load *l)
{
	const uint64_t until = time_now_ns() + (uint64_t)(l->conf.seconds * NS_PER_S);

	for (unsigned i = 0; time_now_ns() < until; i++) {
		ping(l, (i & 1) * l->conf.pairs);
		if (l->conf.gap_us > 0)
			pause_us(l->conf.gap_us);
	}
	return report(&l->latency, &l->counts);
}

struct echo {
	int there, back; /* eventfds */
	int cpu;
};

static void wait_eventfd(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	eventfd_t n;

	while (poll(&p, 1, -1) <= 0)
		;
	eventfd_read(fd, &n);
}

static void *echo_main(void *arg)
{
	const struct echo *e = arg;

	load_pin(e->cpu);
	for (;;) {
		wait_eventfd(e->there);
		eventfd_write(e->back, 1);
	}
	return NULL;
}

static void bounce(const struct load_conf *c, const struct echo *e, struct hist *h)
{
	const uint64_t until = time_now_ns() + (uint64_t)(c->seconds * NS_PER_S);

	while (time_now_ns() < until) {
		const uint64_t began = time_now_ns();

		eventfd_write(e->there, 1);
		wait_eventfd(e->back);
		hist_add(h, time_now_ns() - began);
		if (c->gap_us > 0)
			pause_us(c->gap_us);
	}
}

/* The other thread ends with the process. */
int load_eventfd(const struct load_conf *c)
{
	static struct hist h;
	static struct echo e;
	const struct load_counts none = {0};
	pthread_t thread;

	e = (struct echo){eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC), c->peer_cpu};
	if (e.there < 0 || e.back < 0 || pthread_create(&thread, NULL, echo_main, &e) != 0) {
		perror("load: eventfd");
		return 1;
	}
	bounce(c, &e, &h);
	return report(&h, &none);
}
