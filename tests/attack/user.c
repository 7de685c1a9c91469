/* SPDX-License-Identifier: BSD-3-Clause */
/* See user.h: queues of the attacker's ports, set up by hand. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "user.h"

#define CANARY(i)	((uint8_t)((i) * 0x9d >> 3 ^ 0xc5))

int64_t user_call(struct user *u, uint64_t op, uint64_t a1, uint64_t a2)
{
	return elisa_call(&u->call, op, a1, a2, 0);
}

double user_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

bool user_pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

uint32_t user_random(struct user *u, uint32_t below)
{
	u->random ^= u->random << 13;
	u->random ^= u->random >> 7;
	u->random ^= u->random << 17;
	return (uint32_t)(u->random >> 32) % below;
}

/* ---- queues ---- */

void user_setup_fill(const struct user *u, unsigned int port, struct elisa_queue_setup *s)
{
	const uint64_t at = u->gpa + USER_PORT(port);

	*s = (struct elisa_queue_setup){
		.revision = ELISA_NET_REVISION,
		.port = (uint16_t)port,
		.tx_size = USER_RING,
		.rx_size = USER_RING,
		.rx_buf_len = USER_BUF,
		.tx_ring = at,
		.rx_ring = at + USER_RX_RING,
		.rx_comp = at + USER_COMP,
	};
}

/* Asks again while the answer is EAGAIN. */
static int64_t call_patiently(struct user *u, uint64_t op, uint64_t a1)
{
	const double end = user_seconds() + 1;
	int64_t r;

	while ((r = user_call(u, op, a1, 0)) == -ELISA_EAGAIN && user_seconds() < end)
		sched_yield();
	return r;
}

int user_reset(struct user *u, unsigned int port)
{
	return (int)call_patiently(u, ELISA_NET_QUEUE_RESET, (uint64_t)port << 16);
}

int user_set_up(struct user *u, unsigned int port)
{
	struct user_queue *q = &u->q[port];
	int64_t r = user_reset(u, port);

	if (r < 0)
		return (int)r;
	memset(q->tx, 0, USER_RING * sizeof(*q->tx));
	memset(q->comp, 0, USER_RING * sizeof(*q->comp));
	for (uint32_t i = 0; i < USER_RING; i++)
		q->rx->addr[i] = u->gpa + USER_PORT(port) + USER_RX_BUFS + i * USER_BUF;
	q->rx->event = 0;
	q->next = q->head = 0;
	__atomic_store_n(&q->rx->posted, USER_RING, __ATOMIC_RELEASE);
	user_setup_fill(u, port, (struct elisa_queue_setup *)(void *)(u->at + USER_SETUP));
	r = call_patiently(u, ELISA_NET_QUEUE_SETUP, u->gpa + USER_SETUP);
	if (r < 0)
		return (int)r;
	q->handle = (uint64_t)r;
	return 0;
}

int user_counters(struct user *u, unsigned int port, struct elisa_port_counters *c)
{
	int64_t r = user_call(u, ELISA_NET_COUNTERS, port, u->gpa + USER_COUNTERS);

	memcpy(c, u->at + USER_COUNTERS, sizeof(*c));
	return r < 0 ? (int)r : 0;
}

/* ---- all ---- */

int user_open_memory(struct user *u, const char *name)
{
	int rc;

	*u = (struct user){ .random = 0x9e3779b97f4a7c15 };
	rc = elisa_guest_open(NULL, ELISA_SERVICE_SWITCH, &u->guest);
	if (rc)
		return rc;
	rc = elisa_guest_call(u->guest, &u->call) ?:
	     elisa_mem_alloc(u->guest, name, USER_MEM, &u->mem);
	if (rc) {
		elisa_guest_close(u->guest);
		return rc;
	}
	u->at = u->mem->addr;
	u->gpa = elisa_mem_gpa(u->mem, u->at);
	for (uint32_t i = USER_CANARY; i < USER_MEM; i++)
		u->at[i] = CANARY(i);
	for (unsigned int p = 0; p < USER_PORTS; p++) {
		u->q[p].tx = (struct elisa_txd *)(void *)(u->at + USER_PORT(p));
		u->q[p].rx = (struct elisa_rx *)(void *)(u->at + USER_PORT(p) + USER_RX_RING);
		u->q[p].comp = (struct elisa_rxc *)(void *)(u->at + USER_PORT(p) + USER_COMP);
	}
	return 0;
}

int user_open(struct user *u, const char *name)
{
	const struct elisa_port_info *info;
	int rc = user_open_memory(u, name);

	if (rc)
		return rc;
	info = (const struct elisa_port_info *)(const void *)(u->at + USER_INFO);
	for (unsigned int p = 0; !rc && p < USER_PORTS; p++) {
		int64_t r = user_call(u, ELISA_NET_PORT_INFO, p, u->gpa + USER_INFO);

		rc = r < 0 ? (int)r : user_set_up(u, p);
		memcpy(u->q[p].mac, info->mac, 6);
	}
	if (rc) {
		user_close(u);
		return rc;
	}
	/* So that the switch knows who is where. */
	for (unsigned int p = 0; p < USER_PORTS; p++) {
		const uint8_t *to = u->q[(p + 1) % USER_PORTS].mac;

		user_put(u, p, 0, user_frame(u, p, to, u->q[p].mac), USER_LEN, 0);
		user_send(u, p, 1);
	}
	return 0;
}

void user_close(struct user *u)
{
	int rc = 0;

	for (unsigned int p = 0; p < USER_PORTS; p++)
		rc |= user_reset(u, p);
	if (rc)
		elisa_mem_leave(u->guest, u->mem);
	else
		elisa_mem_free(u->guest, u->mem);
	elisa_guest_close(u->guest);
}

/* ---- frames ---- */

uint64_t user_frame(struct user *u, uint32_t i, const uint8_t dst[6], const uint8_t src[6])
{
	const uint32_t at = USER_TX + i % USER_RING * USER_BUF;
	uint8_t *p = u->at + at;

	memcpy(p, dst, 6);
	memcpy(p + 6, src, 6);
	p[12] = 0x88;
	p[13] = 0xb6;
	memset(p + 14, (int)i, USER_LEN - 14);
	return u->gpa + at;
}

void user_put(struct user *u, unsigned int port, uint32_t i, uint64_t addr, uint16_t len,
	      uint16_t flags)
{
	struct user_queue *q = &u->q[port];

	q->tx[(q->next + i) % USER_RING] = (struct elisa_txd){ .addr = addr, .len = len,
							       .flags = flags };
}

int64_t user_send(struct user *u, unsigned int port, uint64_t count)
{
	struct user_queue *q = &u->q[port];
	int64_t r = user_call(u, ELISA_NET_TX, q->handle, count);

	if (r < 0)
		return r;
	q->next += (uint32_t)r & ELISA_TX_TAKEN;
	return r & ELISA_TX_TAKEN;
}

uint32_t user_take(struct user *u, unsigned int port,
		   void (*each)(const uint8_t *data, uint32_t len, void *arg), void *arg)
{
	struct user_queue *q = &u->q[port];
	const uint32_t first = q->head;

	while (__atomic_load_n(&q->comp[q->head % USER_RING].seq, __ATOMIC_ACQUIRE) == q->head + 1) {
		const uint32_t slot = q->head % USER_RING;

		if (each && !(q->comp[slot].flags & ELISA_RXC_ABORTED))
			each(u->at + USER_PORT(port) + USER_RX_BUFS + slot * USER_BUF,
			     q->comp[slot].len, arg);
		q->head++;
	}
	__atomic_store_n(&q->rx->posted, q->head + USER_RING, __ATOMIC_RELEASE);
	return q->head - first;
}

/* ---- the end of a row ---- */

struct expected {
	const uint8_t *frame;
	uint32_t count;
};

static void compare(const uint8_t *data, uint32_t len, void *arg)
{
	struct expected *e = arg;

	e->count += len == USER_LEN && !memcmp(data, e->frame, USER_LEN);
}

/* Does a frame get from one port to the other as it is? Soon: limits may just be used up. */
static bool passes(struct user *u, unsigned int from, unsigned int to)
{
	struct expected e = { .frame = u->at + USER_TX };

	for (int i = 0; !e.count && i < 20; i++) {
		user_take(u, to, NULL, NULL);
		user_put(u, from, 0, user_frame(u, 0, u->q[to].mac, u->q[from].mac), USER_LEN, 0);
		if (user_send(u, from, 1) != 1)
			return false;
		user_take(u, to, compare, &e);
		if (!e.count)
			usleep(5000);
	}
	return e.count == 1;
}

static uint32_t canary_changed(const struct user *u)
{
	uint32_t n = 0;

	for (uint32_t i = USER_CANARY; i < USER_MEM; i++)
		n += u->at[i] != CANARY(i);
	return n;
}

int user_verdict(struct user *u, struct attack_run *run, const char *fmt, ...)
{
	const uint32_t changed = canary_changed(u);
	char text[sizeof(run->text)];
	va_list args;

	for (unsigned int p = 0; p < USER_PORTS; p++) {
		int rc = user_set_up(u, p);

		if (rc)
			return attack_is(run, ATTACK_BREACH, 0, "port %u cannot be set up: %s", p,
					 strerror(-rc));
	}
	if (!passes(u, 0, 1) || !passes(u, 1, 0))
		return attack_is(run, ATTACK_BREACH, 0, "frames no longer get from port to port");
	if (changed)
		return attack_is(run, ATTACK_BREACH, 0, "%u bytes beside changed", changed);
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return attack_is(run, ATTACK_NO_EFFECT, 0, "%s", text);
}
