/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/access.h"
#include "ctl/api.h"

#define BACKLOG 512 /* a connect() that does not wait fails when it is full */

/* Remove what a flued that is gone has left at @path. */
static int remove_stale(const struct sockaddr_un *address, struct err *e)
{
	struct stat st;
	int fd, rc;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0
				       : err_set(e, -errno, NULL, "choose another path with --api", "%s: %s",
						 address->sun_path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, NULL, "remove it, or choose another path with --api",
			       "%s exists and is not a socket", address->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, NULL, NULL, "cannot make a socket: %s", strerror(errno));
	rc = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN;
	close(fd);
	if (rc)
		return err_set(e, -EADDRINUSE, NULL, "stop it, or start this one with other --run-dir and --api",
			       "another flued serves %s", address->sun_path);
	unlink(address->sun_path);
	return 0;
}

int api_sock_open(const char *path, mode_t mode, const char *group, struct err *e)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(e, -ENAMETOOLONG, NULL, "choose a shorter one with --api",
			       "%.80s... is too long for a Unix socket", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	rc = remove_stale(&address, e);
	if (rc < 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, NULL, NULL, "cannot make a socket: %s", strerror(errno));
	/* Nobody can connect before listen(): so nobody can with the mode it has between. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		rc = err_set(e, -errno, NULL, "create the directory, or choose another path with --api",
			     "cannot bind %s: %s", path, strerror(errno));
	else if ((rc = access_set(path, mode, group, "api.group", e)) == 0 && listen(fd, BACKLOG) < 0)
		rc = err_set(e, -errno, NULL, NULL, "cannot listen at %s: %s", path, strerror(errno));
	if (rc == 0)
		return fd;
	if (e->code != -EADDRINUSE)
		unlink(path);
	close(fd);
	return rc;
}
