/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ELISA_NET_TX: from the guest's descriptors to the receivers.
 *
 *	vs_op_tx	own the queue; batches of up to VS_BATCH descriptors
 *	take_run	frames that go the same way as the one before: some 25 instructions each
 *	take_frame	any other frame: gather its segments, check, find its VLAN, police, learn,
 *			look up
 *	flush		one delivery for each destination of the batch
 *	flood		one frame to everyone who may see it
 *
 * A descriptor is read once. The header is read once, into the frame's record: everything is
 * decided on that and the receiver gets that, whatever the sender's other vCPUs do to the buffer
 * meanwhile.
 *
 * A frame to be segmented is delivered as it is where the receiver takes that, otherwise cut up,
 * alone; a checksum is filled in while a frame is copied.
 *
 * Bounds of a call: ELISA_TX_MAX descriptors, as many unicast copies, and VS_FLOOD_MAX copies of
 * flooded frames and of segments, cut up or not; it returns early, at a whole frame, when the next
 * one might exceed that. A frame that exceeds it alone, a flooded one of many segments, is taken as
 * the first of a call.
 */
#include "chain.h"
#include "vlan.h"

#define VS_FLOOD_MAX  VS_PORTS_MAX
#define VS_DESTS      8

struct vs_dest {
	struct vs_port *to;
	uint32_t frames; /* bit mask of the batch's frames */
	uint32_t longest;
	uint32_t change; /* of their tags, VS_TAG_* */
	bool pieces;
};

struct vs_send {
	struct vswitch *vs;
	struct vs_caller *caller;
	struct vs_tx *tx;
	struct vs_port *port;
	unsigned int queue;
	uint32_t next, left; /* descriptors */
	uint64_t version;
	uint64_t frame_max;   /* of the sender, untagged */
	uint8_t extras;	      /* likewise */
	bool one_by_one;      /* no frame takes the short way */
	uint32_t copies_left; /* of flooded frames and of segments */
	/* The way that the last frame went. */
	__m128i header, mask;
	uint64_t way_max; /* longest frame for it; 0: there is none */
	uint32_t run;	  /* first frame of the batch that goes it */
	struct vs_dest *way;
	struct vs_delivered sent;
	/* What a NIC knows of frames in one piece, as in vs_load_of: `known`, or NULL for a
	 * guest's. */
	uint64_t *hash;
	/* The batch. */
	uint32_t frames, segs, dests;
	struct vs_dest dest[VS_DESTS];
	struct vs_frame frame[VS_BATCH];
	struct vs_frame sorted[VS_BATCH];
	struct vs_seg seg[VS_SEGS];
	uint64_t known[VS_BATCH], known_sorted[VS_BATCH];
};

/* From a NIC's descriptor into the completion, where a frame's hash has its flag. */
#define VS_KNOWN ((uint64_t)ELISA_RXC_CSUM_OK << 32)

enum vs_took { VS_TOOK, VS_FLUSH_FIRST, VS_STOP };

static void tx_drop(struct vs_send *s, unsigned int why)
{
	vs_count_owned(&s->tx->count.drops[why], 1);
}

vs_inline uint32_t bits_below(uint32_t n)
{
	return (uint32_t)((1ull << n) - 1);
}

/* Frames since `run` belong to the current way. */
vs_inline void close_run(struct vs_send *s)
{
	if (s->way)
		s->way->frames |= bits_below(s->frames) & ~bits_below(s->run);
	s->run = s->frames;
}

/* The load's frames with their tags changed. */
static vs_noinline void retag(struct vs_send *s, uint32_t change, struct vs_load_of *load)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < load->count; i++) {
		struct vs_frame frame = load->frame[i];

		/* Of runs: take_frame() has looked at the others. */
		if (!vs_tag_change(&frame, s->seg, change)) {
			tx_drop(s, ELISA_DROP_TX_RUNT);
			continue;
		}
		if (frame.len < VS_HEADER_MIN)
			load->pieces = true;
		if (load->hash)
			s->known_sorted[kept] = load->hash[i];
		s->sorted[kept++] = frame;
	}
	load->frame = s->sorted;
	load->hash = load->hash ? s->known_sorted : NULL;
	load->count = kept;
	load->shift = (int8_t)vs_tag_shift(change);
	load->longest += (uint32_t)load->shift;
}

static void deliver_to(struct vs_send *s, struct vs_dest *d, const struct vs_frame *frame,
		       const uint64_t *hash, uint32_t count)
{
	struct vs_load_of load = {
		.frame = frame,
		.count = count,
		.longest = d->longest,
		.pieces = d->pieces,
		.segs = s->seg,
		.filled = &s->tx->count.csum,
		.hash = hash,
	};
	struct vs_delivered done = {0, 0};

	if (vs_unlikely(d->change & VS_TAG_HOW))
		retag(s, d->change, &load);
	if (vs_likely(load.count))
		done = vs_deliver_from(s->caller, d->to, s->queue, &load);
	s->sent.frames += done.frames;
	s->sent.bytes += done.bytes - done.frames * (uint64_t)load.shift;
	d->frames = 0;
	d->longest = (uint32_t)s->way_max;
	d->pieces = false;
}

/* One delivery for each destination, with its frames in their order. */
static vs_noinline void flush_many(struct vs_send *s)
{
	close_run(s);
	for (uint32_t i = 0; i < s->dests; i++) {
		uint32_t count = 0;

		for (uint32_t which = s->dest[i].frames; which; which &= which - 1) {
			if (s->hash)
				s->known_sorted[count] = s->known[__builtin_ctz(which)];
			s->sorted[count++] = s->frame[__builtin_ctz(which)];
		}
		if (count)
			deliver_to(s, &s->dest[i], s->sorted, s->hash ? s->known_sorted : NULL,
				   count);
	}
	if (s->way != &s->dest[0]) {
		s->dest[0] = *s->way;
		s->way = &s->dest[0];
	}
	s->dests = 1;
}

static vs_noinline void mirror_batch(struct vs_send *s)
{
	struct vs_load_of load = {
		.frame = s->frame,
		.count = s->frames,
		.segs = s->seg,
		.hash = s->hash,
	};

	vs_mirror(s->caller, s->port, &load, 0, s->frames, VS_SENT);
}

/* Delivers the batch and begins a new one; the current way stays, as the only destination. */
static void flush(struct vs_send *s)
{
	if (vs_unlikely(s->dests > 1))
		flush_many(s);
	else if (vs_likely(s->frames))
		deliver_to(s, &s->dest[0], s->frame, s->hash, s->frames);
	if (vs_unlikely(s->extras & VS_EXTRA_TX))
		mirror_batch(s);
	s->frames = 0;
	s->segs = 0;
	s->run = 0;
}

/*
 * Frames in one piece, by the way of the one before. Stops at the first that is not such, and at
 * the end of the ring; true in the latter case.
 *
 * The bound leaves room for the longest such frame, which saves computing one for each. `nic` is
 * constant where this is used: guests' frames have no flag that could pass.
 */
vs_inline bool take_run(struct vs_send *s, bool nic)
{
	const struct vs_tx *tx = s->tx;
	const struct vs_range *r = &tx->guest->range[tx->hint];
	uint64_t gpa = r->gpa, bound = r->len + 1 - s->way_max, max = s->way_max - VS_HEADER_MIN;
	const uint8_t *base = r->addr;
	const __m128i mask_of = s->mask, same = s->header;
	struct vs_frame *first = &s->frame[s->frames], *frame = first, *end;
	uint32_t count = VS_BATCH - s->frames, to_end = tx->size - (s->next & tx->mask);
	const volatile uint64_t *d = vs_desc_at(tx, s->next);
	uint64_t *known = &s->known[s->frames];

	if (s->way_max < VS_HEADER_MIN)
		return false;
	if (count > to_end)
		count = to_end;
	if (count > s->left)
		count = s->left;
	end = frame + count;
	while (frame != end) {
		uint64_t offset = d[0] - gpa, len = d[1], mask;
		const uint8_t *data;
		__m128i header;

		VS_STEP();
		if (nic) {
			*known++ = len << 16 & VS_KNOWN;
			len &= ~(VS_KNOWN >> 16);
		}
		/* Any flag makes it too long. */
		if (vs_unlikely(len - VS_HEADER_MIN > max) && VS_DEFENCE(run_length))
			break;
		if (vs_unlikely(!vs_below(offset, bound, &mask)) && VS_DEFENCE(run_range))
			break;
		if (!VS_DEFENCE(mask))
			mask = UINT64_MAX;
		data = base + (offset & mask);
		header = *(const volatile __m128i_u *)(const volatile void *)data;
		if (vs_unlikely(!_mm_testz_si128(_mm_xor_si128(header, same), mask_of)))
			break;
		frame->data = data;
		*(uint64_t *)(void *)&frame->len = len;
		frame->header = header;
		frame++;
		d += 2;
	}
	count = (uint32_t)(frame - first);
	s->frames += count;
	s->left -= count;
	s->next += count;
	return count == to_end;
}

/* Frames from `first` on have just taken the short way: what is above the port's rate goes. */
static vs_noinline void police_run(struct vs_send *s, uint32_t first)
{
	uint32_t kept = first;

	if (vs_police_many(s->port, VS_TX_BYTES, &s->frame[first], s->frames - first))
		return;
	for (uint32_t i = first; i < s->frames; i++) {
		if (!vs_police(s->port, VS_TX_BYTES, s->frame[i].len)) {
			tx_drop(s, ELISA_DROP_TX_POLICED);
			continue;
		}
		s->frame[kept] = s->frame[i];
		if (s->hash)
			s->known[kept] = s->known[i];
		kept++;
	}
	s->frames = kept;
}

/* A frame that is not of the batch, after what is. */
static vs_noinline void mirror_chain(struct vs_send *s, const struct vs_port *port,
				     const struct vs_chain *c, __m128i header, uint32_t what)
{
	struct vs_load_of load;
	struct vs_frame frame;

	flush(s);
	vs_chain_load(c, header, &s->tx->count.csum, &frame, &load);
	vs_mirror(s->caller, port, &load, 0, 1, what);
}

static void refuse_tx(struct vs_send *s, const struct vs_chain *c, __m128i header, unsigned int why)
{
	tx_drop(s, why);
	if (s->extras & VS_EXTRA_DROPS)
		mirror_chain(s, s->port, c, header, vs_dropped(why));
}

/* Sent, but not for `to`. */
static void refuse_rx(struct vs_send *s, struct vs_port *to, const struct vs_chain *c,
		      __m128i header, enum elisa_drop why)
{
	vs_rx_drop(&vs_rx_queue(to, s->queue)->rx, why, 1);
	if (vs_load(&to->extras) & VS_EXTRA_DROPS)
		mirror_chain(s, to, c, header, vs_dropped(why));
	if (s->extras & VS_EXTRA_TX)
		mirror_chain(s, s->port, c, header, VS_SENT);
}

/* Dropped before all was looked at: what it asks for may make no sense. */
static vs_noinline void mirror_early(struct vs_send *s, struct vs_chain *c)
{
	if (c->drop == ELISA_DROP_TX_BAD_DESC || c->drop == ELISA_DROP_TX_BAD_ADDR ||
	    c->len < ELISA_FRAME_MIN)
		return;
	c->offload = false;
	c->seg[0].offload = (struct vs_offload){0, 0, 0};
	mirror_chain(s, s->port, c, vs_gather_header(c), vs_dropped(c->drop));
}

struct vs_addresses {
	uint64_t dst, src; /* FDB keys, without VID */
	bool tagged;
	struct vs_vlan_of vlan;
	uint8_t flood; /* what it is if it floods: 0 broadcast, 1 multicast, 2 unknown */
};

_Static_assert(VS_FLOOD_MULTICAST == VS_FLOOD_BROADCAST << 1 &&
		       VS_FLOOD_UNKNOWN == VS_FLOOD_BROADCAST << 2 &&
		       VS_STORM_MULTICAST == VS_STORM_BROADCAST + 1 &&
		       VS_STORM_UNKNOWN == VS_STORM_BROADCAST + 2,
	       "kinds of floods go by the same order");

static struct vs_addresses addresses_of(__m128i header)
{
	uint64_t low = (uint64_t)_mm_cvtsi128_si64(header);
	uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_bsrli_si128(header, 6));
	uint16_t type = __builtin_bswap16((uint16_t)(high >> 48));
	uint64_t dst = low << 16;

	return (struct vs_addresses){
		.dst = dst,
		.src = high << 16,
		.tagged = type == VS_TPID_C || type == VS_TPID_S,
		.flood = dst == VS_KEY_BROADCAST  ? 0
			 : dst & VS_KEY_MULTICAST ? 1
						  : 2,
	};
}

/* Why the sender may not send it; ELISA_DROP_COUNT: it may. */
static unsigned int check(const struct vs_send *s, const struct vs_addresses *a, uint64_t len)
{
	if (VS_DEFENCE(frame_max) && len > s->frame_max + (a->tagged ? 4 : 0))
		return ELISA_DROP_TX_TOO_LONG;
	if (VS_DEFENCE(source) && (!a->src || a->src & VS_KEY_MULTICAST))
		return ELISA_DROP_TX_BAD_SOURCE;
	if (VS_DEFENCE(spoof) && vs_load(&s->port->anti_spoof) && a->src != vs_load(&s->port->key))
		return ELISA_DROP_TX_SPOOFED;
	return ELISA_DROP_COUNT;
}

/*
 * Which VLAN it is of, or, as check(), why of none. A tag that the switch looked at is not for a
 * checksum to be put there.
 */
static unsigned int check_vlan(const struct vs_send *s, const struct vs_chain *c, __m128i header,
			       struct vs_addresses *a)
{
	uint32_t vlan = vs_load_acquire(&s->port->vlan);

	a->vlan = vs_vlan_ingress(s->port, vlan, header);
	if (a->vlan.kind == VS_KIND_TAGGED) {
		if (c->len < ELISA_FRAME_MIN + VS_TAG_LEN)
			return ELISA_DROP_TX_RUNT;
		if (c->seg[0].offload.flags & ELISA_NET_CSUM &&
		    c->seg[0].offload.csum_start < ELISA_FRAME_MIN + VS_TAG_LEN)
			return ELISA_DROP_TX_BAD_OFFLOAD;
	}
	return a->vlan.is_member ? ELISA_DROP_COUNT : ELISA_DROP_TX_VLAN;
}

/* False: it is one address too many, and frames from it are not to pass. */
static bool learn(struct vs_send *s, uint64_t src)
{
	struct vs_tx *tx = s->tx;

	if (vs_likely(tx->learned == src && tx->learned_version == s->version))
		return true;
	tx->learned_version = 0;
	vs_store_release(&tx->learned, src);
	if (!vs_fdb_learn(s->vs, src, s->port->id) && vs_load(&s->port->mac_limit_drop))
		return false;
	/* It moved, perhaps from where the way leads. */
	if (vs_load(&s->vs->version) != s->version)
		s->way_max = 0;
	vs_store_release(&tx->learned_version, s->version);
	return true;
}

/*
 * A good frame meets the port's limits, once only: nothing makes it wait for the next call any
 * more. As check().
 */
static unsigned int admit(struct vs_send *s, const struct vs_chain *c, const struct vs_addresses *a,
			  bool floods)
{
	if (vs_unlikely(s->extras & VS_POLICE_TX) && !vs_police(s->port, VS_TX_BYTES, c->len))
		return ELISA_DROP_TX_POLICED;
	if (vs_unlikely(!learn(s, a->src | a->vlan.vid)))
		return ELISA_DROP_TX_MAC_LIMIT;
	if (floods && s->extras & VS_STORM && !vs_storm(s->port, VS_STORM_BROADCAST + a->flood))
		return ELISA_DROP_TX_STORM;
	return ELISA_DROP_COUNT;
}

static struct vs_dest *dest_of(struct vs_send *s, struct vs_port *to, uint32_t change)
{
	struct vs_dest *d;

	for (uint32_t i = 0; i < s->dests; i++) {
		if (s->dest[i].to != to)
			continue;
		if (s->dest[i].change == change)
			return &s->dest[i];
		/* Its frames stay in their order. */
		flush(s);
		s->way = NULL;
		s->dests = 0;
	}
	d = &s->dest[s->dests++];
	*d = (struct vs_dest){.to = to, .longest = 0, .change = change};
	return d;
}

/*
 * Frames up to this length need no look of their own at lengths. The receiver's buffers bound it as
 * well: longer frames span several, and are delivered piece by piece anyway. Only a hint, should
 * the queue be set up anew meanwhile.
 */
vs_inline uint64_t way_max(const struct vs_send *s, const struct vs_dest *d)
{
	uint64_t max = vs_load(&d->to->frame_max),
		 buf = vs_load(&vs_rx_queue(d->to, s->queue)->rx.buf_len);

	if (vs_unlikely(s->one_by_one))
		return 0;
	if (max > s->frame_max)
		max = s->frame_max;
	if (vs_unlikely(d->change)) {
		if (d->change & VS_TAG_TAGGED)
			max += VS_TAG_LEN;
		if ((d->change & VS_TAG_HOW) == VS_TAG_PUSH)
			buf -= VS_TAG_LEN;
	}
	return max < buf ? max : buf;
}

/* From here on frames that are alike take the short way, also those of later calls. */
static void set_way(struct vs_send *s, struct vs_dest *d, __m128i header, enum vs_kind kind)
{
	struct vs_way *way = &s->tx->way;

	s->way = d;
	s->header = header;
	s->mask = s->vs->mask[kind];
	s->way_max = way_max(s, d);
	if (d->longest < s->way_max)
		d->longest = (uint32_t)s->way_max;
	/* Stopped in between, it must not be taken for a whole one. */
	vs_store_release(&way->version, 0);
	VS_STEP();
	vs_store(&way->to, d->to);
	way->header = header;
	way->mask = s->mask;
	way->change = d->change;
	VS_STEP();
	vs_store_release(&way->version, s->version);
}

static void add_frame(struct vs_send *s, struct vs_dest *d, const struct vs_chain *c,
		      __m128i header)
{
	struct vs_frame *f = &s->frame[s->frames];
	/* A guest's cannot have that flag. */
	bool known = c->segs == 1 && c->seg[0].offload.flags == ELISA_RXC_CSUM_OK;

	f->data = c->seg[0].data;
	f->len = (uint32_t)c->len;
	f->seg = (uint16_t)s->segs;
	f->segs = c->segs > 1 || (c->offload && !known) ? (uint16_t)c->segs : 0;
	if (s->hash)
		s->known[s->frames] = known ? VS_KNOWN : 0;
	f->header = header;
	if (f->segs)
		for (uint32_t i = 0; i < c->segs; i++)
			s->seg[s->segs++] = c->seg[i];
	if (d->longest < c->len)
		d->longest = (uint32_t)c->len;
	if (f->segs || c->len < VS_HEADER_MIN)
		d->pieces = true;
	s->frames++;
}

static bool to_be_cut(const struct vs_chain *c, const struct vs_port *to)
{
	return c->gso.segments &&
	       vs_lacks(vs_load(&to->features), c->seg[0].offload.flags & VS_TSO);
}

/* The batch is empty: the order of frames stays. */
static vs_noinline struct vs_delivered cut_up(struct vs_send *s, struct vs_port *to,
					      const struct vs_chain *c, __m128i header,
					      uint32_t change)
{
	struct vs_load_of load = {.filled = &s->tx->count.csum, .paid = true};
	struct vs_delivered done = {0, 0};
	struct vs_gso changed;
	struct vs_cut cut;

	if (vs_load(&to->extras) & VS_POLICE_RX && !vs_police(to, VS_RX_BYTES, c->len)) {
		vs_rx_drop(&vs_rx_queue(to, s->queue)->rx, ELISA_DROP_RX_POLICED, 1);
		if (vs_load(&to->extras) & VS_EXTRA_DROPS)
			mirror_chain(s, to, c, header, vs_dropped(ELISA_DROP_RX_POLICED));
		return done;
	}
	vs_cut_begin(&cut, &c->gso, c->seg);
	if (change & VS_TAG_HOW) {
		vs_tag_gso(&changed, &c->gso, header, change);
		cut.gso = &changed;
	}
	while (vs_cut_next(&cut, &load)) {
		struct vs_delivered some = vs_deliver_from(s->caller, to, s->queue, &load);

		done.frames += some.frames;
		done.bytes += some.bytes;
	}
	vs_count_owned(&s->tx->count.segmented, 1);
	vs_count_owned(&s->tx->count.segments, c->gso.segments);
	return done;
}

/*
 * With a group in common; but what came from outside does not go there again by another NIC, since
 * nobody would stop a frame that goes round and round.
 */
vs_inline bool may_reach(const struct vs_send *s, const struct vs_port *to)
{
	if (!(vs_load(&to->groups) & vs_load(&s->port->groups)))
		return false;
	return vs_likely(!s->port->nic) || !vs_load(&to->nic) || s->vs->config.bridge_nics;
}

/*
 * A tag is above the MTU: the sender's, one that is pushed, and one that a tunnel's payload has.
 */
static bool too_long(const struct vs_chain *c, const struct vs_addresses *a,
		     const struct vs_port *to, uint32_t change)
{
	uint64_t max = vs_load(&to->frame_max) + (a->tagged ? VS_TAG_LEN : 0u);

	if (vs_unlikely(change & VS_TAG_HOW)) {
		if ((uint8_t)vs_load(&to->vlan) == VS_VLAN_QINQ)
			max += VS_TAG_LEN;
		if (c->len > ELISA_GSO_FRAME_MAX - VS_TAG_LEN)
			return true;
	}
	return c->wire_len > max;
}

static void unicast(struct vs_send *s, struct vs_port *to, const struct vs_chain *c, __m128i header,
		    const struct vs_addresses *a)
{
	uint32_t change = vs_vlan_egress(to, &a->vlan);
	struct vs_dest *d;

	if (to == s->port) {
		refuse_tx(s, c, header, ELISA_DROP_TX_NO_PORT);
	} else if (!may_reach(s, to)) {
		refuse_tx(s, c, header, ELISA_DROP_TX_ISOLATED);
	} else if (vs_unlikely(change == VS_TAG_REFUSE)) {
		refuse_rx(s, to, c, header, ELISA_DROP_RX_VLAN);
	} else if (vs_unlikely(!vs_wants(to, a->dst))) {
		refuse_rx(s, to, c, header, ELISA_DROP_RX_FILTERED);
	} else if (too_long(c, a, to, change)) {
		refuse_rx(s, to, c, header, ELISA_DROP_RX_TOO_LONG);
	} else if (vs_unlikely(to_be_cut(c, to))) {
		flush(s);
		if (cut_up(s, to, c, header, change).frames) {
			s->sent.frames++;
			s->sent.bytes += c->len;
		}
		if (s->extras & VS_EXTRA_TX)
			mirror_chain(s, s->port, c, header, VS_SENT);
	} else {
		d = dest_of(s, to, change);
		close_run(s);
		set_way(s, d, header, a->vlan.kind);
		add_frame(s, d, c, header);
	}
}

static void copies_take(struct vs_send *s, uint32_t count)
{
	s->copies_left -= count < s->copies_left ? count : s->copies_left;
}

/* May the call go on with `count` copies more? The first that count may be as many as they like. */
static bool copies_allowed(const struct vs_send *s, uint32_t count)
{
	return count <= s->copies_left || s->copies_left == VS_FLOOD_MAX;
}

/*
 * IEEE 802.1D, 7.12.6: 01-80-C2-00-00-00 to -0F are for the next bridge only, which they tell to
 * pause, or that here is the root of all. That is not for a guest to say to those outside, nor for
 * it to hear.
 */
static bool passes(const struct vs_send *s, const struct vs_port *to, const struct vs_addresses *a)
{
	const uint64_t mask = 0xf0ffffffffffull << 16, reserved = 0xc28001ull << 16;

	return (a->dst & mask) != reserved || !(s->port->nic || vs_load(&to->nic));
}

/* A flooded frame, as this receiver gets it. */
static struct vs_delivered deliver_one(struct vs_send *s, struct vs_port *to,
				       const struct vs_chain *c, const struct vs_load_of *load,
				       uint32_t change)
{
	struct vs_load_of changed;
	struct vs_frame frame;

	if (to_be_cut(c, to))
		return cut_up(s, to, c, load->frame->header, change);
	if (vs_likely(!(change & VS_TAG_HOW)))
		return vs_deliver_from(s->caller, to, s->queue, load);
	frame = *load->frame;
	vs_tag_change(&frame, c->seg, change);
	changed = *load;
	changed.frame = &frame;
	changed.longest = frame.len;
	changed.pieces |= frame.len < VS_HEADER_MIN;
	changed.shift = (int8_t)vs_tag_shift(change);
	return vs_deliver_from(s->caller, to, s->queue, &changed);
}

/* To each port that may receive it. The batch is empty. */
static bool flood_to(struct vs_send *s, struct vs_port *to, const struct vs_chain *c,
		     const struct vs_load_of *load, const struct vs_addresses *a,
		     struct vs_delivered *done)
{
	struct vs_rx *rx = &vs_rx_queue(to, s->queue)->rx;
	unsigned int drop = ELISA_DROP_COUNT;
	uint32_t change;

	if (to == s->port || !may_reach(s, to) || !passes(s, to, a) || !vs_load(&to->up) ||
	    vs_load(&to->extras) & VS_MONITOR || vs_load(&to->flood_off) >> a->flood & 1 ||
	    !(vs_load_acquire(&rx->resv.a) & VS_UP))
		return false;
	change = vs_vlan_egress(to, &a->vlan);
	if (change == VS_TAG_REFUSE)
		return false;
	if (!vs_wants(to, a->dst))
		drop = ELISA_DROP_RX_FILTERED;
	else if (too_long(c, a, to, change))
		drop = ELISA_DROP_RX_TOO_LONG;
	if (drop != ELISA_DROP_COUNT) {
		vs_rx_drop(rx, drop, 1);
		if (vs_load(&to->extras) & VS_EXTRA_DROPS)
			vs_mirror(s->caller, to, load, 0, 1, vs_dropped(drop));
		return true;
	}
	done->frames += deliver_one(s, to, c, load, change).frames;
	return true;
}

static void flood(struct vs_send *s, const struct vs_chain *c, __m128i header,
		  const struct vs_addresses *a)
{
	struct vs_load_of load;
	struct vs_frame frame;
	struct vs_delivered done = {0, 0};
	uint32_t found = 0, words = (vs_load(&s->vs->ports_high) + 63) / 64;

	vs_chain_load(c, header, &s->tx->count.csum, &frame, &load);
	for (uint32_t w = 0; w < words; w++) {
		uint64_t linked = vs_load(&s->vs->linked[w]);

		for (; linked; linked &= linked - 1)
			found += flood_to(s, &s->vs->ports[w * 64 + __builtin_ctzll(linked)], c,
					  &load, a, &done);
	}
	copies_take(s, found * c->copies);
	if (!found)
		refuse_tx(s, c, header, ELISA_DROP_TX_NO_PORT);
	else if (s->extras & VS_EXTRA_TX)
		vs_mirror(s->caller, s->port, &load, 0, 1, VS_SENT);
	if (!done.frames)
		return;
	s->sent.frames++;
	s->sent.bytes += c->len;
	if (!a->flood)
		vs_count_owned(&s->tx->count.broadcast, 1);
	else if (a->flood == 1)
		vs_count_owned(&s->tx->count.multicast, 1);
	else
		vs_count_owned(&s->tx->count.flooded, 1);
}

/* Port id, or -1: it floods. Whoever writes to itself is not somewhere else. */
static int find(const struct vs_send *s, const struct vs_addresses *a)
{
	int to = -1;

	if (!(a->dst & VS_KEY_MULTICAST))
		to = vs_fdb_find(&s->vs->fdb, a->dst | a->vlan.vid);
	return to < 0 && a->dst == a->src ? s->port->id : to;
}

/* One frame, whatever it is. */
static vs_noinline enum vs_took take_frame(struct vs_send *s)
{
	struct vs_addresses a;
	struct vs_chain c;
	__m128i header;
	int to;

	if (s->frames == VS_BATCH || s->segs > VS_SEGS - ELISA_SEGS_MAX || s->dests == VS_DESTS)
		return VS_FLUSH_FIRST;
	if (!vs_gather(&c, s->tx, s->next, s->left, s->port->nic))
		return VS_STOP;
	if (c.drop == ELISA_DROP_COUNT && !vs_load(&s->port->up))
		c.drop = ELISA_DROP_TX_LINK_DOWN;
	if (c.drop == ELISA_DROP_COUNT && c.len < ELISA_FRAME_MIN)
		c.drop = ELISA_DROP_TX_RUNT;
	if (c.drop == ELISA_DROP_COUNT) {
		VS_STEP();
		header = vs_gather_header(&c);
		VS_STEP();
		a = addresses_of(header);
		c.drop = ELISA_DROP_TX_BAD_OFFLOAD;
		if (vs_check_offload(&c, header))
			c.drop = check(s, &a, c.wire_len);
		if (c.drop == ELISA_DROP_COUNT)
			c.drop = check_vlan(s, &c, header, &a);
	}
	if (c.drop != ELISA_DROP_COUNT) {
		tx_drop(s, c.drop);
		if (vs_unlikely(s->extras & VS_EXTRA_DROPS))
			mirror_early(s, &c);
		goto took;
	}
	to = find(s, &a);
	if (to < 0 && !copies_allowed(s, c.copies * vs_load(&s->vs->ports_high)))
		return VS_STOP;
	if (to >= 0 && c.gso.segments && !copies_allowed(s, c.gso.segments))
		return VS_STOP;
	c.drop = admit(s, &c, &a, to < 0);
	if (vs_unlikely(a.dst == a.src))
		to = find(s, &a);
	if (c.drop != ELISA_DROP_COUNT) {
		refuse_tx(s, &c, header, c.drop);
	} else if (to >= 0) {
		unicast(s, &s->vs->ports[to], &c, header, &a);
		copies_take(s, c.gso.segments);
	} else {
		flush(s);
		flood(s, &c, header, &a);
	}
took:
	s->next += c.descs;
	s->left -= c.descs;
	return VS_TOOK;
}

/* What the last call found still holds unless something changed since. */
vs_inline void resume_way(struct vs_send *s)
{
	const struct vs_way *way = &s->tx->way;
	struct vs_dest *d = &s->dest[0];

	s->way = NULL;
	s->way_max = 0;
	s->header = _mm_setzero_si128();
	s->mask = _mm_setzero_si128();
	s->dests = 0;
	if (way->version != s->version || !vs_load(&s->port->up))
		return;
	s->header = way->header;
	s->mask = way->mask;
	s->way = d;
	d->to = way->to;
	d->change = way->change;
	s->way_max = way_max(s, d);
	d->frames = 0;
	d->longest = (uint32_t)s->way_max;
	d->pieces = false;
	s->dests = 1;
}

/*
 * With the queue owned. What went to NICs is handed to their drivers at once, lest a call that
 * sends much finds their rings full.
 */
vs_inline int64_t send_owned(struct vs_caller *caller, struct vs_port *port, unsigned int queue,
			     uint64_t count, bool nic)
{
	struct vs_queue *q = &port->queue[queue];
	struct vs_send s;

	vs_pin(q);
	s.vs = caller->vs;
	s.caller = caller;
	s.tx = &q->tx;
	s.port = port;
	s.queue = queue;
	s.next = q->tx.next;
	s.left = (uint32_t)count;
	s.version = vs_load_acquire(&s.vs->version);
	s.frame_max = vs_load(&port->frame_max);
	s.extras = vs_load(&port->extras);
	/* Whose drops are mirrored in their order. */
	s.one_by_one = s.extras & VS_POLICE_TX && s.extras & VS_EXTRA_DROPS;
	s.copies_left = VS_FLOOD_MAX;
	s.sent = (struct vs_delivered){0, 0};
	s.frames = 0;
	s.segs = 0;
	s.run = 0;
	s.hash = nic ? s.known : NULL;
	resume_way(&s);
	for (;;) {
		uint32_t first = s.frames;
		bool wrapped = take_run(&s, nic);
		enum vs_took took;

		if (vs_unlikely(s.extras & VS_POLICE_TX))
			police_run(&s, first);
		if (!s.left)
			break;
		if (wrapped)
			continue;
		took = take_frame(&s);
		if (took == VS_FLUSH_FIRST)
			flush(&s);
		else if (took == VS_STOP)
			break;
		if (vs_unlikely(caller->kick))
			vs_nic_kick(caller);
	}
	flush(&s);
	if (vs_unlikely(caller->kick))
		vs_nic_kick(caller);
	count -= s.left;
	q->tx.next += (uint32_t)count;
	vs_count_owned(&q->tx.count.calls, 1);
	vs_count_owned(&q->tx.count.frames, s.sent.frames);
	vs_count_owned(&q->tx.count.bytes, s.sent.bytes);
	return (int64_t)count;
}

/* The low half of the state word only: the control side may change the other at any time. */
vs_inline void disown(struct vs_caller *caller, struct vs_tx *tx)
{
	typedef uint32_t __attribute__((may_alias)) half;

	VS_STEP();
	vs_store_release((half *)&tx->state, 0);
	VS_STEP();
	vs_store_release(&caller->tx, NULL);
}

/* Owns the queue of a handle for one call, or NULL with the error. */
vs_inline struct vs_queue *own(struct vs_caller *caller, struct vs_port *port, uint64_t handle,
			       int64_t *error)
{
	uint64_t free = (handle >> 16) << 33 | VS_UP, seen = free;
	struct vs_queue *q;

	_Static_assert(ELISA_PORTS_PER_VM == 8 && ELISA_QUEUES_MAX == 16, "fields of a handle");
	*error = -ELISA_ESTALE;
	if (vs_unlikely(!port) || (VS_DEFENCE(handle) && vs_unlikely(handle & ~0x7fffffff070full)))
		return NULL;
	q = &port->queue[handle & 15];
	vs_store_release(&caller->tx, &q->tx);
	VS_STEP();
	if (vs_unlikely(!vs_cas(&q->tx.state, &seen, free | caller->id)) &&
	    (VS_DEFENCE(generation) || seen >> 32 == free >> 32) &&
	    (VS_DEFENCE(tx_lock) || seen >> 32 != free >> 32)) {
		vs_store_release(&caller->tx, NULL);
		if (seen >> 32 == free >> 32)
			*error = -ELISA_EBUSY;
		return NULL;
	}
	VS_STEP();
	if (vs_likely(q->tx.guest == caller->guest) || !VS_DEFENCE(owner))
		return q;
	disown(caller, &q->tx);
	return NULL;
}

vs_inline struct vs_port *port_of_handle(const struct vs_caller *caller, uint64_t handle)
{
	return vs_load_acquire(&caller->guest->ports[handle >> 8 & 7]);
}

int64_t vs_op_tx(struct vs_caller *caller, uint64_t handle, uint64_t count)
{
	struct vs_port *port = port_of_handle(caller, handle);
	int64_t result;
	struct vs_queue *q = own(caller, port, handle, &result);

	if (vs_unlikely(!q))
		return result;
	if (vs_unlikely(!q->tx.size || (VS_DEFENCE(count) && count > q->tx.size))) {
		result = -ELISA_EINVAL;
	} else {
		result = send_owned(caller, port, handle & 15,
				    count < ELISA_TX_MAX ? count : ELISA_TX_MAX, false);
		if (vs_unlikely(q->tx.bells.rung != q->tx.bells.told))
			result |= ELISA_TX_BELL;
	}
	disown(caller, &q->tx);
	return result;
}

int64_t vs_op_bell(struct vs_caller *caller, uint64_t handle)
{
	int64_t result;
	struct vs_queue *q = own(caller, port_of_handle(caller, handle), handle, &result);

	if (!q)
		return result;
	result = vs_bell_next(caller, &q->tx);
	disown(caller, &q->tx);
	return result;
}

/* Frames of a NIC, by whoever owns that half of its queue. Returns descriptors taken. */
vs_noinline uint32_t vs_send_nic(struct vs_caller *caller, struct vs_port *port, unsigned int queue,
				 uint32_t count)
{
	return (uint32_t)send_owned(caller, port, queue, count, true);
}

/* The queue is owned for the sake of its bells. */
int64_t vs_op_poll(struct vs_caller *caller, uint64_t handle)
{
	struct vs_port *port = port_of_handle(caller, handle);
	int64_t result;
	struct vs_queue *q = own(caller, port, handle, &result);

	if (!q)
		return result;
	result = vs_nic_poll(caller, port, handle & 15);
	if (q->tx.bells.rung != q->tx.bells.told)
		result |= ELISA_TX_BELL;
	disown(caller, &q->tx);
	return result;
}
