/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of functions that the daemon gets, and the life of a NIC. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_malloc.h>
#include "internal.h"

#define DRAIN_MAX 4096 /* bursts */

static int check(const struct nic_config *cfg, char *why)
{
	if (!cfg->devices || cfg->devices > NIC_MEMBERS_MAX)
		return nic_why(why, -EINVAL, "%u devices: a NIC has one, or two for active/backup",
			       cfg->devices);
	for (unsigned int i = 0; i < cfg->devices; i++)
		if (!cfg->device[i] || !*cfg->device[i] ||
		    strlen(cfg->device[i]) >= sizeof(((struct nic *)0)->device[0]))
			return nic_why(why, -EINVAL,
				       "device %u has no name, or one of more than %zu "
				       "characters",
				       i, sizeof(((struct nic *)0)->device[0]) - 1);
	if (!cfg->queues || cfg->queues > ELISA_QUEUES_MAX)
		return nic_why(why, -EINVAL, "%u queues: 1 to %u are possible", cfg->queues,
			       ELISA_QUEUES_MAX);
	if (cfg->mtu < 68 || cfg->mtu > ELISA_MTU_MAX)
		return nic_why(why, -EINVAL, "MTU %u: 68 to %u are possible", cfg->mtu,
			       ELISA_MTU_MAX);
	return 0;
}

static int nic_add(const struct nic_config *cfg, struct nic **out, char why[NIC_WHY_LEN])
{
	struct nic *nic;
	int error = check(cfg, why);

	if (error)
		return error;
	nic = rte_zmalloc("vswitch-nic", sizeof(*nic), 0);
	if (!nic)
		return nic_why(why, -ENOMEM, "DPDK's memory is full: give it more");
	nic->config = *cfg;
	for (unsigned int i = 0; i < cfg->devices; i++) {
		strcpy(nic->device[i], cfg->device[i]);
		nic->config.device[i] = nic->device[i];
	}
	error = nic_plug(nic, why);
	if (error) {
		rte_free(nic);
		return error;
	}
	*out = nic;
	return 0;
}

/* What is in there would be in pools that are no more. A caller may have left it half written, so
 * buffers are not looked at: they go with their pool, which also ends this. */
static uint64_t drain_queue(uint16_t port, uint16_t queue)
{
	struct rte_mbuf *mbuf[VS_NIC_BURST];
	uint64_t count = 0, more = 1;

	for (unsigned int n = 0; n < DRAIN_MAX && more; n++) {
		more = rte_eth_rx_burst(port, queue, mbuf, VS_NIC_BURST);
		count += more;
	}
	return count;
}

static void drain(struct nic *nic)
{
	for (unsigned int i = 0; i < nic->config.devices; i++)
		for (uint16_t queue = 0; queue < nic->config.queues; queue++)
			nic->run.drained += drain_queue(nic->member[i], queue);
}

static void nic_stop(struct nic *nic)
{
	if (!nic->running)
		return;
	nic->running = false;
	nic_macs_forget(nic);
	/* Their rings in memory outlast a stop. */
	if (nic_is_software(nic))
		drain(nic);
	rte_eth_dev_stop(nic->port);
}

static void nic_remove(struct nic *nic)
{
	nic_stop(nic);
	nic_unplug(nic);
	nic_run_free(nic, &nic->run);
	rte_free(nic);
}

static int bring_up(struct nic *nic, struct nic_run *run, char *why)
{
	struct rte_eth_dev_info info;
	int error;

	if (!nic->plugged) {
		error = nic_plug(nic, why);
		if (error)
			return error;
	}
	error = rte_eth_dev_info_get(nic->port, &info);
	if (error)
		return nic_why(why, error, "cannot ask the driver what it can do: %s",
			       strerror(-error));
	error = nic_run_create(nic, run, &info, why);
	if (error)
		return error;
	error = rte_eth_dev_start(nic->port);
	if (error)
		return nic_why(why, error, "the driver %s does not start the device: %s",
			       info.driver_name, strerror(-error));
	return 0;
}

/*
 * The new run beside the former one, which the device gives up only as it gets the new. Where there
 * is no memory for both: after it, when the device was away.
 */
static int replace(struct nic *nic, struct nic_run *run, char *why)
{
	bool former = nic->run.queue[0].rx;
	int error = bring_up(nic, run, why);

	if (error)
		nic_unplug(nic);
	nic_run_free(nic, &nic->run);
	if (!error)
		return 0;
	nic_run_free(nic, run);
	if (error != -ENOMEM || !former)
		return error;
	error = bring_up(nic, run, why);
	if (!error)
		return 0;
	nic_unplug(nic);
	nic_run_free(nic, run);
	return error;
}

static int nic_start(struct nic *nic, char why[NIC_WHY_LEN])
{
	struct nic_run run = {.buf_len = 0};
	struct rte_ether_addr mac;
	int error;

	nic_stop(nic);
	error = replace(nic, &run, why);
	if (error)
		return error;
	if (!rte_eth_macaddr_get(nic->port, &mac) && rte_is_valid_assigned_ether_addr(&mac))
		memcpy(nic->address, mac.addr_bytes, sizeof(nic->address));
	nic->run = run;
	nic_run_attach(nic, &nic->run);
	nic->running = true;
	nic->starts++;
	/* Not all drivers know these; then they receive all. */
	rte_eth_allmulticast_enable(nic->port);
	if (nic->config.promiscuous)
		rte_eth_promiscuous_enable(nic->port);
	else
		rte_eth_promiscuous_disable(nic->port);
	return 0;
}

static int nic_queue(struct nic *nic, unsigned int queue, struct elisa_queue_setup *setup,
		     void **rxq, void **txq)
{
	const struct nic_queue *q;

	if (!nic->running || queue >= nic->config.queues)
		return -EINVAL;
	q = &nic->run.queue[queue];
	*rxq = q->rx;
	*txq = q->tx;
	*setup = (struct elisa_queue_setup){
		.revision = ELISA_NET_REVISION,
		.queue = (uint16_t)queue,
		.tx_size = NIC_DESCS,
		.rx_size = NIC_SLOTS,
		.rx_buf_len = nic->run.buf_len,
		.features = nic->run.features,
		.tx_ring = (uintptr_t)q->rx->ring,
		.rx_ring = (uintptr_t)q->tx->ring,
		.rx_comp = (uintptr_t)q->tx->comp,
	};
	return 0;
}

static int nic_info(struct nic *nic, struct nic_info *out)
{
	struct rte_eth_dev_info info, first;
	int error;

	if (!nic->plugged)
		return -ENODEV;
	error = rte_eth_dev_info_get(nic->port, &info);
	if (!error)
		error = rte_eth_dev_info_get(nic->member[0], &first);
	if (error)
		return error;
	*out = (struct nic_info){
		.mtu = nic->config.mtu,
		.queues = RTE_MIN(info.max_rx_queues, info.max_tx_queues),
		.features = nic->run.features,
		.rx_csum = nic->run.rx_csum,
		.devices = nic->config.devices,
		.flow = nic->running && nic_can_steer(nic),
	};
	snprintf(out->driver, sizeof(out->driver), "%s", first.driver_name);
	memcpy(out->mac, nic->address, sizeof(out->mac));
	return 0;
}

static int nic_link(struct nic *nic, struct nic_link *out)
{
	struct rte_eth_link link;
	int error;

	if (!nic->running)
		return -ENODEV;
	error = rte_eth_link_get_nowait(nic->port, &link);
	if (error)
		return error;
	*out = (struct nic_link){
		.up = link.link_status == RTE_ETH_LINK_UP,
		.full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX,
		.speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed,
		.active = -1,
	};
	if (out->up)
		out->active = nic->config.devices == 1 ? 0 : nic_bond_active(nic);
	for (unsigned int i = 0; i < nic->config.queues; i++)
		nic_store(&nic->run.queue[i].tx->down, !out->up);
	return 0;
}

static int nic_stats(struct nic *nic, struct nic_stats *out)
{
	struct rte_eth_stats stats = {.ipackets = 0};
	int error = 0;

	if (nic->plugged)
		error = rte_eth_stats_get(nic->port, &stats);
	if (error)
		return error;
	*out = (struct nic_stats){
		.rx_frames = stats.ipackets,
		.rx_bytes = stats.ibytes,
		.rx_missed = stats.imissed,
		.rx_errors = stats.ierrors,
		.rx_no_mbuf = stats.rx_nombuf,
		.tx_frames = stats.opackets,
		.tx_bytes = stats.obytes,
		.tx_errors = stats.oerrors + nic->errors,
		.tx_full = nic->full,
		.lost_buffers = nic->lost,
		.starts = nic->starts,
	};
	for (unsigned int i = 0; i < ELISA_QUEUES_MAX; i++) {
		const struct nic_queue *q = &nic->run.queue[i];

		if (!q->tx)
			continue;
		out->tx_errors += nic_load(&q->tx->errors);
		out->tx_full += nic_load(&q->tx->full);
		out->rx_errors += nic_load(&q->rx->unusable);
		out->lost_buffers += nic_load(&q->tx->lost) + nic_load(&q->rx->lost);
	}
	return 0;
}

const struct nic_lib vs_nic_lib = {
	.revision = NIC_LIB_REVISION,
	.open = nic_open,
	.close = nic_close,
	.memory = nic_memory,
	.span = nic_span,
	.telemetry = nic_telemetry,
	.add = nic_add,
	.remove = nic_remove,
	.start = nic_start,
	.stop = nic_stop,
	.queue = nic_queue,
	.ops = &nic_burst_ops,
	.info = nic_info,
	.link = nic_link,
	.stats = nic_stats,
	.macs = nic_macs,
	.exports = nic_exports,
	.thread_begin = nic_thread_begin,
	.thread_end = nic_thread_end,
	.exercise = nic_exercise,
};
