/* SPDX-License-Identifier: Apache-2.0 */
/* Batches of any frames through a switch with a port of every kind of VLAN membership, which is changed meanwhile.
 *
 * What must hold in any case: a frame leaves by ports of its VLAN only, not by the one it came from, with the tag that
 * port wants and otherwise as it came; and each frame is delivered or counted as a drop.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fwd/fwd.h"
#include "fwd/table.h"

#define FAKES    8
#define WORKER   1
#define BODY_MAX 1600

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fwd *sw;
static struct port fake[FAKES];
static struct frame_batch batch;
static struct fwd_work work;
static bool changed[FAKES]; /* settings or link, by this input */

/* What went in. */
static struct original {
	uint8_t bytes[FRAME_HEAD_MAX + BODY_MAX];
	uint32_t len;
	unsigned outs; /* ports it was given to */
} original[FRAME_BATCH];
static struct port *in_port;

static void expect(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "does not hold: %s\n", what);
		abort();
	}
}

static const struct fwd_port_conf *conf_of(const struct port *p)
{
	return &sw->table->conf[p->id];
}

static bool has_tag(const struct original *o)
{
	return be16_get(o->bytes + 12) == ETH_P_VLAN;
}

/* The VLAN that the original belongs to; 0: it belongs to none. */
static uint16_t vlan_of(const struct original *o)
{
	uint16_t vid = has_tag(o) ? be16_get(o->bytes + 14) & VLAN_VID_MASK : 0;

	return vid ? vid : conf_of(in_port)->vid;
}

/* The bytes of @f from @at on are those of @o from @from on. */
static bool same_bytes(const struct frame *f, uint32_t at, const struct original *o, uint32_t from)
{
	uint8_t bytes[FRAME_HEAD_MAX + BODY_MAX + VLAN_TAG_BYTES];
	uint32_t len = f->head_len;

	memcpy(bytes, f->data, len);
	for (unsigned i = 0; i < f->n_body; len += f->body[i++].len)
		memcpy(bytes + len, f->body[i].p, f->body[i].len);
	return len == f->len && len - at == o->len - from && memcmp(bytes + at, o->bytes + from, len - at) == 0;
}

static void check_out(const struct port *out, struct frame *f, struct original *o)
{
	const struct fwd_port_conf *c = conf_of(out);
	uint16_t vid = vlan_of(o);
	bool tagged = c->trunk && vid != c->vid;

	expect(out != in_port, "a frame does not go back");
	expect(out->up, "a port that is down gets nothing");
	expect(vid >= 1 && vid <= VID_MAX && carries(c, vid), "a frame stays in its VLAN");
	expect(carries(conf_of(in_port), vid), "a port sends into its own VLANs");
	expect(f->tagged == tagged, "tagged as the port wants it");
	expect(memcmp(f->data, o->bytes, 12) == 0, "addresses");
	if (tagged) {
		expect(be16_get(f->data + 12) == ETH_P_VLAN, "TPID");
		expect((be16_get(f->data + 14) & VLAN_VID_MASK) == vid, "VID");
		expect((be16_get(f->data + 14) & ~VLAN_VID_MASK) ==
			       (has_tag(o) ? be16_get(o->bytes + 14) & ~VLAN_VID_MASK : 0),
		       "priority");
	}
	expect(same_bytes(f, tagged ? 16 : 12, o, has_tag(o) ? 16 : 12), "everything behind the tag");
	expect(f->len <= out->mtu + ETH_HEAD_BYTES + (tagged ? VLAN_TAG_BYTES : 0u), "it fits");
	frame_hash(f);
	o->outs++;
}

static void fake_tx(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	expect(worker == WORKER && n && n <= FRAME_BATCH, "a batch");
	for (unsigned i = 0; i < n; i++) {
		expect(f[i] >= batch.f && f[i] < batch.f + batch.n, "a frame of the batch");
		expect(i == 0 || f[i] > f[i - 1], "in order, each once");
		check_out(p, f[i], &original[f[i] - batch.f]);
	}
	expect(n == 0 || p->id < PORTS_MAX, "a port");
}

static const struct port_ops ops = {.kind = "fake", .tx = fake_tx};

/* ---- the switch ---- */

static uint64_t mac_at(unsigned i)
{
	static const uint64_t special[] = {0, UINT64_C(0xffffffffffff), UINT64_C(0x0180c2000003),
					   UINT64_C(0x01005e000001)};

	return i % 16 >= 12 ? special[i % 4] : UINT64_C(0x020000000000) + i % 12;
}

static uint16_t vid_at(unsigned i)
{
	static const uint16_t vid[] = {1, 10, 20, 4094, 0, 4095};

	return vid[i % 6];
}

/* Eight kinds: access in three VLANs, trunks with and without native VLAN, a guarded one, one with an address. */
static struct fwd_port_conf conf_at(unsigned i)
{
	struct fwd_port_conf c = {.vid = vid_at(i % 3)};

	if (i % 8 >= 4) {
		c.trunk = true;
		c.vid = i & 1 ? vid_at(i % 3) : 0;
		for (unsigned k = 0; k < 4; k++)
			if ((i >> k & 1) || vid_at(k) == c.vid)
				c.allowed[vid_at(k) / 8] |= (uint8_t)(1u << vid_at(k) % 8);
	}
	return c;
}

/* As each input finds them: ports 1 and 5 have an address, and port 5 a guard. */
static struct fwd_port_conf first_conf(unsigned i)
{
	struct fwd_port_conf c = conf_at(i);

	c.has_mac = i == 1 || i == 5;
	c.mac = mac_from_u64(mac_at(i));
	c.spoof_guard = i == 5;
	return c;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	sw = fwd_new(&(struct fwd_conf){.fdb_entries = 16, .ageing_s = 300});
	expect(sw, "memory");
	for (unsigned i = 0; i < FAKES; i++) {
		struct fwd_port_conf c = first_conf(i);
		struct err e;

		fake[i].ops = &ops;
		expect(fwd_port_add(sw, &fake[i], &c, &e) == 0, "a port joins");
	}
	return 0;
}

static void restore(void)
{
	for (unsigned i = 0; i < FAKES; i++) {
		struct fwd_port_conf c = first_conf(i);
		struct err e;

		fake[i].mtu = 1500;
		if (!fake[i].up || changed[i]) {
			fake[i].up = true;
			expect(fwd_port_set(sw, &fake[i], &c, &e) == 0, "the first settings are good");
		}
		changed[i] = false;
	}
}

/* ---- the input ---- */

struct input {
	const uint8_t *p;
	size_t left;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (; bytes && in->left; bytes--, in->left--)
		v = v << 8 | *in->p++;
	return v;
}

/* Make the next frame of the batch: addresses and tags from a small choice, so that ports meet, and the rest raw. */
static void take_frame(struct input *in)
{
	struct original *o = &original[batch.n];
	struct frame *f = &batch.f[batch.n];
	unsigned addresses = take(in, 1), tag = take(in, 1), at = 12;
	uint32_t room = sizeof(o->bytes), raw;

	memset(o, 0, sizeof(*o));
	memcpy(o->bytes, mac_from_u64(mac_at(addresses >> 4)).b, 6);
	memcpy(o->bytes + 6, mac_from_u64(mac_at(addresses & 15)).b, 6);
	if (tag & 1) {
		be16_put(o->bytes + at, tag & 2 ? ETH_P_QINQ : ETH_P_VLAN);
		be16_put(o->bytes + at + 2, (uint16_t)((tag & 0xe0) << 8 | vid_at(tag >> 2)));
		at += 4;
	}
	o->len = ETH_HEAD_BYTES + take(in, 2) % (room - ETH_HEAD_BYTES + 1);
	raw = take(in, 1) % 64;
	for (uint32_t i = 0; i < raw && at + i < room; i++)
		o->bytes[at + i] = (uint8_t)take(in, 1);
	f->len = o->len;
	f->head_len = min_u32(o->len, FRAME_HEAD_MAX);
	memcpy(frame_head_begin(f), o->bytes, f->head_len);
	f->body = &batch.spans[batch.n_spans];
	f->n_body = 0;
	if (f->len > f->head_len) {
		f->n_body = 1;
		batch.spans[batch.n_spans++] = (struct wire_piece){o->bytes + FRAME_HEAD_MAX, o->len - FRAME_HEAD_MAX};
	}
	batch.n++;
}

static uint64_t all_drops(void)
{
	struct port_totals t;
	uint64_t n = 0;

	for (unsigned i = 0; i < FAKES; i++) {
		port_totals(&fake[i], &t);
		for (unsigned r = 0; r < DROP_N; r++)
			n += t.drop[r];
	}
	return n;
}

static void process(struct input *in)
{
	uint64_t dropped = all_drops(), unaccounted = 0;
	unsigned n = 1 + take(in, 1) % FRAME_BATCH;

	in_port = &fake[take(in, 1) % FAKES];
	batch.n = batch.n_spans = 0;
	while (batch.n < n && in->left)
		take_frame(in);
	fwd_process(sw, in_port, &batch, WORKER, &work);
	for (unsigned i = 0; i < batch.n; i++) {
		unaccounted += original[i].outs == 0;
		expect(!batch.f[i].tagged, "tags are taken out again");
	}
	expect(all_drops() - dropped >= unaccounted, "what was not delivered was counted");
}

static void change(struct input *in)
{
	unsigned what = take(in, 1), i = take(in, 1) % FAKES;
	struct fwd_port_conf c;
	struct err e;

	switch (what % 4) {
	case 0:
		changed[i] = true;
		fake[i].up = !fake[i].up;
		if (what & 4)
			fwd_link_changed(sw, &fake[i]);
		break;
	case 1:
		changed[i] = true;
		c = conf_at(take(in, 1));
		if (fwd_port_set(sw, &fake[i], &c, &e) < 0)
			expect(e.text[0], "a refusal has a reason");
		break;
	case 2:
		fake[i].mtu = 68 + take(in, 2) % 2000;
		break;
	default:
		fwd_fdb_flush(sw);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct fwd_stats s;

	restore();
	while (in.left) {
		if (take(&in, 1) % 8 < 5)
			process(&in);
		else
			change(&in);
	}
	fwd_stats_get(sw, &s);
	expect(s.entries <= s.capacity, "the table is bounded");
	fwd_fdb_flush(sw);
	fwd_stats_get(sw, &s);
	expect(s.entries == 0, "the table's account");
	return 0;
}
