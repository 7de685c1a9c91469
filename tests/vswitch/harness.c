/* SPDX-License-Identifier: BSD-3-Clause */
#include <sys/mman.h>
#include "harness.h"

const uint8_t t_broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
int t_map_flags = MAP_PRIVATE;

#define PAGE 4096ul
static size_t page_up(size_t len)
{
	return (len + PAGE - 1) & -PAGE;
}

void *t_map(size_t len)
{
	uint8_t *map =
		mmap(NULL, page_up(len) + 2 * PAGE, PROT_NONE, t_map_flags | MAP_ANONYMOUS, -1, 0);

	CHECK(map != MAP_FAILED);
	CHECK(mprotect(map + PAGE, page_up(len), PROT_READ | PROT_WRITE) == 0);
	return map + PAGE;
}

void t_unmap(void *at, size_t len)
{
	munmap((uint8_t *)at - PAGE, page_up(len) + 2 * PAGE);
}

void t_create_as(struct t_switch *t, const struct vs_config *cfg)
{
	memset(t, 0, sizeof(*t));
	t->arena_len = vs_arena_size(cfg);
	CHECK(t->arena_len);
	t->arena = t_map(t->arena_len);
	CHECK(vs_create(t->arena, t->arena_len, cfg, &t->vs) == 0);
}

void t_create_with(struct t_switch *t, uint32_t fdb_capacity, bool bridge_nics)
{
	struct vs_config cfg = {
		.ports = 80,
		.guests = T_GUESTS,
		.callers = 64,
		.fdb_capacity = fdb_capacity,
		.fdb_age_s = 300,
		.generation = 7,
		.bridge_nics = bridge_nics,
	};

	t_create_as(t, &cfg);
}

void t_create(struct t_switch *t, uint32_t fdb_capacity)
{
	t_create_with(t, fdb_capacity, false);
}

void t_destroy(struct t_switch *t)
{
	for (unsigned int i = 0; i < t->guests; i++)
		t_unmap(t->guest[i].ram, T_RAM);
	t_unmap(t->arena, t->arena_len);
}

struct t_guest *t_guest_with(struct t_switch *t, bool anti_spoof, unsigned int queues)
{
	struct t_guest *g = &t->guest[t->guests];
	struct vs_port_config cfg = {
		.mac = {2, 0, 0, 0, 0, (uint8_t)(t->guests + 1)},
		.mtu = 1500,
		.queues = (uint16_t)queues,
		.up = true,
		.anti_spoof = anti_spoof,
		.groups = VS_GROUPS_DEFAULT,
	};
	struct vs_region region = {.gpa = T_GPA, .len = T_RAM};

	CHECK(t->guests < T_GUESTS);
	g->ram = t_map(T_RAM);
	region.addr = g->ram;
	snprintf(cfg.name, sizeof(cfg.name), "p%u", t->guests);
	memcpy(g->mac, cfg.mac, 6);
	g->id = vs_guest_add(t->vs, cfg.name, &region, 1);
	CHECK(g->id >= 0);
	g->port = vs_port_add(t->vs, &cfg);
	CHECK(g->port >= 0);
	CHECK(vs_port_bind(t->vs, g->port, g->id) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(vs_caller_add(t->vs, g->id, &g->caller[i]) == 0);
	t->guests++;
	return g;
}

struct t_guest *t_guest(struct t_switch *t, bool anti_spoof)
{
	return t_guest_with(t, anti_spoof, 2);
}

struct t_guest *t_guest_up(struct t_switch *t, bool anti_spoof)
{
	struct t_guest *g = t_guest(t, anti_spoof);

	CHECK(t_setup(g, 0, T_SIZE, T_SIZE, T_BUF) > 0);
	t_post(&g->q[0], T_SIZE);
	return g;
}

uint64_t t_alloc(struct t_guest *g, uint64_t len, uint64_t align)
{
	uint64_t at = (g->used + align - 1) / align * align;

	g->used = at + len;
	CHECK(g->used <= T_RAM);
	return T_GPA + at;
}

void *t_at(struct t_guest *g, uint64_t gpa)
{
	CHECK(gpa >= T_GPA && gpa < T_GPA + T_RAM);
	return g->ram + (gpa - T_GPA);
}

int64_t t_call(struct t_guest *g, uint64_t op, uint64_t a1, uint64_t a2)
{
	return vs_entry(g->caller[0], op, a1, 0xdead, a2, 0xbeef);
}

int64_t t_setup(struct t_guest *g, unsigned int queue, uint32_t tx_size, uint32_t rx_size,
		uint32_t buf_len)
{
	return t_setup_with(g, queue, tx_size, rx_size, buf_len, 0);
}

int64_t t_setup_with(struct t_guest *g, unsigned int queue, uint32_t tx_size, uint32_t rx_size,
		     uint32_t buf_len, uint32_t features)
{
	struct t_queue *q = &g->q[queue];
	struct elisa_queue_setup s = {
		.revision = ELISA_NET_REVISION,
		.queue = (uint16_t)queue,
		.tx_size = tx_size,
		.rx_size = rx_size,
		.rx_buf_len = rx_size ? buf_len : 0,
		.features = features,
	};

	s.tx_ring = t_alloc(g, tx_size * sizeof(struct elisa_txd), 64);
	s.rx_ring = t_alloc(g, sizeof(struct elisa_rx) + rx_size * 8, 64);
	s.rx_comp = t_alloc(g, rx_size * sizeof(struct elisa_rxc), 64);
	*q = (struct t_queue){.tx_size = tx_size, .rx_size = rx_size, .buf_len = buf_len};
	q->txd = (void *)(g->ram + (s.tx_ring - T_GPA));
	q->rx = (void *)(g->ram + (s.rx_ring - T_GPA));
	q->comp = (void *)(g->ram + (s.rx_comp - T_GPA));
	/* Used before, perhaps. */
	memset(q->comp, 0, rx_size * sizeof(struct elisa_rxc));
	if (rx_size)
		q->rx->posted = 0;
	q->setup = t_alloc(g, sizeof(s), 8);
	memcpy(t_at(g, q->setup), &s, sizeof(s));
	/* Odd strides, so that nothing is aligned by luck. */
	q->buffers = t_alloc(g, (uint64_t)rx_size * (buf_len + 64), 64);
	q->tx_buffers = t_alloc(g, (uint64_t)tx_size * (T_BUF + 64), 64);
	q->handle = t_call(g, ELISA_NET_QUEUE_SETUP, q->setup, 0);
	return q->handle;
}

void t_post(struct t_queue *q, uint32_t count)
{
	uint32_t posted = q->rx->posted;

	for (uint32_t i = 0; i < count; i++, posted++)
		q->rx->addr[posted % q->rx_size] =
			q->buffers + (uint64_t)(posted % q->rx_size) * (q->buf_len + 64);
	__atomic_store_n(&q->rx->posted, posted, __ATOMIC_RELEASE);
}

void t_fill(uint8_t *at, uint32_t len, const uint8_t dst[6], const uint8_t src[6], uint32_t seed)
{
	for (uint32_t i = 0; i < len; i++)
		at[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
	for (uint32_t i = 0; i < len && i < 6; i++)
		at[i] = dst[i];
	for (uint32_t i = 6; i < len && i < 12; i++)
		at[i] = src[i - 6];
	if (len > 12)
		at[12] = 0x08;
	if (len > 13)
		at[13] = 0x00;
	if (len >= 20)
		memcpy(at + 14, &seed, 4);
}

void t_desc(struct t_queue *q, uint64_t addr, uint16_t len, uint16_t flags)
{
	struct elisa_txd *d = &q->txd[q->tx_next++ % q->tx_size];

	d->addr = addr;
	d->len = len;
	d->flags = flags;
	d->csum_start = 0;
	d->gso_size = 0;
}

void t_frame_put(struct t_guest *g, unsigned int queue, uint32_t len, const uint8_t dst[6],
		 const uint8_t src[6], uint32_t seed)
{
	struct t_queue *q = &g->q[queue];
	uint64_t at = q->tx_buffers + (uint64_t)(q->tx_next % q->tx_size) * (T_BUF + 64);

	t_fill(t_at(g, at), len, dst, src, seed);
	t_desc(q, at, (uint16_t)len, 0);
}

int64_t t_send(struct t_guest *g, unsigned int queue, uint32_t count)
{
	int64_t result = t_call(g, ELISA_NET_TX, (uint64_t)g->q[queue].handle, count);

	g->bell = result > 0 && result & ELISA_TX_BELL;
	return result < 0 ? result : result & ELISA_TX_TAKEN;
}

int64_t t_send_one(struct t_guest *g, uint32_t len, const uint8_t dst[6], const uint8_t src[6],
		   uint32_t seed)
{
	t_frame_put(g, 0, len, dst, src, seed);
	return t_send(g, 0, 1);
}

/* The word with the sequence number, read as the one that the switch writes. */
static bool comp_ready(struct t_queue *q, uint32_t index)
{
	uint64_t *word = (uint64_t *)(void *)&q->comp[index % q->rx_size] + 1;

	return (uint32_t)(__atomic_load_n(word, __ATOMIC_ACQUIRE) >> 32) == index + 1;
}

bool t_receive(struct t_guest *g, unsigned int queue, struct t_frame *frame)
{
	struct t_queue *q = &g->q[queue];
	uint32_t slots = 0;
	bool more = true;

	frame->len = 0;
	frame->aborted = false;
	while (more) {
		uint32_t index = q->rx_next + slots;
		struct elisa_rxc *c = &q->comp[index % q->rx_size];

		if (!comp_ready(q, index))
			return false;
		CHECK(c->len <= q->buf_len && frame->len + c->len <= sizeof(frame->data));
		if (c->flags & ELISA_RXC_ABORTED)
			frame->aborted = true;
		else
			memcpy(frame->data + frame->len, t_at(g, q->rx->addr[index % q->rx_size]),
			       c->len);
		frame->len += c->len;
		more = c->flags & ELISA_NET_MORE;
		slots++;
	}
	q->rx_next += slots;
	t_post(q, slots);
	return true;
}

bool t_frame_is(const struct t_frame *frame, uint32_t len, const uint8_t dst[6],
		const uint8_t src[6], uint32_t seed)
{
	static __thread uint8_t expected[ELISA_FRAME_MAX];

	t_fill(expected, len, dst, src, seed);
	return !frame->aborted && frame->len == len && !memcmp(frame->data, expected, len);
}

uint64_t t_drops(struct t_switch *t, struct t_guest *g, enum elisa_drop why)
{
	struct elisa_port_counters c;

	CHECK(vs_port_counters(t->vs, g->port, &c) == 0);
	return c.drops[why];
}

uint64_t t_all_drops(struct t_switch *t, struct t_guest *g)
{
	uint64_t sum = 0;

	for (int i = 0; i < ELISA_DROP_COUNT; i++)
		sum += t_drops(t, g, (enum elisa_drop)i);
	return sum;
}

struct vs_port_config t_port_config(struct t_switch *t, struct t_guest *g)
{
	struct vs_port_info info;

	CHECK(vs_port_info(t->vs, g->port, &info) == 0);
	return info.config;
}

void t_port_set(struct t_switch *t, struct t_guest *g, const struct vs_port_config *cfg)
{
	CHECK(vs_port_set(t->vs, g->port, cfg) == 0);
}
