/* SPDX-License-Identifier: BSD-3-Clause */
/* The control side and the guest's operations other than TX. */
#include <sys/mman.h>
#include "harness.h"
#include <cmocka.h>

static struct t_switch t;
static struct t_frame frame;

static int setup(void **state)
{
	(void)state;
	t_create(&t, 1024);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t_destroy(&t);
	return 0;
}

static void configuration(void **state)
{
	const struct vs_config good = {
		.ports = 1, .guests = 1, .callers = 1, .fdb_capacity = VS_FDB_MIN, .generation = 1};
	struct vs_config bad[12];
	struct vswitch *vs;

	(void)state;
	for (int i = 0; i < 12; i++)
		bad[i] = good;
	bad[0].ports = 0;
	bad[1].ports = VS_PORTS_MAX + 1;
	bad[2].guests = 0;
	bad[3].guests = VS_GUESTS_MAX + 1;
	bad[4].callers = 0;
	bad[5].callers = VS_CALLERS_MAX + 1;
	bad[6].fdb_capacity = VS_FDB_MIN - 1;
	bad[7].fdb_capacity = VS_FDB_MAX + 1;
	bad[8].generation = 0;
	for (int i = 0; i < 9; i++) {
		assert_int_equal(vs_arena_size(&bad[i]), 0);
		assert_int_equal(vs_create(t.arena, t.arena_len, &bad[i], &vs), -ELISA_EINVAL);
	}
	assert_true(vs_arena_size(&good) > 0);
	assert_int_equal(vs_create(t.arena, vs_arena_size(&good) - 1, &good, &vs), -ELISA_EINVAL);
	assert_int_equal(vs_create((char *)t.arena + 64, t.arena_len, &good, &vs), -ELISA_EINVAL);
	bad[9].ports = VS_PORTS_MAX;
	bad[9].guests = VS_GUESTS_MAX;
	bad[9].callers = VS_CALLERS_MAX;
	bad[9].fdb_capacity = VS_FDB_MAX;
	assert_in_range(vs_arena_size(&bad[9]), 64 << 20, 128 << 20);
}

/* A switch that fills exactly what it asked for, with inaccessible pages around. */
static void arena_is_all_it_uses(void **state)
{
	const struct vs_config cfg = {
		.ports = 3, .guests = 2, .callers = 3, .fdb_capacity = 1025, .generation = 9};
	size_t len = vs_arena_size(&cfg);
	uint8_t *map = mmap(NULL, len + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vs_port_config port = {.mac = {2}, .mtu = 68, .queues = 16};
	struct vs_caller *caller;
	struct vswitch *vs;

	(void)state;
	mprotect(map + 4096, len, PROT_READ | PROT_WRITE);
	assert_int_equal(vs_create(map + 4096, len, &cfg, &vs), 0);
	for (int i = 0; i < 3; i++) {
		snprintf(port.name, sizeof(port.name), "n%d", i);
		assert_int_equal(vs_port_add(vs, &port), i);
	}
	snprintf(port.name, sizeof(port.name), "n4");
	assert_int_equal(vs_port_add(vs, &port), -28);
	assert_int_equal(vs_guest_add(vs, "x", NULL, 0), 0);
	assert_int_equal(vs_guest_add(vs, "y", NULL, 0), 1);
	assert_int_equal(vs_guest_add(vs, "z", NULL, 0), -28);
	for (int i = 0; i < 3; i++)
		assert_int_equal(vs_caller_add(vs, 1, &caller), 0);
	assert_int_equal(vs_caller_add(vs, 1, &caller), -28);
	assert_int_equal(vs_fdb_flush(vs, -1), 0);
	vs_tick(vs, 1);
	munmap(map, len + 8192);
}

static void regions(void **state)
{
	static uint8_t at[8192] __attribute__((aligned(4096)));
	const struct vs_region bad[][2] = {
		{{0x1000, 0x8000, at}},	 /* short */
		{{0x1001, 0x10000, at}}, /* unaligned */
		{{0x1000, 0x10001, at}},
		{{0x1000, 0x10000, at + 1}},
		{{0x1000, 0x10000, NULL}},
		{{UINT64_MAX - 0xfff, 0x10000, at}}, /* too high */
		{{0x1000, UINT64_MAX - 0xfff, at}},
		{{0x1000, 0x10000, at}, {0x1000, 0x10000, at}}, /* overlap */
		{{0x1000, 0x10000, at}, {0x10000, 0x20000, at}},
		{{0x20000, 0x10000, at}, {0x10000, 0x40000, at}},
	};
	struct vs_region many[VS_REGIONS_MAX + 1];

	(void)state;
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vs_guest_add(t.vs, "g", bad[i], bad[i][1].addr ? 2 : 1),
				 -ELISA_EINVAL);
	for (unsigned int i = 0; i <= VS_REGIONS_MAX; i++)
		many[i] = (struct vs_region){i * 0x100000ull, 0x10000 * (i % 5 + 1), at};
	assert_int_equal(vs_guest_add(t.vs, "g", many, VS_REGIONS_MAX + 1), -ELISA_EINVAL);
	assert_int_equal(vs_guest_add(t.vs, "g", many, VS_REGIONS_MAX), 0);
	assert_int_equal(vs_guest_del(t.vs, 0), 0);
	assert_int_equal(vs_guest_del(t.vs, 0), -ELISA_ENODEV);
}

/* Buffers in several regions, the rings in the shortest one. */
static void several_regions(void **state)
{
	struct t_guest *a = t_guest(&t, true), *b = t_guest_up(&t, true);
	struct vs_region r[3];
	struct vs_caller *caller;
	int id;

	(void)state;
	/* Its RAM once more as a guest with three pieces that lie elsewhere in GPA space. */
	for (int i = 0; i < 3; i++)
		r[i] = (struct vs_region){(3 - (uint64_t)i) << 32, 0x10000u << i,
					  a->ram + 0x100000 * i};
	assert_int_equal(vs_port_unbind(t.vs, a->port), 0);
	id = vs_guest_add(t.vs, "three", r, 3);
	assert_true(id >= 0);
	assert_int_equal(vs_port_bind(t.vs, a->port, id), 0);
	assert_int_equal(vs_caller_add(t.vs, id, &caller), 0);
	struct elisa_queue_setup *s = (void *)a->ram;
	struct elisa_txd *txd = (void *)(a->ram + 0x1000);
	struct elisa_rx *rx = (void *)(a->ram + 0x2000);
	struct elisa_rxc *comp = (void *)(a->ram + 0x3000);

	*s = (struct elisa_queue_setup){.revision = ELISA_NET_REVISION,
					.tx_size = 8,
					.rx_size = 8,
					.rx_buf_len = 2048,
					.tx_ring = (3ull << 32) + 0x1000,
					.rx_ring = (3ull << 32) + 0x2000,
					.rx_comp = (3ull << 32) + 0x3000};
	int64_t handle = vs_entry(caller, ELISA_NET_QUEUE_SETUP, 3ull << 32, 0, 0, 0);

	assert_true(handle > 0);
	for (uint32_t i = 0; i < 8; i++)
		rx->addr[i] = r[i % 3].gpa + r[i % 3].len - 2048;
	__atomic_store_n(&rx->posted, 8, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < 8; i++) {
		uint8_t *buf = (uint8_t *)r[i % 3].addr + r[i % 3].len - 2048;

		t_send_one(b, 100, a->mac, b->mac, i);
		assert_int_equal(comp[i].seq, i + 1);
		assert_int_equal(comp[i].len, 100);
		frame.len = 100;
		frame.aborted = false;
		memcpy(frame.data, buf, 100);
		assert_true(t_frame_is(&frame, 100, a->mac, b->mac, i));
		t_fill(buf + 1048, 1000, b->mac, a->mac, i % 3);
		txd[i] =
			(struct elisa_txd){.addr = r[i % 3].gpa + r[i % 3].len - 1000, .len = 1000};
	}
	assert_int_equal(vs_entry(caller, ELISA_NET_TX, (uint64_t)handle, 0, 8, 0), 8);
	for (uint32_t i = 0; i < 8; i++) {
		assert_true(t_receive(b, 0, &frame));
		assert_true(t_frame_is(&frame, 1000, b->mac, a->mac, i % 3));
	}
	/* A ring does not go on from one region into the next. */
	s->tx_ring = (3ull << 32) + 0xffc0;
	assert_int_equal(vs_entry(caller, ELISA_NET_QUEUE_SETUP, 3ull << 32, 0, 0, 0),
			 -ELISA_EFAULT);
}

/* Of 64 KiB, the shortest there is: a ring may be longer. */
static void ring_longer_than_its_region(void **state)
{
	struct t_guest *a = t_guest(&t, true);
	const struct vs_region r = {T_GPA, VS_REGION_MIN, a->ram};
	struct elisa_queue_setup s = {.revision = ELISA_NET_REVISION, .tx_size = ELISA_RING_MAX};
	struct vs_caller *caller;
	int id = vs_guest_add(t.vs, "small", &r, 1);

	(void)state;
	assert_true(id >= 0);
	assert_int_equal(vs_port_unbind(t.vs, a->port), 0);
	assert_int_equal(vs_port_bind(t.vs, a->port, id), 0);
	assert_int_equal(vs_caller_add(t.vs, id, &caller), 0);
	for (s.tx_ring = T_GPA; s.tx_ring < T_GPA + VS_REGION_MIN; s.tx_ring += 4096) {
		memcpy(a->ram, &s, sizeof(s));
		assert_int_equal(vs_entry(caller, ELISA_NET_QUEUE_SETUP, T_GPA, 0, 0, 0),
				 -ELISA_EFAULT);
	}
}

static void names_and_ports(void **state)
{
	struct vs_port_config good = {.name = "a", .mac = {2}, .mtu = 1500, .queues = 1}, c;
	const char *bad[] = {"", " ", "a b", "ä", "a/b", "a\n"};
	struct vs_port_info info;

	(void)state;
	for (int i = 0; i < 6; i++) {
		c = good;
		snprintf(c.name, sizeof(c.name), "%s", bad[i]);
		assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	}
	c = good;
	memset(c.name, 'x', sizeof(c.name));
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	c = good;
	c.mac[0] = 0;
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	c.mac[0] = 1;
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	c = good;
	c.mtu = 67;
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	c.mtu = ELISA_MTU_MAX + 1;
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	c = good;
	c.queues = 0;
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	c.queues = ELISA_QUEUES_MAX + 1;
	assert_int_equal(vs_port_add(t.vs, &c), -ELISA_EINVAL);
	assert_int_equal(vs_port_add(t.vs, &good), 0);
	assert_int_equal(vs_port_add(t.vs, &good), -17);
	assert_int_equal(vs_port_by_name(t.vs, "a"), 0);
	assert_int_equal(vs_port_by_name(t.vs, "b"), -ELISA_ENODEV);
	assert_int_equal(vs_port_info(t.vs, 0, &info), 0);
	assert_string_equal(info.config.name, "a");
	assert_int_equal(info.guest, -1);
	assert_false(info.link);
	assert_int_equal(vs_port_info(t.vs, 1, &info), -ELISA_ENODEV);
	assert_int_equal(vs_port_info(t.vs, -1, &info), -ELISA_ENODEV);
	c = good;
	c.queues = 2;
	assert_int_equal(vs_port_set(t.vs, 0, &c), -ELISA_EBUSY);
	c = good;
	c.mtu = 9000;
	assert_int_equal(vs_port_set(t.vs, 0, &c), 0);
	assert_int_equal(vs_port_set(t.vs, 1, &c), -ELISA_ENODEV);
	assert_int_equal(vs_port_del(t.vs, 0), 0);
	assert_int_equal(vs_port_del(t.vs, 0), -ELISA_ENODEV);
	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++)
		assert_non_null(vs_drop_name(i));
	assert_null(vs_drop_name(ELISA_DROP_COUNT));
	assert_string_equal(vs_drop_name(ELISA_DROP_TX_SPOOFED), "tx-spoofed-source");
}

static void binding(void **state)
{
	struct vs_port_config c = {.mac = {2}, .mtu = 1500, .queues = 1};
	struct vs_port_info info;
	int guest = vs_guest_add(t.vs, "g", NULL, 0), port[9];

	(void)state;
	for (int i = 0; i < 9; i++) {
		snprintf(c.name, sizeof(c.name), "n%d", i);
		port[i] = vs_port_add(t.vs, &c);
		assert_int_equal(vs_port_bind(t.vs, port[i], guest),
				 i < ELISA_PORTS_PER_VM ? 0 : -28);
	}
	assert_int_equal(vs_port_bind(t.vs, port[0], guest), -ELISA_EBUSY);
	assert_int_equal(vs_port_bind(t.vs, port[8], 5), -ELISA_ENODEV);
	assert_int_equal(vs_port_del(t.vs, port[0]), -ELISA_EBUSY);
	assert_int_equal(vs_guest_del(t.vs, guest), -ELISA_EBUSY);
	assert_int_equal(vs_port_unbind(t.vs, port[3]), 0);
	assert_int_equal(vs_port_unbind(t.vs, port[3]), -ELISA_ENODEV);
	assert_int_equal(vs_port_bind(t.vs, port[8], guest), 0);
	assert_int_equal(vs_port_info(t.vs, port[8], &info), 0);
	assert_int_equal(info.guest, guest);
	assert_int_equal(info.guest_index, 3);
	for (int i = 0; i < 9; i++)
		if (i != 3)
			assert_int_equal(vs_port_unbind(t.vs, port[i]), 0);
	assert_int_equal(vs_guest_del(t.vs, guest), 0);
}

static void simple_operations(void **state)
{
	struct t_guest *g = t_guest(&t, true);
	int64_t hello = t_call(g, ELISA_OP_HELLO, ELISA_ABI_REVISION, 0);

	(void)state;
	assert_int_equal(hello >> 48, ELISA_HELLO_MAGIC);
	assert_int_equal(hello >> 32 & 0xffff, ELISA_SERVICE_SWITCH);
	assert_int_not_equal((uint32_t)hello, 0);
	assert_int_equal(t_call(g, ELISA_OP_HELLO, 0, 0), -ELISA_EPROTO);
	assert_int_equal(t_call(g, ELISA_OP_HELLO, 2, 0), -ELISA_EPROTO);
	assert_int_equal(t_call(g, ELISA_OP_NOP, 1, 2), 0);
	for (uint64_t op = 2; op < 100; op++)
		if (op < ELISA_NET_PORT_INFO || op > ELISA_NET_POLL)
			assert_int_equal(t_call(g, op, 0, 0), -ELISA_ENOSYS);
	assert_int_equal(t_call(g, UINT64_MAX, 0, 0), -ELISA_ENOSYS);
	assert_int_equal(vs_caller_calls(g->caller[0]), 4 + 88 + 1);
	assert_int_equal(vs_caller_calls(g->caller[1]), 0);
	/* Another guest, another generation. */
	assert_int_not_equal(t_call(t_guest(&t, true), ELISA_OP_HELLO, 1, 0), hello);
	vs_guest_reset(t.vs, g->id);
	assert_int_not_equal(t_call(g, ELISA_OP_HELLO, 1, 0), hello);
}

static void port_information(void **state)
{
	struct t_guest *g = t_guest(&t, true);
	uint64_t at = t_alloc(g, 512, 8);
	struct elisa_port_info *info = t_at(g, at);
	struct elisa_port_counters *c = t_at(g, at);

	(void)state;
	assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, 0, at), 0);
	assert_int_equal(info->revision, ELISA_NET_REVISION);
	assert_int_equal(info->port, 0);
	assert_int_equal(info->ports, 1);
	assert_memory_equal(info->mac, g->mac, 6);
	assert_int_equal(info->mtu, 1500);
	assert_int_equal(info->queues, 2);
	assert_int_equal(info->features, ELISA_NET_F_ALL);
	assert_int_equal(info->link, 0);
	assert_string_equal(info->name, "p0");
	assert_int_equal(t_call(g, ELISA_NET_LINK, 0, 0), 1500 << 16);
	assert_true(t_setup(g, 0, 8, 8, 2048) > 0);
	assert_int_equal(t_call(g, ELISA_NET_LINK, 0, 0), 1500 << 16 | ELISA_LINK_UP);
	assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, 0, at), 0);
	assert_int_equal(info->link, ELISA_LINK_UP);
	for (uint64_t i = 1; i < 20; i++) {
		assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, i, at), -ELISA_ENODEV);
		assert_int_equal(t_call(g, ELISA_NET_LINK, i, 0), -ELISA_ENODEV);
		assert_int_equal(t_call(g, ELISA_NET_COUNTERS, i, at), -ELISA_ENODEV);
	}
	assert_int_equal(t_call(g, ELISA_NET_LINK, 1ull << 32, 0), -ELISA_ENODEV);
	const uint64_t bad[] = {0, T_GPA - 1, T_GPA + T_RAM - 79, UINT64_MAX, UINT64_MAX - 79};

	for (int i = 0; i < 5; i++) {
		assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, 0, bad[i]), -ELISA_EFAULT);
		assert_int_equal(t_call(g, ELISA_NET_COUNTERS, 0, bad[i]), -ELISA_EFAULT);
	}
	assert_int_equal(t_call(g, ELISA_NET_QUEUE_SETUP, T_GPA + T_RAM - 55, 0), -ELISA_EFAULT);
	assert_int_equal(t_call(g, ELISA_NET_QUEUE_SETUP, T_GPA - 1, 0), -ELISA_EFAULT);
	assert_int_equal(t_call(g, ELISA_NET_QUEUE_SETUP, UINT64_MAX - 7, 0), -ELISA_EFAULT);
	assert_int_equal(t_call(g, ELISA_NET_PORT_INFO, 0, T_GPA + T_RAM - 80), 0);
	t_post(&g->q[0], 8);
	t_send_one(g, 60, t_broadcast, g->mac, 0);
	assert_int_equal(t_call(g, ELISA_NET_COUNTERS, 0, at), 0);
	assert_int_equal(c->drops[ELISA_DROP_TX_NO_PORT], 1);
	assert_int_equal(c->tx_calls, 1);
}

static void queue_setup_arguments(void **state)
{
	struct t_guest *g = t_guest(&t, true);
	struct elisa_queue_setup *s, good;
	struct vs_queue_info info;
	uint64_t end = T_GPA + T_RAM;

	(void)state;
	assert_true(t_setup(g, 0, 8, 8, 2048) > 0);
	s = t_at(g, g->q[0].setup);
	good = *s;
#define WITH(change, error)                                                                     \
	do {                                                                                    \
		*s = good;                                                                      \
		change;                                                                         \
		assert_int_equal(t_call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0), -(error)); \
	} while (0)
	WITH(s->revision = 0, ELISA_EPROTO);
	WITH(s->revision = 1, ELISA_EPROTO);
	WITH(s->port = 1, ELISA_ENODEV);
	WITH(s->port = 8, ELISA_ENODEV);
	WITH(s->port = 0xffff, ELISA_ENODEV);
	WITH(s->queue = 2, ELISA_ENODEV);
	WITH(s->queue = 0xffff, ELISA_ENODEV);
	WITH(s->features = ELISA_NET_F_ALL + 1, ELISA_EINVAL);
	WITH(s->features = 1u << 31, ELISA_EINVAL);
	WITH(s->features = ELISA_NET_F_TSO4, ELISA_EINVAL);
	WITH(s->features = ELISA_NET_F_TSO6 | ELISA_NET_F_EVENT, ELISA_EINVAL);
	WITH(s->reserved = 1, ELISA_EINVAL);
	WITH(s->tx_size = 4, ELISA_EINVAL);
	WITH(s->tx_size = 9, ELISA_EINVAL);
	WITH(s->tx_size = 65536, ELISA_EINVAL);
	WITH(s->rx_size = 1u << 31, ELISA_EINVAL);
	WITH(s->rx_size = 12, ELISA_EINVAL);
	WITH(s->tx_size = s->rx_size = 0, ELISA_EINVAL);
	WITH(s->rx_buf_len = 255, ELISA_EINVAL);
	WITH(s->rx_buf_len = 65536, ELISA_EINVAL);
	WITH(s->tx_ring += 32, ELISA_EINVAL);
	WITH(s->rx_ring += 16, ELISA_EINVAL);
	WITH(s->rx_comp += 8, ELISA_EINVAL);
	WITH(s->tx_ring = end, ELISA_EFAULT);
	WITH(s->tx_ring = end - 64, ELISA_EFAULT);
	WITH(s->tx_ring = T_GPA - 64, ELISA_EFAULT);
	WITH(s->rx_ring = end - 64, ELISA_EFAULT);
	WITH(s->rx_comp = end - 64, ELISA_EFAULT);
	WITH(s->rx_comp = UINT64_MAX - 63, ELISA_EFAULT);
	WITH(s->tx_ring = 0, ELISA_EFAULT);
#undef WITH
	/* None of these touched the queue. */
	assert_int_equal(vs_port_queue(t.vs, g->port, 0, &info), 0);
	assert_true(info.set_up);
	assert_int_equal(t_send(g, 0, 0), 0);
	*s = good;
	s->tx_ring = end - 8 * sizeof(struct elisa_txd);
	s->features = ELISA_NET_F_ALL;
	int64_t handle = t_call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);

	assert_true(handle > 0 && handle != g->q[0].handle);
	assert_int_equal(t_send(g, 0, 0), -ELISA_ESTALE);
	assert_int_equal(vs_port_queue(t.vs, g->port, 0, &info), 0);
	assert_int_equal(info.features, ELISA_NET_F_ALL);
	assert_int_equal(vs_port_queue(t.vs, g->port, 2, &info), -ELISA_ENODEV);
	assert_int_equal(vs_port_queue(t.vs, 70, 0, &info), -ELISA_ENODEV);
}

static void queue_reset(void **state)
{
	struct t_guest *g = t_guest_up(&t, true), *h = t_guest_up(&t, true);
	struct vs_queue_info info;

	(void)state;
	t_send_one(g, 60, t_broadcast, g->mac, 0);
	assert_int_equal(vs_port_queue(t.vs, h->port, 0, &info), 0);
	assert_int_equal(info.tx_size, T_SIZE);
	assert_int_equal(info.rx_size, T_SIZE);
	assert_int_equal(info.rx_buf_len, T_BUF);
	assert_int_equal(info.rx_reserved, 1);
	assert_int_equal(info.rx_posted, T_SIZE);
	assert_int_equal(info.rx_frames, 1);
	assert_int_equal(info.rx_bytes, 60);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_RESET, 2, 0), -ELISA_ENODEV);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_RESET, 1 << 16, 0), -ELISA_ENODEV);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_RESET, 1ull << 40, 0), -ELISA_ENODEV);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_RESET, 0, 0), 0);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_RESET, 0, 0), 0);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_RESET, 1, 0), 0);
	assert_int_equal(vs_port_queue(t.vs, h->port, 0, &info), 0);
	assert_false(info.set_up);
	assert_int_equal(info.rx_size, 0);
	assert_int_equal(info.rx_frames, 1);
	assert_int_equal(t_send(h, 0, 1), -ELISA_ESTALE);
	assert_int_equal(t_call(h, ELISA_NET_LINK, 0, 0), 1500 << 16);
}

/* What the host takes away is away at once, and comes back by a new set-up. */
static void host_takes_queues_down(void **state)
{
	struct t_guest *g = t_guest_up(&t, true), *h = t_guest_up(&t, true);
	uint32_t before = (uint32_t)t_call(h, ELISA_OP_HELLO, 1, 0);

	(void)state;
	t_send_one(h, 60, t_broadcast, h->mac, 0);
	assert_true(t_receive(g, 0, &frame));
	assert_int_equal(vs_guest_reset(t.vs, h->id), 0);
	assert_int_not_equal((uint32_t)t_call(h, ELISA_OP_HELLO, 1, 0), before);
	assert_int_equal(t_send(h, 0, 1), -ELISA_ESTALE);
	t_send_one(g, 60, h->mac, g->mac, 0);
	assert_int_equal(t_drops(&t, h, ELISA_DROP_RX_LINK_DOWN), 1);
	assert_true(t_setup(h, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	t_post(&h->q[0], T_SIZE);
	t_send_one(g, 60, h->mac, g->mac, 0);
	assert_true(t_receive(h, 0, &frame));
	assert_int_equal(vs_port_unbind(t.vs, h->port), 0);
	assert_int_equal(t_send(h, 0, 1), -ELISA_ESTALE);
	assert_int_equal(t_call(h, ELISA_NET_QUEUE_SETUP, h->q[0].setup, 0), -ELISA_ENODEV);
	assert_int_equal(t_call(h, ELISA_NET_LINK, 0, 0), -ELISA_ENODEV);
	t_send_one(g, 60, h->mac, g->mac, 0);
	assert_int_equal(t_drops(&t, h, ELISA_DROP_RX_LINK_DOWN), 2);
	assert_int_equal(vs_port_bind(t.vs, h->port, h->id), 0);
	assert_int_equal(t_send(h, 0, 1), -ELISA_ESTALE);
	assert_true(t_setup(h, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	assert_int_equal(t_send_one(h, 60, g->mac, h->mac, 0), 1);
	assert_true(t_receive(g, 0, &frame));
}

/* Attach and detach over and over: nothing is used up. */
static void soak(void **state)
{
	struct t_guest *g = t_guest_up(&t, true);

	(void)state;
	for (int i = 0; i < 500; i++) {
		struct vs_port_config cfg = {.mac = {2, 5},
					     .mtu = 1500,
					     .queues = 1,
					     .up = true,
					     .groups = 1,
					     .name = "again"};
		struct vs_region region = {T_GPA, T_RAM / 2, g->ram + T_RAM / 2};
		struct vs_caller *caller;
		int guest = vs_guest_add(t.vs, "again", &region, 1), port;
		uint64_t ticket;

		assert_true(guest >= 0);
		port = vs_port_add(t.vs, &cfg);
		assert_true(port >= 0);
		assert_int_equal(vs_port_bind(t.vs, port, guest), 0);
		assert_int_equal(vs_caller_add(t.vs, guest, &caller), 0);
		struct elisa_queue_setup s = {.revision = ELISA_NET_REVISION,
					      .tx_size = 8,
					      .rx_size = 8,
					      .rx_buf_len = 2048,
					      .tx_ring = T_GPA + 4096,
					      .rx_ring = T_GPA + 8192,
					      .rx_comp = T_GPA + 16384};

		memcpy(g->ram + T_RAM / 2, &s, sizeof(s));
		assert_true(vs_entry(caller, ELISA_NET_QUEUE_SETUP, T_GPA, 0, 0, 0) > 0);
		t_send_one(g, 60, t_broadcast, g->mac, 0);
		assert_int_equal(vs_port_unbind(t.vs, port), 0);
		vs_caller_del(t.vs, caller);
		ticket = vs_grace_begin(t.vs);
		assert_true(vs_grace_done(t.vs, ticket));
		assert_int_equal(vs_grace_holders(t.vs, ticket, NULL, 0), 0);
		assert_int_equal(vs_port_del(t.vs, port), 0);
		assert_int_equal(vs_guest_del(t.vs, guest), 0);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(configuration),	 TEST(arena_is_all_it_uses),   TEST(regions),
		TEST(several_regions),	 TEST(names_and_ports),	       TEST(binding),
		TEST(ring_longer_than_its_region),
		TEST(simple_operations), TEST(port_information),       TEST(queue_setup_arguments),
		TEST(queue_reset),	 TEST(host_takes_queues_down), TEST(soak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
