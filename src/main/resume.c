/* SPDX-License-Identifier: Apache-2.0 */
#include "main/resume.h"

#include <errno.h>
#include <event2/event.h>

#include "base/log.h"

struct held {
	struct port *port;
	unsigned q;
	int poll_fd;
};

static struct {
	resume_add *add;
	struct event *deadline;
	bool over; /* flued has been running for a while, or nobody is missing any more */
	unsigned n_expected, n_held;
	struct port *expected[PORTS_MAX];
	struct held held[PORTS_MAX * 2]; /* what finds no place is not held */
} resume;

static void release(void)
{
	event_del(resume.deadline);
	resume.over = true;
	resume.n_expected = 0;
	for (unsigned i = 0; i < resume.n_held; i++) {
		const struct held *h = &resume.held[i];
		struct err e = {0};

		if (resume.add(h->port, h->q, h->poll_fd, &e) < 0)
			log_error("%s: queue %u is not served: %s", h->port->name, h->q, e.text);
	}
	resume.n_held = 0;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	if (resume.n_expected)
		log_info("%u guests have not come back; the others go on", resume.n_expected);
	release();
}

int resume_init(struct event_base *events, resume_add *add, struct err *e)
{
	static const struct timeval wait = {.tv_sec = RESUME_WAIT_MS / 1000, .tv_usec = RESUME_WAIT_MS % 1000 * 1000L};

	resume.add = add;
	resume.over = false;
	resume.deadline = evtimer_new(events, on_deadline, NULL);
	if (!resume.deadline || evtimer_add(resume.deadline, &wait) < 0)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	return 0;
}

void resume_fini(void)
{
	if (resume.deadline)
		event_free(resume.deadline);
	resume.deadline = NULL;
	resume.n_expected = resume.n_held = 0;
}

void resume_expect(struct port *p)
{
	if (resume.over)
		return;
	resume.expected[resume.n_expected++] = p;
}

void resume_settled(struct port *p)
{
	for (unsigned i = 0; i < resume.n_expected; i++)
		if (resume.expected[i] == p) {
			resume.expected[i] = resume.expected[--resume.n_expected];
			if (resume.n_expected == 0)
				release();
			return;
		}
}

bool resume_hold(struct port *p, unsigned q, int poll_fd)
{
	if (resume.n_expected == 0 || resume.n_held == ARRAY_SIZE(resume.held))
		return false;
	resume.held[resume.n_held++] = (struct held){.port = p, .q = q, .poll_fd = poll_fd};
	return true;
}

bool resume_drop(struct port *p, unsigned q)
{
	for (unsigned i = 0; i < resume.n_held; i++)
		if (resume.held[i].port == p && resume.held[i].q == q) {
			resume.held[i] = resume.held[--resume.n_held];
			return true;
		}
	return false;
}
