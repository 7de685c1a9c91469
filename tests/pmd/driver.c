/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Tests of net_elisa from the inside: plain ethdev calls on two ports of a switch, in one thread,
 * so that every frame's way is known. test_pmd.py starts the switch and this. Whatever happens, in
 * the end every mbuf is back in its pool.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_bus_vdev.h>
#include <rte_eal.h>
#include <rte_malloc.h>

#include "driver.h"

#define MBUFS 8191

uint16_t port[2];
struct rte_mempool *pool;
const char *socket_path;
static const char *test_name = "";

void driver_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "FAIL %s: %s:%d: ", test_name, file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

uint32_t random32(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 16);
}

/* ---- ports ---- */

void port_up(uint16_t id, const struct conf *c)
{
	static const struct conf none;
	struct rte_eth_conf conf;
	uint16_t queues, ring;
	int rc;

	if (!c)
		c = &none;
	queues = c->queues ? c->queues : 1;
	ring = c->ring ? c->ring : RING;
	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = c->mtu ? c->mtu : 9216;
	conf.rxmode.offloads = c->rx;
	conf.txmode.offloads = c->tx;
	if (c->rss) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = c->rss;
	}
	rc = rte_eth_dev_configure(id, queues, queues, &conf);
	CHECK(!rc, "configure: %d", rc);
	for (uint16_t q = 0; q < queues; q++) {
		rc = rte_eth_rx_queue_setup(id, q, ring, 0, NULL, pool);
		CHECK(!rc, "RX queue: %d", rc);
		rc = rte_eth_tx_queue_setup(id, q, ring, 0, NULL);
		CHECK(!rc, "TX queue: %d", rc);
	}
	if (c->promiscuous_off)
		rc = rte_eth_promiscuous_disable(id);
	else
		rc = rte_eth_promiscuous_enable(id);
	CHECK(!rc, "promiscuous: %d", rc);
	rc = rte_eth_dev_start(id);
	CHECK(!rc, "start: %d", rc);
}

void up(const struct conf *c0, const struct conf *c1)
{
	port_up(port[0], c0);
	port_up(port[1], c1);
	for (int i = 0; i < 2; i++)
		rte_eth_stats_reset(port[i]);
}

void down(void)
{
	for (int i = 0; i < 2; i++)
		CHECK_INT(rte_eth_dev_stop(port[i]), 0);
	CHECK_INT(rte_mempool_in_use_count(pool), 0);
}

uint64_t xstat(uint16_t id, const char *name)
{
	uint64_t at, value;

	CHECK(!rte_eth_xstats_get_id_by_name(id, name, &at), "no xstat %s", name);
	CHECK_INT(rte_eth_xstats_get_by_id(id, &at, &value, 1), 1);
	return value;
}

/* ---- frames ---- */

static void fill(uint8_t *bytes, int from, uint32_t len, uint32_t seed)
{
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)bytes;

	rte_eth_macaddr_get(port[!from], &eth->dst_addr);
	rte_eth_macaddr_get(port[from], &eth->src_addr);
	eth->ether_type = rte_cpu_to_be_16(0x88b5);
	for (uint32_t i = 14; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		bytes[i] = (uint8_t)(seed >> 16);
	}
}

struct rte_mbuf *from_bytes(const uint8_t *bytes, uint32_t len, uint32_t segs)
{
	struct rte_mbuf *first = NULL, **at = &first;

	for (uint32_t i = 0, done = 0; i < segs; i++) {
		const uint32_t part = len * (i + 1) / segs - done;
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		char *to = m ? rte_pktmbuf_append(m, (uint16_t)part) : NULL;

		CHECK(to, "no mbuf for %u bytes", part);
		memcpy(to, bytes + done, part);
		done += part;
		*at = m;
		at = &m->next;
	}
	first->nb_segs = (uint16_t)segs;
	first->pkt_len = len;
	return first;
}

struct rte_mbuf *frame(int from, uint32_t len, uint32_t segs, uint32_t seed)
{
	uint8_t bytes[LONGEST];

	fill(bytes, from, len, seed);
	return from_bytes(bytes, len, segs);
}

uint32_t to_bytes(const struct rte_mbuf *m, uint8_t *bytes, uint32_t max)
{
	uint32_t len = 0, segs = 0;

	CHECK(rte_mbuf_check(m, 1, &(const char *){NULL}) == 0, "a broken mbuf");
	for (const struct rte_mbuf *s = m; s; s = s->next, segs++) {
		CHECK(len + s->data_len <= max, "longer than %u bytes", max);
		memcpy(bytes + len, rte_pktmbuf_mtod(s, uint8_t *), s->data_len);
		len += s->data_len;
	}
	CHECK_INT(segs, m->nb_segs);
	CHECK_INT(len, m->pkt_len);
	return len;
}

void check_frame(struct rte_mbuf *m, int from, uint32_t len, uint32_t seed)
{
	uint8_t want[LONGEST], got[LONGEST];

	CHECK_INT(to_bytes(m, got, sizeof(got)), len);
	CHECK_INT(m->port, port[!from]);
	fill(want, from, len, seed);
	for (uint32_t i = 0; i < len; i++)
		CHECK(got[i] == want[i], "byte %u of %u is %02x, not %02x", i, len, got[i],
		      want[i]);
	rte_pktmbuf_free(m);
}

void give(int from, struct rte_mbuf **pkts, uint16_t n)
{
	CHECK_INT(rte_eth_tx_burst(port[from], 0, pkts, n), n);
}

uint16_t take(int at, uint16_t queue, struct rte_mbuf **pkts, uint16_t n)
{
	return rte_eth_rx_burst(port[at], queue, pkts, n);
}

/* ---- frames of all kinds ---- */

/* Every length, in every number of segments up to 5, both ways. */
static void test_lengths(void)
{
	up(NULL, NULL);
	for (uint32_t len = 14; len <= LONGEST; len += len < 200 ? 1 : 61) {
		const uint32_t fewest = (len + 2047) / 2048;
		const int from = len & 1;
		struct rte_mbuf *m;

		for (uint32_t segs = fewest; segs <= 5; segs++) {
			m = frame(from, len, segs, len * segs);
			give(from, &m, 1);
			CHECK_INT(take(!from, 0, &m, 1), 1);
			check_frame(m, from, len, len * segs);
		}
	}
	down();
}

/* Bursts of frames of any length; the ring wraps many times. */
static void test_bursts(void)
{
	struct rte_mbuf *m[64];
	uint32_t len[64];
	uint64_t sent = 0;
	struct rte_eth_stats stats;

	up(&(struct conf){.tx = RTE_ETH_TX_OFFLOAD_MULTI_SEGS}, NULL);
	for (uint32_t round = 0; round < 2000; round++) {
		const uint16_t n = (uint16_t)(1 + random32() % 64);
		uint16_t got = 0;

		for (uint16_t i = 0; i < n; i++) {
			len[i] = random32() % 4 ? 14 + random32() % 200 : 14 + random32() % 9217;
			m[i] = frame(0, len[i], len[i] > 2048 ? 5 : 1 + random32() % 3, round + i);
		}
		give(0, m, n);
		sent += n;
		while (got < n) {
			const uint16_t more = take(1, 0, m, (uint16_t)(1 + random32() % 64));

			CHECK(more, "%u of %u frames arrived", got, n);
			for (uint16_t i = 0; i < more; i++, got++)
				check_frame(m[i], 0, len[got], round + got);
		}
	}
	rte_eth_stats_get(port[0], &stats);
	CHECK_INT(stats.opackets, sent);
	rte_eth_stats_get(port[1], &stats);
	CHECK_INT(stats.ipackets, sent);
	CHECK_INT(stats.imissed + stats.ierrors, 0);
	down();
}

/* One pool, no other references: mbufs go back in bulk. */
static void test_fast_free(void)
{
	struct rte_mbuf *m[32];

	up(&(struct conf){.tx = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE}, NULL);
	/* The switch learns where p1 is, so that nothing is flooded from here on. */
	m[0] = frame(1, 64, 1, 0);
	give(1, m, 1);
	CHECK_INT(take(0, 0, m, 1), 1);
	check_frame(m[0], 1, 64, 0);
	for (uint32_t round = 0; round < 500; round++) {
		for (uint32_t i = 0; i < 32; i++)
			m[i] = frame(0, 64, 1, round + i);
		give(0, m, 32);
		CHECK_INT(take(1, 0, m, 32), 32);
		for (uint32_t i = 0; i < 32; i++)
			check_frame(m[i], 0, 64, round + i);
	}
	CHECK_INT(xstat(port[0], "port_tx_flooded"), 0);
	down();
}

/* References to mbufs that are elsewhere, too; and segments without a byte. */
static void test_references(void)
{
	struct rte_mbuf *m, *clone, *got;

	up(NULL, NULL);
	m = frame(0, 3000, 2, 7);
	clone = rte_pktmbuf_clone(m, pool);
	CHECK(clone, "no clone");
	give(0, &clone, 1);
	CHECK_INT(take(1, 0, &got, 1), 1);
	check_frame(got, 0, 3000, 7);
	rte_pktmbuf_refcnt_update(m, 1);
	give(0, &m, 1);
	CHECK_INT(rte_mbuf_refcnt_read(m), 1);
	CHECK_INT(take(1, 0, &got, 1), 1);
	check_frame(got, 0, 3000, 7);
	got = rte_pktmbuf_alloc(pool);
	CHECK_INT(rte_pktmbuf_chain(m, got), 0);
	give(0, &m, 1);
	CHECK_INT(take(1, 0, &got, 1), 1);
	check_frame(got, 0, 3000, 7);
	down();
}

/* Without a byte, or in too many pieces: dropped and counted, and the rest goes on. */
static void test_bad_mbufs(void)
{
	struct rte_mbuf *m[4], *got[4];

	up(NULL, NULL);
	m[0] = frame(0, 60, 1, 1);
	m[1] = rte_pktmbuf_alloc(pool);
	m[2] = frame(0, 1000, 41, 2);
	m[3] = frame(0, 60, 1, 3);
	give(0, m, 4);
	CHECK_INT(take(1, 0, got, 4), 2);
	check_frame(got[0], 0, 60, 1);
	check_frame(got[1], 0, 60, 3);
	CHECK_INT(xstat(port[0], "tx_bad_mbufs"), 2);
	down();
}

/* A frame longer than its receiver's buffers, which did not ask for pieces. */
static void test_no_scatter(void)
{
	struct rte_mbuf *m[2], *got[2];
	struct rte_eth_stats stats;

	up(NULL, &(struct conf){.mtu = 1500});
	m[0] = frame(0, 3000, 2, 1);
	m[1] = frame(0, 1500, 1, 2);
	give(0, m, 2);
	CHECK_INT(take(1, 0, got, 2), 1);
	check_frame(got[0], 0, 1500, 2);
	rte_eth_stats_get(port[1], &stats);
	CHECK_INT(stats.ierrors, 1);
	down();
}

/* ---- main ---- */

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{"lengths", test_lengths},
	{"bursts", test_bursts},
	{"fast_free", test_fast_free},
	{"references", test_references},
	{"bad_mbufs", test_bad_mbufs},
	{"no_scatter", test_no_scatter},
	{"checksum", test_checksum},
	{"ip_checksum", test_ip_checksum},
	{"segmentation", test_segmentation},
	{"vlan", test_vlan},
	{"nic_polls", test_nic_polls},
	{"nic_checksum", test_nic_checksum},
	{"infos", test_infos},
	{"filters", test_filters},
	{"rss", test_rss},
	{"stats", test_stats},
	{"descriptors", test_descriptors},
	{"restart", test_restart},
	{"refusals", test_refusals},
	{"hotplug", test_hotplug},
};

static void attach(void)
{
	char args[256];

	for (int i = 0; i < 2; i++) {
		char name[16];

		snprintf(name, sizeof(name), "net_elisa%d", i);
		snprintf(args, sizeof(args), "port=p%d,transport=local,socket=%s,name=t", i,
			 socket_path);
		CHECK_INT(rte_vdev_init(name, args), 0);
		CHECK_INT(rte_eth_dev_get_port_by_name(name, &port[i]), 0);
	}
}

/* Arguments of EAL, "--", the socket; then tests, or all. */
int main(int argc, char **argv)
{
	int used = rte_eal_init(argc, argv);
	unsigned int done = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(used > 0 && used + 1 < argc, "usage: driver EAL-ARGUMENTS -- SOCKET [TEST...]");
	argv += used + 1;
	socket_path = *argv++;
	pool = rte_pktmbuf_pool_create("test", MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	CHECK(pool, "no mempool");
	attach();
	for (unsigned int i = 0; i < RTE_DIM(tests); i++) {
		bool wanted = !*argv;

		for (char **a = argv; *a; a++)
			wanted |= !strcmp(*a, tests[i].name);
		if (!wanted)
			continue;
		test_name = tests[i].name;
		tests[i].run();
		printf("ok %s\n", test_name);
		done++;
	}
	for (int i = 0; i < 2; i++)
		CHECK_INT(rte_eth_dev_close(port[i]), 0);
	CHECK_INT(rte_mempool_in_use_count(pool), 0);
	printf("%u tests passed\n", done);
	rte_eal_cleanup();
	return done ? 0 : 1;
}
