/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that writes whatever it likes into its split rings while its port is at work.
 *
 * The input is a list of actions, of the driver and of the device. If its first byte is odd, a second thread rewrites
 * the rings meanwhile, as a guest with another processor can. What must hold in any case: nothing outside the guest's
 * memory is lent or written (there are pages without access around it), a batch stays within its bounds, and each call
 * comes to an end.
 */
#include "ring_fuzz.h"

#define LONG_RING 2048 /* of the transmitq: a loop in it has more pieces than a chain may have */

static struct driver ring[RINGS];
static bool in_order;

/* A word of the front of a descriptor table or available ring, or of the indirect table. */
uint16_t *some_word(uint32_t random)
{
	unsigned what = random % (2 * RINGS + 1);
	uint32_t word = random >> 8;

	if (what < RINGS)
		return (uint16_t *)ring[what].desc + word % (8 * RING);
	if (what < 2 * RINGS)
		return (uint16_t *)ring[what - RINGS].avail + word % (3 + RING);
	return (uint16_t *)ram_at(&ram, table_gpa) + word % (TABLE_BYTES / 2);
}

static void start(unsigned i, bool event_idx)
{
	struct virtq_conf c = driver_conf(&ring[i]);

	c.indirect = true;
	c.event_idx = event_idx;
	c.in_order = in_order;
	c.log_used = ram.gmem->log.on;
	c.used_log.v = ring[i].used_gpa;
	run_ring(i, &c);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	make_memory();
	for (unsigned i = 0; i < RINGS; i++)
		driver_init(&ring[i], &ram, i == 1 ? LONG_RING : RING, 0);
	make_port();
	return 0;
}

/* ---- actions ---- */

static void write_descriptor(struct input *in)
{
	struct vring_desc d = {.addr = take_gpa(in), .len = take_len(in)};
	unsigned where = take(in, 1), i = take(in, 1);

	d.flags = take(in, 1) & 7;
	d.next = (uint16_t)(take(in, 1) % (RING + 2));
	if (where % 4 == 3)
		ram_write(&ram, table_gpa + 16 * (i % 64), &d, sizeof(d));
	else
		ring[where % 4].desc[i % RING] = d;
}

static void offer(struct input *in)
{
	struct driver *d = &ring[take(in, 1) % RINGS];
	unsigned n = take(in, 1);

	for (unsigned i = 0; i < 1 + n % 4; i++)
		driver_put(d, take(in, 1) % (RING + 1));
	driver_show(d);
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
		offer(in);
		break;
	case 4:
		receive();
		break;
	case 5:
		transmit(take(in, 1), take(in, 2));
		break;
	case 6: /* an index that jumps, flags, events */
		i = take(in, 1) % RINGS;
		*(uint16_t *)ram_at(&ram, ring[i].avail_gpa + 2 * (take(in, 1) % (RING + 3))) = (uint16_t)take(in, 2);
		break;
	case 7:
		if (!port->ops->rx_sleep(port, 0))
			port->ops->rx_wake(port, 0);
		break;
	case 8: /* the driver resets one ring */
		i = take(in, 1);
		stop_ring(i % RINGS);
		ring[i % RINGS].next = ring[i % RINGS].used->idx;
		driver_show(&ring[i % RINGS]);
		start(i % RINGS, i & 64);
		break;
	case 9:
		command();
		break;
	default:
		port->ops->attend(port);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	unsigned first = take(&in, 1);

	for (unsigned i = 0; i < RINGS; i++) {
		ring[i].next = ring[i].taken = 0;
		memset(ring[i].desc, 0, sizeof(*ring[i].desc) * ring[i].size);
		memset(ring[i].avail, 0, 6 + 2 * (size_t)ring[i].size);
		memset(ring[i].used, 0, 6 + 8 * (size_t)ring[i].size);
	}
	memset(ram_at(&ram, table_gpa), 0, TABLE_BYTES);
	guest_connected(guest);
	guest_features(guest, &(struct guest_agreed){.mrg_rxbuf = first & 2,
						     .long_header = first & 4,
						     .may_leave = first & 64 ? OFFLOAD_ALL : 0,
						     .takes = first & 128 ? OFFLOAD_ALL : 0});
	ram.gmem->log.on = first & 16;
	in_order = first & 32;
	for (unsigned i = 0; i < RINGS; i++)
		start(i, first & 8);
	atomic_store(&rewrite, first & 1);
	while (in.left)
		act(&in);
	stop_rewriting();
	for (unsigned i = 0; i < RINGS; i++)
		stop_ring(i);
	return 0;
}
