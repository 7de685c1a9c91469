/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A run of a NIC: its pools, rings and the device's queues, made anew at each start.
 *
 * Each half of a queue has a pool of its own, without caches: only the half's holder touches it, so
 * a ring for one producer and one consumer does, without a locked instruction. But devices of
 * software may take buffers from one queue and give them to another: those get lock-free stacks.
 * Nobody waits in either, not for the dead either: at worst they leave some buffers behind, which
 * go with the pool.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include "internal.h"

#define RING_DEFAULT 512
#define NIC_CRC	     4
#define TAG	     4

static uint32_t frame_max(const struct nic *nic)
{
	return nic->config.mtu + RTE_ETHER_HDR_LEN + TAG;
}

/* ---- what the device can do ---- */

/* It only cuts frames up as the switch does, and not well. */
static bool is_tap(const struct nic *nic)
{
	struct rte_eth_dev_info info;

	for (unsigned int i = 0; i < nic->config.devices; i++)
		if (!rte_eth_dev_info_get(nic->member[i], &info) &&
		    !strcmp(info.driver_name, "net_tap"))
			return true;
	return false;
}

static uint64_t tx_offloads(const struct nic *nic, const struct rte_eth_dev_info *info,
			    uint32_t *features)
{
	uint64_t csum = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	uint64_t tso = csum | RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM |
		       RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	uint64_t can = info->tx_offload_capa;
	uint32_t pieces = (ELISA_GSO_FRAME_MAX + NIC_BUF_LEN - 1) / NIC_BUF_LEN;
	uint32_t pieces_max = info->tx_desc_lim.nb_seg_max;

	*features = 0;
	if (nic->config.offloads && (can & csum) == csum)
		*features |= ELISA_NET_F_CSUM;
	if (nic->config.offloads && !is_tap(nic) && (can & tso) == tso &&
	    (!pieces_max || pieces_max >= pieces))
		*features |= ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6;
	return (can & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) | (*features & ELISA_NET_F_CSUM ? csum : 0) |
	       (*features & ELISA_NET_F_TSO4 ? tso : 0);
}

static uint64_t rx_offloads(const struct nic *nic, const struct rte_eth_dev_info *info,
			    const struct nic_run *run)
{
	uint64_t csum = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	uint64_t can = info->rx_offload_capa, use = 0;

	if (nic->config.offloads && (can & csum) == csum)
		use |= csum | (can & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM);
	if (frame_max(nic) + NIC_CRC > run->buf_len)
		use |= can & RTE_ETH_RX_OFFLOAD_SCATTER;
	return use;
}

/* Whole frames in one buffer, where the device has no use for pieces. */
static uint32_t buffer_len(const struct nic *nic, const struct rte_eth_dev_info *info)
{
	uint32_t len = NIC_BUF_LEN, whole = RTE_ALIGN(frame_max(nic) + TAG + NIC_CRC, 64);

	if (len < info->min_rx_bufsize)
		len = info->min_rx_bufsize;
	if (len < whole && !(info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER &&
			     info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS))
		len = whole;
	return len;
}

static int configure(struct nic *nic, struct nic_run *run, const struct rte_eth_dev_info *info,
		     uint64_t *tx, uint64_t *rx, char *why)
{
	uint16_t queues = nic->config.queues, mtu = nic->config.mtu;
	struct rte_eth_conf conf = {.rxmode.mtu = mtu};
	int error;

	if (queues > info->max_rx_queues || queues > info->max_tx_queues)
		return nic_why(why, -EINVAL,
			       "%u queues: the device has %u to receive and %u to send; "
			       "ask for no more",
			       queues, info->max_rx_queues, info->max_tx_queues);
	run->buf_len = buffer_len(nic, info);
	*tx = tx_offloads(nic, info, &run->features);
	*rx = rx_offloads(nic, info, run);
	run->rx_csum = *rx & RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
	conf.rxmode.offloads = *rx;
	conf.txmode.offloads = *tx;
	if (queues > 1 && info->flow_type_rss_offloads) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info->flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	}
	error = rte_eth_dev_configure(nic->port, queues, queues, &conf);
	if (error)
		return nic_why(why, error, "the driver %s does not take %u queues, MTU %u: %s",
			       info->driver_name, queues, mtu, strerror(-error));
	error = rte_eth_dev_set_mtu(nic->port, mtu);
	if (error && error != -ENOTSUP)
		return nic_why(why, error, "the driver %s does not take MTU %u (%u to %u): %s",
			       info->driver_name, mtu, info->min_mtu, info->max_mtu,
			       strerror(-error));
	return 0;
}

/* ---- memory ---- */

/* The device's own, if DPDK has memory there. */
static int socket_of(const struct nic *nic)
{
	struct rte_malloc_socket_stats stats;
	int socket = rte_eth_dev_socket_id(nic->port);

	if (socket < 0 || rte_malloc_get_socket_stats(socket, &stats) || !stats.heap_totalsz_bytes)
		return SOCKET_ID_ANY;
	return socket;
}

static void *take(struct nic *nic, size_t len)
{
	return rte_zmalloc_socket("vswitch-nic", len, RTE_CACHE_LINE_SIZE, socket_of(nic));
}

static bool take_queue(struct nic *nic, struct nic_queue *q)
{
	q->rx = take(nic, sizeof(*q->rx));
	q->tx = take(nic, sizeof(*q->tx));
	if (!q->rx || !q->tx)
		return false;
	q->rx->ring = take(nic, NIC_DESCS * sizeof(q->rx->ring[0]));
	q->rx->slot = take(nic, NIC_DESCS * sizeof(q->rx->slot[0]));
	q->tx->ring = take(nic, sizeof(*q->tx->ring) + NIC_SLOTS * sizeof(q->tx->ring->addr[0]));
	q->tx->comp = take(nic, NIC_SLOTS * sizeof(q->tx->comp[0]));
	q->tx->slot = take(nic, NIC_SLOTS * sizeof(q->tx->slot[0]));
	return q->rx->ring && q->rx->slot && q->tx->ring && q->tx->comp && q->tx->slot;
}

static void give_queue(struct nic_queue *q)
{
	if (q->rx) {
		rte_free(q->rx->ring);
		rte_free(q->rx->slot);
	}
	if (q->tx) {
		rte_free(q->tx->ring);
		rte_free(q->tx->comp);
		rte_free(q->tx->slot);
	}
	rte_free(q->rx);
	rte_free(q->tx);
}

static const char *pool_kind(const struct nic *nic)
{
	return nic_is_software(nic) ? "lf_stack" : "ring_sp_sc";
}

static struct rte_mempool *take_pool(struct nic *nic, struct nic_run *run, unsigned int i,
				     uint32_t count)
{
	char name[RTE_MEMPOOL_NAMESIZE];

	/* The former run's still exist. */
	snprintf(name, sizeof(name), "nic%u.%u.%u", nic->port, i, (unsigned int)(nic->starts & 1));
	run->pool[i] = rte_pktmbuf_pool_create_by_ops(
		name, count, 0, 0, (uint16_t)(RTE_PKTMBUF_HEADROOM + run->buf_len), socket_of(nic),
		pool_kind(nic));
	return run->pool[i];
}

/* Buffers that are neither in a pool nor where we know them: of callers that died with them. */
static uint64_t missing(const struct nic *nic, const struct nic_run *run)
{
	int64_t missing = -(int64_t)run->drained;

	for (unsigned int i = 0; i < 2u * nic->config.queues; i++)
		if (run->pool[i])
			missing += run->pool[i]->size - rte_mempool_avail_count(run->pool[i]);
	for (unsigned int i = 0; i < nic->config.queues; i++) {
		const struct nic_queue *q = &run->queue[i];

		if (!q->tx || !q->rx)
			continue;
		missing -= q->rx->described + (q->tx->posted - q->tx->next);
		for (uint32_t n = 0; n < q->tx->staged; n++)
			missing -= q->tx->stage[n]->nb_segs;
	}
	return missing > 0 ? (uint64_t)missing : 0;
}

/* The device knows none of it any more. */
void nic_run_free(struct nic *nic, struct nic_run *run)
{
	nic->lost += missing(nic, run);
	for (unsigned int i = 0; i < ELISA_QUEUES_MAX; i++) {
		const struct nic_queue *q = &run->queue[i];

		if (q->tx) {
			nic->full += q->tx->full;
			nic->errors += q->tx->errors;
		}
		give_queue(&run->queue[i]);
	}
	for (unsigned int i = 0; i < NIC_POOLS; i++)
		rte_mempool_free(run->pool[i]);
	*run = (struct nic_run){.buf_len = 0};
}

/* ---- queues ---- */

static int set_up_queue(struct nic *nic, struct nic_run *run, const struct rte_eth_dev_info *info,
			unsigned int i, const uint16_t ring[2], uint64_t tx, uint64_t rx, char *why)
{
	int socket = socket_of(nic), error;
	struct rte_eth_rxconf rx_conf = info->default_rxconf;
	struct rte_eth_txconf tx_conf = info->default_txconf;
	uint32_t pieces = (frame_max(nic) + run->buf_len - 1) / run->buf_len;
	uint32_t rx_count = nic->config.devices * ring[0] + 2 * VS_NIC_BURST * pieces;
	uint32_t tx_count = nic->config.devices * ring[1] + 2 * NIC_SLOTS + VS_NIC_BURST;

	rte_errno = 0;
	if (!take_queue(nic, &run->queue[i]) || !take_pool(nic, run, 2 * i, rx_count) ||
	    !take_pool(nic, run, 2 * i + 1, tx_count)) {
		if (rte_errno == EINVAL)
			return nic_why(why, -ENOTSUP,
				       "DPDK has no pools of the kind %s: install "
				       "librte-mempool-ring and librte-mempool-stack",
				       pool_kind(nic));
		return nic_why(why, -ENOMEM,
			       "%u packet buffers of %u bytes do not fit into DPDK's "
			       "memory: give it more, or use smaller rings or fewer queues",
			       rx_count + tx_count, run->buf_len);
	}
	rx_conf.offloads = rx;
	tx_conf.offloads = tx;
	error = rte_eth_rx_queue_setup(nic->port, (uint16_t)i, ring[0], (unsigned int)socket,
				       &rx_conf, run->pool[2 * i]);
	if (!error)
		error = rte_eth_tx_queue_setup(nic->port, (uint16_t)i, ring[1],
					       (unsigned int)socket, &tx_conf);
	if (error)
		return nic_why(why, error,
			       "the driver %s does not set up queue %u with rings of %u and "
			       "%u descriptors: %s",
			       info->driver_name, i, ring[0], ring[1], strerror(-error));
	return 0;
}

static uint16_t ring_size(uint16_t wanted, uint16_t preferred)
{
	if (wanted)
		return wanted;
	return preferred ? preferred : RING_DEFAULT;
}

int nic_run_create(struct nic *nic, struct nic_run *run, const struct rte_eth_dev_info *info,
		   char *why)
{
	uint16_t ring[2] = {ring_size(nic->config.rx_ring, info->default_rxportconf.ring_size),
			    ring_size(nic->config.tx_ring, info->default_txportconf.ring_size)};
	uint64_t tx, rx;
	int error;

	error = configure(nic, run, info, &tx, &rx, why);
	if (error)
		return error;
	error = rte_eth_dev_adjust_nb_rx_tx_desc(nic->port, &ring[0], &ring[1]);
	if (error)
		return nic_why(why, error,
			       "the driver %s does not take rings of %u and %u "
			       "descriptors: %s",
			       info->driver_name, ring[0], ring[1], strerror(-error));
	for (unsigned int i = 0; i < nic->config.queues && !error; i++)
		error = set_up_queue(nic, run, info, i, ring, tx, rx, why);
	return error;
}

static uint32_t limit_of(uint16_t limit)
{
	return limit ? limit : UINT32_MAX;
}

/* The device runs: the driver's functions for it are known now. */
void nic_run_attach(struct nic *nic, struct nic_run *run)
{
	const struct rte_eth_fp_ops *driver = &rte_eth_fp_ops[nic->port];
	struct rte_eth_dev_info info = {.driver_name = NULL};

	rte_eth_dev_info_get(nic->port, &info);
	for (unsigned int i = 0; i < nic->config.queues; i++) {
		struct rte_mempool *pool = run->pool[2 * i + 1];
		const struct rte_mempool_ops *ops = rte_mempool_get_ops(pool->ops_index);
		struct nic_pool_ops pool_ops = {ops->enqueue, ops->dequeue, pool->ops_index};
		struct nic_rxq *rx = run->queue[i].rx;
		struct nic_txq *tx = run->queue[i].tx;

		rx->burst = driver->rx_pkt_burst;
		rx->queue = driver->rxq.data[i];
		rx->ops = pool_ops;
		rx->pool = run->pool[2 * i];
		tx->burst = driver->tx_pkt_burst;
		tx->prepare = driver->tx_pkt_prepare;
		tx->queue = driver->txq.data[i];
		tx->ops = pool_ops;
		tx->pool = pool;
		tx->buf_len = run->buf_len;
		tx->segs_max = limit_of(info.tx_desc_lim.nb_mtu_seg_max);
		tx->tso_segs_max = limit_of(info.tx_desc_lim.nb_seg_max);
		/* With nothing to send it posts the buffers. */
		nic_burst_ops.tx(tx);
	}
}
