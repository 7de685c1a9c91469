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
		{.mode = VS_VLAN_ACCESS, .pvid = VS_VID_HIDDEN},
	};
	struct vs_vlan bad[] = {
		{.mode = VS_VLAN_NONE, .pvid = 1},
		{.mode = VS_VLAN_NONE, .native_tagged = true},
		{.mode = VS_VLAN_NONE},
		{.mode = VS_VLAN_ACCESS},
		{.mode = VS_VLAN_QINQ, .pvid = VS_VID_HIDDEN},
		{.mode = VS_VLAN_ACCESS, .pvid = 5, .native_tagged = true},
		{.mode = VS_VLAN_ACCESS, .pvid = 5},
		{.mode = VS_VLAN_QINQ},
		{.mode = VS_VLAN_TRUNK, .native_tagged = true},
		{.mode = VS_VLAN_TRUNK},
		{.mode = VS_VLAN_TRUNK},
		{.mode = VS_VLAN_QINQ + 1, .pvid = 1},
		{.mode = VS_VLAN_TRUNK, .pvid = VS_VID_HIDDEN},
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
	assert_memory_equal(&info.config.vlan, &good[6], sizeof(good[6]));
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

/* Whoever fills the table with addresses keeps nobody from setting one. */
static void set_beside_learned(void **state)
{
	struct vs_fdb_entry e = {.mac = {2}, .port = b->port};
	struct vs_fdb_stats before, after;
	uint8_t mac[6] = {6};

	(void)state;
	for (uint32_t i = 0; i < 30000; i++) {
		memcpy(&e.mac[1], &i, 4);
		vs_fdb_restore(t.vs, &e);
	}
	vs_fdb_stats(t.vs, &before);
	assert_true(before.used > 4000);
	for (uint32_t i = 0; i < 300; i++) {
		memcpy(&mac[1], &i, 4);
		assert_int_equal(vs_fdb_add(t.vs, mac, 0, c->port), 0);
	}
	vs_fdb_stats(t.vs, &after);
	assert_int_equal(after.statics, before.statics + 300);
	assert_true(after.used >= before.used);
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

/* ---- floods ---- */

static const uint8_t nobody[6] = {2, 9, 9, 9, 9, 9}, multicast[6] = {1, 0, 0x5e, 0, 0, 1};
static const uint8_t *const floods[] = {t_broadcast, multicast, nobody};

static void floods_that_do_not_reach(void **state)
{
	(void)state;
	for (unsigned int off = 0; off < 8; off++) {
		cfg = t_port_config(&t, b);
		cfg.flood_off = (uint8_t)off;
		t_port_set(&t, b, &cfg);
		for (unsigned int i = 0; i < 3; i++) {
			assert_int_equal(t_send_one(a, 60, floods[i], a->mac, i), 1);
			assert_int_equal(t_receive(b, 0, &frame), !(off >> i & 1));
			assert_true(t_receive(c, 0, &frame));
			assert_true(t_frame_is(&frame, 60, floods[i], a->mac, i));
		}
	}
	/* What is known does. */
	assert_int_equal(t_send_one(b, 60, a->mac, b->mac, 0), 1);
	assert_int_equal(t_send_one(a, 60, b->mac, a->mac, 0), 1);
	assert_true(t_receive(b, 0, &frame));
	/* Nobody left. */
	cfg = t_port_config(&t, c);
	cfg.flood_off = VS_FLOOD_UNKNOWN;
	t_port_set(&t, c, &cfg);
	assert_int_equal(t_send_one(a, 60, nobody, a->mac, 0), 1);
	assert_int_equal(t_all_drops(&t, a), 1);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_NO_PORT), 1);
}

/* Of the sender's floods as many as there are tokens; its other frames and other senders go on. */
static void storms(void **state)
{
	uint64_t now = 1000000;

	(void)state;
	vs_refill(t.vs, now);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t before = t_drops(&t, a, ELISA_DROP_TX_STORM);

		cfg.rate[VS_STORM_BROADCAST + i] = (struct vs_rate){100, 5};
		assert_int_equal(set_a(&cfg), 0);
		assert_true(vs_refill(t.vs, now));
		for (uint32_t n = 0; n < 8; n++) {
			assert_int_equal(t_send_one(a, 60, floods[i], a->mac, n), 1);
			assert_int_equal(t_receive(b, 0, &frame), n < 5);
		}
		assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_STORM) - before, 3);
		/* 100 a second: one in 10 ms, and no fraction is lost. */
		for (unsigned int ms = 0; ms < 8; ms++) {
			vs_refill(t.vs, now += 4000);
			assert_int_equal(t_send_one(a, 60, floods[i], a->mac, 0), 1);
			assert_int_equal(t_receive(b, 0, &frame), ms == 2 || ms == 4 || ms == 7);
		}
		/* The other kinds, other senders and unicast do not. */
		for (uint32_t n = 0; n < 8; n++) {
			if (i < 2)
				assert_int_equal(t_send_one(a, 60, floods[2], a->mac, n), 1);
			assert_int_equal(t_send_one(c, 60, floods[i], c->mac, n), 1);
			assert_int_equal(t_send_one(a, 60, c->mac, a->mac, n), 1);
			while (t_receive(b, 0, &frame) || t_receive(c, 0, &frame) ||
			       t_receive(a, 0, &frame))
				;
		}
		assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_STORM) - before, 3 + 5);
	}
	assert_int_equal(t_all_drops(&t, a), t_drops(&t, a, ELISA_DROP_TX_STORM));
	assert_int_equal(t_all_drops(&t, b) + t_all_drops(&t, c), 0);
}

/* ---- rates ---- */

static void know_each_other(void)
{
	struct t_guest *g[] = {a, b, c};

	for (int i = 0; i < 3; i++)
		assert_int_equal(t_send_one(g[i], 60, t_broadcast, g[i]->mac, 0), 1);
	for (int i = 0; i < 3; i++)
		while (t_receive(g[i], 0, &frame))
			;
}

/* Bursts of 30 frames: which of them come is what a bucket says, one frame after the other. */
static void rate_of(struct t_guest *limited, unsigned int bucket, enum elisa_drop why)
{
	struct vs_port_config with = t_port_config(&t, limited);
	bool bytes = bucket == VS_TX_BYTES || bucket == VS_RX_BYTES;
	int64_t tokens = bytes ? 9000 : 20;
	uint64_t drops = 0, now = 5000000;

	know_each_other();
	with.rate[bucket] = (struct vs_rate){bytes ? 100000 : 1000, (uint64_t)tokens};
	vs_refill(t.vs, now);
	t_port_set(&t, limited, &with);
	assert_true(vs_refill(t.vs, now));
	for (uint32_t round = 0; round < 20; round++) {
		bool pass[30];

		for (uint32_t i = 0; i < 30; i++) {
			uint32_t len = 60 + (i * 97 + round * 31) % 1400;
			int64_t want = bytes ? len : 1;

			pass[i] = tokens >= want;
			tokens -= pass[i] ? want : 0;
			drops += !pass[i];
			t_frame_put(a, 0, len, b->mac, a->mac, i);
		}
		assert_int_equal(t_send(a, 0, 30), 30);
		for (uint32_t i = 0; i < 30; i++) {
			if (!pass[i])
				continue;
			assert_true(t_receive(b, 0, &frame));
			assert_true(t_frame_is(&frame, 60 + (i * 97 + round * 31) % 1400, b->mac,
					       a->mac, i));
		}
		assert_false(t_receive(b, 0, &frame));
		assert_int_equal(t_drops(&t, limited, why), drops);
		vs_refill(t.vs, now += 40000);
		tokens += bytes ? 4000 : 40;
		if (tokens > (bytes ? 9000 : 20))
			tokens = bytes ? 9000 : 20;
	}
	assert_true(drops > 50 && drops < 500);
	assert_int_equal(t_all_drops(&t, a) + t_all_drops(&t, b), drops);
	/* The other way it is not limited; and without the limit not at all. */
	for (uint32_t i = 0; i < 60; i++)
		t_frame_put(b, 0, 1400, a->mac, b->mac, i);
	assert_int_equal(t_send(b, 0, 60), 60);
	for (uint32_t i = 0; i < 60; i++)
		assert_true(t_receive(a, 0, &frame));
	with.rate[bucket].per_s = 0;
	t_port_set(&t, limited, &with);
	assert_false(vs_refill(t.vs, now));
	for (uint32_t i = 0; i < 60; i++)
		t_frame_put(a, 0, 1400, b->mac, a->mac, i);
	assert_int_equal(t_send(a, 0, 60), 60);
	for (uint32_t i = 0; i < 60; i++)
		assert_true(t_receive(b, 0, &frame));
}

static void rates(void **state)
{
	setup(state);
	rate_of(a, VS_TX_BYTES, ELISA_DROP_TX_POLICED);
	teardown(state);
	setup(state);
	rate_of(a, VS_TX_FRAMES, ELISA_DROP_TX_POLICED);
	teardown(state);
	setup(state);
	rate_of(b, VS_RX_BYTES, ELISA_DROP_RX_POLICED);
	teardown(state);
	setup(state);
	rate_of(b, VS_RX_FRAMES, ELISA_DROP_RX_POLICED);
	teardown(state);
}

/* Floods are policed at each receiver; what is dropped is mirrored there with its reason. */
static void rates_of_floods_and_mirrors(void **state)
{
	struct vs_mirror m = {.what = 7, .annotate = true};
	struct t_guest *monitor = t_guest_up(&t, false);
	uint32_t note[3];

	(void)state;
	know_each_other();
	while (t_receive(monitor, 0, &frame))
		;
	m.to = monitor->port;
	assert_int_equal(vs_mirror_add(t.vs, b->port, &m), 0);
	cfg = t_port_config(&t, b);
	cfg.rate[VS_RX_FRAMES] = (struct vs_rate){1, 2};
	t_port_set(&t, b, &cfg);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(t_send_one(a, 60, t_broadcast, a->mac, i), 1);
		assert_int_equal(t_receive(b, 0, &frame), i < 2);
		assert_true(t_receive(c, 0, &frame));
		assert_true(t_receive(monitor, 0, &frame));
		assert_true(t_frame_is(&frame, 60, t_broadcast, a->mac, i));
		note[i] = monitor->q[0].comp[(monitor->q[0].rx_next - 1) % T_SIZE].hash;
	}
	assert_int_equal(VS_NOTE_DROP(note[1]), 0);
	assert_int_equal(VS_NOTE_DROP(note[2]), ELISA_DROP_RX_POLICED + 1);
	assert_true(VS_NOTE_RX(note[2]));
	/* A sender whose drops are mirrored: one after the other, in its order. */
	assert_int_equal(vs_mirror_del(t.vs, b->port, monitor->port), 0);
	cfg.rate[VS_RX_FRAMES].per_s = 0;
	t_port_set(&t, b, &cfg);
	assert_int_equal(vs_mirror_add(t.vs, a->port, &m), 0);
	cfg = t_port_config(&t, a);
	cfg.rate[VS_TX_BYTES] = (struct vs_rate){1, 1600};
	t_port_set(&t, a, &cfg);
	for (uint32_t i = 0; i < 20; i++)
		t_frame_put(a, 0, i % 2 ? 1000 : 60, b->mac, a->mac, i);
	assert_int_equal(t_send(a, 0, 20), 20);
	for (uint32_t i = 0; i < 20; i++) {
		uint32_t hash;

		assert_true(t_receive(monitor, 0, &frame));
		assert_true(t_frame_is(&frame, i % 2 ? 1000 : 60, b->mac, a->mac, i));
		hash = monitor->q[0].comp[(monitor->q[0].rx_next - 1) % T_SIZE].hash;
		assert_int_equal(VS_NOTE_DROP(hash),
				 i > 1 && (i % 2 || i > 18) ? ELISA_DROP_TX_POLICED + 1 : 0);
		assert_false(VS_NOTE_RX(hash));
	}
}

/* ---- addresses ---- */

static uint32_t macs_of(struct t_guest *g)
{
	struct vs_port_info info;
	struct vs_fdb_entry e;
	uint64_t cursor = 0;
	uint32_t count = 0;

	assert_int_equal(vs_port_info(t.vs, g->port, &info), 0);
	while (vs_fdb_next(t.vs, &cursor, &e))
		count += e.port == g->port && !e.is_static;
	assert_int_equal(info.macs, count);
	return count;
}

static void send_from(struct t_guest *g, uint8_t n)
{
	const uint8_t src[6] = {2, 7, 7, 7, 7, n};

	assert_int_equal(t_send_one(g, 60, nobody, src, 0), 1);
	while (t_receive(a, 0, &frame) || t_receive(c, 0, &frame))
		;
}

static void address_limit(void **state)
{
	const uint8_t fixed[6] = {2, 7, 7, 7, 7, 200};

	(void)state;
	for (unsigned int drop = 0; drop < 2; drop++) {
		vs_fdb_flush(t.vs, -1);
		vs_tick(t.vs, 1000 + 2000 * drop);
		cfg.mac_limit = 3;
		cfg.mac_limit_drop = drop;
		assert_int_equal(set_a(&cfg), 0);
		assert_int_equal(macs_of(a), 0);
		for (uint8_t n = 0; n < 6; n++) {
			send_from(a, n);
			assert_int_equal(t_receive(b, 0, &frame), n < 3 || !drop);
			assert_int_equal(macs_of(a), n < 3 ? n + 1u : 3);
		}
		assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_MAC_LIMIT), drop ? 3 : 0);
		/* Those that are known go on; an address that is static does not count. */
		send_from(a, 1);
		assert_true(t_receive(b, 0, &frame));
		assert_int_equal(vs_fdb_add(t.vs, fixed, 0, a->port), 0);
		send_from(a, 200);
		assert_true(t_receive(b, 0, &frame));
		assert_int_equal(macs_of(a), 3);
		/* A known one that becomes static makes room; one that moves away, too. */
		assert_int_equal(vs_fdb_add(t.vs, (const uint8_t[]){2, 7, 7, 7, 7, 0}, 0, a->port),
				 0);
		assert_int_equal(macs_of(a), 2);
		send_from(c, 1);
		assert_true(t_receive(b, 0, &frame));
		assert_int_equal(macs_of(a), 1);
		assert_int_equal(macs_of(c), 1);
		send_from(a, 10);
		send_from(a, 11);
		while (t_receive(b, 0, &frame))
			;
		assert_int_equal(macs_of(a), 3);
		/* And one that would move to it is one more. */
		send_from(a, 1);
		assert_int_equal(t_receive(b, 0, &frame), !drop);
		assert_int_equal(macs_of(a), 3);
		assert_int_equal(macs_of(c), 1);
		/* Forgotten ones make room: by age, by flushing. */
		vs_tick(t.vs, 1200 + 2000 * drop);
		send_from(a, 2);
		vs_tick(t.vs, 1301 + 2000 * drop);
		assert_int_equal(macs_of(a), 1);
		vs_fdb_flush(t.vs, a->port);
		assert_int_equal(macs_of(a), 0);
		while (t_receive(b, 0, &frame))
			;
		assert_int_equal(vs_fdb_del(t.vs, fixed, 0), 0);
		assert_int_equal(vs_fdb_del(t.vs, (const uint8_t[]){2, 7, 7, 7, 7, 0}, 0), 0);
		assert_int_equal(macs_of(a), 0);
	}
	assert_int_equal(t_all_drops(&t, a), 4);
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
		cmocka_unit_test_setup_teardown(set_beside_learned, setup, teardown),
		cmocka_unit_test_setup_teardown(floods_that_do_not_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(storms, setup, teardown),
		cmocka_unit_test(rates),
		cmocka_unit_test_setup_teardown(rates_of_floods_and_mirrors, setup, teardown),
		cmocka_unit_test_setup_teardown(address_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(mirror_control, setup, teardown),
		cmocka_unit_test_setup_teardown(mirror_tx, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_rx, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_snap, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_drops, setup_mirror, teardown),
		cmocka_unit_test_setup_teardown(mirror_never_waits, setup_mirror, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
