/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * page-watch PAGES SECONDS: takes that many free huge pages of 2 MiB, one after the other over the
 * time given, fills each with a pattern, and looks at the end whether somebody has written to them.
 * Prints the pages it got and the words that changed; exit status 0: got them all, none changed.
 *
 * One after the other: pages come zeroed, and a ring of a former owner that is zeroed stops its
 * senders. What was posted in it must be seen before that.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  (2ul << 20)
#define WORDS (PAGE / sizeof(uint64_t))

static uint64_t pattern(uint64_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15;
}

/* A former owner's pages come back as its memory is torn down: tries for a while. */
static uint64_t *take_page(void)
{
	for (int tries = 0; tries < 100; tries++) {
		void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

		if (p != MAP_FAILED)
			return p;
		usleep(20000);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const unsigned long pages = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
	const double seconds = argc == 3 ? strtod(argv[2], NULL) : 0;
	uint64_t **page = calloc(pages, sizeof(*page)), changed = 0;

	if (!pages || !page) {
		fprintf(stderr, "usage: page-watch PAGES SECONDS\n");
		return 2;
	}
	for (unsigned long n = 0; n < pages; n++) {
		page[n] = take_page();
		if (!page[n]) {
			fprintf(stderr, "page-watch: only %lu huge pages are free\n", n);
			return 2;
		}
		for (uint64_t i = 0; i < WORDS; i++)
			page[n][i] = pattern(i);
		usleep((useconds_t)(seconds * 1e6 / (double)pages));
	}
	for (unsigned long n = 0; n < pages; n++)
		for (uint64_t i = 0; i < WORDS; i++)
			changed += page[n][i] != pattern(i);
	printf("{\"pages\": %lu, \"changed_words\": %lu}\n", pages, changed);
	return changed != 0;
}
