/* SPDX-License-Identifier: BSD-3-Clause */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include <sys/ptrace.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include "kill.h"

#define STACK	  (48u * 1024)
#define PARTS	  32
#define XSTATE	  16384
#define EFLAGS_TF 0x100

/* ---- the state of shared memory ---- */

static struct {
	uint8_t *at, *copy[K_LEVELS];
	size_t len;
} part[PARTS];
static unsigned int parts;

void k_part(void *at, size_t len)
{
	CHECK(parts < PARTS);
	part[parts].at = at;
	part[parts].len = len;
	for (int i = 0; i < K_LEVELS; i++) {
		part[parts].copy[i] = malloc(len);
		CHECK(part[parts].copy[i]);
	}
	parts++;
}

void k_forget(void)
{
	while (parts) {
		parts--;
		for (int i = 0; i < K_LEVELS; i++)
			free(part[parts].copy[i]);
	}
}

void k_save(unsigned int level)
{
	for (unsigned int i = 0; i < parts; i++)
		memcpy(part[i].copy[level], part[i].at, part[i].len);
}

void k_restore(unsigned int level)
{
	for (unsigned int i = 0; i < parts; i++)
		memcpy(part[i].at, part[i].copy[level], part[i].len);
}

bool k_changed(unsigned int level)
{
	for (unsigned int i = 0; i < parts; i++)
		if (memcmp(part[i].at, part[i].copy[level], part[i].len))
			return true;
	return false;
}

/* ---- a stepped caller ---- */

struct held {
	struct user_regs_struct regs;
	uint8_t xstate[XSTATE];
	size_t xstate_len;
	bool over;
	uint8_t stack[STACK];
};

/* Where calls return to: an int3. */
void k_end(void);
__asm__(".pushsection .text\n"
	".globl k_end\n"
	"k_end: int3\n"
	".popsection");

static void get_regs(const struct k_caller *c, struct user_regs_struct *regs)
{
	CHECK(ptrace(PTRACE_GETREGS, c->pid, NULL, regs) == 0);
}

static void set_regs(const struct k_caller *c, const struct user_regs_struct *regs)
{
	CHECK(ptrace(PTRACE_SETREGS, c->pid, NULL, regs) == 0);
}

static void wait_for_trap(const struct k_caller *c)
{
	int status;

	CHECK(waitpid(c->pid, &status, __WALL) == c->pid);
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
		fprintf(stderr, "the stepped caller ended or got a signal: status 0x%x\n", status);
		abort();
	}
}

void k_start(struct k_caller *c)
{
	int status;

	c->stack = t_map(STACK);
	c->held = malloc(sizeof(struct held));
	CHECK(c->held);
	c->over = true;
	c->pid = fork();
	CHECK(c->pid >= 0);
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(77);
		raise(SIGSTOP);
		_exit(1);
	}
	CHECK(waitpid(c->pid, &status, 0) == c->pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		printf("skipped: may not trace its own child (%s)\n", strerror(EPERM));
		exit(77);
	}
	CHECK(WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_SETOPTIONS, c->pid, NULL, PTRACE_O_EXITKILL) == 0);
}

void k_stop(struct k_caller *c)
{
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, __WALL);
	t_unmap(c->stack, STACK);
	free(c->held);
}

void k_begin(struct k_caller *c, struct vs_caller *caller, uint64_t op, uint64_t a1, uint64_t a2)
{
	uint64_t *top = (uint64_t *)(void *)(c->stack + STACK - 64);
	struct user_regs_struct regs;

	get_regs(c, &regs);
	*--top = (uint64_t)(uintptr_t)k_end;
	regs.rsp = (uint64_t)(uintptr_t)top;
	regs.rip = (uint64_t)(uintptr_t)vs_entry;
	regs.orig_rax = (uint64_t)-1;
	regs.rdi = (uint64_t)(uintptr_t)caller;
	regs.rsi = op;
	regs.rdx = a1;
	regs.rcx = 0xdead;
	regs.r8 = a2;
	regs.r9 = 0xbeef;
	set_regs(c, &regs);
	c->over = false;
}

static uint64_t rip_of(const struct k_caller *c)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, c->pid, offsetof(struct user_regs_struct, rip),
				NULL);
}

/* A bit for each byte of the library. */
#define TEXT_MAX (1u << 20)
static uint8_t seen[TEXT_MAX / 8];
unsigned int k_instructions;

static void see(uint64_t rip)
{
	static uint64_t base;
	uint64_t at;
	Dl_info info;

	if (!base && dladdr((void *)(uintptr_t)vs_entry, &info))
		base = (uint64_t)(uintptr_t)info.dli_fbase;
	at = rip - base;
	if (at >= TEXT_MAX || seen[at / 8] >> at % 8 & 1)
		return;
	seen[at / 8] |= (uint8_t)(1 << at % 8);
	k_instructions++;
}

bool k_step(struct k_caller *c)
{
	if (c->over)
		return false;
	see(rip_of(c));
	CHECK(ptrace(PTRACE_SINGLESTEP, c->pid, NULL, NULL) == 0);
	wait_for_trap(c);
	c->over = rip_of(c) == (uint64_t)(uintptr_t)k_end;
	return !c->over;
}

int64_t k_finish(struct k_caller *c)
{
	struct user_regs_struct regs;

	if (!c->over) {
		CHECK(ptrace(PTRACE_CONT, c->pid, NULL, NULL) == 0);
		wait_for_trap(c);
		CHECK(rip_of(c) == (uint64_t)(uintptr_t)k_end + 1);
		c->over = true;
	}
	get_regs(c, &regs);
	return (int64_t)regs.rax;
}

void k_hold(struct k_caller *c)
{
	struct held *h = c->held;
	struct iovec iov = {h->xstate, sizeof(h->xstate)};

	get_regs(c, &h->regs);
	CHECK(ptrace(PTRACE_GETREGSET, c->pid, NT_X86_XSTATE, &iov) == 0);
	h->xstate_len = iov.iov_len;
	h->over = c->over;
	memcpy(h->stack, c->stack, STACK);
}

void k_back(struct k_caller *c)
{
	struct held *h = c->held;
	struct iovec iov = {h->xstate, h->xstate_len};

	set_regs(c, &h->regs);
	CHECK(ptrace(PTRACE_SETREGSET, c->pid, NT_X86_XSTATE, &iov) == 0);
	c->over = h->over;
	memcpy(c->stack, h->stack, STACK);
}

void k_where(const struct k_caller *c, char *text, size_t len)
{
	uint64_t rip = rip_of(c);
	Dl_info info;

	if (dladdr((void *)(uintptr_t)rip, &info) && info.dli_fname)
		snprintf(text, len, "%s+0x%lx", strrchr(info.dli_fname, '/') ?: info.dli_fname,
			 rip - (uint64_t)(uintptr_t)info.dli_fbase);
	else
		snprintf(text, len, "0x%lx", rip);
}

/* ---- how long a call of this process takes ---- */

uint64_t k_path;

/* By gcc's and clang's name for it. */
void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	k_path = (k_path ^ (uint64_t)(uintptr_t)__builtin_return_address(0)) * 0x100000001b3ull;
}

static volatile uint64_t traps;

static void on_trap(int signal)
{
	(void)signal;
	traps++;
}

static void trap_flag(bool on)
{
	uint64_t flags = __builtin_ia32_readeflags_u64();

	__builtin_ia32_writeeflags_u64(on ? flags | EFLAGS_TF : flags & ~(uint64_t)EFLAGS_TF);
}

/* A few instructions before and after the call are counted, too, always the same. */
uint64_t k_count(struct vs_caller *caller, uint64_t op, uint64_t a1, uint64_t a2, int64_t *result)
{
	struct sigaction act = {.sa_handler = on_trap}, before;
	uint64_t had = traps;

	CHECK(sigaction(SIGTRAP, &act, &before) == 0);
	trap_flag(true);
	*result = vs_entry(caller, op, a1, 0xdead, a2, 0xbeef);
	trap_flag(false);
	CHECK(sigaction(SIGTRAP, &before, NULL) == 0);
	return traps - had;
}
