/* SPDX-License-Identifier: Apache-2.0 */
/* flue: the command line over flued's API. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flue.h"

#define API_DEFAULT "/run/flue/api.sock"

static const struct command {
	const char *name;
	const char *arguments;
	const char *help;
	int (*run)(const struct cli *cli, int argc, char **argv);
} commands[] = {
	{"status", "", "flued, its workers and its address table", cmd_status},
	{"switch", "show", "its settings", cmd_switch},
	{"switch", "set KEY=VALUE...", "change them while it runs: mtu, ageing_s, workers, spin_us, gather_us",
	 cmd_switch},
	{"port", "add NAME [KEY=VALUE...]", "make a port (keys: man flue.yaml)", cmd_port},
	{"port", "set NAME KEY=VALUE...", "change it while it runs", cmd_port},
	{"port", "del NAME", "remove it", cmd_port},
	{"port", "show [NAME]", "all ports, or everything about one", cmd_port},
	{"fdb", "show|flush", "learned and configured addresses", cmd_fdb},
	{"stats", "[NAME]", "counters, and drops by reason", cmd_stats},
	{"stats", "--cycles", "what a frame costs, by stage, and what queues take", cmd_stats},
	{"top", "[-d SECONDS] [-n ROUNDS]", "rates, refreshed", cmd_top},
	{"qemu", "PORT", "how to start a VM on this port: QEMU, libvirt, cloud-hypervisor", cmd_qemu},
	{"doctor", "", "check this host and say what to do", cmd_doctor},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void usage(FILE *out)
{
	fprintf(out, "usage: flue [--api SOCKET] [--json] COMMAND\n\n");
	for (size_t i = 0; i < N_COMMANDS; i++) {
		char call[64];

		snprintf(call, sizeof(call), "%s %s", commands[i].name, commands[i].arguments);
		fprintf(out, "  %-34s %s\n", call, commands[i].help);
	}
	fprintf(out, "\nThe socket is $FLUE_API, or " API_DEFAULT ".\n");
}

static int run(const struct cli *cli, int argc, char **argv)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, argv[0]) == 0)
			return commands[i].run(cli, argc, argv);
	if (strcmp(argv[0], "help") == 0) {
		usage(stdout);
		return EXIT_OK;
	}
	complain(NULL, "there is no command '%s': see flue help", argv[0]);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"api", required_argument, NULL, 'a'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	struct cli cli = {.api = getenv("FLUE_API")};
	int option;

	if (!cli.api)
		cli.api = API_DEFAULT;
	/* "+": what follows the command is the command's. */
	while ((option = getopt_long(argc, argv, "+a:jhV", options, NULL)) != -1) {
		switch (option) {
		case 'a':
			cli.api = optarg;
			break;
		case 'j':
			cli.json = true;
			break;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case 'V':
			printf("flue " FLUE_VERSION "\n");
			return EXIT_OK;
		default:
			usage(stderr);
			return EXIT_USAGE;
		}
	}
	/* Everywhere: `flue port show --json` is what people type, too. */
	for (int i = optind; i < argc; i++)
		if (strcmp(argv[i], "--json") == 0) {
			cli.json = true;
			memmove(&argv[i], &argv[i + 1], (size_t)(argc - i) * sizeof(argv[0]));
			argc--;
			break;
		}
	if (optind == argc) {
		usage(stderr);
		return EXIT_USAGE;
	}
	return run(&cli, argc - optind, argv + optind);
}
