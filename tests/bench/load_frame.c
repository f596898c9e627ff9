/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"

/* The frames: Ethernet, IPv4, UDP or TCP, a tag, and a payload that follows from the place. What a frame needs besides its
 * tag is written once, before the run. */

#define L4_AT 34

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put_mac(uint8_t *p, unsigned port)
{
	static const uint8_t ours[4] = {0x52, 0x54, 0x00, 0xbe};

	memcpy(p, ours, sizeof(ours));
	put16(p + 4, port + 1);
}

static void put_ip_checksum(uint8_t *ip)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~sum & 0xffff);
}

static void put_ip(uint8_t *ip, unsigned proto, unsigned from, unsigned to, unsigned bytes)
{
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, bytes);
	ip[8] = 64;
	ip[9] = (uint8_t)proto;
	put16(ip + 12, 10 << 8);
	put16(ip + 14, from + 1);
	put16(ip + 16, 10 << 8);
	put16(ip + 18, to + 1);
	put_ip_checksum(ip);
}

/* No UDP checksum: it may be left out over IPv4. */
static void put_udp(uint8_t *udp, unsigned len)
{
	put16(udp + 4, len);
	put16(udp + 6, 0);
}

/* An ACK with PSH and timestamps; the checksum's field holds the sum of the pseudo-header (virtio 1.2, 5.1.6.2). */
static void put_tcp(const uint8_t *ip, uint8_t *tcp, unsigned len)
{
	static const uint8_t options[12] = {1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1};
	uint32_t sum = IPPROTO_TCP + len;

	memset(tcp + 4, 0, 16);
	tcp[12] = 32 / 4 << 4;
	tcp[13] = 0x18;
	put16(tcp + 14, 0xffff);
	memcpy(tcp + 20, options, sizeof(options));
	for (unsigned i = 12; i < 20; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	put16(tcp + 16, (sum & 0xffff) + (sum >> 16));
}

static void put_headers(const struct load *l, unsigned stream, uint8_t *p, unsigned len)
{
	const unsigned from = stream / l->conf.pairs, to = load_partner(l, stream);

	put_mac(p, to);
	put_mac(p + 6, from);
	put16(p + 12, 0x0800);
	put_ip(p + 14, l->conf.gso ? IPPROTO_TCP : IPPROTO_UDP, from, to, len - 14);
	put16(p + L4_AT, 1024 + stream);
	put16(p + L4_AT + 2, 2048 + stream);
	if (l->conf.gso)
		put_tcp(p + 14, p + L4_AT, len - L4_AT);
	else
		put_udp(p + L4_AT, len - L4_AT);
}

/* struct virtio_net_hdr, little-endian: what is left to do. */
static void put_net_header(const struct load_conf *c, uint8_t *p)
{
	const uint8_t gso[FRONT_HEADER_BYTES] = {
		1, /* NEEDS_CSUM */
		1, /* GSO_TCPV4 */
		LOAD_TCP_AT, 0, (uint8_t)c->gso, (uint8_t)(c->gso >> 8), L4_AT, 0, 16, 0,
	};

	if (c->gso)
		memcpy(p, gso, sizeof(gso));
	else
		memset(p, 0, FRONT_HEADER_BYTES);
}

unsigned load_longest(const struct load_conf *c)
{
	return c->size == LOAD_SIZE_IMIX ? 1514 : c->size;
}

static unsigned slot_len(const struct load_conf *c, unsigned id)
{
	static const uint16_t imix[12] = {60, 590, 60, 60, 590, 60, 1514, 60, 590, 60, 60, 590};

	return c->size == LOAD_SIZE_IMIX ? imix[id % 12] : c->size;
}

static void prepare_stream(struct load *l, unsigned s)
{
	struct front_queue *q = l->stream[s].tx;

	for (unsigned i = 0; i < front_tx_slots(q); i++) {
		const struct front_frame f = front_tx_slot(q, i);
		const unsigned len = slot_len(&l->conf, f.id);

		put_net_header(&l->conf, f.bytes - FRONT_HEADER_BYTES);
		memcpy(f.bytes, l->expected, len);
		put_headers(l, s, f.bytes, len);
	}
}

int load_prepare(struct load *l)
{
	const unsigned longest = load_longest(&l->conf);

	l->expected = malloc(longest);
	if (l->expected == NULL)
		return -1;
	for (unsigned i = 0; i < longest; i++)
		l->expected[i] = (uint8_t)(i * 31 + (i >> 8));
	for (unsigned s = 0; s < load_streams(l); s++)
		prepare_stream(l, s);
	return 0;
}

void load_frame_fini(struct load *l)
{
	free(l->expected);
}

void load_stamp(const struct load *l, unsigned stream, struct front_frame *f, uint32_t seq, uint64_t now)
{
	struct load_tag tag = {.seq = seq, .stream = (uint16_t)stream};

	f->len = slot_len(&l->conf, f->id);
	tag.len_low = (uint16_t)f->len;
	memcpy(f->bytes + load_tag_at(&l->conf), &tag, sizeof(tag));
	if (now != 0)
		memcpy(f->bytes + load_tag_at(&l->conf) + LOAD_TIME_OFF, &now, sizeof(now));
}

static bool whole(const struct load *l, const struct front_queue *rx, const struct front_frame *f, unsigned stream)
{
	static uint8_t copy[LOAD_SIZE_MAX];
	uint8_t headers[LOAD_TCP_AT];
	const unsigned headers_bytes = load_tag_at(&l->conf), payload_at = headers_bytes + LOAD_TRAILER_OFF;

	put_headers(l, stream, headers, f->len);
	return front_rx_copy(rx, f, copy, sizeof(copy)) == f->len && memcmp(copy, headers, headers_bytes) == 0 &&
	       memcmp(copy + payload_at, l->expected + payload_at, f->len - payload_at) == 0;
}

bool load_intact(const struct load *l, const struct front_queue *rx, const struct front_frame *f, struct load_tag *tag)
{
	if (f->first_len < LOAD_SIZE_MIN || f->first_len < load_tag_at(&l->conf) + LOAD_TRAILER_OFF)
		return false;
	memcpy(tag, f->bytes + load_tag_at(&l->conf), sizeof(*tag));
	if (tag->stream == LOAD_STREAM_HELLO)
		return true;
	if (tag->stream >= load_streams(l) || tag->len_low != (uint16_t)f->len || f->len > load_longest(&l->conf))
		return false;
	return !l->conf.check || whole(l, rx, f, tag->stream);
}
