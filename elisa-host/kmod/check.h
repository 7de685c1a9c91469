/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a host and a guest must have, and must not have, before a VM is attached. Pure functions
 * over snapshots, so that every requirement is one row of a table and one unit test.
 */
#ifndef ELISA_CHECK_H
#define ELISA_CHECK_H

#include <elisa/ioctl.h>

/* The host as the processor's capability registers describe it (SDM vol. 3, appendix A). */
struct elisa_host {
	__u32 vmx;		/* 1: an Intel-compatible CPU with VT-x */
	__u32 bugs;		/* ELISA_BUG_* */
	__u64 procbased2;	/* IA32_VMX_PROCBASED_CTLS2; high half: what may be 1 */
	__u64 vmfunc;		/* IA32_VMX_VMFUNC */
	__u64 ept_vpid;		/* IA32_VMX_EPT_VPID_CAP */
};

/* A vCPU's CPUID leaves that matter (SDM vol. 2, CPUID). */
struct elisa_cpuid {
	__u32 l1_ecx, l1_edx;
	__u32 l7_ebx, l7_ecx, l7_edx;
	__u32 la_eax;
	__u32 ld_eax;
	__u32 ext1_edx;
};

/* The parts of a VM that do not depend on one vCPU. */
struct elisa_vm_facts {
	__u32 dead;		/* being destroyed, or KVM found a bug in it */
	__u32 vcpus;
	__u32 irqchip;		/* every vCPU has an in-kernel local APIC */
	__u32 shadow_paging;	/* KVM does not use EPT for it */
	__u32 logged;		/* KVM logs writes to most of its RAM */
	__u64 ram_end;		/* first GPA after the highest memory slot */
	__u64 ram_top_gpa;	/* where that slot begins */
	__u64 window_gpa;
};

/* Each returns an enum elisa_refusal, 0 if nothing is wrong, and may set *detail. */
__u32 elisa_check_host(const struct elisa_host *host, __u64 *detail);
__u32 elisa_check_bugs(const struct elisa_host *host, __u32 attach_flags, __u64 *detail);
__u32 elisa_check_vm(const struct elisa_vm_facts *vm, __u64 *detail);
__u32 elisa_check_cpuid(const struct elisa_cpuid *cpuid);

#endif
