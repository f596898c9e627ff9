/* SPDX-License-Identifier: Apache-2.0 */
/* stats --cycles, and what top takes of it: what a frame costs and where, since flued started. */
#include <stdio.h>

#include "flue.h"

static const char *const busy_stages[] = {"receive", "lookup", "copy", "completion", "notification"};
#define N_BUSY (sizeof(busy_stages) / sizeof(busy_stages[0]))

static const char *per_frame(double cycles, const json_t *counted)
{
	double frames = real_of(counted, "frames");

	return frames > 0 ? real_text(cycles / frames, 1) : "";
}

static const char *share(double part, double whole)
{
	return whole > 0 ? real_text(part / whole * 100, 1) : "";
}

double busy_cycles(const json_t *worker)
{
	double busy = 0;

	for (size_t i = 0; i < N_BUSY; i++)
		busy += real_of(json_object_get(worker, "stages"), busy_stages[i]);
	return busy;
}

static void worker_row(struct libscols_table *t, const json_t *w)
{
	const json_t *stages = json_object_get(w, "stages");
	double cycles[N_BUSY], busy = busy_cycles(w), empty = real_of(stages, "empty");
	double asleep = real_of(w, "asleep_cycles");

	for (size_t i = 0; i < N_BUSY; i++)
		cycles[i] = real_of(stages, busy_stages[i]);
	table_row(t, number_text(number_of(w, "id")), number_text(number_of(w, "cpu")),
		  number_text(number_of(w, "frames")), per_frame(cycles[0], w), per_frame(cycles[1], w),
		  per_frame(cycles[2], w), per_frame(cycles[3], w), per_frame(cycles[4], w), per_frame(busy, w),
		  share(busy, busy + empty + asleep), share(empty, busy + empty + asleep),
		  share(asleep, busy + empty + asleep));
}

static void print_workers(const json_t *workers)
{
	struct libscols_table *t = table_new((const struct column[]){{"WORKER", true},
								     {"CPU", true},
								     {"FRAMES", true},
								     {"RECEIVE", true},
								     {"LOOKUP", true},
								     {"COPY", true},
								     {"COMPLETION", true},
								     {"NOTIFICATION", true},
								     {"TOTAL", true},
								     {"BUSY-%", true},
								     {"EMPTY-%", true},
								     {"ASLEEP-%", true},
								     {NULL, false}});
	json_t *w;
	size_t i;

	json_array_foreach (workers, i, w)
		worker_row(t, w);
	table_print(t);
}

static void print_queues(const json_t *workers)
{
	struct libscols_table *t = table_new((const struct column[]){{"PORT", false},
								     {"QUEUE", true},
								     {"WORKER", true},
								     {"AWAKE", false},
								     {"POLLS", true},
								     {"BUSY-POLLS", true},
								     {"FRAMES", true},
								     {"CYCLES", true},
								     {NULL, false}});
	json_t *w, *q;
	size_t i, k;

	json_array_foreach (workers, i, w)
		json_array_foreach (json_object_get(w, "queues"), k, q)
			table_row(t, text_of(q, "port"), number_text(number_of(q, "queue")),
				  number_text(number_of(w, "id")),
				  json_is_true(json_object_get(q, "awake")) ? "yes" : "no",
				  number_text(number_of(q, "polls")), number_text(number_of(q, "busy_polls")),
				  number_text(number_of(q, "frames")), per_frame(real_of(q, "busy_cycles"), q));
	table_print(t);
}

int stats_cycles(const struct cli *cli)
{
	json_t *answer = api_call(cli, "GET", "/v1/workers", NULL, NULL), *workers;

	if (!answer)
		return EXIT_FAILED;
	workers = json_object_get(answer, "workers");
	if (cli->json) {
		print_json(answer);
	} else {
		printf("cycles for a frame, by stage, and where each worker's time went:\n");
		print_workers(workers);
		printf("\nreceive queues, with the cycles that their frames took:\n");
		print_queues(workers);
	}
	json_decref(answer);
	return EXIT_OK;
}
