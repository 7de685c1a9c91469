/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate page and the entry page: the two faces of ELISA_GATE_VA inside (see elisa/layout.h).
 * Both are data here: libelisa-host copies them to pages of their own and exports those. All
 * %rip-relative operands count from ELISA_GATE_VA, where the pages run.
 *
 * The gate must be safe when it is entered at any byte with any register contents. Hence: no
 * operand depends on a register, the displacement of the store decodes as int3, immediates hold no
 * zero bytes (which would decode as stores through %rax), and all the rest is int3.
 */
#include <elisa/layout.h>

#define INT3		0xcc
#define VMFUNC		.byte 0x0f, 0x01, 0xd4

	.section .rodata.elisa_pages, "a", @progbits
	.balign ELISA_PAGE_SIZE
	.globl elisa_gate_page
	.hidden elisa_gate_page
	.type elisa_gate_page, @object
	.size elisa_gate_page, ELISA_PAGE_SIZE
elisa_gate_page:
	.fill ELISA_GATE_OFFSET, 1, INT3
	xor %eax, %eax					/* EPTP switching */
	/* Arm: movb $ELISA_EPTP_LOW, list + 8 * ELISA_SLOT_TRUSTED. */
	.byte 0xc6, 0x05, INT3, INT3, INT3, INT3, ELISA_EPTP_LOW
	xor %ecx, %ecx
	mov $ELISA_SLOT_TRUSTED, %cl
	VMFUNC
	.if . - elisa_gate_page - ELISA_ENTRY_OFFSET
	.error "the gate does not end where the entry stub begins"
	.endif
	.fill ELISA_PAGE_SIZE - ELISA_ENTRY_OFFSET, 1, INT3

/* Where things are, seen from the entry page. */
#define FROM_PAGE(va)	(.Lentry_page + ((va) - ELISA_GATE_VA))(%rip)
#define SLOT		FROM_PAGE(ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED)
#define DESC(offset)	FROM_PAGE(ELISA_DESC_VA + (offset))
/* Bytes of code from .Ltail to the end of the page. */
#define TAIL_LEN	62

	.globl elisa_entry_page
	.hidden elisa_entry_page
	.type elisa_entry_page, @object
	.size elisa_entry_page, ELISA_PAGE_SIZE
elisa_entry_page:
.Lentry_page:
	.fill ELISA_ENTRY_OFFSET, 1, INT3
	/*
	 * In: %rsi, %rdx, %r8, %r9 as the guest set them, and so they go to the service. %rbx, %rbp,
	 * %r12-%r15 are the guest's and the C code keeps them. The guest's %rsp and FS base are
	 * values to give back, never used. SSE, x87 and MXCSR state is the guest's, and services are
	 * compiled not to depend on it.
	 */
	movb $0, SLOT					/* disarm before anything else */
	mov %rsp, %r10
	mov DESC(ELISA_DESC_STACK), %rsp
	push $0x202					/* DF, AC, TF, NT, ID off; IF stays on */
	popfq
	push %r10
	rdfsbase %r10
	push %r10
	mov DESC(ELISA_DESC_FS_BASE), %rax
	wrfsbase %rax
	mov DESC(ELISA_DESC_COOKIE), %rdi
	mov DESC(ELISA_DESC_ENTRY), %rax
	jmp .Lcall
	.fill ELISA_PAGE_SIZE - TAIL_LEN - (. - elisa_entry_page), 1, INT3

.Ltail:
	/*
	 * Call *%rax with no indirect branch that could be predicted: the return stack predicts
	 * the loop at 2, and the call below predicts the service's own return.
	 */
.Lindirect:
	call 1f
2:	pause
	lfence
	jmp 2b
1:	mov %rax, (%rsp)
	ret
.Lcall:
	call .Lindirect
	/* Out: nothing of ours but the result and the flags. */
	mov %rax, %rdx
	mov DESC(ELISA_DESC_FLAGS), %r11d
	pop %rax
	wrfsbase %rax
	pop %rsp
	vzeroall
	xor %esi, %esi
	xor %edi, %edi
	xor %r8d, %r8d
	xor %r9d, %r9d
	xor %r10d, %r10d				/* sets every arithmetic flag */
	xor %ecx, %ecx					/* ELISA_SLOT_DEFAULT */
	xor %eax, %eax
	VMFUNC						/* goes on at ELISA_RETURN_VA */
	/* Fails if TAIL_LEN is too small; a unit test sees to it that it is not too large. */
	.org elisa_entry_page + ELISA_PAGE_SIZE, INT3

	.section .note.GNU-stack, "", @progbits
