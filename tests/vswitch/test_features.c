/* SPDX-License-Identifier: BSD-3-Clause */
/* Rates, limits, what does not flood, mirrors: what a port may have besides. */
#include "harness.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_guest *a, *b, *c;
static struct vs_port_config cfg;
static struct t_frame frame;

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
	assert_true(t_receive(b, 0, &frame));
	assert_false(t_receive(c, 0, &frame));
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

/* ---- mirrors: frames ---- */

static struct t_guest *monitor;

static void mirror(struct t_guest *of, uint8_t what, uint16_t snap, bool annotate)
{
	struct vs_mirror m = {
		.to = monitor->port, .what = what, .snap = snap, .annotate = annotate};

	assert_int_equal(vs_mirror_add(t.vs, of->port, &m), 0);
}

static int setup_mirror(void **state)
{
	setup(state);
	monitor = t_guest_up(&t, false);
	/* All know where all are; the monitor is not to be found. */
	assert_int_equal(t_send_one(a, 60, t_broadcast, a->mac, 0), 1);
	assert_int_equal(t_send_one(b, 60, t_broadcast, b->mac, 0), 1);
	assert_int_equal(t_send_one(c, 60, t_broadcast, c->mac, 0), 1);
	while (t_receive(a, 0, &frame) || t_receive(b, 0, &frame) || t_receive(c, 0, &frame) ||
	       t_receive(monitor, 0, &frame))
		;
	return 0;
}

/* Note of the frame that was received last; 0: it has none. */
static uint32_t note(struct t_guest *g)
{
	const struct elisa_rxc *comp = &g->q[0].comp[(g->q[0].rx_next - 1) % g->q[0].rx_size];

	return comp->flags & ELISA_RXC_HASH ? comp->hash : 0;
}

static void assert_copy(uint32_t len, const uint8_t dst[6], const uint8_t src[6], uint32_t seed)
{
	assert_true(t_receive(monitor, 0, &frame));
	assert_true(t_frame_is(&frame, len, dst, src, seed));
}

static void assert_note(uint32_t len, struct t_guest *g, bool rx, unsigned int drop)
{
	assert_int_equal(VS_NOTE_LEN(note(monitor)), len);
	assert_int_equal(VS_NOTE_PORT(note(monitor)), g->port);
	assert_int_equal(VS_NOTE_RX(note(monitor)), rx);
	assert_int_equal(VS_NOTE_DROP(note(monitor)), drop);
}

/* What a port sends, to several, in its order; floods come once. */
static void mirror_tx(void **state)
{
	const uint8_t *dst[] = {b->mac, c->mac, c->mac, t_broadcast, b->mac, b->mac};
	struct elisa_port_counters count;

	(void)state;
	mirror(a, VS_MIRROR_TX, 0, false);
	for (uint32_t i = 0; i < 60; i++)
		t_frame_put(a, 0, 14 + 20 * i, dst[i % 6], a->mac, i);
	assert_int_equal(t_send(a, 0, 60), 60);
	for (uint32_t i = 0; i < 60; i++) {
		assert_copy(14 + 20 * i, dst[i % 6], a->mac, i);
		assert_int_equal(note(monitor), 0);
	}
	assert_false(t_receive(monitor, 0, &frame));
	/* Others' frames do not come, nor do floods. */
	assert_int_equal(t_send_one(b, 60, a->mac, b->mac, 1), 1);
	assert_int_equal(t_send_one(b, 60, t_broadcast, b->mac, 1), 1);
	assert_false(t_receive(monitor, 0, &frame));
	vs_port_counters(t.vs, a->port, &count);
	assert_int_equal(count.tx_frames, 61);
	assert_int_equal(count.drops[ELISA_DROP_TX_NO_PORT], 0);
	/* And no more after it is taken away. */
	assert_int_equal(vs_mirror_del(t.vs, a->port, monitor->port), 0);
	assert_int_equal(t_send_one(a, 60, b->mac, a->mac, 1), 1);
	assert_false(t_receive(monitor, 0, &frame));
	assert_int_equal(t_send_one(a, 60, t_broadcast, a->mac, 1), 1);
	assert_true(t_receive(monitor, 0, &frame));
}

static void mirror_rx(void **state)
{
	(void)state;
	mirror(b, VS_MIRROR_RX, 0, true);
	for (uint32_t i = 0; i < 10; i++) {
		t_frame_put(a, 0, 700, i % 4 ? b->mac : t_broadcast, a->mac, i);
		t_frame_put(a, 0, 700, c->mac, a->mac, 99);
	}
	assert_int_equal(t_send(a, 0, 20), 20);
	assert_int_equal(t_send_one(b, 60, a->mac, b->mac, 1), 1);
	for (uint32_t i = 0; i < 10; i++) {
		assert_copy(700, i % 4 ? b->mac : t_broadcast, a->mac, i);
		assert_note(700, b, true, 0);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 700, i % 4 ? b->mac : t_broadcast, a->mac, i));
	}
	assert_false(t_receive(monitor, 0, &frame));
}

/* Each as much as is asked for, be it short or over several buffers. */
static void mirror_snap(void **state)
{
	static const uint16_t snaps[] = {14, 15, 16, 64, 700};

	(void)state;
	for (unsigned int i = 0; i < sizeof(snaps) / sizeof(snaps[0]); i++) {
		mirror(a, VS_MIRROR_TX, snaps[i], true);
		for (uint32_t len = 14; len < 1500; len += 33) {
			uint32_t cut = len < snaps[i] ? len : snaps[i];
			static uint8_t expected[1500];

			t_fill(expected, len, b->mac, a->mac, len);
			assert_int_equal(t_send_one(a, len, b->mac, a->mac, len), 1);
			assert_true(t_receive(b, 0, &frame));
			assert_true(t_frame_is(&frame, len, b->mac, a->mac, len));
			assert_true(t_receive(monitor, 0, &frame));
			assert_int_equal(frame.len, cut);
			assert_memory_equal(frame.data, expected, cut);
			assert_note(len, a, false, 0);
		}
		assert_int_equal(vs_mirror_del(t.vs, a->port, monitor->port), 0);
	}
}

/* What is dropped, at the sender and at the receiver, with its reason, in order. */
static void mirror_drops(void **state)
{
	struct vs_port_config spoof = cfg;

	(void)state;
	spoof.anti_spoof = true;
	assert_int_equal(set_a(&spoof), 0);
	mirror(a, VS_MIRROR_TX | VS_MIRROR_DROPS, 0, true);
	t_frame_put(a, 0, 60, b->mac, a->mac, 1);
	t_frame_put(a, 0, 61, b->mac, c->mac, 2); /* spoofed */
	t_frame_put(a, 0, 62, b->mac, a->mac, 3);
	t_frame_put(a, 0, 63, a->mac, a->mac, 4); /* to itself */
	t_frame_put(a, 0, 1600, b->mac, a->mac, 5);
	t_frame_put(a, 0, 13, b->mac, a->mac, 6); /* not mirrored: too short */
	assert_int_equal(t_send(a, 0, 6), 6);
	assert_copy(60, b->mac, a->mac, 1);
	assert_note(60, a, false, 0);
	assert_copy(61, b->mac, c->mac, 2);
	assert_note(61, a, false, ELISA_DROP_TX_SPOOFED + 1);
	assert_copy(62, b->mac, a->mac, 3);
	assert_note(62, a, false, 0);
	assert_copy(63, a->mac, a->mac, 4);
	assert_note(63, a, false, ELISA_DROP_TX_NO_PORT + 1);
	/* As much of it as a frame may have. */
	assert_true(t_receive(monitor, 0, &frame));
	assert_int_equal(frame.len, 1518);
	assert_note(1600, a, false, ELISA_DROP_TX_TOO_LONG + 1);
	assert_false(t_receive(monitor, 0, &frame));
	assert_int_equal(vs_mirror_del(t.vs, a->port, monitor->port), 0);
	/* The receiver's ring is full after two of five. */
	mirror(b, VS_MIRROR_RX | VS_MIRROR_DROPS, 0, true);
	while (t_receive(b, 0, &frame))
		;
	assert_true(t_setup(b, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	t_post(&b->q[0], 2);
	for (uint32_t i = 0; i < 5; i++)
		t_frame_put(a, 0, 100, b->mac, a->mac, i);
	assert_int_equal(t_send(a, 0, 5), 5);
	for (uint32_t i = 0; i < 5; i++) {
		assert_copy(100, b->mac, a->mac, i);
		assert_note(100, b, true, i < 2 ? 0 : ELISA_DROP_RX_NO_BUFFER + 1);
	}
	assert_int_equal(t_drops(&t, b, ELISA_DROP_RX_NO_BUFFER), 3);
	/* Too long for it, alone and in a flood. */
	spoof = t_port_config(&t, b);
	spoof.mtu = 500;
	t_port_set(&t, b, &spoof);
	assert_int_equal(t_send_one(a, 900, b->mac, a->mac, 7), 1);
	assert_int_equal(t_send_one(a, 901, t_broadcast, a->mac, 8), 1);
	assert_copy(900, b->mac, a->mac, 7);
	assert_note(900, b, true, ELISA_DROP_RX_TOO_LONG + 1);
	assert_copy(901, t_broadcast, a->mac, 8);
	assert_note(901, b, true, ELISA_DROP_RX_TOO_LONG + 1);
	assert_false(t_receive(monitor, 0, &frame));
}

/* A monitor that does not read misses frames; those whom it watches do not. */
static void mirror_never_waits(void **state)
{
	(void)state;
	mirror(a, VS_MIRROR_TX, 0, false);
	mirror(b, VS_MIRROR_RX, 0, false);
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(t_send_one(a, 60, b->mac, a->mac, i), 1);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 60, b->mac, a->mac, i));
	}
	assert_int_equal(t_all_drops(&t, a) + t_all_drops(&t, b), 0);
	assert_int_equal(t_drops(&t, monitor, ELISA_DROP_RX_NO_BUFFER), 100 - T_SIZE);
	/* Each was seen leaving and coming. */
	for (uint32_t i = 0; i < T_SIZE / 2; i++) {
		assert_copy(60, b->mac, a->mac, i);
		assert_copy(60, b->mac, a->mac, i);
	}
	/* Its link down is no matter either. */
	assert_int_equal(vs_port_unbind(t.vs, monitor->port), 0);
	assert_int_equal(t_send_one(a, 60, b->mac, a->mac, 1), 1);
	assert_true(t_receive(b, 0, &frame));
	assert_int_equal(t_drops(&t, monitor, ELISA_DROP_RX_LINK_DOWN), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(vlan_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(rate_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(restored_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(mirror_control, setup, teardown),
		cmocka_unit_test_setup_teardown(mirror_tx, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_rx, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_snap, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_drops, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_never_waits, setup_mirror, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
