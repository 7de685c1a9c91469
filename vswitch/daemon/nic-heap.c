/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK's heap. Guests copy frames into its packet buffers, and read and write the rings there: so
 * all of it is in the trusted context, and mapped by local clients, before a NIC's queue that lies
 * in it is set up. It may grow and shrink from any thread that makes DPDK allocate.
 */
#include "nic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* With heap_lock. */
__attribute__((format(printf, 2, 3))) static void complain(struct nics *all, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(all->heap_note, sizeof(all->heap_note), fmt, ap);
	va_end(ap);
	nic_say_at(LOG_HERE, all, NULL, SD_ERR, "memory", "DPDK's memory: %s", all->heap_note);
}

static int range_export(struct nics *all, struct elisa_ctx *ctx, struct heap_range *r)
{
	int ret;

	if (r->exported || r->gone)
		return 0;
	ret = elisa_export(ctx, r->m.addr, r->m.len, ELISA_R | ELISA_W);
	if (ret)
		complain(all, "%zu MiB at %p were not exported to the trusted context: %s",
			 r->m.len >> 20, r->m.addr, strerror(-ret));
	else
		r->exported = true;
	return ret;
}

static void range_free(struct heap_range *r)
{
	if (r->m.fd >= 0)
		close(r->m.fd);
	r->m.fd = -1;
}

/* One of a piece that is gone for everybody, or a new one. */
static struct heap_range *range_slot(struct nics *all)
{
	for (unsigned int i = 0; i < all->ranges; i++) {
		if (!all->heap[i].gone || all->heap[i].region)
			continue;
		range_free(&all->heap[i]);
		return &all->heap[i];
	}
	return all->ranges < HEAP_RANGES ? &all->heap[all->ranges++] : NULL;
}

static void range_add(struct nics *all, const struct nic_memory *m)
{
	struct heap_range *r;

	r = range_slot(all);
	if (!r) {
		complain(all, "more than %d pieces: raise dpdk.memory", HEAP_RANGES);
		return;
	}
	*r = (struct heap_range){.m = *m};
	/* DPDK closes its own when it likes. */
	if (m->fd >= 0)
		r->m.fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 3);
	if (all->ctx)
		range_export(all, all->ctx, r);
}

static void range_gone(struct nics *all, const struct nic_memory *m)
{
	for (unsigned int i = 0; i < all->ranges; i++) {
		struct heap_range *r = &all->heap[i];

		if (r->gone || r->m.addr != m->addr)
			continue;
		if (r->exported && all->ctx)
			elisa_unexport(all->ctx, r->m.addr, r->m.len);
		r->exported = false;
		r->gone = true;
	}
}

static void on_memory(const struct nic_memory *m, bool there, void *arg)
{
	struct nics *all = arg;

	pthread_mutex_lock(&all->heap_lock);
	if (there)
		range_add(all, m);
	else
		range_gone(all, m);
	pthread_mutex_unlock(&all->heap_lock);
	nic_poke(all->news);
}

int heap_follow(struct nics *all)
{
	int ret = all->lib->span(&all->span);

	return ret ? ret : all->lib->memory(on_memory, all);
}

/* To a context that is being made; from now on what comes is exported to it at once. */
int heap_export(struct nics *all, struct elisa_ctx *ctx)
{
	int ret = 0;

	pthread_mutex_lock(&all->ctx_lock);
	pthread_mutex_lock(&all->heap_lock);
	for (unsigned int i = 0; i < all->ranges && !ret; i++)
		ret = range_export(all, ctx, &all->heap[i]);
	if (!ret)
		all->ctx = ctx;
	pthread_mutex_unlock(&all->heap_lock);
	pthread_mutex_unlock(&all->ctx_lock);
	return ret;
}

int heap_ready(struct nics *all, char why[NIC_WHY_LEN])
{
	int ret = 0;

	pthread_mutex_lock(&all->heap_lock);
	if (all->heap_note[0]) {
		snprintf(why, NIC_WHY_LEN, "DPDK's memory: %s", all->heap_note);
		ret = -ENOMEM;
	}
	for (unsigned int i = 0; i < all->ranges && !ret; i++)
		if (!all->heap[i].shared && !all->heap[i].gone)
			ret = -EAGAIN;
	pthread_mutex_unlock(&all->heap_lock);
	return ret;
}

/* ---- local clients; the event loop ---- */

static void range_share(struct nics *all, struct heap_range *r)
{
	struct local *local = all->daemon->local;
	int ret = -ENOENT;

	if (!local) {
		r->shared = true;
		return;
	}
	if (r->region)
		return; /* on_region_ready() follows */
	if (r->m.fd >= 0)
		ret = local_region_add(all->daemon, r->m.fd, r->m.offset, r->m.addr, r->m.len, all,
				       &r->region);
	if (!ret)
		return;
	/* Whoever comes is refused from now on; who is there already would fault. */
	all->daemon->no_local_nic = true;
	if (local_clients(all->daemon))
		complain(all,
			 "local clients cannot map it (%s): end them, or set local.enable = false",
			 strerror(-ret));
	r->shared = true;
}

void heap_share(struct nics *all)
{
	pthread_mutex_lock(&all->heap_lock);
	for (unsigned int i = 0; i < all->ranges; i++) {
		struct heap_range *r = &all->heap[i];

		if (r->gone && r->region) {
			elisa_local_region_remove(r->region);
			r->region = NULL;
		} else if (!r->gone && !r->shared) {
			range_share(all, r);
		}
	}
	pthread_mutex_unlock(&all->heap_lock);
}

void nics_local_gone(struct daemon *d)
{
	struct nics *all = d->nics;

	if (!all)
		return;
	pthread_mutex_lock(&all->heap_lock);
	for (unsigned int i = 0; i < all->ranges; i++) {
		all->heap[i].region = NULL;
		all->heap[i].shared = true;
	}
	pthread_mutex_unlock(&all->heap_lock);
}

void nics_region_ready(struct daemon *d, struct elisa_local_region *region)
{
	struct nics *all = d->nics;

	pthread_mutex_lock(&all->heap_lock);
	for (unsigned int i = 0; i < all->ranges; i++)
		if (all->heap[i].region == region)
			all->heap[i].shared = true;
	pthread_mutex_unlock(&all->heap_lock);
	for (unsigned int i = 0; i < all->count; i++)
		nic_poke(all->nic[i].wake);
}

void heap_close(struct nics *all)
{
	for (unsigned int i = 0; i < all->ranges; i++)
		range_free(&all->heap[i]);
	all->ranges = 0;
}
