/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* CRC-32C (Castagnoli; RFC 3720, 12.1) of @bytes, for records that are written now and then: bit by bit, no table. */
uint32_t crc32c(const void *p, size_t bytes);
