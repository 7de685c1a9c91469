/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rows of the attack table that a guest's user space runs itself. One file per group, each with an
 * array that ends with an empty row and is named in attack.c.
 */
#ifndef TESTS_ATTACK_USER_H
#define TESTS_ATTACK_USER_H

#include "abi.h"

struct user_attack {
	const char *id;
	/* Sets outcome and text by attack_is(); 0, or -errno when the row itself failed. */
	int (*run)(struct attack_run *run);
};

/* The outcome, and a phrase. Returns 0, so that a row can end with it. */
int attack_is(struct attack_run *run, unsigned int outcome, unsigned int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

extern const struct user_attack gate_user_attacks[];
/* DATA's groups. */
extern const struct user_attack rings_attacks[], memory_attacks[], exhaust_attacks[];

#endif
