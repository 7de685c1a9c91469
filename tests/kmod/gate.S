/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The smallest pair of trusted pages, for tests of the module alone: the gate, and a stub that
 * counts %rsi down and returns 42 in %rdx and the descriptor's flags in %r11.
 */
#include <elisa/layout.h>

	.section .rodata
	.balign 4096
	.globl smoke_gate, smoke_entry
smoke_gate:
	.fill	ELISA_GATE_OFFSET, 1, 0xcc
	xor	%eax, %eax
	movb	$ELISA_EPTP_LOW, smoke_gate + ELISA_GATE_OFFSET + 9 + 0xcccccccc - 0x100000000(%rip)
	xor	%ecx, %ecx
	mov	$ELISA_SLOT_TRUSTED, %cl
	vmfunc
	.if	. - smoke_gate - ELISA_ENTRY_OFFSET
	.error	"the gate must be 16 bytes"
	.endif
	.fill	4096 - (. - smoke_gate), 1, 0xcc

	.balign 4096
smoke_entry:
	.fill	ELISA_ENTRY_OFFSET, 1, 0xcc
	movb	$0, smoke_entry + ELISA_LIST_VA - ELISA_GATE_VA + 8 * ELISA_SLOT_TRUSTED(%rip)
	test	%rsi, %rsi
	jz	2f
1:	dec	%rsi
	jnz	1b
2:	mov	$42, %edx
	mov	smoke_entry + ELISA_DESC_VA - ELISA_GATE_VA + ELISA_DESC_FLAGS(%rip), %r11d
	jmp	3f
	.fill	4096 - 7 - (. - smoke_entry), 1, 0xcc
3:	xor	%eax, %eax
	xor	%ecx, %ecx
	vmfunc

	.section .note.GNU-stack, "", @progbits
