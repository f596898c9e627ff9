/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* Completing a TCP, UDP or other L4 checksum that the sender left to do: "needs checksum" of virtio 1.2, 5.1.6.2, and
 * CHECKSUM_PARTIAL of Linux: sum everything from csum_start on, store the result at csum_start + csum_offset.
 *
 * Frames to be segmented are not checked here but by seg_begin(): their IP length need not be true yet.
 *
 * Trust: csum_start and csum_offset come from a guest. What they say is checked against the headers, so that completing
 *        a checksum cannot rewrite anything that was looked at before: a MAC, a tag, an IP address, a port.
 */

/* A piece of a frame that lies elsewhere, borrowed. */
struct wire_piece {
	const uint8_t *p;
	uint32_t len;
};

/* May the checksum of this frame be completed by l4_csum_finish()? @frame_len: head and all that follows.
 * -EINVAL if not: the frame is not IP, or a fragment, or its headers are bad (struct wire_view); csum_start lies before
 * the L4 header; the field lies beyond the head or the packet, or is not the one of TCP or UDP; or the IP header claims
 * more than there is. Hot. */
int l4_csum_check(const uint8_t *head, uint32_t head_len, uint32_t frame_len, uint32_t csum_start,
		  uint32_t csum_offset) must_check;

/* The same, for passing the work on: if it may be completed, write the seed that whoever does it expects into its field,
 * where the headers tell it (else the sender's stays). Errors as l4_csum_check(); the head is then untouched. Hot. */
int l4_csum_seed(uint8_t *head, uint32_t head_len, uint32_t frame_len, uint32_t csum_start,
		 uint32_t csum_offset) must_check;

/* Complete the checksum of a frame made of @head and the @n pieces behind it. The pseudo-header of TCP and UDP over IP
 * is computed here; the seed that the sender put into the field is believed only for what is inside a tunnel, for other
 * protocols and for source routes. Ethernet padding is not summed. Errors as l4_csum_check(); the head is then untouched. Hot. */
int l4_csum_finish(uint8_t *head, uint32_t head_len, const struct wire_piece *rest, unsigned n, uint32_t csum_start,
		   uint32_t csum_offset) must_check;
