/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile monitor: what it may try on a vCPU that is stopped inside, and the judgement of that.
 * Service, library and VM live in one process. See vmx-vmm.c.
 */
#ifndef TESTS_VMX_VMM_H
#define TESTS_VMX_VMM_H

#include <stdbool.h>
#include <stdint.h>

#include "harness.h"

/* What may become of the VM: bits, since several will do for some. */
#define GOES_ON	 (1u << 0)	/* the call ends with the right result */
#define REFUSED	 (1u << 1)	/* KVM does not do it, and the call goes on */
#define TOUCHED	 (1u << 2)	/* killed, for the reason of that name, and so on */
#define EVENT	 (1u << 3)
#define STATE	 (1u << 4)
#define EXIT	 (1u << 5)
#define FAULT	 (1u << 6)	/* the call ended; then the guest's own code met an exception */
#define OUTCOMES 7

extern struct host host;
extern struct tinyvm *vm;
extern struct elisa_vm *attached;

/* Tries of a group and what came of them. */
struct group {
	const char *name;
	bool lasting;	/* what a try does outlives tvm_reset(): a new VM for each */
	unsigned int tries, bad, count[OUTCOMES];
};
/* Prints the group's line. */
void group_end(const struct group *g);

/*
 * Stops vCPU 0 within a call, has `change` done to it (0: done; else KVM refused), and lets it go
 * on. `allowed`: outcomes.
 */
void try_inside(struct group *g, const char *what, int (*change)(const void *arg), const void *arg,
		unsigned int allowed);
/* Its parts: */
bool stop_inside(void);
unsigned int outcome_of(bool refused);
bool fresh_vm(void);
bool memory_sound(void);
/* Makes a tvm_run() of vCPU 0 by this thread end after so many microseconds. */
void alarm_in(unsigned int us);

/* An ioctl of the vCPU or the VM; 0 or -errno. */
int vcpu_ioctl(unsigned long request, void *arg);
int vm_ioctl(unsigned long request, void *arg);

/* The groups, in vmm-regs.c, vmm-state.c and vmm-memory.c. */
void test_registers(void);
void test_system_registers(void);
void test_vectors(unsigned int tries);
void test_msrs(void);
void test_events(void);
void test_debug(void);
void test_state(unsigned int tries);
void test_snapshots(void);
void test_slots(void);
void test_slot_race(unsigned int rounds);
void test_two_threads(unsigned int rounds);

#endif
