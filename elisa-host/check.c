/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisa_check(): a copy of this process is made to have the address space of the trusted context,
 * as far as page permissions go, and then to call the function. Whatever stops it is looked at
 * here, told, and, if possible, allowed the next time. The CPU does not say whether it was a read
 * or a write that failed: a page is opened for reading first, and what fails there again was a
 * write.
 */
#include <elisa/check.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "internal.h"
#include "tracee.h"

#define MAX_STACK (32u << 10)
#define MAX_MS	  5000
#define MAX_CALL  20000
#define MAX_STEPS 10000000
#define MAX_CALLS 8
#define FIRST	  8    /* samples that are the first calls */
#define BREAK	  0xcc /* int3 */
#define MAX_TOLD  256
#define VETTED	  (1u << 16)
#define INSN_LEN  15

#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)

/* What becomes of a run after a stop. */
enum next { GO_ON, RETURNED, OVER };

struct opened {
	uint64_t start, end;
	int prot;
};

struct run {
	const struct elisa_check *check;
	struct elisa_check_result *result;
	struct elisa_exported *set;
	size_t count, room;
	struct park *park;
	uint64_t stack_low; /* the stack that may be used begins here */
	uint32_t max_stack, max_ms;
	uint64_t max_call, max_steps;
	/* What was told, in all runs. `key`: page, instruction... */
	struct {
		enum elisa_found kind;
		uint64_t key;
	} told[MAX_TOLD];
	/* Of the present run. */
	struct tracee t;
	struct user_regs_struct regs;
	bool stepping; /* this is the second run */
	bool step;     /* to the next instruction only */
	bool changed;  /* regs are to be set */
	struct opened opened[2 * MAX_TOLD];
	size_t opened_count;
	struct {
		uint64_t addr, ip; /* a read or a write, not yet told; addr 0: none */
	} pending;
	uint64_t *vetted;		     /* instructions that were looked at, by hash */
	uint64_t steps, call_steps, call_sp; /* call_sp 0: not in a call */
	/* Where calls are sampled: breakpoints at their first bytes, while `armed`. */
	bool armed;
	uint8_t code[MAX_CALLS];
	uint32_t sampled, slice_us; /* between samples */
};

/* ---- telling ---- */

const char *elisa_found_name(enum elisa_found kind)
{
	static const char *const names[] = {
		[ELISA_FOUND_READ] = "read",	       [ELISA_FOUND_WRITE] = "write",
		[ELISA_FOUND_READ_ONLY] = "read-only", [ELISA_FOUND_EXECUTE] = "execute",
		[ELISA_FOUND_SYSCALL] = "system-call", [ELISA_FOUND_INSTRUCTION] = "instruction",
		[ELISA_FOUND_STACK] = "stack",	       [ELISA_FOUND_ENDLESS] = "endless",
		[ELISA_FOUND_CRASH] = "crash",
	};

	return (size_t)kind < ARRAY_SIZE(names) ? names[kind] : "unknown";
}

/* The usual ones. */
static const char *syscall_name(uint64_t nr)
{
#define CALL(name)       \
	case SYS_##name: \
		return " (" #name ")"
	switch (nr) {
		CALL(read);
		CALL(write);
		CALL(readv);
		CALL(writev);
		CALL(open);
		CALL(openat);
		CALL(close);
		CALL(ioctl);
		CALL(mmap);
		CALL(munmap);
		CALL(mprotect);
		CALL(brk);
		CALL(poll);
		CALL(ppoll);
		CALL(sendto);
		CALL(recvfrom);
		CALL(sendmsg);
		CALL(recvmsg);
		CALL(sendmmsg);
		CALL(recvmmsg);
		CALL(futex);
		CALL(sched_yield);
		CALL(nanosleep);
		CALL(clock_nanosleep);
		CALL(clock_gettime);
		CALL(getpid);
		CALL(gettid);
		CALL(exit_group);
		CALL(rt_sigprocmask);
		CALL(tgkill);
	}
#undef CALL
	return "";
}

static const char *name(const struct run *r, uint64_t addr, char *buf, size_t len)
{
	const struct area *a;

	if (addr == (uintptr_t)elisa_tracee_return)
		return "the checker";
	if (address_name(addr, buf, len))
		return buf;
	a = tracee_area(&r->t, addr);
	if (!a)
		snprintf(buf, len, "%#llx (nothing is mapped there)", (unsigned long long)addr);
	else if (a->name[0])
		snprintf(buf, len, "%s+%#llx", a->name, (unsigned long long)(addr - a->start));
	else
		snprintf(buf, len, "anonymous memory at %#llx", (unsigned long long)addr);
	return buf;
}

/* `text` goes between the instruction and the address; an `addr` of 0 is not mentioned. */
static enum next tell(struct run *r, enum elisa_found kind, uint64_t key, uint64_t addr,
		      uint64_t ip, const char *text, const char *more)
{
	struct elisa_finding f = {.kind = kind, .addr = addr, .ip = ip};
	char at[256], what[256] = "", all[640];
	uint32_t i;

	for (i = 0; i < r->result->findings; i++)
		if (r->told[i].kind == kind && r->told[i].key == key)
			return GO_ON;
	if (r->result->findings == MAX_TOLD)
		return OVER;
	r->told[r->result->findings].kind = kind;
	r->told[r->result->findings++].key = key;
	if (!r->check->found)
		return GO_ON;
	name(r, ip, at, sizeof(at));
	snprintf(all, sizeof(all), "%s %s%s%s",
		 ip == (uintptr_t)elisa_tracee_return ? "the checker" : at, text,
		 addr && kind != ELISA_FOUND_SYSCALL ? name(r, addr, what, sizeof(what)) : "",
		 more);
	f.text = all;
	r->check->found(&f, r->check->arg);
	return GO_ON;
}

static enum next crash(struct run *r, const char *why, uint64_t addr)
{
	tell(r, ELISA_FOUND_CRASH, r->regs.rip, addr, r->regs.rip, why, "");
	return OVER;
}

/* ---- what may be accessed ---- */

static uint64_t page_of(uint64_t addr)
{
	return addr & ~(ELISA_PAGE_SIZE - 1ULL);
}

static int prot_of(const struct elisa_exported *e)
{
	return (e->prot & ELISA_R ? PROT_READ : 0) | (e->prot & ELISA_W ? PROT_WRITE : 0) |
	       (e->prot & ELISA_X ? PROT_EXEC : 0);
}

static bool covers(const struct elisa_exported *e, uint64_t addr)
{
	return addr - e->addr < e->len;
}

/* Exported permissions at `addr`; *next: where they may change. */
static int exported(const struct run *r, uint64_t addr, uint64_t *next)
{
	int prot = PROT_NONE;
	size_t i;

	for (i = 0; i < r->count; i++) {
		const struct elisa_exported *e = &r->set[i];

		if (covers(e, addr)) {
			prot |= prot_of(e);
			if (e->addr + e->len < *next)
				*next = e->addr + e->len;
		} else if (e->addr > addr && e->addr < *next) {
			*next = e->addr;
		}
	}
	return prot;
}

static int current(const struct run *r, uint64_t addr)
{
	uint64_t next = UINT64_MAX;
	int prot = exported(r, addr, &next);
	size_t i;

	for (i = 0; i < r->opened_count; i++)
		if (addr >= r->opened[i].start && addr < r->opened[i].end)
			prot |= r->opened[i].prot;
	return prot;
}

/* Of [start, end), and more if that is part of a huge page. */
static enum next allow(struct run *r, uint64_t start, uint64_t end, int prot)
{
	struct opened *o = &r->opened[r->opened_count];
	int rc;

	if (r->opened_count == ARRAY_SIZE(r->opened))
		return OVER;
	*o = (struct opened){start, end, prot};
	rc = tracee_protect(&r->t, &o->start, &o->end, prot, true);
	if (rc)
		return OVER;
	r->opened_count++;
	return GO_ON;
}

static int add(struct run *r, const struct elisa_exported *e)
{
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		struct elisa_exported *set = reallocarray(r->set, room, sizeof(*set));

		if (!set)
			return -ENOMEM;
		r->set = set;
		r->room = room;
	}
	r->set[r->count++] = *e;
	return 0;
}

static int add_export(const struct elisa_exported *e, void *arg)
{
	return add(arg, e);
}

static int add_here(struct run *r, uint64_t addr, uint64_t len, uint32_t prot)
{
	return add(r, &(struct elisa_exported){addr, addr, len, prot});
}

static int gather(struct run *r)
{
	const struct elisa_check *c = r->check;
	uint64_t end = (uintptr_t)park_shared(r->park) + park_shared_len(r->park);
	size_t i;
	int rc = c->ctx ? elisa_ctx_exports(c->ctx, add_export, r) : 0;

	for (i = 0; i < c->count && !rc; i++)
		rc = add(r, &c->set[i]);
	if (!rc)
		rc = add_here(r, r->stack_low, end - r->stack_low, ELISA_R | ELISA_W);
	if (!rc)
		rc = add_here(r, (uintptr_t)elisa_tracee_page, ELISA_PAGE_SIZE, ELISA_X);
	return rc;
}

/* Exports of other memory than is at their address here. */
static int place_copies(struct run *r)
{
	int64_t rc = 0;
	size_t i;

	for (i = 0; i < r->count && rc >= 0; i++) {
		const struct elisa_exported *e = &r->set[i];

		if (e->memory == e->addr)
			continue;
		rc = tracee_call(&r->t, SYS_mmap, e->addr, e->len,
				 PROT_READ | PROT_WRITE | prot_of(e),
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (rc >= 0)
			rc = tracee_write(&r->t, e->addr, (void *)e->memory, e->len);
	}
	return rc < 0 ? rc : 0;
}

static int close_area(struct run *r, const struct area *a)
{
	uint64_t at, next;
	int rc = 0;

	for (at = a->start; at < a->end && !rc; at = next) {
		uint64_t start = at, end;
		int prot;

		next = a->end;
		prot = exported(r, at, &next) & a->prot;
		end = next;
		if (prot != a->prot)
			rc = tracee_protect(&r->t, &start, &end, prot, false);
	}
	/* Special mappings of the kernel, whose permissions are fixed: without them, then. */
	if (rc == -EACCES || rc == -EINVAL)
		rc = tracee_call(&r->t, SYS_munmap, a->start, a->end - a->start, 0, 0, 0, 0);
	return rc;
}

static int close_all(struct run *r)
{
	size_t i;
	int rc = tracee_areas(&r->t);

	for (i = 0; i < r->t.count && !rc; i++)
		rc = close_area(r, &r->t.areas[i]);
	return rc;
}

/* ---- stops ---- */

/* Tells of what could be a read or a write until now, as a read. */
static enum next settle_pending(struct run *r)
{
	uint64_t addr = r->pending.addr;

	r->pending.addr = 0;
	if (!addr)
		return GO_ON;
	return tell(r, ELISA_FOUND_READ, page_of(addr), addr, r->pending.ip, "reads ",
		    ", which is not exported");
}

static enum next write_fault(struct run *r, uint64_t addr, int prot)
{
	uint64_t next = UINT64_MAX, page = page_of(addr);
	bool readable = exported(r, addr, &next) & PROT_READ;

	r->pending.addr = 0;
	if (tell(r, readable ? ELISA_FOUND_READ_ONLY : ELISA_FOUND_WRITE, page, addr, r->regs.rip,
		 "writes ",
		 readable ? ", which is exported for reading only" : ", which is not exported"))
		return OVER;
	return allow(r, page, page + ELISA_PAGE_SIZE, prot | PROT_WRITE);
}

static enum next execute_fault(struct run *r, const struct area *a, uint64_t addr)
{
	uint64_t from = 0, next = UINT64_MAX;

	/* If it was called; else it is the caller of who jumped. */
	tracee_read(&r->t, r->regs.rsp, &from, sizeof(from));
	if (tell(r, ELISA_FOUND_EXECUTE, a->start, addr, from, "calls ",
		 exported(r, addr, &next) ? ", which is not exported as code"
					  : ", which is not exported"))
		return OVER;
	/* All of the object's code: what it calls in it is one matter. */
	return allow(r, a->start, a->end, a->prot);
}

static enum next stack_fault(struct run *r, uint64_t addr)
{
	char text[64];

	snprintf(text, sizeof(text), "needs more than %u bytes of stack", r->max_stack);
	if (tell(r, ELISA_FOUND_STACK, 0, 0, r->regs.rip, text, "") ||
	    addr < (uintptr_t)park_shared(r->park))
		return OVER;
	return allow(r, (uintptr_t)park_shared(r->park), r->stack_low, PROT_READ | PROT_WRITE);
}

static enum next access_fault(struct run *r, uint64_t addr)
{
	const struct area *a = tracee_area(&r->t, addr);
	uint64_t ip = r->regs.rip, page = page_of(addr);
	int prot = current(r, addr);
	/* An instruction can begin on the page before the one that is missing. */
	bool fetch = !(prot & PROT_EXEC) &&
		     (addr == ip || (addr == page && addr > ip && addr - ip < INSN_LEN));
	enum next next;

	if (addr >= (uintptr_t)r->park->map && addr < r->stack_low && !(prot & PROT_WRITE))
		return stack_fault(r, addr);
	if (r->pending.addr && r->pending.ip == ip && page == page_of(r->pending.addr) && a &&
	    a->prot & PROT_WRITE)
		return write_fault(r, addr, prot);
	next = settle_pending(r);
	if (next != GO_ON)
		return next;
	if (!a)
		return crash(r, "crashes by an access to ", addr);
	if (fetch)
		return a->prot & PROT_EXEC ? execute_fault(r, a, addr)
					   : crash(r, "crashes by a jump to ", addr);
	if (!(prot & PROT_READ) && a->prot & PROT_READ) {
		r->pending.addr = addr;
		r->pending.ip = ip;
		return allow(r, page, page + ELISA_PAGE_SIZE, prot | PROT_READ);
	}
	if (!(prot & PROT_WRITE) && a->prot & PROT_WRITE)
		return write_fault(r, addr, prot);
	return crash(r, "crashes by an access to ", addr);
}

/* Tells if the next instruction is forbidden. *size: its length, if so and if that is known. */
static enum next vet(struct run *r, bool *forbidden, size_t *size)
{
	uint8_t code[INSN_LEN];
	char text[64];
	const char *what;
	int len = tracee_read(&r->t, r->regs.rip, code, sizeof(code));

	*forbidden = false;
	if (len <= 0)
		return GO_ON; /* it will fault */
	what = insn_forbidden(code, len, size);
	/* That one has a stop of its own. */
	if (!what || !strcmp(what, "syscall"))
		return GO_ON;
	*forbidden = true;
	snprintf(text, sizeof(text), "has an instruction that is not for inside: %s", what);
	return tell(r, ELISA_FOUND_INSTRUCTION, r->regs.rip, 0, r->regs.rip, text, "");
}

static enum next bad_instruction(struct run *r, int sig)
{
	enum next next = settle_pending(r);
	bool forbidden;
	char text[32];
	size_t size;

	if (next == GO_ON)
		next = vet(r, &forbidden, &size);
	if (next != GO_ON)
		return next;
	if (!forbidden) {
		snprintf(text, sizeof(text), "crashes (SIG%s)", sigabbrev_np(sig));
		return crash(r, text, 0);
	}
	if (!size)
		return OVER;
	r->regs.rip += size;
	r->changed = true;
	return GO_ON;
}

static enum next system_call(struct run *r)
{
	uint64_t nr = r->regs.orig_rax, ip = r->regs.rip - 2;
	enum next next = settle_pending(r);
	char text[64];

	if (next != GO_ON)
		return next;
	snprintf(text, sizeof(text), "makes system call %llu%s", (unsigned long long)nr,
		 syscall_name(nr));
	/* PTRACE_SYSEMU: it is not made, and the result set here stays. */
	r->regs.rax = -ENOSYS;
	r->regs.orig_rax = -1;
	r->changed = true;
	return tell(r, ELISA_FOUND_SYSCALL, ip, nr, ip, text, "");
}

static enum next out_of_time(struct run *r)
{
	enum next next = settle_pending(r);
	char text[64];

	snprintf(text, sizeof(text), "is still running after %u ms", r->max_ms);
	if (next == GO_ON)
		tell(r, ELISA_FOUND_ENDLESS, 0, 0, r->regs.rip, text, "");
	return OVER;
}

/* ---- stepping ---- */

static bool begins_call(const struct run *r)
{
	size_t i;

	if (!r->check->call_count)
		return !r->steps;
	for (i = 0; i < r->check->call_count; i++)
		if ((uintptr_t)r->check->calls[i] == r->regs.rip)
			return true;
	return false;
}

/* The next instruction is one of a call that is counted. */
static enum next count_call(struct run *r)
{
	struct elisa_check_result *res = r->result;
	uint64_t used = r->call_sp + 8 - r->regs.rsp;
	char text[64];

	if (++r->call_steps > res->longest)
		res->longest = r->call_steps;
	/* Where the stack pointer is something else for a while, it will be back. */
	if (used <= PARK_STACK && used > res->stack)
		res->stack = used;
	snprintf(text, sizeof(text), "needs more than %u bytes of stack", r->max_stack);
	if (res->stack > r->max_stack && tell(r, ELISA_FOUND_STACK, 0, 0, r->regs.rip, text, ""))
		return OVER;
	if (r->call_steps <= r->max_call)
		return GO_ON;
	snprintf(text, sizeof(text), "runs in a call of more than %llu instructions",
		 (unsigned long long)r->max_call);
	tell(r, ELISA_FOUND_ENDLESS, 0, 0, r->regs.rip, text, "");
	return OVER;
}

/* ---- samples of calls ---- */

static bool samples(const struct run *r)
{
	return r->check->samples && r->check->call_count;
}

static int arm(struct run *r, bool on)
{
	static const uint8_t brk = BREAK;
	size_t i;
	int rc = 0;

	for (i = 0; i < r->check->call_count && rc >= 0; i++) {
		uint64_t addr = (uintptr_t)r->check->calls[i];

		rc = on ? tracee_read(&r->t, addr, &r->code[i], 1) : 0;
		if (rc >= 0)
			rc = tracee_write(&r->t, addr, on ? &brk : &r->code[i], 1);
	}
	r->armed = on;
	return rc < 0 ? rc : 0;
}

/* A breakpoint was met: its call is stepped through, from the instruction that it hid. */
static bool sample_begins(struct run *r)
{
	size_t i;

	for (i = 0; r->armed && i < r->check->call_count; i++)
		if (r->regs.rip - 1 == (uintptr_t)r->check->calls[i])
			break;
	if (!r->armed || i == r->check->call_count || arm(r, false))
		return false;
	r->regs.rip--;
	r->changed = true;
	r->step = true;
	return true;
}

/* A call was stepped through. The next sample is the next call, or one after a while. */
static enum next sample_ends(struct run *r)
{
	r->step = false;
	if (++r->sampled < FIRST && r->sampled < r->check->samples && arm(r, true))
		return OVER;
	return GO_ON;
}

/* How long to run until the next sample is due; 0: until something happens. */
static uint32_t free_run(const struct run *r)
{
	if (r->step || r->armed || !samples(r) || !r->stepping || r->sampled >= r->check->samples)
		return 0;
	return r->slice_us;
}

/*
 * A system call is not even begun: where the trap of a single step comes then, in the kernel or
 * after it, depends on the CPU.
 */
static bool skip_syscall(struct run *r)
{
	static const uint8_t insn[] = {0x0f, 0x05};
	uint8_t code[sizeof(insn)];

	if (tracee_read(&r->t, r->regs.rip, code, sizeof(code)) != sizeof(code) ||
	    memcmp(code, insn, sizeof(code)))
		return false;
	r->regs.orig_rax = r->regs.rax;
	r->regs.rip += sizeof(insn);
	r->regs.rcx = r->regs.rip;
	r->regs.r11 = r->regs.eflags;
	return true;
}

/* Before each instruction. */
static enum next before_step(struct run *r)
{
	uint64_t *vetted = &r->vetted[(r->regs.rip ^ r->regs.rip >> 16) % VETTED];
	enum next next = GO_ON;
	bool forbidden;
	size_t size;

	if (r->call_sp && r->regs.rsp > r->call_sp) {
		r->call_sp = 0;
		if (samples(r))
			return sample_ends(r);
	}
	if (!r->call_sp && begins_call(r)) {
		r->call_sp = r->regs.rsp;
		r->call_steps = 0;
	}
	r->steps++;
	r->result->instructions = r->steps;
	if (r->call_sp)
		next = count_call(r);
	if (next == GO_ON && r->steps > r->max_steps)
		next = OVER;
	if (next == GO_ON && *vetted != r->regs.rip && skip_syscall(r)) {
		next = system_call(r);
		return next == GO_ON ? before_step(r) : next;
	}
	if (next == GO_ON && *vetted != r->regs.rip) {
		next = vet(r, &forbidden, &size);
		*vetted = r->regs.rip;
	}
	return next;
}

/* ---- running ---- */

static enum next stopped(struct run *r, int sig)
{
	siginfo_t info;

	if (sig == SIGTRAP && sample_begins(r))
		return settle_pending(r);
	/* Stepping comes before the instruction at the return address, a breakpoint after it. */
	if (sig == SIGTRAP && r->regs.rip == (uintptr_t)elisa_tracee_return + !r->step)
		return settle_pending(r) == GO_ON ? RETURNED : OVER;
	switch (sig) {
	case SIGTRAP | TRACEE_SYSCALL:
		return system_call(r);
	case SIGTRAP:
		return r->step ? settle_pending(r) : crash(r, "crashes (SIGTRAP)", 0);
	case SIGSEGV:
		if (ptrace(PTRACE_GETSIGINFO, r->t.pid, NULL, &info))
			return OVER;
		if (info.si_code == SI_KERNEL) /* not of a page */
			return bad_instruction(r, sig);
		return access_fault(r, (uintptr_t)info.si_addr);
	case SIGPROF:
		return out_of_time(r);
	case SIGILL:
	case SIGBUS:
	case SIGFPE:
		return bad_instruction(r, sig);
	case SIGSTOP: /* a sample is due, or it is from elsewhere */
		return !free_run(r) || !arm(r, true) ? GO_ON : OVER;
	default:
		return GO_ON;
	}
}

/* 0: as enum next says. */
static int loop(struct run *r, enum next *next)
{
	int rc;

	*next = GO_ON;
	while (*next == GO_ON) {
		if (r->step) {
			*next = before_step(r);
			if (*next != GO_ON)
				break;
		}
		rc = tracee_run(&r->t, r->step ? PTRACE_SYSEMU_SINGLESTEP : PTRACE_SYSEMU,
				r->changed ? &r->regs : NULL, free_run(r));
		r->changed = false;
		if (rc < 0)
			return rc;
		if (tracee_regs(&r->t, &r->regs))
			return -ESRCH;
		*next = stopped(r, rc);
	}
	return 0;
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ULL + t.tv_nsec / 1000;
}

/* For stepping through samples: they are spread over the time that the first run took. */
static int first_sample(struct run *r)
{
	r->step = r->stepping && !samples(r);
	r->sampled = 0;
	r->armed = false;
	return r->stepping && samples(r) ? arm(r, true) : 0;
}

/* SIGPROF after so much CPU time. The time lies at the far end of the stack. */
static int set_timer(struct run *r)
{
	struct itimerval time = {.it_value = {r->max_ms / 1000, r->max_ms % 1000 * 1000}};
	uint64_t at = r->stack_low;
	int rc = tracee_write(&r->t, at, &time, sizeof(time));

	return rc ? rc : tracee_call(&r->t, SYS_setitimer, ITIMER_PROF, at, 0, 0, 0, 0);
}

static int begin(struct run *r)
{
	const uint64_t *args = r->check->args;
	uint64_t back = (uintptr_t)elisa_tracee_return;
	int rc = tracee_regs(&r->t, &r->regs);

	r->regs.rip = (uintptr_t)r->check->fn;
	r->regs.orig_rax = -1;
	r->regs.rsp = r->park->stack - 8;
	r->regs.rbp = 0;
	r->regs.eflags = 0x202; /* IF, as the entry stub sets it */
	r->regs.fs_base = r->park->fs_base;
	r->regs.rdi = args[0];
	r->regs.rsi = args[1];
	r->regs.rdx = args[2];
	r->regs.rcx = args[3];
	r->regs.r8 = args[4];
	r->regs.r9 = args[5];
	r->changed = true;
	return rc ? rc : tracee_write(&r->t, r->regs.rsp, &back, sizeof(back));
}

static int run_once(struct run *r, bool stepping)
{
	enum next next = OVER;
	uint64_t since;
	int rc;

	r->stepping = stepping;
	r->opened_count = 0;
	r->pending.addr = 0;
	r->steps = r->call_sp = 0;
	rc = tracee_fork(&r->t);
	if (rc)
		return rc;
	rc = place_copies(r);
	if (!rc)
		rc = close_all(r);
	if (!rc && !stepping)
		rc = set_timer(r);
	if (!rc)
		rc = begin(r);
	if (!rc)
		rc = first_sample(r);
	since = now_us();
	if (!rc)
		rc = loop(r, &next);
	/* That long runs what was not sampled, too. */
	r->slice_us = (now_us() - since) / (r->check->samples + 1) + 1;
	if (!rc && next == RETURNED)
		r->result->value = (int64_t)r->regs.rax;
	else
		r->result->complete = false;
	tracee_end(&r->t);
	return rc;
}

static int set_limits(struct run *r)
{
	const struct elisa_check *c = r->check;

	r->max_stack = c->max_stack ? c->max_stack : MAX_STACK;
	r->max_ms = c->max_ms ? c->max_ms : MAX_MS;
	r->max_call = c->max_call ? c->max_call : MAX_CALL;
	r->max_steps = c->max_steps ? c->max_steps : MAX_STEPS;
	if (!c->fn || c->call_count > MAX_CALLS || r->max_stack > PARK_STACK - ELISA_PAGE_SIZE)
		return -EINVAL;
	return 0;
}

ELISA_PUBLIC int elisa_check(const struct elisa_check *check, struct elisa_check_result *result)
{
	static const struct threads plain;
	struct run *r = calloc(1, sizeof(*r));
	int rc;

	*result = (struct elisa_check_result){.complete = true};
	if (!r)
		return -ENOMEM;
	r->check = check;
	r->result = result;
	rc = set_limits(r);
	if (rc)
		goto free;
	rc = -ENOMEM;
	r->vetted = calloc(VETTED, sizeof(*r->vetted));
	if (!r->vetted)
		goto free;
	rc = park_start(check->ctx ? &check->ctx->threads : &plain, &r->park);
	if (rc)
		goto free;
	r->stack_low = page_of(r->park->stack - r->max_stack);
	rc = gather(r);
	if (!rc)
		rc = run_once(r, false);
	if (!rc && check->flags & ELISA_CHECK_STEP)
		rc = run_once(r, true);
	park_end(r->park);
free:
	free(r->vetted);
	free(r->set);
	free(r);
	return rc ? rc : (int)result->findings;
}
