/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The page tables of a context, walked as a CPU would, with every page that a guest could name
 * taken as the root: the gate's address leads to the right code, or nowhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "model.h"

static struct elisa_host *host;
static struct elisa_ctx *ctx;
static uint64_t *forged, *victim; /* exported pages that a guest can write */
static uint64_t *list, *desc;
static struct ept gate, trusted;

static int64_t entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	return cookie || op || a1 || ignored || a2 || a3;
}

static uint64_t *pages(size_t n)
{
	void *p = mmap(NULL, n * ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

/* One page that serves as all four levels and makes the gate's address lead to `target`. */
static void forge(uint64_t *page, uint64_t self_gpa, uint64_t target)
{
	page[ELISA_GATE_VA >> 39 & 511] = self_gpa | 0x67;
	page[ELISA_GATE_VA >> 30 & 511] = self_gpa | 0x67;
	page[ELISA_GATE_VA >> 21 & 511] = self_gpa | 0x67;
	page[ELISA_GATE_VA >> 12 & 511] = target | 0x67;
}

static int setup(void **state)
{
	struct elisa_desc *d;

	model_reset();
	assert_int_equal(elisa_host_open_with(&model_ops, &host), 0);
	assert_int_equal(elisa_ctx_create(host, entry, &ctx), 0);
	forged = pages(4);
	victim = pages(1);
	assert_int_equal(elisa_export(ctx, forged, 4 * ELISA_PAGE_SIZE, ELISA_R | ELISA_W), 0);
	assert_int_equal(elisa_export(ctx, victim, ELISA_PAGE_SIZE, ELISA_X), 0);
	/* The same 512 GiB as the gate: the table is there for both, the memory is not. */
	assert_true(mmap((void *)(ELISA_GATE_VA + 8 * GIB), ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED);
	assert_int_equal(elisa_export(ctx, (void *)(ELISA_GATE_VA + 8 * GIB), ELISA_PAGE_SIZE,
				      ELISA_R | ELISA_W),
			 0);
	assert_int_equal(elisa_ctx_realize(ctx), 0);
	list = pages(1);
	desc = pages(1);
	list[ELISA_SLOT_DEFAULT] = 0x12345601e;
	list[ELISA_SLOT_GATE] = 0x12345701e;
	list[ELISA_SLOT_TRUSTED] = 0x123458000;
	d = (struct elisa_desc *)desc;
	*d = (struct elisa_desc){.magic = ELISA_DESC_MAGIC,
				 .stack = 0x7f0000001000,
				 .fs_base = 0x7f0000002740,
				 .entry = (uintptr_t)entry};
	ept_build(&gate, ELISA_MAP_GATE, list, desc);
	ept_build(&trusted, ELISA_MAP_TRUSTED, list, desc);
	return 0;
}

static int teardown(void **state)
{
	ept_free(&gate);
	ept_free(&trusted);
	elisa_ctx_destroy(ctx);
	elisa_host_close(host);
	munmap((void *)(ELISA_GATE_VA + 8 * GIB), ELISA_PAGE_SIZE);
	munmap(forged, 4 * ELISA_PAGE_SIZE);
	munmap(victim, ELISA_PAGE_SIZE);
	munmap(list, ELISA_PAGE_SIZE);
	munmap(desc, ELISA_PAGE_SIZE);
	return 0;
}

static uint64_t gpa_of(const void *p)
{
	return table_gpa(&ctx->table, (uintptr_t)p);
}

/* With the proper root: all faces of the addresses that are fixed, in both contexts. */
static void test_proper_root(void **state)
{
	uint64_t a;

	assert_true(guest_walk(&gate, 0, ELISA_GATE_VA + 5, EXEC, &a));
	assert_int_equal(a, (uintptr_t)ctx->gate + 5);
	assert_true(guest_walk(&trusted, 0, ELISA_GATE_VA + 5, EXEC, &a));
	assert_int_equal(a, (uintptr_t)ctx->stub + 5);
	assert_memory_equal(ctx->gate, elisa_gate_page, ELISA_PAGE_SIZE);
	assert_memory_equal(ctx->stub, elisa_entry_page, ELISA_PAGE_SIZE);
	/* Execute-only. */
	assert_false(guest_walk(&gate, 0, ELISA_GATE_VA, READ, &a));
	assert_false(guest_walk(&trusted, 0, ELISA_GATE_VA, READ, &a));
	assert_true(guest_walk(&gate, 0, ELISA_LIST_VA, WRITE, &a));
	assert_int_equal(a, (uintptr_t)list);
	assert_true(guest_walk(&trusted, 0, ELISA_LIST_VA, WRITE, &a));
	assert_true(guest_walk(&trusted, 0, ELISA_DESC_VA, READ, &a));
	assert_int_equal(a, (uintptr_t)desc);
	assert_false(guest_walk(&trusted, 0, ELISA_DESC_VA, WRITE, &a));
	/* What is exported is there at its own address, in the trusted context only. */
	assert_true(guest_walk(&trusted, 0, (uintptr_t)forged + 5000, WRITE, &a));
	assert_int_equal(a, (uintptr_t)forged + 5000);
	assert_false(guest_walk(&trusted, 0, (uintptr_t)forged, EXEC, &a));
	assert_false(guest_walk(&gate, 0, (uintptr_t)forged, READ, &a));
	assert_true(guest_walk(&trusted, 0, ELISA_GATE_VA + 8 * GIB, WRITE, &a));
	assert_false(guest_walk(&gate, 0, ELISA_GATE_VA + 8 * GIB, READ, &a));
	assert_true(guest_walk(&trusted, 0, (uintptr_t)victim, EXEC, &a));
	assert_false(guest_walk(&trusted, 0, (uintptr_t)victim, READ, &a));
	/* The tables themselves have no address. */
	assert_false(guest_walk(&trusted, 0, (uintptr_t)ctx->table.pages, READ, &a));
}

/*
 * A guest gets in with one CR3 for all contexts. With it the gate's address must lead to the gate
 * in the gate context, and then to the entry page in the trusted one; else it must die in the gate.
 * Returns whether the gate was reached.
 */
static bool check_root(uint64_t cr3)
{
	uint64_t a;

	if (!guest_walk(&gate, cr3, ELISA_GATE_VA, EXEC, &a))
		return false;
	assert_int_equal(a, (uintptr_t)ctx->gate);
	assert_true(guest_walk(&trusted, cr3, ELISA_GATE_VA, EXEC, &a));
	assert_int_equal(a, (uintptr_t)ctx->stub);
	return true;
}

static void test_below_window(void **state)
{
	uint64_t gpa, step = 2 << 20, i;

	for (gpa = 0; gpa < MODEL_WINDOW; gpa += step)
		assert_true(check_root(gpa));
	for (i = 0; i < 100000; i++) {
		gpa = ((uint64_t)random() << 21 ^ random() << 12) & (MODEL_WINDOW - 1);
		assert_true(check_root(gpa & TABLE_ADDR));
	}
	assert_true(check_root(MODEL_WINDOW - ELISA_PAGE_SIZE));
	/* CR3's low bits are flags (PCID is off). */
	assert_true(check_root(0x5018));
}

/* Every page of either context as the root, and what is between them. */
static void check_window(void)
{
	uint64_t at, c;
	uint32_t i;

	for (i = 0; i < model.map_count; i++)
		for (at = 0; at < model.maps[i].len; at += ELISA_PAGE_SIZE)
			assert_false(check_root(model.maps[i].gpa + at));
	assert_false(check_root(model.create.list_gpa));
	assert_false(check_root(model.create.desc_gpa));
	for (c = 0; c < MODEL_WINDOW / GIB; c++)
		for (i = 0; i < 512; i++)
			assert_false(check_root(MODEL_WINDOW + c * GIB + i * (2ULL << 20)));
	for (i = 0; i < 1 + TABLE_LOW_SLOTS; i++)
		assert_false(check_root(MODEL_WINDOW + GIB + i * ELISA_PAGE_SIZE));
}

static void test_in_window(void **state)
{
	check_window();
}

/* Memory that guests can write, full of page tables. */
static void test_forged(void **state)
{
	uint64_t a, i;

	forge(forged, gpa_of(forged), gpa_of(victim));
	/* The forgery is a good one: in the trusted context alone it would lead astray... */
	assert_true(guest_walk(&trusted, gpa_of(forged), ELISA_GATE_VA, EXEC, &a));
	assert_int_equal(a, (uintptr_t)victim);
	/* ...but that root is not to be had in the gate, through which one must come. */
	assert_false(guest_walk(&gate, gpa_of(forged), ELISA_GATE_VA, EXEC, &a));
	check_window();
	/* Roots that link to our own tables, to the list, to code. */
	for (i = 0; i < 512; i++) {
		forged[i] = table_second_gpa(&ctx->table, ELISA_GATE_VA) | 0x67;
		forged[512 + i] = model.create.list_gpa | 0x67;
		forged[1024 + i] = gpa_of((void *)ELISA_GATE_VA) | 0x67;
		forged[1536 + i] = 0x67;
	}
	check_window();
}

/* The gate context's few pages as tables, whatever the module puts in the list. */
static void test_list_as_table(void **state)
{
	uint64_t second = table_second_gpa(&ctx->table, ELISA_GATE_VA), a;

	assert_false(guest_walk(&gate, second, ELISA_GATE_VA, EXEC, &a));
	list[ELISA_SLOT_TRUSTED] |= ELISA_EPTP_LOW;
	assert_false(guest_walk(&gate, model.create.list_gpa, ELISA_GATE_VA, EXEC, &a));
	list[ELISA_SLOT_TRUSTED] &= ~0xffULL;
	/* No EPTP is a present entry, and none is in the place that counts. */
	assert_int_equal(ELISA_EPTP_LOW & 1, 0);
	assert_int_not_equal(ELISA_GATE_VA >> 39 & 511, ELISA_SLOT_TRUSTED);
	assert_int_not_equal(ELISA_GATE_VA >> 39 & 511, ELISA_SLOT_GATE);
}

/* The gate context holds its table, code, list and descriptor, and nothing else of the window. */
static void test_gate_is_small(void **state)
{
	uint64_t a, found = 0;
	uint32_t i;

	for (i = 0; i < model.map_count; i++)
		found += !!(model.maps[i].flags & ELISA_MAP_GATE);
	assert_int_equal(found, 2);
	assert_true(ept_walk(&gate, table_second_gpa(&ctx->table, ELISA_GATE_VA), READ, &a));
	assert_false(ept_walk(&gate, table_second_gpa(&ctx->table, ELISA_GATE_VA), WRITE, &a));
	assert_false(ept_walk(&trusted, table_second_gpa(&ctx->table, ELISA_GATE_VA), WRITE, &a));
	assert_false(ept_walk(&trusted, 0, WRITE, &a));
	assert_true(ept_walk(&trusted, 0, READ, &a));
	assert_int_equal(a, (uintptr_t)table_root(&ctx->table));
}

/* Entries as promised: user, writable, accessed, dirty, not global; two levels. */
static void test_entries(void **state)
{
	uint32_t i, j;

	for (i = 0; i < 512; i++) {
		uint64_t link = table_root(&ctx->table)[i];

		if (!link)
			continue;
		assert_int_equal(link & 0xfff, 0x27);
		for (j = 0; j < 512; j++) {
			uint64_t leaf = ctx->table.pages[1 + i][j];

			assert_true(!leaf || (leaf & (GIB - 1)) == 0xe7);
			assert_true(!leaf || (leaf & TABLE_ADDR) >= MODEL_WINDOW);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_proper_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_below_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_as_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gate_is_small, setup, teardown),
		cmocka_unit_test_setup_teardown(test_entries, setup, teardown),
	};

	return cmocka_run_group_tests_name("page tables", tests, NULL, NULL);
}
