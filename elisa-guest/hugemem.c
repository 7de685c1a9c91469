/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory of the vmfunc transport: 2 MiB hugepages of a file in hugetlbfs, and their guest-physical
 * addresses.
 *
 * The file has a name and a flock(2). A process that dies leaves it behind: its pages stay with the
 * file, where a late write of another VM's vCPU does no harm, until the next process of that name
 * takes it over. It is never shrunk then, for the same reason.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "internal.h"

#define HUGE  (UINT64_C(2) << 20)
#define SMALL 4096
/* Documentation/admin-guide/mm/pagemap.rst: bits 0-54 page frame number, bit 63 present. */
#define PAGEMAP_PFN	((UINT64_C(1) << 55) - 1)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)

struct hugemem {
	struct elisa_mem mem; /* first: what the user has is a pointer to it */
	uint64_t *gpa;
	int fd;
	char path[PATH_MAX];
};

/* The first writable hugetlbfs of 2 MiB pages. */
static int find_mount(char *dir, size_t size)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent entry, *e;
	char line[4096];
	struct statfs st;
	int rc = -ENODEV;

	if (!mounts)
		return -errno;
	while (rc && (e = getmntent_r(mounts, &entry, line, sizeof(line)))) {
		if (strcmp(e->mnt_type, "hugetlbfs") || statfs(e->mnt_dir, &st) ||
		    st.f_bsize != (long)HUGE || access(e->mnt_dir, W_OK))
			continue;
		if ((size_t)snprintf(dir, size, "%s", e->mnt_dir) < size)
			rc = 0;
	}
	endmntent(mounts);
	return rc;
}

/* Opens and locks; again if the file was unlinked by its former owner between the two. */
static int open_locked(struct hugemem *h)
{
	struct stat by_fd, by_path;

	for (int i = 0; i < 16; i++) {
		int fd = open(h->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		int rc;

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
			close(fd);
			return rc;
		}
		if (!fstat(fd, &by_fd) && !stat(h->path, &by_path) &&
		    by_fd.st_ino == by_path.st_ino && by_fd.st_dev == by_path.st_dev) {
			h->fd = fd;
			return 0;
		}
		close(fd);
	}
	return -EBUSY;
}

static int map_file(struct hugemem *h, size_t len)
{
	struct stat st;
	void *p;
	int rc;

	if (fstat(h->fd, &st))
		return -errno;
	if ((uint64_t)st.st_size > len)
		len = (size_t)st.st_size;
	else if (ftruncate(h->fd, (off_t)len))
		return -errno;
	/* hugetlbfs reserves at mmap time, so too few pages are an error here, not a SIGBUS later.
	 */
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, h->fd, 0);
	if (p == MAP_FAILED) {
		rc = -errno;
		/* As it was: what it had stays, what was asked for in vain is not asked again. */
		if (ftruncate(h->fd, st.st_size) || !st.st_size)
			unlink(h->path);
		return rc;
	}
	h->mem.addr = p;
	h->mem.len = len;
	h->mem.page = HUGE;
	/* A child has no business with it, and copies of the port's memory would tie it up. */
	madvise(p, len, MADV_DONTFORK);
	memset(p, 0, len);
	return 0;
}

static int find_gpas(struct hugemem *h)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; !rc && i < h->mem.len / HUGE; i++) {
		const uint64_t va = (uintptr_t)h->mem.addr + i * HUGE;
		uint64_t entry;

		if (pread(fd, &entry, sizeof(entry), (off_t)(va / SMALL * sizeof(entry))) !=
		    sizeof(entry))
			rc = -EIO;
		else if (!(entry & PAGEMAP_PRESENT))
			rc = -ENOMEM;
		else if (!(entry & PAGEMAP_PFN))
			rc = -EPERM; /* frame numbers are shown to CAP_SYS_ADMIN only */
		else
			h->gpa[i] = (entry & PAGEMAP_PFN) * SMALL;
	}
	close(fd);
	return rc;
}

int hugemem_alloc(struct elisa_guest *guest, const char *name, size_t len, struct elisa_mem **mem)
{
	char dir[PATH_MAX - 64];
	struct hugemem *h;
	int rc;

	(void)guest;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	rc = find_mount(dir, sizeof(dir));
	if (rc)
		goto free_handle;
	snprintf(h->path, sizeof(h->path), "%s/elisa-%s", dir, name);
	rc = open_locked(h);
	if (rc)
		goto free_handle;
	rc = map_file(h, (len + HUGE - 1) / HUGE * HUGE);
	if (rc)
		goto close_file;
	h->gpa = calloc(h->mem.len / HUGE, sizeof(*h->gpa));
	rc = h->gpa ? find_gpas(h) : -ENOMEM;
	if (rc)
		goto unmap;
	h->mem.gpa = h->gpa;
	*mem = &h->mem;
	return 0;
unmap:
	free(h->gpa);
	munmap(h->mem.addr, h->mem.len);
close_file:
	close(h->fd); /* the file stays: it may be a leftover that must not be let go */
free_handle:
	free(h);
	return rc;
}

void hugemem_free(struct elisa_guest *guest, struct elisa_mem *mem, bool keep)
{
	struct hugemem *h = (struct hugemem *)mem;

	(void)guest;
	munmap(mem->addr, mem->len);
	if (!keep)
		unlink(h->path);
	close(h->fd);
	free(h->gpa);
	free(h);
}
