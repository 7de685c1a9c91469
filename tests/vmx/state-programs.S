/* SPDX-License-Identifier: BSD-3-Clause */
/* What each does: state-programs.h. */
#include <elisa/layout.h>
#include "../lib/tinyvm_guest.h"
#include "programs.h"
#include "state-programs.h"

#define CODE		0x80000		/* TVM_GPA_CODE */
#define IDT32		(CODE + STATE_TABLES)
#define PAE_ROOT	(CODE + STATE_TABLES + 0x1000)
#define ROOT32		(CODE + STATE_TABLES + 0x2000)
#define MSR_EFER	0xc0000080
#define MSR_ICR		0x830

	.section .rodata

.macro call_service
	push	%r9
	push	%r10
	push	%rbp
	push	%r11
	push	%rbx
	xor	%eax, %eax
	mov	$ELISA_SLOT_GATE, %ecx
	iretq
.endm

	program	state_flags
	call_service
	endprogram state_flags

	program	state_cr0
	mov	%cr0, %rax
	xor	%r12, %rax
	mov	%rax, %cr0
	call_service
	endprogram state_cr0

	program	state_cr4
	mov	%cr4, %rax
	xor	%r12, %rax
	mov	%rax, %cr4
	call_service
	endprogram state_cr4

	program	state_msr
	mov	%rdx, %r14
	mov	%r13d, %ecx
	rdmsr
	xor	%r12d, %eax
	shr	$32, %r12
	xor	%r12d, %edx
	wrmsr
	mov	%r14, %rdx
	call_service
	endprogram state_msr

	program	state_wrmsr
	mov	%rdx, %r14
	mov	%r13d, %ecx
	mov	%r12, %rax
	mov	%r12, %rdx
	shr	$32, %rdx
	wrmsr
	mov	%r14, %rdx
	call_service
	endprogram state_wrmsr

	program	state_xcr0
	mov	%rdx, %r14
	xor	%ecx, %ecx
	mov	%r12, %rax
	mov	%r12, %rdx
	shr	$32, %rdx
	xsetbv
	mov	%r14, %rdx
	call_service
	endprogram state_xcr0

	program	state_dr
	mov	%r12, %db0
	mov	%r13, %db1
	mov	%r14, %db2
	mov	%r15, %db3
	mov	%rdi, %db7
	call_service
	endprogram state_dr

	program	state_tables
	lgdt	(%r12)
	lidt	(%r13)
	lldt	%r15w
	ltr	%r14w
	mov	%cr4, %rax
	xor	%rdi, %rax
	mov	%rax, %cr4
	call_service
	endprogram state_tables

	/* The same bytes in 16, 32 and 64 bits. */
	program	state_vmfunc
	xor	%eax, %eax
	mov	%dl, %cl
	vmfunc
	out	%al, $PORT_LIVED
	ud2
	endprogram state_vmfunc

	program	state_legacy
	mov	$CODE + (1f - state_legacy), %eax
	pushq	$STATE_FREE			/* 32-bit code, ring 0 */
	push	%rax
	lretq
	.code32
1:	mov	%cr0, %eax
	and	$0x7fffffff, %eax
	mov	%eax, %cr0
	mov	$MSR_EFER, %ecx
	rdmsr
	and	$~0x100, %eax			/* LME */
	wrmsr
	lidt	CODE + (idtr - state_legacy)
	mov	$STATE_SS0, %eax
	mov	%eax, %ss
	mov	%eax, %ds
	mov	$CODE - 16, %esp
	cmp	$LEGACY_PAE, %ebx
	je	2f
	cmp	$LEGACY_32, %ebx
	je	3f
	cmp	$LEGACY_REAL, %ebx
	je	5f
	jmp	4f
2:	mov	$PAE_ROOT, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
	jmp	4f
3:	mov	%cr4, %eax
	and	$~0x20, %eax			/* PAE */
	mov	%eax, %cr4
	mov	$ROOT32, %eax
	mov	%eax, %cr3
	mov	%cr0, %eax
	or	$0x80000000, %eax
	mov	%eax, %cr0
4:	xor	%eax, %eax
	mov	$ELISA_SLOT_GATE, %ecx
	vmfunc
	out	%al, $PORT_LIVED
	ud2
	/* Real mode: a segment of 16 bits first; base and limit stay as they are. */
5:	ljmp	$STATE_FREE2, $(CODE + (6f - state_legacy)) & 0xffff
	.code16
6:	lidtl	%cs:(idtr16 - state_legacy)
	mov	%cr0, %eax
	and	$~1, %eax
	mov	%eax, %cr0
	ljmp	$CODE >> 4, $(7f - state_legacy)
7:	xor	%ax, %ax
	mov	%ax, %ss
	mov	$0x7c00, %sp
	xor	%eax, %eax
	mov	$ELISA_SLOT_GATE, %ecx
	vmfunc
	out	%al, $PORT_LIVED
	ud2
	.code64
idtr:	.word	32 * 8 - 1
	.long	IDT32
idtr16:	.word	32 * 4 - 1
	.long	IDT32 + 0x800
	endprogram state_legacy

	program	state_icr
1:	mov	%r13, %rcx
2:	dec	%rcx
	jnz	2b
	mov	$MSR_ICR, %ecx
	mov	%r12d, %eax
	mov	%r12, %rdx
	shr	$32, %rdx
	wrmsr
	out	%al, $PORT_SENT
	jmp	1b
	endprogram state_icr

	.section .note.GNU-stack, "", @progbits
