/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service's side of the local transport (second half of elisa/local.h).
 *
 * Roadmap: every message to a client that wants an ACK is a struct request, hung to its peer and
 * counted at the region it is about. When a count falls to zero something is complete: a region is
 * mapped (or gone) everywhere, a peer has all it needs. settle() looks for what is complete and is
 * the only place, besides a JOIN's answer, that calls back; it runs from dispatch only, so that the
 * functions of the API can be called from inside a callback.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <elisa/abi.h>
#include <elisa/local.h>

#define PEERS_MAX    256
#define REQUESTS_MAX 4096 /* unanswered ones of a peer */
#define TIMER_MS     100

struct request {
	struct request *next;
	struct elisa_local_region *region; /* NULL: the WELCOME */
	uint32_t seq;
	uint64_t deadline_ms;
};

enum region_state { REGION_ADDING, REGION_READY, REGION_REMOVING };

struct elisa_local_region {
	struct elisa_local_region *next;
	struct elisa_local_server *server;
	struct elisa_local_peer *owner; /* a peer's RAM; NULL: by region_add */
	enum region_state state;
	uint32_t pending; /* requests about it */
	struct elisa_local_map map;
	int fd;
	void *user;
};

enum peer_state {
	PEER_NEW,     /* connected, has not asked yet */
	PEER_JOINING, /* let in; its and the others' ACKs are awaited */
	PEER_READY,
	PEER_LEFT,     /* `leave` was called; the service is to release it */
	PEER_RELEASED, /* its RAM is being unmapped by the others */
};

struct elisa_local_peer {
	struct elisa_local_peer *next;
	struct elisa_local_server *server;
	enum peer_state state;
	int sock, pidfd, ram_fd;
	struct ucred cred;
	uint32_t seq;
	uint64_t join_deadline_ms;
	struct request *requests;
	uint32_t request_count;
	struct elisa_local_region *ram;
	bool doomed, orderly;
	void *user;
};

struct elisa_local_server {
	struct elisa_local_config config;
	char *path;
	struct stat path_stat;
	struct elisa_local_welcome welcome;
	int epoll, sock, event, timer;
	struct elisa_local_peer *peers;
	struct elisa_local_region *regions;
	uint32_t peer_count;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

__attribute__((format(printf, 2, 3))) static void say(const struct elisa_local_server *s,
						      const char *format, ...)
{
	char line[256];
	va_list args;

	if (!s->config.ops->log)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	s->config.ops->log(s->config.user, line);
}

/* Makes dispatch run soon: something may be complete. */
static void wake(const struct elisa_local_server *s)
{
	const uint64_t one = 1;

	/* Fails only when the counter is full, that is: awake already. */
	if (write(s->event, &one, sizeof(one)) < 0)
		return;
}

static int watch(const struct elisa_local_server *s, int fd, void *what)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = what};

	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* ---- requests ---- */

static void doom(struct elisa_local_peer *p, const char *why)
{
	if (!p->doomed && why)
		say(p->server, "local client %d: %s: its connection is closed", (int)p->cred.pid,
		    why);
	p->doomed = true;
	wake(p->server);
}

/* Sends a message that the client will ACK. A client that cannot be told is doomed. */
static void ask(struct elisa_local_peer *p, struct elisa_local_msg *msg, enum elisa_local_type type,
		int fd, struct elisa_local_region *region)
{
	struct request *r = p->request_count < REQUESTS_MAX ? malloc(sizeof(*r)) : NULL;
	int rc;

	if (!r) {
		doom(p, "too many unanswered requests");
		return;
	}
	rc = elisa_local_send(p->sock, msg, type, ++p->seq, fd);
	if (rc) {
		free(r);
		doom(p, rc == -EAGAIN ? "does not read its messages" : strerror(-rc));
		return;
	}
	*r = (struct request){.next = p->requests,
			      .region = region,
			      .seq = p->seq,
			      .deadline_ms = now_ms() + p->server->config.ack_timeout_ms};
	p->requests = r;
	p->request_count++;
	if (region)
		region->pending++;
}

static void drop_request(struct elisa_local_peer *p, struct request **at)
{
	struct request *r = *at;

	*at = r->next;
	p->request_count--;
	if (r->region)
		r->region->pending--;
	free(r);
}

static void ask_map(struct elisa_local_peer *p, struct elisa_local_region *region)
{
	struct elisa_local_msg msg = {.body.map = region->map};

	ask(p, &msg, ELISA_LOCAL_MAP, region->fd, region);
}

static bool takes_part(const struct elisa_local_peer *p)
{
	return !p->doomed && (p->state == PEER_JOINING || p->state == PEER_READY);
}

/* ---- regions ---- */

static struct elisa_local_region *region_new(struct elisa_local_server *s, int fd,
					     const struct elisa_local_map *map)
{
	struct elisa_local_region *region = calloc(1, sizeof(*region));

	if (!region)
		return NULL;
	region->server = s;
	region->map = *map;
	region->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (region->fd < 0) {
		free(region);
		return NULL;
	}
	region->next = s->regions;
	s->regions = region;
	return region;
}

static void region_announce(struct elisa_local_region *region)
{
	for (struct elisa_local_peer *p = region->server->peers; p; p = p->next)
		if (takes_part(p) && p != region->owner)
			ask_map(p, region);
	wake(region->server);
}

int elisa_local_region_add(struct elisa_local_server *server, int fd, uint64_t offset, void *addr,
			   uint64_t len, bool write, void *user, struct elisa_local_region **region)
{
	const struct elisa_local_map map = {
		.addr = (uintptr_t)addr, .len = len, .offset = offset, .write = write};
	struct elisa_local_msg probe = {.body.map = map};
	ssize_t size = elisa_local_encode(&probe, ELISA_LOCAL_MAP, 0);
	struct elisa_local_region *r;

	if (elisa_local_decode(&probe, (size_t)size, true))
		return -EINVAL;
	r = region_new(server, fd, &map);
	if (!r)
		return errno ? -errno : -ENOMEM;
	r->user = user;
	region_announce(r);
	*region = r;
	return 0;
}

static void region_retire(struct elisa_local_region *region)
{
	struct elisa_local_msg msg = {
		.body.unmap = {.addr = region->map.addr, .len = region->map.len}};

	if (region->state == REGION_REMOVING)
		return;
	region->state = REGION_REMOVING;
	for (struct elisa_local_peer *p = region->server->peers; p; p = p->next)
		if (takes_part(p) && p != region->owner)
			ask(p, &msg, ELISA_LOCAL_UNMAP, -1, region);
	wake(region->server);
}

void elisa_local_region_remove(struct elisa_local_region *region)
{
	region_retire(region);
}

void *elisa_local_region_user(const struct elisa_local_region *region)
{
	return region->user;
}

static void region_free(struct elisa_local_region *region)
{
	struct elisa_local_region **at = &region->server->regions;

	while (*at != region)
		at = &(*at)->next;
	*at = region->next;
	close(region->fd);
	free(region);
}

/* ---- peers ---- */

void elisa_local_peer_set_user(struct elisa_local_peer *peer, void *user)
{
	peer->user = user;
}

void *elisa_local_peer_user(const struct elisa_local_peer *peer)
{
	return peer->user;
}

pid_t elisa_local_peer_pid(const struct elisa_local_peer *peer)
{
	return peer->cred.pid;
}

void elisa_local_peer_kick(struct elisa_local_peer *peer)
{
	doom(peer, NULL);
}

void elisa_local_peer_release(struct elisa_local_peer *peer)
{
	if (peer->state != PEER_LEFT)
		return;
	peer->state = PEER_RELEASED;
	if (peer->ram)
		region_retire(peer->ram);
	wake(peer->server);
}

static void peer_close(struct elisa_local_peer *p)
{
	while (p->requests)
		drop_request(p, &p->requests);
	if (p->sock >= 0)
		close(p->sock);
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->sock = p->pidfd = -1;
}

static void peer_free(struct elisa_local_peer *p)
{
	struct elisa_local_server *s = p->server;
	struct elisa_local_peer **at = &s->peers;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	s->peer_count--;
	peer_close(p);
	if (p->ram_fd >= 0)
		close(p->ram_fd);
	free(p);
}

static void peer_accept(struct elisa_local_server *s)
{
	int sock = accept4(s->sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	socklen_t len = sizeof(struct ucred);
	struct elisa_local_peer *p;

	if (sock < 0)
		return;
	p = s->peer_count < PEERS_MAX ? calloc(1, sizeof(*p)) : NULL;
	if (!p) {
		close(sock);
		return;
	}
	*p = (struct elisa_local_peer){
		.server = s, .sock = sock, .pidfd = -1, .ram_fd = -1, .next = s->peers};
	p->join_deadline_ms = now_ms() + s->config.ack_timeout_ms;
	s->peers = p;
	s->peer_count++;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &p->cred, &len) || watch(s, sock, p)) {
		peer_free(p);
		return;
	}
	/* A child of the client may keep the socket open beyond the client's death: watch both. */
	p->pidfd = (int)syscall(SYS_pidfd_open, p->cred.pid, 0);
	if (p->pidfd >= 0 && watch(s, p->pidfd, p))
		doom(p, "cannot be watched");
}

static void refuse(struct elisa_local_peer *p, int error, const char *text)
{
	struct elisa_local_msg msg = {.body.refused.error = (uint32_t)-error};

	snprintf(msg.body.refused.text, sizeof(msg.body.refused.text), "%s", text);
	elisa_local_send(p->sock, &msg, ELISA_LOCAL_REFUSED, 0, -1);
	doom(p, NULL);
}

static bool is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && seals & F_SEAL_SHRINK;
}

/*
 * The RAM can be mapped here without fear of SIGBUS: it is as long as said, and stays so if it is
 * sealed or if the client, which could do worse, keeps its word.
 */
static const char *ram_problem(int fd, const struct elisa_local_join *join)
{
	struct stat st;

	if (!(join->flags & ELISA_LOCAL_UNSEALED) && !is_sealed(fd))
		return "its RAM is not a memfd sealed against shrinking";
	/* The codec has bounded both: the sum cannot overflow. */
	if (fstat(fd, &st) || (uint64_t)st.st_size < join->ram_offset + join->ram_len)
		return "its RAM is shorter than it says";
	return NULL;
}

static void peer_welcome(struct elisa_local_peer *p, const struct elisa_local_answer *answer,
			 const struct elisa_local_join *join)
{
	struct elisa_local_server *s = p->server;
	const struct elisa_local_map map = {.addr = (uintptr_t)answer->ram_addr,
					    .len = join->ram_len,
					    .offset = join->ram_offset,
					    .write = 1};
	struct elisa_local_msg msg = {.body.welcome = s->welcome};

	p->state = PEER_JOINING;
	msg.body.welcome.callers = answer->callers;
	msg.body.welcome.ram_addr = (uintptr_t)answer->ram_addr;
	for (uint32_t i = 0; i < answer->callers; i++)
		msg.body.welcome.cookie[i] = (uintptr_t)answer->cookie[i];
	ask(p, &msg, ELISA_LOCAL_WELCOME, s->config.arena_fd, NULL);
	for (struct elisa_local_region *r = s->regions; r && !p->doomed; r = r->next)
		if (r->state != REGION_REMOVING)
			ask_map(p, r);
	p->ram = region_new(s, p->ram_fd, &map);
	if (!p->ram) {
		doom(p, "no memory");
		return;
	}
	p->ram->owner = p;
	region_announce(p->ram);
}

static void peer_join(struct elisa_local_peer *p, const struct elisa_local_join *join, int fd)
{
	struct elisa_local_server *s = p->server;
	const struct elisa_local_request request = {
		.pid = p->cred.pid,
		.uid = p->cred.uid,
		.gid = p->cred.gid,
		.name = join->name,
		.callers = join->callers,
		.page = join->page,
		.ram_fd = fd,
		.ram_len = join->ram_len,
		.ram_offset = join->ram_offset,
		.ram_gpa = join->ram_gpa,
		.sealed = is_sealed(fd),
	};
	struct elisa_local_answer answer = {.text = "refused by the service"};
	const char *problem = ram_problem(fd, join);
	int rc;

	p->ram_fd = fd;
	if (join->abi_revision != ELISA_ABI_REVISION)
		refuse(p, -EPROTO, "another revision of the guest ABI");
	else if (join->service != s->config.service)
		refuse(p, -EPROTO, "another service listens here");
	else if (problem)
		refuse(p, -EINVAL, problem);
	else if ((rc = s->config.ops->join(s->config.user, p, &request, &answer)) < 0)
		refuse(p, rc, answer.text);
	else
		peer_welcome(p, &answer, join);
}

static void peer_ack(struct elisa_local_peer *p, uint32_t seq, uint32_t error)
{
	struct request **at = &p->requests;
	char why[80];

	while (*at && (*at)->seq != seq)
		at = &(*at)->next;
	if (!*at) {
		doom(p, "answers what nobody asked");
		return;
	}
	if (error) {
		snprintf(why, sizeof(why), "cannot map memory: %s", strerror((int)error));
		doom(p, why);
		return;
	}
	drop_request(p, at);
}

static void peer_readable(struct elisa_local_peer *p)
{
	struct elisa_local_msg msg;
	int fd, rc;

	/* Level-triggered: what is left after a bounded number comes up again. */
	for (int i = 0; i < 16 && !p->doomed; i++) {
		rc = elisa_local_recv(p->sock, &msg, &fd);
		if (rc == -EAGAIN)
			return;
		if (rc) {
			doom(p, rc == -ECONNRESET ? NULL : "sent a malformed message");
			return;
		}
		if (msg.header.type == ELISA_LOCAL_JOIN && p->state == PEER_NEW) {
			peer_join(p, &msg.body.join, fd);
			continue;
		}
		if (fd >= 0)
			close(fd);
		if (msg.header.type == ELISA_LOCAL_ACK) {
			peer_ack(p, msg.header.seq, msg.body.ack.error);
		} else if (msg.header.type == ELISA_LOCAL_LEAVE) {
			p->orderly = true;
			doom(p, NULL);
		} else {
			doom(p, "sent a message out of turn");
		}
	}
}

static bool peer_process_dead(const struct elisa_local_peer *p)
{
	struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};

	return p->pidfd >= 0 && poll(&fd, 1, 0) > 0;
}

static void check_deadlines(struct elisa_local_peer *p)
{
	const uint64_t now = now_ms();

	if (p->doomed)
		return;
	if (p->state == PEER_NEW && now > p->join_deadline_ms)
		doom(p, "connected without joining");
	for (struct request *r = p->requests; r; r = r->next) {
		if (now > r->deadline_ms) {
			doom(p, "does not answer");
			return;
		}
	}
}

/* ---- dispatch ---- */

static bool settle_peer(struct elisa_local_peer *p)
{
	const struct elisa_local_ops *ops = p->server->config.ops;
	void *user = p->server->config.user;
	struct elisa_local_msg msg;
	bool let_in;

	if (p->doomed && p->state <= PEER_READY) {
		let_in = p->state != PEER_NEW;
		peer_close(p);
		p->state = PEER_LEFT;
		if (let_in)
			ops->leave(user, p, p->orderly);
		else
			peer_free(p);
		return true;
	}
	if (p->state == PEER_RELEASED && !p->ram) {
		ops->released(user, p);
		peer_free(p);
		return true;
	}
	if (p->state == PEER_JOINING && !p->requests && p->ram->state == REGION_READY) {
		p->state = PEER_READY;
		ops->ready(user, p);
		if (!p->doomed && elisa_local_send(p->sock, &msg, ELISA_LOCAL_READY, 0, -1))
			doom(p, "went away while joining");
		return true;
	}
	return false;
}

static bool settle_region(struct elisa_local_region *r)
{
	const struct elisa_local_ops *ops = r->server->config.ops;
	void *user = r->server->config.user;
	struct elisa_local_peer *owner = r->owner;

	if (r->pending)
		return false;
	if (r->state == REGION_ADDING) {
		r->state = REGION_READY;
		if (!owner && ops->region_ready)
			ops->region_ready(user, r);
		return true;
	}
	if (r->state != REGION_REMOVING)
		return false;
	if (owner) {
		ops->released(user, owner);
		peer_free(owner);
	} else if (ops->region_gone) {
		ops->region_gone(user, r);
	}
	region_free(r);
	return true;
}

/* One completed thing at a time, since a callback may change either list. */
static bool settle_one(struct elisa_local_server *s)
{
	for (struct elisa_local_peer *p = s->peers; p; p = p->next)
		if (settle_peer(p))
			return true;
	for (struct elisa_local_region *r = s->regions; r; r = r->next)
		if (settle_region(r))
			return true;
	return false;
}

static void handle(struct elisa_local_server *s, void *what)
{
	uint64_t count;

	if (what == &s->sock) {
		peer_accept(s);
	} else if (what == &s->event) {
		if (read(s->event, &count, sizeof(count)) < 0)
			return;
	} else if (what == &s->timer) {
		if (read(s->timer, &count, sizeof(count)) < 0)
			return;
		for (struct elisa_local_peer *p = s->peers; p; p = p->next)
			check_deadlines(p);
	} else {
		struct elisa_local_peer *p = what;

		if (p->state > PEER_READY)
			return;
		peer_readable(p);
		if (!p->doomed && peer_process_dead(p))
			doom(p, NULL);
	}
}

int elisa_local_server_dispatch(struct elisa_local_server *server)
{
	struct epoll_event events[32];
	int n = epoll_wait(server->epoll, events, 32, 0);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++)
		handle(server, events[i].data.ptr);
	while (settle_one(server))
		;
	return 0;
}

int elisa_local_server_fd(const struct elisa_local_server *server)
{
	return server->epoll;
}

/* ---- life ---- */

static int fill_welcome(struct elisa_local_server *s)
{
	const struct elisa_local_config *c = &s->config;
	struct elisa_local_msg probe = {0};
	struct elisa_local_welcome *w = &s->welcome;
	const char *check = c->check_symbol ? c->check_symbol : "";

	if (!c->library || strlen(c->library) >= sizeof(w->library) || !c->entry ||
	    strlen(c->entry) >= sizeof(w->entry) || strlen(check) >= sizeof(w->check_symbol))
		return -EINVAL;
	w->service = c->service;
	w->arena_addr = (uintptr_t)c->arena_addr;
	w->arena_len = c->arena_len;
	w->check = c->check;
	strcpy(w->library, c->library);
	strcpy(w->entry, c->entry);
	strcpy(w->check_symbol, check);
	probe.body.welcome = *w;
	probe.body.welcome.callers = 1;
	probe.body.welcome.ram_addr = w->arena_addr;
	elisa_local_encode(&probe, ELISA_LOCAL_WELCOME, 0);
	return elisa_local_decode(&probe, probe.header.len, true) ? -EINVAL : 0;
}

/* A socket file that nobody listens on is a crashed service's: it may go. */
static int remove_stale(const struct sockaddr_un *addr)
{
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), rc = 0;

	if (sock < 0)
		return -errno;
	if (!connect(sock, (const struct sockaddr *)addr, sizeof(*addr)))
		rc = -EADDRINUSE;
	else if (errno == ECONNREFUSED && unlink(addr->sun_path))
		rc = -errno;
	close(sock);
	return rc;
}

static int listen_at(struct elisa_local_server *s)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const mode_t mode = s->config.mode ? s->config.mode : 0600;
	int rc;

	if (strlen(s->path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, s->path);
	rc = remove_stale(&addr);
	if (rc)
		return rc;
	s->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->sock < 0)
		return -errno;
	/* Nobody can connect before listen(2), hence not before the mode is what it should be. */
	if (bind(s->sock, (struct sockaddr *)&addr, sizeof(addr)))
		return -errno;
	if (stat(s->path, &s->path_stat))
		return -errno;
	if (s->config.group != (gid_t)-1 && chown(s->path, (uid_t)-1, s->config.group))
		return -errno;
	if (chmod(s->path, mode) || listen(s->sock, 64))
		return -errno;
	return watch(s, s->sock, &s->sock);
}

static int make_fds(struct elisa_local_server *s)
{
	const struct itimerspec period = {.it_interval.tv_nsec = TIMER_MS * 1000000L,
					  .it_value.tv_nsec = TIMER_MS * 1000000L};
	int rc;

	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	s->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->epoll < 0 || s->event < 0 || s->timer < 0 ||
	    timerfd_settime(s->timer, 0, &period, NULL))
		return -errno;
	rc = watch(s, s->event, &s->event);
	return rc ? rc : watch(s, s->timer, &s->timer);
}

static void close_fds(struct elisa_local_server *s)
{
	const int fds[] = {s->sock, s->event, s->timer, s->epoll};
	struct stat st;

	/* Only our own socket file: another service may have replaced it. */
	if (s->sock >= 0 && !stat(s->path, &st) && st.st_ino == s->path_stat.st_ino &&
	    st.st_dev == s->path_stat.st_dev)
		unlink(s->path);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

int elisa_local_server_create(const struct elisa_local_config *config,
			      struct elisa_local_server **server)
{
	struct elisa_local_server *s;
	int rc;

	if (!config->ops || !config->ops->join || !config->ops->ready || !config->ops->leave ||
	    !config->ops->released)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->config = *config;
	s->epoll = s->sock = s->event = s->timer = -1;
	if (!s->config.ack_timeout_ms)
		s->config.ack_timeout_ms = 5000;
	s->path = strdup(config->path ? config->path : ELISA_LOCAL_SOCKET);
	rc = s->path ? fill_welcome(s) : -ENOMEM;
	if (!rc)
		rc = make_fds(s);
	if (!rc)
		rc = listen_at(s);
	if (rc) {
		close_fds(s);
		free(s->path);
		free(s);
		return rc;
	}
	*server = s;
	return 0;
}

void elisa_local_server_destroy(struct elisa_local_server *server)
{
	struct elisa_local_peer *p;

	for (p = server->peers; p; p = p->next)
		doom(p, NULL);
	while (settle_one(server))
		;
	/* All connections are closed, so no request is pending: releasing ends at once. */
	for (p = server->peers; p; p = p->next)
		elisa_local_peer_release(p);
	for (struct elisa_local_region *r = server->regions; r; r = r->next)
		region_retire(r);
	while (settle_one(server))
		;
	close_fds(server);
	free(server->path);
	free(server);
}

int elisa_local_library_of(const void *symbol, char *buf, size_t len)
{
	char path[PATH_MAX];
	Dl_info info;

	if (!dladdr(symbol, &info) || !info.dli_fname || !strstr(info.dli_fname, ".so") ||
	    !realpath(info.dli_fname, path))
		return -ENOENT;
	return (size_t)snprintf(buf, len, "%s", path) < len ? 0 : -ENAMETOOLONG;
}
