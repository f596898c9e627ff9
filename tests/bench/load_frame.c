/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bench/load.h"

/* The frames: Ethernet, IPv4, UDP, a tag, and a payload that follows from the place. What a frame needs besides its tag
 * is written once, before the run. */

#define HEADERS_BYTES 42
#define PAYLOAD_AT    58

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

static void put_ip(uint8_t *ip, unsigned from, unsigned to, unsigned bytes)
{
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, bytes);
	ip[8] = 64;
	ip[9] = 17;
	put16(ip + 12, 10 << 8);
	put16(ip + 14, from + 1);
	put16(ip + 16, 10 << 8);
	put16(ip + 18, to + 1);
	put_ip_checksum(ip);
}

/* No UDP checksum: it may be left out over IPv4. */
static void put_headers(const struct load *l, unsigned stream, uint8_t *p, unsigned len)
{
	const unsigned from = stream / l->conf.pairs, to = load_partner(l, stream);

	put_mac(p, to);
	put_mac(p + 6, from);
	put16(p + 12, 0x0800);
	put_ip(p + 14, from, to, len - 14);
	put16(p + 34, 1024 + stream);
	put16(p + 36, 2048 + stream);
	put16(p + 38, len - 34);
	put16(p + 40, 0);
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

		memset(f.bytes - FRONT_HEADER_BYTES, 0, FRONT_HEADER_BYTES);
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
	memcpy(f->bytes + LOAD_TAG_AT, &tag, sizeof(tag));
	if (now != 0)
		memcpy(f->bytes + LOAD_TIME_AT, &now, sizeof(now));
}

static bool whole(const struct load *l, const struct front_queue *rx, const struct front_frame *f, unsigned stream)
{
	static uint8_t copy[LOAD_SIZE_MAX];
	uint8_t headers[HEADERS_BYTES];

	put_headers(l, stream, headers, f->len);
	return front_rx_copy(rx, f, copy, sizeof(copy)) == f->len && memcmp(copy, headers, HEADERS_BYTES) == 0 &&
	       memcmp(copy + PAYLOAD_AT, l->expected + PAYLOAD_AT, f->len - PAYLOAD_AT) == 0;
}

bool load_intact(const struct load *l, const struct front_queue *rx, const struct front_frame *f, struct load_tag *tag)
{
	if (f->first_len < LOAD_SIZE_MIN)
		return false;
	memcpy(tag, f->bytes + LOAD_TAG_AT, sizeof(*tag));
	if (tag->stream == LOAD_STREAM_HELLO)
		return true;
	if (tag->stream >= load_streams(l) || tag->len_low != (uint16_t)f->len || f->len > load_longest(&l->conf))
		return false;
	return !l->conf.check || whole(l, rx, f, tag->stream);
}
