/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a program and its elisa-guard say to each other, over a SOCK_SEQPACKET pair: READY, once,
 * from the guard; then requests, each answered but STOP, which is answered by the guard's end.
 */
#ifndef ELISA_GUARD_PROTO_H
#define ELISA_GUARD_PROTO_H

#include <stdint.h>

#define GUARD_SOCK 3 /* the guard's end, by this number */

enum guard_type {
	GUARD_READY = 1, /* rc */
	GUARD_HOLD,	 /* with a descriptor */
	GUARD_UNDO,	 /* op, a1 */
	GUARD_STOP,
	GUARD_ANSWER, /* rc */
};

struct guard_msg {
	uint32_t type;
	int32_t rc; /* 0 or -errno */
	uint64_t op, a1;
};

#endif
