/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/frame.h"
#include "wire/seg.h"

/* Work that a sender left undone (struct frame_offload) and a receiver does not take, done in software. Private to fwd.
 *
 * Thread: any worker, each with frames and room of its own.
 */

/* Frames that one batch may be cut into: a full batch of super-frames makes fewer, at the segment sizes in use; a sender
 * that asks for crumbs gets no more of its worker. */
#define CUTS_MAX 8192

/* The shortest payload of a TCP segment that is cut smaller than its sender asked, to fit the receiver's MTU. */
#define CUT_PAYLOAD_MIN 8

/* Complete the L4 checksum of a frame that is not to be cut. -EINVAL: the frame is not what it says. Hot. */
int finish_csum(struct frame *f) must_check;

/* A frame being cut. */
struct cut {
	struct seg seg;
	const struct frame *f;
	unsigned piece;   /* of f->body: where the next payload byte is, */
	uint32_t skipped; /* and how far in it */
};

/* Bytes of each frame that @f makes at most: what counts against a receiver's MTU. Hot. */
static inline uint32_t frame_longest(const struct frame *f)
{
	return f->off.gso_type == NET_HDR_GSO_NONE ? f->len : (uint32_t)f->off.hdr_len + f->off.gso_size;
}

/* Begin to cut @f (which has a GSO type) into frames of @bytes_max at most; TCP is cut smaller than its sender asked if
 * need be, datagrams are what they are. -EMSGSIZE: they are too long. -EINVAL: the frame is not what it says. Hot. */
int cut_begin(struct cut *c, const struct frame *f, uint32_t bytes_max) must_check;

/* Fill @b with the next segments, their bodies borrowed from the frame. @csum: complete their checksums; else that stays to
 * be done. Returns how many there are; 0: no more. Hot. */
unsigned cut_next(struct cut *c, struct frame_batch *b, bool csum);
