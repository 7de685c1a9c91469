// SPDX-License-Identifier: BSD-3-Clause
/*
 * Keeper of one guest: starts QEMU, owns its command link, and lets any number of local clients run
 * commands in the guest at the same time. Or somebody else (libvirt) starts and ends QEMU: then the keeper
 * connects to the socket that is the other end of the guest's virtio port, again whenever that is lost.
 *
 * A client speaks the same frames with id 0, one job per connection; the keeper gives each job an id of
 * its own on the guest's link. Commands wait until the guest's agent says HELLO; a HELLO of a freshly
 * started agent means that the guest rebooted, and ends the jobs of its former life.
 */
#define _GNU_SOURCE
#include "agent.h"
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_CLIENTS 32
#define PING_MS 1000
#define CONNECT_MS 200

struct client {
	bool used;
	bool sent;      /* its RUN went to the guest */
	uint16_t id;
	size_t run_len; /* the RUN that waits for the guest */
	uint8_t run[LINK_MAX];
	struct link link;
};

struct keeper {
	const char *dir;
	const char *socket; /* of a QEMU that is not ours, or NULL */
	struct link guest;  /* its fd is -1 while there is no QEMU */
	struct client clients[MAX_CLIENTS];
	int listener;
	pid_t qemu;
	bool ready;
	uint8_t seq;
	uint16_t next_id;
};

static volatile sig_atomic_t child_ended;

static void on_chld(int sig)
{
	(void)sig;
	child_ended = 1;
}

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[256], tmp[260];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	close(fd);
	if (!r && rename(tmp, path))
		r = -errno;
	return r;
}

static void client_end(struct client *c, uint8_t kind, uint8_t value)
{
	uint8_t status[2] = { kind, value };

	link_send(&c->link, FRAME_EXIT, 0, 0, status, sizeof(status));
	close(c->link.fd);
	c->used = false;
}

static void to_guest(struct keeper *k, uint8_t type, uint16_t id, const void *data, size_t len)
{
	link_send(&k->guest, type, ++k->seq, id, data, len);
}

static void client_start(struct keeper *k, struct client *c)
{
	to_guest(k, FRAME_RUN, c->id, c->run, c->run_len);
	c->sent = true;
}

static void guest_hello(struct keeper *k, bool fresh)
{
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &k->clients[i];

		if (c->used && c->sent && fresh)
			client_end(c, 'g', 1);
		else if (c->used && !c->sent && c->run_len)
			client_start(k, c);
	}
	if (!k->ready || fresh)
		write_file(k->dir, "up", "1\n");
	k->ready = true;
}

static void guest_frame(struct keeper *k, const struct frame *f)
{
	if (f->type == FRAME_HELLO) {
		guest_hello(k, f->len && f->data[0] == '1');
		return;
	}
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &k->clients[i];

		if (!c->used || !c->sent || c->id != f->id)
			continue;
		if (f->type == FRAME_OUT)
			link_send(&c->link, FRAME_OUT, 0, 0, f->data, f->len);
		else if (f->type == FRAME_EXIT && f->len == 2)
			client_end(c, f->data[0], f->data[1]);
		return;
	}
}

static void client_frame(struct keeper *k, struct client *c, const struct frame *f)
{
	if (f->type == FRAME_RUN) {
		memcpy(c->run, f->data, f->len);
		c->run_len = f->len;
		if (k->ready)
			client_start(k, c);
	} else if (c->sent) {
		to_guest(k, f->type, c->id, f->data, f->len);
	}
}

static void client_input(struct keeper *k, struct client *c)
{
	uint8_t hup = SIGHUP;
	struct frame f;

	if (link_fill(&c->link) <= 0) {
		if (c->sent)
			to_guest(k, FRAME_SIGNAL, c->id, &hup, 1);
		close(c->link.fd);
		c->used = false;
		return;
	}
	while (c->used && link_next(&c->link, &f))
		client_frame(k, c, &f);
}

static void client_new(struct keeper *k)
{
	int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC);

	for (int i = 0; fd >= 0 && i < MAX_CLIENTS; i++)
		if (!k->clients[i].used) {
			memset(&k->clients[i], 0, sizeof(k->clients[i]));
			link_init(&k->clients[i].link, fd);
			k->clients[i].used = true;
			k->clients[i].id = ++k->next_id;
			return;
		}
	if (fd >= 0)
		close(fd);
}

static int listen_unix(const char *dir)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
	unlink(a.sun_path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 8)) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int start_qemu(struct keeper *k, char **argv)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	k->qemu = fork();
	if (k->qemu < 0)
		return -errno;
	if (!k->qemu) {
		for (char **a = argv; *a; a++) {
			char *at = strstr(*a, "{fd}"), *text;

			if (at && asprintf(&text, "%.*s%d%s", (int)(at - *a), *a, pair[1], at + 4) > 0)
				*a = text;
		}
		fcntl(pair[1], F_SETFD, 0);
		execvp(argv[0], argv);
		fprintf(stderr, "lab: cannot run %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(pair[1]);
	link_init(&k->guest, pair[0]);
	return 0;
}

static void qemu_ended(struct keeper *k)
{
	char text[64];
	int status = 0;

	waitpid(k->qemu, &status, 0);
	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "signal %d\n", WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "exit %d\n", WEXITSTATUS(status));
	write_file(k->dir, "status", text);
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (k->clients[i].used)
			client_end(&k->clients[i], 'g', 0);
}

static void guest_connect(struct keeper *k)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", k->socket);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		close(fd);
		return;
	}
	link_init(&k->guest, fd);
	to_guest(k, FRAME_PING, 0, NULL, 0);
}

/* Our own QEMU is ending, and SIGCHLD follows; another's may come back. */
static void guest_lost(struct keeper *k)
{
	if (k->socket) {
		close(k->guest.fd);
		k->ready = false;
		for (int i = 0; i < MAX_CLIENTS; i++)
			if (k->clients[i].used && k->clients[i].sent)
				client_end(&k->clients[i], 'g', 0);
	}
	k->guest.fd = -1;
}

static int keeper_patience(struct keeper *k)
{
	if (k->socket && k->guest.fd < 0)
		guest_connect(k);
	return k->ready ? -1 : k->guest.fd < 0 ? CONNECT_MS : PING_MS;
}

static void keeper_loop(struct keeper *k)
{
	struct pollfd p[MAX_CLIENTS + 2];
	struct frame f;

	while (!child_ended) {
		int patience = keeper_patience(k);

		for (int i = 0; i < MAX_CLIENTS; i++)
			p[i] = (struct pollfd){ .fd = k->clients[i].used ? k->clients[i].link.fd : -1,
						.events = POLLIN };
		p[MAX_CLIENTS] = (struct pollfd){ .fd = k->listener, .events = POLLIN };
		p[MAX_CLIENTS + 1] = (struct pollfd){ .fd = k->guest.fd, .events = POLLIN };
		if (!poll(p, MAX_CLIENTS + 2, patience) && k->guest.fd >= 0)
			to_guest(k, FRAME_PING, 0, NULL, 0);
		if (child_ended)
			return;
		if (p[MAX_CLIENTS + 1].revents) {
			if (link_fill(&k->guest) <= 0)
				guest_lost(k);
			while (link_next(&k->guest, &f))
				guest_frame(k, &f);
		}
		for (int i = 0; i < MAX_CLIENTS; i++)
			if (p[i].revents && k->clients[i].used && k->clients[i].link.fd == p[i].fd)
				client_input(k, &k->clients[i]);
		if (p[MAX_CLIENTS].revents)
			client_new(k);
	}
}

int guestd_main(const char *dir, char **argv)
{
	static struct keeper k;
	struct sigaction sa = { .sa_handler = on_chld };
	char text[32];
	int r;

	signal(SIGPIPE, SIG_IGN);
	sigaction(SIGCHLD, &sa, NULL);
	k.dir = dir;
	k.guest.fd = -1;
	k.listener = listen_unix(dir);
	r = k.listener;
	if (!strcmp(argv[0], "--socket") && argv[1])
		k.socket = argv[1];
	else if (r >= 0)
		r = start_qemu(&k, argv);
	if (r < 0) {
		fprintf(stderr, "lab: cannot keep a guest in %s: %s\n", dir, strerror(-r));
		return 1;
	}
	if (k.socket) {
		keeper_loop(&k);
		return 0;
	}
	snprintf(text, sizeof(text), "%d\n", k.qemu);
	write_file(dir, "pid", text);
	keeper_loop(&k);
	qemu_ended(&k);
	return 0;
}
