/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path.
 *
 * TX: descriptors point at the mbufs' own memory; one call delivers up to ELISA_TX_MAX of them.
 * When it returns, the frames are copied or dropped, so the mbufs are freed at once: nothing is in
 * flight between bursts.
 *
 * RX: mbufs are posted in batches; senders fill them in order. A completion is one 16-byte entry,
 * shuffled into the mbuf's fields by one instruction in the usual case: one buffer, no offload.
 */
#include <tmmintrin.h>

#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>

#include "elisa_pmd.h"

/* ---- RX ---- */

/* Posts buffers a batch at a time; slots are a multiple of that. */
bool elisa_rxq_refill(struct pmd_rxq *q)
{
	const uint32_t posted = q->posted;

	while (q->mask + 1 - (q->posted - q->head) >= ELISA_RX_BATCH) {
		struct rte_mbuf **sw = &q->sw[q->posted & q->mask];
		uint64_t *addr = &q->ring->addr[q->posted & q->mask];

		if (unlikely(rte_mempool_get_bulk(q->pool, (void **)sw, ELISA_RX_BATCH))) {
			q->no_mbuf += ELISA_RX_BATCH;
			break;
		}
		for (int i = 0; i < ELISA_RX_BATCH; i++)
			addr[i] = rte_mbuf_iova_get(sw[i]) + RTE_PKTMBUF_HEADROOM;
		q->posted += ELISA_RX_BATCH;
	}
	/* Pairs with the senders' acquire load: they see the addresses first. */
	if (q->posted != posted)
		__atomic_store_n(&q->ring->posted, q->posted, __ATOMIC_RELEASE);
	return q->posted != q->head;
}

static inline const struct elisa_rxc *completion(const struct pmd_rxq *q, uint32_t i)
{
	const struct elisa_rxc *c = &q->comp[i & q->mask];

	/* Pairs with the sender's release store: data and the other fields come before. */
	return likely(__atomic_load_n(&c->seq, __ATOMIC_ACQUIRE) == i + 1) ? c : NULL;
}

/* Completions of the frame that begins at `head`; 0: not all there yet. */
static uint32_t frame_slots(const struct pmd_rxq *q, bool *aborted)
{
	*aborted = false;
	for (uint32_t i = 0; i <= q->mask; i++) {
		const struct elisa_rxc *c = completion(q, q->head + i);

		if (!c)
			return 0;
		/* Voids what came before it; those after it are aborted too. */
		if (c->flags & ELISA_RXC_ABORTED) {
			*aborted = true;
			return i + 1;
		}
		if (!(c->flags & ELISA_NET_MORE))
			return i + 1;
	}
	/* The whole ring is one frame without an end: void, or it would stop the queue for good. */
	*aborted = true;
	return q->mask + 1;
}

static struct rte_mbuf *take_segment(struct pmd_rxq *q, uint32_t slot)
{
	struct rte_mbuf *m = q->sw[slot & q->mask];

	*(uint64_t *)&m->rearm_data = q->rearm;
	m->ol_flags = 0;
	m->packet_type = 0;
	m->vlan_tci = 0;
	m->data_len = q->comp[slot & q->mask].len;
	m->pkt_len = m->data_len;
	return m;
}

static struct rte_mbuf *take_chain(struct pmd_rxq *q, uint32_t slots)
{
	struct rte_mbuf *first = take_segment(q, q->head), *last = first;

	for (uint32_t i = 1; i < slots; i++) {
		struct rte_mbuf *m = take_segment(q, q->head + i);

		last->next = m;
		last = m;
		first->pkt_len += m->data_len;
	}
	first->nb_segs = (uint16_t)slots;
	return first;
}

/*
 * What the completion says beyond the length. A frame whose sum is not filled in never left the
 * host: its data is sound.
 */
static void take_offloads(const struct pmd_rxq *q, const struct elisa_rxc *c, struct rte_mbuf *m)
{
	if (c->flags & ELISA_RXC_HASH && q->hash) {
		m->hash.rss = c->hash;
		m->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
	}
	if (c->flags & ELISA_NET_CSUM)
		m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_NONE;
	else if (c->flags & ELISA_RXC_CSUM_OK && q->csum)
		m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD;
	if (c->flags & (ELISA_NET_TSO4 | ELISA_NET_TSO6)) {
		m->ol_flags |= RTE_MBUF_F_RX_LRO | RTE_MBUF_F_RX_L4_CKSUM_NONE;
		m->tso_segsz = c->gso_size;
	}
}

/* A frame with any flag. NULL, and the head stays: not all there. NULL, and it moves: dropped. */
static __rte_noinline struct rte_mbuf *take_any(struct pmd_rxq *q)
{
	const struct elisa_rxc *c = &q->comp[q->head & q->mask];
	struct rte_mbuf *m;
	uint32_t slots;
	bool aborted;

	/* Most of a NIC's. */
	if (likely(c->flags == ELISA_RXC_CSUM_OK)) {
		m = take_segment(q, q->head++);
		take_offloads(q, c, m);
		return m;
	}
	slots = frame_slots(q, &aborted);
	if (!slots)
		return NULL;
	if (unlikely(aborted || (slots > 1 && !q->scatter))) {
		for (uint32_t i = 0; i < slots; i++)
			rte_pktmbuf_free(take_segment(q, q->head + i));
		q->aborted += aborted;
		q->too_long += !aborted;
		q->head += slots;
		return NULL;
	}
	m = take_chain(q, slots);
	take_offloads(q, c, m);
	q->head += slots;
	return m;
}

static __rte_noinline void strip_tags(struct rte_mbuf **pkts, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		if (pkts[i]->data_len >= RTE_ETHER_HDR_LEN + sizeof(struct rte_vlan_hdr))
			rte_vlan_strip(pkts[i]);
}

static inline uint16_t take_burst(struct pmd_rxq *q, struct rte_mbuf **pkts, uint16_t n)
{
	/* {len, flags, csum_start, gso_size, hash, seq} -> {packet_type, pkt_len, data_len, tci,
	 * hash} */
	const __m128i shuffle =
		_mm_set_epi8(11, 10, 9, 8, -1, -1, 1, 0, -1, -1, 1, 0, -1, -1, -1, -1);
	const __m128i rearm = _mm_set_epi64x(0, (int64_t)q->rearm);
	uint64_t bytes = 0;
	uint16_t got = 0;

	while (got < n) {
		const struct elisa_rxc *c = completion(q, q->head);
		struct rte_mbuf *m;
		__m128i v;

		if (!c)
			break;
		if (unlikely(c->flags)) {
			const uint32_t head = q->head;

			m = take_any(q);
			if (!m && head == q->head)
				break;
			if (!m)
				continue;
			bytes += m->pkt_len;
			pkts[got++] = m;
			continue;
		}
		v = _mm_load_si128((const __m128i *)c);
		m = q->sw[q->head++ & q->mask];
		bytes += (uint16_t)_mm_cvtsi128_si32(v);
		_mm_store_si128((__m128i *)&m->rearm_data, rearm);
		_mm_storeu_si128((__m128i *)&m->rx_descriptor_fields1,
				 _mm_shuffle_epi8(v, shuffle));
		pkts[got++] = m;
	}
	q->packets += got;
	q->bytes += bytes;
	return got;
}

/*
 * Takes what NICs received to its receivers, perhaps to this queue: at each look that finds
 * nothing, but less and less often while NICs have nothing, and now and then when there is enough
 * to do. Returns frames that NICs had.
 */
static __rte_noinline uint32_t poll_nics(struct pmd_rxq *q, struct pmd_txq *tx, bool busy)
{
	int64_t result = 0;
	uint32_t had;

	if (++q->looks < (busy ? ELISA_NIC_LOOKS : q->poll_every))
		return 0;
	q->looks = 0;
	/* Somebody sends there just now: he does not wait for us, nor we for him. */
	if (!elisa_try(&tx->busy))
		return 0;
	if (tx->up)
		result = elisa_call(&tx->call, ELISA_NET_POLL, tx->handle, 0, 0);
	if (result > 0 && result & ELISA_TX_BELL && tx->bell)
		elisa_ring(tx);
	elisa_release(&tx->busy);
	had = result > 0 ? (uint32_t)result & ELISA_TX_TAKEN : 0;
	q->poll_every = had ? 1 : RTE_MIN(q->poll_every * 2 + !q->poll_every, ELISA_NIC_LOOKS);
	q->polls++;
	q->polled += had;
	return had;
}

uint16_t pmd_rx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct pmd_rxq *q = queue;
	struct pmd_txq *poller;
	uint16_t got = 0;

	if (unlikely(!elisa_try(&q->busy)))
		return 0;
	if (likely(q->up)) {
		got = take_burst(q, pkts, n);
		poller = __atomic_load_n(&q->poller, __ATOMIC_RELAXED);
		if (unlikely(poller) && poll_nics(q, poller, got) && !got)
			got = take_burst(q, pkts, n);
		elisa_rxq_refill(q);
		if (unlikely(q->strip))
			strip_tags(pkts, got);
	}
	elisa_release(&q->busy);
	return got;
}

uint32_t elisa_rxq_count(void *queue)
{
	const struct pmd_rxq *q = queue;
	uint32_t n = 0;

	while (n <= q->mask && completion(q, q->head + n))
		n++;
	return n;
}

int elisa_rx_descriptor_status(void *queue, uint16_t offset)
{
	const struct pmd_rxq *q = queue;

	if (offset > q->mask)
		return -EINVAL;
	if (offset >= q->posted - q->head)
		return RTE_ETH_RX_DESC_UNAVAIL;
	return completion(q, q->head + offset) ? RTE_ETH_RX_DESC_DONE : RTE_ETH_RX_DESC_AVAIL;
}

/* Negative: do not fall asleep, the next completion bears its number already. */
static int still_waiting(const uint64_t value, const uint64_t opaque[RTE_POWER_MONITOR_OPAQUE_SZ])
{
	return value == opaque[0] ? -1 : 0;
}

int elisa_get_monitor_addr(void *queue, struct rte_power_monitor_cond *cond)
{
	const struct pmd_rxq *q = queue;

	cond->addr = (void *)(uintptr_t)&q->comp[q->head & q->mask].seq;
	cond->size = sizeof(uint32_t);
	cond->opaque[0] = q->head + 1;
	cond->fn = still_waiting;
	return 0;
}

/* ---- TX ---- */

#define TX_WORK                                                                   \
	(RTE_MBUF_F_TX_L4_MASK | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_SEG | \
	 RTE_MBUF_F_TX_VLAN)

/* Checksum and segmentation requests; writes what the switch expects to find into the headers. */
static int request(struct rte_mbuf *m, struct elisa_txd *d)
{
	const uint64_t ol = m->ol_flags;
	const bool tso = ol & RTE_MBUF_F_TX_TCP_SEG, v4 = ol & RTE_MBUF_F_TX_IPV4;
	const uint64_t l4 = ol & RTE_MBUF_F_TX_L4_MASK;
	const uint32_t l3_at = m->l2_len, l4_at = l3_at + m->l3_len;
	const bool udp = !tso && l4 == RTE_MBUF_F_TX_UDP_CKSUM;
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, l3_at);

	if (l4 == RTE_MBUF_F_TX_SCTP_CKSUM || l4_at + (tso ? m->l4_len : 0) > m->data_len)
		return -EINVAL;
	if (ol & RTE_MBUF_F_TX_IP_CKSUM) {
		if (m->l3_len < sizeof(*ip))
			return -EINVAL;
		ip->hdr_checksum = 0;
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	}
	if (!tso && !l4)
		return 0;
	d->csum_start = (uint16_t)l4_at;
	d->flags = ELISA_NET_CSUM;
	d->flags |= (udp ? offsetof(struct rte_udp_hdr, dgram_cksum)
			 : offsetof(struct rte_tcp_hdr, cksum))
		    << ELISA_NET_CSUM_OFFSET;
	if (tso) {
		struct rte_tcp_hdr *tcp = rte_pktmbuf_mtod_offset(m, struct rte_tcp_hdr *, l4_at);

		if (m->l4_len < sizeof(*tcp) || m->l3_len < sizeof(*ip))
			return -EINVAL;
		/* ethdev leaves the length out of this sum; here it is the whole frame's. */
		tcp->cksum = v4 ? rte_ipv4_phdr_cksum(ip, 0)
				: rte_ipv6_phdr_cksum((struct rte_ipv6_hdr *)ip, 0);
		d->flags |= v4 ? ELISA_NET_TSO4 : ELISA_NET_TSO6;
		if (tcp->tcp_flags & RTE_TCP_CWR_FLAG)
			d->flags |= ELISA_NET_ECN;
		d->gso_size = m->tso_segsz;
	}
	return 0;
}

/*
 * Any mbuf: one or more segments, offloads. Returns its descriptors; 0: no room for it this time;
 * -EINVAL: it cannot be said.
 */
static __rte_noinline int put_any(struct pmd_txq *q, struct rte_mbuf **pkt, uint32_t at,
				  uint32_t room)
{
	struct elisa_txd first = {.flags = 0}, *d = NULL;
	struct rte_mbuf *m;
	uint32_t n = 0;

	if ((*pkt)->ol_flags & RTE_MBUF_F_TX_VLAN && rte_vlan_insert(pkt))
		return -EINVAL;
	if ((*pkt)->ol_flags & TX_WORK && request(*pkt, &first))
		return -EINVAL;
	for (m = *pkt; m; m = m->next) {
		if (!m->data_len)
			continue;
		if (n == ELISA_SEGS_MAX)
			return -EINVAL;
		if (n == room)
			return 0;
		d = &q->ring[(at + n) & q->mask];
		*d = n ? (struct elisa_txd){.flags = 0} : first;
		d->addr = rte_pktmbuf_iova(m);
		d->len = m->data_len;
		d->flags |= ELISA_NET_MORE;
		n++;
	}
	if (!d)
		return -EINVAL;
	d->flags &= (uint16_t)~ELISA_NET_MORE;
	return (int)n;
}

struct tx_round {
	uint32_t frames, descs;
	uint64_t bytes;
	bool simple; /* a descriptor is a frame is an mbuf */
	bool bad;    /* the mbuf after these frames is */
};

static inline bool simple(const struct rte_mbuf *m)
{
	return likely(m->nb_segs == 1 && !(m->ol_flags & TX_WORK) && m->data_len);
}

/* As many as are a descriptor each, up to the ring's end. Kept short: it is most of a burst's work.
 */
static inline void put_simple(struct pmd_txq *q, struct rte_mbuf **pkts, uint32_t n,
			      struct tx_round *r)
{
	uint64_t *d = (uint64_t *)&q->ring[q->next & q->mask], bytes = 0;
	uint32_t i;

	n = RTE_MIN(n, q->mask + 1 - (q->next & q->mask));
	for (i = 0; i < n; i++, d += 2) {
		const struct rte_mbuf *m = pkts[i];
		const uint64_t len = m->data_len;

		if (unlikely(!simple(m)))
			break;
		/* One store each: the compiler would rather put them together first. */
		__atomic_store_n(&d[0], rte_pktmbuf_iova(m), __ATOMIC_RELAXED);
		__atomic_store_n(&d[1], len, __ATOMIC_RELAXED);
		bytes += len;
	}
	*r = (struct tx_round){.frames = i, .descs = i, .bytes = bytes, .simple = true};
}

static inline struct tx_round put_round(struct pmd_txq *q, struct rte_mbuf **pkts, uint32_t n)
{
	const uint32_t room = RTE_MIN(q->mask + 1, (uint32_t)ELISA_TX_MAX);
	struct tx_round r;
	int used;

	put_simple(q, pkts, RTE_MIN(n, room), &r);
	for (; unlikely(r.frames < n && r.descs < room); r.frames++) {
		r.simple &= simple(pkts[r.frames]);
		used = put_any(q, &pkts[r.frames], q->next + r.descs, room - r.descs);
		r.bad = used < 0;
		if (used <= 0)
			break;
		r.bytes += pkts[r.frames]->pkt_len;
		r.descs += (uint32_t)used;
	}
	return r;
}

/* How many of the frames lie in the first `taken` descriptors, and their bytes. */
static __rte_noinline uint32_t frames_in(const struct pmd_txq *q, uint32_t taken,
					 struct tx_round *r)
{
	uint32_t frames = 0;

	r->bytes = 0;
	for (uint32_t i = 0; i < taken; i++) {
		const struct elisa_txd *d = &q->ring[(q->next + i) & q->mask];

		r->bytes += d->len;
		frames += !(d->flags & ELISA_NET_MORE);
	}
	return frames;
}

/* Frees mbufs of one segment, in runs of the same pool. */
static inline void free_simple(struct rte_mbuf **pkts, uint32_t n)
{
	struct rte_mbuf *run[ELISA_TX_MAX];
	uint32_t len = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct rte_mbuf *m = rte_pktmbuf_prefree_seg(pkts[i]);

		if (unlikely(!m))
			continue;
		if (unlikely(len && m->pool != run[0]->pool)) {
			rte_mempool_put_bulk(run[0]->pool, (void **)run, len);
			len = 0;
		}
		run[len++] = m;
	}
	if (likely(len))
		rte_mempool_put_bulk(run[0]->pool, (void **)run, len);
}

static inline void free_frames(const struct pmd_txq *q, struct rte_mbuf **pkts, uint32_t n,
			       bool simple)
{
	if (unlikely(!n))
		return;
	if (likely(simple && q->fast_free))
		rte_mempool_put_bulk(pkts[0]->pool, (void **)pkts, n);
	else if (simple)
		free_simple(pkts, n);
	else
		rte_pktmbuf_free_bulk(pkts, n);
}

static inline uint16_t send_burst(struct pmd_txq *q, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t done = 0;

	while (done < n) {
		struct tx_round r = put_round(q, pkts + done, n - done);
		uint32_t taken;
		int64_t result;

		if (unlikely(!r.descs)) {
			if (!r.bad)
				break;
			rte_pktmbuf_free(pkts[done++]);
			q->bad++;
			continue;
		}
		result = elisa_call(&q->call, ELISA_NET_TX, q->handle, r.descs, 0);
		if (unlikely(result < 0))
			break;
		taken = (uint32_t)result & ELISA_TX_TAKEN;
		if (unlikely(result & ELISA_TX_BELL && q->bell))
			elisa_ring(q);
		if (unlikely(taken != r.descs))
			r.frames = frames_in(q, taken, &r);
		free_frames(q, pkts + done, r.frames, r.simple);
		q->next += taken;
		q->packets += r.frames;
		q->bytes += r.bytes;
		done += (uint16_t)r.frames;
		if (unlikely(taken != r.descs))
			break;
	}
	return done;
}

uint16_t pmd_tx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	struct pmd_txq *q = queue;
	uint16_t sent = 0;

	if (unlikely(!elisa_try(&q->busy)))
		return 0;
	if (likely(q->up))
		sent = send_burst(q, pkts, n);
	elisa_release(&q->busy);
	return sent;
}

/* What ethdev's users expect of it: VLAN tags are put in, pseudo headers are summed up. */
uint16_t pmd_tx_prepare(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i;
	int rc;

	for (i = 0; i < n; i++) {
		rc = 0;
		if (pkts[i]->nb_segs > ELISA_SEGS_MAX ||
		    (pkts[i]->ol_flags & RTE_MBUF_F_TX_L4_MASK) == RTE_MBUF_F_TX_SCTP_CKSUM)
			rc = -EINVAL;
		if (!rc && pkts[i]->ol_flags & RTE_MBUF_F_TX_VLAN)
			rc = rte_vlan_insert(&pkts[i]);
		if (!rc)
			rc = rte_net_intel_cksum_prepare(pkts[i]);
		if (rc) {
			rte_errno = -rc;
			break;
		}
	}
	return i;
}

/* Nothing is in flight between bursts. */
int elisa_tx_descriptor_status(void *queue, uint16_t offset)
{
	const struct pmd_txq *q = queue;

	return offset > q->mask ? -EINVAL : RTE_ETH_TX_DESC_DONE;
}
