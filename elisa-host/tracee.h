/* SPDX-License-Identifier: BSD-3-Clause */
/* A copy of this process that runs only what it is told: what elisa_check() is made of. */
#ifndef ELISA_HOST_TRACEE_H
#define ELISA_HOST_TRACEE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* ---- tracee.c ---- */

/* A mapping of the copy, as it was when it was made. */
struct area {
	uint64_t start, end;
	int prot; /* PROT_* */
	char name[64];
};

struct tracee {
	pid_t pid;
	bool gone;
	int mem; /* /proc/PID/mem */
	struct area *areas;
	size_t count;
};

/*
 * A fork, stopped, with all signals blocked but SIGPROF, no descriptors, no I/O ports, and no
 * restartable sequences. All functions only from the thread that made it.
 */
int tracee_fork(struct tracee *t);
void tracee_end(struct tracee *t);
/* Reads the list of mappings. */
int tracee_areas(struct tracee *t);
const struct area *tracee_area(const struct tracee *t, uint64_t addr);
/* Has it make a system call; its registers stay as they are. */
int64_t tracee_call(struct tracee *t, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		    uint64_t e, uint64_t f);
int tracee_read(const struct tracee *t, uint64_t addr, void *buf, size_t len);
int tracee_write(const struct tracee *t, uint64_t addr, const void *buf, size_t len);
/*
 * Changes permissions. Huge pages are kept whole: of [start, end) those that lie in it, or the one
 * around it if `widen`, and the bounds are set to what was changed.
 */
int tracee_protect(struct tracee *t, uint64_t *start, uint64_t *end, int prot, bool widen);
/*
 * Lets it run until its next stop, and, unless `us` is 0, stops it after that time with SIGSTOP,
 * which may come later, after another stop. `request` is PTRACE_..., `regs` are its registers,
 * unless NULL. Returns the signal, with TRACEE_SYSCALL for a system call under PTRACE_SYSEMU;
 * -ESRCH: it is gone.
 */
#define TRACEE_SYSCALL 0x80
int tracee_run(struct tracee *t, int request, const struct user_regs_struct *regs, uint32_t us);
int tracee_regs(const struct tracee *t, struct user_regs_struct *regs);

/* tracee-page.S: a page of code, and in it a system call, and where checked functions return to. */
extern const uint8_t elisa_tracee_page[], elisa_tracee_call[], elisa_tracee_return[];

/* ---- insn.c ---- */

/*
 * What is wrong with an instruction inside, such as "cpuid", or NULL. `len` bytes of code are
 * there, 15 are enough. *size: its length, 0 if that is not known.
 */
const char *insn_forbidden(const uint8_t *code, size_t len, size_t *size);

#endif
