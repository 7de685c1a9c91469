/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer target: two hostile guests and a well-behaved one. The input is a program of operations
 * on the hostile ones' memory and of calls; some of the writes happen while a call is under way, at
 * its n-th step (the switch is built with VS_MODEL). RAM lies between inaccessible pages, so an
 * access outside is a crash. The third guest checks what arrives: sound completions, whole frames,
 * sources that are who they say. So does the wire behind a NIC, which the guests look after.
 */
#include "fakenic.h"

#define RING 16
#define BUF  512
#define VID  5

uint64_t vs_model_copied;
void vs_model_step(const char *where, unsigned int line);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct input {
	const uint8_t *at, *end;
};

struct poke {
	struct t_guest *guest;
	uint32_t offset, step;
	uint64_t value;
	uint8_t bytes;
};

static struct t_switch t;
static struct t_guest *evil[2], *good;
static struct t_nic nic;
static bool good_trunk;
static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};
static struct poke pokes[8];
static unsigned int poke_count, step_count;
static uint64_t tuning[2]; /* GPAs: what the hostile ones say about modes and steering */

static void do_poke(const struct poke *p)
{
	memcpy(p->guest->ram + p->offset, &p->value, p->bytes);
}

void vs_model_step(const char *where, unsigned int line)
{
	(void)where;
	(void)line;
	step_count++;
	for (unsigned int i = 0; i < poke_count; i++)
		if (pokes[i].step == step_count)
			do_poke(&pokes[i]);
}

static uint64_t take(struct input *in, unsigned int bytes)
{
	uint64_t v = 0;

	for (; bytes && in->at < in->end; bytes--)
		v = v << 8 | *in->at++;
	return v;
}

/* An address: near an edge, in the RAM, or anything. */
static uint64_t take_gpa(struct input *in, struct t_guest *g)
{
	const uint64_t edges[] = {T_GPA,	   T_GPA + T_RAM,      0,	   T_GPA + g->used,
				  g->q[0].buffers, g->q[0].tx_buffers, UINT64_MAX, 1ull << 63};
	uint64_t kind = take(in, 1);

	if (kind < 0xe0)
		return edges[kind % 8] + (uint64_t)(int64_t)(int16_t)take(in, 2);
	return take(in, 8);
}

/* Where to write: ring, completions, posted count, descriptors, set-up, buffers, tuning. */
static struct poke take_poke(struct input *in)
{
	struct t_guest *g = evil[take(in, 1) & 1];
	struct t_queue *q = &g->q[0];
	uint8_t *base[] = {(uint8_t *)q->txd,
			   (uint8_t *)q->rx,
			   (uint8_t *)q->comp,
			   t_at(g, q->setup),
			   t_at(g, q->tx_buffers),
			   (uint8_t *)q->rx->addr,
			   t_at(g, tuning[g == evil[1]])};
	const uint8_t sizes[] = {1, 2, 4, 8};
	uint64_t what = take(in, 1);
	struct poke p = {.guest = g, .bytes = sizes[what >> 4 & 3]};

	p.offset = (uint32_t)(base[what % 7] - g->ram) + (uint32_t)take(in, 1);
	p.value = what & 0x80 ? take_gpa(in, g) : take(in, p.bytes);
	return p;
}

static int64_t call(struct t_guest *g, uint64_t op, uint64_t a1, uint64_t a2)
{
	step_count = 0;
	return vs_entry(g->caller[0], op, a1, 0, a2, 0);
}

static bool from_evil(const struct t_frame *frame)
{
	return !memcmp(frame->data + 6, evil[0]->mac, 6) ||
	       !memcmp(frame->data + 6, evil[1]->mac, 6);
}

static void check_good(void)
{
	static struct t_frame frame;

	while (t_receive(good, 0, &frame)) {
		CHECK(!frame.aborted);
		CHECK(frame.len >= 14 && frame.len <= 1522);
		CHECK(from_evil(&frame) || !memcmp(frame.data + 6, outside, 6));
		if (good_trunk)
			CHECK(frame.len >= 18 && frame.data[12] == 0x81 && !frame.data[13] &&
			      !(frame.data[14] & 15) && frame.data[15] == VID);
	}
	while (t_wire_out(&nic, 0, &frame))
		CHECK(!frame.aborted && frame.len >= 14 && frame.len <= 1522 && from_evil(&frame));
	CHECK(!nic.q[0].collisions);
}

/* ---- what the host changes ---- */

/*
 * The well-behaved one, a trunk, and the hostile ones have one VLAN in common. Whatever these write
 * into their tags, and when, nothing else gets there.
 */
static void change_vlan(struct t_guest *g, uint64_t what)
{
	struct vs_port_config cfg = t_port_config(&t, g);

	cfg.vlan = (struct vs_vlan){.mode = (uint8_t)(what >> 4 & 3)};
	if (g == good) {
		cfg.vlan.mode = what & 0x10 ? VS_VLAN_TRUNK : VS_VLAN_NONE;
		good_trunk = what & 0x10;
		cfg.vlan.allowed[0] = good_trunk ? 1ull << VID | 1ull << (VID + 1) : 0;
	} else if (cfg.vlan.mode == VS_VLAN_TRUNK) {
		cfg.vlan.allowed[0] = 1ull << VID | 1ull << (VID + 2);
		cfg.vlan.pvid = what & 0x40 ? VID + 2 : 0;
		cfg.vlan.native_tagged = what & 0x40 && what & 0x80;
	} else if (cfg.vlan.mode) {
		cfg.vlan.pvid = what & 0x40 ? VID : VID + 2;
	}
	t_port_set(&t, g, &cfg);
}

static void change_limits(struct input *in, struct t_guest *g)
{
	struct vs_port_config cfg = t_port_config(&t, g);
	uint64_t what = take(in, 1);

	cfg.rate[what % VS_BUCKETS] = (struct vs_rate){
		.per_s = what & 0x80 ? 0 : 1 + take(in, 2),
		.burst = 9300 + take(in, 1),
	};
	cfg.flood_off = take(in, 1) & 7;
	cfg.mac_limit = take(in, 1) & 3;
	cfg.mac_limit_drop = what & 0x40;
	t_port_set(&t, g, &cfg);
}

/* To one hostile guest, of any other port; what the well-behaved one gets stays as it is. */
static void change_mirrors(struct input *in)
{
	const int from[] = {evil[0]->port, good->port, nic.guest->port, evil[1]->port};
	uint64_t what = take(in, 1);
	struct vs_mirror m = {
		.to = evil[what >> 7]->port,
		.what = what >> 2 & 7,
		.snap = (uint16_t)(what & 0x40 ? take(in, 1) : 0),
		.annotate = what & 0x20,
	};

	if (vs_mirror_add(t.vs, from[what & 3], &m))
		(void)!vs_mirror_del(t.vs, from[what & 3], m.to);
}

static void changes_back(void)
{
	const int port[] = {evil[0]->port, good->port, nic.guest->port, evil[1]->port};

	for (int i = 0; i < 4; i++)
		for (int to = 0; to < 2; to++)
			(void)!vs_mirror_del(t.vs, port[i], evil[to]->port);
	good_trunk = false;
}

static void restart_nic(void)
{
	nic.guest->used = 0;
	t_nic_start(&t, &nic, ELISA_NET_F_CSUM);
}

static void control(struct input *in)
{
	struct t_guest *g = evil[take(in, 1) & 1];
	struct vs_port_config cfg = t_port_config(&t, g);
	static uint64_t now;
	uint64_t what = take(in, 1);

	uint32_t due[2];

	switch (what % 15) {
	case 7:
		if (vs_nic_hold(t.vs, nic.guest->port) == 0 && what & 0x40)
			restart_nic();
		break;
	case 0:
		cfg.mtu = (uint16_t)(68 + take(in, 2) % (ELISA_MTU_MAX - 68));
		cfg.up = what & 0x40;
		cfg.groups = take(in, 1) | 1;
		t_port_set(&t, g, &cfg);
		break;
	case 1:
		vs_tick(t.vs, ++now);
		break;
	case 2:
		vs_fdb_flush(t.vs, -1);
		break;
	case 3:
		vs_guest_reset(t.vs, g->id);
		break;
	case 4:
		CHECK(vs_port_unbind(t.vs, g->port) == 0);
		CHECK(vs_port_bind(t.vs, g->port, g->id) == 0);
		break;
	case 5:
		CHECK(vs_port_bell(t.vs, g->port, (uint32_t)what) == 0);
		break;
	case 6:
		CHECK(vs_bells_due(t.vs, due, 2) <= 2);
		break;
	case 8:
	case 9:
		change_vlan(what & 8 ? g : good, take(in, 1));
		break;
	case 10:
		change_vlan(nic.guest, take(in, 1));
		break;
	case 11:
		change_limits(in, what & 0x80 ? good : g);
		break;
	case 12:
		change_mirrors(in);
		break;
	case 13:
		vs_refill(t.vs, now * 1000 + take(in, 2));
		break;
	default:
		(void)!vs_fdb_add(t.vs, good->mac, what & 0x40 ? VID : 0, good->port);
	}
}

static void put_frame(struct input *in)
{
	struct t_guest *g = evil[take(in, 1) & 1];
	struct t_queue *q = &g->q[0];
	const uint8_t *dst[] = {good->mac, evil[0]->mac, evil[1]->mac, t_broadcast};
	uint32_t len = (uint32_t)take(in, 2) % 1600, what = (uint32_t)take(in, 1);
	uint8_t *at = t_at(g, q->tx_buffers);

	t_fill(at, len, dst[what & 3], g->mac, len);
	if (what & 4)
		memcpy(at + 12, (const uint8_t[]){0x81, 0, (uint8_t)(what & 0xe0), VID + (what >> 3 & 3)},
		       4);
	t_desc(q, q->tx_buffers, (uint16_t)len, (uint16_t)(take(in, 1) & 1));
}

/* Comes by the wire: to the well-behaved one, the hostile ones, all, or back. */
static void put_outside(struct input *in)
{
	const uint8_t *dst[] = {good->mac, evil[0]->mac, evil[1]->mac, t_broadcast, outside};
	uint32_t what = (uint32_t)take(in, 1), len = 14 + (uint32_t)take(in, 2) % 1500;

	if (nic.q[0].in.put - nic.q[0].in.taken < T_WIRE)
		t_wire_in(&nic, 0, len, dst[what % 5], outside, len,
			  what & 0x80 ? ELISA_RXC_CSUM_OK : 0);
}

/* TCP over IP, as one may ask to have it segmented; then perhaps a byte that makes it nonsense. */
static void put_offload(struct input *in)
{
	struct t_guest *g = evil[take(in, 1) & 1];
	struct t_queue *q = &g->q[0];
	const uint8_t *dst[] = {good->mac, evil[0]->mac, evil[1]->mac, t_broadcast};
	uint32_t what = (uint32_t)take(in, 1), l3 = 14 + 4 * (what >> 4 & 3);
	uint32_t l4 = l3 + (what & 1 ? 40 : 20) + 8 * (what >> 6), len = l4 + 20;
	uint64_t at = T_GPA + T_RAM / 2, cut;
	uint8_t *p = t_at(g, at);

	len += (uint32_t)take(in, 2) % (what & 8 ? 18000 : 1200);
	t_fill(p, len, dst[what >> 1 & 3], g->mac, what);
	for (uint32_t i = 12; i < l3 - 2; i += 4)
		memcpy(p + i, "\x81\x00\x00\x05", 4);
	memset(p + l3, 0, l4 + 20 - l3);
	memcpy(p + l3 - 2, what & 1 ? "\x86\xdd" : "\x08\x00", 2);
	p[l3] = (uint8_t)(what & 1 ? 0x60 : 0x40 + (l4 - l3) / 4);
	p[l3 + (what & 1 ? 4 : 2)] = (uint8_t)((len - l3 - (what & 1 ? 40 : 0)) >> 8);
	p[l3 + (what & 1 ? 5 : 3)] = (uint8_t)(len - l3 - (what & 1 ? 40 : 0));
	if (what & 1 && l4 > l3 + 40) {
		p[l3 + 6] = 60;
		p[l3 + 40] = 6;
		p[l3 + 41] = (uint8_t)((l4 - l3 - 40) / 8 - 1);
	} else {
		p[l3 + (what & 1 ? 6 : 9)] = 6;
	}
	p[l4 + 12] = 0x50;
	if (take(in, 1) & 1)
		p[take(in, 1) % len] ^= (uint8_t)take(in, 1);
	cut = 1 + take(in, 2) % (len - 1);
	t_desc(q, at, (uint16_t)cut,
	       (uint16_t)(ELISA_NET_MORE | ELISA_NET_CSUM |
			  (what & 1 ? ELISA_NET_TSO6 : ELISA_NET_TSO4) |
			  16 << ELISA_NET_CSUM_OFFSET));
	q->txd[(q->tx_next - 1) % q->tx_size].csum_start = (uint16_t)l4;
	q->txd[(q->tx_next - 1) % q->tx_size].gso_size = (uint16_t)(60 + take(in, 2) % 1500);
	t_desc(q, at + cut, (uint16_t)(len - cut), 0);
}

static void setup_queue(struct input *in)
{
	struct t_guest *g = evil[take(in, 1) & 1];
	int64_t handle = call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);

	if (handle > 0) {
		g->q[0].handle = handle;
		g->q[0].tx_next = 0;
	}
}

static void any_call(struct input *in)
{
	struct t_guest *g = evil[take(in, 1) & 1];
	uint64_t op = take(in, 1) % 26, a1 = take_gpa(in, g), a2 = take_gpa(in, g);

	if ((op == ELISA_NET_RSS || op == ELISA_NET_RX_MODE) && a1 & 1)
		a2 = tuning[g == evil[1]];
	if ((op == ELISA_NET_BELL || op == ELISA_NET_POLL) && a1 & 1)
		a1 = (uint64_t)g->q[0].handle;
	else if (op == ELISA_NET_TX || op == ELISA_NET_BELL || op == ELISA_NET_POLL)
		a1 = (uint64_t)g->q[0].handle ^ 1ull << (a1 & 63);
	else if (op != ELISA_NET_QUEUE_SETUP)
		a1 &= 0x7001f;
	call(g, op, a1, a2);
}

/* The well-behaved one, too, has its frames hashed and sleeps; all have a doorbell. */
static void tune(struct t_guest *g)
{
	uint64_t at = t_alloc(g, sizeof(struct elisa_rx_mode), 8);
	struct elisa_rss *rss = t_at(g, at);

	rss->types = ELISA_RSS_ALL;
	memset(rss->key, 0x5a, sizeof(rss->key));
	if (g != evil[0])
		CHECK(call(g, ELISA_NET_RSS, 0, at) == 0);
	g->q[0].rx->event = 1;
	CHECK(vs_port_bell(t.vs, g->port, 0x10000) == 0);
	if (g != good)
		tuning[g == evil[1]] = at;
}

static void start_over(void)
{
	struct t_guest *g[] = {evil[0], evil[1], good};
	const uint8_t spare[6] = {2, 0, 0, 0, 0, 3};

	poke_count = 0;
	vs_fdb_flush(t.vs, -1);
	(void)!vs_fdb_del(t.vs, spare, 0);
	(void)!vs_fdb_del(t.vs, spare, VID);
	changes_back();
	for (int i = 0; i < 3; i++) {
		struct vs_port_config cfg = t_port_config(&t, g[i]);

		cfg.mtu = 1500;
		cfg.up = true;
		cfg.groups = 1;
		cfg.vlan = (struct vs_vlan){.mode = VS_VLAN_NONE};
		memset(cfg.rate, 0, sizeof(cfg.rate));
		cfg.flood_off = 0;
		cfg.mac_limit = 0;
		t_port_set(&t, g[i], &cfg);
		vs_guest_reset(t.vs, g[i]->id);
		g[i]->used = 0;
		memset(g[i]->ram, 0, 64 * 1024);
		CHECK(t_setup(g[i], 0, RING, RING, BUF) > 0);
		/* One of the hostile ones takes frames as they are; two sleep. */
		if (i >= 1) {
			((struct elisa_queue_setup *)t_at(g[i], g[i]->q[0].setup))->features =
				i == 1 ? ELISA_NET_F_ALL : ELISA_NET_F_EVENT;
			g[i]->q[0].handle = call(g[i], ELISA_NET_QUEUE_SETUP, g[i]->q[0].setup, 0);
			CHECK(g[i]->q[0].handle > 0);
		}
		t_post(&g[i]->q[0], RING);
		tune(g[i]);
	}
	nic.q[0].in.taken = nic.q[0].in.put;
	change_vlan(nic.guest, 0);
	restart_nic();
	/* Some buffers at the very ends of RAM. */
	evil[0]->q[0].rx->addr[0] = T_GPA + T_RAM - BUF;
	evil[1]->q[0].rx->addr[1] = T_GPA;
}

static void first_start(void)
{
	t_create(&t, 1024);
	evil[0] = t_guest(&t, true);
	evil[1] = t_guest(&t, true);
	good = t_guest(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, data + len};

	if (!t.vs)
		first_start();
	start_over();
	while (in.at < in.end) {
		uint64_t op = take(&in, 1);
		struct t_guest *g = evil[op >> 7];
		struct poke p;

		switch (op % 13) {
		case 0:
		case 1:
			put_frame(&in);
			break;
		case 2:
		case 3:
			call(g, ELISA_NET_TX, (uint64_t)g->q[0].handle, op >> 4 & 7);
			poke_count = 0;
			break;
		case 4:
			p = take_poke(&in);
			do_poke(&p);
			break;
		case 5:
		case 6:
			p = take_poke(&in);
			p.step = (uint32_t)take(&in, 1) % 64;
			if (poke_count < 8)
				pokes[poke_count++] = p;
			break;
		case 7:
			setup_queue(&in);
			break;
		case 8:
			any_call(&in);
			break;
		case 9:
			put_offload(&in);
			break;
		case 10:
			put_outside(&in);
			break;
		case 11:
			call(g, ELISA_NET_POLL, (uint64_t)g->q[0].handle, 0);
			poke_count = 0;
			break;
		default:
			control(&in);
		}
		check_good();
	}
	return 0;
}
