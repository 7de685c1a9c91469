/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Statistics. The queues count what they hand over; the switch counts what became of it, by port.
 *
 *	ipackets, opackets	taken from RX rings, given to the switch
 *	imissed			dropped by the switch on their way to this port
 *	oerrors			given to the switch and dropped for what this side did
 *	ierrors			void completions, frames longer than a buffer without scatter
 *
 * So all packets of a sender = received by others + its oerrors + the receivers' imissed.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "elisa_pmd.h"

#define AT(field) (offsetof(struct elisa_port_counters, field) / sizeof(uint64_t))

static const struct {
	const char *name;
	unsigned int at; /* which of the counters' words */
} names[] = {{"port_tx_frames", AT(tx_frames)},
	     {"port_tx_bytes", AT(tx_bytes)},
	     {"port_rx_frames", AT(rx_frames)},
	     {"port_rx_bytes", AT(rx_bytes)},
	     {"port_tx_unicast", AT(tx_unicast)},
	     {"port_tx_multicast", AT(tx_multicast)},
	     {"port_tx_broadcast", AT(tx_broadcast)},
	     {"port_tx_flooded", AT(tx_flooded)},
	     {"port_tx_calls", AT(tx_calls)},
	     {"port_tx_checksums", AT(tx_csum)},
	     {"port_tx_segmented", AT(tx_segmented)},
	     {"port_tx_segments", AT(tx_segments)},
	     {"port_tx_bells", AT(tx_bells)},
#define DROP(id, name) {"drop_" name, AT(drops) + ELISA_DROP_##id},
	     ELISA_DROPS(DROP)
#undef DROP
};

/* Counters of this process, after the switch's. */
static const char *const own_names[] = {"rx_void_frames", "rx_frames_longer_than_buffer",
					"rx_no_mbuf", "tx_bad_mbufs"};
#define OWN RTE_DIM(own_names)

/* With dev->lock held. Without an answer the former values stay. */
static void read_port(struct elisa_dev *dev)
{
	const uint64_t *now = dev->scratch->addr;

	if (elisa_ctl(dev, ELISA_NET_COUNTERS, dev->index, dev->scratch->iova) < 0)
		return;
	for (unsigned int i = 0; i < ELISA_PORT_STATS; i++) {
		struct elisa_stat *s = &dev->stats[i];

		if (now[i] < s->last)
			s->carry += s->last;
		s->last = now[i];
	}
}

static uint64_t value(const struct elisa_stat *s)
{
	return s->carry + s->last - s->base;
}

static void own_values(const struct elisa_dev *dev, uint64_t own[OWN])
{
	memset(own, 0, OWN * sizeof(*own));
	for (unsigned int i = 0; i < dev->data->nb_rx_queues; i++) {
		const struct pmd_rxq *q = dev->data->rx_queues[i];

		if (!q)
			continue;
		own[0] += q->aborted;
		own[1] += q->too_long;
		own[2] += q->no_mbuf;
	}
	for (unsigned int i = 0; i < dev->data->nb_tx_queues; i++) {
		const struct pmd_txq *q = dev->data->tx_queues[i];

		if (q)
			own[3] += q->bad;
	}
}

int elisa_stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats)
{
	struct elisa_dev *dev = eth->data->dev_private;
	uint64_t own[OWN];

	for (unsigned int i = 0; i < eth->data->nb_rx_queues; i++) {
		const struct pmd_rxq *q = eth->data->rx_queues[i];

		if (!q)
			continue;
		stats->ipackets += q->packets;
		stats->ibytes += q->bytes;
		if (i < RTE_ETHDEV_QUEUE_STAT_CNTRS) {
			stats->q_ipackets[i] = q->packets;
			stats->q_ibytes[i] = q->bytes;
		}
	}
	for (unsigned int i = 0; i < eth->data->nb_tx_queues; i++) {
		const struct pmd_txq *q = eth->data->tx_queues[i];

		if (!q)
			continue;
		stats->opackets += q->packets;
		stats->obytes += q->bytes;
		if (i < RTE_ETHDEV_QUEUE_STAT_CNTRS) {
			stats->q_opackets[i] = q->packets;
			stats->q_obytes[i] = q->bytes;
		}
	}
	own_values(dev, own);
	stats->ierrors = own[0] + own[1];
	stats->rx_nombuf = own[2];
	stats->oerrors = own[3];
	pthread_mutex_lock(&dev->lock);
	read_port(dev);
	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++) {
		if (i < ELISA_DROP_RX_LINK_DOWN)
			stats->oerrors += value(&dev->stats[AT(drops) + i]);
		else if (i != ELISA_DROP_RX_FILTERED)
			stats->imissed += value(&dev->stats[AT(drops) + i]);
	}
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

int elisa_stats_reset(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	for (unsigned int i = 0; i < eth->data->nb_rx_queues; i++) {
		struct pmd_rxq *q = eth->data->rx_queues[i];

		if (q)
			q->packets = q->bytes = q->aborted = q->too_long = q->no_mbuf = 0;
	}
	for (unsigned int i = 0; i < eth->data->nb_tx_queues; i++) {
		struct pmd_txq *q = eth->data->tx_queues[i];

		if (q)
			q->packets = q->bytes = q->bad = 0;
	}
	pthread_mutex_lock(&dev->lock);
	read_port(dev);
	for (unsigned int i = 0; i < ELISA_PORT_STATS; i++)
		dev->stats[i].base = dev->stats[i].carry + dev->stats[i].last;
	pthread_mutex_unlock(&dev->lock);
	return 0;
}

int elisa_xstats_get(struct rte_eth_dev *eth, struct rte_eth_xstat *stats, unsigned int n)
{
	struct elisa_dev *dev = eth->data->dev_private;
	const unsigned int all = RTE_DIM(names) + OWN;
	uint64_t own[OWN];

	if (n < all || !stats)
		return (int)all;
	pthread_mutex_lock(&dev->lock);
	read_port(dev);
	for (unsigned int i = 0; i < RTE_DIM(names); i++)
		stats[i] = (struct rte_eth_xstat){i, value(&dev->stats[names[i].at])};
	pthread_mutex_unlock(&dev->lock);
	own_values(dev, own);
	for (unsigned int i = 0; i < OWN; i++)
		stats[RTE_DIM(names) + i] = (struct rte_eth_xstat){RTE_DIM(names) + i, own[i]};
	return (int)all;
}

int elisa_xstats_names(struct rte_eth_dev *eth, struct rte_eth_xstat_name *out, unsigned int n)
{
	const unsigned int all = RTE_DIM(names) + OWN;

	(void)eth;
	for (unsigned int i = 0; out && i < all && i < n; i++)
		snprintf(out[i].name, sizeof(out[i].name), "%s",
			 i < RTE_DIM(names) ? names[i].name : own_names[i - RTE_DIM(names)]);
	return (int)all;
}
