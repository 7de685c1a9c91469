/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tinyvm: a KVM virtual machine monitor just big enough for tests. A VM has some RAM, page tables
 * and one or more vCPUs that start in 64-bit mode, at any privilege, with any registers, at a piece
 * of position-independent code of the test. There are no devices: the guest talks by OUT
 * (RFLAGS.IOPL is 3, so ring 3 may), and its memory and registers are the test's to read.
 *
 * Guest-virtual memory:
 *	0 ...			RAM, supervisor, address = GPA
 *	TVM_USER_BASE ...	RAM again, user, read/write/execute: TVM_USER(gpa)
 *	ELISA_GATE_VA - 4096	TVM_GATE_PAGES user pages, at TVM_GPA_GATE ff.
 *
 * The guest has an IDT whose handlers live in tinyvm_guest.S: exceptions are reported as a stop of
 * their own, interrupts (vectors 32 and up) and NMIs are counted.
 *
 * Each function returns 0 or -errno if nothing else is said. A vCPU may be driven by one thread at
 * a time; different vCPUs by different threads. Everything else is for one thread.
 */
#ifndef TESTS_TINYVM_H
#define TESTS_TINYVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TVM_MAX_VCPUS	4
#define TVM_RAM_DEFAULT	(2ul << 20)
#define TVM_RAM_MIN	0x90000ul	/* up to 64 KiB of code */
#define TVM_RAM_MAX	(64ul << 20)

#define TVM_GATE_PAGES	4		/* the page before X, X, the return page, one more */
#define TVM_GPA_GATE	0x40000
#define TVM_GPA_X	(TVM_GPA_GATE + 0x1000)
#define TVM_GPA_RETURN	(TVM_GPA_GATE + 0x2000)
#define TVM_GPA_DATA	0x50000		/* 64 KiB for the test's results */
#define TVM_GPA_CODE	0x80000		/* the test's code; user stacks end below it */
#define TVM_GPA_FREE	0x100000	/* from here on unused (if there is so much RAM) */
#define TVM_USER_BASE	0x100000000000
#define TVM_USER(gpa)	(TVM_USER_BASE + (gpa))

/* A change of the CPUID that the guest sees: (value & ~clear) | set in one register. */
enum tvm_reg { TVM_EAX, TVM_EBX, TVM_ECX, TVM_EDX };
struct tvm_cpuid {
	uint32_t leaf, subleaf;
	enum tvm_reg reg;
	uint32_t clear, set;
};
#define TVM_MAX_CPUID	8

#define TVM_NO_IRQCHIP		(1u << 0)	/* no in-kernel APIC: no interrupts then */
#define TVM_PRIVATE_RAM		(1u << 1)	/* anonymous private memory instead of a memfd */
#define TVM_ALL_CPUID		(1u << 2)	/* hide nothing of what KVM supports */
#define TVM_DIRTY_RING		(1u << 3)	/* KVM keeps a ring of pages written to, no bitmaps */
/* Unless told otherwise these are hidden: PCID, VMX, PKU, RTM, HLE, CET, UINTR, LA57, PT, vPMU. */

/* Plain data, so that it can be handed to another process. All zero: one page of defaults. */
struct tvm_config {
	uint64_t ram;			/* bytes at GPA 0; 0: TVM_RAM_DEFAULT */
	uint64_t extra_gpa, extra;	/* one more piece of RAM, not mapped by the page tables */
	uint32_t vcpus;			/* may be 0 */
	uint32_t flags;			/* TVM_* */
	int ram_fd;			/* > 0: memfd to use for RAM at GPA 0, not owned */
	uint32_t cpuids;
	struct tvm_cpuid cpuid[TVM_MAX_CPUID];	/* applied after the hiding */
};

struct tinyvm;

int tvm_create(const struct tvm_config *config, struct tinyvm **vm);
void tvm_destroy(struct tinyvm *vm);
/* KVM's descriptors, owned by the VM. */
int tvm_fd(const struct tinyvm *vm);
int tvm_vcpu_fd(const struct tinyvm *vm, unsigned int vcpu);

/* Where GPA `gpa` is in this process; NULL outside of RAM. */
void *tvm_mem(const struct tinyvm *vm, uint64_t gpa);
/* Copies `len` bytes of code or data to `gpa`. */
int tvm_load(struct tinyvm *vm, uint64_t gpa, const void *from, size_t len);
/* The page-table entry of the 4 KiB page at guest-virtual `va`, to be changed; NULL: not mapped.
 * A changed entry takes effect at the next tvm_reset(). */
uint64_t *tvm_pte(const struct tinyvm *vm, uint64_t va);
#define TVM_PTE_P	1ul
#define TVM_PTE_W	2ul
#define TVM_PTE_U	4ul
#define TVM_PTE_G	256ul
/* Maps the 4 KiB page at `va` to `gpa`, with TVM_PTE_*. There is room for a few dozen. */
int tvm_map(struct tinyvm *vm, uint64_t va, uint64_t gpa, uint64_t flags);
/* Interrupt or INT `vector` runs the ring 0 code at `gpa` from now on, not tinyvm's. */
void tvm_set_handler(struct tinyvm *vm, unsigned int vector, uint64_t gpa);
/* GPA of the page-table root. */
uint64_t tvm_cr3(const struct tinyvm *vm);

/* Makes the vCPU a fresh one that starts as told: at regs->rip, ring 0 or 3, with the other
 * registers of `regs`. rsp 0: a default stack. RFLAGS is what regs says with IF, IOPL 3 and the
 * always-one bit added. Pending events are dropped; the APIC keeps its timer. */
int tvm_reset(struct tinyvm *vm, unsigned int vcpu, unsigned int ring, const struct kvm_regs *regs);

enum tvm_why {
	TVM_OUT,	/* the guest did OUT: port, value */
	TVM_EXCEPTION,	/* an exception reached the guest's handler: vector, error, rip, cs */
	TVM_HLT,	/* only without in-kernel APIC */
	TVM_SHUTDOWN,	/* triple fault */
	TVM_INTERRUPTED,	/* by a signal to this thread */
	TVM_MMIO,	/* touched no memory: address */
	TVM_FAIL,	/* KVM says internal error, failed entry...: kvm_reason, value */
};
struct tvm_stop {
	enum tvm_why why;
	uint32_t kvm_reason;
	uint16_t port;
	uint8_t vector;
	uint64_t value, address;
	uint64_t error, rip, cs, rsp;	/* of an exception */
};
/* Runs until something happens. After TVM_OUT it may be called again to go on. */
int tvm_run(struct tinyvm *vm, unsigned int vcpu, struct tvm_stop *stop);
const char *tvm_why_name(enum tvm_why why);
/* Makes a tvm_run() that is under way or comes next return TVM_INTERRUPTED at once, once: safe in
 * a signal handler of the running thread. */
void tvm_interrupt_run(struct tinyvm *vm, unsigned int vcpu);

int tvm_regs(struct tinyvm *vm, unsigned int vcpu, struct kvm_regs *regs);
int tvm_set_regs(struct tinyvm *vm, unsigned int vcpu, const struct kvm_regs *regs);
int tvm_sregs(struct tinyvm *vm, unsigned int vcpu, struct kvm_sregs *sregs);
int tvm_set_sregs(struct tinyvm *vm, unsigned int vcpu, const struct kvm_sregs *sregs);

/* The 16 YMM registers, 32 bytes each. */
struct tvm_vectors {
	uint8_t ymm[16][32];
};
int tvm_vectors(struct tinyvm *vm, unsigned int vcpu, struct tvm_vectors *vectors);
int tvm_set_vectors(struct tinyvm *vm, unsigned int vcpu, const struct tvm_vectors *vectors);

/* Periodic timer interrupt of the vCPU's APIC, vector 32 ff.; KVM makes shorter periods 200 us. 0
 * stops it. */
int tvm_timer(struct tinyvm *vm, unsigned int vcpu, uint32_t period_ns);
/* Sends an interrupt or an NMI, from any thread, while the vCPU runs. */
int tvm_send_interrupt(struct tinyvm *vm, unsigned int vcpu, uint8_t vector);
int tvm_send_nmi(struct tinyvm *vm, unsigned int vcpu);
/* Interrupts and NMIs that the guest's handlers have counted since tvm_create(). */
uint64_t tvm_interrupts(const struct tinyvm *vm, unsigned int vcpu);
uint64_t tvm_nmis(const struct tinyvm *vm, unsigned int vcpu);

#endif
