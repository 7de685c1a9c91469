/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * kill-at PID [ioctl:]N COMMAND...: kills process PID (SIGKILL) before the Nth system call, or the
 * Nth ioctl, that its threads make while COMMAND runs; N = 0: only counts. kill-at: what the module
 * has of contexts, VMs and pinned pages.
 *
 * Ends with COMMAND's status; prints "killed before call N: NUMBER(ARGUMENTS)" or "calls N".
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <elisa/ioctl.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)

static pid_t victim, command;
static long number, seen;
static bool only_ioctls, killed;

static int module_state(void)
{
	struct elisa_info info = {0};
	int fd = open("/dev/elisa", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, ELISA_INFO, &info))
		err(2, "/dev/elisa");
	printf("contexts %llu vms %llu pinned %llu\n", (unsigned long long)info.contexts,
	       (unsigned long long)info.vms, (unsigned long long)info.pinned_pages);
	return 0;
}

/* Threads that come while the others are being caught come with them (PTRACE_O_TRACECLONE). */
static void catch_all(void)
{
	char path[32];
	struct dirent *e;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", victim);
	tasks = opendir(path);
	if (!tasks)
		err(2, "%s", path);
	while ((e = readdir(tasks))) {
		pid_t tid = atoi(e->d_name);

		if (!tid)
			continue;
		if (ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE))
			err(2, "thread %d", tid);
		ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	}
	closedir(tasks);
}

static void on_syscall(pid_t tid)
{
	struct user_regs_struct regs;

	/* The kernel has -ENOSYS there at the entry only. */
	if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) || (long long)regs.rax != -ENOSYS)
		return;
	if ((only_ioctls && regs.orig_rax != SYS_ioctl) || ++seen != number)
		return;
	/* Nothing of this call is done: death comes first. */
	kill(victim, SIGKILL);
	killed = true;
	printf("killed before call %ld: %llu(%lld, %#llx)\n", seen, regs.orig_rax, regs.rdi,
	       regs.rsi);
}

/* What a thread stopped for; what it is to go on with. */
static void on_stop(pid_t tid, int status)
{
	int sig = WSTOPSIG(status), event = status >> 16;

	if (sig == SYSCALL_STOP)
		on_syscall(tid);
	ptrace(PTRACE_SYSCALL, tid, NULL, sig == SYSCALL_STOP || event ? 0 : sig);
}

int main(int argc, char **argv)
{
	int status, ended = -1;
	pid_t tid;

	if (argc == 1)
		return module_state();
	if (argc < 4)
		errx(2, "kill-at [PID N COMMAND...]");
	victim = atoi(argv[1]);
	only_ioctls = !strncmp(argv[2], "ioctl:", 6);
	number = atol(argv[2] + (only_ioctls ? 6 : 0));
	catch_all();
	command = fork();
	if (command < 0)
		err(2, "fork");
	if (!command) {
		execvp(argv[3], argv + 3);
		err(127, "%s", argv[3]);
	}
	/* Whoever is traced goes on by itself once this one is gone. */
	while (ended < 0 && (tid = waitpid(-1, &status, __WALL)) > 0) {
		if (tid == command)
			ended = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
		else if (WIFSTOPPED(status))
			on_stop(tid, status);
	}
	if (!killed)
		printf("calls %ld\n", seen);
	return ended;
}
