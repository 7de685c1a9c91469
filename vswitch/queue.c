/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's operations on queues. They run on its vCPUs, several at once, and against the control
 * side, which takes queues down as it likes.
 *
 * Set-up:	take the port's try-lock
 *		-> note both state words -> is the port still this guest's?
 *		-> take the queue down if it is up -> all callers that may use it are out, or EAGAIN
 *		-> write the fields -> publish by CAS from the noted words
 *
 * The control side first unbinds, then changes the words: either the second step sees the port
 * gone, or the CAS fails. And it says "a grace period is to come" before it changes the words, so
 * that words noted after that come with a ticket to wait for.
 */
#include "mem.h"

/*
 * In this order: a set-up that noted the word before the first step either publishes before it, and
 * the second step takes that down, or finds the word changed.
 */
static void word_down(uint64_t *word)
{
	vs_fetch_add(word, VS_GEN);
	VS_STEP();
	vs_fetch_and(word, ~VS_UP);
}

/* Nobody begins to use the queue after this. */
void vs_queue_down(struct vs_queue *q)
{
	word_down(&q->tx.state);
	VS_STEP();
	word_down(&q->rx.resv.a);
}

static bool rx_up(const struct vs_port *port, unsigned int queue)
{
	return vs_load_acquire(&port->queue[queue].rx.resv.a) & VS_UP;
}

/* Spreads senders' queues over the receiver's; with none it stays at a queue that is down. */
static void rx_map_update(struct vswitch *vs, struct vs_port *port)
{
	uint64_t bit = 1ull << port->id % 64;
	uint8_t up[ELISA_QUEUES_MAX];
	unsigned int count = 0, next = 0;
	uint32_t features = ELISA_NET_F_ALL;
	uint64_t any = 0;

	for (unsigned int i = 0; i < ELISA_QUEUES_MAX; i++) {
		any |= vs_load(&port->queue[i].tx.state);
		if (!rx_up(port, i))
			continue;
		up[count++] = (uint8_t)i;
		features &= vs_load(&port->queue[i].rx.features);
	}
	if (!count && !(any & VS_UP))
		vs_tune_reset(port);
	vs_store(&port->features, features);
	for (unsigned int i = 0; i < ELISA_QUEUES_MAX; i++) {
		vs_store(&port->rx_map[i], count ? up[next] : (uint8_t)0);
		if (++next >= count)
			next = 0;
	}
	if (count)
		vs_fetch_or(&vs->linked[port->id / 64], bit);
	else
		vs_fetch_and(&vs->linked[port->id / 64], ~bit);
	vs_changed(vs);
}

/* The control side: all queues of the port, at once. */
void vs_port_down(struct vswitch *vs, struct vs_port *port)
{
	vs_xchg(&port->host_ticket, VS_TICKET_PENDING);
	for (int i = 0; i < ELISA_QUEUES_MAX; i++)
		vs_queue_down(&port->queue[i]);
	vs_tune_reset(port);
	vs_fetch_and(&vs->linked[port->id / 64], ~(1ull << port->id % 64));
	vs_changed(vs);
	vs_xchg(&port->host_ticket, vs_epoch_next(vs));
}

/* The holder of the port's try-lock was stopped for good; this side holds it in its place. */
void vs_port_ctl_recover(struct vswitch *vs, struct vs_port *port)
{
	for (int i = 0; i < ELISA_QUEUES_MAX; i++) {
		struct vs_queue *q = &port->queue[i];

		/* Half taken down or half published: the guest did not get a result. */
		if (vs_load(&q->tx.state) & VS_UP && q->ticket != VS_TICKET_PENDING)
			continue;
		vs_queue_down(q);
		q->ticket = vs_epoch_next(vs);
	}
	rx_map_update(vs, port);
}

struct vs_port *vs_port_of(struct vs_caller *caller, uint64_t index)
{
	if (index >= ELISA_PORTS_PER_VM && VS_DEFENCE(port_index))
		return NULL;
	if (VS_DEFENCE(mask))
		index &= vs_mask_below(index, ELISA_PORTS_PER_VM);
	return vs_load_acquire(&caller->guest->ports[index]);
}

bool vs_ctl_take(struct vs_caller *caller, struct vs_port *port)
{
	uint32_t none = 0;

	vs_store_release(&caller->ctl, port);
	VS_STEP();
	if (vs_cas(&port->ctl, &none, caller->id) || !VS_DEFENCE(ctl_lock))
		return true;
	vs_store_release(&caller->ctl, NULL);
	return false;
}

void vs_ctl_drop(struct vs_caller *caller, struct vs_port *port)
{
	VS_STEP();
	vs_store_release(&port->ctl, 0);
	VS_STEP();
	vs_store_release(&caller->ctl, NULL);
}

static bool ticket_over(const struct vs_caller *caller, const uint64_t *ticket)
{
	uint64_t t = vs_load_acquire(ticket);

	return t != VS_TICKET_PENDING && vs_epoch_over(caller->vs, t, caller);
}

/* With the try-lock held: down, and every caller that may use it is out? */
static int quiesce(struct vs_caller *caller, struct vs_port *port, struct vs_queue *q)
{
	struct vswitch *vs = caller->vs;

	if ((vs_load(&q->tx.state) | vs_load(&q->rx.resv.a)) & VS_UP) {
		vs_store_release(&q->ticket, VS_TICKET_PENDING);
		VS_STEP();
		vs_queue_down(q);
		VS_STEP();
		rx_map_update(vs, port);
		VS_STEP();
		vs_store_release(&q->ticket, vs_epoch_next(vs));
	}
	VS_STEP();
	if (VS_DEFENCE(quiesce) &&
	    (!ticket_over(caller, &q->ticket) || !ticket_over(caller, &port->host_ticket)))
		return -ELISA_EAGAIN;
	return 0;
}

static bool size_valid(uint32_t size)
{
	return !VS_DEFENCE(ring_size) || !size ||
	       (size >= ELISA_RING_MIN && size <= ELISA_RING_MAX && !(size & (size - 1)));
}

/* Only what the switch knows; and who cuts frames up fills their checksums in, too. */
static bool features_valid(uint32_t features)
{
	return !(features & ~(uint32_t)ELISA_NET_F_ALL) &&
	       (features & ELISA_NET_F_CSUM || !(features & (ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6)));
}

static int setup_check(const struct elisa_queue_setup *s)
{
	if (s->revision != ELISA_NET_REVISION)
		return -ELISA_EPROTO;
	if (!features_valid(s->features) || s->reserved || !size_valid(s->tx_size) ||
	    !size_valid(s->rx_size) || !(s->tx_size | s->rx_size))
		return -ELISA_EINVAL;
	if (VS_DEFENCE(buf_len) && s->rx_size &&
	    (s->rx_buf_len < ELISA_RX_BUF_MIN || s->rx_buf_len > 65535))
		return -ELISA_EINVAL;
	if (VS_DEFENCE(ring_align) &&
	    ((s->tx_size && s->tx_ring & 63) ||
	     (s->rx_size && (s->rx_ring | s->rx_comp) & 63)))
		return -ELISA_EINVAL;
	return 0;
}

struct vs_rings {
	uint8_t *tx, *rx, *comp;
};

static int setup_rings(const struct vs_guest *guest, const struct elisa_queue_setup *s,
		       struct vs_rings *rings)
{
	uint32_t range;

	*rings = (struct vs_rings){NULL, NULL, NULL};
	if (s->tx_size) {
		rings->tx = vs_guest_at(guest, s->tx_ring, s->tx_size * sizeof(struct elisa_txd),
					&range);
		if (!rings->tx)
			return -ELISA_EFAULT;
	}
	if (s->rx_size) {
		rings->rx = vs_guest_at(guest, s->rx_ring,
					sizeof(struct elisa_rx) + s->rx_size * sizeof(uint64_t),
					&range);
		rings->comp = vs_guest_at(guest, s->rx_comp, s->rx_size * sizeof(struct elisa_rxc),
					  &range);
		if (!rings->rx || !rings->comp)
			return -ELISA_EFAULT;
	}
	return 0;
}

static void setup_fill(struct vs_guest *guest, const struct vs_port *port, struct vs_queue *q,
		       const struct elisa_queue_setup *s, const struct vs_rings *rings)
{
	struct vs_tx *tx = &q->tx;
	struct vs_rx *rx = &q->rx;

	tx->guest = guest;
	tx->ring = (const struct elisa_txd *)(void *)rings->tx;
	vs_store(&tx->size, s->tx_size);
	tx->mask = s->tx_size - 1;
	tx->next = 0;
	tx->hint = 0;
	tx->learned_version = 0;
	tx->way.version = 0;
	tx->bells.told = 0;
	tx->bells.rung = 0;
	rx->guest = guest;
	vs_store(&rx->ring, (const struct elisa_rx *)(void *)rings->rx);
	rx->comp = (struct elisa_rxc *)(void *)rings->comp;
	vs_store(&rx->size, s->rx_size);
	rx->mask = s->rx_size - 1;
	vs_store(&rx->buf_len, s->rx_buf_len);
	vs_store(&rx->features, s->features | (port->nic ? VS_F_NIC : 0));
	vs_store(&rx->owed, 0);
	vs_store(&rx->posted, 0);
}

/* See the roadmap above. Returns the handle: generation << 16 | port << 8 | queue. */
static int64_t setup_locked(struct vs_caller *caller, struct vs_port *port,
			    const struct elisa_queue_setup *s, const struct vs_rings *rings)
{
	struct vs_queue *q = &port->queue[s->queue];
	uint64_t state, up;
	struct vs_pair resv;
	int error = quiesce(caller, port, q);

	if (error)
		return error;
	state = __atomic_load_n(&q->tx.state, __ATOMIC_SEQ_CST);
	resv.a = __atomic_load_n(&q->rx.resv.a, __ATOMIC_SEQ_CST);
	resv.b = q->rx.resv.b;
	VS_STEP();
	/* Again, for the words that count now: taken down by the host between the two? */
	if ((state | resv.a) & VS_UP || !ticket_over(caller, &port->host_ticket))
		return -ELISA_EAGAIN;
	if (VS_DEFENCE(binding) &&
	    __atomic_load_n(&caller->guest->ports[s->port], __ATOMIC_SEQ_CST) != port)
		return -ELISA_ENODEV;
	setup_fill(caller->guest, port, q, s, rings);
	VS_STEP();
	if (s->rx_size) {
		up = (((resv.a >> 33) + 1) << 33) | VS_UP;
		if (!vs_cas_pair(&q->rx.resv, &resv, (struct vs_pair){up, 0}))
			return -ELISA_EAGAIN;
	}
	VS_STEP();
	up = (((state >> 33) + 1) << 33) | VS_UP;
	if (!vs_cas(&q->tx.state, &state, up))
		return -ELISA_EAGAIN;
	VS_STEP();
	rx_map_update(caller->vs, port);
	return (int64_t)((up >> 33) << 16 | (uint64_t)s->port << 8 | s->queue);
}

int64_t vs_op_queue_setup(struct vs_caller *caller, uint64_t gpa)
{
	struct elisa_queue_setup s;
	struct vs_rings rings;
	struct vs_port *port;
	int64_t result;

	if (!vs_copy_in(caller->guest, gpa, &s, sizeof(s)))
		return -ELISA_EFAULT;
	result = setup_check(&s);
	if (result)
		return result;
	port = vs_port_of(caller, s.port);
	if (!port || (VS_DEFENCE(queue_index) && s.queue >= port->queues))
		return -ELISA_ENODEV;
	s.port &= ELISA_PORTS_PER_VM - 1;
	s.queue &= ELISA_QUEUES_MAX - 1;
	result = setup_rings(caller->guest, &s, &rings);
	if (result)
		return result;
	if (!vs_ctl_take(caller, port))
		return -ELISA_EAGAIN;
	VS_STEP();
	result = setup_locked(caller, port, &s, &rings);
	vs_ctl_drop(caller, port);
	return result;
}

int64_t vs_op_queue_reset(struct vs_caller *caller, uint64_t which)
{
	struct vs_port *port = vs_port_of(caller, which >> 16);
	uint64_t queue = which & 0xffff;
	int result;

	if (!port || queue >= port->queues)
		return -ELISA_ENODEV;
	queue &= ELISA_QUEUES_MAX - 1;
	if (!vs_ctl_take(caller, port))
		return -ELISA_EAGAIN;
	VS_STEP();
	/* The binding once more, now that a set-up for another guest cannot come between. */
	if (vs_port_of(caller, which >> 16) == port)
		result = quiesce(caller, port, &port->queue[queue]);
	else
		result = -ELISA_ENODEV;
	vs_ctl_drop(caller, port);
	return result;
}

/* Up, bound, with carrier, and at least one queue set up. */
bool vs_port_link(const struct vs_port *port)
{
	if (!vs_load(&port->up) || !vs_load(&port->guest) || vs_load(&port->no_carrier))
		return false;
	for (unsigned int i = 0; i < port->queues; i++)
		if (vs_load(&port->queue[i].tx.state) & VS_UP)
			return true;
	return false;
}

int64_t vs_op_link(struct vs_caller *caller, uint64_t index)
{
	struct vs_port *port = vs_port_of(caller, index);

	if (!port)
		return -ELISA_ENODEV;
	return (int64_t)(vs_port_link(port) ? ELISA_LINK_UP : 0) |
	       (int64_t)(vs_nic_to_poll(caller, port) ? ELISA_LINK_POLL : 0) |
	       (int64_t)(vs_load(&port->frame_max) - 14) << 16;
}

int64_t vs_op_port_info(struct vs_caller *caller, uint64_t index, uint64_t gpa)
{
	struct vs_port *port = vs_port_of(caller, index);
	struct elisa_port_info info;
	uint32_t range;
	uint64_t key;
	uint8_t *to;

	if (!port)
		return -ELISA_ENODEV;
	to = vs_guest_at(caller->guest, gpa, sizeof(info), &range);
	if (!to)
		return -ELISA_EFAULT;
	key = vs_load(&port->key);
	info = (struct elisa_port_info){
		.revision = ELISA_NET_REVISION,
		.port = (uint16_t)index,
		.mtu = (uint16_t)(vs_load(&port->frame_max) - 14),
		.queues = port->queues,
		.link = vs_port_link(port) ? ELISA_LINK_UP : 0,
		.features = ELISA_NET_F_ALL,
		.bell = vs_load(&port->bell),
		.flags = vs_nic_to_poll(caller, port) ? ELISA_PORT_POLL : 0,
	};
	for (int i = 0; i < ELISA_PORTS_PER_VM; i++)
		info.ports += vs_load(&caller->guest->ports[i]) != NULL;
	for (int i = 0; i < 6; i++)
		info.mac[i] = (uint8_t)(key >> (16 + 8 * i));
	for (int i = 0; i < VS_NAME_LEN; i++)
		info.name[i] = port->config.name[i];
	vs_copy(to, (const uint8_t *)&info, sizeof(info));
	return 0;
}

void vs_port_count(const struct vs_port *port, struct elisa_port_counters *c)
{
	*c = (struct elisa_port_counters){.tx_frames = 0};
	for (unsigned int i = 0; i < port->queues; i++) {
		const struct vs_tx *tx = &port->queue[i].tx;
		const struct vs_rx *rx = &port->queue[i].rx;

		c->tx_frames += vs_load(&tx->count.frames);
		c->tx_bytes += vs_load(&tx->count.bytes);
		c->tx_multicast += vs_load(&tx->count.multicast);
		c->tx_broadcast += vs_load(&tx->count.broadcast);
		c->tx_flooded += vs_load(&tx->count.flooded);
		c->tx_calls += vs_load(&tx->count.calls);
		c->tx_csum += vs_load(&tx->count.csum);
		c->tx_segmented += vs_load(&tx->count.segmented);
		c->tx_segments += vs_load(&tx->count.segments);
		c->tx_bells += vs_load(&tx->count.bells);
		c->rx_frames += vs_load(&rx->frames);
		c->rx_bytes += vs_load(&rx->bytes);
		for (int d = 0; d < ELISA_DROP_RX_LINK_DOWN; d++)
			c->drops[d] += vs_load(&tx->count.drops[d]);
		for (int d = ELISA_DROP_RX_LINK_DOWN; d < ELISA_DROP_COUNT; d++)
			c->drops[d] += vs_load(&rx->drops[d - ELISA_DROP_RX_LINK_DOWN]);
	}
	c->tx_unicast = c->tx_frames - c->tx_multicast - c->tx_broadcast;
}

int64_t vs_op_counters(struct vs_caller *caller, uint64_t index, uint64_t gpa)
{
	struct vs_port *port = vs_port_of(caller, index);
	struct elisa_port_counters counters;
	uint32_t range;
	uint8_t *to;

	if (!port)
		return -ELISA_ENODEV;
	to = vs_guest_at(caller->guest, gpa, sizeof(counters), &range);
	if (!to)
		return -ELISA_EFAULT;
	vs_port_count(port, &counters);
	vs_copy(to, (const uint8_t *)&counters, sizeof(counters));
	return 0;
}
