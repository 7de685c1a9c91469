/* SPDX-License-Identifier: BSD-3-Clause */
/* What a port may have, as JSON: parameters of port.add and port.set, a libvirt domain's ports. */
#include "daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static int bad(char why[WHY_LEN], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, WHY_LEN, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* "KEY: why", in place. */
static int bad_key(char why[WHY_LEN], const char *key)
{
	char text[WHY_LEN];

	snprintf(text, sizeof(text), "%s", why);
	return bad(why, "%s: %s", key, text);
}

/* ---- one value each; what is not there stays as it is ---- */

static int get_string(json_t *params, const char *key, const char **out, char why[WHY_LEN])
{
	json_t *value = json_object_get(params, key);

	*out = json_string_value(value);
	return *out || !value ? 0 : bad(why, "\"%s\" must be text", key);
}

static int get_bool(json_t *params, const char *key, bool *out, char why[WHY_LEN])
{
	json_t *value = json_object_get(params, key);

	if (value && !json_is_boolean(value))
		return bad(why, "\"%s\" must be true or false", key);
	if (value)
		*out = json_is_true(value);
	return 0;
}

static int get_int(json_t *params, const char *key, long long *out, char why[WHY_LEN])
{
	json_t *value = json_object_get(params, key);

	if (value && !json_is_integer(value))
		return bad(why, "\"%s\" must be a whole number", key);
	if (value)
		*out = json_integer_value(value);
	return 0;
}

static int get_groups(json_t *params, struct port_setting *set, char why[WHY_LEN])
{
	json_t *list = json_object_get(params, "groups"), *e;
	uint64_t groups = 0;
	size_t i;

	if (!list)
		return 0;
	if (!json_is_array(list) || !json_array_size(list))
		return bad(why, "\"groups\" must be an array of numbers, not empty");
	json_array_foreach(list, i, e)
	{
		if (!json_is_integer(e))
			return bad(why, "groups: must be numbers");
		if (port_setting_group(&groups, json_integer_value(e), why))
			return bad_key(why, "groups");
	}
	set->vs.groups = groups;
	return 0;
}

static int get_numbers(json_t *params, struct port_setting *set, char why[WHY_LEN])
{
	long long mtu = set->vs.mtu, queues = set->vs.queues;

	if (get_int(params, "mtu", &mtu, why) || get_int(params, "queues", &queues, why))
		return -EINVAL;
	if (port_setting_mtu(set, mtu, why))
		return bad_key(why, "mtu");
	if (port_setting_queues(set, queues, why))
		return bad_key(why, "queues");
	return 0;
}

static int get_names(const struct settings *s, json_t *params, struct port_setting *set, char why[WHY_LEN])
{
	const char *mac, *vm, *transport, *uplink;

	if (get_string(params, "mac", &mac, why) || get_string(params, "vm", &vm, why) ||
	    get_string(params, "transport", &transport, why) ||
	    get_string(params, "uplink", &uplink, why))
		return -EINVAL;
	if (mac && parse_mac(mac, set->vs.mac, why))
		return bad_key(why, "mac");
	if (transport && port_setting_transport(set, transport, why))
		return bad_key(why, "transport");
	if (vm && port_setting_vm(set, vm, why))
		return bad_key(why, "vm");
	if (uplink && *uplink && !nic_setting_find(s, uplink))
		return bad(why, "uplink: there is no NIC \"%.40s\": see \"elisactl nic\"", uplink);
	if (uplink)
		snprintf(set->uplink, sizeof(set->uplink), "%s", uplink);
	return 0;
}

int port_json_read(const struct settings *s, json_t *params, struct port_setting *set,
		   char why[WHY_LEN])
{
	if (get_bool(params, "up", &set->vs.up, why) ||
	    get_bool(params, "anti_spoof", &set->vs.anti_spoof, why) ||
	    get_groups(params, set, why) || get_numbers(params, set, why) ||
	    get_names(s, params, set, why) || port_groups_read(set, params, why))
		return -EINVAL;
	return 0;
}

json_t *port_json_write(const struct port_setting *set)
{
	json_t *groups = json_array(), *json;
	char mac[18];

	for (unsigned int i = 0; i < 64; i++)
		if (set->vs.groups >> i & 1)
			json_array_append_new(groups, json_integer(i));
	format_mac(set->vs.mac, mac);
	json = json_pack("{s:s, s:s, s:i, s:i, s:b, s:b, s:o, s:s, s:s, s:s}", "name", set->vs.name,
			 "mac", mac, "mtu", (int)set->vs.mtu, "queues", (int)set->vs.queues, "up",
			 (int)set->vs.up, "anti_spoof", (int)set->vs.anti_spoof, "groups", groups,
			 "vm", set->vm, "transport", set->local ? "local" : "vm", "uplink",
			 set->uplink);
	port_groups_write(set, json);
	return json;
}
