/* SPDX-License-Identifier: BSD-3-Clause */
/* Exports: the books, the chunks of the window, whole objects, and failures half way. */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "example.h"
#include "model.h"

#define PAGE ((size_t)ELISA_PAGE_SIZE)
/* Where nothing else is. */
#define AREA 0x510000000000ULL

static struct elisa_host *host;
static struct elisa_ctx *ctx;

static void start(uint64_t window_size)
{
	model_reset();
	model.window_size = window_size;
	assert_int_equal(elisa_host_open_with(&model_ops, &host), 0);
	assert_int_equal(elisa_ctx_create(host, elisa_example_service()->entry, &ctx), 0);
}

static int setup(void **state)
{
	start(MODEL_WINDOW);
	return 0;
}

static int teardown(void **state)
{
	elisa_ctx_destroy(ctx);
	elisa_host_close(host);
	return 0;
}

static char *map_at(uint64_t va, size_t len, int prot)
{
	char *p = mmap((void *)va, len, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);

	assert_true(p != MAP_FAILED);
	return p;
}

static uint32_t chunks_used(void)
{
	uint32_t i, n = 0;

	for (i = CHUNK_FIRST; i < ctx->table.chunks; i++)
		n += !!ctx->table.users[i];
	return n;
}

static const struct elisa_ctx_map *map_of(const void *addr)
{
	uint32_t i;

	for (i = 0; i < model.map_count; i++)
		if (model.maps[i].addr == (uintptr_t)addr)
			return &model.maps[i];
	return NULL;
}

static void test_arguments(void **state)
{
	char *p = map_at(AREA, 4 * PAGE, PROT_READ | PROT_WRITE);

	assert_int_equal(elisa_export(ctx, p + 1, PAGE, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, 100, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, 0, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export(ctx, NULL, PAGE, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, PAGE, 0), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, PAGE, ELISA_W), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, PAGE, ELISA_R | ELISA_W | ELISA_X), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, PAGE, ELISA_R | 64 << 4), -EINVAL);
	assert_int_equal(elisa_export(ctx, (void *)(1ULL << 47), PAGE, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, -PAGE, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export(ctx, p, (1ULL << 47) - AREA + PAGE, ELISA_R), -EINVAL);
	assert_int_equal(ctx->book.count, 3);
	munmap(p, 4 * PAGE);
}

static void test_overlaps(void **state)
{
	char *p = map_at(AREA, 16 * PAGE, PROT_READ | PROT_WRITE);

	assert_int_equal(elisa_export(ctx, p + 4 * PAGE, 4 * PAGE, ELISA_R | ELISA_W), 0);
	assert_int_equal(elisa_export(ctx, p + 4 * PAGE, 4 * PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_export(ctx, p, 5 * PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_export(ctx, p + 7 * PAGE, PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_export(ctx, p, 16 * PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_export(ctx, p, 4 * PAGE, ELISA_R), 0);
	assert_int_equal(elisa_export(ctx, p + 8 * PAGE, 8 * PAGE, ELISA_R), 0);
	/* Same bounds only. */
	assert_int_equal(elisa_unexport(ctx, p + 4 * PAGE, 2 * PAGE), -ENOENT);
	assert_int_equal(elisa_unexport(ctx, p + 5 * PAGE, 3 * PAGE), -ENOENT);
	assert_int_equal(elisa_unexport(ctx, p + 4 * PAGE, 4 * PAGE), 0);
	assert_int_equal(elisa_unexport(ctx, p + 4 * PAGE, 4 * PAGE), -ENOENT);
	assert_int_equal(elisa_export(ctx, p + 5 * PAGE, 2 * PAGE, ELISA_R), 0);
	/* The fixed addresses are nobody's to export or to take away. */
	assert_int_equal(elisa_export(ctx, (void *)ELISA_GATE_VA, PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_export(ctx, (void *)ELISA_LIST_VA, PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_export(ctx, (void *)(ELISA_LIST_VA - PAGE), 4 * PAGE, ELISA_R),
			 -EEXIST);
	assert_int_equal(elisa_unexport(ctx, (void *)ELISA_GATE_VA, PAGE), -ENOENT);
	munmap(p, 16 * PAGE);
}

/* Random exports against a plain map of pages. */
static void test_books(void **state)
{
	static uint8_t taken[512];
	static struct {
		size_t at, n;
	} have[256];
	struct book b = {0};
	size_t count = 0, i, round, pick;

	memset(taken, 0, sizeof(taken));
	srandom(7);
	for (round = 0; round < 20000; round++) {
		size_t at = random() % 500, n = 1 + random() % 12;
		bool free_ = !memchr(taken + at, 1, n), add = random() % 3;

		if (add && count < ARRAY_SIZE(have)) {
			struct exported e = {(at + 1) * PAGE, n * PAGE, ELISA_R, PAGE, false};
			int rc = book_add(&b, &e);

			assert_int_equal(rc, free_ ? 0 : -EEXIST);
			if (rc)
				continue;
			have[count].at = at;
			have[count++].n = n;
			memset(taken + at, 1, n);
		} else if (count) {
			struct exported *e;

			pick = random() % count;
			assert_null(book_find(&b, (have[pick].at + 1) * PAGE,
					      have[pick].n * PAGE + PAGE));
			e = book_find(&b, (have[pick].at + 1) * PAGE, have[pick].n * PAGE);
			assert_non_null(e);
			book_remove(&b, e);
			memset(taken + have[pick].at, 0, have[pick].n);
			have[pick] = have[--count];
		}
		assert_int_equal(b.count, count);
		for (i = 1; i < b.count; i++)
			assert_true(b.all[i - 1].addr + b.all[i - 1].len <= b.all[i].addr);
	}
	free(b.all);
}

/* Pages that were never written, or are shared with a file, must become this process's own. */
static void test_settled(void **state)
{
	char *p = map_at(AREA, 8 * PAGE, PROT_READ | PROT_WRITE);
	unsigned char in[8];

	assert_int_equal(elisa_export(ctx, p, 8 * PAGE, ELISA_R), 0);
	assert_int_equal(mincore(p, 8 * PAGE, in), 0);
	assert_true(in[0] & 1 && in[7] & 1);
	assert_int_equal(elisa_unexport(ctx, p, 8 * PAGE), 0);
	/* Cannot be written: not for W; for R it is as it is. */
	assert_int_equal(mprotect(p + 4 * PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(elisa_export(ctx, p, 8 * PAGE, ELISA_R | ELISA_W), -EACCES);
	assert_int_equal(elisa_export(ctx, p, 8 * PAGE, ELISA_R), 0);
	assert_int_equal(elisa_unexport(ctx, p, 8 * PAGE), 0);
	munmap(p + 4 * PAGE, PAGE);
	assert_int_equal(elisa_export(ctx, p, 8 * PAGE, ELISA_R), -ENOMEM);
	assert_int_equal(ctx->book.count, 3);
	assert_int_equal(chunks_used(), 0);
	munmap(p, 8 * PAGE);
}

/* Over chunks' edges: a mapping for each, each linear, none at another's addresses. */
static void test_chunks(void **state)
{
	uint64_t at = AREA + GIB - 2 * PAGE;
	char *p = map_at(at, 4 * PAGE, PROT_READ | PROT_WRITE);
	char *q = map_at(AREA + 512 * GIB, PAGE, PROT_READ | PROT_WRITE);
	const struct elisa_ctx_map *a, *b, *c;
	uint32_t before = model.map_count;

	assert_int_equal(elisa_export(ctx, p, 4 * PAGE, ELISA_R | ELISA_W), 0);
	assert_int_equal(elisa_export(ctx, q, PAGE, ELISA_R), 0);
	a = map_of(p);
	b = map_of(p + 2 * PAGE);
	c = map_of(q);
	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
	assert_int_equal(a->len, 2 * PAGE);
	assert_int_equal(b->len, 2 * PAGE);
	assert_int_equal(a->gpa % GIB, at % GIB);
	assert_int_equal(b->gpa % GIB, 0);
	assert_int_equal(a->flags, ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_TRUSTED);
	assert_int_not_equal(a->gpa / GIB, b->gpa / GIB);
	assert_int_not_equal(c->gpa / GIB, b->gpa / GIB);
	assert_int_not_equal(c->gpa / GIB, a->gpa / GIB);
	/* Three pieces, two tables of 512 GiB. */
	assert_int_equal(model.map_count, before + 5);
	assert_int_equal(chunks_used(), 3);
	assert_int_equal(elisa_unexport(ctx, p, 4 * PAGE), 0);
	assert_int_equal(elisa_unexport(ctx, q, PAGE), 0);
	assert_int_equal(chunks_used(), 0);
	assert_int_equal(table_second(&ctx->table, at)[at >> 30 & 511], 0);
	assert_int_equal(model.map_count, before + 2);
	munmap(p, 4 * PAGE);
	munmap(q, PAGE);
}

/* Every failure in the middle leaves everything as it was. */
static void test_failures(void **state)
{
	size_t len = 4 * GIB, i;
	/* Five pieces in two of the tables' ranges. */
	char *p = map_at(AREA + 510 * GIB + GIB / 2, len, PROT_READ);
	uint32_t before = model.map_count;
	int rc = -ENOMEM;

	for (i = 0; rc; i++) {
		model.fail_after = i;
		model.fail_rc = -ENOMEM;
		/* As device memory: nothing is populated. */
		rc = elisa_export(ctx, p, len, ELISA_R | ELISA_MAP_DEVICE);
		if (!rc)
			break;
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(ctx->book.count, 3);
		assert_int_equal(chunks_used(), 0);
		/* At most the tables stay, which are empty. */
		assert_in_range(model.map_count, before, before + 2);
	}
	assert_true(i >= 5);
	assert_int_equal(chunks_used(), 5);
	assert_int_equal(elisa_unexport(ctx, p, len), 0);
	munmap(p, len);
}

static void test_window_full(void **state)
{
	char *p[4];
	size_t i;

	teardown(NULL);
	start(5 * GIB);
	for (i = 0; i < 4; i++)
		p[i] = map_at(AREA + 7 * i * GIB, PAGE, PROT_READ | PROT_WRITE);
	for (i = 0; i < 3; i++)
		assert_int_equal(elisa_export(ctx, p[i], PAGE, ELISA_R), 0);
	assert_int_equal(elisa_export(ctx, p[3], PAGE, ELISA_R), -ENOSPC);
	/* What is given back can be had again. */
	assert_int_equal(elisa_unexport(ctx, p[1], PAGE), 0);
	assert_int_equal(elisa_export(ctx, p[3], PAGE, ELISA_R), 0);
	assert_int_equal(map_of(p[3])->gpa / GIB, MODEL_WINDOW / GIB + 3);
	for (i = 0; i < 4; i++)
		munmap(p[i], PAGE);
}

static void test_object(void **state)
{
	const struct elisa_ctx_map *data;
	uint32_t i, x = 0, w = 0, r = 0, before = model.map_count;

	assert_int_equal(
		elisa_export_object(ctx, (void *)(uintptr_t)elisa_example_service()->entry), 0);
	for (i = before; i < model.map_count; i++) {
		uint32_t prot = model.maps[i].flags & 7;

		if (model.maps[i].gpa / GIB == MODEL_WINDOW / GIB + CHUNK_TABLES)
			continue;
		x += prot == ELISA_MAP_X;
		w += prot == (ELISA_MAP_R | ELISA_MAP_W);
		r += prot == ELISA_MAP_R;
		if ((uintptr_t)elisa_example_service()->entry - model.maps[i].addr <
		    model.maps[i].len)
			assert_int_equal(prot, ELISA_MAP_X);
		if ((uintptr_t)elisa_example_service()->state - model.maps[i].addr <
		    model.maps[i].len) {
			data = &model.maps[i];
			assert_int_equal(prot, ELISA_MAP_R | ELISA_MAP_W);
			assert_true((uintptr_t)(elisa_example_service()->state + 1) <=
				    data->addr + data->len);
		}
		assert_true(prot == ELISA_MAP_X || prot & ELISA_MAP_R);
	}
	assert_int_equal(x, 1);
	assert_int_equal(w, 1);
	assert_true(r >= 2); /* headers, RELRO, constants */
	/* Twice is an overlap, and undone. */
	i = model.map_count;
	assert_int_equal(elisa_export_object(ctx, elisa_example_service()->state), -EEXIST);
	assert_int_equal(model.map_count, i);
	assert_int_equal(elisa_export_object(ctx, (void *)16), -ENOENT);
}

static int count_parts(const struct elisa_exported *e, void *arg)
{
	uint32_t *count = arg;

	assert_int_equal(e->addr, e->memory);
	count[e->prot]++;
	return 0;
}

/* Parts: those alone, once, and not with two permissions. */
static void test_object_parts(void **state)
{
	const void *symbol = elisa_example_service()->state;
	uint32_t count[8] = {0};

	assert_int_equal(elisa_export_object_as(ctx, symbol, 0), -EINVAL);
	assert_int_equal(elisa_export_object_as(ctx, symbol, 16), -EINVAL);
	assert_int_equal(
		elisa_export_object_as(ctx, symbol, ELISA_OBJECT_DATA_R | ELISA_OBJECT_DATA_W),
		-EINVAL);
	assert_int_equal(elisa_export_object_as(ctx, symbol, ELISA_OBJECT_DATA_R), 1);
	assert_int_equal(elisa_export_object_as(ctx, symbol, ELISA_OBJECT_DATA_R), 0);
	assert_int_equal(elisa_export_object_as(ctx, symbol, ELISA_OBJECT_TEXT), 1);
	assert_int_equal(elisa_ctx_exports(ctx, count_parts, count), 0);
	assert_int_equal(count[ELISA_R], 1);
	assert_int_equal(count[ELISA_X], 1);
	assert_int_equal(count[ELISA_R | ELISA_W], 0);
	/* With other permissions, and none of the rest then. */
	assert_int_equal(
		elisa_export_object_as(ctx, symbol, ELISA_OBJECT_CONST | ELISA_OBJECT_DATA_W),
		-EEXIST);
	assert_int_equal(elisa_ctx_exports(ctx, count_parts, count), 0);
	assert_int_equal(count[ELISA_R], 2);
	/* The rest: headers, constants, RELRO. */
	assert_true(elisa_export_object_as(ctx, symbol,
					   ELISA_OBJECT_CONST | ELISA_OBJECT_DATA_R |
						   ELISA_OBJECT_TEXT) >= 2);
	assert_int_equal(elisa_export_object(ctx, symbol), -EEXIST);
}

/* What is there already may be only a piece: what is missing around it is added. */
static void test_object_pieces(void **state)
{
	uint32_t i, before;
	uintptr_t page;
	Dl_info info;

	/* libc begins with some pages of constants. */
	assert_true(dladdr((void *)(uintptr_t)qsort, &info));
	page = (uintptr_t)info.dli_fbase + PAGE;
	assert_int_equal(elisa_export(ctx, (void *)page, PAGE, ELISA_R), 0);
	before = model.map_count;
	assert_true(elisa_export_object_as(ctx, (void *)(uintptr_t)qsort, ELISA_OBJECT_CONST) > 2);
	assert_int_equal(map_of(info.dli_fbase)->len, PAGE);
	assert_non_null(map_of((void *)(page + PAGE)));
	for (i = before; i < model.map_count; i++)
		assert_true(page - model.maps[i].addr >= model.maps[i].len);
	assert_int_equal(elisa_export_object_as(ctx, (void *)(uintptr_t)qsort, ELISA_OBJECT_CONST),
			 0);
}

/* A copy in the place of pages, over a chunk's edge and in one. */
static void test_export_at(void **state)
{
	uint64_t at = AREA + GIB - PAGE;
	char *p = map_at(AREA + 5 * GIB, 2 * PAGE, PROT_READ | PROT_WRITE);
	uint32_t before = model.map_count;

	assert_int_equal(elisa_export_at(ctx, (void *)at, p + 1, PAGE, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export_at(ctx, (void *)(at + 1), p, PAGE, ELISA_R), -EINVAL);
	assert_int_equal(elisa_export_at(ctx, (void *)at, p + PAGE, 2 * PAGE, ELISA_R), -ENOMEM);
	assert_int_equal(ctx->book.count, 3);
	/* Nothing of this process needs to be at that address. */
	assert_int_equal(elisa_export_at(ctx, (void *)at, p, 2 * PAGE, ELISA_R), 0);
	assert_int_equal(model.map_count, before + 3);
	assert_int_equal(map_of(p)->gpa, table_gpa(&ctx->table, at));
	assert_int_equal(map_of(p + PAGE)->gpa, table_gpa(&ctx->table, at + PAGE));
	assert_int_equal(map_of(p)->gpa % GIB, at % GIB);
	/* The memory itself may be exported as well, and the place is taken. */
	assert_int_equal(elisa_export(ctx, p, PAGE, ELISA_R | ELISA_W), 0);
	assert_int_equal(elisa_export(ctx, (void *)at, PAGE, ELISA_R), -EEXIST);
	assert_int_equal(elisa_unexport(ctx, p, 2 * PAGE), -ENOENT);
	assert_int_equal(elisa_unexport(ctx, (void *)at, 2 * PAGE), 0);
	assert_int_equal(chunks_used(), 1);
	munmap(p, 2 * PAGE);
}

/* From an address of the window back to what it is. */
static void test_where(void **state)
{
	const void *symbol = elisa_example_service()->state;
	char *p = map_at(AREA, 2 * PAGE, PROT_READ | PROT_WRITE), where[128];
	uint64_t gpa;

	assert_int_equal(elisa_export_object_as(ctx, symbol, ELISA_OBJECT_DATA_R), 1);
	gpa = table_gpa(&ctx->table, (uintptr_t)symbol);
	assert_int_equal(elisa_ctx_where(ctx, gpa, where, sizeof(where)), 0);
	assert_non_null(strstr(where, "libelisa-example-service.so+0x"));
	/* Its code is not exported; which function it is is known all the same. */
	gpa = table_gpa(&ctx->table, (uintptr_t)elisa_example_service);
	assert_int_equal(elisa_ctx_where(ctx, gpa, where, sizeof(where)), -ENOENT);
	assert_non_null(strstr(where, "(elisa_example_service)"));
	assert_int_equal(elisa_export(ctx, p, PAGE, ELISA_R), 0);
	gpa = table_gpa(&ctx->table, AREA);
	assert_int_equal(elisa_ctx_where(ctx, gpa + 0x123, where, sizeof(where)), 0);
	assert_string_equal(where, "0x510000000123");
	assert_int_equal(elisa_ctx_where(ctx, gpa + PAGE, where, sizeof(where)), -ENOENT);
	assert_string_equal(where, "0x510000001000");
	/* Neither pages of ours, nor chunks of nobody, nor what is no address of the window. */
	gpa = table_gpa(&ctx->table, ELISA_GATE_VA);
	assert_int_equal(elisa_ctx_where(ctx, gpa, where, sizeof(where)), -ENOENT);
	assert_int_equal(elisa_ctx_where(ctx, MODEL_WINDOW + 400 * GIB, where, sizeof(where)),
			 -ENOENT);
	assert_string_equal(where, "no address of the context");
	assert_int_equal(elisa_ctx_where(ctx, 0, where, sizeof(where)), -ENOENT);
	assert_int_equal(elisa_ctx_where(ctx, ~0ULL, where, 4), -ENOENT);
	assert_string_equal(where, "no ");
	munmap(p, 2 * PAGE);
}

struct listed {
	struct elisa_exported all[8];
	size_t count, stop;
};

static int list(const struct elisa_exported *e, void *arg)
{
	struct listed *l = arg;

	l->all[l->count++] = *e;
	/* The context may be used from here. */
	if (e->addr != e->memory)
		assert_int_equal(elisa_unexport(ctx, (void *)e->addr, e->len), 0);
	return l->count == l->stop ? 42 : 0;
}

static void test_list(void **state)
{
	char *p = map_at(AREA, 16 * PAGE, PROT_READ | PROT_WRITE);
	struct listed l = {0};

	assert_int_equal(elisa_ctx_exports(ctx, list, &l), 0);
	assert_int_equal(l.count, 0);
	assert_int_equal(elisa_export(ctx, p + 8 * PAGE, PAGE, ELISA_R | ELISA_W), 0);
	assert_int_equal(elisa_export_at(ctx, p + 4 * PAGE, p, 2 * PAGE, ELISA_R), 0);
	assert_int_equal(elisa_export(ctx, p + 12 * PAGE, PAGE, ELISA_R | ELISA_DEVICE), 0);
	l.stop = 2;
	assert_int_equal(elisa_ctx_exports(ctx, list, &l), 42);
	assert_int_equal(l.count, 2);
	assert_int_equal(l.all[0].addr, AREA + 4 * PAGE);
	assert_int_equal(l.all[0].memory, AREA);
	assert_int_equal(l.all[0].len, 2 * PAGE);
	assert_int_equal(l.all[0].prot, ELISA_R);
	l.stop = 0;
	assert_int_equal(elisa_ctx_exports(ctx, list, &l), 0);
	assert_int_equal(l.count, 4);
	assert_int_equal(l.all[2].memory, AREA + 8 * PAGE);
	assert_int_equal(l.all[3].prot, ELISA_R | ELISA_DEVICE);
	munmap(p, 16 * PAGE);
}

/* A failure at any of an object's segments leaves none of it exported. */
static void test_object_failures(void **state)
{
	int i, rc = -ENOMEM;

	for (i = 0; rc; i++) {
		model.fail_after = i;
		model.fail_rc = -ENOMEM;
		rc = elisa_export_object(ctx, elisa_example_service()->state);
		assert_true(rc == 0 || rc == -ENOMEM);
		if (rc) {
			assert_int_equal(ctx->book.count, 3);
			assert_int_equal(chunks_used(), 0);
		}
		assert_true(i < 16);
	}
	assert_true(i > 4);
}

/* libc binds lazily, at least in part. */
static void test_lazy_object(void **state)
{
	int rc = elisa_export_object(ctx, (void *)(uintptr_t)qsort);

	/* A libc that was linked with -z now would do. */
	assert_true(rc == -ENOEXEC || rc == 0);
	if (rc)
		assert_int_equal(ctx->book.count, 3);
}

static void test_context(void **state)
{
	struct elisa_ctx *other;

	/* The fixed addresses are taken by the first. */
	assert_int_equal(elisa_ctx_create(host, elisa_example_service()->entry, &other), -EEXIST);
	assert_int_equal(elisa_ctx_create(host, NULL, &other), -EINVAL);
	/* Either page may fail to map. */
	model.fail_rc = -ENOMEM;
	model.fail_after = 0;
	assert_int_equal(elisa_ctx_realize(ctx), -ENOMEM);
	model.fail_after = 1;
	assert_int_equal(elisa_ctx_realize(ctx), -ENOMEM);
	model.fail_after = -1;
	assert_int_equal(elisa_ctx_realize(ctx), 0);
	assert_int_equal(elisa_ctx_realize(ctx), -EALREADY);
	/* Gone, they can be had again. */
	teardown(NULL);
	start(MODEL_WINDOW);
	assert_int_equal(elisa_ctx_realize(ctx), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overlaps, setup, teardown),
		cmocka_unit_test(test_books),
		cmocka_unit_test_setup_teardown(test_settled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_window_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_object_failures, setup, teardown),
		cmocka_unit_test_setup_teardown(test_object_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_object_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_export_at, setup, teardown),
		cmocka_unit_test_setup_teardown(test_where, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lazy_object, setup, teardown),
		cmocka_unit_test_setup_teardown(test_context, setup, teardown),
	};

	return cmocka_run_group_tests_name("exports", tests, NULL, NULL);
}
