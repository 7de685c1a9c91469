/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Doorbells: the server of QEMU's stock ivshmem-doorbell device, protocol version 0 (QEMU,
 * docs/specs/ivshmem-spec.txt). A VM rings another one's eventfd by a store to its device; KVM
 * connects the two, this server is in the way of no ring. It only introduces them:
 *
 *	a doorbell (one connection, one device) gets an id, and as many eventfds as it has vectors
 *	the process behind it is known by the kernel's word: the VM's QEMU
 *	it is told of another one's eventfds while their VMs' ports share an isolation group
 *
 * What each has been told is state, not a queue: peer_tell() sends what is missing, as far as the
 * socket takes it, and goes on when it takes more. The shared memory of the device is one private
 * page each: no VM shares memory with another.
 *
 * QEMU 7.2 frees a peer's table when it is told that the peer has left, and uses it again when one
 * of that id joins (close_peer_eventfds() in its hw/misc/ivshmem.c). So no id is ever told anew to
 * a doorbell that was told that it is gone.
 */
#include "daemon.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PROTOCOL_VERSION 0
#define SHARED_MEMORY	 (-1) /* as a message */
#define SHARED_SIZE	 4096 /* a power of two, since it becomes a PCI BAR */
#define PEERS_MAX	 256
#define PER_PROCESS_MAX	 ELISA_PORTS_PER_VM
#define IDS		 65536 /* 0 is not used: a bell of 0 means none */
#define FALLBACK_US	 (10 * MSEC)
#define RING_MAX	 64 /* bells of one look */

struct doorbell {
	struct doorbells *all;
	unsigned int slot;
	int fd;	   /* -1: no connection */
	bool kept; /* ... since it was the former daemon's */
	sd_event_source *source;
	pid_t pid;
	uint64_t pid_start;
	uint64_t order; /* of connection */
	uint16_t id;
	unsigned int setup; /* how many of the first messages have been sent */
	struct guest *guest;
	uint64_t groups; /* of its guest's ports, the last ones while it has none */
	uint64_t rings;	 /* by the daemon */
	int event[BELL_VECTORS_MAX];
	json_int_t event_id[BELL_VECTORS_MAX]; /* of the kernel, for the next daemon */
	uint8_t sent[PEERS_MAX]; /* vectors of the doorbell in that slot it has been told of */
	uint8_t gone[IDS / 8];	 /* ids that it was told are gone */
};

struct doorbells {
	struct daemon *daemon;
	int fd;
	sd_event_source *source, *timer;
	struct doorbell *peer[PEERS_MAX];
	uint64_t order, rings;
	uint16_t last_id;
};

#define FOREACH_PEER(p, all)                                     \
	for (unsigned int p##_i = 0; p##_i < PEERS_MAX; p##_i++) \
		if (((p) = (all)->peer[p##_i]) != NULL)

/* Otherwise it is gone, and kept only until everybody knows. */
static bool lives(const struct doorbell *p)
{
	return p->fd >= 0 || p->kept;
}

/* ---- telling ---- */

/* 0, or -EAGAIN: later; another error: the connection is of no use any more. */
static int send_message(int sock, int64_t message, int fd)
{
	const uint64_t wire = htole64((uint64_t)message);
	ssize_t n = elisa_send_fd(sock, &wire, sizeof(wire), fd, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return (int)n;
	return n == sizeof(wire) ? 0 : -EPIPE;
}

static int send_memory(int sock)
{
	int fd = memfd_create("elisa-doorbell", MFD_CLOEXEC | MFD_ALLOW_SEALING), ret;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, SHARED_SIZE) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		ret = -errno;
	else
		ret = send_message(sock, SHARED_MEMORY, fd);
	close(fd);
	return ret;
}

static bool is_gone(const struct doorbell *p, uint16_t id)
{
	return p->gone[id / 8] >> id % 8 & 1;
}

static bool should_know(const struct doorbell *p, const struct doorbell *q)
{
	if (!lives(q) || is_gone(p, q->id))
		return false;
	return p == q || p->groups & q->groups;
}

/* Brings what `p` knows of `q` to what it should know. */
static int tell_of(struct doorbell *p, const struct doorbell *q)
{
	unsigned int vectors = p->all->daemon->set.bell_vectors;
	uint8_t *sent = &p->sent[q->slot];
	int ret;

	if (should_know(p, q)) {
		for (; *sent < vectors && q->event[*sent] >= 0; (*sent)++) {
			ret = send_message(p->fd, q->id, q->event[*sent]);
			if (ret)
				return ret;
		}
	} else if (*sent) {
		ret = send_message(p->fd, q->id, -1);
		if (ret)
			return ret;
		*sent = 0;
		p->gone[q->id / 8] |= (uint8_t)(1 << q->id % 8);
	}
	return 0;
}

static int peer_setup(struct doorbell *p)
{
	int ret = 0;

	for (; p->setup < 3 && !ret; p->setup += !ret)
		ret = p->setup == 0   ? send_message(p->fd, PROTOCOL_VERSION, -1)
		      : p->setup == 1 ? send_message(p->fd, p->id, -1)
				      : send_memory(p->fd);
	return ret;
}

/* All that it does not know yet. The order among peers does not matter to the device. */
static int peer_tell(struct doorbell *p)
{
	int ret = peer_setup(p);
	struct doorbell *q;

	FOREACH_PEER(q, p->all)
	if (!ret)
		ret = tell_of(p, q);
	sd_event_source_set_io_events(p->source, ret == -EAGAIN ? EPOLLIN | EPOLLOUT : EPOLLIN);
	return ret == -EAGAIN ? 0 : ret;
}

/* ---- coming and going ---- */

static const char *owner(const struct doorbell *p)
{
	return p->guest ? p->guest->name : "no VM that is attached";
}

static void events_close(struct doorbell *p)
{
	for (unsigned int i = 0; i < BELL_VECTORS_MAX; i++)
		if (p->event[i] >= 0)
			close(p->event[i]);
}

static void peer_free(struct doorbell *p)
{
	sd_event_source_disable_unref(p->source);
	if (p->fd >= 0)
		close(p->fd);
	events_close(p);
	p->all->peer[p->slot] = NULL;
	free(p);
}

/* Its slot stays taken until everybody has been told. */
static void peer_gone(struct doorbell *p, const char *why)
{
	log_info("doorbell %u (pid %d, %s): %s", p->id, (int)p->pid, owner(p), why);
	p->source = sd_event_source_disable_unref(p->source);
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->kept = false;
	p->guest = NULL;
	p->groups = 0;
	state_changed(p->all->daemon);
}

static bool id_used(const struct doorbells *all, uint16_t id)
{
	const struct doorbell *p;

	FOREACH_PEER(p, all)
	if (p->id == id || is_gone(p, id))
		return true;
	return false;
}

static uint16_t new_id(struct doorbells *all)
{
	for (unsigned int i = 1; i < IDS; i++) {
		all->last_id = all->last_id == IDS - 1 ? 1 : all->last_id + 1;
		if (!id_used(all, all->last_id))
			return all->last_id;
	}
	return 0;
}

static int on_peer(sd_event_source *source, int fd, uint32_t revents, void *user)
{
	struct doorbell *p = user;
	char byte;

	/* A device has nothing to say. */
	if (revents & EPOLLIN && recv(p->fd, &byte, 1, MSG_DONTWAIT) > 0)
		peer_gone(
			p,
			"cut off: it sent something, which an ivshmem-doorbell device never does");
	else if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
		peer_gone(p, "disconnected");
	else if (peer_tell(p))
		peer_gone(p, "cut off: it cannot be written to");
	doorbells_update(p->all->daemon);
	return 0;
}

static int peer_events(struct doorbell *p)
{
	for (unsigned int i = 0; i < p->all->daemon->set.bell_vectors; i++) {
		p->event[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (p->event[i] < 0)
			return -errno;
		p->event_id[i] = proc_eventfd_id("/proc/self/fdinfo", p->event[i]);
	}
	return 0;
}

/* In the first free slot; NULL: there is none, or no memory. */
static struct doorbell *peer_new(struct doorbells *all, pid_t pid)
{
	unsigned int slot = 0;
	struct doorbell *p;

	while (slot < PEERS_MAX && all->peer[slot])
		slot++;
	p = slot < PEERS_MAX ? calloc(1, sizeof(*p)) : NULL;
	if (!p)
		return NULL;
	p->all = all;
	p->fd = -1;
	p->slot = slot;
	p->pid = pid;
	p->pid_start = proc_start(pid);
	p->order = ++all->order;
	memset(p->event, -1, sizeof(p->event));
	all->peer[slot] = p;
	return p;
}

/* Fails with a sentence. */
static struct doorbell *peer_connect(struct doorbells *all, int fd, const char **why)
{
	unsigned int of_process = 0;
	struct ucred cred = {0};
	socklen_t len = sizeof(cred);
	struct doorbell *p, *q;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
	*why = "too many doorbells";
	FOREACH_PEER(q, all)
	{
		of_process += lives(q) && q->pid == cred.pid;
		/* A chardev with reconnect=: the device would take our greeting for news of peers.
		 */
		if (q->kept && q->pid == cred.pid)
			*why = "it has one since before the daemon was started";
	}
	FOREACH_PEER(q, all)
	if ((q->kept && q->pid == cred.pid) || of_process >= PER_PROCESS_MAX)
		return NULL;
	p = peer_new(all, cred.pid);
	if (!p)
		return NULL;
	*why = "no descriptor for it";
	p->id = new_id(all);
	if (!p->id || peer_events(p) ||
	    sd_event_add_io(all->daemon->event, &p->source, fd, EPOLLIN, on_peer, p) < 0) {
		peer_free(p);
		return NULL;
	}
	p->fd = fd;
	state_changed(all->daemon);
	return p;
}

/* ---- whose it is, and what rings where ---- */

static void find_owners(struct doorbells *all)
{
	struct doorbell *p;
	uint64_t groups;
	struct guest *g;
	struct port *port;

	FOREACH_PEER(p, all)
	{
		p->guest = NULL;
		groups = 0;
		if (!lives(p))
			continue;
		TAILQ_FOREACH(g, &all->daemon->guests, link)
		if (!g->local && g->pid == p->pid && g->pid_start == p->pid_start)
			p->guest = g;
		TAILQ_FOREACH(port, &all->daemon->ports, link)
		if (p->guest && port->guest == p->guest)
			groups |= port->set.vs.groups;
		/* One that is detached may come back, and could not be told anew. */
		if (groups)
			p->groups = groups;
	}
}

/* The n-th doorbell of a VM, by connection; NULL: it has fewer. */
static struct doorbell *nth(struct doorbells *all, const struct guest *g, unsigned int n)
{
	struct doorbell *p, *best = NULL;
	uint64_t after = 0;

	for (unsigned int i = 0; i <= n; i++) {
		best = NULL;
		FOREACH_PEER(p, all)
		if (p->guest == g && p->order > after && (!best || p->order < best->order))
			best = p;
		if (!best)
			return NULL;
		after = best->order;
	}
	return best;
}

static struct doorbell *port_doorbell(struct doorbells *all, const struct port *port)
{
	struct vs_port_info info;
	unsigned int count = 0;

	while (nth(all, port->guest, count))
		count++;
	if (!count || vs_port_info(all->daemon->vs, port->id, &info))
		return NULL;
	return nth(all, port->guest, info.guest_index % count);
}

static struct doorbell *by_id(struct doorbells *all, unsigned int id)
{
	struct doorbell *p;

	FOREACH_PEER(p, all)
	if (p->id == id && lives(p))
		return p;
	return NULL;
}

/* The first run of free vectors as long as the port has queues; -1: none. */
static int free_vectors(struct doorbell *p, const struct port *for_port)
{
	unsigned int vectors = p->all->daemon->set.bell_vectors, run = 0;
	bool used[BELL_VECTORS_MAX] = {false};
	struct port *port;

	TAILQ_FOREACH(port, &p->all->daemon->ports, link)
	for (unsigned int q = 0; port->bell >> 16 == p->id && q < port->set.vs.queues; q++)
		used[((port->bell & 0xffff) + q) % BELL_VECTORS_MAX] = true;
	for (unsigned int v = 0; v < vectors; v++) {
		run = used[v] ? 0 : run + 1;
		if (run == for_port->set.vs.queues)
			return (int)(v + 1 - run);
	}
	return -1;
}

static void port_bell(struct doorbells *all, struct port *port)
{
	struct doorbell *p = port->bell ? by_id(all, port->bell >> 16) : NULL;
	uint32_t bell = 0;
	int first, ret;

	if (p && p->guest == port->guest)
		return; /* what the guest has been told stays right */
	p = port_doorbell(all, port);
	port->bell = 0;
	first = p ? free_vectors(p, port) : -1;
	if (first >= 0)
		bell = (uint32_t)p->id << 16 | (uint32_t)first;
	if (p && first < 0 && !port->bell_short)
		log_warning("port %s: it has %u queues, but doorbell %u of VM %s has fewer vectors "
			    "left of its %u: raise doorbell.vectors, or give the VM one more",
			    port->set.vs.name, port->set.vs.queues, p->id, port->guest->name,
			    all->daemon->set.bell_vectors);
	port->bell_short = p && first < 0;
	ret = vs_port_bell(all->daemon->vs, port->id, bell);
	if (ret)
		log_error("port %s: no doorbell: %s", port->set.vs.name, strerror(-ret));
	else
		port->bell = bell;
}

static void assign_bells(struct doorbells *all)
{
	struct port *port;

	TAILQ_FOREACH(port, &all->daemon->ports, link)
	{
		if (port->guest && !port->guest->local) {
			port_bell(all, port);
		} else {
			port->bell = 0; /* libvswitch forgot it with the guest */
			port->bell_short = false;
		}
	}
}

static void tell_all(struct doorbells *all)
{
	struct doorbell *p;
	bool again;

	do {
		again = false;
		FOREACH_PEER(p, all)
		{
			if (p->fd < 0 || !peer_tell(p))
				continue;
			peer_gone(p, "cut off: it cannot be written to");
			again = true; /* those before it must be told */
		}
	} while (again);
}

static void forget_gone(struct doorbells *all)
{
	struct doorbell *p, *q;
	bool known;

	FOREACH_PEER(q, all)
	{
		known = lives(q);
		FOREACH_PEER(p, all)
		known = known || (p->fd >= 0 && p->sent[q->slot]);
		if (known)
			continue;
		FOREACH_PEER(p, all)
		p->sent[q->slot] = 0;
		peer_free(q);
	}
}

void doorbells_update(struct daemon *d)
{
	struct doorbells *all = d->doorbells;
	struct doorbell *p;
	unsigned int count = 0;

	if (!all)
		return;
	find_owners(all);
	assign_bells(all);
	tell_all(all);
	forget_gone(all);
	FOREACH_PEER(p, all)
	count += lives(p);
	sd_event_source_set_enabled(all->timer, count ? SD_EVENT_ON : SD_EVENT_OFF);
}

/* ---- the fallback ---- */

static bool ring(struct doorbell *p, unsigned int vector)
{
	struct pollfd room = {.events = POLLOUT};
	uint64_t one = 1;

	if (!p || vector >= p->all->daemon->set.bell_vectors)
		return false;
	/* QEMU may have made it blocking, and full. */
	room.fd = p->event[vector];
	return poll(&room, 1, 0) == 1 && room.revents & POLLOUT &&
	       write(room.fd, &one, sizeof(one)) == sizeof(one);
}

void doorbell_ring(struct daemon *d, uint32_t bell)
{
	struct doorbell *p = d->doorbells ? by_id(d->doorbells, bell >> 16) : NULL;

	if (!ring(p, bell & 0xffff))
		return;
	p->rings++;
	d->doorbells->rings++;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *user)
{
	struct doorbells *all = user;
	uint32_t bells[RING_MAX];
	int n = vs_bells_due(all->daemon->vs, bells, RING_MAX);

	for (int i = 0; i < n; i++)
		doorbell_ring(all->daemon, bells[i]);
	sd_event_source_set_time(source, now_us() + FALLBACK_US);
	return 0;
}

/* ---- what it looks like ---- */

json_t *doorbells_status_json(struct daemon *d)
{
	json_t *json = json_pack("{s:b, s:s, s:i}", "enabled", (int)!!d->doorbells, "socket",
				 d->set.bell_socket, "vectors", (int)d->set.bell_vectors);
	unsigned int count = 0, kept = 0;
	struct doorbell *p;

	if (!d->doorbells)
		return json;
	FOREACH_PEER(p, d->doorbells)
	{
		count += p->fd >= 0;
		kept += p->kept;
	}
	json_object_set_new(json, "connected", json_integer(count));
	json_object_set_new(json, "kept", json_integer(kept));
	json_object_set_new(json, "rings", json_integer((json_int_t)d->doorbells->rings));
	return json;
}

json_t *guest_doorbells_json(struct guest *g)
{
	json_t *list = json_array();
	struct doorbell *p;

	for (unsigned int n = 0; g->daemon->doorbells && (p = nth(g->daemon->doorbells, g, n)); n++)
		json_array_append_new(list, json_pack("{s:i, s:I}", "id", (int)p->id, "rings",
						      (json_int_t)p->rings));
	return list;
}

json_t *port_doorbell_json(struct port *port)
{
	if (port->bell)
		return json_pack("{s:i, s:i, s:i}", "id", (int)(port->bell >> 16), "vector",
				 (int)(port->bell & 0xffff), "vectors", (int)port->set.vs.queues);
	return port->bell_short ? json_pack("{s:s}", "note", "too few vectors") : json_null();
}

/* ---- across a restart of the daemon ---- */

/*
 * A device cannot connect anew, but it keeps the eventfds that it has, and the VMs that know it
 * ring on. So the next daemon keeps its id for its ports, and finds its eventfds in QEMU for new
 * VMs.
 */
json_t *doorbells_save(struct daemon *d)
{
	json_t *list = json_array(), *events;
	struct doorbell *p;

	if (!d->doorbells)
		return list;
	FOREACH_PEER(p, d->doorbells)
	{
		if (!lives(p))
			continue;
		events = json_array();
		for (unsigned int i = 0; i < BELL_VECTORS_MAX && p->event[i] >= 0; i++)
			json_array_append_new(events, json_integer(p->event_id[i]));
		json_array_append_new(
			list, json_pack("{s:i, s:I, s:i, s:I, s:o}", "pid", (int)p->pid,
					"pid_start", (json_int_t)p->pid_start, "id", (int)p->id,
					"order", (json_int_t)p->order, "events", events));
	}
	return list;
}

static void load_one(struct doorbells *all, json_t *entry)
{
	struct doorbell *p;
	json_t *events, *e;
	json_int_t start, order;
	int pid, id;
	size_t i;

	if (json_unpack(entry, "{s:i, s:I, s:i, s:I, s:o}", "pid", &pid, "pid_start", &start, "id",
			&id, "order", &order, "events", &events) ||
	    id <= 0 || id >= IDS || by_id(all, (unsigned int)id) || !start ||
	    proc_start(pid) != (uint64_t)start)
		return;
	p = peer_new(all, pid);
	if (!p)
		return;
	p->kept = true;
	p->order = (uint64_t)order;
	if (p->order > all->order)
		all->order = p->order;
	p->id = (uint16_t)id;
	json_array_foreach(events, i, e)
	{
		if (i == all->daemon->set.bell_vectors)
			break;
		p->event_id[i] = json_integer_value(e);
		p->event[i] = proc_eventfd(pid, p->event_id[i]);
		if (p->event[i] < 0)
			break;
	}
	log_info("doorbell %u (pid %d): kept from the former daemon, %zu of its vectors", p->id,
		 pid, i);
}

void doorbells_load(struct daemon *d, json_t *list)
{
	json_t *entry;
	size_t i;

	if (!d->doorbells)
		return;
	json_array_foreach(list, i, entry) load_one(d->doorbells, entry);
	doorbells_update(d);
}

/* Each second: nobody tells us that the process of a kept one has ended. */
void doorbells_tick(struct daemon *d)
{
	struct doorbell *p;
	bool changed = false;

	if (!d->doorbells)
		return;
	FOREACH_PEER(p, d->doorbells)
	{
		if (!p->kept || proc_start(p->pid) == p->pid_start)
			continue;
		peer_gone(p, "its process has ended");
		changed = true;
	}
	if (changed)
		doorbells_update(d);
}

/* ---- the socket ---- */

static int on_accept(sd_event_source *source, int listener, uint32_t revents, void *user)
{
	struct doorbells *all = user;
	struct doorbell *p;
	const char *why;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return 0;
	p = peer_connect(all, fd, &why);
	if (!p) {
		log_warning("doorbell: refused: %s", why);
		close(fd);
		return 0;
	}
	find_owners(all);
	log_info("doorbell %u (pid %d, %s): connected", p->id, (int)p->pid, owner(p));
	doorbells_update(all->daemon); /* may end it */
	return 0;
}

int doorbells_open(struct daemon *d)
{
	struct doorbells *all = calloc(1, sizeof(*all));
	int ret;

	if (!all)
		return -ENOMEM;
	all->daemon = d;
	/* The control socket made sure that there is no other daemon. */
	all->fd = ret = socket_listen(d->set.bell_socket, d->set.bell_gid);
	if (ret < 0)
		goto fail;
	ret = sd_event_add_io(d->event, &all->source, all->fd, EPOLLIN, on_accept, all);
	if (ret < 0)
		goto fail;
	ret = sd_event_add_time(d->event, &all->timer, CLOCK_MONOTONIC, 0, MSEC, on_timer, all);
	if (ret < 0)
		goto fail;
	sd_event_source_set_enabled(all->timer, SD_EVENT_OFF);
	d->doorbells = all;
	return 0;
fail:
	log_error("doorbell socket %s: %s: set doorbell.socket, or doorbell.enable = false",
		  d->set.bell_socket, strerror(-ret));
	sd_event_source_disable_unref(all->source);
	if (all->fd >= 0)
		close(all->fd);
	free(all);
	return ret;
}

void doorbells_close(struct daemon *d)
{
	struct doorbells *all = d->doorbells;
	struct doorbell *p;

	if (!all)
		return;
	d->doorbells = NULL;
	FOREACH_PEER(p, all)
	peer_free(p);
	sd_event_source_disable_unref(all->timer);
	sd_event_source_disable_unref(all->source);
	close(all->fd);
	unlink(d->set.bell_socket);
	free(all);
}
