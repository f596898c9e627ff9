/* SPDX-License-Identifier: Apache-2.0 */
/* port add, set, del, show. */
#include <stdio.h>
#include <string.h>

#include "flue.h"

static const char usage[] = "usage: flue port add NAME [KEY=VALUE...] | set NAME KEY=VALUE... | del NAME | show [NAME]";

static int finish(const struct cli *cli, json_t *answer)
{
	if (!answer)
		return EXIT_FAILED;
	if (cli->json && !json_is_null(answer))
		print_json(answer);
	json_decref(answer);
	return EXIT_OK;
}

static int port_add(const struct cli *cli, const char *name, int n, char **word)
{
	json_t *keys = keys_of(name, n, word), *answer;

	if (!keys)
		return EXIT_USAGE;
	json_object_set_new(keys, "name", json_string(name));
	answer = api_call(cli, "POST", "/v1/ports", keys, name);
	json_decref(keys);
	return finish(cli, answer);
}

static int port_set(const struct cli *cli, const char *name, int n, char **word)
{
	json_t *keys = keys_of(name, n, word), *answer;
	char path[256];

	if (!keys)
		return EXIT_USAGE;
	answer = api_call(cli, "PATCH", port_path(name, path, sizeof(path)), keys, name);
	json_decref(keys);
	return finish(cli, answer);
}

static int port_del(const struct cli *cli, const char *name)
{
	char path[256];

	return finish(cli, api_call(cli, "DELETE", port_path(name, path, sizeof(path)), NULL, name));
}

static void list_row(struct libscols_table *t, const json_t *p)
{
	const json_t *c = json_object_get(p, "counters");
	const char *socket = text_of(p, "socket");

	table_row(t, text_of(p, "name"), text_of(p, "kind"), text_of(p, "state"), text_of(p, "mac"), vlan_text(p),
		  number_text(number_of(p, "mtu")), number_text(number_of(c, "rx_frames")),
		  number_text(number_of(c, "tx_frames")), number_text(drops_of(p)),
		  *socket ? socket : text_of(p, "ifname"));
}

static int list_ports(const struct cli *cli)
{
	json_t *answer = api_call(cli, "GET", "/v1/ports", NULL, NULL), *p;
	struct libscols_table *t;
	size_t i;

	if (!answer)
		return EXIT_FAILED;
	if (cli->json)
		return finish(cli, answer);
	t = table_new((const struct column[]){{"PORT", false},
					      {"KIND", false},
					      {"STATE", false},
					      {"MAC", false},
					      {"VLAN", true},
					      {"MTU", true},
					      {"RX-FRAMES", true},
					      {"TX-FRAMES", true},
					      {"DROPPED", true},
					      {"WHERE", false},
					      {NULL, false}});
	json_array_foreach (json_object_get(answer, "ports"), i, p)
		list_row(t, p);
	table_print(t);
	json_decref(answer);
	return EXIT_OK;
}

/* One line for each member that is a plain value and says something. */
static void add_values(struct libscols_table *t, const json_t *object, const char *prefix)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)object, key, value) {
		char name[80], *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));

		snprintf(name, sizeof(name), "%s%s", prefix, key);
		if (json_is_string(value) && *json_string_value(value))
			table_row(t, name, json_string_value(value));
		else if (text && !json_is_string(value) && !json_is_object(value) && !json_is_null(value))
			table_row(t, name, text);
		free(text);
	}
}

static void add_port(struct libscols_table *t, const json_t *port)
{
	add_values(t, port, "");
	add_values(t, json_object_get(port, "detail"), "");
	add_values(t, json_object_get(port, "counters"), "");
	add_values(t, json_object_get(port, "drops"), "dropped.");
}

static int show_port(const struct cli *cli, const char *name)
{
	struct libscols_table *t;
	char path[256];
	json_t *p = api_call(cli, "GET", port_path(name, path, sizeof(path)), NULL, name);

	if (!p || cli->json)
		return finish(cli, p);
	t = table_new((const struct column[]){{"FIELD", false}, {"VALUE", false}, {NULL, false}});
	scols_table_enable_noheadings(t, 1);
	add_port(t, p);
	table_print(t);
	json_decref(p);
	return EXIT_OK;
}

int cmd_port(const struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "add") == 0 && argc >= 3)
		return port_add(cli, argv[2], argc - 3, argv + 3);
	if (strcmp(verb, "set") == 0 && argc >= 4)
		return port_set(cli, argv[2], argc - 3, argv + 3);
	if (strcmp(verb, "del") == 0 && argc == 3)
		return port_del(cli, argv[2]);
	if (strcmp(verb, "show") == 0 && argc == 2)
		return list_ports(cli);
	if (strcmp(verb, "show") == 0 && argc == 3)
		return show_port(cli, argv[2]);
	complain(NULL, "%s", usage);
	return EXIT_USAGE;
}
