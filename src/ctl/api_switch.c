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

/* What can change while the switch runs. */
enum setting { SET_MTU, SET_AGEING_S, SET_WORKERS, SET_SPIN_US, SET_GATHER_US, SETTINGS_N };

static const struct {
	const char *name;
	unsigned min, max;
	const char *remedy;
} setting_info[SETTINGS_N] = {
	[SET_MTU] = {"mtu", FRAME_MTU_MIN, CONF_WIRE_MTU_MAX,
		     "write a number from 68 to 9216; a guest's port may be given more of its own"},
	[SET_AGEING_S] = {"ageing_s", 0, CONF_AGEING_S_MAX, "write seconds from 0 (never) to 1000000"},
	[SET_WORKERS] = {"workers", 1, WORKERS_MAX, "write a number from 1 to 16"},
	[SET_SPIN_US] = {"spin_us", 0, WORKER_SPIN_US_MAX, "write microseconds from 0 to 1000000"},
	[SET_GATHER_US] = {"gather_us", 0, WORKER_GATHER_US_MAX, "write microseconds from 0 (never) to 1000"},
};

static void settings_get(struct model *m, unsigned v[SETTINGS_N])
{
	v[SET_MTU] = model_mtu(m);
	v[SET_AGEING_S] = model_ageing(m);
	v[SET_WORKERS] = workers_count(model_workers(m));
	workers_pace(model_workers(m), &v[SET_SPIN_US], &v[SET_GATHER_US]);
}

void api_status_get(struct api_request *r)
{
	double uptime_s = (double)(time_now_ns() - r->started_ns) / 1e9;
	unsigned v[SETTINGS_N];
	struct process_stats p;

	process_stats(&p);
	settings_get(r->model, v);
	api_reply_json(r, 200,
		       json_pack("{s:s, s:i, s:o, s:f, s:f, s:I, s:i, s:o, s:i, s:i, s:i, s:o}", "version",
				 FLUE_VERSION, "pid", (int)getpid(), "switch", api_string(r->switch_name), "uptime_s",
				 uptime_s, "cpu_s", p.cpu_s, "rss_bytes", (json_int_t)p.rss_bytes, "ports",
				 (int)model_ports(r->model), "fdb", fdb_json(model_fwd(r->model)), "ageing_s",
				 (int)v[SET_AGEING_S], "spin_us", (int)v[SET_SPIN_US], "gather_us",
				 (int)v[SET_GATHER_US], "workers", workers_json(model_workers(r->model))));
}

static int setting_read(const char *key, const json_t *j, unsigned v[SETTINGS_N], struct err *e)
{
	for (unsigned k = 0; k < SETTINGS_N; k++) {
		if (strcmp(key, setting_info[k].name))
			continue;
		if (!json_is_integer(j) || json_integer_value(j) < setting_info[k].min ||
		    json_integer_value(j) > setting_info[k].max)
			return err_set(e, -EINVAL, key, setting_info[k].remedy, "this is not a value it can have");
		v[k] = (unsigned)json_integer_value(j);
		return 0;
	}
	return err_set(e, -EINVAL, key, "the keys here are mtu, ageing_s, workers, spin_us, gather_us", "unknown key");
}

static int settings_read(const json_t *body, unsigned v[SETTINGS_N], struct err *e)
{
	const char *key;
	json_t *j;

	if (!json_is_object(body))
		return err_set(e, -EINVAL, NULL, "send an object, like {\"ageing_s\": 300}",
			       "this is not a JSON object");
	json_object_foreach ((json_t *)body, key, j)
		if (setting_read(key, j, v, e) < 0)
			return -EINVAL;
	return 0;
}

static int settings_apply(struct model *m, const unsigned v[SETTINGS_N], struct err *e)
{
	int rc = workers_set_count(model_workers(m), v[SET_WORKERS], e);

	if (rc < 0)
		return rc;
	workers_set_pace(model_workers(m), v[SET_SPIN_US], v[SET_GATHER_US]);
	model_set_ageing(m, v[SET_AGEING_S]);
	model_set_mtu(m, v[SET_MTU]);
	return 0;
}

static void reply_settings(struct api_request *r, const unsigned v[SETTINGS_N])
{
	json_t *answer = json_pack("{s:o}", "switch", api_string(r->switch_name));

	for (unsigned k = 0; k < SETTINGS_N; k++)
		json_object_set_new(answer, setting_info[k].name, json_integer(v[k]));
	api_reply_json(r, 200, answer);
}

void api_switch_get(struct api_request *r)
{
	unsigned v[SETTINGS_N];

	settings_get(r->model, v);
	reply_settings(r, v);
}

void api_switch_set(struct api_request *r)
{
	unsigned v[SETTINGS_N];
	struct err e = {0};

	settings_get(r->model, v);
	if (settings_read(r->body, v, &e) < 0 || settings_apply(r->model, v, &e) < 0)
		api_reply_err(r, &e);
	else
		reply_settings(r, v);
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
