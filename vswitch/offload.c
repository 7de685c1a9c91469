/* SPDX-License-Identifier: BSD-3-Clause */
/* See offload.h. Internet checksums: RFC 1071, RFC 1624; the rest follows RFC 791, 8200, 9293. */
#include "offload.h"

#define ETH_IPV4	0x0800
#define ETH_IPV6	0x86dd
#define PROTO_HOPOPTS	0
#define PROTO_TCP	6
#define PROTO_ROUTING	43
#define PROTO_DSTOPTS	60
#define TCP_CSUM	16 /* offset in its header */
#define TCP_FIN		0x01
#define TCP_PSH		0x08
#define TCP_CWR		0x80
#define TCP_HEADER_MIN	20u
#define IPV4_HEADER_MIN 20
#define IPV6_HEADER	40
#define TAGS_MAX	2

vs_inline uint32_t get_be16(const uint8_t *p)
{
	return __builtin_bswap16(vs_get16(p));
}

vs_inline void put_be16(uint8_t *p, uint32_t v)
{
	vs_put16(p, __builtin_bswap16((uint16_t)v));
}

bool vs_offload_valid(const struct vs_offload *o, uint64_t len)
{
	uint16_t tso = o->flags & VS_TSO;

	if (!(o->flags & ELISA_NET_CSUM))
		return !(o->flags & ~(ELISA_NET_MORE | ELISA_RXC_CSUM_OK)) && !o->csum_start &&
		       !o->gso_size;
	if (o->csum_start < ELISA_FRAME_MIN || vs_csum_at(o) + 2 > len)
		return false;
	if (!tso)
		return !(o->flags & ELISA_NET_ECN) && !o->gso_size;
	return tso != VS_TSO && o->flags >> ELISA_NET_CSUM_OFFSET == TCP_CSUM &&
	       o->gso_size >= ELISA_GSO_SIZE_MIN && len <= ELISA_GSO_FRAME_MAX;
}

/* ---- checksums ---- */

/* One's complement addition does not mind the order of bytes, as long as all agree about it. */
vs_inline uint16_t fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* The sum of `len` bytes, the last one padded with a zero. `len` below 2^32: nothing overflows. */
static uint16_t sum_of(const uint8_t *data, uint64_t len)
{
	const __m256i zero = _mm256_setzero_si256();
	uint64_t sum = 0;

	if (len >= 32) {
		__m256i low = zero, high = zero;
		__m128i both;

		do {
			__m256i v = VS_GET256(data);

			low = _mm256_add_epi64(low, _mm256_unpacklo_epi32(v, zero));
			high = _mm256_add_epi64(high, _mm256_unpackhi_epi32(v, zero));
			data += 32;
			len -= 32;
		} while (len >= 32);
		low = _mm256_add_epi64(low, high);
		both = _mm_add_epi64(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
		sum = (uint64_t)_mm_cvtsi128_si64(both) + (uint64_t)_mm_extract_epi64(both, 1);
	}
	for (; len >= 4; len -= 4, data += 4)
		sum += vs_get32(data);
	if (len & 2) {
		sum += vs_get16(data);
		data += 2;
	}
	if (len & 1)
		sum += *data;
	return fold(sum);
}

uint16_t vs_csum(const struct vs_seg *seg, uint32_t start, uint32_t len)
{
	uint32_t left = len - start, done = 0;
	uint64_t sum = 0;

	for (; start >= seg->len; seg++)
		start -= seg->len;
	for (; done < left; seg++) {
		uint32_t part = seg->len - start;
		uint16_t one;

		if (part > left - done)
			part = left - done;
		one = sum_of(seg->data + start, part);
		/* At an odd place its bytes have changed their roles. */
		sum += done & 1 ? __builtin_bswap16(one) : one;
		done += part;
		start = 0;
	}
	return (uint16_t)~fold(sum);
}

/* ---- segments ---- */

/* The IP header's offset, and its protocol by EtherType: behind up to two tags. */
static uint32_t ip_offset(const struct vs_gso *g, uint32_t *type)
{
	uint32_t at = 12;

	*type = get_be16(g->header + at);
	for (int i = 0; i < TAGS_MAX && (*type == VS_TPID_C || *type == VS_TPID_S); i++) {
		at += 4;
		*type = get_be16(g->header + at);
	}
	return at + 2;
}

/* The headers lie in g->header up to the end of the smallest TCP header, at least. */
static bool ipv4_valid(const struct vs_gso *g, uint32_t len)
{
	const uint8_t *ip = g->header + g->l3;
	uint32_t ihl;

	if (g->l3 + IPV4_HEADER_MIN > g->offload.csum_start)
		return false;
	ihl = (ip[0] & 15u) * 4;
	return ip[0] >> 4 == 4 && ihl >= IPV4_HEADER_MIN && g->l3 + ihl == g->offload.csum_start &&
	       get_be16(ip + 2) == len - g->l3 && !(get_be16(ip + 6) & 0x3fff) /* a fragment */ &&
	       ip[9] == PROTO_TCP;
}

static bool ipv6_valid(const struct vs_gso *g, uint32_t len)
{
	const uint8_t *ip = g->header + g->l3;
	uint32_t at = g->l3 + IPV6_HEADER, end = g->offload.csum_start;
	uint8_t next;

	if (at > end || ip[0] >> 4 != 6 || get_be16(ip + 4) != len - at)
		return false;
	next = ip[6];
	/* Extension headers up to TCP; each is at least eight bytes. */
	while (at < end) {
		if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_DSTOPTS)
			return false;
		next = g->header[at];
		at += (g->header[at + 1] + 1u) * 8;
	}
	return at == end && next == PROTO_TCP;
}

bool vs_gso_parse(struct vs_gso *g, const struct vs_seg *seg, uint32_t len, __m128i first)
{
	uint32_t have = len < ELISA_HEADERS_MAX ? len : ELISA_HEADERS_MAX, type;
	struct vs_from from = {seg, 0};

	g->offload = seg->offload;
	if (g->offload.csum_start + TCP_HEADER_MIN > have)
		return false;
	vs_copy_pieces(g->header, &from, have);
	VS_PUT128(g->header, first);
	/* The compiler must not look at guest memory again in the place of the copy. */
	__asm__ volatile("" : "+m"(g->header));
	g->l3 = ip_offset(g, &type);
	g->header_len = g->offload.csum_start + (g->header[g->offload.csum_start + 12] >> 4) * 4u;
	if (g->header_len < g->offload.csum_start + TCP_HEADER_MIN || g->header_len > have ||
	    g->header_len >= len)
		return false;
	g->payload = len - g->header_len;
	g->segments = (g->payload + g->offload.gso_size - 1) / g->offload.gso_size;
	if (g->segments > ELISA_GSO_SEGS_MAX)
		return false;
	if (g->offload.flags & ELISA_NET_TSO4)
		return type == ETH_IPV4 && ipv4_valid(g, len);
	return type == ETH_IPV6 && ipv6_valid(g, len);
}

void vs_gso_header(const struct vs_gso *g, uint32_t n, uint8_t to[VS_HEADERS_MAX])
{
	uint32_t l4 = g->offload.csum_start, payload = vs_gso_payload(g, n);
	uint32_t whole = g->header_len - l4 + g->payload, part = g->header_len - l4 + payload;
	uint8_t *ip = to + g->l3, *tcp = to + l4;

	vs_copy(to, g->header, g->header_len);
	if (g->offload.flags & ELISA_NET_TSO4) {
		put_be16(ip + 2, l4 - g->l3 + part);
		put_be16(ip + 4, get_be16(ip + 4) + n);
		vs_put16(ip + 10, 0);
		vs_put16(ip + 10, (uint16_t)~sum_of(ip, l4 - g->l3));
	} else {
		put_be16(ip + 4, l4 - g->l3 - IPV6_HEADER + part);
	}
	vs_put32(tcp + 4,
		 __builtin_bswap32(__builtin_bswap32(vs_get32(tcp + 4)) + n * g->offload.gso_size));
	if (n + 1 < g->segments)
		tcp[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
	if (n && g->offload.flags & ELISA_NET_ECN)
		tcp[13] &= (uint8_t)~TCP_CWR;
	/* The pseudo header differs in the length only: take away the whole's, add this one's. */
	vs_put16(tcp + TCP_CSUM, fold((uint64_t)vs_get16(tcp + TCP_CSUM) +
				      (uint16_t)~__builtin_bswap16((uint16_t)whole) +
				      __builtin_bswap16((uint16_t)part)));
}

void vs_cut_begin(struct vs_cut *cut, const struct vs_gso *g, const struct vs_seg *seg)
{
	uint32_t skip = g->header_len;

	for (; skip >= seg->len; seg++)
		skip -= seg->len;
	cut->gso = g;
	cut->payload = (struct vs_from){seg, skip};
	cut->next = 0;
}

/* The next `len` bytes as pieces of their own. Returns how many. */
static uint32_t take_pieces(struct vs_from *from, uint32_t len, struct vs_seg *to)
{
	uint32_t count = 0;

	while (len) {
		uint32_t part = from->seg->len - (uint32_t)from->at;

		if (part > len)
			part = len;
		to[count++] =
			(struct vs_seg){from->seg->data + from->at, (uint16_t)part, {0, 0, 0}};
		len -= part;
		from->at += part;
		if (from->at == from->seg->len) {
			from->seg++;
			from->at = 0;
		}
	}
	return count;
}

bool vs_cut_next(struct vs_cut *cut, struct vs_load_of *load)
{
	const struct vs_gso *g = cut->gso;
	uint32_t count = 0, segs = 0;

	for (; count < VS_CUT && cut->next < g->segments; count++, cut->next++) {
		struct vs_frame *frame = &cut->frame[count];
		uint32_t payload = vs_gso_payload(g, cut->next), pieces;
		uint8_t *header = cut->header[count];

		vs_gso_header(g, cut->next, header);
		cut->seg[segs] = (struct vs_seg){
			.data = header,
			.len = (uint16_t)g->header_len,
			.offload = {.flags = ELISA_NET_CSUM | TCP_CSUM << ELISA_NET_CSUM_OFFSET,
				    .csum_start = g->offload.csum_start},
		};
		/* Pieces of the frame and cuts between segments: no more than there is room for. */
		pieces = 1 + take_pieces(&cut->payload, payload, &cut->seg[segs + 1]);
		*frame = (struct vs_frame){
			.data = header,
			.len = g->header_len + payload,
			.seg = (uint16_t)segs,
			.segs = (uint16_t)pieces,
			.header = VS_GET128(header),
		};
		segs += pieces;
	}
	load->frame = cut->frame;
	load->count = count;
	load->longest = cut->frame[0].len;
	load->pieces = true;
	load->segs = cut->seg;
	return count;
}
