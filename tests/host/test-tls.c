/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Thread-local variables of shared objects, inside: a forked child makes its address space that of
 * the trusted context (what is not exported is closed, copies are put in their places) and calls a
 * library's function as a parked thread. A later dlopen() must not matter.
 *
 *	test-host-tls EARLY.so LATE.so
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "example.h"
#include "model.h"
#include "tls-object.h"

#define PAGE   ((uintptr_t)ELISA_PAGE_SIZE)
#define RANGES 1024

typedef int (*object_fn)(enum tls_what what);

static const char *paths[2];
static struct elisa_host *host;
static struct elisa_ctx *ctx;
static object_fn early;

static object_fn load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	object_fn fn = handle ? (object_fn)(uintptr_t)dlsym(handle, "tls_object") : NULL;

	if (!fn)
		print_message("%s\n", dlerror());
	assert_non_null(fn);
	return fn;
}

static int setup(void **state)
{
	model_reset();
	assert_int_equal(elisa_host_open_with(&model_ops, &host), 0);
	assert_int_equal(elisa_ctx_create(host, elisa_example_service()->entry, &ctx), 0);
	if (!early)
		early = load(paths[0]);
	assert_int_equal(elisa_export_object(ctx, (void *)(uintptr_t)early), 0);
	return 0;
}

static int teardown(void **state)
{
	elisa_ctx_destroy(ctx);
	elisa_host_close(host);
	return 0;
}

/* ---- being inside ---- */

struct range {
	uintptr_t start, end;
};
static struct range closed[RANGES];
static struct elisa_exported copies[8];
static size_t closed_count, copy_count;

static int plan_export(const struct elisa_exported *e, void *arg)
{
	struct range *free_ = arg;

	/* What lies between the exports. */
	if (e->addr > free_->start) {
		closed[closed_count].start = free_->start;
		closed[closed_count++].end = e->addr;
	}
	free_->start = e->addr + e->len;
	if (e->memory != e->addr)
		copies[copy_count++] = *e;
	return 0;
}

static void leave_open(uintptr_t start, uintptr_t end)
{
	size_t i, count = closed_count;

	for (i = 0; i < count; i++) {
		struct range *r = &closed[i];

		if (start >= r->end || end <= r->start)
			continue;
		closed[closed_count].start = end > r->start ? end : r->start;
		closed[closed_count++].end = r->end;
		if (start < r->end)
			r->end = start;
	}
}

/* Everything but exports, this program, its stack, and what the kernel itself writes to. */
static void plan(void)
{
	struct range rest = {PAGE, 1ULL << 47};
	char line[512], name[256];
	uintptr_t start, end, fs, bss = (uintptr_t)closed;
	FILE *f = fopen("/proc/self/maps", "re");

	closed_count = copy_count = 0;
	assert_int_equal(elisa_ctx_exports(ctx, plan_export, &rest), 0);
	closed[closed_count++] = rest;
	__asm__("mov %%fs:0, %0" : "=r"(fs));
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		name[0] = 0;
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %*s %255s", &start, &end,
			   name) < 2)
			continue;
		if ((fs >= start && fs < end) || (bss >= start && bss < end) ||
		    strstr(name, "test-host-tls") || !strcmp(name, "[stack]") ||
		    !strcmp(name, "[vdso]"))
			leave_open(start, end);
	}
	fclose(f);
}

static long raw_call(long number, uintptr_t a1, uintptr_t a2, uintptr_t a3, uintptr_t a4)
{
	register uintptr_t r10 __asm__("r10") = a4;
	register uintptr_t r8 __asm__("r8") = -1;
	register uintptr_t r9 __asm__("r9") = 0;
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(number), "D"(a1), "S"(a2), "d"(a3), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return rc;
}

/* No call of libc from here on. */
static void become_inside(void)
{
	size_t i, j;

	for (i = 0; i < copy_count; i++) {
		const struct elisa_exported *c = &copies[i];

		raw_call(SYS_mmap, c->addr, c->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
		for (j = 0; j < c->len / 8; j++)
			((volatile uint64_t *)c->addr)[j] = ((uint64_t *)c->memory)[j];
		raw_call(SYS_mprotect, c->addr, c->len, PROT_READ, 0);
	}
	for (i = 0; i < closed_count; i++)
		if (closed[i].end > closed[i].start)
			raw_call(SYS_munmap, closed[i].start, closed[i].end - closed[i].start, 0,
				 0);
}

/* As the parked thread, on its stack. */
static int call_as(const struct park *p, object_fn fn, enum tls_what what)
{
	uint64_t fs;
	int rc;

	__asm__ volatile("rdfsbase %1\n\t"
			 "wrfsbase %2\n\t"
			 "mov %%rsp, %%rbx\n\t"
			 "mov %3, %%rsp\n\t"
			 "call *%4\n\t"
			 "mov %%rbx, %%rsp\n\t"
			 "wrfsbase %1\n\t"
			 : "=a"(rc), "=&r"(fs)
			 : "r"(p->fs_base), "r"(p->stack), "r"(fn), "D"(what)
			 : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
	return rc;
}

/* The function's results of two calls are `first` and `first` + step. How the child ended. */
static int run_inside(const struct park *p, object_fn fn, enum tls_what what, int first, int step)
{
	struct park self = *p; /* that one is on the heap */
	int status;
	pid_t child;

	plan();
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		signal(SIGSEGV, SIG_DFL);
		become_inside();
		status = call_as(&self, fn, what) != first ||
			 call_as(&self, fn, what) != first + step;
		raw_call(SYS_exit_group, status, 0, 0, 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static struct park *start_park(void)
{
	struct park *p;

	assert_int_equal(park_start(&ctx->threads, &p), 0);
	assert_int_equal(
		ctx_export(ctx, (uintptr_t)park_shared(p), park_shared_len(p), ELISA_R | ELISA_W),
		0);
	return p;
}

static void stop_park(struct park *p)
{
	assert_int_equal(ctx_unexport(ctx, (uintptr_t)park_shared(p), park_shared_len(p)), 0);
	park_end(p);
}

static bool segv(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

/* ---- tests ---- */

/* Not exported, it faults: the test can fail. */
static void test_without(void **state)
{
	struct park *p = start_park();

	assert_true(segv(run_inside(p, early, TLS_NEXT, TLS_FIRST + 1, 1)));
	stop_park(p);
}

static void test_inside(void **state)
{
	struct park *p, *q;

	assert_int_equal(elisa_export_tls(ctx), 0);
	p = start_park();
	q = start_park();
	assert_int_equal(run_inside(p, early, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	assert_int_equal(run_inside(p, early, TLS_ZERO, 0, 1), 0);
	assert_int_equal(run_inside(p, early, TLS_ALIGNED, 1, 0), 0);
	assert_int_equal(run_inside(q, early, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	/* Threads' variables are their own: the last one's copy was the child's. */
	assert_int_equal(call_as(p, early, TLS_NEXT), TLS_FIRST + 1);
	assert_int_equal(call_as(q, early, TLS_NEXT), TLS_FIRST + 1);
	assert_int_equal(call_as(q, early, TLS_NEXT), TLS_FIRST + 2);
	stop_park(p);
	stop_park(q);
}

/* Each half is needed: closing either the copy of the generation or the code's page faults. */
static void test_parts(void **state)
{
	struct elisa_exported own[8] = {0};
	struct park *p;
	size_t i;

	assert_int_equal(elisa_export_tls(ctx), 0);
	p = start_park();
	plan();
	assert_int_equal(copy_count, 1);
	own[0] = copies[0];
	assert_int_equal(own[0].prot, ELISA_R);
	/* Nothing of the loader's own is in it. */
	for (i = 0; i < PAGE / 8; i++)
		if (&((uint64_t *)own[0].addr)[i] != ctx->threads.tls.generation)
			assert_int_equal(((uint64_t *)own[0].memory)[i], 0);
	assert_int_equal(elisa_unexport(ctx, (void *)own[0].addr, own[0].len), 0);
	assert_true(segv(run_inside(p, early, TLS_NEXT, TLS_FIRST + 1, 1)));
	assert_int_equal(elisa_export_at(ctx, (void *)own[0].addr, (void *)own[0].memory,
					 own[0].len, ELISA_R),
			 0);
	assert_int_equal(run_inside(p, early, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	stop_park(p);
}

/* Loading changes the generation for all; whoever is parked, and who parks later, is as before. */
static void test_load_later(void **state)
{
	uint64_t generation;
	struct park *p, *q;
	object_fn late;

	assert_int_equal(elisa_export_tls(ctx), 0);
	p = start_park();
	generation = *ctx->threads.tls.generation;
	late = load(paths[1]);
	assert_int_equal(late(TLS_NEXT), TLS_FIRST + 1);
	assert_int_not_equal(*ctx->threads.tls.generation, generation);
	q = start_park();
	assert_int_equal(run_inside(p, early, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	assert_int_equal(run_inside(q, early, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	/* The new one is not for inside, until that is said. */
	assert_int_equal(elisa_export_object(ctx, (void *)(uintptr_t)late), 0);
	assert_true(segv(run_inside(q, late, TLS_NEXT, TLS_FIRST + 1, 1)));
	stop_park(p);
	stop_park(q);
	assert_int_equal(elisa_export_tls(ctx), 0);
	p = start_park();
	assert_int_equal(run_inside(p, late, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	assert_int_equal(run_inside(p, early, TLS_NEXT, TLS_FIRST + 1, 1), 0);
	stop_park(p);
}

/* ---- hooks ---- */

static struct hook {
	int rc, begun, ended, seen;
} hook;

static int begin(void *arg)
{
	struct hook *h = arg;

	h->begun++;
	if (!h->rc)
		h->seen = early(TLS_NEXT);
	return h->rc;
}

static void end(void *arg)
{
	struct hook *h = arg;

	h->ended++;
	h->seen = early(TLS_NEXT);
}

/* What begin() has set is seen inside, and end() has the thread's own again. */
static void test_hooks(void **state)
{
	struct park *p;

	hook = (struct hook){0};
	assert_int_equal(elisa_export_tls(ctx), 0);
	assert_int_equal(elisa_ctx_thread(ctx, begin, end, &hook), 0);
	p = start_park();
	assert_int_equal(hook.begun, 1);
	assert_int_equal(hook.seen, TLS_FIRST + 1);
	assert_int_equal(run_inside(p, early, TLS_NEXT, TLS_FIRST + 2, 1), 0);
	assert_int_equal(call_as(p, early, TLS_NEXT), TLS_FIRST + 2);
	assert_int_equal(hook.ended, 0);
	stop_park(p);
	assert_int_equal(hook.ended, 1);
	assert_int_equal(hook.seen, TLS_FIRST + 2);
}

static void test_begin_fails(void **state)
{
	struct park *p;

	hook = (struct hook){.rc = -ENOSPC};
	assert_int_equal(elisa_ctx_thread(ctx, begin, end, &hook), 0);
	assert_int_equal(park_start(&ctx->threads, &p), -ENOSPC);
	assert_int_equal(hook.begun, 1);
	assert_int_equal(hook.ended, 0);
}

static void test_busy(void **state)
{
	struct elisa_vm vm = {.vcpu_count = 1};

	ctx->vms = &vm;
	assert_int_equal(elisa_export_tls(ctx), -EBUSY);
	assert_int_equal(elisa_ctx_thread(ctx, begin, end, &hook), -EBUSY);
	ctx->vms = NULL;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_without, setup, teardown),
		cmocka_unit_test_setup_teardown(test_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hooks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_begin_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_later, setup, teardown),
	};

	if (argc != 3)
		return 2;
	paths[0] = argv[1];
	paths[1] = argv[2];
	return cmocka_run_group_tests_name("thread-local variables", tests, NULL, NULL);
}
