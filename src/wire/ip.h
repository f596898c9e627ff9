/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <netinet/in.h>

/* Where the fields of IP, TCP and UDP headers are, counted from the first byte of their header. Protocol numbers are
 * those of <netinet/in.h> (IPPROTO_TCP). */

/* IPv4: RFC 791 3.1 */
#define IP4_HEAD_MIN    20
#define IP4_LEN_OFF     2 /* total length, header included */
#define IP4_ID_OFF      4
#define IP4_FRAG_OFF    6 /* flags and fragment offset */
#define IP4_PROTO_OFF   9
#define IP4_CSUM_OFF    10
#define IP4_SRC_OFF     12
#define IP4_DST_OFF     16
#define IP4_ADDR_BYTES  4
#define IP4_FRAG_MASK   0x3fff /* more fragments, or an offset: part of a datagram */
#define IP4_OFFSET_MASK 0x1fff
#define IP4_OPT_END     0
#define IP4_OPT_NOP     1
#define IP4_OPT_LSRR    131 /* loose and strict source route */
#define IP4_OPT_SSRR    137

/* IPv6: RFC 8200 3 */
#define IP6_HEAD_BYTES 40
#define IP6_LEN_OFF    4 /* payload length: what follows the 40 bytes, extension headers included */
#define IP6_NEXT_OFF   6
#define IP6_SRC_OFF    8
#define IP6_DST_OFF    24
#define IP6_ADDR_BYTES 16
/* of the 16 bits at offset 2 of a fragment header (RFC 8200 4.5) */
#define IP6_FRAG_MASK   0xfff9 /* an offset, or more fragments */
#define IP6_OFFSET_MASK 0xfff8

/* TCP: RFC 9293 3.1 */
#define TCP_HEAD_MIN   20
#define TCP_SEQ_OFF    4
#define TCP_ACK_OFF    8
#define TCP_DOFF_OFF   12 /* header length in the upper four bits, in words of 4 bytes */
#define TCP_FLAGS_OFF  13
#define TCP_WINDOW_OFF 14
#define TCP_CSUM_OFF   16
#define TCP_URG_OFF    18
#define TCP_FLAG_FIN   0x01
#define TCP_FLAG_SYN   0x02
#define TCP_FLAG_RST   0x04
#define TCP_FLAG_PSH   0x08
#define TCP_FLAG_ACK   0x10
#define TCP_FLAG_URG   0x20
#define TCP_FLAG_ECE   0x40
#define TCP_FLAG_CWR   0x80

/* UDP: RFC 768 */
#define UDP_HEAD_BYTES 8
#define UDP_LEN_OFF    4 /* header included */
#define UDP_CSUM_OFF   6
