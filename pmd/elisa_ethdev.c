/* SPDX-License-Identifier: BSD-3-Clause */
/* Control: probe and device arguments, configuration, queues, start and stop, what the port can do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_alarm.h>
#include <rte_kvargs.h>
#include <rte_malloc.h>

#include "elisa_pmd.h"

#define ARG_PORT      "port"
#define ARG_TRANSPORT "transport"
#define ARG_SOCKET    "socket"
#define ARG_NAME      "name"
#define ARG_GATE      "gate"

#define PARAMETERS                                                                              \
	ARG_PORT "=<name|index> " ARG_TRANSPORT "=vmfunc|local " ARG_SOCKET "=<path> " ARG_NAME \
		 "=<string> " ARG_GATE "=<ns>"

RTE_LOG_REGISTER(elisa_logtype, pmd.net.elisa, NOTICE)

/* ---- the port's abilities ---- */

static uint64_t rx_capa(const struct elisa_dev *dev)
{
	uint64_t capa = RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_VLAN_STRIP |
			RTE_ETH_RX_OFFLOAD_RSS_HASH;

	if (dev->info.features & ELISA_NET_F_CSUM)
		capa |= RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
	if (dev->info.features & ELISA_NET_F_TSO4 && dev->info.features & ELISA_NET_F_TSO6)
		capa |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
	return capa;
}

static uint64_t tx_capa(const struct elisa_dev *dev)
{
	uint64_t capa = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE |
			RTE_ETH_TX_OFFLOAD_VLAN_INSERT | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;

	if (dev->info.features & ELISA_NET_F_CSUM)
		capa |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	if (dev->info.features & ELISA_NET_F_TSO4 && dev->info.features & ELISA_NET_F_TSO6)
		capa |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
	return capa;
}

static int infos_get(struct rte_eth_dev *eth, struct rte_eth_dev_info *info)
{
	const struct elisa_dev *dev = eth->data->dev_private;
	const struct rte_eth_desc_lim lim = {
		.nb_min = ELISA_RING_LOW,
		.nb_max = ELISA_RING_MAX,
		.nb_align = ELISA_RX_BATCH,
		.nb_seg_max = ELISA_SEGS_MAX,
		.nb_mtu_seg_max = ELISA_SEGS_MAX,
	};

	info->max_rx_queues = dev->info.queues;
	info->max_tx_queues = dev->info.queues;
	info->min_rx_bufsize = ELISA_RX_BUF_MIN;
	info->min_mtu = RTE_ETHER_MIN_MTU;
	info->max_mtu = dev->info.mtu;
	info->max_rx_pktlen = dev->info.mtu + ELISA_OVERHEAD;
	info->max_lro_pkt_size = ELISA_GSO_FRAME_MAX;
	info->max_mac_addrs = ELISA_MACS_MAX;
	info->rx_queue_offload_capa = rx_capa(dev);
	info->rx_offload_capa = info->rx_queue_offload_capa;
	info->tx_queue_offload_capa = tx_capa(dev);
	info->tx_offload_capa = info->tx_queue_offload_capa;
	info->reta_size = ELISA_RETA_SIZE;
	info->hash_key_size = ELISA_RSS_KEY_LEN;
	info->flow_type_rss_offloads = elisa_rss_types();
	info->rx_desc_lim = lim;
	info->tx_desc_lim = lim;
	info->default_rxportconf = (struct rte_eth_dev_portconf){32, ELISA_RX_RING, 1};
	info->default_txportconf = (struct rte_eth_dev_portconf){32, ELISA_TX_RING, 1};
	return 0;
}

static int burst_mode(struct rte_eth_dev *eth, uint16_t queue, struct rte_eth_burst_mode *mode)
{
	(void)eth;
	(void)queue;
	snprintf(mode->info, sizeof(mode->info), "Scalar, SSSE3 completions");
	return 0;
}

/* ---- queues ---- */

/* A name of its own for each: a ring that was given up must not be found again. */
static const struct rte_memzone *ring_memory(const struct elisa_dev *dev, size_t len, int socket)
{
	static uint32_t counter;
	char name[RTE_MEMZONE_NAMESIZE];

	snprintf(name, sizeof(name), "elisa_%u_%u", dev->data->port_id,
		 __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED));
	return rte_memzone_reserve_aligned(name, len, socket, RTE_MEMZONE_IOVA_CONTIG,
					   RTE_CACHE_LINE_SIZE);
}

static void rx_queue_release(struct rte_eth_dev *eth, uint16_t i)
{
	struct elisa_dev *dev = eth->data->dev_private;
	struct pmd_rxq *q = eth->data->rx_queues[i];
	int rc;

	if (!q)
		return;
	eth->data->rx_queues[i] = NULL;
	pthread_mutex_lock(&dev->lock);
	rc = elisa_rxq_drain(dev, q);
	pthread_mutex_unlock(&dev->lock);
	if (rc) {
		ELISA_LOG(
			ERR,
			"%s: RX queue %u: %s, so frames may still arrive: its ring and %u mbufs of "
			"%s are given up rather than freed",
			eth->data->name, i, elisa_state_text(rc), q->posted - q->head,
			q->pool->name);
		return;
	}
	rte_memzone_free(q->mz);
	rte_free(q->sw);
	rte_free(q);
}

static uint64_t rearm_data(uint16_t port_id)
{
	struct rte_mbuf m = {.nb_segs = 1, .data_off = RTE_PKTMBUF_HEADROOM, .port = port_id};

	uint64_t data;

	rte_mbuf_refcnt_set(&m, 1);
	memcpy(&data, (char *)&m + offsetof(struct rte_mbuf, rearm_data), sizeof(data));
	return data;
}

static int rx_ring_make(struct elisa_dev *dev, struct pmd_rxq *q, uint32_t size, int socket)
{
	const size_t ring = sizeof(struct elisa_rx) + size * sizeof(uint64_t);
	const size_t comp = RTE_ALIGN_CEIL(ring, RTE_CACHE_LINE_SIZE);

	q->sw = rte_zmalloc_socket("elisa", size * sizeof(*q->sw), 0, socket);
	q->mz = ring_memory(dev, comp + size * sizeof(struct elisa_rxc), socket);
	if (!q->sw || !q->mz)
		return -ENOMEM;
	if (elisa_mem_hold(dev->handle, q->mz->addr, q->mz->len))
		return -ENOTSUP;
	memset(q->mz->addr, 0, q->mz->len);
	q->ring = q->mz->addr;
	q->comp = (void *)((char *)q->mz->addr + comp);
	q->ring_iova = q->mz->iova;
	q->comp_iova = q->mz->iova + comp;
	q->mask = size - 1;
	return 0;
}

static int rx_queue_setup(struct rte_eth_dev *eth, uint16_t i, uint16_t descs, unsigned int socket,
			  const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	struct elisa_dev *dev = eth->data->dev_private;
	const uint32_t size = rte_align32pow2(descs);
	const uint64_t offloads = conf->offloads | eth->data->dev_conf.rxmode.offloads;
	struct pmd_rxq *q;
	int rc;

	if (conf->rx_deferred_start)
		return -ENOTSUP;
	rc = elisa_mem_use_pool(dev->handle, pool);
	if (rc)
		return rc;
	if (rte_mempool_avail_count(pool) < size)
		ELISA_LOG(WARNING, "%s: RX queue %u: mempool %s has %u mbufs left for %u slots",
			  eth->data->name, i, pool->name, rte_mempool_avail_count(pool), size);
	q = rte_zmalloc_socket("elisa", sizeof(*q), RTE_CACHE_LINE_SIZE, (int)socket);
	if (!q)
		return -ENOMEM;
	q->index = i;
	q->descs = (uint16_t)RTE_MIN(size, UINT16_MAX);
	q->port_id = eth->data->port_id;
	q->pool = pool;
	q->rearm = rearm_data(q->port_id);
	q->buf_len = rte_pktmbuf_data_room_size(pool) - RTE_PKTMBUF_HEADROOM;
	q->offloads = offloads;
	q->strip = offloads & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	q->hash = offloads & RTE_ETH_RX_OFFLOAD_RSS_HASH;
	q->csum = offloads & (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM);
	q->scatter = offloads & (RTE_ETH_RX_OFFLOAD_SCATTER | RTE_ETH_RX_OFFLOAD_TCP_LRO) ||
		     eth->data->mtu + ELISA_OVERHEAD > q->buf_len;
	if (q->scatter)
		eth->data->scattered_rx = 1;
	rc = rx_ring_make(dev, q, size, (int)socket);
	if (rc) {
		rte_memzone_free(q->mz);
		rte_free(q->sw);
		rte_free(q);
		return rc;
	}
	eth->data->rx_queues[i] = q;
	return 0;
}

static void tx_queue_release(struct rte_eth_dev *eth, uint16_t i)
{
	struct pmd_txq *q = eth->data->tx_queues[i];

	if (!q)
		return;
	eth->data->tx_queues[i] = NULL;
	elisa_guest_call_del(q->owner->guest, &q->call);
	rte_memzone_free(q->mz);
	rte_free(q);
}

static int tx_queue_setup(struct rte_eth_dev *eth, uint16_t i, uint16_t descs, unsigned int socket,
			  const struct rte_eth_txconf *conf)
{
	struct elisa_dev *dev = eth->data->dev_private;
	const uint32_t size = rte_align32pow2(descs);
	struct pmd_txq *q;
	int rc;

	if (conf->tx_deferred_start)
		return -ENOTSUP;
	q = rte_zmalloc_socket("elisa", sizeof(*q), RTE_CACHE_LINE_SIZE, (int)socket);
	if (!q)
		return -ENOMEM;
	q->index = i;
	q->descs = (uint16_t)RTE_MIN(size, UINT16_MAX);
	q->mask = size - 1;
	q->offloads = conf->offloads | eth->data->dev_conf.txmode.offloads;
	q->fast_free = q->offloads & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	q->owner = dev->handle;
	rc = elisa_guest_call_new(dev->handle->guest, &q->call);
	if (rc) {
		ELISA_LOG(ERR, "%s: TX queue %u: no more callers at this switch: %s",
			  eth->data->name, i, strerror(-rc));
		goto free_queue;
	}
	rc = -ENOMEM;
	q->mz = ring_memory(dev, size * sizeof(struct elisa_txd), (int)socket);
	if (!q->mz)
		goto del_call;
	q->ring = q->mz->addr;
	eth->data->tx_queues[i] = q;
	return 0;
del_call:
	elisa_guest_call_del(dev->handle->guest, &q->call);
free_queue:
	rte_free(q);
	return rc;
}

static void rxq_info(struct rte_eth_dev *eth, uint16_t i, struct rte_eth_rxq_info *info)
{
	const struct pmd_rxq *q = eth->data->rx_queues[i];

	info->mp = q->pool;
	info->scattered_rx = q->scatter;
	info->nb_desc = q->descs;
	info->rx_buf_size = (uint16_t)q->buf_len;
	info->conf.offloads = q->offloads;
}

static void txq_info(struct rte_eth_dev *eth, uint16_t i, struct rte_eth_txq_info *info)
{
	const struct pmd_txq *q = eth->data->tx_queues[i];

	info->nb_desc = q->descs;
	info->conf.offloads = q->offloads;
}

/* All is free at once. */
static int tx_done_cleanup(void *queue, uint32_t n)
{
	(void)queue;
	(void)n;
	return 0;
}

/* ---- link ---- */

static void poll_switch(void *arg);

/* Each look wakes the vCPU, so a port that may sleep is looked at less often. */
static int poll_later(struct elisa_dev *dev)
{
	return rte_eal_alarm_set(dev->sleeper ? ELISA_DOZE_US : ELISA_POLL_US, poll_switch, dev);
}

static void poll_switch(void *arg)
{
	struct elisa_dev *dev = arg;
	bool changed = false;

	/* Another thread is at it, and may wait for this one to end: next time. */
	if (!pthread_mutex_trylock(&dev->lock)) {
		changed = elisa_port_check(dev);
		pthread_mutex_unlock(&dev->lock);
	}
	if (changed)
		rte_eth_dev_callback_process(&rte_eth_devices[dev->data->port_id],
					     RTE_ETH_EVENT_INTR_LSC, NULL);
	poll_later(dev);
}

static int link_update(struct rte_eth_dev *eth, int wait)
{
	struct elisa_dev *dev = eth->data->dev_private;
	bool changed = false;

	(void)wait;
	pthread_mutex_lock(&dev->lock);
	changed = elisa_port_check(dev);
	pthread_mutex_unlock(&dev->lock);
	return changed ? 0 : -1;
}

/* ---- life ---- */

static int dev_configure(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;
	const struct rte_eth_rxmode *rx = &eth->data->dev_conf.rxmode;

	if (rx->mq_mode & ~RTE_ETH_MQ_RX_RSS_FLAG) {
		ELISA_LOG(ERR, "%s: RX multi-queue mode %#x is not supported: none or RSS",
			  eth->data->name, rx->mq_mode);
		return -ENOTSUP;
	}
	return elisa_rss_configure(dev);
}

static void queue_states(struct rte_eth_dev *eth, uint8_t state)
{
	memset(eth->data->rx_queue_state, state, eth->data->nb_rx_queues);
	memset(eth->data->tx_queue_state, state, eth->data->nb_tx_queues);
}

static int dev_start(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;
	int rc;

	pthread_mutex_lock(&dev->lock);
	elisa_intr_start(eth);
	rc = elisa_port_start(dev);
	dev->started = !rc;
	if (rc)
		elisa_intr_stop(eth);
	if (!rc)
		elisa_port_check(dev);
	pthread_mutex_unlock(&dev->lock);
	if (rc)
		return rc;
	queue_states(eth, RTE_ETH_QUEUE_STATE_STARTED);
	rc = poll_later(dev);
	if (rc)
		ELISA_LOG(ERR, "%s: no alarm, so link changes go unseen: %s", eth->data->name,
			  strerror(-rc));
	return 0;
}

static int dev_stop(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	if (!dev->started)
		return 0;
	/* Waits for a running one, which does not wait for us. */
	rte_eal_alarm_cancel(poll_switch, dev);
	pthread_mutex_lock(&dev->lock);
	elisa_port_stop(dev);
	elisa_intr_stop(eth);
	dev->started = false;
	elisa_port_check(dev);
	pthread_mutex_unlock(&dev->lock);
	queue_states(eth, RTE_ETH_QUEUE_STATE_STOPPED);
	return 0;
}

static void dev_free(struct elisa_dev *dev)
{
	if (dev->ctl.fn)
		elisa_guest_call_del(dev->handle->guest, &dev->ctl);
	if (dev->handle)
		elisa_handle_put(dev->handle, dev->index);
	rte_memzone_free(dev->scratch);
	pthread_mutex_destroy(&dev->lock);
}

static int dev_close(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	dev_stop(eth);
	for (uint16_t i = 0; i < eth->data->nb_rx_queues; i++)
		rx_queue_release(eth, i);
	for (uint16_t i = 0; i < eth->data->nb_tx_queues; i++)
		tx_queue_release(eth, i);
	dev_free(dev);
	/* Part of dev_private, which ethdev frees. */
	eth->data->mac_addrs = NULL;
	return 0;
}

/* ethdev has stopped the port; it has to be configured anew. */
static int dev_reset(struct rte_eth_dev *eth)
{
	return dev_stop(eth);
}

static int mtu_set(struct rte_eth_dev *eth, uint16_t mtu)
{
	const struct elisa_dev *dev = eth->data->dev_private;

	/* Frames that its host allows arrive all the same. */
	if (mtu > dev->info.mtu) {
		ELISA_LOG(ERR, "%s: MTU %u: the host's limit for this port is %u", eth->data->name,
			  mtu, dev->info.mtu);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < eth->data->nb_rx_queues; i++) {
		struct pmd_rxq *q = eth->data->rx_queues[i];

		if (q && mtu + ELISA_OVERHEAD > q->buf_len)
			q->scatter = true;
	}
	return 0;
}

static int vlan_offload_set(struct rte_eth_dev *eth, int mask)
{
	const bool strip = eth->data->dev_conf.rxmode.offloads & RTE_ETH_RX_OFFLOAD_VLAN_STRIP;

	if (!(mask & RTE_ETH_VLAN_STRIP_MASK))
		return 0;
	for (unsigned int i = 0; i < eth->data->nb_rx_queues; i++) {
		struct pmd_rxq *q = eth->data->rx_queues[i];

		if (q)
			q->strip = strip;
	}
	return 0;
}

static const struct eth_dev_ops ops = {
	.dev_configure = dev_configure,
	.dev_start = dev_start,
	.dev_stop = dev_stop,
	.dev_close = dev_close,
	.dev_reset = dev_reset,
	.link_update = link_update,
	.dev_infos_get = infos_get,
	.rx_queue_setup = rx_queue_setup,
	.rx_queue_release = rx_queue_release,
	.tx_queue_setup = tx_queue_setup,
	.tx_queue_release = tx_queue_release,
	.rxq_info_get = rxq_info,
	.txq_info_get = txq_info,
	.rx_burst_mode_get = burst_mode,
	.tx_burst_mode_get = burst_mode,
	.tx_done_cleanup = tx_done_cleanup,
	.rx_queue_intr_enable = elisa_rx_intr_enable,
	.rx_queue_intr_disable = elisa_rx_intr_disable,
	.get_monitor_addr = elisa_get_monitor_addr,
	.mtu_set = mtu_set,
	.vlan_offload_set = vlan_offload_set,
	.promiscuous_enable = elisa_promiscuous_enable,
	.promiscuous_disable = elisa_promiscuous_disable,
	.allmulticast_enable = elisa_allmulticast_enable,
	.allmulticast_disable = elisa_allmulticast_disable,
	.mac_addr_set = elisa_mac_set,
	.mac_addr_add = elisa_mac_add,
	.mac_addr_remove = elisa_mac_remove,
	.set_mc_addr_list = elisa_mc_list,
	.reta_update = elisa_reta_update,
	.reta_query = elisa_reta_query,
	.rss_hash_update = elisa_rss_update,
	.rss_hash_conf_get = elisa_rss_get,
	.stats_get = elisa_stats_get,
	.stats_reset = elisa_stats_reset,
	.xstats_get = elisa_xstats_get,
	.xstats_reset = elisa_stats_reset,
	.xstats_get_names = elisa_xstats_names,
};

/* ---- probe ---- */

struct arguments {
	char port[sizeof(((struct elisa_port_info *)0)->name)];
	char transport[8];
	char socket[128], name[32], gate[12];
};

struct copy {
	char *to;
	size_t size;
};

static int copy_value(const char *key, const char *value, void *opaque)
{
	const struct copy *c = opaque;

	if (!value || strlen(value) >= c->size) {
		ELISA_LOG(ERR, "%s=%s: %zu characters at most", key, value ? value : "",
			  c->size - 1);
		return -EINVAL;
	}
	memcpy(c->to, value, strlen(value) + 1);
	return 0;
}

static int parse(const char *text, struct arguments *a)
{
	static const char *const keys[] = {ARG_PORT, ARG_TRANSPORT, ARG_SOCKET,
					   ARG_NAME, ARG_GATE,	    NULL};
	const struct copy to[] = {{a->port, sizeof(a->port)},
				  {a->transport, sizeof(a->transport)},
				  {a->socket, sizeof(a->socket)},
				  {a->name, sizeof(a->name)},
				  {a->gate, sizeof(a->gate)}};
	struct rte_kvargs *list;
	int rc = 0;

	memset(a, 0, sizeof(*a));
	strcpy(a->transport, "vmfunc");
	list = rte_kvargs_parse(text, keys);
	if (!list) {
		ELISA_LOG(ERR, "\"%s\": the arguments are " PARAMETERS, text);
		return -EINVAL;
	}
	for (unsigned int i = 0; !rc && i < RTE_DIM(to); i++)
		rc = rte_kvargs_process(list, keys[i], copy_value, (void *)(uintptr_t)&to[i]);
	rte_kvargs_free(list);
	if (rc)
		return -EINVAL;
	if (strcmp(a->transport, "vmfunc") && strcmp(a->transport, "local")) {
		ELISA_LOG(ERR, ARG_TRANSPORT "=%s: vmfunc or local", a->transport);
		return -EINVAL;
	}
	if (!strcmp(a->transport, "vmfunc") && (*a->socket || *a->name || *a->gate)) {
		ELISA_LOG(ERR,
			  ARG_SOCKET ", " ARG_NAME " and " ARG_GATE " are for transport=local");
		return -EINVAL;
	}
	return 0;
}

/* The host decides who gets a port, by the VM; a local client has to say which one it plays. */
static void make_spec(const struct arguments *a, char *spec, size_t len)
{
	const char *name = *a->name ? a->name : a->port;
	int n = snprintf(spec, len, "%s", a->transport);

	if (!strcmp(a->transport, "vmfunc"))
		return;
	n += snprintf(spec + n, len - (size_t)n, ":%s", a->socket);
	if (*name)
		n += snprintf(spec + n, len - (size_t)n, ",name=%s", name);
	if (*a->gate)
		snprintf(spec + n, len - (size_t)n, ",gate=%s", a->gate);
}

static int dev_init(struct elisa_dev *dev, const struct arguments *a)
{
	char spec[256];
	char zone[RTE_MEMZONE_NAMESIZE];
	int rc;

	make_spec(a, spec, sizeof(spec));
	rc = elisa_handle_get(spec, !strcmp(a->transport, "local"), &dev->handle);
	if (rc)
		return rc;
	dev->index = ELISA_NO_PORT;
	rc = elisa_guest_call_new(dev->handle->guest, &dev->ctl);
	if (rc)
		return rc;
	snprintf(zone, sizeof(zone), "elisa_scratch_%u", dev->data->port_id);
	dev->scratch = rte_memzone_reserve_aligned(zone, RTE_PGSIZE_4K, dev->data->numa_node,
						   RTE_MEMZONE_IOVA_CONTIG, RTE_PGSIZE_4K);
	if (!dev->scratch)
		return -ENOMEM;
	rc = elisa_port_find(dev, a->port);
	if (!rc)
		rc = elisa_handle_claim(dev->handle, dev->index);
	if (rc) {
		dev->index = ELISA_NO_PORT;
		return rc;
	}
	memcpy(dev->macs[0].addr_bytes, dev->info.mac, RTE_ETHER_ADDR_LEN);
	return 0;
}

static void eth_init(struct rte_eth_dev *eth, struct elisa_dev *dev)
{
	eth->data->mac_addrs = dev->macs;
	eth->data->mtu = RTE_MIN(dev->info.mtu, RTE_ETHER_MTU);
	eth->data->dev_flags = RTE_ETH_DEV_INTR_LSC | RTE_ETH_DEV_AUTOFILL_QUEUE_XSTATS;
	eth->data->dev_link.link_speed = RTE_ETH_SPEED_NUM_UNKNOWN;
	eth->dev_ops = &ops;
	eth->rx_pkt_burst = pmd_rx_burst;
	eth->tx_pkt_burst = pmd_tx_burst;
	eth->tx_pkt_prepare = pmd_tx_prepare;
	eth->rx_queue_count = elisa_rxq_count;
	eth->rx_descriptor_status = elisa_rx_descriptor_status;
	eth->tx_descriptor_status = elisa_tx_descriptor_status;
}

static int probe(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth;
	struct elisa_dev *dev;
	struct arguments a;
	int rc;

	if (rte_eal_process_type() != RTE_PROC_PRIMARY) {
		ELISA_LOG(ERR,
			  "%s: secondary processes are not supported: calls into the switch and "
			  "posted buffers belong to one process",
			  rte_vdev_device_name(vdev));
		return -ENOTSUP;
	}
	rc = parse(rte_vdev_device_args(vdev), &a);
	if (rc)
		return rc;
	eth = rte_eth_vdev_allocate(vdev, sizeof(*dev));
	if (!eth)
		return -ENOMEM;
	dev = eth->data->dev_private;
	dev->data = eth->data;
	dev->state = -ENETDOWN;
	pthread_mutex_init(&dev->lock, NULL);
	rc = dev_init(dev, &a);
	if (rc) {
		dev_free(dev);
		rte_eth_dev_release_port(eth);
		return rc;
	}
	eth_init(eth, dev);
	/* Counts from now on. */
	elisa_stats_reset(eth);
	rte_eth_dev_probing_finish(eth);
	return 0;
}

static int remove_dev(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth = rte_eth_dev_allocated(rte_vdev_device_name(vdev));

	if (!eth)
		return 0;
	if (eth->data->dev_started)
		rte_eth_dev_stop(eth->data->port_id);
	return rte_eth_dev_close(eth->data->port_id);
}

static struct rte_vdev_driver driver = {
	.probe = probe,
	.remove = remove_dev,
};

RTE_PMD_REGISTER_VDEV(net_elisa, driver);
RTE_PMD_REGISTER_PARAM_STRING(net_elisa, PARAMETERS);

/* What dpdk-pmdinfo.py looks for; DPDK's own build makes it from the two lines above. */
__rte_used static const char pmd_info[] =
	"PMD_INFO_STRING= {\"name\": \"net_elisa\", \"params\": \"" PARAMETERS
	"\", \"pci_ids\": []}";
