/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest programs of the tests (programs.S) and the numbers they share with the C side. */
#ifndef TESTS_VMX_PROGRAMS_H
#define TESTS_VMX_PROGRAMS_H

/* OUT ports of the programs. */
#define PORT_DONE	0x10	/* %eax: result */
#define PORT_STEP	0x11	/* go on afterwards */

/* What the `serve` program shares with the test: 8-byte words at TVM_GPA_DATA. */
#define WORD_CALLS	0x00	/* calls that returned >= 0 */
#define WORD_AWAY	0x08	/* ... -ESHUTDOWN */
#define WORD_ERRORS	0x10	/* ... another error */
#define WORD_LAST	0x18	/* the last result */
#define WORD_STOP	0x20	/* not 0: stop */
#define WORD_OP		0x28	/* operation and arguments to use from now on */
#define WORD_A1		0x30
#define WORD_A2		0x38
#define WORD_A3		0x40
#define WORDS_SIZE	0x80	/* a vCPU's words; the next one's follow */

/* KVM's cheapest hypercall: linux/kvm_para.h, KVM_HC_VAPIC_POLL_IRQ. */
#define HYPERCALL	1

#ifndef __ASSEMBLER__
#define PROGRAM(name)	extern const char name[], name##_end[]

PROGRAM(prog_out);	/* OUT %eax, then OUT %eax + 1 */
PROGRAM(prog_vectors);	/* wipes %ymm3, OUT */
PROGRAM(prog_count);	/* counts %rcx down, OUT, some nops, OUT */
PROGRAM(prog_call);	/* calls *%rbx, OUT */
PROGRAM(prog_after);	/* calls *%rbx, then VMFUNC with index %r12, OUT */
PROGRAM(prog_vmfunc);	/* VMFUNC, OUT */
PROGRAM(prog_loop);	/* %r12 times: calls *%rbx with %rsi = %r13, %rdx = %r14; %r15 = ticks,
			 * %rdi = the last result; OUT */
PROGRAM(prog_ret);	/* what prog_loop calls to measure itself */
PROGRAM(prog_hypercall);	/* %r12 times VMCALL; %r15 = ticks; OUT */
PROGRAM(prog_serve);	/* calls *%rbx until WORD_STOP; the words are at %r12 */
/* Ring 3: calls *%rbx, reads at *%rbp, INT 0x80, jumps to *%r12. */
PROGRAM(prog_cr3);
PROGRAM(prog_set_cr3);	/* handler of INT 0x80, ring 0: CR3 = %r13 */

/* The guest's faces of the gate page: the ten bytes at ELISA_CALL_VA, and what is at
 * ELISA_RETURN_VA. */
PROGRAM(page_entry);
PROGRAM(page_raw);
PROGRAM(page_return);
#else
.macro program name
	.balign 16
	.globl	\name, \name\()_end
\name:
.endm
.macro endprogram name
\name\()_end:
.endm
#endif

#endif
