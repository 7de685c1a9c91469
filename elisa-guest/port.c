/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port layer (elisa/port.h): memory layout, queue set-up, recovery, receive bursts.
 *
 * One elisa_mem holds it all: a scratch page for calls that take a structure, then for each queue
 * its rings and buffers. Nothing in it crosses a page of that memory, so each piece is contiguous
 * for the switch. Buffers lie an odd number of cache lines apart: with equal power-of-two distances
 * all headers would fall into few sets of the cache.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <elisa/port.h>

#include "internal.h"

#define LINE	    64
#define RECOVERY_MS 20 /* how long one poll may wait for queues */
#define BELLS_MAX   (ELISA_PORTS_PER_VM * ELISA_QUEUES_MAX * 16) /* rung for one push */

struct queue {
	struct elisa_txq tx;
	struct elisa_rxq rx;
	uint64_t tx_ring, rx_ring, rx_comp; /* GPAs */
};

struct elisa_port {
	struct elisa_guest *guest;
	struct elisa_call call;
	struct elisa_mem *mem;
	struct elisa_bell *bell; /* NULL: none */
	uint16_t index;
	struct elisa_port_params params;
	struct elisa_port_info info;
	uint32_t generation;
	int state;     /* 0: usable */
	bool set_up;   /* in `generation` */
	char *scratch; /* in mem */
	uint64_t scratch_gpa;
	void **tables; /* all queues' buf and buf_gpa */
	struct queue queues[];
};

/* ---- memory ---- */

/* With mem NULL it only measures: `page` is then the smallest page that any memory has. */
struct carver {
	struct elisa_mem *mem;
	size_t page, offset;
};

static void *carve(struct carver *c, size_t len, uint64_t *gpa)
{
	char *p;

	len = (len + LINE - 1) & ~(size_t)(LINE - 1);
	if (c->offset / c->page != (c->offset + len - 1) / c->page)
		c->offset = (c->offset / c->page + 1) * c->page;
	p = c->mem ? (char *)c->mem->addr + c->offset : NULL;
	c->offset += len;
	if (p && gpa)
		*gpa = elisa_mem_gpa(c->mem, p);
	return p;
}

static size_t stride(size_t len)
{
	return ((len + LINE - 1) & ~(size_t)(LINE - 1)) | LINE;
}

static void carve_queue(struct carver *c, const struct elisa_port_params *p, struct queue *q)
{
	const size_t rx_head = sizeof(struct elisa_rx);
	uint64_t gpa = 0;
	void *at;

	q->tx.ring = carve(c, p->tx_size * sizeof(struct elisa_txd), &q->tx_ring);
	q->rx.ring = carve(c, rx_head + p->rx_size * sizeof(uint64_t), &q->rx_ring);
	q->rx.comp = carve(c, p->rx_size * sizeof(struct elisa_rxc), &q->rx_comp);
	for (uint32_t i = 0; i < p->rx_size; i++) {
		at = carve(c, stride(p->rx_buf_len), &gpa);
		if (!at)
			continue;
		q->rx.buf[i] = at;
		q->rx.ring->addr[i] = gpa;
	}
	for (uint32_t i = 0; i < p->tx_bufs; i++) {
		at = carve(c, stride(p->tx_buf_len), &gpa);
		if (!at)
			continue;
		q->tx.buf[i] = at;
		q->tx.buf_gpa[i] = gpa;
	}
}

static void carve_all(struct elisa_port *port, struct carver *c)
{
	struct queue dummy;

	port->scratch = carve(c, ELISA_PAGE_SIZE, &port->scratch_gpa);
	for (uint32_t i = 0; i < port->params.queues; i++)
		carve_queue(c, &port->params, c->mem ? &port->queues[i] : &dummy);
}

static void init_queue(const struct elisa_port_params *p, struct queue *q, void **tables)
{
	q->rx.buf = tables;
	q->tx.buf = tables + p->rx_size;
	q->tx.buf_gpa = (uint64_t *)(tables + p->rx_size + p->tx_bufs);
	q->tx.mask = p->tx_size - 1;
	q->tx.bufs = p->tx_bufs;
	q->tx.buf_len = p->tx_buf_len;
	q->rx.mask = p->rx_size - 1;
}

static int make_memory(struct elisa_port *port)
{
	const struct elisa_port_params *p = &port->params;
	const size_t entries = p->rx_size + 2 * (size_t)p->tx_bufs;
	struct carver c = {.page = (size_t)2 << 20};
	char name[16];
	int rc;

	carve_all(port, &c);
	snprintf(name, sizeof(name), "port%u", port->index);
	rc = elisa_mem_alloc(port->guest, name, c.offset, &port->mem);
	if (rc)
		return rc;
	port->tables = calloc(entries * p->queues, sizeof(void *));
	if (!port->tables)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->queues; i++)
		init_queue(p, &port->queues[i], port->tables + i * entries);
	c = (struct carver){.mem = port->mem, .page = port->mem->page};
	carve_all(port, &c);
	return 0;
}

/* ---- calls ---- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Asks again while the answer is EAGAIN, once a millisecond, for at most `ms`. */
static int64_t call_patiently(const struct elisa_port *port, uint64_t op, uint64_t a1, uint32_t ms)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	const uint64_t end = now_ms() + ms;
	int64_t r;

	while ((r = elisa_call(&port->call, op, a1, 0, 0)) == -ELISA_EAGAIN && now_ms() < end)
		nanosleep(&nap, NULL);
	return r;
}

static int get_info(struct elisa_port *port, uint16_t index, struct elisa_port_info *info)
{
	int64_t r;

	memset(port->scratch, 0, sizeof(*info));
	r = elisa_call(&port->call, ELISA_NET_PORT_INFO, index, port->scratch_gpa, 0);
	if (r < 0)
		return (int)r;
	memcpy(info, port->scratch, sizeof(*info));
	info->name[sizeof(info->name) - 1] = '\0';
	return info->revision == ELISA_NET_REVISION ? 0 : -EPROTO;
}

static int reset_queues(const struct elisa_port *port, uint32_t ms)
{
	const uint64_t end = now_ms() + ms;
	int rc = 0;

	for (uint32_t i = 0; i < port->params.queues; i++) {
		const uint64_t now = now_ms(), left = now < end ? end - now : 0;
		int64_t r = call_patiently(port, ELISA_NET_QUEUE_RESET,
					   (uint64_t)port->index << 16 | i, (uint32_t)left);

		if (r < 0)
			rc = (int)r;
	}
	return rc;
}

static int setup_queue(struct elisa_port *port, uint32_t i, uint32_t ms)
{
	const struct elisa_port_params *p = &port->params;
	struct queue *q = &port->queues[i];
	int64_t r;

	memset(q->tx.ring, 0, p->tx_size * sizeof(*q->tx.ring));
	memset(q->rx.comp, 0, p->rx_size * sizeof(*q->rx.comp));
	q->tx.next = 0;
	q->rx.head = 0;
	q->rx.posted = p->rx_size;
	/* All buffers are posted from the start; the addresses never change. */
	__atomic_store_n(&q->rx.ring->posted, p->rx_size, __ATOMIC_RELEASE);
	*(struct elisa_queue_setup *)port->scratch = (struct elisa_queue_setup){
		.revision = ELISA_NET_REVISION,
		.port = port->index,
		.queue = (uint16_t)i,
		.tx_size = p->tx_size,
		.rx_size = p->rx_size,
		.rx_buf_len = p->rx_buf_len,
		.features = p->features & port->info.features,
		.tx_ring = q->tx_ring,
		.rx_ring = q->rx_ring,
		.rx_comp = q->rx_comp,
	};
	r = call_patiently(port, ELISA_NET_QUEUE_SETUP, port->scratch_gpa, ms);
	if (r < 0)
		return (int)r;
	q->tx.handle = (uint64_t)r;
	return 0;
}

/* Info, then every queue: a former user's set-up is undone first, so that its late senders cannot
 * write into rings that were cleared for us. */
static int set_up(struct elisa_port *port, uint32_t ms)
{
	int64_t hello = elisa_guest_hello(port->guest);
	int rc;

	if (hello < 0)
		return (int)hello;
	rc = get_info(port, port->index, &port->info);
	if (!rc)
		rc = reset_queues(port, ms);
	for (uint32_t i = 0; !rc && i < port->params.queues; i++)
		rc = setup_queue(port, i, ms);
	if (rc)
		return rc;
	port->generation = ELISA_HELLO_GENERATION(hello);
	port->set_up = true;
	return 0;
}

/* ---- opening and closing ---- */

static bool power_of_two(uint32_t n, uint32_t min, uint32_t max)
{
	return n >= min && n <= max && !(n & (n - 1));
}

static int check_params(const struct elisa_port_params *given, struct elisa_port_params *p)
{
#define DEFAULT(field, value) p->field = given && given->field ? given->field : (value)
	DEFAULT(queues, 1);
	DEFAULT(tx_size, 256);
	DEFAULT(rx_size, 512);
	DEFAULT(rx_buf_len, 2048);
	DEFAULT(tx_bufs, 64);
	DEFAULT(tx_buf_len, ELISA_FRAME_MAX);
	DEFAULT(timeout_ms, 2000);
	DEFAULT(features, 0);
#undef DEFAULT
	if (p->queues > ELISA_QUEUES_MAX || p->tx_bufs > ELISA_RING_MAX ||
	    !power_of_two(p->tx_size, ELISA_RING_MIN, ELISA_RING_MAX) ||
	    !power_of_two(p->rx_size, ELISA_RING_MIN, ELISA_RING_MAX) ||
	    p->rx_buf_len < ELISA_RX_BUF_MIN || p->rx_buf_len > 65535 ||
	    p->tx_buf_len < ELISA_FRAME_MIN || p->tx_buf_len > 65535)
		return -EINVAL;
	return 0;
}

static bool is_number(const char *s, uint16_t *n)
{
	char *end;
	unsigned long v = strtoul(s, &end, 10);

	if (*s < '0' || *s > '9' || *end || v >= ELISA_PORTS_PER_VM)
		return false;
	*n = (uint16_t)v;
	return true;
}

/* By name: looks at each port through a piece of memory for that alone. */
static int find_index(struct elisa_port *port, const char *which)
{
	const struct timespec nap = {.tv_nsec = 1000000};
	const uint64_t end = now_ms() + port->params.timeout_ms;
	struct elisa_port_info info;
	int rc;

	if (!which || is_number(which, &port->index))
		return 0;
	/* Others who look for a name hold it for an instant. */
	while ((rc = elisa_mem_alloc(port->guest, "port-names", ELISA_PAGE_SIZE, &port->mem)) ==
		       -EBUSY &&
	       now_ms() < end)
		nanosleep(&nap, NULL);
	if (rc)
		return rc;
	port->scratch = port->mem->addr;
	port->scratch_gpa = elisa_mem_gpa(port->mem, port->scratch);
	for (uint16_t i = 0; !rc && i < ELISA_PORTS_PER_VM; i++) {
		rc = get_info(port, i, &info);
		if (!rc && !strcmp(info.name, which)) {
			port->index = i;
			break;
		}
		if (!rc && i + 1 == ELISA_PORTS_PER_VM)
			rc = -ENODEV;
	}
	elisa_mem_free(port->guest, port->mem);
	port->mem = NULL;
	return rc;
}

ELISA_PUBLIC int elisa_port_bind(struct elisa_port *port, uint32_t queue)
{
	if (queue >= port->params.queues)
		return -EINVAL;
	return elisa_guest_call(port->guest, &port->queues[queue].tx.call);
}

static int bind_all(struct elisa_port *port)
{
	int rc = elisa_guest_call(port->guest, &port->call);

	for (uint32_t i = 0; !rc && i < port->params.queues; i++)
		rc = elisa_port_bind(port, i);
	return rc;
}

static int read_link(struct elisa_port *port)
{
	int64_t r = elisa_call(&port->call, ELISA_NET_LINK, port->index, 0, 0);

	if (r < 0)
		return (int)r;
	port->info.link = (uint16_t)(r & ELISA_LINK_UP);
	/* NICs come and go. */
	for (uint32_t i = 0; i < port->params.queues; i++)
		port->queues[i].tx.nics = r & ELISA_LINK_POLL;
	return port->info.link & ELISA_LINK_UP ? 0 : -ENETDOWN;
}

/* Most VMs have none, which is nobody's mistake: what could not be rung is counted. */
static void take_bell(struct elisa_port *port)
{
	if (!port->guest->transport->in_vm || elisa_bell_open(NULL, false, &port->bell))
		port->bell = NULL;
	for (uint32_t i = 0; i < port->params.queues; i++)
		port->queues[i].tx.bell = port->bell;
}

ELISA_PUBLIC int elisa_port_open(struct elisa_guest *guest, const char *which,
				 const struct elisa_port_params *params, struct elisa_port **port)
{
	struct elisa_port_params checked;
	struct elisa_port *p;
	int rc = check_params(params, &checked);

	if (rc)
		return rc;
	p = calloc(1, sizeof(*p) + checked.queues * sizeof(p->queues[0]));
	if (!p)
		return -ENOMEM;
	p->guest = guest;
	p->params = checked;
	rc = bind_all(p);
	if (!rc)
		rc = find_index(p, which);
	if (!rc)
		rc = make_memory(p);
	if (!rc)
		rc = set_up(p, checked.timeout_ms);
	if (rc) {
		elisa_port_close(p);
		return rc;
	}
	take_bell(p);
	p->state = read_link(p);
	*port = p;
	return 0;
}

ELISA_PUBLIC void elisa_port_close(struct elisa_port *port)
{
	bool ours = true; /* the memory, again */
	int rc;

	if (!port)
		return;
	if (port->mem) {
		rc = reset_queues(port, port->params.timeout_ms);
		/* No such queue: then nobody uses it either. Any other answer says nothing. */
		ours = !rc || rc == -ELISA_ENODEV;
	}
	if (ours)
		elisa_mem_free(port->guest, port->mem);
	else
		elisa_mem_leave(port->guest, port->mem);
	elisa_bell_close(port->bell);
	free(port->tables);
	free(port);
}

ELISA_PUBLIC const struct elisa_port_info *elisa_port_info(const struct elisa_port *port)
{
	return &port->info;
}

ELISA_PUBLIC struct elisa_txq *elisa_port_txq(struct elisa_port *port, uint32_t queue)
{
	return queue < port->params.queues ? &port->queues[queue].tx : NULL;
}

ELISA_PUBLIC struct elisa_rxq *elisa_port_rxq(struct elisa_port *port, uint32_t queue)
{
	return queue < port->params.queues ? &port->queues[queue].rx : NULL;
}

ELISA_PUBLIC int elisa_port_counters(struct elisa_port *port, struct elisa_port_counters *counters)
{
	int64_t r = elisa_call(&port->call, ELISA_NET_COUNTERS, port->index, port->scratch_gpa, 0);

	if (r < 0)
		return (int)r;
	memcpy(counters, port->scratch, sizeof(*counters));
	return 0;
}

/* ---- link and recovery ---- */

static int check(struct elisa_port *port, int *events)
{
	const struct elisa_port_info old = port->info;
	int64_t hello = elisa_guest_hello(port->guest);
	int rc;

	if (hello < 0)
		return (int)hello;
	if (ELISA_HELLO_GENERATION(hello) != port->generation)
		port->set_up = false;
	if (!port->set_up) {
		rc = set_up(port, RECOVERY_MS);
		if (rc)
			return rc;
		*events |= ELISA_PORT_RESET;
		if (memcmp(old.mac, port->info.mac, sizeof(old.mac)) || old.mtu != port->info.mtu ||
		    strcmp(old.name, port->info.name))
			*events |= ELISA_PORT_CHANGED;
	}
	rc = read_link(port);
	if (rc == -ELISA_ESTALE)
		port->set_up = false; /* forgotten without a new generation: next time */
	return rc;
}

ELISA_PUBLIC int elisa_port_poll(struct elisa_port *port)
{
	const bool was_up = !port->state;
	int events = 0;

	port->state = check(port, &events);
	if (was_up && port->state)
		events |= ELISA_PORT_DOWN;
	if (!was_up && !port->state)
		events |= ELISA_PORT_UP;
	return events;
}

ELISA_PUBLIC int elisa_port_state(const struct elisa_port *port)
{
	return port->state;
}

ELISA_PUBLIC const char *elisa_port_state_text(int state)
{
	switch (-state) {
	case 0:
		return "up";
	case ENETDOWN:
		return "link down";
	case ELISA_ENOTCONN:
		return "not attached";
	case ELISA_ESHUTDOWN:
		return "switch away";
	case ELISA_ESTALE:
	case ELISA_EAGAIN:
		return "being set up";
	case ELISA_ENODEV:
		return "no such port";
	default:
		return strerror(-state);
	}
}

/* ---- bursts ---- */

ELISA_PUBLIC int64_t elisa_tx_burst(struct elisa_txq *q, const struct elisa_txd *descs, uint32_t n)
{
	const uint32_t room = q->mask + 1 < ELISA_TX_MAX ? q->mask + 1 : ELISA_TX_MAX;
	uint32_t done = 0, put;
	int idle = 0;
	int64_t r;

	while (done < n && idle < 2) {
		put = n - done < room ? n - done : room;
		/* A frame that is cut off here goes with the next push: whole frames are taken. */
		for (uint32_t i = 0; i < put; i++)
			q->ring[(q->next + i) & q->mask] = descs[done + i];
		while (put < n - done && put > 1 && descs[done + put - 1].flags & ELISA_NET_MORE)
			put--;
		r = elisa_tx_push(q, put);
		if (r < 0)
			return done ? done : r;
		idle = r ? 0 : idle + 1;
		done += (uint32_t)r;
	}
	return done;
}

ELISA_PUBLIC void elisa_tx_ring(struct elisa_txq *q)
{
	int64_t value;

	/* What the switch would say without an end is none of our time. */
	for (int i = 0; i < BELLS_MAX; i++) {
		value = elisa_call(&q->call, ELISA_NET_BELL, q->handle, 0, 0);
		if (value <= 0)
			return;
		if (q->bell) {
			elisa_bell_ring(q->bell, (uint32_t)value);
			q->bells++;
		} else {
			q->unrung++;
		}
	}
}

ELISA_PUBLIC uint32_t elisa_nic_poll_now(struct elisa_txq *q)
{
	const int64_t result = elisa_call(&q->call, ELISA_NET_POLL, q->handle, 0, 0);

	q->polls++;
	/* Another thread sends by this queue just now, or the switch is away. */
	if (result < 0)
		return 0;
	if (result & ELISA_TX_BELL)
		elisa_tx_ring(q);
	q->polled += (uint32_t)result & ELISA_TX_TAKEN;
	return (uint32_t)result & ELISA_TX_TAKEN;
}

/*
 * Looks at one frame from completion `at` on. Returns its completions: 0 if the frame is not all
 * there. A sender commits a frame's buffers in their order, so an aborted one voids what came
 * before it, and those after it are aborted too.
 */
static uint32_t look(const struct elisa_rxq *q, uint32_t at, struct elisa_frame *f, bool *aborted)
{
	const uint32_t size = q->mask + 1;

	f->first = at;
	f->len = 0;
	*aborted = false;
	for (uint32_t i = 0; i < size; i++) {
		const struct elisa_rxc *c = &q->comp[(at + i) & q->mask];

		/* Pairs with the sender's release store: its data and flags come before. */
		if (__atomic_load_n(&c->seq, __ATOMIC_ACQUIRE) != at + i + 1)
			return 0;
		if (c->flags & ELISA_RXC_ABORTED) {
			*aborted = true;
			return i + 1;
		}
		f->len += c->len;
		if (!(c->flags & ELISA_NET_MORE)) {
			const struct elisa_rxc *first = &q->comp[at & q->mask];

			f->segs = (uint16_t)(i + 1);
			f->seg_len = first->len;
			f->data = q->buf[at & q->mask];
			f->flags = first->flags & (uint16_t)~ELISA_NET_MORE;
			f->csum_start = first->csum_start;
			f->gso_size = first->gso_size;
			f->hash = first->hash;
			return i + 1;
		}
	}
	/* The whole ring is one frame without an end: void, or it would stop the queue for good. */
	*aborted = true;
	return size;
}

ELISA_PUBLIC uint32_t elisa_rx_burst(struct elisa_rxq *q, struct elisa_frame *frames, uint32_t n)
{
	/* Completions of one lap only: more would run into buffers that are not given back yet. */
	const uint32_t end = q->posted;
	uint32_t got = 0, used;
	bool aborted;

	while (got < n && q->head != end && (used = look(q, q->head, &frames[got], &aborted))) {
		q->head += used;
		if (aborted) {
			q->aborted++;
			continue;
		}
		q->frames++;
		q->bytes += frames[got].len;
		got++;
	}
	return got;
}
