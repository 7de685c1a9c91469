/* SPDX-License-Identifier: BSD-3-Clause */
#include "check-object.h"

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

int64_t check_service_state[1024] __attribute__((aligned(4096)));
const int64_t check_service_constants[512] __attribute__((aligned(4096))) = {1};

__attribute__((noinline)) int64_t check_call(int64_t loops)
{
	int64_t i;

	for (i = 0; i < loops; i++)
		__asm__ volatile("");
	return i;
}

static __attribute__((noinline)) int64_t deep(int64_t bytes)
{
	volatile char frame[256];

	frame[0] = 1;
	return bytes <= 0 ? frame[0] : deep(bytes - (int64_t)sizeof(frame)) + frame[0];
}

static int64_t raw(long nr)
{
	int64_t ret;

	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr) : "rcx", "r11", "memory");
	return ret;
}

/* One access to each part. */
static int64_t good(void)
{
	volatile const int64_t *constants = check_service_constants;

	return __atomic_add_fetch(&check_service_state[512], 1, __ATOMIC_SEQ_CST) + constants[0] +
	       check_library_get(1);
}

static int64_t instruction(enum check_what what)
{
	uint32_t a = 0, b, c = 0, d;

	switch (what) {
	case DO_CPUID:
		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		return 0;
	case DO_AVX512:
		__asm__ volatile("vpxord %%zmm17, %%zmm17, %%zmm17" : : : "memory");
		return 0;
	case DO_IN:
		__asm__ volatile("in $0x80, %%al" : "=a"(a));
		return 0;
	case DO_HLT:
		__asm__ volatile("hlt");
		return 0;
	case DO_UD2:
		__asm__ volatile("ud2");
		return 0;
	case DO_INT80:
		a = 20;
		__asm__ volatile("int $0x80" : "+a"(a) : : "memory", "r8", "r9", "r10", "r11");
		return (int32_t)a;
	default:
		return -1;
	}
}

static int64_t private(void)
{
	return check_service_state[100]++;
}

int64_t check_service(enum check_what what, uint64_t arg)
{
	volatile int64_t *word = (int64_t *)arg;

	switch (what) {
	case DO_GOOD:
		return good();
	case DO_READ:
		return *word;
	case DO_WRITE:
		*word = 7;
		return 0;
	case DO_ADD:
		return __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
	case DO_JUMP:
		return ((int64_t(*)(void))arg)();
	case DO_SYSCALL:
		return raw(110);
	case DO_LIBC:
		return getppid();
	case DO_LIBRARY_WRITE:
		return check_library_calls++;
	case DO_LOOP:
		for (;;)
			__asm__ volatile("pause");
	case DO_SYSCALLS:
		for (;;)
			raw(110);
	case DO_DEEP:
		return deep(arg);
	case DO_CALLS:
		while (arg--)
			check_call(100);
		return 0;
	case DO_ERRNO:
		errno = 5;
		return 0;
	case DO_PRIVATE:
		return private();
	default:
		return instruction(what);
	}
}
