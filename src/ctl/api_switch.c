/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "ctl/api_priv.h"
#include "ctl/stats.h"

static json_t *workers_json(struct workers *w)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < workers_count(w); i++) {
		struct worker_stats s;

		workers_stats(w, i, &s);
		json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:f}", "id", (int)i,
						      "cpu", s.cpu, "queues", (int)s.queues, "awake", (int)s.awake,
						      "rounds", (json_int_t)s.rounds, "busy_rounds",
						      (json_int_t)s.busy_rounds, "frames", (json_int_t)s.frames,
						      "sleeps", (json_int_t)s.sleeps, "cpu_s", (double)s.cpu_ns / 1e9));
	}
	return list;
}

static json_t *fdb_json(struct fwd *f)
{
	struct fwd_stats s;

	fwd_stats_get(f, &s);
	return json_pack("{s:i, s:i, s:I, s:I, s:I, s:I}", "entries", (int)s.entries, "capacity", (int)s.capacity,
			 "learned", (json_int_t)s.learned, "aged", (json_int_t)s.aged, "moved", (json_int_t)s.moved,
			 "full", (json_int_t)s.full);
}

void api_status_get(struct api_request *r)
{
	double uptime_s = (double)(time_now_ns() - r->started_ns) / 1e9;
	struct process_stats p;

	process_stats(&p);
	api_reply_json(r, 200,
		       json_pack("{s:s, s:i, s:o, s:f, s:f, s:I, s:i, s:o, s:i, s:o}", "version", FLUE_VERSION, "pid",
				 (int)getpid(), "switch", api_string(r->switch_name), "uptime_s", uptime_s, "cpu_s",
				 p.cpu_s, "rss_bytes", (json_int_t)p.rss_bytes, "ports", (int)model_ports(r->model),
				 "fdb", fdb_json(model_fwd(r->model)), "ageing_s", (int)model_ageing(r->model),
				 "workers", workers_json(model_workers(r->model))));
}

static int read_ageing(const json_t *body, unsigned *ageing_s, struct err *e)
{
	const char *key;
	json_t *v;

	if (!json_is_object(body))
		return err_set(e, -EINVAL, NULL, "send an object, like {\"ageing_s\": 300}",
			       "this is not a JSON object");
	json_object_foreach ((json_t *)body, key, v) {
		if (strcmp(key, "ageing_s"))
			return err_set(e, -EINVAL, key, "the only key here is ageing_s", "unknown key");
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > CONF_AGEING_S_MAX)
			return err_set(e, -EINVAL, key, "write seconds from 0 (never) to 1000000",
				       "this is not an ageing time");
		*ageing_s = (unsigned)json_integer_value(v);
	}
	return 0;
}

void api_switch_set(struct api_request *r)
{
	unsigned ageing_s = model_ageing(r->model);
	struct err e = {0};

	if (read_ageing(r->body, &ageing_s, &e) < 0) {
		api_reply_err(r, &e);
		return;
	}
	model_set_ageing(r->model, ageing_s);
	api_reply_json(r, 200,
		       json_pack("{s:o, s:i}", "switch", api_string(r->switch_name), "ageing_s", (int)ageing_s));
}

static void add_entry(void *arg, const struct fdb_entry *e)
{
	char mac[MAC_TEXT_BYTES];

	json_array_append_new(arg, json_pack("{s:s, s:i, s:s, s:s, s:i}", "mac", mac_format(e->mac, mac), "vlan",
					     e->vid, "port", e->port->name, "type", e->is_static ? "static" : "learned",
					     "age_s", (int)e->age_s));
}

void api_fdb_get(struct api_request *r)
{
	json_t *list = json_array();

	fwd_fdb_walk(model_fwd(r->model), add_entry, list);
	api_reply_json(r, 200, json_pack("{s:o}", "entries", list));
}

void api_fdb_flush(struct api_request *r)
{
	api_reply_json(r, 200, json_pack("{s:i}", "flushed", (int)fwd_fdb_flush(model_fwd(r->model))));
}

void api_drops_get(struct api_request *r)
{
	json_t *list = json_array();

	for (unsigned d = 0; d < DROP_N; d++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", drop_name((enum drop_reason)d), "meaning",
						      drop_meaning((enum drop_reason)d)));
	api_reply_json(r, 200, json_pack("{s:o}", "drops", list));
}
