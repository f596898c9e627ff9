/* SPDX-License-Identifier: Apache-2.0 */
/* The state file: what damage does, and what is refused. */
#include "state_rig.h"

/* ---- damage ---- */

static void write_at(off_t at, const void *p, size_t bytes)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, bytes, at), bytes);
	close(fd);
}

static void flip(size_t at)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t b;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
	b ^= 0x10;
	assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
	close(fd);
}

static void put_header(struct state_header h)
{
	h.crc = state_header_crc(&h);
	write_at(0, &h, sizeof(h));
}

static struct state_header header(void)
{
	struct state_header h;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	close(fd);
	return h;
}

static void too_short(void)
{
	cut_to(1);
}
static void only_a_header(void)
{
	cut_to(sizeof(struct state_header));
}
static void without_its_last_byte(void)
{
	cut_to(sizeof(struct state_file) - 1);
}
static void too_long(void)
{
	cut_to(sizeof(struct state_file) + 1);
}
static void other_magic(void)
{
	struct state_header h = header();

	h.magic[7] = 'T';
	put_header(h);
}
static void other_version(void)
{
	struct state_header h = header();

	h.version++;
	put_header(h);
}
static void other_layout(void)
{
	struct state_header h = header();

	h.file_bytes += STATE_PAGE;
	put_header(h);
}
static void header_damaged(void)
{
	flip(offsetof(struct state_header, boot));
}
static void header_crc_damaged(void)
{
	flip(offsetof(struct state_header, crc));
}
static void garbage(void)
{
	char text[4096];

	memset(text, 'x', sizeof(text));
	write_at(0, text, sizeof(text));
}

/* Each makes a file that cannot be used. */
static void a_file_that_cannot_be_used_is_set_aside(void **state)
{
	static void (*const damage[])(void) = {
		too_short,     only_a_header, without_its_last_byte, too_long,           other_magic,
		other_version, other_layout,  header_damaged,        header_crc_damaged, garbage,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(damage); i++) {
		leave_two();
		damage[i]();
		open_it();
		if (!exists(bad))
			fail_msg("damage %zu was not noticed", i);
		expect("vm1", 0);
		expect("vm2", 0);
		agree("vm1", 5);
		reopen();
		expect("vm1", 5);
		state_close(s);
		s = NULL;
		assert_return_code(unlink(bad), errno);
		assert_return_code(unlink(path), errno);
	}
}

static void an_empty_file_is_begun(void **state)
{
	(void)state;
	leave_two();
	cut_to(0);
	open_it();
	expect("vm1", 0);
	assert_false(exists(bad));
}

static void a_file_of_an_earlier_boot_is_begun_anew(void **state)
{
	struct state_header h;

	(void)state;
	leave_two();
	h = header();
	h.boot[0] ^= 1;
	put_header(h);
	open_it();
	expect("vm1", 0);
	assert_false(exists(bad));
	agree("vm1", 5);
	reopen();
	expect("vm1", 5);
}

static size_t record_at(unsigned slot, unsigned record)
{
	return offsetof(struct state_file, slot[slot].record[record]);
}

static void a_bad_slot_goes_and_its_neighbour_stays(void **state)
{
	(void)state;
	for (size_t at = 0; at < sizeof(struct state_record); at++) {
		leave_two();
		flip(record_at(0, 0) + at); /* vm1 has only this one */
		open_it();
		expect("vm1", 0);
		expect("vm2", 22);
		assert_false(exists(bad));
		state_close(s);
		s = NULL;
		assert_return_code(unlink(path), errno);
	}
}

/* flued died while it wrote. */
static void a_torn_record_leaves_the_one_before(void **state)
{
	(void)state;
	leave_two();
	flip(record_at(1, 1) + offsetof(struct state_record, agreed.acked));
	open_it();
	expect("vm1", 11);
	assert_agreed(state_port(s, "vm2", 1), 21);
	agree("vm2", 23);
	reopen();
	expect("vm2", 23);
}

static void put_record(unsigned slot, struct state_record r)
{
	r.crc = state_record_crc(&r);
	write_at((off_t)record_at(slot, 0), &r, sizeof(r));
}

static uint64_t number_in(unsigned slot)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct state_record r;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &r, sizeof(r), (off_t)record_at(slot, 0)), sizeof(r));
	close(fd);
	return r.number;
}

static void records_with_impossible_names_are_dropped(void **state)
{
	struct state_record no_name = {.number = 1, .agreed = agreement(1)}, endless = no_name, twice = no_name;

	(void)state;
	memset(endless.name, 'n', sizeof(endless.name));
	memcpy(twice.name, "vm1", sizeof("vm1"));
	leave_two();
	put_record(2, no_name);
	put_record(3, endless);
	put_record(4, twice);
	open_it();
	for (unsigned slot = 2; slot < 5; slot++)
		assert_int_equal(number_in(slot), 0);
	expect("vm1", 11);
	expect("vm2", 22);
	state_port_forget(s, "vm1");
	expect("vm1", 0); /* there was no other */
}

/* ---- what is not a file of ours ---- */

static void refused(const char *part)
{
	struct err e = {0};

	assert_null(state_open(path, &e));
	assert_true(e.code < 0);
	if (!strstr(e.text, part))
		fail_msg("'%s' does not say '%s'", e.text, part);
}

static void a_symbolic_link_is_refused(void **state)
{
	char target[96];

	(void)state;
	snprintf(target, sizeof(target), "%s/elsewhere", dir);
	assert_return_code(symlink(target, path), errno);
	refused("is a symbolic link");
	assert_false(exists(target));
}

static void a_directory_is_refused(void **state)
{
	(void)state;
	assert_return_code(mkdir(path, 0700), errno);
	refused("cannot open");
}

static void a_pipe_is_refused_without_waiting(void **state)
{
	(void)state;
	assert_return_code(mkfifo(path, 0600), errno);
	refused("is not a regular file");
}

static void a_file_of_another_user_is_refused(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	leave_two();
	assert_return_code(chown(path, 1, 1), errno);
	refused("belongs to user 1");
}

static void a_file_that_cannot_be_set_aside_is_refused(void **state)
{
	(void)state;
	leave_two();
	garbage();
	assert_return_code(mkdir(bad, 0700), errno);
	refused("it is no state file");
}

static void a_missing_directory_is_refused(void **state)
{
	char there[sizeof(path)];

	(void)state;
	memcpy(there, path, sizeof(there));
	snprintf(path, sizeof(path), "%s/none/flued.state", dir);
	refused("No such file or directory");
	memcpy(path, there, sizeof(there));
}

static void a_file_that_is_open_to_others_is_closed(void **state)
{
	struct stat st;

	(void)state;
	leave_two();
	assert_return_code(chmod(path, 0666), errno);
	open_it();
	assert_return_code(stat(path, &st), errno);
	assert_int_equal(st.st_mode & 07777, 0600);
	expect("vm1", 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_DIR(a_file_that_cannot_be_used_is_set_aside),
		WITH_DIR(an_empty_file_is_begun),
		WITH_DIR(a_file_of_an_earlier_boot_is_begun_anew),
		WITH_DIR(a_bad_slot_goes_and_its_neighbour_stays),
		WITH_DIR(a_torn_record_leaves_the_one_before),
		WITH_DIR(records_with_impossible_names_are_dropped),
		WITH_DIR(a_symbolic_link_is_refused),
		WITH_DIR(a_directory_is_refused),
		WITH_DIR(a_pipe_is_refused_without_waiting),
		WITH_DIR(a_file_of_another_user_is_refused),
		WITH_DIR(a_file_that_cannot_be_set_aside_is_refused),
		WITH_DIR(a_missing_directory_is_refused),
		WITH_DIR(a_file_that_is_open_to_others_is_closed),
	};

	return rig_run(tests);
}
