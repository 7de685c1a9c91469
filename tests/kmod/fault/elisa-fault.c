// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests: failing memory allocations, as the kernel's own fault injection would make them, which
 * Debian's kernel is built without. Its two hooks are there nevertheless: functions that each slab
 * and each page allocation asks and that always say no. Kprobes let them say yes, to allocations of
 * one thread between two ioctls: whatever it calls in the kernel then, elisa.ko as well as KVM and
 * the memory management beneath.
 */
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/linkage.h>
#include "elisa-fault.h"

#define THREADS 16

static struct target {
	struct task_struct *task;	/* only compared; the thread itself sets and clears it */
	struct elisa_fault fault;
	struct rseq __user *rseq;	/* the thread's, see begin() */
} targets[THREADS];
static DEFINE_SPINLOCK(targets_lock);

static struct target *target_of(const struct task_struct *task)
{
	int i;

	for (i = 0; i < THREADS; i++)
		if (READ_ONCE(targets[i].task) == task)
			return &targets[i];
	return NULL;
}

/* The function returns at once, with what is in the return register. */
asm(".text\n"
    ".type elisa_fault_return, @function\n"
    "elisa_fault_return: " ASM_RET
    ".size elisa_fault_return, .-elisa_fault_return\n");
extern char elisa_fault_return[];

static int answer(struct pt_regs *regs, gfp_t gfp, unsigned long yes)
{
	struct target *t = target_of(current);
	struct elisa_fault *f;

	if (!t || (gfp & __GFP_NOFAIL) || (!in_nmi() && (in_hardirq() || in_serving_softirq())))
		return 0;
	/* Not for a page fault of the program itself, which would be taken again for ever. */
	if ((long)task_pt_regs(current)->orig_ax < 0)
		return 0;
	f = &t->fault;
	f->seen++;
	if (!f->nth || f->seen < f->nth || (f->seen > f->nth && !f->rest))
		return 0;
	f->failed++;
	regs->ax = yes;
	regs->ip = (unsigned long)elisa_fault_return;
	return 1;
}

/* int should_failslab(struct kmem_cache *, gfp_t): -errno to fail */
static int on_slab(struct kprobe *p, struct pt_regs *regs)
{
	return answer(regs, regs->si, -ENOMEM);
}

/* bool should_fail_alloc_page(gfp_t, unsigned int order) */
static int on_page(struct kprobe *p, struct pt_regs *regs)
{
	return answer(regs, regs->di, true);
}

static struct kprobe slab_probe = { .symbol_name = "should_failslab", .pre_handler = on_slab };
static struct kprobe page_probe = { .symbol_name = "should_fail_alloc_page", .pre_handler = on_page };

/*
 * On its way back to user space a thread that was preempted has its rseq area written, which kills it if
 * that fails: hidden from the kernel meanwhile.
 */
static int begin(const struct elisa_fault *fault)
{
	struct target *t;

	spin_lock(&targets_lock);
	t = target_of(NULL);
	if (t) {
		t->fault = (struct elisa_fault){ .nth = fault->nth, .rest = fault->rest };
		t->rseq = current->rseq;
		current->rseq = NULL;
		WRITE_ONCE(t->task, current);
	}
	spin_unlock(&targets_lock);
	return t ? 0 : -EBUSY;
}

static void end(struct target *t)
{
	current->rseq = t->rseq;
	WRITE_ONCE(t->task, NULL);
}

static long fault_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	struct target *t = target_of(current);
	struct elisa_fault fault;

	switch (cmd) {
	case ELISA_FAULT_BEGIN:
		if (t || copy_from_user(&fault, (void __user *)user, sizeof(fault)))
			return -EFAULT;
		return begin(&fault);
	case ELISA_FAULT_END:
		if (!t)
			return -ENOENT;
		fault = t->fault;
		end(t);
		return copy_to_user((void __user *)user, &fault, sizeof(fault)) ? -EFAULT : 0;
	default:
		return -ENOTTY;
	}
}

/* A thread that ended without END. */
static int fault_release(struct inode *inode, struct file *file)
{
	struct target *t = target_of(current);

	if (t)
		end(t);
	return 0;
}

static const struct file_operations fault_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = fault_ioctl,
	.release = fault_release,
};
static struct miscdevice fault_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "elisa-fault",
	.fops = &fault_fops,
	.mode = 0600,
};

static int __init fault_init(void)
{
	int err = register_kprobe(&slab_probe);

	if (err)
		return err;
	err = register_kprobe(&page_probe);
	if (err)
		goto fail_slab;
	err = misc_register(&fault_device);
	if (err)
		goto fail_page;
	return 0;
fail_page:
	unregister_kprobe(&page_probe);
fail_slab:
	unregister_kprobe(&slab_probe);
	return err;
}

static void __exit fault_exit(void)
{
	misc_deregister(&fault_device);
	unregister_kprobe(&page_probe);
	unregister_kprobe(&slab_probe);
}

module_init(fault_init);
module_exit(fault_exit);
MODULE_DESCRIPTION("memory allocations of a thread that fail, for tests");
MODULE_LICENSE("GPL");
