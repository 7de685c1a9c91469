/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pmd-peer: sends and receives over any ethdev port, and checks every byte.
 *
 *	pmd-peer EAL-OPTIONS... -- --echo --via macswap --dst MAC ...
 *
 * A frame's content follows from its number, so the receiver knows what it has to look like, also
 * after a forwarding testpmd has changed it. Prints JSON; exit status 0: all came, all was sound.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>

#include "peer.h"

#define BURST 32

volatile bool told_to_stop;

static struct results {
	uint64_t sent, refused, received, sound, corrupt, duplicate, foreign, unexpected;
	uint64_t on_queue[RTE_MAX_QUEUES_PER_PORT];
	uint32_t most_segs;
} total;

/* Which of the frames were seen; bit by number. */
static uint8_t *seen;
static uint64_t seen_room;

static void on_signal(int signal)
{
	told_to_stop = true;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- frames in mbufs ---- */

struct rte_mbuf *mbuf_build(const struct options *o, struct rte_mempool *pool, uint32_t seq,
			    uint32_t size, uint32_t segs)
{
	static uint8_t frame[FRAME_MAX];
	struct rte_mbuf *head = NULL;
	uint32_t offset = 0;

	frame_build(o, seq, size, frame);
	for (uint32_t i = 0; i < segs; i++) {
		const uint16_t len = (uint16_t)((size - offset) / (segs - i));
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
		char *data = m ? rte_pktmbuf_append(m, len) : NULL;

		if (!data || (head && rte_pktmbuf_chain(head, m))) {
			rte_pktmbuf_free(m);
			rte_pktmbuf_free(head);
			return NULL;
		}
		memcpy(data, frame + offset, len);
		offset += len;
		head = head ? head : m;
	}
	return head;
}

static void check_mbuf(const struct options *o, struct rte_mbuf *m)
{
	static uint8_t copy[FRAME_MAX];
	const uint8_t *frame = rte_pktmbuf_read(m, 0, m->pkt_len, copy);
	uint32_t seq = 0;
	enum verdict verdict;

	rte_mbuf_sanity_check(m, 1);
	total.most_segs = RTE_MAX(total.most_segs, m->nb_segs);
	verdict = frame ? frame_check(o, frame, m->pkt_len, &seq) : FRAME_CORRUPT;
	if (verdict == FRAME_FOREIGN) {
		total.foreign++;
		return;
	}
	total.received++;
	if (verdict == FRAME_CORRUPT) {
		if (!total.corrupt++ && frame)
			rte_pktmbuf_dump(stderr, m, RTE_MIN(m->pkt_len, 128u));
		return;
	}
	if (seq >= seen_room) {
		total.unexpected++;
	} else if (seen[seq / 8] & 1 << seq % 8) {
		total.duplicate++;
	} else {
		seen[seq / 8] |= (uint8_t)(1 << seq % 8);
		total.sound++;
	}
}

static uint32_t receive(const struct options *o)
{
	struct rte_mbuf *mbufs[BURST];
	uint32_t all = 0;

	for (uint32_t q = 0; q < o->queues; q++) {
		const uint32_t n =
			rte_eth_rx_burst((uint16_t)o->rx_port, (uint16_t)q, mbufs, BURST);

		for (uint32_t i = 0; i < n; i++)
			check_mbuf(o, mbufs[i]);
		rte_pktmbuf_free_bulk(mbufs, n);
		total.on_queue[q] += n;
		all += n;
	}
	return all;
}

/* ---- roles ---- */

/* Sends the next frames on one queue. Returns how many were taken. */
static uint32_t send_some(const struct options *o, struct rte_mempool *pool, uint32_t seq,
			  uint32_t queue, uint32_t n, uint32_t size, uint32_t segs)
{
	struct rte_mbuf *mbufs[BURST_MAX];
	uint32_t made, taken;

	for (made = 0; made < n; made++) {
		mbufs[made] = mbuf_build(o, pool, seq + made, size, segs);
		if (!mbufs[made])
			break;
	}
	taken = rte_eth_tx_burst((uint16_t)o->port, (uint16_t)queue, mbufs, (uint16_t)made);
	rte_pktmbuf_free_bulk(mbufs + taken, made - taken);
	total.sent += taken;
	total.refused += made - taken;
	return taken;
}

/* Sends `count` frames of one kind, and with --echo waits for each of them to come back. */
static void run(const struct options *o, struct rte_mempool *pool, uint32_t size, uint32_t segs)
{
	const struct results before = total;
	const bool echo = o->role == ROLE_ECHO;
	const uint32_t burst = o->bursts[0];
	uint64_t since = now_ms(), in_window = 0;
	uint32_t queue = 0;

	while (!told_to_stop && now_ms() < since + o->stall_ms) {
		const uint64_t sent = total.sent - before.sent;
		const uint64_t back = total.received - before.received;
		const uint64_t out = echo ? sent - RTE_MIN(sent, back) : in_window;
		uint32_t moved = 0;

		if (sent < o->count && out + burst <= o->window) {
			const uint32_t n = (uint32_t)RTE_MIN(burst, o->count - sent);

			moved = send_some(o, pool, (uint32_t)total.sent, queue, n, size, segs);
			queue = (queue + 1) % o->queues;
			in_window += moved;
		} else if (!echo && sent < o->count) {
			usleep((useconds_t)o->pause_us);
			in_window = 0;
		} else if (sent == o->count && (!echo || back >= sent)) {
			break;
		}
		moved += receive(o);
		if (moved)
			since = now_ms();
		else
			usleep((useconds_t)o->pause_us);
	}
	printf("{\"size\": %u, \"segs\": %u, \"sent\": %lu, \"received\": %lu, \"sound\": %lu}",
	       size, segs, total.sent - before.sent, total.received - before.received,
	       total.sound - before.sound);
}

static int send_all(const struct options *o, struct rte_mempool *pool)
{
	bool first = true;

	for (uint32_t i = 0; i < o->size_count; i++) {
		for (uint32_t k = 0; k < o->seg_count; k++) {
			printf(first ? "\n" : ",\n");
			first = false;
			run(o, pool, o->sizes[i], o->segs[k]);
			fflush(stdout);
		}
	}
	if (total.sent != o->count * o->size_count * o->seg_count)
		return 1;
	return o->role == ROLE_ECHO && total.sound != total.sent;
}

static int receive_all(const struct options *o)
{
	const uint64_t end = now_ms() + o->timeout_s * 1000;

	while (total.sound < o->count && now_ms() < end && !told_to_stop)
		if (!receive(o))
			usleep((useconds_t)o->pause_us);
	return total.sound != o->count;
}

/* ---- port ---- */

static struct rte_mempool *make_pool(const struct options *o)
{
	struct rte_mempool *pool =
		rte_pktmbuf_pool_create("peer", o->mbufs, 64, 0, (uint16_t)o->mbuf_size,
					rte_eth_dev_socket_id((uint16_t)o->port));

	if (!pool)
		fprintf(stderr, "pmd-peer: no pool of %u mbufs of %u bytes: %s\n", o->mbufs,
			o->mbuf_size, rte_strerror(rte_errno));
	return pool;
}

static int fail(const char *what, uint32_t port, int rc)
{
	fprintf(stderr, "pmd-peer: port %u: %s: %s\n", port, what, rte_strerror(-rc));
	return rc;
}

static int start_port(const struct options *o, uint16_t port, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = {.rxmode.mtu = o->mtu};
	struct rte_eth_dev_info info;
	uint32_t room = o->mbuf_size - RTE_PKTMBUF_HEADROOM;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc)
		return fail("no information", port, rc);
	if (o->queues > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf =
			info.flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP);
	}
	if (o->mtu + RTE_ETHER_HDR_LEN > room)
		conf.rxmode.offloads |= info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
	for (uint32_t i = 0; i < o->seg_count; i++)
		if (o->segs[i] > 1)
			conf.txmode.offloads |=
				info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	/* As testpmd does: all mbufs are of one pool and have one owner. */
	conf.txmode.offloads |= info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
	rc = rte_eth_dev_configure(port, (uint16_t)o->queues, (uint16_t)o->queues, &conf);
	if (rc)
		return fail("cannot configure", port, rc);
	for (uint16_t q = 0; q < o->queues; q++) {
		rc = rte_eth_rx_queue_setup(port, q, (uint16_t)o->descs, SOCKET_ID_ANY, NULL, pool);
		if (rc)
			return fail("cannot set up an RX queue", port, rc);
		rc = rte_eth_tx_queue_setup(port, q, (uint16_t)o->descs, SOCKET_ID_ANY, NULL);
		if (rc)
			return fail("cannot set up a TX queue", port, rc);
	}
	rc = rte_eth_dev_start(port);
	if (rc)
		return fail("cannot start", port, rc);
	/* A device that has but one mode says so with -ENOTSUP. */
	rc = rte_eth_promiscuous_enable(port);
	return rc && rc != -ENOTSUP ? fail("cannot be promiscuous", port, rc) : 0;
}

/* Counters of the port that are not 0, as JSON. */
static void print_stats(uint16_t port)
{
	int n = rte_eth_xstats_get(port, NULL, 0);
	struct rte_eth_xstat_name *names = n > 0 ? calloc((size_t)n, sizeof(*names)) : NULL;
	struct rte_eth_xstat *values = n > 0 ? calloc((size_t)n, sizeof(*values)) : NULL;
	const char *comma = "";

	printf("{");
	if (names && values && rte_eth_xstats_get_names(port, names, (unsigned int)n) == n &&
	    rte_eth_xstats_get(port, values, (unsigned int)n) == n) {
		for (int i = 0; i < n; i++) {
			if (!values[i].value)
				continue;
			printf("%s\"%s\": %lu", comma, names[values[i].id].name, values[i].value);
			comma = ", ";
		}
	}
	printf("}");
	free(names);
	free(values);
}

static void print_port(const struct options *o)
{
	struct rte_ether_addr mac;
	struct rte_eth_link link = {0};

	rte_eth_macaddr_get((uint16_t)o->port, &mac);
	rte_eth_link_get_nowait((uint16_t)o->port, &link);
	printf("{\"mac\": \"" RTE_ETHER_ADDR_PRT_FMT "\", \"link\": %d,",
	       RTE_ETHER_ADDR_BYTES(&mac), link.link_status);
}

static void print_totals(const struct options *o)
{
	printf("], \"sent\": %lu, \"refused\": %lu, \"received\": %lu, \"sound\": %lu, "
	       "\"corrupt\": %lu, \"duplicate\": %lu, \"foreign\": %lu, \"unexpected\": %lu, "
	       "\"most_segs\": %u, \"on_queue\": [",
	       total.sent, total.refused, total.received, total.sound, total.corrupt,
	       total.duplicate, total.foreign, total.unexpected, total.most_segs);
	for (uint32_t q = 0; q < o->queues; q++)
		printf("%s%lu", q ? ", " : "", total.on_queue[q]);
	printf("],\n\"xstats\": ");
	print_stats((uint16_t)o->port);
}

/* ---- command line ---- */

enum {
	KEY_ECHO = 256,
	KEY_TX,
	KEY_RX,
	KEY_BENCH_TX,
	KEY_BENCH_RX,
	KEY_BENCH_LOOP,
	KEY_VIA,
	KEY_SRC,
	KEY_DST,
	KEY_BACK_SRC,
	KEY_BACK_DST,
	KEY_SIZES,
	KEY_SEGS,
	KEY_BURSTS,
	KEY_NUMBER /* and on: struct number below */
};

static const struct number {
	const char *name, *help;
	size_t at;
	bool wide;
	uint64_t least, most, standard;
} numbers[] = {
/* clang-format off */
#define N32(name, field, least, most, standard, help)                                              \
	{name, help, offsetof(struct options, field), false, least, most, standard}
#define N64(name, field, least, most, standard, help)                                              \
	{name, help, offsetof(struct options, field), true, least, most, standard}
	/* clang-format on */
	N32("port", port, 0, RTE_MAX_ETHPORTS - 1, 0, "ethdev port to send from"),
	N32("rx-port", rx_port, 0, RTE_MAX_ETHPORTS - 1, 0, "port to receive on"),
	N32("queues", queues, 1, 16, 1, "RX and TX queues"),
	N32("flows", flows, 1, 32768, 16, "flows, in turn UDP and TCP"),
	N32("descs", descs, 64, 4096, 512, "descriptors of a queue"),
	N32("mbufs", mbufs, 256, 1 << 20, 4095, "mbufs of the pool"),
	N32("mbuf-size", mbuf_size, 384, 16384, 2176, "bytes of one, with headroom"),
	N32("mtu", mtu, 68, 9216, 1500, "MTU"),
	N64("count", count, 1, 1 << 30, 1000, "frames of each run, or to receive"),
	N64("window", window, 1, 1 << 20, 256, "frames under way at most"),
	N64("pause", pause_us, 0, 10000000, 200, "microseconds to rest when idle"),
	N64("stall", stall_ms, 1, 1000000, 3000, "ms without any frame before the rest is lost"),
	N64("timeout", timeout_s, 1, 86400, 30, "seconds to receive for"),
	N64("spin", spin, 0, 1 << 20, 0, "--bench-loop: only poll, for so many million ticks"),
};

static void usage(const char *why, const char *what)
{
	fprintf(stderr,
		"pmd-peer: %s%s\n"
		"usage: pmd-peer EAL-OPTIONS... -- ROLE [OPTION...]\n"
		"  --echo            send, and check what a forwarder sends back\n"
		"  --tx, --rx        only send, only receive and check\n"
		"  --bench-tx, --bench-rx  what a burst costs\n"
		"  --bench-loop      send to rx-port and receive there, without a pause\n"
		"  --via MODE        what happens to frames: none mac macswap 5tswap csum "
		"icmpecho\n"
		"  --dst MAC, --src MAC    of frames sent (broadcast; the port's)\n"
		"  --back-dst MAC, --back-src MAC  of frames received (as MODE says)\n"
		"  --sizes N,N... --segs N,N... --bursts N,N...  (64; 1; 32)\n",
		why, what);
	for (uint32_t i = 0; i < RTE_DIM(numbers); i++)
		fprintf(stderr, "  --%s N  %s (%lu)\n", numbers[i].name, numbers[i].help,
			numbers[i].standard);
	exit(2);
}

static uint64_t parse_number(const char *text, uint64_t least, uint64_t most, const char **end)
{
	char *stop;
	const uint64_t n = strtoull(text, &stop, 10);

	if (stop == text || n < least || n > most)
		usage("bad number: ", text);
	*end = stop;
	return n;
}

static uint32_t parse_list(const char *text, uint64_t least, uint64_t most, uint32_t *list)
{
	const char *at = text;
	uint32_t n = 0;

	for (;;) {
		list[n++] = (uint32_t)parse_number(at, least, most, &at);
		if (!*at)
			return n;
		if (*at++ != ',' || n == LIST_MAX)
			usage("bad list: ", text);
	}
}

static void set_number(struct options *o, const struct number *n, uint64_t value)
{
	void *field = (char *)o + n->at;

	if (n->wide)
		*(uint64_t *)field = value;
	else
		*(uint32_t *)field = (uint32_t)value;
}

static void parse_number_option(struct options *o, const struct number *n, const char *text)
{
	const char *end;
	const uint64_t value = parse_number(text, n->least, n->most, &end);

	if (*end)
		usage("bad number: ", text);
	set_number(o, n, value);
}

static void parse_mac(const char *text, struct rte_ether_addr *mac)
{
	if (rte_ether_unformat_addr(text, mac))
		usage("bad MAC address: ", text);
}

static void parse_via(const char *text, enum via *via)
{
	for (*via = 0; *via < VIA_COUNT; ++*via)
		if (!strcmp(text, via_names[*via]))
			return;
	usage("no such mode: ", text);
}

static void parse_option(struct options *o, int key, const char *arg)
{
	switch (key) {
	case KEY_ECHO ... KEY_BENCH_LOOP:
		o->role = ROLE_ECHO + (key - KEY_ECHO);
		break;
	case KEY_VIA:
		parse_via(arg, &o->via);
		break;
	case KEY_SRC:
		parse_mac(arg, &o->src);
		o->have_src = true;
		break;
	case KEY_DST:
		parse_mac(arg, &o->dst);
		break;
	case KEY_BACK_SRC:
		parse_mac(arg, &o->back_src);
		o->have_back_src = true;
		break;
	case KEY_BACK_DST:
		parse_mac(arg, &o->back_dst);
		o->have_back_dst = true;
		break;
	case KEY_SIZES:
		o->size_count = parse_list(arg, FRAME_MIN, FRAME_MAX, o->sizes);
		break;
	case KEY_SEGS:
		o->seg_count = parse_list(arg, 1, 40, o->segs);
		break;
	case KEY_BURSTS:
		o->burst_count = parse_list(arg, 1, BURST_MAX, o->bursts);
		break;
	default:
		if (key < KEY_NUMBER)
			usage("", "see above");
		parse_number_option(o, &numbers[key - KEY_NUMBER], arg);
	}
}

static void parse(struct options *o, int argc, char **argv)
{
	struct option known[15 + RTE_DIM(numbers)] = {
		{"echo", 0, NULL, KEY_ECHO},
		{"tx", 0, NULL, KEY_TX},
		{"rx", 0, NULL, KEY_RX},
		{"bench-tx", 0, NULL, KEY_BENCH_TX},
		{"bench-rx", 0, NULL, KEY_BENCH_RX},
		{"bench-loop", 0, NULL, KEY_BENCH_LOOP},
		{"via", 1, NULL, KEY_VIA},
		{"src", 1, NULL, KEY_SRC},
		{"dst", 1, NULL, KEY_DST},
		{"back-src", 1, NULL, KEY_BACK_SRC},
		{"back-dst", 1, NULL, KEY_BACK_DST},
		{"sizes", 1, NULL, KEY_SIZES},
		{"segs", 1, NULL, KEY_SEGS},
		{"bursts", 1, NULL, KEY_BURSTS},
	};
	int key;

	for (uint32_t i = 0; i < RTE_DIM(numbers); i++) {
		known[14 + i] = (struct option){numbers[i].name, 1, NULL, KEY_NUMBER + (int)i};
		set_number(o, &numbers[i], numbers[i].standard);
	}
	while ((key = getopt_long(argc, argv, "", known, NULL)) != -1)
		parse_option(o, key, optarg);
	if (optind != argc)
		usage("what is this: ", argv[optind]);
	if (o->role == ROLE_NONE)
		usage("", "which role?");
}

/* Addresses that were not given: what the mode makes of them. */
static void complete_addresses(struct options *o)
{
	const bool back = o->role == ROLE_ECHO && o->via != VIA_NONE;

	if (!o->have_src)
		rte_eth_macaddr_get((uint16_t)o->port, &o->src);
	if (!o->have_back_src)
		o->back_src = back ? o->dst : o->src;
	if (!o->have_back_dst)
		o->back_dst = back ? o->src : o->dst;
}

static int take_role(const struct options *o, struct rte_mempool *pool)
{
	switch (o->role) {
	case ROLE_BENCH_TX:
		return bench_tx(o, pool);
	case ROLE_BENCH_RX:
		return bench_rx(o);
	case ROLE_BENCH_LOOP:
		return bench_loop(o, pool);
	case ROLE_RX:
		return receive_all(o);
	default:
		return send_all(o, pool);
	}
}

static int work(struct options *o, struct rte_mempool *pool)
{
	int rc = start_port(o, (uint16_t)o->port, pool);

	if (!rc && o->rx_port != o->port)
		rc = start_port(o, (uint16_t)o->rx_port, pool);
	if (rc)
		return 1;
	complete_addresses(o);
	print_port(o);
	printf(" \"runs\": [");
	fflush(stdout);
	rc = take_role(o, pool);
	print_totals(o);
	return rc || total.corrupt || total.duplicate || total.unexpected;
}

int main(int argc, char **argv)
{
	struct options o = {.sizes = {64},
			    .bursts = {BURST},
			    .segs = {1},
			    .size_count = 1,
			    .burst_count = 1,
			    .seg_count = 1,
			    .dst.addr_bytes = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	int rc = rte_eal_init(argc, argv);
	struct rte_mempool *pool;
	uint32_t missing;

	if (rc < 0) {
		fprintf(stderr, "pmd-peer: rte_eal_init: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	parse(&o, argc - rc, argv + rc);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	seen_room = o.count * (o.role == ROLE_RX ? 1 : o.size_count * o.seg_count);
	seen = calloc(seen_room / 8 + 1, 1);
	pool = make_pool(&o);
	if (!pool || !seen)
		return 1;
	rc = work(&o, pool);
	rte_eth_dev_stop((uint16_t)o.port);
	rte_eth_dev_close((uint16_t)o.port);
	if (o.rx_port != o.port) {
		rte_eth_dev_stop((uint16_t)o.rx_port);
		rte_eth_dev_close((uint16_t)o.rx_port);
	}
	/* A driver that keeps mbufs after close leaks them. */
	missing = o.mbufs - rte_mempool_avail_count(pool);
	printf(", \"mbufs_missing\": %u}\n", missing);
	rte_mempool_free(pool);
	rte_eal_cleanup();
	free(seen);
	return rc || missing;
}
