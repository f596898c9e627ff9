/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"
#include "base/bytes.h"
#include "wire/eth.h"
#include "wire/ip.h"

/* Receive coalescing: segments of one TCP connection that follow each other become one long frame, as the reverse of
 * wire/seg.h. Nothing is lost by it: cut into pieces of merge_gso_bytes() of payload, the merged frame gives back the
 * very segments it was made of (a TCP checksum of 0xffff may come back as 0, its equal). So whatever differs between two
 * segments and is not restored by cutting ends a run: flags, window, acknowledgement, options, TTL, ECN, an IPv4 id out
 * of line.
 *
 * Use: merge_look() at each frame of a batch that came in by one port and belongs to one VLAN. A run is the frame that
 * began it (merge_begin) and those appended since (merge_try); it stands where its first frame stood. At any time there
 * is at most one open run of a flow, and every frame of the flow is shown to it: what does not fit ends it, so that
 * nothing overtakes. A run of more than one frame then gets its header from merge_finish().
 *
 * Only the heads are read; they must be those of untagged frames. The payload stays where it is: of each frame,
 * everything from hdr_bytes on. Whether the TCP checksums are good is the caller's to know: cutting makes good ones.
 */

enum merge_look {
	MERGE_NOTHING,  /* not TCP: concerns no run */
	MERGE_ENDS_ALL, /* TCP, but nobody can tell of which flow: a fragment, IP options, a header cut short */
	MERGE_SEGMENT,  /* of a flow; look at is_data */
};

/* A frame, seen by merge_look(). */
struct merge_seg {
	const uint8_t *head; /* borrowed */
	uint16_t tcp_off;
	uint16_t hdr_bytes;     /* Ethernet, IP, TCP with its options; if is_data */
	uint16_t payload_bytes; /* if is_data */
	bool is_data;           /* may begin or join a run; else it only ends one. The caller may take it back. */
};

/* A run. Written by the functions below only. */
struct merge_run {
	struct merge_seg first;
	uint32_t payload_bytes; /* of all */
	uint32_t count;         /* segments */
	bool is_closed;         /* its last segment was short, or had PSH: nothing can follow */
	bool is_pushed;         /* that had PSH */
};

enum merge_answer {
	MERGE_OTHER,    /* another flow */
	MERGE_MISFIT,   /* the run's flow, but it cannot follow: the run has ended */
	MERGE_APPENDED, /* look at is_closed */
};

/* The two halves of merge_look(), for frames whose protocol says TCP. */
enum merge_look merge_look_ip4(struct merge_seg *m, const uint8_t *head, uint32_t head_len, uint32_t frame_len);
enum merge_look merge_look_ip6(struct merge_seg *m, const uint8_t *head, uint32_t head_len, uint32_t frame_len);

/* Is this frame of @frame_len bytes, the first @head_len of which are at @head, a segment that may be merged? Fills @m
 * if it says MERGE_SEGMENT. Costs a few instructions unless the frame is TCP. Hot. */
static inline enum merge_look merge_look(struct merge_seg *m, const uint8_t *head, uint32_t head_len,
					 uint32_t frame_len)
{
	uint16_t type;

	if (unlikely(head_len < ETH_HEAD_BYTES + IP4_HEAD_MIN))
		return MERGE_NOTHING; /* not even the smallest IP header */
	type = be16_get(head + ETH_TYPE_OFF);
	if (type == ETH_P_IP4 && head[ETH_HEAD_BYTES + IP4_PROTO_OFF] == IPPROTO_TCP)
		return merge_look_ip4(m, head, head_len, frame_len);
	if (type == ETH_P_IP6 && head[ETH_HEAD_BYTES + IP6_NEXT_OFF] != IPPROTO_UDP)
		return merge_look_ip6(m, head, head_len, frame_len);
	return MERGE_NOTHING;
}

/* A number that is the same for all segments of a flow (in this direction), to find its run by; spread well enough in
 * its upper bits. For MERGE_SEGMENT only. Hot. */
uint32_t merge_key(const struct merge_seg *m);

/* Begin a run with a segment that is_data. False: nothing could follow it, so there is none. Hot. */
bool merge_begin(struct merge_run *run, const struct merge_seg *m);

/* Append @m to the run, if it is the next segment of its flow. Hot. */
enum merge_answer merge_try(struct merge_run *run, const struct merge_seg *m);

/* Payload of every segment but the last. */
static inline uint16_t merge_gso_bytes(const struct merge_run *run)
{
	return run->first.payload_bytes;
}

static inline bool merge_is_ip6(const struct merge_run *run)
{
	return run->first.tcp_off != ETH_HEAD_BYTES + IP4_HEAD_MIN;
}

/* Bytes of the merged frame. */
static inline uint32_t merge_frame_bytes(const struct merge_run *run)
{
	return run->first.hdr_bytes + run->payload_bytes;
}

/* Make @head, that of the run's first frame, the head of the merged one: IP length, IPv4 checksum, PSH, and in the TCP
 * checksum the seed for all of the payload, as whoever cuts it expects it (seg_whole): the checksum starts at
 * first.tcp_off, its field lies TCP_CSUM_OFF behind. Hot. */
void merge_finish(const struct merge_run *run, uint8_t *head);
