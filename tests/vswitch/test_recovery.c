/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Senders stop for good at every step of the data path, others go on.
 *
 * The switch is built with VS_MODEL: VS_STEP() between any two accesses to shared memory gives
 * control to this scheduler. Callers are coroutines. Checked each time:
 *	- whoever lives loses nothing that it was told was sent, and nothing comes twice or changed
 *	- each slot that a dead sender took is committed once, as a whole frame or as aborted
 *	- the ring goes on working for more than a round, locks are free, grace periods end
 */
#include "model.h"
#include <cmocka.h>

#define SENDERS 4
#define RING	32

static struct t_switch t;
static struct t_guest *receiver, *sender[SENDERS];
static uint32_t next_id[SENDERS];
static struct t_frame frame;
/* 512: frames take several buffers. 2048: they do not, which is a path of its own. */
static uint32_t buf_len = 512;

/* ---- the world: senders to one receiver ---- */

static uint32_t got[SENDERS], last_id[SENDERS], aborted_slots;

static void world(uint32_t posted)
{
	t_create(&t, 1024);
	receiver = t_guest(&t, true);
	assert_true(t_setup(receiver, 0, RING, RING, buf_len) > 0);
	t_post(&receiver->q[0], posted);
	for (int i = 0; i < SENDERS; i++) {
		sender[i] = t_guest(&t, true);
		assert_true(t_setup(sender[i], 0, RING, RING, buf_len) > 0);
		t_post(&sender[i]->q[0], RING);
		next_id[i] = 0;
		got[i] = 0;
		last_id[i] = 0;
	}
	aborted_slots = 0;
	/* All know where the receiver is. */
	assert_int_equal(t_send_one(receiver, 64, sender[0]->mac, receiver->mac, 0), 1);
	for (int i = 0; i < SENDERS; i++)
		assert_true(t_receive(sender[i], 0, &frame));
}

static void put(unsigned int i, const uint8_t dst[6], uint32_t len)
{
	t_frame_put(sender[i], 0, len, dst, sender[i]->mac, i << 24 | ++next_id[i]);
}

static void prepare_send(unsigned int i, uint32_t count)
{
	prepare(i, sender[i]->caller[0], ELISA_NET_TX, (uint64_t)sender[i]->q[0].handle, count);
}

/* Takes one slot's worth at a time, since aborted slots have no frame structure. */
static bool drain_one(void)
{
	struct t_queue *q = &receiver->q[0];
	uint32_t at = q->rx_next;
	uint32_t id;

	if (!t_receive(receiver, 0, &frame))
		return false;
	if (frame.aborted) {
		for (; at != q->rx_next; at++)
			aborted_slots += !!(q->comp[at % RING].flags & ELISA_RXC_ABORTED);
		return true;
	}
	memcpy(&id, frame.data + 14, 4);
	assert_in_range(id >> 24, 0, SENDERS - 1);
	assert_true(t_frame_is(&frame, frame.len, (frame.data[0] & 1) ? t_broadcast : receiver->mac,
			       sender[id >> 24]->mac, id));
	/* In order and never twice. */
	assert_true((id & 0xffffff) > last_id[id >> 24]);
	last_id[id >> 24] = id & 0xffffff;
	/* A broadcast may have reached somebody else only. */
	got[id >> 24] += !(frame.data[0] & 1);
	return true;
}

/*
 * A frame of a dead sender may have lost its tail: its first slots say MORE, the aborted one ends
 * it. t_receive() takes that as one aborted frame.
 */
static void drain(void)
{
	while (drain_one())
		;
}

static uint32_t reserved(void)
{
	struct vs_queue_info q;

	assert_int_equal(vs_port_queue(t.vs, receiver->port, 0, &q), 0);
	return q.rx_reserved;
}

static uint64_t tx_unicast(unsigned int i)
{
	struct elisa_port_counters c;

	assert_int_equal(vs_port_counters(t.vs, sender[i]->port, &c), 0);
	return c.tx_unicast;
}

static void kill_routine(unsigned int i)
{
	vs_caller_del(t.vs, routines[i].caller);
	sender[i]->caller[0] = NULL;
}

/* Everybody who lives has returned, everybody else is deleted. */
static void check_world(unsigned int dead)
{
	drain();
	/* No hole: every slot that was taken was seen. */
	assert_int_equal(receiver->q[0].rx_next, reserved());
	/* Nor was the receiver blamed for what others did meanwhile. */
	assert_int_equal(t_drops(&t, receiver, ELISA_DROP_RX_BAD_RING), 0);
	assert_int_equal(aborted_slots, t_drops(&t, receiver, ELISA_DROP_RX_ABORTED));
	for (unsigned int i = 0; i < SENDERS; i++)
		if (!(dead >> i & 1))
			assert_int_equal(got[i], tx_unicast(i));
	assert_true(vs_grace_done(t.vs, vs_grace_begin(t.vs)));
	/* Every queue can be used again, those of the dead too, for more than a round. */
	for (unsigned int n = 0; n < RING + 5; n++) {
		unsigned int i = n % SENDERS;
		uint32_t before = got[i];

		/* The dead one's `next` may be anything up to what it had; begin anew. */
		if (!sender[i]->caller[0]) {
			struct t_guest *g = sender[i];
			int64_t handle;

			/* Its sibling finds the queue free; perhaps it is told what to ring. */
			assert_int_equal(vs_entry(g->caller[1], ELISA_NET_TX,
						  (uint64_t)g->q[0].handle, 0, 0, 0) &
						 ~(int64_t)ELISA_TX_BELL,
					 0);
			assert_int_equal(vs_caller_add(t.vs, g->id, &g->caller[0]), 0);
			handle = t_call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);
			assert_true(handle > 0);
			g->q[0].handle = handle;
			g->q[0].tx_next = 0;
		}
		put(i, receiver->mac, n % 3 ? 64 : 700);
		assert_int_equal(t_send(sender[i], 0, 1), 1);
		drain();
		assert_int_equal(got[i], before + 1);
	}
	assert_int_equal(t_drops(&t, receiver, ELISA_DROP_RX_ABORTED), aborted_slots);
	t_destroy(&t);
}

/* Sender 0: three frames of one, two and one slots; 1: two; 2: one and a broadcast. */
static void put_all(void)
{
	put(0, receiver->mac, 64);
	put(0, receiver->mac, 1000);
	put(0, receiver->mac, 100);
	prepare_send(0, 3);
	put(1, receiver->mac, 700);
	put(1, receiver->mac, 64);
	prepare_send(1, 2);
	put(2, receiver->mac, 64);
	put(2, t_broadcast, 900);
	prepare_send(2, 2);
}

static unsigned int steps_of(unsigned int i)
{
	world(RING);
	put_all();
	assert_true(run(i, TO_THE_END));
	t_destroy(&t);
	return routines[i].steps;
}

enum fate { FIRST_DIES, FIRST_DIES_LATE, BOTH_DIE, BOTH_DIE_BACKWARDS, FATES };

/* 0 stops at its step n, then 1 at its step m, 2 runs through; then who is to die dies. */
static void one_case(unsigned int n, unsigned int m, enum fate fate, uint32_t posted)
{
	unsigned int dead = fate < BOTH_DIE ? 1 : 3;
	bool over[2];

	world(posted);
	put_all();
	over[0] = run(0, n);
	over[1] = run(1, m);
	assert_true(run(2, TO_THE_END));
	drain();
	if (fate == FIRST_DIES) {
		kill_routine(0);
		drain();
		assert_true(over[1] || run(1, TO_THE_END));
	} else if (fate == FIRST_DIES_LATE) {
		assert_true(over[1] || run(1, TO_THE_END));
		kill_routine(0);
	} else {
		kill_routine(fate == BOTH_DIE ? 0 : 1);
		drain();
		kill_routine(fate == BOTH_DIE ? 1 : 0);
	}
	/* It had returned before: then it lost nothing either. */
	if (over[0])
		dead &= ~1u;
	if (over[1])
		dead &= ~2u;
	check_world(dead);
}

static void every_pair_of_steps(void **state)
{
	unsigned int steps0, steps1, cases = 0;

	buf_len = *(uint32_t *)*state;
	steps0 = steps_of(0);
	steps1 = steps_of(1);
	for (unsigned int fate = 0; fate < FATES; fate++)
		for (unsigned int n = 1; n <= steps0 + 1; n++)
			for (unsigned int m = 1; m <= steps1 + 1; m++, cases++)
				one_case(n, m, (enum fate)fate, RING);
	print_message("%u x %u steps, %u cases\n", steps0, steps1, cases);
}

/* The same with hardly enough buffers, so that reservations also fail. */
static void every_pair_of_steps_short(void **state)
{
	unsigned int steps0, steps1;

	buf_len = *(uint32_t *)*state;
	steps0 = steps_of(0);
	steps1 = steps_of(1);
	for (unsigned int n = 1; n <= steps0 + 1; n++)
		for (unsigned int m = 1; m <= steps1 + 1; m++)
			one_case(n, m, n & 1 ? FIRST_DIES : BOTH_DIE, 6);
}

/*
 * The receiver sleeps, with RSS, and a sender dies at its step n. Whatever lies in the ring then,
 * aborted or not, the receiver is due; and if nothing does, it is not.
 */
static void sleeper_is_found(void **state)
{
	unsigned int found = 0;
	bool over = false;

	buf_len = *(uint32_t *)*state;
	for (unsigned int n = 1; !over; n++) {
		struct elisa_rss *rss;
		uint32_t due[2];
		uint64_t at;

		world(RING);
		assert_true(t_setup_with(receiver, 0, RING, RING, buf_len, ELISA_NET_F_EVENT) > 0);
		t_post(&receiver->q[0], RING);
		at = t_alloc(receiver, sizeof(*rss), 8);
		rss = t_at(receiver, at);
		memset(rss, 0, sizeof(*rss));
		rss->types = ELISA_RSS_ALL;
		assert_int_equal(t_call(receiver, ELISA_NET_RSS, 0, at), 0);
		assert_int_equal(vs_port_bell(t.vs, receiver->port, 0x10000), 0);
		receiver->q[0].rx->event = 3;
		put(0, receiver->mac, 64);
		put(0, receiver->mac, 1000);
		prepare_send(0, 2);
		over = run(0, n);
		assert_int_equal(vs_bells_due(t.vs, due, 2), 0);
		kill_routine(0);
		vs_bells_due(t.vs, due, 2);
		assert_int_equal(vs_bells_due(t.vs, due, 2), reserved() > 0);
		found += reserved() > 0;
		check_world(over ? 0 : 1);
	}
	assert_in_range(found, 5, 1000);
}

/*
 * What a sender sends and what the receiver gets is mirrored, and the sender dies at its step n:
 * each slot that it took of the monitor's ring is committed, too, and the ring goes on.
 */
static void monitor_outlives_senders(void **state)
{
	unsigned int aborted = 0, copies = 0;
	bool over = false;

	buf_len = *(uint32_t *)*state;
	for (unsigned int n = 1; !over; n++) {
		struct t_guest *monitor;
		struct vs_mirror m = {.what = VS_MIRROR_TX | VS_MIRROR_RX | VS_MIRROR_DROPS};
		struct vs_queue_info q;
		unsigned int seen = 0;

		world(3);
		monitor = sender[3];
		m.to = monitor->port;
		m.annotate = n & 1;
		assert_int_equal(vs_mirror_add(t.vs, sender[0]->port, &m), 0);
		assert_int_equal(vs_mirror_add(t.vs, receiver->port, &m), 0);
		put_all();
		over = run(0, n);
		assert_true(run(1, TO_THE_END));
		if (!over)
			vs_caller_del(t.vs, sender[0]->caller[0]);
		assert_int_equal(vs_port_queue(t.vs, monitor->port, 0, &q), 0);
		while (monitor->q[0].rx_next != q.rx_reserved) {
			assert_true(t_receive(monitor, 0, &frame));
			aborted += frame.aborted;
			copies += !frame.aborted;
			seen++;
		}
		/* Sender 0 and the receiver as for it; and what the receiver had of sender 1. */
		if (over)
			assert_int_equal(seen, 3 + 3 + 2);
		assert_int_equal(t_send_one(sender[1], 64, receiver->mac, sender[1]->mac, 77), 1);
		assert_true(t_receive(monitor, 0, &frame));
		assert_true(t_frame_is(&frame, 64, receiver->mac, sender[1]->mac, 77));
		assert_true(vs_grace_done(t.vs, vs_grace_begin(t.vs)));
		t_destroy(&t);
	}
	print_message("%u copies, %u aborted\n", copies, aborted);
	assert_true(copies > 100 && aborted > 10);
}

static uint64_t rng;
static uint32_t rnd(uint32_t below)
{
	return t_random(&rng, below);
}

/* All four at once, in random turns; some die at a random moment. */
static void random_turns(void **state)
{
	unsigned int seeds = getenv("VS_SEEDS") ? (unsigned int)atoi(getenv("VS_SEEDS")) : 8000;
	unsigned int killed = 0;
	uint64_t aborts = 0;

	(void)state;
	for (unsigned int seed = 1; seed <= seeds; seed++) {
		unsigned int dead = 0, busy = 0;

		rng = seed * 0x9e3779b97f4a7c15ull;
		buf_len = seed & 1 ? 512 : 2048;
		world(rnd(2) ? RING : 4 + rnd(12));
		for (unsigned int turn = 0; turn < 200; turn++) {
			unsigned int i = rnd(SENDERS);

			if (dead >> i & 1)
				continue;
			if (!(busy >> i & 1)) {
				uint32_t count = 1 + rnd(4);

				for (uint32_t k = 0; k < count; k++)
					put(i, rnd(8) ? receiver->mac : t_broadcast,
					    64 + rnd(3) * 600);
				prepare_send(i, count);
				busy |= 1u << i;
			}
			if (run(i, 1 + rnd(12))) {
				assert_true(routines[i].result > 0);
				busy &= ~(1u << i);
			} else if (!rnd(60)) {
				kill_routine(i);
				dead |= 1u << i;
				busy &= ~(1u << i);
				killed++;
			}
			if (!rnd(4))
				drain_one();
		}
		for (unsigned int i = 0; i < SENDERS; i++)
			if (busy >> i & 1)
				assert_true(run(i, TO_THE_END));
		drain();
		aborts += aborted_slots;
		check_world(dead);
	}
	print_message("%u seeds, %u senders killed, %lu slots aborted\n", seeds, killed, aborts);
	assert_true(killed > seeds / 4 && aborts > seeds / 100);
}

/* A vCPU that is stopped while it sets a queue up or resets it leaves the port usable. */
static void stopped_in_setup(void **state)
{
	const uint64_t ops[] = {ELISA_NET_QUEUE_SETUP, ELISA_NET_QUEUE_RESET};

	(void)state;
	for (unsigned int o = 0; o < 2; o++) {
		for (unsigned int n = 1;; n++) {
			struct t_guest *g;
			int64_t handle;
			bool over;

			world(RING);
			g = sender[0];
			prepare(0, g->caller[1], ops[o], o ? 0 : g->q[0].setup, 0);
			over = run(0, n);
			/* Its sibling has to wait at most; nobody else notices. */
			handle = t_call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);
			assert_true(handle > 0 || handle == -ELISA_EAGAIN);
			put(1, receiver->mac, 64);
			assert_int_equal(t_send(sender[1], 0, 1), 1);
			put(1, t_broadcast, 64);
			assert_int_equal(t_send(sender[1], 0, 1), 1);
			if (!over) {
				assert_true(routines[0].started);
				vs_caller_del(t.vs, g->caller[1]);
			}
			handle = t_call(g, ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);
			assert_true(handle > 0);
			g->q[0].handle = handle;
			g->q[0].tx_next = 0;
			g->q[0].rx_next = 0;
			memset(g->q[0].comp, 0, RING * sizeof(struct elisa_rxc));
			g->q[0].rx->posted = 0;
			t_post(&g->q[0], RING);
			put(0, receiver->mac, 64);
			assert_int_equal(t_send(g, 0, 1), 1);
			put(1, g->mac, 64);
			assert_int_equal(t_send(sender[1], 0, 1), 1);
			assert_true(t_receive(g, 0, &frame));
			drain();
			assert_int_equal(got[0], 1);
			t_destroy(&t);
			if (over)
				break;
		}
	}
}

/* The receiver cannot have its ring back while somebody may still write to it. */
static void reset_waits_for_senders(void **state)
{
	unsigned int steps = steps_of(0);

	(void)state;
	for (unsigned int n = 1; n <= steps; n++) {
		world(RING);
		put_all();
		if (run(0, n)) {
			t_destroy(&t);
			continue;
		}
		assert_int_equal(t_call(receiver, ELISA_NET_QUEUE_RESET, 0, 0), -ELISA_EAGAIN);
		assert_int_equal(t_call(receiver, ELISA_NET_QUEUE_SETUP, receiver->q[0].setup, 0),
				 -ELISA_EAGAIN);
		if (n & 1)
			kill_routine(0);
		else
			assert_true(run(0, TO_THE_END));
		assert_int_equal(t_call(receiver, ELISA_NET_QUEUE_RESET, 0, 0), 0);
		/* From now on it is the guest's: nobody writes there. */
		memset(receiver->q[0].comp, 0xee, RING * sizeof(struct elisa_rxc));
		put(1, receiver->mac, 64);
		assert_int_equal(t_send(sender[1], 0, 1), 1);
		for (unsigned int i = 0; i < RING; i++)
			assert_int_equal(receiver->q[0].comp[i].seq, 0xeeeeeeee);
		t_destroy(&t);
	}
}

/* What was checked is what is delivered, whenever the sender's sibling changes the buffer. */
static void header_changes_meanwhile(void **state)
{
	static const uint32_t lengths[] = {14, 15, 40, 64, 100, 700, 1400};

	(void)state;
	for (unsigned int l = 0; l < 14; l++) {
		uint32_t len = lengths[l / 2];

		for (unsigned int n = 1;; n++) {
			struct t_queue *q;
			bool over;

			buf_len = l & 1 ? 512 : 2048;
			world(RING);
			q = &sender[0]->q[0];
			put(0, receiver->mac, len);
			prepare_send(0, 1);
			over = run(0, n);
			memset(t_at(sender[0], q->tx_buffers), 0xaa, 14);
			q->txd[0].len = 9000;
			q->txd[0].addr = 0;
			assert_true(over || run(0, TO_THE_END));
			if (t_receive(receiver, 0, &frame)) {
				assert_int_equal(frame.len, len);
				assert_memory_equal(frame.data, receiver->mac, 6);
				assert_memory_equal(frame.data + 6, sender[0]->mac, 6);
				assert_int_equal(frame.data[12], 8);
				assert_int_equal(frame.data[13], 0);
			} else {
				/* Changed before it was read. */
				assert_int_equal(t_all_drops(&t, sender[0]), 1);
			}
			t_destroy(&t);
			if (over)
				break;
		}
	}
}

/* A frame at the end of RAM that becomes a longer one: what is behind it stays where it is. */
static void length_changes_meanwhile(void **state)
{
	bool over = false;

	(void)state;
	buf_len = 2048;
	for (unsigned int n = 1; !over; n++) {
		struct t_queue *q;

		world(RING);
		q = &sender[0]->q[0];
		t_fill(t_at(sender[0], T_GPA + T_RAM - 64), 64, receiver->mac, sender[0]->mac, 1);
		t_desc(q, T_GPA + T_RAM - 64, 64, 0);
		prepare_send(0, 1);
		over = run(0, n);
		q->txd[(q->tx_next - 1) % RING].len = 1000;
		assert_true(over || run(0, TO_THE_END));
		if (t_receive(receiver, 0, &frame))
			assert_true(t_frame_is(&frame, 64, receiver->mac, sender[0]->mac, 1));
		else
			assert_int_equal(t_drops(&t, sender[0], ELISA_DROP_TX_BAD_ADDR), 1);
		t_destroy(&t);
	}
}

static void into_vlan(struct t_guest *g, uint8_t mode, uint16_t pvid)
{
	struct vs_port_config cfg = t_port_config(&t, g);

	cfg.vlan = (struct vs_vlan){.mode = mode, .pvid = mode == VS_VLAN_TRUNK ? 0 : pvid};
	/* The receiver has 5 only. */
	if (mode == VS_VLAN_TRUNK)
		cfg.vlan.allowed[0] = 1ull << 5 | (pvid ? 0 : 1ull << 6);
	t_port_set(&t, g, &cfg);
}

/*
 * The same with a tag: the VID that the receiver gets is the one that was checked, and a receiver in
 * its VLAN never gets a frame that was not of it.
 */
static void tag_changes_meanwhile(void **state)
{
	static const uint32_t lengths[] = {18, 19, 20, 64, 700, 1400};
	unsigned int received = 0;

	(void)state;
	for (unsigned int l = 0; l < 24; l++) {
		uint32_t len = lengths[l / 4];

		for (unsigned int n = 1;; n++) {
			uint8_t *data;
			bool over;

			buf_len = l & 1 ? 512 : 2048;
			world(RING);
			into_vlan(sender[0], VS_VLAN_TRUNK, 0);
			into_vlan(receiver, l & 2 ? VS_VLAN_TRUNK : VS_VLAN_ACCESS, 5);
			assert_int_equal(vs_fdb_add(t.vs, receiver->mac, 5, receiver->port), 0);
			put(0, receiver->mac, len);
			data = t_at(sender[0], sender[0]->q[0].tx_buffers);
			memcpy(data + 12, "\x81\x00\x20\x05\x08\x00", 6);
			prepare_send(0, 1);
			over = run(0, n);
			/* Allowed to its sender, but another one. */
			memcpy(data + 12, "\x81\x00\x40\x06\x08\x00", 6);
			assert_true(over || run(0, TO_THE_END));
			/* In pieces, the rest of the header may be what it is later. */
			if (t_receive(receiver, 0, &frame)) {
				assert_int_equal(frame.len, l & 2 ? len : len - 4);
				assert_memory_equal(frame.data, receiver->mac, 6);
				if (l & 2)
					assert_memory_equal(frame.data + 12, "\x81\x00\x20\x05", 4);
				else
					assert_int_equal(frame.data[12], 8);
				received++;
			}
			t_destroy(&t);
			if (over)
				break;
		}
	}
	assert_true(received > 100);
}

/* Stopped while it learns: the count of its addresses is right again after a while. */
static void addresses_are_counted_anew(void **state)
{
	unsigned int wrong = 0;
	bool over = false;

	(void)state;
	for (unsigned int n = 1; !over; n++) {
		struct t_guest *g;
		const uint8_t src[6] = {2, 5, 5, 5, 5, 5};
		struct vs_port_info info;
		struct vs_fdb_entry e;
		uint64_t cursor = 0;
		uint32_t count = 0;

		world(RING);
		g = t_guest(&t, false);
		assert_true(t_setup(g, 0, RING, RING, buf_len) > 0);
		/* One moves, one is new. */
		assert_int_equal(t_send_one(g, 64, t_broadcast, src, 0), 1);
		t_frame_put(g, 0, 64, t_broadcast, sender[1]->mac, 0);
		t_frame_put(g, 0, 64, t_broadcast, (const uint8_t[]){2, 5, 5, 5, 5, 6}, 0);
		prepare(0, g->caller[0], ELISA_NET_TX, (uint64_t)g->q[0].handle, 2);
		over = run(0, n);
		if (!over)
			vs_caller_del(t.vs, g->caller[0]);
		while (vs_fdb_next(t.vs, &cursor, &e))
			count += e.port == g->port;
		assert_int_equal(vs_port_info(t.vs, g->port, &info), 0);
		wrong += info.macs != count;
		for (unsigned int s = 1; s <= 3; s++)
			vs_tick(t.vs, s);
		assert_int_equal(vs_port_info(t.vs, g->port, &info), 0);
		assert_int_equal(info.macs, count);
		t_destroy(&t);
	}
	assert_true(wrong > 0);
}

/* The host takes the port away while its queue is set up: the queue does not come back behind it. */
static void unbound_within_setup(void **state)
{
	bool over = false;

	(void)state;
	for (unsigned int n = 1; !over; n++) {
		struct vs_queue_info q;
		struct t_guest *g;

		world(RING);
		g = sender[0];
		prepare(0, g->caller[1], ELISA_NET_QUEUE_SETUP, g->q[0].setup, 0);
		over = run(0, n);
		assert_int_equal(vs_port_unbind(t.vs, g->port), 0);
		assert_true(over || run(0, TO_THE_END));
		assert_int_equal(vs_port_queue(t.vs, g->port, 0, &q), 0);
		assert_false(q.set_up);
		t_destroy(&t);
	}
}

/*
 * A call with the handle that a port's next owner will have, made before the port moves on: nothing
 * of the next owner's queue is sent by it.
 */
static void handle_of_the_next_owner(void **state)
{
	bool over = false;
	unsigned int n;

	(void)state;
	for (n = 1; !over; n++) {
		struct t_guest *former, *next;
		int64_t guess, handle;

		world(RING);
		former = sender[0];
		next = sender[1];
		/* One more for its end, one for the next set-up. */
		guess = former->q[0].handle + (2 << 16);
		prepare(0, former->caller[1], ELISA_NET_TX, (uint64_t)guess, 1);
		over = run(0, n);
		assert_int_equal(vs_port_unbind(t.vs, next->port), 0);
		assert_int_equal(vs_port_unbind(t.vs, former->port), 0);
		assert_int_equal(vs_port_bind(t.vs, former->port, next->id), 0);
		handle = t_setup(next, 0, RING, RING, buf_len);
		assert_true(handle == guess || (!over && handle == -ELISA_EAGAIN));
		t_frame_put(next, 0, 64, receiver->mac, next->mac, 1);
		assert_true(over || run(0, TO_THE_END));
		assert_int_equal(routines[0].result, -ELISA_ESTALE);
		t_destroy(&t);
	}
	assert_true(n > 3);
}

/* Two vCPUs in one queue: the second is told so and nothing is mixed up. */
static void queue_has_one_owner(void **state)
{
	unsigned int busy = 0;

	(void)state;
	for (unsigned int n = 1;; n++) {
		int64_t result;

		world(RING);
		put(0, receiver->mac, 64);
		prepare_send(0, 1);
		if (run(0, n)) {
			t_destroy(&t);
			break;
		}
		result = vs_entry(sender[0]->caller[1], ELISA_NET_TX,
				  (uint64_t)sender[0]->q[0].handle, 0, 1, 0);
		assert_true(result == 1 || result == -ELISA_EBUSY);
		busy += result == -ELISA_EBUSY;
		assert_true(run(0, TO_THE_END));
		t_destroy(&t);
	}
	assert_true(busy > 5);
}

/* Each byte is copied once, from the sender's buffer to the receiver's. */
static void one_copy(void **state)
{
	(void)state;
	for (uint32_t len = 14; len < 1514; len += 13) {
		buf_len = len & 1 ? 512 : 2048;
		world(RING);
		put(1, receiver->mac, len < 18 ? 18 : len);
		vs_model_copied = 0;
		assert_int_equal(t_send(sender[1], 0, 1), 1);
		assert_int_equal(vs_model_copied, len < 18 ? 18 : len);
		t_destroy(&t);
	}
}

/* test_recovery [TEST]	one, or all */
int main(int argc, char **argv)
{
	static uint32_t several = 512, single = 2048;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(every_pair_of_steps, &several),
		cmocka_unit_test_prestate(every_pair_of_steps, &single),
		cmocka_unit_test_prestate(every_pair_of_steps_short, &several),
		cmocka_unit_test_prestate(every_pair_of_steps_short, &single),
		cmocka_unit_test_prestate(sleeper_is_found, &several),
		cmocka_unit_test_prestate(sleeper_is_found, &single),
		cmocka_unit_test_prestate(monitor_outlives_senders, &several),
		cmocka_unit_test_prestate(monitor_outlives_senders, &single),
		cmocka_unit_test(random_turns),
		cmocka_unit_test(stopped_in_setup),
		cmocka_unit_test(reset_waits_for_senders),
		cmocka_unit_test(header_changes_meanwhile),
		cmocka_unit_test(tag_changes_meanwhile),
		cmocka_unit_test(addresses_are_counted_anew),
		cmocka_unit_test(queue_has_one_owner),
		cmocka_unit_test(length_changes_meanwhile),
		cmocka_unit_test(unbound_within_setup),
		cmocka_unit_test(handle_of_the_next_owner),
		cmocka_unit_test(one_copy),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
