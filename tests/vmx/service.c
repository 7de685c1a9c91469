/* SPDX-License-Identifier: BSD-3-Clause */
#include "service.h"

/* Initialised, so that it lies in .data of this object. */
uint64_t svc_data[512] = { SVC_SECRET, 1, 2, 3 };

static int64_t spin(struct svc_vm *vm, uint64_t n)
{
	__atomic_fetch_add(&vm->spins, 1, __ATOMIC_RELAXED);
	for (volatile uint64_t i = 0; i < n; i++)
		;
	return (int64_t)n;
}

/* As spin(), with `with` in every register but the counter and the stack pointer. */
static int64_t hold(struct svc_vm *vm, uint64_t with, uint64_t n)
{
	uint64_t left = n;

	__atomic_fetch_add(&vm->spins, 1, __ATOMIC_RELAXED);
	asm volatile("lea -128(%%rsp), %%rsp\n\t"	/* the red zone */
		     "push %%rbx\n\t"
		     "push %%rbp\n\t"
		     "vmovq %%rdx, %%xmm0\n\t"
		     "vpunpcklqdq %%xmm0, %%xmm0, %%xmm0\n\t"
		     "vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n\t"
		     ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vmovaps %%ymm0, %%ymm\\n\n\t"
		     ".endr\n\t"
		     ".irp r, rax,rbx,rbp,rsi,rdi,r8,r9,r10,r11,r12,r13,r14,r15\n\t"
		     "mov %%rdx, %%\\r\n\t"
		     ".endr\n"
		     "1:\n\t"
		     "dec %%rcx\n\t"
		     "jnz 1b\n\t"
		     "pop %%rbp\n\t"
		     "pop %%rbx\n\t"
		     "lea 128(%%rsp), %%rsp"
		     : "+c"(left) : "d"(with)
		     : "rax", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
		       "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
		       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
		       "memory", "cc");
	return (int64_t)n;
}

static int64_t dirty(uint64_t with, uint64_t result)
{
	asm volatile("vmovq %0, %%xmm0\n\t"
		     "vpunpcklqdq %%xmm0, %%xmm0, %%xmm0\n\t"
		     "vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n\t"
		     ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vmovaps %%ymm0, %%ymm\\n\n\t"
		     ".endr\n\t"
		     "mov %0, %%rcx\n\t"
		     "mov %0, %%rsi\n\t"
		     "mov %0, %%rdi\n\t"
		     "mov %0, %%r8\n\t"
		     "mov %0, %%r9\n\t"
		     "mov %0, %%r10\n\t"
		     "mov %0, %%r11\n\t"
		     : : "d"(with)
		     : "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2",
		       "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
		       "xmm12", "xmm13", "xmm14", "xmm15");
	return (int64_t)result;
}

static int64_t keep(struct svc_vm *vm, uint64_t rounds)
{
	uint64_t changed;

	__atomic_fetch_add(&vm->spins, 1, __ATOMIC_RELAXED);
	asm volatile("vmovq %[with], %%xmm0\n\t"
		     "vpunpcklqdq %%xmm0, %%xmm0, %%xmm0\n\t"
		     "vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n\t"
		     ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vmovaps %%ymm0, %%ymm\\n\n\t"
		     ".endr\n\t"
		     ".irp r, rsi,rdi,r8,r9,r10,r11,r12,r13,r14,r15\n\t"
		     "mov %[with], %%\\r\n\t"
		     ".endr\n\t"
		     "1: sub $1, %[rounds]\n\t"
		     "jnz 1b\n\t"
		     ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vxorps %%ymm0, %%ymm\\n, %%ymm\\n\n\t"
		     ".endr\n\t"
		     ".irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15\n\t"
		     "vorps %%ymm\\n, %%ymm1, %%ymm1\n\t"
		     ".endr\n\t"
		     /* and the one that they were compared with */
		     "vmovq %%r15, %%xmm2\n\t"
		     "vpunpcklqdq %%xmm2, %%xmm2, %%xmm2\n\t"
		     "vinsertf128 $1, %%xmm2, %%ymm2, %%ymm2\n\t"
		     "vxorps %%ymm0, %%ymm2, %%ymm2\n\t"
		     "vorps %%ymm2, %%ymm1, %%ymm1\n\t"
		     "xor %%eax, %%eax\n\t"
		     "vptest %%ymm1, %%ymm1\n\t"
		     "setnz %%al\n\t"
		     : "=&a"(changed), [rounds] "+&c"(rounds)
		     : [with] "d"(vm->secret[0])
		     : "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",
		       "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
		       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	return (int64_t)changed;
}

/* What a service must never do; each ends the VM. */
static int64_t forbidden(uint64_t op, uint64_t a1)
{
	uint32_t a = 0, b, c = (uint32_t)a1, d;

	switch (op) {
	case SVC_CPUID:
		asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		break;
	case SVC_VMCALL:
		asm volatile("vmcall" : "+a"(a) : : "memory");
		break;
	case SVC_SYSCALL:
		asm volatile("syscall" : "+a"(a) : : "rcx", "r11", "memory");
		break;
	case SVC_HLT:
		asm volatile("hlt");
		break;
	case SVC_INT3:
		asm volatile("int3");
		break;
	case SVC_VMFUNC:
		asm volatile("vmfunc" : : "a"(0), "c"(c) : "memory");
		break;
	case SVC_DIVIDE:
		asm volatile("xor %%edx, %%edx\n\tdiv %1" : "+a"(a) : "r"(0) : "rdx", "cc");
		break;
	default:
		return -ELISA_ENOSYS;
	}
	return (int64_t)a;
}

static int64_t examine(uint64_t op)
{
	uint64_t v;

	switch (op) {
	case SVC_FLAGS:
		asm volatile("pushfq\n\tpop %0" : "=r"(v) : : "memory");
		return (int64_t)v;
	case SVC_FS:
		asm volatile("rdfsbase %0" : "=r"(v));
		return (int64_t)v;
	default:
		asm volatile("mov %%rsp, %0" : "=r"(v));
		return (int64_t)v;
	}
}

static int64_t serve(struct svc_vm *vm, uint64_t op, uint64_t a1, uint64_t a2, uint64_t a3)
{
	switch (op) {
	case ELISA_OP_HELLO:
		return (int64_t)((uint64_t)ELISA_HELLO_MAGIC << 48 |
				 (uint64_t)ELISA_SERVICE_EXAMPLE << 32 | vm->generation);
	case ELISA_OP_NOP:
		return 0;
	case SVC_ECHO:
		return (int64_t)svc_echo(a1, a2, a3);
	case SVC_FLAGS:
	case SVC_FS:
	case SVC_STACK:
		return examine(op);
	case SVC_SPIN:
		return spin(vm, a1);
	case SVC_HOLD:
		return hold(vm, a1, a2);
	case SVC_READ:
		return (int64_t)(*(const volatile uint64_t *)a1 & INT64_MAX);
	case SVC_WRITE:
		*(volatile uint64_t *)a1 = a2;
		return 0;
	case SVC_JUMP:
		((void (*)(void))a1)();
		return 0;
	case SVC_DIRTY:
		return dirty(a1, a2);
	case SVC_KEEP:
		return keep(vm, a1);
	default:
		return forbidden(op, a1);
	}
}

int64_t svc_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		  uint64_t a3)
{
	struct svc_vm *vm = cookie;
	int64_t result;

	(void)ignored;
	if (op == ELISA_OP_NOP)		/* measured: as short as it gets */
		return 0;
	__atomic_fetch_add(&vm->calls, 1, __ATOMIC_RELAXED);
	result = serve(vm, op, a1, a2, a3);
	__atomic_fetch_add(&vm->returned, 1, __ATOMIC_RELAXED);
	return result;
}
