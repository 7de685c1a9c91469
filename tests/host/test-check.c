/* SPDX-License-Identifier: BSD-3-Clause */
/* elisa_check(): a service that is as it should be, and each way in which one may not be. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <elisa/check.h>
#include "check-object.h"
#include "example.h"
#include "model.h"
#include "tracee.h"

#define PAGE ((size_t)ELISA_PAGE_SIZE)
/* Where nothing else is. */
#define AREA 0x520000000000ULL

static struct elisa_host *host;
static struct elisa_ctx *ctx;
static struct elisa_check_result result;
static int64_t *shared; /* a page, really shared with the copy */
static struct elisa_exported shared_export;
static struct {
	enum elisa_found kind;
	uint64_t addr;
	char text[640];
} found[256];
static size_t found_count;

static void note(const struct elisa_finding *f, void *arg)
{
	found[found_count].kind = f->kind;
	found[found_count].addr = f->addr;
	snprintf(found[found_count].text, sizeof(found[0].text), "%s", f->text);
	found_count++;
}

static void *address(const char *symbol)
{
	void *p = dlsym(RTLD_DEFAULT, symbol);

	assert_non_null(p);
	return p;
}

static int setup(void **state)
{
	model_reset();
	assert_int_equal(elisa_host_open_with(&model_ops, &host), 0);
	assert_int_equal(elisa_ctx_create(host, elisa_example_service()->entry, &ctx), 0);
	assert_int_equal(elisa_export_object(ctx, address("check_service")), 0);
	assert_true(elisa_export_object_as(ctx, address("check_library_get"),
					   ELISA_OBJECT_TEXT | ELISA_OBJECT_CONST |
						   ELISA_OBJECT_DATA_R) > 0);
	shared = mmap((void *)AREA, PAGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	assert_true(shared != MAP_FAILED);
	shared_export = (struct elisa_exported){AREA, AREA, PAGE, ELISA_R | ELISA_W | ELISA_DEVICE};
	return 0;
}

static int teardown(void **state)
{
	munmap(shared, PAGE);
	elisa_ctx_destroy(ctx);
	elisa_host_close(host);
	return 0;
}

static struct elisa_check check_of(enum check_what what, uint64_t arg)
{
	found_count = 0;
	return (struct elisa_check){
		.fn = (void (*)(void))address("check_service"),
		.args = {what, arg},
		.ctx = ctx,
		.set = &shared_export,
		.count = 1,
		.found = note,
	};
}

static int run(struct elisa_check c)
{
	int rc = elisa_check(&c, &result);

	/* Nothing is left behind. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	assert_int_equal(rc, found_count);
	return rc;
}

static int run_both(enum check_what what, uint64_t arg)
{
	struct elisa_check c = check_of(what, arg);

	c.flags = ELISA_CHECK_STEP;
	return run(c);
}

/* Finding `i` is of this kind, and its text has both parts. */
static void assert_found(size_t i, enum elisa_found kind, const char *who, const char *what)
{
	if (i >= found_count)
		fail_msg("only %zu findings, not %s", found_count, elisa_found_name(kind));
	if (found[i].kind != kind || !strstr(found[i].text, who) || !strstr(found[i].text, what))
		fail_msg("%s: %s", elisa_found_name(found[i].kind), found[i].text);
}

/* ---- what is right ---- */

static void test_good(void **state)
{
	assert_int_equal(run_both(DO_GOOD, 0), 0);
	assert_true(result.complete);
	assert_int_equal(result.value, 42);
	assert_in_range(result.instructions, 10, 200);
	assert_int_equal(result.longest, result.instructions);
	assert_in_range(result.stack, 8, 512);
}

static void test_private(void **state)
{
	/* Each run begins with what is here, and changes nothing of it. */
	assert_int_equal(run_both(DO_PRIVATE, 0), 0);
	assert_int_equal(result.value, 0);
	assert_int_equal(run_both(DO_PRIVATE, 0), 0);
	assert_int_equal(result.value, 0);
}

static void test_shared(void **state)
{
	shared[0] = 10;
	assert_int_equal(run(check_of(DO_ADD, AREA)), 0);
	assert_int_equal(result.value, 11);
	assert_int_equal(shared[0], 11);
}

static void test_thread(void **state)
{
	errno = 0;
	/* Sanitizers have a __tls_get_addr() of their own. */
	if (elisa_export_tls(ctx) == -ENOTSUP)
		skip();
	run_both(DO_ERRNO, 0);
	assert_found(0, ELISA_FOUND_EXECUTE, "calls libc.so.6+", "(__errno_location)");
	assert_int_equal(found_count, 2);
	assert_found(1, ELISA_FOUND_READ, "(__errno_location", "libc.so.6+");
	assert_true(result.complete);
	assert_int_equal(errno, ECHILD); /* of run() */
}

static int64_t *copy_original;

static void test_copy(void **state)
{
	int64_t *here = mmap((void *)(AREA + GIB), PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	copy_original =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(here != MAP_FAILED && copy_original != MAP_FAILED);
	here[3] = 1;
	copy_original[3] = 1234;
	assert_int_equal(elisa_export_at(ctx, here, copy_original, PAGE, ELISA_R), 0);
	assert_int_equal(run_both(DO_READ, (uintptr_t)&here[3]), 0);
	assert_int_equal(result.value, 1234);
	assert_int_equal(run_both(DO_WRITE, (uintptr_t)&here[3]), 1);
	assert_found(0, ELISA_FOUND_READ_ONLY, "(check_service", "anonymous memory at 0x5200");
	assert_int_equal(here[3], 1);
	assert_int_equal(copy_original[3], 1234);
	munmap(here, PAGE);
	munmap(copy_original, PAGE);
}

/* ---- each export that is missing is named ---- */

struct export_list {
	struct elisa_exported set[32];
	size_t count;
};

static int list_export(const struct elisa_exported *e, void *arg)
{
	struct export_list *list = arg;

	assert_true(list->count < ARRAY_SIZE(list->set));
	list->set[list->count++] = *e;
	return 0;
}

static void leave_out(const char *symbol, enum elisa_found kind, const char *who, const char *what)
{
	struct export_list list = {.count = 0};
	struct elisa_exported *gone = NULL;
	uintptr_t addr = (uintptr_t)address(symbol);
	struct elisa_check c = check_of(DO_GOOD, 0);
	size_t i;

	assert_int_equal(elisa_ctx_exports(ctx, list_export, &list), 0);
	for (i = 0; i < list.count; i++)
		if (addr - list.set[i].addr < list.set[i].len)
			gone = &list.set[i];
	assert_non_null(gone);
	*gone = list.set[--list.count];
	c.ctx = NULL;
	c.set = list.set;
	c.count = list.count;
	c.flags = ELISA_CHECK_STEP;
	run(c);
	if (found_count != 1)
		print_message("%s; %s\n", found[0].text, found[1].text);
	assert_int_equal(found_count, 1);
	assert_found(0, kind, who, what);
	/* And all else was found to be there. */
	assert_true(result.complete);
	assert_int_equal(result.value, 42);
}

static void test_missing(void **state)
{
	leave_out("check_service", ELISA_FOUND_EXECUTE, "the checker calls ", "(check_service)");
	leave_out("check_service_constants", ELISA_FOUND_READ, "(check_service",
		  "reads libcheck-service.so+");
	leave_out("check_service_state", ELISA_FOUND_WRITE, "(check_service",
		  "(check_service_state+0x1000)");
	leave_out("check_library_get", ELISA_FOUND_EXECUTE, "(check_service",
		  "(check_library_get)");
	leave_out("check_library_table", ELISA_FOUND_READ, "(check_library_get+",
		  "reads libcheck-library.so+");
	assert_non_null(strstr(found[0].text, "(check_library_table+0x8), which is not exported"));
}

static void test_all_in_one_run(void **state)
{
	struct elisa_check c = check_of(DO_GOOD, 0);

	c.ctx = NULL;
	c.count = 0;
	c.flags = ELISA_CHECK_STEP;
	run(c);
	assert_true(found_count >= 7); /* text twice, GOT twice, constants, two variables */
	assert_true(result.complete);
	assert_int_equal(result.value, 42);
}

static void test_access_kinds(void **state)
{
	static int64_t outside = 3;
	uintptr_t addr = (uintptr_t)&outside;

	assert_int_equal(run_both(DO_READ, addr), 1);
	assert_found(0, ELISA_FOUND_READ, " reads test-host-check+", ", which is not exported");
	assert_int_equal(found[0].addr, addr);
	assert_int_equal(result.value, 3);
	assert_int_equal(run_both(DO_WRITE, addr), 1);
	assert_found(0, ELISA_FOUND_WRITE, " writes test-host-check+", ", which is not exported");
	assert_int_equal(run_both(DO_ADD, addr), 1);
	assert_found(0, ELISA_FOUND_WRITE, " writes test-host-check+", ", which is not exported");
	assert_int_equal(result.value, 4);
	assert_int_equal(outside, 3);
	assert_int_equal(run_both(DO_LIBRARY_WRITE, 0), 1);
	assert_found(0, ELISA_FOUND_READ_ONLY, "(check_service",
		     "(check_library_calls), which is exported for reading");
	assert_int_equal(*(int64_t *)address("check_library_calls"), 0);
	/* Data that is exported, but no code. */
	assert_int_equal(run_both(DO_JUMP, AREA), 1);
	assert_found(0, ELISA_FOUND_CRASH, "crashes by a jump to ", "/dev/zero");
	assert_false(result.complete);
}

static void test_crash(void **state)
{
	assert_int_equal(run_both(DO_WRITE, 16), 1);
	assert_found(0, ELISA_FOUND_CRASH, "(check_service", "0x10 (nothing is mapped there)");
	assert_false(result.complete);
	/* Constants cannot be written here, either. */
	assert_int_equal(run_both(DO_WRITE, (uintptr_t)address("check_service_constants")), 1);
	assert_found(0, ELISA_FOUND_CRASH, "(check_service", "(check_service_constants)");
	/* An address that is none. */
	assert_int_equal(run_both(DO_READ, 1ULL << 63), 1);
	assert_found(0, ELISA_FOUND_CRASH, "(check_service", "crashes (SIGSEGV)");
}

/* ---- what is forbidden ---- */

static void test_syscall(void **state)
{
	assert_int_equal(run_both(DO_SYSCALL, 0), 1);
	assert_found(0, ELISA_FOUND_SYSCALL, "libcheck-service.so+", "makes system call 110");
	assert_int_equal(found[0].addr, 110);
	/* It was not made. */
	assert_int_equal(result.value, -ENOSYS);
	assert_true(result.complete);
	assert_int_equal(run_both(DO_INT80, 0), 2);
	assert_found(0, ELISA_FOUND_SYSCALL, "libcheck-service.so+", "makes system call 20");
	assert_found(1, ELISA_FOUND_INSTRUCTION, "libcheck-service.so+", "not for inside: int");
	assert_int_equal(result.value, -ENOSYS);
	run_both(DO_LIBC, 0);
	assert_found(0, ELISA_FOUND_EXECUTE, "libcheck-service.so+", "(getppid)");
	assert_found(1, ELISA_FOUND_SYSCALL, "(getppid", "makes system call 110");
}

static void test_instruction(void **state)
{
	static const struct {
		enum check_what what;
		const char *name;
		bool seen_at_speed, goes_on;
	} all[] = {
		{DO_CPUID, "inside: cpuid", false, true},
		{DO_IN, "inside: in/out", true, true},
		{DO_HLT, "inside: hlt", true, true},
		{DO_UD2, "inside: ud2", true, true},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		assert_int_equal(run_both(all[i].what, 0), 1);
		assert_found(0, ELISA_FOUND_INSTRUCTION, "libcheck-service.so+", all[i].name);
		assert_int_equal(result.complete, all[i].goes_on);
		assert_int_equal(run(check_of(all[i].what, 0)), all[i].seen_at_speed);
	}
	/* Whether this CPU has it, or not. */
	assert_int_equal(run_both(DO_AVX512, 0), 1);
	assert_found(0, ELISA_FOUND_INSTRUCTION, "libcheck-service.so+", "inside: AVX-512");
}

static void test_endless(void **state)
{
	struct elisa_check c = check_of(DO_LOOP, 0);

	c.max_ms = 100;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_ENDLESS, "(check_service", "is still running after 100 ms");
	assert_false(result.complete);
	/* Each system call takes longer than the loop around it. */
	c.args[0] = DO_SYSCALLS;
	found_count = 0;
	assert_int_equal(run(c), 2);
	assert_found(0, ELISA_FOUND_SYSCALL, "libcheck-service.so+", "system call 110");
	assert_found(1, ELISA_FOUND_ENDLESS, "libcheck-service.so+", "still running");
}

static void test_budget(void **state)
{
	const void *calls[] = {address("check_call")};
	struct elisa_check c = check_of(DO_CALLS, 100);

	/* As a whole too long, although each call is short. */
	c.flags = ELISA_CHECK_STEP;
	c.max_call = 5000;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_ENDLESS, "libcheck-service.so+", "more than 5000 instructions");
	assert_false(result.complete);
	c.calls = calls;
	c.call_count = 1;
	found_count = 0;
	assert_int_equal(run(c), 0);
	assert_true(result.complete);
	assert_in_range(result.longest, 200, 1000);
	assert_in_range(result.instructions, 100 * result.longest, 120 * result.longest);
	c.max_call = 150;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_ENDLESS, "(check_call", "more than 150 instructions");
	/* To end the stepping early is no finding, but not complete. */
	c.max_call = 5000;
	c.max_steps = 3000;
	found_count = 0;
	assert_int_equal(run(c), 0);
	assert_false(result.complete);
	assert_in_range(result.instructions, 3000, 3001);
}

/* All runs, but only some calls are stepped through: the first, and some later ones. */
static void test_samples(void **state)
{
	const void *calls[] = {address("check_library_get"), address("check_call")};
	struct elisa_check c = check_of(DO_CALLS, 200000);

	c.flags = ELISA_CHECK_STEP;
	c.calls = calls;
	c.call_count = ARRAY_SIZE(calls);
	c.samples = 40;
	assert_int_equal(run(c), 0);
	assert_true(result.complete);
	assert_in_range(result.longest, 200, 1000);
	assert_int_equal(result.instructions % result.longest, 0);
	assert_in_range(result.instructions / result.longest, 12, 40);
	/* Fewer than there are samples; not all, since each takes a while to begin. */
	c.args[1] = 8;
	assert_int_equal(run(c), 0);
	assert_true(result.complete);
	assert_int_equal(result.instructions, 8 * result.longest);
	/* What is wrong in a call is found at once, all else at full speed. */
	c.calls = (const void *[]){address("check_service")};
	c.call_count = 1;
	c.args[0] = DO_CPUID;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_INSTRUCTION, "libcheck-service.so+", "inside: cpuid");
	assert_true(result.complete);
	c.call_count = 100;
	assert_int_equal(elisa_check(&c, &result), -EINVAL);
}

static void test_stack(void **state)
{
	struct elisa_check c = check_of(DO_DEEP, 4096);

	c.max_stack = 8192;
	assert_int_equal(run(c), 0);
	c.flags = ELISA_CHECK_STEP;
	assert_int_equal(run(c), 0);
	assert_in_range(result.stack, 4096, 8192);
	c.args[1] = 20000;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_STACK, "libcheck-service.so+", "more than 8192 bytes of stack");
	assert_true(result.complete);
	assert_in_range(result.stack, 20000, 40000);
	/* Not stepped: known to the page. */
	c.flags = 0;
	found_count = 0;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_STACK, "libcheck-service.so+", "more than 8192 bytes of stack");
	assert_true(result.complete);
	/* Through all of it, and the guard page. */
	c.args[1] = 1 << 20;
	found_count = 0;
	assert_int_equal(run(c), 1);
	assert_found(0, ELISA_FOUND_STACK, "libcheck-service.so+", "more than 8192 bytes of stack");
	assert_false(result.complete);
	c.max_stack = 64 << 10;
	assert_int_equal(elisa_check(&c, &result), -EINVAL);
}

struct code {
	const char *name;
	size_t size;
	char bytes[12];
};

static void test_decoder(void **state)
{
	/* Assembled by GNU as. */
	static const struct code all[] = {
		{"cpuid", 2, "\x0f\xa2"},
		{"in/out", 1, "\xec"},
		{"in/out", 2, "\xe6\x80"},
		{"in/out", 2, "\x66\xed"},
		{"ins/outs", 2, "\xf3\x6c"},
		{"hlt", 1, "\xf4"},
		{"rdmsr", 2, "\x0f\x32"},
		{"wrmsr", 2, "\x0f\x30"},
		{"xsetbv", 3, "\x0f\x01\xd1"},
		{"monitor", 3, "\x0f\x01\xc8"},
		{"mwait", 3, "\x0f\x01\xc9"},
		{"umwait", 4, "\xf2\x0f\xae\xf1"},
		{"tpause", 4, "\x66\x0f\xae\xf1"},
		{"umonitor", 4, "\xf3\x0f\xae\xf0"},
		{"vmcall", 3, "\x0f\x01\xc1"},
		{"vmfunc", 3, "\x0f\x01\xd4"},
		{"rdpkru", 3, "\x0f\x01\xee"},
		{"wrpkru", 3, "\x0f\x01\xef"},
		{"wrfsbase", 5, "\xf3\x48\x0f\xae\xd0"},
		{"sgdt", 8, "\x0f\x01\x04\x25\x78\x56\x34\x12"},
		{"sidt", 4, "\x0f\x01\x48\x08"},
		{"smsw", 3, "\x0f\x01\xe0"},
		{"mov of a control or debug register", 3, "\x0f\x20\xc0"},
		{"mov to a segment", 2, "\x8e\xd8"},
		{"far jmp", 6, "\xff\x2d\x01\x02\x03\x04"},
		{"syscall", 2, "\x0f\x05"},
		{"int", 2, "\xcd\x80"},
		{"xbegin", 6, "\xc7\xf8\x00\x00\x00\x00"},
		{"AVX-512", 0, "\x62\xa1\x75\x40\xef\xc9"}, /* vpxord %zmm17, %zmm17, %zmm17 */
		{"AVX-512", 0, "\xc5\xf8\x92\xc8"},	    /* kmovw %eax, %k1 */
		{"AVX-512", 0, "\xc4\xe3\xf9\x32\xc9\x01"}, /* kshiftlw $1, %k1, %k1 */
		{"AMX", 0, "\xc4\xe2\x78\x49\x00"},	    /* ldtilecfg (%rax) */
		{NULL, 0, "\xc5\xf9\xef\xc0"},		    /* vpxor %xmm0, %xmm0, %xmm0 */
		{NULL, 0, "\xc4\xe2\x7d\x59\xc0"},	    /* vpbroadcastq %xmm0, %ymm0 */
		{NULL, 0, "\x0f\x31"},			    /* rdtsc */
		{NULL, 0, "\xf3\x90"},			    /* pause */
		{NULL, 0, "\x0f\x01\xd0"},		    /* xgetbv */
		{NULL, 0, "\x0f\xae\xf0"},		    /* mfence */
		{NULL, 0, "\x0f\xae\xf8"},		    /* sfence */
		{NULL, 0, "\x66\x0f\xae\x38"},		    /* clflushopt (%rax) */
		{NULL, 0, "\xf3\x0f\x1e\xfa"},		    /* endbr64 */
		{NULL, 0, "\xf0\x48\x0f\xc7\x0f"},	    /* lock cmpxchg16b (%rdi) */
		{NULL, 0, "\xff\x25\x00\x00\x00\x00"},	    /* jmp *0(%rip) */
		{NULL, 0, "\x48\x8b\x04\x25\x28\x00\x00\x00"},
		{NULL, 0, "\x66\x0f\x38\x00\xc1"}, /* pshufb */
		{NULL, 0, "\xc6\x07\x01"},	   /* movb $1, (%rdi) */
	};
	uint8_t code[INT8_MAX];
	size_t i, len, size;

	for (i = 0; i < ARRAY_SIZE(all); i++) {
		const char *name;

		/* Whatever follows does not matter. */
		memset(code, 0x62, sizeof(code));
		memcpy(code, all[i].bytes, 8);
		name = insn_forbidden(code, 15, &size);
		if (!!name != !!all[i].name || (name && strcmp(name, all[i].name)) ||
		    size != all[i].size)
			fail_msg("%zu: %s, %zu bytes; not %s", i, name, size, all[i].name);
		/* Cut off: nothing is read beyond, and no size too large is told. */
		for (len = 0; len < 8; len++) {
			uint8_t *cut = malloc(len);

			memcpy(cut, code, len);
			insn_forbidden(cut, len, &size);
			assert_true(size <= len);
			free(cut);
		}
	}
}

/* ---- the copy and this process ---- */

static int quiet_pipe[2];

static void note_descriptors(const struct elisa_finding *f, void *arg)
{
	struct pollfd p = {.fd = quiet_pipe[0], .events = POLLIN};

	/* The copy is there now. If it had this one, too, there would be no end of file. */
	close(quiet_pipe[1]);
	poll(&p, 1, 0);
	*(bool *)arg = p.revents & POLLHUP;
	note(f, NULL);
}

static void test_no_descriptors(void **state)
{
	struct elisa_check c = check_of(DO_SYSCALL, 0);
	bool closed = false;

	assert_int_equal(pipe(quiet_pipe), 0);
	c.found = note_descriptors;
	c.arg = &closed;
	assert_int_equal(run(c), 1);
	assert_true(closed);
	close(quiet_pipe[0]);
}

static bool busy_stop;

static void *busy(void *arg)
{
	while (!__atomic_load_n(&busy_stop, __ATOMIC_RELAXED))
		free(malloc(100));
	return NULL;
}

/* Locks may be held while it is copied, signals blocked, or about to come. */
static void test_threads_and_signals(void **state)
{
	sigset_t all, before;
	pthread_t threads[2];
	size_t i;

	__atomic_store_n(&busy_stop, false, __ATOMIC_RELAXED);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, busy, NULL), 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	raise(SIGUSR1);
	for (i = 0; i < 10; i++) {
		assert_int_equal(run_both(DO_GOOD, 0), 0);
		assert_int_equal(run_both(DO_READ, (uintptr_t)&ctx), 1);
	}
	signal(SIGUSR1, SIG_IGN);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGUSR1, SIG_DFL);
	__atomic_store_n(&busy_stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	/* Also where nobody is told of children's ends. */
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(run_both(DO_GOOD, 0), 0);
	signal(SIGCHLD, SIG_DFL);
}

static int begins(void *arg)
{
	*(pthread_t *)arg = pthread_self();
	return 0;
}

static int refuses(void *arg)
{
	return -EUSERS;
}

static void test_thread_hook(void **state)
{
	struct elisa_check c = check_of(DO_GOOD, 0);
	pthread_t thread = pthread_self();

	assert_int_equal(elisa_ctx_thread(ctx, begins, NULL, &thread), 0);
	assert_int_equal(run(c), 0);
	assert_false(pthread_equal(thread, pthread_self()));
	assert_int_equal(elisa_ctx_thread(ctx, refuses, NULL, NULL), 0);
	assert_int_equal(elisa_check(&c, &result), -EUSERS);
}

/* The only child of that process; 0: none yet. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	pid_t child = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%d", &child) != 1)
		child = 0;
	if (f)
		fclose(f);
	return child;
}

static void test_dies_with_us(void **state)
{
	struct elisa_check c = check_of(DO_LOOP, 0);
	pid_t pid, child = 0;
	int status;

	c.max_ms = 60000;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		elisa_check(&c, &result);
		_exit(0);
	}
	while (!child)
		child = child_of(pid);
	/* It should be looping by then; in any case it is to end. */
	usleep(100000);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(waitpid(child, &status, __WALL), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

/* Huge pages are closed and opened as they are. */
static void test_huge_pages(void **state)
{
	const size_t huge = 2u << 20;
	char *p = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, -1, 0);

	if (p == MAP_FAILED) {
		print_message("no free huge pages (sysctl vm.nr_hugepages=2)\n");
		skip();
	}
	*(int64_t *)(p + huge + 8) = 99;
	assert_int_equal(run_both(DO_READ, (uintptr_t)p + huge + 8), 1);
	assert_found(0, ELISA_FOUND_READ, "(check_service", "which is not exported");
	assert_int_equal(result.value, 99);
	assert_int_equal(elisa_export(ctx, p + huge, huge, ELISA_R | ELISA_W), 0);
	assert_int_equal(run_both(DO_ADD, (uintptr_t)p + huge + 8), 0);
	assert_int_equal(run_both(DO_ADD, (uintptr_t)p), 1);
	munmap(p, 2 * huge);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_private, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_thread, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_in_one_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_access_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_syscall, setup, teardown),
		cmocka_unit_test_setup_teardown(test_instruction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_endless, setup, teardown),
		cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_samples, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stack, setup, teardown),
		cmocka_unit_test(test_decoder),
		cmocka_unit_test_setup_teardown(test_no_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_and_signals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_thread_hook, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dies_with_us, setup, teardown),
		cmocka_unit_test_setup_teardown(test_huge_pages, setup, teardown),
	};

	if (argc != 2 || !dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL)) {
		fprintf(stderr, "usage: test-host-check libcheck-service.so: %s\n",
			argc == 2 ? dlerror() : "which is it?");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
