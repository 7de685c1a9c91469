/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The copy: a fork that at once stops for its tracer, this thread, and then never runs code of its
 * own but system calls that are put into its registers, and the function that is checked.
 *
 * Other threads of this process may have held any lock when it was copied: until it stops it calls
 * nothing but the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"
#include "tracee.h"

#define USER_END	     (1ULL << 47)
#define RSEQ_FLAG_UNREGISTER 1 /* linux/rseq.h, which collides with libc's */

/* Exit codes of a copy that did not come up. */
#define NO_PARENT 1
#define NO_TRACE  2
#define RAN_ON	  3

static inline long raw(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static _Noreturn void copy(pid_t parent)
{
	long rc = 0;

	raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
	/* It may have ended before that. */
	if (raw(SYS_getppid, 0, 0, 0, 0) != parent)
		rc = NO_PARENT;
	raw(SYS_close_range, 0, ~0U, 0, 0);
	if (!rc && raw(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0))
		rc = NO_TRACE;
	if (!rc) {
		raw(SYS_kill, raw(SYS_getpid, 0, 0, 0, 0), SIGSTOP, 0, 0);
		rc = RAN_ON;
	}
	for (;;)
		raw(SYS_exit_group, rc, 0, 0, 0);
}

/* Waits for its next stop: the signal, or -ESRCH with its exit code in *code. */
static int wait_stop(struct tracee *t, int *code)
{
	int status;
	pid_t pid;

	do
		pid = waitpid(t->pid, &status, __WALL);
	while (pid < 0 && errno == EINTR);
	*code = pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	if (pid > 0 && WIFSTOPPED(status))
		return WSTOPSIG(status);
	/* Its pid may become another's. */
	t->gone = true;
	return -ESRCH;
}

int tracee_regs(const struct tracee *t, struct user_regs_struct *regs)
{
	return ptrace(PTRACE_GETREGS, t->pid, NULL, regs) ? -errno : 0;
}

int tracee_run(struct tracee *t, int request, const struct user_regs_struct *regs, uint32_t us)
{
	int code;

	if ((regs && ptrace(PTRACE_SETREGS, t->pid, NULL, regs)) ||
	    ptrace(request, t->pid, NULL, NULL))
		return -errno;
	if (us) {
		usleep(us);
		kill(t->pid, SIGSTOP);
	}
	return wait_stop(t, &code);
}

int64_t tracee_call(struct tracee *t, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		    uint64_t e, uint64_t f)
{
	struct user_regs_struct before, regs;
	int rc = tracee_regs(t, &before), later = 0;

	if (rc)
		return rc;
	regs = before;
	regs.rip = (uintptr_t)elisa_tracee_call;
	regs.rax = nr;
	regs.orig_rax = -1; /* not to be restarted */
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	regs.r10 = d;
	regs.r8 = e;
	regs.r9 = f;
	/* A breakpoint follows. What comes before that is for later. */
	rc = tracee_run(t, PTRACE_CONT, &regs, 0);
	while (rc == SIGPROF || rc == SIGSTOP) {
		later = rc;
		rc = tracee_run(t, PTRACE_CONT, NULL, 0);
	}
	if (rc == SIGTRAP)
		rc = tracee_regs(t, &regs);
	else
		rc = rc < 0 ? rc : -EPROTO;
	if (later && !t->gone)
		kill(t->pid, later);
	if (!rc && ptrace(PTRACE_SETREGS, t->pid, NULL, &before))
		rc = -errno;
	return rc ? rc : (int64_t)regs.rax;
}

int tracee_read(const struct tracee *t, uint64_t addr, void *buf, size_t len)
{
	ssize_t n = pread(t->mem, buf, len, (off_t)addr);

	return n < 0 ? -errno : (int)n;
}

int tracee_write(const struct tracee *t, uint64_t addr, const void *buf, size_t len)
{
	size_t done;
	ssize_t n;

	for (done = 0; done < len; done += n) {
		n = pwrite(t->mem, (const char *)buf + done, len - done, (off_t)(addr + done));
		if (n <= 0)
			return n ? -errno : -EFAULT;
	}
	return 0;
}

/* The kernel writes there at every switch to the copy, and kills it once it cannot. */
static void drop_rseq(struct tracee *t)
{
	struct __ptrace_rseq_configuration c;

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->pid, sizeof(c), &c) == sizeof(c) &&
	    c.rseq_abi_pointer)
		tracee_call(t, SYS_rseq, c.rseq_abi_pointer, c.rseq_abi_size, RSEQ_FLAG_UNREGISTER,
			    c.signature, 0, 0);
}

static int set_up(struct tracee *t)
{
	char path[32];
	int code, rc = wait_stop(t, &code);

	if (rc != SIGSTOP)
		return rc == -ESRCH && code == NO_TRACE ? -EPERM : -ESRCH;
	if (ptrace(PTRACE_SETOPTIONS, t->pid, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD))
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/mem", t->pid);
	t->mem = open(path, O_RDWR | O_CLOEXEC);
	if (t->mem < 0)
		return -errno;
	drop_rseq(t);
	/* Where this process may use I/O ports: inside, nobody may. */
	tracee_call(t, SYS_iopl, 0, 0, 0, 0, 0, 0);
	tracee_call(t, SYS_ioperm, 0, 65536, 0, 0, 0, 0);
	return 0;
}

int tracee_fork(struct tracee *t)
{
	sigset_t all, before;
	pid_t parent = getpid();
	int rc;

	*t = (struct tracee){.mem = -1};
	sigfillset(&all);
	sigdelset(&all, SIGPROF);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Not fork(): handlers of libraries are not for this. */
	t->pid = _Fork();
	if (!t->pid)
		copy(parent);
	rc = t->pid < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return rc;
	rc = set_up(t);
	if (rc)
		tracee_end(t);
	return rc;
}

void tracee_end(struct tracee *t)
{
	int status;

	if (!t->gone)
		kill(t->pid, SIGKILL);
	/* ECHILD: this process ignores the end of children. */
	while (!t->gone && waitpid(t->pid, &status, __WALL) < 0
		       ? errno == EINTR
		       : !WIFEXITED(status) && !WIFSIGNALED(status))
		;
	if (t->mem >= 0)
		close(t->mem);
	free(t->areas);
	*t = (struct tracee){.mem = -1};
}

/* ---- memory ---- */

static int area_parse(const char *line, struct area *a)
{
	unsigned long long start, end;
	char prot[5];
	int name = 0;

	if (sscanf(line, "%llx-%llx %4s %*s %*s %*s %n", &start, &end, prot, &name) != 3 || !name)
		return -EPROTO;
	*a = (struct area){.start = start, .end = end};
	a->prot = (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0) |
		  (prot[2] == 'x' ? PROT_EXEC : 0);
	snprintf(a->name, sizeof(a->name), "%.*s", (int)strcspn(line + name, "\n"), line + name);
	return 0;
}

int tracee_areas(struct tracee *t)
{
	size_t room = 0, len = 0;
	char *line = NULL, path[32];
	FILE *f;
	int rc = 0;

	snprintf(path, sizeof(path), "/proc/%d/maps", t->pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (!rc && getline(&line, &len, f) > 0) {
		if (t->count == room) {
			struct area *all;

			room = room ? 2 * room : 256;
			all = reallocarray(t->areas, room, sizeof(*all));
			if (!all) {
				rc = -ENOMEM;
				break;
			}
			t->areas = all;
		}
		rc = area_parse(line, &t->areas[t->count]);
		/* The vsyscall page belongs to no process. */
		if (!rc && t->areas[t->count].end <= USER_END)
			t->count++;
	}
	free(line);
	fclose(f);
	return rc;
}

const struct area *tracee_area(const struct tracee *t, uint64_t addr)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->areas[mid].end > addr)
			high = mid;
		else
			low = mid + 1;
	}
	return low < t->count && t->areas[low].start <= addr ? &t->areas[low] : NULL;
}

int tracee_protect(struct tracee *t, uint64_t *start, uint64_t *end, int prot, bool widen)
{
	static const uint64_t pages[] = {ELISA_PAGE_SIZE, 2u << 20, 1u << 30};
	int64_t rc = -EINVAL;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(pages) && rc == -EINVAL; i++) {
		uint64_t mask = pages[i] - 1;
		uint64_t s = widen ? *start & ~mask : (*start + mask) & ~mask;
		uint64_t e = widen ? (*end + mask) & ~mask : *end & ~mask;

		if (s >= e)
			return 0;
		rc = tracee_call(t, SYS_mprotect, s, e - s, prot, 0, 0, 0);
		if (!rc) {
			*start = s;
			*end = e;
		}
	}
	return rc;
}
