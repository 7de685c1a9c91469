/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef VS_NIC_MAPPED_H
#define VS_NIC_MAPPED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Calls cb() for each piece of the registers at `addr` that is really mapped, in their order and by
 * whole pages: under vfio a BAR has a hole where the table of MSI-X vectors is. Stops when it does not return 0, with
 * what it returned; -errno.
 */
int nic_mapped(const void *addr, size_t len, int (*cb)(const void *at, size_t len, void *arg),
	       void *arg);

#endif
