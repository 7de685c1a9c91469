/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Group rings: what a guest writes where the switch reads, before a call, during it and against a set-up of
 * the same queue. Frames go from m0 to m1, so hostile rings are at both ends.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user.h"

#define BURST	64u

/* Mostly next to where something ends: of counts, of what is mapped, of numbers. */
static uint64_t extreme(struct user *u)
{
	const uint64_t at[] = {
		0, 1, 14, USER_RING, USER_BUF, 0x8000, 0xffff, 0x7fffffff, 0xffffffff, 1ull << 32,
		0xa0000, 0xf0000, 0xc0000000, 0xfec00000, 0xfee00000, 0xfffff000, 1ull << 39,
		1ull << 46, 1ull << 52, 1ull << 63, UINT64_MAX, u->gpa, u->gpa + USER_MEM,
	};

	return at[user_random(u, sizeof(at) / sizeof(*at))] + user_random(u, 5) - 2;
}

static uint64_t any(struct user *u)
{
	return user_random(u, 2) ? extreme(u) :
				   (uint64_t)user_random(u, UINT32_MAX) << user_random(u, 33);
}

/* Only of memory that may be written: an address of our own, or one that is nobody's. */
static uint64_t any_buffer(struct user *u)
{
	uint64_t addr = extreme(u);

	if (addr < 0x80000000 && (addr < u->gpa || addr >= u->gpa + USER_MEM))
		addr |= 0x7fffffff80000000;
	/* Beside the canary: that is told, and its own fault. */
	if (addr - u->gpa < USER_MEM)
		addr = u->gpa + USER_TX + user_random(u, USER_RING) * USER_BUF;
	return addr;
}

/* A frame of TCP over IPv4 of `len` bytes, for offloads to have something to read. */
static uint64_t segmentable(struct user *u, uint32_t i, uint16_t len)
{
	uint64_t gpa = user_frame(u, i, u->q[1].mac, u->q[0].mac);
	uint8_t *p = u->at + (gpa - u->gpa);

	memset(p + 12, 0, 54);
	p[12] = 8;
	p[14] = 0x45;
	p[16] = (uint8_t)((len - 14) >> 8);
	p[17] = (uint8_t)(len - 14);
	p[23] = 6;
	p[46] = 0x50;
	return gpa;
}

static void spoil(struct user *u, struct elisa_txd *d)
{
	switch (user_random(u, 8)) {
	case 0: d->addr = any(u); break;
	case 1: d->len = (uint16_t)any(u); break;
	case 2: d->flags = (uint16_t)any(u); break;
	case 3: d->csum_start = (uint16_t)any(u); break;
	case 4: d->gso_size = (uint16_t)any(u); break;
	case 5: d->flags ^= ELISA_NET_MORE; break;
	case 6: d->flags |= (uint16_t)(ELISA_NET_TSO4 << user_random(u, 2)) | ELISA_NET_CSUM; break;
	default:
		d->addr = u->gpa + USER_MEM - user_random(u, 64);
		d->len = (uint16_t)(1 + user_random(u, USER_BUF));
	}
}

static void write_descriptor(struct user *u, uint32_t i)
{
	struct user_queue *q = &u->q[0];
	struct elisa_txd *d = &q->tx[(q->next + i) % USER_RING];
	const uint16_t len = (uint16_t)(60 + user_random(u, USER_BUF - 60));

	*d = (struct elisa_txd){ .addr = segmentable(u, i, len), .len = len };
	if (!user_random(u, 4)) {
		d->flags = ELISA_NET_CSUM | ELISA_NET_TSO4 | 16 << ELISA_NET_CSUM_OFFSET;
		d->csum_start = 34;
		d->gso_size = (uint16_t)(ELISA_GSO_SIZE_MIN + user_random(u, 200));
	}
	while (!user_random(u, 3))
		spoil(u, d);
}

/* What the receiver says; mostly true. */
static void write_receiver(struct user *u)
{
	struct user_queue *q = &u->q[1];
	const uint32_t slot = user_random(u, USER_RING);

	user_take(u, 1, NULL, NULL);
	q->rx->addr[slot] = u->gpa + USER_PORT(1) + USER_RX_BUFS + slot * USER_BUF;
	if (!user_random(u, 3))
		q->rx->addr[user_random(u, USER_RING)] = any_buffer(u);
	if (!user_random(u, 8))
		q->rx->posted = (uint32_t)any(u);
	if (!user_random(u, 8))
		q->rx->event = (uint32_t)any(u);
}

static bool count_ok(int64_t r, uint64_t count)
{
	if (r < 0)
		return r == -ELISA_EINVAL || r == -ELISA_EBUSY || r == -ELISA_ESTALE;
	return (uint64_t)r <= count && r <= ELISA_TX_MAX;
}

/* args[0]: calls. */
static int rings_descriptors(struct attack_run *run)
{
	const uint64_t calls = run->args[0] ? run->args[0] : 2000;
	struct elisa_port_counters at_first, c;
	uint64_t taken = 0, drops = 0;
	struct user u;
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	user_counters(&u, 0, &at_first);
	for (uint64_t n = 0; n < calls; n++) {
		const uint64_t count = user_random(&u, 16) ? BURST : any(&u);
		int64_t r;

		for (uint32_t i = 0; i < BURST; i++)
			write_descriptor(&u, i);
		write_receiver(&u);
		r = user_send(&u, 0, count);
		if (!count_ok(r, count)) {
			attack_is(run, ATTACK_BREACH, 0, "%ld for %lu descriptors", (long)r,
				  (unsigned long)count);
			goto out;
		}
		taken += r > 0 ? (uint64_t)r : 0;
	}
	user_counters(&u, 0, &c);
	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++)
		drops += c.drops[i] - at_first.drops[i];
	run->detail[0] = taken;
	run->detail[1] = drops;
	run->detail[2] = c.tx_frames - at_first.tx_frames;
	user_verdict(&u, run, "%lu calls took %lu descriptors; %lu frames passed, %lu dropped",
		     (unsigned long)calls, (unsigned long)taken, (unsigned long)run->detail[2],
		     (unsigned long)drops);
out:
	user_close(&u);
	return 0;
}

/* ---- during a call ---- */

struct rewriter {
	struct user u;	/* a copy, but for the memory */
	volatile bool stop;
	uint64_t writes;
};

static void poke(struct user *u, uint32_t offset, uint32_t len, uint64_t value)
{
	volatile uint64_t *at = (volatile uint64_t *)(void *)(u->at + offset);

	at[user_random(u, len / 8)] = value;
}

/*
 * All that the switch reads and where it writes, but for addresses of RX buffers that could be
 * somebody else's in this guest: those are changed to what is ours or nobody's.
 */
static void *rewrite(void *arg)
{
	struct rewriter *w = arg;
	struct user *u = &w->u;

	user_pin(1);
	while (!w->stop) {
		write_descriptor(u, user_random(u, USER_RING));
		poke(u, USER_PORT(0), USER_RING * sizeof(struct elisa_txd), any(u));
		poke(u, USER_PORT(1) + USER_COMP, USER_RING * sizeof(struct elisa_rxc), any(u));
		poke(u, USER_PORT(1) + USER_RX_RING, 8, any(u));
		u->q[1].rx->addr[user_random(u, USER_RING)] = any_buffer(u);
		poke(u, USER_TX + user_random(u, USER_RING) * USER_BUF, 64, any(u));
		poke(u, USER_MODE, sizeof(struct elisa_rx_mode), any(u));
		poke(u, USER_RSS, sizeof(struct elisa_rss), any(u));
		w->writes += 8;
	}
	return NULL;
}

static bool error_ok(int64_t r)
{
	switch (-r) {
	case ELISA_EAGAIN: case ELISA_EBUSY: case ELISA_ESTALE: case ELISA_EINVAL:
	case ELISA_EFAULT: case ELISA_EPERM: case ELISA_EPROTO: case ELISA_ENODEV:
		return true;
	default:
		return r >= 0;
	}
}

/* One call of all but set-up. */
static int64_t any_call(struct user *u)
{
	switch (user_random(u, 12)) {
	case 0: return user_call(u, ELISA_NET_RX_MODE, user_random(u, 2), u->gpa + USER_MODE);
	case 1: return user_call(u, ELISA_NET_RSS, user_random(u, 2), u->gpa + USER_RSS);
	case 2: return user_call(u, ELISA_NET_COUNTERS, user_random(u, 2), u->gpa + USER_COUNTERS);
	case 3: return user_call(u, ELISA_NET_BELL, u->q[user_random(u, 2)].handle, 0);
	default: return user_send(u, 0, BURST);
	}
}

/* args[0]: seconds. */
static int rings_rewritten(struct attack_run *run)
{
	const double seconds = run->args[0] ? (double)run->args[0] : 2;
	struct rewriter w = { 0 };
	pthread_t thread;
	uint64_t calls = 0;
	int64_t r = 0;
	double end;
	int rc = user_open(&w.u, "attack");

	if (rc)
		return rc;
	if (!user_pin(1)) {
		user_close(&w.u);
		return attack_is(run, ATTACK_ABSENT, 0, "this VM has one vCPU");
	}
	struct user u = w.u;

	user_pin(0);
	w.u.random ^= 0x5deece66d;
	rc = -pthread_create(&thread, NULL, rewrite, &w);
	if (rc)
		goto out;
	for (end = user_seconds() + seconds; error_ok(r) && user_seconds() < end; calls++) {
		r = any_call(&u);
		user_take(&u, 1, NULL, NULL);
	}
	w.stop = true;
	pthread_join(thread, NULL);
	run->detail[0] = calls;
	run->detail[1] = w.writes;
	if (!error_ok(r))
		attack_is(run, ATTACK_BREACH, 0, "a call says %ld", (long)r);
	else
		user_verdict(&u, run, "%lu calls, while a sibling wrote %lu times",
			     (unsigned long)calls, (unsigned long)w.writes);
out:
	user_close(&u);
	return rc;
}

/* ---- set-ups against each other ---- */

/* Of port 0's queue: what each does to the other. Returns what was no proper answer, or 0. */
static int64_t race(struct user *u, double seconds, uint64_t *calls)
{
	const double end = user_seconds() + seconds;
	uint64_t handle = u->q[0].handle;
	int64_t r = 0;

	while (error_ok(r) && user_seconds() < end) {
		++*calls;
		switch (user_random(u, 6)) {
		case 0:
			user_setup_fill(u, 0, (struct elisa_queue_setup *)(void *)(u->at + USER_SETUP));
			r = user_call(u, ELISA_NET_QUEUE_SETUP, u->gpa + USER_SETUP, 0);
			handle = r > 0 ? (uint64_t)r : handle;
			u->q[0].next = r > 0 ? 0 : u->q[0].next;
			break;
		case 1:
			r = user_call(u, ELISA_NET_QUEUE_RESET, 0, 0);
			break;
		case 2:
			user_put(u, 1, 0, user_frame(u, 1, u->q[0].mac, u->q[1].mac), USER_LEN, 0);
			r = user_call(u, ELISA_NET_TX, u->q[1].handle, 1);
			break;
		default:
			user_put(u, 0, 0, user_frame(u, 0, u->q[1].mac, u->q[0].mac), USER_LEN, 0);
			r = user_call(u, ELISA_NET_TX, handle, 1);
			u->q[0].next += r > 0 ? (uint32_t)r & ELISA_TX_TAKEN : 0;
		}
	}
	return error_ok(r) ? 0 : r;
}

/* The other process: memory of its own, on the other vCPU. Exit status: all was well. */
static int racer(double seconds)
{
	uint64_t calls = 0;
	struct user u;
	int64_t bad;

	user_pin(1);
	if (user_open_memory(&u, "attack-other"))
		return 2;
	u.random ^= 0x5deece66d;
	bad = race(&u, seconds, &calls);
	user_close(&u);
	return bad || !calls;
}

/* args[0]: seconds. */
static int rings_raced(struct attack_run *run)
{
	const double seconds = run->args[0] ? (double)run->args[0] : 2;
	uint64_t calls = 0;
	int64_t bad;
	struct user u;
	int rc, status = -1;
	pid_t other;

	other = fork();
	if (!other)
		_exit(racer(seconds));
	user_pin(0);
	rc = user_open(&u, "attack");
	if (rc)
		goto reap;
	bad = race(&u, seconds, &calls);
	waitpid(other, &status, 0);
	other = -1;
	run->detail[0] = calls;
	if (bad || status)
		attack_is(run, ATTACK_BREACH, 0, "a call says %ld here, or was wrong there: %d",
			  (long)bad, status);
	else
		user_verdict(&u, run, "%lu calls, and as many by another process",
			     (unsigned long)calls);
	user_close(&u);
reap:
	if (other > 0)
		waitpid(other, &status, 0);
	return rc;
}

const struct user_attack rings_attacks[] = {
	{ "rings-descriptors", rings_descriptors },
	{ "rings-rewritten", rings_rewritten },
	{ "rings-raced", rings_raced },
	{ 0 },
};
