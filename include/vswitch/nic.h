/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NIC ports of libvswitch: ports whose other end is a NIC's driver.
 *
 * A NIC port is bound to a guest of its own whose memory is that of the driver: addresses are the
 * process's own (gpa == address). The NIC's side sets the port's queues up as any guest does, with
 * ELISA_NET_QUEUE_SETUP, and posts its packet buffers as RX buffers. So a frame to the NIC is copied
 * once, from the sender into a packet buffer, and what the NIC received is sent from where it lies.
 *
 * What is left is to move buffers between those rings and the driver's: struct vs_nic_ops. Each
 * queue of the port has two halves, towards the NIC and from it. Whoever finds a half free takes it,
 * runs its function, and lets it go: a vCPU after it sent something to the NIC, or when it polls
 * (ELISA_NET_POLL); and the daemon's own thread. Nobody waits for a half.
 *
 * The port's guest serves a queue by ELISA_NET_POLL with its handle: both halves, and frames of both
 * ways are in the result. It never calls ELISA_NET_TX: what lies in the TX ring is for the holder of
 * the half from the NIC. A sender uses the queue that its caller's number says, so each vCPU has its
 * own where there are enough.
 *
 * NIC ports do not exchange frames with each other, whatever their groups, unless
 * vs_config.bridge_nics says so.
 *
 * An address of a guest's port that was learned there does not move to a NIC port, whoever uses it
 * outside. Until the guest has sent something, only a static entry (vs_fdb_add) says that it is its.
 *
 * A caller that is stopped for good with a half leaves it dirty: nobody takes it any more, until the
 * daemon has brought the driver into a known state and released the port anew.
 */
#ifndef VSWITCH_NIC_H
#define VSWITCH_NIC_H

#include <vswitch/vswitch.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VS_NICS_MAX	16	/* of one switch */
#define VS_NIC_BURST	32	/* frames */

/*
 * Run by the holder of the half, with guests' serving on their vCPU inside the trusted context: no
 * system call, no fault, no waiting, bounded, all they touch exported, at most 32 KiB of stack.
 */
struct vs_nic_ops {
	/*
	 * From the NIC: receives at most `max` frames and describes them in the TX ring of the port's
	 * queue, from where the last rx_done() left off. Returns descriptors there, also those that
	 * were not taken the last time.
	 */
	uint32_t (*rx)(void *rxq, uint32_t max);
	/* The switch took `descs` of them: their buffers are free. */
	void (*rx_done)(void *rxq, uint32_t descs);
	/*
	 * To the NIC: hands frames that lie complete in the RX ring of the port's queue to the driver,
	 * VS_NIC_BURST at most, and posts new buffers. Returns completions taken, free-running since
	 * set-up. Taken frames are sent, or counted by the driver's side as not sent; those that wait
	 * there until the driver has room do not count, so that somebody comes again for them.
	 */
	uint32_t (*tx)(void *txq);
};

enum vs_nic_serve {
	VS_NIC_BY_HOST,		/* only callers of the port's own guest take halves: the daemon */
	VS_NIC_BY_GUESTS,	/* and the vCPUs of VMs whose ports have a group in common with it */
};

/*
 * Control side. `port` becomes a NIC port, served by nobody yet (as after vs_nic_hold()). `ops` is
 * copied. EINVAL; ENODEV; ENOSPC: VS_NICS_MAX; EBUSY: it is one, or bound.
 */
int vs_nic_add(struct vswitch *vs, int port, enum vs_nic_serve serve, const struct vs_nic_ops *ops);
/* Held and unbound: an ordinary port again. EBUSY. */
int vs_nic_del(struct vswitch *vs, int port);
/* Callers of this guest run in another address space than ops (clients of `local`): never by them. */
void vs_guest_foreign(struct vswitch *vs, int guest);

/*
 * Up to vs_nic_status(): any thread, but one at a time for one port.
 * What ops get for `queue`. Only while the port is held. EBUSY, EINVAL.
 */
int vs_nic_queue(struct vswitch *vs, int port, unsigned int queue, void *rxq, void *txq);
/* Another answer to who serves it. Likewise. Guests see it with their next ELISA_NET_PORT_INFO. */
int vs_nic_set_serve(struct vswitch *vs, int port, enum vs_nic_serve serve);
/* From now on nobody takes a half. 0: nobody has one, all that was dirty is given up; EAGAIN: ask again. */
int vs_nic_hold(struct vswitch *vs, int port);
/* Halves may be taken, with clean books: `tx` counts from 0, as after the set-up of its queues, which
 * is thus to be done anew in each hold. EBUSY: not held, or somebody is still in. */
int vs_nic_release(struct vswitch *vs, int port);

struct vs_nic_half_status {
	uint32_t owner_guest;	/* guest id + 1 of who has it; 0: nobody */
	bool dirty;		/* its owner was stopped for good */
	/* Counted since vs_nic_add(): rounds, and descriptors or completions moved, by whom; and
	 * times that somebody found it taken. */
	uint64_t calls_host, calls_guest, frames_host, frames_guest, busy;
};
struct vs_nic_status {
	bool held, dirty;	/* dirty: some half is */
	unsigned int queues;
	struct {
		struct vs_nic_half_status rx, tx;	/* from the NIC, to it */
		uint32_t waiting;	/* buffers of frames to the NIC that it did not take yet */
	} queue[ELISA_QUEUES_MAX];
};
int vs_nic_status(const struct vswitch *vs, int port, struct vs_nic_status *status);

/*
 * The link that guests are shown for `port` (any port: those behind a NIC follow it); frames pass
 * all the same. At first true. Control side.
 */
int vs_port_carrier(struct vswitch *vs, int port, bool carrier);

#ifdef __cplusplus
}
#endif
#endif
