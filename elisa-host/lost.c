/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A VM's RAM is a file of its VMM's, which can make it shorter, or punch holes into one of huge pages
 * of which there are none left. What this process then touches of its own mapping is SIGBUS, and
 * would be its end and so everybody's. vCPUs inside do not notice: they have the pages, pinned.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define LOST_MAX 64 /* places remembered; more of one VM say nothing new */

static _Atomic uint64_t lost[LOST_MAX];
static atomic_uint lost_count;

/* Zeros instead of the page that is not there, of whatever size its file's pages are. */
static bool replace(uint64_t at)
{
	static const uint64_t sizes[] = {ELISA_PAGE_SIZE, 2ULL << 20, GIB};

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		void *page = (void *)(at & ~(sizes[i] - 1));

		if (mmap(page, sizes[i], PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == page)
			return true;
	}
	return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uint64_t at = (uintptr_t)info->si_addr;
	int saved = errno;

	if (info->si_code == BUS_ADRERR && at >= RAM_AREA && at < RAM_AREA_END && replace(at)) {
		unsigned int i = atomic_fetch_add(&lost_count, 1);

		atomic_store(&lost[i % LOST_MAX], at);
		errno = saved;
		return;
	}
	/* Any other is an end, as without us: the access is made again. */
	signal(sig, SIG_DFL);
	(void)context;
}

ELISA_PUBLIC int elisa_ram_guard(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

#ifdef ELISA_WEAK
	if (weak_ram_guard())
		return 0;
#endif
	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) ? -errno : 0;
}

ELISA_PUBLIC bool elisa_vm_lost(const struct elisa_vm *vm)
{
	for (unsigned int i = 0; i < LOST_MAX && i < atomic_load(&lost_count); i++) {
		uint64_t at = atomic_load(&lost[i]);

		for (uint32_t j = 0; j < vm->ram.count; j++)
			if (at - (uintptr_t)vm->ram.regions[j].addr < vm->ram.regions[j].len)
				return true;
	}
	return false;
}

void ram_lost_forget(const struct elisa_vm *vm)
{
	for (unsigned int i = 0; i < LOST_MAX; i++) {
		uint64_t at = atomic_load(&lost[i]);

		for (uint32_t j = 0; j < vm->ram.count; j++)
			if (at - (uintptr_t)vm->ram.regions[j].addr < vm->ram.regions[j].len)
				atomic_store(&lost[i], 0);
	}
}
