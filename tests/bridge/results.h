/* SPDX-License-Identifier: BSD-3-Clause */
/* What came out for one frame: a struct r_frame, then its deliveries, in order of port and hash. */
#ifndef BRIDGE_RESULTS_H
#define BRIDGE_RESULTS_H

#include <stdint.h>
#include <string.h>

#define R_MAX 32 /* deliveries of one frame */

struct r_frame {
	uint32_t topology, number, count;
};

struct r_delivery {
	uint16_t port, len;
	uint8_t head[28]; /* for people; zeros where the frame ends before */
	uint64_t hash;	  /* of all bytes */
};

struct r_result {
	struct r_frame frame;
	struct r_delivery delivery[R_MAX];
};

/* FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/), on each of `len` bytes. */
static inline uint64_t r_hash(const uint8_t *at, uint32_t len)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (uint32_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * 0x100000001b3;
	return hash;
}

static inline int r_order(const struct r_delivery *a, const struct r_delivery *b)
{
	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return a->hash < b->hash ? -1 : a->hash > b->hash;
}

/* In its place. -1: there are too many. */
static inline int r_add(struct r_result *r, unsigned int port, const uint8_t *frame, uint32_t len)
{
	struct r_delivery d = {.port = (uint16_t)port, .len = (uint16_t)len};
	uint32_t i = r->frame.count;

	if (i == R_MAX)
		return -1;
	memcpy(d.head, frame, len < sizeof(d.head) ? len : sizeof(d.head));
	d.hash = r_hash(frame, len);
	for (; i && r_order(&r->delivery[i - 1], &d) > 0; i--)
		r->delivery[i] = r->delivery[i - 1];
	r->delivery[i] = d;
	r->frame.count++;
	return 0;
}

#endif
