/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/conf_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl/conf_offload.h"

static struct value value_of(const json_t *j)
{
	switch (json_typeof(j)) {
	case JSON_NULL:
		return (struct value){.type = VALUE_NONE};
	case JSON_STRING:
		return (struct value){.type = VALUE_TEXT, .text = json_string_value(j)};
	case JSON_INTEGER:
		return (struct value){.type = VALUE_NUMBER, .number = json_integer_value(j)};
	case JSON_TRUE:
	case JSON_FALSE:
		return (struct value){.type = VALUE_FLAG, .flag = json_is_true(j)};
	case JSON_REAL:
	case JSON_ARRAY:
	case JSON_OBJECT:
		break;
	}
	return (struct value){.type = VALUE_OTHER};
}

static int unknown_key(const char *key, struct err *e)
{
	char remedy[sizeof(e->remedy)];
	size_t at = (size_t)snprintf(remedy, sizeof(remedy), "the keys of a port are");

	for (unsigned k = 0; k < PORT_KEY_N && at < sizeof(remedy); k++)
		at += (size_t)snprintf(remedy + at, sizeof(remedy) - at, "%s %s", k ? "," : "", port_key_info[k].name);
	return err_set(e, -EINVAL, key, remedy, "unknown key");
}

int conf_json_keys(const json_t *object, struct port_keys *keys, struct err *e)
{
	const char *key;
	json_t *member;

	*keys = (struct port_keys){0};
	if (!json_is_object(object))
		return err_set(e, -EINVAL, NULL, "send an object, like {\"name\": \"vm1\"}",
			       "this is not a JSON object");
	json_object_foreach ((json_t *)object, key, member) {
		unsigned k = 0;

		while (k < PORT_KEY_N && strcmp(port_key_info[k].name, key))
			k++;
		if (k == PORT_KEY_N)
			return unknown_key(key, e);
		keys->v[k] = value_of(member);
	}
	return 0;
}

static json_t *vlan_keys(const struct fwd_port_conf *f)
{
	static char trunk[VLANS_TEXT_BYTES];
	json_t *j;

	if (!f->trunk)
		return json_pack("{s:i}", "vlan", f->vid);
	vlans_format(f->allowed, trunk);
	j = json_pack("{s:s}", "trunk", trunk);
	if (j && f->vid && json_object_set_new(j, "native", json_integer(f->vid)) < 0) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static json_t *kind_keys(const struct port_conf *c)
{
	if (c->kind == CONF_GUEST)
		return json_pack("{s:s, s:s*, s:s, s:i, s:s}", "socket", c->socket, "group",
				 c->group[0] ? c->group : NULL, "role", conf_role_name(c->role), "queues",
				 (int)c->queues, "front_end", vhost_front_end_name(c->front_end));
	return json_pack("{s:s, s:s*, s:b}", "ifname", c->ifname, "netns", c->netns[0] ? c->netns : NULL, "coalesce",
			 c->coalesce);
}

static json_t *common_keys(const struct port_conf *c)
{
	char off[OFFLOADS_TEXT_BYTES];

	offloads_format(c->offloads_off, c->kind, off);
	return json_pack("{s:i, s:b, s:s, s:b}", "mtu", (int)c->mtu, "spoof_guard", c->fwd.spoof_guard, "offloads_off",
			 off, "too_big_reply", c->too_big_reply);
}

json_t *conf_json_port(const struct port_conf *c)
{
	char mac[MAC_TEXT_BYTES];
	json_t *j = json_pack("{s:s, s:s, s:s?}", "name", c->name, "kind", conf_kind_name(c->kind), "mac",
			      c->fwd.has_mac ? mac_format(c->fwd.mac, mac) : NULL);
	int failed = json_object_update_new(j, vlan_keys(&c->fwd));

	failed |= json_object_update_new(j, common_keys(c));
	failed |= json_object_update_new(j, kind_keys(c));
	if (!failed)
		return j;
	json_decref(j);
	return NULL;
}
