/* SPDX-License-Identifier: BSD-3-Clause */
/* NIC ports: both ways, who serves them, and where frames may go. */
#include "fakenic.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_nic nic;
static struct t_frame frame;
static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};

static int begin(void **state)
{
	(void)state;
	t_create(&t, 1024);
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < nic.queues; i++)
		assert_int_equal(nic.q[i].collisions, 0);
	t_nic_destroy(&nic);
	t_destroy(&t);
	memset(&nic, 0, sizeof(nic));
	return 0;
}

static struct elisa_port_info info_of(struct t_guest *g)
{
	uint64_t at = t_alloc(g, sizeof(struct elisa_port_info), 8);

	assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, 0, at), 0);
	return *(struct elisa_port_info *)t_at(g, at);
}

/* Its sender's call hands a frame to the driver; a poll takes one from it. */
static void both_ways(void **state)
{
	struct vs_nic_status status;
	struct t_guest *a;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	assert_true(info_of(a).flags & ELISA_PORT_POLL);
	assert_false(info_of(nic.guest).flags & ELISA_PORT_POLL);
	t_wire_in(&nic, 0, 200, a->mac, outside, 1, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_frame_is(&frame, 200, a->mac, outside, 1));
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(nic.q[0].freed, 1);
	/* Its address was learned at the NIC. */
	assert_int_equal(t_send_one(a, 300, outside, a->mac, 2), 1);
	assert_true(t_wire_out(&nic, 0, &frame));
	assert_true(t_frame_is(&frame, 300, outside, a->mac, 2));
	assert_int_equal(vs_nic_status(t.vs, nic.guest->port, &status), 0);
	assert_int_equal(status.queues, 1);
	assert_false(status.dirty || status.held);
	assert_int_equal(status.queue[0].rx.frames_guest, 1);
	assert_int_equal(status.queue[0].rx.calls_guest, 2);
	assert_int_equal(status.queue[0].tx.frames_guest, 1);
	assert_int_equal(status.queue[0].tx.frames_host + status.queue[0].rx.calls_host, 0);
	assert_int_equal(status.queue[0].tx.owner_guest, 0);
}

/* More than one round, more than the ring has: nothing waits for somebody else. */
static void bursts(void **state)
{
	struct t_guest *a;
	uint32_t got = 0;

	(void)state;
	a = t_guest(&t, true);
	assert_true(t_setup(a, 0, 256, 256, T_BUF) > 0);
	t_post(&a->q[0], 256);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	for (uint32_t i = 0; i < 300; i++)
		t_wire_in(&nic, 0, 60 + i % 900, a->mac, outside, i, 0);
	while (t_poll(a) > 0)
		for (; t_receive(a, 0, &frame); got++)
			assert_true(t_frame_is(&frame, 60 + got % 900, a->mac, outside, got));
	assert_int_equal(got, 300);
	/* The NIC's ring has 64 buffers. */
	for (uint32_t i = 0; i < 200; i++)
		t_frame_put(a, 0, 60 + i, outside, a->mac, i);
	assert_int_equal(t_send(a, 0, 200), 200);
	for (uint32_t i = 0; i < 200; i++) {
		assert_true(t_wire_out(&nic, 0, &frame));
		assert_true(t_frame_is(&frame, 60 + i, outside, a->mac, i));
	}
	assert_false(t_wire_out(&nic, 0, &frame));
	assert_int_equal(t_all_drops(&t, nic.guest), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(both_ways, begin, end),
		cmocka_unit_test_setup_teardown(bursts, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
