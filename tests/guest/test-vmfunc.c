/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vmfunc transport where VMFUNC raises #UD: the guard, the code pages and the SIGILL handler's
 * manners. Built from the library's sources, so as to hold the transport open in spite of that.
 */
#include <cpuid.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <pthread.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../elisa-guest/internal.h"

static struct elisa_guest dummy = {.transport = &transport_vmfunc};

/* Inside each test: cmocka sets a SIGILL handler of its own after a set-up function. */
static void open_dummy(void)
{
	assert_int_equal(transport_vmfunc.open(&dummy, NULL, NULL), 0);
}

static void close_dummy(void)
{
	transport_vmfunc.close(&dummy);
}

static void open_says_not_attached(void **state)
{
	struct elisa_guest *guest;
	struct sigaction before, after;

	sigaction(SIGILL, NULL, &before);
	assert_int_equal(elisa_guest_open(NULL, ELISA_SERVICE_SWITCH, &guest), -ENOTCONN);
	assert_non_null(strstr(elisa_guest_error(), "elisactl attach"));
	assert_int_equal(elisa_guest_open("vmfunc", ELISA_SERVICE_SWITCH, &guest), -ENOTCONN);
	/* Nothing stays behind: neither the handler nor the pages. */
	sigaction(SIGILL, NULL, &after);
	assert_ptr_equal(before.sa_handler, after.sa_handler);
	assert_true(msync((void *)ELISA_GATE_VA, 4096, MS_ASYNC) && errno == ENOMEM);
}

static void bad_specs_are_refused(void **state)
{
	struct elisa_guest *guest;

	assert_int_equal(elisa_guest_open("vmfuncs", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("vmfunc:x", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("local:/tmp/x,ram=1", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("local:/tmp/x,what", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("local:/tmp/x,gate=", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("local:/tmp/x,gate=-1", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("local:/tmp/x,gate=1000001", 1, &guest), -EINVAL);
	assert_int_equal(elisa_guest_open("local:/tmp/x,gate=5ns", 1, &guest), -EINVAL);
	assert_non_null(strstr(elisa_guest_error(), "ram=BYTES"));
}

static void taken_address_is_told(void **state)
{
	struct elisa_guest *guest;
	void *p = mmap((void *)(ELISA_GATE_VA + 4096), 4096, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	assert_ptr_equal(p, (void *)(ELISA_GATE_VA + 4096));
	assert_int_equal(elisa_guest_open(NULL, ELISA_SERVICE_SWITCH, &guest), -EADDRINUSE);
	munmap(p, 4096);
}

/* Registers after a call, as no C code could see them. */
static int64_t raw_call(uint64_t target, uint64_t flags, uint64_t result, uint64_t *rdx,
			uint64_t *r11)
{
	register uint64_t r11_in __asm__("r11") = flags;
	uint64_t rdx_io = result;
	int64_t rax;

	__asm__ volatile("subq	$128, %%rsp\n\tcall	*%3\n\taddq	$128, %%rsp"
			 : "=&a"(rax), "+d"(rdx_io), "+r"(r11_in)
			 : "r"(target)
			 : "rcx", "rsi", "rdi", "r8", "r9", "r10", "memory", "cc");
	*rdx = rdx_io;
	*r11 = r11_in;
	return rax;
}

static void calls_keep_failing_softly(void **state)
{
	struct elisa_call call;
	uint64_t rdx, r11;

	open_dummy();
	assert_int_equal(transport_vmfunc.call(&dummy, &call), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(elisa_call(&call, ELISA_OP_NOP, 1, 2, 3), -ELISA_ENOTCONN);
	assert_int_equal(raw_call(ELISA_CALL_VA, 0x55, 0x66, &rdx, &r11), -ELISA_ENOTCONN);
	assert_int_equal(rdx, 0);
	assert_int_equal(r11, 0);
	close_dummy();
}

/* One call for all: nothing is handed out, nothing can run out. */
static void callers_are_free(void **state)
{
	struct elisa_call one, other;

	open_dummy();
	assert_int_equal(elisa_guest_call(&dummy, &one), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(elisa_guest_call_new(&dummy, &other), 0);
	assert_true(one.fn == other.fn && one.cookie == other.cookie);
	assert_int_equal(elisa_call(&other, ELISA_OP_NOP, 0, 0, 0), -ELISA_ENOTCONN);
	elisa_guest_call_del(&dummy, &other);
	assert_null(other.fn);
	close_dummy();
}

static void return_page_unpacks(void **state)
{
	uint32_t a, b = 0, c = 0, d;
	bool hypervisor;
	uint64_t rdx, r11;

	open_dummy();
	assert_int_equal(raw_call(ELISA_RETURN_VA, 0, 12345, &rdx, &r11), 12345);
	assert_int_equal(rdx | r11, 0);
	assert_int_equal(raw_call(ELISA_RETURN_VA, 2, (uint64_t)-22, &rdx, &r11), -22);
	assert_int_equal(rdx | r11, 0);
	/* With an event parked it makes a hypercall, which needs a VT-x hypervisor to refuse it. */
	__get_cpuid(1, &a, &b, &c, &d);
	hypervisor = c & 1u << 31;
	__get_cpuid(0, &a, &b, &c, &d);
	if (hypervisor && b == signature_INTEL_ebx)
		assert_int_equal(raw_call(ELISA_RETURN_VA, ELISA_FLAG_EVENT, 777, &rdx, &r11), 777);
	assert_int_equal(rdx | r11, 0);
	close_dummy();
}

static void all_else_is_int3(void **state)
{
	const uint8_t *p = (const uint8_t *)ELISA_GATE_VA;
	const uint8_t entry[] = {0x31, 0xc0, 0xb9, ELISA_SLOT_GATE, 0, 0, 0, 0x0f, 0x01, 0xd4};

	open_dummy();
	assert_memory_equal((const void *)ELISA_CALL_VA, entry, sizeof(entry));
	for (uint64_t i = 0; i < 2 * ELISA_PAGE_SIZE; i++)
		if ((i < ELISA_CALL_VA - ELISA_GATE_VA || i >= ELISA_GATE_OFFSET) &&
		    (i < ELISA_PAGE_SIZE || i >= ELISA_PAGE_SIZE + 24))
			assert_int_equal(p[i], 0xcc);
	close_dummy();
}

/* On an alternate stack, with SIGILL's own stack set: as in a program of a managed language. */
static void works_on_an_alternate_stack(void **state)
{
	static char stack[65536];
	const stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	const stack_t off = {.ss_flags = SS_DISABLE};
	struct elisa_call call;

	open_dummy();
	assert_int_equal(sigaltstack(&ss, NULL), 0);
	transport_vmfunc.call(&dummy, &call);
	assert_int_equal(elisa_call(&call, ELISA_OP_NOP, 0, 0, 0), -ELISA_ENOTCONN);
	assert_int_equal(sigaltstack(&off, NULL), 0);
	close_dummy();
}

static volatile int foreign;

static void skip_ud2(int sig, siginfo_t *info, void *context)
{
	foreign++;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void other_faults_go_to_the_former_handler(void **state)
{
	struct sigaction mine = {.sa_sigaction = skip_ud2, .sa_flags = SA_SIGINFO}, now;
	struct elisa_call call;

	sigaction(SIGILL, &mine, NULL);
	assert_int_equal(transport_vmfunc.open(&dummy, NULL, NULL), 0);
	transport_vmfunc.call(&dummy, &call);
	foreign = 0;
	__asm__ volatile("ud2");
	assert_int_equal(foreign, 1);
	assert_int_equal(elisa_call(&call, ELISA_OP_NOP, 0, 0, 0), -ELISA_ENOTCONN);
	assert_int_equal(foreign, 1);
	transport_vmfunc.close(&dummy);
	sigaction(SIGILL, NULL, &now);
	assert_ptr_equal(now.sa_sigaction, skip_ud2);
	signal(SIGILL, SIG_DFL);
}

static void other_faults_still_kill(void **state)
{
	int status;
	pid_t child = fork();

	if (!child) {
		signal(SIGILL, SIG_DFL);
		if (transport_vmfunc.open(&dummy, NULL, NULL))
			_exit(1);
		__asm__ volatile("ud2");
		_exit(2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGILL);
}

static void *call_much(void *arg)
{
	struct elisa_call call;
	long bad = 0;

	transport_vmfunc.call(&dummy, &call);
	for (int i = 0; i < 2000; i++)
		bad += elisa_call(&call, ELISA_OP_NOP, 0, 0, 0) != -ELISA_ENOTCONN;
	return (void *)bad;
}

static void threads_do_not_disturb_each_other(void **state)
{
	pthread_t t[4];

	open_dummy();
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, call_much, NULL), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;

		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	close_dummy();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_says_not_attached),
		cmocka_unit_test(bad_specs_are_refused),
		cmocka_unit_test(taken_address_is_told),
		cmocka_unit_test(calls_keep_failing_softly),
		cmocka_unit_test(callers_are_free),
		cmocka_unit_test(return_page_unpacks),
		cmocka_unit_test(all_else_is_int3),
		cmocka_unit_test(works_on_an_alternate_stack),
		cmocka_unit_test(other_faults_go_to_the_former_handler),
		cmocka_unit_test(other_faults_still_kill),
		cmocka_unit_test(threads_do_not_disturb_each_other),
	};

	/* In an attached VM the calls would go through: nothing to test here then. */
	if (!transport_vmfunc.open(&dummy, NULL, NULL)) {
		struct elisa_call call;
		int64_t r;

		transport_vmfunc.call(&dummy, &call);
		r = elisa_call(&call, ELISA_OP_NOP, 0, 0, 0);
		transport_vmfunc.close(&dummy);
		if (r != -ELISA_ENOTCONN) {
			print_message("SKIP: this VM is attached\n");
			return 77;
		}
	} else {
		print_message("SKIP: no AVX or FSGSBASE\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
