/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libelisa-host: what does a function touch that is not there inside?
 *
 * Runs a function as a vCPU inside would, on a parked thread's stack and thread-local variables, in
 * a copy of this process in which nothing but the exported ranges can be accessed, and reports what
 * it does that would kill a VM. Needs neither the module nor VT-x. So a service that calls into
 * libraries learns what it has to export, and what it cannot use, before a guest finds out.
 *
 * The copy is a fork: shared mappings, such as a device's registers and memory for its DMA, are the
 * real ones, and what the function does to them is done; all else is private to the copy, and gone
 * with it. It runs no exit handlers, has none of this process's descriptors, and ends with this
 * process if need be. A range that is missing is opened after it was reported, so one run names all.
 *
 * What is not seen: reads of execute-only code, unless the CPU has protection keys; memory types;
 * and what the function did not happen to do.
 */
#ifndef ELISA_CHECK_H
#define ELISA_CHECK_H

#include <stdbool.h>
#include <elisa/host.h>

#ifdef __cplusplus
extern "C" {
#endif

enum elisa_found {
	ELISA_FOUND_READ,	 /* of memory that is not exported */
	ELISA_FOUND_WRITE,	 /* to memory that is not exported */
	ELISA_FOUND_READ_ONLY,	 /* a write to what is exported for reading */
	ELISA_FOUND_EXECUTE,	 /* of code that is not exported */
	ELISA_FOUND_SYSCALL,	 /* was not made; the function was told ENOSYS */
	ELISA_FOUND_INSTRUCTION, /* leaves the VM, faults, or may fault inside */
	ELISA_FOUND_STACK,	 /* more than max_stack */
	ELISA_FOUND_ENDLESS,	 /* more than max_call instructions, or than max_ms */
	ELISA_FOUND_CRASH,	 /* would have crashed here, too */
};
/* Short name of it ("read", "system-call"...), for JSON and tests; never NULL. */
const char *elisa_found_name(enum elisa_found kind);

struct elisa_finding {
	enum elisa_found kind;
	uint64_t addr;	  /* what was accessed; SYSCALL: its number; else 0 */
	uint64_t ip;	  /* of the instruction; EXECUTE: where the call returns to */
	const char *text; /* one sentence that names both; valid until the callback returns */
};

/*
 * Run it a second time, stepping through it: all limits, all instructions. Some 100,000 instructions
 * a second on a good day.
 */
#define ELISA_CHECK_STEP (1 << 0)

struct elisa_check {
	void (*fn)(void);	/* of any type; called with args as integers or pointers */
	uint64_t args[6];
	struct elisa_ctx *ctx;	/* what it exports, and its kind of parked threads; or NULL */
	const struct elisa_exported *set; /* exported as well */
	size_t count;
	/* Functions that fn calls: limits hold for each call of one. None: for fn's as a whole. */
	const void *const *calls;
	size_t call_count;	/* at most 8 */
	/*
	 * Of calls, when stepping: step only through so many, the first ones and then some from all
	 * over the run. 0: through everything.
	 */
	uint32_t samples;
	uint32_t flags;
	uint32_t max_stack;	/* bytes; 0: 32 KiB. Known to the page unless stepping */
	uint32_t max_ms;	/* CPU time of fn, not stepped; 0: 5,000 */
	uint64_t max_call;	/* instructions of one call; 0: 20,000 */
	uint64_t max_steps;	/* instructions in all, after which stepping ends; 0: 10 million */
	void (*found)(const struct elisa_finding *f, void *arg);	/* or NULL */
	void *arg;		/* of found() */
};

struct elisa_check_result {
	uint32_t findings;	/* each told once, in order */
	bool complete;		/* it returned, in each way that it was run */
	int64_t value;		/* that it returned the last time that it did; else 0 */
	/* When stepped; each iteration of a repeated string instruction counts as one: */
	uint64_t instructions;	/* that were stepped through */
	uint64_t longest;	/* of the longest call */
	uint32_t stack;		/* bytes of the deepest call, with its return address */
};

/*
 * Returns the number of findings, 256 at most. With flags, runs the function twice. May be called
 * from any thread, and takes as long as that; other threads of this process must not wait for any
 * child (waitpid(-1)) meanwhile. EINVAL: no fn, too many calls, or a max_stack of more than 60 KiB;
 * EPERM: this process may not trace another; ENOMEM, EAGAIN: no memory, or no more processes; and
 * what begin() of elisa_ctx_thread() returns.
 */
int elisa_check(const struct elisa_check *check, struct elisa_check_result *result);

#ifdef __cplusplus
}
#endif
#endif
