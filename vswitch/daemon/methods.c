/* SPDX-License-Identifier: BSD-3-Clause */
/* The methods of the control socket. Parameters are objects; unknown ones are errors. */
#include "method.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DETACH_WAIT_MS 5000
#define WAIT_MAX_MS    600000

struct method {
	const char *name;
	void (*call)(struct request *req, json_t *params);
	const char *params; /* names, each followed by a space */
};

json_t *err_data(int err)
{
	return vm_error_data(err, NULL);
}

bool bad_params(struct request *req, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	request_error(req, RPC_PARAMS, NULL, "%s", text);
	return false;
}

/* ---- reading parameters: false means that the request has been answered ---- */

bool get_string(struct request *req, json_t *params, const char *key, bool needed, const char **out)
{
	json_t *value = json_object_get(params, key);

	*out = NULL;
	if (!value)
		return !needed || bad_params(req, "\"%s\" is missing", key);
	*out = json_string_value(value);
	return *out || bad_params(req, "\"%s\" must be text", key);
}

bool get_bool(struct request *req, json_t *params, const char *key, bool *out)
{
	json_t *value = json_object_get(params, key);

	if (!value)
		return true;
	if (!json_is_boolean(value))
		return bad_params(req, "\"%s\" must be true or false", key);
	*out = json_is_true(value);
	return true;
}

bool get_int(struct request *req, json_t *params, const char *key, long long min, long long max,
	     long long *out)
{
	json_t *value = json_object_get(params, key);

	if (!value)
		return true;
	if (!json_is_integer(value))
		return bad_params(req, "\"%s\" must be a whole number", key);
	*out = json_integer_value(value);
	return (*out >= min && *out <= max) ||
	       bad_params(req, "\"%s\": %lld is out of range: use %lld to %lld", key, *out, min,
			  max);
}

bool get_port(struct request *req, json_t *params, const char *key, struct port **port)
{
	const char *name;

	if (!get_string(req, params, key, true, &name))
		return false;
	*port = port_find(req->daemon, name);
	if (*port && !(*port)->deleting)
		return true;
	request_error(req, RPC_REFUSED, err_data(-ENODEV),
		      "there is no port \"%s\": see \"elisactl "
		      "port list\"",
		      name);
	return false;
}

bool get_mac(struct request *req, json_t *params, uint8_t mac[6])
{
	char why[WHY_LEN];
	const char *text;

	if (!get_string(req, params, "mac", true, &text))
		return false;
	return !parse_mac(text, mac, why) || bad_params(req, "mac: %s", why);
}

/* ---- status ---- */

static json_t *kill_json(const struct elisa_vm_status *st)
{
	json_t *kill = json_pack(
		"{s:s, s:i, s:I, s:I, s:I, s:s}", "reason", elisa_kill_name(st->kill), "vcpu",
		(int)st->kill_vcpu, "code", (json_int_t)st->kill_code, "qualification",
		(json_int_t)st->kill_qualification, "gpa", (json_int_t)st->kill_gpa, "context",
		st->kill_context == 1 ? "gate" : "trusted");

	if (st->kill == ELISA_KILL_EXIT)
		json_object_set_new(kill, "exit",
				    json_string(elisa_exit_reason_name((uint32_t)st->kill_code)));
	return kill;
}

json_t *vm_json(struct guest *g)
{
	json_t *vm = json_pack("{s:s, s:s, s:s, s:s, s:i, s:b}", "name", g->name, "transport",
			       guest_transport(g), "state", guest_state_name(g), "note", g->note,
			       "pid", (int)g->pid, "configured", (int)(g->setting && !g->domain));
	json_t *ports = json_array();
	struct elisa_vm_status st;
	struct port *port;

	TAILQ_FOREACH(port, &g->daemon->ports, link)
	if (port->guest == g)
		json_array_append_new(ports, json_string(port->set.vs.name));
	json_object_set_new(vm, "ports", ports);
	json_object_set_new(vm, "callers", json_integer(g->caller_count));
	if (g->domain)
		json_object_set_new(vm, "domain", json_string(domain_uuid(g->domain)));
	if (!g->local)
		json_object_set_new(vm, "doorbells", guest_doorbells_json(g));
	if (g->vm && !vm_status(g, &st)) {
		json_object_set_new(vm, "vcpus", json_integer(st.vcpus));
		json_object_set_new(vm, "armed", json_integer(st.armed));
		json_object_set_new(vm, "inside", json_integer(st.inside));
	}
	if (g->refusal && g->state != GUEST_ATTACHED)
		json_object_set_new(vm, "refusal", json_string(elisa_refusal_name(g->refusal)));
	if (g->killed.kill)
		json_object_set_new(vm, "kill", kill_json(&g->killed));
	return vm;
}

void object_add(json_t *object, const char *name, json_t *value)
{
	char key[VS_NAME_LEN + 16];

	snprintf(key, sizeof(key), "%s", name);
	for (unsigned int n = 2; json_object_get(object, key); n++)
		snprintf(key, sizeof(key), "%s#%u", name, n);
	json_object_set_new(object, key, value);
}

json_t *strings_json(uint64_t bits, const char *const names[], unsigned int count)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < count; i++)
		if (bits >> i & 1)
			json_array_append_new(list, json_string(names[i]));
	return list;
}

json_t *module_json(struct daemon *d)
{
	static const char *const bugs[] = {"l1tf", "mds", "taa"};
	struct elisa_why why = {0};
	struct elisa_info info;
	char text[WHY_LEN];
	json_t *module;

	if (!d->host || elisa_host_info(d->host, &info))
		return json_pack("{s:b, s:s}", "present", 0, "note", d->ctx_note);
	module = json_pack("{s:b, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "present", 1,
			   "revision", (int)info.revision, "phys_bits", (int)info.phys_bits,
			   "window_gpa", (json_int_t)info.window_gpa, "window_size",
			   (json_int_t)info.window_size, "pinned_pages",
			   (json_int_t)info.pinned_pages, "contexts", (json_int_t)info.contexts,
			   "vms", (json_int_t)info.vms, "invept", (json_int_t)info.invept);
	json_object_set_new(module, "cpu_bugs", strings_json(info.cpu_bugs, bugs, 3));
	json_object_set_new(module, "ready", json_boolean(d->ctx));
	if (!d->ctx)
		json_object_set_new(module, "note", json_string(d->ctx_note));
	if (info.host_refusal) {
		why.refusal = info.host_refusal;
		why.detail = info.cpu_bugs;
		json_object_set_new(module, "host_refusal",
				    json_string(elisa_refusal_name(info.host_refusal)));
		json_object_set_new(module, "host_refusal_text",
				    json_string(elisa_why_text(&why, text, sizeof(text))));
	}
	return module;
}

json_t *status_json(struct daemon *d)
{
	json_t *vms = json_object(), *status;
	unsigned int ports = 0;
	struct vs_fdb_stats fdb;
	struct port *port;
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	object_add(vms, g->name, vm_json(g));
	TAILQ_FOREACH(port, &d->ports, link)
	ports++;
	fdb_stats(d, &fdb);
	status = json_pack("{s:s, s:i, s:I, s:I, s:i, s:i, s:o}", "version", ELISA_VERSION, "pid",
			   (int)getpid(), "uptime_s", (json_int_t)((now_us() - d->started) / SEC),
			   "generation", (json_int_t)d->generation, "ports", (int)ports,
			   "max_ports", (int)d->set.max_ports, "vms", vms);
	json_object_set_new(status, "module", module_json(d));
	json_object_set_new(status, "memory", huge_json(d));
	json_object_set_new(status, "local",
			    json_pack("{s:b, s:s, s:i, s:s}", "enabled", (int)!!d->local, "socket",
				      d->set.local_socket, "clients", (int)local_clients(d), "note",
				      d->local ? "no isolation" : d->local_note));
	json_object_set_new(status, "doorbell", doorbells_status_json(d));
	json_object_set_new(status, "nics", nics_json(d, NULL));
	json_object_set_new(status, "fdb",
			    json_pack("{s:I, s:I, s:i}", "used", (json_int_t)fdb.used, "capacity",
				      (json_int_t)fdb.capacity, "age_s", (int)d->set.vs.fdb_age_s));
	json_object_set_new(status, "kills", json_integer((json_int_t)d->kills));
	json_object_set_new(status, "watchdog", watchdog_json(d));
	return status;
}

static void do_status(struct request *req, json_t *params)
{
	request_reply(req, status_json(req->daemon));
}

/* ---- attach ---- */

/* Which process, and what it is called. Fills `name` (VS_NAME_LEN). */
static bool attach_who(struct request *req, json_t *params, pid_t *pid, char *name)
{
	char why[WHY_LEN], its[128];
	const char *given;
	long long n = 0;

	if (!get_string(req, params, "name", false, &given) ||
	    !get_int(req, params, "pid", 1, INT32_MAX, &n))
		return false;
	if (!given && !n)
		return bad_params(req, "which VM? Give \"pid\", that of its QEMU, or \"name\"");
	if (given && check_name("VM", given, why))
		return bad_params(req, "name: %s", why);
	if (given && !strcmp(given, CONFIG_VM_LOCAL))
		return bad_params(
			req, "name: \"local\" stands for processes of this host: take another");
	*pid = (pid_t)n;
	if (given)
		snprintf(name, VS_NAME_LEN, "%s", given);
	else if (!proc_qemu_name(*pid, its, sizeof(its)) && !check_name("VM", its, why))
		snprintf(name, VS_NAME_LEN, "%.*s", VS_NAME_LEN - 1, its);
	else
		snprintf(name, VS_NAME_LEN, "pid-%d", (int)*pid);
	return true;
}

static pid_t attach_find(struct daemon *d, const char *name)
{
	struct guest *g = guest_find(d, name);
	const struct vm_setting *set = g ? g->setting : NULL;
	pid_t pid = !set	    ? 0
		    : set->pid	    ? set->pid
		    : set->pid_file ? proc_pid_file(set->pid_file)
				    : 0;

	return pid > 0 ? pid : proc_find_qemu(name);
}

/* Gives the named ports to the VM: they must be nobody's, or its own. */
static bool attach_ports(struct request *req, struct guest *g, json_t *names)
{
	struct port *port;
	json_t *name;
	char **lend;
	size_t i;

	if (names && !json_is_array(names))
		return bad_params(req, "\"ports\" must be an array of names");
	json_array_foreach(names, i, name)
	{
		port = json_is_string(name) ? port_find(g->daemon, json_string_value(name)) : NULL;
		if (!port || port->deleting)
			return bad_params(req,
					  "there is no port \"%s\": see \"elisactl port list\"",
					  json_is_string(name) ? json_string_value(name) : "?");
		if (port->nic)
			return bad_params(req, "port \"%s\" is a NIC", port->set.vs.name);
		if (port->set.local)
			return bad_params(
				req,
				"port \"%s\" is for local clients (no isolation), not for "
				"VMs",
				port->set.vs.name);
		if (port->set.vm[0] && strcmp(port->set.vm, g->name))
			return bad_params(req, "port \"%s\" belongs to VM \"%s\"",
					  port->set.vs.name, port->set.vm);
	}
	json_array_foreach(names, i, name)
	{
		port = port_find(g->daemon, json_string_value(name));
		if (port->set.vm[0])
			continue;
		lend = reallocarray(g->lend, g->lend_count + 1, sizeof(*lend));
		if (!lend)
			return bad_params(req, "out of memory");
		g->lend = lend;
		lend[g->lend_count] = strdup(port->set.vs.name);
		g->lend_count += !!lend[g->lend_count];
		snprintf(port->set.vm, sizeof(port->set.vm), "%s", g->name);
		port->lent = true;
	}
	return true;
}

/* A VM that may be attached now: a new one, or one that waits or was detached. */
static struct guest *attach_guest(struct request *req, const char *name, pid_t pid)
{
	struct guest *g;

	TAILQ_FOREACH(g, &req->daemon->guests, link)
	{
		if (g->local || (strcmp(g->name, name) && g->pid != pid))
			continue;
		if (g->state == GUEST_WAITING || g->state == GUEST_DETACHED) {
			if (!strcmp(g->name, name))
				return g;
			continue;
		}
		request_error(req, RPC_REFUSED, err_data(-EBUSY),
			      "VM \"%s\" (pid %d) is %s already", g->name, (int)g->pid,
			      guest_state_name(g));
		return NULL;
	}
	g = guest_new(req->daemon, name, false);
	if (!g)
		request_error(req, RPC_REFUSED, err_data(-ENOMEM), "out of memory");
	else
		g->state = GUEST_DETACHED;
	return g;
}

static void do_attach(struct request *req, json_t *params)
{
	struct daemon *d = req->daemon;
	char name[VS_NAME_LEN];
	bool force = false;
	struct guest *g;
	pid_t pid;

	if (!attach_who(req, params, &pid, name) || !get_bool(req, params, "force", &force))
		return;
	if (!pid)
		pid = attach_find(d, name);
	if (pid < 0) {
		request_error(req, RPC_REFUSED, err_data(pid), "%s named \"%s\"%s",
			      pid == -ENOTUNIQ ? "several QEMU processes are"
					       : "no running QEMU is",
			      name, ": give the process with --pid");
		return;
	}
	g = attach_guest(req, name, pid);
	if (!g)
		return;
	if (!attach_ports(req, g, json_object_get(params, "ports"))) {
		if (!g->setting && !g->pid)
			guest_free(g);
		return;
	}
	g->pid = pid;
	g->pid_start = proc_start(pid);
	g->force_cpu |= force;
	g->held = false;
	g->tries = 0;
	memset(&g->killed, 0, sizeof(g->killed));
	g->attach_request = req;
	req->guest = g;
	req->patience = ATTACH_WAIT;
	req->deadline = now_us() + ATTACH_WAIT;
	work_soon(d, ATTACH_WAIT);
	vm_attach(g); /* answers, now or later */
}

/* ---- detach ---- */

static struct guest *detach_guest(struct request *req, const char *name, long long pid)
{
	struct guest *g;

	if (name)
		g = guest_find(req->daemon, name);
	else
		TAILQ_FOREACH(g, &req->daemon->guests, link)
	if (g->pid == pid)
		break;
	if (!g && name)
		request_error(req, RPC_REFUSED, err_data(-ENOENT),
			      "there is no VM \"%s\": see "
			      "\"elisactl status\"",
			      name);
	else if (!g)
		request_error(req, RPC_REFUSED, err_data(-ENOENT),
			      "process %lld is not attached: see "
			      "\"elisactl status\"",
			      pid);
	return g;
}

static void do_detach(struct request *req, json_t *params)
{
	long long pid = 0, wait = DETACH_WAIT_MS;
	bool force = false;
	const char *name;
	struct guest *g;

	if (!get_string(req, params, "name", false, &name) ||
	    !get_int(req, params, "pid", 1, INT32_MAX, &pid) ||
	    !get_int(req, params, "wait_ms", 0, WAIT_MAX_MS, &wait) ||
	    !get_bool(req, params, "force", &force))
		return;
	if (!name && !pid) {
		bad_params(req, "which VM? Give \"name\" or \"pid\"");
		return;
	}
	g = detach_guest(req, name, pid);
	if (!g)
		return;
	req->guest = g;
	req->deadline = now_us() + (uint64_t)wait * MSEC;
	TAILQ_INSERT_TAIL(&g->detach_requests, req, link);
	work_soon(req->daemon, (uint64_t)wait * MSEC);
	g->force_drain |= force;
	if (!g->local)
		vm_detach(g);
	else if (g->peer)
		elisa_local_peer_kick(g->peer);
}

void method_timeout(struct request *req)
{
	struct guest *g = req->guest;

	if (g->attach_request == req)
		g->attach_request = NULL;
	else
		TAILQ_REMOVE(&g->detach_requests, req, link);
	req->guest = NULL;
	request_error(req, RPC_REFUSED,
		      json_pack("{s:i, s:s}", "errno", EINPROGRESS, "state", guest_state_name(g)),
		      "\"%s\" is still %s%s%s; it goes on", g->name, guest_state_name(g),
		      g->note[0] ? ": " : "", g->note);
}

/* ---- ports ---- */

static json_t *port_json(struct daemon *d, struct port *port)
{
	json_t *json = port_json_write(&port->set);
	struct vs_port_info info;

	if (vs_port_info(d->vs, port->id, &info))
		memset(&info, 0, sizeof(info));
	json_object_set_new(json, "transport", json_string(port_transport(port)));
	json_object_set_new(json, "origin",
			    json_string(port->domain    ? "domain"
					: port->runtime ? "control"
					: port->set.saved ? "saved"
							: "configuration"));
	json_object_set_new(json, "link", json_boolean(info.link));
	json_object_set_new(json, "bound_to",
			    port->guest ? json_string(port->guest->name) : json_null());
	if (port->guest)
		json_object_set_new(json, "index", json_integer(info.guest_index));
	if (!port->set.uplink[0])
		json_object_del(json, "uplink");
	json_object_set_new(json, "doorbell", port_doorbell_json(port));
	if (port->deleting)
		json_object_set_new(json, "deleting", json_true());
	return json;
}

static void do_port_list(struct request *req, json_t *params)
{
	json_t *ports = json_object();
	struct port *port;

	TAILQ_FOREACH(port, &req->daemon->ports, link)
	object_add(ports, port->set.vs.name, port_json(req->daemon, port));
	request_reply(req, json_pack("{s:o}", "ports", ports));
}

static void do_port_show(struct request *req, json_t *params)
{
	struct port *port;
	json_t *json;

	if (!get_port(req, params, "name", &port))
		return;
	json = port_json(req->daemon, port);
	json_object_set_new(json, "epoch", epoch_json(&port->epoch));
	request_reply(req, json);
}

static bool read_port(struct request *req, json_t *params, struct port_setting *set)
{
	char why[WHY_LEN];

	return !port_json_read(&req->daemon->set, params, set, why) || bad_params(req, "%s", why);
}

/* After the change itself: `save` in the request. Answers when it does not. */
static bool save_port(struct request *req, json_t *params, struct port *port)
{
	char why[WHY_LEN];
	bool save = false;

	if (!get_bool(req, params, "save", &save))
		return false;
	if (!save || !saved_port(req->daemon, port, params, why))
		return true;
	request_error(req, RPC_REFUSED, err_data(-EIO), "port \"%s\" is so now, but was not saved: %s",
		      port->set.vs.name, why);
	return false;
}

static void do_port_add(struct request *req, json_t *params)
{
	struct port_setting set;
	char why[WHY_LEN];
	struct port *port;
	const char *name;
	int ret;

	if (!get_string(req, params, "name", true, &name))
		return;
	if (check_name("port", name, why)) {
		bad_params(req, "name: %s", why);
		return;
	}
	port_setting_default(&set, name);
	if (!read_port(req, params, &set))
		return;
	ret = port_create(req->daemon, &set, true, &port, why);
	if (ret) {
		request_error(req, RPC_REFUSED, err_data(ret), "port \"%s\" was not added: %s",
			      name, why);
		return;
	}
	state_changed(req->daemon);
	port_bind_now(req->daemon, port);
	ports_changed(req->daemon);
	event_say_why(req->daemon, EVENT_PORT_CHANGED, SD_INFO, NULL, name, "added",
		      "port %s added", name);
	if (save_port(req, params, port))
		request_reply(req, port_json(req->daemon, port));
}

/* The rest is the device's, or is built on. */
static bool nic_may_become(const struct port_setting *is, const struct port_setting *set)
{
	return !memcmp(is->vs.mac, set->vs.mac, 6) && is->vs.mtu == set->vs.mtu &&
	       is->vs.queues == set->vs.queues && is->vs.anti_spoof == set->vs.anti_spoof &&
	       is->local == set->local && !set->vm[0] && !set->uplink[0];
}

static void do_port_set(struct request *req, json_t *params)
{
	struct port_setting set;
	char why[WHY_LEN];
	struct port *port;
	int ret;

	if (!get_port(req, params, "name", &port))
		return;
	set = port->set;
	if (!read_port(req, params, &set))
		return;
	if (port->domain && json_object_get(params, "save")) {
		request_error(req, RPC_REFUSED, err_data(-EINVAL),
			      "port \"%s\" belongs to a libvirt domain: change it in its metadata",
			      set.vs.name);
		return;
	}
	if (port->nic && !nic_may_become(&port->set, &set)) {
		request_error(req, RPC_REFUSED, err_data(-EINVAL),
			      "port \"%s\" is a NIC: only its groups and whether it is up can "
			      "change while the daemon runs",
			      set.vs.name);
		return;
	}
	if (port->guest && (strcmp(set.vm, port->set.vm) || set.local != port->set.local)) {
		request_error(req, RPC_REFUSED, err_data(-EBUSY),
			      "port \"%s\" is used by %s: detach it "
			      "first",
			      set.vs.name, port->guest->name);
		return;
	}
	ret = port_change(req->daemon, port, &set, why);
	if (ret) {
		request_error(req, RPC_REFUSED, err_data(ret), "port \"%s\" was not changed: %s",
			      set.vs.name, why);
		return;
	}
	state_changed(req->daemon);
	port_bind_now(req->daemon, port);
	event_say_why(req->daemon, EVENT_PORT_CHANGED, SD_INFO, NULL, set.vs.name, "set",
		      "port %s: settings changed", set.vs.name);
	if (save_port(req, params, port))
		request_reply(req, port_json(req->daemon, port));
}

static void do_port_del(struct request *req, json_t *params)
{
	struct daemon *d = req->daemon;
	struct port *port;
	char name[VS_NAME_LEN], why[WHY_LEN];
	bool save = false, in_file;
	int ret;

	if (!get_port(req, params, "name", &port) || !get_bool(req, params, "save", &save))
		return;
	in_file = !port->runtime;
	snprintf(name, sizeof(name), "%s", port->set.vs.name);
	if (port->nic) {
		request_error(req, RPC_REFUSED, err_data(-EBUSY),
			      "port \"%s\" is a NIC: take it out of the configuration", name);
		return;
	}
	if (port->domain) {
		request_error(req, RPC_REFUSED, err_data(-EBUSY),
			      "port \"%s\" belongs to the libvirt domain \"%s\": take it out of its "
			      "metadata",
			      name, port->set.vm);
		return;
	}
	ret = port_remove(d, port);
	if (ret) {
		request_error(req, RPC_REFUSED, err_data(ret), "port \"%s\" was not deleted: %s",
			      name, strerror(-ret));
		return;
	}
	state_changed(d);
	waits_poll(d);
	event_say_why(d, EVENT_PORT_CHANGED, SD_INFO, NULL, name, "deleted", "port %s deleted",
		      name);
	if (save && saved_port_deleted(d, name, in_file, why)) {
		request_error(req, RPC_REFUSED, err_data(-EIO),
			      "port \"%s\" is deleted, but that was not saved: %s", name, why);
		return;
	}
	request_reply(req, json_pack("{s:s, s:s}", "name", name, "state",
				     port_find(d, name) ? "deleting" : "deleted"));
}

/* ---- NICs ---- */

static bool get_nic(struct request *req, json_t *params, struct port **port)
{
	const char *name;

	if (!get_string(req, params, "name", true, &name))
		return false;
	*port = port_find(req->daemon, name);
	if (*port && (*port)->nic)
		return true;
	request_error(req, RPC_REFUSED, err_data(-ENODEV),
		      "there is no NIC \"%s\": see \"elisactl nic\"", name);
	return false;
}

static void do_nic_list(struct request *req, json_t *params)
{
	request_reply(req, json_pack("{s:o}", "nics", nics_json(req->daemon, NULL)));
}

static void do_nic_show(struct request *req, json_t *params)
{
	struct port *port;

	if (get_nic(req, params, &port))
		request_reply(req, json_pack("{s:o}", "nics",
					     nics_json(req->daemon, port->set.vs.name)));
}

static void do_nic_check(struct request *req, json_t *params)
{
	struct port *port;

	if (get_nic(req, params, &port))
		request_reply(req, nic_check_json(port->nic));
}

/* ---- stats, doctor ---- */

static void do_stats(struct request *req, json_t *params)
{
	struct port *port = NULL;

	if (json_object_get(params, "port") && !get_port(req, params, "port", &port))
		return;
	request_reply(req, stats_json(req->daemon, port ? port->set.vs.name : NULL));
}

static void do_metrics(struct request *req, json_t *params)
{
	bool openmetrics = false;
	char *text;
	size_t len;

	if (!get_bool(req, params, "openmetrics", &openmetrics))
		return;
	text = metrics_text(req->daemon, openmetrics, &len);
	if (text)
		request_reply(req, json_pack("{s:s, s:o}", "type",
					     openmetrics ? METRICS_TYPE_OPENMETRICS
							 : METRICS_TYPE_PROMETHEUS,
					     "text", json_stringn(text, len)));
	else
		request_error(req, RPC_REFUSED, err_data(-ENOMEM), "out of memory");
	free(text);
}

static void do_events_subscribe(struct request *req, json_t *params)
{
	control_subscribe(req);
	request_reply(req, json_object());
}

static void do_doctor(struct request *req, json_t *params)
{
	request_reply(req, doctor_json(req->daemon));
}

/* ---- which ---- */

static const struct method methods[] = {
	{"status", do_status, ""},
	{"attach", do_attach, "pid name ports force "},
	{"detach", do_detach, "name pid wait_ms force "},
	{"vm.define", do_vm_define, "name uuid pid required ports check "},
	{"vm.undefine", do_vm_undefine, "uuid "},
	{"port.list", do_port_list, ""},
	{"port.show", do_port_show, "name "},
	{"port.add", do_port_add, "name save " PORT_JSON_KEYS},
	{"port.set", do_port_set, "name save " PORT_JSON_KEYS},
	{"port.del", do_port_del, "name save "},
	{"fdb.list", do_fdb_list, "port "},
	{"fdb.add", do_fdb_add, "mac vid port save "},
	{"fdb.del", do_fdb_del, "mac vid save "},
	{"fdb.flush", do_fdb_flush, "port "},
	{"mirror.list", do_mirror_list, ""},
	{"mirror.add", do_mirror_add, "port to what snap save "},
	{"mirror.del", do_mirror_del, "port to save "},
	{"nic.list", do_nic_list, ""},
	{"nic.show", do_nic_show, "name "},
	{"nic.check", do_nic_check, "name "},
	{"stats", do_stats, "port "},
	{"doctor", do_doctor, ""},
	{"reload", do_reload, "check "},
	{"saved.show", do_saved_show, ""},
	{"saved.forget", do_saved_forget, "name "},
	{"events.subscribe", do_events_subscribe, ""},
	{"metrics", do_metrics, "openmetrics "},
	{"capture", capture_method, "ports what snap "},
	{"capture.stats", capture_stats_method, ""},
};

static bool param_known(const struct method *m, const char *key)
{
	size_t len = strlen(key);

	for (const char *p = m->params; *p; p = strchr(p, ' ') + 1)
		if (!strncmp(p, key, len) && p[len] == ' ')
			return true;
	return false;
}

void method_call(struct request *req, const char *name, json_t *params)
{
	const struct method *m = NULL;
	const char *key;
	json_t *value;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (!strcmp(methods[i].name, name))
			m = &methods[i];
	if (!m) {
		request_error(req, RPC_METHOD, NULL, "there is no method \"%.64s\"", name);
		return;
	}
	json_object_foreach(params, key, value)
	{
		if (!param_known(m, key)) {
			bad_params(req, "unknown parameter \"%.64s\": known are: %s", key,
				   m->params[0] ? m->params : "none");
			return;
		}
	}
	m->call(req, params);
}
