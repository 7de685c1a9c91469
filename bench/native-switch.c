// SPDX-License-Identifier: BSD-3-Clause
/*
 * One measurement on this machine, for bench/native: frames through the real switch over the local
 * transport, or through a bare ring, which is the limit. Prints one JSON object.
 *
 *	native-switch cross SPEC-TX SPEC-RX	two processes, sender on core 0, receiver on core 1
 *	native-switch same SPEC			one thread on core 0 owns both ports of the client
 *	native-switch ring			two threads, core 0 to core 1, copy in and copy out
 *
 * In all of them the sender writes a number into each frame and the receiver reads it: a frame that
 * is missing, doubled or out of order is noticed. The receiver's time counts, from its first frame
 * after the start of the window to the last one.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <immintrin.h>

#include <elisa/port.h>

#define BURST_MAX 128
#define ETHERTYPE "\x88\xb5" /* IEEE 802 local experimental 1 */
#define NUMBER_AT 16	     /* where a frame has its number */
#define TX_BUFS	  256
#define STRIDE	  2112 /* an odd number of lines */
#define RING	  512
#define WARM_MS	  50

struct options {
	uint32_t size, burst, ms, rx_size;
	int cores[2];
	bool fifo;
};

/* What both sides see; each side's own line. */
struct shared {
	_Alignas(64) atomic_int ready; /* receiver is there, its address below */
	uint8_t mac[6];
	_Alignas(64) atomic_bool stop;
	_Alignas(64) uint64_t sent, calls, error;
};

struct result {
	uint64_t frames, missing, wrong;
	double seconds;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

__attribute__((noreturn)) static void fail(const char *what, const char *why)
{
	fprintf(stderr, "native-switch: %s: %s\n", what, why);
	exit(1);
}

static void pin(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("cannot run on the core asked for", strerror(errno));
}

/* With -f: nobody else gets this core while the window is open. */
static void undisturbed(const struct options *o, bool on)
{
	const struct sched_param param = {.sched_priority = on ? 1 : 0};

	if (o->fifo && sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param))
		fail("-f: no real-time priority", strerror(errno));
}

/* ---- ports ---- */

static struct elisa_port *open_port(const char *spec, const char *which, const struct options *o,
				    struct elisa_guest **guest)
{
	const struct elisa_port_params params = {
		.tx_size = 256,
		.rx_size = o->rx_size,
		.tx_bufs = TX_BUFS,
		.tx_buf_len = 2048,
		.timeout_ms = 5000,
	};
	struct elisa_port *port;
	int rc;

	if (!*guest) {
		rc = elisa_guest_open(spec, ELISA_SERVICE_SWITCH, guest);
		if (rc)
			fail(spec, elisa_guest_error());
	}
	rc = elisa_port_open(*guest, which, &params, &port);
	if (rc)
		fail("cannot open the port", strerror(-rc));
	return port;
}

static void make_frames(const struct elisa_port *port, const struct elisa_txq *q,
			const uint8_t to[6], uint32_t size)
{
	for (uint32_t i = 0; i < q->bufs; i++) {
		uint8_t *frame = q->buf[i];

		memset(frame, (int)i, size);
		memcpy(frame, to, 6);
		memcpy(frame + 6, elisa_port_info(port)->mac, 6);
		memcpy(frame + 12, ETHERTYPE, 2);
	}
}

/* The switch learns where the port is, as it does from any guest that has said something. */
static void introduce(struct elisa_port *port, const uint8_t to[6])
{
	struct elisa_txq *q = elisa_port_txq(port, 0);

	make_frames(port, q, to, 64);
	elisa_tx_fill(q, q->buf_gpa, 64, 1);
	if (elisa_tx_push(q, 1) != 1)
		fail("the switch", "took no frame");
}

struct sender {
	struct elisa_txq *q;
	uint64_t number; /* of the next frame */
	uint32_t at;	 /* next buffer */
	const struct options *o;
};

/* One burst; false when the switch refuses. */
static inline bool send_burst(struct sender *s)
{
	const uint32_t burst = s->o->burst;
	uint32_t left = burst;

	for (uint32_t i = 0; i < burst; i++) {
		uint64_t *number = (uint64_t *)((char *)s->q->buf[s->at + i] + NUMBER_AT);

		__atomic_store_n(number, s->number + i, __ATOMIC_RELAXED);
	}
	elisa_tx_fill(s->q, &s->q->buf_gpa[s->at], (uint16_t)s->o->size, burst);
	while (left) {
		int64_t taken = elisa_tx_push(s->q, left);

		if (taken < 0)
			return false;
		left -= (uint32_t)taken;
	}
	s->number += burst;
	s->at = (s->at + burst) % TX_BUFS;
	return true;
}

struct receiver {
	struct elisa_rxq *q;
	uint64_t expected; /* number of the next frame */
	struct result result;
};

static inline uint32_t receive_burst(struct receiver *r, uint32_t burst)
{
	struct elisa_frame frames[BURST_MAX];
	const uint32_t got = elisa_rx_burst(r->q, frames, burst);

	for (uint32_t i = 0; i < got; i++) {
		const uint64_t *at = (const uint64_t *)((char *)frames[i].data + NUMBER_AT);
		const uint64_t number = *at, gap = number - r->expected;

		r->result.missing += gap;
		r->result.wrong += gap > UINT32_MAX;
		r->expected = number + 1;
	}
	r->result.frames += got;
	elisa_rx_release(r->q);
	return got;
}

static void receive_for(struct receiver *r, const struct options *o, uint32_t ms)
{
	const double begin = now(), end = begin + ms * 1e-3;
	double at;

	r->result = (struct result){.frames = 0};
	do {
		/* The clock is looked at once in a while only. */
		for (int i = 0; i < 256; i++)
			receive_burst(r, o->burst);
		at = now();
	} while (at < end);
	r->result.seconds = at - begin;
}

/* ---- across cores ---- */

static void send_process(const char *spec, const struct options *o, struct shared *sh)
{
	struct elisa_guest *guest = NULL;
	struct elisa_port *port;
	struct sender s = {.o = o};

	pin(o->cores[0]);
	while (!atomic_load(&sh->ready))
		usleep(100);
	port = open_port(spec, NULL, o, &guest);
	s.q = elisa_port_txq(port, 0);
	make_frames(port, s.q, sh->mac, o->size);
	undisturbed(o, true);
	while (!atomic_load_explicit(&sh->stop, memory_order_relaxed)) {
		if (!send_burst(&s)) {
			sh->error++;
			break;
		}
	}
	undisturbed(o, false);
	sh->sent = s.number;
	sh->calls = s.q->calls;
	elisa_port_close(port);
	elisa_guest_close(guest);
	exit(0);
}

static void print_result(const char *mode, const struct options *o, const struct result *r)
{
	printf("{\"mode\": \"%s\", \"size\": %u, \"burst\": %u, \"seconds\": %.4f, \"frames\": "
	       "%lu, "
	       "\"missing\": %lu, \"wrong\": %lu, \"mpps\": %.3f, \"ns\": %.3f}\n",
	       mode, o->size, o->burst, r->seconds, r->frames, r->missing, r->wrong,
	       (double)r->frames / r->seconds * 1e-6, r->seconds * 1e9 / (double)r->frames);
}

static int cross(const char *tx_spec, const char *rx_spec, const struct options *o)
{
	struct shared *sh =
		mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct receiver r = {.expected = 0};
	struct elisa_guest *guest = NULL;
	struct elisa_port *port;
	pid_t child;
	int status;

	if (sh == MAP_FAILED)
		fail("no memory", strerror(errno));
	child = fork();
	if (child < 0)
		fail("cannot fork", strerror(errno));
	if (!child)
		send_process(tx_spec, o, sh);
	pin(o->cores[1]);
	port = open_port(rx_spec, NULL, o, &guest);
	r.q = elisa_port_rxq(port, 0);
	introduce(port, (const uint8_t[6]){255, 255, 255, 255, 255, 255});
	memcpy(sh->mac, elisa_port_info(port)->mac, 6);
	atomic_store(&sh->ready, 1);
	while (!receive_burst(&r, o->burst))
		if (waitpid(child, &status, WNOHANG) == child)
			fail("the sender ended", "see above");
	undisturbed(o, true);
	receive_for(&r, o, WARM_MS);
	receive_for(&r, o, o->ms);
	undisturbed(o, false);
	atomic_store(&sh->stop, true);
	waitpid(child, &status, 0);
	elisa_port_close(port);
	elisa_guest_close(guest);
	if (status || sh->error)
		fail("the sender failed", "its calls were refused");
	print_result("cross", o, &r.result);
	return r.result.wrong ? 1 : 0;
}

/* ---- on one core ---- */

static int same(const char *spec, const struct options *o)
{
	struct elisa_guest *guest = NULL;
	struct elisa_port *from = open_port(spec, "0", o, &guest);
	struct elisa_port *to = open_port(spec, "1", o, &guest);
	struct sender s = {.q = elisa_port_txq(from, 0), .o = o};
	struct receiver r = {.q = elisa_port_rxq(to, 0)};
	double begin, end;

	pin(o->cores[0]);
	introduce(to, elisa_port_info(from)->mac);
	make_frames(from, s.q, elisa_port_info(to)->mac, o->size);
	undisturbed(o, true);
	end = now() + WARM_MS * 1e-3;
	do {
		begin = now();
		send_burst(&s);
		receive_burst(&r, o->burst);
	} while (begin < end);
	r.result = (struct result){.frames = 0};
	begin = now();
	do {
		for (int i = 0; i < 256; i++) {
			if (!send_burst(&s))
				fail("the sender failed", "its call was refused");
			receive_burst(&r, o->burst);
		}
	} while ((end = now()) < begin + o->ms * 1e-3);
	undisturbed(o, false);
	r.result.seconds = end - begin;
	elisa_port_close(from);
	elisa_port_close(to);
	elisa_guest_close(guest);
	print_result("same", o, &r.result);
	return r.result.missing || r.result.wrong ? 1 : 0;
}

/* ---- the limit ---- */

/* One sender, one receiver, no switch, no check: a count at each end, frames in coloured buffers.
 */
struct ring {
	_Alignas(128) _Atomic uint64_t head;
	_Alignas(128) _Atomic uint64_t tail;
	_Alignas(128) atomic_bool stop;
	_Alignas(128) uint8_t frames[RING][STRIDE];
};

struct ring_end {
	struct ring *ring;
	const struct options *o;
};

static void *ring_sender(void *arg)
{
	const struct ring_end *e = arg;
	struct ring *ring = e->ring;
	const uint32_t burst = e->o->burst, size = e->o->size;
	uint8_t frame[2048] = {0};
	uint64_t head = 0, tail = 0;

	pin(e->o->cores[0]);
	undisturbed(e->o, true);
	while (!atomic_load_explicit(&ring->stop, memory_order_relaxed)) {
		if (head + burst - tail > RING) {
			tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
			continue;
		}
		for (uint32_t i = 0; i < burst; i++, head++) {
			memcpy(frame + NUMBER_AT, &head, sizeof(head));
			if (size == 64)
				memcpy(ring->frames[head % RING], frame, 64);
			else
				memcpy(ring->frames[head % RING], frame, size);
		}
		atomic_store_explicit(&ring->head, head, memory_order_release);
	}
	return NULL;
}

static void ring_receive(struct ring *ring, const struct options *o, uint32_t ms, uint64_t *tail,
			 struct result *r)
{
	const double begin = now(), end = begin + ms * 1e-3;
	uint8_t frame[2048];
	uint64_t number;
	double at;

	*r = (struct result){.frames = 0};
	do {
		for (int i = 0; i < 256; i++) {
			uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

			if (head - *tail > o->burst)
				head = *tail + o->burst;
			r->frames += head - *tail;
			for (; *tail != head; ++*tail) {
				if (o->size == 64)
					memcpy(frame, ring->frames[*tail % RING], 64);
				else
					memcpy(frame, ring->frames[*tail % RING], o->size);
				__asm__ volatile("" : : "r"(frame) : "memory");
				memcpy(&number, frame + NUMBER_AT, sizeof(number));
				r->wrong += number != *tail;
			}
			atomic_store_explicit(&ring->tail, *tail, memory_order_release);
		}
		at = now();
	} while (at < end);
	r->seconds = at - begin;
}

static int bare_ring(const struct options *o)
{
	const size_t huge = 2 << 20, len = (sizeof(struct ring) + huge - 1) & ~(huge - 1);
	struct ring *ring = aligned_alloc(huge, len);
	struct ring_end end = {ring, o};
	struct result r;
	pthread_t thread;
	uint64_t tail = 0;

	if (!ring)
		fail("no memory", strerror(errno));
	madvise(ring, len, MADV_HUGEPAGE);
	memset(ring, 0, len);
	if (pthread_create(&thread, NULL, ring_sender, &end))
		fail("no thread", "pthread_create");
	pin(o->cores[1]);
	undisturbed(o, true);
	ring_receive(ring, o, WARM_MS, &tail, &r);
	ring_receive(ring, o, o->ms, &tail, &r);
	atomic_store(&ring->stop, true);
	pthread_join(thread, NULL);
	print_result("ring", o, &r);
	free(ring);
	return r.wrong ? 1 : 0;
}

/* ---- command line ---- */

static void usage(void)
{
	fprintf(stderr, "Usage: native-switch [-s SIZE] [-b BURST] [-t MS] [-r RX-BUFFERS] [-c "
			"CORE,CORE] [-f]\n"
			"                     cross SPEC-TX SPEC-RX | same SPEC | ring\n"
			"One measurement; bench/native makes them all. Prints JSON.\n");
	exit(2);
}

static uint32_t number(const char *text, uint32_t min, uint32_t max)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n < min || n > max)
		usage();
	return (uint32_t)n;
}

int main(int argc, char **argv)
{
	struct options o = {.size = 64, .burst = 32, .ms = 500, .rx_size = 512, .cores = {0, 1}};
	int key;

	while ((key = getopt(argc, argv, "s:b:t:r:c:f")) != -1) {
		if (key == 's')
			o.size = number(optarg, 60, 1518);
		else if (key == 'b')
			o.burst = number(optarg, 1, BURST_MAX);
		else if (key == 't')
			o.ms = number(optarg, 1, 60000);
		else if (key == 'r')
			o.rx_size = number(optarg, ELISA_RING_MIN, ELISA_RING_MAX);
		else if (key == 'f')
			o.fifo = true;
		else if (key != 'c' || sscanf(optarg, "%d,%d", &o.cores[0], &o.cores[1]) != 2)
			usage();
	}
	if (TX_BUFS % o.burst)
		fail("-b", "the burst must divide 256");
	argv += optind;
	argc -= optind;
	if (argc == 3 && !strcmp(argv[0], "cross"))
		return cross(argv[1], argv[2], &o);
	if (argc == 2 && !strcmp(argv[0], "same"))
		return same(argv[1], &o);
	if (argc == 1 && !strcmp(argv[0], "ring"))
		return bare_ring(&o);
	usage();
}
