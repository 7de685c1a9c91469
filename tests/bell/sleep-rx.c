/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sleep-rx: a DPDK application that sleeps on RX interrupts whenever there is nothing to receive, and
 * checks what elisa-gen --tx sends: every sequence number once, in order, content intact.
 *
 *	sleep-rx EAL-OPTIONS -- [--queues N] [--seq FIRST] [--stats FILE]
 *
 * FILE has the figures so far, as JSON, written before each sleep. SIGTERM or SIGINT ends it: then
 * they are printed. Exit status 0: nothing was missing, double or damaged.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>

#include "../../elisa-guest/gen.h"

#define BURST	   32
#define DESCS	   512
#define MBUFS	   4096
#define QUEUES_MAX 16

static struct {
	uint64_t frames, missing, duplicates, corrupt, sleeps, empty;
	uint32_t next;
} got;
static volatile sig_atomic_t over;

static void end(int sig)
{
	(void)sig;
	over = 1;
}

/* ---- frames ---- */

static bool intact(const struct gen_header *h, uint32_t len)
{
	const uint8_t *bytes = (const uint8_t *)h;

	if (h->len != len)
		return false;
	for (uint32_t i = GEN_MIN; i < len; i++)
		if (bytes[i] != gen_byte(h->seq, i))
			return false;
	return true;
}

static void check(struct rte_mbuf *m)
{
	const struct gen_header *h = rte_pktmbuf_mtod(m, const struct gen_header *);
	uint32_t len = rte_pktmbuf_data_len(m), seq;

	if (len < GEN_MIN || h->type[0] != GEN_TYPE_0 || h->type[1] != GEN_TYPE_1 ||
	    h->magic[0] != GEN_MAGIC_0 || h->magic[1] != GEN_MAGIC_1)
		return; /* somebody else's */
	seq = h->seq;
	got.frames++;
	if (m->nb_segs != 1 || !intact(h, len))
		got.corrupt++;
	if ((int32_t)(seq - got.next) < 0) {
		got.duplicates++;
	} else {
		got.missing += seq - got.next;
		got.next = seq + 1;
	}
}

static unsigned int drain(uint16_t port, unsigned int queues)
{
	struct rte_mbuf *m[BURST];
	unsigned int all = 0, n;

	for (uint16_t q = 0; q < queues; q++) {
		while ((n = rte_eth_rx_burst(port, q, m, BURST))) {
			for (unsigned int i = 0; i < n; i++)
				check(m[i]);
			rte_pktmbuf_free_bulk(m, n);
			all += n;
		}
	}
	return all;
}

/* ---- sleeping ---- */

static void print(FILE *f)
{
	fprintf(f,
		"{\"frames\": %" PRIu64 ", \"next\": %" PRIu32 ", \"missing\": %" PRIu64
		", \"duplicates\": %" PRIu64 ", \"corrupt\": %" PRIu64 ", \"sleeps\": %" PRIu64
		", \"woken_for_nothing\": %" PRIu64 "}\n",
		got.frames, got.next, got.missing, got.duplicates, got.corrupt, got.sleeps,
		got.empty);
}

static int save(const char *path)
{
	char temp[256];
	FILE *f;

	if (!path)
		return 0;
	snprintf(temp, sizeof(temp), "%s.new", path);
	f = fopen(temp, "we");
	if (!f)
		return -errno;
	print(f);
	if (fclose(f) || rename(temp, path))
		return -errno;
	return 0;
}

static int intr_all(uint16_t port, unsigned int queues, bool on)
{
	int rc = 0;

	for (uint16_t q = 0; q < queues && !rc; q++)
		rc = on ? rte_eth_dev_rx_intr_enable(port, q) : rte_eth_dev_rx_intr_disable(port, q);
	return rc;
}

static int receive(uint16_t port, unsigned int queues, const char *stats)
{
	struct rte_epoll_event events[QUEUES_MAX];
	int rc = 0, n;

	while (!over && !rc) {
		rc = save(stats);
		rc = rc ? rc : intr_all(port, queues, true);
		if (rc)
			break;
		got.sleeps++;
		n = rte_epoll_wait_interruptible(RTE_EPOLL_PER_THREAD, events, QUEUES_MAX, -1);
		if (n < 0 && errno != EINTR)
			return -errno;
		rc = intr_all(port, queues, false);
		if (!drain(port, queues) && !over)
			got.empty++;
	}
	return rc;
}

/* ---- the port ---- */

static int port_start(uint16_t port, uint16_t queues)
{
	struct rte_eth_conf conf = {.intr_conf = {.rxq = 1}};
	struct rte_mempool *pool = rte_pktmbuf_pool_create("rx", MBUFS, 0, 0,
							   RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	int rc = pool ? 0 : -rte_errno;

	rc = rc ? rc : rte_eth_dev_configure(port, queues, queues, &conf);
	for (uint16_t q = 0; q < queues && !rc; q++) {
		rc = rte_eth_rx_queue_setup(port, q, DESCS, SOCKET_ID_ANY, NULL, pool);
		rc = rc ? rc : rte_eth_tx_queue_setup(port, q, DESCS, SOCKET_ID_ANY, NULL);
	}
	rc = rc ? rc : rte_eth_dev_start(port);
	for (uint16_t q = 0; q < queues && !rc; q++)
		rc = rte_eth_dev_rx_intr_ctl_q(port, q, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD,
					       NULL);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"queues", 1, NULL, 'q'},
						{"seq", 1, NULL, 's'},
						{"stats", 1, NULL, 'f'},
						{0}};
	struct sigaction act = {.sa_handler = end};
	const char *stats = NULL;
	unsigned long queues = 1;
	int rc = rte_eal_init(argc, argv), c;

	if (rc < 0)
		rte_exit(2, "EAL: %s\n", rte_strerror(rte_errno));
	argc -= rc;
	argv += rc;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'q')
			queues = strtoul(optarg, NULL, 10);
		else if (c == 's')
			got.next = (uint32_t)strtoul(optarg, NULL, 10);
		else if (c == 'f')
			stats = optarg;
		else
			rte_exit(2, "usage: sleep-rx EAL-OPTIONS -- [--queues N] [--seq FIRST] [--stats "
				    "FILE]\n");
	}
	if (!queues || queues > QUEUES_MAX)
		rte_exit(2, "--queues: 1 to %u\n", QUEUES_MAX);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);
	rc = port_start(0, (uint16_t)queues);
	if (rc)
		rte_exit(2, "port 0: %s\n", rte_strerror(-rc));
	rc = receive(0, (unsigned int)queues, stats);
	if (rc)
		rte_exit(2, "receiving: %s\n", rte_strerror(-rc));
	print(stdout);
	rte_eth_dev_stop(0);
	rte_eth_dev_close(0);
	rte_eal_cleanup();
	return got.missing || got.duplicates || got.corrupt;
}
