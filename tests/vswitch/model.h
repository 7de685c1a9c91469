/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls of the switch as coroutines: built with VS_MODEL, VS_STEP() between any two accesses to
 * shared memory gives control to this scheduler, which may never give it back.
 */
#ifndef VS_TEST_MODEL_H
#define VS_TEST_MODEL_H

#include "harness.h"

#define M_ROUTINES 4
#define TO_THE_END 1000000u

struct routine {
	struct vs_caller *caller;
	uint64_t op, a1, a2;
	int64_t result;
	bool started, done;
	unsigned int steps;  /* made so far */
	unsigned int budget; /* steps until it gives control back */
};

extern struct routine routines[M_ROUTINES];
extern uint64_t vs_model_copied;
void vs_model_step(const char *where, unsigned int line);

/* A call that is to begin with its first run. */
void prepare(unsigned int i, struct vs_caller *caller, uint64_t op, uint64_t a1, uint64_t a2);
/* At most `budget` steps; true when the call is over. */
bool run(unsigned int i, unsigned int budget);

#endif
