/* SPDX-License-Identifier: BSD-3-Clause */
/* See run.h: a byte of a victim's canary, changed behind its back in its RAM, a memory file of QEMU's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"
#include "canary.h"
#include "../vmx/tap.h"

#define PAGE	4096

int open_memfd(int pid, const char *name)
{
	char path[64], link[64];
	struct dirent *e;
	int fd = -ENOENT;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && fd < 0 && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n > 0 && (link[n] = 0, strstr(link, name)))
			fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC);
	}
	if (d)
		closedir(d);
	return fd;
}

/* The first page of the canary; -1: not found. */
static off_t find_canary(int ram)
{
	uint8_t wanted[64], got[64];

	for (size_t i = 0; i < sizeof(wanted); i++)
		wanted[i] = canary_byte(i);
	for (off_t at = 0; pread(ram, got, sizeof(got), at) == sizeof(got); at += PAGE)
		if (!memcmp(got, wanted, sizeof(got)))
			return at;
	return -1;
}

int canary_flip(const struct watched *victim)
{
	const int pid = guest_pid(victim->name), ram = pid ? open_memfd(pid, "memory-backend-memfd") : -1;
	uint8_t byte = canary_byte(PAGE - 1) ^ 1;
	off_t at;

	if (ram < 0) {
		note("%s: its RAM cannot be opened", victim->name);
		return -ENOENT;
	}
	at = find_canary(ram);
	if (at >= 0 && pwrite(ram, &byte, 1, at + PAGE - 1) != 1)
		at = -1;
	close(ram);
	if (at < 0)
		note("%s: its canary cannot be found", victim->name);
	return at < 0 ? -ENOENT : 0;
}
