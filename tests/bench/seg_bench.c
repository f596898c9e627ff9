/* SPDX-License-Identifier: Apache-2.0 */
/* seg_bench [ROUNDS]: what software offloads cost on one core, as a line of JSON.
 *
 * Bytes: 64 KiB of TCP payload are copied to new buffers, as they are (copy_gbps), and cut into frames of 1,500 bytes
 * with complete checksums, summed before the copy (segment_gbps) or in it (fused_gbps); the shares are those of plain
 * copying. Merging: cycles per frame of looking for a run where none comes about, for UDP, for acknowledgements, and for
 * segments of ever other flows. Variants take turns, and what is printed are medians, so that a disturbed moment disturbs
 * none of them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/cycles.h"
#include "wire/csum.h"
#include "wire/merge.h"
#include "wire/seg.h"

#define ROUNDS     200
#define ROUNDS_MAX 10000
#define FRAMES     8 /* that take turns, so that not all is in the first cache */
#define HEAD_BYTES 66
#define MSS        1448
#define SEGMENTS   45
#define PAYLOAD    (SEGMENTS * MSS)
#define SLOT_BYTES 1536 /* a buffer for a segment, as Linux's driver has them */
#define HEADS      64
#define LOOPS      64 /* of a batch of heads in a round */
#define RUNS_BITS  3
#define RUNS       (1 << RUNS_BITS)

static uint8_t source[FRAMES][HEAD_BYTES + PAYLOAD];
static uint8_t target[FRAMES][SEGMENTS * SLOT_BYTES];

/* An Ethernet, IP and TCP or UDP header without payload in a frame of 60 to 78 bytes. */
struct head {
	uint8_t b[128];
	uint32_t len;
};
static struct head heads[HEADS];

static void make_tcp(uint8_t *f, uint32_t frame_bytes, uint16_t port)
{
	uint8_t *ip = f + ETH_HEAD_BYTES, *tcp = ip + IP4_HEAD_MIN;

	memset(f, 0, HEAD_BYTES);
	be16_put(f + ETH_TYPE_OFF, ETH_P_IP4);
	ip[0] = 0x45;
	be16_put(ip + IP4_LEN_OFF, (uint16_t)(frame_bytes - ETH_HEAD_BYTES));
	ip[IP4_PROTO_OFF] = IPPROTO_TCP;
	be32_put(ip + IP4_SRC_OFF, 0x0a000001);
	be32_put(ip + IP4_DST_OFF, 0x0a000002);
	csum_ip4_set(ip, IP4_HEAD_MIN);
	be16_put(tcp, port);
	tcp[TCP_DOFF_OFF] = (HEAD_BYTES - ETH_HEAD_BYTES - IP4_HEAD_MIN) << 2;
	tcp[TCP_FLAGS_OFF] = TCP_FLAG_ACK;
}

static void copy_frame(unsigned i)
{
	memcpy(target[i], source[i], sizeof(source[i]));
}

/* Cut a frame into buffers of its own. @fused: payloads are summed while they are copied, else before. */
static force_inline void segment(unsigned i, bool fused)
{
	uint8_t *out = target[i];
	uint32_t head_len, off, len;
	struct seg s;

	if (seg_begin(&s, source[i], HEAD_BYTES, sizeof(source[i]), SEG_TCP4, MSS))
		abort();
	for (; seg_next(&s, out, &head_len, &off, &len); out += SLOT_BYTES) {
		struct csum c = {0};

		if (fused)
			csum_copy(&c, out + head_len, source[i] + off, len);
		else
			csum_add(&c, source[i] + off, len);
		seg_finish(&s, out, &c);
		if (!fused)
			memcpy(out + head_len, source[i] + off, len);
	}
}

static void segment_frame(unsigned i)
{
	segment(i, false);
}

static void segment_fused(unsigned i)
{
	segment(i, true);
}

static double gbps(void (*of)(unsigned i))
{
	uint64_t began = cycles_now();

	for (unsigned i = 0; i < FRAMES; i++)
		of(i);
	return 8.0 * FRAMES * PAYLOAD / (double)cycles_to_ns(cycles_now() - began);
}

/* What forwarding does: a small table of runs by key, where who comes later displaces; and where none is open, what can
 * begin none needs no further look. */
static unsigned look_for_runs(void)
{
	struct merge_run runs[RUNS];
	bool open[RUNS] = {false}, any = false;
	unsigned appended = 0;

	for (unsigned i = 0; i < HEADS; i++) {
		struct merge_seg m;
		unsigned slot;

		if (merge_look(&m, heads[i].b, sizeof(heads[i].b), heads[i].len) != MERGE_SEGMENT)
			continue;
		if (!m.is_data && !any)
			continue;
		slot = merge_key(&m) >> (32 - RUNS_BITS);
		if (open[slot])
			appended += merge_try(&runs[slot], &m) == MERGE_APPENDED;
		open[slot] = m.is_data && merge_begin(&runs[slot], &m);
		any |= open[slot];
	}
	return appended;
}

static void make_udp_heads(void)
{
	for (unsigned i = 0; i < HEADS; i++) {
		make_tcp(heads[i].b, 60, (uint16_t)i);
		heads[i].b[ETH_HEAD_BYTES + IP4_PROTO_OFF] = IPPROTO_UDP;
		heads[i].len = 60;
	}
}

static void make_ack_heads(void)
{
	for (unsigned i = 0; i < HEADS; i++) {
		make_tcp(heads[i].b, HEAD_BYTES, (uint16_t)i);
		heads[i].len = HEAD_BYTES;
	}
}

static void make_data_heads(void)
{
	for (unsigned i = 0; i < HEADS; i++) {
		make_tcp(heads[i].b, HEAD_BYTES + MSS, (uint16_t)i);
		heads[i].len = HEAD_BYTES + MSS;
	}
}

static double cycles_of_heads(void (*make)(void))
{
	uint64_t began;
	unsigned appended = 0;

	make();
	began = cycles_now();
	for (unsigned i = 0; i < LOOPS; i++)
		appended += look_for_runs();
	if (appended)
		abort();
	return (double)(cycles_now() - began) / (HEADS * LOOPS);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

enum { COPY, SEGMENT, FUSED, SEGMENT_SHARE, FUSED_SHARE, UDP, ACKS, FLOWS, NUMBERS };
static const char *const name[NUMBERS] = {"copy_gbps",   "segment_gbps", "fused_gbps", "segment_share",
					  "fused_share", "udp_cycles",   "ack_cycles", "flows_cycles"};

int main(int argc, char **argv)
{
	static double v[NUMBERS][ROUNDS_MAX];
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : ROUNDS;

	rounds = rounds < 1 ? 1 : min_u32(rounds, ROUNDS_MAX);
	cycles_init();
	memset(target, 0, sizeof(target)); /* pages that are there */
	for (unsigned i = 0; i < FRAMES; i++)
		make_tcp(source[i], HEAD_BYTES + MSS, 1);
	for (unsigned i = 0; i < rounds; i++) {
		v[COPY][i] = gbps(copy_frame);
		v[SEGMENT][i] = gbps(segment_frame);
		v[FUSED][i] = gbps(segment_fused);
		v[SEGMENT_SHARE][i] = v[SEGMENT][i] / v[COPY][i];
		v[FUSED_SHARE][i] = v[FUSED][i] / v[COPY][i];
		v[UDP][i] = cycles_of_heads(make_udp_heads);
		v[ACKS][i] = cycles_of_heads(make_ack_heads);
		v[FLOWS][i] = cycles_of_heads(make_data_heads);
	}
	for (unsigned k = 0; k < NUMBERS; k++)
		printf("%s\"%s\": %.2f", k ? ", " : "{", name[k], median(v[k], rounds));
	puts("}");
	return 0;
}
