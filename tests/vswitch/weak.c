/* SPDX-License-Identifier: BSD-3-Clause */
/* Which of the switch's defences are off: ELISA_OFF=NAME[,NAME...], looked at before main(). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "defence.h"

uint64_t vs_off;

#define NAME(name) #name,
static const char *const names[] = {VS_DEFENCES(NAME)};
_Static_assert(VS_DEFENCE_COUNT <= 64, "bits of vs_off");

__attribute__((constructor)) static void switch_off(void)
{
	const char *env = getenv("ELISA_OFF");
	char *copy = strdup(env ? env : ""), *at = copy, *name;

	while ((name = strsep(&at, ","))) {
		unsigned int i = 0;

		while (i < VS_DEFENCE_COUNT && strcmp(name, names[i]))
			i++;
		if (i < VS_DEFENCE_COUNT) {
			vs_off |= 1ull << i;
		} else if (*name) {
			fprintf(stderr, "ELISA_OFF=%s: there is no such defence\n", name);
			exit(98); /* none of a test's */
		}
	}
	free(copy);
}
