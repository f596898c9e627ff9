/* SPDX-License-Identifier: Apache-2.0 */
/* top: what happens now. Two readings of the counters, their difference by the time between. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "flue.h"

/* The terminal's other screen, so that what was on it comes back in the end. */
#define SCREEN_ENTER "\033[?1049h\033[?25l"
#define SCREEN_LEAVE "\033[?25h\033[?1049l"
#define SCREEN_CLEAR "\033[H\033[2J"

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

struct reading {
	json_t *ports, *status, *workers;
	double at_s;
};

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool take_reading(const struct cli *cli, struct reading *r)
{
	r->ports = api_call(cli, "GET", "/v1/ports", NULL, NULL);
	r->status = r->ports ? api_call(cli, "GET", "/v1/status", NULL, NULL) : NULL;
	r->workers = r->status ? api_call(cli, "GET", "/v1/workers", NULL, NULL) : NULL;
	r->at_s = now_s();
	return r->workers != NULL;
}

static void drop_reading(struct reading *r)
{
	json_decref(r->ports);
	json_decref(r->status);
	json_decref(r->workers);
	*r = (struct reading){0};
}

static const json_t *find_port(const struct reading *r, const char *name)
{
	json_t *p;
	size_t i;

	json_array_foreach (json_object_get(r->ports, "ports"), i, p)
		if (strcmp(text_of(p, "name"), name) == 0)
			return p;
	return NULL;
}

/* A counter's growth in a second; a port that is new, or counts anew, has none yet. */
static double rate(const json_t *now, const json_t *then, const char *counter, double seconds)
{
	json_int_t n = number_of(json_object_get(now, "counters"), counter);
	json_int_t before = number_of(json_object_get(then, "counters"), counter);

	return then && n >= before && seconds > 0 ? (double)(n - before) / seconds : 0;
}

static double drops_per_s(const json_t *p, const json_t *then, double seconds)
{
	json_int_t drops = drops_of(p), before = then ? drops_of(then) : drops;

	return drops >= before && seconds > 0 ? (double)(drops - before) / seconds : 0;
}

static void port_row(struct libscols_table *t, const json_t *p, const json_t *then, double seconds)
{
	table_row(t, text_of(p, "name"), text_of(p, "state"), real_text(rate(p, then, "rx_frames", seconds), 0),
		  real_text(rate(p, then, "rx_bytes", seconds) * 8 / 1e6, 1),
		  real_text(rate(p, then, "tx_frames", seconds), 0),
		  real_text(rate(p, then, "tx_bytes", seconds) * 8 / 1e6, 1),
		  real_text(drops_per_s(p, then, seconds), 0));
}

/* Share of a CPU that worker @i took; flued may have been started anew in between. */
static double worker_cpu(const struct reading *now, const struct reading *then, size_t i, double seconds)
{
	double before = real_of(json_array_get(json_object_get(then->status, "workers"), i), "cpu_s");
	double after = real_of(json_array_get(json_object_get(now->status, "workers"), i), "cpu_s");

	return after >= before && seconds > 0 ? (after - before) / seconds * 100 : 0;
}

/* Share of its time that worker @i spent on frames, as its own clock tells. */
static double worker_busy(const struct reading *now, const struct reading *then, size_t i, double seconds)
{
	const json_t *w = json_array_get(json_object_get(now->workers, "workers"), i);
	double before = busy_cycles(json_array_get(json_object_get(then->workers, "workers"), i));
	double after = busy_cycles(w), hz = real_of(w, "hz");

	return after >= before && seconds > 0 && hz > 0 ? (after - before) / hz / seconds * 100 : 0;
}

static void print_workers(const struct reading *now, const struct reading *then, double seconds)
{
	const json_t *workers = json_object_get(now->status, "workers");

	printf("workers:");
	for (size_t i = 0; i < json_array_size(workers); i++) {
		const json_t *w = json_array_get(workers, i);

		printf("%s CPU %s %s %%, busy %s %% (%s of %s queues awake)", i ? ";" : "",
		       number_text(number_of(w, "cpu")), real_text(worker_cpu(now, then, i, seconds), 1),
		       real_text(worker_busy(now, then, i, seconds), 1), number_text(number_of(w, "awake")),
		       number_text(number_of(w, "queues")));
	}
	printf("\n\n");
}

static void print_round(const struct reading *now, const struct reading *then)
{
	double seconds = now->at_s - then->at_s;
	double cpu = (real_of(now->status, "cpu_s") - real_of(then->status, "cpu_s")) / seconds * 100;
	struct libscols_table *t = table_new((const struct column[]){{"PORT", false},
								     {"STATE", false},
								     {"RX-FRAMES/S", true},
								     {"RX-MB/S", true},
								     {"TX-FRAMES/S", true},
								     {"TX-MB/S", true},
								     {"DROPPED/S", true},
								     {NULL, false}});
	json_t *p;
	size_t i;

	printf("switch %s   flued: %s %% of a CPU, %s resident, %s addresses\n", text_of(now->status, "switch"),
	       real_text(cpu, 1), bytes_text(real_of(now->status, "rss_bytes")),
	       number_text(number_of(json_object_get(now->status, "fdb"), "entries")));
	print_workers(now, then, seconds);
	json_array_foreach (json_object_get(now->ports, "ports"), i, p)
		port_row(t, p, find_port(then, text_of(p, "name")), seconds);
	table_print(t);
	printf("\nMb/s are 10^6 bits a second. rx: the switch receives from the port; tx: it sends to it.\n");
	fflush(stdout);
}

static void print_round_json(const struct reading *now, const struct reading *then)
{
	double seconds = now->at_s - then->at_s;
	json_t *ports = json_array(), *workers = json_array(), *out, *p;
	size_t i;

	json_array_foreach (json_object_get(now->ports, "ports"), i, p) {
		const json_t *before = find_port(then, text_of(p, "name"));

		json_array_append_new(ports, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "name",
						       text_of(p, "name"), "state", text_of(p, "state"),
						       "rx_frames_per_s", rate(p, before, "rx_frames", seconds),
						       "rx_bits_per_s", rate(p, before, "rx_bytes", seconds) * 8,
						       "tx_frames_per_s", rate(p, before, "tx_frames", seconds),
						       "tx_bits_per_s", rate(p, before, "tx_bytes", seconds) * 8,
						       "drops_per_s", drops_per_s(p, before, seconds)));
	}
	json_array_foreach (json_object_get(now->status, "workers"), i, p)
		json_array_append_new(workers,
				      json_pack("{s:I, s:I, s:f, s:f}", "id", number_of(p, "id"), "cpu",
						number_of(p, "cpu"), "cpu_percent", worker_cpu(now, then, i, seconds),
						"busy_percent", worker_busy(now, then, i, seconds)));
	out = json_pack("{s:f, s:o, s:o}", "seconds", seconds, "ports", ports, "workers", workers);
	print_json(out);
	json_decref(out);
	fflush(stdout);
}

static void sleep_s(double seconds)
{
	struct timespec ts = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

	nanosleep(&ts, NULL); /* a signal ends it: that is when we want to be asked whether to stop */
}

/* Rounds until @rounds (0: no limit), a signal, or flued's end. */
static int watch(const struct cli *cli, double pause_s, long rounds, bool screen)
{
	struct reading then = {0}, now = {0};
	int rc = take_reading(cli, &then) ? EXIT_OK : EXIT_FAILED;

	for (long i = 0; rc == EXIT_OK && (rounds == 0 || i < rounds); i++) {
		sleep_s(pause_s);
		if (stopped)
			break;
		if (!take_reading(cli, &now)) {
			rc = EXIT_FAILED;
			break;
		}
		if (screen)
			fputs(SCREEN_CLEAR, stdout);
		if (cli->json)
			print_round_json(&now, &then);
		else
			print_round(&now, &then);
		drop_reading(&then);
		then = now;
		now = (struct reading){0};
	}
	drop_reading(&then);
	drop_reading(&now);
	return rc;
}

static bool positive(const char *text, double *v)
{
	char *end;

	*v = strtod(text, &end);
	return end != text && !*end && *v > 0 && *v <= 86400;
}

int cmd_top(const struct cli *cli, int argc, char **argv)
{
	double pause_s = 1, rounds = 0;
	bool screen = isatty(STDOUT_FILENO) && !cli->json;
	int option, rc;

	optind = 0; /* a second round of getopt, over the command's own words */
	while ((option = getopt(argc, argv, "d:n:")) != -1)
		if ((option != 'd' || !positive(optarg, &pause_s)) && (option != 'n' || !positive(optarg, &rounds))) {
			complain(NULL, "usage: flue top [-d SECONDS] [-n ROUNDS]");
			return EXIT_USAGE;
		}
	sigaction(SIGINT, &(struct sigaction){.sa_handler = on_signal}, NULL);
	sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
	if (screen)
		fputs(SCREEN_ENTER, stdout);
	rc = watch(cli, pause_s, (long)rounds, screen);
	if (screen) {
		fputs(SCREEN_LEAVE, stdout);
		fflush(stdout);
	}
	return rc;
}
