/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest switch daemon for the tests: libvswitch behind the local transport, a port for every
 * client that comes, no configuration. Usage: toy-switchd SOCKET [MTU]
 *
 * A client's name is its port's; without one it is "portN". MAC 02:00:00:00:00:N, doorbell N. SIGUSR1 takes all
 * ports down or up again, SIGTERM ends it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <elisa/local.h>
#include <vswitch/vswitch.h>

#define ARENA_ADDR  ((void *)0x210000000000)
#define RAM_FIRST   0x220000000000
#define RAM_STEP    0x1000000000
#define CLIENTS_MAX 32

struct client {
	struct client *next;
	struct elisa_local_peer *peer;
	int guest, port, number;
	void *ram;
	uint64_t ram_len;
	uint32_t callers;
	struct vs_caller *caller[ELISA_LOCAL_CALLERS_MAX];
	bool leaving;
	uint64_t ticket;
};

static struct vswitch *vs;
static struct client *clients;
static unsigned int mtu = 1500;
static volatile sig_atomic_t stop, toggle;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		toggle = 1;
	else
		stop = 1;
}

static int free_number(void)
{
	for (int n = 1; n <= CLIENTS_MAX; n++) {
		struct client *c = clients;

		while (c && c->number != n)
			c = c->next;
		if (!c)
			return n;
	}
	return -ENOSPC;
}

static int add_port(const char *name, int number, bool up)
{
	struct vs_port_config port = {.mac = {2, 0, 0, 0, 0, (uint8_t)number},
				      .mtu = (uint16_t)mtu,
				      .queues = 4,
				      .up = up,
				      .anti_spoof = true,
				      .groups = VS_GROUPS_DEFAULT};

	if (*name)
		snprintf(port.name, sizeof(port.name), "%.31s", name);
	else
		snprintf(port.name, sizeof(port.name), "port%d", number);
	return vs_port_add(vs, &port);
}

static int add_callers(struct client *c, uint32_t wanted, struct elisa_local_answer *answer)
{
	for (c->callers = 0; c->callers < wanted; c->callers++) {
		int rc = vs_caller_add(vs, c->guest, &c->caller[c->callers]);

		if (rc)
			return rc;
		answer->cookie[c->callers] = c->caller[c->callers];
	}
	answer->callers = c->callers;
	return 0;
}

static int on_join(void *user, struct elisa_local_peer *peer,
		   const struct elisa_local_request *request, struct elisa_local_answer *answer)
{
	struct client *c = calloc(1, sizeof(*c));
	struct vs_region region;
	int rc;

	c->number = free_number();
	if (c->number < 0)
		return c->number;
	c->peer = peer;
	c->ram_len = request->ram_len;
	c->ram = mmap((void *)(RAM_FIRST + (uint64_t)c->number * RAM_STEP), c->ram_len,
		      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, request->ram_fd,
		      (off_t)request->ram_offset);
	if (c->ram == MAP_FAILED)
		return -errno;
	region = (struct vs_region){.gpa = request->ram_gpa, .len = c->ram_len, .addr = c->ram};
	c->port = add_port(request->name, c->number, true);
	if (c->port == -EEXIST) {
		/* The port's former user is dead, but not all that it had is cleared away yet. */
		snprintf(answer->text, sizeof(answer->text), "%s is in use", request->name);
		munmap(c->ram, c->ram_len);
		free(c);
		return -EBUSY;
	}
	c->guest = vs_guest_add(vs, request->name, &region, 1);
	rc = c->guest < 0 ? c->guest : c->port < 0 ? c->port : add_callers(c, 4, answer);
	if (rc) {
		fprintf(stderr, "toy-switchd: join: %s\n", strerror(-rc));
		exit(1);
	}
	answer->ram_addr = c->ram;
	elisa_local_peer_set_user(peer, c);
	c->next = clients;
	clients = c;
	return 0;
}

static void on_ready(void *user, struct elisa_local_peer *peer)
{
	struct client *c = elisa_local_peer_user(peer);
	int rc = vs_port_bind(vs, c->port, c->guest);

	if (!rc)
		rc = vs_port_bell(vs, c->port, (uint32_t)c->number << 16);
	if (rc < 0)
		fprintf(stderr, "toy-switchd: bind: %s\n", strerror(-rc));
}

static void on_leave(void *user, struct elisa_local_peer *peer, bool orderly)
{
	struct client *c = elisa_local_peer_user(peer);

	vs_port_unbind(vs, c->port);
	for (uint32_t i = 0; i < c->callers; i++)
		vs_caller_del(vs, c->caller[i]);
	c->ticket = vs_grace_begin(vs);
	c->leaving = true;
}

static void on_released(void *user, struct elisa_local_peer *peer)
{
	struct client *c = elisa_local_peer_user(peer), **at = &clients;
	int rc;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	rc = vs_port_del(vs, c->port);
	if (!rc)
		rc = vs_guest_del(vs, c->guest);
	if (rc)
		fprintf(stderr, "toy-switchd: release: %s\n", strerror(-rc));
	munmap(c->ram, c->ram_len);
	free(c);
}

static void on_log(void *user, const char *line)
{
	fprintf(stderr, "toy-switchd: %s\n", line);
}

static void release_leavers(void)
{
	for (struct client *c = clients; c; c = c->next) {
		if (!c->leaving || !vs_grace_done(vs, c->ticket))
			continue;
		c->leaving = false;
		elisa_local_peer_release(c->peer);
	}
}

static void toggle_ports(void)
{
	struct vs_port_info info;

	for (struct client *c = clients; c; c = c->next) {
		if (vs_port_info(vs, c->port, &info))
			continue;
		info.config.up = !info.config.up;
		vs_port_set(vs, c->port, &info.config);
	}
}

static struct elisa_local_server *start(const char *path)
{
	static const struct elisa_local_ops ops = {.join = on_join,
						   .ready = on_ready,
						   .leave = on_leave,
						   .released = on_released,
						   .log = on_log};
	struct timespec ts;
	struct vs_config config = {
		.ports = 64, .guests = 64, .callers = 256, .fdb_capacity = 1024, .fdb_age_s = 300};
	struct elisa_local_config local = {.path = path,
					   .group = (gid_t)-1,
					   .service = ELISA_SERVICE_SWITCH,
					   .arena_addr = ARENA_ADDR,
					   .entry = "vs_entry",
					   .ops = &ops};
	static char library[256];
	struct elisa_local_server *server;
	int rc;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	config.generation = (uint32_t)(ts.tv_sec * 1000 + ts.tv_nsec / 1000000) | 1;
	local.arena_len = (vs_arena_size(&config) + 4095) & ~UINT64_C(4095);
	local.arena_fd = memfd_create("arena", MFD_CLOEXEC);
	if (ftruncate(local.arena_fd, (off_t)local.arena_len) ||
	    mmap(ARENA_ADDR, local.arena_len, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED_NOREPLACE, local.arena_fd, 0) != ARENA_ADDR)
		return NULL;
	rc = vs_create(ARENA_ADDR, local.arena_len, &config, &vs);
	if (!rc)
		rc = elisa_local_library_of((const void *)vs_entry, library, sizeof(library));
	local.library = library;
	if (!rc)
		rc = elisa_local_server_create(&local, &server);
	if (rc)
		fprintf(stderr, "toy-switchd: %s: %s\n", path, strerror(-rc));
	return rc ? NULL : server;
}

int main(int argc, char **argv)
{
	struct elisa_local_server *server;
	struct timespec ts;

	if (argc < 2 || (argc > 2 && !(mtu = (unsigned int)atoi(argv[2]))))
		return 2;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGUSR1, on_signal);
	server = start(argv[1]);
	if (!server)
		return 1;
	printf("ready\n");
	fflush(stdout);
	while (!stop) {
		struct pollfd p = {.fd = elisa_local_server_fd(server), .events = POLLIN};

		poll(&p, 1, 10);
		if (elisa_local_server_dispatch(server))
			return 1;
		release_leavers();
		if (toggle) {
			toggle = 0;
			toggle_ports();
		}
		clock_gettime(CLOCK_MONOTONIC, &ts);
		vs_tick(vs, (uint64_t)ts.tv_sec);
	}
	for (struct client *c = clients; c; c = c->next)
		c->leaving = false;
	elisa_local_server_destroy(server);
	return 0;
}
