// SPDX-License-Identifier: GPL-2.0-only
/* Group gate: the door itself, with hostile registers, from ring 0, and beside it. */
#include "attack.h"

#define RFLAGS_ARITHMETIC	0x8d5
#define RFLAGS_HOSTILE		(RFLAGS_ARITHMETIC | 0x400 | 0x4000 | 0x200000)	/* DF NT ID */

/* The same address in every register, each at `spread` from the one before. */
static void fill_regs(struct stage_cpu *cpu, u64 with, u64 spread)
{
	u64 *r = &cpu->rax;
	unsigned int i;

	for (i = 0; i < 16; i++)
		r[i] = with + i * spread;
}

/* What a call must give back as it was, and what it must leave nothing in. */
static const char *wrong_register(const struct stage_cpu *in, const struct stage_cpu *out)
{
	const u8 *v = (const u8 *)&stage_vectors_out;
	size_t i;

	if (out->rbx != in->rbx || out->rbp != in->rbp || out->rsp != in->rsp ||
	    out->r12 != in->r12 || out->r13 != in->r13 || out->r14 != in->r14 ||
	    out->r15 != in->r15)
		return "a register that is to be kept";
	if (out->rax | out->rcx | out->rdx | out->rsi | out->rdi | out->r8 | out->r9 | out->r10)
		return "a register that is to be zero";
	if (out->r11 & ~1ull)
		return "r11";
	for (i = 0; i < sizeof(stage_vectors_out); i++)
		if (v[i])
			return "a vector register";
	return NULL;
}

/* Calls with hostile registers, vectors and flags; reads all of them afterwards. */
static int gate_registers(struct attack_run *run)
{
	static const u64 with[] = { 0x1111111111111111, ~0ull, ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED,
				    ELISA_DESC_VA, 0x0000680000000000, 0xffff888000000000 };
	u64 flags = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(with); i++) {
		struct stage_cpu in, out;
		const char *wrong;
		int rc;

		stage_reset(&in, STAGE_NOP);
		fill_regs(&in, with[i], i);
		in.rsi = STAGE_NOP;
		in.rflags = 2 | (i & 1 ? RFLAGS_HOSTILE : 0);
		memset(&stage_vectors_in, 0xa5 + i, sizeof(stage_vectors_in));
		out = in;
		rc = stage_run(&out);
		if (rc)
			return rc;
		if (out.vector != STAGE_DONE)
			return attack_by_end(run, &out);
		wrong = wrong_register(&in, &out);
		if (wrong)
			return attack_is(run, ATTACK_BREACH, i, "set %u: %s is wrong", i, wrong);
		/* What is inside must not show in them, nor what went in. */
		if (i && out.rflags != flags)
			return attack_is(run, ATTACK_BREACH, i, "flags 0x%llx, then 0x%llx", flags,
					 out.rflags);
		flags = out.rflags;
	}
	run->detail[0] = flags;
	return attack_is(run, ATTACK_NO_EFFECT, 0, "all registers of %u calls are as they must be", i);
}

/* The guest's FS base is given back, and not used. */
static int gate_fs_base(struct attack_run *run)
{
	/* rdfsbase %r12 */
	static const u8 code[] = { 0xf3, 0x49, 0x0f, 0xae, 0xc4, 0xcd, STAGE_DONE };
	const u64 fs = ELISA_LIST_VA;
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	stage_load(ELISA_RETURN_VA, code, sizeof(code));
	/* wrfsbase %r12; jmp *%r13 */
	stage_load(STAGE_CODE, "\xf3\x49\x0f\xae\xd4\x41\xff\xe5", 8);
	cpu.rip = STAGE_CODE;
	cpu.r12 = fs;
	cpu.r13 = ELISA_CALL_VA;
	rc = stage_run(&cpu);
	if (rc || cpu.vector != STAGE_DONE)
		return rc ? rc : attack_by_end(run, &cpu);
	if (cpu.r12 != fs)
		return attack_is(run, ATTACK_BREACH, 0, "FS base 0x%llx, not 0x%llx", cpu.r12, fs);
	return attack_is(run, ATTACK_NO_EFFECT, 0, "FS base is as it was");
}

/* Through the door in ring 0: all is user pages behind it, which SMEP forbids. */
static int gate_ring0(struct attack_run *run)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	*stage_pte(ELISA_GATE_VA) &= ~(u64)STAGE_U;
	*stage_pte(ELISA_RETURN_VA) &= ~(u64)STAGE_U;
	cpu.cs = STAGE_CS0;
	cpu.ss = STAGE_SS0;
	cpu.rsp = (u64)stage_mem(STAGE_STACK_TOP);
	return attack_by_run(run, &cpu);
}

/*
 * VMFUNC such that the gate's first instruction is at offset args[0] of its page, with the address
 * of the trusted slot in every register; ring args[1].
 */
static int gate_offset(struct attack_run *run)
{
	static const u8 vmfunc[] = { 0x0f, 0x01, 0xd4 };
	struct stage_cpu cpu;

	if (run->args[0] < sizeof(vmfunc) || run->args[0] > 4096)
		return -EINVAL;
	/* What it opens is closed again by its end. */
	if (!stage_call_works())
		return attack_is(run, ATTACK_UNARMED, 0, "no call works");
	stage_reset(&cpu, STAGE_NOP);
	memset(stage_mem(ELISA_GATE_VA), 0xcc, 4096);
	stage_load(ELISA_GATE_VA + run->args[0] - sizeof(vmfunc), vmfunc, sizeof(vmfunc));
	fill_regs(&cpu, ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED, 0);
	cpu.rax = cpu.rax & ~0xffffffffull;
	cpu.rcx = (cpu.rcx & ~0xffffffffull) | ELISA_SLOT_GATE;
	cpu.rip = ELISA_GATE_VA + run->args[0] - sizeof(vmfunc);
	if (!run->args[1]) {
		*stage_pte(ELISA_GATE_VA) &= ~(u64)STAGE_U;
		cpu.cs = STAGE_CS0;
		cpu.ss = STAGE_SS0;
	}
	return attack_by_run(run, &cpu);
}

const struct attack gate_attacks[] = {
	{ "gate-registers", gate_registers },
	{ "gate-fs-base", gate_fs_base },
	{ "gate-ring0", gate_ring0 },
	{ "gate-offset", gate_offset },
	{ }
};
