/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisa-guard: holds descriptors of a program's memory; when the program is gone, makes the calls
 * that stop the service from writing to it, then lets go (elisa/guard.h). Started by guard.c:
 *
 *	elisa-guard SPEC SERVICE PID	with a socket to process PID as descriptor 3
 *
 * All that may fail for want of something is done before READY or before a request is answered:
 * after the program's death there are calls and nothing else.
 *
 * A successor of that program may want the same things at once. Each call to be made is therefore
 * an abstract socket's name, too, which one guard has at a time: the successor's guard gets it when
 * this one is done, so that a late call never undoes what the successor has set up.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <elisa/guard.h>
#include <elisa/guest.h>

#include "guard-proto.h"

#define NAME_WAIT_MS 5000    /* for a former guard to end */
#define PAUSE_MS_MAX 100     /* between two rounds of calls */
#define FILES	     1048576 /* descriptors, if allowed */

struct held {
	dev_t dev;
	ino_t ino;
	int fd;
};

struct undo {
	uint64_t op, a1;
	int name; /* socket that has the name */
	bool done;
};

static struct guard {
	struct elisa_guest *guest;
	struct elisa_call call;
	uint32_t service, spec_hash;
	int parent; /* pidfd */
	struct held *held;
	size_t held_count, held_room;
	struct undo undo[ELISA_GUARD_UNDO_MAX];
	unsigned int undo_count;
} guard;

static void nap(long ms)
{
	const struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&ts, NULL);
}

/* ---- requests ---- */

static int hold(int fd)
{
	struct stat st;

	if (fd < 0)
		return -EMFILE; /* the kernel could not give it to us */
	if (fstat(fd, &st))
		return -errno;
	for (size_t i = 0; i < guard.held_count; i++) {
		if (guard.held[i].dev == st.st_dev && guard.held[i].ino == st.st_ino) {
			close(fd);
			return 0;
		}
	}
	if (guard.held_count == guard.held_room) {
		const size_t room = guard.held_room ? 2 * guard.held_room : 64;
		struct held *more = realloc(guard.held, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		guard.held = more;
		guard.held_room = room;
	}
	guard.held[guard.held_count++] = (struct held){st.st_dev, st.st_ino, fd};
	return 0;
}

/* FNV-1a: services behind different specs are different ones. */
static uint32_t hash(const char *s)
{
	uint32_t h = 2166136261;

	while (*s)
		h = (h ^ (uint8_t)*s++) * 16777619;
	return h;
}

static int take_name(uint64_t op, uint64_t a1)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const socklen_t head = offsetof(struct sockaddr_un, sun_path) + 1;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), len, rc;

	if (fd < 0)
		return -errno;
	len = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1,
		       "elisa-guard/%08x/%u/%llx/%llx", guard.spec_hash, guard.service,
		       (unsigned long long)op, (unsigned long long)a1);
	for (int ms = 0; ms < NAME_WAIT_MS; ms++) {
		if (!bind(fd, (struct sockaddr *)&addr, head + (socklen_t)len))
			return fd;
		if (errno != EADDRINUSE)
			break;
		nap(1);
	}
	rc = errno == EADDRINUSE ? -EBUSY : -errno;
	close(fd);
	return rc;
}

static int add_undo(uint64_t op, uint64_t a1)
{
	int name;

	for (unsigned int i = 0; i < guard.undo_count; i++)
		if (guard.undo[i].op == op && guard.undo[i].a1 == a1)
			return 0;
	if (guard.undo_count == ELISA_GUARD_UNDO_MAX)
		return -ENOSPC;
	name = take_name(op, a1);
	if (name < 0)
		return name;
	guard.undo[guard.undo_count++] = (struct undo){.op = op, .a1 = a1, .name = name};
	return 0;
}

/* ---- the program is gone ---- */

/* Any answer but EAGAIN ends it: done, or no such thing, or a service that has forgotten us. */
static unsigned int undo_round(void)
{
	unsigned int left = 0;

	for (unsigned int i = 0; i < guard.undo_count; i++) {
		struct undo *u = &guard.undo[i];

		if (!u->done)
			u->done = elisa_call(&guard.call, u->op, u->a1, 0, 0) != -ELISA_EAGAIN;
		left += !u->done;
	}
	return left;
}

static void undo_all(void)
{
	long pause = 1;

	while (undo_round()) {
		nap(pause);
		pause = 2 * pause < PAUSE_MS_MAX ? 2 * pause : PAUSE_MS_MAX;
	}
}

/* ---- the socket ---- */

static int take_fd(struct msghdr *mh)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(mh);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static int reply(uint32_t type, int rc)
{
	const struct guard_msg msg = {.type = type, .rc = rc};

	return send(GUARD_SOCK, &msg, sizeof(msg), MSG_NOSIGNAL) == sizeof(msg) ? 0 : -EPIPE;
}

/* One request. GUARD_STOP: an orderly end; 0: go on; -ECONNRESET: the program is gone. */
static int serve_one(void)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct guard_msg msg = {0};
	struct iovec iov = {.iov_base = &msg, .iov_len = sizeof(msg)};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf)};
	ssize_t len;
	int rc = -EINVAL;

	do
		len = recvmsg(GUARD_SOCK, &mh, MSG_CMSG_CLOEXEC);
	while (len < 0 && errno == EINTR);
	if (len <= 0)
		return -ECONNRESET;
	if (msg.type == GUARD_STOP)
		return GUARD_STOP;
	if (msg.type == GUARD_HOLD)
		rc = hold(take_fd(&mh));
	else if (msg.type == GUARD_UNDO)
		rc = add_undo(msg.op, msg.a1);
	/* An answer that cannot be given: the next round finds out why. */
	reply(GUARD_ANSWER, rc);
	return 0;
}

static int serve(void)
{
	/* A child of the program may keep the socket open beyond the program's death: watch both.
	 */
	struct pollfd fds[2] = {{.fd = GUARD_SOCK, .events = POLLIN},
				{.fd = guard.parent, .events = POLLIN}};
	int rc;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents) {
			rc = serve_one();
			if (rc)
				return rc;
		} else if (fds[1].revents) {
			return -ECONNRESET;
		}
	}
}

/* ---- starting ---- */

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "elisa-guard: %s: %s\n", what, why);
	return 1;
}

static void raise_limits(void)
{
	struct rlimit limit = {.rlim_cur = FILES, .rlim_max = FILES};

	if (!setrlimit(RLIMIT_NOFILE, &limit) || getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* It ends with its program, not before it: what stops both at once must not stop it first. */
static void ignore_signals(void)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGTERM, SIGPIPE, SIGQUIT};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], SIG_IGN);
}

static int set_up(const char *spec, const char *service, const char *pid)
{
	int rc;

	guard.service = (uint32_t)strtoul(service, NULL, 10);
	guard.spec_hash = hash(spec);
	guard.parent = (int)syscall(SYS_pidfd_open, (pid_t)atoi(pid), 0);
	if (guard.parent < 0 || getppid() != (pid_t)atoi(pid))
		return complain(pid, "the process that started this one is gone");
	rc = elisa_guest_open(spec, guard.service, &guard.guest);
	if (rc)
		return complain(spec, elisa_guest_error());
	rc = elisa_guest_call(guard.guest, &guard.call);
	return rc ? complain(spec, strerror(-rc)) : 0;
}

int main(int argc, char **argv)
{
	struct stat st;

	if (argc != 4 || fstat(GUARD_SOCK, &st) || !S_ISSOCK(st.st_mode)) {
		fprintf(stderr, "elisa-guard: started by programs that use elisa/guard.h, for "
				"themselves; not by hand\n");
		return 2;
	}
	/* Files that the program did not mean to hand on. */
	syscall(SYS_close_range, GUARD_SOCK + 1, ~0U, 0);
	ignore_signals();
	raise_limits();
	if (set_up(argv[1], argv[2], argv[3]) || reply(GUARD_READY, 0))
		return 1;
	if (serve() != GUARD_STOP)
		undo_all();
	elisa_guest_close(guard.guest);
	return 0;
}
