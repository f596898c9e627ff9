/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/merge.h"

#include "wire/csum.h"
#include "wire/seg.h"

#define IP_OFF        ETH_HEAD_BYTES
#define TCP4_OFF      (IP_OFF + IP4_HEAD_MIN)
#define TCP6_OFF      (IP_OFF + IP6_HEAD_BYTES)
#define IP4_PLAIN     0x45  /* version 4, a header without options */
#define IP_BYTES_MAX  65535 /* for IPv6 too, whose header need not be counted: frames have room for so much */
#define TCP_FLAGS_PSH htobe64((uint64_t)TCP_FLAG_PSH << 16) /* among the 8 bytes from TCP_ACK_OFF on */

/* Words in the machine's own byte order, to compare and to sum. */
static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool differ64(const uint8_t *a, const uint8_t *b)
{
	return load64(a) != load64(b);
}

static bool differ32(const uint8_t *a, const uint8_t *b)
{
	return load32(a) != load32(b);
}

/* The TCP segment at @tcp_off of a packet that ends at @ip_end, all counted from the first byte of the frame. */
static enum merge_look look_tcp(struct merge_seg *m, const uint8_t *head, uint32_t head_len, uint32_t frame_len,
				uint32_t tcp_off, uint32_t ip_end)
{
	const uint8_t *tcp = head + tcp_off;
	uint32_t doff_bytes = (tcp[TCP_DOFF_OFF] >> 4) * 4u;
	uint32_t hdr_bytes = tcp_off + doff_bytes;

	m->head = head;
	m->tcp_off = (uint16_t)tcp_off;
	m->hdr_bytes = (uint16_t)hdr_bytes;
	m->payload_bytes = (uint16_t)(ip_end - hdr_bytes);
	/* CWR is said once (RFC 3168 6.1.2), so a frame that has it stays by itself. Padding would get into the payload. */
	m->is_data = ip_end == frame_len && ip_end > hdr_bytes && hdr_bytes <= head_len && doff_bytes >= TCP_HEAD_MIN &&
		     (tcp[TCP_FLAGS_OFF] & ~(TCP_FLAG_PSH | TCP_FLAG_ECE)) == TCP_FLAG_ACK;
	return MERGE_SEGMENT;
}

enum merge_look merge_look_ip4(struct merge_seg *m, const uint8_t *head, uint32_t head_len, uint32_t frame_len)
{
	const uint8_t *ip = head + IP_OFF;

	if (head_len < TCP4_OFF + TCP_HEAD_MIN || ip[0] != IP4_PLAIN || be16_get(ip + IP4_FRAG_OFF) & IP4_FRAG_MASK)
		return MERGE_ENDS_ALL;
	return look_tcp(m, head, head_len, frame_len, TCP4_OFF, IP_OFF + (uint32_t)be16_get(ip + IP4_LEN_OFF));
}

/* May TCP follow behind this header of IPv6? */
static bool may_hide_tcp(uint8_t next)
{
	return next == IPPROTO_TCP || next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_DSTOPTS;
}

enum merge_look merge_look_ip6(struct merge_seg *m, const uint8_t *head, uint32_t head_len, uint32_t frame_len)
{
	const uint8_t *ip = head + IP_OFF;
	uint8_t next = ip[IP6_NEXT_OFF];

	if (!may_hide_tcp(next))
		return MERGE_NOTHING;
	if (next != IPPROTO_TCP || head_len < TCP6_OFF + TCP_HEAD_MIN || ip[0] >> 4 != 6)
		return MERGE_ENDS_ALL;
	return look_tcp(m, head, head_len, frame_len, TCP6_OFF, TCP6_OFF + (uint32_t)be16_get(ip + IP6_LEN_OFF));
}

static bool is_ip4(const struct merge_seg *m)
{
	return m->tcp_off == TCP4_OFF;
}

uint32_t merge_key(const struct merge_seg *m)
{
	const uint8_t *ip = m->head + IP_OFF;
	uint64_t ports = load32(m->head + m->tcp_off), h;

	if (is_ip4(m)) {
		h = load64(ip + IP4_SRC_OFF);
	} else {
		h = load64(ip + IP6_SRC_OFF) ^ load64(ip + IP6_DST_OFF);
		h ^= load64(ip + IP6_SRC_OFF + 8) * 3 ^ load64(ip + IP6_DST_OFF + 8) * 5;
	}
	h = (h ^ ports << 16) *
	    UINT64_C(0x9e3779b97f4a7c15); /* the fraction of the golden ratio: bits without pattern */
	return (uint32_t)(h >> 32);
}

/* Addresses and ports. */
static bool is_same_flow(const struct merge_seg *a, const struct merge_seg *b)
{
	const uint8_t *x = a->head + IP_OFF, *y = b->head + IP_OFF;

	if (a->tcp_off != b->tcp_off || differ32(a->head + a->tcp_off, b->head + b->tcp_off))
		return false;
	if (is_ip4(a))
		return !differ64(x + IP4_SRC_OFF, y + IP4_SRC_OFF);
	return !differ64(x + IP6_SRC_OFF, y + IP6_SRC_OFF) && !differ64(x + IP6_SRC_OFF + 8, y + IP6_SRC_OFF + 8) &&
	       !differ64(x + IP6_DST_OFF, y + IP6_DST_OFF) && !differ64(x + IP6_DST_OFF + 8, y + IP6_DST_OFF + 8);
}

/* Is the checksum of a header without options the one that we would write? */
static bool ip4_csum_is_right(const uint8_t *ip)
{
	uint64_t a = load64(ip), b = load64(ip + 8);
	uint64_t sum = (a & UINT32_MAX) + (a >> 32) + (b & UINT32_MAX) + (b >> 32) + load32(ip + 16);

	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	/* All ones are equal to 0, which is what the checksum of a header is then (RFC 1624 3). */
	return sum == UINT16_MAX && be16_get(ip + IP4_CSUM_OFF) != UINT16_MAX;
}

/* Service class, id, flags and fragment, TTL, and both checksums: that of the first frame is asked for only here, when
 * there is something to merge with it. */
static bool ip4_follows(const struct merge_run *run, const uint8_t *first, const uint8_t *next)
{
	uint16_t id = (uint16_t)(be16_get(first + IP4_ID_OFF) + run->count);

	return first[1] == next[1] && be16_get(next + IP4_ID_OFF) == id &&
	       !differ32(first + IP4_FRAG_OFF, next + IP4_FRAG_OFF) && ip4_csum_is_right(next) &&
	       (run->count > 1 || ip4_csum_is_right(first));
}

/* Traffic class and flow label, next header and hop limit. */
static bool ip6_follows(const uint8_t *first, const uint8_t *next)
{
	return !differ32(first, next) && first[IP6_NEXT_OFF + 1] == next[IP6_NEXT_OFF + 1];
}

static bool tcp_follows(const struct merge_run *run, const uint8_t *first, const uint8_t *next, uint32_t tcp_bytes)
{
	uint64_t differs = load64(first + TCP_ACK_OFF) ^ load64(next + TCP_ACK_OFF);

	/* acknowledgement, header length, flags, window */
	if (differs & ~TCP_FLAGS_PSH ||
	    be32_get(next + TCP_SEQ_OFF) != be32_get(first + TCP_SEQ_OFF) + run->payload_bytes)
		return false;
	if (be16_get(first + TCP_URG_OFF) != be16_get(next + TCP_URG_OFF))
		return false;
	for (uint32_t i = TCP_HEAD_MIN; i < tcp_bytes; i += 4)
		if (differ32(first + i, next + i))
			return false;
	return true;
}

static bool sizes_fit(const struct merge_run *run, const struct merge_seg *m)
{
	uint32_t ip_bytes = run->first.hdr_bytes - IP_OFF + run->payload_bytes + m->payload_bytes;

	return m->payload_bytes <= run->first.payload_bytes && ip_bytes <= IP_BYTES_MAX && run->count < SEG_COUNT_MAX;
}

static bool follows(const struct merge_run *run, const struct merge_seg *m)
{
	const uint8_t *first = run->first.head, *next = m->head;
	uint32_t tcp_off = m->tcp_off;

	if (run->is_closed || !m->is_data || !sizes_fit(run, m))
		return false;
	/* both MACs: bytes 0 to 7 and 4 to 11 */
	if (differ64(first, next) || differ64(first + 4, next + 4))
		return false;
	if (!tcp_follows(run, first + tcp_off, next + tcp_off, run->first.hdr_bytes - tcp_off))
		return false;
	return is_ip4(m) ? ip4_follows(run, first + IP_OFF, next + IP_OFF) : ip6_follows(first + IP_OFF, next + IP_OFF);
}

static bool has_psh(const struct merge_seg *m)
{
	return m->head[m->tcp_off + TCP_FLAGS_OFF] & TCP_FLAG_PSH;
}

bool merge_begin(struct merge_run *run, const struct merge_seg *m)
{
	if (has_psh(m))
		return false;
	*run = (struct merge_run){.first = *m, .payload_bytes = m->payload_bytes, .count = 1};
	return true;
}

enum merge_answer merge_try(struct merge_run *run, const struct merge_seg *m)
{
	if (!is_same_flow(&run->first, m))
		return MERGE_OTHER;
	if (!follows(run, m)) {
		run->is_closed = true;
		return MERGE_MISFIT;
	}
	run->payload_bytes += m->payload_bytes;
	run->count++;
	run->is_pushed = has_psh(m);
	run->is_closed = run->is_pushed || m->payload_bytes < run->first.payload_bytes;
	return MERGE_APPENDED;
}

void merge_finish(const struct merge_run *run, uint8_t *head)
{
	const struct merge_seg *first = &run->first;
	uint8_t *ip = head + IP_OFF, *tcp = head + first->tcp_off;
	uint32_t tcp_bytes = merge_frame_bytes(run) - first->tcp_off;
	struct csum c;

	if (run->is_pushed)
		tcp[TCP_FLAGS_OFF] |= TCP_FLAG_PSH;
	if (is_ip4(first)) {
		be16_put(ip + IP4_LEN_OFF, (uint16_t)(IP4_HEAD_MIN + tcp_bytes));
		csum_ip4_set(ip, IP4_HEAD_MIN);
		c = csum_pseudo4(ip + IP4_SRC_OFF, ip + IP4_DST_OFF, IPPROTO_TCP, tcp_bytes);
	} else {
		be16_put(ip + IP6_LEN_OFF, (uint16_t)tcp_bytes);
		c = csum_pseudo6(ip + IP6_SRC_OFF, ip + IP6_DST_OFF, IPPROTO_TCP, tcp_bytes);
	}
	be16_put(tcp + TCP_CSUM_OFF, csum_seed(&c));
}
