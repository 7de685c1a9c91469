/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The real transport: VMFUNC out of this process into the trusted context (elisa/abi.h).
 *
 * Two pages at ELISA_GATE_VA. The first ends its entry code with VMFUNC; the gate then runs under
 * the same address, and the exit stub's VMFUNC comes back at the start of the second page, which
 * turns the raw result into that of an ordinary function.
 *
 * VMFUNC raises #UD on a vCPU that is not armed, which may become so at any moment: a SIGILL
 * handler, in place as long as a handle is open, makes such a call return -ELISA_ENOTCONN.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <elisa/layout.h>

#include "internal.h"

#define STRING2(x) #x
#define STRING(x)  STRING2(x)

/* Templates, copied to their fixed addresses; never run where they are linked. */
extern const uint8_t elisa_call_code[], elisa_call_code_end[];
extern const uint8_t elisa_return_code[], elisa_return_code_end[];

__asm__(".pushsection .rodata\n"
	".globl elisa_call_code, elisa_call_code_end\n"
	".globl elisa_return_code, elisa_return_code_end\n"
	".hidden elisa_call_code, elisa_call_code_end\n"
	".hidden elisa_return_code, elisa_return_code_end\n"
	"elisa_call_code:\n"
	"	xorl	%eax, %eax\n"
	"	movl	$" STRING(
		ELISA_SLOT_GATE) ", %ecx\n"
				 "	vmfunc\n"
				 "elisa_call_code_end:\n"
				 "elisa_return_code:\n"
				 "	testb	$" STRING(
					 ELISA_FLAG_EVENT) ", %r11b\n"
							   "	jz	1f\n"
							   /* An event waits until this vCPU makes
							    * an exit: KVM refuses a hypercall from
							    * user mode and changes only %rax, which
							    * holds nothing yet. */
							   "	vmcall\n"
							   "1:	movq	%rdx, %rax\n"
							   "	xorl	%edx, %edx\n"
							   "	xorl	%r11d, %r11d\n"
							   "	ret\n"
							   "elisa_return_code_end:\n"
							   ".popsection\n");

/* One set of pages and one handler for the process, however often it is opened. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int users;
static bool handler_set;
static struct sigaction former;

static bool cpu_fits(void)
{
	uint32_t a, b, c, d, xcr0, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
		return false;
	__asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
	if ((xcr0 & 6) != 6)
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_FSGSBASE);
}

/* What the handler that was there before would have done with a SIGILL that is not ours. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
	if (former.sa_flags & SA_SIGINFO) {
		former.sa_sigaction(sig, info, context);
	} else if (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN) {
		former.sa_handler(sig);
	} else {
		/* A fault is not ignored: die of it when the instruction is run again. */
		signal(sig, SIG_DFL);
		if (info->si_code <= 0)
			raise(sig);
	}
}

static void on_sigill(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (regs[REG_RIP] != (greg_t)ELISA_GUEST_VMFUNC_VA) {
		pass_on(sig, info, context);
		return;
	}
	/* As if the call had gone through and the service had answered this. */
	regs[REG_RDX] = -ELISA_ENOTCONN;
	regs[REG_R11] = 0;
	regs[REG_RIP] = (greg_t)ELISA_RETURN_VA;
}

static int map_code(void)
{
	uint8_t *p = mmap((void *)ELISA_GATE_VA, 2 * ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return errno == EEXIST ? -EADDRINUSE : -errno;
	if (p != (uint8_t *)ELISA_GATE_VA) { /* a kernel that ignores the flag */
		munmap(p, 2 * ELISA_PAGE_SIZE);
		return -EADDRINUSE;
	}
	memset(p, 0xcc, 2 * ELISA_PAGE_SIZE); /* int3 */
	memcpy((void *)ELISA_CALL_VA, elisa_call_code,
	       (size_t)(elisa_call_code_end - elisa_call_code));
	memcpy((void *)ELISA_RETURN_VA, elisa_return_code,
	       (size_t)(elisa_return_code_end - elisa_return_code));
	if (mprotect(p, 2 * ELISA_PAGE_SIZE, PROT_READ | PROT_EXEC)) {
		int rc = -errno;

		munmap(p, 2 * ELISA_PAGE_SIZE);
		return rc;
	}
	/* Present by now; kept so as far as the memlock limit allows, which saves a fault. */
	(void)mlock(p, 2 * ELISA_PAGE_SIZE);
	return 0;
}

static int install(void)
{
	/* Not masked while it runs, and on the thread's alternate stack if it has one. */
	struct sigaction action = {.sa_sigaction = on_sigill,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	int rc = map_code();

	if (rc)
		return rc;
	if (handler_set)
		return 0;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGILL, &action, &former)) {
		rc = -errno;
		munmap((void *)ELISA_GATE_VA, 2 * ELISA_PAGE_SIZE);
		return rc;
	}
	handler_set = true;
	return 0;
}

static void uninstall(void)
{
	struct sigaction now;

	/* A handler that was set after ours may chain to it: then ours stays. */
	if (!sigaction(SIGILL, NULL, &now) && now.sa_flags & SA_SIGINFO &&
	    now.sa_sigaction == on_sigill) {
		sigaction(SIGILL, &former, NULL);
		handler_set = false;
	}
	munmap((void *)ELISA_GATE_VA, 2 * ELISA_PAGE_SIZE);
}

static int vmfunc_open(struct elisa_guest *guest, const char *options,
		       const struct elisa_guest_ram *ram)
{
	int rc = 0;

	(void)guest;
	(void)ram; /* all of a VM's memory can be reached */
	if (options)
		return -EINVAL;
	if (elisa_call_code_end - elisa_call_code != ELISA_CALL_LEN)
		return -EOPNOTSUPP; /* an assembler that chose other encodings */
	if (!cpu_fits())
		return -EOPNOTSUPP;
	pthread_mutex_lock(&lock);
	if (!users)
		rc = install();
	if (!rc)
		users++;
	pthread_mutex_unlock(&lock);
	return rc;
}

static void vmfunc_close(struct elisa_guest *guest)
{
	(void)guest;
	pthread_mutex_lock(&lock);
	if (!--users)
		uninstall();
	pthread_mutex_unlock(&lock);
}

static int vmfunc_call(struct elisa_guest *guest, struct elisa_call *call)
{
	(void)guest;
	call->fn = (elisa_entry_fn)ELISA_CALL_VA;
	call->cookie = NULL;
	return 0;
}

static void vmfunc_call_del(struct elisa_guest *guest, struct elisa_call *call)
{
	(void)guest;
	call->fn = NULL;
}

const struct transport transport_vmfunc = {
	.prefix = "vmfunc",
	.name = "vmfunc",
	.in_vm = true,
	.open = vmfunc_open,
	.close = vmfunc_close,
	.call = vmfunc_call,
	.call_new = vmfunc_call, /* whoever calls: the vCPU is the caller */
	.call_del = vmfunc_call_del,
	.mem_alloc = hugemem_alloc,
	.mem_free = hugemem_free,
};
