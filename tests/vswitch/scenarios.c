/* SPDX-License-Identifier: BSD-3-Clause */
#include "kill.h"
#include "scenarios.h"

static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};

static struct t_guest *guest(unsigned int i)
{
	return &w->t.guest[i];
}

/* ---- the world ---- */

static void guest_up(const struct scenario *s, unsigned int i)
{
	struct t_guest *g = t_guest_with(&w->t, false, 2);
	bool is_receiver = i == 1;
	uint32_t buf_len = is_receiver && s->buf_len ? s->buf_len : T_BUF;
	uint32_t features = i == 1 || i == 2 ? s->features : 0;
	unsigned int queues = is_receiver && s->queues ? s->queues : 1;

	for (unsigned int q = 0; q < queues; q++) {
		CHECK(t_setup_with(g, q, KILL_RING, KILL_RING, buf_len, features) > 0);
		t_post(&g->q[q], is_receiver && s->posted ? s->posted : KILL_RING);
	}
	CHECK(vs_port_bell(w->t.vs, g->port, KILL_BELL + i * 16) == 0);
}

static void take_all(void)
{
	static struct t_frame frame;

	for (unsigned int i = 0; i < KILL_GUESTS; i++)
		for (unsigned int q = 0; q < 2; q++)
			while (guest(i)->q[q].rx_size && t_receive(guest(i), q, &frame))
				;
	for (unsigned int i = 0; i < w->nics; i++)
		while (t_wire_out(&w->nic[i], 0, &frame))
			;
}

/* All addresses are known, all rings are empty. */
static void learn(const struct scenario *s)
{
	if (s->nics) {
		t_wire_in(&w->nic[0], 0, 60, t_broadcast, outside, 1, 0);
		CHECK(t_poll(guest(1)) > 0);
	}
	for (unsigned int i = 0; i < KILL_GUESTS; i++) {
		CHECK(scenario_send(s, i, KILL_GUESTS, 1) == 1);
		take_all();
	}
	for (unsigned int i = 0; i < s->used; i++) {
		CHECK(scenario_send(s, 2, 1, 1) == 1);
		take_all();
	}
	for (unsigned int i = 1; s->features & ELISA_NET_F_EVENT && i < 3; i++)
		guest(i)->q[0].rx->event = 3;
	vs_refill(w->t.vs, w->clock_us = 1000000);
	vs_refill(w->t.vs, w->clock_us += 1000000);
}

void scenario_world(const struct scenario *s)
{
	const struct vs_config cfg = {
		.ports = KILL_GUESTS + 1,
		.guests = KILL_GUESTS + 2,
		.callers = 4 * (KILL_GUESTS + 1),
		.fdb_capacity = VS_FDB_MIN,
		.fdb_age_s = 300,
		.generation = 7,
	};

	w = t_map(sizeof(*w));
	t_create_as(&w->t, &cfg);
	for (unsigned int i = 0; i < KILL_GUESTS; i++)
		guest_up(s, i);
	w->tso = t_alloc(guest(0), 8192, 64);
	for (; w->nics < s->nics; w->nics++) {
		t_nic(&w->t, &w->nic[w->nics], 1, VS_NIC_BY_GUESTS, 0);
		k_part(w->nic[w->nics].q[0].in.frame, T_WIRE * sizeof(struct t_frame));
		k_part(w->nic[w->nics].q[0].out.frame, T_WIRE * sizeof(struct t_frame));
	}
	if (s->set_up)
		s->set_up();
	learn(s);
	k_part(w, sizeof(*w));
	k_part(w->t.arena, w->t.arena_len);
	for (unsigned int i = 0; i < w->t.guests; i++)
		k_part(guest(i)->ram, guest(i)->used);
}

void scenario_world_end(void)
{
	k_forget();
	for (unsigned int i = 0; i < w->nics; i++)
		t_nic_destroy(&w->nic[i]);
	t_destroy(&w->t);
	t_unmap(w, sizeof(*w));
}

/* ---- the others ---- */

static uint8_t *last_put(struct t_guest *g)
{
	struct t_queue *q = &g->q[0];

	return t_at(g, q->txd[(q->tx_next - 1) % q->tx_size].addr);
}

static struct elisa_txd *last_desc(struct t_guest *g)
{
	return &g->q[0].txd[(g->q[0].tx_next - 1) % g->q[0].tx_size];
}

static void put(const struct scenario *s, unsigned int from, uint32_t len, const uint8_t dst[6],
		uint32_t seed)
{
	struct t_guest *g = guest(from);

	t_frame_put(g, 0, len, dst, g->mac, seed);
	if (s->tagged >> from & 1)
		memcpy(last_put(g) + 12, "\x81\x00\x00\x05", 4);
}

static int64_t send_to(const struct scenario *s, unsigned int from, const uint8_t dst[6],
		       uint32_t seed)
{
	struct t_guest *g = guest(from);
	int64_t result;

	put(s, from, 80, dst, seed);
	result = k_call(g, ELISA_NET_TX, (uint64_t)g->q[0].handle, 1);
	for (int i = 0; result > 0 && result & ELISA_TX_BELL && i < 4; i++)
		if (!k_call(g, ELISA_NET_BELL, (uint64_t)g->q[0].handle, 0))
			break;
	return result < 0 ? result : result & ELISA_TX_TAKEN;
}

int64_t scenario_send(const struct scenario *s, unsigned int from, unsigned int to, uint32_t seed)
{
	return send_to(s, from, to == KILL_GUESTS ? t_broadcast : guest(to)->mac, seed);
}

void scenario_exchange(const struct scenario *s, unsigned int round, unsigned int but)
{
	static const uint8_t pairs[][2] = {{2, 1}, {1, 2}, {2, 3}, {3, KILL_GUESTS}, {1, 3}, {3, 1},
					   {4, 1}, {3, 4}, {4, 0}};
	uint32_t seed = 1000 + 100 * round;

	/* What buckets have may be somebody's who stands inside. */
	if (round)
		vs_refill(w->t.vs, w->clock_us += 1000000);
	for (unsigned int i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (!but || (pairs[i][0] != 2 && pairs[i][1] != 2))
			scenario_send(s, pairs[i][0], pairs[i][1], seed++);
	if (!s->nics)
		return;
	send_to(s, 4, outside, seed++);
	k_call(guest(4), ELISA_NET_POLL, (uint64_t)guest(4)->q[0].handle, 0);
	k_call(guest(1), ELISA_NET_LINK, 0, 0);
}

static struct call tx(unsigned int from, uint32_t count)
{
	return (struct call){ELISA_NET_TX, (uint64_t)guest(from)->q[0].handle, count};
}

struct call scenario_second(const struct scenario *s)
{
	put(s, 2, 80, guest(1)->mac, 901);
	put(s, 2, 90, guest(3)->mac, 902);
	put(s, 2, 100, t_broadcast, 903);
	return tx(2, 3);
}

/* ---- what guest 0 does ---- */

static struct call to_one(uint32_t count, uint32_t len)
{
	for (uint32_t i = 0; i < count; i++)
		t_frame_put(guest(0), 0, len + i, guest(1)->mac, guest(0)->mac, 10 + i);
	return tx(0, count);
}

static struct call one_frame(void)
{
	return to_one(1, 64);
}

static struct call two_frames(void)
{
	return to_one(2, 90);
}

static struct call four_frames(void)
{
	return to_one(4, 64);
}

static struct call burst(void)
{
	return to_one(8, 64);
}

static struct call long_frames(void)
{
	return to_one(2, 1300);
}

static struct call full_frames(void)
{
	return to_one(2, 1400);
}

static struct call to_two(void)
{
	for (uint32_t i = 0; i < 6; i++)
		t_frame_put(guest(0), 0, 70 + i, guest(1 + (i & 1))->mac, guest(0)->mac, 10 + i);
	return tx(0, 6);
}

static struct call to_all(void)
{
	t_frame_put(guest(0), 0, 300, t_broadcast, guest(0)->mac, 10);
	t_frame_put(guest(0), 0, 70, guest(1)->mac, guest(0)->mac, 11);
	return tx(0, 2);
}

static struct call tagged(void)
{
	for (uint32_t i = 0; i < 3; i++) {
		t_frame_put(guest(0), 0, 80 + i, i < 2 ? guest(1)->mac : t_broadcast, guest(0)->mac,
			    10 + i);
		memcpy(last_put(guest(0)) + 12, "\x81\x00\x00\x05", 4);
	}
	return tx(0, 3);
}

static struct call untagged(void)
{
	for (uint32_t i = 0; i < 3; i++)
		t_frame_put(guest(0), 0, 80 + i, i < 2 ? guest(1)->mac : t_broadcast, guest(0)->mac,
			    10 + i);
	return tx(0, 3);
}

static void vlan(unsigned int i, uint8_t mode)
{
	struct vs_port_config cfg = t_port_config(&w->t, guest(i));

	cfg.vlan = (struct vs_vlan){.mode = mode, .pvid = mode == VS_VLAN_ACCESS ? 5 : 0};
	if (mode == VS_VLAN_TRUNK)
		cfg.vlan.allowed[0] = 1ull << 5;
	t_port_set(&w->t, guest(i), &cfg);
}

static void trunk_of_one(void)
{
	for (unsigned int i = 0; i < KILL_GUESTS; i++)
		vlan(i, i == 1 ? VS_VLAN_TRUNK : VS_VLAN_ACCESS);
}

static void trunk_of_sender(void)
{
	for (unsigned int i = 0; i < KILL_GUESTS; i++)
		vlan(i, i == 0 ? VS_VLAN_TRUNK : VS_VLAN_ACCESS);
}

static void mirrored(void)
{
	struct vs_mirror m = {.to = guest(3)->port, .what = VS_MIRROR_TX};

	CHECK(vs_mirror_add(w->t.vs, guest(0)->port, &m) == 0);
	m.what = VS_MIRROR_RX | VS_MIRROR_DROPS;
	m.annotate = true;
	CHECK(vs_mirror_add(w->t.vs, guest(1)->port, &m) == 0);
}

static void limited(unsigned int i, unsigned int bucket, uint64_t depth)
{
	struct vs_port_config cfg = t_port_config(&w->t, guest(i));

	cfg.rate[bucket] = (struct vs_rate){.per_s = 100, .burst = depth};
	t_port_set(&w->t, guest(i), &cfg);
}

static void sender_limited(void)
{
	limited(0, VS_TX_FRAMES, 5);
}

static void receiver_limited(void)
{
	limited(1, VS_RX_FRAMES, 6);
}

static void floods_limited(void)
{
	limited(0, VS_STORM_BROADCAST, 2);
}

static struct call floods(void)
{
	for (uint32_t i = 0; i < 3; i++)
		t_frame_put(guest(0), 0, 80 + i, t_broadcast, guest(0)->mac, 10 + i);
	return tx(0, 3);
}

static struct call checksums(void)
{
	for (uint32_t i = 0; i < 2; i++) {
		t_frame_put(guest(0), 0, 200 + i, guest(1)->mac, guest(0)->mac, 10 + i);
		last_desc(guest(0))->flags = ELISA_NET_CSUM | 16 << ELISA_NET_CSUM_OFFSET;
		last_desc(guest(0))->csum_start = 34;
	}
	return tx(0, 2);
}

/* A TCP segment over IPv4, to be cut up. */
static struct call to_be_cut(const uint8_t dst[6])
{
	const uint16_t len = 1700;
	uint8_t *p = t_at(guest(0), w->tso);

	t_fill(p, len, dst, guest(0)->mac, 10);
	memset(p + 14, 0, 40);
	p[14] = 0x45;
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	p[23] = 6;
	p[46] = 0x50;
	t_desc(&guest(0)->q[0], w->tso, len,
	       ELISA_NET_CSUM | ELISA_NET_TSO4 | 16 << ELISA_NET_CSUM_OFFSET);
	last_desc(guest(0))->csum_start = 34;
	last_desc(guest(0))->gso_size = 600;
	return tx(0, 1);
}

static struct call cut_for_one(void)
{
	return to_be_cut(guest(1)->mac);
}

static struct call cut_for_all(void)
{
	return to_be_cut(t_broadcast);
}

/* The same over IPv6. */
static struct call cut_ipv6(void)
{
	const uint16_t len = 1700;
	uint8_t *p = t_at(guest(0), w->tso);

	t_fill(p, len, guest(1)->mac, guest(0)->mac, 10);
	memset(p + 12, 0, 62);
	memcpy(p + 12, "\x86\xdd\x60", 3);
	p[18] = (uint8_t)((len - 54) >> 8);
	p[19] = (uint8_t)(len - 54);
	p[20] = 6;
	p[66] = 0x50;
	t_desc(&guest(0)->q[0], w->tso, len,
	       ELISA_NET_CSUM | ELISA_NET_TSO6 | 16 << ELISA_NET_CSUM_OFFSET);
	last_desc(guest(0))->csum_start = 54;
	last_desc(guest(0))->gso_size = 600;
	return tx(0, 1);
}

static struct call learning(void)
{
	for (uint32_t i = 0; i < 4; i++) {
		const uint8_t src[6] = {2, 5, 5, 5, 5, (uint8_t)i};

		t_frame_put(guest(0), 0, 70 + i, i & 1 ? t_broadcast : guest(1)->mac, src, 10 + i);
	}
	return tx(0, 4);
}

/* The first is learned elsewhere before, and moves. */
static void learned_elsewhere(void)
{
	const uint8_t src[6] = {2, 5, 5, 5, 5, 0};
	struct vs_port_config cfg = t_port_config(&w->t, guest(0));

	cfg.mac_limit = 3;
	t_port_set(&w->t, guest(0), &cfg);
	CHECK(t_send_one(guest(4), 60, t_broadcast, src, 1) == 1);
	take_all();
}

/*
 * Guest 0 may have one address more. What guest 1 does not get is mirrored; not so for guest 0: the
 * dead get nothing, and frames to them would be mirrored as well.
 */
static void strict(void)
{
	struct vs_mirror m = {.to = guest(3)->port, .what = VS_MIRROR_DROPS};
	struct vs_port_config cfg = t_port_config(&w->t, guest(0));

	cfg.mac_limit = 2;
	cfg.mac_limit_drop = true;
	t_port_set(&w->t, guest(0), &cfg);
	cfg = t_port_config(&w->t, guest(1));
	cfg.mtu = 1000;
	t_port_set(&w->t, guest(1), &cfg);
	CHECK(vs_mirror_add(w->t.vs, guest(1)->port, &m) == 0);
}

static struct call too_much(void)
{
	for (uint32_t i = 0; i < 3; i++) {
		const uint8_t src[6] = {2, 5, 5, 5, 5, (uint8_t)i};

		t_frame_put(guest(0), 0, i == 1 ? 1100 : 70 + i, guest(1)->mac,
			    i == 1 ? guest(0)->mac : src, 10 + i);
	}
	return tx(0, 3);
}

static struct call pieces(void)
{
	struct t_queue *q = &guest(0)->q[0];

	for (uint32_t i = 0; i < 2; i++) {
		uint64_t at;

		t_frame_put(guest(0), 0, 400, guest(1)->mac, guest(0)->mac, 10 + i);
		at = last_desc(guest(0))->addr;
		last_desc(guest(0))->len = 10;
		last_desc(guest(0))->flags = ELISA_NET_MORE;
		t_desc(q, at + 10, 100, ELISA_NET_MORE);
		t_desc(q, at + 110, 290, 0);
	}
	return tx(0, 6);
}

/* Dropped for various reasons, between two that are not; the last one floods. */
static struct call refused(void)
{
	struct t_queue *q = &guest(0)->q[0];

	t_frame_put(guest(0), 0, 64, guest(1)->mac, guest(0)->mac, 10);
	t_desc(q, 0x10, 64, 0);
	t_frame_put(guest(0), 0, 12, guest(1)->mac, guest(0)->mac, 11);
	t_frame_put(guest(0), 0, 1600, guest(1)->mac, guest(0)->mac, 12);
	t_frame_put(guest(0), 0, 64, guest(1)->mac, t_broadcast, 13);
	t_frame_put(guest(0), 0, 64, (const uint8_t[]){2, 6, 6, 6, 6, 6}, guest(0)->mac, 14);
	return tx(0, 6);
}

/* The second and the third frame. */
static struct call to_nowhere(void)
{
	struct t_queue *q = &guest(1)->q[0];

	q->rx->addr[(q->rx_next + 1) % KILL_RING] = 0x10;
	q->rx->addr[(q->rx_next + 2) % KILL_RING] = ~0ull;
	return four_frames();
}

static void steered(void)
{
	struct t_guest *g = guest(1);
	uint64_t at = t_alloc(g, sizeof(struct elisa_rss), 8);
	struct elisa_rss *rss = t_at(g, at);

	memset(rss, 0, sizeof(*rss));
	rss->types = ELISA_RSS_ALL;
	for (uint32_t i = 0; i < ELISA_RSS_KEY_LEN; i++)
		rss->key[i] = (uint8_t)(i * 77 + 1);
	for (uint32_t i = 0; i < ELISA_RETA_SIZE; i++)
		rss->reta[i] = i & 1;
	CHECK(t_call(g, ELISA_NET_RSS, 0, at) == 0);
}

static struct call flows(void)
{
	for (uint32_t i = 0; i < 6; i++) {
		uint8_t *p;

		t_frame_put(guest(0), 0, 90 + i, guest(1)->mac, guest(0)->mac, 10 + i);
		p = last_put(guest(0));
		memset(p + 14, 0, 28);
		p[14] = 0x45;
		p[17] = (uint8_t)(90 + i - 14);
		p[23] = 17;
		p[35] = (uint8_t)(i * 3);
	}
	return tx(0, 6);
}

static struct call flows_ipv6(void)
{
	for (uint32_t i = 0; i < 4; i++) {
		uint8_t *p;

		t_frame_put(guest(0), 0, 90 + i, guest(1)->mac, guest(0)->mac, 10 + i);
		p = last_put(guest(0));
		memset(p + 12, 0, 50);
		memcpy(p + 12, "\x86\xdd\x60", 3);
		p[19] = (uint8_t)(90 + i - 54);
		p[20] = 17;
		p[55] = (uint8_t)(i * 3);
	}
	return tx(0, 4);
}

static struct call bell(void)
{
	CHECK(t_send_one(guest(0), 64, guest(1)->mac, guest(0)->mac, 10) == 1);
	take_all();
	return (struct call){ELISA_NET_BELL, (uint64_t)guest(0)->q[0].handle, 0};
}

/* ---- its other calls ---- */

static struct call set_up_again(void)
{
	return (struct call){ELISA_NET_QUEUE_SETUP, guest(0)->q[0].setup, 0};
}

static struct call reset(void)
{
	return (struct call){ELISA_NET_QUEUE_RESET, 0, 0};
}

static struct call rx_mode(void)
{
	struct elisa_rx_mode *mode = t_at(guest(0), w->tso);

	memset(mode, 0, sizeof(*mode));
	mode->flags = ELISA_RX_PROMISC;
	mode->unicast = 1;
	memcpy(mode->mac[0], guest(0)->mac, 6);
	return (struct call){ELISA_NET_RX_MODE, 0, w->tso};
}

static struct call rss(void)
{
	struct elisa_rss *r = t_at(guest(0), w->tso);

	memset(r, 0, sizeof(*r));
	r->types = ELISA_RSS_ALL;
	return (struct call){ELISA_NET_RSS, 0, w->tso};
}

static struct call counters(void)
{
	return (struct call){ELISA_NET_COUNTERS, 0, w->tso};
}

static struct call port_info(void)
{
	return (struct call){ELISA_NET_PORT_INFO, 0, w->tso};
}

/* ---- NICs ---- */

static struct call to_nic(void)
{
	t_frame_put(guest(0), 0, 64, outside, guest(0)->mac, 10);
	t_frame_put(guest(0), 0, 100, t_broadcast, guest(0)->mac, 11);
	t_frame_put(guest(0), 0, 64, outside, guest(0)->mac, 12);
	return tx(0, 3);
}

static struct call from_nic(void)
{
	t_wire_in(&w->nic[0], 0, 64, guest(1)->mac, outside, 10, 0);
	t_wire_in(&w->nic[0], 0, 200, t_broadcast, outside, 11, 0);
	t_wire_in(&w->nic[0], 0, 80, guest(3)->mac, outside, 12, 0);
	return (struct call){ELISA_NET_POLL, (uint64_t)guest(0)->q[0].handle, 0};
}

/* come: q0 and q1 of guests 0, 1, 2, 3, 4; the wire. */
const struct scenario scenarios[] = {
	{.name = "one frame", .call = one_frame, .come = {0, 0, 1}},
	{.name = "burst of 8", .call = burst, .come = {0, 0, 8}},
	{.name = "end of the ring", .call = burst, .come = {0, 0, 8}, .used = 6},
	{.name = "several buffers", .call = long_frames, .come = {0, 0, 2}, .buf_len = 512},
	{.name = "full frames", .call = full_frames, .come = {0, 0, 2}},
	{.name = "two receivers", .call = to_two, .come = {0, 0, 3, 0, 3}},
	{.name = "broadcast", .call = to_all, .come = {0, 0, 2, 0, 1, 0, 1, 0, 1}},
	{.name = "several pieces", .call = pieces, .come = {0, 0, 2}},
	{.name = "refused", .call = refused, .come = {0, 0, 2, 0, 1, 0, 1, 0, 1}},
	{.name = "learning",
	 .call = learning,
	 .come = {0, 0, 4, 0, 2, 0, 2, 0, 2},
	 .set_up = learned_elsewhere},
	{.name = "tag pushed",
	 .call = untagged,
	 .come = {0, 0, 3, 0, 1, 0, 1, 0, 1},
	 .set_up = trunk_of_one,
	 .tagged = 1 << 1},
	{.name = "tag popped",
	 .call = tagged,
	 .come = {0, 0, 3, 0, 1, 0, 1, 0, 1},
	 .set_up = trunk_of_sender,
	 .tagged = 1 << 0},
	{.name = "mirrored", .call = two_frames, .come = {0, 0, 2, 0, 0, 0, 4}, .set_up = mirrored},
	{.name = "drops mirrored",
	 .call = too_much,
	 .come = {0, 0, 1, 0, 0, 0, 1},
	 .set_up = strict},
	{.name = "sender's rate", .call = burst, .come = {0, 0, 5}, .set_up = sender_limited},
	{.name = "receiver's rate",
	 .call = burst,
	 .come = {0, 0, 6},
	 .set_up = receiver_limited,
	 .may_overflow = true},
	{.name = "rate of floods",
	 .call = floods,
	 .come = {0, 0, 2, 0, 2, 0, 2, 0, 2},
	 .set_up = floods_limited},
	{.name = "full receiver",
	 .call = burst,
	 .come = {0, 0, 5},
	 .posted = 5,
	 .may_overflow = true},
	{.name = "bad buffers",
	 .call = to_nowhere,
	 .come = {0, 0, 2},
	 .ideal = four_frames,
	 .may_overflow = true},
	{.name = "checksums", .call = checksums, .come = {0, 0, 2}},
	{.name = "offload passed on",
	 .call = cut_for_one,
	 .come = {0, 0, 1},
	 .features = ELISA_NET_F_CSUM | ELISA_NET_F_TSO4},
	{.name = "cut up", .call = cut_for_one, .come = {0, 0, 3}},
	{.name = "cut up, IPv6", .call = cut_ipv6, .come = {0, 0, 3}},
	{.name = "cut up and tagged",
	 .call = cut_for_one,
	 .come = {0, 0, 3},
	 .set_up = trunk_of_one,
	 .tagged = 1 << 1},
	{.name = "cut up for all", .call = cut_for_all, .come = {0, 0, 3, 0, 3, 0, 3, 0, 3}},
	{.name = "steered", .call = flows, .come = {0, 0, 2, 4}, .set_up = steered, .queues = 2},
	{.name = "steered, IPv6",
	 .call = flows_ipv6,
	 .come = {0, 0, 2, 2},
	 .set_up = steered,
	 .queues = 2},
	{.name = "sleepers",
	 .call = to_two,
	 .come = {0, 0, 3, 0, 3},
	 .features = ELISA_NET_F_EVENT},
	{.name = "bell", .call = bell, .features = ELISA_NET_F_EVENT},
	{.name = "queue set up", .call = set_up_again, .own_rings = true},
	{.name = "queue reset", .call = reset, .own_rings = true},
	{.name = "rx mode", .call = rx_mode, .own_rings = true},
	{.name = "rss", .call = rss, .own_rings = true},
	{.name = "counters", .call = counters},
	{.name = "port info", .call = port_info},
	{.name = "to a NIC", .call = to_nic, .nics = 1, .come = {0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 3}},
	{.name = "from a NIC", .call = from_nic, .nics = 1, .come = {1, 0, 2, 0, 1, 0, 2, 0, 1}},
	{.name = NULL},
};
