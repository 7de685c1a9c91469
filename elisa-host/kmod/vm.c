// SPDX-License-Identifier: GPL-2.0-only
/* VMs: attach, arm, drain, away, detach and the end. See kmod.h for the rules. */
#include <linux/anon_inodes.h>
#include <linux/delay.h>
#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "kmod.h"

#define REAP_PERIOD		(HZ / 4)
#define VCPU_LOOK_TRIES		300
#define TIMEOUT_MAX_MS		60000

DEFINE_MUTEX(elisa_lock);
static DEFINE_HASHTABLE(vms, 6);
static u64 vm_count, generations;

/* What a VM descriptor stands for: one attachment of a VM. */
struct vm_file {
	struct elisa_vm *vm;
	u64 generation;
};

static void reap(struct work_struct *work);
static DECLARE_DELAYED_WORK(reaper, reap);

/* ---- references ---- */

static void vm_free(struct kref *ref)
{
	struct elisa_vm *vm = container_of(ref, struct elisa_vm, ref);

	irq_work_sync(&vm->irq_work);
	cancel_work_sync(&vm->work);
	kvfree(vm->vcpu);
	kfree(vm);
}

static void vm_put(struct elisa_vm *vm)
{
	kref_put(&vm->ref, vm_free);
}

struct elisa_vm *elisa_vm_find(struct kvm *kvm)
{
	struct elisa_vm *vm;

	hash_for_each_possible_rcu_notrace(vms, vm, node, (unsigned long)kvm)
		if (vm->kvm == kvm)
			return vm;
	return NULL;
}

u64 elisa_vm_count(void)
{
	return READ_ONCE(vm_count);
}

/* Keeps the module while a stopped vCPU waits to be killed at its next entry. vm->lock held. */
static void hold_module(struct elisa_vm *vm, bool hold)
{
	if (hold && !vm->holds_module)
		__module_get(THIS_MODULE);
	if (!hold && vm->holds_module)
		module_put(THIS_MODULE);
	vm->holds_module = hold;
}

/* ---- news from the probes ---- */

static void vm_work(struct work_struct *work)
{
	struct elisa_vm *vm = container_of(work, struct elisa_vm, work);
	const struct elisa_kill_info *k = &vm->kill;

	mutex_lock(&vm->lock);
	if (vm->kvm && smp_load_acquire(&vm->killed)) {
		elisa_vm_kick(vm);
		pr_info("elisa: VM of pid %u: killed by vCPU %u in the %s context: reason %u, code %#llx, qualification %#llx, GPA %#llx\n",
			vm->pid, k->vcpu_id, k->where == ELISA_IN_GATE ? "gate" : "trusted",
			k->reason, k->code, k->qualification, k->gpa);
	}
	mutex_unlock(&vm->lock);
}

/* Out of the probe's context: wake-ups and kicks take locks that it may not. */
static void vm_irq_work(struct irq_work *work)
{
	struct elisa_vm *vm = container_of(work, struct elisa_vm, irq_work);

	wake_up_all(&vm->wait);
	if (READ_ONCE(vm->killed))
		schedule_work(&vm->work);
}

void elisa_vm_killed(struct elisa_vm *vm, const struct elisa_kill_info *info)
{
	if (test_and_set_bit(0, &vm->kill_claimed))
		return;
	vm->kill = *info;
	smp_store_release(&vm->killed, true);
	irq_work_queue(&vm->irq_work);
}

void elisa_vm_was_reset(struct elisa_vm *vm)
{
	WRITE_ONCE(vm->reset, true);
	irq_work_queue(&vm->irq_work);
}

static void mm_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct elisa_vm *vm = container_of(notifier, struct elisa_vm, notifier);

	if (READ_ONCE(vm->notifier_off))
		return;
	WRITE_ONCE(vm->gone, true);
	wake_up_all(&vm->wait);
	mod_delayed_work(system_wq, &reaper, 0);
}

static const struct mmu_notifier_ops notifier_ops = { .release = mm_release };

/* ---- draining: making vCPUs stop using a context ---- */

void elisa_vm_kick(struct elisa_vm *vm)
{
	kvm_make_all_cpus_request(vm->kvm, KVM_REQ_OUTSIDE_GUEST_MODE);
}

static struct elisa_vcpu *next_vcpu(struct elisa_vm *vm, int *i)
{
	while (*i < KVM_MAX_VCPUS) {
		struct elisa_vcpu *v = vm->vcpu[(*i)++];

		if (v)
			return v;
	}
	return NULL;
}

#define for_each_elisa_vcpu(v, i, vm) for (i = 0; (v = next_vcpu(vm, &i)); )

static bool any_inside(struct elisa_vm *vm, const struct elisa_vcpu *only)
{
	struct elisa_vcpu *v;
	int i;

	for_each_elisa_vcpu(v, i, vm)
		if ((!only || v == only) && READ_ONCE(v->inside))
			return true;
	return false;
}

/* Does something of a vCPU wait for its next entry: a kill, a parked event, or VM functions? */
static bool is_quiet(struct elisa_vm *vm, bool off)
{
	struct elisa_vcpu *v;
	int i;

	for_each_elisa_vcpu(v, i, vm)
		if (READ_ONCE(v->inside) || READ_ONCE(v->parked) || READ_ONCE(v->parked_nmi) ||
		    (off && READ_ONCE(v->on)))
			return false;
	return true;
}

static void set_mode(struct elisa_vm *vm, struct elisa_vcpu *only, enum elisa_mode mode)
{
	struct elisa_vcpu *v;
	int i;

	for_each_elisa_vcpu(v, i, vm)
		if ((!only || v == only) &&
		    (mode == ELISA_MODE_OFF || READ_ONCE(v->mode) == ELISA_MODE_ARMED))
			WRITE_ONCE(v->mode, mode);
}

/*
 * Waits until no call is under way, no longer than `deadline` (jiffies); then those still inside
 * are to be killed at their next entry. Either way no processor uses a clone on return: a vCPU
 * that is stopped inside holds it only in our fields. vm->lock held, modes set.
 */
static void drain(struct elisa_vm *vm, struct elisa_vcpu *only, unsigned long deadline)
{
	struct elisa_vcpu *v;
	int i;

	elisa_vm_kick(vm);
	while (any_inside(vm, only) && !READ_ONCE(vm->gone) && time_before(jiffies, deadline) &&
	       !fatal_signal_pending(current)) {
		usleep_range(500, 1000);
		elisa_vm_kick(vm);
	}
	for_each_elisa_vcpu(v, i, vm)
		if ((!only || v == only) && READ_ONCE(v->inside))
			WRITE_ONCE(v->doomed, true);
	elisa_vm_kick(vm);
}

static void drop_clones(struct elisa_vm *vm, struct elisa_vcpu *only)
{
	struct elisa_context *ctx = vm->ctx;
	struct elisa_vcpu *v;
	int i;

	if (!ctx)
		return;
	mutex_lock(&ctx->lock);
	for_each_elisa_vcpu(v, i, vm)
		if (!only || v == only) {
			ept_clone_unlink(&v->gate);
			ept_clone_unlink(&v->trusted);
		}
	mutex_unlock(&ctx->lock);
	elisa_invept();
	for_each_elisa_vcpu(v, i, vm)
		if (!only || v == only) {
			v->gate_eptp = 0;
			v->trusted_eptp = 0;
			ept_clone_free(&v->gate);
			ept_clone_free(&v->trusted);
		}
}

/* Takes the VM out of its context, if it is in one. vm->lock held. */
static void unbind(struct elisa_vm *vm, enum elisa_mode mode, unsigned long deadline)
{
	if (!vm->kvm)
		return;
	set_mode(vm, NULL, mode);
	drain(vm, NULL, deadline);
	drop_clones(vm, NULL);
	mutex_lock(&elisa_lock);
	list_del_init(&vm->ctx_node);
	vm->ctx = NULL;
	mutex_unlock(&elisa_lock);
	hold_module(vm, !vm->gone && !is_quiet(vm, mode == ELISA_MODE_OFF));
	mod_delayed_work(system_wq, &reaper, REAP_PERIOD);
}

static unsigned long after_ms(u32 ms)
{
	return jiffies + msecs_to_jiffies(min_t(u32, ms, TIMEOUT_MAX_MS));
}

/* ---- the end ---- */

/*
 * Lets go of KVM and of everything else, once nothing waits for a vCPU's next entry. With `gone`
 * no vCPU can enter again. vm->lock held. Returns whether it was the end.
 */
static bool finish(struct elisa_vm *vm, bool gone)
{
	struct elisa_vcpu *v;
	int i;

	if (!vm->kvm)
		return false;
	if (gone)
		WRITE_ONCE(vm->gone, true);
	unbind(vm, ELISA_MODE_OFF, jiffies);
	if (!vm->gone && !is_quiet(vm, true)) {
		vm->leaving = true;
		return false;
	}
	mutex_lock(&elisa_lock);
	hash_del_rcu(&vm->node);
	vm_count--;
	mutex_unlock(&elisa_lock);
	synchronize_rcu();
	WRITE_ONCE(vm->notifier_off, true);
	mmu_notifier_unregister(&vm->notifier, vm->mm);
	kvm_set_or_clear_apicv_inhibit(vm->kvm, APICV_INHIBIT_REASON_DISABLE, false);
	for_each_elisa_vcpu(v, i, vm) {
		vm->vcpu[i - 1] = NULL;
		elisa_vcpu_free(v);
	}
	kvm_put_kvm(vm->kvm);
	vm->kvm = NULL;
	hold_module(vm, false);
	wake_up_all(&vm->wait);
	return true;
}

/* One VM that needs the reaper, with a reference. */
static struct elisa_vm *next_to_reap(struct list_head *seen)
{
	struct elisa_vm *vm;
	int bucket;

	mutex_lock(&elisa_lock);
	hash_for_each(vms, bucket, vm, node) {
		if (!list_empty(&vm->reap))
			continue;
		list_add(&vm->reap, seen);
		kref_get(&vm->ref);
		mutex_unlock(&elisa_lock);
		return vm;
	}
	mutex_unlock(&elisa_lock);
	return NULL;
}

static void reap_all(void)
{
	struct elisa_vm *vm, *next;
	LIST_HEAD(seen);

	while ((vm = next_to_reap(&seen))) {
		bool ended = false;

		mutex_lock(&vm->lock);
		if (vm->kvm) {
			/* Nobody else has the VM: its VMM closed it without exiting. */
			bool gone = vm->gone || refcount_read(&vm->kvm->users_count) == 1;

			if (gone || vm->leaving)
				ended = finish(vm, gone);
			else if (vm->holds_module && is_quiet(vm, false))
				hold_module(vm, false);
		}
		mutex_unlock(&vm->lock);
		if (ended)
			vm_put(vm);	/* the hash's */
	}
	list_for_each_entry_safe(vm, next, &seen, reap) {
		list_del_init(&vm->reap);
		vm_put(vm);
	}
}

static void reap(struct work_struct *work)
{
	reap_all();
	if (elisa_vm_count())
		queue_delayed_work(system_wq, &reaper, REAP_PERIOD);
}

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

static u32 check_vcpu(struct kvm_vcpu *vcpu, u64 *detail)
{
	struct elisa_cpuid cpuid;

	*detail = vcpu->vcpu_id;
	if (look_at_cpuid(vcpu, &cpuid))
		return ELISA_REFUSE_VCPU_BUSY;
	return elisa_check_cpuid(&cpuid);
}

static void gather_facts(struct kvm *kvm, struct elisa_vm_facts *facts)
{
	struct kvm_memory_slot *slot;
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
	kvm_for_each_memslot(slot, bucket, kvm_memslots(kvm)) {
		u64 end = (slot->base_gfn + slot->npages) << PAGE_SHIFT;

		if (end > facts->ram_end) {
			facts->ram_end = end;
			facts->ram_top_gpa = slot->base_gfn << PAGE_SHIFT;
		}
	}
	srcu_read_unlock(&kvm->srcu, idx);
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
		refusal = check_vcpu(vcpu, detail);
		if (refusal)
			return refusal;
	}
	*detail = 0;
	return ELISA_REFUSE_NONE;
}

/* A VM new to the module, away. */
static struct elisa_vm *vm_create(struct kvm *kvm)
{
	struct elisa_vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	int err = -ENOMEM;

	if (!vm)
		return ERR_PTR(-ENOMEM);
	vm->vcpu = kvcalloc(KVM_MAX_VCPUS, sizeof(*vm->vcpu), GFP_KERNEL_ACCOUNT);
	if (!vm->vcpu)
		goto fail;
	kref_init(&vm->ref);
	mutex_init(&vm->lock);
	INIT_LIST_HEAD(&vm->ctx_node);
	INIT_LIST_HEAD(&vm->reap);
	init_waitqueue_head(&vm->wait);
	init_irq_work(&vm->irq_work, vm_irq_work);
	INIT_WORK(&vm->work, vm_work);
	vm->kvm = kvm;
	vm->mm = kvm->mm;
	vm->pid = kvm->userspace_pid;
	vm->notifier.ops = &notifier_ops;

	if (!mmget_not_zero(vm->mm)) {
		err = -ESRCH;
		goto fail;
	}
	err = mmu_notifier_register(&vm->notifier, vm->mm);
	mmput(vm->mm);
	if (err)
		goto fail;
	kvm_set_or_clear_apicv_inhibit(kvm, APICV_INHIBIT_REASON_DISABLE, true);
	return vm;
fail:
	kvfree(vm->vcpu);
	kfree(vm);
	return ERR_PTR(err);
}

/* Finds or makes the VM for kvm, with a reference for the caller; consumes the one on kvm. */
static struct elisa_vm *vm_get(struct kvm *kvm)
{
	static DEFINE_MUTEX(creation);	/* before vm->lock; one VM never gets two objects */
	struct elisa_vm *vm;

	mutex_lock(&creation);
	mutex_lock(&elisa_lock);
	vm = elisa_vm_find(kvm);
	if (vm)
		kref_get(&vm->ref);
	mutex_unlock(&elisa_lock);
	if (!vm) {
		vm = vm_create(kvm);
		if (!IS_ERR(vm)) {
			kref_get(&vm->ref);
			kvm_get_kvm(kvm);
			mutex_lock(&elisa_lock);
			hash_add_rcu(vms, &vm->node, (unsigned long)kvm);
			vm_count++;
			mutex_unlock(&elisa_lock);
			mod_delayed_work(system_wq, &reaper, REAP_PERIOD);
		}
	}
	mutex_unlock(&creation);
	kvm_put_kvm(kvm);
	return vm;
}

/* Binds a VM to a context. vm->lock held. Returns an enum elisa_refusal. */
static u32 bind_vm(struct elisa_vm *vm, struct elisa_context *ctx)
{
	struct elisa_vcpu *v;
	int i;

	if (!vm->kvm || vm->gone)
		return ELISA_REFUSE_VM_DEAD;
	if (vm->ctx && !vm->killed)
		return ELISA_REFUSE_ALREADY_ATTACHED;
	if (vm->ctx)
		unbind(vm, ELISA_MODE_OFF, jiffies);
	if (vm->leaving || any_inside(vm, NULL))
		return ELISA_REFUSE_LEAVING;
	for_each_elisa_vcpu(v, i, vm)
		v->doomed = false;
	vm->killed = false;
	memset(&vm->kill, 0, sizeof(vm->kill));
	smp_store_release(&vm->kill_claimed, 0);
	mutex_lock(&elisa_lock);
	vm->ctx = ctx;
	vm->generation = ++generations;
	list_add_tail(&vm->ctx_node, &ctx->vms);
	mutex_unlock(&elisa_lock);
	return ELISA_REFUSE_NONE;
}

static const struct file_operations vm_fops;

static int vm_open(struct elisa_vm *vm, struct elisa_context *ctx, u32 *refusal)
{
	struct vm_file *vf = kzalloc(sizeof(*vf), GFP_KERNEL_ACCOUNT);
	struct file *file;
	int fd, err;

	if (!vf)
		return -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		err = fd;
		goto fail_vf;
	}
	file = anon_inode_getfile("[elisa-vm]", &vm_fops, vf, O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto fail_fd;
	}
	mutex_lock(&vm->lock);
	*refusal = bind_vm(vm, ctx);
	if (!*refusal) {
		vf->generation = vm->generation;
		vf->vm = vm;
		kref_get(&vm->ref);
	}
	mutex_unlock(&vm->lock);
	if (*refusal) {
		fput(file);	/* frees vf */
		put_unused_fd(fd);
		return -EPERM;
	}
	fd_install(fd, file);
	return fd;
fail_fd:
	put_unused_fd(fd);
fail_vf:
	kfree(vf);
	return err;
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
	ended = !vm->generation && finish(vm, false);
	mutex_unlock(&vm->lock);
	if (ended)
		vm_put(vm);
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
	vm = vm_get(kvm);
	if (IS_ERR(vm)) {
		if (PTR_ERR(vm) != -ESRCH)
			return PTR_ERR(vm);
		arg->refusal = ELISA_REFUSE_VM_DEAD;
		return -EPERM;
	}
	fd = vm_open(vm, ctx, &arg->refusal);
	if (arg->refusal == ELISA_REFUSE_ALREADY_ATTACHED)
		arg->detail = vm->pid;
	if (fd < 0)
		forget_unused(vm);
	vm_put(vm);
	return fd;
}

/* ---- arm and disarm ---- */

static struct elisa_vcpu *vcpu_by_id(struct elisa_vm *vm, u32 id)
{
	struct elisa_vcpu *v;
	int i;

	for_each_elisa_vcpu(v, i, vm)
		if (v->vcpu->vcpu_id == id)
			return v;
	return NULL;
}

static struct elisa_vcpu *vcpu_get(struct elisa_vm *vm, u32 id)
{
	struct elisa_vcpu *v = vcpu_by_id(vm, id);
	struct kvm_vcpu *vcpu;
	u64 detail;

	if (v)
		return v;
	vcpu = id < KVM_MAX_VCPU_IDS ? kvm_get_vcpu_by_id(vm->kvm, id) : NULL;
	if (!vcpu)
		return ERR_PTR(-ENOENT);
	/* It may have been added after the attach. */
	if (check_vcpu(vcpu, &detail))
		return ERR_PTR(-EOPNOTSUPP);
	v = elisa_vcpu_create(vm, vcpu);
	if (!v)
		return ERR_PTR(-ENOMEM);
	smp_store_release(&vm->vcpu[vcpu->vcpu_idx], v);
	return v;
}

static int vm_arm(struct elisa_vm *vm, const struct elisa_vm_arm *arg)
{
	struct elisa_context *ctx = vm->ctx;
	struct elisa_vcpu *v;
	int err;

	if (arg->reserved || arg->stack & 15)
		return -EINVAL;
	if (!ctx || vm->leaving)
		return -ESTALE;
	if (vm->killed)
		return -EPERM;
	v = vcpu_get(vm, arg->vcpu_id);
	if (IS_ERR(v))
		return PTR_ERR(v);
	if (v->mode == ELISA_MODE_ARMED || READ_ONCE(v->inside))
		return -EBUSY;
	mutex_lock(&ctx->lock);
	err = ctx->closing ? -ESTALE :
	      ept_clone_create(&ctx->gate, &v->gate, virt_to_phys(v->list), 0);
	if (err)
		goto out;
	err = ept_clone_create(&ctx->trusted, &v->trusted, virt_to_phys(v->list),
			       virt_to_phys(v->desc));
	if (err) {
		ept_clone_unlink(&v->gate);
		ept_clone_free(&v->gate);
		goto out;
	}
	v->desc->magic = ELISA_DESC_MAGIC;
	v->desc->vcpu_id = arg->vcpu_id;
	v->desc->stack = arg->stack;
	v->desc->fs_base = arg->fs_base;
	v->desc->entry = arg->entry;
	v->desc->cookie = arg->cookie;
	memset(&v->stats, 0, sizeof(v->stats));
	v->stats.vcpu_id = arg->vcpu_id;
	v->doomed = false;
	v->gate_eptp = ept_eptp(v->gate.root);
	v->trusted_eptp = ept_eptp(v->trusted.root);
	smp_store_release(&v->mode, ELISA_MODE_ARMED);
out:
	mutex_unlock(&ctx->lock);
	if (!err)
		elisa_vm_kick(vm);
	return err;
}

static int vm_disarm(struct elisa_vm *vm, const struct elisa_vm_disarm *arg)
{
	struct elisa_vcpu *v = vcpu_by_id(vm, arg->vcpu_id);

	if (!v || v->mode != ELISA_MODE_ARMED)
		return -ENOENT;
	set_mode(vm, v, ELISA_MODE_OFF);
	drain(vm, v, after_ms(arg->timeout_ms));
	drop_clones(vm, v);
	return 0;
}

/* ---- the other requests ---- */

static int vm_slots(struct elisa_vm *vm, struct elisa_vm_slots __user *user)
{
	struct elisa_vm_slots arg;
	struct elisa_slot *out;
	struct kvm_memory_slot *slot;
	u32 count = 0, capacity;
	int bucket, idx, err = 0;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	if (arg.reserved)
		return -EINVAL;
	capacity = min_t(u32, arg.count, KVM_USER_MEM_SLOTS);
	out = kvcalloc(capacity + 1, sizeof(*out), GFP_KERNEL_ACCOUNT);
	if (!out)
		return -ENOMEM;
	idx = srcu_read_lock(&vm->kvm->srcu);
	kvm_for_each_memslot(slot, bucket, kvm_memslots(vm->kvm)) {
		if (slot->id >= KVM_USER_MEM_SLOTS)
			continue;
		if (count < capacity)
			out[count] = (struct elisa_slot){
				.gpa = slot->base_gfn << PAGE_SHIFT,
				.size = slot->npages << PAGE_SHIFT,
				.addr = slot->userspace_addr,
				.flags = slot->flags,
				.id = slot->id,
			};
		count++;
	}
	srcu_read_unlock(&vm->kvm->srcu, idx);
	if (copy_to_user(u64_to_user_ptr(arg.slots), out, min(count, capacity) * sizeof(*out)))
		err = -EFAULT;
	else if (put_user(count, &user->count))
		err = -EFAULT;
	else if (count > arg.count)
		err = -ENOSPC;
	kvfree(out);
	return err;
}

static u32 vm_state(const struct elisa_vm *vm)
{
	return (READ_ONCE(vm->gone) ? ELISA_VM_GONE : 0) |
	       (smp_load_acquire(&vm->killed) ? ELISA_VM_KILLED : 0) |
	       (READ_ONCE(vm->reset) ? ELISA_VM_RESET : 0);
}

static void vm_status(struct elisa_vm *vm, struct elisa_vm_status *out)
{
	struct elisa_vcpu *v;
	int i;

	memset(out, 0, sizeof(*out));
	out->state = vm_state(vm);
	if (out->state & ELISA_VM_RESET)
		WRITE_ONCE(vm->reset, false);
	out->vcpus = vm->kvm ? atomic_read(&vm->kvm->online_vcpus) : 0;
	for_each_elisa_vcpu(v, i, vm) {
		out->armed += v->mode == ELISA_MODE_ARMED;
		out->inside += READ_ONCE(v->inside) != ELISA_IN_DEFAULT;
	}
	out->pid = vm->pid;
	if (out->state & ELISA_VM_KILLED) {
		out->kill = vm->kill.reason;
		out->kill_vcpu = vm->kill.vcpu_id;
		out->kill_code = vm->kill.code;
		out->kill_qualification = vm->kill.qualification;
		out->kill_gpa = vm->kill.gpa;
		out->kill_context = vm->kill.where;
	}
}

static int vm_stats(struct elisa_vm *vm, struct elisa_vcpu_stats __user *user)
{
	struct elisa_vcpu *v;
	u32 id;

	if (get_user(id, &user->vcpu_id))
		return -EFAULT;
	v = vcpu_by_id(vm, id);
	if (!v || v->mode == ELISA_MODE_OFF)
		return -ENOENT;
	return copy_to_user(user, &v->stats, sizeof(v->stats)) ? -EFAULT : 0;
}

/* Whether it ends the VM (then the hash's reference is the caller's) or its vCPUs leave later. */
static bool vm_detach(struct elisa_vm *vm, u32 timeout_ms)
{
	unbind(vm, ELISA_MODE_OFF, after_ms(timeout_ms));
	return finish(vm, false);
}

static long vm_command(struct elisa_vm *vm, unsigned int cmd, void __user *user, bool *ended)
{
	union {
		struct elisa_vm_arm arm;
		struct elisa_vm_disarm disarm;
		struct elisa_vm_status status;
		u32 timeout_ms;
	} arg;

	if (cmd == ELISA_VM_STATUS) {
		vm_status(vm, &arg.status);
		return copy_to_user(user, &arg.status, sizeof(arg.status)) ? -EFAULT : 0;
	}
	if (!vm->kvm || vm->gone)
		return -ENODEV;
	switch (cmd) {
	case ELISA_VM_SLOTS:
		return vm_slots(vm, user);
	case ELISA_VM_ARM:
		if (copy_from_user(&arg.arm, user, sizeof(arg.arm)))
			return -EFAULT;
		return vm_arm(vm, &arg.arm);
	case ELISA_VM_DISARM:
		if (copy_from_user(&arg.disarm, user, sizeof(arg.disarm)))
			return -EFAULT;
		return vm_disarm(vm, &arg.disarm);
	case ELISA_VM_DETACH:
		if (copy_from_user(&arg.timeout_ms, user, sizeof(arg.timeout_ms)))
			return -EFAULT;
		*ended = vm_detach(vm, arg.timeout_ms);
		return 0;
	case ELISA_VM_KICK:
		elisa_vm_kick(vm);
		return 0;
	case ELISA_VM_STATS:
		return vm_stats(vm, user);
	default:
		return -ENOTTY;
	}
}

static bool is_vm_command(unsigned int cmd)
{
	switch (cmd) {
	case ELISA_VM_SLOTS:
	case ELISA_VM_ARM:
	case ELISA_VM_DISARM:
	case ELISA_VM_DETACH:
	case ELISA_VM_STATUS:
	case ELISA_VM_KICK:
	case ELISA_VM_STATS:
		return true;
	default:
		return false;
	}
}

static long vm_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	struct vm_file *vf = file->private_data;
	struct elisa_vm *vm = vf->vm;
	bool ended = false;
	long result;

	if (!is_vm_command(cmd))
		return -ENOTTY;
	if (mutex_lock_killable(&vm->lock))
		return -EINTR;
	if (vf->generation != vm->generation)
		result = -ESTALE;
	else
		result = vm_command(vm, cmd, (void __user *)user, &ended);
	mutex_unlock(&vm->lock);
	if (ended)
		vm_put(vm);
	return result;
}

static __poll_t vm_poll(struct file *file, poll_table *table)
{
	struct vm_file *vf = file->private_data;
	u32 state;

	poll_wait(file, &vf->vm->wait, table);
	state = vm_state(vf->vm);
	return (state & ELISA_VM_GONE ? EPOLLHUP : 0) | (state & ELISA_VM_KILLED ? EPOLLERR : 0) |
	       (state & ELISA_VM_RESET ? EPOLLIN | EPOLLRDNORM : 0);
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct vm_file *vf = file->private_data;
	struct elisa_vm *vm = vf->vm;

	if (vm) {
		mutex_lock(&vm->lock);
		if (vf->generation == vm->generation && vm->ctx)
			unbind(vm, ELISA_MODE_AWAY, after_ms(ELISA_AWAY_TIMEOUT_MS));
		mutex_unlock(&vm->lock);
		vm_put(vm);
	}
	kfree(vf);
	return 0;
}

static const struct file_operations vm_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = vm_poll,
	.release = vm_release,
	.llseek = noop_llseek,
};

/* ---- for contexts ---- */

void elisa_vms_kick(struct elisa_context *ctx)
{
	struct elisa_vm *vm;

	mutex_lock(&elisa_lock);
	list_for_each_entry(vm, &ctx->vms, ctx_node)
		elisa_vm_kick(vm);
	mutex_unlock(&elisa_lock);
}

/* All first stop letting calls in, then one deadline serves for all to let them out. */
void elisa_vms_away(struct elisa_context *ctx)
{
	unsigned long deadline = after_ms(ELISA_AWAY_TIMEOUT_MS);
	struct elisa_vm *vm;

	mutex_lock(&ctx->lock);
	ctx->closing = true;
	mutex_unlock(&ctx->lock);
	mutex_lock(&elisa_lock);
	list_for_each_entry(vm, &ctx->vms, ctx_node) {
		set_mode(vm, NULL, ELISA_MODE_AWAY);
		elisa_vm_kick(vm);
	}
	while (!list_empty(&ctx->vms)) {
		vm = list_first_entry(&ctx->vms, struct elisa_vm, ctx_node);
		kref_get(&vm->ref);
		mutex_unlock(&elisa_lock);
		mutex_lock(&vm->lock);
		if (vm->ctx == ctx)
			unbind(vm, ELISA_MODE_AWAY, deadline);
		mutex_unlock(&vm->lock);
		vm_put(vm);
		mutex_lock(&elisa_lock);
	}
	mutex_unlock(&elisa_lock);
}

/* ---- the module ---- */

/*
 * No descriptor is open and nothing waits for a vCPU inside (hold_module()), so what is left are
 * VMs that are away: their vCPUs get #UD from now on.
 */
void elisa_vm_exit(void)
{
	struct elisa_vm *vm;
	int bucket;

	cancel_delayed_work_sync(&reaper);
	while (elisa_vm_count()) {
		mutex_lock(&elisa_lock);
		hash_for_each(vms, bucket, vm, node) {
			kref_get(&vm->ref);
			break;
		}
		mutex_unlock(&elisa_lock);
		mutex_lock(&vm->lock);
		if (finish(vm, false))
			vm_put(vm);
		mutex_unlock(&vm->lock);
		vm_put(vm);
		cond_resched();
	}
	cancel_delayed_work_sync(&reaper);
}
