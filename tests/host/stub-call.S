/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * void stub_call(const struct stub_regs *in, struct stub_regs *out): jumps to the entry stub with
 * the registers of `in`, as a guest would arrive there, and takes those that it leaves with. The
 * layout is struct stub_regs in test-stub.c.
 */
#include <elisa/layout.h>

#define RFLAGS	128
#define FS	136
#define MXCSR	144
#define YMM	160

	.text
	.globl stub_call
	.type stub_call, @function
stub_call:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	rdfsbase %rax
	mov %rax, own_fs(%rip)
	mov %rsi, out_regs(%rip)
	mov FS(%rdi), %rax
	wrfsbase %rax
	mov %rsp, own_rsp(%rip)
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu YMM + 32 * \n(%rdi), %ymm\n
	.endr
	pushq RFLAGS(%rdi)
	popfq
	mov 0(%rdi), %rax
	mov 8(%rdi), %rbx
	mov 16(%rdi), %rcx
	mov 24(%rdi), %rdx
	mov 32(%rdi), %rsi
	mov 48(%rdi), %rbp
	mov 56(%rdi), %rsp
	mov 64(%rdi), %r8
	mov 72(%rdi), %r9
	mov 80(%rdi), %r10
	mov 88(%rdi), %r11
	mov 96(%rdi), %r12
	mov 104(%rdi), %r13
	mov 112(%rdi), %r14
	mov 120(%rdi), %r15
	mov 40(%rdi), %rdi
	jmp *entry_va(%rip)

/* The page at ELISA_RETURN_VA jumps here with all registers as they came. */
	.globl stub_return
stub_return:
	mov %rax, saved_rax(%rip)
	mov %rsp, saved_rsp(%rip)
	mov out_regs(%rip), %rax
	mov own_rsp(%rip), %rsp
	pushfq
	popq RFLAGS(%rax)
	mov %rbx, 8(%rax)
	mov %rcx, 16(%rax)
	mov %rdx, 24(%rax)
	mov %rsi, 32(%rax)
	mov %rdi, 40(%rax)
	mov %rbp, 48(%rax)
	mov %r8, 64(%rax)
	mov %r9, 72(%rax)
	mov %r10, 80(%rax)
	mov %r11, 88(%rax)
	mov %r12, 96(%rax)
	mov %r13, 104(%rax)
	mov %r14, 112(%rax)
	mov %r15, 120(%rax)
	mov saved_rax(%rip), %rcx
	mov %rcx, 0(%rax)
	mov saved_rsp(%rip), %rcx
	mov %rcx, 56(%rax)
	rdfsbase %rcx
	mov %rcx, FS(%rax)
	stmxcsr MXCSR(%rax)
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu %ymm\n, YMM + 32 * \n(%rax)
	.endr
	vzeroupper
	mov own_fs(%rip), %rcx
	wrfsbase %rcx
	cld
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.size stub_call, . - stub_call

	.section .rodata
	.balign 8				/* RFLAGS.AC may be set when it is read */
entry_va:
	.quad ELISA_GATE_VA + ELISA_ENTRY_OFFSET

	.bss
	.balign 8
own_rsp:	.quad 0
own_fs:		.quad 0
out_regs:	.quad 0
saved_rax:	.quad 0
saved_rsp:	.quad 0
	.section .note.GNU-stack, "", @progbits
