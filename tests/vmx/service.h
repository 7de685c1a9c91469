/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The service of the VMFUNC tests: does what an attack or a measurement wants, inside. Its code and
 * data are a shared object of their own, which is exported whole; its state per VM lies in an arena
 * that the test exports.
 */
#ifndef TESTS_VMX_SERVICE_H
#define TESTS_VMX_SERVICE_H

#include <stdint.h>
#include <elisa/abi.h>

enum svc_op {
	SVC_ECHO = ELISA_OP_SERVICE,	/* svc_echo(a1, a2, a3) */
	SVC_FLAGS,	/* RFLAGS as the service sees them */
	SVC_FS,		/* FS base as the service sees it */
	SVC_STACK,	/* stack pointer */
	SVC_SPIN,	/* loops a1 times: a call that takes long; result a1 */
	SVC_READ,	/* the 8 bytes at address a1 (bit 63 cleared) */
	SVC_WRITE,	/* writes a2 to address a1 */
	SVC_JUMP,	/* jumps to address a1 */
	SVC_DIRTY,	/* fills every register and vector that it may with a1, result a2 */
	SVC_KEEP,	/* keeps the VM's secret in them for a1 rounds; result: 0, or not 0 if they
			 * changed */
	SVC_CPUID,	/* these do what a service must not: */
	SVC_VMCALL,
	SVC_SYSCALL,
	SVC_HLT,
	SVC_INT3,
	SVC_VMFUNC,	/* VMFUNC, leaf 0, index a1 */
	SVC_DIVIDE,	/* by zero */
	SVC_HOLD,	/* has a1 in all registers and vectors for a2 rounds; result a2 */
};

#define SVC_SECRET	0x5ec2e75ec2e75ec2ull

struct svc_vm {
	uint64_t id;
	uint64_t calls;		/* entered */
	uint64_t returned;	/* left in the regular way */
	uint64_t spins;		/* SVC_SPIN begun */
	uint64_t generation;
	uint64_t secret[3];
};
_Static_assert(sizeof(struct svc_vm) == 64, "svc_vm");

static inline uint64_t svc_echo(uint64_t a1, uint64_t a2, uint64_t a3)
{
	return (a1 + 3 * a2 + 5 * a3) & INT64_MAX;
}

/* The entry. `cookie`: struct svc_vm. */
int64_t svc_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		  uint64_t a3);

/* State in the service's own object: must be the same before and after any attack. */
extern uint64_t svc_data[512];

#endif
