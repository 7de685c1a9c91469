/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksums, segmentation, VLAN tags: what the receiver gets, by what it asked for. */
#include <string.h>

#include <rte_ip.h>
#include <rte_net.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "driver.h"

#define RX_CSUM (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
#define TX_CSUM                                                        \
	(RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | \
	 RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)

struct kind {
	bool v6, tcp;
};

struct headers {
	uint32_t l3, l4, l4_len, end; /* offsets, length of the last one, offset of the payload */
};

static struct headers layout(struct kind k)
{
	struct headers h = {.l3 = 14};

	h.l4 = h.l3 + (k.v6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr));
	h.l4_len = k.tcp ? sizeof(struct rte_tcp_hdr) : sizeof(struct rte_udp_hdr);
	h.end = h.l4 + h.l4_len;
	return h;
}

/* An IP packet from p0 to p1 with no checksum in it. */
static uint32_t build(struct kind k, uint32_t payload, uint8_t *bytes)
{
	const struct headers h = layout(k);
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)bytes;

	memset(bytes, 0, h.end);
	rte_eth_macaddr_get(port[1], &eth->dst_addr);
	rte_eth_macaddr_get(port[0], &eth->src_addr);
	eth->ether_type = rte_cpu_to_be_16(k.v6 ? RTE_ETHER_TYPE_IPV6 : RTE_ETHER_TYPE_IPV4);
	if (k.v6) {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(bytes + h.l3);

		ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
		ip->payload_len = rte_cpu_to_be_16((uint16_t)(h.l4_len + payload));
		ip->proto = k.tcp ? IPPROTO_TCP : IPPROTO_UDP;
		ip->hop_limits = 64;
		memset(ip->src_addr, 0x20, 16);
		memset(ip->dst_addr, 0x21, 16);
	} else {
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(bytes + h.l3);

		ip->version_ihl = RTE_IPV4_VHL_DEF;
		ip->total_length = rte_cpu_to_be_16((uint16_t)(h.end - h.l3 + payload));
		ip->next_proto_id = k.tcp ? IPPROTO_TCP : IPPROTO_UDP;
		ip->time_to_live = 64;
		ip->src_addr = rte_cpu_to_be_32(0x0a000001);
		ip->dst_addr = rte_cpu_to_be_32(0x0a000002);
	}
	if (k.tcp) {
		struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(bytes + h.l4);

		tcp->sent_seq = rte_cpu_to_be_32(1000);
		tcp->data_off = sizeof(*tcp) / 4 << 4;
		tcp->tcp_flags = RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG;
	} else {
		struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(bytes + h.l4);

		udp->dgram_len = rte_cpu_to_be_16((uint16_t)(h.l4_len + payload));
	}
	for (uint32_t i = 0; i < payload; i++)
		bytes[h.end + i] = (uint8_t)random32();
	return h.end + payload;
}

static struct rte_mbuf *request(struct kind k, const uint8_t *bytes, uint32_t len, uint32_t segs)
{
	const struct headers h = layout(k);
	struct rte_mbuf *m = from_bytes(bytes, len, segs);

	m->l2_len = h.l3;
	m->l3_len = h.l4 - h.l3;
	m->l4_len = h.l4_len;
	m->ol_flags = k.v6 ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM;
	m->ol_flags |= k.tcp ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
	return m;
}

static void prepare_and_give(struct rte_mbuf *m)
{
	CHECK_INT(rte_eth_tx_prepare(port[0], 0, &m, 1), 1);
	give(0, &m, 1);
}

static bool sums_right(struct kind k, const uint8_t *bytes)
{
	const struct headers h = layout(k);
	const void *ip = bytes + h.l3, *l4 = bytes + h.l4;

	if (k.v6)
		return !rte_ipv6_udptcp_cksum_verify(ip, l4);
	return rte_raw_cksum(ip, h.l4 - h.l3) == 0xffff && !rte_ipv4_udptcp_cksum_verify(ip, l4);
}

static void one_checksum(struct kind k, uint32_t payload, bool passed_on)
{
	uint8_t bytes[LONGEST], got[LONGEST];
	uint32_t len = build(k, payload, bytes);
	const struct headers h = layout(k);
	struct rte_mbuf *m;

	/* All headers in the first segment. */
	prepare_and_give(request(k, bytes, len, 1 + len / 2000 + (len > 400 && random32() % 2)));
	CHECK_INT(take(1, 0, &m, 1), 1);
	CHECK_INT(to_bytes(m, got, sizeof(got)), len);
	CHECK(!memcmp(got + h.end, bytes + h.end, payload), "payload of %u bytes", payload);
	if (passed_on) {
		CHECK_INT(m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_NONE);
	} else {
		CHECK_INT(m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK, 0);
		CHECK(sums_right(k, got), "checksum of %u bytes payload, %s %s", payload,
		      k.v6 ? "IPv6" : "IPv4", k.tcp ? "TCP" : "UDP");
	}
	rte_pktmbuf_free(m);
}

/* Filled in for a receiver that did not ask for such frames, passed on to one that did. */
void test_checksum(void)
{
	static const uint32_t payloads[] = {6, 7, 100, 1001, 1460, 4000, 8001, 9000};

	for (int passed_on = 0; passed_on < 2; passed_on++) {
		const struct conf rx = {.rx = passed_on ? RX_CSUM : 0};

		up(&(struct conf){.tx = TX_CSUM}, &rx);
		for (unsigned int i = 0; i < RTE_DIM(payloads); i++)
			for (int kind = 0; kind < 4; kind++)
				one_checksum((struct kind){kind & 1, kind & 2}, payloads[i],
					     passed_on);
		down();
	}
}

/* The IPv4 header's own sum, alone, is right whatever the receiver asked for. */
void test_ip_checksum(void)
{
	const struct kind k = {false, false};
	uint8_t bytes[256], got[256];
	uint32_t len = build(k, 50, bytes);
	struct rte_mbuf *m = request(k, bytes, len, 1);

	m->ol_flags &= ~RTE_MBUF_F_TX_L4_MASK;
	up(&(struct conf){.tx = TX_CSUM}, &(struct conf){.rx = RX_CSUM});
	give(0, &m, 1);
	CHECK_INT(take(1, 0, &m, 1), 1);
	CHECK_INT(to_bytes(m, got, sizeof(got)), len);
	CHECK_INT(rte_raw_cksum(got + 14, 20), 0xffff);
	rte_pktmbuf_free(m);
	down();
}

static uint32_t seq_of(const uint8_t *bytes, struct headers h)
{
	return rte_be_to_cpu_32(((const struct rte_tcp_hdr *)(bytes + h.l4))->sent_seq);
}

static void check_segments(struct kind k, const uint8_t *bytes, uint32_t payload, uint16_t gso)
{
	const struct headers h = layout(k);
	uint8_t got[LONGEST];
	uint32_t done = 0, len;
	struct rte_mbuf *m;

	while (done < payload) {
		const uint32_t part = RTE_MIN(payload - done, gso);

		CHECK_INT(take(1, 0, &m, 1), 1);
		len = to_bytes(m, got, sizeof(got));
		CHECK_INT(len, h.end + part);
		CHECK_INT(seq_of(got, h), 1000 + done);
		CHECK(sums_right(k, got), "checksum of the segment at %u", done);
		CHECK(!memcmp(got + h.end, bytes + h.end + done, part), "payload at %u", done);
		CHECK_INT(m->ol_flags & RTE_MBUF_F_RX_LRO, 0);
		done += part;
		rte_pktmbuf_free(m);
	}
	CHECK_INT(take(1, 0, &m, 1), 0);
}

static void check_large(struct kind k, const uint8_t *bytes, uint32_t len, uint16_t gso)
{
	static uint8_t got[65536];
	const struct headers h = layout(k);
	struct rte_mbuf *m;

	CHECK_INT(take(1, 0, &m, 1), 1);
	CHECK_INT(to_bytes(m, got, sizeof(got)), len);
	CHECK(!memcmp(got + h.end, bytes + h.end, len - h.end), "payload of %u bytes", len);
	CHECK(m->ol_flags & RTE_MBUF_F_RX_LRO, "not marked as LRO");
	CHECK_INT(m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK, RTE_MBUF_F_RX_L4_CKSUM_NONE);
	CHECK_INT(m->tso_segsz, gso);
	rte_pktmbuf_free(m);
}

/* Cut up for a receiver without LRO, passed on to one with it. */
void test_segmentation(void)
{
	static const uint32_t payloads[] = {1000, 2920, 8000, 30000, 62001};
	static uint8_t bytes[65536];

	for (int passed_on = 0; passed_on < 2; passed_on++) {
		const struct conf rx = {.rx = passed_on ? RX_CSUM | RTE_ETH_RX_OFFLOAD_TCP_LRO : 0};

		up(&(struct conf){.tx = TX_CSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO}, &rx);
		for (unsigned int i = 0; i < RTE_DIM(payloads); i++) {
			const struct kind k = {i & 1, true};
			const uint32_t len = build(k, payloads[i], bytes);
			struct rte_mbuf *m = request(k, bytes, len, 1 + len / 2000);

			m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
			m->tso_segsz = 1460;
			prepare_and_give(m);
			if (passed_on)
				check_large(k, bytes, len, 1460);
			else
				check_segments(k, bytes, payloads[i], 1460);
		}
		CHECK_INT(xstat(port[0], "port_tx_segmented"), passed_on ? 0 : RTE_DIM(payloads));
		down();
	}
}

/* A tag goes in and comes out. */
void test_vlan(void)
{
	for (int strip = 0; strip < 2; strip++) {
		const struct conf rx = {.rx = strip ? RTE_ETH_RX_OFFLOAD_VLAN_STRIP : 0};
		struct rte_mbuf *m;
		uint8_t got[128];

		up(&(struct conf){.tx = RTE_ETH_TX_OFFLOAD_VLAN_INSERT}, &rx);
		m = frame(0, 100, 1, 5);
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
		m->vlan_tci = 0x6123;
		give(0, &m, 1);
		CHECK_INT(take(1, 0, &m, 1), 1);
		if (strip) {
			CHECK(m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED, "not marked as stripped");
			CHECK_INT(m->vlan_tci, 0x6123);
			check_frame(m, 0, 100, 5);
		} else {
			CHECK_INT(to_bytes(m, got, sizeof(got)), 104);
			CHECK(!memcmp(got + 12, "\x81\x00\x61\x23\x88\xb5", 6), "no tag");
			rte_pktmbuf_free(m);
		}
		down();
	}
}
