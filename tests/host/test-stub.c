/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entry page, run for real at its own address, and the parked thread that it runs as. Only the
 * last instruction is another one: a no-op in the place of VMFUNC, so that it falls through to the
 * next page as a guest's code would go on there.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "example.h"
#include "internal.h"

struct stub_regs {
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rflags, fs;
	uint32_t mxcsr, pad[3];
	uint64_t ymm[16][4];
};
_Static_assert(offsetof(struct stub_regs, rflags) == 128, "stub-call.S");
_Static_assert(offsetof(struct stub_regs, fs) == 136, "stub-call.S");
_Static_assert(offsetof(struct stub_regs, mxcsr) == 144, "stub-call.S");
_Static_assert(offsetof(struct stub_regs, ymm) == 160, "stub-call.S");

void stub_call(const struct stub_regs *in, struct stub_regs *out);
void stub_return(void);

#define FLAG_CF	    (1u << 0)
#define FLAG_ARITH  0x8d5u /* OF SF ZF AF PF CF */
#define FLAG_DF	    (1u << 10)
#define FLAG_NT	    (1u << 14)
#define FLAG_AC	    (1u << 18)
#define FLAG_ID	    (1u << 21)
#define HOSTILE_RSP 0xdead00000000beefULL /* not even canonical */

static const struct threads plain;
static struct park *park;
static struct elisa_desc *desc;
static uint64_t *list;
static __thread int tls_word = 4711;

/* What the service saw. */
static struct {
	void *cookie;
	uint64_t op, a1, a2, a3, rsp, flags, fs;
	pthread_t self;
	int *tls;
	int tls_value;
} seen;

/* On the parked thread's stack and TLS block, and with all it leaves behind. */
__attribute__((no_sanitize("address"), noinline)) static int64_t
service(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2, uint64_t a3)
{
	volatile char deep[PARK_STACK - 4096];

	seen.flags = __builtin_ia32_readeflags_u64();
	seen.cookie = cookie;
	seen.op = op;
	seen.a1 = a1;
	seen.a2 = a2;
	seen.a3 = a3;
	seen.rsp = (uintptr_t)__builtin_frame_address(0) + 8;
	__asm__("mov %%fs:0, %0" : "=r"(seen.fs));
	seen.self = pthread_self();
	seen.tls = &tls_word;
	seen.tls_value = tls_word;
	deep[0] = deep[sizeof(deep) - 1] = 1;
	/* Secrets in every register that a function may leave dirty. */
	__asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n"
			 "vmovdqa %%ymm0, %%ymm7\n"
			 "vmovdqa %%ymm0, %%ymm15\n"
			 "mov $-1, %%rsi\n mov $-1, %%rdi\n mov $-1, %%r8\n mov $-1, %%r9\n"
			 "mov $-1, %%r10\n mov $-1, %%r11\n mov $-1, %%rcx\n mov $-1, %%rdx\n" ::
				 : "rsi", "rdi", "r8", "r9", "r10", "r11", "rcx", "rdx", "xmm0",
				   "xmm7", "xmm15");
	return -(int64_t)ELISA_ENODEV;
}

static void *map_at(uint64_t va)
{
	void *p = mmap((void *)va, ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static int setup(void **state)
{
	static const uint8_t nop3[] = {0x0f, 0x1f, 0x00}, jump[] = {0xff, 0x25, 0, 0, 0, 0};
	uint64_t back = (uintptr_t)stub_return;
	uint8_t *code = map_at(ELISA_GATE_VA), *next = map_at(ELISA_RETURN_VA);

	memcpy(code, elisa_entry_page, ELISA_PAGE_SIZE);
	memcpy(code + ELISA_PAGE_SIZE - sizeof(nop3), nop3, sizeof(nop3));
	memcpy(next, jump, sizeof(jump));
	memcpy(next + sizeof(jump), &back, sizeof(back));
	assert_int_equal(mprotect(code, 2 * ELISA_PAGE_SIZE, PROT_READ | PROT_EXEC), 0);
	list = map_at(ELISA_LIST_VA);
	desc = map_at(ELISA_DESC_VA);
	assert_int_equal(park_start(&plain, &park), 0);
	return 0;
}

static int teardown(void **state)
{
	park_end(park);
	munmap((void *)ELISA_GATE_VA, 2 * ELISA_PAGE_SIZE);
	munmap(list, ELISA_PAGE_SIZE);
	munmap(desc, ELISA_PAGE_SIZE);
	return 0;
}

static void describe(elisa_entry_fn entry, void *cookie)
{
	*desc = (struct elisa_desc){.magic = ELISA_DESC_MAGIC,
				    .stack = park->stack,
				    .fs_base = park->fs_base,
				    .entry = (uintptr_t)entry,
				    .cookie = (uintptr_t)cookie,
				    .flags = ELISA_FLAG_EVENT};
	memset(list, 0, ELISA_PAGE_SIZE);
	list[ELISA_SLOT_DEFAULT] = 0x1111000 | ELISA_EPTP_LOW;
	list[ELISA_SLOT_TRUSTED] = 0x2222000 | ELISA_EPTP_LOW;
}

static void arrive(struct stub_regs *in, struct stub_regs *out)
{
	sigset_t all, before;

	memset(in, 0x5a, sizeof(*in));
	memset(out, 0x77, sizeof(*out));
	in->rax = 0;
	in->rcx = ELISA_SLOT_TRUSTED;
	in->rsi = 17;
	in->rdx = 0x1111222233334444;
	in->r8 = 0x5555666677778888;
	in->r9 = 0x9999aaaabbbbcccc;
	in->rsp = HOSTILE_RSP;
	in->fs = 0x12345000;
	in->rflags = 0x202 | FLAG_CF | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID;
	/* With a foreign FS base no handler could run. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	stub_call(in, out);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static void test_park(void **state)
{
	uintptr_t low = (uintptr_t)park->map, high = low + park->len;
	uint64_t fs;

	__asm__("mov %%fs:0, %0" : "=r"(fs));
	assert_int_not_equal(park->fs_base, fs);
	assert_int_equal(park->fs_base, park->thread);
	assert_true(park->fs_base > park->stack && park->fs_base < high);
	assert_int_equal(park->stack % 16, 0);
	assert_true(park->stack >= low + ELISA_PAGE_SIZE + PARK_STACK);
	assert_true(park->stack <= high - PARK_GAP);
	assert_ptr_equal(park_shared(park), park->map + ELISA_PAGE_SIZE);
	/* All of it but the guard page, which a stack that overflows runs into. */
	assert_int_equal((uintptr_t)park_shared(park) + park_shared_len(park), high);
	assert_int_equal(msync(park->map, park->len, MS_ASYNC), 0);
}

static void test_many_parks(void **state)
{
	struct park *p[32];
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(p); i++) {
		assert_int_equal(park_start(&plain, &p[i]), 0);
		for (j = 0; j < i; j++) {
			assert_int_not_equal(p[i]->fs_base, p[j]->fs_base);
			assert_int_not_equal(p[i]->stack, p[j]->stack);
		}
	}
	for (i = 0; i < ARRAY_SIZE(p); i++)
		park_end(p[i]);
}

/* What the service finds: its arguments, a thread of its own, clean flags, the slot disarmed. */
static void test_entry(void **state)
{
	struct stub_regs in, out;
	int cookie;

	describe(service, &cookie);
	arrive(&in, &out);
	assert_ptr_equal(seen.cookie, &cookie);
	assert_int_equal(seen.op, 17);
	assert_int_equal(seen.a1, in.rdx);
	assert_int_equal(seen.a2, in.r8);
	assert_int_equal(seen.a3, in.r9);
	assert_int_equal(seen.fs, park->fs_base);
	assert_int_equal(seen.self, park->thread);
	assert_ptr_not_equal(seen.tls, &tls_word);
	assert_true((uintptr_t)seen.tls > park->stack && (uintptr_t)seen.tls < park->fs_base);
	assert_int_equal(seen.tls_value, 4711);
	assert_true(seen.rsp < park->stack && seen.rsp >= park->stack - 64);
	assert_int_equal(seen.rsp % 16, 8);
	assert_int_equal(seen.flags & (FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID), 0);
	assert_int_equal(list[ELISA_SLOT_TRUSTED], 0x2222000);
	assert_int_equal(list[ELISA_SLOT_DEFAULT], 0x1111000 | ELISA_EPTP_LOW);
}

/* What the guest gets back: its own registers, the result, and nothing else. */
static void test_exit(void **state)
{
	struct stub_regs in, out;
	size_t i, j;

	describe(service, NULL);
	arrive(&in, &out);
	assert_int_equal((int64_t)out.rdx, -ELISA_ENODEV);
	assert_int_equal(out.r11, ELISA_FLAG_EVENT);
	assert_int_equal(out.rax, 0);
	assert_int_equal(out.rcx, ELISA_SLOT_DEFAULT);
	assert_int_equal(out.rsi | out.rdi | out.r8 | out.r9 | out.r10, 0);
	assert_int_equal(out.rbx, in.rbx);
	assert_int_equal(out.rbp, in.rbp);
	assert_int_equal(out.rsp, HOSTILE_RSP);
	assert_int_equal(out.r12, in.r12);
	assert_int_equal(out.r13, in.r13);
	assert_int_equal(out.r14, in.r14);
	assert_int_equal(out.r15, in.r15);
	assert_int_equal(out.fs, in.fs);
	/* As XOR leaves them. */
	assert_int_equal(out.rflags & FLAG_ARITH & ~0x10u, 0x44);
	assert_int_equal(out.rflags & (FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID), 0);
	assert_int_equal(out.rflags & 0x200, 0x200);
	for (i = 0; i < 16; i++)
		for (j = 0; j < 4; j++)
			assert_int_equal(out.ymm[i][j], 0);
	assert_int_equal(out.mxcsr, __builtin_ia32_stmxcsr());
}

/* Many calls, with the flag down, leave the stack where it was. */
static void test_again(void **state)
{
	struct stub_regs in, out;
	struct example_vm vm = {.number = 3};
	uint64_t at, i;

	describe(service, NULL);
	arrive(&in, &out);
	at = seen.rsp;
	for (i = 0; i < 1000; i++) {
		describe(elisa_example_service()->entry, &vm);
		desc->flags = 0;
		arrive(&in, &out);
		assert_int_equal(out.rdx, in.rdx & INT64_MAX); /* op 17: echo */
		assert_int_equal(out.r11, 0);
	}
	describe(service, NULL);
	arrive(&in, &out);
	assert_int_equal(seen.rsp, at);
}

/* ---- how many instructions an empty call takes ---- */

/* The gate's, and libelisa-guest's: call, xor, mov, vmfunc; test, jz, mov, xor, xor, ret. */
#define GATE_INSTRUCTIONS  5
#define GUEST_INSTRUCTIONS 10

static unsigned int step_through(pid_t child)
{
	unsigned int count = 0;
	struct user_regs_struct r;
	bool inside = false;
	int status;

	for (;;) {
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return count;
		}
		assert_true(WIFSTOPPED(status));
		assert_int_equal(ptrace(PTRACE_GETREGS, child, 0, &r), 0);
		if (r.rip == ELISA_GATE_VA + ELISA_ENTRY_OFFSET)
			inside = true;
		if (r.rip == ELISA_RETURN_VA)
			inside = false;
		count += inside;
		/* Once back, let it run. */
		assert_int_equal(
			ptrace(!inside && count ? PTRACE_CONT : PTRACE_SINGLESTEP, child, 0, 0), 0);
	}
}

static void test_count(void **state)
{
	struct stub_regs in, out;
	unsigned int count;
	pid_t child;

	describe(elisa_example_service()->entry, NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		memset(&in, 0, sizeof(in));
		in.rsi = ELISA_OP_NOP;
		in.rflags = 0x202;
		/* Inherited: without one, the step before it would have the parent's FS base. */
		__asm__("mov %%fs:0, %0" : "=r"(in.fs));
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
			_exit(1);
		stub_call(&in, &out);
		_exit(out.rdx ? 2 : 0);
	}
	count = step_through(child);
	print_message(
		"an empty call: %u instructions in stubs and service, %u with gate and guest\n",
		count, count + GATE_INSTRUCTIONS + GUEST_INSTRUCTIONS);
	assert_true(count > 20);
	assert_true(count + GATE_INSTRUCTIONS + GUEST_INSTRUCTIONS <= 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_park),  cmocka_unit_test(test_many_parks),
		cmocka_unit_test(test_entry), cmocka_unit_test(test_exit),
		cmocka_unit_test(test_again), cmocka_unit_test(test_count),
	};

	if (!__builtin_cpu_supports("avx2")) {
		print_message("skipped: this CPU has no AVX2\n");
		return 77;
	}
	return cmocka_run_group_tests_name("entry and exit stubs", tests, setup, teardown);
}
