/* SPDX-License-Identifier: BSD-3-Clause */
/* The module's EPT builder, natively: each bit of an entry by name, APT, clones, out of memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "ept-port.h"
#include <cmocka.h>

#include "../../elisa-host/kmod/ept.h"

#define ROOT_PA		0x123000ull	/* the APT's page */
#define LIST_PA		0x7000ull
#define DESC_PA		0x8000ull
#define MEM_PA		0x40000000ull
#define PAGE		EPT_SIZE_4K
#define LEAF		(EPT_IGNORE_PAT | EPT_SUPPRESS_VE)

long port_pages, port_budget = -1;

static const u64 window = 1ull << 45;
static const u64 priv_near[2] = { (1ull << 45) + 5 * EPT_SIZE_1G + 0x7000,
				  (1ull << 45) + 5 * EPT_SIZE_1G + 0x8000 };
/* In two page tables of one 1 GiB. */
static const u64 priv_far[2] = { (1ull << 45) + 5 * EPT_SIZE_1G + 0x7000,
				 (1ull << 45) + 5 * EPT_SIZE_1G + EPT_SIZE_2M };

/* Says which bit differs, not just that two numbers do. */
static void assert_entry(u64 entry, u64 expected)
{
	static const struct {
		u64 mask;
		const char *name;
	} part[] = {
		{ EPT_R, "readable" }, { EPT_W, "writable" }, { EPT_X, "executable" },
		{ 7ull << 3, "memory type" }, { EPT_IGNORE_PAT, "ignore PAT" },
		{ EPT_LARGE, "large" }, { 3ull << 8, "accessed/dirty" },
		{ EPT_SUPPRESS_VE, "suppress #VE" }, { EPT_ADDR, "address" },
	};
	size_t i;

	for (i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		if ((entry ^ expected) & part[i].mask)
			fail_msg("%s: %llx instead of %llx", part[i].name,
				 (unsigned long long)(entry & part[i].mask),
				 (unsigned long long)(expected & part[i].mask));
	assert_true(entry == expected);
}

static void assert_maps(const u64 *root, u64 gpa, u64 expected, u64 size)
{
	u64 got_size, entry = ept_lookup(root, gpa, &got_size);

	assert_entry(entry, expected);
	if (entry)
		assert_int_equal(got_size, size);
}

static void map_one(struct ept *ept, u64 gpa, u64 pa, u64 pages, u64 prot)
{
	struct ept_run run = { .pa = pa, .pages = pages };

	assert_int_equal(ept_prepare(ept, gpa, &run, 1), 0);
	ept_map(ept, gpa, &run, 1, prot);
}

static void remove_range(struct ept *ept, u64 gpa, u64 len)
{
	ept_unmap(ept, gpa, len);
	ept_prune(ept, gpa, len);
}

/* ---- the APT ---- */

static void test_apt(void **state)
{
	unsigned int bits;

	for (bits = 36; bits <= EPT_GPA_BITS; bits++) {
		u64 start = 1ull << (bits - 1), gpa;
		struct ept ept;

		assert_int_equal(ept_init(&ept, start, ROOT_PA, NULL, true), 0);
		for (gpa = 0; gpa < start; gpa = gpa ? gpa * 2 + 0x3000 : PAGE)
			assert_maps(ept.root, gpa, ROOT_PA | EPT_R | EPT_WB | LEAF, PAGE);
		assert_maps(ept.root, start - PAGE, ROOT_PA | EPT_R | EPT_WB | LEAF, PAGE);
		assert_maps(ept.root, start, 0, 0);
		assert_maps(ept.root, 2 * start - PAGE, 0, 0);
		map_one(&ept, start, MEM_PA, 1, EPT_R | EPT_WB);
		assert_maps(ept.root, start, MEM_PA | EPT_R | EPT_WB | LEAF, PAGE);
		assert_maps(ept.root, start - PAGE, ROOT_PA | EPT_R | EPT_WB | LEAF, PAGE);
		ept_destroy(&ept);
		assert_int_equal(port_pages, 0);
	}
}

/* Nothing above a leaf may allow more below the window than reading. */
static void test_apt_tables_read_only(void **state)
{
	struct ept ept;
	int i;

	assert_int_equal(ept_init(&ept, window, ROOT_PA, NULL, true), 0);
	for (i = 0; i < (int)(window >> 39); i++)
		assert_int_equal(ept.root[i] & EPT_RWX, EPT_R);
	for (i = 0; i < EPT_PTES; i++) {
		assert_int_equal(ept.apt[3][i] & EPT_RWX, EPT_R);
		assert_int_equal(ept.apt[2][i] & EPT_RWX, EPT_R);
	}
	ept_destroy(&ept);
}

static void test_eptp(void **state)
{
	u64 *page = ept_page_alloc(), eptp = ept_eptp(page);

	assert_int_equal(eptp & 7, 6);			/* write-back */
	assert_int_equal(eptp >> 3 & 7, 3);		/* walk of 4 levels */
	assert_int_equal(eptp >> 6 & 1, 0);		/* no accessed/dirty flags */
	assert_true((eptp & EPT_ADDR) == ept_page_pa(page));
	ept_page_free(page);
}

/* ---- leaves ---- */

static void test_permissions(void **state)
{
	const u64 prot[] = { EPT_R | EPT_WB, EPT_R | EPT_W | EPT_WB, EPT_X | EPT_WB,
			     EPT_R | EPT_X | EPT_WB, EPT_R | EPT_W | EPT_UC };
	struct ept ept;
	size_t i;

	assert_int_equal(ept_init(&ept, window, ROOT_PA, NULL, true), 0);
	for (i = 0; i < sizeof(prot) / sizeof(prot[0]); i++) {
		u64 gpa = window + i * EPT_SIZE_1G;

		map_one(&ept, gpa, MEM_PA, 1, prot[i]);
		assert_maps(ept.root, gpa, MEM_PA | prot[i] | LEAF, PAGE);
		assert_maps(ept.root, gpa + PAGE, 0, 0);
	}
	ept_destroy(&ept);
	assert_int_equal(port_pages, 0);
}

static void test_large(void **state)
{
	const u64 rw = EPT_R | EPT_W | EPT_WB;
	struct ept ept;

	assert_int_equal(ept_init(&ept, window, ROOT_PA, NULL, true), 0);
	/* 4 KiB before, two of 2 MiB, 4 KiB after */
	map_one(&ept, window + EPT_SIZE_2M - PAGE, MEM_PA - PAGE, 2 + 2 * 512, rw);
	assert_maps(ept.root, window + EPT_SIZE_2M - PAGE, (MEM_PA - PAGE) | rw | LEAF, PAGE);
	assert_maps(ept.root, window + EPT_SIZE_2M, MEM_PA | rw | LEAF | EPT_LARGE, EPT_SIZE_2M);
	assert_maps(ept.root, window + 2 * EPT_SIZE_2M,
		    (MEM_PA + EPT_SIZE_2M) | rw | LEAF | EPT_LARGE, EPT_SIZE_2M);
	assert_maps(ept.root, window + 3 * EPT_SIZE_2M,
		    (MEM_PA + 2 * EPT_SIZE_2M) | rw | LEAF, PAGE);
	/* memory that is not aligned */
	map_one(&ept, window + EPT_SIZE_1G, MEM_PA + PAGE, 512, rw);
	assert_maps(ept.root, window + EPT_SIZE_1G, (MEM_PA + PAGE) | rw | LEAF, PAGE);
	assert_maps(ept.root, window + EPT_SIZE_1G + 511 * PAGE,
		    (MEM_PA + EPT_SIZE_2M) | rw | LEAF, PAGE);
	remove_range(&ept, window + EPT_SIZE_2M - PAGE, 2 * EPT_SIZE_2M + 2 * PAGE);
	assert_maps(ept.root, window + EPT_SIZE_2M, 0, 0);
	assert_maps(ept.root, window + EPT_SIZE_2M - PAGE, 0, 0);
	assert_maps(ept.root, window + 3 * EPT_SIZE_2M, 0, 0);
	ept_destroy(&ept);
	/* a processor without 2 MiB leaves */
	assert_int_equal(ept_init(&ept, window, ROOT_PA, NULL, false), 0);
	map_one(&ept, window, MEM_PA, 512, rw);
	assert_maps(ept.root, window, MEM_PA | rw | LEAF, PAGE);
	ept_destroy(&ept);
	assert_int_equal(port_pages, 0);
}

/* A page table left empty goes, so that 2 MiB leaves can come back. */
static void test_prune(void **state)
{
	const u64 rw = EPT_R | EPT_W | EPT_WB;
	struct ept ept;
	long before;

	assert_int_equal(ept_init(&ept, window, ROOT_PA, NULL, true), 0);
	map_one(&ept, window + EPT_SIZE_1G, MEM_PA, 1, rw);
	before = port_pages;
	map_one(&ept, window + EPT_SIZE_1G + EPT_SIZE_2M, MEM_PA + PAGE, 1024, rw);
	assert_int_equal(port_pages, before + 2);
	ept_unmap(&ept, window + EPT_SIZE_1G + EPT_SIZE_2M, 2 * EPT_SIZE_2M);
	assert_int_equal(port_pages, before + 2);	/* a processor may still walk them */
	ept_prune(&ept, window + EPT_SIZE_1G + EPT_SIZE_2M, 2 * EPT_SIZE_2M);
	assert_int_equal(port_pages, before);
	map_one(&ept, window + EPT_SIZE_1G + EPT_SIZE_2M, MEM_PA, 512, rw);
	assert_maps(ept.root, window + EPT_SIZE_1G + EPT_SIZE_2M, MEM_PA | rw | LEAF | EPT_LARGE,
		    EPT_SIZE_2M);
	assert_maps(ept.root, window + EPT_SIZE_1G, MEM_PA | rw | LEAF, PAGE);
	ept_destroy(&ept);
	assert_int_equal(port_pages, 0);
}

/* ---- clones ---- */

static void check_clones(const u64 *priv)
{
	const u64 r = EPT_R | EPT_WB, rw = EPT_R | EPT_W | EPT_WB;
	const u64 chunk = priv[0] & ~(EPT_SIZE_1G - 1);
	/* GPAs whose tables are: shared, the clone's at each level, in another 512 GiB */
	const u64 gpa[] = { window + 9 * EPT_SIZE_1G, chunk + 0x9000, chunk + 4 * EPT_SIZE_2M,
			    chunk + EPT_SIZE_2M + 0x3000, window + (1ull << 40) };
	const size_t n = sizeof(gpa) / sizeof(gpa[0]);
	struct ept_clone one, two, gate;
	struct ept ept;
	size_t i;

	assert_int_equal(ept_init(&ept, window, ROOT_PA, priv, true), 0);
	map_one(&ept, chunk + 0x6000, MEM_PA, 1, r);
	assert_int_equal(ept_clone_create(&ept, &one, LIST_PA, DESC_PA), 0);
	for (i = 0; i < n; i++)		/* after the first, before the second */
		map_one(&ept, gpa[i], MEM_PA + i * PAGE, 1, r);
	assert_int_equal(ept_clone_create(&ept, &two, LIST_PA + 0x10000, DESC_PA + 0x10000), 0);
	assert_int_equal(ept_clone_create(&ept, &gate, LIST_PA + 0x20000, 0), 0);

	assert_maps(ept.root, priv[0], 0, 0);
	assert_maps(ept.root, priv[1], 0, 0);
	assert_maps(one.root, priv[0], LIST_PA | rw | LEAF, PAGE);
	assert_maps(one.root, priv[1], DESC_PA | r | LEAF, PAGE);
	assert_maps(two.root, priv[0], (LIST_PA + 0x10000) | rw | LEAF, PAGE);
	assert_maps(two.root, priv[1], (DESC_PA + 0x10000) | r | LEAF, PAGE);
	assert_maps(gate.root, priv[0], (LIST_PA + 0x20000) | rw | LEAF, PAGE);
	assert_maps(gate.root, priv[1], 0, 0);
	assert_maps(one.root, window - PAGE, ROOT_PA | r | LEAF, PAGE);
	for (i = 0; i < n; i++) {
		assert_maps(one.root, gpa[i], (MEM_PA + i * PAGE) | r | LEAF, PAGE);
		assert_maps(two.root, gpa[i], (MEM_PA + i * PAGE) | r | LEAF, PAGE);
	}
	ept_clone_unlink(&two);
	ept_clone_free(&two);
	for (i = 0; i < n; i++) {
		remove_range(&ept, gpa[i], PAGE);
		assert_maps(ept.root, gpa[i], 0, 0);
		assert_maps(one.root, gpa[i], 0, 0);
	}
	assert_maps(one.root, chunk + 0x6000, MEM_PA | r | LEAF, PAGE);
	assert_maps(one.root, priv[0], LIST_PA | rw | LEAF, PAGE);
	assert_maps(one.root, priv[1], DESC_PA | r | LEAF, PAGE);
	ept_clone_unlink(&one);
	ept_clone_free(&one);
	ept_clone_unlink(&gate);
	ept_clone_free(&gate);
	ept_destroy(&ept);
	assert_int_equal(port_pages, 0);
}

static void test_clones(void **state)
{
	check_clones(priv_near);
}

static void test_clones_two_tables(void **state)
{
	check_clones(priv_far);
}

/* ---- out of memory, at every allocation ---- */

static void test_no_memory(void **state)
{
	const struct ept_run run[2] = { { MEM_PA, 1 }, { MEM_PA + EPT_SIZE_1G, 513 } };
	const u64 gpa = window + (3ull << 39) - PAGE;
	int done = 0;
	long budget;

	for (budget = 0; !done; budget++) {
		struct ept_clone clone;
		struct ept ept;

		port_budget = budget;
		if (ept_init(&ept, window, ROOT_PA, priv_near, true) == 0) {
			if (ept_clone_create(&ept, &clone, LIST_PA, DESC_PA) == 0) {
				done = ept_prepare(&ept, gpa, run, 2) == 0;
				assert_maps(ept.root, gpa, 0, 0);
				assert_maps(clone.root, gpa + PAGE, 0, 0);
				ept_clone_unlink(&clone);
				ept_clone_free(&clone);
			}
			ept_destroy(&ept);
		}
		assert_int_equal(port_pages, 0);
	}
	assert_true(budget > 10);
	port_budget = -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apt), cmocka_unit_test(test_apt_tables_read_only),
		cmocka_unit_test(test_eptp), cmocka_unit_test(test_permissions),
		cmocka_unit_test(test_large), cmocka_unit_test(test_prune),
		cmocka_unit_test(test_clones), cmocka_unit_test(test_clones_two_tables),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
