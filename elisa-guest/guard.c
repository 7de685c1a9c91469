/* SPDX-License-Identifier: BSD-3-Clause */
/* The program's side of the guard (elisa/guard.h); the helper process is guard-main.c. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <elisa/guard.h>
#include <elisa/local.h>

#include "guard-proto.h"
#include "internal.h"

extern char **environ;

struct elisa_guard {
	int sock;
	pid_t pid;
};

/* Its own session, so that a terminal's ^C is not for it, and none of our signals' settings. */
static int set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF);
}

static int spawn(const char *spec, uint32_t service, int sock, pid_t *pid)
{
	const char *path = getenv("ELISA_GUARD");
	char parent[16], number[16];
	char *argv[] = {"elisa-guard", (char *)(spec ? spec : "vmfunc"), number, parent, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int rc;

	snprintf(parent, sizeof(parent), "%d", (int)getpid());
	snprintf(number, sizeof(number), "%u", service);
	rc = posix_spawn_file_actions_init(&actions);
	if (rc)
		return -rc;
	rc = posix_spawnattr_init(&attr);
	if (rc)
		goto destroy_actions;
	rc = set_attributes(&attr);
	/* Who waits for the end of our output must not wait for the guard's. */
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&actions, sock, GUARD_SOCK);
	if (!rc)
		rc = posix_spawn(pid, path ? path : ELISA_GUARD_PATH, &actions, &attr, argv,
				 environ);
	posix_spawnattr_destroy(&attr);
destroy_actions:
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

static int receive(const struct elisa_guard *g, uint32_t type)
{
	struct guard_msg msg;
	ssize_t len;

	do
		len = recv(g->sock, &msg, sizeof(msg), 0);
	while (len < 0 && errno == EINTR);
	if (len != sizeof(msg) || msg.type != type)
		return -EPIPE;
	return msg.rc;
}

static int transmit(const struct elisa_guard *g, const struct guard_msg *msg, int fd)
{
	ssize_t sent = elisa_send_fd(g->sock, msg, sizeof(*msg), fd, MSG_NOSIGNAL);

	return sent < 0 ? (int)sent : 0;
}

static void wait_for_end(const struct elisa_guard *g)
{
	/* Whoever waits for any child may have taken its status already. */
	while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

ELISA_PUBLIC int elisa_guard_start(const char *spec, uint32_t service, struct elisa_guard **guard)
{
	struct elisa_guard *g = calloc(1, sizeof(*g));
	int fds[2], rc;

	if (!g)
		return -ENOMEM;
	rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) ? -errno : 0;
	if (rc)
		goto free_guard;
	g->sock = fds[0];
	rc = spawn(spec, service, fds[1], &g->pid);
	close(fds[1]);
	if (rc)
		goto close_sock;
	rc = receive(g, GUARD_READY);
	if (rc) {
		close(g->sock); /* which ends it if nothing else has */
		wait_for_end(g);
		goto free_guard;
	}
	*guard = g;
	return 0;
close_sock:
	close(g->sock);
free_guard:
	free(g);
	return rc;
}

static int ask(const struct elisa_guard *g, struct guard_msg *msg, int fd)
{
	int rc = transmit(g, msg, fd);

	return rc ? rc : receive(g, GUARD_ANSWER);
}

ELISA_PUBLIC int elisa_guard_hold(struct elisa_guard *guard, int fd)
{
	struct guard_msg msg = {.type = GUARD_HOLD};

	return fd < 0 ? -EBADF : ask(guard, &msg, fd);
}

ELISA_PUBLIC int elisa_guard_undo(struct elisa_guard *guard, uint64_t op, uint64_t a1)
{
	struct guard_msg msg = {.type = GUARD_UNDO, .op = op, .a1 = a1};

	return ask(guard, &msg, -1);
}

ELISA_PUBLIC void elisa_guard_stop(struct elisa_guard *guard)
{
	struct guard_msg msg = {.type = GUARD_STOP};

	if (!guard)
		return;
	transmit(guard, &msg, -1);
	/* Fails when it is dead already: then there is nothing to wait for. */
	wait_for_end(guard);
	close(guard->sock);
	free(guard);
}
