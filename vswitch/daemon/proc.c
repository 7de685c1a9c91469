/* SPDX-License-Identifier: BSD-3-Clause */
/* What /proc says of processes. It may be gone or different a moment later. */
#include "daemon.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

FILE *host_file(const char *path)
{
	char whole[PATH_MAX];

	snprintf(whole, sizeof(whole), "%s%s", host_root(), path);
	return fopen(whole, "re");
}

/* Up to `len` - 1 bytes of a file, with a NUL. */
static ssize_t read_file(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	while (used < len - 1 && (n = read(fd, buf + used, len - 1 - used)) > 0)
		used += (size_t)n;
	close(fd);
	buf[used] = '\0';
	return n < 0 ? -EIO : (ssize_t)used;
}

long long proc_eventfd_id(const char *fdinfo, int fd)
{
	char path[64], line[128];
	long long id = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%d", fdinfo, fd);
	f = fopen(path, "re");
	/* proc(5); since Linux 5.2 */
	while (f && id < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "eventfd-id: %lld", &id) != 1)
			id = -1;
	if (f)
		fclose(f);
	return id;
}

int proc_eventfd(pid_t pid, long long id)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0), fd = -1, ret = -ENOENT;
	struct dirent *e;
	char path[48];
	DIR *dir;

	if (process < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
	dir = opendir(path);
	while (id >= 0 && dir && fd < 0 && (e = readdir(dir)))
		if (e->d_name[0] != '.' && proc_eventfd_id(path, atoi(e->d_name)) == id)
			fd = atoi(e->d_name);
	if (dir)
		closedir(dir);
	if (fd >= 0) {
		ret = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
		if (ret < 0)
			ret = -errno;
	}
	close(process);
	return ret;
}

const char *proc_read_line(const char *path, char *buf, size_t len)
{
	if (read_file(path, buf, len) < 0)
		buf[0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return buf;
}

uint64_t proc_start(pid_t pid)
{
	char path[64], buf[1024], *p;
	unsigned long long start = 0;
	char state = 'Z';

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (pid <= 0 || read_file(path, buf, sizeof(buf)) < 0)
		return 0;
	/* The name, in parentheses, may hold anything: count fields from its end on. */
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1,
			 " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			 "%*s %*s %llu",
			 &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

pid_t proc_pid_file(const char *path)
{
	char buf[32], *end;
	long pid;

	proc_read_line(path, buf, sizeof(buf));
	pid = strtol(buf, &end, 10);
	while (isspace((unsigned char)*end))
		end++;
	return end == buf || *end || pid <= 0 || pid > INT32_MAX ? 0 : (pid_t)pid;
}

char *proc_cmdline(pid_t pid)
{
	size_t max = 65536;
	char path[256], *buf = malloc(max);
	ssize_t n;

	if (!buf)
		return NULL;
	snprintf(path, sizeof(path), "%s/proc/%d/cmdline", host_root(), (int)pid);
	n = read_file(path, buf, max);
	if (n <= 0) {
		free(buf);
		return NULL;
	}
	for (ssize_t i = 0; i < n - 1; i++)
		if (!buf[i])
			buf[i] = '\n';
	return buf;
}

int proc_qemu_name(pid_t pid, char *name, size_t len)
{
	char *line = proc_cmdline(pid), *arg, *save = NULL;
	bool next = false;
	int ret = -ENOENT;

	for (arg = line ? strtok_r(line, "\n", &save) : NULL; arg;
	     arg = strtok_r(NULL, "\n", &save)) {
		if (next) {
			if (!strncmp(arg, "guest=", 6))
				arg += 6;
			snprintf(name, len, "%.*s", (int)strcspn(arg, ","), arg);
			ret = *name ? 0 : -ENOENT;
			break;
		}
		next = !strcmp(arg, "-name") || !strcmp(arg, "--name");
	}
	free(line);
	return ret;
}

static unsigned int kvm_fds(pid_t pid)
{
	char path[256], target[64];
	unsigned int count = 0;
	struct dirent *e;
	ssize_t n;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/proc/%d/fd", host_root(), (int)pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		n = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		count += !strcmp(target, "anon_inode:kvm-vm");
	}
	if (dir)
		closedir(dir);
	return count;
}

int proc_kvm_list(struct kvm_process *list, unsigned int max)
{
	unsigned int count = 0, vms;
	struct dirent *e;
	char path[256];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/proc", host_root());
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((e = readdir(dir)) && count < max) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		vms = pid > 0 ? kvm_fds(pid) : 0;
		if (vms)
			list[count++] = (struct kvm_process){pid, vms};
	}
	closedir(dir);
	return (int)count;
}

pid_t proc_find_qemu(const char *name)
{
	struct kvm_process list[VS_GUESTS_MAX];
	int n = proc_kvm_list(list, VS_GUESTS_MAX);
	pid_t found = -ENOENT;
	char its[128];

	for (int i = 0; i < n; i++) {
		if (proc_qemu_name(list[i].pid, its, sizeof(its)) || strcmp(its, name))
			continue;
		if (found > 0)
			return -ENOTUNIQ;
		found = list[i].pid;
	}
	return found;
}
