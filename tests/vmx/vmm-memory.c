/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory slots that come, go and move while the vCPU is inside, and a monitor of two threads. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "programs.h"
#include "tap.h"
#include "vmm.h"

#define EXTRA_SLOT 7
#define EXTRA_LEN  0x100000ul

static void *extra;

static struct kvm_userspace_memory_region ram_slot(uint32_t flags, uint64_t len)
{
	return (struct kvm_userspace_memory_region){
		.slot = 0, .flags = flags, .memory_size = len,
		.userspace_addr = (uintptr_t)tvm_mem(vm, 0),
	};
}

static struct kvm_userspace_memory_region extra_slot(uint64_t gpa, uint32_t flags, uint64_t len)
{
	return (struct kvm_userspace_memory_region){
		.slot = EXTRA_SLOT, .flags = flags, .guest_phys_addr = gpa, .memory_size = len,
		.userspace_addr = (uintptr_t)extra,
	};
}

static int set_slot(struct kvm_userspace_memory_region r)
{
	return vm_ioctl(KVM_SET_USER_MEMORY_REGION, &r);
}

/* ---- one change each ---- */

static int log_ram(const void *arg)
{
	(void)arg;
	return set_slot(ram_slot(KVM_MEM_LOG_DIRTY_PAGES, TVM_RAM_MIN));
}

static int take_ram(const void *arg)
{
	(void)arg;
	return set_slot(ram_slot(0, 0));
}

static int take_ram_and_back(const void *arg)
{
	int rc = take_ram(arg);

	return rc ? rc : set_slot(ram_slot(0, TVM_RAM_MIN));
}

/* Where the guest has none, where trusted contexts have their pages, and what the APT covers. */
static const uint64_t places[] = {
	0x200000, 0xc0000000, 0x100000000, 0x7f00000000, 0x8000000000, 0x8040000000, 0xffff000000,
};

static int add_extra(const void *arg)
{
	return set_slot(extra_slot(*(const uint64_t *)arg, 0, EXTRA_LEN));
}

static int add_move_drop(const void *arg)
{
	int rc = add_extra(arg);

	if (rc)
		return rc;
	rc = set_slot(extra_slot(0x300000, 0, EXTRA_LEN));
	if (!rc)
		rc = set_slot(extra_slot(0x300000, KVM_MEM_LOG_DIRTY_PAGES, EXTRA_LEN));
	return set_slot(extra_slot(0, 0, 0));
}

static int add_readonly(const void *arg)
{
	return set_slot(extra_slot(*(const uint64_t *)arg, KVM_MEM_READONLY, EXTRA_LEN));
}

/* Its pages, not the slot. The switch has its own mapping of them, and pins them. */
static int lose_pages(const void *arg)
{
	(void)arg;
	return madvise(tvm_mem(vm, TVM_GPA_DATA), 65536, MADV_REMOVE) ? -errno : 0;
}

static int other_pages(const void *arg)
{
	(void)arg;
	return mmap(tvm_mem(vm, TVM_GPA_DATA), 65536, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0;
}

static bool have_extra(void)
{
	if (!extra)
		extra = mmap(NULL, EXTRA_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	return extra != MAP_FAILED;
}

/* Out of the call it has no memory to go on in: its end is then its own. */
static void without_ram(struct group *g)
{
	bool sound;

	g->tries++;
	if (!stop_inside() || take_ram(NULL)) {
		g->bad++;
		return;
	}
	sound = !outcome_of(false) && memory_sound();
	g->bad += !sound;
	fresh_vm();
}

void test_slots(void)
{
	struct group g = { .name = "vmm-slots: inside", .lasting = true };

	if (!have_extra())
		return;
	for (unsigned int i = 0; i < 5; i++) {
		try_inside(&g, "RAM logged", log_ram, NULL, GOES_ON);
		try_inside(&g, "RAM taken and given back", take_ram_and_back, NULL, GOES_ON);
		try_inside(&g, "pages of RAM dropped", lose_pages, NULL, GOES_ON);
		without_ram(&g);
	}
	for (unsigned int i = 0; i < sizeof(places) / sizeof(*places); i++) {
		try_inside(&g, "a slot comes", add_extra, &places[i], GOES_ON | REFUSED);
		try_inside(&g, "a slot comes, moves and goes", add_move_drop, &places[i],
			   GOES_ON | REFUSED);
		try_inside(&g, "a read-only slot comes", add_readonly, &places[i],
			   GOES_ON | REFUSED);
	}
	try_inside(&g, "other pages mapped there", other_pages, NULL, GOES_ON);
	group_end(&g);
}

/* ---- while it runs ---- */

static struct {
	pthread_t runner;
	volatile bool stop;
	volatile uint64_t calls, wrong, other;
} race;

static void nothing(int sig)
{
	(void)sig;
}

/* Calls, one after another; a signal ends a run, which then goes on. */
static void *run_calls(void *arg)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = SVC_KEEP, .rdx = 2000,
	};
	struct tvm_stop stop;
	bool whole = true;

	(void)arg;
	while (!race.stop) {
		if (whole && tvm_reset(vm, 0, 3, &r))
			break;
		if (tvm_run(vm, 0, &stop))
			break;
		whole = stop.why != TVM_INTERRUPTED;
		if (!whole)
			continue;
		if (stop.why != TVM_OUT || stop.port != PORT_DONE) {
			race.other++;
			break;
		}
		race.calls++;
		race.wrong += stop.value != 0;
	}
	return NULL;
}

static bool race_start(void)
{
	struct sigaction sa = { .sa_handler = nothing };

	memset(&race, 0, sizeof(race));
	sigaction(SIGUSR1, &sa, NULL);
	return !pthread_create(&race.runner, NULL, run_calls, NULL);
}

static void race_end(void)
{
	race.stop = true;
	pthread_kill(race.runner, SIGUSR1);
	pthread_join(race.runner, NULL);
}

static void race_judge(const char *what, unsigned int rounds, unsigned int failed)
{
	struct elisa_vcpu_stats s = { 0 };

	elisa_vm_stats(attached, 0, &s);
	ok(race.calls > 0 && !race.wrong && !race.other && !s.kills && memory_sound(),
	   "%s: %u rounds, %u refused; %lu calls meanwhile, %lu wrong, %lu ended otherwise; %llu "
	   "exits inside, %llu other roots", what, rounds, failed, race.calls, race.wrong,
	   race.other, s.exits_trusted, s.root_changes);
}

void test_slot_race(unsigned int rounds)
{
	unsigned int failed = 0;

	if (!have_extra() || !ok(race_start(), "a vCPU calls all the time"))
		return;
	for (unsigned int i = 0; i < rounds; i++) {
		uint64_t gpa = places[i % (sizeof(places) / sizeof(*places))];

		failed += set_slot(extra_slot(gpa, 0, EXTRA_LEN)) != 0;
		failed += set_slot(extra_slot(0x300000, i & 1 ? KVM_MEM_LOG_DIRTY_PAGES : 0,
					      EXTRA_LEN)) != 0;
		failed += set_slot(ram_slot(i & 2 ? KVM_MEM_LOG_DIRTY_PAGES : 0, TVM_RAM_MIN)) != 0;
		failed += set_slot(extra_slot(0, 0, 0)) != 0;
		usleep(200);
	}
	race_end();
	race_judge("vmm-slots: added, moved, logged and deleted", rounds, failed);
	fresh_vm();
}

/*
 * The second thread has its turn at the vCPU whenever the first is out of KVM for an instant, at any
 * instruction of a call: it looks at the registers and sets the vectors.
 */
void test_two_threads(unsigned int rounds)
{
	unsigned int failed = 0, inside = 0;
	struct elisa_vm_status s = { 0 };
	struct tvm_vectors junk;
	struct kvm_regs regs;

	if (!ok(race_start(), "a vCPU calls all the time, another thread of its monitor is at it"))
		return;
	memset(&junk, 0x99, sizeof(junk));
	for (unsigned int i = 0; i < rounds; i++) {
		pthread_kill(race.runner, SIGUSR1);
		failed += tvm_regs(vm, 0, &regs) != 0;
		elisa_vm_status(attached, &s);
		inside += s.inside;
		failed += tvm_set_vectors(vm, 0, &junk) != 0;
	}
	race_end();
	note("%u times the other thread found it stopped inside", inside);
	race_judge("vmm-vectors: two threads at one vCPU", rounds, failed);
	fresh_vm();
}
