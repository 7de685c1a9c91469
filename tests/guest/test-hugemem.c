/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory in hugetlbfs: addresses, exclusion, take-over after a death. Needs root, two free 2 MiB
 * hugepages and a hugetlbfs, which it mounts for itself if there is none.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../elisa-guest/internal.h"

static long free_pages(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");
	long n = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static void pages_have_addresses(void **state)
{
	const long before = free_pages();
	struct elisa_mem *mem;
	char *p;

	assert_int_equal(hugemem_alloc(NULL, "test-a", 3 << 20, &mem), 0);
	assert_int_equal(mem->len, 4 << 20);
	assert_int_equal(mem->page, 2 << 20);
	for (size_t i = 0; i < 2; i++)
		assert_true(mem->gpa[i] && !(mem->gpa[i] & ((2 << 20) - 1)));
	assert_true(mem->gpa[0] != mem->gpa[1]);
	p = mem->addr;
	assert_int_equal(elisa_mem_gpa(mem, p + (2 << 20) + 5), mem->gpa[1] + 5);
	for (size_t i = 0; i < mem->len; i++)
		assert_int_equal(p[i], 0);
	assert_int_equal(free_pages(), before - 2);
	hugemem_free(NULL, mem, false);
	assert_int_equal(free_pages(), before);
}

static void too_much_is_refused(void **state)
{
	const long before = free_pages();
	struct elisa_mem *mem;

	assert_int_equal(hugemem_alloc(NULL, "test-b", (size_t)(before + 1) << 21, &mem), -ENOMEM);
	assert_int_equal(free_pages(), before);
	/* The next one is more modest, and gets it. */
	assert_int_equal(hugemem_alloc(NULL, "test-b", 1, &mem), 0);
	assert_int_equal(mem->len, 2 << 20);
	hugemem_free(NULL, mem, false);
}

static void a_name_is_used_once(void **state)
{
	struct elisa_mem *mem, *again;

	assert_int_equal(hugemem_alloc(NULL, "test-d", 1, &mem), 0);
	assert_int_equal(hugemem_alloc(NULL, "test-d", 1, &again), -EBUSY);
	hugemem_free(NULL, mem, false);
	assert_int_equal(hugemem_alloc(NULL, "test-d", 1, &again), 0);
	hugemem_free(NULL, again, false);
}

static void a_dead_owners_pages_are_taken_over(void **state)
{
	const long before = free_pages();
	uint64_t gpas[2];
	struct elisa_mem *mem;
	int fds[2], status;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (!child) {
		if (hugemem_alloc(NULL, "test-e", 4 << 20, &mem) ||
		    write(fds[1], mem->gpa, sizeof(gpas)) != sizeof(gpas))
			_exit(1);
		memset(mem->addr, 0x55, mem->len);
		raise(SIGKILL);
	}
	assert_int_equal(read(fds[0], gpas, sizeof(gpas)), sizeof(gpas));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	/* The pages stay away from everybody else... */
	assert_int_equal(free_pages(), before - 2);
	/* ...until the next of that name gets the very same ones, all of them, zeroed. */
	assert_int_equal(hugemem_alloc(NULL, "test-e", 1, &mem), 0);
	assert_int_equal(mem->len, 4 << 20);
	assert_memory_equal(mem->gpa, gpas, sizeof(gpas));
	for (size_t i = 0; i < mem->len; i++)
		assert_int_equal(((char *)mem->addr)[i], 0);
	/* Left behind on purpose: the same. */
	hugemem_free(NULL, mem, true);
	assert_int_equal(free_pages(), before - 2);
	assert_int_equal(hugemem_alloc(NULL, "test-e", 1, &mem), 0);
	assert_memory_equal(mem->gpa, gpas, sizeof(gpas));
	hugemem_free(NULL, mem, false);
	assert_int_equal(free_pages(), before);
	close(fds[0]);
	close(fds[1]);
}

/* A hugetlbfs of this test's own, out of sight of everybody else. */
static bool mount_private(void)
{
	return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	       !mount("none", "/mnt", "hugetlbfs", 0, "pagesize=2M");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_have_addresses),
		cmocka_unit_test(too_much_is_refused),
		cmocka_unit_test(a_name_is_used_once),
		cmocka_unit_test(a_dead_owners_pages_are_taken_over),
	};

	if (geteuid() || free_pages() < 2) {
		print_message("SKIP: needs root and two free 2 MiB hugepages "
			      "(sysctl vm.nr_hugepages=2)\n");
		return 77;
	}
	if (!mount_private()) {
		print_message("SKIP: cannot mount a hugetlbfs\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
