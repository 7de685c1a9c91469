/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest programs of the attacks on vCPU state (state-programs.S): each changes something of its
 * own vCPU in ring 0 and then calls the service from ring 3, or tries to. Copied to TVM_GPA_CODE,
 * run at their physical address.
 *
 * Those that end in a call: %rbx: where to, %rbp: RFLAGS, %r10: RSP, %r11: CS, %r9: SS. What the
 * service gets is in %rsi, %rdx, %r8. The others say by which port they ended.
 */
#ifndef TESTS_VMX_STATE_PROGRAMS_H
#define TESTS_VMX_STATE_PROGRAMS_H

#define PORT_UD		0x30	/* #UD in a mode that is not 64-bit */
#define PORT_FAULT	0x31	/* another exception there */
#define PORT_LIVED	0x32	/* VMFUNC did something there, and execution went on */
#define PORT_SENT	0x33	/* an interrupt command was written; on it goes */

/* Offsets from TVM_GPA_CODE. */
#define STATE_LOW	0x8000	/* a page for 32- and 16-bit user code, user-accessible */
#define STATE_TABLES	0x9000	/* for 32-bit modes: IDT, page tables; 5 pages */

/* Selectors of tinyvm, and its free place in the GDT. */
#define STATE_CS0	0x08
#define STATE_SS0	0x10
#define STATE_SS3	0x1b
#define STATE_CS3	0x23
#define STATE_FREE	0x28	/* code of another mode or privilege */
#define STATE_FREE2	0x40	/* TSS of a second vCPU, which attacks with one do not have */

/* What state_legacy goes on to. */
#define LEGACY_UNPAGED	1
#define LEGACY_PAE	2	/* 32-bit PAE paging */
#define LEGACY_32	3	/* 32-bit paging */
#define LEGACY_REAL	4	/* real mode */

#ifndef __ASSEMBLER__
#define STATE_PROGRAM(name)	extern const char name[], name##_end[]

STATE_PROGRAM(state_flags);	/* nothing, calls */
STATE_PROGRAM(state_cr0);	/* CR0 ^= %r12, calls */
STATE_PROGRAM(state_cr4);	/* CR4 ^= %r12, calls */
STATE_PROGRAM(state_msr);	/* MSR %r13 ^= %r12, calls */
STATE_PROGRAM(state_wrmsr);	/* MSR %r13 = %r12, calls */
STATE_PROGRAM(state_xcr0);	/* XCR0 = %r12, calls */
STATE_PROGRAM(state_dr);	/* DR0 to DR3 = %r12 to %r15, DR7 = %rdi, calls */
/* GDTR, IDTR = what is at %r12, %r13, TR = %r14, LDTR = %r15, CR4 ^= %rdi, calls. */
STATE_PROGRAM(state_tables);

STATE_PROGRAM(state_vmfunc);	/* any ring, any mode: VMFUNC to index %dl; PORT_LIVED */
/*
 * From 64-bit ring 0 down to protected mode without paging; %ebx then says what next, VMFUNC of the
 * gate's index, PORT_LIVED.
 */
STATE_PROGRAM(state_legacy);

STATE_PROGRAM(state_icr);	/* ring 0: waits %r13 rounds, x2APIC ICR = %r12, PORT_SENT, again */
#endif

#endif
