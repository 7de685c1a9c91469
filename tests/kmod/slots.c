/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * slots [SECONDS]: the module lists a VM's memory slots while its monitor adds and removes some on
 * another processor: each that it reports is one that there was. KVM keeps two sets of slots and
 * swaps them at each change; a walk that goes from one into the other takes other fields for slots.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <elisa/ioctl.h>

#include "../lib/tinyvm.h"
#include "../vmx/tap.h"
#include "ctl.h"

#define MORE		24	/* slots that come and go */
#define FIRST_ID	100
#define FIRST_GPA	(64 * GIB)
#define ROOM		64
#define FLAGS		0xffffu	/* what stands above is KVM's own: a slot that is about to go */

static struct tinyvm *tvm;
static char *memory;
static struct elisa_slot at_first[ROOM];
static uint32_t at_first_count;
static atomic_bool stop;
static uint64_t changes;

static int set_region(uint32_t i, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = FIRST_ID + i,
		.guest_phys_addr = FIRST_GPA + i * GIB,
		.memory_size = size,
		.userspace_addr = (uintptr_t)memory + i * PAGE,
	};

	return ioctl(tvm_fd(tvm), KVM_SET_USER_MEMORY_REGION, &region);
}

static void *monitor(void *arg)
{
	bool there[MORE] = {0};
	unsigned int seed = 1;

	while (!atomic_load(&stop)) {
		uint32_t i = (uint32_t)rand_r(&seed) % MORE;

		if (set_region(i, there[i] ? 0 : PAGE))
			return "KVM refuses a memory region";
		there[i] = !there[i];
		changes++;
	}
	return arg;
}

static bool known(const struct elisa_slot *s)
{
	const uint64_t i = (uint64_t)s->id - FIRST_ID;

	for (uint32_t n = 0; n < at_first_count; n++)
		if (!memcmp(s, &at_first[n], sizeof(*s)))
			return true;
	return s->id >= FIRST_ID && i < MORE && s->gpa == FIRST_GPA + i * GIB && s->size == PAGE &&
	       s->addr == (uintptr_t)memory + i * PAGE && !(s->flags & FLAGS);
}

/* Lists until then. The number of lists, and what was wrong with the first bad one. */
static uint64_t list(int vm, time_t until, char *wrong, size_t len)
{
	struct elisa_slot slot[ROOM];
	uint64_t lists;

	for (lists = 0; time(NULL) < until && !*wrong; lists++) {
		struct elisa_vm_slots arg = { .slots = (uintptr_t)slot, .count = ROOM };

		if (ioctl(vm, ELISA_VM_SLOTS, &arg)) {
			snprintf(wrong, len, "%s", strerror(errno));
			break;
		}
		for (uint32_t n = 0; n < arg.count && !*wrong; n++)
			if (!known(&slot[n]))
				snprintf(wrong, len, "slot %u of %u: id %u, %llx bytes at %llx", n,
					 arg.count, slot[n].id, (unsigned long long)slot[n].size,
					 (unsigned long long)slot[n].gpa);
		if (!*wrong && arg.count < at_first_count)
			snprintf(wrong, len, "only %u slots", arg.count);
	}
	return lists;
}

int main(int argc, char **argv)
{
	struct elisa_vm_slots arg = { .slots = (uintptr_t)at_first, .count = ROOM };
	struct tvm_config config = { .vcpus = 1 };
	struct elisa_ctx_attach attached;
	struct context context;
	char wrong[128] = "";
	pthread_t thread;
	void *why = NULL;
	uint64_t lists;
	int vm;

	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		note("/dev/elisa: %s: load elisa.ko as root", strerror(errno));
		return TAP_SKIP;
	}
	memory = pages(MORE * PAGE);
	if (context_open(&context) || tvm_create(&config, &tvm)) {
		note("no context, or no KVM");
		return TAP_SKIP;
	}
	vm = attach(context.fd, tvm_fd(tvm), &attached);
	if (vm >= 0 && !ioctl(vm, ELISA_VM_SLOTS, &arg))
		at_first_count = arg.count;
	ok(at_first_count, "attached, %u slots (refusal %u)", at_first_count, attached.refusal);
	pthread_create(&thread, NULL, monitor, NULL);
	lists = list(vm, time(NULL) + (argc > 1 ? atoi(argv[1]) : 10), wrong, sizeof(wrong));
	atomic_store(&stop, true);
	pthread_join(thread, &why);
	ok(!why && changes, "%lu changes%s%s", changes, why ? ": " : "", why ? (char *)why : "");
	ok(!*wrong && lists, "%lu lists, each of slots that there were%s%s", lists,
	   *wrong ? "; " : "", wrong);
	close(vm);
	tvm_destroy(tvm);
	context_close(&context);
	return tap_done();
}
