/* SPDX-License-Identifier: BSD-3-Clause */
/* Which of the switch's defences are off: VS_OFF=NAME[,NAME...], looked at before main(). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "defence.h"

#define PAGE 4096ul

#define NAME(name) #name,
static const char *const names[] = {VS_DEFENCES(NAME)};

extern const struct vs_defence_site __start_vs_defences[] __attribute__((visibility("hidden")));
extern const struct vs_defence_site __stop_vs_defences[] __attribute__((visibility("hidden")));

__attribute__((noreturn)) static void die(const char *name, const char *why)
{
	fprintf(stderr, "VS_OFF=%s: %s\n", name, why);
	exit(98); /* none of a test's */
}

/* Of code; `len` bytes may lie on two pages. */
static void protect(char *at, size_t len, int prot, const char *name)
{
	char *page = (char *)((uintptr_t)at & -PAGE);

	if (mprotect(page, (size_t)(at - page) + len, prot))
		die(name, "code cannot be changed");
}

static void off(const char *name)
{
	unsigned int i = 0, sites = 0;

	while (i < VS_DEFENCE_COUNT && strcmp(name, names[i]))
		i++;
	for (const struct vs_defence_site *s = __start_vs_defences; s < __stop_vs_defences; s++) {
		char *at = (char *)&s->constant + s->constant - 4;

		if (s->defence != i)
			continue;
		protect(at, 4, PROT_READ | PROT_WRITE | PROT_EXEC, name);
		memset(at, 0, 4);
		protect(at, 4, PROT_READ | PROT_EXEC, name);
		sites++;
	}
	if (!sites)
		die(name, i < VS_DEFENCE_COUNT ? "no code asks for it" : "there is no such defence");
}

__attribute__((constructor)) static void switch_off(void)
{
	const char *env = getenv("VS_OFF");
	char *copy = strdup(env ? env : ""), *at = copy, *name;

	while ((name = strsep(&at, ",")))
		if (*name)
			off(name);
	free(copy);
}
