/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR BSD-3-Clause */
/*
 * What the attacker's module (guest/) and its user program (attack.c) share: a row of the table as
 * it is run, and what came of it. Rows and verdicts: table.toml.
 */
#ifndef TESTS_ATTACK_ABI_H
#define TESTS_ATTACK_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>
#ifdef __KERNEL__
#include <linux/kernel.h>
#else
#include <stdarg.h>
#include <stdio.h>
#endif

/* What an attacker can see of it; that its VM was killed only others can tell. */
enum attack_outcome {
	ATTACK_ABSENT,		/* could not be tried here; text: why */
	ATTACK_NO_EFFECT,	/* all is as it would have been without */
	ATTACK_REFUSED,		/* the service said no; code: its error number */
	ATTACK_UD,		/* VMFUNC raised #UD, calls work afterwards */
	ATTACK_FAULT,		/* another fault of the guest's own; code: vector */
	ATTACK_UNARMED,		/* calls raise #UD as long as the attack lasts, and work again after it */
	ATTACK_BREACH,		/* got somewhere, read or changed something: always a failure */
};

struct attack_run {
	char id[32];		/* in: the row */
	__u64 args[4];		/* in: the row's own; 0: its default */
	__u64 cr4_off;		/* in: bits of CR4 that are off while it runs in the kernel */
	__u32 outcome;		/* out: enum attack_outcome */
	__u32 code;		/* out: see there */
	__u64 detail[4];	/* out: the row's own, for people */
	char text[96];		/* out: one phrase, without a newline */
};

/* The outcome, and a phrase. Returns 0, so that a row can end with it. */
static inline __attribute__((format(printf, 4, 5))) int
attack_is(struct attack_run *run, __u32 outcome, __u32 code, const char *fmt, ...)
{
	va_list args;

	run->outcome = outcome;
	run->code = code;
	va_start(args, fmt);
	vsnprintf(run->text, sizeof(run->text), fmt, args);
	va_end(args);
	return 0;
}

/* ENOENT: no such row. */
#define ATTACK_RUN	_IOWR('A', 1, struct attack_run)

#endif
