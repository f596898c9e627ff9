/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/csum.h"

#include "base/bytes.h"
#include "base/copy.h"
#include "wire/ip.h"

#define BLOCK_BYTES 128

/* Sum whole blocks in lanes of 64 bits: sums of 32-bit halves have 2^32 times room in them, so no carry needs care
 * (RFC 1071 2(A), 2(D)). One body for lanes of every width, which compilers turn into SSE2, AVX2, NEON, or plain code;
 * and for sums alone, or of what is copied meanwhile (@store). */
#define SUM_BLOCKS(lanes, store)                                                                                       \
	const lanes low_half = (lanes){0} + UINT32_MAX;                                                                \
	lanes low = {0}, high = {0};                                                                                   \
	uint64_t sum = 0;                                                                                              \
                                                                                                                       \
	for (; bytes >= BLOCK_BYTES; bytes -= BLOCK_BYTES, p += BLOCK_BYTES)                                           \
		for (size_t i = 0; i < BLOCK_BYTES; i += sizeof(lanes)) {                                              \
			lanes v;                                                                                       \
                                                                                                                       \
			memcpy(&v, p + i, sizeof(v));                                                                  \
			store;                                                                                         \
			low += v & low_half;                                                                           \
			high += v >> 32;                                                                               \
		}                                                                                                      \
	low += high;                                                                                                   \
	for (size_t i = 0; i < sizeof(lanes) / sizeof(sum); i++)                                                       \
		sum += low[i];                                                                                         \
	return sum

typedef uint64_t lanes2 __attribute__((vector_size(16)));

static uint64_t sum_any(const uint8_t *p, size_t bytes)
{
	SUM_BLOCKS(lanes2, );
}

static uint64_t copy_any(uint8_t *dst, const uint8_t *p, size_t bytes)
{
	SUM_BLOCKS(lanes2, (memcpy(dst, &v, sizeof(v)), dst += sizeof(v)));
}

#if defined(__x86_64__)
typedef uint64_t lanes4 __attribute__((vector_size(32)));

__attribute__((target("avx2"))) static uint64_t sum_avx2(const uint8_t *p, size_t bytes)
{
	SUM_BLOCKS(lanes4, );
}

__attribute__((target("avx2"))) static uint64_t copy_avx2(uint8_t *dst, const uint8_t *p, size_t bytes)
{
	SUM_BLOCKS(lanes4, (memcpy(dst, &v, sizeof(v)), dst += sizeof(v)));
}

/* What the machine has, libgcc finds out when the program starts: this is a look at one word. */
static bool has_avx2(void)
{
	return __builtin_cpu_supports("avx2");
}
#else
#define sum_avx2  sum_any
#define copy_avx2 copy_any

static bool has_avx2(void)
{
	return false;
}
#endif

static uint64_t sum_blocks(const uint8_t *p, size_t bytes)
{
	if (bytes == 0)
		return 0;
	return has_avx2() ? sum_avx2(p, bytes) : sum_any(p, bytes);
}

static uint64_t copy_blocks(uint8_t *dst, const uint8_t *p, size_t bytes)
{
	if (bytes == 0)
		return 0;
	return has_avx2() ? copy_avx2(dst, p, bytes) : copy_any(dst, p, bytes);
}

/* The last bytes, fewer than a block. */
static uint64_t sum_rest(const uint8_t *p, size_t bytes)
{
	uint64_t sum = 0, two;
	uint32_t word;
	uint16_t half;

	for (; bytes >= sizeof(two); bytes -= sizeof(two), p += sizeof(two)) {
		memcpy(&two, p, sizeof(two));
		sum += (two & UINT32_MAX) + (two >> 32);
	}
	if (bytes & 4) {
		memcpy(&word, p, sizeof(word));
		sum += word;
		p += sizeof(word);
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

/* RFC 1071 2(B): a sum of words shifted by one byte is the sum with its bytes exchanged. */
static void append(struct csum *c, uint64_t piece, size_t bytes)
{
	uint16_t sum = csum_fold(piece);

	c->sum += c->odd ? __builtin_bswap16(sum) : sum;
	c->odd ^= bytes & 1;
}

void csum_add(struct csum *c, const void *data, size_t bytes)
{
	const uint8_t *p = data;
	size_t in_blocks = bytes - bytes % BLOCK_BYTES;

	append(c, sum_blocks(p, in_blocks) + sum_rest(p + in_blocks, bytes - in_blocks), bytes);
}

void csum_copy(struct csum *c, void *dst, const void *src, size_t bytes)
{
	uint8_t *d = dst;
	const uint8_t *p = src;
	size_t in_blocks = bytes - bytes % BLOCK_BYTES, rest = bytes - in_blocks;
	uint64_t sum = copy_blocks(d, p, in_blocks);

	/* What is summed must be what was copied, even if somebody writes to the source meanwhile. */
	copy_short(d + in_blocks, p + in_blocks, rest);
	append(c, sum + sum_rest(d + in_blocks, rest), bytes);
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
	return (uint16_t)~csum_fold((uint64_t)(uint16_t)~csum + (uint16_t)~from + to);
}
