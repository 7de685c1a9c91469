/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest RAM. Slots that KVM knows -> the mappings of the VMM behind them -> the files behind those
 * -> views of those files here, as a vhost-user back end does it, but found from outside.
 *
 * A file is mapped at base + offset, and only where it is RAM. So adjacent slots become one piece,
 * two slots over the same part of a file share it, and huge pages stay huge.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "internal.h"

/* linux/kvm.h and linux/magic.h, which need not be installed. */
#define SLOT_READONLY	      2u
#define HUGETLBFS_SUPER_MAGIC 0x958458f6

static int refuse(struct elisa_why *why, uint32_t refusal, uint64_t detail)
{
	why->refusal = refusal;
	why->detail = detail;
	return -EPERM;
}

static int by_gpa(const void *a, const void *b)
{
	const struct elisa_slot *x = a, *y = b;

	return x->gpa < y->gpa ? -1 : x->gpa > y->gpa;
}

/* Index of the view of that file, made if need be. */
static int get_view(struct ram *ram, const struct process *p, const struct vma *vma)
{
	struct statfs fs;
	struct view *v;
	uint32_t i;
	int fd;

	for (i = 0; i < ram->view_count; i++) {
		v = &ram->views[i];
		if (v->inode == vma->inode && v->major == vma->major && v->minor == vma->minor)
			return i;
	}
	if (i == ARRAY_SIZE(ram->views))
		return -E2BIG;
	fd = process_file(p, vma);
	if (fd < 0)
		return fd;
	v = &ram->views[i];
	*v = (struct view){.major = vma->major,
			   .minor = vma->minor,
			   .inode = vma->inode,
			   .fd = fd,
			   .align = ELISA_PAGE_SIZE};
	ram->view_count++;
	if (!fstatfs(fd, &fs) && fs.f_type == HUGETLBFS_SUPER_MAGIC && fs.f_bsize > ELISA_PAGE_SIZE)
		v->align = fs.f_bsize;
	return i;
}

static int add_region(struct ram *ram, const struct elisa_slot *slot, uint32_t view,
		      uint64_t offset)
{
	uint32_t last = ram->count - 1;

	if (ram->count && ram->place[last].view == view &&
	    ram->regions[last].gpa + ram->regions[last].len == slot->gpa &&
	    ram->place[last].offset + ram->regions[last].len == offset) {
		ram->regions[last].len += slot->size;
		return 0;
	}
	if (ram->count == ELISA_MAX_REGIONS)
		return -E2BIG;
	ram->regions[ram->count] = (struct elisa_region){.gpa = slot->gpa, .len = slot->size};
	ram->place[ram->count].view = view;
	ram->place[ram->count].offset = offset;
	ram->count++;
	return 0;
}

/* 1: it became RAM; 0: it is none; -EXDEV: it is, but not shared. */
static int add_slot(struct ram *ram, const struct process *p, const struct vmas *vmas,
		    const struct elisa_slot *slot)
{
	struct vma vma;
	int rc;

	if (slot->flags & SLOT_READONLY || !slot->size)
		return 0;
	if (slot->gpa % ELISA_PAGE_SIZE || slot->size % ELISA_PAGE_SIZE ||
	    slot->gpa + slot->size < slot->gpa)
		return -EPROTO;
	rc = vmas_resolve(vmas, slot->addr, slot->size, &vma);
	if (rc == -ENOENT || rc == -EXDEV)
		return -EXDEV;
	if (rc)
		return rc;
	rc = get_view(ram, p, &vma);
	if (rc == -ENOTSUP)
		return 0;
	/* Shared, but with nobody that we can reach: as bad as not shared. */
	if (rc == -ENOENT || rc == -EACCES)
		return -EXDEV;
	if (rc < 0)
		return rc;
	rc = add_region(ram, slot, rc, vma.offset);
	return rc ? rc : 1;
}

/* Adds [start, end) to the view's extents, and unites what touches it. */
static void add_extent(struct view *v, uint64_t start, uint64_t end)
{
	uint32_t i, kept = 0;

	start &= ~(v->align - 1);
	end = (end + v->align - 1) & ~(v->align - 1);
	for (i = 0; i < v->count; i++) {
		if (v->extents[i].end < start || v->extents[i].start > end) {
			v->extents[kept++] = v->extents[i];
			continue;
		}
		if (v->extents[i].start < start)
			start = v->extents[i].start;
		if (v->extents[i].end > end)
			end = v->extents[i].end;
	}
	for (i = kept; i > 0 && v->extents[i - 1].start > start; i--)
		v->extents[i] = v->extents[i - 1];
	v->extents[i].start = start;
	v->extents[i].end = end;
	v->count = kept + 1;
}

static int plan_views(struct ram *ram)
{
	uint32_t i;

	for (i = 0; i < ram->count; i++)
		add_extent(&ram->views[ram->place[i].view], ram->place[i].offset,
			   ram->place[i].offset + ram->regions[i].len);
	for (i = 0; i < ram->view_count; i++) {
		struct view *v = &ram->views[i];
		struct stat st;

		/* A view without a region: add_region() failed, and so did all. */
		if (!v->count)
			continue;
		v->low = v->extents[0].start & ~(GIB - 1);
		v->high = v->extents[v->count - 1].end;
		if (fstat(v->fd, &st))
			return -errno;
		/* Touching a mapping beyond the end of its file would kill this process. */
		if (st.st_size < 0 || (uint64_t)st.st_size < v->high)
			return -ENXIO;
	}
	return 0;
}

int ram_plan(struct ram *ram, const struct process *p, struct elisa_slot *slots, uint32_t count,
	     struct elisa_why *why)
{
	const struct elisa_slot *private = NULL;
	struct vmas vmas;
	uint32_t i;
	int rc = vmas_read(p->dir, &vmas);

	if (rc)
		return rc;
	qsort(slots, count, sizeof(*slots), by_gpa);
	for (i = 0, rc = 0; i < count && rc >= 0; i++) {
		rc = add_slot(ram, p, &vmas, &slots[i]);
		if (rc != -EXDEV)
			continue;
		if (slots[i].size >= RAM_SMALL) {
			rc = refuse(why, ELISA_REFUSE_NOT_SHARED, slots[i].gpa);
		} else {
			if (!private)
			private = &slots[i];
			rc = 0;
		}
	}
	vmas_free(&vmas);
	if (rc == -E2BIG)
		return refuse(why, ELISA_REFUSE_TOO_MANY_SLOTS, 0);
	if (rc < 0)
		return rc;
	if (!ram->count)
		return private ? refuse(why, ELISA_REFUSE_NOT_SHARED, private->gpa)
			       : refuse(why, ELISA_REFUSE_NO_RAM, 0);
	return plan_views(ram);
}

/* Finds addresses for the view: the first free ones of the area. */
static int place_view(struct view *v)
{
	uint64_t at;

	for (at = RAM_AREA; at + (v->high - v->low) <= RAM_AREA_END; at += GIB) {
		void *got = mmap((void *)at, v->high - v->low, PROT_NONE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
				 -1, 0);

		if (got != MAP_FAILED) {
			v->base = got;
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -ENOMEM;
}

/* Adds what the file has of RAM to this process's mappings. Pages come with map_chunk(). */
static int map_view(struct view *v)
{
	int rc = place_view(v);
	uint32_t i;

	for (i = 0; i < v->count && !rc; i++) {
		char *at = v->base + (v->extents[i].start - v->low);
		size_t len = v->extents[i].end - v->extents[i].start;

		if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, v->fd,
			 v->extents[i].start) == MAP_FAILED)
			return -errno;
		/* Guests' memory belongs in no core dump, and in no child. */
		madvise(at, len, MADV_DONTDUMP);
		madvise(at, len, MADV_DONTFORK);
	}
	if (!rc) {
		close(v->fd);
		v->fd = -1;
	}
	return rc;
}

int ram_map(struct ram *ram)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < ram->view_count && !rc; i++)
		rc = map_view(&ram->views[i]);
	if (rc)
		return rc;
	for (i = 0; i < ram->count; i++) {
		struct view *v = &ram->views[ram->place[i].view];

		ram->regions[i].addr = v->base + (ram->place[i].offset - v->low);
	}
	return 0;
}

/* The next chunk of this view. 1: done; 0: there is none left. */
static int export_chunk(struct view *v, struct elisa_ctx *ctx)
{
	struct exported e = {.prot = ELISA_MAP_R | ELISA_MAP_W, .shared = true};
	uint64_t start, end;
	int rc;

	if (v->extent == v->count)
		return 0;
	start = v->extents[v->extent].start + v->done;
	end = (start + RAM_CHUNK) & ~(RAM_CHUNK - 1);
	if (end > v->extents[v->extent].end)
		end = v->extents[v->extent].end;
	e.addr = e.memory = (uintptr_t)v->base + (start - v->low);
	e.len = end - start;
	rc = ctx_export_at(ctx, &e);
	if (rc)
		return rc;
	v->done += end - start;
	if (end == v->extents[v->extent].end) {
		v->extent++;
		v->done = 0;
	}
	return 1;
}

int ram_export_step(struct ram *ram, struct elisa_ctx *ctx)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < ram->view_count && !rc; i++)
		rc = export_chunk(&ram->views[i], ctx);
	return rc;
}

/* The last chunk of this view that is exported. False: there is none. */
static bool unexport_chunk(struct view *v, struct elisa_ctx *ctx)
{
	uint64_t start, end;
	char *at;

	if (!v->done) {
		if (!v->extent)
			return false;
		v->extent--;
		v->done = v->extents[v->extent].end - v->extents[v->extent].start;
	}
	end = v->extents[v->extent].start + v->done;
	start = (end - 1) & ~(RAM_CHUNK - 1);
	if (start < v->extents[v->extent].start)
		start = v->extents[v->extent].start;
	at = v->base + (start - v->low);
	ctx_unexport(ctx, (uintptr_t)at, end - start);
	/* Of this process's page tables, too, which munmap() would do all at once. */
	madvise(at, end - start, MADV_DONTNEED);
	v->done -= end - start;
	return true;
}

bool ram_unexport_step(struct ram *ram, struct elisa_ctx *ctx)
{
	uint32_t i;

	for (i = 0; i < ram->view_count; i++)
		if (unexport_chunk(&ram->views[i], ctx))
			return true;
	return false;
}

void ram_release(struct ram *ram, struct elisa_ctx *ctx)
{
	uint32_t i;

	while (ctx && ram_unexport_step(ram, ctx))
		;
	for (i = 0; i < ram->view_count; i++) {
		struct view *v = &ram->views[i];

		if (v->base)
			munmap(v->base, v->high - v->low);
		if (v->fd >= 0)
			close(v->fd);
	}
	ram->view_count = ram->count = 0;
}
