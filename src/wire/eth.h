/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/bytes.h"

/* Ethernet (IEEE 802.3) and VLAN tags (IEEE 802.1Q): sizes, EtherTypes, MAC addresses. */

#define ETH_HEAD_BYTES 14   /* destination, source, EtherType */
#define ETH_FRAME_MIN  60   /* without FCS; shorter frames are padded on the wire */
#define ETH_TYPE_OFF   12   /* of the EtherType, or of the outermost tag */
#define ETH_LENGTH_MAX 1500 /* up to here the EtherType field is an 802.3 length */

#define VLAN_TAG_BYTES 4      /* TPID and TCI */
#define VLAN_VID_MASK  0x0fff /* of a TCI: VLAN identifier */
#define VLAN_PCP_MASK  0xe000 /* priority */
#define VLAN_DEI_MASK  0x1000 /* drop eligible */
#define VLAN_VID_NONE  0      /* a tag that carries a priority only */

/* EtherTypes. Those that <linux/if_ether.h> names alike have the same text there, so both headers can be included. */
#define ETH_P_IP4  0x0800
#define ETH_P_ARP  0x0806
#define ETH_P_RARP 0x8035
#define ETH_P_VLAN 0x8100 /* 802.1Q customer tag */
#define ETH_P_IP6  0x86dd
#define ETH_P_QINQ 0x88a8 /* 802.1ad service tag */

struct mac {
	uint8_t b[6]; /* as on the wire */
};

#define MAC_TEXT_BYTES 18 /* "52:54:00:12:34:56" and its zero */

/* The address as a number below 2^48, first byte most significant. @p: 6 bytes at any address. */
static inline uint64_t mac_u64_at(const uint8_t *p)
{
	return (uint64_t)be16_get(p) << 32 | be32_get(p + 2);
}

static inline uint64_t mac_u64(struct mac m)
{
	return mac_u64_at(m.b);
}

/* The reverse; bits 48 to 63 of @v are ignored. */
static inline struct mac mac_from_u64(uint64_t v)
{
	struct mac m;

	be16_put(m.b, (uint16_t)(v >> 32));
	be32_put(m.b + 2, (uint32_t)v);
	return m;
}

/* Destination and source of a frame of at least ETH_HEAD_BYTES. */
static inline struct mac eth_dst(const uint8_t *head)
{
	struct mac m;

	memcpy(m.b, head, sizeof(m.b));
	return m;
}

static inline struct mac eth_src(const uint8_t *head)
{
	return eth_dst(head + 6);
}

static inline bool mac_equal(struct mac a, struct mac b)
{
	return mac_u64(a) == mac_u64(b);
}

/* A group address: multicast or broadcast. */
static inline bool mac_is_multicast(struct mac m)
{
	return m.b[0] & 1;
}

static inline bool mac_is_broadcast(struct mac m)
{
	return mac_u64(m) == UINT64_C(0xffffffffffff);
}

static inline bool mac_is_zero(struct mac m)
{
	return mac_u64(m) == 0;
}

/* Read "52:54:00:12:34:56": six pairs of hexadecimal digits in either case with colons between, nothing before or
 * after. -EINVAL: anything else; *m is left alone. */
int mac_parse(const char *text, struct mac *m) must_check;

/* Write the address in lower case to @text and return it. */
const char *mac_format(struct mac m, char text[MAC_TEXT_BYTES]);
