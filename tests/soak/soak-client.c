/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One local client with five ports, in one thread:
 *
 *	a, b	send unicast frames to each other, in bursts
 *	c	sends a broadcast frame now and then
 *	k	hears it, and sends nothing
 *	m	sends nothing; gets the copies of mirrors
 *
 *	soak-client SPEC FRAMES SECONDS
 *
 * Spreads FRAMES over SECONDS. Frames have numbers: none may come twice, or after a later one. Says
 * "ready", then "finished"; at the end of its input how many were sent and received, as JSON. Then
 *it waits to be killed.
 */
#include <elisa/port.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BURST	64
#define CAST_AT 32 /* a broadcast frame every so many bursts */

enum { A, B, C, K, M, PORTS };
enum { UNICAST = 0x88b6, BROADCAST = 0x88b7 }; /* elisa-gen sends 0x88b5 */

struct side {
	struct elisa_port *port;
	struct elisa_txq *tx;
	struct elisa_rxq *rx;
	const uint8_t *mac;
	uint64_t sent, casts;		   /* unicast and broadcast frames that the switch took */
	uint64_t received, casts_received; /* whatever came: rx->frames */
	uint64_t next[PORTS];		   /* number of the next frame of that sender */
	uint64_t refused;		   /* pushes that failed as a whole */
};

static struct side sides[PORTS];
static uint64_t number[PORTS];

static void fail(const char *what, int64_t err)
{
	fprintf(stderr, "soak-client: %s: %s\n", what, err < 0 ? strerror((int)-err) : "");
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fill(struct side *s, uint8_t *at, const uint8_t *dst, unsigned int type)
{
	const uint8_t head[4] = {(uint8_t)(type >> 8), (uint8_t)type, (uint8_t)(s - sides), 0};
	const uint64_t n = number[s - sides]++;

	memcpy(at, dst, 6);
	memcpy(at + 6, s->mac, 6);
	memcpy(at + 12, head, 4);
	memcpy(at + 16, &n, 8);
}

/* Returns how many the switch took. */
static uint64_t push(struct side *s, const uint8_t *dst, unsigned int type, uint32_t count)
{
	uint32_t left = count;

	for (uint32_t i = 0; i < count; i++) {
		fill(s, s->tx->buf[i], dst, type);
		elisa_tx_put(s->tx, i, s->tx->buf_gpa[i],
			     (uint16_t)(60 + (type == UNICAST ? number[s - sides] % 1400 : 0)), 0);
	}
	while (left) {
		int64_t taken = elisa_tx_push(s->tx, left);

		if (taken < 0) {
			s->refused++;
			break;
		}
		left -= (uint32_t)taken;
	}
	return count - left;
}

static void take(struct side *s)
{
	struct elisa_frame frames[BURST];
	uint32_t n;

	while ((n = elisa_rx_burst(s->rx, frames, BURST))) {
		for (uint32_t i = 0; i < n; i++) {
			const uint8_t *dst = frames[i].data, *at = dst;
			unsigned int type;
			uint64_t seen;

			if (at[12] == 0x81 && !at[13])
				at += 4; /* a trunk port's */
			type = (unsigned int)at[12] << 8 | at[13];
			if (type != UNICAST && type != BROADCAST)
				continue; /* of a client that comes and goes */
			if (type == UNICAST && s != &sides[M] && memcmp(dst, s->mac, 6))
				fail("a frame for somebody else", 0);
			memcpy(&seen, at + 16, 8);
			if (at[14] >= PORTS || (s != &sides[M] && seen < s->next[at[14]]))
				fail("a frame came twice, or too late", 0);
			s->next[at[14]] = seen + 1;
			s->received += type == UNICAST;
			s->casts_received += type == BROADCAST;
		}
		elisa_rx_release(s->rx);
	}
}

static void take_all(void)
{
	for (int i = 0; i < PORTS; i++)
		take(&sides[i]);
}

static void poll_all(void)
{
	for (int i = 0; i < PORTS; i++) {
		int events = elisa_port_poll(sides[i].port);

		if (events < 0 || events & ELISA_PORT_RESET)
			fail("a port's queues went away", events);
	}
}

static void rest(double until)
{
	const struct timespec t = {0, 500000};

	while (now() < until) {
		nanosleep(&t, NULL);
		take_all();
	}
}

/* Whatever others still send is taken until nobody wants to hear of it. */
static void drain(void)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	while (poll(&in, 1, 1) == 0)
		take_all();
	take_all();
}

static void open_all(const char *spec)
{
	static const char *const name[PORTS] = {"a", "b", "c", "k", "m"};
	const struct elisa_port_params params = {.tx_bufs = BURST, .tx_buf_len = 2048};
	struct elisa_guest *guest;
	int ret = elisa_guest_open(spec, ELISA_SERVICE_SWITCH, &guest);

	if (ret) {
		fprintf(stderr, "soak-client: %s\n", elisa_guest_error());
		exit(1);
	}
	for (int i = 0; i < PORTS; i++) {
		struct side *s = &sides[i];

		ret = elisa_port_open(guest, name[i], &params, &s->port);
		if (ret)
			fail(name[i], ret);
		s->tx = elisa_port_txq(s->port, 0);
		s->rx = elisa_port_rxq(s->port, 0);
		s->mac = elisa_port_info(s->port)->mac;
	}
}

static void report(void)
{
	printf("{");
	for (int i = 0; i < PORTS; i++)
		printf("%s\"%c\": {\"sent\": %" PRIu64 ", \"casts\": %" PRIu64
		       ", \"received\": %" PRIu64 ", \"casts_received\": %" PRIu64
		       ", \"frames\": %" PRIu64 ", \"refused\": %" PRIu64 "}",
		       i ? ", " : "", "abckm"[i], sides[i].sent, sides[i].casts, sides[i].received,
		       sides[i].casts_received, sides[i].rx->frames, sides[i].refused);
	printf("}\n");
}

int main(int argc, char **argv)
{
	static const uint8_t everybody[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint64_t frames, done = 0;
	double begin, seconds, poll_at = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: soak-client SPEC FRAMES SECONDS\n");
		return 2;
	}
	frames = strtoull(argv[2], NULL, 0);
	seconds = strtod(argv[3], NULL);
	open_all(argv[1]);
	printf("ready\n");
	fflush(stdout);
	begin = now();
	for (uint64_t burst = 0; done < frames; burst++) {
		struct side *s = &sides[burst & 1], *to = &sides[!(burst & 1)];
		double t;

		s->sent += push(s, to->mac, UNICAST, BURST);
		if (burst % CAST_AT == 0)
			sides[C].casts += push(&sides[C], everybody, BROADCAST, 1);
		take_all();
		done += BURST;
		if (burst % 16)
			continue;
		t = now();
		if (t > poll_at) {
			poll_all();
			poll_at = t + 0.1;
		}
		rest(begin + seconds * (double)done / (double)frames);
	}
	printf("finished\n");
	fflush(stdout);
	drain();
	report();
	fflush(stdout);
	/* The counters of its ports can be read as long as it is there. */
	pause();
	return 0;
}
