/* SPDX-License-Identifier: BSD-3-Clause */
/* NIC ports: both ways, who serves them, and where frames may go. */
#include "fakenic.h"
#include <sys/mman.h>
#include <cmocka.h>

static struct t_switch t;
static struct t_nic nic;
static struct t_frame frame;
static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};

static int begin(void **state)
{
	(void)state;
	t_create(&t, 1024);
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < nic.queues; i++)
		assert_int_equal(nic.q[i].collisions, 0);
	t_nic_destroy(&nic);
	t_destroy(&t);
	memset(&nic, 0, sizeof(nic));
	return 0;
}

static struct elisa_port_info info_of(struct t_guest *g)
{
	uint64_t at = t_alloc(g, sizeof(struct elisa_port_info), 8);

	assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, 0, at), 0);
	return *(struct elisa_port_info *)t_at(g, at);
}

/* Its sender's call hands a frame to the driver; a poll takes one from it. */
static void both_ways(void **state)
{
	struct vs_nic_status status;
	struct t_guest *a;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	assert_true(info_of(a).flags & ELISA_PORT_POLL);
	assert_true(t_call(a, ELISA_NET_LINK, 0, 0) & ELISA_LINK_POLL);
	assert_false(t_call(nic.guest, ELISA_NET_LINK, 0, 0) & ELISA_LINK_POLL);
	assert_false(info_of(nic.guest).flags & ELISA_PORT_POLL);
	t_wire_in(&nic, 0, 200, a->mac, outside, 1, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_frame_is(&frame, 200, a->mac, outside, 1));
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(nic.q[0].freed, 1);
	/* Its address was learned at the NIC. */
	assert_int_equal(t_send_one(a, 300, outside, a->mac, 2), 1);
	assert_true(t_wire_out(&nic, 0, &frame));
	assert_true(t_frame_is(&frame, 300, outside, a->mac, 2));
	assert_int_equal(vs_nic_status(t.vs, nic.guest->port, &status), 0);
	assert_int_equal(status.queues, 1);
	assert_false(status.dirty || status.held);
	assert_int_equal(status.queue[0].rx.frames_guest, 1);
	assert_int_equal(status.queue[0].rx.calls_guest, 2);
	assert_int_equal(status.queue[0].tx.frames_guest, 1);
	assert_int_equal(status.queue[0].tx.frames_host + status.queue[0].rx.calls_host, 0);
	assert_int_equal(status.queue[0].tx.owner_guest, 0);
}

/* More than one round, more than the ring has: nothing waits for somebody else. */
static void bursts(void **state)
{
	struct t_guest *a;
	uint32_t got = 0;

	(void)state;
	a = t_guest(&t, true);
	assert_true(t_setup(a, 0, 256, 256, T_BUF) > 0);
	t_post(&a->q[0], 256);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	for (uint32_t i = 0; i < 300; i++)
		t_wire_in(&nic, 0, 60 + i % 900, a->mac, outside, i, 0);
	while (t_poll(a) > 0)
		for (; t_receive(a, 0, &frame); got++)
			assert_true(t_frame_is(&frame, 60 + got % 900, a->mac, outside, got));
	assert_int_equal(got, 300);
	/* The NIC's ring has 64 buffers. */
	for (uint32_t i = 0; i < 200; i++)
		t_frame_put(a, 0, 60 + i, outside, a->mac, i);
	assert_int_equal(t_send(a, 0, 200), 200);
	for (uint32_t i = 0; i < 200; i++) {
		assert_true(t_wire_out(&nic, 0, &frame));
		assert_true(t_frame_is(&frame, 60 + i, outside, a->mac, i));
	}
	assert_false(t_wire_out(&nic, 0, &frame));
	assert_int_equal(t_all_drops(&t, nic.guest), 0);
}

/* All the NIC's queues are polled by one guest; senders have a queue of their own each. */
static void several_queues(void **state)
{
	struct t_guest *a;
	uint32_t got = 0, seen = 0;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 4, VS_NIC_BY_GUESTS, 0);
	for (unsigned int q = 0; q < 4; q++)
		t_wire_in(&nic, q, 100, a->mac, outside, q, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(t_poll(a), 1);
	for (; t_receive(a, 0, &frame); got++)
		;
	assert_int_equal(got, 4);
	/* The callers of a guest follow each other. */
	for (int i = 0; i < 4; i++) {
		t_frame_put(a, 0, 60, outside, a->mac, (uint32_t)i);
		assert_int_equal(
			vs_entry(a->caller[i], ELISA_NET_TX, (uint64_t)a->q[0].handle, 0, 1, 0), 1);
	}
	for (unsigned int q = 0; q < 4; q++)
		seen |= (uint32_t)t_wire_out(&nic, q, &frame) << q;
	assert_int_equal(seen, 15);
}

/* Served by the host only: guests' frames lie there until it comes. */
static void by_host(void **state)
{
	struct vs_nic_status status;
	struct t_guest *a;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 2, VS_NIC_BY_HOST, 0);
	assert_false(info_of(a).flags & ELISA_PORT_POLL);
	t_wire_in(&nic, 1, 200, a->mac, outside, 1, 0);
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(t_poll(a), 0);
	assert_false(t_receive(a, 0, &frame));
	assert_int_equal(t_send_one(a, 100, outside, a->mac, 5), 1);
	for (unsigned int q = 0; q < 2; q++)
		assert_false(t_wire_out(&nic, q, &frame));
	/* Exactly the queue of the handle. */
	assert_int_equal(t_poll(nic.guest), 1);
	assert_true(t_wire_out(&nic, 0, &frame));
	assert_true(t_frame_is(&frame, 100, outside, a->mac, 5));
	assert_false(t_receive(a, 0, &frame));
	assert_int_equal(t_call(nic.guest, ELISA_NET_POLL, (uint64_t)nic.guest->q[1].handle, 0), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_frame_is(&frame, 200, a->mac, outside, 1));
	assert_int_equal(vs_nic_status(t.vs, nic.guest->port, &status), 0);
	assert_int_equal(status.queue[1].rx.frames_host, 1);
	assert_int_equal(status.queue[0].tx.frames_host, 1);
	assert_int_equal(status.queue[0].tx.calls_guest + status.queue[1].rx.calls_guest, 0);
}

/* Callers in another address space never run the driver; those of VMs do it for them. */
static void foreign(void **state)
{
	struct vs_nic_status status;
	struct t_guest *a, *b;

	(void)state;
	a = t_guest_up(&t, true);
	b = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	vs_guest_foreign(t.vs, a->id);
	assert_false(info_of(a).flags & ELISA_PORT_POLL);
	assert_true(info_of(b).flags & ELISA_PORT_POLL);
	t_wire_in(&nic, 0, 200, a->mac, outside, 1, 0);
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(t_send_one(a, 100, outside, a->mac, 5), 1);
	assert_false(t_wire_out(&nic, 0, &frame));
	assert_false(t_receive(a, 0, &frame));
	assert_int_equal(vs_nic_status(t.vs, nic.guest->port, &status), 0);
	assert_int_equal(status.queue[0].waiting, 1);
	assert_int_equal(t_poll(b), 1);
	assert_int_equal(vs_nic_status(t.vs, nic.guest->port, &status), 0);
	assert_int_equal(status.queue[0].waiting, 0);
	assert_true(t_wire_out(&nic, 0, &frame));
	assert_true(t_receive(a, 0, &frame));
}

static void groups_of(struct t_guest *g, uint64_t groups)
{
	struct vs_port_config cfg = t_port_config(&t, g);

	cfg.groups = groups;
	t_port_set(&t, g, &cfg);
}

/* A guest in another group neither reaches the NIC nor looks after it. */
static void isolation(void **state)
{
	struct t_guest *a, *b;

	(void)state;
	a = t_guest_up(&t, true);
	b = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	groups_of(b, 2);
	assert_false(info_of(b).flags & ELISA_PORT_POLL);
	/* Learned by the NIC's port, for all. */
	t_wire_in(&nic, 0, 60, t_broadcast, outside, 1, 0);
	assert_int_equal(t_poll(b), 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_false(t_receive(b, 0, &frame));
	assert_int_equal(t_send_one(b, 60, outside, b->mac, 1), 1);
	assert_int_equal(t_drops(&t, b, ELISA_DROP_TX_ISOLATED), 1);
	assert_int_equal(t_send_one(b, 60, t_broadcast, b->mac, 1), 1);
	assert_false(t_wire_out(&nic, 0, &frame));
	t_wire_in(&nic, 0, 60, b->mac, outside, 2, 0);
	assert_int_equal(t_poll(a), 1);
	assert_false(t_receive(b, 0, &frame));
	assert_int_equal(t_drops(&t, nic.guest, ELISA_DROP_TX_ISOLATED), 1);
}

/* Broadcasts go to all but where they come from; what is outside is not sent there again. */
static void floods(void **state)
{
	static struct t_nic second;
	struct t_guest *a, *b;

	(void)state;
	a = t_guest_up(&t, true);
	b = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	t_nic(&t, &second, 1, VS_NIC_BY_GUESTS, 0);
	t_wire_in(&nic, 0, 80, t_broadcast, outside, 1, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_receive(b, 0, &frame));
	assert_true(t_frame_is(&frame, 80, t_broadcast, outside, 1));
	assert_false(t_wire_out(&nic, 0, &frame) || t_wire_out(&second, 0, &frame));
	t_wire_in(&nic, 0, 80, outside, (const uint8_t[]){2, 9, 9, 9, 9, 2}, 1, 0);
	assert_int_equal(t_poll(a), 1);
	assert_false(t_wire_out(&nic, 0, &frame) || t_wire_out(&second, 0, &frame));
	assert_int_equal(t_drops(&t, nic.guest, ELISA_DROP_TX_NO_PORT), 1);
	/* From a guest: once to each. */
	assert_int_equal(t_send_one(b, 90, t_broadcast, b->mac, 3), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_wire_out(&nic, 0, &frame) && t_wire_out(&second, 0, &frame));
	assert_false(t_wire_out(&nic, 0, &frame) || t_wire_out(&second, 0, &frame));
	assert_false(t_receive(b, 0, &frame));
	t_nic_destroy(&second);
}

/* What bridges say to their neighbours stays on its side of the NIC. */
static void bridges_only(void **state)
{
	uint8_t dst[6] = {0x01, 0x80, 0xc2, 0, 0, 0};
	struct t_guest *a, *b;

	(void)state;
	a = t_guest_up(&t, true);
	b = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	for (unsigned int last = 0; last < 256; last++) {
		bool passes = last >= 16;

		dst[5] = (uint8_t)last;
		assert_int_equal(t_send_one(b, 60, dst, b->mac, last), 1);
		assert_true(t_receive(a, 0, &frame));
		assert_int_equal(t_wire_out(&nic, 0, &frame), passes);
		t_wire_in(&nic, 0, 60, dst, outside, last, 0);
		assert_int_equal(t_poll(a), 1);
		assert_int_equal(t_receive(a, 0, &frame), passes);
		assert_int_equal(t_receive(b, 0, &frame), passes);
	}
	assert_int_equal(t_drops(&t, nic.guest, ELISA_DROP_TX_NO_PORT), 16);
	/* Others that look like them. */
	for (unsigned int i = 1; i < 5; i++) {
		memcpy(dst, (const uint8_t[]){0x01, 0x80, 0xc2, 0, 0, 1}, 6);
		dst[i]++;
		assert_int_equal(t_send_one(b, 60, dst, b->mac, i), 1);
		assert_true(t_wire_out(&nic, 0, &frame) && t_receive(a, 0, &frame));
	}
}

/* Two NICs do not make one network of what is behind them, unless they are to. */
static void between_nics(bool bridge)
{
	static const uint8_t there[6] = {2, 9, 9, 9, 9, 2}, unknown[6] = {2, 9, 9, 9, 9, 3};
	static struct t_nic second;
	struct t_guest *a;

	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	t_nic(&t, &second, 1, VS_NIC_BY_GUESTS, 0);
	t_wire_in(&second, 0, 80, t_broadcast, there, 1, 0);
	while (t_poll(a) > 0)
		;
	assert_true(t_receive(a, 0, &frame));
	assert_int_equal(t_wire_out(&nic, 0, &frame), bridge);
	/* To one, by the long way and the short. */
	for (uint32_t i = 0; i < 4; i++)
		t_wire_in(&nic, 0, 80, there, outside, i, 0);
	while (t_poll(a) > 0)
		;
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(t_wire_out(&second, 0, &frame), bridge);
	assert_int_equal(t_drops(&t, nic.guest, ELISA_DROP_TX_ISOLATED), bridge ? 0 : 4);
	/* To one that nobody knows. */
	t_wire_in(&nic, 0, 80, unknown, outside, 1, 0);
	while (t_poll(a) > 0)
		;
	assert_true(t_receive(a, 0, &frame));
	assert_int_equal(t_wire_out(&second, 0, &frame), bridge);
	assert_false(t_wire_out(&nic, 0, &frame) || t_receive(a, 0, &frame));
	t_nic_destroy(&second);
}

static void two_networks(void **state)
{
	(void)state;
	between_nics(false);
}

static int begin_bridging(void **state)
{
	(void)state;
	t_create_with(&t, 1024, true);
	return 0;
}

static void one_network(void **state)
{
	(void)state;
	between_nics(true);
}

/* Many broadcasts exceed what one call may copy: the rest is described once more and comes. */
static void rest_of_a_burst(void **state)
{
	struct t_guest *g[14];
	uint32_t got = 0;
	int64_t one;

	(void)state;
	for (int i = 0; i < 14; i++)
		g[i] = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	for (uint32_t i = 0; i < 100; i++)
		t_wire_in(&nic, 0, 60, t_broadcast, outside, i, 0);
	do {
		one = t_poll(g[0]);
		for (; t_receive(g[13], 0, &frame); got++)
			assert_true(t_frame_is(&frame, 60, t_broadcast, outside, got));
	} while (one > 0);
	assert_int_equal(got, 100);
	assert_int_equal(nic.q[0].freed, 100);
}

/* Who says outside that he is a guest does not get its frames. */
static void own_addresses_stay(void **state)
{
	struct t_guest *a, *b;

	(void)state;
	a = t_guest_up(&t, true);
	b = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	assert_int_equal(t_send_one(b, 60, a->mac, b->mac, 0), 1);
	while (t_wire_out(&nic, 0, &frame) || t_receive(a, 0, &frame))
		;
	t_wire_in(&nic, 0, 60, a->mac, b->mac, 0, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_int_equal(t_send_one(a, 70, b->mac, a->mac, 1), 1);
	assert_true(t_receive(b, 0, &frame));
	assert_false(t_wire_out(&nic, 0, &frame));
	/* Any other address moves as between ports. */
	t_wire_in(&nic, 0, 60, a->mac, outside, 0, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_int_equal(t_send_one(a, 70, outside, a->mac, 1), 1);
	assert_true(t_wire_out(&nic, 0, &frame));
}

/* The word about the transport's checksum, which only a NIC may say. */
static void checksum_known(void **state)
{
	static const uint32_t lengths[] = {60, 14, 1400, 60, 2000, 60};
	struct t_guest *a;

	(void)state;
	a = t_guest(&t, true);
	assert_true(t_setup(a, 0, T_SIZE, T_SIZE, 512) > 0);
	t_post(&a->q[0], T_SIZE);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	for (uint32_t round = 0; round < 40; round++) {
		uint16_t flags = round / 6 & 1 ? ELISA_RXC_CSUM_OK : 0;
		uint32_t len = lengths[round % 6], at = a->q[0].rx_next;
		bool ok;

		if (len > 1514)
			len = 1514;
		t_wire_in(&nic, 0, len, a->mac, outside, round, flags);
		t_wire_in(&nic, 0, 60, a->mac, outside, round, flags ^ ELISA_RXC_CSUM_OK);
		assert_int_equal(t_poll(a), 2);
		ok = a->q[0].comp[at % T_SIZE].flags & ELISA_RXC_CSUM_OK;
		assert_true(t_receive(a, 0, &frame));
		assert_true(t_frame_is(&frame, len, a->mac, outside, round));
		assert_int_equal(ok, flags != 0);
		at = a->q[0].rx_next;
		ok = a->q[0].comp[at % T_SIZE].flags & ELISA_RXC_CSUM_OK;
		assert_true(t_receive(a, 0, &frame));
		assert_true(t_frame_is(&frame, 60, a->mac, outside, round));
		assert_int_equal(ok, flags == 0);
	}
	t_desc(&a->q[0], a->q[0].tx_buffers, 60, ELISA_RXC_CSUM_OK);
	assert_int_equal(t_send(a, 0, 1), 1);
	assert_int_equal(t_drops(&t, a, ELISA_DROP_TX_BAD_DESC), 1);
	/* Nor may it say more. */
	t_wire_in(&nic, 0, 60, a->mac, outside, 0, ELISA_RXC_HASH);
	assert_int_equal(t_poll(a), 1);
	assert_int_equal(t_drops(&t, nic.guest, ELISA_DROP_TX_BAD_DESC), 1);
}

/* The same with the receiver's hashes, which share a field with it. */
static void checksum_and_hash(void **state)
{
	struct t_guest *a;
	struct elisa_rss *rss;
	uint64_t at;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	at = t_alloc(a, sizeof(*rss), 8);
	rss = t_at(a, at);
	memset(rss, 0, sizeof(*rss));
	rss->types = ELISA_RSS_IPV4;
	memset(rss->key, 0x5a, sizeof(rss->key));
	assert_int_equal(t_call(a, ELISA_NET_RSS, 0, at), 0);
	for (uint32_t i = 0; i < 8; i++) {
		struct t_frame *f = &nic.q[0].in.frame[nic.q[0].in.put % T_WIRE];
		uint16_t flags;

		t_wire_in(&nic, 0, 64, a->mac, outside, i, i & 1 ? ELISA_RXC_CSUM_OK : 0);
		if (i & 2)
			f->data[14] = 0x45;
		assert_int_equal(t_poll(a), 1);
		flags = a->q[0].comp[i].flags;
		assert_true(t_receive(a, 0, &frame));
		assert_int_equal(!!(flags & ELISA_RXC_CSUM_OK), i & 1);
		assert_int_equal(!!(flags & ELISA_RXC_HASH), i >> 1 & 1);
		assert_int_equal(frame.len, 64);
	}
	/* Nothing steers what goes to a NIC but who sends. */
	at = t_alloc(nic.guest, sizeof(*rss), 8);
	memset(t_at(nic.guest, at), 0, sizeof(*rss));
	assert_int_equal(t_call(nic.guest, ELISA_NET_RSS, 0, at), -ELISA_EINVAL);
}

/* What the driver can do, it is left to do; the rest is done on the way. */
static void offloads(void **state)
{
	struct t_guest *a;

	(void)state;
	a = t_guest_up(&t, true);
	for (uint32_t features = 0; features <= ELISA_NET_F_CSUM; features += ELISA_NET_F_CSUM) {
		struct elisa_rxc *comp;

		if (!features)
			t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
		else
			t_nic_start(&t, &nic, features);
		comp = &nic.guest->q[0].comp[0];
		t_wire_in(&nic, 0, 60, a->mac, outside, 0, 0);
		assert_int_equal(t_poll(a), 1);
		assert_true(t_receive(a, 0, &frame));
		t_frame_put(a, 0, 100, outside, a->mac, 0);
		a->q[0].txd[(a->q[0].tx_next - 1) % T_SIZE].flags =
			ELISA_NET_CSUM | 16 << ELISA_NET_CSUM_OFFSET;
		a->q[0].txd[(a->q[0].tx_next - 1) % T_SIZE].csum_start = 34;
		assert_int_equal(t_send(a, 0, 1), 1);
		assert_true(t_wire_out(&nic, 0, &frame));
		assert_int_equal(!!(comp->flags & ELISA_NET_CSUM), features != 0);
		assert_int_equal(t_frame_is(&frame, 100, outside, a->mac, 0), features != 0);
	}
}

/* The poller is told whom to wake, by its own queue. */
static void bells(void **state)
{
	struct t_guest *a, *b;

	(void)state;
	a = t_guest_up(&t, true);
	b = t_guest(&t, true);
	assert_true(t_setup_with(b, 0, T_SIZE, T_SIZE, T_BUF, ELISA_NET_F_EVENT) > 0);
	t_post(&b->q[0], T_SIZE);
	assert_int_equal(vs_port_bell(t.vs, b->port, 0x70000), 0);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	assert_int_equal(t_poll(a), 0);
	assert_false(a->bell);
	b->q[0].rx->event = 1;
	t_wire_in(&nic, 0, 60, b->mac, outside, 0, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(a->bell);
	assert_int_equal(t_call(a, ELISA_NET_BELL, (uint64_t)a->q[0].handle, 0), 0x70000);
	assert_int_equal(t_call(a, ELISA_NET_BELL, (uint64_t)a->q[0].handle, 0), 0);
	/* The host's thread by the NIC port's. */
	b->q[0].rx->event = 2;
	t_wire_in(&nic, 0, 60, b->mac, outside, 0, 0);
	assert_int_equal(t_poll(nic.guest), 1);
	assert_true(nic.guest->bell);
	assert_int_equal(t_call(nic.guest, ELISA_NET_BELL, (uint64_t)nic.guest->q[0].handle, 0),
			 0x70000);
	/* A handle of no queue. */
	assert_int_equal(t_call(a, ELISA_NET_POLL, 0, 0), -ELISA_ESTALE);
	assert_int_equal(t_call(a, ELISA_NET_POLL, (uint64_t)a->q[0].handle | 0x100, 0),
			 -ELISA_ESTALE);
	assert_int_equal(t_call(a, ELISA_NET_POLL, UINT64_MAX, 0), -ELISA_ESTALE);
}

/* Held, nobody is in it, and nothing that comes meanwhile is lost but what the rings cannot hold.
 */
static void hold_and_release(void **state)
{
	struct vs_nic_status status;
	struct t_guest *a;
	int port;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	port = nic.guest->port;
	assert_int_equal(vs_nic_queue(t.vs, port, 0, &nic.q[0], &nic.q[0]), -ELISA_EBUSY);
	assert_int_equal(vs_nic_release(t.vs, port), -ELISA_EBUSY);
	assert_int_equal(vs_nic_hold(t.vs, port), 0);
	assert_int_equal(vs_nic_status(t.vs, port, &status), 0);
	assert_true(status.held);
	assert_int_equal(vs_nic_queue(t.vs, port, 1, NULL, NULL), -ELISA_EINVAL);
	t_wire_in(&nic, 0, 60, a->mac, outside, 0, 0);
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(t_poll(nic.guest), 0);
	assert_int_equal(t_send_one(a, 60, outside, a->mac, 7), 1);
	assert_false(t_wire_out(&nic, 0, &frame));
	/* Without new set-ups only because nothing was taken before. */
	assert_int_equal(vs_nic_release(t.vs, port), 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_wire_out(&nic, 0, &frame));
	assert_true(t_receive(a, 0, &frame));
	for (int i = 0; i < 3; i++) {
		t_nic_start(&t, &nic, 0);
		for (int k = 0; k < 5 * T_SIZE; k++) {
			t_wire_in(&nic, 0, 60, a->mac, outside, 0, 0);
			assert_int_equal(t_poll(a), 1);
			assert_true(t_receive(a, 0, &frame));
			assert_int_equal(t_send_one(a, 60, outside, a->mac, 7), 1);
			assert_true(t_wire_out(&nic, 0, &frame));
		}
	}
	/* Its memory is its own again. */
	assert_int_equal(vs_nic_hold(t.vs, port), 0);
	assert_int_equal(t_call(nic.guest, ELISA_NET_QUEUE_RESET, 0, 0), 0);
	assert_int_equal(vs_nic_release(t.vs, port), 0);
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(t_send_one(a, 60, outside, a->mac, 7), 1);
	assert_int_equal(nic.q[0].out_frames, 1 + 15 * T_SIZE);
}

/* The control side shows a queue whose driver takes its memory away just then. */
static void memory_gone(void **state)
{
	struct vs_queue_info info;
	struct t_guest *a;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	assert_int_equal(t_send_one(a, 60, outside, a->mac, 7), 1);
	assert_int_equal(mprotect(nic.guest->ram, T_RAM, PROT_NONE), 0);
	assert_int_equal(vs_port_queue(t.vs, nic.guest->port, 0, &info), 0);
	assert_int_equal(info.rx_reserved, 1);
	assert_int_equal(info.rx_posted, 1 + T_SIZE);
	assert_int_equal(info.rx_size, T_SIZE);
	assert_int_equal(vs_bells_due(t.vs, (uint32_t[8]){0}, 8), 0);
	assert_int_equal(mprotect(nic.guest->ram, T_RAM, PROT_READ | PROT_WRITE), 0);
}

static void control(void **state)
{
	struct vs_nic_ops ops = {NULL, NULL, NULL};
	struct vs_port_config cfg = {.mtu = 1500, .queues = 1, .up = true, .groups = 1};
	struct vs_nic_status status;
	struct t_guest *a;
	int port, ports[VS_NICS_MAX];

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	port = nic.guest->port;
	assert_int_equal(vs_nic_add(t.vs, 79, VS_NIC_BY_HOST, &ops), -ELISA_ENODEV);
	assert_int_equal(vs_nic_add(t.vs, a->port, VS_NIC_BY_HOST, &ops), -ELISA_EBUSY);
	assert_int_equal(vs_nic_hold(t.vs, a->port), -ELISA_ENODEV);
	assert_int_equal(vs_nic_release(t.vs, a->port), -ELISA_ENODEV);
	assert_int_equal(vs_nic_status(t.vs, -1, &status), -ELISA_ENODEV);
	assert_int_equal(vs_nic_del(t.vs, port), -ELISA_EBUSY);
	assert_int_equal(vs_port_unbind(t.vs, port), 0);
	assert_int_equal(vs_nic_del(t.vs, port), -ELISA_EBUSY);
	assert_int_equal(vs_port_del(t.vs, port), -ELISA_EBUSY);
	assert_int_equal(vs_nic_hold(t.vs, port), 0);
	assert_int_equal(vs_nic_del(t.vs, port), 0);
	assert_int_equal(vs_nic_del(t.vs, port), -ELISA_ENODEV);
	assert_int_equal(vs_nic_add(t.vs, port, VS_NIC_BY_HOST, &ops), -ELISA_EINVAL);
	/* An ordinary port again. */
	assert_int_equal(vs_port_bind(t.vs, port, nic.guest->id), 0);
	assert_true(t_setup(nic.guest, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	t_post(&nic.guest->q[0], T_SIZE);
	assert_int_equal(t_send_one(nic.guest, 60, a->mac, nic.guest->mac, 0), 1);
	assert_int_equal(t_send_one(a, 60, nic.guest->mac, a->mac, 0), 1);
	assert_true(t_receive(nic.guest, 0, &frame));
	assert_int_equal(t_poll(a), 0);
	assert_false(info_of(a).flags & ELISA_PORT_POLL);
	/* As many as there may be. */
	ops = (struct vs_nic_ops){(void *)control, (void *)control, (void *)control};
	for (int i = 0; i < VS_NICS_MAX + 1; i++) {
		snprintf(cfg.name, sizeof(cfg.name), "nic%d", i);
		memcpy(cfg.mac, (const uint8_t[]){2, 7, 7, 7, 7, (uint8_t)i}, 6);
		port = vs_port_add(t.vs, &cfg);
		assert_true(port >= 0);
		if (i == VS_NICS_MAX)
			assert_int_equal(vs_nic_add(t.vs, port, VS_NIC_BY_GUESTS, &ops), -28);
		else
			assert_int_equal(vs_nic_add(t.vs, port, VS_NIC_BY_GUESTS, &ops), 0);
		ports[i % VS_NICS_MAX] = port;
	}
	assert_int_equal(t_poll(a), 0);
	assert_int_equal(vs_nic_del(t.vs, ports[5]), 0);
	assert_int_equal(vs_nic_add(t.vs, ports[0], VS_NIC_BY_GUESTS, &ops), 0);
}

/* The link that is shown follows the NIC; frames pass all the same. */
static void carrier(void **state)
{
	struct t_guest *a;
	struct vs_port_info info;

	(void)state;
	a = t_guest_up(&t, true);
	t_nic(&t, &nic, 1, VS_NIC_BY_GUESTS, 0);
	assert_true(t_call(a, ELISA_NET_LINK, 0, 0) & ELISA_LINK_UP);
	assert_int_equal(vs_port_carrier(t.vs, a->port, false), 0);
	assert_false(t_call(a, ELISA_NET_LINK, 0, 0) & ELISA_LINK_UP);
	assert_int_equal(t_call(a, ELISA_NET_LINK, 0, 0) >> 16, 1500);
	assert_int_equal(info_of(a).link, 0);
	assert_int_equal(vs_port_info(t.vs, a->port, &info), 0);
	assert_false(info.link);
	t_wire_in(&nic, 0, 60, a->mac, outside, 0, 0);
	assert_int_equal(t_poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_int_equal(vs_port_carrier(t.vs, a->port, true), 0);
	assert_true(t_call(a, ELISA_NET_LINK, 0, 0) & ELISA_LINK_UP);
	assert_int_equal(vs_port_carrier(t.vs, 79, true), -ELISA_ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(both_ways, begin, end),
		cmocka_unit_test_setup_teardown(bursts, begin, end),
		cmocka_unit_test_setup_teardown(several_queues, begin, end),
		cmocka_unit_test_setup_teardown(by_host, begin, end),
		cmocka_unit_test_setup_teardown(foreign, begin, end),
		cmocka_unit_test_setup_teardown(isolation, begin, end),
		cmocka_unit_test_setup_teardown(floods, begin, end),
		cmocka_unit_test_setup_teardown(bridges_only, begin, end),
		cmocka_unit_test_setup_teardown(two_networks, begin, end),
		cmocka_unit_test_setup_teardown(one_network, begin_bridging, end),
		cmocka_unit_test_setup_teardown(rest_of_a_burst, begin, end),
		cmocka_unit_test_setup_teardown(own_addresses_stay, begin, end),
		cmocka_unit_test_setup_teardown(checksum_known, begin, end),
		cmocka_unit_test_setup_teardown(checksum_and_hash, begin, end),
		cmocka_unit_test_setup_teardown(offloads, begin, end),
		cmocka_unit_test_setup_teardown(bells, begin, end),
		cmocka_unit_test_setup_teardown(hold_and_release, begin, end),
		cmocka_unit_test_setup_teardown(memory_gone, begin, end),
		cmocka_unit_test_setup_teardown(control, begin, end),
		cmocka_unit_test_setup_teardown(carrier, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
