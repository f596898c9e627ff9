/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <event2/buffer.h>
#include <event2/http.h>
#include <jansson.h>

#include "ctl/api.h"

/* One request on its way to its handler. */
struct api_request {
	struct evhttp_request *http;
	struct model *model;
	const char *run_dir;
	const char *switch_name;
	uint64_t started_ns;      /* when flued began to serve */
	char name[PORT_NAME_MAX]; /* what stands for NAME in the route's path, or "" */
	json_t *body;             /* of routes that take one */
};

/* Each handler answers with exactly one of the functions below. */
typedef void (*api_handler)(struct api_request *r);

struct api_route {
	enum evhttp_cmd_type method;
	const char *path; /* "NAME" as the last part stands for a port's name */
	bool has_body;    /* JSON */
	api_handler handle;
};

/* Find the route for @r->http, read its body, and handle it. */
void api_dispatch(struct api_request *r);

/* ---- answers (api_reply.c) ---- */

/* @value is given away; NULL is answered as 500, out of memory. */
void api_reply_json(struct api_request *r, int status, json_t *value);
void api_reply_error(struct api_request *r, int status, const char *field, const char *message, const char *remedy);
/* The status follows from e->code. */
void api_reply_err(struct api_request *r, const struct err *e);
void api_reply_text(struct api_request *r, const char *type, struct evbuffer *text);
void api_reply_empty(struct api_request *r);

/* A JSON string of text that may not be UTF-8: such bytes become question marks. */
json_t *api_string(const char *text);

/* ---- handlers ---- */

void api_port_list(struct api_request *r);
void api_port_get(struct api_request *r);
void api_port_add(struct api_request *r);
void api_port_set(struct api_request *r);
void api_port_delete(struct api_request *r);
void api_status_get(struct api_request *r);
void api_switch_get(struct api_request *r);
void api_switch_set(struct api_request *r);
void api_workers_get(struct api_request *r);
void api_fdb_get(struct api_request *r);
void api_fdb_flush(struct api_request *r);
void api_drops_get(struct api_request *r);
void api_metrics_get(struct api_request *r);
