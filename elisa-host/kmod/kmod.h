/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Objects of the module and who may touch what.
 *
 * Locks, outermost first:
 *	vm->lock	one VM: binding, arming, draining, its end
 *	ctx->lock	one context: its mappings and both EPT templates (clones included)
 *	elisa_lock	the hash of VMs, each context's list of VMs, generations
 * None is taken by the probes. Those find a VM through RCU (tracepoints run with preemption off)
 * and learn of changes in one way: the field is written, then elisa_vm_kick() makes every vCPU
 * leave guest mode, so that its next entry sees it.
 *
 * Invariant on which all lifetimes rest: a VMCS that is not in guest mode is as KVM left it. The
 * entry probe turns VM functions on and the exit probe turns them off again and puts KVM's EPT
 * pointer back; where a stopped vCPU was is only a field here. So after a kick nothing of a vCPU
 * whose mode changed is in use by hardware, and INVEPT makes its tables free.
 *
 * KVM tells nobody when a VM ends, and its objects cannot be looked at without a reference. So one
 * is held per VM, and given up as soon as the VMM's address space goes (mmu notifier) or nobody
 * else holds one (looked at four times a second).
 */
#ifndef ELISA_KMOD_H
#define ELISA_KMOD_H

#include <linux/irq_work.h>
#include <linux/kref.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <elisa/ioctl.h>
#include "check.h"
#include "compat.h"
#include "ept.h"

#define ELISA_AWAY_TIMEOUT_MS	1000
#define ELISA_PARKED_MAX	16	/* an APIC has 16 priority classes */

/* ---- memory (mem.c) ---- */

struct elisa_mapping {
	struct list_head node;
	u64 gpa, len;
	u32 flags;			/* ELISA_MAP_* */
	bool ready;			/* in the EPTs; else still being pinned */
	struct ept_run *run;
	size_t runs, capacity;
	u64 pinned;			/* pages */
	struct mm_struct *mm;		/* whose pinned_vm counts them; grabbed */
	struct file *device;		/* keeps device memory's owner */
};

/* Pins (or looks up) addr..addr+len of the caller. Undo with elisa_mem_put(), also on failure. */
int elisa_mem_get(struct elisa_mapping *map, u64 addr, u64 len, u32 flags);
void elisa_mem_put(struct elisa_mapping *map);
u64 elisa_mem_pinned(void);

/* ---- contexts (context.c) ---- */

struct elisa_context {
	struct mutex lock;
	struct mm_struct *mm;		/* the creator's; grabbed, for comparison */
	bool closing;
	struct ept gate, trusted;
	struct elisa_mapping root;
	struct list_head mappings;
	struct list_head vms;		/* elisa_lock */
};

int elisa_context_open(const struct elisa_context_create *arg);
bool elisa_context_large_pages(void);
extern atomic64_t elisa_contexts, elisa_invepts;
/* INVEPT on every CPU. May sleep. */
void elisa_invept(void);

/* ---- vCPUs and probes (vcpu.c) ---- */

enum elisa_where {
	ELISA_IN_DEFAULT = 0,
	ELISA_IN_GATE = 1,
	ELISA_IN_TRUSTED = 2,
};

enum elisa_mode {
	ELISA_MODE_OFF = 0,		/* VMFUNC off (once outside) */
	ELISA_MODE_ARMED = 1,
	ELISA_MODE_AWAY = 2,		/* the gate leads to the away page */
};

/* What must not change while a vCPU is stopped inside. */
struct elisa_regs {
	u64 gpr[16];			/* in KVM's order; [4] is RSP */
	u64 rip, rflags, cr0, cr3, cr4, efer, fs_base;
	u64 cs_base;
	u32 cs, cs_ar;
};
#define ELISA_TOUCHED_RIP	(1u << 0)	/* kill_code of ELISA_KILL_TOUCHED */
#define ELISA_TOUCHED_GPR	(1u << 1)
#define ELISA_TOUCHED_RFLAGS	(1u << 2)
#define ELISA_TOUCHED_CR0	(1u << 3)
#define ELISA_TOUCHED_CR3	(1u << 4)
#define ELISA_TOUCHED_CR4	(1u << 5)
#define ELISA_TOUCHED_EFER	(1u << 6)
#define ELISA_TOUCHED_CS	(1u << 7)
#define ELISA_TOUCHED_FS	(1u << 8)

struct elisa_vcpu {
	struct elisa_vm *vm;
	struct kvm_vcpu *vcpu;
	/* Written under vm->lock, read by the probes. */
	enum elisa_mode mode;
	bool doomed;			/* stopped inside past its time: killed at its next entry */
	u64 gate_eptp, trusted_eptp;	/* change only while no processor can use them */
	struct ept_clone gate, trusted;
	u64 *list;			/* the EPTP list page */
	struct elisa_desc *desc;	/* the descriptor page */
	/* The probes' own, read racily by others. */
	enum elisa_where inside;	/* at the last exit */
	bool entered;			/* between the entry and the exit probe */
	bool on;			/* VM functions on in the VMCS */
	bool pit;			/* entered only to fault at once */
	bool ends;			/* killed; the triple fault comes at the next entry */
	bool paged;			/* was armed with paging since the last reset */
	u64 default_eptp;		/* KVM's, at the last entry */
	u64 entry_eptp;			/* what we put instead at the last entry */
	u64 exit_cr3;
	u64 slots;			/* generation of KVM's memory slots, at the last entry */
	u32 windows;			/* window-exiting controls that we set at the last entry */
	bool parked_nmi;
	unsigned int parked;
	u32 park[ELISA_PARKED_MAX];	/* interruption information fields, oldest first */
	struct elisa_regs regs;		/* stopped inside: its own, */
	struct elisa_regs shown;	/* and what KVM was left with, see hide_regs() */
	bool hidden;
	void *vectors;			/* XSAVE area of the same time, a page */
	struct elisa_vcpu_stats stats;
};

int elisa_vcpu_init(void);		/* the away context, the probes */
void elisa_vcpu_exit(void);
struct elisa_vcpu *elisa_vcpu_create(struct elisa_vm *vm, struct kvm_vcpu *vcpu);
void elisa_vcpu_free(struct elisa_vcpu *v);

/* ---- VMs (vm.c) ---- */

struct elisa_kill_info {
	u32 reason, vcpu_id, where;
	u64 code, qualification, gpa;
};

struct elisa_vm {
	struct hlist_node node;		/* elisa_lock, RCU */
	struct list_head reap;		/* the reaper's */
	struct kref ref;
	struct mutex lock;
	struct kvm *kvm;		/* NULL after the end */
	struct mm_struct *mm;
	struct mmu_notifier notifier;
	bool notifier_off;
	struct elisa_context *ctx;	/* written under lock and elisa_lock */
	struct list_head ctx_node;	/* elisa_lock */
	u64 generation;			/* of the attachment; a descriptor of an older one is stale */
	u32 pid;
	bool gone, leaving, holds_module;
	struct elisa_vcpu **vcpu;	/* by vcpu_idx, KVM_MAX_VCPUS of them */
	/* From the probes. */
	unsigned long kill_claimed;	/* bit 0 */
	bool killed, reset, memory;
	struct elisa_kill_info kill;
	wait_queue_head_t wait;
	struct irq_work irq_work;
	struct work_struct work;
};

extern struct mutex elisa_lock;
void elisa_vm_exit(void);
u64 elisa_vm_count(void);
void elisa_vm_put(struct elisa_vm *vm);
/* Finds or makes the VM for kvm, with a reference for the caller; consumes the one on kvm. */
struct elisa_vm *elisa_vm_get(struct kvm *kvm);
/* Binds a VM to a context. vm->lock held. Returns an enum elisa_refusal. */
u32 elisa_vm_bind(struct elisa_vm *vm, struct elisa_context *ctx);
/* Takes the VM out of its context, if it is in one. vm->lock held. */
void elisa_vm_unbind(struct elisa_vm *vm, enum elisa_mode mode, unsigned long deadline);
bool elisa_vm_finish(struct elisa_vm *vm, bool gone);

/* The steps of unbinding, for one vCPU or (only: NULL) all. vm->lock held. */
void elisa_vm_set_mode(struct elisa_vm *vm, struct elisa_vcpu *only, enum elisa_mode mode);
void elisa_vm_drain(struct elisa_vm *vm, struct elisa_vcpu *only, unsigned long deadline);
void elisa_vm_drop_clones(struct elisa_vm *vm, struct elisa_vcpu *only);

struct elisa_vcpu *elisa_next_vcpu(struct elisa_vm *vm, int *i);
#define for_each_elisa_vcpu(v, i, vm) for (i = 0; (v = elisa_next_vcpu(vm, &i)); )

static inline unsigned long elisa_after_ms(u32 ms)
{
	return jiffies + msecs_to_jiffies(min_t(u32, ms, 60000));
}

/* RCU or preemption off. */
struct elisa_vm *elisa_vm_find(struct kvm *kvm);
/* Every vCPU leaves guest mode once. A lock that elisa_vm_finish() takes must be held. */
void elisa_vm_kick(struct elisa_vm *vm);
/* From the probes: records the first kill. */
void elisa_vm_killed(struct elisa_vm *vm, const struct elisa_kill_info *info);
void elisa_vm_was_reset(struct elisa_vm *vm);
void elisa_vm_memory_changed(struct elisa_vm *vm);
/* For a context that closes: no vCPU of its VMs uses it afterwards. */
void elisa_vms_away(struct elisa_context *ctx);
/* For an unmap: every vCPU of a context leaves guest mode once. */
void elisa_vms_kick(struct elisa_context *ctx);

/* ---- attach (attach.c), the VM descriptor (vmfd.c) ---- */

/* A VM descriptor, or -errno; -EPERM with arg->refusal. */
int elisa_vm_attach(struct elisa_context *ctx, struct elisa_ctx_attach *arg);
/* Is this vCPU's CPUID as it must be? An enum elisa_refusal. */
u32 elisa_check_vcpu(struct kvm_vcpu *vcpu, u64 *detail);
/* Does the VMM log writes to its RAM? All of it is written to, for whoever does. */
bool elisa_vm_logged(struct kvm *kvm);
void elisa_vm_mark_dirty(struct kvm *kvm);
int elisa_vm_open(struct elisa_vm *vm, struct elisa_context *ctx, u32 *refusal);

/* ---- the host (main.c) ---- */

extern struct elisa_host elisa_host;
u64 elisa_window(void);			/* its first GPA; as long as it is high */
u32 elisa_phys_bits(void);

#endif
