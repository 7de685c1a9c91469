/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Attacks by a vCPU's own state, with real VMFUNC: control registers, modes, descriptor tables,
 * breakpoints, single steps and CR3, each set by code of the guest just before it calls. What must
 * come of each: rows of tests/attack/table.toml with the same names.
 *
 *	vmx-state [--mixed N] [--seed N] [--only GROUP|ROW]	random mixes of control bits (300)
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "programs.h"
#include "state.h"
#include "tap.h"

#define BIT(n)		(1ull << (n))
#define RFLAGS_PLAIN	0x3202ull	/* IOPL 3, IF */
#define MAY_ANY		(MAY_CALL | MAY_UD | MAY_FAULT | MAY_DIE)

/* ---- control ---- */

enum control { FLAGS, CR0, CR4, EFER, XCR0 };

static struct attack control_attack(enum control which, uint64_t value)
{
	static const struct attack programs[] = {
		[FLAGS] = CALLS_BY(state_flags), [CR0] = CALLS_BY(state_cr0),
		[CR4] = CALLS_BY(state_cr4), [EFER] = CALLS_BY(state_msr),
		[XCR0] = CALLS_BY(state_xcr0),
	};
	struct attack a = programs[which];

	if (which == FLAGS)
		a.regs.rbp = RFLAGS_PLAIN ^ value;
	a.regs.r12 = value;
	a.regs.r13 = 0xc0000080;
	return a;
}

/* Bits that are toggled (XCR0: set): SDM vol. 3, 2.5 and 2.2.1; vol. 1, 3.4.3 and 13.3. */
static const struct {
	const char *row;
	enum control which;
	uint64_t value;
	uint32_t may;
} controls[] = {
	{ "control-smep", CR4, BIT(20), MAY_UD },
	{ "control-smap", CR4, BIT(21), MAY_UD },
	{ "control-smep-smap", CR4, BIT(20) | BIT(21), MAY_UD },
	{ "control-pcide", CR4, BIT(17), MAY_FAULT },
	{ "control-la57", CR4, BIT(12), MAY_FAULT },
	{ "control-vmxe", CR4, BIT(13), MAY_FAULT },
	{ "control-pke", CR4, BIT(22), MAY_FAULT },
	{ "control-cet", CR4, BIT(23), MAY_FAULT },
	{ "control-pks", CR4, BIT(24), MAY_FAULT },
	/* Without an exit: RDFSBASE is then #UD inside. With one by chance: not armed. */
	{ "control-fsgsbase", CR4, BIT(16), MAY_DIE_INSIDE | MAY_UD },
	{ "control-osxsave", CR4, BIT(18), MAY_UD },
	{ "control-pae", CR4, BIT(5), MAY_FAULT },
	{ "control-pge", CR4, BIT(7), MAY_CALL },
	{ "control-tsd", CR4, BIT(2), MAY_CALL },
	{ "control-pvi", CR4, BIT(1), MAY_CALL },
	{ "control-de", CR4, BIT(3), MAY_CALL },
	{ "control-osfxsr", CR4, BIT(9) | BIT(10), MAY_CALL | MAY_DIE_INSIDE },
	{ "control-wp", CR0, BIT(16), MAY_CALL },
	{ "control-am", CR0, BIT(18), MAY_CALL },
	/* VZEROALL is #NM then. */
	{ "control-ts", CR0, BIT(3), MAY_DIE_INSIDE },
	{ "control-em", CR0, BIT(2), MAY_CALL | MAY_DIE_INSIDE },
	{ "control-cd", CR0, BIT(30), MAY_CALL },
	{ "control-pg", CR0, BIT(31), MAY_FAULT },
	{ "control-nxe", EFER, BIT(11), MAY_UD },
	{ "control-lme", EFER, BIT(8), MAY_FAULT },
	{ "control-sce", EFER, BIT(0), MAY_CALL },
	{ "control-xcr0-x87", XCR0, 1, MAY_UD },
	{ "control-xcr0-sse", XCR0, 3, MAY_UD },
	{ "control-ac", FLAGS, BIT(18), MAY_CALL },
	{ "control-df", FLAGS, BIT(10), MAY_CALL },
	{ "control-nt", FLAGS, BIT(14), MAY_CALL },
	{ "control-rf", FLAGS, BIT(16), MAY_CALL },
	{ "control-iopl", FLAGS, BIT(12) | BIT(13), MAY_CALL },
	{ "control-if", FLAGS, BIT(9), MAY_CALL },
};

/* What may come of a change. Nobody calls without what trusted code relies on. */
static uint32_t may_come(enum control which, uint64_t value)
{
	const uint64_t needed[] = { [CR4] = BIT(18) | BIT(20) | BIT(21), [EFER] = BIT(11) };

	if (which == XCR0)
		return (value & 7) == 7 ? MAY_ANY : MAY_UD | MAY_FAULT;
	if ((which == CR4 || which == EFER) && value & needed[which])
		return MAY_UD | MAY_FAULT;
	return MAY_ANY;
}

static void test_every_bit(void)
{
	static const struct {
		const char *name;
		enum control which;
		unsigned int bits;
	} all[] = { { "RFLAGS", FLAGS, 22 }, { "CR0", CR0, 33 }, { "CR4", CR4, 33 },
		    { "EFER", EFER, 33 }, { "XCR0", XCR0, 20 } };
	struct tally t = { .row = "control-each" };
	char what[32];

	if (!state_wanted(t.row))
		return;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		for (unsigned int b = 0; b < all[i].bits; b++) {
			struct attack a = control_attack(all[i].which, BIT(b));

			t.may = may_come(all[i].which, BIT(b));
			snprintf(what, sizeof(what), "%s bit %u", all[i].name, b);
			state_try(&t, &a, what);
		}
	state_done(&t);
}

static unsigned int mixed = 300;
static uint64_t seed = 1;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Bits that a guest may have without exit, or with, several at a time, with flags of all kinds. */
static void test_mixed(void)
{
	struct tally t = { .row = "control-mixed" };
	char what[64];

	if (!state_wanted(t.row))
		return;
	for (unsigned int i = 0; i < mixed; i++) {
		uint64_t r = next_random(), flags = next_random() & 0x257fd5;
		bool cr0 = r >> 40 & 1;
		struct attack a = control_attack(cr0 ? CR0 : CR4,
						 cr0 ? r & 0xc005002e : r & 0x3507cf);

		t.may = may_come(cr0 ? CR0 : CR4, a.regs.r12);
		a.regs.rbp = flags | 2;
		snprintf(what, sizeof(what), "CR%u ^= 0x%llx, RFLAGS 0x%llx", cr0 ? 0 : 4,
			 a.regs.r12, a.regs.rbp);
		state_try(&t, &a, what);
	}
	state_done(&t);
}

static void test_control(void)
{
	for (size_t i = 0; i < sizeof(controls) / sizeof(*controls); i++) {
		struct attack a = control_attack(controls[i].which, controls[i].value);

		state_row(controls[i].row, controls[i].may, &a);
	}
	test_every_bit();
	test_mixed();
}

/* ---- modes ---- */

#define CODE64(dpl)	(0x00af9b000000ffffull | (uint64_t)(dpl) << 45)
#define CODE32(dpl)	(0x00cf9b000000ffffull | (uint64_t)(dpl) << 45)
#define CODE16(dpl)	(0x000f9b000000ffffull | (uint64_t)(dpl) << 45)
#define CODE16_AT(base)	(CODE16(0) | ((uint64_t)(base) & 0xffffff) << 16)
#define LOW_VA		(TVM_GPA_CODE + STATE_LOW)

/* Descriptor of a selector in tinyvm's GDT. */
static uint64_t *descriptor(unsigned int selector)
{
	struct kvm_sregs s;

	tvm_sregs(vm, 0, &s);
	return (uint64_t *)((uint8_t *)tvm_mem(vm, s.gdt.base) + (selector & ~7u));
}

static void load_low(void)
{
	tvm_load(vm, LOW_VA, state_vmfunc, (size_t)(state_vmfunc_end - state_vmfunc));
	*tvm_pte(vm, LOW_VA) |= TVM_PTE_U;
}

static void lock_low(void)
{
	*tvm_pte(vm, LOW_VA) &= ~TVM_PTE_U;
}

/* 32- or 16-bit code of ring 3 at `ip` of a segment below 4 GiB; `index` of VMFUNC. */
static void compat(const char *row, uint64_t code, uint64_t ip, unsigned int index, uint32_t may)
{
	struct attack a = {
		PROGRAM_OF(state_flags), .prepare = load_low, .restore = lock_low,
		.regs = { .rbx = ip, .r11 = STATE_FREE | 3, .rdx = index },
	};

	*descriptor(STATE_FREE) = code;
	state_row(row, may, &a);
}

static void door_to_kernel(void)
{
	*tvm_pte(vm, ELISA_GATE_VA) &= ~TVM_PTE_U;
	*tvm_pte(vm, ELISA_RETURN_VA) &= ~TVM_PTE_U;
}

static void door_to_user(void)
{
	*tvm_pte(vm, ELISA_GATE_VA) |= TVM_PTE_U;
	*tvm_pte(vm, ELISA_RETURN_VA) |= TVM_PTE_U;
}

/* 64-bit code of ring 1 or 2 at the door itself, which is a supervisor page then. */
static void middle_ring(const char *row, unsigned int ring)
{
	struct attack a = CALLS_BY(state_flags);

	a.prepare = door_to_kernel;
	a.restore = door_to_user;
	a.regs.r11 = STATE_FREE | ring;
	a.regs.r9 = ring;		/* no segment at all, which 64-bit code may */
	*descriptor(STATE_FREE) = CODE64(ring);
	state_row(row, MAY_DIE_GATE, &a);
}

/* 32-bit handlers that say by a port which exception came, and tables for two kinds of paging. */
static void prepare_legacy(void)
{
	static const uint8_t ud[] = { 0xe6, PORT_UD, 0x0f, 0x0b };
	static const uint8_t other[] = { 0xe6, PORT_FAULT, 0x0f, 0x0b };
	const uint64_t tables = TVM_GPA_CODE + STATE_TABLES;
	uint8_t *page = tvm_mem(vm, tables);
	uint64_t *idt = (uint64_t *)page, *pdpt = tvm_mem(vm, tables + 0x1000);
	uint32_t *root = tvm_mem(vm, tables + 0x2000), *table = tvm_mem(vm, tables + 0x4000);
	uint64_t *pd = tvm_mem(vm, tables + 0x3000);
	uint16_t *ivt = (uint16_t *)(page + 0x800);

	memset(page, 0, 0x5000);
	memcpy(page + 0x400, ud, sizeof(ud));
	memcpy(page + 0x410, other, sizeof(other));
	for (unsigned int i = 0; i < 32; i++) {
		uint64_t at = tables + (i == 6 ? 0x400 : 0x410);

		idt[i] = (at & 0xffff) | (uint64_t)STATE_FREE << 16 | 0x8eull << 40 |
			 at >> 16 << 48;
		ivt[2 * i] = (uint16_t)(at - TVM_GPA_CODE);
		ivt[2 * i + 1] = TVM_GPA_CODE >> 4;
	}
	pdpt[0] = (tables + 0x3000) | 1;
	pd[0] = 0xe3;				/* 2 MiB */
	root[0] = (uint32_t)(tables + 0x4000) | 3;
	for (uint32_t i = 0; i < 1024; i++)
		table[i] = i << 12 | 0x63;
}

static void legacy(const char *row, uint64_t mode)
{
	struct attack a = {
		PROGRAM_OF(state_legacy), .prepare = prepare_legacy, .regs = { .rbx = mode },
	};

	*descriptor(STATE_FREE) = CODE32(0);
	*descriptor(STATE_FREE2) = CODE16_AT(TVM_GPA_CODE);
	state_row(row, MAY_UD, &a);
}

static void test_modes(void)
{
	const uint64_t code16 = CODE16_AT(TVM_GPA_CODE) | 3ull << 45;

	compat("mode-compat", CODE32(3), LOW_VA, ELISA_SLOT_GATE, MAY_DIE_GATE);
	compat("mode-compat-trusted", CODE32(3), LOW_VA, ELISA_SLOT_TRUSTED, MAY_UD);
	compat("mode-compat16", code16, STATE_LOW, ELISA_SLOT_GATE, MAY_DIE_GATE);
	middle_ring("mode-ring1", 1);
	middle_ring("mode-ring2", 2);
	legacy("mode-unpaged", LEGACY_UNPAGED);
	legacy("mode-pae", LEGACY_PAE);
	legacy("mode-32", LEGACY_32);
	legacy("mode-real", LEGACY_REAL);
}

/* ---- descriptor tables ---- */

/*
 * Tables that a guest may have written, as its rings are, into memory that trusted code can see:
 * sound ones, whose handlers are the gate itself and whose stack is the EPTP list.
 */
#define FORGED_IDT	0
#define FORGED_GDT	4096
#define FORGED_TSS	8192

static uint64_t forged(unsigned int offset)
{
	return (uint64_t)(uintptr_t)host.arena->filler + offset;
}

static void forge_tables(void)
{
	const uint64_t handler = ELISA_GATE_VA + ELISA_GATE_OFFSET;
	const uint64_t stack = ELISA_LIST_VA + 8 * (ELISA_SLOT_TRUSTED + 1);
	uint64_t *idt = (uint64_t *)(host.arena->filler + FORGED_IDT);

	for (unsigned int i = 0; i < 256; i++) {
		idt[2 * i] = (handler & 0xffff) | (uint64_t)STATE_CS0 << 16 | 0xee00ull << 32 |
			     (handler >> 16 & 0xffff) << 48;
		idt[2 * i + 1] = handler >> 32;
	}
	memcpy(host.arena->filler + FORGED_GDT, descriptor(0), 0x70);
	memcpy(host.arena->filler + FORGED_TSS + 4, &stack, 8);
	state_set_memory();
}

#define GPA_COPIES	(TVM_GPA_DATA)		/* what the guest has there: IDT, GDT, TSS, LDT */
#define GPA_POINTERS	(TVM_GPA_DATA + 0x8000)

/* In the guest's own context the same addresses hold copies of its own, so that all is well. */
static void put_tables(uint64_t base, unsigned int offset, const void *from, size_t len)
{
	const uint64_t gpa = GPA_COPIES + offset;

	memset(tvm_mem(vm, gpa), 0, 4096);
	memcpy((uint8_t *)tvm_mem(vm, gpa) + (base & 4095), from, len);
	tvm_map(vm, base, gpa, TVM_PTE_P | TVM_PTE_W);
}

static void put_pointer(unsigned int at, uint64_t base, uint16_t limit)
{
	uint8_t *p = tvm_mem(vm, GPA_POINTERS + at);

	memcpy(p, &limit, 2);
	memcpy(p + 2, &base, 8);
}

enum { IDT = 1, GDT = 2, TSS = 4, LDT = 8 };

/* Registers of state_tables: `which` at `base` (all of them: at the forged ones). */
static void set_tables(struct attack *a, unsigned int which, uint64_t base)
{
	const uint64_t ldt[2] = { CODE64(3), CODE64(3) };
	uint64_t gdt_base, idt_base, tss_base;
	struct kvm_sregs s;

	tvm_sregs(vm, 0, &s);
	gdt_base = s.gdt.base;
	idt_base = s.idt.base;
	tss_base = s.tr.base;
	if (which & IDT) {
		idt_base = base + FORGED_IDT;
		put_tables(idt_base, 0, tvm_mem(vm, s.idt.base), 4096);
	}
	if (which & TSS) {
		tss_base = which & IDT ? base + FORGED_TSS : base;
		put_tables(tss_base, 0x2000, tvm_mem(vm, s.tr.base), 0x68);
	}
	*descriptor(STATE_FREE2) = 0x67 | (tss_base & 0xffffff) << 16 | 0x89ull << 40 |
				   (tss_base >> 24 & 0xff) << 56;
	descriptor(STATE_FREE2)[1] = tss_base >> 32;
	if (which & LDT) {
		put_tables(base, 0x3000, ldt, sizeof(ldt));
		*descriptor(0x50) = 15 | (base & 0xffffff) << 16 | 0x82ull << 40 |
				    (base >> 24 & 0xff) << 56;
		descriptor(0x50)[1] = base >> 32;
		a->regs.r15 = 0x50;
		a->regs.r11 = 7;	/* LDT's first, ring 3 */
	}
	if (which & GDT) {
		gdt_base = which & IDT ? base + FORGED_GDT : base;
		put_tables(gdt_base, 0x1000, tvm_mem(vm, s.gdt.base), 0x70);
	}
	a->regs.r14 = STATE_FREE2;
	put_pointer(0, gdt_base, 0x6f);
	put_pointer(16, idt_base, 4095);
	a->regs.r12 = GPA_POINTERS;
	a->regs.r13 = GPA_POINTERS + 16;
}

/* The guest enters the gate's page where INT3 waits. */
#define ASIDE		0x100

static void prepare_aside(void)
{
	static const uint8_t vmfunc[] = { 0x0f, 0x01, 0xd4 };

	memcpy((uint8_t *)tvm_mem(vm, TVM_GPA_X) + ASIDE - sizeof(vmfunc), vmfunc, sizeof(vmfunc));
}

static const struct {
	const char *name;
	uint64_t op;
	bool aside;
} faults[] = {
	{ "INT3 in the gate", SVC_ECHO, true },
	{ "INT3 inside", SVC_INT3, false },
	{ "division by zero inside", SVC_DIVIDE, false },
	{ "page fault inside", SVC_READ, false },
};

static void tables_try(struct tally *t, unsigned int which, const char *where, uint64_t base,
		       uint64_t cr4)
{
	char what[80];

	if (!state_wanted(t->row))
		return;
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		struct attack a = { PROGRAM_OF(state_tables), .regs = {
			.rsi = faults[i].op, .rdx = 0x123456789000, .rdi = cr4 } };

		if (faults[i].aside) {
			a.prepare = prepare_aside;
			a.regs.rbx = ELISA_GATE_VA + ASIDE - ELISA_VMFUNC_LEN;
		}
		set_tables(&a, which, base);
		snprintf(what, sizeof(what), "%s, %s", where, faults[i].name);
		state_try(t, &a, what);
	}
}

static void test_tables(void)
{
	static const struct {
		const char *name;
		unsigned int which;
	} tables[] = { { "IDT", IDT }, { "GDT", GDT }, { "TSS", TSS }, { "LDT", LDT } };
	struct tally each = { .row = "tables-each", .may = MAY_DIE };
	struct tally sound = { .row = "tables-forged", .may = MAY_DIE };
	struct tally open = { .row = "tables-unguarded", .may = MAY_UD };
	struct guest_call c;
	char what[48];

	forge_tables();
	guest_call(vm, SVC_STACK, 0, 0, 0, &c);
	const struct {
		const char *name;
		uint64_t base;
	} where[] = {
		{ "EPTP list", ELISA_LIST_VA }, { "descriptor", ELISA_DESC_VA },
		{ "stack", (uint64_t)c.result & ~4095ull },
		{ "service's data", (uintptr_t)svc_data & ~4095ull },
		{ "service's code", (uintptr_t)svc_entry & ~4095ull },
		{ "state", (uintptr_t)host.arena },
	};

	for (size_t r = 0; r < sizeof(tables) / sizeof(*tables); r++)
		for (size_t i = 0; i < sizeof(where) / sizeof(*where); i++) {
			snprintf(what, sizeof(what), "%s at the %s", tables[r].name, where[i].name);
			tables_try(&each, tables[r].which, what, where[i].base, 0);
		}
	state_done(&each);
	tables_try(&sound, IDT | GDT | TSS, "forged in exported memory", forged(0), 0);
	state_done(&sound);
	tables_try(&open, IDT | GDT | TSS, "forged, SMEP and SMAP off", forged(0),
		   BIT(20) | BIT(21));
	state_done(&open);
}

/* ---- breakpoints ---- */

#define DR7_ENABLE(n)		(3ull << (2 * (n)))
#define DR7_KIND(n, rw, len)	((uint64_t)((rw) | (len) << 2) << (16 + 4 * (n)))
enum { ON_FETCH = 0, ON_WRITE = 1, ON_ACCESS = 3 };

static void breakpoint(struct tally *t, unsigned int n, unsigned int kind, uint64_t at,
		       const char *where)
{
	static const char *const kinds[] = { "fetch", "write", "", "access" };
	struct attack a = CALLS_BY(state_dr);
	char what[80];

	*(&a.regs.r12 + n) = at;	/* r12 to r15 follow each other in struct kvm_regs */
	a.regs.rdi = 0x400 | DR7_ENABLE(n) | DR7_KIND(n, kind, kind == ON_FETCH ? 0 : 3);
	snprintf(what, sizeof(what), "DR%u on %s of %s", n, kinds[kind], where);
	state_try(t, &a, what);
}

static void test_breakpoints(void)
{
	struct tally t = { .row = "step-dr-each" };
	struct guest_call c;

	if (!state_wanted(t.row))
		return;
	guest_call(vm, SVC_STACK, 0, 0, 0, &c);
	const struct {
		const char *name;
		uint64_t at;
	} places[] = {
		{ "the trusted slot", ELISA_LIST_VA + 8 * ELISA_SLOT_TRUSTED },
		{ "the descriptor's stack", ELISA_DESC_VA + ELISA_DESC_STACK },
		{ "the descriptor's flags", ELISA_DESC_VA + ELISA_DESC_FLAGS },
		{ "the stack", (uint64_t)c.result & ~7ull },
		{ "the count of calls", (uintptr_t)&host.arena->vm[0].calls },
		{ "the page table root", 0 },
	};
	const struct {
		const char *name;
		uint64_t at;
	} stops[] = {
		{ "the gate's store", ELISA_GATE_VA + ELISA_GATE_OFFSET + 2 },
		{ "the gate's index", ELISA_GATE_VA + ELISA_GATE_OFFSET + 9 },
		{ "the gate's VMFUNC", ELISA_GATE_VA + ELISA_ENTRY_OFFSET - 3 },
		{ "the disarming", ELISA_GATE_VA + ELISA_ENTRY_OFFSET },
		{ "the entry stub's second", ELISA_GATE_VA + ELISA_ENTRY_OFFSET + 7 },
		{ "the service", (uintptr_t)svc_entry },
		{ "the last VMFUNC", ELISA_RETURN_VA - 3 },
	};

	for (unsigned int n = 0; n < 4; n++) {
		/* All code is run, not all data is touched. */
		t.may = MAY_DIE;
		for (size_t i = 0; i < sizeof(stops) / sizeof(*stops); i++)
			breakpoint(&t, n, ON_FETCH, stops[i].at, stops[i].name);
		t.may = MAY_DIE | MAY_CALL;
		for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
			breakpoint(&t, n, ON_WRITE, places[i].at, places[i].name);
			breakpoint(&t, n, ON_ACCESS, places[i].at, places[i].name);
		}
	}
	state_done(&t);
}

/* ---- single steps ---- */

static uint8_t stack_selector[8] = { STATE_SS3 };

/* In front of the door's VMFUNC: SS from %edx, or from memory at (%rdx). */
static void prepare_ss(void)
{
	static const uint8_t mov_ss[] = { 0x8e, 0xd2 };

	memcpy((uint8_t *)tvm_mem(vm, TVM_GPA_X) + ELISA_GATE_OFFSET - 5, mov_ss, sizeof(mov_ss));
}

static void prepare_ss_memory(void)
{
	static const uint8_t mov_ss[] = { 0x8e, 0x12 };

	memcpy((uint8_t *)tvm_mem(vm, TVM_GPA_X) + ELISA_GATE_OFFSET - 5, mov_ss, sizeof(mov_ss));
	tvm_load(vm, TVM_GPA_DATA, stack_selector, sizeof(stack_selector));
}

static void test_steps(void)
{
	const uint64_t tf = RFLAGS_PLAIN | BIT(8);
	struct attack call = CALLS_BY(state_flags), door = call, ss = call, memory;

	call.regs.rbp = tf;
	state_row("step-call", MAY_FAULT, &call);
	door.regs.rbp = tf;
	door.regs.rbx = ELISA_GUEST_VMFUNC_VA;
	state_row("step-door", MAY_DIE_GATE, &door);
	/* MOV SS holds the trap back over the next instruction, which is VMFUNC. */
	ss.regs.rbp = tf;
	ss.regs.rbx = ELISA_GUEST_VMFUNC_VA - 2;
	ss.regs.rdx = STATE_SS3;
	ss.prepare = prepare_ss;
	state_row("step-mov-ss", MAY_DIE_GATE, &ss);
	memory = (struct attack)CALLS_BY(state_dr);
	memory.regs.rbx = ELISA_GUEST_VMFUNC_VA - 2;
	memory.regs.rdx = TVM_USER(TVM_GPA_DATA);
	memory.regs.r12 = TVM_USER(TVM_GPA_DATA);
	memory.regs.rdi = 0x400 | DR7_ENABLE(0) | DR7_KIND(0, ON_ACCESS, 1);
	memory.prepare = prepare_ss_memory;
	state_row("step-mov-ss-data", MAY_DIE_GATE, &memory);
}

/* ---- CR3 ---- */

#define MAX_PAGES	4096

/* GPAs of the pages that an EPT maps in the window, by walking its tables. */
static unsigned int window_pages(uint64_t table, unsigned int level, uint64_t base, uint64_t *out,
				 unsigned int count)
{
	const uint64_t frame = 0xffffffffff000;
	uint64_t e[512];

	if (phys_read(table, e, sizeof(e)))
		return count;
	for (unsigned int i = 0; i < 512; i++) {
		uint64_t gpa = base + ((uint64_t)i << (12 + 9 * level));

		if (!(e[i] & 7) || (level == 3 && gpa < host.info.window_gpa))
			continue;
		if (!level || (level < 3 && e[i] & 0x80)) {
			if (count < MAX_PAGES)
				out[count++] = gpa;
		} else {
			count = window_pages(e[i] & frame, level - 1, gpa, out, count);
		}
	}
	return count;
}

#define EXIT_EPT_VIOLATION 48

/* What of the window the gate has to map: the second-level table, its code, its list. */
static void gate_pages_of(uint64_t eptp, uint64_t gpa[3])
{
	const uint64_t frame = 0xffffffffff000, in_chunk = 0x3ffff000;
	uint64_t e = 0;

	phys_read(ept_translate(eptp, 0) + 8 * (ELISA_GATE_VA >> 39 & 511), &e, sizeof(e));
	gpa[0] = e & frame;
	phys_read(ept_translate(eptp, gpa[0]) + 8 * (ELISA_GATE_VA >> 30 & 511), &e, sizeof(e));
	gpa[1] = (e & frame & ~0x3fffffffull) | (ELISA_GATE_VA & in_chunk);
	gpa[2] = (e & frame & ~0x3fffffffull) | (ELISA_LIST_VA & in_chunk);
}

/* `exit`: 0, or the reason of the exit that is to end it, if one does. */
static void cr3_try(struct tally *t, uint64_t cr3, uint32_t exit, const char *what)
{
	uint64_t calls = host.arena->vm[0].calls;
	struct elisa_vm_status s;
	struct tvm_stop stop;

	/* An interrupt of the host in just those few instructions empties the TLB: then it fails in
	 * the guest itself, for KVM. */
	for (int i = 0; i < 5; i++) {
		stop = guest_call_cr3(vm, cr3);
		if (stop.why != TVM_FAIL || host.arena->vm[0].calls != calls)
			break;
	}
	s = state_status();
	state_judge(t, &stop, calls, what);
	if (exit && s.kill == ELISA_KILL_EXIT && s.kill_code != exit && t->bad++ < 5)
		note("%s: %s: ended by %s", t->row, what,
		     elisa_exit_reason_name((uint32_t)s.kill_code));
}

static void test_cr3(void)
{
	static uint64_t pages[MAX_PAGES];
	struct tally each = { .row = "cr3-each", .may = MAY_DIE_GATE };
	struct tally frames = { .row = "cr3-frames", .may = MAY_CALL | MAY_MISS };
	uint64_t list[512], gate[3], eptp, last = host.info.window_gpa * 2 - 4096;
	unsigned int count;
	char what[64];

	guest_make_global(vm, true);
	cr3_try(&frames, tvm_cr3(vm), 0, "its own");
	eptp = gate_eptp(vm);
	if (!eptp)
		state_done(&frames);
	if (!ok(!phys_read(inside_translate(eptp, ELISA_LIST_VA), list, sizeof(list)),
		"the EPTP list is readable"))
		return;
	count = window_pages(list[ELISA_SLOT_TRUSTED] & 0xffffffffff000, 3, 0, pages, 0);
	ok(count > 20 && count < MAX_PAGES, "%u pages are mapped in the trusted context", count);
	pages[count < MAX_PAGES ? count++ : count - 1] = last;
	gate_pages_of(eptp, gate);
	for (unsigned int i = 0; i < count && state_wanted(each.row); i++) {
		/* The gate does not see the others: the walk itself ends it. */
		bool own = pages[i] == gate[0] || pages[i] == gate[1] || pages[i] == gate[2];
		uint32_t exit = own ? 0 : EXIT_EPT_VIOLATION;

		snprintf(what, sizeof(what), "CR3 = GPA 0x%lx", pages[i]);
		cr3_try(&each, pages[i], exit, what);
		if (i % 8)
			continue;
		/* Flags of CR3: write-through, cache disable. */
		cr3_try(&each, pages[i] | 0x18, exit, what);
	}
	state_done(&each);
	/* The sweep's kills have made new EPTs. */
	eptp = gate_eptp(vm);
	phys_read(inside_translate(eptp, ELISA_LIST_VA), list, sizeof(list));
	/* As guest-physical numbers, where those pages are in the host: below the window, no more
	 * than any other number there. */
	for (unsigned int i = 0; i < count && state_wanted(frames.row); i += count / 16 + 1) {
		uint64_t hpa = ept_translate(list[ELISA_SLOT_TRUSTED], pages[i]);

		if (hpa >= host.info.window_gpa)
			continue;
		snprintf(what, sizeof(what), "CR3 = HPA 0x%llx", hpa & ~4095ull);
		cr3_try(&frames, hpa & ~4095ull, 0, what);
	}
	cr3_try(&frames, ept_translate(eptp, 0), 0, "CR3 = HPA of the root");
	cr3_try(&frames, list[ELISA_SLOT_TRUSTED] & 0xffffffffff000, 0, "CR3 = HPA of the EPT");
	state_done(&frames);
	guest_make_global(vm, false);
}

/* The guest's own table maps X into the window, or somewhere else of its own. */
static void test_elsewhere(void)
{
	struct tally t = { .row = "cr3-elsewhere", .may = ~MAY_DIE };
	const uint64_t window = host.info.window_gpa, flags = TVM_PTE_P | TVM_PTE_W | TVM_PTE_U;
	uint64_t *pte = tvm_pte(vm, ELISA_GATE_VA), old = *pte;
	const uint64_t targets[] = { window, window + BIT(30), window + BIT(31), TVM_GPA_DATA,
				     TVM_GPA_RETURN, 0xfee00000 };
	struct attack a = CALLS_BY(state_flags);
	char what[64];

	if (!state_wanted(t.row))
		return;
	for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++) {
		*pte = targets[i] | flags | 0x60;
		snprintf(what, sizeof(what), "X at GPA 0x%lx", targets[i]);
		uint64_t calls = host.arena->vm[0].calls;
		struct kvm_regs r = a.regs;
		struct tvm_stop stop = { .why = TVM_FAIL };

		guest_pages(vm, RETURN_RAW);
		r.rip = ELISA_CALL_VA;
		if (tvm_reset(vm, 0, 3, &r) || tvm_run(vm, 0, &stop))
			stop.why = TVM_FAIL;
		*pte = old;
		state_judge(&t, &stop, calls, what);
	}
	state_done(&t);
}

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "control", test_control }, { "mode", test_modes }, { "step", test_steps },
	{ "dr", test_breakpoints }, { "cr3", test_cr3 }, { "elsewhere", test_elsewhere },
	{ "tables", test_tables },
};

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "mixed", required_argument, NULL, 'm' },
		{ "seed", required_argument, NULL, 's' },
		{ "only", required_argument, NULL, 'o' },
		{ 0 },
	};
	struct tvm_config config = { .vcpus = 1, .ram = TVM_RAM_MIN };
	const char *only = NULL;
	bool is_group = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'm')
			mixed = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 's')
			seed = strtoul(optarg, NULL, 0) * 2 + 1;
		else if (c == 'o')
			only = optarg;
		else
			return 2;
	}
	for (size_t i = 0; only && i < sizeof(groups) / sizeof(*groups); i++)
		is_group |= !strcmp(only, groups[i].name);
	state_only = is_group ? NULL : only;
	if (state_open(&config))
		for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++)
			if (!is_group || !strcmp(only, groups[i].name))
				groups[i].run();
	return state_close(tap_passed, tap_failed);
}
