/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/csum.h"

#include "base/bytes.h"
#include "wire/ip.h"

/* Two lanes of 64 bits; compilers turn it into SSE2, NEON, or plain code. */
typedef uint64_t lanes __attribute__((vector_size(16)));
#define BLOCK_BYTES (4 * sizeof(lanes))

static uint64_t sum_blocks(const uint8_t *p, size_t bytes)
{
	const lanes low_half = {UINT32_MAX, UINT32_MAX};
	lanes low = {0}, high = {0};

	/* Sums of 32-bit halves have 2^32 times room in their lane, so no carry needs care (RFC 1071 2(A), 2(D)). */
	for (; bytes >= BLOCK_BYTES; bytes -= BLOCK_BYTES, p += BLOCK_BYTES) {
		lanes v[4];

		memcpy(v, p, BLOCK_BYTES);
		low += (v[0] & low_half) + (v[1] & low_half) + (v[2] & low_half) + (v[3] & low_half);
		high += (v[0] >> 32) + (v[1] >> 32) + (v[2] >> 32) + (v[3] >> 32);
	}
	low += high;
	return low[0] + low[1];
}

/* The last bytes, fewer than a block. */
static uint64_t sum_rest(const uint8_t *p, size_t bytes)
{
	uint64_t sum = 0;
	uint32_t word;
	uint16_t half;

	for (; bytes >= sizeof(word); bytes -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum += word;
	}
	if (bytes & 2) {
		memcpy(&half, p, sizeof(half));
		sum += half;
		p += 2;
	}
	if (bytes & 1) {
		half = 0; /* RFC 1071 1(1): as if a zero byte followed */
		memcpy(&half, p, 1);
		sum += half;
	}
	return sum;
}

static uint16_t fold(uint64_t sum)
{
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)sum;
}

void csum_add(struct csum *c, const void *data, size_t bytes)
{
	const uint8_t *p = data;
	size_t in_blocks = bytes - bytes % BLOCK_BYTES;
	uint16_t sum = fold(sum_blocks(p, in_blocks) + sum_rest(p + in_blocks, bytes - in_blocks));

	/* RFC 1071 2(B): a sum of words shifted by one byte is the sum with its bytes exchanged. */
	c->sum += c->odd ? __builtin_bswap16(sum) : sum;
	c->odd ^= bytes & 1;
}

uint16_t csum_seed(const struct csum *c)
{
	return be16toh(fold(c->sum));
}

uint16_t csum_done(const struct csum *c)
{
	return (uint16_t)~csum_seed(c);
}

static struct csum pseudo(const uint8_t *src, const uint8_t *dst, size_t addr_bytes, uint8_t proto, uint32_t l4_bytes)
{
	/* A 32-bit length field in IPv4 too: its upper half is zero there, and adds nothing. */
	struct csum c = {.sum = (uint64_t)htobe32(l4_bytes) + htobe32(proto)};

	csum_add(&c, src, addr_bytes);
	csum_add(&c, dst, addr_bytes);
	return c;
}

struct csum csum_pseudo4(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes)
{
	return pseudo(src, dst, IP4_ADDR_BYTES, proto, l4_bytes);
}

struct csum csum_pseudo6(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes)
{
	return pseudo(src, dst, IP6_ADDR_BYTES, proto, l4_bytes);
}

void csum_ip4_set(uint8_t *ip, uint32_t ihl_bytes)
{
	struct csum c = {0};

	be16_put(ip + IP4_CSUM_OFF, 0);
	csum_add(&c, ip, ihl_bytes);
	be16_put(ip + IP4_CSUM_OFF, csum_done(&c));
}

bool csum_ip4_ok(const uint8_t *ip, uint32_t ihl_bytes)
{
	struct csum c = {0};

	csum_add(&c, ip, ihl_bytes);
	return csum_done(&c) == 0;
}

uint16_t csum_update16(uint16_t csum, uint16_t from, uint16_t to)
{
	/* The complements of 16 bits are taken within 16 bits: HC' = ~(~HC + ~m + m'). */
	return (uint16_t)~fold((uint64_t)(uint16_t)~csum + (uint16_t)~from + to);
}
