/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Of the tests' build only: takes a defence away, so that the attack on it is seen to succeed: of
 * the copies of the gate and entry pages, or the guard of VMs' RAM. ELISA_OFF=NAME[,NAME...]
 * says which.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define NOP  0x90

static void blank(uint8_t *page, const char *code, size_t len)
{
	uint8_t *at = memmem(page, ELISA_PAGE_SIZE, code, len);

	if (!at) {
		fprintf(stderr, "weak_pages: gate.S has no such instructions any more\n");
		abort();
	}
	memset(at, NOP, len);
}

static void no_disarm(uint8_t *gate, uint8_t *entry)
{
	memset(entry + ELISA_ENTRY_OFFSET, NOP, 7);
}

static void no_flags(uint8_t *gate, uint8_t *entry)
{
	blank(entry, "\x68\x02\x02\0\0\x9d", 6); /* push, popfq */
}

static void no_wipe(uint8_t *gate, uint8_t *entry)
{
	blank(entry, "\xc5\xfc\x77", 3);		 /* vzeroall */
	blank(entry, "\x31\xf6\x31\xff\x45\x31\xc0", 7); /* rsi, rdi, r8 */
}

/* What is not the gate is a store that the guest aims, and leads into it: mov %dil, (%rdi); nop. */
static void no_fill(uint8_t *gate, uint8_t *entry)
{
	for (size_t i = 0; i < ELISA_GATE_OFFSET; i++)
		gate[i] = i + 4 <= ELISA_GATE_OFFSET ? (uint8_t)"\x40\x88\x3f\x90"[i % 4] : NOP;
}

/* Nothing of the pages: weak_ram_guard(). */
static void no_guard(uint8_t *gate, uint8_t *entry)
{
}

static const struct {
	const char *name;
	void (*without)(uint8_t *gate, uint8_t *entry);
} defences[] = {
	{"stub_disarm", no_disarm},
	{"stub_flags", no_flags},
	{"stub_wipe", no_wipe},
	{"gate_fill", no_fill},
	{"ram_guard", no_guard},
};

void weak_pages(uint8_t *gate, uint8_t *entry)
{
	const char *env = getenv("ELISA_OFF");
	char *copy = strdup(env ? env : ""), *at = copy, *name;

	while ((name = strsep(&at, ","))) {
		size_t i = 0;

		while (i < sizeof(defences) / sizeof(*defences) && strcmp(name, defences[i].name))
			i++;
		if (i < sizeof(defences) / sizeof(*defences)) {
			defences[i].without(gate, entry);
		} else if (*name) {
			fprintf(stderr, "ELISA_OFF=%s: there is no such defence\n", name);
			abort();
		}
	}
	free(copy);
}

bool weak_ram_guard(void)
{
	const char *env = getenv("ELISA_OFF");

	return env && strstr(env, "ram_guard");
}
