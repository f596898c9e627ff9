/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <sys/types.h>

#include "base/base.h"
#include "base/err.h"
#include "ctl/model.h"

/* HTTP and JSON on a Unix socket: what `flue`, scripts and Prometheus speak. Who may open the socket may change the
 * switch; nothing a client sends may end, hang or fill the program. The routes are the table in api_route.c.
 *
 * Thread: control.
 */
#define API_BODY_MAX    (64 * 1024L) /* bytes; a port with the longest list of VLANs takes a third */
#define API_HEADERS_MAX (16 * 1024L)
#define API_IDLE_S      10   /* a connection that says nothing for so long is closed */
#define API_RETRY_MS    100L /* out of descriptors: no new connection for so long */

struct api;

struct api_conf {
	const char *path; /* of the socket */
	mode_t mode;
	const char *group; /* owner group of the socket, or "" */
	const char *run_dir;
	const char *switch_name;
};

/* Once in a process. Serve @m on the socket from @events' loop until api_free(). A stale socket file is replaced; -EADDRINUSE: somebody
 * answers there. NULL: *e says why. */
struct event_base;
struct api *api_new(const struct api_conf *conf, struct model *m, struct event_base *events, struct err *e);
/* Close every connection and remove the socket. NULL is allowed. */
void api_free(struct api *a);

/* The listening socket for api_new() (api_sock.c): bound, with its mode and group. Returns it, or a negative errno. */
int api_sock_open(const char *path, mode_t mode, const char *group, struct err *e) must_check;
