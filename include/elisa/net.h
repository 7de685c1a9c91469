/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The switch's guest ABI: operations and ring layouts. All structures lie in the guest's own
 * memory, little-endian, naturally aligned. The switch trusts none of it.
 *
 * TX: the guest fills descriptors [next, next + n) of the ring, modulo its size, and calls
 * ELISA_NET_TX(handle, n). The result says how many the switch took, always whole frames; they are
 * done with when the call returns (delivered or dropped and counted), their buffers are free.
 *
 * RX: the guest puts buffer addresses into rx->addr[i % size], then publishes them by a release
 * store of rx->posted = i + 1 (free-running). All buffers of a queue have the same length. Senders
 * take buffers in order; completion i is comp[i % size] and is valid once its `seq` reads i + 1
 * (acquire; pairs with the sender's release). Frames arrive in the order of completions; a frame
 * longer than a buffer spans several, all but the last with ELISA_NET_MORE.
 *
 * Offloads, as in the virtio-net header: the first descriptor of a frame may ask for a checksum
 * (ELISA_NET_CSUM: sum from csum_start to the end, stored csum_offset bytes after csum_start, where
 * the sum of the pseudo header lies already) and for segmentation (ELISA_NET_TSO4 or _TSO6, which
 * imply it: gso_size bytes of TCP payload a segment). A receiver whose queue was set up with the
 * feature gets the frame as it is, and the same fields in its first completion; for another one the
 * switch fills the checksum in, or cuts the frame up.
 *
 * Steering: ELISA_NET_RSS gives a port a Toeplitz key and an indirection table, as ethdev has them.
 * Without it a frame goes to the queue with the number of its TX queue modulo the RX queues.
 *
 * Sleeping: a receiver whose queue was set up with ELISA_NET_F_EVENT stores a number that is not 0
 * into rx->event, another one each time (it counts its sleeps, say), then a full barrier, then looks
 * at the ring once more, then sleeps until its doorbell rings; awake, it stores 0. A sender that
 * commits frames while `event` is not 0 finds ELISA_TX_BELL in its result, until it has asked
 * ELISA_NET_BELL for all that there is to ring. Each TX queue is told once for a number.
 */
#ifndef ELISA_NET_H
#define ELISA_NET_H

#include <stdint.h>
#include <elisa/abi.h>

#define ELISA_NET_REVISION	4

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
	/*
	 * a1: handle, a2: descriptors (at most ELISA_TX_MAX taken a call). Result: how many were
	 * taken, in ELISA_TX_TAKEN, and perhaps ELISA_TX_BELL. ESTALE, EBUSY, EINVAL
	 */
	ELISA_NET_TX,
	/* a1: port. Result: ELISA_LINK_* bits | MTU << 16. A cheap sign of life. */
	ELISA_NET_LINK,
	/* a1: port, a2: GPA of struct elisa_port_counters to fill. */
	ELISA_NET_COUNTERS,
	/*
	 * a1: port, a2: GPA of struct elisa_rx_mode: which frames the port wants. At first, and after
	 * all its queues went down, it wants all. EFAULT, EINVAL, EAGAIN (another vCPU is at it);
	 * EPERM: an address that the host does not allow it.
	 */
	ELISA_NET_RX_MODE,
	/* a1: port, a2: GPA of struct elisa_rss. Lasts until all queues are down. EFAULT, EINVAL, EAGAIN */
	ELISA_NET_RSS,
	/*
	 * a1: handle. Result: what to write into the doorbell register of this VM's doorbell device
	 * (ivshmem-doorbell: receiver's id << 16 | vector), or 0: nothing any more. ESTALE, EBUSY
	 */
	ELISA_NET_BELL,
	/*
	 * a1: handle. Looks after NICs that this port may exchange frames with (ELISA_PORT_POLL): takes
	 * what they received to its receivers, and what waits to be sent to them. Bounded. Result as
	 * of ELISA_NET_TX: frames that the NICs had for anybody in ELISA_TX_TAKEN, and perhaps
	 * ELISA_TX_BELL. ESTALE, EBUSY
	 */
	ELISA_NET_POLL,
};

#define ELISA_TX_TAKEN		0xffff
#define ELISA_TX_BELL		(1 << 16)	/* somebody sleeps: call ELISA_NET_BELL until it says 0 */

/* elisa_port_info.features: what the switch knows; elisa_queue_setup.features: for this RX queue. */
#define ELISA_NET_F_CSUM	(1 << 0)	/* frames with a checksum still to be filled in */
#define ELISA_NET_F_TSO4	(1 << 1)	/* frames still to be segmented, TCP over IPv4 */
#define ELISA_NET_F_TSO6	(1 << 2)	/* ... over IPv6; both need ELISA_NET_F_CSUM */
#define ELISA_NET_F_EVENT	(1 << 3)	/* rx->event is looked at */
#define ELISA_NET_F_ALL		0xf

#define ELISA_LINK_UP		1
#define ELISA_LINK_POLL		2	/* of ELISA_NET_LINK: ELISA_PORT_POLL as it is now */

#define ELISA_MTU_MAX		9216
#define ELISA_FRAME_MAX		(ELISA_MTU_MAX + 14 + 4)	/* Ethernet header and one VLAN tag */
#define ELISA_FRAME_MIN		14	/* no padding is asked for between guests */
#define ELISA_RING_MIN		8
#define ELISA_RING_MAX		32768	/* descriptors, a power of two */
#define ELISA_TX_MAX		256	/* descriptors taken by one call */
#define ELISA_SEGS_MAX		40	/* descriptors of one TX frame */
#define ELISA_GSO_FRAME_MAX	(65535 + 14 + 8)	/* IP's largest, Ethernet header, two tags */
#define ELISA_GSO_SIZE_MIN	64	/* bytes of payload a segment */
#define ELISA_GSO_SEGS_MAX	256	/* segments of a frame */
#define ELISA_HEADERS_MAX	192	/* bytes of all headers of a frame to be segmented */
#define ELISA_RX_BUF_MIN	256	/* bytes */
#define ELISA_RX_SEGS_MAX	((ELISA_GSO_FRAME_MAX + ELISA_RX_BUF_MIN - 1) / ELISA_RX_BUF_MIN)
#define ELISA_PORTS_PER_VM	8
#define ELISA_QUEUES_MAX	16	/* of one port */

#define ELISA_PORT_POLL	(1 << 0)	/* there is a NIC to look after: call ELISA_NET_POLL now and then
					 * when nothing came, as often as the ring is looked at */
struct elisa_port_info {
	uint32_t revision;	/* ELISA_NET_REVISION */
	uint16_t port;		/* index among this VM's ports */
	uint16_t ports;		/* how many this VM has */
	uint8_t mac[6];
	uint16_t mtu;		/* bytes after the Ethernet header */
	uint16_t queues;	/* TX/RX queue pairs allowed */
	uint16_t link;		/* ELISA_LINK_* */
	uint32_t features;	/* ELISA_NET_F_* that the switch knows */
	char name[32];		/* as the host configured it, NUL-terminated */
	/* What wakes RX queue q of this port is written to a doorbell as bell + q; 0: no doorbell. */
	uint32_t bell;
	uint32_t flags;		/* ELISA_PORT_* */
	uint64_t reserved[2];
};

struct elisa_queue_setup {
	uint32_t revision;	/* ELISA_NET_REVISION */
	uint16_t port;
	uint16_t queue;
	uint32_t tx_size;	/* descriptors, power of two, or 0: this queue does not send */
	uint32_t rx_size;	/* likewise */
	uint32_t rx_buf_len;	/* bytes of every RX buffer, ELISA_RX_BUF_MIN .. 65535 */
	uint32_t features;	/* ELISA_NET_F_* that its receiver understands */
	uint64_t tx_ring;	/* GPA of struct elisa_txd[tx_size], contiguous, 64-byte aligned */
	uint64_t rx_ring;	/* GPA of struct elisa_rx with addr[rx_size], likewise */
	uint64_t rx_comp;	/* GPA of struct elisa_rxc[rx_size], likewise, zeroed */
	uint64_t reserved;
};

/* Flags of descriptors and completions. Those but MORE count in the first one of a frame only. */
#define ELISA_NET_MORE		(1 << 0)	/* the frame goes on in the next one */
#define ELISA_NET_CSUM		(1 << 1)	/* a checksum is to be filled in */
#define ELISA_NET_TSO4		(1 << 2)	/* to be segmented: TCP over IPv4 */
#define ELISA_NET_TSO6		(1 << 3)	/* ... over IPv6 */
#define ELISA_NET_ECN		(1 << 4)	/* with TSO: CWR stays with the first segment only */
#define ELISA_NET_CSUM_OFFSET	8		/* its lowest bit: the field has bits 8 to 15 */
/* Completions only; the last one also in descriptors of NIC ports. */
#define ELISA_RXC_ABORTED	(1 << 5)	/* no data: its sender died; a frame that it is part of is void */
#define ELISA_RXC_HASH		(1 << 6)	/* `hash` is valid */
#define ELISA_RXC_CSUM_OK	(1 << 7)	/* the NIC found the transport's checksum right */

struct elisa_txd {
	uint64_t addr;		/* GPA */
	uint16_t len;		/* bytes of this segment, 1.. */
	uint16_t flags;		/* ELISA_NET_*, csum_offset << ELISA_NET_CSUM_OFFSET */
	uint16_t csum_start;	/* with ELISA_NET_CSUM: from the frame's first byte, else 0 */
	uint16_t gso_size;	/* with ELISA_NET_TSO*, else 0 */
};

struct elisa_rx {
	uint32_t posted;	/* free-running count of buffers posted; written by the guest only */
	uint32_t event;		/* not 0: the guest sleeps, see above; likewise */
	uint32_t pad[14];
	uint64_t addr[];	/* GPAs */
};

struct elisa_rxc {
	uint16_t len;		/* bytes in this buffer */
	uint16_t flags;		/* ELISA_NET_*, ELISA_RXC_* */
	uint16_t csum_start;
	uint16_t gso_size;
	uint32_t hash;		/* Toeplitz, as the port's ELISA_NET_RSS asks for */
	uint32_t seq;		/* completion number + 1: written last, as one 8-byte release store
				 * together with the field before it */
};

#define ELISA_RX_PROMISC	(1 << 0)	/* every frame that comes its way */
#define ELISA_RX_ALLMULTI	(1 << 1)	/* every multicast frame */
#define ELISA_MACS_MAX		64
struct elisa_rx_mode {
	uint32_t flags;		/* ELISA_RX_* */
	uint16_t unicast;	/* addresses in mac[], the port's own among them if it is wanted */
	uint16_t multicast;	/* addresses that follow them; broadcast is always wanted */
	uint8_t mac[ELISA_MACS_MAX][6];
};

/*
 * What is hashed: addresses, or addresses and ports. Fragments have no ports, nor has IPv6 with
 * extension headers; up to two tags are skipped. Only headers in the frame's first segment count.
 * A frame of which nothing is hashed comes without ELISA_RXC_HASH, in the queue of reta[0].
 */
#define ELISA_RSS_IPV4		(1 << 0)
#define ELISA_RSS_TCP4		(1 << 1)
#define ELISA_RSS_UDP4		(1 << 2)
#define ELISA_RSS_IPV6		(1 << 3)
#define ELISA_RSS_TCP6		(1 << 4)
#define ELISA_RSS_UDP6		(1 << 5)
#define ELISA_RSS_ALL		0x3f
#define ELISA_RSS_KEY_LEN	40
#define ELISA_RETA_SIZE		128
struct elisa_rss {
	uint32_t types;		/* ELISA_RSS_*; 0: no steering by hash */
	uint32_t reserved;	/* 0 */
	uint8_t key[ELISA_RSS_KEY_LEN];
	uint8_t reta[ELISA_RETA_SIZE];	/* RX queue, by the low bits of the hash; no hash: reta[0] */
};

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
	X(TX_BAD_OFFLOAD, "tx-bad-offload")	/* [sender] a request that makes no sense */      \
	X(TX_VLAN, "tx-vlan")			/* [sender] not a member of the frame's VLAN */   \
	X(TX_POLICED, "tx-policed")		/* [sender] above its rate */                     \
	X(TX_STORM, "tx-storm")			/* [sender] floods above its rate */              \
	X(TX_MAC_LIMIT, "tx-mac-limit")		/* [sender] too many source addresses */          \
	X(RX_LINK_DOWN, "rx-link-down")		/* [receiver] port or queue not up */             \
	X(RX_NO_BUFFER, "rx-no-buffer")		/* [receiver] too few buffers posted */           \
	X(RX_TOO_LONG, "rx-too-long")		/* [receiver] longer than its MTU allows */       \
	X(RX_BAD_ADDR, "rx-bad-address")	/* [receiver] a posted buffer is not its RAM */   \
	X(RX_BAD_RING, "rx-bad-ring")		/* [receiver] posted count makes no sense */      \
	X(RX_CONTENDED, "rx-contended")		/* [receiver] reservation lost too many races */  \
	X(RX_ABORTED, "rx-aborted")		/* [receiver] sender died before committing */    \
	X(RX_FILTERED, "rx-filtered")		/* [receiver] its mode does not want the address */ \
	X(RX_VLAN, "rx-vlan")			/* [receiver] not a member of the frame's VLAN */ \
	X(RX_POLICED, "rx-policed")		/* [receiver] above its rate */

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
	uint64_t tx_csum;	/* frames whose checksum the switch filled in */
	uint64_t tx_segmented;	/* frames that the switch cut up */
	uint64_t tx_segments;	/* into these many; delivered frames count as such in rx_frames */
	uint64_t tx_bells;	/* times that the sender was told to ring */
	uint64_t reserved[3];
	uint64_t drops[32];		/* by enum elisa_drop */
};

_Static_assert(sizeof(struct elisa_port_info) == 80, "elisa_port_info");
_Static_assert(sizeof(struct elisa_queue_setup) == 56, "elisa_queue_setup");
_Static_assert(sizeof(struct elisa_txd) == 16, "elisa_txd");
_Static_assert(sizeof(struct elisa_rxc) == 16, "elisa_rxc");
_Static_assert(sizeof(struct elisa_rx) == 64, "elisa_rx");
_Static_assert(sizeof(struct elisa_rx_mode) == 392, "elisa_rx_mode");
_Static_assert(sizeof(struct elisa_rss) == 176, "elisa_rss");
_Static_assert(ELISA_DROP_COUNT <= 32, "drop reasons fit the counters");

#endif
