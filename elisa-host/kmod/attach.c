// SPDX-License-Identifier: GPL-2.0-only
/* Attach: looks at a KVM VM from all sides, refuses with a reason, or binds it to a context. */
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/sched/signal.h>
#include "kmod.h"

#define VCPU_LOOK_TRIES		300

/* ---- attach ---- */

static void read_cpuid(struct kvm_vcpu *vcpu, struct elisa_cpuid *out)
{
	int i;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < vcpu->arch.cpuid_nent; i++) {
		const struct kvm_cpuid_entry2 *e = &vcpu->arch.cpuid_entries[i];

		if (e->function == 1) {
			out->l1_ecx = e->ecx;
			out->l1_edx = e->edx;
		} else if (e->function == 7 && e->index == 0) {
			out->l7_ebx = e->ebx;
			out->l7_ecx = e->ecx;
			out->l7_edx = e->edx;
		} else if (e->function == 0xa) {
			out->la_eax = e->eax;
		} else if (e->function == 0xd && e->index == 0) {
			out->ld_eax = e->eax;
		} else if (e->function == 0x80000001) {
			out->ext1_edx = e->edx;
		}
	}
}

/*
 * A vCPU that has run keeps its CPUID: KVM refuses another. One that has not may be looked at under
 * its mutex; if it sleeps in KVM waiting for its start-up IPI, it is sent out to its VMM and back.
 */
static int look_at_cpuid(struct kvm_vcpu *vcpu, struct elisa_cpuid *out)
{
	int tries;

	for (tries = 0; tries < VCPU_LOOK_TRIES; tries++) {
		if (READ_ONCE(vcpu->arch.last_vmentry_cpu) != -1) {
			smp_rmb();
			read_cpuid(vcpu, out);
			return 0;
		}
		if (mutex_trylock(&vcpu->mutex)) {
			read_cpuid(vcpu, out);
			mutex_unlock(&vcpu->mutex);
			return 0;
		}
		if (fatal_signal_pending(current))
			break;
		kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
		kvm_vcpu_wake_up(vcpu);
		usleep_range(50, 500);
	}
	return -EBUSY;
}

u32 elisa_check_vcpu(struct kvm_vcpu *vcpu, u64 *detail)
{
	struct elisa_cpuid cpuid;

	*detail = vcpu->vcpu_id;
	if (look_at_cpuid(vcpu, &cpuid))
		return ELISA_REFUSE_VCPU_BUSY;
	return elisa_check_cpuid(&cpuid);
}

/*
 * Most, not any: a display's memory is logged always. What counts is the VMM's wish to know of all
 * writes, as for a migration. One that has a dirty ring in the place of bitmaps is never let in: what
 * was written inside could not be told by it afterwards.
 */
bool elisa_vm_logged(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	u64 all = 0, logged = 0;
	int bucket, idx;

	if (kvm->dirty_ring_size)
		return true;
	idx = srcu_read_lock(&kvm->srcu);
	/* Once: the macro reads it at each step, and KVM swaps two sets of links. */
	slots = kvm_memslots(kvm);
	kvm_for_each_memslot(slot, bucket, slots) {
		if (slot->id >= KVM_USER_MEM_SLOTS || (slot->flags & KVM_MEM_READONLY))
			continue;
		all += slot->npages;
		if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
			logged += slot->npages;
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return logged > all / 2;
}

/* KVM takes bits out of its bitmap by atomic exchange; more of them are no harm. */
void elisa_vm_mark_dirty(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	unsigned long i;
	int bucket, idx;

	idx = srcu_read_lock(&kvm->srcu);
	/* Once: the macro reads it at each step, and KVM swaps two sets of links. */
	slots = kvm_memslots(kvm);
	kvm_for_each_memslot(slot, bucket, slots) {
		unsigned long *bitmap = READ_ONCE(slot->dirty_bitmap);

		if (!bitmap || !(slot->flags & KVM_MEM_LOG_DIRTY_PAGES))
			continue;
		for (i = 0; i < slot->npages / BITS_PER_LONG; i++)
			WRITE_ONCE(bitmap[i], ~0ul);
		for (i *= BITS_PER_LONG; i < slot->npages; i++)
			set_bit(i, bitmap);
	}
	srcu_read_unlock(&kvm->srcu, idx);
}

static void gather_facts(struct kvm *kvm, struct elisa_vm_facts *facts)
{
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
	struct kvm_vcpu *vcpu;
	unsigned long i;
	int bucket, idx;

	memset(facts, 0, sizeof(*facts));
	facts->dead = kvm->vm_dead;
	facts->vcpus = atomic_read(&kvm->online_vcpus);
	facts->irqchip = 1;
	facts->window_gpa = elisa_window();
	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (!vcpu->arch.apic)
			facts->irqchip = 0;
		if (!vcpu->arch.root_mmu.root_role.direct)
			facts->shadow_paging = 1;
	}
	idx = srcu_read_lock(&kvm->srcu);
	/* Once: the macro reads it at each step, and KVM swaps two sets of links. */
	slots = kvm_memslots(kvm);
	kvm_for_each_memslot(slot, bucket, slots) {
		u64 end = (slot->base_gfn + slot->npages) << PAGE_SHIFT;

		if (end > facts->ram_end) {
			facts->ram_end = end;
			facts->ram_top_gpa = slot->base_gfn << PAGE_SHIFT;
		}
	}
	srcu_read_unlock(&kvm->srcu, idx);
	facts->logged = elisa_vm_logged(kvm);
}

static u32 check_kvm(struct kvm *kvm, u32 flags, u64 *detail)
{
	struct elisa_vm_facts facts;
	struct kvm_vcpu *vcpu;
	unsigned long i;
	u32 refusal;

	refusal = elisa_check_bugs(&elisa_host, flags, detail);
	if (refusal)
		return refusal;
	gather_facts(kvm, &facts);
	refusal = elisa_check_vm(&facts, detail);
	if (refusal)
		return refusal;
	kvm_for_each_vcpu(i, vcpu, kvm) {
		refusal = elisa_check_vcpu(vcpu, detail);
		if (refusal)
			return refusal;
	}
	*detail = 0;
	return ELISA_REFUSE_NONE;
}

/* The VM behind a descriptor of the caller's, referenced. */
static struct kvm *kvm_from_fd(int fd, u32 *refusal)
{
	struct kvm *kvm = NULL;
	struct fd f = fdget(fd);

	*refusal = ELISA_REFUSE_NONE;
	if (!fd_file(f))
		return ERR_PTR(-EBADF);
	if (!file_is_kvm(fd_file(f))) {
		*refusal = ELISA_REFUSE_NOT_KVM;
	} else {
		kvm = fd_file(f)->private_data;
		if (!kvm_get_kvm_safe(kvm)) {
			kvm = NULL;
			*refusal = ELISA_REFUSE_VM_DEAD;
		}
	}
	fdput(f);
	return kvm;
}

/* An attach failed: a VM that never was attached leaves no trace. */
static void forget_unused(struct elisa_vm *vm)
{
	bool ended;

	mutex_lock(&vm->lock);
	ended = !vm->generation && elisa_vm_finish(vm, false);
	mutex_unlock(&vm->lock);
	if (ended)
		elisa_vm_put(vm);
}

int elisa_vm_attach(struct elisa_context *ctx, struct elisa_ctx_attach *arg)
{
	struct elisa_vm *vm;
	struct kvm *kvm;
	int fd;

	arg->refusal = elisa_check_host(&elisa_host, &arg->detail);
	if (arg->refusal)
		return -EPERM;
	kvm = kvm_from_fd(arg->kvm_fd, &arg->refusal);
	if (IS_ERR(kvm))
		return PTR_ERR(kvm);
	if (arg->refusal)
		return -EPERM;
	arg->refusal = check_kvm(kvm, arg->flags, &arg->detail);
	if (arg->refusal) {
		kvm_put_kvm(kvm);
		return -EPERM;
	}
	vm = elisa_vm_get(kvm);
	if (IS_ERR(vm)) {
		if (PTR_ERR(vm) != -ESRCH)
			return PTR_ERR(vm);
		arg->refusal = ELISA_REFUSE_VM_DEAD;
		return -EPERM;
	}
	fd = elisa_vm_open(vm, ctx, &arg->refusal);
	if (arg->refusal == ELISA_REFUSE_ALREADY_ATTACHED)
		arg->detail = vm->pid;
	if (fd < 0)
		forget_unused(vm);
	elisa_vm_put(vm);
	return fd;
}

