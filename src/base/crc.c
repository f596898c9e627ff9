/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc.h"

#define POLYNOMIAL 0x82f63b78 /* 0x1edc6f41, reflected */

uint32_t crc32c(const void *p, size_t bytes)
{
	const uint8_t *b = p;
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < bytes; i++) {
		crc ^= b[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
	}
	return ~crc;
}
