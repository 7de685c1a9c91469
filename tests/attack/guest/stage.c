// SPDX-License-Identifier: GPL-2.0-only
/* See stage.h. */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <asm/apic.h>
#include <asm/desc.h>
#include <asm/fixmap.h>
#include <asm/fpu/api.h>
#include <asm/msr.h>
#include <asm/special_insns.h>

#include "attack.h"

#define ENTRIES		512
#define HALF		(ENTRIES / 2)
#define OWNED_MAX	64
#define USER_PTE	(STAGE_P | STAGE_W | STAGE_U | STAGE_A)
#define LOW_GIB		4
#define IST_LEN		4096

struct stage_vectors stage_vectors_in, stage_vectors_out;
u64 stage_cr4_off;

static struct {
	u64 *root, *low;
	u64 *owned[OWNED_MAX];		/* tables that stage_map() made */
	unsigned int owned_count;
	u8 *gate[2], *code, *data, *stack;
	struct stage_tables *tables;
	u8 *ist;
} stage;

static const struct {
	u64 va;
	u8 **mem;
	unsigned int pages;
} user_pages[] = {
	{ ELISA_GATE_VA, &stage.gate[0], 1 },
	{ ELISA_RETURN_VA, &stage.gate[1], 1 },
	{ STAGE_CODE, &stage.code, STAGE_PAGES },
	{ STAGE_DATA, &stage.data, STAGE_PAGES },
	{ STAGE_STACK, &stage.stack, STAGE_PAGES },
};

/* ---- page tables ---- */

static u64 *next_table(u64 *entry)
{
	u64 *table;

	if (*entry & STAGE_P)
		return phys_to_virt(*entry & PTE_PFN_MASK);
	if (stage.owned_count == OWNED_MAX)
		return NULL;
	table = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!table)
		return NULL;
	stage.owned[stage.owned_count++] = table;
	*entry = virt_to_phys(table) | USER_PTE;
	return table;
}

int stage_map(u64 va, u64 pa, u64 flags)
{
	u64 *table = stage.root;
	int shift;

	for (shift = 39; shift > 12; shift -= 9) {
		table = next_table(&table[va >> shift & (ENTRIES - 1)]);
		if (!table)
			return -ENOMEM;
	}
	table[va >> 12 & (ENTRIES - 1)] = pa | flags;
	return 0;
}

u64 *stage_pte(u64 va)
{
	u64 *table = stage.root;
	int shift;

	if (va >> 39 >= HALF || va >> 39 == 0)
		return NULL;
	for (shift = 39; shift > 12; shift -= 9) {
		u64 e = table[va >> shift & (ENTRIES - 1)];

		if (!(e & STAGE_P))
			return NULL;
		table = phys_to_virt(e & PTE_PFN_MASK);
	}
	return &table[va >> 12 & (ENTRIES - 1)];
}

u64 stage_cr3(void)
{
	return virt_to_phys(stage.root);
}

u64 *stage_root(void)
{
	return stage.root;
}

struct stage_tables *stage_tables(void)
{
	return stage.tables;
}

void *stage_mem(u64 va)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(user_pages); i++)
		if (va >= user_pages[i].va && va - user_pages[i].va < user_pages[i].pages * 4096)
			return *user_pages[i].mem + (va - user_pages[i].va);
	return NULL;
}

void stage_load(u64 va, const void *code, size_t len)
{
	memcpy(stage_mem(va), code, len);
}

static void set_low(void)
{
	u64 pa;

	stage.low = stage.root + ENTRIES;	/* pages of one block: see stage_init() */
	for (pa = 0; pa < (u64)LOW_GIB << 30; pa += 2 << 20) {
		u64 *pd = stage.low + ENTRIES * (1 + (pa >> 30));

		pd[pa >> 21 & (ENTRIES - 1)] = pa | 0x80 | STAGE_P | STAGE_W | STAGE_A;
		stage.low[pa >> 30] = virt_to_phys(pd) | STAGE_P | STAGE_W | STAGE_A;
	}
}

static void reset_space(void)
{
	u64 *kernel = phys_to_virt(__read_cr3() & PTE_PFN_MASK);
	unsigned int i, p;

	while (stage.owned_count)
		free_page((unsigned long)stage.owned[--stage.owned_count]);
	memset(stage.root, 0, HALF * sizeof(u64));
	memcpy(stage.root + HALF, kernel + HALF, HALF * sizeof(u64));
	set_low();
	stage.root[0] = virt_to_phys(stage.low) | STAGE_P | STAGE_W | STAGE_A;
	for (i = 0; i < ARRAY_SIZE(user_pages); i++)
		for (p = 0; p < user_pages[i].pages; p++)
			WARN_ON(stage_map(user_pages[i].va + p * 4096,
					  virt_to_phys(*user_pages[i].mem) + p * 4096, USER_PTE));
}

/* ---- descriptors ---- */

static void set_gate(unsigned int vector)
{
	const u64 at = (u64)stage_stubs + vector * 16;
	const u64 dpl = vector == STAGE_DONE || vector == 3 || vector == 4 ? 3 : 0;
	u64 *gate = stage.tables->idt[vector];

	/* Interrupt gate (SDM vol. 3, 6.14.1) on IST 1, so that no %rsp of an attack matters. */
	gate[0] = (at & 0xffff) | (u64)STAGE_CS0 << 16 | 1ull << 32 | 0x8e00ull << 32 |
		  dpl << 45 | (at >> 16 & 0xffff) << 48;
	gate[1] = at >> 32;
}

static void reset_tables(void)
{
	struct stage_tables *t = stage.tables;
	struct desc_ptr home;
	u64 tss = (u64)t->tss, top = (u64)stage.ist + IST_LEN;
	unsigned int i;

	memset(t, 0, sizeof(*t));
	native_store_gdt(&home);
	memcpy(t->gdt, (void *)home.address, 8 * sizeof(u64));
	/* An available 64-bit TSS (SDM vol. 3, 7.2.3) of 104 bytes. */
	t->gdt[STAGE_TSS / 8] = 103 | (tss & 0xffffff) << 16 | 0x89ull << 40 |
				(tss >> 24 & 0xff) << 56;
	t->gdt[STAGE_TSS / 8 + 1] = tss >> 32;
	t->gdt[STAGE_CS3_16 / 8] = 0x0000fb000000ffff;
	memcpy(t->tss + 4, &top, 8);		/* RSP0 */
	memcpy(t->tss + 36, &top, 8);		/* IST1 */
	t->tss[102] = 104;			/* no I/O bitmap */
	for (i = 0; i < 256; i++)
		set_gate(i);
}

/* ---- the act ---- */

static const u8 call_code[] = {
	0x31, 0xc0,					/* xor %eax, %eax */
	0xb9, ELISA_SLOT_GATE, 0, 0, 0,			/* mov $gate, %ecx */
	0x0f, 0x01, 0xd4,				/* vmfunc */
};
static const u8 return_code[] = { 0xcd, STAGE_DONE };	/* int */

void stage_reset(struct stage_cpu *cpu, u64 op)
{
	unsigned int i;

	BUILD_BUG_ON(sizeof(call_code) != ELISA_CALL_LEN);
	reset_space();
	reset_tables();
	for (i = 0; i < ARRAY_SIZE(user_pages); i++)
		memset(*user_pages[i].mem, 0xcc, user_pages[i].pages * 4096);
	stage_load(ELISA_CALL_VA, call_code, sizeof(call_code));
	stage_load(ELISA_RETURN_VA, return_code, sizeof(return_code));
	memset(&stage_vectors_in, 0, sizeof(stage_vectors_in));
	stage_take_irqs = false;
	stage_timer = 0;
	stage_irqs = 0;
	*cpu = (struct stage_cpu){
		.rip = ELISA_CALL_VA, .rflags = 2, .cs = STAGE_CS3, .ss = STAGE_SS3,
		.rsp = STAGE_STACK_TOP, .rsi = op,
		.cr0 = read_cr0(), .cr3 = stage_cr3(), .cr4 = __read_cr4() & ~stage_cr4_off,
	};
	rdmsrl(MSR_EFER, cpu->efer);
}

static void note_home(void)
{
	stage_home_cr0 = read_cr0();
	stage_home_cr3 = __read_cr3();
	stage_home_cr4 = __read_cr4();
	rdmsrl(MSR_EFER, stage_home_efer);
	rdmsrl(MSR_FS_BASE, stage_home_fs);
	rdmsrl(MSR_GS_BASE, stage_home_gs);
	rdmsrl(MSR_KERNEL_GS_BASE, stage_home_kernel_gs);
	stage_apic = x2apic_enabled() ? 0 : APIC_BASE;
	memset(stage_irq_seen, 0, sizeof(stage_irq_seen));
}

/* The kernel gets the interrupts that the stage took; so often as once, as they are edges. */
static void raise_again(void)
{
	unsigned int vector;

	for_each_set_bit(vector, (unsigned long *)stage_irq_seen, 256)
		apic->send_IPI_self(vector);
}

int stage_run(struct stage_cpu *cpu)
{
	const struct desc_ptr gdt = {
		.size = sizeof(stage.tables->gdt) - 1, .address = (unsigned long)stage.tables->gdt };
	const struct desc_ptr idt = {
		.size = sizeof(stage.tables->idt) - 1, .address = (unsigned long)stage.tables->idt };
	struct desc_ptr home_gdt, home_idt;
	unsigned long flags;
	u16 ldt, ds, es;

	kernel_fpu_begin();
	local_irq_save(flags);
	note_home();
	native_store_gdt(&home_gdt);
	store_idt(&home_idt);
	store_ldt(ldt);
	savesegment(ds, ds);
	savesegment(es, es);
	stage_vectors_load(&stage_vectors_in);
	load_gdt(&gdt);
	load_idt(&idt);
	asm volatile("ltr %w0" : : "r"(STAGE_TSS));
	stage_switch(cpu);
	load_gdt(&home_gdt);
	load_idt(&home_idt);
	force_reload_TR();
	asm volatile("lldt %w0" : : "r"(ldt));
	loadsegment(ds, ds);
	loadsegment(es, es);
	stage_vectors_store(&stage_vectors_out);
	local_irq_restore(flags);
	kernel_fpu_end();
	/* Busy again: the next LTR wants it available. */
	stage.tables->gdt[STAGE_TSS / 8] &= ~(2ull << 40);
	raise_again();
	return 0;
}

bool stage_call_works(void)
{
	struct stage_cpu cpu;

	stage_reset(&cpu, STAGE_NOP);
	return !stage_run(&cpu) && cpu.vector == STAGE_DONE && !cpu.rdx;
}

/* ---- coming and going ---- */

static u8 *pages(unsigned int order)
{
	return (u8 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, order);
}

/* Root, low PDPT and LOW_GIB directories are one block. */
#define ROOT_ORDER	3

int stage_init(void)
{
	stage.root = (u64 *)pages(ROOT_ORDER);
	stage.gate[0] = pages(0);
	stage.gate[1] = pages(0);
	stage.code = pages(2);
	stage.data = pages(2);
	stage.stack = pages(2);
	stage.tables = (struct stage_tables *)pages(1);
	stage.ist = pages(0);
	if (stage.root && stage.gate[0] && stage.gate[1] && stage.code && stage.data &&
	    stage.stack && stage.tables && stage.ist)
		return 0;
	stage_exit();
	return -ENOMEM;
}

void stage_exit(void)
{
	while (stage.owned_count)
		free_page((unsigned long)stage.owned[--stage.owned_count]);
	free_pages((unsigned long)stage.root, ROOT_ORDER);
	free_page((unsigned long)stage.gate[0]);
	free_page((unsigned long)stage.gate[1]);
	free_pages((unsigned long)stage.code, 2);
	free_pages((unsigned long)stage.data, 2);
	free_pages((unsigned long)stage.stack, 2);
	free_pages((unsigned long)stage.tables, 1);
	free_page((unsigned long)stage.ist);
}
