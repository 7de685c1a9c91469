/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Callers: entry, grace periods, and what is left of a caller that was stopped inside.
 *
 * A caller publishes the epoch that it entered in and withdraws it when it leaves. Whoever took
 * something away raises the epoch and waits until every caller is out or entered later.
 */
#include "internal.h"

/* A new epoch; it is over, see below, when all callers of earlier ones have left. */
uint64_t vs_epoch_next(struct vswitch *vs)
{
	return vs_fetch_add(&vs->epoch, 1) + 1;
}

bool vs_epoch_over(const struct vswitch *vs, uint64_t ticket, const struct vs_caller *but)
{
	uint32_t high = vs_load_acquire(&vs->callers_high);

	for (uint32_t i = 0; i < high; i++) {
		const struct vs_caller *c = &vs->callers[i];
		uint64_t active = __atomic_load_n(&c->active, __ATOMIC_SEQ_CST);

		if (VS_DEFENCE(epoch) && active && active < ticket && c != but)
			return false;
	}
	return true;
}

uint64_t vs_grace_begin(struct vswitch *vs)
{
	return vs_epoch_next(vs);
}

bool vs_grace_done(struct vswitch *vs, uint64_t ticket)
{
	return vs_epoch_over(vs, ticket, NULL);
}

int vs_grace_holders(struct vswitch *vs, uint64_t ticket, int *guests, unsigned int max)
{
	unsigned int count = 0;

	for (uint32_t i = 0; i < vs->callers_high; i++) {
		const struct vs_caller *c = &vs->callers[i];
		uint64_t active = vs_load_acquire(&c->active);

		if (!active || active >= ticket || !c->used)
			continue;
		if (count < max)
			guests[count] = (int)(c->guest - vs->guests);
		count++;
	}
	return (int)count;
}

int vs_caller_add(struct vswitch *vs, int guest, struct vs_caller **caller)
{
	if (guest < 0 || (uint32_t)guest >= vs->config.guests || !vs->guests[guest].used)
		return -ELISA_ENODEV;
	for (uint32_t i = 0; i < vs->config.callers; i++) {
		struct vs_caller *c = &vs->callers[i];

		if (c->used)
			continue;
		c->used = true;
		c->id = i + 1;
		c->vs = vs;
		c->guest = &vs->guests[guest];
		vs_store(&c->calls, 0);
		c->guest->callers++;
		if (vs->callers_high < i + 1)
			vs_store_release(&vs->callers_high, i + 1);
		*caller = c;
		return 0;
	}
	return -28; /* ENOSPC */
}

void vs_caller_del(struct vswitch *vs, struct vs_caller *c)
{
	struct vs_tx *tx = c->tx;
	struct vs_port *port = c->ctl;

	if (VS_DEFENCE(recover))
		vs_recover_intent(vs, c);
	/* It noted the lock before it took it: it may have got it or not. */
	if (VS_DEFENCE(unlock) && tx && (uint32_t)vs_load(&tx->state) == c->id)
		vs_fetch_and(&tx->state, ~0xffffffffull);
	if (port && vs_load(&port->ctl) == c->id) {
		vs_port_ctl_recover(vs, port);
		vs_store_release(&port->ctl, 0);
	}
	vs_nic_recover(c);
	c->tx = NULL;
	c->ctl = NULL;
	c->guest->callers--;
	c->guest = NULL;
	c->used = false;
	/* Last: until here the memory that it wrote to was held by its being inside. */
	vs_store_release(&c->active, 0);
}

uint64_t vs_caller_calls(const struct vs_caller *caller)
{
	return vs_load(&caller->calls);
}

static int64_t hello(const struct vs_caller *caller, uint64_t revision)
{
	if (revision != ELISA_ABI_REVISION)
		return -ELISA_EPROTO;
	return (int64_t)((uint64_t)ELISA_HELLO_MAGIC << 48 | (uint64_t)ELISA_SERVICE_SWITCH << 32 |
			 vs_load_acquire(&caller->guest->generation));
}

/* Comparisons, not a switch: a jump table would be an indirect branch. */
static vs_noinline int64_t dispatch_rare(struct vs_caller *caller, uint64_t op, uint64_t a1,
					 uint64_t a2)
{
	if (op == ELISA_NET_POLL)
		return vs_op_poll(caller, a1);
	if (op == ELISA_NET_LINK)
		return vs_op_link(caller, a1);
	if (op == ELISA_OP_HELLO)
		return hello(caller, a1);
	if (op == ELISA_NET_PORT_INFO)
		return vs_op_port_info(caller, a1, a2);
	if (op == ELISA_NET_QUEUE_SETUP)
		return vs_op_queue_setup(caller, a1);
	if (op == ELISA_NET_QUEUE_RESET)
		return vs_op_queue_reset(caller, a1);
	if (op == ELISA_NET_COUNTERS)
		return vs_op_counters(caller, a1, a2);
	if (op == ELISA_NET_BELL)
		return vs_op_bell(caller, a1);
	if (op == ELISA_NET_RX_MODE)
		return vs_op_rx_mode(caller, a1, a2);
	if (op == ELISA_NET_RSS)
		return vs_op_rss(caller, a1, a2);
	return -ELISA_ENOSYS;
}

int64_t vs_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2, uint64_t a3)
{
	struct vs_caller *caller = cookie;
	int64_t result;

	(void)ignored;
	(void)a3;
	vs_count_owned(&caller->calls, 1);
	if (op == ELISA_OP_NOP)
		return 0;
	vs_xchg(&caller->active, vs_load(&caller->vs->epoch));
	VS_STEP();
	if (vs_likely(op == ELISA_NET_TX))
		result = vs_op_tx(caller, a1, a2);
	else
		result = dispatch_rare(caller, op, a1, a2);
	VS_STEP();
	vs_store_release(&caller->active, 0);
	return result;
}
