/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of config*.c: how the file's groups are walked. */
#ifndef VSWITCHD_CONFIG_READ_H
#define VSWITCHD_CONFIG_READ_H

#include <libconfig.h>
#include "config.h"

struct reader {
	struct settings *s;
	const char *path;
	const struct sink *sink;
	unsigned int errors;
};

struct key {
	const char *name;
	int type; /* CONFIG_TYPE_*; CONFIG_TYPE_LIST takes arrays and lists */
	/* NULL for a group whose members are read one by one, with the group's own target */
	void (*set)(struct reader *r, config_setting_t *value, void *target);
	const struct key *keys; /* a group's, or those of a list's members; ends with {0} */
};

__attribute__((format(printf, 4, 5))) void complain_at(struct reader *r, const char *file, int line,
						       const char *fmt, ...);
#define complain(r, at, ...)                                                                   \
	complain_at(r, config_setting_source_file(at), config_setting_source_line(at), __VA_ARGS__)
bool type_fits(int wanted, const config_setting_t *value);
/* Walks a group's members: each must be one of `keys` and of its type. */
void read_group(struct reader *r, config_setting_t *group, const char *where,
		const struct key *keys, void *target);
/* These complain and leave *out alone when the value is not usable. */
bool number_in(struct reader *r, config_setting_t *value, long long min, long long max,
	       long long *out);
void set_u32(struct reader *r, config_setting_t *value, long long min, long long max,
	     uint32_t *out);
void set_path(struct reader *r, config_setting_t *value, char **out);

/* The name of a member of `where` that is a port; NULL after a complaint. */
const char *item_port_name(struct reader *r, config_setting_t *item, const char *where);
/* Keys that ports and NICs share; `target` is the struct port_setting. */
void set_port_name(struct reader *r, config_setting_t *value, void *target);
void set_port_mtu(struct reader *r, config_setting_t *value, void *target);
void set_port_queues(struct reader *r, config_setting_t *value, void *target);
void set_port_up(struct reader *r, config_setting_t *value, void *target);
void set_port_groups(struct reader *r, config_setting_t *value, void *target);

bool read_gid(struct reader *r, config_setting_t *value, gid_t *gid);

/* ---- config-metrics.c ---- */

extern const struct key metrics_keys[];
int metrics_settings_default(struct settings *s, const char *run_dir);
void metrics_settings_check(struct reader *r, config_setting_t *root);
void metrics_settings_free(struct settings *s);

/* ---- config-nic.c ---- */

void set_nics(struct reader *r, config_setting_t *list, void *target);
extern const struct key nic_keys[], dpdk_keys[];
void nic_settings_free(struct settings *s);

/* ---- config-switch.c ---- */

/* vlan, rate, storm, no_flood and mac_limit of the struct port_setting that is the target. */
void set_port_group(struct reader *r, config_setting_t *value, void *target);
void check_port_groups(struct reader *r, config_setting_t *item, const struct port_setting *port);
/* Ports and NICs are known by then. */
void read_mirrors(struct reader *r, config_setting_t *list);
extern const struct key vlan_keys[], rate_keys[], storm_keys[], mac_limit_keys[], mirror_keys[];

/* The same keys of a port and of a NIC. */
#define PORT_GROUP_KEYS                                                  \
	{"vlan", CONFIG_TYPE_GROUP, set_port_group, vlan_keys},          \
	{"rate", CONFIG_TYPE_GROUP, set_port_group, rate_keys},          \
	{"storm", CONFIG_TYPE_GROUP, set_port_group, storm_keys},        \
	{"no_flood", CONFIG_TYPE_LIST, set_port_group, NULL},            \
	{"mac_limit", CONFIG_TYPE_GROUP, set_port_group, mac_limit_keys}

/* ---- config-text.c ---- */

/* What the parser would get wrong, or end the process for. */
int text_check(struct reader *r);

#endif
