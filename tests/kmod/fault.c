/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each ioctl with its nth memory allocation failing, and with the nth and all after it, for n = 1 until
 * none is left that could: it must fail with ENOMEM (or succeed without that memory), leave everything
 * as it was, and succeed when it is made again. Needs fault/elisa-fault.ko.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <elisa/abi.h>
#include <elisa/ioctl.h>

#include "../lib/tinyvm.h"
#include "../vmx/programs.h"
#include "../vmx/tap.h"
#include "ctl.h"
#include "faults.h"

#define NTH_MAX 400
#define MAP_LEN (24 * PAGE)	/* in memory that nobody has touched: the pins need pages, too */
#define MAP_GPA (context.window + 100 * GIB - 8 * PAGE)	/* over the edge of a table of each level */

static struct tinyvm *tvm;
static struct context context;
static int vm = -1;
static char *fresh;
static unsigned long injected, refused;

/* ---- the guest ---- */

static int guest_create(void)
{
	struct tvm_config config = { .vcpus = 1 };
	int err = tvm_create(&config, &tvm);

	if (err)
		return err;
	tvm_load(tvm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	tvm_load(tvm, TVM_GPA_X + ELISA_GATE_OFFSET - ELISA_CALL_LEN, page_entry,
		 (size_t)(page_entry_end - page_entry));
	tvm_load(tvm, TVM_GPA_RETURN, page_return, (size_t)(page_return_end - page_return));
	return 0;
}

/* Does a call of the guest give the service's result? */
static bool serves(void)
{
	struct kvm_regs regs = { .rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = 10 };
	struct tvm_stop stop;

	tvm_reset(tvm, 0, 3, &regs);
	return !tvm_run(tvm, 0, &stop) && stop.why == TVM_OUT && stop.value == 42;
}

/* ---- one trial each: made ready, done, undone ---- */

struct trial {
	const char *name;
	void (*ready)(void);	/* may be NULL */
	int (*act)(void);	/* what is tried: < 0 with errno, else it was done */
	void (*undo)(int result);	/* of an act that was done */
	bool (*check)(void);	/* does all work after it was done? may be NULL */
};

static void close_it(int fd)
{
	close(fd);
}

static int act_open(void)
{
	return open("/dev/elisa", O_RDWR | O_CLOEXEC);
}

static int act_info(void)
{
	struct elisa_info info;

	return ioctl(dev, ELISA_INFO, &info);
}

static void nothing(int result)
{
}

static void *fresh_root;
static void ready_create(void)
{
	if (fresh_root)
		munmap(fresh_root, PAGE);
	fresh_root = pages(PAGE);
}

static int act_create(void)
{
	return create(fresh_root, context.window + GIB, context.window + GIB + PAGE);
}

static void ready_map(void)
{
	if (fresh)
		munmap(fresh, 2 * MAP_LEN);
	fresh = pages(2 * MAP_LEN);
	madvise(fresh, 2 * MAP_LEN, MADV_NOHUGEPAGE);
}

static int act_map(void)
{
	struct elisa_ctx_map arg = {
		.addr = (uintptr_t)fresh + PAGE, .gpa = MAP_GPA, .len = MAP_LEN,
		.flags = ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED | ELISA_MAP_GATE,
	};

	return ioctl(context.fd, ELISA_CTX_MAP, &arg);
}

static int act_unmap(void)
{
	struct elisa_ctx_unmap arg = { .gpa = MAP_GPA, .len = MAP_LEN };

	return ioctl(context.fd, ELISA_CTX_UNMAP, &arg);
}

static void undo_map(int result)
{
	act_unmap();
}

static void ready_unmap(void)
{
	ready_map();
	act_map();
}

static int act_attach(void)
{
	struct elisa_ctx_attach arg;

	return attach(context.fd, tvm_fd(tvm), &arg);
}

static void undo_attach(int fd)
{
	uint32_t timeout = 0;

	ioctl(fd, ELISA_VM_DETACH, &timeout);
	close(fd);
}

static void ready_vm(void)
{
	if (vm < 0)
		vm = act_attach();
}

static int act_arm(void)
{
	struct elisa_vm_arm arg = { .vcpu_id = 0 };

	return ioctl(vm, ELISA_VM_ARM, &arg);
}

static int act_disarm(void)
{
	struct elisa_vm_disarm arg = { .vcpu_id = 0, .timeout_ms = 10 };

	return ioctl(vm, ELISA_VM_DISARM, &arg);
}

static void undo_arm(int result)
{
	act_disarm();
}

static void ready_armed(void)
{
	ready_vm();
	act_arm();
}

static int act_slots(void)
{
	static struct elisa_slot slots[8];
	struct elisa_vm_slots arg = { .slots = (uintptr_t)slots, .count = 8 };

	memset(slots, 0, sizeof(slots));
	return ioctl(vm, ELISA_VM_SLOTS, &arg);
}

static int act_status(void)
{
	struct elisa_vm_status arg = { 0 };

	return ioctl(vm, ELISA_VM_STATUS, &arg);
}

static int act_stats(void)
{
	struct elisa_vcpu_stats arg = { .vcpu_id = 0 };

	return ioctl(vm, ELISA_VM_STATS, &arg);
}

static int act_kick(void)
{
	return ioctl(vm, ELISA_VM_KICK);
}

static int act_detach(void)
{
	uint32_t timeout = 10;

	return ioctl(vm, ELISA_VM_DETACH, &timeout);
}

static void undo_detach(int result)
{
	close(vm);
	vm = -1;
}

/* The descriptors' ends, which cannot say no. */
static int act_close_vm(void)
{
	int fd = vm;

	vm = -1;
	return close(fd);
}

static void undo_away(int result)
{
	vm = act_attach();
	undo_attach(vm);
	vm = -1;
}

static int act_close_context(void)
{
	return close(context.fd);
}

static void undo_close_context(int result)
{
	context_open(&context);
	if (vm >= 0)
		close(vm);
	vm = -1;
	undo_away(0);
}

static const struct trial trials[] = {
	{ "open", NULL, act_open, close_it, NULL },
	{ "INFO", NULL, act_info, nothing, NULL },
	{ "CONTEXT_CREATE", ready_create, act_create, close_it, NULL },
	{ "CTX_MAP", ready_map, act_map, undo_map, NULL },
	{ "CTX_UNMAP", ready_unmap, act_unmap, nothing, NULL },
	{ "CTX_ATTACH", NULL, act_attach, undo_attach, NULL },
	{ "VM_ARM", ready_vm, act_arm, undo_arm, serves },
	{ "VM_SLOTS", ready_armed, act_slots, nothing, serves },
	{ "VM_STATUS", ready_armed, act_status, nothing, serves },
	{ "VM_STATS", ready_armed, act_stats, nothing, serves },
	{ "VM_KICK", ready_armed, act_kick, nothing, serves },
	{ "VM_DISARM", ready_armed, act_disarm, nothing, NULL },
	{ "VM_DETACH", ready_armed, act_detach, undo_detach, NULL },
	{ "close of a VM", ready_armed, act_close_vm, undo_away, NULL },
	{ "close of a context", ready_armed, act_close_context, undo_close_context, NULL },
};

static bool same(const struct elisa_info *a, const struct elisa_info *b)
{
	return a->pinned_pages == b->pinned_pages && a->contexts == b->contexts && a->vms == b->vms;
}

/* Returns whether an allocation failed, so that there may be one more; *bad counts what was wrong. */
static bool one(const struct trial *t, uint32_t nth, bool rest, unsigned int *bad)
{
	struct elisa_info before, after;
	struct elisa_fault fault;
	int result, error;

	if (t->ready)
		t->ready();
	before = get_info();
	faults_begin(nth, rest);
	result = t->act();
	fault = faults_end();
	error = errno;
	injected += fault.failed;
	if (result < 0) {
		refused++;
		after = get_info();
		if (error != ENOMEM || !fault.failed || !same(&before, &after)) {
			note("%s, allocation %u of %u%s: %s; pages %llu -> %llu, contexts %llu -> %llu, "
			     "VMs %llu -> %llu", t->name, nth, fault.seen, rest ? " and all after it" : "",
			     strerror(error), before.pinned_pages, after.pinned_pages, before.contexts,
			     after.contexts, before.vms, after.vms);
			++*bad;
		}
		if (t->ready == ready_map || t->ready == ready_create)
			t->ready();
		result = t->act();
		if (result < 0) {
			note("%s, allocation %u%s: again, with memory: %s", t->name, nth,
			     rest ? " and all after it" : "", strerror(errno));
			++*bad;
			return false;
		}
	}
	if (t->check && !t->check()) {
		note("%s, allocation %u%s: calls do not work", t->name, nth,
		     rest ? " and all after it" : "");
		++*bad;
	}
	t->undo(result);
	return fault.failed;
}

static void test(const struct trial *t)
{
	unsigned int n[2], bad = 0;
	unsigned long injected_before = injected, refused_before = refused;

	for (int rest = 0; rest < 2; rest++) {
		n[rest] = 1;
		while (n[rest] < NTH_MAX && one(t, n[rest], rest, &bad))
			n[rest]++;
	}
	if (vm >= 0)
		undo_attach(vm);
	vm = -1;
	ok(!bad && n[0] < NTH_MAX && n[1] < NTH_MAX,
	   "%s: %u allocations; %lu failed, %lu times it was refused", t->name, n[0] - 1,
	   injected - injected_before, refused - refused_before);
}

int main(void)
{
	struct elisa_info end;
	int err;

	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	if (dev < 0 || !faults_open()) {
		note("%s: %s: load elisa.ko and elisa-fault.ko as root",
		     dev < 0 ? "/dev/elisa" : "/dev/elisa-fault", strerror(errno));
		return TAP_SKIP;
	}
	err = guest_create();
	if (err) {
		note("no KVM: %s", strerror(-err));
		return TAP_SKIP;
	}
	err = context_open(&context);
	if (err)
		return 1;
	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
		test(&trials[i]);
	context_close(&context);
	tvm_destroy(tvm);
	for (int i = 0; i < 100 && get_info().vms; i++)
		usleep(20000);
	end = get_info();
	ok(!end.vms && !end.contexts && !end.pinned_pages,
	   "nothing is left: %llu VMs, %llu contexts, %llu pages", end.vms, end.contexts,
	   end.pinned_pages);
	ok(injected > 50, "%lu allocations failed, %lu calls were refused for it", injected, refused);
	return tap_done();
}
