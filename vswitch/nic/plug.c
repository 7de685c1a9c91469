/* SPDX-License-Identifier: BSD-3-Clause */
/* Devices come and go: by hot-plug, and two of them as members of a bond of DPDK's. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <ethdev_driver.h>
#include "internal.h"

#define BOND_ACTIVE_BACKUP 1
#define LINK_POLL_MS	   100

/* DPDK's lists of devices: each NIC has a thread of its own. */
static pthread_mutex_t plugging = PTHREAD_MUTEX_INITIALIZER;

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

	for (port = rte_eth_find_next(0); port < RTE_MAX_ETHPORTS;
	     port = rte_eth_find_next(port + 1)) {
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
		return nic_why(why, error,
			       "no driver took device %s: %s; a PCI device must be bound "
			       "to vfio-pci or a UIO driver, and its DPDK driver (librte-net-*) be "
			       "installed",
			       device, strerror(-error));
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
	rte_eth_dev_close(port);
	rte_dev_remove(info.device);
}

/* A function of rte_eth_bond.h, in the driver's library: only who bonds has to have that. */
static void *bond_function(const struct nic *nic, const char *name)
{
	void *object = NULL, *function = NULL;
	Dl_info info;

	if (dladdr((void *)(uintptr_t)rte_eth_devices[nic->port].dev_ops, &info))
		object = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
	if (object) {
		function = dlsym(object, name);
		dlclose(object);
	}
	return function;
}

static int plug_bond(struct nic *nic, char *why)
{
	const char *a = nic->device[0], *b = nic->device[1];
	const struct rte_eth_conf conf = {.rxmode.mtu = RTE_ETHER_MTU};
	int (*monitor)(uint16_t port, uint32_t ms) = NULL;
	char args[1024];
	int error;

	/* Links are asked for: that works for devices without interrupts, too. */
	for (unsigned int i = 0; i < nic->config.devices; i++)
		rte_eth_devices[nic->member[i]].data->dev_flags &= ~(uint32_t)RTE_ETH_DEV_INTR_LSC;
	snprintf(args, sizeof(args), "net_bonding_%s,mode=%d,slave=%.*s,slave=%.*s,primary=%.*s",
		 nic->config.name, BOND_ACTIVE_BACKUP, (int)name_len(a), a, (int)name_len(b), b,
		 (int)name_len(a), a);
	error = plug_device(args, &nic->port, why);
	if (error)
		return error;
	*(void **)&monitor = bond_function(nic, "rte_eth_bond_link_monitoring_set");
	/* It takes its members when it is configured first, and knows then what they can do. */
	if (monitor && !monitor(nic->port, LINK_POLL_MS) &&
	    !rte_eth_dev_configure(nic->port, 1, 1, &conf))
		return 0;
	unplug_port(nic->port);
	return nic_why(why, -ENOTSUP, "DPDK's bonding driver does not take %s and %s", a, b);
}

/* Devices of software may have none. */
static void find_address(struct nic *nic)
{
	struct rte_ether_addr address;

	if (rte_eth_macaddr_get(nic->member[0], &address) ||
	    !rte_is_valid_assigned_ether_addr(&address))
		rte_eth_random_addr(address.addr_bytes);
	memcpy(nic->address, address.addr_bytes, sizeof(nic->address));
}

static int plug_all(struct nic *nic, char *why)
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
	find_address(nic);
	nic->plugged = true;
	return 0;
undo:
	while (done)
		unplug_port(nic->member[--done]);
	return error;
}

int nic_plug(struct nic *nic, char *why)
{
	int error;

	pthread_mutex_lock(&plugging);
	error = plug_all(nic, why);
	pthread_mutex_unlock(&plugging);
	return error;
}

void nic_unplug(struct nic *nic)
{
	if (!nic->plugged)
		return;
	pthread_mutex_lock(&plugging);
	if (nic->config.devices > 1)
		unplug_port(nic->port);
	for (unsigned int i = 0; i < nic->config.devices; i++)
		unplug_port(nic->member[i]);
	pthread_mutex_unlock(&plugging);
	nic->plugged = false;
}

int nic_bond_active(const struct nic *nic)
{
	int (*primary_get)(uint16_t port) = NULL;
	int port;

	*(void **)&primary_get = bond_function(nic, "rte_eth_bond_primary_get");
	port = primary_get ? primary_get(nic->port) : -1;
	for (unsigned int i = 0; i < nic->config.devices; i++)
		if (nic->member[i] == port)
			return (int)i;
	return -1;
}

bool nic_is_software(const struct nic *nic)
{
	for (unsigned int i = 0; i < nic->config.devices; i++) {
		struct rte_eth_dev_info info;

		if (!rte_eth_dev_info_get(nic->member[i], &info) && info.device &&
		    !strcmp(rte_bus_name(rte_dev_bus(info.device)), "vdev"))
			return true;
	}
	return false;
}
