/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <string.h>

#include "base/base.h"

/* Copying what frames are made of. Lengths differ from frame to frame, so a call of memcpy() costs more than the copy of
 * a small one; a large one it does best (libc chooses vector code for this machine at run time). */
#define COPY_SHORT_MAX 128

/* Copy @n bytes, COPY_SHORT_MAX at most, that do not overlap. Two moves of a fixed size that meet or overlap in the
 * middle cover every length between: the compiler makes vector moves of them on any machine. Hot. */
static inline void copy_short(void *dst, const void *src, size_t n)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	if (n >= 64) {
		memcpy(d, s, 64);
		memcpy(d + n - 64, s + n - 64, 64);
	} else if (n >= 32) {
		memcpy(d, s, 32);
		memcpy(d + n - 32, s + n - 32, 32);
	} else if (n >= 16) {
		memcpy(d, s, 16);
		memcpy(d + n - 16, s + n - 16, 16);
	} else if (n >= 8) {
		memcpy(d, s, 8);
		memcpy(d + n - 8, s + n - 8, 8);
	} else if (n >= 4) {
		memcpy(d, s, 4);
		memcpy(d + n - 4, s + n - 4, 4);
	} else {
		for (size_t i = 0; i < n; i++)
			d[i] = s[i];
	}
}

static inline void copy_bytes(void *dst, const void *src, size_t n)
{
	if (n <= COPY_SHORT_MAX)
		copy_short(dst, src, n);
	else
		memcpy(dst, src, n);
}
