// SPDX-License-Identifier: GPL-2.0-only
/* See check.h. Compiles in the kernel and in user space alike. */
#ifdef __KERNEL__
#include <linux/kernel.h>
#include <linux/stddef.h>
#else
#include <stddef.h>
#endif
#include "check.h"
#include "defence.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Bits [shift + bits - 1 : shift] of a field must be all ones (need) or all zero (!need). */
struct cpuid_row {
	__u32 refusal;
	__u32 offset;
	__u32 mask;
	__u32 need;
};

#define BIT32(n)	(1u << (n))
#define BIT64(n)	(1ull << (n))
#define FIELD(name)	offsetof(struct elisa_cpuid, name)

static const struct cpuid_row cpuid_rows[] = {
	/* must not be there */
	{ ELISA_REFUSE_GUEST_PCID, FIELD(l1_ecx), BIT32(17), 0 },
	{ ELISA_REFUSE_GUEST_VMX, FIELD(l1_ecx), BIT32(5), 0 },
	{ ELISA_REFUSE_GUEST_PKU, FIELD(l7_ecx), BIT32(3), 0 },
	{ ELISA_REFUSE_GUEST_PKU, FIELD(l7_ecx), BIT32(31), 0 },	/* PKS */
	{ ELISA_REFUSE_GUEST_TSX, FIELD(l7_ebx), BIT32(4), 0 },		/* HLE */
	{ ELISA_REFUSE_GUEST_TSX, FIELD(l7_ebx), BIT32(11), 0 },	/* RTM */
	{ ELISA_REFUSE_GUEST_CET, FIELD(l7_ecx), BIT32(7), 0 },		/* SHSTK */
	{ ELISA_REFUSE_GUEST_CET, FIELD(l7_edx), BIT32(20), 0 },	/* IBT */
	{ ELISA_REFUSE_GUEST_UINTR, FIELD(l7_edx), BIT32(5), 0 },
	{ ELISA_REFUSE_GUEST_LA57, FIELD(l7_ecx), BIT32(16), 0 },
	{ ELISA_REFUSE_GUEST_PT, FIELD(l7_ebx), BIT32(25), 0 },
	{ ELISA_REFUSE_GUEST_VPMU, FIELD(la_eax), 0xff, 0 },		/* PMU version */
	{ ELISA_REFUSE_GUEST_VPMU, FIELD(l1_edx), BIT32(21), 0 },	/* DS: PEBS, BTS */
	{ ELISA_REFUSE_GUEST_VPMU, FIELD(l7_edx), BIT32(19), 0 },	/* architectural LBR */
	/* must be there */
	{ ELISA_REFUSE_GUEST_NO_LM, FIELD(ext1_edx), BIT32(29), 1 },
	{ ELISA_REFUSE_GUEST_NO_LM, FIELD(ext1_edx), BIT32(20), 1 },	/* NX */
	{ ELISA_REFUSE_GUEST_NO_SMEP, FIELD(l7_ebx), BIT32(7), 1 },
	{ ELISA_REFUSE_GUEST_NO_SMAP, FIELD(l7_ebx), BIT32(20), 1 },
	{ ELISA_REFUSE_GUEST_NO_FSGSBASE, FIELD(l7_ebx), BIT32(0), 1 },
	{ ELISA_REFUSE_GUEST_NO_AVX, FIELD(l1_ecx), BIT32(26), 1 },	/* XSAVE */
	{ ELISA_REFUSE_GUEST_NO_AVX, FIELD(l1_ecx), BIT32(28), 1 },	/* AVX */
	{ ELISA_REFUSE_GUEST_NO_AVX, FIELD(l7_ebx), BIT32(5), 1 },	/* AVX2 */
	{ ELISA_REFUSE_GUEST_NO_AVX, FIELD(l1_ecx), BIT32(1), 1 },	/* PCLMULQDQ */
	{ ELISA_REFUSE_GUEST_NO_AVX, FIELD(ld_eax), 6, 1 },		/* SSE and AVX state */
};

__u32 elisa_check_cpuid(const struct elisa_cpuid *cpuid)
{
	size_t i;

	for (i = 0; i < COUNT(cpuid_rows); i++) {
		const struct cpuid_row *row = &cpuid_rows[i];
		__u32 has = *(const __u32 *)((const char *)cpuid + row->offset) & row->mask;

		if (REFUSAL(row->refusal) && (row->need ? has != row->mask : has != 0))
			return row->refusal;
	}
	return ELISA_REFUSE_NONE;
}

/* Bits of IA32_VMX_PROCBASED_CTLS2's high half and of IA32_VMX_EPT_VPID_CAP. */
#define CTLS2_EPT	BIT64(32 + 1)
#define CTLS2_VPID	BIT64(32 + 5)
#define CTLS2_VMFUNC	BIT64(32 + 13)
#define VMFUNC_EPTP	BIT64(0)
#define EPT_EXEC_ONLY	BIT64(0)
#define EPT_WALK_4	BIT64(6)
#define EPT_WB		BIT64(14)
#define INVEPT_ALL	(BIT64(20) | BIT64(25) | BIT64(26))	/* it, one context, all */
#define INVVPID_ONE	(BIT64(32) | BIT64(41))

__u32 elisa_check_host(const struct elisa_host *host, __u64 *detail)
{
	if (!host->vmx)
		return ELISA_REFUSE_HOST_NO_VMX;
	*detail = host->procbased2;
	if (!(host->procbased2 & CTLS2_EPT))
		return ELISA_REFUSE_HOST_NO_EPT;
	if (!(host->procbased2 & CTLS2_VMFUNC))
		return ELISA_REFUSE_HOST_NO_VMFUNC;
	*detail = host->vmfunc;
	if (!(host->vmfunc & VMFUNC_EPTP))
		return ELISA_REFUSE_HOST_NO_VMFUNC;
	*detail = host->ept_vpid;
	if ((host->ept_vpid & (EPT_WALK_4 | EPT_WB)) != (EPT_WALK_4 | EPT_WB))
		return ELISA_REFUSE_HOST_NO_EPT;
	if (!(host->ept_vpid & EPT_EXEC_ONLY))
		return ELISA_REFUSE_HOST_NO_EXEC_ONLY;
	if ((host->ept_vpid & INVEPT_ALL) != INVEPT_ALL ||
	    (host->ept_vpid & INVVPID_ONE) != INVVPID_ONE || !(host->procbased2 & CTLS2_VPID))
		return ELISA_REFUSE_HOST_NO_INVEPT;
	*detail = 0;
	return ELISA_REFUSE_NONE;
}

__u32 elisa_check_bugs(const struct elisa_host *host, __u32 attach_flags, __u64 *detail)
{
	if (!REFUSAL(ELISA_REFUSE_HOST_CPU_BUGS) || !host->bugs ||
	    (attach_flags & ELISA_ATTACH_FORCE_CPU))
		return ELISA_REFUSE_NONE;
	*detail = host->bugs;
	return ELISA_REFUSE_HOST_CPU_BUGS;
}

__u32 elisa_check_vm(const struct elisa_vm_facts *vm, __u64 *detail)
{
	if (vm->dead)
		return ELISA_REFUSE_VM_DEAD;
	if (!vm->vcpus)
		return ELISA_REFUSE_NO_VCPU;
	if (REFUSAL(ELISA_REFUSE_NO_IRQCHIP) && !vm->irqchip)
		return ELISA_REFUSE_NO_IRQCHIP;
	if (vm->shadow_paging)
		return ELISA_REFUSE_HOST_NO_EPT;
	if (REFUSAL(ELISA_REFUSE_LOGGED) && vm->logged)
		return ELISA_REFUSE_LOGGED;
	if (REFUSAL(ELISA_REFUSE_RAM_IN_WINDOW) && vm->ram_end > vm->window_gpa) {
		*detail = vm->ram_top_gpa > vm->window_gpa ? vm->ram_top_gpa : vm->window_gpa;
		return ELISA_REFUSE_RAM_IN_WINDOW;
	}
	return ELISA_REFUSE_NONE;
}
