/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the configuration again while the switch runs. First all of it is read and compared with
 * what runs; any mistake ends it there, with nothing changed. What differs is then applied, port by
 * port: one that is as before is not touched, and no frame elsewhere is lost.
 *
 * What the file (with what is saved) says of ports, addresses, mirrors and VMs becomes so, also where
 * it was changed at run time meanwhile. What was added at run time stays. Capacities, sockets and NICs
 * are fixed while the daemon runs: the report names what needs a restart.
 */
#include "daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reload {
	struct daemon *d;
	struct settings new;
	const char *path;
	bool check; /* only say what would be done */
	json_t *errors, *changed, *restart;
};

__attribute__((format(printf, 2, 3))) static void say(json_t *list, const char *fmt, ...)
{
	char text[2 * WHY_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(list, json_string(text));
}

static void line_to_report(void *arg, const char *file, int line, const char *text)
{
	struct reload *r = arg;

	if (line)
		say(r->errors, "%s:%d: %s", file, line, text);
	else
		say(r->errors, "%s: %s", file, text);
}

/* ---- what needs a restart ---- */

static void fixed_number(struct reload *r, const char *key, long long is, long long to)
{
	if (is != to)
		say(r->restart, "%s: %lld -> %lld", key, is, to);
}

static void fixed_text(struct reload *r, const char *key, const char *is, const char *to)
{
	is = is ? is : "";
	to = to ? to : "";
	if (strcmp(is, to))
		say(r->restart, "%s: \"%s\" -> \"%s\"", key, is, to);
}

static void compare_fixed(struct reload *r)
{
	const struct settings *is = &r->d->set, *to = &r->new;

	fixed_number(r, "switch.fdb_capacity", is->vs.fdb_capacity, to->vs.fdb_capacity);
	fixed_number(r, "switch.fdb_age", is->vs.fdb_age_s, to->vs.fdb_age_s);
	fixed_number(r, "switch.max_ports", is->max_ports, to->max_ports);
	fixed_number(r, "switch.max_vms", is->max_vms, to->max_vms);
	fixed_number(r, "switch.max_callers", is->max_callers, to->max_callers);
	fixed_number(r, "switch.bridge_nics", is->vs.bridge_nics, to->vs.bridge_nics);
	fixed_text(r, "switch.hugepages", huge_uses[is->hugepages], huge_uses[to->hugepages]);
	fixed_text(r, "state_dir", is->state_dir, to->state_dir);
	fixed_text(r, "control.socket", is->control_socket, to->control_socket);
	fixed_text(r, "control.group", is->control_group, to->control_group);
	fixed_number(r, "local.enable", is->local_enable, to->local_enable);
	fixed_text(r, "local.socket", is->local_socket, to->local_socket);
	fixed_number(r, "doorbell.enable", is->bell_enable, to->bell_enable);
	fixed_text(r, "doorbell.socket", is->bell_socket, to->bell_socket);
	fixed_number(r, "doorbell.group", (int)is->bell_gid, (int)to->bell_gid);
	fixed_number(r, "doorbell.vectors", is->bell_vectors, to->bell_vectors);
	fixed_number(r, "metrics.enable", is->metrics.enable, to->metrics.enable);
	fixed_text(r, "metrics.socket", is->metrics.socket, to->metrics.socket);
	fixed_number(r, "metrics.group", (int)is->metrics.gid, (int)to->metrics.gid);
	fixed_number(r, "metrics.port", is->metrics.port, to->metrics.port);
	fixed_number(r, "dpdk.memory", is->dpdk.memory_mib, to->dpdk.memory_mib);
	fixed_number(r, "dpdk.huge", is->dpdk.huge, to->dpdk.huge);
	fixed_text(r, "dpdk.huge_dir", is->dpdk.huge_dir, to->dpdk.huge_dir);
	fixed_text(r, "dpdk.library", is->dpdk.library, to->dpdk.library);
	fixed_text(r, "dpdk.drivers", is->dpdk.drivers, to->dpdk.drivers);
	fixed_number(r, "dpdk.verbose", is->dpdk.verbose, to->dpdk.verbose);
	fixed_number(r, "dpdk.telemetry", is->dpdk.telemetry, to->dpdk.telemetry);
}

static bool nic_same(const struct nic_setting *a, const struct nic_setting *b)
{
	if (a->devices != b->devices || a->serve != b->serve || a->rx_ring != b->rx_ring ||
	    a->tx_ring != b->tx_ring || a->promiscuous != b->promiscuous ||
	    a->offloads != b->offloads || a->idle_us != b->idle_us ||
	    a->port.vs.mtu != b->port.vs.mtu || a->port.vs.queues != b->port.vs.queues)
		return false;
	for (unsigned int i = 0; i < a->devices; i++)
		if (strcmp(a->device[i], b->device[i]))
			return false;
	return true;
}

static void compare_nics(struct reload *r)
{
	const struct settings *is = &r->d->set, *to = &r->new;

	for (size_t i = 0; i < to->nic_count; i++) {
		const char *name = to->nics[i].port.vs.name;
		const struct nic_setting *old = nic_setting_find(is, name);

		if (!old)
			say(r->restart, "NIC %s: new", name);
		else if (!nic_same(old, &to->nics[i]))
			say(r->restart, "NIC %s: another device, or other values of it", name);
	}
	for (size_t i = 0; i < is->nic_count; i++)
		if (!nic_setting_find(to, is->nics[i].port.vs.name))
			say(r->restart, "NIC %s: gone", is->nics[i].port.vs.name);
}

/* ---- ports ---- */

static struct port_setting *new_port(struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (!strcmp(s->ports[i].vs.name, name))
			return &s->ports[i];
	return NULL;
}

/* What the file could have said of it. */
static struct port_setting set_of(const struct port *port)
{
	struct port_setting set = port->set;

	if (port->lent)
		set.vm[0] = '\0';
	return set;
}

/* Names of what differs, as "mtu, vlan"; "" when nothing does. */
static const char *difference(const struct port_setting *is, const struct port_setting *to,
			      char text[WHY_LEN])
{
	json_t *a = port_json_write(is), *b = port_json_write(to), *value;
	const char *key;
	size_t len = 0;

	text[0] = '\0';
	json_object_foreach(b, key, value)
	{
		if (!json_equal(json_object_get(a, key), value) && len < WHY_LEN)
			len += (size_t)snprintf(text + len, WHY_LEN - len, "%s%s", len ? ", " : "",
						key);
	}
	json_decref(a);
	json_decref(b);
	return text;
}

/* Takes what cannot change, or not yet, out of the new setting of a port that runs. */
static void keep_fixed(struct reload *r, const struct port *port, struct port_setting *to)
{
	const struct port_setting *is = &port->set;

	if (is->vs.queues != to->vs.queues)
		say(r->restart, "port %s: queues: %u -> %u", is->vs.name, is->vs.queues,
		    to->vs.queues);
	if (is->local != to->local)
		say(r->restart, "port %s: transport: %s -> %s", is->vs.name,
		    is->local ? "local" : "vm", to->local ? "local" : "vm");
	to->vs.queues = is->vs.queues;
	if (is->local != to->local)
		memcpy(to->vm, is->vm, sizeof(to->vm));
	to->local = is->local;
	if (!to->uplink[0] || nic_setting_find(&r->d->set, to->uplink))
		return;
	say(r->restart, "port %s: uplink: NIC %s is new", is->vs.name, to->uplink);
	memcpy(to->uplink, is->uplink, sizeof(to->uplink));
}

/* One that does not run yet: false when it cannot before a restart. */
static bool can_begin(struct reload *r, struct port_setting *to)
{
	if (to->local && !r->d->set.local_enable) {
		say(r->restart, "port %s: new, for local clients", to->vs.name);
		return false;
	}
	if (to->uplink[0] && !nic_setting_find(&r->d->set, to->uplink)) {
		say(r->restart, "port %s: uplink: NIC %s is new", to->vs.name, to->uplink);
		to->uplink[0] = '\0';
	}
	return true;
}

static void check_mac(struct reload *r, const struct port_setting *to)
{
	struct port *port;
	char mac[18];

	TAILQ_FOREACH(port, &r->d->ports, link)
	{
		if (memcmp(port->set.vs.mac, to->vs.mac, 6) || port->deleting ||
		    !strcmp(port->set.vs.name, to->vs.name) || !(port->runtime || port->nic) ||
		    new_port(&r->new, port->set.vs.name))
			continue;
		format_mac(to->vs.mac, mac);
		say(r->errors, "%s: port \"%s\" has the MAC address %s of %s \"%s\": set another",
		    r->path, to->vs.name, mac,
		    port->nic ? "NIC" : "a port that was added at run time,", port->set.vs.name);
	}
}

static void check_ports(struct reload *r)
{
	struct settings *s = &r->new;
	size_t count = 0, kept = 0, max = r->d->set.max_ports;
	struct port *port;

	TAILQ_FOREACH(port, &r->d->ports, link)
	count++;
	for (size_t i = 0; i < s->port_count; i++) {
		struct port_setting *to = &s->ports[i];

		port = port_find(r->d, to->vs.name);
		if (port && port->deleting)
			say(r->errors, "%s: port \"%s\" is still being deleted: try again", r->path,
			    to->vs.name);
		else if (port && port->domain)
			say(r->errors, "%s: port \"%s\" belongs to a domain of libvirt: take another name",
			    r->path, to->vs.name);
		else if (port && port->nic)
			say(r->errors, "%s: port \"%s\" is a NIC until the daemon is restarted",
			    r->path, to->vs.name);
		else if (port)
			keep_fixed(r, port, to);
		else if (!can_begin(r, to))
			continue;
		count += !port;
		check_mac(r, to);
		s->ports[kept++] = *to;
	}
	s->port_count = kept;
	if (count > max)
		say(r->errors,
		    "%s: %zu ports with those of before and of run time, but switch.max_ports is %zu: "
		    "restart the daemon",
		    r->path, count, max);
}

static void check_mirrors(struct reload *r)
{
	struct wrong w;
	const struct mirror_setting *m = mirrors_clash(r->d, &r->new, &w);

	if (m)
		say(r->errors, "%s: mirror of port \"%s\" to \"%s\": beside those of run time: %s",
		    r->path, m->port, m->to, w.why);
}

static bool is_configured(const struct port *port)
{
	return !port->runtime && !port->nic && !port->deleting;
}

static int ports_add(struct reload *r)
{
	struct port *port, *next;
	char why[WHY_LEN];
	int ret = 0;

	for (size_t i = 0; i < r->new.port_count && !ret; i++) {
		const struct port_setting *to = &r->new.ports[i];

		if (port_find(r->d, to->vs.name))
			continue;
		ret = r->check ? 0 : port_create(r->d, to, false, &port, why);
		if (ret)
			say(r->errors, "port %s: %s", to->vs.name, why);
		else
			say(r->changed, "port %s: added", to->vs.name);
		if (!ret && !r->check)
			port->fresh = true;
	}
	FOREACH_SAFE(port, &r->d->ports, link, next)
	{
		if (port->fresh && ret)
			port_remove(r->d, port);
		else if (port->fresh)
			port_bind_now(r->d, port);
		port->fresh = false;
	}
	return ret;
}

static void on_left(struct daemon *d, void *arg)
{
	struct port *port = arg;

	if (!port->deleting && !port->guest)
		port_bind_now(d, port);
}

/* To another VM: it is unplugged there, and plugged in here when nobody is inside any more. */
static void port_move(struct reload *r, struct port *port)
{
	if (vs_port_unbind(r->d->vs, port->id))
		return;
	port->guest = NULL;
	ports_changed(r->d);
	wait_grace(r->d, on_left, port);
}

static void port_update(struct reload *r, struct port *port, const struct port_setting *to)
{
	bool moves = port->guest && !port->set.local && strcmp(to->vm, port->guest->name);
	struct port_setting is = set_of(port);
	char text[WHY_LEN];
	int ret;

	difference(&is, to, text);
	if (port->runtime)
		say(r->changed, "port %s: is the configuration's now%s%s", to->vs.name,
		    *text ? "; " : "", text);
	else if (*text)
		say(r->changed, "port %s: %s", to->vs.name, text);
	if (r->check)
		return;
	port->runtime = false;
	port->set.saved = to->saved;
	if (!*text)
		return;
	moves = moves && strcmp(is.vm, to->vm);
	if (port->lent && !to->vm[0]) { /* stays lent */
		struct port_setting set = *to;

		memcpy(set.vm, port->set.vm, sizeof(set.vm));
		ret = port_change(r->d, port, &set, text);
	} else {
		ret = port_change(r->d, port, to, text);
		port->lent = false;
	}
	if (ret)
		say(r->errors, "port %s: %s", to->vs.name, text);
	else if (moves)
		port_move(r, port);
	else if (!port->guest)
		port_bind_now(r->d, port);
}

static void nic_update(struct reload *r, struct port *port, const struct nic_setting *nic)
{
	struct port_setting to = nic->port;
	char text[WHY_LEN];

	memcpy(to.vs.mac, port->set.vs.mac, sizeof(to.vs.mac));
	to.vs.mtu = port->set.vs.mtu;
	to.vs.queues = port->set.vs.queues;
	if (!*difference(&port->set, &to, text))
		return;
	say(r->changed, "NIC %s: %s", to.vs.name, text);
	if (!r->check && port_change(r->d, port, &to, text))
		say(r->errors, "NIC %s: %s", to.vs.name, text);
}

static void ports_change(struct reload *r)
{
	const struct nic_setting *nic;
	const struct port_setting *to;
	struct port *port, *next;

	FOREACH_SAFE(port, &r->d->ports, link, next)
	{
		to = port->deleting ? NULL : new_port(&r->new, port->set.vs.name);
		nic = port->nic ? nic_setting_find(&r->new, port->set.vs.name) : NULL;
		if (to)
			port_update(r, port, to);
		else if (nic)
			nic_update(r, port, nic);
		else if (is_configured(port)) {
			say(r->changed, "port %s: deleted", port->set.vs.name);
			if (!r->check && port_remove(r->d, port))
				say(r->errors, "port %s: not deleted", port->set.vs.name);
		}
	}
}

/* ---- addresses, mirrors ---- */

static bool fdb_has(const struct settings *s, const struct fdb_setting *fdb)
{
	for (size_t i = 0; i < s->fdb_count; i++)
		if (!memcmp(s->fdb[i].mac, fdb->mac, 6) && s->fdb[i].vid == fdb->vid &&
		    !strcmp(s->fdb[i].port, fdb->port))
			return true;
	return false;
}

static void fdb_say(struct reload *r, const struct fdb_setting *fdb, const char *what)
{
	char mac[18];

	format_mac(fdb->mac, mac);
	say(r->changed, "address %s of VLAN %u at port %s: %s", mac, fdb->vid, fdb->port, what);
}

static void fdb_change(struct reload *r)
{
	const struct settings *is = &r->d->set, *to = &r->new;

	for (size_t i = 0; i < is->fdb_count; i++) {
		if (fdb_has(to, &is->fdb[i]) || static_at_runtime(r->d, &is->fdb[i]))
			continue;
		fdb_say(r, &is->fdb[i], "deleted");
		if (!r->check)
			vs_fdb_del(r->d->vs, is->fdb[i].mac, is->fdb[i].vid);
	}
	for (size_t i = 0; i < to->fdb_count; i++) {
		int ret = 0;

		if (!fdb_has(is, &to->fdb[i]))
			fdb_say(r, &to->fdb[i], "added");
		/* Those of before, too: they may have been deleted meanwhile. */
		if (!r->check && !static_at_runtime(r->d, &to->fdb[i]))
			ret = static_put(r->d, &to->fdb[i]);
		if (ret == -ENODEV)
			say(r->restart, "fdb: port %s is not there yet", to->fdb[i].port);
		else if (ret)
			say(r->errors, "address at port %s: %s", to->fdb[i].port, strerror(-ret));
	}
}

static const struct mirror_setting *mirror_has(const struct settings *s,
					       const struct mirror_setting *m)
{
	for (size_t i = 0; i < s->mirror_count; i++)
		if (!strcmp(s->mirrors[i].port, m->port) && !strcmp(s->mirrors[i].to, m->to))
			return &s->mirrors[i];
	return NULL;
}

static bool mirror_same(const struct mirror_setting *a, const struct mirror_setting *b)
{
	return a && b && a->what == b->what && a->snap == b->snap;
}

static void mirrors_change(struct reload *r)
{
	const struct settings *is = &r->d->set, *to = &r->new;

	for (size_t i = 0; i < is->mirror_count; i++) {
		const struct mirror_setting *m = &is->mirrors[i];

		if (mirror_same(m, mirror_has(to, m)) || mirror_at_runtime(r->d, m))
			continue;
		say(r->changed, "mirror of port %s to %s: %s", m->port, m->to,
		    mirror_has(to, m) ? "changed" : "deleted");
		if (!r->check)
			mirror_take(r->d, m->port, m->to);
	}
	for (size_t i = 0; i < to->mirror_count; i++) {
		const struct mirror_setting *m = &to->mirrors[i];
		int ret = 0;

		if (mirror_at_runtime(r->d, m))
			continue;
		if (!mirror_has(is, m))
			say(r->changed, "mirror of port %s to %s: added", m->port, m->to);
		if (!r->check)
			ret = mirror_put(r->d, m);
		if (ret == -ENODEV)
			say(r->restart, "mirror of port %s to %s: one is not there yet", m->port,
			    m->to);
		else if (ret && ret != -EEXIST)
			say(r->errors, "mirror of port %s to %s: %s: is one of them in a mirror added "
				       "at run time?",
			    m->port, m->to, strerror(-ret));
	}
}

/* ---- VMs ---- */

static const struct vm_setting *new_vm(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->vm_count; i++)
		if (!strcmp(s->vms[i].name, name))
			return &s->vms[i];
	return NULL;
}

static bool vm_same(const struct vm_setting *a, const struct vm_setting *b)
{
	return a->auto_attach == b->auto_attach && a->force_cpu == b->force_cpu &&
	       !strcmp(a->pid_file ? a->pid_file : "", b->pid_file ? b->pid_file : "");
}

static void vms_compare(struct reload *r)
{
	for (size_t i = 0; i < r->new.vm_count; i++) {
		const struct vm_setting *vm = &r->new.vms[i];
		const struct vm_setting *old = new_vm(&r->d->set, vm->name);

		if (!old)
			say(r->changed, "VM %s: added", vm->name);
		else if (!vm_same(old, vm))
			say(r->changed, "VM %s: changed", vm->name);
	}
	for (size_t i = 0; i < r->d->set.vm_count; i++)
		if (!new_vm(&r->new, r->d->set.vms[i].name))
			say(r->changed, "VM %s: not the configuration's any more",
			    r->d->set.vms[i].name);
}

/* ---- all ---- */

/* Lists of `a` for those of `b`. */
static void exchange(struct settings *a, struct settings *b)
{
	struct settings was = *a;

	a->ports = b->ports;
	a->port_count = b->port_count;
	a->vms = b->vms;
	a->vm_count = b->vm_count;
	a->fdb = b->fdb;
	a->fdb_count = b->fdb_count;
	a->mirrors = b->mirrors;
	a->mirror_count = b->mirror_count;
	a->force_cpu = b->force_cpu;
	b->ports = was.ports;
	b->vms = was.vms;
	b->vm_count = was.vm_count;
	b->fdb = was.fdb;
	b->mirrors = was.mirrors;
}

static int apply(struct reload *r)
{
	struct daemon *d = r->d;
	int ret;

	d->reloading = true; /* all addresses have been compared: on the way two may be equal */
	ret = ports_add(r);
	if (!ret) {
		ports_change(r);
		fdb_change(r);
		mirrors_change(r);
		vms_compare(r);
		if (d->set.force_cpu != r->new.force_cpu)
			say(r->changed, "security.force_vulnerable_cpu: %s",
			    r->new.force_cpu ? "true" : "false");
	}
	d->reloading = false;
	if (ret || r->check)
		return ret;
	exchange(&d->set, &r->new);
	vms_reconfigure(d);
	ports_changed(d);
	state_changed(d);
	return 0;
}

/* What went wrong after ports had been added is not undone: the rest counts. */
static bool in_part(const struct reload *r, int ret)
{
	return !ret && json_array_size(r->errors);
}

static json_t *report(struct reload *r, int ret)
{
	const char *outcome = ret	       ? "refused"
			      : r->check       ? "checked"
			      : in_part(r, ret) ? "in-part"
						: "applied";

	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "configuration", r->path, "outcome", outcome,
			 "errors", r->errors, "changed", r->changed, "restart_needed", r->restart);
}

static void log_list(struct daemon *d, const char *priority, json_t *list, const char *before)
{
	json_t *line;
	size_t i;

	json_array_foreach(list, i, line)
		event_say(d, EVENT_CONFIG, priority, NULL, NULL, "%s%s", before,
			  json_string_value(line));
}

int reload(struct daemon *d, bool check, json_t **out)
{
	struct reload r = {.d = d, .path = d->config_path, .check = check};
	const struct sink sink = {line_to_report, &r};
	int ret;

	r.errors = json_array();
	r.changed = json_array();
	r.restart = json_array();
	ret = settings_read(&r.new, d->config_path, d->run_dir, &sink);
	if (!ret) {
		compare_fixed(&r);
		compare_nics(&r);
		check_ports(&r);
		check_mirrors(&r);
		ret = json_array_size(r.errors) ? -EINVAL : apply(&r);
	}
	settings_free(&r.new);
	if (!check) {
		log_list(d, SD_ERR, r.errors, "");
		if (ret)
			event_say(d, EVENT_CONFIG, SD_ERR, NULL, NULL,
				  "%s was not taken: nothing has changed", r.path);
		else if (in_part(&r, ret))
			event_say(d, EVENT_CONFIG, SD_ERR, NULL, NULL,
				  "%s was taken in part: %zu changes, but for what was said before",
				  r.path, json_array_size(r.changed));
		else
			event_say(d, EVENT_CONFIG, SD_NOTICE, NULL, NULL,
				  "%s was read again: %zu changes", r.path,
				  json_array_size(r.changed));
		log_list(d, SD_INFO, ret ? NULL : r.changed, "");
		log_list(d, SD_WARNING, ret ? NULL : r.restart, "needs a restart: ");
	}
	*out = report(&r, ret);
	return ret;
}
