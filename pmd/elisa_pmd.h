/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_elisa, a DPDK ethdev driver for ports of the switch. Its ABI with the switch is elisa/net.h.
 *
 *	elisa_ethdev.c	probe, device arguments, ethdev's control operations
 *	elisa_port.c	queues' set-up and reset, link state, recovery when the switch was away
 *	elisa_rxtx.c	data path
 *	elisa_filter.c	MAC addresses, receive modes, RSS
 *	elisa_stats.c	stats and xstats
 *	elisa_intr.c	RX interrupts, doorbells
 *	elisa_mem.c	which memory the switch can reach; handles of libelisa-guest
 *
 * Who may touch what: a queue's half (struct pmd_rxq, pmd_txq) belongs to whoever holds its
 * `busy` flag, for which nobody waits: bursts give up at once (return 0), control does when the
 * data path is in. All else of a device is under its `lock`; the alarm thread only tries to take
 * it.
 */
#ifndef ELISA_PMD_H
#define ELISA_PMD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <ethdev_driver.h>
#include <ethdev_vdev.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_memzone.h>

#include <elisa/guest.h>
#include <elisa/net.h>

#define ELISA_OVERHEAD	  18u /* Ethernet header and one VLAN tag */
#define ELISA_RX_BATCH	  32  /* buffers posted at once */
#define ELISA_RX_RING	  512
#define ELISA_TX_RING	  256
#define ELISA_RING_LOW	  64	  /* fewest descriptors that the driver works with */
#define ELISA_PATIENCE_MS 2000	  /* how long start and stop ask again on EAGAIN */
#define ELISA_RECOVERY_MS 20	  /* ... and one round of recovery */
#define ELISA_POLL_US	  100000  /* between looks at the link ... */
#define ELISA_DOZE_US	  1000000 /* ... of one that sleeps on RX interrupts */
#define ELISA_NIC_LOOKS	  8	  /* at the ring, between polls of NICs: at most */

extern int elisa_logtype;
#define ELISA_LOG(level, fmt, ...) \
	rte_log(RTE_LOG_##level, elisa_logtype, "net_elisa: " fmt "\n", ##__VA_ARGS__)

/* One connection to a switch, shared by this process's ports that use the same one. */
struct elisa_handle {
	TAILQ_ENTRY(elisa_handle) next;
	char *spec;
	struct elisa_guest *guest;
	struct elisa_guard *guard; /* with vmfunc */
	unsigned int users;
	uint32_t ports; /* bit i: port i is some device's */
	bool local;
};

struct pmd_rxq {
	/* The data path. */
	uint32_t busy;
	bool up;
	bool strip, scatter, hash, csum;
	uint16_t port_id;
	uint32_t mask;
	uint32_t head;	 /* next completion, free-running */
	uint32_t posted; /* likewise */
	struct elisa_rxc *comp;
	struct elisa_rx *ring;
	struct rte_mbuf **sw; /* slots [head, posted) hold the posted mbufs */
	struct rte_mempool *pool;
	uint64_t rearm; /* struct rte_mbuf's rearm_data */
	uint64_t packets, bytes;
	uint64_t aborted;  /* frames whose sender died */
	uint64_t too_long; /* frames for which scattering would be needed */
	uint64_t no_mbuf;
	/* NICs that the switch wants polled: by this TX queue; NULL: none. See poll_nics(). */
	struct pmd_txq *poller;
	uint32_t looks, poll_every;
	uint64_t polls, polled; /* calls, and frames that NICs had */
	/* Control. */
	uint16_t index, descs;
	uint32_t buf_len;
	uint32_t sleeps; /* what `event` held last */
	uint64_t offloads;
	const struct rte_memzone *mz;
	rte_iova_t ring_iova, comp_iova;
} __rte_cache_aligned;

struct pmd_txq {
	/* The data path. */
	uint32_t busy;
	bool up, fast_free;
	uint32_t mask;
	uint32_t next; /* descriptor, free-running */
	struct elisa_txd *ring;
	struct elisa_call call;
	uint64_t handle;
	struct elisa_bell *bell; /* NULL: none to ring */
	uint64_t packets, bytes;
	uint64_t bad; /* mbufs that no descriptor can say */
	/* Control. */
	uint16_t index, descs;
	uint64_t offloads;
	const struct rte_memzone *mz;
	struct elisa_handle *owner; /* of `call` */
} __rte_cache_aligned;

struct elisa_stat { /* a counter of the switch, which begins anew when the switch does */
	uint64_t last, carry, base;
};
#define ELISA_PORT_STATS (sizeof(struct elisa_port_counters) / sizeof(uint64_t))

struct elisa_dev {
	struct rte_eth_dev_data *data;
	struct elisa_handle *handle;
	pthread_mutex_t lock;
	struct elisa_call ctl;
	const struct rte_memzone *scratch; /* what control calls point to */
	uint16_t index;			   /* of the port in its VM */
	struct elisa_port_info info;
	uint32_t generation;
	uint64_t first_handle; /* of queue 0 */
	bool set_up;	       /* in that generation */
	bool started;
	int state; /* 0: up, or why not */
	struct elisa_rss rss;
	struct elisa_bell *bell; /* while started, if there is one */
	bool sleeper;		 /* it wakes our RX queues */
	bool no_filters;	 /* an old switch: all frames are received */
	struct elisa_stat stats[ELISA_PORT_STATS];
	bool promiscuous, all_multicast;
	uint16_t n_groups;
	struct rte_ether_addr macs[ELISA_MACS_MAX];   /* ethdev's table; zero: free */
	struct rte_ether_addr groups[ELISA_MACS_MAX]; /* multicast */
};

static inline bool elisa_try(uint32_t *busy)
{
	return !__atomic_exchange_n(busy, 1, __ATOMIC_ACQUIRE);
}

static inline void elisa_release(uint32_t *busy)
{
	__atomic_store_n(busy, 0, __ATOMIC_RELEASE);
}

static inline int64_t elisa_ctl(const struct elisa_dev *dev, uint64_t op, uint64_t a1, uint64_t a2)
{
	return elisa_call(&dev->ctl, op, a1, a2, 0);
}

/* elisa_mem.c */
int elisa_handle_get(const char *spec, bool local, struct elisa_handle **handle);
#define ELISA_NO_PORT UINT16_MAX
/* `index`: as claimed, or ELISA_NO_PORT. */
void elisa_handle_put(struct elisa_handle *handle, uint16_t index);
/* One device for a port: -EBUSY. */
int elisa_handle_claim(struct elisa_handle *handle, uint16_t index);
/* For a process that dies: memory to be held, and a queue's reset. */
int elisa_mem_hold(struct elisa_handle *handle, void *addr, size_t len);
int elisa_handle_undo(struct elisa_handle *handle, uint16_t port, uint16_t queue);
/* Buffers to be posted: where the switch can reach them? And holds them. */
int elisa_mem_use_pool(struct elisa_handle *handle, struct rte_mempool *pool);

/* elisa_port.c */
int elisa_port_find(struct elisa_dev *dev, const char *which);
int elisa_port_start(struct elisa_dev *dev);
void elisa_port_stop(struct elisa_dev *dev);
/* With dev->lock held: asks the switch. Returns whether the link's state changed. */
bool elisa_port_check(struct elisa_dev *dev);
const char *elisa_state_text(int state);
/* Frees the posted mbufs; -EAGAIN: the switch may still write to them. */
int elisa_rxq_drain(struct elisa_dev *dev, struct pmd_rxq *q);

/* elisa_rxtx.c */
uint16_t pmd_rx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t pmd_tx_burst(void *queue, struct rte_mbuf **pkts, uint16_t n);
uint16_t pmd_tx_prepare(void *queue, struct rte_mbuf **pkts, uint16_t n);
uint32_t elisa_rxq_count(void *queue);
int elisa_rx_descriptor_status(void *queue, uint16_t offset);
int elisa_tx_descriptor_status(void *queue, uint16_t offset);
int elisa_get_monitor_addr(void *queue, struct rte_power_monitor_cond *cond);
/* Posts as many as fit. Returns whether any buffer is posted then. */
bool elisa_rxq_refill(struct pmd_rxq *q);

/* elisa_filter.c */
int elisa_mode_apply(struct elisa_dev *dev);
int elisa_rss_apply(struct elisa_dev *dev);
int elisa_rss_configure(struct elisa_dev *dev);
uint64_t elisa_rss_types(void);
int elisa_promiscuous_enable(struct rte_eth_dev *eth);
int elisa_promiscuous_disable(struct rte_eth_dev *eth);
int elisa_allmulticast_enable(struct rte_eth_dev *eth);
int elisa_allmulticast_disable(struct rte_eth_dev *eth);
int elisa_mac_set(struct rte_eth_dev *eth, struct rte_ether_addr *mac);
int elisa_mac_add(struct rte_eth_dev *eth, struct rte_ether_addr *mac, uint32_t index,
		  uint32_t pool);
void elisa_mac_remove(struct rte_eth_dev *eth, uint32_t index);
int elisa_mc_list(struct rte_eth_dev *eth, struct rte_ether_addr *list, uint32_t n);
int elisa_reta_update(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *reta,
		      uint16_t size);
int elisa_reta_query(struct rte_eth_dev *eth, struct rte_eth_rss_reta_entry64 *reta, uint16_t size);
int elisa_rss_update(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf);
int elisa_rss_get(struct rte_eth_dev *eth, struct rte_eth_rss_conf *conf);

/* elisa_intr.c */
int elisa_rx_intr_enable(struct rte_eth_dev *eth, uint16_t queue);
int elisa_rx_intr_disable(struct rte_eth_dev *eth, uint16_t queue);
void elisa_intr_start(struct rte_eth_dev *eth);
void elisa_intr_stop(struct rte_eth_dev *eth);
void elisa_intr_wake_all(const struct elisa_dev *dev);
/* For a TX queue that was told to, with a doorbell. */
void elisa_ring(struct pmd_txq *q);

/* elisa_stats.c */
int elisa_stats_get(struct rte_eth_dev *eth, struct rte_eth_stats *stats);
int elisa_stats_reset(struct rte_eth_dev *eth);
int elisa_xstats_get(struct rte_eth_dev *eth, struct rte_eth_xstat *stats, unsigned int n);
int elisa_xstats_names(struct rte_eth_dev *eth, struct rte_eth_xstat_name *names, unsigned int n);

#endif
