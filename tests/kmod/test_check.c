/* SPDX-License-Identifier: BSD-3-Clause */
/* Every requirement of attach: good host, VM and guest pass; with one thing wrong they do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../../elisa-host/kmod/check.h"

static const struct elisa_host good_host = {
	.vmx = 1,
	.procbased2 = 1ull << 33 | 1ull << 37 | 1ull << 45,	/* EPT, VPID, VM functions */
	.vmfunc = 1,						/* EPTP switching */
	/* execute-only, 4 levels, WB, INVEPT single and all, INVVPID single */
	.ept_vpid = 1 | 1 << 6 | 1 << 14 | 1 << 20 | 1 << 25 | 1 << 26 | 1ull << 32 | 1ull << 41,
};

static const struct elisa_vm_facts good_vm = {
	.vcpus = 1, .irqchip = 1, .ram_end = 1ull << 39, .window_gpa = 1ull << 39,
};

static const struct elisa_cpuid good_cpuid = {
	.l1_ecx = 1u << 1 | 1u << 26 | 1u << 28,	/* PCLMULQDQ, XSAVE, AVX */
	.l7_ebx = 1u | 1u << 5 | 1u << 7 | 1u << 20,	/* FSGSBASE, AVX2, SMEP, SMAP */
	.ld_eax = 7,
	.ext1_edx = 1u << 29 | 1u << 20,	/* long mode, NX */
};

static void test_host(void **state)
{
	static const struct {
		uint32_t refusal;
		size_t offset;
		unsigned int bit;
	} row[] = {
		{ ELISA_REFUSE_HOST_NO_EPT, offsetof(struct elisa_host, procbased2), 33 },
		{ ELISA_REFUSE_HOST_NO_INVEPT, offsetof(struct elisa_host, procbased2), 37 },
		{ ELISA_REFUSE_HOST_NO_VMFUNC, offsetof(struct elisa_host, procbased2), 45 },
		{ ELISA_REFUSE_HOST_NO_VMFUNC, offsetof(struct elisa_host, vmfunc), 0 },
		{ ELISA_REFUSE_HOST_NO_EXEC_ONLY, offsetof(struct elisa_host, ept_vpid), 0 },
		{ ELISA_REFUSE_HOST_NO_EPT, offsetof(struct elisa_host, ept_vpid), 6 },
		{ ELISA_REFUSE_HOST_NO_EPT, offsetof(struct elisa_host, ept_vpid), 14 },
		{ ELISA_REFUSE_HOST_NO_INVEPT, offsetof(struct elisa_host, ept_vpid), 20 },
		{ ELISA_REFUSE_HOST_NO_INVEPT, offsetof(struct elisa_host, ept_vpid), 25 },
		{ ELISA_REFUSE_HOST_NO_INVEPT, offsetof(struct elisa_host, ept_vpid), 26 },
		{ ELISA_REFUSE_HOST_NO_INVEPT, offsetof(struct elisa_host, ept_vpid), 32 },
		{ ELISA_REFUSE_HOST_NO_INVEPT, offsetof(struct elisa_host, ept_vpid), 41 },
	};
	struct elisa_host host = good_host;
	__u64 detail;
	size_t i;

	assert_int_equal(elisa_check_host(&host, &detail), ELISA_REFUSE_NONE);
	host.vmx = 0;
	assert_int_equal(elisa_check_host(&host, &detail), ELISA_REFUSE_HOST_NO_VMX);
	for (i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		host = good_host;
		*(__u64 *)((char *)&host + row[i].offset) &= ~(1ull << row[i].bit);
		assert_int_equal(elisa_check_host(&host, &detail), row[i].refusal);
	}
}

static void test_bugs(void **state)
{
	struct elisa_host host = good_host;
	__u64 detail = 0;

	assert_int_equal(elisa_check_bugs(&host, 0, &detail), ELISA_REFUSE_NONE);
	host.bugs = ELISA_BUG_MDS | ELISA_BUG_TAA;
	assert_int_equal(elisa_check_bugs(&host, 0, &detail), ELISA_REFUSE_HOST_CPU_BUGS);
	assert_int_equal(detail, ELISA_BUG_MDS | ELISA_BUG_TAA);
	assert_int_equal(elisa_check_bugs(&host, ELISA_ATTACH_FORCE_CPU, &detail),
			 ELISA_REFUSE_NONE);
}

static void test_vm(void **state)
{
	struct elisa_vm_facts vm = good_vm;
	__u64 detail = 0;

	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_NONE);
	vm.dead = 1;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_VM_DEAD);
	vm = good_vm;
	vm.vcpus = 0;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_NO_VCPU);
	vm = good_vm;
	vm.irqchip = 0;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_NO_IRQCHIP);
	vm = good_vm;
	vm.shadow_paging = 1;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_HOST_NO_EPT);
	vm = good_vm;
	vm.logged = 1;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_LOGGED);
	vm = good_vm;
	vm.ram_end = good_vm.window_gpa + 1;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_RAM_IN_WINDOW);
	assert_true(detail == good_vm.window_gpa);
	vm.ram_top_gpa = good_vm.window_gpa + 0x10000;
	vm.ram_end = vm.ram_top_gpa + 0x1000;
	assert_int_equal(elisa_check_vm(&vm, &detail), ELISA_REFUSE_RAM_IN_WINDOW);
	assert_true(detail == vm.ram_top_gpa);
}

#define REG(name) offsetof(struct elisa_cpuid, name)

static void test_cpuid(void **state)
{
	/* One bit that differs from a good guest's, and what it is refused for. */
	static const struct {
		uint32_t refusal;
		size_t offset;
		unsigned int bit;
	} row[] = {
		{ ELISA_REFUSE_GUEST_PCID, REG(l1_ecx), 17 },
		{ ELISA_REFUSE_GUEST_VMX, REG(l1_ecx), 5 },
		{ ELISA_REFUSE_GUEST_PKU, REG(l7_ecx), 3 },
		{ ELISA_REFUSE_GUEST_PKU, REG(l7_ecx), 31 },
		{ ELISA_REFUSE_GUEST_TSX, REG(l7_ebx), 4 },
		{ ELISA_REFUSE_GUEST_TSX, REG(l7_ebx), 11 },
		{ ELISA_REFUSE_GUEST_CET, REG(l7_ecx), 7 },
		{ ELISA_REFUSE_GUEST_CET, REG(l7_edx), 20 },
		{ ELISA_REFUSE_GUEST_UINTR, REG(l7_edx), 5 },
		{ ELISA_REFUSE_GUEST_LA57, REG(l7_ecx), 16 },
		{ ELISA_REFUSE_GUEST_PT, REG(l7_ebx), 25 },
		{ ELISA_REFUSE_GUEST_VPMU, REG(la_eax), 1 },
		{ ELISA_REFUSE_GUEST_VPMU, REG(l1_edx), 21 },
		{ ELISA_REFUSE_GUEST_VPMU, REG(l7_edx), 19 },
		{ ELISA_REFUSE_GUEST_NO_LM, REG(ext1_edx), 29 },
		{ ELISA_REFUSE_GUEST_NO_LM, REG(ext1_edx), 20 },
		{ ELISA_REFUSE_GUEST_NO_SMEP, REG(l7_ebx), 7 },
		{ ELISA_REFUSE_GUEST_NO_SMAP, REG(l7_ebx), 20 },
		{ ELISA_REFUSE_GUEST_NO_FSGSBASE, REG(l7_ebx), 0 },
		{ ELISA_REFUSE_GUEST_NO_AVX, REG(l1_ecx), 1 },
		{ ELISA_REFUSE_GUEST_NO_AVX, REG(l1_ecx), 26 },
		{ ELISA_REFUSE_GUEST_NO_AVX, REG(l1_ecx), 28 },
		{ ELISA_REFUSE_GUEST_NO_AVX, REG(l7_ebx), 5 },
		{ ELISA_REFUSE_GUEST_NO_AVX, REG(ld_eax), 1 },
		{ ELISA_REFUSE_GUEST_NO_AVX, REG(ld_eax), 2 },
	};
	size_t i;

	assert_int_equal(elisa_check_cpuid(&good_cpuid), ELISA_REFUSE_NONE);
	for (i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct elisa_cpuid cpuid = good_cpuid;

		*(__u32 *)((char *)&cpuid + row[i].offset) ^= 1u << row[i].bit;
		assert_int_equal(elisa_check_cpuid(&cpuid), row[i].refusal);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host), cmocka_unit_test(test_bugs),
		cmocka_unit_test(test_vm), cmocka_unit_test(test_cpuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
