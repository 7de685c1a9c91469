/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port's life with the switch: its queues' set-up and reset, its link, and what to do when the
 * switch went away or forgot us.
 *
 * Queue i of the switch is RX queue i and TX queue i of ethdev, whose halves two threads may use.
 * To change them, control takes both `busy` flags; meanwhile bursts find nothing to do.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "elisa_pmd.h"

static unsigned int pairs(const struct elisa_dev *dev)
{
	return RTE_MAX(dev->data->nb_rx_queues, dev->data->nb_tx_queues);
}

static struct pmd_rxq *rxq(const struct elisa_dev *dev, unsigned int i)
{
	return i < dev->data->nb_rx_queues ? dev->data->rx_queues[i] : NULL;
}

static struct pmd_txq *txq(const struct elisa_dev *dev, unsigned int i)
{
	return i < dev->data->nb_tx_queues ? dev->data->tx_queues[i] : NULL;
}

const char *elisa_state_text(int state)
{
	switch (-state) {
	case 0:
		return "up";
	case ENETDOWN:
		return "the host has it down";
	case ELISA_ENOTCONN:
		return "this VM is not attached to a switch";
	case ELISA_ESHUTDOWN:
		return "the switch is away";
	case ELISA_ESTALE:
	case ELISA_EAGAIN:
		return "being set up";
	case ELISA_ENODEV:
		return "the switch has no such port any more";
	default:
		return strerror(-state);
	}
}

static uint64_t now_ms(void)
{
	return rte_get_timer_cycles() / (rte_get_timer_hz() / 1000);
}

/* Asks again while the answer is EAGAIN, once a millisecond, until `end`. */
static int64_t ask(const struct elisa_dev *dev, uint64_t op, uint64_t a1, uint64_t end)
{
	int64_t r;

	while ((r = elisa_ctl(dev, op, a1, 0)) == -ELISA_EAGAIN && now_ms() < end)
		rte_delay_us_sleep(1000);
	return r;
}

/* ---- finding the port ---- */

static int get_info(struct elisa_dev *dev, uint16_t index, struct elisa_port_info *info)
{
	int64_t r;

	memset(dev->scratch->addr, 0, sizeof(*info));
	r = elisa_ctl(dev, ELISA_NET_PORT_INFO, index, dev->scratch->iova);
	if (r < 0)
		return (int)r;
	memcpy(info, dev->scratch->addr, sizeof(*info));
	info->name[sizeof(info->name) - 1] = '\0';
	return info->revision == ELISA_NET_REVISION ? 0 : -EPROTO;
}

int elisa_port_find(struct elisa_dev *dev, const char *which)
{
	char *end;
	unsigned long n = strtoul(which, &end, 10);
	bool number = *which >= '0' && *which <= '9' && !*end;
	char known[8 * (sizeof(dev->info.name) + 2)] = "";
	int rc;

	for (uint16_t i = 0; i < ELISA_PORTS_PER_VM; i++) {
		rc = get_info(dev, i, &dev->info);
		if (rc == -ELISA_ENODEV)
			continue;
		if (rc) {
			ELISA_LOG(ERR, "port %u: %s", i, elisa_state_text(rc));
			return rc;
		}
		if (!*which || (number && n == i) || !strcmp(dev->info.name, which)) {
			dev->index = i;
			return 0;
		}
		snprintf(known + strlen(known), sizeof(known) - strlen(known), " %s",
			 dev->info.name);
	}
	ELISA_LOG(ERR, "port=%s: no such port; this VM has:%s", which,
		  *known ? known : " none (elisactl attach ... --port NAME gives it one)");
	return -ENODEV;
}

/* ---- queues ---- */

static int reset_queues(const struct elisa_dev *dev, uint64_t end)
{
	int rc = 0;

	for (unsigned int i = 0; i < pairs(dev); i++) {
		int64_t r = ask(dev, ELISA_NET_QUEUE_RESET, (uint64_t)dev->index << 16 | i, end);

		/* No such queue: then nobody uses it either. Any other answer says nothing. */
		if (r < 0 && r != -ELISA_ENODEV)
			rc = (int)r;
	}
	return rc;
}

/* The posted mbufs from slot 0 on, and the numbers from 0 on, as the switch counts. */
static int rewind_rx(struct pmd_rxq *q)
{
	const uint32_t n = q->posted - q->head;
	struct rte_mbuf **old = NULL;

	if (n) {
		old = rte_malloc(NULL, n * sizeof(*old), 0);
		if (!old)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		old[i] = q->sw[(q->head + i) & q->mask];
	q->head = 0;
	q->posted = n;
	for (uint32_t i = 0; i < n; i++) {
		q->sw[i] = old[i];
		q->ring->addr[i] = rte_mbuf_iova_get(old[i]) + RTE_PKTMBUF_HEADROOM;
	}
	rte_free(old);
	memset(q->comp, 0, (q->mask + 1) * sizeof(*q->comp));
	return 0;
}

/* `posted` advances by whole batches, so that a batch never meets the ring's end. */
static int fill_rx(struct pmd_rxq *q)
{
	int rc = rewind_rx(q);

	while (!rc && q->posted % ELISA_RX_BATCH) {
		struct rte_mbuf *m = rte_mbuf_raw_alloc(q->pool);

		if (!m)
			break;
		q->sw[q->posted] = m;
		q->ring->addr[q->posted++] = rte_mbuf_iova_get(m) + RTE_PKTMBUF_HEADROOM;
	}
	if (!rc && (q->posted % ELISA_RX_BATCH || !elisa_rxq_refill(q)))
		rc = -ENOMEM;
	__atomic_store_n(&q->ring->posted, q->posted, __ATOMIC_RELEASE);
	if (rc)
		ELISA_LOG(ERR, "RX queue %u: no mbufs left in %s to post", q->index, q->pool->name);
	return rc;
}

static uint32_t features(const struct elisa_dev *dev, const struct pmd_rxq *q)
{
	uint32_t f = 0;

	if (q->offloads & (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM))
		f |= ELISA_NET_F_CSUM;
	if (q->offloads & RTE_ETH_RX_OFFLOAD_TCP_LRO)
		f |= ELISA_NET_F_CSUM | ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6;
	if (dev->sleeper)
		f |= ELISA_NET_F_EVENT;
	return f & dev->info.features;
}

static int setup_pair(struct elisa_dev *dev, unsigned int i, uint64_t end)
{
	struct elisa_queue_setup s = {
		.revision = ELISA_NET_REVISION,
		.port = dev->index,
		.queue = (uint16_t)i,
	};
	struct pmd_rxq *rx = rxq(dev, i);
	struct pmd_txq *tx = txq(dev, i);
	int64_t r;
	int rc;

	if (rx) {
		rc = fill_rx(rx);
		if (rc)
			return rc;
		s.rx_size = rx->mask + 1;
		s.rx_buf_len = rx->buf_len;
		s.rx_ring = rx->ring_iova;
		s.rx_comp = rx->comp_iova;
		s.features = features(dev, rx);
	}
	if (tx) {
		memset(tx->ring, 0, (tx->mask + 1) * sizeof(*tx->ring));
		tx->next = 0;
		s.tx_size = tx->mask + 1;
		s.tx_ring = tx->mz->iova;
	}
	memcpy(dev->scratch->addr, &s, sizeof(s));
	r = ask(dev, ELISA_NET_QUEUE_SETUP, dev->scratch->iova, end);
	if (r < 0)
		return (int)r;
	if (tx)
		tx->handle = (uint64_t)r;
	if (!i)
		dev->first_handle = (uint64_t)r;
	return 0;
}

/* ---- taking the halves from the data path ---- */

static bool take_flag(uint32_t *busy, uint64_t end)
{
	while (!elisa_try(busy)) {
		if (now_ms() >= end)
			return false;
		rte_delay_us_sleep(10);
	}
	return true;
}

static void give_queues(struct elisa_dev *dev, unsigned int n_rx, unsigned int n_tx)
{
	for (unsigned int i = 0; i < n_rx; i++)
		elisa_release(&rxq(dev, i)->busy);
	for (unsigned int i = 0; i < n_tx; i++)
		elisa_release(&txq(dev, i)->busy);
}

static bool take_queues(struct elisa_dev *dev, uint64_t end)
{
	unsigned int n_rx = 0, n_tx = 0;

	while (n_rx < dev->data->nb_rx_queues && take_flag(&rxq(dev, n_rx)->busy, end))
		n_rx++;
	if (n_rx == dev->data->nb_rx_queues)
		while (n_tx < dev->data->nb_tx_queues && take_flag(&txq(dev, n_tx)->busy, end))
			n_tx++;
	if (n_rx == dev->data->nb_rx_queues && n_tx == dev->data->nb_tx_queues)
		return true;
	give_queues(dev, n_rx, n_tx);
	return false;
}

static void give_all(struct elisa_dev *dev)
{
	give_queues(dev, dev->data->nb_rx_queues, dev->data->nb_tx_queues);
}

static void mark(struct elisa_dev *dev, bool up)
{
	for (unsigned int i = 0; i < dev->data->nb_rx_queues; i++) {
		rxq(dev, i)->up = up;
		rxq(dev, i)->poller = NULL;
	}
	for (unsigned int i = 0; i < dev->data->nb_tx_queues; i++)
		txq(dev, i)->up = up;
}

/* ---- set-up ---- */

/* A former set-up is undone first, so that its late senders cannot write into rings cleared here.
 */
static int set_up_taken(struct elisa_dev *dev, uint64_t end)
{
	int64_t hello = elisa_ctl(dev, ELISA_OP_HELLO, ELISA_ABI_REVISION, 0);
	int rc;

	if (hello < 0)
		return (int)hello;
	rc = get_info(dev, dev->index, &dev->info);
	if (!rc)
		rc = reset_queues(dev, end);
	for (unsigned int i = 0; !rc && i < pairs(dev); i++)
		rc = setup_pair(dev, i, end);
	if (!rc)
		rc = elisa_rss_apply(dev);
	if (!rc)
		rc = elisa_mode_apply(dev);
	if (rc)
		return rc;
	dev->generation = ELISA_HELLO_GENERATION(hello);
	dev->set_up = true;
	return 0;
}

static int set_up(struct elisa_dev *dev, uint64_t ms)
{
	const uint64_t end = now_ms() + ms;
	int rc;

	if (!take_queues(dev, end))
		return -ELISA_EAGAIN;
	mark(dev, false);
	rc = set_up_taken(dev, end);
	mark(dev, !rc);
	if (!rc)
		elisa_intr_wake_all(dev);
	give_all(dev);
	return rc;
}

int elisa_port_start(struct elisa_dev *dev)
{
	int rc = 0;

	for (unsigned int i = 0; !rc && i < pairs(dev); i++)
		rc = elisa_handle_undo(dev->handle, dev->index, (uint16_t)i);
	if (!rc)
		rc = set_up(dev, ELISA_PATIENCE_MS);
	dev->set_up = !rc;
	/* It comes up by itself once the switch is there. */
	if (rc == -ELISA_ESHUTDOWN) {
		ELISA_LOG(WARNING, "%s: %s", dev->data->name, elisa_state_text(rc));
		return 0;
	}
	if (rc)
		ELISA_LOG(ERR, "%s: not started: %s", dev->data->name, elisa_state_text(rc));
	return rc;
}

static uint32_t drop_posted(struct pmd_rxq *q)
{
	uint32_t n = q->posted - q->head;

	for (; q->head != q->posted; q->head++)
		rte_mbuf_raw_free(q->sw[q->head & q->mask]);
	return n;
}

int elisa_rxq_drain(struct elisa_dev *dev, struct pmd_rxq *q)
{
	int64_t r;

	if (q->posted == q->head)
		return 0;
	r = ask(dev, ELISA_NET_QUEUE_RESET, (uint64_t)dev->index << 16 | q->index,
		now_ms() + ELISA_PATIENCE_MS);
	if (r < 0 && r != -ELISA_ENODEV)
		return (int)r;
	drop_posted(q);
	return 0;
}

/* The mbufs of a queue whose reset was not confirmed stay posted: a later start has use for them.
 */
void elisa_port_stop(struct elisa_dev *dev)
{
	const uint64_t end = now_ms() + ELISA_PATIENCE_MS;
	bool taken = take_queues(dev, end);
	int rc;

	mark(dev, false);
	rc = reset_queues(dev, end);
	for (unsigned int i = 0; !rc && i < dev->data->nb_rx_queues; i++)
		drop_posted(rxq(dev, i));
	if (rc)
		ELISA_LOG(WARNING, "%s: %s: posted mbufs are kept, since frames may still arrive",
			  dev->data->name, elisa_state_text(rc));
	if (taken)
		give_all(dev);
	dev->set_up = false;
}

/* ---- link and recovery ---- */

/* NICs come and go. The data path may be in. */
static void nics_tell(struct elisa_dev *dev, bool poll)
{
	const unsigned int n_tx = dev->data->nb_tx_queues;

	for (unsigned int i = 0; i < dev->data->nb_rx_queues; i++)
		__atomic_store_n(&rxq(dev, i)->poller, poll && n_tx ? txq(dev, i % n_tx) : NULL,
				 __ATOMIC_RELAXED);
}

static int look(struct elisa_dev *dev)
{
	int64_t hello = elisa_ctl(dev, ELISA_OP_HELLO, ELISA_ABI_REVISION, 0), link;
	int rc;

	if (hello < 0)
		return (int)hello;
	if (ELISA_HELLO_GENERATION(hello) != dev->generation)
		dev->set_up = false;
	if (!dev->set_up) {
		rc = set_up(dev, ELISA_RECOVERY_MS);
		if (rc)
			return rc;
	}
	link = elisa_ctl(dev, ELISA_NET_LINK, dev->index, 0);
	if (link < 0)
		return (int)link;
	nics_tell(dev, link & ELISA_LINK_POLL);
	if (link & ELISA_LINK_UP)
		return 0;
	/* Down, or forgotten without a new generation, like a port taken away and given back? */
	if (elisa_ctl(dev, ELISA_NET_TX, dev->first_handle, 0) == -ELISA_ESTALE)
		dev->set_up = false;
	return -ENETDOWN;
}

bool elisa_port_check(struct elisa_dev *dev)
{
	struct rte_eth_link link = {
		.link_speed = RTE_ETH_SPEED_NUM_UNKNOWN,
		.link_duplex = RTE_ETH_LINK_FULL_DUPLEX,
		.link_autoneg = RTE_ETH_LINK_FIXED,
	};
	const int was = dev->state;

	dev->state = dev->started ? look(dev) : -ENETDOWN;
	link.link_status = dev->state ? RTE_ETH_LINK_DOWN : RTE_ETH_LINK_UP;
	if (dev->started && dev->state != was)
		ELISA_LOG(NOTICE, "%s: %s", dev->data->name, elisa_state_text(dev->state));
	return rte_eth_linkstatus_set(&rte_eth_devices[dev->data->port_id], &link) == 0;
}
