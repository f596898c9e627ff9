/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/base.h"

/* ICMP's answer to a packet that is too long for the hop behind us, from which its sender learns the path's MTU: ICMPv4
 * "fragmentation needed" (RFC 792, RFC 1191 4), ICMPv6 "packet too big" (RFC 4443 3.2).
 *
 * A bridge has no address to answer from. The answer names the destination that the packet was for, which is the one
 * address that the sender has a route to, and that filters on the way (a firewall of the guest, our own guard) expect
 * frames from; and it carries the MAC that the sender wrote to.
 */

#define ICMP_ANSWER_MAX 1294 /* bytes of an answer: IPv6's smallest MTU, and an Ethernet header */

/* Write to @out, of @out_size bytes, the whole frame that tells the sender of an untagged frame to keep packets to @mtu
 * bytes. The frame is @frame_len bytes long, the first @head_len of which are at @head, and has been found too long.
 * Quotes what of the packet is in the head, as far as there is room. Returns the length of the answer.
 * 0: none is due. Not IP, or a header that lies; a packet within @mtu; ICMP that is not a query; a later fragment; a
 * group or a broadcast, a loopback or no address at either end (RFC 1122 3.2.2, RFC 4443 2.4(e)); or a smaller @mtu than
 * hosts believe: 68 in IPv4 (RFC 791), 1280 in IPv6 (RFC 8201 4). How often to answer is the caller's to limit. Hot. */
uint32_t icmp_too_big(uint8_t *out, uint32_t out_size, const uint8_t *head, uint32_t head_len, uint32_t frame_len,
		      uint32_t mtu);
