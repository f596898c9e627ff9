/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's port as the control thread sees it: it comes and goes, fails and tells why. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include "guest_rig.h"
#include "port/guest_priv.h"

static struct port_info info_of(struct rig *r)
{
	struct port_info info = {0};

	r->port->ops->info(r->port, &info);
	return info;
}

static const char *detail(const struct port_info *info, const char *key)
{
	for (unsigned i = 0; i < info->n_details; i++)
		if (strcmp(info->detail[i].key, key) == 0)
			return info->detail[i].value;
	return "";
}

static void its_state_follows_the_front_end_and_the_driver(void **state)
{
	struct rig *r = rig_new();
	struct port_info info;

	(void)state;
	assert_int_equal(info_of(r).state, PORT_WAITING);
	guest_connected(r->guest);
	assert_int_equal(info_of(r).state, PORT_STARTING);
	guest_features(r->guest, &(struct guest_agreed){.mrg_rxbuf = true, .long_header = true});
	assert_int_equal(rig_run(r, RECEIVEQ(0), -1), 0);
	assert_int_equal(info_of(r).state, PORT_STARTING); /* runs, but disabled */
	assert_false(r->port->up);
	assert_int_equal(asked.link_changes, 0);

	guest_ring_enable(r->guest, RECEIVEQ(0), true);
	info = info_of(r);
	assert_int_equal(info.state, PORT_UP);
	assert_string_equal(detail(&info, "queue_pairs"), "1 of 4");
	assert_string_equal(detail(&info, "asked"), "the link");
	assert_true(r->port->up);
	assert_int_equal(asked.link_changes, 1);
	guest_ring_enable(r->guest, RECEIVEQ(0), true); /* again: no news */
	assert_int_equal(asked.link_changes, 1);

	assert_int_equal(rig_run(r, RECEIVEQ(1), -1), 0);
	guest_ring_enable(r->guest, RECEIVEQ(1), true);
	rig_halt(r, RECEIVEQ(1));
	assert_int_equal(asked.link_changes, 1); /* it was up all the time */

	rig_halt(r, RECEIVEQ(0));
	assert_false(r->port->up);
	assert_int_equal(asked.link_changes, 2);
	assert_int_equal(info_of(r).state, PORT_STARTING);
	guest_disconnected(r->guest, "it lied");
	info = info_of(r);
	assert_int_equal(info.state, PORT_BROKEN);
	assert_string_equal(info.reason, "it lied");

	guest_connected(r->guest);
	info = info_of(r);
	assert_int_equal(info.state, PORT_STARTING);
	assert_string_equal(info.reason, "it lied"); /* the last break stays known */
	guest_disconnected(r->guest, NULL);
	assert_int_equal(info_of(r).state, PORT_WAITING);
	rig_free(r);
}

static void transmitqs_are_given_to_workers_and_taken_back(void **state)
{
	struct rig *r = rig_new();

	(void)state;
	guest_connected(r->guest);
	guest_features(r->guest, &(struct guest_agreed){.mrg_rxbuf = true, .long_header = true});
	assert_int_equal(rig_run(r, TRANSMITQ(2), 77), 0);
	assert_true(asked.queue[2].given);
	assert_int_equal(asked.queue[2].poll_fd, 77);
	assert_false(asked.queue[0].given);
	assert_false(r->port->up); /* it can send, but not receive */
	rig_halt(r, TRANSMITQ(2));
	assert_false(asked.queue[2].given);

	asked.refuse_queues = -ENOSPC;
	assert_int_equal(rig_run(r, TRANSMITQ(1), 77), -ENOSPC);
	assert_null(guest_of(r->port)->rx[1].vq);
	rig_free(r);
}

static struct guest *leaving;
static bool was_there;

static void look_at_leaving(void)
{
	was_there = leaving->tx[0].vq != NULL;
}

/* Workers that have seen the old set of queues go on using its rings until the grace period is over. */
static void a_receiveq_keeps_its_ring_until_the_workers_have_left(void **state)
{
	struct rig *r = rig_up(true, true, 2);

	(void)state;
	leaving = r->guest;
	was_there = false;
	asked.quiesces = 0;
	asked.on_quiesce = look_at_leaving;
	rig_halt(r, RECEIVEQ(0));
	asked.on_quiesce = NULL;
	assert_int_equal(asked.quiesces, 1);
	assert_true(was_there);
	assert_null(guest_of(r->port)->tx[0].vq);
	rig_halt(r, TRANSMITQ(0)); /* not a matter of grace periods but of the worker: nothing to wait for here */
	guest_ring_halt(r->guest, RECEIVEQ(0)); /* halting what is halted is no error */
	assert_int_equal(asked.quiesces, 1);
	rig_free(r);
}

static void the_first_fault_found_ends_the_connection(void **state)
{
	static const struct {
		unsigned ring;
		const char *reason;
	} row[] = {
		{TRANSMITQ(0), "transmitq 0: a descriptor chain loops"},
		{TRANSMITQ(3), "transmitq 3: a descriptor chain loops"},
		{RECEIVEQ(0), "receiveq 0: a descriptor chain loops"},
		{RECEIVEQ(2), "receiveq 2: a descriptor chain loops"},
		{CONTROLQ, "control queue 0: a descriptor chain loops"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct rig *r = rig_up(true, true, RIG_PAIRS);

		assert_int_equal(rig_run(r, CONTROLQ, -1), 0);
		r->port->ops->attend(r->port);
		assert_int_equal(asked.fails, 0); /* called for nothing */
		virtq_break(r->vq[row[i].ring], VIRTQ_FAULT_LOOP);
		r->port->ops->attend(r->port);
		assert_int_equal(asked.fails, 1);
		assert_string_equal(asked.reason, row[i].reason);
		rig_free(r);
	}
}

static void truncated_memory_is_named_whatever_it_led_to(void **state)
{
	struct rig *r = rig_up(true, true, 1);
	struct frame f = {.len = 60, .head_len = 60};
	struct frame *list = &f;

	(void)state;
	assert_int_equal(gmem_sigbus_install(), 0); /* again: cmocka has its own while a test runs */
	frame_head_begin(&f);
	memset(f.data, 0, 60);
	driver_offer_buffer(&r->d[RECEIVEQ(0)], 0, RAM_GPA + RIG_PART, 2000, VRING_DESC_F_WRITE);
	munmap(r->ram.p, 2 * RIG_PART); /* the driver's own view: it would fault as well */
	assert_int_equal(ftruncate(r->ram.fd, 0), 0);
	r->port->ops->tx(r->port, &list, 1, RIG_WORKER);
	r->port->ops->tx_publish(r->port, RIG_WORKER);
	assert_true(gmem_faulted(r->ram.gmem));
	r->port->ops->attend(r->port);
	assert_string_equal(asked.reason, "the guest's memory file was truncated");
	r->ram.p = mmap(NULL, 2 * RIG_PART, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	rig_free(r);
}

static void an_announcement_is_a_reverse_arp_request(void **state)
{
	/* RFC 903, to all stations: hardware 1, protocol 0x800, lengths 6 and 4, operation 3 */
	static const uint8_t expected[60] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 1, 2,    3,    0x80, 0x35, /* Ethernet */
		0,    1,    8,    0,    6,    4,    0,    3,                                  /* what is asked */
		0x52, 0x54, 0,    1,    2,    3,    0,    0,    0, 0, 0x52, 0x54, 0,    1,    2, 3, 0, 0, 0, 0,
	};
	struct rig *r = rig_new();

	(void)state;
	guest_announce(r->guest, mac_from_u64(0x525400010203));
	assert_int_equal(asked.injected_bytes, 60);
	assert_memory_equal(asked.injected, expected, 60);
	rig_free(r);
}

static void the_mtu_is_told_and_bounds_what_the_front_end_may_ask(void **state)
{
	static const struct {
		unsigned mtu;
		int rc;
	} row[] = {{1500, 0}, {1501, -EINVAL}, {68, 0}, {67, -EINVAL}, {0, -EINVAL}, {65535, -EINVAL}};
	struct rig *r = rig_new();
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(row); i++)
		assert_int_equal(guest_check_mtu(r->guest, row[i].mtu), row[i].rc);
	assert_int_equal(r->port->ops->set_mtu(r->port, 9000, &e), 0);
	assert_int_equal(asked.mtu, 9000);
	assert_int_equal(r->port->mtu, 9000);
	assert_int_equal(guest_check_mtu(r->guest, 9000), 0);
	rig_free(r);
}

/* ---- under load ---- */

#define CHANGES 200

#define SENDERS 2

/* In place of a worker. Its grace periods are made of atomics alone, which the thread sanitizer understands. */
static struct sender {
	struct rig *r;
	unsigned worker;
	atomic_bool stop;
	_Atomic unsigned rounds;
} sender[SENDERS];

static void *send_for_ever(void *arg)
{
	struct sender *s = arg;
	struct frame f[32] = {0}, *list[32];

	for (unsigned i = 0; i < 32; i++) {
		f[i].len = f[i].head_len = 60;
		memset(frame_head_begin(&f[i]), (int)(i + 2 * s->worker), 60);
		list[i] = &f[i];
	}
	while (!atomic_load(&s->stop)) {
		for (unsigned i = 0; i < 32; i++)
			f[i].hash_known = false;
		s->r->port->ops->tx(s->r->port, list, 32, s->worker);
		s->r->port->ops->tx_publish(s->r->port, s->worker);
		s->r->port->ops->tx_flush(s->r->port, s->worker);
		atomic_fetch_add(&s->rounds, 1);
		sched_yield(); /* on few processors others must come to the point as well */
	}
	return NULL;
}

/* Until each sender has begun another round. */
static void await_senders(void)
{
	for (unsigned i = 0; i < SENDERS; i++)
		for (unsigned seen = atomic_load(&sender[i].rounds); atomic_load(&sender[i].rounds) == seen;)
			sched_yield();
}

static void offer_everything(struct rig *r, unsigned k)
{
	struct vring_used_elem e;
	struct driver *d = &r->d[RECEIVEQ(k)];

	while (driver_take(d, &e)) {
		assert_int_equal(e.len, 72);
		driver_put(d, e.id);
	}
	driver_show(d);
}

static void queues_come_and_go_under_load(void **state)
{
	struct rig *r = rig_up(true, true, RIG_PAIRS);
	pthread_t thread[SENDERS];
	struct port_totals t;
	uint64_t sent = 0, counted = 0;

	(void)state;
	for (unsigned k = 0; k < RIG_PAIRS; k++)
		for (unsigned i = 0; i < RIG_RING; i++)
			driver_offer_buffer(&r->d[RECEIVEQ(k)], i, RAM_GPA + RIG_PART + 128 * (RIG_RING * k + i), 128,
					    VRING_DESC_F_WRITE);
	for (unsigned i = 0; i < SENDERS; i++) {
		sender[i] = (struct sender){.r = r, .worker = i};
		assert_int_equal(pthread_create(&thread[i], NULL, send_for_ever, &sender[i]), 0);
	}
	asked.on_quiesce = await_senders;
	for (unsigned i = 0; i < CHANGES; i++) {
		unsigned k = i * 7 % RIG_PAIRS;

		if (i % 3) {
			rig_halt(r, RECEIVEQ(k)); /* and the ring's struct is gone */
			assert_int_equal(rig_run(r, RECEIVEQ(k), -1), 0);
		} else {
			guest_ring_enable(r->guest, RECEIVEQ(k), false);
			guest_ring_enable(r->guest, RECEIVEQ(k), true);
		}
		offer_everything(r, k);
		if (i % 20 == 0) {
			struct virtq *vq = r->vq[RECEIVEQ(k)];
			int call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

			virtq_set_call(vq, call);
			usleep(100);
			assert_int_equal(virtq_set_call(vq, -1), call);
			await_senders();
			close(call);
		}
	}
	asked.on_quiesce = NULL;
	for (unsigned i = 0; i < SENDERS; i++) {
		atomic_store(&sender[i].stop, true);
		pthread_join(thread[i], NULL);
		sent += UINT64_C(32) * sender[i].rounds;
	}
	for (unsigned k = 0; k < RIG_PAIRS; k++)
		assert_int_equal(virtq_fault_get(r->vq[RECEIVEQ(k)]), VIRTQ_FAULT_NONE);
	port_totals(r->port, &t);
	for (unsigned i = 0; i < DROP_N; i++)
		counted += t.drop[i];
	assert_int_equal(t.tx_frames + counted, sent); /* each frame is accounted for */
	assert_int_equal(t.drop[DROP_QUEUE_FULL] + t.drop[DROP_PORT_DOWN], counted);
	assert_true(t.tx_frames > 0);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_state_follows_the_front_end_and_the_driver),
		cmocka_unit_test(transmitqs_are_given_to_workers_and_taken_back),
		cmocka_unit_test(a_receiveq_keeps_its_ring_until_the_workers_have_left),
		cmocka_unit_test(the_first_fault_found_ends_the_connection),
		cmocka_unit_test(truncated_memory_is_named_whatever_it_led_to),
		cmocka_unit_test(an_announcement_is_a_reverse_arp_request),
		cmocka_unit_test(the_mtu_is_told_and_bounds_what_the_front_end_may_ask),
		cmocka_unit_test(queues_come_and_go_under_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
