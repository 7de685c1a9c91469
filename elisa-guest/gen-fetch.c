/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa-gen --fetch: what does it cost to fetch a burst from a NIC, and to receive it? */
#include <stdio.h>
#include <stdlib.h>
#include <x86intrin.h>

#include "gen.h"
#include "tool.h"

#define BURST ELISA_TX_MAX

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint32_t take(struct elisa_rxq *q)
{
	struct elisa_frame frames[BURST];
	uint32_t n = elisa_rx_burst(q, frames, BURST);

	elisa_rx_release(q);
	return n;
}

/* A burst comes in as many milliseconds: the sender's affair. Only those of that length count. */
static int fetch_bursts(struct elisa_port *port, const struct options *o, uint32_t burst,
			uint64_t *ticks)
{
	struct elisa_txq *txq = elisa_port_txq(port, 0);
	struct elisa_rxq *rxq = elisa_port_rxq(port, 0);
	const uint64_t end = tool_now_us() + o->timeout_s * 1000000;
	uint64_t count = 0, others = 0;

	while (count < o->fetches && tool_now_us() < end) {
		uint64_t begin, until = tool_now_us() + burst * 1000;
		uint32_t n;

		while (tool_now_us() < until)
			__builtin_ia32_pause();
		begin = __rdtsc();
		elisa_nic_poll(txq);
		n = take(rxq);
		begin = __rdtsc() - begin;
		if (n == burst)
			ticks[count++] = begin;
		else
			others++;
	}
	qsort(ticks, count, sizeof(*ticks), by_value);
	printf("{\"burst\": %u, \"fetches\": %lu, \"others\": %lu, \"tsc_per_packet\": %.2f}",
	       burst, count, others, count ? (double)ticks[count / 2] / burst : 0);
	return count == o->fetches ? 0 : 1;
}

int gen_fetch(struct elisa_port *port, const struct options *o)
{
	uint64_t *ticks = calloc(o->fetches, sizeof(*ticks));
	int rc = ticks ? 0 : 1;

	elisa_port_poll(port);
	printf("{\"runs\": [");
	for (uint32_t i = 0; ticks && i < o->burst_count; i++) {
		printf("%s", i ? ",\n" : "\n");
		rc |= fetch_bursts(port, o, o->bursts[i], ticks);
	}
	printf("]}\n");
	free(ticks);
	return rc;
}
