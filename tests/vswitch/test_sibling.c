/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest of three hostile vCPUs at once: two make every call there is, also against each other, with
 * queues set up and taken down meanwhile; the third rewrites all of the guest's memory that the
 * switch reads, in a tight loop, with addresses at every edge of its RAM, in the holes between and
 * where machines have devices and ROM. Each piece of RAM lies between inaccessible pages, and all
 * is built with the address sanitizer, so an access outside ends the test.
 *
 * Beside it two victims exchange frames on a group of their own and lose none, and a third one has
 * a group in common with the attacker: what it gets is sound and from the attacker.
 *
 * Then two vCPUs set one queue up and send by it, against each other: a queue belongs to one caller
 * at a time, and is what its last set-up said.
 *
 *	test_vswitch_sibling [ROW [SET-UPS]]	a row of tests/attack/table.toml; none: all
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include "harness.h"

#define CALLS	500000u /* of each calling thread */
#define RING	16
#define EXTRA	0x10000u /* bytes of the pieces of RAM at either side of 4 GiB's hole */
#define BELOW	(0xc0000000u - EXTRA)
#define ABOVE	0x100000000ull
#define CANARY	0xc5

static struct t_switch t;
static struct t_guest *evil, *seen, *a, *b;
static uint8_t *below, *above;
static uint64_t scratch; /* GPA of rx_mode, rss, counters, info */
static volatile bool stop;
static uint64_t calls[2], pokes, errors[128];

static const uint64_t edges[] = {
	0, T_GPA, T_GPA + T_RAM, BELOW, BELOW + EXTRA, ABOVE, ABOVE + EXTRA,
	0xa0000,	/* VGA */
	0xc0000,	/* ROM */
	0xfec00000,	/* I/O APIC */
	0xfee00000,	/* local APIC */
	0xfffff000,	/* firmware */
	1ull << 39,	/* the window of a machine of 40 bits */
	1ull << 52, 1ull << 63, UINT64_MAX,
};

static uint64_t any_gpa(uint64_t *state)
{
	uint32_t kind = t_random(state, 8);
	uint64_t edge = edges[t_random(state, sizeof(edges) / sizeof(*edges))];

	if (kind < 5)
		return edge + t_random(state, 4096) - 2048;
	if (kind < 7)
		return T_GPA + t_random(state, T_RAM);
	return (uint64_t)t_random(state, 1u << 31) << 33 | t_random(state, 1u << 31);
}

/* ---- the sibling that rewrites ---- */

static void poke(volatile uint8_t *at, uint64_t value, uint32_t bytes)
{
	if (bytes == 8)
		*(volatile uint64_t *)(volatile void *)at = value;
	else if (bytes == 4)
		*(volatile uint32_t *)(volatile void *)at = (uint32_t)value;
	else
		*at = (uint8_t)value;
}

static uint64_t any_value(uint64_t *state)
{
	const uint64_t extremes[] = { 0, 1, 0xffff, 0xffffffff, UINT64_MAX, 1ull << 31, RING, 0x8000 };

	if (t_random(state, 2))
		return any_gpa(state);
	return extremes[t_random(state, 8)] + (uint64_t)t_random(state, 3) - 1;
}

static void poke_any(uint64_t *state)
{
	struct t_queue *q = &evil->q[t_random(state, 2)];
	struct {
		uint8_t *at;
		uint32_t len;
	} where[] = {
		{ (uint8_t *)q->txd, RING * sizeof(struct elisa_txd) },
		{ (uint8_t *)q->rx, 8 },
		{ (uint8_t *)q->rx->addr, RING * 8 },
		{ (uint8_t *)q->comp, RING * sizeof(struct elisa_rxc) },
		{ t_at(evil, q->setup), sizeof(struct elisa_queue_setup) },
		{ t_at(evil, q->tx_buffers), 64 },
		{ t_at(evil, scratch), 512 },
	};
	uint32_t which = t_random(state, 7), bytes = 1u << t_random(state, 4);

	bytes = bytes == 2 ? 4 : bytes;
	poke(where[which].at + t_random(state, where[which].len / bytes) * bytes, any_value(state),
	     bytes);
}

/* Something that makes sense again, else all ends at the first check. */
static void mend(uint64_t *state)
{
	struct t_queue *q = &evil->q[t_random(state, 2)];
	uint32_t i = t_random(state, RING), len = 14 + t_random(state, 1500);
	uint64_t at = q->tx_buffers + (uint64_t)i * (T_BUF + 64);
	const uint8_t *to[] = { seen->mac, t_broadcast, evil->mac, a->mac };
	volatile uint64_t *d = (volatile uint64_t *)(void *)&q->txd[i];

	t_fill(t_at(evil, at), 32, to[t_random(state, 4)], evil->mac, i);
	d[0] = at;
	d[1] = len | (uint64_t)(t_random(state, 8) == 0) << 16;
	q->rx->addr[i] = q->buffers + (uint64_t)i * (T_BUF + 64);
	__atomic_store_n(&q->rx->posted, q->comp[i].seq + RING - 1, __ATOMIC_RELEASE);
}

static void mend_setup(uint64_t *state)
{
	uint32_t queue = t_random(state, 2);
	struct t_queue *q = &evil->q[queue];
	struct elisa_queue_setup s = {
		.revision = ELISA_NET_REVISION,
		.queue = (uint16_t)queue,
		.tx_size = RING,
		.rx_size = RING,
		.rx_buf_len = t_random(state, 2) ? T_BUF : 256 + t_random(state, 600),
		.features = t_random(state, 2) ? ELISA_NET_F_ALL : 0,
		.tx_ring = T_GPA + (uint64_t)((uint8_t *)q->txd - evil->ram),
		.rx_ring = T_GPA + (uint64_t)((uint8_t *)q->rx - evil->ram),
		.rx_comp = T_GPA + (uint64_t)((uint8_t *)q->comp - evil->ram),
	};

	memcpy(t_at(evil, q->setup), &s, sizeof(s));
}

static void *rewriter(void *arg)
{
	uint64_t state = (uint64_t)(uintptr_t)arg;

	while (!stop) {
		for (int i = 0; i < 6; i++)
			poke_any(&state);
		for (int i = 0; i < 12; i++)
			mend(&state);
		mend_setup(&state);
		pokes += 6;
	}
	return NULL;
}

/* ---- the siblings that call ---- */

static volatile int64_t handles[2];

static void one_call(unsigned int me, uint64_t *state)
{
	uint32_t what = t_random(state, 64), queue = t_random(state, 2);
	uint64_t op = ELISA_NET_TX, a1 = (uint64_t)handles[queue], a2 = 1 + t_random(state, RING);
	int64_t r = 0;

	if (what == 0 && !t_random(state, 8)) {
		op = ELISA_NET_QUEUE_RESET;
		a1 = queue;
	} else if (what == 1) {
		op = ELISA_NET_QUEUE_SETUP;
		a1 = evil->q[queue].setup;
		mend_setup(state);
	} else if (what < 6) {
		op = ELISA_OP_SERVICE + t_random(state, 12);
		a1 = t_random(state, 2) ? any_gpa(state) : t_random(state, 9);
		a2 = any_gpa(state);
	} else if (what < 8) {
		op = t_random(state, 2) ? ELISA_NET_RSS : ELISA_NET_RX_MODE;
		a1 = 0;
		a2 = scratch;
	} else if (what < 12) {
		op = t_random(state, 2) ? ELISA_NET_BELL : ELISA_NET_POLL;
	} else if (what == 12) {
		a2 = any_gpa(state);
	} else if (what == 13) {
		a1 ^= 1ull << t_random(state, 64);
	}
	/* Whoever is told to ask again does, lest the queue be down most of the time. */
	for (int i = 0; i < 2000; i++) {
		r = vs_entry(evil->caller[me], op, a1, 0, a2, 0);
		if (op != ELISA_NET_QUEUE_SETUP || r != -ELISA_EAGAIN)
			break;
		sched_yield();
	}
	if (op == ELISA_NET_QUEUE_SETUP && r > 0)
		handles[r & 1] = r;
	CHECK(r > -128);
	if (r < 0)
		__atomic_fetch_add(&errors[-r], 1, __ATOMIC_RELAXED);
}

static void *caller(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	uint64_t state = 0x9e3779b97f4a7c15ull + me;

	for (uint32_t i = 0; i < CALLS; i++, calls[me]++)
		one_call(me, &state);
	return NULL;
}

/* ---- the victims ---- */

static uint64_t sent, got, heard;

static void exchange(void)
{
	static struct t_frame frame;
	uint32_t burst = 1 + (uint32_t)(sent % 16), len = 60 + (uint32_t)(sent % 1400);

	for (uint32_t i = 0; i < burst; i++)
		t_frame_put(a, 0, len, b->mac, a->mac, (uint32_t)sent + i);
	CHECK(t_send(a, 0, burst) == burst);
	sent += burst;
	for (uint32_t i = 0; i < burst; i++, got++) {
		CHECK(t_receive(b, 0, &frame));
		CHECK(t_frame_is(&frame, len, b->mac, a->mac, (uint32_t)got));
	}
	CHECK(!t_receive(b, 0, &frame));
	CHECK(!t_receive(a, 0, &frame));
}

static void listen(void)
{
	static struct t_frame frame;

	for (int i = 0; i < 64 && t_receive(seen, 0, &frame); i++, heard++) {
		CHECK(!frame.aborted && frame.len >= 14 && frame.len <= 1518);
		CHECK(!memcmp(frame.data + 6, evil->mac, 6));
	}
}

/* Into whatever the attacker says that its ring is. */
static void answer(void)
{
	for (uint32_t i = 0; i < 4; i++)
		t_frame_put(seen, 0, 60 + i * 400, i ? evil->mac : t_broadcast, seen->mac, i);
	CHECK(t_send(seen, 0, 4) == 4);
}

static void control(uint64_t n)
{
	uint32_t due[8];

	if (n % 256 == 0)
		vs_tick(t.vs, n / 256);
	CHECK(vs_bells_due(t.vs, due, 8) <= 8);
}

/* ---- set-up ---- */

static uint8_t *guarded(size_t len)
{
	uint8_t *map = mmap(NULL, len + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(map != MAP_FAILED && !mprotect(map + 4096, len, PROT_READ | PROT_WRITE));
	return map + 4096;
}

/* t_guest() gives one piece of RAM: the attacker gets two more, at either side of the hole. */
static void more_memory(struct t_guest *g)
{
	struct vs_region r[] = {
		{ .gpa = T_GPA, .len = T_RAM, .addr = g->ram },
		{ .gpa = BELOW, .len = EXTRA, .addr = below = guarded(EXTRA) },
		{ .gpa = ABOVE, .len = EXTRA, .addr = above = guarded(EXTRA) },
	};

	CHECK(vs_port_unbind(t.vs, g->port) == 0);
	for (int i = 0; i < 4; i++)
		vs_caller_del(t.vs, g->caller[i]);
	CHECK(vs_guest_del(t.vs, g->id) == 0);
	g->id = vs_guest_add(t.vs, "evil", r, 3);
	CHECK(g->id >= 0 && vs_port_bind(t.vs, g->port, g->id) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(vs_caller_add(t.vs, g->id, &g->caller[i]) == 0);
}

static void group(struct t_guest *g, uint64_t groups)
{
	struct vs_port_config cfg = t_port_config(&t, g);

	cfg.groups = groups;
	t_port_set(&t, g, &cfg);
}

static void set_up(void)
{
	t_create(&t, 1024);
	evil = t_guest(&t, true);
	more_memory(evil);
	for (unsigned int q = 0; q < 2; q++) {
		handles[q] = t_setup(evil, q, RING, RING, T_BUF);
		CHECK(handles[q] > 0);
		t_post(&evil->q[q], RING);
	}
	scratch = t_alloc(evil, 512, 64);
	CHECK(vs_port_bell(t.vs, evil->port, 0x10000) == 0);
	seen = t_guest_up(&t, true);
	a = t_guest_up(&t, true);
	b = t_guest_up(&t, true);
	group(evil, 2);
	group(seen, 2);
	memset(a->ram + a->used, CANARY, T_RAM - a->used);
	memset(b->ram + b->used, CANARY, T_RAM - b->used);
	memset(seen->ram + seen->used, CANARY, T_RAM - seen->used);
}

static bool canary(const struct t_guest *g)
{
	for (uint64_t i = g->used; i < T_RAM; i++)
		if (g->ram[i] != CANARY)
			return false;
	return true;
}

/* What the attacker's frames were dropped for: of each kind that was tried there are some. */
static void check_reasons(void)
{
	const enum elisa_drop must[] = { ELISA_DROP_TX_BAD_DESC, ELISA_DROP_TX_BAD_ADDR,
					 ELISA_DROP_TX_SPOOFED,	 ELISA_DROP_TX_BAD_OFFLOAD,
					 ELISA_DROP_TX_NO_PORT,	 ELISA_DROP_TX_ISOLATED,
					 ELISA_DROP_RX_BAD_RING,
					 ELISA_DROP_RX_BAD_ADDR, ELISA_DROP_RX_NO_BUFFER };

	for (size_t i = 0; i < sizeof(must) / sizeof(*must); i++) {
		printf("# %s: %lu\n", vs_drop_name(must[i]), t_drops(&t, evil, must[i]));
		CHECK(t_drops(&t, evil, must[i]) > 0);
	}
	/* The one that it may reach is short of buffers at times, and does not always reach it. */
	CHECK(t_all_drops(&t, seen) == t_drops(&t, seen, ELISA_DROP_RX_NO_BUFFER) +
					       t_drops(&t, seen, ELISA_DROP_RX_CONTENDED) +
					       t_drops(&t, seen, ELISA_DROP_RX_TOO_LONG) +
					       t_drops(&t, seen, ELISA_DROP_TX_NO_PORT));
	CHECK(t_all_drops(&t, a) == 0 && t_all_drops(&t, b) == 0);
}

static void storm(void)
{
	pthread_t threads[3];
	uint64_t n = 0;

	set_up();
	CHECK(!pthread_create(&threads[0], NULL, caller, (void *)0));
	CHECK(!pthread_create(&threads[1], NULL, caller, (void *)1));
	CHECK(!pthread_create(&threads[2], NULL, rewriter, (void *)88172645463325252ull));
	while (calls[0] < CALLS || calls[1] < CALLS) {
		exchange();
		listen();
		answer();
		control(++n);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	listen();
	CHECK(canary(a) && canary(b) && canary(seen));
	printf("# calls %lu, rewritten %lu fields, victims exchanged %lu frames and lost %lu, "
	       "attacker was heard %lu times\n", calls[0] + calls[1], pokes, sent, sent - got, heard);
	for (unsigned int i = 0; i < 128; i++)
		if (errors[i])
			printf("# refused: errno %u, %lu times\n", i, errors[i]);
	check_reasons();
	CHECK(heard > 0 && sent == got);
	t_destroy(&t);
}

/* ---- one queue, set up by two ---- */

static uint32_t setups = 20000; /* of each */

/* The first descriptor is of another kind than all others: one sees where sending begins. */
static struct racer {
	uint64_t setup;
	uint32_t size;
	uint64_t calls, taken;
	uint32_t setups;
} racers[2];
static int64_t shared; /* a handle that both know */

static void racer_init(struct racer *r, uint32_t size)
{
	uint64_t ring = t_alloc(evil, size * sizeof(struct elisa_txd), 64);
	uint64_t buffer = t_alloc(evil, 64, 64);
	struct elisa_queue_setup s = {
		.revision = ELISA_NET_REVISION, .tx_size = size, .tx_ring = ring,
	};
	struct elisa_txd *d = t_at(evil, ring);

	*r = (struct racer){ .setup = t_alloc(evil, sizeof(s), 64), .size = size };
	t_fill(t_at(evil, buffer), 60, t_broadcast, t_broadcast, 0); /* not its own address */
	for (uint32_t i = 0; i < size; i++)
		d[i] = (struct elisa_txd){ .addr = buffer, .len = i ? 60 : 0 };
	memcpy(t_at(evil, r->setup), &s, sizeof(s));
}

static int64_t race_send(struct racer *r, int64_t handle, uint32_t count)
{
	struct vs_caller *caller = evil->caller[r - racers];
	int64_t result = vs_entry(caller, ELISA_NET_TX, (uint64_t)handle, 0, count, 0);

	if (result >= 0) {
		r->calls++;
		r->taken += (uint64_t)result;
	}
	return result;
}

/* Nobody else knows the handle yet: the other can end this queue, and no more. */
static void race_set_up(struct racer *r)
{
	struct vs_caller *caller = evil->caller[r - racers];
	int64_t h = vs_entry(caller, ELISA_NET_QUEUE_SETUP, r->setup, 0, 0, 0), n;
	uint64_t firsts;

	if (h == -ELISA_EAGAIN) {
		sched_yield(); /* the other may have been stopped in a call */
		return;
	}
	CHECK(h > 0);
	__atomic_fetch_add(&r->setups, 1, __ATOMIC_RELAXED);
	n = race_send(r, h, r->size + 1);
	CHECK(n == -ELISA_EINVAL || n == -ELISA_ESTALE);
	firsts = t_drops(&t, evil, ELISA_DROP_TX_BAD_DESC);
	n = race_send(r, h, 1);
	CHECK(n == -ELISA_ESTALE ||
	      (n == 1 && t_drops(&t, evil, ELISA_DROP_TX_BAD_DESC) > firsts));
	n = race_send(r, h, r->size - 1);
	CHECK(n == r->size - 1 || n == -ELISA_ESTALE);
	__atomic_store_n(&shared, h, __ATOMIC_RELAXED);
}

static bool race_over(void)
{
	return __atomic_load_n(&racers[0].setups, __ATOMIC_RELAXED) >= setups &&
	       __atomic_load_n(&racers[1].setups, __ATOMIC_RELAXED) >= setups;
}

static void *race(void *arg)
{
	struct racer *r = arg;
	uint64_t state = 0x9e3779b97f4a7c15ull + r->size;

	while (!race_over()) {
		if (!t_random(&state, 16)) {
			race_set_up(r);
		} else {
			int64_t h = __atomic_load_n(&shared, __ATOMIC_RELAXED);
			int64_t n = race_send(r, h, 1 + t_random(&state, 16));

			CHECK(n >= 0 || n == -ELISA_ESTALE || n == -ELISA_EBUSY);
		}
	}
	return NULL;
}

static void set_up_race(void)
{
	struct elisa_port_counters c;
	pthread_t threads[2];

	t_create(&t, 1024);
	evil = t_guest(&t, true);
	for (unsigned int i = 0; i < 2; i++)
		racer_init(&racers[i], i ? 64 : 16);
	for (unsigned int i = 0; i < 2; i++)
		CHECK(!pthread_create(&threads[i], NULL, race, &racers[i]));
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CHECK(!vs_port_counters(t.vs, evil->port, &c));
	printf("# set up %u and %u times, sent %lu and %lu frames in %lu and %lu calls; of all %lu "
	       "and %lu were counted\n", racers[0].setups, racers[1].setups, racers[0].taken,
	       racers[1].taken, racers[0].calls, racers[1].calls, t_all_drops(&t, evil), c.tx_calls);
	/* Each call had the queue for itself. */
	CHECK(c.tx_calls == racers[0].calls + racers[1].calls);
	CHECK(t_all_drops(&t, evil) == racers[0].taken + racers[1].taken);
	t_destroy(&t);
}

int main(int argc, char **argv)
{
	const char *row = argc > 1 ? argv[1] : NULL;
	bool race_only = row && !strcmp(row, "rings-set-up-race");

	CHECK(!row || race_only || !strcmp(row, "rings-sibling") || !strcmp(row, "memory-holes"));
	if (argc > 2)
		setups = (uint32_t)strtoul(argv[2], NULL, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!race_only)
		storm();
	if (!row || race_only)
		set_up_race();
	return 0;
}
