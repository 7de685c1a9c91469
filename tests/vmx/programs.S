/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest programs: position independent, copied to TVM_GPA_CODE. What each does: programs.h. */
#include "programs.h"

	.section .rodata

.macro program name
	.balign 16
	.globl	prog_\name, prog_\name\()_end
prog_\name:
.endm
.macro endprogram name
prog_\name\()_end:
.endm

	program	out
	out	%eax, $PORT_DONE
	inc	%eax
	out	%eax, $PORT_DONE
	ud2
	endprogram out

	program	vectors
	vpxor	%xmm3, %xmm3, %xmm3
	out	%eax, $PORT_DONE
	ud2
	endprogram vectors

	program	count
1:	dec	%rcx
	jnz	1b
	out	%eax, $PORT_DONE
	nop
	nop
	out	%eax, $PORT_DONE
	ud2
	endprogram count

	.section .note.GNU-stack, "", @progbits
