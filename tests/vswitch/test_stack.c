/* SPDX-License-Identifier: BSD-3-Clause */
/* How much stack vs_entry needs: it runs on a painted one, and what lost its paint is counted. */
#include <ucontext.h>
#include "fakenic.h"

#define STACK (64 * 1024)
#define LIMIT (16 * 1024)

static struct t_switch t;
static ucontext_t back, inside;
static struct vs_caller *caller;
static uint64_t op, a1, a2;
static uint8_t stack[STACK] __attribute__((aligned(64)));

static void enter(void)
{
	vs_entry(caller, op, a1, 0, a2, 0);
}

static size_t used_by(struct t_guest *g, uint64_t o, uint64_t x, uint64_t y)
{
	size_t i = 0;

	memset(stack, 0xa5, sizeof(stack));
	caller = g->caller[0];
	op = o;
	a1 = x;
	a2 = y;
	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = sizeof(stack);
	inside.uc_link = &back;
	makecontext(&inside, enter, 0);
	swapcontext(&back, &inside);
	while (i < STACK && stack[i] == 0xa5)
		i++;
	return STACK - i;
}

/* To a receiver that does neither: every segment's headers are on the stack. */
static void put_tso(struct t_guest *g, const uint8_t dst[6], uint16_t len, uint64_t at)
{
	struct t_queue *q = &g->q[0];
	uint8_t *p = t_at(g, at);

	t_fill(p, len, dst, g->mac, 0);
	memset(p + 14, 0, 40);
	p[14] = 0x45;
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	p[23] = 6;
	p[46] = 0x50;
	t_desc(q, at, len, ELISA_NET_CSUM | ELISA_NET_TSO4 | 16 << ELISA_NET_CSUM_OFFSET);
	q->txd[(q->tx_next - 1) % T_SIZE].csum_start = 34;
	q->txd[(q->tx_next - 1) % T_SIZE].gso_size = 500;
}

/* The deepest there is: a policed sender's to a policed receiver with RSS, mirrored to one more. */
static size_t with_features(struct t_guest *g[3], uint64_t tso)
{
	struct vs_mirror m = {.to = g[2]->port, .what = 7};
	struct elisa_port_counters count;
	size_t most = 0;

	for (int i = 0; i < 3; i++) {
		struct vs_port_config cfg = t_port_config(&t, g[i]);
		uint64_t at = t_alloc(g[i], sizeof(struct elisa_rss), 8);
		struct elisa_rss *rss = t_at(g[i], at);

		cfg.vlan = (struct vs_vlan){
			.mode = i ? VS_VLAN_TRUNK : VS_VLAN_ACCESS,
			.pvid = 5,
			.native_tagged = i,
		};
		for (int b = 0; b < VS_BUCKETS; b++)
			cfg.rate[b] = (struct vs_rate){1, 30000};
		cfg.mac_limit = 10;
		t_port_set(&t, g[i], &cfg);
		memset(rss, 0, sizeof(*rss));
		rss->types = ELISA_RSS_ALL;
		if (t_call(g[i], ELISA_NET_RSS, 0, at))
			return 0;
	}
	for (int i = 0; i < 2; i++)
		if (vs_mirror_add(t.vs, g[i]->port, &m))
			return 0;
	for (uint32_t round = 0; round < 6; round++) {
		size_t used;

		for (uint32_t i = 0; i < 20; i++)
			t_frame_put(g[0], 0, 1500, i % 4 ? g[1]->mac : t_broadcast, g[0]->mac, i);
		put_tso(g[0], round & 1 ? t_broadcast : g[1]->mac, 9000, tso);
		used = used_by(g[0], ELISA_NET_TX, (uint64_t)g[0]->q[0].handle, 21);
		most = used > most ? used : most;
		t_post(&g[1]->q[0], T_SIZE);
		t_post(&g[2]->q[0], T_SIZE);
	}
	vs_port_counters(t.vs, g[1]->port, &count);
	return count.drops[ELISA_DROP_RX_POLICED] && count.rx_frames ? most : 0;
}

int main(void)
{
	struct elisa_port_counters count;
	static struct t_nic nic[2];
	struct t_guest *g[3];
	size_t most = 0, used;
	uint64_t tso;

	t_create_with(&t, 1024, true);
	for (int i = 0; i < 3; i++) {
		struct vs_port_config cfg;

		g[i] = t_guest(&t, false);
		cfg = t_port_config(&t, g[i]);
		cfg.mtu = 9000;
		t_port_set(&t, g[i], &cfg);
		t_setup(g[i], 0, T_SIZE, T_SIZE, i ? 256 : T_BUF);
		t_post(&g[i]->q[0], T_SIZE);
		t_send_one(g[i], 60, t_broadcast, g[i]->mac, 0);
	}
	tso = t_alloc(g[0], 20000, 64);
	/* Several destinations, several segments, several buffers, learning, flooding. */
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 20; i++) {
			uint8_t src[6] = {2, 2, 0, 0, 0, (uint8_t)i};

			t_frame_put(g[0], 0, 60 + 90 * (i % 11), g[1 + i % 2]->mac,
				    i % 3 ? g[0]->mac : src, i);
			g[0]->q[0].txd[(g[0]->q[0].tx_next - 1) % T_SIZE].flags =
				i % 5 == 1 ? ELISA_NET_MORE : 0;
		}
		t_frame_put(g[0], 0, 900, t_broadcast, g[0]->mac, 0);
		used = used_by(g[0], ELISA_NET_TX, (uint64_t)g[0]->q[0].handle, 21);
		most = used > most ? used : most;
		for (int i = 0; i < 2; i++)
			put_tso(g[0], i ? t_broadcast : g[1]->mac, 9000, tso + (uint64_t)i * 9000);
		used = used_by(g[0], ELISA_NET_TX, (uint64_t)g[0]->q[0].handle, 2);
		most = used > most ? used : most;
	}
	used = used_by(g[1], ELISA_NET_QUEUE_SETUP, g[1]->q[0].setup, 0);
	most = used > most ? used : most;
	used = used_by(g[1], ELISA_NET_COUNTERS, 0, T_GPA);
	most = used > most ? used : most;
	/* From a NIC to all, the other NIC's driver too, which gets what is cut up for it as well.
	 */
	for (int i = 0; i < 2; i++)
		t_nic(&t, &nic[i], 1, VS_NIC_BY_GUESTS, 0);
	for (uint32_t i = 0; i < 20; i++)
		t_wire_in(&nic[0], 0, 60 + 70 * i, i % 3 ? g[1 + i % 2]->mac : t_broadcast,
			  (const uint8_t[]){2, 3, 3, 3, 3, (uint8_t)i}, i, 0);
	for (int i = 0; i < 2; i++)
		put_tso(g[0], t_broadcast, 9000, tso + (uint64_t)i * 9000);
	used = used_by(g[0], ELISA_NET_POLL, (uint64_t)g[0]->q[0].handle, 0);
	most = used > most ? used : most;
	used = used_by(g[0], ELISA_NET_TX, (uint64_t)g[0]->q[0].handle, 2);
	most = used > most ? used : most;
	if (nic[0].q[0].freed != 20 || !nic[1].q[0].out_frames)
		return 2;
	used = with_features(g, tso);
	if (!used)
		return 2;
	most = used > most ? used : most;
	/* The same from a NIC. */
	{
		struct vs_port_config cfg = t_port_config(&t, nic[0].guest);

		cfg.vlan = (struct vs_vlan){.mode = VS_VLAN_ACCESS, .pvid = 5};
		cfg.rate[VS_TX_BYTES] = (struct vs_rate){1, 30000};
		t_port_set(&t, nic[0].guest, &cfg);
	}
	for (uint32_t i = 0; i < 40; i++)
		t_wire_in(&nic[0], 0, 1400, i % 3 ? g[1]->mac : t_broadcast,
			  (const uint8_t[]){2, 3, 3, 3, 3, (uint8_t)i}, i, 0);
	used = used_by(g[0], ELISA_NET_POLL, (uint64_t)g[0]->q[0].handle, 0);
	most = used > most ? used : most;
	printf("%zu bytes of stack, with a driver that needs little, at most %d allowed\n", most,
	       LIMIT);
	vs_port_counters(t.vs, g[0]->port, &count);
	if (count.tx_segments < 2 * 3 * 18)
		return 2;
	if (most < 1000 || vs_caller_calls(g[0]->caller[0]) < 4)
		return 2; /* it did not run there */
	return most > LIMIT;
}
