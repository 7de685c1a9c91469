/* SPDX-License-Identifier: BSD-3-Clause */
/* See fake.h. Sent buffers are held for a while, as hardware does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <bus_vdev_driver.h>
#include <ethdev_driver.h>
#include <ethdev_vdev.h>
#include <rte_flow_driver.h>
#include "fake.h"

#define HOLD 64

struct fake_dev fake_dev[FAKE_DEVS] __attribute__((visibility("default")));

struct queue {
	struct fake_dev *dev;
	struct fake_wire *wire;
	struct rte_mempool *pool;
	struct rte_mbuf *held[HOLD];
	uint32_t holds;
};

struct fake_private {
	struct fake_dev *dev;
	struct rte_ether_addr address[FAKE_MACS + 1];
};

static struct fake_dev *dev_of(struct rte_eth_dev *eth)
{
	return ((struct fake_private *)eth->data->dev_private)->dev;
}

/* ---- frames ---- */

static void record(struct fake_wire *w, struct rte_mbuf *m)
{
	struct fake_frame *f = &w->frame[w->put % FAKE_FRAMES];
	uint32_t at = 0;

	free(f->data);
	*f = (struct fake_frame){
		.len = m->pkt_len,
		.segs = m->nb_segs,
		.first_len = m->data_len,
		.ol_flags = m->ol_flags,
		.l2_len = m->l2_len,
		.l3_len = m->l3_len,
		.l4_len = m->l4_len,
		.tso_segsz = m->tso_segsz,
		.data = malloc(m->pkt_len),
	};
	for (; m; m = m->next) {
		memcpy(f->data + at, rte_pktmbuf_mtod(m, void *), m->data_len);
		at += m->data_len;
	}
	w->put++;
}

static uint16_t burst_tx(void *queue, struct rte_mbuf **m, uint16_t count)
{
	struct queue *q = queue;

	if (count > q->dev->accepts)
		count = q->dev->accepts;
	for (uint16_t i = 0; i < count; i++) {
		/* After it took some, before it says so. */
		if (q->dev->dies == FAKE_DIES_IN_TX && i == count / 2)
			longjmp(q->dev->grave, 1);
		record(q->wire, m[i]);
		rte_pktmbuf_free(q->held[q->holds % HOLD]);
		q->held[q->holds++ % HOLD] = m[i];
	}
	return count;
}

static uint16_t prepare(void *queue, struct rte_mbuf **m, uint16_t count)
{
	struct queue *q = queue;

	q->dev->prepared += count;
	for (uint16_t i = 0; i < count; i++)
		/* Something that this one cannot do, to see what becomes of it. */
		if (m[i]->tso_segsz == 77 && m[i]->ol_flags & RTE_MBUF_F_TX_TCP_SEG)
			return i;
	return count;
}

static struct rte_mbuf *take(struct queue *q, const struct fake_frame *f)
{
	struct rte_mbuf *head = rte_pktmbuf_alloc(q->pool), *last = head;
	uint32_t at = 0;

	while (last) {
		uint32_t part = f->len - at < f->seg_len ? f->len - at : f->seg_len;

		memcpy(rte_pktmbuf_mtod(last, void *), f->data + at, part);
		last->data_len = (uint16_t)part;
		at += part;
		if (at == f->len)
			break;
		last->next = rte_pktmbuf_alloc(q->pool);
		last = last->next;
		head->nb_segs++;
	}
	if (!last) {
		rte_pktmbuf_free(head);
		return NULL;
	}
	head->pkt_len = f->len;
	head->ol_flags = f->ol_flags;
	return head;
}

static uint16_t burst_rx(void *queue, struct rte_mbuf **m, uint16_t count)
{
	struct queue *q = queue;
	uint16_t n = 0;

	while (n < count && q->wire->got != q->wire->put) {
		m[n] = take(q, &q->wire->frame[q->wire->got % FAKE_FRAMES]);
		if (!m[n])
			break;
		q->wire->got++;
		n++;
		if (q->dev->dies == FAKE_DIES_IN_RX && n == count / 2)
			longjmp(q->dev->grave, 1);
	}
	return n;
}

/* ---- control ---- */

static int configure(struct rte_eth_dev *eth)
{
	return 0;
}

static int start(struct rte_eth_dev *eth)
{
	dev_of(eth)->starts++;
	return 0;
}

static void forget(struct queue *q)
{
	for (unsigned int i = 0; q && i < HOLD; i++) {
		rte_pktmbuf_free(q->held[i]);
		q->held[i] = NULL;
	}
}

static int stop(struct rte_eth_dev *eth)
{
	for (int i = 0; i < eth->data->nb_tx_queues; i++)
		forget(eth->data->tx_queues[i]);
	return 0;
}

static int close_dev(struct rte_eth_dev *eth)
{
	/* A part of dev_private. */
	eth->data->mac_addrs = NULL;
	return 0;
}

static int infos(struct rte_eth_dev *eth, struct rte_eth_dev_info *info)
{
	const struct fake_dev *dev = dev_of(eth);

	info->max_rx_queues = FAKE_QUEUES;
	info->max_tx_queues = FAKE_QUEUES;
	info->max_rx_pktlen = 9300;
	info->max_mtu = 9216;
	info->max_mac_addrs = FAKE_MACS + 1;
	info->tx_offload_capa = dev->tx_capa;
	info->rx_offload_capa = dev->rx_capa;
	info->tx_desc_lim.nb_mtu_seg_max = dev->segs_max;
	info->tx_desc_lim.nb_seg_max = dev->tso_segs_max;
	return 0;
}

static struct queue *queue_new(struct rte_eth_dev *eth, struct fake_wire *wire, void **slot)
{
	struct queue *q = rte_zmalloc("fake", sizeof(*q), 0);

	rte_free(*slot);
	q->dev = dev_of(eth);
	q->wire = wire;
	*slot = q;
	return q;
}

static int rx_setup(struct rte_eth_dev *eth, uint16_t id, uint16_t descs, unsigned int socket,
		    const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	queue_new(eth, &dev_of(eth)->received[id], &eth->data->rx_queues[id])->pool = pool;
	return 0;
}

static int tx_setup(struct rte_eth_dev *eth, uint16_t id, uint16_t descs, unsigned int socket,
		    const struct rte_eth_txconf *conf)
{
	queue_new(eth, &dev_of(eth)->sent[id], &eth->data->tx_queues[id]);
	return 0;
}

static void rx_release(struct rte_eth_dev *eth, uint16_t id)
{
	rte_free(eth->data->rx_queues[id]);
	eth->data->rx_queues[id] = NULL;
}

static void tx_release(struct rte_eth_dev *eth, uint16_t id)
{
	rte_free(eth->data->tx_queues[id]);
	eth->data->tx_queues[id] = NULL;
}

static int link_update(struct rte_eth_dev *eth, int wait)
{
	struct rte_eth_link link = {
		.link_speed = RTE_ETH_SPEED_NUM_1G,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_status = dev_of(eth)->link,
	};

	return rte_eth_linkstatus_set(eth, &link);
}

static int stats(struct rte_eth_dev *eth, struct rte_eth_stats *s)
{
	for (int i = 0; i < FAKE_QUEUES; i++) {
		s->ipackets += dev_of(eth)->received[i].got;
		s->opackets += dev_of(eth)->sent[i].put;
	}
	return 0;
}

static int promiscuous_on(struct rte_eth_dev *eth)
{
	dev_of(eth)->promiscuous = true;
	return 0;
}

static int promiscuous_off(struct rte_eth_dev *eth)
{
	dev_of(eth)->promiscuous = false;
	return 0;
}

static int allmulti_on(struct rte_eth_dev *eth)
{
	dev_of(eth)->allmulti = true;
	return 0;
}

static int allmulti_off(struct rte_eth_dev *eth)
{
	dev_of(eth)->allmulti = false;
	return 0;
}

static int mac_set(struct rte_eth_dev *eth, struct rte_ether_addr *address)
{
	memcpy(dev_of(eth)->address, address->addr_bytes, 6);
	return 0;
}

static int mac_add(struct rte_eth_dev *eth, struct rte_ether_addr *address, uint32_t index,
		   uint32_t pool)
{
	dev_of(eth)->filters++;
	return 0;
}

static void mac_remove(struct rte_eth_dev *eth, uint32_t index)
{
	dev_of(eth)->filters--;
}

static int mtu_set(struct rte_eth_dev *eth, uint16_t mtu)
{
	dev_of(eth)->mtu = mtu;
	return 0;
}

/* ---- rules ---- */

static int flow_validate(struct rte_eth_dev *eth, const struct rte_flow_attr *attr,
			 const struct rte_flow_item pattern[],
			 const struct rte_flow_action action[], struct rte_flow_error *error)
{
	if (dev_of(eth)->flow && attr->ingress && pattern[0].type == RTE_FLOW_ITEM_TYPE_ETH &&
	    action[0].type == RTE_FLOW_ACTION_TYPE_QUEUE)
		return 0;
	return rte_flow_error_set(error, ENOTSUP, RTE_FLOW_ERROR_TYPE_UNSPECIFIED, NULL, NULL);
}

static struct rte_flow *flow_create(struct rte_eth_dev *eth, const struct rte_flow_attr *attr,
				    const struct rte_flow_item pattern[],
				    const struct rte_flow_action action[],
				    struct rte_flow_error *error)
{
	const struct rte_flow_action_queue *queue = action[0].conf;

	if (flow_validate(eth, attr, pattern, action, error))
		return NULL;
	dev_of(eth)->flows++;
	dev_of(eth)->flow_queue = queue->index;
	return malloc(1);
}

static int flow_destroy(struct rte_eth_dev *eth, struct rte_flow *flow,
			struct rte_flow_error *error)
{
	free(flow);
	dev_of(eth)->flows--;
	return 0;
}

static const struct rte_flow_ops flow_ops = {
	.validate = flow_validate,
	.create = flow_create,
	.destroy = flow_destroy,
};

static int flow_ops_get(struct rte_eth_dev *eth, const struct rte_flow_ops **ops)
{
	*ops = &flow_ops;
	return 0;
}

static const struct eth_dev_ops dev_ops = {
	.dev_configure = configure,
	.dev_start = start,
	.dev_stop = stop,
	.dev_close = close_dev,
	.dev_infos_get = infos,
	.rx_queue_setup = rx_setup,
	.tx_queue_setup = tx_setup,
	.rx_queue_release = rx_release,
	.tx_queue_release = tx_release,
	.link_update = link_update,
	.stats_get = stats,
	.promiscuous_enable = promiscuous_on,
	.promiscuous_disable = promiscuous_off,
	.allmulticast_enable = allmulti_on,
	.allmulticast_disable = allmulti_off,
	.mac_addr_set = mac_set,
	.mac_addr_add = mac_add,
	.mac_addr_remove = mac_remove,
	.mtu_set = mtu_set,
	.flow_ops_get = flow_ops_get,
};

static int probe(struct rte_vdev_device *vdev)
{
	unsigned int number = (unsigned int)atoi(rte_vdev_device_name(vdev) + strlen("net_fake"));
	struct rte_ether_addr address = {{2, 0xfa, 0, 0, 0, (uint8_t)(number + 1)}};
	struct fake_private *private;
	struct rte_eth_dev *eth;

	if (number >= FAKE_DEVS)
		return -EINVAL;
	eth = rte_eth_vdev_allocate(vdev, sizeof(*private));
	if (!eth)
		return -ENOMEM;
	private = eth->data->dev_private;
	private->dev = &fake_dev[number];
	private->address[0] = address;
	memcpy(private->dev->address, address.addr_bytes, 6);
	eth->data->mac_addrs = private->address;
	eth->data->dev_flags |= RTE_ETH_DEV_AUTOFILL_QUEUE_XSTATS;
	eth->dev_ops = &dev_ops;
	eth->rx_pkt_burst = burst_rx;
	eth->tx_pkt_burst = burst_tx;
	eth->tx_pkt_prepare = prepare;
	rte_eth_dev_probing_finish(eth);
	return 0;
}

static int leave(struct rte_vdev_device *vdev)
{
	struct rte_eth_dev *eth = rte_eth_dev_allocated(rte_vdev_device_name(vdev));

	return eth ? rte_eth_dev_close(eth->data->port_id) : 0;
}

static struct rte_vdev_driver fake_driver = {.probe = probe, .remove = leave};

RTE_PMD_REGISTER_VDEV(net_fake, fake_driver);
