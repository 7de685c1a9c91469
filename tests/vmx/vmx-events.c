/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events that come while a vCPU is inside: interrupts, NMI, SMI, INIT and SIPI by a sibling that
 * the same hostile guest owns, by itself, and storms of them over very many calls.
 *
 *	vmx-events [--calls N] [--only ROW]	so many calls under each storm (1,000,000)
 */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "programs.h"
#include "state.h"
#include "tap.h"

#define VICTIM		1
#define ATTACKER	0
#define HOLD_ROUNDS	8000000ul	/* of two instructions: some 100 ms */

/* x2APIC interrupt command register: SDM vol. 3, 11.6.1. */
#define MSR_ICR		0x830
#define TO(vcpu)	((uint64_t)(vcpu) << 32)
#define TO_SELF		(1ull << 18)
#define ICR_SMI		(2ull << 8)
#define ICR_NMI		(4ull << 8)
#define ICR_INIT	(5ull << 8 | 1ull << 14)
#define ICR_SIPI	(6ull << 8 | 1ull << 14)
#define VECTOR		0x41
#define SIPI_GPA	0x88000ul	/* the page that a SIPI names */
#define SMM_ENTRY	0x38000ul	/* SMBASE is 0x30000 after reset: SDM vol. 3, 32.4 */
#define SMM_SAVE	0x3fe00ul
#define SMM_SAVE_LEN	0x200ul

/* ---- the victim: a thread that runs a vCPU in a call that takes long ---- */

struct victim {
	pthread_t thread;
	struct tvm_stop stop;
	uint64_t calls, spins;
};

static void *run_victim(void *arg)
{
	struct victim *v = arg;

	if (tvm_run(vm, VICTIM, &v->stop))
		v->stop.why = TVM_FAIL;
	return NULL;
}

/* Started, and the service holds SVC_SECRET in all its registers. */
static bool victim_start(struct victim *v)
{
	struct kvm_regs r = {
		.rip = ELISA_CALL_VA, .rsi = SVC_HOLD, .rdx = SVC_SECRET, .r8 = HOLD_ROUNDS,
	};
	double end = seconds() + 10;

	memset(v, 0, sizeof(*v));
	guest_pages(vm, RETURN_RAW);
	v->calls = host.arena->vm[0].calls;
	v->spins = host.arena->vm[0].spins;
	if (tvm_reset(vm, VICTIM, 3, &r) || pthread_create(&v->thread, NULL, run_victim, v)) {
		fprintf(stderr, "vmx-events: the victim does not start\n");
		exit(1);
	}
	while (*(volatile uint64_t *)&host.arena->vm[0].spins == v->spins && seconds() < end)
		usleep(500);
	return host.arena->vm[0].spins == v->spins + 1;
}

/* The attacker's code writes its interrupt command register. */
static bool command(uint64_t icr)
{
	struct kvm_regs r = { .rip = TVM_GPA_CODE, .r12 = icr, .r13 = 10 };
	struct tvm_stop stop;

	tvm_load(vm, TVM_GPA_CODE, state_icr, (size_t)(state_icr_end - state_icr));
	return !tvm_reset(vm, ATTACKER, 0, &r) && !tvm_run(vm, ATTACKER, &stop) &&
	       stop.why == TVM_OUT && stop.port == PORT_SENT;
}

/* 16-bit code where SIPI and SMI lead: says so by a port, then (SMI) RSM. */
static void prepare_real(void)
{
	static const uint8_t code[] = { 0xe6, PORT_LIVED, 0x0f, 0xaa };

	tvm_load(vm, SIPI_GPA, code, sizeof(code));
	tvm_load(vm, SMM_ENTRY, code, sizeof(code));
	memset(tvm_mem(vm, SMM_SAVE), 0, SMM_SAVE_LEN);
}

/* Words at `p` that tell of the trusted context: its data, or addresses of it. */
static unsigned int leaks(const void *p, size_t len)
{
	const uint64_t arena = (uintptr_t)host.arena, code = (uintptr_t)svc_entry & ~0xffffull;
	unsigned int found = 0;
	uint64_t word;

	for (size_t i = 0; i + 8 <= len; i += 4) {
		memcpy(&word, (const uint8_t *)p + i, 8);
		found += word == SVC_SECRET || (word >= arena && word < arena + HOST_FILLER) ||
			 (word >= code && word < code + 0x20000) ||
			 (word >= ELISA_LIST_VA && word < ELISA_DESC_VA + 4096);
	}
	return found;
}

/* What the VMM, or the guest's next code on this vCPU, finds in the victim's registers. */
static unsigned int register_leaks(void)
{
	struct tvm_vectors vectors;
	struct kvm_regs r;
	struct kvm_sregs s;

	if (tvm_regs(vm, VICTIM, &r) || tvm_vectors(vm, VICTIM, &vectors) ||
	    tvm_sregs(vm, VICTIM, &s))
		return 1;
	return leaks(&r, sizeof(r)) + leaks(&vectors, sizeof(vectors)) +
	       leaks(&s.fs.base, sizeof(s.fs.base));
}

static void verdict(const char *row, struct victim *v, uint32_t may, unsigned int leaked)
{
	struct tally t = { .row = row, .may = may };

	state_judge(&t, &v->stop, v->calls, "");
	if (leaked)
		t.bad++;
	state_done(&t);
	if (leaked)
		note("%s: %u words of the trusted context were to be seen", row, leaked);
}

/* System management mode has memory slots of its own: the high half of the slot number. */
static int add_smram(void)
{
	struct kvm_userspace_memory_region r = {
		.slot = 1u << 16, .memory_size = TVM_GPA_FREE, .userspace_addr =
		(uintptr_t)tvm_mem(vm, 0),
	};

	return ioctl(tvm_fd(vm), KVM_SET_USER_MEMORY_REGION, &r);
}

/* ---- rows ---- */

/* Interrupts and NMIs wait; a SIPI without INIT means nothing. */
static void harmless(const char *row, uint64_t icr, uint64_t (*count)(const struct tinyvm *,
								       unsigned int))
{
	uint64_t before = count ? count(vm, VICTIM) : 0;
	struct tvm_stop after;
	struct victim v;
	bool good;

	if (!state_wanted(row))
		return;
	good = victim_start(&v) && command(icr);
	pthread_join(v.thread, NULL);
	tvm_run(vm, VICTIM, &after);	/* a little further: to its UD2 */
	ok(good, "%s: sent while the victim was inside", row);
	if (count)
		ok(count(vm, VICTIM) == before + 1, "%s: arrived afterwards, once", row);
	verdict(row, &v, MAY_CALL, 0);
}

static void smi(void)
{
	static const uint8_t zeros[SMM_SAVE_LEN];
	struct tvm_stop after = { .why = TVM_FAIL };
	unsigned int leaked, registers;
	struct victim v;
	bool good;

	if (!state_wanted("event-smi"))
		return;
	prepare_real();
	good = victim_start(&v) && command(ICR_SMI | TO(VICTIM));
	pthread_join(v.thread, NULL);
	ok(good && memcmp(tvm_mem(vm, SMM_SAVE), zeros, SMM_SAVE_LEN),
	   "event-smi: the guest's memory has a save area");
	note("event-smi: the handler ended by %s (KVM: %u, 0x%lx)", tvm_why_name(v.stop.why),
	     v.stop.kvm_reason, v.stop.value);
	leaked = leaks(tvm_mem(vm, SMM_SAVE), SMM_SAVE_LEN);
	registers = register_leaks();
	ok(!leaked && !registers, "event-smi: %u words in the guest's save area, %u in registers "
	   "tell of the trusted context", leaked, registers);
	tvm_run(vm, VICTIM, &after);	/* RSM */
	ok(!register_leaks(), "event-smi: nothing comes back by RSM (%s %u)",
	   tvm_why_name(after.why), after.vector);
	verdict("event-smi", &v, MAY_BE_TOUCHED, leaked + registers);
}

static void init_sipi(void)
{
	unsigned int leaked;
	struct victim v;
	bool good;

	if (!state_wanted("event-init-sipi"))
		return;
	prepare_real();
	good = victim_start(&v) && command(ICR_INIT | TO(VICTIM));
	usleep(50000);
	good = good && command(ICR_SIPI | TO(VICTIM) | SIPI_GPA >> 12);
	pthread_join(v.thread, NULL);
	ok(good && v.stop.why == TVM_OUT && v.stop.port == PORT_LIVED,
	   "event-init-sipi: the victim begins anew (%s)", tvm_why_name(v.stop.why));
	leaked = register_leaks();
	verdict("event-init-sipi", &v, MAY_BE_TOUCHED, leaked);
}

/* A vCPU that got INIT inside and waits for a SIPI that never comes holds up nobody. */
static void init_forever(void)
{
	struct victim v;
	double start;
	bool good;

	if (!state_wanted("event-init"))
		return;
	prepare_real();
	good = victim_start(&v) && command(ICR_INIT | TO(VICTIM));
	usleep(50000);
	ok(good && state_status().inside == 1, "event-init: it sleeps inside");
	start = seconds();
	elisa_vm_detach(attached, 300);
	attached = NULL;
	ok(seconds() - start < 5, "event-init: the VM is detached meanwhile (%.3f s)",
	   seconds() - start);
	good = command(ICR_SIPI | TO(VICTIM) | SIPI_GPA >> 12);
	pthread_join(v.thread, NULL);
	ok(good && !register_leaks(), "event-init: begun anew after all, it knows nothing");
	v.calls++;	/* it had been let in */
	verdict("event-init", &v, MAY_MISS, 0);
}

static void self(const char *row, uint64_t icr, uint64_t flags, uint32_t may)
{
	struct attack a = { PROGRAM_OF(state_wrmsr), .regs = {
		.rsi = SVC_ECHO, .r12 = icr | TO_SELF, .r13 = MSR_ICR, .rbp = flags } };
	static const uint8_t rsm[] = { 0x0f, 0xaa };
	struct tally t = { .row = row, .may = may };

	if (!state_wanted(row))
		return;
	tvm_load(vm, SMM_ENTRY, rsm, sizeof(rsm));
	state_try(&t, &a, "");
	/* System management mode begins without paging, as a processor after RESET. */
	if (t.resets) {
		note("%s: told as a reset of the VM", row);
		t.bad++;
	}
	state_done(&t);
}

/* ---- storms ---- */

struct storm {
	pthread_t thread;
	atomic_bool stop;
	uint64_t irqs, nmis;		/* sent */
	bool lost;
	bool sibling;
};

/* Some interrupts of different classes and an NMI; the next ones when all these have arrived. */
static void *send_counted(void *arg)
{
	static const uint8_t vectors[] = { 0x31, 0x52, 0x73, 0x94 };
	uint64_t irqs = tvm_interrupts(vm, 0), nmis = tvm_nmis(vm, 0);
	struct storm *s = arg;

	prctl(PR_SET_TIMERSLACK, 1);
	while (!s->stop) {
		double end;

		for (size_t i = 0; i < sizeof(vectors); i++)
			s->irqs += !tvm_send_interrupt(vm, 0, vectors[i]);
		s->nmis += !tvm_send_nmi(vm, 0);
		end = seconds() + 5;
		while (tvm_interrupts(vm, 0) - irqs < s->irqs || tvm_nmis(vm, 0) - nmis < s->nmis) {
			usleep(10);
			if (seconds() > end) {
				s->lost = true;
				return NULL;
			}
		}
		usleep(10);
	}
	return NULL;
}

/* The sibling's own code, as fast as it can: NMI and interrupt in turn. */
static void *send_by_sibling(void *arg)
{
	struct kvm_regs r = { .rip = TVM_GPA_CODE + 0x2000, .r13 = 1000 };
	struct storm *s = arg;
	struct tvm_stop stop;

	r.r12 = ICR_NMI | TO(0);
	if (tvm_reset(vm, 1, 0, &r))
		return NULL;
	while (!s->stop && !tvm_run(vm, 1, &stop) && stop.why == TVM_OUT) {
		if (r.r12 & ICR_NMI)
			s->nmis++;
		else
			s->irqs++;
		r.r12 = r.r12 & ICR_NMI ? TO(0) | VECTOR : ICR_NMI | TO(0);
		tvm_reset(vm, 1, 0, &r);
	}
	return NULL;
}

static void storm(const char *row, uint64_t calls, bool sibling)
{
	struct kvm_regs r = {
		.rip = TVM_USER(TVM_GPA_CODE), .rbx = ELISA_CALL_VA, .r12 = calls,
		.r13 = ELISA_OP_NOP,
	};
	uint64_t irqs = tvm_interrupts(vm, 0), nmis = tvm_nmis(vm, 0);
	struct elisa_vcpu_stats a, b;
	struct storm s = { .stop = false };
	struct tvm_stop stop;
	bool good;

	if (!state_wanted(row) || !ok(attached != NULL, "%s: attached", row))
		return;
	guest_pages(vm, RETURN_CALL);
	tvm_load(vm, TVM_GPA_CODE, prog_loop, (size_t)(prog_loop_end - prog_loop));
	tvm_load(vm, TVM_GPA_CODE + 0x2000, state_icr, (size_t)(state_icr_end - state_icr));
	elisa_vm_stats(attached, 0, &a);
	if (tvm_reset(vm, 0, 3, &r) ||
	    pthread_create(&s.thread, NULL, sibling ? send_by_sibling : send_counted, &s))
		return;
	good = !tvm_run(vm, 0, &stop) && stop.why == TVM_OUT && !tvm_regs(vm, 0, &r);
	s.stop = true;
	/* What was sent last arrives after the last call. */
	while (!sibling && good && !s.lost &&
	       (tvm_interrupts(vm, 0) - irqs < s.irqs || tvm_nmis(vm, 0) - nmis < s.nmis)) {
		struct kvm_regs again = r;

		again.r12 = 1000;
		again.rip = TVM_USER(TVM_GPA_CODE);
		tvm_set_regs(vm, 0, &again);
		good = !tvm_run(vm, 0, &stop) && stop.why == TVM_OUT;
	}
	pthread_join(s.thread, NULL);
	elisa_vm_stats(attached, 0, &b);
	irqs = tvm_interrupts(vm, 0) - irqs;
	nmis = tvm_nmis(vm, 0) - nmis;
	ok(good && !r.rdi && b.kills == a.kills && !(state_status().state & ELISA_VM_KILLED),
	   "%s: %llu calls, the last one's result is %llu", row,
	   calls - r.r12, r.rdi);
	note("%s: calls %lu, sent %lu interrupts and %lu NMIs, arrived %lu and %lu; of them inside "
	     "%llu, delivered after %llu, NMIs that met another %llu", row, calls, s.irqs, s.nmis,
	     irqs, nmis, b.parked - a.parked, b.delivered - a.delivered,
	     b.coalesced - a.coalesced);
	/* Five and a hundred of as many calls as there are unless told. */
	ok(b.parked - a.parked == b.delivered - a.delivered &&
	   b.parked - a.parked > calls / (sibling ? 50000 : 10000),
	   "%s: all %llu that came inside were delivered after", row, b.parked - a.parked);
	if (!sibling)
		ok(!s.lost && irqs == s.irqs && nmis == s.nmis, "%s: %lu events, 0 lost", row,
		   irqs + nmis);
	ok(state_alive(), "%s: calls work", row);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "calls", required_argument, NULL, 'c' },
		{ "only", required_argument, NULL, 'o' },
		{ 0 },
	};
	struct tvm_config config = { .vcpus = 2, .ram = TVM_GPA_FREE };
	uint64_t calls = 1000000;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'c')
			calls = strtoul(optarg, NULL, 0);
		else if (c == 'o')
			state_only = optarg;
		else
			return 2;
	}
	if (!calls)
		return 2;
	if (state_open(&config) && ok(!add_smram(), "memory for system management mode")) {
		tvm_timer(vm, VICTIM, 0);	/* its APIC on, no timer */
		tvm_timer(vm, ATTACKER, 0);
		harmless("event-ipi", TO(VICTIM) | VECTOR, tvm_interrupts);
		harmless("event-nmi", TO(VICTIM) | ICR_NMI, tvm_nmis);
		harmless("event-sipi", TO(VICTIM) | ICR_SIPI | SIPI_GPA >> 12, NULL);
		smi();
		init_sipi();
		init_forever();
		self("event-self-ipi", VECTOR, 0x3002, MAY_CALL);
		self("event-self-nmi", ICR_NMI, 0x3202, MAY_CALL);
		self("event-self-smi", ICR_SMI, 0x3202, MAY_CALL);
		storm("event-storm-counted", calls, false);
		storm("event-storm-sibling", calls / 4 + 1, true);
	}
	return state_close(tap_passed, tap_failed);
}
