/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Captures: whoever asks becomes a guest of the switch, with a port that nobody else sees and that
 * mirrors lead to. It gets the descriptor of its memory, which holds the rings, and does the rest
 *by itself: nothing of a frame is copied or looked at here. What it does with its rings is its own
 * loss, as with every guest's.
 *
 *	MAPPING		local clients map the memory (they may be the senders)
 *	RUNNING		until its connection closes, however that comes
 *	DRAINING	mirrors are gone; everybody leaves its memory
 *	UNMAPPING	local clients unmap it
 */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFERS_LEN (8ul << 20)
#define BUF_MAX	    2048u
#define PAGE	    4096ul
/* Above local clients' RAM, below DPDK's heap; one is never adjacent to the next. */
#define CAPTURE_VA     0x321000000000ull
#define CAPTURE_STRIDE (64ull << 20)

/* Where things are in its memory, whose first byte has address 0. */
#define SETUP_AT 0ul
#define RX_AT	 PAGE

enum capture_state { CAPTURE_MAPPING, CAPTURE_RUNNING, CAPTURE_DRAINING, CAPTURE_UNMAPPING };

struct capture {
	TAILQ_ENTRY(capture) link;
	struct daemon *daemon;
	struct client *client;
	struct request *req; /* to be answered when it runs */
	enum capture_state state;
	unsigned int slot;
	pid_t pid;
	uid_t uid;
	struct vs_mirror mirror;
	json_t *names; /* of the ports */
	bool any;      /* all of them that can be had */
	int fd;
	void *mem;
	size_t len, comp_at, buffers_at;
	uint32_t entries, buf_len;
	bool exported;
	struct elisa_local_region *region;
	int guest, port; /* of libvswitch; -1 */
};

/* ---- its memory ---- */

static size_t pages(size_t len)
{
	return (len + PAGE - 1) & ~(PAGE - 1);
}

static void layout(struct capture *c)
{
	c->buf_len = ELISA_RX_BUF_MIN;
	while (c->buf_len < BUF_MAX && (!c->mirror.snap || c->buf_len < c->mirror.snap))
		c->buf_len *= 2;
	c->entries = (uint32_t)(BUFFERS_LEN / c->buf_len);
	c->comp_at = RX_AT + pages(sizeof(struct elisa_rx) + c->entries * sizeof(uint64_t));
	c->buffers_at = c->comp_at + pages(c->entries * sizeof(struct elisa_rxc));
	c->len = c->buffers_at + BUFFERS_LEN;
}

static int memory_make(struct capture *c)
{
	void *at = (void *)(CAPTURE_VA + c->slot * CAPTURE_STRIDE), *mem;

	layout(c);
	c->fd = memfd_create("elisa-capture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (c->fd < 0 || ftruncate(c->fd, (off_t)c->len) ||
	    fcntl(c->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	mem = mmap(at, c->len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, c->fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	c->mem = mem;
	madvise(c->mem, c->len, MADV_DONTFORK);
	return 0;
}

static int memory_export(struct capture *c)
{
	int ret;

	if (!c->daemon->ctx || c->exported)
		return 0;
	ret = elisa_export(c->daemon->ctx, c->mem, c->len, ELISA_R | ELISA_W);
	c->exported = !ret;
	return ret;
}

static void memory_unexport(struct capture *c)
{
	int ret;

	if (!c->exported || !c->daemon->ctx)
		return;
	ret = elisa_unexport(c->daemon->ctx, c->mem, c->len);
	if (ret)
		log_error("capture: memory not unexported: %s", strerror(-ret));
	c->exported = false;
}

static void capture_free(struct capture *c)
{
	TAILQ_REMOVE(&c->daemon->captures, c, link);
	if (c->mem)
		munmap(c->mem, c->len);
	if (c->fd >= 0)
		close(c->fd);
	json_decref(c->names);
	free(c);
}

/* ---- its place in the switch ---- */

/* All buffers are posted before anybody else has the memory: no frame is missed at the begin. */
static int queue_setup(struct capture *c)
{
	struct elisa_rx *rx = (void *)((uint8_t *)c->mem + RX_AT);
	struct elisa_queue_setup *setup = c->mem;
	struct vs_caller *caller;
	int64_t handle;
	int ret = vs_caller_add(c->daemon->vs, c->guest, &caller);

	if (ret)
		return ret;
	*setup = (struct elisa_queue_setup){
		.revision = ELISA_NET_REVISION,
		.rx_size = c->entries,
		.rx_buf_len = c->buf_len,
		.features = ELISA_NET_F_CSUM | ELISA_NET_F_TSO4 | ELISA_NET_F_TSO6,
		.rx_ring = RX_AT,
		.rx_comp = c->comp_at,
	};
	for (uint32_t i = 0; i < c->entries; i++)
		rx->addr[i] = c->buffers_at + (uint64_t)i * c->buf_len;
	rx->posted = c->entries;
	handle = vs_entry(caller, ELISA_NET_QUEUE_SETUP, SETUP_AT, 0, 0, 0);
	vs_caller_del(c->daemon->vs, caller);
	return handle < 0 ? (int)handle : 0;
}

/* In no group and reached by no flood: mirrors alone lead there. */
static int port_make(struct capture *c)
{
	struct vs_port_config cfg = {
		.mtu = ELISA_MTU_MAX,
		.queues = 1,
		.up = true,
		.anti_spoof = true,
		.flood_off = VS_FLOOD_BROADCAST | VS_FLOOD_MULTICAST | VS_FLOOD_UNKNOWN,
	};

	snprintf(cfg.name, sizeof(cfg.name), ".capture-%u", c->slot);
	derive_mac(cfg.name, cfg.mac);
	c->port = vs_port_add(c->daemon->vs, &cfg);
	return c->port < 0 ? c->port : vs_port_bind(c->daemon->vs, c->port, c->guest);
}

static int mirrors_make(struct capture *c)
{
	json_t *name;
	size_t i;
	int ret = 0;

	c->mirror.to = c->port;
	json_array_foreach(c->names, i, name)
	{
		struct port *port = port_find(c->daemon, json_string_value(name));

		ret = port ? vs_mirror_add(c->daemon->vs, port->id, &c->mirror) : -ENODEV;
		if (ret == -EINVAL && c->any)
			ret = 0; /* it is mirrored to */
		if (ret)
			break;
	}
	return ret;
}

static json_t *ports_json(struct capture *c)
{
	json_t *ports = json_object(), *name;
	char id[12];
	size_t i;

	json_array_foreach(c->names, i, name)
	{
		struct port *port = port_find(c->daemon, json_string_value(name));

		snprintf(id, sizeof(id), "%d", port ? port->id : -1);
		json_object_set(ports, id, name);
	}
	return ports;
}

static const char *names_of(struct capture *c, char text[256])
{
	size_t i, used = 0;
	json_t *name;

	text[0] = '\0';
	json_array_foreach(c->names, i, name) if (used < 256) used += (size_t)snprintf(
		text + used, 256 - used, "%s%s", i ? ", " : "", json_string_value(name));
	return text;
}

/* ---- its end ---- */

static void capture_unmap(struct capture *c)
{
	memory_unexport(c);
	c->state = CAPTURE_UNMAPPING;
	if (c->region)
		elisa_local_region_remove(c->region); /* capture_region_gone() follows */
	else
		capture_free(c);
}

static void capture_drained(struct daemon *d, void *arg)
{
	struct capture *c = arg;
	int ret = c->port < 0 ? 0 : vs_port_del(d->vs, c->port);

	if (!ret && c->guest >= 0)
		ret = vs_guest_del(d->vs, c->guest);
	if (ret)
		log_error("capture: not deleted from the switch: %s", strerror(-ret));
	c->port = c->guest = -1;
	capture_unmap(c);
}

static void capture_end(struct capture *c)
{
	struct daemon *d = c->daemon;
	struct elisa_port_counters n;
	char names[256];
	int ret;

	if (c->state == CAPTURE_DRAINING || c->state == CAPTURE_UNMAPPING)
		return;
	if (c->guest < 0) {
		capture_unmap(c);
		return;
	}
	if (c->port >= 0) {
		for (uint32_t id = 0; id < d->set.vs.ports; id++)
			vs_mirror_del(d->vs, (int)id, c->port); /* -ENODEV: had none */
		memset(&n, 0, sizeof(n));
		vs_port_counters(d->vs, c->port, &n);
		vs_port_unbind(d->vs, c->port);
		event_say_why(d, EVENT_CAPTURE, SD_NOTICE, NULL, NULL, "ended",
			      "capture of %s by process %d: ended, %llu frames, %llu missed",
			      names_of(c, names), (int)c->pid, (unsigned long long)n.rx_frames,
			      (unsigned long long)n.drops[ELISA_DROP_RX_NO_BUFFER]);
	}
	c->state = CAPTURE_DRAINING;
	ret = wait_grace(d, capture_drained, c);
	if (ret) /* its memory stays: somebody may still be in it */
		log_error("capture: not ended: %s", strerror(-ret));
}

/* ---- its begin ---- */

static void capture_fail(struct capture *c, int err, const char *step)
{
	struct request *req = c->req;

	c->req = NULL;
	c->client = NULL;
	if (req)
		request_error(req, RPC_REFUSED, json_pack("{s:i}", "errno", -err),
			      "no capture: %s: %s%s", step, strerror(-err),
			      err == -ENOSPC   ? " (no room left in the switch)"
			      : err == -EINVAL ? " (a port that is mirrored to has no mirrors)"
			      : err == -EAGAIN ? " (a former one is still ending)"
					       : "");
	capture_end(c);
}

/* Everybody who may send can reach its memory. */
static void capture_run(struct capture *c)
{
	const struct vs_region region = {0, c->len, c->mem};
	struct request *req = c->req;
	char names[256];
	int ret;

	c->guest = vs_guest_add(c->daemon->vs, "capture", &region, 1);
	ret = c->guest < 0 ? c->guest : port_make(c);
	if (!ret)
		ret = queue_setup(c);
	if (ret) {
		capture_fail(c, ret, "its port");
		return;
	}
	ret = mirrors_make(c);
	if (ret) {
		capture_fail(c, ret, "the mirror of a port");
		return;
	}
	c->state = CAPTURE_RUNNING;
	c->req = NULL;
	event_say_why(c->daemon, EVENT_CAPTURE, SD_NOTICE, NULL, NULL, "begun",
		      "capture of %s by process %d (user %u): begun", names_of(c, names),
		      (int)c->pid, (unsigned int)c->uid);
	request_reply_fd(req,
			 json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "size",
				   (json_int_t)c->len, "entries", (json_int_t)c->entries, "buf_len",
				   (json_int_t)c->buf_len, "rx", (json_int_t)RX_AT, "completions",
				   (json_int_t)c->comp_at, "buffers", (json_int_t)c->buffers_at,
				   "ports", ports_json(c)),
			 c->fd);
}

bool capture_owns(struct daemon *d, const void *who)
{
	struct capture *c;

	TAILQ_FOREACH(c, &d->captures, link)
	if (c == who)
		return true;
	return false;
}

void capture_region_ready(void *who)
{
	struct capture *c = who;

	if (c->state == CAPTURE_MAPPING)
		capture_run(c);
}

void capture_region_gone(void *who)
{
	struct capture *c = who;

	c->region = NULL;
	if (c->state == CAPTURE_UNMAPPING)
		capture_free(c);
}

static void capture_begin(struct capture *c)
{
	struct daemon *d = c->daemon;
	int ret = memory_make(c);

	if (!ret)
		ret = memory_export(c);
	if (!ret && d->local)
		ret = local_region_add(d, c->fd, 0, c->mem, c->len, c, &c->region);
	if (ret)
		capture_fail(c, ret, "its memory");
	else if (!c->region)
		capture_run(c);
}

/* ---- the methods ---- */

static bool read_what(struct request *req, json_t *params, uint8_t *what)
{
	static const char *const words[] = {"tx", "rx", "drops"};
	json_t *list = json_object_get(params, "what"), *word;
	size_t i, w;
	bool known = true;

	*what = list ? 0 : VS_MIRROR_TX | VS_MIRROR_RX;
	json_array_foreach(list, i, word)
	{
		for (w = 0; w < 3; w++)
			if (json_is_string(word) && !strcmp(json_string_value(word), words[w]))
				break;
		known = known && w < 3;
		*what |= (uint8_t)(1u << w);
	}
	if (*what && known)
		return true;
	request_error(req, RPC_PARAMS, NULL,
		      "\"what\" must be an array of \"tx\", \"rx\" and \"drops\", not empty");
	return false;
}

/* None named: all there are. */
static json_t *read_names(struct request *req, json_t *params)
{
	json_t *list = json_object_get(params, "ports"), *names, *name;
	struct port *port;
	size_t i;

	if (!list) {
		names = json_array();
		TAILQ_FOREACH(port, &req->daemon->ports, link)
		if (!port->deleting)
			json_array_append_new(names, json_string(port->set.vs.name));
		if (!names)
			request_error(req, RPC_REFUSED, NULL, "out of memory");
		return names;
	}
	json_array_foreach(list, i, name)
	{
		port = json_is_string(name) ? port_find(req->daemon, json_string_value(name))
					    : NULL;
		if (port && !port->deleting)
			continue;
		request_error(req, RPC_REFUSED, json_pack("{s:i}", "errno", ENODEV),
			      "there is no port \"%.64s\": see \"elisactl port list\"",
			      json_is_string(name) ? json_string_value(name) : "?");
		return NULL;
	}
	if (json_array_size(list)) {
		names = json_copy(list);
		if (!names)
			request_error(req, RPC_REFUSED, NULL, "out of memory");
		return names;
	}
	request_error(req, RPC_PARAMS, NULL, "\"ports\" must be an array of names, not empty");
	return NULL;
}

/* -1: none is free. */
static int free_slot(struct daemon *d)
{
	struct capture *c;
	bool used[CAPTURES_MAX] = {false};

	TAILQ_FOREACH(c, &d->captures, link)
	used[c->slot] = true;
	for (int i = 0; i < CAPTURES_MAX; i++)
		if (!used[i])
			return i;
	return -1;
}

static struct capture *capture_of(struct client *client, struct daemon *d)
{
	struct capture *c;

	TAILQ_FOREACH(c, &d->captures, link)
	if (client && c->client == client)
		return c;
	return NULL;
}

void capture_method(struct request *req, json_t *params)
{
	struct daemon *d = req->daemon;
	json_t *snap = json_object_get(params, "snap"), *names;
	json_int_t bytes = json_integer_value(snap);
	int slot = free_slot(d);
	struct capture *c;
	uint8_t what;

	if (snap && (!json_is_integer(snap) || (bytes && (bytes < 14 || bytes > 65535)))) {
		request_error(req, RPC_PARAMS, NULL,
			      "\"snap\" must be 14 to 65535 bytes, or 0: all");
		return;
	}
	if (!read_what(req, params, &what))
		return;
	if (slot < 0 || capture_of(req->client, d)) {
		request_error(req, RPC_REFUSED, json_pack("{s:i}", "errno", EBUSY),
			      slot < 0 ? "%d captures run already: end one first"
				       : "this connection has a capture already",
			      CAPTURES_MAX);
		return;
	}
	names = read_names(req, params);
	if (!names)
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		json_decref(names);
		request_error(req, RPC_REFUSED, NULL, "out of memory");
		return;
	}
	*c = (struct capture){.daemon = d,
			      .client = req->client,
			      .req = req,
			      .slot = (unsigned int)slot,
			      .mirror = {.what = what, .snap = (uint16_t)bytes, .annotate = true},
			      .names = names,
			      .any = !json_object_get(params, "ports"),
			      .fd = -1,
			      .guest = -1,
			      .port = -1};
	client_peer(req->client, &c->pid, &c->uid);
	TAILQ_INSERT_TAIL(&d->captures, c, link);
	capture_begin(c);
}

/* What was missed: the ring was full. */
void capture_stats_method(struct request *req, json_t *params)
{
	struct capture *c = capture_of(req->client, req->daemon);
	struct elisa_port_counters n;
	uint64_t missed = 0;

	if (!c || c->state != CAPTURE_RUNNING || vs_port_counters(req->daemon->vs, c->port, &n)) {
		request_error(req, RPC_REFUSED, NULL, "this connection has no capture");
		return;
	}
	for (unsigned int i = 0; i < ELISA_DROP_COUNT; i++)
		missed += n.drops[i];
	request_reply(req, json_pack("{s:I, s:I}", "frames", (json_int_t)n.rx_frames, "missed",
				     (json_int_t)missed));
}

/* ---- what happens around it ---- */

void capture_client_gone(struct daemon *d, struct client *client)
{
	struct capture *c = capture_of(client, d);
	struct request *req;

	if (!c)
		return;
	req = c->req;
	c->req = NULL;
	c->client = NULL;
	if (req)
		request_error(req, RPC_REFUSED, NULL, "gone");
	capture_end(c);
}

int capture_export_all(struct daemon *d)
{
	struct capture *c;
	int ret = 0;

	TAILQ_FOREACH(c, &d->captures, link)
	if (!ret && c->mem)
		ret = memory_export(c);
	return ret;
}

void capture_ctx_gone(struct daemon *d)
{
	struct capture *c;

	TAILQ_FOREACH(c, &d->captures, link)
	c->exported = false;
}

/* The server has forgotten its regions. */
void capture_local_gone(struct daemon *d)
{
	struct capture *c, *next;

	FOREACH_SAFE(c, &d->captures, link, next)
	{
		c->region = NULL;
		if (c->state == CAPTURE_UNMAPPING)
			capture_free(c);
		else if (c->state == CAPTURE_MAPPING && !d->stopping)
			capture_run(c);
	}
}

void captures_close(struct daemon *d)
{
	while (!TAILQ_EMPTY(&d->captures))
		capture_free(TAILQ_FIRST(&d->captures));
}
