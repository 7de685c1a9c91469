/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Changes that were made with --save: DIR/saved.json, laid over the configuration file whenever that
 * is read.
 *
 *	{ revision,
 *	  ports: { NAME: null (deleted) | {"added": true, ...} | { what is other than the file says } },
 *	  fdb: [ {mac, vid, port} | {mac, vid, "deleted": true} ],
 *	  mirrors: [ {port, to, what, snap} | {port, to, "deleted": true} ] }
 *
 * Written whole, by rename, and on the disk before the answer: it is either the one before or this one.
 */
#include "daemon.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAVED_REVISION 1

static char *saved_path(const struct settings *s)
{
	char *path;

	return asprintf(&path, "%s/saved.json", s->state_dir) < 0 ? NULL : path;
}

/* ---- lists of the settings, which are changed in place ---- */

static void fdb_drop(struct settings *s, const uint8_t mac[6], uint16_t vid)
{
	for (size_t i = s->fdb_count; i-- > 0;)
		if (!memcmp(s->fdb[i].mac, mac, 6) && s->fdb[i].vid == vid)
			s->fdb[i] = s->fdb[--s->fdb_count];
}

static int fdb_put(struct settings *s, const struct fdb_setting *fdb)
{
	struct fdb_setting *all = reallocarray(s->fdb, s->fdb_count + 1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	s->fdb = all;
	fdb_drop(s, fdb->mac, fdb->vid);
	all[s->fdb_count++] = *fdb;
	return 0;
}

static void mirror_drop(struct settings *s, const char *port, const char *to)
{
	for (size_t i = s->mirror_count; i-- > 0;)
		if (!strcmp(s->mirrors[i].port, port) && !strcmp(s->mirrors[i].to, to))
			s->mirrors[i] = s->mirrors[--s->mirror_count];
}

static int mirror_put_setting(struct settings *s, const struct mirror_setting *m)
{
	struct mirror_setting *all = reallocarray(s->mirrors, s->mirror_count + 1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	s->mirrors = all;
	mirror_drop(s, m->port, m->to);
	all[s->mirror_count++] = *m;
	return 0;
}

static struct port_setting *port_of(struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (!strcmp(s->ports[i].vs.name, name))
			return &s->ports[i];
	for (size_t i = 0; i < s->nic_count; i++)
		if (!strcmp(s->nics[i].port.vs.name, name))
			return &s->nics[i].port;
	return NULL;
}

/* What else names it goes with it. */
static void port_drop(struct settings *s, const char *name)
{
	for (size_t i = s->port_count; i-- > 0;) {
		if (strcmp(s->ports[i].vs.name, name))
			continue;
		memmove(&s->ports[i], &s->ports[i + 1], (--s->port_count - i) * sizeof(*s->ports));
	}
	for (size_t i = s->fdb_count; i-- > 0;)
		if (!strcmp(s->fdb[i].port, name))
			s->fdb[i] = s->fdb[--s->fdb_count];
	for (size_t i = s->mirror_count; i-- > 0;)
		if (!strcmp(s->mirrors[i].port, name) || !strcmp(s->mirrors[i].to, name))
			s->mirrors[i] = s->mirrors[--s->mirror_count];
}

/* ---- reading ---- */

struct overlay {
	struct settings *s;
	const struct sink *sink;
	const char *path;
	unsigned int errors;
};

static void wrong_entry(struct overlay *o, const char *what, const char *name, const char *why)
{
	char text[2 * WHY_LEN];

	snprintf(text, sizeof(text), "%s%s%s: %.200s: take it out, or run \"elisactl saved forget %s\"",
		 what, *name ? " " : "", name, why, name);
	o->sink->line(o->sink->arg, o->path, 0, text);
	o->errors++;
}

/* An empty one when there is no file; NULL after an error. */
static json_t *saved_load(const char *path, const struct sink *sink)
{
	json_error_t error;
	json_t *saved;
	int revision = 0;

	if (path && access(path, F_OK) && (errno == ENOENT || errno == ENOTDIR)) {
		saved = json_pack("{s:i, s:{}, s:[], s:[]}", "revision", SAVED_REVISION, "ports",
				  "fdb", "mirrors");
		if (saved)
			return saved;
		path = NULL;
	}
	/* Not to be taken for a file that is not there: what was saved would be lost. */
	if (!path) {
		sink->line(sink->arg, "saved.json", 0, "out of memory");
		return NULL;
	}
	saved = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
	if (!saved) {
		sink->line(sink->arg, path, error.line > 0 ? error.line : 0, error.text);
		return NULL;
	}
	if (!json_unpack(saved, "{s:i}", "revision", &revision) && revision == SAVED_REVISION &&
	    json_is_object(json_object_get(saved, "ports")) &&
	    json_is_array(json_object_get(saved, "fdb")) &&
	    json_is_array(json_object_get(saved, "mirrors")))
		return saved;
	sink->line(sink->arg, path, 0,
		   "not of this daemon's form: move it away, and save changes anew");
	json_decref(saved);
	return NULL;
}

static int overlay_port(struct overlay *o, const char *name, json_t *entry, char why[WHY_LEN])
{
	struct port_setting *is = port_of(o->s, name), set, *ports;
	bool added = json_is_true(json_object_get(entry, "added"));
	int ret;

	if (json_is_null(entry)) {
		port_drop(o->s, name);
		return 0;
	}
	if (!json_is_object(entry)) {
		snprintf(why, WHY_LEN, "neither null nor an object of values");
		return -EINVAL;
	}
	if (!is && !added) {
		log_warning("%s: port \"%s\" is not in the configuration any more", o->path, name);
		return 0;
	}
	ret = check_name("port", name, why);
	if (ret)
		return ret;
	if (is)
		set = *is;
	else
		port_setting_default(&set, name);
	ret = port_json_read(o->s, entry, &set, why);
	if (ret)
		return ret;
	set.saved = true;
	if (is) {
		*is = set;
		return 0;
	}
	ports = reallocarray(o->s->ports, o->s->port_count + 1, sizeof(*ports));
	if (!ports)
		return -ENOMEM;
	o->s->ports = ports;
	ports[o->s->port_count++] = set;
	return 0;
}

static void overlay_fdb(struct overlay *o, json_t *entry)
{
	bool deleted = json_is_true(json_object_get(entry, "deleted"));
	struct fdb_setting fdb;
	char why[WHY_LEN];

	if (deleted)
		json_object_set_new(entry, "port", json_string("deleted"));
	if (fdb_setting_read(&fdb, entry, why))
		wrong_entry(o, "fdb", "", why);
	else if (deleted)
		fdb_drop(o->s, fdb.mac, fdb.vid);
	else if (!port_of(o->s, fdb.port))
		log_warning("%s: an address is of port \"%s\", which is not there any more",
			    o->path, fdb.port);
	else if (fdb_put(o->s, &fdb))
		wrong_entry(o, "fdb", "", "out of memory");
}

static void overlay_mirror(struct overlay *o, json_t *entry)
{
	const char *port = json_string_value(json_object_get(entry, "port"));
	const char *to = json_string_value(json_object_get(entry, "to"));
	struct mirror_setting m;
	char why[WHY_LEN];
	struct wrong w;

	if (port && to && json_is_true(json_object_get(entry, "deleted"))) {
		mirror_drop(o->s, port, to);
		return;
	}
	if (mirror_setting_read(&m, entry, &w)) {
		wrong_entry(o, "", "", wrong_text(&w, why));
		return;
	}
	if (!port_of(o->s, m.port) || !port_of(o->s, m.to)) {
		log_warning("%s: the mirror of \"%s\" to \"%s\": one is not there any more",
			    o->path, m.port, m.to);
		return;
	}
	mirror_drop(o->s, m.port, m.to);
	if (mirror_fits(o->s->mirrors, o->s->mirror_count, &m, &w))
		wrong_entry(o, "mirror of", m.port, w.why);
	else if (mirror_put_setting(o->s, &m))
		wrong_entry(o, "mirror of", m.port, "out of memory");
}

/* What the file's own rules could not see. */
static void check_whole(struct overlay *o)
{
	const struct settings *s = o->s;
	char why[WHY_LEN];

	for (size_t i = 0; i < s->port_count; i++) {
		const struct port_setting *p = &s->ports[i];
		unsigned int of_vm = 0;

		for (size_t k = 0; k < s->port_count; k++) {
			const struct port_setting *other = &s->ports[k];

			of_vm += p->vm[0] && !p->local && !strcmp(p->vm, other->vm);
			if (i == k || !p->saved || memcmp(p->vs.mac, other->vs.mac, 6))
				continue;
			snprintf(why, sizeof(why), "it has the MAC address of \"%s\"",
				 other->vs.name);
			wrong_entry(o, "port", p->vs.name, why);
			return;
		}
		if (p->saved && p->local && !s->local_enable)
			wrong_entry(o, "port", p->vs.name,
				    "it is for local clients, but local.enable is not true");
		if (p->saved && of_vm > ELISA_PORTS_PER_VM) {
			snprintf(why, sizeof(why), "VM \"%s\" has %u ports: at most %d are possible",
				 p->vm, of_vm, ELISA_PORTS_PER_VM);
			wrong_entry(o, "port", p->vs.name, why);
		}
	}
	if (s->port_count + s->nic_count > s->max_ports)
		wrong_entry(o, "ports", "", "there are more with these than switch.max_ports");
}

int saved_overlay(struct settings *s, const struct sink *sink)
{
	char *path = saved_path(s);
	struct overlay o = {.s = s, .sink = sink, .path = path};
	json_t *saved = saved_load(path, sink), *entry;
	char why[WHY_LEN] = "out of memory";
	const char *name;
	size_t i;

	if (!saved) {
		free(path);
		return -EINVAL;
	}
	json_object_foreach(json_object_get(saved, "ports"), name, entry)
	{
		if (overlay_port(&o, name, entry, why))
			wrong_entry(&o, "port", name, why);
	}
	json_array_foreach(json_object_get(saved, "fdb"), i, entry) overlay_fdb(&o, entry);
	json_array_foreach(json_object_get(saved, "mirrors"), i, entry) overlay_mirror(&o, entry);
	if (!o.errors)
		check_whole(&o);
	json_decref(saved);
	free(path);
	return o.errors ? -EINVAL : 0;
}

/* ---- writing ---- */

static void line_to_why(void *arg, const char *file, int line, const char *text)
{
	snprintf(arg, WHY_LEN, "%.100s:%d: %.120s", file, line, text);
}

static json_t *load_for(struct daemon *d, char why[WHY_LEN])
{
	const struct sink sink = {line_to_why, why};
	char *path = saved_path(&d->set);
	json_t *saved = saved_load(path, &sink);

	free(path);
	return saved;
}

/* Takes `saved`. */
static int store(struct daemon *d, json_t *saved, char why[WHY_LEN])
{
	char *path = saved_path(&d->set);
	int ret = -ENOMEM;

	if (mkdir(d->set.state_dir, 0755) && errno != EEXIST)
		ret = -errno;
	else if (path)
		ret = json_replace(path, saved, true);
	if (ret)
		snprintf(why, WHY_LEN, "%.200s: %s", path ? path : "saved.json", strerror(-ret));
	json_decref(saved);
	free(path);
	return ret;
}

static json_t *port_whole(const struct port *port)
{
	json_t *all = port_json_write(&port->set);

	json_object_del(all, "name");
	if (port->lent)
		json_object_set_new(all, "vm", json_string(""));
	return all;
}

int saved_port(struct daemon *d, struct port *port, json_t *params, char why[WHY_LEN])
{
	json_t *saved = load_for(d, why), *ports, *entry, *all, *value;
	const char *key;
	int ret;

	if (!saved)
		return -EINVAL;
	ports = json_object_get(saved, "ports");
	entry = json_object_get(ports, port->set.vs.name);
	all = port_whole(port);
	if (port->runtime) { /* nothing in the file that it could be other than */
		json_object_set_new(all, "added", json_true());
		json_object_set(ports, port->set.vs.name, all);
	} else {
		if (!json_is_object(entry)) {
			entry = json_object();
			json_object_set_new(ports, port->set.vs.name, entry);
		}
		json_object_foreach(params, key, value)
		{
			if (json_object_get(all, key))
				json_object_set(entry, key, json_object_get(all, key));
		}
	}
	json_decref(all);
	ret = store(d, saved, why);
	if (ret)
		return ret;
	port->runtime = false;
	port->set.saved = true;
	return 0;
}

int saved_port_deleted(struct daemon *d, const char *name, bool in_file, char why[WHY_LEN])
{
	json_t *saved = load_for(d, why), *ports, *entry;
	int ret;

	if (!saved)
		return -EINVAL;
	ports = json_object_get(saved, "ports");
	entry = json_object_get(ports, name);
	if (!in_file || json_is_true(json_object_get(entry, "added")))
		json_object_del(ports, name);
	else
		json_object_set_new(ports, name, json_null());
	ret = store(d, saved, why);
	if (!ret)
		port_drop(&d->set, name);
	return ret;
}

/* Takes `entry` to the place of one that has the same values of `keys`. */
static void replace(json_t *list, json_t *entry, const char *const keys[2])
{
	json_t *old;
	size_t i;

	for (i = json_array_size(list); i-- > 0;) {
		old = json_array_get(list, i);
		if (json_equal(json_object_get(old, keys[0]), json_object_get(entry, keys[0])) &&
		    json_equal(json_object_get(old, keys[1]), json_object_get(entry, keys[1])))
			json_array_remove(list, i);
	}
	json_array_append_new(list, entry);
}

int saved_fdb(struct daemon *d, const struct fdb_setting *fdb, bool deleted, char why[WHY_LEN])
{
	static const char *const keys[2] = {"mac", "vid"};
	json_t *saved = load_for(d, why), *entry;
	int ret;

	if (!saved)
		return -EINVAL;
	entry = fdb_setting_json(fdb);
	if (deleted) {
		json_object_del(entry, "port");
		json_object_set_new(entry, "deleted", json_true());
	}
	replace(json_object_get(saved, "fdb"), entry, keys);
	ret = store(d, saved, why);
	if (ret)
		return ret;
	/* The configuration's now, and not of run time. */
	static_forget(d, fdb->mac, fdb->vid);
	if (!deleted)
		return fdb_put(&d->set, fdb);
	fdb_drop(&d->set, fdb->mac, fdb->vid);
	return 0;
}

int saved_mirror(struct daemon *d, const struct mirror_setting *m, bool deleted, char why[WHY_LEN])
{
	static const char *const keys[2] = {"port", "to"};
	json_t *saved = load_for(d, why), *entry;
	int ret;

	if (!saved)
		return -EINVAL;
	entry = deleted ? json_pack("{s:s, s:s, s:b}", "port", m->port, "to", m->to, "deleted", 1)
			: mirror_setting_json(m);
	replace(json_object_get(saved, "mirrors"), entry, keys);
	ret = store(d, saved, why);
	if (ret)
		return ret;
	mirror_forget(d, m->port, m->to);
	if (!deleted)
		return mirror_put_setting(&d->set, m);
	mirror_drop(&d->set, m->port, m->to);
	return 0;
}

json_t *saved_json(struct daemon *d, char why[WHY_LEN])
{
	json_t *saved = load_for(d, why);
	char *path = saved_path(&d->set);

	if (saved)
		json_object_set_new(saved, "file", json_string(path ? path : ""));
	free(path);
	return saved;
}

static int forget_in(json_t *list, const char *key, const char *name)
{
	int n = 0;

	for (size_t i = json_array_size(list); i-- > 0;) {
		const char *is = json_string_value(json_object_get(json_array_get(list, i), key));

		if (name && (!is || strcmp(is, name)))
			continue;
		json_array_remove(list, i);
		n++;
	}
	return n;
}

int saved_forget(struct daemon *d, const char *name, char why[WHY_LEN])
{
	json_t *saved = load_for(d, why), *ports;
	int n, ret;

	if (!saved)
		return -EINVAL;
	ports = json_object_get(saved, "ports");
	n = name ? !json_object_del(ports, name) : (int)json_object_size(ports);
	if (!name)
		json_object_clear(ports);
	n += forget_in(json_object_get(saved, "fdb"), "mac", name);
	n += forget_in(json_object_get(saved, "mirrors"), "port", name);
	ret = store(d, saved, why);
	return ret ? ret : n;
}
