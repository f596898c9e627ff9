/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/eth.h"

#include <errno.h>
#include <stdio.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int mac_parse(const char *text, struct mac *m)
{
	struct mac got;

	if (strlen(text) != MAC_TEXT_BYTES - 1)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(got.b); i++) {
		int high = hex_digit(text[3 * i]);
		int low = hex_digit(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
			return -EINVAL;
		got.b[i] = (uint8_t)(high << 4 | low);
	}
	*m = got;
	return 0;
}

const char *mac_format(struct mac m, char text[MAC_TEXT_BYTES])
{
	snprintf(text, MAC_TEXT_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x", m.b[0], m.b[1], m.b[2], m.b[3], m.b[4], m.b[5]);
	return text;
}
