/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <jansson.h>
#include <libsmartcols.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The parts of the `flue` program. It knows flued by its API only. One thread. */

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* What the options before the command said. */
struct cli {
	const char *api; /* path of flued's API socket */
	bool json;       /* --json: print values, not tables */
};

/* ---- client.c: requests ---- */

/* Make a request. @body (borrowed) may be NULL. Returns the answer's value (json_null() if it has none), which the caller
 * releases, or NULL after a message on standard error: flued cannot be reached, or refused with the words it gave.
 * @subject starts that message ("vm1"); NULL: none. */
json_t *api_call(const struct cli *cli, const char *method, const char *path, json_t *body, const char *subject);
/* The same without a message; *status becomes the HTTP status, 0 if flued cannot be reached. */
json_t *api_try(const struct cli *cli, const char *method, const char *path, json_t *body, long *status);
/* "/v1/ports/NAME", with NAME escaped. Caller's storage. */
const char *port_path(const char *name, char *path, size_t size);

/* ---- output.c ---- */

/* "flue: SUBJECT: ..." on standard error. @subject may be NULL. */
void complain(const char *subject, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print an API value for --json. Returns EXIT_OK. */
int print_json(const json_t *value);

/* Tables: columns from a list that ends with a NULL name. A cell's text is copied. */
struct column {
	const char *name;
	bool right; /* numbers */
};
struct libscols_table *table_new(const struct column *columns);
void table_row(struct libscols_table *t, ...); /* as many const char * as there are columns; NULL: empty */
/* Print it and release it. */
void table_print(struct libscols_table *t);

/* Fields of API values; "" and 0 if missing. */
const char *text_of(const json_t *object, const char *key);
json_int_t number_of(const json_t *object, const char *key);
double real_of(const json_t *object, const char *key);

/* Short texts of numbers: decimal, and "1.5 GiB". They live until the sixteenth call after. */
const char *number_text(json_int_t n);
const char *real_text(double v, int digits);
const char *bytes_text(double bytes);
/* Sum of a port's drops, and its VLANs as users write them. */
json_int_t drops_of(const json_t *port);
const char *vlan_text(const json_t *port);

/* ---- keys.c ---- */

/* KEY=VALUE words as an object, to be sent; flued checks keys and values. NULL after a message, which @subject starts. */
json_t *keys_of(const char *subject, int n, char **word);

/* ---- cycles.c: `flue stats --cycles`. Returns an exit status. ---- */
int stats_cycles(const struct cli *cli);
/* Cycles that a worker of /v1/workers spent on frames: all stages but the empty one. NULL: 0. */
double busy_cycles(const json_t *worker);

/* ---- commands: argv[0] is the command's own name. They return an exit status ---- */

int cmd_status(const struct cli *cli, int argc, char **argv);
int cmd_switch(const struct cli *cli, int argc, char **argv);
int cmd_port(const struct cli *cli, int argc, char **argv);
int cmd_fdb(const struct cli *cli, int argc, char **argv);
int cmd_stats(const struct cli *cli, int argc, char **argv);
int cmd_top(const struct cli *cli, int argc, char **argv);
int cmd_qemu(const struct cli *cli, int argc, char **argv);
int cmd_doctor(const struct cli *cli, int argc, char **argv);
