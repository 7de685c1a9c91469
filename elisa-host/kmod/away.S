/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The face of the gate page while a VM's service is away: whoever comes in, from the guest (at
 * ELISA_GATE_OFFSET) or from a gate that was under way (at ELISA_ENTRY_OFFSET), goes back to the
 * default context with %rdx = -ELISA_ESHUTDOWN and no flags in %r11. It touches no memory: this
 * page, execute-only, is all that its context maps beside page tables.
 */
#include <linux/linkage.h>
#include <elisa/layout.h>

#define ESHUTDOWN 108

	.section .rodata
	.balign	4096
SYM_DATA_START(elisa_away_page)
	.fill	ELISA_GATE_OFFSET, 1, 0xcc
.Lfrom_guest:
	mov	$-ESHUTDOWN, %rdx
	xor	%r11d, %r11d
	.byte	0xe9			/* jmp rel32: the two ways in are 16 bytes apart */
	.long	.Lout - . - 4
	.fill	ELISA_ENTRY_OFFSET - ELISA_GATE_OFFSET - (. - .Lfrom_guest), 1, 0xcc
	mov	$-ESHUTDOWN, %rdx
	xor	%r11d, %r11d
	.byte	0xe9
	.long	.Lout - . - 4
	.fill	4096 - ELISA_VMFUNC_LEN - 4 - (. - elisa_away_page), 1, 0xcc
.Lout:
	xor	%eax, %eax
	xor	%ecx, %ecx
	.byte	0x0f, 0x01, 0xd4	/* vmfunc: older assemblers lack it */
SYM_DATA_END(elisa_away_page)

	.section .note.GNU-stack, "", @progbits
