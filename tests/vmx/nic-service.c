/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What runs inside: serve() and what it calls. The functions of the driver and its queues are
 * looked up at the start, since inside nobody needs ethdev's tables.
 *
 * A frame: ethertype 0x88b5 (local experiments), 8 bytes of number, then bytes that follow from it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_memory.h>

#include "nic-service.h"

#define PORT	 0
#define RING	 256
#define BUFFERS	 1023
#define PROTOCOL 0x88b5
#define HEADER	 (RTE_ETHER_HDR_LEN + 8)

static struct {
	eth_rx_burst_t rx;
	eth_tx_burst_t tx;
	void *rxq, *txq;
	struct rte_mempool *pool;
	struct rte_ether_addr mac;
	uint64_t number; /* of the next frame */
} nic;
static struct nicsvc_state state;
static struct rte_eth_dev_info info;

/* ---- inside ---- */

static uint16_t length_of(uint64_t number)
{
	return 60 + number * 37 % 1455;
}

static void fill(struct rte_mbuf *m, uint64_t number)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	struct rte_ether_hdr *eth = (struct rte_ether_hdr *)data;
	uint16_t i, len = length_of(number);

	memset(&eth->dst_addr, 0xff, sizeof(eth->dst_addr));
	eth->src_addr = nic.mac;
	eth->ether_type = rte_cpu_to_be_16(PROTOCOL);
	memcpy(data + RTE_ETHER_HDR_LEN, &number, 8);
	for (i = HEADER; i < len; i++)
		data[i] = number + i;
	m->data_len = len;
	m->pkt_len = len;
}

static int64_t transmit(struct nicsvc_state *s, uint64_t count)
{
	struct rte_mbuf *mbufs[NICSVC_BURST];
	uint16_t n, sent;

	if (count > NICSVC_BURST)
		return -ELISA_EINVAL;
	for (n = 0; n < count; n++) {
		mbufs[n] = rte_pktmbuf_alloc(nic.pool);
		if (!mbufs[n]) {
			s->no_buffer++;
			break;
		}
		fill(mbufs[n], nic.number + n);
	}
	sent = nic.tx(nic.txq, mbufs, n);
	nic.number += sent;
	s->sent += sent;
	s->refused += n - sent;
	while (n > sent)
		rte_pktmbuf_free(mbufs[--n]);
	return sent;
}

static void examine(struct nicsvc_state *s, const struct rte_mbuf *m)
{
	const uint8_t *data = rte_pktmbuf_mtod(m, const uint8_t *);
	const struct rte_ether_hdr *eth = (const struct rte_ether_hdr *)data;
	uint64_t number;
	uint16_t i;

	if (m->data_len < HEADER || eth->ether_type != rte_cpu_to_be_16(PROTOCOL)) {
		s->other++;
		return;
	}
	memcpy(&number, data + RTE_ETHER_HDR_LEN, 8);
	for (i = HEADER; i < m->data_len && data[i] == (uint8_t)(number + i); i++)
		;
	if (i < m->data_len || m->data_len != length_of(number)) {
		s->bad++;
		return;
	}
	s->good++;
	s->bytes += m->data_len;
}

static int64_t receive(struct nicsvc_state *s)
{
	struct rte_mbuf *mbufs[NICSVC_BURST];
	uint16_t i, n = nic.rx(nic.rxq, mbufs, NICSVC_BURST);

	for (i = 0; i < n; i++) {
		examine(s, mbufs[i]);
		rte_pktmbuf_free(mbufs[i]);
	}
	return n;
}

static int64_t serve(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	switch (op) {
	case ELISA_OP_NOP:
		return 0;
	case NICSVC_TX:
		return transmit(cookie, a1);
	case NICSVC_RX:
		return receive(cookie);
	case NICSVC_DRAIN:
		return nic.tx(nic.txq, NULL, 0);
	}
	return -ELISA_ENOSYS;
}

/* ---- outside ---- */

static int start_port(void)
{
	struct rte_eth_conf conf = {0};
	int rc = rte_eth_dev_info_get(PORT, &info);

	if (!rc)
		rc = rte_eth_dev_configure(PORT, 1, 1, &conf);
	if (!rc)
		rc = rte_eth_rx_queue_setup(PORT, 0, RING, SOCKET_ID_ANY, NULL, nic.pool);
	if (!rc)
		rc = rte_eth_tx_queue_setup(PORT, 0, RING, SOCKET_ID_ANY, NULL);
	if (!rc)
		rc = rte_eth_macaddr_get(PORT, &nic.mac);
	if (!rc)
		rc = rte_eth_dev_start(PORT);
	if (!rc)
		rte_eth_promiscuous_enable(PORT);
	return rc;
}

static int start(char **args, unsigned int cache)
{
	struct rte_eth_link link;
	int rc, argc = 0;

	while (args[argc])
		argc++;
	if (rte_eal_init(argc, args) < 0)
		return -rte_errno;
	if (!rte_eth_dev_is_valid_port(PORT))
		return -ENODEV;
	nic.pool = rte_pktmbuf_pool_create_by_ops(
		"nicsvc", BUFFERS, cache, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY, "lf_stack");
	if (!nic.pool)
		return -rte_errno;
	rc = start_port();
	if (rc)
		return rc;
	rte_eth_link_get(PORT, &link); /* waits until it is up */
	nic.rx = rte_eth_fp_ops[PORT].rx_pkt_burst;
	nic.tx = rte_eth_fp_ops[PORT].tx_pkt_burst;
	nic.rxq = rte_eth_fp_ops[PORT].rxq.data[0];
	nic.txq = rte_eth_fp_ops[PORT].txq.data[0];
	return 0;
}

static void stop(void)
{
	rte_eth_dev_stop(PORT);
	rte_eth_dev_close(PORT);
	rte_eal_cleanup();
}

struct visit {
	nicsvc_cb cb;
	void *arg;
};

static int visit_memory(const struct rte_memseg_list *list, const struct rte_memseg *seg,
			size_t len, void *arg)
{
	struct visit *v = arg;

	return list->external ? 0 : v->cb(NICSVC_HEAP, seg->addr, len, v->arg);
}

static int parts(nicsvc_cb cb, void *arg)
{
	const struct rte_mempool_ops *ops = rte_mempool_get_ops(nic.pool->ops_index);
	const struct {
		enum nicsvc_part part;
		const void *at;
	} all[] = {
		{NICSVC_OBJECT, (const void *)(uintptr_t)nic.rx},
		{NICSVC_OBJECT, (const void *)(uintptr_t)nic.tx},
		{NICSVC_OBJECT, (const void *)(uintptr_t)ops->enqueue},
		{NICSVC_OBJECT, (const void *)(uintptr_t)ops->dequeue},
		{NICSVC_DATA_R, &rte_mempool_ops_table},
	};
	struct visit v = {cb, arg};
	size_t i;
	int rc = 0;

	for (i = 0; i < RTE_DIM(all) && rc >= 0; i++)
		rc = cb(all[i].part, all[i].at, 0, arg);
	return rc < 0 ? rc : rte_memseg_contig_walk(visit_memory, &v);
}

static unsigned int free_buffers(void)
{
	return rte_mempool_avail_count(nic.pool);
}

static unsigned int all_buffers(void)
{
	return nic.pool->size;
}

static int thread_begin(void *arg)
{
	return rte_thread_register() ? -rte_errno : 0;
}

static void thread_end(void *arg)
{
	rte_thread_unregister();
}

static const char *driver(void)
{
	return info.driver_name;
}

const struct nicsvc nicsvc = {
	.start = start,
	.stop = stop,
	.parts = parts,
	.free_buffers = free_buffers,
	.all_buffers = all_buffers,
	.thread_begin = thread_begin,
	.thread_end = thread_end,
	.driver = driver,
	.entry = serve,
	.state = &state,
};
