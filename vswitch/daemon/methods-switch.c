/* SPDX-License-Identifier: BSD-3-Clause */
/* Methods on addresses and mirrors, and on the configuration as a whole. */
#include "method.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- addresses ---- */

/* NULL: it is the daemon's own. */
static const char *port_name(struct daemon *d, int id)
{
	struct port *port;

	TAILQ_FOREACH(port, &d->ports, link)
	if (port->id == id)
		return port->set.vs.name;
	return NULL;
}

void do_fdb_list(struct request *req, json_t *params)
{
	struct daemon *d = req->daemon;
	json_t *list = json_array();
	struct port *only = NULL;
	struct vs_fdb_entry e;
	const char *name;
	struct vs_fdb_stats st;
	uint64_t cursor = 0;
	char mac[18];

	if (json_object_get(params, "port") && !get_port(req, params, "port", &only)) {
		json_decref(list);
		return;
	}
	while (vs_fdb_next(d->vs, &cursor, &e) > 0) {
		name = port_name(d, e.port);
		if (!name || (only && e.port != only->id))
			continue;
		format_mac(e.mac, mac);
		json_array_append_new(list,
				      json_pack("{s:s, s:i, s:s, s:b, s:i}", "mac", mac, "vid",
						(int)e.vid, "port", name, "static",
						(int)e.is_static, "age_s", (int)e.age_s));
	}
	fdb_stats(d, &st);
	request_reply(req, json_pack("{s:o, s:I, s:I}", "entries", list, "used",
				     (json_int_t)st.used, "capacity", (json_int_t)st.capacity));
}

/* For what has been done, but not saved. */
static void not_saved(struct request *req, const char *why)
{
	request_error(req, RPC_REFUSED, err_data(-EIO), "done, but not saved: %s", why);
}

static bool get_vid(struct request *req, json_t *params, uint16_t *vid)
{
	long long n = 0;
	bool ok = get_int(req, params, "vid", 0, VS_VID_MAX, &n);

	*vid = (uint16_t)n;
	return ok;
}

void do_fdb_add(struct request *req, json_t *params)
{
	struct fdb_setting fdb;
	char why[WHY_LEN];
	struct port *port;
	bool save = false;
	int ret;

	if (!get_mac(req, params, fdb.mac) || !get_vid(req, params, &fdb.vid) ||
	    !get_port(req, params, "port", &port) || !get_bool(req, params, "save", &save))
		return;
	memcpy(fdb.port, port->set.vs.name, sizeof(fdb.port));
	ret = static_add(req->daemon, &fdb);
	if (ret) {
		request_error(req, RPC_REFUSED, err_data(ret), "the address was not added: %s%s",
			      strerror(-ret),
			      ret == -ENOSPC ? ": raise switch.fdb_capacity" : "");
		return;
	}
	state_changed(req->daemon);
	if (save && saved_fdb(req->daemon, &fdb, false, why))
		not_saved(req, why);
	else
		request_reply(req, json_pack("{s:s}", "port", port->set.vs.name));
}

void do_fdb_del(struct request *req, json_t *params)
{
	struct fdb_setting fdb = {.port = ""};
	char why[WHY_LEN];
	bool save = false;
	int ret;

	if (!get_mac(req, params, fdb.mac) || !get_vid(req, params, &fdb.vid) ||
	    !get_bool(req, params, "save", &save))
		return;
	ret = static_del(req->daemon, fdb.mac, fdb.vid);
	if (ret) {
		request_error(
			req, RPC_REFUSED, err_data(ret), "%s",
			ret == -ENODEV
				? "that address is not in the table: see \"elisactl fdb list\""
				: strerror(-ret));
		return;
	}
	state_changed(req->daemon);
	if (save && saved_fdb(req->daemon, &fdb, true, why))
		not_saved(req, why);
	else
		request_reply(req, json_object());
}

void do_fdb_flush(struct request *req, json_t *params)
{
	struct port *port = NULL;
	int n;

	if (json_object_get(params, "port") && !get_port(req, params, "port", &port))
		return;
	n = vs_fdb_flush(req->daemon->vs, port ? port->id : -1);
	if (n < 0)
		request_error(req, RPC_REFUSED, err_data(n), "not flushed: %s", strerror(-n));
	else
		request_reply(req, json_pack("{s:i}", "flushed", n));
}

/* ---- mirrors ---- */

void do_mirror_list(struct request *req, json_t *params)
{
	request_reply(req, json_pack("{s:o}", "mirrors", mirrors_json(req->daemon)));
}

void do_mirror_add(struct request *req, json_t *params)
{
	struct mirror_setting m;
	struct port *port, *to;
	char text[WHY_LEN];
	bool save = false;
	struct wrong w;

	if (!get_bool(req, params, "save", &save))
		return;
	json_object_del(params, "save");
	if (mirror_setting_read(&m, params, &w)) {
		w.group = NULL;
		bad_params(req, "%s", wrong_text(&w, text));
		return;
	}
	if (!get_port(req, params, "port", &port) || !get_port(req, params, "to", &to))
		return;
	if (mirror_add(req->daemon, &m, &w)) {
		request_error(req, RPC_REFUSED, err_data(-EINVAL), "the mirror was not added: %s",
			      w.why);
		return;
	}
	state_changed(req->daemon);
	event_say(req->daemon, EVENT_PORT_CHANGED, SD_INFO, NULL, m.port,
		  "port %s is mirrored to %s", m.port, m.to);
	if (save && saved_mirror(req->daemon, &m, false, text))
		not_saved(req, text);
	else
		request_reply(req, mirror_setting_json(&m));
}

void do_mirror_del(struct request *req, json_t *params)
{
	struct mirror_setting m = {.what = 0};
	struct port *port, *to;
	char why[WHY_LEN];
	bool save = false;

	if (!get_port(req, params, "port", &port) || !get_port(req, params, "to", &to) ||
	    !get_bool(req, params, "save", &save))
		return;
	if (mirror_del(req->daemon, port->set.vs.name, to->set.vs.name)) {
		request_error(req, RPC_REFUSED, err_data(-ENODEV),
			      "port \"%s\" is not mirrored to \"%s\": see \"elisactl mirror\"",
			      port->set.vs.name, to->set.vs.name);
		return;
	}
	state_changed(req->daemon);
	event_say(req->daemon, EVENT_PORT_CHANGED, SD_INFO, NULL, port->set.vs.name,
		  "port %s is not mirrored to %s any more", port->set.vs.name, to->set.vs.name);
	memcpy(m.port, port->set.vs.name, sizeof(m.port));
	memcpy(m.to, to->set.vs.name, sizeof(m.to));
	if (save && saved_mirror(req->daemon, &m, true, why))
		not_saved(req, why);
	else
		request_reply(req, json_object());
}

/* ---- the configuration ---- */

void do_reload(struct request *req, json_t *params)
{
	bool check = false;
	json_t *report;
	int ret;

	if (!get_bool(req, params, "check", &check))
		return;
	ret = reload(req->daemon, check, &report);
	if (!ret && json_array_size(json_object_get(report, "errors"))) {
		json_object_set_new(report, "errno", json_integer(EIO));
		request_error(req, RPC_REFUSED, report,
			      "the configuration was taken in part: correct what is said, and reload again");
		return;
	}
	if (!ret) {
		request_reply(req, report);
		return;
	}
	json_object_set_new(report, "errno", json_integer(-ret));
	request_error(req, RPC_REFUSED, report, "the configuration was not taken, nothing has changed");
}

void do_saved_show(struct request *req, json_t *params)
{
	char why[WHY_LEN] = "out of memory";
	json_t *saved = saved_json(req->daemon, why);

	if (saved)
		request_reply(req, saved);
	else
		request_error(req, RPC_REFUSED, err_data(-EINVAL), "%s", why);
}

void do_saved_forget(struct request *req, json_t *params)
{
	const char *name;
	char why[WHY_LEN];
	int n;

	if (!get_string(req, params, "name", false, &name))
		return;
	n = saved_forget(req->daemon, name, why);
	if (n < 0)
		request_error(req, RPC_REFUSED, err_data(n), "%s", why);
	else if (!n && name)
		request_error(req, RPC_REFUSED, err_data(-ENOENT),
			      "nothing is saved of \"%s\": see \"elisactl saved\"", name);
	else
		request_reply(req, json_pack("{s:i}", "forgotten", n));
}
