/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_fake: a driver for the tests, loaded by DPDK as any other. Tests say what its devices can do,
 * put frames on the wire, and look at those that were sent with all that was asked for them.
 */
#ifndef NIC_FAKE_H
#define NIC_FAKE_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_DEVS   2
#define FAKE_QUEUES 4
#define FAKE_FRAMES 2048 /* on the wire, either way */
#define FAKE_MACS   4	 /* filters */

struct fake_frame {
	uint32_t len, segs;
	uint64_t ol_flags;
	uint32_t l2_len, l3_len, l4_len, tso_segsz;
	uint32_t first_len; /* bytes in the first piece */
	uint32_t seg_len;   /* of frames to receive: bytes in one piece */
	uint8_t *data;
};

struct fake_wire {
	struct fake_frame frame[FAKE_FRAMES];
	uint32_t put, got; /* free-running */
};

enum fake_death { FAKE_LIVES, FAKE_DIES_IN_TX, FAKE_DIES_IN_RX };

struct fake_dev {
	/* What it can do: before it is added. */
	uint64_t tx_capa, rx_capa;
	uint16_t segs_max, tso_segs_max;
	bool flow;
	/* At any time. */
	bool link;
	uint16_t accepts; /* frames of one burst */
	enum fake_death dies;
	jmp_buf grave;
	/* What was asked of it. */
	bool promiscuous, allmulti;
	uint8_t address[6];
	uint32_t filters, flows;
	uint16_t flow_queue;
	uint16_t mtu;
	uint32_t starts, prepared;
	struct fake_wire sent[FAKE_QUEUES], received[FAKE_QUEUES];
};

extern struct fake_dev fake_dev[FAKE_DEVS];

#endif
