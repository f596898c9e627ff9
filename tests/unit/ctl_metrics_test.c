/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus' text, read back line by line as its format demands: each family has its HELP and TYPE once and before its
 * samples, all samples of a family stand together, no sample is there twice.
 */
#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/metrics.h"

/* ---- a reader ---- */

#define FAMILIES_MAX 64
#define SAMPLES_MAX  4096

struct metrics {
	char family[FAMILIES_MAX][64];
	char type[FAMILIES_MAX][16];
	unsigned n_families;
	char sample[SAMPLES_MAX][160]; /* name and labels as written */
	double value[SAMPLES_MAX];
	unsigned n_samples;
};

static size_t name_len(const char *p)
{
	size_t n = 0;

	while (isalnum((unsigned char)p[n]) || p[n] == '_' || p[n] == ':')
		n++;
	return isdigit((unsigned char)p[0]) ? 0 : n;
}

/* The end of {a="b",...} at @p; fails the test on anything else. */
static const char *labels_end(const char *p)
{
	do {
		size_t n = name_len(++p);

		assert_true(n > 0);
		p += n;
		assert_int_equal(p[0], '=');
		assert_int_equal(p[1], '"');
		for (p += 2; *p != '"'; p++) {
			assert_int_not_equal(*p, 0);
			if (*p == '\\' && !strchr("\\\"n", *++p))
				fail_msg("unknown escape \\%c", *p);
		}
		p++;
	} while (*p == ',');
	assert_int_equal(*p, '}');
	return p + 1;
}

static void read_sample(struct metrics *m, const char *line)
{
	size_t n = name_len(line);
	const char *end = line + n;
	char *rest;

	assert_true(n > 0 && m->n_families > 0 && m->n_samples < SAMPLES_MAX);
	/* it belongs to the family that was announced last */
	assert_int_equal(strlen(m->family[m->n_families - 1]), n);
	assert_memory_equal(m->family[m->n_families - 1], line, n);
	if (*end == '{')
		end = labels_end(end);
	assert_int_equal(*end, ' ');
	snprintf(m->sample[m->n_samples], sizeof(m->sample[0]), "%.*s", (int)(end - line), line);
	for (unsigned i = 0; i < m->n_samples; i++)
		assert_string_not_equal(m->sample[i], m->sample[m->n_samples]);
	m->value[m->n_samples++] = strtod(end + 1, &rest);
	assert_int_equal(*rest, 0);
}

static void read_family(struct metrics *m, const char *help, const char *type)
{
	size_t n = name_len(help + 7);
	char *family = m->family[m->n_families];

	assert_memory_equal(help, "# HELP ", 7);
	snprintf(family, sizeof(m->family[0]), "%.*s", (int)n, help + 7);
	assert_true(strlen(help) > 7 + n + 1); /* some words */
	for (unsigned i = 0; i < m->n_families; i++)
		assert_string_not_equal(m->family[i], family);
	assert_memory_equal(type, "# TYPE ", 7);
	assert_memory_equal(type + 7, family, n);
	snprintf(m->type[m->n_families], sizeof(m->type[0]), "%s", type + 7 + n + 1);
	assert_true(!strcmp(m->type[m->n_families], "counter") || !strcmp(m->type[m->n_families], "gauge"));
	/* counters, and only they, end with _total */
	assert_int_equal(!strcmp(m->type[m->n_families], "counter"), n > 6 && !strcmp(family + n - 6, "_total"));
	m->n_families++;
}

static void read_metrics(struct metrics *m, struct evbuffer *text)
{
	char *line;

	memset(m, 0, sizeof(*m));
	while ((line = evbuffer_readln(text, NULL, EVBUFFER_EOL_LF))) {
		if (*line == '#') {
			char *type = evbuffer_readln(text, NULL, EVBUFFER_EOL_LF);

			assert_non_null(type);
			read_family(m, line, type);
			free(type);
		} else {
			read_sample(m, line);
		}
		free(line);
	}
	assert_int_equal(evbuffer_get_length(text), 0); /* the last line ended */
}

static double value_of(const struct metrics *m, const char *sample)
{
	for (unsigned i = 0; i < m->n_samples; i++)
		if (!strcmp(m->sample[i], sample))
			return m->value[i];
	fail_msg("there is no %s", sample);
	return 0;
}

/* ---- a switch with still ports ---- */

static void still_info(const struct port *p, struct port_info *info)
{
	(void)p;
	info->state = PORT_UP;
}

static void still_free(struct port *p)
{
	free(p);
}

static struct port *still_make(const struct port_conf *conf, const struct port_host *host, struct err *e)
{
	static const struct port_ops ops = {.kind = "guest", .info = still_info, .free = still_free};
	struct port *p = aligned_alloc(CACHE_LINE, sizeof(*p));

	(void)host, (void)e;
	assert_non_null(p);
	memset(p, 0, sizeof(*p));
	p->ops = &ops;
	memcpy(p->name, conf->name, sizeof(p->name));
	return p;
}

static void every_count_of_every_port_is_there(void **state)
{
	static const struct port_kind kinds[CONF_KIND_N] = {
		{.make = still_make}, {.make = still_make}, {.make = still_make}};
	static const struct workers_conf two = {.n = 2, .cpu = {-1, -1}, .spin_us = 20};
	static struct metrics m;
	struct event_base *events = event_base_new();
	struct fwd *fwd = fwd_new(&(struct fwd_conf){.fdb_entries = 64, .ageing_s = 300});
	int attention_fd = eventfd(0, EFD_NONBLOCK);
	struct err e = {0};
	struct workers *workers = workers_new(&two, fwd, attention_fd, &e);
	struct model *model = model_new(&(struct model_parts){
		.fwd = fwd, .workers = workers, .kinds = kinds, .attention_fd = attention_fd, .events = events});
	struct port_conf vm1 = {.name = "vm1", .socket = "/1", .mtu = 1500, .fwd.vid = 1};
	struct port_conf vm2 = {.name = "vm2", .socket = "/2", .mtu = 9000, .fwd.vid = 1};
	struct evbuffer *text = evbuffer_new();
	struct port *p;

	(void)state;
	assert_int_equal(model_port_add(model, &vm1, &e), 0);
	assert_int_equal(model_port_add(model, &vm2, &e), 0);
	p = model_port_find(model, "vm1")->port;
	count(&p->counters[0].rx_frames, 3);
	count(&p->counters[1].rx_frames, 4);
	count(&p->counters[COUNTERS_CONTROL].rx_frames, 1);
	count(&p->counters[0].rx_bytes, UINT64_C(9007199254740000));
	count(&p->counters[0].tx_frames, 5);
	count(&p->counters[0].tx_bytes, 6);
	count(&p->counters[0].rx_broadcast, 7);
	count(&p->counters[0].rx_multicast, 8);
	count(&p->counters[0].tx_flooded, 9);
	port_drop(p, 1, DROP_QUEUE_FULL, 10);
	atomic_store(&p->up, true);

	metrics_write(text, model, "a \"quoted\\ name\n");
	read_metrics(&m, text);
	assert_int_equal(
		value_of(&m, "flue_build_info{version=\"" FLUE_VERSION "\",switch=\"a \\\"quoted\\\\ name\\n\"}"), 1);
	assert_int_equal(value_of(&m, "flue_ports"), 2);
	assert_int_equal(value_of(&m, "flue_port_rx_frames_total{port=\"vm1\"}"), 8);
	assert_int_equal(value_of(&m, "flue_port_rx_frames_total{port=\"vm2\"}"), 0);
	assert_true(value_of(&m, "flue_port_rx_bytes_total{port=\"vm1\"}") == 9007199254740000.0);
	assert_int_equal(value_of(&m, "flue_port_tx_frames_total{port=\"vm1\"}"), 5);
	assert_int_equal(value_of(&m, "flue_port_tx_bytes_total{port=\"vm1\"}"), 6);
	assert_int_equal(value_of(&m, "flue_port_rx_broadcast_total{port=\"vm1\"}"), 7);
	assert_int_equal(value_of(&m, "flue_port_rx_multicast_total{port=\"vm1\"}"), 8);
	assert_int_equal(value_of(&m, "flue_port_tx_flooded_total{port=\"vm1\"}"), 9);
	assert_int_equal(value_of(&m, "flue_port_up{port=\"vm1\"}"), 1);
	assert_int_equal(value_of(&m, "flue_port_up{port=\"vm2\"}"), 0);
	assert_int_equal(value_of(&m, "flue_port_mtu_bytes{port=\"vm2\"}"), 9000);
	for (unsigned r = 0; r < DROP_N; r++) {
		char sample[100];

		snprintf(sample, sizeof(sample), "flue_port_drops_total{port=\"vm1\",reason=\"%s\"}",
			 drop_name((enum drop_reason)r));
		assert_int_equal(value_of(&m, sample), r == DROP_QUEUE_FULL ? 10 : 0);
	}
	assert_int_equal(value_of(&m, "flue_fdb_capacity"), 64);
	assert_int_equal(value_of(&m, "flue_fdb_entries"), 0);
	assert_true(value_of(&m, "flue_worker_cpu_seconds_total{worker=\"1\"}") >= 0);
	assert_int_equal(value_of(&m, "flue_worker_frames_total{worker=\"0\"}"), 0);
	assert_true(value_of(&m, "flue_clock_hertz") > 1000000);
	assert_true(value_of(&m, "flue_worker_cycles_total{worker=\"1\",stage=\"empty\"}") >= 0);
	assert_true(value_of(&m, "flue_worker_cycles_total{worker=\"1\",stage=\"asleep\"}") >= 0);
	assert_true(value_of(&m, "process_resident_memory_bytes") > 100000);
	assert_true(value_of(&m, "process_cpu_seconds_total") > 0);
	assert_true(value_of(&m, "process_open_fds") >= 5);

	evbuffer_free(text);
	model_free(model);
	workers_free(workers);
	fwd_free(fwd);
	close(attention_fd);
	event_base_free(events);
}

static void labels_are_escaped_and_never_cut_in_an_escape(void **state)
{
	static const struct {
		const char *text;
		size_t size;
		const char *label;
	} row[] = {
		{"plain", 16, "plain"}, {"", 16, ""},        {"a\"b", 16, "a\\\"b"}, {"a\\b", 16, "a\\\\b"},
		{"a\nb", 16, "a\\nb"},  {"abcdef", 4, "ab"}, {"ab\"", 5, "ab\\\""},  {"abc\"", 5, "abc"},
	};
	char label[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		metrics_escape(row[i].text, label, row[i].size);
		assert_string_equal(label, row[i].label);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_count_of_every_port_is_there),
		cmocka_unit_test(labels_are_escaped_and_never_cut_in_an_escape),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
