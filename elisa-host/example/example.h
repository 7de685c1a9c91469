/* SPDX-License-Identifier: BSD-3-Clause */
/* The example service's own operations, and the memory that its code and its host share. */
#ifndef ELISA_EXAMPLE_H
#define ELISA_EXAMPLE_H

#include <stdint.h>
#include <elisa/abi.h>

enum example_op {
	/* Adds a1 (at most EXAMPLE_MAX_STEP) to the counter that all VMs share; result: its sum. */
	EXAMPLE_OP_COUNT = ELISA_OP_SERVICE,
	EXAMPLE_OP_ECHO, /* result: a1 without its top bit */
	EXAMPLE_OP_PUT,	 /* word a1 = a2 without its top bit; result: what it was */
	EXAMPLE_OP_GET,	 /* result: word a1 */
	EXAMPLE_OP_WHO,	 /* result: this VM's number, as the host sees it */
};
#define EXAMPLE_WORDS	 256u /* a power of two; shared by all VMs */
#define EXAMPLE_MAX_STEP (1u << 20)
#define EXAMPLE_MAX_VMS	 64

/* What a call's cookie points to. */
struct example_vm {
	uint32_t number;
	uint32_t generation; /* see ELISA_OP_HELLO */
};

/* All that the service knows; only atomic operations on what calls change. */
struct example_state {
	uint64_t counter;
	uint64_t words[EXAMPLE_WORDS];
	struct example_vm vms[EXAMPLE_MAX_VMS];
};

/*
 * What the service's shared object has to offer. A function, since the addresses of an object's
 * symbols need not be the same for its user: the linker may copy data, or put stubs for functions.
 */
struct example_service {
	elisa_entry_fn entry;
	struct example_state *state;
};
const struct example_service *elisa_example_service(void);

#endif
