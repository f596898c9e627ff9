/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "flue.h"

/* Findings of `flue doctor`. */

enum verdict { FINE, WARN, FAIL };

struct doctor {
	json_t *findings; /* [{"verdict", "what", "remedy"}] */
	bool failed;
};

/* @remedy: what to do; NULL for what is fine. */
void finding(struct doctor *d, enum verdict v, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* doctor_host.c: what needs no flued */
void check_devices(struct doctor *d);
void check_memory(struct doctor *d);
void check_limits(struct doctor *d, long pid);
/* doctor_ports.c: what flued says of its ports, held against the host */
void check_guest_port(struct doctor *d, const json_t *port);
void check_kernel_port(struct doctor *d, const json_t *port);
void check_mtus(struct doctor *d, const json_t *ports);
