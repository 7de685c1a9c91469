/* SPDX-License-Identifier: BSD-3-Clause */
/* VMs: attach, arm, disarm, detach. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static int vm_ioctl(struct elisa_vm *vm, unsigned long request, void *arg)
{
	return vm->ctx->host->ops->ioctl(vm->fd, request, arg);
}

/* As above, through interruptions: for what has to be done. */
static int vm_must(struct elisa_vm *vm, unsigned long request, void *arg)
{
	int rc;

	do
		rc = vm_ioctl(vm, request, arg);
	while (rc == -EINTR);
	return rc < 0 ? rc : 0;
}

/* ---- attach ---- */

/* Errors of looking into a process, as refusals where they are such. */
static int process_error(int rc, struct elisa_why *why)
{
	static const struct {
		int rc;
		uint32_t refusal;
	} table[] = {
		{-ESRCH, ELISA_REFUSE_NO_PROCESS},     {-EPERM, ELISA_REFUSE_NO_PERMISSION},
		{-EACCES, ELISA_REFUSE_NO_PERMISSION}, {-ENOENT, ELISA_REFUSE_NO_KVM},
		{-EMLINK, ELISA_REFUSE_MANY_VMS},
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		if (table[i].rc == rc) {
			why->refusal = table[i].refusal;
			return -EPERM;
		}
	}
	return rc;
}

static int attach(struct elisa_vm *vm, const struct process *p, uint32_t flags,
		  struct elisa_why *why)
{
	struct elisa_ctx_attach attach = {.flags = flags};
	int rc, fd = process_kvm_fd(p);

	if (fd < 0)
		return process_error(fd, why);
	attach.kvm_fd = fd;
	/* A signal keeps the kernel from registering with the VM's memory. */
	do
		rc = ctx_ioctl(vm->ctx, ELISA_CTX_ATTACH, &attach);
	while (rc == -EINTR);
	/* Kept, it would keep the VM alive after its process. */
	close(fd);
	if (rc >= 0) {
		vm->fd = rc;
		return 0;
	}
	if (rc == -EPERM) {
		why->refusal = attach.refusal;
		why->detail = attach.detail;
	}
	return rc;
}

static int get_slots(struct elisa_vm *vm, struct elisa_slot **slots, uint32_t *count)
{
	struct elisa_vm_slots ask = {.count = 32};
	struct elisa_slot *all = NULL;
	int rc = -ENOSPC;

	while (rc == -ENOSPC) {
		struct elisa_slot *more = reallocarray(all, ask.count, sizeof(*all));

		if (!more) {
			free(all);
			return -ENOMEM;
		}
		all = more;
		ask.slots = (uintptr_t)all;
		rc = vm_ioctl(vm, ELISA_VM_SLOTS, &ask);
	}
	if (rc < 0) {
		free(all);
		return rc;
	}
	*slots = all;
	*count = ask.count;
	return 0;
}

static int find_ram(struct elisa_vm *vm, const struct process *p, struct elisa_why *why)
{
	struct elisa_slot *slots;
	uint32_t count;
	int rc = get_slots(vm, &slots, &count);

	if (rc)
		return rc;
	rc = ram_plan(&vm->ram, p, slots, count, why);
	free(slots);
	if (rc == -ESRCH)
		return process_error(rc, why);
	if (rc)
		return rc;
	return ram_map(&vm->ram);
}

/* ctx->lock held. */
static int attach_locked(struct elisa_vm *vm, const struct process *p, uint32_t flags,
			 struct elisa_why *why)
{
	uint32_t timeout = 0;
	int rc;

	if (!vm->ctx->gate)
		return -EINVAL;
	rc = attach(vm, p, flags, why);
	if (rc)
		return rc;
	rc = find_ram(vm, p, why);
	if (rc) {
		/* No vCPU was armed: nothing to wait for. */
		vm_must(vm, ELISA_VM_DETACH, &timeout);
		ram_release(&vm->ram, vm->ctx);
		close(vm->fd);
		return rc;
	}
	vm->next = vm->ctx->vms;
	vm->ctx->vms = vm;
	return 0;
}

ELISA_PUBLIC int elisa_vm_attach_begin(struct elisa_ctx *ctx, pid_t pid, uint32_t flags,
				       struct elisa_why *why, struct elisa_vm **vm)
{
	struct elisa_vm *v = calloc(1, sizeof(*v));
	struct process p;
	int rc;

	*why = (struct elisa_why){0};
	if (!v)
		return -ENOMEM;
	v->ctx = ctx;
	v->pid = pid;
	rc = process_open(pid, &p);
	if (rc) {
		rc = process_error(rc, why);
		goto free;
	}
	pthread_mutex_lock(&ctx->lock);
	rc = attach_locked(v, &p, flags, why);
	pthread_mutex_unlock(&ctx->lock);
	process_close(&p);
	if (rc)
		goto free;
	*vm = v;
	return 0;
free:
	free(v);
	return rc;
}

ELISA_PUBLIC int elisa_vm_attach_step(struct elisa_vm *vm)
{
	int rc = -EINVAL;

	pthread_mutex_lock(&vm->ctx->lock);
	if (!vm->left)
		rc = ram_export_step(&vm->ram, vm->ctx);
	vm->attached = !rc;
	pthread_mutex_unlock(&vm->ctx->lock);
	return rc;
}

ELISA_PUBLIC int elisa_vm_attach(struct elisa_ctx *ctx, pid_t pid, uint32_t flags,
				 struct elisa_why *why, struct elisa_vm **vm)
{
	struct elisa_vm *v;
	int rc = elisa_vm_attach_begin(ctx, pid, flags, why, &v);

	if (rc)
		return rc;
	do
		rc = elisa_vm_attach_step(v);
	while (rc > 0);
	if (rc)
		elisa_vm_detach(v, 0);
	else
		*vm = v;
	return rc;
}

ELISA_PUBLIC int elisa_vm_regions(struct elisa_vm *vm, const struct elisa_region **regions)
{
	*regions = vm->ram.regions;
	return vm->ram.count;
}

/* ---- vCPUs ---- */

static struct vcpu *find_vcpu(struct elisa_vm *vm, uint32_t id)
{
	size_t i;

	for (i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpus[i].id == id)
			return &vm->vcpus[i];
	return NULL;
}

static int arm(struct elisa_vm *vm, uint32_t id, void *cookie)
{
	struct elisa_ctx *ctx = vm->ctx;
	struct elisa_vm_arm arm = {
		.vcpu_id = id,
		.entry = (uintptr_t)ctx->entry,
		.cookie = (uintptr_t)cookie,
	};
	struct vcpu *more;
	struct park *p;
	int rc;

	if (find_vcpu(vm, id))
		return -EBUSY;
	more = reallocarray(vm->vcpus, vm->vcpu_count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	vm->vcpus = more;
	rc = park_start(&ctx->threads, &p);
	if (rc)
		return rc;
	rc = ctx_export(ctx, (uintptr_t)park_shared(p), park_shared_len(p),
			ELISA_MAP_R | ELISA_MAP_W);
	if (rc)
		goto end;
	arm.stack = p->stack;
	arm.fs_base = p->fs_base;
	rc = vm_ioctl(vm, ELISA_VM_ARM, &arm);
	if (rc < 0)
		goto unexport;
	vm->vcpus[vm->vcpu_count++] = (struct vcpu){id, p};
	return 0;
unexport:
	ctx_unexport(ctx, (uintptr_t)park_shared(p), park_shared_len(p));
end:
	park_end(p);
	return rc;
}

/* The vCPU is not inside and cannot come in. */
static void free_vcpu(struct elisa_vm *vm, struct vcpu *v)
{
	ctx_unexport(vm->ctx, (uintptr_t)park_shared(v->park), park_shared_len(v->park));
	park_end(v->park);
	*v = vm->vcpus[--vm->vcpu_count];
}

static int disarm(struct elisa_vm *vm, struct vcpu *v, uint32_t timeout_ms)
{
	struct elisa_vm_disarm disarm = {.vcpu_id = v->id, .timeout_ms = timeout_ms};
	int rc = vm_must(vm, ELISA_VM_DISARM, &disarm);

	/* ENOENT: the module has let it go already, with its VM. */
	if (rc && rc != -ENOENT)
		return rc;
	free_vcpu(vm, v);
	return 0;
}

ELISA_PUBLIC int elisa_vm_arm(struct elisa_vm *vm, uint32_t vcpu_id, void *cookie)
{
	int rc = -EINVAL;

	pthread_mutex_lock(&vm->ctx->lock);
	if (vm->attached)
		rc = arm(vm, vcpu_id, cookie);
	pthread_mutex_unlock(&vm->ctx->lock);
	return rc;
}

ELISA_PUBLIC int elisa_vm_disarm(struct elisa_vm *vm, uint32_t vcpu_id, uint32_t timeout_ms)
{
	struct vcpu *v;
	int rc = -ENOENT;

	pthread_mutex_lock(&vm->ctx->lock);
	v = find_vcpu(vm, vcpu_id);
	if (v)
		rc = disarm(vm, v, timeout_ms);
	pthread_mutex_unlock(&vm->ctx->lock);
	return rc;
}

ELISA_PUBLIC int elisa_vm_disarm_all(struct elisa_vm *vm, uint32_t timeout_ms)
{
	int rc = 0;

	pthread_mutex_lock(&vm->ctx->lock);
	while (vm->vcpu_count && !rc)
		rc = disarm(vm, &vm->vcpus[vm->vcpu_count - 1], timeout_ms);
	pthread_mutex_unlock(&vm->ctx->lock);
	return rc;
}

/* ---- detach ---- */

static void unlink_vm(struct elisa_vm *vm)
{
	struct elisa_vm **at = &vm->ctx->vms;

	while (*at && *at != vm)
		at = &(*at)->next;
	if (*at)
		*at = vm->next;
}

/* From here on none of its vCPUs is inside or can come in. */
static void leave(struct elisa_vm *vm, uint32_t timeout_ms)
{
	if (vm->left)
		return;
	vm_must(vm, ELISA_VM_DETACH, &timeout_ms);
	while (vm->vcpu_count)
		free_vcpu(vm, &vm->vcpus[vm->vcpu_count - 1]);
	vm->attached = false;
	vm->left = true;
}

ELISA_PUBLIC int elisa_vm_detach_step(struct elisa_vm *vm, uint32_t timeout_ms)
{
	int rc;

	pthread_mutex_lock(&vm->ctx->lock);
	leave(vm, timeout_ms);
	rc = ram_unexport_step(&vm->ram, vm->ctx);
	pthread_mutex_unlock(&vm->ctx->lock);
	return rc;
}

ELISA_PUBLIC void elisa_vm_detach(struct elisa_vm *vm, uint32_t timeout_ms)
{
	struct elisa_ctx *ctx;

	if (!vm)
		return;
	ctx = vm->ctx;
	pthread_mutex_lock(&ctx->lock);
	leave(vm, timeout_ms);
	close(vm->fd);
	unlink_vm(vm);
	ram_lost_forget(vm);
	ram_release(&vm->ram, ctx);
	pthread_mutex_unlock(&ctx->lock);
	free(vm->vcpus);
	free(vm);
}

void vm_abandon(struct elisa_vm *vm)
{
	size_t i;

	close(vm->fd);
	for (i = 0; i < vm->vcpu_count; i++)
		park_end(vm->vcpus[i].park);
	ram_lost_forget(vm);
	ram_release(&vm->ram, NULL);
	free(vm->vcpus);
	free(vm);
}

/* ---- news ---- */

ELISA_PUBLIC int elisa_vm_fd(const struct elisa_vm *vm)
{
	return vm->fd;
}

ELISA_PUBLIC int elisa_vm_status(struct elisa_vm *vm, struct elisa_vm_status *status)
{
	int rc = vm_ioctl(vm, ELISA_VM_STATUS, status);

	return rc < 0 ? rc : 0;
}

ELISA_PUBLIC int elisa_vm_stats(struct elisa_vm *vm, uint32_t vcpu_id,
				struct elisa_vcpu_stats *stats)
{
	int rc;

	memset(stats, 0, sizeof(*stats));
	stats->vcpu_id = vcpu_id;
	rc = vm_ioctl(vm, ELISA_VM_STATS, stats);
	return rc < 0 ? rc : 0;
}

ELISA_PUBLIC int elisa_vm_kick(struct elisa_vm *vm)
{
	int rc = vm_ioctl(vm, ELISA_VM_KICK, NULL);

	return rc < 0 ? rc : 0;
}

ELISA_PUBLIC pid_t elisa_vm_pid(const struct elisa_vm *vm)
{
	return vm->pid;
}
