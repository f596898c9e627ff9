/* SPDX-License-Identifier: Apache-2.0 */
/* switch set, switch show: what can change while the switch runs. */
#include <stdio.h>
#include <string.h>

#include "flue.h"

/* One setting a line, as `set` takes them. */
static void print_settings(const json_t *answer)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)answer, key, value) {
		if (json_is_integer(value))
			printf("%s=%s\n", key, number_text(json_integer_value(value)));
		else
			printf("%s %s\n", key, text_of(answer, key));
	}
}

static int switch_show(const struct cli *cli)
{
	json_t *answer = api_call(cli, "GET", "/v1/switch", NULL, NULL);

	if (!answer)
		return EXIT_FAILED;
	if (cli->json)
		print_json(answer);
	else
		print_settings(answer);
	json_decref(answer);
	return EXIT_OK;
}

static int switch_set(const struct cli *cli, int n, char **word)
{
	json_t *keys = keys_of(NULL, n, word), *answer;

	if (!keys)
		return EXIT_USAGE;
	answer = api_call(cli, "PATCH", "/v1/switch", keys, NULL);
	json_decref(keys);
	if (!answer)
		return EXIT_FAILED;
	if (cli->json)
		print_json(answer);
	json_decref(answer);
	return EXIT_OK;
}

int cmd_switch(const struct cli *cli, int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "set") == 0 && argc >= 3)
		return switch_set(cli, argc - 2, argv + 2);
	if (strcmp(verb, "show") == 0 && argc == 2)
		return switch_show(cli);
	complain(NULL, "usage: flue switch show | set KEY=VALUE...");
	return EXIT_USAGE;
}
