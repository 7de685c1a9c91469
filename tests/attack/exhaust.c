/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Group exhaust: what all share is used up, as far as the configuration lets it: addresses, buffers, the
 * others' time. What the victims notice of it is judged by attack-run.
 */
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "user.h"

#define BURST	64u
#define LIMIT	64u	/* m1's mac_limit */

static int send_burst(struct user *u, unsigned int port, unsigned int n)
{
	for (unsigned int left = n; left;) {
		int64_t r = user_send(u, port, left);

		if (r <= 0)
			return r ? (int)r : -ELISA_EAGAIN;
		left -= (unsigned int)r;
	}
	return 0;
}

static uint64_t dropped(const struct elisa_port_counters *from,
			const struct elisa_port_counters *to, enum elisa_drop drop)
{
	return to->drops[drop] - from->drops[drop];
}

/* ---- addresses ---- */

struct seen {
	const struct user *u;
	unsigned int foreign;
};

static void look(const uint8_t *data, uint32_t len, void *arg)
{
	struct seen *s = arg;

	/* The victims' frames; theirs to everybody may be seen by everybody. */
	if (len >= 14 && data[12] == 0x88 && data[13] == 0xb5 && !(data[0] & 1))
		s->foreign++;
}

/* How many frames were to be dropped, of those from `count` addresses? */
static const char *wrong_drops(unsigned int port, uint64_t count,
			       const struct elisa_port_counters *from,
			       const struct elisa_port_counters *to)
{
	const uint64_t limited = dropped(from, to, ELISA_DROP_TX_MAC_LIMIT);

	if (port == 0 && dropped(from, to, ELISA_DROP_TX_SPOOFED) != count)
		return "a source address that is not the port's got through";
	if (port == 1 && (limited > count || count - limited > LIMIT))
		return "more addresses than the limit got through";
	return port == 2 && limited ? "port 2 is to have no limit" : NULL;
}

/* args[0]: port; args[1]: frames, each from another address. */
static int exhaust_addresses(struct attack_run *run)
{
	const unsigned int port = (unsigned int)run->args[0] % USER_PORTS, to = (port + 1) % USER_PORTS;
	const uint64_t count = run->args[1] ? run->args[1] : 4096;
	struct elisa_port_counters at_first, c;
	const char *wrong;
	struct user u;
	struct seen seen = { .u = &u };
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	user_counters(&u, port, &at_first);
	for (uint64_t n = 0; !rc && n < count; n += BURST) {
		for (uint32_t i = 0; i < BURST; i++) {
			uint32_t number = 1 + (uint32_t)n + i;
			uint8_t src[6] = { 0x0a, (uint8_t)port };

			memcpy(src + 2, &number, 4);
			user_put(&u, port, i, user_frame(&u, i, u.q[to].mac, src), USER_LEN, 0);
		}
		rc = send_burst(&u, port, BURST);
		for (unsigned int p = 0; p < USER_PORTS; p++)
			user_take(&u, p, look, &seen);
	}
	/* Others go on meanwhile, and nothing of theirs comes here. */
	usleep(200000);
	for (unsigned int p = 0; p < USER_PORTS; p++)
		user_take(&u, p, look, &seen);
	user_counters(&u, port, &c);
	wrong = wrong_drops(port, count, &at_first, &c);
	run->detail[0] = c.tx_frames - at_first.tx_frames;
	run->detail[1] = seen.foreign;
	if (wrong || seen.foreign)
		attack_is(run, ATTACK_BREACH, 0, "%s; %u frames of others seen", wrong ? wrong : "",
			  seen.foreign);
	else if (!rc)
		user_verdict(&u, run, "frames from %lu addresses, %lu got through",
			     (unsigned long)count, (unsigned long)run->detail[0]);
	user_close(&u);
	return rc;
}

/* ---- buffers ---- */

/* Cycles of one call of BURST frames from port 1 to 0. */
static uint64_t timed_burst(struct user *u)
{
	uint64_t start;

	for (uint32_t i = 0; i < BURST; i++)
		user_put(u, 1, i, user_frame(u, i, u->q[0].mac, u->q[1].mac), USER_LEN, 0);
	start = __rdtsc();
	user_send(u, 1, BURST);
	return __rdtsc() - start;
}

/*
 * Nobody polls m0, while frames are sent to it: what that costs the sender, at best of many calls, when
 * they are received and when there is no buffer left. args[0]: calls.
 */
static int exhaust_unpolled(struct attack_run *run)
{
	const uint64_t calls = run->args[0] ? run->args[0] : 400;
	uint64_t polled = UINT64_MAX, unpolled = UINT64_MAX, none;
	struct elisa_port_counters at_first, c;
	struct user u;
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	for (uint64_t n = 0; n < 32; n++) {
		const uint64_t t = timed_burst(&u);

		polled = t < polled ? t : polled;
		user_take(&u, 0, NULL, NULL);
	}
	user_counters(&u, 0, &at_first);
	for (uint64_t n = 0; n < calls; n++) {
		const uint64_t t = timed_burst(&u);

		if (n >= USER_RING / BURST && t < unpolled)
			unpolled = t;
	}
	user_counters(&u, 0, &c);
	none = dropped(&at_first, &c, ELISA_DROP_RX_NO_BUFFER);
	run->detail[0] = polled;
	run->detail[1] = unpolled;
	if (none != calls * BURST - USER_RING)
		attack_is(run, ATTACK_BREACH, 0, "%lu of %lu frames dropped", (unsigned long)none,
			  (unsigned long)(calls * BURST));
	else if (unpolled > 2 * polled)
		attack_is(run, ATTACK_BREACH, 0, "%lu cycles a call, not %lu", (unsigned long)unpolled,
			  (unsigned long)polled);
	else
		user_verdict(&u, run, "%lu frames dropped, %lu cycles for %u; %lu when received",
			     (unsigned long)none, (unsigned long)unpolled, BURST,
			     (unsigned long)polled);
	user_close(&u);
	return 0;
}

/* Frames without an end: as many descriptors as there are, all of which say that more comes. */
static int exhaust_endless(struct attack_run *run)
{
	const uint64_t calls = run->args[0] ? run->args[0] : 500;
	uint64_t taken = 0, longest = 0;
	struct user u;
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	for (uint32_t i = 0; i < USER_RING; i++)
		user_put(&u, 0, i, user_frame(&u, i, u.q[1].mac, u.q[0].mac), USER_BUF, ELISA_NET_MORE);
	for (uint64_t n = 0; n < calls; n++) {
		const uint64_t start = __rdtsc();
		int64_t r = user_send(&u, 0, n & 1 ? USER_RING : USER_RING - 1);
		const uint64_t t = __rdtsc() - start;

		longest = t > longest ? t : longest;
		taken += r > 0 ? (uint64_t)r : 0;
	}
	run->detail[0] = taken;
	run->detail[1] = longest;
	user_verdict(&u, run, "%lu calls took %lu descriptors", (unsigned long)calls,
		     (unsigned long)taken);
	user_close(&u);
	return 0;
}

/* ---- the others' time ---- */

enum kind { BROADCAST, MULTICAST, UNKNOWN };

/*
 * args[0]: port; args[1]: enum kind; args[2]: seconds; args[3]: how many a second may get through, and as
 * many at once. As fast as it goes.
 */
static int exhaust_flood(struct attack_run *run)
{
	static const uint8_t to[][6] = {
		[BROADCAST] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		[MULTICAST] = { 0x01, 0x00, 0x5e, 0x00, 0x00, 0x01 },
		[UNKNOWN] = { 0x0e, 0x00, 0x00, 0x00, 0x00, 0x01 },
	};
	const unsigned int port = (unsigned int)run->args[0] % USER_PORTS;
	const double seconds = run->args[2] ? (double)run->args[2] : 2;
	struct elisa_port_counters at_first, c;
	uint64_t frames = 0, flooded;
	struct user u;
	double start;
	int rc = user_open(&u, "attack");

	if (rc)
		return rc;
	user_counters(&u, port, &at_first);
	for (uint32_t i = 0; i < USER_RING; i++)
		user_put(&u, port, i, user_frame(&u, i, to[run->args[1] % 3], u.q[port].mac), USER_LEN, 0);
	for (start = user_seconds(); user_seconds() < start + seconds;) {
		int64_t r = user_send(&u, port, BURST);

		frames += r > 0 ? (uint64_t)r : 0;
	}
	user_counters(&u, port, &c);
	flooded = frames - dropped(&at_first, &c, ELISA_DROP_TX_STORM);
	run->detail[0] = frames;
	run->detail[1] = flooded;
	if (run->args[3] && flooded > run->args[3] * (uint64_t)(user_seconds() - start + 2))
		attack_is(run, ATTACK_BREACH, 0, "%lu frames for everybody in %.1f s are flooded",
			  (unsigned long)flooded, user_seconds() - start);
	else
		user_verdict(&u, run, "%lu frames for everybody in %.1f s, %lu of them flooded",
			     (unsigned long)frames, user_seconds() - start, (unsigned long)flooded);
	user_close(&u);
	return 0;
}

const struct user_attack exhaust_attacks[] = {
	{ "exhaust-addresses", exhaust_addresses },
	{ "exhaust-unpolled", exhaust_unpolled },
	{ "exhaust-endless", exhaust_endless },
	{ "exhaust-flood", exhaust_flood },
	{ 0 },
};
