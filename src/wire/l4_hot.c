/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/l4.h"

#include <errno.h>

#include "base/bytes.h"
#include "wire/csum.h"
#include "wire/flow.h"
#include "wire/ip.h"

/* A checksum to complete, checked. All offsets count from the first byte of the frame. */
struct job {
	struct wire_view v;
	uint32_t start; /* of the summed bytes */
	uint32_t field; /* of the checksum */
	uint32_t end;   /* of the summed bytes: that of the IP packet */
};

/* Which field may be written: see "Trust" in l4.h. */
static bool field_is_allowed(const struct job *j)
{
	bool is_outermost = j->start == j->v.l4_off;
	uint32_t payload = j->v.l4_off + (uint32_t)UDP_HEAD_BYTES;

	if (!j->v.l4_off || j->v.is_fragment || j->start < j->v.l4_off)
		return false;
	switch (j->v.l4_proto) {
	case IPPROTO_TCP:
		return is_outermost && j->field == j->start + TCP_CSUM_OFF;
	case IPPROTO_UDP:
		return is_outermost ? j->field == j->start + UDP_CSUM_OFF : j->start >= payload;
	case IPPROTO_SCTP: /* none of these has a checksum that this method could complete */
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		return false;
	default:
		return true;
	}
}

static int job_init(struct job *j, const uint8_t *head, uint32_t head_len, uint64_t frame_len, uint32_t csum_start,
		    uint32_t csum_offset)
{
	/* Both come from fields of 16 bits. Without this, the sum below could wrap. */
	if (csum_start > UINT16_MAX || csum_offset > UINT16_MAX || wire_parse(&j->v, head, head_len))
		return -EINVAL;
	j->start = csum_start;
	j->field = csum_start + csum_offset;
	j->end = j->v.l3_off + j->v.ip_bytes;
	if (j->end > frame_len || j->field + 2 > j->end || j->field + 2 > head_len || !field_is_allowed(j))
		return -EINVAL;
	return 0;
}

int l4_csum_check(const uint8_t *head, uint32_t head_len, uint32_t frame_len, uint32_t csum_start, uint32_t csum_offset)
{
	struct job j;

	return job_init(&j, head, head_len, frame_len, csum_start, csum_offset);
}

/* Does the IP header tell all that is in the pseudo-header? */
static bool seed_is_known(const struct job *j)
{
	return j->start == j->v.l4_off && !j->v.is_routed &&
	       (j->v.l4_proto == IPPROTO_TCP || j->v.l4_proto == IPPROTO_UDP);
}

static struct csum pseudo(const struct job *j, const uint8_t *head)
{
	const uint8_t *ip = head + j->v.l3_off;
	uint32_t l4_bytes = j->end - j->start;

	if (j->v.ip_version == 4)
		return csum_pseudo4(ip + IP4_SRC_OFF, ip + IP4_DST_OFF, j->v.l4_proto, l4_bytes);
	return csum_pseudo6(ip + IP6_SRC_OFF, ip + IP6_DST_OFF, j->v.l4_proto, l4_bytes);
}

int l4_csum_seed(uint8_t *head, uint32_t head_len, uint32_t frame_len, uint32_t csum_start, uint32_t csum_offset)
{
	struct csum c;
	struct job j;
	int err = job_init(&j, head, head_len, frame_len, csum_start, csum_offset);

	if (err)
		return err;
	if (seed_is_known(&j)) {
		c = pseudo(&j, head);
		be16_put(head + j.field, csum_seed(&c));
	}
	return 0;
}

/* Sum [start, end) of the frame. */
static void sum_range(struct csum *c, const struct job *j, const uint8_t *head, uint32_t head_len,
		      const struct wire_piece *rest, unsigned n)
{
	uint32_t left = j->end - j->start;
	uint32_t bytes = min_u32(left, head_len - j->start);

	csum_add(c, head + j->start, bytes);
	left -= bytes;
	for (unsigned i = 0; i < n && left; i++) {
		bytes = min_u32(left, rest[i].len);
		csum_add(c, rest[i].p, bytes);
		left -= bytes;
	}
}

int l4_csum_finish(uint8_t *head, uint32_t head_len, const struct wire_piece *rest, unsigned n, uint32_t csum_start,
		   uint32_t csum_offset)
{
	uint64_t frame_len = head_len;
	struct csum c = {0};
	struct job j;
	uint16_t sum;
	int err;

	for (unsigned i = 0; i < n; i++)
		frame_len += rest[i].len;
	err = job_init(&j, head, head_len, frame_len, csum_start, csum_offset);
	if (err)
		return err;
	if (seed_is_known(&j)) {
		c = pseudo(&j, head);
		be16_put(head + j.field, 0);
	} /* else the sender's seed is in the field, and so in the sum */
	sum_range(&c, &j, head, head_len, rest, n);
	sum = csum_done(&c);
	/* RFC 768: 0 would mean that there is no checksum. Elsewhere the two are equal, and TCP sends the usual one. */
	if (sum == 0 && j.v.l4_proto != IPPROTO_TCP)
		sum = 0xffff;
	be16_put(head + j.field, sum);
	return 0;
}
