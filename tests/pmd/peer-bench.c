/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What rte_eth_tx_burst and rte_eth_rx_burst cost per packet, in ticks of the time-stamp counter:
 * instructions in the lab. Making and freeing mbufs is outside, what the driver does of that inside.
 * Only full bursts count. Medians, since timer interrupts fall into some.
 */
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>

#include "peer.h"

#define SAMPLES 8192

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
	qsort(samples, sample_count, sizeof(samples[0]), by_value);
	printf("{\"size\": %u, \"burst\": %u, \"frames\": %lu, \"bursts_timed\": %u, "
	       "\"tsc_per_packet\": ",
	       size, burst, frames, sample_count);
	if (sample_count)
		printf("{\"min\": %.2f, \"median\": %.2f, \"max\": %.2f}}",
		       (double)samples[0] / burst, (double)samples[sample_count / 2] / burst,
		       (double)samples[sample_count - 1] / burst);
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
		const uint32_t n =
			rte_eth_rx_burst((uint16_t)o->rx_port, 0, mbufs, (uint16_t)want);

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
