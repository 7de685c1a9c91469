/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A frame as its sender announced it: its descriptors, and its header, each read once. Nothing here
 * knows what becomes of it. For forward.c, which has it inline.
 */
#ifndef VS_CHAIN_H
#define VS_CHAIN_H

#include "offload.h"

#define VS_HEADER_MIN 16 /* of frames on the short way; shorter ones are gathered */

vs_inline const volatile uint64_t *vs_desc_at(const struct vs_tx *tx, uint32_t index)
{
	return (const volatile uint64_t *)(const volatile void *)&tx->ring[index & tx->mask];
}

struct vs_chain {
	uint32_t descs;
	uint32_t segs;
	uint64_t len;
	unsigned int drop; /* ELISA_DROP_COUNT: good */
	bool offload;	   /* something is left to do for it: in seg[0] */
	uint64_t wire_len; /* of the frame, or of the longest of its segments */
	uint32_t copies;   /* for one receiver: its segments, whoever cuts it up */
	struct vs_gso gso; /* segments 0: not to be segmented */
	struct vs_seg seg[ELISA_SEGS_MAX];
};

/* What must be 0 in the first descriptor of a frame, of a NIC's frame, and in the others. */
#define VS_DESC_FIRST (0xe0ull << 16)
#define VS_DESC_NIC   (VS_DESC_FIRST & ~((uint64_t)ELISA_RXC_CSUM_OK << 16))
#define VS_DESC_REST  (~0xffffull & ~((uint64_t)ELISA_NET_MORE << 16))

/*
 * Reads the descriptors of one frame, from `next` on, of which there are `left`. False: the guest
 * did not announce all of them. Of `c` it leaves to vs_check_offload(): offload, wire_len, copies,
 * gso.
 */
vs_inline bool vs_gather(struct vs_chain *c, struct vs_tx *tx, uint32_t next, uint32_t left,
			 bool nic)
{
	const uint64_t first = nic ? VS_DESC_NIC : VS_DESC_FIRST;
	uint64_t meta;

	c->descs = 0;
	c->segs = 0;
	c->len = 0;
	c->drop = ELISA_DROP_COUNT;
	do {
		const volatile uint64_t *d = vs_desc_at(tx, next + c->descs);
		uint64_t addr = d[0], len;
		const uint8_t *at;

		if (c->descs == left)
			return false;
		VS_STEP();
		c->descs++;
		meta = d[1];
		VS_STEP();
		len = meta & 0xffff;
		if (c->drop != ELISA_DROP_COUNT)
			continue;
		if (!len || (VS_DEFENCE(desc_bits) && meta & (c->segs ? VS_DESC_REST : first)) ||
		    (VS_DEFENCE(segs) && c->segs == ELISA_SEGS_MAX)) {
			c->drop = ELISA_DROP_TX_BAD_DESC;
			continue;
		}
		at = vs_guest_at(tx->guest, addr, len, &tx->hint);
		if (!at) {
			c->drop = ELISA_DROP_TX_BAD_ADDR;
			continue;
		}
		if (!VS_DEFENCE(read_once)) {
			VS_STEP();
			len = d[1] & 0xffff;
		}
		c->seg[c->segs++] = (struct vs_seg){
			.data = at,
			.len = (uint16_t)len,
			.offload = {.flags = (uint16_t)(meta >> 16 & ~(uint64_t)ELISA_NET_MORE),
				    .csum_start = (uint16_t)(meta >> 32),
				    .gso_size = (uint16_t)(meta >> 48)},
		};
		c->len += len;
	} while (meta >> 16 & ELISA_NET_MORE);
	return true;
}

/* The first 16 bytes, fewer if the frame is shorter, each read once. */
vs_inline __m128i vs_gather_header(const struct vs_chain *c)
{
	uint8_t bytes[16] __attribute__((aligned(16))) = {0};
	uint32_t n = 0;

	if (vs_likely(c->seg[0].len >= 16))
		return *(const volatile __m128i_u *)(const volatile void *)c->seg[0].data;
	for (uint32_t i = 0; i < c->segs; i++)
		for (uint32_t j = 0; j < c->seg[i].len && n < 16; j++)
			bytes[n++] = VS_READ_ONCE(c->seg[i].data[j]);
	return _mm_load_si128((const __m128i *)(void *)bytes);
}

/* What its sender wants done, and thus how long it is on the wire. False: it makes no sense. */
vs_inline bool vs_check_offload(struct vs_chain *c, __m128i header)
{
	const struct vs_offload *o = &c->seg[0].offload;

	c->offload = o->flags | o->csum_start | o->gso_size;
	c->wire_len = c->len;
	c->gso.segments = 0;
	c->copies = 1;
	if (vs_likely(!c->offload))
		return true;
	if (VS_DEFENCE(offload) && !vs_offload_valid(o, c->len))
		return false;
	if (!(o->flags & VS_TSO))
		return true;
	if (!vs_gso_parse(&c->gso, c->seg, (uint32_t)c->len, header))
		return false;
	c->copies = c->gso.segments;
	c->wire_len = c->gso.header_len + vs_gso_payload(&c->gso, 0);
	return true;
}

/* A frame that is alone in its load. */
static inline void vs_chain_load(const struct vs_chain *c, __m128i header, uint64_t *filled,
				 struct vs_frame *frame, struct vs_load_of *load)
{
	*frame = (struct vs_frame){
		.data = c->seg[0].data,
		.len = (uint32_t)c->len,
		.segs = c->segs > 1 || c->offload ? (uint16_t)c->segs : 0,
		.header = header,
	};
	*load = (struct vs_load_of){
		.frame = frame,
		.count = 1,
		.longest = (uint32_t)c->len,
		.pieces = frame->segs || c->len < VS_HEADER_MIN,
		.segs = c->seg,
		.filled = filled,
	};
}

#endif
