/* SPDX-License-Identifier: BSD-3-Clause */
#include "nic-watch.h"

bool nic_watch_served(struct nic_watch *w, const struct vs_nic_status *st, unsigned int queue)
{
	const struct vs_nic_half_status *rx = &st->queue[queue].rx;
	uint64_t calls = rx->calls_guest - w->pass[queue].calls;
	uint64_t frames = rx->frames_guest - w->pass[queue].frames;

	w->pass[queue].calls = rx->calls_guest;
	w->pass[queue].frames = rx->frames_guest;
	if (st->queue[queue].waiting)
		return false;
	/* Not each of them had a full burst: so one has seen the end. */
	return calls >= NIC_PASS_ROUNDS || frames < calls * VS_NIC_BURST;
}

static bool stopped(struct nic_held *h, const struct vs_nic_half_status *half, uint64_t now,
		    uint64_t us)
{
	uint64_t calls = half->calls_guest + half->calls_host;

	if (!half->owner_guest || half->owner_guest != h->owner || calls != h->calls) {
		*h = (struct nic_held){.owner = half->owner_guest, .calls = calls, .since = now};
		return false;
	}
	if (h->told || now - h->since < us)
		return false;
	h->told = true;
	return true;
}

uint32_t nic_watch_stopped(struct nic_watch *w, const struct vs_nic_status *st, uint64_t now,
			   uint64_t us)
{
	for (unsigned int q = 0; q < st->queues; q++) {
		if (stopped(&w->held[q][0], &st->queue[q].rx, now, us))
			return st->queue[q].rx.owner_guest;
		if (stopped(&w->held[q][1], &st->queue[q].tx, now, us))
			return st->queue[q].tx.owner_guest;
	}
	return 0;
}
