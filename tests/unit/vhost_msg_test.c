/* SPDX-License-Identifier: Apache-2.0 */
/* Each request of vhost-user: what it answers, what is refused, and what ends the connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "vhost_front.h"

#define BASE_FEATURES                                                                                                  \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_ANY_LAYOUT) | FEATURE(VIRTIO_F_INDIRECT_DESC) |                \
	 FEATURE(VIRTIO_F_RING_PACKED) | FEATURE(VIRTIO_F_IN_ORDER) | FEATURE(VIRTIO_F_EVENT_IDX) |                    \
	 FEATURE(VHOST_USER_F_PROTOCOL_FEATURES) | FEATURE(VHOST_F_LOG_ALL) | FEATURE(VIRTIO_NET_F_MRG_RXBUF) |        \
	 FEATURE(VIRTIO_NET_F_MTU) | FEATURE(VIRTIO_NET_F_STATUS) | FEATURE(VIRTIO_NET_F_CTRL_VQ) |                    \
	 FEATURE(VIRTIO_NET_F_CTRL_RX) | FEATURE(VIRTIO_NET_F_MQ) | FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE) |             \
	 FEATURE(VIRTIO_NET_F_CSUM) | FEATURE(VIRTIO_NET_F_HOST_TSO4) | FEATURE(VIRTIO_NET_F_HOST_TSO6) |              \
	 FEATURE(VIRTIO_NET_F_HOST_ECN) | FEATURE(VIRTIO_NET_F_HOST_USO) | FEATURE(VIRTIO_NET_F_GUEST_CSUM) |          \
	 FEATURE(VIRTIO_NET_F_GUEST_TSO4) | FEATURE(VIRTIO_NET_F_GUEST_TSO6) | FEATURE(VIRTIO_NET_F_GUEST_ECN) |       \
	 FEATURE(VIRTIO_NET_F_GUEST_USO4) | FEATURE(VIRTIO_NET_F_GUEST_USO6))
#define BASE_PROTOCOL                                                                                                  \
	(FEATURE(VHOST_PF_MQ) | FEATURE(VHOST_PF_LOG_SHMFD) | FEATURE(VHOST_PF_RARP) | FEATURE(VHOST_PF_REPLY_ACK) |   \
	 FEATURE(VHOST_PF_NET_MTU) | FEATURE(VHOST_PF_BACKEND_REQ) | FEATURE(VHOST_PF_RESET_DEVICE) |                  \
	 FEATURE(VHOST_PF_CONFIGURE_MEM_SLOTS) | FEATURE(VHOST_PF_STATUS))

static uint64_t ask(struct front *f, enum vhost_request r)
{
	front_plain(f, r);
	return front_reply_u64(f, r);
}

static void questions_are_answered_as_each_front_end_means_them(void **state)
{
	static const struct {
		enum vhost_front_end kind;
		uint64_t features, protocol, queues;
	} row[] = {
		{VHOST_QEMU, BASE_FEATURES, BASE_PROTOCOL, 4},
		{VHOST_CLOUD_HYPERVISOR, BASE_FEATURES | FEATURE(VIRTIO_NET_F_MAC),
		 BASE_PROTOCOL | FEATURE(VHOST_PF_CONFIG), 8},
		{VHOST_CROSVM, BASE_FEATURES | FEATURE(VIRTIO_NET_F_MAC), BASE_PROTOCOL | FEATURE(VHOST_PF_CONFIG), 9},
	};
	struct front f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		front_start(&f, row[i].kind, VHOST_LISTEN, 4);
		front_connect(&f);
		assert_int_equal(ask(&f, VHOST_GET_FEATURES), row[i].features);
		assert_int_equal(ask(&f, VHOST_GET_PROTOCOL_FEATURES), row[i].protocol);
		assert_int_equal(ask(&f, VHOST_GET_QUEUE_NUM), row[i].queues);
		front_u64(&f, VHOST_SET_PROTOCOL_FEATURES, row[i].protocol);
		assert_int_equal(ask(&f, VHOST_GET_MAX_MEM_SLOTS), GMEM_REGIONS_MAX);
		assert_int_equal(ask(&f, VHOST_GET_STATUS), 0);
		front_u64(&f, VHOST_SET_STATUS, 0x0b);
		assert_int_equal(ask(&f, VHOST_GET_STATUS), 0x0b);
		front_no_reply(&f);
		front_told(&f, "connected");
		front_stop(&f);
	}
}

static void an_acknowledgement_comes_if_it_was_negotiated_and_asked_for(void **state)
{
	struct vhost_wire_state enable = {1, 1};
	uint64_t features = FEATURE(VHOST_USER_F_PROTOCOL_FEATURES), protocol = BASE_PROTOCOL;
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	front_send(&f, VHOST_SET_OWNER, VHOST_FLAG_NEED_REPLY, NULL, 0, NULL, 0);
	front_no_reply(&f);
	/* the message that negotiates it may ask for it already */
	front_send(&f, VHOST_SET_PROTOCOL_FEATURES, VHOST_FLAG_NEED_REPLY, &protocol, sizeof(protocol), NULL, 0);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_PROTOCOL_FEATURES), 0);
	front_send(&f, VHOST_SET_FEATURES, VHOST_FLAG_NEED_REPLY, &features, sizeof(features), NULL, 0);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_FEATURES), 0);
	front_state(&f, VHOST_SET_VRING_ENABLE, 0, 1);
	front_no_reply(&f);
	front_send(&f, VHOST_SET_VRING_ENABLE, VHOST_FLAG_NEED_REPLY, &enable, sizeof(enable), NULL, 0);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_VRING_ENABLE), 0);
	/* a request with an answer of its own has that one only */
	front_send(&f, VHOST_GET_FEATURES, VHOST_FLAG_NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(front_reply_u64(&f, VHOST_GET_FEATURES), BASE_FEATURES);
	front_no_reply(&f);
	front_stop(&f);
}

/* ---- what is refused, without harm ---- */

static uint64_t ask_ack(struct front *f, enum vhost_request r, const void *payload, uint32_t bytes)
{
	front_send(f, r, VHOST_FLAG_NEED_REPLY, payload, bytes, NULL, 0);
	return front_reply_u64(f, r);
}

static void an_mtu_is_the_owners_to_refuse(void **state)
{
	static const struct {
		uint64_t mtu;
		bool refused;
		const char *told;
	} row[] = {
		{9000, false, "mtu 9000"}, {9001, true, "mtu 9001"}, {67, true, ""},
		{65536, true, ""},         {UINT64_MAX, true, ""},
	};
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_negotiate(&f);
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		assert_int_equal(ask_ack(&f, VHOST_NET_SET_MTU, &row[i].mtu, 8) != 0, row[i].refused);
		front_told(&f, row[i].told);
	}
	front_u64(&f, VHOST_NET_SET_MTU, 9001);
	front_no_reply(&f);
	assert_int_equal(ask(&f, VHOST_GET_STATUS), 0); /* the connection lives on */
	front_stop(&f);
}

static void a_rarp_is_announced_for_a_guests_address_only(void **state)
{
	static const uint8_t guest[8] = {0x52, 0x54, 0, 0xab, 0xcd, 0xef}, group[8] = {0x53, 0x54, 0, 0xab, 0xcd, 0xef},
			     zero[8];
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_negotiate(&f);
	assert_int_equal(ask_ack(&f, VHOST_SEND_RARP, guest, 8), 0);
	front_told(&f, "announce 52:54:00:ab:cd:ef");
	assert_int_not_equal(ask_ack(&f, VHOST_SEND_RARP, group, 8), 0);
	assert_int_not_equal(ask_ack(&f, VHOST_SEND_RARP, zero, 8), 0);
	front_told(&f, "");
	front_stop(&f);
}

static void the_configuration_space_can_be_read_in_parts_but_not_written(void **state)
{
	struct vhost_wire_config c = {.size = 12}, reply;
	struct front f;

	(void)state;
	front_start(&f, VHOST_CROSVM, VHOST_LISTEN, 4);
	front_negotiate(&f);
	front_send(&f, VHOST_GET_CONFIG, 0, &c, 12 + 12, NULL, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_CONFIG, &reply, sizeof(reply)), 12 + 12);
	assert_int_equal(reply.size, 12);
	assert_memory_equal(reply.bytes, ((uint8_t[]){0x52, 0x54, 0, 0, 0, 1, 1, 0, 4, 0, 0xdc, 0x05}), 12);

	c = (struct vhost_wire_config){.offset = 10, .size = 2}; /* the MTU, asked without a payload of its own */
	front_send(&f, VHOST_GET_CONFIG, 0, &c, 12, NULL, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_CONFIG, &reply, sizeof(reply)), 12 + 2);
	assert_int_equal(reply.offset, 10);
	assert_memory_equal(reply.bytes, ((uint8_t[]){0xdc, 0x05}), 2);

	c = (struct vhost_wire_config){.offset = 200, .size = 56}; /* behind all we know */
	front_send(&f, VHOST_GET_CONFIG, 0, &c, 12 + 56, NULL, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_CONFIG, &reply, sizeof(reply)), 12 + 56);
	assert_int_equal(reply.bytes[0] | reply.bytes[55], 0);

	c = (struct vhost_wire_config){.offset = 255, .size = 2}; /* an empty reply is how an error looks here */
	front_send(&f, VHOST_GET_CONFIG, 0, &c, 12 + 2, NULL, 0);
	assert_int_equal(front_reply(&f, VHOST_GET_CONFIG, &reply, sizeof(reply)), 0);

	c = (struct vhost_wire_config){.offset = 10, .size = 2, .bytes = {0xdc, 0x05}};
	assert_int_equal(ask_ack(&f, VHOST_SET_CONFIG, &c, 14), 0); /* changes nothing */
	c.bytes[0] = 0;
	assert_int_not_equal(ask_ack(&f, VHOST_SET_CONFIG, &c, 14), 0);
	front_told(&f, "");
	front_stop(&f);
}

static void a_new_mtu_is_told_over_the_back_ends_channel(void **state)
{
	struct vhost_wire_header h = {0};
	int pair[2];
	struct front f;

	(void)state;
	front_start(&f, VHOST_CROSVM, VHOST_LISTEN, 1);
	front_negotiate(&f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	front_send(&f, VHOST_SET_BACKEND_REQ_FD, VHOST_FLAG_NEED_REPLY, NULL, 0, &pair[1], 1);
	assert_int_equal(front_reply_u64(&f, VHOST_SET_BACKEND_REQ_FD), 0);
	close(pair[1]);
	vhost_set_mtu(f.v, 9000); /* no ring runs: the device is suspended, and silent */
	assert_int_equal(recv(pair[0], &h, sizeof(h), MSG_DONTWAIT), -1);
	front_table(&f);
	front_ring(&f, 0, NULL, NULL);
	assert_int_equal(recv(pair[0], &h, sizeof(h), MSG_DONTWAIT), sizeof(h));
	assert_int_equal(h.request, VHOST_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(h.flags, VHOST_FLAG_VERSION);
	assert_int_equal(h.size, 0);
	front_ring(&f, 1, NULL, NULL);
	vhost_set_mtu(f.v, 9000); /* it is that already */
	assert_int_equal(recv(pair[0], &h, sizeof(h), MSG_DONTWAIT), -1);
	vhost_set_mtu(f.v, 1500);
	assert_int_equal(recv(pair[0], &h, sizeof(h), MSG_DONTWAIT), sizeof(h));
	front_hang_up(&f); /* the channel goes with its connection */
	assert_int_equal(recv(pair[0], &h, sizeof(h), MSG_DONTWAIT), 0);
	close(pair[0]);
	front_stop(&f);
}

/* ---- what ends the connection ---- */

#define STATE(i, n) .payload = &(const struct vhost_wire_state){i, n}, .bytes = 8
#define U64(v)      .payload = &(const uint64_t){v}, .bytes = 8
#define REG(gpa, size, uva, off)                                                                                       \
	.payload = &(const struct vhost_wire_mem_reg){.region = {gpa, size, uva, off}}, .bytes = 40
#define ADDR(i, desc, used, avail) .payload = &(const struct vhost_wire_addr){i, 0, desc, used, avail, 0}, .bytes = 40
#define LOG(size, off)             .payload = &(const struct vhost_wire_log){size, off}, .bytes = 16
#define TABLE(t, n)                .payload = &(t), .bytes = n
#define MIB                        UINT64_C(0x100000)

static const struct vhost_wire_mem_table twice_the_same = {
	.n = 2, .region = {{0, MIB, 0x1000000, 0}, {MIB / 2, MIB, 0x9000000, MIB}}};
static const struct vhost_wire_mem_table same_uva = {
	.n = 2, .region = {{0, MIB, 0x1000000, 0}, {4 * MIB, MIB, 0x1000000, MIB}}};
static const struct vhost_wire_mem_table too_many = {.n = 33};

/* The connection is negotiated, has guest memory (2 MiB in a file of 2 MiB), and ring 0 of 4 has 256 entries. */
static const struct {
	uint32_t request;
	uint32_t flags; /* instead of the version alone */
	const void *payload;
	uint32_t bytes;  /* sent */
	uint32_t size;   /* told, if not 0: instead of bytes */
	const char *fds; /* e: eventfd, m: guest memory, s: stream socket */
	const char *reason;
} malformed[] = {
	/* headers */
	{VHOST_GET_FEATURES, .flags = 4 | 1, .reason = "GET_FEATURES: a reply"},
	{VHOST_GET_FEATURES, .flags = 2, .reason = "GET_FEATURES: version 2"},
	{VHOST_GET_FEATURES, .flags = 8, .reason = "GET_FEATURES: version 0"},
	{0, .reason = "request 0: not supported"},
	{22, .bytes = 8, .payload = "IOTLB!!!", .reason = "request 22: not supported"},
	{31, .reason = "request 31: not supported"},
	{41, .reason = "request 41: not supported"},
	{0xffffffff, .fds = "em", .reason = "request 4294967295: not supported"},
	{VHOST_GET_CONFIG, .size = 24, .reason = "GET_CONFIG: its protocol feature was not negotiated"},
	{VHOST_SET_CONFIG, .size = 24, .reason = "is the port's front_end (qemu) right?"},
	/* sizes */
	{VHOST_GET_FEATURES, U64(0), .reason = "GET_FEATURES: a payload of 8 bytes, 0 are due"},
	{VHOST_SET_FEATURES, .reason = "SET_FEATURES: a payload of 0 bytes, 8 are due"},
	{VHOST_SET_FEATURES, U64(0), .size = 7, .reason = "SET_FEATURES: a payload of 7 bytes, 8 are due"},
	{VHOST_SET_FEATURES, U64(0), .size = 9, .reason = "SET_FEATURES: a payload of 9 bytes, 8 are due"},
	{VHOST_SET_VRING_NUM, .size = 4, .reason = "SET_VRING_NUM: a payload of 4 bytes"},
	{VHOST_SET_VRING_ADDR, .size = 48, .reason = "SET_VRING_ADDR: a payload of 48 bytes"},
	{VHOST_SET_VRING_KICK, .size = 0xffffffff, .fds = "e",
	 .reason = "SET_VRING_KICK: a payload of 4294967295 bytes"},
	{VHOST_SET_MEM_TABLE, .size = 4, .fds = "m",
	 .reason = "SET_MEM_TABLE: a payload of 4 bytes, 8 to 1032 are due"},
	{VHOST_SET_MEM_TABLE, .size = 8 + 33 * 32, .reason = "SET_MEM_TABLE: a payload of 1064 bytes"},
	{VHOST_ADD_MEM_REG, .size = 32, .fds = "m", .reason = "ADD_MEM_REG: a payload of 32 bytes, 40 are due"},
	{VHOST_SET_LOG_BASE, .size = 8, .fds = "m", .reason = "SET_LOG_BASE: a payload of 8 bytes, 16 are due"},
	/* descriptors */
	{VHOST_GET_FEATURES, .fds = "e", .reason = "GET_FEATURES: 1 descriptors, 0 are due"},
	{VHOST_SET_VRING_NUM, STATE(0, 256), .fds = "eem", .reason = "SET_VRING_NUM: 3 descriptors, 0 are due"},
	{VHOST_SET_VRING_KICK, U64(0), .reason = "SET_VRING_KICK: 0 descriptors, 1 are due"},
	{VHOST_SET_VRING_CALL, U64(0), .fds = "ee", .reason = "SET_VRING_CALL: 2 descriptors, 1 are due"},
	{VHOST_SET_VRING_ERR, U64(0x100), .fds = "e", .reason = "SET_VRING_ERR: 1 descriptors, 0 are due"},
	{VHOST_SET_VRING_KICK, U64(0), .fds = "m",
	 .reason = "SET_VRING_KICK: the descriptor is neither eventfd nor pipe"},
	{VHOST_SET_VRING_CALL, U64(0), .fds = "s", .reason = "SET_VRING_CALL: the descriptor is neither"},
	{VHOST_ADD_MEM_REG, REG(0, MIB, 0, 0), .reason = "ADD_MEM_REG: 0 descriptors, 1 are due"},
	{VHOST_ADD_MEM_REG, REG(0, MIB, 0, 0), .fds = "mm", .reason = "ADD_MEM_REG: 2 descriptors"},
	{VHOST_REM_MEM_REG, REG(0, MIB, 0, 0), .fds = "mm", .reason = "REM_MEM_REG: 2 descriptors, 0 to 1 are due"},
	{VHOST_SET_LOG_BASE, LOG(64, 0), .reason = "SET_LOG_BASE: 0 descriptors"},
	{VHOST_SET_LOG_FD, .reason = "SET_LOG_FD: 0 descriptors"},
	{VHOST_SET_BACKEND_REQ_FD, .fds = "e", .reason = "SET_BACKEND_REQ_FD: the descriptor is no stream socket"},
	{VHOST_SET_MEM_TABLE, TABLE(twice_the_same, 72), .fds = "m", .reason = "2 regions and 1 descriptors"},
	{VHOST_GET_FEATURES, .fds = "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", .reason = "more than 32 descriptors"},
	/* memory */
	{VHOST_SET_MEM_TABLE, TABLE(twice_the_same, 40), .fds = "m", .reason = "2 regions in a payload of 40 bytes"},
	{VHOST_SET_MEM_TABLE, TABLE(too_many, 1032), .reason = "33 regions in a payload of 1032 bytes"},
	{VHOST_SET_MEM_TABLE, TABLE(twice_the_same, 72), .fds = "mm",
	 .reason = "SET_MEM_TABLE: region at 0x80000 overlaps"},
	{VHOST_SET_MEM_TABLE, TABLE(same_uva, 72), .fds = "mm", .reason = "SET_MEM_TABLE: region at 0x400000 overlaps"},
	{VHOST_ADD_MEM_REG, REG(FRONT_GPA + MIB, MIB, 0, 0), .fds = "m",
	 .reason = "ADD_MEM_REG: region at 0x40100000 overlaps"},
	{VHOST_ADD_MEM_REG, REG(UINT64_MAX - MIB + 2, MIB, 0, 0), .fds = "m",
	 .reason = "ADD_MEM_REG: region at 0xfffffffffff00001 wraps"},
	{VHOST_ADD_MEM_REG, REG(0, MIB, UINT64_MAX, 0), .fds = "m", .reason = "ADD_MEM_REG: region at 0x0 wraps"},
	{VHOST_ADD_MEM_REG, REG(0, 2 * MIB, 0, MIB), .fds = "m",
	 .reason = "ADD_MEM_REG: 2097152 bytes from offset 1048576 exceed"},
	{VHOST_ADD_MEM_REG, REG(0, MIB, 0, UINT64_MAX - 1), .fds = "m",
	 .reason = "ADD_MEM_REG: 1048576 bytes from offset"},
	{VHOST_ADD_MEM_REG, REG(0, 0, 0, 0), .fds = "m", .reason = "ADD_MEM_REG: 0 bytes from offset 0"},
	{VHOST_SET_LOG_BASE, LOG(0, 0), .fds = "m", .reason = "SET_LOG_BASE: 0 bytes from offset 0"},
	{VHOST_SET_LOG_BASE, LOG(4096, 2 * MIB - 4095), .fds = "m",
	 .reason = "SET_LOG_BASE: 4096 bytes from offset 2093057 exceed"},
	{VHOST_SET_LOG_BASE, LOG(UINT64_MAX, 2), .fds = "m", .reason = "SET_LOG_BASE: 18446744073709551615 bytes"},
	/* features and status */
	{VHOST_SET_FEATURES, U64(1 << 2), .reason = "SET_FEATURES: bit 2 was not offered"}, /* CTRL_GUEST_OFFLOADS */
	{VHOST_SET_FEATURES, U64(UINT64_C(1) << 63), .reason = "SET_FEATURES: bit 63 was not offered"},
	{VHOST_SET_PROTOCOL_FEATURES, U64(1 << 9), .reason = "SET_PROTOCOL_FEATURES: bit 9 was not offered"},
	{VHOST_SET_STATUS, U64(256), .reason = "SET_STATUS: 0x100 is no device status"},
	/* rings */
	{VHOST_SET_VRING_NUM, STATE(4, 256), .reason = "SET_VRING_NUM: ring 4 of 4"},
	{VHOST_SET_VRING_NUM, STATE(UINT32_MAX, 256), .reason = "SET_VRING_NUM: ring 4294967295 of 4"},
	{VHOST_SET_VRING_NUM, STATE(0, 0), .reason = "SET_VRING_NUM: 0 is not a power of two"},
	{VHOST_SET_VRING_NUM, STATE(0, 300), .reason = "SET_VRING_NUM: 300 is not a power of two"},
	{VHOST_SET_VRING_NUM, STATE(0, 65536), .reason = "SET_VRING_NUM: 65536 is not a power of two up to 32768"},
	{VHOST_SET_VRING_BASE, STATE(4, 0), .reason = "SET_VRING_BASE: ring 4 of 4"},
	{VHOST_SET_VRING_BASE, STATE(0, 65536), .reason = "SET_VRING_BASE: 65536 is no index"},
	{VHOST_GET_VRING_BASE, STATE(4, 0), .reason = "GET_VRING_BASE: ring 4 of 4"},
	{VHOST_SET_VRING_ENABLE, STATE(4, 1), .reason = "SET_VRING_ENABLE: ring 4 of 4"},
	{VHOST_SET_VRING_ENABLE, STATE(0, 2), .reason = "SET_VRING_ENABLE: 2 is neither 0 nor 1"},
	{VHOST_SET_VRING_KICK, U64(255), .fds = "e", .reason = "SET_VRING_KICK: ring 255 of 4"},
	{VHOST_SET_VRING_CALL, U64(0x104), .reason = "SET_VRING_CALL: ring 4 of 4"},
	{VHOST_SET_VRING_ADDR, ADDR(4, FRONT_UVA, FRONT_UVA, FRONT_UVA), .reason = "SET_VRING_ADDR: ring 4 of 4"},
	{VHOST_SET_VRING_ADDR, ADDR(0, FRONT_UVA + 8, FRONT_UVA, FRONT_UVA), .reason = "ring 0 is not aligned"},
	{VHOST_SET_VRING_ADDR, ADDR(0, FRONT_UVA, FRONT_UVA + 2, FRONT_UVA), .reason = "ring 0 is not aligned"},
	{VHOST_SET_VRING_ADDR, ADDR(0, FRONT_UVA, FRONT_UVA, FRONT_UVA + 1), .reason = "ring 0 is not aligned"},
	{VHOST_SET_VRING_ADDR, ADDR(0, FRONT_UVA - 16, FRONT_UVA, FRONT_UVA),
	 .reason = "ring 0 is outside the guest's memory"},
	{VHOST_SET_VRING_ADDR, ADDR(0, FRONT_UVA, FRONT_UVA + 2 * MIB - 2048, FRONT_UVA),
	 .reason = "ring 0 is outside"},
	{VHOST_SET_VRING_ADDR, ADDR(0, FRONT_UVA, FRONT_UVA, UINT64_MAX - 1), .reason = "ring 0 is outside"},
};

static int open_one(const struct front *f, char kind)
{
	switch (kind) {
	case 'm':
		return dup(f->mem_fd);
	case 's':
		return socket(AF_UNIX, SOCK_STREAM, 0);
	default:
		return front_eventfd();
	}
}

static unsigned open_all(const struct front *f, const char *kinds, int fd[64])
{
	unsigned n = 0;

	for (; kinds && kinds[n]; n++)
		fd[n] = open_one(f, kinds[n]);
	return n;
}

static void send_malformed(struct front *f, size_t i)
{
	struct {
		struct vhost_wire_header h;
		uint8_t payload[sizeof(union vhost_wire_payload)];
	} m = {.h = {malformed[i].request, malformed[i].flags ? malformed[i].flags : 1, malformed[i].bytes}};
	int fd[64];
	unsigned n = open_all(f, malformed[i].fds, fd);

	if (malformed[i].size)
		m.h.size = malformed[i].size;
	if (malformed[i].bytes)
		memcpy(m.payload, malformed[i].payload, malformed[i].bytes);
	front_bytes(f, &m, sizeof(m.h) + malformed[i].bytes, fd, n);
	while (n)
		close(fd[--n]);
}

static void each_malformed_message_ends_its_connection_and_leaks_nothing(void **state)
{
	struct front f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		unsigned before;

		front_start(&f, VHOST_QEMU, VHOST_LISTEN, 2);
		before = front_open_fds();
		front_negotiate(&f);
		front_table(&f);
		front_state(&f, VHOST_SET_VRING_NUM, 0, 256);
		front_told(&f, "");
		send_malformed(&f, i);
		front_blamed(&f, malformed[i].reason);
		if (!front_closed(&f))
			fail_msg("%s: still connected", malformed[i].reason);
		front_hang_up(&f);
		if (front_open_fds() != before)
			fail_msg("%s: %u descriptors, %u before", malformed[i].reason, front_open_fds(), before);
		front_stop(&f);
	}
}

/* ---- pieces ---- */

static void a_message_may_arrive_byte_by_byte(void **state)
{
	struct {
		struct vhost_wire_header h;
		struct vhost_wire_mem_reg reg;
	} __attribute__((packed))
	m = {.h = {VHOST_ADD_MEM_REG, VHOST_FLAG_VERSION | VHOST_FLAG_NEED_REPLY, 40}, .reg.region = front_region()};
	struct vhost_state s;
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_negotiate(&f);
	for (size_t i = 0; i < sizeof(m); i++) {
		front_no_reply(&f);
		front_bytes(&f, (char *)&m + i, 1, &f.mem_fd, i == 20); /* the descriptor may come with any of them */
	}
	assert_int_equal(front_reply_u64(&f, VHOST_ADD_MEM_REG), 0);
	vhost_state_get(f.v, &s);
	assert_int_equal(s.n_regions, 1);
	front_stop(&f);
}

static void pieces_may_not_bring_more_descriptors_than_a_message_may_have(void **state)
{
	struct vhost_wire_header h = {VHOST_SET_MEM_TABLE, 1, 8};
	int fd[20];
	unsigned before;
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	before = front_open_fds();
	front_connect(&f);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = f.mem_fd;
	front_bytes(&f, &h, 4, fd, ARRAY_SIZE(fd));
	front_told(&f, "connected");
	front_bytes(&f, &h.flags, 4, fd, ARRAY_SIZE(fd));
	front_blamed(&f, "more than 32 descriptors");
	front_hang_up(&f);
	assert_int_equal(front_open_fds(), before);
	front_stop(&f);
}

static void messages_may_arrive_together(void **state)
{
	struct vhost_wire_header m[100];
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	for (size_t i = 0; i < ARRAY_SIZE(m); i++)
		m[i] = (struct vhost_wire_header){i % 2 ? VHOST_GET_FEATURES : VHOST_GET_QUEUE_NUM, 1, 0};
	front_bytes(&f, m, sizeof(m), NULL, 0);
	for (size_t i = 0; i < ARRAY_SIZE(m); i++)
		assert_int_equal(front_reply_u64(&f, m[i].request), i % 2 ? BASE_FEATURES : 1);
	front_no_reply(&f);
	front_stop(&f);
}

static void an_end_inside_a_message_is_told(void **state)
{
	struct vhost_wire_header h = {VHOST_SET_FEATURES, 1, 8};
	int fd = front_eventfd();
	unsigned before;
	struct front f;

	(void)state;
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	before = front_open_fds();
	front_connect(&f);
	front_bytes(&f, &h, 7, &fd, 1);
	front_hang_up(&f);
	front_blamed(&f, "the connection ended inside a message's header");
	front_wait(&f, VHOST_RETRY_MS + 50);
	front_connect(&f);
	front_bytes(&f, &h, sizeof(h), &fd, 1);
	front_hang_up(&f);
	front_blamed(&f, "SET_FEATURES: the connection ended inside the message");
	assert_int_equal(front_open_fds(), before);
	close(fd);
	front_stop(&f);
}

static void who_does_not_read_replies_is_let_go(void **state)
{
	struct vhost_wire_header m[256];
	struct front f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(m); i++)
		m[i] = (struct vhost_wire_header){VHOST_GET_FEATURES, 1, 0};
	front_start(&f, VHOST_QEMU, VHOST_LISTEN, 1);
	front_connect(&f);
	front_forget(&f);
	for (int i = 0; i < 1000 && !f.told[0]; i++)
		if (send(f.sock, m, sizeof(m), MSG_NOSIGNAL) > 0)
			front_turn(&f);
	front_blamed(&f, "GET_FEATURES: its reply cannot be sent");
	front_stop(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(questions_are_answered_as_each_front_end_means_them),
		cmocka_unit_test(an_acknowledgement_comes_if_it_was_negotiated_and_asked_for),
		cmocka_unit_test(an_mtu_is_the_owners_to_refuse),
		cmocka_unit_test(a_rarp_is_announced_for_a_guests_address_only),
		cmocka_unit_test(the_configuration_space_can_be_read_in_parts_but_not_written),
		cmocka_unit_test(a_new_mtu_is_told_over_the_back_ends_channel),
		cmocka_unit_test(each_malformed_message_ends_its_connection_and_leaks_nothing),
		cmocka_unit_test(a_message_may_arrive_byte_by_byte),
		cmocka_unit_test(pieces_may_not_bring_more_descriptors_than_a_message_may_have),
		cmocka_unit_test(messages_may_arrive_together),
		cmocka_unit_test(an_end_inside_a_message_is_told),
		cmocka_unit_test(who_does_not_read_replies_is_let_go),
	};
	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
