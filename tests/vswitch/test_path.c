/* SPDX-License-Identifier: BSD-3-Clause */
/* The packet path, single-threaded: delivery, forwarding, each reason to drop. */
#include "harness.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_frame frame;

static int setup(void **state)
{
	(void)state;
	t_create(&t, 1024);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

static void unicast_of_each_length(void **state)
{
	struct t_guest *a = t_guest_up(&t, true), *b = t_guest_up(&t, true);

	(void)state;
	assert_int_equal(t_send_one(b, 60, a->mac, b->mac, 0), 1);
	assert_true(t_receive(a, 0, &frame)); /* nobody knew a, so it was flooded */
	for (uint32_t len = 14; len <= 1514; len++) {
		assert_int_equal(t_send_one(a, len, b->mac, a->mac, len), 1);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, len, b->mac, a->mac, len));
	}
	assert_false(t_receive(b, 0, &frame));
	assert_int_equal(t_all_drops(&t, a), 0);
	assert_int_equal(t_all_drops(&t, b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unicast_of_each_length, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
