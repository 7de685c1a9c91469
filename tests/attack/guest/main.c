// SPDX-License-Identifier: GPL-2.0-only
/* /dev/attack: runs one row of the attack table in this guest's kernel. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>

#include "attack.h"

static const struct attack *const groups[] = {
	vmfunc_attacks,
	gate_attacks,
	mode_attacks, cr3_attacks, control_attacks, tables_attacks, step_attacks, events_attacks,
};

static DEFINE_MUTEX(lock);	/* one stage */

int attack_by_end(struct attack_run *run, const struct stage_cpu *end)
{
	run->detail[0] = end->vector;
	run->detail[1] = end->rip;
	run->detail[2] = end->rdx;
	if (end->vector == STAGE_DONE) {
		s64 result = end->rdx;

		if (!result)
			return attack_is(run, ATTACK_NO_EFFECT, 0, "the call works");
		if (result < 0 && result > -4096)
			return attack_is(run, ATTACK_REFUSED, -result, "the service refuses");
		return attack_is(run, ATTACK_BREACH, 0, "a result of 0x%llx", end->rdx);
	}
	if (end->vector == 6)
		return stage_call_works() ?
			attack_is(run, ATTACK_UD, 0, "#UD at 0x%llx", end->rip) :
			attack_is(run, ATTACK_UNARMED, 0, "#UD, and so are calls after it");
	return attack_is(run, ATTACK_FAULT, end->vector, "vector %llu at 0x%llx, CR2 0x%llx",
			 end->vector, end->rip, end->cr2);
}

int attack_by_run(struct attack_run *run, struct stage_cpu *cpu)
{
	int rc = stage_run(cpu);

	return rc ? rc : attack_by_end(run, cpu);
}

static const struct attack *find(const char *id)
{
	const struct attack *a;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(groups); i++)
		for (a = groups[i]; a->id; a++)
			if (!strcmp(a->id, id))
				return a;
	return NULL;
}

static long run_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct attack_run run;
	const struct attack *a;
	long rc;

	if (cmd != ATTACK_RUN)
		return -ENOTTY;
	if (copy_from_user(&run, (void __user *)arg, sizeof(run)))
		return -EFAULT;
	run.id[sizeof(run.id) - 1] = 0;
	a = find(run.id);
	if (!a)
		return -ENOENT;
	run.text[0] = 0;
	memset(run.detail, 0, sizeof(run.detail));
	mutex_lock(&lock);
	stage_cr4_off = run.cr4_off;
	rc = a->run(&run);
	mutex_unlock(&lock);
	if (rc)
		return rc;
	return copy_to_user((void __user *)arg, &run, sizeof(run)) ? -EFAULT : 0;
}

static const struct file_operations fops = {
	.owner = THIS_MODULE, .unlocked_ioctl = run_ioctl };
static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "attack",
	.fops = &fops,
	.mode = 0600,
};

static int __init attack_init(void)
{
	int rc = stage_init();

	if (rc)
		return rc;
	rc = misc_register(&device);
	if (rc)
		stage_exit();
	return rc;
}

static void __exit attack_exit(void)
{
	misc_deregister(&device);
	stage_exit();
}

module_init(attack_init);
module_exit(attack_exit);
MODULE_DESCRIPTION("a guest that attacks its host's trusted context, for tests");
MODULE_LICENSE("GPL");
