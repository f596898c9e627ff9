/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/metrics.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cycles.h"
#include "ctl/api_priv.h"
#include "ctl/stats.h"

#define LABEL_BYTES 128

void metrics_escape(const char *text, char *out, size_t size)
{
	size_t at = 0;

	for (const char *p = text; *p && at + 2 < size; p++) {
		if (*p == '\\' || *p == '"' || *p == '\n')
			out[at++] = '\\';
		out[at++] = *p;
		if (*p == '\n')
			out[at - 1] = 'n';
	}
	out[at] = 0;
}

static void family(struct evbuffer *out, const char *name, const char *type, const char *help)
{
	evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct evbuffer *out, const char *name, const char *type, const char *help, double value)
{
	family(out, name, type, help);
	evbuffer_add_printf(out, "%s %.15g\n", name, value);
}

/* ---- ports ---- */

static const struct {
	const char *name, *help;
	size_t offset; /* in struct port_totals */
} port_counter[] = {
#define COUNTER(field, help_text)                                                                                      \
	{                                                                                                              \
		"flue_port_" #field "_total", help_text, offsetof(struct port_totals, field)                           \
	}
	COUNTER(rx_frames, "Frames received from the port."),
	COUNTER(rx_bytes, "Bytes received from the port, without FCS."),
	COUNTER(tx_frames, "Frames sent to the port."),
	COUNTER(tx_bytes, "Bytes sent to the port, without FCS."),
	COUNTER(rx_broadcast, "Broadcast frames received from the port."),
	COUNTER(rx_multicast, "Multicast frames received from the port."),
	COUNTER(tx_flooded, "Frames sent to the port because their destination was unknown or a group."),
#undef COUNTER
};

static uint64_t counter_of(const struct port_totals *t, size_t offset)
{
	uint64_t v;

	memcpy(&v, (const char *)t + offset, sizeof(v));
	return v;
}

static void port_counters(struct evbuffer *out, struct model *m)
{
	struct model_port *mp;

	for (size_t c = 0; c < ARRAY_SIZE(port_counter); c++) {
		family(out, port_counter[c].name, "counter", port_counter[c].help);
		for (unsigned i = 0; (mp = model_port_at(m, i)); i++) {
			char label[LABEL_BYTES];
			struct port_totals t;

			port_totals(mp->port, &t);
			metrics_escape(mp->conf.name, label, sizeof(label));
			evbuffer_add_printf(out, "%s{port=\"%s\"} %" PRIu64 "\n", port_counter[c].name, label,
					    counter_of(&t, port_counter[c].offset));
		}
	}
}

static void port_drops(struct evbuffer *out, struct model *m)
{
	struct model_port *mp;

	family(out, "flue_port_drops_total", "counter", "Frames not delivered, by reason; see `flue stats`.");
	for (unsigned i = 0; (mp = model_port_at(m, i)); i++) {
		char label[LABEL_BYTES];
		struct port_totals t;

		port_totals(mp->port, &t);
		metrics_escape(mp->conf.name, label, sizeof(label));
		for (unsigned r = 0; r < DROP_N; r++)
			evbuffer_add_printf(out, "flue_port_drops_total{port=\"%s\",reason=\"%s\"} %" PRIu64 "\n",
					    label, drop_name((enum drop_reason)r), t.drop[r]);
	}
}

static void port_states(struct evbuffer *out, struct model *m)
{
	struct model_port *mp;
	char label[LABEL_BYTES];

	family(out, "flue_port_up", "gauge", "1 if frames can flow.");
	for (unsigned i = 0; (mp = model_port_at(m, i)); i++) {
		metrics_escape(mp->conf.name, label, sizeof(label));
		evbuffer_add_printf(out, "flue_port_up{port=\"%s\"} %d\n", label,
				    atomic_load_explicit(&mp->port->up, memory_order_relaxed));
	}
	family(out, "flue_port_mtu_bytes", "gauge", "Configured MTU.");
	for (unsigned i = 0; (mp = model_port_at(m, i)); i++) {
		metrics_escape(mp->conf.name, label, sizeof(label));
		evbuffer_add_printf(out, "flue_port_mtu_bytes{port=\"%s\"} %u\n", label, mp->conf.mtu);
	}
}

/* ---- the rest ---- */

static const struct {
	const char *name, *help;
	size_t offset; /* in struct worker_stats */
} worker_counter[] = {
#define COUNTER(field, help_text)                                                                                      \
	{                                                                                                              \
		"flue_worker_" #field "_total", help_text, offsetof(struct worker_stats, field)                        \
	}
	COUNTER(rounds, "Passes over the queues that are awake."),
	COUNTER(busy_rounds, "Passes that found at least one frame."),
	COUNTER(busy_polls, "Polls of a queue that found at least one frame."),
	COUNTER(empty_polls, "Polls of a queue that found none."),
	COUNTER(frames, "Frames taken from queues."),
	COUNTER(sleeps, "Times the worker went to sleep."),
#undef COUNTER
};

static void worker_cycles(struct evbuffer *out, const struct workers *w)
{
	static const char name[] = "flue_worker_cycles_total";
	struct worker_stats s;

	single(out, "flue_clock_hertz", "gauge", "Cycles in a second.", (double)cycles_hz());
	family(out, name, "counter", "Where the worker's time went, by stage; see `flue stats --cycles`.");
	for (unsigned i = 0; i < workers_count(w); i++) {
		workers_stats(w, i, &s);
		for (unsigned k = 0; k < STAGE_N; k++)
			evbuffer_add_printf(out, "%s{worker=\"%u\",stage=\"%s\"} %" PRIu64 "\n", name, i,
					    work_stage_name((enum work_stage)k), s.stage_cycles[k]);
		evbuffer_add_printf(out, "%s{worker=\"%u\",stage=\"asleep\"} %" PRIu64 "\n", name, i, s.asleep_cycles);
	}
}

static const struct {
	const char *name, *help;
	size_t offset; /* in struct work_queue_stats */
} queue_counter[] = {
#define COUNTER(field, help_text)                                                                                      \
	{                                                                                                              \
		"flue_queue_" #field "_total", help_text, offsetof(struct work_queue_stats, field)                     \
	}
	COUNTER(polls, "Times the receive queue was polled."),
	COUNTER(busy_polls, "Polls that found at least one frame."),
	COUNTER(frames, "Frames taken from the queue."),
	COUNTER(busy_cycles, "Time that its frames took its worker."),
#undef COUNTER
};

static void queue_metrics(struct evbuffer *out, const struct workers *w)
{
	for (size_t c = 0; c < ARRAY_SIZE(queue_counter); c++) {
		family(out, queue_counter[c].name, "counter", queue_counter[c].help);
		for (unsigned i = 0; i < workers_count(w); i++) {
			struct work_queue_stats s;
			char label[LABEL_BYTES];
			uint64_t v;

			for (unsigned k = 0; workers_queue_stats(w, i, k, &s); k++) {
				metrics_escape(s.port->name, label, sizeof(label));
				memcpy(&v, (const char *)&s + queue_counter[c].offset, sizeof(v));
				evbuffer_add_printf(out, "%s{port=\"%s\",queue=\"%u\"} %" PRIu64 "\n",
						    queue_counter[c].name, label, s.q, v);
			}
		}
	}
}

static void worker_metrics(struct evbuffer *out, struct workers *w)
{
	unsigned n = workers_count(w);
	struct worker_stats s;

	for (size_t c = 0; c < ARRAY_SIZE(worker_counter); c++) {
		family(out, worker_counter[c].name, "counter", worker_counter[c].help);
		for (unsigned i = 0; i < n; i++) {
			uint64_t v;

			workers_stats(w, i, &s);
			memcpy(&v, (const char *)&s + worker_counter[c].offset, sizeof(v));
			evbuffer_add_printf(out, "%s{worker=\"%u\"} %" PRIu64 "\n", worker_counter[c].name, i, v);
		}
	}
	family(out, "flue_worker_cpu_seconds_total", "counter", "CPU time of the worker.");
	for (unsigned i = 0; i < n; i++) {
		workers_stats(w, i, &s);
		evbuffer_add_printf(out, "flue_worker_cpu_seconds_total{worker=\"%u\"} %.9f\n", i,
				    (double)s.cpu_ns / 1e9);
	}
	single(out, "flue_workers", "gauge", "Workers.", n);
	single(out, "flue_queue_moves_total", "counter", "Receive queues moved to a worker with less to do.",
	       (double)workers_moves(w));
	family(out, "flue_worker_queues", "gauge", "Receive queues the worker owns.");
	for (unsigned i = 0; i < n; i++) {
		workers_stats(w, i, &s);
		evbuffer_add_printf(out, "flue_worker_queues{worker=\"%u\"} %u\n", i, s.queues);
	}
}

static void fdb_metrics(struct evbuffer *out, struct fwd *f)
{
	struct fwd_stats s;

	fwd_stats_get(f, &s);
	single(out, "flue_fdb_entries", "gauge", "Learned MAC addresses.", s.entries);
	single(out, "flue_fdb_capacity", "gauge", "MAC addresses that can be learned.", s.capacity);
	single(out, "flue_fdb_learned_total", "counter", "MAC addresses learned.", (double)s.learned);
	single(out, "flue_fdb_aged_total", "counter", "MAC addresses forgotten by age.", (double)s.aged);
	single(out, "flue_fdb_moved_total", "counter", "MAC addresses that moved to another port.", (double)s.moved);
	single(out, "flue_fdb_full_total", "counter", "MAC addresses not learned for want of room.", (double)s.full);
}

static void process_metrics(struct evbuffer *out)
{
	struct process_stats s;

	process_stats(&s);
	single(out, "process_resident_memory_bytes", "gauge", "Resident memory, guests' memory in use included.",
	       (double)s.rss_bytes);
	single(out, "process_cpu_seconds_total", "counter", "CPU time, user and system.", s.cpu_s);
	single(out, "process_open_fds", "gauge", "Open file descriptors.", s.fds);
}

void metrics_write(struct evbuffer *out, struct model *m, const char *switch_name)
{
	char label[LABEL_BYTES];

	metrics_escape(switch_name, label, sizeof(label));
	family(out, "flue_build_info", "gauge", "Always 1.");
	evbuffer_add_printf(out, "flue_build_info{version=\"%s\",switch=\"%s\"} 1\n", FLUE_VERSION, label);
	single(out, "flue_ports", "gauge", "Ports of the switch.", model_ports(m));
	port_counters(out, m);
	port_drops(out, m);
	port_states(out, m);
	fdb_metrics(out, model_fwd(m));
	worker_metrics(out, model_workers(m));
	worker_cycles(out, model_workers(m));
	queue_metrics(out, model_workers(m));
	process_metrics(out);
}

void api_metrics_get(struct api_request *r)
{
	struct evbuffer *out = evbuffer_new();

	if (!out) {
		api_reply_error(r, 500, "", "out of memory", "");
		return;
	}
	metrics_write(out, r->model, r->switch_name);
	api_reply_text(r, METRICS_TYPE, out);
	evbuffer_free(out);
}
