/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "wire/csum.h"
#include "wire/flow.h"

/* Segmentation in software: one long frame of a guest becomes the frames a wire or a lesser receiver can take (TSO for
 * TCP over IPv4 and IPv6, USO for UDP: VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6, _UDP_L4).
 *
 * The payload is not touched: a segment is a header of its own and a range of the frame. The segments of a frame have
 * no more in common with what the guest wrote about lengths and checksums than this: IP lengths, UDP lengths, IPv4
 * header checksums and the seed of the L4 checksum are computed here, not believed (guests send them 0 or unfinished).
 *
 * Use: seg_begin(), then seg_next() until false. Each segment is a frame whose L4 checksum is still to be completed: pass
 * it on as such with s->csum_start and s->csum_offset, or complete it with seg_finish().
 */

enum seg_kind { SEG_TCP4, SEG_TCP6, SEG_UDP };

/* Linux goes down to 8 bytes of payload in a segment (TCP_MIN_GSO_SIZE): that makes this many of 64 KiB. A frame that
 * would make more is refused. It is the caller's to spread even these over several batches, if it must. */
#define SEG_COUNT_MAX 8192

struct seg {
	const uint8_t *head; /* borrowed from seg_begin() until the last seg_next() */
	struct wire_view v;
	uint32_t head_bytes;    /* of every segment: Ethernet, tags, IP, TCP or UDP, with all options */
	uint32_t payload_bytes; /* of the whole frame */
	uint32_t gso_bytes;     /* payload of every segment but the last */
	uint32_t count;         /* segments this frame makes; at least 1 */
	uint32_t csum_start;    /* of every segment */
	uint32_t csum_offset;
	uint32_t done; /* segments returned by seg_next() */
	/* what stays the same in every segment: */
	struct csum ip_sum;     /* IPv4 header, without length, id and checksum */
	struct csum l4_sum;     /* L4 header, without sequence number, flags, urgent pointer, length and checksum */
	struct csum pseudo_sum; /* pseudo-header, without length */
};

/* Prepare to cut a frame of @frame_len bytes, of which the first @head_len are at @head, into pieces of @gso_bytes of
 * payload. Nothing is kept to free.
 * -EINVAL: @gso_bytes is 0; the frame is not of @kind, or is a fragment, or its headers are bad, or do not end within
 * the head; a segment would not fit into IP's 64 KiB; more than SEG_COUNT_MAX segments; a SYN or RST to be cut in two;
 * a source route (the destination of the pseudo-header is not known). Hot. */
int seg_begin(struct seg *s, const uint8_t *head, uint32_t head_len, uint32_t frame_len, enum seg_kind kind,
	      uint32_t gso_bytes) must_check;

/* The next segment: its header is written to @head_out (s->head_bytes, must not overlap the head), its payload is
 * @payload_len bytes of the original frame from byte @payload_off on, counted from the first byte of the frame.
 * False: there are no more. Hot. */
bool seg_next(struct seg *s, uint8_t *head_out, uint32_t *head_out_len, uint32_t *payload_off, uint32_t *payload_len);

/* Complete the L4 checksum of the segment that seg_next() has just written to @head. @payload: the sum of its payload
 * alone, begun with {0}. Hot. */
void seg_finish(const struct seg *s, uint8_t *head, const struct csum *payload);

/* The header of the whole frame made right for somebody else who will cut it (a kernel, a NIC, a guest with GSO): IP
 * and UDP length, IPv4 header checksum, and the seed for all of the payload, as Linux wants it. Writes s->head_bytes to
 * @head_out, which may be the head itself. -EMSGSIZE: the frame is longer than an IP header can say. Hot. */
int seg_whole(const struct seg *s, uint8_t *head_out) must_check;
