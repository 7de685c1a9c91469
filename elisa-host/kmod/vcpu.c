// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens around a VM entry of an attached VM's vCPU. In order:
 *	entry	outside: conditions, list, VM functions on; deliver what was parked
 *		inside: unchanged? park what KVM injects; back to where it was
 *	exit	VM functions off, KVM's EPT pointer back; outside: done
 *		inside: benign: remember where and all registers; else kill
 * The probes run with interrupts off and the vCPU's VMCS current: nothing here sleeps, allocates
 * or prints.
 */
#include <linux/kvm_host.h>
#include <linux/slab.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <asm/processor-flags.h>
#include <asm/special_insns.h>
#include <asm/vmx.h>
#include "defence.h"
#include "kmod.h"
#include "vmx.h"

#define SUPPRESS_RIP	0xfffffffffffff000ul	/* never the user's: a killed vCPU's RIP */
#define GPR_RSP		VCPU_REGS_RSP
#define ARITHMETIC_FLAGS	0x8d5ul

/* The away context: one for all vCPUs. */
extern const char elisa_away_page[];
static struct {
	struct ept ept;
	u64 *code, *root, *table;	/* the guest's side: code page, two levels of tables */
	u64 eptp;
	u64 *pit;			/* an EPT without any entry */
	u64 pit_eptp;
} away;

/* XRSTOR image of the initial vector state; SDM vol. 1, 13.4. */
static struct {
	u8 legacy[512];
	u64 header[8];
} __aligned(64) initial_fpu = {
	.legacy = { [24] = 0x80, [25] = 0x1f },	/* MXCSR */
};

/* ---- the away context ---- */

static int map_page(struct ept *ept, u64 gpa, const void *page, u64 prot)
{
	struct ept_run run = { .pa = virt_to_phys((void *)page), .pages = 1 };
	int err = ept_prepare(ept, gpa, &run, 1);

	if (!err)
		ept_map(ept, gpa, &run, 1, prot | EPT_WB);
	return err;
}

static void away_exit(void)
{
	ept_destroy(&away.ept);
	free_page((unsigned long)away.code);
	free_page((unsigned long)away.root);
	free_page((unsigned long)away.table);
	free_page((unsigned long)away.pit);
}

static int away_init(void)
{
	u64 table_gpa = elisa_window(), chunk_gpa = table_gpa + EPT_SIZE_1G;
	int err = -ENOMEM;

	away.code = (u64 *)get_zeroed_page(GFP_KERNEL);
	away.root = (u64 *)get_zeroed_page(GFP_KERNEL);
	away.table = (u64 *)get_zeroed_page(GFP_KERNEL);
	away.pit = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!away.code || !away.root || !away.table || !away.pit)
		goto fail;
	memcpy(away.code, elisa_away_page, ELISA_PAGE_SIZE);
	away.root[pgd_index(ELISA_GATE_VA)] = table_gpa | _PAGE_PRESENT | _PAGE_USER |
					      _PAGE_ACCESSED;
	away.table[pud_index(ELISA_GATE_VA)] = chunk_gpa | _PAGE_PRESENT | _PAGE_USER |
					       _PAGE_ACCESSED | _PAGE_DIRTY | _PAGE_PSE;
	err = ept_init(&away.ept, elisa_window(), virt_to_phys(away.root), NULL, false);
	if (err)
		goto fail;
	err = map_page(&away.ept, table_gpa, away.table, EPT_R);
	if (!err)
		err = map_page(&away.ept, chunk_gpa + (ELISA_GATE_VA & (EPT_SIZE_1G - 1)),
			       away.code, EPT_X);
	if (err)
		goto fail;
	away.eptp = ept_eptp(away.ept.root);
	away.pit_eptp = ept_eptp(away.pit);
	return 0;
fail:
	away_exit();
	return err;
}

/* ---- small helpers ---- */

static u64 *cached_reg(struct kvm_vcpu *vcpu, int reg)
{
	return (u64 *)&vcpu->arch.regs[reg];
}

/* RIP and RSP live in the VMCS unless KVM changed them since the exit. */
static u64 effective_reg(struct kvm_vcpu *vcpu, int reg, unsigned long field)
{
	return vcpu->arch.regs_dirty & BIT(reg) ? *cached_reg(vcpu, reg) : vmx_read(field);
}

static void force_reg(struct kvm_vcpu *vcpu, int reg, unsigned long field, u64 value)
{
	*cached_reg(vcpu, reg) = value;
	vcpu->arch.regs_avail |= BIT(reg);
	vcpu->arch.regs_dirty |= BIT(reg);
	vmx_write(field, value);
}

static void read_regs(struct kvm_vcpu *vcpu, struct elisa_regs *r)
{
	memcpy(r->gpr, vcpu->arch.regs, sizeof(r->gpr));
	r->gpr[GPR_RSP] = effective_reg(vcpu, VCPU_REGS_RSP, GUEST_RSP);
	r->rip = effective_reg(vcpu, VCPU_REGS_RIP, GUEST_RIP);
	r->rflags = vmx_read(GUEST_RFLAGS);
	r->cr0 = vmx_read(GUEST_CR0);
	r->cr3 = vmx_read(GUEST_CR3);
	r->cr4 = vmx_read(GUEST_CR4);
	r->efer = vcpu->arch.efer;
	r->fs_base = vmx_read(GUEST_FS_BASE);
	r->cs = vmx_read(GUEST_CS_SELECTOR);
	r->cs_ar = vmx_read(GUEST_CS_AR_BYTES);
	r->cs_base = vmx_read(GUEST_CS_BASE);
}

static u32 touched(const struct elisa_regs *a, const struct elisa_regs *b)
{
	u32 bits = 0;

	if (DEFENCE(compare_gpr) && memcmp(a->gpr, b->gpr, sizeof(a->gpr)))
		bits |= ELISA_TOUCHED_GPR;
	if (DEFENCE(compare_rip) && a->rip != b->rip)
		bits |= ELISA_TOUCHED_RIP;
	if (DEFENCE(compare_rflags) && a->rflags != b->rflags)
		bits |= ELISA_TOUCHED_RFLAGS;
	if (DEFENCE(compare_cr0) && a->cr0 != b->cr0)
		bits |= ELISA_TOUCHED_CR0;
	if (DEFENCE(compare_cr3) && a->cr3 != b->cr3)
		bits |= ELISA_TOUCHED_CR3;
	if (DEFENCE(compare_cr4) && a->cr4 != b->cr4)
		bits |= ELISA_TOUCHED_CR4;
	if (DEFENCE(compare_efer) && a->efer != b->efer)
		bits |= ELISA_TOUCHED_EFER;
	if (DEFENCE(compare_cs) &&
	    (a->cs != b->cs || a->cs_ar != b->cs_ar || a->cs_base != b->cs_base))
		bits |= ELISA_TOUCHED_CS;
	if (DEFENCE(compare_fs) && a->fs_base != b->fs_base)
		bits |= ELISA_TOUCHED_FS;
	return bits;
}

static void set_event_flag(struct elisa_vcpu *v)
{
	bool waits = DEFENCE(event_flag) && (v->parked || v->parked_nmi);

	WRITE_ONCE(v->desc->flags, waits ? ELISA_FLAG_EVENT : 0);
}

static void drop_parked(struct elisa_vcpu *v)
{
	v->parked = 0;
	v->parked_nmi = false;
	set_event_flag(v);
}

/*
 * In both probes the processor holds the guest's vector registers and the host's XCR0 (KVM swaps
 * that one between them). Tile state is left alone: trusted code has no use for it.
 */
static u64 vector_mask(void)
{
	return xgetbv(XCR_XFEATURE_ENABLED_MASK) &
	       (XFEATURE_MASK_FPSSE | XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512);
}

static void load_vectors(const void *area)
{
	u64 mask = vector_mask();

	asm volatile("xrstor64 (%0)" : : "r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
		     : "memory");
}

static void save_vectors(void *area)
{
	u64 mask = vector_mask();

	asm volatile("xsave64 (%0)" : : "r"(area), "a"((u32)mask), "d"((u32)(mask >> 32))
		     : "memory");
}

static void scrub_vectors(void)
{
	load_vectors(&initial_fpu);
}

/*
 * What a vCPU that is stopped inside computed is in none of the registers that its VMM, KVM's
 * emulator or an SMM save area could get hold of, nor can they change it: KVM has zeros until it
 * goes on. In a general register, change is noticed; a vector register, which may hold addresses,
 * just gets its own value back.
 */
static void hide_regs(struct elisa_vcpu *v)
{
	v->shown = v->regs;
	v->hidden = DEFENCE(hide);
	if (!v->hidden)
		return;
	memset(v->shown.gpr, 0, sizeof(v->shown.gpr));
	v->shown.fs_base = 0;
	v->shown.rip = SUPPRESS_RIP;
	v->shown.rflags &= ~ARITHMETIC_FLAGS;
	memset(v->vcpu->arch.regs, 0, sizeof(v->shown.gpr));
	force_reg(v->vcpu, VCPU_REGS_RSP, GUEST_RSP, 0);
	force_reg(v->vcpu, VCPU_REGS_RIP, GUEST_RIP, v->shown.rip);
	vmx_write(GUEST_RFLAGS, v->shown.rflags);
	vmx_write(GUEST_FS_BASE, 0);
	save_vectors(v->vectors);
	scrub_vectors();
}

static void show_regs(struct elisa_vcpu *v)
{
	if (!v->hidden)
		return;
	v->hidden = false;
	memcpy(v->vcpu->arch.regs, v->regs.gpr, sizeof(v->regs.gpr));
	force_reg(v->vcpu, VCPU_REGS_RSP, GUEST_RSP, v->regs.gpr[GPR_RSP]);
	force_reg(v->vcpu, VCPU_REGS_RIP, GUEST_RIP, v->regs.rip);
	vmx_write(GUEST_RFLAGS, v->regs.rflags);
	vmx_write(GUEST_FS_BASE, v->regs.fs_base);
	load_vectors(v->vectors);
}

static void scrub_regs(struct kvm_vcpu *vcpu)
{
	memset(vcpu->arch.regs, 0, 16 * sizeof(vcpu->arch.regs[0]));
	force_reg(vcpu, VCPU_REGS_RSP, GUEST_RSP, 0);
	force_reg(vcpu, VCPU_REGS_RIP, GUEST_RIP, SUPPRESS_RIP);
	vmx_write(GUEST_FS_BASE, 0);
	vcpu->arch.cr2 = 0;
}

/*
 * Has KVM report a shutdown. It does so for a triple fault by itself: a request would make a second
 * one of it. And an exception whose delivery was under way goes back into KVM's queue after this
 * exit; KVM warns of one beside a triple fault. That one then waits for the next entry.
 */
static void end(struct elisa_vcpu *v, u32 reason, u64 code)
{
	if (!DEFENCE(shutdown) || (reason == ELISA_KILL_EXIT && code == EXIT_REASON_TRIPLE_FAULT))
		return;
	if (reason == ELISA_KILL_EXIT &&
	    vmx_read(IDT_VECTORING_INFO_FIELD) & VECTORING_INFO_VALID_MASK)
		v->ends = true;
	else
		kvm_make_request(KVM_REQ_TRIPLE_FAULT, v->vcpu);
}

/*
 * Ends the VM because of this vCPU. What KVM and the VMM see of it from now on is nothing that the
 * trusted context computed; KVM's handler for the exit finds zeros and an RIP that no fetch by
 * user code survives, and the next thing KVM does is to report a shutdown. A vCPU that was reset
 * meanwhile is itself harmless and goes on, detached.
 */
static void kill(struct elisa_vcpu *v, u32 reason, u64 code, bool was_reset)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	struct elisa_kill_info info = {
		.reason = reason,
		.vcpu_id = vcpu->vcpu_id,
		.where = v->inside,
		.code = code,
	};

	if (reason == ELISA_KILL_EXIT) {
		info.qualification = vmx_read(EXIT_QUALIFICATION);
		info.gpa = vmx_read(GUEST_PHYSICAL_ADDRESS);
	}
	if (DEFENCE(scrub_fpu))
		scrub_vectors();
	if (!was_reset) {
		if (DEFENCE(scrub))
			scrub_regs(vcpu);
		end(v, reason, code);
	}
	v->inside = ELISA_IN_DEFAULT;
	v->list[ELISA_SLOT_GATE] = 0;	/* the gate may have opened the slot just now */
	v->list[ELISA_SLOT_TRUSTED] = 0;
	drop_parked(v);
	v->stats.kills++;
	elisa_vm_killed(v->vm, &info);
}

/* ---- entry ---- */

/* Which conditions for VM functions the vCPU does not meet: ELISA_COND_*. */
static u32 unmet(struct elisa_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	u64 cr0 = vmx_read(GUEST_CR0), cr4 = vmx_read(GUEST_CR4), efer = vcpu->arch.efer;
	u32 second = vmx_read(SECONDARY_VM_EXEC_CONTROL);
	const u32 needed = SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_ENABLE_VPID |
			   SECONDARY_EXEC_ENABLE_VMFUNC;
	u32 bits = 0;

	bits |= !DEFENCE(pg) || cr0 & X86_CR0_PG ? 0 : ELISA_COND_CR0_PG;
	bits |= !DEFENCE(lma) || efer & EFER_LMA ? 0 : ELISA_COND_LMA;
	bits |= !DEFENCE(nxe) || efer & EFER_NX ? 0 : ELISA_COND_NXE;
	bits |= !DEFENCE(smep) || cr4 & X86_CR4_SMEP ? 0 : ELISA_COND_SMEP;
	bits |= !DEFENCE(smap) || cr4 & X86_CR4_SMAP ? 0 : ELISA_COND_SMAP;
	bits |= !DEFENCE(fsgsbase) || cr4 & X86_CR4_FSGSBASE ? 0 : ELISA_COND_FSGSBASE;
	if (DEFENCE(avx) && (!(cr4 & X86_CR4_OSXSAVE) || (vcpu->arch.xcr0 & 6) != 6))
		bits |= ELISA_COND_AVX;
	bits |= DEFENCE(pcide) && cr4 & X86_CR4_PCIDE ? ELISA_COND_PCIDE : 0;
	bits |= DEFENCE(la57) && cr4 & X86_CR4_LA57 ? ELISA_COND_LA57 : 0;
	/* PKE, PKS */
	bits |= DEFENCE(pke) && cr4 & (X86_CR4_PKE | BIT(24)) ? ELISA_COND_PKE : 0;
	bits |= DEFENCE(cet) && cr4 & BIT(23) ? ELISA_COND_CET : 0;
	bits |= DEFENCE(smm) && vcpu->arch.hflags & HF_SMM_MASK ? ELISA_COND_SMM : 0;
	if (DEFENCE(apicv) && ((vmx_read(PIN_BASED_VM_EXEC_CONTROL) & PIN_BASED_POSTED_INTR) ||
			       (second & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)))
		bits |= ELISA_COND_APICV;
	/* Execute permission by mode or #VE would give our leaves another meaning. */
	if (DEFENCE(vmcs) && ((second & needed) != needed ||
			      (second & (SECONDARY_EXEC_MODE_BASED_EPT_EXEC | BIT(18)))))
		bits |= ELISA_COND_VMCS;
	return bits;
}

static void functions_on(struct elisa_vcpu *v)
{
	vmx_write(EPTP_LIST_ADDRESS, virt_to_phys(v->list));
	vmx_write(VM_FUNCTION_CONTROL, 1);
	v->on = true;
}

/* Parked interrupts come out last first: each had a higher class than those in service. */
static void deliver_parked(struct elisa_vcpu *v)
{
	u32 blocking = vmx_read(GUEST_INTERRUPTIBILITY_INFO);
	bool shadow = blocking & (GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS);
	u32 info = 0, windows = 0;
	u64 controls;

	if (!(vmx_read(VM_ENTRY_INTR_INFO_FIELD) & INTR_INFO_VALID_MASK)) {
		if (v->parked_nmi && !shadow && !(blocking & GUEST_INTR_STATE_NMI)) {
			info = INTR_INFO_VALID_MASK | INTR_TYPE_NMI_INTR | NMI_VECTOR;
			v->parked_nmi = false;
		} else if (v->parked && !shadow && (vmx_read(GUEST_RFLAGS) & X86_EFLAGS_IF)) {
			info = v->park[--v->parked];
		}
	}
	if (info) {
		vmx_write(VM_ENTRY_INTR_INFO_FIELD, info);
		vmx_write(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
		v->stats.delivered++;
		set_event_flag(v);
	}
	/* Come back when the rest can go in. KVM's own idea of these controls stays untouched. */
	if (v->parked_nmi && (vmx_read(PIN_BASED_VM_EXEC_CONTROL) & PIN_BASED_VIRTUAL_NMIS))
		windows |= CPU_BASED_NMI_WINDOW_EXITING;
	if (v->parked)
		windows |= CPU_BASED_INTR_WINDOW_EXITING;
	controls = vmx_read(CPU_BASED_VM_EXEC_CONTROL);
	v->windows = windows & ~controls;
	if (v->windows)
		vmx_write(CPU_BASED_VM_EXEC_CONTROL, controls | v->windows);
}

static void enter_outside(struct elisa_vcpu *v, u64 eptp)
{
	enum elisa_mode mode = smp_load_acquire(&v->mode);
	u32 cond = unmet(v);
	u64 gate = away.eptp, trusted = away.eptp;

	/* System management mode begins without paging, too. */
	if ((cond & ELISA_COND_CR0_PG) && !(cond & ELISA_COND_SMM) && v->paged) {
		v->paged = false;
		drop_parked(v);
		elisa_vm_was_reset(v->vm);
	}
	if (mode == ELISA_MODE_OFF || (DEFENCE(dead) && READ_ONCE(v->vm->killed))) {
		v->stats.armed = 0;
	} else if (cond) {
		v->stats.armed = 0;
		v->stats.unarmed_entries++;
		v->stats.unarmed_last = cond;
	} else {
		if (mode == ELISA_MODE_ARMED) {
			gate = v->gate_eptp;
			trusted = v->trusted_eptp;
		}
		if (!DEFENCE(unused_slots))
			memset64(v->list, trusted, EPT_PTES);
		v->list[ELISA_SLOT_DEFAULT] = eptp;
		v->list[ELISA_SLOT_GATE] = gate;
		v->list[ELISA_SLOT_TRUSTED] = DEFENCE(gate_slot) ? trusted & ~0xffull : trusted;
		if (DEFENCE(invvpid) && v->exit_cr3 != vmx_read(GUEST_CR3)) {
			vmx_invvpid_one(vmx_read(VIRTUAL_PROCESSOR_ID));
			v->stats.invvpid++;
		}
		functions_on(v);
		v->paged = true;
		v->stats.armed = mode == ELISA_MODE_ARMED;
	}
	if (v->parked || v->parked_nmi)
		deliver_parked(v);
}

/* Takes the event that KVM injects now away from it; it counts as delivered for KVM. */
static bool park(struct elisa_vcpu *v, u32 info)
{
	switch (info & INTR_INFO_INTR_TYPE_MASK) {
	case INTR_TYPE_EXT_INTR:
		if (v->parked == ELISA_PARKED_MAX) {
			kill(v, ELISA_KILL_PARKED, info, false);
			return false;
		}
		v->park[v->parked++] = info;
		v->stats.parked++;
		break;
	case INTR_TYPE_NMI_INTR:
		if (v->parked_nmi)
			v->stats.coalesced++;
		else
			v->stats.parked++;
		v->parked_nmi = true;
		break;
	default:
		kill(v, ELISA_KILL_EVENT, info, false);
		return false;
	}
	vmx_write(VM_ENTRY_INTR_INFO_FIELD, 0);
	set_event_flag(v);
	return true;
}

/* Is this vCPU to go on inside? Else it was killed. */
static bool may_resume(struct elisa_vcpu *v)
{
	struct elisa_regs now;
	u32 bits, info;
	bool was_reset;

	read_regs(v->vcpu, &now);
	was_reset = !(now.cr0 & X86_CR0_PG);
	bits = touched(&v->shown, &now);
	if (bits) {
		kill(v, ELISA_KILL_TOUCHED, bits, was_reset);
		return false;
	}
	if (DEFENCE(doomed) && (READ_ONCE(v->doomed) || READ_ONCE(v->vm->killed))) {
		kill(v, ELISA_KILL_TIMEOUT, 0, false);
		return false;
	}
	bits = unmet(v);
	if (bits) {
		kill(v, ELISA_KILL_STATE, bits, false);
		return false;
	}
	info = vmx_read(VM_ENTRY_INTR_INFO_FIELD);
	return !DEFENCE(park) || !(info & INTR_INFO_VALID_MASK) || park(v, info);
}

/*
 * An entry cannot be called off. With nothing mapped it ends before its first instruction; KVM then
 * finds the shutdown request.
 */
static void enter_pit(struct elisa_vcpu *v)
{
	v->pit = true;
	v->entry_eptp = away.pit_eptp;
	vmx_write(EPT_POINTER, away.pit_eptp);
	/* KVM would take an exception back that was on its way, and warn of two. */
	vmx_write(VM_ENTRY_INTR_INFO_FIELD, 0);
}

static void enter_inside(struct elisa_vcpu *v, u64 eptp, u64 last_eptp)
{
	if (!may_resume(v)) {
		if (DEFENCE(pit) && vmx_read(GUEST_CR0) & X86_CR0_PG)
			enter_pit(v);
		return;
	}
	show_regs(v);
	if (eptp != last_eptp)
		v->stats.root_changes++;
	if (DEFENCE(root_slot))
		v->list[ELISA_SLOT_DEFAULT] = eptp;
	if (DEFENCE(away) && smp_load_acquire(&v->mode) != ELISA_MODE_ARMED) {
		/*
		 * It may stand between the gate's store and its VMFUNC, or before the store: both
		 * must find a whole address in the slot. A trusted one goes on and leaves by slot 0.
		 */
		v->list[ELISA_SLOT_GATE] = away.eptp;
		v->list[ELISA_SLOT_TRUSTED] = (away.eptp & ~0xffull) |
					      (v->list[ELISA_SLOT_TRUSTED] & 0xff);
	}
	v->entry_eptp = v->inside == ELISA_IN_GATE ? v->gate_eptp : v->trusted_eptp;
	vmx_write(EPT_POINTER, v->entry_eptp);
	functions_on(v);
}

/* Both sets of slots are part of struct kvm: whichever is found is there. */
static u64 slots_generation(struct kvm *kvm)
{
	return READ_ONCE(rcu_access_pointer(kvm->memslots[0])->generation);
}

static void vcpu_entry(struct elisa_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	u64 eptp = vmx_read(EPT_POINTER), last_eptp = v->default_eptp;
	u64 slots = slots_generation(vcpu->kvm);

	if (slots != v->slots) {
		v->slots = slots;
		elisa_vm_memory_changed(v->vm);
	}
	/* No exit was seen: the last VM entry itself failed. Only KVM changed the VMCS since. */
	if (v->entered && v->entry_eptp && eptp == v->entry_eptp) {
		eptp = last_eptp;
		vmx_write(EPT_POINTER, eptp);
	}
	if (v->on)
		vmx_write(VM_FUNCTION_CONTROL, 0);
	v->on = false;
	v->pit = false;
	v->windows = 0;
	v->entry_eptp = 0;
	v->default_eptp = eptp;
	v->stats.entries++;
	if (v->inside) {
		enter_inside(v, eptp, last_eptp);
	} else if (v->ends && effective_reg(vcpu, VCPU_REGS_RIP, GUEST_RIP) == SUPPRESS_RIP) {
		kvm_make_request(KVM_REQ_TRIPLE_FAULT, vcpu);
		enter_pit(v);
	} else {
		enter_outside(v, eptp);
	}
	v->ends = false;
	v->entered = true;
}

/* ---- exit ---- */

static bool benign(u32 reason)
{
	u32 info;

	if (!DEFENCE(benign))
		return true;
	if (DEFENCE(vectoring) &&
	    vmx_read(IDT_VECTORING_INFO_FIELD) & VECTORING_INFO_VALID_MASK)
		return false;
	switch (reason) {
	case EXIT_REASON_EXCEPTION_NMI:
		info = vmx_read(VM_EXIT_INTR_INFO);
		return (info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_NMI_INTR ||
		       ((info & INTR_INFO_INTR_TYPE_MASK) == INTR_TYPE_HARD_EXCEPTION &&
			(info & INTR_INFO_VECTOR_MASK) == MC_VECTOR);
	case EXIT_REASON_EXTERNAL_INTERRUPT:
	case EXIT_REASON_INTERRUPT_WINDOW:
	case EXIT_REASON_NMI_WINDOW:
	case EXIT_REASON_PREEMPTION_TIMER:
	case EXIT_REASON_PAUSE_INSTRUCTION:
	case EXIT_REASON_PML_FULL:
		return true;
	default:
		return false;
	}
}

static void exit_inside(struct elisa_vcpu *v, enum elisa_where where, u32 reason)
{
	if (where == ELISA_IN_GATE)
		v->stats.exits_gate++;
	else
		v->stats.exits_trusted++;
	v->stats.inside_by_reason[min_t(u32, reason & 0xffff, ELISA_EXIT_REASONS - 1)]++;
	v->inside = where;
	if (!benign(reason)) {
		kill(v, ELISA_KILL_EXIT, reason, false);
		return;
	}
	read_regs(v->vcpu, &v->regs);
	hide_regs(v);
	if (reason == EXIT_REASON_PAUSE_INSTRUCTION) {	/* KVM skips it */
		v->regs.rip += vmx_read(VM_EXIT_INSTRUCTION_LEN);
		v->shown.rip += vmx_read(VM_EXIT_INSTRUCTION_LEN);
	}
}

/* Stopped in the away page: what is left of it is done here, so that nobody is ever in it. */
static void exit_away(struct elisa_vcpu *v, u32 reason)
{
	struct kvm_vcpu *vcpu = v->vcpu;

	if (!benign(reason)) {
		v->inside = ELISA_IN_GATE;
		kill(v, ELISA_KILL_EXIT, reason, false);
		return;
	}
	*cached_reg(vcpu, VCPU_REGS_RAX) = 0;
	*cached_reg(vcpu, VCPU_REGS_RCX) = 0;
	*cached_reg(vcpu, VCPU_REGS_RDX) = -ESHUTDOWN;
	*cached_reg(vcpu, VCPU_REGS_R11) = 0;
	force_reg(vcpu, VCPU_REGS_RIP, GUEST_RIP, ELISA_RETURN_VA);
}

static void vcpu_exit(struct elisa_vcpu *v)
{
	struct kvm_vcpu *vcpu = v->vcpu;
	u64 eptp = vmx_read(EPT_POINTER);
	u32 reason = vmx_read(VM_EXIT_REASON);
	bool on = v->on, pit = v->pit;

	v->stats.exits++;
	v->stats.by_reason[min_t(u32, reason & 0xffff, ELISA_EXIT_REASONS - 1)]++;
	if (on && DEFENCE(exit_off))
		vmx_write(VM_FUNCTION_CONTROL, 0);
	if (eptp != v->default_eptp && DEFENCE(exit_eptp))
		vmx_write(EPT_POINTER, v->default_eptp);
	if (v->windows)
		vmx_write(CPU_BASED_VM_EXEC_CONTROL,
			  vmx_read(CPU_BASED_VM_EXEC_CONTROL) & ~(u64)v->windows);
	v->exit_cr3 = vmx_read(GUEST_CR3);
	v->windows = 0;
	v->entry_eptp = 0;
	v->entered = false;
	v->on = false;
	v->pit = false;
	if (pit)
		return;
	if (eptp == v->default_eptp) {
		v->inside = ELISA_IN_DEFAULT;
		/* KVM does not know of parked events: it must not put the vCPU to sleep on them. */
		if (reason == EXIT_REASON_HLT && (v->parked || v->parked_nmi))
			vcpu->arch.pv.pv_unhalted = true;
	} else if (eptp == away.eptp) {
		v->inside = ELISA_IN_DEFAULT;
		exit_away(v, reason);
	} else {
		exit_inside(v, eptp == v->gate_eptp ? ELISA_IN_GATE : ELISA_IN_TRUSTED, reason);
	}
}

/* ---- probes ---- */

static struct elisa_vcpu *find(struct kvm_vcpu *vcpu)
{
	struct elisa_vm *vm = elisa_vm_find(vcpu->kvm);

	return vm ? smp_load_acquire(&vm->vcpu[vcpu->vcpu_idx]) : NULL;
}

static void probe_entry(void *data, struct kvm_vcpu *vcpu)
{
	struct elisa_vcpu *v = find(vcpu);

	if (!v)
		return;
	if (!(vcpu->arch.hflags & HF_GUEST_MASK))
		vcpu_entry(v);
	else if (DEFENCE(nested) && v->inside)	/* the VMM made a nested guest of it; another VMCS is current */
		kill(v, ELISA_KILL_STATE, ELISA_COND_NESTED, false);
}

static void probe_exit(void *data, struct kvm_vcpu *vcpu)
{
	struct elisa_vcpu *v = find(vcpu);

	if (v && v->entered)
		vcpu_exit(v);
}

int elisa_vcpu_init(void)
{
	int err = away_init();

	if (err)
		return err;
	err = tracepoint_probe_register(&__tracepoint_kvm_entry, probe_entry, NULL);
	if (err)
		goto fail_away;
	err = tracepoint_probe_register(&__tracepoint_kvm_exit, probe_exit, NULL);
	if (err)
		goto fail_entry;
	return 0;
fail_entry:
	tracepoint_probe_unregister(&__tracepoint_kvm_entry, probe_entry, NULL);
	tracepoint_synchronize_unregister();
fail_away:
	away_exit();
	return err;
}

/* No VM is left in the hash, so no VMCS holds anything of ours. */
void elisa_vcpu_exit(void)
{
	tracepoint_probe_unregister(&__tracepoint_kvm_entry, probe_entry, NULL);
	tracepoint_probe_unregister(&__tracepoint_kvm_exit, probe_exit, NULL);
	tracepoint_synchronize_unregister();
	elisa_invept();
	away_exit();
}

struct elisa_vcpu *elisa_vcpu_create(struct elisa_vm *vm, struct kvm_vcpu *vcpu)
{
	struct elisa_vcpu *v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);

	if (!v)
		return NULL;
	v->vm = vm;
	v->vcpu = vcpu;
	v->slots = slots_generation(vcpu->kvm);
	v->list = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	v->desc = (struct elisa_desc *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	v->vectors = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->list || !v->desc || !v->vectors) {
		elisa_vcpu_free(v);
		return NULL;
	}
	return v;
}

void elisa_vcpu_free(struct elisa_vcpu *v)
{
	free_page((unsigned long)v->list);
	free_page((unsigned long)v->desc);
	free_page((unsigned long)v->vectors);
	kfree(v);
}
