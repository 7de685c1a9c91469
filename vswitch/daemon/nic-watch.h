/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a NIC's thread makes of what guests do with the NIC: do they do enough, and does one keep it
 * without doing anything? From libvswitch's status alone.
 */
#ifndef VSWITCHD_NIC_WATCH_H
#define VSWITCHD_NIC_WATCH_H

#include <vswitch/nic.h>

#define NIC_PASS_ROUNDS 16 /* of a pass over a queue */

struct nic_watch {
	struct {
		uint64_t calls, frames;
	} pass[ELISA_QUEUES_MAX];
	struct nic_held {
		uint32_t owner;
		bool told;
		uint64_t calls, since;
	} held[ELISA_QUEUES_MAX][2];
};

/*
 * Since it was asked last, did guests fetch all that came by queue `queue`, or as much as a pass
 * would, and does nothing wait to be sent? A guest that polls, but too seldom, must not keep the
 * others waiting, nor one whose frames the NIC had no room for, nor a local client.
 */
bool nic_watch_served(struct nic_watch *w, const struct vs_nic_status *st, unsigned int queue);

/*
 * Who has kept a half for `us` microseconds and made no round: guest id + 1, each once. 0: nobody
 * (more). Ask often, with the time.
 */
uint32_t nic_watch_stopped(struct nic_watch *w, const struct vs_nic_status *st, uint64_t now_us,
			   uint64_t us);

#endif
