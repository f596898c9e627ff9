/* SPDX-License-Identifier: Apache-2.0 */
/* The front ends as they talk: each one's messages, in its order, with its flags, and what it expects in return. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "vhost_front.h"

#define MIB  UINT64_C(0x100000)
#define SIZE 256 /* entries of every ring */

static struct front f;
static uint32_t flags; /* NEED_REPLY while the front end sets it */

/* Say something; what comes back is an acknowledgement if one was asked for, and nothing else. */
static void say(enum vhost_request r, const void *payload, uint32_t bytes, int fd)
{
	front_send(&f, r, flags, payload, bytes, &fd, fd >= 0 ? 1 : 0);
	if (flags & VHOST_FLAG_NEED_REPLY)
		assert_int_equal(front_reply_u64(&f, r), 0);
	front_no_reply(&f);
}

static void say_u64(enum vhost_request r, uint64_t v)
{
	say(r, &v, sizeof(v), -1);
}

static void say_state(enum vhost_request r, uint32_t index, uint32_t num)
{
	struct vhost_wire_state s = {index, num};

	say(r, &s, sizeof(s), -1);
}

static void say_event(enum vhost_request r, uint32_t index)
{
	uint64_t v = index;
	int fd = front_eventfd();

	say(r, &v, sizeof(v), fd);
	close(fd);
}

static void say_addr(uint32_t index, uint32_t log_flag)
{
	struct vhost_wire_addr a = front_ring_addr(index);

	a.flags = log_flag;
	if (!log_flag)
		a.log = 0;
	say(VHOST_SET_VRING_ADDR, &a, sizeof(a), -1);
}

static void say_table(void)
{
	struct vhost_wire_mem_table t = {.n = 1, .region[0] = front_region()};

	say(VHOST_SET_MEM_TABLE, &t, VHOST_TABLE_HEAD_BYTES + sizeof(t.region[0]), f.mem_fd);
}

static void say_region(void)
{
	struct vhost_wire_mem_reg m = {.region = front_region()};

	say(VHOST_ADD_MEM_REG, &m, sizeof(m), f.mem_fd);
}

static uint64_t ask(enum vhost_request r)
{
	uint64_t v;

	front_send(&f, r, flags, NULL, 0, NULL, 0);
	v = front_reply_u64(&f, r);
	front_no_reply(&f);
	return v;
}

static uint32_t ask_base(uint32_t index)
{
	struct vhost_wire_state s = {.index = index};

	front_send(&f, VHOST_GET_VRING_BASE, flags, &s, sizeof(s), NULL, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_VRING_BASE, &s, sizeof(s)), sizeof(s));
	assert_int_equal(s.index, index);
	front_no_reply(&f);
	return s.num;
}

static void told(const char *what, unsigned ring)
{
	char text[32];

	snprintf(text, sizeof(text), "%s %u", what, ring);
	front_told(&f, text);
}

/* ---- cloud-hypervisor ----
 * Counts rings, asks for an acknowledgement of everything once it may, restarts rings at the newest available entry,
 * and sends a fresh log in every round of a migration. */

#define CH_FEATURES                                                                                                    \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_EVENT_IDX) | FEATURE(VIRTIO_F_INDIRECT_DESC) |                 \
	 FEATURE(VIRTIO_NET_F_MRG_RXBUF) | FEATURE(VIRTIO_NET_F_CTRL_VQ) | FEATURE(VIRTIO_NET_F_MQ) |                  \
	 FEATURE(VHOST_USER_F_PROTOCOL_FEATURES))
#define CH_WANTS                                                                                                       \
	(FEATURE(VHOST_PF_MQ) | FEATURE(VHOST_PF_CONFIGURE_MEM_SLOTS) | FEATURE(VHOST_PF_REPLY_ACK) |                  \
	 FEATURE(VHOST_PF_LOG_SHMFD) | FEATURE(VHOST_PF_CONFIG) | FEATURE(12) /* INFLIGHT_SHMFD */ |                   \
	 FEATURE(19) /* DEVICE_STATE */)

static void ch_connect(void)
{
	uint64_t protocol;

	flags = 0;
	front_connect(&f);
	front_told(&f, "connected");
	say(VHOST_SET_OWNER, NULL, 0, -1);
	assert_true((CH_FEATURES & ~ask(VHOST_GET_FEATURES)) == 0);
	protocol = CH_WANTS & ask(VHOST_GET_PROTOCOL_FEATURES);
	assert_false(protocol & FEATURE(12)); /* it would restart rings where they are not */
	say_u64(VHOST_SET_PROTOCOL_FEATURES, protocol);
	flags = VHOST_FLAG_NEED_REPLY;
	assert_int_equal(ask(VHOST_GET_QUEUE_NUM), 4);
}

static void ch_activate(unsigned base)
{
	say_u64(VHOST_SET_FEATURES, CH_FEATURES);
	front_forget(&f);
	say_table();
	for (unsigned i = 0; i < 4; i++)
		say_state(VHOST_SET_VRING_NUM, i, SIZE);
	for (unsigned i = 0; i < 4; i++) {
		say_addr(i, 0);
		say_state(VHOST_SET_VRING_BASE, i, base);
		say_event(VHOST_SET_VRING_CALL, i);
		front_told(&f, "");
		say_event(VHOST_SET_VRING_KICK, i);
		told("run", i);
	}
	for (unsigned i = 0; i < 4; i++) {
		say_state(VHOST_SET_VRING_ENABLE, i, 1);
		told("enable", i);
	}
}

static void ch_reset(void)
{
	for (unsigned i = 0; i < 4; i++) {
		say_state(VHOST_SET_VRING_ENABLE, i, 0);
		told("disable", i);
		ask_base(i);
		told("halt", i);
	}
}

static void cloud_hypervisor_starts_reboots_and_resumes(void **state)
{
	(void)state;
	front_start(&f, VHOST_CLOUD_HYPERVISOR, VHOST_LISTEN, 2);
	ch_connect();
	ch_activate(0);
	ch_reset();
	ch_activate(0); /* the guest has rebooted; features and memory are said again */
	for (unsigned i = 0; i < 4; i++)
		say_state(VHOST_SET_VRING_ENABLE, i, 0); /* pause */
	for (unsigned i = 0; i < 4; i++)
		say_state(VHOST_SET_VRING_ENABLE, i, 1);
	front_told(&f, "disable 0; disable 1; disable 2; disable 3; enable 0; enable 1; enable 2; enable 3");
	front_stop(&f);
}

static void cloud_hypervisor_reconnects_with_receive_buffers_posted(void **state)
{
	(void)state;
	front_start(&f, VHOST_CLOUD_HYPERVISOR, VHOST_LISTEN, 2);
	ch_connect();
	ch_activate(0);
	front_forget(&f);
	front_hang_up(&f);
	for (unsigned i = 0; i < 4; i++)
		front_used(&f, i)->idx = 7;
	front_forget(&f);

	flags = 0;
	front_connect(&f);
	say(VHOST_SET_OWNER, NULL, 0, -1);
	ask(VHOST_GET_FEATURES);
	say_u64(VHOST_SET_PROTOCOL_FEATURES, CH_WANTS & ~FEATURE(12) & ~FEATURE(19)); /* without asking again */
	flags = VHOST_FLAG_NEED_REPLY;
	ch_activate(7 + 256); /* all 256 buffers of a receiveq are available, and none must be skipped */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f.vq[i]->fetched, 7);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(ask_base(i), 7);
	front_stop(&f);
}

static void cloud_hypervisor_migrates(void **state)
{
	struct vhost_wire_log log = {.size = 0x8010};
	struct vhost_state s;

	(void)state;
	front_start(&f, VHOST_CLOUD_HYPERVISOR, VHOST_LISTEN, 2);
	ch_connect();
	ch_activate(0);
	say(VHOST_SET_LOG_BASE, &log, sizeof(log), f.mem_fd);
	say_u64(VHOST_SET_FEATURES, CH_FEATURES | FEATURE(VHOST_F_LOG_ALL));
	for (unsigned i = 0; i < 4; i++)
		say_addr(i, VHOST_ADDR_LOG);
	for (unsigned i = 0; i < 4; i++)
		assert_true(f.vq[i]->log_used);
	for (int round = 0; round < 3; round++)
		say(VHOST_SET_LOG_BASE, &log, sizeof(log), f.mem_fd);
	vhost_state_get(f.v, &s);
	assert_true(s.logging);
	assert_int_equal(s.rings_running, 4);
	for (unsigned i = 0; i < 4; i++)
		say_addr(i, 0);
	say_u64(VHOST_SET_FEATURES, CH_FEATURES);
	vhost_state_get(f.v, &s);
	assert_false(s.logging);
	assert_int_equal(s.rings_running, 4);
	front_stop(&f);
}

static void cloud_hypervisor_plugs_memory_in(void **state)
{
	struct vhost_wire_mem_reg m = {.region = {FRONT_GPA + 64 * MIB, MIB, FRONT_UVA + 64 * MIB, 0}};
	struct vhost_state s;

	(void)state;
	front_start(&f, VHOST_CLOUD_HYPERVISOR, VHOST_LISTEN, 2);
	ch_connect();
	ch_activate(0);
	say(VHOST_ADD_MEM_REG, &m, sizeof(m), f.mem_fd);
	front_told(&f, "halt 0; halt 1; halt 2; halt 3; run 0; run 1; run 2; run 3");
	vhost_state_get(f.v, &s);
	assert_int_equal(s.n_regions, 2);
	front_stop(&f);
}

/* ---- crosvm ----
 * Never asks for acknowledgements, makes as many rings as we say, reads the configuration space from us, forwards the
 * control queue, and sends the features once for each half that the guest's driver writes. */

#define CROSVM_WANTS                                                                                                   \
	(FEATURE(VHOST_PF_CONFIG) | FEATURE(VHOST_PF_MQ) | FEATURE(VHOST_PF_BACKEND_REQ) |                             \
	 FEATURE(VHOST_PF_REPLY_ACK) | FEATURE(19) /* DEVICE_STATE */ | FEATURE(22) /* SHMEM */)

static uint64_t crosvm_connect(int *channel)
{
	uint64_t offered, protocol;
	int pair[2];

	flags = 0;
	front_connect(&f);
	front_told(&f, "connected");
	say(VHOST_SET_OWNER, NULL, 0, -1);
	offered = ask(VHOST_GET_FEATURES);
	protocol = CROSVM_WANTS & ask(VHOST_GET_PROTOCOL_FEATURES);
	assert_true(protocol & FEATURE(VHOST_PF_CONFIG));
	say_u64(VHOST_SET_PROTOCOL_FEATURES, protocol);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	say(VHOST_SET_BACKEND_REQ_FD, NULL, 0, pair[1]);
	close(pair[1]);
	*channel = pair[0];
	assert_int_equal(ask(VHOST_GET_QUEUE_NUM), 5); /* two pairs, and the control queue */
	return offered;
}

/* The guest's driver reads a field; it comes to us as it is. */
static void crosvm_config(uint32_t offset, uint32_t size, const void *expected)
{
	struct vhost_wire_config c = {.offset = offset, .size = size, .flags = 1}, reply;

	front_send(&f, VHOST_GET_CONFIG, 0, &c, VHOST_CONFIG_HEAD_BYTES + size, NULL, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_CONFIG, &reply, sizeof(reply)), VHOST_CONFIG_HEAD_BYTES + size);
	assert_int_equal(reply.offset, offset);
	assert_int_equal(reply.size, size);
	assert_memory_equal(reply.bytes, expected, size);
}

static void crosvm_ring(unsigned index, unsigned ring)
{
	say_state(VHOST_SET_VRING_NUM, index, SIZE);
	say_addr(index, 0);
	say_state(VHOST_SET_VRING_BASE, index, 0);
	say_event(VHOST_SET_VRING_CALL, index);
	front_told(&f, "");
	say_event(VHOST_SET_VRING_KICK, index);
	told("run", ring);
	say_state(VHOST_SET_VRING_ENABLE, index, 1);
	told("enable", ring);
}

static void crosvm_features(uint64_t features)
{
	say_u64(VHOST_SET_FEATURES, (features & UINT32_MAX) | FEATURE(VHOST_USER_F_PROTOCOL_FEATURES));
	say_u64(VHOST_SET_FEATURES, features | FEATURE(VHOST_USER_F_PROTOCOL_FEATURES));
	front_told(&f, "features; features");
}

static void crosvm_starts_sleeps_and_wakes(void **state)
{
	int channel;
	uint64_t offered;

	(void)state;
	front_start(&f, VHOST_CROSVM, VHOST_LISTEN, 2);
	offered = crosvm_connect(&channel);
	for (uint32_t i = 0; i < 6; i++)
		crosvm_config(i, 1, &f.conf.mac.b[i]);
	crosvm_config(8, 2, (uint8_t[]){2, 0});        /* max_virtqueue_pairs */
	crosvm_config(10, 2, (uint8_t[]){0xdc, 0x05}); /* mtu */
	crosvm_features(offered & ~FEATURE(VHOST_F_LOG_ALL));
	say_table();
	for (unsigned i = 0; i < 5; i++)
		crosvm_ring(i, i);
	for (unsigned i = 0; i < 5; i++) {
		say_state(VHOST_SET_VRING_ENABLE, i, 0);
		ask_base(i);
	}
	front_told(&f, "disable 0; halt 0; disable 1; halt 1; disable 2; halt 2; disable 3; halt 3; disable 4; halt 4");
	say_table();
	for (unsigned i = 0; i < 5; i++)
		crosvm_ring(i, i);
	close(channel);
	front_stop(&f);
}

static void the_control_queue_follows_the_only_pair_of_a_guest_without_multiqueue(void **state)
{
	int channel;
	uint64_t offered;

	(void)state;
	front_start(&f, VHOST_CROSVM, VHOST_LISTEN, 2);
	offered = crosvm_connect(&channel);
	crosvm_features(offered & ~FEATURE(VHOST_F_LOG_ALL) & ~FEATURE(VIRTIO_NET_F_MQ));
	say_table();
	crosvm_ring(0, 0);
	crosvm_ring(1, 1);
	crosvm_ring(2, 4);
	assert_int_equal(ask_base(2), 0);
	front_told(&f, "halt 4");
	close(channel);
	front_stop(&f);
}

static void crosvm_at_a_port_for_qemu_is_told_what_is_wrong(void **state)
{
	struct vhost_wire_config c = {.size = 1};

	(void)state;
	flags = 0;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 2);
	front_connect(&f);
	say_u64(VHOST_SET_PROTOCOL_FEATURES, CROSVM_WANTS & ask(VHOST_GET_PROTOCOL_FEATURES));
	front_send(&f, VHOST_GET_CONFIG, 0, &c, VHOST_CONFIG_HEAD_BYTES + 1, NULL, 0);
	front_blamed(&f, "GET_CONFIG: its protocol feature was not negotiated: is the port's front_end (qemu) right?");
	front_stop(&f);
}

/* ---- QEMU ----
 * One device for each queue pair over one socket: most things are said for each. Calls come early, with a descriptor
 * that stands for a masked interrupt, and again when the ring starts. */

static void qemu_pair_init(unsigned pair)
{
	ask(VHOST_GET_FEATURES);
	say_u64(VHOST_SET_PROTOCOL_FEATURES, ask(VHOST_GET_PROTOCOL_FEATURES));
	if (pair == 0)
		assert_int_equal(ask(VHOST_GET_QUEUE_NUM), 2);
	assert_int_equal(ask(VHOST_GET_MAX_MEM_SLOTS), GMEM_REGIONS_MAX);
	if (pair == 0)
		say(VHOST_SET_OWNER, NULL, 0, -1);
	ask(VHOST_GET_FEATURES);
	for (unsigned i = 2 * pair; i < 2 * pair + 2; i++)
		say_event(VHOST_SET_VRING_CALL, i);
}

static void qemu_add_status(uint8_t bits)
{
	uint64_t s = ask(VHOST_GET_STATUS);

	if ((s & bits) != bits)
		say_u64(VHOST_SET_STATUS, s | bits);
}

static void qemu_pair_start(unsigned pair, uint64_t features)
{
	say_u64(VHOST_SET_FEATURES, features);
	qemu_add_status(8);
	flags = VHOST_FLAG_NEED_REPLY;
	say_region();
	flags = 0;
	for (unsigned i = 2 * pair; i < 2 * pair + 2; i++) {
		say_state(VHOST_SET_VRING_NUM, i, SIZE);
		say_state(VHOST_SET_VRING_BASE, i, 0);
		say_addr(i, 0);
		front_forget(&f);
		say_event(VHOST_SET_VRING_KICK, i);
		told("run", i);
		say_event(VHOST_SET_VRING_CALL, i);
		front_told(&f, "quiesce");
	}
	flags = VHOST_FLAG_NEED_REPLY;
	say_state(VHOST_SET_VRING_ENABLE, 2 * pair, 1);
	say_state(VHOST_SET_VRING_ENABLE, 2 * pair + 1, 1);
	flags = 0;
}

static void qemu_starts_two_pairs_and_stops_them(void **state)
{
	uint64_t features = CH_FEATURES & ~FEATURE(VIRTIO_NET_F_CTRL_VQ);
	struct vhost_state s;

	(void)state;
	flags = 0;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 2);
	front_connect(&f);
	qemu_pair_init(0);
	qemu_pair_init(1);
	qemu_pair_start(0, features);
	qemu_pair_start(1, features);
	qemu_add_status(4);
	assert_int_equal(ask(VHOST_GET_STATUS), 12);
	vhost_state_get(f.v, &s);
	assert_int_equal(s.rings_running, 4);
	assert_int_equal(s.rings_enabled, 4);
	assert_int_equal(s.n_regions, 1);
	front_forget(&f);
	for (unsigned i = 0; i < 4; i++) {
		ask_base(i);
		told("halt", i);
	}
	say_u64(VHOST_SET_STATUS, 0);
	front_told(&f, "");
	front_stop(&f);
}

static void qemu_starts_in_the_middle_of_a_migration(void **state)
{
	uint64_t features = (CH_FEATURES & ~FEATURE(VIRTIO_NET_F_CTRL_VQ)) | FEATURE(VHOST_F_LOG_ALL);
	struct vhost_wire_log log = {.size = 0x8010};

	(void)state;
	flags = 0;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 2);
	front_connect(&f);
	qemu_pair_init(0);
	flags = VHOST_FLAG_NEED_REPLY;
	say_u64(VHOST_SET_FEATURES, features);
	say_region();
	flags = 0;
	for (unsigned i = 0; i < 2; i++) {
		say_state(VHOST_SET_VRING_NUM, i, SIZE);
		say_state(VHOST_SET_VRING_BASE, i, 0);
		flags = VHOST_FLAG_NEED_REPLY;
		say_addr(i, VHOST_ADDR_LOG);
		flags = 0;
		say_event(VHOST_SET_VRING_KICK, i);
		say_event(VHOST_SET_VRING_CALL, i);
	}
	front_told(&f, "connected; features");
	front_send(&f, VHOST_SET_LOG_BASE, 0, &log, sizeof(log), &f.mem_fd, 1);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_LOG_BASE), 0); /* answered, though it does not ask */
	front_told(&f, "run 0; run 1");
	front_stop(&f);
}

/* ---- DPDK's virtio-user ---- */

static void virtio_user_starts_pauses_for_new_memory_and_stops(void **state)
{
	uint64_t protocol = FEATURE(VHOST_PF_MQ) | FEATURE(VHOST_PF_REPLY_ACK) | FEATURE(VHOST_PF_STATUS);

	(void)state;
	flags = 0;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	say(VHOST_SET_OWNER, NULL, 0, -1);
	ask(VHOST_GET_FEATURES);
	assert_true((protocol & ~ask(VHOST_GET_PROTOCOL_FEATURES)) == 0);
	say_u64(VHOST_SET_PROTOCOL_FEATURES, protocol);
	for (unsigned i = 0; i < 2; i++)
		say_event(VHOST_SET_VRING_CALL, i);
	say_u64(VHOST_SET_FEATURES, CH_FEATURES & ~FEATURE(VIRTIO_NET_F_CTRL_VQ));
	flags = VHOST_FLAG_NEED_REPLY;
	say_u64(VHOST_SET_STATUS, 11);
	say_table();
	flags = 0;
	front_forget(&f);
	for (unsigned i = 0; i < 2; i++) {
		say_state(VHOST_SET_VRING_NUM, i, SIZE);
		say_state(VHOST_SET_VRING_BASE, i, 0);
		say_addr(i, 0);
		say_event(VHOST_SET_VRING_KICK, i);
		told("run", i);
	}
	for (unsigned i = 0; i < 2; i++)
		say_state(VHOST_SET_VRING_ENABLE, i, 1);
	front_forget(&f);

	for (unsigned i = 0; i < 2; i++)
		say_state(VHOST_SET_VRING_ENABLE, i, 0);
	flags = VHOST_FLAG_NEED_REPLY;
	say_table();
	flags = 0;
	for (unsigned i = 0; i < 2; i++)
		say_state(VHOST_SET_VRING_ENABLE, i, 1);
	front_told(&f, "disable 0; disable 1; halt 0; halt 1; run 0; run 1; enable 0; enable 1");
	ask_base(0);
	ask_base(1);
	front_told(&f, "halt 0; halt 1");
	front_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cloud_hypervisor_starts_reboots_and_resumes),
		cmocka_unit_test(cloud_hypervisor_reconnects_with_receive_buffers_posted),
		cmocka_unit_test(cloud_hypervisor_migrates),
		cmocka_unit_test(cloud_hypervisor_plugs_memory_in),
		cmocka_unit_test(crosvm_starts_sleeps_and_wakes),
		cmocka_unit_test(the_control_queue_follows_the_only_pair_of_a_guest_without_multiqueue),
		cmocka_unit_test(crosvm_at_a_port_for_qemu_is_told_what_is_wrong),
		cmocka_unit_test(qemu_starts_two_pairs_and_stops_them),
		cmocka_unit_test(qemu_starts_in_the_middle_of_a_migration),
		cmocka_unit_test(virtio_user_starts_pauses_for_new_memory_and_stops),
	};
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
