/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cycles.h"
#include "ctl/api_priv.h"

static json_t *stages_json(const struct worker_stats *s)
{
	json_t *stages = json_object();

	for (unsigned k = 0; k < STAGE_N; k++)
		json_object_set_new(stages, work_stage_name((enum work_stage)k),
				    json_integer((json_int_t)s->stage_cycles[k]));
	return stages;
}

static json_t *queues_json(const struct workers *w, unsigned i)
{
	json_t *list = json_array();
	struct work_queue_stats s;

	for (unsigned k = 0; workers_queue_stats(w, i, k, &s); k++)
		json_array_append_new(list, json_pack("{s:s, s:i, s:b, s:I, s:I, s:I, s:I}", "port", s.port->name,
						      "queue", (int)s.q, "awake", s.awake, "polls", (json_int_t)s.polls,
						      "busy_polls", (json_int_t)s.busy_polls, "frames",
						      (json_int_t)s.frames, "busy_cycles", (json_int_t)s.busy_cycles));
	return list;
}

void api_workers_get(struct api_request *r)
{
	const struct workers *w = model_workers(r->model);
	json_t *list = json_array();

	for (unsigned i = 0; i < workers_count(w); i++) {
		struct worker_stats s;

		workers_stats(w, i, &s);
		json_array_append_new(list, json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:o, s:I, s:f, s:o}", "id",
						      (int)i, "cpu", s.cpu, "hz", (json_int_t)cycles_hz(), "frames",
						      (json_int_t)s.frames, "busy_polls", (json_int_t)s.busy_polls,
						      "empty_polls", (json_int_t)s.empty_polls, "stages",
						      stages_json(&s), "asleep_cycles", (json_int_t)s.asleep_cycles,
						      "cpu_s", (double)s.cpu_ns / 1e9, "queues", queues_json(w, i)));
	}
	api_reply_json(r, 200, json_pack("{s:o, s:I}", "workers", list, "queue_moves", (json_int_t)workers_moves(w)));
}
