/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksums and segments in software, for receivers that did not ask for frames with these left to
 * do. Nothing here knows ports or rings.
 */
#ifndef VS_OFFLOAD_H
#define VS_OFFLOAD_H

#include "deliver.h"

#define VS_TPID_C 0x8100 /* IEEE 802.1Q customer tag */
#define VS_TPID_S 0x88a8 /* service tag */

#define VS_TSO (ELISA_NET_TSO4 | ELISA_NET_TSO6)

/* Features that a receiver of a frame with these flags should have, and does not. */
vs_inline uint32_t vs_lacks(uint32_t features, uint16_t flags)
{
	_Static_assert(ELISA_NET_CSUM == ELISA_NET_F_CSUM << 1 &&
			       ELISA_NET_TSO4 == ELISA_NET_F_TSO4 << 1 &&
			       ELISA_NET_TSO6 == ELISA_NET_F_TSO6 << 1,
		       "flags and features go by the same order");
	return (uint32_t)flags >> 1 & (ELISA_NET_F_CSUM | ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6) &
	       ~features;
}

vs_inline uint32_t vs_csum_at(const struct vs_offload *o)
{
	return o->csum_start + ((uint32_t)o->flags >> ELISA_NET_CSUM_OFFSET);
}

/* Does the request make sense for a frame of `len` bytes? Says nothing about its headers. */
bool vs_offload_valid(const struct vs_offload *o, uint64_t len);

/* The sum over bytes [start, len) of a frame, complemented: as it is stored, in memory order. */
uint16_t vs_csum(const struct vs_seg *seg, uint32_t start, uint32_t len);

/* With a tag that the switch puts in. */
#define VS_HEADERS_MAX (ELISA_HEADERS_MAX + 4)

/* A frame to be segmented: its headers, read once, and what was found in them. */
struct vs_gso {
	uint8_t header[VS_HEADERS_MAX];
	struct vs_offload offload;
	uint32_t header_len;
	uint32_t l3;	   /* offset of the IP header */
	uint32_t payload;  /* bytes after the headers, 1.. */
	uint32_t segments; /* 1 .. ELISA_GSO_SEGS_MAX */
};

/*
 * `len` bytes in pieces, with a valid request for segmentation; `first`: its first 16 bytes as they
 * were read before. False: these are not the headers of one TCP segment of this length.
 */
bool vs_gso_parse(struct vs_gso *g, const struct vs_seg *seg, uint32_t len, __m128i first);

/* Bytes of payload of segment n. */
vs_inline uint32_t vs_gso_payload(const struct vs_gso *g, uint32_t n)
{
	uint32_t left = g->payload - n * g->offload.gso_size;

	return left < g->offload.gso_size ? left : g->offload.gso_size;
}

/* The headers of segment n, with the sum of the pseudo header where the checksum is to be. */
void vs_gso_header(const struct vs_gso *g, uint32_t n, uint8_t to[VS_HEADERS_MAX]);

#define VS_CUT 8 /* segments that are delivered at once */

/* A frame on its way to be cut up, and the segments under way: headers of their own, payload where
 * the sender has it. */
struct vs_cut {
	const struct vs_gso *gso;
	struct vs_from payload; /* of the next segment */
	uint32_t next;
	struct vs_frame frame[VS_CUT];
	struct vs_seg seg[2 * VS_CUT + ELISA_SEGS_MAX];
	uint8_t header[VS_CUT][VS_HEADERS_MAX];
};

void vs_cut_begin(struct vs_cut *cut, const struct vs_gso *g, const struct vs_seg *seg);
/* The next segments, as a load. False: there are none left. */
bool vs_cut_next(struct vs_cut *cut, struct vs_load_of *load);

#endif
