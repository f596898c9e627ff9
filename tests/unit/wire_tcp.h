/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "wire/csum.h"
#include "wire_frames.h"
#include "wire_merger.h"

/* Segments of TCP connections, for the tests of merging. */

#define PSH 0x18
#define ACK 0x10

/* A TCP connection, in one direction. */
struct flow {
	unsigned version, port, option_words;
	uint32_t seq;
	uint16_t id, window;
	uint8_t flags, tos;
};

static inline uint32_t tcp_off(unsigned version)
{
	return version == 4 ? 34 : 54;
}

/* Put right what a change of the frame made wrong: the checksums. */
static inline void finish(unsigned version, struct merger_frame *f)
{
	uint32_t off = tcp_off(version);

	if (version == 4)
		csum_ip4_set(f->f + 14, 20);
	be16_put(f->f + off + 16, 0);
	be16_put(f->f + off + 16, (uint16_t)~slow_l4_sum(version, f->f + 14, 6, f->f + off, f->len - off));
}

/* The next segment of @h, which goes on. */
static inline void emit(struct flow *h, struct merger_frame *f, uint32_t payload_bytes)
{
	uint32_t off = tcp_off(h->version), tcp_bytes = 20 + 4 * h->option_words;
	uint8_t *ip = f->f + 14, *tcp = f->f + off;

	memset(f->f, 0, off + tcp_bytes);
	unhex("525400000002 525400000001", f->f);
	be16_put(f->f + 12, h->version == 4 ? 0x0800 : 0x86dd);
	f->len = off + tcp_bytes + payload_bytes;
	if (h->version == 4) {
		unhex("4500 0000 0000 4000 4006 0000 c0000201 c0000202", ip);
		ip[1] = h->tos;
		be16_put(ip + 2, (uint16_t)(f->len - 14));
		be16_put(ip + 4, h->id++);
	} else {
		unhex("60076e65 0000 06 40 20010db8000000000000000000000001 20010db8000000000000000000000002", ip);
		ip[1] |= (uint8_t)(h->tos << 4);
		be16_put(ip + 4, (uint16_t)(f->len - 54));
	}
	be16_put(tcp, (uint16_t)h->port);
	be16_put(tcp + 2, 80);
	be32_put(tcp + 4, h->seq);
	be32_put(tcp + 8, 0xf19886bb);
	tcp[12] = (uint8_t)(tcp_bytes << 2);
	tcp[13] = h->flags;
	be16_put(tcp + 14, h->window);
	for (uint32_t i = 20; i < tcp_bytes; i++)
		tcp[i] = (uint8_t)(i * 7);
	rnd_fill(tcp + tcp_bytes, payload_bytes);
	h->seq += payload_bytes;
	finish(h->version, f);
}

static inline enum merge_look look_at(struct merge_seg *m, const struct merger_frame *f)
{
	return merge_look(m, f->f, merger_head_len(f), f->len);
}

static inline struct flow flow_of(unsigned version)
{
	return (struct flow){
		.version = version, .port = 4711, .option_words = 3, .seq = 0xfffffe00, .id = 0xffff, .flags = ACK};
}
