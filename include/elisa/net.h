/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch's guest ABI: operations and ring layouts. All structures lie in the guest's own
 * memory, little-endian, naturally aligned. The switch trusts none of it.
 *
 * TX: the guest fills descriptors [next, next + n) of the ring, modulo its size, and calls
 * ELISA_NET_TX(handle, n). The result is how many the switch took, always whole frames; they are
 * done with when the call returns (delivered or dropped and counted), their buffers are free.
 *
 * RX: the guest puts buffer addresses into rx->addr[i % size], then publishes them by a release
 * store of rx->posted = i + 1 (free-running). All buffers of a queue have the same length. Senders
 * take buffers in order; completion i is comp[i % size] and is valid once its `seq` reads i + 1
 * (acquire; pairs with the sender's release). Frames arrive in the order of completions; a frame
 * longer than a buffer spans several, all but the last with ELISA_RXC_MORE.
 */
#ifndef ELISA_NET_H
#define ELISA_NET_H

#include <stdint.h>
#include <elisa/abi.h>

#define ELISA_NET_REVISION	1

enum elisa_net_op {
	/* a1: port index of this VM; a2: GPA of struct elisa_port_info to fill. ENODEV, EFAULT */
	ELISA_NET_PORT_INFO = ELISA_OP_SERVICE,
	/*
	 * a1: GPA of struct elisa_queue_setup. Result: a handle for ELISA_NET_TX. EAGAIN: the former
	 * set-up of this queue is still in use by a sender: ask again. Senders' view of the queue
	 * starts anew: TX next = 0, RX completion 0.
	 */
	ELISA_NET_QUEUE_SETUP,
	/*
	 * a1: port << 16 | queue. The switch stops using the rings. EAGAIN: a sender may still be
	 * writing: ask again until 0; only then is the memory the guest's own again.
	 */
	ELISA_NET_QUEUE_RESET,
	/* a1: handle, a2: descriptors (at most ELISA_TX_MAX taken a call). ESTALE, EBUSY, EINVAL */
	ELISA_NET_TX,
	/* a1: port. Result: ELISA_LINK_* bits | MTU << 16. A cheap sign of life. */
	ELISA_NET_LINK,
	/* a1: port, a2: GPA of struct elisa_port_counters to fill. */
	ELISA_NET_COUNTERS,
};

#define ELISA_LINK_UP		1

#define ELISA_MTU_MAX		9216
#define ELISA_FRAME_MAX		(ELISA_MTU_MAX + 14 + 4)	/* Ethernet header and one VLAN tag */
#define ELISA_FRAME_MIN		14	/* no padding is asked for between guests */
#define ELISA_RING_MIN		8
#define ELISA_RING_MAX		32768	/* descriptors, a power of two */
#define ELISA_TX_MAX		256	/* descriptors taken by one call */
#define ELISA_SEGS_MAX		8	/* descriptors of one TX frame */
#define ELISA_RX_BUF_MIN	256	/* bytes */
#define ELISA_RX_SEGS_MAX	((ELISA_FRAME_MAX + ELISA_RX_BUF_MIN - 1) / ELISA_RX_BUF_MIN)
#define ELISA_PORTS_PER_VM	8
#define ELISA_QUEUES_MAX	16	/* of one port */

struct elisa_port_info {
	uint32_t revision;	/* ELISA_NET_REVISION */
	uint16_t port;		/* index among this VM's ports */
	uint16_t ports;		/* how many this VM has */
	uint8_t mac[6];
	uint16_t mtu;		/* bytes after the Ethernet header */
	uint16_t queues;	/* TX/RX queue pairs allowed */
	uint16_t link;		/* ELISA_LINK_* */
	uint32_t features;	/* 0 in revision 1 */
	char name[32];		/* as the host configured it, NUL-terminated */
	uint64_t reserved[3];
};

struct elisa_queue_setup {
	uint32_t revision;	/* ELISA_NET_REVISION */
	uint16_t port;
	uint16_t queue;
	uint32_t tx_size;	/* descriptors, power of two, or 0: this queue does not send */
	uint32_t rx_size;	/* likewise */
	uint32_t rx_buf_len;	/* bytes of every RX buffer, ELISA_RX_BUF_MIN .. 65535 */
	uint32_t features;	/* 0 */
	uint64_t tx_ring;	/* GPA of struct elisa_txd[tx_size], contiguous, 64-byte aligned */
	uint64_t rx_ring;	/* GPA of struct elisa_rx with addr[rx_size], likewise */
	uint64_t rx_comp;	/* GPA of struct elisa_rxc[rx_size], likewise, zeroed */
	uint64_t reserved;
};

struct elisa_txd {
	uint64_t addr;		/* GPA */
	uint16_t len;		/* bytes of this segment, 1.. */
	uint16_t flags;		/* ELISA_TXD_* */
	uint32_t reserved;	/* 0: for offloads to come */
};
#define ELISA_TXD_MORE	1	/* the frame goes on in the next descriptor */

struct elisa_rx {
	uint32_t posted;	/* free-running count of buffers posted; written by the guest only */
	uint32_t pad[15];
	uint64_t addr[];	/* GPAs */
};

struct elisa_rxc {
	uint16_t len;		/* bytes in this buffer */
	uint16_t flags;		/* ELISA_RXC_* */
	uint16_t reserved[4];	/* for VLAN and offloads to come */
	uint32_t seq;		/* completion number + 1: written last, as one 8-byte release store
				 * together with the two fields before it */
};
#define ELISA_RXC_MORE		1	/* the frame goes on in the next completion */
#define ELISA_RXC_ABORTED	2	/* no data: its sender died; a frame that it is part of is void */

/* Why a frame was dropped. Counted at the port named in brackets; names in elisa_drop_names. */
#define ELISA_DROPS(X)                                                                             \
	X(TX_BAD_DESC, "tx-bad-descriptor")	/* [sender] length 0, chain too long, bad flags */ \
	X(TX_BAD_ADDR, "tx-bad-address")	/* [sender] outside the VM's shared RAM */        \
	X(TX_RUNT, "tx-runt")			/* [sender] shorter than an Ethernet header */    \
	X(TX_TOO_LONG, "tx-too-long")		/* [sender] longer than its port's MTU allows */  \
	X(TX_SPOOFED, "tx-spoofed-source")	/* [sender] source MAC not this port's */         \
	X(TX_BAD_SOURCE, "tx-bad-source")	/* [sender] source MAC is multicast or zero */    \
	X(TX_NO_PORT, "tx-no-destination")	/* [sender] flood found nobody, or to itself */   \
	X(TX_ISOLATED, "tx-isolated")		/* [sender] destination in no common group */     \
	X(TX_LINK_DOWN, "tx-link-down")		/* [sender] port administratively down */         \
	X(RX_LINK_DOWN, "rx-link-down")		/* [receiver] port or queue not up */             \
	X(RX_NO_BUFFER, "rx-no-buffer")		/* [receiver] too few buffers posted */           \
	X(RX_TOO_LONG, "rx-too-long")		/* [receiver] longer than its MTU allows */       \
	X(RX_BAD_ADDR, "rx-bad-address")	/* [receiver] a posted buffer is not its RAM */   \
	X(RX_BAD_RING, "rx-bad-ring")		/* [receiver] posted count makes no sense */      \
	X(RX_CONTENDED, "rx-contended")		/* [receiver] reservation lost too many races */  \
	X(RX_ABORTED, "rx-aborted")		/* [receiver] sender died before committing */

enum elisa_drop {
#define ELISA_DROP_ENUM(id, name) ELISA_DROP_##id,
	ELISA_DROPS(ELISA_DROP_ENUM)
#undef ELISA_DROP_ENUM
	ELISA_DROP_COUNT
};

struct elisa_port_counters {
	uint64_t tx_frames, tx_bytes;	/* taken from the guest and forwarded to >= 1 receiver */
	uint64_t rx_frames, rx_bytes;	/* delivered to the guest */
	uint64_t tx_unicast, tx_multicast, tx_broadcast, tx_flooded;
	uint64_t tx_calls;
	uint64_t reserved[7];
	uint64_t drops[32];		/* by enum elisa_drop */
};

_Static_assert(sizeof(struct elisa_port_info) == 80, "elisa_port_info");
_Static_assert(sizeof(struct elisa_queue_setup) == 56, "elisa_queue_setup");
_Static_assert(sizeof(struct elisa_txd) == 16, "elisa_txd");
_Static_assert(sizeof(struct elisa_rxc) == 16, "elisa_rxc");
_Static_assert(sizeof(struct elisa_rx) == 64, "elisa_rx");
_Static_assert(ELISA_DROP_COUNT <= 32, "drop reasons fit the counters");

#endif
