/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/yaml_msg.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *after(const char *line, const char *start)
{
	size_t n = strlen(start);

	return strncmp(line, start, n) ? NULL : line + n;
}

/* Put @part before the path so far, with a dot between if a key follows. */
static void path_prepend(struct yaml_msg *m, const char *part)
{
	char rest[sizeof(m->path)];

	snprintf(rest, sizeof(rest), "%s", m->path);
	snprintf(m->path, sizeof(m->path), "%.24s%s%.36s", part, rest[0] && rest[0] != '[' ? "." : "", rest);
}

static void add_step(struct yaml_msg *m, const char *line)
{
	const char *key = after(line, "  in mapping field '"), *entry = after(line, "  in sequence entry '");
	char part[64];

	if (key) {
		snprintf(part, sizeof(part), "%.*s", (int)strcspn(key, "'"), key);
		path_prepend(m, part);
	} else if (entry) {
		snprintf(part, sizeof(part), "[%lu]", strtoul(entry, NULL, 10) - 1); /* it counts from one */
		path_prepend(m, part);
	}
}

void yaml_msg_log(cyaml_log_t level, void *msg, const char *fmt, va_list ap)
{
	struct yaml_msg *m = msg;
	char line[256];
	const char *what;

	(void)level;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = 0;
	what = after(line, "Load: ");
	if (!what)
		add_step(m, line);
	else if (!strcmp(what, "Backtrace:"))
		m->in_path = true;
	else if (!m->in_path && !m->what[0])
		snprintf(m->what, sizeof(m->what), "%.120s", what);
}

static const cyaml_schema_field_t *find_key(const cyaml_schema_field_t *f, const char *key, size_t len)
{
	while (f && f->key && (strlen(f->key) != len || strncmp(f->key, key, len)))
		f++;
	return f && f->key ? f : NULL;
}

/* The keys that may stand at @path. */
static const cyaml_schema_field_t *keys_at(const cyaml_schema_field_t *f, const char *path)
{
	while (f && *path) {
		size_t len = strcspn(path, ".[");
		const cyaml_schema_field_t *found = find_key(f, path, len);
		const cyaml_schema_value_t *v = found ? &found->value : NULL;

		if (v && v->type == CYAML_SEQUENCE)
			v = v->sequence.entry;
		f = v && v->type == CYAML_MAPPING ? v->mapping.fields : NULL;
		path += strcspn(path, ".");
		path += *path == '.';
	}
	return f;
}

static void list_keys(const cyaml_schema_field_t *f, char *text, size_t size)
{
	size_t at = (size_t)snprintf(text, size, "the keys here are");

	for (const char *comma = " "; f && f->key && at < size; f++, comma = ", ")
		at += (size_t)snprintf(text + at, size - at, "%s%s", comma, f->key);
}

static int unknown_key(const struct yaml_msg *m, const char *key, struct err *e)
{
	char field[sizeof(e->field)], remedy[sizeof(e->remedy)];

	snprintf(field, sizeof(field), "%.40s%s%.20s", m->path, m->path[0] ? "." : "", key);
	list_keys(keys_at(m->top, m->path), remedy, sizeof(remedy));
	return err_set(e, -EINVAL, field, remedy, "unknown key");
}

/* @max: "16 max) in sequence." The path leads to the last good entry; the list is meant. */
static int too_many(const struct yaml_msg *m, const char *max, struct err *e)
{
	char field[sizeof(m->path)];

	snprintf(field, sizeof(field), "%s", m->path);
	if (strrchr(field, '['))
		*strrchr(field, '[') = 0;
	return err_set(e, -EINVAL, field, "take some out", "has more than %.*s entries", (int)strspn(max, "0123456789"),
		       max);
}

int yaml_msg_err(const struct yaml_msg *m, cyaml_err_t failed, struct err *e)
{
	static const struct {
		const char *start, *text, *remedy;
	} words[] = {
		{"Expecting SEQUENCE", "must be a list", "write entries that begin with a dash, or []"},
		{"Expecting MAPPING", "must have keys and values", "write lines like `key: value`"},
		{"Expecting", "must be a single value", "write it on one line, without brackets and dashes"},
		{"Mapping field already seen", "is there twice", "keep one of them"},
		{"YAML alias", "an alias is not allowed", "write the value out"},
	};
	const char *what = m->what[0] ? m->what : cyaml_strerror(failed);
	const char *key = after(what, "Unexpected key: "), *max = after(what, "Excessive entries (");

	if (failed == CYAML_ERR_OOM)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	if (key)
		return unknown_key(m, key, e);
	if (max)
		return too_many(m, max, e);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (after(what, words[i].start))
			return err_set(e, -EINVAL, m->path, words[i].remedy, "%s", words[i].text);
	return err_set(e, -EINVAL, m->path, "see flue.yaml(5)", "%s", what);
}
