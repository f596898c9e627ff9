/* SPDX-License-Identifier: Apache-2.0 */
/* The socket, in both roles.
 *
 * Listening:  one front end at a time. A second one is turned away, unless the first has gone and we have not heard
 *             of it yet: a restarted front end must not be refused because its predecessor's end is still unread.
 * Connecting: again every VHOST_RETRY_MS, for ever; connect() on a Unix socket never waits.
 * After a front end broke the rules the next one waits for VHOST_RETRY_MS, so that it cannot keep us busy.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vhost/vhost_priv.h"

#define BACKLOG 4

static int unix_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

static struct sockaddr_un address(const struct vhost *v)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	memcpy(a.sun_path, v->conf.path, sizeof(a.sun_path));
	return a;
}

/* 0 or a negative errno; *fd is connected. */
static int try_connect(const struct vhost *v, int *fd)
{
	struct sockaddr_un a = address(v);
	int rc = unix_socket();

	if (rc < 0)
		return rc;
	*fd = rc;
	if (connect(*fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
		return 0;
	rc = -errno;
	close(*fd);
	return rc;
}

static void pause_a_while(struct vhost *v, long ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	evtimer_add(v->pause_event, &tv);
}

/* A front end is on @fd. */
static void attach(struct vhost *v, int fd)
{
	struct err e = {0};

	v->sock_fd = fd;
	v->sock_event = event_new(v->base, fd, EV_READ | EV_PERSIST, vhost_io_readable, v);
	if (v->sock_event && event_add(v->sock_event, NULL) == 0 && vhost_begin(v, &e) == 0)
		return;
	log_limited(&v->log_limit, LOG_WARN, "%s: no memory for a connection", v->conf.path);
	vhost_sock_drop(v, true);
}

/* ---- listening ---- */

/* Has the front end closed its end, though we have not read that far? */
static bool peer_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void on_accept(evutil_socket_t listen_fd, short what, void *vhost)
{
	struct vhost *v = vhost;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (fd < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
			return;
		/* Out of descriptors or memory: the connection stays pending, and so would this event. */
		log_limited(&v->log_limit, LOG_WARN, "%s: accept: %s", v->conf.path, strerror(errno));
		event_del(v->accept_event);
		pause_a_while(v, VHOST_RETRY_MS);
		return;
	}
	if (v->sock_fd >= 0 && peer_gone(v->sock_fd))
		vhost_end(v, NULL);
	if (v->sock_fd >= 0) {
		log_limited(&v->log_limit, LOG_WARN, "%s: a second front end was turned away, one is connected",
			    v->conf.path);
		close(fd);
		return;
	}
	attach(v, fd);
}

/* Is there a socket file, and does somebody answer? One that nobody serves is removed. */
static int replace_stale(const struct vhost *v, struct err *e)
{
	struct stat st;
	int fd, rc;

	if (lstat(v->conf.path, &st) < 0)
		return errno == ENOENT ? 0
				       : err_set(e, -errno, "socket", NULL, "%s: %s", v->conf.path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "socket", "choose another path, or remove it", "%s exists and is no socket",
			       v->conf.path);
	rc = try_connect(v, &fd);
	if (rc == 0)
		close(fd);
	if (rc != -ECONNREFUSED && rc != -ENOENT)
		return err_set(e, -EADDRINUSE, "socket", "choose another path, or stop the other program",
			       "%s is in use by another program", v->conf.path);
	if (unlink(v->conf.path) < 0 && errno != ENOENT)
		return err_set(e, -errno, "socket", NULL, "%s: a stale socket cannot be removed: %s", v->conf.path,
			       strerror(errno));
	return 0;
}

/* Two programs that start at once must not both find the same socket stale: the directory's lock decides.
 * Returns the directory's descriptor, -1 if it cannot be read (then there is no lock), or -EBUSY. */
static int lock_directory(const struct vhost *v, struct err *e)
{
	char path[sizeof(v->conf.path)];
	int fd;

	memcpy(path, v->conf.path, sizeof(path));
	fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	close(fd);
	return err_set(e, -EBUSY, "socket", "try again", "another program is making a socket beside %s", v->conf.path);
}

static int bind_and_listen(struct vhost *v, struct err *e)
{
	struct sockaddr_un a = address(v);
	struct stat st;
	int rc;

	if (bind(v->listen_fd, (const struct sockaddr *)&a, sizeof(a)) < 0 || lstat(v->conf.path, &st) < 0)
		return err_set(e, -errno, "socket", NULL, "%s: %s", v->conf.path, strerror(errno));
	v->file_dev = st.st_dev;
	v->file_ino = st.st_ino;
	rc = access_set(v->conf.path, v->conf.group[0] ? 0660 : 0600, v->conf.group, "group", e);
	if (rc < 0)
		return rc;
	if (listen(v->listen_fd, BACKLOG) < 0)
		return err_set(e, -errno, "socket", NULL, "%s: listen: %s", v->conf.path, strerror(errno));
	v->accept_event = event_new(v->base, v->listen_fd, EV_READ | EV_PERSIST, on_accept, v);
	if (!v->accept_event || event_add(v->accept_event, NULL) < 0)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	return 0;
}

static int open_listening(struct vhost *v, struct err *e)
{
	int rc = unix_socket(), lock;

	if (rc < 0)
		return err_set(e, rc, "socket", NULL, "no socket: %s", strerror(-rc));
	v->listen_fd = rc;
	lock = lock_directory(v, e);
	if (lock < -1)
		return lock;
	rc = replace_stale(v, e);
	if (rc == 0)
		rc = bind_and_listen(v, e);
	if (lock >= 0)
		close(lock);
	return rc;
}

/* ---- connecting ---- */

static void attempt(struct vhost *v)
{
	int fd, rc = try_connect(v, &fd);

	/* That nobody is there is the usual case; anything else (permissions) is worth a line, once. */
	if (rc < 0 && rc != v->connect_errno && rc != -ENOENT && rc != -ECONNREFUSED && rc != -EAGAIN)
		log_limited(&v->log_limit, LOG_WARN, "%s: connect: %s", v->conf.path, strerror(-rc));
	v->connect_errno = rc;
	if (rc == 0)
		attach(v, fd);
	else
		pause_a_while(v, VHOST_RETRY_MS);
}

/* ---- both ---- */

static void on_pause_over(evutil_socket_t fd, short what, void *vhost)
{
	struct vhost *v = vhost;

	(void)fd;
	(void)what;
	if (v->conf.role == VHOST_LISTEN)
		event_add(v->accept_event, NULL);
	else if (v->sock_fd < 0)
		attempt(v);
}

void vhost_sock_drop(struct vhost *v, bool pause)
{
	if (v->sock_event)
		event_free(v->sock_event);
	v->sock_event = NULL;
	close(v->sock_fd);
	v->sock_fd = -1;
	if (v->conf.role == VHOST_LISTEN && pause)
		event_del(v->accept_event);
	if (v->conf.role == VHOST_CONNECT || pause)
		pause_a_while(v, VHOST_RETRY_MS);
}

int vhost_sock_open(struct vhost *v, struct err *e)
{
	size_t len = strnlen(v->conf.path, sizeof(v->conf.path));

	if (len == 0 || len == sizeof(v->conf.path))
		return err_set(e, -EINVAL, "socket", NULL, "the socket's path must have 1 to %zu characters",
			       sizeof(v->conf.path) - 1);
	v->pause_event = evtimer_new(v->base, on_pause_over, v);
	if (!v->pause_event)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	if (v->conf.role == VHOST_LISTEN)
		return open_listening(v, e);
	pause_a_while(v, 0); /* the first attempt comes from the loop: the owner has not got its handle yet */
	return 0;
}

static void remove_file(const struct vhost *v)
{
	struct stat st;

	if (lstat(v->conf.path, &st) == 0 && st.st_dev == v->file_dev && st.st_ino == v->file_ino)
		unlink(v->conf.path);
}

void vhost_sock_close(struct vhost *v)
{
	if (v->accept_event)
		event_free(v->accept_event);
	if (v->pause_event)
		event_free(v->pause_event);
	v->accept_event = v->pause_event = NULL;
	if (v->file_ino)
		remove_file(v);
	if (v->listen_fd >= 0)
		close(v->listen_fd);
	v->listen_fd = -1;
}
