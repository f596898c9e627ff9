/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/flow.h"

#include <errno.h>

#include "base/bytes.h"
#include "wire/eth.h"
#include "wire/ip.h"

#define TAGS_MAX       2
#define EXT_UNIT_BYTES 8 /* RFC 8200 4.3: extension headers are multiples of this */

static bool is_tag(uint16_t type)
{
	return type == ETH_P_VLAN || type == ETH_P_QINQ;
}

static int parse_eth(struct wire_view *v, const uint8_t *head, uint32_t head_len)
{
	uint32_t off = ETH_HEAD_BYTES;

	if (head_len < off)
		return -EINVAL;
	v->ethertype = be16_get(head + ETH_TYPE_OFF);
	while (is_tag(v->ethertype) && v->n_tags < TAGS_MAX) {
		if (head_len < off + VLAN_TAG_BYTES)
			return -EINVAL;
		if (v->n_tags == 0) {
			v->vlan_tpid = v->ethertype;
			v->vlan_tci = be16_get(head + off);
		}
		v->ethertype = be16_get(head + off + 2);
		v->n_tags++;
		off += VLAN_TAG_BYTES;
	}
	v->l3_off = (uint16_t)off;
	return 0;
}

/* How much of its header a protocol must have in the head to be looked at. */
static uint32_t l4_fixed_bytes(uint8_t proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return TCP_HEAD_MIN;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return UDP_HEAD_BYTES;
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		return 12; /* RFC 9260 3.1, RFC 4340 5.1 (the short one) */
	default:
		return 0;
	}
}

static bool has_ports(uint8_t proto)
{
	return l4_fixed_bytes(proto) != 0;
}

static void set_l4(struct wire_view *v, uint32_t off, uint32_t head_len)
{
	if (off > head_len || head_len - off < l4_fixed_bytes(v->l4_proto))
		v->is_bad = true;
	else
		v->l4_off = (uint16_t)off;
}

/* RFC 791 3.1: is there a source route among the options in [opt, end)? */
static bool ip4_is_routed(const uint8_t *opt, const uint8_t *end)
{
	while (opt < end && opt[0] != IP4_OPT_END) {
		if (opt[0] == IP4_OPT_LSRR || opt[0] == IP4_OPT_SSRR)
			return true;
		if (opt[0] == IP4_OPT_NOP)
			opt++;
		else if (end - opt < 2 || opt[1] < 2)
			return false;
		else
			opt += opt[1];
	}
	return false;
}

static void parse_ip4(struct wire_view *v, const uint8_t *head, uint32_t head_len)
{
	const uint8_t *ip = head + v->l3_off;
	uint32_t ihl_bytes;
	uint16_t frag;

	v->is_bad = head_len - v->l3_off < IP4_HEAD_MIN || ip[0] >> 4 != 4 || (ip[0] & 15) * 4 < IP4_HEAD_MIN;
	if (v->is_bad)
		return;
	ihl_bytes = (ip[0] & 15u) * 4;
	frag = be16_get(ip + IP4_FRAG_OFF);
	v->ip_version = 4;
	v->ip_bytes = be16_get(ip + IP4_LEN_OFF);
	v->l4_proto = ip[IP4_PROTO_OFF];
	v->is_fragment = frag & IP4_FRAG_MASK;
	if (unlikely(ihl_bytes > IP4_HEAD_MIN && ihl_bytes <= head_len - v->l3_off))
		v->is_routed = ip4_is_routed(ip + IP4_HEAD_MIN, ip + ihl_bytes);
	if (!(frag & IP4_OFFSET_MASK))
		set_l4(v, v->l3_off + ihl_bytes, head_len);
}

/* Step over the extension header at @ext, of which the first 8 bytes are in the head. Returns its length, or 0 if no
 * L4 header can follow. Sets l4_proto to what it announces. */
static uint32_t step_ext(struct wire_view *v, const uint8_t *ext)
{
	uint8_t kind = v->l4_proto;
	uint16_t frag;

	v->l4_proto = ext[0];
	switch (kind) {
	case IPPROTO_FRAGMENT:
		frag = be16_get(ext + 2);
		v->is_fragment |= (frag & IP6_FRAG_MASK) != 0; /* RFC 6946: else a datagram in one piece */
		return frag & IP6_OFFSET_MASK ? 0 : EXT_UNIT_BYTES;
	case IPPROTO_ROUTING:
		v->is_routed |= ext[3] != 0; /* RFC 8200 4.4: segments left */
		break;
	}
	return (ext[1] + 1u) * EXT_UNIT_BYTES;
}

static bool is_ext(uint8_t proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_FRAGMENT ||
	       proto == IPPROTO_DSTOPTS;
}

static void parse_ip6(struct wire_view *v, const uint8_t *head, uint32_t head_len)
{
	const uint8_t *ip = head + v->l3_off;
	uint32_t off = v->l3_off + IP6_HEAD_BYTES;

	v->is_bad = head_len < off || ip[0] >> 4 != 6;
	if (v->is_bad)
		return;
	v->ip_version = 6;
	v->ip_bytes = IP6_HEAD_BYTES + be16_get(ip + IP6_LEN_OFF);
	v->l4_proto = ip[IP6_NEXT_OFF];
	for (unsigned i = 0; is_ext(v->l4_proto); i++) {
		uint32_t step;

		v->is_bad = i == WIRE_IP6_EXT_MAX || off > head_len || head_len - off < EXT_UNIT_BYTES;
		if (v->is_bad)
			return;
		step = step_ext(v, head + off);
		if (!step)
			return;
		off += step;
	}
	set_l4(v, off, head_len);
}

int wire_parse(struct wire_view *v, const uint8_t *head, uint32_t head_len)
{
	int err;

	*v = (struct wire_view){0};
	err = parse_eth(v, head, head_len);
	if (err) {
		*v = (struct wire_view){0};
		return err;
	}
	if (v->ethertype == ETH_P_IP4)
		parse_ip4(v, head, head_len);
	else if (v->ethertype == ETH_P_IP6)
		parse_ip6(v, head, head_len);
	return 0;
}

/* Odd constants without pattern: the first digits of the fractions of the square roots of 2, 3, 5. */
#define K1 UINT64_C(0x6a09e667f3bcc909)
#define K2 UINT64_C(0xbb67ae8584caa73b)
#define K3 UINT64_C(0x3c6ef372fe94f82b)

/* Both halves of the product, so that every bit of @a and @b reaches every part of the result. */
static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t end_hash(uint64_t addr_high, uint64_t addr_low, uint16_t port)
{
	return mix(addr_high ^ K1, (addr_low + port * K3) ^ K2);
}

/* Adding the two ends makes the direction disappear; mixing each before keeps what they have in common from cancelling. */
static uint32_t flow_hash(uint64_t one_end, uint64_t other_end, uint8_t proto)
{
	uint64_t h = mix(one_end + other_end + proto, K3);

	return (uint32_t)(h ^ h >> 32);
}

uint32_t wire_view_hash(const struct wire_view *v, const uint8_t *head)
{
	const uint8_t *ip = head + v->l3_off;
	bool ports = v->l4_off && !v->is_fragment && has_ports(v->l4_proto);
	uint16_t from = ports ? be16_get(head + v->l4_off) : 0;
	uint16_t to = ports ? be16_get(head + v->l4_off + 2) : 0;

	if (v->ip_version == 4)
		return flow_hash(end_hash(0, be32_get(ip + IP4_SRC_OFF), from),
				 end_hash(0, be32_get(ip + IP4_DST_OFF), to), v->l4_proto);
	if (v->ip_version == 6) {
		const uint8_t *src = ip + IP6_SRC_OFF, *dst = ip + IP6_DST_OFF;
		/* RFC 8200 4.5: fragments of one datagram need not agree on the protocol */
		uint8_t proto = v->is_fragment ? IPPROTO_FRAGMENT : v->l4_proto;

		return flow_hash(end_hash(be64_get(src), be64_get(src + 8), from),
				 end_hash(be64_get(dst), be64_get(dst + 8), to), proto);
	}
	if (!v->l3_off)
		return 0;
	return flow_hash(end_hash(0, mac_u64_at(head), 0), end_hash(0, mac_u64_at(head + 6), 0), 0);
}

uint32_t wire_flow_hash(const uint8_t *head, uint32_t head_len)
{
	struct wire_view v;

	return wire_parse(&v, head, head_len) ? 0 : wire_view_hash(&v, head);
}
