/* SPDX-License-Identifier: Apache-2.0 */
#include "main/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = "Usage: flued [OPTION]...\n"
			    "A virtual switch for virtual machines.\n"
			    "\n"
			    "  --config FILE      read the configuration from FILE (YAML, see flue.yaml(5))\n"
			    "  --run-dir DIR      keep sockets and state in DIR (default " RUN_DIR_DEFAULT ")\n"
			    "  --api PATH         serve the API at PATH (default DIR/api.sock)\n"
			    "  --log-level LEVEL  error, warn, info (default) or debug\n"
			    "  --check-config     say whether FILE is in order, and end\n"
			    "  --version          print the version\n"
			    "  --help             print this\n"
			    "\n"
			    "Without --config it starts with no ports; `flue port add` makes them.\n";

static bool level_read(const char *text, enum log_level *level)
{
	static const char *const names[LOG_LEVEL_N] = {"error", "warn", "info", "debug"};

	for (unsigned i = 0; i < LOG_LEVEL_N; i++) {
		if (!strcmp(text, names[i])) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

static bool misused(const char *what, const char *remedy)
{
	fprintf(stderr, "flued: error: %s: %s\n", what, remedy);
	return false;
}

/* One option; false: end with *status. */
static bool option(int c, struct options *o, int *status)
{
	*status = 2;
	switch (c) {
	case 'c':
		o->config = optarg;
		return true;
	case 'r':
		o->run_dir = optarg;
		return *optarg ? true : misused("--run-dir is empty", "name a directory");
	case 'a':
		o->api = optarg;
		return *optarg ? true : misused("--api is empty", "name a path for a socket");
	case 'l':
		return level_read(optarg, &o->log_level) ||
		       misused("--log-level does not know this level", "use error, warn, info or debug");
	case 'k':
		o->check_config = true;
		return true;
	case 'V':
		printf("flued %s\n", FLUE_VERSION);
		*status = 0;
		return false;
	case 'h':
		fputs(usage, stdout);
		*status = 0;
		return false;
	default: /* getopt_long() has said what is wrong */
		fputs("flued: error: try `flued --help`\n", stderr);
		return false;
	}
}

bool options_read(int argc, char **argv, struct options *o, int *status)
{
	static const struct option known[] = {
		{"config", required_argument, NULL, 'c'}, {"run-dir", required_argument, NULL, 'r'},
		{"api", required_argument, NULL, 'a'},    {"log-level", required_argument, NULL, 'l'},
		{"check-config", no_argument, NULL, 'k'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},         {0},
	};
	int c;

	*o = (struct options){.run_dir = RUN_DIR_DEFAULT, .log_level = LOG_INFO};
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1)
		if (!option(c, o, status))
			return false;
	*status = 2;
	if (optind < argc)
		return misused("it takes no arguments", "ports are added with `flue port add`, see `flued --help`");
	if (o->check_config && !o->config)
		return misused("--check-config has nothing to check", "add --config FILE");
	return true;
}
