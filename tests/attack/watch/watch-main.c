// SPDX-License-Identifier: GPL-2.0-only
/* See watch-abi.h. Uses elisa.ko's own structures, so it is built from the same tree. */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "kmod.h"
#include "watch-abi.h"

static struct elisa_vm *(*vm_find)(struct kvm *kvm);
static void (*vm_put)(struct elisa_vm *vm);

/* ---- hashes ---- */

static u64 mix(u64 hash, u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 29;
}

static u64 hash_words(u64 hash, const void *data, size_t len)
{
	const u64 *p = data;
	size_t i;

	for (i = 0; i < len / 8; i++)
		hash = mix(hash, READ_ONCE(p[i]));
	return hash;
}

/* ---- extended page tables ---- */

struct walk {
	void (*leaf)(struct walk *w, u64 gpa, u64 *entry, u64 size);
	void *arg;
};

static void walk_table(struct walk *w, u64 *table, u64 gpa, int shift)
{
	unsigned int i;

	for (i = 0; i < EPT_PTES; i++) {
		u64 at = gpa + ((u64)i << shift), e = READ_ONCE(table[i]);

		if (!(e & EPT_RWX))
			continue;
		if (shift == 12 || (shift < 39 && e & EPT_LARGE))
			w->leaf(w, at, &table[i], 1ull << shift);
		else
			walk_table(w, phys_to_virt(e & EPT_ADDR), at, shift - 9);
	}
}

/* The window is what the root's entries from `first` on lead to; all below is the APT's. */
static void walk_window(struct walk *w, u64 *root, u64 window)
{
	unsigned int i;

	for (i = 0; i < EPT_PTES; i++) {
		u64 e = READ_ONCE(root[i]), *pdpt;
		unsigned int k;

		if ((u64)(i + 1) << 39 <= window || !(e & EPT_RWX))
			continue;
		pdpt = phys_to_virt(e & EPT_ADDR);
		for (k = 0; k < EPT_PTES; k++) {
			u64 at = ((u64)i << 39) + ((u64)k << 30), f = READ_ONCE(pdpt[k]);

			if (at < window || !(f & EPT_RWX))
				continue;
			if (f & EPT_LARGE)
				w->leaf(w, at, &pdpt[k], EPT_SIZE_1G);
			else
				walk_table(w, phys_to_virt(f & EPT_ADDR), at, 21);
		}
	}
}

static u64 hash_leaf_content(u64 hash, u64 entry, u64 size)
{
	/* Device memory is not for looking at. */
	if (!(entry & EPT_WB) || !pfn_valid((entry & EPT_ADDR) >> PAGE_SHIFT))
		return hash;
	return hash_words(hash, phys_to_virt(entry & EPT_ADDR & ~(size - 1)), size);
}

static void context_leaf(struct walk *w, u64 gpa, u64 *entry, u64 size)
{
	struct watch_context *c = w->arg;
	u64 e = *entry;
	struct watch_chunk *k = c->count ? &c->chunk[c->count - 1] : NULL;

	if (!k || k->gpa != (gpa & ~(EPT_SIZE_1G - 1))) {
		if (c->count == WATCH_CHUNKS)
			return;
		k = &c->chunk[c->count++];
		k->gpa = gpa & ~(EPT_SIZE_1G - 1);
	}
	k->map_all = mix(mix(k->map_all, gpa), e);
	if (e & EPT_W) {
		k->open += size;
		k->map_open = mix(mix(k->map_open, gpa), e & ~EPT_ADDR);
	} else {
		k->fixed += size;
		k->map_fixed = mix(mix(k->map_fixed, gpa), e);
		k->content = hash_leaf_content(k->content, e, size);
	}
}

static u64 hash_below(const struct ept *ept)
{
	u64 hash = hash_words(1, ept->root, (ept->window >> 39) * 8);
	int i;

	for (i = 1; i < 4; i++)
		if (ept->apt[i])
			hash = hash_words(hash, ept->apt[i], i == 3 && !(ept->window >> 39) ?
					  (ept->window >> 30) * 8 : PAGE_SIZE);
	/* All of it leads to one page: the root of the trusted page tables. */
	return ept->apt[1] ? hash_leaf_content(hash, ept->apt[1][0], PAGE_SIZE) : hash;
}

static int look_at_context(struct elisa_vm *vm, struct watch_context *c)
{
	struct walk w = { .leaf = context_leaf, .arg = c };
	struct ept *ept;

	if (!vm->ctx)
		return -ENOENT;
	mutex_lock(&vm->ctx->lock);
	ept = c->gate ? &vm->ctx->gate : &vm->ctx->trusted;
	walk_window(&w, ept->root, ept->window);
	c->below = hash_below(ept);
	mutex_unlock(&vm->ctx->lock);
	return 0;
}

/* ---- a vCPU's own ---- */

static void gate_leaf(struct walk *w, u64 gpa, u64 *entry, u64 size)
{
	struct watch_vcpu *v = w->arg;
	u64 e = *entry;

	v->gate_pages += size;
	v->gate = mix(mix(v->gate, gpa), e & EPT_W ? e & ~EPT_ADDR : e);
	if (!(e & EPT_W))
		v->gate = hash_leaf_content(v->gate, e, size);
}

static struct elisa_vcpu *vcpu_of(struct elisa_vm *vm, u32 index)
{
	return index < WATCH_VCPUS && vm->ctx ? vm->vcpu[index] : NULL;
}

static int look_at_vcpu(struct elisa_vm *vm, struct watch_vcpu *out)
{
	struct walk w = { .leaf = gate_leaf, .arg = out };
	struct elisa_vcpu *v = vcpu_of(vm, out->index);
	struct elisa_desc desc;

	if (!v || v->mode != ELISA_MODE_ARMED)
		return -ENOENT;
	out->mode = v->mode;
	out->inside = v->inside;
	out->gate_eptp = v->gate_eptp;
	out->trusted_eptp = v->trusted_eptp;
	memcpy(out->list, v->list, sizeof(out->list));
	desc = *v->desc;
	desc.flags = 0;
	out->desc = hash_words(1, &desc, sizeof(desc));
	mutex_lock(&vm->ctx->lock);
	walk_window(&w, phys_to_virt(v->gate_eptp & EPT_ADDR), vm->ctx->gate.window);
	mutex_unlock(&vm->ctx->lock);
	return 0;
}

/* ---- a test of the watching ---- */

struct flip {
	u32 what;
	bool done;
};

static void flip_leaf(struct walk *w, u64 gpa, u64 *entry, u64 size)
{
	struct flip *f = w->arg;
	u8 *page = phys_to_virt(*entry & EPT_ADDR);

	if (f->done || *entry & EPT_W)
		return;
	if (f->what == WATCH_FLIP_CODE && *entry & EPT_X)
		page[0] ^= 1;
	else if (f->what == WATCH_FLIP_TABLE && !(*entry & EPT_X))
		page[4095] ^= 0x80;	/* of an entry that is not in use */
	else if (f->what == WATCH_FLIP_EPT && !(*entry & EPT_X))
		*entry ^= EPT_SUPPRESS_VE;
	else
		return;
	f->done = true;
}

static int flip(struct elisa_vm *vm, u32 what)
{
	struct flip f = { .what = what };
	struct walk w = { .leaf = flip_leaf, .arg = &f };
	struct elisa_vcpu *v = vcpu_of(vm, 0);

	if (!v)
		return -ENOENT;
	if (what == WATCH_FLIP_SLOT) {
		v->list[300] ^= 8;
		return 0;
	}
	mutex_lock(&vm->ctx->lock);
	walk_window(&w, vm->ctx->trusted.root, vm->ctx->trusted.window);
	mutex_unlock(&vm->ctx->lock);
	return f.done ? 0 : -ENOENT;
}

/* ---- the device ---- */

static struct elisa_vm *find_vm(int fd)
{
	struct file *file = fget(fd);
	struct elisa_vm *vm = NULL;

	if (!file)
		return NULL;
	if (file_is_kvm(file)) {
		rcu_read_lock();
		vm = vm_find(file->private_data);
		if (vm && !kref_get_unless_zero(&vm->ref))
			vm = NULL;
		rcu_read_unlock();
	}
	fput(file);
	return vm;
}

static long with_vm(struct elisa_vm *vm, unsigned int cmd, void *arg)
{
	long rc;

	mutex_lock(&vm->lock);
	if (cmd == WATCH_CONTEXT)
		rc = look_at_context(vm, arg);
	else if (cmd == WATCH_VCPU)
		rc = look_at_vcpu(vm, arg);
	else
		rc = flip(vm, ((struct watch_flip_args *)arg)->what);
	mutex_unlock(&vm->lock);
	return rc;
}

static long watch_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	size_t size = _IOC_SIZE(cmd);
	struct elisa_vm *vm;
	void *buf;
	long rc;

	if (cmd != WATCH_CONTEXT && cmd != WATCH_VCPU && cmd != WATCH_FLIP)
		return -ENOTTY;
	buf = memdup_user((void __user *)arg, size);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	/* Each begins with the descriptor. */
	vm = find_vm(*(s32 *)buf);
	if (!vm) {
		kfree(buf);
		return -ENOENT;
	}
	if (cmd == WATCH_CONTEXT) {
		struct watch_context *c = buf;

		memset(c->chunk, 0, sizeof(c->chunk));
		c->count = 0;
	} else if (cmd == WATCH_VCPU) {
		struct watch_vcpu *v = buf;

		v->gate = v->gate_pages = 0;
	}
	rc = with_vm(vm, cmd, buf);
	vm_put(vm);
	if (!rc && copy_to_user((void __user *)arg, buf, size))
		rc = -EFAULT;
	kfree(buf);
	return rc;
}

static const struct file_operations fops = {
	.owner = THIS_MODULE, .unlocked_ioctl = watch_ioctl };
static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "attack-watch",
	.fops = &fops,
	.mode = 0600,
};

/* elisa.ko exports nothing: a probe that never fires tells where a function is. */
static void *address_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *addr;

	if (register_kprobe(&probe))
		return NULL;
	addr = probe.addr;
	unregister_kprobe(&probe);
	return addr;
}

static int __init watch_init(void)
{
	vm_find = address_of("elisa_vm_find");
	vm_put = address_of("elisa_vm_put");
	return vm_find && vm_put ? misc_register(&device) : -ENOENT;
}

static void __exit watch_exit(void)
{
	misc_deregister(&device);
}

module_init(watch_init);
module_exit(watch_exit);
MODULE_DESCRIPTION("looks at trusted contexts from behind, for tests");
MODULE_LICENSE("GPL");
