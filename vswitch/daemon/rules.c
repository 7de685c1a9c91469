/* SPDX-License-Identifier: BSD-3-Clause */
/* Rules for single values, the same for the configuration file and the control socket. */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"

int check_name(const char *what, const char *name, char why[WHY_LEN])
{
	size_t len = strlen(name);

	if (len >= 1 && len < VS_NAME_LEN && strspn(name, NAME_CHARS) == len)
		return 0;
	snprintf(why, WHY_LEN,
		 "\"%.40s\" is not a %s name: use 1 to %d of letters, digits, '_', '.' and '-'",
		 name, what, VS_NAME_LEN - 1);
	return -EINVAL;
}

int parse_mac(const char *text, uint8_t mac[6], char why[WHY_LEN])
{
	static const uint8_t zero[6];
	unsigned int b[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 ||
	    text[end] || strlen(text) != 17) {
		snprintf(why, WHY_LEN,
			 "\"%.40s\" is not a MAC address: write six pairs of hexadecimal digits, "
			 "as in "
			 "\"02:00:00:00:00:01\"",
			 text);
		return -EINVAL;
	}
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	if (mac[0] & 1) {
		snprintf(why, WHY_LEN,
			 "%s is a multicast address: the first byte must be even, as in 02:...",
			 text);
		return -EINVAL;
	}
	if (!memcmp(mac, zero, 6)) {
		snprintf(why, WHY_LEN, "%s is the zero address: use another, as 02:...", text);
		return -EINVAL;
	}
	return 0;
}

void format_mac(const uint8_t mac[6], char text[18])
{
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
}

void derive_mac(const char *name, uint8_t mac[6])
{
	/* FNV-1a, 64 bits (offset basis and prime: draft-eastlake-fnv). */
	uint64_t h = 0xcbf29ce484222325;

	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * 0x100000001b3;
	/* FNV leaves the high bits of short names alike: the finalizer of MurmurHash3 spreads them.
	 */
	h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
	h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
	h ^= h >> 33;
	for (int i = 0; i < 6; i++)
		mac[i] = (uint8_t)(h >> (8 * i));
	/* unicast, locally administered (IEEE 802, U/L bit) */
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 2);
}

void port_setting_default(struct port_setting *port, const char *name)
{
	*port = (struct port_setting){
		.vs = {.mtu = 1500,
		       .queues = 1,
		       .up = true,
		       .anti_spoof = true,
		       .groups = VS_GROUPS_DEFAULT},
	};
	snprintf(port->vs.name, sizeof(port->vs.name), "%s", name);
	derive_mac(name, port->vs.mac);
}

static int in_range(long long value, long long min, long long max, char why[WHY_LEN])
{
	if (value >= min && value <= max)
		return 0;
	snprintf(why, WHY_LEN, "%lld is out of range: use %lld to %lld", value, min, max);
	return -EINVAL;
}

int port_setting_mtu(struct port_setting *port, long long value, char why[WHY_LEN])
{
	int ret = in_range(value, 68, ELISA_MTU_MAX, why);

	if (!ret)
		port->vs.mtu = (uint16_t)value;
	return ret;
}

int port_setting_queues(struct port_setting *port, long long value, char why[WHY_LEN])
{
	int ret = in_range(value, 1, ELISA_QUEUES_MAX, why);

	if (!ret)
		port->vs.queues = (uint16_t)value;
	return ret;
}

int port_setting_group(uint64_t *groups, long long value, char why[WHY_LEN])
{
	int ret = in_range(value, 0, 63, why);

	if (!ret)
		*groups |= UINT64_C(1) << value;
	return ret;
}

int port_setting_transport(struct port_setting *port, const char *value, char why[WHY_LEN])
{
	if (!strcmp(value, "vm"))
		port->local = false;
	else if (!strcmp(value, "local"))
		port->local = true;
	else {
		snprintf(why, WHY_LEN,
			 "\"%.40s\" is not a transport: use \"vm\", or \"local\" for "
			 "processes of this host (no isolation)",
			 value);
		return -EINVAL;
	}
	return 0;
}

int port_setting_vm(struct port_setting *port, const char *value, char why[WHY_LEN])
{
	int ret = *value ? check_name("VM", value, why) : 0;

	if (ret)
		return ret;
	snprintf(port->vm, sizeof(port->vm), "%s", value);
	if (!strcmp(value, CONFIG_VM_LOCAL))
		port->local = true;
	return 0;
}
