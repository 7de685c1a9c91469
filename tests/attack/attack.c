/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The attacker's program in its guest: runs one row of the attack table, its own or one of
 * attack.ko, and prints what it saw as one line.
 *
 *	attack ID [ARG...]	up to four numbers, the row's own
 *
 * "attack ID: OUTCOME text [detail]", with outcomes as in table.toml. Exit status 0: the row ran,
 * whatever came of it; 1: it could not; 2: usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "user.h"

static const struct user_attack *const groups[] = {
	NULL,
};

int attack_is(struct attack_run *run, unsigned int outcome, unsigned int code, const char *fmt, ...)
{
	va_list args;

	run->outcome = outcome;
	run->code = code;
	va_start(args, fmt);
	vsnprintf(run->text, sizeof(run->text), fmt, args);
	va_end(args);
	return 0;
}

static const struct user_attack *find(const char *id)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
		for (const struct user_attack *a = groups[i]; a && a->id; a++)
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

int main(int argc, char **argv)
{
	struct attack_run run = { 0 };
	const struct user_attack *row;
	int rc;

	if (argc < 2 || argc > 6 || strlen(argv[1]) >= sizeof(run.id)) {
		fprintf(stderr, "usage: attack ID [ARG...]\n");
		return 2;
	}
	strcpy(run.id, argv[1]);
	for (int i = 2; i < argc; i++)
		run.args[i - 2] = strtoull(argv[i], NULL, 0);
	row = find(run.id);
	/* Before it: the guest may not come back from it. */
	printf("attack %s: begins\n", run.id);
	fflush(stdout);
	rc = row ? row->run(&run) : run_in_kernel(&run);
	if (rc) {
		fprintf(stderr, "attack %s: %s\n", run.id, rc == -ENOENT && !row ?
			"no such row, or no /dev/attack: insmod attack.ko" : strerror(-rc));
		return 1;
	}
	print(&run);
	return 0;
}
