/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate page, run for real on this CPU at its own address: entered at every byte with hostile
 * registers, one instruction at a time. Nothing may be written but the one byte that arms the slot,
 * by the one instruction that does it, and after that the way leads straight to VMFUNC (which is
 * an invalid instruction here, or harmless).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <cmocka.h>

#include "internal.h"

#define TF	     0x100
#define ARENA_LEN    (64u << 10)
#define MAX_STEPS    64
#define TRUSTED_EPTP 0x0000000abcdef000ULL

/* The gate's instructions, as offsets in the page. */
#define AT_STORE  (ELISA_GATE_OFFSET + 2)
#define AT_VMFUNC (ELISA_ENTRY_OFFSET - ELISA_VMFUNC_LEN)

static const int gprs[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
			   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static uint8_t *arena, arena_copy[ARENA_LEN], alternate_stack[256 << 10];
static uint64_t *list, list_copy[ELISA_PAGE_SIZE / 8];

/* The run under way, for the handlers. */
static struct {
	greg_t in[ARRAY_SIZE(gprs)];
	greg_t before[NGREG]; /* of the test itself */
	unsigned int offset, steps;
	uintptr_t rip; /* of the instruction that runs next */
	bool inside, armed;
	int signal; /* that ended it */
	uintptr_t end_rip;
	greg_t end_rax, end_rcx;
	const char *wrong; /* what must not have happened */
} run;
static unsigned long runs, steps;

static void look(void)
{
	uint64_t *slot = &list[ELISA_SLOT_TRUSTED];

	if (memcmp(arena, arena_copy, ARENA_LEN))
		run.wrong = "memory was written";
	if (*slot != list_copy[ELISA_SLOT_TRUSTED]) {
		if (*slot != (TRUSTED_EPTP | ELISA_EPTP_LOW))
			run.wrong = "the slot holds another value";
		else if (run.rip != ELISA_GATE_VA + AT_STORE)
			run.wrong = "the slot was armed by another instruction";
		run.armed = true;
		list_copy[ELISA_SLOT_TRUSTED] = *slot;
	}
	if (memcmp(list, list_copy, sizeof(list_copy)))
		run.wrong = "another slot was written";
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	size_t i;

	if (sig == SIGUSR1) {
		memcpy(run.before, g, sizeof(run.before));
		for (i = 0; i < ARRAY_SIZE(gprs); i++)
			g[gprs[i]] = run.in[i];
		g[REG_RIP] = run.rip = ELISA_GATE_VA + run.offset;
		g[REG_EFL] |= TF;
		run.inside = true;
		return;
	}
	if (!run.inside) {
		signal(sig, SIG_DFL);
		return;
	}
	look();
	/* A single step, and there may be more. */
	if (sig == SIGTRAP && info->si_code == TRAP_TRACE && !run.wrong) {
		run.rip = g[REG_RIP];
		if (run.rip - ELISA_GATE_VA >= ELISA_PAGE_SIZE)
			run.wrong = "it left the page";
		if (++run.steps > MAX_STEPS)
			run.wrong = "it does not end";
		if (!run.wrong)
			return;
	}
	run.signal = sig;
	run.end_rip = g[REG_RIP];
	run.end_rax = g[REG_RAX];
	run.end_rcx = g[REG_RCX];
	run.inside = false;
	memcpy(g, run.before, sizeof(run.before));
}

static int setup(void **state)
{
	stack_t alt = {.ss_sp = alternate_stack, .ss_size = sizeof(alternate_stack)};
	size_t i;
	void *page;

	page = mmap((void *)ELISA_GATE_VA, ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_true(page != MAP_FAILED);
	memcpy(page, elisa_gate_page, ELISA_PAGE_SIZE);
	assert_int_equal(mprotect(page, ELISA_PAGE_SIZE, PROT_READ | PROT_EXEC), 0);
	list = mmap((void *)ELISA_LIST_VA, ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_true(list != MAP_FAILED);
	/* In the low 2 GiB, so that 32-bit addresses hit it, too. */
	arena = mmap(NULL, ARENA_LEN, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	assert_true(arena != MAP_FAILED);
	for (i = 0; i < ARENA_LEN; i++)
		arena[i] = arena_copy[i] = (uint8_t)(i * 37 + 11);
	assert_int_equal(sigaltstack(&alt, NULL), 0);
	return 0;
}

/* From within each test: cmocka sets handlers of its own before it. */
static void install(void)
{
	static const int signals[] = {SIGUSR1, SIGTRAP, SIGILL, SIGSEGV, SIGBUS, SIGFPE};
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	size_t i;

	sigemptyset(&sa.sa_mask);
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		assert_int_equal(sigaction(signals[i], &sa, NULL), 0);
}

/* Enters the page at run.offset with the registers run.in. */
static void enter(unsigned int offset)
{
	memset(list, 0, ELISA_PAGE_SIZE);
	list[ELISA_SLOT_DEFAULT] = 0x111101e;
	list[ELISA_SLOT_GATE] = 0x222201e;
	list[ELISA_SLOT_TRUSTED] = TRUSTED_EPTP;
	memcpy(list_copy, list, sizeof(list_copy));
	run.offset = offset;
	run.steps = 0;
	run.armed = false;
	run.wrong = NULL;
	run.signal = 0;
	raise(SIGUSR1);
	runs++;
	steps += run.steps;
	if (run.wrong)
		fail_msg("entered at %#x: %s, at rip %#lx", offset, run.wrong, run.rip);
	/* VMFUNC is #UD where there is none; SIGTRAP is our int3. */
	if (run.armed) {
		assert_int_equal(run.end_rip, ELISA_GATE_VA + AT_VMFUNC);
		assert_int_equal(run.signal, SIGILL);
		assert_int_equal(run.end_rcx, ELISA_SLOT_TRUSTED);
	}
	/* SIGBUS: one askew decoding is LEAVE, which reads through %rbp. */
	if (run.signal != SIGILL && run.signal != SIGTRAP && run.signal != SIGSEGV &&
	    run.signal != SIGBUS)
		fail_msg("entered at %#x: signal %d at rip %#lx", offset, run.signal, run.end_rip);
}

enum pattern { ARENA, LIST, SLOT, GATE, SMALL, RANDOM, MIXED, PATTERNS };

static greg_t value(enum pattern pattern)
{
	uint64_t r = (uint64_t)random() << 33 ^ (uint64_t)random() << 11 ^ random();

	switch (pattern) {
	case ARENA:
		return (uintptr_t)arena + ARENA_LEN / 4 + r % (ARENA_LEN / 2);
	case LIST:
		return ELISA_LIST_VA + r % ELISA_PAGE_SIZE;
	case SLOT:
		/* With a displacement of 0xcccccccc, sign-extended, it would hit a slot. */
		return ELISA_LIST_VA + 0x33333334 + 8 * (r % 512) + (r >> 60);
	case GATE:
		return ELISA_GATE_VA + r % ELISA_PAGE_SIZE;
	case SMALL:
		return r % 512;
	case MIXED:
		return value(r >> 59 & 3);
	default:
		return r;
	}
}

static void test_every_offset(void **state)
{
	enum pattern pattern;
	unsigned int offset, round, armed = 0;
	size_t i;

	install();
	srandom(1);
	for (round = 0; round < 3 * PATTERNS; round++) {
		pattern = round % PATTERNS;
		for (offset = 0; offset < ELISA_PAGE_SIZE; offset++) {
			for (i = 0; i < ARRAY_SIZE(gprs); i++)
				run.in[i] = value(pattern);
			enter(offset);
			armed += run.armed;
			/* Only the first two instructions lead to the store. */
			if (run.armed && offset != ELISA_GATE_OFFSET && offset != AT_STORE)
				fail_msg("entered at %#x, it armed the slot", offset);
		}
	}
	assert_int_equal(armed, 2 * round);
	print_message("%lu entries, %lu instructions, armed by the store alone %u times\n", runs,
		      steps, armed);
}

/* Entered as a guest's VMFUNC enters it. */
static void test_proper_entry(void **state)
{
	size_t i;

	install();
	for (i = 0; i < ARRAY_SIZE(gprs); i++)
		run.in[i] = value(RANDOM);
	enter(ELISA_GATE_OFFSET);
	assert_true(run.armed);
	assert_int_equal(run.end_rax, 0);
	assert_int_equal(run.end_rcx, ELISA_SLOT_TRUSTED);
	assert_int_equal(run.steps, 4);
}

/* The check itself: a gate that stores through a register must be caught. */
static void test_bad_gate_is_caught(void **state)
{
	static const uint8_t bad[] = {0xc6, 0x00, 0x1e, 0xcc}; /* movb $0x1e, (%rax) */
	uint8_t *page = (uint8_t *)ELISA_GATE_VA;
	size_t i;

	install();
	assert_int_equal(mprotect(page, ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE), 0);
	memcpy(page + 0x100, bad, sizeof(bad));
	assert_int_equal(mprotect(page, ELISA_PAGE_SIZE, PROT_READ | PROT_EXEC), 0);
	for (i = 0; i < ARRAY_SIZE(gprs); i++)
		run.in[i] = (uintptr_t)&list[ELISA_SLOT_TRUSTED];
	memset(list, 0, ELISA_PAGE_SIZE);
	list[ELISA_SLOT_TRUSTED] = TRUSTED_EPTP;
	memcpy(list_copy, list, sizeof(list_copy));
	run.offset = 0x100;
	run.steps = 0;
	run.armed = false;
	run.wrong = NULL;
	raise(SIGUSR1);
	assert_non_null(run.wrong);
	assert_string_equal(run.wrong, "the slot was armed by another instruction");
}

/* Bytes: nothing but int3 and the sixteen of the gate; nothing but int3 and code in the stubs. */
static void test_bytes(void **state)
{
	static const uint8_t vmfunc[] = {0x0f, 0x01, 0xd4};
	unsigned int i;

	for (i = 0; i < ELISA_PAGE_SIZE; i++)
		if (i < ELISA_GATE_OFFSET || i >= ELISA_ENTRY_OFFSET)
			assert_int_equal(elisa_gate_page[i], 0xcc);
		else
			assert_int_not_equal(elisa_gate_page[i], 0);
	assert_memory_equal(elisa_gate_page + AT_VMFUNC, vmfunc, sizeof(vmfunc));
	for (i = 0; i < ELISA_ENTRY_OFFSET; i++)
		assert_int_equal(elisa_entry_page[i], 0xcc);
	assert_memory_equal(elisa_entry_page + ELISA_PAGE_SIZE - sizeof(vmfunc), vmfunc,
			    sizeof(vmfunc));
	/* One VMFUNC in each page, at whatever alignment. */
	for (i = 0; i + sizeof(vmfunc) < ELISA_PAGE_SIZE; i++) {
		assert_int_not_equal(memcmp(elisa_entry_page + i, vmfunc, sizeof(vmfunc)), 0);
		if (i != AT_VMFUNC)
			assert_int_not_equal(memcmp(elisa_gate_page + i, vmfunc, sizeof(vmfunc)),
					     0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_proper_entry),
		cmocka_unit_test(test_every_offset),
		cmocka_unit_test(test_bad_gate_is_caught),
	};

	return cmocka_run_group_tests_name("gate", tests, setup, NULL);
}
