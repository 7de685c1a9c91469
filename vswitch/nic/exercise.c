/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plays the switch for a NIC's queue, with all that the driver's functions may come across, for the
 * checker, which lets nothing be touched but what is exported: no libc here either.
 */
#include <errno.h>
#include <rte_ether.h>
#include "internal.h"

#define ETHERTYPE   0x88b5 /* IEEE 802, local experimental use */
#define WRAPS	    3
#define OTHER_PROTO 253 /* RFC 3692, for experiments */
#define CSUM_AT	    34	/* Ethernet and IPv4 headers */
#define TCP_LEN	    54
#define TSO_SIZE    1000
#define HOARD	    32 /* rounds of VS_NIC_BURST buffers */

struct player {
	struct nic_rxq *rxq;
	struct nic_txq *txq;
	const uint8_t *mac;
	uint32_t features, next, frames;
};

static void put(uint8_t *to, uint32_t at, const uint8_t *from, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		((volatile uint8_t *)to)[at + i] = from[i];
}

static void commit(struct player *p, uint32_t len, uint16_t flags, uint16_t start, uint16_t gso)
{
	uint64_t *word = (uint64_t *)(void *)&p->txq->comp[p->next % NIC_SLOTS];

	word[0] = (uint64_t)gso << 48 | (uint64_t)start << 32 | (uint32_t)flags << 16 | len;
	p->next++;
	nic_store_release(&word[1], (uint64_t)p->next << 32);
}

static uint8_t *buffer(struct player *p)
{
	return (uint8_t *)(uintptr_t)p->txq->ring->addr[p->next % NIC_SLOTS];
}

static bool room(const struct player *p, uint32_t buffers)
{
	return p->txq->posted - p->next >= buffers;
}

static void ethernet(struct player *p, uint8_t *to, uint16_t type)
{
	uint8_t t[2] = {(uint8_t)(type >> 8), (uint8_t)type};

	put(to, 0, p->mac, 6);
	put(to, 6, p->mac, 6);
	put(to, 12, t, 2);
}

/* In `pieces` buffers. */
static void send_plain(struct player *p, uint32_t len, uint32_t pieces)
{
	if (!room(p, pieces))
		return;
	ethernet(p, buffer(p), ETHERTYPE);
	for (uint32_t i = 1; i < pieces; i++)
		commit(p, len / pieces, ELISA_NET_MORE, 0, 0);
	commit(p, len / pieces, 0, 0, 0);
	p->frames++;
}

/* RFC 1071, of an even number of bytes. */
static uint32_t sum_of(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void put_sum(uint8_t *to, uint32_t sum)
{
	to[0] = (uint8_t)(sum >> 8);
	to[1] = (uint8_t)sum;
}

/* Between addresses for documentation (RFC 5737), to the port called discard (RFC 863). */
static void send_ip(struct player *p, uint8_t proto, uint32_t len, uint16_t request, uint16_t gso)
{
	uint32_t ip_len = len - RTE_ETHER_HDR_LEN, left = len, first = 1;
	/* clang-format off */
	uint8_t ip[20] = {0x45, 0, (uint8_t)(ip_len >> 8), (uint8_t)ip_len, 0, 0, 0, 0, 1, proto,
			  0, 0, 192, 0, 2, 1, 192, 0, 2, 2};
	uint8_t l4[20] = {0, 9, 0, 9, (uint8_t)((len - CSUM_AT) >> 8), (uint8_t)(len - CSUM_AT),
			  0, 0, 0, 0, 0, 0, 0x50, 0x10};
	/* clang-format on */

	put_sum(ip + 10, ~sum_of(ip, sizeof(ip), 0));
	/* What is to be completed begins with the pseudo header. */
	if (proto != OTHER_PROTO)
		put_sum(l4 + (request >> ELISA_NET_CSUM_OFFSET),
			sum_of(ip + 12, 8, proto + len - CSUM_AT));

	if (!room(p, len / p->txq->buf_len + 1))
		return;
	ethernet(p, buffer(p), RTE_ETHER_TYPE_IPV4);
	put(buffer(p), RTE_ETHER_HDR_LEN, ip, sizeof(ip));
	put(buffer(p), CSUM_AT, l4, sizeof(l4));
	while (left) {
		uint32_t part = left < p->txq->buf_len ? left : p->txq->buf_len;

		left -= part;
		commit(p, part, (first ? request : 0) | (left ? ELISA_NET_MORE : 0),
		       first ? CSUM_AT : 0, first ? gso : 0);
		first = 0;
	}
	p->frames++;
}

/* Frames of all kinds by turns. */
static void send_some(struct player *p, uint32_t n)
{
	uint16_t tcp = ELISA_NET_CSUM | 16 << ELISA_NET_CSUM_OFFSET;
	uint16_t udp = ELISA_NET_CSUM | 6 << ELISA_NET_CSUM_OFFSET;
	/* One that no NIC has a flag for. */
	uint16_t odd = ELISA_NET_CSUM | 10 << ELISA_NET_CSUM_OFFSET;

	switch (n % 8) {
	case 0:
		send_plain(p, 60 + n % 1400, 1);
		break;
	case 1:
		send_plain(p, 42, 1);
		break;
	case 2:
		send_plain(p, 1500, 2 + n % 3);
		break;
	case 3:
		if (p->features & ELISA_NET_F_CSUM)
			send_ip(p, IPPROTO_TCP, 600, tcp, 0);
		break;
	case 4:
		if (p->features & ELISA_NET_F_CSUM)
			send_ip(p, IPPROTO_UDP, 601, udp, 0);
		break;
	case 5:
		if (p->features & ELISA_NET_F_CSUM)
			send_ip(p, OTHER_PROTO, 602, odd, 0);
		break;
	case 6:
		if (p->features & ELISA_NET_F_TSO4)
			send_ip(p, IPPROTO_TCP, TCP_LEN + 5 * TSO_SIZE, tcp | ELISA_NET_TSO4,
				TSO_SIZE);
		break;
	default:
		if (room(p, 1))
			commit(p, 0, ELISA_RXC_ABORTED, 0, 0);
	}
}

/* What came back, if any does: done with in two steps. */
static void receive(struct player *p, uint32_t max)
{
	uint32_t descs = nic_burst_ops.rx(p->rxq, max);

	nic_burst_ops.rx_done(p->rxq, descs / 2);
	descs = nic_burst_ops.rx(p->rxq, max);
	nic_burst_ops.rx_done(p->rxq, descs);
}

static void rounds(struct player *p)
{
	static const uint8_t bursts[] = {1, 4, VS_NIC_BURST};
	uint32_t n = 0;

	for (uint32_t b = 0; b < sizeof(bursts); b++) {
		uint32_t begin = p->next;

		/* As long as the NIC takes them. */
		for (uint32_t i = 0; i < 2 * WRAPS * NIC_SLOTS; i++) {
			for (uint32_t k = 0; k < bursts[b]; k++)
				send_some(p, n++);
			nic_burst_ops.tx(p->txq);
			receive(p, bursts[b]);
			if (p->next - begin > WRAPS * NIC_SLOTS)
				break;
		}
	}
}

/* All buffers that are posted, at once: more than the NIC has room for. */
static void ring_full(struct player *p)
{
	while (room(p, 1))
		send_plain(p, 64, 1);
	for (uint32_t i = 0; i < 2 * NIC_SLOTS / VS_NIC_BURST; i++)
		nic_burst_ops.tx(p->txq);
	for (uint32_t i = 0; i < 4 * NIC_SLOTS / VS_NIC_BURST; i++)
		receive(p, VS_NIC_BURST);
}

/* With nothing in a pool, on either side. */
static void pool_empty(struct player *p, struct rte_mempool *pool)
{
	struct rte_mbuf *hoard = NULL, *m;

	while (!p->txq->ops.get(pool, (void **)&m, 1)) {
		m->next = hoard;
		hoard = m;
	}
	for (uint32_t i = 0; i < HOARD; i++) {
		for (uint32_t n = 0; n < VS_NIC_BURST; n++)
			send_plain(p, 64, 1);
		nic_burst_ops.tx(p->txq);
		receive(p, VS_NIC_BURST);
	}
	while (hoard) {
		m = hoard;
		hoard = m->next;
		m->next = NULL;
		p->txq->ops.put(pool, (void *const *)&m, 1);
	}
	nic_burst_ops.tx(p->txq);
}

int nic_exercise(struct nic *nic, unsigned int queue)
{
	struct player p;

	if (!nic->running || queue >= nic->config.queues)
		return -EINVAL;
	p = (struct player){
		.rxq = nic->run.queue[queue].rx,
		.txq = nic->run.queue[queue].tx,
		.mac = nic->address,
		.features = nic->run.features,
	};
	p.next = p.txq->next;
	rounds(&p);
	ring_full(&p);
	pool_empty(&p, p.rxq->pool);
	pool_empty(&p, p.txq->pool);
	rounds(&p);
	return (int)p.frames;
}
