/* SPDX-License-Identifier: BSD-3-Clause */
/* Which frames a port wants (ELISA_NET_RX_MODE), and to which queue they go (ELISA_NET_RSS). */
#include <errno.h>
#include <string.h>

#include "elisa_pmd.h"

#define TRIES 100 /* a millisecond apart, while somebody else holds the port's try-lock */

/* Has the switch read `what` for this port. With dev->lock held. */
static int64_t tell(const struct elisa_dev *dev, uint64_t op, const void *what, size_t len)
{
	int64_t r = -ELISA_EAGAIN;

	memcpy(dev->scratch->addr, what, len);
	for (int i = 0; r == -ELISA_EAGAIN && i < TRIES; i++) {
		if (i)
			rte_delay_us_sleep(1000);
		r = elisa_ctl(dev, op, dev->index, dev->scratch->iova);
	}
	return r;
}

/* ---- addresses and modes ---- */

static int put_mac(struct elisa_rx_mode *mode, const struct rte_ether_addr *mac)
{
	const unsigned int n = mode->unicast + mode->multicast;

	if (n == ELISA_MACS_MAX)
		return -ENOSPC;
	memcpy(mode->mac[n], mac->addr_bytes, 6);
	return 0;
}

static int make_mode(const struct elisa_dev *dev, struct elisa_rx_mode *mode)
{
	int rc = 0;

	memset(mode, 0, sizeof(*mode));
	if (dev->promiscuous)
		mode->flags |= ELISA_RX_PROMISC;
	if (dev->all_multicast)
		mode->flags |= ELISA_RX_ALLMULTI;
	for (unsigned int i = 0; !rc && i < ELISA_MACS_MAX; i++) {
		if (rte_is_zero_ether_addr(&dev->macs[i]) ||
		    rte_is_multicast_ether_addr(&dev->macs[i]))
			continue;
		rc = put_mac(mode, &dev->macs[i]);
		mode->unicast++;
	}
	/* ethdev lets multicast addresses into its table, too. */
	for (unsigned int i = 0; !rc && i < ELISA_MACS_MAX; i++) {
		if (!rte_is_multicast_ether_addr(&dev->macs[i]))
			continue;
		rc = put_mac(mode, &dev->macs[i]);
		mode->multicast++;
	}
	for (unsigned int i = 0; !rc && i < dev->n_groups; i++) {
		rc = put_mac(mode, &dev->groups[i]);
		mode->multicast++;
	}
	return rc;
}

/* With dev->lock held. */
int elisa_mode_apply(struct elisa_dev *dev)
{
	struct elisa_rx_mode mode;
	int64_t r = make_mode(dev, &mode);

	if (r)
		return (int)r;
	r = tell(dev, ELISA_NET_RX_MODE, &mode, sizeof(mode));
	if (r == -ELISA_ENOSYS) {
		if (!dev->no_filters)
			ELISA_LOG(WARNING,
				  "%s: the switch knows no receive modes: every frame for "
				  "the port arrives",
				  dev->data->name);
		dev->no_filters = true;
		return 0;
	}
	if (r == -ELISA_EPERM)
		ELISA_LOG(ERR, "%s: the host does not allow this port one of these addresses",
			  dev->data->name);
	return (int)r;
}

/* Once it runs: a stopped port is told all when it starts. */
static int mode_changed(struct elisa_dev *dev)
{
	int rc = 0;

	pthread_mutex_lock(&dev->lock);
	if (dev->set_up)
		rc = elisa_mode_apply(dev);
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int set_flag(struct elisa_dev *dev, bool *flag, bool value)
{
	const bool old = *flag;
	int rc;

	*flag = value;
	rc = mode_changed(dev);
	if (rc)
		*flag = old;
	return rc;
}

int elisa_promiscuous_enable(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	return set_flag(dev, &dev->promiscuous, true);
}

int elisa_promiscuous_disable(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	return set_flag(dev, &dev->promiscuous, false);
}

int elisa_allmulticast_enable(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	return set_flag(dev, &dev->all_multicast, true);
}

int elisa_allmulticast_disable(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	return set_flag(dev, &dev->all_multicast, false);
}

static int set_mac(struct elisa_dev *dev, uint32_t index, const struct rte_ether_addr *mac)
{
	const struct rte_ether_addr old = dev->macs[index];
	int rc;

	dev->macs[index] = *mac;
	rc = mode_changed(dev);
	if (rc)
		dev->macs[index] = old;
	return rc;
}

int elisa_mac_set(struct rte_eth_dev *eth, struct rte_ether_addr *mac)
{
	return set_mac(eth->data->dev_private, 0, mac);
}

int elisa_mac_add(struct rte_eth_dev *eth, struct rte_ether_addr *mac, uint32_t index,
		  uint32_t pool)
{
	(void)pool;
	return set_mac(eth->data->dev_private, index, mac);
}

void elisa_mac_remove(struct rte_eth_dev *eth, uint32_t index)
{
	static const struct rte_ether_addr none;

	set_mac(eth->data->dev_private, index, &none);
}

int elisa_mc_list(struct rte_eth_dev *eth, struct rte_ether_addr *list, uint32_t n)
{
	struct elisa_dev *dev = eth->data->dev_private;
	struct rte_ether_addr old[ELISA_MACS_MAX];
	const uint16_t n_old = dev->n_groups;
	int rc;

	if (n > ELISA_MACS_MAX)
		return -ENOSPC;
	memcpy(old, dev->groups, sizeof(old));
	memcpy(dev->groups, list, n * sizeof(*list));
	dev->n_groups = (uint16_t)n;
	rc = mode_changed(dev);
	if (rc) {
		memcpy(dev->groups, old, sizeof(old));
		dev->n_groups = n_old;
	}
	return rc;
}

/* ---- RSS ---- */

/* Microsoft's key of the RSS specification, which everybody begins with. */
static const uint8_t default_key[ELISA_RSS_KEY_LEN] = {
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
	0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
	0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* The last ones are implied by their type's first one. */
static const struct {
	uint64_t ethdev;
	uint32_t elisa;
} types[] = {
	{RTE_ETH_RSS_IPV4, ELISA_RSS_IPV4},
	{RTE_ETH_RSS_NONFRAG_IPV4_TCP, ELISA_RSS_TCP4},
	{RTE_ETH_RSS_NONFRAG_IPV4_UDP, ELISA_RSS_UDP4},
	{RTE_ETH_RSS_IPV6, ELISA_RSS_IPV6},
	{RTE_ETH_RSS_NONFRAG_IPV6_TCP, ELISA_RSS_TCP6},
	{RTE_ETH_RSS_NONFRAG_IPV6_UDP, ELISA_RSS_UDP6},
	{RTE_ETH_RSS_FRAG_IPV4, ELISA_RSS_IPV4},
	{RTE_ETH_RSS_NONFRAG_IPV4_OTHER, ELISA_RSS_IPV4},
	{RTE_ETH_RSS_FRAG_IPV6, ELISA_RSS_IPV6},
	{RTE_ETH_RSS_NONFRAG_IPV6_OTHER, ELISA_RSS_IPV6},
	{RTE_ETH_RSS_IPV6_EX, ELISA_RSS_IPV6},
	{RTE_ETH_RSS_IPV6_TCP_EX, ELISA_RSS_TCP6},
	{RTE_ETH_RSS_IPV6_UDP_EX, ELISA_RSS_UDP6},
};

uint64_t elisa_rss_types(void)
{
	uint64_t all = 0;

	for (unsigned int i = 0; i < RTE_DIM(types); i++)
		all |= types[i].ethdev;
	return all;
}

static uint32_t to_elisa(uint64_t hf)
{
	uint32_t bits = 0;

	for (unsigned int i = 0; i < RTE_DIM(types); i++)
		if (hf & types[i].ethdev)
			bits |= types[i].elisa;
	return bits;
}

/* With dev->lock held. */
int elisa_rss_apply(struct elisa_dev *dev)
{
	int64_t r = tell(dev, ELISA_NET_RSS, &dev->rss, sizeof(dev->rss));

	if (r == -ELISA_ENOSYS && !dev->rss.types)
		return 0;
	if (r < 0)
		ELISA_LOG(ERR, "%s: the switch refuses the RSS settings: %s", dev->data->name,
			  r == -ELISA_ENOSYS ? "it knows none" : strerror((int)-r));
	return (int)r;
}

static int rss_changed(struct elisa_dev *dev, const struct elisa_rss *rss)
{
	const struct elisa_rss old = dev->rss;
	int rc = 0;

	pthread_mutex_lock(&dev->lock);
	dev->rss = *rss;
	if (dev->set_up)
		rc = elisa_rss_apply(dev);
	if (rc)
		dev->rss = old;
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int take_conf(const struct rte_eth_rss_conf *conf, struct elisa_rss *rss)
{
	if (conf->rss_hf & ~elisa_rss_types())
		return -EINVAL;
	if (conf->rss_key) {
		if (conf->rss_key_len && conf->rss_key_len != ELISA_RSS_KEY_LEN)
			return -EINVAL;
		memcpy(rss->key, conf->rss_key, ELISA_RSS_KEY_LEN);
	}
	rss->types = to_elisa(conf->rss_hf);
	return 0;
}

/* At configure: the queues may be others now, so the table starts as round robin. */
int elisa_rss_configure(struct elisa_dev *dev)
{
	const struct rte_eth_conf *conf = &dev->data->dev_conf;
	const uint16_t queues = RTE_MAX(dev->data->nb_rx_queues, 1);

	memset(&dev->rss, 0, sizeof(dev->rss));
	memcpy(dev->rss.key, default_key, sizeof(default_key));
	for (unsigned int i = 0; i < ELISA_RETA_SIZE; i++)
		dev->rss.reta[i] = (uint8_t)(i % queues);
	if (!(conf->rxmode.mq_mode & RTE_ETH_MQ_RX_RSS_FLAG))
		return 0;
	return take_conf(&conf->rx_adv_conf.rss_conf, &dev->rss);
}

int elisa_reta_update(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *reta, uint16_t size)
{
	struct elisa_dev *dev = eth->data->dev_private;
	struct elisa_rss rss = dev->rss;

	if (size != ELISA_RETA_SIZE)
		return -EINVAL;
	for (unsigned int i = 0; i < size; i++) {
		const struct rte_eth_rss_reta_entry64 *group = &reta[i / RTE_ETH_RETA_GROUP_SIZE];
		const unsigned int at = i % RTE_ETH_RETA_GROUP_SIZE;

		if (!(group->mask >> at & 1))
			continue;
		if (group->reta[at] >= eth->data->nb_rx_queues)
			return -EINVAL;
		rss.reta[i] = (uint8_t)group->reta[at];
	}
	return rss_changed(dev, &rss);
}

int elisa_reta_query(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *reta, uint16_t size)
{
	const struct elisa_dev *dev = eth->data->dev_private;

	if (size != ELISA_RETA_SIZE)
		return -EINVAL;
	for (unsigned int i = 0; i < size; i++) {
		struct rte_eth_rss_reta_entry64 *group = &reta[i / RTE_ETH_RETA_GROUP_SIZE];

		if (group->mask >> i % RTE_ETH_RETA_GROUP_SIZE & 1)
			group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = dev->rss.reta[i];
	}
	return 0;
}

int elisa_rss_update(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf)
{
	struct elisa_dev *dev = eth->data->dev_private;
	struct elisa_rss rss = dev->rss;
	int rc = take_conf(conf, &rss);

	return rc ? rc : rss_changed(dev, &rss);
}

int elisa_rss_get(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf)
{
	const struct elisa_dev *dev = eth->data->dev_private;

	conf->rss_hf = 0;
	for (unsigned int i = 0; i < RTE_DIM(types); i++)
		if (dev->rss.types & types[i].elisa)
			conf->rss_hf |= types[i].ethdev;
	if (conf->rss_key && conf->rss_key_len >= ELISA_RSS_KEY_LEN) {
		memcpy(conf->rss_key, dev->rss.key, ELISA_RSS_KEY_LEN);
		conf->rss_key_len = ELISA_RSS_KEY_LEN;
	}
	return 0;
}
