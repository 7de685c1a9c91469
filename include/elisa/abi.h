/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest ABI: how code of a guest calls into the trusted context. Independent of the service.
 *
 * A call is a plain SysV function call to ELISA_CALL_VA:
 *
 *	in	%rsi operation, %rdx, %r8, %r9 its arguments; %rdi and %rcx are ignored
 *	out	%rax result: >= 0, or a negative error of the list below
 *	kept	%rbx %rbp %rsp %r12-%r15, as SysV says; all others, vectors included, come back
 *		as zero or as constants
 *
 * Seen from raw VMFUNC (what libelisa-guest's return page turns into the above): the result is in
 * %rdx and %r11 holds ELISA_FLAG_*.
 *
 * Needs 64-bit user mode with AVX enabled. On a vCPU that is not armed VMFUNC raises #UD.
 */
#ifndef ELISA_ABI_H
#define ELISA_ABI_H

#include <stdint.h>
#include <elisa/layout.h>

#define ELISA_ABI_REVISION	1

/*
 * A service's entry and a guest's call have one signature, so that a transport without VMFUNC can
 * put one in the place of the other. `cookie` is the callee's own (never the guest's word).
 */
typedef int64_t (*elisa_entry_fn)(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored,
				  uint64_t a2, uint64_t a3);

/* Operations 0..15 are the same for every service; a service's own begin at 16. */
enum elisa_op {
	/*
	 * a1: the caller's ELISA_ABI_REVISION. Result: ELISA_HELLO_MAGIC << 48 | service << 32 |
	 * generation, where the generation is new each time the service starts or the VM is
	 * attached anew: what was set up under another generation is gone.
	 */
	ELISA_OP_HELLO = 0,
	ELISA_OP_NOP = 1,	/* does nothing; result 0 */
	ELISA_OP_SERVICE = 16,	/* first operation of a service's own */
};

#define ELISA_HELLO_MAGIC	0x4531	/* "1E"; positive as an int64_t */
enum elisa_service {
	ELISA_SERVICE_SWITCH = 1,
	ELISA_SERVICE_EXAMPLE = 2,
};

/* Errors, negative in a result; the values are Linux's errno numbers. */
enum elisa_error {
	ELISA_EPERM = 1,	/* this VM may not */
	ELISA_EAGAIN = 11,	/* not yet: ask again in a millisecond or so */
	ELISA_EFAULT = 14,	/* an address outside this VM's shared RAM */
	ELISA_EBUSY = 16,	/* another vCPU of this VM is in the same queue */
	ELISA_ENODEV = 19,	/* no such port or queue */
	ELISA_EINVAL = 22,	/* a bad argument */
	ELISA_ENOSYS = 38,	/* no such operation */
	ELISA_EPROTO = 71,	/* an ABI revision that the service does not speak */
	ELISA_ENOTCONN = 107,	/* this VM is not attached (made by libelisa-guest from #UD) */
	ELISA_ESHUTDOWN = 108,	/* the service is away; it may come back */
	ELISA_ESTALE = 116,	/* not set up in this generation: set up again */
};

#endif
