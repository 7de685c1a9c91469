/* SPDX-License-Identifier: BSD-3-Clause */
/* A service and a library that it uses, for test-check.c. */
#ifndef TESTS_HOST_CHECK_OBJECT_H
#define TESTS_HOST_CHECK_OBJECT_H

#include <stdint.h>

enum check_what {
	DO_GOOD,    /* all that is allowed; returns 42 */
	DO_READ,    /* arg: of a word; returns it */
	DO_WRITE,   /* arg: to a word */
	DO_ADD,	    /* arg: a read and a write in one */
	DO_JUMP,    /* arg: call it */
	DO_SYSCALL, /* getppid */
	DO_INT80,   /* getpid of 32-bit programs */
	DO_LIBC,    /* getppid() */
	DO_LIBRARY_WRITE,
	DO_CPUID,
	DO_AVX512,
	DO_IN,
	DO_HLT,
	DO_UD2,
	DO_LOOP,     /* without an end */
	DO_SYSCALLS, /* without an end */
	DO_DEEP,     /* arg: bytes of stack, in small frames */
	DO_CALLS,    /* arg: so many calls of check_call(100) */
	DO_ERRNO,    /* sets errno; returns 0 */
	DO_PRIVATE,  /* changes all variables; returns how often that was done */
};

int64_t check_service(enum check_what what, uint64_t arg);
int64_t check_call(int64_t loops);

extern int64_t check_library_table[1024], check_library_calls;
int64_t check_library_get(int64_t i);

#endif
