/* SPDX-License-Identifier: BSD-3-Clause */
#include "fakenic.h"

/* The model test stops callers in the driver, too. */
#ifdef VS_MODEL
void vs_model_step(const char *where, unsigned int line);
#define STEP() vs_model_step(__func__, __LINE__)
#else
#define STEP() ((void)0)
#endif

static void enter(struct t_nic_queue *q, uint32_t *inside)
{
	if (__atomic_exchange_n(inside, 1, __ATOMIC_RELAXED))
		__atomic_fetch_add(&q->collisions, 1, __ATOMIC_RELAXED);
	STEP();
}

static void leave(uint32_t *inside)
{
	STEP();
	__atomic_store_n(inside, 0, __ATOMIC_RELAXED);
}

static uint32_t fake_rx(void *rxq, uint32_t max)
{
	struct t_nic_queue *q = rxq;
	struct t_queue *tq = &q->guest->q[q->queue];

	enter(q, &q->rx_inside);
	while (q->described < max && q->described < tq->tx_size &&
	       q->in.taken != __atomic_load_n(&q->in.put, __ATOMIC_ACQUIRE)) {
		const struct t_frame *f = &q->in.frame[q->in.taken % T_WIRE];
		uint64_t at = tq->tx_buffers + (uint64_t)(tq->tx_next % tq->tx_size) * (T_BUF + 64);

		memcpy(t_at(q->guest, at), f->data, f->len);
		t_desc(tq, at, (uint16_t)f->len, q->in_flags[q->in.taken % T_WIRE]);
		STEP();
		__atomic_store_n(&q->in.taken, q->in.taken + 1, __ATOMIC_RELEASE);
		q->described++;
	}
	leave(&q->rx_inside);
	return q->described;
}

static void fake_rx_done(void *rxq, uint32_t descs)
{
	struct t_nic_queue *q = rxq;

	enter(q, &q->rx_inside);
	CHECK(descs <= q->described);
	q->described -= descs;
	q->freed += descs;
	leave(&q->rx_inside);
}

static void copy_frame(struct t_frame *to, const struct t_frame *from)
{
	to->len = from->len;
	to->aborted = from->aborted;
	memcpy(to->data, from->data, from->len);
}

static uint32_t fake_tx(void *txq)
{
	struct t_nic_queue *q = txq;

	enter(q, &q->tx_inside);
	for (int i = 0; i < VS_NIC_BURST && t_receive(q->guest, q->queue, &q->passing); i++) {
		STEP();
		if (q->passing.aborted)
			continue;
		q->out_frames++;
		/* Nobody may be there to take it. */
		if (q->out.put - __atomic_load_n(&q->out.taken, __ATOMIC_ACQUIRE) == T_WIRE)
			continue;
		copy_frame(&q->out.frame[q->out.put % T_WIRE], &q->passing);
		__atomic_store_n(&q->out.put, q->out.put + 1, __ATOMIC_RELEASE);
	}
	leave(&q->tx_inside);
	return q->guest->q[q->queue].rx_next;
}

static const struct vs_nic_ops fake_ops = {fake_rx, fake_rx_done, fake_tx};

void t_nic_start(struct t_switch *t, struct t_nic *nic, uint32_t features)
{
	int port = nic->guest->port;

	CHECK(vs_nic_hold(t->vs, port) == 0);
	for (unsigned int i = 0; i < nic->queues; i++) {
		struct t_nic_queue *q = &nic->q[i];

		CHECK(t_setup_with(nic->guest, i, T_NIC_SIZE, T_NIC_SIZE, T_BUF, features) > 0);
		t_post(&nic->guest->q[i], T_NIC_SIZE);
		q->guest = nic->guest;
		q->queue = i;
		q->described = 0;
		q->rx_inside = 0;
		q->tx_inside = 0;
		CHECK(vs_nic_queue(t->vs, port, i, q, q) == 0);
	}
	CHECK(vs_nic_release(t->vs, port) == 0);
}

void t_nic(struct t_switch *t, struct t_nic *nic, unsigned int queues, enum vs_nic_serve serve,
	   uint32_t features)
{
	memset(nic, 0, sizeof(*nic));
	nic->guest = t_guest_with(t, false, queues);
	nic->queues = queues;
	for (unsigned int i = 0; i < queues; i++) {
		nic->q[i].in.frame = t_map(T_WIRE * sizeof(struct t_frame));
		nic->q[i].out.frame = t_map(T_WIRE * sizeof(struct t_frame));
	}
	CHECK(vs_port_unbind(t->vs, nic->guest->port) == 0);
	CHECK(vs_nic_add(t->vs, nic->guest->port, serve, &fake_ops) == 0);
	CHECK(vs_port_bind(t->vs, nic->guest->port, nic->guest->id) == 0);
	t_nic_start(t, nic, features);
}

void t_nic_destroy(struct t_nic *nic)
{
	for (unsigned int i = 0; i < nic->queues; i++) {
		t_unmap(nic->q[i].in.frame, T_WIRE * sizeof(struct t_frame));
		t_unmap(nic->q[i].out.frame, T_WIRE * sizeof(struct t_frame));
	}
}

void t_wire_in(struct t_nic *nic, unsigned int queue, uint32_t len, const uint8_t dst[6],
	       const uint8_t src[6], uint32_t seed, uint16_t flags)
{
	struct t_nic_queue *q = &nic->q[queue];
	struct t_frame *f = &q->in.frame[q->in.put % T_WIRE];

	CHECK(q->in.put - __atomic_load_n(&q->in.taken, __ATOMIC_ACQUIRE) < T_WIRE);
	CHECK(len <= T_BUF);
	f->len = len;
	t_fill(f->data, len, dst, src, seed);
	q->in_flags[q->in.put % T_WIRE] = flags;
	__atomic_store_n(&q->in.put, q->in.put + 1, __ATOMIC_RELEASE);
}

bool t_wire_out(struct t_nic *nic, unsigned int queue, struct t_frame *frame)
{
	struct t_nic_queue *q = &nic->q[queue];

	if (q->out.taken == __atomic_load_n(&q->out.put, __ATOMIC_ACQUIRE))
		return false;
	*frame = q->out.frame[q->out.taken % T_WIRE];
	__atomic_store_n(&q->out.taken, q->out.taken + 1, __ATOMIC_RELEASE);
	return true;
}

int64_t t_poll(struct t_guest *g)
{
	int64_t result = t_call(g, ELISA_NET_POLL, (uint64_t)g->q[0].handle, 0);

	g->bell = result > 0 && result & ELISA_TX_BELL;
	return result < 0 ? result : result & ELISA_TX_TAKEN;
}
