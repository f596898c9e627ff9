/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "port/drop.h"
#include "port/frame.h"

struct port_info;

/* The header that virtio-net puts before a frame, which guests, tap interfaces and packet sockets all speak, and what it
 * says of work left to do: checked once when a frame is received, written when it is sent.
 *
 * Trust: whoever sends the header may lie. What it says is compared with the frame's own headers and with what was agreed;
 *        lengths, checksum offsets and the L4 checksum's seed are taken from the frame, not believed, so what is passed on
 *        is right for whoever does the work: a neighbour, a kernel, or ourselves.
 */

/* virtio 1.2, 5.1.6: struct virtio_net_hdr; num_buffers is there with VERSION_1 or MRG_RXBUF, and not with a kernel.
 * Little-endian, which kernel interfaces must be told (TUNSETVNETLE) or are by themselves on the machines we run on. */
struct net_hdr {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
};
#define NET_HDR_SHORT 10
#define NET_HDR_LONG  12
_Static_assert(sizeof(struct net_hdr) == NET_HDR_LONG, "virtio 1.2, 5.1.6");

/* Does the header ask for nothing? Flags that do not ask are ignored, and so are then the other fields (5.1.6.2.2). */
static inline bool net_hdr_is_plain(const struct net_hdr *h)
{
	return !(h->flags & NET_HDR_F_NEEDS_CSUM) && h->gso_type == NET_HDR_GSO_NONE;
}

/* Take over what @h asks of @f, whose head and lengths are set. @agreed: what its sender may leave undone (OFFLOAD_*).
 * Fills f->off and puts the frame's head right. DROP_N: done; DROP_BAD_OFFLOAD: the header lies, asks for what was not
 * agreed, or the frame is not what it says. Hot. */
enum drop_reason offload_take(struct frame *f, const struct net_hdr *h, uint32_t agreed) must_check;

/* The header that tells what is left to do of @f; num_buffers is 1. @valid_ok: the receiver understands DATA_VALID. Hot. */
void offload_put(const struct frame *f, bool valid_ok, struct net_hdr *h);

/* The names of a set of OFFLOAD_* as users see them, in that order: "csum tso4 tso6 ecn uso4 uso6"; "" for none. Written
 * to @text, which is returned. Control thread. */
#define OFFLOAD_NAMES_MAX 32 /* with the final zero */
const char *offload_names(uint32_t set, char *text, size_t size);

/* What is left of @set when those are taken out that need one which is not in it (virtio 1.2, 5.1.3.1). */
uint32_t offload_closed(uint32_t set);

/* What a port with an interface of the kernel may be given undone. */
struct offload_deal {
	uint32_t off;    /* switched off by the operator */
	uint32_t asked;  /* of the kernel */
	uint32_t agreed; /* of those asked */
};

/* Show it: "offloads", and under "offloads_missing" why the others are not among them. Control thread. */
void offload_info(const struct offload_deal *d, struct port_info *info);
