/* SPDX-License-Identifier: Apache-2.0 */
/* The state file as a whole: opening, judging, beginning anew. Records are read with pread(), not through the mapping:
 * in a sparse file even a look makes a page. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc.h"
#include "gmem/watch.h"
#include "state/state_priv.h"

uint32_t state_header_crc(const struct state_header *h)
{
	return crc32c(h, offsetof(struct state_header, crc));
}

uint32_t state_record_crc(const struct state_record *r)
{
	return crc32c(r, offsetof(struct state_record, crc));
}

/* ---- the header ---- */

/* Which boot of the machine this is; all zeros if that cannot be learned. */
static void read_boot(char boot[static 40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(boot, 0, 40);
	if (fd < 0)
		return;
	if (read(fd, boot, 36) != 36)
		memset(boot, 0, 40);
	close(fd);
}

static struct state_header our_header(void)
{
	struct state_header h = {.version = STATE_VERSION, .file_bytes = sizeof(struct state_file)};

	memcpy(h.magic, STATE_MAGIC, sizeof(h.magic));
	read_boot(h.boot);
	h.crc = state_header_crc(&h);
	return h;
}

/* False: the file is not one of ours, @why says so. */
static bool judge(off_t bytes, const struct state_header *h, char why[static 100])
{
	if (bytes < (off_t)sizeof(*h))
		snprintf(why, 100, "it is too short");
	else if (memcmp(h->magic, STATE_MAGIC, sizeof(h->magic)))
		snprintf(why, 100, "it is no state file");
	else if (h->version != STATE_VERSION)
		snprintf(why, 100, "it has version %u, this flued writes %d", h->version, STATE_VERSION);
	else if (h->crc != state_header_crc(h))
		snprintf(why, 100, "its header is damaged");
	else if (h->file_bytes != sizeof(struct state_file) || bytes != (off_t)sizeof(struct state_file))
		snprintf(why, 100, "it has %lld bytes instead of %zu", (long long)bytes, sizeof(struct state_file));
	else
		return true;
	return false;
}

/* ---- opening ---- */

static const char remedy[] = "remove it, and start flued again";

static int open_file(struct state *s, int flags, struct stat *st, struct err *e)
{
	/* O_NONBLOCK: whatever has this name, we do not wait for it. */
	s->fd = open(s->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags, 0600);
	if (s->fd < 0 && errno == ELOOP)
		return err_set(e, -ELOOP, NULL, remedy, "%s is a symbolic link", s->path);
	if (s->fd < 0 || fstat(s->fd, st) < 0)
		return err_set(e, -errno, NULL, NULL, "cannot open %s: %s", s->path, strerror(errno));
	if (!S_ISREG(st->st_mode))
		return err_set(e, -EINVAL, NULL, remedy, "%s is not a regular file", s->path);
	if (st->st_uid != geteuid())
		return err_set(e, -EPERM, NULL, remedy, "%s belongs to user %u", s->path, st->st_uid);
	if (st->st_mode & 077 && fchmod(s->fd, 0600) < 0)
		return err_set(e, -errno, NULL, remedy, "cannot close %s to others: %s", s->path, strerror(errno));
	return 0;
}

/* Whatever the file holds goes. */
static int begin(struct state *s, const struct state_header *h, struct err *e)
{
	if (ftruncate(s->fd, 0) == 0 && pwrite(s->fd, h, sizeof(*h), 0) == sizeof(*h) &&
	    ftruncate(s->fd, sizeof(struct state_file)) == 0)
		return 0;
	return err_set(e, -EIO, NULL, "make room for it", "cannot write to %s: %s", s->path, strerror(errno));
}

/* This file is of no use: keep it for whoever wants to know, and open a new one. */
static int set_aside(struct state *s, const char *why, struct stat *st, struct err *e)
{
	char *bad = NULL;
	int rc = 0;

	if (asprintf(&bad, "%s.bad", s->path) < 0)
		return err_set(e, -ENOMEM, NULL, NULL, "out of memory");
	if (rename(s->path, bad) < 0)
		rc = err_set(e, -errno, NULL, remedy, "%s cannot be used (%s), nor renamed: %s", s->path, why,
			     strerror(errno));
	else
		log_warn("%s cannot be used: %s: set aside as %s, and begun anew", s->path, why, bad);
	free(bad);
	if (rc < 0)
		return rc;
	close(s->fd);
	return open_file(s, O_EXCL, st, e);
}

/* Open s->fd, of a file whose header is in order. */
static int open_good(struct state *s, struct err *e)
{
	struct state_header ours = our_header(), h = {0};
	char why[100];
	struct stat st = {0};
	int rc = open_file(s, 0, &st, e);

	if (rc < 0)
		return rc;
	if (st.st_size == 0)
		return begin(s, &ours, e);
	if (pread(s->fd, &h, sizeof(h), 0) < 0)
		return err_set(e, -errno, NULL, remedy, "cannot read %s: %s", s->path, strerror(errno));
	if (!judge(st.st_size, &h, why)) {
		rc = set_aside(s, why, &st, e);
		return rc < 0 ? rc : begin(s, &ours, e);
	}
	if (!memcmp(h.boot, ours.boot, sizeof(h.boot)))
		return 0;
	log_info("%s is of an earlier boot: begun anew", s->path);
	return begin(s, &ours, e);
}

static int map(struct state *s, struct err *e)
{
	void *p = mmap(NULL, sizeof(struct state_file), PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	int rc;

	if (p == MAP_FAILED)
		return err_set(e, -errno, NULL, NULL, "cannot map %s: %s", s->path, strerror(errno));
	rc = watch_add(p, sizeof(struct state_file), &s->watch);
	if (rc < 0) {
		munmap(p, sizeof(struct state_file));
		return err_set(e, rc, NULL, NULL, "cannot watch %s", s->path);
	}
	s->file = p;
	for (unsigned i = 0; i < STATE_PORTS; i++)
		s->port[i].saved.journal = s->file->slot[i].journal;
	return 0;
}

/* ---- records ---- */

#define NUMBER_MAX (UINT64_MAX / 2)

static bool is_good(const struct state_record *r)
{
	/* No count gets as far as NUMBER_MAX, so the next one is always higher. */
	return r->crc == state_record_crc(r) && r->number && r->number < NUMBER_MAX && r->name[0] &&
	       memchr(r->name, 0, sizeof(r->name));
}

static bool is_known(const struct state *s, const char *name)
{
	for (unsigned i = 0; i < STATE_PORTS; i++)
		if (!strcmp(s->port[i].name, name))
			return true;
	return false;
}

/* Believe the newer of the two that are good. False: something was there, and it is not good. */
static bool load(struct state *s, struct state_port *p, const struct state_record r[2])
{
	static const struct state_record never[2];
	bool good[2] = {is_good(&r[0]), is_good(&r[1])};
	unsigned newer = good[1] && (!good[0] || r[1].number > r[0].number);

	if (!memcmp(r, never, sizeof(never)))
		return true;
	if (!good[newer] || is_known(s, r[newer].name))
		return false;
	memcpy(p->name, r[newer].name, sizeof(p->name));
	p->saved.agreed = r[newer].agreed;
	p->number = r[newer].number;
	p->next = !newer;
	return true;
}

static void load_all(struct state *s)
{
	unsigned dropped = 0;

	for (unsigned i = 0; i < STATE_PORTS; i++) {
		struct state_record r[2] = {0};
		off_t at = (off_t)offsetof(struct state_file, slot[i].record);

		if (pread(s->fd, r, sizeof(r), at) == sizeof(r) && load(s, &s->port[i], r))
			continue;
		state_file_wipe(s, i);
		dropped++;
	}
	if (dropped)
		log_warn("%s: the records of %u ports are damaged: dropped, the others are kept", s->path, dropped);
}

void state_file_wipe(struct state *s, unsigned i)
{
	if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offsetof(struct state_file, slot[i]),
		      sizeof(struct state_slot)) < 0)
		memset(&s->file->slot[i], 0, sizeof(struct state_slot)); /* no holes in this file system */
}

/* ---- up and down ---- */

int state_file_open(struct state *s, struct err *e)
{
	int rc = open_good(s, e);

	if (rc == 0)
		rc = map(s, e);
	if (rc == 0)
		load_all(s);
	return rc;
}

void state_file_close(struct state *s)
{
	if (s->file) {
		munmap(s->file, sizeof(struct state_file));
		watch_remove(s->watch);
	}
	if (s->fd >= 0)
		close(s->fd);
}
