/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames on their way from classification to a receiver's ring. */
#ifndef VS_DELIVER_H
#define VS_DELIVER_H

#include "mem.h"

#define VS_BATCH 32 /* descriptors classified at once, hence frames too */
#define VS_SEGS	 96 /* segments of the frames of a batch that have several */

/* What is left to do for a frame, as in descriptors and completions; all 0: nothing. */
struct vs_offload {
	uint16_t flags; /* ELISA_NET_*, without MORE */
	uint16_t csum_start, gso_size;
};

/* Piece of a frame, checked: within the sender's memory. */
struct vs_seg {
	const uint8_t *data;
	uint16_t len;
	struct vs_offload offload; /* of the frame: in its first piece, else 0 */
};

/* A place in a frame. */
struct vs_from {
	const struct vs_seg *seg;
	uint64_t at; /* offset in it */
};

/* The next `len` bytes of a frame, which has that many. */
void vs_copy_pieces(uint8_t *to, struct vs_from *from, uint64_t len);

#define VS_SEGS_RAW (1 << 15)

struct vs_frame {
	const uint8_t *data; /* of the first segment */
	uint32_t len;	     /* of all */
	/* Index of its vs_seg; 0 segs: it is all in one piece, and asks for nothing. Else perhaps
	 * VS_SEGS_RAW, too: what it asks for is neither done nor told. */
	uint16_t seg, segs;
	/* Its first 16 bytes as they were checked. This is what the receiver gets. */
	__m128i header;
};

struct vs_load_of {
	const struct vs_frame *frame;
	uint32_t count;
	uint32_t longest; /* no frame is longer */
	bool pieces;	  /* some frame has segs, or is shorter than 16 bytes */
	bool copies;	  /* for a mirror: not to be mirrored */
	bool paid;	  /* not to be policed any more */
	/*
	 * Tags come or go: bytes that the frames grow by, 4, 0 or -4. Their lengths and headers say
	 * what they are then, all else what they were.
	 */
	int8_t shift;
	const struct vs_seg *segs;
	uint64_t *filled; /* counts frames whose checksum was filled in; the sender's own */
	/* Of each frame: flags of its completion << 32 | hash: ELISA_RXC_HASH with a hash, and
	 * ELISA_RXC_CSUM_OK. NULL: no frame has either. */
	const uint64_t *hash;
};

struct vs_delivered {
	uint64_t frames, bytes;
};

/*
 * Frames of one load, in order, into the ring of RX queue `queue` of `to`. What does not fit is
 * dropped and counted there.
 */
struct vs_delivered vs_deliver(struct vs_caller *caller, struct vs_port *to, unsigned int queue,
			       const struct vs_load_of *load);

/*
 * The same, into the rings that the frames' hashes say, or, of a NIC, into its sender's. With RSS
 * or to a NIC only; VS_BATCH frames at most.
 */
struct vs_delivered vs_steer(struct vs_caller *caller, struct vs_port *to,
			     const struct vs_load_of *load);

/* To a port with VS_POLICE_RX. */
struct vs_delivered vs_deliver_policed(struct vs_caller *caller, struct vs_port *to,
				       unsigned int queue, const struct vs_load_of *load);

/*
 * rate.c: may a frame pass, or all of several? If so their tokens are taken. `bytes`: VS_TX_BYTES
 * or VS_RX_BYTES, with the bucket for frames beside it.
 */
bool vs_police(struct vs_port *port, unsigned int bytes, uint64_t len);
bool vs_police_many(struct vs_port *port, unsigned int bytes, const struct vs_frame *frame,
		    uint32_t count);
/* May a frame flood? */
bool vs_storm(struct vs_port *port, unsigned int bucket);

unsigned int vs_queue_of_caller(const struct vs_caller *caller, const struct vs_port *to);

/* RX queue that goes with a sender's queue. */
vs_inline unsigned int vs_rx_index(const struct vs_port *to, unsigned int queue)
{
	return vs_load(&to->rx_map[queue % ELISA_QUEUES_MAX]);
}

vs_inline struct vs_queue *vs_rx_queue(struct vs_port *to, unsigned int queue)
{
	return &to->queue[vs_rx_index(to, queue)];
}

/* To wherever it belongs, from TX queue `queue`. */
vs_inline struct vs_delivered vs_deliver_from(struct vs_caller *caller, struct vs_port *to,
					      unsigned int queue, const struct vs_load_of *load)
{
	if (vs_unlikely(vs_load(&to->extras) & VS_POLICE_RX) && !load->paid)
		return vs_deliver_policed(caller, to, queue, load);
	if (vs_unlikely(vs_load(&to->rss.types)))
		return vs_steer(caller, to, load);
	return vs_deliver(caller, to, vs_rx_index(to, queue), load);
}

/* What mirrors are told of a frame: the lowest bits of a note, see VS_NOTE_RX and VS_NOTE_DROP. */
#define VS_SENT 0u
#define VS_GOT	0x20u
vs_inline uint32_t vs_dropped(unsigned int why)
{
	return (why >= ELISA_DROP_RX_LINK_DOWN ? VS_GOT : VS_SENT) | (why + 1);
}

/*
 * Copies of frames [first, end) of the load for the port's mirrors that want such. To be called
 * when nothing is reserved, with the port's VS_EXTRA_* seen.
 */
void vs_mirror(struct vs_caller *caller, const struct vs_port *port, const struct vs_load_of *load,
	       uint32_t first, uint32_t end, uint32_t what);

vs_inline void vs_rx_drop(struct vs_rx *rx, enum elisa_drop why, uint64_t count)
{
	vs_count(&rx->drops[why - ELISA_DROP_RX_LINK_DOWN], count);
}

#endif
