/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <elisa/layout.h>
#include "tinyvm.h"
#include "tinyvm_guest.h"

#define PAGE		4096ul
/* Guest-physical places that are nobody else's business; the public ones are in tinyvm.h. */
#define GPA_GDT		0x1000
#define GPA_IDT		0x2000
#define GPA_HANDLERS	0x3000
#define GPA_TSS(v)	(0x4000 + (v) * 0x100ul)
#define GPA_KSTACK(v)	(0x8000 + (v) * PAGE)
#define GPA_TABLES	0x10000
#define GPA_TABLES_END	TVM_GPA_GATE
#define GPA_USTACK(v)	(TVM_GPA_CODE - (v) * 0x2000ul)

#define SEL_CODE0	0x08
#define SEL_DATA0	0x10
#define SEL_DATA3	0x1b
#define SEL_CODE3	0x23
#define SEL_TSS(v)	(0x30 + (v) * 16)

#define RFLAGS_ONE	(1ul << 1)
#define RFLAGS_IF	(1ul << 9)
#define RFLAGS_IOPL3	(3ul << 12)

/* SDM vol. 3, 2.5 and 2.2.1. */
#define CR0_RUN		0x80050033ul		/* PG AM WP NE ET MP PE */
#define CR4_RUN		0x6a0ul			/* PAE PGE OSFXSR OSXMMEXCPT */
#define CR4_FSGSBASE	(1ul << 16)
#define CR4_OSXSAVE	(1ul << 18)
#define CR4_SMEP	(1ul << 20)
#define CR4_SMAP	(1ul << 21)
#define EFER_RUN	0xd01ul			/* NXE LMA LME SCE */
#define APIC_BASE	0xfee00d00ul		/* x2APIC, enabled, BSP */
#define APIC_BASE_BSP	0x100ul

/* APIC registers in struct kvm_lapic_state: SDM vol. 3, table 11-1. */
#define APIC_SVR	0xf0
#define APIC_ISR	0x100
#define APIC_TMR	0x180
#define APIC_IRR	0x200
#define APIC_LVTT	0x320
#define APIC_TMICT	0x380
#define APIC_TDCR	0x3e0
#define TIMER_VECTOR	32

#define MAX_CPUID	128

struct tinyvm {
	int kvm, fd;
	unsigned int vcpus;
	bool irqchip, apic_used;
	uint8_t *ram, *extra;
	uint64_t ram_len, extra_gpa, extra_len;
	uint64_t next_table;
	uint64_t cr4;
	bool xsave;
	size_t run_len;
	struct {
		int fd;
		struct kvm_run *run;
	} vcpu[TVM_MAX_VCPUS];
};

/* ---- guest memory ---- */

void *tvm_mem(const struct tinyvm *vm, uint64_t gpa)
{
	if (gpa < vm->ram_len)
		return vm->ram + gpa;
	if (gpa >= vm->extra_gpa && gpa - vm->extra_gpa < vm->extra_len)
		return vm->extra + (gpa - vm->extra_gpa);
	return NULL;
}

int tvm_load(struct tinyvm *vm, uint64_t gpa, const void *from, size_t len)
{
	if (gpa > vm->ram_len || len > vm->ram_len - gpa)
		return -ERANGE;
	memcpy(vm->ram + gpa, from, len);
	return 0;
}

uint64_t tvm_cr3(const struct tinyvm *vm)
{
	(void)vm;
	return GPA_TABLES;
}

/* The entry for `va` at the last level; makes the tables on the way if `make`. */
static uint64_t *walk(const struct tinyvm *vm, uint64_t va, uint64_t *next_table)
{
	uint64_t table = GPA_TABLES;

	for (int level = 3; level > 0; level--) {
		uint64_t *e = (uint64_t *)(vm->ram + table) + ((va >> (12 + 9 * level)) & 511);

		if (!(*e & TVM_PTE_P)) {
			if (!next_table || *next_table >= GPA_TABLES_END)
				return NULL;
			*e = *next_table | TVM_PTE_P | TVM_PTE_W | TVM_PTE_U;
			*next_table += PAGE;
		}
		table = *e & ~(PAGE - 1);
	}
	return (uint64_t *)(vm->ram + table) + ((va >> 12) & 511);
}

uint64_t *tvm_pte(const struct tinyvm *vm, uint64_t va)
{
	return walk(vm, va, NULL);
}

static int map_range(struct tinyvm *vm, uint64_t va, uint64_t gpa, uint64_t len, uint64_t flags)
{
	for (uint64_t off = 0; off < len; off += PAGE) {
		uint64_t *pte = walk(vm, va + off, &vm->next_table);

		if (!pte)
			return -ENOSPC;
		*pte = (gpa + off) | flags | 0x60;	/* accessed, dirty */
	}
	return 0;
}

int tvm_map(struct tinyvm *vm, uint64_t va, uint64_t gpa, uint64_t flags)
{
	return map_range(vm, va, gpa, PAGE, flags);
}

static int build_tables(struct tinyvm *vm)
{
	const uint64_t kernel = TVM_PTE_P | TVM_PTE_W, user = kernel | TVM_PTE_U;
	int err;

	vm->next_table = GPA_TABLES + PAGE;
	err = map_range(vm, 0, 0, vm->ram_len, kernel);
	if (!err)
		err = map_range(vm, TVM_USER_BASE, 0, vm->ram_len, user);
	if (!err)
		err = map_range(vm, ELISA_GATE_VA - PAGE, TVM_GPA_GATE, TVM_GATE_PAGES * PAGE,
				user);
	return err;
}

static void put64(struct tinyvm *vm, uint64_t gpa, uint64_t value)
{
	memcpy(vm->ram + gpa, &value, sizeof(value));
}

void tvm_set_handler(struct tinyvm *vm, unsigned int vector, uint64_t handler)
{
	/* 64-bit interrupt gate, present, DPL 3 so that INT n of ring 3 is reported as such. */
	put64(vm, GPA_IDT + vector * 16, (handler & 0xffff) | (uint64_t)SEL_CODE0 << 16 |
	      0xee00ull << 32 | (handler >> 16 & 0xffff) << 48);
	put64(vm, GPA_IDT + vector * 16 + 8, handler >> 32);
}

/* SDM vol. 3, 3.4.5 and 7.7: flat 64-bit segments and a TSS that names the ring 0 stack. */
static void build_descriptors(struct tinyvm *vm)
{
	extern const char tvm_guest_start[], tvm_guest_end[];

	put64(vm, GPA_GDT + SEL_CODE0, 0x00af9b000000ffff);
	put64(vm, GPA_GDT + SEL_DATA0, 0x00cf93000000ffff);
	put64(vm, GPA_GDT + (SEL_DATA3 & ~7), 0x00cff3000000ffff);
	put64(vm, GPA_GDT + (SEL_CODE3 & ~7), 0x00affb000000ffff);
	for (unsigned int v = 0; v < TVM_MAX_VCPUS; v++) {
		uint64_t base = GPA_TSS(v);

		put64(vm, GPA_GDT + SEL_TSS(v),
		      0x67 | (base & 0xffffff) << 16 | 0x8bull << 40 | (base >> 24) << 56);
		put64(vm, base + 4, GPA_KSTACK(v) + PAGE);
	}
	memcpy(vm->ram + GPA_HANDLERS, tvm_guest_start, (size_t)(tvm_guest_end - tvm_guest_start));
	for (unsigned int i = 0; i < 256; i++)
		tvm_set_handler(vm, i, GPA_HANDLERS + (i < 32 ? i * TVM_STUB_SIZE : TVM_IRQ_STUB));
}

static int map_ram(const struct tvm_config *config, int fd, uint64_t len, uint8_t **addr)
{
	bool private = config->flags & TVM_PRIVATE_RAM, own = fd <= 0;
	void *p;

	if (private) {
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	} else {
		if (own)
			fd = memfd_create("tinyvm", MFD_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (ftruncate(fd, (off_t)len))
			p = MAP_FAILED;
		else
			p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	}
	if (p == MAP_FAILED) {
		int err = -errno;

		if (!private && own)
			close(fd);
		return err;
	}
	/* The file lives on by its mapping, as with a VMM that closes its descriptor. */
	if (!private && own)
		close(fd);
	*addr = p;
	return 0;
}

static int add_slot(struct tinyvm *vm, uint32_t id, uint64_t gpa, uint64_t len, void *addr)
{
	struct kvm_userspace_memory_region r = {
		.slot = id,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)addr,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r) ? -errno : 0;
}

static int create_ram(struct tinyvm *vm, const struct tvm_config *config)
{
	uint64_t len = config->ram ? config->ram : TVM_RAM_DEFAULT;
	int err;

	if (len < TVM_RAM_MIN || len > TVM_RAM_MAX || len % PAGE || config->extra % PAGE)
		return -EINVAL;
	err = map_ram(config, config->ram_fd, len, &vm->ram);
	if (err)
		return err;
	vm->ram_len = len;
	err = build_tables(vm);
	if (err)
		return err;
	build_descriptors(vm);
	memset(vm->ram + TVM_GPA_GATE, 0xcc, TVM_GATE_PAGES * PAGE);
	err = add_slot(vm, 0, 0, len, vm->ram);
	if (err || !config->extra)
		return err;
	err = map_ram(config, -1, config->extra, &vm->extra);
	if (err)
		return err;
	vm->extra_gpa = config->extra_gpa;
	vm->extra_len = config->extra;
	return add_slot(vm, 1, config->extra_gpa, config->extra, vm->extra);
}

/* ---- CPUID ---- */

/* What an attached VM must not see: SDM vol. 2, CPUID. */
static const struct tvm_cpuid hidden[] = {
	{ 1, 0, TVM_ECX, 1u << 2 | 1u << 5 | 1u << 15 | 1u << 17, 0 },	/* DTES64 VMX PDCM PCID */
	{ 1, 0, TVM_EDX, 1u << 21, 0 },					/* DS */
	{ 7, 0, TVM_EBX, 1u << 4 | 1u << 11 | 1u << 25, 0 },		/* HLE RTM PT */
	{ 7, 0, TVM_ECX, 1u << 3 | 1u << 4 | 1u << 7 | 1u << 16, 0 },	/* PKU OSPKE SHSTK LA57 */
	{ 7, 0, TVM_EDX, 1u << 5 | 1u << 19 | 1u << 20, 0 },		/* UINTR ARCH_LBR IBT */
	{ 0xa, 0, TVM_EAX, ~0u, 0 },
	{ 0xa, 0, TVM_EBX, ~0u, 0 },
	{ 0xa, 0, TVM_ECX, ~0u, 0 },
	{ 0xa, 0, TVM_EDX, ~0u, 0 },
};

struct cpuid_list {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[MAX_CPUID];
};

static struct kvm_cpuid_entry2 *find_leaf(struct cpuid_list *list, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < list->head.nent; i++)
		if (list->entries[i].function == leaf && list->entries[i].index == subleaf)
			return &list->entries[i];
	return NULL;
}

static int edit_cpuid(struct cpuid_list *list, const struct tvm_cpuid *edit)
{
	struct kvm_cpuid_entry2 *e = find_leaf(list, edit->leaf, edit->subleaf);
	uint32_t *reg;

	if (!e) {
		if (!edit->set)
			return 0;
		if (list->head.nent == MAX_CPUID)
			return -ENOSPC;
		e = &list->entries[list->head.nent++];
		*e = (struct kvm_cpuid_entry2){ .function = edit->leaf, .index = edit->subleaf };
	}
	switch (edit->reg) {
	case TVM_EAX:
		reg = &e->eax;
		break;
	case TVM_EBX:
		reg = &e->ebx;
		break;
	case TVM_ECX:
		reg = &e->ecx;
		break;
	default:
		reg = &e->edx;
		break;
	}
	*reg = (*reg & ~edit->clear) | edit->set;
	return 0;
}

/* KVM refuses CR4 bits whose feature the guest does not have. */
static uint64_t cr4_for(struct cpuid_list *list, bool *xsave)
{
	const struct kvm_cpuid_entry2 *one = find_leaf(list, 1, 0), *seven = find_leaf(list, 7, 0);
	uint64_t cr4 = CR4_RUN;

	*xsave = one && one->ecx & 1u << 26 && one->ecx & 1u << 28;
	if (*xsave)
		cr4 |= CR4_OSXSAVE;
	if (seven && seven->ebx & 1u << 0)
		cr4 |= CR4_FSGSBASE;
	if (seven && seven->ebx & 1u << 7)
		cr4 |= CR4_SMEP;
	if (seven && seven->ebx & 1u << 20)
		cr4 |= CR4_SMAP;
	return cr4;
}

static int build_cpuid(struct tinyvm *vm, const struct tvm_config *config, struct cpuid_list *list)
{
	int err = 0;

	if (config->cpuids > TVM_MAX_CPUID)
		return -EINVAL;
	list->head.nent = MAX_CPUID;
	if (ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, &list->head))
		return -errno;
	if (!(config->flags & TVM_ALL_CPUID))
		for (size_t i = 0; !err && i < sizeof(hidden) / sizeof(*hidden); i++)
			err = edit_cpuid(list, &hidden[i]);
	for (uint32_t i = 0; !err && i < config->cpuids; i++)
		err = edit_cpuid(list, &config->cpuid[i]);
	vm->cr4 = cr4_for(list, &vm->xsave);
	return err;
}

/* ---- vCPUs ---- */

static int create_vcpu(struct tinyvm *vm, unsigned int v, const struct cpuid_list *list)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	void *run;
	int fd = ioctl(vm->fd, KVM_CREATE_VCPU, (unsigned long)v);

	if (fd < 0)
		return -errno;
	vm->vcpu[v].fd = fd;
	vm->vcpus = v + 1;
	run = mmap(NULL, vm->run_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (run == MAP_FAILED)
		return -errno;
	vm->vcpu[v].run = run;
	if (ioctl(fd, KVM_SET_CPUID2, &list->head))
		return -errno;
	if (vm->irqchip && ioctl(fd, KVM_SET_MP_STATE, &mp))
		return -errno;
	return 0;
}

static int create_vcpus(struct tinyvm *vm, const struct tvm_config *config)
{
	struct cpuid_list *list;
	int err;

	if (config->vcpus > TVM_MAX_VCPUS)
		return -EINVAL;
	list = calloc(1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	err = build_cpuid(vm, config, list);
	for (unsigned int v = 0; !err && v < config->vcpus; v++)
		err = create_vcpu(vm, v, list);
	free(list);
	return err;
}

static int open_kvm(struct tinyvm *vm)
{
	int len;

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return -errno;
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0ul);
	if (vm->fd < 0)
		return -errno;
	/* Only used by hosts without unrestricted guest: two places that no RAM of ours covers. */
	ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	len = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0ul);
	if (len < 0)
		return -errno;
	vm->run_len = (size_t)len;
	return 0;
}

/* Before there are vCPUs; 4096 entries. */
static int make_dirty_ring(struct tinyvm *vm)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { 65536 } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &cap) ? -errno : 0;
}

int tvm_create(const struct tvm_config *config, struct tinyvm **out)
{
	struct tinyvm *vm = calloc(1, sizeof(*vm));
	int err;

	if (!vm)
		return -ENOMEM;
	vm->kvm = vm->fd = -1;
	err = open_kvm(vm);
	if (err)
		goto fail;
	if (config->flags & TVM_DIRTY_RING)
		err = make_dirty_ring(vm);
	if (err)
		goto fail;
	if (!(config->flags & TVM_NO_IRQCHIP)) {
		if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0ul)) {
			err = -errno;
			goto fail;
		}
		vm->irqchip = true;
	}
	err = create_ram(vm, config);
	if (!err)
		err = create_vcpus(vm, config);
	for (unsigned int v = 0; !err && v < vm->vcpus; v++)
		err = tvm_reset(vm, v, 3, &(struct kvm_regs){ .rip = TVM_USER(TVM_GPA_CODE) });
	if (err)
		goto fail;
	*out = vm;
	return 0;
fail:
	tvm_destroy(vm);
	return err;
}

void tvm_destroy(struct tinyvm *vm)
{
	if (!vm)
		return;
	for (unsigned int v = 0; v < vm->vcpus; v++) {
		if (vm->vcpu[v].run)
			munmap(vm->vcpu[v].run, vm->run_len);
		close(vm->vcpu[v].fd);
	}
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->kvm >= 0)
		close(vm->kvm);
	if (vm->ram)
		munmap(vm->ram, vm->ram_len);
	if (vm->extra)
		munmap(vm->extra, vm->extra_len);
	free(vm);
}

int tvm_fd(const struct tinyvm *vm)
{
	return vm->fd;
}

int tvm_vcpu_fd(const struct tinyvm *vm, unsigned int vcpu)
{
	return vcpu < vm->vcpus ? vm->vcpu[vcpu].fd : -EINVAL;
}

/* ---- registers ---- */

int tvm_regs(struct tinyvm *vm, unsigned int vcpu, struct kvm_regs *regs)
{
	return ioctl(vm->vcpu[vcpu].fd, KVM_GET_REGS, regs) ? -errno : 0;
}

int tvm_set_regs(struct tinyvm *vm, unsigned int vcpu, const struct kvm_regs *regs)
{
	return ioctl(vm->vcpu[vcpu].fd, KVM_SET_REGS, regs) ? -errno : 0;
}

int tvm_sregs(struct tinyvm *vm, unsigned int vcpu, struct kvm_sregs *sregs)
{
	return ioctl(vm->vcpu[vcpu].fd, KVM_GET_SREGS, sregs) ? -errno : 0;
}

int tvm_set_sregs(struct tinyvm *vm, unsigned int vcpu, const struct kvm_sregs *sregs)
{
	return ioctl(vm->vcpu[vcpu].fd, KVM_SET_SREGS, sregs) ? -errno : 0;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1,
		.dpl = selector & 3, .s = 1, .l = code, .db = !code, .g = 1,
	};
}

static void start_sregs(const struct tinyvm *vm, unsigned int v, unsigned int ring,
			struct kvm_sregs *s)
{
	uint64_t apic_base = vm->irqchip ? APIC_BASE : s->apic_base;

	if (v)
		apic_base &= ~APIC_BASE_BSP;
	*s = (struct kvm_sregs){
		.cs = segment(ring ? SEL_CODE3 : SEL_CODE0, 0xb, true),
		.ss = segment(ring ? SEL_DATA3 : SEL_DATA0, 0x3, false),
		.tr = {
			.base = GPA_TSS(v), .limit = 0x67, .selector = (uint16_t)SEL_TSS(v),
			.type = 0xb, .present = 1,
		},
		.ldt = { .unusable = 1 },
		.gdt = { .base = GPA_GDT, .limit = SEL_TSS(TVM_MAX_VCPUS) - 1 },
		.idt = { .base = GPA_IDT, .limit = 256 * 16 - 1 },
		.cr0 = CR0_RUN, .cr3 = GPA_TABLES, .cr4 = vm->cr4, .efer = EFER_RUN,
		.apic_base = apic_base,
	};
	s->ds = s->es = s->fs = s->gs = s->ss;
}

/* An interrupt whose handler was cut short would block the next ones. */
static int drop_apic_events(struct tinyvm *vm, unsigned int v)
{
	struct kvm_lapic_state apic;

	if (ioctl(vm->vcpu[v].fd, KVM_GET_LAPIC, &apic))
		return -errno;
	memset(apic.regs + APIC_ISR, 0, APIC_TMR - APIC_ISR);
	memset(apic.regs + APIC_IRR, 0, APIC_TMR - APIC_ISR);
	return ioctl(vm->vcpu[v].fd, KVM_SET_LAPIC, &apic) ? -errno : 0;
}

int tvm_reset(struct tinyvm *vm, unsigned int v, unsigned int ring, const struct kvm_regs *regs)
{
	struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = 7 } } };
	struct kvm_regs r = *regs;
	struct kvm_sregs s;
	int fd = tvm_vcpu_fd(vm, v), err;

	if (fd < 0)
		return fd;
	err = tvm_sregs(vm, v, &s);
	if (err)
		return err;
	start_sregs(vm, v, ring, &s);
	if (!r.rsp)
		r.rsp = (ring ? TVM_USER(GPA_USTACK(v)) : GPA_KSTACK(v) + PAGE) - 8;
	r.rflags |= RFLAGS_ONE | RFLAGS_IF | RFLAGS_IOPL3;
	err = tvm_set_sregs(vm, v, &s);
	if (!err)
		err = tvm_set_regs(vm, v, &r);
	if (!err && ioctl(fd, KVM_SET_VCPU_EVENTS, &events))
		err = -errno;
	if (!err && vm->xsave && ioctl(fd, KVM_SET_XCRS, &xcrs))
		err = -errno;
	if (!err && vm->apic_used)
		err = drop_apic_events(vm, v);
	return err;
}

/* Offsets in the XSAVE area: SDM vol. 1, 13.4. */
#define XSAVE_MXCSR	24
#define XSAVE_XMM	160
#define XSAVE_BV	512
#define XSAVE_YMM	576

int tvm_vectors(struct tinyvm *vm, unsigned int vcpu, struct tvm_vectors *vectors)
{
	struct kvm_xsave x;
	const uint8_t *p = (const uint8_t *)x.region;

	if (ioctl(vm->vcpu[vcpu].fd, KVM_GET_XSAVE, &x))
		return -errno;
	for (int i = 0; i < 16; i++) {
		memcpy(vectors->ymm[i], p + XSAVE_XMM + 16 * i, 16);
		memcpy(vectors->ymm[i] + 16, p + XSAVE_YMM + 16 * i, 16);
	}
	return 0;
}

int tvm_set_vectors(struct tinyvm *vm, unsigned int vcpu, const struct tvm_vectors *vectors)
{
	struct kvm_xsave x;
	uint8_t *p = (uint8_t *)x.region;
	const uint32_t mxcsr = 0x1f80;

	if (ioctl(vm->vcpu[vcpu].fd, KVM_GET_XSAVE, &x))
		return -errno;
	for (int i = 0; i < 16; i++) {
		memcpy(p + XSAVE_XMM + 16 * i, vectors->ymm[i], 16);
		memcpy(p + XSAVE_YMM + 16 * i, vectors->ymm[i] + 16, 16);
	}
	memcpy(p + XSAVE_MXCSR, &mxcsr, sizeof(mxcsr));
	p[XSAVE_BV] |= 6;
	return ioctl(vm->vcpu[vcpu].fd, KVM_SET_XSAVE, &x) ? -errno : 0;
}

/* ---- running ---- */

/* KVM finishes an OUT or MMIO access (steps over the instruction) on the next entry only. */
static int finish_io(struct tinyvm *vm, unsigned int v)
{
	struct kvm_run *run = vm->vcpu[v].run;
	int r, err = 0;

	run->immediate_exit = 1;
	r = ioctl(vm->vcpu[v].fd, KVM_RUN, 0ul);
	if (!r || errno != EINTR)
		err = r ? -errno : -EPROTO;
	run->immediate_exit = 0;
	return err;
}

static int exception_frame(struct tinyvm *vm, unsigned int v, struct tvm_stop *stop)
{
	struct kvm_regs regs;
	uint64_t frame[7];
	int err = tvm_regs(vm, v, &regs);

	if (err)
		return err;
	if (regs.rsp > vm->ram_len - sizeof(frame))
		return -EFAULT;
	memcpy(frame, vm->ram + regs.rsp, sizeof(frame));
	stop->why = TVM_EXCEPTION;
	stop->vector = (uint8_t)frame[0];
	stop->error = frame[1];
	stop->rip = frame[2];
	stop->cs = frame[3];
	stop->rsp = frame[5];
	return 0;
}

static int stop_io(struct tinyvm *vm, unsigned int v, struct tvm_stop *stop)
{
	const struct kvm_run *run = vm->vcpu[v].run;
	uint32_t value = 0;
	int err;

	memcpy(&value, (const uint8_t *)run + run->io.data_offset,
	       run->io.size < 4 ? run->io.size : 4);
	stop->port = run->io.port;
	stop->value = value;
	stop->why = TVM_OUT;
	err = finish_io(vm, v);
	if (!err && stop->port == TVM_PORT_EXCEPTION)
		err = exception_frame(vm, v, stop);
	return err;
}

int tvm_run(struct tinyvm *vm, unsigned int v, struct tvm_stop *stop)
{
	struct kvm_run *run = vm->vcpu[v].run;

	memset(stop, 0, sizeof(*stop));
	do {
		if (!ioctl(vm->vcpu[v].fd, KVM_RUN, 0ul))
			break;
		if (errno == EINTR) {
			run->immediate_exit = 0;
			stop->why = TVM_INTERRUPTED;
			return 0;
		}
	} while (errno == EAGAIN);
	stop->kvm_reason = run->exit_reason;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return stop_io(vm, v, stop);
	case KVM_EXIT_HLT:
		stop->why = TVM_HLT;
		return 0;
	case KVM_EXIT_SHUTDOWN:
		stop->why = TVM_SHUTDOWN;
		return 0;
	case KVM_EXIT_MMIO:
		stop->why = TVM_MMIO;
		stop->address = run->mmio.phys_addr;
		return finish_io(vm, v);
	case KVM_EXIT_INTERNAL_ERROR:
		stop->value = run->internal.suberror;
		break;
	case KVM_EXIT_FAIL_ENTRY:
		stop->value = run->fail_entry.hardware_entry_failure_reason;
		break;
	}
	stop->why = TVM_FAIL;
	return 0;
}

const char *tvm_why_name(enum tvm_why why)
{
	static const char *const names[] = {
		[TVM_OUT] = "out", [TVM_EXCEPTION] = "exception", [TVM_HLT] = "hlt",
		[TVM_SHUTDOWN] = "shutdown", [TVM_INTERRUPTED] = "interrupted",
		[TVM_MMIO] = "mmio", [TVM_FAIL] = "fail",
	};

	return why <= TVM_FAIL ? names[why] : "?";
}

void tvm_interrupt_run(struct tinyvm *vm, unsigned int vcpu)
{
	vm->vcpu[vcpu].run->immediate_exit = 1;
}

/* ---- interrupts ---- */

static void apic_put(struct kvm_lapic_state *apic, unsigned int reg, uint32_t value)
{
	memcpy(apic->regs + reg, &value, sizeof(value));
}

static int enable_apic(struct tinyvm *vm, unsigned int v, uint32_t lvtt, uint32_t count)
{
	struct kvm_lapic_state apic;

	if (!vm->irqchip)
		return -EOPNOTSUPP;
	if (ioctl(vm->vcpu[v].fd, KVM_GET_LAPIC, &apic))
		return -errno;
	apic_put(&apic, APIC_SVR, 0x1ff);
	apic_put(&apic, APIC_LVTT, lvtt);
	apic_put(&apic, APIC_TDCR, 0xb);	/* divide by 1: KVM's APIC clock is 1 GHz */
	apic_put(&apic, APIC_TMICT, count);
	vm->apic_used = true;
	return ioctl(vm->vcpu[v].fd, KVM_SET_LAPIC, &apic) ? -errno : 0;
}

int tvm_timer(struct tinyvm *vm, unsigned int vcpu, uint32_t period_ns)
{
	return enable_apic(vm, vcpu, period_ns ? 1u << 17 | TIMER_VECTOR : 1u << 16, period_ns);
}

static int send_msi(struct tinyvm *vm, unsigned int vcpu, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = 0xfee00000 | vcpu << 12, .data = data };

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

int tvm_send_interrupt(struct tinyvm *vm, unsigned int vcpu, uint8_t vector)
{
	return send_msi(vm, vcpu, vector);
}

int tvm_send_nmi(struct tinyvm *vm, unsigned int vcpu)
{
	return send_msi(vm, vcpu, 4u << 8);
}

static uint64_t counter(const struct tinyvm *vm, unsigned int vcpu, unsigned int offset)
{
	const volatile uint64_t *p = (const void *)(vm->ram + GPA_KSTACK(vcpu) + offset);

	return *p;
}

uint64_t tvm_interrupts(const struct tinyvm *vm, unsigned int vcpu)
{
	return counter(vm, vcpu, TVM_COUNT_IRQ);
}

uint64_t tvm_nmis(const struct tinyvm *vm, unsigned int vcpu)
{
	return counter(vm, vcpu, TVM_COUNT_NMI);
}
