/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to flued: HTTP over its Unix socket. */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "flue.h"

#define TIMEOUT_MS 10000L

struct answer {
	char *text;
	size_t len;
};

static size_t on_data(char *data, size_t size, size_t n, void *arg)
{
	struct answer *a = arg;
	char *text = realloc(a->text, a->len + size * n + 1);

	if (!text)
		return 0;
	a->text = text;
	memcpy(text + a->len, data, size * n);
	a->len += size * n;
	text[a->len] = '\0';
	return size * n;
}

static CURLcode perform(CURL *curl, const struct cli *cli, const char *method, const char *path, const char *body,
			struct answer *a)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	char url[512];
	CURLcode rc;

	snprintf(url, sizeof(url), "http://flued%s", path);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, cli->api);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says: this is a local socket */
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
	if (body) {
		curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	}
	rc = curl_easy_perform(curl);
	curl_slist_free_all(headers);
	return rc;
}

json_t *api_try(const struct cli *cli, const char *method, const char *path, json_t *body, long *status)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct answer a = {0};
	CURL *curl = curl_easy_init();
	json_t *value = NULL;

	*status = 0;
	if (curl && perform(curl, cli, method, path, text, &a) == CURLE_OK) {
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
		value = a.len ? json_loadb(a.text, a.len, JSON_DECODE_ANY, NULL) : json_null();
	}
	curl_easy_cleanup(curl);
	free(a.text);
	free(text);
	return value;
}

/* flued did not answer: say what is known about why. */
static void complain_unreachable(const struct cli *cli)
{
	struct stat st;

	if (stat(cli->api, &st) == 0)
		complain(NULL, "flued does not answer at %s: is it running, and may you use its socket?", cli->api);
	else if (errno == EACCES)
		complain(NULL, "%s: %s: use sudo, or join the group it belongs to", cli->api, strerror(errno));
	else
		complain(NULL, "there is no flued at %s: start it (flued), or name its socket with --api", cli->api);
}

static void complain_refused(const char *subject, long status, const json_t *answer)
{
	const json_t *error = json_object_get(answer, "error");
	const char *remedy = text_of(error, "remedy"), *field = text_of(error, "field");

	if (strcmp(field, "name") == 0)
		field = ""; /* it is the subject */
	if (error)
		complain(subject, "%s%s%s%s%s", field, *field ? ": " : "", text_of(error, "message"),
			 *remedy ? ": " : "", remedy);
	else
		complain(subject, "flued answered with HTTP status %ld", status);
}

json_t *api_call(const struct cli *cli, const char *method, const char *path, json_t *body, const char *subject)
{
	long status;
	json_t *answer = api_try(cli, method, path, body, &status);

	if (answer && status < 400)
		return answer;
	if (status == 0)
		complain_unreachable(cli);
	else
		complain_refused(subject, status, answer);
	json_decref(answer);
	return NULL;
}

const char *port_path(const char *name, char *path, size_t size)
{
	char *escaped = curl_easy_escape(NULL, name, 0);

	snprintf(path, size, "/v1/ports/%s", escaped ? escaped : "");
	curl_free(escaped);
	return path;
}
