/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration file. libconfig parses; this file knows which keys there are and what they may
 * be. All errors are shown, not only the first, each with file and line.
 */
#include "config-read.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void complain_at(struct reader *r, const char *file, int line, const char *fmt, ...)
{
	char text[WHY_LEN + 128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->sink->line(r->sink->arg, file ? file : r->path, line, text);
	r->errors++;
}

static const char *type_text(int type)
{
	switch (type) {
	case CONFIG_TYPE_INT:
		return "a number, as in 1500";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_STRING:
		return "text in double quotes";
	case CONFIG_TYPE_GROUP:
		return "a group { ... }";
	default:
		return "a list";
	}
}

bool type_fits(int wanted, const config_setting_t *value)
{
	int type = config_setting_type(value);

	if (wanted == CONFIG_TYPE_INT)
		return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
	if (wanted == CONFIG_TYPE_LIST)
		return type == CONFIG_TYPE_LIST || type == CONFIG_TYPE_ARRAY;
	return type == wanted;
}

static void unknown_key(struct reader *r, config_setting_t *value, const char *where,
			const struct key *keys)
{
	char known[WHY_LEN] = "";
	size_t len = 0;

	for (const struct key *k = keys; k->name && len < sizeof(known); k++)
		len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s",
					k == keys ? "" : ", ", k->name);
	complain(r, value, "%s: unknown key \"%s\": known are %s", where,
		 config_setting_name(value), known);
}

void read_group(struct reader *r, config_setting_t *group, const char *where,
		const struct key *keys, void *target)
{
	int members = config_setting_length(group);

	for (int i = 0; i < members; i++) {
		config_setting_t *value = config_setting_get_elem(group, (unsigned int)i);
		const char *name = config_setting_name(value);
		const struct key *k = keys;

		while (k->name && strcmp(k->name, name))
			k++;
		if (!k->name)
			unknown_key(r, value, where, keys);
		else if (!type_fits(k->type, value))
			complain(r, value, "%s: \"%s\" has the wrong type: it must be %s", where,
				 name, type_text(k->type));
		else if (k->set)
			k->set(r, value, target);
		else
			read_group(r, value, name, k->keys, target);
	}
}

bool number_in(struct reader *r, config_setting_t *value, long long min, long long max,
	       long long *out)
{
	long long n = config_setting_get_int64(value);

	if (n < min || n > max) {
		complain(r, value, "%s: %lld is out of range: use %lld to %lld",
			 config_setting_name(value), n, min, max);
		return false;
	}
	*out = n;
	return true;
}

/* ---- switch, control, local, security ---- */

void set_u32(struct reader *r, config_setting_t *value, long long min, long long max,
	     uint32_t *out)
{
	long long n;

	if (number_in(r, value, min, max, &n))
		*out = (uint32_t)n;
}

static void set_fdb_capacity(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, VS_FDB_MIN, VS_FDB_MAX, &r->s->vs.fdb_capacity);
}

static void set_fdb_age(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 0, 1000000, &r->s->vs.fdb_age_s);
}

static void set_max_ports(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 1, VS_PORTS_MAX, &r->s->vs.ports);
}

static void set_max_vms(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 1, VS_GUESTS_MAX, &r->s->vs.guests);
}

static void set_max_callers(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 1, VS_CALLERS_MAX, &r->s->vs.callers);
}

static void set_bridge_nics(struct reader *r, config_setting_t *value, void *target)
{
	r->s->vs.bridge_nics = config_setting_get_bool(value);
}

const char *const huge_uses[HUGE_USES] = {
	[HUGE_NEVER] = "never", [HUGE_AUTO] = "auto", [HUGE_REQUIRE] = "require"};

static void set_hugepages(struct reader *r, config_setting_t *value, void *target)
{
	const char *name = config_setting_get_string(value);

	for (unsigned int i = 0; i < HUGE_USES; i++) {
		if (!strcmp(huge_uses[i], name)) {
			r->s->hugepages = i;
			return;
		}
	}
	complain(r, value,
		 "hugepages: \"%s\" is not known: use \"never\", \"auto\" or \"require\"", name);
}

static const struct key switch_keys[] = {
	{"fdb_capacity", CONFIG_TYPE_INT, set_fdb_capacity, NULL},
	{"fdb_age", CONFIG_TYPE_INT, set_fdb_age, NULL},
	{"max_ports", CONFIG_TYPE_INT, set_max_ports, NULL},
	{"max_vms", CONFIG_TYPE_INT, set_max_vms, NULL},
	{"max_callers", CONFIG_TYPE_INT, set_max_callers, NULL},
	{"bridge_nics", CONFIG_TYPE_BOOL, set_bridge_nics, NULL},
	{"hugepages", CONFIG_TYPE_STRING, set_hugepages, NULL},
	{0},
};

/* Long enough for sockets, too. */
void set_path(struct reader *r, config_setting_t *value, char **out)
{
	const char *path = config_setting_get_string(value);
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if (path[0] != '/' || strlen(path) > max) {
		complain(r, value,
			 "%s: \"%s\" is not usable: it must be an absolute path of at most "
			 "%zu characters",
			 config_setting_name(value), path, max);
		return;
	}
	free(*out);
	*out = strdup(path);
}

static void set_control_socket(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->control_socket);
}

bool read_gid(struct reader *r, config_setting_t *value, gid_t *gid)
{
	const char *name = config_setting_get_string(value);
	struct group *group = *name ? getgrnam(name) : NULL;

	if (group)
		*gid = group->gr_gid;
	else if (*name)
		complain(r, value,
			 "group: there is no group \"%s\" on this host: create it (groupadd "
			 "--system %s) or leave the key out",
			 name, name);
	return group;
}

static void set_control_group(struct reader *r, config_setting_t *value, void *target)
{
	if (!read_gid(r, value, &r->s->control_gid))
		return;
	free(r->s->control_group);
	r->s->control_group = strdup(config_setting_get_string(value));
}

static const struct key control_keys[] = {
	{"socket", CONFIG_TYPE_STRING, set_control_socket, NULL},
	{"group", CONFIG_TYPE_STRING, set_control_group, NULL},
	{0},
};

static void set_local_enable(struct reader *r, config_setting_t *value, void *target)
{
	r->s->local_enable = config_setting_get_bool(value);
}

static void set_local_socket(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->local_socket);
}

static const struct key local_keys[] = {
	{"enable", CONFIG_TYPE_BOOL, set_local_enable, NULL},
	{"socket", CONFIG_TYPE_STRING, set_local_socket, NULL},
	{0},
};

static void set_bell_enable(struct reader *r, config_setting_t *value, void *target)
{
	r->s->bell_enable = config_setting_get_bool(value);
}

static void set_bell_socket(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->bell_socket);
}

static void set_bell_group(struct reader *r, config_setting_t *value, void *target)
{
	read_gid(r, value, &r->s->bell_gid);
}

static void set_bell_vectors(struct reader *r, config_setting_t *value, void *target)
{
	set_u32(r, value, 1, BELL_VECTORS_MAX, &r->s->bell_vectors);
}

static const struct key doorbell_keys[] = {
	{"enable", CONFIG_TYPE_BOOL, set_bell_enable, NULL},
	{"socket", CONFIG_TYPE_STRING, set_bell_socket, NULL},
	{"group", CONFIG_TYPE_STRING, set_bell_group, NULL},
	{"vectors", CONFIG_TYPE_INT, set_bell_vectors, NULL},
	{0},
};

static void set_force(struct reader *r, config_setting_t *value, void *target)
{
	r->s->force_cpu = config_setting_get_bool(value);
}

static const struct key security_keys[] = {
	{"force_vulnerable_cpu", CONFIG_TYPE_BOOL, set_force, NULL},
	{0},
};

/* ---- ports ---- */

static void checked(struct reader *r, config_setting_t *value, int ret, const char *why)
{
	if (ret)
		complain(r, value, "%s: %s", config_setting_name(value), why);
}

void set_port_name(struct reader *r, config_setting_t *value, void *target)
{
	/* done first, see item_port_name() */
}

static void set_port_mac(struct reader *r, config_setting_t *value, void *target)
{
	struct port_setting *port = target;
	char why[WHY_LEN];

	checked(r, value, parse_mac(config_setting_get_string(value), port->vs.mac, why), why);
}

void set_port_mtu(struct reader *r, config_setting_t *value, void *target)
{
	char why[WHY_LEN];

	checked(r, value, port_setting_mtu(target, config_setting_get_int64(value), why), why);
}

void set_port_queues(struct reader *r, config_setting_t *value, void *target)
{
	char why[WHY_LEN];

	checked(r, value, port_setting_queues(target, config_setting_get_int64(value), why), why);
}

static void set_port_spoof(struct reader *r, config_setting_t *value, void *target)
{
	((struct port_setting *)target)->vs.anti_spoof = config_setting_get_bool(value);
}

void set_port_up(struct reader *r, config_setting_t *value, void *target)
{
	((struct port_setting *)target)->vs.up = config_setting_get_bool(value);
}

void set_port_groups(struct reader *r, config_setting_t *value, void *target)
{
	struct port_setting *port = target;
	int n = config_setting_length(value);
	uint64_t groups = 0;
	char why[WHY_LEN];

	for (int i = 0; i < n; i++) {
		config_setting_t *e = config_setting_get_elem(value, (unsigned int)i);

		if (!type_fits(CONFIG_TYPE_INT, e)) {
			complain(r, value, "groups: must be numbers, as in [0, 3]");
			return;
		}
		checked(r, value, port_setting_group(&groups, config_setting_get_int64(e), why),
			why);
	}
	if (!n)
		complain(r, value,
			 "groups: empty, this port could reach nobody: use [0], or up = false");
	port->vs.groups = groups;
}

static void set_port_transport(struct reader *r, config_setting_t *value, void *target)
{
	char why[WHY_LEN];

	checked(r, value, port_setting_transport(target, config_setting_get_string(value), why),
		why);
}

static void set_port_vm(struct reader *r, config_setting_t *value, void *target)
{
	char why[WHY_LEN];

	checked(r, value, port_setting_vm(target, config_setting_get_string(value), why), why);
}

static void set_port_uplink(struct reader *r, config_setting_t *value, void *target)
{
	struct port_setting *port = target;

	/* Whether there is such a NIC: see check_uplinks(). */
	snprintf(port->uplink, sizeof(port->uplink), "%s", config_setting_get_string(value));
}

static const struct key port_keys[] = {
	{"name", CONFIG_TYPE_STRING, set_port_name, NULL},
	{"vm", CONFIG_TYPE_STRING, set_port_vm, NULL},
	{"transport", CONFIG_TYPE_STRING, set_port_transport, NULL},
	{"mac", CONFIG_TYPE_STRING, set_port_mac, NULL},
	{"mtu", CONFIG_TYPE_INT, set_port_mtu, NULL},
	{"queues", CONFIG_TYPE_INT, set_port_queues, NULL},
	{"anti_spoof", CONFIG_TYPE_BOOL, set_port_spoof, NULL},
	{"groups", CONFIG_TYPE_LIST, set_port_groups, NULL},
	{"up", CONFIG_TYPE_BOOL, set_port_up, NULL},
	{"uplink", CONFIG_TYPE_STRING, set_port_uplink, NULL},
	PORT_GROUP_KEYS,
	{0},
};

/* The members of a list must be groups with a string `key`; NULL after a complaint. */
static const char *item_name(struct reader *r, config_setting_t *item, const char *where,
			     const char *key)
{
	const char *name = NULL;

	if (config_setting_type(item) != CONFIG_TYPE_GROUP)
		complain(r, item, "%s: every member must be a group { ... }", where);
	else if (!config_setting_lookup_string(item, key, &name))
		complain(r, item, "%s: this member has no \"%s\": add %s = \"...\"", where, key,
			 key);
	return name;
}

const char *item_port_name(struct reader *r, config_setting_t *item, const char *where)
{
	const char *name = item_name(r, item, where, "name");
	char why[WHY_LEN];

	if (!name || !check_name("port", name, why))
		return name;
	complain(r, config_setting_get_member(item, "name"), "name: %s", why);
	return NULL;
}

static void check_port_unique(struct reader *r, config_setting_t *item,
			      const struct port_setting *port)
{
	char mac[18];
	unsigned int of_vm = 1;

	if (nic_setting_find(r->s, port->vs.name))
		complain(r, item,
			 "ports: \"%s\" is a NIC already: give each port and NIC a name of its own",
			 port->vs.name);
	for (size_t i = 0; i < r->s->port_count; i++) {
		const struct port_setting *o = &r->s->ports[i];

		if (!strcmp(o->vs.name, port->vs.name))
			complain(r, item,
				 "ports: \"%s\" is there twice: give each port a name of its own",
				 port->vs.name);
		else if (!memcmp(o->vs.mac, port->vs.mac, 6)) {
			format_mac(port->vs.mac, mac);
			complain(r, item,
				 "ports: \"%s\" has the MAC address %s of \"%s\": set another",
				 port->vs.name, mac, o->vs.name);
		}
		if (port->vm[0] && !strcmp(o->vm, port->vm) && strcmp(port->vm, CONFIG_VM_LOCAL))
			of_vm++;
	}
	if (of_vm > ELISA_PORTS_PER_VM)
		complain(r, item,
			 "ports: \"%s\" is port number %u of VM \"%s\": at most %d are possible",
			 port->vs.name, of_vm, port->vm, ELISA_PORTS_PER_VM);
}

static void add_port(struct reader *r, config_setting_t *item)
{
	const char *name = item_port_name(r, item, "ports");
	struct port_setting port, *ports;

	if (!name)
		return;
	port_setting_default(&port, name);
	read_group(r, item, "ports", port_keys, &port);
	if (!strcmp(port.vm, CONFIG_VM_LOCAL))
		port.local = true;
	check_port_unique(r, item, &port);
	check_port_groups(r, item, &port);
	ports = reallocarray(r->s->ports, r->s->port_count + 1, sizeof(*ports));
	if (!ports) {
		complain(r, item, "out of memory");
		return;
	}
	r->s->ports = ports;
	ports[r->s->port_count++] = port;
}

static void set_ports(struct reader *r, config_setting_t *list, void *target)
{
	for (int i = 0; i < config_setting_length(list); i++)
		add_port(r, config_setting_get_elem(list, (unsigned int)i));
}

/* ---- vms ---- */

static void set_vm_name(struct reader *r, config_setting_t *value, void *target)
{
	struct vm_setting *vm = target;
	const char *name = config_setting_get_string(value);
	char why[WHY_LEN];

	if (check_name("VM", name, why))
		complain(r, value, "name: %s", why);
	else if (!strcmp(name, CONFIG_VM_LOCAL))
		complain(r, value,
			 "name: \"local\" stands for processes of this host: take another");
	snprintf(vm->name, sizeof(vm->name), "%s", name);
}

static void set_vm_pid_file(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &((struct vm_setting *)target)->pid_file);
}

static void set_vm_auto(struct reader *r, config_setting_t *value, void *target)
{
	((struct vm_setting *)target)->auto_attach = config_setting_get_bool(value);
}

static void set_vm_force(struct reader *r, config_setting_t *value, void *target)
{
	((struct vm_setting *)target)->force_cpu = config_setting_get_bool(value);
}

static const struct key vm_keys[] = {
	{"name", CONFIG_TYPE_STRING, set_vm_name, NULL},
	{"pid_file", CONFIG_TYPE_STRING, set_vm_pid_file, NULL},
	{"auto_attach", CONFIG_TYPE_BOOL, set_vm_auto, NULL},
	{"force_vulnerable_cpu", CONFIG_TYPE_BOOL, set_vm_force, NULL},
	{0},
};

static void add_vm(struct reader *r, config_setting_t *item)
{
	struct vm_setting vm = {.auto_attach = true}, *vms;

	if (!item_name(r, item, "vms", "name"))
		return;
	read_group(r, item, "vms", vm_keys, &vm);
	for (size_t i = 0; i < r->s->vm_count; i++)
		if (!strcmp(r->s->vms[i].name, vm.name))
			complain(r, item,
				 "vms: \"%s\" is there twice: give each VM a name of its own",
				 vm.name);
	vms = reallocarray(r->s->vms, r->s->vm_count + 1, sizeof(*vms));
	if (!vms) {
		complain(r, item, "out of memory");
		free(vm.pid_file);
		return;
	}
	r->s->vms = vms;
	vms[r->s->vm_count++] = vm;
}

static void set_vms(struct reader *r, config_setting_t *list, void *target)
{
	for (int i = 0; i < config_setting_length(list); i++)
		add_vm(r, config_setting_get_elem(list, (unsigned int)i));
}

/* ---- static addresses ---- */

static void set_fdb_mac(struct reader *r, config_setting_t *value, void *target)
{
	struct fdb_setting *fdb = target;
	char why[WHY_LEN];

	checked(r, value, parse_mac(config_setting_get_string(value), fdb->mac, why), why);
}

static void set_fdb_vid(struct reader *r, config_setting_t *value, void *target)
{
	long long n;

	if (number_in(r, value, 1, VS_VID_MAX, &n))
		((struct fdb_setting *)target)->vid = (uint16_t)n;
}

static void set_fdb_port(struct reader *r, config_setting_t *value, void *target)
{
	struct fdb_setting *fdb = target;
	const char *name = config_setting_get_string(value);

	for (size_t i = 0; i < r->s->port_count; i++) {
		if (!strcmp(r->s->ports[i].vs.name, name)) {
			snprintf(fdb->port, sizeof(fdb->port), "%s", name);
			return;
		}
	}
	if (nic_setting_find(r->s, name)) {
		snprintf(fdb->port, sizeof(fdb->port), "%s", name);
		return;
	}
	complain(r, value, "port: there is no port \"%s\": name one of `ports` or `nics`", name);
}

static const struct key fdb_keys[] = {
	{"mac", CONFIG_TYPE_STRING, set_fdb_mac, NULL},
	{"port", CONFIG_TYPE_STRING, set_fdb_port, NULL},
	{"vid", CONFIG_TYPE_INT, set_fdb_vid, NULL},
	{0},
};

static void add_fdb(struct reader *r, config_setting_t *item)
{
	struct fdb_setting fdb = {.port = ""}, *all;
	unsigned int before = r->errors;

	if (!item_name(r, item, "fdb", "mac") || !item_name(r, item, "fdb", "port"))
		return;
	read_group(r, item, "fdb", fdb_keys, &fdb);
	for (size_t i = 0; i < r->s->fdb_count && before == r->errors; i++)
		if (!memcmp(r->s->fdb[i].mac, fdb.mac, 6) && r->s->fdb[i].vid == fdb.vid)
			complain(r, item, "fdb: this address is there twice: keep one");
	all = reallocarray(r->s->fdb, r->s->fdb_count + 1, sizeof(*all));
	if (!all) {
		complain(r, item, "out of memory");
		return;
	}
	r->s->fdb = all;
	all[r->s->fdb_count++] = fdb;
}

/* What names ports comes after them, wherever it stands: see read_all(). */
static void set_later(struct reader *r, config_setting_t *list, void *target)
{
}

/* ---- the file ---- */

static void set_state_dir(struct reader *r, config_setting_t *value, void *target)
{
	set_path(r, value, &r->s->state_dir);
}

static const struct key top_keys[] = {
	{"switch", CONFIG_TYPE_GROUP, NULL, switch_keys},
	{"control", CONFIG_TYPE_GROUP, NULL, control_keys},
	{"local", CONFIG_TYPE_GROUP, NULL, local_keys},
	{"doorbell", CONFIG_TYPE_GROUP, NULL, doorbell_keys},
	{"security", CONFIG_TYPE_GROUP, NULL, security_keys},
	{"ports", CONFIG_TYPE_LIST, set_ports, port_keys},
	{"nics", CONFIG_TYPE_LIST, set_nics, nic_keys},
	{"dpdk", CONFIG_TYPE_GROUP, NULL, dpdk_keys},
	{"vms", CONFIG_TYPE_LIST, set_vms, vm_keys},
	{"fdb", CONFIG_TYPE_LIST, set_later, fdb_keys},
	{"mirrors", CONFIG_TYPE_LIST, set_later, mirror_keys},
	{"metrics", CONFIG_TYPE_GROUP, NULL, metrics_keys},
	{"state_dir", CONFIG_TYPE_STRING, set_state_dir, NULL},
	{0},
};

static void keys_print(FILE *out, const char *before, const struct key *keys)
{
	char *inside;

	for (const struct key *k = keys; k->name; k++) {
		if (!k->keys)
			fprintf(out, "%s%s\n", before, k->name);
		else if (asprintf(&inside, "%s%s.", before, k->name) >= 0) {
			keys_print(out, inside, k->keys);
			free(inside);
		}
	}
}

void settings_keys(FILE *out)
{
	keys_print(out, "", top_keys);
}

static int settings_default(struct settings *s, const char *run_dir)
{
	*s = (struct settings){
		.vs = {.ports = 256,
		       .guests = 64,
		       .callers = 512,
		       .fdb_capacity = 65536,
		       .fdb_age_s = 300},
		.control_gid = (gid_t)-1,
		.bell_enable = true,
		.bell_gid = (gid_t)-1,
		.bell_vectors = 8,
		.dpdk = {.huge = true, .library = strdup("libvswitch-nic.so.0")},
	};
	if (asprintf(&s->control_socket, "%s/control.sock", run_dir) < 0)
		s->control_socket = NULL;
	s->state_dir = strdup(strcmp(run_dir, CONFIG_DEFAULT_RUN_DIR) ? run_dir
								      : CONFIG_DEFAULT_STATE_DIR);
	if (asprintf(&s->local_socket, "%s/local.sock", run_dir) < 0)
		s->local_socket = NULL;
	if (asprintf(&s->bell_socket, "%s/doorbell.sock", run_dir) < 0)
		s->bell_socket = NULL;
	if (metrics_settings_default(s, run_dir))
		return -ENOMEM;
	return s->control_socket && s->local_socket && s->bell_socket && s->dpdk.library &&
			       s->state_dir
		       ? 0
		       : -ENOMEM;
}

static void check_uplinks(struct reader *r, config_setting_t *ports)
{
	for (int i = 0; ports && i < config_setting_length(ports); i++) {
		config_setting_t *item = config_setting_get_elem(ports, (unsigned int)i);
		const char *name = NULL;

		if (config_setting_type(item) != CONFIG_TYPE_GROUP ||
		    !config_setting_lookup_string(item, "uplink", &name) ||
		    nic_setting_find(r->s, name))
			continue;
		complain(r, config_setting_get_member(item, "uplink"),
			 "uplink: there is no NIC \"%s\": name one of `nics`", name);
	}
}

static void check_whole(struct reader *r, config_t *cfg)
{
	config_setting_t *root = config_root_setting(cfg);
	config_setting_t *ports = config_lookup(cfg, "ports"), *vms = config_lookup(cfg, "vms");
	size_t count = r->s->port_count + r->s->nic_count;

	if (count > r->s->vs.ports)
		complain(r, ports ? ports : root,
			 "ports: %zu of them%s, but switch.max_ports is %u: raise it", count,
			 r->s->nic_count ? " with the NICs" : "", r->s->vs.ports);
	check_uplinks(r, ports);
	if (r->s->vm_count > r->s->vs.guests)
		complain(r, vms ? vms : root,
			 "vms: %zu of them, but switch.max_vms is %u: raise it", r->s->vm_count,
			 r->s->vs.guests);
	if (!strcmp(r->s->control_socket, r->s->local_socket))
		complain(r, root,
			 "control.socket and local.socket are both \"%s\": they must differ",
			 r->s->local_socket);
	if (!strcmp(r->s->bell_socket, r->s->control_socket) ||
	    !strcmp(r->s->bell_socket, r->s->local_socket))
		complain(r, root,
			 "doorbell.socket is \"%s\", as another socket is: they must differ",
			 r->s->bell_socket);
	metrics_settings_check(r, root);
	for (size_t i = 0; i < r->s->port_count; i++)
		if (r->s->ports[i].local && !r->s->local_enable)
			complain(r, ports,
				 "ports: \"%s\" is for local clients, but local.enable is not "
				 "true",
				 r->s->ports[i].vs.name);
}

/*
 * NICs, captures and the watchdog are guests and callers of libvswitch, besides those that the file
 * speaks of.
 */
static void add_for_others(struct settings *s)
{
	uint32_t more = (uint32_t)s->nic_count + CAPTURES_MAX + 1;
	uint32_t guests = s->vs.guests + more, callers = s->vs.callers + more;
	uint32_t ports = s->vs.ports + CAPTURES_MAX + WATCHDOG_PORTS;

	s->max_ports = s->vs.ports;
	s->max_vms = s->vs.guests;
	s->max_callers = s->vs.callers;
	s->vs.ports = ports < VS_PORTS_MAX ? ports : VS_PORTS_MAX;
	s->vs.guests = guests < VS_GUESTS_MAX ? guests : VS_GUESTS_MAX;
	s->vs.callers = callers < VS_CALLERS_MAX ? callers : VS_CALLERS_MAX;
}

/* A regular file only: the parser ends the process when it cannot read. */
static int file_open(struct reader *r, FILE **f)
{
	int fd = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), ret = -errno;
	struct stat st;

	if (fd < 0) {
		complain_at(r, NULL, 0,
			    "%s: write one (conf/vswitchd.conf is a sample) or name another with "
			    "--config",
			    strerror(-ret));
		return ret;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		complain_at(r, NULL, 0, "not a regular file: name another with --config");
		close(fd);
		return -EINVAL;
	}
	*f = fdopen(fd, "re");
	return *f ? 0 : -ENOMEM;
}

static void read_all(struct reader *r, config_t *cfg)
{
	config_setting_t *fdb;

	read_group(r, config_root_setting(cfg), "top level", top_keys, NULL);
	fdb = config_lookup(cfg, "fdb");
	for (int i = 0; fdb && i < config_setting_length(fdb); i++)
		add_fdb(r, config_setting_get_elem(fdb, (unsigned int)i));
	read_mirrors(r, config_lookup(cfg, "mirrors"));
	check_whole(r, cfg);
	add_for_others(r->s);
}

int settings_read(struct settings *s, const char *path, const char *run_dir,
		  const struct sink *sink)
{
	struct reader r = {.s = s, .path = path, .sink = sink};
	char folder[PATH_MAX];
	FILE *f = NULL;
	config_t cfg;
	int ret = settings_default(s, run_dir);

	if (ret)
		return ret;
	config_init(&cfg);
	/* What @include names is beside the file that does. */
	snprintf(folder, sizeof(folder), "%s", path);
	config_set_include_dir(&cfg, dirname(folder));
	ret = file_open(&r, &f);
	if (!ret)
		ret = text_check(&r);
	if (ret)
		goto out;
	if (config_read(&cfg, f))
		read_all(&r, &cfg);
	else
		complain_at(&r, config_error_file(&cfg), config_error_line(&cfg), "%s",
			    config_error_text(&cfg));
	ret = r.errors ? -EINVAL : saved_overlay(s, sink);
out:
	if (f)
		fclose(f);
	config_destroy(&cfg);
	return ret;
}

void settings_free(struct settings *s)
{
	for (size_t i = 0; i < s->vm_count; i++)
		free(s->vms[i].pid_file);
	free(s->vms);
	free(s->ports);
	nic_settings_free(s);
	free(s->fdb);
	free(s->mirrors);
	free(s->state_dir);
	free(s->control_socket);
	free(s->control_group);
	free(s->local_socket);
	free(s->bell_socket);
	metrics_settings_free(s);
	*s = (struct settings){0};
}
