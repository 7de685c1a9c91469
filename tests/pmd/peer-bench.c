/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What rte_eth_tx_burst and rte_eth_rx_burst cost per packet, in ticks of the time-stamp counter:
 * instructions in the lab. Making and freeing mbufs is outside, what the driver does of that
 * inside. Only full bursts count. The mean leaves out those that an interrupt fell into; it is not
 * the median, since work done once for several bursts, like posting buffers, would be missing
 * there.
 */
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "peer.h"

#define SAMPLES 8192
/* Ticks above the median: more than the work that is done once for several bursts. */
#define INTERRUPT 2000

static uint64_t samples[SAMPLES];
static uint32_t sample_count;

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What reading the counter twice costs by itself. */
static uint64_t overhead(void)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		const uint64_t start = rte_rdtsc(), d = rte_rdtsc() - start;

		least = RTE_MIN(least, d);
	}
	return least;
}

static void add_sample(uint64_t ticks, uint64_t of_reading)
{
	if (sample_count < SAMPLES)
		samples[sample_count++] = ticks > of_reading ? ticks - of_reading : 0;
}

static void print_run(uint32_t size, uint32_t burst, uint64_t frames)
{
	uint64_t sum = 0, median;
	uint32_t n = 0;

	qsort(samples, sample_count, sizeof(samples[0]), by_value);
	median = sample_count ? samples[sample_count / 2] : 0;
	while (n < sample_count && samples[n] <= median + INTERRUPT)
		sum += samples[n++];
	printf("{\"size\": %u, \"burst\": %u, \"frames\": %lu, \"bursts_timed\": %u, "
	       "\"interrupted\": %u, \"tsc_per_packet\": ",
	       size, burst, frames, sample_count, sample_count - n);
	if (n)
		printf("{\"min\": %.2f, \"median\": %.2f, \"mean\": %.2f}}",
		       (double)samples[0] / burst, (double)median / burst, (double)sum / n / burst);
	else
		printf("null}");
	fflush(stdout);
	sample_count = 0;
}

static uint64_t send_run(const struct options *o, struct rte_mempool *pool, uint32_t size,
			 uint32_t burst, uint32_t *seq, uint64_t of_reading)
{
	struct rte_mbuf *mbufs[BURST_MAX];
	uint64_t sent = 0, in_window = 0;
	uint32_t n, taken;

	while (sent < o->count && !told_to_stop) {
		uint64_t start;

		for (n = 0; n < burst; n++) {
			mbufs[n] = mbuf_build(o, pool, *seq + n, size, o->segs[0]);
			if (!mbufs[n])
				break;
		}
		start = rte_rdtsc();
		taken = rte_eth_tx_burst((uint16_t)o->port, 0, mbufs, (uint16_t)n);
		if (taken == burst)
			add_sample(rte_rdtsc() - start, of_reading);
		rte_pktmbuf_free_bulk(mbufs + taken, n - taken);
		*seq += taken;
		sent += taken;
		in_window += burst;
		if (in_window + burst > o->window || taken < burst) {
			usleep((useconds_t)o->pause_us);
			in_window = 0;
		}
	}
	return sent;
}

int bench_tx(const struct options *o, struct rte_mempool *pool)
{
	const uint64_t of_reading = overhead();
	uint32_t seq = 0;

	for (uint32_t i = 0; i < o->size_count; i++) {
		for (uint32_t k = 0; k < o->burst_count; k++) {
			uint64_t sent;

			printf(i || k ? ",\n" : "\n");
			sent = send_run(o, pool, o->sizes[i], o->bursts[k], &seq, of_reading);
			print_run(o->sizes[i], o->bursts[k], sent);
		}
	}
	return told_to_stop;
}

/* A run of the sender: `count` frames of one size, taken in bursts of its burst. */
static uint64_t receive_run(const struct options *o, uint32_t burst, uint64_t of_reading)
{
	const uint64_t end = now_ms() + o->timeout_s * 1000;
	struct rte_mbuf *mbufs[BURST_MAX];
	uint64_t got = 0;

	while (got < o->count && now_ms() < end && !told_to_stop) {
		const uint32_t want = (uint32_t)RTE_MIN(burst, o->count - got);
		const uint64_t start = rte_rdtsc();
		const uint32_t n = rte_eth_rx_burst((uint16_t)o->rx_port, 0, mbufs, (uint16_t)want);

		if (n == burst)
			add_sample(rte_rdtsc() - start, of_reading);
		rte_pktmbuf_free_bulk(mbufs, n);
		got += n;
		/* Nearly empty: let more come, so that bursts are full. */
		if (n < want)
			usleep((useconds_t)o->pause_us);
	}
	return got;
}

int bench_rx(const struct options *o)
{
	const uint64_t of_reading = overhead();
	bool all = true;

	for (uint32_t i = 0; i < o->size_count; i++) {
		for (uint32_t k = 0; k < o->burst_count; k++) {
			const uint64_t got = receive_run(o, o->bursts[k], of_reading);

			printf(i || k ? ",\n" : "\n");
			print_run(o->sizes[i], o->bursts[k], got);
			all &= got == o->count;
		}
	}
	return !all;
}

/* Bytes are whatever the mbufs hold: nobody looks at them here. */
static uint32_t fill_burst(const struct options *o, struct rte_mempool *pool,
			   struct rte_mbuf **mbufs, uint32_t n)
{
	if (rte_pktmbuf_alloc_bulk(pool, mbufs, n))
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		struct rte_ether_hdr *eth = rte_pktmbuf_mtod(mbufs[i], struct rte_ether_hdr *);

		eth->dst_addr = o->dst;
		eth->src_addr = o->src;
		eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
		mbufs[i]->data_len = (uint16_t)o->sizes[0];
		mbufs[i]->pkt_len = o->sizes[0];
	}
	return n;
}

int bench_loop(const struct options *o, struct rte_mempool *pool)
{
	const uint64_t start = rte_rdtsc(), end = start + o->spin * 1000000;
	const uint32_t burst = o->bursts[0];
	struct rte_mbuf *mbufs[BURST_MAX];
	uint64_t sent = 0, got = 0;

	while (!told_to_stop && (o->spin ? rte_rdtsc() < end : sent < o->count)) {
		uint32_t n;

		if (!o->spin) {
			const uint32_t made = fill_burst(o, pool, mbufs, burst);

			n = rte_eth_tx_burst((uint16_t)o->port, 0, mbufs, (uint16_t)made);
			rte_pktmbuf_free_bulk(mbufs + n, made - n);
			sent += n;
		}
		n = rte_eth_rx_burst((uint16_t)o->rx_port, 0, mbufs, (uint16_t)burst);
		rte_pktmbuf_free_bulk(mbufs, n);
		got += n;
	}
	printf("\n{\"size\": %u, \"burst\": %u, \"sent\": %lu, \"received\": %lu, "
	       "\"million_ticks\": %.0f}",
	       o->sizes[0], burst, sent, got, (double)(rte_rdtsc() - start) / 1e6);
	return got != sent || told_to_stop;
}
