/* SPDX-License-Identifier: BSD-3-Clause */
/* A library with thread-local variables, for test-tls.c. */
#include <stdint.h>
#include "tls-object.h"

static __thread int count = TLS_FIRST;
static __thread int zero;
static __thread struct {
	uint64_t word[8];
} wide __attribute__((aligned(256)));

int tls_object(enum tls_what what)
{
	switch (what) {
	case TLS_NEXT:
		return ++count;
	case TLS_ZERO:
		return zero++;
	case TLS_ALIGNED:
		wide.word[7]++;
		return (uintptr_t)&wide % 256 == 0;
	}
	return -1;
}
