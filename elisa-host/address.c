/* SPDX-License-Identifier: BSD-3-Clause */
/* Names for addresses. */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

const char *address_name(uint64_t addr, char *buf, size_t len)
{
	const ElfW(Sym) *sym = NULL;
	const char *file;
	uint64_t offset;
	Dl_info info;
	int n;

	if (!dladdr1((void *)addr, &info, (void **)&sym, RTLD_DL_SYMENT) || !info.dli_fname)
		return NULL;
	file = strrchr(info.dli_fname, '/');
	n = snprintf(buf, len, "%s+%#llx", file ? file + 1 : info.dli_fname,
		     (unsigned long long)(addr - (uintptr_t)info.dli_fbase));
	/* The nearest symbol may be another one's: static names are not known. */
	if (!info.dli_sname || n < 0 || (size_t)n >= len)
		return buf;
	offset = addr - (uintptr_t)info.dli_saddr;
	if (sym && offset >= sym->st_size && offset)
		return buf;
	if (offset)
		snprintf(buf + n, len - n, " (%s+%#llx)", info.dli_sname,
			 (unsigned long long)offset);
	else
		snprintf(buf + n, len - n, " (%s)", info.dli_sname);
	return buf;
}
