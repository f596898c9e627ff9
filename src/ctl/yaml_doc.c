/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/yaml_doc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int syntax_error(const yaml_parser_t *p, unsigned *line, struct err *e)
{
	if (p->error == YAML_MEMORY_ERROR)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	*line = (unsigned)(p->error == YAML_READER_ERROR ? 0 : p->problem_mark.line + 1);
	return err_set(e, -EINVAL, NULL, "see flue.yaml(5) for an example", "this is not YAML: %s", p->problem);
}

/* libcyaml would read the first document and ignore the others. */
static int check_last(yaml_parser_t *p, unsigned *line, struct err *e)
{
	yaml_document_t next;
	int rc = 0;

	if (!yaml_parser_load(p, &next))
		return syntax_error(p, line, e);
	if (yaml_document_get_root_node(&next)) {
		*line = (unsigned)(next.start_mark.line + 1);
		rc = err_set(e, -EINVAL, NULL, "remove the line `---`", "the file holds more than one document");
	}
	yaml_document_delete(&next);
	return rc;
}

int yaml_doc_open(struct yaml_doc *d, const char *text, size_t len, unsigned *line, struct err *e)
{
	yaml_parser_t p;
	int rc = 0;

	if (!yaml_parser_initialize(&p))
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	yaml_parser_set_input_string(&p, (const unsigned char *)text, len);
	if (!yaml_parser_load(&p, &d->doc)) {
		rc = syntax_error(&p, line, e);
	} else if (yaml_document_get_root_node(&d->doc) && (rc = check_last(&p, line, e)) < 0) {
		yaml_document_delete(&d->doc);
	}
	yaml_parser_delete(&p);
	return rc;
}

void yaml_doc_close(struct yaml_doc *d)
{
	yaml_document_delete(&d->doc);
}

static bool is_key(const yaml_node_t *n, const char *key, size_t len)
{
	return n && n->type == YAML_SCALAR_NODE && n->data.scalar.length == len &&
	       !memcmp(n->data.scalar.value, key, len);
}

/* The value of @key in @n; *line becomes the key's (of several, the last one's: that is the one too many). */
static yaml_node_t *in_mapping(struct yaml_doc *d, const yaml_node_t *n, const char *key, size_t len, unsigned *line)
{
	yaml_node_t *found = NULL;

	if (n->type != YAML_MAPPING_NODE)
		return NULL;
	for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const yaml_node_t *k = yaml_document_get_node(&d->doc, p->key);

		if (is_key(k, key, len)) {
			*line = (unsigned)k->start_mark.line + 1;
			found = yaml_document_get_node(&d->doc, p->value);
		}
	}
	return found;
}

static yaml_node_t *in_sequence(struct yaml_doc *d, const yaml_node_t *n, unsigned long i, unsigned *line)
{
	yaml_node_t *found;

	if (n->type != YAML_SEQUENCE_NODE ||
	    i >= (unsigned long)(n->data.sequence.items.top - n->data.sequence.items.start))
		return NULL;
	found = yaml_document_get_node(&d->doc, n->data.sequence.items.start[i]);
	if (found)
		*line = (unsigned)found->start_mark.line + 1;
	return found;
}

unsigned yaml_doc_line(struct yaml_doc *d, const char *path)
{
	const yaml_node_t *n = yaml_document_get_root_node(&d->doc);
	unsigned line = n ? (unsigned)n->start_mark.line + 1 : 1;

	while (n && *path) {
		char *end;

		if (*path == '[') {
			n = in_sequence(d, n, strtoul(path + 1, &end, 10), &line);
			path = *end == ']' ? end + 1 : end;
		} else {
			size_t len = strcspn(path, ".[");

			n = in_mapping(d, n, path, len, &line);
			path += len;
		}
		path += *path == '.';
	}
	return line;
}
