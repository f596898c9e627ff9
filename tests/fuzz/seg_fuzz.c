/* SPDX-License-Identifier: Apache-2.0 */
/* Any head, of a frame of any length, cut into pieces of any size.
 *
 * What must hold if it can be cut: the segments are the frame's payload, once and in order; each is an IP packet of its
 * own with the L4 header where it was, whose checksum comes out the same in both ways of completing it; and all of them
 * made into one again are what seg_whole() says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "wire/ip.h"
#include "wire/l4.h"
#include "wire/seg.h"

#define HEAD_MAX      256
#define FRAME_MAX     70000
#define SEGMENTS_SEEN 64 /* that are looked at closely: the first of a frame */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t payload[FRAME_MAX];

static void expect(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "does not hold: %s\n", what);
		abort();
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 151 >> 3);
	return 0;
}

/* Of a frame, the bytes behind the head: the input ends with the head, and the rest is always the same. */
static void add_payload(struct csum *c, struct wire_piece piece[2], const uint8_t *head, uint32_t head_len,
			uint32_t off, uint32_t len)
{
	uint32_t in_head = off < head_len ? min_u32(len, head_len - off) : 0;

	piece[0] = (struct wire_piece){head + min_u32(off, head_len), in_head};
	piece[1] = (struct wire_piece){payload + off + in_head, len - in_head};
	csum_add(c, piece[0].p, piece[0].len);
	csum_add(c, piece[1].p, piece[1].len);
}

/* The segment whose header is @out is a packet like the frame it was cut from. */
static void check_packet(const struct seg *s, const uint8_t *out, uint32_t len)
{
	struct wire_view v;

	expect(wire_parse(&v, out, s->head_bytes) == 0, "a segment is a frame");
	expect(v.l4_off == s->v.l4_off && v.l4_proto == s->v.l4_proto && !v.is_fragment, "of the same kind");
	expect(v.l3_off + v.ip_bytes == s->head_bytes + len, "its IP length");
	if (v.ip_version == 4)
		expect(csum_ip4_ok(out + v.l3_off, v.l4_off - v.l3_off), "its IP checksum");
}

static void check_checksum(const struct seg *s, uint8_t *out, const uint8_t *head, uint32_t head_len, uint32_t off,
			   uint32_t len)
{
	struct wire_piece piece[2];
	struct csum c = {0};
	uint8_t other[HEAD_MAX];

	memcpy(other, out, s->head_bytes);
	add_payload(&c, piece, head, head_len, off, len);
	expect(l4_csum_finish(other, s->head_bytes, piece, 2, s->csum_start, s->csum_offset) == 0,
	       "its checksum can be completed");
	seg_finish(s, out, &c);
	expect(memcmp(out, other, s->head_bytes) == 0, "both ways");
}

static void cut(struct seg *s, const uint8_t *head, uint32_t head_len, uint32_t frame_len)
{
	uint8_t *out = malloc(s->head_bytes);
	uint32_t out_len, off, len, end = s->head_bytes, n = 0;

	expect(out, "memory");
	while (seg_next(s, out, &out_len, &off, &len)) {
		expect(out_len == s->head_bytes && out_len <= head_len && off == end, "segments follow each other");
		expect(len == s->gso_bytes || n + 1 == s->count, "only the last is short");
		if (n++ < SEGMENTS_SEEN) {
			check_packet(s, out, len);
			check_checksum(s, out, head, head_len, off, len);
		}
		end += len;
	}
	expect(n == s->count && end == frame_len, "all of the frame is cut");
	if (seg_whole(s, out) == 0) {
		check_packet(s, out, frame_len - s->head_bytes);
		check_checksum(s, out, head, head_len, s->head_bytes, frame_len - s->head_bytes);
	}
	free(out);
}

/* Kind, GSO size, and how much longer than its head the frame is; then the head. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t head_len, frame_len;
	uint8_t *head;
	struct seg s;

	if (size < 5)
		return 0;
	head_len = min_u32((uint32_t)size - 5, HEAD_MAX);
	frame_len = min_u32(head_len + be16_get(data + 3), FRAME_MAX);
	head = malloc(head_len + 1);
	expect(head, "memory");
	memcpy(head + 1, data + 5, head_len); /* so that its end is the end of memory */
	if (seg_begin(&s, head + 1, head_len, frame_len, (enum seg_kind)(data[0] % 4), be16_get(data + 1)) == 0)
		cut(&s, head + 1, head_len, frame_len);
	free(head);
	return 0;
}
