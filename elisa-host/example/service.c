/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The example service: what runs inside, on guests' vCPUs. A shared object of its own, so that
 * elisa_export_object() exports just this. Calls nothing outside itself.
 */
#include "example.h"

#define EXPORTED __attribute__((visibility("default")))
#define POSITIVE ((uint64_t)INT64_MAX)

static struct example_state state;

static int64_t hello(const struct example_vm *vm, uint64_t revision)
{
	if (revision != ELISA_ABI_REVISION)
		return -ELISA_EPROTO;
	return (int64_t)((uint64_t)ELISA_HELLO_MAGIC << 48 | (uint64_t)ELISA_SERVICE_EXAMPLE << 32 |
			 vm->generation);
}

static int64_t word(uint64_t op, uint64_t index, uint64_t value)
{
	uint64_t *w;

	if (index >= EXAMPLE_WORDS)
		return -ELISA_EINVAL;
	/* A mispredicted check must not let a guest choose what is read, either. */
	w = &state.words[index & (EXAMPLE_WORDS - 1)];
	if (op == EXAMPLE_OP_GET)
		return (int64_t)__atomic_load_n(w, __ATOMIC_RELAXED);
	return (int64_t)__atomic_exchange_n(w, value & POSITIVE, __ATOMIC_RELAXED);
}

static int64_t entry(void *cookie, uint64_t op, uint64_t a1, uint64_t ignored, uint64_t a2,
		     uint64_t a3)
{
	const struct example_vm *vm = cookie;

	(void)ignored;
	(void)a3;
	/* First, since it is what an empty call is measured with. */
	if (op == ELISA_OP_NOP)
		return 0;
	switch (op) {
	case ELISA_OP_HELLO:
		return hello(vm, a1);
	case EXAMPLE_OP_COUNT:
		if (a1 > EXAMPLE_MAX_STEP)
			return -ELISA_EINVAL;
		return (int64_t)(__atomic_add_fetch(&state.counter, a1, __ATOMIC_RELAXED) &
				 POSITIVE);
	case EXAMPLE_OP_ECHO:
		return (int64_t)(a1 & POSITIVE);
	case EXAMPLE_OP_PUT:
	case EXAMPLE_OP_GET:
		return word(op, a1, a2);
	case EXAMPLE_OP_WHO:
		return vm->number;
	default:
		return -ELISA_ENOSYS;
	}
}

EXPORTED const struct example_service *elisa_example_service(void)
{
	static const struct example_service service = {entry, &state};

	return &service;
}
