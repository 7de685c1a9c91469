// SPDX-License-Identifier: GPL-2.0-only
/* Group events: what this guest's own processor sends itself. A sibling's: tests/vmx/vmx-events. */
#include <linux/irqflags.h>
#include <asm/apic.h>
#include <asm/cpufeature.h>
#include <asm/irq_vectors.h>
#include <asm/msr.h>

#include "attack.h"

/* An interrupt is pending all the time that it is inside. */
static int self_ipi(struct attack_run *run)
{
	struct stage_cpu cpu;
	unsigned long flags;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	local_irq_save(flags);
	apic->send_IPI_self(RESCHEDULE_VECTOR);
	rc = stage_run(&cpu);
	local_irq_restore(flags);
	return rc ? rc : attack_by_end(run, &cpu);
}

#define TIMER_CYCLES	7919	/* a prime: interrupts come at all points of a call */

#define JUMP_END	24	/* of the code below */

/* args[0] (100,000) calls, one after another, while this processor's timer interrupts them. */
static int storm(struct attack_run *run)
{
	u8 again[] = {
		0x4c, 0x89, 0xe6,		/* mov %r12, %rsi */
		0x48, 0x09, 0xd5,		/* or %rdx, %rbp: any result that is not 0 */
		0x41, 0xf6, 0xc3, ELISA_FLAG_EVENT,	/* test: an event waits for an exit */
		0x74, 0x02,			/* jz 1f */
		0x0f, 0xa2,			/* cpuid */
		0x49, 0xff, 0xcf,		/* 1: dec %r15 */
		0x74, 0x05,			/* jz 2f */
		0xe9, 0, 0, 0, 0,		/* jmp ELISA_CALL_VA */
		0x48, 0x89, 0xea,		/* 2: mov %rbp, %rdx */
		0xcd, STAGE_DONE,		/* int */
	};
	const s32 back = (s32)(ELISA_CALL_VA - (ELISA_RETURN_VA + JUMP_END));
	const u64 calls = run->args[0] ? run->args[0] : 100000;
	struct stage_cpu cpu;
	unsigned long flags;
	int rc;

	if (!boot_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER))
		return attack_is(run, ATTACK_ABSENT, 0, "no TSC deadline timer");
	stage_reset(&cpu, STAGE_NOP);
	memcpy(again + JUMP_END - 4, &back, sizeof(back));
	stage_load(ELISA_RETURN_VA, again, sizeof(again));
	stage_take_irqs = true;
	stage_timer = TIMER_CYCLES;
	cpu.rflags |= 0x200;
	cpu.r15 = calls;
	cpu.rbp = 0;
	cpu.r12 = STAGE_NOP;
	/* The first; the kernel's own timer goes on with the interrupt that stage_run() raises again. */
	local_irq_save(flags);
	wrmsrl(MSR_IA32_TSC_DEADLINE, rdtsc() + TIMER_CYCLES);
	rc = stage_run(&cpu);
	local_irq_restore(flags);
	if (rc || cpu.vector != STAGE_DONE || cpu.r15)
		return rc ? rc : attack_by_end(run, &cpu);
	run->detail[0] = calls;
	run->detail[1] = stage_irqs;
	if (stage_irqs < calls / 1000)
		return attack_is(run, ATTACK_ABSENT, 0, "only %llu interrupts", stage_irqs);
	return cpu.rdx ? attack_is(run, ATTACK_BREACH, 0, "a call failed: 0x%llx", cpu.rdx) :
			 attack_is(run, ATTACK_NO_EFFECT, 0, "%llu calls, %llu interrupts", calls,
				   stage_irqs);
}

const struct attack events_attacks[] = {
	{ "event-self-ipi", self_ipi },
	{ "event-storm", storm },
	{ }
};
