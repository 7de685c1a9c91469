// SPDX-License-Identifier: GPL-2.0-only
/* VMs: attach, arm, drain, away, detach and the end. See kmod.h for the rules. */
#include <linux/delay.h>
#include <linux/hashtable.h>
#include <linux/kvm_host.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include "defence.h"
#include "kmod.h"

#define REAP_PERIOD		(HZ / 4)

DEFINE_MUTEX(elisa_lock);
static DEFINE_HASHTABLE(vms, 6);
static u64 vm_count, generations;

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

void elisa_vm_put(struct elisa_vm *vm)
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
	hold = hold && DEFENCE(hold);
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
		pr_info("elisa: VM of pid %u killed: vCPU %u in the %s context, reason %u\n",
			vm->pid, k->vcpu_id, k->where == ELISA_IN_GATE ? "gate" : "trusted",
			k->reason);
		pr_info("elisa: ... code %#llx, qualification %#llx, GPA %#llx\n",
			k->code, k->qualification, k->gpa);
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

void elisa_vm_memory_changed(struct elisa_vm *vm)
{
	if (!DEFENCE(memory) || xchg(&vm->memory, true))
		return;
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
	if (DEFENCE(kick))
		kvm_make_all_cpus_request(vm->kvm, KVM_REQ_OUTSIDE_GUEST_MODE);
}

struct elisa_vcpu *elisa_next_vcpu(struct elisa_vm *vm, int *i)
{
	while (*i < KVM_MAX_VCPUS) {
		struct elisa_vcpu *v = vm->vcpu[(*i)++];

		if (v)
			return v;
	}
	return NULL;
}

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

void elisa_vm_set_mode(struct elisa_vm *vm, struct elisa_vcpu *only, enum elisa_mode mode)
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
void elisa_vm_drain(struct elisa_vm *vm, struct elisa_vcpu *only, unsigned long deadline)
{
	struct elisa_vcpu *v;
	int i;

	elisa_vm_kick(vm);
	while (DEFENCE(drain) && any_inside(vm, only) && !READ_ONCE(vm->gone) && time_before(jiffies, deadline) &&
	       !fatal_signal_pending(current)) {
		usleep_range(500, 1000);
		elisa_vm_kick(vm);
	}
	for_each_elisa_vcpu(v, i, vm)
		if ((!only || v == only) && READ_ONCE(v->inside))
			WRITE_ONCE(v->doomed, true);
	elisa_vm_kick(vm);
}

void elisa_vm_drop_clones(struct elisa_vm *vm, struct elisa_vcpu *only)
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
void elisa_vm_unbind(struct elisa_vm *vm, enum elisa_mode mode, unsigned long deadline)
{
	if (!vm->kvm)
		return;
	elisa_vm_set_mode(vm, NULL, mode);
	elisa_vm_drain(vm, NULL, deadline);
	elisa_vm_drop_clones(vm, NULL);
	/* What was written inside was not logged. */
	if (DEFENCE(dirty) && vm->ctx && !vm->gone)
		elisa_vm_mark_dirty(vm->kvm);
	mutex_lock(&elisa_lock);
	list_del_init(&vm->ctx_node);
	vm->ctx = NULL;
	mutex_unlock(&elisa_lock);
	hold_module(vm, !vm->gone && !is_quiet(vm, mode == ELISA_MODE_OFF));
	mod_delayed_work(system_wq, &reaper, REAP_PERIOD);
}

/* ---- the end ---- */

/*
 * Lets go of KVM and of everything else, once nothing waits for a vCPU's next entry. With `gone`
 * no vCPU can enter again. vm->lock held. Returns whether it was the end.
 */
bool elisa_vm_finish(struct elisa_vm *vm, bool gone)
{
	struct elisa_vcpu *v;
	int i;

	if (!vm->kvm)
		return false;
	if (gone)
		WRITE_ONCE(vm->gone, true);
	elisa_vm_unbind(vm, ELISA_MODE_OFF, jiffies);
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
				ended = elisa_vm_finish(vm, gone);
			else if (vm->holds_module && is_quiet(vm, false))
				hold_module(vm, false);
		}
		mutex_unlock(&vm->lock);
		if (ended)
			elisa_vm_put(vm);	/* the hash's */
	}
	list_for_each_entry_safe(vm, next, &seen, reap) {
		list_del_init(&vm->reap);
		elisa_vm_put(vm);
	}
}

static void reap(struct work_struct *work)
{
	reap_all();
	if (elisa_vm_count())
		queue_delayed_work(system_wq, &reaper, REAP_PERIOD);
}

/* ---- the beginning ---- */

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
	if (DEFENCE(apicv_inhibit))
		kvm_set_or_clear_apicv_inhibit(kvm, APICV_INHIBIT_REASON_DISABLE, true);
	return vm;
fail:
	kvfree(vm->vcpu);
	kfree(vm);
	return ERR_PTR(err);
}

/* Finds or makes the VM for kvm, with a reference for the caller; consumes the one on kvm. */
struct elisa_vm *elisa_vm_get(struct kvm *kvm)
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
u32 elisa_vm_bind(struct elisa_vm *vm, struct elisa_context *ctx)
{
	struct elisa_vcpu *v;
	int i;

	if (!vm->kvm || vm->gone)
		return ELISA_REFUSE_VM_DEAD;
	if (vm->ctx && !vm->killed)
		return ELISA_REFUSE_ALREADY_ATTACHED;
	if (vm->ctx)
		elisa_vm_unbind(vm, ELISA_MODE_OFF, jiffies);
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
	unsigned long deadline = elisa_after_ms(ELISA_AWAY_TIMEOUT_MS);
	struct elisa_vm *vm;

	mutex_lock(&ctx->lock);
	ctx->closing = true;
	mutex_unlock(&ctx->lock);
	mutex_lock(&elisa_lock);
	list_for_each_entry(vm, &ctx->vms, ctx_node) {
		elisa_vm_set_mode(vm, NULL, ELISA_MODE_AWAY);
		elisa_vm_kick(vm);
	}
	while (!list_empty(&ctx->vms)) {
		vm = list_first_entry(&ctx->vms, struct elisa_vm, ctx_node);
		kref_get(&vm->ref);
		mutex_unlock(&elisa_lock);
		mutex_lock(&vm->lock);
		if (vm->ctx == ctx)
			elisa_vm_unbind(vm, ELISA_MODE_AWAY, deadline);
		mutex_unlock(&vm->lock);
		elisa_vm_put(vm);
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
		if (elisa_vm_finish(vm, false))
			elisa_vm_put(vm);
		mutex_unlock(&vm->lock);
		elisa_vm_put(vm);
		cond_resched();
	}
	cancel_delayed_work_sync(&reaper);
}
