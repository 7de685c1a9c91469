/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Local clients: processes of this host that call the switch in their own address space, WITHOUT
 * ISOLATION. elisa-guest's server half speaks with them; here is which port they get, where their
 * RAM lies, and how they leave.
 *
 * VMs and local clients reach each other: a client's RAM is exported into the trusted context, and
 * every VM's RAM is mapped by every client at the daemon's address, before either can send.
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

struct local {
	struct daemon *daemon;
	struct elisa_local_server *server;
	sd_event_source *source;
};

unsigned int local_clients(struct daemon *d)
{
	unsigned int count = 0;
	struct guest *g;

	TAILQ_FOREACH(g, &d->guests, link)
	count += g->local;
	return count;
}

/* ---- clients' RAM ---- */

/* First fit; two clients are never adjacent, so that an overrun faults. */
static uint64_t ram_place(struct daemon *d, size_t len)
{
	uint64_t at = LOCAL_RAM_VA;
	struct guest *g;
	bool moved;

	do {
		moved = false;
		TAILQ_FOREACH(g, &d->guests, link)
		{
			uint64_t start = (uint64_t)g->ram;
			uint64_t end = start + ((g->ram_len + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1)) +
				       HUGE_PAGE;

			if (g->ram && at < end && start < at + len + HUGE_PAGE) {
				at = end;
				moved = true;
			}
		}
	} while (moved);
	return at + len <= LOCAL_RAM_END ? at : 0;
}

static int ram_map(struct guest *g, const struct elisa_local_request *request)
{
	struct daemon *d = g->daemon;
	uint64_t at;
	void *ram;
	int ret;

	if (request->ram_len > LOCAL_RAM_END - LOCAL_RAM_VA)
		return -ENOMEM;
	at = ram_place(d, request->ram_len);
	if (!at)
		return -ENOMEM;
	ram = mmap((void *)at, request->ram_len, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED_NOREPLACE, request->ram_fd,
		   (off_t)request->ram_offset);
	if (ram == MAP_FAILED)
		return -errno;
	madvise(ram, request->ram_len, MADV_DONTFORK);
	if (d->ctx) {
		ret = elisa_export(d->ctx, ram, request->ram_len, ELISA_R | ELISA_W);
		if (ret) {
			munmap(ram, request->ram_len);
			return ret;
		}
		g->exported = true;
	}
	g->ram = ram;
	g->ram_len = request->ram_len;
	return 0;
}

static void ram_unexport(struct guest *g)
{
	int ret;

	if (!g->exported || !g->daemon->ctx)
		return;
	ret = elisa_unexport(g->daemon->ctx, g->ram, g->ram_len);
	if (ret)
		log_error("local client %s: memory not unexported: %s", g->name, strerror(-ret));
	g->exported = false;
}

static void ram_unmap(struct guest *g)
{
	ram_unexport(g);
	if (g->ram)
		munmap(g->ram, g->ram_len);
	g->ram = NULL;
}

int local_export_all(struct daemon *d)
{
	struct guest *g;
	int ret;

	TAILQ_FOREACH(g, &d->guests, link)
	{
		if (!g->ram || g->exported)
			continue;
		ret = elisa_export(d->ctx, g->ram, g->ram_len, ELISA_R | ELISA_W);
		if (ret)
			return ret;
		g->exported = true;
	}
	return 0;
}

/* ---- joining ---- */

__attribute__((format(printf, 3, 4))) static int refuse(struct elisa_local_answer *answer, int err,
							const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(answer->text, sizeof(answer->text), fmt, ap);
	va_end(ap);
	return err;
}

/* By name: a local port of that VM, or that port itself. No name: any free one. */
static bool port_is_for(const struct port *port, const char *name)
{
	if (!port->set.local || port->deleting)
		return false;
	return !*name || !strcmp(port->set.vm, name) || !strcmp(port->set.vs.name, name);
}

static int join_ports(struct guest *g, const char *name, struct elisa_local_answer *answer)
{
	struct port *port, *busy = NULL;
	unsigned int bound = 0;
	char why[WHY_LEN];

	TAILQ_FOREACH(port, &g->daemon->ports, link)
	{
		if (!port_is_for(port, name))
			continue;
		if (port->guest) {
			busy = port;
			continue;
		}
		if (guest_port_bind(g, port, why))
			return refuse(answer, -EBUSY, "%s", why);
		bound++;
		if (!*name || strcmp(port->set.vm, name))
			break; /* named by itself: this port alone */
	}
	if (bound)
		return 0;
	if (busy && *name)
		return refuse(answer, -EBUSY, "port \"%s\" is used by process %d",
			      busy->set.vs.name, (int)busy->guest->pid);
	if (busy)
		return refuse(answer, -EBUSY,
			      "all ports for local clients are in use: add one with "
			      "\"elisactl port add NAME --local\"");
	port = port_find(g->daemon, name);
	if (port)
		return refuse(answer, -EACCES,
			      "port \"%s\" is for a VM: local clients need one with "
			      "transport = \"local\"",
			      name);
	return refuse(answer, -ENODEV,
		      "there is no port for local client \"%s\": add one with "
		      "\"elisactl port add %s --local\"",
		      name, *name ? name : "NAME");
}

static int join_check(struct daemon *d, const struct elisa_local_request *request,
		      struct elisa_local_answer *answer)
{
	char why[WHY_LEN];
	struct guest *g;

	if (request->uid != 0 && request->uid != geteuid())
		return refuse(answer, -EACCES,
			      "user %u may not: only root and the daemon's own user",
			      (unsigned int)request->uid);
	if (*request->name && check_name("port", request->name, why))
		return refuse(answer, -EINVAL, "%.150s", why);
	if (d->no_local_nic)
		return refuse(answer, -EBUSY,
			      "the memory of NICs cannot be shared with local clients: use "
			      "hugepages (dpdk.huge), or take the NICs out of the configuration");
	TAILQ_FOREACH(g, &d->guests, link)
	if (g->no_local)
		return refuse(answer, -EBUSY,
			      "VM %s is attached and its memory cannot be shared "
			      "with local clients: detach it first",
			      g->name);
	return 0;
}

static void client_undo(struct guest *g)
{
	guest_ports_unbind(g);
	guest_callers_del(g);
	if (g->id >= 0)
		vs_guest_del(g->daemon->vs, g->id);
	g->id = -1;
	ram_unmap(g);
	guest_free(g);
}

static int join_switch(struct guest *g, const struct elisa_local_request *request,
		       struct elisa_local_answer *answer)
{
	struct vs_region region;
	int ret;

	if (request->ram_len < VS_REGION_MIN)
		return refuse(answer, -EINVAL, "its memory is smaller than %u bytes",
			      VS_REGION_MIN);
	ret = ram_map(g, request);
	if (ret)
		return refuse(answer, ret, "its %llu bytes of memory cannot be mapped: %s",
			      (unsigned long long)request->ram_len, strerror(-ret));
	region = (struct vs_region){request->ram_gpa, g->ram_len, g->ram};
	g->id = vs_guest_add(g->daemon->vs, g->name, &region, 1);
	if (g->id < 0)
		return refuse(answer, g->id, "no room for one more client: raise switch.max_vms");
	vs_guest_foreign(g->daemon->vs, g->id);
	ret = guest_callers_add(g, request->callers);
	if (ret)
		return refuse(answer, ret, "no room for %u threads: raise switch.max_callers",
			      request->callers);
	/* Bound already now: it cannot set up a queue before it is ready. */
	return join_ports(g, request->name, answer);
}

static int on_join(void *user, struct elisa_local_peer *peer,
		   const struct elisa_local_request *request, struct elisa_local_answer *answer)
{
	struct local *l = user;
	struct daemon *d = l->daemon;
	int ret = join_check(d, request, answer);
	char name[VS_NAME_LEN];
	struct guest *g = NULL;

	if (ret)
		goto refused;
	snprintf(name, sizeof(name), "local-%d", (int)request->pid);
	g = guest_new(d, *request->name ? request->name : name, true);
	if (!g) {
		ret = refuse(answer, -ENOMEM, "out of memory");
		goto refused;
	}
	g->pid = request->pid;
	g->pid_start = proc_start(g->pid);
	g->state = GUEST_ATTACHING;
	ret = join_switch(g, request, answer);
	if (ret)
		goto refused;
	g->peer = peer;
	elisa_local_peer_set_user(peer, g);
	answer->ram_addr = g->ram;
	answer->callers = request->callers;
	for (unsigned int i = 0; i < request->callers; i++)
		answer->cookie[i] = g->callers[i].vs;
	ports_changed(d);
	return 0;
refused:
	event_say_why(d, EVENT_CLIENT, SD_NOTICE, request->name, NULL, "refused",
		      "local client \"%s\" (pid %d): refused: %s", request->name,
		      (int)request->pid, answer->text);
	if (g)
		client_undo(g);
	return ret;
}

static void on_ready(void *user, struct elisa_local_peer *peer)
{
	struct guest *g = elisa_local_peer_user(peer);

	g->state = GUEST_ATTACHED;
	event_say_why(g->daemon, EVENT_CLIENT, SD_NOTICE, g->name, NULL, "joined",
		      "local client %s (pid %d): joined, %u threads, no isolation", g->name,
		      (int)g->pid, g->caller_count);
}

/* ---- leaving ---- */

static void on_leave(void *user, struct elisa_local_peer *peer, bool orderly)
{
	struct guest *g = elisa_local_peer_user(peer);

	event_say_why(g->daemon, EVENT_CLIENT, SD_NOTICE, g->name, NULL, orderly ? "left" : "died",
		      "local client %s (pid %d): %s", g->name, (int)g->pid,
		      orderly ? "left" : "died or was cut off");
	guest_ports_unbind(g);
	guest_callers_del(g);
	g->ticket = vs_grace_begin(g->daemon->vs);
	g->state = GUEST_DRAIN_GRACE;
	g->drain_since = now_us();
	work_soon(g->daemon, 0);
}

static void client_free(struct guest *g)
{
	ram_unmap(g);
	vm_answer_detach(g);
	guest_free(g);
}

static void client_drained(struct guest *g)
{
	int ret = vs_guest_del(g->daemon->vs, g->id);

	if (ret)
		log_error("local client %s: not deleted from the switch: %s", g->name,
			  strerror(-ret));
	g->id = -1;
	ram_unexport(g);
	g->state = GUEST_DRAIN_REGIONS;
	if (g->peer)
		elisa_local_peer_release(g->peer);
	else
		client_free(g);
}

static void on_released(void *user, struct elisa_local_peer *peer)
{
	struct guest *g = elisa_local_peer_user(peer);

	/* Also when the server ends, and others are still in this client's RAM: free it later then.
	 */
	g->peer = NULL;
	if (g->id < 0 || g->daemon->stopping)
		client_free(g);
}

bool local_work(struct daemon *d)
{
	struct guest *g, *next;
	bool more = false;

	FOREACH_SAFE(g, &d->guests, link, next)
	{
		if (!g->local || g->state != GUEST_DRAIN_GRACE)
			continue;
		if (vs_grace_done(d->vs, g->ticket))
			client_drained(g);
		else
			more = true;
	}
	return more;
}

/* ---- VMs' RAM ---- */

/* A descriptor of what is mapped at `addr`, and the offset in it. */
static int mapping_fd(const void *addr, size_t len, uint64_t *offset)
{
	unsigned long long start, end, off;
	uint64_t at = (uint64_t)addr;
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], path[96];
	int fd = -ENOENT;

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx-%llx %*s %llx", &start, &end, &off) != 3)
			continue;
		if (at < start || at >= end)
			continue;
		if (at + len > end)
			break;
		snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx", start, end);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		*offset = off + (at - start);
		break;
	}
	fclose(f);
	return fd;
}

static int share_region(struct guest *g, const struct elisa_region *region)
{
	uint64_t offset = 0;
	int fd = mapping_fd(region->addr, region->len, &offset), ret;

	if (fd < 0)
		return fd;
	ret = elisa_local_region_add(g->daemon->local->server, fd, offset, region->addr,
				     region->len, true, g, &g->regions[g->region_count]);
	close(fd);
	if (!ret)
		g->region_count++;
	return ret;
}

int local_share(struct guest *g)
{
	const struct elisa_region *regions;
	int n = elisa_vm_regions(g->vm, &regions), ret = 0;

	g->region_count = 0;
	g->regions_ready = 0;
	g->regions_left = 0;
	if (!g->daemon->local)
		return 0;
	for (int i = 0; i < n && !ret; i++)
		ret = share_region(g, &regions[i]);
	if (!ret)
		return 0;
	/* Without clients nothing is lost; then none is let in while this VM is there. */
	if (!g->region_count && !local_clients(g->daemon)) {
		g->no_local = true;
		return 0;
	}
	guest_note(g,
		   "its memory cannot be mapped by the local clients that are there (%s): end "
		   "them, or set local.enable = false",
		   strerror(-ret));
	g->region_count = 0;
	return ret;
}

void local_unshare(struct guest *g)
{
	unsigned int count = g->region_count;

	g->regions_left = count;
	g->region_count = 0;
	for (unsigned int i = 0; i < count; i++)
		elisa_local_region_remove(g->regions[i]);
}

int local_region_add(struct daemon *d, int fd, uint64_t offset, void *addr, size_t len, void *user,
		     struct elisa_local_region **region)
{
	return elisa_local_region_add(d->local->server, fd, offset, addr, len, true, user, region);
}

/* A VM's, or the NICs'. */
static void on_region_ready(void *user, struct elisa_local_region *region)
{
	struct local *l = user;
	void *whose = elisa_local_region_user(region);

	if (whose == l->daemon->nics)
		nics_region_ready(l->daemon, region);
	else if (capture_owns(l->daemon, whose))
		capture_region_ready(whose);
	else
		vm_region_ready(whose);
}

static void on_region_gone(void *user, struct elisa_local_region *region)
{
	struct local *l = user;
	void *whose = elisa_local_region_user(region);

	if (capture_owns(l->daemon, whose))
		capture_region_gone(whose);
	else if (whose != l->daemon->nics)
		vm_region_gone(whose);
}

/* ---- the server ---- */

static void on_log(void *user, const char *line)
{
	log_notice("local transport: %s", line);
}

static int on_work(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct local *l = user;
	struct daemon *d = l->daemon;
	int ret = elisa_local_server_dispatch(l->server);

	if (ret < 0) {
		snprintf(d->local_note, sizeof(d->local_note),
			 "the local transport ended: %s: restart "
			 "the daemon",
			 strerror(-ret));
		log_error("%s", d->local_note);
		local_close(d);
	}
	return 0;
}

static const struct elisa_local_ops local_ops = {
	.join = on_join,
	.ready = on_ready,
	.leave = on_leave,
	.released = on_released,
	.region_ready = on_region_ready,
	.region_gone = on_region_gone,
	.log = on_log,
};

int local_open(struct daemon *d)
{
	struct elisa_local_config config = {
		.path = d->set.local_socket,
		.group = (gid_t)-1,
		.service = ELISA_SERVICE_SWITCH,
		.arena_fd = d->arena_fd,
		.arena_addr = d->arena,
		.arena_len = d->arena_len,
		.entry = "vs_entry",
		.ops = &local_ops,
	};
	char library[256];
	struct local *l;
	int ret = elisa_local_library_of((const void *)vs_entry, library, sizeof(library));

	if (ret) {
		log_error("local transport: the switch is not in a shared library: %s",
			  strerror(-ret));
		return ret;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->daemon = d;
	config.library = library;
	config.user = l;
	ret = elisa_local_server_create(&config, &l->server);
	if (ret) {
		log_error("local transport: %s: %s", config.path,
			  ret == -EADDRINUSE
				  ? "another service listens there: is a daemon running already?"
				  : strerror(-ret));
		free(l);
		return ret;
	}
	ret = sd_event_add_io(d->event, &l->source, elisa_local_server_fd(l->server), EPOLLIN,
			      on_work, l);
	if (ret < 0) {
		elisa_local_server_destroy(l->server);
		free(l);
		return ret;
	}
	d->local = l;
	log_info("local transport (no isolation) on %s", config.path);
	return 0;
}

void local_close(struct daemon *d)
{
	struct local *l = d->local;
	struct guest *g, *next;

	if (!l)
		return;
	sd_event_source_disable_unref(l->source);
	elisa_local_server_destroy(l->server);
	free(l);
	d->local = NULL;
	nics_local_gone(d);
	capture_local_gone(d);
	/* The server forgot the regions; VMs that waited for one go on without. */
	FOREACH_SAFE(g, &d->guests, link, next)
	{
		if (g->local)
			continue;
		g->region_count = 0;
		g->regions_left = 0;
		if (g->state == GUEST_ATTACHING)
			g->regions_ready = 0;
	}
}
