/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <string.h>

#include "base/base.h"
#include "wire/eth.h"
#include "wire/flow.h"
#include "wire/l4.h"

/* A frame on its way through the switch (design D3).
 *
 * The front of it (the head) was copied once into the worker's memory and is what gets checked and delivered; the rest
 * (the body) is borrowed where the sender put it (guest memory, a kernel ring) and valid until the batch is returned.
 * Inside the switch a frame is always without its 802.1Q tag: `vlan` says which VLAN it belongs to. Ports that send
 * tagged get the tag put into the head just before (frame_push_tag), and taken out after.
 */
#define FRAME_HEAD_MAX  128   /* Ethernet, VLAN, IPv6 with some options, TCP with all options */
#define FRAME_ROOM_TAG  8     /* of which a tag takes VLAN_TAG_BYTES */
#define FRAME_BATCH     64    /* frames a worker handles at once */
#define FRAME_BYTES_MAX 65557 /* 64 KiB of IP, an Ethernet header and two tags */
#define FRAME_MTU_MIN   68    /* RFC 791 */
#define FRAME_MTU_MAX   65535

/* struct virtio_net_hdr (virtio 1.2, 5.1.6). */
enum {
	NET_HDR_F_NEEDS_CSUM = 1, /* the L4 checksum is not complete: its field holds the pseudo-header's sum */
	NET_HDR_F_DATA_VALID = 2, /* it was verified, or was made by us */
};
enum {
	NET_HDR_GSO_NONE = 0,
	NET_HDR_GSO_TCPV4 = 1,
	NET_HDR_GSO_TCPV6 = 4,
	NET_HDR_GSO_UDP_L4 = 5,
	NET_HDR_GSO_ECN = 0x80, /* beside TCPV4 or TCPV6: CWR is set (RFC 3168 6.1.2) */
};

/* What may be left undone in a frame, by its sender or for its receiver. */
enum {
	OFFLOAD_CSUM = 1 << 0, /* the TCP or UDP checksum; all others need it too */
	OFFLOAD_TSO4 = 1 << 1, /* cutting TCP over IPv4 */
	OFFLOAD_TSO6 = 1 << 2,
	OFFLOAD_ECN = 1 << 3,  /* in such frames CWR may be set */
	OFFLOAD_USO4 = 1 << 4, /* cutting UDP into datagrams */
	OFFLOAD_USO6 = 1 << 5,
	OFFLOAD_ALL = (1 << 6) - 1,
};

/* Checksum and segmentation work left to do, in the terms of virtio_net_hdr; all zero: none. Checked when the frame was
 * received (offload_take), so whoever has the frame may believe it: with a GSO type, NEEDS_CSUM is set, the frame is
 * longer than a segment, hdr_len is known, and IP and UDP lengths, the IPv4 checksum and the L4 checksum's seed are those
 * of the whole frame (seg_whole). Offsets count from the first byte of the frame. */
struct frame_offload {
	uint8_t flags;    /* NET_HDR_F_* */
	uint8_t gso_type; /* NET_HDR_GSO_* */
	uint16_t gso_size;
	uint16_t hdr_len; /* where the payload begins, in the head, and all that follows is payload; 0: not known */
	uint16_t csum_start;
	uint16_t csum_offset;
	bool is_ip6; /* with NET_HDR_GSO_UDP_L4, which does not tell by itself */
};

struct frame {
	uint8_t *data;           /* the head, in room[] */
	struct wire_piece *body; /* borrowed */
	uint32_t len;            /* bytes, head and body, without FCS */
	uint32_t head_len;       /* bytes of it at data[] */
	uint16_t n_body;
	uint16_t vlan; /* VID, set by forwarding */
	uint16_t pcp;  /* 802.1Q priority and DEI bits (of a TCI: 0xf000) */
	bool tagged;   /* a tag is in the head just now */
	bool hash_known;
	struct frame_offload off;
	uint32_t hash; /* flow hash; valid if hash_known */
	/* The head, with space for a tag before it; aligned so that moves of 16 bytes stay within cache lines. */
	uint8_t room[FRAME_ROOM_TAG + FRAME_HEAD_MAX];
} cache_aligned;

/* Frames received together, in the worker's memory. rx appends to it. */
struct frame_batch {
	unsigned n;
	unsigned n_spans;
	struct frame f[FRAME_BATCH];
	struct wire_piece spans[2048]; /* holds at least one chain of the longest kind */
};

/* What a receiver must take (OFFLOAD_*) to be given the frame as it is. */
static inline uint32_t frame_needs(const struct frame *f)
{
	uint32_t needs = f->off.flags & NET_HDR_F_NEEDS_CSUM ? OFFLOAD_CSUM : 0;

	switch (f->off.gso_type & ~NET_HDR_GSO_ECN) {
	case NET_HDR_GSO_TCPV4:
		needs |= OFFLOAD_TSO4;
		break;
	case NET_HDR_GSO_TCPV6:
		needs |= OFFLOAD_TSO6;
		break;
	case NET_HDR_GSO_UDP_L4:
		needs |= f->off.is_ip6 ? OFFLOAD_USO6 : OFFLOAD_USO4;
		break;
	}
	return f->off.gso_type & NET_HDR_GSO_ECN ? needs | OFFLOAD_ECN : needs;
}

/* Where rx begins to write the head of frame @f; sets f->data. */
static inline uint8_t *frame_head_begin(struct frame *f)
{
	f->data = f->room + FRAME_ROOM_TAG;
	f->tagged = false;
	f->hash_known = false;
	f->off = (struct frame_offload){0};
	return f->data;
}

/* Put a tag with @tci into the head / take it out again. Offload offsets move with it. Hot. */
static inline void frame_push_tag(struct frame *f, uint16_t tci)
{
	f->data -= VLAN_TAG_BYTES;
	memmove(f->data, f->data + VLAN_TAG_BYTES, 12);
	be16_put(f->data + 12, ETH_P_VLAN);
	be16_put(f->data + 14, tci);
	f->len += VLAN_TAG_BYTES;
	f->head_len += VLAN_TAG_BYTES;
	f->off.csum_start = (uint16_t)(f->off.csum_start + VLAN_TAG_BYTES);
	if (f->off.hdr_len)
		f->off.hdr_len = (uint16_t)(f->off.hdr_len + VLAN_TAG_BYTES);
	f->tagged = true;
}

static inline void frame_pop_tag(struct frame *f)
{
	memmove(f->data + VLAN_TAG_BYTES, f->data, 12);
	f->data += VLAN_TAG_BYTES;
	f->len -= VLAN_TAG_BYTES;
	f->head_len -= VLAN_TAG_BYTES;
	f->off.csum_start = (uint16_t)(f->off.csum_start - VLAN_TAG_BYTES);
	if (f->off.hdr_len)
		f->off.hdr_len = (uint16_t)(f->off.hdr_len - VLAN_TAG_BYTES);
	f->tagged = false;
}

/* Bytes to skip at the front of the head for the frame as it was checked, without a pushed tag: that may be one more than
 * wire_parse() looks behind. Only the MACs are not there. Hot. */
static inline uint32_t frame_tag_bytes(const struct frame *f)
{
	return f->tagged ? VLAN_TAG_BYTES : 0;
}

/* The flow hash (wire_flow_hash), computed once. Hot. */
static inline uint32_t frame_hash(struct frame *f)
{
	if (!f->hash_known) {
		f->hash = wire_flow_hash(f->data, f->head_len);
		f->hash_known = true;
	}
	return f->hash;
}
