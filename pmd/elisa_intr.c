/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * RX interrupts, by doorbells (elisa/net.h, "Sleeping"; elisa/bell.h). A queue that was armed is
 * woken by its descriptor, which ethdev's users put into their epoll set. Doorbell devices are
 * shared by the ports of this process.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_interrupts.h>

#include <elisa/bell.h>

#include "elisa_pmd.h"

#define DEVICES 8 /* doorbell devices that are tried */

static struct shared_bell {
	struct elisa_bell *bell;
	bool wake;
	unsigned int users;
} bells[DEVICES];
static pthread_mutex_t bells_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- devices ---- */

/* The host says which doorbell wakes a port: opens devices until it is that one. */
static int open_by_id(uint16_t id, struct elisa_bell **bell)
{
	struct elisa_bell *others[DEVICES];
	unsigned int n = 0;
	int rc;

	while (!(rc = elisa_bell_open(NULL, true, bell)) && elisa_bell_id(*bell) != id) {
		rc = -ENODEV;
		others[n++] = *bell;
		if (n == DEVICES)
			break;
	}
	while (n)
		elisa_bell_close(others[--n]);
	return rc;
}

/* To ring any device will do. */
static struct shared_bell *find(bool wake, uint16_t id)
{
	struct shared_bell *free_one = NULL;

	for (unsigned int i = 0; i < DEVICES; i++) {
		struct shared_bell *s = &bells[i];

		if (!s->users)
			free_one = free_one ? free_one : s;
		else if (!wake || (s->wake && elisa_bell_id(s->bell) == id))
			return s;
	}
	return free_one;
}

static int bell_get(bool wake, uint16_t id, struct elisa_bell **bell)
{
	struct shared_bell *s;
	int rc = 0;

	pthread_mutex_lock(&bells_lock);
	s = find(wake, id);
	if (!s)
		rc = -ENOSPC;
	else if (!s->users)
		rc = wake ? open_by_id(id, &s->bell) : elisa_bell_open(NULL, false, &s->bell);
	if (!rc) {
		s->wake = s->users++ ? s->wake : wake;
		*bell = s->bell;
	}
	pthread_mutex_unlock(&bells_lock);
	return rc;
}

static void bell_put(const struct elisa_bell *bell)
{
	pthread_mutex_lock(&bells_lock);
	for (unsigned int i = 0; i < DEVICES; i++) {
		if (!bells[i].users || bells[i].bell != bell)
			continue;
		if (!--bells[i].users)
			elisa_bell_close(bells[i].bell);
		break;
	}
	pthread_mutex_unlock(&bells_lock);
}

/* ---- sleeping ---- */

static int event_fd(const struct elisa_dev *dev, unsigned int queue)
{
	return elisa_bell_eventfd(dev->bell, (dev->info.bell & 0xffff) + queue);
}

static void wake_self(const struct elisa_dev *dev, unsigned int queue)
{
	const uint64_t one = 1;

	/* It fails only if the counter is full, and then it is readable. */
	if (write(event_fd(dev, queue), &one, sizeof(one)) < 0)
		return;
}

int elisa_rx_intr_enable(struct rte_eth_dev *eth, uint16_t i)
{
	const struct elisa_dev *dev = eth->data->dev_private;
	struct pmd_rxq *q = eth->data->rx_queues[i];

	if (!eth->intr_handle)
		return -ENOTSUP;
	if (!++q->sleeps)
		q->sleeps = 1;
	__atomic_store_n(&q->ring->event, q->sleeps, __ATOMIC_RELAXED);
	/* Pairs with the sender's barrier between its commit and its look at `event`. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (elisa_rxq_count(q))
		wake_self(dev, i);
	return 0;
}

int elisa_rx_intr_disable(struct rte_eth_dev *eth, uint16_t i)
{
	struct pmd_rxq *q = eth->data->rx_queues[i];

	if (!eth->intr_handle)
		return -ENOTSUP;
	__atomic_store_n(&q->ring->event, 0, __ATOMIC_RELAXED);
	return 0;
}

/* The switch forgot who sleeps: all wake up and see for themselves. */
void elisa_intr_wake_all(const struct elisa_dev *dev)
{
	for (unsigned int i = 0; dev->sleeper && i < dev->data->nb_rx_queues; i++)
		wake_self(dev, i);
}

void elisa_ring(struct pmd_txq *q)
{
	int64_t value;

	/* A bound of its own; whom it leaves asleep the host wakes. */
	for (int i = 0; i < ELISA_TX_MAX; i++) {
		value = elisa_call(&q->call, ELISA_NET_BELL, q->handle, 0, 0);
		if (value <= 0)
			return;
		elisa_bell_ring(q->bell, (uint32_t)value);
	}
}

/* ---- at start and stop ---- */

static int make_handle(struct rte_eth_dev *eth)
{
	const struct elisa_dev *dev = eth->data->dev_private;
	const unsigned int n = eth->data->nb_rx_queues;
	struct rte_intr_handle *h = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	int rc = -ENOMEM, fd;

	if (!h)
		return -ENOMEM;
	if (rte_intr_vec_list_alloc(h, NULL, (int)n))
		goto free_handle;
	rc = rte_intr_type_set(h, RTE_INTR_HANDLE_VDEV);
	rc = rc ? rc : rte_intr_efd_counter_size_set(h, sizeof(uint64_t));
	rc = rc ? rc : rte_intr_max_intr_set(h, (int)n + 1);
	rc = rc ? rc : rte_intr_nb_efd_set(h, (int)n);
	for (unsigned int i = 0; !rc && i < n; i++) {
		fd = event_fd(dev, i);
		rc = fd < 0 ? fd : rte_intr_efds_index_set(h, (int)i, fd);
		rc = rc ? rc
			: rte_intr_vec_list_index_set(h, (int)i, RTE_INTR_VEC_RXTX_OFFSET + (int)i);
	}
	if (rc)
		goto free_handle;
	eth->intr_handle = h;
	return 0;
free_handle:
	rte_intr_vec_list_free(h);
	rte_intr_instance_free(h);
	return rc;
}

static int start_sleeper(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;
	int rc;

	if (!dev->info.bell) {
		ELISA_LOG(
			WARNING,
			"%s: no RX interrupts: the host gave this port no doorbell (QEMU: -device "
			"ivshmem-doorbell)",
			eth->data->name);
		return -ENOTSUP;
	}
	rc = bell_get(true, (uint16_t)(dev->info.bell >> 16), &dev->bell);
	if (rc) {
		ELISA_LOG(WARNING, "%s: no RX interrupts: doorbell %u: %s", eth->data->name,
			  dev->info.bell >> 16,
			  rc == -ENODEV ? "no device here has this id" : elisa_bell_error());
		return rc;
	}
	rc = make_handle(eth);
	if (rc) {
		ELISA_LOG(WARNING, "%s: no RX interrupts: %s", eth->data->name, rte_strerror(-rc));
		bell_put(dev->bell);
		dev->bell = NULL;
		return rc;
	}
	dev->sleeper = true;
	return 0;
}

/* Before the queues are set up. Without a doorbell the port works, but nobody can sleep on it. */
void elisa_intr_start(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	if (!eth->data->dev_conf.intr_conf.rxq || start_sleeper(eth)) {
		/* To ring for others; without it the host does, a little later. */
		if (bell_get(false, 0, &dev->bell))
			ELISA_LOG(INFO, "%s: rings no doorbells: %s", eth->data->name,
				  elisa_bell_error());
	}
	for (unsigned int i = 0; i < eth->data->nb_tx_queues; i++) {
		struct pmd_txq *q = eth->data->tx_queues[i];

		q->bell = dev->bell;
	}
}

/* After the data path ended. */
void elisa_intr_stop(struct rte_eth_dev *eth)
{
	struct elisa_dev *dev = eth->data->dev_private;

	for (unsigned int i = 0; i < eth->data->nb_tx_queues; i++) {
		struct pmd_txq *q = eth->data->tx_queues[i];

		q->bell = NULL;
	}
	if (eth->intr_handle) {
		rte_intr_free_epoll_fd(eth->intr_handle);
		rte_intr_vec_list_free(eth->intr_handle);
		rte_intr_instance_free(eth->intr_handle);
		eth->intr_handle = NULL;
	}
	dev->sleeper = false;
	if (dev->bell)
		bell_put(dev->bell);
	dev->bell = NULL;
}
