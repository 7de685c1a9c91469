/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The stage: a guest's CPU for an attack alone. Page tables, GDT, IDT and TSS of its own, interrupts
 * off, every register as the attack wants it; whatever vector comes next ends it, and the kernel
 * goes on as if nothing had been. One stage, used under a lock (main.c) by one CPU at a time.
 *
 * Addresses on it: the kernel's half as ever; all RAM below 4 GiB at its physical address (2 MiB
 * pages, supervisor, writable, executable); pages of user mode as below, each of 4 KiB and to be
 * changed with stage_pte().
 */
#ifndef ATTACK_STAGE_H
#define ATTACK_STAGE_H

#ifndef __ASSEMBLY__
#include <linux/types.h>
#endif
#include <elisa/layout.h>

#define STAGE_CODE	0x100000000000		/* STAGE_PAGES pages, RWX */
#define STAGE_DATA	0x100000010000		/* STAGE_PAGES pages, RW */
#define STAGE_STACK	0x100000020000		/* STAGE_PAGES pages, RW */
#define STAGE_STACK_TOP	(STAGE_STACK + STAGE_PAGES * 4096 - 64)
#define STAGE_PAGES	4
/* ELISA_GATE_VA and ELISA_RETURN_VA: the guest's own faces of the gate page, RWX */

/* ELISA_OP_NOP of elisa/abi.h, which is user space's: does nothing, answers 0. */
#define STAGE_NOP	1

/* INT of this number, allowed to ring 3, ends an act in good order. */
#define STAGE_DONE	0x81
/* Vectors from here on are interrupts. */
#define STAGE_IRQ	0x20

/* Selectors: the kernel's (arch/x86/include/asm/segment.h), then some more. */
#define STAGE_CS0_32	0x08
#define STAGE_CS0	0x10
#define STAGE_SS0	0x18
#define STAGE_CS3_32	0x23
#define STAGE_SS3	0x2b
#define STAGE_CS3	0x33
#define STAGE_TSS	0x40
#define STAGE_LDT	0x50	/* empty: for an attack to fill */
#define STAGE_CS3_16	0x63	/* base 0, limit 64 KiB, ring 3, 16-bit */

#define STAGE_P		0x001
#define STAGE_W		0x002
#define STAGE_U		0x004
#define STAGE_A		0x060	/* accessed, dirty */
#define STAGE_G		0x100
#define STAGE_NX	(1ull << 63)

/* Offsets in struct stage_cpu, for stage-switch.S. */
#define CPU_RIP		128
#define CPU_RFLAGS	136
#define CPU_CS		144
#define CPU_SS		152
#define CPU_CR0		160
#define CPU_CR3		168
#define CPU_CR4		176
#define CPU_EFER	184
#define CPU_VECTOR	192
#define CPU_ERROR	200
#define CPU_CR2		208

#ifndef __ASSEMBLY__
/* In: with what it starts. Out: with what it ended, and by which vector. */
struct stage_cpu {
	u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rip, rflags, cs, ss;
	u64 cr0, cr3, cr4, efer;	/* in only; written before rip runs if they differ */
	u64 vector, error, cr2;		/* out only */
};

struct stage_vectors {
	u8 ymm[16][32];
};

/* Descriptors of the stage, to be changed between stage_reset() and stage_run(). */
struct stage_tables {
	u64 gdt[32];
	u64 idt[256][2];
	u8 tss[128];
};

int stage_init(void);
void stage_exit(void);

/*
 * All as a library would have it: pages of the gate with the usual code (the return page does INT
 * STAGE_DONE at once, so that every register is seen as VMFUNC left it), code and data filled with
 * INT3, descriptors and page tables as above; `cpu` in ring 3 before a call of operation `op`.
 */
void stage_reset(struct stage_cpu *cpu, u64 op);
/* Bits of CR4 that are off in what stage_reset() sets. */
extern u64 stage_cr4_off;
/* Runs `cpu` until a vector comes. 0, or -EIO if the stage could not be set. */
int stage_run(struct stage_cpu *cpu);
/* Vector registers that the next stage_run() starts with and that the last one ended with. */
extern struct stage_vectors stage_vectors_in, stage_vectors_out;
/*
 * Not 0: interrupts that come (rflags needs bit 9) are counted and answered here, and the act goes
 * on; they are raised again for the kernel afterwards. 0: one ends the act.
 */
extern bool stage_take_irqs;
extern u64 stage_irqs;			/* so many since stage_reset() */
/* Not 0, with those: cycles from one interrupt taken to the timer's next, by its TSC deadline. */
extern u32 stage_timer;

/* A proper call of operation NOP from ring 3, on a stage as of stage_reset(): did it work? */
bool stage_call_works(void);

/* The kernel's address of what is at `va` on the stage (user pages only). */
void *stage_mem(u64 va);
/* Copies code to `va`. */
void stage_load(u64 va, const void *code, size_t len);
/* The last-level entry for `va` (user pages, those of stage_map()); NULL: there is none. */
u64 *stage_pte(u64 va);
/* Maps a page at any address of the lower half, 512 GiB and up. -ENOMEM. */
int stage_map(u64 va, u64 pa, u64 flags);
/* Physical address of the stage's page tables. */
u64 stage_cr3(void);
/* ... and the kernel's address of their root: 512 entries. */
u64 *stage_root(void);
struct stage_tables *stage_tables(void);

/* stage-switch.S */
void stage_switch(struct stage_cpu *cpu);
extern const u8 stage_stubs[], stage_stubs_end[];
extern u64 stage_irq_seen[4], stage_apic;
extern u64 stage_home_cr0, stage_home_cr3, stage_home_cr4, stage_home_efer;
extern u64 stage_home_fs, stage_home_gs, stage_home_kernel_gs;
void stage_vectors_load(const struct stage_vectors *v);
void stage_vectors_store(struct stage_vectors *v);
#endif
#endif
