/* SPDX-License-Identifier: BSD-3-Clause */
/* The forwarding database, through the path (learning) and the control side. */
#include "harness.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_guest *a, *b;
static struct t_frame frame;

static void begin(uint32_t capacity)
{
	t_create(&t, capacity);
	a = t_guest_up(&t, false);
	b = t_guest_up(&t, false);
}

static void mac_of(uint8_t mac[6], uint64_t n)
{
	for (int i = 5; i >= 0; i--, n >>= 8)
		mac[i] = (uint8_t)n;
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
}

/* One frame each from `from`, to an address that nobody has to receive. */
static void learn(struct t_guest *from, uint64_t first, uint64_t count, uint64_t stride)
{
	static const uint8_t nobody[6] = {3, 0, 0, 0, 0, 0};
	uint64_t at = 0;

	while (at < count) {
		uint32_t n = count - at < T_SIZE ? (uint32_t)(count - at) : T_SIZE;

		for (uint32_t i = 0; i < n; i++, at++) {
			uint8_t mac[6];

			mac_of(mac, (first + at) * stride);
			t_frame_put(from, 0, 60, nobody, mac, 0);
		}
		for (uint32_t left = n; left;)
			left -= (uint32_t)t_send(from, 0, left);
		while (t_receive(a, 0, &frame) || t_receive(b, 0, &frame))
			;
	}
}

static unsigned int entries(int port)
{
	struct vs_fdb_entry e;
	uint64_t cursor = 0;
	unsigned int count = 0;

	while (vs_fdb_next(t.vs, &cursor, &e))
		count += port < 0 || e.port == port;
	return count;
}

static int where(const uint8_t mac[6], struct vs_fdb_entry *found)
{
	struct vs_fdb_entry e;
	uint64_t cursor = 0;
	int port = -1;

	while (vs_fdb_next(t.vs, &cursor, &e)) {
		if (memcmp(e.mac, mac, 6))
			continue;
		assert_int_equal(port, -1); /* once only */
		port = e.port;
		*found = e;
	}
	return port;
}

static void fits(uint64_t first, uint64_t stride)
{
	struct vs_fdb_stats s;

	begin(65536);
	learn(a, first, 65536, stride);
	vs_fdb_stats(t.vs, &s);
	assert_int_equal(s.capacity, 65536);
	assert_int_equal(s.full, 0);
	assert_int_equal(s.used, 65536);
	assert_int_equal(s.learned, 65536);
	assert_int_equal(entries(a->port), 65536);
	/* Each is found: nothing that is sent to them floods. */
	for (uint32_t i = 0; i < 65536; i += 7) {
		uint8_t mac[6];

		mac_of(mac, (first + i) * stride);
		t_send_one(b, 60, mac, b->mac, i);
		assert_true(t_receive(a, 0, &frame));
	}
	struct elisa_port_counters c;

	vs_port_counters(t.vs, b->port, &c);
	assert_int_equal(c.tx_flooded, 0);
	assert_int_equal(c.tx_unicast, (65536 + 6) / 7);
	t_destroy(&t);
}

static void sequential_addresses_fit(void **state)
{
	(void)state;
	fits(0x020000000001, 1);
}

static void random_addresses_fit(void **state)
{
	(void)state;
	for (uint64_t round = 1; round <= 5; round++)
		fits(round * 0x1234567, 0x9e3779b97f4a7c15ull >> 16 | 1);
}

static void strided_addresses_fit(void **state)
{
	(void)state;
	fits(1, 1 << 8);
	fits(1, 1 << 16);
}

static void full_is_counted(void **state)
{
	struct vs_fdb_stats s;

	(void)state;
	begin(1024);
	learn(a, 1, 20000, 1);
	vs_fdb_stats(t.vs, &s);
	assert_true(s.used >= 1024 && s.used <= 4096);
	assert_int_equal(s.full + s.learned, 20000);
	/* A static address may find no room among others such; then it says so. */
	int failed = 0;

	for (uint64_t i = 0; i < 4200; i++) {
		uint8_t mac[6];
		int error;

		mac_of(mac, 1000000 + i);
		error = vs_fdb_add(t.vs, mac, 0, b->port);
		assert_true(error == 0 || error == -28);
		failed += error != 0;
	}
	assert_true(failed > 0);
	vs_fdb_stats(t.vs, &s);
	assert_int_equal(s.statics, 4200 - failed);
	t_destroy(&t);
}

/* Bit by bit, but no address outlives its age by more than an eighth. */
static void aging_of_many(void **state)
{
	struct vs_fdb_stats s;
	uint64_t now = 5000;

	(void)state;
	begin(65536);
	vs_tick(t.vs, now);
	for (uint32_t i = 0; i < 2000; i++)
		learn(a, 1000 + i, 1, 1);
	while (now < 5300)
		vs_tick(t.vs, ++now);
	vs_fdb_stats(t.vs, &s);
	assert_int_equal(s.aged, 0);
	vs_tick(t.vs, ++now);
	vs_fdb_stats(t.vs, &s);
	assert_in_range(s.aged, 1, 1000);
	while (now < 5300 + 300 / 8 + 2)
		vs_tick(t.vs, ++now);
	vs_fdb_stats(t.vs, &s);
	assert_int_equal(s.aged, 2000);
	assert_int_equal(s.used, 0);
	t_destroy(&t);
}

static void aging(void **state)
{
	uint8_t silent[6], talking[6];
	struct vs_fdb_entry e;
	struct vs_fdb_stats s;

	(void)state;
	begin(1024);
	mac_of(silent, 1001);
	mac_of(talking, 1002);
	for (uint64_t now = 5000; now <= 5300; now += 10) {
		vs_tick(t.vs, now);
		if (now == 5000)
			learn(a, 1001, 1, 1);
		learn(a, 1002, 1, 1);
		assert_int_equal(where(silent, &e), a->port);
		assert_int_equal(e.age_s, now - 5000);
	}
	assert_int_equal(vs_fdb_add(t.vs, b->mac, 0, b->port), 0);
	vs_tick(t.vs, 5301);
	assert_int_equal(where(silent, &e), -1);
	assert_int_equal(where(talking, &e), a->port);
	assert_int_equal(e.age_s, 1);
	vs_tick(t.vs, 9000);
	assert_int_equal(where(talking, &e), -1);
	assert_int_equal(where(b->mac, &e), b->port);
	assert_true(e.is_static);
	assert_int_equal(e.age_s, 0);
	vs_fdb_stats(t.vs, &s);
	assert_int_equal(s.aged, 2);
	/* Gone means flooded, also for a way that a queue remembers. */
	vs_fdb_del(t.vs, b->mac, 0);
	learn(b, 1003, 1, 1);
	mac_of(talking, 1003);
	t_send_one(a, 60, talking, a->mac, 0);
	assert_int_equal(where(talking, &e), b->port);
	vs_tick(t.vs, 20000);
	t_send_one(a, 60, talking, a->mac, 0);
	struct elisa_port_counters c;

	vs_port_counters(t.vs, a->port, &c);
	assert_int_equal(c.tx_flooded, 1);
	t_destroy(&t);
}

static void moves(void **state)
{
	struct vs_fdb_entry e;
	struct vs_fdb_stats s;
	uint8_t mac[6];

	(void)state;
	begin(1024);
	mac_of(mac, 9);
	for (int i = 0; i < 10; i++) {
		learn(i & 1 ? b : a, 9, 1, 1);
		assert_int_equal(where(mac, &e), i & 1 ? b->port : a->port);
	}
	vs_fdb_stats(t.vs, &s);
	assert_int_equal(s.moved, 9);
	assert_int_equal(s.learned, 1);
	assert_int_equal(vs_fdb_add(t.vs, mac, 0, b->port), 0);
	learn(a, 9, 1, 1);
	assert_int_equal(where(mac, &e), b->port);
	assert_true(e.is_static);
	/* Static ones move by being added again, and go by being deleted. */
	assert_int_equal(vs_fdb_add(t.vs, mac, 0, a->port), 0);
	assert_int_equal(where(mac, &e), a->port);
	assert_int_equal(vs_fdb_del(t.vs, mac, 0), 0);
	assert_int_equal(vs_fdb_del(t.vs, mac, 0), -ELISA_ENODEV);
	assert_int_equal(where(mac, &e), -1);
	t_destroy(&t);
}

static void flushing(void **state)
{
	struct vs_fdb_entry e;
	uint8_t mac[6];

	(void)state;
	begin(1024);
	learn(a, 1, 20, 1);
	learn(b, 101, 30, 1);
	mac_of(mac, 500);
	assert_int_equal(vs_fdb_add(t.vs, mac, 0, a->port), 0);
	assert_int_equal(vs_fdb_flush(t.vs, a->port), 20);
	assert_int_equal(entries(a->port), 1);
	assert_int_equal(entries(b->port), 30);
	assert_int_equal(vs_fdb_flush(t.vs, -1), 30);
	assert_int_equal(where(mac, &e), a->port);
	assert_int_equal(vs_fdb_flush(t.vs, 77), -ELISA_ENODEV);
	learn(a, 1, 5, 1);
	assert_int_equal(entries(a->port), 6);
	/* A port that goes takes its static entries along. */
	for (int i = 0; i < 4; i++)
		vs_caller_del(t.vs, a->caller[i]);
	assert_int_equal(vs_port_unbind(t.vs, a->port), 0);
	assert_int_equal(vs_port_del(t.vs, a->port), 0);
	assert_int_equal(entries(-1), 0);
	t_destroy(&t);
}

static void bad_arguments(void **state)
{
	const uint8_t zero[6] = {0}, multicast[6] = {1, 2, 3, 4, 5, 6};

	(void)state;
	begin(1024);
	assert_int_equal(vs_fdb_add(t.vs, zero, 0, a->port), -ELISA_EINVAL);
	assert_int_equal(vs_fdb_add(t.vs, multicast, 0, a->port), -ELISA_EINVAL);
	assert_int_equal(vs_fdb_add(t.vs, a->mac, 0, 79), -ELISA_EINVAL);
	assert_int_equal(vs_fdb_add(t.vs, a->mac, 0, -1), -ELISA_EINVAL);
	assert_int_equal(vs_fdb_add(t.vs, a->mac, 0, 1 << 20), -ELISA_EINVAL);
	assert_int_equal(vs_fdb_del(t.vs, zero, 0), -ELISA_ENODEV);
	assert_int_equal(entries(-1), 0);
	t_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequential_addresses_fit),
		cmocka_unit_test(random_addresses_fit),
		cmocka_unit_test(strided_addresses_fit),
		cmocka_unit_test(full_is_counted),
		cmocka_unit_test(aging),
		cmocka_unit_test(aging_of_many),
		cmocka_unit_test(moves),
		cmocka_unit_test(flushing),
		cmocka_unit_test(bad_arguments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
