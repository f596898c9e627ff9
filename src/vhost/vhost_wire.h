/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>

#include "base/base.h"

/* vhost-user messages as they travel over the socket (QEMU docs/interop/vhost-user.rst, "Message Specification"):
 * a header, its payload, and descriptors beside them. Numbers are in the machine's byte order. Private to vhost.
 */

enum vhost_request {
	VHOST_GET_FEATURES = 1,
	VHOST_SET_FEATURES = 2,
	VHOST_SET_OWNER = 3,
	VHOST_RESET_OWNER = 4,
	VHOST_SET_MEM_TABLE = 5,
	VHOST_SET_LOG_BASE = 6,
	VHOST_SET_LOG_FD = 7,
	VHOST_SET_VRING_NUM = 8,
	VHOST_SET_VRING_ADDR = 9,
	VHOST_SET_VRING_BASE = 10,
	VHOST_GET_VRING_BASE = 11,
	VHOST_SET_VRING_KICK = 12,
	VHOST_SET_VRING_CALL = 13,
	VHOST_SET_VRING_ERR = 14,
	VHOST_GET_PROTOCOL_FEATURES = 15,
	VHOST_SET_PROTOCOL_FEATURES = 16,
	VHOST_GET_QUEUE_NUM = 17,
	VHOST_SET_VRING_ENABLE = 18,
	VHOST_SEND_RARP = 19,
	VHOST_NET_SET_MTU = 20,
	VHOST_SET_BACKEND_REQ_FD = 21,
	VHOST_GET_CONFIG = 24,
	VHOST_SET_CONFIG = 25,
	VHOST_RESET_DEVICE = 34,
	VHOST_GET_MAX_MEM_SLOTS = 36,
	VHOST_ADD_MEM_REG = 37,
	VHOST_REM_MEM_REG = 38,
	VHOST_SET_STATUS = 39,
	VHOST_GET_STATUS = 40,
};

/* Requests of the back end, over the descriptor of SET_BACKEND_REQ_FD. */
enum { VHOST_BACKEND_CONFIG_CHANGE_MSG = 2 };

struct vhost_wire_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload, bytes */
};
static_assert(sizeof(struct vhost_wire_header) == 12, "header");

#define VHOST_FLAG_VERSION_MASK 0x3u
#define VHOST_FLAG_VERSION      0x1u
#define VHOST_FLAG_REPLY        0x4u
#define VHOST_FLAG_NEED_REPLY   0x8u

struct vhost_wire_state {
	uint32_t index;
	uint32_t num;
};
static_assert(sizeof(struct vhost_wire_state) == 8, "vring state description");

struct vhost_wire_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc, used, avail; /* addresses of the front end */
	uint64_t log;               /* guest-physical address to log writes to the used ring at */
};
static_assert(sizeof(struct vhost_wire_addr) == 40, "vring address description");
#define VHOST_ADDR_LOG 0x1u

/* The u64 of SET_VRING_KICK, _CALL and _ERR. */
#define VHOST_VRING_INDEX_MASK 0xffu
#define VHOST_VRING_NO_FD      0x100u

struct vhost_wire_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};
static_assert(sizeof(struct vhost_wire_region) == 32, "memory region");

/* The specification knows 8 regions; cloud-hypervisor and crosvm send up to 32, with a descriptor for each. */
#define VHOST_TABLE_REGIONS_MAX 32
#define VHOST_FDS_MAX           32

struct vhost_wire_mem_table {
	uint32_t n;
	uint32_t padding;
	struct vhost_wire_region region[VHOST_TABLE_REGIONS_MAX];
};
static_assert(sizeof(struct vhost_wire_mem_table) == 8 + 32 * 32, "memory regions description");
#define VHOST_TABLE_HEAD_BYTES 8

struct vhost_wire_mem_reg {
	uint64_t padding;
	struct vhost_wire_region region;
};
static_assert(sizeof(struct vhost_wire_mem_reg) == 40, "single memory region description");

struct vhost_wire_log {
	uint64_t size;
	uint64_t offset;
};
static_assert(sizeof(struct vhost_wire_log) == 16, "log description");

#define VHOST_CONFIG_MAX 256 /* bytes of configuration space that any front end asks for */

struct vhost_wire_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t bytes[VHOST_CONFIG_MAX];
};
static_assert(sizeof(struct vhost_wire_config) == 12 + 256, "virtio device config space");
#define VHOST_CONFIG_HEAD_BYTES 12

union vhost_wire_payload {
	uint64_t u64;
	struct vhost_wire_state state;
	struct vhost_wire_addr addr;
	struct vhost_wire_mem_table table;
	struct vhost_wire_mem_reg reg;
	struct vhost_wire_log log;
	struct vhost_wire_config config;
	uint8_t bytes[sizeof(struct vhost_wire_mem_table)]; /* the largest */
};

/* struct virtio_net_config (virtio 1.2, 5.1.4), little-endian. */
struct vhost_net_config {
	uint8_t mac[6];
	uint16_t status;
	uint16_t max_virtqueue_pairs;
	uint16_t mtu;
	uint32_t speed; /* Mb/s */
	uint8_t duplex;
	uint8_t rss_max_key_size;
	uint16_t rss_max_indirection_table_length;
	uint32_t supported_hash_types;
};
static_assert(sizeof(struct vhost_net_config) == 24, "virtio_net_config");

#define VIRTIO_NET_S_LINK_UP      1
#define VIRTIO_NET_SPEED_UNKNOWN  UINT32_C(0xffffffff)
#define VIRTIO_NET_DUPLEX_UNKNOWN 0xff
