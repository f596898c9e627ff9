/* SPDX-License-Identifier: Apache-2.0 */
/* The switch's daemon: reads what the operator wants, starts the parts, and serves until it is told to stop. What is
 * wrong at start ends it with one message; after that nothing does but a signal.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/api.h"
#include "ctl/conf.h"
#include "main/options.h"
#include "main/wire.h"
#include "state/state.h"

struct flued {
	struct options options;
	struct conf conf;
	char run_dir[CONF_PATH_MAX]; /* absolute */
	char api_path[CONF_PATH_MAX];
	int lock_fd;         /* of a file in the run directory */
	bool locked;         /* the directory is ours alone */
	struct state *state; /* NULL: there is no state file */
	struct event_base *events;
	struct event *stop[3];
	struct model *model;
	struct api *api;
};

/* "FILE:LINE: FIELD: TEXT: REMEDY", what there is of it. */
static void tell(const char *file, unsigned line, const struct err *e)
{
	char place[300] = "";

	if (file && !line && e->field[0])
		line = conf_yaml_line(file, e->field);
	if (file && line)
		snprintf(place, sizeof(place), "%.280s:%u: ", file, line);
	else if (file)
		snprintf(place, sizeof(place), "%.280s: ", file);
	log_error("%s%s%s%s%s%s", place, e->field, e->field[0] ? ": " : "", e->text, e->remedy[0] ? ": " : "",
		  e->remedy);
}

/* ---- preparations ---- */

static int load_conf(struct flued *f, struct err *e)
{
	unsigned line = 0;
	cpu_set_t allowed;
	int rc = 0;

	conf_init(&f->conf);
	if (f->options.config)
		rc = conf_yaml_load(&f->conf, f->options.config, f->run_dir, &line, e);
	if (rc == 0 && sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		rc = err_set(e, -errno, NULL, NULL, "cannot learn which CPUs there are: %s", strerror(errno));
	if (rc == 0)
		rc = conf_workers(&f->conf, &allowed, e);
	if (rc < 0)
		tell(f->options.config, line, e);
	return rc;
}

static int choose_paths(struct flued *f, struct err *e)
{
	const char *given = f->options.run_dir;
	char cwd[CONF_PATH_MAX] = "";
	int n;

	if (given[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return err_set(e, -errno, NULL, "give --run-dir as a short absolute path",
			       "cannot name the working directory: %s", strerror(errno));
	n = snprintf(f->run_dir, sizeof(f->run_dir), "%s%s%s", cwd, cwd[0] ? "/" : "", given);
	if (n < 0 || (size_t)n > sizeof(f->run_dir) - sizeof("/api.sock"))
		return err_set(e, -ENAMETOOLONG, NULL, "choose a shorter --run-dir",
			       "sockets in %.60s... would have names that are too long", given);
	while (n > 1 && f->run_dir[n - 1] == '/')
		f->run_dir[--n] = 0;
	return 0;
}

/* No port may have the API's socket. */
static int check_sockets(const struct flued *f, struct err *e)
{
	char field[32];

	for (unsigned i = 0; i < f->conf.n_ports; i++) {
		if (f->conf.port[i].kind != CONF_GUEST || strcmp(f->conf.port[i].socket, f->api_path))
			continue;
		snprintf(field, sizeof(field), "ports[%u].socket", i);
		return err_set(e, -EINVAL, field, "give the port another name or `socket`",
			       "%s is the API's, port %s cannot have it", f->api_path, f->conf.port[i].name);
	}
	return 0;
}

static int choose_api(struct flued *f, struct err *e)
{
	const char *path = f->options.api ? f->options.api : f->conf.api.socket;

	if (strlen(path) >= sizeof(f->api_path))
		return err_set(e, -ENAMETOOLONG, NULL, "choose a shorter one with --api",
			       "%.60s... is too long for a Unix socket", path);
	if (*path)
		memcpy(f->api_path, path, strlen(path) + 1);
	else
		snprintf(f->api_path, sizeof(f->api_path), "%.97s/api.sock", f->run_dir);
	return check_sockets(f, e);
}

static int take_run_dir(struct flued *f, struct err *e)
{
	char path[sizeof(f->run_dir) + 16];
	struct stat st;
	int n;

	if (mkdir(f->run_dir, 0755) < 0 && errno != EEXIST)
		return err_set(e, -errno, NULL, "create it, or name another with --run-dir",
			       "cannot create the run directory %s: %s", f->run_dir, strerror(errno));
	n = snprintf(path, sizeof(path), "%s/flued.lock", f->run_dir);
	f->lock_fd = n < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (f->lock_fd < 0)
		return err_set(e, -errno, NULL, "start flued as root, or name a directory of yours with --run-dir",
			       "cannot write to the run directory %s: %s", f->run_dir, strerror(errno));
	/* Without a name it is the lock of one that is just ending. */
	if (flock(f->lock_fd, LOCK_EX | LOCK_NB) < 0 || fstat(f->lock_fd, &st) < 0 || st.st_nlink == 0)
		return err_set(e, -EADDRINUSE, NULL, "stop it, or name another directory with --run-dir",
			       "another flued uses the run directory %s", f->run_dir);
	f->locked = true;
	return 0;
}

static void leave_run_dir(struct flued *f)
{
	char path[sizeof(f->run_dir) + 16];

	snprintf(path, sizeof(path), "%s/flued.lock", f->run_dir);
	if (f->locked)
		unlink(path);
	if (f->lock_fd >= 0)
		close(f->lock_fd);
}

/* Guests can do without it as long as flued lives, so what is wrong with it is no reason not to start. */
static void open_state(struct flued *f)
{
	char path[sizeof(f->run_dir) + 16];
	struct err e = {0};

	snprintf(path, sizeof(path), "%s/flued.state", f->run_dir);
	f->state = state_open(path, &e);
	if (!f->state)
		log_warn("nothing is kept, guests may lose their link for good if flued ends: %s%s%s", e.text,
			 e.remedy[0] ? ": " : "", e.remedy);
	for (unsigned i = 0; i < f->conf.n_ports; i++)
		state_expect(f->state, f->conf.port[i].name);
}

/* Each guest brings descriptors: a socket, its memory, two for each ring. */
static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) < 0)
			log_warn("cannot raise the limit of open files: %s", strerror(errno));
	}
}

/* ---- serving ---- */

static void on_stop(evutil_socket_t signal_number, short what, void *arg)
{
	struct flued *f = arg;

	(void)what;
	log_info("stopping: %s", strsignal((int)signal_number));
	event_base_loopbreak(f->events);
}

static void on_event_log(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_warn("libevent: %s", text);
}

static int start_events(struct flued *f, struct err *e)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

	event_set_log_callback(on_event_log);
	f->events = event_base_new();
	if (!f->events)
		return err_set(e, -EIO, NULL, "raise the limit of open files (`ulimit -n`)",
			       "cannot start the event loop");
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		f->stop[i] = evsignal_new(f->events, signals[i], on_stop, f);
		if (!f->stop[i] || event_add(f->stop[i], NULL) < 0)
			return err_set(e, -ENOMEM, NULL, NULL, "cannot wait for signals");
	}
	return 0;
}

static int add_ports(struct flued *f, struct err *e)
{
	for (unsigned i = 0; i < f->conf.n_ports; i++) {
		char key[sizeof(e->field)];

		if (model_port_add(f->model, &f->conf.port[i], e) == 0)
			continue;
		snprintf(key, sizeof(key), "%s", e->field);
		snprintf(e->field, sizeof(e->field), "ports[%u]%s%.40s", i, key[0] ? "." : "", key);
		return -1;
	}
	return 0;
}

static int start(struct flued *f, struct err *e)
{
	if (choose_api(f, e) < 0 || take_run_dir(f, e) < 0 || start_events(f, e) < 0)
		return -1;
	open_state(f);
	f->model = wire_new(&f->conf, f->state, f->events, e);
	if (!f->model || add_ports(f, e) < 0)
		return -1;
	f->api = api_new(
		&(struct api_conf){
			.path = f->api_path,
			.mode = f->conf.api.mode,
			.group = f->conf.api.group,
			.run_dir = f->run_dir,
			.switch_name = f->conf.switch_name,
		},
		f->model, f->events, e);
	return f->api ? 0 : -1;
}

static void stop(struct flued *f)
{
	api_free(f->api);
	if (f->model)
		wire_free(f->model);
	state_close(f->state);
	for (size_t i = 0; i < ARRAY_SIZE(f->stop); i++)
		if (f->stop[i])
			event_free(f->stop[i]);
	if (f->events)
		event_base_free(f->events);
	leave_run_dir(f);
	conf_fini(&f->conf);
}

static int serve(struct flued *f)
{
	struct err e = {0};
	int status = 1;

	if (start(f, &e) < 0) {
		tell(f->options.config, 0, &e);
	} else {
		log_info("ready, api %s", f->api_path);
		status = event_base_dispatch(f->events) < 0;
	}
	stop(f);
	return status;
}

int main(int argc, char **argv)
{
	static struct flued f = {.lock_fd = -1};
	struct err e = {0};
	int status;

	if (!options_read(argc, argv, &f.options, &status))
		return status;
	log_set_level(f.options.log_level);
	signal(SIGPIPE, SIG_IGN);
	raise_limits();
	if (choose_paths(&f, &e) < 0) {
		tell(NULL, 0, &e);
		return 1;
	}
	if (load_conf(&f, &e) < 0) {
		conf_fini(&f.conf);
		return 1;
	}
	if (f.options.check_config) {
		printf("%s: in order, %u ports\n", f.options.config, f.conf.n_ports);
		conf_fini(&f.conf);
		return 0;
	}
	return serve(&f);
}
