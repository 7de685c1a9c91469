/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Of the tests' build only: takes a defence out of the copies of the gate and entry pages, so that
 * the attack on it is seen to succeed. ELISA_OFF names it: stub_disarm, stub_flags, stub_wipe,
 * gate_fill. Anything else there is for others.
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

void weak_pages(uint8_t *gate, uint8_t *entry)
{
	const char *off = getenv("ELISA_OFF");

	if (!off)
		return;
	if (!strcmp(off, "stub_disarm"))
		memset(entry + ELISA_ENTRY_OFFSET, NOP, 7);
	if (!strcmp(off, "stub_flags"))
		blank(entry, "\x68\x02\x02\0\0\x9d", 6); /* push, popfq */
	if (!strcmp(off, "stub_wipe")) {
		blank(entry, "\xc5\xfc\x77", 3);		 /* vzeroall */
		blank(entry, "\x31\xf6\x31\xff\x45\x31\xc0", 7); /* rsi, rdi, r8 */
	}
	/* What is not the gate is a store that the guest aims: mov %dil, (%rdi). */
	for (size_t i = 0; !strcmp(off, "gate_fill") && i + 4 <= ELISA_GATE_OFFSET; i += 4)
		memcpy(gate + i, "\x40\x88\x3f\xcc", 4);
}
