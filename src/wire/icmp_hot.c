/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/icmp.h"

#include "base/bytes.h"
#include "wire/csum.h"
#include "wire/eth.h"
#include "wire/flow.h"
#include "wire/ip.h"

#define ICMP_HEAD_BYTES 8
#define ICMP_CSUM_OFF   2
#define ICMP_MTU_OFF    4  /* in ICMPv4 the upper half is unused */
#define L4_QUOTED_MIN   8u /* RFC 792: what senders need to know the connection */
#define ANSWER_TTL      64

#define ICMP4_UNREACHABLE 3
#define ICMP4_FRAG_NEEDED 4 /* a code */
#define ICMP4_ECHO_REPLY  0
#define ICMP4_ECHO        8
#define ICMP4_TIMESTAMP   13
#define ICMP4_TIME_REPLY  14
#define ICMP6_TOO_BIG     2
#define ICMP6_QUERIES     128 /* RFC 4443 2.1: messages from here on are no errors */
#define ICMP6_REDIRECT    137 /* but this one counts as one: 2.4(e.2) */

#define IP4_BYTES_MAX 576  /* of an answer: RFC 1812 4.3.2.3 */
#define IP6_BYTES_MAX 1280 /* RFC 4443 2.4(c) */
#define IP4_MTU_MIN   68
#define IP6_MTU_MIN   1280
#define IP4_DF        0x4000
#define IP4_TOS       0xc0 /* internetwork control: RFC 1812 4.3.2.5 */

static bool mac_is_ones(const uint8_t *p)
{
	return !mac_is_multicast(eth_dst(p)) && !mac_is_zero(eth_dst(p));
}

/* 0/8 is "this network", 127/8 is inside the host, from 224/4 on are groups, experiments and the broadcast
 * (RFC 1122 3.2.1.3). Broadcasts of a subnet are known by their MAC only. */
static bool ip4_is_ones(const uint8_t *addr)
{
	return addr[0] != 0 && addr[0] != 127 && addr[0] < 224;
}

/* Neither unspecified nor loopback (::, ::1), nor a group. */
static bool ip6_is_ones(const uint8_t *addr)
{
	return addr[0] != 0xff && (be64_get(addr) != 0 || be64_get(addr + 8) > 1);
}

static bool both_are_ones(const struct wire_view *v, const uint8_t *head)
{
	const uint8_t *ip = head + v->l3_off;

	if (!mac_is_ones(head) || !mac_is_ones(head + sizeof(struct mac)))
		return false;
	if (v->ip_version == 4)
		return ip4_is_ones(ip + IP4_SRC_OFF) && ip4_is_ones(ip + IP4_DST_OFF);
	return ip6_is_ones(ip + IP6_SRC_OFF) && ip6_is_ones(ip + IP6_DST_OFF);
}

/* An error must not be answered with an error; what is not known for a query may be one. */
static bool may_be_error(const struct wire_view *v, uint8_t type)
{
	if (v->l4_proto == IPPROTO_ICMP)
		return type != ICMP4_ECHO && type != ICMP4_ECHO_REPLY && type != ICMP4_TIMESTAMP &&
		       type != ICMP4_TIME_REPLY;
	return v->l4_proto == IPPROTO_ICMPV6 && (type < ICMP6_QUERIES || type == ICMP6_REDIRECT);
}

static bool is_due(const struct wire_view *v, const uint8_t *head, uint32_t head_len, uint32_t frame_len, uint32_t mtu)
{
	/* Without l4_off it is not IP, bad, or a later fragment. */
	if (v->n_tags || !v->l4_off || head_len - v->l4_off < L4_QUOTED_MIN)
		return false;
	if (v->ip_bytes <= mtu || v->ip_bytes > frame_len - v->l3_off)
		return false;
	if (mtu < (v->ip_version == 4 ? IP4_MTU_MIN : IP6_MTU_MIN) || may_be_error(v, head[v->l4_off]))
		return false;
	if (v->ip_version == 4 && !csum_ip4_ok(head + v->l3_off, v->l4_off - v->l3_off))
		return false;
	return both_are_ones(v, head);
}

static void put_ip4(uint8_t *ip, const uint8_t *was, uint32_t icmp_bytes)
{
	memset(ip, 0, IP4_HEAD_MIN);
	ip[0] = 0x45;
	ip[1] = IP4_TOS;
	be16_put(ip + IP4_LEN_OFF, (uint16_t)(IP4_HEAD_MIN + icmp_bytes));
	be16_put(ip + IP4_FRAG_OFF, IP4_DF); /* so its id may be 0 (RFC 6864 4.1) */
	ip[IP4_PROTO_OFF - 1] = ANSWER_TTL;
	ip[IP4_PROTO_OFF] = IPPROTO_ICMP;
	memcpy(ip + IP4_SRC_OFF, was + IP4_DST_OFF, IP4_ADDR_BYTES);
	memcpy(ip + IP4_DST_OFF, was + IP4_SRC_OFF, IP4_ADDR_BYTES);
	csum_ip4_set(ip, IP4_HEAD_MIN);
}

static void put_ip6(uint8_t *ip, const uint8_t *was, uint32_t icmp_bytes)
{
	memset(ip, 0, IP6_HEAD_BYTES);
	ip[0] = 0x60;
	be16_put(ip + IP6_LEN_OFF, (uint16_t)icmp_bytes);
	ip[IP6_NEXT_OFF] = IPPROTO_ICMPV6;
	ip[IP6_NEXT_OFF + 1] = ANSWER_TTL;
	memcpy(ip + IP6_SRC_OFF, was + IP6_DST_OFF, IP6_ADDR_BYTES);
	memcpy(ip + IP6_DST_OFF, was + IP6_SRC_OFF, IP6_ADDR_BYTES);
}

/* The message, whose quote is in place. @c: {0}, or the sum of the pseudo-header. */
static void put_icmp(uint8_t *icmp, uint8_t type, uint8_t code, uint32_t mtu, struct csum c, uint32_t icmp_bytes)
{
	icmp[0] = type;
	icmp[1] = code;
	be16_put(icmp + ICMP_CSUM_OFF, 0);
	be32_put(icmp + ICMP_MTU_OFF, mtu);
	csum_add(&c, icmp, icmp_bytes);
	be16_put(icmp + ICMP_CSUM_OFF, csum_done(&c));
}

/* How much of the packet goes into the answer, whose headers are @front bytes; 0: there is no room for what it takes. */
static uint32_t quoted_bytes(const struct wire_view *v, uint32_t front, uint32_t out_size, uint32_t head_len)
{
	uint32_t least = v->l4_off - v->l3_off + L4_QUOTED_MIN;
	uint32_t most = (v->ip_version == 4 ? IP4_BYTES_MAX : IP6_BYTES_MAX) + ETH_HEAD_BYTES - front;

	if (out_size < front + least)
		return 0;
	return min_u32(min_u32(most, out_size - front), min_u32(v->ip_bytes, head_len - v->l3_off));
}

static void put_eth(uint8_t *out, const uint8_t *head)
{
	memcpy(out, head + sizeof(struct mac), sizeof(struct mac));
	memcpy(out + sizeof(struct mac), head, sizeof(struct mac));
	memcpy(out + ETH_TYPE_OFF, head + ETH_TYPE_OFF, 2);
}

uint32_t icmp_too_big(uint8_t *out, uint32_t out_size, const uint8_t *head, uint32_t head_len, uint32_t frame_len,
		      uint32_t mtu)
{
	uint8_t *ip = out + ETH_HEAD_BYTES, *icmp;
	uint32_t ip_head, front, quoted;
	struct csum c = {0};
	struct wire_view v;

	if (head_len > frame_len || wire_parse(&v, head, head_len) || !is_due(&v, head, head_len, frame_len, mtu))
		return 0;
	ip_head = v.ip_version == 4 ? IP4_HEAD_MIN : IP6_HEAD_BYTES;
	front = ETH_HEAD_BYTES + ip_head + ICMP_HEAD_BYTES;
	quoted = quoted_bytes(&v, front, out_size, head_len);
	if (quoted == 0)
		return 0;
	icmp = ip + ip_head;
	put_eth(out, head);
	memcpy(out + front, head + v.l3_off, quoted);
	if (v.ip_version == 4) {
		put_ip4(ip, head + v.l3_off, ICMP_HEAD_BYTES + quoted);
		put_icmp(icmp, ICMP4_UNREACHABLE, ICMP4_FRAG_NEEDED, mtu, c, ICMP_HEAD_BYTES + quoted);
	} else {
		put_ip6(ip, head + v.l3_off, ICMP_HEAD_BYTES + quoted);
		c = csum_pseudo6(ip + IP6_SRC_OFF, ip + IP6_DST_OFF, IPPROTO_ICMPV6, ICMP_HEAD_BYTES + quoted);
		put_icmp(icmp, ICMP6_TOO_BIG, 0, mtu, c, ICMP_HEAD_BYTES + quoted);
	}
	return front + quoted;
}
