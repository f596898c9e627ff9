/* SPDX-License-Identifier: Apache-2.0 */
/* A damaged state file: whatever it holds, flued opens it, ports get their slots, and the next flued finds what this
 * one kept.
 *
 * Input: a byte of set-up (SETUP_*), then edits of a file with PORTS good ports: kind (EDIT_*), slot, offset (16 bits,
 * little-endian), size, that many bytes. An edit of a record or of the header can have its check sum put right, or no
 * edit would get past it.
 * Checked besides memory errors: a port whose slot was not edited comes back, unless the header was edited or an
 * earlier slot may have taken its name; what was saved comes back after a second start; a journal that is judged valid is in range.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "state/state_layout.h"

#define PORTS     4
#define EDITS_MAX 64

enum {
	SETUP_CUT = 0x01,  /* the next two bytes, times 1024: the file's length */
	SETUP_FULL = 0x02, /* afterwards there are more ports than slots */
};

enum {
	EDIT_HEADER = 0x01,  /* not a slot */
	EDIT_JOURNAL = 0x02, /* behind the records */
	EDIT_SIGN = 0x04,    /* the check sum is put right */
	EDIT_COPY = 0x08,    /* the bytes are slot 0's first record, and the size is its own */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct {
	char dir[32], path[64], bad[64];
	struct state_header header;
	bool edited[STATE_PORTS], header_edited;
	unsigned lowest_signed; /* slot with an edit whose check sum was put right */
} z;

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static struct state *open_it(void)
{
	struct err e = {0};
	struct state *s = state_open(z.path, &e);

	check(s, e.text);
	return s;
}

static const char *name_of(unsigned i)
{
	static char name[STATE_NAME_BYTES];

	snprintf(name, sizeof(name), "vm%u", i);
	return name;
}

static struct vhost_agreed agreement(unsigned i)
{
	return (struct vhost_agreed){
		.offered = UINT64_C(1) << 32 | i, .acked = i, .pairs = 1, .peer_pid = i, .bound = 1};
}

/* ---- the file ---- */

static void write_good(int fd)
{
	check(pwrite(fd, &z.header, sizeof(z.header), 0) == sizeof(z.header) &&
		      ftruncate(fd, sizeof(struct state_file)) == 0,
	      "no room for the file");
	for (unsigned i = 0; i < PORTS; i++) {
		struct state_record r = {.number = i + 1, .agreed = agreement(i)};

		memcpy(r.name, name_of(i), sizeof(r.name));
		r.crc = state_record_crc(&r);
		check(pwrite(fd, &r, sizeof(r), (off_t)offsetof(struct state_file, slot[i].record[i % 2])) == sizeof(r),
		      "no room for a record");
	}
}

static void put_right(int fd, unsigned slot, off_t record)
{
	struct state_record r;

	if (pread(fd, &r, sizeof(r), record) != sizeof(r))
		return;
	r.crc = state_record_crc(&r);
	check(pwrite(fd, &r, sizeof(r), record) == sizeof(r), "no room for a record");
	if (slot < z.lowest_signed)
		z.lowest_signed = slot;
}

static void edit_header(int fd, uint8_t kind, size_t at, const uint8_t *bytes, size_t n)
{
	struct state_header h = z.header;

	at %= sizeof(h);
	memcpy((uint8_t *)&h + at, bytes, n < sizeof(h) - at ? n : sizeof(h) - at);
	if (kind & EDIT_SIGN)
		h.crc = state_header_crc(&h);
	check(pwrite(fd, &h, sizeof(h), 0) == sizeof(h), "no room for the header");
	z.header_edited = true;
}

static void edit_slot(int fd, uint8_t kind, unsigned slot, size_t at, const uint8_t *bytes, size_t n)
{
	off_t begin = (off_t)offsetof(struct state_file, slot[slot]);
	size_t records = 2 * sizeof(struct state_record);
	struct state_record copy;

	at = kind & EDIT_JOURNAL ? records + at % (sizeof(struct virtq_journal) * VHOST_RINGS_MAX) : at % records;
	if (at + n > sizeof(struct state_slot))
		n = sizeof(struct state_slot) - at;
	if (kind & EDIT_COPY && pread(fd, &copy, sizeof(copy), (off_t)offsetof(struct state_file, slot[0])) > 0) {
		bytes = (const uint8_t *)&copy;
		n = sizeof(copy);
		at -= at % sizeof(copy);
	}
	check(pwrite(fd, bytes, n, begin + (off_t)at) == (ssize_t)n, "no room for an edit");
	if (kind & EDIT_SIGN && at < records)
		put_right(fd, slot, begin + (off_t)(at - at % sizeof(struct state_record)));
	z.edited[slot] = true;
}

static void edit(int fd, const uint8_t *data, size_t len)
{
	for (int i = 0; i < EDITS_MAX && len >= 5; i++) {
		size_t at = data[2] | (size_t)data[3] << 8, n = data[4] < len - 5 ? data[4] : len - 5;

		if (data[0] & EDIT_HEADER)
			edit_header(fd, data[0], at, data + 5, n);
		else
			edit_slot(fd, data[0], data[1], at, data + 5, n);
		data += 5 + n;
		len -= 5 + n;
	}
}

/* ---- its use ---- */

static void use_journals(struct vhost_saved *saved, unsigned rings, unsigned size)
{
	for (unsigned i = 0; i < rings; i++) {
		struct virtq_journal *j = &saved->journal[i];

		if (!virtq_journal_valid(j, size))
			continue;
		check((j->at & 0x7fff) < size && j->live <= 1 && j->n <= VIRTQ_JOURNAL_ENTRIES, "a wrong journal");
		for (unsigned k = 0; k < j->n; k++)
			check((j->used[k].at & 0x7fffu) < size, "a wrong entry");
		j->live = 1;
	}
}

/* Each of PORTS, which must be as it was if nothing has touched it. */
static void use_good(struct state *s)
{
	for (unsigned i = 0; i < PORTS; i++) {
		struct vhost_saved *saved = state_port(s, name_of(i), 1);
		struct vhost_agreed a = agreement(i);

		check(saved, "a port has no slot");
		/* Of two slots with one name the first has it. */
		check(z.header_edited || z.edited[i] || z.lowest_signed < i || !memcmp(&saved->agreed, &a, sizeof(a)),
		      "a good slot is lost");
		use_journals(saved, 3, 256);
		state_port_release(s, saved);
	}
}

/* All slots, and one port too many. */
static void use_all(struct state *s, bool full)
{
	unsigned n = full ? STATE_PORTS : 2 * PORTS;

	for (unsigned i = 0; i < n; i++) {
		struct vhost_saved *saved = state_port(s, name_of(i), 1);

		check(saved, "a port has no slot");
		saved->agreed = agreement(1000 + i);
		state_port_save(s, saved);
	}
	check(!full || !state_port(s, "more", 1), "a slot that there is not");
}

static void find_all(struct state *s, bool full)
{
	unsigned n = full ? STATE_PORTS : 2 * PORTS;

	for (unsigned i = 0; i < n; i++) {
		struct vhost_saved *saved = state_port(s, name_of(i), 1);
		struct vhost_agreed a = agreement(1000 + i);

		check(saved && !memcmp(&saved->agreed, &a, sizeof(a)), "what was saved is lost");
		use_journals(saved, 3, 128);
		state_port_release(s, saved);
		state_port_forget(s, name_of(i));
	}
}

static void play(bool full)
{
	struct state *s = open_it();

	use_good(s);
	use_all(s, full);
	state_close(s);
	check(unlink(z.bad) < 0 || z.header_edited, "a good file was set aside");
	s = open_it();
	check(access(z.bad, F_OK) < 0, "a file of our own was set aside");
	find_all(s, full);
	state_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int fd;

	if (len < 3)
		return 0;
	fd = open(z.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	memset(z.edited, 0, sizeof(z.edited));
	z.header_edited = false;
	z.lowest_signed = STATE_PORTS;
	write_good(fd);
	edit(fd, data + 3, len - 3);
	if (data[0] & SETUP_CUT) {
		check(ftruncate(fd, (off_t)(data[1] | data[2] << 8) * 1024) == 0, "it cannot be cut");
		z.header_edited = true;
	}
	close(fd);
	play(data[0] & SETUP_FULL);
	return 0;
}

static void clean_up(void)
{
	unlink(z.path);
	unlink(z.bad);
	rmdir(z.dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int fd;

	(void)argc;
	(void)argv;
	log_set_level(LOG_ERROR);
	/* In memory if possible: each run writes a file. */
	snprintf(z.dir, sizeof(z.dir), "%s/state-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(z.dir))
		return -1;
	snprintf(z.path, sizeof(z.path), "%s/state", z.dir);
	snprintf(z.bad, sizeof(z.bad), "%s/state.bad", z.dir);
	atexit(clean_up);
	state_close(open_it());
	fd = open(z.path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, &z.header, sizeof(z.header)) == sizeof(z.header) ? close(fd) : -1;
}
