/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file. libcyaml checks its shape against the schema below (which keys there are, mappings, lists);
 * all values come as text and are read here, so that what is wrong with one is said in our words.
 */
#include <cyaml/cyaml.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/conf.h"
#include "ctl/yaml_doc.h"
#include "ctl/yaml_msg.h"

struct yaml_switch {
	char *name, *mtu, *ageing_s, *fdb_entries;
};

struct yaml_workers {
	char **cpus;
	unsigned cpus_count;
	char *n, *spin_us, *gather_us;
};

struct yaml_api {
	char *socket, *mode, *group;
};

struct yaml_port {
#define KEY(key, value, kinds, change) char *key;
#include "ctl/port_keys.def"
#undef KEY
};

struct yaml_conf {
	struct yaml_switch *switch_;
	struct yaml_workers *workers;
	struct yaml_api *api;
	struct yaml_port *ports;
	unsigned ports_count;
};

#define PRESENT_OR_NULL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define TEXT(type, key) CYAML_FIELD_STRING_PTR(#key, PRESENT_OR_NULL, type, key, 0, CYAML_UNLIMITED)

static const cyaml_schema_field_t switch_fields[] = {
	TEXT(struct yaml_switch, name),
	TEXT(struct yaml_switch, mtu),
	TEXT(struct yaml_switch, ageing_s),
	TEXT(struct yaml_switch, fdb_entries),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t text_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, CYAML_UNLIMITED)};
static const cyaml_schema_field_t workers_fields[] = {
	CYAML_FIELD_SEQUENCE("cpus", PRESENT_OR_NULL, struct yaml_workers, cpus, &text_entry, 0, WORKERS_MAX),
	TEXT(struct yaml_workers, n),
	TEXT(struct yaml_workers, spin_us),
	TEXT(struct yaml_workers, gather_us),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t api_fields[] = {
	TEXT(struct yaml_api, socket),
	TEXT(struct yaml_api, mode),
	TEXT(struct yaml_api, group),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t port_fields[] = {
#define KEY(key, value, kinds, change) TEXT(struct yaml_port, key),
#include "ctl/port_keys.def"
#undef KEY
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t port_entry = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_port, port_fields)};
static const cyaml_schema_field_t conf_fields[] = {
	CYAML_FIELD_MAPPING_PTR("switch", PRESENT_OR_NULL, struct yaml_conf, switch_, switch_fields),
	CYAML_FIELD_MAPPING_PTR("workers", PRESENT_OR_NULL, struct yaml_conf, workers, workers_fields),
	CYAML_FIELD_MAPPING_PTR("api", PRESENT_OR_NULL, struct yaml_conf, api, api_fields),
	CYAML_FIELD_SEQUENCE("ports", PRESENT_OR_NULL, struct yaml_conf, ports, &port_entry, 0, PORTS_MAX),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t conf_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_conf, conf_fields)};

/* ---- values ---- */

static int number_read(const char *text, const char *field, int64_t *number, struct err *e)
{
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 18 || text[digits])
		return err_set(e, -EINVAL, field, "write digits only", "'%.40s' is not a number", text);
	*number = strtoll(text, NULL, 10);
	return 0;
}

/* A number of the range, or *out as it was if there is no text. */
static int unsigned_read(const char *text, const char *field, unsigned min, unsigned max, unsigned *out, struct err *e)
{
	char remedy[64];
	int64_t n = 0;

	if (!text)
		return 0;
	if (number_read(text, field, &n, e) < 0)
		return -EINVAL;
	snprintf(remedy, sizeof(remedy), "write a number from %u to %u", min, max);
	if (n < min || n > max)
		return err_set(e, -EINVAL, field, remedy, "%.40s is out of range", text);
	*out = (unsigned)n;
	return 0;
}

static int value_read(enum port_key k, const char *text, struct value *v, struct err *e)
{
	const char *name = port_key_info[k].name;

	v->type = text ? port_key_info[k].type : VALUE_UNSET;
	if (v->type == VALUE_TEXT)
		v->text = text;
	if (v->type == VALUE_NUMBER)
		return number_read(text, name, &v->number, e);
	if (v->type == VALUE_FLAG) {
		v->flag = !strcmp(text, "true");
		if (!v->flag && strcmp(text, "false"))
			return err_set(e, -EINVAL, name, "write true or false", "'%.40s' is neither yes nor no", text);
	}
	return 0;
}

/* ---- sections ---- */

static int read_switch(struct conf *c, const struct yaml_switch *y, struct err *e)
{
	if (!y)
		return 0;
	if (y->name) {
		if (!*y->name || strlen(y->name) >= sizeof(c->switch_name))
			return err_set(e, -EINVAL, "switch.name", "write 1 to 31 bytes", "'%.40s' is not a name",
				       y->name);
		snprintf(c->switch_name, sizeof(c->switch_name), "%s", y->name);
	}
	if (unsigned_read(y->mtu, "switch.mtu", FRAME_MTU_MIN, CONF_WIRE_MTU_MAX, &c->mtu, e) < 0)
		return -EINVAL;
	if (unsigned_read(y->ageing_s, "switch.ageing_s", 0, CONF_AGEING_S_MAX, &c->fwd.ageing_s, e) < 0)
		return -EINVAL;
	return unsigned_read(y->fdb_entries, "switch.fdb_entries", CONF_FDB_ENTRIES_MIN, FDB_ENTRIES_MAX,
			     &c->fwd.fdb_entries, e);
}

static int read_workers(struct conf *c, const struct yaml_workers *y, struct err *e)
{
	if (!y)
		return 0;
	for (unsigned i = 0; i < y->cpus_count; i++) {
		unsigned cpu = 0;
		char field[32];

		snprintf(field, sizeof(field), "workers.cpus[%u]", i);
		if (unsigned_read(y->cpus[i], field, 0, CPU_SETSIZE - 1, &cpu, e) < 0)
			return -EINVAL;
		c->workers.cpu[i] = (int)cpu;
	}
	c->n_cpus = y->cpus_count;
	if (unsigned_read(y->n, "workers.n", 1, WORKERS_MAX, &c->workers.n, e) < 0)
		return -EINVAL;
	if (unsigned_read(y->spin_us, "workers.spin_us", 0, WORKER_SPIN_US_MAX, &c->workers.spin_us, e) < 0)
		return -EINVAL;
	return unsigned_read(y->gather_us, "workers.gather_us", 0, WORKER_GATHER_US_MAX, &c->workers.gather_us, e);
}

static int read_api(struct conf *c, const struct yaml_api *y, struct err *e)
{
	if (!y)
		return 0;
	if (y->socket) {
		if (!*y->socket || strlen(y->socket) >= sizeof(c->api.socket))
			return err_set(e, -EINVAL, "api.socket", "write a path of 1 to 107 bytes",
				       "'%.60s' is not a path for a Unix socket", y->socket);
		snprintf(c->api.socket, sizeof(c->api.socket), "%s", y->socket);
	}
	if (y->mode) {
		if (strspn(y->mode, "01234567") != strlen(y->mode) || strlen(y->mode) < 3 || strlen(y->mode) > 4 ||
		    strtoul(y->mode, NULL, 8) > 0777)
			return err_set(e, -EINVAL, "api.mode", "write it as chmod takes it, like \"0660\"",
				       "'%.40s' is not a file mode", y->mode);
		c->api.mode = (mode_t)strtoul(y->mode, NULL, 8);
	}
	if (y->group) {
		if (!*y->group || strlen(y->group) >= sizeof(c->api.group))
			return err_set(e, -EINVAL, "api.group", "write the name of a group, as in /etc/group",
				       "'%.40s' is not the name of a group", y->group);
		snprintf(c->api.group, sizeof(c->api.group), "%s", y->group);
	}
	return 0;
}

/* ---- ports ---- */

static int in_port(struct err *e, unsigned i, int rc)
{
	char key[sizeof(e->field)];

	if (rc < 0) {
		snprintf(key, sizeof(key), "%s", e->field);
		snprintf(e->field, sizeof(e->field), "ports[%u].%.40s", i, key);
	}
	return rc;
}

static int read_port(struct port_conf *c, const struct yaml_port *y, const char *run_dir, unsigned mtu, struct err *e)
{
	const char *const text[PORT_KEY_N] = {
#define KEY(key, value, kinds, change) [PORT_KEY_##key] = y->key,
#include "ctl/port_keys.def"
#undef KEY
	};
	struct port_keys keys = {0};

	for (unsigned k = 0; k < PORT_KEY_N; k++) {
		int rc = value_read((enum port_key)k, text[k], &keys.v[k], e);

		if (rc < 0)
			return rc;
	}
	return conf_port_make(c, &keys, run_dir, mtu, e);
}

static int read_ports(struct conf *c, const struct yaml_conf *y, const char *run_dir, struct yaml_doc *d, struct err *e)
{
	c->port = calloc(y->ports_count ? y->ports_count : 1, sizeof(*c->port));
	if (!c->port)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	for (unsigned i = 0; i < y->ports_count; i++) {
		int rc = in_port(e, i, read_port(&c->port[i], &y->ports[i], run_dir, c->mtu, e));

		if (rc < 0)
			return rc;
		c->n_ports = i + 1;
		for (unsigned j = 0; j < i; j++) {
			char other[32];
			size_t end;

			rc = in_port(e, i, conf_port_clash(&c->port[i], &c->port[j], e));
			if (rc == 0)
				continue;
			snprintf(other, sizeof(other), "ports[%u]", j);
			end = strlen(e->text);
			snprintf(e->text + end, sizeof(e->text) - end, " (%s, line %u)", other,
				 yaml_doc_line(d, other));
			return rc;
		}
	}
	return 0;
}

static int read_all(struct conf *c, const struct yaml_conf *y, const char *run_dir, struct yaml_doc *d, struct err *e)
{
	int rc = read_switch(c, y->switch_, e);

	if (rc == 0)
		rc = read_workers(c, y->workers, e);
	if (rc == 0)
		rc = read_api(c, y->api, e);
	if (rc == 0)
		rc = read_ports(c, y, run_dir, d, e);
	return rc;
}

/* ---- the file ---- */

static int parse(struct conf *c, const char *text, size_t len, const char *run_dir, struct yaml_doc *d, struct err *e)
{
	struct yaml_msg msg = {.top = conf_fields};
	const cyaml_config_t config = {
		.log_fn = yaml_msg_log,
		.log_ctx = &msg,
		.log_level = CYAML_LOG_ERROR,
		.mem_fn = cyaml_mem,
		.flags = CYAML_CFG_NO_ALIAS,
	};
	struct yaml_conf *y = NULL;
	cyaml_err_t failed =
		cyaml_load_data((const uint8_t *)text, len, &config, &conf_schema, (cyaml_data_t **)&y, NULL);
	int rc;

	if (failed)
		return yaml_msg_err(&msg, failed, e);
	if (!y) /* an empty file */
		return 0;
	rc = read_all(c, y, run_dir, d, e);
	cyaml_free(&config, &conf_schema, y, 0);
	return rc;
}

int conf_yaml_parse(struct conf *c, const char *text, size_t len, const char *run_dir, unsigned *line, struct err *e)
{
	struct yaml_doc d;
	int rc;

	*line = 0;
	if (memchr(text, 0, len))
		return err_set(e, -EINVAL, NULL, NULL, "the file has a zero byte in it");
	rc = yaml_doc_open(&d, text, len, line, e);
	if (rc < 0)
		return rc;
	rc = parse(c, text, len, run_dir, &d, e);
	if (rc < 0)
		*line = yaml_doc_line(&d, e->field);
	yaml_doc_close(&d);
	return rc;
}

/* The file's bytes, to be freed; NULL: *e says why not. */
static char *file_read(const char *path, size_t *len, struct err *e)
{
	FILE *f = fopen(path, "re");
	char *text;

	if (!f) {
		err_set(e, -errno, NULL, "name a file that exists and may be read with --config",
			"cannot be opened: %s", strerror(errno));
		return NULL;
	}
	text = malloc(CONF_FILE_MAX + 1);
	*len = text ? fread(text, 1, CONF_FILE_MAX + 1, f) : 0;
	if (!text)
		err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	else if (ferror(f))
		err_set(e, -EIO, NULL, "name a regular file with --config", "cannot be read: %s", strerror(errno));
	else if (*len > CONF_FILE_MAX)
		err_set(e, -EFBIG, NULL, "name a configuration file with --config", "is larger than 1 MiB");
	fclose(f);
	if (e->code == 0)
		return text;
	free(text);
	return NULL;
}

int conf_yaml_load(struct conf *c, const char *path, const char *run_dir, unsigned *line, struct err *e)
{
	size_t len;
	char *text;
	int rc;

	*line = 0;
	*e = (struct err){0};
	text = file_read(path, &len, e);
	if (!text)
		return e->code;
	rc = conf_yaml_parse(c, text, len, run_dir, line, e);
	free(text);
	return rc;
}

unsigned conf_yaml_line(const char *path, const char *field)
{
	struct err e = {0};
	struct yaml_doc d;
	unsigned line = 0;
	size_t len;
	char *text = file_read(path, &len, &e);

	if (text && yaml_doc_open(&d, text, len, &line, &e) == 0) {
		line = yaml_doc_line(&d, field);
		yaml_doc_close(&d);
	}
	free(text);
	return line;
}
