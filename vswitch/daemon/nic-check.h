/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * May a NIC's driver run inside the trusted context? What it is known to touch is exported, then
 * the library exercises it in a copy of this process that has nothing else (elisa/check.h). Knows
 * libvswitch-nic and libelisa-host, nothing of the daemon.
 */
#ifndef VSWITCHD_NIC_CHECK_H
#define VSWITCHD_NIC_CHECK_H

#include <elisa/check.h>
#include "../nic/nic.h"

#define NIC_FINDINGS_LEN 4096

struct nic_verdict {
	unsigned int findings;
	char why[NIC_WHY_LEN]; /* one sentence, the gravest first; "": clean */
	/* A line for each finding, "kind: sentence", as far as there is room. */
	char text[NIC_FINDINGS_LEN];
	uint64_t longest; /* instructions of the longest call of ops that was stepped through */
	uint32_t stack;	  /* bytes of the deepest */
	uint64_t sent, received; /* frames that the device counted meanwhile */
};

/* Exports what the NIC's driver is known to touch. -errno with `why`. While started. */
int nic_export(struct elisa_ctx *ctx, const struct nic_lib *lib, struct nic *dev,
	       char why[NIC_WHY_LEN]);

/*
 * Checks it. Returns the number of findings, 0: clean; or -errno with v->why if that is not known:
 * -ENETDOWN if its link is not up within some seconds, since drivers do nothing then.
 * `ctx` has the exports, those of nic_export() and DPDK's heap, elisa_export_tls(), and the
 * library's hooks of threads; it must not end meanwhile. The device is started and its port is
 * held; start it anew after. Takes some seconds.
 */
int nic_check(struct elisa_ctx *ctx, const struct nic_lib *lib, struct nic *dev,
	      unsigned int queues, struct nic_verdict *v);

#endif
