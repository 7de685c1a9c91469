/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What /proc says about a VMM's process. The process is not trusted to hold still or to have tidy
 * paths: descriptors are found by what they are, not by what their names say, and are looked at
 * again once they are ours. Paths in maps are never read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"

int process_open(pid_t pid, struct process *p)
{
	char path[32];
	int rc;

	if (pid <= 0)
		return -ESRCH;
	*p = (struct process){.pid = pid, .pidfd = -1, .dir = -1};
	p->pidfd = syscall(SYS_pidfd_open, pid, 0);
	if (p->pidfd < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	p->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir < 0) {
		rc = errno == ENOENT ? -ESRCH : -errno;
		goto close;
	}
	/*
	 * Alive still: so the directory, too, is that of the process that pidfd holds. A process of
	 * another user that may not be signalled is alive as well; one that has ended is ESRCH.
	 */
	if (syscall(SYS_pidfd_send_signal, p->pidfd, 0, NULL, 0) && errno != EPERM) {
		rc = -errno;
		goto close;
	}
	return 0;
close:
	process_close(p);
	return rc;
}

void process_close(struct process *p)
{
	if (p->dir >= 0)
		close(p->dir);
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->dir = p->pidfd = -1;
}

int process_getfd(const struct process *p, int fd)
{
	int got = syscall(SYS_pidfd_getfd, p->pidfd, fd, 0);

	return got < 0 ? -errno : got;
}

/* Opens a folder of the process. NULL: see errno. */
static DIR *open_folder(const struct process *p, const char *name)
{
	int fd = openat(p->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		close(fd);
	return d;
}

/* The number that an entry of /proc/PID/fd is, or -1. */
static int fd_number(const char *name)
{
	char *end;
	unsigned long n;

	if (*name < '0' || *name > '9')
		return -1;
	errno = 0;
	n = strtoul(name, &end, 10);
	return errno || *end || n > INT_MAX ? -1 : (int)n;
}

static bool same_file(const struct process *p, int fd1, int fd2)
{
	return !syscall(SYS_kcmp, p->pid, p->pid, KCMP_FILE, fd1, fd2);
}

int process_kvm_fd(const struct process *p)
{
	static const char kvm[] = "anon_inode:kvm-vm";
	DIR *d = open_folder(p, "fd");
	char target[sizeof(kvm) + 1];
	struct dirent *e;
	int found = -ENOENT;

	if (!d)
		return errno == ENOENT ? -ESRCH : errno == EACCES ? -EPERM : -errno;
	while (found != -EMLINK && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target));
		int fd = fd_number(e->d_name);

		if (fd < 0 || n != sizeof(kvm) - 1 || memcmp(target, kvm, n))
			continue;
		if (found < 0)
			found = fd;
		else if (!same_file(p, found, fd))
			found = -EMLINK;
	}
	closedir(d);
	return found < 0 ? found : process_getfd(p, found);
}

/* ---- memory ---- */

/* Reads a number and the character after it; the number must begin at *s, and fit. */
static bool number(const char **s, int base, char after, uint64_t *out)
{
	const char *p = *s;
	uint64_t v = 0;

	for (;; p++) {
		unsigned int digit = *p >= '0' && *p <= '9'   ? *p - '0'
				     : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
							      : 99;

		if (digit >= (unsigned int)base)
			break;
		if (v > (UINT64_MAX - digit) / base)
			return false;
		v = v * base + digit;
	}
	if (p == *s || *p != after)
		return false;
	*s = p + 1;
	*out = v;
	return true;
}

int vma_parse(const char *line, struct vma *out)
{
	const char *s = line;
	uint64_t major, minor;
	size_t i;

	if (!number(&s, 16, '-', &out->start) || !number(&s, 16, ' ', &out->end))
		return -EPROTO;
	for (i = 0; i < 4; i++)
		if (s[i] != "rwxp"[i] && s[i] != "---s"[i])
			return -EPROTO;
	out->writable = s[1] == 'w';
	out->shared = s[3] == 's';
	if (s[4] != ' ')
		return -EPROTO;
	s += 5;
	if (!number(&s, 16, ' ', &out->offset) || !number(&s, 16, ':', &major) ||
	    !number(&s, 16, ' ', &minor))
		return -EPROTO;
	/* The inode ends the line, or blanks and a path follow, which is the process's affair. */
	if (!number(&s, 10, ' ', &out->inode) && !number(&s, 10, '\n', &out->inode))
		return -EPROTO;
	if (out->start >= out->end || out->offset + (out->end - out->start) < out->offset ||
	    major > UINT32_MAX || minor > UINT32_MAX)
		return -EPROTO;
	out->line_start = out->start;
	out->line_end = out->end;
	out->major = major;
	out->minor = minor;
	return 0;
}

/* In a file's maps mappings are sorted and apart. */
static int vmas_add(struct vmas *v, size_t *room, const char *line)
{
	if (v->count == *room) {
		size_t more = *room ? 2 * *room : 256;
		struct vma *all = reallocarray(v->all, more, sizeof(*all));

		if (!all)
			return -ENOMEM;
		v->all = all;
		*room = more;
	}
	if (vma_parse(line, &v->all[v->count]) ||
	    (v->count && v->all[v->count].start < v->all[v->count - 1].end))
		return -EPROTO;
	v->count++;
	return 0;
}

int vmas_read(int dir, struct vmas *v)
{
	int fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	size_t room = 0, len = 0;
	char *line = NULL;
	int rc = 0;

	*v = (struct vmas){0};
	if (!f) {
		rc = errno == ENOENT ? -ESRCH : -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (!rc && getline(&line, &len, f) > 0)
		rc = vmas_add(v, &room, line);
	if (!rc && ferror(f))
		rc = -EIO;
	free(line);
	fclose(f);
	if (rc)
		vmas_free(v);
	return rc;
}

void vmas_free(struct vmas *v)
{
	free(v->all);
	*v = (struct vmas){0};
}

int vmas_resolve(const struct vmas *v, uint64_t addr, uint64_t len, struct vma *out)
{
	uint64_t end = addr + len, at;
	size_t i;

	if (end <= addr)
		return -ENOENT;
	for (i = 0; i < v->count && v->all[i].end <= addr; i++)
		;
	if (i == v->count || v->all[i].start > addr)
		return -ENOENT;
	*out = v->all[i];
	out->offset += addr - out->start;
	out->start = addr;
	out->end = end;
	for (at = addr; at < end; at = v->all[i++].end) {
		const struct vma *m = &v->all[i];

		if (i == v->count || m->start > at)
			return -ENOENT;
		if (!m->shared || !m->writable || !m->inode || m->inode != out->inode ||
		    m->major != out->major || m->minor != out->minor ||
		    m->offset + (at - m->start) != out->offset + (at - addr))
			return -EXDEV;
	}
	return 0;
}

/* 0: it is that file; -EXDEV: another; -ENOTSUP: that, and not a regular file. */
static int compare(int dir, const char *name, const struct vma *vma)
{
	struct statx sx;

	/* Never wait for a file system that the process may have made itself. */
	if (statx(dir, name, (*name ? 0 : AT_EMPTY_PATH) | AT_STATX_DONT_SYNC,
		  STATX_TYPE | STATX_INO, &sx))
		return -errno;
	if (sx.stx_dev_major != vma->major || sx.stx_dev_minor != vma->minor ||
	    sx.stx_ino != vma->inode)
		return -EXDEV;
	return S_ISREG(sx.stx_mode) ? 0 : -ENOTSUP;
}

/* A descriptor as wanted, or -errno; closes `fd` if it is not. */
static int take(int fd, const struct vma *vma)
{
	int rc = compare(fd, "", vma);
	int mode = fcntl(fd, F_GETFL);

	if (!rc && (mode < 0 || (mode & O_ACCMODE) != O_RDWR || mode & O_PATH))
		rc = -EACCES;
	if (rc)
		close(fd);
	return rc ? rc : fd;
}

int process_file(const struct process *p, const struct vma *vma)
{
	DIR *d = open_folder(p, "fd");
	char path[64];
	struct dirent *e;
	int rc = -ENOENT, fd;

	if (!d)
		return errno == ENOENT ? -ESRCH : -errno;
	while (rc < 0 && rc != -ENOTSUP && (e = readdir(d))) {
		int theirs = fd_number(e->d_name);

		if (theirs < 0)
			continue;
		rc = compare(dirfd(d), e->d_name, vma);
		if (rc)
			continue;
		fd = process_getfd(p, theirs);
		rc = fd < 0 ? fd : take(fd, vma);
	}
	closedir(d);
	if (rc >= 0 || rc == -ENOTSUP)
		return rc;
	/* Mapped, but its descriptor is closed, or open for reading only. */
	snprintf(path, sizeof(path), "map_files/%llx-%llx", (unsigned long long)vma->line_start,
		 (unsigned long long)vma->line_end);
	rc = compare(p->dir, path, vma);
	if (rc)
		return rc == -EXDEV ? -ENOENT : rc;
	fd = openat(p->dir, path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : take(fd, vma);
}
