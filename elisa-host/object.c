/* SPDX-License-Identifier: BSD-3-Clause */
/* Exports of shared objects and of parts of them, as the dynamic loader has laid them out. */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "internal.h"

#define MAX_SEGMENTS 32
#define PARTS_DATA   (ELISA_OBJECT_DATA_R | ELISA_OBJECT_DATA_W)
#define PARTS_KNOWN  (ELISA_OBJECT_TEXT | ELISA_OBJECT_CONST | PARTS_DATA)

struct object {
	uintptr_t symbol;
	uint32_t parts; /* ELISA_OBJECT_* that are wanted */
	int rc;		/* -ENOENT until found */
	size_t count;
	struct exported segments[MAX_SEGMENTS];
};

static uintptr_t page_down(uintptr_t addr)
{
	return addr & ~(uintptr_t)(ELISA_PAGE_SIZE - 1);
}

static uintptr_t page_up(uintptr_t addr)
{
	return page_down(addr + ELISA_PAGE_SIZE - 1);
}

static const ElfW(Phdr) * find_header(const struct dl_phdr_info *info, ElfW(Word) type)
{
	size_t i;

	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == type)
			return &info->dlpi_phdr[i];
	return NULL;
}

static bool has_symbol(const struct dl_phdr_info *info, uintptr_t symbol)
{
	size_t i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && symbol - (info->dlpi_addr + p->p_vaddr) < p->p_memsz)
			return true;
	}
	return false;
}

/* Has functions that the loader will resolve only when they are called: it is not there inside. */
static bool binds_lazily(const struct dl_phdr_info *info)
{
	const ElfW(Phdr) *header = find_header(info, PT_DYNAMIC);
	const ElfW(Dyn) * d;
	const ElfW(Rela) *rel = NULL;
	size_t len = 0, i;

	if (!header)
		return false;
	for (d = (const void *)(info->dlpi_addr + header->p_vaddr); d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_BIND_NOW ||
		    (d->d_tag == DT_FLAGS && d->d_un.d_val & DF_BIND_NOW) ||
		    (d->d_tag == DT_FLAGS_1 && d->d_un.d_val & DF_1_NOW))
			return false;
		if (d->d_tag == DT_PLTRELSZ)
			len = d->d_un.d_val;
		if (d->d_tag == DT_JMPREL)
			/* glibc has added the load address already, other loaders do not. */
			rel = (const void *)(d->d_un.d_ptr < info->dlpi_addr
						     ? d->d_un.d_ptr + info->dlpi_addr
						     : d->d_un.d_ptr);
	}
	for (i = 0; rel && i < len / sizeof(*rel); i++)
		if (ELF64_R_TYPE(rel[i].r_info) == R_X86_64_JUMP_SLOT)
			return true;
	return false;
}

static int add(struct object *o, uintptr_t start, uintptr_t end, uint32_t part)
{
	uint32_t prot = ELISA_MAP_R;

	if (start >= end || !(o->parts & part))
		return 0;
	if (o->count == MAX_SEGMENTS)
		return -E2BIG;
	if (part == ELISA_OBJECT_TEXT)
		prot = ELISA_MAP_X;
	else if (part & o->parts & ELISA_OBJECT_DATA_W)
		prot |= ELISA_MAP_W;
	o->segments[o->count++] = (struct exported){start, end - start, prot, start, false};
	return 0;
}

static int add_segment(struct object *o, const struct dl_phdr_info *info, const ElfW(Phdr) * p)
{
	const ElfW(Phdr) *relro = find_header(info, PT_GNU_RELRO);
	uintptr_t start = page_down(info->dlpi_addr + p->p_vaddr);
	uintptr_t end = page_up(info->dlpi_addr + p->p_vaddr + p->p_memsz);
	uintptr_t ro_start = start, ro_end = start;
	int rc;

	if (!(p->p_flags & PF_W)) {
		/* Code and constants in one segment: linked with -z noseparate-code. */
		if (p->p_flags & PF_X && !p->p_offset)
			return o->parts & ~PARTS_DATA ? -ENOEXEC : 0;
		return add(o, start, end,
			   p->p_flags & PF_X ? ELISA_OBJECT_TEXT : ELISA_OBJECT_CONST);
	}
	if (p->p_flags & PF_X)
		return -ENOEXEC;
	/* The loader makes these pages read-only: the last one only if it is all RELRO. */
	if (relro && relro->p_vaddr >= p->p_vaddr && relro->p_vaddr < p->p_vaddr + p->p_memsz) {
		ro_start = page_down(info->dlpi_addr + relro->p_vaddr);
		ro_end = page_down(info->dlpi_addr + relro->p_vaddr + relro->p_memsz);
	}
	rc = add(o, start, ro_start, PARTS_DATA);
	if (!rc)
		rc = add(o, ro_start, ro_end, ELISA_OBJECT_CONST);
	if (!rc)
		rc = add(o, ro_end, end, PARTS_DATA);
	return rc;
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct object *o = arg;
	size_t i;

	if (!has_symbol(info, o->symbol))
		return 0;
	o->rc = o->parts & ELISA_OBJECT_TEXT && binds_lazily(info) ? -ENOEXEC : 0;
	for (i = 0; i < info->dlpi_phnum && !o->rc; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD)
			o->rc = add_segment(o, info, &info->dlpi_phdr[i]);
	return 1;
}

static int find_object(struct object *o, const void *symbol, uint32_t parts)
{
	*o = (struct object){.symbol = (uintptr_t)symbol, .parts = parts, .rc = -ENOENT};
	dl_iterate_phdr(look_at, o);
	return o->rc;
}

/* All or nothing; returns how many. ctx->lock held. */
static int export_all(struct elisa_ctx *ctx, const struct exported *all, size_t count)
{
	size_t i;
	int rc;

	for (i = 0; i < count; i++) {
		rc = ctx_export_at(ctx, &all[i]);
		if (rc) {
			while (i--)
				ctx_unexport(ctx, all[i].addr, all[i].len);
			return rc;
		}
	}
	return count;
}

ELISA_PUBLIC int elisa_export_object(struct elisa_ctx *ctx, const void *symbol)
{
	struct object o;
	int rc = find_object(&o, symbol, PARTS_KNOWN & ~ELISA_OBJECT_DATA_R);

	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	rc = export_all(ctx, o.segments, o.count);
	pthread_mutex_unlock(&ctx->lock);
	return rc < 0 ? rc : 0;
}

/*
 * What of `want` is still to be exported: all that is not exported already. -EEXIST: part of it is,
 * with other permissions. Returns how many ranges it put in `missing`.
 */
static int find_missing(const struct book *b, const struct exported *want,
			struct exported missing[MAX_SEGMENTS], size_t count)
{
	uintptr_t at = want->addr, end = want->addr + want->len;
	size_t i;

	for (i = book_above(b, at); at < end; i++) {
		bool last = i == b->count || b->all[i].addr >= end;
		uintptr_t next = last ? end : b->all[i].addr;

		if (next > at) {
			if (count == MAX_SEGMENTS)
				return -E2BIG;
			missing[count++] = (struct exported){at, next - at, want->prot, at, false};
		}
		if (last)
			break;
		if (b->all[i].prot != want->prot)
			return -EEXIST;
		at = b->all[i].addr + b->all[i].len;
	}
	return count;
}

ELISA_PUBLIC int elisa_export_object_as(struct elisa_ctx *ctx, const void *symbol, uint32_t parts)
{
	struct exported missing[MAX_SEGMENTS];
	struct object o;
	size_t i;
	int rc;

	if (!parts || parts & ~PARTS_KNOWN || (parts & PARTS_DATA) == PARTS_DATA)
		return -EINVAL;
	rc = find_object(&o, symbol, parts);
	if (rc)
		return rc;
	pthread_mutex_lock(&ctx->lock);
	for (i = 0; i < o.count && rc >= 0; i++)
		rc = find_missing(&ctx->book, &o.segments[i], missing, rc);
	if (rc >= 0)
		rc = export_all(ctx, missing, rc);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}
