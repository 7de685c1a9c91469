/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames on their way from classification to a receiver's ring. */
#ifndef VS_DELIVER_H
#define VS_DELIVER_H

#include "mem.h"

#define VS_BATCH 32 /* descriptors classified at once, hence frames too */
#define VS_SEGS  96 /* segments of the frames of a batch that have several */

/* Piece of a frame, checked: within the sender's memory. */
struct vs_seg {
	const uint8_t *data;
	uint64_t len;
};

struct vs_frame {
	const uint8_t *data; /* of the first segment */
	uint32_t len;	     /* of all */
	uint16_t seg, segs;  /* index of its vs_seg; 0 segs: it is all in one piece */
	/* Its first 16 bytes as they were checked. This is what the receiver gets. */
	__m128i header;
};

struct vs_load_of {
	const struct vs_frame *frame;
	uint32_t count;
	uint32_t longest; /* no frame is longer */
	bool pieces;	  /* some frame has segs, or is shorter than 16 bytes */
	const struct vs_seg *segs;
};

struct vs_delivered {
	uint64_t frames, bytes;
};

/*
 * Frames of one load, in order, into the ring of `to` that goes with the sender's queue. What does
 * not fit is dropped and counted there.
 */
struct vs_delivered vs_deliver(struct vs_caller *caller, struct vs_port *to, unsigned int queue,
			       const struct vs_load_of *load);

vs_inline struct vs_queue *vs_rx_queue(struct vs_port *to, unsigned int queue)
{
	return &to->queue[vs_load(&to->rx_map[queue % ELISA_QUEUES_MAX])];
}

vs_inline void vs_rx_drop(struct vs_rx *rx, enum elisa_drop why, uint64_t count)
{
	vs_count(&rx->drops[why - ELISA_DROP_RX_LINK_DOWN], count);
}

#endif
