// SPDX-License-Identifier: GPL-2.0-only
/* The caller's memory: pinned for as long as a context maps it, as runs of contiguous pages. */
#include <linux/kvm_host.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include "defence.h"
#include "kmod.h"

#define BATCH 512

static atomic64_t pinned_pages;

u64 elisa_mem_pinned(void)
{
	return atomic64_read(&pinned_pages);
}

/* Appends to the last run where memory goes on. */
static int add_run(struct elisa_mapping *map, u64 pa, u64 pages)
{
	struct ept_run *last = map->runs ? &map->run[map->runs - 1] : NULL;
	size_t capacity = map->capacity ? 2 * map->capacity : 16;
	struct ept_run *run;

	if (last && last->pa + last->pages * EPT_SIZE_4K == pa) {
		last->pages += pages;
		return 0;
	}
	if (map->runs == map->capacity) {
		run = kvmalloc_array(capacity, sizeof(*run), GFP_KERNEL_ACCOUNT);
		if (!run)
			return -ENOMEM;
		if (map->runs)
			memcpy(run, map->run, map->runs * sizeof(*run));
		kvfree(map->run);
		map->run = run;
		map->capacity = capacity;
	}
	map->run[map->runs++] = (struct ept_run){ .pa = pa, .pages = pages };
	return 0;
}

/*
 * Pins for write where the caller may write, even if the context only reads: a page that is not
 * there yet, or is shared copy-on-write, would else be replaced under the pin by the caller's next
 * write.
 */
static int pin_batch(u64 addr, int count, bool need_write, struct page **page)
{
	int got = pin_user_pages_fast(addr, count, FOLL_WRITE | FOLL_LONGTERM, page);

	if (got == -EFAULT && !need_write)
		got = pin_user_pages_fast(addr, count, FOLL_LONGTERM, page);
	return got;
}

static int pin_ram(struct elisa_mapping *map, u64 addr, u64 len)
{
	struct page **page = kmalloc_array(BATCH, sizeof(*page), GFP_KERNEL);
	u64 end = addr + len;
	int got, kept, err = page ? 0 : -ENOMEM;

	while (!err && addr < end) {
		if (signal_pending(current)) {
			err = -EINTR;
			break;
		}
		cond_resched();
		got = pin_batch(addr, min_t(u64, BATCH, (end - addr) >> PAGE_SHIFT),
				map->flags & ELISA_MAP_W, page);
		if (got <= 0) {
			err = got ? got : -EFAULT;
			break;
		}
		for (kept = 0; kept < got; kept++) {
			err = add_run(map, page_to_phys(page[kept]), 1);
			if (err)
				break;
		}
		if (kept < got)
			unpin_user_pages(page + kept, got - kept);
		if (!DEFENCE(pin))
			unpin_user_pages(page, kept);
		map->pinned += kept;
		atomic64_add(kept, &pinned_pages);
		atomic64_add(kept, &map->mm->pinned_vm);
		addr += (u64)got << PAGE_SHIFT;
	}
	kfree(page);
	return err;
}

/* The caller's mapping of a device that holds all of the range; mmap lock held. */
static struct vm_area_struct *device_vma(u64 addr, u64 len, u32 flags)
{
	struct vm_area_struct *vma = find_vma(current->mm, addr);

	if (!vma || vma->vm_start > addr || vma->vm_end < addr + len ||
	    !(vma->vm_flags & VM_PFNMAP) || !vma->vm_file)
		return NULL;
	if ((flags & ELISA_MAP_W) && !(vma->vm_flags & VM_WRITE))
		return NULL;
	return vma;
}

/*
 * The page frame at `at`. Some drivers, VFIO among them, map a page when it is first touched: then
 * this does. That may let go of the mmap lock: -EAGAIN, nothing known of the mapping holds any more.
 */
static int device_pfn(struct vm_area_struct *vma, u64 at, u32 flags, unsigned long *pfn)
{
	bool unlocked = false;
	int err = compat_follow_pfn(vma, at, pfn);

	if (!err)
		return 0;
	err = fixup_user_fault(current->mm, at, flags & ELISA_MAP_W ? FAULT_FLAG_WRITE : 0,
			       &unlocked);
	if (unlocked)
		return err ? err : -EAGAIN;
	return err ? err : compat_follow_pfn(vma, at, pfn);
}

static int pin_device(struct elisa_mapping *map, u64 addr, u64 len)
{
	struct vm_area_struct *vma;
	unsigned long pfn;
	u64 at = addr;
	int err = 0;

	mmap_read_lock(current->mm);
	while (at < addr + len && !err) {
		vma = device_vma(addr, len, map->flags);
		if (!vma || (map->device && map->device != vma->vm_file)) {
			err = -EFAULT;
			break;
		}
		if (!map->device)
			map->device = get_file(vma->vm_file);
		err = device_pfn(vma, at, map->flags, &pfn);
		if (err == -EAGAIN) {
			err = fatal_signal_pending(current) ? -EINTR : 0;
			continue;
		}
		if (!err && page_is_ram(pfn))
			err = -EFAULT;
		if (!err)
			err = add_run(map, (u64)pfn << PAGE_SHIFT, 1);
		at += PAGE_SIZE;
	}
	mmap_read_unlock(current->mm);
	return err;
}

int elisa_mem_get(struct elisa_mapping *map, u64 addr, u64 len, u32 flags)
{
	if ((addr | len) & (PAGE_SIZE - 1) || !len || addr + len < addr ||
	    addr + len > TASK_SIZE_MAX)
		return -EINVAL;
	map->flags = flags;
	map->mm = current->mm;
	mmgrab(map->mm);
	return flags & ELISA_MAP_DEVICE ? pin_device(map, addr, len) : pin_ram(map, addr, len);
}

void elisa_mem_put(struct elisa_mapping *map)
{
	size_t i;

	for (i = 0; i < map->runs && !(map->flags & ELISA_MAP_DEVICE) && DEFENCE(pin); i++) {
		u64 pfn = map->run[i].pa >> PAGE_SHIFT, left = map->run[i].pages;

		while (left) {
			u64 count = min_t(u64, left, BATCH);

			unpin_user_page_range_dirty_lock(pfn_to_page(pfn), count,
							 map->flags & ELISA_MAP_W);
			pfn += count;
			left -= count;
			cond_resched();
		}
	}
	atomic64_sub(map->pinned, &pinned_pages);
	if (map->mm) {
		atomic64_sub(map->pinned, &map->mm->pinned_vm);
		mmdrop(map->mm);
	}
	if (map->device)
		fput(map->device);
	kvfree(map->run);
	map->run = NULL;
	map->mm = NULL;
	map->device = NULL;
	map->runs = 0;
	map->pinned = 0;
}
