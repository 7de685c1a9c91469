/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest page tables of a trusted context: a root and, for each 512 GiB in use, one table of 1 GiB
 * leaves. Each leaf maps a chunk of this process's addresses linearly to a chunk of the window;
 * which of its pages exist, and how, the EPT says. No third level exists, so there is nothing
 * that a forged CR3 could be made to walk as one.
 *
 * Tables only ever gain links. A leaf goes after its chunk's last page was unmapped: that drops
 * translations through it, and none is made without a page that it leads to.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define PAGES_LEN ((1 + TABLE_LOW_SLOTS) * (size_t)ELISA_PAGE_SIZE)

static uint64_t *leaf_of(const struct table *t, uintptr_t va)
{
	return &table_second(t, va)[va >> TABLE_LEAF_SHIFT & (TABLE_ENTRIES - 1)];
}

/* vCPUs read the tables while this writes: one store, never torn. */
static void put_entry(uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_RELEASE);
}

int table_init(struct table *t, uint64_t window_gpa, uint64_t window_size)
{
	memset(t, 0, sizeof(*t));
	t->window = window_gpa;
	t->chunks = window_size >> TABLE_LEAF_SHIFT > UINT32_MAX ? UINT32_MAX
								 : window_size >> TABLE_LEAF_SHIFT;
	if (t->chunks <= CHUNK_FIRST || window_gpa % GIB || window_gpa & ~TABLE_ADDR)
		return -EPROTO;
	t->users = calloc(t->chunks, sizeof(*t->users));
	if (!t->users)
		return -ENOMEM;
	t->pages =
		mmap(NULL, PAGES_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t->pages == MAP_FAILED) {
		t->pages = NULL;
		table_fini(t);
		return -ENOMEM;
	}
	/* Written now: what gets pinned must be these pages for good, not the zero page. */
	memset(t->pages, 0, PAGES_LEN);
	/* Both for as long as the context lives. */
	t->users[CHUNK_PRIVATE] = 1;
	t->users[CHUNK_TABLES] = 1;
	put_entry(leaf_of(t, ELISA_GATE_VA), (window_gpa + CHUNK_PRIVATE * GIB) | TABLE_LEAF);
	return 0;
}

void table_fini(struct table *t)
{
	if (t->pages)
		munmap(t->pages, PAGES_LEN);
	free(t->users);
	memset(t, 0, sizeof(*t));
}

uint64_t table_second_gpa(const struct table *t, uintptr_t va)
{
	return t->window + CHUNK_TABLES * GIB + (va >> TABLE_ROOT_SHIFT) * ELISA_PAGE_SIZE;
}

bool table_linked(const struct table *t, uintptr_t va)
{
	return table_root(t)[va >> TABLE_ROOT_SHIFT] != 0;
}

void table_link(struct table *t, uintptr_t va)
{
	put_entry(&table_root(t)[va >> TABLE_ROOT_SHIFT], table_second_gpa(t, va) | TABLE_LINK);
}

static uint32_t chunk_of(const struct table *t, uint64_t leaf)
{
	/* A leaf's address bits begin at 30; below are flags. */
	return ((leaf & TABLE_ADDR & ~(GIB - 1)) - t->window) >> TABLE_LEAF_SHIFT;
}

int table_get(struct table *t, uintptr_t va)
{
	uint64_t *leaf = leaf_of(t, va);
	uint32_t chunk;

	if (*leaf) {
		t->users[chunk_of(t, *leaf)]++;
		return 0;
	}
	for (chunk = CHUNK_FIRST; chunk < t->chunks; chunk++)
		if (!t->users[chunk])
			break;
	if (chunk == t->chunks)
		return -ENOSPC;
	t->users[chunk] = 1;
	put_entry(leaf, (t->window + chunk * GIB) | TABLE_LEAF);
	return 0;
}

bool table_put(struct table *t, uintptr_t va)
{
	uint64_t *leaf = leaf_of(t, va);

	if (--t->users[chunk_of(t, *leaf)])
		return false;
	put_entry(leaf, 0);
	return true;
}

uint64_t table_gpa(const struct table *t, uintptr_t va)
{
	return t->window + chunk_of(t, *leaf_of(t, va)) * GIB + va % GIB;
}

uintptr_t table_va(const struct table *t, uint64_t gpa)
{
	size_t i, slot;

	for (slot = 0; slot < TABLE_LOW_SLOTS; slot++) {
		const uint64_t *second = t->pages[1 + slot];

		for (i = 0; table_root(t)[slot] && i < TABLE_ENTRIES; i++)
			if (second[i] &&
			    (second[i] & TABLE_ADDR & ~(GIB - 1)) == (gpa & ~(GIB - 1)))
				return slot << TABLE_ROOT_SHIFT | i << TABLE_LEAF_SHIFT | gpa % GIB;
	}
	return 0;
}
