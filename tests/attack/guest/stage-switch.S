/* SPDX-License-Identifier: GPL-2.0-only */
/* The way onto the stage, and the way back from any vector. Interrupts are off. */
#include <linux/linkage.h>
#include <asm/msr-index.h>
#include "stage.h"

#define EFLAGS_CLEAN	0x2
#define X2APIC_EOI	0x80b
#define XAPIC_EOI	0xb0

	.text
/* void stage_switch(struct stage_cpu *cpu) */
SYM_FUNC_START(stage_switch)
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rdi, stage_now(%rip)
	mov	%rsp, stage_rsp(%rip)
	push	CPU_SS(%rdi)
	push	32(%rdi)			/* rsp */
	push	CPU_RFLAGS(%rdi)
	push	CPU_CS(%rdi)
	push	CPU_RIP(%rdi)
	/* A value that the CPU refuses ends the act right here, by #GP. */
	mov	CPU_CR3(%rdi), %rax
	mov	%rax, %cr3
	mov	CPU_CR4(%rdi), %rax
	cmp	stage_home_cr4(%rip), %rax
	je	1f
	mov	%rax, %cr4
1:	mov	CPU_EFER(%rdi), %rax
	cmp	stage_home_efer(%rip), %rax
	je	2f
	mov	CPU_EFER + 4(%rdi), %edx
	mov	$MSR_EFER, %ecx
	wrmsr
2:	mov	CPU_CR0(%rdi), %rax
	cmp	stage_home_cr0(%rip), %rax
	je	3f
	mov	%rax, %cr0
3:	mov	0(%rdi), %rax
	mov	8(%rdi), %rcx
	mov	16(%rdi), %rdx
	mov	24(%rdi), %rbx
	mov	40(%rdi), %rbp
	mov	48(%rdi), %rsi
	mov	64(%rdi), %r8
	mov	72(%rdi), %r9
	mov	80(%rdi), %r10
	mov	88(%rdi), %r11
	mov	96(%rdi), %r12
	mov	104(%rdi), %r13
	mov	112(%rdi), %r14
	mov	120(%rdi), %r15
	mov	56(%rdi), %rdi
	iretq
SYM_FUNC_END(stage_switch)

/* 256 entries of 16 bytes: vector and error code (0 if the CPU pushes none) above the frame. */
	.balign 16
SYM_CODE_START(stage_stubs)
	vector = 0
	.rept 256
	.balign 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	push	$0
	.endif
	push	$vector
	jmp	.Lcame
	vector = vector + 1
	.endr
	.balign 16
SYM_CODE_END(stage_stubs)
SYM_DATA_START(stage_stubs_end)
	.byte 0
SYM_DATA_END(stage_stubs_end)

.macro write_msr msr, from
	mov	$\msr, %ecx
	mov	\from(%rip), %eax
	mov	\from + 4(%rip), %edx
	wrmsr
.endm

SYM_CODE_START_LOCAL(stage_came)
.Lcame:
	/* At %rsp: vector, error code, rip, cs, rflags, rsp, ss */
	cmpq	$STAGE_IRQ, (%rsp)
	jb	.Lend
	cmpq	$STAGE_DONE, (%rsp)
	je	.Lend
	cmpb	$0, stage_take_irqs(%rip)
	je	.Lend
	push	%rax
	push	%rcx
	push	%rdx
	mov	24(%rsp), %rax
	bts	%rax, stage_irq_seen(%rip)
	incq	stage_irqs(%rip)
	mov	stage_apic(%rip), %rax
	test	%rax, %rax
	jz	1f
	movl	$0, XAPIC_EOI(%rax)
	jmp	2f
1:	mov	$X2APIC_EOI, %ecx
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
2:	cmpl	$0, stage_timer(%rip)
	je	3f
	rdtsc
	add	stage_timer(%rip), %eax
	adc	$0, %edx
	mov	$MSR_IA32_TSC_DEADLINE, %ecx
	wrmsr
3:	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

.Lend:	push	%rdi
	mov	stage_now(%rip), %rdi
	mov	%rax, 0(%rdi)
	mov	%rcx, 8(%rdi)
	mov	%rdx, 16(%rdi)
	mov	%rbx, 24(%rdi)
	mov	%rbp, 40(%rdi)
	mov	%rsi, 48(%rdi)
	mov	%r8, 64(%rdi)
	mov	%r9, 72(%rdi)
	mov	%r10, 80(%rdi)
	mov	%r11, 88(%rdi)
	mov	%r12, 96(%rdi)
	mov	%r13, 104(%rdi)
	mov	%r14, 112(%rdi)
	mov	%r15, 120(%rdi)
	pop	56(%rdi)
	pop	CPU_VECTOR(%rdi)
	pop	CPU_ERROR(%rdi)
	pop	CPU_RIP(%rdi)
	pop	CPU_CS(%rdi)
	pop	CPU_RFLAGS(%rdi)
	pop	32(%rdi)
	pop	CPU_SS(%rdi)
	mov	%cr2, %rax
	mov	%rax, CPU_CR2(%rdi)
	mov	stage_home_cr0(%rip), %rax
	mov	%rax, %cr0
	mov	stage_home_cr4(%rip), %rax
	mov	%rax, %cr4
	mov	$MSR_EFER, %ecx
	rdmsr
	cmp	stage_home_efer(%rip), %eax
	je	1f
	write_msr MSR_EFER, stage_home_efer
1:	mov	stage_home_cr3(%rip), %rax
	mov	%rax, %cr3
	/* Global pages of the stage's user half must not outlive it: toggle CR4.PGE. */
	mov	stage_home_cr4(%rip), %rax
	mov	%rax, %rcx
	xor	$0x80, %rcx
	mov	%rcx, %cr4
	mov	%rax, %cr4
	mov	stage_rsp(%rip), %rsp
	push	$EFLAGS_CLEAN
	popfq
	write_msr MSR_FS_BASE, stage_home_fs
	write_msr MSR_GS_BASE, stage_home_gs
	write_msr MSR_KERNEL_GS_BASE, stage_home_kernel_gs
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	RET
SYM_CODE_END(stage_came)


SYM_FUNC_START(stage_vectors_load)
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu	\n * 32(%rdi), %ymm\n
	.endr
	RET
SYM_FUNC_END(stage_vectors_load)

SYM_FUNC_START(stage_vectors_store)
	.irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovdqu	%ymm\n, \n * 32(%rdi)
	.endr
	RET
SYM_FUNC_END(stage_vectors_store)

	.bss
	.balign 8
#define WORDS(name, count)	.globl name; name: .skip 8 * (count)
WORDS(stage_now, 1)
WORDS(stage_rsp, 1)
WORDS(stage_irqs, 1)
WORDS(stage_irq_seen, 4)
WORDS(stage_apic, 1)
WORDS(stage_home_cr0, 1)
WORDS(stage_home_cr3, 1)
WORDS(stage_home_cr4, 1)
WORDS(stage_home_efer, 1)
WORDS(stage_home_fs, 1)
WORDS(stage_home_gs, 1)
WORDS(stage_home_kernel_gs, 1)
WORDS(stage_take_irqs, 1)
WORDS(stage_timer, 1)

	.section .note.GNU-stack, "", @progbits
