/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisa-gen: raw sender and receiver on libelisa-guest, and what a call costs.
 *
 * Costs are in ticks of the time-stamp counter: cycles of a fixed rate on hardware, instructions in
 * the lab. A burst's cost is that of filling its descriptors and of the call; writing the payload
 * is outside of it. Only bursts that the switch took as a whole in one call count.
 */
#include <argp.h>
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "gen.h"
#include "tool.h"

const char *argp_program_version = PROGRAM " " ELISA_VERSION;

/* ---- statistics ---- */

struct samples {
	uint64_t *at;
	uint64_t count, room;
};

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Prints min, median and mean of samples, each divided by `unit`. Returns the median. */
static double print_summary(const char *name, struct samples *s, double unit)
{
	double sum = 0, median;

	if (!s->count) {
		printf("\"%s\": null", name);
		return 0;
	}
	qsort(s->at, s->count, sizeof(*s->at), by_value);
	for (uint64_t i = 0; i < s->count; i++)
		sum += (double)s->at[i];
	median = (double)(s->at[(s->count - 1) / 2] + s->at[s->count / 2]) / 2 / unit;
	printf("\"%s\": {\"min\": %.2f, \"median\": %.2f, \"mean\": %.2f, \"max\": %.2f}", name,
	       (double)s->at[0] / unit, median, sum / (double)s->count / unit,
	       (double)s->at[s->count - 1] / unit);
	return median;
}

/* What reading the counter twice costs by itself. */
static uint64_t tsc_overhead(void)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		const uint64_t start = __rdtsc(), d = __rdtsc() - start;

		least = d < least ? d : least;
	}
	return least;
}

static uint64_t net_ticks(uint64_t ticks, uint64_t overhead)
{
	return ticks > overhead ? ticks - overhead : 0;
}

/* ---- sending ---- */

struct sender {
	const struct options *o;
	struct elisa_port *port;
	struct elisa_txq *q;
	struct samples samples;
	uint64_t overhead, seq, in_window;
	uint64_t frames, taken, calls, errors;
	int last_error;
};

static void write_payload(struct sender *s, uint32_t buf, uint32_t size)
{
	const uint32_t seq = (uint32_t)s->seq++;
	uint8_t *p = s->q->buf[buf];
	struct gen_header h = {.type = {GEN_TYPE_0, GEN_TYPE_1},
			       .magic = {GEN_MAGIC_0, GEN_MAGIC_1},
			       .seq = seq,
			       .len = (uint16_t)size};

	memcpy(h.dst, s->o->dst, 6);
	memcpy(h.src, s->o->src, 6);
	memcpy(p, &h, sizeof(h));
	for (uint32_t i = GEN_MIN; i < size; i++)
		p[i] = gen_byte(seq, i);
}

/* One frame in several descriptors, as even as they get. */
static uint32_t put_segments(const struct sender *s, uint32_t at, uint32_t buf, uint32_t size)
{
	const uint32_t segs = (uint32_t)s->o->segs;
	uint32_t offset = 0;

	for (uint32_t i = 0; i < segs; i++) {
		const uint32_t len = (size - offset) / (segs - i);

		elisa_tx_put(s->q, at + i, s->q->buf_gpa[buf] + offset, (uint16_t)len,
			     i + 1 < segs ? ELISA_NET_MORE : 0);
		offset += len;
	}
	return segs;
}

static __attribute__((noinline)) int64_t timed_burst(struct sender *s, uint32_t size,
						     uint32_t burst, uint64_t *ticks)
{
	const uint64_t start = __rdtsc();
	int64_t taken;

	if (s->o->segs == 1) {
		elisa_tx_fill(s->q, s->q->buf_gpa, (uint16_t)size, burst);
		taken = elisa_tx_push(s->q, burst);
	} else {
		uint32_t n = 0;

		for (uint32_t i = 0; i < burst; i++)
			n += put_segments(s, n, i, size);
		taken = elisa_tx_push(s->q, n);
	}
	*ticks = net_ticks(__rdtsc() - start, s->overhead);
	return taken;
}

/* Sends one burst, all of it as far as the switch takes it. False: give up. */
static bool send_burst(struct sender *s, uint32_t size, uint32_t burst)
{
	const uint32_t want = burst * (uint32_t)s->o->segs;
	uint64_t ticks;
	uint32_t left = want;
	int64_t taken;

	for (uint32_t i = 0; i < burst; i++)
		write_payload(s, i, size);
	taken = timed_burst(s, size, burst, &ticks);
	if (taken == want && s->samples.count < s->samples.room)
		s->samples.at[s->samples.count++] = ticks;
	for (int idle = 0; taken >= 0 && idle < 100;) {
		left -= (uint32_t)taken;
		s->taken += (uint64_t)taken / s->o->segs;
		if (!left)
			break;
		if (!taken && ++idle)
			tool_sleep_us(100);
		taken = elisa_tx_push(s->q, left);
	}
	s->frames += burst;
	if (taken < 0) {
		s->last_error = (int)taken;
		s->errors++;
	}
	return s->errors < 10;
}

static void pace(struct sender *s, uint32_t burst)
{
	s->in_window += burst;
	if (s->in_window + burst <= s->o->window)
		return;
	tool_sleep_us(s->o->pause_us);
	s->in_window = 0;
}

static int send_run(struct sender *s, uint32_t size, uint32_t burst)
{
	struct elisa_port_counters before = {0}, after = {0};
	const uint64_t calls = s->q->calls;
	bool more = true;

	s->samples.count = 0;
	s->frames = s->taken = s->errors = 0;
	elisa_port_counters(s->port, &before);
	while (more && s->frames < s->o->count) {
		const uint64_t left = s->o->count - s->frames;
		const uint32_t n = left < burst ? (uint32_t)left : burst;

		more = send_burst(s, size, n);
		if (n != burst && s->samples.count)
			s->samples.count--; /* a short last one is another burst size */
		pace(s, n);
	}
	elisa_port_counters(s->port, &after);
	printf("{\"size\": %u, \"burst\": %u, \"segs\": %lu, \"frames\": %lu, \"taken\": %lu, "
	       "\"forwarded\": %lu, \"calls\": %lu, \"bursts_timed\": %lu, ",
	       size, burst, s->o->segs, s->frames, s->taken, after.tx_frames - before.tx_frames,
	       s->q->calls - calls, s->samples.count);
	print_summary("tsc_per_packet", &s->samples, burst);
	if (s->errors)
		printf(", \"error\": \"%s\"", elisa_port_state_text(s->last_error));
	printf("}");
	return s->taken == s->o->count && !s->errors ? 0 : 1;
}

static int send_all(struct elisa_port *port, const struct options *o)
{
	struct sender s = {.o = o, .port = port, .q = elisa_port_txq(port, 0), .seq = o->seq};
	int rc = 0;

	s.overhead = tsc_overhead();
	s.samples.room = o->count < 1000000 ? o->count : 1000000;
	s.samples.at = calloc(s.samples.room, sizeof(*s.samples.at));
	if (!s.samples.at)
		return 1;
	printf("{\"transport\": \"%s\", \"tsc_overhead\": %lu, \"runs\": [", o->transport,
	       s.overhead);
	for (uint32_t i = 0; i < o->size_count; i++) {
		for (uint32_t k = 0; k < o->burst_count; k++) {
			printf(i || k ? ",\n" : "\n");
			rc |= send_run(&s, o->sizes[i], o->bursts[k]);
			fflush(stdout);
		}
	}
	printf("]}\n");
	free(s.samples.at);
	return rc;
}

/* ---- empty calls ---- */

/* On VT-x: elsewhere VMCALL is a fault. */
static bool in_a_vm(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx &&
	       __get_cpuid(1, &a, &b, &c, &d) && c & 1u << 31;
}

/* A hypercall that KVM refuses from user mode: an exit and its way back, nothing else. */
static void hypercall(void)
{
	uint64_t number = 0;

	__asm__ volatile("vmcall" : "+a"(number) : : "memory");
}

static int measure_calls(struct elisa_guest *guest, const struct options *o)
{
	const uint64_t overhead = tsc_overhead();
	struct samples calls = {.room = o->nops}, exits = {.room = o->nops};
	double per_call, per_exit;
	uint64_t bad = 0, total;
	struct elisa_call call;
	int rc = elisa_guest_call(guest, &call);

	calls.at = calloc(o->nops, sizeof(uint64_t));
	exits.at = calloc(o->nops, sizeof(uint64_t));
	if (rc || !calls.at || !exits.at) {
		rc = 1;
		goto out;
	}
	for (uint64_t i = 0; i < o->nops; i++) {
		const uint64_t start = __rdtsc();
		const int64_t r = elisa_call(&call, ELISA_OP_NOP, 0, 0, 0);

		calls.at[calls.count++] = net_ticks(__rdtsc() - start, overhead);
		bad += r != 0;
	}
	total = __rdtsc();
	for (uint64_t i = 0; i < o->nops; i++)
		bad += elisa_call(&call, ELISA_OP_NOP, 0, 0, 0) != 0;
	total = __rdtsc() - total;
	printf("{\"transport\": \"%s\", \"nops\": %lu, \"failed\": %lu, \"tsc_per_call_loop\": "
	       "%.2f, ",
	       elisa_guest_transport(guest), o->nops, bad, (double)total / (double)o->nops);
	per_call = print_summary("tsc_per_call", &calls, 1);
	if (o->vmcall) {
		for (uint64_t i = 0; i < o->nops; i++) {
			const uint64_t start = __rdtsc();

			hypercall();
			exits.at[exits.count++] = net_ticks(__rdtsc() - start, overhead);
		}
		printf(", ");
		per_exit = print_summary("tsc_per_vmcall", &exits, 1);
		printf(", \"ratio\": %.2f", per_call > 0 ? per_exit / per_call : 0);
	}
	printf("}\n");
	rc = bad ? 1 : 0;
out:
	free(calls.at);
	free(exits.at);
	return rc;
}

/* ---- start ---- */

static int print_mac(const struct elisa_port *port)
{
	const struct elisa_port_info *info = elisa_port_info(port);
	char mac[MAC_TEXT];

	printf("{\"name\": ");
	tool_json_string(stdout, info->name);
	printf(", \"mac\": \"%s\", \"mtu\": %u, \"link\": %s}\n", tool_mac_text(info->mac, mac),
	       info->mtu, info->link & ELISA_LINK_UP ? "true" : "false");
	return 0;
}

/* A frame that the switch is bound to drop is no measurement. */
static bool sizes_fit(const struct elisa_port *port, const struct options *o)
{
	const struct elisa_port_info *info = elisa_port_info(port);

	for (uint32_t i = 0; i < o->size_count; i++) {
		if (o->sizes[i] <= info->mtu + 14u)
			continue;
		fprintf(stderr,
			PROGRAM ": --size %u is more than the %u bytes that port %s takes with its "
				"MTU of %u (FCS does not count: a full Ethernet frame is 1514)\n",
			o->sizes[i], info->mtu + 14u, info->name, info->mtu);
		return false;
	}
	return true;
}

/* As little memory as will do: hugepages are scarce in small VMs. */
static struct elisa_port_params port_params(const struct options *o)
{
	struct elisa_port_params p = {.tx_size = 256,
				      .tx_bufs = 1,
				      .tx_buf_len = GEN_MIN,
				      .rx_size = (uint32_t)o->rx_size,
				      .rx_buf_len = (uint32_t)o->rx_buf_len};

	for (uint32_t i = 0; o->mode == MODE_TX && i < o->size_count; i++)
		p.tx_buf_len = o->sizes[i] > p.tx_buf_len ? o->sizes[i] : p.tx_buf_len;
	for (uint32_t i = 0; o->mode == MODE_TX && i < o->burst_count; i++)
		p.tx_bufs = o->bursts[i] > p.tx_bufs ? o->bursts[i] : p.tx_bufs;
	return p;
}

static int run(struct options *o)
{
	const struct elisa_port_params params = port_params(o);
	struct elisa_guest *guest = NULL;
	struct elisa_port *port = NULL;
	int rc = tool_open_guest(PROGRAM, o->transport, o->wait_s, &guest);

	if (rc)
		return 1;
	o->transport = elisa_guest_transport(guest);
	if (o->mode == MODE_NOP) {
		rc = measure_calls(guest, o);
		goto out;
	}
	rc = tool_open_port(PROGRAM, guest, o->port, &params, o->wait_s, &port);
	if (rc)
		goto out;
	if (!o->have_src)
		memcpy(o->src, elisa_port_info(port)->mac, 6);
	if (o->mode == MODE_TX)
		rc = sizes_fit(port, o) ? send_all(port, o) : 1;
	else if (o->mode == MODE_FETCH)
		rc = gen_fetch(port, o);
	else if (o->mode == MODE_RX)
		rc = gen_receive(port, o);
	else
		rc = print_mac(port);
out:
	elisa_port_close(port);
	elisa_guest_close(guest);
	return rc ? 1 : 0;
}

/* ---- command line ---- */

enum {
	KEY_TX = 256,
	KEY_RX,
	KEY_NOP,
	KEY_MAC,
	KEY_VMCALL,
	KEY_DST,
	KEY_SRC,
	KEY_WINDOW,
	KEY_PAUSE,
	KEY_SEGS,
	KEY_SEQ,
	KEY_WAIT,
	KEY_RX_SIZE,
	KEY_RX_BUF,
	KEY_FETCH
};

static const struct argp_option option_list[] = {
	{NULL, 0, NULL, 0, "What to do, one of:", 1},
	{"tx", KEY_TX, NULL, 0, "Send, and measure", 1},
	{"rx", KEY_RX, NULL, 0, "Receive, and check content and sequence", 1},
	{"fetch", KEY_FETCH, "N", 0, "Fetch N bursts of each length from NICs, and measure", 1},
	{"nop", KEY_NOP, "N", 0, "Make N empty calls", 1},
	{"mac-info", KEY_MAC, NULL, 0, "Print the port's MAC address", 1},
	{NULL, 0, NULL, 0, "How:", 2},
	{"transport", 't', "SPEC", 0, "vmfunc (default) or local:SOCKET[,OPTIONS] (no isolation)", 2},
	{"port", 'p', "NAME|INDEX", 0, "Port of the switch (the first)", 2},
	{"count", 'n', "N", 0, "Frames: of each run, or to receive (1000)", 2},
	{"size", 's', "N", 0, "Bytes of a frame, without FCS (64)", 2},
	{"sizes", 's', "N,N...", 0, "A run for each size...", 2},
	{"burst", 'b', "N", 0, "Frames of a call, up to 256 (32)", 2},
	{"bursts", 'b', "N,N...", 0, "...and burst", 2},
	{"segs", KEY_SEGS, "N", 0, "Descriptors of a frame, up to 8 (1)", 2},
	{"dst", KEY_DST, "MAC", 0, "Destination (broadcast)", 2},
	{"src", KEY_SRC, "MAC", 0, "Source (the port's)", 2},
	{"window", KEY_WINDOW, "N", 0, "Rest after so many frames (256)...", 2},
	{"pause", KEY_PAUSE, "US", 0, "...for so many microseconds (2000)", 2},
	{"seq", KEY_SEQ, "N", 0, "First sequence number, sent or expected (0)", 2},
	{"timeout", 'T', "S", 0, "Seconds to receive for (10)", 2},
	{"rx-size", KEY_RX_SIZE, "N", 0, "RX buffers, a power of two (512)", 2},
	{"rx-buffer", KEY_RX_BUF, "BYTES", 0, "Length of one (2048)", 2},
	{"vmcall", KEY_VMCALL, NULL, 0, "With --nop: as many KVM hypercalls, and the ratio", 2},
	{"wait", KEY_WAIT, "SECONDS", 0, "Wait for the switch at start (0)", 2},
	{0}};

/* False: a bad value. */
static bool parse_numbers(int key, const char *arg, struct options *o)
{
	switch (key) {
	case 'n':
		return tool_parse_number(arg, 1, UINT32_MAX, &o->count);
	case 's':
		o->size_count = tool_parse_list(arg, GEN_MIN, ELISA_FRAME_MAX, o->sizes, LIST_MAX);
		return o->size_count > 0;
	case 'b':
		o->burst_count = tool_parse_list(arg, 1, ELISA_TX_MAX, o->bursts, LIST_MAX);
		return o->burst_count > 0;
	case KEY_SEGS:
		return tool_parse_number(arg, 1, ELISA_SEGS_MAX, &o->segs);
	case KEY_WINDOW:
		return tool_parse_number(arg, 1, UINT32_MAX, &o->window);
	case KEY_PAUSE:
		return tool_parse_number(arg, 0, 10000000, &o->pause_us);
	case KEY_SEQ:
		return tool_parse_number(arg, 0, UINT32_MAX, &o->seq);
	case 'T':
		return tool_parse_number(arg, 1, 86400, &o->timeout_s);
	case KEY_WAIT:
		return tool_parse_number(arg, 0, 86400, &o->wait_s);
	case KEY_RX_SIZE:
		return tool_parse_number(arg, ELISA_RING_MIN, ELISA_RING_MAX, &o->rx_size) &&
		       !(o->rx_size & (o->rx_size - 1));
	case KEY_RX_BUF:
		return tool_parse_number(arg, ELISA_RX_BUF_MIN, 65535, &o->rx_buf_len);
	case KEY_NOP:
		o->mode = MODE_NOP;
		return tool_parse_number(arg, 1, 10000000, &o->nops);
	case KEY_FETCH:
		o->mode = MODE_FETCH;
		return tool_parse_number(arg, 1, 10000, &o->fetches);
	case KEY_DST:
		return tool_parse_mac(arg, o->dst);
	default:
		o->have_src = true;
		return tool_parse_mac(arg, o->src);
	}
}

static void check_options(const struct options *o, struct argp_state *state)
{
	if (o->mode == MODE_NONE)
		argp_error(state, "say --tx, --rx, --fetch, --nop or --mac-info");
	if (o->vmcall && !in_a_vm())
		argp_error(state, "--vmcall: this machine is no VM on VT-x");
	for (uint32_t i = 0; i < o->burst_count; i++)
		if (o->bursts[i] * o->segs > ELISA_TX_MAX)
			argp_error(state,
				   "a burst of %u times %lu segments is more than the %d "
				   "descriptors of a call",
				   o->bursts[i], o->segs, ELISA_TX_MAX);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 't':
		o->transport = arg;
		return 0;
	case 'p':
		o->port = arg;
		return 0;
	case KEY_TX:
		o->mode = MODE_TX;
		return 0;
	case KEY_RX:
		o->mode = MODE_RX;
		return 0;
	case KEY_MAC:
		o->mode = MODE_MAC;
		return 0;
	case KEY_VMCALL:
		o->vmcall = true;
		return 0;
	case ARGP_KEY_ARG:
		return ARGP_ERR_UNKNOWN;
	case ARGP_KEY_END:
		check_options(o, state);
		return 0;
	default:
		if (!arg)
			return ARGP_ERR_UNKNOWN;
		if (!parse_numbers(key, arg, o))
			argp_error(state, "\"%s\" is not a value for this option", arg);
		return 0;
	}
}

int main(int argc, char **argv)
{
	static const struct argp argp = {option_list,
					 parse,
					 NULL,
					 "Sends, receives and measures on a port of this VM's "
					 "ELISA switch. Prints JSON; exit "
					 "status 0: all was well.",
					 NULL,
					 NULL,
					 NULL};
	struct options o = {.sizes = {64},
			    .bursts = {32},
			    .size_count = 1,
			    .burst_count = 1,
			    .count = 1000,
			    .window = 256,
			    .pause_us = 2000,
			    .segs = 1,
			    .timeout_s = 10,
			    .dst = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	return run(&o);
}
