/* SPDX-License-Identifier: Apache-2.0 */
/* KEY=VALUE words of the command line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flue.h"

/* What a key's value looks like in JSON; keys that are not here are texts. flued checks them all. */
static const char *const numbers[] = {"vlan", "native", "mtu", "queues", "workers", "spin_us", "gather_us", "ageing_s"};

static const char *const flags[] = {"spoof_guard", "coalesce", "too_big_reply"};
#define COUNT(list) (sizeof(list) / sizeof(list[0]))

static bool is_in(const char *const *list, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], key) == 0)
			return true;
	return false;
}

static json_t *value_of(const char *key, const char *text)
{
	bool flag = is_in(flags, COUNT(flags), key);
	char *end;
	long long n;

	if (strcmp(text, "none") == 0)
		return json_null();
	if (flag && (strcmp(text, "on") == 0 || strcmp(text, "true") == 0))
		return json_true();
	if (flag && (strcmp(text, "off") == 0 || strcmp(text, "false") == 0))
		return json_false();
	errno = 0;
	n = strtoll(text, &end, 10);
	if (is_in(numbers, COUNT(numbers), key) && *text && !*end && errno == 0)
		return json_integer(n);
	return json_string(text);
}

json_t *keys_of(const char *subject, int n, char **word)
{
	json_t *keys = json_object();

	for (int i = 0; i < n; i++) {
		char *equals = strchr(word[i], '=');

		if (!equals || equals == word[i]) {
			complain(subject, "'%s' is not KEY=VALUE", word[i]);
			json_decref(keys);
			return NULL;
		}
		*equals = '\0';
		if (json_object_set_new(keys, word[i], value_of(word[i], equals + 1)) < 0) {
			complain(subject, "the value of %s is no UTF-8 text", word[i]);
			json_decref(keys);
			return NULL;
		}
	}
	return keys;
}
