// SPDX-License-Identifier: BSD-3-Clause
/*
 * The lab's agent: runs commands that arrive on a link (link.h) in the emulated host and in its guests.
 *
 * Any number of jobs run at a time, each in a session of its own. A job ends when its first process
 * ends: what is in its pipe by then is sent before the exit status; what its left-over children print
 * later is still forwarded, so that they never die of a closed pipe.
 */
#define _GNU_SOURCE
#include "agent.h"
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define MAX_JOBS 64
#define MAX_OUTPUT (1u << 20) /* bytes of one job's output; a serial line is slow */
#define CHUNK 4096

struct job {
	bool used;
	uint16_t id;
	pid_t pid;     /* 0 once reaped */
	int out;       /* -1 once at its end */
	int in;        /* -1 without input */
	size_t sent;
};

struct agent {
	struct link link;
	struct job jobs[MAX_JOBS];
	bool is_host;
};

static struct job *job_find(struct agent *a, uint16_t id)
{
	for (int i = 0; i < MAX_JOBS; i++)
		if (a->jobs[i].used && a->jobs[i].id == id)
			return &a->jobs[i];
	return NULL;
}

static struct job *job_free_slot(struct agent *a)
{
	for (int i = 0; i < MAX_JOBS; i++)
		if (!a->jobs[i].used)
			return &a->jobs[i];
	/* full: forget the oldest left-over output */
	for (int i = 0; i < MAX_JOBS; i++)
		if (!a->jobs[i].pid) {
			close(a->jobs[i].out);
			return &a->jobs[i];
		}
	return NULL;
}

static void job_exec(const char *command)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir("/root"))
		(void)!chdir("/");
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	dprintf(2, "lab agent: cannot run /bin/sh: %s\n", strerror(errno));
	_exit(127);
}

/* A child with pipes as output and, if wanted, as input. Returns its pid or -errno. */
static pid_t spawn_pipes(struct job *j, const char *command, bool want_stdin)
{
	int out[2], in[2] = { -1, -1 };
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return -errno;
	if (want_stdin ? pipe2(in, O_CLOEXEC) : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0)
		goto fail;
	pid = fork();
	if (pid < 0)
		goto fail;
	if (!pid) {
		setsid();
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(out[1], 2);
		job_exec(command);
	}
	close(out[1]);
	close(in[0]);
	j->out = out[0];
	j->in = in[1];
	return pid;
fail:
	pid = -errno;
	close(out[0]);
	close(out[1]);
	if (in[0] >= 0)
		close(in[0]);
	return pid;
}

static pid_t spawn_pty(struct job *j, const char *command, uint16_t rows, uint16_t cols)
{
	struct winsize ws = { .ws_row = rows, .ws_col = cols };
	int fd;
	pid_t pid = forkpty(&fd, NULL, NULL, &ws);

	if (pid < 0)
		return -errno;
	if (!pid)
		job_exec(command);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	j->out = fd;
	j->in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return pid;
}

static void send_exit(struct agent *a, uint16_t id, uint8_t kind, uint8_t value)
{
	uint8_t status[2] = { kind, value };

	link_send(&a->link, FRAME_EXIT, 0, id, status, sizeof(status));
}

static void send_text(struct agent *a, uint16_t id, const char *text)
{
	link_send(&a->link, FRAME_OUT, 0, id, text, strlen(text));
}

static void handle_run(struct agent *a, const struct frame *f)
{
	char command[LINK_MAX + 1];
	struct job *j = job_free_slot(a);
	uint8_t flags;
	pid_t pid;

	if (f->len < RUN_HEADER || !j) {
		send_text(a, f->id, j ? "lab agent: short command\n" : "lab agent: too many jobs\n");
		send_exit(a, f->id, 'e', 126);
		return;
	}
	flags = f->data[0];
	memcpy(command, f->data + RUN_HEADER, f->len - RUN_HEADER);
	command[f->len - RUN_HEADER] = 0;
	memset(j, 0, sizeof(*j));
	if (flags & RUN_PTY)
		pid = spawn_pty(j, command, (uint16_t)(f->data[1] | f->data[2] << 8),
				(uint16_t)(f->data[3] | f->data[4] << 8));
	else
		pid = spawn_pipes(j, command, flags & RUN_STDIN);
	if (pid < 0) {
		send_text(a, f->id, "lab agent: cannot start a process\n");
		send_exit(a, f->id, 'e', 126);
		return;
	}
	fcntl(j->out, F_SETFL, O_NONBLOCK);
	j->used = true;
	j->id = f->id;
	j->pid = pid;
}

static void end_machine(struct agent *a)
{
	sync();
	if (!a->is_host) {
		reboot(RB_AUTOBOOT); /* QEMU runs with -no-reboot */
		return;
	}
	/* Bochs ends when this string is written to its port 0x8900 (iodev/unmapped.cc). */
	if (!iopl(3))
		for (const char *s = "Shutdown"; *s; s++)
			outb((unsigned char)*s, 0x8900);
	reboot(RB_POWER_OFF);
}

static void handle_frame(struct agent *a, const struct frame *f, int *last_seq)
{
	struct job *j = job_find(a, f->id);

	if (f->type == FRAME_PING) {
		link_send(&a->link, FRAME_HELLO, f->seq, 0, "0", 1);
		return;
	}
	link_send(&a->link, FRAME_ACK, f->seq, f->id, NULL, 0);
	if (f->seq == *last_seq)
		return; /* a repeat: its acknowledgement came late */
	*last_seq = f->seq;
	switch (f->type) {
	case FRAME_RUN:
		handle_run(a, f);
		break;
	case FRAME_STDIN:
		if (!j || j->in < 0)
			break;
		if (f->len) {
			write_all(j->in, f->data, f->len);
		} else {
			close(j->in);
			j->in = -1;
		}
		break;
	case FRAME_SIGNAL:
		if (j && j->pid && f->len == 1)
			kill(-j->pid, f->data[0]);
		break;
	case FRAME_QUIT:
		end_machine(a);
		break;
	}
}

/* Forwards what the job printed, at most one chunk. Returns true if there may be more. */
static bool job_output(struct agent *a, struct job *j)
{
	char buf[CHUNK];
	ssize_t n = read(j->out, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		close(j->out);
		j->out = -1;
		if (!j->pid)
			j->used = false;
		return false;
	}
	if (j->sent < MAX_OUTPUT) {
		link_send(&a->link, FRAME_OUT, 0, j->id, buf, (size_t)n);
		j->sent += (size_t)n;
		if (j->sent >= MAX_OUTPUT)
			send_text(a, j->id, "\nlab agent: further output dropped\n");
	}
	return true;
}

static void job_ended(struct agent *a, struct job *j, int status)
{
	while (j->out >= 0 && job_output(a, j))
		;
	j->pid = 0;
	if (j->in >= 0)
		close(j->in);
	j->in = -1;
	if (WIFSIGNALED(status))
		send_exit(a, j->id, 's', (uint8_t)WTERMSIG(status));
	else
		send_exit(a, j->id, 'e', (uint8_t)WEXITSTATUS(status));
	if (j->out < 0)
		j->used = false;
}

static void reap(struct agent *a)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (int i = 0; i < MAX_JOBS; i++)
			if (a->jobs[i].used && a->jobs[i].pid == pid)
				job_ended(a, &a->jobs[i], status);
}

static int raw_mode(int fd)
{
	struct termios t;

	if (!isatty(fd))
		return 0;
	if (tcgetattr(fd, &t))
		return -errno;
	cfmakeraw(&t);
	t.c_cflag |= CLOCAL | CREAD;
	cfsetspeed(&t, B115200);
	return tcsetattr(fd, TCSANOW, &t) ? -errno : 0;
}

static int agent_loop(struct agent *a, int sigfd)
{
	struct pollfd p[MAX_JOBS + 2];
	struct job *owner[MAX_JOBS + 2];
	int last_seq = -1;

	for (;;) {
		struct signalfd_siginfo si;
		struct frame f;
		nfds_t n = 2;

		p[0] = (struct pollfd){ .fd = a->link.fd, .events = POLLIN };
		p[1] = (struct pollfd){ .fd = sigfd, .events = POLLIN };
		for (int i = 0; i < MAX_JOBS; i++)
			if (a->jobs[i].used && a->jobs[i].out >= 0) {
				owner[n] = &a->jobs[i];
				p[n++] = (struct pollfd){ .fd = a->jobs[i].out, .events = POLLIN };
			}
		if (poll(p, n, -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents & POLLIN) {
			if (link_fill(&a->link) < 0)
				return -EIO;
			while (link_next(&a->link, &f))
				handle_frame(a, &f, &last_seq);
		} else if (p[0].revents) {
			usleep(100000); /* a virtio port whose other side is not there yet */
		}
		for (nfds_t i = 2; i < n; i++)
			if (p[i].revents && owner[i]->used && owner[i]->out == p[i].fd)
				job_output(a, owner[i]);
		if (p[1].revents && read(sigfd, &si, sizeof(si)) > 0)
			reap(a);
	}
}

int agent_main(const char *device, bool is_host)
{
	static struct agent a;
	sigset_t chld;
	int fd, sigfd, r;

	fd = open(device, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "lab agent: cannot open %s: %s\n", device, strerror(errno));
		return 1;
	}
	r = raw_mode(fd);
	if (r) {
		fprintf(stderr, "lab agent: cannot set up %s: %s\n", device, strerror(-r));
		return 1;
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigfd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	link_init(&a.link, fd);
	a.is_host = is_host;
	link_send(&a.link, FRAME_HELLO, 0, 0, "1", 1);
	r = agent_loop(&a, sigfd);
	fprintf(stderr, "lab agent: the command link failed: %s\n", strerror(-r));
	return 1;
}
