/* SPDX-License-Identifier: Apache-2.0 */
/* status, fdb, stats: what flued knows, once. */
#include <stdio.h>
#include <string.h>

#include "flue.h"

static void print_workers(const json_t *status)
{
	struct libscols_table *t = table_new((const struct column[]){{"WORKER", true},
								     {"CPU", true},
								     {"QUEUES", true},
								     {"AWAKE", true},
								     {"FRAMES", true},
								     {"SLEEPS", true},
								     {"CPU-SECONDS", true},
								     {NULL, false}});
	json_t *w;
	size_t i;

	json_array_foreach (json_object_get(status, "workers"), i, w)
		table_row(t, number_text(number_of(w, "id")), number_text(number_of(w, "cpu")),
			  number_text(number_of(w, "queues")), number_text(number_of(w, "awake")),
			  number_text(number_of(w, "frames")), number_text(number_of(w, "sleeps")),
			  real_text(real_of(w, "cpu_s"), 2));
	table_print(t);
}

int cmd_status(const struct cli *cli, int argc, char **argv)
{
	json_t *s, *fdb;

	(void)argv;
	if (argc != 1) {
		complain(NULL, "usage: flue status");
		return EXIT_USAGE;
	}
	s = api_call(cli, "GET", "/v1/status", NULL, NULL);
	if (!s)
		return EXIT_FAILED;
	if (cli->json) {
		print_json(s);
	} else {
		fdb = json_object_get(s, "fdb");
		printf("switch %s: flued %s, process %s, up %s s, %s CPU seconds, %s resident\n", text_of(s, "switch"),
		       text_of(s, "version"), number_text(number_of(s, "pid")), real_text(real_of(s, "uptime_s"), 0),
		       real_text(real_of(s, "cpu_s"), 2), bytes_text(real_of(s, "rss_bytes")));
		printf("%s ports; %s of %s addresses learned, forgotten after %s s\n\n",
		       number_text(number_of(s, "ports")), number_text(number_of(fdb, "entries")),
		       number_text(number_of(fdb, "capacity")), number_text(number_of(s, "ageing_s")));
		print_workers(s);
	}
	json_decref(s);
	return EXIT_OK;
}

static int fdb_show(const struct cli *cli)
{
	json_t *answer = api_call(cli, "GET", "/v1/fdb", NULL, NULL), *e;
	struct libscols_table *t;
	size_t i;

	if (!answer)
		return EXIT_FAILED;
	if (cli->json) {
		print_json(answer);
		json_decref(answer);
		return EXIT_OK;
	}
	t = table_new((const struct column[]){
		{"MAC", false}, {"VLAN", true}, {"PORT", false}, {"TYPE", false}, {"AGE-S", true}, {NULL, false}});
	json_array_foreach (json_object_get(answer, "entries"), i, e) {
		bool learned = strcmp(text_of(e, "type"), "learned") == 0;

		table_row(t, text_of(e, "mac"), learned ? number_text(number_of(e, "vlan")) : "", text_of(e, "port"),
			  text_of(e, "type"), learned ? number_text(number_of(e, "age_s")) : "");
	}
	table_print(t);
	json_decref(answer);
	return EXIT_OK;
}

static int fdb_flush(const struct cli *cli)
{
	json_t *answer = api_call(cli, "DELETE", "/v1/fdb", NULL, NULL);

	if (!answer)
		return EXIT_FAILED;
	if (cli->json)
		print_json(answer);
	else
		printf("%s addresses forgotten\n", number_text(number_of(answer, "flushed")));
	json_decref(answer);
	return EXIT_OK;
}

int cmd_fdb(const struct cli *cli, int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "show") == 0)
		return fdb_show(cli);
	if (argc == 2 && strcmp(argv[1], "flush") == 0)
		return fdb_flush(cli);
	complain(NULL, "usage: flue fdb show|flush");
	return EXIT_USAGE;
}

static void stats_row(struct libscols_table *t, const json_t *p)
{
	const json_t *c = json_object_get(p, "counters");

	table_row(t, text_of(p, "name"), number_text(number_of(c, "rx_frames")), number_text(number_of(c, "rx_bytes")),
		  number_text(number_of(c, "tx_frames")), number_text(number_of(c, "tx_bytes")),
		  number_text(number_of(c, "tx_flooded")), number_text(drops_of(p)));
}

static const char *meaning_of(const json_t *drops, const char *name)
{
	json_t *d;
	size_t i;

	json_array_foreach (json_object_get(drops, "drops"), i, d)
		if (strcmp(text_of(d, "name"), name) == 0)
			return text_of(d, "meaning");
	return "";
}

/* Each reason of each port, with what it means. */
static void print_drops(const struct cli *cli, const json_t *ports)
{
	struct libscols_table *t = table_new((const struct column[]){
		{"PORT", false}, {"DROPPED", true}, {"REASON", false}, {"MEANING", false}, {NULL, false}});
	json_t *meanings = api_call(cli, "GET", "/v1/drops", NULL, NULL), *p, *n;
	const char *reason;
	bool any = false;
	size_t i;

	json_array_foreach (ports, i, p)
		json_object_foreach (json_object_get(p, "drops"), reason, n) {
			table_row(t, text_of(p, "name"), number_text(json_integer_value(n)), reason,
				  meaning_of(meanings, reason));
			any = true;
		}
	if (any) {
		putchar('\n');
		table_print(t);
	} else {
		scols_unref_table(t);
	}
	json_decref(meanings);
}

static void print_stats(const struct cli *cli, const json_t *ports)
{
	struct libscols_table *t = table_new((const struct column[]){{"PORT", false},
								     {"RX-FRAMES", true},
								     {"RX-BYTES", true},
								     {"TX-FRAMES", true},
								     {"TX-BYTES", true},
								     {"FLOODED", true},
								     {"DROPPED", true},
								     {NULL, false}});
	json_t *p;
	size_t i;

	json_array_foreach (ports, i, p)
		stats_row(t, p);
	table_print(t);
	print_drops(cli, ports);
}

int cmd_stats(const struct cli *cli, int argc, char **argv)
{
	const char *name = argc == 2 ? argv[1] : NULL;
	char path[256] = "/v1/ports";
	json_t *answer, *ports;

	if (argc > 2 || (name && name[0] == '-' && strcmp(name, "--cycles") != 0)) {
		complain(NULL, "usage: flue stats [NAME | --cycles]");
		return EXIT_USAGE;
	}
	if (name && strcmp(name, "--cycles") == 0) /* no port's name begins with a dash */
		return stats_cycles(cli);
	answer = api_call(cli, "GET", name ? port_path(name, path, sizeof(path)) : path, NULL, name);
	if (!answer)
		return EXIT_FAILED;
	ports = name ? json_pack("[O]", answer) : json_incref(json_object_get(answer, "ports"));
	if (cli->json)
		print_json(answer);
	else
		print_stats(cli, ports);
	json_decref(ports);
	json_decref(answer);
	return EXIT_OK;
}
