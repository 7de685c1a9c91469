/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * NICs on the event loop: the library, the ports, and what others are told of a NIC: links,
 * doorbells, addresses.
 */
#include "nic.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the library ---- */

/*
 * Packet buffers of both directions, twice: a NIC that is started anew has new ones before the old
 * ones go. What the library takes besides the NIC's rings: SPARE. DPDK takes more memory when this
 * is too little.
 */
#define SPARE 1280

static uint64_t nic_bytes(const struct nic_setting *nic)
{
	uint64_t buffers = (nic->rx_ring ? nic->rx_ring : 512u) +
			   (nic->tx_ring ? nic->tx_ring : 512u) + SPARE;
	uint64_t size = (nic->port.vs.mtu > 2000 ? nic->port.vs.mtu : 2048u) + 512u;

	return (4 << 20) + 2 * nic->port.vs.queues * buffers * size;
}

/* HUGE_NODES: none, or not known. */
static unsigned int nic_node(const struct nic_setting *nic)
{
	char path[256], line[16], *end;
	long node;

	snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/%.*s/numa_node", host_root(),
		 (int)strcspn(nic->device[0], ",/"), nic->device[0]);
	node = strtol(proc_read_line(path, line, sizeof(line)), &end, 10);
	return end != line && node >= 0 && node < HUGE_NODES ? (unsigned int)node : HUGE_NODES;
}

/* What is for no NIC alone goes to the first one's node; so does all, if the administrator says how
 * much it is. */
void nics_need(const struct settings *s, struct dpdk_need *need)
{
	uint64_t bytes[HUGE_NODES + 1] = {0};

	for (size_t i = 0; i < s->nic_count; i++) {
		unsigned int node = nic_node(&s->nics[i]);

		if (s->dpdk.memory_mib)
			bytes[node] += i ? 0 : (uint64_t)s->dpdk.memory_mib << 20;
		else
			bytes[node] += nic_bytes(&s->nics[i]) + (i ? 0 : 16 << 20);
	}
	/* Hugepages have 2 MiB. */
	for (unsigned int i = 0; i <= HUGE_NODES; i++)
		need->mib[i] = (uint32_t)(bytes[i] >> 20) & ~1u;
}

/* As EAL's --socket-mem, where there is more than one node; in all it is *mib. */
static void memory_by_node(const struct settings *s, uint32_t *mib, char *text, size_t len)
{
	struct dpdk_need need;
	char path[256];
	size_t used = 0;
	bool second;

	nics_need(s, &need);
	*mib = 0;
	for (unsigned int i = 0; i <= HUGE_NODES; i++)
		*mib += need.mib[i];
	snprintf(path, sizeof(path), "%s/sys/devices/system/node/node1", host_root());
	second = !access(path, F_OK);
	text[0] = '\0';
	if (!second || !s->dpdk.huge || need.mib[HUGE_NODES] == *mib)
		return;
	/* What has no node is wherever the first one with a node is. */
	for (unsigned int i = 0; i < HUGE_NODES; i++) {
		if (need.mib[i] && need.mib[HUGE_NODES]) {
			need.mib[i] += need.mib[HUGE_NODES];
			need.mib[HUGE_NODES] = 0;
		}
		used += (size_t)snprintf(text + used, len - used, "%s%u", i ? "," : "",
					 need.mib[i]);
	}
}

static int library_load(struct nics *all)
{
	const char *name = all->daemon->set.dpdk.library;

	all->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!all->handle) {
		snprintf(all->note, sizeof(all->note),
			 "the library for NICs was not loaded: %s: install DPDK 22.11 and the "
			 "project's %s, or set dpdk.library",
			 dlerror(), name);
		return -ENOENT;
	}
	all->lib = dlsym(all->handle, "vs_nic_lib");
	if (all->lib && all->lib->revision == NIC_LIB_REVISION)
		return 0;
	snprintf(all->note, sizeof(all->note),
		 "%s is of another version: install the one of this daemon (%s)", name,
		 ELISA_VERSION);
	all->lib = NULL;
	return -EPROTO;
}

/* Not undone while the process lives: DPDK's libraries are not made to be unloaded. */
static int library_open(struct nics *all)
{
	const struct dpdk_setting *set = &all->daemon->set.dpdk;
	struct nic_env env = {
		.huge = set->huge,
		.huge_dir = set->huge_dir,
		.drivers = set->drivers,
		.verbose = set->verbose,
		.run_dir = all->daemon->run_dir,
		.telemetry = set->telemetry,
	};
	char why[NIC_WHY_LEN] = "";
	int ret = library_load(all);

	if (ret)
		return ret;
	memory_by_node(&all->daemon->set, &env.memory_mib, env.node_mib, sizeof(env.node_mib));
	ret = all->lib->open(&env, why);
	if (ret) {
		snprintf(all->note, sizeof(all->note), "%s", why);
		return ret;
	}
	all->opened = true;
	telemetry_open(all);
	ret = heap_follow(all);
	if (ret)
		snprintf(all->note, sizeof(all->note), "DPDK's memory cannot be followed: %s",
			 strerror(-ret));
	return ret;
}

/* ---- ports ---- */

static int device_add(struct nic_port *n)
{
	const struct nic_setting *set = n->set;
	struct nic_config cfg = {
		.devices = set->devices,
		.queues = set->port.vs.queues,
		.mtu = set->port.vs.mtu,
		.rx_ring = set->rx_ring,
		.tx_ring = set->tx_ring,
		.promiscuous = set->promiscuous,
		.offloads = set->offloads,
	};
	char why[NIC_WHY_LEN] = "";
	int ret;

	if (n->all->note[0]) {
		nic_state(n, NIC_FAILED, "%s", n->all->note);
		return -ENODEV;
	}
	snprintf(cfg.name, sizeof(cfg.name), "%s", set->port.vs.name);
	for (unsigned int i = 0; i < set->devices; i++)
		cfg.device[i] = set->device[i];
	ret = n->all->lib->add(&cfg, &n->dev, why);
	if (!ret)
		ret = n->all->lib->info(n->dev, &n->view.info);
	if (!ret)
		return 0;
	n->dev = NULL;
	nic_state(n, NIC_FAILED, "%s: restart the daemon once it is there",
		  why[0] ? why : strerror(-ret));
	return ret;
}

/* Its port, its guest, its caller. */
static int port_add(struct nic_port *n)
{
	struct vs_region regions[2];
	struct daemon *d = n->all->daemon;
	struct port_setting set = n->set->port;
	char why[WHY_LEN], name[VS_NAME_LEN + 8];
	int ret;

	if (n->dev)
		memcpy(set.vs.mac, n->view.info.mac, 6);
	ret = port_create(d, &set, false, &n->port, why);
	if (ret) {
		nic_say(n, SD_ERR, "failed", "NIC %s: %s", set.vs.name, why);
		return ret;
	}
	n->port->nic = n;
	vs_port_carrier(d->vs, n->port->id, false);
	if (!n->dev)
		return 0;
	n->setup = mmap(NULL, VS_REGION_MIN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	if (n->setup == MAP_FAILED) {
		n->setup = NULL;
		return -ENOMEM;
	}
	regions[0] = (struct vs_region){(uint64_t)n->all->span.addr, n->all->span.len,
					n->all->span.addr};
	regions[1] = (struct vs_region){(uint64_t)n->setup, VS_REGION_MIN, n->setup};
	snprintf(name, sizeof(name), "nic:%s", set.vs.name);
	n->guest = vs_guest_add(d->vs, name, regions, 2);
	ret = n->guest < 0 ? n->guest : vs_caller_add(d->vs, n->guest, &n->caller);
	if (!ret)
		ret = vs_nic_add(d->vs, n->port->id, VS_NIC_BY_HOST, n->all->lib->ops);
	if (!ret)
		ret = vs_port_bind(d->vs, n->port->id, n->guest);
	if (ret)
		nic_say(n, SD_ERR, "failed", "NIC %s: the switch did not take it: %s", set.vs.name,
			strerror(-ret));
	return ret;
}

static int nic_open(struct nics *all, const struct nic_setting *set)
{
	struct nic_port *n = &all->nic[all->count++];

	*n = (struct nic_port){.all = all, .set = set, .guest = -1};
	n->view.filters = -1;
	n->view.link.active = -1;
	pthread_mutex_init(&n->lock, NULL);
	n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->wake < 0)
		return -errno;
	device_add(n);
	return port_add(n);
}

static int on_news(sd_event_source *source, int fd, uint32_t revents, void *user);

int nics_open(struct daemon *d)
{
	struct nics *all;
	int ret;

	if (!d->set.nic_count)
		return 0;
	all = d->nics = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	all->daemon = d;
	pthread_mutex_init(&all->ctx_lock, NULL);
	pthread_mutex_init(&all->heap_lock, NULL);
	pthread_mutex_init(&all->said_lock, NULL);
	all->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (all->news < 0)
		return -errno;
	ret = sd_event_add_io(d->event, &all->source, all->news, EPOLLIN, on_news, all);
	if (ret < 0)
		return ret;
	library_open(all); /* if not, `note` says why, and all NICs have failed */
	ret = 0;
	for (size_t i = 0; i < d->set.nic_count && !ret; i++)
		ret = nic_open(all, &d->set.nics[i]);
	return ret;
}

bool nics_opened(struct daemon *d)
{
	return d->nics && d->nics->opened;
}

void nics_run(struct daemon *d)
{
	struct nics *all = d->nics;
	int ret;

	if (!all)
		return;
	heap_share(all);
	for (unsigned int i = 0; i < all->count; i++) {
		ret = all->nic[i].dev ? nic_thread_start(&all->nic[i]) : 0;
		if (ret)
			nic_state(&all->nic[i], NIC_FAILED, "it got no thread: %s", strerror(-ret));
	}
}

/* ---- the end ---- */

/* Threads begin to end; nothing is exported any more. Then the context may go. */
void nics_stop(struct daemon *d)
{
	struct nics *all = d->nics;

	for (unsigned int i = 0; all && i < all->count; i++) {
		pthread_mutex_lock(&all->nic[i].lock);
		all->nic[i].stop = true;
		pthread_mutex_unlock(&all->nic[i].lock);
		nic_poke(all->nic[i].wake);
	}
	nics_ctx_gone(d);
}

/* No vCPU is inside any more, so every NIC can be had. */
void nics_join(struct daemon *d)
{
	struct nics *all = d->nics;

	for (unsigned int i = 0; all && i < all->count; i++) {
		pthread_mutex_lock(&all->nic[i].lock);
		all->nic[i].alone = true;
		pthread_mutex_unlock(&all->nic[i].lock);
	}
	for (unsigned int i = 0; all && i < all->count; i++) {
		if (all->nic[i].running)
			pthread_join(all->nic[i].thread, NULL);
		all->nic[i].running = false;
	}
}

void nics_close(struct daemon *d)
{
	struct nics *all = d->nics;

	if (!all)
		return;
	telemetry_close();
	for (unsigned int i = 0; i < all->count; i++) {
		if (all->nic[i].dev)
			all->lib->remove(all->nic[i].dev);
		if (all->nic[i].wake >= 0)
			close(all->nic[i].wake);
		if (all->nic[i].setup)
			munmap(all->nic[i].setup, VS_REGION_MIN);
	}
	if (all->opened)
		all->lib->close();
	heap_close(all);
	nics_tell(all);
	sd_event_source_disable_unref(all->source);
	if (all->news >= 0)
		close(all->news);
	free(all);
	d->nics = NULL;
}

/* ---- the trusted context ---- */

static bool wants_guests(const struct nics *all)
{
	for (unsigned int i = 0; i < all->count; i++)
		if (all->nic[i].dev && all->nic[i].set->serve == VS_NIC_BY_GUESTS)
			return true;
	return false;
}

/*
 * Drivers use thread-local variables, and take callers for threads that they know. Where that is
 * not possible the NICs are served by the daemon.
 */
static void threads_prepare(struct nics *all, struct elisa_ctx *ctx)
{
	int ret = elisa_export_tls(ctx);

	if (!ret)
		ret = elisa_ctx_thread(ctx, all->lib->thread_begin, all->lib->thread_end, NULL);
	if (ret)
		snprintf(all->ctx_note, sizeof(all->ctx_note),
			 "thread-local variables of libraries do not work inside: %s%s",
			 strerror(-ret),
			 ret == -ENOTSUP ? ": this C library is not known to elisa-host" : "");
}

int nics_ctx_made(struct daemon *d, struct elisa_ctx *ctx)
{
	struct nics *all = d->nics;

	if (!all || !all->opened)
		return 0;
	if (wants_guests(all))
		threads_prepare(all, ctx);
	return heap_export(all, ctx);
}

/* Now guests may be let at NICs that wait for it. */
void nics_ctx_ready(struct daemon *d)
{
	struct nics *all = d->nics;

	for (unsigned int i = 0; all && i < all->count; i++) {
		struct nic_port *n = &all->nic[i];

		pthread_mutex_lock(&n->lock);
		n->again = n->set->serve == VS_NIC_BY_GUESTS && n->view.grant == GRANT_OPEN;
		pthread_mutex_unlock(&n->lock);
		nic_poke(n->wake);
	}
}

void nics_ctx_gone(struct daemon *d)
{
	struct nics *all = d->nics;

	if (!all)
		return;
	pthread_mutex_lock(&all->ctx_lock);
	pthread_mutex_lock(&all->heap_lock);
	all->ctx = NULL;
	for (unsigned int i = 0; i < all->ranges; i++)
		all->heap[i].exported = false;
	pthread_mutex_unlock(&all->heap_lock);
	pthread_mutex_unlock(&all->ctx_lock);
}

/* ---- what others are told ---- */

/* A port that shows the link of a NIC. */
static bool uplink_up(const struct nics *all, const struct port *port)
{
	for (unsigned int i = 0; i < all->count; i++)
		if (!strcmp(all->nic[i].set->port.vs.name, port->set.uplink))
			return all->nic[i].link_up;
	return true;
}

static void port_carrier(struct nics *all, struct port *port)
{
	bool up = port->nic ? port->nic->link_up : uplink_up(all, port);
	int ret;

	if (up == !port->no_carrier)
		return;
	ret = vs_port_carrier(all->daemon->vs, port->id, up);
	if (ret)
		log_error("port %s: its link does not follow: %s", port->set.vs.name,
			  strerror(-ret));
	else
		port->no_carrier = !up;
}

/*
 * The address of a port that is bound, and may use no other, stays there whatever comes from
 * outside with it as its source; in the VLAN of its untagged frames.
 */
static void port_pin(struct nics *all, struct port *port)
{
	bool pin = port->guest && !port->deleting && port->set.vs.anti_spoof;
	uint16_t vid = port->set.vs.vlan.pvid;
	struct vswitch *vs = all->daemon->vs;

	pin = pin && !static_is_set(all->daemon, port->set.vs.mac, vid);
	if (port->pinned && (!pin || memcmp(port->pinned_mac, port->set.vs.mac, 6) ||
			     port->pinned_vid != vid)) {
		/* Meanwhile the administrator's own? */
		if (!static_is_set(all->daemon, port->pinned_mac, port->pinned_vid))
			vs_fdb_del(vs, port->pinned_mac, port->pinned_vid);
		port->pinned = false;
	}
	if (!pin || port->pinned)
		return;
	if (vs_fdb_add(vs, port->set.vs.mac, vid, port->id)) {
		log_warning("port %s: no room for its address: raise switch.fdb_capacity",
			    port->set.vs.name);
		return;
	}
	memcpy(port->pinned_mac, port->set.vs.mac, 6);
	port->pinned_vid = vid;
	port->pinned = true;
}

/*
 * Addresses that a NIC is to receive: those of bound ports that it may reach. One that may use
 * others than its own has zeros here, which stand for any.
 */
static void macs_update(struct nic_port *n)
{
	struct nic_macs macs = {0};
	struct port *port;

	TAILQ_FOREACH(port, &n->all->daemon->ports, link)
	{
		if (port->nic || !port->guest || !(port->set.vs.groups & n->port->set.vs.groups))
			continue;
		if (macs.count == NIC_MACS_MAX)
			break;
		if (port->set.vs.anti_spoof)
			memcpy(macs.mac[macs.count], port->set.vs.mac, 6);
		macs.queue[macs.count] = (uint16_t)(macs.count % n->port->set.vs.queues);
		macs.count++;
	}
	pthread_mutex_lock(&n->lock);
	n->macs_new = n->macs_new || memcmp(&n->macs, &macs, sizeof(macs));
	n->macs = macs;
	pthread_mutex_unlock(&n->lock);
	nic_poke(n->wake);
}

void nics_update(struct daemon *d)
{
	struct nics *all = d->nics;
	struct port *port;

	if (!all || d->stopping)
		return;
	TAILQ_FOREACH(port, &d->ports, link)
	{
		port_carrier(all, port);
		if (!port->nic)
			port_pin(all, port);
	}
	for (unsigned int i = 0; i < all->count; i++)
		if (all->nic[i].dev && all->nic[i].port)
			macs_update(&all->nic[i]);
}

/* Kept until the next one has its id: a NIC may be found in the hands of a VM that is gone. */
void nics_callers_come(struct guest *g)
{
	struct nics *all = g->daemon->nics;

	if (!all || g->id < 0 || g->id >= VS_GUESTS_MAX)
		return;
	pthread_mutex_lock(&all->heap_lock);
	snprintf(all->names[g->id], VS_NAME_LEN, "%s", g->name);
	pthread_mutex_unlock(&all->heap_lock);
}

/*
 * Perhaps with a NIC in their hands: that is looked for at once.
 */
void nics_callers_gone(struct guest *g)
{
	struct nics *all = g->daemon->nics;

	if (!all)
		return;
	pthread_mutex_lock(&all->heap_lock);
	snprintf(all->last_gone, sizeof(all->last_gone), "%s", g->name);
	pthread_mutex_unlock(&all->heap_lock);
	for (unsigned int i = 0; i < all->count; i++)
		nic_poke(all->nic[i].wake);
}

bool nics_late(struct daemon *d, char why[WHY_LEN])
{
	uint64_t now = now_us();

	for (unsigned int i = 0; d->nics && i < d->nics->count; i++) {
		struct nic_port *n = &d->nics->nic[i];

		if (!n->running || __atomic_load_n(&n->beat, __ATOMIC_RELAXED) > now)
			continue;
		snprintf(why, WHY_LEN, "NIC %s: its thread does not come back from the driver",
			 n->set->port.vs.name);
		return true;
	}
	return false;
}

bool nics_resetting(struct daemon *d)
{
	struct nics *all = d->nics;
	struct vs_nic_status st;
	bool any = false;

	for (unsigned int i = 0; all && i < all->count && !any; i++) {
		struct nic_port *n = &all->nic[i];

		pthread_mutex_lock(&n->lock);
		any = n->view.state == NIC_RESETTING;
		pthread_mutex_unlock(&n->lock);
		if (!any && n->port && !vs_nic_status(d->vs, n->port->id, &st))
			any = st.dirty;
	}
	return any;
}

static void say_link(struct daemon *d, struct nic_port *n, const struct nic_link *link)
{
	const char *name = n->set->port.vs.name;
	char speed[48] = "", device[128] = "";

	if (link->speed_mbps)
		snprintf(speed, sizeof(speed), ", %u Mbit/s%s", link->speed_mbps,
			 link->full_duplex ? "" : " half duplex");
	if (n->set->devices > 1 && link->active >= 0 &&
	    (unsigned int)link->active < n->set->devices)
		snprintf(device, sizeof(device), ", by %.100s", n->set->device[link->active]);
	event_say_why(d, EVENT_NIC, SD_NOTICE, NULL, name, link->up ? "link-up" : "link-down",
		      "NIC %s: link %s%s%s", name, link->up ? "up" : "down", link->up ? speed : "",
		      link->up ? device : "");
}

static int on_news(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct nics *all = user;
	uint64_t count;
	bool links = false;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return 0;
	heap_share(all);
	telemetry_serve(all);
	nics_tell(all);
	for (unsigned int i = 0; i < all->count; i++) {
		struct nic_port *n = &all->nic[i];
		uint32_t bells[NIC_BELLS];
		unsigned int bell_count;
		struct nic_link link;

		pthread_mutex_lock(&n->lock);
		link = n->view.link;
		bell_count = n->bell_count;
		memcpy(bells, n->bells, bell_count * sizeof(bells[0]));
		n->bell_count = 0;
		pthread_mutex_unlock(&n->lock);
		for (unsigned int b = 0; b < bell_count; b++)
			doorbell_ring(all->daemon, bells[b]);
		if (link.up != n->link_up || (link.up && link.active != n->link_active)) {
			say_link(all->daemon, n, &link);
			n->link_up = link.up;
			n->link_active = link.active;
			links = true;
		}
	}
	if (links)
		nics_update(all->daemon);
	return 0;
}

/* Whoever it is, VM or client; "" for none. */
const char *nic_owner(struct nics *all, uint32_t owner, char name[VS_NAME_LEN])
{
	name[0] = '\0';
	if (!owner || owner > VS_GUESTS_MAX)
		return name;
	pthread_mutex_lock(&all->heap_lock);
	snprintf(name, VS_NAME_LEN, "%s", all->names[owner - 1]);
	pthread_mutex_unlock(&all->heap_lock);
	return name;
}
