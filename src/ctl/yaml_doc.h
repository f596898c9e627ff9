/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <yaml.h>

#include "base/base.h"
#include "base/err.h"

/* The place of things in a YAML file: libcyaml reads values but forgets where they stood. */
struct yaml_doc {
	yaml_document_t doc;
};

/* Read the text's one document; it may be empty. -EINVAL: *e and *line say what is wrong with its syntax. */
int yaml_doc_open(struct yaml_doc *d, const char *text, size_t len, unsigned *line, struct err *e) must_check;
void yaml_doc_close(struct yaml_doc *d);

/* The line of the value at @path, like "ports[2].mac", or of the last part of it that exists. From 1. */
unsigned yaml_doc_line(struct yaml_doc *d, const char *path);
