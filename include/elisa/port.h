/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A port of the switch, over libelisa-guest: rings and buffers in memory that the switch reaches,
 * bursts of frames, recovery when the switch goes away and returns. The ring format is in net.h.
 *
 *	elisa_guest_open -> elisa_port_open
 *		-> elisa_tx_put..., elisa_tx_push	send: done with when push returns
 *		-> elisa_rx_burst, elisa_rx_release	receive: frames lie in the port's buffers
 *		-> elisa_nic_poll			... when nothing came: perhaps a NIC has some
 *		-> elisa_port_poll every 100 to 250 ms	link state, recovery
 *	-> elisa_port_close
 *
 * One thread at a time per queue and direction; a queue belongs to the thread that opened the port
 * until another one takes it with elisa_port_bind(). The elisa_port_* functions want no other
 * thread inside any function of that port. All: 0 or a count, or a negative errno.
 */
#ifndef ELISA_PORT_H
#define ELISA_PORT_H

#include <stddef.h>
#include <stdint.h>
#include <elisa/bell.h>
#include <elisa/guest.h>
#include <elisa/net.h>

#ifdef __cplusplus
extern "C" {
#endif

struct elisa_port;

/* 0 in any field: the default, in brackets. */
struct elisa_port_params {
	uint32_t queues;	/* [1] pairs; at most what the port allows */
	uint32_t tx_size;	/* [256] descriptors, a power of two */
	uint32_t rx_size;	/* [512] likewise, each with a buffer */
	uint32_t rx_buf_len;	/* [2048] bytes of an RX buffer; longer frames span several */
	uint32_t tx_bufs;	/* [64] TX buffers of a queue */
	uint32_t tx_buf_len;	/* [ELISA_FRAME_MAX] bytes of one, at most 65535 */
	uint32_t timeout_ms;	/* [2000] how long to ask again on EAGAIN at open and close */
	/* [none] ELISA_NET_F_* that the user of received frames understands. Those that the switch
	 * does not know are left out: see elisa_port_info.features. */
	uint32_t features;
};

/*
 * Takes a doorbell device of the VM for ringing, if it has one (bell.h); to be woken is not here.
 * `which`: a number (index among this VM's ports), a name as the host configured it, or NULL: the
 * first. `params` may be NULL. ENODEV: no such port; EBUSY: another process has it; EINVAL: params;
 * EAGAIN: a former user's queue stayed busy; and elisa_mem_alloc()'s and the guest ABI's errors.
 */
int elisa_port_open(struct elisa_guest *guest, const char *which,
		    const struct elisa_port_params *params, struct elisa_port **port);
/* Waits until the switch is done with the memory; if it does not say so, the memory is left behind
 * for the next user of the port to take over. Frees `port` in any case. */
void elisa_port_close(struct elisa_port *port);
/* As the switch said at open or at the last recovery; `link` is kept up to date by poll. */
const struct elisa_port_info *elisa_port_info(const struct elisa_port *port);
/* The calling thread uses this queue from now on. */
int elisa_port_bind(struct elisa_port *port, uint32_t queue);
int elisa_port_counters(struct elisa_port *port, struct elisa_port_counters *counters);

#define ELISA_PORT_DOWN		(1 << 0)	/* the link went down, or the switch away */
#define ELISA_PORT_UP		(1 << 1)	/* it is up again */
#define ELISA_PORT_RESET	(1 << 2)	/* queues were set up anew: frames held are void */
#define ELISA_PORT_CHANGED	(1 << 3)	/* MAC, MTU or name changed */
/*
 * Asks how the link is and sets the queues up anew if the switch has forgotten them. Returns the
 * ELISA_PORT_* events since the last poll, 0 mostly. Cheap: two calls. Never blocks for long: a
 * recovery that has to wait goes on at the next poll.
 */
int elisa_port_poll(struct elisa_port *port);
/* Frames can be sent and received at present; otherwise why not, as a negative error. */
int elisa_port_state(const struct elisa_port *port);
/* "not attached", "away", "link down" ...: for people. */
const char *elisa_port_state_text(int state);

/* ---- sending ---- */

struct elisa_txq {
	struct elisa_txd *ring;
	uint32_t mask;
	uint32_t next;		/* free-running */
	uint64_t handle;
	struct elisa_call call;
	/* buffers for the user, of buf_len bytes; not used by the functions below */
	void **buf;
	uint64_t *buf_gpa;
	uint32_t bufs, buf_len;
	uint64_t calls, taken;	/* statistics: calls made, descriptors taken */
	const struct elisa_bell *bell;	/* wakes sleeping receivers; NULL: this VM has none */
	uint64_t bells, unrung;	/* statistics: rung, and not rung for want of `bell` */
	uint32_t nics;		/* not 0: the switch wants NICs looked after, ELISA_LINK_POLL */
	uint64_t polls, polled;	/* statistics: elisa_nic_poll(), and frames that NICs had */
};

struct elisa_txq *elisa_port_txq(struct elisa_port *port, uint32_t queue);

/* Length and flags of a descriptor, as the one word that they are stored as. */
static inline uint64_t elisa_txd_word(uint16_t len, uint16_t flags)
{
	return (uint64_t)len | (uint64_t)flags << 16;
}

static inline void elisa_txd_set(struct elisa_txd *d, uint64_t gpa, uint64_t word)
{
	d->addr = gpa;
	__builtin_memcpy(&d->len, &word, sizeof(word));
}

/* Writes descriptor `i` of the next push, i below tx_size and ELISA_TX_MAX. */
static inline void elisa_tx_put(const struct elisa_txq *q, uint32_t i, uint64_t gpa, uint16_t len,
				uint16_t flags)
{
	elisa_txd_set(&q->ring[(q->next + i) & q->mask], gpa, elisa_txd_word(len, flags));
}

/*
 * The same for the first descriptor of a frame with a checksum or segmentation left to do: `flags`
 * with ELISA_NET_CSUM and so on, see net.h.
 */
static inline void elisa_tx_put_offload(const struct elisa_txq *q, uint32_t i, uint64_t gpa,
					uint16_t len, uint16_t flags, uint16_t csum_start,
					uint16_t gso_size)
{
	elisa_txd_set(&q->ring[(q->next + i) & q->mask], gpa,
		      elisa_txd_word(len, flags) | (uint64_t)csum_start << 32 |
			      (uint64_t)gso_size << 48);
}

/* Writes n descriptors of one length, of whole frames, for the next push; n as above. */
static inline void elisa_tx_fill(const struct elisa_txq *q, const uint64_t *gpa, uint16_t len,
				 uint32_t n)
{
	const uint64_t word = elisa_txd_word(len, 0), *const end = gpa + n;
	struct elisa_txd *d = &q->ring[q->next & q->mask];
	const uint32_t to_wrap = q->mask + 1 - (q->next & q->mask);
	const uint64_t *const stop = gpa + (n < to_wrap ? n : to_wrap);

	for (; gpa != stop; gpa++, d++)
		elisa_txd_set(d, *gpa, word);
	for (d = q->ring; gpa != end; gpa++, d++)
		elisa_txd_set(d, *gpa, word);
}

/* Wakes the receivers that sleep, after an ELISA_TX_BELL. elisa_tx_push() does it by itself. */
void elisa_tx_ring(struct elisa_txq *q);

/*
 * Sends the n descriptors put. Returns how many were taken, whole frames only: those are delivered
 * or dropped and counted, and their buffers free. The others are still put, as 0, 1...: push again
 * with what is left, or put something else. Negative: see ELISA_NET_TX; nothing was taken.
 */
static inline int64_t elisa_tx_push(struct elisa_txq *q, uint32_t n)
{
	const int64_t result = elisa_call(&q->call, ELISA_NET_TX, q->handle, n, 0);
	const uint32_t taken = (uint32_t)result & ELISA_TX_TAKEN;

	q->calls++;
	if (result < 0)
		return result;
	q->next += taken;
	q->taken += taken;
	if (__builtin_expect(result & ELISA_TX_BELL, 0))
		elisa_tx_ring(q);
	return taken;
}

/* Puts and pushes any number of descriptors until all are taken or two pushes on end took none. */
int64_t elisa_tx_burst(struct elisa_txq *q, const struct elisa_txd *descs, uint32_t n);

uint32_t elisa_nic_poll_now(struct elisa_txq *q);
/*
 * Looks after the switch's NICs, if there are such that want it: takes what they received to its
 * receivers, of this port or another, and wakes those. To be called when the RX rings were found
 * empty, and now and then when they never are; counts as sending by `q`. Nobody needs to do it in
 * his sleep: the host does. Returns frames that NICs had, mostly 0.
 */
static inline uint32_t elisa_nic_poll(struct elisa_txq *q)
{
	return q->nics ? elisa_nic_poll_now(q) : 0;
}

/* ---- receiving ---- */

struct elisa_frame {
	void *data;		/* first segment */
	uint32_t first;		/* completion it lies in; the others follow */
	uint32_t len;		/* of the whole frame */
	uint16_t seg_len;	/* of the first segment */
	uint16_t segs;
	/* As the first completion says: what is left to do, without ELISA_NET_MORE, or that the
	 * checksum is known to be right (ELISA_RXC_CSUM_OK); and the hash. */
	uint16_t flags, csum_start, gso_size;
	uint32_t hash;
};

struct elisa_rxq {
	struct elisa_rxc *comp;
	struct elisa_rx *ring;
	void **buf;		/* buffer of each slot: they are always posted in the same order */
	uint32_t mask;
	uint32_t head;		/* next completion to look at */
	uint32_t posted;
	uint64_t frames, bytes;	/* statistics */
	uint64_t aborted;	/* frames void because their sender died */
};

struct elisa_rxq *elisa_port_rxq(struct elisa_port *port, uint32_t queue);

/* A completion is there (of a frame that may still lack its end). No call, no system call. */
static inline int elisa_rx_ready(const struct elisa_rxq *q)
{
	/* Pairs with the sender's release store of seq. */
	return __atomic_load_n(&q->comp[q->head & q->mask].seq, __ATOMIC_ACQUIRE) == q->head + 1;
}

/* Up to n whole frames. They are the caller's until elisa_rx_release(). */
uint32_t elisa_rx_burst(struct elisa_rxq *q, struct elisa_frame *frames, uint32_t n);
/* Gives every buffer of the bursts so far back to the switch. */
static inline void elisa_rx_release(struct elisa_rxq *q)
{
	const uint32_t posted = q->head + q->mask + 1;

	if (posted != q->posted) {
		q->posted = posted;
		/* Pairs with the senders' acquire load: our reads of the buffers come before. */
		__atomic_store_n(&q->ring->posted, posted, __ATOMIC_RELEASE);
	}
}

/* Segment i (0 .. segs - 1) of a frame. */
static inline void *elisa_rx_seg(const struct elisa_rxq *q, const struct elisa_frame *f, uint32_t i,
				 uint16_t *len)
{
	const uint32_t slot = (f->first + i) & q->mask;

	*len = q->comp[slot].len;
	return q->buf[slot];
}

#ifdef __cplusplus
}
#endif
#endif
