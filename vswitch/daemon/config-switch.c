/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration file's keys for what the switch can do besides: groups of a port, and `mirrors`.
 * The rules are those of the control socket (rules-switch.c): here they only get a line.
 */
#include "config-read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *to_json(const config_setting_t *value)
{
	json_t *json;

	switch (config_setting_type(value)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return json_integer(config_setting_get_int64(value));
	case CONFIG_TYPE_BOOL:
		return json_boolean(config_setting_get_bool(value));
	case CONFIG_TYPE_STRING:
		return json_string(config_setting_get_string(value));
	case CONFIG_TYPE_GROUP:
		json = json_object();
		for (int i = 0; i < config_setting_length(value); i++) {
			config_setting_t *e = config_setting_get_elem(value, (unsigned int)i);

			json_object_set_new(json, config_setting_name(e), to_json(e));
		}
		return json;
	case CONFIG_TYPE_ARRAY:
	case CONFIG_TYPE_LIST:
		json = json_array();
		for (int i = 0; i < config_setting_length(value); i++)
			json_array_append_new(
				json, to_json(config_setting_get_elem(value, (unsigned int)i)));
		return json;
	default: /* a floating point number, which no rule takes */
		return json_null();
	}
}

/* At the line of the member that is wrong, if there is one. */
static void complain_wrong(struct reader *r, config_setting_t *group, const struct wrong *w)
{
	config_setting_t *at = NULL;
	char text[WHY_LEN];

	if (w->key[0] && config_setting_type(group) == CONFIG_TYPE_GROUP)
		at = config_setting_get_member(group, w->key);
	complain(r, at ? at : group, "%s", wrong_text(w, text));
}

void set_port_group(struct reader *r, config_setting_t *value, void *target)
{
	json_t *json = to_json(value);
	struct wrong w;

	if (port_group_read(target, config_setting_name(value), json, &w))
		complain_wrong(r, value, &w);
	json_decref(json);
}

void check_port_groups(struct reader *r, config_setting_t *item, const struct port_setting *port)
{
	config_setting_t *group;
	struct wrong w;

	if (!port_setting_whole(port, &w))
		return;
	group = config_setting_get_member(item, w.group);
	complain_wrong(r, group ? group : item, &w);
}

/* Names only, for --keys: the rules read them. */
#define NAME(name) {name, CONFIG_TYPE_NONE, NULL, NULL}
const struct key vlan_keys[] = {
	NAME("mode"), NAME("pvid"), NAME("allowed"), NAME("native_tagged"), {0},
};
const struct key rate_keys[] = {
	NAME("tx_bytes"),	NAME("tx_frames"),	 NAME("rx_bytes"),
	NAME("rx_frames"),	NAME("burst_tx_bytes"), NAME("burst_tx_frames"),
	NAME("burst_rx_bytes"), NAME("burst_rx_frames"), {0},
};
const struct key storm_keys[] = {
	NAME("broadcast"),	 NAME("multicast"),	NAME("unknown"), NAME("burst_broadcast"),
	NAME("burst_multicast"), NAME("burst_unknown"), {0},
};
const struct key mac_limit_keys[] = {NAME("addresses"), NAME("drop"), {0}};
const struct key mirror_keys[] = {
	NAME("port"), NAME("to"), NAME("what"), NAME("snap"), {0},
};

/* ---- mirrors ---- */

static bool port_known(struct reader *r, config_setting_t *item, const char *key, const char *name)
{
	for (size_t i = 0; i < r->s->port_count; i++)
		if (!strcmp(r->s->ports[i].vs.name, name))
			return true;
	if (nic_setting_find(r->s, name))
		return true;
	complain(r, config_setting_get_member(item, key),
		 "mirrors.%s: there is no port \"%s\": name one of `ports` or `nics`", key, name);
	return false;
}

static void add_mirror(struct reader *r, config_setting_t *item)
{
	json_t *json = to_json(item);
	struct mirror_setting m, *all;
	struct wrong w;
	int ret = mirror_setting_read(&m, json, &w);

	json_decref(json);
	if (ret) {
		complain_wrong(r, item, &w);
		return;
	}
	if (!port_known(r, item, "port", m.port) || !port_known(r, item, "to", m.to))
		return;
	if (mirror_fits(r->s->mirrors, r->s->mirror_count, &m, &w)) {
		complain_wrong(r, item, &w);
		return;
	}
	all = reallocarray(r->s->mirrors, r->s->mirror_count + 1, sizeof(*all));
	if (!all) {
		complain(r, item, "out of memory");
		return;
	}
	r->s->mirrors = all;
	all[r->s->mirror_count++] = m;
}

void read_mirrors(struct reader *r, config_setting_t *list)
{
	for (int i = 0; list && i < config_setting_length(list); i++)
		add_mirror(r, config_setting_get_elem(list, (unsigned int)i));
}
