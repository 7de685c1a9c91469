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
	uint64_t elapsed =
		vs->refilled_us && now_us > vs->refilled_us ? now_us - vs->refilled_us : 0;
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

/* ---- callers' side ---- */

vs_inline bool has(const struct vs_port *port, unsigned int bucket, uint64_t tokens)
{
	return !vs_load(&port->bucket.burst[bucket]) ||
	       vs_load(&port->bucket.tokens[bucket]) >= (int64_t)tokens;
}

vs_inline void take(struct vs_port *port, unsigned int bucket, uint64_t tokens)
{
	VS_STEP();
	if (vs_load(&port->bucket.burst[bucket]))
		vs_count(&port->bucket.tokens[bucket], -(int64_t)tokens);
}

/* All of these or none. `bytes`: the bucket for bytes, beside which is the one for frames. */
static bool take_all(struct vs_port *port, unsigned int bytes, uint32_t frames, uint64_t len)
{
	if (!has(port, bytes, len) || !has(port, bytes + 1, frames))
		return false;
	take(port, bytes, len);
	take(port, bytes + 1, frames);
	return true;
}

/* A frame that is longer than its bucket is deep, for it is still to be cut up, may take it all. */
bool vs_police(struct vs_port *port, unsigned int bytes, uint64_t len)
{
	uint64_t burst = vs_load(&port->bucket.burst[bytes]);

	_Static_assert(VS_TX_FRAMES == VS_TX_BYTES + 1 && VS_RX_FRAMES == VS_RX_BYTES + 1,
		       "they are beside each other");
	if (!has(port, bytes, len < burst ? len : burst) || !has(port, bytes + 1, 1))
		return false;
	take(port, bytes, len);
	take(port, bytes + 1, 1);
	return true;
}

bool vs_police_many(struct vs_port *port, unsigned int bytes, const struct vs_frame *frame,
		    uint32_t count)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < count; i++)
		len += frame[i].len;
	return take_all(port, bytes, count, len);
}

bool vs_storm(struct vs_port *port, unsigned int bucket)
{
	if (!has(port, bucket, 1))
		return false;
	take(port, bucket, 1);
	return true;
}

/* vs_deliver_from() to a port with limits: what is above them is dropped. */
vs_noinline struct vs_delivered vs_deliver_policed(struct vs_caller *caller, struct vs_port *to,
						   unsigned int queue,
						   const struct vs_load_of *load)
{
	struct vs_delivered done = {0, 0}, some;
	struct vs_frame frame[VS_BATCH];
	uint64_t hash[VS_BATCH];
	struct vs_load_of part = *load;

	part.paid = true;
	if (vs_police_many(to, VS_RX_BYTES, load->frame, load->count))
		return vs_deliver_from(caller, to, queue, &part);
	part.frame = frame;
	part.hash = load->hash ? hash : NULL;
	part.count = 0;
	for (uint32_t i = 0; i <= load->count; i++) {
		bool end = i == load->count,
		     pass = !end && vs_police(to, VS_RX_BYTES, load->frame[i].len);

		if (pass) {
			frame[part.count] = load->frame[i];
			hash[part.count++] = load->hash ? load->hash[i] : 0;
			continue;
		}
		/* What came before it is first, for mirrors' sake. */
		if (part.count) {
			some = vs_deliver_from(caller, to, queue, &part);
			done.frames += some.frames;
			done.bytes += some.bytes;
			part.count = 0;
		}
		if (end)
			break;
		vs_rx_drop(&vs_rx_queue(to, queue)->rx, ELISA_DROP_RX_POLICED, 1);
		if (vs_load(&to->extras) & VS_EXTRA_DROPS)
			vs_mirror(caller, to, load, i, i + 1, vs_dropped(ELISA_DROP_RX_POLICED));
	}
	return done;
}
