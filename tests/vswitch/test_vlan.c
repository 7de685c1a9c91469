/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VLANs: what each port gets, byte by byte, against a model that knows ports, VIDs and addresses
 * and nothing of ways, batches or rings.
 */
#include "harness.h"
#include <cmocka.h>

#define PORTS	6
#define MACS	10
#define VIDS	5
#define EXPECT	512
#define CONTENT 2200

static struct t_switch t;
static struct t_guest *g[PORTS];
static struct t_frame frame;

static int setup(void **state)
{
	(void)state;
	t_create(&t, 1024);
	for (int i = 0; i < PORTS; i++)
		g[i] = t_guest_up(&t, false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

static void set_vlan(unsigned int port, const struct vs_vlan *vlan)
{
	struct vs_port_config cfg = t_port_config(&t, g[port]);

	cfg.vlan = *vlan;
	t_port_set(&t, g[port], &cfg);
}

static void allow(struct vs_vlan *v, unsigned int vid)
{
	v->allowed[vid / 64] |= 1ull << vid % 64;
}

static void access_port(unsigned int port, uint16_t vid)
{
	set_vlan(port, &(struct vs_vlan){.mode = VS_VLAN_ACCESS, .pvid = vid});
}

static void trunk_port(unsigned int port, uint16_t vid, uint16_t pvid)
{
	struct vs_vlan v = {.mode = VS_VLAN_TRUNK, .pvid = pvid};

	allow(&v, vid);
	set_vlan(port, &v);
}

/* ---- the model ---- */

struct content {
	uint32_t len;
	uint8_t bytes[CONTENT];
};

static struct vs_vlan model[PORTS];
static struct content expect[PORTS][EXPECT];
static unsigned int expected[PORTS];
static uint64_t drop_vlan[PORTS], drop_nobody[PORTS], drop_runt[PORTS];
static int where[MACS][4096]; /* port + 1 */
static uint64_t tagged_out, untagged_out;

static uint64_t rng;
static uint32_t rnd(uint32_t below)
{
	return t_random(&rng, below);
}

static const uint16_t vid_of[VIDS] = {1, 2, 63, 64, VS_VID_MAX};

static void mac_of(uint8_t mac[6], unsigned int n)
{
	memcpy(mac, (const uint8_t[]){2, 4, 4, 4, 4, (uint8_t)n}, 6);
}

static bool member(const struct vs_vlan *v, unsigned int vid)
{
	if (v->mode == VS_VLAN_NONE)
		return !vid;
	return vid && (vid == v->pvid || v->allowed[vid / 64] >> vid % 64 & 1);
}

/* The frame without its tag, the VID, and PCP and DEI. -1: it is not let in. */
static int ingress(unsigned int port, const struct content *in, struct content *inner,
		   uint16_t *pcp)
{
	const struct vs_vlan *v = &model[port];
	unsigned int vid;

	*inner = *in;
	*pcp = 0;
	if (v->mode == VS_VLAN_NONE || v->mode == VS_VLAN_QINQ)
		return v->pvid;
	vid = v->pvid;
	if (in->len >= 14 && in->bytes[12] == 0x81 && in->bytes[13] == 0) {
		if (in->len < 18)
			return -2;
		*pcp = (uint16_t)((in->bytes[14] & 0xf0) << 8);
		if (in->bytes[15] || in->bytes[14] & 15)
			vid = (in->bytes[14] & 15u) << 8 | in->bytes[15];
		memmove(inner->bytes + 12, inner->bytes + 16, in->len - 16);
		inner->len -= 4;
	}
	return member(v, vid) && vid ? (int)vid : -1;
}

static void egress(unsigned int port, unsigned int vid, const struct content *inner, uint16_t pcp)
{
	const struct vs_vlan *v = &model[port];
	struct content *out = &expect[port][expected[port]++];
	bool tagged = vid && (vid != v->pvid || v->native_tagged);

	assert_true(expected[port] <= EXPECT);
	*out = *inner;
	tagged_out += tagged;
	untagged_out += vid && !tagged;
	if (!tagged)
		return;
	memmove(out->bytes + 16, out->bytes + 12, inner->len - 12);
	out->bytes[12] = 0x81;
	out->bytes[13] = 0;
	out->bytes[14] = (uint8_t)((pcp | vid) >> 8);
	out->bytes[15] = (uint8_t)vid;
	out->len += 4;
}

static void model_send(unsigned int from, const struct content *c)
{
	struct content inner;
	unsigned int found = 0;
	uint16_t pcp;
	int vid = ingress(from, c, &inner, &pcp), to = 0;

	if (vid < 0) {
		*(vid == -1 ? &drop_vlan[from] : &drop_runt[from]) += 1;
		return;
	}
	where[c->bytes[11]][vid] = (int)from + 1;
	if (!(c->bytes[0] & 1) && c->bytes[5] < MACS)
		to = where[c->bytes[5]][vid];
	if (to == (int)from + 1) {
		drop_nobody[from]++;
		return;
	}
	for (unsigned int p = 0; p < PORTS; p++) {
		if (p == from || (to ? (int)p != to - 1 : !member(&model[p], (unsigned int)vid)))
			continue;
		egress(p, (unsigned int)vid, &inner, pcp);
		found++;
	}
	drop_nobody[from] += !found;
}

/* ---- at random ---- */

static void random_config(unsigned int port)
{
	struct vs_vlan *v = &model[port];

	*v = (struct vs_vlan){.mode = (uint8_t)rnd(4)};
	if (v->mode == VS_VLAN_ACCESS || v->mode == VS_VLAN_QINQ)
		v->pvid = vid_of[rnd(VIDS)];
	if (v->mode == VS_VLAN_TRUNK) {
		for (unsigned int i = 0; i < VIDS; i++)
			if (rnd(2))
				allow(v, vid_of[i]);
		if (rnd(2)) {
			v->pvid = vid_of[rnd(VIDS)];
			v->native_tagged = rnd(2);
		}
	}
	set_vlan(port, v);
	/* What it has left is forgotten. */
	for (unsigned int m = 0; m < MACS; m++)
		for (unsigned int vid = 0; vid < 4096; vid++)
			if (where[m][vid] == (int)port + 1 && !member(v, vid))
				where[m][vid] = 0;
}

static void random_frame(struct content *c)
{
	static uint32_t number;
	unsigned int at = 12, tags = rnd(4);
	uint8_t dst[6], src[6];

	mac_of(dst, rnd(MACS + 1));
	mac_of(src, rnd(MACS));
	if (!rnd(8))
		dst[0] = 3;
	c->len = rnd(3) ? 60 + rnd(40) : 14 + rnd(rnd(2) ? 12 : 1480);
	t_fill(c->bytes, CONTENT, dst, src, ++number);
	if (tags == 3)
		tags = 0;
	for (; tags; tags--, at += 4) {
		uint16_t vid = rnd(4) ? vid_of[rnd(VIDS)] : rnd(2) ? 0 : (uint16_t)rnd(4096);
		uint16_t tci = (uint16_t)((rnd(2) ? rnd(16) : 0) << 12 | vid);
		bool service = !rnd(8);

		c->bytes[at] = service ? 0x88 : 0x81;
		c->bytes[at + 1] = service ? 0xa8 : 0;
		c->bytes[at + 2] = (uint8_t)(tci >> 8);
		c->bytes[at + 3] = (uint8_t)tci;
	}
	c->bytes[at] = 8;
	c->bytes[at + 1] = 0;
}

/* In one piece, or in a few. */
static unsigned int put(struct t_guest *from, const struct content *c, unsigned int pieces)
{
	struct t_queue *q = &from->q[0];
	uint64_t at = q->tx_buffers + (uint64_t)(q->tx_next % q->tx_size) * (T_BUF + 64);
	uint32_t done = 0;

	memcpy(t_at(from, at), c->bytes, c->len);
	for (unsigned int i = pieces; i; i--) {
		uint32_t len = i == 1 ? c->len - done : 1 + rnd(c->len - done - (i - 1));

		t_desc(q, at + done, (uint16_t)len, i > 1 ? ELISA_NET_MORE : 0);
		done += len;
	}
	return pieces;
}

static void compare(void)
{
	for (unsigned int p = 0; p < PORTS; p++) {
		for (unsigned int i = 0; i < expected[p]; i++) {
			assert_true(t_receive(g[p], 0, &frame));
			assert_int_equal(frame.len, expect[p][i].len);
			assert_memory_equal(frame.data, expect[p][i].bytes, frame.len);
		}
		assert_false(t_receive(g[p], 0, &frame));
		expected[p] = 0;
		assert_int_equal(t_drops(&t, g[p], ELISA_DROP_TX_VLAN), drop_vlan[p]);
		assert_int_equal(t_drops(&t, g[p], ELISA_DROP_TX_RUNT), drop_runt[p]);
		assert_int_equal(t_drops(&t, g[p], ELISA_DROP_TX_NO_PORT), drop_nobody[p]);
		assert_int_equal(t_all_drops(&t, g[p]),
				 drop_vlan[p] + drop_runt[p] + drop_nobody[p]);
	}
}

static void at_random(void **state)
{
	unsigned int rounds = getenv("VS_ROUNDS") ? (unsigned int)atoi(getenv("VS_ROUNDS")) : 300;

	(void)state;
	rng = 0x1234567;
	memset(where, 0, sizeof(where));
	/* Small buffers at one of them: there frames take several. */
	assert_true(t_setup(g[5], 0, T_SIZE, T_SIZE, 256) > 0);
	t_post(&g[5]->q[0], T_SIZE);
	for (unsigned int round = 0; round < rounds; round++) {
		random_config(rnd(PORTS));
		for (unsigned int call = 0; call < 30; call++) {
			unsigned int from = rnd(PORTS), frames = 1 + rnd(8), descs = 0;
			struct content c;

			for (unsigned int i = 0; i < frames; i++) {
				/* Often a few alike, which go the short way. */
				if (!i || !rnd(3))
					random_frame(&c);
				if (c.len > 18)
					c.bytes[c.len - 1]++;
				descs += put(g[from], &c, rnd(4) ? 1 : 1 + rnd(4));
				model_send(from, &c);
			}
			assert_int_equal(t_send(g[from], 0, descs), descs);
			compare();
		}
	}
	print_message("%lu frames with a tag, %lu without\n", tagged_out, untagged_out);
	if (rounds >= 300)
		assert_true(tagged_out > 3000 && untagged_out > 3000);
}

/* ---- particular ---- */

static void send_bytes(unsigned int from, const uint8_t *bytes, uint32_t len)
{
	struct t_queue *q = &g[from]->q[0];
	uint64_t at = q->tx_buffers + (uint64_t)(q->tx_next % q->tx_size) * (T_BUF + 64);

	memcpy(t_at(g[from], at), bytes, len);
	t_desc(q, at, (uint16_t)len, 0);
	assert_int_equal(t_send(g[from], 0, 1), 1);
}

/* `bytes` with a tag behind the addresses. */
static uint32_t tag(uint8_t *to, const uint8_t *bytes, uint32_t len, uint16_t tci)
{
	memcpy(to, bytes, 12);
	memcpy(to + 16, bytes + 12, len - 12);
	to[12] = 0x81;
	to[13] = 0;
	to[14] = (uint8_t)(tci >> 8);
	to[15] = (uint8_t)tci;
	return len + 4;
}

static void assert_gets(unsigned int port, const uint8_t *bytes, uint32_t len)
{
	assert_true(t_receive(g[port], 0, &frame));
	assert_int_equal(frame.len, len);
	assert_memory_equal(frame.data, bytes, len);
}

static void assert_nobody_gets(void)
{
	for (unsigned int p = 0; p < PORTS; p++)
		assert_false(t_receive(g[p], 0, &frame));
}

/* The longest frames, both ways, the short way and the other. */
static void longest(void **state)
{
	uint8_t plain[1600], tagged[1604], twice[1608];
	struct vs_port_config cfg;

	(void)state;
	access_port(0, 10);
	trunk_port(1, 10, 0);
	set_vlan(2, &(struct vs_vlan){.mode = VS_VLAN_QINQ, .pvid = 10});
	t_fill(plain, sizeof(plain), g[1]->mac, g[0]->mac, 1);
	tag(tagged, plain, 1514, 0xa00a);
	for (unsigned int i = 0; i < 3; i++) {
		send_bytes(0, plain, 1514);
		tagged[14] = 0;
		assert_gets(1, tagged, 1518);
		if (!i)
			assert_gets(2, plain, 1514);
		memcpy(plain, g[0]->mac, 6);
		memcpy(plain + 6, g[1]->mac, 6);
		tag(tagged, plain, 1514, 0xa00a);
		send_bytes(1, tagged, 1518);
		assert_gets(0, plain, 1514);
		memcpy(plain, g[1]->mac, 6);
		memcpy(plain + 6, g[0]->mac, 6);
		tag(tagged, plain, 1514, 10);
	}
	assert_nobody_gets();
	/* One more is too much. */
	send_bytes(0, plain, 1515);
	assert_int_equal(t_drops(&t, g[0], ELISA_DROP_TX_TOO_LONG), 1);
	memcpy(tagged, g[0]->mac, 6);
	memcpy(tagged + 6, g[1]->mac, 6);
	send_bytes(1, tagged, 1519);
	assert_int_equal(t_drops(&t, g[1], ELISA_DROP_TX_TOO_LONG), 1);
	/* A tunnel's payload has its own tag above the MTU; the trunk has to have room for both. */
	cfg = t_port_config(&t, g[1]);
	cfg.mtu = 1504;
	t_port_set(&t, g[1], &cfg);
	memcpy(plain, t_broadcast, 6);
	memcpy(plain + 6, g[2]->mac, 6);
	tag(tagged, plain, 1514, 0x6123);
	tag(twice, tagged, 1518, 10);
	send_bytes(2, tagged, 1518);
	assert_gets(1, twice, 1522);
	assert_gets(0, tagged, 1518);
	memcpy(twice, g[2]->mac, 6);
	memcpy(twice + 6, g[1]->mac, 6);
	memcpy(tagged, twice, 12);
	send_bytes(1, twice, 1522);
	assert_gets(2, tagged, 1518);
	assert_nobody_gets();
	assert_int_equal(t_all_drops(&t, g[2]), 0);
}

/* A static address in a VLAN that its port is no member of. */
static void not_a_member(void **state)
{
	(void)state;
	access_port(0, 10);
	access_port(1, 11);
	assert_int_equal(vs_fdb_add(t.vs, g[1]->mac, 10, g[1]->port), 0);
	assert_int_equal(t_send_one(g[0], 60, g[1]->mac, g[0]->mac, 1), 1);
	assert_int_equal(t_drops(&t, g[1], ELISA_DROP_RX_VLAN), 1);
	assert_nobody_gets();
	/* Ports of no VLAN are apart from those of any, whatever the tag. */
	assert_int_equal(t_send_one(g[2], 60, t_broadcast, g[2]->mac, 1), 1);
	for (unsigned int p = 3; p < PORTS; p++)
		assert_true(t_receive(g[p], 0, &frame));
	assert_nobody_gets();
}

/* Its sender changes the tag after it was looked at: what was checked is what goes out. */
static void tag_is_read_once(void **state)
{
	uint8_t plain[64], tagged[68];

	(void)state;
	trunk_port(0, 10, 0);
	trunk_port(1, 10, 0);
	t_fill(plain, 64, t_broadcast, g[0]->mac, 1);
	tag(tagged, plain, 64, 10);
	/* A checksum to be put where the VID is. */
	for (uint16_t start = 14; start < 20; start++) {
		struct t_queue *q = &g[0]->q[0];

		send_bytes(0, tagged, 68);
		assert_gets(1, tagged, 68);
		memcpy(t_at(g[0], q->tx_buffers), tagged, 68);
		t_desc(q, q->tx_buffers, 68, ELISA_NET_CSUM);
		q->txd[(q->tx_next - 1) % T_SIZE].csum_start = start;
		assert_int_equal(t_send(g[0], 0, 1), 1);
		assert_int_equal(t_receive(g[1], 0, &frame), start >= 18);
		assert_memory_equal(frame.data, tagged, 18);
	}
	assert_int_equal(t_drops(&t, g[0], ELISA_DROP_TX_BAD_OFFLOAD), 4);
}

/* ---- offloads ---- */

static uint32_t tcp_frame(uint8_t *p, uint32_t payload, const uint8_t dst[6], const uint8_t src[6])
{
	uint32_t len = 14 + 20 + 20 + payload;

	t_fill(p, len, dst, src, payload);
	memset(p + 14, 0, 40);
	p[14] = 0x45;
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	p[22] = 64;
	p[23] = 6;
	p[46] = 0x50;
	p[47] = 0x18;
	return len;
}

static void send_offload(unsigned int from, const uint8_t *bytes, uint32_t len, uint16_t flags,
			 uint16_t start, uint16_t gso)
{
	struct t_queue *q = &g[from]->q[0];
	static uint64_t at[PORTS];
	static struct t_switch *of;
	struct elisa_txd *d = &q->txd[q->tx_next % T_SIZE];

	if (of != &t || !at[from])
		at[from] = t_alloc(g[from], 20000, 64);
	of = &t;
	memcpy(t_at(g[from], at[from]), bytes, len);
	t_desc(q, at[from], (uint16_t)len, (uint16_t)(flags | 16 << ELISA_NET_CSUM_OFFSET));
	d->csum_start = start;
	d->gso_size = gso;
	assert_int_equal(t_send(g[from], 0, 1), 1);
}

/* What came to port `with` is what came to port `without`, but for the tag. */
static void assert_same_but_tag(unsigned int with, unsigned int without, uint16_t tci)
{
	static uint8_t expected_tagged[ELISA_FRAME_MAX + 20];
	static struct t_frame other;
	unsigned int count = 0;

	while (t_receive(g[without], 0, &other)) {
		uint32_t len = tag(expected_tagged, other.data, other.len, tci);

		assert_true(t_receive(g[with], 0, &frame));
		assert_int_equal(frame.len, len);
		assert_memory_equal(frame.data, expected_tagged, len);
		count++;
	}
	assert_false(t_receive(g[with], 0, &frame));
	assert_true(count);
}

/*
 * Ports 0, 1: access; 2, 3: trunk; 1 and 3 take frames with checksums and segments left to do. Sent
 * untagged and tagged, known and flooded: what gets a tag or loses it is otherwise what those get
 * who are like the sender.
 */
static void offloads(void **state)
{
	static uint8_t plain[10000], tagged[10004];
	uint32_t features = ELISA_NET_F_CSUM | ELISA_NET_F_TSO4;

	(void)state;
	for (unsigned int p = 0; p < PORTS; p++) {
		struct vs_port_config cfg = t_port_config(&t, g[p]);

		cfg.mtu = 1500;
		t_port_set(&t, g[p], &cfg);
		assert_true(t_setup_with(g[p], 0, T_SIZE, T_SIZE, T_BUF,
					 p == 2 || p == 4 ? features : 0) > 0);
		t_post(&g[p]->q[0], T_SIZE);
	}
	/* 1, 3: no features, access and trunk; 2, 4: the same with features. */
	for (unsigned int p = 0; p < 3; p++)
		access_port(p, 10);
	trunk_port(3, 10, 0);
	trunk_port(4, 10, 0);
	trunk_port(5, 10, 0);
	for (unsigned int known = 0; known < 2; known++) {
		for (unsigned int tso = 0; tso < 2; tso++) {
			uint16_t flags = ELISA_NET_CSUM | (tso ? ELISA_NET_TSO4 : 0);
			uint32_t len = tcp_frame(plain, tso ? 8000 : 1000, t_broadcast, g[0]->mac);
			struct elisa_rxc *comp;

			send_offload(0, plain, len, flags, 34, tso ? 1448 : 0);
			/* To those with features: whole, its fields moved by the tag. */
			comp = &g[4]->q[0].comp[g[4]->q[0].rx_next % T_SIZE];
			assert_int_equal(comp->csum_start, 38);
			assert_int_equal(comp->gso_size, tso ? 1448 : 0);
			comp = &g[2]->q[0].comp[g[2]->q[0].rx_next % T_SIZE];
			assert_int_equal(comp->csum_start, 34);
			assert_same_but_tag(4, 2, 10);
			assert_same_but_tag(3, 1, 10);
			while (t_receive(g[5], 0, &frame))
				;
			memcpy(plain + 6, g[5]->mac, 6);
			len = tag(tagged, plain, len, 0x600a);
			send_offload(5, tagged, len, flags, 38, tso ? 1448 : 0);
			comp = &g[2]->q[0].comp[g[2]->q[0].rx_next % T_SIZE];
			assert_int_equal(comp->csum_start, 34);
			assert_same_but_tag(4, 2, 0x600a);
			assert_same_but_tag(3, 1, 0x600a);
			while (t_receive(g[0], 0, &frame))
				;
		}
	}
	/* To one, each in its turn: compared with what a flood brought. */
	for (unsigned int to = 1; to < 5; to++) {
		static struct t_frame flooded[16];
		unsigned int count = 0;
		uint32_t len = tcp_frame(plain, 8000, t_broadcast, g[0]->mac);

		assert_int_equal(vs_fdb_add(t.vs, g[to]->mac, 10, g[to]->port), 0);
		send_offload(0, plain, len, ELISA_NET_CSUM | ELISA_NET_TSO4, 34, 1448);
		while (t_receive(g[to], 0, &flooded[count]))
			count++;
		memcpy(plain, g[to]->mac, 6);
		send_offload(0, plain, len, ELISA_NET_CSUM | ELISA_NET_TSO4, 34, 1448);
		for (unsigned int i = 0; i < count; i++) {
			memcpy(flooded[i].data, g[to]->mac, 6);
			assert_gets(to, flooded[i].data, flooded[i].len);
		}
		assert_false(t_receive(g[to], 0, &frame));
		assert_int_equal(count, to % 2 ? 6 : 1);
		for (unsigned int p = 0; p < PORTS; p++)
			while (t_receive(g[p], 0, &frame))
				;
	}
	for (unsigned int p = 0; p < PORTS; p++)
		assert_int_equal(t_all_drops(&t, g[p]), 0);
}

/* A mirror has what the port sent, and what it got: with the tag, without. */
static void mirrored(void **state)
{
	struct vs_mirror m = {.what = VS_MIRROR_TX, .annotate = true};
	const uint16_t vid = 0x30a; /* no byte of its tag is 0 */
	uint8_t plain[100], tagged[104];

	(void)state;
	m.to = g[5]->port;
	access_port(0, vid);
	trunk_port(1, vid, 0);
	for (unsigned int snap = 0; snap <= 20; snap = snap ? snap + 1 : 14) {
		uint32_t cut = snap ? snap : 104;

		m.snap = (uint16_t)snap;
		m.what = VS_MIRROR_TX;
		assert_int_equal(vs_mirror_add(t.vs, g[0]->port, &m), 0);
		m.what = VS_MIRROR_RX;
		assert_int_equal(vs_mirror_add(t.vs, g[1]->port, &m), 0);
		assert_int_equal(t_send_one(g[1], 60, t_broadcast, g[1]->mac, 0), 1);
		for (unsigned int i = 0; i < 3; i++) {
			t_fill(plain, 100, i < 2 ? g[1]->mac : t_broadcast, g[0]->mac, i);
			tag(tagged, plain, 100, vid);
			send_bytes(0, plain, 100);
			assert_gets(1, tagged, 104);
			/* As it got it first: it is delivered, then mirrored for its sender. */
			assert_gets(5, tagged, cut);
			assert_gets(5, plain, cut < 100 ? cut : 100);
		}
		assert_nobody_gets();
		assert_int_equal(vs_mirror_del(t.vs, g[0]->port, g[5]->port), 0);
		assert_int_equal(vs_mirror_del(t.vs, g[1]->port, g[5]->port), 0);
	}
}

/* Ports 0 and 1 are the host's own: nothing that others send gets there, nor the other way round. */
static void hidden(void **state)
{
	uint8_t *tagged;

	(void)state;
	access_port(0, VS_VID_HIDDEN);
	access_port(1, VS_VID_HIDDEN);
	trunk_port(3, VS_VID_MAX, 1);
	access_port(4, VS_VID_MAX);
	set_vlan(5, &(struct vs_vlan){.mode = VS_VLAN_QINQ, .pvid = 1});
	assert_int_equal(vs_fdb_add(t.vs, g[1]->mac, VS_VID_HIDDEN, g[1]->port), 0);
	for (uint32_t from = 2; from < PORTS; from++) {
		t_send_one(g[from], 100, t_broadcast, g[from]->mac, 1);
		t_send_one(g[from], 100, g[1]->mac, g[from]->mac, 2);
		/* As if it could be named. */
		t_frame_put(g[from], 0, 100, g[1]->mac, g[from]->mac, 3);
		tagged = t_at(g[from], g[from]->q[0].txd[(g[from]->q[0].tx_next - 1) % T_SIZE].addr);
		memcpy(tagged + 12, (const uint8_t[]){0x81, 0, 0x0f, 0xff}, 4);
		t_send(g[from], 0, 1);
		assert_false(t_receive(g[0], 0, &frame));
		assert_false(t_receive(g[1], 0, &frame));
	}
	for (uint32_t to = 2; to < PORTS; to++)
		while (t_receive(g[to], 0, &frame))
			;
	t_send_one(g[0], 100, g[1]->mac, g[0]->mac, 4);
	assert_true(t_receive(g[1], 0, &frame));
	assert_true(t_frame_is(&frame, 100, g[1]->mac, g[0]->mac, 4));
	t_send_one(g[0], 100, t_broadcast, g[0]->mac, 5);
	assert_true(t_receive(g[1], 0, &frame));
	for (uint32_t to = 2; to < PORTS; to++)
		assert_false(t_receive(g[to], 0, &frame));
}

/* A monitor that takes segments to be cut has them whole; else as much as a frame may have. */
static void mirrored_offloads(void **state)
{
	static uint8_t plain[10000];
	struct vs_mirror m = {.what = VS_MIRROR_TX, .annotate = true};
	static struct t_frame filled;
	uint32_t len;

	(void)state;
	for (unsigned int takes = 0; takes < 2; takes++) {
		unsigned int to = 4 + takes;
		struct t_queue *q = &g[to]->q[0];
		struct elisa_rxc *comp;

		assert_true(t_setup_with(g[to], 0, T_SIZE, T_SIZE, T_BUF,
					 takes ? ELISA_NET_F_CSUM | ELISA_NET_F_TSO4 : 0) > 0);
		t_post(q, T_SIZE);
		m.to = g[to]->port;
		assert_int_equal(vs_mirror_add(t.vs, g[0]->port, &m), 0);
		len = tcp_frame(plain, 8000, t_broadcast, g[0]->mac);
		send_offload(0, plain, len, ELISA_NET_CSUM | ELISA_NET_TSO4, 34, 1448);
		comp = &q->comp[q->rx_next % T_SIZE];
		assert_int_equal(comp->csum_start, takes ? 34 : 0);
		assert_int_equal(comp->gso_size, takes ? 1448 : 0);
		assert_int_equal(VS_NOTE_LEN(comp->hash), len);
		assert_gets(to, plain, takes ? len : 1518);
		/* A checksum is filled in for whoever does not. */
		while (t_receive(g[1], 0, &frame))
			;
		len = tcp_frame(plain, 1000, t_broadcast, g[0]->mac);
		send_offload(0, plain, len, ELISA_NET_CSUM, 34, 0);
		assert_true(t_receive(g[1], 0, &filled));
		assert_gets(to, takes ? plain : filled.data, len);
		assert_memory_not_equal(plain, filled.data, len);
		assert_int_equal(vs_mirror_del(t.vs, g[0]->port, g[to]->port), 0);
		for (unsigned int p = 0; p < PORTS; p++)
			while (t_receive(g[p], 0, &frame))
				;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(at_random, setup, teardown),
		cmocka_unit_test_setup_teardown(longest, setup, teardown),
		cmocka_unit_test_setup_teardown(not_a_member, setup, teardown),
		cmocka_unit_test_setup_teardown(tag_is_read_once, setup, teardown),
		cmocka_unit_test_setup_teardown(offloads, setup, teardown),
		cmocka_unit_test_setup_teardown(mirrored, setup, teardown),
		cmocka_unit_test_setup_teardown(hidden, setup, teardown),
		cmocka_unit_test_setup_teardown(mirrored_offloads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
