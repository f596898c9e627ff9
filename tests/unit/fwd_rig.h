/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A switch between ports that write down what they are sent. For use inside of cmocka tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fwd/fwd.h"
#include "fwd/table.h"

#define FAKES_MAX  8
#define GOT_MAX    512
#define FAKE_BYTES 4096 /* of a longer frame, its first pieces are kept */
#define WORKER     2

struct fake {
	struct port port;
	unsigned n;
	struct {
		uint32_t len;
		uint8_t bytes[FAKE_BYTES];
		struct frame_offload off;
	} got[GOT_MAX];
};

/* One switch at a time. */
static struct fwd *sw;
static struct fake *fake[FAKES_MAX];
static struct frame_batch batch;
static struct fwd_work work;

static inline void fake_tx(struct port *p, struct frame *const *f, unsigned n, unsigned worker)
{
	struct fake *k = (struct fake *)p;

	assert_int_equal(worker, WORKER);
	for (unsigned i = 0; i < n && k->n < GOT_MAX; i++, k->n++) {
		uint32_t at = f[i]->head_len;

		k->got[k->n].len = f[i]->len;
		k->got[k->n].off = f[i]->off;
		memcpy(k->got[k->n].bytes, f[i]->data, at);
		for (unsigned s = 0; s < f[i]->n_body; at += f[i]->body[s++].len)
			if (at + f[i]->body[s].len <= FAKE_BYTES)
				memcpy(k->got[k->n].bytes + at, f[i]->body[s].p, f[i]->body[s].len);
		assert_int_equal(at, f[i]->len);
	}
	count(&p->counters[worker].tx_frames, n);
}

static const struct port_ops fake_ops = {.kind = "fake", .tx = fake_tx};

static inline struct fwd_port_conf access_to(uint16_t vid)
{
	return (struct fwd_port_conf){.vid = vid};
}

/* A trunk with a native VLAN (0: none) and up to three others (0: none). */
static inline struct fwd_port_conf trunk_of(uint16_t native, uint16_t a, uint16_t b, uint16_t c)
{
	struct fwd_port_conf conf = {.trunk = true, .vid = native};
	uint16_t vid[] = {native, a, b, c};

	for (unsigned i = 0; i < ARRAY_SIZE(vid); i++)
		if (vid[i])
			conf.allowed[vid[i] / 8] |= (uint8_t)(1u << vid[i] % 8);
	return conf;
}

static inline struct fwd_port_conf with_mac(struct fwd_port_conf conf, uint64_t mac)
{
	conf.has_mac = true;
	conf.mac = mac_from_u64(mac);
	return conf;
}

/* A port that is not part of the switch yet. */
static inline struct fake *fake_new(const char *name)
{
	struct fake *k = aligned_alloc(CACHE_LINE, (sizeof(*k) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);

	if (!k)
		abort();
	memset(k, 0, sizeof(*k));
	k->port.ops = &fake_ops;
	k->port.mtu = 1500;
	k->port.up = true;
	snprintf(k->port.name, sizeof(k->port.name), "%s", name);
	return k;
}

/* A switch whose port i is configured as conf[i]. */
static inline void switch_up(const struct fwd_port_conf *conf, unsigned n)
{
	struct err e = {0};

	sw = fwd_new(&(struct fwd_conf){.fdb_entries = 64, .ageing_s = 300});
	assert_non_null(sw);
	for (unsigned i = 0; i < n; i++) {
		char name[16];

		snprintf(name, sizeof(name), "p%u", i);
		fake[i] = fake_new(name);
		if (fwd_port_add(sw, &fake[i]->port, &conf[i], &e) < 0)
			fail_msg("%s: %s", name, e.text);
	}
}

/* All of them access ports of VLAN 1. */
static inline void plain_switch_up(unsigned n)
{
	struct fwd_port_conf conf[FAKES_MAX];

	for (unsigned i = 0; i < n; i++)
		conf[i] = access_to(1);
	switch_up(conf, n);
}

static inline void switch_down(void)
{
	for (unsigned i = 0; i < FAKES_MAX; i++) {
		if (fake[i] && sw->table->port[fake[i]->port.id] == &fake[i]->port)
			fwd_port_remove(sw, &fake[i]->port);
		free(fake[i]);
		fake[i] = NULL;
	}
	fwd_free(sw);
}

static inline void forget_got(void)
{
	for (unsigned i = 0; i < FAKES_MAX; i++)
		if (fake[i])
			fake[i]->n = 0;
}

/* ---- frames ---- */

#define BROADCAST UINT64_C(0xffffffffffff)
#define UNTAGGED  (-1)

static inline void new_batch(void)
{
	batch.n = batch.n_spans = 0;
	forget_got();
	memset(&work, 0, sizeof(work));
}

/* Put a frame into the batch: 60 bytes (64 with a tag), told apart by @mark. @tci: UNTAGGED or a tag's. */
static inline struct frame *put(uint64_t dst, uint64_t src, int tci, uint32_t mark)
{
	struct frame *f = &batch.f[batch.n++];
	uint8_t *p = frame_head_begin(f);
	unsigned tag = tci < 0 ? 0 : VLAN_TAG_BYTES;

	memset(p, 0, 64);
	memcpy(p, mac_from_u64(dst).b, 6);
	memcpy(p + 6, mac_from_u64(src).b, 6);
	if (tag) {
		be16_put(p + 12, ETH_P_VLAN);
		be16_put(p + 14, (uint16_t)tci);
	}
	be16_put(p + 12 + tag, 0x88b6);
	be32_put(p + 14 + tag, mark);
	f->len = f->head_len = 60 + tag;
	f->body = NULL;
	f->n_body = 0;
	return f;
}

static inline void process(unsigned in)
{
	fwd_process(sw, &fake[in]->port, &batch, WORKER, &work);
}

/* Send one frame into port @in; returns the ports that got one, a bit for each. */
static inline unsigned send_tagged(unsigned in, uint64_t dst, uint64_t src, int tci)
{
	unsigned to = 0;

	new_batch();
	put(dst, src, tci, 0x12345678);
	process(in);
	for (unsigned i = 0; i < FAKES_MAX; i++)
		if (fake[i] && fake[i]->n) {
			assert_int_equal(fake[i]->n, 1);
			assert_true(work.touched.bits[fake[i]->port.id / 64] >> fake[i]->port.id % 64 & 1);
			to |= 1u << i;
		}
	return to;
}

static inline unsigned send(unsigned in, uint64_t dst, uint64_t src)
{
	return send_tagged(in, dst, src, UNTAGGED);
}

static inline uint64_t drops(unsigned port, enum drop_reason r)
{
	return fake[port]->port.counters[WORKER].drop[r];
}

static inline uint64_t all_drops(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < FAKES_MAX; i++)
		for (unsigned r = 0; fake[i] && r < DROP_N; r++)
			n += drops(i, (enum drop_reason)r);
	return n;
}

static inline struct fwd_stats stats(void)
{
	struct fwd_stats s;

	fwd_stats_get(sw, &s);
	return s;
}
