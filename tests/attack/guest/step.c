// SPDX-License-Identifier: GPL-2.0-only
/* Group step: single steps into the gate, and breakpoints on what is inside. */
#include <linux/irqflags.h>
#include <linux/sched.h>
#include <asm/special_insns.h>
#include <asm/debugreg.h>

#include "attack.h"

#define TRAP_FLAG	0x100

/* With TF from the first instruction of the call. */
static int step_call(struct attack_run *run)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	cpu.rflags |= TRAP_FLAG;
	return attack_by_run(run, &cpu);
}

/* With TF over the door's VMFUNC alone. */
static int step_door(struct attack_run *run)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	cpu.rflags |= TRAP_FLAG;
	cpu.rip = ELISA_GUEST_VMFUNC_VA;
	cpu.rax = 0;
	cpu.rcx = ELISA_SLOT_GATE;
	return attack_by_run(run, &cpu);
}

/* MOV SS in front of it holds the trap back until it is done. */
static int step_mov_ss(struct attack_run *run)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	stage_load(ELISA_GUEST_VMFUNC_VA - 2, "\x8e\xd2", 2);	/* mov %edx, %ss */
	cpu.rflags |= TRAP_FLAG;
	cpu.rip = ELISA_GUEST_VMFUNC_VA - 2;
	cpu.rax = 0;
	cpu.rcx = ELISA_SLOT_GATE;
	cpu.rdx = STAGE_SS3;
	return attack_by_run(run, &cpu);
}

/* A call with DR0 at `at`; `kind`: DR7's R/W and LEN fields of it (SDM vol. 3, 18.2.4). */
static int call_with_breakpoint(struct attack_run *run, u64 at, u64 kind)
{
	struct stage_cpu cpu;
	unsigned long flags;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	local_irq_save(flags);
	set_debugreg(at, 0);
	set_debugreg(0x403 | kind << 16, 7);
	rc = stage_run(&cpu);
	set_debugreg(0, 7);
	set_debugreg(0, 0);
	local_irq_restore(flags);
	return rc ? rc : attack_by_end(run, &cpu);
}

static int dr_code(struct attack_run *run)
{
	return call_with_breakpoint(run, run->args[0] ? run->args[0] :
				    ELISA_GATE_VA + ELISA_ENTRY_OFFSET, 0);
}

static int dr_write(struct attack_run *run)
{
	return call_with_breakpoint(run, run->args[0] ? run->args[0] :
				    ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED, 0xd);
}

static int dr_access(struct attack_run *run)
{
	return call_with_breakpoint(run, run->args[0] ? run->args[0] :
				    ELISA_DESC_VA + ELISA_DESC_STACK, 0xf);
}

const struct attack step_attacks[] = {
	{ "step-call", step_call },
	{ "step-door", step_door },
	{ "step-mov-ss", step_mov_ss },
	{ "step-dr-code", dr_code },
	{ "step-dr-write", dr_write },
	{ "step-dr-access", dr_access },
	{ }
};
