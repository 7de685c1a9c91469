/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells: who sleeps over frames, and who is told to ring.
 *
 *	receiver	event = n;  full barrier;  looks at the ring once more;  sleeps
 *	sender		commits;    full barrier;  looks at event
 *
 * One of the two sees the other. A sender that finds n notes it in the ring's vs_rx as `owed`,
 * before it gives its intent up: whoever dies before that leaves an intent, and recovery does it
 * instead. So frames that lie before a sleeper have owed == event, and vs_bells_due() finds those
 * that nobody woke.
 *
 * What a sender is to ring goes into a list of its TX queue. The list is its memory, too: a queue
 * that was told with the same n last is not told again.
 */
#include "deliver.h"

#define VS_BELLS_LOOK 8 /* entries back */

/* An entry: event << 32 | generation of the RX queue << 14 | port << 4 | queue. */
_Static_assert(VS_PORTS_MAX <= 1 << 10 && ELISA_QUEUES_MAX <= 1 << 4, "fields of an entry");

static uint64_t entry_of(const struct vswitch *vs, const struct vs_rx *rx, uint32_t event)
{
	uint64_t offset = (uint64_t)((const uint8_t *)rx - (const uint8_t *)vs->ports);
	uint64_t port = offset / sizeof(struct vs_port);
	uint64_t queue = (offset % sizeof(struct vs_port) - offsetof(struct vs_port, queue)) /
			 sizeof(struct vs_queue);

	return (uint64_t)event << 32 | (uint32_t)(vs_load(&rx->resv.a) >> 33 << 14) | port << 4 |
	       queue;
}

static struct vs_port *port_of_entry(const struct vswitch *vs, uint64_t entry)
{
	return &vs->ports[entry >> 4 & (VS_PORTS_MAX - 1)];
}

static bool told_already(const struct vs_bells *bells, uint64_t entry)
{
	for (uint32_t i = 1; i <= VS_BELLS_LOOK && i <= bells->told; i++) {
		uint64_t former = bells->list[(bells->told - i) % VS_BELLS_MAX];

		if ((uint32_t)former == (uint32_t)entry)
			return former == entry;
	}
	return false;
}

/* After commits into `rx`. Returns the receiver's number if it may sleep over them, else 0. */
uint32_t vs_bell_owe(struct vs_rx *rx)
{
	uint32_t event;

	if (!(vs_load(&rx->features) & ELISA_NET_F_EVENT))
		return 0;
	vs_fence();
	event = vs_load(&rx->ring->event);
	if (event)
		vs_store(&rx->owed, event);
	VS_STEP();
	return event;
}

/* The same, and its owner is to be told. */
vs_noinline void vs_bell_tell(struct vs_caller *caller, struct vs_rx *rx)
{
	struct vs_bells *bells = &caller->tx->bells;
	uint32_t event = vs_bell_owe(rx);
	uint64_t entry;

	if (!event)
		return;
	entry = entry_of(caller->vs, rx, event);
	if (!vs_load(&port_of_entry(caller->vs, entry)->bell) || told_already(bells, entry))
		return;
	/* The sender does not ask. vs_bells_due() will ring instead. */
	if (bells->told - bells->rung >= VS_BELLS_MAX)
		return;
	bells->list[bells->told % VS_BELLS_MAX] = entry;
	VS_STEP();
	vs_store_release(&bells->told, bells->told + 1);
}

/* What to ring next, 0: nothing. With the queue owned. */
uint32_t vs_bell_next(struct vs_caller *caller, struct vs_tx *tx)
{
	struct vs_bells *bells = &tx->bells;

	while (bells->rung != bells->told) {
		uint64_t entry = bells->list[bells->rung % VS_BELLS_MAX];
		const struct vs_port *port = port_of_entry(caller->vs, entry);
		uint32_t bell = vs_load(&port->bell);

		vs_store_release(&bells->rung, bells->rung + 1);
		VS_STEP();
		if (!bell || !vs_load(&port->guest))
			continue;
		vs_count_owned(&tx->count.bells, 1);
		return bell + (entry & (ELISA_QUEUES_MAX - 1));
	}
	return 0;
}

int vs_port_bell(struct vswitch *vs, int id, uint32_t bell)
{
	struct vs_port *port = vs_port_get(vs, id);

	if (!port)
		return -ELISA_ENODEV;
	vs_store(&port->bell, bell);
	return 0;
}

/* Sleeps since the last call at least, over frames that lay there then? */
static bool queue_due(struct vs_rx *rx)
{
	const struct elisa_rx *ring;
	uint32_t event = 0, before = rx->due;

	/* The ring's memory can only go by this thread. */
	if (vs_load_acquire(&rx->resv.a) & VS_UP && vs_load(&rx->features) & ELISA_NET_F_EVENT) {
		ring = vs_load(&rx->ring);
		event = ring ? vs_load(&ring->event) : 0;
	}
	rx->due = event == vs_load(&rx->owed) ? event : 0;
	return rx->due && rx->due == before;
}

static unsigned int port_due(struct vs_port *port, uint32_t *bells, unsigned int max)
{
	uint32_t bell = vs_load(&port->bell);
	unsigned int count = 0;

	for (unsigned int i = 0; bell && i < port->queues && count < max; i++)
		if (queue_due(&port->queue[i].rx))
			bells[count++] = bell + i;
	return count;
}

/* Begins where the last call found its array full. */
int vs_bells_due(struct vswitch *vs, uint32_t *bells, unsigned int max)
{
	uint32_t high = vs->ports_high, first = vs->bells_first < high ? vs->bells_first : 0;
	unsigned int count = 0;

	for (uint32_t i = 0; i < high; i++) {
		uint32_t id = first + i < high ? first + i : first + i - high;

		vs->bells_first = id;
		if (count == max)
			break;
		if (vs_load(&vs->linked[id / 64]) >> id % 64 & 1)
			count += port_due(&vs->ports[id], bells + count, max - count);
	}
	return (int)count;
}
