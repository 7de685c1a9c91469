// SPDX-License-Identifier: GPL-2.0-only
/* Group vmfunc: the instruction itself, from anywhere but the door. */
#include "attack.h"

/* Index args[0] (5), leaf args[1], in ring 3, or 0 if args[2], from an address that is no gate. */
static int vmfunc_away(struct attack_run *run)
{
	static const u8 code[] = { 0x0f, 0x01, 0xd4, 0xcd, STAGE_DONE };	/* vmfunc; int */
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	stage_load(STAGE_CODE, code, sizeof(code));
	cpu.rip = STAGE_CODE;
	cpu.rcx = run->args[0] ? run->args[0] : 5;
	cpu.rax = run->args[1];
	rc = stage_run(&cpu);
	return rc ? rc : attack_by_end(run, &cpu);
}

/* Not an attack: a proper call. */
static int call(struct attack_run *run)
{
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	rc = stage_run(&cpu);
	return rc ? rc : attack_by_end(run, &cpu);
}

const struct attack vmfunc_attacks[] = {
	{ "call", call },
	{ "vmfunc-away", vmfunc_away },
	{ }
};
