/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "mapped.h"

struct piece {
	uintptr_t first, end;
};

/* The part of [first, end) that this line of the list says is mapped from a file, to be written. */
static bool piece_of(const char *line, uintptr_t first, uintptr_t end, struct piece *piece)
{
	unsigned long long inode;
	char access[5];

	if (sscanf(line, "%lx-%lx %4s %*s %*s %llu", &piece->first, &piece->end, access, &inode) != 4 ||
	    strcmp(access, "rw-s") || !inode)
		return false;
	if (piece->first < first)
		piece->first = first;
	if (piece->end > end)
		piece->end = end;
	return piece->first < piece->end;
}

int nic_mapped(const void *addr, size_t len, int (*cb)(const void *at, size_t len, void *arg),
	       void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)addr & -page;
	uintptr_t end = ((uintptr_t)addr + len + page - 1) & -page;
	struct piece whole = {0, 0}, next;
	char line[512];
	int error = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		return -errno;
	while (!error && fgets(line, sizeof(line), maps)) {
		if (!piece_of(line, first, end, &next))
			continue;
		if (whole.end == next.first) {
			whole.end = next.end;
			continue;
		}
		if (whole.end)
			error = cb((const void *)whole.first, whole.end - whole.first, arg);
		whole = next;
	}
	if (!error && whole.end)
		error = cb((const void *)whole.first, whole.end - whole.first, arg);
	fclose(maps);
	return error;
}
