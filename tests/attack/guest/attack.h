/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * attack.ko: rows of the attack table that need a guest's kernel. One file per group, each with an
 * array of rows that ends with an empty one and is named in main.c.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <linux/printk.h>
#include <linux/string.h>
#include <linux/types.h>
#include "abi.h"
#include "stage.h"

struct attack {
	const char *id;
	/* Sets outcome and text by attack_is(); 0, or -errno when the row itself failed. */
	int (*run)(struct attack_run *run);
};

extern const struct attack vmfunc_attacks[], gate_attacks[];
/* STATE's groups. */
extern const struct attack mode_attacks[], cr3_attacks[], control_attacks[], tables_attacks[];
extern const struct attack step_attacks[], events_attacks[];

/*
 * The outcome by where a call from a guest's ring 3 or 0 ended: STAGE_DONE with result 0 (NOP): no
 * effect; with another result: refused, or a breach if it is no error; #UD: ud if a proper call
 * works after it, else unarmed; other vectors: fault.
 */
int attack_by_end(struct attack_run *run, const struct stage_cpu *end);
/* Runs the stage first. 0, or what stage_run() says. */
int attack_by_run(struct attack_run *run, struct stage_cpu *cpu);

#endif
