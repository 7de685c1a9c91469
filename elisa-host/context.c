/* SPDX-License-Identifier: BSD-3-Clause */
/* Contexts: create, realize, destroy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* Nothing of this process may be at the addresses that mean something else inside. */
static int reserve(struct elisa_ctx *ctx)
{
	static const uintptr_t pages[] = {ELISA_LIST_VA, ELISA_DESC_VA, ELISA_GATE_VA};
	size_t i;
	int rc = 0;

	for (i = 0; i < ARRAY_SIZE(pages) && !rc; i++) {
		void *want = (void *)pages[i];
		void *got = mmap(want, ELISA_PAGE_SIZE, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (got == MAP_FAILED) {
			rc = -errno;
			break;
		}
		rc = book_add(&ctx->book,
			      &(struct exported){.addr = pages[i], .len = ELISA_PAGE_SIZE});
		if (rc)
			munmap(got, ELISA_PAGE_SIZE);
	}
	return rc;
}

static void unreserve(struct elisa_ctx *ctx)
{
	size_t i;

	for (i = 0; i < ctx->book.count; i++)
		if (!ctx->book.all[i].prot)
			munmap((void *)ctx->book.all[i].addr, ELISA_PAGE_SIZE);
}

static void ctx_free(struct elisa_ctx *ctx)
{
	unreserve(ctx);
	if (ctx->gate)
		munmap(ctx->gate, 2 * ELISA_PAGE_SIZE);
	tls_free(&ctx->threads.tls);
	table_fini(&ctx->table);
	free(ctx->book.all);
	pthread_mutex_destroy(&ctx->lock);
	free(ctx);
}

ELISA_PUBLIC int elisa_ctx_create(struct elisa_host *host, elisa_entry_fn entry,
				  struct elisa_ctx **ctx)
{
	struct elisa_context_create create = {0};
	struct elisa_ctx *c;
	int rc;

	if (!entry)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	c->host = host;
	c->entry = entry;
	rc = reserve(c);
	if (rc < 0)
		goto free;
	rc = table_init(&c->table, host->info.window_gpa, host->info.window_size);
	if (rc < 0)
		goto free;
	create.root = (uintptr_t)table_root(&c->table);
	create.list_gpa = table_gpa(&c->table, ELISA_LIST_VA);
	create.desc_gpa = table_gpa(&c->table, ELISA_DESC_VA);
	rc = c->fd = host->ops->ioctl(host->fd, ELISA_CONTEXT_CREATE, &create);
	if (rc < 0)
		goto free;
	/* The one table that the gate context knows; all else that it leads to is not there. */
	rc = ctx_link(c, ELISA_GATE_VA, ELISA_MAP_TRUSTED | ELISA_MAP_GATE);
	if (rc < 0)
		goto close;
	*ctx = c;
	return 0;
close:
	close(c->fd);
free:
	ctx_free(c);
	return rc;
}

static int map_code(struct elisa_ctx *ctx, const void *page, uint32_t which)
{
	struct elisa_ctx_map map = {
		.addr = (uintptr_t)page,
		.gpa = table_gpa(&ctx->table, ELISA_GATE_VA),
		.len = ELISA_PAGE_SIZE,
		.flags = ELISA_MAP_X | which,
	};
	int rc = ctx_ioctl(ctx, ELISA_CTX_MAP, &map);

	return rc < 0 ? rc : 0;
}

static int realize(struct elisa_ctx *ctx)
{
	char *pages;
	int rc;

	if (ctx->gate)
		return -EALREADY;
	pages = mmap(NULL, 2 * ELISA_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	if (pages == MAP_FAILED)
		return -ENOMEM;
	memcpy(pages, elisa_gate_page, ELISA_PAGE_SIZE);
	memcpy(pages + ELISA_PAGE_SIZE, elisa_entry_page, ELISA_PAGE_SIZE);
#ifdef ELISA_WEAK
	weak_pages((uint8_t *)pages, (uint8_t *)pages + ELISA_PAGE_SIZE);
#endif
	rc = mprotect(pages, 2 * ELISA_PAGE_SIZE, PROT_READ) ? -errno : 0;
	if (!rc)
		rc = map_code(ctx, pages, ELISA_MAP_GATE);
	if (!rc)
		rc = map_code(ctx, pages + ELISA_PAGE_SIZE, ELISA_MAP_TRUSTED);
	if (rc < 0) {
		struct elisa_ctx_unmap unmap = {
			.gpa = table_gpa(&ctx->table, ELISA_GATE_VA),
			.len = ELISA_PAGE_SIZE,
		};

		/* No VM can be attached yet; ENOENT if not even the gate was mapped. */
		ctx_ioctl(ctx, ELISA_CTX_UNMAP, &unmap);
		munmap(pages, 2 * ELISA_PAGE_SIZE);
		return rc;
	}
	ctx->gate = pages;
	ctx->stub = pages + ELISA_PAGE_SIZE;
	return 0;
}

ELISA_PUBLIC int elisa_ctx_realize(struct elisa_ctx *ctx)
{
	int rc;

	pthread_mutex_lock(&ctx->lock);
	rc = realize(ctx);
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

bool ctx_armed(const struct elisa_ctx *ctx)
{
	const struct elisa_vm *vm;

	for (vm = ctx->vms; vm; vm = vm->next)
		if (vm->vcpu_count)
			return true;
	return false;
}

ELISA_PUBLIC int elisa_ctx_thread(struct elisa_ctx *ctx, int (*begin)(void *arg),
				  void (*end)(void *arg), void *arg)
{
	int rc = -EBUSY;

	pthread_mutex_lock(&ctx->lock);
	if (!ctx_armed(ctx)) {
		ctx->threads.begin = begin;
		ctx->threads.end = end;
		ctx->threads.arg = arg;
		rc = 0;
	}
	pthread_mutex_unlock(&ctx->lock);
	return rc;
}

ELISA_PUBLIC void elisa_ctx_destroy(struct elisa_ctx *ctx)
{
	if (!ctx)
		return;
	/* First of all: from here on nobody is inside, and guests are told "away". */
	close(ctx->fd);
	while (ctx->vms) {
		struct elisa_vm *vm = ctx->vms;

		ctx->vms = vm->next;
		vm_abandon(vm);
	}
	ctx_free(ctx);
}
