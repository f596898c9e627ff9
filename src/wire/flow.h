/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* What a frame is, read from the checked copy of its first bytes.
 *
 * Trust: the bytes come from a guest or a peer; every length in them is a claim. Nothing beyond the given head is read,
 *        and the work is bounded whatever they say.
 */
struct wire_view {
	uint16_t ethertype; /* behind the tags; up to ETH_LENGTH_MAX it is a length (802.3) */
	uint16_t vlan_tpid; /* of the outermost tag, if n_tags > 0 */
	uint16_t vlan_tci;
	uint8_t n_tags;     /* 0 to 2; what follows a second tag is not looked at as a tag */
	uint8_t ip_version; /* 4, 6, or 0: not IP, or not even its fixed header is sound and in the head */
	uint8_t l4_proto;   /* IPPROTO_*, behind IPv6's extension headers; ESP and AH end the walk and are an L4 here */
	bool is_fragment;   /* part of an IP datagram */
	bool is_routed;     /* source routed: the destination in the IP header may not be the final one */
	bool is_bad;        /* says it is IP, but a header lies, or does not end within the head */
	uint16_t l3_off;    /* behind Ethernet header and tags */
	uint16_t l4_off;    /* the L4 header; 0: none to look at (not IP, a later fragment, bad) */
	uint32_t ip_bytes;  /* what the IP header claims: itself and all that follows; not compared with anything */
};
/* If l4_off is not 0, the fixed part of a TCP, UDP, SCTP, DCCP or UDP-Lite header is in the head whole. Of any other
 * protocol there may be nothing. */

/* More extension headers than this in one packet make it bad: nobody sends them, and a walk must end. */
#define WIRE_IP6_EXT_MAX 8

/* Read @head_len bytes at @head. -EINVAL: not even an Ethernet header with its tags; *v is all zero then. Hot. */
int wire_parse(struct wire_view *v, const uint8_t *head, uint32_t head_len) must_check;

/* A number that is the same for all frames of a flow, in both directions: from addresses, protocol and ports; without
 * the ports for fragments and for protocols that have none; from the MACs if ip_version is 0. Tags do not matter.
 * Well spread in all its bits. It has no secret: who chooses addresses and ports can choose the value, so it may share
 * out work but must not index a table that suffers from collisions. 0 if there is no Ethernet header. Hot. */
uint32_t wire_flow_hash(const uint8_t *head, uint32_t head_len);
/* The same for a head that wire_parse() has read already. */
uint32_t wire_view_hash(const struct wire_view *v, const uint8_t *head);
