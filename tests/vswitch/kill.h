/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls of the switch by a process of its own that can be stopped after each of its instructions
 * (ptrace), over memory that is shared with it, and the state of that memory, to go back to.
 *
 * What a stopped caller did is what is in memory: recovery and other callers see nothing else. So
 * one walk through a call is enough: at each instruction that changed memory, whatever is to be
 * tried is tried in place, and then undone.
 */
#ifndef VS_TEST_KILL_H
#define VS_TEST_KILL_H

#include "harness.h"

/* ---- the state of shared memory ---- */

#define K_LEVELS 3
/* [at, at + len) belongs to it from now on; until k_forget(). */
void k_part(void *at, size_t len);
void k_forget(void);
void k_save(unsigned int level);
void k_restore(unsigned int level);
bool k_changed(unsigned int level);

/* ---- a stepped caller ---- */

struct k_caller {
	int pid;
	bool over;
	uint8_t *stack; /* shared: what is on it belongs to a state of the caller, see k_hold() */
	void *held;
};

/* A process that has what is mapped now. */
void k_start(struct k_caller *c);
void k_stop(struct k_caller *c);
/* It is about to make this call, and stands before its first instruction. */
void k_begin(struct k_caller *c, struct vs_caller *caller, uint64_t op, uint64_t a1, uint64_t a2);
/* One instruction. False: the call is over. */
bool k_step(struct k_caller *c);
/* Of the library, before how many different ones somebody stood. */
extern unsigned int k_instructions;
/* To its end. Returns the call's result. */
int64_t k_finish(struct k_caller *c);
/* Notes where it stands, and brings it back there. Memory is not part of that. */
void k_hold(struct k_caller *c);
void k_back(struct k_caller *c);
/* Where it stands, as an offset in the file that it is from. */
void k_where(const struct k_caller *c, char *text, size_t len);

/* ---- how long a call of this process takes ---- */

/* Instructions of one call, counted by single steps. */
uint64_t k_count(struct vs_caller *caller, uint64_t op, uint64_t a1, uint64_t a2, int64_t *result);
/* Blocks that a library built with -fsanitize-coverage=trace-pc went through since this was 0. */
extern uint64_t k_path;

#endif
