/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port layer against a toy switch in this process: what it asks for, in which order, and what
 * it makes of every answer and of every kind of completion.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <elisa/port.h>
#include "../../elisa-guest/internal.h"

#define RAM_LEN	 ((size_t)8 << 20)
#define GPA_BASE 0x40000000
#define HUGE	 ((size_t)2 << 20)

/* ---- a switch that does as it is told, behind a transport of its own ---- */

static struct {
	uint32_t generation;
	int hello_error, link_error, info_error, setup_error, reset_error, tx_error;
	int eagain; /* so many QUEUE_* calls answer EAGAIN first */
	int resets, setups, infos, tx_calls;
	int take; /* descriptors that a TX takes; -1: all */
	uint16_t link, mtu;
	uint32_t features;
	struct elisa_queue_setup setup[4];
	bool reset_before_setup;
	uint32_t txd_seen;
	struct elisa_txd sent[4096];
	uint32_t tx_next[4];
	char *ram;
	struct elisa_mem *mem;
	int freed, left;
	uint32_t bells[4]; /* to be rung after the next TX or POLL */
	int bells_due, bell_calls, polls, polled, poll_error;
} sw;

static void *at_gpa(uint64_t gpa, size_t len)
{
	/* Pages lie in reverse order, so that nothing gets by with taking memory for contiguous. */
	const uint64_t page = (gpa - GPA_BASE) / HUGE, offset = gpa % HUGE;

	assert_true(gpa >= GPA_BASE && gpa - GPA_BASE < RAM_LEN);
	assert_true(offset + len <= HUGE);
	return sw.ram + (RAM_LEN / HUGE - 1 - page) * HUGE + offset;
}

static int64_t on_setup(uint64_t gpa)
{
	const struct elisa_queue_setup *s = at_gpa(gpa, sizeof(*s));
	const struct elisa_rx *rx;
	const struct elisa_rxc *comp;

	assert_int_equal(s->revision, ELISA_NET_REVISION);
	assert_true(s->queue < 4);
	assert_false((s->tx_ring | s->rx_ring | s->rx_comp) % 64);
	at_gpa(s->tx_ring, s->tx_size * sizeof(struct elisa_txd));
	rx = at_gpa(s->rx_ring, sizeof(*rx) + s->rx_size * 8);
	comp = at_gpa(s->rx_comp, s->rx_size * sizeof(*comp));
	for (uint32_t i = 0; i < s->rx_size; i++) {
		assert_int_equal(comp[i].seq, 0);
		at_gpa(rx->addr[i], s->rx_buf_len);
		assert_true(!i || rx->addr[i] != rx->addr[i - 1]);
	}
	assert_int_equal(rx->posted, s->rx_size);
	sw.reset_before_setup = sw.reset_before_setup && sw.resets > 0;
	sw.setups++;
	sw.setup[s->queue] = *s;
	sw.tx_next[s->queue] = 0;
	return 100 + s->queue;
}

static int64_t on_tx(uint64_t handle, uint64_t n)
{
	const uint64_t q = handle - 100;
	const struct elisa_queue_setup *s = &sw.setup[q];
	const struct elisa_txd *ring;
	int64_t take = sw.take < 0 || (uint64_t)sw.take > n ? (int64_t)n : sw.take;

	sw.tx_calls++;
	assert_true(q < 4);
	if (sw.tx_error)
		return -sw.tx_error;
	ring = at_gpa(s->tx_ring, s->tx_size * sizeof(*ring));
	for (int64_t i = 0; i < take; i++)
		sw.sent[sw.txd_seen++] = ring[sw.tx_next[q]++ & (s->tx_size - 1)];
	return take | (sw.bells_due ? ELISA_TX_BELL : 0);
}

static int64_t on_info(uint64_t index, uint64_t gpa)
{
	struct elisa_port_info *info = at_gpa(gpa, sizeof(*info));

	sw.infos++;
	if (sw.info_error)
		return -sw.info_error;
	if (index > 1)
		return -ELISA_ENODEV;
	*info = (struct elisa_port_info){.revision = ELISA_NET_REVISION,
					 .port = (uint16_t)index,
					 .ports = 2,
					 .mac = {2, 0, 0, 0, 0, (uint8_t)index},
					 .mtu = sw.mtu,
					 .queues = 4,
					 .link = sw.link,
					 .features = sw.features};
	strcpy(info->name, index ? "second" : "first");
	return 0;
}

static int64_t toy_switch(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
			  uint64_t a3)
{
	if (sw.hello_error)
		return -sw.hello_error; /* whatever is asked */
	switch (op) {
	case ELISA_OP_HELLO:
		return (int64_t)((uint64_t)ELISA_HELLO_MAGIC << 48 |
				 (uint64_t)ELISA_SERVICE_SWITCH << 32 | sw.generation);
	case ELISA_NET_PORT_INFO:
		return on_info(a1, a2);
	case ELISA_NET_QUEUE_RESET:
		sw.resets++;
		return sw.eagain-- > 0 ? -ELISA_EAGAIN : -sw.reset_error;
	case ELISA_NET_QUEUE_SETUP:
		if (sw.setup_error)
			return -sw.setup_error;
		return sw.eagain-- > 0 ? -ELISA_EAGAIN : on_setup(a1);
	case ELISA_NET_TX:
		return on_tx(a1, a2);
	case ELISA_NET_BELL:
		assert_int_equal(a1, 100);
		sw.bell_calls++;
		return sw.bells_due ? sw.bells[--sw.bells_due] : 0;
	case ELISA_NET_POLL:
		assert_int_equal(a1, 100);
		sw.polls++;
		return sw.poll_error ? -sw.poll_error
				     : sw.polled | (sw.bells_due ? ELISA_TX_BELL : 0);
	case ELISA_NET_LINK:
		return sw.link_error ? -sw.link_error : sw.link | (int64_t)sw.mtu << 16;
	case ELISA_NET_COUNTERS:
		memset(at_gpa(a2, sizeof(struct elisa_port_counters)), 7,
		       sizeof(struct elisa_port_counters));
		return 0;
	default:
		return -ELISA_ENOSYS;
	}
}

static int toy_call(struct elisa_guest *guest, struct elisa_call *call)
{
	*call = (struct elisa_call){toy_switch, NULL};
	return 0;
}

static int toy_alloc(struct elisa_guest *guest, const char *name, size_t len,
		     struct elisa_mem **mem)
{
	struct elisa_mem *m = calloc(1, sizeof(*m));
	uint64_t *gpa = calloc(RAM_LEN / HUGE, sizeof(*gpa));

	assert_null(sw.mem);
	assert_true(len <= RAM_LEN);
	for (size_t i = 0; i < RAM_LEN / HUGE; i++)
		gpa[i] = GPA_BASE + (RAM_LEN / HUGE - 1 - i) * HUGE;
	*m = (struct elisa_mem){sw.ram, RAM_LEN, HUGE, gpa};
	memset(sw.ram, 0xee, RAM_LEN); /* as if a late sender had written to it */
	*mem = sw.mem = m;
	return 0;
}

static void toy_free(struct elisa_guest *guest, struct elisa_mem *mem, bool keep)
{
	assert_ptr_equal(mem, sw.mem);
	sw.mem = NULL;
	sw.freed += !keep;
	sw.left += keep;
	free((void *)mem->gpa);
	free(mem);
}

static const struct transport toy = {.prefix = "toy",
				     .name = "toy",
				     .in_vm = true,
				     .call = toy_call,
				     .mem_alloc = toy_alloc,
				     .mem_free = toy_free};
static struct elisa_guest guest = {.transport = &toy, .service = ELISA_SERVICE_SWITCH};

static int set_up(void **state)
{
	char *ram = sw.ram ? sw.ram : aligned_alloc(HUGE, RAM_LEN);

	memset(&sw, 0, sizeof(sw));
	sw.ram = ram;
	sw.generation = 1;
	sw.link = ELISA_LINK_UP;
	sw.mtu = 1500;
	sw.take = -1;
	sw.reset_before_setup = true;
	return 0;
}

static struct elisa_port *open_port(const struct elisa_port_params *params)
{
	struct elisa_port *port = NULL;

	assert_int_equal(elisa_port_open(&guest, NULL, params, &port), 0);
	return port;
}

/* ---- opening, closing ---- */

static void opens_in_order(void **state)
{
	const struct elisa_port_params params = {.queues = 3, .rx_buf_len = 700};
	struct elisa_port *port;
	struct elisa_port_counters counters;
	struct elisa_txq *q;

	port = open_port(&params);
	assert_int_equal(sw.setups, 3);
	assert_int_equal(sw.resets, 3);
	assert_true(sw.reset_before_setup);
	assert_string_equal(elisa_port_info(port)->name, "first");
	assert_int_equal(elisa_port_state(port), 0);
	q = elisa_port_txq(port, 2);
	assert_int_equal(q->handle, 102);
	assert_null(elisa_port_txq(port, 3));
	assert_int_equal(elisa_port_bind(port, 3), -EINVAL);
	for (uint32_t i = 0; i < q->bufs; i++)
		assert_ptr_equal(at_gpa(q->buf_gpa[i], q->buf_len), q->buf[i]);
	/* Neighbours are an odd number of cache lines apart. */
	assert_int_equal(((char *)q->buf[1] - (char *)q->buf[0]) % 128, 64);
	assert_int_equal(elisa_port_counters(port, &counters), 0);
	assert_int_equal(counters.drops[3], 0x0707070707070707);
	elisa_port_close(port);
	assert_int_equal(sw.resets, 6);
	assert_int_equal(sw.freed, 1);
}

static void finds_by_name(void **state)
{
	struct elisa_port *port;

	assert_int_equal(elisa_port_open(&guest, "second", NULL, &port), 0);
	assert_int_equal(elisa_port_info(port)->port, 1);
	elisa_port_close(port);
	assert_int_equal(elisa_port_open(&guest, "1", NULL, &port), 0);
	assert_int_equal(elisa_port_info(port)->port, 1);
	elisa_port_close(port);
	assert_int_equal(elisa_port_open(&guest, "third", NULL, &port), -ENODEV);
	assert_int_equal(elisa_port_open(&guest, "5", NULL, &port), -ENODEV);
	assert_null(sw.mem);
}

static void refuses_bad_params(void **state)
{
	const struct elisa_port_params bad[] = {
		{.queues = 17},	     {.tx_size = 100},	    {.tx_size = 4},	{.rx_size = 65536},
		{.rx_buf_len = 255}, {.rx_buf_len = 65536}, {.tx_buf_len = 13}, {.tx_bufs = 100000},
	};
	struct elisa_port *port;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(elisa_port_open(&guest, NULL, &bad[i], &port), -EINVAL);
}

static void waits_for_a_busy_queue(void **state)
{
	const struct elisa_port_params params = {.timeout_ms = 50};
	struct elisa_port *port;

	sw.eagain = 5;
	port = open_port(NULL);
	assert_int_equal(sw.resets, 6);
	elisa_port_close(port);
	/* Not for ever; and memory that may still be written to is not given up. */
	sw.eagain = 100000;
	assert_int_equal(elisa_port_open(&guest, NULL, &params, &port), -EAGAIN);
	assert_int_equal(sw.setups, 1);
	assert_int_equal(sw.left, 1);
}

static void close_without_an_answer_leaves_the_memory(void **state)
{
	const int errors[] = {ELISA_ENOTCONN, ELISA_ESHUTDOWN};

	for (int i = 0; i < 2; i++) {
		struct elisa_port *port = open_port(NULL);

		sw.hello_error = errors[i];
		elisa_port_close(port);
		assert_int_equal(sw.left, i + 1);
		assert_int_equal(sw.freed, 0);
		sw.hello_error = 0;
	}
}

/* ---- recovery ---- */

static void goes_and_comes_back(void **state)
{
	struct elisa_port *port = open_port(NULL);

	assert_int_equal(elisa_port_poll(port), 0);
	sw.hello_error = ELISA_ESHUTDOWN;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_DOWN);
	assert_string_equal(elisa_port_state_text(elisa_port_state(port)), "switch away");
	assert_int_equal(elisa_port_poll(port), 0);
	/* Back with all that it knew. */
	sw.hello_error = 0;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_UP);
	assert_int_equal(sw.setups, 1);
	/* Gone, and back as another. */
	sw.hello_error = ELISA_ENOTCONN;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_DOWN);
	assert_string_equal(elisa_port_state_text(elisa_port_state(port)), "not attached");
	sw.hello_error = 0;
	sw.generation++;
	sw.mtu = 9000;
	elisa_port_txq(port, 0)->next = 77;
	assert_int_equal(elisa_port_poll(port),
			 ELISA_PORT_UP | ELISA_PORT_RESET | ELISA_PORT_CHANGED);
	assert_int_equal(sw.setups, 2);
	assert_int_equal(elisa_port_txq(port, 0)->next, 0);
	assert_int_equal(elisa_port_info(port)->mtu, 9000);
	/* So fast that nobody saw it go. */
	sw.generation++;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_RESET);
	assert_int_equal(elisa_port_poll(port), 0);
	elisa_port_close(port);
}

static void recovery_goes_on_later(void **state)
{
	struct elisa_port *port = open_port(NULL);

	sw.generation++;
	sw.eagain = 100000;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_DOWN);
	assert_int_equal(elisa_port_state(port), -ELISA_EAGAIN);
	sw.eagain = 0;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_UP | ELISA_PORT_RESET);
	sw.generation++;
	sw.setup_error = ELISA_EINVAL;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_DOWN);
	assert_int_equal(elisa_port_poll(port), 0);
	sw.setup_error = 0;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_UP | ELISA_PORT_RESET);
	sw.link = 0;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_DOWN);
	assert_string_equal(elisa_port_state_text(elisa_port_state(port)), "link down");
	sw.link = ELISA_LINK_UP;
	assert_int_equal(elisa_port_poll(port), ELISA_PORT_UP);
	elisa_port_close(port);
}

/* ---- sending ---- */

static void sends_what_was_put(void **state)
{
	const struct elisa_port_params params = {.tx_size = 8};
	struct elisa_port *port = open_port(&params);
	struct elisa_txq *q = elisa_port_txq(port, 0);
	uint64_t gpas[8];

	/* Round the ring several times, by both ways of writing descriptors. */
	for (uint32_t round = 0; round < 20; round++) {
		const uint32_t n = 1 + round % 8, before = sw.txd_seen;

		for (uint32_t i = 0; i < n; i++)
			gpas[i] = GPA_BASE + round * 100 + i;
		if (round & 1)
			elisa_tx_fill(q, gpas, (uint16_t)(60 + round), n);
		else
			for (uint32_t i = 0; i < n; i++)
				elisa_tx_put(q, i, gpas[i], (uint16_t)(60 + round), 0);
		assert_int_equal(elisa_tx_push(q, n), n);
		assert_int_equal(sw.txd_seen, before + n);
		for (uint32_t i = 0; i < n; i++) {
			const struct elisa_txd *d = &sw.sent[before + i];

			assert_int_equal(d->addr, GPA_BASE + round * 100 + i);
			assert_int_equal(d->len, 60 + round);
			assert_int_equal(d->flags | d->csum_start | d->gso_size, 0);
		}
	}
	elisa_port_close(port);
}

static void what_was_not_taken_stays_put(void **state)
{
	struct elisa_port *port = open_port(NULL);
	struct elisa_txq *q = elisa_port_txq(port, 0);

	for (uint32_t i = 0; i < 10; i++)
		elisa_tx_put(q, i, GPA_BASE + i, 60, 0);
	sw.take = 4;
	assert_int_equal(elisa_tx_push(q, 10), 4);
	assert_int_equal(elisa_tx_push(q, 6), 4);
	assert_int_equal(elisa_tx_push(q, 2), 2);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(sw.sent[i].addr, GPA_BASE + i);
	sw.tx_error = ELISA_ESTALE;
	assert_int_equal(elisa_tx_push(q, 1), -ELISA_ESTALE);
	assert_int_equal(q->taken, 10);
	elisa_port_close(port);
}

static void bursts_are_cut_between_frames(void **state)
{
	const struct elisa_port_params params = {.tx_size = 8};
	struct elisa_port *port = open_port(&params);
	struct elisa_txq *q = elisa_port_txq(port, 0);
	struct elisa_txd d[21];

	for (uint32_t i = 0; i < 21; i++)
		d[i] = (struct elisa_txd){
			.addr = i, .len = 60, .flags = i % 3 < 2 ? ELISA_NET_MORE : 0};
	assert_int_equal(elisa_tx_burst(q, d, 21), 21);
	assert_int_equal(sw.tx_calls, 4); /* 6 + 6 + 6 + 3 */
	for (uint32_t i = 0; i < 21; i++)
		assert_int_equal(sw.sent[i].addr, i);
	sw.take = 0;
	sw.tx_calls = 0;
	assert_int_equal(elisa_tx_burst(q, d, 21), 0);
	assert_int_equal(sw.tx_calls, 2);
	sw.tx_error = ELISA_ENOTCONN;
	assert_int_equal(elisa_tx_burst(q, d, 21), -ELISA_ENOTCONN);
	elisa_port_close(port);
}

/* ---- doorbells: the real ones are bell.c's affair ---- */

struct elisa_bell {
	uint32_t rung[8];
	int count;
};
static struct elisa_bell the_bell;
static bool bell_is_there;

int elisa_bell_open(const char *pci, bool wake, struct elisa_bell **bell)
{
	assert_null(pci);
	assert_false(wake);
	*bell = &the_bell;
	return bell_is_there ? 0 : -ENODEV;
}

void elisa_bell_close(struct elisa_bell *bell)
{
	if (bell)
		bell->count = 0;
}

void elisa_bell_ring(const struct elisa_bell *bell, uint32_t value)
{
	assert_ptr_equal(bell, &the_bell);
	the_bell.rung[the_bell.count++] = value;
}

static void put_and_ring(struct elisa_txq *q, int due)
{
	sw.bells_due = due;
	for (int i = 0; i < due; i++)
		sw.bells[i] = 5 << 16 | (uint32_t)i;
	elisa_tx_put(q, 0, GPA_BASE, 60, 0);
	elisa_tx_put(q, 1, GPA_BASE, 60, 0);
	assert_int_equal(elisa_tx_push(q, 2), 2);
	assert_int_equal(sw.bells_due, 0);
}

static void sleepers_are_woken(void **state)
{
	struct elisa_port *port;
	struct elisa_txq *q;
	struct elisa_txd d = {.addr = GPA_BASE, .len = 60};

	bell_is_there = true;
	port = open_port(NULL);
	q = elisa_port_txq(port, 0);
	put_and_ring(q, 0);
	assert_int_equal(sw.bell_calls, 0); /* nobody asks when nobody sleeps */
	put_and_ring(q, 3);
	assert_int_equal(sw.bell_calls, 4);
	assert_int_equal(the_bell.count, 3);
	assert_int_equal(the_bell.rung[0], 5 << 16 | 2);
	assert_int_equal(the_bell.rung[2], 5 << 16);
	assert_int_equal(q->bells, 3);
	assert_int_equal(q->taken, 4);
	sw.bells_due = 1;
	assert_int_equal(elisa_tx_burst(q, &d, 1), 1);
	assert_int_equal(q->bells, 4);
	assert_int_equal(q->next, 5);
	elisa_port_close(port);
	assert_int_equal(the_bell.count, 0);
	/* Without a device they sleep on: that is counted. */
	bell_is_there = false;
	port = open_port(NULL);
	q = elisa_port_txq(port, 0);
	put_and_ring(q, 2);
	assert_int_equal(q->unrung, 2);
	assert_int_equal(q->bells, 0);
	elisa_port_close(port);
}

/* Only where the switch says so, which may change; and its answer is as a push's. */
static void nics_are_polled(void **state)
{
	struct elisa_port *port;
	struct elisa_txq *q;

	bell_is_there = true;
	port = open_port(NULL);
	q = elisa_port_txq(port, 0);
	sw.polled = 7;
	assert_int_equal(elisa_nic_poll(q), 0);
	assert_int_equal(sw.polls, 0);
	sw.link |= ELISA_LINK_POLL;
	assert_int_equal(elisa_port_poll(port), 0);
	assert_int_equal(elisa_nic_poll(q), 7);
	assert_int_equal(sw.bell_calls, 0);
	sw.bells[0] = 0x50001;
	sw.bells_due = 1;
	assert_int_equal(elisa_nic_poll(q), 7);
	assert_int_equal(q->bells, 1);
	assert_int_equal(the_bell.rung[0], 0x50001);
	sw.poll_error = ELISA_EBUSY;
	assert_int_equal(elisa_nic_poll(q), 0);
	assert_int_equal(q->polls, 3);
	assert_int_equal(q->polled, 14);
	assert_int_equal(q->taken, 0);
	sw.link = ELISA_LINK_UP;
	assert_int_equal(elisa_port_poll(port), 0);
	assert_int_equal(elisa_nic_poll(q), 0);
	assert_int_equal(sw.polls, 3);
	elisa_port_close(port);
	bell_is_there = false;
}

/* ---- receiving ---- */

/* Completes the next buffer of queue 0, as a sender does. */
static void deliver(struct elisa_rxq *q, uint32_t number, uint16_t len, uint16_t flags, char fill)
{
	struct elisa_rxc *c = &q->comp[number & q->mask];

	assert_true(number < q->ring->posted);
	memset(at_gpa(q->ring->addr[number & q->mask], len), fill, len);
	c->len = len;
	c->flags = flags;
	__atomic_store_n(&c->seq, number + 1, __ATOMIC_RELEASE);
}

static void receives_in_order(void **state)
{
	const struct elisa_port_params params = {.rx_size = 8, .rx_buf_len = 256};
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_frame f[16];
	uint32_t n = 0;

	assert_false(elisa_rx_ready(q));
	assert_int_equal(elisa_rx_burst(q, f, 16), 0);
	for (int round = 0; round < 50; round++) {
		const uint32_t count = 1 + (uint32_t)round % 8;

		for (uint32_t i = 0; i < count; i++)
			deliver(q, n + i, (uint16_t)(60 + i), 0, (char)(n + i));
		assert_true(elisa_rx_ready(q));
		assert_int_equal(elisa_rx_burst(q, f, 16), count);
		for (uint32_t i = 0; i < count; i++) {
			assert_int_equal(f[i].len, 60 + i);
			assert_int_equal(f[i].segs, 1);
			assert_int_equal(((char *)f[i].data)[59], (char)(n + i));
		}
		/* Nothing is given back before it is released. */
		assert_int_equal(q->ring->posted, n + 8);
		n += count;
		elisa_rx_release(q);
		assert_int_equal(q->ring->posted, n + 8);
	}
	assert_int_equal(q->frames, n);
	elisa_port_close(port);
}

/* What is left to do for a frame comes from its first completion, and goes into a descriptor. */
static void offloads_are_passed_on(void **state)
{
	const struct elisa_port_params params = {
		.rx_size = 8, .rx_buf_len = 256, .features = ELISA_NET_F_CSUM | ELISA_NET_F_TSO4};
	const uint16_t flags = ELISA_NET_CSUM | ELISA_NET_TSO4 | 16 << ELISA_NET_CSUM_OFFSET;
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_txq *tx = elisa_port_txq(port, 0);
	struct elisa_frame f;

	/* Only what the switch knows is asked for. */
	assert_int_equal(sw.setup[0].features, 0);
	elisa_port_close(port);
	sw.features = ELISA_NET_F_CSUM | ELISA_NET_F_EVENT;
	port = open_port(&params);
	assert_int_equal(sw.setup[0].features, ELISA_NET_F_CSUM);
	elisa_port_close(port);
	sw.features = ELISA_NET_F_ALL;
	port = open_port(&params);
	assert_int_equal(sw.setup[0].features, ELISA_NET_F_CSUM | ELISA_NET_F_TSO4);
	q = elisa_port_rxq(port, 0);
	tx = elisa_port_txq(port, 0);
	q->comp[0].csum_start = 34;
	q->comp[0].gso_size = 1448;
	q->comp[0].hash = 0x12345678;
	deliver(q, 0, 256, flags | ELISA_NET_MORE, 1);
	deliver(q, 1, 200, 0, 2);
	assert_int_equal(elisa_rx_burst(q, &f, 1), 1);
	assert_int_equal(f.len, 456);
	assert_int_equal(f.flags, flags);
	assert_int_equal(f.csum_start, 34);
	assert_int_equal(f.gso_size, 1448);
	assert_int_equal(f.hash, 0x12345678);
	elisa_tx_put_offload(tx, 0, GPA_BASE, 60000, flags, 34, 1448);
	elisa_tx_put(tx, 1, GPA_BASE, 60, 0);
	assert_int_equal(elisa_tx_push(tx, 2), 2);
	assert_int_equal(sw.sent[0].len, 60000);
	assert_int_equal(sw.sent[0].flags, flags);
	assert_int_equal(sw.sent[0].csum_start, 34);
	assert_int_equal(sw.sent[0].gso_size, 1448);
	assert_int_equal(sw.sent[1].flags | sw.sent[1].csum_start | sw.sent[1].gso_size, 0);
	elisa_port_close(port);
}

static void does_not_run_past_unreleased_buffers(void **state)
{
	const struct elisa_port_params params = {.rx_size = 8, .rx_buf_len = 256};
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_frame f[16];

	for (uint32_t i = 0; i < 8; i++)
		deliver(q, i, 60, 0, 0);
	assert_int_equal(elisa_rx_burst(q, f, 16), 8);
	/* A completion that claims a buffer that was never posted. */
	q->comp[0].seq = 9;
	assert_int_equal(elisa_rx_burst(q, f, 16), 0);
	elisa_rx_release(q);
	assert_int_equal(elisa_rx_burst(q, f, 16), 1);
	elisa_port_close(port);
}

static void chains_are_whole_or_not_there(void **state)
{
	const struct elisa_port_params params = {.rx_size = 16, .rx_buf_len = 256};
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_frame f[16];
	uint16_t len;
	char *p;

	deliver(q, 0, 256, ELISA_NET_MORE, 'a');
	deliver(q, 1, 256, ELISA_NET_MORE, 'b');
	assert_true(elisa_rx_ready(q));
	assert_int_equal(elisa_rx_burst(q, f, 16), 0);
	deliver(q, 3, 60, 0, 'd'); /* another sender was faster */
	assert_int_equal(elisa_rx_burst(q, f, 16), 0);
	deliver(q, 2, 10, 0, 'c');
	assert_int_equal(elisa_rx_burst(q, f, 16), 2);
	assert_int_equal(f[0].segs, 3);
	assert_int_equal(f[0].len, 522);
	assert_int_equal(f[0].seg_len, 256);
	p = elisa_rx_seg(q, &f[0], 2, &len);
	assert_int_equal(len, 10);
	assert_int_equal(p[9], 'c');
	assert_int_equal(f[1].len, 60);
	assert_int_equal(*(char *)f[1].data, 'd');
	elisa_port_close(port);
}

static void aborted_frames_are_skipped(void **state)
{
	const struct elisa_port_params params = {.rx_size = 16, .rx_buf_len = 256};
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_frame f[16];

	deliver(q, 0, 60, 0, '0');
	deliver(q, 1, 0, ELISA_RXC_ABORTED, 0); /* one alone */
	deliver(q, 2, 60, 0, '2');
	deliver(q, 3, 256, ELISA_NET_MORE, '3'); /* died after its first */
	deliver(q, 4, 0, ELISA_RXC_ABORTED, 0);
	deliver(q, 5, 0, ELISA_RXC_ABORTED, 0);
	deliver(q, 6, 0, ELISA_RXC_ABORTED | ELISA_NET_MORE, 0);
	deliver(q, 7, 0, ELISA_RXC_ABORTED, 0);
	deliver(q, 8, 60, 0, '8');
	assert_int_equal(elisa_rx_burst(q, f, 16), 3);
	assert_int_equal(*(char *)f[0].data, '0');
	assert_int_equal(*(char *)f[1].data, '2');
	assert_int_equal(*(char *)f[2].data, '8');
	assert_true(q->aborted >= 3);
	elisa_rx_release(q);
	assert_int_equal(q->ring->posted, 25);
	elisa_port_close(port);
}

/* A ring that is all one frame cannot stop the queue. */
static void endless_chain_is_dropped(void **state)
{
	const struct elisa_port_params params = {.rx_size = 8, .rx_buf_len = 256};
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_frame f[4];

	for (uint32_t i = 0; i < 8; i++)
		deliver(q, i, 256, ELISA_NET_MORE, 'x');
	assert_int_equal(elisa_rx_burst(q, f, 4), 0);
	assert_int_equal(q->aborted, 1);
	elisa_rx_release(q);
	deliver(q, 8, 60, 0, 'y');
	assert_int_equal(elisa_rx_burst(q, f, 4), 1);
	elisa_port_close(port);
}

static void numbers_wrap_around(void **state)
{
	const struct elisa_port_params params = {.rx_size = 8, .tx_size = 8, .rx_buf_len = 256};
	struct elisa_port *port = open_port(&params);
	struct elisa_rxq *q = elisa_port_rxq(port, 0);
	struct elisa_frame f[8];

	q->head = UINT32_MAX - 10;
	q->posted = q->head + 8;
	for (uint32_t i = 0; i < 40; i++) {
		struct elisa_rxc *c = &q->comp[q->head & q->mask];

		c->len = 60;
		c->flags = 0;
		c->seq = q->head + 1;
		assert_int_equal(elisa_rx_burst(q, f, 8), 1);
		elisa_rx_release(q);
		assert_int_equal(q->ring->posted, q->head + 8);
	}
	elisa_port_close(port);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
		TEST(opens_in_order),
		TEST(finds_by_name),
		TEST(refuses_bad_params),
		TEST(waits_for_a_busy_queue),
		TEST(close_without_an_answer_leaves_the_memory),
		TEST(goes_and_comes_back),
		TEST(recovery_goes_on_later),
		TEST(sends_what_was_put),
		TEST(what_was_not_taken_stays_put),
		TEST(sleepers_are_woken),
		TEST(nics_are_polled),
		TEST(bursts_are_cut_between_frames),
		TEST(receives_in_order),
		TEST(offloads_are_passed_on),
		TEST(does_not_run_past_unreleased_buffers),
		TEST(chains_are_whole_or_not_there),
		TEST(aborted_frames_are_skipped),
		TEST(endless_chain_is_dropped),
		TEST(numbers_wrap_around),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	free(sw.ram);
	return rc;
}
