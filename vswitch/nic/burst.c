/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the rings of a NIC port and the driver: all of this library that runs inside the trusted
 * context. One caller at a time has a half, and may be stopped for good anywhere; then nobody comes
 * until all has been made anew. Contents of frames are the guests', all else is our own; still
 * every length is bounded again before it is used.
 */
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include "burst.h"

#define VS_TPID_C 0x8100 /* IEEE 802.1Q customer tag */
#define VS_TPID_S 0x88a8 /* service tag */
#define TAGS_MAX  2
#define TSO	  (ELISA_NET_TSO4 | ELISA_NET_TSO6)
#define TCP_CSUM  16 /* offset in its header */
#define UDP_CSUM  6
#define POST_MAX  64 /* buffers at a time */

#define nic_inline static inline __attribute__((always_inline))

/* ---- buffers ---- */

/* One that nobody else refers to, in a pool like ours. */
nic_inline bool is_plain(const struct nic_pool_ops *ops, const struct rte_mbuf *m)
{
	return m->pool->ops_index == ops->index && rte_mbuf_refcnt_read(m) == 1 &&
	       RTE_MBUF_DIRECT(m);
}

static void put(const struct nic_pool_ops *ops, struct rte_mbuf **m, uint32_t count, uint64_t *lost)
{
	if (count && ops->put(m[0]->pool, (void *const *)m, count))
		nic_count(lost, count);
}

/* `count` pieces of frames: in stretches that go to the same pool. */
static void free_pieces(const struct nic_pool_ops *ops, struct rte_mbuf **m, uint32_t count,
			uint64_t *lost)
{
	uint32_t first = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (unlikely(!is_plain(ops, m[i]))) {
			put(ops, m + first, i - first, lost);
			nic_free_any(m[i]);
			first = i + 1;
			continue;
		}
		if (m[i]->pool != m[first]->pool) {
			put(ops, m + first, i - first, lost);
			first = i;
		}
		m[i]->next = NULL;
		m[i]->nb_segs = 1;
	}
	put(ops, m + first, count - first, lost);
}

static void free_frame(const struct nic_pool_ops *ops, struct rte_mbuf *m, uint64_t *lost)
{
	while (m) {
		struct rte_mbuf *next = m->next;

		free_pieces(ops, &m, 1, lost);
		m = next;
	}
}

/* ---- from the NIC ---- */

/* Descriptors for one frame. False: it has pieces that cannot be described. */
static bool describe(struct nic_rxq *q, struct rte_mbuf *m)
{
	uint32_t at = q->head + q->described, n = 0, room = NIC_DESCS - q->described;
	uint64_t bad = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_L4_CKSUM_MASK;
	uint16_t flags = 0;

	bad &= m->ol_flags;
	if (bad == RTE_MBUF_F_RX_L4_CKSUM_GOOD ||
	    bad == (RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD))
		flags = ELISA_RXC_CSUM_OK;
	if (room > ELISA_SEGS_MAX)
		room = ELISA_SEGS_MAX;
	for (; m; m = m->next) {
		uint32_t i = (at + n) % NIC_DESCS;

		if (n++ == room || !m->data_len)
			return false;
		q->slot[i] = m;
		q->ring[i] = (struct elisa_txd){
			.addr = (uintptr_t)rte_pktmbuf_mtod(m, void *),
			.len = m->data_len,
			.flags = flags | (m->next ? ELISA_NET_MORE : 0),
		};
		flags = 0;
	}
	q->described += n;
	return true;
}

static uint32_t burst_rx(void *rxq, uint32_t max)
{
	struct rte_mbuf *mbuf[VS_NIC_BURST];
	struct nic_rxq *q = rxq;
	uint32_t count;

	if (q->described)
		return q->described;
	count = q->burst(q->queue, mbuf, (uint16_t)(max < VS_NIC_BURST ? max : VS_NIC_BURST));
	for (uint32_t i = 0; i < count && i < VS_NIC_BURST; i++) {
		if (likely(describe(q, mbuf[i])))
			continue;
		nic_count(&q->unusable, 1);
		free_frame(&q->ops, mbuf[i], &q->lost);
	}
	return q->described;
}

static void burst_rx_done(void *rxq, uint32_t descs)
{
	struct nic_rxq *q = rxq;

	if (descs > q->described)
		descs = q->described;
	while (descs) {
		uint32_t first = q->head % NIC_DESCS, count = NIC_DESCS - first;

		if (count > descs)
			count = descs;
		if (count > POST_MAX)
			count = POST_MAX;
		/* First, so that none is freed twice. */
		q->head += count;
		q->described -= count;
		descs -= count;
		free_pieces(&q->ops, &q->slot[first], count, &q->lost);
	}
}

/* ---- to the NIC: what is left to do for a frame ---- */

nic_inline uint32_t be16_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

/* End of the Ethernet header and its tags; at least 14 + 2 * 4 bytes are there. */
nic_inline uint32_t l2_len(const uint8_t *p, uint32_t *type)
{
	uint32_t at = 12;

	*type = be16_at(p + at);
	for (int i = 0; i < TAGS_MAX && (*type == VS_TPID_C || *type == VS_TPID_S); i++) {
		at += 4;
		*type = be16_at(p + at);
	}
	return at + 2;
}

/*
 * mbuf flags for the checksum that `offset` bytes after `l4` is to be filled in, with l2_len and
 * l3_len; 0: nothing that ethdev has a flag for. The L4 header's first 20 bytes (UDP: 8) must lie
 * in the first buffer: drivers look at them.
 */
static uint64_t l4_flags(struct rte_mbuf *m, uint32_t l4, uint32_t offset)
{
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);
	uint32_t have = m->data_len, type, l2, l3, proto;
	uint64_t flags;

	if (have < RTE_ETHER_HDR_LEN + TAGS_MAX * 4)
		return 0;
	l2 = l2_len(p, &type);
	if (type == RTE_ETHER_TYPE_IPV4) {
		if (l2 + sizeof(struct rte_ipv4_hdr) > l4 || l4 > have || p[l2] >> 4 != 4 ||
		    l2 + (p[l2] & 15u) * 4 != l4 || be16_at(p + l2 + 6) & 0x3fff /* fragment */)
			return 0;
		proto = p[l2 + 9];
		flags = RTE_MBUF_F_TX_IPV4;
	} else if (type == RTE_ETHER_TYPE_IPV6) {
		/* Extension headers have part in what drivers make of the pseudo header. */
		if (l2 + sizeof(struct rte_ipv6_hdr) != l4 || l4 > have || p[l2] >> 4 != 6)
			return 0;
		proto = p[l2 + 6];
		flags = RTE_MBUF_F_TX_IPV6;
	} else {
		return 0;
	}
	l3 = l4 - l2;
	if (proto == IPPROTO_TCP && offset == TCP_CSUM && l4 + sizeof(struct rte_tcp_hdr) <= have)
		flags |= RTE_MBUF_F_TX_TCP_CKSUM;
	else if (proto == IPPROTO_UDP && offset == UDP_CSUM && l4 + 8 <= have)
		flags |= RTE_MBUF_F_TX_UDP_CKSUM;
	else
		return 0;
	m->l2_len = l2;
	m->l3_len = l3;
	return flags;
}

/* Of one piece, as if it began at an even place. */
static uint64_t sum_piece(const uint8_t *p, uint32_t len)
{
	uint64_t sum = 0;

	for (; len >= 4; len -= 4, p += 4) {
		uint32_t v;

		__builtin_memcpy(&v, p, sizeof(v));
		sum += v;
	}
	for (uint32_t i = 0; i < len; i++)
		sum += (uint64_t)p[i] << (i & 1 ? 8 : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static uint8_t *byte_at(struct rte_mbuf *m, uint32_t at)
{
	for (; at >= m->data_len; m = m->next)
		at -= m->data_len;
	return rte_pktmbuf_mtod(m, uint8_t *) + at;
}

/* RFC 1071, for requests that the NIC has no flag for. False: they make no sense. */
static bool fill_csum(struct rte_mbuf *m, uint32_t start, uint32_t at)
{
	uint32_t skip = start, odd = 0;
	uint64_t sum = 0;

	if (start >= m->pkt_len || at + 2 > m->pkt_len)
		return false;
	for (const struct rte_mbuf *piece = m; piece; piece = piece->next) {
		uint32_t len = piece->data_len;
		uint64_t one;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		one = sum_piece(rte_pktmbuf_mtod(piece, const uint8_t *) + skip, len - skip);
		sum += odd ? __builtin_bswap16((uint16_t)one) : one;
		odd ^= (len - skip) & 1;
		skip = 0;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum ^= 0xffff;
	/* RFC 768: 0 would mean that there is none. */
	if (!sum && at - start == UDP_CSUM)
		sum = 0xffff;
	*byte_at(m, at) = (uint8_t)sum;
	*byte_at(m, at + 1) = (uint8_t)(sum >> 8);
	return true;
}

/* A TCP frame to be cut up by the NIC. The switch found its headers good in the sender's memory;
 * this is what was copied after that. */
static bool request_tso(struct rte_mbuf *m, uint16_t flags, uint32_t l4, uint16_t gso_size)
{
	uint64_t ol = l4_flags(m, l4, flags >> ELISA_NET_CSUM_OFFSET);
	uint8_t *p = rte_pktmbuf_mtod(m, uint8_t *);
	uint32_t l4_len;
	uint16_t sum;

	if (!(ol & RTE_MBUF_F_TX_TCP_CKSUM) || gso_size < ELISA_GSO_SIZE_MIN ||
	    !(ol & (flags & ELISA_NET_TSO4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6)))
		return false;
	l4_len = (p[l4 + 12] >> 4) * 4u;
	if (l4_len < sizeof(struct rte_tcp_hdr) || l4 + l4_len > m->data_len ||
	    l4 + l4_len >= m->pkt_len)
		return false;
	m->l4_len = l4_len;
	m->tso_segsz = gso_size;
	ol |= RTE_MBUF_F_TX_TCP_SEG;
	/* ethdev wants the pseudo header's sum without a length here. */
	if (ol & RTE_MBUF_F_TX_IPV4) {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(void *)(p + m->l2_len);

		ol |= RTE_MBUF_F_TX_IP_CKSUM;
		ip->hdr_checksum = 0;
		sum = rte_ipv4_phdr_cksum(ip, ol);
	} else {
		sum = rte_ipv6_phdr_cksum((struct rte_ipv6_hdr *)(void *)(p + m->l2_len), ol);
	}
	__builtin_memcpy(p + l4 + TCP_CSUM, &sum, sizeof(sum));
	m->ol_flags |= ol;
	return true;
}

/* What the frame's first completion asks for. False: it cannot be sent so. */
static bool request(struct nic_txq *q, struct rte_mbuf *m, uint64_t meta)
{
	uint16_t flags = (uint16_t)(meta >> 16), gso_size = (uint16_t)(meta >> 48);
	uint32_t l4 = (uint16_t)(meta >> 32), offset = flags >> ELISA_NET_CSUM_OFFSET;
	uint64_t ol;

	if (likely(!(flags & ELISA_NET_CSUM)))
		return m->nb_segs <= q->segs_max;
	if (flags & TSO) {
		if (m->nb_segs > q->tso_segs_max || !request_tso(m, flags, l4, gso_size))
			return false;
	} else {
		if (m->nb_segs > q->segs_max)
			return false;
		ol = l4_flags(m, l4, offset);
		if (!ol) {
			nic_count(&q->software, 1);
			return fill_csum(m, l4, l4 + offset);
		}
		m->ol_flags |= ol;
	}
	return !q->prepare || q->prepare(q->queue, &m, 1) == 1;
}

/* ---- to the NIC: rings ---- */

#ifdef NIC_STOP_HOOK
/* For tests: whoever sends to this address stays here. */
static void stop_hook(const struct rte_mbuf *m)
{
	static const uint8_t address[6] = {0x02, 0x00, 0xde, 0xad, 0x00, 0x01};
	const uint8_t *p = rte_pktmbuf_mtod(m, const uint8_t *);

	for (int i = 0; i < 6; i++)
		if (p[i] != address[i])
			return;
	for (;;)
		__builtin_ia32_pause();
}
#endif

/* Zeroes behind a short frame; the switch does not spread such over buffers. */
nic_inline void pad(struct rte_mbuf *m)
{
	volatile uint8_t *p = rte_pktmbuf_mtod(m, volatile uint8_t *);

	for (uint32_t i = m->data_len; i < NIC_FRAME_MIN; i++)
		p[i] = 0;
	m->data_len = NIC_FRAME_MIN;
	m->pkt_len = NIC_FRAME_MIN;
}

/*
 * The frame that begins with completion q->next, as a chain of buffers. Returns how many
 * completions it has, 0: it is not there as a whole yet. `good`: it may be sent. A completion
 * without data ends the frame that it is part of.
 */
static uint32_t gather(struct nic_txq *q, struct rte_mbuf **frame, bool *good, uint64_t *request_of)
{
	struct rte_mbuf *head = NULL, *last = NULL;
	uint32_t count = 0, len = 0;
	uint64_t meta;

	*good = true;
	do {
		uint32_t index = q->next + count, i = index % NIC_SLOTS;
		const uint64_t *word = (const uint64_t *)(const void *)&q->comp[i];
		struct rte_mbuf *m = q->slot[i];

		/* Pairs with the release of whoever committed it. */
		if (count == NIC_SLOTS || nic_load_acquire(&word[1]) >> 32 != (uint32_t)(index + 1))
			return 0;
		meta = nic_load(&word[0]);
		count++;
		m->data_len = (uint16_t)meta;
		len += m->data_len;
		if (last)
			last->next = m;
		else
			head = m;
		if (count == 1)
			*request_of = meta;
		last = m;
		if (meta >> 16 & ELISA_RXC_ABORTED || !m->data_len || m->data_len > q->buf_len) {
			*good = false;
			break;
		}
	} while (meta >> 16 & ELISA_NET_MORE);
	last->next = NULL;
	head->nb_segs = (uint16_t)count;
	head->pkt_len = len;
	*frame = head;
	return count;
}

/* Takes frames from the ring until the stage is full. */
static void take(struct nic_txq *q)
{
	while (q->staged < VS_NIC_BURST) {
		struct rte_mbuf *m;
		uint64_t meta = 0;
		bool good;
		uint32_t count = gather(q, &m, &good, &meta);

		if (!count)
			return;
		q->next += count;
		if (likely(good)) {
#ifdef NIC_STOP_HOOK
			stop_hook(m);
#endif
			good = request(q, m, meta);
			if (!good)
				nic_count(&q->errors, 1);
		}
		if (unlikely(!good)) {
			free_frame(&q->ops, m, &q->lost);
			continue;
		}
		if (m->pkt_len < NIC_FRAME_MIN && m->nb_segs == 1)
			pad(m);
		q->stage[q->staged++] = m;
	}
}

static void give_up(struct nic_txq *q, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		free_frame(&q->ops, q->stage[i], &q->lost);
	nic_count(&q->full, count);
}

/* What it does not take stays for the next round: only so long, or one bad frame would stop all. */
static void transmit(struct nic_txq *q)
{
	uint32_t sent;

	if (!q->staged)
		return;
	sent = q->burst(q->queue, q->stage, (uint16_t)q->staged);
	if (likely(sent >= q->staged)) {
		q->staged = 0;
		q->stuck = 0;
		return;
	}
	if (sent) {
		q->stuck = 0;
	} else if (nic_load(&q->down)) {
		sent = q->staged;
		give_up(q, sent);
	} else if (++q->stuck >= NIC_STUCK) {
		sent = 1;
		give_up(q, sent);
		q->stuck = 0;
	}
	q->staged -= sent;
	for (uint32_t i = 0; i < q->staged; i++)
		q->stage[i] = q->stage[sent + i];
}

/* All or none come from a pool: with few left, fewer are asked for. */
static uint32_t get_some(struct nic_txq *q, struct rte_mbuf **mbuf, uint32_t count)
{
	while (count && q->ops.get(q->pool, (void **)mbuf, count))
		count /= 2;
	return count;
}

/* A new buffer into each slot that is free. */
static void post(struct nic_txq *q)
{
	struct rte_mbuf *mbuf[POST_MAX];
	uint32_t free, count;

	while ((free = NIC_SLOTS - (q->posted - q->next)) != 0) {
		count = get_some(q, mbuf, free < POST_MAX ? free : POST_MAX);
		for (uint32_t n = 0; n < count; n++) {
			uint32_t i = (q->posted + n) % NIC_SLOTS;

			rte_pktmbuf_reset(mbuf[n]);
			q->slot[i] = mbuf[n];
			nic_store(&q->ring->addr[i], (uintptr_t)rte_pktmbuf_mtod(mbuf[n], void *));
		}
		if (!count)
			break;
		q->posted += count;
	}
	/* Pairs with the acquire of whoever reserves them. */
	nic_store_release(&q->ring->posted, q->posted);
}

/* Buffers of frames that the NIC did not take yet. */
static uint32_t held_back(const struct nic_txq *q)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < q->staged; i++)
		count += q->stage[i]->nb_segs;
	return count;
}

/* Those do not count as taken, or nobody would come again for the last ones of a burst. */
static uint32_t burst_tx(void *txq)
{
	struct nic_txq *q = txq;

	take(q);
	transmit(q);
	post(q);
	return q->next - held_back(q);
}

const struct vs_nic_ops nic_burst_ops = {
	.rx = burst_rx,
	.rx_done = burst_rx_done,
	.tx = burst_tx,
};
