/* SPDX-License-Identifier: Apache-2.0 */
#include "front/verify_flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Each frame has a number; length and payload are computed from it, by the sender and once more by the receiver. */

#define BURST     64
#define ETHERTYPE 0x88b6 /* IEEE 802 local experimental */

struct head {
	uint8_t dst[6], src[6];
	uint8_t ethertype[2];
	uint8_t direction;
	uint8_t zero;
	uint64_t number;
} __attribute__((packed));

int flow_init(struct flow *f, uint8_t direction, unsigned window)
{
	f->direction = direction;
	f->window = window;
	f->low = f->dead = 0;
	f->orphaned = false;
	f->count = (struct flow_counts){0};
	f->seen = calloc(FLOW_SEEN / 64, sizeof(*f->seen));
	return f->seen ? 0 : -ENOMEM;
}

void flow_fini(struct flow *f)
{
	free(f->seen);
}

static uint64_t mix(uint64_t x) /* splitmix64 */
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint32_t length_of(const struct flow *f, uint64_t number)
{
	return f->least + (uint32_t)(mix(number) % (f->most - f->least + 1));
}

static void fill(uint8_t *at, uint32_t bytes, uint64_t seed)
{
	uint64_t word = mix(seed);

	for (; bytes >= sizeof(word); at += sizeof(word), bytes -= (uint32_t)sizeof(word)) {
		memcpy(at, &word, sizeof(word));
		word = word * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	}
	memcpy(at, &word, bytes);
}

/* Write the frame @number to @to; its length. */
static uint32_t build(const struct flow *f, uint64_t number, uint8_t *to)
{
	const uint32_t bytes = length_of(f, number);
	const struct head head = {
		.dst = {0x52, 0, 0, 0, 0, (uint8_t)(2 - f->direction)},
		.src = {0x52, 0, 0, 0, 0, (uint8_t)(1 + f->direction)},
		.ethertype = {ETHERTYPE >> 8, ETHERTYPE & 0xff},
		.direction = f->direction,
		.number = number,
	};

	memcpy(to, &head, sizeof(head));
	fill(to + sizeof(head), bytes - (uint32_t)sizeof(head), 2 * number + f->direction);
	return bytes;
}

static bool test_seen(const struct flow *f, uint64_t number)
{
	return f->seen[number % FLOW_SEEN / 64] >> (number % 64) & 1;
}

static void set_seen(struct flow *f, uint64_t number, bool on)
{
	const uint64_t bit = UINT64_C(1) << (number % 64);
	uint64_t *word = &f->seen[number % FLOW_SEEN / 64];

	*word = on ? *word | bit : *word & ~bit;
}

static void note_completed(struct flow *f)
{
	f->count.completed = f->count.sent - front_tx_pending(f->tx);
}

void flow_send(struct flow *f)
{
	struct front_frame frame[BURST];
	const uint64_t on_their_way = f->count.sent - (f->low > f->dead ? f->low : f->dead);
	const uint32_t room = on_their_way < f->window ? f->window - (uint32_t)on_their_way : 0;
	const unsigned n = front_tx_claim(f->tx, frame, min_u32(room, BURST));

	note_completed(f);
	for (unsigned i = 0; i < n; i++, f->count.sent++) {
		set_seen(f, f->count.sent, false);
		frame[i].len = build(f, f->count.sent, frame[i].bytes);
	}
	front_tx_post(f->tx, frame, n);
}

/* The number of a frame, if it is one of ours and nothing has changed in it. */
static bool check(const struct flow *f, const struct front_frame *frame, uint64_t *number)
{
	static const uint8_t no_offload[10];
	uint8_t got[FLOW_MAX], due[FLOW_MAX];
	struct head head;

	if (frame->len < FLOW_MIN || frame->len > FLOW_MAX || front_rx_copy(f->rx, frame, got, FLOW_MAX) != frame->len)
		return false;
	memcpy(&head, got, sizeof(head));
	*number = head.number;
	return head.number < f->count.sent && build(f, head.number, due) == frame->len &&
	       memcmp(got, due, frame->len) == 0 &&
	       memcmp(frame->bytes - FRONT_HEADER_BYTES, no_offload, sizeof(no_offload)) == 0;
}

/* What is between low and @number is missing. */
static void pass_over(struct flow *f, uint64_t number)
{
	for (; f->low < number; f->low++)
		if (f->low < f->dead || f->orphaned)
			f->count.lost++;
		else
			f->count.dropped++;
}

static void take(struct flow *f, const struct front_frame *frame)
{
	uint64_t number;

	if (!check(f, frame, &number)) {
		f->count.corrupt++;
		return;
	}
	if (number + FLOW_SEEN < f->count.sent || test_seen(f, number)) {
		f->count.duplicates++;
		return;
	}
	set_seen(f, number, true);
	f->count.received++;
	if (number < f->low) {
		f->count.reordered++;
		return;
	}
	pass_over(f, number);
	f->low = number + 1;
	f->orphaned = false;
}

unsigned flow_receive(struct flow *f)
{
	struct front_frame frame[BURST];
	const unsigned n = front_rx_burst(f->rx, frame, BURST);

	for (unsigned i = 0; i < n; i++)
		take(f, &frame[i]);
	front_rx_return(f->rx);
	return n;
}

static void drain(struct flow *f)
{
	struct front_frame none[1];

	front_tx_claim(f->tx, none, 0);
	note_completed(f);
	while (flow_receive(f) > 0)
		continue;
}

void flow_died(struct flow *f)
{
	drain(f);
	f->dead = f->count.completed;
	f->orphaned = true;
}

void flow_end(struct flow *f)
{
	drain(f);
	pass_over(f, f->count.sent);
}

uint64_t flow_waiting(const struct flow *f)
{
	return f->count.sent - f->count.completed;
}

uint64_t flow_ahead(const struct flow *f)
{
	uint64_t n = 0;

	for (uint64_t number = f->count.completed; number < f->count.sent; number++)
		n += test_seen(f, number);
	return n;
}

bool flow_idle(const struct flow *f)
{
	return f->low == f->count.sent && f->count.completed == f->count.sent;
}
