/* SPDX-License-Identifier: BSD-3-Clause */
/* pmd-peer's frames: UDP, TCP or ICMP echo over IPv4, made and checked from their number alone. */
#include <string.h>

#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "peer.h"

const char *const via_names[VIA_COUNT] = {"none", "mac", "macswap", "5tswap", "csum", "icmpecho"};

#define L2	  sizeof(struct rte_ether_hdr)
#define L3	  sizeof(struct rte_ipv4_hdr)
#define IP_SENDER 0x0a000001u
#define IP_FLOWS  0x0a010000u
#define PORT	  1024
#define MARK	  0xe15a
#define BAD_SUM	  0x1234

/* Behind the headers; big-endian. Then bytes that count up from the low byte of seq. */
struct note {
	rte_be16_t mark;
	rte_be16_t size;
	rte_be32_t seq;
	rte_be16_t flow;
} __rte_packed;
_Static_assert(L2 + L3 + sizeof(struct rte_tcp_hdr) + sizeof(struct note) == FRAME_MIN, "minimum");

/* Bytes of the header behind IP. Flows take turns with UDP and TCP. */
static uint32_t l4_len(enum via via, uint32_t flow)
{
	if (via == VIA_ICMPECHO)
		return sizeof(struct rte_icmp_hdr);
	return flow % 2 ? sizeof(struct rte_tcp_hdr) : sizeof(struct rte_udp_hdr);
}

static void build_ipv4(struct rte_ipv4_hdr *ip, uint8_t protocol, uint32_t size, uint32_t seq,
		       uint32_t flow)
{
	memset(ip, 0, sizeof(*ip));
	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->total_length = rte_cpu_to_be_16((uint16_t)(size - L2));
	ip->packet_id = rte_cpu_to_be_16((uint16_t)seq);
	ip->time_to_live = 64;
	ip->next_proto_id = protocol;
	ip->src_addr = rte_cpu_to_be_32(IP_SENDER);
	ip->dst_addr = rte_cpu_to_be_32(IP_FLOWS + flow);
	ip->hdr_checksum = rte_ipv4_cksum(ip);
}

static void build_udp(struct rte_ipv4_hdr *ip, uint32_t size, uint32_t flow)
{
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);

	*udp = (struct rte_udp_hdr){
		.src_port = rte_cpu_to_be_16((uint16_t)(PORT + flow)),
		.dst_port = rte_cpu_to_be_16(PORT - 1),
		.dgram_len = rte_cpu_to_be_16((uint16_t)(size - L2 - L3)),
	};
	udp->dgram_cksum = rte_ipv4_udptcp_cksum(ip, udp);
}

static void build_tcp(struct rte_ipv4_hdr *ip, uint32_t seq, uint32_t flow)
{
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);

	*tcp = (struct rte_tcp_hdr){
		.src_port = rte_cpu_to_be_16((uint16_t)(PORT + flow)),
		.dst_port = rte_cpu_to_be_16(PORT - 1),
		.sent_seq = rte_cpu_to_be_32(seq),
		.data_off = sizeof(*tcp) / 4 << 4,
		.tcp_flags = RTE_TCP_ACK_FLAG,
		.rx_win = rte_cpu_to_be_16(8192),
	};
	tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
}

static void build_icmp(struct rte_icmp_hdr *icmp, uint8_t type, uint32_t len, uint32_t seq)
{
	*icmp = (struct rte_icmp_hdr){
		.icmp_type = type,
		.icmp_ident = rte_cpu_to_be_16(MARK),
		.icmp_seq_nb = rte_cpu_to_be_16((uint16_t)seq),
	};
	icmp->icmp_cksum = (rte_be16_t)~rte_raw_cksum(icmp, len);
}

/* A frame with all its checksums right. `reply`: an echo reply, not a request. */
static void build_sound(const struct options *o, uint32_t seq, uint32_t size, bool reply,
			uint8_t *frame)
{
	const uint32_t flow = seq % o->flows;
	const uint32_t l4 = l4_len(o->via, flow), body = (uint32_t)(L2 + L3) + l4;
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)frame;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
	const struct note note = {
		.mark = rte_cpu_to_be_16(MARK),
		.size = rte_cpu_to_be_16((uint16_t)size),
		.seq = rte_cpu_to_be_32(seq),
		.flow = rte_cpu_to_be_16((uint16_t)flow),
	};

	eth->src_addr = o->src;
	eth->dst_addr = o->dst;
	eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	memcpy(frame + body, &note, sizeof(note));
	for (uint32_t i = body + (uint32_t)sizeof(note); i < size; i++)
		frame[i] = (uint8_t)(seq + i);
	if (o->via == VIA_ICMPECHO) {
		build_ipv4(ip, IPPROTO_ICMP, size, seq, flow);
		build_icmp((struct rte_icmp_hdr *)(ip + 1),
			   reply ? RTE_IP_ICMP_ECHO_REPLY : RTE_IP_ICMP_ECHO_REQUEST,
			   (uint32_t)(size - L2 - L3), seq);
	} else if (l4 == sizeof(struct rte_udp_hdr)) {
		build_ipv4(ip, IPPROTO_UDP, size, seq, flow);
		build_udp(ip, size, flow);
	} else {
		build_ipv4(ip, IPPROTO_TCP, size, seq, flow);
		build_tcp(ip, seq, flow);
	}
}

void frame_build(const struct options *o, uint32_t seq, uint32_t size, uint8_t *frame)
{
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + L2);

	build_sound(o, seq, size, false, frame);
	if (o->via != VIA_CSUM)
		return;
	ip->hdr_checksum ^= BAD_SUM;
	/* Not 0 for UDP, which would mean that there is none. */
	if (ip->next_proto_id == IPPROTO_UDP)
		((struct rte_udp_hdr *)(ip + 1))->dgram_cksum = BAD_SUM;
	else
		((struct rte_tcp_hdr *)(ip + 1))->cksum = BAD_SUM;
}

/* What testpmd's modes make of a frame; checksums stay right, being sums. */
static void transform(const struct options *o, uint8_t *frame)
{
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)frame;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
	rte_be16_t *ports = (rte_be16_t *)(ip + 1);

	eth->src_addr = o->back_src;
	eth->dst_addr = o->back_dst;
	if (o->via == VIA_5TSWAP || o->via == VIA_ICMPECHO) {
		const rte_be32_t addr = ip->src_addr;

		ip->src_addr = ip->dst_addr;
		ip->dst_addr = addr;
	}
	if (o->via == VIA_5TSWAP) {
		const rte_be16_t port = ports[0];

		ports[0] = ports[1];
		ports[1] = port;
	}
}

/* Two numbers stand for the same ICMP checksum, 0 and 0xffff: takes over the one in `frame`. */
static void settle_icmp(const uint8_t *frame, uint8_t *expected, uint32_t len)
{
	const struct rte_icmp_hdr *icmp = (const struct rte_icmp_hdr *)(frame + L2 + L3);

	if (rte_raw_cksum(icmp, len - L2 - L3) == 0xffff)
		((struct rte_icmp_hdr *)(expected + L2 + L3))->icmp_cksum = icmp->icmp_cksum;
}

/* Finds the note in a frame. False: none, so not one of ours. */
static bool read_note(const struct options *o, const uint8_t *frame, uint32_t len,
		      struct note *note)
{
	const struct rte_ether_hdr *eth = (const struct rte_ether_hdr *)frame;
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)(eth + 1);

	if (len < FRAME_MIN || eth->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4))
		return false;
	memcpy(note, frame + L2 + L3 + l4_len(o->via, ip->next_proto_id == IPPROTO_TCP),
	       sizeof(*note));
	return note->mark == rte_cpu_to_be_16(MARK);
}

enum verdict frame_check(const struct options *o, const uint8_t *frame, uint32_t len, uint32_t *seq)
{
	static uint8_t expected[FRAME_MAX];
	struct note note;

	if (!read_note(o, frame, len, &note))
		return FRAME_FOREIGN;
	*seq = rte_be_to_cpu_32(note.seq);
	if (rte_be_to_cpu_16(note.size) != len || len > FRAME_MAX)
		return FRAME_CORRUPT;
	build_sound(o, *seq, len, o->via == VIA_ICMPECHO, expected);
	transform(o, expected);
	if (o->via == VIA_ICMPECHO)
		settle_icmp(frame, expected, len);
	return memcmp(frame, expected, len) ? FRAME_CORRUPT : FRAME_SOUND;
}
