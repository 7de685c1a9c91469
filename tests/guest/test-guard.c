/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guard: programs that die with and without a word, and what their elisa-guard does then. The
 * guard is the real one over a made-up service (fake-service.c).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <elisa/abi.h>
#include <elisa/guard.h>

#include "eventually.h"
#include "fake-service.h"

static char spec[] = "/tmp/elisa-guard-XXXXXX";
static struct fake_service *fake;

static int set_up(void **state)
{
	setenv("ELISA_GUARD", GUARD_UNDER_TEST, 1);
	memset(fake, 0, sizeof(*fake));
	return 0;
}

/* How many descriptors process `pid` has on the file behind `st`; -1: no such process any more,
 * 0 also: it has ended and init has not buried it yet. */
static int holds(pid_t pid, const struct stat *st)
{
	char path[300];
	struct dirent *e;
	struct stat other;
	int count = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	if (!d)
		return -1;
	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, e->d_name);
		if (!stat(path, &other) && other.st_ino == st->st_ino && other.st_dev == st->st_dev)
			count++;
	}
	closedir(d);
	return count;
}

static int make_memory(struct stat *st)
{
	int fd = memfd_create("guarded", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20) | fstat(fd, st), 0);
	return fd;
}

/* The only child of `pid`: its guard. */
static pid_t guard_of(pid_t pid)
{
	char path[100];
	int child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &child), 1);
	fclose(f);
	return child;
}

/* A program with a guard that holds `fd` and is to make `undos` calls; ready when this returns. */
static pid_t start_program(int fd, int undos, bool with_child)
{
	int fds[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		struct elisa_guard *g;

		if (elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g) || elisa_guard_hold(g, fd))
			_exit(1);
		for (int i = 0; i < undos; i++)
			if (elisa_guard_undo(g, 20, (uint64_t)i))
				_exit(2);
		if (with_child && !fork()) {
			nap_ms(3000);
			_exit(0);
		}
		if (write(fds[1], "r", 1) != 1)
			_exit(3);
		pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &c, 1), 1);
	close(fds[0]);
	return pid;
}

static void kill_program(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_killed_program_is_undone(void **state)
{
	struct stat st;
	int fd = make_memory(&st), calls;
	pid_t pid = start_program(fd, 3, false), guard = guard_of(pid);

	close(fd);
	fake->busy = 1;
	assert_int_equal(holds(guard, &st), 1);
	assert_int_equal(fake->calls, 0);
	kill_program(pid);
	/* All three are asked for, again and again, and the memory stays. */
	EVENTUALLY(fake->calls >= 9);
	assert_int_equal(holds(guard, &st), 1);
	for (int i = 0; i < 9; i++) {
		assert_int_equal(fake->call[i].op, 20);
		assert_int_equal(fake->call[i].a1, i % 3);
		assert_int_equal(fake->call[i].pid, guard);
	}
	/* Not in a tight loop. */
	calls = fake->calls;
	nap_ms(300);
	assert_true(fake->calls - calls < 3 * 300);
	fake->busy = 0;
	EVENTUALLY(holds(guard, &st) < 1);
	assert_int_equal(fake->ends, 1);
}

static void an_orderly_end_undoes_nothing(void **state)
{
	struct elisa_guard *g;
	struct stat st;
	int fd = make_memory(&st);
	pid_t guard;

	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g), 0);
	guard = guard_of(getpid());
	assert_int_equal(getsid(guard), guard);
	assert_int_equal(elisa_guard_undo(g, 20, 1), 0);
	assert_int_equal(elisa_guard_hold(g, fd), 0);
	assert_int_equal(elisa_guard_hold(g, -1), -EBADF);
	assert_int_equal(holds(guard, &st), 1);
	elisa_guard_stop(g);
	assert_int_equal(holds(guard, &st), -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
	assert_int_equal(fake->calls, 0);
	assert_int_equal(fake->ends, 1);
	elisa_guard_stop(NULL);
	close(fd);
}

/* Thousands of files, as DPDK has one for each hugepage; each counts once. */
static void many_files_are_held(void **state)
{
	struct stat first, last;
	struct elisa_guard *g;
	pid_t guard;
	int fd;

	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g), 0);
	guard = guard_of(getpid());
	for (int i = 0; i < 2000; i++) {
		fd = make_memory(i ? &last : &first);
		assert_int_equal(elisa_guard_hold(g, fd), 0);
		assert_int_equal(elisa_guard_hold(g, fd), 0);
		close(fd);
	}
	assert_int_equal(holds(guard, &first), 1);
	assert_int_equal(holds(guard, &last), 1);
	elisa_guard_stop(g);
}

static void calls_are_counted_once(void **state)
{
	struct elisa_guard *g;

	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g), 0);
	for (uint64_t i = 0; i < ELISA_GUARD_UNDO_MAX; i++) {
		assert_int_equal(elisa_guard_undo(g, 20, i), 0);
		assert_int_equal(elisa_guard_undo(g, 20, i), 0);
	}
	assert_int_equal(elisa_guard_undo(g, 20, ELISA_GUARD_UNDO_MAX), -ENOSPC);
	assert_int_equal(elisa_guard_undo(g, 20, 0), 0);
	elisa_guard_stop(g);
}

/* Who starts again at once gets hold of nothing before the former guard is done with it. */
static void a_successor_waits(void **state)
{
	struct stat st;
	int fd = make_memory(&st);
	pid_t pid = start_program(fd, 2, false), guard = guard_of(pid), next;
	int made;

	fake->busy = 1;
	kill_program(pid);
	EVENTUALLY(fake->calls >= 2);
	next = fork();
	if (!next) {
		struct elisa_guard *g;

		if (elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g) || elisa_guard_undo(g, 20, 7))
			_exit(1);
		if (elisa_guard_undo(g, 20, 1))
			_exit(2);
		fake->ends += 100; /* it has it now */
		elisa_guard_stop(g);
		_exit(0);
	}
	nap_ms(300);
	assert_int_equal(fake->ends, 0);
	fake->busy = 0;
	EVENTUALLY(holds(guard, &st) < 1);
	assert_int_equal(waitpid(next, &made, 0), next);
	assert_int_equal(made, 0);
	assert_int_equal(fake->ends, 102);
	close(fd);
}

static void signals_do_not_end_it_first(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct stat st;
	int fd = make_memory(&st);
	pid_t pid = start_program(fd, 1, false), guard = guard_of(pid);

	for (int i = 0; i < 3; i++)
		kill(guard, signals[i]);
	nap_ms(50);
	assert_int_equal(holds(guard, &st), 1);
	kill_program(pid);
	EVENTUALLY(fake->calls == 1);
	EVENTUALLY(holds(guard, &st) < 1);
	close(fd);
}

/* A child that outlives the program has a copy of the socket. */
static void a_child_does_not_prolong_a_program(void **state)
{
	struct stat st;
	int fd = make_memory(&st);
	pid_t pid = start_program(fd, 1, true);

	kill_program(pid);
	for (int i = 0; i < 100 && !fake->calls; i++)
		nap_ms(10);
	assert_int_equal(fake->calls, 1);
	close(fd);
}

static void a_service_that_is_away_is_enough(void **state)
{
	struct stat st;
	int fd = make_memory(&st);
	pid_t pid = start_program(fd, 2, false), guard = guard_of(pid);

	fake->away = 1;
	kill_program(pid);
	EVENTUALLY(holds(guard, &st) < 1);
	assert_int_equal(fake->calls, 2);
	close(fd);
}

static void a_dead_guard_is_noticed(void **state)
{
	struct elisa_guard *g;

	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g), 0);
	kill(guard_of(getpid()), SIGKILL);
	assert_int_equal(elisa_guard_hold(g, 0), -EPIPE);
	assert_int_equal(elisa_guard_undo(g, 1, 1), -EPIPE);
	elisa_guard_stop(g);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void failures_are_told(void **state)
{
	struct elisa_guard *g;
	int before = dup(0), after;

	unsetenv("ELISA_GUARD"); /* ELISA_GUARD_PATH of this build is no file */
	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g), -ENOENT);
	setenv("ELISA_GUARD", "/bin/true", 1);
	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_SWITCH, &g), -EPIPE);
	setenv("ELISA_GUARD", GUARD_UNDER_TEST, 1);
	assert_int_equal(elisa_guard_start("/nonexistent", ELISA_SERVICE_SWITCH, &g), -EPIPE);
	assert_int_equal(elisa_guard_start(spec, ELISA_SERVICE_EXAMPLE, &g), -EPIPE);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	after = dup(0);
	assert_int_equal(after, before + 1);
	close(after);
	close(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
		TEST(a_killed_program_is_undone),
		TEST(an_orderly_end_undoes_nothing),
		TEST(many_files_are_held),
		TEST(calls_are_counted_once),
		TEST(a_successor_waits),
		TEST(signals_do_not_end_it_first),
		TEST(a_child_does_not_prolong_a_program),
		TEST(a_service_that_is_away_is_enough),
		TEST(a_dead_guard_is_noticed),
		TEST(failures_are_told),
	};
	int fd = mkstemp(spec), rc;

	if (fd < 0 || ftruncate(fd, sizeof(*fake)))
		return 1;
	fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (fake == MAP_FAILED)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(spec);
	return rc;
}
