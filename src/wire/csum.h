/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <endian.h>

#include "base/base.h"

/* The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit words.
 *
 * A struct csum collects pieces of any length at any address, in the order in which they follow each other; a piece may
 * end in the middle of a word. Results are plain numbers, to be stored with be16_put().
 */
struct csum {
	uint64_t sum; /* of words in the machine's own byte order (RFC 1071 2(B)); room for 2^48 pieces */
	bool odd;     /* an odd number of bytes was added so far */
};

/* Start from nothing with {0}, or from the pseudo-header of a TCP or UDP packet of @l4_bytes (header and payload):
 * RFC 9293 3.1 and RFC 768 for IPv4, RFC 8200 8.1 for IPv6. @src and @dst are addresses as in the IP header: 4 bytes
 * each, or 16. With a routing header, @dst is the final destination. */
struct csum csum_pseudo4(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes);
struct csum csum_pseudo6(const uint8_t *src, const uint8_t *dst, uint8_t proto, uint32_t l4_bytes);

/* Add the next piece. Hot. */
void csum_add(struct csum *c, const void *data, size_t bytes);

/* Copy the next piece to @dst, which does not overlap it, and add it: little more than the copy. What is added is what
 * @dst then holds, whoever writes to the source meanwhile. Hot. */
void csum_copy(struct csum *c, void *dst, const void *src, size_t bytes);

/* Add one word, or two, where an even number of bytes came before. Hot. */
static inline void csum_add16(struct csum *c, uint16_t v)
{
	c->sum += htobe16(v);
}

static inline void csum_add32(struct csum *c, uint32_t v)
{
	c->sum += htobe32(v);
}

/* The ones' complement sum of the four words in @sum: a sum and itself with its halves exchanged have in their upper half
 * both halves and the carry of the lower, which goes around. */
static inline uint16_t csum_fold(uint64_t sum)
{
	uint32_t half;

	sum += sum << 32 | sum >> 32;
	half = (uint32_t)(sum >> 32);
	half += half << 16 | half >> 16;
	return (uint16_t)(half >> 16);
}

/* The sum as it is. Of a pseudo-header: the seed which whoever completes the checksum later expects in its field
 * (virtio 1.2, 5.1.6.2, "needs checksum"). Of data with a correct checksum among it: 0xffff. */
static inline uint16_t csum_seed(const struct csum *c)
{
	return be16toh(csum_fold(c->sum));
}

/* The checksum: the complement. For UDP, 0 must be sent as 0xffff (RFC 768). */
static inline uint16_t csum_done(const struct csum *c)
{
	return (uint16_t)~csum_seed(c);
}

/* The checksum of an IPv4 header of @ihl_bytes, computed and written into it. */
void csum_ip4_set(uint8_t *ip, uint32_t ihl_bytes);
bool csum_ip4_ok(const uint8_t *ip, uint32_t ihl_bytes);

/* The checksum after one 16-bit field it covers has changed (RFC 1624, equation 3). */
uint16_t csum_update16(uint16_t csum, uint16_t from, uint16_t to);
