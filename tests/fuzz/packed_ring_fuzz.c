/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes whatever it likes into its packed rings while its port is at work, and journals of a flued that was
 * killed in the middle of it, or that somebody has written over.
 *
 * The input is a list of actions, of the driver and of the device. If its first byte is odd, a second thread rewrites
 * the rings meanwhile, as a guest with another processor can. What must hold in any case: nothing outside the guest's
 * memory is lent or written (there are pages without access around it), a batch stays within its bounds, positions stay
 * within the ring, and each call comes to an end.
 */
#include "ring_fuzz.h"

#include "../unit/driver_packed.h"

#define LONG_RING 2047 /* of the transmitq: a list in it has more pieces than a chain may have */

static struct packed_driver ring[RINGS];
static struct virtq_journal journal[RINGS];
static bool in_order;

/* A word of the front of a ring, of the driver's events, or of the indirect table. */
uint16_t *some_word(uint32_t random)
{
	unsigned what = random % (2 * RINGS + 1);
	uint32_t word = random >> 8;

	if (what < RINGS)
		return (uint16_t *)ring[what].ring + word % (8 * RING);
	if (what < 2 * RINGS)
		return (uint16_t *)ring[what - RINGS].driver + word % 2;
	return (uint16_t *)ram_at(&ram, table_gpa) + word % (TABLE_BYTES / 2);
}

static void check_positions(unsigned i)
{
	uint32_t base = virtq_base(vq[i]);

	expect((base & PACKED_POS) < ring[i].size && (base >> 16 & PACKED_POS) < ring[i].size, "positions");
	expect((journal[i].at & PACKED_POS) < ring[i].size && journal[i].n == 0, "the journal between two batches");
}

static void start(unsigned i, uint16_t base, bool event_idx)
{
	struct virtq_conf c = packed_conf(&ring[i]);

	c.base = (uint16_t)((base & PACKED_POS) % c.size | (base & PACKED_WRAP));
	c.indirect = true;
	c.event_idx = event_idx;
	c.in_order = in_order;
	c.log_used = ram.gmem->log.on;
	c.journal = &journal[i];
	run_ring(i, &c);
	ring[i].next = vq[i]->avail_at;
	ring[i].holds = false;
	check_positions(i);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	make_memory();
	for (unsigned i = 0; i < RINGS; i++)
		packed_init(&ring[i], &ram, i == 1 ? LONG_RING : RING + 1, PACKED_START);
	make_port();
	return 0;
}

/* ---- actions ---- */

/* The next descriptor, shown with those before it or not, or one anywhere, whatever its flags. */
static void write_descriptor(struct input *in)
{
	uint64_t gpa = take_gpa(in);
	uint32_t len = take_len(in);
	unsigned where = take(in, 1), flags = take(in, 1) & 7, id = take(in, 1);
	struct packed_driver *d = &ring[where % 4 % RINGS];

	if (where % 4 == 3) {
		packed_indirect(d, table_gpa, id % 64, gpa, len, flags);
	} else if (where & 128) {
		d->ring[id % RING] = (struct vring_packed_desc){gpa, len, (uint16_t)id, (uint16_t)take(in, 2)};
	} else {
		packed_put(d, gpa, len, flags, id);
		if (where & 64)
			packed_show(d);
	}
}

/* What is there already, again, whoever's it is. */
static void offer_again(struct input *in)
{
	struct packed_driver *d = &ring[take(in, 1) % RINGS];

	for (unsigned n = take(in, 1) % 64; n; n--) {
		const struct vring_packed_desc *at = &d->ring[d->next & PACKED_POS];

		packed_put(d, at->addr, at->len, at->flags & 7u, at->id);
	}
	packed_show(d);
}

/* flued is killed and the next one starts; @how: from a journal that somebody has written into. */
static void restart(struct input *in)
{
	unsigned i = take(in, 1), how = take(in, 1);

	stop_ring(i % RINGS);
	for (unsigned n = how & 3; n; n--)
		((uint16_t *)&journal[i % RINGS])[take(in, 1) % 40] = (uint16_t)take(in, 2);
	if (how & 64)
		memset(ring[i % RINGS].ring, 0, 16 * (size_t)ring[i % RINGS].size);
	if (how & 128)
		journal[i % RINGS].live = 0;
	start(i % RINGS, (uint16_t)take(in, 2), i & 64);
}

static void take_used(unsigned i)
{
	struct packed_driver *d = &ring[i];

	while (packed_is_used(d) && d->taken != d->next)
		d->taken = packed_on(d, d->taken, 1);
}

static void act(struct input *in)
{
	unsigned i, op = take(in, 1) % 11;

	switch (op) {
	case 0:
	case 1:
	case 2:
		write_descriptor(in);
		break;
	case 3:
		offer_again(in);
		break;
	case 4:
		receive();
		break;
	case 5:
		transmit(take(in, 1), take(in, 2));
		break;
	case 6: /* what the driver asks for */
		i = take(in, 1) % RINGS;
		packed_ask(&ring[i], (uint16_t)take(in, 1), (uint16_t)take(in, 2));
		take_used(i);
		break;
	case 7:
		if (!port->ops->rx_sleep(port, 0))
			port->ops->rx_wake(port, 0);
		break;
	case 8:
		restart(in);
		break;
	case 9:
		command();
		break;
	default:
		port->ops->attend(port);
		break;
	}
	for (i = 0; i < RINGS; i++)
		check_positions(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	unsigned first = take(&in, 1);

	in_order = first & 32;
	memset(journal, 0, sizeof(journal));
	memset(ram_at(&ram, table_gpa), 0, TABLE_BYTES);
	guest_connected(guest);
	guest_features(guest, &(struct guest_agreed){.mrg_rxbuf = first & 2,
						     .long_header = first & 4,
						     .may_leave = first & 64 ? OFFLOAD_ALL : 0,
						     .takes = first & 128 ? OFFLOAD_ALL : 0});
	ram.gmem->log.on = first & 16;
	for (unsigned i = 0; i < RINGS; i++) {
		memset(ring[i].ring, 0, 16 * (size_t)ring[i].size);
		*ring[i].driver = *ring[i].device = (struct vring_packed_event){0};
		ring[i].taken = PACKED_START;
		ring[i].run = 0;
		start(i, PACKED_START, first & 8);
	}
	atomic_store(&rewrite, first & 1);
	while (in.left)
		act(&in);
	stop_rewriting();
	for (unsigned i = 0; i < RINGS; i++)
		stop_ring(i);
	return 0;
}
