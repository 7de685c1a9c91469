/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NICs of the switch, as far as the driver sees them: what a completion says about a checksum, and
 * when NICs are polled. A local switch lets nobody run a NIC's driver, so its answers are changed
 * here, between it and the driver.
 */
#include <string.h>

#include "driver.h"
#include "../../pmd/elisa_pmd.h"

#define RX_CSUM (RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)

static struct elisa_call real_ctl, real_tx;
static bool nics;
static unsigned int polls;
static uint32_t nic_frames; /* of the next polls that have some, each is one to p1 */

static struct pmd_rxq *rxq(void)
{
	return rte_eth_devices[port[1]].data->rx_queues[0];
}

static struct pmd_txq *txq(void)
{
	return rte_eth_devices[port[1]].data->tx_queues[0];
}

static int64_t on_ctl(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		      uint64_t a3)
{
	const int64_t r = real_ctl.fn(real_ctl.cookie, op, a1, ignored, a2, a3);

	return op == ELISA_NET_LINK && r >= 0 && nics ? r | ELISA_LINK_POLL : r;
}

static int64_t on_tx(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	struct rte_mbuf *m;

	if (op != ELISA_NET_POLL)
		return real_tx.fn(real_tx.cookie, op, a1, ignored, a2, a3);
	polls++;
	CHECK_INT(a1, txq()->handle);
	CHECK(txq()->busy, "a poll while somebody else may send");
	if (!nic_frames)
		return 0;
	m = frame(0, 100, 1, nic_frames--);
	give(0, &m, 1);
	return 1;
}

/* The driver asks for the link ten times a second. */
static void wait_for_poller(bool wanted)
{
	for (int ms = 0; ms < 3000; ms++) {
		if (!!__atomic_load_n(&rxq()->poller, __ATOMIC_RELAXED) == wanted)
			return;
		rte_delay_us_sleep(1000);
	}
	FAIL("NICs are %s", wanted ? "not polled" : "still polled");
}

void test_nic_polls(void)
{
	struct elisa_dev *dev = rte_eth_devices[port[1]].data->dev_private;
	struct rte_mbuf *m;

	up(NULL, NULL);
	pthread_mutex_lock(&dev->lock);
	real_ctl = dev->ctl;
	dev->ctl.fn = on_ctl;
	real_tx = txq()->call;
	txq()->call.fn = on_tx;
	nics = true;
	pthread_mutex_unlock(&dev->lock);
	wait_for_poller(true);
	/* What a poll brings to this queue is there at once. */
	nic_frames = 5;
	for (uint32_t i = 5; i; i--) {
		for (int looks = 0; !take(1, 0, &m, 1); looks++)
			CHECK(looks < ELISA_NIC_LOOKS, "%d looks in vain", looks);
		check_frame(m, 0, 100, i);
	}
	CHECK(polls >= 5, "%u polls", polls);
	/* Less and less often while there is nothing. */
	polls = 0;
	for (int looks = 0; looks < 800; looks++)
		CHECK_INT(take(1, 0, &m, 1), 0);
	CHECK(polls >= 100 && polls <= 110, "%u polls in 800 looks", polls);
	/* Now and then with enough to do; and nobody waits for who sends. */
	polls = 0;
	for (uint32_t i = 0; i < 80; i++) {
		m = frame(0, 60, 1, i);
		give(0, &m, 1);
		txq()->busy = i >= 40;
		CHECK_INT(take(1, 0, &m, 1), 1);
		check_frame(m, 0, 60, i);
	}
	txq()->busy = 0;
	CHECK_INT(polls, 5);
	nics = false;
	wait_for_poller(false);
	polls = 0;
	for (int looks = 0; looks < 100; looks++)
		CHECK_INT(take(1, 0, &m, 1), 0);
	CHECK_INT(polls, 0);
	pthread_mutex_lock(&dev->lock);
	dev->ctl = real_ctl;
	txq()->call = real_tx;
	pthread_mutex_unlock(&dev->lock);
	down();
}

/* The switch says so in a frame's first completion. */
void test_nic_checksum(void)
{
	for (int asked = 0; asked < 2; asked++) {
		up(NULL, &(struct conf){.rx = asked ? RX_CSUM | RTE_ETH_RX_OFFLOAD_SCATTER
						    : RTE_ETH_RX_OFFLOAD_SCATTER});
		for (uint32_t i = 0; i < 3 * RING; i++) {
			const uint32_t len = i % 7 ? 60 + i : 5000, seed = i;
			struct rte_mbuf *m = frame(0, len, len > 2000 ? 3 : 1, seed);
			const bool good = i % 3;

			give(0, &m, 1);
			if (good)
				rxq()->comp[rxq()->head & rxq()->mask].flags |= ELISA_RXC_CSUM_OK;
			CHECK_INT(take(1, 0, &m, 1), 1);
			CHECK_INT(m->ol_flags, good && asked ? RTE_MBUF_F_RX_L4_CKSUM_GOOD : 0);
			check_frame(m, 0, len, seed);
		}
		down();
	}
}
