/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest programs of the tests (programs.S) and the numbers they share with the C side. */
#ifndef TESTS_VMX_PROGRAMS_H
#define TESTS_VMX_PROGRAMS_H

/* OUT ports of the programs. */
#define PORT_DONE	0x10	/* %eax: result */
#define PORT_STEP	0x11	/* go on afterwards */

#ifndef __ASSEMBLER__
#define PROGRAM(name)	extern const char prog_##name[], prog_##name##_end[]

PROGRAM(out);		/* OUT %eax, then OUT %eax + 1 */
PROGRAM(vectors);	/* wipes %ymm3, OUT */
PROGRAM(count);		/* counts %rcx down, OUT, some nops, OUT */
#endif

#endif
