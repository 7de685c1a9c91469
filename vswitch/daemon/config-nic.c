/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration file's `nics` and `dpdk`. */
#include "config-read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_US_DEFAULT 100
#define IDLE_US_MAX	10000
#define MEMORY_MIB_MAX	(1 << 20)

const struct nic_setting *nic_setting_find(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->nic_count; i++)
		if (!strcmp(s->nics[i].port.vs.name, name))
			return &s->nics[i];
	return NULL;
}

/* ---- devices ---- */

static bool is_pci(const char *text)
{
	unsigned int domain, bus, device, function;
	int end = 0;

	return sscanf(text, "%4x:%2x:%2x.%1u%n", &domain, &bus, &device, &function, &end) == 4 &&
	       end == 12 && !text[end] && device < 32 && function < 8;
}

/* As EAL's --vdev has it: the driver's name, a number, arguments. */
static bool is_vdev(const char *text)
{
	size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return (!strncmp(text, "net_", 4) || !strncmp(text, "eth_", 4)) && name > 4 && name < 64 &&
	       (!text[name] || text[name] == ',');
}

/* What makes two of them one device: a PCI address, or a vdev's name. */
static bool same_device(const char *a, const char *b)
{
	size_t len = strcspn(a, ",");

	return len == strcspn(b, ",") && !strncmp(a, b, len);
}

static void check_device_unique(struct reader *r, config_setting_t *value,
				const struct nic_setting *nic, const char *device)
{
	for (unsigned int i = 0; i < nic->devices; i++)
		if (same_device(nic->device[i], device))
			complain(r, value, "%s: \"%s\" is there twice: name another device",
				 config_setting_name(value), device);
	for (size_t n = 0; n < r->s->nic_count; n++)
		for (unsigned int i = 0; i < r->s->nics[n].devices; i++)
			if (same_device(r->s->nics[n].device[i], device))
				complain(r, value,
					 "%s: \"%s\" is a device of NIC \"%s\" already: one NIC "
					 "only can have it",
					 config_setting_name(value), device,
					 r->s->nics[n].port.vs.name);
}

static void add_device(struct reader *r, config_setting_t *value, struct nic_setting *nic,
		       const char *device)
{
	if (nic->devices == NIC_MEMBERS_MAX) {
		complain(r, value,
			 "nics: \"%s\" has more than %d devices: use one of pci, vdev and devices",
			 nic->port.vs.name, NIC_MEMBERS_MAX);
		return;
	}
	check_device_unique(r, value, nic, device);
	nic->device[nic->devices] = strdup(device);
	nic->devices += !!nic->device[nic->devices];
}

/* `form`: what it is not, and how it is written. */
static void set_device(struct reader *r, config_setting_t *value, struct nic_setting *nic,
		       bool (*is_such)(const char *text), const char *form)
{
	const char *text = config_setting_get_string(value);

	if (is_such(text))
		add_device(r, value, nic, text);
	else
		complain(r, value, "%s: \"%s\" is not %s", config_setting_name(value), text, form);
}

static void set_nic_pci(struct reader *r, config_setting_t *value, void *target)
{
	set_device(r, value, target, is_pci,
		   "a PCI address: write it as lspci -D does, as in \"0000:00:04.0\"");
}

static void set_nic_vdev(struct reader *r, config_setting_t *value, void *target)
{
	set_device(r, value, target, is_vdev,
		   "a DPDK vdev: write driver, number and arguments, as in "
		   "\"net_tap0,iface=up0\"");
}

/* Both kinds, in the order of preference. */
static void set_nic_devices(struct reader *r, config_setting_t *value, void *target)
{
	int n = config_setting_length(value);

	if (n < 1 || n > NIC_MEMBERS_MAX)
		complain(r, value, "devices: %d of them: name the active one and its backup", n);
	for (int i = 0; i < n && i < NIC_MEMBERS_MAX; i++) {
		config_setting_t *e = config_setting_get_elem(value, (unsigned int)i);
		const char *text = config_setting_get_string(e);

		if (text && (is_pci(text) || is_vdev(text)))
			add_device(r, value, target, text);
		else
			complain(r, value,
				 "devices: \"%s\" is neither a PCI address, as \"0000:00:04.0\", "
				 "nor a vdev, as \"net_tap0,iface=up0\"",
				 text ? text : "?");
	}
}

/* ---- how it is run ---- */

static void set_nic_serve(struct reader *r, config_setting_t *value, void *target)
{
	struct nic_setting *nic = target;
	const char *text = config_setting_get_string(value);

	if (!strcmp(text, "guest"))
		nic->serve = VS_NIC_BY_GUESTS;
	else if (!strcmp(text, "daemon"))
		nic->serve = VS_NIC_BY_HOST;
	else
		complain(r, value,
			 "serve: \"%s\" is not known: use \"guest\" (guests' vCPUs run the NIC) or "
			 "\"daemon\" (a thread of the daemon does)",
			 text);
}

static void set_ring(struct reader *r, config_setting_t *value, uint16_t *out)
{
	long long n;

	if (!number_in(r, value, 32, ELISA_RING_MAX, &n))
		return;
	if (n & (n - 1))
		complain(r, value, "%s: %lld is not a power of two, as 512",
			 config_setting_name(value), n);
	*out = (uint16_t)n;
}

static void set_nic_rx_ring(struct reader *r, config_setting_t *value, void *target)
{
	set_ring(r, value, &((struct nic_setting *)target)->rx_ring);
}

static void set_nic_tx_ring(struct reader *r, config_setting_t *value, void *target)
{
	set_ring(r, value, &((struct nic_setting *)target)->tx_ring);
}

static void set_nic_promiscuous(struct reader *r, config_setting_t *value, void *target)
{
	((struct nic_setting *)target)->promiscuous = config_setting_get_bool(value);
}

static void set_nic_offloads(struct reader *r, config_setting_t *value, void *target)
{
	((struct nic_setting *)target)->offloads = config_setting_get_bool(value);
}

static void set_nic_idle(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 0, IDLE_US_MAX, &((struct nic_setting *)target)->idle_us);
}

/* The shared ones have the setting's `port` as their target: it comes first. */
_Static_assert(offsetof(struct nic_setting, port) == 0, "nic_setting.port");
const struct key nic_keys[] = {
	{"name", CONFIG_TYPE_STRING, set_port_name, NULL},
	{"pci", CONFIG_TYPE_STRING, set_nic_pci, NULL},
	{"vdev", CONFIG_TYPE_STRING, set_nic_vdev, NULL},
	{"devices", CONFIG_TYPE_LIST, set_nic_devices, NULL},
	{"serve", CONFIG_TYPE_STRING, set_nic_serve, NULL},
	{"queues", CONFIG_TYPE_INT, set_port_queues, NULL},
	{"mtu", CONFIG_TYPE_INT, set_port_mtu, NULL},
	{"promiscuous", CONFIG_TYPE_BOOL, set_nic_promiscuous, NULL},
	{"offloads", CONFIG_TYPE_BOOL, set_nic_offloads, NULL},
	{"groups", CONFIG_TYPE_LIST, set_port_groups, NULL},
	{"up", CONFIG_TYPE_BOOL, set_port_up, NULL},
	PORT_GROUP_KEYS,
	{"rx_ring", CONFIG_TYPE_INT, set_nic_rx_ring, NULL},
	{"tx_ring", CONFIG_TYPE_INT, set_nic_tx_ring, NULL},
	{"idle", CONFIG_TYPE_INT, set_nic_idle, NULL},
	{0},
};

static void check_nic(struct reader *r, config_setting_t *item, const struct nic_setting *nic)
{
	const char *name = nic->port.vs.name;

	if (nic_setting_find(r->s, name))
		complain(r, item, "nics: \"%s\" is there twice: give each NIC a name of its own",
			 name);
	for (size_t i = 0; i < r->s->port_count; i++)
		if (!strcmp(r->s->ports[i].vs.name, name))
			complain(r, item,
				 "nics: \"%s\" is a port already: give each port and NIC a name of "
				 "its own",
				 name);
	if (!nic->devices && !config_setting_get_member(item, "pci") &&
	    !config_setting_get_member(item, "vdev") && !config_setting_get_member(item, "devices"))
		complain(r, item,
			 "nics: \"%s\" has no device: add pci = \"0000:00:04.0\", or vdev = "
			 "\"net_tap0,iface=up0\"",
			 name);
	if (r->s->nic_count == VS_NICS_MAX)
		complain(r, item, "nics: \"%s\" is number %d: at most %d are possible", name,
			 VS_NICS_MAX + 1, VS_NICS_MAX);
}

static void add_nic(struct reader *r, config_setting_t *item)
{
	const char *name = item_port_name(r, item, "nics");
	struct nic_setting nic = {
		.serve = VS_NIC_BY_HOST,
		.offloads = true,
		.idle_us = IDLE_US_DEFAULT,
	};
	struct nic_setting *nics;

	if (!name)
		return;
	port_setting_default(&nic.port, name);
	nic.port.vs.anti_spoof = false; /* it has the whole outside behind it */
	read_group(r, item, "nics", nic_keys, &nic);
	check_nic(r, item, &nic);
	check_port_groups(r, item, &nic.port);
	nics = reallocarray(r->s->nics, r->s->nic_count + 1, sizeof(*nics));
	if (!nics) {
		complain(r, item, "out of memory");
		return;
	}
	r->s->nics = nics;
	nics[r->s->nic_count++] = nic;
}

void set_nics(struct reader *r, config_setting_t *list, void *target)
{
	for (int i = 0; i < config_setting_length(list); i++)
		add_nic(r, config_setting_get_elem(list, (unsigned int)i));
}

void nic_settings_free(struct settings *s)
{
	for (size_t i = 0; i < s->nic_count; i++)
		for (unsigned int m = 0; m < s->nics[i].devices; m++)
			free(s->nics[i].device[m]);
	free(s->nics);
	free(s->dpdk.huge_dir);
	free(s->dpdk.drivers);
	free(s->dpdk.library);
}

/* ---- dpdk ---- */

static void set_dpdk_memory(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 8, MEMORY_MIB_MAX, &r->s->dpdk.memory_mib);
}

static void set_dpdk_huge(struct reader *r, config_setting_t *value, void *target)
{
	r->s->dpdk.huge = config_setting_get_bool(value);
}

static void set_dpdk_huge_dir(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->dpdk.huge_dir);
}

/* A bare name is looked for where libraries are, see dlopen(3). */
static void set_dpdk_library(struct reader *r, config_setting_t *value, void *target)
{
	const char *name = config_setting_get_string(value);

	if (strchr(name, '/')) {
		set_path(r, value, &r->s->dpdk.library);
		return;
	}
	if (!*name) {
		complain(r, value, "library: empty: leave the key out for the usual one");
		return;
	}
	free(r->s->dpdk.library);
	r->s->dpdk.library = strdup(name);
}

static void set_dpdk_drivers(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->dpdk.drivers);
}

static void set_dpdk_verbose(struct reader *r, config_setting_t *value, void *target)
{
	r->s->dpdk.verbose = config_setting_get_bool(value);
}

static void set_dpdk_telemetry(struct reader *r, config_setting_t *value, void *target)
{
	r->s->dpdk.telemetry = config_setting_get_bool(value);
}

const struct key dpdk_keys[] = {
	{"memory", CONFIG_TYPE_INT, set_dpdk_memory, NULL},
	{"huge", CONFIG_TYPE_BOOL, set_dpdk_huge, NULL},
	{"huge_dir", CONFIG_TYPE_STRING, set_dpdk_huge_dir, NULL},
	{"library", CONFIG_TYPE_STRING, set_dpdk_library, NULL},
	{"drivers", CONFIG_TYPE_STRING, set_dpdk_drivers, NULL},
	{"verbose", CONFIG_TYPE_BOOL, set_dpdk_verbose, NULL},
	{"telemetry", CONFIG_TYPE_BOOL, set_dpdk_telemetry, NULL},
	{0},
};
