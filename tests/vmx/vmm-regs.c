/* SPDX-License-Identifier: BSD-3-Clause */
/* Registers of every kind, set by the monitor while the vCPU is stopped inside. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "programs.h"
#include "vmm.h"

/* ---- general registers ---- */

/* A field of a structure, and what is XORed to it. */
struct flip {
	unsigned int offset, size;
	uint64_t by;
};

static void flip(void *structure, const struct flip *f)
{
	uint8_t *at = (uint8_t *)structure + f->offset;
	uint64_t v = 0;

	memcpy(&v, at, f->size);
	v ^= f->by;
	memcpy(at, &v, f->size);
}

static int set_regs(const void *arg)
{
	struct kvm_regs r;

	tvm_regs(vm, 0, &r);
	flip(&r, arg);
	return tvm_set_regs(vm, 0, &r);
}

/* The same by the page that KVM shares with the monitor: KVM_CAP_SYNC_REGS. */
static int sync_regs(const void *arg)
{
	struct kvm_run *run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
				   tvm_vcpu_fd(vm, 0), 0);

	if (run == MAP_FAILED)
		return -errno;
	tvm_regs(vm, 0, &run->s.regs.regs);
	flip(&run->s.regs.regs, arg);
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	munmap(run, 4096);
	return 0;
}

void test_registers(void)
{
	static const uint8_t flags[] = { 0, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 21 };
	struct group g = { .name = "vmm-all-registers: general" };
	char what[64];

	for (unsigned int i = 0; i < offsetof(struct kvm_regs, rflags) / 8; i++) {
		const uint64_t by[] = { 1, ~0ull, 1ull << 63, 8 };

		snprintf(what, sizeof(what), "register %u of struct kvm_regs", i);
		for (unsigned int j = 0; j < 4; j++)
			try_inside(&g, what, set_regs, &(struct flip){ i * 8, 8, by[j] }, TOUCHED);
		try_inside(&g, what, sync_regs, &(struct flip){ i * 8, 8, 16 }, TOUCHED);
	}
	for (unsigned int i = 0; i < sizeof(flags); i++) {
		snprintf(what, sizeof(what), "bit %u of RFLAGS", flags[i]);
		try_inside(&g, what, set_regs,
			   &(struct flip){ offsetof(struct kvm_regs, rflags), 8, 1ull << flags[i] },
			   TOUCHED);
	}
	group_end(&g);
}

/* ---- system registers ---- */

/* What decides where trusted code runs, and with what rights: a change is not to go unnoticed. */
static bool decides(const struct kvm_sregs *a, const struct kvm_sregs *b)
{
	/* ET is fixed; CD and NW are KVM's own in the VMCS, and so are MCE and an emulated UMIP. */
	const uint64_t cr0 = a->cr0 ^ b->cr0, other = 1u << 4 | 1u << 5 | 1u << 29 | 1u << 30;

	return (cr0 & ~other) || a->cr3 != b->cr3 || ((a->cr4 ^ b->cr4) & ~(1u << 6 | 1u << 11)) ||
	       a->efer != b->efer || a->cs.base != b->cs.base ||
	       a->cs.selector != b->cs.selector || a->cs.type != b->cs.type ||
	       a->cs.present != b->cs.present || a->cs.dpl != b->cs.dpl || a->cs.db != b->cs.db ||
	       a->cs.s != b->cs.s || a->cs.l != b->cs.l || a->fs.base != b->fs.base;
}

static bool decisive;

static int set_sregs(const void *arg)
{
	struct kvm_sregs before, s, after;
	int rc;

	decisive = false;
	tvm_sregs(vm, 0, &before);
	s = before;
	flip(&s, arg);
	rc = tvm_set_sregs(vm, 0, &s);
	tvm_sregs(vm, 0, &after);
	decisive = decides(&before, &after);
	return rc;
}

static void try_sregs(struct group *g, const char *what, unsigned int offset, unsigned int size,
		      uint64_t by)
{
	const unsigned int noticed = TOUCHED | STATE | EXIT;
	struct flip f = { offset, size, by };

	try_inside(g, what, set_sregs, &f, noticed | GOES_ON | REFUSED | FAULT);
	/* The same once more, now that it is known whether it may pass. */
	if (decisive)
		try_inside(g, what, set_sregs, &f, noticed);
}

#define SREG(field)   offsetof(struct kvm_sregs, field), sizeof(((struct kvm_sregs *)0)->field)
#define SEG(field)    { #field, offsetof(struct kvm_segment, field), \
			sizeof(((struct kvm_segment *)0)->field) }

static void segments(struct group *g)
{
	static const struct {
		const char *name;
		unsigned int offset;
	} segs[] = {
		{ "CS", offsetof(struct kvm_sregs, cs) }, { "DS", offsetof(struct kvm_sregs, ds) },
		{ "ES", offsetof(struct kvm_sregs, es) }, { "FS", offsetof(struct kvm_sregs, fs) },
		{ "GS", offsetof(struct kvm_sregs, gs) }, { "SS", offsetof(struct kvm_sregs, ss) },
		{ "TR", offsetof(struct kvm_sregs, tr) }, { "LDT", offsetof(struct kvm_sregs, ldt) },
	};
	static const struct {
		const char *name;
		unsigned int offset, size;
	} fields[] = { SEG(base), SEG(limit), SEG(selector), SEG(type), SEG(present), SEG(dpl),
		       SEG(db), SEG(s), SEG(l), SEG(g), SEG(avl), SEG(unusable) };
	char what[64];

	for (unsigned int i = 0; i < sizeof(segs) / sizeof(*segs); i++)
		for (unsigned int j = 0; j < sizeof(fields) / sizeof(*fields); j++) {
			/* Bases and limits by a page, all else by its lowest bits. */
			uint64_t by = j < 2 ? 0x1000 : j == 5 ? 3 : 1;

			snprintf(what, sizeof(what), "%s.%s", segs[i].name, fields[j].name);
			try_sregs(g, what, segs[i].offset + fields[j].offset, fields[j].size, by);
		}
}

static void bits_of(struct group *g, const char *name, unsigned int offset, unsigned int size,
		    unsigned int bits)
{
	char what[64];

	for (unsigned int i = 0; i < bits; i++) {
		snprintf(what, sizeof(what), "bit %u of %s", i, name);
		try_sregs(g, what, offset, size, 1ull << i);
	}
}

void test_system_registers(void)
{
	static const uint8_t cr3[] = { 0, 3, 12, 20, 38, 39, 51, 63 };
	struct group g = { .name = "vmm-all-registers: system" };

	segments(&g);
	bits_of(&g, "CR0", SREG(cr0), 32);
	bits_of(&g, "CR4", SREG(cr4), 25);
	bits_of(&g, "EFER", SREG(efer), 16);
	for (unsigned int i = 0; i < sizeof(cr3); i++)
		try_sregs(&g, "CR3", SREG(cr3), 1ull << cr3[i]);
	bits_of(&g, "CR8", SREG(cr8), 5);
	bits_of(&g, "the APIC's base", SREG(apic_base), 16);
	try_sregs(&g, "CR2", SREG(cr2), ~0ull);
	try_sregs(&g, "GDT base", SREG(gdt.base), ELISA_GATE_VA);
	try_sregs(&g, "GDT limit", SREG(gdt.limit), 0xffff);
	try_sregs(&g, "IDT base", SREG(idt.base), ELISA_LIST_VA);
	try_sregs(&g, "IDT limit", SREG(idt.limit), 0xffff);
	for (unsigned int i = 0; i < 256; i += 15)
		try_sregs(&g, "interrupt bitmap",
			  offsetof(struct kvm_sregs, interrupt_bitmap) + i / 64 * 8, 8,
			  1ull << i % 64);
	group_end(&g);
}

/* ---- vectors ---- */

static int set_xsave(const void *arg)
{
	const unsigned int *seed = arg;
	struct kvm_xsave x;
	uint64_t *legacy = (uint64_t *)(void *)x.region, *ymm = legacy + 576 / 8;
	unsigned int state = *seed;

	vcpu_ioctl(KVM_GET_XSAVE, &x);
	/* XMM registers are at 160, the upper halves at 576, what is valid at 512: SDM 1, 13.4. */
	for (unsigned int i = 20; i < 52; i++)
		legacy[i] = state ? (uint64_t)rand_r(&state) << 33 | (uint64_t)rand_r(&state) : ~0ull;
	for (unsigned int i = 0; i < 32; i++)
		ymm[i] = state ? (uint64_t)rand_r(&state) << 33 : ~0ull;
	legacy[64] |= 7;
	return vcpu_ioctl(KVM_SET_XSAVE, &x);
}

static int set_fpu(const void *arg)
{
	struct kvm_fpu f;

	(void)arg;
	vcpu_ioctl(KVM_GET_FPU, &f);
	memset(f.xmm, 0xee, sizeof(f.xmm));
	memset(f.fpr, 0xee, sizeof(f.fpr));
	f.mxcsr = 0;	/* every exception of SSE unmasked */
	f.fcw = 0;
	return vcpu_ioctl(KVM_SET_FPU, &f);
}

static int set_xcr0(const void *arg)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs = { { .value = *(const uint64_t *)arg } } };

	return vcpu_ioctl(KVM_SET_XCRS, &x);
}

void test_vectors(unsigned int tries)
{
	struct group g = { .name = "vmm-vectors: registers" };
	const uint64_t xcr0[] = { 1, 3, 7, 0, 5, 0xe7, ~0ull };

	for (unsigned int i = 0; i < tries; i++)
		try_inside(&g, "KVM_SET_XSAVE", set_xsave, &i, GOES_ON);
	for (unsigned int i = 0; i < 10; i++)
		try_inside(&g, "KVM_SET_FPU", set_fpu, NULL, GOES_ON);
	for (unsigned int i = 0; i < sizeof(xcr0) / sizeof(*xcr0); i++)
		try_inside(&g, "XCR0", set_xcr0, &xcr0[i],
			   xcr0[i] == 7 ? GOES_ON : (xcr0[i] & 6) == 6 ? GOES_ON | REFUSED
								       : STATE | REFUSED);
	group_end(&g);
}

/* ---- MSRs ---- */

#define MSR_EFER    0xc0000080
#define MSR_FS_BASE 0xc0000100
#define MSRS_MAX    512

struct msr {
	uint32_t index;
	uint64_t value;
};

static int set_msr(const void *arg)
{
	const struct msr *m = arg;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = m->index, .data = m->value } };
	int n = ioctl(tvm_vcpu_fd(vm, 0), KVM_SET_MSRS, &msrs);

	return n == 1 ? 0 : -EINVAL;
}

/* 0 if KVM does not tell. */
static uint64_t get_msr(uint32_t index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry.index = index };

	return ioctl(tvm_vcpu_fd(vm, 0), KVM_GET_MSRS, &msrs) == 1 ? msrs.entry.data : 0;
}

static int all_msrs(struct kvm_msr_list *list)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), rc;

	list->nmsrs = MSRS_MAX;
	rc = kvm < 0 || ioctl(kvm, KVM_GET_MSR_INDEX_LIST, list) ? -errno : 0;
	close(kvm);
	return rc;
}

void test_msrs(void)
{
	static struct {
		struct kvm_msr_list head;
		uint32_t index[MSRS_MAX];
	} list;
	const uint64_t values[] = { 0, ~0ull, (uintptr_t)host.arena };
	struct group g = { .name = "vmm-all-registers: MSRs" };
	char what[64];

	if (all_msrs(&list.head))
		list.head.nmsrs = 0;
	for (unsigned int i = 0; i < list.head.nmsrs; i++)
		for (unsigned int j = 0; j < sizeof(values) / sizeof(*values); j++) {
			struct msr m = { list.head.indices[i], values[j] };
			const struct msr old = { m.index, get_msr(m.index) };
			unsigned int may = GOES_ON | REFUSED | TOUCHED | STATE | FAULT;

			snprintf(what, sizeof(what), "MSR 0x%x = 0x%lx", m.index, m.value);
			if (m.index == MSR_EFER || (m.index == MSR_FS_BASE && m.value))
				may = REFUSED | TOUCHED | STATE;
			try_inside(&g, what, set_msr, &m, may);
			set_msr(&old);
		}
	group_end(&g);
}
