/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One small attack for each of the module's defences that no other test here is aimed at. With the
 * module as it is all of them fail; tests/attack/red runs each with its defence switched off.
 *
 *	vmx-defences [NAME...]	all, or those named
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <elisa/ioctl.h>

#include "harness.h"
#include "programs.h"
#include "tap.h"

#define DETACH_MS	2000
#define ALARM_US	20000
#define FRAME		0x000ffffffffff000ull
#define SPIN		1000000

static struct host host;
static struct tinyvm *vm;
static struct elisa_vm *attached;

/* ---- the VM ---- */

static void no_vm(void)
{
	if (attached)
		elisa_vm_detach(attached, DETACH_MS);
	attached = NULL;
	tvm_destroy(vm);
	vm = NULL;
}

static bool fresh_vm_of(const struct tvm_config *config)
{
	no_vm();
	return ok(!tvm_create(config, &vm) && !host_attach(&host, getpid(), 1, 0, &attached),
		  "a VM is attached and armed");
}

static bool fresh_vm(void)
{
	return fresh_vm_of(&(struct tvm_config){ .vcpus = 1, .ram = TVM_RAM_MIN });
}

static struct elisa_vm_status status_now(void)
{
	struct elisa_vm_status s;

	memset(&s, 0, sizeof(s));
	elisa_vm_status(attached, &s);
	return s;
}

static struct elisa_vcpu_stats stats_now(void)
{
	struct elisa_vcpu_stats s;

	memset(&s, 0, sizeof(s));
	elisa_vm_stats(attached, 0, &s);
	return s;
}

static bool is_ud(const struct tvm_stop *stop)
{
	return stop->why == TVM_EXCEPTION && stop->vector == 6;
}

static bool call_works(void)
{
	struct guest_call c;

	return guest_call(vm, SVC_ECHO, 11, 22, 33, &c) &&
	       c.result == (int64_t)svc_echo(11, 22, 33);
}

static uint64_t list_slot(unsigned int slot)
{
	struct guest_call c;

	return guest_call(vm, SVC_READ, ELISA_LIST_VA + 8 * slot, 0, 0, &c) ?
	       (uint64_t)c.result : 0;
}

static void load_call(uint64_t op, uint64_t a1)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = op, .rdx = a1,
	};

	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	tvm_reset(vm, 0, 3, &r);
}

static void on_alarm(int sig)
{
	(void)sig;
	tvm_interrupt_run(vm, 0);
}

static bool stop_inside(void)
{
	struct itimerval t = { .it_value = { .tv_usec = ALARM_US } };
	struct tvm_stop stop = { .why = TVM_FAIL };

	load_call(SVC_SPIN, SPIN);
	setitimer(ITIMER_REAL, &t, NULL);
	tvm_run(vm, 0, &stop);
	return ok(stop.why == TVM_INTERRUPTED && status_now().inside == 1,
		  "stopped inside a call (%s)", tvm_why_name(stop.why));
}

/* ---- modes in which VM functions must not be on ---- */

/*
 * Goes on from the state that `change` made of a fresh 64-bit one, at a VMFUNC to the gate or at a
 * call's. Before that there was a good call, so that all is in place but the permission.
 */
static void try_mode(const char *name, uint64_t cond,
		     void (*change)(struct kvm_sregs *, struct kvm_regs *))
{
	struct elisa_vcpu_stats a, b;
	struct kvm_regs r = { .rip = ELISA_CALL_VA, .rsi = SVC_ECHO };
	struct kvm_sregs s;
	struct tvm_stop stop = { .why = TVM_FAIL };
	uint64_t calls;
	int err;

	if (!fresh_vm() || !ok(call_works(), "%s: a call works before", name))
		return;
	guest_pages(vm, RETURN_RAW);
	tvm_load(vm, TVM_GPA_CODE, prog_vmfunc, (size_t)(prog_vmfunc_end - prog_vmfunc));
	tvm_reset(vm, 0, 3, &r);
	tvm_regs(vm, 0, &r);
	tvm_sregs(vm, 0, &s);
	change(&s, &r);
	err = tvm_set_sregs(vm, 0, &s);
	if (!ok(!err && !tvm_set_regs(vm, 0, &r), "%s: KVM takes the state (%s)", name,
		strerror(-err)))
		return;
	a = stats_now();
	calls = host.arena->vm[0].calls;
	tvm_run(vm, 0, &stop);
	b = stats_now();
	ok(host.arena->vm[0].calls == calls && !(status_now().state & ELISA_VM_KILLED) &&
	   a.exits_gate == b.exits_gate && a.exits_trusted == b.exits_trusted &&
	   stop.why != TVM_OUT && b.unarmed_entries > a.unarmed_entries && b.unarmed_last & cond,
	   "%s: VM functions are off (%s %u, %lu calls, conditions 0x%llx)", name,
	   tvm_why_name(stop.why), stop.vector, host.arena->vm[0].calls - calls, b.unarmed_last);
}

static void change_nxe(struct kvm_sregs *s, struct kvm_regs *r)
{
	(void)r;
	s->efer &= ~0x800ull;
}

static void change_smep(struct kvm_sregs *s, struct kvm_regs *r)
{
	(void)r;
	s->cr4 &= ~(1ull << 20);
}

static void change_smap(struct kvm_sregs *s, struct kvm_regs *r)
{
	(void)r;
	s->cr4 &= ~(1ull << 21);
}

static void change_fsgsbase(struct kvm_sregs *s, struct kvm_regs *r)
{
	(void)r;
	s->cr4 &= ~(1ull << 16);
}

static void change_avx(struct kvm_sregs *s, struct kvm_regs *r)
{
	(void)r;
	s->cr4 &= ~(1ull << 18);
}

/* 32-bit protected mode at the VMFUNC of prog_vmfunc, ring 0. */
static void flat_32(struct kvm_sregs *s, struct kvm_regs *r)
{
	struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1,
		.g = 1,
	};

	s->efer = 0x800;		/* NXE */
	s->idt.limit = 0;		/* #UD is the end */
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->cs = data;
	s->cs.selector = 8;
	s->cs.type = 11;
	*r = (struct kvm_regs){
		.rip = TVM_GPA_CODE, .rcx = ELISA_SLOT_GATE, .rsp = TVM_GPA_DATA, .rflags = 2,
	};
}

static void change_lma(struct kvm_sregs *s, struct kvm_regs *r)
{
	uint32_t *directory = tvm_mem(vm, TVM_GPA_DATA + 0x1000);

	flat_32(s, r);
	memset(directory, 0, 4096);
	directory[0] = 0xe3;		/* 4 MiB, present, writable, accessed, dirty */
	s->cr3 = TVM_GPA_DATA + 0x1000;
	s->cr4 = (s->cr4 & ~0x20ull) | 0x10;	/* PSE, not PAE */
}

static void change_pg(struct kvm_sregs *s, struct kvm_regs *r)
{
	flat_32(s, r);
	s->cr0 &= ~0x80000000ull;
}

static void test_nxe(void)
{
	try_mode("EFER.NXE = 0", ELISA_COND_NXE, change_nxe);
}

static void test_smep(void)
{
	try_mode("CR4.SMEP = 0", ELISA_COND_SMEP, change_smep);
}

static void test_smap(void)
{
	try_mode("CR4.SMAP = 0", ELISA_COND_SMAP, change_smap);
}

static void test_fsgsbase(void)
{
	try_mode("CR4.FSGSBASE = 0", ELISA_COND_FSGSBASE, change_fsgsbase);
}

static void test_avx(void)
{
	try_mode("CR4.OSXSAVE = 0", ELISA_COND_AVX, change_avx);
}

static void test_lma(void)
{
	try_mode("32-bit paging", ELISA_COND_LMA, change_lma);
}

static void test_pg(void)
{
	try_mode("no paging", ELISA_COND_CR0_PG, change_pg);
}

/* Nothing left over from before it was killed lets a VM in again. */
static void test_dead(void)
{
	struct guest_call c;
	uint64_t calls;

	if (!fresh_vm())
		return;
	guest_call(vm, SVC_READ, (uintptr_t)host.hidden, 0, 0, &c);
	ok(status_now().state & ELISA_VM_KILLED, "the VM is killed");
	calls = host.arena->vm[0].calls;
	guest_call(vm, SVC_ECHO, 1, 2, 3, &c);
	ok(is_ud(&c.stop) && host.arena->vm[0].calls == calls,
	   "a killed VM's next call is #UD (%s %u)", tvm_why_name(c.stop.why), c.stop.vector);
}

/* ---- what is left after a kill ---- */

static void test_scrub_fpu(void)
{
	static const struct tvm_vectors zero;
	struct tvm_vectors v;
	struct guest_call c;

	if (!fresh_vm())
		return;
	/* Inside they are the guest's until something else is loaded; a death tells neither. */
	memset(&v, 0xa5, sizeof(v));
	tvm_set_vectors(vm, 0, &v);
	guest_call(vm, SVC_READ, (uintptr_t)host.hidden, 0, 0, &c);
	tvm_vectors(vm, 0, &v);
	ok(status_now().state & ELISA_VM_KILLED && !memcmp(&v, &zero, sizeof(v)),
	   "killed inside: all vector registers are zero");
}

/* ---- stopped inside ---- */

static int refs(void)
{
	FILE *f = fopen("/sys/module/elisa/refcnt", "re");
	int n = -1;

	if (!f)
		f = fopen("/sys/module/elisa_weak/refcnt", "re");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static void test_doomed(void)
{
	struct tvm_stop stop = { .why = TVM_FAIL };
	int before = refs(), held;

	if (!fresh_vm() || !stop_inside())
		return;
	elisa_vm_detach(attached, 0);
	attached = NULL;
	held = refs();
	ok(held > before, "detached with a vCPU stopped inside: the module stays (%d, %d users)",
	   before, held);
	tvm_run(vm, 0, &stop);
	ok(stop.why == TVM_SHUTDOWN, "continued, it dies (%s)", tvm_why_name(stop.why));
	tvm_destroy(vm);
	vm = NULL;
	for (int i = 0; i < 100 && refs() > before; i++)
		usleep(50000);
	ok(refs() == before, "then the module may go (%d users)", refs());
	usleep(300000);		/* it has let go of KVM's VM, too: the next one may have its name */
}

static int set_slot(uint32_t slot, uint64_t gpa, uint64_t len, void *addr)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = len,
		.userspace_addr = (uintptr_t)addr,
	};

	return ioctl(tvm_fd(vm), KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

/* KVM throws all of its tables away when a slot goes. */
static void test_root(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tvm_stop stop = { .why = TVM_FAIL };
	struct kvm_regs r = { 0 };

	if (!fresh_vm() || !stop_inside())
		return;
	status_now();
	ok(!set_slot(7, 1 << 30, 4096, page) && !set_slot(7, 1 << 30, 0, page),
	   "a memory slot comes and goes meanwhile");
	tvm_run(vm, 0, &stop);
	tvm_regs(vm, 0, &r);
	ok(stop.why == TVM_OUT && r.rax == SPIN && stats_now().root_changes,
	   "the call goes on and comes back to where KVM's memory is now (%s, %llu)",
	   tvm_why_name(stop.why), r.rax);
	ok(status_now().state & ELISA_VM_MEMORY, "and the change of slots is told");
	munmap(page, 4096);
}

static void test_smm(void)
{
	struct kvm_vcpu_events e;
	struct tvm_stop stop = { .why = TVM_FAIL };
	struct elisa_vm_status s;

	if (!fresh_vm() ||
	    !ok(!set_slot(1 << 16, 0, TVM_RAM_MIN, tvm_mem(vm, 0)), "RAM for SMM") ||
	    !stop_inside())
		return;
	memset(&e, 0, sizeof(e));
	e.flags = KVM_VCPUEVENT_VALID_SMM;
	e.smi.smm = 1;
	ok(!ioctl(tvm_vcpu_fd(vm, 0), KVM_SET_VCPU_EVENTS, &e), "put into SMM");
	tvm_run(vm, 0, &stop);
	s = status_now();
	ok(s.state & ELISA_VM_KILLED && s.kill == ELISA_KILL_STATE && s.kill_code & ELISA_COND_SMM,
	   "in SMM it goes on nowhere: killed (%s 0x%llx, %s)", elisa_kill_name(s.kill),
	   s.kill_code, tvm_why_name(stop.why));
}

/* An event that came meanwhile is the guest's right after the call, not at its next exit. */
static void test_event(void)
{
	struct tvm_stop stop = { .why = TVM_FAIL };
	struct elisa_vcpu_stats s;
	uint64_t before;

	/* So slow that it does nothing but switch the APIC on. */
	if (!fresh_vm() || !ok(!tvm_timer(vm, 0, 2000000000), "APIC on") || !stop_inside())
		return;
	before = tvm_interrupts(vm, 0);
	ok(!tvm_send_interrupt(vm, 0, 77), "an interrupt for a vCPU that is inside");
	tvm_run(vm, 0, &stop);
	s = stats_now();
	ok(stop.why == TVM_OUT && s.parked == 1 && s.delivered == 1,
	   "it was parked and delivered (%llu, %llu; %s)", s.parked, s.delivered,
	   tvm_why_name(stop.why));
	ok(tvm_interrupts(vm, 0) == before + 1, "before the code after the call ran on");
}

/* ---- what each vCPU's tables hold ---- */

#define EPT_RWX		7ull
#define EPT_X		4ull
#define EPT_W		2ull
#define EPT_R		1ull
#define EPT_TYPE	(7ull << 3)
#define EPT_WB		(6ull << 3)
#define EPT_IGNORE_PAT	(1ull << 6)
#define EPT_LARGE	(1ull << 7)
#define EPT_SUPPRESS_VE	(1ull << 63)

struct audit {
	uint64_t root_pa;
	unsigned int leaves, bad, x, w;
};

static void audit_leaf(struct audit *a, uint64_t gpa, uint64_t e)
{
	bool good = (e & (EPT_TYPE | EPT_IGNORE_PAT)) == (EPT_WB | EPT_IGNORE_PAT) &&
		    e & EPT_SUPPRESS_VE && ((e & EPT_RWX) == EPT_X || !(e & EPT_X));

	a->leaves++;
	a->x += !!(e & EPT_X);
	a->w += !!(e & EPT_W);
	if (!good && a->bad++ < 5)
		note("EPT leaf at GPA 0x%lx: 0x%lx", gpa, e);
}

static void audit_window(struct audit *a, uint64_t table, int shift, uint64_t gpa)
{
	uint64_t page[512];

	if (phys_read(table & FRAME, page, sizeof(page))) {
		a->bad++;
		return;
	}
	for (uint64_t i = 0; i < 512; i++) {
		uint64_t at = gpa + (i << shift);

		if (!(page[i] & EPT_RWX) || (shift == 39 && at < host.info.window_gpa))
			continue;
		if (shift == 12 || page[i] & EPT_LARGE)
			audit_leaf(a, at, page[i]);
		else
			audit_window(a, page[i], shift - 9, at);
	}
}

/* All 512 entries are the same; returns that one. */
static uint64_t uniform(uint64_t table, unsigned int count)
{
	uint64_t page[512];

	if (phys_read(table & FRAME, page, sizeof(page)))
		return 0;
	for (unsigned int i = 1; i < count; i++)
		if (page[i] != page[0])
			return 0;
	return page[0];
}

/* Below the window: a pyramid of four tables, every leaf of which is the root, read-only. */
static bool apt_sound(uint64_t eptp)
{
	uint64_t slots = host.info.window_gpa >> 39, e = eptp, window;

	if (phys_read((eptp & FRAME) + 8 * slots, &window, sizeof(window)) || !slots)
		return false;
	for (int level = 4; level; level--) {
		e = uniform(e, level == 4 ? (unsigned int)slots : 512);
		if ((e & EPT_RWX) != EPT_R)
			return false;
	}
	return (e & FRAME) == ept_translate(eptp, tvm_cr3(vm)) &&
	       e & EPT_IGNORE_PAT && e & EPT_SUPPRESS_VE && (e & EPT_TYPE) == EPT_WB;
}

static void test_tables(void)
{
	struct audit gate = { 0 }, trusted = { 0 };
	uint64_t eptp[2];

	if (!fresh_vm())
		return;
	eptp[0] = list_slot(ELISA_SLOT_GATE);
	eptp[1] = list_slot(ELISA_SLOT_TRUSTED) | ELISA_EPTP_LOW;
	if (!ok(eptp[0] && eptp[1] != ELISA_EPTP_LOW, "EPTPs found: 0x%lx, 0x%lx", eptp[0],
		eptp[1]))
		return;
	audit_window(&gate, eptp[0], 39, 0);
	audit_window(&trusted, eptp[1], 39, 0);
	ok(!gate.bad && gate.leaves == 3 && gate.x == 1 && gate.w == 1,
	   "gate: %u pages in the window, %u executable, %u writable (its list), %u bad",
	   gate.leaves, gate.x, gate.w, gate.bad);
	ok(!trusted.bad && trusted.leaves > 10,
	   "trusted: %u leaves, code for execution only, data never, ignoring PAT; %u bad",
	   trusted.leaves, trusted.bad);
	ok(apt_sound(eptp[0]) && apt_sound(eptp[1]),
	   "below the window everything is the root, read-only, in both");
}

/* ---- nothing stale ---- */

static void test_invvpid(void)
{
	struct elisa_vcpu_stats a, b;
	struct tvm_stop stop = { .why = TVM_FAIL };
	struct kvm_sregs s;

	if (!fresh_vm())
		return;
	ok(call_works(), "a call works");
	load_call(SVC_ECHO, 1);
	tvm_run(vm, 0, &stop);
	load_call(SVC_ECHO, 1);
	tvm_sregs(vm, 0, &s);
	s.cr3 |= 1 << 4;		/* PCD: the same tables */
	tvm_set_sregs(vm, 0, &s);
	a = stats_now();
	tvm_run(vm, 0, &stop);
	b = stats_now();
	ok(stop.why == TVM_OUT && b.invvpid == a.invvpid + 1,
	   "the VMM changed CR3: translations are flushed (%llu INVVPID)", b.invvpid - a.invvpid);
}

static void test_invept(void)
{
	uint64_t before;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!fresh_vm())
		return;
	ok(!elisa_export(host.ctx, p, 4096, ELISA_R), "a page is exported");
	before = host_info(&host).invept;
	ok(!elisa_unexport(host.ctx, p, 4096), "and unexported");
	ok(host_info(&host).invept > before, "with an INVEPT (%llu)",
	   host_info(&host).invept - before);
	before = host_info(&host).invept;
	elisa_vm_detach(attached, DETACH_MS);
	attached = NULL;
	ok(host_info(&host).invept > before, "detach with an INVEPT (%llu)",
	   host_info(&host).invept - before);
	munmap(p, 4096);
}

/* What is exported stays what it is for the guest, whatever its owner does to its mapping. */
static void test_pin(void)
{
	const size_t other = 8 << 20;
	uint64_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct guest_call c;
	uint8_t *fill;
	bool read;

	if (!fresh_vm())
		return;
	*p = 0x1234567887654321;
	ok(!elisa_export(host.ctx, p, 4096, ELISA_R) &&
	   guest_call(vm, SVC_READ, (uintptr_t)p, 0, 0, &c) && c.result == 0x1234567887654321,
	   "a page is exported, and read");
	madvise(p, 4096, MADV_DONTNEED);
	fill = mmap(NULL, other, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(fill, 0x77, other);
	read = guest_call(vm, SVC_READ, (uintptr_t)p, 0, 0, &c);
	ok(read && c.result == 0x1234567887654321,
	   "its owner lets go of it: inside it is nobody else's (0x%lx)", c.result);
	munmap(fill, other);
	ok(!elisa_unexport(host.ctx, p, 4096), "unexported");
	munmap(p, 4096);
}

static void test_arm_check(void)
{
	int fd, rc;

	if (!fresh_vm())
		return;
	fd = ioctl(tvm_fd(vm), KVM_CREATE_VCPU, 1ul);
	ok(fd >= 0, "a vCPU is added after the attach, with another CPUID");
	rc = elisa_vm_arm(attached, 1, NULL);
	ok(rc == -EOPNOTSUPP, "it is not armed: %s", rc ? strerror(-rc) : "armed");
	close(fd);
}

/* PCID: the guest may not know it, and if it does, it is no use to it. Needs off=refuse_pcid. */
static void test_pcide(void)
{
	struct tvm_config config = {
		.vcpus = 1, .ram = TVM_RAM_MIN, .cpuids = 1,
		.cpuid = { { 1, 0, TVM_ECX, 0, 1u << 17 } },
	};
	struct kvm_regs r = { .rip = ELISA_CALL_VA, .rsi = SVC_ECHO };
	struct tvm_stop stop = { .why = TVM_FAIL };
	struct kvm_sregs s;
	int err;

	if (!fresh_vm_of(&config))
		return;
	guest_pages(vm, RETURN_RAW);
	tvm_reset(vm, 0, 3, &r);
	tvm_sregs(vm, 0, &s);
	s.cr4 |= 1 << 17;
	err = tvm_set_sregs(vm, 0, &s);
	ok(!err, "CR4.PCIDE = 1 (%s)", strerror(-err));
	tvm_run(vm, 0, &stop);
	ok(is_ud(&stop) && stats_now().unarmed_last & ELISA_COND_PCIDE,
	   "CR4.PCIDE = 1: VM functions are off (%s %u)", tvm_why_name(stop.why), stop.vector);
}

/* ---- who may ask, and for what ---- */

#define PAGE 4096ul

static int raw_open(struct elisa_info *info)
{
	int fd = open("/dev/elisa", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, ELISA_INFO, info)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A context of the module's own, without libelisa-host; its list is at the window's first page. */
static int raw_context(int dev, const struct elisa_info *info)
{
	static uint8_t root[PAGE] __attribute__((aligned(PAGE)));
	struct elisa_context_create create = {
		.root = (uintptr_t)root, .list_gpa = info->window_gpa,
		.desc_gpa = info->window_gpa + PAGE,
	};

	return ioctl(dev, ELISA_CONTEXT_CREATE, &create);
}

/* Maps a page; what errno says, 0: it was done. */
static int raw_map(int ctx, uint64_t gpa, uint32_t prot)
{
	static uint8_t page[PAGE] __attribute__((aligned(PAGE)));
	struct elisa_ctx_map map = {
		.addr = (uintptr_t)page, .gpa = gpa, .len = PAGE, .flags = prot | ELISA_MAP_TRUSTED,
	};

	return ioctl(ctx, ELISA_CTX_MAP, &map) ? errno : 0;
}

/* What `act` comes to in a child process, an errno. */
static int in_child(int (*act)(int, uint64_t), int fd, uint64_t arg)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid)
		_exit(act(fd, arg));
	waitpid(pid, &status, 0);
	return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int act_open(int fd, uint64_t arg)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	(void)fd;
	(void)arg;
	if (syscall(SYS_capset, &head, none))
		return -1;
	return open("/dev/elisa", O_RDWR | O_CLOEXEC) < 0 ? errno : 0;
}

/* The device's owner, who can open any file of its own, but is not allowed to administer. */
static void test_capable(void)
{
	int err = in_child(act_open, -1, 0);

	ok(err == EPERM, "root without capabilities opens the device: %s", strerror(err));
}

static int act_map(int fd, uint64_t gpa)
{
	return raw_map(fd, gpa, ELISA_MAP_R);
}

static void test_owner(void)
{
	struct elisa_info info;
	int dev = raw_open(&info), ctx = dev < 0 ? -1 : raw_context(dev, &info), err;

	if (!ok(ctx >= 0, "a context"))
		return;
	err = in_child(act_map, ctx, info.window_gpa + 2 * PAGE);
	ok(err == EACCES, "a process that inherits it maps its own memory there: %s", strerror(err));
	ok(!raw_map(ctx, info.window_gpa + 3 * PAGE, ELISA_MAP_R), "its creator may");
	close(ctx);
	close(dev);
}

static void test_map(void)
{
	struct elisa_info info;
	int dev = raw_open(&info), ctx = dev < 0 ? -1 : raw_context(dev, &info), err;
	uint64_t end, at;

	if (!ok(ctx >= 0, "a context"))
		return;
	at = info.window_gpa + 2 * PAGE;
	end = info.window_gpa + info.window_size;
	err = raw_map(ctx, at, ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_X);
	ok(err == EINVAL, "code that can be written: %s", strerror(err));
	err = raw_map(ctx, at + PAGE, ELISA_MAP_W);
	ok(err == EINVAL, "memory that can be written, but not read: %s", strerror(err));
	err = raw_map(ctx, end, ELISA_MAP_R);
	ok(err == ERANGE, "a page behind the window: %s", strerror(err));
	err = raw_map(ctx, info.window_gpa, ELISA_MAP_R | ELISA_MAP_W);
	ok(err == ERANGE, "a page over the EPTP lists: %s", strerror(err));
	err = raw_map(ctx, info.window_gpa + PAGE, ELISA_MAP_R | ELISA_MAP_W);
	ok(err == ERANGE, "a page over the descriptors: %s", strerror(err));
	close(ctx);
	close(dev);
}

static int raw_attach(int ctx)
{
	struct elisa_ctx_attach attach = { .kvm_fd = tvm_fd(vm), .flags = ELISA_ATTACH_FORCE_CPU };

	return ioctl(ctx, ELISA_CTX_ATTACH, &attach);
}

/* Who had the VM before says where its next owner's trusted code begins. */
static void test_generation(void)
{
	struct tvm_config config = { .vcpus = 1, .ram = TVM_RAM_MIN };
	struct elisa_vm_arm arm = { .stack = 0x1000, .entry = 0x2000 };
	struct elisa_info info;
	int dev = raw_open(&info), ctx, former, latter, err;
	uint32_t timeout = 0;

	if (!ok(dev >= 0 && !tvm_create(&config, &vm), "a VM"))
		return;
	ctx = raw_context(dev, &info);
	former = raw_attach(ctx);
	close(ctx);
	ctx = raw_context(dev, &info);
	latter = raw_attach(ctx);
	ok(former >= 0 && latter >= 0, "attached to a context, and when that is closed to another");
	err = ioctl(former, ELISA_VM_ARM, &arm) ? errno : 0;
	ok(err == ESTALE, "a vCPU is armed by the first's descriptor: %s", strerror(err));
	close(former);
	ok(!ioctl(latter, ELISA_VM_DETACH, &timeout), "detached by the second's");
	close(latter);
	close(ctx);
	close(dev);
}

/* ---- all ---- */

static const struct test {
	const char *name;
	void (*run)(void);
	bool only_named;
} tests[] = {
	{ "nxe", test_nxe, false },	       { "smep", test_smep, false },
	{ "smap", test_smap, false },	       { "fsgsbase", test_fsgsbase, false },
	{ "avx", test_avx, false },	       { "lma", test_lma, false },
	{ "pg", test_pg, false },	       { "dead", test_dead, false },
	{ "scrub_fpu", test_scrub_fpu, false }, { "doomed", test_doomed, false },
	{ "root", test_root, false },	       { "smm", test_smm, false },
	{ "event", test_event, false },	       { "tables", test_tables, false },
	{ "invvpid", test_invvpid, false },    { "invept", test_invept, false },
	{ "pin", test_pin, false },	       { "arm_check", test_arm_check, false },
	{ "pcide", test_pcide, true },	       { "capable", test_capable, false },
	{ "owner", test_owner, false },	       { "map", test_map, false },
	{ "generation", test_generation, false },
};

static bool wanted(const struct test *t, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], t->name))
			return true;
	return argc == 1 && !t->only_named;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	unsigned int ran = 0;
	uint64_t fingerprint;

	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return tap_done();
	fingerprint = host_fingerprint(&host);
	sigaction(SIGALRM, &sa, NULL);
	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		if (!wanted(&tests[i], argc, argv))
			continue;
		ran++;
		tests[i].run();
		no_vm();
	}
	ok(ran, "%u attacks", ran);
	ok(host_fingerprint(&host) == fingerprint, "trusted memory is as it was at the start");
	host_close(&host);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
