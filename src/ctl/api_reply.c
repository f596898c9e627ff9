/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/api_priv.h"

json_t *api_string(const char *text)
{
	json_t *j = json_string(text);
	char *copy;

	if (j)
		return j;
	copy = strdup(text);
	for (char *p = copy; p && *p; p++)
		if (*p & 0x80)
			*p = '?';
	j = copy ? json_string(copy) : NULL;
	free(copy);
	return j;
}

static void header(struct api_request *r, const char *name, const char *value)
{
	evhttp_add_header(evhttp_request_get_output_headers(r->http), name, value);
}

static int append(const char *buffer, size_t size, void *out)
{
	return evbuffer_add(out, buffer, size);
}

void api_reply_json(struct api_request *r, int status, json_t *value)
{
	struct evbuffer *out = evbuffer_new();
	bool ok = out && value && json_dump_callback(value, append, out, JSON_COMPACT | JSON_REAL_PRECISION(12)) == 0;

	json_decref(value);
	header(r, "Content-Type", "application/json");
	if (ok && evbuffer_add(out, "\n", 1) == 0)
		evhttp_send_reply(r->http, status, NULL, out);
	else
		evhttp_send_reply(r->http, 500, NULL, NULL);
	if (out)
		evbuffer_free(out);
}

void api_reply_error(struct api_request *r, int status, const char *field, const char *message, const char *remedy)
{
	api_reply_json(r, status,
		       json_pack("{s:{s:o, s:o, s:o}}", "error", "field", api_string(field), "message",
				 api_string(message), "remedy", api_string(remedy)));
}

static int status_of(int code)
{
	switch (-code) {
	case EINVAL:
	case ENODEV:
	case ENOENT:
	case ENAMETOOLONG:
	case EOPNOTSUPP:
	case ERANGE:
		return 400;
	case EEXIST:
	case EBUSY:
	case EADDRINUSE:
	case ENOSPC:
		return 409;
	default:
		return 500;
	}
}

void api_reply_err(struct api_request *r, const struct err *e)
{
	api_reply_error(r, status_of(e->code), e->field, e->text, e->remedy);
}

void api_reply_text(struct api_request *r, const char *type, struct evbuffer *text)
{
	header(r, "Content-Type", type);
	evhttp_send_reply(r->http, 200, NULL, text);
}

void api_reply_empty(struct api_request *r)
{
	evhttp_send_reply(r->http, 204, NULL, NULL);
}
