/* SPDX-License-Identifier: Apache-2.0 */
/* What operators and API clients write: a configuration file, a port as JSON, a change of a port.
 *
 * Input: a byte (WHAT_*), then the text.
 * Checked besides memory errors: what is refused has words and a line within the file; what is accepted is written as
 * JSON, read again, and is the same port.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/conf_json.h"

#define RUN_DIR "/run/flue"

enum { WHAT_FILE, WHAT_PORT, WHAT_CHANGE, WHAT_N };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void check_refusal(int rc, const struct err *e)
{
	check(rc < 0 && e->code == rc, "a refusal has its code");
	check(e->text[0], "a refusal has words");
	check(memchr(e->text, 0, sizeof(e->text)) && memchr(e->field, 0, sizeof(e->field)) &&
		      memchr(e->remedy, 0, sizeof(e->remedy)),
	      "texts end");
}

static void check_accepted(const struct port_conf *c)
{
	json_t *j = conf_json_port(c);
	struct port_keys keys;
	struct port_conf again;
	struct err e = {0};

	check(j != NULL, "what is accepted can be shown");
	if (json_is_null(json_object_get(j, "mac")))
		json_object_del(j, "mac");
	check(conf_json_keys(j, &keys, &e) == 0 && conf_port_make(&again, &keys, RUN_DIR, CONF_MTU_DEFAULT, &e) == 0,
	      "what was shown is accepted");
	check(!memcmp(c, &again, sizeof(again)), "what was shown is the same port");
	json_decref(j);
}

static void fuzz_file(const char *text, size_t len)
{
	unsigned line = 0, lines = 1;
	struct err e = {0};
	struct conf c;
	int rc;

	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n' || text[i] == '\r' || (text[i] & 0x80); /* the last: YAML's other line ends */
	conf_init(&c);
	rc = conf_yaml_parse(&c, text, len, RUN_DIR, &line, &e);
	if (rc < 0) {
		check_refusal(rc, &e);
		check(line <= lines + 1, "the line is one of the file's");
	}
	for (unsigned i = 0; rc == 0 && i < c.n_ports; i++)
		check_accepted(&c.port[i]);
	conf_fini(&c);
}

static void fuzz_json(const char *text, size_t len, bool change)
{
	static const struct value name = {.type = VALUE_TEXT, .text = "vm1"};
	json_t *j = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	struct port_keys keys = {.v[PORT_KEY_name] = name};
	struct err e = {0};
	struct port_conf c;
	int rc;

	if (!j)
		return;
	check(conf_port_make(&c, &keys, RUN_DIR, CONF_MTU_DEFAULT, &e) == 0, "a name is enough");
	rc = conf_json_keys(j, &keys, &e);
	if (rc == 0)
		rc = change ? conf_port_change(&c, &keys, &e)
			    : conf_port_make(&c, &keys, RUN_DIR, CONF_MTU_DEFAULT, &e);
	if (rc < 0)
		check_refusal(rc, &e);
	else
		check_accepted(&c);
	json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len == 0 || len > 1u << 16)
		return 0;
	if (data[0] % WHAT_N == WHAT_FILE)
		fuzz_file((const char *)data + 1, len - 1);
	else
		fuzz_json((const char *)data + 1, len - 1, data[0] % WHAT_N == WHAT_CHANGE);
	return 0;
}
