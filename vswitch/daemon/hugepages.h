/* SPDX-License-Identifier: BSD-3-Clause */
/* Hugepages: what the daemon needs, what the host's pools have, what makes up the difference. */
#ifndef VSWITCHD_HUGEPAGES_H
#define VSWITCHD_HUGEPAGES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define HUGE_NODES 8 /* as DPDK is built for; pools of further nodes are not looked at */
#define HUGE_2M	   0x200000ull
#define HUGE_1G	   0x40000000ull

struct daemon;
struct settings;

/* MiB of DPDK's heap on each node; the last one: wherever it comes to be. */
struct dpdk_need {
	uint32_t mib[HUGE_NODES + 1];
};

/*
 * Size of page for an arena of `len` bytes: hugepages only if as many are free as it takes and DPDK
 * does not need them. 0: none, pages of usual size. `skip`: sizes from this one on are not for it
 * (0: all may be).
 */
uint64_t huge_arena_page(struct daemon *d, size_t len, uint64_t skip);
/* Says in the log where the arena is, and which pages are missing. Before NICs are opened. */
void huge_log(struct daemon *d);
/* {arena {bytes, page, hugepages, fallback}, pools [...], needs [{text, missing, fix}], mounts
 * [...]} */
json_t *huge_json(struct daemon *d);

#endif
