/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Token buckets: how much a port may send, get and flood. See vs_buckets.
 *
 * There is no clock on the callers' side, since a guest may set its own: the control side fills the
 * buckets every few milliseconds.
 */
#include "deliver.h"

#define US_PER_S 1000000u
/* Longer pauses of vs_refill() count as this; so what is due of one bucket fits 64 bits. */
#define ELAPSED_MAX_US (4 * US_PER_S)
_Static_assert(VS_RATE_MAX <= UINT64_MAX / ELAPSED_MAX_US / 2, "what is due fits");

static bool in_bytes(unsigned int bucket)
{
	return bucket == VS_TX_BYTES || bucket == VS_RX_BYTES;
}

bool vs_rate_valid(const struct vs_port_config *cfg)
{
	for (unsigned int i = 0; i < VS_BUCKETS; i++) {
		const struct vs_rate *r = &cfg->rate[i];
		uint64_t least = in_bytes(i) ? cfg->mtu + 14u + 4 : 1;

		if (!r->per_s)
			continue;
		if (r->per_s > VS_RATE_MAX || r->burst > VS_RATE_MAX || r->burst < least ||
		    r->burst < r->per_s / 100)
			return false;
	}
	return true;
}

/* Tokens that were there stay as far as they fit; a bucket that is new begins full. */
void vs_rate_apply(struct vs_port *port, const struct vs_port_config *cfg)
{
	for (unsigned int i = 0; i < VS_BUCKETS; i++) {
		uint64_t burst = cfg->rate[i].per_s ? cfg->rate[i].burst : 0;
		int64_t *tokens = &port->bucket.tokens[i], had = vs_load(tokens);

		if (!vs_load(&port->bucket.burst[i])) {
			port->unfilled[i] = 0;
			vs_store(tokens, (int64_t)burst);
		} else if (had > (int64_t)burst) {
			/* Whoever takes meanwhile has had it free: once. */
			vs_store(tokens, (int64_t)burst);
		}
		vs_store_release(&port->bucket.burst[i], burst);
	}
}

uint8_t vs_rate_extras(const struct vs_port *port)
{
	uint8_t extras = 0;

	for (unsigned int i = 0; i < VS_BUCKETS; i++)
		if (port->bucket.burst[i])
			extras |= i < VS_RX_BYTES	   ? VS_POLICE_TX
				  : i < VS_STORM_BROADCAST ? VS_POLICE_RX
							   : VS_STORM;
	return extras;
}

static void fill(struct vs_port *port, unsigned int bucket, uint64_t elapsed_us)
{
	int64_t *tokens = &port->bucket.tokens[bucket], had = vs_load(tokens), now;
	uint64_t due = port->unfilled[bucket] + port->config.rate[bucket].per_s * elapsed_us;
	int64_t burst = (int64_t)port->bucket.burst[bucket];

	port->unfilled[bucket] = due % US_PER_S;
	do {
		now = had + (int64_t)(due / US_PER_S);
		if (now > burst)
			now = burst;
	} while (!vs_cas(tokens, &had, now));
}

bool vs_refill(struct vswitch *vs, uint64_t now_us)
{
	uint64_t elapsed = vs->refilled_us && now_us > vs->refilled_us ? now_us - vs->refilled_us : 0;
	bool any = false;

	if (elapsed > ELAPSED_MAX_US)
		elapsed = ELAPSED_MAX_US;
	if (now_us > vs->refilled_us)
		vs->refilled_us = now_us;
	for (uint32_t p = 0; p < vs->ports_high; p++) {
		struct vs_port *port = &vs->ports[p];

		if (!port->used || !(port->extras & (VS_POLICE_TX | VS_POLICE_RX | VS_STORM)))
			continue;
		any = true;
		for (unsigned int i = 0; i < VS_BUCKETS; i++)
			if (port->bucket.burst[i])
				fill(port, i, elapsed);
	}
	return any;
}
