/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>

#include "ctl/api_priv.h"
#include "ctl/conf_json.h"

static json_t *counters_json(const struct port_totals *t)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rx_frames", (json_int_t)t->rx_frames, "rx_bytes",
			 (json_int_t)t->rx_bytes, "tx_frames", (json_int_t)t->tx_frames, "tx_bytes",
			 (json_int_t)t->tx_bytes, "rx_broadcast", (json_int_t)t->rx_broadcast, "rx_multicast",
			 (json_int_t)t->rx_multicast, "tx_flooded", (json_int_t)t->tx_flooded);
}

static json_t *drops_json(const struct port_totals *t)
{
	json_t *j = json_object();

	for (unsigned r = 0; r < DROP_N; r++)
		if (t->drop[r])
			json_object_set_new(j, drop_name((enum drop_reason)r), json_integer((json_int_t)t->drop[r]));
	return j;
}

static json_t *detail_json(const struct port_conf *c, const struct port_info *info)
{
	char mac[MAC_TEXT_BYTES];
	json_t *j = json_object();

	if (c->kind == CONF_GUEST)
		json_object_set_new(j, "guest_mac", json_string(mac_format(c->mac, mac)));
	for (unsigned i = 0; i < info->n_details; i++)
		json_object_set_new(j, info->detail[i].key, api_string(info->detail[i].value));
	return j;
}

static json_t *port_json(const struct model_port *mp)
{
	struct port_info info = {0};
	struct port_totals totals;
	json_t *j = conf_json_port(&mp->conf);
	json_t *live;

	mp->port->ops->info(mp->port, &info);
	port_totals(mp->port, &totals);
	live = json_pack("{s:s, s:o, s:o, s:o, s:o}", "state", port_state_name(info.state), "reason",
			 api_string(info.reason), "detail", detail_json(&mp->conf, &info), "counters",
			 counters_json(&totals), "drops", drops_json(&totals));
	if (json_object_update_new(j, live) == 0)
		return j;
	json_decref(j);
	return NULL;
}

void api_port_list(struct api_request *r)
{
	json_t *list = json_array();
	struct model_port *mp;

	for (unsigned i = 0; (mp = model_port_at(r->model, i)); i++)
		json_array_append_new(list, port_json(mp));
	api_reply_json(r, 200, json_pack("{s:o}", "ports", list));
}

/* NULL: it has been answered that there is none. */
static struct model_port *find(struct api_request *r)
{
	struct model_port *mp = model_port_find(r->model, r->name);
	char message[80];

	if (!mp) {
		snprintf(message, sizeof(message), "there is no port '%s'", r->name);
		api_reply_error(r, 404, "name", message, "`flue port show` lists the ports that are");
	}
	return mp;
}

void api_port_get(struct api_request *r)
{
	struct model_port *mp = find(r);

	if (mp)
		api_reply_json(r, 200, port_json(mp));
}

void api_port_add(struct api_request *r)
{
	struct port_keys keys;
	struct port_conf c;
	struct err e = {0};

	if (conf_json_keys(r->body, &keys, &e) < 0 ||
	    conf_port_make(&c, &keys, r->run_dir, model_mtu(r->model), &e) < 0 || model_port_add(r->model, &c, &e) < 0)
		api_reply_err(r, &e);
	else
		api_reply_json(r, 201, port_json(model_port_find(r->model, c.name)));
}

void api_port_set(struct api_request *r)
{
	struct model_port *mp = find(r);
	struct port_keys keys;
	struct port_conf c;
	struct err e = {0};

	if (!mp)
		return;
	c = mp->conf;
	if (conf_json_keys(r->body, &keys, &e) < 0 || conf_port_change(&c, &keys, &e) < 0 ||
	    model_port_set(r->model, mp, &c, &e) < 0)
		api_reply_err(r, &e);
	else
		api_reply_json(r, 200, port_json(mp));
}

void api_port_delete(struct api_request *r)
{
	struct model_port *mp = find(r);

	if (!mp)
		return;
	model_port_remove(r->model, mp);
	api_reply_empty(r);
}
