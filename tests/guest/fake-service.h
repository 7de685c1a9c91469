/* SPDX-License-Identifier: BSD-3-Clause */
/* What the guard's test and the guard under test share: a file, whose path is the spec. */
#ifndef FAKE_SERVICE_H
#define FAKE_SERVICE_H

#include <stdint.h>

#define FAKE_CALLS 256

struct fake_service {
	volatile int busy;  /* calls answer EAGAIN */
	volatile int away;  /* calls answer ESHUTDOWN */
	volatile int calls; /* made so far, by all guards */
	volatile int ends;  /* orderly closes */
	volatile struct {
		uint64_t op, a1;
		int pid;
	} call[FAKE_CALLS];
};

#endif
