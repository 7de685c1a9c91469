/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A NIC for the tests: the port of a simulated guest, whose driver takes frames from a queue of
 * "the wire" and puts them there. State of a half is only touched by who owns that half.
 */
#ifndef VS_TEST_FAKENIC_H
#define VS_TEST_FAKENIC_H

#include <vswitch/nic.h>
#include "harness.h"

#ifndef T_WIRE
#define T_WIRE	   512 /* frames on one way, a power of two */
#define T_NIC_SIZE T_SIZE
#endif

struct t_wire {
	uint32_t put, taken; /* free-running */
	struct t_frame *frame;
};

struct t_nic_queue {
	struct t_guest *guest;
	unsigned int queue;
	/* From the NIC: written by the test in between, or by its own thread. */
	struct t_wire in;
	uint16_t in_flags[T_WIRE];
	uint32_t described; /* in the TX ring, not taken */
	uint32_t freed;
	/* To the NIC: the first T_WIRE that nobody took. */
	struct t_wire out;
	uint64_t out_frames;
	struct t_frame passing;
	/* Who is in the driver: there must never be two. */
	uint32_t rx_inside, tx_inside, collisions;
};

struct t_nic {
	struct t_guest *guest;
	unsigned int queues;
	struct t_nic_queue q[T_QUEUES];
};

/* A NIC port with its queues set up and released. */
void t_nic(struct t_switch *t, struct t_nic *nic, unsigned int queues, enum vs_nic_serve serve,
	   uint32_t features);
/* What the daemon does to start it, also once more: queues, buffers, hand over, release. */
void t_nic_start(struct t_switch *t, struct t_nic *nic, uint32_t features);
void t_nic_destroy(struct t_nic *nic);
/* A frame comes by the wire; t_fill() makes it. */
void t_wire_in(struct t_nic *nic, unsigned int queue, uint32_t len, const uint8_t dst[6],
	       const uint8_t src[6], uint32_t seed, uint16_t flags);
/* The next frame that went out to the wire. */
bool t_wire_out(struct t_nic *nic, unsigned int queue, struct t_frame *frame);
int64_t t_poll(struct t_guest *g);

#endif
