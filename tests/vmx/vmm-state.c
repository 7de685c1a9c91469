/* SPDX-License-Identifier: BSD-3-Clause */
/* Events, watches, resets and snapshots by the monitor while the vCPU is stopped inside. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "programs.h"
#include "vmm.h"

/* ---- events ---- */

static int set_events(const void *arg)
{
	struct kvm_vcpu_events e, *want = (struct kvm_vcpu_events *)(uintptr_t)arg;

	struct kvm_enable_cap payload = { .cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = { 1 } };

	/* Without it KVM takes nothing as pending. */
	vm_ioctl(KVM_ENABLE_CAP, &payload);
	vcpu_ioctl(KVM_GET_VCPU_EVENTS, &e);
	e.exception = want->exception;
	e.interrupt = want->interrupt;
	e.nmi = want->nmi;
	e.sipi_vector = want->sipi_vector;
	e.smi = want->smi;
	e.flags = want->flags | (e.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
	return vcpu_ioctl(KVM_SET_VCPU_EVENTS, &e);
}

static void exceptions(struct group *g)
{
	char what[64];

	for (unsigned int i = 0; i < 32 * 4; i++) {
		struct kvm_vcpu_events e = { .exception = {
						     .injected = !(i & 1),
						     .pending = i & 1,
						     .has_error_code = i >> 1 & 1,
						     .nr = (uint8_t)(i / 4),
					     } };

		snprintf(what, sizeof(what), "exception %u%s%s", i / 4, i & 1 ? " pending" : "",
			 i & 2 ? " with an error code" : "");
		try_inside(g, what, set_events, &e,
			   i / 4 == 2 ? GOES_ON | REFUSED | EVENT | TOUCHED
				      : REFUSED | EVENT | TOUCHED | EXIT);
	}
}

static void interrupts(struct group *g)
{
	const uint8_t vectors[] = { 0, 8, 13, 31, 32, 100, 255 };
	char what[64];

	for (unsigned int i = 0; i < sizeof(vectors); i++) {
		struct kvm_vcpu_events e = { .interrupt = { .injected = 1, .nr = vectors[i] } };

		snprintf(what, sizeof(what), "interrupt %u", vectors[i]);
		/* It waits until the vCPU is out; what its handler makes of it is its own. */
		try_inside(g, what, set_events, &e, GOES_ON | FAULT);
		e.interrupt.soft = 1;
		try_inside(g, "soft interrupt", set_events, &e, EVENT);
		e.interrupt.soft = 0;
		e.interrupt.shadow = (uint8_t)(1 + i % 3);
		e.flags = KVM_VCPUEVENT_VALID_SHADOW;
		try_inside(g, "interrupt shadow", set_events, &e, GOES_ON | FAULT | EXIT | TOUCHED);
	}
}

static void smis_and_nmis(struct group *g)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct kvm_vcpu_events e = {
			.nmi = { .injected = i & 1, .pending = i >> 1 & 1, .masked = i >> 2 & 1 },
			.flags = KVM_VCPUEVENT_VALID_NMI_PENDING,
		};

		try_inside(g, "NMI", set_events, &e, GOES_ON | FAULT);
	}
	g->lasting = true;
	for (unsigned int i = 1; i < 16; i++) {
		struct kvm_vcpu_events e = {
			.smi = { .smm = i & 1, .pending = i >> 1 & 1, .smm_inside_nmi = i >> 2 & 1,
				 .latched_init = i >> 3 & 1 },
			.flags = KVM_VCPUEVENT_VALID_SMM,
		};

		/* Its save area is in the guest's RAM. An INIT that waits resets, outside of SMM. */
		try_inside(g, "SMM", set_events, &e,
			   i & 3 ? TOUCHED | STATE | REFUSED : GOES_ON | TOUCHED | REFUSED);
	}
}

void test_events(void)
{
	struct group g = { .name = "vmm-events: injected" };

	exceptions(&g);
	interrupts(&g);
	smis_and_nmis(&g);
	group_end(&g);
}

/* ---- watches ---- */

static int set_debugregs(const void *arg)
{
	struct kvm_debugregs d = *(const struct kvm_debugregs *)arg;

	return vcpu_ioctl(KVM_SET_DEBUGREGS, &d);
}

static int set_guest_debug(const void *arg)
{
	struct kvm_guest_debug d = *(const struct kvm_guest_debug *)arg;

	return vcpu_ioctl(KVM_SET_GUEST_DEBUG, &d);
}

void test_debug(void)
{
	const uint64_t at[] = { (uintptr_t)svc_entry, (uintptr_t)&host.arena->vm[0].returned,
				(uintptr_t)svc_data, ELISA_LIST_VA, ELISA_DESC_VA, ELISA_GATE_VA,
				ELISA_RETURN_VA };
	const uint64_t ways[] = { 0x403, 0xd0403, 0xf0403 };	/* execute; write; read or write */
	const uint32_t controls[] = { KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_INJECT_DB,
				      KVM_GUESTDBG_INJECT_BP,  KVM_GUESTDBG_USE_SW_BP,
				      KVM_GUESTDBG_BLOCKIRQ,
				      KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ };
	struct group g = { .name = "vmm-events: watches and single steps", .lasting = true };

	for (unsigned int i = 0; i < sizeof(at) / sizeof(*at); i++)
		for (unsigned int j = 0; j < 3; j++) {
			struct kvm_debugregs d = { .db = { at[i] }, .dr6 = 0xffff0ff0,
						   .dr7 = ways[j] };
			struct kvm_guest_debug gd = {
				.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
				.arch.debugreg = { at[i], 0, 0, 0, 0, 0, 0xffff0ff0, ways[j] },
			};

			try_inside(&g, "DR0-DR7", set_debugregs, &d, GOES_ON | EXIT | FAULT);
			try_inside(&g, "KVM_SET_GUEST_DEBUG", set_guest_debug, &gd,
				   GOES_ON | EXIT);
		}
	for (unsigned int i = 0; i < sizeof(controls) / sizeof(*controls); i++) {
		struct kvm_guest_debug gd = { .control = KVM_GUESTDBG_ENABLE | controls[i] };

		try_inside(&g, "KVM_SET_GUEST_DEBUG", set_guest_debug, &gd,
			   controls[i] & KVM_GUESTDBG_SINGLESTEP ? TOUCHED | EXIT | REFUSED
								 : GOES_ON | EVENT | TOUCHED |
									   REFUSED);
	}
	group_end(&g);
}

/* ---- what else KVM keeps for a vCPU ---- */

static int set_lapic(const void *arg)
{
	unsigned int state = *(const unsigned int *)arg;
	struct kvm_lapic_state apic;

	vcpu_ioctl(KVM_GET_LAPIC, &apic);
	for (unsigned int i = 0x80; i < sizeof(apic.regs); i++)
		apic.regs[i] = (char)(state ? rand_r(&state) : 0);
	return vcpu_ioctl(KVM_SET_LAPIC, &apic);
}

static int set_mp_state(const void *arg)
{
	struct kvm_mp_state mp = { .mp_state = *(const unsigned int *)arg };

	return vcpu_ioctl(KVM_SET_MP_STATE, &mp);
}

static int nmi(const void *arg)
{
	(void)arg;
	return vcpu_ioctl(KVM_NMI, NULL);
}

static int smi(const void *arg)
{
	(void)arg;
	return vcpu_ioctl(KVM_SMI, NULL);
}

static int machine_check(const void *arg)
{
	uint64_t banks = 8 | 1ull << 24;
	struct kvm_x86_mce mce = { .status = 0xbd00000000000000ull, .mcg_status = 4, .bank = 1,
				   .addr = *(const uint64_t *)arg };

	(void)!vcpu_ioctl(KVM_X86_SETUP_MCE, &banks);
	return vcpu_ioctl(KVM_X86_SET_MCE, &mce);
}

static int set_cpuid(const void *arg)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 e[128];
	} list = { .head.nent = 128 };
	const unsigned int leaf = *(const unsigned int *)arg;

	if (vcpu_ioctl(KVM_GET_CPUID2, &list.head))
		return 0;
	for (unsigned int i = 0; i < list.head.nent; i++)
		if (list.e[i].function == leaf)
			list.e[i].ecx ^= 1u << 17, list.e[i].ebx ^= 1u << 20;
	return vcpu_ioctl(KVM_SET_CPUID2, &list.head);
}

static int translate(const void *arg)
{
	const uint64_t at[] = { (uintptr_t)host.arena, (uintptr_t)svc_entry, ELISA_LIST_VA,
				ELISA_GATE_VA };

	(void)arg;
	for (unsigned int i = 0; i < 4; i++) {
		struct kvm_translation t = { .linear_address = at[i] };

		vcpu_ioctl(KVM_TRANSLATE, &t);
	}
	return 0;
}

static int clocks(const void *arg)
{
	struct kvm_clock_data clock = { .clock = *(const uint64_t *)arg };

	vm_ioctl(KVM_SET_CLOCK, &clock);
	vcpu_ioctl(KVM_KVMCLOCK_CTRL, NULL);
	ioctl(tvm_vcpu_fd(vm, 0), KVM_SET_TSC_KHZ, 100000 + *(const uint64_t *)arg % 100000);
	return 0;
}

void test_state(unsigned int tries)
{
	struct group g = {
		.name = "vmm-events: APIC, sleep, SMI, NMI, machine checks, CPUID, clocks",
		.lasting = true,
	};
	const unsigned int leaves[] = { 1, 7, 0xd, 0x80000001 };

	for (unsigned int i = 0; i < tries; i++)
		try_inside(&g, "KVM_SET_LAPIC", set_lapic, &i, GOES_ON | REFUSED | FAULT);
	for (unsigned int i = 0; i <= KVM_MP_STATE_AP_RESET_HOLD; i++)
		try_inside(&g, "KVM_SET_MP_STATE", set_mp_state, &i, GOES_ON | REFUSED | TOUCHED);
	for (unsigned int i = 0; i < 5; i++) {
		const uint64_t at = 0x1000ull * i;

		try_inside(&g, "KVM_NMI", nmi, NULL, GOES_ON);
		try_inside(&g, "KVM_SMI", smi, NULL, TOUCHED | REFUSED);
		try_inside(&g, "machine check", machine_check, &at,
			   GOES_ON | EVENT | REFUSED | TOUCHED);
		try_inside(&g, "KVM_TRANSLATE", translate, NULL, GOES_ON);
		try_inside(&g, "clocks", clocks, &at, GOES_ON);
	}
	for (unsigned int i = 0; i < sizeof(leaves) / sizeof(*leaves); i++)
		try_inside(&g, "KVM_SET_CPUID2", set_cpuid, &leaves[i], REFUSED | GOES_ON);
	group_end(&g);
}

/* ---- snapshots and reset ---- */

struct snapshot {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
};

static struct snapshot before;

static void take(struct snapshot *s)
{
	tvm_regs(vm, 0, &s->regs);
	tvm_sregs(vm, 0, &s->sregs);
	vcpu_ioctl(KVM_GET_XSAVE, &s->xsave);
	vcpu_ioctl(KVM_GET_XCRS, &s->xcrs);
	vcpu_ioctl(KVM_GET_VCPU_EVENTS, &s->events);
	vcpu_ioctl(KVM_GET_DEBUGREGS, &s->debug);
}

/* In the order that QEMU does it. */
static int put(const void *arg)
{
	struct snapshot s = *(const struct snapshot *)arg;

	tvm_set_regs(vm, 0, &s.regs);
	vcpu_ioctl(KVM_SET_XSAVE, &s.xsave);
	vcpu_ioctl(KVM_SET_XCRS, &s.xcrs);
	tvm_set_sregs(vm, 0, &s.sregs);
	vcpu_ioctl(KVM_SET_VCPU_EVENTS, &s.events);
	vcpu_ioctl(KVM_SET_DEBUGREGS, &s.debug);
	return 0;
}

/* As it was a moment ago: nothing happened. */
static int save_and_load(const void *arg)
{
	(void)arg;
	take(&before);
	return put(&before);
}

/* One taken inside is loaded when the vCPU is out again: it is where only its own memory is. */
static int load_late(const void *arg)
{
	(void)arg;
	take(&before);
	if (outcome_of(false) != GOES_ON)
		return 0;
	return put(&before);
}

/* A processor after RESET: SDM vol. 3, table 10-1. It is harmless, and is let go. */
static int reset(const void *arg)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = 0xfff0, .rflags = 2, .rdx = 0x600 };

	(void)arg;
	tvm_sregs(vm, 0, &s);
	s.cr0 = 0x60000010;
	s.cr3 = s.cr4 = s.efer = 0;
	s.cs.selector = 0xf000;
	s.cs.base = 0xffff0000;
	s.cs.limit = 0xffff;
	s.cs.dpl = s.ss.dpl = 0;
	s.cs.l = 0;
	tvm_set_sregs(vm, 0, &s);
	return tvm_set_regs(vm, 0, &r);
}

void test_snapshots(void)
{
	struct group g = { .name = "vmm-snapshots: loaded, and reset", .lasting = true };

	for (unsigned int i = 0; i < 10; i++) {
		take(&before);
		try_inside(&g, "a snapshot of before the call is loaded", put, &before, TOUCHED);
		try_inside(&g, "saved inside and loaded at once", save_and_load, NULL, GOES_ON);
		try_inside(&g, "saved inside and loaded after the call", load_late, NULL, FAULT);
		try_inside(&g, "reset", reset, NULL, TOUCHED);
	}
	group_end(&g);
}
