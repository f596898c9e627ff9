/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of segments of a few TCP connections, with anything changed in any of them, through receive coalescing.
 *
 * What must hold: cut again, what was merged gives the same segments, byte by byte; and nothing overtakes what is of its
 * flow (unit/wire_merger.h).
 */
#include <stdio.h>
#include <stdlib.h>

#include "../unit/wire_merger.h"
#include "wire/csum.h"

#define FLOWS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct merger g;

static void expect(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "does not hold: %s\n", what);
		abort();
	}
}

struct input {
	const uint8_t *p;
	size_t left;
};

static uint8_t take(struct input *in)
{
	return in->left ? in->left--, *in->p++ : 0;
}

/* Where each connection stands. */
struct flow {
	uint32_t seq;
	uint16_t id;
};

static uint32_t put_ip4(uint8_t *ip, uint32_t ip_bytes, struct flow *h)
{
	ip[0] = 0x45;
	be16_put(ip + IP4_LEN_OFF, (uint16_t)ip_bytes);
	be16_put(ip + IP4_ID_OFF, h->id++);
	ip[IP4_PROTO_OFF] = IPPROTO_TCP;
	return IP4_HEAD_MIN;
}

static uint32_t put_ip6(uint8_t *ip, uint32_t ip_bytes)
{
	ip[0] = 0x60;
	be16_put(ip + IP6_LEN_OFF, (uint16_t)(ip_bytes - IP6_HEAD_BYTES));
	ip[IP6_NEXT_OFF] = IPPROTO_TCP;
	return IP6_HEAD_BYTES;
}

/* The next segment of connection @i: even ones are IPv4, and each has other ports. */
static void put_segment(struct merger_frame *f, struct flow *h, unsigned i, uint32_t words, uint32_t payload_bytes)
{
	bool is_ip4 = i % 2 == 0;
	uint32_t tcp_bytes = TCP_HEAD_MIN + 4 * words;
	uint32_t ip_bytes = (is_ip4 ? IP4_HEAD_MIN : IP6_HEAD_BYTES) + tcp_bytes + payload_bytes;
	uint8_t *ip = f->f + ETH_HEAD_BYTES, *tcp;

	memset(f->f, 0, MERGER_HEAD_MAX);
	be16_put(f->f + ETH_TYPE_OFF, is_ip4 ? ETH_P_IP4 : ETH_P_IP6);
	tcp = ip + (is_ip4 ? put_ip4(ip, ip_bytes, h) : put_ip6(ip, ip_bytes));
	tcp[1] = (uint8_t)i;
	be32_put(tcp + TCP_SEQ_OFF, h->seq);
	tcp[TCP_DOFF_OFF] = (uint8_t)(tcp_bytes << 2);
	tcp[TCP_FLAGS_OFF] = TCP_FLAG_ACK;
	h->seq += payload_bytes;
	for (uint32_t k = 0; k < payload_bytes; k++)
		tcp[tcp_bytes + k] = (uint8_t)(h->seq + k * 7);
	f->len = ETH_HEAD_BYTES + ip_bytes;
}

/* What a guest's driver or a NIC would have completed. */
static void put_checksums(struct merger_frame *f)
{
	struct merge_seg m;

	if (f->f[ETH_TYPE_OFF] == ETH_P_IP4 >> 8 && f->f[ETH_HEAD_BYTES] == 0x45)
		csum_ip4_set(f->f + ETH_HEAD_BYTES, IP4_HEAD_MIN);
	if (merge_look(&m, f->f, merger_head_len(f), f->len) == MERGE_SEGMENT && m.is_data)
		expect(l4_csum_finish(f->f, f->len, NULL, 0, m.tcp_off, TCP_CSUM_OFF) == 0, "a whole packet");
}

/* Which connection and what size; then how many bits are changed, and where. */
static void take_frame(struct input *in, struct flow h[FLOWS])
{
	static const uint16_t size[] = {0, 1, 8, 100, 500, 1000, 1448, 1900};
	struct merger_frame *f = &g.in[g.n++];
	unsigned what = take(in), changes = take(in);

	put_segment(f, &h[what % FLOWS], what % FLOWS, what / 32 == 7 ? 10 : what >> 5 & 3, size[what >> 2 & 7]);
	for (unsigned i = 0; i < changes % 4; i++) {
		unsigned at = take(in);

		f->f[at % MERGER_HEAD_MAX] ^= take(in);
	}
	if (changes & 0x80)
		f->len = min_u32(f->len + take(in), MERGER_FRAME_MAX);
	else if (changes & 0x40)
		f->len -= min_u32(f->len, take(in));
	if (!(changes & 0x20))
		put_checksums(f);
}

/* Frames whose TCP checksum is not good are kept out by whoever calls. */
static bool is_good(const struct merger_frame *f)
{
	struct merge_seg m;
	uint8_t copy[MERGER_FRAME_MAX];

	if (merge_look(&m, f->f, merger_head_len(f), f->len) != MERGE_SEGMENT || !m.is_data)
		return true;
	memcpy(copy, f->f, f->len);
	expect(l4_csum_finish(copy, f->len, NULL, 0, m.tcp_off, TCP_CSUM_OFF) == 0, "a whole packet");
	return memcmp(copy, f->f, f->len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct flow h[FLOWS] = {{.seq = 0xfffff000, .id = 0xfffe}};
	const char *wrong;

	for (g.n = 0; g.n < MERGER_FRAMES && in.left;) {
		take_frame(&in, h);
		if (!is_good(&g.in[g.n - 1]))
			g.n--;
	}
	merger_run(&g);
	wrong = merger_check(&g);
	expect(!wrong, wrong);
	return 0;
}
