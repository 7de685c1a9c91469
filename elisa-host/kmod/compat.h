/* SPDX-License-Identifier: GPL-2.0-only */
/* Differences between kernels, by features that ./configure found by compiling (config.h). */
#ifndef ELISA_COMPAT_H
#define ELISA_COMPAT_H

#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/tracepoint.h>
#include "config.h"

#ifndef HAVE_FD_FILE
#define fd_file(f) ((f).file)
#endif

#ifndef KVM_REQ_OUTSIDE_GUEST_MODE
#define KVM_REQ_OUTSIDE_GUEST_MODE \
	(KVM_REQUEST_NO_ACTION | KVM_REQUEST_WAIT | KVM_REQUEST_NO_WAKEUP)
#endif

/*
 * KVM's entry and exit tracepoints. Their headers are KVM's own, and their arguments grew over
 * time; the probes take only the first, the vCPU, which has led both lists since 5.16.
 */
extern struct tracepoint __tracepoint_kvm_entry;
extern struct tracepoint __tracepoint_kvm_exit;

/* The page frame behind a device mapping of the current process; mmap lock held. */
static inline int compat_follow_pfn(struct vm_area_struct *vma, unsigned long addr,
				    unsigned long *pfn)
{
#ifdef HAVE_FOLLOW_PFNMAP
	struct follow_pfnmap_args args = { .vma = vma, .address = addr };
	int err = follow_pfnmap_start(&args);

	if (err)
		return err;
	*pfn = args.pfn;
	follow_pfnmap_end(&args);
	return 0;
#else
	return follow_pfn(vma, addr, pfn);
#endif
}

#endif
