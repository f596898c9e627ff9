/* SPDX-License-Identifier: Apache-2.0 */
/* Several workers fill one receiveq. */
#include <pthread.h>
#include <sched.h>

#include "guest_rig.h"
#include "port/guest_priv.h"

#define BUFFER_BYTES 1000u
#define LEN_MAX      3000u /* of a frame: four buffers at most */

/* The guest's side: buffer @i is always the same memory. */
struct receiver {
	struct rig *r;
	uint64_t gpa[RIG_RING];
	uint32_t next[WORKERS_MAX]; /* by sender: the least number its next frame may have */
	uint64_t frames[WORKERS_MAX];
};

static void begin(struct receiver *v, bool packed)
{
	*v = (struct receiver){.r = rig_up_of(packed, true, true, 1)};
	for (unsigned i = 0; i < RIG_RING; i++) {
		v->gpa[i] = ram_alloc(&v->r->ram, BUFFER_BYTES, 1);
		rig_offer_buffer(v->r, RECEIVEQ(0), i, v->gpa[i], BUFFER_BYTES, VRING_DESC_F_WRITE);
	}
}

/* Frame @number of @sender: its length and its bytes follow from that. */
static uint32_t make_frame(uint8_t bytes[LEN_MAX], uint32_t sender, uint32_t number)
{
	uint32_t len = 60 + (number * 2654435761u + sender) % (LEN_MAX - 60);

	fill(bytes, len, sender * 7919 + number);
	memcpy(bytes + 14, &sender, sizeof(sender));
	memcpy(bytes + 18, &number, sizeof(number));
	return len;
}

static void check_frame(struct receiver *v, const uint8_t *bytes, uint32_t len)
{
	uint8_t expected[LEN_MAX];
	uint32_t sender, number;

	memcpy(&sender, bytes + 14, sizeof(sender));
	memcpy(&number, bytes + 18, sizeof(number));
	assert_in_range(sender, 0, WORKERS_MAX - 1);
	assert_int_equal(len, make_frame(expected, sender, number));
	assert_memory_equal(bytes, expected, len);
	assert_in_range(number, v->next[sender], UINT32_MAX);
	v->next[sender] = number + 1;
	v->frames[sender]++;
}

/* The next used buffer, copied to @to and offered again. */
static bool take_buffer(struct receiver *v, uint8_t *to, uint32_t *len)
{
	struct vring_used_elem e = {0};

	if (!rig_take(v->r, RECEIVEQ(0), &e))
		return false;
	assert_in_range(e.id, 0, RIG_RING - 1);
	assert_in_range(e.len, 1, BUFFER_BYTES);
	ram_read(&v->r->ram, v->gpa[e.id], to, e.len);
	*len = e.len;
	rig_offer_buffer(v->r, RECEIVEQ(0), e.id, v->gpa[e.id], BUFFER_BYTES, VRING_DESC_F_WRITE);
	return true;
}

/* Take and check everything that is there; all buffers of a frame are there with its first one. */
static unsigned take_all(struct receiver *v)
{
	static uint8_t bytes[NET_HDR_LONG + LEN_MAX + BUFFER_BYTES];
	struct net_hdr hdr = {0};
	unsigned n = 0;

	for (uint32_t len, more = 0; take_buffer(v, bytes, &len); n++) {
		memcpy(&hdr, bytes, sizeof(hdr));
		assert_in_range(hdr.num_buffers, 1, 4);
		for (unsigned i = 1; i < hdr.num_buffers; i++, len += more)
			assert_true(take_buffer(v, bytes + len, &more));
		check_frame(v, bytes + NET_HDR_LONG, len - NET_HDR_LONG);
	}
	return n;
}

/* ---- the workers' side ---- */

struct sender {
	struct port *port;
	unsigned worker;
	uint32_t next; /* number of the next frame */
	uint8_t bytes[FRAME_BATCH][LEN_MAX];
	struct frame f[FRAME_BATCH];
	struct wire_piece span[FRAME_BATCH];
};

/* Hand over the next @n frames, and do not publish them. */
static void hand_over(struct sender *s, unsigned n)
{
	struct frame *list[FRAME_BATCH];

	for (unsigned i = 0; i < n; i++) {
		struct frame *f = list[i] = &s->f[i];
		uint32_t len = make_frame(s->bytes[i], s->worker, s->next++);

		f->len = len;
		f->head_len = min_u32(len, FRAME_HEAD_MAX);
		memcpy(frame_head_begin(f), s->bytes[i], f->head_len);
		s->span[i] = (struct wire_piece){s->bytes[i] + f->head_len, len - f->head_len};
		f->body = &s->span[i];
		f->n_body = s->span[i].len > 0;
	}
	s->port->ops->tx(s->port, list, n, s->worker);
}

static void publish(struct sender *s)
{
	s->port->ops->tx_publish(s->port, s->worker);
}

static struct sender *sender_new(const struct receiver *v, unsigned worker)
{
	struct sender *s = calloc(1, sizeof(*s));

	expect(s, "memory");
	s->port = v->r->port;
	s->worker = worker;
	return s;
}

#define SENDERS        3
#define FRAMES_OF_EACH 60000u

static void *send_many(void *arg)
{
	struct sender *s = arg;

	while (s->next < FRAMES_OF_EACH) {
		uint32_t random = s->next * 2654435761u >> 16;

		hand_over(s, 1 + random % FRAME_BATCH);
		if (random & 64) /* time for others to overtake */
			sched_yield();
		if (random & 128)
			hand_over(s, 1);
		publish(s);
		s->port->ops->tx_flush(s->port, s->worker);
	}
	return NULL;
}

static void frames_of_several_workers_are_whole_and_in_order(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct sender *s[SENDERS];
		pthread_t thread[SENDERS];
		struct receiver v;
		bool all_sent = false;

		begin(&v, packed);
		for (unsigned i = 0; i < SENDERS; i++) {
			s[i] = sender_new(&v, i);
			assert_int_equal(pthread_create(&thread[i], NULL, send_many, s[i]), 0);
		}
		while (!all_sent) {
			all_sent = true;
			for (unsigned i = 0; i < SENDERS; i++)
				all_sent &= __atomic_load_n(&s[i]->next, __ATOMIC_RELAXED) >= FRAMES_OF_EACH;
			take_all(&v);
		}
		for (unsigned i = 0; i < SENDERS; i++)
			pthread_join(thread[i], NULL);
		take_all(&v);
		for (unsigned i = 0; i < SENDERS; i++) {
			const struct port_counters *c = &v.r->port->counters[i];

			/* what was not dropped has come, once */
			assert_int_equal(v.frames[i], c->tx_frames);
			assert_int_equal(v.frames[i] + c->drop[DROP_QUEUE_FULL], s[i]->next);
			assert_true(v.frames[i] > 100);
			free(s[i]);
		}
		assert_int_equal(guest_of(v.r->port)->tx[0].n_open, 0);
		assert_int_equal(virtq_fault_get(v.r->vq[RECEIVEQ(0)]), VIRTQ_FAULT_NONE);
		rig_free(v.r);
	}
}

/* ---- one worker is held up ---- */

static void frames_behind_one_that_is_being_filled_wait_for_it(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct receiver v;
		struct sender *slow, *fast;

		begin(&v, packed);
		slow = sender_new(&v, 1);
		fast = sender_new(&v, 2);
		hand_over(fast, 3);
		publish(fast);
		assert_int_equal(take_all(&v), 3);
		hand_over(slow, 2);
		for (unsigned i = 0; i < 5; i++) {
			hand_over(fast, 2);
			publish(fast);
			assert_int_equal(take_all(&v), 0);
		}
		publish(slow);
		assert_int_equal(take_all(&v), 12);
		/* the other way round: what is before it is shown */
		hand_over(fast, 4);
		hand_over(slow, 1);
		publish(fast);
		assert_int_equal(take_all(&v), 4);
		publish(slow);
		assert_int_equal(take_all(&v), 1);
		assert_int_equal(v.frames[1], 3);
		assert_int_equal(v.frames[2], 17);
		free(slow);
		free(fast);
		rig_free(v.r);
	}
}

static void frames_are_dropped_when_too_many_reservations_are_open(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct sender *s[2];
		struct receiver v;
		unsigned n = 0;

		begin(&v, packed);
		for (unsigned i = 0; i < 2; i++)
			s[i] = sender_new(&v, i);
		for (; n < GUEST_RESERVATIONS_MAX; n++)
			hand_over(s[n % 2], 1);
		assert_int_equal(v.r->port->counters[0].drop[DROP_QUEUE_FULL], 0);
		hand_over(s[0], 5);
		assert_int_equal(v.r->port->counters[0].drop[DROP_QUEUE_FULL], 5);
		hand_over(s[1], 5); /* the last reservation is its own, and grows */
		assert_int_equal(v.r->port->counters[1].drop[DROP_QUEUE_FULL], 0);
		assert_int_equal(take_all(&v), 0);
		publish(s[1]);
		assert_int_equal(take_all(&v), 0);
		publish(s[0]);
		assert_int_equal(take_all(&v), GUEST_RESERVATIONS_MAX + 5);
		hand_over(s[0], 1);
		publish(s[0]);
		assert_int_equal(take_all(&v), 1);
		for (unsigned i = 0; i < 2; i++)
			free(s[i]);
		rig_free(v.r);
	}
}

/* A worker that has left does not come back for a queue that is gone: control publishes what it put there. */
static void a_queue_that_is_halted_is_published_first(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		struct sender *a, *b;
		struct receiver v;

		begin(&v, variant & 1);
		a = sender_new(&v, 0);
		b = sender_new(&v, 5);
		hand_over(a, 3);
		hand_over(b, 2);
		hand_over(a, 1);
		if (variant & 2)
			rig_halt(v.r, RECEIVEQ(0));
		else
			guest_ring_enable(v.r->guest, RECEIVEQ(0), false);
		assert_int_equal(take_all(&v), 6);
		publish(a);
		publish(b);
		assert_int_equal(take_all(&v), 0);
		free(a);
		free(b);
		rig_free(v.r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_of_several_workers_are_whole_and_in_order),
		cmocka_unit_test(frames_behind_one_that_is_being_filled_wait_for_it),
		cmocka_unit_test(frames_are_dropped_when_too_many_reservations_are_open),
		cmocka_unit_test(a_queue_that_is_halted_is_published_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
