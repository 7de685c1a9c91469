// SPDX-License-Identifier: GPL-2.0-only
/* Group vmfunc: the instruction itself, from anywhere but the door. */
#include "attack.h"

static const u8 vmfunc_code[] = { 0x0f, 0x01, 0xd4, 0xcd, STAGE_DONE };	/* vmfunc; int */

/* Executes VMFUNC at an address that is no gate, in ring 3 or 0. */
static int vmfunc_at(struct stage_cpu *cpu, u64 ring, u64 index, u64 leaf)
{
	u64 *pte;

	stage_reset(cpu, STAGE_NOP);
	stage_load(STAGE_CODE, vmfunc_code, sizeof(vmfunc_code));
	cpu->rip = STAGE_CODE;
	cpu->rcx = index;
	cpu->rax = leaf;
	if (!ring) {
		cpu->cs = STAGE_CS0;
		cpu->ss = STAGE_SS0;
		pte = stage_pte(STAGE_CODE);
		*pte &= ~(u64)STAGE_U;	/* SMEP */
	}
	return stage_run(cpu);
}

/* Index args[0] (5), leaf args[1], ring args[2]. */
static int vmfunc_away(struct attack_run *run)
{
	struct stage_cpu cpu;
	int rc = vmfunc_at(&cpu, run->args[2], run->args[0] ? run->args[0] : 5, run->args[1]);

	return rc ? rc : attack_by_end(run, &cpu);
}

/* Of `tries` VMFUNCs, `ud` ended in #UD; then the call has to work. */
static int judge_sweep(struct attack_run *run, unsigned int tries, unsigned int ud,
		       const struct stage_cpu *last_other)
{
	run->detail[0] = tries;
	run->detail[1] = ud;
	if (tries != ud)
		return attack_is(run, ATTACK_BREACH, last_other->vector,
				 "%u of %u no #UD; the last: vector %llu, rax 0x%llx, rcx 0x%llx",
				 tries - ud, tries, last_other->vector, last_other->rax,
				 last_other->rcx);
	if (!stage_call_works())
		return attack_is(run, ATTACK_UNARMED, 0, "%u times #UD, and so are calls", ud);
	return attack_is(run, ATTACK_UD, 0, "%u times; calls work", ud);
}

/* Every index but 0 (which is where one is) and the gate's; ring args[0]. */
static int vmfunc_indices(struct attack_run *run)
{
	struct stage_cpu cpu, other = { 0 };
	unsigned int ud = 0, tries = 0, i;
	int rc;

	for (i = 1; i < 512 + 23; i++) {
		if (i == ELISA_SLOT_GATE)
			continue;
		rc = vmfunc_at(&cpu, run->args[0], i < 512 ? i : 1ull << (i - 512 + 9), 0);
		if (rc)
			return rc;
		tries++;
		if (cpu.vector == 6)
			ud++;
		else
			other = cpu;
	}
	rc = vmfunc_at(&cpu, run->args[0], 0, 0);
	if (rc)
		return rc;
	if (cpu.vector != STAGE_DONE)
		return attack_is(run, ATTACK_BREACH, cpu.vector, "index 0: vector %llu", cpu.vector);
	return judge_sweep(run, tries, ud, &other);
}

/* Leafs 1..63 and some with high bits, with the gate's index; ring args[0]. */
static int vmfunc_leafs(struct attack_run *run)
{
	struct stage_cpu cpu, other = { 0 };
	unsigned int ud = 0, i;
	int rc;

	for (i = 1; i < 64 + 26; i++) {
		rc = vmfunc_at(&cpu, run->args[0], ELISA_SLOT_GATE,
			       i < 64 ? i : 1ull << (i - 64 + 6));
		if (rc)
			return rc;
		if (cpu.vector == 6)
			ud++;
		else
			other = cpu;
	}
	return judge_sweep(run, i - 1, ud, &other);
}

/* Not an attack: a proper call. */
static int call(struct attack_run *run)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	return attack_by_run(run, &cpu);
}

const struct attack vmfunc_attacks[] = {
	{ "call", call },
	{ "vmfunc-away", vmfunc_away },
	{ "vmfunc-indices", vmfunc_indices },
	{ "vmfunc-leafs", vmfunc_leafs },
	{ }
};
