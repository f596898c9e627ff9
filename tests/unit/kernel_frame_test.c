/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a frame. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "port/kernel_frame.h"
#include "wire/csum.h"
#include "wire/ip.h"

#define IP      ETH_HEAD_BYTES
#define TCP_OFF (IP + IP4_HEAD_MIN)
#define HEAD    (TCP_OFF + TCP_HEAD_MIN)
#define PAYLOAD 3000

static uint8_t payload[PAYLOAD];
static struct wire_piece body = {payload, PAYLOAD};

/* A long TCP packet, whose checksum is that of the whole. */
static void make(struct frame *f)
{
	uint8_t *p = frame_head_begin(f);

	memset(p, 0, HEAD);
	p[0] = p[6] = 2;
	memcpy(p + ETH_TYPE_OFF, "\x08\0", 2);
	memcpy(p + IP, "\x45\0\0\0\0\1\x40\0\x40\x06\0\0\x0a\0\0\1\x0a\0\0\2", IP4_HEAD_MIN);
	be16_put(p + IP + IP4_LEN_OFF, HEAD - IP + PAYLOAD);
	csum_ip4_set(p + IP, IP4_HEAD_MIN);
	p[TCP_OFF + TCP_DOFF_OFF] = 5 << 4;
	p[TCP_OFF + TCP_FLAGS_OFF] = TCP_FLAG_ACK;
	f->len = HEAD + PAYLOAD;
	f->head_len = HEAD;
	f->body = &body;
	f->n_body = 1;
}

/* LRO of a NIC leaves a frame that is verified and can be cut; GRO and local senders one that is not complete. */
static void a_merged_frame_may_be_verified_or_not_complete(void **state)
{
	static const uint8_t flags[] = {NET_HDR_F_NEEDS_CSUM, NET_HDR_F_DATA_VALID};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		struct net_hdr h = {.flags = flags[i], .gso_type = NET_HDR_GSO_TCPV4, .gso_size = 1000};
		struct frame f;
		struct csum c;

		make(&f);
		assert_int_equal(kernel_frame_take(&f, &h), DROP_N);
		assert_int_equal(f.off.flags, NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(f.off.gso_type, NET_HDR_GSO_TCPV4);
		assert_int_equal(f.off.gso_size, 1000);
		assert_int_equal(f.off.csum_start, TCP_OFF);
		assert_int_equal(f.off.csum_offset, TCP_CSUM_OFF);
		c = csum_pseudo4(f.data + IP + IP4_SRC_OFF, f.data + IP + IP4_DST_OFF, IPPROTO_TCP,
				 TCP_HEAD_MIN + PAYLOAD);
		assert_int_equal(be16_get(f.data + TCP_OFF + TCP_CSUM_OFF), csum_seed(&c));
	}
}

/* Cutting would give it a good checksum. */
static void a_merged_frame_that_nobody_has_verified_is_not_taken(void **state)
{
	struct net_hdr h = {.gso_type = NET_HDR_GSO_TCPV4, .gso_size = 1000};
	struct frame f;

	(void)state;
	make(&f);
	assert_int_equal(kernel_frame_take(&f, &h), DROP_BAD_OFFLOAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_merged_frame_may_be_verified_or_not_complete),
		cmocka_unit_test(a_merged_frame_that_nobody_has_verified_is_not_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
