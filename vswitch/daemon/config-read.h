/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of config*.c: how the file's groups are walked. */
#ifndef VSWITCHD_CONFIG_READ_H
#define VSWITCHD_CONFIG_READ_H

#include <libconfig.h>
#include "config.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct reader {
	struct settings *s;
	const char *path;
	unsigned int errors;
};

struct key {
	const char *name;
	int type; /* CONFIG_TYPE_*; CONFIG_TYPE_LIST takes arrays and lists */
	void (*set)(struct reader *r, config_setting_t *value, void *target);
};

__attribute__((format(printf, 3, 4))) void complain(struct reader *r, const config_setting_t *at,
						    const char *fmt, ...);
bool type_fits(int wanted, const config_setting_t *value);
/* Walks a group's members: each must be one of `keys` and of its type. */
void read_group(struct reader *r, config_setting_t *group, const char *where,
		const struct key *keys, size_t count, void *target);
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

/* ---- config-nic.c ---- */

void set_nics(struct reader *r, config_setting_t *list, void *target);
void set_dpdk(struct reader *r, config_setting_t *group, void *target);
void nic_settings_free(struct settings *s);

#endif
