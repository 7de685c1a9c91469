/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attacks by a vCPU's state, judged from outside: one VM, one service, and after each attack a look
 * at what came of it, at the trusted memory, and at whether calls work again.
 */
#ifndef TESTS_VMX_STATE_H
#define TESTS_VMX_STATE_H

#include "harness.h"
#include "state-programs.h"

/* What an attack may come to. */
#define MAY_CALL	(1u << 0)	/* a regular call: entered once, its result came back */
#define MAY_UD		(1u << 1)	/* VMFUNC raises #UD */
#define MAY_FAULT	(1u << 2)	/* another exception, in the guest's own handler */
#define MAY_DIE_GATE	(1u << 3)	/* killed by an exit in the gate, service not entered */
#define MAY_DIE_INSIDE	(1u << 4)	/* killed by an exit in the trusted context */
#define MAY_BE_TOUCHED	(1u << 5)	/* killed: registers changed while it was inside */
#define MAY_MISS	(1u << 6)	/* neither entered nor killed */
#define MAY_DIE		(MAY_DIE_GATE | MAY_DIE_INSIDE)

struct attack {
	const char *program, *program_end;
	unsigned int ring;
	uint64_t rip;			/* 0: where the program lies */
	/* After the guest's gate pages were made as they should be, and as soon as it has run. */
	void (*prepare)(void), (*restore)(void);
	struct kvm_regs regs;	/* 0 in rbx, rbp, r9, r10, r11: gate, plain flags, ring 3 */
};

/* Counts of what came, of many tries that make up a row. */
struct tally {
	const char *row;
	uint32_t may;
	unsigned int tries, bad, resets;
	unsigned int call, ud, fault, gate, inside, touched, miss;
};

extern struct host host;
extern struct tinyvm *vm;
extern struct elisa_vm *attached;

/* The row that alone is to be run; NULL: all. */
extern const char *state_only;
/* Is this row to be run? */
bool state_wanted(const char *row);

/* Opens log and service, makes the VM and attaches it; says what failed. Without a defence no call
 * may work: the rows show that. */
bool state_open(const struct tvm_config *config);
/* Detaches, ends the VM, looks at everything once more. The program's own checks passed and failed
 * so often; returns the exit status of all. */
int state_close(unsigned int passed, unsigned int failed);
/* What trusted memory is from now on: after the test itself wrote to it. */
void state_set_memory(void);
/* Attached, and a call works; attaches anew if the VM was killed. */
bool state_alive(void);
struct elisa_vm_status state_status(void);

#define PROGRAM_OF(name)	.program = name, .program_end = name##_end
/* An attack with this program that ends in SVC_ECHO by the gate, from ring 3. */
#define CALLS_BY(name)	{ PROGRAM_OF(name), .regs = { .rsi = SVC_ECHO } }

/* Runs it. What came of it is counted; what must not come is told. */
void state_try(struct tally *t, const struct attack *a, const char *what);
/* The second half: judges a stop that came by other ways. `calls`: arena's, before. */
void state_judge(struct tally *t, const struct tvm_stop *stop, uint64_t calls, const char *what);
/* Prints the row's verdict, if it is one that is wanted. */
void state_done(const struct tally *t);
/* A row of one try, if it is wanted. */
void state_row(const char *row, uint32_t may, const struct attack *a);

#endif
