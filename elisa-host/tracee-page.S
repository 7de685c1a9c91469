/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The one page of this process that can be run in a checked copy of it although it is not exported:
 * there the copy makes system calls on its tracer's behalf, and there checked functions return to.
 */
#include <elisa/layout.h>

	.section .text.elisa_tracee, "ax", @progbits
	.balign ELISA_PAGE_SIZE
	.globl elisa_tracee_page, elisa_tracee_call, elisa_tracee_return
	.hidden elisa_tracee_page, elisa_tracee_call, elisa_tracee_return
elisa_tracee_page:
elisa_tracee_call:
	syscall
	.fill 14, 1, 0xcc
elisa_tracee_return:
	.fill ELISA_PAGE_SIZE - (. - elisa_tracee_page), 1, 0xcc

	.section .note.GNU-stack, "", @progbits
