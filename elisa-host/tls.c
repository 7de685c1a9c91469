/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Thread-local variables of shared objects, inside.
 *
 * Code of a shared object finds them by __tls_get_addr(module, offset) of the dynamic loader. As
 * long as nothing is to be allocated, that is little: the thread's vector of blocks (DTV, at %fs:8)
 * is taken if the generation in its first entry is the loader's current one. Three things are
 * missing inside for that. The function: its page is exported. The current generation: it changes
 * with each library that this process loads, so what is seen inside is a page of our own with a
 * number that never does. The DTV and the blocks of libraries loaded by dlopen(), which are from
 * malloc(): while parked, a thread has copies, in the memory that is exported with its stack.
 *
 * So nothing that is loaded later, and no page of the heap, is of any concern inside.
 */
#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

/* glibc, sysdeps/generic/dl-dtv.h. Entry -1 has the capacity, entry 0 the generation. */
struct dtv {
	union {
		uint64_t number;
		char *block;
	};
	void *to_free;
};
#define UNALLOCATED ((char *)-1)

/* glibc, sysdeps/x86_64/dl-tls.h: what __tls_get_addr() is called with. */
struct tls_index {
	uint64_t module, offset;
};
void *__tls_get_addr(struct tls_index *index);

#define FAST_PATH 64 /* bytes of __tls_get_addr() that hold all of its fast path, and more */

static struct dtv *get_dtv(void)
{
	struct dtv *dtv;

	__asm__ volatile("mov %%fs:8, %0" : "=r"(dtv));
	return dtv;
}

static void set_dtv(struct dtv *dtv)
{
	__asm__ volatile("mov %0, %%fs:8" : : "r"(dtv) : "memory");
}

/*
 * Where the loader keeps the current generation, which has no name to ask for: __tls_get_addr()
 * begins with mov %fs:8, REG and mov GENERATION(%rip), REG. NULL: it does not.
 */
static uint64_t *find_generation(void)
{
	const uint8_t *code = (const uint8_t *)(uintptr_t)__tls_get_addr;
	static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa}, dtv_at[] = {0x25, 8, 0, 0, 0};
	int32_t distance;

	if (!memcmp(code, endbr64, sizeof(endbr64)))
		code += sizeof(endbr64);
	/* FS prefix, REX.W, MOV; a register, from [disp32]. */
	if (code[0] != 0x64 || (code[1] & 0xfb) != 0x48 || code[2] != 0x8b ||
	    (code[3] & 0xc7) != 0x04 || memcmp(code + 4, dtv_at, sizeof(dtv_at)))
		return NULL;
	code += 9;
	/* REX.W, MOV; a register, from [%rip + disp32]. */
	if ((code[0] & 0xfb) != 0x48 || code[1] != 0x8b || (code[2] & 0xc7) != 0x05)
		return NULL;
	memcpy(&distance, code + 3, sizeof(distance));
	return (uint64_t *)(uintptr_t)(code + 7 + distance);
}

/* ---- what there is ---- */

static const ElfW(Phdr) * tls_header(const struct dl_phdr_info *info)
{
	size_t i;

	for (i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_TLS)
			return &info->dlpi_phdr[i];
	return NULL;
}

struct measure {
	struct tls tls;
	uint64_t some; /* a module that this thread has a block of */
	char *block;
};

static int measure_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const ElfW(Phdr) *header = tls_header(info);
	struct measure *m = arg;

	if (!header || !info->dlpi_tls_modid)
		return 0;
	if (info->dlpi_tls_modid > m->tls.modules)
		m->tls.modules = info->dlpi_tls_modid;
	m->tls.room += header->p_memsz + header->p_align;
	if (!info->dlpi_tls_data)
		return 0;
	if (get_dtv()[info->dlpi_tls_modid].block != info->dlpi_tls_data)
		return -ENOTSUP;
	if (!m->some) {
		m->some = info->dlpi_tls_modid;
		m->block = info->dlpi_tls_data;
	}
	return 0;
}

/* Also verifies that all is laid out as this file has it. */
static int measure(struct tls *tls)
{
	struct measure m = {.tls.generation = find_generation()};
	int rc;

	if (!m.tls.generation)
		return -ENOTSUP;
	rc = dl_iterate_phdr(measure_object, &m);
	if (rc)
		return rc;
	/* The call brings the DTV up to date. */
	if (!m.some || __tls_get_addr(&(struct tls_index){m.some, 0}) != m.block ||
	    get_dtv()[0].number != __atomic_load_n(m.tls.generation, __ATOMIC_RELAXED))
		return -ENOTSUP;
	m.tls.room += (m.tls.modules + 2) * sizeof(struct dtv);
	m.tls.room = (m.tls.room + ELISA_PAGE_SIZE - 1) & ~(size_t)(ELISA_PAGE_SIZE - 1);
	*tls = m.tls;
	return 0;
}

/* ---- copies for a thread ---- */

struct copy {
	const struct tls *tls;
	struct dtv *dtv;
	char *low, *high; /* what is in here will be seen inside as it is */
	char *next, *end; /* free room */
};

static int copy_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const ElfW(Phdr) *header = tls_header(info);
	char *have = info->dlpi_tls_data, *block;
	struct copy *c = arg;
	uintptr_t align;

	/* What was loaded since is of no concern. */
	if (!header || !info->dlpi_tls_modid || info->dlpi_tls_modid > c->tls->modules)
		return 0;
	if (have >= c->low && have < c->high) {
		c->dtv[info->dlpi_tls_modid].block = have;
		return 0;
	}
	align = header->p_align ? header->p_align : 1;
	block = (char *)(((uintptr_t)c->next + align - 1) & ~(align - 1));
	if (block > c->end || header->p_memsz > (size_t)(c->end - block))
		return 0;
	c->next = block + header->p_memsz;
	if (have)
		memcpy(block, have, header->p_memsz);
	else /* not used by this thread so far; the rest of it is zero, as the room is */
		memcpy(block, (char *)info->dlpi_addr + header->p_vaddr, header->p_filesz);
	c->dtv[info->dlpi_tls_modid].block = block;
	return 0;
}

void *tls_borrow(const struct tls *tls, char *low, char *room)
{
	struct dtv *own = get_dtv(), *dtv = (struct dtv *)room + 1;
	struct copy c = {
		.tls = tls,
		.dtv = dtv,
		.low = low,
		.high = room,
		.next = (char *)(dtv + 1 + tls->modules),
		.end = room + tls->room,
	};
	size_t i;

	dtv[-1].number = tls->modules;
	dtv[0].number = tls->frozen;
	for (i = 1; i <= tls->modules; i++)
		dtv[i].block = UNALLOCATED;
	dl_iterate_phdr(copy_object, &c);
	set_dtv(dtv);
	return own;
}

void tls_return(void *own)
{
	set_dtv(own);
}

/* ---- the context ---- */

static int export_loader(struct elisa_ctx *ctx, struct tls *tls)
{
	const uintptr_t mask = ~(uintptr_t)(ELISA_PAGE_SIZE - 1);
	uintptr_t code = (uintptr_t)__tls_get_addr, start = code & mask;
	size_t len = ((code + FAST_PATH + ELISA_PAGE_SIZE - 1) & mask) - start;
	uintptr_t at = (uintptr_t)tls->generation;
	struct exported copy = {at & mask, ELISA_PAGE_SIZE, ELISA_MAP_R, 0, false};
	char *page;
	int rc;

	page = mmap(NULL, ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (page == MAP_FAILED)
		return -ENOMEM;
	/* Whatever else is in the loader's page is not for there. */
	tls->frozen = *tls->generation;
	memcpy(page + (at & ~mask), &tls->frozen, sizeof(tls->frozen));
	copy.memory = (uintptr_t)page;
	rc = ctx_export(ctx, start, len, ELISA_MAP_X);
	if (rc)
		goto unmap;
	rc = ctx_export_at(ctx, &copy);
	if (rc)
		goto unexport;
	tls->page = page;
	return 0;
unexport:
	ctx_unexport(ctx, start, len);
unmap:
	munmap(page, ELISA_PAGE_SIZE);
	return rc;
}

static int export_tls(struct elisa_ctx *ctx)
{
	struct tls tls;
	int rc;

	if (ctx_armed(ctx))
		return -EBUSY;
	rc = measure(&tls);
	if (rc)
		return rc;
	if (ctx->threads.tls.page) {
		/* Only the number of objects may have changed. */
		ctx->threads.tls.modules = tls.modules;
		ctx->threads.tls.room = tls.room;
		return 0;
	}
	rc = export_loader(ctx, &tls);
	if (!rc)
		ctx->threads.tls = tls;
	return rc;
}

ELISA_PUBLIC int elisa_export_tls(struct elisa_ctx *ctx)
{
	int rc;

	pthread_mutex_lock(&ctx->lock);
	rc = export_tls(ctx);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

void tls_free(struct tls *tls)
{
	if (tls->page)
		munmap(tls->page, ELISA_PAGE_SIZE);
}
