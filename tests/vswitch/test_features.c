/* SPDX-License-Identifier: BSD-3-Clause */
/* Rates, limits, what does not flood, mirrors: what a port may have besides. */
#include "harness.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_guest *a, *b, *c;
static struct vs_port_config cfg;

static int setup(void **state)
{
	(void)state;
	t_create(&t, 1024);
	a = t_guest_up(&t, false);
	b = t_guest_up(&t, false);
	c = t_guest_up(&t, false);
	cfg = t_port_config(&t, a);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

static int set_a(const struct vs_port_config *config)
{
	return vs_port_set(t.vs, a->port, config);
}

/* ---- configuration ---- */

static void allow(struct vs_vlan *v, unsigned int vid)
{
	v->allowed[vid / 64] |= 1ull << vid % 64;
}

static void vlan_configuration(void **state)
{
	struct vs_vlan good[] = {
		{.mode = VS_VLAN_NONE},
		{.mode = VS_VLAN_ACCESS, .pvid = 1},
		{.mode = VS_VLAN_ACCESS, .pvid = VS_VID_MAX},
		{.mode = VS_VLAN_QINQ, .pvid = 7},
		{.mode = VS_VLAN_TRUNK, .pvid = 7, .native_tagged = true},
		{.mode = VS_VLAN_TRUNK},
	};
	struct vs_vlan bad[] = {
		{.mode = VS_VLAN_NONE, .pvid = 1},
		{.mode = VS_VLAN_NONE, .native_tagged = true},
		{.mode = VS_VLAN_NONE},
		{.mode = VS_VLAN_ACCESS},
		{.mode = VS_VLAN_ACCESS, .pvid = 4095},
		{.mode = VS_VLAN_ACCESS, .pvid = 5, .native_tagged = true},
		{.mode = VS_VLAN_ACCESS, .pvid = 5},
		{.mode = VS_VLAN_QINQ},
		{.mode = VS_VLAN_TRUNK, .native_tagged = true},
		{.mode = VS_VLAN_TRUNK},
		{.mode = VS_VLAN_TRUNK},
		{.mode = VS_VLAN_QINQ + 1, .pvid = 1},
	};
	struct vs_port_info info;

	(void)state;
	allow(&good[4], 1);
	allow(&good[5], VS_VID_MAX);
	allow(&bad[2], 5);
	allow(&bad[6], 5);
	allow(&bad[9], 0);
	allow(&bad[10], 4095);
	for (unsigned int i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cfg.vlan = good[i];
		assert_int_equal(set_a(&cfg), 0);
		assert_int_equal(vs_port_info(t.vs, a->port, &info), 0);
		assert_memory_equal(&info.config.vlan, &good[i], sizeof(good[i]));
	}
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cfg.vlan = bad[i];
		assert_int_equal(set_a(&cfg), -ELISA_EINVAL);
	}
	/* Nothing of what was refused. */
	assert_int_equal(vs_port_info(t.vs, a->port, &info), 0);
	assert_memory_equal(&info.config.vlan, &good[5], sizeof(good[5]));
}

static void rate_configuration(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < VS_BUCKETS; i++) {
		struct vs_port_config with = cfg;
		uint64_t least = i == VS_TX_BYTES || i == VS_RX_BYTES ? 1518 : 1;

		with.rate[i] = (struct vs_rate){1, least};
		assert_int_equal(set_a(&with), 0);
		with.rate[i].burst--;
		assert_int_equal(set_a(&with), -ELISA_EINVAL);
		with.rate[i] = (struct vs_rate){1000000, 9999};
		assert_int_equal(set_a(&with), -ELISA_EINVAL);
		with.rate[i].burst++;
		assert_int_equal(set_a(&with), 0);
		with.rate[i] = (struct vs_rate){VS_RATE_MAX, VS_RATE_MAX};
		assert_int_equal(set_a(&with), 0);
		assert_true(vs_refill(t.vs, 1));
		with.rate[i].per_s++;
		assert_int_equal(set_a(&with), -ELISA_EINVAL);
		with.rate[i] = (struct vs_rate){VS_RATE_MAX, VS_RATE_MAX + 1};
		assert_int_equal(set_a(&with), -ELISA_EINVAL);
		/* None: whatever its depth would be. */
		with.rate[i] = (struct vs_rate){0, 0};
		assert_int_equal(set_a(&with), 0);
		assert_false(vs_refill(t.vs, 1));
	}
	cfg.flood_off = 8;
	assert_int_equal(set_a(&cfg), -ELISA_EINVAL);
	cfg.flood_off = 7;
	assert_int_equal(set_a(&cfg), 0);
}

/* ---- addresses that were known before ---- */

static void restored_addresses(void **state)
{
	struct vs_fdb_entry e = {.mac = {2, 5, 5, 5, 5, 5}, .port = b->port, .age_s = 40}, found;
	uint64_t cursor = 0;

	(void)state;
	vs_fdb_flush(t.vs, -1);
	vs_tick(t.vs, 1000);
	vs_tick(t.vs, 1010);
	assert_int_equal(vs_fdb_restore(t.vs, &e), 0);
	assert_int_equal(vs_fdb_restore(t.vs, &e), -17);
	assert_int_equal(vs_fdb_next(t.vs, &cursor, &found), 1);
	assert_int_equal(found.age_s, 40);
	assert_int_equal(found.port, b->port);
	assert_false(found.is_static);
	/* It counts: no flood. */
	assert_int_equal(t_send_one(a, 60, e.mac, a->mac, 1), 1);
	{
		static struct t_frame frame;

		assert_true(t_receive(b, 0, &frame));
		assert_false(t_receive(c, 0, &frame));
	}
	/* And ages as if it had been there all the time: 300 seconds. */
	vs_fdb_flush(t.vs, a->port);
	vs_tick(t.vs, 1010 + 260);
	cursor = 0;
	assert_int_equal(vs_fdb_next(t.vs, &cursor, &found), 1);
	assert_int_equal(found.age_s, 300);
	vs_tick(t.vs, 1010 + 261);
	cursor = 0;
	assert_int_equal(vs_fdb_next(t.vs, &cursor, &found), 0);
	/* Nonsense. */
	e.vid = 5;
	assert_int_equal(vs_fdb_restore(t.vs, &e), -ELISA_EINVAL);
	cfg = t_port_config(&t, b);
	cfg.vlan = (struct vs_vlan){.mode = VS_VLAN_ACCESS, .pvid = 5};
	t_port_set(&t, b, &cfg);
	assert_int_equal(vs_fdb_restore(t.vs, &e), 0);
	e.vid = 6;
	assert_int_equal(vs_fdb_restore(t.vs, &e), -ELISA_EINVAL);
	e.vid = 5;
	e.port = 99;
	assert_int_equal(vs_fdb_restore(t.vs, &e), -ELISA_EINVAL);
	e.port = b->port;
	e.mac[0] = 1;
	assert_int_equal(vs_fdb_restore(t.vs, &e), -ELISA_EINVAL);
	/* What was learned in a VID that the port leaves is forgotten. */
	cfg.vlan.pvid = 6;
	t_port_set(&t, b, &cfg);
	cursor = 0;
	assert_int_equal(vs_fdb_next(t.vs, &cursor, &found), 0);
}

/* ---- mirrors: control ---- */

static void mirror_control(void **state)
{
	struct vs_mirror m = {.to = b->port, .what = VS_MIRROR_TX}, got[VS_MIRRORS_MAX];
	struct t_guest *more[4];

	(void)state;
	assert_int_equal(vs_mirror_add(t.vs, 79, &m), -ELISA_ENODEV);
	assert_int_equal(vs_mirror_add(t.vs, b->port, &m), -ELISA_EINVAL);
	m.what = 0;
	assert_int_equal(vs_mirror_add(t.vs, a->port, &m), -ELISA_EINVAL);
	m.what = 8;
	assert_int_equal(vs_mirror_add(t.vs, a->port, &m), -ELISA_EINVAL);
	m.what = 7;
	m.snap = 13;
	assert_int_equal(vs_mirror_add(t.vs, a->port, &m), -ELISA_EINVAL);
	m.snap = 14;
	m.annotate = true;
	assert_int_equal(vs_mirror_add(t.vs, a->port, &m), 0);
	assert_int_equal(vs_mirror_add(t.vs, a->port, &m), -17);
	assert_int_equal(vs_mirrors(t.vs, a->port, got), 1);
	assert_int_equal(got[0].to, b->port);
	assert_int_equal(got[0].what, 7);
	assert_int_equal(got[0].snap, 14);
	assert_true(got[0].annotate);
	/* No chains. */
	m.to = c->port;
	assert_int_equal(vs_mirror_add(t.vs, b->port, &m), -ELISA_EINVAL);
	m.to = a->port;
	assert_int_equal(vs_mirror_add(t.vs, c->port, &m), -ELISA_EINVAL);
	/* No more than there is room for. */
	for (int i = 0; i < 4; i++) {
		more[i] = t_guest(&t, false);
		m.to = more[i]->port;
		assert_int_equal(vs_mirror_add(t.vs, a->port, &m), i < 3 ? 0 : -28);
	}
	assert_int_equal(vs_mirror_del(t.vs, a->port, more[3]->port), -ELISA_ENODEV);
	assert_int_equal(vs_mirror_del(t.vs, a->port, b->port), 0);
	assert_int_equal(vs_mirror_del(t.vs, a->port, b->port), -ELISA_ENODEV);
	assert_int_equal(vs_mirrors(t.vs, a->port, got), 3);
	/* It is no monitor any more. */
	m.to = c->port;
	assert_int_equal(vs_mirror_add(t.vs, b->port, &m), 0);
	/* A port that goes takes its mirrors along, and those to it. */
	assert_int_equal(vs_port_unbind(t.vs, more[0]->port), 0);
	assert_int_equal(vs_port_del(t.vs, more[0]->port), 0);
	assert_int_equal(vs_mirrors(t.vs, a->port, got), 2);
	assert_int_equal(vs_port_unbind(t.vs, b->port), 0);
	assert_int_equal(vs_port_del(t.vs, b->port), 0);
	assert_int_equal(vs_mirrors(t.vs, b->port, got), -ELISA_ENODEV);
	m.to = a->port;
	assert_int_equal(vs_mirror_del(t.vs, a->port, more[1]->port), 0);
	assert_int_equal(vs_mirror_del(t.vs, a->port, more[2]->port), 0);
	assert_int_equal(vs_mirror_add(t.vs, c->port, &m), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vlan_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(rate_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(restored_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(mirror_control, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
