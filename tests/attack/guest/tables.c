// SPDX-License-Identifier: GPL-2.0-only
/* Group tables: IDT, GDT, TSS, LDT at addresses of the trusted context, then a fault in the gate. */
#include <linux/io.h>

#include "attack.h"

#define ASIDE		0x100	/* offset of an INT3 in the gate page */
#define COPY_VA		(STAGE_DATA + 4096)
#define SUPERVISOR	(STAGE_P | STAGE_W | STAGE_A)

/* Ring 0: one instruction of three bytes with %rbx, then IRETQ by the frame at %rsp. */
static int change_then_fault(struct attack_run *run, struct stage_cpu *cpu, const char *insn)
{
	u64 *frame = stage_mem(STAGE_STACK);

	stage_load(STAGE_CODE, insn, 3);
	stage_load(STAGE_CODE + 3, "\x48\xcf", 2);
	*stage_pte(STAGE_CODE) &= ~STAGE_U;
	*stage_pte(STAGE_DATA) &= ~STAGE_U;
	*stage_pte(STAGE_STACK) &= ~STAGE_U;
	/* The gate's page is entered where no gate is. */
	stage_load(ELISA_GATE_VA + ASIDE - ELISA_VMFUNC_LEN, "\x0f\x01\xd4", 3);
	frame[0] = ELISA_GATE_VA + ASIDE - ELISA_VMFUNC_LEN;
	frame[1] = STAGE_CS3;
	frame[2] = 2;
	frame[3] = STAGE_STACK_TOP;
	frame[4] = STAGE_SS3;
	cpu->rip = STAGE_CODE;
	cpu->cs = STAGE_CS0;
	cpu->ss = STAGE_SS0;
	cpu->rsp = STAGE_STACK;
	cpu->rax = 0;
	cpu->rcx = ELISA_SLOT_GATE;
	return attack_by_run(run, cpu);
}

static u64 where(const struct attack_run *run)
{
	return run->args[0] ? run->args[0] : ELISA_LIST_VA;
}

/* In this guest's own context its tables are there, as they are to be. */
static int map_copy(u64 va, const void *from, size_t len)
{
	memcpy(stage_mem(COPY_VA), from, len);
	return stage_map(va, virt_to_phys(stage_mem(COPY_VA)), SUPERVISOR);
}

static void pointer(struct stage_cpu *cpu, u64 base, u16 limit)
{
	u8 *p = stage_mem(STAGE_DATA);

	memcpy(p, &limit, 2);
	memcpy(p + 2, &base, 8);
	cpu->rbx = STAGE_DATA;
}

static int idt(struct attack_run *run)
{
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	rc = map_copy(where(run), stage_tables()->idt, 4096);
	pointer(&cpu, where(run), 4095);
	return rc ? rc : change_then_fault(run, &cpu, "\x0f\x01\x1b");	/* lidt (%rbx) */
}

static int gdt(struct attack_run *run)
{
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	rc = map_copy(where(run), stage_tables()->gdt, sizeof(stage_tables()->gdt));
	pointer(&cpu, where(run), sizeof(stage_tables()->gdt) - 1);
	return rc ? rc : change_then_fault(run, &cpu, "\x0f\x01\x13");	/* lgdt (%rbx) */
}

static void system_descriptor(unsigned int selector, u64 base, u64 limit, u64 type)
{
	u64 *d = &stage_tables()->gdt[selector / 8];

	d[0] = limit | (base & 0xffffff) << 16 | (0x80 | type) << 40 | (base >> 24 & 0xff) << 56;
	d[1] = base >> 32;
}

static int tss(struct attack_run *run)
{
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	rc = map_copy(where(run), stage_tables()->tss, sizeof(stage_tables()->tss));
	system_descriptor(STAGE_LDT, where(run), 103, 9);
	cpu.rbx = STAGE_LDT;
	return rc ? rc : change_then_fault(run, &cpu, "\x0f\x00\xdb");	/* ltr %bx */
}

static int ldt(struct attack_run *run)
{
	struct stage_cpu cpu;
	int rc;

	stage_reset(&cpu, STAGE_NOP);
	rc = map_copy(where(run), stage_tables()->gdt, 64);
	system_descriptor(STAGE_LDT, where(run), 63, 2);
	cpu.rbx = STAGE_LDT;
	return rc ? rc : change_then_fault(run, &cpu, "\x0f\x00\xd3");	/* lldt %bx */
}

const struct attack tables_attacks[] = {
	{ "tables-idt", idt },
	{ "tables-gdt", gdt },
	{ "tables-tss", tss },
	{ "tables-ldt", ldt },
	{ }
};
