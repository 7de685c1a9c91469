/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Real threads under the thread sanitizer: senders to one ring, learning and looking up, set-up and
 * reset against traffic, the control side meanwhile; a receiver that sleeps.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "fakenic.h"
#include <cmocka.h>

#define SENDERS 3

static struct t_switch t;
static struct t_guest *receiver, *sender[SENDERS];
static bool stop;
static uint32_t rounds = 3000;

static bool stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static void world(bool anti_spoof, uint32_t buf_len)
{
	t_create(&t, 1024);
	stop = false;
	receiver = t_guest(&t, true);
	assert_true(t_setup(receiver, 0, T_SIZE, T_SIZE, buf_len) > 0);
	t_post(&receiver->q[0], T_SIZE);
	for (int i = 0; i < SENDERS; i++)
		sender[i] = t_guest_up(&t, anti_spoof);
	assert_int_equal(t_send_one(receiver, 60, t_broadcast, receiver->mac, 0), 1);
}

/* Bursts of frames of one and of several buffers, numbered. */
static void *send_numbered(void *arg)
{
	struct t_guest *g = arg;
	uint32_t id = 0;

	for (uint32_t r = 0; r < rounds; r++) {
		uint32_t count = 1 + r % 7;

		for (uint32_t i = 0; i < count; i++, id++)
			t_frame_put(g, 0, id % 5 ? 64 : 1200, receiver->mac, g->mac,
				    (uint32_t)g->mac[5] << 24 | id);
		for (uint32_t left = count; left;) {
			int64_t n = t_send(g, 0, left);

			if (n < 0)
				abort();
			left -= (uint32_t)n;
		}
		if (r % 4 == 0)
			sched_yield();
	}
	return NULL;
}

struct seen {
	uint32_t frames, next[256];
	bool wrong;
};

static void *receive_numbered(void *arg)
{
	static struct t_frame frame;
	struct seen *seen = arg;

	for (;;) {
		bool last = stopped();
		uint32_t id;

		if (!t_receive(receiver, 0, &frame)) {
			if (last)
				return NULL;
			sched_yield();
			continue;
		}
		memcpy(&id, frame.data + 14, 4);
		if (frame.aborted || frame.data[11] != id >> 24 ||
		    (id & 0xffffff) < seen->next[id >> 24] ||
		    !t_frame_is(&frame, (id & 0xffffff) % 5 ? 64 : 1200, receiver->mac,
				frame.data + 6, id))
			seen->wrong = true;
		seen->next[id >> 24] = (id & 0xffffff) + 1;
		seen->frames++;
	}
}

static void senders_to_one_ring(void **state)
{
	struct elisa_port_counters c;
	struct seen seen = {.frames = 0};
	pthread_t from[SENDERS], to;
	uint64_t sent = 0;

	world(true, *(uint32_t *)*state);
	pthread_create(&to, NULL, receive_numbered, &seen);
	for (int i = 0; i < SENDERS; i++)
		pthread_create(&from[i], NULL, send_numbered, sender[i]);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(from[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(to, NULL);
	for (int i = 0; i < SENDERS; i++) {
		vs_port_counters(t.vs, sender[i]->port, &c);
		sent += c.tx_frames;
		assert_int_equal(c.tx_frames, c.tx_unicast);
		assert_int_equal(t_all_drops(&t, sender[i]), 0);
	}
	vs_port_counters(t.vs, receiver->port, &c);
	assert_false(seen.wrong);
	assert_int_equal(seen.frames, sent);
	assert_int_equal(c.rx_frames, sent);
	/* What is not there was dropped at the receiver, for a reason that can be. */
	assert_int_equal(sent + c.drops[ELISA_DROP_RX_NO_BUFFER] + c.drops[ELISA_DROP_RX_CONTENDED],
			 SENDERS *
				 (uint64_t)(rounds / 7 * 28 + (rounds % 7) * (rounds % 7 + 1) / 2));
	assert_true(sent > 1000);
	t_destroy(&t);
}

/* Each sender speaks as the same few addresses, and to them: inserts, moves, look-ups. */
static void *speak_as_many(void *arg)
{
	struct t_guest *g = arg;
	uint32_t x = g->mac[5];

	for (uint32_t r = 0; r < rounds; r++) {
		for (int i = 0; i < 4; i++) {
			uint8_t src[6] = {2, 1}, dst[6] = {2, 1};

			x = x * 1103515245 + 12345;
			src[5] = (uint8_t)(x >> 16) % 61;
			dst[5] = (uint8_t)(x >> 24) % 61;
			t_frame_put(g, 0, 60, dst, src, x);
		}
		for (uint32_t left = 4; left;)
			left -= (uint32_t)t_send(g, 0, left);
	}
	return NULL;
}

static void learn_move_age(void **state)
{
	pthread_t from[SENDERS];
	struct vs_fdb_entry e, other;
	struct vs_fdb_stats s;
	uint64_t cursor = 0;
	const uint8_t fixed[6] = {2, 1, 0, 0, 0, 7};

	(void)state;
	world(false, T_BUF);
	for (int i = 0; i < SENDERS; i++)
		pthread_create(&from[i], NULL, speak_as_many, sender[i]);
	for (uint64_t now = 1; now < 400; now++) {
		vs_tick(t.vs, now * (now % 3 ? 1 : 200));
		if (now % 16 == 0)
			vs_fdb_flush(t.vs, sender[now % SENDERS]->port);
		if (now == 20)
			assert_int_equal(vs_fdb_add(t.vs, fixed, 0, receiver->port), 0);
		cursor = 0;
		while (vs_fdb_next(t.vs, &cursor, &e))
			if (e.mac[0] != 2 || e.vid || e.port < 0 || e.port > SENDERS)
				fail_msg("an entry that nobody made");
		sched_yield();
	}
	for (int i = 0; i < SENDERS; i++)
		pthread_join(from[i], NULL);
	vs_fdb_stats(t.vs, &s);
	assert_true(s.moved > 0 && s.learned > 0 && s.statics == 1);
	/* Everybody speaks once more: then each address is there once, the fixed one as it was. */
	rounds /= 10;
	speak_as_many(sender[0]);
	rounds *= 10;
	cursor = 0;
	while (vs_fdb_next(t.vs, &cursor, &e)) {
		uint64_t again = cursor;

		while (vs_fdb_next(t.vs, &again, &other))
			assert_memory_not_equal(e.mac, other.mac, 6);
		assert_int_equal(e.is_static, !memcmp(e.mac, fixed, 6));
		if (e.is_static)
			assert_int_equal(e.port, receiver->port);
	}
	t_destroy(&t);
}

static void *set_up_and_reset(void *arg)
{
	struct t_guest *g = arg;

	for (uint32_t r = 0; r < rounds / 4; r++) {
		struct t_queue *q = &g->q[0];

		while (vs_entry(g->caller[1], ELISA_NET_QUEUE_RESET, 0, 0, 0, 0) == -ELISA_EAGAIN)
			sched_yield();
		/* The ring is its own now: nobody may write there. The sanitizer sees who does. */
		memset(q->comp, 0, q->rx_size * sizeof(struct elisa_rxc));
		memset(q->rx, 0, sizeof(struct elisa_rx) + q->rx_size * 8);
		t_post(q, q->rx_size);
		while (vs_entry(g->caller[1], ELISA_NET_QUEUE_SETUP, q->setup, 0, 0, 0) ==
		       -ELISA_EAGAIN)
			sched_yield();
	}
	return NULL;
}

/* Mode and steering, changed by another vCPU of the receiver. */
static void *tune(void *arg)
{
	struct t_guest *g = arg;
	uint64_t at = t_alloc(g, sizeof(struct elisa_rx_mode), 8);
	uint64_t rss_at = t_alloc(g, sizeof(struct elisa_rss), 8);
	struct elisa_rx_mode *mode = t_at(g, at);
	struct elisa_rss *rss = t_at(g, rss_at);

	for (uint32_t r = 0; !stopped(); r++) {
		int64_t result[2];

		*mode = (struct elisa_rx_mode){.flags = r & 3, .unicast = r & 1};
		memcpy(mode->mac[0], g->mac, 6);
		rss->types = r % 3 ? ELISA_RSS_ALL : 0;
		memset(rss->key, (int)r, sizeof(rss->key));
		result[0] = vs_entry(g->caller[2], ELISA_NET_RX_MODE, 0, 0, at, 0);
		result[1] = vs_entry(g->caller[2], ELISA_NET_RSS, 0, 0, rss_at, 0);
		for (int i = 0; i < 2; i++)
			if (result[i] && result[i] != -ELISA_EAGAIN)
				abort();
		sched_yield();
	}
	return NULL;
}

static void *send_blindly(void *arg)
{
	struct t_guest *g = arg;

	while (!stopped()) {
		for (uint32_t i = 0; i < 4; i++)
			t_frame_put(g, 0, 64, receiver->mac, g->mac, i);
		t_send(g, 0, 4);
	}
	return NULL;
}

/* A receiver that sets its queue up again and again, and more; the host takes it down as well. */
static void set_up_under_traffic(void **state)
{
	pthread_t from[2], setter, tuner;

	(void)state;
	world(true, T_BUF);
	for (int i = 0; i < 2; i++)
		pthread_create(&from[i], NULL, send_blindly, sender[i]);
	pthread_create(&setter, NULL, set_up_and_reset, receiver);
	pthread_create(&tuner, NULL, tune, receiver);
	for (int i = 0; i < 200; i++) {
		struct vs_port_config cfg = t_port_config(&t, sender[2]);

		if (i % 8 == 0)
			vs_guest_reset(t.vs, receiver->id);
		cfg.mtu = (uint16_t)(1000 + i);
		t_port_set(&t, sender[2], &cfg);
		vs_grace_done(t.vs, vs_grace_begin(t.vs));
		sched_yield();
	}
	pthread_join(setter, NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(from[i], NULL);
	pthread_join(tuner, NULL);
	t_destroy(&t);
}

/* ---- sleeping ---- */

#define BELL 0x30001

static int doorbell; /* an eventfd */

static void ring(uint64_t value)
{
	if (write(doorbell, &value, sizeof(value)) != sizeof(value))
		abort();
}

static void *send_and_ring(void *arg)
{
	struct t_guest *g = arg;

	for (uint32_t r = 0; r < rounds; r++) {
		int64_t bell;

		t_frame_put(g, 0, 64, receiver->mac, g->mac, r);
		if (t_send(g, 0, 1) != 1)
			abort();
		if (!g->bell)
			continue;
		while ((bell = t_call(g, ELISA_NET_BELL, (uint64_t)g->q[0].handle, 0))) {
			if (bell != BELL)
				abort();
			ring(1);
		}
	}
	return NULL;
}

struct sleeper {
	uint32_t frames, sleeps;
	bool overslept;
};

static void *sleep_and_receive(void *arg)
{
	static struct t_frame frame;
	struct elisa_rx *rx = receiver->q[0].rx;
	struct pollfd fd = {.fd = doorbell, .events = POLLIN};
	struct sleeper *s = arg;
	uint64_t rung;

	while (!stopped()) {
		__atomic_store_n(&rx->event, ++s->sleeps, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (!t_receive(receiver, 0, &frame)) {
			/* Nobody sends as long as it sleeps: there is time. */
			if (poll(&fd, 1, 10000) != 1) {
				s->overslept = true;
				return NULL;
			}
			if (read(doorbell, &rung, sizeof(rung)) != sizeof(rung))
				abort();
		} else {
			s->frames++;
		}
		__atomic_store_n(&rx->event, 0, __ATOMIC_RELAXED);
		while (t_receive(receiver, 0, &frame))
			s->frames++;
	}
	return NULL;
}

/* No frame is left lying before a receiver that sleeps. */
static void no_wake_up_is_lost(void **state)
{
	struct elisa_port_counters c;
	struct sleeper s = {.frames = 0};
	pthread_t from[SENDERS], to;
	uint64_t sent = 0, told = 0;

	(void)state;
	world(true, T_BUF);
	assert_true(t_setup_with(receiver, 0, T_SIZE, T_SIZE, T_BUF, ELISA_NET_F_EVENT) > 0);
	t_post(&receiver->q[0], T_SIZE);
	assert_int_equal(vs_port_bell(t.vs, receiver->port, BELL), 0);
	doorbell = eventfd(0, 0);
	assert_true(doorbell >= 0);
	pthread_create(&to, NULL, sleep_and_receive, &s);
	for (int i = 0; i < SENDERS; i++)
		pthread_create(&from[i], NULL, send_and_ring, sender[i]);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(from[i], NULL);
	/* All is sent, and each sleep was told of: it gets the rest without more of a push. */
	for (int i = 0; i < SENDERS; i++) {
		vs_port_counters(t.vs, sender[i]->port, &c);
		sent += c.tx_frames;
		told += c.tx_bells;
	}
	for (int ms = 0; ms < 10000; ms++) {
		struct vs_queue_info q;

		vs_port_queue(t.vs, receiver->port, 0, &q);
		if (q.rx_posted - q.rx_reserved == T_SIZE)
			break;
		usleep(1000);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	ring(1);
	pthread_join(to, NULL);
	close(doorbell);
	assert_false(s.overslept);
	assert_int_equal(s.frames, sent);
	assert_in_range(told, 1, (uint64_t)s.sleeps * SENDERS);
	t_destroy(&t);
}

/* Siblings in one queue, and one that sets it up meanwhile. */
static void *share_queue(void *arg)
{
	struct vs_caller *caller = arg;
	struct t_queue *q = &sender[0]->q[0];
	uint32_t done = 0;

	for (uint32_t r = 0; r < rounds; r++) {
		int64_t n = vs_entry(caller, ELISA_NET_TX, (uint64_t)q->handle, 0, 2, 0);

		if (n == 2)
			done++;
		else if (n != -ELISA_EBUSY)
			abort();
	}
	return (void *)(uintptr_t)done;
}

static void siblings(void **state)
{
	struct elisa_port_counters c;
	pthread_t thread[3];
	uint64_t done = 0;

	(void)state;
	world(true, T_BUF);
	for (uint32_t i = 0; i < T_SIZE; i++)
		t_frame_put(sender[0], 0, 64, receiver->mac, sender[0]->mac, i);
	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, share_queue, sender[0]->caller[i]);
	for (int i = 0; i < 3; i++) {
		void *result;

		pthread_join(thread[i], &result);
		done += (uintptr_t)result;
	}
	vs_port_counters(t.vs, sender[0]->port, &c);
	assert_int_equal(c.tx_calls, done);
	vs_port_counters(t.vs, receiver->port, &c);
	assert_int_equal(c.rx_frames + c.drops[ELISA_DROP_RX_NO_BUFFER], 2 * done);
	t_destroy(&t);
}

/* ---- NICs ---- */

static struct t_nic nic;
static const uint8_t outside[6] = {2, 9, 9, 9, 9, 1};

/* A vCPU that sends to the NIC and polls it, by a queue of its own. */
static void *send_and_poll(void *arg)
{
	static __thread struct t_frame frame;
	struct t_guest *g = arg;
	uint32_t got = 0;

	for (uint32_t r = 0; r < rounds; r++) {
		t_frame_put(g, 0, 64 + r % 900, outside, g->mac, r);
		if (t_send(g, 0, 1) != 1 || t_poll(g) < 0)
			abort();
		while (t_receive(g, 0, &frame)) {
			if (frame.aborted || memcmp(frame.data + 6, outside, 6))
				abort();
			got++;
		}
	}
	return (void *)(uintptr_t)got;
}

static void *serve_as_host(void *arg)
{
	unsigned int queue = *(unsigned int *)arg;

	while (!stopped()) {
		if (vs_entry(nic.guest->caller[queue], ELISA_NET_POLL,
			     (uint64_t)nic.guest->q[queue].handle, 0, 0, 0) < 0)
			abort();
		sched_yield();
	}
	return NULL;
}

/* The wire's end: something for every guest, and what comes is taken. */
static void *wire(void *arg)
{
	static __thread struct t_frame frame;
	unsigned int queue = *(unsigned int *)arg;
	struct t_nic_queue *q = &nic.q[queue];

	for (uint32_t r = 0; !stopped(); r++) {
		const uint8_t *to = r % 16 ? sender[r % SENDERS]->mac : t_broadcast;

		if (q->in.put - __atomic_load_n(&q->in.taken, __ATOMIC_ACQUIRE) < T_WIRE)
			t_wire_in(&nic, queue, 64 + r % 300, to, outside, r,
				  r & 1 ? ELISA_RXC_CSUM_OK : 0);
		while (t_wire_out(&nic, queue, &frame))
			if (frame.aborted || memcmp(frame.data, outside, 6))
				abort();
		sched_yield();
	}
	return NULL;
}

/*
 * Guests' vCPUs and the host's threads at the same queues: never two in one half, and all that the
 * switch took of a guest's frames goes out, though nobody comes once more for what is left. The
 * sanitizer sees whether the driver's state is handed on properly.
 */
static void nic_served_by_all(void **state)
{
	static unsigned int queues[2] = {0, 1};
	pthread_t vcpu[SENDERS], host[2], far[2];
	struct elisa_port_counters c;
	struct vs_nic_status status;
	static struct t_frame frame;
	uint64_t out = 0, by_guests = 0, got = 0;

	(void)state;
	world(true, T_BUF);
	t_nic(&t, &nic, 2, VS_NIC_BY_GUESTS, 0);
	assert_int_equal(vs_fdb_add(t.vs, outside, 0, nic.guest->port), 0);
	for (int i = 0; i < SENDERS; i++) {
		assert_int_equal(vs_fdb_add(t.vs, sender[i]->mac, 0, sender[i]->port), 0);
		assert_true(t_receive(sender[i], 0, &frame));
	}
	for (int i = 0; i < 2; i++) {
		pthread_create(&host[i], NULL, serve_as_host, &queues[i]);
		pthread_create(&far[i], NULL, wire, &queues[i]);
	}
	for (int i = 0; i < SENDERS; i++)
		pthread_create(&vcpu[i], NULL, send_and_poll, sender[i]);
	for (int i = 0; i < SENDERS; i++) {
		void *result;

		pthread_join(vcpu[i], &result);
		got += (uintptr_t)result;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++) {
		pthread_join(host[i], NULL);
		pthread_join(far[i], NULL);
	}
	assert_int_equal(vs_nic_status(t.vs, nic.guest->port, &status), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(nic.q[i].collisions, 0);
		assert_int_equal(status.queue[i].rx.owner_guest + status.queue[i].tx.owner_guest,
				 0);
		out += nic.q[i].out_frames;
		by_guests += status.queue[i].rx.frames_guest + status.queue[i].tx.frames_guest;
	}
	vs_port_counters(t.vs, nic.guest->port, &c);
	assert_int_equal(out, c.rx_frames);
	assert_int_equal(out + t_all_drops(&t, nic.guest), (uint64_t)rounds * SENDERS);
	print_message("%lu of %lu frames moved by guests\n", by_guests, out + got);
	assert_true(by_guests > rounds / 10 && got > 0);
	t_nic_destroy(&nic);
	t_destroy(&t);
}

int main(void)
{
	/* With frames of several buffers and without. */
	static uint32_t several = 512, single = T_BUF;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(senders_to_one_ring, &several),
		cmocka_unit_test_prestate(senders_to_one_ring, &single),
		cmocka_unit_test(learn_move_age),
		cmocka_unit_test(set_up_under_traffic),
		cmocka_unit_test(no_wake_up_is_lost),
		cmocka_unit_test(siblings),
		cmocka_unit_test(nic_served_by_all),
	};

	if (getenv("VS_ROUNDS"))
		rounds = (uint32_t)atoi(getenv("VS_ROUNDS"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
