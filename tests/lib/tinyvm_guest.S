/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's side of tinyvm: exception and interrupt handlers, ring 0. Copied into guest RAM, so
 * position independent. A vCPU's stack is one page whose first words are its counters.
 */
#include "tinyvm_guest.h"

	.section .rodata
	.balign 16
	.globl tvm_guest_start, tvm_guest_end
tvm_guest_start:
	/* A stub of TVM_STUB_SIZE bytes per exception; these push an error code themselves. */
	.set vector, 0
	.rept 32
	.balign TVM_STUB_SIZE
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || \
	      vector == 29 || vector == 30)
	pushq	$0
	.endif
	pushq	$vector
	.if vector == 2
	jmp	count_nmi
	.else
	jmp	report
	.endif
	.set vector, vector + 1
	.endr

	.balign TVM_STUB_SIZE
	/* TVM_IRQ_STUB: every vector from 32 on. */
	push	%rax
	push	%rcx
	push	%rdx
	mov	%rsp, %rax
	and	$-4096, %rax
	incq	TVM_COUNT_IRQ(%rax)
	mov	$0x80b, %ecx		/* x2APIC EOI */
	xor	%eax, %eax
	xor	%edx, %edx
	wrmsr
	pop	%rdx
	pop	%rcx
	pop	%rax
	iretq

count_nmi:
	push	%rax
	mov	%rsp, %rax
	and	$-4096, %rax
	incq	TVM_COUNT_NMI(%rax)
	pop	%rax
	add	$16, %rsp
	iretq

	/* The monitor reads the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS. */
report:
	out	%al, $TVM_PORT_EXCEPTION
	jmp	report
tvm_guest_end:
	.section .note.GNU-stack, "", @progbits
