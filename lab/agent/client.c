// SPDX-License-Identifier: BSD-3-Clause
/* Clients of a guest's keeper and of QEMU's monitor. */
#define _GNU_SOURCE
#include "agent.h"
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define GONE 255

static struct termios saved;

static void restore_terminal(void)
{
	tcsetattr(0, TCSANOW, &saved);
}

static int connect_unix(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a))) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int send_run(struct link *l, const char *command, bool tty, bool want_stdin)
{
	uint8_t msg[LINK_MAX] = { (uint8_t)((tty ? RUN_PTY : 0) | (want_stdin ? RUN_STDIN : 0)) };
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };
	size_t len = strlen(command);

	if (len > LINK_MAX - RUN_HEADER) {
		fprintf(stderr, "lab: the command has %zu bytes, at most %d fit\n", len,
			LINK_MAX - RUN_HEADER);
		return -EMSGSIZE;
	}
	if (tty)
		ioctl(0, TIOCGWINSZ, &ws);
	memcpy(msg + 1, &ws.ws_row, 2);
	memcpy(msg + 3, &ws.ws_col, 2);
	memcpy(msg + RUN_HEADER, command, len);
	return link_send(l, FRAME_RUN, 0, 0, msg, RUN_HEADER + len);
}

static int exit_status(const struct frame *f)
{
	if (f->data[0] == 'e')
		return f->data[1];
	if (f->data[0] == 's')
		return 128 + f->data[1];
	fprintf(stderr, "lab: the guest %s while the command ran\n", f->data[1] ? "rebooted" : "ended");
	return GONE;
}

static int pump(struct link *l, bool want_stdin)
{
	struct pollfd p[2] = { { .fd = l->fd, .events = POLLIN },
			       { .fd = want_stdin ? 0 : -1, .events = POLLIN } };
	struct frame f;
	char buf[1024];

	for (;;) {
		poll(p, 2, -1);
		if (p[0].revents) {
			if (link_fill(l) <= 0)
				return GONE;
			while (link_next(l, &f)) {
				if (f.type == FRAME_OUT)
					write_all(1, f.data, f.len);
				else if (f.type == FRAME_EXIT && f.len == 2)
					return exit_status(&f);
			}
		}
		if (p[1].revents) {
			ssize_t n = read(0, buf, sizeof(buf));

			link_send(l, FRAME_STDIN, 0, 0, buf, n > 0 ? (size_t)n : 0);
			if (n <= 0)
				p[1].fd = -1;
		}
	}
}

int exec_main(const char *sock, const char *command, bool tty, bool want_stdin)
{
	static struct link l;
	struct termios raw;
	int fd = connect_unix(sock);

	if (fd < 0) {
		fprintf(stderr, "lab: no running guest at %s: %s\n", sock, strerror(-fd));
		return GONE;
	}
	link_init(&l, fd);
	if (tty && !tcgetattr(0, &saved)) {
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(0, TCSANOW, &raw);
		atexit(restore_terminal);
	}
	if (send_run(&l, command, tty, want_stdin))
		return GONE;
	return pump(&l, want_stdin);
}

/* Reads lines until one has the key; prints it if wanted. Returns 0, or 1 for an error answer. */
static int qmp_answer(FILE *in, bool print)
{
	char *line = NULL;
	size_t cap = 0;
	int r = -1;

	while (r < 0 && getline(&line, &cap, in) > 0) {
		if (strstr(line, "\"return\""))
			r = 0;
		else if (strstr(line, "\"error\""))
			r = 1;
		if (r >= 0 && (print || r))
			fputs(line, r ? stderr : stdout);
	}
	free(line);
	return r < 0 ? 1 : r;
}

int qmp_main(const char *sock, const char *command)
{
	int fd = connect_unix(sock), r;
	FILE *in;

	if (fd < 0) {
		fprintf(stderr, "lab: no QEMU monitor at %s: %s\n", sock, strerror(-fd));
		return GONE;
	}
	in = fdopen(fd, "r");
	if (!in)
		return GONE;
	dprintf(fd, "{\"execute\":\"qmp_capabilities\"}\n");
	r = qmp_answer(in, false);
	if (!r) {
		dprintf(fd, "%s\n", command);
		r = qmp_answer(in, true);
	}
	fclose(in);
	return r;
}
