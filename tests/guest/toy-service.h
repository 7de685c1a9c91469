/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef TOY_SERVICE_H
#define TOY_SERVICE_H

#include <stdint.h>
#include <elisa/abi.h>

#define TOY_PUBLIC __attribute__((visibility("default")))
#define TOY_CHECK  0x746f79

enum {
	TOY_COUNT = ELISA_OP_SERVICE, /* result: calls of all clients so far */
	TOY_SUM,		      /* a1: GPA, a2: bytes: the sum of those bytes */
	TOY_PEEK,		      /* a1: any address: the byte there */
	TOY_HANG,		      /* until arena->go_on */
};

struct toy_arena {
	uint32_t generation;
	uint64_t counter;
	uint32_t hanging, go_on;
};

struct toy_caller {
	struct toy_arena *arena;
	uint64_t calls;
	void *ram;
	uint64_t ram_len, ram_gpa;
};

extern const uint64_t toy_check;
int64_t toy_entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		  uint64_t a3);

#endif
