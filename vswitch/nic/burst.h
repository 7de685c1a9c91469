/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two halves of a NIC's queue, as vs_nic_ops get them. They lie in DPDK's heap with all that
 * they point to. Control code writes them while nobody holds the half; `down` excepted.
 */
#ifndef VS_NIC_BURST_H
#define VS_NIC_BURST_H

#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <vswitch/nic.h>

#define NIC_SLOTS     512    /* of the ring towards the NIC */
#define NIC_DESCS     1024   /* of the ring from it */
#define NIC_BUF_LEN   2048   /* bytes of a packet buffer, unless each must hold any frame */
#define NIC_FRAME_MIN 60     /* of Ethernet without its checksum; shorter ones are padded */
#define NIC_STUCK     100000 /* rounds without progress until a frame is given up */

#define nic_load(p)		__atomic_load_n((p), __ATOMIC_RELAXED)
#define nic_load_acquire(p)	__atomic_load_n((p), __ATOMIC_ACQUIRE)
#define nic_store(p, v)		__atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define nic_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
/* One writer at a time, read by others. */
#define nic_count(p, v) nic_store((p), nic_load(p) + (v))

/* Functions of the driver and the pools: called through pointers that were copied at start. */
struct nic_pool_ops {
	int (*put)(struct rte_mempool *pool, void *const *objects, unsigned int count);
	int (*get)(struct rte_mempool *pool, void **objects, unsigned int count);
	int32_t index; /* of these in DPDK's table: what pools have them */
};

/* From the NIC: received frames are described in the TX ring of the port's queue. */
struct nic_rxq {
	uint16_t (*burst)(void *queue, struct rte_mbuf **mbufs, uint16_t count);
	void *queue;
	struct nic_pool_ops ops;
	struct rte_mempool *pool; /* that the driver takes buffers from */
	struct elisa_txd *ring;
	struct rte_mbuf **slot; /* [NIC_DESCS] whose data a descriptor names */
	uint32_t head;		/* descriptor, free-running */
	uint32_t described;	/* from there on */
	uint64_t unusable;	/* frames of too many pieces */
	uint64_t lost;		/* buffers that their pool did not take back */
};

/* To the NIC: frames lie in the RX ring of the port's queue. */
struct nic_txq {
	uint16_t (*burst)(void *queue, struct rte_mbuf **mbufs, uint16_t count);
	uint16_t (*prepare)(void *queue, struct rte_mbuf **mbufs, uint16_t count); /* or NULL */
	void *queue;
	struct nic_pool_ops ops;
	struct rte_mempool *pool;
	struct elisa_rx *ring;
	struct elisa_rxc *comp;
	struct rte_mbuf **slot; /* [NIC_SLOTS] posted there */
	uint32_t buf_len;
	uint32_t segs_max, tso_segs_max; /* pieces of a frame that the NIC takes */
	uint32_t next;			 /* completion */
	uint32_t posted;
	uint32_t staged; /* frames that the NIC did not take yet */
	uint32_t stuck;	 /* rounds since it took one */
	bool down; /* what does not fit now never will; written by the control side at any time */
	struct rte_mbuf *stage[VS_NIC_BURST];
	uint64_t full;	   /* frames given up since the NIC did not take them */
	uint64_t errors;   /* ... since it cannot send such */
	uint64_t software; /* checksums computed here */
	uint64_t lost;	   /* as above */
};

extern const struct vs_nic_ops nic_burst_ops;

/* Buffers of foreign pools, or shared ones: not inside. */
void nic_free_any(struct rte_mbuf *m);

#endif
