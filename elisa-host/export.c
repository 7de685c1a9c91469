/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exports: the books of what is exported, and the module's mappings made of it. One export is one
 * mapping of the module per chunk (1 GiB) that it touches, since chunks that follow each other here
 * need not do so in the window.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

#define PROT_KNOWN (ELISA_MAP_R | ELISA_MAP_W | ELISA_MAP_X | ELISA_MAP_DEVICE)
#define USER_END   (1ULL << 47)

size_t book_above(const struct book *b, uintptr_t addr)
{
	size_t low = 0, high = b->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (b->all[mid].addr + b->all[mid].len > addr)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

int book_add(struct book *b, const struct exported *e)
{
	size_t i = book_above(b, e->addr);

	if (i < b->count && b->all[i].addr < e->addr + e->len)
		return -EEXIST;
	if (b->count == b->room) {
		size_t room = b->room ? 2 * b->room : 32;
		struct exported *all = reallocarray(b->all, room, sizeof(*all));

		if (!all)
			return -ENOMEM;
		b->all = all;
		b->room = room;
	}
	memmove(&b->all[i + 1], &b->all[i], (b->count - i) * sizeof(*b->all));
	b->all[i] = *e;
	b->count++;
	return 0;
}

struct exported *book_find(struct book *b, uintptr_t addr, size_t len)
{
	size_t i = book_above(b, addr);

	if (i == b->count || b->all[i].addr != addr || b->all[i].len != len)
		return NULL;
	return &b->all[i];
}

void book_remove(struct book *b, struct exported *e)
{
	memmove(e, e + 1, (b->all + b->count - (e + 1)) * sizeof(*e));
	b->count--;
}

/* Bytes of [addr, addr + len) that lie in the chunk of `addr`. */
static size_t piece(uintptr_t addr, size_t len)
{
	size_t rest = GIB - addr % GIB;

	return len < rest ? len : rest;
}

int ctx_link(struct elisa_ctx *ctx, uintptr_t va, uint32_t flags)
{
	struct elisa_ctx_map map = {
		.addr = (uintptr_t)table_second(&ctx->table, va),
		.gpa = table_second_gpa(&ctx->table, va),
		.len = ELISA_PAGE_SIZE,
		.flags = ELISA_MAP_R | flags,
	};
	int rc;

	if (table_linked(&ctx->table, va))
		return 0;
	rc = ctx_ioctl(ctx, ELISA_CTX_MAP, &map);
	/* The root leads there only once it is there. */
	if (rc >= 0)
		table_link(&ctx->table, va);
	return rc < 0 ? rc : 0;
}

/* The piece of `e` that begins `done` bytes from its start. */
static int map_piece(struct elisa_ctx *ctx, const struct exported *e, size_t done, size_t len)
{
	uintptr_t addr = e->addr + done;
	struct elisa_ctx_map map = {
		.addr = e->memory + done,
		.len = len,
		.flags = e->prot | ELISA_MAP_TRUSTED,
	};
	int rc = ctx_link(ctx, addr, ELISA_MAP_TRUSTED);

	if (rc < 0)
		return rc;
	rc = table_get(&ctx->table, addr);
	if (rc < 0)
		return rc;
	map.gpa = table_gpa(&ctx->table, addr);
	do
		rc = ctx_ioctl(ctx, ELISA_CTX_MAP, &map);
	while (rc == -EINTR);
	if (rc < 0)
		table_put(&ctx->table, addr);
	return rc < 0 ? rc : 0;
}

static int unmap_piece(struct elisa_ctx *ctx, uintptr_t addr, size_t len)
{
	struct elisa_ctx_unmap unmap = {.gpa = table_gpa(&ctx->table, addr), .len = len};
	int rc;

	do
		rc = ctx_ioctl(ctx, ELISA_CTX_UNMAP, &unmap);
	while (rc == -EINTR);
	if (rc >= 0)
		table_put(&ctx->table, addr);
	return rc < 0 ? rc : 0;
}

/*
 * Makes the very pages present that this process will go on using: one that is written later would
 * otherwise be replaced by a private copy here, while vCPUs go on seeing the pinned original.
 *
 * Shared memory has no such copies; pinning brings what is not there. But by a write fault for each
 * page, while a read fault maps sixteen neighbours along (fault_around_bytes), writable: a third of
 * the time where pages exist already, as those of a VM do when the daemon returns.
 */
static int settle(uintptr_t addr, size_t len, uint32_t prot, bool shared)
{
	uintptr_t page;

	if (shared) {
		madvise((void *)addr, len, MADV_POPULATE_READ);
		return 0;
	}
	if (prot & ELISA_MAP_DEVICE)
		return 0;
	if (!madvise((void *)addr, len,
		     prot & ELISA_MAP_X ? MADV_POPULATE_READ : MADV_POPULATE_WRITE))
		return 0;
	if (prot & (ELISA_MAP_W | ELISA_MAP_X))
		return errno == EINVAL ? -EACCES : -errno;
	/* Read-only here as well, at least in part: page by page, since parts may differ. */
	for (page = addr; page < addr + len; page += ELISA_PAGE_SIZE) {
		if (!madvise((void *)page, ELISA_PAGE_SIZE, MADV_POPULATE_WRITE))
			continue;
		if (madvise((void *)page, ELISA_PAGE_SIZE, MADV_POPULATE_READ))
			return errno == EINVAL ? -EACCES : -errno;
	}
	return 0;
}

static int check(uintptr_t addr, size_t len, uint32_t prot)
{
	if (addr % ELISA_PAGE_SIZE || len % ELISA_PAGE_SIZE || !len || !addr)
		return -EINVAL;
	if (addr >= USER_END || len > USER_END - addr)
		return -EINVAL;
	if (!(prot & (ELISA_MAP_R | ELISA_MAP_X)) || prot & ~PROT_KNOWN)
		return -EINVAL;
	if (prot & ELISA_MAP_W && (!(prot & ELISA_MAP_R) || prot & ELISA_MAP_X))
		return -EINVAL;
	if (prot & ELISA_MAP_DEVICE && prot & ELISA_MAP_X)
		return -EINVAL;
	return 0;
}

int ctx_export_at(struct elisa_ctx *ctx, const struct exported *e)
{
	uintptr_t addr = e->addr;
	size_t len = e->len, done, n;
	int rc = check(addr, len, e->prot);

	if (!rc)
		rc = check(e->memory, len, e->prot);
	if (rc < 0)
		return rc;
	rc = book_add(&ctx->book, e);
	if (rc < 0)
		return rc;
	rc = settle(e->memory, len, e->prot, e->shared);
	if (rc < 0)
		goto forget;
	for (done = 0; done < len; done += n) {
		n = piece(addr + done, len - done);
		rc = map_piece(ctx, e, done, n);
		if (rc < 0)
			goto undo;
	}
	return 0;
undo:
	while (done) {
		/* The start of the piece that ends at `done`. */
		uintptr_t start = (addr + done - 1) & ~(GIB - 1);

		if (start < addr)
			start = addr;
		unmap_piece(ctx, start, addr + done - start);
		done = start - addr;
	}
forget:
	book_remove(&ctx->book, book_find(&ctx->book, addr, len));
	return rc;
}

int ctx_unexport(struct elisa_ctx *ctx, uintptr_t addr, size_t len)
{
	struct exported *e = book_find(&ctx->book, addr, len);

	if (!e || !e->prot)
		return -ENOENT;
	while (e->len) {
		size_t n = piece(e->addr, e->len);
		int rc = unmap_piece(ctx, e->addr, n);

		/* What is left stays in the books, so that they tell the truth. */
		if (rc < 0)
			return rc;
		e->addr += n;
		e->memory += n;
		e->len -= n;
	}
	book_remove(&ctx->book, e);
	return 0;
}

ELISA_PUBLIC int elisa_export(struct elisa_ctx *ctx, const void *addr, size_t len, uint32_t prot)
{
	int rc;

	pthread_mutex_lock(&ctx->lock);
	rc = ctx_export(ctx, (uintptr_t)addr, len, prot);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

ELISA_PUBLIC int elisa_export_at(struct elisa_ctx *ctx, const void *at, const void *memory,
				 size_t len, uint32_t prot)
{
	struct exported e = {(uintptr_t)at, len, prot, (uintptr_t)memory, false};
	int rc;

	pthread_mutex_lock(&ctx->lock);
	rc = ctx_export_at(ctx, &e);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

ELISA_PUBLIC int elisa_unexport(struct elisa_ctx *ctx, const void *addr, size_t len)
{
	int rc;

	pthread_mutex_lock(&ctx->lock);
	rc = ctx_unexport(ctx, (uintptr_t)addr, len);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

ELISA_PUBLIC int elisa_ctx_exports(struct elisa_ctx *ctx,
				   int (*cb)(const struct elisa_exported *e, void *arg), void *arg)
{
	struct elisa_exported *all;
	size_t i, count = 0;
	int rc = 0;

	/* A copy of them: the callback may use the context. */
	pthread_mutex_lock(&ctx->lock);
	all = calloc(ctx->book.count, sizeof(*all));
	for (i = 0; all && i < ctx->book.count; i++) {
		const struct exported *e = &ctx->book.all[i];

		if (e->prot)
			all[count++] = (struct elisa_exported){e->addr, e->memory, e->len, e->prot};
	}
	pthread_mutex_unlock(&ctx->lock);
	if (!all)
		return -ENOMEM;
	for (i = 0; i < count && !rc; i++)
		rc = cb(&all[i], arg);
	free(all);
	return rc;
}

ELISA_PUBLIC int elisa_ctx_where(struct elisa_ctx *ctx, uint64_t gpa, char *buf, size_t len)
{
	int rc = -ENOENT;
	uintptr_t va;
	size_t i;

	pthread_mutex_lock(&ctx->lock);
	va = table_va(&ctx->table, gpa);
	i = book_above(&ctx->book, va);
	if (i < ctx->book.count && ctx->book.all[i].addr <= va && ctx->book.all[i].prot)
		rc = 0;
	pthread_mutex_unlock(&ctx->lock);
	if (!va)
		snprintf(buf, len, "no address of the context");
	else if (!address_name(va, buf, len))
		snprintf(buf, len, "%#" PRIxPTR, va);
	return rc;
}
