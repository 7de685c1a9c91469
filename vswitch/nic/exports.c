/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What ops touch of this process besides DPDK's heap: the functions of the driver and the pools,
 * the tables by which the driver finds pools and its port, this library, registers. The checker
 * shows whether that is all; a driver that needs more cannot be served by guests.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <bus_pci_driver.h>
#include <ethdev_driver.h>
#include "internal.h"
#include "mapped.h"

#define OBJECTS_MAX 32

struct walk {
	int (*cb)(const struct nic_export *e, void *arg);
	void *arg;
	int error;
	unsigned int objects;
	struct {
		const void *base;
		enum nic_part part;
	} object[OBJECTS_MAX];
};

/* Each part of an object once. */
static void object(struct walk *w, enum nic_part part, const void *addr)
{
	struct nic_export e = {.part = part, .addr = addr};
	const char *name;
	Dl_info info;

	if (w->error || !addr)
		return;
	if (!dladdr(addr, &info)) {
		w->error = -ENOENT;
		return;
	}
	for (unsigned int i = 0; i < w->objects; i++)
		if (w->object[i].base == info.dli_fbase && w->object[i].part == part)
			return;
	if (w->objects == OBJECTS_MAX) {
		w->error = -ENOSPC;
		return;
	}
	w->object[w->objects].base = info.dli_fbase;
	w->object[w->objects++].part = part;
	name = strrchr(info.dli_fname, '/');
	snprintf(e.name, sizeof(e.name), "%s", name ? name + 1 : info.dli_fname);
	w->error = w->cb(&e, w->arg);
}

static void code(struct walk *w, const void *function)
{
	object(w, NIC_TEXT, function);
	object(w, NIC_CONST, function);
}

struct bar {
	struct walk *walk;
	struct nic_export export;
};

static int bar_piece(const void *at, size_t len, void *arg)
{
	struct bar *bar = arg;

	bar->export.addr = at;
	bar->export.len = len;
	return bar->walk->cb(&bar->export, bar->walk->arg);
}

static void registers(struct walk *w, const struct rte_device *dev)
{
	const struct rte_pci_device *pci = RTE_DEV_TO_PCI_CONST(dev);
	struct bar bar = {w, {.part = NIC_DEVICE}};

	for (int i = 0; i < PCI_MAX_RESOURCE && !w->error; i++) {
		const struct rte_mem_resource *r = &pci->mem_resource[i];

		if (!r->addr || !r->len)
			continue;
		snprintf(bar.export.name, sizeof(bar.export.name), "%s BAR %d", rte_dev_name(dev), i);
		w->error = nic_mapped(r->addr, r->len, bar_piece, &bar);
	}
}

static void port(struct walk *w, uint16_t id)
{
	const struct rte_eth_fp_ops *driver = &rte_eth_fp_ops[id];
	struct rte_eth_dev_info info;

	code(w, (const void *)(uintptr_t)driver->rx_pkt_burst);
	code(w, (const void *)(uintptr_t)driver->tx_pkt_burst);
	code(w, (const void *)(uintptr_t)driver->tx_pkt_prepare);
	if (!rte_eth_dev_info_get(id, &info) && info.device &&
	    !strcmp(rte_bus_name(rte_dev_bus(info.device)), "pci"))
		registers(w, info.device);
}

int nic_exports(struct nic *nic, int (*cb)(const struct nic_export *e, void *arg), void *arg)
{
	struct walk w = {.cb = cb, .arg = arg};

	if (!nic->running)
		return -ENODEV;
	code(&w, (const void *)(uintptr_t)nic_burst_ops.tx);
	code(&w, (const void *)(uintptr_t)nic->run.queue[0].tx->ops.put);
	port(&w, nic->port);
	for (unsigned int i = 0; i < nic->config.devices; i++)
		if (nic->member[i] != nic->port)
			port(&w, nic->member[i]);
	object(&w, NIC_DATA_R, &rte_mempool_ops_table);
	object(&w, NIC_DATA_R, rte_eth_devices);
	return w.error;
}
