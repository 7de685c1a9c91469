// SPDX-License-Identifier: GPL-2.0-only
/* Group mode: VMFUNC in compatibility mode, rings 1 and 2. More of it: tests/vmx/vmx-state. */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>

#include "attack.h"

#define LOW_VA		0x4000	/* below 64 KiB, for 16-bit code */
#define FREE_SELECTOR	0x68
#define CODE64(dpl)	(0x00af9b000000ffffull | (u64)(dpl) << 45)
#define USER		(STAGE_P | STAGE_W | STAGE_U | STAGE_A)

/* A user page with `code` at LOW_VA instead of the first 4 GiB of memory. */
static int map_low(u64 *tables[4], const void *code, size_t len)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		tables[i] = (u64 *)get_zeroed_page(GFP_KERNEL);
		if (!tables[i])
			return -ENOMEM;
	}
	memcpy(tables[3], code, len);
	tables[2][LOW_VA >> 12] = virt_to_phys(tables[3]) | USER;
	tables[1][0] = virt_to_phys(tables[2]) | USER;
	tables[0][0] = virt_to_phys(tables[1]) | USER;
	stage_root()[0] = virt_to_phys(tables[0]) | USER;
	return 0;
}

static int compat_by(struct attack_run *run, u64 cs)
{
	/* vmfunc; int: the same in 16, 32 and 64 bits */
	static const u8 code[] = { 0x0f, 0x01, 0xd4, 0xcd, STAGE_DONE };
	u64 *tables[4] = { NULL };
	struct stage_cpu cpu;
	unsigned int i;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	rc = map_low(tables, code, sizeof(code));
	if (!rc) {
		cpu.rip = LOW_VA;
		cpu.cs = cs;
		cpu.rax = 0;
		cpu.rcx = run->args[0] ? run->args[0] : ELISA_SLOT_GATE;
		rc = stage_run(&cpu);
	}
	stage_root()[0] = 0;
	for (i = 0; i < 4; i++)
		free_page((unsigned long)tables[i]);
	return rc ? rc : attack_by_end(run, &cpu);
}

static int compat(struct attack_run *run)
{
	return compat_by(run, STAGE_CS3_32);
}

static int compat16(struct attack_run *run)
{
	return compat_by(run, STAGE_CS3_16);
}

/* Ring args[0] (1) at the door, which is a supervisor's page then. */
static int ring(struct attack_run *run)
{
	const u64 dpl = run->args[0] == 2 ? 2 : 1;
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	stage_tables()->gdt[FREE_SELECTOR / 8] = CODE64(dpl);
	*stage_pte(ELISA_GATE_VA) &= ~STAGE_U;
	*stage_pte(ELISA_RETURN_VA) &= ~STAGE_U;
	cpu.cs = FREE_SELECTOR | dpl;
	cpu.ss = dpl;			/* none, which 64-bit code may have */
	return attack_by_run(run, &cpu);
}

const struct attack mode_attacks[] = {
	{ "mode-compat", compat },
	{ "mode-compat16", compat16 },
	{ "mode-ring", ring },
	{ }
};
