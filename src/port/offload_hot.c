/* SPDX-License-Identifier: Apache-2.0 */
#include "port/offload.h"

#include "wire/ip.h"
#include "wire/l4.h"
#include "wire/seg.h"

/* What each type of segmentation must have been agreed for, and what the frame must then be. False: no type we know. */
static bool kind_of(uint8_t gso_type, enum seg_kind *kind, uint32_t *needs)
{
	*needs = OFFLOAD_CSUM | (gso_type & NET_HDR_GSO_ECN ? OFFLOAD_ECN : 0);
	switch (gso_type & ~NET_HDR_GSO_ECN) {
	case NET_HDR_GSO_TCPV4:
		*kind = SEG_TCP4;
		*needs |= OFFLOAD_TSO4;
		return true;
	case NET_HDR_GSO_TCPV6:
		*kind = SEG_TCP6;
		*needs |= OFFLOAD_TSO6;
		return true;
	case NET_HDR_GSO_UDP_L4: /* no ECN with this: virtio 1.2, 5.1.6.2 */
		*kind = SEG_UDP;
		return gso_type == NET_HDR_GSO_UDP_L4;
	}
	return false;
}

static enum drop_reason take_csum(struct frame *f, uint32_t start, uint32_t offset)
{
	if (l4_csum_seed(f->data, f->head_len, f->len, start, offset))
		return DROP_BAD_OFFLOAD;
	f->off.flags = NET_HDR_F_NEEDS_CSUM;
	f->off.csum_start = (uint16_t)start;
	f->off.csum_offset = (uint16_t)offset;
	return DROP_N;
}

/* RFC 3168 6.1.2: what has CWR must not be cut by who would repeat it; the frame tells, whatever the header says. */
static bool has_cwr(const struct seg *s)
{
	return s->v.l4_proto == IPPROTO_TCP && s->head[s->v.l4_off + TCP_FLAGS_OFF] & TCP_FLAG_CWR;
}

static enum drop_reason take_gso(struct frame *f, const struct net_hdr *h, uint32_t agreed)
{
	enum seg_kind kind;
	uint32_t needs;
	struct seg s;

	if (!(h->flags & NET_HDR_F_NEEDS_CSUM) || !kind_of(h->gso_type, &kind, &needs))
		return DROP_BAD_OFFLOAD;
	if (seg_begin(&s, f->data, f->head_len, f->len, kind, h->gso_size) || seg_whole(&s, f->data))
		return DROP_BAD_OFFLOAD;
	f->off = (struct frame_offload){
		.flags = NET_HDR_F_NEEDS_CSUM,
		.gso_type = h->gso_type & (uint8_t)~NET_HDR_GSO_ECN,
		.gso_size = h->gso_size,
		.hdr_len = (uint16_t)s.head_bytes,
		.csum_start = (uint16_t)s.csum_start,
		.csum_offset = (uint16_t)s.csum_offset,
		.is_ip6 = s.v.ip_version == 6,
	};
	if (kind == SEG_UDP)
		needs |= f->off.is_ip6 ? OFFLOAD_USO6 : OFFLOAD_USO4;
	if (needs & ~agreed)
		return DROP_BAD_OFFLOAD;
	if (s.count == 1)
		f->off.gso_type = NET_HDR_GSO_NONE;
	else if (has_cwr(&s))
		f->off.gso_type |= NET_HDR_GSO_ECN;
	return DROP_N;
}

enum drop_reason offload_take(struct frame *f, const struct net_hdr *h, uint32_t agreed)
{
	if (h->gso_type != NET_HDR_GSO_NONE)
		return take_gso(f, h, agreed);
	if (!(h->flags & NET_HDR_F_NEEDS_CSUM))
		return DROP_N;
	return agreed & OFFLOAD_CSUM ? take_csum(f, h->csum_start, h->csum_offset) : DROP_BAD_OFFLOAD;
}

void offload_put(const struct frame *f, bool valid_ok, struct net_hdr *h)
{
	*h = (struct net_hdr){.num_buffers = 1};
	if (f->off.flags & NET_HDR_F_NEEDS_CSUM) {
		h->flags = NET_HDR_F_NEEDS_CSUM;
		h->csum_start = f->off.csum_start;
		h->csum_offset = f->off.csum_offset;
	} else if (valid_ok) {
		h->flags = f->off.flags & NET_HDR_F_DATA_VALID;
	}
	if (f->off.gso_type != NET_HDR_GSO_NONE) {
		h->gso_type = f->off.gso_type;
		h->gso_size = f->off.gso_size;
		h->hdr_len = f->off.hdr_len;
	}
}
