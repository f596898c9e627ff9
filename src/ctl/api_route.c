/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/api_priv.h"

static const struct api_route routes[] = {
	{EVHTTP_REQ_GET, "/v1/status", false, api_status_get},
	{EVHTTP_REQ_GET, "/v1/switch", false, api_switch_get},
	{EVHTTP_REQ_PATCH, "/v1/switch", true, api_switch_set},
	{EVHTTP_REQ_GET, "/v1/workers", false, api_workers_get},
	{EVHTTP_REQ_GET, "/v1/ports", false, api_port_list},
	{EVHTTP_REQ_POST, "/v1/ports", true, api_port_add},
	{EVHTTP_REQ_GET, "/v1/ports/NAME", false, api_port_get},
	{EVHTTP_REQ_PATCH, "/v1/ports/NAME", true, api_port_set},
	{EVHTTP_REQ_DELETE, "/v1/ports/NAME", false, api_port_delete},
	{EVHTTP_REQ_GET, "/v1/fdb", false, api_fdb_get},
	{EVHTTP_REQ_DELETE, "/v1/fdb", false, api_fdb_flush},
	{EVHTTP_REQ_GET, "/v1/drops", false, api_drops_get},
	{EVHTTP_REQ_GET, "/metrics", false, api_metrics_get},
};

static const char *method_name(enum evhttp_cmd_type m)
{
	switch (m) {
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	default:
		return "GET";
	}
}

/* Does @path fit the route? Then @name is what stands for NAME in it. */
static bool fits(const char *route, const char *path, char name[PORT_NAME_MAX])
{
	const char *var = strstr(route, "NAME");
	size_t fixed = var ? (size_t)(var - route) : 0;
	char *decoded;
	size_t len = 0;
	bool ok;

	name[0] = 0;
	if (!var)
		return !strcmp(route, path);
	if (strncmp(route, path, fixed) || !path[fixed] || strchr(path + fixed, '/'))
		return false;
	decoded = evhttp_uridecode(path + fixed, 0, &len);
	ok = decoded && len == strlen(decoded);
	if (ok) /* a longer one is no port's name: cut, it still is not */
		snprintf(name, PORT_NAME_MAX, "%s", len < PORT_NAME_MAX ? decoded : "?");
	free(decoded);
	return ok;
}

static void refuse(struct api_request *r, const char *path, bool known)
{
	char allow[64] = "", name[PORT_NAME_MAX], message[200], remedy[96];

	if (!known) {
		snprintf(message, sizeof(message), "there is nothing at %.120s", path);
		api_reply_error(r, 404, "", message, "see flued(8) for the paths of the API");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
		if (fits(routes[i].path, path, name))
			snprintf(allow + strlen(allow), sizeof(allow) - strlen(allow), "%s%s", allow[0] ? ", " : "",
				 method_name(routes[i].method));
	evhttp_add_header(evhttp_request_get_output_headers(r->http), "Allow", allow);
	snprintf(message, sizeof(message), "%.120s does not take this method", path);
	snprintf(remedy, sizeof(remedy), "use one of %s", allow);
	api_reply_error(r, 405, "", message, remedy);
}

static bool read_body(struct api_request *r)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(r->http);
	size_t len = evbuffer_get_length(in);
	const char *text = len ? (const char *)evbuffer_pullup(in, -1) : "";
	json_error_t why;
	char message[sizeof(why.text) + 80];

	r->body = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (r->body)
		return true;
	snprintf(message, sizeof(message), "the body is not JSON: %s (line %d, column %d)", why.text, why.line,
		 why.column);
	api_reply_error(r, 400, "", message, "send one JSON object");
	return false;
}

static void run(struct api_request *r, const struct api_route *route)
{
	if (evbuffer_get_length(evhttp_request_get_input_buffer(r->http)) > (size_t)API_BODY_MAX) {
		api_reply_error(r, 413, "", "the body is larger than 64 KiB", "send one port at a time");
		return;
	}
	if (!route->has_body || read_body(r))
		route->handle(r);
	json_decref(r->body);
}

void api_dispatch(struct api_request *r)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r->http);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	enum evhttp_cmd_type method = evhttp_request_get_command(r->http);
	bool known = false;

	if (method == EVHTTP_REQ_HEAD) /* libevent leaves the body out */
		method = EVHTTP_REQ_GET;
	for (size_t i = 0; path && i < ARRAY_SIZE(routes); i++) {
		if (!fits(routes[i].path, path, r->name))
			continue;
		known = true;
		if (routes[i].method == method) {
			run(r, &routes[i]);
			return;
		}
	}
	refuse(r, path ? path : "", known);
}
