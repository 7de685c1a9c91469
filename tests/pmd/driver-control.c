/* SPDX-License-Identifier: BSD-3-Clause */
/* What ethdev's control operations do, seen from the frames that arrive. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <rte_bus_vdev.h>
#include <rte_ip.h>
#include <rte_thash.h>
#include <rte_udp.h>

#include <elisa/net.h>

#include "driver.h"

void test_infos(void)
{
	struct rte_eth_dev_info info;
	struct rte_eth_link link;
	struct rte_eth_burst_mode mode;
	struct rte_eth_rxq_info rxq;
	uint16_t mtu;

	CHECK_INT(rte_eth_dev_info_get(port[0], &info), 0);
	CHECK(!strcmp(info.driver_name, "net_elisa"), "driver %s", info.driver_name);
	CHECK_INT(info.max_rx_queues, 4);
	CHECK_INT(info.max_mtu, 9216);
	CHECK_INT(info.max_rx_pktlen, 9234);
	CHECK_INT(info.reta_size, 128);
	CHECK_INT(info.hash_key_size, 40);
	CHECK_INT(info.max_mac_addrs, 64);
	CHECK(info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TCP_LRO, "no LRO");
	CHECK(info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO, "no TSO");
	CHECK_INT(rte_eth_link_get(port[0], &link), 0);
	CHECK_INT(link.link_status, RTE_ETH_LINK_DOWN);
	up(&(struct conf){.ring = 224}, NULL);
	CHECK_INT(rte_eth_link_get(port[0], &link), 0);
	CHECK_INT(link.link_status, RTE_ETH_LINK_UP);
	CHECK_INT(rte_eth_rx_queue_info_get(port[0], 0, &rxq), 0);
	CHECK_INT(rxq.nb_desc, 256);
	CHECK_INT(rxq.scattered_rx, 1);
	CHECK_INT(rte_eth_rx_burst_mode_get(port[0], 0, &mode), 0);
	CHECK_INT(rte_eth_dev_set_mtu(port[0], 9217), -EINVAL);
	CHECK_INT(rte_eth_dev_set_mtu(port[0], 1400), 0);
	CHECK_INT(rte_eth_dev_get_mtu(port[0], &mtu), 0);
	CHECK_INT(mtu, 1400);
	down();
}

/* ---- addresses ---- */

static uint16_t arrives(const struct rte_ether_addr *dst)
{
	struct rte_mbuf *m = frame(0, 100, 1, 1);
	uint16_t n;

	rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->dst_addr = *dst;
	give(0, &m, 1);
	n = take(1, 0, &m, 1);
	if (n)
		rte_pktmbuf_free(m);
	return n;
}

void test_filters(void)
{
	const struct rte_ether_addr broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	struct rte_ether_addr other = {{2, 0, 0, 0, 0x77, 1}};
	struct rte_ether_addr group = {{1, 0, 0x5e, 0, 0, 1}}, group2 = {{1, 0, 0x5e, 0, 0, 2}};
	struct rte_ether_addr own, first;

	up(NULL, &(struct conf){.promiscuous_off = true});
	rte_eth_macaddr_get(port[1], &own);
	first = own;
	CHECK_INT(arrives(&own), 1);
	CHECK_INT(arrives(&broadcast), 1);
	CHECK_INT(arrives(&other), 0);
	CHECK_INT(arrives(&group), 0);
	CHECK_INT(xstat(port[1], "drop_rx-filtered"), 2);
	CHECK_INT(rte_eth_promiscuous_enable(port[1]), 0);
	CHECK_INT(arrives(&other), 1);
	CHECK_INT(rte_eth_promiscuous_disable(port[1]), 0);
	CHECK_INT(rte_eth_dev_mac_addr_add(port[1], &other, 0), 0);
	CHECK_INT(arrives(&other), 1);
	CHECK_INT(rte_eth_dev_mac_addr_remove(port[1], &other), 0);
	CHECK_INT(arrives(&other), 0);
	CHECK_INT(rte_eth_allmulticast_enable(port[1]), 0);
	CHECK_INT(arrives(&group), 1);
	CHECK_INT(rte_eth_allmulticast_disable(port[1]), 0);
	CHECK_INT(rte_eth_dev_set_mc_addr_list(port[1], &group, 1), 0);
	CHECK_INT(arrives(&group), 1);
	CHECK_INT(arrives(&group2), 0);
	CHECK_INT(rte_eth_dev_set_mc_addr_list(port[1], NULL, 0), 0);
	CHECK_INT(rte_eth_dev_default_mac_addr_set(port[1], &other), 0);
	CHECK_INT(arrives(&other), 1);
	/* Lasts over a restart. */
	CHECK_INT(rte_eth_dev_stop(port[1]), 0);
	CHECK_INT(rte_eth_dev_start(port[1]), 0);
	CHECK_INT(arrives(&other), 1);
	CHECK_INT(arrives(&group), 0);
	CHECK_INT(rte_eth_dev_default_mac_addr_set(port[1], &first), 0);
	down();
}

/* ---- RSS ---- */

static struct rte_mbuf *flow(uint32_t number)
{
	struct rte_mbuf *m = frame(0, 80, 1, 1);
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, 14);
	struct rte_udp_hdr *udp = (struct rte_udp_hdr *)(ip + 1);

	rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->ether_type =
		rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	memset(ip, 0, sizeof(*ip));
	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->total_length = rte_cpu_to_be_16(66);
	ip->next_proto_id = IPPROTO_UDP;
	ip->time_to_live = 64;
	ip->src_addr = rte_cpu_to_be_32(0x0a000001 + (number << 8));
	ip->dst_addr = rte_cpu_to_be_32(0x0a000002);
	udp->src_port = rte_cpu_to_be_16((uint16_t)(1000 + number * 7));
	udp->dst_port = rte_cpu_to_be_16(53);
	return m;
}

/* As DPDK's own software computes it. */
static uint32_t hash_of(uint32_t number, const uint8_t *key)
{
	uint32_t tuple[3] = {0x0a000001 + (number << 8), 0x0a000002,
			     (uint32_t)(uint16_t)(1000 + number * 7) << 16 | 53};

	return rte_softrss(tuple, 3, key);
}

/* Each flow goes where the table says. Returns a set of the queues that got one. */
static uint32_t check_flows(const struct rte_eth_rss_reta_entry64 *reta, const uint8_t *key)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < 100; i++) {
		const uint32_t hash = hash_of(i, key);
		const uint16_t queue = reta[(hash & 127) / 64].reta[hash & 63];
		struct rte_mbuf *m = flow(i);

		give(0, &m, 1);
		CHECK(take(1, queue, &m, 1) == 1, "flow %u is not in queue %u", i, queue);
		CHECK(m->ol_flags & RTE_MBUF_F_RX_RSS_HASH, "no hash");
		CHECK_INT(m->hash.rss, hash);
		rte_pktmbuf_free(m);
		used |= 1u << queue;
	}
	return used;
}

void test_rss(void)
{
	const struct conf rx = {.queues = 4,
				.rss = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP,
				.rx = RTE_ETH_RX_OFFLOAD_RSS_HASH};
	struct rte_eth_rss_reta_entry64 reta[2] = {{.mask = UINT64_MAX}, {.mask = UINT64_MAX}};
	uint8_t key[40];
	struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = sizeof(key)};

	up(NULL, &rx);
	CHECK_INT(rte_eth_dev_rss_reta_query(port[1], reta, 128), 0);
	CHECK_INT(rte_eth_dev_rss_hash_conf_get(port[1], &conf), 0);
	CHECK_INT(check_flows(reta, key), 0xf);
	for (int i = 0; i < 128; i++)
		reta[i / 64].reta[i % 64] = 2;
	CHECK_INT(rte_eth_dev_rss_reta_update(port[1], reta, 128), 0);
	CHECK_INT(check_flows(reta, key), 4);
	for (int i = 0; i < 128; i++)
		reta[i / 64].reta[i % 64] = (uint16_t)(i / 50);
	CHECK_INT(rte_eth_dev_rss_reta_update(port[1], reta, 128), 0);
	for (unsigned int i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)random32();
	CHECK_INT(rte_eth_dev_rss_hash_update(port[1], &conf), 0);
	CHECK_INT(check_flows(reta, key), 7);
	reta[0].reta[0] = 4;
	CHECK_INT(rte_eth_dev_rss_reta_update(port[1], reta, 128), -EINVAL);
	down();
}

/* ---- counters ---- */

/* Every frame is accounted for, by reason, at both ends. */
void test_stats(void)
{
	struct rte_eth_stats tx, rx;
	struct rte_mbuf *m;
	uint16_t got = 0;

	up(NULL, NULL);
	for (uint32_t i = 0; i < 2000; i++) {
		m = frame(0, 100, 1, i);
		/* A multicast source is dropped at the sender. */
		if (i % 10 == 0)
			rte_pktmbuf_mtod(m, struct rte_ether_hdr *)->src_addr.addr_bytes[0] |= 1;
		give(0, &m, 1);
	}
	while (take(1, 0, &m, 1)) {
		rte_pktmbuf_free(m);
		got++;
	}
	CHECK_INT(rte_eth_stats_get(port[0], &tx), 0);
	CHECK_INT(rte_eth_stats_get(port[1], &rx), 0);
	CHECK_INT(tx.opackets, 2000);
	CHECK_INT(tx.obytes, 200000);
	CHECK_INT(tx.oerrors, 200);
	CHECK_INT(rx.ipackets, got);
	CHECK_INT(rx.ibytes, got * 100);
	CHECK_INT(got, RING);
	CHECK_INT(rx.imissed, 1800 - RING);
	CHECK_INT(xstat(port[0], "drop_tx-bad-source"), 200);
	CHECK_INT(xstat(port[1], "drop_rx-no-buffer"), 1800 - RING);
	CHECK_INT(xstat(port[1], "port_rx_frames"), RING);
	CHECK_INT(xstat(port[1], "rx_q0_packets"), RING);
	CHECK_INT(rte_eth_stats_reset(port[1]), 0);
	CHECK_INT(rte_eth_stats_get(port[1], &rx), 0);
	CHECK_INT(rx.ipackets + rx.imissed + rx.ibytes, 0);
	CHECK_INT(xstat(port[1], "port_rx_frames"), 0);
	down();
}

void test_descriptors(void)
{
	struct rte_power_monitor_cond cond;
	struct rte_mbuf *m[3];

	up(NULL, NULL);
	CHECK_INT(rte_eth_rx_queue_count(port[1], 0), 0);
	CHECK_INT(rte_eth_rx_descriptor_status(port[1], 0, 0), RTE_ETH_RX_DESC_AVAIL);
	CHECK_INT(rte_eth_tx_descriptor_status(port[0], 0, 0), RTE_ETH_TX_DESC_DONE);
	CHECK_INT(rte_eth_tx_done_cleanup(port[0], 0, 0), 0);
	CHECK_INT(rte_eth_get_monitor_addr(port[1], 0, &cond), 0);
	CHECK_INT(cond.fn(*(volatile uint32_t *)cond.addr, cond.opaque), 0);
	for (int i = 0; i < 3; i++)
		m[i] = frame(0, 60, 1, (uint32_t)i);
	give(0, m, 3);
	CHECK(cond.fn(*(volatile uint32_t *)cond.addr, cond.opaque) < 0, "would sleep on frames");
	CHECK_INT(rte_eth_rx_queue_count(port[1], 0), 3);
	CHECK_INT(rte_eth_rx_descriptor_status(port[1], 0, 2), RTE_ETH_RX_DESC_DONE);
	CHECK_INT(rte_eth_rx_descriptor_status(port[1], 0, 3), RTE_ETH_RX_DESC_AVAIL);
	CHECK_INT(take(1, 0, m, 3), 3);
	for (int i = 0; i < 3; i++)
		check_frame(m[i], 0, 60, (uint32_t)i);
	/* No doorbell here. */
	CHECK_INT(rte_eth_dev_rx_intr_enable(port[1], 0), -ENOTSUP);
	down();
}

/* ---- life ---- */

/* Frames under way whenever a port stops; no mbuf is lost. */
void test_restart(void)
{
	struct rte_mbuf *m[8];

	for (uint32_t round = 0; round < 100; round++) {
		const uint16_t queues = (uint16_t)(1 + round % 4);

		up(&(struct conf){.queues = queues}, &(struct conf){.queues = queues});
		for (uint32_t i = 0; i < 8; i++)
			m[i] = frame(0, 60 + round * 40, 2, i);
		give(0, m, 8);
		CHECK_INT(take(1, 0, m, 4), 4);
		for (uint32_t i = 0; i < 4; i++)
			check_frame(m[i], 0, 60 + round * 40, i);
		if (round % 3 == 0) {
			CHECK_INT(rte_eth_dev_stop(port[1]), 0);
			CHECK_INT(rte_eth_dev_start(port[1]), 0);
			m[0] = frame(0, 60, 1, 9);
			give(0, m, 1);
			CHECK_INT(take(1, 0, m, 8), 1);
			check_frame(m[0], 0, 60, 9);
		}
		if (round % 10 == 0)
			CHECK_INT(rte_eth_dev_reset(port[0]), 0);
		down();
	}
}

void test_hotplug(void)
{
	struct rte_mbuf *m;
	char args[256];

	snprintf(args, sizeof(args), "port=p1,transport=local,socket=%s,name=t", socket_path);
	for (uint32_t round = 0; round < 50; round++) {
		up(NULL, NULL);
		m = frame(0, 500, 1, round);
		give(0, &m, 1);
		if (round % 2) {
			CHECK_INT(take(1, 0, &m, 1), 1);
			check_frame(m, 0, 500, round);
		}
		CHECK_INT(rte_eth_dev_stop(port[1]), 0);
		CHECK_INT(rte_vdev_uninit("net_elisa1"), 0);
		CHECK_INT(rte_vdev_init("net_elisa1", args), 0);
		CHECK_INT(rte_eth_dev_get_port_by_name("net_elisa1", &port[1]), 0);
		CHECK_INT(rte_eth_dev_stop(port[0]), 0);
		CHECK_INT(rte_mempool_in_use_count(pool), 0);
	}
}

static int attach(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int attach(const char *format, ...)
{
	char args[256];
	va_list list;

	va_start(list, format);
	vsnprintf(args, sizeof(args), format, list);
	va_end(list);
	return rte_vdev_init("net_elisa9", args);
}

void test_refusals(void)
{
	const struct rte_eth_conf conf = {.rxmode = {.mtu = 1500}};
	struct rte_ether_addr other = {{2, 0, 0, 0, 0x77, 1}};
	uint16_t id;

	CHECK_INT(attach("port=p1,transport=local,socket=%s,name=t", socket_path), -EBUSY);
	CHECK_INT(attach("port=nix,transport=local,socket=%s,name=t", socket_path), -ENODEV);
	CHECK_INT(attach("prot=p1"), -EINVAL);
	CHECK_INT(attach("port=p1,transport=tcp"), -EINVAL);
	CHECK_INT(attach("socket=/run/x"), -EINVAL);
	CHECK(attach("port=p2,transport=local,socket=/run/nix/nix") < 0,
	      "a switch that is not there");
	/* EAL was not started as vmfunc needs it. */
	CHECK_INT(attach("port=p2"), -ENOTSUP);
	CHECK_INT(attach("port=p2,transport=local,socket=%s,name=t", socket_path), 0);
	CHECK_INT(rte_eth_dev_get_port_by_name("net_elisa9", &id), 0);
	CHECK_INT(rte_eth_dev_configure(id, 2, 1, &conf), -EINVAL);
	port_up(id, NULL);
	CHECK_INT(rte_eth_dev_mac_addr_add(id, &other, 0), -EPERM);
	CHECK_INT(rte_eth_dev_default_mac_addr_set(id, &other), -EPERM);
	CHECK_INT(rte_vdev_uninit("net_elisa9"), 0);
	CHECK_INT(rte_mempool_in_use_count(pool), 0);
}
