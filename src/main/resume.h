/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "port/port.h"

/* The first moments of a flued that goes on where another one ended (design D14).
 *
 * Guests come back one by one. What the first one has waiting in its ring must not be sent before the one it is for is
 * there: so receive queues of guests are held, not polled, until all that had rings running are up again, or
 * RESUME_WAIT_MS have passed since the start. Frames wait in the guests' rings meanwhile. Guests whose ports are added
 * through the API are waited for only as far as they come within that time.
 *
 * Thread: control.
 */
#define RESUME_WAIT_MS 1500 /* QEMU's shortest `reconnect` is a second */

/* @add gives a queue to the workers, as port_host.queue_add does. */
typedef int resume_add(struct port *p, unsigned q, int poll_fd, struct err *e);
/* NULL: *e says why. */
struct event_base;
int resume_init(struct event_base *events, resume_add *add, struct err *e) must_check;
void resume_fini(void);

/* @p had rings running in flued's last life, and its front end still lives: wait for it. */
void resume_expect(struct port *p);
/* @p is up, or gone: nobody need wait for it any more. */
void resume_settled(struct port *p);

/* Keep a queue back, if somebody is being waited for. False: it is not held. */
bool resume_hold(struct port *p, unsigned q, int poll_fd);
/* It goes away. False: it was not held. */
bool resume_drop(struct port *p, unsigned q);
