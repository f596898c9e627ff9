/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/api.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/time.h"
#include "ctl/api_priv.h"

/* libevent answers a body above its own limit with an HTML page; ours, below it, is answered in JSON. */
#define HTTP_BODY_MAX (16 * API_BODY_MAX)

struct api {
	struct api_conf conf;
	char path[CONF_PATH_MAX];
	struct model *model;
	uint64_t started_ns;
	struct evhttp *http; /* owns the listener */
	struct evconnlistener *listener;
	struct event *resume;
	struct log_limit limit;
};

static struct api *served; /* the one of this process, for a callback that cannot be told */

static void on_request(struct evhttp_request *http, void *arg)
{
	struct api *a = arg;
	struct api_request r = {
		.http = http,
		.model = a->model,
		.run_dir = a->conf.run_dir,
		.switch_name = a->conf.switch_name,
		.started_ns = a->started_ns,
	};

	api_dispatch(&r);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct api *a = arg;

	(void)fd, (void)what;
	evconnlistener_enable(a->listener);
}

/* Without a free descriptor the waiting connection would wake us again at once. @http: what libevent's HTTP has made the
 * listener's callbacks' argument. */
static void on_accept_error(struct evconnlistener *listener, void *http)
{
	static const struct timeval wait = {.tv_usec = API_RETRY_MS * 1000};
	struct api *a = served;

	(void)http;
	log_limited(&a->limit, LOG_WARN, "API: cannot accept a connection: %s", strerror(errno));
	evconnlistener_disable(listener);
	event_add(a->resume, &wait);
}

static struct evhttp *http_new(struct event_base *events)
{
	struct evhttp *http = evhttp_new(events);

	if (!http)
		return NULL;
	evhttp_set_max_body_size(http, HTTP_BODY_MAX);
	evhttp_set_max_headers_size(http, API_HEADERS_MAX);
	evhttp_set_timeout(http, API_IDLE_S);
	evhttp_set_default_content_type(http, "application/json");
	/* All there are: which of them a path takes is decided, and said, by the table of routes. */
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
						 EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
						 EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
	return http;
}

/* Takes @fd, also when it fails. */
static int serve(struct api *a, int fd, struct event_base *events)
{
	a->listener = evconnlistener_new(events, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!a->listener) {
		close(fd);
		return -ENOMEM;
	}
	a->http = http_new(events);
	a->resume = event_new(events, -1, 0, on_resume, a);
	if (!a->http || !a->resume || !evhttp_bind_listener(a->http, a->listener)) {
		evconnlistener_free(a->listener);
		return -ENOMEM;
	}
	served = a;
	evconnlistener_set_error_cb(a->listener, on_accept_error);
	evhttp_set_gencb(a->http, on_request, a);
	return 0;
}

struct api *api_new(const struct api_conf *conf, struct model *m, struct event_base *events, struct err *e)
{
	struct api *a = calloc(1, sizeof(*a));
	int fd;

	if (!a) {
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		return NULL;
	}
	fd = api_sock_open(conf->path, conf->mode, conf->group, e);
	if (fd < 0) {
		free(a);
		return NULL;
	}
	a->conf = *conf;
	a->model = m;
	a->started_ns = time_now_ns();
	memcpy(a->path, conf->path, strlen(conf->path) + 1);
	if (serve(a, fd, events) < 0) {
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
		api_free(a);
		return NULL;
	}
	return a;
}

void api_free(struct api *a)
{
	if (!a)
		return;
	if (a->http)
		evhttp_free(a->http);
	if (a->resume)
		event_free(a->resume);
	unlink(a->path);
	free(a);
}
