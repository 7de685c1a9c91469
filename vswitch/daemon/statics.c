/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Static addresses and mirrors, those of the configuration (d->set) and those added at run time, which
 * live until the daemon ends, or is told otherwise; the state file keeps them over a restart.
 */
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- addresses ---- */

static ssize_t static_find(const struct fdb_setting *all, size_t count, const uint8_t mac[6],
			   uint16_t vid)
{
	for (size_t i = 0; i < count; i++)
		if (!memcmp(all[i].mac, mac, 6) && all[i].vid == vid)
			return (ssize_t)i;
	return -1;
}

void static_forget(struct daemon *d, const uint8_t mac[6], uint16_t vid)
{
	ssize_t i = static_find(d->fdb, d->fdb_count, mac, vid);

	if (i >= 0)
		d->fdb[i] = d->fdb[--d->fdb_count];
}

int static_put(struct daemon *d, const struct fdb_setting *fdb)
{
	struct port *port = port_find(d, fdb->port);

	return port ? vs_fdb_add(d->vs, fdb->mac, fdb->vid, port->id) : -ENODEV;
}

int static_add(struct daemon *d, const struct fdb_setting *fdb)
{
	struct fdb_setting *all = reallocarray(d->fdb, d->fdb_count + 1, sizeof(*all));
	int ret;

	if (!all)
		return -ENOMEM;
	d->fdb = all;
	ret = static_put(d, fdb);
	if (ret)
		return ret;
	static_forget(d, fdb->mac, fdb->vid);
	all[d->fdb_count++] = *fdb;
	return 0;
}

int static_del(struct daemon *d, const uint8_t mac[6], uint16_t vid)
{
	static_forget(d, mac, vid);
	return vs_fdb_del(d->vs, mac, vid);
}

bool static_at_runtime(const struct daemon *d, const struct fdb_setting *fdb)
{
	return static_find(d->fdb, d->fdb_count, fdb->mac, fdb->vid) >= 0;
}

bool static_is_set(const struct daemon *d, const uint8_t mac[6], uint16_t vid)
{
	return static_find(d->fdb, d->fdb_count, mac, vid) >= 0 ||
	       static_find(d->set.fdb, d->set.fdb_count, mac, vid) >= 0;
}

json_t *fdb_setting_json(const struct fdb_setting *fdb)
{
	char mac[18];

	format_mac(fdb->mac, mac);
	return json_pack("{s:s, s:i, s:s}", "mac", mac, "vid", (int)fdb->vid, "port", fdb->port);
}

int fdb_setting_read(struct fdb_setting *fdb, json_t *json, char why[WHY_LEN])
{
	const char *mac, *port;
	int vid = 0;

	if (json_unpack(json, "{s:s, s?i, s:s}", "mac", &mac, "vid", &vid, "port", &port)) {
		snprintf(why, WHY_LEN, "not an address with \"mac\", \"vid\" and \"port\"");
		return -EINVAL;
	}
	if (vid < 0 || vid > VS_VID_MAX) {
		snprintf(why, WHY_LEN, "vid: %d is out of range: use 0 to %d", vid, VS_VID_MAX);
		return -EINVAL;
	}
	fdb->vid = (uint16_t)vid;
	if (parse_mac(mac, fdb->mac, why) || check_name("port", port, why))
		return -EINVAL;
	snprintf(fdb->port, sizeof(fdb->port), "%s", port);
	return 0;
}

/* ---- mirrors ---- */

/* All that there are, of captures, too; *count of them. Free it. */
static struct mirror_setting *mirrors_now(struct daemon *d, size_t *count)
{
	struct mirror_setting *all = calloc((size_t)d->set.vs.ports * VS_MIRRORS_MAX, sizeof(*all));
	struct vs_mirror some[VS_MIRRORS_MAX];
	struct vs_port_info from, to;

	*count = 0;
	for (uint32_t id = 0; all && id < d->set.vs.ports; id++) {
		int n = vs_port_info(d->vs, (int)id, &from) ? 0 : vs_mirrors(d->vs, (int)id, some);

		for (int i = 0; i < n; i++) {
			struct mirror_setting *m = &all[*count];

			if (vs_port_info(d->vs, some[i].to, &to))
				continue;
			*m = (struct mirror_setting){.what = some[i].what, .snap = some[i].snap};
			memcpy(m->port, from.config.name, sizeof(m->port));
			memcpy(m->to, to.config.name, sizeof(m->to));
			(*count)++;
		}
	}
	return all;
}

static ssize_t mirror_find(const struct mirror_setting *all, size_t count, const char *port,
			   const char *to)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(all[i].port, port) && !strcmp(all[i].to, to))
			return (ssize_t)i;
	return -1;
}

void mirror_forget(struct daemon *d, const char *port, const char *to)
{
	ssize_t i = mirror_find(d->mirrors, d->mirror_count, port, to);

	if (i >= 0)
		d->mirrors[i] = d->mirrors[--d->mirror_count];
}

int mirror_put(struct daemon *d, const struct mirror_setting *m)
{
	struct port *port = port_find(d, m->port), *to = port_find(d, m->to);
	struct vs_mirror mirror = {.what = m->what, .snap = m->snap};

	if (!port || !to)
		return -ENODEV;
	mirror.to = to->id;
	return vs_mirror_add(d->vs, port->id, &mirror);
}

int mirror_take(struct daemon *d, const char *port, const char *to)
{
	struct port *from = port_find(d, port), *target = port_find(d, to);

	return from && target ? vs_mirror_del(d->vs, from->id, target->id) : -ENODEV;
}

int mirror_add(struct daemon *d, const struct mirror_setting *m, struct wrong *w)
{
	struct mirror_setting *all = reallocarray(d->mirrors, d->mirror_count + 1, sizeof(*all));
	size_t count;
	int ret;

	*w = (struct wrong){.why = "out of memory"};
	if (!all)
		return -ENOMEM;
	d->mirrors = all;
	all = mirrors_now(d, &count);
	if (!all)
		return -ENOMEM;
	ret = mirror_fits(all, count, m, w);
	free(all);
	if (ret)
		return ret;
	ret = mirror_put(d, m);
	if (ret) {
		snprintf(w->why, sizeof(w->why), "%s", strerror(-ret));
		return ret;
	}
	d->mirrors[d->mirror_count++] = *m;
	return 0;
}

/* Mirrors of another configuration beside those of run time and of captures, which stay. */
const struct mirror_setting *mirrors_clash(struct daemon *d, const struct settings *to,
					   struct wrong *w)
{
	const struct mirror_setting *clash = NULL, *m;
	struct mirror_setting *all, *more;
	size_t count, kept = 0;

	*w = (struct wrong){.why = "out of memory"};
	all = mirrors_now(d, &count);
	for (size_t i = 0; all && i < count; i++)
		if (mirror_at_runtime(d, &all[i]) ||
		    mirror_find(d->set.mirrors, d->set.mirror_count, all[i].port, all[i].to) < 0)
			all[kept++] = all[i];
	more = all ? reallocarray(all, kept + to->mirror_count + 1, sizeof(*all)) : NULL;
	if (more)
		all = more;
	for (size_t i = 0; i < to->mirror_count && !clash; i++) {
		m = &to->mirrors[i];
		if (mirror_at_runtime(d, m))
			continue;
		if (!more || mirror_fits(all, kept, m, w))
			clash = m;
		else
			all[kept++] = *m;
	}
	free(all);
	return clash;
}

int mirror_del(struct daemon *d, const char *port, const char *to)
{
	int ret = mirror_take(d, port, to);

	if (!ret)
		mirror_forget(d, port, to);
	return ret;
}

bool mirror_at_runtime(const struct daemon *d, const struct mirror_setting *m)
{
	return mirror_find(d->mirrors, d->mirror_count, m->port, m->to) >= 0;
}

json_t *mirrors_json(struct daemon *d)
{
	json_t *list = json_array(), *json;
	struct mirror_setting *all;
	const char *origin;
	size_t count;

	all = mirrors_now(d, &count);
	for (size_t i = 0; i < count; i++) {
		const struct mirror_setting *m = &all[i];

		json = mirror_setting_json(m);
		if (mirror_at_runtime(d, m))
			origin = "control";
		else if (mirror_find(d->set.mirrors, d->set.mirror_count, m->port, m->to) >= 0)
			origin = "configuration";
		else
			origin = "capture";
		json_object_set_new(json, "origin", json_string(origin));
		json_array_append_new(list, json);
	}
	free(all);
	return list;
}

/* ---- both ---- */

/* Of the configuration, once there are ports and NICs. */
int statics_configure(struct daemon *d)
{
	int ret = 0;

	for (size_t i = 0; i < d->set.fdb_count && !ret; i++) {
		ret = static_put(d, &d->set.fdb[i]);
		if (ret)
			log_error("static address for port %s: %s", d->set.fdb[i].port,
				  strerror(-ret));
	}
	for (size_t i = 0; i < d->set.mirror_count && !ret; i++) {
		ret = mirror_put(d, &d->set.mirrors[i]);
		if (ret)
			log_error("mirror of port %s to %s: %s", d->set.mirrors[i].port,
				  d->set.mirrors[i].to, strerror(-ret));
	}
	return ret;
}

void statics_port_gone(struct daemon *d, const char *port)
{
	for (size_t i = d->fdb_count; i-- > 0;)
		if (!strcmp(d->fdb[i].port, port))
			d->fdb[i] = d->fdb[--d->fdb_count];
	for (size_t i = d->mirror_count; i-- > 0;)
		if (!strcmp(d->mirrors[i].port, port) || !strcmp(d->mirrors[i].to, port))
			d->mirrors[i] = d->mirrors[--d->mirror_count];
}

void statics_save(struct daemon *d, json_t *state)
{
	json_t *fdb = json_array(), *mirrors = json_array();

	for (size_t i = 0; i < d->fdb_count; i++)
		json_array_append_new(fdb, fdb_setting_json(&d->fdb[i]));
	for (size_t i = 0; i < d->mirror_count; i++)
		json_array_append_new(mirrors, mirror_setting_json(&d->mirrors[i]));
	json_object_set_new(state, "fdb", fdb);
	json_object_set_new(state, "mirrors", mirrors);
}

/* What does not fit any more is left out, and said. */
void statics_load(struct daemon *d, json_t *state)
{
	struct mirror_setting m;
	struct fdb_setting fdb;
	char why[WHY_LEN];
	struct wrong w;
	json_t *entry;
	size_t i;
	int ret;

	json_array_foreach(json_object_get(state, "fdb"), i, entry)
	{
		ret = fdb_setting_read(&fdb, entry, why);
		if (!ret && (ret = static_add(d, &fdb)))
			snprintf(why, sizeof(why), "%s", strerror(-ret));
		if (ret)
			log_warning("a static address of the former daemon is not kept: %s", why);
	}
	json_array_foreach(json_object_get(state, "mirrors"), i, entry)
	{
		if (mirror_setting_read(&m, entry, &w) || mirror_add(d, &m, &w))
			log_warning("a mirror of the former daemon is not kept: %s",
				    wrong_text(&w, why));
	}
}

void statics_free(struct daemon *d)
{
	free(d->fdb);
	free(d->mirrors);
	d->fdb = NULL;
	d->mirrors = NULL;
	d->fdb_count = d->mirror_count = 0;
}
