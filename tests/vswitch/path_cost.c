/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What test_cost.sh counts instructions of: CALLS calls of vs_entry that send BURST frames of LEN
 * bytes each to one learned destination. Usage: path_cost BURST LEN CALLS [FEATURE], with one of
 * access, push, pop, rate-tx, rate-rx, mirror-tx, mirror-rx.
 */
#include "harness.h"

static struct t_switch t;

static void port(struct t_guest *g, uint8_t vlan_mode, int bucket)
{
	struct vs_port_config cfg = t_port_config(&t, g);

	cfg.vlan = (struct vs_vlan){
		.mode = vlan_mode,
		.pvid = vlan_mode ? 5 : 0,
		.native_tagged = vlan_mode == VS_VLAN_TRUNK,
	};
	for (int i = 0; bucket >= 0 && i < 2; i++)
		cfg.rate[bucket + i] = (struct vs_rate){1, VS_RATE_MAX};
	t_port_set(&t, g, &cfg);
}

static void feature(const char *name, struct t_guest *a, struct t_guest *b, struct t_guest *c)
{
	struct vs_mirror m = {.to = c->port, .what = VS_MIRROR_TX};

	if (!strcmp(name, "access") || !strcmp(name, "push"))
		port(a, VS_VLAN_ACCESS, -1);
	if (!strcmp(name, "access") || !strcmp(name, "pop"))
		port(b, VS_VLAN_ACCESS, -1);
	if (!strcmp(name, "push"))
		port(b, VS_VLAN_TRUNK, -1);
	if (!strcmp(name, "pop"))
		port(a, VS_VLAN_TRUNK, -1);
	if (!strcmp(name, "rate-tx"))
		port(a, VS_VLAN_NONE, VS_TX_BYTES);
	if (!strcmp(name, "rate-rx"))
		port(b, VS_VLAN_NONE, VS_RX_BYTES);
	if (!strcmp(name, "mirror-tx"))
		CHECK(vs_mirror_add(t.vs, a->port, &m) == 0);
	m.what = VS_MIRROR_RX;
	if (!strcmp(name, "mirror-rx"))
		CHECK(vs_mirror_add(t.vs, b->port, &m) == 0);
}

/* A frame whose sender tags it. */
static void put(struct t_guest *a, struct t_guest *b, uint32_t len, uint32_t seed, bool tagged)
{
	struct t_queue *q = &a->q[0];
	uint64_t at = q->tx_buffers + (uint64_t)(q->tx_next % q->tx_size) * (T_BUF + 64);

	t_frame_put(a, 0, len, b->mac, a->mac, seed);
	if (tagged)
		memcpy(t_at(a, at + 12), "\x81\x00\x00\x05", 4);
}

int main(int argc, char **argv)
{
	static struct t_frame frame;
	struct t_guest *a, *b, *c;
	unsigned int burst, len, calls;
	const char *with = argc == 5 ? argv[4] : "";
	bool tagged = !strcmp(with, "pop");

	if (argc != 4 && argc != 5)
		return 2;
	burst = (unsigned int)atoi(argv[1]);
	len = (unsigned int)atoi(argv[2]);
	calls = (unsigned int)atoi(argv[3]);
	t_create(&t, 1024);
	a = t_guest(&t, true);
	b = t_guest(&t, true);
	if (t_setup(a, 0, 256, 256, T_BUF) < 0 || t_setup(b, 0, 256, 256, T_BUF) < 0)
		return 1;
	t_post(&a->q[0], 256);
	t_post(&b->q[0], 256);
	c = t_guest(&t, true);
	if (t_setup(c, 0, 256, 256, T_BUF) < 0)
		return 1;
	t_post(&c->q[0], 256);
	feature(with, a, b, c);
	/* Not counted: the counting starts with the operation's number of calls below. */
	if (t_send_one(b, 60, a->mac, b->mac, 0) != 1 ||
	    t_send_one(a, 60, b->mac, a->mac, 0) != 1 || !t_receive(b, 0, &frame))
		return 1;
	for (unsigned int n = 0; n < calls; n++) {
		for (unsigned int i = 0; i < burst; i++)
			put(a, b, len, i, tagged);
		if (t_send(a, 0, burst) != (int)burst)
			return 1;
		for (unsigned int i = 0; i < burst; i++)
			if (!t_receive(b, 0, &frame) ||
			    (!*with && !t_frame_is(&frame, len, b->mac, a->mac, i)))
				return 1;
		while (t_receive(c, 0, &frame))
			;
	}
	t_destroy(&t);
	return 0;
}
