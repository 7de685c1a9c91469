/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * elisa.ko by its own interface alone: arguments and errors, mapping and pinning, refusals, calls
 * through a minimal gate, away and back, every way to be killed while stopped, and the ends in
 * every order. Needs VT-x with VMFUNC, root, and the module loaded; ends by unloading it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <elisa/abi.h>
#include <elisa/ioctl.h>

#include "../lib/tinyvm.h"
#include "../vmx/programs.h"
#include "../vmx/tap.h"
#include "ctl.h"

#define MIB	(1ul << 20)
#define FOREVER	(1ull << 60)

static struct elisa_info info;
static struct tinyvm *tvm;

/* ---- the guest ---- */

static void alarm_handler(int sig)
{
	tvm_interrupt_run(tvm, 0);
}

static void interrupt_after(unsigned int us)
{
	struct itimerval when = { .it_value = { .tv_usec = us } };

	setitimer(ITIMER_REAL, &when, NULL);
}

static void guest_create(void)
{
	struct tvm_config config = { .vcpus = 1 };
	int err = tvm_create(&config, &tvm);

	if (err) {
		note("tvm_create: %s", strerror(-err));
		exit(TAP_SKIP);
	}
	tvm_load(tvm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	tvm_load(tvm, TVM_GPA_X + ELISA_GATE_OFFSET - ELISA_CALL_LEN, page_entry,
		 (size_t)(page_entry_end - page_entry));
	tvm_load(tvm, TVM_GPA_RETURN, page_return, (size_t)(page_return_end - page_return));
}

static void guest_start(uint64_t spins)
{
	struct kvm_regs regs = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = spins,
	};

	tvm_reset(tvm, 0, 3, &regs);
}

/* One call; the result, or -1000 - why it stopped. */
static long call(uint64_t spins)
{
	struct tvm_stop stop;

	guest_start(spins);
	if (tvm_run(tvm, 0, &stop))
		return -999;
	if (stop.why == TVM_EXCEPTION)
		return -2000 - stop.vector;
	return stop.why == TVM_OUT ? (int)stop.value : -1000 - (long)stop.why;
}
#define NOT_ARMED (-2000 - 6)

/* Leaves the vCPU stopped inside the trusted context. */
static bool stop_inside(int vm)
{
	struct tvm_stop stop;

	guest_start(FOREVER);
	interrupt_after(20000);
	if (tvm_run(tvm, 0, &stop) || stop.why != TVM_INTERRUPTED)
		return false;
	return status(vm).inside == 1;
}

static enum tvm_why run_on(void)
{
	struct tvm_stop stop;

	interrupt_after(900000);
	if (tvm_run(tvm, 0, &stop))
		return TVM_FAIL;
	interrupt_after(0);
	return stop.why;
}

static bool wait_for_vms(uint64_t count)
{
	for (int i = 0; i < 100; i++) {
		if (get_info().vms == count)
			return true;
		usleep(20000);
	}
	return false;
}

/* ---- tests: contexts ---- */

static void test_create(void)
{
	void *root = pages(PAGE);
	uint64_t w = info.window_gpa;
	int fd;

	ok(info.revision == ELISA_IOCTL_REVISION && info.window_gpa == 1ull << (info.phys_bits - 1) &&
	   !info.host_refusal, "info: %u bits, refusal %u", info.phys_bits, info.host_refusal);
	ok(err_of(ioctl(dev, _IO(ELISA_IOC, 0x7f))) == ENOTTY, "unknown device ioctl: ENOTTY");
	ok(err_of(ioctl(dev, ELISA_CONTEXT_CREATE, (void *)8)) == EFAULT, "bad pointer: EFAULT");
	ok(err_of(create((char *)root + 8, w, w + PAGE)) == EINVAL, "unaligned root: EINVAL");
	ok(err_of(create(root, w, w)) == EINVAL, "list = descriptor: EINVAL");
	ok(err_of(create(root, w, w + GIB)) == EINVAL, "two chunks: EINVAL");
	ok(err_of(create(root, w - 2 * PAGE, w - PAGE)) == ERANGE, "below the window: ERANGE");
	ok(err_of(create((void *)0x1000, w, w + PAGE)) == EFAULT, "no page there: EFAULT");
	ok(get_info().contexts == 0 && get_info().pinned_pages == 0, "nothing is left of these");
	fd = create(root, w, w + PAGE);
	ok(fd >= 0 && get_info().contexts == 1 && get_info().pinned_pages == 1, "create");
	ok(err_of(ioctl(fd, _IO(ELISA_IOC, 0x7f))) == ENOTTY, "unknown context ioctl: ENOTTY");
	close(fd);
	ok(get_info().contexts == 0 && get_info().pinned_pages == 0, "close releases all");
	munmap(root, PAGE);
}

static void test_map(void)
{
	const uint32_t rw = ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED;
	uint64_t w = info.window_gpa, list = w + 5 * PAGE;
	char *p = pages(8 * MIB), *root = pages(PAGE);
	int fd = create(root, list, list + PAGE);
	struct elisa_ctx_map bad = { .addr = (uint64_t)(uintptr_t)p, .gpa = w + GIB, .len = PAGE,
				     .flags = rw, .reserved = 1 };

	ok(err_of(ioctl(fd, ELISA_CTX_MAP, &bad)) == EINVAL, "reserved field: EINVAL");
	ok(map(fd, p, w + GIB, PAGE, 1u << 20 | rw) == EINVAL, "unknown flag: EINVAL");
	ok(map(fd, p, w + GIB, PAGE, ELISA_MAP_R) == EINVAL, "in no view: EINVAL");
	ok(map(fd, p, w + GIB, PAGE, ELISA_MAP_TRUSTED) == EINVAL, "no permission: EINVAL");
	ok(map(fd, p, w + GIB, PAGE, ELISA_MAP_W | ELISA_MAP_TRUSTED) == EINVAL, "W alone: EINVAL");
	ok(map(fd, p, w + GIB, PAGE, rw | ELISA_MAP_X) == EINVAL, "W with X: EINVAL");
	ok(map(fd, p + 1, w + GIB, PAGE, rw) == EINVAL, "unaligned address: EINVAL");
	ok(map(fd, p, w + GIB + 1, PAGE, rw) == EINVAL, "unaligned GPA: EINVAL");
	ok(map(fd, p, w + GIB, 0, rw) == EINVAL, "length 0: EINVAL");
	ok(map(fd, p, w - PAGE, PAGE, rw) == ERANGE, "below the window: ERANGE");
	ok(map(fd, p, 2 * w - PAGE, 2 * PAGE, rw) == ERANGE, "over its end: ERANGE");
	ok(map(fd, p, w + GIB, ~0ull & ~(PAGE - 1), rw) == ERANGE, "huge length: ERANGE");
	ok(map(fd, p, w, 8 * PAGE, rw) == ERANGE, "over the list: ERANGE");
	ok(map(fd, p, list + PAGE, PAGE, rw) == ERANGE, "over the descriptor: ERANGE");
	ok(map(fd, (void *)0x1000, w + GIB, PAGE, rw) == EFAULT, "no memory: EFAULT");
	ok(map(fd, p, w + GIB, PAGE, rw | ELISA_MAP_DEVICE) == EFAULT, "RAM as device: EFAULT");
	ok(get_info().pinned_pages == 1, "nothing is pinned by these");

	ok(!map(fd, p, w + GIB, 8 * MIB, rw), "map 8 MiB");
	ok(get_info().pinned_pages == 2049, "2,048 pages pinned");
	ok(map(fd, p, w + GIB + 4 * MIB, PAGE, rw) == EEXIST, "over it: EEXIST");
	ok(!map(fd, p, w + GIB + 4 * MIB, PAGE, ELISA_MAP_R | ELISA_MAP_GATE), "other view: may");
	ok(!map(fd, p, w, 5 * PAGE, rw), "beside the list");
	ok(unmap(fd, w + GIB, 4 * MIB) == ENOENT, "unmap a part: ENOENT");
	ok(!unmap(fd, w + GIB, 8 * MIB) && get_info().pinned_pages == 7, "unmap");
	ok(unmap(fd, w + GIB, 8 * MIB) == ENOENT, "again: ENOENT");
	ok(!map(fd, p, w + GIB, 8 * MIB, rw), "and map again");
	munmap(p, 8 * MIB);
	ok(get_info().pinned_pages == 7 + 2048, "munmap does not unpin");
	close(fd);
	ok(get_info().pinned_pages == 0, "close does");
	munmap(root, PAGE);
}

/* Physical addresses that are neither RAM nor anybody's: mapped as device memory is. */
#define HOLE	0xd0000000

static void *device_page(void)
{
	int fd = open("/dev/mem", O_RDWR);
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, HOLE);

	close(fd);
	return p == MAP_FAILED ? NULL : p;
}

static void test_map_device(void)
{
	const uint32_t rw = ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED | ELISA_MAP_DEVICE;
	uint64_t w = info.window_gpa, pinned;
	void *root = pages(PAGE), *p = device_page();
	int fd;

	if (!p) {
		note("/dev/mem: %s", strerror(errno));
		return;
	}
	fd = create(root, w, w + PAGE);
	pinned = get_info().pinned_pages;
	ok(map(fd, p, w + GIB, PAGE, rw & ~ELISA_MAP_DEVICE) == EFAULT, "device as RAM: EFAULT");
	ok(map(fd, p, w + GIB, PAGE, (rw & ~ELISA_MAP_W) | ELISA_MAP_X) == EINVAL,
	   "executable device: EINVAL");
	ok(!map(fd, p, w + GIB, PAGE, rw) && get_info().pinned_pages == pinned,
	   "map device memory: nothing to pin");
	ok(!unmap(fd, w + GIB, PAGE), "and unmap it");
	munmap(p, PAGE);
	close(fd);
	munmap(root, PAGE);
}

/* Device memory that its driver maps only when it is touched, for which the module has to ask. */
static void test_map_lazy(void)
{
	const uint32_t rw = ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED | ELISA_MAP_DEVICE;
	uint64_t w = info.window_gpa;
	int fd, dev = open("/dev/elisa-lazy", O_RDWR);
	void *root = pages(PAGE), *p, *q;

	if (!ok(dev >= 0, "/dev/elisa-lazy is there"))
		return;
	p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, dev, HOLE);
	q = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, dev, HOLE);
	fd = create(root, w, w + PAGE);
	*(volatile uint32_t *)(p + PAGE); /* one page is there already */
	ok(!map(fd, p, w + GIB, 3 * PAGE, rw), "map device memory that was not touched before");
	ok(!map(fd, q, w + 2 * GIB, 3 * PAGE, rw & ~ELISA_MAP_W), "the same, read-only");
	ok(map(fd, q, w + 3 * GIB, 4 * PAGE, rw) == EFAULT, "a page that cannot be had: EFAULT");
	ok(!unmap(fd, w + GIB, 3 * PAGE) && !unmap(fd, w + 2 * GIB, 3 * PAGE), "and unmap them");
	munmap(p, 3 * PAGE);
	munmap(q, 4 * PAGE);
	close(dev);
	close(fd);
	munmap(root, PAGE);
}

static void nothing(int sig)
{
}

/* A signal ends a long mapping, and nothing of it stays. */
static void test_map_interrupted(void)
{
	const struct itimerval soon = { .it_value = { .tv_usec = 1000 } };
	uint64_t w = info.window_gpa, len = 128 * MIB;
	void *root = pages(PAGE), *p = pages(len);
	struct sigaction action = { .sa_handler = nothing }, old;
	int fd = create(root, w, w + PAGE), err;

	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &soon, NULL);
	err = map(fd, p, w + GIB, len, ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED);
	sigaction(SIGALRM, &old, NULL);
	ok(err == EINTR && get_info().pinned_pages == 1, "a signal ends a long mapping (%s)",
	   strerror(err));
	ok(!map(fd, p, w + GIB, MIB, ELISA_MAP_R | ELISA_MAP_TRUSTED), "the range is free again");
	close(fd);
	munmap(p, len);
	munmap(root, PAGE);
}

/* ---- tests: refusals ---- */

static void refused(int ctx, const struct tvm_config *config, uint32_t refusal, const char *what)
{
	struct elisa_ctx_attach arg;
	struct tinyvm *vm;
	int fd, err = tvm_create(config, &vm);

	if (err) {
		ok(false, "%s: tvm_create: %s", what, strerror(-err));
		return;
	}
	fd = attach(ctx, tvm_fd(vm), &arg);
	ok(fd < 0 && errno == EPERM && arg.refusal == refusal, "%s: refusal %u (%u, detail %llx)",
	   what, refusal, fd < 0 ? arg.refusal : 0, (unsigned long long)arg.detail);
	if (fd >= 0)
		close(fd);
	tvm_destroy(vm);
}

static void test_refusals(void)
{
	static const struct {
		struct tvm_cpuid cpuid;
		uint32_t refusal;
		const char *what;
	} row[] = {
		{ { 1, 0, TVM_ECX, 0, 1u << 17 }, ELISA_REFUSE_GUEST_PCID, "PCID" },
		{ { 1, 0, TVM_ECX, 0, 1u << 5 }, ELISA_REFUSE_GUEST_VMX, "VMX" },
		{ { 7, 0, TVM_ECX, 0, 1u << 3 }, ELISA_REFUSE_GUEST_PKU, "PKU" },
		{ { 7, 0, TVM_EBX, 0, 1u << 11 }, ELISA_REFUSE_GUEST_TSX, "RTM" },
		{ { 7, 0, TVM_EBX, 1u << 20, 0 }, ELISA_REFUSE_GUEST_NO_SMAP, "no SMAP" },
		{ { 7, 0, TVM_EBX, 1u << 5, 0 }, ELISA_REFUSE_GUEST_NO_AVX, "no AVX2" },
		{ { 0x80000001, 0, TVM_EDX, 1u << 20, 0 }, ELISA_REFUSE_GUEST_NO_LM, "no NX" },
	};
	struct tvm_config config = { .vcpus = 1 };
	struct elisa_ctx_attach arg;
	struct context c;
	int err = context_open(&c), null = open("/dev/null", O_RDWR);

	ok(!err, "context with gate and entry page (%s)", strerror(err));
	ok(attach(c.fd, null, &arg) < 0 && errno == EPERM && arg.refusal == ELISA_REFUSE_NOT_KVM,
	   "/dev/null: not KVM");
	ok(err_of(attach(c.fd, 999, &arg)) == EBADF, "no descriptor: EBADF");
	close(null);
	for (unsigned int i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		config.cpuids = 1;
		config.cpuid[0] = row[i].cpuid;
		refused(c.fd, &config, row[i].refusal, row[i].what);
	}
	config.cpuids = 0;
	config.vcpus = 0;
	refused(c.fd, &config, ELISA_REFUSE_NO_VCPU, "no vCPU");
	config.vcpus = 1;
	config.flags = TVM_NO_IRQCHIP;
	refused(c.fd, &config, ELISA_REFUSE_NO_IRQCHIP, "no irqchip");
	config.flags = 0;
	config.extra_gpa = info.window_gpa + 0x10000;
	config.extra = PAGE;
	refused(c.fd, &config, ELISA_REFUSE_RAM_IN_WINDOW, "RAM in the window");
	ok(get_info().vms == 0, "nothing is left of them");
	context_close(&c);
}

/* ---- tests: calls ---- */

static void test_calls(int vm)
{
	struct elisa_vcpu_stats s;
	struct tvm_stop stop;
	uint64_t before;
	int good = 0;
	long r;

	r = call(0);
	ok(r == 42, "a call (%ld)", r);
	for (int i = 0; i < 100; i++)
		good += call(0) == 42;
	s = stats(vm, 0);
	ok(good == 100 && s.exits_trusted + s.exits_gate < 20, "100 calls (%d), exits inside %llu",
	   good, (unsigned long long)(s.exits_gate + s.exits_trusted));

	before = tvm_interrupts(tvm, 0);
	guest_start(20000000);
	tvm_timer(tvm, 0, 2000000);
	good = tvm_run(tvm, 0, &stop) == 0 && stop.why == TVM_OUT && stop.value == 42;
	tvm_timer(tvm, 0, 0);
	s = stats(vm, 0);
	ok(good && s.parked > 0 && s.parked == s.delivered && tvm_interrupts(tvm, 0) > before,
	   "interrupts inside: %llu parked, %llu delivered, %llu handled",
	   (unsigned long long)s.parked, (unsigned long long)s.delivered,
	   (unsigned long long)(tvm_interrupts(tvm, 0) - before));
	before = tvm_nmis(tvm, 0);
	ok(stop_inside(vm), "stopped inside by a signal");
	tvm_send_nmi(tvm, 0);
	tvm_send_interrupt(tvm, 0, 0x55);
	interrupt_after(20000);
	tvm_run(tvm, 0, &stop);
	s = stats(vm, 0);
	ok(stop.why == TVM_INTERRUPTED && s.parked >= s.delivered + 2,
	   "an NMI and an interrupt are parked (%llu - %llu)", (unsigned long long)s.parked,
	   (unsigned long long)s.delivered);
	ok(tvm_nmis(tvm, 0) == before, "the NMI is not delivered inside");
}

/* Ends with the VM killed; returns whether all was as it should be. */
static void test_touched(int vm)
{
	static const struct tvm_vectors zero;
	struct tvm_vectors vectors;
	struct elisa_vm_status st;
	struct kvm_regs regs;
	struct pollfd p = { .fd = vm };
	enum tvm_why why;

	memset(&vectors, 0x5a, sizeof(vectors));
	tvm_set_vectors(tvm, 0, &vectors);
	tvm_regs(tvm, 0, &regs);
	regs.r15 ^= 1;
	tvm_set_regs(tvm, 0, &regs);
	why = run_on();
	st = status(vm);
	ok(why == TVM_SHUTDOWN && (st.state & ELISA_VM_KILLED) && st.kill == ELISA_KILL_TOUCHED,
	   "a register changed while inside: %s, kill %u code %llx", tvm_why_name(why), st.kill,
	   (unsigned long long)st.kill_code);
	ok(poll(&p, 1, 0) == 1 && (p.revents & POLLERR), "poll says POLLERR");
	tvm_regs(tvm, 0, &regs);
	ok(!regs.rsi && !regs.rdx && !regs.rsp && !regs.r15, "registers are wiped");
	tvm_vectors(tvm, 0, &vectors);
	ok(!memcmp(&vectors, &zero, sizeof(zero)), "vector registers are wiped");
	ok(call(0) == NOT_ARMED, "afterwards: not attached");
	ok(arm(vm, 0) == EPERM, "arm a killed VM: EPERM");
}

static void test_timeout(int vm)
{
	struct elisa_vm_status st;
	struct kvm_regs regs;
	enum tvm_why why;

	ok(stop_inside(vm), "stopped inside");
	ok(!disarm(vm, 0, 50), "disarm with a timeout");
	ok(arm(vm, 0) == EBUSY, "arm before it was let out: EBUSY");
	why = run_on();
	st = status(vm);
	ok(why == TVM_SHUTDOWN && st.kill == ELISA_KILL_TIMEOUT, "killed at its next entry (%s, %u)",
	   tvm_why_name(why), st.kill);
	tvm_regs(tvm, 0, &regs);
	ok(!regs.rsi && !regs.rdx && !regs.rsp, "registers are wiped");
}

static void test_attached(struct context *c, int *vm)
{
	struct elisa_ctx_attach arg;
	struct elisa_slot slot[4];
	struct elisa_vm_slots slots = { .slots = (uint64_t)(uintptr_t)slot, .count = 4 };
	int again;

	ok(call(0) == NOT_ARMED, "before: not attached");
	*vm = attach(c->fd, tvm_fd(tvm), &arg);
	ok(*vm >= 0, "attach (refusal %u, detail %llx)", arg.refusal, (unsigned long long)arg.detail);
	again = attach(c->fd, tvm_fd(tvm), &arg);
	ok(again < 0 && arg.refusal == ELISA_REFUSE_ALREADY_ATTACHED, "again: already attached");
	ok(err_of(ioctl(*vm, _IO(ELISA_IOC, 0x7f))) == ENOTTY, "unknown VM ioctl: ENOTTY");
	ok(!ioctl(*vm, ELISA_VM_SLOTS, &slots) && slots.count >= 1 && slot[0].size,
	   "%u memory slots", slots.count);
	slots.count = 0;
	ok(err_of(ioctl(*vm, ELISA_VM_SLOTS, &slots)) == ENOSPC && slots.count, "no room: ENOSPC");
	ok(call(0) == NOT_ARMED, "attached, not armed: #UD");
	ok(arm(*vm, 7) == ENOENT, "arm no vCPU: ENOENT");
	ok(disarm(*vm, 0, 0) == ENOENT, "disarm what is not armed: ENOENT");
	ok(!arm(*vm, 0), "arm");
	ok(arm(*vm, 0) == EBUSY, "twice: EBUSY");
}

static void reattach(const struct context *c, int *vm, const char *what)
{
	struct elisa_ctx_attach arg;
	long r;

	*vm = attach(c->fd, tvm_fd(tvm), &arg);
	ok(*vm >= 0 && !arm(*vm, 0), "%s: attach anew and arm (refusal %u)", what, arg.refusal);
	r = call(0);
	ok(r == 42, "%s: calls work (%ld)", what, r);
}

static void test_unmap_live(struct context *c, int vm)
{
	char *p = pages(4 * MIB);
	uint64_t gpa = info.window_gpa + 3 * GIB, invepts = get_info().invept;
	const uint32_t rw = ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED;

	ok(!map(c->fd, p, gpa, 4 * MIB, rw), "map a new chunk while armed");
	ok(call(0) == 42, "calls go on");
	ok(!unmap(c->fd, gpa, 4 * MIB) && get_info().invept > invepts, "unmap: kicked, INVEPT");
	ok(call(0) == 42, "calls go on");
	ok(!ioctl(vm, ELISA_VM_KICK), "kick");
	munmap(p, 4 * MIB);
}

static void test_life(void)
{
	struct elisa_ctx_attach arg;
	struct context c, c2;
	int vm, old, err = context_open(&c);

	ok(!err, "context (%s)", strerror(err));
	test_attached(&c, &vm);
	test_calls(vm);
	test_touched(vm);
	old = vm;
	reattach(&c, &vm, "after a kill");
	ok(err_of(ioctl(old, ELISA_VM_KICK)) == ESTALE, "the old descriptor is stale");
	close(old);
	ok(call(0) == 42, "closing it changes nothing");
	test_timeout(vm);
	close(vm);
	reattach(&c, &vm, "after a timeout");
	test_unmap_live(&c, vm);

	close(vm);
	ok(call(0) == -ELISA_ESHUTDOWN, "VM descriptor closed: away");
	reattach(&c, &vm, "after away");
	ok(!ioctl(vm, ELISA_VM_DETACH, &(uint32_t){ 100 }), "detach");
	ok(call(0) == NOT_ARMED, "detached: #UD");
	ok(err_of(ioctl(vm, ELISA_VM_KICK)) == ENODEV, "its descriptor is of no use");
	ok(wait_for_vms(0), "and the VM is let go");
	close(vm);
	reattach(&c, &vm, "after detach");

	ok(stop_inside(vm), "stopped inside");
	context_close(&c);
	ok(get_info().pinned_pages == 0 && get_info().contexts == 0,
	   "context closed meanwhile: all pages are free");
	err = context_open(&c2);
	ok(!err && attach(c2.fd, tvm_fd(tvm), &arg) < 0 && arg.refusal == ELISA_REFUSE_LEAVING,
	   "attach now: leaving");
	ok(syscall(SYS_delete_module, "elisa", O_NONBLOCK) < 0, "the module stays");
	ok(run_on() == TVM_SHUTDOWN, "killed at its next entry");
	close(vm);
	reattach(&c2, &vm, "after that");
	context_close(&c2);
	ok(call(0) == -ELISA_ESHUTDOWN, "context closed: away");
	close(vm);
}

/* ---- tests: ends ---- */

static void child_owner(int ready)
{
	struct elisa_ctx_attach arg;
	struct context c;
	int vm;

	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	if (context_open(&c))
		_exit(1);
	vm = attach(c.fd, tvm_fd(tvm), &arg);
	if (vm < 0 || arm(vm, 0))
		_exit(2);
	if (write(ready, "x", 1) != 1)
		_exit(3);
	pause();
	_exit(4);
}

static void test_owner_death(void)
{
	int pipefd[2], st;
	char byte;
	pid_t pid;

	if (pipe(pipefd))
		return;
	pid = fork();
	if (!pid)
		child_owner(pipefd[1]);
	close(pipefd[1]);
	ok(read(pipefd[0], &byte, 1) == 1, "another process attaches the VM");
	close(pipefd[0]);
	ok(call(0) == 42, "calls work");
	kill(pid, SIGKILL);
	waitpid(pid, &st, 0);
	ok(call(0) == -ELISA_ESHUTDOWN, "kill -9 of it: away");
	ok(get_info().contexts == 0 && get_info().pinned_pages == 0, "its pages are free");
}

static void test_vm_end(void)
{
	struct pollfd p;
	struct context c;
	int vm;

	context_open(&c);
	reattach(&c, &vm, "for the end");
	p = (struct pollfd){ .fd = vm };
	tvm_destroy(tvm);
	ok(poll(&p, 1, 2000) == 1 && (p.revents & POLLHUP), "VM closed: POLLHUP");
	ok((status(vm).state & ELISA_VM_GONE) && get_info().vms == 0, "gone, and let go");
	ok(err_of(ioctl(vm, ELISA_VM_KICK)) == ENODEV, "its descriptor is of no use");
	ok(get_info().contexts == 1, "the context lives on");
	close(vm);
	context_close(&c);
}

static void test_vmm_death(void)
{
	int pipefd[2], st, vm, fds[1];
	struct elisa_ctx_attach arg;
	struct context c;
	struct pollfd p;
	pid_t pid;

	/* The VMM is a child; its descriptor comes by pidfd_getfd, and is closed after the attach. */
	if (pipe(pipefd))
		return;
	pid = fork();
	if (!pid) {
		struct tvm_stop stop;

		guest_create();
		fds[0] = tvm_fd(tvm);
		if (write(pipefd[1], fds, sizeof(fds)) != sizeof(fds))
			_exit(1);
		guest_start(FOREVER);
		for (;;) {
			tvm_run(tvm, 0, &stop);
			guest_start(FOREVER);
		}
	}
	if (read(pipefd[0], fds, sizeof(fds)) != sizeof(fds))
		return;
	context_open(&c);
	st = (int)syscall(SYS_pidfd_open, pid, 0);
	fds[0] = (int)syscall(SYS_pidfd_getfd, st, fds[0], 0);
	close(st);
	usleep(50000);
	vm = attach(c.fd, fds[0], &arg);
	ok(vm >= 0 && !arm(vm, 0), "attach a running VM of another process (refusal %u)", arg.refusal);
	usleep(200000);
	ok(status(vm).inside == 1, "it is inside");
	p = (struct pollfd){ .fd = vm };
	kill(pid, SIGKILL);
	ok(poll(&p, 1, 3000) == 1 && (p.revents & POLLHUP), "kill -9 of the VMM: POLLHUP");
	waitpid(pid, &st, 0);
	ok(wait_for_vms(0), "let go while its descriptor is held");
	close(fds[0]);
	close(vm);
	context_close(&c);
}

static void test_unload_away(void)
{
	struct context c;
	int vm, err;

	guest_create();
	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	context_open(&c);
	reattach(&c, &vm, "before unloading");
	close(vm);
	context_close(&c);
	ok(call(0) == -ELISA_ESHUTDOWN, "away");
	ok(err_of((int)syscall(SYS_delete_module, "elisa", O_NONBLOCK)) == EWOULDBLOCK,
	   "a descriptor is open: the module stays");
	close(dev);
	err = err_of((int)syscall(SYS_delete_module, "elisa", O_NONBLOCK));
	ok(!err, "it unloads with a VM away (%s)", strerror(err));
	ok(call(0) == NOT_ARMED, "the guest gets #UD");
	tvm_destroy(tvm);
}

int main(void)
{
	struct elisa_info end;

	dev = open("/dev/elisa", O_RDWR | O_CLOEXEC);
	if (dev < 0) {
		note("/dev/elisa: %s: load elisa.ko as root", strerror(errno));
		return TAP_SKIP;
	}
	info = get_info();
	signal(SIGALRM, alarm_handler);
	test_create();
	test_map();
	test_map_device();
	test_map_lazy();
	test_map_interrupted();
	test_refusals();
	guest_create();
	test_life();
	test_owner_death();
	test_vm_end();
	test_vmm_death();
	ok(wait_for_vms(0), "no VM is left");
	end = get_info();
	ok(!end.contexts && !end.pinned_pages, "nothing is left: %llu contexts, %llu pages",
	   (unsigned long long)end.contexts, (unsigned long long)end.pinned_pages);
	close(dev);
	test_unload_away();
	return tap_done();
}
