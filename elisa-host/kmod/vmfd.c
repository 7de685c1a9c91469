// SPDX-License-Identifier: GPL-2.0-only
/* The VM descriptor: one attachment of a VM, as user space sees it. */
#include <linux/anon_inodes.h>
#include <linux/kvm_host.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "defence.h"
#include "kmod.h"

struct vm_file {
	struct elisa_vm *vm;
	u64 generation;
};

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
	if (DEFENCE(arm_check) && elisa_check_vcpu(vcpu, &detail))
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
	elisa_vm_set_mode(vm, v, ELISA_MODE_OFF);
	elisa_vm_drain(vm, v, elisa_after_ms(arg->timeout_ms));
	elisa_vm_drop_clones(vm, v);
	return 0;
}

/* ---- the other requests ---- */

static int vm_slots(struct elisa_vm *vm, struct elisa_vm_slots __user *user)
{
	struct elisa_vm_slots arg;
	struct elisa_slot *out;
	struct kvm_memory_slot *slot;
	struct kvm_memslots *slots;
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
	/* Once: the macro reads it at each step, and KVM swaps two sets of links. */
	slots = kvm_memslots(vm->kvm);
	kvm_for_each_memslot(slot, bucket, slots) {
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
	       (READ_ONCE(vm->reset) ? ELISA_VM_RESET : 0) |
	       (READ_ONCE(vm->memory) ? ELISA_VM_MEMORY : 0);
}

static void vm_status(struct elisa_vm *vm, struct elisa_vm_status *out)
{
	struct elisa_vcpu *v;
	int i;

	memset(out, 0, sizeof(*out));
	out->state = vm_state(vm);
	if (out->state & ELISA_VM_RESET)
		WRITE_ONCE(vm->reset, false);
	if (out->state & ELISA_VM_MEMORY)
		xchg(&vm->memory, false);
	if (vm->kvm && elisa_vm_logged(vm->kvm))
		out->state |= ELISA_VM_LOGGED;
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
	elisa_vm_unbind(vm, ELISA_MODE_OFF, elisa_after_ms(timeout_ms));
	return elisa_vm_finish(vm, false);
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
	if (DEFENCE(generation) && vf->generation != vm->generation)
		result = -ESTALE;
	else
		result = vm_command(vm, cmd, (void __user *)user, &ended);
	mutex_unlock(&vm->lock);
	if (ended)
		elisa_vm_put(vm);
	return result;
}

static __poll_t vm_poll(struct file *file, poll_table *table)
{
	struct vm_file *vf = file->private_data;
	u32 state;

	poll_wait(file, &vf->vm->wait, table);
	state = vm_state(vf->vm);
	return (state & ELISA_VM_GONE ? EPOLLHUP : 0) | (state & ELISA_VM_KILLED ? EPOLLERR : 0) |
	       (state & (ELISA_VM_RESET | ELISA_VM_MEMORY) ? EPOLLIN | EPOLLRDNORM : 0);
}

static int vm_release(struct inode *inode, struct file *file)
{
	struct vm_file *vf = file->private_data;
	struct elisa_vm *vm = vf->vm;

	if (vm) {
		mutex_lock(&vm->lock);
		if (vf->generation == vm->generation && vm->ctx)
			elisa_vm_unbind(vm, ELISA_MODE_AWAY, elisa_after_ms(ELISA_AWAY_TIMEOUT_MS));
		mutex_unlock(&vm->lock);
		elisa_vm_put(vm);
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

int elisa_vm_open(struct elisa_vm *vm, struct elisa_context *ctx, u32 *refusal)
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
	*refusal = elisa_vm_bind(vm, ctx);
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

