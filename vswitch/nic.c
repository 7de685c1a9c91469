/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NIC ports: who runs the driver, and when.
 *
 *	vs_nic_kick	after a delivery to a NIC: its sender hands the frames to the driver
 *	vs_nic_poll	ELISA_NET_POLL: what NICs received is sent, as by their port's TX queue
 *
 * Each queue has two halves with an owner each. One who finds a half taken leaves: its owner looks
 * for more once it has let go. That is the usual pattern of a flag and a ring:
 *
 *	sender	commits its frames;  full barrier (the CAS);   is the half free?
 *	owner	lets the half go;    full barrier;             is there more in the ring?
 *
 * The owner looks a bounded number of times. What lies there after that, or behind a half whose
 * owner was stopped, is for the next one: a sender, a poller, or the host.
 *
 * The port's rings are the driver's, which runs under a half. So the holder of the half from the
 * NIC has the TX queue's books too; the state word of the TX queue, whose owner is who called with
 * its handle, only says whose bells they are. A half is used by callers only, and with the queue
 * seen UP: so the rings stay until they are out, as with any other queue.
 */
#include "deliver.h"

#define VS_NIC_TRIES  3 /* of a sender, to find nothing left */
#define VS_NIC_ROUNDS 8 /* VS_NIC_BURST frames each, while it has the half */
#define VS_NIC_POLLED 4 /* NICs looked after in one call */

/*
 * The only indirect calls of the callers' side. Through a return whose prediction is known, so that
 * no guest's branch history leads them elsewhere.
 */
#ifdef __has_attribute
#if __has_attribute(indirect_branch)
#define VS_CALLS __attribute__((indirect_branch("thunk-inline"), noinline))
#endif
#endif
#ifndef VS_CALLS
#define VS_CALLS vs_noinline
#endif

static VS_CALLS uint32_t call_rx(const struct vs_nic *nic, void *rxq)
{
	return nic->ops.rx(rxq, VS_NIC_BURST);
}

static VS_CALLS void call_rx_done(const struct vs_nic *nic, void *rxq, uint32_t descs)
{
	nic->ops.rx_done(rxq, descs);
}

static VS_CALLS uint32_t call_tx(const struct vs_nic *nic, void *txq)
{
	return nic->ops.tx(txq);
}

/* ---- halves ---- */

vs_inline bool is_host(const struct vs_caller *caller, const struct vs_port *port)
{
	return vs_load(&port->guest) == caller->guest;
}

/* Is it for guests' vCPUs at all? */
static bool by_guests(const struct vs_nic *nic, const struct vs_guest *guest)
{
	return vs_load(&nic->serve) == VS_NIC_BY_GUESTS && !vs_load(&guest->foreign);
}

/* The half is noted before it is taken. False: somebody has it, or nobody may have it. */
static bool take(struct vs_caller *caller, struct vs_nic_half **note, struct vs_nic_half *half)
{
	uint64_t none = 0;

	vs_store_release(note, half);
	VS_STEP();
	if (vs_cas(&half->owner, &none, caller->id)) {
		VS_STEP();
		return true;
	}
	vs_store_release(note, NULL);
	if ((uint32_t)none)
		vs_count(&half->busy, 1);
	return false;
}

/* The low half of the word only: the control side may change the other at any time. */
static void let_go(struct vs_nic_half **note, struct vs_nic_half *half)
{
	typedef uint32_t __attribute__((may_alias)) low;

	VS_STEP();
	vs_store_release((low *)&half->owner, 0);
	VS_STEP();
	vs_store_release(note, NULL);
}

static void count(const struct vs_caller *caller, const struct vs_port *port,
		  struct vs_nic_half *half, uint32_t calls, uint32_t frames)
{
	bool host = is_host(caller, port);

	vs_count_owned(host ? &half->by_host.calls : &half->by_guests.calls, calls);
	vs_count_owned(host ? &half->by_host.frames : &half->by_guests.frames, frames);
}

/*
 * With a half: may the caller run its function? The slot may have become another NIC's since it was
 * found; now that the half is taken, it stays what it is.
 */
static bool usable(const struct vs_caller *caller, const struct vs_nic *nic,
		   const struct vs_nic_half *half)
{
	return half->arg && (is_host(caller, nic->port) || by_guests(nic, caller->guest));
}

/* ---- towards the NIC ---- */

/* What senders reserved: all that is there for the driver once they commit. */
static bool reserved(const struct vs_rx *rx, uint32_t *tail)
{
	uint64_t word = vs_load_acquire(&rx->resv.a);

	*tail = (uint32_t)word;
	return word & VS_UP;
}

/* With the half. Returns completions that the driver took. */
static uint32_t transmit(struct vs_caller *caller, struct vs_nic *nic, unsigned int queue)
{
	struct vs_nic_half *half = &nic->queue[queue].tx;
	const struct vs_rx *rx = &nic->port->queue[queue].rx;
	uint32_t before = half->taken, rounds = 0, tail;

	while (rounds < VS_NIC_ROUNDS && reserved(rx, &tail) && tail != half->taken) {
		uint32_t now;

		VS_STEP();
		now = call_tx(nic, half->arg);
		VS_STEP();
		rounds++;
		if (now == half->taken)
			break;
		vs_store(&half->taken, now);
	}
	count(caller, nic->port, half, rounds, half->taken - before);
	return half->taken - before;
}

static uint32_t nic_tx(struct vs_caller *caller, struct vs_nic *nic, unsigned int queue)
{
	struct vs_nic_half *half = &nic->queue[queue].tx;
	uint32_t done = 0, taken, tail;
	const struct vs_rx *rx;
	bool may;

	for (int i = 0; i < VS_NIC_TRIES; i++) {
		if (!take(caller, &caller->nic_tx, half))
			break;
		may = usable(caller, nic, half);
		if (may)
			done += transmit(caller, nic, queue);
		rx = &nic->port->queue[queue].rx;
		taken = half->taken;
		let_go(&caller->nic_tx, half);
		vs_fence();
		if (!may || !reserved(rx, &tail) || tail == taken)
			break;
	}
	return done;
}

/* Bits of NICs that frames were delivered to. */
vs_noinline void vs_nic_kick(struct vs_caller *caller)
{
	uint32_t which = caller->kick;

	caller->kick = 0;
	for (; which; which &= which - 1) {
		struct vs_nic *nic = &caller->vs->nics[__builtin_ctz(which)];
		const struct vs_port *port = vs_load_acquire(&nic->port);

		if (port && (is_host(caller, port) || by_guests(nic, caller->guest)))
			nic_tx(caller, nic, vs_queue_of_caller(caller, port));
	}
}

/* ---- from the NIC ---- */

/* With the half. Returns descriptors of frames that it had. */
static uint32_t receive(struct vs_caller *caller, struct vs_nic *nic, unsigned int queue)
{
	struct vs_nic_half *half = &nic->queue[queue].rx;
	const struct vs_tx *tx = &nic->port->queue[queue].tx;
	uint32_t descs;

	if (!(vs_load_acquire(&tx->state) & VS_UP) || !tx->size)
		return 0;
	descs = call_rx(nic, half->arg);
	VS_STEP();
	if (descs > ELISA_TX_MAX)
		descs = ELISA_TX_MAX;
	if (descs) {
		descs = vs_send_nic(caller, nic->port, queue, descs);
		VS_STEP();
		call_rx_done(nic, half->arg, descs);
		VS_STEP();
	}
	count(caller, nic->port, half, 1, descs);
	return descs;
}

static uint32_t nic_rx(struct vs_caller *caller, struct vs_nic *nic, unsigned int queue)
{
	struct vs_nic_half *half = &nic->queue[queue].rx;
	uint32_t descs = 0;

	if (!take(caller, &caller->nic_rx, half))
		return 0;
	if (usable(caller, nic, half))
		descs = receive(caller, nic, queue);
	let_go(&caller->nic_rx, half);
	return descs;
}

/* Both ways. What waits to be sent is what was left there, or came from who may not send it. */
static uint32_t serve(struct vs_caller *caller, struct vs_nic *nic, const struct vs_port *port,
		      unsigned int queue)
{
	uint32_t had = nic_rx(caller, nic, queue), tail, sent = 0;

	if (reserved(&port->queue[queue].rx, &tail) && tail != vs_load(&nic->queue[queue].tx.taken))
		sent = nic_tx(caller, nic, queue);
	return is_host(caller, port) ? had + sent : had;
}

/* May guest `g`, by its port, look after this one? */
static bool polls(const struct vs_nic *nic, const struct vs_port *nic_port,
		  const struct vs_guest *g, const struct vs_port *port)
{
	return nic_port && nic_port != port && by_guests(nic, g) &&
	       vs_load(&nic_port->groups) & vs_load(&port->groups);
}

/*
 * One queue of each NIC, another one each time, so that all have their turn. A NIC port's own guest
 * serves the queue whose handle it gave.
 */
uint32_t vs_nic_poll(struct vs_caller *caller, struct vs_port *port, unsigned int queue)
{
	struct vswitch *vs = caller->vs;
	uint32_t high = vs_load_acquire(&vs->nics_high), turn = caller->polls++, had = 0;
	unsigned int left = VS_NIC_POLLED;
	struct vs_nic *nic = vs_load_acquire(&port->nic);

	if (nic)
		return serve(caller, nic, port, queue);
	for (uint32_t i = 0; i < high && left; i++) {
		const struct vs_port *at;

		nic = &vs->nics[(turn + i) % high];
		at = vs_load_acquire(&nic->port);
		if (!polls(nic, at, caller->guest, port))
			continue;
		left--;
		had += serve(caller, nic, at, vs_rx_index(at, caller->id - 1 + turn));
	}
	return had;
}

bool vs_nic_to_poll(const struct vs_caller *caller, const struct vs_port *port)
{
	const struct vswitch *vs = caller->vs;
	uint32_t high = vs_load_acquire(&vs->nics_high);

	for (uint32_t i = 0; i < high; i++)
		if (polls(&vs->nics[i], vs_load_acquire(&vs->nics[i].port), caller->guest, port))
			return true;
	return false;
}

/* ---- control side ---- */

/* `caller` was stopped for good. What its halves' driver was about to do nobody knows. */
static void recover(const struct vs_caller *caller, struct vs_nic_half *half)
{
	typedef uint32_t __attribute__((may_alias)) low;

	if (!half || (uint32_t)vs_load(&half->owner) != caller->id)
		return;
	vs_fetch_or(&half->owner, VS_NIC_DIRTY);
	vs_store_release((low *)&half->owner, 0);
}

void vs_nic_recover(struct vs_caller *caller)
{
	recover(caller, caller->nic_rx);
	recover(caller, caller->nic_tx);
	caller->nic_rx = NULL;
	caller->nic_tx = NULL;
	caller->kick = 0;
}

static struct vs_nic *nic_get(const struct vswitch *vs, int id)
{
	const struct vs_port *port = vs_port_get(vs, id);

	return port ? port->nic : NULL;
}

int vs_nic_add(struct vswitch *vs, int id, enum vs_nic_serve by, const struct vs_nic_ops *ops)
{
	struct vs_port *port = vs_port_get(vs, id);
	struct vs_nic *nic = NULL;

	if (!port)
		return -ELISA_ENODEV;
	if (port->guest || port->nic)
		return -ELISA_EBUSY;
	if (!ops->rx || !ops->rx_done || !ops->tx)
		return -ELISA_EINVAL;
	for (uint32_t i = 0; i < VS_NICS_MAX && !nic; i++)
		if (!vs->nics[i].port)
			nic = &vs->nics[i];
	if (!nic)
		return -28; /* ENOSPC */
	for (uint32_t i = 0; i < ELISA_QUEUES_MAX; i++) {
		nic->queue[i].rx = (struct vs_nic_half){.owner = VS_NIC_HELD};
		nic->queue[i].tx = (struct vs_nic_half){.owner = VS_NIC_HELD};
	}
	nic->ops = *ops;
	nic->held = true;
	vs_store(&nic->serve, by);
	vs_store_release(&port->nic, nic);
	vs_tune_reset(port);
	vs_store_release(&nic->port, port);
	if (vs->nics_high <= nic - vs->nics)
		vs_store_release(&vs->nics_high, (uint32_t)(nic - vs->nics) + 1);
	return 0;
}

int vs_nic_del(struct vswitch *vs, int id)
{
	struct vs_nic *nic = nic_get(vs, id);
	struct vs_port *port;

	if (!nic)
		return -ELISA_ENODEV;
	port = nic->port;
	if (port->guest || !vs_load(&nic->held) || vs_nic_hold(vs, id))
		return -ELISA_EBUSY;
	vs_store_release(&nic->port, NULL);
	vs_store_release(&port->nic, NULL);
	vs_tune_reset(port);
	return 0;
}

int vs_nic_queue(struct vswitch *vs, int id, unsigned int queue, void *rxq, void *txq)
{
	struct vs_nic *nic = nic_get(vs, id);

	if (!nic || queue >= nic->port->queues)
		return -ELISA_EINVAL;
	if (!vs_load(&nic->held) || vs_nic_hold(vs, id))
		return -ELISA_EBUSY;
	nic->queue[queue].rx.arg = rxq;
	nic->queue[queue].tx.arg = txq;
	return 0;
}

int vs_nic_set_serve(struct vswitch *vs, int id, enum vs_nic_serve by)
{
	struct vs_nic *nic = nic_get(vs, id);

	if (!nic)
		return -ELISA_EINVAL;
	if (!vs_load(&nic->held) || vs_nic_hold(vs, id))
		return -ELISA_EBUSY;
	vs_store(&nic->serve, by);
	return 0;
}

int vs_nic_hold(struct vswitch *vs, int id)
{
	struct vs_nic *nic = nic_get(vs, id);
	uint64_t owners = 0;

	if (!nic)
		return -ELISA_ENODEV;
	vs_store(&nic->held, true);
	for (uint32_t i = 0; i < ELISA_QUEUES_MAX; i++) {
		owners |= vs_fetch_or(&nic->queue[i].rx.owner, VS_NIC_HELD);
		owners |= vs_fetch_or(&nic->queue[i].tx.owner, VS_NIC_HELD);
	}
	return (uint32_t)owners ? -ELISA_EAGAIN : 0;
}

int vs_nic_release(struct vswitch *vs, int id)
{
	struct vs_nic *nic = nic_get(vs, id);

	if (!nic)
		return -ELISA_ENODEV;
	if (!vs_load(&nic->held) || vs_nic_hold(vs, id))
		return -ELISA_EBUSY;
	vs_store(&nic->held, false);
	for (uint32_t i = 0; i < ELISA_QUEUES_MAX; i++) {
		vs_store(&nic->queue[i].tx.taken, 0);
		vs_store_release(&nic->queue[i].rx.owner, 0);
		vs_store_release(&nic->queue[i].tx.owner, 0);
	}
	return 0;
}

static void half_status(const struct vswitch *vs, const struct vs_nic_half *half,
			struct vs_nic_half_status *status)
{
	uint64_t owner = vs_load_acquire(&half->owner);
	const struct vs_guest *guest = NULL;

	if ((uint32_t)owner)
		guest = vs_load(&vs->callers[(uint32_t)owner - 1].guest);
	*status = (struct vs_nic_half_status){
		.owner_guest = guest ? (uint32_t)(guest - vs->guests) + 1 : 0,
		.dirty = owner & VS_NIC_DIRTY,
		.calls_host = vs_load(&half->by_host.calls),
		.calls_guest = vs_load(&half->by_guests.calls),
		.frames_host = vs_load(&half->by_host.frames),
		.frames_guest = vs_load(&half->by_guests.frames),
		.busy = vs_load(&half->busy),
	};
}

int vs_nic_status(const struct vswitch *vs, int id, struct vs_nic_status *status)
{
	const struct vs_nic *nic = nic_get(vs, id);
	uint32_t tail;

	if (!nic)
		return -ELISA_ENODEV;
	*status = (struct vs_nic_status){.held = vs_load(&nic->held), .queues = nic->port->queues};
	for (uint32_t i = 0; i < status->queues; i++) {
		half_status(vs, &nic->queue[i].rx, &status->queue[i].rx);
		half_status(vs, &nic->queue[i].tx, &status->queue[i].tx);
		if (reserved(&nic->port->queue[i].rx, &tail))
			status->queue[i].waiting = tail - vs_load(&nic->queue[i].tx.taken);
		status->dirty |= status->queue[i].rx.dirty || status->queue[i].tx.dirty;
	}
	return 0;
}

void vs_guest_foreign(struct vswitch *vs, int guest)
{
	if (guest >= 0 && (uint32_t)guest < vs->config.guests)
		vs_store(&vs->guests[guest].foreign, true);
}
