/* SPDX-License-Identifier: Apache-2.0 */
#include "base/access.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int access_set(const char *path, mode_t mode, const char *group, const char *field, struct err *e)
{
	struct group *g = NULL;

	if (group[0]) {
		g = getgrnam(group);
		if (!g)
			return err_set(e, -ENOENT, field, "create it with `groupadd`, or name another",
				       "there is no group '%s'", group);
	}
	if ((g && chown(path, (uid_t)-1, g->gr_gid) < 0) || chmod(path, mode) < 0)
		return err_set(e, -errno, field, "start flued as root, or as a member of the group",
			       "%s cannot be given its owner and mode: %s", path, strerror(errno));
	return 0;
}
