/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest programs: position independent, copied to TVM_GPA_CODE. What each does: programs.h. */
#include <elisa/layout.h>
#include "programs.h"

	.section .rodata

.macro ticks to
	rdtsc
	shl	$32, %rdx
	or	%rdx, %rax
	mov	%rax, \to
.endm

	program	prog_out
	out	%eax, $PORT_DONE
	inc	%eax
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_out

	program	prog_vectors
	vpxor	%xmm3, %xmm3, %xmm3
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_vectors

	program	prog_count
1:	dec	%rcx
	jnz	1b
	out	%eax, $PORT_DONE
	nop
	nop
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_count

	program	prog_call
	call	*%rbx
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_call

	program	prog_after
	call	*%rbx
	xor	%eax, %eax
	mov	%r12d, %ecx
	vmfunc
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_after

	program	prog_vmfunc
	vmfunc
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_vmfunc

	program	prog_loop
	ticks	%r15
1:	mov	%r13, %rsi
	mov	%r14, %rdx
	call	*%rbx
	dec	%r12
	jnz	1b
	mov	%rax, %rdi
	ticks	%rbp
	sub	%r15, %rbp
	mov	%rbp, %r15
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_loop

	program	prog_ret
	ret
	endprogram prog_ret

	program	prog_hypercall
	ticks	%r15
1:	mov	$HYPERCALL, %eax
	vmcall
	dec	%r12
	jnz	1b
	ticks	%rbp
	sub	%r15, %rbp
	mov	%rbp, %r15
	out	%eax, $PORT_DONE
	ud2
	endprogram prog_hypercall

	program	prog_serve
1:	mov	WORD_OP(%r12), %rsi
	mov	WORD_A1(%r12), %rdx
	mov	WORD_A2(%r12), %r8
	mov	WORD_A3(%r12), %r9
	call	*%rbx
	mov	%rax, WORD_LAST(%r12)
	test	%rax, %rax
	js	2f
	incq	WORD_CALLS(%r12)
	jmp	4f
2:	cmp	$-108, %rax			/* ELISA_ESHUTDOWN */
	jne	3f
	incq	WORD_AWAY(%r12)
	jmp	4f
3:	incq	WORD_ERRORS(%r12)
4:	cmpq	$0, WORD_STOP(%r12)
	je	1b
	out	%eax, $PORT_DONE
	jmp	1b
	endprogram prog_serve

	program	prog_cr3
	call	*%rbx
	mov	(%rbp), %al
	int	$0x80
	xor	%eax, %eax
	mov	$ELISA_SLOT_GATE, %ecx
	jmp	*%r12
	endprogram prog_cr3

	program	prog_set_cr3
	mov	%r13, %cr3
	iretq
	endprogram prog_set_cr3

	program	page_entry
	xor	%eax, %eax
	mov	$ELISA_SLOT_GATE, %ecx
	vmfunc
	endprogram page_entry

	program	page_raw
	out	%eax, $PORT_DONE
	ud2
	endprogram page_raw

	program	page_return
	test	$ELISA_FLAG_EVENT, %r11b
	jz	1f
	vmcall					/* any exit will do */
1:	mov	%rdx, %rax
	ret
	endprogram page_return

	.section .note.GNU-stack, "", @progbits
