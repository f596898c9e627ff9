/* SPDX-License-Identifier: Apache-2.0 */
#include "fwd/finish.h"

#include <errno.h>

#include "wire/l4.h"

int finish_csum(struct frame *f)
{
	int err = l4_csum_finish(f->data, f->head_len, f->body, f->n_body, f->off.csum_start, f->off.csum_offset);

	if (!err)
		f->off = (struct frame_offload){.flags = NET_HDR_F_DATA_VALID};
	return err;
}

static enum seg_kind kind_of(const struct frame *f)
{
	switch (f->off.gso_type & ~NET_HDR_GSO_ECN) {
	case NET_HDR_GSO_TCPV4:
		return SEG_TCP4;
	case NET_HDR_GSO_TCPV6:
		return SEG_TCP6;
	default:
		return SEG_UDP;
	}
}

int cut_begin(struct cut *c, const struct frame *f, uint32_t bytes_max)
{
	enum seg_kind kind = kind_of(f);
	uint32_t payload = f->off.gso_size;

	if (frame_longest(f) > bytes_max) {
		if (kind == SEG_UDP || bytes_max < (uint32_t)f->off.hdr_len + CUT_PAYLOAD_MIN)
			return -EMSGSIZE;
		payload = bytes_max - f->off.hdr_len;
	}
	*c = (struct cut){.f = f};
	return seg_begin(&c->seg, f->data, f->head_len, f->len, kind, payload);
}

static void borrow(struct frame_batch *b, struct frame *s, const uint8_t *p, uint32_t len)
{
	b->spans[b->n_spans++] = (struct wire_piece){.p = p, .len = len};
	s->n_body++;
}

/* Lend @s the next @len bytes of the frame's body. */
static void borrow_body(struct cut *c, struct frame_batch *b, struct frame *s, uint32_t len)
{
	while (len) {
		const struct wire_piece *from = &c->f->body[c->piece];
		uint32_t part = min_u32(len, from->len - c->skipped);

		if (part)
			borrow(b, s, from->p + c->skipped, part);
		len -= part;
		c->skipped += part;
		if (c->skipped == from->len) {
			c->piece++;
			c->skipped = 0;
		}
	}
}

/* A segment whose checksum is left to its receiver. */
static void leave_csum(const struct cut *c, struct frame *s)
{
	s->off.flags = NET_HDR_F_NEEDS_CSUM;
	s->off.csum_start = (uint16_t)c->seg.csum_start;
	s->off.csum_offset = (uint16_t)c->seg.csum_offset;
	s->off.hdr_len = (uint16_t)c->seg.head_bytes;
}

static void complete_csum(const struct cut *c, struct frame *s)
{
	struct csum payload = {0};

	for (unsigned i = 0; i < s->n_body; i++)
		csum_add(&payload, s->body[i].p, s->body[i].len);
	seg_finish(&c->seg, s->data, &payload);
	s->off.flags = NET_HDR_F_DATA_VALID;
}

/* The next segment; false: there is none. */
static bool cut_one(struct cut *c, struct frame_batch *b, bool csum)
{
	struct frame *s = &b->f[b->n];
	uint8_t *head = frame_head_begin(s);
	uint32_t off, len, in_head;

	if (!seg_next(&c->seg, head, &s->head_len, &off, &len))
		return false;
	s->len = s->head_len + len;
	s->body = &b->spans[b->n_spans];
	s->n_body = 0;
	in_head = off < c->f->head_len ? min_u32(len, c->f->head_len - off) : 0;
	if (in_head)
		borrow(b, s, c->f->data + off, in_head);
	borrow_body(c, b, s, len - in_head);
	s->vlan = c->f->vlan;
	s->pcp = c->f->pcp;
	if (csum)
		complete_csum(c, s);
	else
		leave_csum(c, s);
	b->n++;
	return true;
}

/* Is there room for one more segment, whatever pieces its payload is in? */
static bool has_room(const struct cut *c, const struct frame_batch *b)
{
	return b->n < FRAME_BATCH && ARRAY_SIZE(b->spans) - b->n_spans > (unsigned)c->f->n_body - c->piece + 1;
}

unsigned cut_next(struct cut *c, struct frame_batch *b, bool csum)
{
	b->n = b->n_spans = 0;
	while (has_room(c, b) && cut_one(c, b, csum))
		;
	return b->n;
}
