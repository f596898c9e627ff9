/* SPDX-License-Identifier: Apache-2.0 */
/* What commands print. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flue.h"

void complain(const char *subject, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "flue: ");
	if (subject)
		fprintf(stderr, "%s: ", subject);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
	putchar('\n');
	return EXIT_OK;
}

struct libscols_table *table_new(const struct column *columns)
{
	struct libscols_table *t = scols_new_table();

	if (!t) {
		complain(NULL, "out of memory");
		exit(EXIT_FAILED);
	}
	for (; columns->name; columns++)
		scols_table_new_column(t, columns->name, 0, columns->right ? SCOLS_FL_RIGHT : 0);
	return t;
}

void table_row(struct libscols_table *t, ...)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);
	va_list ap;

	va_start(ap, t);
	for (size_t i = 0; line && i < scols_table_get_ncols(t); i++) {
		const char *text = va_arg(ap, const char *);

		scols_line_set_data(line, i, text ? text : "");
	}
	va_end(ap);
}

void table_print(struct libscols_table *t)
{
	scols_print_table(t);
	scols_unref_table(t);
}

const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

double real_of(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* A few texts may be in use at once, in one row of a table. */
static char *scratch(void)
{
	static char text[16][32];
	static unsigned next;

	return text[next++ % 16];
}

const char *number_text(json_int_t n)
{
	char *text = scratch();

	snprintf(text, 32, "%" JSON_INTEGER_FORMAT, n);
	return text;
}

const char *real_text(double v, int digits)
{
	char *text = scratch();

	snprintf(text, 32, "%.*f", digits, v);
	return text;
}

const char *bytes_text(double bytes)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	char *text = scratch();
	unsigned u = 0;

	for (; bytes >= 1024 && u < sizeof(unit) / sizeof(unit[0]) - 1; u++)
		bytes /= 1024;
	snprintf(text, 32, u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
	return text;
}

json_int_t drops_of(const json_t *port)
{
	json_int_t sum = 0;
	const char *reason;
	json_t *n;

	json_object_foreach (json_object_get(port, "drops"), reason, n)
		sum += json_integer_value(n);
	return sum;
}

const char *vlan_text(const json_t *port)
{
	const char *trunk = text_of(port, "trunk");

	return *trunk ? trunk : number_text(number_of(port, "vlan"));
}
