/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Callers stop for good at every step with a half of a NIC's queue in their hands, in the driver
 *too (the model of test_recovery.c). Checked each time:
 *	- nobody waits for the half, and nobody takes it until the host has released the NIC anew
 *	- what others send and receive is not harmed; every frame that comes is whole, and comes
 *once
 *	- after hold, set-up and release all works again; what was not in the driver needs none of
 *that And callers that only pause: what another one left to them is not forgotten.
 */
#include "model.h"
#include "fakenic.h"
#include <cmocka.h>

#define SEEDS 4096

static struct t_switch t;
static struct t_guest *receiver, *dying, *living;
static struct t_nic nic, other;
static struct t_frame frame;
static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};
static uint32_t seed;
/* How often each seed came: to the receiver, the living one, and the NICs. */
static uint8_t came[4][SEEDS];
static uint32_t buf_len;

static void world(enum vs_nic_serve serve)
{
	t_create_with(&t, 1024, true);
	receiver = t_guest(&t, true);
	assert_true(t_setup(receiver, 0, T_SIZE, T_SIZE, buf_len) > 0);
	t_post(&receiver->q[0], T_SIZE);
	dying = t_guest_up(&t, true);
	living = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, serve, 0);
	t_nic(&t, &other, 1, serve, 0);
	memset(came, 0, sizeof(came));
	seed = 1;
}

static void sound(unsigned int sink)
{
	uint32_t id;

	if (frame.aborted)
		return;
	memcpy(&id, frame.data + 14, 4);
	assert_in_range(id, 1, seed);
	assert_true(t_frame_is(&frame, frame.len, frame.data, frame.data + 6, id));
	assert_int_equal(came[sink][id % SEEDS]++, 0);
}

static void drain(void)
{
	struct t_guest *ignored[] = {dying};

	while (t_receive(receiver, 0, &frame))
		sound(0);
	while (t_receive(living, 0, &frame))
		sound(1);
	while (t_wire_out(&nic, 0, &frame))
		sound(2);
	while (t_wire_out(&other, 0, &frame))
		sound(3);
	while (t_receive(ignored[0], 0, &frame))
		;
}

static void finish(void)
{
	assert_int_equal(nic.q[0].collisions + other.q[0].collisions, 0);
	t_nic_destroy(&nic);
	t_nic_destroy(&other);
	t_destroy(&t);
}

static void learn_all(void)
{
	t_wire_in(&nic, 0, 60, t_broadcast, outside, seed++, 0);
	assert_true(t_poll(living) > 0);
	assert_int_equal(t_send_one(receiver, 60, t_broadcast, receiver->mac, seed++), 1);
	assert_int_equal(t_send_one(living, 60, t_broadcast, living->mac, seed++), 1);
	drain();
}

/* To the NIC: one buffer, a flood that reaches both NICs and the receiver, one buffer more. */
static void prepare_tx(unsigned int i, struct t_guest *g)
{
	t_frame_put(g, 0, 64, outside, g->mac, seed++);
	t_frame_put(g, 0, 900, t_broadcast, g->mac, seed++);
	t_frame_put(g, 0, 64, outside, g->mac, seed++);
	prepare(i, g->caller[0], ELISA_NET_TX, (uint64_t)g->q[0].handle, 3);
}

/* From the NIC: to the receiver, and a flood, which takes the half of the other NIC as well. */
static void prepare_poll(unsigned int i, struct t_guest *g)
{
	t_wire_in(&nic, 0, 64, receiver->mac, outside, seed++, 0);
	t_wire_in(&nic, 0, 1000, receiver->mac, outside, seed++, 0);
	t_wire_in(&nic, 0, 200, t_broadcast, outside, seed++, 0);
	prepare(i, g->caller[0], ELISA_NET_POLL, (uint64_t)g->q[0].handle, 0);
}

static struct vs_nic_status status_of(const struct t_nic *n)
{
	struct vs_nic_status status;

	assert_int_equal(vs_nic_status(t.vs, n->guest->port, &status), 0);
	return status;
}

/* Bit 0: the half from the NIC, bit 1: the other. */
static unsigned int owned_by(const struct t_nic *n, const struct t_guest *g)
{
	struct vs_nic_status s = status_of(n);

	return (s.queue[0].rx.owner_guest == (uint32_t)g->id + 1) |
	       (s.queue[0].tx.owner_guest == (uint32_t)g->id + 1) << 1;
}

static unsigned int dirty_halves(const struct t_nic *n)
{
	struct vs_nic_status s = status_of(n);

	assert_int_equal(s.dirty, s.queue[0].rx.dirty || s.queue[0].tx.dirty);
	return s.queue[0].rx.dirty | s.queue[0].tx.dirty << 1;
}

/* Both ways, for more than a round of all rings. */
static void works(struct t_nic *n)
{
	uint8_t far[6] = {2, 8, 8, 8, 8, n == &nic};

	for (uint32_t i = 0; i < T_SIZE + 3; i++) {
		uint32_t from = seed++, to = seed++;
		unsigned int sink = n == &nic ? 2 : 3;

		t_wire_in(n, 0, i % 3 ? 64 : 700, receiver->mac, far, from, 0);
		for (int k = 0; k < 3 && !came[0][from % SEEDS]; k++) {
			assert_true(t_poll(living) >= 0);
			drain();
		}
		assert_int_equal(came[0][from % SEEDS], 1);
		assert_int_equal(t_send_one(living, i % 3 ? 64 : 700, far, living->mac, to), 1);
		drain();
		assert_int_equal(came[sink][to % SEEDS], 1);
	}
}

/*
 * Nobody is held up by who stands still: calls return with their work done. What lies in a ring
 * behind slots of his is seen once they are given back. Returns the first of the three frames.
 */
static uint32_t others_go_on(void)
{
	uint32_t first = seed;

	assert_int_equal(t_send_one(living, 64, receiver->mac, living->mac, seed++), 1);
	assert_int_equal(t_send_one(receiver, 64, living->mac, receiver->mac, seed++), 1);
	assert_int_equal(t_send_one(living, 64, outside, living->mac, seed++), 1);
	assert_true(t_poll(living) >= 0);
	drain();
	return first;
}

static void others_went_on(uint32_t first)
{
	drain();
	assert_int_equal(came[0][first % SEEDS], 1);
	assert_int_equal(came[1][(first + 1) % SEEDS], 1);
}

/* A half that is dirty is left alone. */
static void check_dirty(struct t_nic *n, unsigned int dirty)
{
	uint32_t before = n->q[0].in.taken;
	uint64_t out = n->q[0].out_frames;

	t_wire_in(n, 0, 60, living->mac, outside, seed++, 0);
	others_went_on(others_go_on());
	assert_true(t_poll(n->guest) >= 0);
	if (dirty & 1)
		assert_int_equal(n->q[0].in.taken, before);
	if (dirty & 2)
		assert_int_equal(n->q[0].out_frames, out);
	drain();
}

static void recover(struct t_nic *n, unsigned int owned)
{
	unsigned int dirty = dirty_halves(n);

	assert_int_equal(dirty, owned);
	if (!dirty)
		return;
	check_dirty(n, dirty);
	assert_int_equal(owned_by(n, dying), 0);
	t_nic_start(&t, n, 0);
	assert_int_equal(dirty_halves(n), 0);
}

/* Every slot that was taken from the receiver was committed. */
static void no_hole(void)
{
	struct vs_queue_info q;

	drain();
	assert_int_equal(vs_port_queue(t.vs, receiver->port, 0, &q), 0);
	assert_int_equal(receiver->q[0].rx_next, q.rx_reserved);
	assert_true(vs_grace_done(t.vs, vs_grace_begin(t.vs)));
}

typedef void prepare_fn(unsigned int i, struct t_guest *g);

/* The dying one stops at its step n. */
static void every_step(prepare_fn *begin, unsigned int seen[4])
{
	bool over = false;

	for (unsigned int n = 1; !over; n++) {
		unsigned int owned[2];
		uint32_t meanwhile;

		world(VS_NIC_BY_GUESTS);
		learn_all();
		begin(0, dying);
		over = run(0, n);
		owned[0] = owned_by(&nic, dying);
		owned[1] = owned_by(&other, dying);
		seen[owned[0] | owned[1]]++;
		meanwhile = others_go_on();
		/* It may still wake up. */
		if (owned[0])
			assert_int_equal(vs_nic_hold(t.vs, nic.guest->port), -ELISA_EAGAIN);
		if (!over)
			vs_caller_del(t.vs, dying->caller[0]);
		others_went_on(meanwhile);
		recover(&nic, owned[0]);
		recover(&other, owned[1]);
		no_hole();
		works(&nic);
		works(&other);
		no_hole();
		finish();
	}
}

static void dies_sending(void **state)
{
	unsigned int seen[4] = {0, 0, 0, 0};

	buf_len = *(uint32_t *)*state;
	every_step(prepare_tx, seen);
	print_message("steps without a half %u, with the one to the NIC %u\n", seen[0], seen[2]);
	assert_true(seen[0] > 20 && seen[2] > 10 && !seen[1]);
}

static void dies_polling(void **state)
{
	unsigned int seen[4] = {0, 0, 0, 0};

	buf_len = *(uint32_t *)*state;
	every_step(prepare_poll, seen);
	print_message("steps without a half %u, from the NIC %u, both %u\n", seen[0], seen[1],
		      seen[3]);
	assert_true(seen[0] > 10 && seen[1] > 20 && seen[3] > 5);
}

/* The host's own thread dies, or is replaced, in the middle of its round. */
static void host_dies(void **state)
{
	bool over = false;

	buf_len = *(uint32_t *)*state;
	for (unsigned int n = 1; !over; n++) {
		unsigned int owned;

		world(VS_NIC_BY_HOST);
		assert_int_equal(t_send_one(living, 64, t_broadcast, living->mac, seed++), 1);
		t_wire_in(&nic, 0, 64, receiver->mac, outside, seed++, 0);
		t_wire_in(&nic, 0, 64, t_broadcast, outside, seed++, 0);
		prepare(0, nic.guest->caller[1], ELISA_NET_POLL, (uint64_t)nic.guest->q[0].handle,
			0);
		over = run(0, n);
		owned = owned_by(&nic, nic.guest);
		assert_int_equal(t_poll(living), 0);
		assert_int_equal(t_send_one(living, 64, outside, living->mac, seed++), 1);
		if (!over)
			vs_caller_del(t.vs, nic.guest->caller[1]);
		assert_int_equal(dirty_halves(&nic), owned);
		if (owned)
			t_nic_start(&t, &nic, 0);
		no_hole();
		for (uint32_t i = 0; i < 5; i++) {
			t_wire_in(&nic, 0, 64, receiver->mac, outside, seed++, 0);
			assert_true(t_poll(nic.guest) >= 1);
			drain();
			assert_int_equal(came[0][(seed - 1) % SEEDS], 1);
			assert_int_equal(t_send_one(living, 64, outside, living->mac, seed++), 1);
			assert_true(t_poll(nic.guest) >= 1);
			drain();
			assert_int_equal(came[2][(seed - 1) % SEEDS], 1);
		}
		finish();
	}
}

/*
 * Two send to the NIC and pause at their steps n and m, in either order. Then both go on, and all
 * is out: who found the half taken was seen by who had it.
 */
static void nothing_is_left(void **state)
{
	unsigned int steps[2], cases = 0;

	buf_len = *(uint32_t *)*state;
	for (unsigned int i = 0; i < 2; i++) {
		world(VS_NIC_BY_GUESTS);
		learn_all();
		prepare_tx(0, i ? living : dying);
		assert_true(run(0, TO_THE_END));
		steps[i] = routines[0].steps;
		finish();
	}
	for (unsigned int n = 1; n <= steps[0]; n++) {
		for (unsigned int m = 1; m <= steps[1] + 1; m += 3, cases++) {
			uint32_t first;

			world(VS_NIC_BY_GUESTS);
			learn_all();
			first = seed;
			prepare_tx(0, dying);
			prepare_tx(1, living);
			run(0, n);
			run(1, m);
			assert_true(run(cases & 1, TO_THE_END));
			assert_true(run(!(cases & 1), TO_THE_END));
			drain();
			for (uint32_t id = first; id < seed; id++)
				assert_int_equal(came[2][id % SEEDS], 1);
			assert_int_equal(owned_by(&nic, dying) | owned_by(&nic, living), 0);
			finish();
		}
	}
	print_message("%u cases\n", cases);
}

/* Its memory is held while somebody is in the driver, and not touched after that. */
static void reset_waits(void **state)
{
	bool over = false;

	buf_len = *(uint32_t *)*state;
	for (unsigned int n = 1; !over; n++) {
		int64_t result;

		world(VS_NIC_BY_GUESTS);
		learn_all();
		if (n & 1)
			prepare_poll(0, dying);
		else
			prepare_tx(0, dying);
		over = run(0, n);
		(void)!vs_nic_hold(t.vs, nic.guest->port);
		result = t_call(nic.guest, ELISA_NET_QUEUE_RESET, 0, 0);
		assert_int_equal(result, over ? 0 : -ELISA_EAGAIN);
		assert_true(run(0, TO_THE_END));
		assert_int_equal(vs_nic_hold(t.vs, nic.guest->port), 0);
		assert_int_equal(t_call(nic.guest, ELISA_NET_QUEUE_RESET, 0, 0), 0);
		t_nic_start(&t, &nic, 0);
		works(&nic);
		finish();
	}
}

int main(void)
{
	static uint32_t several = 512, single = 2048;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(dies_sending, &several),
		cmocka_unit_test_prestate(dies_sending, &single),
		cmocka_unit_test_prestate(dies_polling, &several),
		cmocka_unit_test_prestate(dies_polling, &single),
		cmocka_unit_test_prestate(host_dies, &single),
		cmocka_unit_test_prestate(nothing_is_left, &single),
		cmocka_unit_test_prestate(reset_waits, &single),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
