/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/log.h"

/* The command line of flued. */
struct options {
	const char *config; /* or NULL */
	const char *run_dir;
	const char *api; /* or NULL: as configured */
	enum log_level log_level;
	bool check_config;
};

#define RUN_DIR_DEFAULT "/run/flue"

/* Fill @o. True: go on. False: all is said and done, and the program ends with *status. */
bool options_read(int argc, char **argv, struct options *o, int *status);
