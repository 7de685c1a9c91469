/* SPDX-License-Identifier: BSD-3-Clause */
/* The group `metrics` of the configuration. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config-read.h"

static void set_enable(struct reader *r, config_setting_t *value, void *target)
{
	r->s->metrics.enable = config_setting_get_bool(value);
}

static void set_socket(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->metrics.socket);
}

static void set_group(struct reader *r, config_setting_t *value, void *target)
{
	read_gid(r, value, &r->s->metrics.gid);
}

static void set_port(struct reader *r, config_setting_t *value, void *target)
{
	number_in(r, value, 1, 65535, &r->s->metrics.port);
}

const struct key metrics_keys[] = {
	{"enable", CONFIG_TYPE_BOOL, set_enable, NULL},
	{"socket", CONFIG_TYPE_STRING, set_socket, NULL},
	{"group", CONFIG_TYPE_STRING, set_group, NULL},
	{"port", CONFIG_TYPE_INT, set_port, NULL},
	{0},
};

int metrics_settings_default(struct settings *s, const char *run_dir)
{
	s->metrics = (struct metrics_setting){.enable = true, .gid = (gid_t)-1};
	if (asprintf(&s->metrics.socket, "%s/metrics.sock", run_dir) >= 0)
		return 0;
	s->metrics.socket = NULL;
	return -ENOMEM;
}

void metrics_settings_check(struct reader *r, config_setting_t *root)
{
	const char *path = r->s->metrics.socket;

	if (!strcmp(path, r->s->control_socket) || !strcmp(path, r->s->local_socket) ||
	    !strcmp(path, r->s->bell_socket))
		complain(r, root,
			 "metrics.socket is \"%s\", as another socket is: they must differ", path);
}

void metrics_settings_free(struct settings *s)
{
	free(s->metrics.socket);
}
