/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VMs that libvirt starts and stops: vm.define and vm.undefine, which its hook calls. A domain
 * brings its ports along and takes them away; what it is stands in RUN_DIR/domains/UUID.json, so
 * that a restarted daemon knows it, also when the hook found no daemon and wrote that file itself.
 */
#include "daemon.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOMAIN_PORTS_MAX ELISA_PORTS_PER_VM
#define DEFINE_WAIT_MS	 1500 /* for its attach: the hook, and libvirt behind it, wait */

struct domain {
	TAILQ_ENTRY(domain) link;
	char uuid[37];
	struct vm_setting vm; /* of its guest, unless the configuration has one */
	json_t *json;	      /* as it was defined, with pid_start */
	bool waiting;	      /* for the end of former ports */
};

/* A definition that was read. */
struct definition {
	char uuid[37];
	struct vm_setting vm;
	struct port_setting ports[DOMAIN_PORTS_MAX];
	size_t count;
};

const struct vm_setting *domain_vm(const struct domain *dom)
{
	return &dom->vm;
}

const char *domain_uuid(const struct domain *dom)
{
	return dom->uuid;
}

/* ---- reading ---- */

static int read_uuid(const char *text, char uuid[37], char why[WHY_LEN])
{
	size_t len = strlen(text);
	bool good = len == 36;

	for (size_t i = 0; good && i < len; i++)
		good = i == 8 || i == 13 || i == 18 || i == 23
			       ? text[i] == '-'
			       : !!strchr("0123456789abcdef", text[i]);
	if (!good) {
		snprintf(why, WHY_LEN, "\"%.40s\" is not a UUID, in small letters as libvirt's",
			 text);
		return -EINVAL;
	}
	memcpy(uuid, text, 37);
	return 0;
}

static bool key_known(const char *key)
{
	size_t len = strlen(key);

	for (const char *p = "name " PORT_JSON_KEYS; *p; p = strchr(p, ' ') + 1)
		if (!strncmp(p, key, len) && p[len] == ' ')
			return strcmp(key, "vm") && strcmp(key, "transport");
	return false;
}

/* One port; without a name it is called as its VM, with a number behind. */
static int read_port(struct daemon *d, struct definition *def, json_t *json, char why[WHY_LEN])
{
	struct port_setting *set = &def->ports[def->count];
	json_t *given = json_object_get(json, "name"), *value;
	char name[VS_NAME_LEN + 16], text[WHY_LEN - 64];
	const char *key;

	snprintf(name, sizeof(name), "%.*s-%zu", VS_NAME_LEN - 1, def->vm.name, def->count);
	if (json_is_string(given))
		snprintf(name, sizeof(name), "%s", json_string_value(given));
	if (!json_is_object(json) || (given && !json_is_string(given))) {
		snprintf(why, WHY_LEN, "a port must be an object, its \"name\" text");
		return -EINVAL;
	}
	if (check_name("port", name, why))
		return -EINVAL;
	json_object_foreach(json, key, value)
	{
		if (key_known(key))
			continue;
		snprintf(why, WHY_LEN, "port \"%s\": unknown: \"%.40s\"", name, key);
		return -EINVAL;
	}
	port_setting_default(set, name);
	if (port_json_read(&d->set, json, set, why)) {
		snprintf(text, sizeof(text), "%s", why);
		snprintf(why, WHY_LEN, "port \"%s\": %s", name, text);
		return -EINVAL;
	}
	snprintf(set->vm, sizeof(set->vm), "%s", def->vm.name);
	def->count++;
	return 0;
}

/* The process: alive, and the same as when the file was written. */
static int read_process(struct definition *def, int pid, json_int_t start, char why[WHY_LEN])
{
	char *line;
	bool its;

	if (!pid)
		return 0;
	def->vm.pid = pid;
	def->vm.pid_start = proc_start(pid);
	if (!def->vm.pid_start || (start > 0 && def->vm.pid_start != (uint64_t)start)) {
		snprintf(why, WHY_LEN, "process %d does not run", pid);
		return -ESRCH;
	}
	if (start >= 0)
		return 0;
	/* Written by the hook: libvirt tells QEMU the UUID. */
	line = proc_cmdline(pid);
	its = line && strstr(line, def->uuid);
	free(line);
	if (its)
		return 0;
	snprintf(why, WHY_LEN, "process %d is not its QEMU", pid);
	return -ESRCH;
}

static int read_definition(struct daemon *d, json_t *json, struct definition *def,
			   char why[WHY_LEN])
{
	const char *name, *uuid;
	json_t *ports = NULL, *port;
	json_int_t start = 0;
	int pid = 0, required;
	json_error_t error;
	size_t i;

	memset(def, 0, sizeof(*def));
	if (json_unpack_ex(json, &error, 0, "{s:s, s:s, s?i, s?I, s?b, s?o}", "name", &name,
			   "uuid", &uuid, "pid", &pid, "pid_start", &start, "required", &required,
			   "ports", &ports) ||
	    (ports && !json_is_array(ports)) || pid < 0) {
		snprintf(why, WHY_LEN,
			 "a domain has \"name\" and \"uuid\", text, and may have \"pid\", a "
			 "number, \"ports\", an array, and \"required\", true or false");
		return -EINVAL;
	}
	if (check_name("VM", name, why) || read_uuid(uuid, def->uuid, why))
		return -EINVAL;
	snprintf(def->vm.name, sizeof(def->vm.name), "%s", name);
	def->vm.auto_attach = true;
	if (!strcmp(name, CONFIG_VM_LOCAL) || json_array_size(ports) > DOMAIN_PORTS_MAX) {
		snprintf(why, WHY_LEN, "%s",
			 strcmp(name, CONFIG_VM_LOCAL)
				 ? "a VM has 8 ports at most"
				 : "\"local\" stands for processes of this host: take another name");
		return -EINVAL;
	}
	json_array_foreach(ports, i, port) if (read_port(d, def, port, why)) return -EINVAL;
	return read_process(def, pid, start, why);
}

/* ---- what is in its way ---- */

static struct domain *domain_find(struct daemon *d, const char *uuid)
{
	struct domain *dom;

	TAILQ_FOREACH(dom, &d->domains, link)
	if (!strcmp(dom->uuid, uuid))
		return dom;
	return NULL;
}

static struct guest *domain_guest(struct daemon *d, const char *name)
{
	struct guest *g = guest_find(d, name);

	return g && !g->local ? g : NULL;
}

static int clash(const struct port_setting *set, const char *other, bool name, char why[WHY_LEN])
{
	char mac[18];

	format_mac(set->vs.mac, mac);
	if (name)
		snprintf(why, WHY_LEN, "there is a port \"%s\" already: take another name", other);
	else
		snprintf(why, WHY_LEN,
			 "port \"%s\": the MAC address %s is that of port \"%s\": give another",
			 set->vs.name, mac, other);
	return -EEXIST;
}

/* -EAGAIN: only ports that are about to go. */
static int check_port(struct daemon *d, const struct domain *dom, const struct port_setting *set,
		      char why[WHY_LEN])
{
	struct port *port;
	int ret = 0;

	TAILQ_FOREACH(port, &d->ports, link)
	{
		bool name = !strcmp(port->set.vs.name, set->vs.name);
		bool own = name && dom && port->domain == dom && !port->deleting;

		if (own && port->set.vs.queues != set->vs.queues) {
			snprintf(why, WHY_LEN,
				 "port \"%s\": the number of queues cannot change while the VM "
				 "runs: it is %d",
				 set->vs.name, port->set.vs.queues);
			return -EBUSY;
		}
		if (own || (!name && memcmp(port->set.vs.mac, set->vs.mac, 6)))
			continue;
		if (!port->deleting)
			return clash(set, port->set.vs.name, name, why);
		ret = -EAGAIN;
	}
	return ret;
}

/* Ports that it has make room for others. */
static int check_room(struct daemon *d, const struct domain *dom, const struct definition *def,
		      char why[WHY_LEN])
{
	size_t room = ports_room(d);
	struct port *port;

	TAILQ_FOREACH(port, &d->ports, link)
	room += dom && port->domain == dom && !port->deleting;
	if (def->count <= room)
		return 0;
	snprintf(why, WHY_LEN, "no room for %zu ports, only for %zu: raise switch.max_ports",
		 def->count, room);
	return -ENOSPC;
}

/* All of it, so that nothing is left half done afterwards. */
static int check_definition(struct daemon *d, const struct domain *dom,
			    const struct definition *def, char why[WHY_LEN])
{
	struct guest *g = domain_guest(d, def->vm.name);
	int ret = 0, one;

	if (g && g->domain && g->domain != dom) {
		snprintf(why, WHY_LEN, "VM \"%s\" is the domain %s already: give this one another "
			 "name in its metadata", def->vm.name, g->domain->uuid);
		return -EEXIST;
	}
	for (size_t i = 0; i < def->count; i++) {
		const struct port_setting *set = &def->ports[i];

		for (size_t k = 0; k < i; k++) {
			const struct port_setting *other = &def->ports[k];
			bool name = !strcmp(other->vs.name, set->vs.name);

			if (name || !memcmp(other->vs.mac, set->vs.mac, 6))
				return clash(set, other->vs.name, name, why);
		}
		one = check_port(d, dom, set, why);
		if (one && one != -EAGAIN)
			return one;
		ret = one ? one : ret;
	}
	one = check_room(d, dom, def, why);
	return one ? one : ret;
}

/* ---- its ports ---- */

static void ports_remove(struct daemon *d, struct domain *dom, const struct definition *but)
{
	struct port *port, *next;
	int ret;

	FOREACH_SAFE(port, &d->ports, link, next)
	{
		bool stays = false;

		for (size_t i = 0; but && i < but->count; i++)
			stays |= !strcmp(but->ports[i].vs.name, port->set.vs.name);
		if (port->domain != dom || port->deleting || stays)
			continue;
		port->domain = NULL;
		ret = port_remove(d, port);
		if (ret)
			log_error("port %s: not deleted: %s", port->set.vs.name, strerror(-ret));
	}
}

/* To be called when check_definition() found nothing. -EAGAIN: some have to wait for former ones. */
static int ports_apply(struct daemon *d, struct domain *dom, const struct definition *def,
		       char why[WHY_LEN])
{
	struct port *port;
	int ret = 0;

	ports_remove(d, dom, def);
	for (size_t i = 0; i < def->count && !ret; i++) {
		const struct port_setting *set = &def->ports[i];

		port = port_find(d, set->vs.name);
		if (port) {
			/* Of the domain by its former name, perhaps. */
			ret = port->deleting ? -EAGAIN : port_change(d, port, set, why);
			continue;
		}
		ret = port_create(d, set, true, &port, why);
		if (!ret)
			port->domain = dom;
	}
	ports_changed(d);
	return ret;
}

/* ---- its file ---- */

static char *domain_path(struct daemon *d, const char *uuid)
{
	char *path;

	return asprintf(&path, "%s/domains/%s.json", d->run_dir, uuid) < 0 ? NULL : path;
}

static void domain_save(struct daemon *d, struct domain *dom)
{
	char *path = domain_path(d, dom->uuid);
	int ret = path ? json_replace(path, dom->json, false) : -ENOMEM;

	if (ret)
		log_error("domain %s: %s was not written: %s: a restarted daemon would not know it",
			  dom->vm.name, path ? path : "its file", strerror(-ret));
	free(path);
}

static void domain_unsave(struct daemon *d, const char *uuid)
{
	char *path = domain_path(d, uuid);

	if (path)
		unlink(path);
	free(path);
}

/* ---- define ---- */

static void domain_free(struct daemon *d, struct domain *dom)
{
	TAILQ_REMOVE(&d->domains, dom, link);
	json_decref(dom->json);
	free(dom);
}

/* Its file stays. */
static void domain_remove(struct daemon *d, struct domain *dom)
{
	struct guest *g = domain_guest(d, dom->vm.name);

	if (g && g->domain == dom) {
		g->domain = NULL;
		if (g->setting == &dom->vm) {
			g->setting = NULL;
			vm_detach(g);
		}
	}
	ports_remove(d, dom, NULL);
	domain_free(d, dom);
}

/* The guest of a domain, which is attached as soon as its process is known. */
static struct guest *guest_adopt(struct daemon *d, struct domain *dom)
{
	struct guest *g = domain_guest(d, dom->vm.name);
	bool news;

	if (!g) {
		g = guest_new(d, dom->vm.name, false);
		if (!g)
			return NULL;
		g->state = GUEST_WAITING;
	}
	/* One that is the same as before may be held, or was killed: it stays so. */
	news = g->domain != dom || g->pid != dom->vm.pid || g->pid_start != dom->vm.pid_start;
	g->domain = dom;
	if (!g->setting)
		g->setting = &dom->vm;
	if (!news)
		return g;
	g->wanted = true;
	g->held = false;
	g->tries = 0;
	if (g->state != GUEST_WAITING && g->state != GUEST_DETACHED)
		return g;
	g->state = GUEST_WAITING;
	memset(&g->killed, 0, sizeof(g->killed));
	g->pid = dom->vm.pid;
	g->pid_start = dom->vm.pid_start;
	g->next_try = now_us();
	work_soon(d, 0);
	return g;
}

/* Ports that came late, too. */
static void guest_ports(struct guest *g)
{
	if (g->state == GUEST_ATTACHED && guest_ports_bind(g))
		g->note[0] = '\0';
}

/* Takes a definition on, anew or again. -EAGAIN: its ports come later. */
static int domain_define(struct daemon *d, struct definition *def, json_t *json,
			 struct guest **guest, char why[WHY_LEN])
{
	struct domain *dom = domain_find(d, def->uuid);
	int ret = check_definition(d, dom, def, why);

	if (ret && ret != -EAGAIN)
		return ret;
	if (dom && strcmp(dom->vm.name, def->vm.name)) {
		domain_remove(d, dom);
		dom = NULL;
	}
	if (!dom) {
		dom = calloc(1, sizeof(*dom));
		if (!dom) {
			snprintf(why, WHY_LEN, "out of memory");
			return -ENOMEM;
		}
		memcpy(dom->uuid, def->uuid, sizeof(dom->uuid));
		TAILQ_INSERT_TAIL(&d->domains, dom, link);
	}
	dom->waiting = ret == -EAGAIN;
	dom->vm = def->vm;
	json_decref(dom->json);
	dom->json = json_deep_copy(json);
	json_object_set_new(dom->json, "pid_start", json_integer((json_int_t)def->vm.pid_start));
	ret = dom->waiting ? 0 : ports_apply(d, dom, def, why);
	dom->waiting |= ret == -EAGAIN;
	if (ret && ret != -EAGAIN) {
		domain_remove(d, dom);
		return ret;
	}
	domain_save(d, dom);
	*guest = guest_adopt(d, dom);
	if (*guest)
		guest_ports(*guest);
	log_info("domain %s (%s): defined, %zu ports%s", dom->vm.name, dom->uuid, def->count,
		 dom->waiting ? ", which come when former ones are gone" : "");
	return 0;
}

void domains_work(struct daemon *d)
{
	struct definition def;
	struct domain *dom;
	struct guest *g;
	char why[WHY_LEN];
	int ret;

	TAILQ_FOREACH(dom, &d->domains, link)
	{
		if (!dom->waiting)
			continue;
		ret = read_definition(d, dom->json, &def, why);
		if (!ret)
			ret = check_definition(d, dom, &def, why);
		if (ret == -EAGAIN)
			continue;
		if (!ret)
			ret = ports_apply(d, dom, &def, why);
		dom->waiting = ret == -EAGAIN;
		if (dom->waiting)
			continue;
		g = domain_guest(d, dom->vm.name);
		if (ret)
			log_warning("domain %s: without ports: %s", dom->vm.name, why);
		else if (g)
			guest_ports(g);
	}
}

/* ---- at start ---- */

static void load_one(struct daemon *d, const char *file)
{
	char path[4096], why[WHY_LEN];
	struct definition def;
	json_error_t error;
	struct guest *g;
	json_t *json;
	int ret;

	snprintf(path, sizeof(path), "%s/domains/%s", d->run_dir, file);
	json = json_load_file(path, 0, &error);
	if (!json) {
		log_warning("%s:%d: %s: this domain is not known", path, error.line, error.text);
		return;
	}
	if (!json_object_get(json, "pid_start"))
		json_object_set_new(json, "pid_start", json_integer(-1));
	ret = read_definition(d, json, &def, why);
	if (!ret)
		ret = domain_define(d, &def, json, &g, why);
	if (ret == -ESRCH) /* it ended while nobody looked */
		unlink(path);
	if (ret)
		log_warning("%s: this domain is not taken on: %s", path, why);
	json_decref(json);
}

int domains_load(struct daemon *d)
{
	char path[4096];
	struct dirent *e;
	size_t len;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/domains", d->run_dir);
	if (mkdir(path, 0755) && errno != EEXIST) {
		log_error("%s: %s", path, strerror(errno));
		return -errno;
	}
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		len = strlen(e->d_name);
		if (e->d_name[0] != '.' && len > 5 && !strcmp(e->d_name + len - 5, ".json"))
			load_one(d, e->d_name);
	}
	if (dir)
		closedir(dir);
	return 0;
}

void domains_close(struct daemon *d)
{
	struct domain *dom, *next;

	FOREACH_SAFE(dom, &d->domains, link, next)
	domain_free(d, dom);
}

/* ---- methods ---- */

void do_vm_define(struct request *req, json_t *params)
{
	struct daemon *d = req->daemon;
	struct definition def;
	struct guest *g = NULL;
	char why[WHY_LEN];
	int ret = read_definition(d, params, &def, why);
	bool check = json_is_true(json_object_get(params, "check"));

	if (!ret && check)
		ret = check_definition(d, domain_find(d, def.uuid), &def, why);
	else if (!ret)
		ret = domain_define(d, &def, params, &g, why);
	if (ret && ret != -EAGAIN) {
		request_error(req, ret == -EINVAL ? RPC_PARAMS : RPC_REFUSED,
			      vm_error_data(ret, NULL), "%s", why);
	} else if (!g) {
		request_reply(req, json_pack("{s:s, s:s}", "name", def.vm.name, "state",
					     check ? "good" : "waiting"));
	} else if (g->state == GUEST_WAITING && g->pid && !g->attach_request) {
		g->attach_request = req;
		req->guest = g;
		req->deadline = now_us() + DEFINE_WAIT_MS * MSEC;
		work_soon(d, DEFINE_WAIT_MS * MSEC);
		vm_attach(g); /* answers, now or later */
	} else {
		request_reply(req, vm_json(g));
	}
}

void do_vm_undefine(struct request *req, json_t *params)
{
	struct daemon *d = req->daemon;
	const char *text = json_string_value(json_object_get(params, "uuid"));
	char uuid[37], why[WHY_LEN];
	struct domain *dom;

	if (!text || read_uuid(text, uuid, why)) {
		request_error(req, RPC_PARAMS, NULL, "%s", text ? why : "\"uuid\" is missing");
		return;
	}
	dom = domain_find(d, uuid);
	if (dom) {
		log_info("domain %s (%s): undefined", dom->vm.name, uuid);
		domain_remove(d, dom);
	}
	domain_unsave(d, uuid);
	request_reply(req, json_pack("{s:s, s:b}", "uuid", uuid, "was_defined", (int)!!dom));
}
