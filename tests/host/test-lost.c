/* SPDX-License-Identifier: BSD-3-Clause */
/* RAM that its owner takes away from under this process. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "internal.h"

#define LEN (16 * ELISA_PAGE_SIZE)

static volatile uint8_t *map_file(uint64_t at, int *fd)
{
	void *p;

	*fd = memfd_create("ram", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, LEN), 0);
	p = mmap((void *)at, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, *fd, 0);
	assert_ptr_equal(p, (void *)at);
	memset(p, 0x77, LEN);
	return p;
}

static void test_shorter(void **state)
{
	struct elisa_vm vm = {.ram = {.count = 1}}, other = vm;
	volatile uint8_t *ram;
	int fd;

	assert_int_equal(elisa_ram_guard(), 0);
	ram = map_file(RAM_AREA, &fd);
	vm.ram.regions[0] = (struct elisa_region){.len = LEN, .addr = (void *)RAM_AREA};
	other.ram.regions[0] = (struct elisa_region){.len = LEN, .addr = (void *)(RAM_AREA + LEN)};
	assert_int_equal(ram[5 * ELISA_PAGE_SIZE], 0x77);
	assert_false(elisa_vm_lost(&vm));
	assert_int_equal(ftruncate(fd, 2 * ELISA_PAGE_SIZE), 0);
	/* Gone, and no end of this process; the page beside it is untouched. */
	assert_int_equal(ram[5 * ELISA_PAGE_SIZE], 0);
	ram[6 * ELISA_PAGE_SIZE + 1] = 9;
	assert_int_equal(ram[6 * ELISA_PAGE_SIZE + 1], 9);
	assert_int_equal(ram[ELISA_PAGE_SIZE], 0x77);
	assert_true(elisa_vm_lost(&vm));
	assert_false(elisa_vm_lost(&other));
	ram_lost_forget(&vm);
	assert_false(elisa_vm_lost(&vm));
	munmap((void *)RAM_AREA, LEN);
	close(fd);
}

/* More pages than are remembered. */
static void test_many(void **state)
{
	struct elisa_vm vm = {.ram = {.count = 1}};
	volatile uint8_t *ram;
	unsigned int sum = 0;
	int fd;

	/* Once more: cmocka has a handler of its own in each test. */
	assert_int_equal(elisa_ram_guard(), 0);
	for (unsigned int i = 0; i < 10; i++) {
		ram = map_file(RAM_AREA, &fd);
		assert_int_equal(ftruncate(fd, 0), 0);
		for (uint64_t at = 0; at < LEN; at += ELISA_PAGE_SIZE)
			sum += ram[at];
		munmap((void *)RAM_AREA, LEN);
		close(fd);
	}
	assert_int_equal(sum, 0);
	vm.ram.regions[0] = (struct elisa_region){.len = LEN, .addr = (void *)RAM_AREA};
	assert_true(elisa_vm_lost(&vm));
	ram_lost_forget(&vm);
	assert_false(elisa_vm_lost(&vm));
}

static void test_not_ram(void **state)
{
	pid_t child = fork();
	int status, fd;

	assert_true(child >= 0);
	if (!child) {
		volatile uint8_t *p = map_file(RAM_AREA_END, &fd);

		if (elisa_ram_guard() || ftruncate(fd, 0))
			_exit(1);
		_exit(2 + p[0]);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shorter),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_not_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
