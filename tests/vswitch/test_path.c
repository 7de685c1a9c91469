/* SPDX-License-Identifier: BSD-3-Clause */
/* The packet path, single-threaded: delivery, forwarding, each reason to drop. */
#include "harness.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_guest *a, *b, *c;
static struct t_frame frame;

/* Three guests that know each other. */
static int setup(void **state)
{
	struct t_guest **g[] = {&a, &b, &c};

	(void)state;
	t_create(&t, 1024);
	for (int i = 0; i < 3; i++)
		*g[i] = t_guest_up(&t, false);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(t_send_one(*g[i], 60, t_broadcast, (*g[i])->mac, 0), 1);
		for (int j = 0; j < 3; j++)
			assert_int_equal(t_receive(*g[j], 0, &frame), i != j);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

static uint64_t drops_at(struct t_guest *g, enum elisa_drop why)
{
	/* Exactly this one reason, nothing else anywhere. */
	uint64_t all = t_all_drops(&t, a) + t_all_drops(&t, b) + t_all_drops(&t, c);

	assert_int_equal(all, t_drops(&t, g, why));
	return all;
}

static void assert_nothing_received(void)
{
	assert_false(t_receive(a, 0, &frame));
	assert_false(t_receive(b, 0, &frame));
	assert_false(t_receive(c, 0, &frame));
}

static void unicast_of_each_length(void **state)
{
	struct elisa_port_counters from, to;

	(void)state;
	for (uint32_t len = 14; len <= 1514; len++) {
		assert_int_equal(t_send_one(a, len, b->mac, a->mac, len), 1);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, len, b->mac, a->mac, len));
	}
	assert_nothing_received();
	assert_int_equal(drops_at(a, ELISA_DROP_TX_RUNT), 0);
	vs_port_counters(t.vs, a->port, &from);
	vs_port_counters(t.vs, b->port, &to);
	assert_int_equal(from.tx_frames, 1 + 1501);
	assert_int_equal(from.tx_unicast, 1501);
	assert_int_equal(from.tx_broadcast, 1);
	assert_int_equal(from.tx_flooded, 0);
	assert_int_equal(from.tx_calls, 1 + 1501);
	assert_int_equal(from.tx_bytes, 60 + (14 + 1514) * 1501 / 2);
	assert_int_equal(to.rx_frames, 2 + 1501);
	assert_int_equal(to.rx_bytes, 120 + (14 + 1514) * 1501 / 2);
}

static void bursts(void **state)
{
	uint32_t sent = 0, seen = 0;

	(void)state;
	for (uint32_t n = 1; n <= T_SIZE; n++) {
		for (uint32_t i = 0; i < n; i++)
			t_frame_put(a, 0, 60 + i, b->mac, a->mac, sent++);
		assert_int_equal(t_send(a, 0, n), n);
		for (uint32_t i = 0; i < n; i++) {
			assert_true(t_receive(b, 0, &frame));
			assert_true(t_frame_is(&frame, 60 + i, b->mac, a->mac, seen++));
		}
	}
	assert_nothing_received();
}

/* Alternating destinations, broadcasts in between: each receiver sees its own in order. */
static void mixed_burst(void **state)
{
	struct t_guest *to[] = {b, c, b, NULL, c, c, b, NULL, b};
	uint32_t next[2] = {0, 0};

	(void)state;
	for (uint32_t i = 0; i < 60; i++)
		t_frame_put(a, 0, 60, to[i % 9] ? to[i % 9]->mac : t_broadcast, a->mac, i);
	assert_int_equal(t_send(a, 0, 60), 60);
	for (int r = 0; r < 2; r++) {
		struct t_guest *g = r ? c : b;

		for (; next[r] < 60; next[r]++) {
			struct t_guest *dst = to[next[r] % 9];

			if (dst && dst != g)
				continue;
			assert_true(t_receive(g, 0, &frame));
			assert_true(t_frame_is(&frame, 60, dst ? g->mac : t_broadcast, a->mac,
					       next[r]));
		}
	}
	assert_nothing_received();
}

/* More destinations than a batch tells apart. */
static void many_destinations(void **state)
{
	struct t_guest *g[12];

	(void)state;
	for (int i = 0; i < 12; i++) {
		g[i] = t_guest_up(&t, true);
		assert_int_equal(t_send_one(g[i], 60, a->mac, g[i]->mac, 0), 1);
		assert_true(t_receive(a, 0, &frame));
	}
	for (uint32_t i = 0; i < 48; i++)
		t_frame_put(a, 0, 60, g[i % 12]->mac, a->mac, i);
	assert_int_equal(t_send(a, 0, 48), 48);
	for (uint32_t i = 0; i < 48; i++) {
		assert_true(t_receive(g[i % 12], 0, &frame));
		assert_true(t_frame_is(&frame, 60, g[i % 12]->mac, a->mac, i));
	}
}

static void floods(void **state)
{
	const uint8_t unknown[6] = {2, 9, 9, 9, 9, 9}, multicast[6] = {1, 0, 0x5e, 0, 0, 1};
	const uint8_t *dst[] = {unknown, multicast, t_broadcast};
	struct elisa_port_counters count;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(t_send_one(a, 80, dst[i], a->mac, i), 1);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 80, dst[i], a->mac, i));
		assert_true(t_receive(c, 0, &frame));
		assert_true(t_frame_is(&frame, 80, dst[i], a->mac, i));
		assert_nothing_received();
	}
	vs_port_counters(t.vs, a->port, &count);
	assert_int_equal(count.tx_frames, 4);
	assert_int_equal(count.tx_flooded, 1);
	assert_int_equal(count.tx_multicast, 1);
	assert_int_equal(count.tx_broadcast, 2);
	assert_int_equal(count.tx_unicast, 1);
}

/* Learned from its first frame, followed when it moves. */
static void learning(void **state)
{
	const uint8_t mac[6] = {2, 7, 7, 7, 7, 7};

	(void)state;
	t_send_one(b, 60, a->mac, mac, 0);
	assert_true(t_receive(a, 0, &frame));
	t_send_one(a, 60, mac, a->mac, 1);
	assert_true(t_receive(b, 0, &frame));
	assert_nothing_received();
	t_send_one(c, 60, a->mac, mac, 2);
	assert_true(t_receive(a, 0, &frame));
	/* The way that a's queue remembers must not be used any more. */
	t_send_one(a, 60, mac, a->mac, 3);
	assert_true(t_receive(c, 0, &frame));
	assert_nothing_received();
	assert_int_equal(drops_at(a, ELISA_DROP_TX_RUNT), 0);
}

static void static_entries_stay(void **state)
{
	const uint8_t mac[6] = {2, 7, 7, 7, 7, 8};

	(void)state;
	assert_int_equal(vs_fdb_add(t.vs, mac, 0, b->port), 0);
	t_send_one(c, 60, a->mac, mac, 0);
	assert_true(t_receive(a, 0, &frame));
	t_send_one(a, 60, mac, a->mac, 1);
	assert_true(t_receive(b, 0, &frame));
	assert_nothing_received();
}

static void spoofed_source(void **state)
{
	struct vs_port_config cfg = t_port_config(&t, a);

	(void)state;
	cfg.anti_spoof = true;
	t_port_set(&t, a, &cfg);
	assert_int_equal(t_send_one(a, 60, b->mac, c->mac, 0), 1);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_SPOOFED), 1);
	/* Also in the middle of a run. */
	for (int i = 0; i < 8; i++)
		t_frame_put(a, 0, 60, b->mac, i == 3 ? c->mac : a->mac, (uint32_t)i);
	assert_int_equal(t_send(a, 0, 8), 8);
	for (uint32_t i = 0; i < 8; i++) {
		if (i == 3)
			continue;
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 60, b->mac, a->mac, i));
	}
	assert_int_equal(drops_at(a, ELISA_DROP_TX_SPOOFED), 2);
	/* It was not learned either. */
	t_send_one(b, 60, c->mac, b->mac, 9);
	assert_true(t_receive(c, 0, &frame));
	assert_nothing_received();
}

static void bad_sources(void **state)
{
	const uint8_t zero[6] = {0};

	(void)state;
	t_send_one(a, 60, b->mac, zero, 0);
	t_send_one(a, 60, b->mac, t_broadcast, 0);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_BAD_SOURCE), 2);
	assert_nothing_received();
}

static void lengths_out_of_range(void **state)
{
	uint64_t at = t_alloc(a, 2000, 64);
	uint8_t *ram = t_at(a, at);

	(void)state;
	for (uint16_t len = 1; len < 14; len++) {
		t_fill(ram, len, b->mac, a->mac, 0);
		t_desc(&a->q[0], at, len, 0);
		assert_int_equal(t_send(a, 0, 1), 1);
	}
	assert_int_equal(drops_at(a, ELISA_DROP_TX_RUNT), 13);
	assert_nothing_received();
	t_fill(ram, 1518, b->mac, a->mac, 0);
	t_desc(&a->q[0], at, 1515, 0);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_TOO_LONG), 1);
	/* A tag does not count. */
	ram[12] = 0x81;
	t_desc(&a->q[0], at, 1518, 0);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_true(t_receive(b, 0, &frame));
	assert_int_equal(frame.len, 1518);
	assert_memory_equal(frame.data, ram, 1518);
	t_desc(&a->q[0], at, 1519, 0);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_TOO_LONG), 2);
}

static void receiver_with_smaller_mtu(void **state)
{
	struct vs_port_config cfg = t_port_config(&t, b);

	(void)state;
	cfg.mtu = 500;
	t_port_set(&t, b, &cfg);
	t_send_one(a, 514, b->mac, a->mac, 0);
	assert_true(t_receive(b, 0, &frame));
	t_send_one(a, 515, b->mac, a->mac, 0);
	t_send_one(a, 1000, t_broadcast, a->mac, 0);
	assert_int_equal(drops_at(b, ELISA_DROP_RX_TOO_LONG), 2);
	assert_true(t_receive(c, 0, &frame));
	assert_nothing_received();
}

static void bad_descriptors(void **state)
{
	struct t_queue *q = &a->q[0];
	uint64_t at = t_alloc(a, 2000, 64);

	(void)state;
	t_fill(t_at(a, at), 60, b->mac, a->mac, 0);
	t_desc(q, at, 0, 0);
	t_desc(q, at, 60, 0x20);
	/* Offloads are asked for in the first one only. */
	t_desc(q, at, 60, ELISA_NET_MORE);
	t_desc(q, at, 60, 0);
	q->txd[(q->tx_next - 1) % q->tx_size].csum_start = 1;
	/* One frame of too many segments, good ones after. */
	for (int i = 0; i <= ELISA_SEGS_MAX; i++)
		t_desc(q, at, 60, i < ELISA_SEGS_MAX ? ELISA_NET_MORE : 0);
	t_desc(q, at, 60, 0);
	assert_int_equal(t_send(a, 0, 6 + ELISA_SEGS_MAX), 6 + ELISA_SEGS_MAX);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_BAD_DESC), 4);
	assert_true(t_receive(b, 0, &frame));
	assert_nothing_received();
}

static void bad_addresses(void **state)
{
	const struct {
		uint64_t at;
		uint16_t len;
	} bad[] = {
		{0, 60},
		{T_GPA - 1, 60},
		{T_GPA - 60, 60},
		{T_GPA + T_RAM, 60},
		{T_GPA + T_RAM - 59, 60},
		{T_GPA + T_RAM - 1, 60},
		{T_GPA + T_RAM - 1000, 1001},
		{UINT64_MAX, 60},
		{UINT64_MAX - 58, 60},
		{1ull << 63, 60},
		{T_GPA | 1ull << 52, 60},
		{T_GPA + (1ull << 32), 60},
		{T_GPA, 65535}, /* within, but too long */
		{T_GPA + T_RAM - 65534, 65535},
	};
	unsigned int count = sizeof(bad) / sizeof(bad[0]);

	(void)state;
	for (unsigned int i = 0; i < count; i++) {
		/* With a way to go to and without. */
		t_frame_put(a, 0, 60, b->mac, a->mac, 0);
		t_desc(&a->q[0], bad[i].at, bad[i].len, 0);
		assert_int_equal(t_send(a, 0, 2), 2);
		assert_true(t_receive(b, 0, &frame));
		vs_tick(t.vs, i);
		t_desc(&a->q[0], bad[i].at, bad[i].len, 0);
		assert_int_equal(t_send(a, 0, 1), 1);
	}
	assert_nothing_received();
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_BAD_ADDR), 2 * (count - 1));
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_TOO_LONG), 2);
}

/*
 * In the middle of frames that go the same way: what such an address would lead to, the first byte
 * of RAM, has a frame of that way, too.
 */
static void bad_address_in_a_run(void **state)
{
	struct t_guest *g = t_guest(&t, false);

	(void)state;
	t_fill(t_at(g, t_alloc(g, 64, 64)), 60, b->mac, g->mac, 77);
	assert_true(t_setup(g, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 8; i++)
			if (i == 4)
				t_desc(&g->q[0], T_GPA + T_RAM + 4096, 60, 0);
			else
				t_frame_put(g, 0, 60, b->mac, g->mac, i);
		assert_int_equal(t_send(g, 0, 8), 8);
		for (uint32_t i = 0; i < 8; i++) {
			if (i == 4)
				continue;
			assert_true(t_receive(b, 0, &frame));
			assert_true(t_frame_is(&frame, 60, b->mac, g->mac, i));
		}
	}
	assert_nothing_received();
	assert_int_equal(t_drops(&t, g, ELISA_DROP_TX_BAD_ADDR), 2);
}

/* A frame that ends with the last byte of RAM: whatever is read beyond faults. */
static void at_the_end_of_ram(void **state)
{
	(void)state;
	for (uint16_t len = 14; len <= 1514; len++) {
		uint64_t at = T_GPA + T_RAM - len;

		t_fill(t_at(a, at), len, b->mac, a->mac, len);
		t_desc(&a->q[0], at, len, 0);
		assert_int_equal(t_send(a, 0, 1), 1);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, len, b->mac, a->mac, len));
	}
	/* And into the last bytes of the receiver's, the first of the sender's. */
	for (uint16_t len = 14; len <= 1514; len += 50) {
		struct t_queue *q = &b->q[0];

		q->rx->addr[q->rx_next % q->rx_size] = T_GPA + T_RAM - T_BUF;
		t_send_one(a, len, b->mac, a->mac, len);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, len, b->mac, a->mac, len));
	}
	assert_int_equal(drops_at(a, ELISA_DROP_TX_BAD_ADDR), 0);
}

/* Segments of odd lengths, headers in pieces too. */
static void chains(void **state)
{
	uint64_t at = t_alloc(a, 4096, 64);

	(void)state;
	for (uint32_t len = 14; len <= 1514; len += 3) {
		for (uint32_t segs = 1; segs <= ELISA_SEGS_MAX && segs <= len; segs++) {
			uint32_t put = 0, piece = len / segs;

			t_fill(t_at(a, at), len, b->mac, a->mac, len);
			for (uint32_t i = 0; i < segs; i++) {
				uint32_t n = i + 1 < segs ? piece : len - put;

				t_desc(&a->q[0], at + put, (uint16_t)n,
				       i + 1 < segs ? ELISA_NET_MORE : 0);
				put += n;
			}
			assert_int_equal(t_send(a, 0, segs), segs);
			assert_true(t_receive(b, 0, &frame));
			assert_true(t_frame_is(&frame, len, b->mac, a->mac, len));
		}
	}
	assert_int_equal(drops_at(a, ELISA_DROP_TX_BAD_DESC), 0);
}

static void incomplete_chain_is_left(void **state)
{
	uint64_t at = t_alloc(a, 4096, 64);

	(void)state;
	t_frame_put(a, 0, 60, b->mac, a->mac, 0);
	t_fill(t_at(a, at), 100, b->mac, a->mac, 1);
	t_desc(&a->q[0], at, 50, ELISA_NET_MORE);
	assert_int_equal(t_send(a, 0, 2), 1);
	assert_true(t_receive(b, 0, &frame));
	assert_int_equal(t_send(a, 0, 1), 0);
	t_desc(&a->q[0], at + 50, 50, 0);
	assert_int_equal(t_send(a, 0, 2), 2);
	assert_true(t_receive(b, 0, &frame));
	assert_true(t_frame_is(&frame, 100, b->mac, a->mac, 1));
	assert_int_equal(drops_at(a, ELISA_DROP_TX_BAD_DESC), 0);
}

static void jumbo(struct t_guest *from, struct t_guest *to)
{
	uint64_t at = t_alloc(from, 16384, 64);
	uint32_t lens[] = {1515, 2048, 2049, 4096, 4097, 9000, 9014, ELISA_MTU_MAX + 14};

	for (unsigned int l = 0; l < 8; l++) {
		for (uint32_t segs = 1; segs <= 5; segs += 2) {
			uint32_t put = 0;

			t_fill(t_at(from, at), lens[l], to->mac, from->mac, l);
			for (uint32_t i = 0; i < segs; i++) {
				uint32_t n = i + 1 < segs ? lens[l] / segs : lens[l] - put;

				t_desc(&from->q[0], at + put, (uint16_t)n,
				       i + 1 < segs ? ELISA_NET_MORE : 0);
				put += n;
			}
			assert_int_equal(t_send(from, 0, segs), segs);
			assert_true(t_receive(to, 0, &frame));
			assert_true(t_frame_is(&frame, lens[l], to->mac, from->mac, l));
			/* Small ones in between take one buffer. */
			t_send_one(from, 60, to->mac, from->mac, 99);
			assert_true(t_receive(to, 0, &frame));
			assert_true(t_frame_is(&frame, 60, to->mac, from->mac, 99));
		}
	}
}

static void jumbo_frames(void **state)
{
	struct t_guest *g[] = {a, b, c};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct vs_port_config cfg = t_port_config(&t, g[i]);

		cfg.mtu = ELISA_MTU_MAX;
		t_port_set(&t, g[i], &cfg);
	}
	/* The smallest buffers: a frame takes up to 37 of 64. */
	assert_true(t_setup(c, 0, T_SIZE, T_SIZE, ELISA_RX_BUF_MIN) > 0);
	t_post(&c->q[0], T_SIZE);
	jumbo(a, b);
	jumbo(b, c);
	jumbo(c, a);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_RUNT), 0);
}

static void too_few_buffers(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		t_frame_put(a, 0, 60, b->mac, a->mac, i);
	assert_int_equal(t_send(a, 0, 40), 40);
	for (uint32_t i = 40; i < 80; i++)
		t_frame_put(a, 0, 60, b->mac, a->mac, i);
	assert_int_equal(t_send(a, 0, 40), 40);
	assert_int_equal(drops_at(b, ELISA_DROP_RX_NO_BUFFER), 80 - T_SIZE);
	for (uint32_t i = 0; i < T_SIZE; i++) {
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 60, b->mac, a->mac, i));
	}
	assert_nothing_received();
	t_send_one(a, 60, b->mac, a->mac, 7);
	assert_true(t_receive(b, 0, &frame));
}

static void senseless_posted_count(void **state)
{
	struct t_queue *q = &b->q[0];
	uint32_t posted = q->rx->posted;

	(void)state;
	/* It is looked at when the buffers known of are used up. */
	for (uint32_t i = 0; i < T_SIZE; i++)
		t_send_one(a, 60, b->mac, a->mac, i);
	q->rx->posted = posted + T_SIZE + 1;
	t_send_one(a, 60, b->mac, a->mac, 0);
	q->rx->posted = q->rx_next - 1;
	t_send_one(a, 60, b->mac, a->mac, 0);
	assert_int_equal(drops_at(b, ELISA_DROP_RX_BAD_RING), 2);
	q->rx->posted = posted;
	for (uint32_t i = 0; i < T_SIZE; i++)
		assert_true(t_receive(b, 0, &frame));
	t_send_one(a, 60, b->mac, a->mac, 0);
	assert_true(t_receive(b, 0, &frame));
}

static void bad_buffers(void **state)
{
	const uint64_t bad[] = {
		0,	    T_GPA - 1,	       T_GPA + T_RAM - T_BUF + 1, T_GPA + T_RAM,
		UINT64_MAX, UINT64_MAX - T_BUF};
	struct t_queue *q = &b->q[0];

	(void)state;
	for (uint32_t i = 0; i < 6; i++) {
		q->rx->addr[(q->rx_next + 1) % T_SIZE] = bad[i];
		for (uint32_t k = 0; k < 3; k++)
			t_frame_put(a, 0, 60, b->mac, a->mac, k);
		assert_int_equal(t_send(a, 0, 3), 3);
		for (uint32_t k = 0; k < 3; k++) {
			assert_true(t_receive(b, 0, &frame));
			assert_int_equal(frame.aborted, k == 1);
			assert_true(k == 1 || t_frame_is(&frame, 60, b->mac, a->mac, k));
		}
	}
	assert_int_equal(drops_at(b, ELISA_DROP_RX_BAD_ADDR), 6);
}

/* A bad buffer in a frame of several: all the rest of the frame is void. */
static void bad_buffer_within_a_frame(void **state)
{
	struct t_queue *q = &c->q[0];

	(void)state;
	assert_true(t_setup(c, 0, T_SIZE, T_SIZE, 256) > 0);
	t_post(q, T_SIZE);
	for (uint32_t at = 0; at < 4; at++) {
		uint32_t first = q->rx_next, voids = 0;

		q->rx->addr[(first + at) % T_SIZE] = 0;
		t_frame_put(a, 0, 1000, c->mac, a->mac, 0);
		t_frame_put(a, 0, 60, c->mac, a->mac, 1);
		assert_int_equal(t_send(a, 0, 2), 2);
		while (t_receive(c, 0, &frame) && frame.aborted)
			voids++;
		assert_int_equal(q->rx_next, first + 5);
		assert_int_equal(voids, at ? 4 - at : 4);
		assert_true(t_frame_is(&frame, 60, c->mac, a->mac, 1));
	}
	assert_int_equal(drops_at(c, ELISA_DROP_RX_BAD_ADDR), 4);
}

static void ports_down(void **state)
{
	struct vs_port_config cfg = t_port_config(&t, a);

	(void)state;
	cfg.up = false;
	t_port_set(&t, a, &cfg);
	t_send_one(a, 60, b->mac, a->mac, 0);
	t_send_one(a, 60, t_broadcast, a->mac, 0);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_LINK_DOWN), 2);
	t_send_one(b, 60, a->mac, b->mac, 0);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_RX_LINK_DOWN), 1);
	assert_nothing_received();
	/* A flood passes it by. */
	t_send_one(b, 60, t_broadcast, b->mac, 0);
	assert_true(t_receive(c, 0, &frame));
	assert_int_equal(t_drops(&t, a, ELISA_DROP_RX_LINK_DOWN), 1);
	cfg.up = true;
	t_port_set(&t, a, &cfg);
	t_send_one(b, 60, a->mac, b->mac, 0);
	assert_true(t_receive(a, 0, &frame));
	/* Up, but nobody there. */
	assert_int_equal(t_call(a, ELISA_NET_QUEUE_RESET, 0, 0), 0);
	t_send_one(b, 60, a->mac, b->mac, 0);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_RX_LINK_DOWN), 2);
	t_send_one(b, 60, t_broadcast, b->mac, 0);
	assert_true(t_receive(c, 0, &frame));
	assert_int_equal(t_drops(&t, a, ELISA_DROP_RX_LINK_DOWN), 2);
}

static void isolation(void **state)
{
	struct vs_port_config cfg = t_port_config(&t, c);

	(void)state;
	t_send_one(a, 60, c->mac, a->mac, 0);
	assert_true(t_receive(c, 0, &frame));
	cfg.groups = 2;
	t_port_set(&t, c, &cfg);
	t_send_one(a, 60, c->mac, a->mac, 0);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_ISOLATED), 1);
	t_send_one(a, 60, t_broadcast, a->mac, 0);
	assert_true(t_receive(b, 0, &frame));
	assert_nothing_received();
	t_send_one(c, 60, t_broadcast, c->mac, 0);
	assert_int_equal(t_drops(&t, c, ELISA_DROP_TX_NO_PORT), 1);
	assert_nothing_received();
	cfg.groups = 3;
	t_port_set(&t, c, &cfg);
	t_send_one(a, 60, c->mac, a->mac, 0);
	assert_true(t_receive(c, 0, &frame));
}

static void to_itself(void **state)
{
	(void)state;
	t_send_one(a, 60, a->mac, a->mac, 0);
	assert_int_equal(drops_at(a, ELISA_DROP_TX_NO_PORT), 1);
	assert_nothing_received();
}

static void results_of_tx(void **state)
{
	uint64_t h = (uint64_t)a->q[0].handle;

	(void)state;
	assert_int_equal(t_call(a, ELISA_NET_TX, h, 0), 0);
	assert_int_equal(t_call(a, ELISA_NET_TX, h, T_SIZE + 1), -ELISA_EINVAL);
	assert_int_equal(t_call(a, ELISA_NET_TX, h, UINT64_MAX), -ELISA_EINVAL);
	for (int bit = 0; bit < 64; bit++)
		assert_int_equal(t_call(a, ELISA_NET_TX, h ^ 1ull << bit, 1), -ELISA_ESTALE);
	/* A queue that does not send. */
	assert_true(t_setup(a, 1, 0, T_SIZE, T_BUF) > 0);
	assert_int_equal(t_send(a, 1, 1), -ELISA_EINVAL);
	/* A queue that does not receive. */
	assert_true(t_setup(b, 1, T_SIZE, 0, 0) > 0);
	t_frame_put(b, 1, 60, a->mac, b->mac, 5);
	assert_int_equal(t_send(b, 1, 1), 1);
}

/* Never more than ELISA_TX_MAX, fewer when frames are flooded to many. */
static void bounds_of_a_call(void **state)
{
	uint32_t calls = 0, left = 256;

	(void)state;
	assert_true(t_setup(a, 0, 512, T_SIZE, T_BUF) > 0);
	for (int i = 0; i < 300; i++)
		t_frame_put(a, 0, 60, b->mac, a->mac, 0);
	assert_int_equal(t_send(a, 0, 300), ELISA_TX_MAX);
	assert_int_equal(t_send(a, 0, 44), 44);
	for (int i = 0; i < 13; i++)
		t_guest_up(&t, true);
	for (int i = 0; i < 256; i++)
		t_frame_put(a, 0, 60, t_broadcast, a->mac, 0);
	for (; left; calls++) {
		int64_t taken = t_send(a, 0, left);

		assert_in_range(taken, 1, 1024 / 15);
		left -= (uint32_t)taken;
	}
	assert_in_range(calls, 4, 5);
}

/* TX queue modulo the receiver's queues that are set up. */
static void receive_queues(void **state)
{
	(void)state;
	assert_true(t_setup(a, 1, T_SIZE, 0, 0) > 0);
	assert_true(t_setup(b, 1, 0, T_SIZE, T_BUF) > 0);
	t_post(&b->q[1], T_SIZE);
	for (unsigned int queue = 0; queue < 2; queue++) {
		t_frame_put(a, queue, 60, b->mac, a->mac, queue);
		assert_int_equal(t_send(a, queue, 1), 1);
		assert_true(t_receive(b, queue, &frame));
		assert_true(t_frame_is(&frame, 60, b->mac, a->mac, queue));
	}
	assert_int_equal(t_call(b, ELISA_NET_QUEUE_RESET, 0, 0), 0);
	t_send_one(a, 60, b->mac, a->mac, 3);
	assert_true(t_receive(b, 1, &frame));
	assert_int_equal(drops_at(b, ELISA_DROP_RX_LINK_DOWN), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unicast_of_each_length),
		TEST(bursts),
		TEST(mixed_burst),
		TEST(many_destinations),
		TEST(floods),
		TEST(learning),
		TEST(static_entries_stay),
		TEST(spoofed_source),
		TEST(bad_sources),
		TEST(lengths_out_of_range),
		TEST(receiver_with_smaller_mtu),
		TEST(bad_descriptors),
		TEST(bad_addresses),
		TEST(bad_address_in_a_run),
		TEST(at_the_end_of_ram),
		TEST(chains),
		TEST(incomplete_chain_is_left),
		TEST(jumbo_frames),
		TEST(too_few_buffers),
		TEST(senseless_posted_count),
		TEST(bad_buffers),
		TEST(bad_buffer_within_a_frame),
		TEST(ports_down),
		TEST(isolation),
		TEST(to_itself),
		TEST(results_of_tx),
		TEST(bounds_of_a_call),
		TEST(receive_queues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
