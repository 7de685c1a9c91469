/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate with real VMFUNC: calls, what they leave behind, and every way in that is not the door.
 * Service, library and VM live in this one process, so that nothing is out of sight.
 *
 *	vmx-gate [--sets N] [--stride N] [PART...]	register sets and step of the sweep over all
 *							offsets; only these parts (see main)
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "harness.h"
#include "programs.h"
#include "tap.h"

#define DETACH_MS	2000
#define ALARM_US	40000

/* VM exit reasons: SDM vol. 3, appendix C. */
#define EXIT_TRIPLE_FAULT	2
#define EXIT_CPUID		10
#define EXIT_VMCALL		18
#define EXIT_EPT_VIOLATION	48
#define EXIT_VMFUNC		59

static struct host host;
static struct tinyvm *vm;
static struct elisa_vm *attached;
static uint64_t fingerprint;

static int attach(void)
{
	return host_attach(&host, getpid(), 1, 0, &attached);
}

static int reattach(void)
{
	if (attached)
		elisa_vm_detach(attached, DETACH_MS);
	attached = NULL;
	return attach();
}

static bool untouched(void)
{
	return host_fingerprint(&host) == fingerprint;
}

static bool call_works(void)
{
	struct guest_call c;

	return guest_call(vm, SVC_ECHO, 11, 22, 33, &c) &&
	       c.result == (int64_t)svc_echo(11, 22, 33);
}

/* Runs from `regs`, ring 3, with pages and code as they are. */
static struct tvm_stop run_from(const struct kvm_regs *regs, unsigned int ring)
{
	struct tvm_stop stop = { .why = TVM_FAIL };

	if (tvm_reset(vm, 0, ring, regs) || tvm_run(vm, 0, &stop))
		stop.why = TVM_FAIL;
	return stop;
}

static struct elisa_vm_status status_now(void)
{
	struct elisa_vm_status s;

	memset(&s, 0, sizeof(s));
	elisa_vm_status(attached, &s);
	return s;
}

static const char *kill_text(const struct elisa_vm_status *s)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s %llu%s%s in %s", elisa_kill_name(s->kill),
		 (unsigned long long)s->kill_code, s->kill == ELISA_KILL_EXIT ? " " : "",
		 s->kill == ELISA_KILL_EXIT ? elisa_exit_reason_name((uint32_t)s->kill_code) : "",
		 s->kill_context == 1 ? "gate" : s->kill_context == 2 ? "trusted" : "nowhere");
	return text;
}

/* ---- calls ---- */

static void hostile_regs(struct kvm_regs *r, uint64_t with)
{
	*r = (struct kvm_regs){
		.rax = with, .rbx = with + 1, .rcx = with + 2, .rbp = with + 3, .rdi = with + 4,
		.r10 = with + 5, .r11 = with + 6, .r12 = with + 7, .r13 = with + 8,
		.r14 = with + 9, .r15 = with + 10, .r9 = with, .r8 = with, .rdx = with,
	};
}

/* A call whose every register is seen as VMFUNC left it. */
static bool raw_call(struct kvm_regs *regs, uint64_t op, uint64_t a1, uint64_t a2)
{
	struct tvm_stop stop;

	guest_pages(vm, RETURN_RAW);
	regs->rip = ELISA_CALL_VA;
	regs->rsi = op;
	regs->rdx = a1;
	regs->r8 = a2;
	stop = run_from(regs, 3);
	return stop.why == TVM_OUT && stop.port == PORT_DONE && !tvm_regs(vm, 0, regs);
}

static void check_call(uint64_t op, const uint64_t a[3], bool (*good)(int64_t), const char *what)
{
	struct guest_call c;
	bool came_back = guest_call(vm, op, a[0], a[1], a[2], &c);

	ok(came_back && good(c.result), "%s (0x%lx, %s)", what, c.result, tvm_why_name(c.stop.why));
}

static bool is_zero(int64_t r)
{
	return !r;
}

static bool is_echo(int64_t r)
{
	return r == (int64_t)svc_echo(1, 2, 3);
}

static bool is_hello(int64_t r)
{
	return r >> 48 == ELISA_HELLO_MAGIC;
}

static bool is_enosys(int64_t r)
{
	return r == -ELISA_ENOSYS;
}

static bool is_ours(int64_t r)
{
	/* An address of this process, which the guest has nothing at. */
	return (uint64_t)r >> 47 == 0 && (uint64_t)r > TVM_USER_BASE + TVM_RAM_MAX;
}

static void test_call(void)
{
	const uint64_t calls = host.arena->vm[0].calls, none[3] = { 0 }, some[3] = { 1, 2, 3 };
	const uint64_t hello[3] = { ELISA_ABI_REVISION };

	check_call(ELISA_OP_NOP, none, is_zero, "NOP");
	check_call(SVC_ECHO, some, is_echo, "arguments go in, the result comes back");
	check_call(ELISA_OP_HELLO, hello, is_hello, "HELLO");
	check_call(999, some, is_enosys, "an unknown operation is -ENOSYS");
	ok(host.arena->vm[0].calls == calls + 3, "the service counted them under this VM's cookie");
	check_call(SVC_FS, none, is_ours, "FS base inside is a thread's of this process");
	check_call(SVC_STACK, none, is_ours, "stack pointer inside is not the guest's");
}

static void test_flags(void)
{
	/* DF, NT, ID and the arithmetic ones; TF would stop it, AC is relaxed wrongly in the lab */
	struct kvm_regs r = { .rflags = 0x400 | 0x4000 | 0x200000 | 0x8d5 };
	bool good = raw_call(&r, SVC_FLAGS, 0, 0);

	/* IF and IOPL are the guest's to have */
	ok(good && !(r.rdx & (0x400 | 0x4000 | 0x200000 | 0x40000 | 0x100)),
	   "hostile flags do not get in (0x%llx)", r.rdx);
}

/* Registers that must come back as they went in, and those that must not tell anything. */
static void test_registers(void)
{
	struct kvm_regs a, b, in;
	bool good;

	hostile_regs(&a, 0x1111111111111111);
	in = a;
	in.rsp = a.rsp = 0xdead0000dead0000;	/* never used inside, only given back */
	good = raw_call(&a, SVC_DIRTY, SVC_SECRET, 77);
	ok(good && a.rdx == 77, "a service that fills every register (result %llu)", a.rdx);
	ok(good && a.rbx == in.rbx && a.rbp == in.rbp && a.r12 == in.r12 && a.r13 == in.r13 &&
	   a.r14 == in.r14 && a.r15 == in.r15 && a.rsp == in.rsp,
	   "rbx rbp rsp r12-r15 are kept, whatever they hold");
	ok(good && !(a.rax | a.rcx | a.rsi | a.rdi | a.r8 | a.r9 | a.r10),
	   "rax rcx rsi rdi r8-r10 come back as zero");
	ok(good && !(a.r11 & ~(uint64_t)ELISA_FLAG_EVENT), "r11 holds flags only (0x%llx)", a.r11);
	hostile_regs(&b, 0x2222222222222222);
	good = raw_call(&b, SVC_DIRTY, 0x1234567812345678, 77);
	ok(good && (a.rflags & 0x8d5) == (b.rflags & 0x8d5) && a.r11 >> 1 == b.r11 >> 1,
	   "flags are the same after other secrets (0x%llx, 0x%llx)", a.rflags, b.rflags);
}

static void test_vectors(void)
{
	static const struct tvm_vectors zero;
	struct tvm_vectors v;
	struct kvm_regs r = { 0 };
	bool good;

	memset(&v, 0xa5, sizeof(v));
	tvm_set_vectors(vm, 0, &v);
	good = raw_call(&r, SVC_DIRTY, SVC_SECRET, 1) && !tvm_vectors(vm, 0, &v);
	ok(good && !memcmp(&v, &zero, sizeof(v)), "all 16 YMM registers come back as zero");
}

static void test_fs_base(void)
{
	struct kvm_regs r = { .rip = ELISA_CALL_VA, .rsi = SVC_ECHO };
	struct kvm_sregs s;
	struct tvm_stop stop = { .why = TVM_FAIL };
	const uint64_t fs = 0x00007123456789a0;

	guest_pages(vm, RETURN_RAW);
	tvm_reset(vm, 0, 3, &r);
	tvm_sregs(vm, 0, &s);
	s.fs.base = fs;
	tvm_set_sregs(vm, 0, &s);
	tvm_run(vm, 0, &stop);
	tvm_sregs(vm, 0, &s);
	ok(stop.why == TVM_OUT && s.fs.base == fs, "the guest's FS base is back (0x%llx)",
	   s.fs.base);
}

/* What a call leaves in the list: the trusted slot is shut before the service runs. */
static void test_disarmed(void)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = ELISA_OP_NOP,
		.r12 = ELISA_SLOT_TRUSTED,
	};
	uint64_t slot = ~0ull, eptp = gate_eptp(vm), list = inside_translate(eptp, ELISA_LIST_VA);
	struct tvm_stop stop;

	/* Once by what the call left in memory ... */
	if (list != ~0ull)
		phys_read(list + 8 * ELISA_SLOT_TRUSTED, &slot, sizeof(slot));
	ok(slot && !(slot & 0xff), "after a call the trusted slot is shut (0x%lx)", slot);
	/* ... and once by trying, with no VM exit between the call and the attempt. */
	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_after, (size_t)(prog_after_end - prog_after));
	stop = run_from(&r, 3);
	ok(stop.why == TVM_EXCEPTION && stop.vector == 6 && !(status_now().state & ELISA_VM_KILLED),
	   "VMFUNC to the trusted index right after a call: #UD (%s %u)", tvm_why_name(stop.why),
	   stop.vector);
	if (status_now().state & ELISA_VM_KILLED)
		reattach();
}

/* ---- deaths ---- */

/* The VM is to have died of `kill` with `code` in `context`; brings it back to life. */
static bool expect_death(const struct tvm_stop *stop, const char *what, uint32_t kill, int64_t code,
			 uint32_t context)
{
	struct elisa_vm_status s = status_now();
	struct kvm_regs r;
	bool died = s.state & ELISA_VM_KILLED && s.kill == kill &&
		    (code < 0 || s.kill_code == (uint64_t)code) && s.kill_context == context;
	bool clean;

	ok(died && stop->why == TVM_SHUTDOWN, "%s: killed (%s; the VMM sees %s)", what,
	   kill_text(&s), tvm_why_name(stop->why));
	tvm_regs(vm, 0, &r);
	clean = !(r.rsi | r.rdi | r.rbp | r.rsp | r.r8 | r.r9 | r.r10 | r.r11 | r.r12 | r.r13 |
		  r.r14 | r.r15);
	/* KVM goes on to emulate these two with the scrubbed registers. */
	if (code != EXIT_CPUID && code != EXIT_VMCALL)
		clean = clean && !(r.rax | r.rbx | r.rcx | r.rdx);
	if (!clean)
		ok(false, "%s: registers are scrubbed (rip 0x%llx rsp 0x%llx rax 0x%llx)", what,
		   r.rip, r.rsp, r.rax);
	if (!untouched())
		ok(false, "%s: trusted memory is unchanged", what);
	if (reattach() || !call_works())
		return ok(false, "%s: attached anew, calls work", what);
	return died;
}

static void deadly_service(const char *what, uint64_t op, uint64_t a1, uint32_t reason)
{
	struct guest_call c;

	guest_call(vm, op, a1, 0x4141414141414141, 0, &c);
	expect_death(&c.stop, what, ELISA_KILL_EXIT, reason, 2);
}

static void test_service_faults(void)
{
	uint64_t code = (uint64_t)(uintptr_t)svc_entry;

	deadly_service("service reads what is not exported", SVC_READ,
		       (uintptr_t)host.hidden, EXIT_EPT_VIOLATION);
	deadly_service("service writes what is not exported", SVC_WRITE,
		       (uintptr_t)host.hidden, EXIT_EPT_VIOLATION);
	deadly_service("service writes its own code", SVC_WRITE, code, EXIT_EPT_VIOLATION);
	deadly_service("service reads its own code", SVC_READ, code, EXIT_EPT_VIOLATION);
	/* To a RET there: it must be the fetch that ends it. */
	ok(host.arena->filler[101] == 0xc3, "data that could be run");
	deadly_service("service jumps into its data", SVC_JUMP,
		       (uintptr_t)&host.arena->filler[101], EXIT_EPT_VIOLATION);
	deadly_service("service writes its descriptor", SVC_WRITE, ELISA_DESC_VA,
		       EXIT_EPT_VIOLATION);
	deadly_service("service executes CPUID", SVC_CPUID, 0, EXIT_CPUID);
	deadly_service("service executes VMCALL", SVC_VMCALL, 0, EXIT_VMCALL);
	deadly_service("service asks for VMFUNC index 511", SVC_VMFUNC, 511, EXIT_VMFUNC);
	deadly_service("service reads a guest's address", SVC_READ,
		       TVM_USER(TVM_GPA_DATA), EXIT_TRIPLE_FAULT);
	deadly_service("service executes INT3", SVC_INT3, 0, EXIT_TRIPLE_FAULT);
	deadly_service("service divides by zero", SVC_DIVIDE, 0, EXIT_TRIPLE_FAULT);
	deadly_service("service executes SYSCALL", SVC_SYSCALL, 0, EXIT_TRIPLE_FAULT);
	deadly_service("service executes HLT", SVC_HLT, 0, EXIT_TRIPLE_FAULT);
}

/* ---- VMFUNC from anywhere ---- */

static void test_indices(unsigned int ring)
{
	struct kvm_regs r = { .rip = ring ? TVM_USER(TVM_GPA_CODE) : TVM_GPA_CODE };
	unsigned int ud = 0, out = 0, other = 0;
	uint64_t calls = host.arena->vm[0].calls;
	struct tvm_stop stop;

	tvm_load(vm, TVM_GPA_CODE, prog_vmfunc, (size_t)(prog_vmfunc_end - prog_vmfunc));
	for (unsigned int i = 0; i < 520; i++) {
		if (i == ELISA_SLOT_DEFAULT || i == ELISA_SLOT_GATE)
			continue;
		r.rcx = i < 512 ? i : 1ull << (i - 512 + 9);
		stop = run_from(&r, ring);
		if (stop.why == TVM_EXCEPTION && stop.vector == 6)
			ud++;
		else if (stop.why == TVM_OUT)
			out++;
		else
			other++;
	}
	ok(ud == 518, "ring %u: VMFUNC with each other index: %u #UD, %u went through, %u else",
	   ring, ud, out, other);
	r.rcx = ELISA_SLOT_DEFAULT;
	stop = run_from(&r, ring);
	ok(stop.why == TVM_OUT, "ring %u: VMFUNC to the default context changes nothing (%s)", ring,
	   tvm_why_name(stop.why));
	r.rcx = ELISA_SLOT_GATE;
	stop = run_from(&r, ring);
	expect_death(&stop, ring ? "ring 3: gate index from an address that is no gate" :
		     "ring 0: gate index from an address that is no gate", ELISA_KILL_EXIT,
		     EXIT_TRIPLE_FAULT, 1);
	ok(host.arena->vm[0].calls == calls + 1, "ring %u: the service was never entered", ring);
}

static void test_leaves(void)
{
	static const uint64_t leaves[] = { 1, 2, 31, 32, 63, 64, 65, 0x80000000, 0xffffffff };
	struct kvm_regs r = { .rip = TVM_USER(TVM_GPA_CODE), .rcx = ELISA_SLOT_GATE };
	unsigned int ud = 0;

	tvm_load(vm, TVM_GPA_CODE, prog_vmfunc, (size_t)(prog_vmfunc_end - prog_vmfunc));
	for (size_t i = 0; i < sizeof(leaves) / sizeof(*leaves); i++) {
		struct tvm_stop stop;

		r.rax = leaves[i];
		stop = run_from(&r, 3);
		ud += stop.why == TVM_EXCEPTION && stop.vector == 6;
	}
	ok(ud == sizeof(leaves) / sizeof(*leaves), "VMFUNC leaf > 0 is #UD (%u of %zu)", ud,
	   sizeof(leaves) / sizeof(*leaves));
	ok(call_works(), "calls work afterwards");
}

/* SMEP: user pages are not for ring 0, and inside every page is a user's. */
static void test_ring0_call(void)
{
	struct kvm_regs r = { .rip = ELISA_CALL_VA, .rsi = SVC_ECHO };
	uint64_t calls = host.arena->vm[0].calls;
	struct tvm_stop stop;

	guest_pages(vm, RETURN_RAW);
	*tvm_pte(vm, ELISA_GATE_VA) &= ~TVM_PTE_U;
	*tvm_pte(vm, ELISA_RETURN_VA) &= ~TVM_PTE_U;
	stop = run_from(&r, 0);
	*tvm_pte(vm, ELISA_GATE_VA) |= TVM_PTE_U;
	*tvm_pte(vm, ELISA_RETURN_VA) |= TVM_PTE_U;
	ok(host.arena->vm[0].calls == calls, "ring 0 through the gate: the service is not entered");
	expect_death(&stop, "ring 0 through the gate", ELISA_KILL_EXIT, EXIT_TRIPLE_FAULT, 1);
}

/* ---- CR3 ---- */

/* Where an exported address is in the window, by the trusted context's own page tables. */
static uint64_t inside_gpa(uint64_t va)
{
	struct guest_call c;
	uint64_t eptp, e = 0;

	guest_call(vm, SVC_READ, ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED, 0, 0, &c);
	eptp = (uint64_t)c.result | ELISA_EPTP_LOW;
	phys_read(ept_translate(eptp, 0) + 8 * (va >> 39 & 511), &e, sizeof(e));
	phys_read(ept_translate(eptp, e & 0xffffffffff000) + 8 * (va >> 30 & 511), &e, sizeof(e));
	return (e & 0xfffffc0000000) | (va & 0x3ffff000);
}

static void test_cr3(void)
{
	uint64_t calls = host.arena->vm[0].calls, window = host.info.window_gpa, root, e = 0;
	struct tvm_stop stop;
	char what[80];

	guest_make_global(vm, true);
	stop = guest_call_cr3(vm, tvm_cr3(vm));
	ok(stop.why == TVM_OUT && host.arena->vm[0].calls == calls + 1,
	   "global pages, own CR3: a call works (%s %u)", tvm_why_name(stop.why), stop.vector);
	stop = guest_call_cr3(vm, 0x7000);
	ok((stop.why == TVM_OUT || stop.why == TVM_EXCEPTION || stop.why == TVM_SHUTDOWN) &&
	   host.arena->vm[0].calls <= calls + 2,
	   "a CR3 with nothing in it: trusted page tables all the same (%s, %lu calls)",
	   tvm_why_name(stop.why), host.arena->vm[0].calls - calls);
	if (status_now().state & ELISA_VM_KILLED)
		reattach();
	/* The second-level table, as the root names it; the gate maps it. */
	root = ept_translate(gate_eptp(vm), 0);
	phys_read(root + 8 * (ELISA_GATE_VA >> 39 & 511), &e, sizeof(e));
	/* All but that one are not there: the walk itself ends it. */
	const struct {
		uint64_t gpa;
		int64_t exit;
	} targets[] = {
		{ window, EXIT_EPT_VIOLATION },
		{ e & 0xffffffffff000, EXIT_TRIPLE_FAULT },
		{ (e & 0xffffffffff000) + 4096, EXIT_EPT_VIOLATION },
		{ inside_gpa((uintptr_t)host.arena->filler), EXIT_EPT_VIOLATION },
		{ 2 * window - 4096, EXIT_EPT_VIOLATION },
	};

	for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++) {
		uint64_t before = host.arena->vm[0].calls;

		stop = guest_call_cr3(vm, targets[i].gpa);
		snprintf(what, sizeof(what), "CR3 = 0x%lx, in the window", targets[i].gpa);
		ok(host.arena->vm[0].calls == before, "%s: the service is not entered", what);
		expect_death(&stop, what, ELISA_KILL_EXIT, targets[i].exit, 1);
	}
	guest_make_global(vm, false);
}

/* ---- a VMM that meddles ---- */

static void on_alarm(int sig)
{
	(void)sig;
	tvm_interrupt_run(vm, 0);
}

/* So many that a call of them takes a few alarms, on any processor. */
static uint64_t spin_rounds;

static void measure_spin(void)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	const uint64_t some = 200000;
	struct guest_call c;
	double start = seconds();

	sigaction(SIGALRM, &sa, NULL);
	guest_call(vm, SVC_SPIN, some, 0, 0, &c);
	spin_rounds = (uint64_t)((double)some * 5 * ALARM_US / 1e6 / (seconds() - start));
}

/* Stops the vCPU inside a long call. */
static bool stop_inside(void)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .rsi = SVC_SPIN,
		.rdx = spin_rounds,
	};
	struct itimerval t = { .it_value = { .tv_usec = ALARM_US } };
	struct tvm_stop stop;

	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_call, (size_t)(prog_call_end - prog_call));
	setitimer(ITIMER_REAL, &t, NULL);
	stop = run_from(&r, 3);
	return stop.why == TVM_INTERRUPTED && status_now().inside == 1;
}

static void meddle(const char *what, void (*change)(struct kvm_regs *, struct kvm_sregs *))
{
	struct kvm_regs r;
	struct kvm_sregs s;
	struct tvm_stop stop = { .why = TVM_FAIL };

	if (!ok(stop_inside(), "%s: stopped inside a call", what))
		return;
	tvm_regs(vm, 0, &r);
	tvm_sregs(vm, 0, &s);
	if (!change) {
		tvm_run(vm, 0, &stop);
		tvm_regs(vm, 0, &r);
		ok(stop.why == TVM_OUT && r.rax == spin_rounds,
		   "%s: the call goes on and ends (%s, %llu)", what, tvm_why_name(stop.why), r.rax);
		return;
	}
	change(&r, &s);
	tvm_set_sregs(vm, 0, &s);
	tvm_set_regs(vm, 0, &r);
	tvm_run(vm, 0, &stop);
	expect_death(&stop, what, ELISA_KILL_TOUCHED, -1, 2);
}

static void change_rbx(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)s;
	r->rbx ^= 8;
}

static void change_rip(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)s;
	r->rip = ELISA_GATE_VA + 16;
}

static void change_rsp(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)s;
	r->rsp -= 64;
}

static void change_flags(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)s;
	r->rflags ^= 0x400;
}

static void change_cr3(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)r;
	s->cr3 += 4096;
}

/* Bits of control registers that no condition for VM functions is about. */
static void change_cr0(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)r;
	s->cr0 ^= 1 << 16;	/* WP */
}

static void change_cr4(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)r;
	s->cr4 ^= 1 << 2;	/* TSD */
}

static void change_efer(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)r;
	s->efer ^= 1;		/* SCE */
}

static void change_cs(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)r;
	s->cs.avl ^= 1;
}

static void change_fs(struct kvm_regs *r, struct kvm_sregs *s)
{
	(void)r;
	s->fs.base += 4096;
}

static void test_meddling(void)
{
	measure_spin();
	meddle("vmm-registers: the VMM only looks", NULL);
	meddle("vmm-registers: the VMM changes RBX inside", change_rbx);
	meddle("vmm-registers: the VMM changes RIP inside", change_rip);
	meddle("vmm-registers: the VMM changes RSP inside", change_rsp);
	meddle("vmm-registers: the VMM changes RFLAGS inside", change_flags);
	meddle("vmm-registers: the VMM changes CR3 inside", change_cr3);
	meddle("vmm-registers: the VMM changes FS inside", change_fs);
	meddle("vmm-registers: the VMM changes CR0 inside", change_cr0);
	meddle("vmm-registers: the VMM changes CR4 inside", change_cr4);
	meddle("vmm-registers: the VMM changes EFER inside", change_efer);
	meddle("vmm-registers: the VMM changes CS inside", change_cs);
}

/* ---- every offset ---- */

struct set {
	const char *name;
	uint64_t with;		/* in every register */
	uint64_t spread;	/* added for each next one */
	uint64_t rflags;
};

static const struct set sets[] = {
	{ "all at the list's trusted slot", ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED, 0, 0 },
	{ "spread over the list, flags set", ELISA_LIST_VA, 8, 0xcd5 },
	{ "all at the gate's code", ELISA_GATE_VA + ELISA_GATE_OFFSET, 1, 0 },
	{ "all ones", ~0ull, 0, 0xcd5 },
	{ "all zero", 0, 0, 0 },
	{ "list minus a displacement of int3s", ELISA_LIST_VA + 0x33333334, 0, 0 },
};

static void set_regs(const struct set *s, struct kvm_regs *r)
{
	uint64_t v = s->with, d = s->spread;

	*r = (struct kvm_regs){
		.rbx = v, .rdx = v + d, .rsi = v + 2 * d, .rdi = v + 3 * d, .rbp = v + 4 * d,
		.rsp = v + 5 * d, .r8 = v + 6 * d, .r9 = v + 7 * d, .r10 = v + 8 * d,
		.r11 = v + 9 * d, .r12 = v + 10 * d, .r13 = v + 11 * d, .r14 = v + 12 * d,
		.r15 = v + 13 * d, .rflags = s->rflags,
		/* What VMFUNC reads is EAX and ECX: the upper halves are free. */
		.rax = v & ~0xffffffffull, .rcx = (v & ~0xffffffffull) | ELISA_SLOT_GATE,
	};
	if (!r->rsp)
		r->rsp = 8;	/* 0 would mean a sensible stack */
}

/* VMFUNC such that the gate context's first instruction is at `offset` of the gate page. */
static struct tvm_stop enter_at(const struct set *s, unsigned int offset)
{
	static const uint8_t vmfunc[] = { 0x0f, 0x01, 0xd4 };
	uint8_t *x = tvm_mem(vm, TVM_GPA_X);
	struct kvm_regs r;

	guest_pages(vm, RETURN_RAW);
	memset(x, 0xcc, 4096);
	memcpy(x + offset - sizeof(vmfunc), vmfunc, sizeof(vmfunc));
	set_regs(s, &r);
	r.rip = ELISA_GATE_VA + offset - sizeof(vmfunc);
	return run_from(&r, 3);
}

struct tally {
	unsigned int through, killed, left, bad;
	unsigned int by_reason[ELISA_EXIT_REASONS];
	unsigned int first_through, last_through;
};

/* The gate's first instruction, a XOR of two bytes, does what VMFUNC needs to have been true
 * anyway: entering behind it is entering. */
static bool is_door(unsigned int offset)
{
	return offset == ELISA_GATE_OFFSET || offset == ELISA_GATE_OFFSET + 2;
}

static void judge(unsigned int offset, const struct tvm_stop *stop, const struct gate_pages *g,
		  uint64_t calls, struct tally *t)
{
	struct elisa_vm_status s = status_now();
	uint64_t entered = host.arena->vm[0].calls - calls;
	bool sound = gate_pages_sound(g) && untouched();
	bool killed = s.state & ELISA_VM_KILLED;
	bool good = sound && entered == is_door(offset) && killed != is_door(offset);

	if (killed) {
		t->killed++;
		if (s.kill == ELISA_KILL_EXIT && s.kill_code < ELISA_EXIT_REASONS)
			t->by_reason[s.kill_code]++;
		good = good && stop->why == TVM_SHUTDOWN && s.kill == ELISA_KILL_EXIT &&
		       s.kill_context == 1;
	} else if (entered) {
		if (!t->through++)
			t->first_through = offset;
		t->last_through = offset;
		good = good && stop->why == TVM_OUT;
	} else {
		t->left++;
	}
	if (good)
		return;
	if (t->bad++ < 10)
		note("offset 0x%x: %s, entered %lu times, %s, list and tables %s, memory %s",
		     offset, tvm_why_name(stop->why), entered, killed ? kill_text(&s) : "alive",
		     sound ? "sound" : "CHANGED", untouched() ? "unchanged" : "CHANGED");
}

static void sweep(const struct set *s, unsigned int stride)
{
	struct tally t = { 0 };
	struct gate_pages g;
	unsigned int done = 0, broken = 0;
	double start = seconds();

	for (unsigned int offset = 0; offset < 4096 && broken < 5; offset += stride) {
		uint64_t calls;
		struct tvm_stop stop;

		if ((!attached || status_now().state & ELISA_VM_KILLED) && reattach()) {
			broken++;
			continue;
		}
		if (!gate_pages_find(vm, &g)) {
			note("offset 0x%x: no legitimate call before it", offset);
			broken++;
			continue;
		}
		calls = host.arena->vm[0].calls;
		stop = enter_at(s, offset);
		judge(offset, &stop, &g, calls, &t);
		done++;
		if (done % 512 == 0)
			note("%u offsets after %.1f s of the machine's time", done,
			     seconds() - start);
	}
	ok(!broken && !t.bad && done == (4096 + stride - 1) / stride,
	   "gate-offsets: registers %s: %u offsets: %u killed (%u EPT violation, %u triple fault, "
	   "%u VMFUNC), %u through the door, %u left otherwise, %u bad", s->name, done, t.killed,
	   t.by_reason[EXIT_EPT_VIOLATION], t.by_reason[EXIT_TRIPLE_FAULT],
	   t.by_reason[EXIT_VMFUNC], t.through, t.left, t.bad);
	if (stride == 1)
		ok(t.through == 2 && t.first_through == ELISA_GATE_OFFSET &&
		   t.last_through == ELISA_GATE_OFFSET + 2,
		   "gate-offsets: registers %s: only the gate's first two instructions lead in",
		   s->name);
}

/* What a monitor sees of a vCPU that it stopped inside: nothing of the service's. */
static void test_hidden(void)
{
	static const struct tvm_vectors zero;
	struct tvm_vectors v;
	struct tvm_stop stop;
	struct kvm_regs r;

	measure_spin();
	if (!ok(stop_inside(), "stopped inside a call"))
		return;
	tvm_regs(vm, 0, &r);
	tvm_vectors(vm, 0, &v);
	ok(!(r.rax | r.rbx | r.rcx | r.rdx | r.rsi | r.rdi | r.rbp | r.rsp | r.r8 | r.r12) &&
	   !memcmp(&v, &zero, sizeof(v)),
	   "its registers and vectors are zero for the monitor (rdi 0x%llx rsp 0x%llx)", r.rdi,
	   r.rsp);
	tvm_run(vm, 0, &stop);
	tvm_regs(vm, 0, &r);
	ok(stop.why == TVM_OUT && r.rax == spin_rounds, "and the call goes on with its own (%s)",
	   tvm_why_name(stop.why));
}

static void test_rings(void)
{
	test_indices(3);
	test_indices(0);
	test_leaves();
	test_ring0_call();
}

static void test_calls(void)
{
	test_call();
	test_flags();
	test_registers();
	test_vectors();
	test_fs_base();
	test_disarmed();
}

static const struct part {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "calls", test_calls },	{ "vmfunc", test_rings }, { "faults", test_service_faults },
	{ "meddling", test_meddling },	{ "hidden", test_hidden }, { "cr3", test_cr3 },
};

static bool wanted(const char *part, int count, char **parts_named)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(part, parts_named[i]))
			return true;
	return !count;
}

/* Returns the index of the first part named. */
static int parse(int argc, char **argv, unsigned int *count, unsigned int *stride)
{
	static const struct option options[] = {
		{ "sets", required_argument, NULL, 's' },
		{ "stride", required_argument, NULL, 't' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			*count = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 't')
			*stride = (unsigned int)strtoul(optarg, NULL, 0);
		else
			exit(2);
	}
	if (!*stride || *count > sizeof(sets) / sizeof(*sets)) {
		fprintf(stderr, "vmx-gate: --stride is at least 1, --sets at most %zu\n",
			sizeof(sets) / sizeof(*sets));
		exit(2);
	}
	return optind;
}

int main(int argc, char **argv)
{
	struct tvm_config config = { .vcpus = 1, .ram = TVM_RAM_MIN };
	unsigned int count = 3, stride = 1;
	struct elisa_info info;
	int first;

	first = parse(argc, argv, &count, &stride);
	if (!ok(!kmsg_mark(), "kernel log opened") || !ok(!host_open(&host), "service realized"))
		return tap_done();
	fingerprint = host_fingerprint(&host);
	if (!ok(!tvm_create(&config, &vm), "VM created") || !ok(!attach(), "attached and armed"))
		return tap_done();
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (wanted(parts[i].name, argc - first, argv + first))
			parts[i].run();
	for (unsigned int i = 0; wanted("offsets", argc - first, argv + first) && i < count; i++)
		sweep(&sets[i], stride);
	elisa_vm_detach(attached, DETACH_MS);
	tvm_destroy(vm);
	info = host_info(&host);
	ok(!info.vms, "no VM is left attached (%llu)", info.vms);
	ok(untouched(), "trusted memory is as it was at the start");
	host_close(&host);
	ok(!kmsg_bad(), "the host's kernel log is clean");
	return tap_done();
}
