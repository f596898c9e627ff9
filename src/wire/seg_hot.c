/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/seg.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/copy.h"
#include "wire/csum.h"
#include "wire/ip.h"

#define IP_LEN_MAX 65535

static bool kind_matches(enum seg_kind kind, const struct wire_view *v)
{
	switch (kind) {
	case SEG_TCP4:
		return v->ip_version == 4 && v->l4_proto == IPPROTO_TCP;
	case SEG_TCP6:
		return v->ip_version == 6 && v->l4_proto == IPPROTO_TCP;
	case SEG_UDP:
		return v->ip_version != 0 && v->l4_proto == IPPROTO_UDP;
	}
	return false;
}

/* Length of the L4 header as it says itself, or 0 if that is less than it must be. */
static uint32_t l4_head_bytes(const struct wire_view *v, const uint8_t *head)
{
	uint32_t doff_bytes;

	if (v->l4_proto == IPPROTO_UDP)
		return UDP_HEAD_BYTES;
	doff_bytes = (head[v->l4_off + TCP_DOFF_OFF] >> 4) * 4u;
	return doff_bytes < TCP_HEAD_MIN ? 0 : doff_bytes;
}

/* What the length field of the IP header says of a packet with this payload. */
static uint32_t ip_len_field(const struct seg *s, uint32_t payload_bytes)
{
	uint32_t not_counted = s->v.ip_version == 6 ? IP6_HEAD_BYTES : 0;

	return s->head_bytes - s->v.l3_off - not_counted + payload_bytes;
}

static int check_cut(const struct seg *s)
{
	uint8_t flags = s->v.l4_proto == IPPROTO_TCP ? s->head[s->v.l4_off + TCP_FLAGS_OFF] : 0;

	if (s->count > SEG_COUNT_MAX || ip_len_field(s, min_u32(s->gso_bytes, s->payload_bytes)) > IP_LEN_MAX)
		return -EINVAL;
	if (s->count > 1 && flags & (TCP_FLAG_SYN | TCP_FLAG_RST))
		return -EINVAL;
	return 0;
}

/* The L4 header without what differs from segment to segment. */
static void sum_l4(struct seg *s)
{
	const uint8_t *l4 = s->head + s->v.l4_off;

	if (s->v.l4_proto == IPPROTO_UDP) {
		csum_add(&s->l4_sum, l4, UDP_LEN_OFF);
		return;
	}
	csum_add(&s->l4_sum, l4, TCP_SEQ_OFF);
	csum_add(&s->l4_sum, l4 + TCP_ACK_OFF, TCP_DOFF_OFF - TCP_ACK_OFF);
	csum_add(&s->l4_sum, l4 + TCP_WINDOW_OFF, TCP_CSUM_OFF - TCP_WINDOW_OFF);
	csum_add(&s->l4_sum, l4 + TCP_HEAD_MIN, s->head_bytes - s->v.l4_off - TCP_HEAD_MIN);
}

/* The part of the sums that is the same in every segment. */
static void sum_what_stays(struct seg *s)
{
	const uint8_t *ip = s->head + s->v.l3_off;

	sum_l4(s);
	if (s->v.ip_version == 6) {
		s->pseudo_sum = csum_pseudo6(ip + IP6_SRC_OFF, ip + IP6_DST_OFF, s->v.l4_proto, 0);
		return;
	}
	s->pseudo_sum = csum_pseudo4(ip + IP4_SRC_OFF, ip + IP4_DST_OFF, s->v.l4_proto, 0);
	csum_add(&s->ip_sum, ip, IP4_LEN_OFF);
	csum_add(&s->ip_sum, ip + IP4_FRAG_OFF, IP4_CSUM_OFF - IP4_FRAG_OFF);
	csum_add(&s->ip_sum, ip + IP4_SRC_OFF, s->v.l4_off - s->v.l3_off - IP4_SRC_OFF);
}

int seg_begin(struct seg *s, const uint8_t *head, uint32_t head_len, uint32_t frame_len, enum seg_kind kind,
	      uint32_t gso_bytes)
{
	uint32_t l4_bytes;

	*s = (struct seg){.head = head, .gso_bytes = gso_bytes};
	if (gso_bytes == 0 || head_len > frame_len || wire_parse(&s->v, head, head_len))
		return -EINVAL;
	if (!kind_matches(kind, &s->v) || !s->v.l4_off || s->v.is_fragment || s->v.is_routed)
		return -EINVAL;
	l4_bytes = l4_head_bytes(&s->v, head);
	if (l4_bytes == 0 || l4_bytes > head_len - s->v.l4_off)
		return -EINVAL;
	s->head_bytes = s->v.l4_off + l4_bytes;
	s->payload_bytes = frame_len - s->head_bytes;
	s->count = s->payload_bytes ? (s->payload_bytes - 1) / gso_bytes + 1 : 1;
	s->csum_start = s->v.l4_off;
	s->csum_offset = s->v.l4_proto == IPPROTO_TCP ? TCP_CSUM_OFF : UDP_CSUM_OFF;
	sum_what_stays(s);
	return check_cut(s);
}

static void put_ip4(const struct seg *s, uint8_t *ip, uint32_t payload_bytes, uint32_t index)
{
	uint16_t len = (uint16_t)ip_len_field(s, payload_bytes);
	uint16_t id = (uint16_t)(be16_get(ip + IP4_ID_OFF) + index);
	struct csum c = s->ip_sum;

	csum_add16(&c, len);
	csum_add16(&c, id);
	be16_put(ip + IP4_LEN_OFF, len);
	be16_put(ip + IP4_ID_OFF, id);
	be16_put(ip + IP4_CSUM_OFF, csum_done(&c));
}

/* The urgent pointer counts from the segment's own sequence number; segments behind it have none (RFC 9293 3.8.5). */
static void put_urgent(uint8_t *tcp, uint32_t done_bytes)
{
	uint16_t urg = be16_get(tcp + TCP_URG_OFF);

	if (urg > done_bytes) {
		be16_put(tcp + TCP_URG_OFF, (uint16_t)(urg - done_bytes));
	} else {
		be16_put(tcp + TCP_URG_OFF, 0);
		tcp[TCP_FLAGS_OFF] &= (uint8_t)~TCP_FLAG_URG;
	}
}

static void put_tcp(uint8_t *tcp, uint32_t done_bytes, bool is_last)
{
	uint16_t clear = is_last ? 0 : TCP_FLAG_FIN | TCP_FLAG_PSH;

	if (done_bytes)
		clear |= TCP_FLAG_CWR; /* RFC 3168 6.1.2: said once */
	be32_put(tcp + TCP_SEQ_OFF, be32_get(tcp + TCP_SEQ_OFF) + done_bytes);
	/* The whole word, as seg_finish() will read it: a load that finds only a part in a store under way has to wait. */
	be16_put(tcp + TCP_DOFF_OFF, be16_get(tcp + TCP_DOFF_OFF) & (uint16_t)~clear);
	if (done_bytes && tcp[TCP_FLAGS_OFF] & TCP_FLAG_URG)
		put_urgent(tcp, done_bytes);
}

static void put_seed(const struct seg *s, uint8_t *head, uint32_t payload_bytes)
{
	struct csum c = s->pseudo_sum;

	csum_add32(&c, s->head_bytes - s->v.l4_off + payload_bytes);
	be16_put(head + s->csum_start + s->csum_offset, csum_seed(&c));
}

/* Make @head, a copy of the frame's, that of segment @index with @payload_bytes. */
static void put_segment(const struct seg *s, uint8_t *head, uint32_t payload_bytes, uint32_t index, bool is_last)
{
	uint8_t *ip = head + s->v.l3_off;
	uint8_t *l4 = head + s->v.l4_off;

	if (s->v.ip_version == 4)
		put_ip4(s, ip, payload_bytes, index);
	else
		be16_put(ip + IP6_LEN_OFF, (uint16_t)ip_len_field(s, payload_bytes));
	if (s->v.l4_proto == IPPROTO_TCP)
		put_tcp(l4, index * s->gso_bytes, is_last);
	else
		be16_put(l4 + UDP_LEN_OFF, (uint16_t)(UDP_HEAD_BYTES + payload_bytes));
	put_seed(s, head, payload_bytes);
}

bool seg_next(struct seg *s, uint8_t *head_out, uint32_t *head_out_len, uint32_t *payload_off, uint32_t *payload_len)
{
	uint32_t done_bytes = s->done * s->gso_bytes;

	if (s->done == s->count)
		return false;
	*head_out_len = s->head_bytes;
	*payload_off = s->head_bytes + done_bytes;
	*payload_len = min_u32(s->gso_bytes, s->payload_bytes - done_bytes);
	copy_bytes(head_out, s->head, s->head_bytes);
	put_segment(s, head_out, *payload_len, s->done, s->done + 1 == s->count);
	s->done++;
	return true;
}

void seg_finish(const struct seg *s, uint8_t *head, const struct csum *payload)
{
	uint8_t *l4 = head + s->csum_start, *field = l4 + s->csum_offset;
	struct csum c = s->l4_sum;
	uint16_t sum;

	if (s->v.l4_proto == IPPROTO_UDP) {
		csum_add16(&c, be16_get(l4 + UDP_LEN_OFF));
	} else {
		csum_add32(&c, be32_get(l4 + TCP_SEQ_OFF));
		csum_add16(&c, be16_get(l4 + TCP_DOFF_OFF));
		csum_add16(&c, be16_get(l4 + TCP_URG_OFF));
	}
	csum_add16(&c, be16_get(field)); /* the seed */
	c.sum += payload->sum;           /* headers are even */
	sum = csum_done(&c);
	if (sum == 0 && s->v.l4_proto == IPPROTO_UDP)
		sum = 0xffff; /* RFC 768 */
	be16_put(field, sum);
}

int seg_whole(const struct seg *s, uint8_t *head_out)
{
	if (ip_len_field(s, s->payload_bytes) > IP_LEN_MAX)
		return -EMSGSIZE;
	memmove(head_out, s->head, s->head_bytes);
	put_segment(s, head_out, s->payload_bytes, 0, true);
	return 0;
}
