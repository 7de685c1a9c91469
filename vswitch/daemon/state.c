/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What outlives the daemon: which VMs are attached (by pid and start time, so that a recycled pid
 * is not taken for one), their doorbells, and ports added at run time. Written after each change, by rename.
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_REVISION 1

static char *state_path(struct daemon *d)
{
	char *path;

	return asprintf(&path, "%s/state.json", d->run_dir) < 0 ? NULL : path;
}

/* ---- save ---- */

/* A rename is on the disk when its folder is. */
static void folder_sync(const char *path)
{
	const char *end = strrchr(path, '/');
	char *folder = end ? strndup(path, (size_t)(end - path)) : NULL;
	int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
	free(folder);
}

int json_replace(const char *path, json_t *json, bool durable)
{
	char *temp;
	int fd, ret;

	if (asprintf(&temp, "%s.new", path) < 0)
		return -ENOMEM;
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ret = fd < 0 ? -errno : json_dumpfd(json, fd, JSON_INDENT(1)) ? -EIO : 0;
	if (!ret && durable && fsync(fd))
		ret = -errno;
	if (fd >= 0)
		close(fd);
	if (!ret && rename(temp, path))
		ret = -errno;
	if (ret && fd >= 0)
		unlink(temp);
	else if (!ret && durable)
		folder_sync(path);
	free(temp);
	return ret;
}

static json_t *save_vm(const struct guest *g)
{
	json_t *vm =
		json_pack("{s:s, s:i, s:I, s:b, s:b, s:b}", "name", g->name, "pid", (int)g->pid,
			  "pid_start", (json_int_t)g->pid_start, "wanted", (int)g->wanted, "held",
			  (int)g->held, "force_vulnerable_cpu", (int)g->force_cpu);
	json_t *lend = json_array();

	for (size_t i = 0; i < g->lend_count; i++)
		json_array_append_new(lend, json_string(g->lend[i]));
	json_object_set_new(vm, "ports", lend);
	if (g->domain)
		json_object_set_new(vm, "domain", json_string(domain_uuid(g->domain)));
	return vm;
}

static json_t *save_port(const struct port *port)
{
	json_t *json = port_json_write(&port->set);

	if (port->lent)
		json_object_set_new(json, "vm", json_string(""));
	return json;
}

static json_t *save_all(struct daemon *d)
{
	json_t *vms = json_array(), *ports = json_array(), *state;
	struct port *port;
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	if (!g->local && ((g->wanted && g->pid) || g->held))
		json_array_append_new(vms, save_vm(g));
	TAILQ_FOREACH(port, &d->ports, link)
	if (port->runtime && !port->domain && !port->deleting)
		json_array_append_new(ports, save_port(port));
	state = json_pack("{s:i, s:o, s:o, s:o}", "revision", STATE_REVISION, "vms", vms, "ports",
			  ports, "doorbells", doorbells_save(d));
	statics_save(d, state);
	return state;
}

void state_save(struct daemon *d)
{
	json_t *state = save_all(d);
	char *path = state_path(d);
	int ret = path && state ? json_replace(path, state, false) : -ENOMEM;

	d->state_dirty = false;
	if (ret)
		log_error("%s was not written: %s: a restarted daemon would not find its VMs",
			  path ? path : "state.json", strerror(-ret));
	json_decref(state);
	free(path);
}

/* ---- load ---- */

static void load_port(struct daemon *d, json_t *entry)
{
	const char *name = json_string_value(json_object_get(entry, "name"));
	const char *uplink = json_string_value(json_object_get(entry, "uplink"));
	struct port_setting set;
	char why[WHY_LEN];

	if (!name || check_name("port", name, why))
		return;
	if (uplink && *uplink && !nic_setting_find(&d->set, uplink)) {
		log_warning("port %s: its uplink \"%s\" is no NIC any more", name, uplink);
		json_object_del(entry, "uplink");
	}
	port_setting_default(&set, name);
	if (port_json_read(&d->set, entry, &set, why) || port_create(d, &set, true, NULL, why))
		log_warning("port %s of the former daemon is not kept: %s", name, why);
}

static void load_lend(struct guest *g, json_t *ports)
{
	struct port *port;
	json_t *name;
	size_t i;

	g->lend = calloc(json_array_size(ports) + 1, sizeof(*g->lend));
	json_array_foreach(ports, i, name)
	{
		port = g->lend && json_is_string(name)
			       ? port_find(g->daemon, json_string_value(name))
			       : NULL;
		if (!port || port->set.local || port->set.vm[0])
			continue;
		snprintf(port->set.vm, sizeof(port->set.vm), "%s", g->name);
		port->lent = true;
		g->lend[g->lend_count] = strdup(json_string_value(name));
		if (g->lend[g->lend_count])
			g->lend_count++;
	}
}

static void load_vm(struct daemon *d, json_t *entry)
{
	int pid, wanted, held, force;
	char why[WHY_LEN];
	const char *name;
	json_int_t start;
	struct guest *g;
	json_t *ports;
	bool alive;

	if (json_unpack(entry, "{s:s, s:i, s:I, s:b, s:b, s:b, s:o}", "name", &name, "pid", &pid,
			"pid_start", &start, "wanted", &wanted, "held", &held,
			"force_vulnerable_cpu", &force, "ports", &ports) ||
	    check_name("VM", name, why))
		return;
	alive = start && proc_start(pid) == (uint64_t)start;
	g = guest_find(d, name);
	/* A domain that ended while no daemon was there has no file any more. */
	if (json_object_get(entry, "domain") && !(g && g->domain))
		return;
	if (!g && (!alive || !wanted))
		return;
	if (!g)
		g = guest_new(d, name, false);
	if (!g)
		return;
	g->held = held && g->setting;
	g->wanted = wanted || (g->wanted && !g->held);
	g->force_cpu |= force;
	g->state = g->wanted ? GUEST_WAITING : GUEST_DETACHED;
	if (g->held)
		guest_note(g, "detached by the administrator");
	if (alive) {
		g->pid = pid;
		g->pid_start = (uint64_t)start;
		log_info("VM %s (pid %d) was attached to the former daemon", name, pid);
	}
	load_lend(g, ports);
}

void state_load(struct daemon *d)
{
	char *path = state_path(d);
	json_t *state, *entry;
	json_error_t error;
	int revision = 0;
	size_t i;

	if (!path || access(path, F_OK)) {
		free(path);
		return;
	}
	state = json_load_file(path, 0, &error);
	if (!state)
		log_warning("%s:%d: %s: the state of the former daemon is not used", path,
			    error.line, error.text);
	else if (json_unpack(state, "{s:i}", "revision", &revision) || revision != STATE_REVISION)
		log_warning("%s: revision %d is not %d: the state of the former daemon is not used",
			    path, revision, STATE_REVISION);
	if (revision == STATE_REVISION) {
		json_array_foreach(json_object_get(state, "ports"), i, entry) load_port(d, entry);
		statics_load(d, state);
		json_array_foreach(json_object_get(state, "vms"), i, entry) load_vm(d, entry);
		doorbells_load(d, json_object_get(state, "doorbells"));
	}
	json_decref(state);
	free(path);
}
