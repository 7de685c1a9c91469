// SPDX-License-Identifier: GPL-2.0-only
/* Contexts: what is mapped where, for all vCPUs of all VMs attached. */
#include <linux/anon_inodes.h>
#include <linux/kvm_host.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include "defence.h"
#include "kmod.h"
#include "vmx.h"

#define MAP_VIEWS	(ELISA_MAP_TRUSTED | ELISA_MAP_GATE)
#define MAP_PROT	(ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_X)
#define MAP_ALL		(MAP_VIEWS | MAP_PROT | ELISA_MAP_DEVICE)

atomic64_t elisa_contexts, elisa_invepts;

static void invept_here(void *unused)
{
	vmx_invept_all();
}

void elisa_invept(void)
{
	if (!elisa_host.vmx || !DEFENCE(invept))
		return;
	on_each_cpu(invept_here, NULL, 1);
	atomic64_inc(&elisa_invepts);
}

bool elisa_context_large_pages(void)
{
	return elisa_host.ept_vpid & VMX_EPT_2MB_PAGE_BIT;
}

static bool in_window(u64 gpa, u64 len)
{
	u64 window = elisa_window();

	return gpa >= window && len <= window && gpa - window <= window - len;
}

/* ---- mapping ---- */

static int check_map(const struct elisa_context *ctx, const struct elisa_ctx_map *arg)
{
	const u64 *priv = ctx->trusted.priv_gpa;
	u32 flags = arg->flags;
	int i;

	if (arg->reserved || (flags & ~MAP_ALL) || !(flags & MAP_VIEWS) || !(flags & MAP_PROT))
		return -EINVAL;
	if (DEFENCE(map_wx) && (flags & ELISA_MAP_W) &&
	    (!(flags & ELISA_MAP_R) || (flags & ELISA_MAP_X)))
		return -EINVAL;
	if ((flags & ELISA_MAP_DEVICE) && (flags & ELISA_MAP_X))
		return -EINVAL;
	if ((arg->addr | arg->gpa | arg->len) & (PAGE_SIZE - 1) || !arg->len)
		return -EINVAL;
	if (DEFENCE(map_window) && !in_window(arg->gpa, arg->len))
		return -ERANGE;
	for (i = 0; i < 2; i++)
		if (DEFENCE(map_private) && priv[i] >= arg->gpa &&
		    priv[i] - arg->gpa < arg->len)
			return -ERANGE;
	return 0;
}

static bool overlaps(const struct elisa_context *ctx, const struct elisa_mapping *map)
{
	const struct elisa_mapping *other;

	list_for_each_entry(other, &ctx->mappings, node)
		if ((other->flags & map->flags & MAP_VIEWS) && map->gpa < other->gpa + other->len &&
		    other->gpa < map->gpa + map->len)
			return true;
	return false;
}

static u64 prot_of(u32 flags)
{
	if (!DEFENCE(exec_only) && (flags & ELISA_MAP_X))
		flags |= ELISA_MAP_R;
	if (!DEFENCE(code_ro) && (flags & ELISA_MAP_X))
		flags |= ELISA_MAP_R | ELISA_MAP_W;
	if (!DEFENCE(data_nx) && (flags & ELISA_MAP_R))
		flags |= ELISA_MAP_X;
	return (flags & ELISA_MAP_R ? EPT_R : 0) | (flags & ELISA_MAP_W ? EPT_W : 0) |
	       (flags & ELISA_MAP_X ? EPT_X : 0) | (flags & ELISA_MAP_DEVICE ? EPT_UC : EPT_WB);
}

/* First every table, then every leaf: nothing shows when memory runs out. */
static int install(struct elisa_context *ctx, struct elisa_mapping *map)
{
	struct ept *view[2] = { map->flags & ELISA_MAP_TRUSTED ? &ctx->trusted : NULL,
				map->flags & ELISA_MAP_GATE ? &ctx->gate : NULL };
	int i, err;

	for (i = 0; i < 2; i++) {
		err = view[i] ? ept_prepare(view[i], map->gpa, map->run, map->runs) : 0;
		if (err)
			return err;
	}
	for (i = 0; i < 2; i++)
		if (view[i])
			ept_map(view[i], map->gpa, map->run, map->runs, prot_of(map->flags));
	map->ready = true;
	return 0;
}

static int ctx_map(struct elisa_context *ctx, const struct elisa_ctx_map *arg)
{
	struct elisa_mapping *map;
	int err = check_map(ctx, arg);

	if (err)
		return err;
	map = kzalloc(sizeof(*map), GFP_KERNEL_ACCOUNT);
	if (!map)
		return -ENOMEM;
	map->gpa = arg->gpa;
	map->len = arg->len;
	map->flags = arg->flags;

	/* The range is ours from here on; pinning may take long and needs no lock. */
	mutex_lock(&ctx->lock);
	if (!DEFENCE(gate_window)) {
		map->flags |= ELISA_MAP_GATE;
		if (overlaps(ctx, map))		/* the entry page: the gate's is there */
			map->flags = arg->flags;
	}
	if (overlaps(ctx, map))
		err = -EEXIST;
	else
		list_add_tail(&map->node, &ctx->mappings);
	mutex_unlock(&ctx->lock);
	if (err) {
		kfree(map);
		return err;
	}
	err = elisa_mem_get(map, arg->addr, arg->len,
			    DEFENCE(gate_window) ? arg->flags : map->flags);
	mutex_lock(&ctx->lock);
	if (!err)
		err = install(ctx, map);
	if (err)
		list_del(&map->node);
	mutex_unlock(&ctx->lock);
	if (err) {
		elisa_mem_put(map);
		kfree(map);
	}
	return err;
}

static void put_mappings(struct list_head *list)
{
	struct elisa_mapping *map, *next;

	list_for_each_entry_safe(map, next, list, node) {
		elisa_mem_put(map);
		kfree(map);
	}
}

static int ctx_unmap(struct elisa_context *ctx, const struct elisa_ctx_unmap *arg)
{
	struct elisa_mapping *map, *next;
	LIST_HEAD(gone);

	if (arg->reserved[0] || arg->reserved[1])
		return -EINVAL;
	mutex_lock(&ctx->lock);
	list_for_each_entry_safe(map, next, &ctx->mappings, node)
		if (map->ready && map->gpa == arg->gpa && map->len == arg->len)
			list_move_tail(&map->node, &gone);
	if (!list_empty(&gone)) {
		list_for_each_entry(map, &gone, node) {
			if (map->flags & ELISA_MAP_TRUSTED)
				ept_unmap(&ctx->trusted, map->gpa, map->len);
			if (map->flags & ELISA_MAP_GATE)
				ept_unmap(&ctx->gate, map->gpa, map->len);
		}
		elisa_vms_kick(ctx);
		elisa_invept();
		ept_prune(&ctx->trusted, arg->gpa, arg->len);
		ept_prune(&ctx->gate, arg->gpa, arg->len);
	}
	mutex_unlock(&ctx->lock);
	if (list_empty(&gone))
		return -ENOENT;
	put_mappings(&gone);
	return 0;
}

/* ---- the descriptor ---- */

static long ctx_attach(struct elisa_context *ctx, void __user *user)
{
	struct elisa_ctx_attach arg;
	long result;
	int i;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(arg.reserved2); i++)
		if (arg.reserved2[i])
			return -EINVAL;
	if (arg.reserved || (arg.flags & ~ELISA_ATTACH_FORCE_CPU))
		return -EINVAL;
	arg.refusal = ELISA_REFUSE_NONE;
	arg.detail = 0;
	result = elisa_vm_attach(ctx, &arg);
	if (result == -EPERM && copy_to_user(user, &arg, sizeof(arg)))
		return -EFAULT;
	return result;
}

static long ctx_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	struct elisa_context *ctx = file->private_data;
	void __user *ptr = (void __user *)user;
	union {
		struct elisa_ctx_map map;
		struct elisa_ctx_unmap unmap;
	} arg;

	if (DEFENCE(owner) && current->mm != ctx->mm)
		return -EACCES;
	switch (cmd) {
	case ELISA_CTX_MAP:
		if (copy_from_user(&arg.map, ptr, sizeof(arg.map)))
			return -EFAULT;
		return ctx_map(ctx, &arg.map);
	case ELISA_CTX_UNMAP:
		if (copy_from_user(&arg.unmap, ptr, sizeof(arg.unmap)))
			return -EFAULT;
		return ctx_unmap(ctx, &arg.unmap);
	case ELISA_CTX_ATTACH:
		return ctx_attach(ctx, ptr);
	default:
		return -ENOTTY;
	}
}

static void ctx_free(struct elisa_context *ctx)
{
	ept_destroy(&ctx->trusted);
	ept_destroy(&ctx->gate);
	put_mappings(&ctx->mappings);
	elisa_mem_put(&ctx->root);
	mmdrop(ctx->mm);
	atomic64_dec(&elisa_contexts);
	kfree(ctx);
}

static int ctx_release(struct inode *inode, struct file *file)
{
	struct elisa_context *ctx = file->private_data;

	elisa_vms_away(ctx);
	ctx_free(ctx);
	return 0;
}

static const struct file_operations ctx_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = ctx_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = ctx_release,
	.llseek = noop_llseek,
};

static int check_create(const struct elisa_context_create *arg)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(arg->reserved); i++)
		if (arg->reserved[i])
			return -EINVAL;
	if ((arg->root | arg->list_gpa | arg->desc_gpa) & (PAGE_SIZE - 1) ||
	    arg->list_gpa == arg->desc_gpa ||
	    arg->list_gpa / EPT_SIZE_1G != arg->desc_gpa / EPT_SIZE_1G)
		return -EINVAL;
	if (!in_window(arg->list_gpa, PAGE_SIZE) || !in_window(arg->desc_gpa, PAGE_SIZE))
		return -ERANGE;
	return 0;
}

int elisa_context_open(const struct elisa_context_create *arg)
{
	u64 priv[2] = { arg->list_gpa, arg->desc_gpa };
	bool large = elisa_context_large_pages();
	struct elisa_context *ctx;
	int err = check_create(arg);

	if (err)
		return err;
	ctx = kzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	if (!ctx)
		return -ENOMEM;
	mutex_init(&ctx->lock);
	INIT_LIST_HEAD(&ctx->mappings);
	INIT_LIST_HEAD(&ctx->vms);
	ctx->mm = current->mm;
	mmgrab(ctx->mm);
	atomic64_inc(&elisa_contexts);
	/* For write: the caller will write to it, and the pin must stay on the page it writes to. */
	err = elisa_mem_get(&ctx->root, arg->root, PAGE_SIZE, ELISA_MAP_R | ELISA_MAP_W);
	if (err)
		goto fail;
	err = ept_init(&ctx->gate, elisa_window(), ctx->root.run[0].pa, priv, large);
	if (err)
		goto fail;
	err = ept_init(&ctx->trusted, elisa_window(), ctx->root.run[0].pa, priv, large);
	if (err)
		goto fail;
	err = anon_inode_getfd("[elisa-context]", &ctx_fops, ctx, O_RDWR | O_CLOEXEC);
	if (err < 0)
		goto fail;
	return err;
fail:
	ctx_free(ctx);
	return err;
}
