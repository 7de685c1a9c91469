/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The attacker's program in its guest: runs one row of the attack table, its own or one of
 * attack.ko, and prints what it saw as one line.
 *
 *	attack [--cr4-off BITS] ID [ARG...]	up to four numbers, the row's own; what attack.ko does, it
 *						does with these bits off
 *	attack --serve PORT			as often as such a line comes in at PORT, a character device
 *
 * "attack ID: OUTCOME text [detail]", with outcomes as in table.toml. Exit status 0: the row ran,
 * whatever came of it; 1: it could not; 2: usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user.h"

static const struct user_attack *const groups[] = {
	rings_attacks,
	memory_attacks,
	exhaust_attacks,
};

static const struct user_attack *find(const char *id)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		for (const struct user_attack *a = groups[i]; a->id; a++)
			if (!strcmp(a->id, id))
				return a;
	return NULL;
}

static int run_in_kernel(struct attack_run *run)
{
	int fd = open("/dev/attack", O_RDWR | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, ATTACK_RUN, run))
		rc = -errno;
	close(fd);
	return rc;
}

static void print(const struct attack_run *run)
{
	static const char *const names[] = {
		[ATTACK_ABSENT] = "absent",   [ATTACK_NO_EFFECT] = "no-effect",
		[ATTACK_REFUSED] = "refused", [ATTACK_UD] = "ud",
		[ATTACK_FAULT] = "fault",     [ATTACK_UNARMED] = "unarmed",
		[ATTACK_BREACH] = "breach",
	};
	const char *name = run->outcome < sizeof(names) / sizeof(*names) ? names[run->outcome] :
									     "unknown";

	printf("attack %s: %s", run->id, name);
	if (run->outcome == ATTACK_REFUSED)
		printf(":%s", strerrorname_np((int)run->code));
	printf(" %s", run->text);
	for (int i = 0; i < 4; i++)
		printf(" 0x%llx", run->detail[i]);
	printf("\n");
}

static int run_row(int argc, char **argv)
{
	struct attack_run run = { 0 };
	const struct user_attack *row;
	int rc;

	if (argc > 2 && !strcmp(argv[0], "--cr4-off")) {
		run.cr4_off = strtoull(argv[1], NULL, 0);
		argc -= 2;
		argv += 2;
	}
	if (argc < 1 || argc > 5 || strlen(argv[0]) >= sizeof(run.id)) {
		fprintf(stderr, "usage: attack [--cr4-off BITS] ID [ARG...] | --serve PORT\n");
		return 2;
	}
	strcpy(run.id, argv[0]);
	for (int i = 1; i < argc; i++)
		run.args[i - 1] = strtoull(argv[i], NULL, 0);
	row = find(run.id);
	/* Before it: the guest may not come back from it. */
	printf("attack %s: begins\n", run.id);
	fflush(stdout);
	rc = row ? row->run(&run) : run_in_kernel(&run);
	if (rc) {
		printf("attack %s: failed %s\n", run.id, rc == -ENOENT && !row ?
		       "no such row, or no /dev/attack: insmod attack.ko" : strerror(-rc));
		return 1;
	}
	print(&run);
	return 0;
}

/* In a process of its own, whatever becomes of it. */
static void serve_line(char *line, int port)
{
	char *argv[8];
	int argc = 0, status;
	pid_t child;

	for (char *w = strtok(line, " \n"); w && argc < 8; w = strtok(NULL, " \n"))
		argv[argc++] = w;
	child = fork();
	if (!child) {
		dup2(port, STDOUT_FILENO);
		status = run_row(argc, argv);
		fflush(stdout);
		_exit(status);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		status = -1;
	dprintf(port, "end %d\n", status);
}

static int serve(const char *path)
{
	int port = open(path, O_RDWR | O_CLOEXEC);
	char line[256];
	FILE *in;

	in = port < 0 ? NULL : fdopen(dup(port), "r");
	if (!in) {
		fprintf(stderr, "attack: %s: %s\n", path, strerror(errno));
		return 1;
	}
	dprintf(port, "ready\n");
	/* No line: nobody is at the other end now. */
	for (;;) {
		if (fgets(line, sizeof(line), in)) {
			serve_line(line, port);
		} else {
			clearerr(in);
			usleep(20000);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--serve"))
		return serve(argv[2]);
	return run_row(argc - 1, argv + 1);
}
