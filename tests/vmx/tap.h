/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Test output in TAP's style: "ok N - what" or "not ok N - what"; at the end "N passed, N failed".
 * For one thread.
 */
#ifndef TESTS_VMX_TAP_H
#define TESTS_VMX_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Exit status of a test that this machine cannot run. */
#define TAP_SKIP	77

static unsigned int tap_passed, tap_failed;

/* Returns `good`, so that a caller can print more. */
static inline bool __attribute__((format(printf, 2, 3))) ok(bool good, const char *fmt, ...)
{
	va_list ap;

	if (good)
		tap_passed++;
	else
		tap_failed++;
	printf("%sok %u - ", good ? "" : "not ", tap_passed + tap_failed);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	return good;
}

static inline void __attribute__((format(printf, 1, 2))) note(const char *fmt, ...)
{
	va_list ap;

	fputs("# ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

/* The exit status. */
static inline int tap_done(void)
{
	printf("%u passed, %u failed\n", tap_passed, tap_failed);
	fflush(stdout);
	return tap_failed || !tap_passed;
}

#endif
