// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests: /dev/elisa-lazy, whose mappings get their pages of device memory when they are touched,
 * one at a time, as VFIO's do. The offset is the physical address, as with /dev/mem; SIGBUS in the
 * fourth page of a mapping.
 */
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/version.h>

static vm_fault_t lazy_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;

	if (vmf->pgoff - vma->vm_pgoff == 3)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(vma, vmf->address, vmf->pgoff);
}

static const struct vm_operations_struct lazy_ops = { .fault = lazy_fault };

static int lazy_mmap(struct file *file, struct vm_area_struct *vma)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
#else
	vma->vm_flags |= VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP;
#endif
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vma->vm_ops = &lazy_ops;
	return 0;
}

static const struct file_operations lazy_fops = { .owner = THIS_MODULE, .mmap = lazy_mmap };
static struct miscdevice lazy_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "elisa-lazy",
	.fops = &lazy_fops,
	.mode = 0600,
};
module_misc_device(lazy_device);
MODULE_DESCRIPTION("device memory that is mapped when it is touched, for tests");
MODULE_LICENSE("GPL");
