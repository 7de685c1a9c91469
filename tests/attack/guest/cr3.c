// SPDX-License-Identifier: GPL-2.0-only
/* Group cr3: a call with a CR3 that points into the trusted window. tests/vmx/vmx-state tries each
 * of its pages. */
#include <asm/processor.h>

#include "attack.h"

#define LOAD_CR3	0x82	/* its INT */
/* Pages whose numbers end otherwise than the door's: some TLBs would hold only one of them. */
#define CODE3_VA	(STAGE_CODE + 2 * 4096)
#define CODE0_VA	(STAGE_CODE + 3 * 4096)

/*
 * Nothing is mapped by such a CR3, so all that runs after it is loaded is global and in the TLB:
 * the door (called once before), a handler that goes back by SYSRET and so needs no descriptor, and
 * the caller.
 */
static int window(struct attack_run *run)
{
	static const u8 user[] = {
		0x41, 0xff, 0xd6,			/* call *%r14 */
		0xcd, LOAD_CR3,				/* int */
		0x31, 0xc0,				/* xor %eax, %eax */
		0xb9, ELISA_SLOT_GATE, 0, 0, 0,		/* mov $gate, %ecx */
		0x41, 0xff, 0xe4,			/* jmp *%r12 */
	};
	static const u8 kernel[] = {
		0x59,					/* pop %rcx: where it came from */
		0x41, 0x0f, 0x22, 0xdd,			/* mov %r13, %cr3 */
		0x41, 0xbb, 2, 0, 0, 0,			/* mov $2, %r11d: flags */
		0x48, 0x0f, 0x07,			/* sysretq */
	};
	static const u64 global[] = { CODE3_VA, CODE0_VA, STAGE_STACK_TOP & ~4095ull,
				      ELISA_GATE_VA, ELISA_RETURN_VA };
	struct stage_cpu cpu;
	unsigned int i;
	u64 *gate;

	/* Brings all of the stage into the host's page tables: an exit for that would empty the TLB. */
	if (!stage_call_works())
		return attack_is(run, ATTACK_UNARMED, 0, "calls do not work");
	stage_reset(&cpu, STAGE_NOP);
	stage_load(CODE3_VA, user, sizeof(user));
	stage_load(CODE0_VA, kernel, sizeof(kernel));
	stage_load(ELISA_GATE_VA, "\xc3", 1);		/* ret */
	for (i = 0; i < ARRAY_SIZE(global); i++)
		*stage_pte(global[i]) |= STAGE_G;
	*stage_pte(CODE0_VA) &= ~STAGE_U;
	gate = stage_tables()->idt[LOAD_CR3];
	gate[0] = (CODE0_VA & 0xffff) | (u64)STAGE_CS0 << 16 | 1ull << 32 | 0xee00ull << 32 |
		  (CODE0_VA >> 16 & 0xffff) << 48;
	gate[1] = CODE0_VA >> 32;
	cpu.rip = CODE3_VA;
	cpu.r14 = ELISA_GATE_VA;
	cpu.r12 = ELISA_GUEST_VMFUNC_VA;
	cpu.r13 = run->args[0] ? run->args[0] : 1ull << (boot_cpu_data.x86_phys_bits - 1);
	return attack_by_run(run, &cpu);
}

/* The door's page is somewhere else in this guest's page tables: where nothing is, or at
 * guest-physical address args[0]. */
static int elsewhere(struct attack_run *run)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	*stage_pte(ELISA_GATE_VA) = run->args[0] ?
		(run->args[0] | STAGE_P | STAGE_W | STAGE_U | STAGE_A) : 0;
	return attack_by_run(run, &cpu);
}

const struct attack cr3_attacks[] = {
	{ "cr3-window", window },
	{ "cr3-elsewhere", elsewhere },
	{ }
};
