/* SPDX-License-Identifier: GPL-2.0-only */
/* VMX instructions on the current VMCS; interrupts off, from KVM's entry and exit tracepoints. */
#ifndef ELISA_VMX_H
#define ELISA_VMX_H

#include <linux/types.h>
#include <asm/asm.h>
#include <asm/vmx.h>

static inline u64 vmx_read(unsigned long field)
{
	u64 value = 0;

	asm volatile("vmread %1, %0" : "+r"(value) : "r"(field) : "cc");
	return value;
}

static inline void vmx_write(unsigned long field, u64 value)
{
	asm volatile("vmwrite %1, %0" : : "r"(field), "r"(value) : "cc", "memory");
}

/*
 * Both may run on a CPU where KVM has just left VMX operation (the last VM is gone, or the CPU is
 * going offline): #UD then, and nothing is cached that a later VMXON would not flush.
 */
static inline void vmx_invept_all(void)
{
	struct {
		u64 eptp, reserved;
	} desc = { 0, 0 };

	asm goto("1: invept %0, %1\n"
		 _ASM_EXTABLE(1b, %l[out])
		 : : "m"(desc), "r"((unsigned long)VMX_EPT_EXTENT_GLOBAL) : "cc", "memory" : out);
out:
	return;
}

static inline void vmx_invvpid_one(u16 vpid)
{
	struct {
		u64 vpid, address;
	} desc = { vpid, 0 };

	asm goto("1: invvpid %0, %1\n"
		 _ASM_EXTABLE(1b, %l[out])
		 : : "m"(desc), "r"((unsigned long)VMX_VPID_EXTENT_SINGLE_CONTEXT)
		 : "cc", "memory" : out);
out:
	return;
}

#endif
