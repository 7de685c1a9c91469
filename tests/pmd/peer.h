/* SPDX-License-Identifier: BSD-3-Clause */
/* pmd-peer's parts: frames whose every byte follows from their number, and what was asked for. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_ethdev.h>
#include <rte_ether.h>

#define LIST_MAX  16
#define FRAME_MIN 64 /* all headers, and what a frame says about itself */
#define FRAME_MAX 9234
#define BURST_MAX 256

/* What happens to a frame on its way: nothing, or what testpmd's mode of that name does. */
enum via { VIA_NONE, VIA_MAC, VIA_MACSWAP, VIA_5TSWAP, VIA_CSUM, VIA_ICMPECHO, VIA_COUNT };
extern const char *const via_names[VIA_COUNT];

struct options {
	enum {
		ROLE_NONE,
		ROLE_ECHO,
		ROLE_TX,
		ROLE_RX,
		ROLE_BENCH_TX,
		ROLE_BENCH_RX,
		ROLE_BENCH_LOOP
	} role;
	enum via via;
	uint32_t sizes[LIST_MAX], bursts[LIST_MAX], segs[LIST_MAX];
	uint32_t size_count, burst_count, seg_count;
	uint32_t port, rx_port, queues, flows, descs, mbufs, mbuf_size, mtu;
	uint64_t count, window, pause_us, stall_ms, timeout_s, spin;
	/* of frames as they are built, and as they are expected to come in */
	struct rte_ether_addr src, dst, back_src, back_dst;
	bool have_src, have_back_src, have_back_dst;
};

/* ---- peer-frame.c ---- */

/* Writes frame `seq` of `size` bytes; with VIA_CSUM its checksums are wrong. */
void frame_build(const struct options *o, uint32_t seq, uint32_t size, uint8_t *frame);

enum verdict { FRAME_SOUND, FRAME_CORRUPT, FRAME_FOREIGN };
/* Is it the frame it says it is, after what `via` did to it, in every byte? */
enum verdict frame_check(const struct options *o, const uint8_t *frame, uint32_t len,
			 uint32_t *seq);

/* ---- peer-bench.c ---- */

/* Time-stamp counts of rte_eth_tx_burst or rte_eth_rx_burst per packet; prints JSON. */
int bench_tx(const struct options *o, struct rte_mempool *pool);
int bench_rx(const struct options *o);
/* Sends to `rx_port` of this process and receives there, without a pause; or only polls. */
int bench_loop(const struct options *o, struct rte_mempool *pool);

/* ---- peer.c ---- */

/* A frame in `segs` mbufs, as even as they get; NULL: no mbufs. */
struct rte_mbuf *mbuf_build(const struct options *o, struct rte_mempool *pool, uint32_t seq,
			    uint32_t size, uint32_t segs);
uint64_t now_ms(void);
/* SIGINT or SIGTERM came. */
extern volatile bool told_to_stop;

#endif
