/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that wants nothing but its peace: exchanges checked frames with another of its kind at a
 * steady pace, and looks after memory that nobody else has any business in.
 *
 *	attack-victim [PORT]	until SIGTERM; then prints JSON. Exit status 0: all was well with its
 *				frames; how many bytes of its memory may have changed others know.
 *
 * Both sides number their frames and tell each other how far they have got, so that neither ever
 * has more under way than the other has room for: what is lost was lost by the switch.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <elisa/port.h>

#include "canary.h"

#define CANARY		(4u << 20)
#define CANARY_STEP	4096u	/* bytes looked at in a round */
#define BURST		16u
#define WINDOW		256u
#define ROUND_US	10000
#define LAST_ROUNDS	300	/* after the signal: what is under way arrives */
#define MAGIC		0x76696374

struct frame {
	uint8_t dst[6], src[6];
	uint8_t type[2];
	uint32_t magic;
	uint64_t seq;	/* from 1; 0: only says that we are there */
	uint64_t seen;	/* the last of yours that I have */
	uint16_t len;
} __attribute__((packed));

struct victim {
	struct elisa_port *port;
	struct elisa_txq *tx;
	struct elisa_rxq *rx;
	uint8_t peer[6];
	bool has_peer;
	uint64_t sent, received, told;	/* `told`: what the peer has of ours */
	uint64_t corrupt, out_of_order, foreign, resets, refused;
	uint8_t *canary;
	uint64_t canary_at, canary_bad, canary_rounds;
};

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static int canary_make(struct victim *v)
{
	v->canary = mmap(NULL, CANARY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (v->canary == MAP_FAILED || mlock(v->canary, CANARY))
		return -1;
	for (uint64_t i = 0; i < CANARY; i++)
		v->canary[i] = canary_byte(i);
	return 0;
}

static void canary_look(struct victim *v, uint64_t bytes)
{
	while (bytes--) {
		/* Put right, so that each change counts once. */
		if (v->canary[v->canary_at] != canary_byte(v->canary_at)) {
			v->canary[v->canary_at] = canary_byte(v->canary_at);
			v->canary_bad++;
		}
		if (++v->canary_at == CANARY) {
			v->canary_at = 0;
			v->canary_rounds++;
		}
	}
}

/* ---- frames ---- */

static uint16_t len_of(uint64_t seq)
{
	return (uint16_t)(64 + seq * 37 % 1400);
}

static uint8_t byte_of(uint64_t seq, uint32_t at)
{
	return (uint8_t)(seq * 31 + at);
}

static uint16_t write_frame(struct victim *v, void *to, uint64_t seq)
{
	struct frame f = { .type = { 0x88, 0xb5 }, .magic = MAGIC, .seq = seq, .seen = v->received,
			   .len = len_of(seq) };
	uint8_t *p = to;

	memset(f.dst, 0xff, 6);
	if (v->has_peer)
		memcpy(f.dst, v->peer, 6);
	memcpy(f.src, elisa_port_info(v->port)->mac, 6);
	memcpy(p, &f, sizeof(f));
	for (uint32_t i = sizeof(f); i < f.len; i++)
		p[i] = byte_of(seq, i);
	return f.len;
}

static void send_some(struct victim *v, bool more)
{
	uint64_t room = WINDOW - (v->sent - v->told);
	uint32_t n = room < BURST ? (uint32_t)room : BURST, left;
	const bool hello = !v->has_peer || !more || !n;

	n = hello ? 1 : n;
	for (uint32_t i = 0; i < n; i++)
		elisa_tx_put(v->tx, i, v->tx->buf_gpa[i],
			     write_frame(v, v->tx->buf[i], hello ? 0 : v->sent + 1 + i), 0);
	left = n;
	for (int tries = 0; left && tries < 100; tries++) {
		int64_t taken = elisa_tx_push(v->tx, left);

		if (taken < 0)
			break;
		left -= (uint32_t)taken;
	}
	v->refused += left;
	if (!hello)
		v->sent += n - left;
}

static void take_frame(struct victim *v, const uint8_t *p, uint32_t len)
{
	struct frame f;

	if (len < sizeof(f) || (memcpy(&f, p, sizeof(f)), f.magic != MAGIC)) {
		v->foreign++;
		return;
	}
	if (f.len != len || f.len != len_of(f.seq)) {
		v->corrupt++;
		return;
	}
	for (uint32_t i = sizeof(f); i < len; i++) {
		if (p[i] != byte_of(f.seq, i)) {
			v->corrupt++;
			return;
		}
	}
	memcpy(v->peer, f.src, 6);
	v->has_peer = true;
	if (f.seen > v->told && f.seen <= v->sent)
		v->told = f.seen;
	if (!f.seq)
		return;
	if (f.seq != v->received + 1)
		v->out_of_order++;
	v->received = f.seq;
}

static void take_some(struct victim *v)
{
	struct elisa_frame frames[64];
	uint32_t n;

	while ((n = elisa_rx_burst(v->rx, frames, 64))) {
		for (uint32_t i = 0; i < n; i++)
			take_frame(v, frames[i].data, frames[i].segs == 1 ? frames[i].len : 0);
		elisa_rx_release(v->rx);
	}
}

static int run(struct victim *v)
{
	const struct timespec pause = { .tv_nsec = ROUND_US * 1000L };
	unsigned int left = LAST_ROUNDS;

	for (unsigned int round = 0; left; round++) {
		take_some(v);
		send_some(v, !stop);
		canary_look(v, CANARY_STEP);
		if (round % 64 == 0 && elisa_port_poll(v->port) & ELISA_PORT_RESET)
			v->resets++;
		left -= !!stop;
		nanosleep(&pause, NULL);
	}
	v->canary_at = 0;
	canary_look(v, CANARY);
	printf("{\"sent\": %lu, \"received\": %lu, \"told\": %lu, \"corrupt\": %lu, "
	       "\"out_of_order\": %lu, \"foreign\": %lu, \"refused\": %lu, \"resets\": %lu, "
	       "\"aborted\": %lu, \"canary_changed\": %lu, \"canary_rounds\": %lu}\n",
	       v->sent, v->received, v->told, v->corrupt, v->out_of_order, v->foreign, v->refused,
	       v->resets, v->rx->aborted, v->canary_bad, v->canary_rounds);
	return v->sent && v->received && v->told == v->sent && !v->corrupt && !v->out_of_order &&
	       !v->refused && !v->resets ? 0 : 1;
}

int main(int argc, char **argv)
{
	const struct elisa_port_params params = { .tx_bufs = BURST, .tx_buf_len = 2048,
						  .rx_size = 1024 };
	struct victim v = { 0 };
	struct elisa_guest *guest;
	int rc;

	signal(SIGTERM, on_term);
	rc = elisa_guest_open(NULL, ELISA_SERVICE_SWITCH, &guest);
	if (rc) {
		fprintf(stderr, "attack-victim: %s\n", elisa_guest_error());
		return 1;
	}
	rc = elisa_port_open(guest, argc > 1 ? argv[1] : NULL, &params, &v.port);
	if (rc || canary_make(&v)) {
		fprintf(stderr, "attack-victim: no port or memory: %s\n", strerror(-rc));
		return 1;
	}
	v.tx = elisa_port_txq(v.port, 0);
	v.rx = elisa_port_rxq(v.port, 0);
	elisa_port_bind(v.port, 0);
	rc = run(&v);
	elisa_port_close(v.port);
	elisa_guest_close(guest);
	return rc;
}
