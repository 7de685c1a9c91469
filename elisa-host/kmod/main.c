// SPDX-License-Identifier: GPL-2.0-only
/* /dev/elisa: the device, and what it knows of the host. */
#include <linux/capability.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include "defence.h"
#include "kmod.h"

struct elisa_host elisa_host;

u32 elisa_phys_bits(void)
{
	return min_t(u32, boot_cpu_data.x86_phys_bits, EPT_GPA_BITS);
}

u64 elisa_window(void)
{
	return 1ull << (elisa_phys_bits() - 1);
}

static u64 host_msr(u32 msr)
{
	u64 value;

	return rdmsrl_safe(msr, &value) ? 0 : value;
}

static void read_host(struct elisa_host *host)
{
	host->vmx = boot_cpu_has(X86_FEATURE_VMX);
	host->bugs = (boot_cpu_has_bug(X86_BUG_L1TF) ? ELISA_BUG_L1TF : 0) |
		     (boot_cpu_has_bug(X86_BUG_MDS) ? ELISA_BUG_MDS : 0) |
		     (boot_cpu_has_bug(X86_BUG_TAA) ? ELISA_BUG_TAA : 0);
	if (!host->vmx)
		return;
	host->procbased2 = host_msr(MSR_IA32_VMX_PROCBASED_CTLS2);
	host->vmfunc = host_msr(MSR_IA32_VMX_VMFUNC);
	host->ept_vpid = host_msr(MSR_IA32_VMX_EPT_VPID_CAP);
}

static void fill_info(struct elisa_info *info)
{
	u64 detail;

	memset(info, 0, sizeof(*info));
	info->revision = ELISA_IOCTL_REVISION;
	info->phys_bits = elisa_phys_bits();
	info->window_gpa = elisa_window();
	info->window_size = elisa_window();
	info->host_refusal = elisa_check_host(&elisa_host, &detail);
	info->cpu_bugs = elisa_host.bugs;
	info->pinned_pages = elisa_mem_pinned();
	info->contexts = atomic64_read(&elisa_contexts);
	info->vms = elisa_vm_count();
	info->invept = atomic64_read(&elisa_invepts);
}

static int dev_open(struct inode *inode, struct file *file)
{
	return !DEFENCE(capable) || capable(CAP_SYS_ADMIN) ? 0 : -EPERM;
}

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	void __user *ptr = (void __user *)user;
	struct elisa_context_create create;
	struct elisa_info info;

	switch (cmd) {
	case ELISA_INFO:
		fill_info(&info);
		return copy_to_user(ptr, &info, sizeof(info)) ? -EFAULT : 0;
	case ELISA_CONTEXT_CREATE:
		if (copy_from_user(&create, ptr, sizeof(create)))
			return -EFAULT;
		return elisa_context_open(&create);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.open = dev_open,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "elisa",
	.fops = &dev_fops,
	.mode = 0600,
};

static int __init elisa_init(void)
{
	int err;

	read_host(&elisa_host);
	err = elisa_vcpu_init();
	if (err)
		return err;
	err = misc_register(&device);
	if (err)
		elisa_vcpu_exit();
	return err;
}

static void __exit elisa_exit(void)
{
	misc_deregister(&device);
	elisa_vm_exit();
	elisa_vcpu_exit();
}

module_init(elisa_init);
module_exit(elisa_exit);
MODULE_LICENSE("GPL v2");
MODULE_AUTHOR("The elisa-vswitch authors");
MODULE_DESCRIPTION("Trusted contexts for KVM guests, entered with VMFUNC");
