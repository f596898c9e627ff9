/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/base.h"
#include "base/bytes.h"

/* What the tests of src/wire share: real frames, slow and obvious arithmetic, random numbers, memory that ends. */

#define FRAME_MAX 70000

/* Frames that Linux 6.18 sent over a veth pair with all offloads off, as tcpdump saw them. */
struct sample {
	const char *name;
	unsigned ip_version, proto, l4_off, bytes;
	const char *hex;
};

static const struct sample samples[] __attribute__((unused)) = {
	{"IPv4 TCP SYN", 4, 6, 34, 74,
	 "ee3a822d057dd68b695fd76908004500003c9cff4000400619b9c0000201c000020291ca00502c24ca8200000000a002"
	 "faf0074d0000020405b40402080aca976e62000000000103030a"},
	{"IPv4 TCP with an odd payload", 4, 6, 34, 73,
	 "ee3a822d057dd68b695fd76908004500003b9d014000400619b8c0000201c000020291ca00502c24ca83f19886bb8018"
	 "003fb5c900000101080aca976e626e32bfeb474554202f0d0a"},
	{"its answer", 4, 6, 34, 77,
	 "d68b695fd769ee3a822d057d08004500003fa3f84000400612bdc0000202c0000201005091caf19886bb2c24ca8a8018"
	 "00405b5300000101080a6e32bfebca976e626f646420616e7377657221"},
	{"IPv4 UDP", 4, 17, 34, 54,
	 "ee3a822d057dd68b695fd7690800450000282da440004011891dc0000201c0000202e4740007001456fa68656c6c6f2c"
	 "20776f726c64"},
	{"IPv4 UDP with an odd payload", 4, 17, 34, 45,
	 "ee3a822d057dd68b695fd76908004500001f2da5400040118925c0000201c0000202e4740007000bc3f36f6464"},
	{"IPv6 TCP SYN", 6, 6, 54, 94,
	 "ee3a822d057dd68b695fd76986dd60076e650028064020010db800000000000000000000000120010db8000000000000"
	 "000000000002902800503d60b7fe00000000a002fd205d530000020405a00402080af924132c000000000103030a"},
	{"IPv6 TCP with an odd payload", 6, 6, 54, 93,
	 "ee3a822d057dd68b695fd76986dd60076e650027064020010db800000000000000000000000120010db8000000000000"
	 "000000000002902800503d60b7fff9896ff68018004056f300000101080af924132c802473c5474554202f0d0a"},
	{"its answer", 6, 6, 54, 97,
	 "d68b695fd769ee3a822d057d86dd600aae74002b064020010db800000000000000000000000220010db8000000000000"
	 "00000000000100509028f9896ff63d60b8068018003ffc7e00000101080a802473c5f924132c6f646420616e73776572"
	 "21"},
	{"IPv6 UDP", 6, 17, 54, 74,
	 "ee3a822d057dd68b695fd76986dd6005662f0014114020010db800000000000000000000000120010db8000000000000"
	 "000000000002d1350007001492c868656c6c6f2c20776f726c64"},
	{"IPv6 UDP with an odd payload", 6, 17, 54, 65,
	 "ee3a822d057dd68b695fd76986dd6005662f000b114020010db800000000000000000000000120010db8000000000000"
	 "000000000002d1350007000bffc16f6464"},
};

/* Write the bytes that @hex spells to @out; spaces do not matter. Returns how many. */
static inline uint32_t unhex(const char *hex, uint8_t *out)
{
	uint32_t n = 0;

	while (*hex) {
		char pair[3] = {hex[0], hex[1], 0};
		char *end;

		if (*hex == ' ') {
			hex++;
			continue;
		}
		out[n++] = (uint8_t)strtoul(pair, &end, 16);
		assert(end == pair + 2);
		hex += 2;
	}
	return n;
}

/* RFC 1071 word by word, with the end-around carry after each. Only the last call of a sum may add an odd number. */
static inline uint16_t slow_sum(uint16_t sum, const uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 2) {
		uint32_t word = (uint32_t)p[i] << 8 | (i + 1 < bytes ? p[i + 1] : 0);
		uint32_t s = sum + word;

		sum = (uint16_t)(s > 0xffff ? s - 0xffff : s);
	}
	return sum;
}

/* The sum over pseudo-header and L4 packet of an IP packet at @ip: 0xffff if its checksum is right. */
static inline uint16_t slow_l4_sum(unsigned ip_version, const uint8_t *ip, uint8_t proto, const uint8_t *l4,
				   uint32_t bytes)
{
	uint8_t tail[8] = {
		(uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16), (uint8_t)(bytes >> 8), (uint8_t)bytes, 0, 0, 0, proto};
	uint16_t sum = ip_version == 4 ? slow_sum(0, ip + 12, 8) : slow_sum(0, ip + 8, 32);

	return slow_sum(slow_sum(sum, tail, sizeof(tail)), l4, bytes);
}

/* xorshift64*: the same numbers in every run. */
static uint64_t rnd_state __attribute__((unused)) = 88172645463325252u;

static inline uint32_t rnd(void)
{
	rnd_state ^= rnd_state >> 12;
	rnd_state ^= rnd_state << 25;
	rnd_state ^= rnd_state >> 27;
	return (uint32_t)(rnd_state * UINT64_C(2685821657736338717) >> 32);
}

static inline uint32_t rnd_below(uint32_t n)
{
	assert(n > 0);
	return rnd() % n;
}

static inline void rnd_fill(uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)rnd();
}

/* Memory of which exactly @bytes can be touched: the byte behind them is not mapped, and touching it ends the test.
 * One such memory at a time; the next call takes it back. */
static inline uint8_t *at_the_edge(size_t bytes)
{
	enum { ROOM = 1 << 17 };
	static uint8_t *room;

	if (!room) {
		room = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert(room != MAP_FAILED);
		assert(mprotect(room + ROOM, 4096, PROT_NONE) == 0);
	}
	assert(bytes <= ROOM);
	return room + ROOM - bytes;
}

static inline const uint8_t *copy_at_the_edge(const void *data, size_t bytes)
{
	return memcpy(at_the_edge(bytes), data, bytes);
}
