/* SPDX-License-Identifier: BSD-3-Clause */
#include "burst.h"

void nic_free_any(struct rte_mbuf *m)
{
	rte_pktmbuf_free_seg(m);
}
