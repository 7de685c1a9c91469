/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa-gen --rx: every frame once, whole and unharmed? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gen.h"
#include "tool.h"

#define BURST	64
#define IDLE_US 200

struct result {
	uint64_t frames, bytes, duplicates, corrupt, foreign, unexpected, seen;
	uint8_t *map; /* a bit for each sequence number from options.seq on */
};

/* Copies a frame together. Returns its length, 0: longer than any frame. */
static uint32_t gather(const struct elisa_rxq *q, const struct elisa_frame *f, uint8_t *buf,
		       uint32_t room)
{
	uint32_t at = 0;
	uint16_t len;

	for (uint32_t i = 0; i < f->segs; i++) {
		const void *seg = elisa_rx_seg(q, f, i, &len);

		if (len > room - at)
			return 0;
		memcpy(buf + at, seg, len);
		at += len;
	}
	return at;
}

static bool is_sound(const uint8_t *frame, uint32_t len, const struct gen_header *h)
{
	if (h->len != len)
		return false;
	for (uint32_t i = GEN_MIN; i < len; i++)
		if (frame[i] != gen_byte(h->seq, i))
			return false;
	return true;
}

static void check(const struct options *o, struct result *r, const uint8_t *frame, uint32_t len)
{
	struct gen_header h;
	uint64_t at;

	memcpy(&h, frame, sizeof(h));
	if (len < GEN_MIN || h.type[0] != GEN_TYPE_0 || h.type[1] != GEN_TYPE_1 ||
	    h.magic[0] != GEN_MAGIC_0 || h.magic[1] != GEN_MAGIC_1) {
		r->foreign++; /* the guest's own chatter */
		return;
	}
	r->frames++;
	r->bytes += len;
	if (!is_sound(frame, len, &h)) {
		r->corrupt++;
		return;
	}
	at = (uint32_t)(h.seq - (uint32_t)o->seq);
	if (at >= o->count) {
		r->unexpected++;
	} else if (r->map[at / 8] & 1 << at % 8) {
		r->duplicates++;
	} else {
		r->map[at / 8] |= (uint8_t)(1 << at % 8);
		r->seen++;
	}
}

static uint32_t take_burst(const struct options *o, struct elisa_rxq *q, struct result *r)
{
	static uint8_t buf[65536];
	struct elisa_frame frames[BURST];
	uint32_t n = elisa_rx_burst(q, frames, BURST), len;

	for (uint32_t i = 0; i < n; i++) {
		len = gather(q, &frames[i], buf, sizeof(buf));
		check(o, r, buf, len);
	}
	elisa_rx_release(q);
	return n;
}

int gen_receive(struct elisa_port *port, const struct options *o)
{
	const uint64_t end = tool_now_us() + o->timeout_s * 1000000;
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct result r = {.map = calloc(o->count / 8 + 1, 1)};
	uint64_t next_poll = 0, missing;
	int resets = 0;
	bool good;

	if (!r.map) {
		fprintf(stderr, PROGRAM ": no memory for a count of %lu\n", o->count);
		return 1;
	}
	while (r.seen < o->count && tool_now_us() < end) {
		if (tool_now_us() >= next_poll) {
			resets += !!(elisa_port_poll(port) & ELISA_PORT_RESET);
			next_poll = tool_now_us() + 200000;
		}
		if (!take_burst(o, q, &r) && !elisa_nic_poll(elisa_port_txq(port, 0)))
			tool_sleep_us(IDLE_US);
	}
	missing = o->count - r.seen;
	good = !missing && !r.duplicates && !r.corrupt && !q->aborted;
	printf("{\"frames\": %lu, \"bytes\": %lu, \"missing\": %lu, \"duplicates\": %lu, "
	       "\"corrupt\": %lu, \"aborted\": %lu, \"unexpected\": %lu, \"foreign\": %lu, "
	       "\"resets\": %d, \"ok\": %s}\n",
	       r.frames, r.bytes, missing, r.duplicates, r.corrupt, q->aborted, r.unexpected,
	       r.foreign, resets, good ? "true" : "false");
	free(r.map);
	return good ? 0 : 1;
}
