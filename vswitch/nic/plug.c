/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices come and go: by hot-plug, and two of them as members of a bond of DPDK's. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include "internal.h"

#define BOND_ACTIVE_BACKUP 1

static size_t name_len(const char *device)
{
	return strcspn(device, ",");
}

/* The port of a device: the first, should it have several. */
static int port_of(const char *device)
{
	struct rte_eth_dev_info info;
	size_t len = name_len(device);
	uint16_t port;

	RTE_ETH_FOREACH_DEV(port) {
		const char *name;

		if (rte_eth_dev_info_get(port, &info) || !info.device)
			continue;
		name = rte_dev_name(info.device);
		if (strlen(name) == len && !strncmp(name, device, len))
			return port;
	}
	return -ENODEV;
}

static int plug_device(const char *device, uint16_t *port, char *why)
{
	int error, found = port_of(device);

	if (found >= 0)
		return nic_why(why, -EEXIST, "device %.*s is in use already: name each device once",
			       (int)name_len(device), device);
	error = rte_dev_probe(device);
	if (error)
		return nic_why(why, error, "no driver took device %s: %s; a PCI device must be bound "
			       "to vfio-pci or a UIO driver, and its DPDK driver (librte-net-*) be "
			       "installed", device, strerror(-error));
	found = port_of(device);
	if (found < 0)
		return nic_why(why, -ENODEV, "device %s has a driver but no Ethernet port", device);
	*port = (uint16_t)found;
	return 0;
}

static void unplug_port(uint16_t port)
{
	struct rte_eth_dev_info info;

	if (rte_eth_dev_info_get(port, &info))
		return;
	rte_eth_dev_stop(port);
	/* The driver closes the port when its device goes. */
	rte_dev_remove(info.device);
}

static int plug_bond(struct nic *nic, char *why)
{
	const char *a = nic->device[0], *b = nic->device[1];
	char args[1024];

	snprintf(args, sizeof(args), "net_bonding_%s,mode=%d,slave=%.*s,slave=%.*s,primary=%.*s",
		 nic->config.name, BOND_ACTIVE_BACKUP, (int)name_len(a), a, (int)name_len(b), b,
		 (int)name_len(a), a);
	return plug_device(args, &nic->port, why);
}

int nic_plug(struct nic *nic, char *why)
{
	unsigned int done;
	int error = 0;

	for (done = 0; done < nic->config.devices; done++) {
		error = plug_device(nic->device[done], &nic->member[done], why);
		if (error)
			goto undo;
	}
	if (nic->config.devices == 1)
		nic->port = nic->member[0];
	else
		error = plug_bond(nic, why);
	if (error)
		goto undo;
	nic->plugged = true;
	return 0;
undo:
	while (done)
		unplug_port(nic->member[--done]);
	return error;
}

void nic_unplug(struct nic *nic)
{
	if (!nic->plugged)
		return;
	if (nic->config.devices > 1)
		unplug_port(nic->port);
	for (unsigned int i = 0; i < nic->config.devices; i++)
		unplug_port(nic->member[i]);
	nic->plugged = false;
}

/* rte_eth_bond.h, in the driver's library: nothing else needs that to be installed. */
int nic_bond_active(const struct nic *nic)
{
	int (*primary_get)(uint16_t port) = NULL;
	void *object = NULL;
	Dl_info info;
	int port;

	if (dladdr((void *)(uintptr_t)rte_eth_fp_ops[nic->port].rx_pkt_burst, &info))
		object = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
	if (!object)
		return -1;
	*(void **)&primary_get = dlsym(object, "rte_eth_bond_primary_get");
	port = primary_get ? primary_get(nic->port) : -1;
	dlclose(object);
	for (unsigned int i = 0; i < nic->config.devices; i++)
		if (nic->member[i] == port)
			return (int)i;
	return -1;
}
