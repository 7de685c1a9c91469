/* SPDX-License-Identifier: BSD-3-Clause */
/* What the daemon makes of what guests do with a NIC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include "../../vswitch/daemon/nic-watch.h"
#include <cmocka.h>

#define SEC 1000000

static struct nic_watch w;
static struct vs_nic_status st;

static int begin(void **state)
{
	w = (struct nic_watch){0};
	st = (struct vs_nic_status){.queues = 2};
	return 0;
}

static bool guests(unsigned int queue, uint64_t calls, uint64_t frames)
{
	st.queue[queue].rx.calls_guest += calls;
	st.queue[queue].rx.frames_guest += frames;
	return nic_watch_served(&w, &st, queue);
}

static void served(void **state)
{
	assert_false(guests(0, 0, 0));
	assert_true(guests(0, 1, 0));
	assert_true(guests(0, 3, 2 * VS_NIC_BURST + 31));
	assert_false(guests(0, 0, 0));
	assert_false(guests(1, 0, 0));
	assert_true(guests(1, 1, 3));
}

/* It polls all the time, but too slowly for what comes. */
static void too_little(void **state)
{
	for (int i = 0; i < 100; i++)
		assert_false(guests(0, 1, VS_NIC_BURST));
	/* Frames in pieces have several descriptors. */
	assert_false(guests(0, 2, 5 * VS_NIC_BURST));
	/* As much as a pass would do, though more is there. */
	assert_true(guests(0, NIC_PASS_ROUNDS, NIC_PASS_ROUNDS * VS_NIC_BURST));
}

/* All was fetched; but the NIC did not take what it was to send. */
static void waiting(void **state)
{
	st.queue[0].waiting = 1;
	assert_false(guests(0, 5, 3));
	assert_true(guests(1, 5, 3));
	st.queue[0].waiting = 0;
	assert_true(guests(0, 5, 3));
}

static uint32_t at(uint64_t us)
{
	return nic_watch_stopped(&w, &st, us, SEC);
}

static void stopped(void **state)
{
	st.queue[1].tx.owner_guest = 7;
	for (uint64_t us = 0; us < SEC; us += SEC / 10)
		assert_int_equal(at(us), 0);
	assert_int_equal(at(SEC), 7);
	assert_int_equal(at(SEC + 1), 0);
	assert_int_equal(at(9 * SEC), 0);
	/* It goes on, and stops again: in the other way this time. */
	st.queue[1].tx.owner_guest = 0;
	st.queue[1].tx.calls_guest++;
	st.queue[1].rx.owner_guest = 7;
	assert_int_equal(at(10 * SEC), 0);
	assert_int_equal(at(11 * SEC), 7);
}

static void busy(void **state)
{
	st.queue[0].rx.owner_guest = 3;
	/* The same is seen each time, but it works. */
	for (uint64_t us = 0; us < 5 * SEC; us += SEC / 10) {
		st.queue[0].rx.calls_guest++;
		assert_int_equal(at(us), 0);
	}
	/* Another one. */
	st.queue[0].rx.owner_guest = 4;
	assert_int_equal(at(5 * SEC), 0);
	assert_int_equal(at(5 * SEC + SEC / 2), 0);
	st.queue[0].rx.owner_guest = 0;
	assert_int_equal(at(9 * SEC), 0);
}

#define T(name) cmocka_unit_test_setup(name, begin)
int main(void)
{
	const struct CMUnitTest tests[] = {T(served), T(too_little), T(waiting), T(stopped), T(busy)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
