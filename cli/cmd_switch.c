/* SPDX-License-Identifier: Apache-2.0 */
/* switch set: what can change while the switch runs. */
#include <string.h>

#include "flue.h"

int cmd_switch(const struct cli *cli, int argc, char **argv)
{
	json_t *keys, *answer;

	if (argc < 3 || strcmp(argv[1], "set") != 0) {
		complain(NULL, "usage: flue switch set KEY=VALUE...");
		return EXIT_USAGE;
	}
	keys = keys_of(NULL, argc - 2, argv + 2);
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
