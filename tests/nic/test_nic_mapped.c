/* SPDX-License-Identifier: BSD-3-Clause */
/* Registers with holes, as vfio maps them: memory files over reserved addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mapped.h"
#include <cmocka.h>

#define PAGE  4096
#define PAGES 16

static uint8_t *bar;
static int file;
static struct {
	const uint8_t *at;
	size_t len;
} seen[PAGES];
static unsigned int count;

static int see(const void *at, size_t len, void *arg)
{
	seen[count].at = at;
	seen[count++].len = len;
	return *(int *)arg;
}

static int begin(void **state)
{
	count = 0;
	file = memfd_create("registers", MFD_CLOEXEC);
	bar = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return file < 0 || ftruncate(file, PAGES * PAGE) || bar == MAP_FAILED ? -1 : 0;
}

static int end(void **state)
{
	close(file);
	return munmap(bar, PAGES * PAGE);
}

static void map(unsigned int first, unsigned int pages, unsigned int offset)
{
	assert_ptr_equal(mmap(bar + first * PAGE, pages * PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, file, offset * PAGE),
			 bar + first * PAGE);
}

static void assert_seen(unsigned int i, unsigned int first, unsigned int pages)
{
	assert_ptr_equal(seen[i].at, bar + first * PAGE);
	assert_int_equal(seen[i].len, pages * PAGE);
}

static void whole(void **state)
{
	int go_on = 0;

	map(0, PAGES, 0);
	assert_int_equal(nic_mapped(bar, PAGES * PAGE, see, &go_on), 0);
	assert_int_equal(count, 1);
	assert_seen(0, 0, PAGES);
}

/* The hole is reserved memory; what is behind it may be of two mappings that follow each other. */
static void with_hole(void **state)
{
	int go_on = 0;

	map(0, 4, 0);
	map(6, 3, 6);
	map(9, 7, 0);
	assert_int_equal(nic_mapped(bar, PAGES * PAGE, see, &go_on), 0);
	assert_int_equal(count, 2);
	assert_seen(0, 0, 4);
	assert_seen(1, 6, 10);
}

/* Only what is asked for, though more is mapped around it; small BARs are whole pages. */
static void part(void **state)
{
	int go_on = 0;

	map(0, PAGES, 0);
	assert_int_equal(nic_mapped(bar + 2 * PAGE, 256, see, &go_on), 0);
	assert_int_equal(count, 1);
	assert_seen(0, 2, 1);
}

static void nothing(void **state)
{
	int go_on = 0;

	assert_int_equal(nic_mapped(bar, PAGES * PAGE, see, &go_on), 0);
	assert_int_equal(count, 0);
}

static void stops(void **state)
{
	int stop = -7;

	map(0, 1, 0);
	map(2, 1, 0);
	map(4, 1, 0);
	assert_int_equal(nic_mapped(bar, PAGES * PAGE, see, &stop), -7);
	assert_int_equal(count, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
int main(void)
{
	const struct CMUnitTest tests[] = {T(whole), T(with_hole), T(part), T(nothing), T(stops)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
