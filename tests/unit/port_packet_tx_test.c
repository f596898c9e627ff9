/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>

#include "port/packet_priv.h"
#include "port_giant.h"
#include "port_veth.h"

static uint64_t sent_frames(struct port *p)
{
	struct port_totals t;

	port_totals(p, &t);
	return t.tx_frames;
}

/* Returns the number of the next frame at the station. */
static unsigned receive_numbered(int station)
{
	static uint8_t got[FRAME_LONGEST];

	assert_int_equal(station_receive(station, got, WAIT_S * 1000), 200);
	return be32_get(got + 14);
}

static bool hears_nothing(int station)
{
	static uint8_t got[FRAME_LONGEST];

	return station_receive(station, got, 20) == 0;
}

static void the_ring_goes_round_and_keeps_the_order(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	unsigned n = 3 * packet_of(p)->tx->ring.n + 5, got = 0;
	struct port_totals t;

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		send_numbered(p, i);
		if (i % 50 == 49)
			port_flush(p);
		while (i % 50 == 49 && got <= i)
			assert_int_equal(receive_numbered(station), got++);
	}
	port_flush(p);
	while (got < n)
		assert_int_equal(receive_numbered(station), got++);
	port_totals(p, &t);
	assert_int_equal(t.tx_frames, n);
	assert_int_equal(t.tx_bytes, n * 200);
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

static void more_than_the_ring_holds_is_sent_without_a_flush(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	unsigned n = packet_of(p)->tx->ring.n + 10;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		send_numbered(p, i);
	port_flush(p);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(receive_numbered(station), i);
	assert_int_equal(all_drops(p), 0);
	close(station);
	host_end();
}

static void a_busy_interface_drops_if_nobody_would_come_back(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");

	(void)state;
	assert_false(p->ops->rx_sleep(p, 0));
	far_switch(false); /* without a carrier the kernel says ENOBUFS, as it does with a full queue */
	for (unsigned i = 0; i < 5; i++)
		send_numbered(p, i);
	port_flush(p);
	assert_int_equal(drops(p, DROP_KERNEL_FULL), 5);
	assert_int_equal(sent_frames(p), 0);
	far_switch(true);
	await_link(p, true);
	send_numbered(p, 77);
	port_flush(p);
	assert_int_equal(receive_numbered(station), 77);
	assert_true(hears_nothing(station));
	close(station);
	host_end();
}

static void a_busy_interface_is_tried_again_by_who_polls(void **state)
{
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	bool came = false;

	(void)state;
	/* The interface must be ready again before the port gives up: on a machine with other things to do, not always. */
	for (unsigned try = 0; try < 50 && !came; try++) {
		uint64_t full = drops(p, DROP_KERNEL_FULL);

		p->ops->rx_wake(p, 0);
		far_switch(false);
		for (unsigned i = 0; i < 5; i++)
			send_numbered(p, i);
		port_flush(p);
		assert_int_equal(drops(p, DROP_KERNEL_FULL), full);
		assert_true(p->ops->rx_sleep(p, 0)); /* no, keep polling */
		far_switch(true);
		inbox_reset(ETH_P_TEST);
		while (p->ops->rx_sleep(p, 0))
			port_poll(p, inbox_add, &inbox);
		came = drops(p, DROP_KERNEL_FULL) == full;
	}
	assert_true(came);
	assert_int_equal(sent_frames(p), 5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(receive_numbered(station), i);
	close(station);
	host_end();
}

static void frames_do_not_wait_for_ever(void **state)
{
	struct port *p = open_port(1500, 1500);
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;

	(void)state;
	p->ops->rx_wake(p, 0);
	far_switch(false);
	for (unsigned i = 0; i < 5; i++)
		send_numbered(p, i);
	port_flush(p);
	assert_int_equal(all_drops(p), 0);
	while (p->ops->rx_sleep(p, 0) && time_now_ns() < end_ns)
		port_poll(p, inbox_add, &inbox);
	assert_int_equal(drops(p, DROP_KERNEL_FULL), 5);
	host_end();
}

static void a_full_ring_drops_and_counts(void **state)
{
	struct port *p = open_port(1500, 1500);
	struct packet_tx *tx = packet_of(p)->tx;
	unsigned n = tx->ring.n + 9;

	(void)state;
	p->ops->rx_wake(p, 0);
	far_switch(false);
	for (unsigned i = 0; i < n; i++)
		send_numbered(p, i);
	assert_true(drops(p, DROP_KERNEL_FULL) >= 10); /* one slot stays free */
	assert_int_equal(drops(p, DROP_KERNEL_FULL) + (tx->head + tx->ring.n - tx->tail) % tx->ring.n, n);
	assert_int_equal(all_drops(p), drops(p, DROP_KERNEL_FULL));
	assert_int_equal(sent_frames(p), 0);
	host_end();
}

#define SENDERS      4
#define SENDER_N     20000
#define SENDER_BATCH 16
#define STEPS        5000

struct sender {
	pthread_t thread;
	struct port *p;
	unsigned worker;
	pthread_barrier_t *step;
	const struct giant *giant; /* what to send; NULL: a short frame */
};

static void *send_many(void *arg)
{
	struct sender *s = arg;
	static __thread struct frame f[SENDER_BATCH];
	struct frame *each[SENDER_BATCH];

	for (unsigned n = 0; n < SENDER_N; n += SENDER_BATCH) {
		for (unsigned i = 0; i < SENDER_BATCH; i++) {
			each[i] = &f[i];
			f[i].len = f[i].head_len = 60;
			f[i].n_body = 0;
			memset(frame_head_begin(&f[i]), 0xff, 60);
			be16_put(f[i].data + 12, ETH_P_TEST);
			be32_put(f[i].data + 14, s->worker);
			be32_put(f[i].data + 18, n + i);
		}
		s->p->ops->tx(s->p, each, SENDER_BATCH, s->worker);
		s->p->ops->tx_flush(s->p, s->worker);
	}
	return NULL;
}

static void send_short(struct sender *s)
{
	struct frame f = {.len = 60, .head_len = 60}, *one = &f;

	memset(frame_head_begin(&f), 0xff, f.len);
	s->p->ops->tx(s->p, &one, 1, s->worker);
	s->p->ops->tx_flush(s->p, s->worker);
}

static void send_one_giant(struct sender *s)
{
	static struct giant_frame giant;
	struct frame f = {.len = make_giant(&giant, s->giant, 0), .head_len = FRAME_HEAD_MAX, .n_body = 1}, *one = &f;
	struct wire_piece body = {.p = giant.bytes + FRAME_HEAD_MAX, .len = f.len - FRAME_HEAD_MAX};

	memcpy(frame_head_begin(&f), giant.bytes, FRAME_HEAD_MAX);
	f.body = &body;
	f.off = giant_offload(&giant, s->giant);
	s->p->ops->tx(s->p, &one, 1, s->worker);
}

/* Nobody may go away and leave a frame in the ring that nobody will come for. */
static void *send_in_step(void *arg)
{
	struct sender *s = arg;

	for (unsigned n = 0; n < STEPS; n++) {
		pthread_barrier_wait(s->step);
		if (s->giant)
			send_one_giant(s);
		else
			send_short(s);
		pthread_barrier_wait(s->step);
	}
	return NULL;
}

static void two_send_in_step(const struct giant *giant)
{
	struct port *p = open_port(1500, 1500);
	struct packet_tx *tx = packet_of(p)->tx;
	struct sender sender[2];
	pthread_barrier_t step;
	unsigned left = 0;

	pthread_barrier_init(&step, NULL, 3);
	for (unsigned i = 0; i < 2; i++) {
		sender[i] = (struct sender){.p = p, .worker = i, .step = &step, .giant = i ? giant : NULL};
		assert_int_equal(pthread_create(&sender[i].thread, NULL, send_in_step, &sender[i]), 0);
	}
	for (unsigned n = 0; n < STEPS; n++) {
		pthread_barrier_wait(&step);
		pthread_barrier_wait(&step);
		left += tx->head != tx->tail;
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(sender[i].thread, NULL);
	assert_int_equal(left, 0);
	host_end();
}

static void no_frame_is_left_between_two_workers(void **state)
{
	(void)state;
	two_send_in_step(NULL);
}

static void no_frame_is_left_beside_a_giant(void **state)
{
	(void)state;
	two_send_in_step(&giants[0]);
}

static void workers_send_at_the_same_time(void **state)
{
	static uint8_t got[FRAME_LONGEST];
	struct port *p = open_port(1500, 1500);
	int station = far_station("far"), bytes = 256 << 20;
	struct sender sender[SENDERS];
	unsigned next[SENDERS] = {0}, n = 0;

	(void)state;
	assert_int_equal(setsockopt(station, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
	p->ops->rx_wake(p, 0);
	for (unsigned i = 0; i < SENDERS; i++) {
		sender[i] = (struct sender){.p = p, .worker = i};
		assert_int_equal(pthread_create(&sender[i].thread, NULL, send_many, &sender[i]), 0);
	}
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(sender[i].thread, NULL);
	while (p->ops->rx_sleep(p, 0))
		port_poll(p, inbox_add, &inbox);
	while (station_receive(station, got, 100)) {
		unsigned of = be32_get(got + 14), number = be32_get(got + 18);

		assert_true(of < SENDERS && number >= next[of]);
		next[of] = number + 1;
		n++;
	}
	assert_int_equal(n, sent_frames(p));
	assert_int_equal(n + all_drops(p), SENDERS * SENDER_N);
	assert_int_equal(all_drops(p), drops(p, DROP_KERNEL_FULL));
	print_message("%u sent, %u found no room\n", n, (unsigned)all_drops(p));
	close(station);
	host_end();
}

static void a_frame_the_kernel_refuses_does_not_hold_up_the_others(void **state)
{
	static uint8_t too_long[1518];
	struct port *p = open_port(1500, 1500);
	int station = far_station("far");
	unsigned n = 0;

	(void)state;
	make_frame(too_long, sizeof(too_long), 0); /* four bytes that only a tag may take */
	for (unsigned round = 0; round < 300; round++) {
		for (unsigned i = 0; i < 7; i++) {
			if (i % 3 == round % 3)
				port_send(p, too_long, sizeof(too_long), 1);
			else
				send_numbered(p, n++);
		}
		port_flush(p);
		while (n && receive_numbered(station) != n - 1)
			;
	}
	assert_int_equal(sent_frames(p), n);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 300 * 7 - n);
	assert_int_equal(all_drops(p), 300 * 7 - n);
	close(station);
	host_end();
}

static void frames_longer_than_the_interface_takes_are_refused(void **state)
{
	static uint8_t frame[9014];
	struct port *p = open_port(9000, 9000);
	int station = far_station("far");
	uint64_t end_ns = time_now_ns() + WAIT_S * NS_PER_S;

	(void)state;
	must("ip link set near mtu 1500");
	while (packet_of(p)->seen_mtu != 1500 && time_now_ns() < end_ns)
		event_base_loop(host.events, EVLOOP_NONBLOCK);
	port_send(p, frame, make_frame(frame, sizeof(frame), 0), 1);
	port_flush(p);
	assert_int_equal(drops(p, DROP_KERNEL_REFUSED), 1);
	shapes_go_out(p, station, 1500);
	close(station);
	host_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		veth_test(the_ring_goes_round_and_keeps_the_order),
		veth_test(more_than_the_ring_holds_is_sent_without_a_flush),
		veth_test(a_busy_interface_drops_if_nobody_would_come_back),
		veth_test(a_busy_interface_is_tried_again_by_who_polls),
		veth_test(frames_do_not_wait_for_ever),
		veth_test(a_full_ring_drops_and_counts),
		veth_test(no_frame_is_left_between_two_workers),
		veth_test(no_frame_is_left_beside_a_giant),
		veth_test(workers_send_at_the_same_time),
		veth_test(a_frame_the_kernel_refuses_does_not_hold_up_the_others),
		veth_test(frames_longer_than_the_interface_takes_are_refused),
	};
	return cmocka_run_group_tests(tests, net_begin, net_end);
}
