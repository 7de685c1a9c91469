/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NICs behind a switch: frames there and back, callers that die inside, two devices as one, what is
 * said about memory and exports.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <rte_ethdev.h>
#include "common.h"
#include "../vswitch/harness.h"

#define AREA 0x10000

static struct t_switch t;
static struct t_frame frame;
static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};

/* A NIC's port, as the daemon makes it. */
static struct {
	struct nic *nic;
	int guest, port;
	struct vs_caller *caller;
	unsigned int queues;
} up;

/* Where the daemon writes what it asks the switch: DPDK's heap is no place for that. */
static uint8_t area[AREA] __attribute__((aligned(4096)));

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The tap driver's signals end sleeps. */
static void wait_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&left, &left))
		;
}

/* Held: the queues as they are after a start. */
static void port_release(void)
{
	struct elisa_queue_setup *setup = (struct elisa_queue_setup *)(void *)area;

	for (unsigned int q = 0; q < up.queues; q++) {
		void *rxq, *txq;

		assert_int_equal(lib->queue(up.nic, q, setup, &rxq, &txq), 0);
		assert_true(vs_entry(up.caller, ELISA_NET_QUEUE_SETUP, (uintptr_t)setup, 0, 0, 0) >
			    0);
		assert_int_equal(vs_nic_queue(t.vs, up.port, q, rxq, txq), 0);
	}
	assert_int_equal(vs_nic_release(t.vs, up.port), 0);
}

static void port_up(const struct nic_config *cfg)
{
	struct vs_port_config port = {.name = "up0",
				      .mtu = cfg->mtu,
				      .queues = cfg->queues,
				      .up = true,
				      .groups = VS_GROUPS_DEFAULT};
	struct vs_region regions[2];
	struct nic_memory span;
	struct nic_info info;

	up.nic = nic_up(cfg);
	up.queues = cfg->queues;
	assert_int_equal(lib->info(up.nic, &info), 0);
	memcpy(port.mac, info.mac, 6);
	assert_int_equal(lib->span(&span), 0);
	regions[0] = (struct vs_region){(uintptr_t)span.addr, span.len, span.addr};
	regions[1] = (struct vs_region){(uintptr_t)area, AREA, area};
	up.guest = vs_guest_add(t.vs, "up0", regions, 2);
	assert_true(up.guest >= 0);
	up.port = vs_port_add(t.vs, &port);
	assert_true(up.port >= 0);
	assert_int_equal(vs_nic_add(t.vs, up.port, VS_NIC_BY_GUESTS, lib->ops), 0);
	assert_int_equal(vs_port_bind(t.vs, up.port, up.guest), 0);
	assert_int_equal(vs_caller_add(t.vs, up.guest, &up.caller), 0);
	port_release();
}

static int begin(void **state)
{
	t_create(&t, 1024);
	fake_reset();
	return 0;
}

static int end(void **state)
{
	while (vs_nic_hold(t.vs, up.port))
		;
	lib->remove(up.nic);
	t_destroy(&t);
	return 0;
}

static int64_t poll(struct t_guest *g)
{
	int64_t result = t_call(g, ELISA_NET_POLL, (uint64_t)g->q[0].handle, 0);

	return result < 0 ? result : result & ELISA_TX_TAKEN;
}

static struct t_guest *guest_up(void)
{
	struct t_guest *g = t_guest_up(&t, true);

	assert_int_equal(vs_fdb_add(t.vs, g->mac, 0, g->port), 0);
	return g;
}

/* ---- there and back ---- */

/* A ring of DPDK's: what goes out comes in. */
static void looped(void **state)
{
	struct nic_config cfg = nic_config("net_ring0");
	struct t_guest *a, *b;
	uint32_t back = 0;

	a = guest_up();
	b = guest_up();
	port_up(&cfg);
	/* Nobody knows that address: out, and also to b; what comes back goes to both. */
	for (uint32_t i = 0; i < 3000; i++) {
		uint32_t len = 60 + i * 31 % 1455;

		assert_int_equal(t_send_one(a, len, outside, a->mac, i), 1);
		poll(b);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, len, outside, a->mac, i));
		for (; t_receive(a, 0, &frame); back++)
			assert_true(
				t_frame_is(&frame, 60 + back * 31 % 1455, outside, a->mac, back));
		while (t_receive(b, 0, &frame))
			assert_int_equal(frame.data[6], a->mac[0]);
	}
	assert_int_equal(back, 3000);
	assert_int_equal(t_all_drops(&t, a) + t_all_drops(&t, b), 0);
	/* All buffers went round and came home. */
	while (vs_nic_hold(t.vs, up.port))
		;
	assert_int_equal(lib->start(up.nic, why), 0);
	assert_int_equal(nic_lost(up.nic), 0);
	port_release();
	assert_int_equal(t_send_one(a, 99, outside, a->mac, 1), 1);
	assert_int_equal(poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_frame_is(&frame, 99, outside, a->mac, 1));
}

/* Frames that were on their way in such a ring are not met by the next run. */
static void restarted_with_frames_inside(void **state)
{
	struct nic_config cfg = nic_config("net_ring1");
	struct t_guest *a;

	a = guest_up();
	port_up(&cfg);
	for (int round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 40; i++)
			assert_int_equal(t_send_one(a, 300, outside, a->mac, 1000 + i), 1);
		while (vs_nic_hold(t.vs, up.port))
			;
		assert_int_equal(lib->start(up.nic, why), 0);
		port_release();
		while (t_receive(a, 0, &frame))
			;
		assert_int_equal(t_send_one(a, 99, outside, a->mac, (uint32_t)round), 1);
		assert_int_equal(poll(a), 1);
		assert_true(t_receive(a, 0, &frame));
		assert_true(t_frame_is(&frame, 99, outside, a->mac, (uint32_t)round));
		assert_false(t_receive(a, 0, &frame));
	}
	assert_int_equal(nic_lost(up.nic), 0);
}

/* Jumbo frames over a switch whose guests have small buffers. */
static void looped_jumbo(void **state)
{
	struct nic_config cfg = nic_config("net_ring2");
	struct vs_port_config port;
	struct t_guest *a;

	a = guest_up();
	port = t_port_config(&t, a);
	port.mtu = 9000;
	t_port_set(&t, a, &port);
	cfg.mtu = 9000;
	port_up(&cfg);
	for (uint32_t len = 1900; len <= 9014; len += 113) {
		uint64_t at = t_alloc(a, 9216, 64);

		t_fill(t_at(a, at), len, outside, a->mac, len);
		t_desc(&a->q[0], at, (uint16_t)len, 0);
		assert_int_equal(t_send(a, 0, 1), 1);
		assert_int_equal(poll(a), (len + 2047) / 2048);
		assert_true(t_receive(a, 0, &frame));
		assert_true(t_frame_is(&frame, len, outside, a->mac, len));
		a->used -= 9216;
	}
}

/* Each caller has a queue of its own, both ways. */
static void queues(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct t_guest *a;
	uint8_t data[100];
	uint32_t got = 0;

	a = guest_up();
	cfg.queues = FAKE_QUEUES;
	port_up(&cfg);
	for (uint32_t c = 0; c < 4; c++) {
		t_frame_put(a, 0, 100, outside, a->mac, c);
		assert_int_equal(
			vs_entry(a->caller[c], ELISA_NET_TX, (uint64_t)a->q[0].handle, 0, 1, 0) &
				ELISA_TX_TAKEN,
			1);
	}
	for (uint32_t q = 0; q < FAKE_QUEUES; q++) {
		assert_int_equal(fake[0].sent[q].put, 1);
		t_fill(data, 100, a->mac, outside, q);
		fake_put(&fake[0].received[q], data, 100, 2048, 0);
	}
	for (int i = 0; i < 8; i++)
		poll(a);
	for (; t_receive(a, 0, &frame); got++)
		assert_int_equal(frame.len, 100);
	assert_int_equal(got, FAKE_QUEUES);
}

/* The NIC's word about a checksum reaches the guest. */
static void checksum_known(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct t_guest *a;
	uint8_t data[100];

	fake[0].rx_capa = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	a = guest_up();
	port_up(&cfg);
	t_fill(data, 100, a->mac, outside, 1);
	fake_put(&fake[0].received[0], data, 100, 2048, RTE_MBUF_F_RX_L4_CKSUM_GOOD);
	fake_put(&fake[0].received[0], data, 100, 2048, RTE_MBUF_F_RX_L4_CKSUM_BAD);
	assert_int_equal(poll(a), 2);
	assert_int_equal(a->q[0].comp[0].flags & ELISA_RXC_CSUM_OK, ELISA_RXC_CSUM_OK);
	assert_int_equal(a->q[0].comp[1].flags & ELISA_RXC_CSUM_OK, 0);
}

/* ---- death ---- */

/* A vCPU of `a` is stopped for good in the driver; b goes on as soon as the NIC is started anew. */
static void dies(enum fake_death where)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct vs_nic_status status;
	struct t_guest *a, *b;
	uint8_t data[200];
	double begun;

	a = guest_up();
	b = guest_up();
	port_up(&cfg);
	/* Known to be outside: b is not to get them. */
	assert_int_equal(vs_fdb_add(t.vs, outside, 0, up.port), 0);
	for (int round = 0; round < 50; round++) {
		uint32_t received = fake[0].received[0].put;

		fake[0].dies = where;
		if (!setjmp(fake[0].grave)) {
			t_fill(data, 200, a->mac, outside, 5);
			for (int i = 0; i < 20; i++) {
				t_frame_put(a, 0, 100, outside, a->mac, 1);
				fake_put(&fake[0].received[0], data, 200, 2048, 0);
			}
			t_send(a, 0, 20);
			poll(a);
			fail_msg("it was not stopped");
		}
		fake[0].dies = FAKE_LIVES;
		fake[0].received[0].got = received + 20;
		vs_caller_del(t.vs, a->caller[0]);
		assert_int_equal(vs_nic_status(t.vs, up.port, &status), 0);
		assert_true(status.dirty);
		/* Nothing gets through now, but nobody waits either. */
		assert_int_equal(t_send_one(b, 60, outside, b->mac, 2), 1);
		assert_true(poll(b) >= 0);
		while (vs_nic_hold(t.vs, up.port))
			vs_tick(t.vs, 1);
		begun = seconds();
		assert_int_equal(lib->start(up.nic, why), 0);
		if (!round)
			printf("started anew in %.1f ms\n", (seconds() - begun) * 1e3);
		port_release();
		assert_int_equal(vs_nic_status(t.vs, up.port, &status), 0);
		assert_false(status.dirty || status.held);
		assert_int_equal(vs_caller_add(t.vs, a->id, &a->caller[0]), 0);

		while (fake_get(&fake[0].sent[0]))
			;
		assert_int_equal(t_send_one(b, 120, outside, b->mac, 3), 1);
		poll(b);
		assert_int_equal(fake[0].sent[0].put - fake[0].sent[0].got, 1);
		t_fill(data, 200, b->mac, outside, 6);
		fake_put(&fake[0].received[0], data, 200, 2048, 0);
		assert_true(poll(b) >= 1);
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 200, b->mac, outside, 6));
		while (t_receive(a, 0, &frame))
			;
	}
	/* Its buffers, in each round: what it held, no more. */
	assert_true(nic_lost(up.nic) <= 50 * 2 * VS_NIC_BURST);
}

static void dies_sending(void **state)
{
	dies(FAKE_DIES_IN_TX);
}

static void dies_receiving(void **state)
{
	dies(FAKE_DIES_IN_RX);
	assert_true(nic_lost(up.nic) > 0);
}

/* ---- two devices ---- */

static void await(int active, bool is_up)
{
	struct nic_link link;
	double begun = seconds();

	do {
		assert_int_equal(lib->link(up.nic, &link), 0);
		wait_ms(10);
	} while ((link.active != active || link.up != is_up) && seconds() - begun < 5);
	assert_int_equal(link.active, active);
	assert_int_equal(link.up, is_up);
}

static void failover(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct nic_info info;
	struct t_guest *a;
	uint8_t data[100];
	double begun;

	cfg.device[1] = "net_fake1";
	cfg.devices = 2;
	for (int i = 0; i < 2; i++)
		fake[i].tx_capa = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
				  RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	a = guest_up();
	port_up(&cfg);
	assert_int_equal(lib->info(up.nic, &info), 0);
	assert_int_equal(info.devices, 2);
	assert_int_equal(info.features, ELISA_NET_F_CSUM);
	assert_memory_equal(info.mac, fake[0].address, 6);
	await(0, true);
	assert_int_equal(t_send_one(a, 100, outside, a->mac, 1), 1);
	assert_int_equal(fake[0].sent[0].put, 1);

	begun = seconds();
	fake[0].link = false;
	await(1, true);
	printf("the other took over in %.0f ms\n", (seconds() - begun) * 1e3);
	assert_int_equal(t_send_one(a, 100, outside, a->mac, 2), 1);
	assert_int_equal(fake[0].sent[0].put, 1);
	assert_int_equal(fake[1].sent[0].put, 1);
	t_fill(data, 100, a->mac, outside, 3);
	fake_put(&fake[1].received[0], data, 100, 2048, 0);
	assert_int_equal(poll(a), 1);
	assert_true(t_receive(a, 0, &frame));
	assert_true(t_frame_is(&frame, 100, a->mac, outside, 3));

	/* The first one is preferred, */
	fake[0].link = true;
	await(0, true);
	fake[0].link = false;
	await(1, true);
	/* none of them is worse than one, */
	fake[1].link = false;
	await(-1, false);
	fake[0].link = true;
	await(0, true);
	assert_int_equal(t_send_one(a, 100, outside, a->mac, 4), 1);
	assert_int_equal(fake[0].sent[0].put, 2);
	/* and all of it holds after a new start. */
	while (vs_nic_hold(t.vs, up.port))
		;
	assert_int_equal(lib->start(up.nic, why), 0);
	port_release();
	await(0, true);
	assert_int_equal(t_send_one(a, 100, outside, a->mac, 5), 1);
	assert_int_equal(fake[0].sent[0].put, 3);
	assert_int_equal(nic_lost(up.nic), 0);
}

/* ---- what is received ---- */

static void addresses(void **state)
{
	uint8_t mac[8][6];
	uint16_t queue[8] = {1, 1, 1, 1, 1, 1, 1, 1};
	struct nic_config cfg = nic_config("net_fake0");
	struct nic_info info;

	fake[0].flow = true;
	cfg.queues = 2;
	port_up(&cfg);
	assert_int_equal(lib->info(up.nic, &info), 0);
	assert_true(info.flow);
	assert_true(fake[0].allmulti);
	for (unsigned int i = 0; i < 8; i++)
		memcpy(mac[i], ((uint8_t[6]){2, 0, 0, 0, 1, (uint8_t)i}), 6);
	assert_int_equal(lib->macs(up.nic, (const uint8_t(*)[6])mac, queue, 3), 3);
	assert_int_equal(fake[0].filters, 3);
	assert_int_equal(fake[0].flows, 3);
	assert_int_equal(fake[0].flow_queue, 1);
	assert_false(fake[0].promiscuous);
	/* The NIC's own needs no filter. */
	memcpy(mac[3], info.mac, 6);
	assert_int_equal(lib->macs(up.nic, (const uint8_t(*)[6])mac, NULL, 4), 4);
	assert_int_equal(fake[0].filters, 3);
	assert_int_equal(fake[0].flows, 0);
	assert_false(fake[0].promiscuous);
	/* More than it has filters. */
	assert_int_equal(lib->macs(up.nic, (const uint8_t(*)[6])mac, NULL, 8), FAKE_MACS + 1);
	assert_true(fake[0].promiscuous);
	/* Others than before. */
	assert_int_equal(lib->macs(up.nic, (const uint8_t(*)[6])(mac + 6), NULL, 2), 2);
	assert_int_equal(fake[0].filters, 2);
	assert_false(fake[0].promiscuous);
	assert_int_equal(lib->macs(up.nic, NULL, NULL, 0), 0);
	assert_int_equal(fake[0].filters, 0);
}

static void promiscuous(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	const uint8_t mac[1][6] = {{2, 0, 0, 0, 1, 1}};

	cfg.promiscuous = true;
	port_up(&cfg);
	assert_true(fake[0].promiscuous);
	assert_int_equal(lib->macs(up.nic, mac, NULL, 1), 1);
	assert_true(fake[0].promiscuous);
}

/* ---- what is said about it all ---- */

struct seen {
	unsigned int text, constants, data;
	bool driver, library, pool;
};

static int see(const struct nic_export *e, void *arg)
{
	struct seen *s = arg;
	Dl_info info;

	if (e->part == NIC_TEXT || e->part == NIC_CONST || e->part == NIC_DATA_R)
		assert_true(dladdr(e->addr, &info));
	s->text += e->part == NIC_TEXT;
	s->constants += e->part == NIC_CONST;
	s->data += e->part == NIC_DATA_R;
	s->driver |= !strcmp(e->name, "librte_net_fake.so");
	s->library |= !strncmp(e->name, "libvswitch-nic", 14);
	s->pool |= !strncmp(e->name, "librte_mempool_stack.so", 23);
	return 0;
}

static int refuse(const struct nic_export *e, void *arg)
{
	return -E2BIG;
}

static void exports(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct seen seen = {.text = 0};

	port_up(&cfg);
	assert_int_equal(lib->exports(up.nic, see, &seen), 0);
	assert_true(seen.driver && seen.library && seen.pool);
	assert_int_equal(seen.text, 3);
	assert_int_equal(seen.constants, 3);
	assert_int_equal(seen.data, 2);
	assert_int_equal(lib->exports(up.nic, refuse, NULL), -E2BIG);
}

static struct nic_memory heap;

static void keep(const struct nic_memory *m, bool there, void *arg)
{
	assert_true(there);
	heap = *m;
}

/* Others that map the memory file see what ops see. */
static void memory(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct nic_memory span;
	struct hand h;
	uint8_t *copy;

	port_up(&cfg);
	assert_int_equal(lib->memory(keep, NULL), 0);
	assert_int_equal(lib->span(&span), 0);
	assert_true((uint8_t *)heap.addr >= (uint8_t *)span.addr);
	assert_true((uint8_t *)heap.addr + heap.len <= (uint8_t *)span.addr + span.len);
	assert_true((uintptr_t)heap.addr >= 0x330000000000);
	assert_true(heap.fd >= 0);
	copy = mmap(NULL, heap.len, PROT_READ, MAP_SHARED, heap.fd, (off_t)heap.offset);
	assert_true(copy != MAP_FAILED);
	hand_take(&h, up.nic, 0);
	memset(hand_buffer(&h), 0xa5, 100);
	assert_memory_equal(copy + (hand_buffer(&h) - (uint8_t *)heap.addr), hand_buffer(&h), 100);
	munmap(copy, heap.len);
}

/* All that the checker is to see, and no harm done. */
static void exercised(void **state)
{
	static const char *const devices[] = {"net_ring3", "net_null0", "net_fake0"};

	for (int i = 0; i < 3; i++) {
		struct nic_config cfg = nic_config(devices[i]);
		struct nic_stats stats;

		fake[0].tx_capa = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
				  RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO |
				  RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
		up.nic = nic_up(&cfg);
		assert_true(lib->exercise(up.nic, 0) > 1000);
		assert_int_equal(lib->stats(up.nic, &stats), 0);
		assert_true(stats.tx_frames > 1000);
		assert_int_equal(lib->exercise(up.nic, 1), -EINVAL);
		assert_int_equal(lib->start(up.nic, why), 0);
		assert_int_equal(nic_lost(up.nic), 0);
		lib->remove(up.nic);
	}
}

/* More than half of DPDK's memory in one run: it still starts anew, and says so when it cannot. */
static void memory_for_one(void **state)
{
	struct nic_config cfg = nic_config("net_fake0");
	struct nic *nic;
	struct hand h;

	fake_reset();
	cfg.queues = FAKE_QUEUES;
	cfg.rx_ring = cfg.tx_ring = 3072;
	nic = nic_up(&cfg);
	for (int i = 0; i < 5; i++)
		assert_int_equal(lib->start(nic, why), 0);
	hand_take(&h, nic, 3);
	assert_true(hand_send(&h, (const uint8_t *)cfg.name, sizeof(cfg.name), 0, 0, 0));
	hand_tx(&h);
	assert_int_equal(fake[0].sent[3].put, 1);
	lib->remove(nic);
	cfg.rx_ring = cfg.tx_ring = 30000;
	assert_int_equal(lib->add(&cfg, &nic, why), 0);
	assert_int_equal(lib->start(nic, why), -ENOMEM);
	assert_non_null(strstr(why, "do not fit"));
	lib->remove(nic);
}

static void refused(void **state)
{
	struct nic_config cfg = nic_config("net_nothing0");
	struct nic *nic;

	assert_true(lib->add(&cfg, &nic, why) < 0);
	assert_non_null(strstr(why, "net_nothing0"));
	cfg = nic_config("0000:7f:1f.7");
	assert_true(lib->add(&cfg, &nic, why) < 0);
	assert_non_null(strstr(why, "0000:7f:1f.7"));
	cfg = nic_config("net_fake0");
	cfg.mtu = 20;
	assert_int_equal(lib->add(&cfg, &nic, why), -EINVAL);
	cfg.mtu = 1500;
	cfg.queues = FAKE_QUEUES + 1;
	assert_int_equal(lib->add(&cfg, &nic, why), 0);
	assert_true(lib->start(nic, why) < 0);
	assert_non_null(strstr(why, "5 queues"));
	lib->remove(nic);
	cfg.queues = 1;
	cfg.device[1] = "net_fake0";
	cfg.devices = 2;
	assert_int_equal(lib->add(&cfg, &nic, why), -EEXIST);
}

static void threads(void **state)
{
	assert_int_equal(lib->thread_begin(NULL), 0);
	lib->thread_end(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
		T(looped),
		T(restarted_with_frames_inside),
		T(looped_jumbo),
		T(queues),
		T(checksum_known),
		T(dies_sending),
		T(dies_receiving),
		T(failover),
		T(addresses),
		T(promiscuous),
		T(exports),
		T(memory),
		cmocka_unit_test(exercised),
		cmocka_unit_test(memory_for_one),
		cmocka_unit_test(refused),
		cmocka_unit_test(threads),
	};

	return cmocka_run_group_tests(tests, common_open, common_close);
}
