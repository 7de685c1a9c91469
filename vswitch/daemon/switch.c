/* SPDX-License-Identifier: BSD-3-Clause */
/* The arena, the ports, and waiting until everybody has left. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

/* Pages of 1 GiB have no flag of their own in all libc's headers: memfd_create(2), log2 << 26. */
#define MEMFD_PAGE(page) ((unsigned int)__builtin_ctzll(page) << 26)

static void arena_unmap(struct daemon *d)
{
	if (d->arena)
		munmap(d->arena, d->arena_len);
	if (d->arena_fd >= 0)
		close(d->arena_fd);
	d->arena = NULL;
	d->arena_fd = -1;
}

/* `page`: of the sizes of hugepages, or 0. 0, or -errno with `why`. */
static int arena_map_by(struct daemon *d, size_t len, uint64_t page, char why[WHY_LEN])
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int ret = 0;
	void *at;

	d->arena_page = page ? page : (uint64_t)sysconf(_SC_PAGESIZE);
	page = page ? page : HUGE_PAGE; /* so that the kernel can make some of its own accord */
	d->arena_len = len = (len + page - 1) & ~(page - 1);
	if (d->arena_page > HUGE_PAGE / 2)
		flags |= MFD_HUGETLB | MEMFD_PAGE(page);
	d->arena_fd = memfd_create("elisa-vswitch", flags);
	if (d->arena_fd < 0 || ftruncate(d->arena_fd, (off_t)len) ||
	    fcntl(d->arena_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		ret = -errno;
		snprintf(why, WHY_LEN, "no memory file of %zu bytes for the switch: %s", len,
			 strerror(-ret));
		arena_unmap(d);
		return ret;
	}
	at = mmap((void *)ARENA_VA, len, PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_FIXED_NOREPLACE, d->arena_fd, 0);
	d->arena = at == MAP_FAILED ? NULL : at;
	/* Hugepages now: one that cannot be had later (by a limit of a cgroup, say) is a SIGBUS. */
	if (!d->arena || (flags & MFD_HUGETLB && madvise(at, len, MADV_POPULATE_WRITE))) {
		ret = -errno;
		snprintf(why, WHY_LEN, "cannot map %zu bytes at %#llx for the switch: %s", len,
			 ARENA_VA, strerror(-ret));
		arena_unmap(d);
	}
	return ret;
}

static int arena_map(struct daemon *d)
{
	size_t len = vs_arena_size(&d->set.vs);
	uint64_t page = 0;
	char why[WHY_LEN];
	int ret = -ENOMEM;

	if (!len) {
		log_error("the switch cannot have these sizes: ports %u, VMs %u, callers %u, "
			  "addresses "
			  "%u",
			  d->set.vs.ports, d->set.vs.guests, d->set.vs.callers,
			  d->set.vs.fdb_capacity);
		return -EINVAL;
	}
	d->arena_len = len; /* what huge_log() speaks of, if it comes to nothing */
	while (ret && (page = huge_arena_page(d, len, page))) {
		ret = arena_map_by(d, len, page, why);
		if (ret)
			log_warning("hugepages that seemed free: %s", why);
	}
	if (ret && d->set.hugepages == HUGE_REQUIRE) {
		d->arena_len = len;
		huge_log(d);
		log_error("no hugepages for the switch, and switch.hugepages is \"require\": make "
			  "them, or set it to \"auto\"");
		return -ENOMEM;
	}
	if (ret)
		ret = arena_map_by(d, len, 0, why);
	if (ret) {
		log_error("%s", why);
		return ret;
	}
	/* Fewer pages to pin and larger leaves in the trusted EPT, where the host allows it. */
	if (d->arena_page < HUGE_PAGE)
		madvise(d->arena, d->arena_len, MADV_HUGEPAGE);
	madvise(d->arena, d->arena_len, MADV_DONTFORK);
	return 0;
}

int switch_open(struct daemon *d)
{
	int ret;

	d->arena_fd = -1;
	TAILQ_INIT(&d->ports);
	TAILQ_INIT(&d->waits);
	while (!d->generation)
		if (getrandom(&d->generation, sizeof(d->generation), 0) < 0 && errno != EINTR)
			return -errno;
	d->set.vs.generation = d->generation;
	ret = arena_map(d);
	if (ret)
		return ret;
	ret = vs_create(d->arena, d->arena_len, &d->set.vs, &d->vs);
	epoch_begin(&d->epoch, d->generation);
	if (ret)
		log_error("the switch was not created: %s", strerror(-ret));
	return ret;
}

void switch_close(struct daemon *d)
{
	struct port *port, *next;
	struct wait *wait, *wnext;

	d->refill = sd_event_source_disable_unref(d->refill);
	statics_free(d);
	FOREACH_SAFE(wait, &d->waits, link, wnext)
	{
		if (wait->allocated)
			free(wait);
	}
	FOREACH_SAFE(port, &d->ports, link, next)
	free(port);
	arena_unmap(d);
}

/* Ports of the configuration file. */
int switch_configure(struct daemon *d)
{
	char why[WHY_LEN];
	int ret;

	for (size_t i = 0; i < d->set.port_count; i++) {
		ret = port_create(d, &d->set.ports[i], false, NULL, why);
		if (ret) {
			log_error("port %s: %s", d->set.ports[i].vs.name, why);
			return ret;
		}
	}
	return 0;
}

/* ---- rates ---- */

#define REFILL (4 * MSEC)

static int on_refill(sd_event_source *source, uint64_t usec, void *user)
{
	struct daemon *d = user;

	if (vs_refill(d->vs, now_us())) {
		sd_event_source_set_time(source, now_us() + REFILL);
		sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	return 0;
}

/* A port may have a rate now: its buckets are filled for as long as one has. */
static void refill_start(struct daemon *d)
{
	int on = SD_EVENT_OFF;

	if (d->refill)
		sd_event_source_get_enabled(d->refill, &on);
	if (on != SD_EVENT_OFF || !vs_refill(d->vs, now_us()))
		return;
	if (!d->refill && sd_event_add_time(d->event, &d->refill, CLOCK_MONOTONIC, 0, MSEC / 2,
					    on_refill, d) < 0)
		log_error("no timer for the ports' rates: what they allow at once is all they get");
	else
		on_refill(d->refill, 0, d);
}

/* ---- grace periods ---- */

static void wait_begin(struct daemon *d, struct wait *wait, void (*done)(struct daemon *d, void *arg),
		       void *arg)
{
	wait->done = done;
	wait->arg = arg;
	wait->ticket = vs_grace_begin(d->vs);
	TAILQ_INSERT_TAIL(&d->waits, wait, link);
	work_soon(d, MSEC);
}

int wait_grace(struct daemon *d, void (*done)(struct daemon *d, void *arg), void *arg)
{
	struct wait *wait = calloc(1, sizeof(*wait));

	if (!wait)
		return -ENOMEM;
	wait->allocated = true;
	wait_begin(d, wait, done, arg);
	return 0;
}

bool waits_poll(struct daemon *d)
{
	struct wait *wait, *next;
	bool allocated;

	FOREACH_SAFE(wait, &d->waits, link, next)
	{
		if (!vs_grace_done(d->vs, wait->ticket))
			continue;
		TAILQ_REMOVE(&d->waits, wait, link);
		allocated = wait->allocated;
		wait->done(d, wait->arg);
		if (allocated)
			free(wait);
	}
	return !TAILQ_EMPTY(&d->waits);
}

/* ---- ports ---- */

struct port *port_find(struct daemon *d, const char *name)
{
	struct port *port;

	TAILQ_FOREACH(port, &d->ports, link)
	if (!strcmp(port->set.vs.name, name))
		return port;
	return NULL;
}

static int mac_unique(struct daemon *d, const uint8_t mac[6], const struct port *but,
		      char why[WHY_LEN])
{
	struct port *port;
	char text[18];

	if (d->reloading)
		return 0;
	TAILQ_FOREACH(port, &d->ports, link)
	{
		if (port == but || memcmp(port->set.vs.mac, mac, 6))
			continue;
		format_mac(mac, text);
		snprintf(why, WHY_LEN, "the MAC address %s is that of port \"%s\": give another",
			 text, port->set.vs.name);
		return -EEXIST;
	}
	return 0;
}

/* Ids that captures and the watchdog need are not for others; those being deleted do not count. */
size_t ports_room(struct daemon *d)
{
	size_t used = 0;
	struct port *port;

	TAILQ_FOREACH(port, &d->ports, link)
	used += !port->deleting;
	return used < d->set.max_ports ? d->set.max_ports - used : 0;
}

/* Of the switch, when there is room: -EAGAIN as long as deleted ports are still in use. */
static int port_id(struct daemon *d, const struct vs_port_config *vs)
{
	int id = ports_room(d) ? vs_port_add(d->vs, vs) : -ENOSPC;
	struct port *port;

	if (id != -ENOSPC || !ports_room(d))
		return id;
	TAILQ_FOREACH(port, &d->ports, link)
	if (port->deleting)
		return -EAGAIN;
	return id;
}

int port_create(struct daemon *d, const struct port_setting *set, bool runtime, struct port **out,
		char why[WHY_LEN])
{
	const struct vs_port_config vs = port_vs_config(set);
	struct port *port;
	int ret;

	if (port_find(d, set->vs.name)) {
		snprintf(why, WHY_LEN, "there is a port \"%s\" already", set->vs.name);
		return -EEXIST;
	}
	if (set->local && !d->set.local_enable) {
		snprintf(why, WHY_LEN,
			 "port \"%s\" is for local clients, but local.enable is false in "
			 "the configuration",
			 set->vs.name);
		return -EINVAL;
	}
	ret = mac_unique(d, set->vs.mac, NULL, why);
	if (ret)
		return ret;
	port = calloc(1, sizeof(*port));
	if (!port) {
		snprintf(why, WHY_LEN, "out of memory");
		return -ENOMEM;
	}
	port->set = *set;
	port->runtime = runtime;
	port->id = port_id(d, &vs);
	if (port->id < 0) {
		ret = port->id;
		snprintf(why, WHY_LEN, "%s%s", strerror(-ret),
			 ret == -ENOSPC   ? ": raise switch.max_ports"
			 : ret == -EAGAIN ? ": deleted ports are still in use"
					  : "");
		free(port);
		return ret;
	}
	epoch_begin(&port->epoch, d->generation + ++d->epochs);
	TAILQ_INSERT_TAIL(&d->ports, port, link);
	refill_start(d);
	if (out)
		*out = port;
	return 0;
}

int port_change(struct daemon *d, struct port *port, const struct port_setting *set,
		char why[WHY_LEN])
{
	const struct vs_port_config vs = port_vs_config(set);
	int ret = mac_unique(d, set->vs.mac, port, why);

	if (ret)
		return ret;
	ret = vs_port_set(d->vs, port->id, &vs);
	if (ret) {
		snprintf(why, WHY_LEN, "%s",
			 ret == -EBUSY ? "the number of queues cannot change while "
					 "the port exists: delete it and add it again"
				       : strerror(-ret));
		return ret;
	}
	port->set = *set;
	refill_start(d);
	ports_changed(d);
	return 0;
}

void port_bind_now(struct daemon *d, struct port *port)
{
	struct guest *g = port->set.local || !port->set.vm[0] ? NULL : guest_find(d, port->set.vm);

	if (g && !g->local && g->state == GUEST_ATTACHED) {
		guest_ports_bind(g);
		g->note[0] = '\0';
	}
}

/* It is unbound and a grace period is over. */
static void port_forget(struct daemon *d, void *arg)
{
	struct port *port = arg;
	int ret = vs_port_del(d->vs, port->id);

	if (ret)
		log_error("port %s: not deleted from the switch: %s", port->set.vs.name,
			  strerror(-ret));
	TAILQ_REMOVE(&d->ports, port, link);
	fdb_file_port_gone(d);
	free(port);
}

int port_remove(struct daemon *d, struct port *port)
{
	int ret = port->guest ? vs_port_unbind(d->vs, port->id) : 0;

	port->guest = NULL;
	port->deleting = true;
	statics_port_gone(d, port->set.vs.name);
	ports_changed(d);
	if (!ret)
		wait_begin(d, &port->gone, port_forget, port);
	return ret;
}

void ports_changed(struct daemon *d)
{
	doorbells_update(d);
	nics_update(d);
}

const char *port_transport(const struct port *port)
{
	return port->nic ? "nic" : port->set.local ? "local (no isolation)" : "vmfunc";
}
