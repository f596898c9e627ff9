/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/bare.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/cycles.h"

/* The program `bare PATH PATH [CPU]`: two vhost-user ports and the bare loop between them. A line on standard input asks
 * for its counters as JSON; its end ends the program. The loop has a thread of its own, and stands still while a
 * connection changes anything. */

struct bare {
	struct bare_port port[2];
	struct bare_counts counts;
	_Atomic bool stop;
	pthread_t thread;
	bool running;
	int cpu;
	uint64_t began_ns, began_cycles;
};

static void *loop_main(void *arg)
{
	struct bare *b = arg;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(b->cpu, &set);
	if (b->cpu >= 0 && sched_setaffinity(0, sizeof(set), &set) < 0)
		perror("bare: sched_setaffinity");
	bare_loop(b->port, &b->counts, &b->stop);
	return NULL;
}

static void start(struct bare *b)
{
	if (b->running || !bare_ready(&b->port[0]) || !bare_ready(&b->port[1]))
		return;
	b->stop = false;
	b->running = pthread_create(&b->thread, NULL, loop_main, b) == 0;
}

static void halt(struct bare *b)
{
	if (!b->running)
		return;
	b->stop = true;
	pthread_join(b->thread, NULL);
	b->running = false;
}

static void print_counts(struct bare *b)
{
	const double seconds = (double)(time_now_ns() - b->began_ns) / NS_PER_S;

	printf("{\"frames\": %llu, \"busy_cycles\": %llu, \"polls\": %llu, \"hz\": %.0f}\n",
	       (unsigned long long)b->counts.frames, (unsigned long long)b->counts.busy,
	       (unsigned long long)b->counts.polls, (double)(cycles() - b->began_cycles) / seconds);
	fflush(stdout);
}

static void serve_port(struct bare *b, struct bare_port *p)
{
	if (p->sock < 0) {
		bare_accept(p);
		return;
	}
	if (!bare_harmless(p))
		halt(b);
	bare_handle(p);
	start(b);
}

/* False: standard input has ended. */
static bool serve_stdin(struct bare *b)
{
	char line[64];

	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return false;
	print_counts(b);
	return true;
}

static bool serve(struct bare *b)
{
	struct pollfd p[3] = {{.fd = STDIN_FILENO, .events = POLLIN}};

	for (unsigned i = 0; i < 2; i++)
		p[i + 1] = (struct pollfd){.fd = b->port[i].sock >= 0 ? b->port[i].sock : b->port[i].listen_fd,
					   .events = POLLIN};
	if (poll(p, 3, -1) < 0)
		return true;
	for (unsigned i = 0; i < 2; i++)
		if (p[i + 1].revents)
			serve_port(b, &b->port[i]);
	return p[0].revents == 0 || serve_stdin(b);
}

int main(int argc, char **argv)
{
	static struct bare b;

	if (argc < 3) {
		fprintf(stderr, "usage: bare PATH PATH [CPU]\n");
		return 2;
	}
	b.cpu = argc > 3 ? (int)strtol(argv[3], NULL, 10) : -1;
	b.began_ns = time_now_ns();
	b.began_cycles = cycles();
	for (unsigned i = 0; i < 2; i++) {
		b.port[i].path = argv[i + 1];
		if (!bare_listen(&b.port[i]))
			return 1;
	}
	while (serve(&b))
		;
	halt(&b);
	return 0;
}
